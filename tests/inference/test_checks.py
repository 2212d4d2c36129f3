"""Checks of a fit: what a right model gives, and that a wrong one is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from cascade_bayes.copulas import get_copula, get_copulas, log_copula_ratio
from cascade_bayes.distributions import LogitNormalMixture, mixed
from cascade_bayes.distributions.mixed import MarginParams
from cascade_bayes.errors import InputError
from cascade_bayes.inference.batch import fit_batch
from cascade_bayes.inference.checks import ABOUT, CheckResult, check
from cascade_bayes.inference.checks.goodness import partial_correlation
from cascade_bayes.inference.checks.replicates import check_replicates
from cascade_bayes.inference.checks.residuals import conditional_cdf, margin_residuals, pair_residuals
from cascade_bayes.inference.checks.result import Finding
from cascade_bayes.inference.checks.statistics import (
    combine,
    holm,
    legendre,
    orthonormal,
    rank_polynomials,
    score_test,
    smooth_test,
)
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import trajectories
from cascade_bayes.inference.prior import sample_prior
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.simulate import simulate, simulate_scores
from cascade_bayes.plots import plot_calibration, plot_margins, plot_replicates
from cascade_bayes.special import unit_point

mpl.use("Agg")

# Statistics


def test_legendre_polynomials_are_orthonormal() -> None:
    def product(u: float, j: int, k: int) -> float:
        (values,) = legendre(np.array([u]), 4)
        return float(values[j] * values[k])

    for j in range(5):
        for k in range(5):
            found = scipy.integrate.quad(product, 0, 1, args=(j, k))[0]
            assert found == pytest.approx(float(j == k), abs=1e-10)


def test_orthonormal_basis_of_values_that_tie() -> None:
    grades = np.repeat([0.1, 0.9], [30, 10])
    basis = orthonormal(rank_polynomials(grades, 3))
    assert basis.shape == (40, 2)  # two values have two polynomials
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    assert orthonormal(rank_polynomials(grades, 3), given=rank_polynomials(grades, 1)).shape == (40, 0)
    x, other = np.random.default_rng(0).normal(size=(2, 40))
    beyond = orthonormal(rank_polynomials(x, 2)[:, 1:], given=rank_polynomials(other, 4))
    np.testing.assert_allclose(beyond.T @ rank_polynomials(other, 4), 0, atol=1e-10)


@pytest.mark.parametrize("n", [20, 300])
def test_smooth_test_has_its_level_and_sees_dependence(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    basis = orthonormal(rank_polynomials(x, 2))
    p_values = smooth_test(rng.random((4000, n)), basis, 3)
    for level in (0.1, 0.01):
        share = np.mean(p_values < level)
        # Exact but for the sums' approach to normal: at 1 % of few values up to half as many more.
        assert abs(share - level) < 4 * np.sqrt(level / 4000) + (0.5 * level if n == 20 else 0)
    rank = (scipy.stats.rankdata(x) - 0.5) / n
    w = np.where(rng.random((1, n)) < 0.9, rank, rng.random((1, n)))
    assert smooth_test(w, basis, 3)[0] < 1e-4


def test_score_test_has_its_level_and_sees_a_wrong_slope() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    prob = scipy.special.expit(0.4 + x)
    columns = orthonormal(rank_polynomials(x, 2))
    correct = rng.random((2000, 200)) < prob
    p_values = np.concatenate([score_test(y, prob[None], columns) for y in correct])
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert np.mean([score_test(y, scipy.special.expit(0.4 - x)[None], columns)[0] for y in correct]) < 1e-3
    # The statistic is Rao's: with a constant alone, (observed - expected)^2 / variance.
    only = score_test(correct[0], prob[None], np.ones((200, 1)))[0]
    z = (correct[0].sum() - prob.sum()) / np.sqrt(np.sum(prob * (1 - prob)))
    assert only == pytest.approx(2 * scipy.stats.norm.sf(abs(z)))


def test_p_values_together() -> None:
    assert combine(np.array([0.1, 0.3])) == pytest.approx(0.4)
    assert combine(np.array([0.9])) == 1.0
    assert holm(np.array([])).size == 0


def test_holm() -> None:
    """Against the definition: the smallest level at which the step-down rule rejects."""
    p = np.random.default_rng(3).uniform(size=9) ** 3
    adjusted = holm(p)

    def rejected(level: float) -> np.ndarray:
        found = np.zeros(9, dtype=bool)
        for step, place in enumerate(np.argsort(p)):
            if p[place] > level / (9 - step):
                break
            found[place] = True
        return found

    for level in np.linspace(0.001, 0.999, 400):
        np.testing.assert_array_equal(adjusted <= level, rejected(level))


def test_energies_of_a_chain_that_does_not_explore() -> None:
    rng = np.random.default_rng(0)
    energy = rng.normal(size=(2, 3, 400))
    energy[1, 2] = np.cumsum(energy[1, 2])
    stats = {"energy": energy, "num_steps": np.full(energy.shape, 7)}
    stats["num_steps"][0, 0, :12] = 1023
    found = trajectories(stats)
    assert found["e_bfmi"][0] == pytest.approx(2.0, abs=0.3)  # independent energies: 2
    assert found["e_bfmi"][1] < 0.1
    np.testing.assert_allclose(found["saturated"], [12 / 1200, 0.0])
    assert trajectories({}) == {}
    single = trajectories({k: v[:, :, :1] for k, v in stats.items()})
    assert np.isnan([*single["e_bfmi"], *single["saturated"]]).all()
    still = trajectories({"energy": np.ones((1, 1, 5)), "num_steps": np.ones((1, 1, 5))})
    assert still["e_bfmi"][0] == 0.0


def test_correlation_beyond_what_is_given() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    rank = (scipy.stats.rankdata(x) - 0.5) / 400
    nothing = np.ones((400, 1))
    assert partial_correlation(x, nothing, rank[None]) == pytest.approx(1.0, abs=1e-4)
    assert partial_correlation(x, nothing, 1 - rank[None]) == pytest.approx(-1.0, abs=1e-4)
    assert partial_correlation(x, rank_polynomials(x, 4), rank[None]) == 0.0
    assert partial_correlation(np.ones(400), nothing, rank[None]) == 0.0  # a single atom


# Residuals


def margins_with_atoms() -> MarginParams:
    """Two margins: one with atoms inside and at certainty, one with an atom below."""
    return MarginParams(
        jnp.array([[0.5, jnp.inf], [-1.0, jnp.nan]]),
        jnp.array([[0.2, 0.3], [0.35, 0.0]]),
        LogitNormalMixture(
            jnp.array([[0.6, 0.4], [0.3, 0.7]]),
            jnp.array([[-1.0, 2.0], [0.0, 1.0]]),
            jnp.array([[1.0, 0.5], [2.0, 0.7]]),
        ),
    )


@pytest.mark.parametrize("name", ["gumbel", pytest.param("frank", marks=pytest.mark.slow), "independence"])
def test_conditional_cdf_is_that_of_the_pair_likelihood(name: str) -> None:
    """Its steps, over the margin's, are what `log_copula_ratio` gives, atoms or not."""
    family, margins = get_copula(name), margins_with_atoms()
    theta = family.tau_to_theta(jnp.asarray(0.4))
    z = jnp.array([-3.0, 0.5, 1.0, jnp.inf])
    before = mixed.point(z[:, None], jax.tree.map(lambda f: f[0], margins))
    width = 1e-5
    for value in (-1.0, 0.3):
        right = jax.tree.map(lambda f: f[1], margins)
        ends = (value - width, value + width) if value == 0.3 else (value, value)
        low, high = (mixed.point(jnp.asarray([end]), right) for end in ends)
        steps = conditional_cdf(family, before, high.upper, theta) - conditional_cdf(
            family, before, low.lower, theta
        )
        mass = high.upper.value - low.lower.value
        at = mixed.point(jnp.asarray([value]), right)
        np.testing.assert_allclose(
            np.log(steps / mass), log_copula_ratio(family, before, at, theta), rtol=1e-4, atol=1e-6
        )
    for end, wanted in ((0.0, 0.0), (1.0, 1.0)):
        np.testing.assert_allclose(
            conditional_cdf(family, before, unit_point(end), theta), wanted, atol=1e-12
        )


