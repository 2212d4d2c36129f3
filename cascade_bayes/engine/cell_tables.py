r"""The tables of a chain of cells, computed from the parameters of a cascade.

`cascade_bayes.engine.chain` has the mathematics and the record of the tables. The joint probability of
two cells is a rectangle of the copula, so that none is lost, and the rate of right answers in a cell the
mean over nodes inside it. Steps from one model to a later one are computed once for all cascades of a fit
that take them (`find_parts`).
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes._kept import kept
from cascade_bayes.copulas import Copula
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.engine.chain import BY_DRAW, ChainTables
from cascade_bayes.engine.costs import CostTrend
from cascade_bayes.engine.grid import Grid
from cascade_bayes.engine.rows import Queries, right_prob
from cascade_bayes.model.correctness import own_logit, regressor
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint


class Start(NamedTuple):
    """A model's own fields of `ChainTables`, where it is the first of a cascade."""

    mass: jax.Array
    correct: jax.Array
    correct_slope: jax.Array


class Steps(NamedTuple):
    """The fields of `ChainTables` that steps have, with an axis of steps."""

    transition: jax.Array
    right: jax.Array
    right_slope: jax.Array
    relative_cost: jax.Array


def find_steps(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    copulas: tuple[Copula, ...],
    starts: tuple[int, ...],
    pairs: tuple[tuple[int, int], ...],
    trend: CostTrend | None = None,
) -> tuple[tuple[Start, ...], Steps]:
    """Build what cascades of one draw begin with, and the steps that they take.

    Parameters
    ----------
    params
        One draw, of the chain of all models.
    edges, is_atom
        The grid's arrays, of all models.
    copulas
        Family of each neighbouring pair of all models.
    starts
        Indices of first models. Static.
    pairs
        Indices of the models from which and to which the steps go. Static.
    trend
        How the cost of a call changes with the confidence of the model before, one entry a pair; not at all
        if None.
    """
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    flat = edges.reshape(edges.shape[0], -1)
    at = jax.tree.map(lambda field: field.reshape(edges.shape), mixed.point(flat, margins))
    boundary = _boundaries(at, is_atom)
    weight = _node_weights(at)
    logit = _node_logits(edges, is_atom, params)
    x = jnp.sum(weight * regressor(edges), axis=-1)
    neighbours: dict[int, tuple[jax.Array, jax.Array]] = {}

    def joint(i: int) -> tuple[jax.Array, jax.Array]:
        """``R`` and ``Q`` from model ``i - 1`` to ``i``."""
        if i not in neighbours:
            table = _transition(boundary, i - 1, copulas[i - 1], params.theta[i - 1])
            shifted = logit[i][None] + params.upstream[i] * x[i - 1][:, None, None]
            neighbours[i] = table, table * jnp.sum(weight[i] * jax.nn.sigmoid(shifted), axis=-1)
        return neighbours[i]

    def mass(i: int) -> jax.Array:
        return jnp.maximum(jnp.diff(boundary.value[i]), 0.0)

    def correct_slope(i: int) -> jax.Array:
        ahead = params.upstream[i] * jnp.dot(mass(i - 1), x[i - 1]) if i else 0.0
        rate = jax.nn.sigmoid(logit[i] + ahead)
        return jnp.where(is_atom[i], 0.0, rate[:, -1] - rate[:, 0])

    def start(i: int) -> Start:
        if not i:
            return Start(mass(i), jnp.sum(weight[i] * jax.nn.sigmoid(logit[i]), axis=-1), correct_slope(i))
        # The model before is not called: its confidence is integrated over.
        share, of_all = mass(i - 1) @ joint(i)[1], mass(i)
        correct = jnp.where(of_all > 0, share / jnp.where(of_all > 0, of_all, 1.0), 0.0)
        return Start(of_all, correct, correct_slope(i))

    def step(a: int, b: int) -> tuple[jax.Array, jax.Array]:
        table, right = joint(a + 1)
        for i in range(a + 2, b + 1):
            table, right = table @ joint(i)[0], table @ joint(i)[1]
        return table, right

    num_cells, dtype = edges.shape[1], x.dtype
    relative_cost = jnp.ones((len(pairs), num_cells), dtype=dtype)
    if trend is not None:
        before = jnp.asarray([a for a, _ in pairs], dtype=int)
        relative_cost = jnp.exp(trend.slope[:, None] * x[before] - trend.log_mean[:, None])
    if not pairs:  # a step that no model takes, so that programs have something to choose from
        none = jnp.zeros((1, num_cells, num_cells), dtype=dtype)
        return tuple(map(start, starts)), Steps(none, none, none[:, 0], none[:, 0])
    tables, rights = zip(*(step(a, b) for a, b in pairs), strict=True)
    slopes = jnp.stack([correct_slope(b) for _, b in pairs])
    return tuple(map(start, starts)), Steps(jnp.stack(tables), jnp.stack(rights), slopes, relative_cost)


