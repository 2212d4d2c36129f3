"""Every cascade of a fit's models, and the best at each price."""

import dataclasses
import re

import numpy as np
import pytest

import cascade_bayes.decision.envelope as envelope_module
from cascade_bayes import compare, error_cost_frontier, predict
from cascade_bayes.decision.envelope import Envelope, find_envelope
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.policy.points import load_policies
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.shorter import ends_queries

PRICES = np.geomspace(5e-5, 2e-1, 6)
DRAWS = 20


def first_of_least(loss: np.ndarray) -> int:
    """Differences of less than a millionth are rounding, or as good as that."""
    return next(i for i, value in enumerate(loss) if value <= loss.min() * (1 + 1e-6))


@pytest.fixture(scope="module")
def envelope(small_posterior) -> Envelope:
    return find_envelope(small_posterior, error_prices=PRICES, num_draws=DRAWS)


def test_candidates_are_all_ordered_subsets(envelope, small_posterior) -> None:
    a, b, c = small_posterior.models
    assert envelope.candidates == ((a,), (b,), (c,), (a, b), (a, c), (b, c), (a, b, c))
    assert envelope.error.shape == envelope.expense.shape == (7, len(PRICES), DRAWS)


def test_no_policy_has_a_model_that_cannot_end_a_query(envelope) -> None:
    """A pair that never defers is its first model, one that always does its second."""
    sizes = set()
    for names, frontier in envelope.frontiers.items():
        at = envelope.candidates.index(names)
        for i in range(len(PRICES)):
            policy = frontier.policy(i)
            ends = ends_queries(Cuts(frontier.thresholds[i]))
            assert policy.models == tuple(name for name, stays in zip(names, ends, strict=True) if stays)
            assert np.isfinite(policy.thresholds).all()
            np.testing.assert_allclose(policy.prediction.error, envelope.error[at, i].mean(), rtol=1e-12)
            own = envelope.candidates.index(policy.models)
            np.testing.assert_array_equal(envelope.error[at, i], envelope.error[own, i])
            sizes.add(len(policy.models))
    assert sizes == {1, 2, 3}


@pytest.mark.slow
def test_each_candidate_is_tuned_as_by_itself(envelope, small_posterior) -> None:
    """But for Adam's last steps within a cell, and the grid, which all candidates share."""
    for names in envelope.candidates[3:]:
        alone = error_cost_frontier(
            small_posterior, models=names, error_prices=PRICES, num_draws=DRAWS, num_cells=64
        )
        loss = envelope.loss[envelope.candidates.index(names)].mean(axis=1)
        wanted = (alone.cost + PRICES[:, None] * alone.error).mean(axis=1)
        np.testing.assert_allclose(loss, wanted, rtol=2e-3)


def test_a_model_alone_is_as_its_own_calibration_has_it(envelope, small_posterior) -> None:
    """Whatever cascade never defers from it loses as much; no model before it has a say."""
    a, b, c = small_posterior.models
    for at, pair in enumerate([(a, b), (b, c)]):
        one = predict(small_posterior, [-np.inf], models=pair, num_draws=DRAWS)
        np.testing.assert_allclose(envelope.error[at], np.tile(one.error, (len(PRICES), 1)), atol=1e-9)
        np.testing.assert_allclose(envelope.expense[at], np.tile(one.cost, (len(PRICES), 1)), rtol=1e-9)
    mean = np.nanmean(small_posterior.data.cost, axis=0)
    np.testing.assert_allclose(envelope.expense[:3].mean(axis=(1, 2)), mean, rtol=0.1)
    # Each is right as often as it was on the table, about.
    wrong = 1 - small_posterior.data.correct.mean(axis=0)
    np.testing.assert_allclose(envelope.error[:3].mean(axis=(1, 2)), wrong, atol=0.07)
    always = predict(small_posterior, [np.inf], models=(b, c), num_draws=DRAWS)
    np.testing.assert_allclose(envelope.error[2, 0].mean(), always.error.mean(), atol=0.01)


