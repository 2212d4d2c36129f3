"""What the posterior expects of a policy, and what the policy did on a table beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cascade_bayes._shown import shown
from cascade_bayes.evaluation import NORMAL_QUANTILE, Realised
from cascade_bayes.policy.shown import evaluation_card
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

if TYPE_CHECKING:
    from cascade_bayes.engine.figures import Predicted


ROUNDING = 1e-6
"""Relative difference of two figures below which they are equal: sums in another order differ by less."""


class Prediction(NamedTuple):
    """What the posterior predicts of a policy: means over draws, and 5 % and 95 % quantiles.

    Errors are shares of queries with a wrong answer, abstentions of queries without one; costs US dollars per
    query, latencies seconds per query, None where the table does not know them. ``expense`` is cost, the
    price of the latency and that of abstaining together.
    """

    error: float
    error_q05: float
    error_q95: float
    cost: float
    cost_q05: float
    cost_q95: float
    reach_prob: tuple[float, ...]
    expense: float
    expense_q05: float
    expense_q95: float
    abstain: float = 0.0
    abstain_q05: float = 0.0
    abstain_q95: float = 0.0
    latency: float | None = None
    latency_q05: float | None = None
    latency_q95: float | None = None

    def loss(self, error_price: float) -> float:
        """Return the expected loss at a price of an error, US dollars per query."""
        return self.expense + error_price * self.error

    @classmethod
    def of_draws(cls, predicted: Predicted) -> Prediction:
        """Summarise draws of one policy (`cascade_bayes.engine.figures.Predicted`)."""
        found: dict[str, float] = {}
        for name in ("error", "cost", "expense", "abstain", "latency"):
            draws = getattr(predicted, name)
            if draws is not None:
                low, high = np.quantile(draws, [0.05, 0.95])
                found |= {name: float(draws.mean()), f"{name}_q05": float(low), f"{name}_q95": float(high)}
        return cls(
            reach_prob=tuple(float(x) for x in predicted.reach_prob.mean(axis=0)),
            **found,
        )


@shown(evaluation_card)
class Evaluation(NamedTuple):
    """Predicted and realised figures of one policy.

    Attributes
    ----------
    predicted
        Figures that the posterior predicts.
    realised
        Figures that the table shows.
    error_price
        US dollars per wrong answer, for the loss.
    terms
        What else is paid for.
    """

    predicted: Prediction
    realised: Realised
    error_price: float
    terms: Terms = COSTS_ALONE

    @property
    def realised_expense(self) -> float | None:
        """Cost, latency and abstaining at their prices, on the table, US dollars per query.

        None if latency has a price and the table does not know it.
        """
        r, waited = self.realised, 0.0
        if self.terms.latency_price:
            if r.latency is None:
                return None
            waited = self.terms.latency_price * r.latency
        return r.cost + waited + (self.terms.abstain_price or 0.0) * r.abstain

    @property
    def realised_loss(self) -> float | None:
        """Expense and ``error_price * error`` on the table, US dollars per query; None as the expense is."""
        spent = self.realised_expense
        return None if spent is None else spent + self.error_price * self.realised.error

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat, JSON-able dictionary."""
        p = self.predicted
        figures = [name for name in p._fields if name != "reach_prob"]
        realised = self.realised.to_dict()
        return {
            # One query says nothing of how queries differ.
            **{name: None if value != value else value for name, value in realised.items()},
            "realised_expense": self.realised_expense,
            "realised_loss": self.realised_loss,
            **{f"expected_{name}": getattr(p, name) for name in figures},
            "expected_loss": p.loss(self.error_price),
            "verdict": self.sentence(),
        }

    def sentence(self) -> str:
        """Say whether realised figures agree with the prediction, sampling error of the table included.

        The 90 % band of the posterior is widened by 1.645 standard errors of the table, in quadrature. A
        figure that neither the posterior nor the table leaves open, such as a cost that is the same for every
        query, has a band of no width and is no test: it is compared up to `ROUNDING`.
        """
        r, p = self.realised, self.predicted
        off, judged, fixed = [], [], []
        for name, word in _JUDGED.items():
            value, se, mean = getattr(r, name), getattr(r, f"{name}_se"), getattr(p, name)
            if value is None or mean is None or (name == "abstain" and self.terms.abstain_price is None):
                continue
            low, high = getattr(p, f"{name}_q05"), getattr(p, f"{name}_q95")
            noise = NORMAL_QUANTILE * (se if math.isfinite(se) else math.inf)
            width = math.hypot(high - mean if value > mean else mean - low, noise)
            rounding = ROUNDING * max(abs(value), abs(mean))
            against = f"({value:.4g} against {mean:.4g})"
            if width <= rounding:
                if abs(value - mean) > rounding:
                    fixed.append(f"{word} is the same for every query, but another than in the fit {against}")
                continue
            judged.append(word)
            if abs(value - mean) > width + rounding:
                off.append(f"{word} is {'higher' if value > mean else 'lower'} than predicted {against}")
        said = [f"Realised {' and '.join(fixed)}."] if fixed else []
        if off:
            said.append(
                f"Realised {' and '.join(off)}, beyond its 90 % band: these queries differ from those that "
                "were fitted, or the model does not hold."
            )
        elif judged:
            every = " and ".join([", ".join(judged[:-1]), judged[-1]]) if len(judged) > 1 else judged[0]
            bands = "lie within their 90 % predictive bands: those"
            if len(judged) == 1:
                bands = "lies within its 90 % predictive band: that"
            said.append(
                f"Realised {every} {bands} of the posterior, widened by the sampling error of this table."
            )
        if r.num_missing:
            said.append(
                f"{r.num_missing} of {r.num_queries} queries were passed on because a confidence is missing."
            )
        return " ".join(said)


_JUDGED = {"error": "error", "cost": "cost", "abstain": "abstention", "latency": "latency"}
"""Figures whose realised values are compared with predicted ones, and how they are called."""
