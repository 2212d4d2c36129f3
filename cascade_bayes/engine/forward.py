r"""The exact forward pass: error, cost and reach of a threshold policy on one draw.

The pass carries along the chain (`cascade_bayes.engine.chain`, whose R, Q and D these are) the mass
:math:`\mu_l` that got to each cell and the part of it in which the model there is right. A threshold inside
cell :math:`l` defers its lower fraction :math:`\varphi`, whose rows differ from the cell's average by the
slope :math:`D_l` across the cell:

.. math::

    \text{deferred} = \mu_l \{\varphi R_l - \tfrac12 \varphi (1 - \varphi) D_l\},

so that the objective has a continuous derivative inside cells, and its kinks at edges are of second order.
As :math:`D = G R`, the tilts are taken across cells before the step: one product a step.
The pass is multilinear in the deferred fractions and differentiable in thresholds and parameters.

With *early* abstention every model also sends what lies below a second threshold straight to abstaining, the
last model of a cascade that abstains.

Observed queries run beside the chain (`cascade_bayes.engine.rows`), each with its own weight, and the
chain with what is left of 1. `forward` has each of them where it stands; `run_draws`, which searches take
derivatives of, spread over its cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._devices import divide
from cascade_bayes._kept import kept
from cascade_bayes.copulas import Copula
from cascade_bayes.engine.cell_tables import chain_tables
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.costs import CostTrend
from cascade_bayes.engine.grid import Grid
from cascade_bayes.engine.rows import Queries, Rows, follow_rows, right_prob
from cascade_bayes.model.params import CascadeParams


class Outcome(NamedTuple):
    """What a policy does on one draw.

    Attributes
    ----------
    error
        Probability that the returned answer is wrong, ``()``.
    cost
        Expected US dollars per query, ``()``.
    reach_prob
        Probability that each model is called, ``(num_models,)``.
    right_prob
        Probability that each model answers, and rightly, ``(num_models,)``.
    early_prob
        Probability that each model but the last abstains early, ``(num_models - 1,)``.
    """

    error: jax.Array
    cost: jax.Array
    reach_prob: jax.Array
    right_prob: jax.Array
    early_prob: jax.Array


def deferral(positions: jax.Array, is_atom: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Return the deferred fraction :math:`\varphi` of every cell and :math:`\varphi(1-\varphi)/2`.

    Parameters
    ----------
    positions
        Thresholds as positions on the grid, ``(num_models - 1,)``.
    is_atom
        ``(num_models - 1, num_cells)`` of the models that have a threshold.

    Returns
    -------
    tuple of jax.Array
        Both ``(num_models - 1, num_cells)``; the second is 0 for atoms.
    """
    below = jnp.clip(positions[:, None] - jnp.arange(is_atom.shape[1]), 0.0, 1.0)
    fraction = jnp.where(is_atom, jnp.where(below > 0.5, 1.0, 0.0), below)
    return fraction, jnp.where(is_atom, 0.0, 0.5 * below * (1.0 - below))


class Split(NamedTuple):
    r"""How thresholds divide the cells of every model but the last, ``(num_models - 1, num_cells)`` each.

    Attributes
    ----------
    deferred
        Fraction of a cell that is deferred.
    upper_tilt
        :math:`\varphi (1 - \varphi) / 2` of the fraction below the threshold above which the model answers.
    early
        Fraction on which the model abstains early, below all that is deferred; None if it never does.
    lower_tilt
        :math:`\varphi (1 - \varphi) / 2` of that fraction.
    """

    deferred: jax.Array
    upper_tilt: jax.Array
    early: jax.Array | None = None
    lower_tilt: jax.Array | None = None


def split_cells(positions: jax.Array, is_atom: jax.Array, early: jax.Array | None = None) -> Split:
    """Return how thresholds divide the cells.

    Parameters
    ----------
    positions
        Thresholds as positions on the grid, ``(num_models - 1,)``.
    is_atom
        ``(num_models - 1, num_cells)`` of the models that have a threshold.
    early
        Positions below which models abstain early, at most ``positions``; None if none does.
    """
    below, upper_tilt = deferral(positions, is_atom)
    if early is None:
        return Split(below, upper_tilt)
    abstained, lower_tilt = deferral(jnp.minimum(early, positions), is_atom)
    return Split(below - abstained, upper_tilt, abstained, lower_tilt)


