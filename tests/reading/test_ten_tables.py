"""Ten tables of another shape: what is typed, what is said, what is typed next, until the table is fitted.

Somebody types the first command of the README and goes by what is said. What is typed next stands word for
word in the message before, but for what only the user can know: prices, and the order of words.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import typer

import cascade_bayes.cli.app  # noqa: F401  so that the module of `fit` is there
from cascade_bayes import cli
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.inference import preparation as preparing
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.reading import read_table

fit_command = sys.modules["cascade_bayes.cli.fit"]

MOST_COMMANDS = 5
"""From the README to a policy: the last of them is `tune`."""


class Told(NamedTuple):
    """One command and what comes of it.

    Attributes
    ----------
    typed
        What is typed behind ``cascade-bayes fit TABLE -o posterior.nc``.
    said
        What standard error then says, in parts; of the last command, beside the table of what was read.
    own
        What of the options of ``typed`` nobody but the user can know.
    """

    typed: str
    said: tuple[str, ...]
    own: str = ""


def results() -> pd.DataFrame:
    """Results of 40 queries and two models; probabilities, dollars, whole numbers for labels."""
    random = np.random.default_rng(7)
    rows = []
    for i in range(40):
        for model, sure, cost in (("small", 2.0, 0.0002), ("large", 6.0, 0.003)):
            p = random.beta(sure, 1.5)
            rows.append((f"q{i:02d}", model, round(p, 6), int(random.random() < p), cost))
    return pd.DataFrame(rows, columns=["query", "model", "confidence", "correct", "cost"])


def own_names(path: Path) -> Path:
    names = {
        "query": "question_id",
        "model": "llm",
        "confidence": "prob",
        "correct": "is_correct",
        "cost": "usd",
    }
    results().rename(columns=names).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def of_excel(path: Path) -> Path:
    """As a spreadsheet in German saves it: semicolons, decimal commas, UTF-16; percentages."""
    table = results().assign(confidence=100 * results()["confidence"], Antwort="ja, nein")
    text = table.rename(columns=str.title).to_csv(index=False, sep=";", decimal=",")
    (path / "t.csv").write_bytes(text.encode("utf-16"))
    return path / "t.csv"


def wide(path: Path) -> Path:
    table = results().pivot(index="query", columns="model", values=["confidence", "correct", "cost"])
    table.columns = [f"{ {'confidence': 'conf'}.get(what, what) }_{model}" for what, model in table.columns]
    table.reset_index().rename(columns={"query": "prompt_id"}).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def negative_logs(path: Path) -> Path:
    table = results().assign(nll=-np.log(results()["confidence"])).drop(columns=["confidence", "cost"])
    table.to_csv(path / "t.tsv.gz", index=False, sep="\t")
    return path / "t.tsv.gz"


def words(path: Path) -> Path:
    grades = pd.cut(results()["confidence"], [0, 0.4, 0.7, 1], labels=["low", "medium", "high"])
    results().assign(confidence=grades, correct=results()["correct"].map({1: "C", 0: "I"})).to_csv(
        path / "t.csv", index=False
    )
    return path / "t.csv"


def strange_words(path: Path) -> Path:
    grades = pd.cut(results()["confidence"], [0, 0.4, 0.7, 1], labels=["guess", "hunch", "know"])
    results().assign(confidence=grades, correct=results()["correct"].map({1: "yes", 0: "no"})).to_json(
        path / "t.jsonl", orient="records", lines=True
    )
    return path / "t.jsonl"


def scores_of_a_judge(path: Path) -> Path:
    table = results().assign(confidence=[f"{100 * p:.2f}%" for p in results()["confidence"]])
    table.assign(correct=0.2 + 0.7 * table["correct"]).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def no_costs(path: Path) -> Path:
    results().drop(columns="cost").assign(confidence=1 - results()["confidence"]).to_parquet(
        path / "t.parquet"
    )
    return path / "t.parquet"


def one_price(path: Path) -> Path:
    table = results().drop(columns="cost").assign(confidence=1 / results()["confidence"])
    pd.concat([table, table.iloc[3:5]]).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def dear_tokens(path: Path) -> Path:
    table = results().assign(cost=results()["model"].map({"small": 0.15, "large": 2.5}))
    table.assign(confidence=np.log(table["confidence"])).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


TABLES: dict[str, tuple[Callable[[Path], Path], list[Told]]] = {
    "names of its own": (
        own_names,
        [
            Told(
                "", ("no column 'query', 'model' or 'confidence'", "Did you mean 'question_id' for 'query'")
            ),
            Told(
                "--columns query=question_id,model=llm,confidence=prob,correct=is_correct,cost=usd "
                "--confidence probability",
                (),
            ),
        ],
    ),
    "a German spreadsheet": (
        of_excel,
        [
            Told("", ("must be <= 0 for kind 'logprob'", "These look like percentages")),
            Told("--confidence percent", ("Percentages are read as probabilities",)),
        ],
    ),
    "wide": (
        wide,
        [
            Told("", ("It looks wide, with a column for each model, such as 'conf_large' and 'conf_small'",)),
            Told("--wide --columns query=prompt_id", ("These look like probabilities",)),
            Told("--wide --columns query=prompt_id --confidence probability", ()),
        ],
    ),
    "negative log-probabilities without costs, packed": (
        negative_logs,
        [
            Told("", ("Did you mean 'nll' for 'confidence'?", "There are no costs either")),
            Told(
                "--columns confidence=nll --confidence nll --no-costs",
                ("without costs nothing says in which order models are asked",),
            ),
            Told(
                "--columns confidence=nll --confidence nll --no-costs --models small,large",
                ("Negative log-probabilities are read as log-probabilities", "deferrals"),
            ),
        ],
    ),
    "words": (
        words,
        [
            Told("", ("must be a number; got 'medium'", "If these are grades")),
            Told("--grades low,medium,high", ("Grades are read as scores", "3 is 'high'")),
        ],
    ),
    "words that nobody has heard of": (
        strange_words,
        [
            Told("", ("pass all of them, 'hunch', 'know', 'guess', in order", "(--grades LEAST,...,MOST)")),
            Told("--grades guess,hunch,know", ("Grades are read as scores",), own="guess,hunch,know"),
        ],
    ),
    "percentages and scores of a judge": (
        scores_of_a_judge,
        [
            Told("", ("Percentages are read as confidences of kind",)),
            Told("--confidence percent", ("If these are scores of answers",)),
            Told("--confidence percent --correct-above 0.5", ()),
        ],
    ),
    "doubts without costs": (
        no_costs,
        [
            Told("", ("These look like uncertainties",)),
            Told(
                "--confidence uncertainty", ("the table must have costs", "(--no-costs --models small,large,")
            ),
            Told(
                "--confidence uncertainty --no-costs --models small,large",
                ("thresholds are probabilities", "deferrals"),
            ),
        ],
    ),
    "perplexities, a price a call, rows twice": (
        one_price,
        [
            Told("", ("2 rows are left out", "These look like perplexities")),
            Told("--confidence perplexity", ("(--cost-per-call small=DOLLARS,large=DOLLARS)",)),
            Told(
                "--confidence perplexity --cost-per-call small=0.0002,large=0.003",
                ("Perplexities are read as log-probabilities", "2 rows are left out"),
                own="small=0.0002,large=0.003",
            ),
        ],
    ),
    "prices of a million tokens": (
        dear_tokens,
        [
            Told("", ("costs 2.5 US dollars, which looks like a price of a million tokens",)),
            Told("--cost-per-call small=0.0002,large=0.003", (), own="small=0.0002,large=0.003"),
        ],
    ),
}


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def type_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], Said]:
    """Run the command line in this process, up to where the fit would begin."""

    def stop(data: CascadeData, options: FitOptions) -> None:
        check_fittable(data)
        raise typer.Exit(0)

    monkeypatch.setattr(preparing, "prepare", stop)
    monkeypatch.setattr(fit_command, "start_jax", lambda chains: None)  # which other tests start

    def call(arguments: list[str]) -> Said:
        monkeypatch.setattr(sys, "argv", ["cascade-bayes", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Said(int(stopped.value.code or 0), captured.out, captured.err)

    return call


def options_of(typed: str) -> list[str]:
    """Split a command line into options with their values."""
    result: list[str] = []
    for word in shlex.split(typed):
        if word.startswith("--"):
            result.append(word)
        else:
            result[-1] += f" {word}"
    return result


@pytest.mark.filterwarnings("always::cascade_bayes.errors.DataWarning")
@pytest.mark.parametrize("name", TABLES)
def test_each_message_leads_to_the_next(
    name: str, type_in: Callable[[list[str]], Said], tmp_path: Path
) -> None:
    write, commands = TABLES[name]
    table = write(tmp_path)
    assert len(commands) + 1 <= MOST_COMMANDS
    said_before = ""
    known: set[str] = set()
    for told in commands:
        for option in options_of(told.typed):
            flag, _, value = option.partition(" ")
            assert option in known or option in said_before or (flag in said_before and value == told.own), (
                option
            )
        shown = type_in(["fit", str(table), "-o", str(tmp_path / "posterior.nc"), *shlex.split(told.typed)])
        last = told is commands[-1] or "million tokens" in shown.err
        assert shown.code == (0 if last else 2), shown.err
        for part in told.said:
            assert part in shown.err
        assert shown.out == ""
        known |= set(options_of(told.typed))
        said_before = shown.err
    assert "Read 40 queries of 2 models" in said_before
    assert max(map(len, said_before.split("┏")[-1].split("┘")[0].splitlines())) <= 80
    if name != "prices of a million tokens":
        assert "Odd:" not in said_before


def test_all_tables_say_the_same(tmp_path: Path) -> None:
    """However a table is laid out, its labels are the same, and so is the order of confidences."""
    expected = read_table(results(), confidence="probability")
    found = {
        "names of its own": {
            "columns": {"query": "question_id", "model": "llm", "confidence": "prob", "correct": "is_correct"}
            | {"cost": "usd"},
            "confidence": "probability",
        },
        "a German spreadsheet": {"confidence": "percent"},
        "wide": {"wide": True, "columns": {"query": "prompt_id"}, "confidence": "probability"},
        "words": {"grades": ["low", "medium", "high"]},
        "percentages and scores of a judge": {"confidence": "percent", "correct_above": 0.5},
        "doubts without costs": {"confidence": "uncertainty", "costs": False, "models": ["small", "large"]},
    }
    for i, (name, options) in enumerate(found.items()):
        (folder := tmp_path / str(i)).mkdir()
        data = read_table(TABLES[name][0](folder), **options)  # type: ignore[arg-type]
        assert data.models == expected.models
        np.testing.assert_array_equal(data.correct, expected.correct, err_msg=name)
        if name == "words":
            order = np.argsort(expected.confidence, axis=0)
            assert (np.diff(np.take_along_axis(data.confidence, order, 0), axis=0) >= 0).all()
        else:
            np.testing.assert_allclose(data.confidence, expected.confidence, atol=1e-4, err_msg=name)


@pytest.mark.filterwarnings("always::cascade_bayes.errors.DataWarning")
def test_inspect_says_what_fit_says(type_in: Callable[[list[str]], Said], tmp_path: Path) -> None:
    table = str(one_price(tmp_path))
    options = [
        "--confidence",
        "perplexity",
        "--cost-per-call",
        "small=0.0002",
        "--cost-per-call",
        "large=0.003",
    ]
    shown = type_in(["inspect", table, *options])
    assert shown.code == 0, shown.err
    assert "Read 40 queries of 2 models, confidences of kind logprob" in shown.out
    assert "Odd: 2 rows are left out" in shown.out
    record = json.loads(type_in(["inspect", table, *options, "--json"]).out)
    assert record["confidence"] == "perplexity"
    assert record["kind"] == "logprob"
    assert [row["call_cost"] for row in record["models"]] == [pytest.approx(0.0002), pytest.approx(0.003)]
    assert record["odd"][0].startswith("2 rows are left out")
    fitted = type_in(["fit", table, "-o", str(tmp_path / "p.nc"), *options, "--json"])
    assert fitted.out == ""
    assert "Read 40 queries" in fitted.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--columns", "query"), "--columns must be pairs with a sign of equality between; got 'query'."),
        (("--columns", "query=a,query=b"), "--columns names 'query' twice."),
        (("--cost-per-call", "small=cheap"), "must give US dollars for model 'small'; got 'cheap'"),
        (
            ("--cost-per-call", "0.1"),
            "--cost-per-call must be pairs with a sign of equality between; got '0.1'",
        ),
        (("--grades", "low"), "grades must be two words or more"),
        (("--no-costs", "--cost-per-call", "small=1"), "give one of them"),
    ],
)
def test_options_that_cannot_be_read(
    option: tuple[str, ...], said: str, type_in: Callable[[list[str]], Said], tmp_path: Path
) -> None:
    results().to_csv(tmp_path / "t.csv", index=False)
    shown = type_in(["inspect", str(tmp_path / "t.csv"), *option])
    assert shown.code == 2
    assert shown.err.startswith("Error: ")
    assert said in " ".join(shown.err.split())


def test_names_with_commas_and_signs_of_equality(
    type_in: Callable[[list[str]], Said], tmp_path: Path
) -> None:
    names = {"confidence": "p, final", "correct": "a=b"}
    results().rename(columns=names).to_csv(tmp_path / "t.csv", index=False)
    columns = ["--columns", "confidence=p, final,correct=a=b"]
    shown = type_in(["inspect", str(tmp_path / "t.csv"), *columns, "--confidence", "probability"])
    assert shown.code == 0, shown.err
