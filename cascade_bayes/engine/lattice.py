r"""Every policy on a lattice of thresholds at once.

With :math:`M_i(t_1, \dots, t_{i-1}; l)` the probability that a query gets to cell :math:`l` of model i past
the thresholds :math:`t_1, \dots, t_{i-1}`, and :math:`G_i` the part of it in which the model is right,

.. math::

    M_{i+1}(t_1, \dots, t_i; m) = \sum_{l < t_i} M_i(t_1, \dots, t_{i-1}; l) \, R_{i,lm},

and likewise :math:`G_{i+1}` with :math:`Q_i`: what is common to policies is computed once. Errors and costs
of *all* combinations of thresholds on the lattice so take little more than those of one policy for each
combination of all thresholds but the last, where a search that follows single policies starts anew each time.
They are the same at every price of an error, and those averaged over draws give the Bayes loss of every
combination: its least is the best on the lattice, with certainty.

Observed queries (`cascade_bayes.engine.rows`) enter by their counts: the weight that is deferred by
:math:`t_1, \dots, t_i` is a cumulative sum, in i directions, over the cells of their confidences.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._kept import kept
from cascade_bayes._trees import take
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.rows import Rows, average

MAX_POLICIES = 10_000
"""Combinations on a lattice, at most: all positions of two thresholds, every third of three."""


class Lattice(NamedTuple):
    """What every combination of thresholds does on one draw.

    Attributes
    ----------
    error
        Probability that the returned answer is wrong, ``(num_positions, ..., num_positions)``, an axis a
        threshold.
    paid
        US dollars per query that observed queries pay, of the same shape.
    calls
        Probability that the chain calls each model, every call counted by what it costs over the mean, an
        array a model: of the i-th an axis for each of the i thresholds before it.
    """

    error: jax.Array
    paid: jax.Array
    calls: tuple[jax.Array, ...]

    def cost(self, call_cost: jax.Array) -> jax.Array:
        """Return US dollars per query of every combination, at US dollars per call ``(num_models,)``."""
        cost = jnp.zeros((), self.paid.dtype)
        for i, calls in enumerate(self.calls):
            cost = (cost[..., None] if i else cost) + call_cost[i] * calls
        return cost + self.paid

    def best(self, call_cost: jax.Array, error_prices: jax.Array) -> jax.Array:
        """Return the combination of least loss at each price, as indices ``(num_prices, num_thresholds)``."""
        # The first threshold or two, by the others: a minimum of each row is ten times as fast as one argmin.
        num_rows = math.prod(self.error.shape[: self.error.ndim // 2])
        error, cost = (field.reshape(num_rows, -1) for field in (self.error, self.cost(call_cost)))

        def first_of_least(price: jax.Array) -> jax.Array:
            loss = cost + price * error
            row = jnp.argmin(jnp.min(loss, axis=1))
            return row * loss.shape[1] + jnp.argmin(loss[row])

        flat = jax.lax.map(first_of_least, error_prices)
        return jnp.stack(jnp.unravel_index(flat, self.error.shape), axis=-1)


def lattice_positions(num_thresholds: int, num_cells: int) -> np.ndarray:
    """Return the grid positions a threshold takes on a lattice, ascending, from "never" to "always".

    All of them where that makes no more than `MAX_POLICIES` combinations, else as many evenly spaced ones.

    Examples
    --------
    >>> len(lattice_positions(2, 64)), len(lattice_positions(4, 64))
    (65, 10)
    """
    most = int(MAX_POLICIES ** (1.0 / max(num_thresholds, 1)) + 1e-9)
    count = min(num_cells + 1, max(most, 2))
    return np.unique(np.round(np.linspace(0, num_cells, count)).astype(int))


def all_policies(tables: ChainTables, positions: jax.Array) -> Lattice:
    """Run every combination of thresholds on one draw.

    Parameters
    ----------
    tables
        One draw, with the cascade's own steps alone (`ChainTables.own_steps`).
    positions
        Grid positions that each threshold takes, ascending, ``(num_positions,)``.
    """
    followed = _follow(tables.rows, positions, tables)
    found = _of_chain(tables, positions, followed)
    if followed is None:
        return found
    error, paid = followed.all()
    return found._replace(error=found.error + error, paid=found.paid + paid)


def _follow(rows: Rows | None, positions: jax.Array, tables: ChainTables) -> _Followed | None:
    return None if rows is None else _Followed(rows, positions, tables.mass.shape[-1])


def _of_chain(tables: ChainTables, positions: jax.Array, followed: _Followed | None) -> Lattice:
    """Run every combination of thresholds on what goes through the chain, queries handed over included."""
    num_thresholds = tables.step.shape[0]
    num_cells = tables.mass.shape[-1]
    dtype = tables.mass.dtype
    rows = tables.rows
    # What each position defers; a cell counts whole, on a lattice of grid points.
    below = (jnp.arange(num_cells) < positions[:, None]).astype(dtype)
    mass = tables.mass if rows is None else (1.0 - jnp.sum(rows.weight)) * tables.mass
    right = mass * tables.correct
    error = jnp.zeros((), dtype)
    calls = [jnp.sum(mass)]
    for i in range(num_thresholds):
        if followed is not None and followed.hands_over:
            handed = followed.handed(i)
            mass, right = mass + handed[0], right + handed[1]
            calls[i] += jnp.sum(handed[0], axis=-1)
        wrong = mass - right
        error = error[..., None] + jnp.sum(wrong, axis=-1, keepdims=True) - wrong @ below.T
        calls.append((mass * tables.relative_cost[i]) @ below.T)
        if i + 1 == num_thresholds:
            error += (mass * (1.0 - jnp.sum(tables.right[i], axis=1))) @ below.T
        else:
            deferred = mass[..., None, :] * below
            mass, right = deferred @ tables.transition[i], deferred @ tables.right[i]
    return Lattice(error, jnp.zeros_like(error), tuple(calls))


def bayes_on_lattice(
    problem: Problem,
    error_prices: np.ndarray,
    positions: np.ndarray,
    num_thresholds: int,
) -> np.ndarray:
    """Return the thresholds of least average loss on a lattice, ``(num_prices, num_thresholds)``.

    Parameters
    ----------
    problem
        Draws.
    error_prices
        US dollars per wrong answer, ``(num_prices,)``.
    positions
        Grid positions that each threshold takes, ascending, ``(num_positions,)``.
    num_thresholds
        How many models can send a query on.
    """
    found = _averages(problem, jnp.asarray(positions), num_thresholds=num_thresholds)
    error, cost = map(np.asarray, found)
    flat = [np.argmin(cost + price * error) for price in np.asarray(error_prices, error.dtype)]
    return np.asarray(positions)[np.stack(np.unravel_index(flat, error.shape), axis=-1)]


@kept("num_thresholds")
def _averages(problem: Problem, positions: jax.Array, num_thresholds: int) -> tuple[jax.Array, jax.Array]:
    """Return error and cost of every combination, averaged over draws."""
    tables = problem.tables.own_steps(num_thresholds)
    rows, apart = tables.rows, None
    if rows is not None and rows.ends is None:  # linear in what differs between draws: once for all
        apart = _Followed(_only(average(rows)), positions, tables.mass.shape[-1])
    shared, draws = tables.by_draw()

    def policies(own: Any) -> Lattice:
        one = shared.of_draw(own)
        return all_policies(one, positions) if apart is None else _of_chain(one, positions, None)

    shape = jax.eval_shape(lambda draws: policies(take(draws, 0)), draws)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    total, _ = jax.lax.scan(
        lambda total, own: (jax.tree.map(jnp.add, total, policies(own)), None), zeros, draws
    )
    mean = jax.tree.map(lambda field: field / len(tables.mass), total)
    if apart is not None:
        error, paid = apart.all()
        mean = mean._replace(error=mean.error + error, paid=mean.paid + paid)
    return mean.error, mean.cost(problem.averaged().call_cost[-num_thresholds - 1 :])


@kept("num_thresholds")
def own_on_lattice(
    problem: Problem,
    error_price: jax.Array,
    positions: jax.Array,
    num_thresholds: int,
) -> jax.Array:
    """Return the thresholds of each draw's least loss on a lattice, ``(num_draws, num_thresholds)``.

    Parameters
    ----------
    problem, positions, num_thresholds
        The same as for `bayes_on_lattice`.
    error_price
        US dollars per wrong answer, ``()``.
    """
    shared, draws = problem.by_draw()

    def best(own: Any) -> jax.Array:
        tables, cost, _ = shared.of_draw(own)
        found = all_policies(tables.own_steps(num_thresholds), positions)
        return found.best(cost[-num_thresholds - 1 :], error_price[None])[0]

    return positions[jax.lax.map(best, draws)]


def _only(rows: Rows) -> Rows:
    """Return the single draw of rows that have an axis of one draw."""
    return rows._replace(weight=rows.weight[0], right=rows.right[0])


class _Followed:
    """Observed queries of one draw on the lattice."""

    def __init__(self, rows: Rows, positions: jax.Array, num_cells: int) -> None:
        self._num_cells, self._size = num_cells, len(positions)
        self._cell = rows.cell
        # The first position that defers a query.
        self._first = jnp.searchsorted(positions, rows.cell, side="right")
        self.hands_over = rows.ends is not None
        present, handed = [rows.weight], []
        for i in range(len(rows.cell)):
            handed.append(present[i] * rows.ends[i] if rows.ends is not None else jnp.zeros_like(rows.weight))
            present[i] = present[i] - handed[i]
            present.append(present[i])
        self._handed = jnp.stack(handed)
        self._right = rows.right
        here = jnp.stack(present)
        wrong = here * (1.0 - rows.right)
        # A query that goes on is wrong where it goes, and no more where it was.
        self._error = wrong.at[1:].add(-wrong[:-1])
        self._cost = here * rows.cost

    def all(self) -> tuple[jax.Array, jax.Array]:
        """Return the queries' error and cost for every combination of thresholds."""
        error, cost = self.at(0)
        for i in range(len(self._cell)):
            more = self.at(i + 1)
            error, cost = error[..., None] + more[0], cost[..., None] + more[1]
        return error, cost

    def at(self, i: int) -> tuple[jax.Array, jax.Array]:
        """Return what getting to model ``i`` adds to error and cost, an axis a threshold passed."""
        values = jnp.stack([self._error[i], self._cost[i]])
        found = self._deferred(values, i)
        return found[0], found[1]

    def handed(self, i: int) -> tuple[jax.Array, jax.Array]:
        """Return what model ``i`` hands over to the chain's cells, and the part in which it is right."""
        values = jnp.stack([self._handed[i], self._handed[i] * self._right[i]])
        found = self._deferred(values, i, (self._cell[i],), (self._num_cells,))
        return found[0], found[1]

    def _deferred(
        self,
        values: jax.Array,
        i: int,
        more: tuple[jax.Array, ...] = (),
        sizes: tuple[int, ...] = (),
    ) -> jax.Array:
        """Sum each row of values over the queries that the first ``i`` thresholds defer."""
        index = (*self._first[:i], *more)
        if not index:
            return jnp.sum(values, axis=1)
        index = (slice(None), *index)
        counts = jnp.zeros((len(values), *[self._size] * i, *sizes), values.dtype).at[index].add(values)
        for axis in range(1, i + 1):
            counts = jnp.cumsum(counts, axis=axis)
        return counts
