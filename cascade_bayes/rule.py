r"""The rule by which a cascade decides who answers a query, and its thresholds in words.

Models are asked in order. With a threshold :math:`t_i` and, where models may leave a query without an answer,
a threshold :math:`a_i \le t_i` of abstaining, a model whose confidence is :math:`c` ends the query without an
answer iff :math:`c < a_i`, passes it on to the next iff :math:`a_i \le c < t_i`, and answers otherwise. The
last model passes nothing on (:math:`t = -\infty`). Infinite thresholds decide without looking.

A confidence that was asked for and is missing (NaN) passes the query on: nothing speaks for the answer. The
last model answers whatever its confidence, a missing one too, unless it may abstain by it: then nothing is
decided.

`follow_one` is the rule for one query while models are being called, in plain Python and a microsecond;
`follow` is the same rule for many queries whose confidences are all there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

LOWEST = -sys.float_info.max
"""The most negative finite number: as a threshold it defers exact minus infinity and nothing else."""


class End(Enum):
    """What became of a query at the model at which the rule stopped."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    CALL = "the model must be called first"
    UNKNOWN = "the last model may abstain, and its confidence is missing"


def follow_one(
    confidences: Sequence[float | None], thresholds: Sequence[float], abstain: Sequence[float]
) -> tuple[int, End]:
    """Return the model at which one query stops, and what became of it there.

    Parameters
    ----------
    confidences
        Raw confidences of the models called so far, in order, at most one a model: NaN of a model that was
        called and gave none, None of one that was not called.
    thresholds
        Below which models defer, one a model: -inf of the last.
    abstain
        Below which they leave a query without an answer, one a model, none above ``thresholds``; -inf never.

    Examples
    --------
    >>> never = (-inf, -inf)
    >>> follow_one([0.4], (0.5, -inf), never)
    (1, <End.ANSWERED: 'answered'>)
    >>> follow_one([], (0.5, -inf), never)
    (0, <End.CALL: 'the model must be called first'>)
    """
    given, last = len(confidences), len(thresholds) - 1
    for i in range(last + 1):
        low, high = abstain[i], thresholds[i]
        if low == -inf:
            if high == inf:
                continue
            if high == -inf:
                return i, End.ANSWERED
        elif low == inf:
            return i, End.ABSTAINED
        confidence = confidences[i] if i < given else None
        if confidence is None:
            return i, End.CALL
        if confidence < low:
            return i, End.ABSTAINED
        if confidence >= high:
            return i, End.ANSWERED
    return last, End.UNKNOWN


class Followed(NamedTuple):
    """Where the rule stopped many queries.

    Attributes
    ----------
    stop
        Index of the model at which each query ends, ``(num_queries,)``.
    abstained
        Which queries end there without an answer, ``(num_queries,)``.
    missing
        Which confidences the rule asked for and did not find, ``(num_queries, num_models)``. Those queries
        were passed on; of the last model they leave open whether it answers or abstains, which ``abstained``
        then does not say.
    """

    stop: NDArray[np.int64]
    abstained: NDArray[np.bool_]
    missing: NDArray[np.bool_]


def follow(
    confidence: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    abstain: NDArray[np.float64] | None = None,
) -> Followed:
    """Return where each of many queries ends.

    Parameters
    ----------
    confidence
        Raw confidences, ``(num_queries, num_models)``, NaN where missing; or with fewer columns, the others
        missing throughout. Those behind the model at which a query ends are not looked at.
    thresholds
        Below which models defer, ``(num_models - 1,)``.
    abstain
        Below which they leave a query without an answer, ``(num_models,)``; None if none does.

    Examples
    --------
    >>> follow(np.array([[0.7, 0.1], [0.4, 0.1], [np.nan, 0.1]]), np.array([0.5])).stop
    array([0, 1, 1])
    """
    last = len(thresholds)
    stop = np.full(len(confidence), last)
    left = np.zeros(len(confidence), dtype=bool)
    missing = np.zeros((len(confidence), last + 1), dtype=bool)
    on = np.ones(len(confidence), dtype=bool)
    for i in range(last + 1):
        low = -np.inf if abstain is None else abstain[i]
        high = thresholds[i] if i < last else -np.inf
        if low == -np.inf and high == np.inf:
            continue
        if low == np.inf or (low == -np.inf and high == -np.inf):
            stop[on], left[on] = i, low == np.inf
            break
        seen = confidence[:, i] if i < confidence.shape[1] else np.full(len(confidence), np.nan)
        ends = on & ((seen < low) | (seen >= high))
        stop[ends], left[ends] = i, seen[ends] < low
        missing[:, i] = on & np.isnan(seen)
        on &= ~ends
    return Followed(stop, left, missing)


def in_precision(thresholds: NDArray[np.float64], precision: DTypeLike) -> NDArray[np.float64]:
    """Return thresholds as confidences of some floating-point type are to be compared with.

    A number that was stored in 32 bits has moved a little, up or down: -0.1 became -0.10000000149. Rounded to
    the same type a threshold has moved with it, so that a confidence which is not below a threshold stays so.
    Finite thresholds stay finite.

    Parameters
    ----------
    thresholds
        Any shape.
    precision
        The type of the confidences.

    Examples
    --------
    >>> bool(np.float64(np.float32(-0.1)) < -0.1)
    True
    >>> bool(np.float64(np.float32(-0.1)) < in_precision(np.array([-0.1]), np.float32)[0])
    False
    """
    limits = np.finfo(precision)
    if limits.bits >= 64:
        return thresholds
    within = np.clip(thresholds, float(limits.min), float(limits.max))
    return np.where(np.isinf(thresholds), thresholds, within.astype(precision).astype(np.float64))


def show_threshold(value: float) -> str:
    """Return a threshold in figures that decide as it does, or the word for one that is none.

    Examples
    --------
    >>> [show_threshold(t) for t in (97.5, -0.1 - 0.2, LOWEST, -inf)]
    ['97.5', '-0.30000000000000004', 'lowest', '-inf']
    """
    if value == LOWEST:
        return "lowest"
    brief = f"{value:.6g}"
    return brief if float(brief) == value else repr(float(value))


def describe_threshold(value: float, verb: str = "defer") -> str:
    """Return a threshold as people read it, with what it does where that cannot be seen from its figures.

    Examples
    --------
    >>> describe_threshold(LOWEST)
    'lowest (defers only exact -inf)'
    >>> describe_threshold(-inf, "abstain")
    '-inf (never abstains)'
    """
    does = {LOWEST: f"{verb}s only exact -inf", -inf: f"never {verb}s", inf: f"always {verb}s"}.get(value)
    return show_threshold(value) if does is None else f"{show_threshold(value)} ({does})"


def show_interval(low: float, high: float) -> str:
    """Return an interval of a threshold, its ends to four digits: nothing is decided by them.

    Examples
    --------
    >>> show_interval(LOWEST, -1 / 3)
    '[lowest, -0.3333]'
    """
    low_end, high_end = ("lowest" if end == LOWEST else f"{end:.4g}" for end in (low, high))
    return f"[{low_end}, {high_end}]"
