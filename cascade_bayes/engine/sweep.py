"""One compiled sweep over error prices: thresholds that are best on average and for each draw."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._devices import largest_divisor
from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.coordinate import Thresholds
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import Outcome, Split, forward, run_draws
from cascade_bayes.engine.lattice import lattice_optima, lattice_positions
from cascade_bayes.engine.optimise import NUM_STEPS, default_starts, optimise
from cascade_bayes.errors import InputError

PRICE_BATCH = 21
"""Prices that are optimised side by side."""

PRICE_RATIO = 1.25
"""Ratio of the outermost prices of a sweep to those beyond, which are searched for the starts alone."""


class Sweep(NamedTuple):
    """Result of the compiled sweep.

    Attributes
    ----------
    bayes
        Thresholds that are best on average, ``(num_prices, num_thresholds)``.
    own
        Those of each draw, ``(num_prices, num_draws, num_thresholds)``.
    """

    bayes: Thresholds
    own: Thresholds


@partial(jax.jit, static_argnames=("num_steps", "early"))
def sweep(
    tables: ChainTables,
    call_cost: jax.Array,
    is_atom: jax.Array,
    error_prices: jax.Array,
    positions: jax.Array,
    num_steps: int = NUM_STEPS,
    early: bool = False,
) -> Sweep:
    """Optimise thresholds at every price, over all draws together and for each draw, in one program.

    The search for the best on average starts at the best combination of a lattice. Where that leaves out
    grid positions, or knows nothing of early abstention, it is made a second time from where it ended at the
    prices beside: with four and more models a lattice is coarse, and the place that a neighbour found is
    often better than the own. The outermost prices, or a single one, have neighbours that are searched for
    that alone.

    Parameters
    ----------
    tables
        Draws, fields with a leading axis.
    call_cost
        Draws of US dollars per call, ``(num_draws, num_models)``. They are independent of what decides how
        many calls there are, so that the search for the best on average takes their mean alone.
    is_atom
        ``(num_models, num_cells)``.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    positions
        Grid positions of the lattice on which the search starts, ascending, ``(num_positions,)``.
    num_steps
        Adam's, for the thresholds that are best on average.
    early
        Whether models may abstain early.
    """
    dtype = tables.mass.dtype
    axes = tables.draw_axes()
    # A search that is not polished is as good in half as many bits, and takes half as long.
    searched, searched_cost, prices = (
        (tables, call_cost, error_prices) if num_steps else in_32_bits((tables, call_cost, error_prices))
    )
    mean_cost = jnp.mean(searched_cost, axis=0)
    wider = jnp.concatenate([prices[:1] / PRICE_RATIO, prices, prices[-1:] * PRICE_RATIO])
    found = lattice_optima(searched, searched_cost, wider, positions)

    def begin(defer: jax.Array) -> Thresholds:
        return Thresholds(defer[None], jnp.zeros_like(defer)[None] if early else None)

    def first_pass(at: tuple[jax.Array, jax.Array]) -> Thresholds:
        price, start = at
        starts = begin(start)
        if early:  # the lattice knows no early abstention
            more = default_starts(starts.defer.shape[1], is_atom.shape[1], early)
            starts = jax.tree.map(lambda *fields: jnp.concatenate(fields), starts, more)
        return optimise(searched, mean_cost, is_atom, price, starts, 0).at

    def second_pass(at: tuple[jax.Array, jax.Array, Thresholds]) -> Sweep:
        price, own_starts, starts = at
        bayes = optimise(searched, mean_cost, is_atom, price, starts, num_steps).at

        def own(draw: ChainTables, cost: jax.Array, start: jax.Array) -> Thresholds:
            return optimise(draw.alone(), cost, is_atom, price, begin(start), 0).at

        of_draws = jax.vmap(own, in_axes=(axes, 0, 0))(searched, searched_cost, own_starts)
        return jax.tree.map(lambda field: field.astype(dtype), Sweep(bayes, of_draws))

    if positions.size > is_atom.shape[1] and not early:  # the best combination of all there are on the grid
        starts = Thresholds(found.bayes[1:-1, None])
    else:
        size = largest_divisor(wider.size, PRICE_BATCH + 2)
        ends = jax.lax.map(first_pass, (wider, found.bayes), batch_size=size)
        starts = jax.tree.map(_with_neighbours, ends)
    return jax.lax.map(second_pass, (prices, found.own[1:-1], starts), batch_size=PRICE_BATCH)


@jax.jit
def run_policies(tables: ChainTables, call_cost: jax.Array, is_atom: jax.Array, at: Thresholds) -> Outcome:
    """Return what policies do on every draw, fields ``(num_policies, num_draws, ...)``.

    Parameters
    ----------
    tables, call_cost, is_atom
        As for `sweep`.
    at
        Thresholds on the grid, fields ``(num_policies, num_thresholds)``.
    """
    on_draws = jax.vmap(forward, in_axes=(tables.draw_axes(), 0, None, None, None))
    return jax.lax.map(
        lambda policy: on_draws(tables, call_cost, is_atom, *policy), at, batch_size=PRICE_BATCH
    )


def _with_neighbours(at_prices: jax.Array) -> jax.Array:
    """Return what stands at each price but the outermost, the next lower and the next higher.

    Of ``(num_prices + 2, ...)``, ``(num_prices, 3, ...)``.
    """
    return jnp.stack([at_prices[1:-1], at_prices[:-2], at_prices[2:]], axis=1)


def sweep_chain(
    chain: Discretised, tables: ChainTables, error_prices: np.ndarray, num_steps: int = NUM_STEPS
) -> Sweep:
    """Optimise the thresholds of one cascade at every price; NumPy arrays.

    Parameters
    ----------
    chain, tables
        The cascade on its grid, and its tables.
    error_prices
        US dollars per wrong answer, ``(num_prices,)``.
    num_steps
        As for `sweep`.
    """
    found = sweep(
        tables,
        chain.call_cost,
        chain.is_atom,
        jnp.asarray(_whole_batches(error_prices), dtype=chain.call_cost.dtype),
        jnp.asarray(lattice_positions(chain.num_thresholds, chain.grid.num_cells)),
        num_steps=num_steps,
        early=chain.terms.abstains_early,
    )
    return jax.tree.map(lambda field: np.asarray(field)[: error_prices.size], found)


def sweep_outcomes(chain: Discretised, tables: ChainTables, at: Thresholds) -> Outcome:
    """Return what policies do on every draw, as `Discretised.outcomes`, from tables that are there; NumPy.

    Parameters
    ----------
    chain, tables
        The cascade on its grid, and its tables.
    at
        Thresholds on the grid, fields ``(num_policies, num_thresholds)``.
    """
    asked = jax.tree.map(lambda field: jnp.asarray(_whole_batches(np.asarray(field))), at)
    found = run_policies(tables, chain.call_cost, chain.is_atom, asked)
    return jax.tree.map(lambda field: np.asarray(field)[: len(at.defer)], found)


def _whole_batches(values: np.ndarray) -> np.ndarray:
    """Repeat the last of many prices or policies: a batch that is not whole would be compiled by itself."""
    extra = -len(values) % PRICE_BATCH if len(values) > PRICE_BATCH else 0
    return np.concatenate([values, np.repeat(values[-1:], extra, axis=0)])


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
