"""Simulation-based calibration: tests of ranks keep their level and see mistakes; posteriors pass them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from cascade_bayes.errors import InputError
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import Structure
from cascade_bayes.sbc.calibration import effective_draws, simulation_based_calibration
from cascade_bayes.sbc.ranks import CalibrationRanks
from cascade_bayes.sbc.replications import Design, Truth, draw_truths, make_design
from cascade_bayes.sbc.uniformity import (
    chi_squared_p,
    describe_ranks,
    ecdf_band,
    ecdf_counts,
    ecdf_p,
    rank_with_ties,
)

mpl.use("Agg")

NUM_RANKS, NUM_DRAWS = 200, 99


# Tests of uniformity


@pytest.mark.parametrize(("num_ranks", "num_draws"), [(4, 3), (6, 2), (3, 6)])
def test_p_values_of_the_ecdf_are_those_of_all_outcomes(num_ranks: int, num_draws: int) -> None:
    """Every table of ranks is listed, with its least tail probability as the definition has it."""
    outcomes = np.array(list(itertools.product(range(num_draws + 1), repeat=num_ranks)))
    gammas = []
    for ranks in outcomes:
        tails = []
        for i in range(1, num_draws + 1):
            count, chance = np.sum(ranks < i), i / (num_draws + 1)
            below = stats.binom.cdf(count, num_ranks, chance)
            above = stats.binom.cdf(num_ranks - count, num_ranks, 1 - chance)
            tails.append(min(1.0, 2 * below, 2 * above))
        gammas.append(min(tails))
    gamma = np.array(gammas)
    for ranks, value in list(zip(outcomes, gamma, strict=True))[:: len(outcomes) // 50]:
        assert ecdf_p(ranks, num_draws) == pytest.approx(np.mean(gamma <= value * (1 + 1e-9)), abs=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_band_holds_all_counts_as_often_as_it_says(level: float) -> None:
    low, high = ecdf_band(NUM_RANKS, NUM_DRAWS, level)
    rng = np.random.default_rng(0)
    shares = np.full(NUM_DRAWS + 1, 1 / (NUM_DRAWS + 1))
    counts = rng.multinomial(NUM_RANKS, shares, size=20_000).cumsum(axis=1)[:, :-1]
    held = np.mean(np.all((low <= counts) & (counts <= high), axis=1))
    # At least the level, and little more: counts come in steps.
    error = np.sqrt(level * (1 - level) / 20_000)
    assert level - 4 * error < held < level + 4 * error + 0.01


def test_p_values_and_band_agree() -> None:
    low, high = ecdf_band(40, 9, 0.9)
    rng = np.random.default_rng(1)
    left = []
    for ranks in rng.integers(0, 10, (300, 40)):
        counts = ecdf_counts(ranks, 9)
        left.append(bool(np.any((counts < low) | (counts > high))))
        assert left[-1] == (ecdf_p(ranks, 9) <= 0.1)
    assert 10 < sum(left) < 50


@pytest.mark.parametrize("num_draws", [99, 29, 6])
def test_level_of_the_chi_squared_test(num_draws: int) -> None:
    rng = np.random.default_rng(2)
    p = np.array([chi_squared_p(r, num_draws) for r in rng.integers(0, num_draws + 1, (3000, NUM_RANKS))])
    for level in (0.05, 0.5):
        assert abs(np.mean(p <= level) - level) < 4 * np.sqrt(level * (1 - level) / 3000) + 0.01
    assert chi_squared_p(np.zeros(NUM_RANKS, dtype=int), num_draws) < 1e-100


def test_ties_have_any_rank_among_them() -> None:
    """A quantity that is infinite two times in five: ranks are uniform only with ties broken by chance."""
    rng = np.random.default_rng(4)

    def draw(*shape: int) -> np.ndarray:
        return np.where(rng.uniform(size=shape) < 0.4, -np.inf, rng.normal(size=shape))

    truth, draws = draw(NUM_RANKS), draw(NUM_DRAWS, NUM_RANKS)
    ranks = rank_with_ties(rng, truth, draws)
    below, equal = np.sum(draws < truth, axis=0), np.sum(draws == truth, axis=0)
    assert np.all((below <= ranks) & (ranks <= below + equal))
    assert ecdf_p(ranks, NUM_DRAWS) > 0.01
    assert chi_squared_p(ranks, NUM_DRAWS) > 0.01
    assert ecdf_p(below, NUM_DRAWS) < 1e-10
    many = rank_with_ties(rng, np.zeros(4000), np.zeros((3, 4000)))
    assert stats.chisquare(np.bincount(many, minlength=4)).pvalue > 0.001
    with pytest.raises(ValueError, match="not a number"):
        rank_with_ties(rng, np.array([np.nan]), np.zeros((3, 1)))


# A posterior that is known: the mean of a normal sample


def toy(factor: float = 1.0, shift: float = 0.0, seed: int = 5) -> CalibrationRanks:
    """Ranks of theta ~ N(0, 1) given y ~ N(theta, 1/2); posterior draws wider by a factor, and shifted."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=NUM_RANKS)
    y = theta + np.sqrt(0.5) * rng.normal(size=NUM_RANKS)
    mean, spread = y / 1.5, np.sqrt(1 / 3)
    ranks = {}
    for name, wide, moved in (("right", 1.0, 0.0), ("asked", factor, shift)):
        draws = mean + spread * (moved + wide * rng.normal(size=(NUM_DRAWS, NUM_RANKS)))
        ranks[name] = rank_with_ties(rng, theta, draws)
    return CalibrationRanks(
        ranks=ranks,
        num_draws=NUM_DRAWS,
        exact=frozenset(ranks),
        effective_draws=np.full(NUM_RANKS, 150.0),
        suspect=np.zeros(NUM_RANKS, dtype=bool),
    )


