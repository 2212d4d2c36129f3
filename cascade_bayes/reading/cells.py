"""What one cell of a table may hold: a number, a label, a name.

Every cell is judged by its type and, if it is text, by its spelling. Nothing is converted that is not
plainly what it should be: ``float`` would take ``"1_000"``, full-width digits, dates and the real part of a
complex number, and would make infinity of a number with 400 digits.
"""

from __future__ import annotations

import math
import re
import reprlib
import unicodedata
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "-nan", "null", "none"})
"""Spellings of a missing value in text, in lower case."""

_RIGHT = ("true", "1", "1.0", "1,0", "yes", "t", "pass", "passed", "correct", "right", "c")
_WRONG = ("false", "0", "0.0", "0,0", "no", "f", "fail", "failed", "incorrect", "wrong", "i")
_LABELS = dict.fromkeys(_RIGHT, True) | dict.fromkeys(_WRONG, False)
LABEL_RULE = "0 or 1, true or false, yes or no, pass or fail, correct or incorrect, t or f, C or I, or empty"
"""What a label may be, in words."""

_DECIMAL = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*", re.ASCII)
_PERCENT = re.compile(r"[ \t]*([+-]?(?:\d+\.?\d*|\.\d+))[ \t]*%[ \t]*", re.ASCII)
_INFINITE = re.compile(r"[ \t]*[+-]?inf(inity)?[ \t]*", re.ASCII | re.IGNORECASE)
_SEPARATORS = re.compile(r"[ \t]*[+-]?\d[\d.,_'   ]*[\d.,]*[ \t]*")
# Characters without width, which make two names look alike: spaces, joiner and byte-order mark.
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))

_SHOWN = 60  # characters of a value in a message


def show(value: Any) -> str:
    """Return a value for a message: as Python writes it, cut to a readable length.

    Examples
    --------
    >>> show(np.float64(2.0))
    '2.0'
    >>> len(show("x" * 1000))
    60
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        digits = int(value.bit_length() * math.log10(2)) + 1
        return f"a whole number of about {digits} digits"
    if isinstance(value, str | bytes):
        text = repr(value[: _SHOWN + 1])
    else:
        short = reprlib.Repr()
        short.maxother = short.maxstring = short.maxlong = _SHOWN
        try:
            text = short.repr(value)
        except Exception:  # an object of the user's whose own repr fails
            text = f"an object of type {type(value).__name__}"
        text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: nothing, "not a number", or one of the spellings of `MISSING`."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    if isinstance(value, float | np.floating):
        return bool(value != value)
    if isinstance(value, Decimal):
        return value.is_qnan()  # a signalling NaN is an error, not a gap
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def number(value: Any) -> float:
    """Return the number in a cell, nan where it is missing.

    Text is a decimal number such as ``-0.25`` or ``1e-3``, or ``inf``, ``-Infinity`` and the like.

    Raises
    ------
    ValueError
        If it is no number, or one beyond the range of 64-bit numbers; the message is the remedy.

    Examples
    --------
    >>> number(" -1e-3 "), number("-Infinity"), number("NA")
    (-0.001, -inf, nan)
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        return _number_of_text(value)
    if is_missing(value):
        return math.nan
    if not _is_number(value):
        raise ValueError("Correct it.")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if math.isinf(result) and (isinstance(value, int | np.integer) or abs(value) != math.inf):
        raise ValueError("It is beyond the range of 64-bit numbers: correct it.")
    return result


def _number_of_text(text: str) -> float:
    if _DECIMAL.fullmatch(text):
        result = float(text)
        if math.isinf(result):
            raise ValueError("It is beyond the range of 64-bit numbers: correct it.")
        return result
    if _INFINITE.fullmatch(text):
        return float(text)
    if text.strip().lower() in MISSING:
        return math.nan
    if _PERCENT.fullmatch(text):
        raise ValueError(
            'Percentages are read as confidences of kind "percent" and "probability" alone: pass '
            'confidence="percent" (--confidence percent) if this is a confidence.'
        )
    if _SEPARATORS.fullmatch(text):
        raise ValueError("Write numbers in plain digits with a decimal point, without separators: 1000.5.")
    raise ValueError("Correct it.")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | np.timedelta64):  # to Python and NumPy these are integers
        return False
    if isinstance(value, Decimal) and value.is_snan():
        return False
    return isinstance(value, int | float | np.integer | np.floating | Decimal)


def label(value: Any) -> bool | None:
    """Return whether an answer was right, None where that is not known.

    Raises
    ------
    ValueError
        If the cell is neither empty nor one of the words for right and wrong; the message is the remedy.

    Examples
    --------
    >>> label("Yes"), label("I"), label(" ")
    (True, False, None)
    """
    if value is True or value is False:
        return value
    if type(value) is str and value in ("0", "1"):  # at once, as most cells of most tables are
        return value == "1"
    if is_missing(value):
        return None
    if isinstance(value, str):
        found = _LABELS.get(value.strip().lower())
    elif isinstance(value, bool | np.bool_):
        found = bool(value)
    else:
        found = bool(value) if _is_number(value) and value in (0, 1) else None
    if found is None:
        if _is_score(value):
            raise ValueError(
                "If these are scores of answers, say above which of them an answer is right: "
                "correct_above=0.5 (--correct-above 0.5)."
            )
        raise ValueError("Correct it or leave it empty.")
    return found


def _is_score(value: Any) -> bool:
    """Whether a cell that is no label is a number that a grader may have given."""
    try:
        return math.isfinite(share(value))
    except ValueError:
        return False


def share(value: Any) -> float:
    """Return the number in a cell, of which a percentage such as ``83.5%`` is a hundredth.

    Raises
    ------
    ValueError
        If the cell holds no plain number, as `number` says.

    Examples
    --------
    >>> share("83.5%"), share("0.835")
    (0.835, 0.835)
    """
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return number(value) if found is None else float(f"{found[1]}e-2")


def percentage(value: Any) -> float:
    """Return the number in a cell, with or without a sign of percent behind it.

    Raises
    ------
    ValueError
        If the cell holds no plain number, as `number` says.

    Examples
    --------
    >>> percentage("83.5%"), percentage(83.5)
    (83.5, 83.5)
    """
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return number(value) if found is None else float(found[1])


def name(value: Any) -> str:
    """Return the name in a cell as text, empty where it is missing: 1, 1.0 and '1' are one name.

    Raises
    ------
    ValueError
        If the cell holds no text, number, date or UUID, or text that cannot be stored; the message is the
        remedy.
    """
    if isinstance(value, str):
        return _storable(str(value))
    if is_missing(value):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # whole numbers that became floats read as they did in the file
    plain = _is_number(value) or isinstance(value, bool | np.bool_ | UUID | date)
    if not plain or (isinstance(value, Decimal) and not value.is_finite()):
        raise ValueError("Write it as text or as a number.")
    try:
        return str(value)
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise ValueError("Write it as text.") from error


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("It has a character of code 0, which files cannot hold: remove it.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError("It has half of a character (a lone surrogate): write it again.") from error
    return text


def look(text: str) -> str:
    """Return what two names share that look alike: surrounding spaces and composed accents do not count.

    Examples
    --------
    >>> look("gpt-4o ") == look("gpt-4o")
    True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(_INVISIBLE))
    return text.strip()