def chain_tables(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...] | None = None,
    trend: CostTrend | None = None,
    abstains: bool = False,
) -> ChainTables:
    """Build the tables of one draw of one cascade, without observed queries.

    Parameters
    ----------
    params, edges, is_atom, copulas
        The same as for `find_steps`.
    members
        Ascending indices of the models of the cascade; all if None. Static.
    trend
        How the cost of a member's calls changes with the confidence of the member before; not at all if None.
    abstains
        Whether abstaining is a last model of the cascade. Static.
    """
    members = tuple(range(params.num_models)) if members is None else members
    pairs = tuple(itertools.pairwise(members))
    (start,), steps = find_steps(params, edges, is_atom, copulas, members[:1], pairs, trend)
    if abstains:
        steps = with_abstention(steps if pairs else Steps(*(field[:0] for field in steps)))
    step, across = _shared(is_atom, members, abstains, start.mass.dtype)
    return ChainTables(**start._asdict(), **steps._asdict(), step=step, across=across)


def _shared(
    is_atom: jax.Array, members: tuple[int, ...], abstains: bool, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Return ``step`` and ``across`` of a cascade that has its own steps alone."""
    senders = members if abstains else members[:-1]
    across = across_cells(is_atom[jnp.asarray(senders, dtype=int)]).astype(dtype)
    return jnp.arange(len(senders)), across


def across_cells(is_atom: Any, xp: Any = jnp) -> Any:
    """Return matrices that take a value of every cell to its change across each cell.

    The change is the difference of the neighbouring cells' values over their distance; that across an atom,
    and from an atom beside, is none.

    Parameters
    ----------
    is_atom
        Which cells are atoms, ``(num_models, num_cells)``.
    xp
        The namespace of its arrays, `jax.numpy` or `numpy`.

    Returns
    -------
    array
        ``(num_models, num_cells, num_cells)``.
    """
    num = is_atom.shape[-1]
    index = xp.arange(num)
    before, after = xp.maximum(index - 1, 0), xp.minimum(index + 1, num - 1)
    before = xp.where(is_atom[..., before], index, before)
    after = xp.where(is_atom[..., after], index, after)
    span = xp.maximum(after - before, 1)[..., None]
    change = (after[..., None] == index) * 1.0 - (before[..., None] == index) * 1.0
    return xp.where(is_atom[..., None], 0.0, change / span)


def with_abstention(steps: Steps) -> Steps:
    """Append a step to a model that is never wrong, whose queries all lie in its first cell.

    Steps are those of one draw, or of several.
    """
    *lead, _, num_cells, _ = steps.transition.shape
    dtype = steps.transition.dtype
    certain = jnp.zeros((*lead, 1, num_cells, num_cells), dtype).at[..., 0].set(1.0)

    def append(field: jax.Array, more: jax.Array) -> jax.Array:
        return jnp.concatenate([field, more], axis=len(lead))

    return Steps(
        transition=append(steps.transition, certain),
        right=append(steps.right, certain),
        right_slope=append(steps.right_slope, jnp.zeros_like(certain[..., 0])),
        relative_cost=append(steps.relative_cost, jnp.ones_like(certain[..., 0])),
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


@kept("copulas", "members", "abstains")
def _tables_for_draws(
    draws: tuple[CascadeParams, CostTrend | None],
    edges: jax.Array,
    is_atom: jax.Array,
    z: jax.Array | None,
    copulas: tuple[Copula, ...],
    members: tuple[int, ...],
    abstains: bool,
) -> tuple[ChainTables, jax.Array | None]:
    def one(draw: tuple[CascadeParams, CostTrend | None]) -> tuple[Any, jax.Array | None]:
        params, trend = draw
        right = None if z is None else right_prob(z, params, members)
        tables = chain_tables(params, edges, is_atom, copulas, members, trend, abstains)
        return tables.by_draw()[1], right

    own, right = jax.lax.map(one, draws)
    step, across = _shared(is_atom, members, abstains, edges.dtype)
    shared = ChainTables(**dict.fromkeys(BY_DRAW), step=step, across=across)  # type: ignore[arg-type]
    return shared.of_draw(own), right


class Parts(NamedTuple):
    """What cascades of some models are put together from, on every draw.

    Attributes
    ----------
    starts
        What a cascade begins with whose first model is each of those that were asked for; fields have a
        leading axis of draws.
    steps
        Steps of the pairs that were asked for, ``(num_draws, num_pairs, ...)``.
    right
        Probability that each model of the chain is right about each observed query,
        ``(num_draws, num_chain_models, num_queries)``; None where none is observed.
    """

    starts: tuple[Start, ...]
    steps: Steps
    right: jax.Array | None


@kept("copulas", "starts", "pairs")
def find_parts(
    draws: tuple[CascadeParams, CostTrend | None],
    edges: jax.Array,
    is_atom: jax.Array,
    z: jax.Array | None,
    copulas: tuple[Copula, ...],
    starts: tuple[int, ...],
    pairs: tuple[tuple[int, int], ...],
) -> Parts:
    """Build the parts of cascades on many draws, in sequence over draws.

    Parameters
    ----------
    draws
        Parameters of the chain of all models, and how costs go with confidences for each pair, with a leading
        axis of draws.
    edges, is_atom, copulas, starts, pairs
        The same as for `find_steps`.
    z
        Standardised logits of observed queries, ``(num_chain_models, num_queries)``, or None.
    """

    def one(draw: tuple[CascadeParams, CostTrend | None]) -> Parts:
        params, trend = draw
        right = None if z is None else right_prob(z, params, tuple(range(params.num_models)))
        return Parts(*find_steps(params, edges, is_atom, copulas, starts, pairs, trend), right)

    return jax.lax.map(one, draws)