def test_a_model_alone_can_be_predicted_and_compared(envelope, small_posterior) -> None:
    at = next(i for i, c in enumerate(envelope.best()) if c < 3)
    alone, pair = envelope.policy(at), next(iter(envelope.frontiers.values())).policy(at)
    found = compare(small_posterior, alone, pair, num_draws=DRAWS)
    loss = envelope.loss[envelope.best()[at], at]
    other = pair.prediction.cost + PRICES[at] * pair.prediction.error
    np.testing.assert_allclose(found.loss.mean(), loss.mean() - other, atol=1e-9)
    shares = predict(small_posterior, alone, num_queries=50, num_draws=DRAWS)
    np.testing.assert_allclose(shares.reach_prob, 1.0)
    assert shares.error.std() > predict(small_posterior, alone, num_draws=DRAWS).error.std()


def test_the_best_is_the_one_of_least_average_loss(envelope) -> None:
    loss = envelope.expense + PRICES[:, None] * envelope.error
    mean = loss.mean(axis=2)
    for i, of_all in enumerate(mean.T):
        assert envelope.best()[i] == first_of_least(of_all)
        assert envelope.best(2)[i] == 3 + first_of_least(of_all[3:6])
    np.testing.assert_allclose(
        envelope.gain(2).mean(axis=1), mean[3:6].min(axis=0) - mean.min(axis=0), atol=1e-12
    )
    np.testing.assert_allclose(
        envelope.gain(1).mean(axis=1), mean[:3].min(axis=0) - mean.min(axis=0), atol=1e-12
    )
    assert len({envelope.candidates[c] for c in envelope.best()}) > 1
    with pytest.raises(InputError, match="num_models must be one of 1, 2, 3; got 4"):
        envelope.best(4)


def test_the_winner_of_one_draw_disappoints(envelope) -> None:
    """Draw by draw and price by price, by hand."""
    loss, prob, optimism = envelope.loss, envelope.prob_best(), envelope.optimism()
    for i in range(len(PRICES)):
        wins = np.zeros(7)
        disappoints = []
        for d in range(DRAWS):
            winner = first_of_least(loss[:, i, d])
            wins[winner] += 1
            disappoints.append(loss[winner, i].mean() - loss[winner, i, d])
        np.testing.assert_allclose(prob[:, i], wins / DRAWS)
        assert optimism[i] == pytest.approx(np.mean(disappoints), abs=1e-12)
    assert np.all(optimism >= 0)
    assert optimism.max() > 0


def test_of_level_candidates_the_one_of_fewer_models_is_best(envelope) -> None:
    """Rounding may say otherwise: a pair that never defers from its first model is that model."""
    cost = np.ones_like(envelope.expense)
    error = np.full_like(envelope.error, 0.5)
    cost[4] -= 1e-9
    level = dataclasses.replace(envelope, error=error, expense=cost)
    assert level.best().tolist() == [0] * len(PRICES)
    np.testing.assert_array_equal(level.prob_best()[0], 1.0)
    assert all(row["gain_over_pair"] == 0 for row in level.records())
    cost[4] -= 1e-5
    assert level.best().tolist() == [4] * len(PRICES)


def test_records_name_the_best_and_what_it_gains(envelope) -> None:
    frame = envelope.to_frame()
    for i, row in frame.iterrows():
        policy = envelope.policy(i)
        assert tuple(row["models"]) == policy.models == envelope.candidates[envelope.best()[i]]
        assert row["gain_over_pair"] >= 0
        assert row["gain_over_single"] >= 0
        assert row["expected_cost_q05"] <= row["expected_cost"] <= row["expected_cost_q95"]
        assert len(row["best_pair"]) == 2
        assert len(row["best_single"]) == 1


def test_a_policy_of_one_model_is_a_policy(envelope, small_data, small_frame, tmp_path) -> None:
    at = next(i for i, c in enumerate(envelope.best()) if c < 3)
    policy = envelope.policy(at)
    (name,) = policy.models
    assert policy.decide([-0.3]) == name
    assert policy.threshold_interval() == []
    policy.save(tmp_path / "one.json")
    again = Policy.load(tmp_path / "one.json")
    assert again.models == (name,)
    found = again.evaluate(small_data)
    own = small_data.models.index(name)
    assert found.realised.error == pytest.approx(1 - small_data.correct[:, own].mean())
    assert found.realised.cost == pytest.approx(small_data.cost[:, own].mean())
    # A table of that model alone will do.
    assert again.evaluate(small_frame[small_frame["model"] == name]).realised == found.realised


