"""Reading tables: every format, every default, and every complaint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading import read_table
from cascade_bayes.transforms import ConfidenceMap

INF = float("inf")
PRICES: dict[str, dict[str, float]] = {
    "small": {"in": 0.1, "out": 0.4},
    "mid": {"in": 1, "out": 2},
    "big": {"in": 3, "out": 9},
}


def frame(**changes: Any) -> pd.DataFrame:
    """Three queries, three models listed dearest first, one row absent, one label missing."""
    columns: dict[str, Any] = {
        "query": ["q1", "q1", "q1", "q2", "q2", "q2", "q3", "q3"],
        "model": ["big", "small", "mid", "big", "small", "mid", "big", "small"],
        "confidence": [0.0, -0.1, -1e-12, -0.1234567890123456789, -INF, -3.5, -1e-300, -0.7],
        "correct": [True, False, True, True, None, False, True, True],
        "cost": [0.01, 0.001, 0.002, 0.01, 0.001, 0.002, 0.01, 0.001],
        "latency_ms": [900.5, 100.0, 200.0, None, 110.0, 210.0, 910.0, 120.0],
    }
    for name, value in changes.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = value
    return pd.DataFrame(columns)


def with_value(column: str, row: int, value: Any) -> pd.DataFrame:
    """Return the frame with one value replaced; rows count from 1."""
    table = frame(tokens_in=[100] * 8, tokens_out=[10] * 8).astype(object)
    table.loc[row - 1, column] = value
    return table


def same(a: CascadeData, b: CascadeData) -> bool:
    arrays = ("query_ids", "confidence", "correct", "labelled", "cost", "latency_ms", "call_cost")
    for name in arrays:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    return (a.models, a.kind, a.confidence_map) == (b.models, b.kind, b.confidence_map)


def to_json_lines(table: pd.DataFrame, path: Path) -> Path:
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def to_csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


def to_parquet(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path)
    return path


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": lambda t, d: to_csv(t, d / "t.csv"),
    "csv as str": lambda t, d: str(to_csv(t, d / "t.CSV")),
    "csv with a byte-order mark": lambda t, d: (
        t.to_csv(d / "t.csv", index=False, encoding="utf-8-sig") or d / "t.csv"
    ),
    "jsonl with a byte-order mark": lambda t, d: (
        (d / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + to_json_lines(t, d / "t.jsonl").read_bytes())
        and d / "bom.jsonl"
    ),
    "parquet": lambda t, d: to_parquet(t, d / "t.parquet"),
    "parquet with an index": lambda t, d: to_parquet(t.set_index("query"), d / "t.parquet"),
    "jsonl": lambda t, d: to_json_lines(t, d / "t.jsonl"),
    "ndjson": lambda t, d: to_json_lines(t, d / "t.ndjson"),
    "json lines": lambda t, d: to_json_lines(t, d / "t.json"),
    "pandas objects": lambda t, d: t.astype(object),
    "pandas nullable": lambda t, d: t.convert_dtypes(),
    "pandas categories": lambda t, d: t.astype({"query": "category", "model": "category"}),
    "pandas with an index": lambda t, d: t.set_index(["query", "model"]),
    "pandas with an index and column": lambda t, d: t.set_index("query", drop=False),
    "pandas shuffled index": lambda t, d: t.set_index(np.arange(len(t))[::-1]),
    "pandas text": lambda t, d: t.astype(object).where(t.notna(), "").astype(str),
    "polars": lambda t, d: pl.from_pandas(t),
    "more columns": lambda t, d: t.assign(answer="A", prompt=1.5),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_reads_the_same(form: str, tmp_path: Path) -> None:
    assert same(read_table(WRITERS[form](frame(), tmp_path)), read_table(frame()))


def test_a_json_array_reads_too(tmp_path: Path) -> None:
    lines = to_json_lines(frame(), tmp_path / "t.jsonl").read_text().splitlines()
    path = tmp_path / "t.json"
    path.write_text("[" + ",\n".join(lines) + "]")
    assert same(read_table(path), read_table(frame()))


def test_what_is_read() -> None:
    data = read_table(frame())
    assert data.models == ("small", "mid", "big")
    assert data.query_ids.tolist() == ["q1", "q2", "q3"]
    expected = [[-0.1, -1e-12, 0.0], [-INF, -3.5, -0.1234567890123456789], [-0.7, np.nan, -1e-300]]
    np.testing.assert_array_equal(data.confidence, expected)
    np.testing.assert_array_equal(data.observed, ~np.isnan(expected))
    np.testing.assert_array_equal(data.correct, [[0, 1, 1], [0, 0, 1], [1, 0, 1]])
    np.testing.assert_array_equal(data.labelled, [[1, 1, 1], [0, 1, 1], [1, 0, 1]])
    nan = np.nan
    np.testing.assert_array_equal(data.cost, [[0.001, 0.002, 0.01], [0.001, 0.002, 0.01], [0.001, nan, 0.01]])
    assert data.latency_ms is not None
    np.testing.assert_array_equal(data.latency_ms, [[100, 200, 900.5], [110, 210, nan], [120, nan, 910]])
    np.testing.assert_allclose(data.call_cost, [0.001, 0.002, 0.01], rtol=1e-15)
    assert (data.num_queries, data.num_models, data.kind) == (3, 3, "logprob")
    np.testing.assert_array_equal(data.logit_score(), data.confidence_map.to_logit(data.confidence))
    assert data.logit_score()[0, 2] == INF
    assert data.logit_score()[1, 0] == -INF


def test_summary_is_json() -> None:
    summary = json.loads(json.dumps(read_table(frame(correct=[1, None, 1, 1, None, 0, 1, None])).summary()))
    assert summary["models"] == ["small", "mid", "big"]
    assert summary["num_queries"] == 3
    assert summary["num_observed"] == {"small": 3, "mid": 2, "big": 3}
    assert summary["num_labelled"] == {"small": 0, "mid": 2, "big": 3}
    assert summary["accuracy"] == {"small": None, "mid": 0.5, "big": 1.0}
    assert summary["call_cost"]["small"] == pytest.approx(0.001)
    assert summary["kind"] == "logprob"


def test_optional_columns_may_be_absent() -> None:
    data = read_table(frame(correct=None, latency_ms=None))
    assert data.latency_ms is None
    assert not data.labelled.any()
    assert not data.correct.any()


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0, 1, 1, None, 0, 1, 1],
        [1.0, 0.0, 1.0, 1.0, np.nan, 0.0, 1.0, 1.0],
        ["TRUE", "False", "true", "1", "", "0", "1.0", " true "],
        [True, 0, "True", 1.0, pd.NA, "0.0", np.True_, np.int8(1)],
        pd.array([True, False, True, True, None, False, True, True], dtype="boolean"),
        ["true", "false", "true", "true", "NaN", "false", "true", "true"],
    ],
)
def test_spellings_of_labels(labels: Any) -> None:
    assert same(read_table(frame(correct=labels)), read_table(frame()))


@pytest.mark.parametrize("text", ["-inf", "-Infinity", "-INF", " -inf "])
def test_infinite_confidences_as_text(text: str, tmp_path: Path) -> None:
    values = [repr(x) for x in frame()["confidence"]]
    values[4] = text
    table = frame(confidence=values)
    for source in (
        table,
        to_csv(table, tmp_path / "t.csv"),
        to_json_lines(table, tmp_path / "t.jsonl"),
    ):
        assert same(read_table(source), read_table(frame()))
    scores = frame(confidence=[0.5, "inf", 0, 1, 2, 3, 4, 5])
    with pytest.raises(InputError, match="got inf in row 2"):
        read_table(scores, confidence="score")


def test_json_lines_with_infinity_tokens(tmp_path: Path) -> None:
    path = to_json_lines(frame(), tmp_path / "t.jsonl")
    assert "-Infinity" in path.read_text()
    assert read_table(path).confidence[1, 0] == -INF


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "", "NA", "null"])
def test_missing_confidence_is_nan(missing: Any) -> None:
    data = read_table(with_value("confidence", 1, missing))
    assert np.isnan(data.confidence[0, 2])
    assert data.observed.sum() == 7
    assert data.cost[0, 2] == 0.01


def test_confidences_of_any_number_type() -> None:
    values = [1, 0, np.float32(0.5), Decimal("0.25"), "1e-3", np.int64(1), 0.75, "0.125"]
    data = read_table(frame(confidence=values), confidence="probability", models=["big", "small"])
    np.testing.assert_array_equal(data.confidence, [[1, 0], [0.25, 0.001], [0.75, 0.125]])


def test_ids_read_the_same_as_numbers_and_text(tmp_path: Path) -> None:
    numbers = [1, 1, 1, 2, 2, 2, 7, 7]
    expected = ["1", "2", "7"]
    for ids in (
        numbers,
        [float(i) for i in numbers],
        [str(i) for i in numbers],
        [1, 1.0, "1", *numbers[3:]],
    ):
        table = frame(query=ids)
        assert read_table(table).query_ids.tolist() == expected
    assert read_table(to_csv(frame(query=numbers), tmp_path / "t.csv")).query_ids.tolist() == expected
    padded = to_csv(frame(query=[f"{i:03d}" for i in numbers]), tmp_path / "t.csv")
    assert read_table(padded).query_ids.tolist() == ["001", "002", "007"]
    named_na = to_csv(frame(query=["NA", "NA", "NA", *"bbbcc"]), tmp_path / "t.csv")
    assert read_table(named_na).query_ids.tolist() == ["NA", "b", "c"]


def test_ties_in_cost_keep_the_order_of_appearance() -> None:
    # 0.1 summed thrice and divided is a rounding off 0.1 itself: still a tie.
    data = read_table(frame(cost=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]))
    assert data.models == ("big", "small", "mid")
    data = read_table(frame(cost=[0.1, 0.1, 0.05, 0.1, 0.1, 0.05, 0.1, 0.1]))
    assert data.models == ("mid", "big", "small")


def test_order_is_stable_among_many_models() -> None:
    names = [f"m{i}" for i in range(40)]
    costs = [float(i % 2) for i in range(40)]
    table = pd.DataFrame({"query": "q", "model": names, "confidence": -1.0, "cost": costs})
    assert read_table(table).models == (*names[::2], *names[1::2])


def test_models_choose_order_and_subset() -> None:
    data = read_table(frame(), models=["big", "mid"])
    assert data.models == ("big", "mid")
    assert same(data, read_table(frame()).select(["big", "mid"]))
    # q3 has no row for these two, so it is dropped.
    rows = frame().iloc[[0, 1, 2, 3, 4, 5, 7]]
    assert read_table(rows, models=["big", "mid"]).query_ids.tolist() == ["q1", "q2"]


def test_rows_of_models_left_out_are_not_checked() -> None:
    assert read_table(with_value("confidence", 3, 0.5), models=["small", "big"]).num_models == 2


def test_prices(tmp_path: Path) -> None:
    tokens = {
        "tokens_in": [1000, 2000, 3000] * 2 + [0, 10],
        "tokens_out": [10, 20, 30] * 2 + [0, 0],
    }
    expected = [
        [2000 * 0.1e-6 + 20 * 0.4e-6, 3000 * 1e-6 + 30 * 2e-6, 1000 * 3e-6 + 10 * 9e-6],
        [2000 * 0.1e-6 + 20 * 0.4e-6, 3000 * 1e-6 + 30 * 2e-6, 1000 * 3e-6 + 10 * 9e-6],
        [10 * 0.1e-6, np.nan, 0.0],
    ]
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    for prices in (PRICES, path, str(path)):
        data = read_table(frame(cost=None, **tokens), prices=prices)
        assert data.models == ("small", "big", "mid")
        np.testing.assert_allclose(data.select(["small", "mid", "big"]).cost, expected, rtol=1e-14)
    # With both, prices are used; without tokens, the cost column is.
    assert same(read_table(frame(**tokens), prices=PRICES), data)
    assert same(read_table(frame(), prices=PRICES), read_table(frame()))
    assert same(read_table(frame(**tokens)), read_table(frame()))


def test_call_cost_is_the_mean_over_calls_made() -> None:
    costs = [0.01, 0.001, 0.004, 0.01, 0.003, 0.002, 0.04, 0.002]
    data = read_table(frame(cost=costs))
    np.testing.assert_allclose(data.call_cost, [0.002, 0.003, 0.02])


def test_take() -> None:
    data = read_table(frame(cost=[0.01, 0.001, 0.004, 0.01, 0.003, 0.002, 0.04, 0.002]))
    some = data.take([2, 0, 2])
    assert some.query_ids.tolist() == ["q3", "q1", "q3"]
    np.testing.assert_array_equal(some.confidence, data.confidence[[2, 0, 2]])
    np.testing.assert_array_equal(some.labelled, data.labelled[[2, 0, 2]])
    assert data.latency_ms is not None
    np.testing.assert_array_equal(some.latency_ms, data.latency_ms[[2, 0, 2]])
    np.testing.assert_allclose(some.call_cost, [(0.002 + 0.001 + 0.002) / 3, 0.004, 0.03])
    assert some.confidence_map == data.confidence_map
    assert same(data.take(np.array([True, False, True])), data.take([0, 2]))
    # q3 has no call of mid, whose mean cost then stays.
    assert data.take([2]).call_cost[1] == data.call_cost[1]
    assert data.take([]).num_queries == 0
    with pytest.raises(IndexError):
        data.take([3])


def test_select() -> None:
    data = read_table(frame())
    pair = data.select(["big", "small"])
    assert pair.models == ("big", "small")
    np.testing.assert_array_equal(pair.logit_score(), data.logit_score()[:, [2, 0]])
    np.testing.assert_array_equal(pair.correct, data.correct[:, [2, 0]])
    np.testing.assert_array_equal(pair.cost, data.cost[:, [2, 0]])
    np.testing.assert_array_equal(pair.call_cost, data.call_cost[[2, 0]])
    assert data.select(["mid"]).num_models == 1
    with pytest.raises(InputError, match=r"'mids'.*Did you mean 'mid'"):
        data.select(["small", "mids"])
    with pytest.raises(InputError, match="'small' is listed twice"):
        data.select(["small", "small"])
    with pytest.raises(InputError, match="at least 1"):
        data.select([])


def test_confidence_map_is_fitted_or_given() -> None:
    data = read_table(frame())
    assert data.confidence_map == ConfidenceMap.fit(data.confidence, "logprob")
    given = ConfidenceMap("logprob", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    assert read_table(frame(), confidence_map=given).confidence_map == given
    assert data.with_confidence_map(given).confidence_map == given
    refitted = data.take([0, 1]).with_confidence_map()
    assert refitted.confidence_map == ConfidenceMap.fit(data.confidence[:2], "logprob")
    with pytest.raises(InputError, match="'logprob' with 3 models; got 'score' with 3"):
        read_table(frame(), confidence_map=replace(given, kind="score"))
    with pytest.raises(InputError, match="with 2 models; got 'logprob' with 3"):
        read_table(frame(), models=["small", "big"], confidence_map=given)


def test_data_is_immutable_and_apart_from_its_source() -> None:
    data = read_table(frame())
    with pytest.raises(ValueError, match="read-only"):
        data.confidence[0, 0] = -1.0
    values = np.array(data.confidence)
    copy = replace(data, confidence=values)
    values[0, 0] = -9.0
    assert copy.confidence[0, 0] == data.confidence[0, 0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"confidence": np.zeros((3, 2))}, r"confidence must have shape \(3, 3\).*got \(3, 2\)"),
        ({"call_cost": np.zeros(2)}, r"call_cost must have shape \(3,\)"),
        ({"call_cost": np.array([0.1, np.nan, 0.1])}, "call_cost must be finite"),
        ({"models": ("a", "a", "b")}, "distinct"),
        ({"correct": np.ones((3, 3), dtype=bool)}, "labelled is False"),
        ({"confidence": np.full((3, 3), 0.2)}, "'small' must be <= 0.*got 0.2 for query 'q1'"),
        ({"kind": "odds"}, "got 'odds'"),
        ({"kind": "score"}, "must be finite.*got -inf for query 'q2'"),
    ],
)
def test_cascade_data_checks_itself(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(read_table(frame()), **changes)


LOOK_LIKE_PROBABILITIES = frame(confidence=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 1.0, 0.0])

# name: (table, arguments of read_table, what the message must contain)
BAD_TABLES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "missing query column": (frame(query=None), {}, "no column 'query'; it has 'model', 'conf"),
    "missing model column": (frame(model=None), {}, "no column 'model'; it has 'query'"),
    "missing confidence column": (frame(confidence=None), {}, "no column 'confidence'; it has"),
    "column twice": (
        pd.concat([frame(), frame()[["cost"]]], axis=1),
        {},
        "2 columns 'cost'",
    ),
    "no rows": (frame().iloc[:0], {}, "no rows"),
    "no rows in polars": (pl.from_pandas(frame()).clear(), {}, "no rows"),
    "missing column in polars": (
        pl.from_pandas(frame(model=None)),
        {},
        "no column 'model'; it has 'query'",
    ),
    "unknown kind": (frame(), {"confidence": "logit"}, "got 'logit'"),
    "probabilities for logprob": (
        LOOK_LIKE_PROBABILITIES,
        {},
        "confidence of model 'big' must be <= 0 for kind 'logprob'; got 0.9 in row 1 (query 'q1'). "
        'These look like probabilities: pass confidence="probability" (--confidence probability).',
    ),
    "one positive logprob": (with_value("confidence", 5, 0.93), {}, "got 0.93 in row 5"),
    "another scale for logprob": (
        with_value("confidence", 5, 7.5),
        {},
        "got 7.5 in row 5 (query 'q2'). Correct it, or for another scale pass confidence=\"score\"",
    ),
    "rounded logprob": (with_value("confidence", 5, 1e-9), {}, "looks like rounding"),
    "infinite logprob": (with_value("confidence", 2, INF), {}, "got inf in row 2"),
    "logprobs for probability": (
        frame(),
        {"confidence": "probability"},
        "'small' must be in [0, 1] for kind 'probability'; got -0.1 in row 2 (query 'q1'). "
        'These look like log-probabilities: pass confidence="logprob"',
    ),
    "percent for probability": (
        frame(confidence=[90, 80, 70, 60, 50, 40, 30, 20]),
        {"confidence": "probability"},
        "got 90.0 in row 1 (query 'q1'). These look like percentages: pass confidence=\"percent\" "
        "(--confidence percent).",
    ),
    "infinite score": (
        frame(),
        {"confidence": "score"},
        "'small' must be finite for kind 'score'; got -inf in row 5 (query 'q2')",
    ),
    "words for confidence": (
        with_value("confidence", 6, "high"),
        {},
        "confidence of model 'mid' must be a number; got 'high' in row 6 (query 'q2')",
    ),
    "truth for confidence": (with_value("confidence", 6, True), {}, "a number; got True in row 6"),
    "truths for confidence": (frame(confidence=[True] * 8), {}, "a number; got True in row 1"),
    "list for confidence": (with_value("confidence", 6, [1]), {}, "a number; got [1] in row 6"),
    "huge integer": (
        with_value("confidence", 6, -(10**400)),
        {},
        "got a whole number of about 401 digits in row 6 (query 'q2')",
    ),
    "label of another number": (
        with_value("correct", 3, 2),
        {},
        "correct of model 'mid' must be 0 or 1, true or false, yes or no, pass or fail, correct or "
        "incorrect, "
        "t or f, C or I, or empty; got 2 in row 3 (query 'q1'). If these are scores of answers, say above",
    ),
    "fraction for label": (
        frame(correct=[1, 0, 0.5, 1, 0, 1, 0, 1]),
        {},
        "got 0.5 in row 3 (query 'q1')",
    ),
    "word for label": (with_value("correct", 3, "maybe"), {}, "got 'maybe' in row 3"),
    "list for label": (
        with_value("correct", 3, ["A"]),
        {},
        "t or f, C or I, or empty; got ['A'] in row 3 (query 'q1'). Correct it or leave it",
    ),
    "duplicate row": (
        pd.concat([frame(), frame().iloc[[5, 2]].assign(correct=True)]),
        {},
        "query 'q2' with model 'mid' is in row 6 and again in row 9, with another correct. Keep one",
    ),
    "missing model": (with_value("model", 4, None), {}, "model must be given in every row; it is "),
    "blank model": (with_value("model", 4, " "), {}, "missing in row 4"),
    "missing query": (with_value("query", 4, np.nan), {}, "query must be given in every row; it "),
    "missing query in polars": (
        pl.from_pandas(frame()).with_columns(
            query=pl.when(pl.int_range(8) == 3).then(None).otherwise(pl.col("query"))
        ),
        {},
        "missing in row 4",
    ),
    "negative cost": (
        with_value("cost", 7, -0.5),
        {},
        "cost of model 'big' must be a finite number >= 0 (US dollars per call); got -0.5 in row 7 "
        "(query 'q3')",
    ),
    "missing cost": (with_value("cost", 7, None), {}, "it is missing in row 7 (query 'q3')"),
    "infinite cost": (with_value("cost", 7, INF), {}, "got inf in row 7"),
    "words for cost": (
        with_value("cost", 7, "free"),
        {},
        "cost of model 'big' must be a number; g",
    ),
    "no cost": (frame(cost=None), {}, "must have costs: add a column 'cost'"),
    "no cost though prices": (frame(cost=None), {"prices": PRICES}, "'tokens_in' and 'tokens_out'"),
    "no cost and half the tokens": (
        frame(cost=None, tokens_in=[1] * 8),
        {"prices": PRICES},
        "'tokens_in' and 'tokens_out'",
    ),
    "tokens without prices": (
        frame(cost=None, tokens_in=[1] * 8, tokens_out=[1] * 8),
        {},
        "tokens but no costs: pass prices=..., US dollars per million tokens (--prices FILE)",
    ),
    "negative tokens": (
        with_value("tokens_in", 2, -3),
        {"prices": PRICES},
        "tokens_in of model 'small' must be a finite number >= 0 (tokens); got -3.0 in row 2",
    ),
    "missing tokens": (
        with_value("tokens_out", 2, None),
        {"prices": PRICES},
        "tokens_out of model 'small' must be a finite number >= 0 (tokens); it is missing in row 2",
    ),
    "model without price": (
        with_value("model", 2, "smal1"),
        {"prices": PRICES},
        "no entry for model 'smal1'. Did you mean 'small'?",
    ),
    "price list of another form": (frame(), {"prices": [1, 2]}, "must map models to prices"),
    "negative price": (
        frame(),
        {"prices": PRICES | {"mid": {"in": -1, "out": 1}}},
        "as 'in' of model 'mid'; got -1",
    ),
    "price without out": (
        frame(),
        {"prices": {"mid": {"in": 1}}},
        "as 'out' of model 'mid'; got None",
    ),
    "price as a number": (frame(), {"prices": {"mid": 3}}, "as 'in' of model 'mid'; got None"),
    "price as a word": (frame(), {"prices": {"mid": {"in": "1", "out": 2}}}, "got '1'"),
    "missing price file": (frame(), {"prices": "none.json"}, "'none.json' does not exist"),
    "negative latency": (with_value("latency_ms", 1, -4), {}, "latency_ms of model 'big' must be"),
    "unknown model": (
        frame(),
        {"models": ["smol", "big"]},
        "models names 'smol', which is not in the data. Did you mean 'small'? Known: 'big'",
    ),
    "unknown model like no other": (
        frame(),
        {"models": ["zzz", "big"]},
        "not in the data. Known: 'big', 'small', 'mid'.",
    ),
    "model listed twice": (frame(), {"models": ["big", "mid", "big"]}, "'big' is listed twice"),
    "one model listed": (frame(), {"models": ["big"]}, "at least 2 of 'big', 'small', 'mid'; got"),
    "one model in the table": (
        frame().query("model == 'mid'"),
        {},
        "at least two models; column 'model' holds only 'mid'",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_named(case: str) -> None:
    table, arguments, expected = BAD_TABLES[case]
    with pytest.raises(InputError) as caught:
        read_table(table, **arguments)
    message = str(caught.value)
    assert expected in message
    assert message.endswith(".")
    assert "\n" not in message
    assert "np." not in message


CSV = "query,model,confidence,cost\nq1,a,-0.1,1\nq1,b,-0.2,2\n"

# name: (file name, content, what the message must contain)
BAD_FILES: dict[str, tuple[str, bytes | None, str]] = {
    "no file": ("t.csv", None, "t.csv' does not exist"),
    "unknown suffix": ("t.xls", b"x", "must end in one of .csv, .tsv, .parquet, .jsonl"),
    "no suffix": ("table", b"x", "got ''"),
    "empty csv": ("t.csv", b"", "is an empty file"),
    "blank csv": ("t.csv", b"\n", "cannot read"),
    "header only": ("t.csv", CSV.splitlines()[0].encode() + b"\n", "no rows"),
    "half a header": ("t.csv", b"query,mod", "as CSV: CSV parse error: Empty CSV"),
    "truncated csv": ("t.csv", CSV[:-9].encode(), "as CSV: CSV parse error: Expected 4 columns"),
    "csv of another encoding": ("t.csv", CSV.encode() + b"q2,\xff,-1,1\n", "invalid UTF8"),
    "csv without a model": ("t.csv", CSV.encode() + b"q2,,-1,1\n", "missing in row 3"),
    "csv without a cost": ("t.csv", CSV.encode() + b"q2,a,-1,\n", "it is missing in row 3"),
    "csv with a word": ("t.csv", CSV.encode() + b"q2,a,sure,1\n", "got 'sure' in row 3"),
    "not parquet": ("t.parquet", CSV.encode(), "as Parquet: "),
    "empty parquet": ("t.parquet", b"", "is an empty file"),
    "truncated json": ("t.jsonl", b'{"query": "q1"}\n{"query": "q', "as JSON Lines: row 2: "),
    "json without commas": ("t.json", b'[{"query": 1} {"query": 2}]', "as JSON Lines: "),
    "json of numbers": ("t.jsonl", b"1\n2\n", "row 1 is not"),
    "json of lists": ("t.ndjson", b'{"query": 1}\n[2]\n', "row 2 is not"),
    "two records on a line": ("t.jsonl", b"{},{}\n", "row 1: Extra data"),
    "json without the columns": (
        "t.jsonl",
        b'{"query": 1}\n',
        "no column 'model' or 'confidence'; it has 'query'",
    ),
    "json of another encoding": ("t.jsonl", b'{"query": "\xff"}\n', "as JSON Lines: 'utf-8'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named(case: str, tmp_path: Path) -> None:
    name, content, expected = BAD_FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / name)
    assert expected in str(caught.value)
    assert name in str(caught.value) or "row" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_parquet_and_folder(tmp_path: Path) -> None:
    path = to_parquet(frame(), tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"as Parquet: .*truncated"):
        read_table(path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        read_table(tmp_path / "folder.csv")
    lacking = to_parquet(frame(confidence=None), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="no column 'confidence'; it has 'query', 'model', 'corr"):
        read_table(lacking)


def test_bad_price_files(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    for text, match in [
        ("{", "cannot be read"),
        ("[]", "map models"),
        ('{"a": {}}', "'a'; got None"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_table(frame(), prices=path)


def test_row_numbers_survive_a_choice_of_models() -> None:
    with pytest.raises(InputError, match="in row 7 "):
        read_table(with_value("cost", 7, -1), models=["mid", "big"])


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="got dict"):
        read_table({"query": ["a"]})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got the string 'small,big'"):
        read_table(frame(), models="small,big")


FITTABLE = {"correct": [1, 0, 1, 0, 1, 0, 1, 1]}


def test_check_fittable_accepts_good_data() -> None:
    check_fittable(read_table(frame(**FITTABLE)))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"correct": None}, "'small' must have labels"),
        ({"correct": [1, 0, None, 0, 1, None, 1, 1]}, "'mid' must have labels"),
        (
            {"confidence": [-1, -1, None, -2, -2, None, -3, -3], **FITTABLE},
            "'mid' must have confidences to be fitted; column 'confidence' has none",
        ),
    ],
)
def test_check_fittable_names_the_model(changes: dict[str, Any], match: str) -> None:
    table = frame(correct=None) if changes == {"correct": None} else frame(**changes)
    with pytest.raises(InputError, match=match):
        check_fittable(read_table(table))


@pytest.mark.parametrize("value", [0, 1])
def test_check_fittable_warns_of_equal_labels(value: int) -> None:
    labels = [1 - value, 0, 1, value, 1, 0, value, 1]
    labels[1] = labels[4] = labels[7] = value
    with pytest.warns(DataWarning, match=f"all 3 labels of model 'small' are {bool(value)}"):
        check_fittable(read_table(frame(correct=labels)))


def test_check_fittable_warns_of_equal_confidences() -> None:
    table = read_table(frame(confidence=[-1, -1, -2, -2, -1, -3, -3, -1], **FITTABLE))
    with pytest.warns(DataWarning, match="all 3 confidences of model 'small' are -1.0: no threshold tells"):
        check_fittable(table)


def apart(*pairs: str) -> CascadeData:
    """Eight queries for each group of models, which are asked about these only."""
    rows = [
        (f"{models}{i}", model, -0.1 * (i + 1), i % 2, "abc".index(model) + 1.0)
        for models in pairs
        for i in range(8)
        for model in models
    ]
    return read_table(pd.DataFrame(rows, columns=["query", "model", "confidence", "correct", "cost"]))


def test_models_that_share_no_query() -> None:
    check_fittable(apart("abc"))
    check_fittable(apart("ab", "bc", "ac"))
    with pytest.warns(DataWarning, match="confidences of both models of these pairs: 'a and c'. How they go"):
        check_fittable(apart("ab", "bc"))
    with pytest.raises(
        InputError, match=r"it has 'a0' for model 'a' and 'b0' for model 'b'\. Correct the names"
    ):
        check_fittable(apart("a", "b", "c"))
    check_fittable(apart("ab", "c").select(["b"]))  # one model needs no other


def test_check_fittable_counts_markers() -> None:
    values = [*np.linspace(-2.0, -0.01, 50), -100.0, -100.0, -9999.0]
    frame = pd.DataFrame(
        {"query": [f"q{i}" for i in range(53)], "confidence": values, "correct": [0, 1, 1] * 17 + [0, 1]}
    )
    table = read_table(pd.concat([frame.assign(model="a"), frame.assign(model="b")]).assign(cost=1.0))
    assert table.confidence_map.floor == (-100.0, -100.0)
    with pytest.warns(
        DataWarning, match=r"3 of 53 confidences of model '[ab]' are -100.0 or lower, far"
    ) as told:
        check_fittable(table)
    assert len(told) == 2


def test_import_needs_no_table_library() -> None:
    code = (
        "import sys, cascade_bayes.data, cascade_bayes.reading; "
        "heavy = {'pandas', 'pyarrow', 'polars'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------
# Logs of a running cascade.


def log_frame() -> pd.DataFrame:
    """Three queries answered by the first, second and third model under thresholds 0.5 and 0.6."""
    rows = [("q1", "a", 0.7), ("q2", "a", 0.4), ("q2", "b", 0.6)]
    rows += [("q3", "a", 0.1), ("q3", "b", 0.2), ("q3", "c", np.nan)]
    log = pd.DataFrame(rows, columns=["query", "model", "confidence"])
    return log.assign(correct=1, cost=log["model"].map({"a": 3.0, "b": 2.0, "c": 1.0}))


LOGGED = {"a": 0.5, "b": 0.6}


def test_a_logged_policy_gives_the_order_and_agrees_with_its_log() -> None:
    data = read_table(log_frame(), confidence="probability", logged_policy=LOGGED)
    assert data.models == ("a", "b", "c")  # not by cost
    np.testing.assert_array_equal(data.observed.sum(axis=0), [3, 2, 0])
    without = read_table(log_frame(), confidence="probability", models=["a", "b", "c"])
    assert same(data, without)


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        (("q2", "b"), None, r"query 'q2' must have a row of 'b', because the confidence of 'a' is 0.4 with"),
        (None, ("q1", "b"), r"query 'q1' must not have a row of 'b', because the confidence of 'a' is 0.7"),
        (None, ("q2", "c"), r"query 'q2' must not have a row of 'c', because the confidence of 'b' is 0.6"),
        (("q1", "a"), ("q1", "c"), r"query 'q1' has no row of 'a', which is asked first"),
    ],
)
def test_rows_that_contradict_the_logged_policy(drop: Any, add: Any, message: str) -> None:
    log = log_frame()
    if drop is not None:
        log = log[~((log["query"] == drop[0]) & (log["model"] == drop[1]))]
    if add is not None:
        log = pd.concat([log, log.iloc[:1].assign(query=add[0], model=add[1])], ignore_index=True)
    with pytest.raises(InputError, match=message):
        read_table(log, confidence="probability", logged_policy=LOGGED)


def test_a_logged_policy_may_abstain() -> None:
    """A query that is left without an answer goes no further, however low its confidence."""

    class Rule:
        models = ("a", "b", "c")
        thresholds = np.array([0.5, 0.6])
        abstain_thresholds = np.array([-np.inf, 0.3, 0.9])  # that of the last model says nothing of rows

    log = log_frame()
    with pytest.raises(
        InputError, match=r"'q3' must not have a row of 'c', .* is 0.2 with .* of abstaining of 0.3"
    ):
        read_table(log, confidence="probability", logged_policy=Rule())
    ended = log[~((log["query"] == "q3") & (log["model"] == "c"))]
    more = pd.DataFrame(
        {"query": "q4", "model": ["a", "b", "c"], "confidence": [0.1, 0.3, 0.5], "correct": 1, "cost": 1.0}
    )
    data = read_table(pd.concat([ended, more]), confidence="probability", logged_policy=Rule())
    np.testing.assert_array_equal(data.observed.sum(axis=0), [4, 3, 1])


def test_a_logged_policy_must_fit_the_table() -> None:
    def read(**kwargs: Any) -> CascadeData:
        return read_table(log_frame(), confidence="probability", **kwargs)

    with pytest.raises(InputError, match="every model but the last; got thresholds of 'a' for a table of"):
        read(logged_policy={"a": 0.5})
    with pytest.raises(InputError, match="threshold of model 'b' in logged_policy must be a number; got nan"):
        read(logged_policy={"a": 0.5, "b": float("nan")})
    with pytest.raises(InputError, match=r"models must be those of logged_policy, 'a', 'b', 'c', in that"):
        read(logged_policy=LOGGED, models=["b", "a", "c"])
