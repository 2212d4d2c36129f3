"""Files and frames to arrays, one for each known column.

An array holds either numbers or Python objects as they stand in the source; `cells` judges them. pandas,
polars and pyarrow are imported inside the functions that need them, so that importing the library does not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import names_of
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.dialect import with_decimal_points
from cascade_bayes.reading.files import Choice, Column, Source, errors_of_arrow, one_line, read_file
from cascade_bayes.reading.headings import complain, guesses, resolve, typed
from cascade_bayes.reading.layout import REQUIRED, Layout
from cascade_bayes.reading.wide import find_wide, looks_wide, to_long


class Loaded(NamedTuple):
    """A table as arrays.

    Attributes
    ----------
    columns
        Numbers or objects, ``(num_rows,)``, by the names of this library (`cascade_bayes.reading.layout`).
    row_numbers
        Which row of the source each entry is of, counted from 1, ``(num_rows,)``.
    """

    columns: dict[str, NDArray[Any]]
    row_numbers: NDArray[np.int64]


def load_columns(source: Any, layout: Layout, kind: str) -> Loaded:
    """Read a path or frame into arrays, one for each of our columns that it has.

    Parameters
    ----------
    source
        A path or a frame.
    layout
        How the table is laid out.
    kind
        What its confidences are said to be, for messages.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of an unknown format; if a required column is missing,
        a known column occurs twice, or there are no rows.
    TypeError
        If the source is neither a path nor a frame.

    Warns
    -----
    DataWarning
        If a CSV file may have been cut short inside its last field, or what may be labels is not read.
    """

    def choose(names: Sequence[str]) -> dict[str, str]:
        if layout.wide:
            cells = find_wide(names, layout, place)
            roles = {name: ours for (ours, _), name in cells.cells.items()} | {cells.query: "query"}
        else:
            roles = {theirs: ours for ours, theirs in resolve(names, layout, place).items()}
        scored = layout.correct_above is not None
        return {name: "score" if scored and ours == "correct" else ours for name, ours in roles.items()}

    if isinstance(source, str | os.PathLike):
        place = f"table {os.fsdecode(source)!r}"
        read = read_file(Path(os.fsdecode(source)), place, choose)
    else:
        place = "table"
        read = Source(columns_of(source, choose))
    found = [column.name for column in read.columns]
    wide = find_wide(found, layout, place) if layout.wide else None
    if wide is None:
        names = resolve(found, layout, place)
        _check_names(found, names, layout, place, kind)
        wanted = set(names.values())
    else:
        wanted = {wide.query, *wide.cells.values()}
        if wide.lone:
            warnings.warn(
                f"columns {names_of(wide.lone)} of the {place} are of no model that has confidences, and "
                "are left out.",
                DataWarning,
                stacklevel=2,
            )
    for name in found:
        if name in wanted and found.count(name) > 1:
            raise InputError(f"the {place} has {found.count(name)} columns {name!r}; keep one of them.")
    arrays = {c.name: _array(c.values, c.name, place) for c in read.columns if c.name in wanted}
    if read.separator not in (None, ","):
        roles = choose(found)
        texts = {name for name, ours in roles.items() if ours not in ("query", "model", "correct")}
        arrays = with_decimal_points(arrays, sorted(texts))
    if not arrays or len(next(iter(arrays.values()))) == 0:
        raise InputError(f"the {place} has no rows; it needs one row per query and model.")
    if wide is not None:
        return Loaded(*to_long(arrays, wide))
    columns = {ours: arrays[theirs] for ours, theirs in names.items()}
    return Loaded(columns, np.arange(1, len(columns["query"]) + 1))


def _check_names(
    found: Sequence[str], names: Mapping[str, str], layout: Layout, place: str, kind: str
) -> None:
    """Refuse a table that lacks required columns; warn where what may be labels is not read."""
    if any(name not in names for name in REQUIRED):
        wide = looks_wide(found, layout, kind)
        if wide is not None and ("model" not in names or "confidence" not in names):
            raise InputError(
                f"the {place} has no column {'confidence' if 'model' in names else 'model'!r}; it has "
                f"{names_of(found)}. {wide}"
            )
        raise complain(found, names, layout, place, kind)
    labels = guesses(found, names).get("correct")
    if labels is not None:
        columns = dict(layout.columns or {}) | {"correct": labels}
        warnings.warn(
            f"the {place} has no column 'correct' and is read without labels; if {labels!r} holds them, "
            f"pass {typed(columns)}.",
            DataWarning,
            stacklevel=2,
        )


def columns_of(frame: Any, choose: Choice) -> list[Column]:
    """Return the columns of a frame of pandas, polars, pyarrow or another that can become one of pandas."""
    expected = "the table must be a path, or a frame of pandas, polars, pyarrow or DuckDB; got "
    library = _library(frame)
    if library == "polars" and type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    if library == "duckdb" and hasattr(frame, "to_arrow_table"):
        frame, library = frame.to_arrow_table(), "pyarrow"
    if library == "polars" and hasattr(frame, "get_columns"):
        return [Column(series.name, series) for series in frame.get_columns()]
    if library == "pyarrow" and hasattr(frame, "column_names"):
        return [Column(name, frame.column(i)) for i, name in enumerate(frame.column_names)]
    if not hasattr(frame, "columns") or isinstance(frame, type):
        raise TypeError(f"{expected}{type(frame).__name__}.")
    if hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not hasattr(frame, "iloc") or not hasattr(frame, "reset_index"):
        raise TypeError(f"{expected}{type(frame).__name__}.")
    hidden = [n for n in frame.index.names if isinstance(n, str) and n not in frame.columns]  # in the index
    named = [(i, str(name)) for i, name in enumerate(frame.columns)]
    roles = choose([*hidden, *(name for _, name in named)])
    columns = [Column(name, frame.iloc[:, i] if name in roles else ()) for i, name in named]
    levels = [Column(name, frame.index.get_level_values(name)) for name in hidden]
    return [*levels, *columns]


def _library(values: Any) -> str:
    """Return which library an object is of, subclasses of its classes included."""
    for base in type(values).__mro__:
        library = base.__module__.split(".")[0]
        if library in ("pandas", "polars", "pyarrow", "duckdb", "_duckdb"):
            return library.removeprefix("_")
    return ""


def _array(values: Any, name: str, place: str) -> NDArray[Any]:
    """Return a column as an array of numbers, or of objects with text in place of bytes."""
    to_array = {"pandas": _from_pandas, "polars": _from_polars, "pyarrow": _from_arrow}
    try:
        array = to_array.get(_library(values), _objects)(values)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, LookupError) as error:
        raise InputError(
            f"column {name!r} of the {place} cannot be read: {one_line(error)}. Convert it to text or to "
            "numbers."
        ) from error
    if array.dtype == object and bytes in set(map(type, array)):
        array = array.copy()
        for i, value in enumerate(array):
            if isinstance(value, bytes):
                try:
                    array[i] = value.decode()
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{name} must be text or a number; got the bytes {show(value)}, which are not UTF-8 "
                        f"text, in row {i + 1}. Write it as text."
                    ) from error
    return array


def _objects(values: Any) -> NDArray[Any]:
    """Return an array of objects, in which a list or an array is one object."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iuf"


def _from_pandas(values: Any) -> NDArray[Any]:
    if _is_plain(values.dtype):
        return np.asarray(values.to_numpy())
    return _objects(values.to_numpy(dtype=object))


def _from_polars(values: Any) -> NDArray[Any]:
    simple = type(values.dtype).__name__ in (
        *(f"{sign}{bits}" for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)),
        *("Float32", "Float64"),
    )
    if simple and values.null_count() == 0:
        return np.asarray(values.to_numpy())
    return _objects(values.to_list())


def _from_arrow(values: Any) -> NDArray[Any]:
    import pyarrow as pa

    kind = values.type
    with errors_of_arrow():
        if pa.types.is_dictionary(kind):
            values, kind = values.cast(kind.value_type), kind.value_type
        simple = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if simple and values.null_count == 0:
            return np.asarray(values.to_numpy(zero_copy_only=False))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
        return _objects(values.to_pylist())
