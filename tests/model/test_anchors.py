"""What confidences say without labels, and what it does to the prior of how often models are right."""

import itertools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from numpyro import handlers
from numpyro.infer.util import log_density

from cascade_bayes import Posterior, Priors, fit
from cascade_bayes.data import CascadeData
from cascade_bayes.inference.prior import draw_sites
from cascade_bayes.model.anchors import Anchors, accuracy_locs, find_anchors, find_claims, rank_line
from cascade_bayes.model.cascade import accuracy_prior, sample_calibration
from cascade_bayes.model.correctness import own_logit
from cascade_bayes.model.params import AtomLayout, Calibration

PRIORS = Priors(
    intercept_loc=0.2,
    intercept_scale=0.8,
    step_loc=0.5,
    step_scale=0.6,
    claim_effect=0.4,
    claim_loc=1.1,
    claim_step=0.7,
)


def of_kind(data: CascadeData, confidence: np.ndarray, kind: str) -> CascadeData:
    """The table with other confidences."""
    return replace(
        data, confidence=confidence, kind=kind, confidence_map=replace(data.confidence_map, kind=kind)
    )


def test_claims_are_mean_probabilities(small_data: CascadeData) -> None:
    found = find_claims(small_data)
    mean = np.exp(small_data.confidence).mean(axis=0)
    np.testing.assert_allclose(found, scipy.special.logit(np.clip(mean, 0.01, 0.99)), rtol=1e-12)
    as_probability = of_kind(small_data, np.exp(small_data.confidence), "probability")
    np.testing.assert_allclose(find_claims(as_probability), found, rtol=1e-12)
    none = np.zeros_like(small_data.labelled)
    unlabelled = replace(small_data, labelled=none, correct=none)
    np.testing.assert_array_equal(find_claims(unlabelled), found)


def test_claims_next_to_certainty_are_cut(small_data: CascadeData) -> None:
    sure = replace(small_data, confidence=np.full_like(small_data.confidence, -1e-9))
    np.testing.assert_allclose(find_claims(sure), np.log(99))


