r"""Thresholds found on a table itself, without a model of it: what others use, and the best there can be.

Of n queries with confidences :math:`z_{qi}` and probabilities :math:`w_{qi}` of being wrong (from labels 0 or
1, or from a calibration), thresholds t lose at cost weight :math:`\lambda`

.. math::

    L_\lambda(t) = \frac1n \sum_q \Big\{ w_{q s_q(t)} + \lambda \sum_{i \le s_q(t)} c_i \Big\},

with :math:`s_q(t)` the first model whose confidence is not below its threshold. `Empirical.all_points` tries
every combination of some thresholds per model. `Empirical.search` moves one threshold at a time to the best
of *all* distinct confidences, by a cumulative sum over sorted queries, until none moves, from several starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_bayes.errors import InputError
from cascade_bayes.evaluation.curves import Points

Floats = NDArray[np.float64]

MAX_SWEEPS = 30


@dataclass(frozen=True, eq=False)
class Empirical:
    """Queries with which thresholds are judged.

    Attributes
    ----------
    confidence
        ``(num_queries, num_models)``; the last column is not used.
    wrong
        Probability that each model is wrong, or whether it was, ``(num_queries, num_models)``.
    call_cost
        US dollars per call, ``(num_models,)``.
    """

    confidence: Floats
    wrong: Floats
    call_cost: Floats

    def __post_init__(self) -> None:
        if self.confidence.shape != self.wrong.shape:
            raise InputError(
                f"confidence and wrong must have one shape; got {self.confidence.shape} and "
                f"{self.wrong.shape}."
            )
        if self.call_cost.shape != self.confidence.shape[1:]:
            raise InputError(
                f"call_cost must be one number a model, {self.confidence.shape[1]}; got shape "
                f"{self.call_cost.shape}."
            )

    def points(self, thresholds: ArrayLike) -> Points:
        """Return what thresholds ``(num_policies, num_models - 1)`` do on these queries."""
        error, cost = [], []
        for one in np.atleast_2d(np.asarray(thresholds, dtype=float)):
            here = np.ones(len(self.wrong))
            lost, paid = 0.0, self.call_cost[0]
            for i, threshold in enumerate(one):
                below = here * (self.confidence[:, i] < threshold)
                lost += np.mean((here - below) * self.wrong[:, i])
                paid += self.call_cost[i + 1] * below.mean()
                here = below
            error.append(lost + np.mean(here * self.wrong[:, len(one)]))
            cost.append(paid)
        return Points(np.asarray(error), np.asarray(cost))

    def all_points(self, thresholds: Sequence[ArrayLike]) -> Points:
        """Return what every combination of thresholds does.

        Parameters
        ----------
        thresholds
            Thresholds of each model but the last, ``(num_thresholds[i],)``.

        Returns
        -------
        Points
            Fields of shape ``num_thresholds``, the first model's first. Memory grows with the number of
            combinations of all models but the last two, times queries.
        """
        num, last = len(self.wrong), len(thresholds)
        below = [
            np.asarray(self.confidence[:, i] < np.asarray(at, dtype=float)[:, None], dtype=float)
            for i, at in enumerate(thresholds)
        ]
        shape = tuple(len(part) for part in below)
        error, cost = np.full(shape, self.wrong[:, 0].mean()), np.full(shape, self.call_cost[0])
        # Of every combination of the first models' thresholds, the share of each query that they all defer.
        here = np.full((1, num), 1.0 / num)
        for i, part in enumerate(below):
            alike = shape[: i + 1] + (1,) * (last - i - 1)
            change = self.wrong[:, i + 1] - self.wrong[:, i]
            error += (here @ (part * change).T).reshape(alike)
            cost += self.call_cost[i + 1] * (here @ part.T).reshape(alike)
            if i + 1 < last:
                here = (here[:, None] * part).reshape(-1, num)
        return Points(error, cost)

    def search(self, weight: float, starts: ArrayLike) -> Floats:
        """Return thresholds that no change of a single one improves, ``(num_models - 1,)``.

        Parameters
        ----------
        weight
            Cost weight, errors per US dollar.
        starts
            Thresholds, ``(num_starts, num_models - 1)``; the best of where they end is returned.
        """
        found = [
            self._descend(weight, np.array(start)) for start in np.atleast_2d(np.asarray(starts, dtype=float))
        ]
        return min(found, key=lambda pair: pair[0])[1]

    def _descend(self, weight: float, at: Floats) -> tuple[float, Floats]:
        before = np.inf
        for _ in range(MAX_SWEEPS):
            value = self._sweep(weight, at)
            if value >= before - 1e-12 * abs(value):
                break
            before = value
        return before, at

    def _sweep(self, weight: float, at: Floats) -> float:
        """Move every threshold in place, last to first, to its best place; return the loss."""
        num, last = len(self.wrong), len(at)
        reach = np.ones((last + 1, num), dtype=bool)
        for i in range(last):
            reach[i + 1] = reach[i] & (self.confidence[:, i] < at[i])
        value = self.wrong[:, last]
        for i in range(last - 1, -1, -1):
            go = weight * self.call_cost[i + 1] + value
            order, edges, values = self._sorted(i)
            gain = np.concatenate([[0.0], np.cumsum((reach[i] * (go - self.wrong[:, i]))[order])])[edges]
            best = int(np.argmin(gain))
            if gain[best] < gain[int(np.searchsorted(values, at[i]))] - 1e-12:
                at[i] = values[best] if best < len(values) else np.inf
            value = np.where(self.confidence[:, i] < at[i], go, self.wrong[:, i])
        return float(weight * self.call_cost[0] + value.mean())

    def _sorted(self, i: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Return the order of confidences, and how many lie below each distinct value, and below infinity."""
        column = self.confidence[:, i]
        order = np.argsort(column, kind="stable")
        values, counts = np.unique(column, return_counts=True)
        return order, np.concatenate([[0], np.cumsum(counts)]), values


def quantile_thresholds(confidence: Floats, step: float = 0.025) -> list[Floats]:
    """Return thresholds at quantiles ``step`` apart of every model but the last, each from 0.01 up."""
    at = np.arange(0.01, 1.0, step)
    found = []
    for column in confidence.T[:-1]:
        with np.errstate(invalid="ignore"):  # between an infinite confidence and another: the other
            middle = np.quantile(column, at)
        found.append(np.unique(np.where(np.isnan(middle), np.quantile(column, at, method="higher"), middle)))
    return found
