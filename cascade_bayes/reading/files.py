"""Files to named columns: CSV, Parquet and JSON Lines, and what can be told of a file that was cut short.

pyarrow is imported inside the functions that need it, so that importing the library does not.
"""

from __future__ import annotations

import codecs
import json
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cascade_bayes._names import names_of
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.cells import is_missing, show

_MAX_DIGITS = 400  # of a number in JSON; more than any that a float can hold


class Column(NamedTuple):
    """One column as its source has it.

    Attributes
    ----------
    name
        Its name.
    values
        A list, or a series of pandas, polars or pyarrow.
    """

    name: str
    values: Any


def read_file(path: Path, place: str, known: Collection[str]) -> list[Column]:
    """Read a file into columns.

    Parameters
    ----------
    path
        A file; how its name ends tells its format.
    place
        How messages name it.
    known
        The columns that matter; others may be left out.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of an unknown format.

    Warns
    -----
    DataWarning
        If a CSV file may have been cut short inside its last field.
    """
    readers: dict[str, tuple[str, Callable[[Path, str, Collection[str]], list[Column]]]] = {
        ".csv": ("CSV", _read_csv),
        ".parquet": ("Parquet", _read_parquet),
        ".jsonl": ("JSON Lines", _read_json_lines),
        ".ndjson": ("JSON Lines", _read_json_lines),
        ".json": ("JSON Lines", _read_json_lines),
    }
    if path.suffix.lower() not in readers:
        raise InputError(
            f"the {place} must end in one of {', '.join(readers)}; got {show(path.suffix)}. "
            "Rename or convert the file."
        )
    form, reader = readers[path.suffix.lower()]
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"the {place} {what}; check the path.")
        if path.stat().st_size == 0:
            raise InputError(f"the {place} is an empty file; write it again.")
        return reader(path, place, known)
    except InputError:
        raise
    except RecursionError as error:
        reason = "its brackets are nested too deeply"
        raise InputError(_unreadable(place, form, reason)) from error
    except MemoryError as error:
        raise InputError(
            f"the {place} does not fit into memory. Keep fewer rows, or only the columns {names_of(known)}."
        ) from error
    except _DuplicateKeyError as error:
        raise InputError(f"cannot read the {place} as {form}: {error}. Keep one of the two.") from error
    except OSError as error:
        if error.strerror is None:  # pyarrow's, about what is in the file
            raise InputError(_unreadable(place, form, one_line(error))) from error
        raise InputError(
            f"the {place} cannot be read: {error.strerror}. Check the path and its permissions."
        ) from error
    except (ValueError, TypeError, LookupError, NotImplementedError) as error:
        # pyarrow's own errors are ValueErrors and the like, and so are those of undecodable text
        raise InputError(_unreadable(place, form, one_line(error))) from error


def _unreadable(place: str, form: str, reason: str) -> str:
    return (
        f"cannot read the {place} as {form}: {reason}. "
        "The file may be truncated or of another format; write it again."
    )


def one_line(error: BaseException) -> str:
    """Return what another library says, cut to one line; the name of the error if it says nothing."""
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(". ") if lines else type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:301])
    return text if len(text) <= 300 else text[:297] + "..."