@pytest.mark.slow
def test_residuals_of_the_true_model_are_uniform_and_independent() -> None:
    prior = sample_prior(models=("a", "b"), num_draws=1)
    family = get_copula("gumbel")
    margins = margins_with_atoms()
    params = jax.tree.map(lambda f: f[0], prior.params)._replace(
        margins=margins, theta=family.tau_to_theta(jnp.array([0.5]))
    )
    z, _ = simulate_scores(jax.random.key(0), params, get_copulas("gumbel", 1), 4000)
    draws = jax.tree.map(lambda f: f[None], margins)
    first = margin_residuals(jax.random.key(1), jax.tree.map(lambda f: f[:, 0], draws), z[0])
    second = pair_residuals(jax.random.key(2), family, draws, params.theta, z)
    for w in (np.asarray(first)[0], np.asarray(second)[0]):
        assert scipy.stats.kstest(w, "uniform").pvalue > 1e-3
    assert smooth_test(np.asarray(second), orthonormal(rank_polynomials(np.asarray(z[0]), 2)), 3)[0] > 1e-3
    # Of another copula they are not.
    other = get_copula("clayton")
    wrong = pair_residuals(jax.random.key(2), other, draws, other.tau_to_theta(jnp.array([0.5])), z)
    assert smooth_test(np.asarray(wrong), orthonormal(rank_polynomials(np.asarray(z[0]), 2)), 3)[0] < 1e-6


