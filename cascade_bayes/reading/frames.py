"""Files and frames to arrays, one for each known column.

An array holds either numbers or Python objects as they stand in the source; `cells` judges them. pandas,
polars and pyarrow are imported inside the functions that need them, so that importing the library does not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.files import Column, errors_of_arrow, one_line, read_file

COLUMNS = (
    "query",
    "model",
    "confidence",
    "correct",
    "cost",
    "tokens_in",
    "tokens_out",
    "latency_ms",
)
REQUIRED = COLUMNS[:3]


def load_columns(source: Any) -> dict[str, NDArray[Any]]:
    """Read a path or frame into arrays, one for each column of `COLUMNS` that it has.

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
        If a CSV file may have been cut short inside its last field.
    """
    if isinstance(source, str | os.PathLike):
        place = f"table {os.fsdecode(source)!r}"
        columns = read_file(Path(os.fsdecode(source)), place, COLUMNS)
    else:
        place = "table"
        columns = _columns_of(source)
    found = [column.name for column in columns]
    for name in COLUMNS:
        if name in REQUIRED and name not in found:
            raise InputError(
                f"the {place} has no column {name!r}; it has {names_of(found)}. "
                "Rename or add it: 'query', 'model' and 'confidence' are required."
            )
        if found.count(name) > 1:
            raise InputError(f"the {place} has {found.count(name)} columns {name!r}; keep one of them.")
    known = {column.name: column.values for column in columns if column.name in COLUMNS}
    if len(known["query"]) == 0:
        raise InputError(f"the {place} has no rows; it needs one row per query and model.")
    return {name: _array(values, name, place) for name, values in known.items()}


def _columns_of(frame: Any) -> list[Column]:
    """Return the columns of a frame of pandas, polars, pyarrow or another that can become one of pandas."""
    expected = "the table must be a path, a pandas DataFrame or a polars DataFrame; got "
    library = _library(frame)
    if library == "polars" and type(frame).__name__ == "LazyFrame":
        raise TypeError(f"{expected}a polars LazyFrame. Pass frame.collect().")
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
    columns = [Column(name, frame.iloc[:, i] if name in COLUMNS else ()) for i, name in named]
    levels = [Column(name, frame.index.get_level_values(name)) for name in hidden]
    return [*levels, *columns]


def _library(values: Any) -> str:
    """Return which library an object is of, subclasses of its classes included."""
    for base in type(values).__mro__:
        library = base.__module__.split(".")[0]
        if library in ("pandas", "polars", "pyarrow"):
            return library
    return ""


def _array(values: Any, name: str, place: str) -> NDArray[Any]:
    """Return a column as an array of numbers, or of objects with text in place of bytes."""
    to_array = {"pandas": _from_pandas, "polars": _from_polars, "pyarrow": _from_arrow}
    try:
        array = to_array.get(_library(values), _objects)(values)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, LookupError) as error:
        raise InputError(
            f"column {name!r} of the {place} cannot be read: {one_line(error)}. "
            "Convert it to text or to numbers."
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
