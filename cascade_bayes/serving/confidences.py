"""Confidences as callables give them, read as those of the table that a policy was tuned on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cascade_bayes._names import names_of
from cascade_bayes.policy.policy import Policy
from cascade_bayes.transforms import DOMAIN, KINDS

Read = Callable[[Any], tuple[float | None, Any, str | None]]
"""From a confidence: its number on the thresholds' scale, what the log has of it, and what is wrong."""


def reader_of(policy: Policy) -> Read:
    """Return how confidences are read that callables give for a policy."""
    units = policy.units
    if units.grades:
        ranks = {word.casefold(): float(i + 1) for i, word in enumerate(units.grades)}

        def read_word(value: Any) -> tuple[float | None, Any, str | None]:
            number = ranks.get(value.strip().casefold()) if isinstance(value, str) else None
            if number is None:
                return None, None, f"the confidence must be one of {names_of(units.grades)}; got {value!r}"
            return number, value, None

        return read_word
    if units.given_as is None:
        low, high = DOMAIN[policy.kind]
        return lambda value: _read_number(value, low, high, KINDS[policy.kind])
    from cascade_bayes.reading.scales import SCALES

    scale = SCALES[units.given_as]

    def read_given(value: Any) -> tuple[float | None, Any, str | None]:
        number, shown, problem = _read_number(value, scale.low, scale.high, scale.rule)
        return (None if number is None else float(scale.read(np.asarray(number)))), shown, problem

    return read_given


def _read_number(value: Any, low: float, high: float, rule: str) -> tuple[float | None, Any, str | None]:
    if type(value) is float and low <= value <= high:
        return value, value, None
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None, None, "the model gave no confidence"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None, None, f"the confidence must be a number; got a {type(value).__name__}"
    # A number of 32 bits, -0.1 say, is -0.10000000149 in 64; its shortest decimal is what was meant.
    number = float(str(value)) if isinstance(value, np.floating) else float(value)
    if not low <= number <= high:
        return None, None, f"the confidence must be {rule}; got {number!r}"
    return number, number, None
