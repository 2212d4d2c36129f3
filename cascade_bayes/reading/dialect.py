"""CSV as people have it: which separator, which encoding, whether a comma is a decimal point.

Every choice is made from what the file says of itself; where that allows two readings, the file is refused.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from cascade_bayes.errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may stand between the fields of a line, and what it is called."""

_COMMA = re.compile(r"[ \t]*[+-]?\d*,\d+([eE][+-]?\d+)?[ \t]*%?[ \t]*", re.ASCII)
_POINT = re.compile(r"[ \t]*[+-]?\d*\.\d+([eE][+-]?\d+)?[ \t]*%?[ \t]*", re.ASCII)
_THOUSANDS = re.compile(r"[ \t]*[+-]?[1-9]\d{0,2},\d{3}[ \t]*", re.ASCII)

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def to_utf8(content: bytes, place: str) -> bytes:
    """Return text in UTF-8, from UTF-8 as it stands or from UTF-16 and UTF-32 with a byte-order mark.

    Parameters
    ----------
    content
        What a file holds.
    place
        How messages name it.

    Raises
    ------
    InputError
        If the text is not what its byte-order mark says.
    """
    for mark, encoding in _MARKS:  # that of UTF-32 begins like that of UTF-16
        if content.startswith(mark):
            try:
                return content.decode(encoding).encode()
            except UnicodeError as error:
                raise InputError(
                    f"the {place} is marked as text in {encoding.upper()} and is not: it may have been cut "
                    "short. Save it again, as UTF-8."
                ) from error
    return content


def separator_of(
    content: bytes, known: Callable[[Sequence[str]], Mapping[str, str]], *, prefer: str | None = None
) -> str:
    """Return what stands between the fields of a file, from its first line.

    It is the separator by which most columns are known ones, and of such the one that makes most columns; a
    comma where that does not tell either.

    Parameters
    ----------
    content
        The file, in UTF-8.
    known
        Which of some names of columns are known.
    prefer
        The separator that the name of the file promises, taken if the first line has it at all.
    """
    start = content[: 1 << 20].removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
    first = re.split(rb"\r\n|\r|\n", start, maxsplit=1)[0].decode(errors="replace")
    if prefer is not None and prefer in first:
        return prefer

    def score(separator: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([first], delimiter=separator), [])
            return len(known(names)), len(names)
        except csv.Error:
            return 0, 0
        except InputError:  # a column that the user named is not there, by this separator
            return 0, len(names)

    return max(SEPARATORS, key=score)  # the first of equals


def with_decimal_points(columns: dict[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return columns of a file without commas between its fields, its decimal commas as decimal points.

    Numbers such as ``0,93`` are read so if no number of the file has a decimal point, and if one of them at
    least cannot be meant as thousands: of ``1,234`` alone nobody can tell.

    Parameters
    ----------
    columns
        Columns of text, by name.
    names
        Those that hold numbers.
    """
    texts = {name: columns[name] for name in names if name in columns and columns[name].dtype == object}
    cells = [cell for values in texts.values() for cell in values if isinstance(cell, str)]
    commas = {cell for cell in cells if "," in cell and _COMMA.fullmatch(cell)}
    told = any(not _THOUSANDS.fullmatch(cell) for cell in commas)
    if not told or any("." in cell and _POINT.fullmatch(cell) for cell in cells):
        return columns
    result = dict(columns)
    for name, values in texts.items():
        changed = values.copy()
        for i, cell in enumerate(values):
            if cell in commas:
                changed[i] = cell.replace(",", ".")
        result[name] = changed
    return result
