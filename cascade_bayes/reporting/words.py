"""What a report says in words: the recommendation, the steps of a policy, and numbers in their units."""

from __future__ import annotations

import math
from typing import Any

from cascade_bayes._shown import band
from cascade_bayes.decision.envelope import Envelope
from cascade_bayes.decision.payoff import paying_sentence, saving_sentence
from cascade_bayes.policy.policy import Policy
from cascade_bayes.policy.shown import PER_THOUSAND, PERCENT, ends, question_of
from cascade_bayes.reporting.facts import Facts
from cascade_bayes.rule import LOWEST, show_threshold

CONFIDENCE = {"logprob": "log-probability", "probability": "probability", "score": "score"}
"""What each kind of confidence is called."""


def percent(figures: Any, name: str = "error") -> str:
    """Return a share with its 90 % interval, in percent."""
    return _unbroken(band(ends(figures, name), PERCENT))


def dollars(figures: Any, name: str = "cost") -> str:
    """Return an amount with its 90 % interval, per 1000 queries, in the unit of the costs."""
    return _unbroken(band(ends(figures, name), PER_THOUSAND))


def _unbroken(banded: str) -> str:
    """Return a figure and its interval with spaces that keep the interval on one line."""
    mean, bracket, interval = banded.partition(" (")
    return mean + bracket + interval.replace(" ", "\N{NO-BREAK SPACE}")


def on_scale(threshold: float, kind: str) -> str:
    """Return a threshold on the user's scale and, of a log-probability, as a probability too.

    Examples
    --------
    >>> on_scale(-0.1, "logprob"), on_scale(7.5, "score")
    ('-0.1 (a probability of 0.9048)', '7.5')
    """
    shown = show_threshold(threshold)
    if kind != "logprob" or not math.isfinite(threshold) or threshold == LOWEST:
        return shown
    return f"{shown} (a probability of {math.exp(threshold):.4g})"


def steps(policy: Policy) -> list[str]:
    """Return what to do with a query, a sentence or two for each model."""
    what, last = CONFIDENCE[policy.kind], len(policy.models) - 1
    said = []
    for i, name in enumerate(policy.models):
        reached = "every query" if i == 0 else f"{PERCENT * policy.prediction.reach_prob[i]:.3g} % of queries"
        sentences = [f"Ask {name} ({reached})."]
        low = -math.inf if policy.abstain_thresholds is None else float(policy.abstain_thresholds[i])
        if low > -math.inf:
            sentences.append(f"{_below(low, what, policy.kind)}, leave the query without an answer.")
        if i < last:
            high = float(policy.thresholds[i])
            if high == math.inf:
                sentences.append("Go on to the next model in any case.")
            elif high > -math.inf:
                sentences.append(f"{_below(high, what, policy.kind)}, go on to the next model.")
            sentences.append("Otherwise return its answer.")
        else:
            sentences.append("Return its answer." if low == -math.inf else "Otherwise return its answer.")
        said.append(" ".join(sentences))
    return said


def _below(threshold: float, what: str, kind: str) -> str:
    if threshold == LOWEST:
        return f"If its {what} is exactly minus infinity"
    return f"If its {what} is below {on_scale(threshold, kind)}"


def recommendation(facts: Facts) -> list[str]:
    """Return what is recommended, and why, in sentences."""
    policy = facts.policy
    if len(policy.models) == 1:
        said = [f"Ask {policy.models[0]} alone: no cascade does better for {question_of(policy)}."]
    else:
        said = [
            f"Ask {', then '.join(policy.models)}, each only where the one before is unsure. This is for "
            f"{question_of(policy)}."
        ]
    if not facts.asked:
        said.append(
            "No question was asked, so this is a middling price of an error among those at which a cascade "
            "pays. Ask yours with --error-price, --budget or --target-error."
        )
    said.append(saving_sentence(policy, facts.largest, facts.alone[facts.largest]))
    if isinstance(facts.swept, Envelope):
        said.append(paying_sentence(facts.swept))
    if policy.fit_digest != facts.swept.context["fit_digest"]:
        said.append("This policy was tuned on another fit: what is predicted of it is that fit's.")
    return said


def alternatives(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Return names of columns and rows: the policy and what could be done instead, at the same question."""
    policy, price = facts.policy, facts.policy.error_price
    priced = set(policy.question) == {"error_price"}
    names = {"pair": "best cascade of two", "single": "best single model"}
    rows = [("recommended", " > ".join(policy.models), policy.prediction)]
    for name, rival in facts.rivals.items():
        if rival is not None:
            rows.append((names[name], " > ".join(rival.models), rival.prediction))
    single = facts.rivals.get("single")
    said = {policy.models, *([single.models] if single is not None else [])}
    for model in facts.posterior.models:
        if (model,) not in said:
            rows.append((f"{model} alone", model, facts.alone[model]))
    unit = policy.units.cost
    columns = ["", "models", "wrong, %", f"{unit} per 1000 queries"]
    if not policy.terms.costs_alone:
        columns.append(f"expense, {unit} per 1000 queries")
    columns.append(f"loses more, {unit} per 1000 queries" if priced else "wrong more often, points")
    table = []
    for what, models, figures in rows:
        cells = [what, models, percent(figures), dollars(figures)]
        if not policy.terms.costs_alone:
            cells.append(dollars(figures, "expense"))
        extra = figures.loss(price) - policy.prediction.loss(price)
        more = PER_THOUSAND * extra if priced else PERCENT * (figures.error - policy.prediction.error)
        cells.append("" if what == "recommended" else f"{more:+.3g}")
        table.append(cells)
    return columns, table


def rivals_missing(facts: Facts) -> list[str]:
    """Return sentences on kinds of policies that cannot answer the question."""
    names = {"pair": "cascade of two", "single": "single model"}
    return [f"No {names[name]} meets the request." for name, rival in facts.rivals.items() if rival is None]
