r"""One sweep over the thresholds, each in turn set to its best position given all others.

With all other thresholds held fixed, deferring cell :math:`l` of model i rather than stopping there changes
the loss, averaged over draws :math:`d`, by

.. math::

    A_{il} = \frac1D \sum_d (\mu_{dil}\, \mathrm{go}_{dil} - \mathrm{stop}_{dil}),

:math:`\mu` the probability of getting there, "stop" the price of a wrong answer times the probability of
getting there and being wrong, "go" the cost of the next model plus the value of going on. Sums of
:math:`A_{il}` from the lowest cell up are the loss at *every* position of threshold i: one backward pass over
the models sets each threshold in turn to the best of them, an exact line search over the whole scale, atoms
included.

Within cell l the loss is, while the other thresholds stand, the parabola
:math:`\varphi A_{il} - \tfrac12 \varphi (1 - \varphi) T_{il}` of the deferred fraction, T being the same
difference for the slopes across the cell. A threshold may move to the lowest point of the two beside it.

Where models may abstain early, each has a second threshold :math:`a \le t`, below which it abstains. With
:math:`B_{il}` the change of the loss from abstaining on cell l rather than stopping there, the loss of every
pair is a sum of :math:`B_{il}` below a and of :math:`A_{il}` from there up to t: a running minimum over a
gives the best of all pairs in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.forward import Split, split_cells
from cascade_bayes.engine.rows import at_cells, average, follow_draws

State = tuple[jax.Array, jax.Array]
"""Mass on every draw's cells, and the part of it in which the model is right."""


class Thresholds(NamedTuple):
    """Positions on the grid.

    Attributes
    ----------
    defer
        Below which models defer, ``(num_models - 1,)``.
    early
        Below which they abstain early, at most ``defer``, ``(num_models - 1,)``; None where none may.
    """

    defer: jax.Array
    early: jax.Array | None = None


