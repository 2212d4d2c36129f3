"""Tables of every form, right and wrong, against a reader that goes cell by cell.

A table is read as `read_table` does, and as the few lines of `Oracle` do, which share nothing with it. Either
both refuse it, the library with one `InputError` that names the place, or both read the same numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from fuzzing import examples, fuzz
from hypothesis import strategies as st
from pyarrow import parquet

from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading import read_table

Rows = list[dict[str, Any]]
KINDS = ("logprob", "probability", "score", "percent", "uncertainty", "nll", "perplexity")
MISSING = ["", " ", "NA", "n/a", "<NA>", "nan", "-nan", "NULL", "None"]


@dataclass(frozen=True)
class Example:
    """A table in some form, and what a person who reads its cells would say it holds."""

    form: str
    rows: Rows
    source: Any
    kind: str
    models: tuple[str, ...] | None
    commas: bool = False  # whether its numbers may have decimal commas


# ---------------------------------------------------------------------------------------------
# The oracle.


class WrongError(Exception):
    """The table says something that nobody could understand."""


def number_of(cell: Any) -> float:
    if isinstance(cell, bytes):
        cell = text_of(cell)
    if isinstance(cell, str):
        if cell.strip().lower() in {text.lower() for text in MISSING}:
            return math.nan
        text = cell.strip(" \t")
        if text.lower().lstrip("+-") in ("inf", "infinity") and len(text) - len(text.lstrip("+-")) <= 1:
            return -math.inf if text[0] == "-" else math.inf
        if not text or set(text) - set("0123456789+-.eE"):
            raise WrongError
        try:
            cell = Decimal(text)
        except InvalidOperation as error:
            raise WrongError from error
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return math.nan
    if isinstance(cell, Decimal):
        if cell.is_snan():
            raise WrongError
        value = float(cell)
        if math.isinf(value) and cell.is_finite():
            raise WrongError
        return value
    if isinstance(cell, np.generic) and not isinstance(cell, np.timedelta64 | np.bool_):
        cell = cell.item()
    if type(cell) is int:
        if abs(cell) >= 2**1024:
            raise WrongError
        return float(cell)
    if type(cell) is float:
        return cell
    raise WrongError


def percentage_of(cell: Any) -> float:
    """A number, with or without a sign of percent behind it, in hundredths where there is one."""
    text = text_of(cell) if isinstance(cell, bytes) else cell
    if isinstance(text, str) and text.strip(" \t").endswith("%"):
        digits = text.strip(" \t")[:-1].rstrip(" \t")
        check(digits != "" and not set(digits) - set("0123456789+-."))
        number_of(digits)
        return float(Decimal(digits) / 100)
    return number_of(cell)


def share_of(cell: Any) -> float:
    """A percentage on a scale to 100."""
    text = text_of(cell) if isinstance(cell, bytes) else cell
    if isinstance(text, str) and text.strip(" \t").endswith("%"):
        percentage_of(cell)
        return number_of(text.strip(" \t")[:-1].rstrip(" \t"))
    return number_of(cell)


RIGHT = ("true", "1", "1.0", "1,0", "yes", "t", "pass", "passed", "correct", "right", "c")
WRONG = ("false", "0", "0.0", "0,0", "no", "f", "fail", "failed", "incorrect", "wrong", "i")


def label_of(cell: Any) -> bool | None:
    if isinstance(cell, bytes):
        cell = text_of(cell)
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    if isinstance(cell, str) and cell.strip().lower() in (*RIGHT, *WRONG):
        return cell.strip().lower() in RIGHT
    value = number_of(cell)
    if math.isnan(value):
        return None
    if isinstance(cell, str) or value not in (0, 1):
        raise WrongError
    return value == 1


def text_of(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise WrongError from error


def name_of(cell: Any) -> str:
    if isinstance(cell, bytes):
        cell = text_of(cell)
    if isinstance(cell, date) and cell is not pd.NaT:
        return str(cell)
    if not isinstance(cell, str):
        if isinstance(cell, bool | np.bool_):
            return str(cell)
        if isinstance(cell, int) and abs(cell) >= 10**4300:
            raise WrongError
        if isinstance(cell, int):
            return str(cell)
        if isinstance(cell, Decimal):
            check(cell.is_finite())
            return str(cell)
        value = number_of(cell)
        check(not math.isnan(value))
        return str(int(value)) if isinstance(cell, float) and value.is_integer() else str(cell)
    if not cell.strip() or "\0" in cell or any(0xD800 <= ord(letter) < 0xE000 for letter in cell):
        raise WrongError
    return cell


def check(condition: bool) -> None:
    if not condition:
        raise WrongError


KNOWN = ("query", "model", "confidence", "correct", "cost", "latency_ms")

SCALES: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "logprob": (-math.inf, 0, lambda r: r),
    "probability": (0, 1, lambda r: r),
    "score": (-1e309, 1e309, lambda r: r),
    "percent": (0, 100, lambda r: r / 100),
    "uncertainty": (0, 1, lambda r: 1 - r),
    "nll": (0, math.inf, lambda r: -r),
    "perplexity": (1, math.inf, lambda r: -math.log(r)),
}


def our_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row by our names of columns, whatever their capital letters, blanks, underscores and hyphens."""

    def plain(name: str) -> str:
        return "".join(x for x in name.lower() if x not in " _-\t\n\r\u00a0\ufeff")

    ours = {plain(name): name for name in KNOWN}
    return {ours.get(plain(name), name): cell for name, cell in row.items()}


