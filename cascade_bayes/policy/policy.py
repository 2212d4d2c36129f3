"""A policy: thresholds to deploy, the question they answer, and what the model predicts of them.

A policy is one JSON file and needs neither JAX nor the posterior to decide.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from cascade_bayes._files import encode, show, write_json
from cascade_bayes._output import Output
from cascade_bayes._shown import shown
from cascade_bayes._units import AS_THEY_STAND, DEFERRALS, DOLLARS, Units
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.policy import file as policy_file
from cascade_bayes.policy.deciding import ABSTAIN as ABSTAIN
from cascade_bayes.policy.deciding import Abstain as Abstain
from cascade_bayes.policy.deciding import Decider
from cascade_bayes.policy.expected import Evaluation, Prediction
from cascade_bayes.policy.given import graded, on_scale
from cascade_bayes.policy.plain import decoded, decoded_draws, encoded, numbers, plain
from cascade_bayes.policy.schema import FrontierRecord, PolicyRecord
from cascade_bayes.policy.shown import policy_card
from cascade_bayes.policy.terms import COSTS_ALONE, Terms
from cascade_bayes.verdict import FitVerdict

FROM_FRONTIER = (
    'Take one from a frontier, frontier.at(error_price=0.01), or load one: cb.Policy.load("policy.json").'
)
"""What to do where a policy is wanted and something else was given."""


class Cuts(NamedTuple):
    """Raw thresholds of one policy or, with leading axes, of many.

    Attributes
    ----------
    thresholds
        Below which models defer, ``(..., num_models - 1)``.
    abstain
        Below which they leave a query without an answer, ``(..., num_models)``; None if none does.
    """

    thresholds: np.ndarray
    abstain: np.ndarray | None = None

    @classmethod
    def stack(cls, cuts: Sequence[Cuts]) -> Cuts:
        """Return those of several policies with a leading axis of them; all may abstain, or none."""
        abstain = [one.abstain for one in cuts if one.abstain is not None]
        return cls(np.stack([one.thresholds for one in cuts]), np.stack(abstain) if abstain else None)

    def each(self) -> list[Cuts]:
        """Return those of every policy, from those with a leading axis of them."""
        if self.abstain is None:
            return [Cuts(own) for own in self.thresholds]
        return [Cuts(*own) for own in zip(self.thresholds, self.abstain, strict=True)]


@shown(policy_card)
@dataclass(frozen=True, eq=False)
class Policy:
    """Deferral thresholds of one cascade.

    Attributes
    ----------
    models
        Names in cascade order.
    thresholds
        Raw scale, ``(num_models - 1,)``: a query is deferred iff its confidence is below. -inf never
        defers, inf always does; the most negative finite number, ``"lowest"`` in files and tables, defers
        exact minus infinity alone.
    draw_thresholds
        The optimal thresholds of each posterior draw, ``(num_draws, num_models - 1)``.
    error_price
        US dollars per wrong answer at which the thresholds are optimal.
    question
        What was asked: ``error_price``, or ``budget`` or ``target_error`` with ``probability``.
    prediction
        Predicted error, cost and reach.
    kind
        Kind of confidence.
    call_cost
        Mean US dollars per call, ``(num_models,)``.
    fit_digest
        SHA-256 of the posterior's draws.
    terms
        What is paid for besides calls and wrong answers.
    abstain_thresholds
        Raw scale, ``(num_models,)``: a query is left without an answer iff its confidence is below, which
        comes before deferral. -inf never abstains. None if no model may.
    draw_abstain_thresholds
        Those that are optimal on each posterior draw, ``(num_draws, num_models)``, or None.
    fit_verdict
        What was said of the fit; None if that is not recorded.
    units
        What costs are counted in, and what confidences were in the table that was fitted.

    Raises
    ------
    InputError
        For a value that a policy cannot have, or that does not go with another one
        (`cascade_bayes.policy.schema`).
    TypeError
        For a value of another type.

    Notes
    -----
    Arrays are copied, and cannot be written to: what was checked stays so.
    """

    models: tuple[str, ...]
    thresholds: np.ndarray
    draw_thresholds: np.ndarray
    error_price: float
    question: dict[str, Any]
    prediction: Prediction
    kind: str
    call_cost: np.ndarray
    fit_digest: str
    terms: Terms = COSTS_ALONE
    abstain_thresholds: np.ndarray | None = None
    draw_abstain_thresholds: np.ndarray | None = None
    fit_verdict: FitVerdict | None = None
    units: Units = AS_THEY_STAND
    _decider: Decider = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = {
            "models": (tuple, list),
            "question": dict,
            "prediction": Prediction,
            "terms": Terms,
            "units": Units,
        }
        for name, kind in (kinds | {"fit_verdict": (FitVerdict, type(None))}).items():
            if not isinstance(value := getattr(self, name), kind):
                wanted = (kind if isinstance(kind, type) else kind[0]).__name__
                raise TypeError(f"{name} of a policy must be a {wanted}; got {show(value)}.")
        entries: dict[str, Any] = {
            "models": tuple(self.models),
            "error_price": plain(self.error_price),
            "question": {name: plain(value) for name, value in self.question.items()},
            "prediction": Prediction._make(map(plain, self.prediction)),
        }
        for name in ("thresholds", "call_cost", "abstain_thresholds"):
            entries[name] = numbers(name, getattr(self, name), 1)
        for name in ("draw_thresholds", "draw_abstain_thresholds"):
            entries[name] = numbers(name, getattr(self, name), 2)
        for name, value in entries.items():
            object.__setattr__(self, name, value)
        self.record()
        decider = Decider(self.models, self.kind, self.thresholds, self.abstain_thresholds)
        object.__setattr__(self, "_decider", decider)

    @property
    def cuts(self) -> Cuts:
        """All thresholds."""
        return Cuts(self.thresholds, self.abstain_thresholds)

    def decide(self, confidences: Any, *, confidence: str | None = None) -> Any:
        """Say which model answers, if any does.

        A query is deferred iff its confidence is below the threshold. A model that was called and gave no
        confidence, NaN, defers too; the last model answers whatever its confidence.

        Parameters
        ----------
        confidences
            Raw confidences of the models called so far, cheapest first: a list for one query, at most one a
            model, NaN of a model that was called and gave none, None of one that was not called; or a table
            ``(num_queries, num_models)`` of the confidences of all calls, NaN where a model gave none. The
            last column may be left out if the last model may not abstain. Numbers of 32 bits are compared
            with thresholds of 32 bits. Of a policy that was tuned on grades, the words will do too.
        confidence
            What the confidences are: the kind of the thresholds, or one that is read as that kind, such as
            ``"nll"`` for log-probabilities. Of a policy that was tuned on a table of the latter it must be
            said; otherwise it is the kind of the thresholds.

        Returns
        -------
        str, None, ABSTAIN or numpy.ndarray
            For one query the name of the answering model, None if the next model must be called first, or
            `ABSTAIN` if the query is left without an answer. A last model that may not abstain is named as
            soon as all others have deferred, before it is called. For a table the index of the answering
            model of every query, -1 where there is none.

        Raises
        ------
        InputError
            For a confidence that its kind cannot have, more confidences than models, rows of different
            lengths, or a confidence that is missing of a last model that may abstain by it.
        TypeError
            For what is no number: text, a boolean, a list in a list where others are numbers.

        Examples
        --------
        With thresholds ``[-0.1, -0.2]`` on models a, b, c: ``decide([-0.05])`` is ``"a"``,
        ``decide([-0.5])`` is None (call b), ``decide([-0.5, -0.3])`` is ``"c"``. With abstention thresholds
        ``[-3, -inf, -inf]`` besides, ``decide([-4])`` is ``ABSTAIN``.
        """
        if confidence is not None or self.units.given_as is not None:
            confidences = on_scale(confidences, confidence, self.kind, self.units)
        elif self.units.grades:
            confidences = graded(confidences, self.units.grades)
        return self._decider.decide(confidences)

    def threshold_interval(self, probability: float = 0.9) -> list[tuple[float, float]]:
        """Return the central posterior interval of each optimal threshold, raw scale.

        Quantiles are of the optima of single draws, taken as order statistics: infinite thresholds
        ("never", "always") count as what they are.
        """
        return _intervals(self.draw_thresholds, probability)

    def abstain_interval(self, probability: float = 0.9) -> list[tuple[float, float]]:
        """Return what `threshold_interval` does, of the thresholds of abstaining, one a model.

        Raises
        ------
        InputError
            If the policy always answers.
        """
        if self.abstain_thresholds is None or self.draw_abstain_thresholds is None:
            raise InputError("this policy answers every query: it has no thresholds of abstaining.")
        return _intervals(self.draw_abstain_thresholds, probability)

    def read(
        self, source: Any, *, prices: Any = None, confidence: str | None = None, **layout: Any
    ) -> CascadeData:
        """Read a table for this policy: its models in its order, its kind of confidence.

        Parameters
        ----------
        source
            A path or a frame, as for `cascade_bayes.read_table`.
        prices
            US dollars per million tokens, as there.
        confidence
            Kind of confidence of the table; by default that of the table which was fitted.
        **layout
            How the table is laid out (`cascade_bayes.reading.layout.Layout`).
        """
        from cascade_bayes.reading import AsFitted, read_for_policy  # which a service need not import

        costs = dict(zip(self.models, self.call_cost.tolist(), strict=True))
        as_fitted = AsFitted(self.kind, self.units, costs)
        return read_for_policy(source, self.models, as_fitted, prices, confidence, **layout)

    def select(self, table: CascadeData) -> CascadeData:
        """Return the part of a table that is of this policy's models, in its order.

        Parameters
        ----------
        table
            A table of any models.

        Raises
        ------
        InputError
            If it lacks one of the models, or its numbers are of another kind or unit than the policy's.
        """
        missing = [m for m in self.models if m not in table.models]
        if missing:
            raise InputError(
                f"the table lacks model {missing[0]!r} of the policy; it has {', '.join(table.models)}."
            )
        if table.kind != self.kind:
            raise InputError(
                f"the table holds confidences of kind {table.kind!r}, the policy is for {self.kind!r}."
            )
        if table.units.cost != self.units.cost:
            raise InputError(
                f"the table has costs in {table.units.cost}, the policy in {self.units.cost}. Read the "
                f"table for the policy, policy.read(...), or with costs={self.units.cost == DOLLARS}."
            )
        if self.units.grades and table.units.grades not in ((), self.units.grades):
            raise InputError(
                f"the table has the grades {', '.join(table.units.grades)}, the policy "
                f"{', '.join(self.units.grades)}. Read the table for the policy, policy.read(...)."
            )
        return table.select(list(self.models))

    def evaluate(self, table: Any) -> Evaluation:
        """Return realised error and cost on labelled data beside the predicted ones.

        Parameters
        ----------
        table
            `CascadeData` holding the policy's models, or anything `read_table` reads.
        """
        data = self.select(table) if isinstance(table, CascadeData) else self.read(table)
        realised = realise(data, self.thresholds, self.abstain_thresholds)
        return Evaluation(self.prediction, realised, self.error_price, self.terms)

    # Persistence

    def record(self) -> PolicyRecord:
        """Return what the policy's file holds, checked.

        Raises
        ------
        InputError
            If a value is none that a policy can have.
        """
        entries = {
            "schema": policy_file.SCHEMAS[PolicyRecord],
            "schema_version": policy_file.SCHEMA_VERSION,
            "models": list(self.models),
            "thresholds": encoded(self.thresholds),
            "abstain_thresholds": encoded(self.abstain_thresholds),
            "error_price": self.error_price,
            "question": self.question,
            "prediction": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.prediction._asdict().items()
            },
            "threshold_intervals_90": _interval_record(self.draw_thresholds),
            "abstain_intervals_90": _interval_record(self.draw_abstain_thresholds),
            "draw_thresholds": encoded(self.draw_thresholds),
            "draw_abstain_thresholds": encoded(self.draw_abstain_thresholds),
            **context_entries(
                {
                    "kind": self.kind,
                    "call_cost": self.call_cost,
                    "fit_digest": self.fit_digest,
                    "terms": self.terms,
                    "fit_verdict": self.fit_verdict,
                    "units": self.units,
                }
            ),
        }
        try:
            return policy_file.checked(entries, PolicyRecord)
        except ValueError as error:
            said = str(error).replace("`confidence`", "`kind`")  # as the attribute is called
            raise InputError(f"policy: {said}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return what the policy's file holds, as JSON-able values: infinities as strings."""
        return policy_file.to_file(self.record())

    def save(self, path: str | os.PathLike[str] | Output) -> None:
        """Write the policy to a JSON file, whole or not at all."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, cut short, of another version or not a policy, if one of its values is
            none that a policy can have, or if it was changed after it was written.
        """
        return cls.from_record(policy_file.read_one(Path(path), PolicyRecord))

    @classmethod
    def from_record(cls, record: PolicyRecord) -> Policy:
        """Return the policy that a file holds."""
        prediction = msgspec.structs.asdict(record.prediction)
        count = len(record.thresholds)
        low, low_draws = record.abstain_thresholds, record.draw_abstain_thresholds
        return cls(
            models=tuple(record.models),
            thresholds=decoded(record.thresholds),
            draw_thresholds=decoded_draws(record.draw_thresholds, count),
            error_price=record.error_price,
            question=msgspec.to_builtins(record.question),
            prediction=Prediction(**{**prediction, "reach_prob": tuple(record.prediction.reach_prob)}),
            abstain_thresholds=None if low is None else decoded(low),
            draw_abstain_thresholds=None if low_draws is None else decoded_draws(low_draws, count + 1),
            **context_of(record),
        )