def run_chain(problem: Problem, split: Split, of_queries: Split | None = None) -> Outcome:
    """Run the forward pass of one draw with cells divided by thresholds.

    Parameters
    ----------
    problem
        One draw.
    split
        How the cells are divided (see `split_cells`).
    of_queries
        What becomes of each observed query, ``deferred`` and ``early`` of it; None for what becomes of its
        cell.
    """
    tables, call_cost = problem.tables, problem.call_cost
    rows, followed = tables.rows, None
    if rows is not None:
        own = _by_cell(rows, split) if of_queries is None else of_queries
        followed = follow_rows(rows, own.deferred, own.early, split.deferred.shape[1])
    handed = None if followed is None else followed.handed
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight)
    mass = start * tables.mass
    zero = jnp.zeros((), mass.dtype)

    def move(state: _State, here: _Here) -> tuple[_State, _Fate]:
        """Take what is in a model's cells to those of the next, and say what becomes of the rest."""
        mass, right, slope = state
        step, split, across, come, cost = here
        below, tilt, early = split.deferred, split.upper_tilt, zero
        if split.early is not None and split.lower_tilt is not None:
            early = jnp.dot(mass, split.early)
            below, tilt = below + split.early, tilt - split.lower_tilt
        answered = jnp.dot(right, 1.0 - below) + jnp.dot(mass * split.upper_tilt, slope)
        reach, deferred, paid = jnp.sum(mass), mass * split.deferred, zero
        if come is not None:  # each where it stands in its cell
            reach, deferred, early = reach + jnp.sum(come.mass), deferred + come.deferred, early + come.early
            answered, paid = answered + come.answered, cost[0] * jnp.sum(come.mass)
        paid = paid + cost[1] * jnp.dot(deferred, tables.relative_cost[step])
        on = deferred - (mass * tilt) @ across
        after = on @ tables.transition[step], on @ tables.right[step], tables.right_slope[step]
        return after, _Fate(reach, answered, early, paid)

    def pass_over(state: _State, here: _Here) -> tuple[_State, _Fate]:
        return state, _Fate(jnp.sum(state[0]), zero, zero, zero)

    def each(state: _State, here: _Here) -> tuple[_State, _Fate]:
        return jax.lax.cond(here[0] >= 0, move, pass_over, state, here)

    costs = jnp.stack([call_cost[:-1], call_cost[1:]], axis=1)
    begin = mass, mass * tables.correct, tables.correct_slope
    (last, last_right, _), fate = jax.lax.scan(
        each, begin, (tables.step, split, tables.across, handed, costs)
    )
    reach_prob = jnp.append(fate.reach, jnp.sum(last))
    right_prob = jnp.append(fate.right, jnp.sum(last_right))
    paid, early_prob = jnp.sum(fate.paid) + _first(tables, call_cost) * jnp.sum(mass), fate.early
    if rows is not None and followed is not None:
        reach_prob = reach_prob + followed.reach_prob(rows)
        right_prob = right_prob + followed.right_prob(rows)
        paid = paid + followed.cost(rows)
        early_prob = early_prob + followed.early_prob(rows)
    # The last model of a cascade that abstains is abstaining itself.
    abstained = jnp.sum(early_prob)
    return Outcome(
        error=1.0 - jnp.sum(right_prob) - abstained,
        cost=paid + call_cost[-1] * abstained,
        reach_prob=reach_prob.at[-1].add(abstained),
        right_prob=right_prob.at[-1].add(abstained),
        early_prob=early_prob,
    )


def _by_cell(rows: Rows, split: Split) -> Split:
    """Return what becomes of queries that lie spread over their cells."""
    early = None if split.early is None else rows.share(split.early)
    return Split(rows.share(split.deferred), split.upper_tilt, early, split.lower_tilt)


_State = tuple[jax.Array, jax.Array, jax.Array]
"""Mass in a model's cells, the part of it in which the model is right, and its `ChainTables.right_slope`."""

_Here = tuple[Any, ...]
"""What the pass needs of a model: its step, how its cells are divided, their `ChainTables.across`, what
observed queries hand over to them, and what its own calls and the next model's cost."""


