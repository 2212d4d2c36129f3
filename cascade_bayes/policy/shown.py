"""How policies, their frontiers, mixtures and evaluations print (`cascade_bayes._shown`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes._shown import Card, band, number, spread
from cascade_bayes.rule import show_interval, show_threshold

if TYPE_CHECKING:
    from cascade_bayes.engine.figures import Predicted
    from cascade_bayes.policy.expected import Evaluation
    from cascade_bayes.policy.mixture import Mixture
    from cascade_bayes.policy.points import PricedPolicies
    from cascade_bayes.policy.policy import Policy

PERCENT, PER_THOUSAND = 100.0, 1000.0
"""Factors of a share in percent, and of a cost per query in a cost per thousand queries."""


def ends(figures: Any, name: str) -> tuple[float, float, float]:
    """Return the mean of a figure, ``"error"`` say, and its 5 % and 95 % quantiles."""
    mean, low, high = (float(getattr(figures, name + end)) for end in ("", "_q05", "_q95"))
    return mean, low, high


def question_of(policy: Policy) -> str:
    """Return what a policy was asked for, in words and units."""
    asked = dict(policy.question)
    sure = asked.pop("probability", None)
    ((name, value),) = asked.items()
    said = {
        "error_price": f"{number(value)} {policy.units.cost} per wrong answer",
        "budget": f"a budget of {number(value)} {policy.units.cost} per query",
        "target_error": f"an error of at most {number(PERCENT * value)} %",
    }[name]
    return said if sure is None else f"{said}, kept with probability {number(sure)}"


def policy_card(policy: Policy) -> Card:
    """Return what a policy does at each model, and what is predicted of it."""
    p = policy.prediction
    intervals: list[str] = ["" for _ in policy.thresholds]
    if len(policy.draw_thresholds):
        intervals = [show_interval(*ends) for ends in policy.threshold_interval(0.9)]
    below = [*map(show_threshold, policy.thresholds), "never: it is the last"]
    columns = ["model", f"defers below ({policy.kind})", "90 % interval", "asked of, %"]
    rows = [
        [name, own, interval, number(PERCENT * reached)]
        for name, own, interval, reached in zip(
            policy.models, below, [*intervals, ""], p.reach_prob, strict=True
        )
    ]
    if policy.abstain_thresholds is not None:
        columns.append("abstains below")
        for row, low in zip(rows, policy.abstain_thresholds, strict=True):
            row.append(show_threshold(low))
    predicted = (
        f"Predicted, with 90 % intervals: error {band(ends(p, 'error'), PERCENT)} %, cost "
        f"{band(ends(p, 'cost'), PER_THOUSAND)} {policy.units.cost} per 1000 queries."
    )
    return Card(
        f"Policy for {question_of(policy)}",
        tuple(columns),
        [tuple(row) for row in rows],
        (predicted, *rejected(policy.fit_verdict)),
    )


def rejected(verdict: Any) -> tuple[str, ...]:
    """Return a sentence on a fit that was rejected, if it was."""
    return () if verdict is None or verdict.trusted else (f"Fit rejected: {verdict.sentence}",)


def priced_card(priced: PricedPolicies) -> Card:
    """Return some prices of a frontier, or of an envelope, and what is best there."""
    policies = [priced.summary(i) for i in spread(len(priced))]
    rows = [
        (
            number(policy.error_price),
            band(ends(policy.prediction, "error"), PERCENT),
            band(ends(policy.prediction, "cost"), PER_THOUSAND),
            " > ".join(policy.models),
            ", ".join(f"{threshold:.4g}" for threshold in policy.thresholds),
        )
        for policy in policies
    ]
    prices = np.asarray(priced.error_prices)
    some = f", {len(rows)} of them below" if len(rows) < len(prices) else ""
    candidates = getattr(priced, "candidates", None)
    of = "one cascade" if candidates is None else f"the best of {len(candidates)} cascades"
    return Card(
        f"{type(priced).__name__}: {of} at {len(prices)} price{'' if len(prices) == 1 else 's'} of an "
        f"error{some}",
        (
            f"{priced.units.cost} per error",
            "error, % (90 %)",
            f"{priced.units.cost} per 1000 queries (90 %)",
            "models",
            "defer below",
        ),
        rows,
        rejected(priced.context["fit_verdict"]),
    )


def predicted_card(predicted: Predicted) -> Card:
    """Return what thresholds are predicted to do: means and intervals, or the range of means of many."""
    error = np.asarray(predicted.error)
    many = error.ndim > 1
    units = {
        "error": ("error, %", PERCENT),
        "cost": ("cost of 1000 queries", PER_THOUSAND),
        "expense": ("expense of 1000 queries", PER_THOUSAND),
        "abstain": ("no answer, %", PERCENT),
        "latency": ("latency, seconds per query", 1.0),
    }
    rows = []
    for name, (what, factor) in units.items():
        draws = getattr(predicted, name)
        if draws is None or (name == "abstain" and not np.any(draws)):
            continue
        if many:
            means = factor * np.mean(draws, axis=-1)
            rows.append((what, f"{means.min():.3g} to {means.max():.3g}"))
        else:
            rows.append((what, band((np.mean(draws), *np.quantile(draws, [0.05, 0.95])), factor)))
    of = f"{np.prod(error.shape[:-1])} policies" if many else "a policy"
    columns = ("", "means of the policies" if many else "mean (90 %)")
    return Card(f"Predicted figures of {of}, {error.shape[-1]} draws", columns, rows)


def mixture_card(mixture: Mixture) -> Card:
    """Return which two policies are mixed, and what that gains."""
    shares = (1 - mixture.share, mixture.share)
    rows = [
        (
            number(PERCENT * share),
            " > ".join(policy.models),
            ", ".join(map(show_threshold, policy.thresholds)),
            number(PERCENT * policy.prediction.error),
            number(PER_THOUSAND * policy.prediction.cost),
        )
        for share, policy in zip(shares, mixture.policies, strict=True)
    ]
    unit = mixture.policies[0].units.cost
    columns = ("queries, %", "models", "defer below", "error, %", f"{unit} per 1000 queries")
    return Card("Mixture of two policies", columns, rows, (mixture.sentence(),))


def evaluation_card(evaluation: Evaluation) -> Card:
    """Return what a policy did on a table beside what was predicted."""
    of = {"error": ("error, %", PERCENT), "cost": ("cost of 1000 queries", PER_THOUSAND)}
    rows = []
    for name, (what, factor) in of.items():
        realised, predicted = (
            band(ends(figures, name), factor) for figures in (evaluation.realised, evaluation.predicted)
        )
        rows.append((what, realised, predicted))
    columns = ("", "realised (90 %)", "predicted (90 %)")
    return Card(
        f"Evaluation on {evaluation.realised.num_queries} queries", columns, rows, (evaluation.sentence(),)
    )