def same(one: Any, other: Any) -> bool:
    def missing(cell: Any) -> bool:
        if isinstance(cell, str):
            return cell.strip().lower() in {text.lower().strip() for text in MISSING}
        if isinstance(cell, Decimal):
            return cell.is_qnan()
        return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)

    if missing(one) and missing(other):
        return True
    return one is other if not isinstance(one, str | float | int) else one == other


def with_points(rows: Rows) -> Rows:
    """Decimal commas as points, if no number has a point and some comma cannot part thousands."""

    def form(cell: str) -> str:
        body = cell.strip(" \t").removesuffix("%").rstrip(" \t").lower()
        mantissa, _, power = body.partition("e")
        mantissa, power = (
            mantissa.removeprefix("-").removeprefix("+"),
            power.removeprefix("-").removeprefix("+"),
        )
        if "e" in body and not (power.isascii() and power.isdigit()):
            return ""
        for mark in ",.":
            before, found, after = mantissa.partition(mark)
            if found and after.isdigit() and (not before or before.isdigit()) and mantissa.isascii():
                parts = mark == "," and 1 <= len(before) <= 3 and before[0] != "0" and len(after) == 3
                return "thousands" if parts and "e" not in body and "%" not in cell else mark
        return ""

    numbers = [name for name in ("confidence", "cost", "latency_ms") if name in rows[0]] if rows else []
    forms = {form(row[name]) for row in rows for name in numbers}
    if "." in forms or "," not in forms:
        return rows
    return [
        row | {name: row[name].replace(",", ".") for name in numbers if form(row[name]) in (",", "thousands")}
        for row in rows
    ]


class Oracle:
    """Reads rows one by one; attributes are by pair of query and model."""

    def __init__(self, example: Example) -> None:
        rows = [our_names(row) for row in example.rows]
        columns = set().union(*rows) if rows else set()
        check({"query", "model", "confidence", "cost"} <= columns)
        if example.commas:
            rows = with_points(rows)
        named = [(name_of(row["query"]), name_of(row["model"]), row) for row in rows]
        first: dict[tuple[str, str], dict[str, Any]] = {}
        for query, model, row in named:
            kept = first.setdefault((query, model), row)
            check(all(same(kept[name], row[name]) for name in row if name in KNOWN))
        named = [(query, model, row) for (query, model), row in first.items()]
        self.models = list(dict.fromkeys(model for _, model, _ in named))
        for names in (self.models, list(dict.fromkeys(query for query, _, _ in named))):
            looks = {
                unicodedata.normalize("NFC", name.translate(dict.fromkeys((0x200B, 0x2060, 0xFEFF)))).strip()
                for name in names
            }
            check(len(looks) == len(names))
        if example.models is not None:
            check(set(example.models) <= set(self.models))
            self.models = list(example.models)
        check(2 <= len(self.models) <= 64)
        self.cells = {(q, m): row for q, m, row in named if m in self.models}
        kept = {query for query, _ in self.cells}
        self.queries = list(dict.fromkeys(query for query, _, _ in named if query in kept))
        read = {"probability": percentage_of, "uncertainty": percentage_of, "percent": share_of}
        raw = {pair: read.get(example.kind, number_of)(row["confidence"]) for pair, row in self.cells.items()}
        low, high, turn = SCALES[example.kind]
        for value in raw.values():
            check(math.isnan(value) or low <= value <= high)
            check(example.kind != "score" or not math.isinf(value))
        self.confidence = {pair: turn(value) for pair, value in raw.items()}
        self.cost = {pair: number_of(row["cost"]) for pair, row in self.cells.items()}
        check(all(0 <= value < math.inf for value in self.cost.values()))
        self.label = {pair: label_of(row.get("correct")) for pair, row in self.cells.items()}
        self.latency = {pair: number_of(row.get("latency_ms")) for pair, row in self.cells.items()}
        check(all(math.isnan(value) or 0 <= value < math.inf for value in self.latency.values()))
        for model in self.models:  # a mean of costs must be finite too
            with np.errstate(over="ignore"):
                check(np.isfinite(np.sum([self.cost[q, m] for q, m in self.cells if m == model])))


