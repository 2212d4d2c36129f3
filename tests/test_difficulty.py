"""Labels of one query go together: the bridge distribution, against mpmath, scipy and simulation."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.special as sp
from cascades import cascade
from jax.test_util import check_grads

from cascade_bayes.copulas import get_copulas
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import (
    bridge_quantile,
    find_nodes,
    log_labels,
    sample_difficulty,
)
from cascade_bayes.model.simulate import simulate_scores

Array = Any
ETA = np.array(
    [
        [0.4, -1.2, 3.0, -0.3, 5.0],
        [1.1, 0.3, 2.0, 0.8, -4.0],
        [2.0, 0.9, -1.0, 1.5, 0.0],
        [3.5, 1.4, 0.2, 1.0, 1.0],
        [4.0, 1.8, 0.5, 1.0, 1.0],
    ]
)
RIGHT = np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 1], [0, 1, 1, 1, 1], [1, 0, 1, 1, 1], [0, 1, 1, 0, 0]], bool)
KNOWN = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 0, 0]], bool)


def density(u: Any, phi: float) -> Any:
    """Wang & Louis (2003), equation 3."""
    return mp.sin(phi * mp.pi) / (2 * mp.pi * (mp.cosh(phi * u) + mp.cos(phi * mp.pi)))


def plain_log_labels(eta: Array, right: Array, known: Array, q: int, rho: float) -> float:
    """One query's labels, the difficulty integrated out by mpmath."""
    phi = np.sqrt(1 - rho)

    def given(u: Any) -> Any:
        found = density(u, phi)
        for i in np.flatnonzero(known[:, q]):
            sign = 1 if right[i, q] else -1
            found /= 1 + mp.exp(-sign * (eta[i, q] / phi + u))
        return found

    with mp.workdps(20):
        return float(mp.log(mp.quad(given, [-mp.inf, -20, -5, -1, 0, 1, 5, 20, mp.inf])))


@pytest.mark.parametrize(("rho", "bound"), [(0.1, 1e-3), (0.5, 1e-3), (0.75, 1e-3), (0.9, 0.03)])
def test_labels_of_a_query_against_mpmath(rho: float, bound: float) -> None:
    got = log_labels(*map(jnp.asarray, (ETA, RIGHT, KNOWN, rho)))
    np.testing.assert_allclose(
        got, [plain_log_labels(ETA, RIGHT, KNOWN, q, rho) for q in range(5)], atol=bound
    )
    assert float(got[4]) == pytest.approx(0.0, abs=1e-12)  # no label is known


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.75])
def test_a_model_alone_keeps_its_rate(rho: float) -> None:
    one = np.zeros(ETA.shape, bool)
    one[1] = True
    got = log_labels(*map(jnp.asarray, (ETA, RIGHT, one, rho)))
    np.testing.assert_allclose(got, sp.log_expit(np.where(RIGHT[1], ETA[1], -ETA[1])), atol=5e-4)


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


def test_nodes_have_the_moments_of_the_bridge_distribution() -> None:
    nodes = find_nodes(jnp.asarray(0.5))
    np.testing.assert_allclose(nodes.weight.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(nodes.weight @ nodes.difficulty**2, np.pi**2 / 3, rtol=1e-3)


def test_simulated_tables_have_labels_with_the_probability_of_the_integral() -> None:
    params = cascade(3, seed=1)[0]._replace(label_corr=jnp.asarray(0.6))
    copulas, num = get_copulas("gumbel", 2), 100_000
    z, right = jax.jit(simulate_scores, static_argnums=(2, 3))(jax.random.key(0), params, copulas, num)
    logit, known = correctness_logit(z, params), jnp.ones(right.shape, bool)
    apart = np.asarray(jax.nn.sigmoid(logit))
    for pattern in itertools.product((True, False), repeat=3):
        labels = jnp.broadcast_to(jnp.asarray(pattern)[:, None], right.shape)
        wanted = float(jnp.mean(jnp.exp(log_labels(logit, labels, known, params.label_corr))))
        share = float(jnp.mean(jnp.all(right == labels, axis=0)))
        assert share == pytest.approx(wanted, abs=4 * np.sqrt(wanted / num))
        if len(set(pattern)) == 1:
            assert wanted > np.mean(np.prod(np.where(labels, apart, 1 - apart), axis=0)) + 0.02


def test_gradients() -> None:
    def total(eta: Array, rho: Array) -> Array:
        return jnp.sum(log_labels(eta, jnp.asarray(RIGHT), jnp.asarray(KNOWN), rho))

    check_grads(total, (jnp.asarray(ETA), jnp.asarray(0.4)), order=1, modes=["rev", "fwd"], rtol=1e-5)


def test_extreme_log_odds_stay_finite_in_32_bits() -> None:
    eta = jnp.full((8, 2), 300.0, dtype=jnp.float32) * jnp.array([1.0, -1.0], dtype=jnp.float32)
    known = jnp.ones(eta.shape, bool)
    for rho in (1e-4, 0.5, 0.98):
        total = jax.value_and_grad(lambda x, r: jnp.sum(log_labels(x, known, known, r)), argnums=(0, 1))
        value, slopes = total(eta, jnp.float32(rho))
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_contradictions_of_sure_models(dtype: Any) -> None:
    eta = np.array([[8.0], [8.0]])
    labels, known = np.array([[True], [False]]), np.ones((2, 1), bool)
    got = log_labels(
        jnp.asarray(eta, dtype), jnp.asarray(labels), jnp.asarray(known), jnp.asarray(0.5, dtype)
    )
    assert float(got[0]) == pytest.approx(plain_log_labels(eta, labels, known, 0, 0.5), abs=0.02)
