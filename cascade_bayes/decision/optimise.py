r"""Thresholds of least expected loss: coordinate sweeps on the grid, then optax gradients.

The loss of thresholds at positions :math:`r`, in US dollars per query, averaged over draws :math:`d`, is

.. math::

    L(r) = \frac1D \sum_d \{\mathrm{cost}_d(r) + \text{error\_price} \cdot \mathrm{error}_d(r)\} .

With all other thresholds held fixed, deferring cell :math:`l` of model i rather than stopping there changes
the loss by

.. math::

    A_{il} = \frac1D \sum_d (\mu_{dil}\, \mathrm{go}_{dil} - \mathrm{stop}_{dil}),

:math:`\mu` the probability of getting there, "stop" the price of a wrong answer times the probability of
getting there and being wrong, "go" the cost of the next model plus the value of going on. Sums of
:math:`A_{il}` from the lowest cell up are the loss at *every* position of threshold i: one backward pass over
the models sets each threshold in turn to the best of them, an exact line search over the whole scale, atoms
included. Sweeps from several starts end on the grid.

Within cell l the loss is, while the other thresholds stand, the parabola
:math:`\varphi A_{il} - \tfrac12 \varphi (1 - \varphi) T_{il}` of the deferred fraction, T being the same
difference for the slopes across the cell. Each threshold moves to the lowest point of the two cells beside
it; from there Adam (optax) goes on within these cells with the exact gradient, and the best of all is kept.

With one draw instead of many the same program finds that draw's own optimum; over draws these are the
posterior of the optimal thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cascade_bayes._trees import take
from cascade_bayes.decision.chain import ChainTables, deferral, run_draws
from cascade_bayes.decision.rows import at_cells, follow_draws

MAX_SWEEPS = 12
"""Most sweeps; they end as soon as no start moves, mostly after three or four."""

NUM_STEPS = 12
LEARNING_RATE = 0.05
"""Adam's steps and first step size in cells, decayed by a cosine: the parabolas have come close."""

STARTS = (1.0, 0.75, 0.5, 0.25)
"""Starting positions as fractions of the scale, the same for every threshold."""


State = tuple[jax.Array, jax.Array]
"""Mass on every draw's cells, and the part of it in which the model is right."""


class Optimum(NamedTuple):
    """Where the search ended.

    Attributes
    ----------
    positions
        ``(num_models - 1,)``.
    loss
        US dollars per query, ``()``.
    polish_gain
        By how much the gradient steps lowered the loss of the best grid point, ``()``, at least 0.
    """

    positions: jax.Array
    loss: jax.Array
    polish_gain: jax.Array


def mean_loss(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    positions: jax.Array,
    error_price: jax.Array,
) -> jax.Array:
    """Return the loss averaged over draws, US dollars per query.

    Parameters
    ----------
    tables
        Draws, fields with a leading axis.
    call_cost
        US dollars per call, ``(num_models,)``.
    is_atom
        ``(num_models, num_cells)``.
    positions
        ``(num_models - 1,)``.
    error_price
        US dollars per wrong answer, ``()``.
    """
    fraction, tilt = deferral(positions, is_atom[: positions.shape[0]])
    return _loss(tables, call_cost, fraction, tilt, error_price)


def _loss(
    tables: ChainTables,
    call_cost: jax.Array,
    fraction: jax.Array,
    tilt: jax.Array,
    error_price: jax.Array,
) -> jax.Array:
    outcome = run_draws(tables, call_cost, fraction, tilt)
    return jnp.mean(outcome.cost + error_price * outcome.error)


