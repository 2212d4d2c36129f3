"""Tables laid out otherwise: names of columns, wide tables, words, other scales, costs by model or none."""

from __future__ import annotations

import gzip
import inspect
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading import compressed, overview, read_table
from cascade_bayes.reading.headings import fold
from cascade_bayes.reading.scales import SCALES, direction, rank_sum

PROBABILITIES = np.array([0.31, 0.985, 0.5, 1.0, 0.0, 0.75])


def frame(**changes: Any) -> pd.DataFrame:
    """Three queries of two models, with probabilities."""
    columns: dict[str, Any] = {
        "query": ["q1", "q1", "q2", "q2", "q3", "q3"],
        "model": ["small", "large"] * 3,
        "confidence": PROBABILITIES,
        "correct": [0, 1, 1, 1, 0, None],
        "cost": [0.001, 0.02] * 3,
    }
    return pd.DataFrame(columns | changes)


def read(source: Any, **options: Any) -> CascadeData:
    return read_table(source, **({"confidence": "probability"} | options))


def refused(call: Callable[[], Any], error: type[Exception] = InputError) -> str:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    return message


def same(data: CascadeData, expected: CascadeData) -> None:
    assert (data.models, data.kind) == (expected.models, expected.kind)
    for name in ("query_ids", "confidence", "correct", "labelled", "cost"):
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name), err_msg=name)


# ---------------------------------------------------------------------------------------------
# Names of columns.


@pytest.mark.parametrize("name", ["Tokens In", "tokens-in", "TOKENS_IN", " tokensIn ", "\ufefftokens_in"])
def test_spellings_of_a_name(name: str) -> None:
    assert fold(name) == fold("tokens_in")
    assert fold(name) != fold("tokens_out")


def test_names_differ_in_spelling_alone() -> None:
    spelled = frame().rename(columns={"query": "Query", "confidence": " CONFIDENCE", "cost": "Co-st"})
    same(read(spelled), read(frame()))
    both = frame().assign(Query="x")
    same(read(both), read(frame()))  # ours comes first
    twice = frame().rename(columns={"query": "Query"}).assign(QUERY="x")
    message = refused(lambda: read(twice))
    assert "more than one column for 'query': 'Query', 'QUERY'" in message
    assert 'columns={"query": "Query"} (--columns query=Query)' in message
    same(read(twice, columns={"query": "Query"}), read(frame()))


THEIRS = {
    "query": "question id",
    "model": "LLM",
    "confidence": "prob",
    "correct": "is_correct",
    "cost": "usd",
}


def test_columns_by_their_own_names() -> None:
    theirs = frame().rename(columns=THEIRS)
    same(read(theirs, columns=THEIRS), read(frame()))
    same(read(theirs, columns=THEIRS | {"correct": "IsCorrect"}), read(frame()))
    moved = frame().assign(prob=PROBABILITIES, confidence=7.0)
    same(read(moved, columns={"confidence": "prob"}), read(frame()))


def test_all_that_is_missing_is_named_with_what_to_pass() -> None:
    message = refused(lambda: read_table(frame().rename(columns=THEIRS)))
    assert "has no column 'query', 'model' or 'confidence'" in message
    for ours, theirs in THEIRS.items():
        assert f"{theirs!r} for {ours!r}" in message
    assert "(--columns 'query=question id,model=LLM,confidence=prob,correct=is_correct,cost=usd'" in message
    assert message.endswith("--confidence probability).")
    assert "--confidence" not in refused(lambda: read(frame().rename(columns=THEIRS)))  # which was passed


def test_misspelled_and_unlike_names() -> None:
    message = refused(lambda: read(frame().rename(columns={"confidence": "confidance", "query": "zzz"})))
    assert "Did you mean 'confidance' for 'confidence'? Nothing looks like 'query'" in message
    assert "(--columns confidence=confidance,query=NAME)" in message
    bare = frame()[["query", "model"]].assign(nll=0.1)
    message = refused(lambda: read_table(bare))
    assert "(--columns confidence=nll --confidence nll)" in message
    assert "There are no costs either" in message
    assert "(--cost-per-call MODEL=0.0002), or do without, costs=False (--no-costs)." in message


