"""Thresholds that are best on average at many error prices, and those that are best for each draw at one.

Few programs do it, whatever the number of prices: prices come in batches of one size. A program is compiled
for each number of models, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import take
from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.coordinate import Thresholds
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import Outcome, Split, forward, run_draws
from cascade_bayes.engine.lattice import bayes_on_lattice, lattice_positions, own_on_lattice
from cascade_bayes.engine.optimise import NUM_STEPS, default_starts, optimise
from cascade_bayes.errors import InputError

BATCH, FEW = 22, 4
"""Prices, or policies, that one call of a program takes side by side, as tables are read once for all of
them; the second number where there are no more than that."""

PRICE_RATIO = 1.25
"""Ratio of the outermost prices of a sweep to those beyond, which are searched for the starts alone."""


def sweep(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_prices: np.ndarray,
    num_steps: int = NUM_STEPS,
    early: bool = False,
) -> Thresholds:
    """Return the thresholds that are best on average at every price; NumPy arrays.

    The search starts at the best combination of a lattice. Where that leaves out grid positions, or knows
    nothing of early abstention, it is made a second time from where it ended at the prices beside: with four
    and more models a lattice is coarse, and the place that a neighbour found is often better than the own.
    The outermost prices, or a single one, have neighbours that are searched for that alone.

    Parameters
    ----------
    tables
        Draws, fields with a leading axis.
    call_cost
        Draws of US dollars per call, ``(num_draws, num_models)``. They are independent of what decides how
        many calls there are, so that the search takes their mean alone.
    is_atom
        ``(num_models, num_cells)``.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    num_steps
        Adam's. A search that is not polished, with 0, is made in 32 bits: it is as good, and takes half as
        long.
    early
        Whether models may abstain early.

    Returns
    -------
    Thresholds
        Grid positions, ``(num_prices, num_thresholds)``.
    """
    if not num_steps:
        tables, call_cost = in_32_bits((tables, call_cost))
    dtype, (num_thresholds, num_cells) = call_cost.dtype, tables.transition.shape[1:3]
    search = partial(_search, tables, jnp.mean(call_cost, axis=0), is_atom)
    positions = lattice_positions(num_thresholds, num_cells)
    wider = np.asarray([error_prices[0] / PRICE_RATIO, *error_prices, error_prices[-1] * PRICE_RATIO], dtype)
    found = bayes_on_lattice(tables, call_cost, _whole_batches(wider), jnp.asarray(positions))
    start = found.astype(dtype)[: len(wider), None]
    starts = Thresholds(start, jnp.zeros_like(start) if early else None)
    if positions.size > num_cells and not early:  # the best combination of all there are on the grid
        starts = take(starts, slice(1, -1))
    else:
        begin = starts
        if early:  # the lattice knows no early abstention
            others = default_starts(num_thresholds, num_cells, early)
            begin = jax.tree.map(partial(_append_to_each, dtype=dtype), starts, others)
        starts = jax.tree.map(_with_neighbours, in_batches(partial(search, num_steps=0), (wider, begin)))
    return in_batches(partial(search, num_steps=num_steps), (wider[1:-1], starts))


def sweep_chain(
    chain: Discretised, tables: ChainTables, error_prices: np.ndarray, num_steps: int = NUM_STEPS
) -> Thresholds:
    """Return the thresholds of one cascade that are best on average at every price; see `sweep`."""
    early = chain.terms.abstains_early
    return sweep(tables, chain.call_cost, chain.is_atom, error_prices, num_steps, early)


def search_near(
    chain: Discretised, tables: ChainTables, error_price: float, starts: Thresholds, num_steps: int = 0
) -> Thresholds:
    """Return the thresholds that are best on average at one price, searched for near given ones; NumPy.

    Parameters
    ----------
    chain, tables, num_steps
        The same as for `sweep_chain`.
    error_price
        US dollars per wrong answer.
    starts
        Grid positions, ``(num_starts, num_thresholds)``.
    """
    searched, call_cost = (tables, chain.call_cost) if num_steps else in_32_bits((tables, chain.call_cost))
    dtype = call_cost.dtype
    begin = jax.tree.map(lambda field: np.asarray(field, dtype)[None], starts)
    found = in_batches(
        partial(_search, searched, jnp.mean(call_cost, axis=0), chain.is_atom, num_steps=num_steps),
        (np.asarray([error_price], dtype), begin),
    )
    return take(found, 0)


@partial(jax.jit, static_argnames="num_steps")
def _search(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_prices: jax.Array,
    starts: Thresholds,
    num_steps: int,
) -> Thresholds:
    """Search at every price of a batch, from starts ``(num_prices, num_starts, num_thresholds)``."""

    def at_price(price: jax.Array, starts: Thresholds) -> Thresholds:
        return optimise(tables, call_cost, is_atom, price, starts, num_steps).at

    return jax.vmap(at_price)(error_prices, starts)


def own_optima(chain: Discretised, tables: ChainTables, error_price: float) -> Thresholds:
    """Return the thresholds that are best for each draw by itself, with its own costs of calls; NumPy arrays.

    Parameters
    ----------
    chain, tables
        The cascade on its grid, and its tables.
    error_price
        US dollars per wrong answer.

    Returns
    -------
    Thresholds
        Grid positions, ``(num_draws, num_thresholds)``.
    """
    searched, call_cost = in_32_bits((tables, chain.call_cost))
    positions = jnp.asarray(lattice_positions(chain.num_thresholds, chain.grid.num_cells))
    price = jnp.asarray(error_price, dtype=call_cost.dtype)
    early = chain.terms.abstains_early
    found = _own(searched, call_cost, chain.is_atom, price, positions, early)
    return jax.tree.map(lambda field: np.asarray(field, chain.call_cost.dtype), found)


@partial(jax.jit, static_argnames="early")
def _own(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_price: jax.Array,
    positions: jax.Array,
    early: bool,
) -> Thresholds:
    """Search on every draw, from the best of its lattice."""
    starts = own_on_lattice(tables, call_cost, error_price, positions).astype(call_cost.dtype)

    def on_draw(draw: ChainTables, cost: jax.Array, start: jax.Array) -> Thresholds:
        begin = Thresholds(start[None], jnp.zeros_like(start)[None] if early else None)
        return optimise(draw.alone(), cost, is_atom, error_price, begin, 0).at

    return jax.vmap(on_draw, in_axes=(tables.draw_axes(), 0, 0))(tables, call_cost, starts)


def sweep_outcomes(chain: Discretised, tables: ChainTables, at: Thresholds) -> Outcome:
    """Return what policies do on every draw, as `Discretised.outcomes`, from tables that are there; NumPy.

    Parameters
    ----------
    chain, tables
        The cascade on its grid, and its tables.
    at
        Thresholds on the grid, fields ``(num_policies, num_thresholds)``.
    """
    return run_policies(tables, chain.call_cost, chain.is_atom, at)


def run_policies(tables: ChainTables, call_cost: jax.Array, is_atom: jax.Array, at: Thresholds) -> Outcome:
    """Return what policies do on every draw, fields ``(num_policies, num_draws, ...)``; NumPy arrays.

    Parameters
    ----------
    tables, call_cost, is_atom
        The same as for `sweep`.
    at
        Thresholds on the grid, fields ``(num_policies, num_thresholds)``.
    """
    return in_batches(partial(_run_batch, tables, call_cost, is_atom), (jax.tree.map(np.asarray, at),))


@jax.jit
def _run_batch(tables: ChainTables, call_cost: jax.Array, is_atom: jax.Array, at: Thresholds) -> Outcome:
    on_draws = jax.vmap(forward, in_axes=(tables.draw_axes(), 0, None, None, None))
    return jax.vmap(lambda policy: on_draws(tables, call_cost, is_atom, *policy))(at)


def in_batches(run: Callable[..., Any], many: tuple[Any, ...]) -> Any:
    """Call a program on batches of one size, the last one filled up with its last entry; NumPy arrays.

    Parameters
    ----------
    run
        Takes as many pytrees as ``many`` has, and returns one, all with a leading axis of the batch.
    many
        Pytrees of NumPy arrays with a common leading axis.
    """
    count = len(jax.tree.leaves(many)[0])
    size = _batch_of(count)
    padded = jax.tree.map(_whole_batches, many)
    found = [
        run(*(take(tree, slice(start, start + size)) for tree in padded)) for start in range(0, count, size)
    ]
    return jax.tree.map(lambda *fields: np.concatenate([np.asarray(f) for f in fields])[:count], *found)


def _with_neighbours(at_prices: np.ndarray) -> np.ndarray:
    """Return what stands at each price but the outermost, the next lower and the next higher.

    From ``(num_prices + 2, ...)`` it makes ``(num_prices, 3, ...)``.
    """
    return np.stack([at_prices[1:-1], at_prices[:-2], at_prices[2:]], axis=1)


def _append_to_each(own: np.ndarray, others: jax.Array, dtype: np.dtype) -> np.ndarray:
    """Append starts that all prices share to each price's own, along the second axis."""
    shared = np.broadcast_to(np.asarray(others, dtype), (len(own), *others.shape))
    return np.concatenate([own, shared], axis=1)


