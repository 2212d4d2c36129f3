r"""The exact forward pass: error, cost and reach of a threshold policy on one draw.

On a grid (`cascade_bayes.decision.grid`) with boundaries :math:`u_0 = 0 \le \dots \le u_N = 1` of the
margin's probability, the chain of confidences moves from cell :math:`l` of model i to cell :math:`m` of
model i + 1 with probability

.. math::

    R_{lm} = \frac{C(u_{l+1}, v_{m+1}) - C(u_l, v_{m+1}) - C(u_{l+1}, v_m) + C(u_l, v_m)}{u_{l+1} - u_l},

which sums to one over :math:`m` by construction: no probability is lost. For atoms this is exact; within
a continuous cell the sub-density of the queries that got there is taken as the margin's own, an error of
second order in the cell width. A threshold inside cell :math:`l` defers its lower fraction
:math:`\varphi`, whose rows differ from the cell's average by the slope :math:`D_l` across the cell:

.. math::

    \text{deferred} = \mu_l \{\varphi R_l - \tfrac12 \varphi (1 - \varphi) D_l\},

so that the objective has a continuous derivative inside cells, and its kinks at edges are of second order.
The pass is multilinear in the deferred fractions and differentiable in thresholds and parameters.

Whether model i + 1 is right depends on both cells, :math:`Q_{lm} = R_{lm} p_{lm}` with :math:`p_{lm}` the
mean of :math:`\sigma(a + b x + c x' + e)` over cell :math:`m`, at the mean :math:`x'` of cell :math:`l`.
The pass carries the mass that got to each cell and the part of it in which the model there is right.

A cascade that skips models moves by the product of the skipped models' matrices (Chapman-Kolmogorov):
one fit of a chain serves every ordered subset of its models.

A call may cost more or less where the model before it had another confidence: its cost is the mean cost of
the model's calls times a factor of the cell that deferred (`cascade_bayes.decision.costs`).

Abstaining is a model of its own at the end of the cascade: it costs the price of abstaining and is never
wrong. The last model's threshold decides whether it is called. With *early* abstention every model also sends
what lies below a second threshold straight to it.

Observed queries run beside the chain (`cascade_bayes.decision.rows`), each with its own weight, and the
chain with what is left of 1.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas import Copula
from cascade_bayes.decision.costs import CostTrend
from cascade_bayes.decision.grid import Grid
from cascade_bayes.decision.rows import DRAW_AXES, Queries, Rows, follow_rows, right_prob
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.inference.devices import divide
from cascade_bayes.model.correctness import own_logit, regressor
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint


class ChainTables(NamedTuple):
    """One draw of a cascade as a finite chain, and observed queries beside it.

    Fields may carry a leading axis of draws, of ``rows`` those that `draw_axes` names.

    Attributes
    ----------
    mass
        Probability of the first model's cells, ``(num_cells,)``.
    correct
        Probability that the first model is right, given its cell, ``(num_cells,)``.
    transition, right
        ``R``, and its part ``Q`` in which the next model is right,
        ``(num_models - 1, num_cells, num_cells)``.
    transition_slope, right_slope
        Their changes ``D`` across a cell.
    correct_slope
        Change of the probability of being right across each cell, ``(num_models, num_cells)``.
    relative_cost
        What a call of the next model costs that a cell defers, over the mean of its calls,
        ``(num_models - 1, num_cells)``.
    rows
        Observed queries; None if the chain counts for all.
    """

    mass: jax.Array
    correct: jax.Array
    transition: jax.Array
    right: jax.Array
    transition_slope: jax.Array
    right_slope: jax.Array
    correct_slope: jax.Array
    relative_cost: jax.Array
    rows: Rows | None = None

    def draw_axes(self) -> ChainTables:
        """Return where the axis of draws is, for `jax.vmap`: what all draws share has none."""
        axes: dict[str, Any] = dict.fromkeys(self._fields, 0)
        return ChainTables(**axes | {"rows": None if self.rows is None else DRAW_AXES})

    def alone(self) -> ChainTables:
        """Return a single draw with an axis of draws."""
        rows = self.rows
        if rows is not None:
            rows = rows._replace(weight=rows.weight[None], right=rows.right[None])
        chain = jax.tree.map(lambda field: field[None], self._replace(rows=None))
        return chain._replace(rows=rows)


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


def chain_tables(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...] | None = None,
    trend: CostTrend | None = None,
    abstains: bool = False,
) -> ChainTables:
    """Build the tables of one draw, without observed queries.

    Parameters
    ----------
    params
        One draw.
    edges, is_atom
        The grid's arrays, of all models.
    copulas
        Family of each neighbouring pair of all models.
    members
        Ascending indices of the models of the cascade; all if None. Static.
    trend
        How the cost of a member's calls changes with the confidence of the member before; not at all if None.
    abstains
        Whether abstaining is a last model of the cascade. Static.
    """
    members = tuple(range(params.num_models)) if members is None else members
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    flat = edges.reshape(edges.shape[0], -1)
    at = jax.tree.map(lambda field: field.reshape(edges.shape), mixed.point(flat, margins))
    boundary = _boundaries(at, is_atom)
    weight = _node_weights(at)
    logit = _node_logits(edges, is_atom, params)
    x = jnp.sum(weight * regressor(edges), axis=-1)

    def joint(i: int) -> tuple[jax.Array, jax.Array]:
        """``R`` and ``Q`` from model ``i - 1`` to ``i``."""
        table = _transition(boundary, i - 1, copulas[i - 1], params.theta[i - 1])
        shifted = logit[i][None] + params.upstream[i] * x[i - 1][:, None, None]
        return table, table * jnp.sum(weight[i] * jax.nn.sigmoid(shifted), axis=-1)

    def slope(i: int, table: jax.Array) -> jax.Array:
        return jnp.where(is_atom[i][:, None], 0.0, _slope(table, is_atom[i]))

    def mass(i: int) -> jax.Array:
        return jnp.maximum(jnp.diff(boundary.value[i]), 0.0)

    def correct_slope(i: int) -> jax.Array:
        ahead = params.upstream[i] * jnp.dot(mass(i - 1), x[i - 1]) if i else 0.0
        rate = jax.nn.sigmoid(logit[i] + ahead)
        return jnp.where(is_atom[i], 0.0, rate[:, -1] - rate[:, 0])

    start = members[0]
    if start:
        # The model before is not called: its confidence is integrated over.
        share = mass(start - 1) @ joint(start)[1]
        of_all = mass(start)
        correct = jnp.where(of_all > 0, share / jnp.where(of_all > 0, of_all, 1.0), 0.0)
    else:
        correct = jnp.sum(weight[0] * jax.nn.sigmoid(logit[0]), axis=-1)

    steps: list[tuple[jax.Array, ...]] = []
    for a, b in itertools.pairwise(members):
        table, right = joint(a + 1)
        step = (table, right, slope(a, table), slope(a, right))
        for i in range(a + 2, b + 1):
            table, right = joint(i)
            step = (step[0] @ table, step[0] @ right, step[2] @ table, step[2] @ right)
        steps.append(step)
    num_cells = edges.shape[1]
    empty = jnp.zeros((0, num_cells, num_cells), dtype=correct.dtype)
    transition, right, transition_slope, right_slope = (
        [jnp.stack(part) for part in zip(*steps, strict=True)] if steps else [empty] * 4
    )
    before = jnp.asarray(members[:-1], dtype=int)
    relative_cost = jnp.ones((len(before), num_cells), dtype=correct.dtype)
    if trend is not None:
        relative_cost = jnp.exp(trend.slope[:, None] * x[before] - trend.log_mean[:, None])
    tables = ChainTables(
        mass=mass(start),
        correct=correct,
        transition=transition,
        right=right,
        transition_slope=transition_slope,
        right_slope=right_slope,
        correct_slope=jnp.stack([correct_slope(i) for i in members]),
        relative_cost=relative_cost,
    )
    return with_abstention(tables) if abstains else tables


def with_abstention(tables: ChainTables) -> ChainTables:
    """Append a model that is never wrong, whose queries all lie in its first cell."""
    num_cells = tables.mass.shape[0]
    dtype = tables.mass.dtype
    certain = jnp.zeros((1, num_cells, num_cells), dtype).at[:, :, 0].set(1.0)

    def append(field: jax.Array, more: jax.Array) -> jax.Array:
        return jnp.concatenate([field, more])

    return tables._replace(
        transition=append(tables.transition, certain),
        right=append(tables.right, certain),
        transition_slope=append(tables.transition_slope, jnp.zeros_like(certain)),
        right_slope=append(tables.right_slope, jnp.zeros_like(certain)),
        correct_slope=append(tables.correct_slope, jnp.zeros((1, num_cells), dtype)),
        relative_cost=append(tables.relative_cost, jnp.ones((1, num_cells), dtype)),
    )


def _boundaries(at: MarginPoint, is_atom: jax.Array) -> UnitPoint:
    """``u`` before each cell, F(e-) if the cell is an atom, else F(e), and after the last.

    Shape ``(num_models, num_cells + 1)``. The first is 0 whether or not an atom begins there.
    """

    def with_ends(lower: jax.Array, upper: jax.Array, first: float, last: float) -> jax.Array:
        before = jnp.where(is_atom, lower[:, :, 0], upper[:, :, 0]).at[:, 0].set(first)
        return jnp.concatenate([before, jnp.full((before.shape[0], 1), last, before.dtype)], axis=1)

    return UnitPoint(
        with_ends(at.lower.log_u, at.upper.log_u, -jnp.inf, 0.0),
        with_ends(at.lower.log_1mu, at.upper.log_1mu, 0.0, -jnp.inf),
    )


def _node_weights(at: MarginPoint) -> jax.Array:
    """Weights of the trapezoidal rule over a cell's parts, by their mass; even where there is none."""
    # Mass of each part of a cell: from F just after its lower edge to F just before its upper edge.
    parts = jnp.maximum(at.lower.value[:, :, 1:] - at.upper.value[:, :, :-1], 0.0)
    total = jnp.sum(parts, axis=-1, keepdims=True)
    share = jnp.where(total > 0, parts / jnp.where(total > 0, total, 1.0), 1.0 / parts.shape[-1])
    pad = [(0, 0), (0, 0)]
    return 0.5 * (jnp.pad(share, [*pad, (0, 1)]) + jnp.pad(share, [*pad, (1, 0)]))


