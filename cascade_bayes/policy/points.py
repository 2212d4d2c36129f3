"""Optimal policies over a sweep of error prices: the questions they answer, as a table, as a file.

What a frontier of one cascade and the envelope of all of them have in common.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes._files import write_json
from cascade_bayes._output import Output
from cascade_bayes._units import Units
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.policy import file as policy_file
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.guarantee import Guarantee, guarantee
from cascade_bayes.policy.mixture import WORTH_SAYING, Mixture, best_share
from cascade_bayes.policy.plain import decoded
from cascade_bayes.policy.policy import Policy, context_entries, context_of
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.schema import FIGURES, FrontierRecord, PointRecord
from cascade_bayes.policy.terms import Terms

ENDS = ("", "_q05", "_q95")
"""Endings of the names of a figure's mean, and of its 5 % and 95 % quantiles."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PricedPolicies(ABC):
    """One optimal policy for each of several error prices.

    Attributes
    ----------
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    context
        What policies need besides: kind of confidence, call costs of the models, digest of the fit, what is
        paid for (`Terms`), and what was said of the fit (`FitVerdict` or None).
    """

    error_prices: np.ndarray
    context: dict[str, Any]

    @property
    def units(self) -> Units:
        """What costs are counted in, and what confidences were in the table."""
        units: Units = self.context["units"]
        return units

    @property
    def terms(self) -> Terms:
        """What is paid for besides calls and wrong answers."""
        terms: Terms = self.context["terms"]
        return terms

    def __len__(self) -> int:
        return len(self.error_prices)

    @abstractmethod
    def policy(self, index: int) -> Policy:
        """Return the policy of point ``index``."""

    def summary(self, index: int) -> Policy:
        """Return the policy of point ``index``, which may lack what is optimal on single draws.

        Finding that is most of what a policy takes, and figures need it not.
        """
        return self.policy(index)

    @abstractmethod
    def _policy_at(self, error_price: float) -> Policy:
        """Return the policy at a price that is not one of the sweep's."""

    @abstractmethod
    def _constrained(self, request: Request, question: dict[str, Any]) -> Policy:
        """Return the best policy that keeps a limit."""

    @abstractmethod
    def _draws(self, figure: str) -> np.ndarray:
        """Return draws of a figure of every point, ``(num_prices, num_draws)``."""

    @in_64_bits
    def at(
        self,
        *,
        error_price: float | None = None,
        budget: float | None = None,
        target_error: float | None = None,
        probability: float = 0.9,
    ) -> Policy:
        """Return the policy that answers one of three questions.

        Parameters
        ----------
        error_price
            US dollars a wrong answer costs: minimise ``expense + error_price * error``, where the expense is
            the cost of calls, and of latency and of abstaining if these have prices.
        budget
            US dollars per query: the least error with ``P(expected expense <= budget) >= probability``.
        target_error
            Error probability: the least expense with ``P(error <= target_error) >= probability``.
        probability
            Posterior probability with which a budget or a target must hold.

        Returns
        -------
        Policy
            For a price, optimised at that very price. For a budget or target, the best that a search over
            all thresholds finds (`cascade_bayes.engine.constrained`). No price of an error need have it as
            its optimum: its ``error_price`` is that of the sweep at which it loses least over the optimum,
            relative to what that loses, and ``draw_thresholds`` are what is optimal on each draw at this
            price. See `mixture` for what two policies could do together.

        Raises
        ------
        InputError
            If not exactly one question is asked, or its number is out of range.
        InfeasibleError
            If no policy meets the request; names the best reachable value.
        """
        name, value = check_question(error_price, budget, target_error, probability)
        if name == "error_price":
            close = np.isclose(self.error_prices, value, rtol=1e-12)
            return self.policy(int(np.argmax(close))) if close.any() else self._policy_at(value)
        figure = "expense" if name == "budget" else "error"
        return self._constrained(
            Request(figure, value, probability), {name: value, "probability": probability}
        )

    def mixture(self, policy: Policy) -> Mixture | None:
        """Return two policies between which queries are better divided at random, if that gains anything.

        Parameters
        ----------
        policy
            Its answer to a budget or target, from `at`.

        Returns
        -------
        Mixture or None
            The best mixture of two points of the sweep that keeps the same limit with the same probability;
            None where it gains less than a thousandth over the policy (`WORTH_SAYING`), or for a policy that
            answers a price, which no mixture makes better.
        """
        limits = {"budget": "expense", "target_error": "error"}
        figure = next((figure for name, figure in limits.items() if name in policy.question), None)
        if figure is None:
            return None
        limit = next(policy.question[name] for name in limits if name in policy.question)
        request = Request(figure, limit, policy.question["probability"])
        drawn = {name: self._draws(name) for name in ("error", "expense")}
        found = best_share(request, drawn[figure], drawn[request.other])
        reached = getattr(policy.prediction, request.other)
        if found is None or found.value > reached * (1 - WORTH_SAYING):
            return None
        both = [found.first, found.second]
        weights = np.array([1 - found.share, found.share])
        return Mixture(
            policies=(self.policy(found.first), self.policy(found.second)),
            share=found.share,
            error=float(weights @ drawn["error"][both].mean(axis=1)),
            expense=float(weights @ drawn["expense"][both].mean(axis=1)),
            figure=request.other,
            gain=float(reached - found.value),
        )

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame` as dictionaries."""
        rows = []
        for i in range(len(self)):
            policy = self.summary(i)
            row: dict[str, Any] = {
                "error_price": policy.error_price,
                "models": list(policy.models),
                "thresholds": [float(t) for t in policy.thresholds],
            }
            predicted, figures = policy.prediction, ["error", "cost"]
            if policy.abstain_thresholds is not None:
                row["abstain_thresholds"] = [float(t) for t in policy.abstain_thresholds]
                figures.append("abstain")
            if predicted.latency is not None:
                figures.append("latency")
            for name in figures:
                for end in ENDS:
                    row[f"expected_{name}{end}"] = getattr(predicted, name + end)
            rows.append(row)
        return rows

    def to_frame(self) -> Any:
        """Return one row per price as a pandas frame.

        Columns: ``error_price``, ``models``, ``thresholds``, ``expected_error``, ``expected_cost`` (means
        over draws) and the 5 % and 95 % posterior quantiles ``expected_error_q05``, ``_q95``,
        ``expected_cost_q05``, ``_q95``; where queries may be left without an answer ``abstain_thresholds``
        and ``expected_abstain``, the share of them, and where latency is known ``expected_latency``, in
        seconds, with theirs.
        """
        import pandas as pd

        return pd.DataFrame(self.records())

    def evaluate(self, data: CascadeData) -> list[dict[str, Any]]:
        """Return realised error and cost of every point on a table, one record a price."""
        return [
            {"error_price": float(self.error_prices[i]), **self.summary(i).evaluate(data).to_dict()}
            for i in range(len(self))
        ]

    def guarantee(
        self, holdout: Any, *, target_error: float, delta: float = 0.05, max_cost: float | None = None
    ) -> Guarantee:
        """Return the cheapest policy whose error a hold-out table certifies, whatever the model is worth.

        The policies are tested from the safest predicted one on, each by the exact binomial probability of so
        few wrong answers, until the first one fails (`cascade_bayes.policy.guarantee`).

        Parameters
        ----------
        holdout
            Labelled queries that are a random sample of those to come, and that were not fitted: a table, or
            anything `cascade_bayes.read_table` reads. Queries without any label are left out; otherwise what
            is not known of a query counts against a policy.
        target_error
            What the share of wrong answers is to be at most.
        delta
            Probability, over the draw of the hold-out table, with which the promise may fail.
        max_cost
            What a query costs at most, which the bound of the mean cost rests on; by default the sum of the
            greatest costs of a call of each model in the table.

        Raises
        ------
        InputError
            If the table has no label, or a number is out of range.
        InfeasibleError
            If nothing can be certified; says about how many labels it would take.
        """
        summaries = [self.summary(i) for i in range(len(self))]
        found = guarantee(summaries, holdout, target_error=target_error, delta=delta, max_cost=max_cost)
        index = next(i for i, policy in enumerate(summaries) if policy is found.policy)
        return replace(found, policy=self.policy(index))

    def points(self) -> list[dict[str, Any]]:
        """Return the points as the file holds them: `records` and more, infinities as strings."""
        points = []
        for i, row in enumerate(self.records()):
            policy = self.policy(i)
            record = policy.to_dict()
            more = ("thresholds", "abstain_thresholds", "call_cost")
            points.append(
                {
                    **row,
                    **{name: record[name] for name in more},
                    "threshold_intervals": record["threshold_intervals_90"],
                    "abstain_intervals": record["abstain_intervals_90"],
                    "reach_prob": list(policy.prediction.reach_prob),
                    **{f"expected_expense{end}": record["prediction"][f"expense{end}"] for end in ENDS},
                }
            )
        return points

    def to_dict(self) -> dict[str, Any]:
        """Return what the file of all points holds, as JSON-able values: infinities as strings.

        Raises
        ------
        InputError
            If a value is none that a frontier can have.
        """
        entries = {
            "schema": policy_file.SCHEMAS[FrontierRecord],
            "schema_version": policy_file.SCHEMA_VERSION,
            **context_entries(self.context),
            "points": self.points(),
        }
        try:
            return policy_file.to_file(policy_file.checked(entries, FrontierRecord))
        except ValueError as error:
            raise InputError(f"frontier: {error}.") from error

    def save(self, path: str | os.PathLike[str] | Output) -> None:
        """Write all points to a JSON file, whole or not at all; `load_policies` reads it."""
        write_json(path, self.to_dict())


def infeasible(
    whose: str, figure: str, question: dict[str, Any], reachable: float, terms: Terms, cost_unit: str
) -> InfeasibleError:
    """Return the error that says which constraint binds, and the best that can be reached.

    Parameters
    ----------
    whose
        Whose policies were searched, in words.
    figure
        ``"expense"`` or ``"error"``, which is to keep a limit.
    question
        The limit, by the question's name, and ``probability``.
    reachable
        The least limit that some policy keeps with that probability.
    terms
        What is paid for.
    cost_unit
        What it is counted in.
    """
    (limit,) = (value for name, value in question.items() if name != "probability")
    name, unit = figure, "error probability"
    if figure == "expense":
        name, unit = terms.spelled_out(cost_unit), f"{cost_unit} per query"
    probability = question["probability"]
    return InfeasibleError(
        f"no policy of {whose} has P({name} <= {limit:g}) >= {probability:g}; the lowest "
        f"{name} it reaches with that probability is {_rounded_up(reachable)} ({unit})."
    )


def _rounded_up(value: float) -> str:
    """Return a number at four digits that is not below: who asks for it, gets it."""
    if not value > 0:
        return f"{value:g}"
    unit = Decimal(1).scaleb(Decimal(value).adjusted() - 3)
    return f"{float(Decimal(value).quantize(unit, rounding=ROUND_CEILING)):.4g}"


def check_question(
    error_price: float | None, budget: float | None, target_error: float | None, probability: float
) -> tuple[str, float]:
    """Return which question is asked, and its number.

    Raises
    ------
    InputError
        If not exactly one is, or a number is out of range.
    """
    every = {"error_price": error_price, "budget": budget, "target_error": target_error}
    asked = {name: value for name, value in every.items() if value is not None}
    if len(asked) != 1:
        raise InputError(
            f"ask for exactly one of error_price, budget, target_error; got {', '.join(asked) or 'none'}."
        )
    ((name, value),) = asked.items()
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number; got {value!r}.")
    if name == "target_error" and value >= 1:
        raise InputError(f"target_error must be a probability below 1; got {value!r}.")
    if not 0 < probability < 1:
        raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
    return name, value


def load_policies(path: str | os.PathLike[str]) -> list[Policy]:
    """Read the points of a frontier file as policies, without their per-draw detail.

    Raises
    ------
    InputError
        If the file is missing, cut short, of another version or not a frontier, if one of its values is none
        that a frontier can have, or if it was changed after it was written.
    """
    return policies_of(policy_file.read_one(Path(path), FrontierRecord))


def policies_of(record: FrontierRecord) -> list[Policy]:
    """Return the points of a frontier file as policies."""
    context = context_of(record)
    return [_policy_of(point, context) for point in record.points]


def _policy_of(point: PointRecord, context: dict[str, Any]) -> Policy:
    thresholds, low = decoded(point.thresholds), point.abstain_thresholds
    figures = {name + end: getattr(point, f"expected_{name}{end}") for name in FIGURES for end in ENDS}
    return Policy(
        models=tuple(point.models),
        thresholds=thresholds,
        draw_thresholds=np.zeros((0, len(thresholds))),
        error_price=point.error_price,
        question={"error_price": point.error_price},
        prediction=Prediction(
            reach_prob=tuple(point.reach_prob),
            **{name: value for name, value in figures.items() if value is not msgspec.UNSET},
        ),
        abstain_thresholds=None if low is None else decoded(low),
        draw_abstain_thresholds=None if low is None else np.zeros((0, len(low))),
        # Points of an envelope have models, and so costs, of their own.
        **context | {"call_cost": np.asarray(point.call_cost)},
    )
