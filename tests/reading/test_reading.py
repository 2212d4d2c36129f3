"""Tables that are wrong in a way a careless reader does not see: nothing is guessed, every place is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading import AsFitted, cells, read_for_policy, read_table


def table(**changes: Any) -> pd.DataFrame:
    """Two queries and two models."""
    columns: dict[str, Any] = {
        "query": ["q1", "q1", "q2", "q2"],
        "model": ["a", "b", "a", "b"],
        "confidence": [-0.1, -0.2, -0.3, -0.4],
        "correct": [1, 0, 1, 0],
        "cost": [1.0, 2.0, 1.0, 2.0],
    }
    return pd.DataFrame(columns | changes)


def with_cell(column: str, value: Any) -> pd.DataFrame:
    """Return the table with another value in row 2."""
    frame = table().astype(object)
    frame.at[1, column] = value
    return frame


def refused(read: Callable[[], Any], error: type[Exception] = InputError) -> str:
    with pytest.raises(error) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("-0.25", -0.25), ("+1", 1), (".5", 0.5), ("5.", 5), ("1E-3", 1e-3), (" 7\t", 7), ("007", 7)],
        *[("inf", math.inf), ("-Infinity", -math.inf), ("+INF", math.inf), ("1e-400", 0.0)],
    ],
)
def test_numbers_in_text(text: str, value: float) -> None:
    assert cells.number(text) == value


@pytest.mark.parametrize("text", ["", " ", "NA", "n/a", "NaN", "-nan", "null", "None", "<NA>"])
def test_missing_numbers_in_text(text: str) -> None:
    assert math.isnan(cells.number(text))


@pytest.mark.parametrize("value", [-1, np.float32(0.5), np.int8(3), Decimal("0.25"), np.float64(-math.inf)])
def test_numbers_of_every_type(value: Any) -> None:
    assert cells.number(value) == float(value)


SEPARATED = "Write numbers in plain digits with a decimal point, without separators: 1000.5."
BEYOND = "It is beyond the range of 64-bit numbers: correct it."
NO_NUMBER: list[tuple[Any, str, str]] = [
    ("1_000", "'1_000'", SEPARATED),
    ("0,5", "'0,5'", SEPARATED),
    ("1 000", "'1 000'", SEPARATED),
    ("１２", "'１２'", SEPARATED),
    ("٣", "'٣'", SEPARATED),
    ("0x1p3", "'0x1p3'", "Correct it."),
    ("1\n", "'1\\n'", "Correct it."),
    ("1e400", "'1e400'", BEYOND),
    ("9" * 400, "'" + "9" * 56 + "...", BEYOND),
    (10**400, "a whole number of about 401 digits", BEYOND),
    (10**5000, "a whole number of about 5001 digits", BEYOND),
    (Decimal("1e400"), "Decimal('1E+400')", BEYOND),
    (Decimal("sNaN"), "Decimal('sNaN')", "Correct it."),
    (True, "True", "Correct it."),
    (np.False_, "False", "Correct it."),
    (1 + 2j, "(1+2j)", "Correct it."),
    (np.complex64(1), "(1+0j)", "Correct it."),
    (np.datetime64("2020-01-01"), "datetime.date(2020, 1, 1)", "Correct it."),
    (np.timedelta64(1, "s"), "datetime.timedelta(seconds=1)", "Correct it."),
    (pd.Timestamp("2020-01-01"), "Timestamp('2020-01-01 00:00:00')", "Correct it."),
    ([0.1], "[0.1]", "Correct it."),
    ({"value": 0.1}, "{'value': 0.1}", "Correct it."),
    ((0.1,), "(0.1,)", "Correct it."),
    (np.array([0.1]), "array([0.1])", "Correct it."),
    (list(range(100_000)), "[0, 1, 2, 3, 4, 5, ...]", "Correct it."),
]


@pytest.mark.parametrize(("value", "shown", "remedy"), NO_NUMBER, ids=[str(s)[:30] for _, s, _ in NO_NUMBER])
def test_what_is_no_number(value: Any, shown: str, remedy: str) -> None:
    values = pd.Series([-0.1, value, -0.3, -0.4], dtype=object)
    message = refused(lambda: read_table(table(confidence=values)))
    assert message.startswith("confidence of model 'b' must be a number; got ")
    assert f"got {shown}" in message
    assert message.endswith(f" in row 2 (query 'q1'). {remedy}")


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("column", ["query", "model", "confidence", "correct", "cost"])
def test_a_deeply_nested_list_in_a_cell(column: str) -> None:
    values = list(table()[column])
    values[1] = nested(100_000)
    frame = table(**{column: pd.Series(values, dtype=object)})
    assert "got [[[[[[[...]]]]]]] in row 2" in refused(lambda: read_table(frame))


NO_NAME: list[Any] = [[1], {"a": 1}, (1,), 1 + 2j, Decimal("sNaN"), 10**5000, "a\0", "\ud800"]


@pytest.mark.parametrize("value", NO_NAME, ids=range(len(NO_NAME)))
@pytest.mark.parametrize("column", ["query", "model"])
def test_what_is_no_name(column: str, value: Any) -> None:
    values = list(table()[column])
    values[1] = value
    message = refused(lambda: read_table(table(**{column: pd.Series(values, dtype=object)})))
    assert message.startswith(f"{column} must be a plain value, text or a number; got ")
    assert " in row 2. " in message


@pytest.mark.parametrize("value", [2, "maybe", 0.5, 1j, 10**400, Decimal("sNaN"), "１", [1], timedelta(1)])
def test_what_is_no_label(value: Any) -> None:
    values = [1, value, None, 0]
    message = refused(lambda: read_table(table(correct=pd.Series(values, dtype=object))))
    assert message.startswith("correct of model 'b' must be 0 or 1, true or false, yes or no")


COLUMNS: dict[str, tuple[Any, str]] = {
    "complex": (np.array([-1 + 1j] * 4), "got (-1+1j)"),
    "times": (pd.to_datetime(["2020-01-01"] * 4), "got Timestamp('2020-01-01 00:00:00')"),
    "durations": (pd.to_timedelta([-1, -2, -3, -4], unit="s"), "got Timedelta('-1 days +23:59:59')"),
    "days of Arrow": (
        pd.array([date(2020, 1, 1)] * 4, dtype=pd.ArrowDtype(pa.date32())),
        "got datetime.date",
    ),
    "truths": (np.array([True] * 4), "got True"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_are_no_numbers(case: str) -> None:
    values, shown = COLUMNS[case]
    assert f"must be a number; {shown}" in refused(lambda: read_table(table(cost=values)))


def test_frames_of_polars() -> None:
    frame = pl.from_pandas(table())
    expected = read_table(table()).cost
    for dtype in (pl.Int128, pl.UInt8, pl.Float32, pl.Decimal(10, 2), pl.String):
        np.testing.assert_array_equal(
            read_table(frame.with_columns(pl.col("cost").cast(dtype))).cost, expected
        )
    for dtype in (pl.Categorical, pl.Binary):
        changed = frame.with_columns(pl.col("query", "model").cast(dtype))
        assert read_table(changed).query_ids.tolist() == ["q1", "q2"]
    days = frame.with_columns(cost=pl.Series([date(2020, 1, 1)] * 4))
    assert "got datetime.date(2020, 1, 1) in row 1" in refused(lambda: read_table(days))
    lists = frame.with_columns(confidence=pl.Series([[-0.1]] * 4))
    assert "must be a number; got [-0.1] in row 1" in refused(lambda: read_table(lists))
    np.testing.assert_array_equal(read_table(frame.lazy()).cost, expected)


def test_bytes_are_text_if_they_can_be(tmp_path: Path) -> None:
    binary = [pa.array([str(x).encode() for x in table()[name]]) for name in table().columns]
    parquet.write_table(pa.table(binary, names=list(table().columns)), tmp_path / "t.parquet")
    data = read_table(tmp_path / "t.parquet")
    assert (data.models, data.query_ids.tolist()) == (("a", "b"), ["q1", "q2"])
    np.testing.assert_array_equal(data.confidence, read_table(table()).confidence)
    message = refused(lambda: read_table(with_cell("query", b"\xff\xfe")))
    assert "query must be text or a number; got the bytes b'\\xff\\xfe', which are not UTF-8" in message
    assert "in row 2." in message


def test_nothing_of_a_frame_is_changed() -> None:
    frame = with_cell("query", b"q1")
    before = frame.copy(deep=True)
    read_table(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("model", "a", "a "),
        ("model", "a", "\u00a0a"),
        ("query", "q1", "q1\u200b"),
        ("query", "caf\u00e9", "cafe\u0301"),
    ],
)
def test_names_that_look_alike(column: str, first: str, second: str) -> None:
    frame = table()
    frame[column] = [first, "other", second, "other"]
    message = refused(lambda: read_table(frame))
    assert f"names in column {column!r} must differ by more than spaces around them" in message
    assert "in row 1 and" in message
    assert "in row 3 do not. Write them alike." in message


def test_a_name_keeps_its_spaces() -> None:
    assert read_table(table(model=["a ", "b", "a ", "b"])).models == ("a ", "b")


# ---------------------------------------------------------------------------------------------
# Files.

HEAD = "query,model,confidence,cost\nq1,a,-0.1,1\nq1,b,-0.2,2\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("last", ["q2,a,-0.3,0.", "q2,a,-0.3,0.7", "q2,a,-0.3,12"])
def test_a_csv_file_that_may_end_too_early(last: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", HEAD + last)
    cost = last.rsplit(",", 1)[1]
    with pytest.warns(DataWarning, match=rf"inside cost '{cost}' of its last row \(query 'q2', model 'a'"):
        data = read_table(path, models=["a", "b"])
    assert data.cost[1, 0] == float(cost)
    whole = read_table(
        written(path, HEAD + last + "\n"), models=["a", "b"]
    )  # what the remedy says, without a word
    np.testing.assert_array_equal(whole.cost, data.cost)


def test_no_word_where_nothing_can_be_lost(tmp_path: Path) -> None:
    labelled = "query,model,confidence,cost,correct\nq1,a,-0.1,1,1\nq1,b,-0.2,2,"
    assert read_table(written(tmp_path / "t.csv", labelled + "0")).labelled.all()
    with pytest.warns(DataWarning, match="inside correct ''"):
        read_table(written(tmp_path / "t.csv", labelled))
    answers = "query,model,confidence,cost,answer\nq1,a,-0.1,1,A\nq1,b,-0.2,2,B and "
    assert read_table(written(tmp_path / "t.csv", answers)).num_models == 2


QUOTES = "query,model,confidence,cost,answer\nq1,a,-0.1,1,{}\nq1,b,-0.2,2,{}\n"


@pytest.mark.parametrize("answers", [('"yes', "no"), ('"yes', '"no'), ('"a"b', "no"), ("yes", '"')])
def test_a_quotation_mark_swallows_no_rows(answers: tuple[str, str], tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", QUOTES.format(*answers))
    message = refused(lambda: read_table(path))
    line = 3 if answers[0] == "yes" else 2
    assert f"opens with a quotation mark and has no proper end; it is in line {line}." in message


@pytest.mark.parametrize("answers", [('"yes\nand"', '"a ""b"""'), ('""', '""""'), ('5" long', 'a "b"')])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_quoted_fields_are_read(answers: tuple[str, str], mark: str, newline: str, tmp_path: Path) -> None:
    text = (mark + QUOTES.format(*answers).replace("query", '"query"')).replace("\n", newline)
    assert read_table(written(tmp_path / "t.csv", text)).cost.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_files_in_another_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.endswith("be") else ""
    rows = table(query=["q\u00e9", "q\u00e9", "q2", "q2"])
    text = rows.to_csv(index=False) if name == "t.csv" else rows.to_json(orient="records", lines=True)
    path = written(tmp_path / name, (mark + text).encode(encoding))
    data = read_table(path)
    assert data.query_ids.tolist() == ["q\u00e9", "q2"]
    np.testing.assert_array_equal(data.confidence, read_table(table()).confidence)
    path.write_bytes(path.read_bytes()[:-1])
    assert "it may have been cut short. Save it again, as UTF-8." in refused(lambda: read_table(path))


def test_a_parquet_file_with_undecodable_text(tmp_path: Path) -> None:
    raw = pa.array([b"q1", b"q\xff"])
    text = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])  # unchecked
    columns = {"query": text, "model": ["a", "b"], "confidence": [-0.1, -0.2], "cost": [1.0, 2.0]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert "column 'query' of the table" in refused(lambda: read_table(tmp_path / "t.parquet"))
    assert "column 'query' of the table" in refused(lambda: read_table(pa.table(columns)))


def test_a_row_may_be_long(tmp_path: Path) -> None:
    """pyarrow reads blocks of a megabyte, and takes a longer row for a file that was cut."""
    path = written(tmp_path / "t.csv", QUOTES.format("x" * 1_100_000, "y"))
    assert read_table(path).num_models == 2


@pytest.mark.parametrize("content", ["[" * 100_000, '{"query": ' * 100_000])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_brackets_nested_too_deeply(content: str, name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, content)
    assert "as JSON Lines: its brackets are nested too deeply." in refused(lambda: read_table(path))
    prices = written(tmp_path / "prices.json", content)
    assert "has brackets nested too deeply" in refused(lambda: read_table(table(), prices=prices))


def json_rows(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


def test_a_key_that_occurs_twice(tmp_path: Path) -> None:
    first = '{"query": "q", "model": "a", "confidence": -1, "cost": 1}'
    second = '{"query": "q", "model": "b", "confidence": -1, "cost": 1, "cost": 2}'
    path = written(tmp_path / "t.jsonl", json_rows(first, second))
    expected = "as JSON Lines: row 2: the key 'cost' occurs twice in one object. Keep one of the two."
    assert expected in refused(lambda: read_table(path))
    array = written(tmp_path / "t.json", f"[{first}, {second}]")
    assert "the key 'cost' occurs twice in one object" in refused(lambda: read_table(array))
    prices = written(tmp_path / "p.json", '{"a": {"in": 1, "out": 1}, "a": {"in": 2, "out": 2}}')
    assert "the key 'a' occurs twice" in refused(lambda: read_table(table(), prices=prices))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "1E+0400"])
def test_numbers_in_json_beyond_the_range_of_floats(number: str, tmp_path: Path) -> None:
    row = '{"query": "q", "model": "a", "confidence": -%s, "cost": 1}'
    path = written(tmp_path / "t.jsonl", json_rows(row % number, (row % "0.1").replace('"a"', '"b"')))
    message = refused(lambda: read_table(path))
    assert message.startswith("confidence of model 'a' must be a number; got ")
    assert message.endswith(f"in row 1 (query 'q'). {BEYOND}")


def test_a_name_too_long_for_a_file() -> None:
    assert "cannot be read: File name too long. Check the path" in refused(
        lambda: read_table("x" * 300 + ".csv")
    )


def test_many_columns_make_a_short_message() -> None:
    frame = pd.DataFrame({f"column {i}": [1] for i in range(10_000)})
    message = refused(lambda: read_table(frame))
    assert "has no column 'query', 'model' or 'confidence'; it has 'column 0', 'column 1'" in message


def test_many_models_make_a_short_message() -> None:
    names = ["x" * 5000, *(f"m{i}" for i in range(20_000))]
    frame = pd.DataFrame({"query": "q", "model": names, "confidence": -0.1, "cost": 1.0})
    assert "not in the data" in refused(lambda: read_table(frame, models=["m1", "y" * 5000]))
    assert "not in the data. Did you mean 'm1999" in refused(
        lambda: read_table(frame, models=["m19999x", "m2"])
    )
    refused(lambda: read_for_policy(frame, ["absent", "m1"], AsFitted("logprob")))


# ---------------------------------------------------------------------------------------------
# Query and model swapped.


def swapped(queries: int) -> pd.DataFrame:
    names = [f"q{i}" for i in range(queries)]
    one = pd.DataFrame({"query": "small", "model": names, "confidence": -0.1, "cost": 1.0})
    return pd.concat([one, one.assign(query="large", confidence=-0.2, cost=2.0)], ignore_index=True)


@pytest.mark.parametrize("queries", [65, 20_000])
def test_query_and_model_swapped(queries: int) -> None:
    message = refused(lambda: read_table(swapped(queries)))
    assert f"may have at most 64 models; the table has {queries} models and 2 queries" in message
    assert "The columns 'query' and 'model' look swapped: rename them" in message


def test_as_many_models_as_there_may_be() -> None:
    assert read_table(swapped(64)).num_models == 64
    assert read_table(swapped(65), models=["q3", "q1"]).models == ("q3", "q1")  # as the message says
    with pytest.raises(InputError, match="at most 64 models; the table has 65 models"):
        read_table(swapped(65), models=[f"q{i}" for i in range(65)])


def test_models_that_are_queries() -> None:
    for read in (
        lambda: read_table(swapped(5), models=["small", "large"]),
        lambda: read_for_policy(swapped(5), ["small", "large"], AsFitted("logprob")),
    ):
        message = refused(read)
        assert "'large', 'small'" in message
        assert "'query' and 'model' look swapped. Rename them." in message


def test_more_models_than_queries_are_not_always_swapped() -> None:
    rows = [(f"q{i}", f"m{i % 70}", -0.1, 1.0) for i in range(700)]
    frame = pd.DataFrame(rows, columns=["query", "model", "confidence", "cost"])
    assert "Column 'model' may hold something else" in refused(lambda: read_table(frame))


def test_names_that_would_fill_the_memory() -> None:
    frame = pd.DataFrame({"query": ["x" * 1_000_000, *map(str, range(600))], "model": "a", "confidence": -1})
    frame = pd.concat([frame, frame.assign(model="b")]).assign(cost=1.0)
    assert "601 queries of 2 models, with query names of up to 1000000" in refused(lambda: read_table(frame))


# ---------------------------------------------------------------------------------------------
# Arguments.


@pytest.mark.parametrize("kind", [None, 5, ["logprob"], {}])
def test_kinds_of_another_type(kind: Any) -> None:
    assert "must be one of the kinds" in refused(lambda: read_table(table(), confidence=kind))


@pytest.mark.parametrize("policy", ["policy.json", 5, ["a"], object(), pl.DataFrame()])
def test_logged_policies_of_another_type(policy: Any) -> None:
    message = refused(lambda: read_table(table(), logged_policy=policy), TypeError)
    assert message == (
        "logged_policy must be a Policy, or a mapping of model to threshold such as {'a': -0.2}; "
        f"got {type(policy).__name__}."
    )


@pytest.mark.parametrize("threshold", ["high", None, [1], True, 10**400])
def test_logged_thresholds_of_another_type(threshold: Any) -> None:
    message = refused(lambda: read_table(table(), logged_policy={"a": threshold}))
    assert "the threshold of model 'a' in logged_policy must be a number; got " in message


@pytest.mark.parametrize("models", [5, {"a", "b"}, {"a": 1}, b"ab"])
@pytest.mark.parametrize("policy", [None, {"a": -0.2}])
def test_lists_of_models_of_another_type(models: Any, policy: Any) -> None:
    message = refused(lambda: read_table(table(), models=models, logged_policy=policy), TypeError)
    assert message == f"models must be a list of names in cascade order; got {type(models).__name__}."


def test_a_map_of_another_type() -> None:
    not_a_map: Any = 5
    assert "must be a ConfidenceMap" in refused(
        lambda: read_table(table(), confidence_map=not_a_map), TypeError
    )


@pytest.mark.parametrize("price", [10**400, Decimal("sNaN"), [1], True, "1", None, float("nan"), 1j])
def test_prices_of_another_type(price: Any) -> None:
    message = refused(lambda: read_table(table(), prices={"a": {"in": price, "out": 1}}))
    assert "the prices must give a finite number >= 0 as 'in' of model 'a'; got " in message


def test_prices_per_token() -> None:
    tokens = {"tokens_in": 100, "tokens_out": 10}
    per_token = {"a": {"in": 1.5e-7, "out": 6e-7}, "b": {"in": 2.5e-6, "out": 1e-5}}
    message = refused(lambda: read_table(table(**tokens), prices=per_token))
    assert "those of model 'a', 1.5e-07 in and 6e-07 out, look like prices per token. Multiply" in message
    per_million = {m: {side: 1e6 * p for side, p in pair.items()} for m, pair in per_token.items()}
    np.testing.assert_allclose(read_table(table(**tokens), prices=per_million).cost[0], [2.1e-5, 3.5e-4])
    assert "look like prices per token" in refused(  # one model is enough
        lambda: read_table(table(**tokens), prices=per_million | {"b": per_token["b"]})
    )
    free = {"a": {"in": 0, "out": 0}, "b": {"in": 0, "out": 0.01}}
    assert read_table(table(**tokens), prices=free).cost[0, 0] == 0.0


def test_a_probability_that_stands_for_none() -> None:
    values = [0.9, -1, 0.7, -1]
    message = refused(lambda: read_table(table(confidence=values), confidence="probability"))
    assert "If it stands for a confidence that is not known, leave it empty." in message
    assert json.dumps(message)
