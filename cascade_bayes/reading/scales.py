"""What people measure confidence by, carried to the three kinds that this library computes with.

A kind of confidence either is one of `cascade_bayes.transforms.KINDS` or becomes one when it is read, by a
map that never changes the order of two answers except where the kind grows with doubt:

=============  =======================  ==================  ===================
kind           what the table holds     the surest value    is read as
=============  =======================  ==================  ===================
`logprob`      log p in [-inf, 0]       0                   itself
`probability`  p in [0, 1]              1                   itself
`score`        any finite number        the greatest        itself
`percent`      100 p in [0, 100]        100                 `probability` r / 100
`uncertainty`  1 - p in [0, 1]          0                   `probability` 1 - r
`nll`          -log p in [0, inf]       0                   `logprob` -r
`perplexity`   1 / p in [1, inf]        1                   `logprob` -log r
=============  =======================  ==================  ===================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import suggest
from cascade_bayes.errors import InputError
from cascade_bayes.transforms import DOMAIN, KINDS

Array = NDArray[np.float64]


class Scale(NamedTuple):
    """A kind of confidence as people have it.

    Attributes
    ----------
    kind
        The kind of `cascade_bayes.transforms.KINDS` that it is read as.
    rule
        What its values must obey, in words.
    low, high
        The least and the greatest value.
    falls
        Whether a greater value says that the model is less sure.
    read
        Function from values of this kind to those of ``kind``, element by element.
    surest
        The surest value, in words.
    """

    kind: str
    rule: str
    low: float
    high: float
    falls: bool
    read: Callable[[Array], Array]
    surest: str

    def holds(self, values: Array) -> NDArray[np.bool_]:
        """Whether values obey the rule of this kind; missing ones (nan) do."""
        return ~((values < self.low) | (values > self.high))


def _itself(values: Array) -> Array:
    return values


def _minus_log(values: Array) -> Array:
    with np.errstate(invalid="ignore"):  # what is out of range has been refused
        return np.asarray(0.0 - np.log(values))


SCALES: dict[str, Scale] = {
    "logprob": Scale("logprob", KINDS["logprob"], *DOMAIN["logprob"], False, _itself, "0"),
    "probability": Scale("probability", KINDS["probability"], *DOMAIN["probability"], False, _itself, "1"),
    "score": Scale("score", KINDS["score"], *DOMAIN["score"], False, _itself, "the greatest"),
    "percent": Scale("probability", "in [0, 100]", 0.0, 100.0, False, lambda r: r / 100.0, "100"),
    "uncertainty": Scale("probability", "in [0, 1]", 0.0, 1.0, True, lambda r: 1.0 - r, "0"),
    "nll": Scale("logprob", ">= 0", 0.0, math.inf, True, lambda r: 0.0 - r, "0"),
    "perplexity": Scale("logprob", ">= 1", 1.0, math.inf, True, _minus_log, "1"),
}
"""Every kind of confidence that a table may hold."""

_NAMED = {
    "probability": "probabilities",
    "logprob": "log-probabilities",
    "percent": "percentages",
    "uncertainty": "1 - probability",
    "nll": "negative log-probabilities",
    "perplexity": "perplexities",
    "score": "scores",
}

_LOOKS = {"uncertainty": "uncertainties"}

# Values this little beyond their range are rounded sums or ratios, not another scale.
_ROUNDING = 1e-6


def check_scale(confidence: object) -> Scale:
    """Return the kind of confidence of this name.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> check_scale("nll").kind
    'logprob'
    """
    if not isinstance(confidence, str) or confidence not in SCALES:
        names = ", ".join(repr(name) for name in SCALES)
        close = suggest(confidence, list(SCALES)).split("Known:")[0] if isinstance(confidence, str) else ""
        raise InputError(
            f"confidence must be one of the kinds {names}; got {confidence!r}. {close}"
            'Pass for example confidence="probability" (--confidence probability).'
        )
    return SCALES[confidence]


def remedy(values: Array, name: str, *, rises: bool | None, of_policy: bool) -> str:
    """Return what to do about confidences that are outside the range of their kind.

    Parameters
    ----------
    values
        All confidences as they stand in the table, nan where missing.
    name
        The kind that they were said to be.
    rises
        Whether right answers have the higher values, which `direction` says; None if that is not known.
    of_policy
        Whether the kind is that of a policy, for which there is no other.
    """
    scale, known = SCALES[name], values[~np.isnan(values)]
    wrong = np.unique(known[~scale.holds(known)])
    if np.isinf(wrong).any() and scale.kind == "score":
        return "Replace it by a large finite score, or leave it empty."
    if (np.maximum(scale.low - wrong, wrong - scale.high) <= _ROUNDING * max(1.0, abs(scale.high))).all():
        side = "above" if wrong[0] > scale.high else "below"
        end = scale.high if side == "above" else scale.low
        what = "positive values" if name == "logprob" else f"values {side} {end:g}"
        return f"This looks like rounding: replace {what} by {end:g}."
    lone = name in ("probability", "percent") and wrong.size == 1 and wrong[0] < 0.0
    if lone and (known > 0.0).any():
        return "If it stands for a confidence that is not known, leave it empty."
    if of_policy:
        return f"The policy was tuned on confidences of kind {name!r}: give them on the same scale."
    fitting = _fitting(known, name)
    if rises is not None:
        agreeing = [other for other in fitting if SCALES[other].falls != rises]
        if not agreeing and rises is False:
            return (
                "Correct it. Right answers have the lower values: for a measure of doubt without a kind "
                "of its "
                'own, give its negative as confidence="score" (--confidence score).'
            )
        fitting = agreeing or fitting
    if not fitting or fitting == ["score"]:
        return 'Correct it, or for another scale pass confidence="score" (--confidence score).'
    first, *others = fitting
    looks = _LOOKS.get(first, _NAMED[first])
    said = f'These look like {looks}: pass confidence="{first}" (--confidence {first}).'
    if others:
        ways = [f'"{other}" ({_NAMED[other]}; {SCALES[other].surest} is the surest)' for other in others]
        said += f" They can also be {_either(ways)}."
    return said


def _fitting(known: Array, name: str) -> list[str]:
    """Return the kinds that all values can be of, the likeliest first."""
    if known.size == 0 or not np.isfinite(known[~np.isneginf(known)]).all():
        return ["nll", "perplexity"] if known.size and known.min() >= 0.0 else []
    low, high = known.min(), known.max()
    if low >= 0.0 and high <= 1.0:
        likely = ["probability", "uncertainty", "nll"]
    elif low >= 0.0:
        likely = ["perplexity", "nll"] if low >= 1.0 else ["nll"]
        if 20.0 < high <= 100.0:  # percentages that never exceed 20 are no percentages
            likely.insert(0, "percent")
    elif high <= 0.0:
        likely = ["logprob"]
    else:
        likely = ["score"]
    return [other for other in likely if other != name]


def _either(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} or {ways[-1]}"


def direction(
    values: Array, models: NDArray[np.int64], correct: NDArray[np.bool_], labelled: NDArray[np.bool_]
) -> bool | None:
    """Whether right answers have the higher values; None where the labels do not tell.

    A rank-sum test for each model (Mann and Whitney 1947), their standardised statistics added up; at three
    standard errors the labels tell.

    Parameters
    ----------
    values
        Confidences of any kind, one a row, nan where missing.
    models
        Which model each row is of.
    correct, labelled
        Whether the answer of each row is right, and whether that is known.
    """
    total, count = 0.0, 0
    for model in np.unique(models):
        mine = (models == model) & labelled & ~np.isnan(values)
        score = rank_sum(values[mine], correct[mine])
        if score is not None:
            total, count = total + score, count + 1
    if not count or abs(total) < 3.0 * math.sqrt(count):
        return None
    return total > 0.0


def rank_sum(values: Array, right: NDArray[np.bool_]) -> float | None:
    """Standardised rank sum of the right answers' values: positive where these are the higher ones.

    Parameters
    ----------
    values
        Confidences of one model's labelled answers.
    right
        Whether these answers are right.

    Returns
    -------
    float or None
        About standard normal where confidence says nothing of being right; None if all answers are right, or
        wrong, or all values are equal.

    Examples
    --------
    >>> round(rank_sum(np.arange(20.0), np.arange(20) >= 10), 2)
    3.78
    """
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    levels, at, ties = np.unique(values, return_inverse=True, return_counts=True)
    if not num_right or not num_wrong or levels.size < 2:
        return None
    last = np.cumsum(ties)
    rank = (last - (ties - 1) / 2)[at]
    size = num_right + num_wrong
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (size * (size - 1))
    variance = num_right * num_wrong / 12 * (size + 1 - tied)
    return float((rank[right].sum() - num_right * (size + 1) / 2) / math.sqrt(variance))
