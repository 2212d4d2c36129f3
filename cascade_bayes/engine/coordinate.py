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
import numpy as np

from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.forward import Split, split_cells
from cascade_bayes.engine.rows import Followed, Rows, at_cells, average, follow_draws


class Positions(NamedTuple):
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


def on_host(defer: np.ndarray, early: np.ndarray | None = None) -> Positions:
    """Return thresholds that are NumPy arrays until a program takes them; fields as those of `Positions`."""
    fields: Any = defer, early
    return Positions(*fields)


def either(first: jax.Array, one: Positions, other: Positions) -> Positions:
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

    at: Positions
    beside: Positions
    loss: jax.Array


def coordinate_sweep(problem: Problem, error_price: jax.Array, at: Positions) -> Swept:
    """Set the thresholds of every model, last to first, to their best grid positions given all others.

    Parameters
    ----------
    problem
        Draws; of atoms, those of the models that have thresholds.
    error_price
        US dollars per wrong answer, ``()``.
    at
        Where they stand, each ``(num_models - 1,)``.
    """
    tables, call_cost, is_atom = problem.averaged()
    rounded = jax.tree.map(jnp.round, at)
    split: Split = split_cells(rounded.defer, is_atom, rounded.early)
    rows = tables.rows
    start = 1.0 if rows is None else 1.0 - jnp.sum(rows.weight, axis=-1, keepdims=True)
    if rows is not None and rows.ends is None:
        rows = average(rows)
    followed = None if rows is None else follow_draws(rows, split.deferred, split.early)
    come = _states(tables, start * tables.mass, split.deferred, _handed(followed))
    seen = None if rows is None or followed is None else _seen(rows, followed, call_cost)
    going = _GoingOn(
        value=error_price * jnp.ones_like(tables.mass),
        answered=jnp.ones_like(is_atom[0], dtype=at.defer.dtype),
        of_rows=None if seen is None else error_price * seen.wrong[-1],
    )
    is_final = jnp.arange(len(at.defer)) == len(at.defer) - 1
    steps = _Step(
        step=tables.step,
        mass=come.mass,
        right=come.right,
        slope=come.slope,
        across=tables.across,
        next_cost=call_cost[1:],
        atoms=is_atom,
        current=at,
        is_final=is_final,
        rows=None if seen is None else jax.tree.map(lambda field: field[: len(at.defer)], seen.here),
    )
    prices = error_price, call_cost[-1]

    def each(later: _GoingOn, step: _Step) -> tuple[_GoingOn, tuple[Positions, Positions]]:
        return jax.lax.cond(
            step.step >= 0,
            lambda: _choose(tables, prices, later, step),
            lambda: (later, (step.current, step.current)),
        )

    first, (best, beside) = jax.lax.scan(each, going, steps, reverse=True)
    at_first = jnp.sum(tables.step < 0)
    mass, right = come.mass[at_first], come.right[at_first]
    loss = jnp.mean(
        jnp.sum(mass * (call_cost[at_first] + first.value) - error_price * right * first.answered, axis=1)
    )
    if seen is not None and first.of_rows is not None:
        here = seen.here.here[at_first]
        loss += jnp.mean(jnp.sum(here * (seen.paid[at_first] + first.of_rows), axis=1))
    return Swept(best, beside, loss)


class _Come(NamedTuple):
    """What comes to each model that can send a query on, on every draw.

    Attributes
    ----------
    mass, right
        Probability of its cells, and the part of it in which the model is right,
        ``(num_thresholds, num_draws, num_cells)``.
    slope
        Change of the probability that it is right across each cell, likewise.
    """

    mass: jax.Array
    right: jax.Array
    slope: jax.Array


def _handed(followed: Followed | None) -> tuple[jax.Array, jax.Array] | None:
    """Return what the chain takes over, by cell, and the part of it in which the model is right."""
    if followed is None or followed.handed is None:
        return None
    return followed.handed.mass, followed.handed.right


