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

Where models may abstain early, each has a second threshold :math:`a \le t`, below which it abstains. With
:math:`B_{il}` the change of the loss from abstaining on cell l rather than stopping there, the loss of every
pair is a sum of :math:`B_{il}` below a and of :math:`A_{il}` from there up to t: a running minimum over a
gives the best of all pairs in the same pass.

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
from cascade_bayes.decision.chain import ChainTables
from cascade_bayes.decision.forward import Split, run_draws, split_cells
from cascade_bayes.decision.rows import at_cells, average, follow_draws

MAX_SWEEPS = 12
"""Most sweeps; they end as soon as no start moves, mostly after three or four."""

NUM_STEPS = 12
LEARNING_RATE = 0.05
"""Adam's steps and first step size in cells, decayed by a cosine: the parabolas have come close."""

STARTS = (1.0, 0.75, 0.5, 0.25)
"""Starting positions as fractions of the scale, the same for every threshold."""


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


class Optimum(NamedTuple):
    """Where the search ended.

    Attributes
    ----------
    at
        Positions on the grid.
    loss
        US dollars per query, ``()``.
    polish_gain
        By how much moving off the grid points lowered the loss of the best of them, ``()``, at least 0.
    """

    at: Thresholds
    loss: jax.Array
    polish_gain: jax.Array