def _node_logits(edges: jax.Array, is_atom: jax.Array, params: CascadeParams) -> jax.Array:
    """Own log odds of being right at the edges of the parts; an atom's effect holds in its own cell only."""
    calibration = params.calibration
    curve = own_logit(edges, calibration._replace(atom_effect=jnp.zeros_like(params.atom_effect)))
    return jnp.where(is_atom[:, :, None], own_logit(edges, calibration), curve)


def _transition(boundary: UnitPoint, i: int, copula: Copula, theta: jax.Array) -> jax.Array:
    u = UnitPoint(boundary.log_u[i][:, None], boundary.log_1mu[i][:, None])
    v = UnitPoint(boundary.log_u[i + 1][None], boundary.log_1mu[i + 1][None])
    cdf = copula.cdf(u, v, theta)
    joint = jnp.maximum(jnp.diff(jnp.diff(cdf, axis=0), axis=1), 0.0)
    mass = jnp.sum(joint, axis=1, keepdims=True)
    has_mass = mass > 0
    uniform = 1.0 / joint.shape[1]
    return jnp.where(has_mass, joint / jnp.where(has_mass, mass, 1.0), uniform)


def _slope(table: jax.Array, is_atom: jax.Array) -> jax.Array:
    """Change of the rows across each cell, from the neighbouring continuous cells' averages."""
    num = table.shape[0]
    index = jnp.arange(num)
    before = jnp.maximum(index - 1, 0)
    after = jnp.minimum(index + 1, num - 1)
    before = jnp.where(is_atom[before], index, before)
    after = jnp.where(is_atom[after], index, after)
    span = jnp.maximum(after - before, 1)[:, None]
    return (table[after] - table[before]) / span


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


