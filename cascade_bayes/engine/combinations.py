r"""Every combination of given thresholds at once, wherever on the grid they stand, on every draw.

`cascade_bayes.engine.lattice` does the same for grid points alone, on which every threshold takes the same
positions. Here each model has *options* of its own: a position within a cell, or a pair of positions where
it may abstain early. What the queries do that got to model i past the options :math:`o_1, \dots, o_{i-1}` is
computed once for all that comes after,

.. math::

    \mu_{i+1}(o_1, \dots, o_i) = \bigl[\mu_i(o_1, \dots, o_{i-1}) \varphi_{o_i}
        - \{\mu_i(o_1, \dots, o_{i-1}) \tau_{o_i}\} G_i\bigr] R_i ,

with the deferred fractions :math:`\varphi`, the tilts :math:`\tau` and the differences G across cells of
`cascade_bayes.engine.forward`, of which this is the pass of every combination.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes._kept import kept
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.forward import Split, split_cells
from cascade_bayes.engine.rows import Rows

DRAW_BATCH = 8
"""Draws that are run side by side: enough to make products of matrices, few enough to stay in the cache."""


class Combined(NamedTuple):
    """What every combination of options does on every draw.

    Attributes
    ----------
    error
        Probability that the returned answer is wrong, ``(num_draws, num_combinations)``; the options of the
        last model run fastest.
    cost
        US dollars per query, of the same shape.
    """

    error: jax.Array
    cost: jax.Array


class _Paths(NamedTuple):
    """How much of each observed query goes which way; the same on all draws.

    Attributes
    ----------
    deferred
        Share that arrives, by the options before each model, and before the end,
        ``(num_combinations of these, num_queries)``.
    left
        Share that each model leaves without an answer, given the options up to its own; None where none is.
    """

    deferred: list[jax.Array]
    left: list[jax.Array | None]


@kept()
def run_combinations(problem: Problem, options: tuple[Positions, ...]) -> Combined:
    """Run every combination of options on every draw.

    Parameters
    ----------
    problem
        Draws.
    options
        One record a model that has a threshold, of fields ``(num_options,)``: positions on the grid below
        which it defers and, at most that, below which it abstains early (None if it does not).
    """
    tables, num_thresholds = problem.tables, len(options)
    num_cells = problem.is_atom.shape[1]
    atoms = problem.is_atom[tables.step.shape[0] - num_thresholds :]
    splits = [
        split_cells(own.defer, jnp.broadcast_to(atoms[i], (len(own.defer), num_cells)), own.early)
        for i, own in enumerate(options)
    ]
    rows = tables.own_steps(num_thresholds).rows
    paths = None if rows is None else _follow(rows, options)
    shared, draws = problem.by_draw()

    def run(own: Any) -> Combined:
        chain, cost, _ = shared.of_draw(own)
        return _run_draw(chain.own_steps(num_thresholds), cost[-num_thresholds - 1 :], splits, paths)

    return jax.lax.map(run, draws, batch_size=DRAW_BATCH)


def _follow(rows: Rows, options: tuple[Positions, ...]) -> _Paths:
    """Send every query, where it stands, the ways of all combinations."""
    dtype = rows.cost.dtype
    here = jnp.ones((1, rows.cell.shape[1]), dtype)
    paths = _Paths([here], [])
    for position, own in zip(rows.position, options, strict=True):
        deferred, left = (position < own.defer[:, None]).astype(dtype), None
        if own.early is not None:
            left = (position < jnp.minimum(own.early, own.defer)[:, None]).astype(dtype)
            deferred = deferred - left
        paths.left.append(None if left is None else _each(here, left))
        here = _each(here, deferred)
        paths.deferred.append(here)
    return paths


def _each(values: jax.Array, options: jax.Array) -> jax.Array:
    """Return the products of every row of the one with every row of the other."""
    return (values[:, None] * options).reshape(-1, values.shape[1])


def _run_draw(
    tables: ChainTables, call_cost: jax.Array, splits: list[Split], paths: _Paths | None
) -> Combined:
    rows, last = tables.rows, len(splits) - 1
    num_cells = tables.mass.shape[0]
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight)
    mass = start * tables.mass[None]
    right = mass * tables.correct
    error = jnp.zeros((1, 1), mass.dtype)
    cost = jnp.full((1, 1), call_cost[0] * jnp.sum(mass))
    present = jnp.zeros(0) if rows is None else rows.weight
    for i, split in enumerate(splits):
        # Queries that the chain takes over here, after they have met the thresholds; by cell.
        handed = cells = jnp.zeros(0)
        takes_over = rows is not None and rows.ends is not None
        if rows is not None and paths is not None:
            if rows.ends is not None:
                handed, present = present * rows.ends[i], present * (1.0 - rows.ends[i])
                cells = handed[:, None] * jax.nn.one_hot(rows.cell[i], num_cells, dtype=mass.dtype)
                cost = cost + call_cost[i] * (paths.deferred[i] @ handed)[:, None]
                error = error + (paths.deferred[i] @ (handed * (1.0 - rows.right[i])))[:, None]
            cost = cost + (paths.deferred[i] @ (present * rows.cost[i]))[:, None]
            error = error + (paths.deferred[i] @ (present * (1.0 - rows.right[i])))[:, None]
        below, tilt = split.deferred, split.upper_tilt
        if split.early is not None and split.lower_tilt is not None:
            below, tilt = below + split.early, tilt - split.lower_tilt
            cost = cost + call_cost[-1] * (mass @ split.early.T)
        slope = tables.right_slope[i - 1] if i else tables.correct_slope
        answered_right = right @ (1.0 - below).T + (mass * slope) @ split.upper_tilt.T
        error = error + mass @ (1.0 - below).T - answered_right
        cost = cost + call_cost[i + 1] * ((mass * tables.relative_cost[i]) @ split.deferred.T)
        if i == last:  # of the last model only the sums over its cells are wanted
            wrong = jnp.sum(tables.transition[i] - tables.right[i], axis=1)
            bent = tables.across[i] @ wrong
            error = error + (mass * wrong) @ split.deferred.T - (mass * bent) @ tilt.T
        error, cost = error.reshape(-1, 1), cost.reshape(-1, 1)
        went = None if paths is None or not takes_over else paths.deferred[i + 1] @ cells
        if went is not None:
            cost = cost + call_cost[i + 1] * (went @ tables.relative_cost[i])[:, None]
        if i < last:
            both = jnp.concatenate([tables.transition[i], tables.right[i]], axis=1)
            on = _each(mass, split.deferred) - _each(mass, tilt) @ tables.across[i]
            after = (on if went is None else on + went) @ both
            mass, right = after[:, :num_cells], after[:, num_cells:]
        elif went is not None:
            error = error + (went @ wrong)[:, None]
        if rows is not None and paths is not None:
            # A query that goes on, or is left without an answer, is not wrong where it was.
            here = present + handed if takes_over else present
            wrong_here = here * (1.0 - rows.right[i])
            error = error - (paths.deferred[i + 1] @ wrong_here)[:, None]
            left = paths.left[i]
            if left is not None:
                error = error - (left @ wrong_here)[:, None]
                cost = cost + call_cost[-1] * (left @ here)[:, None]
    if rows is not None and paths is not None:
        error = error + (paths.deferred[-1] @ (present * (1.0 - rows.right[-1])))[:, None]
        cost = cost + (paths.deferred[-1] @ (present * rows.cost[-1]))[:, None]
    return Combined(error[:, 0], cost[:, 0])
