"""One policy against another."""

from dataclasses import replace

import numpy as np
import pytest

from cascade_bayes import compare, predict
from cascade_bayes.decision.compare import Comparison
from cascade_bayes.errors import InputError
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.policy import Policy

PRICE = 0.002


@pytest.fixture(scope="module")
def policies(small_posterior) -> tuple[Policy, Policy]:
    """Thresholds of three models, and of the outer two."""
    names = small_posterior.models

    def policy(models: tuple[str, ...], *thresholds: float) -> Policy:
        return Policy(
            models=models,
            thresholds=np.array(thresholds),
            draw_thresholds=np.zeros((0, len(thresholds))),
            error_price=PRICE,
            question={"error_price": PRICE},
            prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0,) * len(models), 2.0, 1.5, 2.5),
            kind="logprob",
            call_cost=np.ones(len(models)),
            fit_digest=small_posterior.digest(),
        )

    return policy(names, -0.3, -0.2), policy((names[0], names[2]), -0.3)


@pytest.mark.slow
def test_is_the_difference_of_predictions(small_posterior, policies) -> None:
    found = compare(small_posterior, *policies, num_draws=20)
    three, two = (predict(small_posterior, policy, num_draws=20) for policy in policies)
    np.testing.assert_allclose(found.error, three.error - two.error, atol=1e-14)
    np.testing.assert_allclose(found.cost, three.cost - two.cost, atol=1e-18)
    np.testing.assert_allclose(found.loss, found.cost + PRICE * found.error, atol=1e-16)
    other = compare(small_posterior, *policies[::-1], num_draws=20)
    np.testing.assert_array_equal(other.loss, -found.loss)
    assert found.prob_better + other.prob_better == pytest.approx(1.0)


@pytest.mark.slow
def test_what_both_share_cancels(small_posterior, policies) -> None:
    found = compare(small_posterior, *policies)
    three, two = (predict(small_posterior, policy) for policy in policies)
    assert found.error.var() < 0.7 * (three.error.var() + two.error.var())
    same = compare(small_posterior, policies[0], policies[0])
    np.testing.assert_array_equal(same.loss, 0.0)
    assert same.prob_better == 0.5


@pytest.mark.slow
def test_a_policy_that_wastes_money_is_worse(small_posterior, policies) -> None:
    """Asking all models about every query, at a price of an error that is next to nothing."""
    wasteful = replace(policies[0], thresholds=np.array([np.inf, np.inf]))
    thrifty = replace(policies[0], thresholds=np.array([-np.inf, -np.inf]))
    found = compare(small_posterior, wasteful, thrifty, error_price=1e-9)
    assert found.prob_better == 0.0
    assert np.all(found.interval() > 0)
    assert compare(small_posterior, wasteful, thrifty, error_price=1e6).prob_better > 0.9


def test_figures_and_words() -> None:
    loss = np.array([-0.002, -0.001, 0.0, 0.001])
    found = Comparison(0.5, loss, np.zeros(4), loss)
    assert found.prob_better == 0.625
    np.testing.assert_allclose(found.interval(probability=0.5), np.quantile(loss, [0.25, 0.75]))
    assert found.sentence().startswith("The first policy is better with probability 0.62")
    assert "-0.5 US dollars per thousand queries" in found.sentence()
    with pytest.raises(InputError, match="figure must be one of error, cost, loss; got 'reach'"):
        found.interval("reach")
    with pytest.raises(InputError, match="probability must lie between 0 and 1; got 1"):
        found.interval("loss", 1)


def test_prices_must_be_the_same_or_given(small_posterior, policies) -> None:
    dearer = replace(policies[0], error_price=2 * PRICE, question={"error_price": 2 * PRICE})
    with pytest.raises(InputError, match=r"different error prices, 0\.002 and 0\.004; give the error_price"):
        compare(small_posterior, policies[0], dearer)
    with pytest.raises(InputError, match="error_price must be a positive number; got -1"):
        compare(small_posterior, *policies, error_price=-1)
