"""The choice of copula families: scores against brute-force leave-one-out, families found again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_bayes.copulas import get_copula, get_copulas, log_copula_ratio, theta_from_tau
from cascade_bayes.distributions import BetaMixture, MarginParams, MarginPoint
from cascade_bayes.inference.copula_choice import _leave_one_out, _log_ratios, choose_copulas
from cascade_bayes.model.cascade import tau_prior
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.special import unit_point

CONTINUOUS = ("continuous", "continuous")

Array = Any


def continuous(u: Array) -> MarginPoint:
    point = unit_point(jnp.asarray(u))
    return MarginPoint(point, point, jnp.zeros(len(u), bool), jnp.zeros(len(u)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frank", "gumbel"])
def test_score_equals_refitting_without_each_query(name: str) -> None:
    rng = np.random.default_rng(3)
    u = rng.uniform(size=9)
    left, right = continuous(u), continuous(np.clip(u + rng.normal(scale=0.15, size=9), 0.02, 0.98))
    family, priors = get_copula(name), Priors()
    got = _leave_one_out(_log_ratios(family, CONTINUOUS), (left, right), family, priors, np.ones(9, bool))

    prior = tau_prior((family,), priors)
    low, high = family.tau_range
    grid = np.linspace(low, high, 4003)[1:-1]
    ratios = jax.jit(
        jax.vmap(lambda tau: log_copula_ratio(family, left, right, family.tau_to_theta(tau), CONTINUOUS))
    )(jnp.asarray(grid))
    table = np.asarray(ratios)
    log_prior = np.asarray(prior.log_prob(jnp.asarray(grid)[:, None]))
    for q in range(9):  # the posterior without query q, on a grid 60 times as fine
        rest = np.delete(table, q, axis=1).sum(axis=1) + log_prior
        weight = np.exp(rest - rest.max())
        wanted = np.log(np.sum(weight * np.exp(table[:, q])) / np.sum(weight))
        assert got[q] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_finds_the_families_that_made_the_table() -> None:
    names = ("clayton", "frank")
    truth = (0.5, -0.4)
    theta = [float(theta_from_tau(get_copula(n), t)) for n, t in zip(names, truth, strict=True)]
    nan, inf = np.nan, np.inf
    locs = np.array([[nan], [inf], [nan]])
    params = CascadeParams(
        margins=MarginParams(
            atom_locs=jnp.asarray(locs),
            atom_probs=jnp.array([[0.0], [0.2], [0.0]]),
            continuous=BetaMixture(
                mixing_probs=jnp.ones((3, 1)),
                concentration1=jnp.array([[1.5], [1.0], [2.0]]),
                concentration0=jnp.array([[1.0], [1.0], [2.5]]),
            ),
        ),
        theta=jnp.asarray(theta),
        intercept=jnp.zeros(3),
        slope=jnp.ones(3),
        upstream=jnp.zeros(3),
        atom_effect=jnp.zeros((3, 1)),
        label_corr=LabelCorr(jnp.asarray(0.0), jnp.asarray(0.4)),
    )
    z, correct = simulate_scores(jax.random.key(0), params, get_copulas(names, 2), 600)
    obs = Observations(z, jnp.ones(z.shape, bool), correct, jnp.ones(z.shape, bool))
    candidates = ("independence", "clayton", "frank")
    selection = choose_copulas(obs, AtomLayout(locs, locs, np.ones(3, bool)), Priors(), candidates)
    assert selection.names == names
    # One-signed families have nothing to say of the pair with negative tau.
    assert selection.scores["frank"][1] > 50 > selection.scores["clayton"][1]
    np.testing.assert_array_equal(selection.scores["independence"], 0.0)
    assert selection.standard_errors["clayton"][0] == 0.0 < selection.standard_errors["frank"][0]
    record = selection.to_dict(("a", "b", "c"))
    assert record["b > c"]["chosen"] == "frank"
    assert set(record["a > b"]["loo_log_score"]) == set(candidates)