def test_labels_that_are_not_read_are_told() -> None:
    with pytest.warns(DataWarning, match=r"read without labels; if 'passed' holds them, .*correct=passed"):
        data = read(frame().rename(columns={"correct": "passed"}))
    assert not data.labelled.any()


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"question_id": "query"}, InputError, "(--columns query=question_id)"),
        ({"label": "correct_"}, InputError, "'label' is none. Known: 'query', 'model'"),
        ({"query": "q"}, InputError, "has no column 'q', which columns (--columns) names as 'query'"),
        ({"query": 3}, InputError, "must name a column of the table for 'query'; got 3"),
        ("query=q", TypeError, "columns must map names of this library to the table's"),
    ],
)
def test_columns_that_are_none(columns: Any, error: type[Exception], said: str) -> None:
    assert said in refused(lambda: read(frame(), columns=columns), error)


def test_options_are_named_in_the_signature() -> None:
    names = list(inspect.signature(read_table).parameters)
    assert {"columns", "wide", "grades", "correct_above", "cost_per_call", "costs"} <= set(names)
    with pytest.raises(TypeError, match=r"a table has no option 'colums'. Did you mean 'columns'"):
        read(frame(), colums={})


# ---------------------------------------------------------------------------------------------
# Wide tables.


def wide(pattern: str, conf: str = "conf", correct: str = "correct") -> pd.DataFrame:
    stems = {"confidence": conf, "correct": correct, "cost": "cost"}
    table = frame().pivot(index="query", columns="model", values=list(stems))
    table.columns = [pattern.format(what=stems[what], model=model) for what, model in table.columns]
    return table[sorted(table.columns, reverse=True)].reset_index()


@pytest.mark.parametrize("pattern", ["{what}_{model}", "{model}_{what}", "{what} {model}", "{model}.{what}"])
def test_wide_tables(pattern: str, tmp_path: Path) -> None:
    same(read(wide(pattern), wide=True), read(frame()))
    wide(pattern).to_csv(tmp_path / "t.csv", index=False)
    same(read(tmp_path / "t.csv", wide=True), read(frame()))


def test_a_wide_table_says_what_to_pass() -> None:
    message = refused(lambda: read(wide("{what}_{model}")))
    assert message.endswith("'conf_small' and 'conf_large': pass wide=True (--wide).")
    other = wide("{what}_{model}", "prob", "is_correct").rename(columns={"query": "prompt_id"})
    message = refused(lambda: read_table(other))
    line = "(--wide --columns confidence=prob,correct=is_correct,query=prompt_id --confidence probability)."
    assert message.endswith(line)
    columns = {"confidence": "prob", "correct": "is_correct", "query": "prompt_id"}
    same(read(other, wide=True, columns=columns), read(frame()))
    message = refused(lambda: read_table(other, wide=True))
    assert "is read as wide and has no columns of confidences" in message
    assert message.endswith(line)


def test_gaps_and_places_of_wide_tables() -> None:
    table = wide("{what}_{model}").astype(object)
    table.loc[1, ["conf_small", "correct_small", "cost_small"]] = None
    data = read(table, wide=True)
    assert np.isnan(data.cost[1]).tolist() == [True, False]  # no row
    table.loc[2, "conf_large"] = 7.0
    assert "got 7.0 in row 3 (query 'q3')" in refused(lambda: read(table, wide=True))
    lone = wide("{what}_{model}").assign(correct_lrage=1)
    with pytest.warns(DataWarning, match="columns 'correct_lrage' of the table are of no model"):
        read(lone, wide=True)
    assert "is read as wide and has no columns of confidences" in refused(lambda: read(frame(), wide=True))


# ---------------------------------------------------------------------------------------------
# Files.


def text(separator: str, comma: bool = False) -> str:
    return frame().to_csv(index=False, sep=separator, decimal="," if comma else ".")


