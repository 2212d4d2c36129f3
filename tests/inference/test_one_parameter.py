"""Draws from curves of one parameter, against quadrature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cascade_bayes.copulas import get_copula
from cascade_bayes.inference.samplers.one_parameter import NUM_SCOUTS, draw_from_curves
from cascade_bayes.special import unit_point

Array = Any
LEVELS = np.linspace(0.001, 0.999, 301)


@pytest.mark.parametrize(
    ("name", "num_queries", "tau"),
    [
        ("gaussian", 6, 0.9),
        ("gaussian", 300, 0.3),
        ("gumbel", 30, 0.8),
        ("gumbel", 400, 0.02),
        ("frank", 30, 0.8),
    ],
)
def test_quantiles_of_tau(name: str, num_queries: int, tau: float) -> None:
    """Few queries leave a posterior that reaches to where the likelihood falls without bound."""
    rng = np.random.default_rng(1)
    r = np.sin(0.5 * np.pi * tau)
    z = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], num_queries)
    u, v = (unit_point(jnp.asarray(scipy.stats.norm.cdf(x))) for x in z.T)
    family = get_copula(name)
    low = family.tau_range[0]

    def log_likelihood(_: Array, t: Array) -> Array:
        return jnp.sum(family.log_density(u, v, family.tau_to_theta(jnp.tanh(t))))

    def log_prior(t: Array) -> Array:
        """Of a Beta(1.5, 2) distribution of tau on its range."""
        share = (jnp.tanh(t) - low) / (1 - low)
        return 0.5 * jnp.log(share) + jnp.log1p(-share) - 2 * jnp.log(jnp.cosh(t))

    bounds = (5.0 * low, 5.0)
    draws = jnp.zeros(LEVELS.size)
    found = jax.jit(lambda x: draw_from_curves(x, log_likelihood, draws, log_prior, bounds, num_queries))
    t = np.asarray(found(jnp.asarray(LEVELS)))
    edges = np.linspace(*bounds, 20_001)
    grid = jnp.asarray(0.5 * (edges[1:] + edges[:-1]))
    exact = jax.lax.map(lambda t: log_likelihood(None, t), grid, batch_size=2000) + log_prior(grid)
    weight = np.exp(np.asarray(exact) - float(exact.max()))
    cdf = np.concatenate([[0], np.cumsum(weight)]) / weight.sum()
    np.testing.assert_allclose(np.interp(t, edges, cdf), LEVELS, atol=1e-3)


@pytest.mark.slow
def test_where_the_arithmetic_gives_up_there_is_nothing() -> None:
    def log_likelihood(_: Array, x: Array) -> Array:
        return jnp.where(x > 30, jnp.nan, -0.5 * (x - 2) ** 2)

    draws = jnp.zeros(LEVELS.size)
    found = draw_from_curves(jnp.asarray(LEVELS), log_likelihood, draws, jnp.zeros_like, (-50.0, 50.0), 1)
    np.testing.assert_allclose(found, 2 + scipy.stats.norm.ppf(LEVELS), atol=0.01)


def test_every_draw_has_its_own_curve_even_far_from_those_that_were_sought_out() -> None:
    """Normal curves, one of them 40 standard deviations away from the others."""
    num_draws = 103
    loc = np.zeros(num_draws)
    loc[50] = 40.0
    assert 50 not in np.linspace(0, num_draws - 1, NUM_SCOUTS).astype(int)
    loc[60:] = np.linspace(-1, 1, num_draws - 60)
    levels = np.random.default_rng(0).uniform(size=num_draws)

    def log_likelihood(loc: Array, x: Array) -> Array:
        return -0.5 * (x - loc) ** 2

    def draw(uniform: Array | None) -> Array:
        return np.asarray(
            draw_from_curves(uniform, log_likelihood, jnp.asarray(loc), jnp.zeros_like, (-200.0, 300.0), 1)
        )

    found = draw(jnp.asarray(levels))
    np.testing.assert_allclose(found, loc + scipy.stats.norm.ppf(levels), atol=0.02)
    np.testing.assert_allclose(draw(None), loc, atol=0.1)  # half a cell of a stretch of 100


def test_a_curve_that_says_nothing_leaves_the_prior() -> None:
    uniform = jnp.asarray(LEVELS)
    found = draw_from_curves(
        uniform,
        lambda _, x: 0.0 * x,
        uniform,
        lambda x: jax.scipy.stats.norm.logpdf(x, 0.3, 0.2),
        (-1.3, 1.9),
        1,
    )
    np.testing.assert_allclose(found, scipy.stats.norm(0.3, 0.2).ppf(LEVELS), atol=1e-3)