def test_what_has_no_claims(small_data: CascadeData) -> None:
    """Scores are no probabilities; most queries of a log lack the later models, who saw the hard ones."""
    assert find_claims(of_kind(small_data, small_data.confidence, "score")) is None
    num = small_data.num_queries
    for seen, known in ((num // 2 - 1, False), ((num + 1) // 2, True)):
        confidence = small_data.confidence.copy()
        confidence[seen:, -1] = np.nan
        found = find_claims(replace(small_data, confidence=confidence))
        assert (found is not None) == known
        if known:
            mean = np.exp(confidence[:seen]).mean(axis=0)
            np.testing.assert_allclose(found, scipy.special.logit(mean), rtol=1e-12)


def test_prior_means_follow_claims() -> None:
    claims = jnp.array([1.6, jnp.nan, 2.0])
    wanted = [0.2 + 0.4 * (1.6 - 1.1), 0.7, 1.2 + 0.4 * (2.0 - 1.1 - 1.4)]
    np.testing.assert_allclose(accuracy_locs(PRIORS, claims), wanted, rtol=1e-12)
    none = replace(PRIORS, claim_effect=0.0)
    np.testing.assert_allclose(accuracy_locs(none, claims), [0.2, 0.7, 1.2], rtol=1e-12)


def test_prior_of_log_odds_is_a_common_part_and_own_ones() -> None:
    claims = jnp.array([0.5, 1.0, 3.0])
    prior = accuracy_prior(PRIORS, claims)
    cov = 0.8**2 + 0.18 * np.eye(3)
    np.testing.assert_allclose(prior.covariance_matrix, cov, rtol=1e-12)
    steps = np.diff(prior.sample(jax.random.key(0), (4000,)), axis=1)
    np.testing.assert_allclose(steps.std(axis=0), 0.6, rtol=0.05)


class TestRanks:
    def test_of_a_continuous_margin_are_standardised_logits(self) -> None:
        z = np.linspace(-2.0, 3.0, 40)
        middle, stretch, at_atoms = rank_line(z, np.array([np.nan]), True)
        assert (middle, stretch) == pytest.approx((0.0, 1.0), abs=1e-12)
        np.testing.assert_array_equal(at_atoms, [0.0])

    def test_are_those_of_a_large_sample(self) -> None:
        """Logistic confidences, of which some stand at certainty, some at impossibility, some at 0.4."""
        rng = np.random.default_rng(0)
        locs, probs = np.array([-np.inf, 0.4, np.inf, np.nan]), [0.1, 0.15, 0.45]
        which = rng.choice(4, 200_000, p=[*probs, 0.3])
        z = np.where(which < 3, locs[np.minimum(which, 2)], rng.logistic(size=which.size))
        middle, stretch, at_atoms = rank_line(z, locs, True)
        order = scipy.stats.rankdata(z) / len(z)
        for a, loc in enumerate(locs[:3]):
            rank = scipy.special.logit(np.mean(order[z == loc]))
            x = np.clip(loc, -6, 6)
            assert stretch * (middle + x + at_atoms[a]) == pytest.approx(rank, abs=0.02)
        assert at_atoms[3] == 0
        # The line goes through the ranks of the rest's quantiles, atoms above its middle counted as above.
        share = 0.1 + 0.3 * np.array([0.05, 0.5, 0.95])
        rest = stretch * (middle + scipy.special.logit([0.05, 0.5, 0.95]))
        np.testing.assert_allclose(np.diff(rest)[[0, 1]].sum(), np.ptp(scipy.special.logit(share)), atol=0.02)
        assert rest[1] == pytest.approx(scipy.special.logit(share[1]), abs=0.02)

    def test_of_a_margin_of_atoms_alone(self) -> None:
        z = np.repeat([-1.0, 0.5, 2.0], [10, 20, 70])
        middle, stretch, at_atoms = rank_line(z, np.array([-1.0, 0.5, 2.0]), False)
        assert (middle, stretch) == (0.0, 1.0)
        counts = np.array([10.5, 20.5, 70.5])
        mid = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
        np.testing.assert_allclose(
            at_atoms + np.array([-1.0, 0.5, 2.0]), scipy.special.logit(mid), rtol=1e-12
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("monotone", [pytest.param(False, marks=pytest.mark.slow), True])
    def test_priors_are_those_of_ranks(self, monotone: bool) -> None:
        """Log odds of being right, slopes by rank and atoms off the curve are as the priors say."""
        locs = np.array([[np.inf, np.nan], [np.nan, np.nan], [-np.inf, 0.7]])
        atoms = np.nonzero(~np.isnan(locs))
        anchors = Anchors(
            np.array([0.5, np.nan, 3.0]),
            np.array([-0.9, 0.0, 0.4]),
            np.array([0.6, 1.0, 0.8]),
            np.array([[-4.0, 0.0], [0.0, 0.0], [3.0, -0.2]]),
        )
        priors = replace(PRIORS, slope_loc=0.5, slope_scale=0.35, atom_effect_scale=0.7)
        ranks = np.array([0.6 * (6 - 4.0 - 0.9), 0.8 * (-6 + 3.0 + 0.4), 0.8 * (0.7 - 0.2 + 0.4)])

        def model() -> None:
            sample_calibration(priors, monotone, anchors, atoms)

        def one(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
            with handlers.seed(rng_seed=key):
                sites = sample_calibration(priors, monotone, anchors, atoms)
            effect = jnp.zeros(locs.shape).at[atoms].set(sites["atom_effect"])
            curve = Calibration(jnp.asarray(locs), sites["intercept"], sites["slope"], effect)
            middle = own_logit(jnp.asarray(-anchors.middle)[:, None], curve)[:, 0]
            at_atoms = own_logit(jnp.where(jnp.isnan(locs), 0.0, locs), curve)[atoms]
            slope = sites["slope"] / anchors.stretch
            off = at_atoms - middle[atoms[0]] - slope[atoms[0]] * ranks
            return sites, jnp.concatenate([middle / jnp.sqrt(1 + slope**2), slope, off])

        sites, found = jax.vmap(one)(jax.random.split(jax.random.key(2), 4000))
        locs_of = accuracy_locs(priors, jnp.asarray(anchors.claims))
        cov = scipy.linalg.block_diag(
            0.8**2 + 0.18 * np.eye(3), 0.35**2 * np.eye(3), 0.7**2 * np.eye(len(ranks))
        )
        mean = np.concatenate([locs_of, np.full(3, 0.5), np.zeros(len(ranks))])
        low = -0.5 / 0.35 if monotone else -np.inf
        slopes = scipy.stats.truncnorm(low, np.inf, 0.5, 0.35)
        if monotone:
            mean[3:6] = slopes.mean()
            cov[range(3, 6), range(3, 6)] = slopes.var()
        np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.06)
        np.testing.assert_allclose(np.cov(found.T), cov, atol=0.06)
        # And the density is theirs, with the Jacobians.
        first = {name: values[0] for name, values in sites.items()}
        got, _ = log_density(model, (), {}, first)
        log_odds, slope, off = np.split(np.asarray(found[0]), [3, 6])
        wanted = scipy.stats.multivariate_normal(np.asarray(locs_of), cov[:3, :3]).logpdf(log_odds)
        wanted -= 0.5 * np.sum(np.log1p(slope**2))
        wanted += np.sum(slopes.logpdf(slope) - np.log(anchors.stretch))
        wanted += np.sum(scipy.stats.norm(0, 0.7).logpdf(off))
        assert float(got) == pytest.approx(float(wanted), rel=1e-9)


def test_accuracy_of_a_curve_over_ranks() -> None:
    """Within 0.011 of the average over a logistic distribution."""
    r, width = np.linspace(-40, 40, 40_001, retstep=True)
    density = scipy.stats.logistic.pdf(r)
    for a, b in itertools.product(np.linspace(-3, 4, 8), np.linspace(-0.5, 1.5, 5)):
        exact = np.sum(density * scipy.special.expit(a + b * r)) * width
        assert scipy.special.expit(a / np.sqrt(1 + b**2)) == pytest.approx(exact, abs=0.011)


def test_anchors_of_a_table_are_those_of_its_models(small_data: CascadeData) -> None:
    layout = AtomLayout(np.full((3, 1), np.inf), np.ones((3, 1)), np.ones(3, bool))
    found = find_anchors(small_data, layout)
    for i, z in enumerate(small_data.logit_score().T):
        middle, stretch, at_atoms = rank_line(z, layout.locs[i], True)
        assert (found.middle[i], found.stretch[i]) == (middle, stretch)
        np.testing.assert_array_equal(found.at_atoms[i], at_atoms)
    np.testing.assert_array_equal(found.claims, find_claims(small_data))
    wider = found.padded(3)
    np.testing.assert_array_equal(wider.at_atoms, np.pad(found.at_atoms, ((0, 0), (0, 2))))


def shifted(data: CascadeData, by: float) -> CascadeData:
    """The table with the last model's raw log odds moved: its standardised confidences stay as they are."""
    odds = np.log(np.expm1(-data.confidence[:, -1]))  # of being wrong
    confidence = data.confidence.copy()
    confidence[:, -1] = -np.logaddexp(0.0, odds - by)
    return replace(data, confidence=confidence).with_confidence_map()


@pytest.fixture(scope="module")
def few(small_data: CascadeData) -> CascadeData:
    """Twenty queries without atoms."""
    rng = np.random.default_rng(0)
    confidence = scipy.special.log_expit(rng.normal([0.0, 1.0], 1.0, (20, 2)))
    two = small_data.take(np.arange(20)).select(small_data.models[:2])
    return replace(two, confidence=confidence).with_confidence_map()


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["modular", "chain"])
def test_a_model_that_claims_more_is_expected_to_be_right_more_often(
    few: CascadeData, structure: str
) -> None:
    """All else equal; without an effect of claims nothing changes."""
    more = shifted(few, 2.0)
    np.testing.assert_allclose(more.logit_score(), few.logit_score(), atol=1e-9)
    gain = {}
    for effect in (0.0, 0.5):
        priors = Priors(claim_effect=effect, num_components=2)
        means = [
            fit(table, "map", seed=0, structure=structure, priors=priors, progress=False).samples["intercept"]
            for table in (few, more)
        ]
        gain[effect] = (means[1] - means[0])[0, 0]
    np.testing.assert_allclose(gain[0.0], 0.0, atol=1e-3)
    assert gain[0.5][1] > 0.1
    assert abs(gain[0.5][0]) < gain[0.5][1]


@pytest.mark.slow
def test_anchors_are_kept_with_the_posterior(small_posterior: Posterior, tmp_path: Path) -> None:
    small_posterior.save(tmp_path / "posterior.nc")
    loaded = Posterior.load(tmp_path / "posterior.nc")
    anchors = loaded.spec.anchors
    assert anchors is not None
    for found, wanted in zip(anchors, find_anchors(loaded.data, loaded.spec.layout), strict=True):
        np.testing.assert_array_equal(found, wanted)
    sites, _ = draw_sites(jax.random.split(jax.random.key(1), 2000), loaded.spec)
    priors = loaded.spec.priors
    steeper = np.mean(np.sqrt(1 + np.random.default_rng(0).normal(0.5, 0.35, 100_000) ** 2))
    wanted = steeper * accuracy_locs(priors, jnp.asarray(anchors.claims))
    wanted += anchors.middle * anchors.stretch * priors.slope_loc
    np.testing.assert_allclose(sites["intercept"].mean(axis=0), wanted, atol=0.1)
