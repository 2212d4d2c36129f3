r"""One draw of a cascade as a finite chain.

On a grid (`cascade_bayes.engine.grid`) with boundaries :math:`u_0 = 0 \le \dots \le u_N = 1` of the
margin's probability, the chain of confidences moves from cell :math:`l` of model i to cell :math:`m` of
model i + 1 with probability

.. math::

    R_{lm} = \frac{C(u_{l+1}, v_{m+1}) - C(u_l, v_{m+1}) - C(u_{l+1}, v_m) + C(u_l, v_m)}{u_{l+1} - u_l},

which sums to one over :math:`m` by construction: no probability is lost. For atoms this is exact; within
a continuous cell the sub-density of the queries that got there is taken as the margin's own, an error of
second order in the cell width. Across such a cell the rows change by the slope :math:`D_l`.

Whether model i + 1 is right depends on both cells, :math:`Q_{lm} = R_{lm} p_{lm}` with :math:`p_{lm}` the
mean of :math:`\sigma(a + b x + c x' + e)` over cell :math:`m`, at the mean :math:`x'` of cell :math:`l`.

A cascade that skips models moves by the product of the skipped models' matrices (Chapman-Kolmogorov):
one fit of a chain serves every ordered subset of its models.

A call may cost more or less where the model before it had another confidence: its cost is the mean cost of
the model's calls times a factor of the cell that deferred (`cascade_bayes.engine.costs`).

Abstaining is a model of its own at the end of the cascade: it costs the price of abstaining and is never
wrong. The last model's threshold decides whether it is called.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.copulas import Copula
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.engine.costs import CostTrend
from cascade_bayes.engine.grid import Grid
from cascade_bayes.engine.rows import DRAW_AXES, Queries, Rows, right_prob
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
        The same as for `chain_tables`.
    queries
        Observed queries; None for the chain alone.
    trend, abstains
        The same as for `chain_tables`, ``trend`` with a leading axis of draws.
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
