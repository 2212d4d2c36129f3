r"""Thresholds of least expected loss: coordinate sweeps on the grid, then optax gradients.

The loss of thresholds at positions :math:`r`, in US dollars per query, averaged over draws :math:`d`, is

.. math::

    L(r) = \frac1D \sum_d \{\mathrm{cost}_d(r) + \text{error\_price} \cdot \mathrm{error}_d(r)\} .

Coordinate sweeps (`cascade_bayes.engine.coordinate`) from several starts end on the grid. From the lowest
points of the cells beside, Adam (optax) goes on within these cells with the exact gradient, and the best of
all is kept.

With one draw instead of many the same program finds that draw's own optimum; over draws these are the
posterior of the optimal thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cascade_bayes._trees import take
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.coordinate import Positions, Swept, coordinate_sweep, either, on_host
from cascade_bayes.engine.forward import forward, run_draws, split_cells

MAX_SWEEPS = 12
"""Most sweeps; they end as soon as no start moves, mostly after three or four."""

NUM_STEPS = 12
LEARNING_RATE = 0.05
"""Adam's steps and first step size in cells, decayed by a cosine: the parabolas have come close."""

STARTS = (1.0, 0.75, 0.5, 0.25)
"""Starting positions as fractions of the scale, the same for every threshold."""


class Optimum(NamedTuple):
    """Where the search ended.

    Attributes
    ----------
    at
        Positions on the grid.
    loss
        US dollars per query, ``()``.
    polish_gain
        How much moving off the grid points lowered the loss of the best of them, ``()``, at least 0.
    """

    at: Positions
    loss: jax.Array
    polish_gain: jax.Array


def mean_loss(
    problem: Problem,
    positions: jax.Array,
    error_price: jax.Array,
    early: jax.Array | None = None,
) -> jax.Array:
    """Return the loss averaged over draws, US dollars per query, which has derivatives in the thresholds.

    Observed queries lie spread over their cells (`cascade_bayes.engine.rows`), so that within a cell it is
    not quite the loss that `cascade_bayes.engine.forward.forward` judges a policy by.

    Parameters
    ----------
    problem, error_price
        The same as for `cascade_bayes.engine.coordinate.coordinate_sweep`.
    positions, early
        The same as for `cascade_bayes.engine.forward.forward`.
    """
    split = split_cells(positions, problem.is_atom[: positions.shape[0]], early)
    outcome = run_draws(problem.averaged(), split)
    return jnp.mean(outcome.cost + error_price * outcome.error)


def descend(problem: Problem, error_prices: jax.Array, starts: Positions) -> Swept:
    """Repeat sweeps from many starts, each at a price of its own, until no threshold moves.

    Parameters
    ----------
    problem
        The same as for `cascade_bayes.engine.coordinate.coordinate_sweep`.
    error_prices
        US dollars per wrong answer, ``(num_starts,)``.
    starts
        Starting positions, ``(num_starts, num_models - 1)``. With ``early`` of them models may abstain early,
        and abstaining must be the last model.

    Returns
    -------
    Swept
        Where each ends, with a leading axis of starts.
    """

    def sweep(price: jax.Array, at: Positions) -> Swept:
        return coordinate_sweep(problem, price, at)

    sweep_all = jax.vmap(sweep)

    def moving(state: tuple[jax.Array, Positions, Swept]) -> jax.Array:
        count, before, now = state
        moved = [jnp.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, now.at)), strict=True)]
        return (count < MAX_SWEEPS) & jnp.any(jnp.stack(moved))

    def advance(state: tuple[jax.Array, Positions, Swept]) -> tuple[jax.Array, Positions, Swept]:
        count, _, now = state
        return count + 1, now.at, sweep_all(error_prices, now.at)

    dtype = problem.tables.mass.dtype
    begin = jax.tree.map(lambda field: jnp.round(field).astype(dtype), starts)
    # The first sweep is one of the loop's, so that it is compiled once.
    nowhere = jax.tree.map(lambda field: jnp.full_like(field, jnp.nan), begin)
    first = Swept(begin, begin, jnp.zeros_like(error_prices, dtype))
    return jax.lax.while_loop(moving, advance, (jnp.array(0), nowhere, first))[2]