@contextmanager
def errors_of_arrow() -> Iterator[None]:
    """Turn any error of pyarrow into a `ValueError`; some of its own are of no class of Python's."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(one_line(error)) from error


# ---------------------------------------------------------------------------------------------
# CSV

_QUOTED = re.compile(rb'(^|[,\r\n])"[^"]*(?:""[^"]*)*"(?=[,\r\n]|$)')
_STRAY = re.compile(rb'(?:^|[,\r\n])"')


def _read_csv(path: Path, place: str, known: Collection[str]) -> list[Column]:
    import pyarrow as pa
    from pyarrow import csv

    content = path.read_bytes()
    _check_encoding(content, place)
    _check_quotes(content, place)
    # All known columns as text: names such as '007' survive, and numbers are parsed in one place.
    # pyarrow rejects rows with too few fields, which is how most truncated files show.
    options = {
        "parse_options": csv.ParseOptions(newlines_in_values=True),
        "convert_options": csv.ConvertOptions(column_types=dict.fromkeys(known, pa.string())),
    }
    block = 1 << 20
    while True:
        try:
            reading = csv.ReadOptions(block_size=block)
            with errors_of_arrow():
                table = csv.read_csv(pa.BufferReader(content), read_options=reading, **options)
            break
        except ValueError as error:  # a row longer than a block of bytes
            if "straddl" not in str(error) or block > len(content) or block >= 1 << 30:
                raise
            block = min(16 * block, 1 << 30)
    columns = [Column(name, table.column(i)) for i, name in enumerate(table.column_names)]
    if content[-1:] not in (b"\n", b"\r"):
        _warn_if_cut(columns, place, known)
    return columns


def _check_encoding(content: bytes, place: str) -> None:
    """Name the encoding of a file that is marked as one of another, as spreadsheets write them."""
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # UTF-32 begins alike
        raise InputError(f"the {place} must be text in UTF-8; it is in UTF-16 or UTF-32. Save it as UTF-8.")


def _check_quotes(content: bytes, place: str) -> None:
    """Refuse a quote that opens a field and is never closed: the field would swallow rows in silence."""
    if b'"' not in content:
        return
    # Well-formed fields become as many letters, so that what is left stays where it was.
    content = content.removeprefix(b"\xef\xbb\xbf")
    rest = _QUOTED.sub(lambda found: found[1] + b"x" * (len(found[0]) - len(found[1])), content)
    stray = _STRAY.search(rest)
    if stray:
        line = content.count(b"\n", 0, stray.end()) + 1
        raise InputError(
            f"a field of the {place} opens with a quotation mark and has no proper end; it is in line "
            f'{line}. Write the field as "...", with every quotation mark inside doubled; if the file was '
            "cut short, write it again."
        )


def _warn_if_cut(columns: list[Column], place: str, known: Collection[str]) -> None:
    """Say that the last field may be a part of what it was; no sign tells -0.6 from the start of -0.69."""
    last = columns[-1]
    if last.name not in known or not len(last.values):
        return
    end = {column.name: column.values[-1].as_py() for column in columns if column.name in known}
    if last.name == "correct" and not is_missing(end["correct"]):
        return  # no label is the start of another
    raw = ", ".join(f"{name} {show(value)}" for name, value in end.items())
    warnings.warn(
        f"the last line of the {place} has no line break, so that the file may have been cut short inside "
        f"{last.name} {show(end[last.name])} of its last row ({raw}). If the file is whole, end it with a "
        "line break.",
        DataWarning,
        stacklevel=2,
    )


# ---------------------------------------------------------------------------------------------
# Parquet


def _read_parquet(path: Path, place: str, known: Collection[str]) -> list[Column]:
    from pyarrow import parquet

    with errors_of_arrow(), parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        wanted = [name for name in known if name in found]
        table = file.read(columns=wanted)
    read = {name: table.column(i) for i, name in enumerate(table.column_names)}
    # Names without values are kept, so that a complaint can list them.
    return [Column(name, read.get(name, ())) for name in found]


# ---------------------------------------------------------------------------------------------
# JSON


class _DuplicateKeyError(ValueError):
    pass


_HUGE = re.compile(r"\d{300}|[eE]\+?0*[1-9]\d\d", re.ASCII)  # perhaps beyond the range of floats


def parse_json(text: str) -> Any:
    """Parse JSON; numbers that Python's own could not hold stay text, and no key may occur twice.

    Raises
    ------
    ValueError
        If the text is no JSON, or an object has a key twice.
    RecursionError
        If it is nested too deeply.
    """
    if _HUGE.search(text):  # only then: a call for every number takes time
        return json.loads(text, parse_int=_integer, parse_float=_real, object_pairs_hook=_record)
    return json.loads(text, object_pairs_hook=_record)


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _MAX_DIGITS else text


def _real(text: str) -> float | str:
    value = float(text)
    return value if abs(value) != float("inf") else text


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKeyError(f"the key {show(twice)} occurs twice in one object")
    return record


def _read_json_lines(path: Path, place: str, known: Collection[str]) -> list[Column]:
    content = path.read_bytes()
    _check_encoding(content, place)
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        records = parse_json(text)
    else:
        lines = [line for line in text.split("\n") if line.strip()]
        try:
            records = parse_json("[" + ",".join(lines) + "]")  # one call: many times faster
        except ValueError:
            records = []
        if len(records) != len(lines):
            records = [_json_record(line, row) for row, line in enumerate(lines, start=1)]
    names: dict[str, None] = {}
    for row, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise InputError(
                f"each line of {str(path)!r} must be a JSON object such as "
                f'{{"query": "q1", "model": "a", "confidence": -0.1}}; row {row} is not.'
            )
        names.update(dict.fromkeys(record))
    return [Column(name, [record.get(name) for record in records] if name in known else ()) for name in names]


def _json_record(line: str, row: int) -> Any:
    try:
        return parse_json(line)
    except _DuplicateKeyError as error:
        raise _DuplicateKeyError(f"row {row}: {error}") from error
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from error