@pytest.mark.parametrize(("separator", "comma"), [(";", False), (";", True), ("\t", False), ("\t", True)])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_separators_and_decimal_commas(separator: str, comma: bool, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text(separator, comma))
    same(read(tmp_path / name), read(frame()))


def test_what_stands_between_fields_is_told_by_the_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text(";").replace("cost", '"cost, in US, dollars"').replace("query", "Query"))
    same(read(path, columns={"cost": "cost, in US, dollars"}), read(frame()))


def test_commas_that_may_part_thousands_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "query;model;confidence;cost\nq;a;-1;{}\nq;b;{};2\n"
    path.write_text(rows.format("1,234", "-2"))
    assert "got '1,234' in row 1" in refused(lambda: read_table(path))
    path.write_text(rows.format("1,234", "-0.5"))
    assert "got '1,234' in row 1" in refused(lambda: read_table(path))
    path.write_text(rows.format("1,234", "-0,5"))
    assert read_table(path).cost.tolist() == [[1.234, 2.0]]
    path.write_text(rows.format("1,5", "-0.5"))  # a point and a comma
    assert "got '1,5' in row 1" in refused(lambda: read_table(path))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_packed_files(name: str, ending: str, tmp_path: Path) -> None:
    lines = frame().to_json(orient="records", lines=True)
    content = lines if name == "t.jsonl" else text("," if name == "t.csv" else "\t")
    path = tmp_path / (name + ending)
    packed = pa.compress(content.encode(), codec="gzip" if ending == ".gz" else "zstd", asbytes=True)
    path.write_bytes(packed)
    same(read(path), read(frame()))
    path.write_bytes(packed[:-9])
    assert "cannot read the table" in refused(lambda: read(path))
    path.write_bytes(content.encode())
    assert "cannot read the table" in refused(lambda: read(path))


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(text(",").encode() + b"\n" * (8 << 20))
    message = refused(lambda: read(path))
    assert "unpacks to more than 1 MiB, far more than its size makes likely" in message
    assert compressed.limit_of(1 << 30) == compressed.MAX_BYTES


def test_formats_that_are_packed_in_themselves(tmp_path: Path) -> None:
    parquet, unknown = tmp_path / "t.parquet.gz", tmp_path / "t.csv.bz2"
    assert "is Parquet, which is compressed in itself: unpack it" in refused(lambda: read(parquet))
    assert "or one of these and .gz or .zst; got '.bz2'" in refused(lambda: read(unknown))


def test_workbooks(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    frame().to_excel(path, index=False)
    same(read(path), read(frame()))
    with pd.ExcelWriter(path) as book:
        frame().to_excel(book, index=False, sheet_name="one")
        frame().to_excel(book, index=False, sheet_name="two")
    assert "must have one sheet with something on it; it has 'one', 'two'." in refused(lambda: read(path))
    path.write_bytes(b"PK\x03\x04 no workbook")
    assert "as a workbook of Excel: it is no workbook" in refused(lambda: read(path))


def test_workbooks_without_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert "the package openpyxl to read: pip install openpyxl, or save" in refused(
        lambda: read(tmp_path / "t.xlsx")
    )


def test_a_label_that_may_be_the_start_of_a_missing_one(tmp_path: Path) -> None:
    rows = "query,model,confidence,cost,correct\nq,a,-1,1,yes\nq,b,-1,2,"
    (tmp_path / "t.csv").write_text(rows + "yes")
    read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(rows + "no")
    with pytest.warns(DataWarning, match="inside correct 'no' of its last row"):
        read_table(tmp_path / "t.csv")


def test_frames_of_duckdb() -> None:
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.connect().from_arrow(pa.Table.from_pandas(frame()))
    same(read(relation), read(frame()))


def test_lazy_frames() -> None:
    same(read(pl.from_pandas(frame()).lazy()), read(frame()))


# ---------------------------------------------------------------------------------------------
# Labels.


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("yes", "no"), ("T", "F"), ("pass", "FAIL"), ("Correct", "Incorrect"), ("C", "I"), ("right", "wrong")],
)
def test_words_for_labels(right: str, wrong: str) -> None:
    labels = [wrong, right, right, right, wrong, ""]
    same(read(frame(correct=labels)), read(frame()))


