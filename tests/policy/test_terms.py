"""What is paid for besides errors: latency, and costs that go with the confidence."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from cascade_bayes import Terms, error_cost_frontier, predict
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.new_queries import simulate_new
from cascade_bayes.engine.costs import TREND_SCALE, call_expense, expense, find_trend, latency
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.correctness import MAX_REGRESSOR
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.terms import COSTS_ALONE
from cascade_bayes.rule import follow

PER_SECOND = 3e-4
"""US dollars."""


def with_latency(posterior: Posterior, seed: int = 0) -> Posterior:
    """The same draws, of a table that knows how long calls took, all but one of them."""
    data = posterior.data
    milliseconds = np.random.default_rng(seed).gamma(4.0, 200.0, data.confidence.shape)
    milliseconds[3, 1] = np.nan
    return replace(posterior, data=replace(data, latency_ms=milliseconds))


class TestLatency:
    @pytest.mark.slow
    def test_is_a_cost(self, small_posterior: Posterior) -> None:
        """The same thresholds as where every call costs more by what its latency does."""
        slow = with_latency(small_posterior)
        data = slow.data
        seconds = np.asarray(data.latency_ms) / 1000
        filled = np.where(np.isnan(seconds), np.nanmean(seconds, axis=0), seconds)
        dear = replace(
            data,
            latency_ms=None,
            cost=data.cost + PER_SECOND * filled,
            call_cost=data.call_cost + PER_SECOND * np.nanmean(seconds, axis=0),
        )
        how = {"error_prices": [0.01], "num_draws": 20}
        one = error_cost_frontier(slow, models="all", latency_price=PER_SECOND, **how)
        other = error_cost_frontier(replace(small_posterior, data=dear), models="all", **how)
        np.testing.assert_allclose(one.thresholds, other.thresholds, rtol=1e-9)
        np.testing.assert_allclose(one.draw_thresholds, other.draw_thresholds, rtol=1e-9)
        np.testing.assert_allclose(
            one.expense, other.cost, rtol=2e-3
        )  # but for the latency that is not known
        free = error_cost_frontier(slow, models="all", **how)
        assert one.predicted.latency is not None
        assert one.predicted.latency.mean() < free.predicted.latency.mean()
        np.testing.assert_allclose(one.expense, one.cost + PER_SECOND * one.predicted.latency, rtol=1e-12)
        policy = one.policy(0)
        assert policy.prediction.latency == pytest.approx(one.predicted.latency.mean())
        assert policy.prediction.latency_q05 < policy.prediction.latency < policy.prediction.latency_q95

    def test_realised(self, small_posterior: Posterior) -> None:
        slow = with_latency(small_posterior)
        data, policy = (
            slow.data,
            error_cost_frontier(slow, models="all", error_prices=[0.01], num_draws=20).policy(0),
        )
        stop = follow(data.confidence, policy.thresholds).stop
        known = data.take(np.arange(data.num_queries) != 3)
        found = realise(known, policy.thresholds)
        paid = [known.latency_ms[q, : s + 1].sum() / 1000 for q, s in enumerate(np.delete(stop, 3))]
        assert found.latency == pytest.approx(np.mean(paid))
        assert found.latency_se == pytest.approx(np.std(paid, ddof=1) / np.sqrt(len(paid)))
        evaluation = policy.evaluate(known)
        assert evaluation.realised_loss == pytest.approx(found.cost + 0.01 * found.error)
        priced = replace(policy, terms=Terms(latency_price=PER_SECOND)).evaluate(known)
        assert priced.realised_loss == pytest.approx(evaluation.realised_loss + PER_SECOND * found.latency)
        unknown = replace(policy, terms=Terms(latency_price=PER_SECOND)).evaluate(small_posterior.data)
        assert unknown.realised_loss is None
        assert "latency" not in unknown.sentence()

    @pytest.mark.slow
    def test_of_new_queries(self, small_posterior: Posterior) -> None:
        slow = with_latency(small_posterior)
        terms = Terms(latency_price=PER_SECOND)
        limit = predict(slow, [-0.1, -0.1], num_draws=200, terms=terms)
        many = predict(slow, [-0.1, -0.1], num_draws=200, num_queries=5000, terms=terms)
        assert many.latency.mean() == pytest.approx(limit.latency.mean(), rel=0.02)
        np.testing.assert_allclose(many.expense, many.cost + PER_SECOND * many.latency, rtol=1e-12)
        few = predict(slow, [-0.1, -0.1], num_draws=200, num_queries=30, terms=terms)
        assert few.latency.std() > 1.5 * limit.latency.std()
        with pytest.raises(InputError, match="latency is not known"):
            predict(small_posterior, [-0.1, -0.1], num_draws=20).interval("latency")

    @pytest.mark.slow
    def test_unknown(self, small_posterior: Posterior) -> None:
        with pytest.raises(InputError, match="latency_price needs a column latency_ms"):
            error_cost_frontier(small_posterior, models="all", error_prices=[0.01], latency_price=1e-3)
        slow = with_latency(small_posterior)
        none = np.array(slow.data.latency_ms)
        none[:, 1] = np.nan
        partly = replace(slow, data=replace(slow.data, latency_ms=none))
        with pytest.raises(
            InputError, match="every model of the cascade; the fitted table has none of 'medium-8b'"
        ):
            error_cost_frontier(partly, models="all", error_prices=[0.01], latency_price=1e-3)
        # A model that the cascade leaves out need not be known.
        how = {"models": ["small-3b", "large-70b"], "error_prices": [0.01], "latency_price": 1e-3}
        left_out, whole = (error_cost_frontier(p, num_draws=20, **how) for p in (partly, slow))
        np.testing.assert_allclose(left_out.expense, whole.expense, rtol=1e-12)
        assert latency(partly.data, (0, 2)) is not None
        assert latency(partly.data, (0, 1)) is None


SLOPE = -0.15


def with_trend(data: CascadeData, slope: float, num: int = 400) -> CascadeData:
    """Queries whose second call costs the more the less sure the first model was, with noise."""
    rng = np.random.default_rng(1)
    some = data.take(rng.integers(0, data.num_queries, num))
    x = np.clip(some.logit_score(), -MAX_REGRESSOR, MAX_REGRESSOR)
    cost = some.call_cost * rng.gamma(20.0, 1 / 20, some.confidence.shape)
    cost[:, 1] *= np.exp(slope * x[:, 0])
    return replace(some, cost=cost, call_cost=cost.mean(axis=0))


class TestTrend:
    def test_is_found(self, small_data: CascadeData) -> None:
        data = with_trend(small_data, SLOPE)
        found = find_trend(data, (0, 1, 2), COSTS_ALONE, 500)
        assert found is not None
        np.testing.assert_allclose(np.median(found.slope, axis=0), [SLOPE, 0.0], atol=0.03)
        low, high = np.quantile(found.slope[:, 1], [0.01, 0.99])
        assert low < 0 < high
        # Over the observed calls the factor is 1 on average.
        x = np.clip(data.logit_score()[:, 0], -MAX_REGRESSOR, MAX_REGRESSOR)
        factor = np.exp(found.slope[:, :1] * x - found.log_mean[:, :1])
        assert factor.mean() == pytest.approx(1.0, abs=0.01)
        assert find_trend(data, (0, 1), Terms(constant_costs=True), 500) is None

    def test_is_shrunk_where_few_show_it(self, small_data: CascadeData) -> None:
        rng = np.random.default_rng(0)
        few = small_data.take(np.arange(6))
        wild = replace(few, cost=few.call_cost * rng.gamma(0.5, 2.0, few.confidence.shape))
        np.testing.assert_array_equal(find_trend(wild, (0, 1, 2), COSTS_ALONE, 200).slope, 0.0)
        # Of ten calls whose costs say nothing, no factor is far from 1.
        slopes = []
        for seed in range(50):
            ten = small_data.take(np.arange(10 * (seed % 12), 10 * (seed % 12) + 10))
            cost = ten.call_cost * np.random.default_rng(seed).gamma(4.0, 0.25, ten.confidence.shape)
            slopes.append(find_trend(replace(ten, cost=cost), (0, 1, 2), COSTS_ALONE, 200).slope)
        assert np.abs(slopes).max() <= 2 * TREND_SCALE
        assert np.abs(np.mean(slopes, axis=1)).mean() < 0.5 * TREND_SCALE

    @pytest.mark.slow
    def test_predicts_what_deferred_queries_cost(self, small_posterior: Posterior) -> None:
        """The model alone, on simulated queries whose costs follow the trend; constant costs are off."""
        data = with_trend(small_posterior.data, SLOPE, 4000)
        posterior = replace(small_posterior, data=data)
        found = {}
        for constant in (False, True):
            terms = Terms(constant_costs=constant)
            chain = discretise(posterior, small_posterior.models[:2], 20, prior_queries=np.inf, terms=terms)
            threshold = np.quantile(data.confidence[:, 0], 0.3)
            at = jax.tree.map(lambda field: field[None], chain.positions(Cuts(np.array([threshold]))))
            found[constant] = np.asarray(chain.outcomes(at).cost[0]).mean()
            z, _ = (np.asarray(field) for field in simulate_new(chain, 5000, 0))
            deferred = chain.raw(z[:, 0], 0) < threshold
        x = np.clip(z[:, 0], -MAX_REGRESSOR, MAX_REGRESSOR)
        own = np.clip(data.logit_score()[:, 0], -MAX_REGRESSOR, MAX_REGRESSOR)
        dearer = np.exp(SLOPE * x) / np.exp(SLOPE * own).mean()
        truth = data.call_cost[0] + data.call_cost[1] * np.mean(deferred * dearer)
        assert found[False] == pytest.approx(truth, rel=0.02)
        assert found[True] < 0.95 * truth

    def test_constant_costs(self, small_data: CascadeData) -> None:
        terms = Terms(constant_costs=True)
        spent = expense(small_data, terms)
        assert np.all(spent == small_data.call_cost)
        np.testing.assert_array_equal(call_expense(small_data, terms), small_data.call_cost)


def test_terms_in_words() -> None:
    assert COSTS_ALONE.spelled_out() == "cost"
    both = Terms(latency_price=0.001, abstain_price=0.5)
    assert both.spelled_out() == "cost + 0.001 US dollars a second + 0.5 an abstention"
    assert Terms.from_dict(both.to_dict()) == both