# The whole check


@pytest.fixture(scope="module")
def result(small_posterior: Posterior) -> CheckResult:
    return check(small_posterior, num_draws=60)


def test_check_asks_every_question(result: CheckResult, small_posterior: Posterior) -> None:
    assert {f.check for f in result.findings} == set(ABOUT)
    assert [len(result.of(name)) for name in ("margins", "copulas", "markov", "calibration", "deferred")] == [
        3, 3, 1, 3, 2,
    ]  # fmt: skip
    # The fixture has too few draws, and the table is the model's own.
    assert not result.passed
    assert {f.check for f in result.failures} == {"sampling"}
    assert "R-hat" in result.sentence()
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(record["checks"]) == set(ABOUT)
    assert not record["passed"]
    assert record["checks"]["margins"]["passed"]
    frame = result.to_frame()
    assert len(frame) == len(result.findings)
    by_model = {f.subject: f.figures for f in result.of("calibration")}
    data = small_posterior.data
    for i, model in enumerate(data.models):
        assert by_model[model]["observed"] == pytest.approx(data.correct[:, i].mean())


def failed(posterior: Posterior, **changes: Any) -> set[tuple[str, str]]:
    """Return what fails when the table is another one than was fitted, but for the sampling."""
    changed = replace(posterior, data=replace(posterior.data, **changes))
    found = check(changed, num_draws=60)
    return {(f.check, f.subject) for f in found.failures if f.check != "sampling"}


def test_check_sees_dependence_that_is_not_the_copula_s(small_posterior: Posterior) -> None:
    data = small_posterior.data
    confidence = data.confidence.copy()
    confidence[:, 1] = np.sort(confidence[:, 1])[np.argsort(np.argsort(-confidence[:, 0]))]
    first, second, _ = data.models
    found = failed(small_posterior, confidence=confidence)
    assert ("copulas", f"{first} > {second}") in found
    assert ("replicates", f"{first} and {second}, Kendall's tau") in found
    assert not {subject for check_, subject in found if check_ == "margins"}


def test_check_sees_memory_beyond_the_previous_model(small_posterior: Posterior) -> None:
    """The first model's confidence, put through the third's margin, is remembered past the second."""
    data = small_posterior.data
    confidence = data.confidence.copy()
    confidence[:, 2] = np.sort(confidence[:, 2])[np.argsort(np.argsort(confidence[:, 0]))]
    assert ("markov", " > ".join(data.models)) in failed(small_posterior, confidence=confidence)


def test_check_sees_margins_of_another_shape(small_posterior: Posterior) -> None:
    data = small_posterior.data
    confidence = data.confidence.copy()
    confidence[:, 0] = np.median(confidence[:, 0]) * np.linspace(0.9, 1.1, len(confidence))
    found = failed(small_posterior, confidence=confidence)
    assert ("margins", data.models[0]) in found
    assert ("replicates", f"{data.models[0]}, interquartile range between atoms") in found


