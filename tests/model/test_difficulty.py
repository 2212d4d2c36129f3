"""Labels of one query go together: the bridge distribution, against mpmath, scipy and simulation."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special as sp
from cascades import cascade
from jax.test_util import check_grads

from cascade_bayes.copulas import get_copulas
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import (
    MAX_CORR,
    LabelCorr,
    bridge_quantile,
    find_nodes,
    given_difficulty,
    log_labels,
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
Z = np.array(
    [
        [0.1, -4.0, 1.4, -0.6, 0.0],
        [2.6, 0.4, np.inf, 1.0, 0.0],
        [-1.2, 5.0, 0.2, -0.4, 0.0],
        [1.7, 0.8, -2.2, 0.0, 0.0],
        [0.3, 2.2, -0.7, 9.0, 0.0],
    ]
)
RIGHT = np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 1], [0, 1, 1, 1, 1], [1, 0, 1, 1, 1], [0, 1, 1, 0, 0]], bool)
KNOWN = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 0, 0]], bool)


def label_corr(middle: float, slope: float = 0.0, dtype: Any = float) -> LabelCorr:
    return LabelCorr(jnp.asarray(middle, dtype), jnp.asarray(slope, dtype))


def density(u: Any, phi: float) -> Any:
    """Wang & Louis (2003), equation 3."""
    return mp.sin(phi * mp.pi) / (2 * mp.pi * (mp.cosh(phi * u) + mp.cos(phi * mp.pi)))


def plain_log_labels(eta: Array, right: Array, known: Array, q: int, rho: float) -> float:
    """One query's labels of one correlation, the difficulty integrated out by mpmath."""
    phi = np.sqrt(1 - rho)

    def given(u: Any) -> Any:
        found = density(u, phi)
        for i in np.flatnonzero(known[:, q]):
            sign = 1 if right[i, q] else -1
            found /= 1 + mp.exp(-sign * (eta[i, q] / phi + u))
        return found

    with mp.workdps(20):
        return float(mp.log(mp.quad(given, [-mp.inf, -20, -5, -1, 0, 1, 5, 20, mp.inf])))


def log_labels_by_shares(q: int, middle: float, slope: float) -> float:
    """One query's labels, each of its own correlation: integrated over the share of harder queries."""

    def given(v: Any) -> Any:
        found = mp.mpf(1)
        for i in np.flatnonzero(KNOWN[:, q]):
            level = int(np.clip(np.round(Z[i, q]), -3, 3))
            rho = min(1 / (1 + mp.exp(-(mp.log(middle / (1 - middle)) + slope * level))), MAX_CORR)
            phi = mp.sqrt(1 - rho)
            u = mp.log(mp.sin(phi * mp.pi * v) / mp.sin(phi * mp.pi * (1 - v))) / phi
            sign = 1 if RIGHT[i, q] else -1
            found /= 1 + mp.exp(-sign * (ETA[i, q] / phi + u))
        return found

    with mp.workdps(20):
        return float(mp.log(mp.quad(given, [0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1])))


@pytest.mark.parametrize(("rho", "bound"), [(0.1, 1e-3), (0.5, 1e-3), (0.75, 1e-3), (0.9, 0.03)])
def test_labels_of_a_query_against_mpmath(rho: float, bound: float) -> None:
    got = log_labels(*map(jnp.asarray, (ETA, Z, RIGHT, KNOWN)), label_corr(rho))
    np.testing.assert_allclose(
        got, [plain_log_labels(ETA, RIGHT, KNOWN, q, rho) for q in range(5)], atol=bound
    )
    assert float(got[4]) == pytest.approx(0.0, abs=1e-12)  # no label is known


@pytest.mark.parametrize(("rho", "slope", "bound"), [(0.4, 0.3, 1e-3), (0.5, -0.4, 2e-3), (0.5, 1.0, 0.06)])
def test_labels_each_of_its_own_correlation_against_mpmath(rho: float, slope: float, bound: float) -> None:
    got = log_labels(*map(jnp.asarray, (ETA, Z, RIGHT, KNOWN)), label_corr(rho, slope))
    wanted = [log_labels_by_shares(q, rho, slope) for q in range(5)]
    np.testing.assert_allclose(got, wanted, atol=bound)
    one = log_labels(*map(jnp.asarray, (ETA, Z, RIGHT, KNOWN)), label_corr(rho))
    assert np.abs(one - got)[:4].max() > 5 * bound


