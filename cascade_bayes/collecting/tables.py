"""Rows of answers to a table that `read_table` takes, and to its file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cascade_bayes._kinds import TABLE, TABLE_MARK
from cascade_bayes._output import Output, write_output
from cascade_bayes.errors import InputError

if TYPE_CHECKING:
    import pandas

FORMATS = (".parquet", ".csv", ".jsonl")
"""Endings of the files that tables are written to."""


class Row(NamedTuple):
    """What one model answered to one question.

    Attributes
    ----------
    query, model
        Names of the question and the model.
    confidence
        Natural logarithm of a probability; None if the log holds none.
    correct
        1 if the answer is right, 0 if it is wrong, None if nobody has judged it.
    answer
        What was answered, as text.
    cost
        US dollars of all calls that the answer and its confidence took; None without prices.
    tokens_in, tokens_out
        Tokens of these calls; None if not known.
    latency_ms
        Milliseconds of these calls one after the other; None if not known.
    """

    query: str
    model: str
    confidence: float | None
    correct: int | None
    answer: str
    cost: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float | None = None


def table_of(rows: Sequence[Row]) -> pandas.DataFrame:
    """Return rows as a frame; columns of which nothing is known are left out, but for `confidence`."""
    import pandas as pd

    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    kept = {
        name: values
        for name, values in columns.items()
        if name == "confidence" or any(value is not None for value in values)
    }
    frame = pd.DataFrame(kept)
    for name in ("confidence", "cost", "latency_ms"):
        if name in frame:
            frame[name] = frame[name].astype("float64")
    for name in ("correct", "tokens_in", "tokens_out"):
        if name in frame:
            frame[name] = frame[name].astype("Int64" if frame[name].isna().any() else "int64")
    return frame


def check_output(path: str | Path) -> str:
    """Return the ending of the file that a table is to be written to (`InputError` if it is none of ours)."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"the output {str(path)!r} must end in one of {', '.join(FORMATS)}: what its name ends in tells "
            "the format. Name another file, such as results.parquet."
        )
    return suffix


def write_table(frame: pandas.DataFrame, output: str | Path | Output) -> None:
    """Write a table to a Parquet, CSV or JSON Lines file, by its ending: whole, or not at all."""
    suffix = check_output(output.path if isinstance(output, Output) else output)
    write_output(output, TABLE, {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines}[suffix](frame))


def _parquet(frame: pandas.DataFrame) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"schema": TABLE_MARK})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _csv(frame: pandas.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _lines(frame: pandas.DataFrame) -> bytes:
    lines = []
    for record in frame.to_dict("records"):
        lines.append(json.dumps({str(key): _json(value) for key, value in record.items()}, allow_nan=False))
    return "".join(f"{line}\n" for line in lines).encode()


def _json(value: object) -> object:
    """Return a cell as JSON has it: infinities as words, what is missing as null."""
    if value is None or value != value or type(value).__name__ == "NAType":
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def dollars_of(
    tokens_in: int | None, tokens_out: int | None, price: tuple[float, float] | None
) -> float | None:
    """Return what tokens cost in US dollars, at prices of a million of them."""
    if price is None or tokens_in is None or tokens_out is None:
        return None
    return (tokens_in * price[0] + tokens_out * price[1]) / 1e6


def counted(failed: Mapping[str, int]) -> str:
    """Return what failed in words, by kind, the most frequent first.

    Examples
    --------
    >>> counted({"refused": 1, "provider": 12})
    '12 provider faults, 1 refused'
    """
    words = {
        "provider": "provider fault",
        "scorer": "fault of the scorer",
        "budget": "left out for the limit",
    }
    told = []
    for kind, number in sorted(failed.items(), key=lambda item: -item[1]):
        word = words.get(kind, kind)
        plural = "s" if number > 1 and word.endswith("fault") else ""
        told.append(f"{number} {word.replace('fault of', 'faults of') if number > 1 else word}{plural}")
    return ", ".join(told)