class _Fate(NamedTuple):
    """What becomes of the queries at a model, ``()`` each.

    Attributes
    ----------
    reach
        Probability that it is called.
    right
        Probability that it answers, and rightly.
    early
        Probability that it abstains early.
    paid
        US dollars for calls of the next model, and for its own calls about queries handed over.
    """

    reach: jax.Array
    right: jax.Array
    early: jax.Array
    paid: jax.Array


def _first(tables: ChainTables, of_models: jax.Array) -> jax.Array:
    """Return what the first model of a cascade has, of an array with a leading axis of all models."""
    return of_models[jnp.sum(tables.step < 0)]


def run_draws(problem: Problem, split: Split) -> Outcome:
    """Run the forward pass of many draws with the same divided cells."""
    run = jax.vmap(run_chain, in_axes=(problem.draw_axes(), None))
    return run(problem, split)


def forward(
    problem: Problem,
    positions: jax.Array,
    early: jax.Array | None = None,
) -> Outcome:
    """Return error, cost and reach of a threshold policy on one draw, each observed query where it stands.

    Parameters
    ----------
    problem
        One draw.
    positions
        Thresholds as positions on the grid, ``(num_models - 1,)``.
    early
        Positions below which models abstain early, ``(num_models - 1,)``; None if none does.
    """
    split = split_cells(positions, problem.is_atom[: positions.shape[0]], early)
    rows, own = problem.tables.rows, None
    if rows is not None:
        below, abstained = rows.below(positions), None
        if early is not None:
            abstained = rows.below(jnp.minimum(early, positions))
            below = below - abstained
        own = split._replace(deferred=below, early=abstained)
    return run_chain(problem, split, own)


def outcomes_for_draws(
    params: CascadeParams,
    grid: Grid,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    call_cost: jax.Array,
    policies: tuple[jax.Array, jax.Array | None],
    queries: Queries | None = None,
    trend: CostTrend | None = None,
    abstains: bool = False,
) -> Outcome:
    """Run policies on many draws, whose tables are dropped one after another.

    Parameters
    ----------
    params, grid, copulas, members, queries, trend, abstains
        The same as for `tables_for_draws`.
    call_cost
        US dollars per call, ``(num_draws, num_models)``.
    policies
        Thresholds as `forward` takes them, ``positions`` and ``early``, with a leading axis of policies.

    Returns
    -------
    Outcome
        NumPy arrays ``(num_policies, num_draws, ...)``.
    """
    dtype = params.intercept.dtype
    edges, is_atom = jnp.asarray(grid.edges, dtype=dtype), jnp.asarray(grid.is_atom)
    weight = None if queries is None else queries.weight
    draws = _Draws(params, trend, call_cost, weight)
    found = _outcomes_for_draws(draws, edges, is_atom, policies, queries, copulas, members, abstains)
    return jax.tree.map(np.asarray, found)


class _Draws(NamedTuple):
    """What differs between draws."""

    params: CascadeParams
    trend: CostTrend | None
    call_cost: jax.Array
    weight: jax.Array | None


@kept("copulas", "members", "abstains")
def _outcomes_for_draws(
    draws: _Draws,
    edges: jax.Array,
    is_atom: jax.Array,
    policies: tuple[jax.Array, jax.Array | None],
    queries: Queries | None,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    abstains: bool,
) -> Outcome:
    def of_draws(
        draws: _Draws,
        edges: jax.Array,
        is_atom: jax.Array,
        policies: tuple[jax.Array, jax.Array | None],
        queries: Queries | None,
    ) -> Outcome:
        def one(draw: _Draws) -> Outcome:
            tables = chain_tables(draw.params, edges, is_atom, copulas, members, draw.trend, abstains)
            if queries is not None and draw.weight is not None:
                rows = queries.rows(draw.weight, right_prob(queries.z, draw.params, members))
                tables = tables._replace(rows=rows)
            problem = Problem(tables, draw.call_cost, is_atom[jnp.asarray(members)])
            return jax.vmap(lambda at: forward(problem, *at))(policies)

        found = jax.lax.map(one, draws)
        return jax.tree.map(lambda field: jnp.moveaxis(field, 0, 1), found)

    divided = divide(of_draws, len(draws.call_cost), (0, None, None, None, None), 1)
    return divided(draws, edges, is_atom, policies, queries)
