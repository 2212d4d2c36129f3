"""What more labels are worth: against normal conjugate answers, and what must hold whatever the model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cascade_bayes import error_cost_frontier, value_of_information
from cascade_bayes.decision import information as information_module
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.information import Information
from cascade_bayes.decision.new_queries import NONE, Statistics, simulate_new
from cascade_bayes.decision.regression import fit_folds, predict_from_sample, ridge
from cascade_bayes.errors import InputError
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import log_labels
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.shorter import passes_on

DRAWS = 4000


def normal_statistics(
    rng: np.random.Generator, spread: float, noise: float, sizes: np.ndarray
) -> tuple[Statistics, np.ndarray]:
    """Statistics of normal observations, and one that says nothing; and the normal means."""
    mean = rng.normal(0.3, spread, DRAWS)
    own = [mean + rng.normal(0, noise / np.sqrt(size), DRAWS) for size in sizes]
    nothing = rng.normal(size=(DRAWS, len(sizes), 1)) / np.sqrt(sizes)[:, None]
    many = 100
    draw = np.stack([mean, np.zeros(DRAWS)], axis=1) + rng.normal(size=(DRAWS, 2)) * [noise, 1.0] / np.sqrt(
        many
    )
    statistics = Statistics(
        sample=np.concatenate([np.stack(own, axis=1)[..., None], nothing], axis=2),
        draw=draw,
        noise=np.diag([noise**2, 1.0]),
        many=many,
        sizes=sizes,
        names=["a", NONE],
    )
    return statistics, mean


def test_two_actions_and_a_normal_mean() -> None:
    """One loses nothing, the other the mean: the value of a sample is known (Raiffa & Schlaifer 1961)."""
    spread, noise, sizes = 1.0, 4.0, np.array([4, 16, 64])
    statistics, mean = normal_statistics(np.random.default_rng(0), spread, noise, sizes)
    loss = np.stack([np.zeros(DRAWS), mean], axis=1)
    folds = fit_folds(loss, statistics)
    for j, size in enumerate(sizes):
        found = predict_from_sample(folds, statistics, j, np.array([True, True]))
        share = spread**2 / (spread**2 + noise**2 / size)
        # The posterior mean shrinks the sample's towards the prior's.
        wanted = 0.3 + share * (statistics.sample[:, j, 0] - 0.3)
        np.testing.assert_allclose(found[:, 1], wanted, atol=0.12)
        gain = -loss[np.arange(DRAWS), np.argmin(found, axis=1)]
        tell = spread * np.sqrt(share)
        exact = tell * stats.norm.pdf(0.3 / tell) - 0.3 * stats.norm.cdf(-0.3 / tell)
        assert gain.mean() == pytest.approx(exact, abs=4 * gain.std() / np.sqrt(DRAWS))
        # Without that statistic nothing is told.
        blind = predict_from_sample(folds, statistics, j, np.array([False, True]))
        assert np.all(np.argmin(blind, axis=1) == 0)


def test_predictions_do_not_see_their_own_draw() -> None:
    """Noise is predicted by nothing, though thirty statistics of 300 draws could fit a tenth of it."""
    rng = np.random.default_rng(1)
    known = rng.normal(size=(300, 30))
    statistics = Statistics(known[:, None], known, np.zeros((30, 30)), 2, np.array([1]), ["a"] * 30)
    noise = rng.normal(size=(300, 8))

    def correlations(predicted: np.ndarray) -> np.ndarray:
        return np.array([np.corrcoef(predicted[:, i], noise[:, i])[0, 1] for i in range(8)])

    found = predict_from_sample(fit_folds(noise, statistics), statistics, 0, np.ones(30, bool))
    assert correlations(found).mean() < 0.05
    assert correlations(known @ ridge(known, noise)).mean() > 0.2


def test_ridge_is_the_penalised_least_squares() -> None:
    """It solves the normal equations at one of the penalties, the same for scaled targets."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 5))
    y = x @ rng.normal(size=(5, 2)) + rng.normal(size=(80, 2))
    found = ridge(x, y)
    for i in range(2):
        residual = x.T @ (y[:, i] - x @ found[:, i])
        penalty = residual / found[:, i]
        np.testing.assert_allclose(penalty, penalty[0], rtol=1e-8)
        assert 0 < penalty[0] < 80 * 1e3
    np.testing.assert_allclose(ridge(x, 3.0 * y), 3.0 * found)


@pytest.fixture(scope="module")
def policy(small_posterior):
    return error_cost_frontier(small_posterior, models="all", error_prices=[2e-3], num_draws=20).policy(0)


@pytest.fixture(scope="module")
def information(small_posterior, policy) -> Information:
    return value_of_information(small_posterior, policy, [400, 20], num_draws=200, seed=3)


@pytest.mark.slow
def test_perfect_information_is_what_each_draws_own_thresholds_save(information, small_posterior) -> None:
    price = information.error_price
    frontier = error_cost_frontier(small_posterior, models="all", error_prices=[price], num_draws=200)
    chain = discretise(small_posterior, None, 200)
    both = np.concatenate([frontier.thresholds, frontier.draw_thresholds[0]])
    outcome = chain.outcomes(chain.positions(Cuts(both)))
    loss = np.asarray(outcome.cost + price * outcome.error)
    saved = loss[0] - np.diagonal(loss[1:])
    calls_for_something = ~passes_on(Cuts(frontier.draw_thresholds[0])).any(axis=1)
    assert calls_for_something.sum() > 100
    np.testing.assert_allclose(
        information.perfect[calls_for_something].mean(), saved[calls_for_something].mean(), rtol=0.03
    )
    assert np.all(information.perfect >= 0)