def agree(data: Any, oracle: Oracle, ordered: bool) -> None:
    """Compare what was read, cell by cell."""
    assert sorted(data.models) == sorted(oracle.models)
    if ordered:
        assert list(data.models) == oracle.models
    else:
        assert (np.diff(data.call_cost) >= -1e-11 * data.call_cost[1:]).all()
    assert data.query_ids.tolist() == oracle.queries
    read = [("confidence", data.confidence), ("cost", data.cost), ("latency", data.latency_ms)]
    for i, query in enumerate(oracle.queries):
        for j, model in enumerate(data.models):
            pair = (query, model)
            for name, values in read:
                if values is not None:
                    expected, value = getattr(oracle, name).get(pair, math.nan), float(values[i, j])
                    close = math.isclose(value, expected, rel_tol=1e-15)  # logarithms differ by a rounding
                    assert close or (math.isnan(value) and math.isnan(expected)), (name, pair)
            label = oracle.label.get(pair)
            assert (data.labelled[i, j], data.correct[i, j]) == (label is not None, bool(label)), pair


# ---------------------------------------------------------------------------------------------
# Tables.


def spelled(value: float, random: Random) -> Any:
    """Return a number in one of the ways in which tables have it."""
    ways: list[Callable[[float], Any]] = [
        float,
        np.float64,
        lambda x: np.float32(x) if abs(x) < 1e38 else x,
        repr,
        lambda x: f" {x!r}\t",
        lambda x: f"{x:.3e}",
        lambda x: f"{x:+.6E}",
        lambda x: Decimal(repr(x)),
    ]
    return random.choice(ways)(value)


def confidence(kind: str, random: Random) -> Any:
    if random.random() < 0.1:
        return random.choice([None, math.nan, *MISSING])
    value = random.random() ** random.choice([1, 20])
    if kind == "logprob":
        value = random.choice([-value, -1 / (value + 1e-9), -0.0, -math.inf])
        if math.isinf(value):
            return random.choice([value, "-inf", "-Infinity", " -INF "])
    if kind in ("probability", "percent", "uncertainty") and random.random() < 0.2:
        return f"{100 * value:.1f}{random.choice(['%', ' %'])}"
    if kind == "percent":
        value *= 100
    if kind == "nll":
        value = random.choice([value, 10 * value, 0.0, math.inf])
    if kind == "perplexity":
        value = random.choice([1 + value, 1 / (value + 1e-9) + 1, 1.0])
    if kind == "score":
        value = random.choice([-1, 1]) * value * 10.0 ** random.randint(-300, 300)
    return spelled(value, random)


EVIL: list[Any] = [
    *[
        "1_000",
        "0,5",
        "1 000",
        "１２",
        "٣",
        "0x1p3",
        "1e400",
        "9" * 400,
        "--1",
        "1e",
        ".",
        "+",
        "1\n",
        "sure",
    ],
    *[10**400, -(10**400), 10**5000, Decimal("sNaN"), Decimal("1e400"), Decimal("NaN"), True, np.False_],
    *[1 + 2j, np.complex128(1), np.timedelta64(1, "s"), date(2020, 1, 1), timedelta(1), pd.NaT, pd.NA],
    *[[1], {"a": 1}, (0.5,), np.array([0.5]), object(), b"0.5", b"\xff", b"q1", "", None, math.nan, math.inf],
    *[-math.inf, 2, -1, 7.5, "a\0", "\ud800", "q0 ", " a", 1.0, np.int64(1), np.float32(0.1), "true", "yes"],
    *["83.5%", "8e1%", "%", "50 %", "1,234", "0,93", "C", "incorrect", "maybe"],
]
"""Cells of which some are right in some columns; the oracle tells."""

