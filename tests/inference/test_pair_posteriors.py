"""Modular fits: each pair's curve against its exact posterior, and sub-cascades from pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from cascade_bayes._trees import take
from cascade_bayes.copulas import get_copulas, log_copula_ratio, theta_from_tau
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.distributions import mixed
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.pair_posteriors import MAX_DRAWS, sample_pairs, thin
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.cascade import cascade_model, params_from_sites
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.correctness import correctness_logit, own_logit, regressor
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import AtomLayout, find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.reading import read_table

Array = Any
NUM_DRAWS = 2000


@pytest.fixture(scope="module")
def table(small_data: CascadeData) -> tuple[Observations, ModelSpec, dict[str, Array]]:
    """The small table, a modular model of it, and one set of first-module sites, many times over."""
    layout = find_atoms(small_data)
    copulas = get_copulas(["gumbel", "frank", "gumbel"], 3)
    spec = ModelSpec(layout, copulas, Priors(), structure="modular")
    obs = observations(small_data, layout)
    spec = replace(spec, centres=find_centres(obs, layout, spec.pairs))
    sites = {
        "mixing_split": np.zeros((3, 3)),
        "normal_scale": np.full((3, 4), 1.2),
        "intercept": np.array([0.3, 0.7, 1.2]),
        "slope": np.array([0.6, 0.5, 0.4]),
        "atom_logit": np.array([-1.5]),
        "atom_effect": np.array([-0.5]),
        "label_corr": np.array(0.5),
        "label_corr_slope": np.array(0.4),
    }
    draws = {k: np.broadcast_to(v, (2, NUM_DRAWS // 2, *v.shape)) for k, v in sites.items()}
    return obs, spec, draws


def weights(log_density: Array) -> Array:
    weight = np.exp(log_density - log_density.max())
    return np.cumsum(weight) / weight.sum()


@pytest.mark.slow
def test_draws_of_tau_and_of_upstream_effects_follow_their_exact_posteriors(table: Any) -> None:
    obs, spec, draws = table
    assert spec.pairs == ((0, 1), (0, 2), (1, 2))
    atom_locs = jnp.asarray(spec.layout.locs)
    found = sample_pairs(jax.random.key(3), draws, obs, atom_locs, spec.kind, spec.centres)
    assert found["tau"].shape == found["upstream"].shape == (2, NUM_DRAWS // 2, 3)
    one = {k: v[0, 0] for k, v in draws.items()}
    params = params_from_sites(one, spec.first_module())
    points = mixed.point(obs.z, jax.tree.map(lambda field: field[:, None], params.margins))
    x, own = regressor(obs.z), own_logit(obs.z, params.calibration)
    for index, ((i, j), family) in enumerate(zip(spec.pairs, spec.copulas, strict=True)):
        low, high = family.tau_range
        taus = np.linspace(low, high, 2003)[1:-1]

        def log_likelihood(tau: Array, i: int = i, j: int = j, family: Any = family) -> Array:
            theta = family.tau_to_theta(tau)
            return jnp.sum(log_copula_ratio(family, take(points, i), take(points, j), theta))

        one_prior, zero_prior = Priors().tau_concentrations(low, high)
        log_prior = scipy.stats.beta(one_prior, zero_prior).logpdf((taus - low) / (high - low))
        cdf = weights(np.asarray(jax.lax.map(log_likelihood, jnp.asarray(taus))) + log_prior)
        got = found["tau"][..., index].ravel()
        assert scipy.stats.kstest(got, lambda t, taus=taus, cdf=cdf: np.interp(t, taus, cdf)).pvalue > 1e-3

        effects = np.linspace(-1.2, 1.2, 2001)
        residual = x[i] - expected(spec, index, j, np.asarray(obs.z[j]))
        logit = np.asarray(own[j])[:, None] + np.asarray(residual)[:, None] * effects
        signed = np.where(np.asarray(obs.correct[j])[:, None], logit, -logit)
        log_density = -np.logaddexp(0, -signed).sum(axis=0) + scipy.stats.norm(0, 0.15).logpdf(effects)
        cdf = weights(log_density)
        got = found["upstream"][..., index].ravel()
        assert scipy.stats.kstest(got, lambda c, grid=effects, cdf=cdf: np.interp(c, grid, cdf)).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gumbel", "gaussian"])
def test_draws_of_tau_from_a_handful_of_queries(table: Any, name: str) -> None:
    """A wide posterior shows what a narrow one hides: the change of coordinates and the ends of the range."""
    obs, spec, draws = table
    few = obs.take(np.arange(5))
    spec = replace(spec, copulas=get_copulas([name, "independence", "independence"], 3), upstream=False)
    atom_locs = jnp.asarray(spec.layout.locs)
    found = sample_pairs(jax.random.key(3), draws, few, atom_locs, spec.kind, spec.centres)
    assert set(found) == {"tau"}
    params = params_from_sites({k: v[0, 0] for k, v in draws.items()}, spec.first_module())
    points = mixed.point(few.z, jax.tree.map(lambda field: field[:, None], params.margins))
    family = spec.copulas[0]
    low, high = family.tau_range
    taus = np.linspace(low, high, 2003)[1:-1]

    def log_likelihood(tau: Array) -> Array:
        return jnp.sum(log_copula_ratio(family, take(points, 0), take(points, 1), family.tau_to_theta(tau)))

    one_prior, zero_prior = Priors().tau_concentrations(low, high)
    log_prior = scipy.stats.beta(one_prior, zero_prior).logpdf((taus - low) / (high - low))
    cdf = weights(np.asarray(jax.lax.map(log_likelihood, jnp.asarray(taus))) + log_prior)
    got = found["tau"].ravel()
    assert got.std() > 0.1
    assert scipy.stats.kstest(got, lambda t: np.interp(t, taus, cdf)).pvalue > 1e-3


def expected(spec: ModelSpec, index: int, j: int, z: Array) -> Array:
    """Line and effects at atoms, query by query."""
    (intercept, slope), at_atoms = spec.centres.line[index], spec.centres.at_atoms[index]
    effect = [sum(d for d, loc in zip(at_atoms, spec.layout.locs[j], strict=True) if loc == v) for v in z]
    return intercept + slope * np.clip(z, -6, 6) + np.array(effect)


def test_centres_are_least_squares(table: Any) -> None:
    """Against a regression on the other confidence and an indicator of each atom."""
    obs, spec, _ = table
    z = np.asarray(obs.z)
    x = np.clip(z, -6, 6)
    for index, (i, j) in enumerate(spec.pairs):
        atoms = spec.layout.locs[j][~np.isnan(spec.layout.locs[j])]
        design = np.column_stack([np.ones(x.shape[1]), x[j], *(z[j] == atom for atom in atoms)])
        wanted = design @ np.linalg.lstsq(design, x[i], rcond=None)[0]
        np.testing.assert_allclose(expected(spec, index, j, z[j]), wanted, rtol=1e-9, atol=1e-9)
    assert np.abs(spec.centres.at_atoms).max() > 0.1


def test_centres_of_words_and_of_pairs_that_nobody_saw() -> None:
    locs = np.array([[np.nan, np.nan], [-1.0, 2.0], [np.nan, np.nan]])
    layout = AtomLayout(locs, locs, np.array([True, False, True]))
    z = np.array([[0.5, 1.0, 3.0, 9.0], [-1.0, -1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    seen = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    obs = Observations(*(jnp.asarray(a) for a in (z, seen, seen, seen)))
    centres = find_centres(obs, layout, [(0, 1), (0, 2)])
    np.testing.assert_allclose(centres.line[0, 1], 0.0)
    np.testing.assert_allclose(centres.line[0, 0] + centres.at_atoms[0], [0.75, 4.5])
    np.testing.assert_allclose(take(centres, 0).beyond(obs.z[0], obs.z[1], locs[1]), [-0.25, 0.25, -1.5, 1.5])
    assert not centres.line[1].any()
    assert not centres.at_atoms[1].any()


def test_a_sub_cascade_takes_the_pair_that_becomes_adjacent(table: Any) -> None:
    obs, spec, draws = table
    sites = {k: jnp.asarray(v[0, 0]) for k, v in draws.items()}
    sites |= {"tau": jnp.array([0.2, -0.1, 0.4]), "upstream": jnp.array([0.1, 0.3, -0.2])}
    skip = params_from_sites(sites, spec, (0, 2))
    frank = spec.copulas[1]
    np.testing.assert_allclose(skip.theta, [theta_from_tau(frank, -0.1)], rtol=1e-10)
    full = params_from_sites(sites, spec.first_module())
    np.testing.assert_allclose(
        skip.margins.continuous.mixing_probs, full.margins.continuous.mixing_probs[np.array([0, 2])]
    )
    # The log odds are those of model 2 alone, plus the effect of what model 0 says beyond model 2.
    z = obs.z[np.array([0, 2])]
    x = regressor(z)
    beyond = x[0] - expected(spec, 1, 2, np.asarray(z[1]))
    wanted = own_logit(obs.z, full.calibration)[2] + 0.3 * beyond
    np.testing.assert_allclose(correctness_logit(z, skip)[1], wanted, rtol=1e-10)


def test_thinning_keeps_every_divergence() -> None:
    """A draw that is kept stands for those around it."""
    samples = {"x": np.arange(2 * 2500).reshape(2, 2500)}
    stats = {"diverging": np.zeros((2, 2500), bool), "energy": np.arange(5000.0).reshape(2, 2500)}
    stats["diverging"][0, [0, 1200, 2499]] = True
    stats["diverging"][1, [3, 4]] = True
    thinned, kept = thin(samples, stats)
    assert thinned["x"].shape == kept["energy"].shape == (2, MAX_DRAWS // 2)
    np.testing.assert_array_equal(thinned["x"], kept["energy"])
    assert kept["diverging"].sum(axis=1).tolist() == [3, 1]
    assert kept["diverging"][0, [0, 480, 999]].all()


def test_a_modular_model_has_no_joint_density(table: Any) -> None:
    obs, spec, _ = table
    with pytest.raises(ValueError, match="only the structure 'chain' has a joint density"):
        cascade_model(obs, spec)


@pytest.mark.slow
def test_fit_save_and_tune_sub_cascades(small_data: CascadeData, tmp_path: Path) -> None:
    post = fit(
        small_data,
        seed=0,
        structure="modular",
        num_chains=2,
        num_warmup=100,
        num_samples=60,
        max_rounds=1,
        progress=False,
    )
    assert post.samples["tau"].shape == post.samples["upstream"].shape == (2, 60, 3)
    assert "tau[small-3b > large-70b]" in post.summary().index
    post.save(tmp_path / "posterior.nc")
    back = Posterior.load(tmp_path / "posterior.nc")
    np.testing.assert_array_equal(back.spec.centres.line, post.spec.centres.line)
    np.testing.assert_array_equal(back.spec.centres.at_atoms, post.spec.centres.at_atoms)
    assert back.spec.structure == "modular"
    chain = back.sub_cascade((0, 2))
    assert chain.params.theta.shape == (120, 1)
    assert chain.members == (0, 1)
    frontier = error_cost_frontier(
        back, models=["small-3b", "large-70b"], error_prices=[0.01], num_draws=20, num_cells=24
    )
    assert frontier.thresholds.shape == (1, 1)
    # What the model alone gets right, it gets right in every sub-cascade that always asks it.
    always = error_cost_frontier(back, models=["medium-8b", "large-70b"], error_prices=[1e6], num_draws=20)
    assert 0.1 < float(always.error.mean()) < 0.4


def test_absent_rows_are_pointed_out(small_frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    import cascade_bayes.inference.fit as fit_module

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(*args: Any, **kwargs: Any) -> None:
        raise Stopped

    monkeypatch.setattr(fit_module, "draw", stop)
    first = small_frame["query"].iloc[0]
    absent = (small_frame["query"] == first) & (small_frame["model"] == "large-70b")
    message = r"of 120 queries confidences are missing \(1 of model 'large-70b'\)"
    with pytest.warns(DataWarning, match=message), pytest.raises(Stopped):
        fit(read_table(small_frame[~absent]), seed=0)
    with pytest.raises(InputError, match="structure must be one of modular, chain; got 'vine'"):
        fit(read_table(small_frame), seed=0, structure="vine")  # type: ignore[arg-type]