def _states(
    tables: ChainTables, mass: jax.Array, deferred: jax.Array, handed: tuple[jax.Array, ...] | None
) -> _Come:
    """Run the forward pass on whole cells; ``mass`` is that of the first model's."""
    handed = jax.tree.map(lambda field: jnp.moveaxis(field, 1, 0), handed)

    def move(state: _Come, here: tuple[Any, ...]) -> tuple[_Come, _Come]:
        step, part, more = here
        mass, right = state.mass, state.right
        if more is not None:
            mass, right = mass + more[0], right + more[1]
        on = mass * part
        after, after_right = (
            jnp.einsum("dl,dlm->dm", on, table[:, step]) for table in (tables.transition, tables.right)
        )
        return _Come(after, after_right, tables.right_slope[:, step]), _Come(mass, right, state.slope)

    def each(state: _Come, here: tuple[Any, ...]) -> tuple[_Come, _Come]:
        return jax.lax.cond(here[0] >= 0, move, lambda state, here: (state, state), state, here)

    begin = _Come(mass, mass * tables.correct, tables.correct_slope)
    return jax.lax.scan(each, begin, (tables.step, deferred, handed))[1]


class _RowsHere(NamedTuple):
    """Observed queries at a model that can send them on, or at each, with a leading axis of models.

    Attributes
    ----------
    cell, ends
        As those of `cascade_bayes.engine.rows.Rows`.
    next_cost
        US dollars of a call of the next model, ``(num_queries,)``.
    wrong, here
        Probability that the model is wrong, and weight of the queries that get here,
        ``(num_draws, num_queries)``.
    """

    cell: jax.Array
    ends: jax.Array | None
    next_cost: jax.Array
    wrong: jax.Array
    here: jax.Array


class _Seen(NamedTuple):
    """Observed queries at every model: at those that can send them on, what they pay, and who is wrong."""

    here: _RowsHere
    paid: jax.Array
    wrong: jax.Array


def _seen(rows: Rows, followed: Followed, call_cost: jax.Array) -> _Seen:
    wrong = jnp.moveaxis(1.0 - rows.right, 1, 0)
    here = followed.path[:, None] * rows.weight
    paid = rows.cost
    if rows.ends is not None:  # where a query is handed over it pays what the chain pays
        paid = paid.at[:-1].set(jnp.where(rows.ends > 0, call_cost[:-1, None], paid[:-1]))
    return _Seen(_RowsHere(rows.cell, rows.ends, paid[1:], wrong[:-1], here[:-1]), paid, wrong)


class _GoingOn(NamedTuple):
    """What going on to a model is worth.

    Attributes
    ----------
    value
        US dollars from a query in each of its cells that is wrong there, ``(num_draws, num_cells)``.
    answered
        Fraction of each cell that it answers, ``(num_cells,)``: as much of the price of an error is saved
        where it is right.
    of_rows
        US dollars from each observed query, ``(num_draws, num_queries)``; None where none is.
    """

    value: jax.Array
    answered: jax.Array
    of_rows: jax.Array | None


class _Step(NamedTuple):
    """What the choice of a model's thresholds needs of it; see `_Come` and `ChainTables`."""

    step: jax.Array
    mass: jax.Array
    right: jax.Array
    slope: jax.Array
    across: jax.Array
    next_cost: jax.Array
    atoms: jax.Array
    current: Positions
    is_final: jax.Array
    rows: _RowsHere | None


