"""The column of confidences, on whatever scale a table has it, as one of the kinds that are computed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading import cells
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.columns import Table
from cascade_bayes.reading.scales import SCALES, direction, remedy

ORDERS = tuple(
    tuple(words.split(", "))
    for words in (
        "lowest, very low, low, medium low, medium, med, mid, moderate, medium high, high, very high, top",
        "very unsure, unsure, fairly sure, sure, very sure, certain",
        "very uncertain, uncertain, fairly certain, certain, very certain",
        "impossible, very unlikely, unlikely, likely, very likely, certain",
        "not confident, slightly confident, somewhat confident, confident, very confident",
        "poor, fair, good, very good, excellent",
    )
)
"""Words for confidences whose order everybody agrees on, from the least sure."""

_MOST_GRADES = 20  # more different words are no grades


def confidences(
    table: Table, name: str, grades: Sequence[str] | None = None, *, of_policy: bool = False
) -> NDArray[np.float64]:
    """Parse a table's confidences and carry them to the kind that is computed with, nan where missing.

    Parameters
    ----------
    table
        Its column `confidence` holds them.
    name
        What they measure, a key of `cascade_bayes.reading.scales.SCALES`.
    grades
        Words that stand for them, from the least sure to the surest; they become the scores 1, 2, 3.
    of_policy
        Whether the kind is that of a policy, for which there is no other.

    Raises
    ------
    InputError
        If a cell holds no number, or no grade, or one outside the range of its kind.
    """
    if grades is not None:
        return _graded(table, grades)
    scale, percent = SCALES[name], None
    if name in ("probability", "percent", "uncertainty"):
        percent = cells.percentage if name == "percent" else cells.share
    try:
        values = table.numbers("confidence", percent)
    except InputError as error:
        advice = _advice_on_words(table.columns["confidence"])
        if advice is None:
            raise
        raise InputError(str(error).removesuffix("Correct it.") + advice) from error
    holds = scale.holds(values)
    if not holds.all():
        i = int(np.argmin(holds))
        rises = None
        if not of_policy and table.has("correct"):
            rises = _direction(table, values)
        what = remedy(values, name, rises=rises, of_policy=of_policy)
        table.fail(i, "confidence", f"{scale.rule} for kind {name!r}", f"got {float(values[i])!r}", what)
    return np.asarray(scale.read(values))


def _direction(table: Table, values: NDArray[np.float64]) -> bool | None:
    """Whether right answers have the higher values, as far as labels can be read."""
    try:
        correct, labelled = table.labels("correct")
    except InputError:
        return None
    return direction(values, table.model_codes, correct, labelled)


def _graded(table: Table, grades: Sequence[str]) -> NDArray[np.float64]:
    """Return the place of each confidence among the grades, counted from 1."""
    place = {word.casefold(): float(i) for i, word in enumerate(grades, start=1)}
    values = table.columns["confidence"]
    result = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        text = _word(value)
        if text is None:
            table.fail(i, "confidence", "a grade", f"got {show(value)}", "Write it as text.")
        if text in place:
            result[i] = place[text]
        elif not cells.is_missing(value):
            rule = f"one of the grades {names_of(grades)}"
            table.fail(
                i,
                "confidence",
                rule,
                f"got {show(value)}",
                "Add it to the grades (--grades), or leave it empty.",
            )
    return result


def _word(value: Any) -> str | None:
    """Return a cell as text without regard to capital letters; None if it has no text."""
    try:
        return cells.name(value).strip().casefold()
    except ValueError:
        return None


def _advice_on_words(values: NDArray[Any]) -> str | None:
    """Return how words for confidences are read; None if there are not only words, or too many."""
    if values.dtype != object:
        return None
    words: dict[str, str] = {}
    for value in values:
        if cells.is_missing(value):
            continue
        if not isinstance(value, str) or "%" in value:
            return None
        try:
            cells.number(value)
        except ValueError:
            words.setdefault(value.strip().casefold(), value.strip())
        else:
            return None
        if len(words) > _MOST_GRADES:
            return None
    for order in ORDERS:
        if len(words) > 1 and set(words) <= set(order):
            named = [words[word] for word in order if word in words]
            line = ",".join(named)
            line = f"'{line}'" if " " in line else line
            return (
                f"If these are grades, pass them from the least sure to the surest: grades={named} "
                f"(--grades {line})."
            )
    if len(words) < 2:
        return None
    return (
        f"If these are grades, pass all of them, {names_of(words.values())}, in order, from the least sure "
        "to the surest: grades=['LEAST', ..., 'MOST'] (--grades LEAST,...,MOST)."
    )