def _whole_batches(values: np.ndarray) -> np.ndarray:
    """Repeat the last entry until batches are whole: one that is not would be compiled by itself."""
    missing = -len(values) % _batch_of(len(values))
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _batch_of(count: int) -> int:
    return FEW if count <= FEW else BATCH


def in_32_bits(tree: Any) -> Any:
    """Return a pytree with its floating-point arrays in 32 bits."""

    def short(field: jax.Array) -> jax.Array:
        return field.astype(jnp.float32) if jnp.issubdtype(field.dtype, jnp.floating) else field

    return jax.tree.map(short, tree)


def price_range(
    tables: ChainTables, call_cost: np.ndarray, num_prices: int, abstain_price: float | None = None
) -> np.ndarray:
    r"""Return log-spaced error prices from where the cheapest policy is best to where the dearest is.

    With the posterior means of the two trivial policies (always stop at the first model; always go to
    the last), :math:`\Delta` their difference in accuracy, at least 0.05, and :math:`c` the cost of the
    models after the first, the middle weight of cost is :math:`m = \Delta / c`. Prices run over the
    reciprocals of weights from :math:`\min(m/30, 0.01/c)` to :math:`\max(30m, 1/\min_{i>1} c_i)`. Where
    queries may be left without an answer, they go up to at least 30 times the price of that.

    Parameters
    ----------
    tables
        Draws of the cascade.
    call_cost
        US dollars per call of its models, ``(num_models,)``.
    num_prices
        How many.
    abstain_price
        US dollars per query without an answer; None if all get one.
    """
    _, num_steps, num_cells, _ = tables.transition.shape
    calls = jnp.arange(num_steps)[:, None] < len(call_cost) - 1

    def error(deferred: float) -> float:
        fraction = jnp.where(calls, deferred, 0.0) * jnp.ones((1, num_cells), dtype=tables.mass.dtype)
        costs = jnp.zeros(num_steps + 1, dtype=tables.mass.dtype)
        return float(jnp.mean(run_draws(tables, costs, Split(fraction, 0.0 * fraction)).error))

    prices = np.concatenate([call_cost[1:], [] if abstain_price is None else [abstain_price]])
    positive = prices[prices > 0]
    if not positive.size:
        raise InputError("every model after the first is free of cost: give error prices explicitly.")
    extra = float(call_cost[1:].sum()) or float(positive.sum())
    middle = max(abs(error(1.0) - error(0.0)), 0.05) / extra
    weights = min(middle / 30, 0.01 / extra), max(30 * middle, 1 / float(positive.min()))
    if num_prices == 1:
        return np.asarray([1 / middle])
    return np.geomspace(1 / weights[1], max(1 / weights[0], 30 * (abstain_price or 0.0)), num_prices)