def run_chain(tables: ChainTables, call_cost: jax.Array, split: Split) -> Outcome:
    """Run the forward pass of one draw with cells divided by thresholds (see `split_cells`)."""
    rows = tables.rows
    followed = None if rows is None else follow_rows(rows, split.deferred, split.early)
    handed = None if followed is None else followed.handed
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight)
    mass = start * tables.mass
    right = mass * tables.correct
    paid = call_cost[0] * jnp.sum(mass)
    answered, reach, early = [], [jnp.sum(mass)], []
    for i in range(split.deferred.shape[0]):
        if handed is not None:
            mass, right = mass + handed[0][i], right + handed[1][i]
            reach[i] = reach[i] + jnp.sum(handed[0][i])
            paid = paid + call_cost[i] * jnp.sum(handed[0][i])
        below, tilt = split.deferred[i], split.upper_tilt[i]
        if split.early is not None and split.lower_tilt is not None:
            early.append(jnp.dot(mass, split.early[i]))
            below, tilt = below + split.early[i], tilt - split.lower_tilt[i]
        answered.append(
            jnp.dot(right, 1.0 - below) + jnp.dot(mass * split.upper_tilt[i], tables.correct_slope[i])
        )
        deferred, tilted = mass * split.deferred[i], mass * tilt
        reach.append(jnp.sum(deferred))
        paid = paid + call_cost[i + 1] * jnp.dot(deferred, tables.relative_cost[i])
        mass = deferred @ tables.transition[i] - tilted @ tables.transition_slope[i]
        right = deferred @ tables.right[i] - tilted @ tables.right_slope[i]
    answered.append(jnp.sum(right))
    reach_prob, right_prob = jnp.stack(reach), jnp.stack(answered)
    early_prob = jnp.stack(early) if early else jnp.zeros(split.deferred.shape[0], mass.dtype)
    if rows is not None and followed is not None:
        reach_prob = reach_prob + followed.reach_prob()
        right_prob = right_prob + followed.right_prob(rows)
        paid = paid + followed.cost(rows)
        early_prob = early_prob + followed.early_prob()
    # The last model of a cascade that abstains is abstaining itself.
    abstained = jnp.sum(early_prob)
    return Outcome(
        error=1.0 - jnp.sum(right_prob) - abstained,
        cost=paid + call_cost[-1] * abstained,
        reach_prob=reach_prob.at[-1].add(abstained),
        right_prob=right_prob.at[-1].add(abstained),
        early_prob=early_prob,
    )


