"""The best policy of any shape, against all policies there are, closed forms, and thresholds."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascades import COST, discrete_chain, first, lay, of_atoms

from cascade_bayes import certify, error_cost_frontier
from cascade_bayes.decision.certificate import Certificate, best_policy
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.lattice import all_policies
from cascade_bayes.errors import InputError


def random_tables(rng: np.random.Generator, num_models: int, num_cells: int) -> ChainTables:
    """A chain of cells without any order: whether a model is right depends on both cells."""
    steps = num_models - 1
    transition = rng.dirichlet(np.full(num_cells, 0.7), (steps, num_cells))
    return discrete_chain(
        mass=jnp.asarray(rng.dirichlet(np.ones(num_cells))),
        correct=jnp.asarray(rng.uniform(size=num_cells)),
        transition=jnp.asarray(transition),
        right=jnp.asarray(transition * rng.uniform(size=transition.shape)),
        relative_cost=jnp.asarray(rng.uniform(0.5, 2.0, (num_models - 1, num_cells))),
    )


def loss_by_paths(tables: ChainTables, cost: np.ndarray, price: float, defers: list[np.ndarray]) -> float:
    """Of a policy that says, by all cells so far, whether to go on; summed over all paths of cells."""
    num_models, num_cells = len(cost), len(tables.mass)
    tables = jax.tree.map(np.asarray, tables)  # read one by one below
    total = 0.0
    for path in itertools.product(range(num_cells), repeat=num_models):
        weight, paid = float(tables.mass[path[0]]), cost[0]
        right = float(tables.correct[path[0]])
        for i in range(1, num_models):
            weight *= float(tables.transition[i - 1, path[i - 1], path[i]])
        for i in range(num_models - 1):
            if not defers[i][path[: i + 1]]:
                break
            paid += cost[i + 1] * float(tables.relative_cost[i, path[i]])
            here = i, path[i], path[i + 1]
            right = float(tables.right[here] / tables.transition[here])
        total += weight * (paid + price * (1 - right))
    return total


def test_is_the_best_of_all_policies() -> None:
    """Of two cells and three models there are 4 times 16 policies that decide by everything seen."""
    cost = np.array([1.0, 2.0, 4.0])
    for seed, price in itertools.product(range(4), (6.0, 12.0, 40.0)):
        tables = random_tables(np.random.default_rng(seed), 3, 2)
        every = [
            loss_by_paths(tables, cost, price, [np.reshape(one, 2), np.reshape(two, (2, 2))])
            for one in itertools.product((False, True), repeat=2)
            for two in itertools.product((False, True), repeat=4)
        ]
        found = best_policy(of_atoms(tables, jnp.asarray(cost)), jnp.asarray(price))
        assert float(found.value) == pytest.approx(min(every), abs=1e-12)


@pytest.mark.slow
def test_four_models_decide_by_two_confidences_alone() -> None:
    """The first cell of three says nothing that the last two do not: 2 times 16 times 256 policies."""
    cost, price = np.array([1.0, 1.5, 2.0, 3.0]), 15.0
    tables = random_tables(np.random.default_rng(5), 4, 2)
    # For each choice before, the best of the last: its cases are disjoint, so each is settled by itself.
    best = np.inf
    for one in itertools.product((False, True), repeat=2):
        for two in itertools.product((False, True), repeat=4):
            defers = [np.reshape(one, 2), np.reshape(two, (2, 2)), np.zeros((2, 2, 2), bool)]
            least = loss_by_paths(tables, cost, price, defers)
            for case in itertools.product((0, 1), repeat=3):
                tried = [defers[0], defers[1], np.zeros((2, 2, 2), bool)]
                tried[2][case] = True
                gain = loss_by_paths(tables, cost, price, tried) - loss_by_paths(tables, cost, price, defers)
                least += min(gain, 0.0)
            best = min(best, least)
    found = best_policy(of_atoms(tables, jnp.asarray(cost)), jnp.asarray(price))
    assert float(found.value) == pytest.approx(best, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("k", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_no_thresholds_are_better(k: int) -> None:
    tables = lay(k, num_cells=16)[2]
    one, cost = first(tables), jnp.asarray(COST[k])
    on_lattice = all_policies(one, jnp.arange(17))
    for price in (3.0, 10.0, 30.0, 100.0):
        best = float(best_policy(of_atoms(one, cost), jnp.asarray(price)).value)
        thresholds = float(jnp.min(on_lattice.cost(cost) + price * on_lattice.error))
        assert best <= thresholds + 1e-12
        # And it is no loose bound: here thresholds are nearly the best there is.
        assert best >= 0.93 * thresholds


def test_where_certainty_is_deceptive_no_threshold_will_do() -> None:
    """Three cells, the top one wrong: it goes on, and so does the lowest; only the middle stops.

    Of the queries 0.2, 0.5 and 0.3 lie in them, right with 0.1, 0.9 and 0.2; the second model is always
    right. A threshold above the top cell defers all, at the price of the middle's calls.
    """
    mass, correct = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.9, 0.2])
    uniform = np.full((1, 3, 3), 1 / 3)
    tables = discrete_chain(
        mass=jnp.asarray(mass),
        correct=jnp.asarray(correct),
        transition=jnp.asarray(uniform),
        right=jnp.asarray(uniform),
        relative_cost=jnp.ones((1, 3)),
    )
    cost, price, is_atom = jnp.array([1.0, 2.0]), jnp.array(5.0), jnp.ones((2, 3), bool)
    found = best_policy(of_atoms(tables, cost), price)
    assert float(found.value) == pytest.approx(1 + 0.5 * 2 + 0.5 * 0.1 * 5)
    # At the best threshold, below the middle or above all, the top or the middle is treated otherwise.
    assert float(found.elsewhere[0]) == pytest.approx(0.3)
    losses = [
        float(outcome.cost + price * outcome.error)
        for outcome in (forward(Problem(tables, cost, is_atom), jnp.array([float(r)])) for r in range(4))
    ]
    assert min(losses) == pytest.approx(min(1 + 0.2 * 2 + 5 * (0.05 + 0.24), 1 + 2.0))
    assert min(losses) > float(found.value)


def test_who_does_not_know_the_draw_can_lose_by_shape_where_no_draw_does() -> None:
    """Deferring gains (1, 5, -5) and (-3, -1, -1) in three cells: thresholds are best on either draw.

    On average it gains (-1, 2, -3): a rule that defers the middle alone gains 2, the best threshold 1.
    """
    loss, gains = 10.0, np.array([[1.0, 5.0, -5.0], [-3.0, -1.0, -1.0]])
    below = np.concatenate([np.zeros((2, 1)), np.cumsum(gains, axis=1)], axis=1)
    value = loss - np.maximum(gains, 0).sum(axis=1)
    draw_loss = loss - below.max(axis=1)
    bayes = int(below.mean(axis=0).argmax())
    found = Certificate(
        error_prices=np.ones(1),
        models=(("a", "b"),),
        value=value[None],
        draw_loss=draw_loss[None],
        loss=loss - below[None, :, bayes],
        elsewhere=(np.zeros(1),),
    )
    np.testing.assert_allclose(found.shape_gap, 0.0)
    could = np.maximum(gains.mean(axis=0), 0).sum() - below.mean(axis=0).max()
    assert could == pytest.approx(1.0)
    assert found.gap.mean() >= could
    said = 100 * found.gap.mean() / found.loss.mean()
    assert f"no policy of these models saves more than {said:.2g} %" in found.sentence()


@pytest.fixture(scope="module")
def certificate(small_posterior) -> Certificate:
    frontier = error_cost_frontier(
        small_posterior, models="all", error_prices=np.geomspace(3e-4, 3e-2, 4), num_draws=20
    )
    return certify(small_posterior, frontier, num_draws=20)


@pytest.mark.slow
def test_of_a_frontier(certificate, small_posterior) -> None:
    assert certificate.value.shape == certificate.draw_loss.shape == certificate.loss.shape == (4, 20)
    assert np.all(certificate.value <= certificate.draw_loss * (1 + 1e-12))
    assert np.any(certificate.shape_gap > 1e-6)
    # Bayes thresholds may split a cell, which gains a little on those that take cells whole.
    assert np.all(certificate.draw_loss <= certificate.loss * (1 + 2e-3))
    assert np.all(certificate.gap > -2e-3 * certificate.loss)
    frame = certificate.to_frame()
    for i, row in frame.iterrows():
        assert list(row["models"]) == [name for name in small_posterior.models if name in row["models"]]
        np.testing.assert_allclose(
            [row["shape_gap_q05"], row["shape_gap_q95"]], np.quantile(certificate.shape_gap[i], [0.05, 0.95])
        )
        assert row["shape_gap"] == pytest.approx(certificate.shape_gap[i].mean())
        assert row["gap"] == pytest.approx(certificate.gap[i].mean())
        assert all(0 <= share <= 1 for share in row["elsewhere"])
    assert "no policy of these models saves more than" in certificate.sentence()


@pytest.mark.slow
def test_of_any_models_and_of_one(small_posterior) -> None:
    envelope = error_cost_frontier(
        small_posterior, models="any", error_prices=np.geomspace(1e-5, 3e-2, 4), num_draws=20
    )
    found = certify(small_posterior, envelope, num_draws=20)
    assert found.models == tuple(envelope.policy(i).models for i in range(4))
    sizes = [len(models) for models in found.models]
    assert min(sizes) == 1 < max(sizes)
    for i, size in enumerate(sizes):
        assert len(found.elsewhere[i]) == size - 1
        alone = certify(small_posterior, envelope.policy(i), num_draws=20)
        np.testing.assert_allclose(alone.value[0], found.value[i], rtol=1e-9)
    at = sizes.index(1)
    np.testing.assert_array_equal(found.shape_gap[at], 0.0)
    policy = envelope.policy(at)
    with pytest.raises(InputError, match="nobody"):
        certify(small_posterior, dataclasses.replace(policy, models=("nobody",)))