def mean_loss(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    positions: jax.Array,
    error_price: jax.Array,
    early: jax.Array | None = None,
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
    positions, early
        As for `cascade_bayes.decision.forward.forward`.
    error_price
        US dollars per wrong answer, ``()``.
    """
    split = split_cells(positions, is_atom[: positions.shape[0]], early)
    outcome = run_draws(tables, call_cost, split)
    return jnp.mean(outcome.cost + error_price * outcome.error)


def optimise(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    starts: Thresholds,
    num_steps: int = NUM_STEPS,
) -> Optimum:
    """Find the thresholds of least mean loss over the draws in ``tables``.

    Parameters
    ----------
    tables, call_cost, is_atom, error_price
        As in `mean_loss`.
    starts
        Starting positions, ``(num_starts, num_models - 1)``. With ``early`` of them models may abstain early,
        and abstaining must be the last model.
    num_steps
        Of Adam; with 0 a threshold stays where its parabola is lowest.
    """
    dtype = tables.mass.dtype
    is_atom = is_atom[: starts.defer.shape[-1]]
    # One common scale of loss, so that 32-bit arithmetic compares numbers near 1.
    unit = error_price + jnp.sum(call_cost)

    def loss(at: Thresholds) -> jax.Array:
        return mean_loss(tables, call_cost, is_atom, at.defer, error_price, at.early) / unit

    def sweep(at: Thresholds) -> _Swept:
        found = _sweep(tables, call_cost, is_atom, error_price, at)
        return found._replace(loss=found.loss / unit)

    def moving(state: tuple[jax.Array, Thresholds, _Swept]) -> jax.Array:
        count, before, now = state
        moved = [jnp.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, now.at)), strict=True)]
        return (count < MAX_SWEEPS) & jnp.any(jnp.stack(moved))

    def advance(state: tuple[jax.Array, Thresholds, _Swept]) -> tuple[jax.Array, Thresholds, _Swept]:
        count, _, now = state
        return count + 1, now.at, jax.vmap(sweep)(now.at)

    begin = jax.tree.map(lambda field: jnp.round(field).astype(dtype), starts)
    first = jax.vmap(sweep)(begin)
    _, _, ends = jax.lax.while_loop(moving, advance, (jnp.array(1), begin, first))
    coarse, polished, coarse_loss = take(ends, jnp.argmin(ends.loss))

    if num_steps:
        tried = _polish(loss, coarse, polished, is_atom, num_steps)
        polished = _either(loss(tried) < loss(polished), tried, polished)
    outcome = run_draws(tables, call_cost, split_cells(polished.defer, is_atom, polished.early))
    polished_loss = jnp.mean(outcome.cost + error_price * outcome.error) / unit
    # By more than rounding: where there is no mass, no place is better than the grid's.
    better = polished_loss < coarse_loss - 64 * jnp.finfo(dtype).eps
    at = _either(better, polished, coarse)
    # A threshold that no query meets, because one before never defers, has no best value: it never defers.
    low = jnp.zeros_like(at.defer) if at.early is None else at.early
    met = jnp.max(outcome.reach_prob[:, :-1], axis=0) > jnp.finfo(dtype).eps
    before = jnp.concatenate([jnp.ones(1, bool), at.defer[:-1] > low[:-1]])
    is_met = jnp.cumprod(met & before) > 0
    return Optimum(
        at=jax.tree.map(lambda field: jnp.where(is_met, field, 0.0), at),
        loss=jnp.where(better, polished_loss, coarse_loss) * unit,
        polish_gain=jnp.where(better, coarse_loss - polished_loss, 0.0) * unit,
    )


def _either(first: jax.Array, one: Thresholds, other: Thresholds) -> Thresholds:
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


class _Swept(NamedTuple):
    """Where a sweep leaves the thresholds.

    Attributes
    ----------
    at
        On the grid.
    beside
        Moved to the lowest point of the parabolas beside.
    loss
        Of ``at``, US dollars per query, ``()``.
    """

    at: Thresholds
    beside: Thresholds
    loss: jax.Array


def _sweep(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    at: Thresholds,
) -> _Swept:
    """Set the thresholds of every model, last to first, to their best grid positions given all others."""
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
        best = _either(idle, current, best)
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
        beside = _either(idle, best, beside)
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
    return _Swept(best, beside, loss)


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


def _polish(
    loss: Callable[[Thresholds], jax.Array],
    coarse: Thresholds,
    start: Thresholds,
    is_atom: jax.Array,
    num_steps: int,
) -> Thresholds:
    """Move thresholds within the continuous cells beside their grid points, by Adam."""
    num_cells = is_atom.shape[1]
    rows = jnp.arange(is_atom.shape[0])

    def box(coarse: jax.Array) -> tuple[jax.Array, jax.Array]:
        cell = jnp.round(coarse).astype(jnp.int32)
        atom_below = is_atom[rows, jnp.maximum(cell - 1, 0)] | (cell == 0)
        atom_above = is_atom[rows, jnp.minimum(cell, num_cells - 1)] | (cell == num_cells)
        return jnp.where(atom_below, coarse, coarse - 1), jnp.where(atom_above, coarse, coarse + 1)

    def off_the_edge(coarse: jax.Array, start: jax.Array) -> jax.Array:
        # At the edge the fraction has no derivative: begin towards the open side.
        low, high = box(coarse)
        aside = jnp.where(high > coarse, 0.02, -0.02)
        return jnp.clip(jnp.where(start == coarse, coarse + aside, start), low, high)

    low, high = (jax.tree.map(lambda field, end=end: box(field)[end], coarse) for end in (0, 1))
    if coarse.early is not None and high.early is not None:
        # Who never abstains early goes on so.
        high = high._replace(early=jnp.where(coarse.early > 0, high.early, 0.0))
    optimiser = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, num_steps, alpha=0.01))
    start = jax.tree.map(off_the_edge, coarse, start)
    start = optax.projections.projection_box(start, low, high)

    def step(carry: tuple, _: None) -> tuple:
        at, state, best, best_loss = carry
        value, gradient = jax.value_and_grad(loss)(at)
        improved = value < best_loss
        best = _either(improved, at, best)
        best_loss = jnp.minimum(value, best_loss)
        updates, state = optimiser.update(gradient, state)
        at = optax.projections.projection_box(optax.apply_updates(at, updates), low, high)
        return (at, state, best, best_loss), None

    init = (start, optimiser.init(start), start, jnp.full((), jnp.inf, dtype=coarse.defer.dtype))
    (_, _, best, _), _ = jax.lax.scan(step, init, None, length=num_steps)
    if best.early is None:
        return best
    return best._replace(early=jnp.minimum(best.early, best.defer))


def default_starts(num_thresholds: int, num_cells: int, early: bool = False) -> Thresholds:
    """Return the starting positions `STARTS`, ``(num_starts, num_thresholds)``, without early abstention."""
    defer = jnp.asarray(STARTS)[:, None] * num_cells * jnp.ones((1, num_thresholds))
    return Thresholds(defer, jnp.zeros_like(defer) if early else None)
