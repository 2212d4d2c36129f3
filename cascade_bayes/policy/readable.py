r"""Thresholds as people write them: short numbers that stand clear of every confidence that occurs.

The search (`cascade_bayes.engine.optimise`) ends at a place of the grid, for example just above an atom. As
a number that would be 95.00000000000001, which prints as 95, where the decision is the other one; and stored
in 32 bits the same confidences would be decided otherwise. All numbers between two confidences that occur
next to each other decide these alike. A threshold is therefore moved, between its neighbours
:math:`v < t \le v'`:

* beside an atom to their middle: between grades of 95 and 100 it is 97.5;
* elsewhere to a short decimal close to where the search ended (`NEAR`), or to their middle where they are so
  close to each other that it makes no difference (`CLOSE`);
* always further from both than their spacing in 32 bits, if there is room for that.

Below all confidences but those of exactly minus infinity it is `ONLY_IMPOSSIBLE`, or what is low enough.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cascade_bayes.transforms import ConfidenceMap

NEAR = 5e-3
"""Largest move of a threshold in the continuous part, in standardised logits: a score s and 1 - s change by
that share at most."""

CLOSE = 0.2
"""Distance of two neighbours, in standardised logits, up to which a threshold stands in their middle."""

MIDDLE = 0.01
"""Share of the distance of the neighbours of an atom's threshold by which it may be off their middle."""

HALFWAY = 0.25
"""The same share where the neighbours are close and no atoms."""

ONLY_IMPOSSIBLE = -1000.0
"""Log-probability below which only minus infinity is deferred, unless finite ones occur that are as low."""

_ENDS = {"probability": (0.0, 1.0), "logprob": (-np.inf, 0.0), "score": (-np.inf, np.inf)}
"""Ends of the scale of each kind of confidence."""

_MOST_DIGITS = 17


class Scale(NamedTuple):
    """Confidences of one model that thresholds have to tell apart.

    Attributes
    ----------
    seen
        Raw confidences that occur, ascending, each once, ``(num_values,)``.
    atoms
        Raw confidences of its atoms, ``(num_atoms,)``.
    continuous
        Whether its margin has a continuous part.
    """

    seen: np.ndarray
    atoms: np.ndarray
    continuous: bool


def find_scale(confidence: np.ndarray, atoms: np.ndarray, continuous: bool) -> Scale:
    """Return the scale of a model from its raw confidences, NaN where missing, and atoms, padded by NaN."""
    return Scale(np.unique(confidence[~np.isnan(confidence)]), atoms[~np.isnan(atoms)], bool(continuous))


def readable(raw: np.ndarray, scale: Scale, confidence_map: ConfidenceMap, model: int) -> np.ndarray:
    """Return thresholds of one model as short numbers that decide every confidence that occurs alike.

    Parameters
    ----------
    raw
        Raw thresholds, of any shape; infinite ones stay.
    scale
        What occurs.
    confidence_map
        Map from raw confidences to standardised logits.
    model
        Position of the model in ``confidence_map``.

    Examples
    --------
    >>> grades = find_scale(np.array([60.0, 95.0, 100.0]), np.array([60.0, 95.0, 100.0]), False)
    >>> just_above = np.nextafter([60.0, 95.0, 100.0], np.inf)
    >>> readable(just_above, grades, ConfidenceMap("score", (80.0,), (10.0,)), 0)
    array([77.5, 97.5,  inf])
    """
    each, back = np.unique(raw, return_inverse=True)
    inside = np.isfinite(each)
    if inside.any():
        each[inside] = _between(each[inside], scale, confidence_map, model)
    return each[back].reshape(np.shape(raw))


