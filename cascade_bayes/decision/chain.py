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

A cascade that skips models moves by the product of the skipped models' matrices (Chapman-Kolmogorov):
one fit of a chain serves every ordered subset of its models.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.copulas import Copula
from cascade_bayes.decision.grid import Grid
from cascade_bayes.distributions import mixed
from cascade_bayes.model.likelihood import correctness_logit
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint


class ChainTables(NamedTuple):
    """One draw of a cascade as a finite chain; all fields may carry a leading axis of draws.

    Attributes
    ----------
    mass
        Probability of the first model's cells, ``(num_cells,)``.
    transition, transition_slope
        ``R`` and ``D`` of neighbours, ``(num_models - 1, num_cells, num_cells)``.
    correct, correct_slope
        Mean probability of being right in each cell, and its change across it, ``(num_models, num_cells)``.
    """

    mass: jax.Array
    transition: jax.Array
    transition_slope: jax.Array
    correct: jax.Array
    correct_slope: jax.Array


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
    """

    error: jax.Array
    cost: jax.Array
    reach_prob: jax.Array


def chain_tables(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...] | None = None,
) -> ChainTables:
    """Build the tables of one draw.

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
    """
    members = tuple(range(params.num_models)) if members is None else members
    num_cells = edges.shape[1]
    flat = edges.reshape(edges.shape[0], -1)
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    at = mixed.point(flat, margins)
    logit = correctness_logit(flat, params).reshape(edges.shape)
    # An atom's own rate holds in its own cell only; the curve holds beside it.
    right = jax.nn.sigmoid(_curve_logit(edges, params))
    right_at_atom = jax.nn.sigmoid(logit[:, :, 0])

    def parts(point: UnitPoint) -> jax.Array:
        return jnp.exp(point.log_u).reshape(edges.shape)

    lower, upper = parts(at.lower), parts(at.upper)
    # Mass of each part of a cell: from F just after its lower edge to F just before its upper edge.
    mass_parts = jnp.maximum(lower[:, :, 1:] - upper[:, :, :-1], 0.0)
    mean_parts = 0.5 * (right[:, :, 1:] + right[:, :, :-1])
    total = jnp.sum(mass_parts, axis=-1)
    has_mass = total > 0
    weighted = jnp.sum(mass_parts * mean_parts, axis=-1)
    middle = right[:, :, right.shape[2] // 2]
    mean = jnp.where(has_mass, weighted / jnp.where(has_mass, total, 1.0), middle)
    correct = jnp.where(is_atom, right_at_atom, mean)
    correct_slope = jnp.where(is_atom, 0.0, right[:, :, -1] - right[:, :, 0])

    # notation: u_l, the boundary before cell l: F(e-) if the cell is an atom, else F(e).
    boundary = UnitPoint(
        *(
            jnp.concatenate(
                [
                    jnp.where(is_atom, low.reshape(edges.shape)[:, :, 0], up.reshape(edges.shape)[:, :, 0]),
                    jnp.full((edges.shape[0], 1), last, dtype=low.dtype),
                ],
                axis=1,
            )
            for low, up, last in (
                (at.lower.log_u, at.upper.log_u, 0.0),
                (at.lower.log_1mu, at.upper.log_1mu, -jnp.inf),
            )
        )
    )
    # The first boundary is 0 whether or not an atom begins there.
    boundary = UnitPoint(boundary.log_u.at[:, 0].set(-jnp.inf), boundary.log_1mu.at[:, 0].set(0.0))

    transitions, slopes = [], []
    for i in range(members[0], members[-1]):
        table = _transition(boundary, i, copulas[i], params.theta[i])
        transitions.append(table)
        slopes.append(jnp.where(is_atom[i][:, None], 0.0, _slope(table, is_atom[i])))
    steps, step_slopes = [], []
    for a, b in itertools.pairwise(members):
        step, step_slope = transitions[a - members[0]], slopes[a - members[0]]
        for i in range(a + 1, b):
            step = step @ transitions[i - members[0]]
            step_slope = step_slope @ transitions[i - members[0]]
        steps.append(step)
        step_slopes.append(step_slope)
    empty = jnp.zeros((0, num_cells, num_cells), dtype=correct.dtype)
    index = jnp.asarray(members)
    u = boundary.value[members[0]]
    return ChainTables(
        mass=jnp.maximum(jnp.diff(u), 0.0),
        transition=jnp.stack(steps) if steps else empty,
        transition_slope=jnp.stack(step_slopes) if steps else empty,
        correct=correct[index],
        correct_slope=correct_slope[index],
    )


def _curve_logit(z: jax.Array, params: CascadeParams) -> jax.Array:
    """Log odds of being right on the curve, without atoms' own effects; ``z`` is (num_models, ...)."""
    plain = params._replace(atom_effect=jnp.zeros_like(params.atom_effect))
    return correctness_logit(z.reshape(z.shape[0], -1), plain).reshape(z.shape)


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


def run_chain(tables: ChainTables, call_cost: jax.Array, fraction: jax.Array, tilt: jax.Array) -> Outcome:
    """Run the forward pass of one draw with given deferred fractions (see `deferral`)."""
    mass = tables.mass
    right = jnp.zeros((), dtype=mass.dtype)
    reach = [jnp.ones((), dtype=mass.dtype)]
    for i in range(fraction.shape[0]):
        deferred = mass * fraction[i]
        tilted = mass * tilt[i]
        right = right + jnp.dot(mass - deferred, tables.correct[i]) + jnp.dot(tilted, tables.correct_slope[i])
        reach.append(jnp.sum(deferred))
        mass = deferred @ tables.transition[i] - tilted @ tables.transition_slope[i]
    right = right + jnp.dot(mass, tables.correct[-1])
    reach_prob = jnp.stack(reach)
    return Outcome(1.0 - right, jnp.dot(reach_prob, call_cost), reach_prob)


def forward(tables: ChainTables, call_cost: jax.Array, is_atom: jax.Array, positions: jax.Array) -> Outcome:
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
    """
    return run_chain(tables, call_cost, *deferral(positions, is_atom[: positions.shape[0]]))


def tables_for_draws(
    params: CascadeParams, grid: Grid, copulas: tuple[Copula, ...], members: tuple[int, ...]
) -> ChainTables:
    """Build the tables of many draws, in sequence over draws so that memory stays bounded."""
    dtype = params.intercept.dtype
    edges, is_atom = jnp.asarray(grid.edges, dtype=dtype), jnp.asarray(grid.is_atom)
    return _tables_for_draws(params, edges, is_atom, copulas, members)


def _build(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
) -> ChainTables:
    return jax.lax.map(lambda draw: chain_tables(draw, edges, is_atom, copulas, members), params)


_tables_for_draws = jax.jit(_build, static_argnums=(3, 4))
