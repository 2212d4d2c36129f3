"""Labels of one query go together: the bridge distribution, against mpmath, scipy and simulation."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.special as sp
from jax.test_util import check_grads

from cascade_bayes.model.difficulty import (
    NUM_NODES_WITH_GAPS,
    bridge_quantile,
    find_nodes,
    given_difficulty,
    log_labels,
    sample_difficulty,
)

Array = Any
ETA = np.array([[0.4, -1.2, 3.0, -0.3, 5.0], [1.1, 0.3, 2.0, 0.8, -4.0], [2.0, 0.9, -1.0, 1.5, 0.0]])
RIGHT = np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 1], [0, 1, 1, 1, 1]], bool)
KNOWN = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], bool)


def density(u: Any, phi: float) -> Any:
    """Wang & Louis (2003), equation 3."""
    return mp.sin(phi * mp.pi) / (2 * mp.pi * (mp.cosh(phi * u) + mp.cos(phi * mp.pi)))


def plain_log_labels(q: int, rho: float) -> float:
    """One query's labels, the difficulty integrated out by mpmath."""
    phi = np.sqrt(1 - rho)

    def given(u: Any) -> Any:
        found = density(u, phi)
        for i in np.flatnonzero(KNOWN[:, q]):
            sign = 1 if RIGHT[i, q] else -1
            found /= 1 + mp.exp(-sign * (ETA[i, q] / phi + u))
        return found

    with mp.workdps(20):
        return float(mp.log(mp.quad(given, [-mp.inf, -20, -5, -1, 0, 1, 5, 20, mp.inf])))


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.8])
def test_labels_of_a_query_against_mpmath(rho: float) -> None:
    got = log_labels(*map(jnp.asarray, (ETA, RIGHT, KNOWN, rho)))
    np.testing.assert_allclose(got, [plain_log_labels(q, rho) for q in range(5)], atol=1e-3)
    assert float(got[4]) == pytest.approx(0.0, abs=1e-12)  # no label is known


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7, 0.95])
def test_a_model_alone_keeps_its_rate(rho: float) -> None:
    one = np.zeros((3, 5), bool)
    one[1] = True
    got = log_labels(*map(jnp.asarray, (ETA, RIGHT, one, rho)))
    np.testing.assert_allclose(np.exp(got), sp.expit(np.where(RIGHT[1], ETA[1], -ETA[1])), atol=2e-4)


def test_without_correlation_labels_are_independent() -> None:
    got = log_labels(*map(jnp.asarray, (ETA, RIGHT, KNOWN, 0.0)))
    wanted = np.where(KNOWN, sp.log_expit(np.where(RIGHT, ETA, -ETA)), 0.0).sum(axis=0)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
def test_quantiles_and_variance_of_the_bridge_distribution(rho: float) -> None:
    phi = np.sqrt(1 - rho)
    for v in (1e-6, 0.2, 0.5, 0.9):
        u = float(bridge_quantile(jnp.asarray(v), jnp.asarray(1 - v), jnp.asarray(rho)))
        below = scipy.integrate.quad(lambda x: float(density(x, phi)), -60 / phi, u, limit=200)[0]
        assert below == pytest.approx(v, rel=1e-6)
    drawn = np.asarray(sample_difficulty(jax.random.key(0), jnp.asarray(rho), 200_000))
    variance = np.pi**2 / 3 * (1 / phi**2 - 1)
    assert drawn.var() == pytest.approx(variance, rel=0.05)
    # So that rho is the share of the difficulty in the variance of a label's logistic variable.
    assert variance / (variance + np.pi**2 / 3) == pytest.approx(rho)


def test_nodes_weigh_one() -> None:
    for count in (NUM_NODES_WITH_GAPS, 24):
        nodes = find_nodes(jnp.asarray(0.5), count)
        np.testing.assert_allclose(nodes.weight.sum(), 1.0, rtol=1e-12)
        np.testing.assert_allclose(nodes.difficulty, -nodes.difficulty[::-1], atol=1e-12)


def test_simulated_pairs_of_labels_have_the_probability_of_the_integral() -> None:
    rho, num = jnp.asarray(0.6), 400_000
    eta = jnp.array([0.5, 1.2])
    u = sample_difficulty(jax.random.key(1), rho, num)
    rate = jax.nn.sigmoid(given_difficulty(eta[:, None], u, rho))
    right = np.asarray(jax.random.bernoulli(jax.random.key(2), rate))
    for pattern in ((True, True), (True, False), (False, False)):
        labels = jnp.asarray(pattern)[:, None]
        wanted = float(jnp.exp(log_labels(eta[:, None], labels, jnp.ones_like(labels), rho))[0])
        share = np.mean((right[0] == pattern[0]) & (right[1] == pattern[1]))
        assert share == pytest.approx(wanted, abs=4 * np.sqrt(0.25 / num))


def test_gradients() -> None:
    def total(eta: Array, rho: Array) -> Array:
        return jnp.sum(log_labels(eta, jnp.asarray(RIGHT), jnp.asarray(KNOWN), rho))

    check_grads(total, (jnp.asarray(ETA), jnp.asarray(0.4)), order=1, modes=["rev", "fwd"], rtol=1e-5)


def test_extreme_log_odds_stay_finite_in_32_bits() -> None:
    eta = jnp.full((8, 2), 300.0, dtype=jnp.float32) * jnp.array([1.0, -1.0], dtype=jnp.float32)
    known = jnp.ones(eta.shape, bool)
    for rho in (1e-4, 0.5, 0.98):
        total = jax.value_and_grad(lambda x, r=rho: jnp.sum(log_labels(x, known, known, jnp.float32(r))))
        value, slope = total(eta)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()
