"""The command line as a person or a script meets it: outputs, exit codes, and what bad input says."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

import cascade_bayes as cb
from cascade_bayes import cli, example
from cascade_bayes.cli import app as program
from cascade_bayes.cli import common
from cascade_bayes.cli.fit import fit as fit_command
from cascade_bayes.collecting.job import Job
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.errors import ConvergenceWarning
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.verdict import FitVerdict

DATA = os.environ.get("CASCADE_BAYES_DATA", "")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def json(self) -> dict:
        return json.loads(self.out, parse_constant=pytest.fail)


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cascade-bayes", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, small_posterior: Posterior) -> Path:
    """A folder with a posterior, a policy and a frontier; `rejected` has the same without a good word."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "rejected").mkdir()
    trusted = replace(small_posterior, recorded_verdict=FitVerdict(True, "The chains agree."))
    for posterior, place in ((trusted, folder), (small_posterior, folder / "rejected")):
        posterior.save(place / "posterior.nc")
        frontier = error_cost_frontier(posterior, models="all", error_prices=7, num_draws=20)
        frontier.save(place / "frontier.json")
        frontier.policy(4).save(place / "policy.json")
    return folder


@pytest.fixture
def table(small_frame: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    small_frame.to_csv(path, index=False)
    return path


def test_help_lists_the_commands_and_exit_codes(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    for word in ("demo", "fit", "check", "tune", "worth", "evaluate", "Exit codes"):
        assert word in shown.out
    for command, flags in {
        "fit": ["--confidence", "--models", "--prices", "--seed", "--num-samples", "--json"],
        "tune": [
            "--error-price",
            "--budget",
            "--target-error",
            "--frontier",
            "--models",
            "--certify",
            "--prior-queries",
            "--accept-rejected-fit",
            "--json",
        ],
        "check": ["--policy", "--pictures", "--level", "--accept-rejected-fit", "--json"],
        "worth": ["--queries", "--num-draws", "--seed", "--accept-rejected-fit", "--json"],
        "inspect": ["--columns", "--wide", "--grades", "--correct-above", "--cost-per-call", "--no-costs"],
        "evaluate": ["--prices", "--columns", "--accept-rejected-fit", "--json"],
        "report": [
            "--policy",
            "--test",
            "--error-price",
            "--budget",
            "--target-error",
            "--num-draws",
            "--json",
        ],
        "demo": ["--output", "--json"],
    }.items():
        text = run(command, "--help").out
        assert [flag for flag in flags if flag not in text] == []


@pytest.mark.parametrize(
    ("command", "functions", "own"),
    [
        ("fit", [cb.fit, cb.read_table], {"output", "json"}),
        ("tune", [cb.error_cost_frontier, Frontier.at], {"output", "json", "frontier", "certify"}),
        ("check", [cb.check], {"pictures", "json"}),
        ("worth", [cb.value_of_information], {"queries", "json"}),
        ("report", [cb.report, cb.read_table], {"output", "json"}),
        ("evaluate", [cb.read_table], {"json"}),
        ("watch", [cb.watch], {"picture", "json"}),
        ("guarantee", [Frontier.guarantee, cb.read_table], {"output", "json"}),
        ("collect", [cb.collect, Job], {"model", "estimate", "json"}),
    ],
)
def test_options_have_the_names_that_python_has(command: str, functions: list[Any], own: set[str]) -> None:
    """All but an option of the command's own: files that it writes, and what it prints.

    ``--no-costs`` is ``costs=False``.
    """
    parameters = {name for function in functions for name in signature(function).parameters}
    options = get_command(program.app).commands[command].params
    names = {
        option.opts[0].removeprefix("--").replace("-", "_") for option in options if option.opts[0][0] == "-"
    }
    said = {name.removeprefix("no_") for name in names - own - {"accept_rejected_fit"}}
    assert said - parameters == set()


def test_former_names_of_options_are_understood_and_not_shown(run: Run) -> None:
    assert "--num-draws" in run("check", "--help").out
    assert " --draws" not in run("check", "--help").out
    for command, option in (("check", "--draws"), ("worth", "--draws"), ("fit", "--chains")):
        shown = run(command, option, 10**9)
        assert f"Invalid value for '{option.replace('--', '--num-')}'" in re.sub(r"[\s│]+", " ", shown.err)
    assert "Invalid value for '--target-accept-prob'" in run("fit", "--target-accept", 2).err


def test_module_and_script_are_one_program() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cascade_bayes.cli", "fit", "nowhere.csv", "-o", "x.nc"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 2
    assert "nowhere.csv" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.slow
def test_fit_too_short_to_converge_exits_3_and_keeps_the_fit(run: Run, table: Path, tmp_path: Path) -> None:
    saved = tmp_path / "p.nc"
    sizes = ("--num-chains", 2, "--num-warmup", 10, "--num-samples", 10)
    families = ("--structure", "modular", "--no-upstream", "--copula", "independence,independence, frank")
    families += ("--margin", "beta")
    fit = ("fit", table, "--seed", 0, "-o", saved, *sizes, *families)
    shown = run(*fit, "--json")
    assert shown.code == 3
    record = shown.json()
    assert record["copulas"] == ["independence", "independence", "frank"]
    assert record["margin"] == Posterior.load(saved).spec.margin == "beta"
    assert record["converged"] is False
    assert record["num_draws"] == 120  # six rounds of ten draws of two chains
    assert record["data"]["num_queries"] == 120
    assert record["output"] == str(saved)
    assert "did not converge" in shown.err
    assert Posterior.load(saved).digest() == record["fit_digest"]
    printed = run(*fit).out
    assert "did not converge" in printed
    assert "Next" not in printed


@pytest.mark.slow
def test_check_that_fails_exits_3(run: Run, files: Path, tmp_path: Path) -> None:
    """The fixture's chains are too short; its table is one that its model fits."""
    pictures = tmp_path / "pictures"
    policy = files / "policy.json"
    arguments = ("check", files / "posterior.nc", "--policy", policy, "--num-draws", 20)
    shown = run(*arguments, "--pictures", pictures, "--json")
    assert shown.code == 3
    record = shown.json()
    assert record["passed"] is False
    passed = {name: found["passed"] for name, found in record["checks"].items()}
    assert [name for name, well in passed.items() if not well] == ["sampling"]
    assert sorted(path.name for path in pictures.iterdir()) == sorted(
        f"{name}.png" for name in ("margins", "calibration", "deferred", "replicates", "chains")
    )
    assert all(Path(path).stat().st_size > 1000 for path in record["pictures"])
    printed = run(*arguments)
    assert printed.code == 3
    assert "questions failed" in printed.out
    assert "Failed: sampling, R-hat" in printed.err


@pytest.mark.parametrize(
    ("flags", "clue"),
    [
        (("--level", 2), "level must lie between 0 and 1; got 2.0"),
        (("--policy", "nowhere.json"), "nowhere.json"),
    ],
)
def test_check_refuses(flags: tuple, clue: str, run: Run, files: Path) -> None:
    shown = run("check", files / "posterior.nc", *flags)
    assert shown.code == 2
    assert clue in re.sub(r"\s+", " ", shown.err)


def test_log_that_contradicts_its_policy_exits_2(run: Run, table: Path, files: Path, tmp_path: Path) -> None:
    saved = tmp_path / "p.nc"
    shown = run("fit", table, "--logged-policy", files / "policy.json", "-o", saved)
    assert shown.code == 2
    assert "the log contradicts logged_policy: query" in " ".join(shown.err.split())
    assert not saved.exists()


WHOLE = ("--models", "all", "--num-draws", 20)


class TestTune:
    @pytest.mark.slow
    def test_any_models(self, run: Run, files: Path, table: Path, tmp_path: Path) -> None:
        saved = tmp_path / "any.json"
        args = ("--num-draws", 20, "-o", saved)
        shown = run("tune", files / "posterior.nc", "--frontier", 4, *args, "--json").json()["points"]
        assert len({tuple(point["models"]) for point in shown}) > 1
        assert all(0 <= point["prob_best"] <= 1 for point in shown)
        realised = run("evaluate", saved, table, "--json").json()["points"]
        assert [row["models"] for row in realised] == [point["models"] for point in shown]
        single = tmp_path / "one.json"
        shown = run("tune", files / "posterior.nc", "--error-price", 1e-7, "--num-draws", 20, "-o", single)
        assert len(json.loads(single.read_text())["models"]) == 1
        said = " ".join(shown.out.split())
        assert "At 1e-07 US dollars per wrong answer no cascade pays: small-3b alone is best." in said
        assert re.search(r"A cascade pays from [0-9.e-]+ US dollars per wrong answer (upwards|to)", said)
        assert "Beside large-70b alone it costs" in said
        assert "No cascade of two" not in said  # a policy is not its own rival
        assert "Best single model" not in said
        assert run("evaluate", single, table, "--json").json()["models"] == ["small-3b"]

    @pytest.mark.slow
    def test_rivals_answer_the_same_question(self, run: Run, files: Path, tmp_path: Path) -> None:
        """The dearest model alone costs more than the budget; the best pair keeps to it."""
        args = ("--num-draws", 20, "-o", tmp_path / "p.json", "--certify", "--json")
        shown = run("tune", files / "posterior.nc", "--budget", 2e-4, "--probability", 0.8, *args).json()
        # A policy of two models is the best pair itself, and no rival of its own.
        kinds = ["single"] if len(shown["models"]) == 2 else ["pair", "single"]
        assert [rival["kind"] for rival in shown["beside"]] == kinds
        for rival in shown["beside"]:
            assert len(rival["models"]) == {"pair": 2, "single": 1}[rival["kind"]]
            assert rival["expected_cost"] <= 2e-4
            assert rival["expected_error"] >= shown["prediction"]["error"] - 1e-9
            for figure in ("error", "cost"):
                extra = rival[f"expected_{figure}"] - shown["prediction"][figure]
                assert rival[f"extra_{figure}"] == pytest.approx(extra, abs=1e-15)
            assert "extra_loss" not in rival
        assert "no policy of these models" in shown["certificate"]["sentence"]
        (point,) = shown["certificate"]["points"]
        assert point["models"] == shown["models"]
        assert 0 <= point["shape_gap"] < 0.2

    def test_frontier(self, run: Run, files: Path, tmp_path: Path) -> None:
        saved = tmp_path / "f.json"
        shown = run("tune", files / "posterior.nc", "--frontier", 7, *WHOLE, "-o", saved, "--json")
        assert shown.code == 0
        points = shown.json()["points"]
        assert points == json.loads(saved.read_text())["points"]
        every = ("small-3b", "medium-8b", "large-70b")
        assert any(len(point["models"]) > 1 for point in points)
        for point in points:
            # A model that would pass every query on, or get none, is left out.
            assert point["models"] == [name for name in every if name in point["models"]]
            assert len(point["thresholds"]) == len(point["models"]) - 1
            assert {f"expected_{w}{q}" for w in ("error", "cost") for q in ("", "_q05", "_q95")} <= set(point)

    def test_error_price(self, run: Run, files: Path, tmp_path: Path) -> None:
        saved = tmp_path / "p.json"
        shown = run("tune", files / "posterior.nc", "--error-price", 0.002, *WHOLE, "-o", saved, "--json")
        assert shown.code == 0
        record = shown.json()
        assert record["question"] == {"error_price": 0.002}
        assert len(record["thresholds"]) == 2
        again = run("tune", files / "posterior.nc", "--error-price", 0.002, *WHOLE, "-o", saved)
        assert "defer below" in again.out
        printed = run("tune", files / "posterior.nc", "--error-price", 0.002, *WHOLE, "-o", "-")
        assert printed.out == saved.read_text()
        assert "defer below" in printed.err
        assert "90 % interval" in again.out

    @pytest.mark.slow
    def test_abstaining(self, run: Run, files: Path, table: Path, tmp_path: Path) -> None:
        saved, price = tmp_path / "p.json", ("--error-price", 0.01, "--abstain-price", 0.002)
        shown = run("tune", files / "posterior.nc", *price, *WHOLE, "-o", saved, "--json").json()
        assert len(shown["abstain_thresholds"]) == len(shown["abstain_intervals_90"]) == 3
        assert "draw_abstain_thresholds" not in shown
        assert shown["terms"]["abstain_price"] == 0.002
        found = run("evaluate", saved, table, "--json").json()
        assert found["abstain_thresholds"] == shown["abstain_thresholds"]
        assert 0 < found["realised_abstain"] < 1
        assert found["expected_abstain"] == shown["prediction"]["abstain"]
        assert "no answer" in run("evaluate", saved, table).out
        final = ("--abstain", "final")
        shown = run("tune", files / "posterior.nc", *price, *WHOLE, *final, "-o", saved)
        assert "expense: cost + 0.002 an abstention" in shown.out
        assert "(last: answers the rest)" in shown.out
        assert json.loads(saved.read_text())["abstain_thresholds"][:2] == ["-inf", "-inf"]
        sweep = ("--frontier", 3, *price[2:], *WHOLE, "-o", tmp_path / "f.json")
        assert "no answer" in run("tune", files / "posterior.nc", *sweep).out
        assert "no answer" in run("evaluate", tmp_path / "f.json", table).out

    @pytest.mark.parametrize(
        ("flags", "clue"),
        [
            (("--abstain-price", 1, "--abstain", "late"), "abstain must be 'early' or 'final'; got 'late'"),
            (
                ("--latency-price", 0.001),
                "latency_price needs a column latency_ms, which the fitted table lacks",
            ),
        ],
    )
    def test_terms_refused(self, flags: tuple, clue: str, run: Run, files: Path, tmp_path: Path) -> None:
        shown = run("tune", files / "posterior.nc", "--error-price", 1, *flags, "-o", tmp_path / "p.json")
        assert shown.code == 2
        assert clue in re.sub(r"\s+", " ", shown.err)
        assert not (tmp_path / "p.json").exists()

    @pytest.mark.slow
    def test_model_alone(self, run: Run, files: Path, tmp_path: Path) -> None:
        def error(*more: object) -> float:
            saved = tmp_path / "p.json"
            arguments = ("tune", files / "posterior.nc", "--error-price", 0.002, *WHOLE, "-o", saved)
            shown = run(*arguments, *more, "--json")
            assert shown.code == 0
            return float(shown.json()["prediction"]["error"])

        assert error("--prior-queries", "inf") != error() == error("--prior-queries", 10)
        shown = run(
            "tune",
            files / "posterior.nc",
            "--error-price",
            1,
            "--prior-queries=-1",
            "-o",
            tmp_path / "q.json",
        )
        assert shown.code == 2
        assert "prior_queries must be at least 0" in shown.err
        assert not (tmp_path / "q.json").exists()

    def test_budget_that_no_policy_meets_exits_4_and_writes_nothing(
        self, run: Run, files: Path, tmp_path: Path
    ) -> None:
        saved = tmp_path / "p.json"
        shown = run("tune", files / "posterior.nc", "--budget", 1e-9, *WHOLE, "-o", saved)
        assert shown.code == 4
        assert "Infeasible" in shown.err
        assert re.search(r"lowest cost it reaches.* is \d", shown.err), shown.err
        assert not saved.exists()


class TestWorth:
    @pytest.mark.slow
    def test_table_and_json(self, run: Run, files: Path) -> None:
        args = (
            "worth",
            files / "posterior.nc",
            files / "policy.json",
            "--queries",
            "200,20",
            "--num-draws",
            60,
        )
        record = run(*args, "--json").json()
        assert [p["num_queries"] for p in record["points"]] == [20, 200] * 5
        assert record["points"][0]["labels"] == "all models"
        assert record["evpi_per_1000"] >= 0
        shown = run(*args)
        assert shown.code == 0
        assert "no labels" in shown.out
        assert "200 more queries with all labels" in shown.out

    @pytest.mark.parametrize("text", ["0", "ten", "", "10,-3", "1" + 20 * "0", 5000 * "9"])
    def test_bad_numbers(self, text: str, run: Run, files: Path) -> None:
        shown = run("worth", files / "posterior.nc", files / "policy.json", "--queries", text)
        assert shown.code == 2
        assert "--queries must be whole numbers from 1 to 1000000" in shown.err


class TestEvaluate:
    def test_policy(self, run: Run, files: Path, table: Path) -> None:
        record = run("evaluate", files / "policy.json", table, "--json").json()
        assert record["num_queries"] == 120
        assert 0 < record["realised_error"] < 1
        assert record["realised_cost"] > 0
        assert "realised" in run("evaluate", files / "policy.json", table).out

    def test_frontier_has_one_row_a_point(self, run: Run, files: Path, table: Path) -> None:
        points = run("evaluate", files / "frontier.json", table, "--json").json()["points"]
        assert len(points) == 7
        assert points[-1]["realised_cost"] >= points[0]["realised_cost"]

    def test_policy_and_frontier_agree(self, run: Run, files: Path, table: Path) -> None:
        single = run("evaluate", files / "policy.json", table, "--json").json()
        every = run("evaluate", files / "frontier.json", table, "--json").json()
        assert single == every["points"][4] | {"fit_verdict": every["fit_verdict"]}


# Bad input: one sentence, exit code 2, nothing on disk changed.


def edit(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


def of_model(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[frame["model"] == "medium-8b", column] = value
    return frame


BAD_TABLES = {
    "missing column": (lambda f: f.drop(columns="confidence"), (), "confidence"),
    "positive log-probability": (lambda f: edit(f, 7, "confidence", 0.5), (), "row 8"),
    "probability above 1": (
        lambda f: edit(f.assign(confidence=0.5), 7, "confidence", 1.2),
        ("--confidence", "probability"),
        "row 8",
    ),
    "unknown kind": (lambda f: f, ("--confidence", "logits"), "logprob"),
    "label of another kind": (lambda f: edit(f, 3, "correct", "maybe"), (), "maybe"),
    "label 2": (lambda f: edit(f.astype({"correct": int}), 3, "correct", 2), (), "row 4"),
    "duplicate row": (
        lambda f: pd.concat([f, edit(f, 5, "cost", 7.0).iloc[[5]]]),
        (),
        "row 6 and again in row 361",
    ),
    "no label at all": (lambda f: of_model(f, "correct", None), (), "medium-8b"),
    "negative cost": (lambda f: edit(f, 2, "cost", -1e-5), (), "row 3"),
    "missing cost": (lambda f: edit(f, 2, "cost", None), (), "row 3"),
    "no cost": (lambda f: f.drop(columns="cost"), (), "cost"),
    "unknown model": (lambda f: f, ("--models", "small-3b,medium-9b"), "medium-9b"),
    "fewer than two models": (lambda f: f, ("--models", "small-3b"), "at least 2"),
    "only one model": (lambda f: f[f["model"] == "small-3b"], (), "at least two"),
    "empty": (lambda f: f.iloc[:0], (), "row"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_table(case: str, run: Run, files: Path, small_frame: pd.DataFrame, tmp_path: Path) -> None:
    spoil, flags, clue = BAD_TABLES[case]
    path, output = tmp_path / "bad.csv", tmp_path / "p.nc"
    spoil(small_frame).to_csv(path, index=False)
    precious = (files / "posterior.nc").read_bytes()
    output.write_bytes(precious)
    shown = run("fit", path, "-o", output, *flags)
    assert shown.code == 2, shown.err
    assert clue in shown.err
    *above, last = shown.err.strip().splitlines()
    assert last.startswith("Error: ")
    assert bool(above) == (case == "no label at all")  # which what was read shows
    assert "Traceback" not in shown.err
    assert output.read_bytes() == precious
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv", "p.nc"]


def test_missing_files(run: Run, files: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.csv"
    for arguments in (
        ("fit", gone, "-o", tmp_path / "p.nc"),
        ("tune", gone, "--error-price", 1, "-o", tmp_path / "p.json"),
        ("evaluate", gone, gone),
        ("evaluate", files / "policy.json", gone),
        ("evaluate", files / "frontier.json", gone),
    ):
        shown = run(*arguments)
        assert shown.code == 2
        assert "gone.csv" in shown.err
        assert "does not exist" in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["cut short", "not ours", "other version"])
@pytest.mark.parametrize("name", ["policy.json", "frontier.json"])
def test_spoiled_policy(what: str, name: str, run: Run, files: Path, table: Path, tmp_path: Path) -> None:
    text = (files / name).read_text()
    record = json.loads(text)
    spoiled = {
        "cut short": text[: len(text) // 2],
        "not ours": json.dumps({"thresholds": [1, 2]}),
        "other version": json.dumps(record | {"schema_version": 99}),
    }[what]
    path = tmp_path / name
    path.write_text(spoiled)
    shown = run("evaluate", path, table)
    assert shown.code == 2
    assert name in shown.err
    assert {"cut short": "cut short", "not ours": "schema", "other version": "99"}[what] in shown.err


@pytest.mark.parametrize("name", ["policy.json", "frontier.json"])
def test_policy_with_a_spoiled_value(name: str, run: Run, files: Path, table: Path, tmp_path: Path) -> None:
    record = json.loads((files / name).read_text())
    holder = record
    if name == "frontier.json":
        holder = next(point for point in record["points"] if len(point["models"]) == 3)
    for value in ("high", None, [[]]):
        holder["thresholds"] = [value, 0.0] if value != [[]] else []
        (tmp_path / name).write_text(json.dumps(record))
        shown = run("evaluate", tmp_path / name, table)
        assert shown.code == 2, shown.err
        assert "Traceback" not in shown.err


def test_spoiled_posterior(run: Run, files: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "p.nc", tmp_path / "policy.json"
    precious = (files / "policy.json").read_text()
    output.write_text(precious)
    path.write_bytes((files / "posterior.nc").read_bytes()[:20000])
    shown = run("tune", path, "--error-price", 0.01, "-o", output)
    assert shown.code == 2
    assert "cut short" in shown.err
    assert output.read_text() == precious


@pytest.mark.parametrize(
    ("flags", "clue"),
    [
        ((), "exactly one"),
        (("--budget", 1, "--error-price", 1), "exactly one"),
        (("--error-price", 0), "--error-price must be positive"),
        (("--error-price", math.nan), "--error-price must be positive"),
        (("--error-price", 1, "--models", "small-3b,huge"), "huge"),
        (("--error-price", 1, "--models", "small-3b"), "at least two"),
        (("--budget", -1), "budget"),
        (("--target-error", 2), "target_error"),
        (("--budget", 1, "--probability", 1.5), "probability must"),
    ],
)
def test_bad_request(flags: tuple, clue: str, run: Run, files: Path, tmp_path: Path) -> None:
    output = tmp_path / "policy.json"
    shown = run("tune", files / "posterior.nc", *WHOLE, "-o", output, *flags)
    assert shown.code == 2, shown.err
    assert clue in shown.err
    assert not output.exists()


def test_a_report_is_of_a_policy_or_of_a_question(run: Run, files: Path, tmp_path: Path) -> None:
    policy, posterior, saved = files / "policy.json", files / "posterior.nc", tmp_path / "report.html"
    for flags, clue in (
        (("--policy", policy, "--error-price", 1), "give a policy (--policy), or one of"),
        (("--budget", 1, "--error-price", 1), "ask for exactly one of"),
        (("--target-error", 2), "target_error must be a probability below 1"),
        (("--policy", tmp_path / "gone.json"), "does not exist"),
    ):
        shown = run("report", posterior, *flags, "-o", saved)
        assert (shown.code, shown.out) == (2, ""), flags
        assert clue in shown.err
    assert not saved.exists()


@pytest.mark.slow
def test_a_report_is_written_whatever_the_fit_is(run: Run, files: Path, table: Path, tmp_path: Path) -> None:
    saved = tmp_path / "report.html"
    few = ("--num-draws", 60, "-o", saved)
    shown = run("report", files / "posterior.nc", "--policy", files / "policy.json", "--test", table, *few)
    assert shown.code == 0, shown.err
    page = saved.read_text()
    assert "On queries that the fit has not seen" in page
    for line in shown.out.splitlines()[:2]:
        assert line.replace(">", "&gt;") in page
    rejected = run("report", files / "rejected" / "posterior.nc", "--budget", 2e-4, *few, "--json")
    assert rejected.code == 3
    assert rejected.json()["fit_verdict"]["trusted"] is False
    assert "The fit was rejected." in saved.read_text()
    before = saved.read_bytes()
    assert run("report", files / "posterior.nc", "--target-error", 1e-4, *few).code == 4
    assert saved.read_bytes() == before


def test_outputs_that_are_refused_at_once(run: Run, files: Path, table: Path, tmp_path: Path) -> None:
    """Before anything is read: the tables and posteriors of most cases do not exist."""
    policy, posterior, rows = files / "policy.json", files / "posterior.nc", table.read_bytes()
    (tmp_path / "file").write_text("a file")
    before = {path: path.read_bytes() for path in (policy, posterior)}
    for arguments, clue in (
        (("fit", table, "-o", table), "it is the file"),
        (("fit", "gone.csv", "--prices", table, "-o", table), "it is the file"),
        (
            ("fit", "gone.csv", "-o", policy),
            "not a posterior file of cascade_bayes. Remove it, or name another",
        ),
        (("fit", "gone.csv", "-o", tmp_path), "it is a folder; name a file in it"),
        (("fit", "gone.csv", "-o", tmp_path / "no" / "p.nc"), "does not exist; make it first"),
        (("fit", "gone.csv", "-o", "-"), "a posterior file cannot be written to standard output"),
        (("tune", posterior, "--error-price", 1, "-o", posterior), "it is the file"),
        (("tune", "gone.nc", "--error-price", 1, "-o", table), "not a policy file of cascade_bayes"),
        (("tune", "gone.nc", "--frontier", 3, "-o", policy), "not a frontier file of cascade_bayes"),
        (("tune", "gone.nc", "--error-price", 1, "-o", "-", "--json"), "give one of them"),
        (("report", "gone.nc", "-o", policy), "not a report file of cascade_bayes"),
        (("report", "gone.nc", "--test", table, "-o", table), "it is the file"),
        (("check", "gone.nc", "--pictures", tmp_path / "file"), "is a file; name a folder"),
        (("demo", "-o", tmp_path / "file"), "is a file; name a folder"),
    ):
        shown = run(*arguments)
        assert (shown.code, shown.out) == (2, ""), arguments
        assert clue in shown.err
        assert len(shown.err.strip().splitlines()) == 1
    assert table.read_bytes() == rows
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "table.csv"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")]
)
def test_too_little_memory(error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(program, "app", fail)
    shown = run("tune")
    assert shown.code == 2
    assert shown.err == "Error: there is not enough memory. Ask for fewer draws, models or queries.\n"


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(program, "app", fail)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        cli.main()


@pytest.mark.parametrize(
    ("command", "option", "most"),
    [
        *[("fit", name, 1_000_000) for name in ("--num-samples", "--num-warmup", "--num-steps")],
        ("fit", "--num-chains", 1_000),
        *[(name, "--seed", 2**32 - 1) for name in ("fit", "check", "worth", "report", "demo")],
        *[(name, "--num-draws", 1_000_000) for name in ("tune", "check", "worth")],
        ("tune", "--frontier", 10_000),
    ],
)
def test_options_of_a_hundred_quintillions(
    command: str, option: str, most: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before anything is read."""
    monkeypatch.chdir(tmp_path)
    files = {"fit": ("t.csv", "-o", "p.nc"), "tune": ("p.nc", "-o", "p.json"), "worth": ("p.nc", "p.json")}
    for value in (10**20, most + 1):
        shown = run(command, *files.get(command, ("p.nc",) if command == "check" else ()), option, value)
        assert shown.code == 2
        told = re.sub(r"[\s│]+", " ", shown.err)
        assert f"Invalid value for '{option}'" in told
        assert str(value) in told or str(most) in told
        assert list(tmp_path.iterdir()) == []


def test_defaults_of_the_command_are_those_of_the_function() -> None:
    """Written out in the command, whose help must not wait for JAX."""
    from cascade_bayes.inference.fit import fit as function

    command, wanted = signature(fit_command).parameters, signature(function).parameters
    shared = ("method", "guide", "num_steps", "num_warmup", "num_samples", "structure", "copula", "margin")
    for name in (*shared, "upstream", "monotone"):
        assert command[name].default == wanted[name].default, name
    assert command["target_accept_prob"].default == wanted["target_accept_prob"].default


@pytest.mark.long
def test_approximations_by_name(run: Run, table: Path, tmp_path: Path) -> None:
    saved = tmp_path / "p.nc"
    shown = run("fit", table, "-o", saved, "--method", "map", "--copula", "independence", "--json")
    assert (shown.code, shown.json()["method"], shown.json()["num_draws"]) == (0, "map", 1)
    sizes = ("--num-chains", 1, "--num-samples", 50, "--copula", "independence")
    shown = run("fit", table, "-o", saved, "--method", "laplace", *sizes, "--json")
    record = shown.json()
    assert record["converged"] == (record["max_k_hat"] <= 0.7 and record["min_ess"] >= 400)
    assert shown.code == (0 if record["converged"] else 3)
    assert Posterior.load(saved).provenance["method"] == "laplace"


def test_unknown_method_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    for option, value, known in (
        ("--method", "vi", "nuts, auto, svi"),
        ("--guide", "iaf", "mean_field, low_rank"),
    ):
        shown = run("fit", table, "-o", tmp_path / "p.nc", option, value)
        assert shown.code == 2
        assert f"{option[2:]} must be one of {known}" in shown.err
        assert not (tmp_path / "p.nc").exists()


def test_unknown_margin_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    shown = run("fit", table, "-o", tmp_path / "p.nc", "--margin", "gamma")
    assert shown.code == 2
    assert "margin must be one of beta, logit_normal; got 'gamma'." in shown.err


def test_evaluate_without_labels(run: Run, files: Path, small_frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "unlabelled.csv"
    small_frame.drop(columns="correct").to_csv(path, index=False)
    shown = run("evaluate", files / "policy.json", path)
    assert shown.code == 2
    assert "label" in shown.err or "correct" in shown.err


def test_evaluate_other_models(run: Run, files: Path, small_frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    small_frame[small_frame["model"] != "medium-8b"].to_csv(path, index=False)
    shown = run("evaluate", files / "policy.json", path)
    assert shown.code == 2
    assert "the table lacks model 'medium-8b' of the policy. Known:" in shown.err


def test_evaluate_confidences_of_another_kind(
    run: Run, files: Path, small_frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "probabilities.csv"
    small_frame.assign(confidence=np.exp(small_frame["confidence"])).to_csv(path, index=False)
    shown = run("evaluate", files / "policy.json", path)
    assert shown.code == 2
    assert "The policy was tuned on confidences of kind 'logprob': give them on the same scale." in shown.err
    rounded = (
        small_frame["confidence"]
        .clip(upper=-1e-3)
        .where(small_frame["query"] != small_frame["query"].iloc[0], 1e-9)
    )
    small_frame.assign(confidence=rounded).to_csv(path, index=False)
    assert "This looks like rounding" in run("evaluate", files / "policy.json", path).err


def test_names_in_brackets_are_printed() -> None:
    """Rich would take them for markup, and drop them."""
    for console in (common.out, common.say):
        with console.capture() as shown:
            console.print("largest R-hat 1.0078 (slope[small])")
        assert shown.get() == "largest R-hat 1.0078 (slope[small])\n"


# Slow: the whole job with default settings.


def whole_job(train: Path, test: Path, folder: Path, confidence: str = "logprob") -> dict:
    """Fit, tune and evaluate by the command; return what the fit says."""

    def call(*arguments: object) -> dict:
        command = [sys.executable, "-m", "cascade_bayes.cli", *map(str, arguments), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        return json.loads(done.stdout)

    nc, frontier, policy = folder / "m.nc", folder / "frontier.json", folder / "policy.json"
    verdict = call("fit", train, "--confidence", confidence, "--seed", 0, "-o", nc)
    assert verdict["converged"]
    assert verdict["max_r_hat"] <= 1.01
    assert verdict["min_ess_bulk"] >= 400
    assert verdict["num_divergences"] == 0
    whole = ("--models", "all")
    assert len(call("tune", nc, "--frontier", 41, *whole, "-o", frontier)["points"]) == 41
    call("tune", nc, "--error-price", 0.002, *whole, "-o", policy)
    assert 0 < call("evaluate", policy, test)["realised_error"] < 1
    assert len(call("evaluate", frontier, test)["points"]) == 41
    return verdict


@pytest.mark.long
def test_whole_job_on_the_example(tmp_path: Path) -> None:
    assert whole_job(example.train_path(), example.test_path(), tmp_path)["structure"] == "modular"


WORDS = np.array([0.6, 0.8, 0.9, 0.95, 1.0])


def in_words(source: Path, target: Path) -> Path:
    """Write a table with five verbal confidences in place of the log-probabilities."""
    frame = pd.read_parquet(source)
    rank = frame.groupby("model")["confidence"].rank(pct=True)
    frame["confidence"] = WORDS[np.clip((rank * 5).astype(int), 0, 4)]
    frame.to_csv(target, index=False)
    return target


@pytest.mark.long
def test_whole_job_on_verbal_confidences(tmp_path: Path) -> None:
    tables = [
        in_words(source, tmp_path / f"{i}.csv")
        for i, source in enumerate((example.train_path(), example.test_path()))
    ]
    whole_job(*tables, tmp_path, confidence="probability")
    thresholds = json.loads((tmp_path / "policy.json").read_text())["thresholds"]
    # A threshold lies midway between two words, or beyond them all.
    middles = (WORDS[:-1] + WORDS[1:]) / 2
    assert all(np.isinf(float(t)) or np.isclose(middles, float(t), rtol=1e-3).any() for t in thresholds)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::cascade_bayes.errors.DataWarning")
def test_whole_job_with_missing_rows(tmp_path: Path) -> None:
    every = pd.read_parquet(example.train_path())
    # Of three models the last is absent for half of the queries, the middle for ten, whatever is known.
    queries = every["query"].unique()[:200]
    frame = every[every["query"].isin(queries) & every["model"].isin(["mini-1b", "medium-8b", "giant-405b"])]
    last, inner = frame["model"] == "giant-405b", frame["model"] == "medium-8b"
    absent = (last & frame["query"].isin(queries[:100])) | (inner & frame["query"].isin(queries[100:110]))
    frame[~absent].to_csv(tmp_path / "gaps.csv", index=False)
    verdict = whole_job(tmp_path / "gaps.csv", example.test_path(), tmp_path)
    assert verdict["structure"] == "modular"


@pytest.mark.long
@pytest.mark.skipif(not DATA, reason="CASCADE_BAYES_DATA names no folder of real results")
@pytest.mark.parametrize(
    "name",
    [p.name[: -len("-train.parquet")] for p in sorted(Path(DATA).glob("*-train.parquet"))]
    if DATA
    else ["none"],
)
def test_whole_job_on_real_results(name: str, tmp_path: Path) -> None:
    train = Path(DATA) / f"{name}-train.parquet"
    test = Path(DATA) / f"{name}-test.parquet"
    whole_job(train, test if test.exists() else train, tmp_path)


class TestRejectedFit:
    """The verdict on a fit goes with all that is made from it."""

    WORDS = "The fit did not converge: largest R-hat"

    def commands(self, folder: Path, table: Path, saved: Path) -> dict[str, tuple[object, ...]]:
        posterior, policy = folder / "posterior.nc", folder / "policy.json"
        few = (*WHOLE, "-o", saved)
        return {
            "tune": ("tune", posterior, "--error-price", 0.002, *few),
            "sweep": ("tune", posterior, "--frontier", 2, *few),
            "worth": ("worth", posterior, policy, "--queries", 30, "--num-draws", 50),
            "evaluate": ("evaluate", policy, table),
            "evaluate all": ("evaluate", folder / "frontier.json", table),
        }

    @pytest.mark.parametrize(
        "name",
        ["tune", "sweep", pytest.param("worth", marks=pytest.mark.slow), "evaluate", "evaluate all"],
    )
    def test_every_later_command_says_so(
        self, run: Run, files: Path, table: Path, tmp_path: Path, name: str
    ) -> None:
        command = self.commands(files / "rejected", table, tmp_path / "p.json")[name]
        shown = run(*command, "--json")
        assert shown.code == 3
        assert shown.err.count(self.WORDS) == 1
        assert "--accept-rejected-fit" in shown.err
        verdict = shown.json()["fit_verdict"]
        assert verdict["trusted"] is False
        assert verdict["sentence"].startswith(self.WORDS)
        accepted = run(*command, "--accept-rejected-fit", "--json")
        assert accepted.code == 0
        assert accepted.err.count(self.WORDS) == 1
        assert accepted.json() == shown.json()

    @pytest.mark.parametrize("name", ["tune", pytest.param("worth", marks=pytest.mark.slow), "evaluate"])
    def test_a_fit_that_is_trusted_is_not_talked_of(
        self, run: Run, files: Path, table: Path, tmp_path: Path, name: str
    ) -> None:
        shown = run(*self.commands(files, table, tmp_path / "p.json")[name], "--json")
        assert shown.code == 0
        assert "rejected" not in shown.err
        assert shown.json()["fit_verdict"] == {"trusted": True, "sentence": "The chains agree."}

    def test_the_files_are_written_and_carry_the_verdict(
        self, run: Run, files: Path, table: Path, tmp_path: Path
    ) -> None:
        for name in ("tune", "sweep"):
            saved = tmp_path / f"{name}.json"
            printed = run(*self.commands(files / "rejected", table, saved)[name])
            assert printed.code == 3
            assert "Wrote" in printed.out
            assert json.loads(saved.read_text())["fit_verdict"]["trusted"] is False
            assert run("evaluate", saved, table).code == 3

    @pytest.mark.slow
    def test_check_counts_what_else_failed(self, run: Run, files: Path) -> None:
        """Nothing else did: the fixture's table is one that its model fits."""
        command = ("check", files / "rejected" / "posterior.nc", "--num-draws", 20, "--json")
        shown = run(*command)
        assert shown.code == 3
        assert shown.json()["fit_verdict"]["trusted"] is False
        accepted = run(*command, "--accept-rejected-fit")
        assert accepted.code == 0
        assert accepted.json() == shown.json()

    def test_python_warns(self, files: Path) -> None:
        rejected, trusted = (Posterior.load(place / "posterior.nc") for place in (files / "rejected", files))
        assert rejected.fit_verdict == (False, rejected.convergence().sentence())
        with pytest.warns(ConvergenceWarning, match="rejected, and thresholds are tuned"):
            frontier = error_cost_frontier(rejected, models="all", error_prices=[0.002], num_draws=20)
        assert frontier.policy(0).fit_verdict == rejected.fit_verdict
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frontier = error_cost_frontier(trusted, models="all", error_prices=[0.002], num_draws=20)
        assert frontier.policy(0).fit_verdict == trusted.fit_verdict