@pytest.mark.parametrize("num_models", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
def test_among_those_of_one_size(envelope, num_models: int, tmp_path) -> None:
    some = envelope.among(num_models)
    assert [names for names in envelope.candidates if len(names) == num_models] == list(some.candidates)
    frame, wanted = some.to_frame(), []
    for i, row in frame.iterrows():
        # Models that would pass every query on, or get none, are left out of the best.
        best = envelope.candidates[envelope.best(num_models)[i]]
        wanted.append(envelope.frontiers[best].point(i).models if num_models > 1 else best)
        assert tuple(row["models"]) == wanted[-1]
    assert ("best_pair" in frame) == (num_models == 2)
    some.save(tmp_path / "some.json")
    assert [policy.models for policy in load_policies(tmp_path / "some.json")] == wanted
    assert max(map(len, wanted)) == num_models
    price = float(np.sqrt(PRICES[2] * PRICES[3]))
    assert 1 <= len(some.at(error_price=price).models) <= num_models


def test_an_answer_that_is_a_model_alone_has_a_price_at_which_it_is_best(envelope) -> None:
    singles = [c for c in np.unique(envelope.best()) if c < 3]
    for candidate in singles:
        budget = float(np.quantile(envelope.expense[candidate, 0], 0.9)) * (1 + 1e-9)
        policy = envelope.among(1).at(budget=budget, probability=0.8)
        at = int(np.argmin(np.abs(PRICES - policy.error_price)))
        loss = envelope.loss[:3, at].mean(axis=1)
        assert loss[envelope.models.index(policy.models[0])] == pytest.approx(loss.min())


@pytest.mark.slow
def test_budgets_and_targets_of_any_models(envelope) -> None:
    mean = envelope.expense.mean(axis=2)
    for budget in (1.3 * mean[:3].min(), np.median(mean), mean.max()):
        policy = envelope.at(budget=budget, probability=0.8)
        assert policy.prediction.cost <= budget
        holds = np.mean(envelope.expense <= budget, axis=2) >= 0.8
        assert policy.prediction.error <= np.min(envelope.error.mean(axis=2)[holds]) * (1 + 1e-9)
        assert policy.question == {"budget": budget, "probability": 0.8}
    target = float(np.median(envelope.error))
    policy = envelope.at(target_error=target, probability=0.8)
    holds = np.mean(envelope.error <= target, axis=2) >= 0.8
    assert policy.prediction.cost <= np.min(mean[holds]) * (1 + 1e-9)
    with pytest.raises(
        InfeasibleError, match=re.escape("no policy of any cascade of these models has P(cost <= 1e-09)")
    ):
        envelope.at(budget=1e-9)
    with pytest.raises(InfeasibleError, match="lowest error it reaches"):
        envelope.at(target_error=1e-6)
    for wrong in ({}, {"budget": 1.0, "target_error": 0.1}, {"budget": 1.0, "probability": 1.0}):
        with pytest.raises(InputError):
            envelope.at(**wrong)


def test_the_frontier_of_any_models_is_the_envelope(envelope, small_posterior, small_data, tmp_path) -> None:
    found = error_cost_frontier(small_posterior, error_prices=PRICES, num_draws=DRAWS)  # the default
    assert found.records() == envelope.records()
    envelope.save(tmp_path / "any.json")
    for i, policy in enumerate(load_policies(tmp_path / "any.json")):
        own = envelope.policy(i)
        assert policy.models == own.models
        assert policy.prediction == own.prediction
        np.testing.assert_array_equal(policy.thresholds, own.thresholds)
        np.testing.assert_array_equal(policy.call_cost, own.call_cost)
    realised = envelope.evaluate(small_data)
    assert [row["num_queries"] for row in realised] == [small_data.num_queries] * len(PRICES)
    with pytest.raises(InputError, match='models must be "any", "all" or a list of names'):
        error_cost_frontier(small_posterior, models="small-3b")


@pytest.mark.slow
def test_a_price_between_those_of_the_sweep(envelope) -> None:
    assert envelope.at(error_price=PRICES[2]).models == envelope.policy(2).models
    policy = envelope.at(error_price=float(np.sqrt(PRICES[2] * PRICES[3])))
    low, high = (envelope.policy(i).prediction for i in (3, 2))
    assert low.error - 1e-6 <= policy.prediction.error <= high.error + 1e-6


def test_too_many_models_are_refused(small_posterior, monkeypatch) -> None:
    monkeypatch.setattr(envelope_module, "MAX_MODELS", 2)
    with pytest.raises(InputError, match="tried of at most 2 models; this fit has 3"):
        find_envelope(small_posterior)