def _choose(
    tables: ChainTables, prices: tuple[jax.Array, jax.Array], later: _GoingOn, here: _Step
) -> tuple[_GoingOn, tuple[Positions, Positions]]:
    """Choose one model's thresholds, given what going on is worth.

    Return what coming to it is worth, and the thresholds: at their best grid positions, and beside these.
    """
    error_price, abstain_price = prices
    mass, rows = here.mass, here.rows
    gone = jnp.einsum("dlm,dm->dl", tables.transition[:, here.step], later.value) - error_price * jnp.einsum(
        "dlm,m->dl", tables.right[:, here.step], later.answered
    )
    go = here.next_cost * tables.relative_cost[:, here.step] + gone
    wrong = mass - here.right
    gain = jnp.mean(mass * go - error_price * wrong, axis=0)
    met = jnp.max(mass)
    row_go = None
    if rows is not None and later.of_rows is not None:
        row_go = rows.next_cost + later.of_rows
        if rows.ends is not None:
            row_go = jnp.where(rows.ends > 0, go[:, rows.cell], row_go)
        row_gain = jnp.mean(rows.here * (row_go - error_price * rows.wrong), axis=0)
        gain = gain + at_cells(row_gain, rows.cell, gain)
        met = jnp.maximum(met, jnp.max(rows.here))
    leaving = None
    if here.current.early is not None:
        leaving = jnp.mean(mass * abstain_price - error_price * wrong, axis=0)
        if rows is not None:
            row_gain = jnp.mean(rows.here * (abstain_price - error_price * rows.wrong), axis=0)
            leaving = leaving + at_cells(row_gain, rows.cell, gain)
        # The last model abstains by deferring to abstaining.
        leaving = jnp.where(here.is_final, jnp.inf, leaving)
    best = _best_pair(gain, leaving)
    # Where no query comes, every position is equal: stay.
    idle = met <= jnp.finfo(mass.dtype).eps
    best = either(idle, here.current, best)

    def bend(cell: jax.Array) -> tuple[jax.Array, jax.Array]:
        change = jnp.einsum("l,dl->d", here.across[cell], gone)
        slope = error_price * here.slope[:, cell]
        return jnp.mean(mass[:, cell] * change), jnp.mean(mass[:, cell] * slope)

    beside = either(idle, best, _beside(best, gain, leaving, bend, here.atoms))
    early = None if best.early is None else best.early[None]
    split = jax.tree.map(lambda field: field[0], split_cells(best.defer[None], here.atoms[None], early))
    part, stop = split.deferred, 1.0 - split.deferred
    value = part * go
    if split.early is not None:
        stop, value = stop - split.early, value + split.early * abstain_price
    of_rows = None
    if rows is not None and row_go is not None:
        row_part, row_stop = part[rows.cell], stop[rows.cell]
        of_rows = row_part * row_go + row_stop * error_price * rows.wrong
        if split.early is not None:
            of_rows = of_rows + split.early[rows.cell] * abstain_price
    return _GoingOn(value + error_price * stop, stop, of_rows), (best, beside)


def _best_pair(gain: jax.Array, leaving: jax.Array | None) -> Positions:
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
        return Positions(jnp.argmin(deferred).astype(gain.dtype))
    # Abstaining below a position rather than deferring there.
    instead = jnp.concatenate([zero, jnp.cumsum(leaving - gain)])
    defer = jnp.argmin(deferred + jax.lax.cummin(instead))
    early = jnp.argmin(jnp.where(jnp.arange(len(instead)) <= defer, instead, jnp.inf))
    return Positions(defer.astype(gain.dtype), early.astype(gain.dtype))


def _beside(
    best: Positions,
    gain: jax.Array,
    leaving: jax.Array | None,
    bend: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    atoms: jax.Array,
) -> Positions:
    """Move one model's thresholds from grid points to the lowest points of the parabolas beside.

    ``bend`` gives the curvatures of going on and of stopping across a cell.
    """

    def both(cell: jax.Array) -> jax.Array:
        going, stopping = bend(cell)
        return going + stopping

    defer = best.defer + _lowest_beside(best.defer, gain, both, atoms)
    if best.early is None or leaving is None:
        return Positions(defer)
    # Between abstaining and going on; where nothing is deferred, between abstaining and stopping.
    early = best.early + _lowest_beside(best.early, leaving - gain, lambda cell: -bend(cell)[0], atoms)
    alone = best.early + _lowest_beside(best.early, leaving, lambda cell: bend(cell)[1], atoms)
    apart = best.defer > best.early
    early = jnp.where(best.early > 0, jnp.where(apart, jnp.minimum(early, defer), alone), best.early)
    return Positions(jnp.where(apart, defer, early), early)


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