def optimise(
    problem: Problem,
    error_price: jax.Array,
    starts: Positions,
    num_steps: int = NUM_STEPS,
) -> Optimum:
    """Find the thresholds of least mean loss over the draws in ``tables``.

    Parameters
    ----------
    problem, error_price
        The same as for `mean_loss`.
    starts
        The same as for `descend`.
    num_steps
        Steps of Adam; with 0 a threshold stays where its parabola is lowest.
    """
    dtype = problem.tables.mass.dtype
    is_atom = problem.is_atom[: starts.defer.shape[-1]]
    problem = problem.averaged()._replace(is_atom=is_atom)
    prices = jnp.broadcast_to(jnp.asarray(error_price, dtype), starts.defer.shape[:1])
    ends = descend(problem, prices, starts)
    coarse, polished, coarse_loss = take(ends, jnp.argmin(ends.loss))
    # One common scale of loss, so that 32-bit arithmetic compares numbers near 1.
    unit = error_price + jnp.sum(problem.call_cost)
    coarse_loss = coarse_loss / unit

    def loss(at: Positions) -> jax.Array:
        return mean_loss(problem, at.defer, error_price, at.early) / unit

    if num_steps:
        tried = polish(loss, coarse, polished, is_atom, num_steps)
        polished = either(loss(tried) < loss(polished), tried, polished)
    # Searched for with queries spread over their cells, judged with each where it stands.
    judge = jax.vmap(forward, in_axes=(problem.draw_axes(), None, None))
    outcome = judge(problem, polished.defer, polished.early)
    polished_loss = jnp.mean(outcome.cost + error_price * outcome.error) / unit
    # By more than rounding: where there is no mass, no place is better than the grid's.
    better = polished_loss < coarse_loss - 64 * jnp.finfo(dtype).eps
    at = either(better, polished, coarse)
    is_met = thresholds_met(at, outcome.reach_prob, float(jnp.finfo(dtype).eps))
    return Optimum(
        at=jax.tree.map(lambda field: jnp.where(is_met, field, 0.0), at),
        loss=jnp.where(better, polished_loss, coarse_loss) * unit,
        polish_gain=jnp.where(better, coarse_loss - polished_loss, 0.0) * unit,
    )


def thresholds_met(at: Positions, reach_prob: Any, least: float, xp: Any = jnp) -> Any:
    """Return which thresholds some query meets: those behind one that never defers have no best value.

    Parameters
    ----------
    at
        Positions on the grid, ``(..., num_models - 1)``.
    reach_prob
        Probability that each model is called, on every draw, ``(..., num_draws, num_models)``.
    least
        What a probability must be above to count.
    xp
        The namespace of the arrays, `jax.numpy` or `numpy`.
    """
    low = xp.zeros_like(at.defer) if at.early is None else at.early
    met = xp.max(reach_prob[..., :-1], axis=-2) > least
    before = xp.concatenate([xp.ones_like(met[..., :1]), at.defer[..., :-1] > low[..., :-1]], axis=-1)
    return xp.cumprod(met & before, axis=-1) > 0


def polish(
    loss: Callable[[Positions], jax.Array],
    coarse: Positions,
    start: Positions,
    is_atom: jax.Array,
    num_steps: int,
) -> Positions:
    """Move thresholds within the continuous cells beside their grid points, by Adam.

    Parameters
    ----------
    loss
        Loss of thresholds, of a scale near 1.
    coarse, start
        Grid points, and where to begin beside them, ``(num_models - 1,)`` each.
    is_atom
        Which cells are atoms, of the models that have thresholds.
    num_steps
        Steps of Adam.
    """
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

    def step(carry: tuple[Any, ...], _: None) -> tuple[Any, ...]:
        at, state, best, best_loss = carry
        value, gradient = jax.value_and_grad(loss)(at)
        improved = value < best_loss
        best = either(improved, at, best)
        best_loss = jnp.minimum(value, best_loss)
        updates, state = optimiser.update(gradient, state)
        at = optax.projections.projection_box(optax.apply_updates(at, updates), low, high)
        return (at, state, best, best_loss), None

    init = (start, optimiser.init(start), start, jnp.full((), jnp.inf, dtype=coarse.defer.dtype))
    (_, _, best, _), _ = jax.lax.scan(step, init, None, length=num_steps)
    if best.early is None:
        return best
    return best._replace(early=jnp.minimum(best.early, best.defer))


def default_starts(num_thresholds: int, num_cells: int, early: bool = False) -> Positions:
    """Return the starting positions `STARTS`, ``(num_starts, num_thresholds)``, without early abstention."""
    defer = np.asarray(STARTS)[:, None] * num_cells * np.ones((1, num_thresholds))
    return on_host(defer, np.zeros_like(defer) if early else None)