def test_a_right_posterior_passes() -> None:
    found = toy()
    assert found.calibrated
    assert found.failures() == []
    assert found.sentence().startswith(
        "In 200 replications, ranks among 99 draws, at a family-wise 1%: "
        "all 2 exact quantities are calibrated"
    )
    assert found.to_frame().shape == (2, 5)


@pytest.mark.parametrize(
    ("factor", "shift", "verdict"),
    [(0.7, 0.0, "too narrow"), (1.5, 0.0, "too wide"), (1.0, 0.5, "too high"), (1.0, -0.5, "too low")],
)
def test_a_wrong_posterior_fails(factor: float, shift: float, verdict: str) -> None:
    for seed in range(5):
        found = toy(factor, shift, seed)
        assert [test.quantity for test in found.failures()] == ["asked"]
        assert not found.calibrated
        assert f"1 of 2 exact quantities are not calibrated: asked {verdict}." in found.sentence()
        assert describe_ranks(found.ranks["asked"], NUM_DRAWS) == verdict


def test_family_wise_level() -> None:
    """Of right posteriors, one in a hundred fails at most."""
    rng = np.random.default_rng(6)
    failed = 0
    for _ in range(300):
        ranks = {str(i): rng.integers(0, 20, 50) for i in range(4)}
        found = CalibrationRanks(ranks, 19, frozenset("0123"), np.ones(50), np.zeros(50, dtype=bool))
        failed += bool(found.failures(level=0.1))
    assert 5 < failed < 300 * 0.1 + 4 * np.sqrt(300 * 0.09)


def test_cut_quantities_are_reported_apart() -> None:
    found = replace(
        toy(0.6),
        exact=frozenset(["right"]),
        effective_draws=np.full(NUM_RANKS, 60.0),
        suspect=np.arange(200) < 3,
    )
    assert found.calibrated
    assert [test.exact for test in found.failures()] == [False]
    words = found.sentence()
    assert "all 1 exact quantities are calibrated" in words
    assert "1 of 1 cut quantities are not calibrated: asked too narrow" in words
    assert "200 fits had fewer effective draws (at least 60)" in words
    assert "3 fits had divergences" in words


