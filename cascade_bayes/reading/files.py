"""Files to named columns: CSV, Parquet, JSON Lines, workbooks, and what can be told of a file cut short.

pyarrow is imported inside the functions that need it, so that importing the library does not.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cascade_bayes._names import names_of
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.cells import is_missing, show
from cascade_bayes.reading.compressed import CODECS, read_bytes
from cascade_bayes.reading.dialect import separator_of, to_utf8
from cascade_bayes.reading.layout import COLUMNS
from cascade_bayes.reading.workbook import read_workbook

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


class Source(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    columns
        All of its columns, those that nobody chose without values.
    separator
        What stands between the fields of a CSV file; None for other formats.
    """

    columns: list[Column]
    separator: str | None = None


Choice = Callable[[Sequence[str]], Mapping[str, str]]
"""Which of the names of columns matter, and what each is for: by a file's name, this library's."""

Reader = Callable[[Path, bytes, str, Choice], Source]


def read_file(path: Path, place: str, choose: Choice) -> Source:
    """Read a file into columns.

    Parameters
    ----------
    path
        A file; how its name ends tells its format, and .gz or .zst behind that, how it is compressed.
    place
        How messages name it.
    choose
        Which columns matter; others may be left out.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of an unknown format, or unpacks to more than a table has.

    Warns
    -----
    DataWarning
        If a CSV file may have been cut short inside its last field.
    """
    suffixes = [part.lower() for part in path.suffixes] or [""]
    codec = CODECS.get(suffixes[-1])
    suffix = suffixes[-1] if codec is None else suffixes[-2] if suffixes[1:] else ""
    if suffix not in FORMATS:
        raise InputError(
            f"the {place} must end in one of {', '.join(FORMATS)}, or one of these and "
            f"{' or '.join(CODECS)}; got {show(path.suffix)}. Rename or convert the file."
        )
    form, reader = FORMATS[suffix]
    if codec is not None and suffix in (".parquet", ".xlsx"):
        raise InputError(f"the {place} is {form}, which is compressed in itself: unpack it first.")
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"the {place} {what}; check the path.")
        if path.stat().st_size == 0:
            raise InputError(f"the {place} is an empty file; write it again.")
        packed = suffix in (".parquet", ".xlsx")
        content = b"" if packed else to_utf8(read_bytes(path, codec, place), place)
        return reader(path, content, place, choose)
    except InputError:
        raise
    except RecursionError as error:
        reason = "its brackets are nested too deeply"
        raise InputError(_unreadable(place, form, reason)) from error
    except MemoryError as error:
        raise InputError(
            f"the {place} does not fit into memory. Keep fewer rows, or only the columns {names_of(COLUMNS)}."
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
        f"cannot read the {place} as {form}: {reason}. The file may be truncated or of another format; "
        "write it again."
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


def _read_csv(path: Path, content: bytes, place: str, choose: Choice) -> Source:
    import pyarrow as pa
    from pyarrow import csv

    has_tabs = ".tsv" in (part.lower() for part in path.suffixes)
    separator = separator_of(content, choose, prefer="\t" if has_tabs else None)
    _check_quotes(content, place, separator)
    parsing = csv.ParseOptions(newlines_in_values=True, delimiter=separator)
    block = 1 << 20
    while True:
        try:
            reading = csv.ReadOptions(block_size=block)
            with errors_of_arrow():
                with csv.open_csv(
                    pa.BufferReader(content), read_options=reading, parse_options=parsing
                ) as head:
                    roles = choose(head.schema.names)
                # All columns that matter as text: names such as '007' survive, and numbers are parsed in one
                # place. pyarrow rejects rows with too few fields, which is how most truncated files show.
                table = csv.read_csv(
                    pa.BufferReader(content),
                    read_options=reading,
                    parse_options=parsing,
                    convert_options=csv.ConvertOptions(column_types=dict.fromkeys(roles, pa.string())),
                )
            break
        except ValueError as error:  # a row longer than a block of bytes
            if "straddl" not in str(error) or block > len(content) or block >= 1 << 30:
                raise
            block = min(16 * block, 1 << 30)
    columns = [Column(name, table.column(i)) for i, name in enumerate(table.column_names)]
    if content[-1:] not in (b"\n", b"\r"):
        _warn_if_cut(columns, place, roles)
    return Source(columns, separator)


def _check_quotes(content: bytes, place: str, separator: str) -> None:
    """Refuse a quote that opens a field and is never closed: the field would swallow rows in silence."""
    if b'"' not in content:
        return
    ends = re.escape(separator).encode() + rb"\r\n"
    quoted = re.compile(rb"(^|[%b])\"[^\"]*(?:\"\"[^\"]*)*\"(?=[%b]|$)" % (ends, ends))
    # Well-formed fields become as many letters, so that what is left stays where it was.
    content = content.removeprefix(b"\xef\xbb\xbf")
    rest = quoted.sub(lambda found: found[1] + b"x" * (len(found[0]) - len(found[1])), content)
    stray = re.search(rb"(?:^|[%b])\"" % ends, rest)
    if stray:
        line = content.count(b"\n", 0, stray.end()) + 1
        raise InputError(
            f"a field of the {place} opens with a quotation mark and has no proper end; it is in line "
            f'{line}. Write the field as "...", with every quotation mark inside doubled; if the file was '
            "cut short, write it again."
        )


def _warn_if_cut(columns: list[Column], place: str, roles: Mapping[str, str]) -> None:
    """Say that the last field may be a part of what it was; no sign tells -0.6 from the start of -0.69."""
    last = columns[-1]
    if last.name not in roles or not len(last.values):
        return
    end = {column.name: column.values[-1].as_py() for column in columns if column.name in roles}
    label = str(end[last.name]).strip().lower()
    if roles[last.name] == "correct" and not is_missing(label) and label != "no":
        return  # no label is the start of another, but for "no", which may have been "none"
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


def _read_parquet(path: Path, content: bytes, place: str, choose: Choice) -> Source:
    from pyarrow import parquet

    with errors_of_arrow(), parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        wanted = list(choose(found))
        table = file.read(columns=wanted)
    read = {name: table.column(i) for i, name in enumerate(table.column_names)}
    # Names without values are kept, so that a complaint can list them.
    return Source([Column(name, read.get(name, ())) for name in found])


def _read_workbook(path: Path, content: bytes, place: str, choose: Choice) -> Source:
    return Source([Column(name, values) for name, values in read_workbook(path, place)])


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


def _read_json_lines(path: Path, content: bytes, place: str, choose: Choice) -> Source:
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
    roles = choose(list(names))
    return Source(
        [Column(name, [record.get(name) for record in records] if name in roles else ()) for name in names]
    )


def _json_record(line: str, row: int) -> Any:
    try:
        return parse_json(line)
    except _DuplicateKeyError as error:
        raise _DuplicateKeyError(f"row {row}: {error}") from error
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from error


FORMATS: dict[str, tuple[str, Reader]] = {
    ".csv": ("CSV", _read_csv),
    ".tsv": ("CSV", _read_csv),
    ".parquet": ("Parquet", _read_parquet),
    ".jsonl": ("JSON Lines", _read_json_lines),
    ".ndjson": ("JSON Lines", _read_json_lines),
    ".json": ("JSON Lines", _read_json_lines),
    ".xlsx": ("a workbook of Excel", _read_workbook),
}
"""Endings of files, what each format is called, and what reads it."""