def test_the_correlation_by_confidence() -> None:
    corr = label_corr(0.5, 0.7)
    level = np.array([-3, -3, -1, 0, 0, 2, 3, 3])
    got = corr.at(jnp.asarray([-np.inf, -2.6, -1.4, -0.4, 0.4, 2.4, 2.6, np.inf]))
    np.testing.assert_allclose(got, np.minimum(sp.expit(0.7 * level), MAX_CORR), rtol=1e-12)
    assert float(label_corr(0.8, 1.0).at(jnp.asarray(3.0))) == MAX_CORR


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.75])
def test_a_model_alone_keeps_its_rate(rho: float) -> None:
    one = np.zeros(ETA.shape, bool)
    one[1] = True
    got = log_labels(*map(jnp.asarray, (ETA, Z, RIGHT, one)), label_corr(rho, 0.1))
    np.testing.assert_allclose(got, sp.log_expit(np.where(RIGHT[1], ETA[1], -ETA[1])), atol=1e-3)


def test_without_correlation_labels_are_independent() -> None:
    got = log_labels(*map(jnp.asarray, (ETA, Z, RIGHT, KNOWN)), label_corr(0.0, 0.5))
    wanted = np.where(KNOWN, sp.log_expit(np.where(RIGHT, ETA, -ETA)), 0.0).sum(axis=0)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
def test_quantiles_and_variance_of_the_bridge_distribution(rho: float) -> None:
    phi = np.sqrt(1 - rho)
    for v in (1e-6, 0.2, 0.5, 0.9):
        u = float(bridge_quantile(jnp.asarray(v), jnp.asarray(1 - v), jnp.asarray(rho)))
        below = scipy.integrate.quad(lambda x: float(density(x, phi)), -60 / phi, u, limit=200)[0]
        assert below == pytest.approx(v, rel=1e-6)
    share = jnp.asarray(np.random.default_rng(0).uniform(size=200_000))
    drawn = np.asarray(bridge_quantile(share, 1 - share, jnp.asarray(rho)))
    variance = np.pi**2 / 3 * (1 / phi**2 - 1)
    assert drawn.var() == pytest.approx(variance, rel=0.05)
    # So that rho is the share of the difficulty in the variance of a label's logistic variable.
    assert variance / (variance + np.pi**2 / 3) == pytest.approx(rho)


def test_nodes_have_the_moments_of_the_bridge_distribution() -> None:
    nodes = find_nodes()
    np.testing.assert_allclose(nodes.weight.sum(), 1.0, rtol=1e-12)
    difficulty = np.asarray(bridge_quantile(jnp.asarray(nodes.share), jnp.asarray(nodes.rest), 0.5))
    np.testing.assert_allclose(nodes.weight @ difficulty**2, np.pi**2 / 3, rtol=1e-3)


@pytest.mark.slow
def test_simulated_tables_have_labels_with_the_probability_of_the_integral() -> None:
    params = cascade(3, seed=1)[0]._replace(label_corr=label_corr(0.5, 0.6))
    copulas, num = get_copulas("gumbel", 2), 100_000
    z, right = jax.jit(simulate_scores, static_argnums=(2, 3))(jax.random.key(0), params, copulas, num)
    logit, known = correctness_logit(z, params), jnp.ones(right.shape, bool)
    apart = np.asarray(jax.nn.sigmoid(logit))
    sure = np.asarray(z[:2].min(axis=0) > 0.5)
    for pattern in itertools.product((True, False), repeat=3):
        labels = jnp.broadcast_to(jnp.asarray(pattern)[:, None], right.shape)
        wanted = np.exp(log_labels(logit, z, labels, known, params.label_corr))
        found = np.asarray(jnp.all(right == labels, axis=0))
        for some in (np.ones(num, bool), sure):
            mean = wanted[some].mean()
            assert found[some].mean() == pytest.approx(mean, abs=4.5 * np.sqrt(mean / some.sum()))
        if len(set(pattern)) == 1:
            assert wanted.mean() > np.mean(np.prod(np.where(labels, apart, 1 - apart), axis=0)) + 0.02