LETTERS = "abz09 _-.,'\"\\/\t\n\r\u00e9e\u0301\u4e2d\U0001f600\u200b\u00a0#"


@st.composite
def tables(draw: st.DrawFn) -> Example:
    """Draw a table that is right, and in half of the cases put something wrong into it."""
    form, kind = draw(st.sampled_from(list(FORMS))), draw(st.sampled_from(KINDS))
    wrong = draw(st.booleans())
    random = Random(draw(st.integers(0, 2**32 - 1)))  # cell by cell, draws would take most of the time

    def names(letter: str, count: int) -> list[str]:
        return [
            f"{letter}{i}"
            + "".join(random.choice(LETTERS) for _ in range(random.randint(0, 4)) if random.random() < 0.3)
            for i in range(count)
        ]

    queries, models = names("q", random.randint(1, 6)), names("m", random.randint(2, 4))
    more = [name for name in ("correct", "latency_ms", "answer") if random.random() < 0.6]
    rows: Rows = []
    for query in queries:
        for model in models:
            if random.random() < 0.85:
                row = {"query": query, "model": model, "confidence": confidence(kind, random)}
                row["cost"] = spelled(random.random() * 10.0 ** random.randint(-6, 3), random)
                right = random.choice([0, 1, None])
                spellings = (
                    ["", None, "NA", math.nan]
                    if right is None
                    else [
                        right,
                        bool(right),
                        str(right),
                        f"{right}.0",
                        str(bool(right)),
                        f" {bool(right)} ".upper(),
                        float(right),
                        random.choice(RIGHT if right else WRONG),
                        random.choice(RIGHT if right else WRONG).upper(),
                    ]
                )
                row |= {
                    "correct": random.choice(spellings),
                    "answer": "".join(random.choice(LETTERS) for _ in "abc"),
                }
                row["latency_ms"] = random.choice([None, "", spelled(random.random() * 1e4, random)])
                rows.append({name: row[name] for name in ("query", "model", "confidence", "cost", *more)})
    random.shuffle(rows)
    if rows and wrong:
        spoil(rows, random)
    if random.random() < 0.3:
        spelling = {name: respelled(name, random) for name in columns_of(rows)}
        rows = [{spelling[name]: cell for name, cell in row.items()} for row in rows]
    commas = form == ".csv" and random.random() < 0.4
    if commas:
        rows, source = csv_text(rows, random, random.choice(";\t"))
    else:
        rows, source = FORMS[form](rows, random)
    chosen = None
    if random.random() < 0.2:
        chosen = tuple(random.sample(models, random.randint(2, len(models))))
    return Example(form, rows, source, kind, chosen, commas)


def respelled(name: str, random: Random) -> str:
    ways = [
        str.upper,
        str.title,
        lambda x: f" {x}",
        lambda x: x.replace("_", " "),
        lambda x: x.replace("_", "-"),
    ]
    return random.choice(ways)(name)


def spoil(rows: Rows, random: Random) -> None:
    what = random.choice(["cell", "cell", "cell", "cell", "twice", "column", "alike"])
    row = random.choice(rows)
    if what == "cell":
        row[random.choice(list(row))] = random.choice(EVIL)
    elif what == "twice":
        again = dict(random.choice(rows))
        if random.random() < 0.5:
            again["cost"] = 0.75
        rows.insert(random.randrange(len(rows) + 1), again)
    elif what == "column":
        gone = random.choice(list(row))
        for each in rows:
            del each[gone]
    else:
        column = random.choice(["query", "model"])
        row[column] = random.choice([" {}", "{} ", "\ufeff{}", "{}\u00a0", "{}\u0301"]).format(row[column])


# ---------------------------------------------------------------------------------------------
# Files: the rows are what the text says, by Python's own readers of it.


def csv_text(rows: Rows, random: Random, delimiter: str = ",") -> tuple[Rows, str]:
    """Write a CSV file, sometimes with an accident, and return what it holds.

    Where no commas stand between fields, numbers have decimal commas more often than not.
    """
    columns = columns_of(rows)
    out = io.StringIO()
    style = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    ends = random.choice(["\n", "\r\n"])
    writer = csv.writer(out, quoting=style, lineterminator=ends, delimiter=delimiter)
    writer.writerow(columns)
    points = delimiter == "," or random.random() < 0.3
    for row in rows:
        cells = {name: "" if row[name] is None else _as_text(row[name]) for name in columns}
        if not points:
            for name in columns:
                if name.lower().strip() not in ("query", "model", "answer", "correct"):
                    cells[name] = cells[name].replace(".", ",")
        writer.writerow([cells[name] for name in columns])
    text = accident(out.getvalue(), random, '",\n\r 0.-e')
    return csv_rows(text, delimiter), text