def optimise(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    starts: jax.Array,
    num_steps: int = NUM_STEPS,
) -> Optimum:
    """Find the thresholds of least mean loss over the draws in ``tables``.

    Parameters
    ----------
    tables, call_cost, is_atom, error_price
        As in `mean_loss`.
    starts
        Starting positions, ``(num_starts, num_models - 1)``.
    num_steps
        Of Adam; with 0 a threshold stays where its parabola is lowest.
    """
    dtype = tables.mass.dtype
    is_atom = is_atom[: starts.shape[-1]]
    # One common scale of loss, so that 32-bit arithmetic compares numbers near 1.
    unit = error_price + jnp.sum(call_cost)

    def loss(positions: jax.Array) -> jax.Array:
        return _loss(tables, call_cost, *deferral(positions, is_atom), error_price) / unit

    def sweep(positions: jax.Array) -> _Swept:
        found = _sweep(tables, call_cost, is_atom, error_price, positions)
        return found._replace(loss=found.loss / unit)

    def moving(state: tuple[jax.Array, jax.Array, _Swept]) -> jax.Array:
        count, before, now = state
        return (count < MAX_SWEEPS) & jnp.any(before != now.positions)

    def advance(state: tuple[jax.Array, jax.Array, _Swept]) -> tuple[jax.Array, jax.Array, _Swept]:
        count, _, now = state
        return count + 1, now.positions, jax.vmap(sweep)(now.positions)

    starts = jnp.round(starts).astype(dtype)
    first = jax.vmap(sweep)(starts)
    _, _, ends = jax.lax.while_loop(moving, advance, (jnp.array(1), starts, first))
    coarse, polished, coarse_loss = take(ends, jnp.argmin(ends.loss))

    if num_steps:
        tried = _polish(loss, coarse, polished, is_atom, num_steps)
        polished = jnp.where(loss(tried) < loss(polished), tried, polished)
    outcome = run_draws(tables, call_cost, *deferral(polished, is_atom))
    polished_loss = jnp.mean(outcome.cost + error_price * outcome.error) / unit
    # By more than rounding: where there is no mass, no place is better than the grid's.
    better = polished_loss < coarse_loss - 64 * jnp.finfo(dtype).eps
    positions = jnp.where(better, polished, coarse)
    # A threshold that no query meets, because one before never defers, has no best value: it never defers.
    met = jnp.max(outcome.reach_prob[:, :-1], axis=0) > jnp.finfo(dtype).eps
    before = jnp.concatenate([jnp.ones(1, bool), positions[:-1] > 0])
    positions = jnp.where(jnp.cumprod(met & before) > 0, positions, 0.0)
    return Optimum(
        positions=positions,
        loss=jnp.where(better, polished_loss, coarse_loss) * unit,
        polish_gain=jnp.where(better, coarse_loss - polished_loss, 0.0) * unit,
    )


class _Swept(NamedTuple):
    """Where a sweep leaves the thresholds.

    Attributes
    ----------
    positions
        On the grid, ``(num_models - 1,)``.
    beside
        Moved to the lowest point of the parabolas beside, ``(num_models - 1,)``.
    loss
        Of ``positions``, US dollars per query, ``()``.
    """

    positions: jax.Array
    beside: jax.Array
    loss: jax.Array


