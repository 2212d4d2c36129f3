"""The function that users call for a report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._kinds import REPORT
from cascade_bayes._numbers import check_seed, check_whole
from cascade_bayes._output import Output
from cascade_bayes.decision.frontier import DEFAULT_DRAWS
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.points import check_question
from cascade_bayes.policy.policy import FROM_FRONTIER, Policy
from cascade_bayes.reporting.facts import Facts, find_facts, read_test
from cascade_bayes.reporting.page import make_page


@in_64_bits
def report(
    posterior: Posterior,
    output: str | os.PathLike[str] | Output,
    *,
    policy: Policy | None = None,
    error_price: float | None = None,
    budget: float | None = None,
    target_error: float | None = None,
    probability: float = 0.9,
    test: Any = None,
    num_draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Facts:
    """Write a report of a fit and what is decided by it, one HTML file that loads nothing.

    It recommends a policy in words and numbers, and shows the models, the error-cost frontier, the posterior
    of the thresholds, what each alternative would cost, whether the fit can be trusted, what more labels are
    worth, and how all of it was made.

    Parameters
    ----------
    posterior
        The fit.
    output
        The file to write. A report that is there already is replaced, any other file is not.
    policy
        A policy of the fit's models to report on; None to find one.
    error_price, budget, target_error, probability
        The question that it is found for, at most one, as for `Frontier.at`. Without one the policy is that
        of a middling price of an error, and the report says so.
    test
        Labelled results of the same models on other queries, `CascadeData` or anything that `read_table`
        reads: what is realised on them is shown beside what was predicted.
    num_draws
        Posterior draws to average over.
    seed
        Seed of all randomness; the same seed gives the same file.

    Returns
    -------
    cascade_bayes.reporting.facts.Facts
        All that the report was made from.

    Raises
    ------
    InputError
        If a policy is given and a question too, or more than one question, or a number is out of range; if
        the policy has a model that the fit has not; if the file cannot be written.
    InfeasibleError
        If no policy meets a budget or a target.

    Examples
    --------
    ``cb.report(posterior, "report.html", error_price=0.01, test="test.parquet")``
    """
    need(posterior, Posterior, "posterior", FROM_FIT)
    check_whole("num_draws", num_draws, low=2)
    check_seed(seed)
    question = asked_question(policy, error_price, budget, target_error, probability)
    if policy is not None:
        need(policy, Policy, "policy", FROM_FRONTIER)
        posterior.members(policy.models)
    with output if isinstance(output, Output) else Output(Path(output), REPORT) as opened:
        table = read_test(test, posterior)
        facts = find_facts(posterior, policy, question, table, num_draws, seed)
        opened.write(make_page(facts).encode())
    return facts


def asked_question(
    policy: Policy | None,
    error_price: float | None,
    budget: float | None,
    target_error: float | None,
    probability: float,
) -> dict[str, Any] | None:
    """Return the question that is asked, as `Frontier.at` takes it; None if none is.

    Raises
    ------
    InputError
        If there is a policy too, or more than one question, or a number is out of range.
    """
    every = {"error_price": error_price, "budget": budget, "target_error": target_error}
    if all(value is None for value in every.values()):
        return None
    if policy is not None:
        raise InputError(
            "a policy has its own question: give a policy (--policy), or one of error_price, budget and "
            "target_error (--error-price, --budget, --target-error), not both."
        )
    name, value = check_question(error_price, budget, target_error, probability)
    return {name: value, "probability": probability}
