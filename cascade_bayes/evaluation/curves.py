r"""Error-cost lines: their area, and what a choice loses to the best there was.

A policy that errs with probability e and costs c US dollars per query loses, at cost weight :math:`\lambda`,

.. math:: L_\lambda = e + \lambda c ,

errors per query: :math:`\lambda = 1 / \text{error price}`. Two policies of every cascade are trivial: the
first model always answers, or the last always does.

The *area* under a line of points is that of the error, interpolated linearly between costs, over the range
between the trivial policies' costs, divided by the range's width; the trivial points belong to the line.
Zellinger & Thomson ("Rational Tuning of LLM Cascades via Probabilistic Modeling", TMLR 2025) judge by it.
*Regret* judges choices: the relative excess :math:`L_\lambda / L^*_\lambda - 1` of what was chosen over the
least possible loss, averaged over cost weights that run from where the dearest policy is best to where the
cheapest is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_bayes.errors import InputError

NUM_WEIGHTS = 41

LEAST_DIFFERENCE = 0.05
"""Difference of two models' errors that is taken at least to place cost weights."""


class Points(NamedTuple):
    """Policies by what they do.

    Attributes
    ----------
    error
        Probability of a wrong answer, ``(num_points,)``.
    cost
        US dollars per query, ``(num_points,)``.
    """

    error: NDArray[np.float64]
    cost: NDArray[np.float64]

    def loss(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Return the loss of every point at every cost weight, ``(num_weights, num_points)``."""
        return self.error + np.asarray(weights, dtype=float)[:, None] * self.cost

    def take(self, at: ArrayLike) -> Points:
        """Return some of the points."""
        return Points(self.error[np.asarray(at)], self.cost[np.asarray(at)])

    def and_also(self, more: Points) -> Points:
        """Return these points and others."""
        return Points(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))


def trivial_points(error: ArrayLike, call_cost: ArrayLike) -> Points:
    """Return what a cascade does whose first model always answers, and whose last always does.

    Parameters
    ----------
    error
        Probability that each model is wrong, ``(num_models,)``.
    call_cost
        US dollars per call, ``(num_models,)``.
    """
    error, call_cost = np.asarray(error, dtype=float), np.asarray(call_cost, dtype=float)
    return Points(error[[0, -1]], np.array([call_cost[0], call_cost.sum()]))


def cost_weights(
    error: ArrayLike, call_cost: ArrayLike, num_weights: int = NUM_WEIGHTS
) -> NDArray[np.float64]:
    r"""Return cost weights from where the dearest policy is best to where the cheapest is, log-spaced.

    With :math:`m = \max(|\Delta e|, 0.05) / \Delta c` of the trivial policies they run from
    :math:`\min(m / 30, 0.01 / \Delta c)` to :math:`\max(30 m, 1 / \text{cheapest later call})`.

    Parameters
    ----------
    error, call_cost
        The same as for `trivial_points`, for at least two models.
    num_weights
        How many.

    Raises
    ------
    InputError
        If there are fewer than two models, or calls after the first cost nothing.
    """
    call_cost = np.asarray(call_cost, dtype=float)
    if call_cost.size < 2:
        raise InputError(f"call_cost must be of at least two models; got {call_cost.size}.")
    later = call_cost[1:].min()
    if not later > 0:
        raise InputError(f"call_cost must be positive after the first model; got {later:g}.")
    first, last = trivial_points(error, call_cost).error
    dearer = call_cost[1:].sum()
    middle = max(abs(first - last), LEAST_DIFFERENCE) / dearer
    return np.geomspace(min(middle / 30, 0.01 / dearer), max(30 * middle, 1 / later), num_weights)


def area(points: Points, trivial: Points) -> float:
    """Return the area under the error-cost line of points and the trivial two, per unit of cost.

    Errors of points with equal costs are averaged. What lies beyond the trivial costs is cut off.

    Parameters
    ----------
    points
        The points, which may come in any order; there may be none.
    trivial
        The points that `trivial_points` returns.
    """
    error, cost = points.and_also(trivial)
    width = np.ptp(trivial.cost)
    share = (cost - trivial.cost.min()) / width
    at, which = np.unique(np.round(share, 12), return_inverse=True)
    height = np.bincount(which, error) / np.bincount(which)
    inside = np.unique(np.concatenate([[0.0, 1.0], at[(at > 0) & (at < 1)]]))
    return float(np.trapezoid(np.interp(inside, at, height), inside))


def lower_hull(points: Points) -> Points:
    """Return the vertices of the lower convex hull, by ascending cost: what is best at some cost weight.

    Weights of either sign: the hull goes up again where dearer policies err more.
    """
    order = np.lexsort((points.error, points.cost))
    kept: list[int] = []
    for i in order:
        while kept and points.cost[kept[-1]] == points.cost[i] and points.error[kept[-1]] <= points.error[i]:
            break
        else:
            while len(kept) > 1 and not _turns_left(points, kept[-2], kept[-1], i):
                kept.pop()
            kept.append(int(i))
    return points.take(kept)


def _turns_left(points: Points, a: int, b: int, c: int) -> bool:
    error, cost = points
    return bool((cost[b] - cost[a]) * (error[c] - error[a]) > (error[b] - error[a]) * (cost[c] - cost[a]))


def undominated(points: Points) -> NDArray[np.intp]:
    """Return the indices of points that err less than all that cost no more, by ascending cost."""
    order = np.lexsort((points.error, points.cost))
    error = points.error[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(error)[:-1]])
    return np.asarray(order[error < before])


def regret(chosen: ArrayLike, least: ArrayLike) -> float:
    """Return the mean relative excess of losses over the least possible ones.

    Parameters
    ----------
    chosen, least
        Losses by cost weight, ``(num_weights,)`` both.
    """
    return float(np.mean(np.asarray(chosen, dtype=float) / np.asarray(least, dtype=float) - 1.0))