def test_scores_of_answers() -> None:
    scores = [0.1, 0.81, "100%", 1, 0.8, None]
    same(read(frame(correct=scores), correct_above=0.8), read(frame()))
    message = refused(lambda: read(frame(correct=scores)))
    assert message.endswith(
        "above which of them an answer is right: correct_above=0.5 (--correct-above 0.5)."
    )
    for above in (math.nan, math.inf, "high", [1]):
        message = refused(lambda above=above: read(frame(), correct_above=above))
        assert "correct_above must be a finite number" in message
    bare = frame().drop(columns="correct")
    assert "needs a column of scores" in refused(lambda: read(bare, correct_above=0.5))


# ---------------------------------------------------------------------------------------------
# Scales of confidence.

WAYS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "percent": (lambda p: 100 * p, "probability"),
    "uncertainty": (lambda p: 1 - p, "probability"),
    "nll": (lambda p: -np.log(p), "logprob"),
    "perplexity": (lambda p: 1 / p, "logprob"),
}


@pytest.mark.parametrize("name", WAYS)
def test_other_scales(name: str) -> None:
    there, kind = WAYS[name]
    with np.errstate(divide="ignore"):
        values = there(PROBABILITIES)
        expected = np.log(PROBABILITIES) if kind == "logprob" else PROBABILITIES
    data = read(frame(confidence=values), confidence=name)
    assert (data.kind, data.units.given_as) == (kind, name)
    np.testing.assert_allclose(data.confidence.ravel(), expected, rtol=1e-14)
    wrong = np.where(PROBABILITIES == 0.5, -7.0, values)
    assert f"for kind {name!r}; got -7.0 in row 3" in refused(
        lambda: read(frame(confidence=wrong), confidence=name)
    )


@pytest.mark.parametrize("name", SCALES)
def test_no_scale_is_turned_around(name: str) -> None:
    """The order of answers is kept by every kind that grows with sureness, and turned by the others."""
    scale = SCALES[name]
    values = np.array([1.0, 1.5, 20.0, 99.0] if name in ("perplexity", "percent") else [0.0, 0.1, 0.9, 1.0])
    values = -values if name == "logprob" else values
    steps = np.diff(scale.read(np.sort(values)))
    assert (steps < 0).all() if scale.falls else (steps > 0).all()


def test_percentages_in_text() -> None:
    texts = [f"{100 * p:.1f} %" for p in PROBABILITIES]
    for name in ("probability", "percent"):
        np.testing.assert_array_equal(
            read(frame(confidence=texts), confidence=name).confidence.ravel(), PROBABILITIES
        )
    doubts = read(frame(confidence=texts), confidence="uncertainty").confidence.ravel()
    np.testing.assert_array_equal(doubts, 1 - PROBABILITIES)
    for name in ("logprob", "score", "nll"):
        message = refused(lambda name=name: read(frame(confidence=texts), confidence=name))
        assert 'pass confidence="percent" (--confidence percent)' in message
    assert "Percentages are read as confidences" in refused(lambda: read(frame(cost=["1%"] * 6)))


def many(turn: Callable[[np.ndarray], np.ndarray], num_queries: int = 200) -> pd.DataFrame:
    """Probabilities that are calibrated, on another scale, with labels that show which way they go."""
    random = np.random.default_rng(0)
    p = random.beta(4.0, 1.5, 2 * num_queries)
    names = np.repeat([f"q{i}" for i in range(num_queries)], 2)
    labels = random.random(2 * num_queries) < p
    return pd.DataFrame(
        {
            "query": names,
            "model": ["a", "b"] * num_queries,
            "confidence": turn(p),
            "correct": labels,
            "cost": 0.1,
        }
    )


REMEDIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "probability": (lambda p: p, "logprob"),
    "logprob": (np.log, "probability"),
    "percent": (lambda p: 100 * p, "probability"),
    "uncertainty": (lambda p: 1 - p, "logprob"),
    "nll": (lambda p: -np.log(p), "logprob"),
    "perplexity": (lambda p: 1 / p, "probability"),
}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", REMEDIES)
def test_remedies_do_not_turn_the_scale_upside_down(name: str, labelled: bool) -> None:
    """What the message says first is right where labels tell; where they do not, it says what else may be."""
    turn, said_to_be = REMEDIES[name]
    table = many(turn)
    given = table if labelled else table.drop(columns="correct")
    message = refused(lambda: read(given, confidence=said_to_be))
    if labelled:
        passed = message.split('pass confidence="')[1].split('"')[0]
        assert SCALES[passed].falls == SCALES[name].falls
        data = read(table, confidence=passed)
        codes = np.broadcast_to(np.arange(2), data.confidence.shape).ravel()
        assert direction(data.confidence.ravel(), codes, data.correct.ravel(), data.labelled.ravel()) is True
    else:
        assert f'"{name}"' in message
        if SCALES[name].falls:
            assert "is the surest" in message or message.count("pass confidence") == 1


def test_rank_sums_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    values, right = random.integers(0, 9, 80).astype(float), random.random(80) < 0.4
    expected = stats.mannwhitneyu(values[right], values[~right], method="asymptotic", use_continuity=False)
    score = rank_sum(values, right)
    assert score is not None
    assert 2 * stats.norm.sf(abs(score)) == pytest.approx(expected.pvalue, rel=1e-12)
    assert rank_sum(values, np.ones(80, dtype=bool)) is None


def test_confidences_beyond_by_rounding() -> None:
    values = np.where(PROBABILITIES == 1.0, 1.0000001, PROBABILITIES)
    message = refused(lambda: read(frame(confidence=values)))
    assert message.endswith("This looks like rounding: replace values above 1 by 1.")


@pytest.mark.parametrize("kind", ["odds", "Probability", None, 5])
def test_kinds_that_are_none(kind: Any) -> None:
    assert "confidence must be one of the kinds 'logprob', " in refused(
        lambda: read(frame(), confidence=kind)
    )


GRADES = ["low", "Medium", "HIGH", "high", "low", "medium"]


def test_grades() -> None:
    data = read_table(frame(confidence=GRADES), grades=["low", "medium", "high"])
    assert data.confidence.ravel().tolist() == [1, 2, 3, 3, 1, 2]
    assert (data.kind, data.units.grades) == ("score", ("low", "medium", "high"))
    missing = read_table(frame(confidence=[*GRADES[:5], None]), grades=["low", "medium", "high"])
    assert np.isnan(missing.confidence[2, 1])
    message = refused(lambda: read_table(frame(confidence=GRADES)))
    assert message.endswith("grades=['low', 'Medium', 'HIGH'] (--grades low,Medium,HIGH).")
    message = refused(lambda: read_table(frame(confidence=GRADES), grades=["low", "high"]))
    assert "must be one of the grades 'low', 'high'; got 'Medium' in row 2" in message


def test_words_of_unknown_order_are_not_put_in_one() -> None:
    message = refused(lambda: read_table(frame(confidence=["meh", "ok", "wow", "wow", "ok", "meh"])))
    assert "pass all of them, 'meh', 'ok', 'wow', in order, from the least sure to the surest" in message
    assert "(--grades LEAST,...,MOST)" in message


@pytest.mark.parametrize("grades", [["low"], ["low", "LOW"], [], ["low", ""]])
def test_grades_that_are_none(grades: Any) -> None:
    assert "grades must be two words or more" in refused(lambda: read_table(frame(), grades=grades))
    assert "Leave one of them out." in refused(lambda: read(frame(confidence=GRADES), grades=["low", "high"]))
    with pytest.raises(TypeError, match="grades must be a list of words"):
        read_table(frame(), grades="low,high")


# ---------------------------------------------------------------------------------------------
# Costs, rows that say the same, names that are alike.