def test_check_sees_labels_that_are_not_calibrated(small_posterior: Posterior) -> None:
    """Errors among deferred queries, made up for among the others: only a look at the former sees them."""
    data = small_posterior.data
    correct = data.correct.copy()
    deferred = data.confidence[:, 0] < np.median(data.confidence[:, 0])
    correct[deferred, 1], correct[~deferred, 1] = False, True
    found = failed(small_posterior, correct=correct)
    assert ("deferred", data.models[1]) in found
    turned = data.correct.copy()
    turned[:, 0] = ~turned[:, 0]
    assert ("calibration", data.models[0]) in failed(small_posterior, correct=turned)


@pytest.mark.parametrize(("true", "fitted"), [(0.95, 0.05), (0.05, 0.95)])
def test_check_sees_labels_that_go_together_otherwise(
    small_posterior: Posterior, true: float, fitted: float
) -> None:
    cascade = small_posterior.cascade(0)
    cascade = cascade._replace(
        params=cascade.params._replace(label_corr=LabelCorr(np.float64(true), np.float64(0.0)))
    )
    data = simulate(cascade, 400, seed=2).with_confidence_map(small_posterior.data.confidence_map)
    samples = small_posterior.samples
    unlike = {"label_corr": fitted, "label_corr_slope": 0.0}
    samples = {**samples, **{name: np.full_like(samples[name], value) for name, value in unlike.items()}}
    changed = replace(small_posterior, data=data, samples=samples)
    result = CheckResult.judge(list(check_replicates(jax.random.key(0), changed, 60)), 0.01)
    found = [f for f in result.of("replicates") if f.subject.endswith("correlation of labels")]
    assert len(found) == 3
    for finding in found:
        assert finding.passed is False
        assert (finding.figures["observed"] > finding.figures["mean"]) == (true > fitted)


@pytest.mark.slow
def test_deferred_queries_are_those_of_a_policy(small_posterior: Posterior) -> None:
    class TwoModels:
        models = small_posterior.models[::2]
        thresholds = np.array([-0.3])
        abstain_thresholds: np.ndarray | None = None

    found = check(small_posterior, TwoModels(), num_draws=20)  # type: ignore[arg-type]
    (deferred,) = found.of("deferred")
    data = small_posterior.data
    assert deferred.subject == data.models[2]
    assert deferred.figures["num_queries"] == np.sum(data.confidence[:, 0] < -0.3)
    cautious = TwoModels()
    low = float(np.quantile(data.confidence[:, 0], 0.2))
    cautious.abstain_thresholds = np.array([low, -np.inf])
    (fewer,) = check(small_posterior, cautious, num_draws=20).of("deferred")  # type: ignore[arg-type]
    assert fewer.figures["num_queries"] == np.sum(
        (data.confidence[:, 0] >= low) & (data.confidence[:, 0] < -0.3)
    )
    assert len(found.of("copulas")) == 3  # the model's fit does not depend on the policy


@pytest.mark.slow
def test_what_a_log_of_a_running_cascade_cannot_be_asked(small_data: Any) -> None:
    """A margin seen on hard queries only is not tested; the pair still is."""
    two = small_data.select(small_data.models[:2])
    kept = two.confidence[:, 0] < np.median(two.confidence[:, 0])
    hide = np.stack([np.zeros_like(kept), ~kept], axis=1)
    log = replace(
        two,
        confidence=np.where(hide, np.nan, two.confidence),
        labelled=two.labelled & ~hide,
        correct=two.correct & ~hide,
    )
    short = fit(
        log, "map", seed=0, num_chains=1, num_samples=1, copula="independence", upstream=False, progress=False
    )
    found = check(short, num_draws=2)
    assert short.spec.structure == "chain"
    assert [f.passed is None for f in found.of("margins")] == [False, True]
    assert [f.passed is None for f in found.of("copulas")] == [False]
    assert [f.passed for f in found.of("sampling")] == [None]  # a single point
    assert [f.subject for f in found.of("replicates")] == ["tables"]
    assert {f.subject for f in found.not_asked} >= {"tables", two.models[1]}