def test_sure_failures_that_are_shared_bias_less_how_often_models_are_right() -> None:
    """Wrong answer keys: one query in eight no model gets right, however sure; else labels are independent.

    One correlation for all confidences explains them by difficulty, and takes models for better than their
    labels say; a correlation that grows with the confidence, half as much.
    """
    rng = np.random.default_rng(0)
    num = 3000
    z = rng.logistic(size=(4, num))
    logit = np.array([0.5, 0.8, 1.4, 2.0])[:, None] + 0.9 * z
    right = (rng.uniform(size=z.shape) < sp.expit(logit)) & (rng.uniform(size=num) > 0.125)
    z, labels, known = jnp.asarray(z), jnp.asarray(right), jnp.ones(z.shape, bool)

    def bias(has_slope: bool) -> float:
        def curves(x: Array) -> Array:
            return x[:4, None] + x[4:8, None] * jnp.clip(z, -6, 6)

        def objective(x: Array) -> Array:
            corr = LabelCorr(jax.nn.sigmoid(x[8]), x[9] * has_slope)
            return -jnp.sum(log_labels(curves(x), z, labels, known, corr))

        value = jax.jit(jax.value_and_grad(objective))
        start = np.repeat([1.0, 0.5, 0.0], [4, 4, 2])
        found = scipy.optimize.minimize(lambda x: [*map(np.asarray, value(x))], start, jac=True).x
        return float(np.mean(np.asarray(jax.nn.sigmoid(curves(found)).mean(axis=1)) - right.mean(axis=1)))

    assert bias(False) > 0.015
    assert abs(bias(True)) < 0.65 * bias(False)


@pytest.mark.slow
def test_gradients() -> None:
    def total(eta: Array, rho: Array, slope: Array) -> Array:
        return jnp.sum(log_labels(eta, *map(jnp.asarray, (Z, RIGHT, KNOWN)), LabelCorr(rho, slope)))

    at = jnp.asarray(ETA), jnp.asarray(0.4), jnp.asarray(0.3)
    check_grads(total, at, order=1, modes=["rev", "fwd"], rtol=1e-5)


@pytest.mark.slow
def test_extreme_log_odds_stay_finite_in_32_bits() -> None:
    eta = jnp.full((8, 2), 300.0, dtype=jnp.float32) * jnp.array([1.0, -1.0], dtype=jnp.float32)
    known, z = jnp.ones(eta.shape, bool), jnp.full(eta.shape, 2.0, dtype=jnp.float32)
    for rho, slope in ((1e-4, 0.0), (0.5, 0.5), (0.94, 0.0), (0.98, 1.0)):
        total = jax.value_and_grad(lambda x, r: jnp.sum(log_labels(x, z, known, known, r)), argnums=(0, 1))
        value, slopes = total(eta, label_corr(rho, slope, jnp.float32))
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_contradictions_of_sure_models(dtype: Any) -> None:
    eta = np.array([[8.0], [8.0]])
    labels, known = np.array([[True], [False]]), np.ones((2, 1), bool)
    arguments = jnp.asarray(eta, dtype), jnp.zeros((2, 1), dtype), jnp.asarray(labels), jnp.asarray(known)
    got = log_labels(*arguments, label_corr(0.5, dtype=dtype))
    assert float(got[0]) == pytest.approx(plain_log_labels(eta, labels, known, 0, 0.5), abs=0.02)


def test_log_odds_of_queries_of_known_difficulty() -> None:
    v, rho = jnp.asarray(0.3), jnp.asarray(0.6)
    got = given_difficulty(jnp.asarray(1.2), v, 1 - v, rho)
    assert float(got) == pytest.approx(1.2 / np.sqrt(0.4) + float(bridge_quantile(v, 1 - v, rho)))
