"""Hyperparameters: what is refused, the weak set, overrides."""

from __future__ import annotations

from dataclasses import fields

import matplotlib as mpl
import numpy as np
import pytest
import scipy.stats

from cascade_bayes.errors import InputError
from cascade_bayes.inference.prior import PriorDraws, sample_prior
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import simulate
from cascade_bayes.plots import plot_prior


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slope_scale": 0.0}, "slope_scale of the priors must be positive; got 0.0"),
        ({"normal_scale": 0.0}, "normal_scale of the priors must be positive; got 0.0"),
        ({"split_df": 0.0}, "split_df of the priors must be positive; got 0.0"),
        ({"concentration": -1.0}, "concentration of the priors must be positive; got -1.0"),
        (
            {"tau_concentration1": float("nan")},
            "tau_concentration1 of the priors must be a finite number; got nan",
        ),
        ({"intercept_loc": "0"}, "intercept_loc of the priors must be a finite number; got '0'"),
        ({"num_components": 17}, "num_components of the priors must be a whole number from 1 to 16; got 17"),
        ({"num_components": 2.5}, "whole number from 1 to 16; got 2.5"),
        ({"tau_loc": 0.9, "tau_scale": 0.5}, "tau_scale below 0.436 with it; got 0.9 and 0.5"),
    ],
)
def test_bad_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Priors(**values)  # type: ignore[arg-type]


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="no hyperparameter 'slope'; known: num_components, split_scale"):
        Priors.from_dict({"slope": 1.0})
    assert Priors.from_dict({"slope_loc": 1.0}) == Priors(slope_loc=1.0)
    assert Priors.from_dict(Priors.weak().to_dict()) == Priors.weak()


def test_weak_priors_are_wider_in_every_scale() -> None:
    default, weak = Priors(), Priors.weak()
    for entry in fields(Priors):
        if entry.name.endswith("_scale") and entry.name != "normal_scale":
            assert getattr(weak, entry.name) > getattr(default, entry.name), entry.name
    assert weak.step_loc == weak.slope_loc == weak.tau_loc == 0.0


def test_tau_prior_has_the_stated_moments() -> None:
    priors = Priors()
    assert priors.tau_concentrations(0.0, 1.0) == (1.5, 3.0)
    assert priors.tau_concentrations(-1.0, 0.0) == (3.0, 1.5)
    beta = scipy.stats.beta(*priors.tau_concentrations(-1.0, 1.0), loc=-1, scale=2)
    assert (beta.mean(), beta.std()) == pytest.approx((priors.tau_loc, priors.tau_scale))


@pytest.fixture(scope="module")
def prior() -> PriorDraws:
    return sample_prior(models=("small", "large"), num_draws=400, seed=1)


def test_draws_of_the_priors_follow_them(prior: PriorDraws) -> None:
    slope = np.asarray(prior.params.slope).ravel()
    assert scipy.stats.kstest(slope, scipy.stats.norm(0.5, 0.35).cdf).pvalue > 1e-3
    log_odds = np.asarray(prior.params.intercept / np.sqrt(1 + prior.params.slope**2))
    first, step = log_odds[:, 0], np.diff(log_odds, axis=1).ravel()
    assert scipy.stats.kstest(first, scipy.stats.norm(0.35, np.hypot(1, 0.85 / np.sqrt(2))).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(step, scipy.stats.norm(0.45, 0.85).cdf).pvalue > 1e-3
    label_corr = prior.params.label_corr
    assert scipy.stats.kstest(np.asarray(label_corr.middle), scipy.stats.beta(4.0, 4.0).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(np.asarray(label_corr.slope), scipy.stats.norm(0.5, 0.5).cdf).pvalue > 1e-3
    upstream = np.asarray(prior.params.upstream)
    np.testing.assert_array_equal(upstream[:, 0], 0.0)
    assert scipy.stats.kstest(upstream[:, 1], scipy.stats.norm(0.0, 0.15).cdf).pvalue > 1e-3
    tau = 1 - 1 / np.asarray(prior.params.theta[:, 0])
    assert scipy.stats.kstest(tau, scipy.stats.beta(1.5, 3.0).cdf).pvalue > 1e-3


@pytest.mark.slow
def test_table_and_picture_of_the_priors(prior: PriorDraws) -> None:
    frame = prior.to_frame()
    assert list(frame.columns) == ["mean", "q05", "q50", "q95"]
    middle = scipy.stats.norm(0.35, np.hypot(1.0, 0.85 / np.sqrt(2))).rvs(100_000, random_state=0)
    wanted = np.mean(1 / (1 + np.exp(-middle)))
    assert frame.loc["accuracy of small at its 50 % confidence", "mean"] == pytest.approx(wanted, abs=0.05)
    assert 0 < frame.loc["gain in accuracy from small to large", "mean"] < 0.2
    # Densities over the score: those of all components together hold a mass of one.
    score = np.linspace(0.0005, 0.9995, 2000)
    mass = np.trapezoid(prior.densities(score), score, axis=-1)
    assert np.median(np.abs(mass - 1)) < 2e-3
    mpl.use("Agg")
    axes = plot_prior(prior)
    assert axes.shape == (2, 3)
    np.testing.assert_allclose(
        axes[0, 1].lines[-1].get_ydata(), np.median(prior.curves(np.linspace(0.01, 0.99, 197))[:, 0], axis=0)
    )


def test_tables_simulated_from_the_priors(prior: PriorDraws) -> None:
    table = simulate(prior, 50, seed=2)
    assert table.models == ("small", "large")
    assert np.all((table.confidence >= 0) & (table.confidence <= 1))
    with pytest.raises(InputError, match="num_draws must be at least 1; got 0"):
        sample_prior(models=("small", "large"), num_draws=0)
