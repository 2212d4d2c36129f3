"""What a report is made from: a policy, its rivals, checks and the worth of labels, computed once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes.data import CascadeData
from cascade_bayes.decision.envelope import MAX_MODELS, Envelope
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.information import Information, value_of_information
from cascade_bayes.decision.payoff import predict_alone, same_policy
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.engine.sweep import BATCH
from cascade_bayes.errors import ConvergenceWarning, InputError
from cascade_bayes.inference.checks import CheckResult, check
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Evaluation, Prediction
from cascade_bayes.policy.policy import Policy
from cascade_bayes.policy.terms import COSTS_ALONE
from cascade_bayes.reading import AsFitted, read_for_policy

SIZES = (30, 100, 300)
"""Numbers of further queries whose worth a report tells."""

CHECK_DRAWS = 100
"""Posterior draws at which a report makes the checks: half of `check`'s, as a report makes many things."""


class Facts(NamedTuple):
    """All that a report says.

    Attributes
    ----------
    posterior
        The fit.
    policy
        The policy that is recommended.
    asked
        Whether the user asked a question, or gave the policy; otherwise it is that of a middling price.
    swept
        The best policies over a sweep of prices, of which the policy is one or lies between two.
    rivals
        The best of other kinds for the same question, by name; None where no policy of that kind answers it.
    alone
        What each model does that answers every query alone, by its name.
    checks
        What was found of the fit.
    worth
        What more labels are worth, or a sentence that says why that cannot be told.
    evaluation
        What the policy did on a table of other queries; None without one.
    realised
        What the policies of the sweep did there, a record a price; None without a table.
    num_draws, seed
        Posterior draws that decisions average over, and the seed of all randomness.
    """

    posterior: Posterior
    policy: Policy
    asked: bool
    swept: Frontier | Envelope
    rivals: dict[str, Policy | None]
    alone: dict[str, Prediction]
    checks: CheckResult
    worth: Information | str
    evaluation: Evaluation | None
    realised: Sequence[dict[str, Any]] | None
    num_draws: int
    seed: int

    @property
    def largest(self) -> str:
        """Name of the largest model, the last in the order of the fit."""
        return self.posterior.models[-1]


def find_facts(
    posterior: Posterior,
    policy: Policy | None,
    question: dict[str, Any] | None,
    test: CascadeData | None,
    num_draws: int,
    seed: int,
) -> Facts:
    """Compute what a report says.

    Parameters
    ----------
    posterior
        The fit.
    policy
        A policy of its models that is to be reported on; None to find one.
    question
        What to find one for, as `Frontier.at` takes it; None for the middle of the sweep.
    test
        Labelled results of the same models on other queries, or None.
    num_draws, seed
        Posterior draws to average over, and the seed of all randomness.
    """
    terms = COSTS_ALONE if policy is None else policy.terms
    with warnings.catch_warnings():  # the report says it on top
        warnings.simplefilter("ignore", ConvergenceWarning)
        # As many prices as are searched side by side: a picture needs no more, and takes a third of the time.
        swept = error_cost_frontier(
            posterior,
            models="any" if 1 < len(posterior.models) <= MAX_MODELS else "all",
            error_prices=BATCH,
            num_draws=num_draws,
            latency_price=terms.latency_price,
            abstain_price=terms.abstain_price,
            abstain=terms.abstain,
            constant_costs=terms.constant_costs,
        )
    given = policy is not None
    if policy is None and question is not None:
        policy = swept.at(**question)
    elif policy is None:
        policy = swept.policy(middling(swept))
    rivals: dict[str, Policy | None] = {}
    if isinstance(swept, Envelope):
        rivals = {
            name: rival
            for name, rival in swept.beside(**policy.question).items()
            if rival is None or not same_policy(rival, policy)
        }
    return Facts(
        posterior=posterior,
        policy=policy,
        asked=given or question is not None,
        swept=swept,
        rivals=rivals,
        alone={name: predict_alone(swept, name) for name in posterior.models},
        checks=check(posterior, policy, num_draws=min(num_draws, CHECK_DRAWS), seed=seed),
        worth=_worth(posterior, policy, num_draws, seed),
        evaluation=None if test is None else policy.evaluate(test),
        realised=None if test is None else swept.evaluate(test),
        num_draws=num_draws,
        seed=seed,
    )


def middling(swept: Frontier | Envelope) -> int:
    """Return a middling price of a sweep, by its index, at which a cascade is best if one is anywhere.

    The error there is the nearest to the middle between the least and the largest of these prices.
    """
    policies = [swept.summary(i) for i in range(len(swept))]
    pays = [i for i, policy in enumerate(policies) if len(policy.models) > 1] or list(range(len(policies)))
    error = np.asarray([policies[i].prediction.error for i in pays])
    return pays[int(np.argmin(np.abs(error - 0.5 * (error.min() + error.max()))))]


def read_test(test: Any, posterior: Posterior, prices: Any = None) -> CascadeData | None:
    """Return a table of other queries, read for the models of a fit; None of None."""
    if test is None or isinstance(test, CascadeData):
        return test
    data = posterior.data
    costs = dict(zip(posterior.models, data.call_cost.tolist(), strict=True))
    return read_for_policy(test, posterior.models, AsFitted(data.kind, data.units, costs), prices)


def _worth(posterior: Posterior, policy: Policy, num_draws: int, seed: int) -> Information | str:
    """Return what more labels are worth, or the reason why it cannot be told."""
    try:
        return value_of_information(posterior, policy, SIZES, num_draws=max(num_draws, 50), seed=seed)
    except InputError as error:
        return str(error)