def _as_text(cell: Any) -> str:
    if isinstance(cell, int) and abs(cell) > 10**4000:
        return "9" * 400
    return str(cell).replace("\ud800", "?")


def csv_rows(text: str, delimiter: str = ",") -> Rows:
    if "\ufeff" in text[:1]:
        text = text[1:]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        lines = [line for line in reader if line]
    except csv.Error:
        return []
    if not lines or len(set(lines[0])) < len(lines[0]) or any(len(line) != len(lines[0]) for line in lines):
        return []
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def json_text(rows: Rows, random: Random) -> tuple[Rows, str]:
    """Write JSON Lines or an array of objects, sometimes with an accident, and return what it holds."""
    simple = str | int | float | bool | None
    lines = []
    for row in rows:
        cells = {k: v if isinstance(v, simple) else _json_cell(v) for k, v in row.items()}
        cells = {k: v if not isinstance(v, int) or abs(v) < 10**4000 else 10**401 for k, v in cells.items()}
        if random.random() < 0.2:
            cells = {k: v for k, v in cells.items() if v is not None}
        lines.append(json.dumps(cells, ensure_ascii=random.random() < 0.7).replace("\ud800", "?"))
    array = random.random() < 0.3
    text = "[" + ",\n".join(lines) + "]" if array else "".join(line + "\n" for line in lines)
    text = accident(text, random, '",{}[]:0e\n')
    return json_rows(text), text


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, np.floating | np.int64):
        return cell.item()
    return list(cell) if isinstance(cell, tuple | list) else str(cell)


def json_rows(text: str) -> Rows:
    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check(len(dict(pairs)) == len(pairs))
        return dict(pairs)

    def real(part: str) -> float | Decimal:
        return float(part) if math.isfinite(float(part)) else Decimal(part)

    def parse(part: str) -> Any:
        return json.loads(part, parse_float=real, object_pairs_hook=record)

    text = text.removeprefix("\ufeff")
    try:
        if text.lstrip().startswith("["):
            rows = parse(text)
        else:
            rows = [parse(line) for line in text.split("\n") if line.strip()]
    except (ValueError, WrongError):
        return []
    if not all(isinstance(row, dict) for row in rows):
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]


def accident(text: str, random: Random, letters: str) -> str:
    """Cut a text, or change a little of it; in most cases leave it."""
    at = random.randrange(len(text) + 1)
    return random.choice(
        [
            *[text] * 6,
            "\ufeff" + text,
            text[:at],
            text[: max(len(text) - random.randint(1, 6), 0)],
            text[:at] + random.choice(letters) + text[at:],
            text[:at] + text[at + 1 :],
            text[:at] + text[at + random.randint(0, 60) :],
        ]
    )


def object_frame(rows: Rows, random: Random) -> tuple[Rows, pd.DataFrame]:
    """Return a frame of Python objects; some with query or model in the index."""
    frame = pd.DataFrame(index=range(len(rows)))
    for name in columns_of(rows):
        values = np.empty(len(rows), dtype=object)
        for i, row in enumerate(rows):
            values[i] = row[name]
        frame[name] = pd.Series(values, dtype=object)
    return rows, frame


def typed_frame(rows: Rows, random: Random) -> tuple[Rows, pd.DataFrame]:
    rows, frame = object_frame(rows, random)
    if any(cell == "\ud800" for row in rows for cell in row.values() if isinstance(cell, str)):
        return rows, frame  # no typed column can hold it
    frame = frame.infer_objects()
    return rows, frame.convert_dtypes() if random.random() < 0.5 else frame


def as_text(rows: Rows) -> Rows:
    return [{name: _as_text(cell) for name, cell in row.items()} for row in rows]


def indexed_frame(rows: Rows, random: Random) -> tuple[Rows, pd.DataFrame]:
    """Return a frame of text, with query or model in its index or as categories."""
    rows = as_text(rows)
    frame = pd.DataFrame(rows, columns=columns_of(rows), dtype=str)
    name = random.choice(columns_of(rows))
    if random.random() < 0.5:
        return rows, frame.astype({name: "category"})
    return rows, frame.set_index(name, drop=random.random() < 0.7)