def _sweep(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    positions: jax.Array,
) -> _Swept:
    """Set every threshold, last to first, to its best grid position given all others."""
    fraction, _ = deferral(jnp.round(positions), is_atom)
    rows = tables.rows
    followed = None if rows is None else follow_draws(rows, fraction)
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight, axis=-1, keepdims=True)

    def reach(state: State, step: tuple[Any, ...]) -> tuple[State, State]:
        part, handed, transition, right = step
        here = state if handed is None else jax.tree.map(jnp.add, state, handed)
        deferred = here[0] * part
        after = tuple(jnp.einsum("dl,dlm->dm", deferred, table) for table in (transition, right))
        return after, here  # type: ignore[return-value]

    by_model = jnp.moveaxis(tables.transition, 1, 0), jnp.moveaxis(tables.right, 1, 0)
    handed = None if followed is None else followed.handed
    handed = jax.tree.map(lambda field: jnp.moveaxis(field, 1, 0), handed)
    first = start * tables.mass, start * tables.mass * tables.correct
    _, states = jax.lax.scan(reach, first, (fraction, handed, *by_model))

    def choose(later: tuple[Any, ...], step: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        deferred, go_on, row_value = later  # of the next model
        mass, right_here, transition, right, slopes, next_cost, atoms, current, own = step
        value = deferred * go_on + error_price * (1.0 - deferred)
        answered = error_price * (1.0 - deferred)
        go = (
            next_cost + jnp.einsum("dlm,dm->dl", transition, value) - jnp.einsum("dlm,m->dl", right, answered)
        )
        gain = jnp.mean(mass * go - error_price * (mass - right_here), axis=0)
        met = jnp.max(mass)
        if own is not None:
            cell, ends, row_cost, row_wrong, row_here = own
            row_go = row_cost + row_value
            if ends is not None:
                row_go = jnp.where(ends > 0, go[:, cell], row_go)
            row_gain = jnp.mean(row_here * (row_go - error_price * row_wrong), axis=0)
            gain = gain + at_cells(row_gain, cell, gain)
            met = jnp.maximum(met, jnp.max(row_here))
        profile = jnp.concatenate([jnp.zeros(1, dtype=gain.dtype), jnp.cumsum(gain)])
        # Where no query comes, every position is equal: stay.
        idle = met <= jnp.finfo(mass.dtype).eps
        best = jnp.where(idle, current, jnp.argmin(profile).astype(current.dtype))
        here, _ = deferral(best[None], atoms[None])
        if own is not None:
            row_part = here[0][cell]
            row_value = row_part * row_go + (1.0 - row_part) * error_price * row_wrong

        def bend(cell: jax.Array) -> jax.Array:
            transition_slope, right_slope, correct_slope = (field[:, cell] for field in slopes)
            across = jnp.sum(transition_slope * value - right_slope * answered, axis=-1)
            return jnp.mean(mass[:, cell] * (across + error_price * correct_slope))

        moved = jnp.where(idle, 0.0, _lowest_beside(best, gain, bend, atoms))
        return (here[0], go, row_value), (best, best + moved, jnp.dot(here[0], gain))

    own = None
    row_value = None
    if rows is not None and followed is not None:
        wrong = 1.0 - jnp.moveaxis(rows.right, 1, 0)
        here = jnp.moveaxis(followed.here, 1, 0)
        own = rows.cell, rows.ends, rows.cost[1:], wrong[:-1], here[:-1]
        row_value = error_price * wrong[-1]
    slopes = tuple(
        jnp.moveaxis(field, 1, 0)
        for field in (tables.transition_slope, tables.right_slope, tables.correct_slope[:, :-1])
    )
    steps = (*states, *by_model, slopes, call_cost[1:], is_atom, positions, own)
    last = jnp.zeros_like(is_atom[0], dtype=positions.dtype), jnp.zeros_like(tables.mass), row_value
    _, (best, beside, gained) = jax.lax.scan(choose, last, steps, reverse=True)
    # What the first threshold gains is over stopping all queries there.
    mass, right = jax.tree.map(lambda field: field[0], states)
    stop = call_cost[0] * mass + error_price * (mass - right)
    loss = jnp.mean(jnp.sum(stop, axis=1)) + gained[0]
    if rows is not None and own is not None:
        loss += jnp.mean(jnp.sum(here[0] * (rows.cost[0] + error_price * wrong[0]), axis=1))
    return _Swept(best, beside, loss)


def _lowest_beside(
    edge: jax.Array, gain: jax.Array, bend: Callable[[jax.Array], jax.Array], atoms: jax.Array
) -> jax.Array:
    """Return by how much to move a threshold from a grid point, in cells from -1 to 1.

    To the lower of the minima of the two parabolas ``phi A - phi (1 - phi) T / 2``, one in each cell beside,
    of which ``gain`` has A and ``bend`` gives T.
    """
    num_cells = atoms.shape[0]
    at = edge.astype(jnp.int32)

    def lowest(cell: jax.Array, start: float) -> tuple[jax.Array, jax.Array]:
        inside = (cell >= 0) & (cell < num_cells)
        cell = jnp.clip(cell, 0, num_cells - 1)
        curvature = bend(cell)
        convex = inside & ~atoms[cell] & (curvature > 0)
        fraction = jnp.clip(0.5 - gain[cell] / jnp.where(convex, curvature, 1.0), 0.0, 1.0)
        fraction = jnp.where(convex, fraction, start)
        change = (fraction - start) * gain[cell] - 0.5 * fraction * (1.0 - fraction) * curvature
        return fraction - start, jnp.where(convex, change, 0.0)

    (left, drop_left), (right, drop_right) = lowest(at - 1, 1.0), lowest(at, 0.0)
    return jnp.where(drop_right < drop_left, right, jnp.where(drop_left < 0, left, 0.0))


def _polish(
    loss: Callable[[jax.Array], jax.Array],
    coarse: jax.Array,
    start: jax.Array,
    is_atom: jax.Array,
    num_steps: int,
) -> jax.Array:
    """Move thresholds within the continuous cells beside their grid points, by Adam."""
    num_cells = is_atom.shape[1]
    cell = jnp.round(coarse).astype(jnp.int32)
    rows = jnp.arange(coarse.shape[0])
    atom_below = is_atom[rows, jnp.maximum(cell - 1, 0)] | (cell == 0)
    atom_above = is_atom[rows, jnp.minimum(cell, num_cells - 1)] | (cell == num_cells)
    low = jnp.where(atom_below, coarse, coarse - 1)
    high = jnp.where(atom_above, coarse, coarse + 1)
    optimiser = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, num_steps, alpha=0.01))
    # Off the edge, where the fraction has no derivative, towards the open side.
    aside = jnp.where(high > coarse, 0.02, -0.02)
    start = jnp.clip(jnp.where(start == coarse, coarse + aside, start), low, high)

    def step(carry: tuple, _: None) -> tuple:
        positions, state, best, best_loss = carry
        value, gradient = jax.value_and_grad(loss)(positions)
        improved = value < best_loss
        best = jnp.where(improved, positions, best)
        best_loss = jnp.minimum(value, best_loss)
        updates, state = optimiser.update(gradient, state)
        positions = optax.projections.projection_box(optax.apply_updates(positions, updates), low, high)
        return (positions, state, best, best_loss), None

    init = (start, optimiser.init(start), start, jnp.full((), jnp.inf, dtype=coarse.dtype))
    (_, _, best, _), _ = jax.lax.scan(step, init, None, length=num_steps)
    return best


def default_starts(num_thresholds: int, num_cells: int) -> jax.Array:
    """Return the starting positions `STARTS`, ``(num_starts, num_thresholds)``."""
    return jnp.asarray(STARTS)[:, None] * num_cells * jnp.ones((1, num_thresholds))