@pytest.mark.slow
def test_accuracy_of_answers_that_someone_chose_to_label_is_not_replicated(
    small_posterior: Posterior,
) -> None:
    """They may be the hard ones: only their calibration, given the confidences, can be asked."""
    data = small_posterior.data
    hard = data.confidence < np.median(data.confidence, axis=0)
    some = replace(small_posterior, data=replace(data, labelled=hard, correct=data.correct & hard))
    found = check(some, num_draws=20)
    asked = {f.subject: f.passed is not None for f in found.of("replicates")}
    assert [asked[f"{model}, accuracy"] for model in data.models] == [False] * 3
    assert [is_asked for subject, is_asked in asked.items() if "labels" in subject] == [False] * 3
    assert {(f.passed, f.figures["num_queries"]) for f in found.of("calibration")} == {(True, 60)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0.0}, "level must lie between 0 and 1; got 0.0"),
        ({"num_draws": 1}, "num_draws must be at least 2; got 1"),
    ],
)
def test_bad_arguments_are_refused(small_posterior: Posterior, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(small_posterior, **change)


def test_policy_of_other_models_is_refused(small_posterior: Posterior) -> None:
    class Other:
        models = ("small-3b", "nobody")
        thresholds = np.array([0.0])

    with pytest.raises(InputError, match="policy has model 'nobody'"):
        check(small_posterior, Other())  # type: ignore[arg-type]


def test_tests_are_judged_together() -> None:
    """Of fifty right questions one at 1 % is no failure, one at 0.01 % is."""
    rng = np.random.default_rng(0)
    some = [Finding("margins", str(i), True, "", {}, p) for i, p in enumerate(rng.uniform(0.1, 1, 49))]
    assert CheckResult.judge([*some, Finding("copulas", "x", True, "", {}, 0.01)], 0.01).passed
    judged = CheckResult.judge([*some, Finding("copulas", "x", True, "", {}, 0.0001)], 0.01)
    assert [f.subject for f in judged.failures] == ["x"]
    assert [f.check for f in judged.findings][-1] == "copulas"  # in the order of the checks


def test_pictures(small_posterior: Posterior, result: CheckResult) -> None:
    import matplotlib.pyplot as plt

    axes = plot_calibration(small_posterior, num_draws=20)
    observed = [line.get_ydata()[0] for line in axes[0].lines if line.get_marker() == "o"]
    assert np.mean(observed) == pytest.approx(small_posterior.data.correct[:, 0].mean(), abs=0.01)
    assert len(plot_calibration(small_posterior, deferred=True, num_draws=20)) == 2
    lines = plot_margins(small_posterior, num_draws=10)[2].lines
    assert len(lines) == 10
    accuracy, tau, agreement = plot_replicates(result)
    assert [t.get_text() for t in accuracy.get_yticklabels()] == list(small_posterior.models)
    assert len(tau.get_yticklabels()) == len(agreement.get_yticklabels()) == 3
    plt.close("all")


@pytest.mark.long
@pytest.mark.filterwarnings(
    "ignore::cascade_bayes.errors.DataWarning"
)  # of labels all alike, negative slopes
def test_right_models_seldom_fail() -> None:
    """Tables of the model itself, fitted: each test's p-values are no smaller than uniform ones."""
    prior = sample_prior(num_draws=60, seed=1)
    tables = [simulate(prior.cascade(i), 100, seed=i) for i in range(60)]
    fits = fit_batch(tables, seed=0, num_chains=2, num_samples=300, max_rounds=1, progress=False)
    found = [check(one, num_draws=60) for one in fits if isinstance(one, Posterior)]
    assert len(found) > 50
    for name in ("margins", "copulas", "markov", "calibration", "deferred", "replicates"):
        p_values = np.array([f.p_value for one in found for f in one.of(name) if f.p_value is not None])
        share = np.mean(p_values < 0.05)
        # Those of one table hang together: the error of a share is that of the number of tables.
        assert share < 0.05 + 3 * np.sqrt(0.05 / len(found)), (name, share)