def polars_frame(rows: Rows, random: Random) -> tuple[Rows, pl.DataFrame]:
    rows = as_text(rows)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns_of(rows), pl.String))
    name = random.choice(columns_of(rows))
    return rows, frame.with_columns(pl.col(name).cast(random.choice([pl.String, pl.Categorical, pl.Binary])))


def arrow_table(rows: Rows, random: Random) -> tuple[Rows, pa.Table]:
    rows = as_text(rows)
    arrays = {name: pa.array([row[name] for row in rows], pa.string()) for name in columns_of(rows)}
    name = random.choice(columns_of(rows))
    arrays[name] = random.choice([pa.Array.dictionary_encode, lambda a: a.cast(pa.binary())])(arrays[name])
    return rows, pa.table(arrays)


def columns_of(rows: Rows) -> list[str]:
    return list(rows[0]) if rows else ["query", "model", "confidence", "cost"]


FORMS: dict[str, Callable[[Rows, Random], tuple[Rows, Any]]] = {
    "objects": object_frame,
    "types": typed_frame,
    "index": indexed_frame,
    "polars": polars_frame,
    "arrow": arrow_table,
    ".csv": csv_text,
    ".jsonl": json_text,
    ".json": json_text,
    ".parquet": arrow_table,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def written(example: Example, folder: Path) -> Any:
    """Return the frame, or the path of a file that holds the example."""
    if not example.form.startswith("."):
        return example.source
    path = folder / f"table{example.form}"
    if example.form == ".parquet":
        parquet.write_table(example.source, path)
    else:
        path.write_bytes(example.source.encode())
    return path


@examples
def test_tables_are_read_as_they_stand_or_refused(
    num_examples: int, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    def check_one(example: Example) -> str:
        source = written(example, folder)
        before = source.read_bytes() if isinstance(source, Path) else b""
        try:
            oracle = Oracle(example)
        except WrongError:
            oracle = None
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                data = read_table(source, confidence=example.kind, models=example.models)
        except InputError as error:
            message = str(error)
            assert oracle is None, message
            assert message.endswith(".")
            assert "\n" not in message
            assert len(message) < 1000
            result = "refused"
        else:
            assert oracle is not None
            agree(data, oracle, example.models is not None)
            assert all(issubclass(warning.category, DataWarning) for warning in told)
            for warning in told:
                if "says the same of the same query and model" in str(warning.message):
                    assert len(example.rows) > len(
                        {tuple(map(str, our_names(r).values())) for r in example.rows}
                    )
                else:
                    assert example.form == ".csv"
                    assert example.source[-1] not in "\r\n"
            result = "accepted with a warning" if told else "accepted"
        assert before == (source.read_bytes() if isinstance(source, Path) else b"")
        return result

    fuzz("tables", tables(), check_one, num_examples, record_property)


@examples
def test_files_with_wrong_bytes_end_in_a_sentence(
    num_examples: int, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    """What is damaged inside its numbers may be read; nothing says so but the file's own checks."""
    rows = [
        {"query": f"q{i}\u00e9", "model": model, "confidence": -0.1 * i, "cost": 1.0}
        for i in range(10)
        for model in "ab"
    ]
    pd.DataFrame(rows).to_parquet(folder / "whole.parquet")
    pd.DataFrame(rows).to_csv(folder / "whole.csv", index=False)
    (folder / "whole.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def check_one(damage: tuple[str, list[tuple[float, int]], float]) -> str:
        form, changes, kept = damage
        content = bytearray((folder / f"whole{form}").read_bytes())
        for place, value in changes:
            content[-1 - int(place * len(content))] = value
        path = folder / f"damaged{form}"
        path.write_bytes(content[: round(kept * len(content))])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                read_table(path)
        except InputError as error:
            message = str(error)
            assert message.endswith(".")
            assert message.isprintable()
            assert len(message) < 1000
            return "refused"
        return "accepted"

    places = st.floats(0.0, 1.0, exclude_max=True)
    damages = st.tuples(
        st.sampled_from([".parquet", ".csv", ".jsonl"]),
        st.lists(st.tuples(places, st.integers(0, 255)), max_size=3),
        st.one_of(st.just(1.0), st.just(1.0), places),
    )
    fuzz("damaged files", damages, check_one, num_examples, record_property)