def either(first: jax.Array, one: Thresholds, other: Thresholds) -> Thresholds:
    """Return the one if ``first`` holds, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


class Swept(NamedTuple):
    """Where a sweep leaves the thresholds.

    Attributes
    ----------
    at
        Thresholds on the grid.
    beside
        The same, moved to the lowest point of the parabolas beside.
    loss
        Loss of ``at``, US dollars per query, ``()``.
    """

    at: Thresholds
    beside: Thresholds
    loss: jax.Array


def coordinate_sweep(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    at: Thresholds,
) -> Swept:
    """Set the thresholds of every model, last to first, to their best grid positions given all others.

    Parameters
    ----------
    tables
        Draws, fields with a leading axis.
    call_cost
        US dollars per call, ``(num_models,)``.
    is_atom
        Which cells are atoms, of the models that have thresholds, ``(num_models - 1, num_cells)``.
    error_price
        US dollars per wrong answer, ``()``.
    at
        Where they stand, each ``(num_models - 1,)``.
    """
    rounded = jax.tree.map(jnp.round, at)
    split: Split = split_cells(rounded.defer, is_atom, rounded.early)
    rows = tables.rows
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight, axis=-1, keepdims=True)
    if rows is not None and rows.ends is None:
        rows = average(rows)
    followed = None if rows is None else follow_draws(rows, split.deferred, split.early)

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
    _, states = jax.lax.scan(reach, first, (split.deferred, handed, *by_model))
    abstain_price = call_cost[-1]

    def choose(later: tuple[Any, ...], step: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        value, answered, row_value = later  # of the next model
        mass, right_here, transition, right, slopes, next_cost, atoms, current, is_final, own = step
        go = (
            next_cost
            + jnp.einsum("dlm,dm->dl", transition, value)
            - error_price * jnp.einsum("dlm,m->dl", right, answered)
        )
        wrong = mass - right_here
        gain = jnp.mean(mass * go - error_price * wrong, axis=0)
        met = jnp.max(mass)
        if own is not None:
            cell, ends, row_cost, row_wrong, row_here = own
            row_go = row_cost + row_value
            if ends is not None:
                row_go = jnp.where(ends > 0, go[:, cell], row_go)
            row_gain = jnp.mean(row_here * (row_go - error_price * row_wrong), axis=0)
            gain = gain + at_cells(row_gain, cell, gain)
            met = jnp.maximum(met, jnp.max(row_here))
        leaving = None
        if current.early is not None:
            leaving = jnp.mean(mass * abstain_price - error_price * wrong, axis=0)
            if own is not None:
                row_gain = jnp.mean(row_here * (abstain_price - error_price * row_wrong), axis=0)
                leaving = leaving + at_cells(row_gain, cell, gain)
            # The last model abstains by deferring to abstaining.
            leaving = jnp.where(is_final, jnp.inf, leaving)
        best = _best_pair(gain, leaving)
        # Where no query comes, every position is equal: stay.
        idle = met <= jnp.finfo(mass.dtype).eps
        best = either(idle, current, best)
        here = split_cells(best.defer[None], atoms[None], None if best.early is None else best.early[None])
        part = here.deferred[0]
        left = None if here.early is None else here.early[0]
        stop, gained = 1.0 - part, jnp.dot(part, gain)
        if left is not None and leaving is not None:
            stop, gained = stop - left, gained + jnp.sum(jnp.where(left > 0, leaving, 0.0))

        def bend(cell: jax.Array) -> tuple[jax.Array, jax.Array]:
            transition_slope, right_slope, correct_slope = (field[:, cell] for field in slopes)
            across = jnp.sum(transition_slope * value - error_price * right_slope * answered, axis=-1)
            return jnp.mean(mass[:, cell] * across), jnp.mean(mass[:, cell] * error_price * correct_slope)

        beside = _beside(best, gain, leaving, bend, atoms)
        beside = either(idle, best, beside)
        value = part * go + error_price * stop
        if own is not None:
            row_part = part[cell]
            row_value = row_part * row_go + (1.0 - row_part) * error_price * row_wrong
        if left is not None:
            value += left * abstain_price
            if own is not None:
                row_value += left[cell] * (abstain_price - error_price * row_wrong)
        return (value, stop, row_value), (best, beside, gained)

    own = None
    row_value = None
    if rows is not None and followed is not None:
        wrong = 1.0 - jnp.moveaxis(rows.right, 1, 0)
        here = jnp.moveaxis(followed.here, 1, 0)
        paid = rows.cost
        if rows.ends is not None:  # where a query is handed over it pays what the chain pays
            paid = paid.at[:-1].set(jnp.where(rows.ends > 0, call_cost[:-1, None], paid[:-1]))
        own = rows.cell, rows.ends, paid[1:], wrong[:-1], here[:-1]
        row_value = error_price * wrong[-1]
    slopes = tuple(
        jnp.moveaxis(field, 1, 0)
        for field in (tables.transition_slope, tables.right_slope, tables.correct_slope[:, :-1])
    )
    next_cost = call_cost[1:, None, None] * jnp.moveaxis(tables.relative_cost, 1, 0)
    is_final = jnp.arange(len(at.defer)) == len(at.defer) - 1
    steps = (*states, *by_model, slopes, next_cost, is_atom, at, is_final, own)
    stop_all = jnp.ones_like(is_atom[0], dtype=at.defer.dtype)
    last = error_price * jnp.ones_like(tables.mass), stop_all, row_value
    _, (best, beside, gained) = jax.lax.scan(choose, last, steps, reverse=True)
    # What the first threshold gains is over stopping all queries there.
    mass, right = jax.tree.map(lambda field: field[0], states)
    stop = call_cost[0] * mass + error_price * (mass - right)
    loss = jnp.mean(jnp.sum(stop, axis=1)) + gained[0]
    if rows is not None and own is not None:
        loss += jnp.mean(jnp.sum(here[0] * (rows.cost[0] + error_price * wrong[0]), axis=1))
    return Swept(best, beside, loss)


def _best_pair(gain: jax.Array, leaving: jax.Array | None) -> Thresholds:
    """Return the best grid positions of one model's thresholds.

    Parameters
    ----------
    gain, leaving
        Change of the loss from deferring a cell, and from abstaining on it, rather than stopping there,
        ``(num_cells,)``; the latter None where it may not.
    """
    zero = jnp.zeros(1, dtype=gain.dtype)
    deferred = jnp.concatenate([zero, jnp.cumsum(gain)])
    if leaving is None:
        return Thresholds(jnp.argmin(deferred).astype(gain.dtype))
    # Abstaining below a position rather than deferring there.
    instead = jnp.concatenate([zero, jnp.cumsum(leaving - gain)])
    defer = jnp.argmin(deferred + jax.lax.cummin(instead))
    early = jnp.argmin(jnp.where(jnp.arange(len(instead)) <= defer, instead, jnp.inf))
    return Thresholds(defer.astype(gain.dtype), early.astype(gain.dtype))


def _beside(
    best: Thresholds,
    gain: jax.Array,
    leaving: jax.Array | None,
    bend: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    atoms: jax.Array,
) -> Thresholds:
    """Move one model's thresholds from grid points to the lowest points of the parabolas beside.

    ``bend`` gives the curvatures of going on and of stopping across a cell.
    """

    def both(cell: jax.Array) -> jax.Array:
        going, stopping = bend(cell)
        return going + stopping

    defer = best.defer + _lowest_beside(best.defer, gain, both, atoms)
    if best.early is None or leaving is None:
        return Thresholds(defer)
    # Between abstaining and going on; where nothing is deferred, between abstaining and stopping.
    early = best.early + _lowest_beside(best.early, leaving - gain, lambda cell: -bend(cell)[0], atoms)
    alone = best.early + _lowest_beside(best.early, leaving, lambda cell: bend(cell)[1], atoms)
    apart = best.defer > best.early
    early = jnp.where(best.early > 0, jnp.where(apart, jnp.minimum(early, defer), alone), best.early)
    return Thresholds(jnp.where(apart, defer, early), early)


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
