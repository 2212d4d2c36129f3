"""Confidences as callers have them, on the scale of a policy's thresholds.

A policy may have been tuned on a table of uncertainties, say, which are read as probabilities: its
thresholds are probabilities. A number between 0 and 1 can then be either, and would be decided the wrong
way round if it were taken for the other. So it must be said which it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cascade_bayes._names import names_of
from cascade_bayes._units import Units
from cascade_bayes.errors import InputError


def on_scale(confidences: Any, name: str | None, kind: str, units: Units) -> Any:
    """Return confidences of some kind as a policy compares them with its thresholds.

    Parameters
    ----------
    confidences
        What `cascade_bayes.Policy.decide` was given.
    name
        What they are said to be; None if that is not said.
    kind
        The kind of the thresholds.
    units
        What the table held that the policy was tuned on.

    Raises
    ------
    InputError
        If it must be said what they are, they are of a kind that is read as another than the thresholds', or
        one is outside the range of its kind.
    """
    from cascade_bayes.reading.scales import SCALES, check_scale  # which a service need not import

    if name is None:
        raise InputError(
            f"the thresholds of this policy are of kind {kind!r}, and it was tuned on a table of kind "
            f"{units.given_as!r}: say which of them these confidences are, decide(..., "
            f'confidence="{units.given_as}") or decide(..., confidence="{kind}").'
        )
    scale = check_scale(name)
    if scale.kind != kind:
        known = [other for other, each in SCALES.items() if each.kind == kind]
        raise InputError(
            f"the thresholds of this policy are of kind {kind!r}, and confidences of kind {name!r} are read "
            f"as {scale.kind!r}. Give them as one of {names_of(known)}."
        )
    if name == kind:
        return confidences

    def read(value: Any) -> Any:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            return value  # None of a model that was not called; the rest is refused by what follows
        if value < scale.low or value > scale.high:
            raise InputError(f"confidence must be {scale.rule} for kind {name!r}; got {float(value)!r}.")
        number = type(value) if isinstance(value, np.floating) else float
        return number(scale.read(np.asarray(value, dtype=float))) if value == value else math.nan

    return _each(confidences, read)


def graded(confidences: Any, grades: tuple[str, ...]) -> Any:
    """Return confidences with words for them as scores.

    Raises
    ------
    InputError
        If a word is none of the grades.
    """
    place = {word.casefold(): float(i) for i, word in enumerate(grades, start=1)}

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.strip().casefold() not in place:
            raise InputError(f"confidence must be one of the grades {names_of(grades)}; got {value!r}.")
        return place[value.strip().casefold()]

    return _each(confidences, read)


def _each(confidences: Any, read: Callable[[Any], Any]) -> Any:
    """Return confidences in the form that they have, each of them read."""
    if isinstance(confidences, list | tuple):
        return [_each(value, read) for value in confidences]
    if isinstance(confidences, np.ma.MaskedArray):
        return np.ma.masked_array(_each(confidences.data, read), confidences.mask)
    if hasattr(confidences, "__array__") and not isinstance(confidences, np.generic):
        array = np.asarray(confidences)
        if array.dtype.kind in "fiu":
            precision = array.dtype if array.dtype.kind == "f" else np.dtype(float)
            flat = [read(value) for value in array.ravel()]
            return np.array(flat, dtype=precision).reshape(array.shape)
        return _each(array.tolist(), read)
    return read(confidences)