def _intervals(draws: np.ndarray, probability: float = 0.9) -> list[tuple[float, float]]:
    if not 0 < probability < 1:
        raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
    if not len(draws):
        raise InputError(
            "this policy carries no per-draw thresholds: take it from a posterior, not a frontier file."
        )
    tail = (1 - probability) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="closest_observation")
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def context_entries(context: dict[str, Any]) -> dict[str, Any]:
    """Return what policies of one fit share, as entries of their files."""
    verdict: FitVerdict | None = context["fit_verdict"]
    units: Units = context["units"]
    given: dict[str, Any] = {} if units.given_as is None else {"given_as": units.given_as}
    return {
        "cost_unit": f"{units.cost} per query",
        **given,
        **({"grades": list(units.grades)} if units.grades else {}),
        "confidence": context["kind"],
        "call_cost": encoded(context["call_cost"]),
        "fit_digest": context["fit_digest"],
        "terms": {name: plain(value) for name, value in context["terms"].to_dict().items()},
        "fit_verdict": None if verdict is None else verdict._asdict(),
    }


def context_of(record: PolicyRecord | FrontierRecord) -> dict[str, Any]:
    """Return what policies of one fit share, from their file: the inverse of `context_entries`."""
    verdict = record.fit_verdict
    given, grades = record.given_as, record.grades
    return {
        "units": Units(
            DOLLARS if record.cost_unit.startswith(DOLLARS) else DEFERRALS,
            None if given is msgspec.UNSET else given,
            () if grades is msgspec.UNSET else tuple(grades),
        ),
        "kind": record.confidence,
        "call_cost": np.asarray(record.call_cost),
        "fit_digest": record.fit_digest,
        "terms": Terms(**msgspec.structs.asdict(record.terms)),
        "fit_verdict": None if verdict is None else FitVerdict(**msgspec.structs.asdict(verdict)),
    }


def _interval_record(draws: np.ndarray | None) -> list[Any] | None:
    if draws is None or not len(draws):
        return None
    return [[encode(low), encode(high)] for low, high in _intervals(draws)]