def run_draws(tables: ChainTables, call_cost: jax.Array, split: Split) -> Outcome:
    """Run the forward pass of many draws at the same costs and divided cells."""
    run = jax.vmap(run_chain, in_axes=(tables.draw_axes(), None, None))
    return run(tables, call_cost, split)


def forward(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    positions: jax.Array,
    early: jax.Array | None = None,
) -> Outcome:
    """Return error, cost and reach of a threshold policy on one draw.

    Parameters
    ----------
    tables
        One draw, from `chain_tables`.
    call_cost
        US dollars per call, ``(num_models,)``.
    is_atom
        ``(num_models, num_cells)``.
    positions
        Thresholds as positions on the grid, ``(num_models - 1,)``.
    early
        Positions below which models abstain early, ``(num_models - 1,)``; None if none does.
    """
    return run_chain(tables, call_cost, split_cells(positions, is_atom[: positions.shape[0]], early))


def tables_for_draws(
    params: CascadeParams,
    grid: Grid,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    queries: Queries | None = None,
    trend: CostTrend | None = None,
    abstains: bool = False,
) -> ChainTables:
    """Build the tables of many draws, in sequence over draws so that memory stays bounded.

    Parameters
    ----------
    params
        Draws, every field with a leading axis.
    grid
        Cells of all models.
    copulas, members
        As for `chain_tables`.
    queries
        Observed queries; None for the chain alone.
    trend, abstains
        As for `chain_tables`, ``trend`` with a leading axis of draws.
    """
    dtype = params.intercept.dtype
    edges, is_atom = jnp.asarray(grid.edges, dtype=dtype), jnp.asarray(grid.is_atom)
    draws = params, trend
    tables, right = _tables_for_draws(
        draws, edges, is_atom, queries and queries.z, copulas, members, abstains
    )
    if queries is None or right is None:
        return tables
    return tables._replace(rows=queries.rows(queries.weight, right))


@partial(jax.jit, static_argnums=(4, 5, 6))
def _tables_for_draws(
    draws: tuple[CascadeParams, CostTrend | None],
    edges: jax.Array,
    is_atom: jax.Array,
    z: jax.Array | None,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    abstains: bool,
) -> tuple[ChainTables, jax.Array | None]:
    def one(draw: tuple[CascadeParams, CostTrend | None]) -> tuple[ChainTables, jax.Array | None]:
        params, trend = draw
        right = None if z is None else right_prob(z, params, members)
        return chain_tables(params, edges, is_atom, copulas, members, trend, abstains), right

    return jax.lax.map(one, draws)


def outcomes_for_draws(
    params: CascadeParams,
    grid: Grid,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    call_cost: jax.Array,
    positions: jax.Array,
    queries: Queries | None = None,
    trend: CostTrend | None = None,
    abstains: bool = False,
    early: jax.Array | None = None,
) -> Outcome:
    """Run policies on many draws, whose tables are dropped one after another.

    Parameters
    ----------
    params, grid, copulas, members, queries, trend, abstains
        As for `tables_for_draws`.
    call_cost
        US dollars per call, ``(num_draws, num_models)``.
    positions, early
        As for `forward`, with a leading axis of policies.

    Returns
    -------
    Outcome
        NumPy arrays ``(num_policies, num_draws, ...)``.
    """
    dtype = params.intercept.dtype
    edges, is_atom = jnp.asarray(grid.edges, dtype=dtype), jnp.asarray(grid.is_atom)
    weight = None if queries is None else queries.weight
    draws = _Draws(params, trend, call_cost, weight)
    found = _outcomes_for_draws(
        draws, edges, is_atom, (positions, early), queries, copulas, members, abstains
    )
    return jax.tree.map(np.asarray, found)


class _Draws(NamedTuple):
    """What differs between draws."""

    params: CascadeParams
    trend: CostTrend | None
    call_cost: jax.Array
    weight: jax.Array | None


@partial(jax.jit, static_argnums=(5, 6, 7))
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
            own = is_atom[jnp.asarray(members)]
            return jax.vmap(lambda at: forward(tables, draw.call_cost, own, *at))(policies)

        found = jax.lax.map(one, draws)
        return jax.tree.map(lambda field: jnp.moveaxis(field, 0, 1), found)

    divided = divide(of_draws, len(draws.call_cost), (0, None, None, None, None), 1)
    return divided(draws, edges, is_atom, policies, queries)