def test_effective_draws() -> None:
    """Of an autoregressive chain n (1 - rho) / (1 + rho), whatever the scale; the worst parameter counts."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(4, 4000, 2))
    chain = noise.copy()
    for i in range(1, 4000):
        chain[:, i, 1] = 0.8 * chain[:, i - 1, 1] + 0.6 * noise[:, i, 1]
    expected = 16_000 * 0.2 / 1.8
    assert effective_draws({"x": chain}) == pytest.approx(expected, rel=0.2)
    assert effective_draws({"x": np.exp(5 * chain)}) == effective_draws({"x": chain})
    assert effective_draws({"x": noise}) == pytest.approx(16_000, rel=0.1)
    assert effective_draws({"x": chain, "y": noise}) == effective_draws({"x": chain})
    assert effective_draws({"x": chain[:, :1]}) == 0.0


def test_picture() -> None:
    from cascade_bayes.plots import plot_ranks
    from cascade_bayes.plots._common import BLUE, ORANGE

    found = toy(0.6)
    axes = plot_ranks(found)
    assert [ax.get_title() for ax in axes] == ["right", "asked"]
    assert [ax.lines[0].get_color() for ax in axes] == [BLUE, ORANGE]
    curve = axes[1].lines[0].get_ydata()
    counts = np.array([np.sum(found.ranks["asked"] < i) for i in range(NUM_DRAWS + 2)])
    np.testing.assert_allclose(curve, counts / NUM_RANKS - np.arange(NUM_DRAWS + 2) / (NUM_DRAWS + 1))
    assert len(plot_ranks(found, ["asked"])) == 1


# Replications


def design_and_truth(structure: Structure, **options: Any) -> tuple[Design, Truth]:
    request = FitOptions(seed=0, structure=structure, priors=Priors(num_components=2), **options)
    design = make_design(jax.random.key(1), request, 3, 30, 0.01)
    truths = draw_truths(jax.random.split(jax.random.key(2), 3), design.simulated, 30)
    return design, jax.tree.map(lambda x: x[1], truths)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["chain", "modular"])
def test_truth_and_draws_are_compared_like_with_like(structure: Structure) -> None:
    """A posterior all of whose draws are the truth, in the terms of its own structure."""
    design, truth = design_and_truth(structure)
    table = design.prepare(truth)
    np.testing.assert_allclose(table.obs.z, truth.z, rtol=1e-12)
    sites = {k: np.asarray(v) for k, v in truth.sites.items()}
    spec = table.spec
    if structure == "modular":
        centres = find_centres(table.obs, spec.layout, spec.pairs)
        spec = replace(spec, centres=centres)
        places = [spec.pairs.index(pair) for pair in ((0, 1), (1, 2))]
        effect = sites["upstream"]
        sites["intercept"] = sites["intercept"] + np.append(0.0, effect * centres.line[places, 0])
        sites["slope"] = sites["slope"] + np.append(0.0, effect * centres.line[places, 1])
        sites["atom_effect"] = sites["atom_effect"] + np.append(0.0, effect * centres.at_atoms[places, 0])
        sites["upstream"] = np.insert(effect, 1, 9.0)
        assert spec.pairs[1] == (0, 2)
    samples = {k: np.broadcast_to(v, (2, 3, *v.shape)) for k, v in sites.items()}
    values = design.quantities(truth, Posterior(samples, {}, table.data, spec), 5)
    expected = {"tau[m1 > m2]", "tau[m2 > m3]", "upstream[m2 > m3]", "mixing_split[m3, 0]", "reach_prob[m3]"}
    assert expected | {
        "error",
        "cost",
        "threshold[m2]",
        "atom_effect[m1]",
        "label_corr",
        "label_corr_slope",
    } <= set(values)
    assert ("log_likelihood" in values) == (structure == "chain")
    for name, rows in values.items():
        assert rows.shape == (6,)
        np.testing.assert_allclose(rows, rows[0], rtol=1e-9, atol=1e-9, err_msg=name)
    for name in ("intercept", "slope", "atom_effect", "atom_logit"):
        np.testing.assert_allclose(values[f"{name}[m2]"][0], truth.sites[name][1], err_msg=name)
    for name in ("tau", "upstream"):
        np.testing.assert_allclose(values[f"{name}[m2 > m3]"][0], truth.sites[name][1], err_msg=name)
    np.testing.assert_allclose(values["normal_scale[m3, 1]"][0], truth.sites["normal_scale"][2, 1])
    reach = np.array([1.0, values["reach_prob[m2]"][0], values["reach_prob[m3]"][0]])
    np.testing.assert_allclose(values["cost"][0], reach @ design.call_cost)
    assert design.is_exact("mixing_split[m1, 0]")
    assert design.is_exact("reach_prob[m2]")
    for name in ("slope[m1]", "label_corr", "label_corr_slope"):
        assert design.is_exact(name) == (structure == "chain")
        assert replace(design, fitted=replace(design.fitted, upstream=False)).is_exact(name)


def test_bad_requests() -> None:
    for options, message in (
        ({"method": "map"}, "'map' gives a single point"),
        ({"copula": "auto"}, "read from a table"),
        ({"copula": ["gumbel", "auto"]}, "read from a table"),
        ({"atoms": {"m1": [0.5]}}, "read from a table"),
        ({"num_replications": 1}, "num_replications must be at least 2; got 1"),
        ({"num_models": 1}, "num_models must be at least 2; got 1"),
        ({"num_draws": 0}, "num_draws must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"error_price": -1.0}, "error_price must be a positive number; got -1.0"),
        ({"structure": "vine"}, "structure must be one of"),
    ):
        with pytest.raises(InputError, match=message):
            simulation_based_calibration(seed=0, **options)  # type: ignore[arg-type]


QUICK: dict[str, Any] = {
    "num_queries": 30,
    "num_draws": 5,
    "num_samples": 50,
    "priors": Priors(num_components=2),
    "progress": False,
}


@pytest.mark.slow
def test_replications_are_ranked() -> None:
    def calibrate(seed: int) -> CalibrationRanks:
        return simulation_based_calibration(
            5, "laplace", seed=seed, structure="modular", batch_size=3, **QUICK
        )

    found = calibrate(0)
    assert found.num_replications == 5
    for name, ranks in found.ranks.items():
        assert ranks.shape == (5,), name
        assert ranks.min() >= 0, name
        assert ranks.max() <= 5, name
    assert len({tuple(ranks) for ranks in found.ranks.values()}) > 15
    assert {"mixing_split[m3, 0]", "normal_scale[m1, 1]", "atom_logit[m2]"} <= found.exact
    assert not {"tau[m1 > m2]", "slope[m1]", "error", "threshold[m2]"} & found.exact
    assert found.effective_draws.shape == found.suspect.shape == (5,)
    again = calibrate(0)
    for name, ranks in found.ranks.items():
        np.testing.assert_array_equal(again.ranks[name], ranks, err_msg=name)
    other = calibrate(1)
    assert any(np.any(other.ranks[name] != ranks) for name, ranks in found.ranks.items())


# The library's own posteriors


@pytest.mark.long
def test_posteriors_of_a_chain_are_calibrated() -> None:
    found = simulation_based_calibration(200, "nuts", seed=0, progress=False)
    assert found.failures() == [], found.sentence()
    assert len(found.ranks) > 100
    assert np.mean(found.effective_draws >= found.num_draws) > 0.9


@pytest.mark.long
def test_svi_of_a_chain_says_that_it_is_not_to_be_trusted() -> None:
    """A normal guide of a hundred parameters leaves no effective draws; every fit says so."""
    found = simulation_based_calibration(40, "svi", seed=0, progress=False)
    assert not found.calibrated
    assert found.suspect.all()


@pytest.mark.long
def test_modular_posteriors_are_calibrated_where_they_are_exact() -> None:
    found = simulation_based_calibration(200, seed=0, structure="modular", progress=False)
    assert found.calibrated, found.sentence()
    assert found.exact < set(found.ranks)


@pytest.mark.long
def test_a_fit_with_other_priors_is_not_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tables, fitted with a prior for slopes that is sure of the wrong value."""
    original = Design.prepare

    def prepare(self: Design, truth: Truth) -> Any:
        wrong = replace(self.fitted.priors, slope_loc=1.0, slope_scale=0.1)
        return original(replace(self, fitted=replace(self.fitted, priors=wrong)), truth)

    monkeypatch.setattr(Design, "prepare", prepare)
    options = QUICK | {"num_queries": 100, "num_draws": 19, "num_samples": 200, "upstream": False}
    found = simulation_based_calibration(100, "laplace", seed=0, structure="modular", **options)
    assert not found.calibrated
    assert {"slope[m1]", "slope[m2]"} <= {test.quantity for test in found.failures()}