def test_costs_by_model() -> None:
    bare = frame().drop(columns="cost")
    costs = {"small": 0.001, "large": 0.02, "other": 1}
    same(read(bare, cost_per_call=costs), read(frame()))
    same(read(frame(cost=7.0), cost_per_call=costs), read(frame()))
    message = refused(lambda: read(bare, cost_per_call={"smal": 0.1, "large": 0.2}))
    assert "has no entry for model 'small'. Did you mean 'smal'?" in message
    for bad in (-1, math.nan, "1", None):
        said = refused(lambda bad=bad: read(bare, cost_per_call={"small": bad}))
        assert "must give a finite number >= 0 (US dollars per call) for model 'small'" in said
    assert "give one of them" in refused(lambda: read(bare, cost_per_call=costs, costs=False))
    assert "give one of them" in refused(lambda: read(bare, cost_per_call=costs, prices={}))


def test_no_costs() -> None:
    bare = frame().drop(columns="cost")
    message = refused(lambda: read(bare))
    assert "(--cost-per-call small=DOLLARS,large=DOLLARS)" in message
    assert "(--no-costs --models small,large, in the order in which they are to be asked)." in message
    assert "models=[...] (--models small,large)." in refused(lambda: read(bare, costs=False))
    data = read(bare, costs=False, models=["small", "large"])
    assert data.call_cost.tolist() == [0.0, 1.0]
    assert data.units.cost == "deferrals"
    assert overview(data)["odd"] == []
    turned = read(bare, costs=False, models=["large", "small"])
    assert (turned.models, turned.call_cost.tolist()) == (("large", "small"), [0.0, 1.0])


def test_rows_that_say_the_same() -> None:
    told = r"2 rows are left out, .* the first is row 7 \(query 'q3', model 'large'\)"
    with pytest.warns(DataWarning, match=told):
        data = read(pd.concat([frame(), frame().iloc[[5, 2]]]))
    same(data, read(frame()))
    other = frame().iloc[[5, 2]].assign(cost=[0.02, 0.002])
    message = refused(lambda: read(pd.concat([frame(), other])))
    assert "model 'small' is in row 3 and again in row 8, with another cost. Keep one of the rows." in message


@pytest.mark.parametrize("other", ["Large", "LARGE", "la-rge", "la rge"])
def test_models_that_are_alike(other: str) -> None:
    more = frame().iloc[[1]].assign(model=other, query="q2")
    with pytest.warns(DataWarning, match=rf"models 'large', '{other}' are read as different ones"):
        assert read(pd.concat([frame(), more])).num_models == 3
    read(pd.concat([frame(), more]), models=["small", "large"])  # without a word: it is left out


# ---------------------------------------------------------------------------------------------
# What was read.


def test_overview() -> None:
    record = overview(read(frame()))
    assert record["num_queries"] == 3
    assert record["odd"] == []
    small, large = record["models"]
    assert (small["num_labels"], small["median_confidence"]) == (3, 0.31)
    assert small["accuracy"] == pytest.approx(1 / 3)
    assert (large["num_labels"], large["accuracy"]) == (2, 1.0)
    assert large["call_cost"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ([0.0] * 6, "All costs are 0"),
        ([0.15, 2.5] * 3, "Every call of model 'large' costs 2.5 US dollars, which looks like a price of a"),
        ([30.0, 50.0, 31.0, 51.0, 30.0, 52.0], "A call of model 'large' costs 51 US dollars on average"),
        ([0.15, 0.4] * 3, None),
        ([0.15, 2.5, 0.2, 2.6, 0.1, 2.7], None),
    ],
)
def test_odd_costs(cost: list[float], said: str | None) -> None:
    odd = overview(read(frame(cost=cost)))["odd"]
    assert (not odd) if said is None else odd[0].startswith(said)


def test_a_scale_upside_down_is_odd() -> None:
    assert overview(read(many(lambda p: p)))["odd"] == []
    (odd,) = overview(read(many(lambda p: 1 - p, 600)))["odd"]
    assert "Right answers of models 'a', 'b' have lower confidences than wrong ones" in odd
    assert 'pass confidence="uncertainty" (--confidence uncertainty)' in odd
    assert overview(read(many(lambda p: 1 - p), confidence="uncertainty"))["odd"] == []