def _between(t: np.ndarray, scale: Scale, confidence_map: ConfidenceMap, model: int) -> np.ndarray:
    """Do what `readable` does, of finite thresholds."""
    seen, (bottom, top) = scale.seen, _ENDS[confidence_map.kind]
    count = np.searchsorted(seen, t, side="left")
    any_below, any_above = count > 0, count < len(seen)
    # Where nothing can lie beyond the values that occur, all are deferred or none.
    nothing = ~(any_above | (scale.continuous & (t <= top)))
    everything = ~any_below & (not scale.continuous)
    padded = np.concatenate([[bottom], seen, [top]])
    low, high = padded[count], padded[count + 1]
    with np.errstate(over="ignore"):  # from the least finite number to minus infinity
        beside_atom = np.isin(t, scale.atoms) | np.isin(np.nextafter(t, -np.inf), scale.atoms)

    def logit(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return confidence_map.to_logit(np.clip(values, bottom, top), model=model)

    # Beyond the outermost atom of a scale without end it stands at a distance from it.
    reach = CLOSE
    with np.errstate(invalid="ignore", over="ignore"):
        further = confidence_map.from_logit(logit(low) + reach, model=model)
        lower = confidence_map.from_logit(logit(high) - reach, model=model)
    high = np.where(beside_atom & ~any_above & np.isinf(high), further, high)
    low = np.where(beside_atom & ~any_below & np.isinf(low), lower, low)

    start, end = _clear_of(low, high, any_below, any_above)
    with np.errstate(invalid="ignore"):
        close = any_below & any_above & (logit(high) - logit(low) <= CLOSE)
        middle = np.clip(0.5 * low + 0.5 * high, start, end)
        in_middle = (beside_atom | close) & np.isfinite(low) & np.isfinite(high)
        off = np.where(beside_atom, MIDDLE, HALFWAY) * (high - low)
    target = np.where(in_middle, middle, np.clip(t, start, end))
    only_impossible = any_below & beside_atom & np.isinf(low)
    most = np.where(np.isfinite(high) & (high < 0.5 * ONLY_IMPOSSIBLE), 2 * high, ONLY_IMPOSSIBLE)
    target = np.where(only_impossible, most, target)
    off, in_middle = np.where(only_impossible, 0.25 * np.abs(most), off), in_middle | only_impossible

    wanted, found, left = logit(target), target.copy(), np.arange(len(t))
    for digits in range(1, _MOST_DIGITS):
        short = np.array(
            [
                _shorten(value, digits, *ends)
                for value, *ends in zip(target[left], start[left], end[left], strict=True)
            ]
        )
        with np.errstate(invalid="ignore"):
            near = np.where(
                in_middle[left],
                np.abs(short - target[left]) <= off[left],
                np.abs(logit(short) - wanted[left]) <= NEAR,
            )
        fits = near & (start[left] <= short) & (short <= end[left])
        found[left[fits]] = short[fits]
        left = left[~fits]
        if not left.size:
            break
    return np.where(nothing, np.inf, np.where(everything, -np.inf, found))


def _shorten(value: float, digits: int, start: float, end: float) -> float:
    """Return the number of so many digits that is nearest to a value, or the next towards an interval."""
    short = float(f"{value:.{digits}g}")
    if start <= short <= end or not short:
        return short
    unit = 10.0 ** (math.floor(math.log10(abs(short))) - digits + 1)
    return float(f"{short + (unit if short < start else -unit):.{digits}g}")


def _clear_of(
    low: np.ndarray, high: np.ndarray, any_below: np.ndarray, any_above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest number above ``low`` and up to ``high`` that is clear of both.

    By their spacing in 32 bits, where there is room; of neighbours that 32 bits do not tell apart in 64.
    Where not even those have a number between them, it is ``high`` itself: what lies below that is deferred.
    """

    def spacing(values: np.ndarray, occurs: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            space = np.abs(np.spacing(values.astype(np.float32))).astype(float)
        return np.where(occurs & np.isfinite(values), np.nan_to_num(space), 0.0)

    start, end = low + spacing(low, any_below), high - spacing(high, any_above)
    tight = ~(start < end)
    start = np.where(tight, np.where(any_below, np.nextafter(low, np.inf), low), start)
    end = np.where(tight, high, end)
    biggest = np.finfo(float).max
    return np.maximum(start, -biggest), np.minimum(end, biggest)
