"""Whether a cascade pays: at which prices of an error, and what it saves beside one large model."""

from __future__ import annotations

import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes.decision.envelope import Envelope
from cascade_bayes.decision.frontier import Frontier, alone
from cascade_bayes.decision.predict import predict
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import PricedPolicies
from cascade_bayes.policy.policy import Policy
from cascade_bayes.policy.terms import Terms

SAME = 0.005
"""Relative difference below which two figures are called the same."""


@in_64_bits
def predict_alone(swept: Frontier | Envelope, model: str) -> Prediction:
    """Return what one model of a fit does that answers every query alone.

    Parameters
    ----------
    swept
        A sweep of the fit, on whose draws and terms the model is predicted; it never abstains, whatever they
        say.
    model
        Its name; the sweep need not have it.
    """
    names, terms = (model,), swept.terms
    if isinstance(swept, Envelope) and names in swept.alone:
        return Prediction.of_draws(swept.alone[names])
    if terms.abstain_price is None and model in swept.models:
        return Prediction.of_draws(alone(swept.on_grid, names))
    found = predict(
        swept.posterior,
        np.zeros(0),
        models=names,
        num_draws=swept.on_grid.num_draws,
        prior_queries=swept.prior_queries,
        terms=Terms(latency_price=terms.latency_price, constant_costs=terms.constant_costs),
    )
    return Prediction.of_draws(found)


def saving_sentence(policy: Policy, largest: str, by_itself: Prediction) -> str:
    """Say what a policy saves beside the largest model alone.

    Parameters
    ----------
    policy
        The policy.
    largest
        Name of the largest model: the last in the order of the fit.
    by_itself
        What that model does alone, from `predict_alone`.
    """
    if policy.models == (largest,):
        return f"It is the largest model alone, {largest}, beside which nothing is saved."
    mine, costs = policy.prediction, policy.terms.costs_alone
    paid = "cost" if costs else "expense"
    less = 1 - getattr(mine, paid) / getattr(by_itself, paid) if getattr(by_itself, paid) else 0.0
    size = f"{100 * abs(less):.0f} % {'less' if less > 0 else 'more'}" if abs(less) > SAME else "as much"
    amounts = f"{1000 * getattr(mine, paid):.3g} instead of {1000 * getattr(by_itself, paid):.3g}"
    said = (
        f"Beside {largest} alone it {'costs' if costs else 'takes an expense of'} {size} "
        f"({amounts} {policy.units.cost} per 1000 queries), with an error of {100 * mine.error:.3g} % "
        f"instead of {100 * by_itself.error:.3g} %"
    )
    if set(policy.question) != {"error_price"}:
        return f"{said}."
    price = policy.error_price
    gain, whole = by_itself.loss(price) - mine.loss(price), by_itself.loss(price)
    word = "saves" if gain >= 0 else "loses"
    unit = policy.units.cost
    return (
        f"{said}. Errors counted at {price:.3g} {unit} each, it {word} {1000 * abs(gain):.3g} {unit} per "
        f"1000 queries, {100 * abs(gain) / whole if whole else 0.0:.0f} %."
    )


def paying_sentence(envelope: Envelope) -> str:
    """Say between which prices of an error a cascade is better than the best single model.

    Parameters
    ----------
    envelope
        Every cascade of a fit's models over a sweep of prices.
    """
    best = envelope.best()
    pays = np.asarray([len(envelope.candidates[at]) > 1 for at in best])
    prices, unit = envelope.error_prices, envelope.units.cost
    if not pays.any():
        return (
            f"No cascade of these models pays at any price between {prices[0]:.3g} and {prices[-1]:.3g} "
            f"{unit} per wrong answer: one model alone is best."
        )
    first, last = np.flatnonzero(pays)[[0, -1]]
    start = f"from {prices[first]:.3g}"
    end = "upwards" if last == len(prices) - 1 else f"to {prices[last]:.3g}"
    gaps = "" if pays[first : last + 1].all() else ", though not at every price between"
    return f"A cascade pays {start} {unit} per wrong answer {end}{gaps}."


def same_policy(one: Policy, other: Policy) -> bool:
    """Whether two policies decide alike: the same models, and thresholds."""
    cuts = (one.thresholds, other.thresholds), (one.abstain_thresholds, other.abstain_thresholds)
    return one.models == other.models and all(
        np.array_equal(first, second) if first is not None and second is not None else first is second
        for first, second in cuts
    )


def none_pays_sentence(policy: Policy, swept: PricedPolicies) -> str | None:
    """Say that a single model is best at a policy's price, and where a cascade is; None of a cascade."""
    if len(policy.models) > 1 or set(policy.question) != {"error_price"}:
        return None
    said = (
        f"At {policy.error_price:.3g} {policy.units.cost} per wrong answer no cascade pays: "
        f"{policy.models[0]} alone is best."
    )
    return f"{said} {paying_sentence(swept)}" if isinstance(swept, Envelope) else said
