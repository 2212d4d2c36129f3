"""Every policy on a lattice at once: against one policy at a time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascades import COST, first, lay, mean_losses, some_of

from cascade_bayes.decision.discretise import discretise
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.lattice import (
    MAX_POLICIES,
    Lattice,
    all_policies,
    bayes_on_lattice,
    lattice_positions,
    own_on_lattice,
)
from cascade_bayes.engine.optimise import mean_loss, optimise
from cascade_bayes.engine.rows import Rows
from cascade_bayes.engine.sweep import run_policies, search_prices, sweep_chain

NUM_CELLS = 16
POSITIONS = np.array([0, 3, 8, 11, NUM_CELLS])


def with_queries(tables: ChainTables, k: int, *, handed: bool) -> ChainTables:
    """Thirty queries beside the chain; of some the second or third confidence is not known."""
    rng = np.random.default_rng(k)
    n = 30
    ends = np.zeros((k - 1, n))
    ends[0, :8] = 1
    ends[1:2, 8:14] = 1
    cell = jnp.asarray(rng.integers(0, NUM_CELLS, (k - 1, n)))
    rows = Rows(
        cell=cell,
        position=cell + 0.5,
        ends=jnp.asarray(ends) if handed else None,
        cost=jnp.asarray(rng.uniform(0, 20, (k, n))),
        weight=jnp.asarray(rng.dirichlet(np.ones(n + 1))[:n]),
        right=jnp.asarray(rng.uniform(0, 1, (k, n))),
    )
    return tables._replace(rows=rows)


@pytest.mark.parametrize(("k", "queries"), some_of([2, 3, 4, 5], {(2, "none"), (3, "handed over")}))
def test_is_the_forward_pass_of_every_combination(k: int, queries: str) -> None:
    if k == 4:
        _, grid, tables = lay(5, NUM_CELLS)
        one = first(tables)
        one = one._replace(step=one.step[:3], across=one.across[:3])
        call_cost, is_atom = jnp.asarray(COST[5][:4]), jnp.asarray(grid.is_atom[:4])
    else:
        _, grid, tables = lay(k, NUM_CELLS)
        one, call_cost, is_atom = first(tables), jnp.asarray(COST[k]), jnp.asarray(grid.is_atom)
    if queries != "none":
        one = with_queries(one, k, handed=queries == "handed over")
    found = jax.jit(all_policies)(one.own_steps(k - 1), jnp.asarray(POSITIONS))
    every = np.array(list(itertools.product(range(len(POSITIONS)), repeat=k - 1)))
    run = jax.jit(jax.vmap(forward, in_axes=(None, 0)))
    outcome = run(Problem(one, call_cost, is_atom), jnp.asarray(POSITIONS[every], dtype=float))
    np.testing.assert_allclose(found.error.ravel(), outcome.error, atol=1e-13)
    np.testing.assert_allclose(found.cost(call_cost).ravel(), outcome.cost, rtol=1e-12)


@pytest.mark.slow
def test_the_best_on_a_lattice_is_that_of_all_combinations(small_posterior) -> None:
    """On average over draws, and of every draw with its own costs."""
    chain = discretise(small_posterior, None, 6, 20)
    tables, prices = chain.tables(), jnp.asarray([1e-4, 1e-3, 1e-2])
    positions = jnp.arange(0, 21, 4)
    found = bayes_on_lattice(chain.problem(), prices, positions, 2)
    every = jnp.asarray(list(itertools.product(np.asarray(positions), repeat=2)), dtype=float)
    for p, price in enumerate(prices):
        loss = jax.vmap(
            lambda at, price=price: mean_loss(
                Problem(tables, jnp.mean(chain.call_cost, 0), chain.is_atom), at, price
            )
        )(every)
        np.testing.assert_array_equal(found[p], every[jnp.argmin(loss)])
        run = jax.vmap(forward, in_axes=(chain.problem().draw_axes(), None))
        each = np.asarray(own_on_lattice(chain.problem(), price, positions, 2))
        for at, own in enumerate(each):
            outcome = jax.vmap(lambda x, run=run: run(Problem(tables, chain.call_cost, chain.is_atom), x))(
                every
            )
            best = jnp.argmin((outcome.cost + price * outcome.error)[:, at])
            np.testing.assert_array_equal(own, every[best])


@pytest.mark.slow
def test_no_combination_on_the_grid_beats_the_sweep(small_posterior) -> None:
    """Of three models every pair of positions is tried."""
    prices = np.geomspace(1e-4, 1e-1, 5)
    chain = discretise(small_posterior, None, 8, 32)
    tables, call_cost = chain.tables(), jnp.mean(chain.call_cost, axis=0)
    ends = search_prices(chain.problem(short=True), prices, 2, 32)
    every = jnp.asarray(list(itertools.product(range(33), repeat=2)), dtype=float)
    for i, price in enumerate(prices):
        on_grid = jnp.asarray(ends.at.defer[[i]], dtype=float)
        tried = jnp.concatenate([on_grid, every])
        losses = mean_losses(Problem(tables, call_cost, chain.is_atom), tried, jnp.asarray(price), None)
        assert losses[0] <= jnp.min(losses[1:]) * (1 + 1e-5)


@pytest.mark.slow
def test_readable_thresholds_lose_a_thousandth_at_most(small_posterior) -> None:
    """They stand between the same two confidences, which of 120 queries are far apart."""
    prices = np.geomspace(1e-4, 1e-1, 5)
    chain = discretise(small_posterior, None, 8, 32)
    ends = search_prices(chain.problem(short=True), prices, 2, 32).at.defer
    kept = chain.positions(sweep_chain(chain, prices).cuts).defer
    for price, end, own in zip(prices, ends, kept, strict=True):
        outcome = run_policies(chain, Positions(np.stack([end, own])))
        loss = np.mean(outcome.cost + price * outcome.error, axis=1)
        assert loss[1] <= loss[0] * (1 + 1e-3)


@pytest.mark.slow
def test_no_random_start_beats_the_sweep_of_five_models() -> None:
    """Here the lattice of ten positions leads astray at some prices, by up to 0.12 % of the loss."""
    _, grid, tables = lay(5, seed=4)
    call_cost, is_atom = jnp.asarray(COST[5]), jnp.asarray(grid.is_atom)
    prices = np.geomspace(5, 5000, 21)

    def short(field: jax.Array) -> jax.Array:
        return field.astype(jnp.float32) if jnp.issubdtype(field.dtype, jnp.floating) else field

    problem = jax.tree.map(short, Problem(tables, call_cost[None], is_atom[:4]))
    losses = jax.jit(jax.vmap(mean_loss, in_axes=(None, 0, 0)))

    def searched(prices: np.ndarray) -> np.ndarray:
        at = jnp.asarray(search_prices(problem, prices, 4, 64).beside.defer, dtype=float)
        return np.asarray(losses(Problem(tables, call_cost, is_atom), at, jnp.asarray(prices)))

    own = searched(prices)
    starts = np.random.default_rng(0).integers(0, 65, (60, 4)).astype(float)
    search = jax.jit(optimise)
    for loss, price in zip(own, prices, strict=True):
        best = search(
            Problem(tables, call_cost, is_atom), jnp.asarray(price), Positions(jnp.asarray(starts))
        ).loss
        assert loss <= best * (1 + 2e-4)
    at = 12  # a single price is searched as well as one of many
    np.testing.assert_allclose(searched(prices[[at]])[0], own[at], rtol=2e-4)


@pytest.mark.parametrize("num_thresholds", [1, 2, 3, 4])
def test_the_first_of_level_combinations_is_the_best(num_thresholds: int) -> None:
    """Two combinations, at random places, lose nothing."""
    rng = np.random.default_rng(num_thresholds)
    shape = (5,) * num_thresholds
    error, paid = rng.integers(1, 3, (2, *shape)).astype(float)
    for flat in rng.choice(np.arange(1, error.size), 2, replace=False):
        error.flat[flat] = paid.flat[flat] = 0.0
    lattice = Lattice(jnp.asarray(error), jnp.asarray(paid), (jnp.asarray(0.0),))
    prices = np.array([0.5, 1.0, 2.0])
    found = jax.jit(lattice.best)(jnp.zeros(1), jnp.asarray(prices))
    for price, at in zip(prices, np.asarray(found), strict=True):
        assert tuple(at) == np.unravel_index(np.argmin(paid + price * error), shape)


def test_positions_of_a_lattice() -> None:
    np.testing.assert_array_equal(lattice_positions(1, 64), np.arange(65))
    for thresholds in (2, 3, 4, 7):
        positions = lattice_positions(thresholds, 64)
        assert len(positions) ** thresholds <= max(MAX_POLICIES, 2**thresholds)
        assert (positions[0], positions[-1]) == (0, 64)
        assert np.diff(np.diff(positions)).max() <= 1
