"""Predictions of given thresholds: of all queries to come, and of so many of them."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from cascade_bayes import predict
from cascade_bayes.decision.predict import Predicted
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.engine.costs import Payments
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.inference.predictive import replicate
from cascade_bayes.rule import follow

PRICE = 0.002


@pytest.mark.slow
def test_of_all_queries_is_what_the_frontier_has(small_posterior) -> None:
    swept = error_cost_frontier(small_posterior, models="all", error_prices=[PRICE, 10 * PRICE], num_draws=20)
    found = predict(small_posterior, swept.thresholds, num_draws=20)
    np.testing.assert_allclose(found.error, swept.error, atol=1e-9)
    np.testing.assert_allclose(found.cost, swept.cost, rtol=1e-9)
    np.testing.assert_allclose(found.reach_prob, swept.reach_prob, atol=1e-9)
    one = predict(small_posterior, swept.policy(1), num_draws=20)
    np.testing.assert_allclose(one.error, found.error[1], rtol=1e-12)
    assert one.reach_prob.shape == (20, 3)


@pytest.mark.slow
def test_of_new_queries_is_what_simulated_tables_realise(small_posterior) -> None:
    """Tables drawn from the same draws, in which each call costs what the observed ones do."""
    num_queries, num_draws = small_posterior.data.num_queries, small_posterior.num_draws
    thresholds = error_cost_frontier(
        small_posterior, models="all", error_prices=[PRICE], num_draws=20
    ).thresholds[0]
    found = predict(
        small_posterior,
        thresholds,
        num_queries=num_queries,
        num_draws=num_draws,
        prior_queries=np.inf,
        seed=1,
    )
    tables = replicate(
        jax.random.key(0),
        small_posterior.params(num_draws),
        small_posterior.spec.copulas_of(range(3)),
        small_posterior.spec.layout,
        small_posterior.data,
    )
    assert np.all(np.ptp(small_posterior.data.cost, axis=0) == 0)
    realised = [
        realise(
            replace(
                small_posterior.data, confidence=tables.confidence[d], correct=tables.correct[d].astype(bool)
            ),
            thresholds,
        )
        for d in range(num_draws)
    ]
    for name, got, wanted in (
        ("error", found.error, [r.error for r in realised]),
        ("cost", found.cost, [r.cost for r in realised]),
        ("reach_prob", found.reach_prob[:, 1], [r.reach_prob[1] for r in realised]),
    ):
        se = np.sqrt((got.var() + np.var(wanted)) / num_draws)
        assert abs(got.mean() - np.mean(wanted)) <= 4 * se, name
        # The log of a standard deviation is known to 1 / sqrt(2 n), of a ratio of two to 1 / sqrt(n).
        assert abs(np.log(got.std() / np.std(wanted))) <= 4 / np.sqrt(num_draws), name


@pytest.mark.slow
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
    stops = limit.stop_prob
    np.testing.assert_allclose(stops.sum(axis=-1), 1.0)
    np.testing.assert_allclose(stops[:, 0], 1 - limit.reach_prob[:, 1])
    np.testing.assert_allclose(limit.interval("stop_prob"), np.quantile(stops, [0.05, 0.95], axis=0))
    np.testing.assert_allclose(limit.loss(0.02), limit.cost + 0.02 * limit.error)


class TestPayments:
    """Three models; the queries that the first one defers cost twice as much with each."""

    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=(400, 3))
    long = 1.0 + (confidence[:, :1] < 0.5)
    cost = long * np.array([1.0, 10.0, 100.0]) * rng.lognormal(0, 0.3, (400, 1))
    thresholds = np.array([0.5, 0.5])
    reach = np.array([[1.0, 0.5, 0.25]]).repeat(2000, axis=0)

    def payments(self, cost: np.ndarray, num_draws: int = 2000) -> Payments:
        return Payments(self.confidence, cost, self.thresholds, num_draws)

    def by_hand(self) -> tuple[float, float]:
        """Mean and its standard error, with the shares of stops known."""
        stop = follow(self.confidence, self.thresholds).stop
        paid = np.cumsum(self.cost, axis=1)[np.arange(400), stop]
        parts = [paid[stop == s] for s in range(3)]
        share = np.array([0.5, 0.25, 0.25])
        means, errors = zip(*[(x.mean(), x.std() / np.sqrt(len(x))) for x in parts], strict=True)
        return float(share @ means), float(np.sqrt(np.sum((share * errors) ** 2)))

    def test_expected_follows_the_queries_that_stop_there(self) -> None:
        draws = self.payments(self.cost).expected(self.reach)
        mean, error = self.by_hand()
        np.testing.assert_allclose(draws.mean(), mean, rtol=0.02)
        np.testing.assert_allclose(draws.std(), error, rtol=0.15)
        ignoring = float(np.array([1.0, 0.5, 0.25]) @ self.cost.mean(axis=0))
        assert abs(ignoring / mean - 1) > 0.2

    def test_draws_of_new_queries_have_that_mean(self) -> None:
        payments, rng = self.payments(self.cost, 400), np.random.default_rng(1)
        stops = np.array([1000, 500, 500])
        drawn = payments.draw(rng, np.tile(stops, (400, 1))) / 2000
        expected = payments.expected(self.reach[:400])
        noise = np.std(drawn - expected)
        assert abs(np.mean(drawn - expected)) <= 4 * noise / np.sqrt(400)
        # Given the weights, what is left is the spread among queries that stop at the same model.
        paid = np.cumsum(self.cost, axis=1)
        stop = follow(self.confidence, self.thresholds).stop
        within = [paid[stop == s, s].var() * n for s, n in enumerate(stops)]
        np.testing.assert_allclose(noise, np.sqrt(np.sum(within)) / 2000, rtol=0.2)

    def test_missing_calls_are_paid_as_others_were(self) -> None:
        cost = np.tile([1.0, 10.0, 100.0], (400, 1))
        cost[::3, 2], cost[1::3, 1:] = np.nan, np.nan
        payments = self.payments(cost, 50)
        np.testing.assert_allclose(payments.expected(self.reach[:50]), 1 + 5 + 25)
        drawn = payments.draw(np.random.default_rng(0), np.tile([2, 1, 1], (50, 1)))
        np.testing.assert_allclose(drawn, 2 * 1 + 11 + 111)

    def test_a_model_at_which_no_query_stops(self) -> None:
        never = Payments(self.confidence, self.cost, np.array([-np.inf, 0.5]), 500)
        found = never.expected(np.array([[1.0, 1.0, 1.0]]).repeat(500, axis=0))
        np.testing.assert_allclose(found.mean(), self.cost.sum(axis=1).mean(), rtol=0.02)

    def test_rows_that_do_not_say_where_they_stop(self) -> None:
        confidence = self.confidence.copy()
        confidence[:200, 0] = np.nan
        half = Payments(confidence, self.cost, self.thresholds, 2000).expected(self.reach)
        rest = Payments(confidence[200:], self.cost[200:], self.thresholds, 2000).expected(self.reach)
        np.testing.assert_allclose(half.mean(), rest.mean(), rtol=0.01)


@pytest.mark.parametrize(
    ("thresholds", "options", "message"),
    [
        ([0.0], {}, "thresholds must be 2 numbers, one fewer than the models; got shape"),
        ([0.0, np.nan], {}, "thresholds must be numbers or infinite; got nan"),
        ([0.0, 0.0], {"num_queries": 0}, "num_queries must be at least 1; got 0"),
        ([0.0, 0.0], {"num_draws": 0}, "num_draws must be at least 1; got 0"),
        ([0.0, 0.0], {"models": ["nobody"]}, "model 'nobody' is not in the posterior"),
    ],
)
def test_bad_requests(small_posterior, thresholds, options, message) -> None:
    with pytest.raises(InputError, match=message):
        predict(small_posterior, thresholds, **options)


def test_bad_intervals() -> None:
    draws = Predicted(*np.zeros((2, 3)), np.ones((3, 2)), np.zeros(3), None, np.zeros(3))
    with pytest.raises(InputError, match=r"one of error, cost, .*, expense, stop_prob, loss; got 'losses'"):
        draws.interval("losses")
    with pytest.raises(InputError, match="the interval of a loss needs error_price"):
        draws.interval("loss")
    np.testing.assert_array_equal(draws.interval("loss", error_price=2.0), [0.0, 0.0])
    with pytest.raises(InputError, match="probability must lie between 0 and 1; got 90"):
        draws.interval("error", 90)