def test_thresholds_of_a_shorter_cascade_are_no_candidates(small_posterior, policy) -> None:
    """A model that passes every query on is paid for nothing; the chain of all predicts something else."""
    chain = discretise(small_posterior, None, 20)
    defer = np.array([[-0.5, -0.4], [np.inf, -0.4], [-0.5, np.inf], [-np.inf, np.inf]])
    left_out = information_module._left_out(chain, chain.positions(Cuts(defer)))
    assert left_out.tolist() == [False, True, True, True]
    of_all, of_own, where = information_module._losses(
        chain, policy, 10.0
    )  # dear errors: some draws skip one
    assert np.isfinite(of_all).all()
    assert np.isinf(of_own).any()
    assert where.shape == (20, 2)


def test_queries_that_end_early_are_left_out(small_posterior) -> None:
    """Where gaps are at random the complete queries stand for all; of a log that ran, the model does."""
    chain = discretise(small_posterior, None, 5)
    ends = jnp.zeros((2, chain.queries.z.shape[1])).at[0, :7].set(1.0)
    gaps = chain._replace(queries=chain.queries._replace(ends=ends))
    found = information_module._of_whole_queries(gaps, at_random=True).queries
    assert found.ends is None
    assert not np.any(found.weight[:, :7])
    np.testing.assert_allclose(found.weight.sum(axis=1), chain.queries.weight.sum(axis=1))
    assert information_module._of_whole_queries(gaps, at_random=False).queries is None
    every = chain._replace(queries=chain.queries._replace(ends=jnp.ones_like(ends)))
    assert information_module._of_whole_queries(every, at_random=True).queries is None
    assert information_module._of_whole_queries(chain, at_random=False) is chain


@pytest.mark.slow
def test_more_queries_and_more_labels_are_worth_more(information, small_posterior) -> None:
    assert information.num_queries.tolist() == [20, 400]
    assert information.labels == ("all models", *small_posterior.models, "no labels")
    assert 0.1 * information.evpi < information.evsi[0, 1] < information.evpi
    assert np.all(information.evsi[0, 1] >= information.evsi[-1] - 1e-9)
    assert np.all(information.narrowing[0, 1] > information.narrowing[0, 0])
    assert np.all(information.narrowing[0, 1] < 0.8)
    frame = information.to_frame()
    assert len(frame) == 10
    assert "400 more queries with all labels would save" in information.sentence()


@pytest.mark.slow
def test_new_queries_are_those_that_the_draws_predict(small_posterior) -> None:
    """Rates of being right, among observed queries and new ones, and how many are observed."""
    chain = discretise(small_posterior, None, 100)
    z, right = (np.asarray(x) for x in simulate_new(chain, 400, seed=0))
    rate = jax.nn.sigmoid(jax.vmap(correctness_logit)(z, chain.chain.params))
    np.testing.assert_allclose(right.mean(axis=(0, 2)), np.mean(rate, axis=(0, 2)), atol=0.01)
    # Labels of one query go together, among observed queries as among new ones.
    every = jnp.ones((2, z.shape[2]), bool)
    corr = chain.chain.params.label_corr
    both = jax.vmap(lambda x, z, r: log_labels(x[:2], z[:2], every, every, r))(
        jax.scipy.special.logit(rate), z, corr
    )
    drawn = np.isin(np.round(z[:, 0], 9), np.round(np.asarray(chain.queries.z)[0], 9), invert=True)
    for some in (drawn, ~drawn):
        wanted = np.mean(np.exp(both)[some])
        assert np.mean((right[:, 0] & right[:, 1])[some]) == pytest.approx(wanted, abs=0.012)
        assert abs(wanted - np.mean(np.prod(rate[:, :2], axis=1)[some])) > 0.02
    seen = np.asarray(chain.queries.z)[0]
    share = np.isin(np.round(z[:, 0], 9), np.round(seen[np.isfinite(seen)], 9)).mean(axis=1)
    alone = np.mean(np.isinf(z[:, 0]), axis=1)
    weight = np.asarray(chain.queries.weight).sum(axis=1)
    assert abs(np.mean(share + alone - weight)) < 0.12
    none = discretise(small_posterior, None, 100, prior_queries=np.inf)
    fresh = np.asarray(simulate_new(none, 400, seed=0)[0])
    assert not np.isin(fresh[:, 0][np.isfinite(fresh[:, 0])], seen).any()


def test_bad_requests(small_posterior, policy) -> None:
    for more, clue in (
        ({"num_queries": [0]}, "num_queries must be at least 1; got 0"),
        ({"error_price": -1.0}, "error_price must be a positive number"),
        ({"num_draws": 20}, "num_draws must be at least 50"),
    ):
        with pytest.raises(InputError, match=clue):
            value_of_information(small_posterior, policy, **({"num_queries": [10]} | more))
    alone = dataclasses.replace(
        policy,
        models=policy.models[:1],
        thresholds=np.zeros(0),
        draw_thresholds=policy.draw_thresholds[:, :0],
        call_cost=policy.call_cost[:1],
        prediction=policy.prediction._replace(reach_prob=(1.0,)),
    )
    with pytest.raises(InputError, match="it is small-3b alone, which has no thresholds"):
        value_of_information(small_posterior, alone, [10])
