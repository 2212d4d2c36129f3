"""Predictions of given thresholds: of all queries to come, and of so many of them."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from cascade_bayes import predict
from cascade_bayes.decision.costs import paid_by_new_queries, query_weights
from cascade_bayes.decision.frontier import error_cost_frontier
from cascade_bayes.decision.predict import Predicted
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.inference.predictive import replicate

PRICE = 0.002


def test_of_all_queries_is_what_the_frontier_has(small_posterior) -> None:
    swept = error_cost_frontier(small_posterior, error_prices=[PRICE, 10 * PRICE], num_draws=20)
    found = predict(small_posterior, swept.thresholds, num_draws=20)
    np.testing.assert_allclose(found.error, swept.error, atol=1e-9)
    np.testing.assert_allclose(found.cost, swept.cost, rtol=1e-9)
    np.testing.assert_allclose(found.reach_prob, swept.reach_prob, atol=1e-9)
    one = predict(small_posterior, swept.policy(1), num_draws=20)
    np.testing.assert_array_equal(one.error, found.error[1])
    assert one.reach_prob.shape == (20, 3)


def test_of_new_queries_is_what_simulated_tables_realise(small_posterior) -> None:
    """Tables drawn from the same draws, costs of observed queries, and the policy run over them."""
    num_queries, num_draws = small_posterior.data.num_queries, small_posterior.num_draws
    thresholds = error_cost_frontier(small_posterior, error_prices=[PRICE], num_draws=20).thresholds[0]
    found = predict(small_posterior, thresholds, num_queries=num_queries, num_draws=num_draws, seed=1)
    tables = replicate(
        jax.random.key(0),
        small_posterior.params(num_draws),
        small_posterior.spec.copulas_of(range(3)),
        small_posterior.spec.layout,
        small_posterior.data,
    )
    rng = np.random.default_rng(0)
    weights = query_weights(num_queries, num_draws)
    realised = []
    for d in range(num_draws):
        paid = paid_by_new_queries(rng, small_posterior.data.cost, weights[d], num_queries)
        table = replace(
            small_posterior.data,
            confidence=tables.confidence[d],
            correct=tables.correct[d].astype(bool),
            cost=np.diff(paid, axis=1, prepend=0.0),
        )
        realised.append(realise(table, thresholds))
    for name, got in (
        ("error", found.error),
        ("cost", found.cost),
        ("reach_prob", found.reach_prob[:, 1]),
    ):
        wanted = np.array([getattr(r, name) if name != "reach_prob" else r.reach_prob[1] for r in realised])
        se = np.sqrt((got.var() + wanted.var()) / num_draws)
        assert abs(got.mean() - wanted.mean()) <= 4 * se, name
        # The standard deviation of each is known to one part in sqrt(2 * 200), 5 %.
        assert abs(np.log(got.std() / wanted.std())) <= 4 * np.sqrt(1 / num_draws), name


def test_more_queries_leave_the_posterior_alone(small_posterior) -> None:
    thresholds = [-0.2, -0.1]
    limit = predict(small_posterior, thresholds)
    few, many = (predict(small_posterior, thresholds, num_queries=n) for n in (25, 20_000))
    for figure in ("error", "cost"):
        wide, close, exact = (np.diff(x.interval(figure))[0] for x in (few, many, limit))
        assert wide > 1.2 * exact
        np.testing.assert_allclose(close, exact, rtol=0.1)
    np.testing.assert_allclose(many.reach_prob, limit.reach_prob, atol=5 * np.sqrt(0.25 / 20_000))
    assert many.interval("reach_prob", 0.5).shape == (2, 3)


def test_new_queries_pay_what_observed_ones_paid() -> None:
    """Means and variances of sums under unequal weights; a missing cost is another query's."""
    cost = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, np.nan], [4.0, np.nan, np.nan]])
    weights = np.array([0.5, 0.3, 0.2])
    paid = paid_by_new_queries(np.random.default_rng(0), cost, weights, 200_000)
    mean = np.array([0.5 * 1 + 0.3 * 2 + 0.2 * 4, (0.5 * 10 + 0.3 * 20) / 0.8, 100.0])
    np.testing.assert_allclose(paid.mean(axis=0), np.cumsum(mean), rtol=5e-3)
    # Of a whole row the costs go together.
    together = paid[:, 1][np.isin(paid[:, 0], [1.0])]
    assert set(together.tolist()) == {11.0}
    assert set(paid[:, 2] - paid[:, 1]) == {100.0}


@pytest.mark.parametrize(
    ("thresholds", "options", "message"),
    [
        ([0.0], {}, "thresholds must be 2 numbers, one fewer than the models; got shape"),
        ([0.0, np.nan], {}, "thresholds must be numbers or infinite; got nan"),
        ([0.0, 0.0], {"num_queries": 0}, "num_queries must be at least 1; got 0"),
        ([0.0, 0.0], {"models": ["nobody"]}, "model 'nobody' is not in the posterior"),
    ],
)
def test_bad_requests(small_posterior, thresholds, options, message) -> None:
    with pytest.raises(InputError, match=message):
        predict(small_posterior, thresholds, **options)


def test_bad_intervals() -> None:
    draws = Predicted(np.zeros(3), np.zeros(3), np.ones((3, 2)))
    with pytest.raises(InputError, match="figure must be one of error, cost, reach_prob; got 'loss'"):
        draws.interval("loss")
    with pytest.raises(InputError, match="probability must lie between 0 and 1; got 90"):
        draws.interval("error", 90)
