"""A policy: thresholds to deploy, the question they answer, and what the model predicts of them.

A policy is one JSON file and needs neither JAX nor the posterior to decide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes._files import REMEDY, decode, encode, read_record, write_json
from cascade_bayes._output import Output
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.expected import Evaluation, Prediction
from cascade_bayes.decision.terms import COSTS_ALONE, Terms
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.inference.convergence import FitVerdict
from cascade_bayes.reading import read_for_policy
from cascade_bayes.rule import follow
from cascade_bayes.transforms import check_kind

SCHEMA = "cascade_bayes.policy"
SCHEMA_VERSION = 2


class Abstain(Enum):
    """What `Policy.decide` returns for a query that is left without an answer."""

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"


ABSTAIN = Abstain.ABSTAIN
"""A query is left without an answer."""


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


@dataclass(frozen=True, eq=False)
class Policy:
    """Deferral thresholds of one cascade.

    Attributes
    ----------
    models
        Names in cascade order.
    thresholds
        Raw scale, ``(num_models - 1,)``: a query is deferred iff its confidence is below. -inf never
        defers, inf always does.
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

    @property
    def cuts(self) -> Cuts:
        """All thresholds."""
        return Cuts(self.thresholds, self.abstain_thresholds)

    def decide(self, confidences: Any) -> Any:
        """Say which model answers, if any does.

        Parameters
        ----------
        confidences
            Raw confidences of the models called so far, cheapest first: a sequence for one query (as
            many as are known, at most ``num_models``), or an array ``(num_queries, num_models)`` with
            NaN where unknown.

        Returns
        -------
        str, None, ABSTAIN or numpy.ndarray
            For one query the name of the answering model, None if the next model must be called first, or
            `ABSTAIN` if the query is left without an answer. For an array the index of the answering model of
            every query, -1 where there is none.

        Examples
        --------
        With thresholds ``[-0.1, -0.2]`` on models a, b, c: ``decide([-0.05])`` is ``"a"``,
        ``decide([-0.5])`` is None (call b), ``decide([-0.5, -0.3])`` is ``"c"``. With abstention thresholds
        ``[-3, -inf, -inf]`` besides, ``decide([-4])`` is ``ABSTAIN``.
        """
        array = np.asarray(confidences, dtype=float)
        last, abstain = len(self.models) - 1, self.abstain_thresholds
        fewest = last if abstain is None or abstain[last] == -math.inf else last + 1
        if array.ndim == 2:
            if array.shape[1] not in (fewest, last + 1):
                raise InputError(
                    f"confidences must have {last + 1} columns, one a model; got {array.shape[1]}."
                )
            found = follow(array, self.thresholds, abstain)
            return np.where(found.abstained, -1, found.stop)
        if array.ndim != 1 or array.size > last + 1:
            raise InputError(
                f"confidences must hold at most {last + 1} values, one a model; got shape {array.shape}."
            )
        for i, model in enumerate(self.models):
            low = -math.inf if abstain is None else abstain[i]
            high = self.thresholds[i] if i < last else -math.inf
            if low == math.inf:
                return ABSTAIN
            if low == -math.inf and high == math.inf:
                continue
            if low == -math.inf and high == -math.inf:
                return model
            if i >= array.size or math.isnan(array[i]):
                if i == last and array.size > last:
                    raise InputError(
                        f"the confidence of {model} must be a number: by it the last model may abstain."
                    )
                return None
            if array[i] < low:
                return ABSTAIN
            if array[i] >= high:
                return model
        raise AssertionError("the last model answers or abstains")

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

    def read(self, source: Any, *, prices: Any = None) -> CascadeData:
        """Read a table for this policy: its models in its order, its kind of confidence."""
        return read_for_policy(source, self.models, self.kind, prices)

    def evaluate(self, table: Any) -> Evaluation:
        """Return realised error and cost on labelled data beside the predicted ones.

        Parameters
        ----------
        table
            `CascadeData` holding the policy's models, or anything `read_table` reads.
        """
        if isinstance(table, CascadeData):
            missing = [m for m in self.models if m not in table.models]
            if missing:
                raise InputError(
                    f"the table lacks model {missing[0]!r} of the policy; it has {', '.join(table.models)}."
                )
            if table.kind != self.kind:
                raise InputError(
                    f"the table holds confidences of kind {table.kind!r}, the policy is for {self.kind!r}."
                )
            data = table.select(list(self.models))
        else:
            data = self.read(table)
        realised = realise(data, self.thresholds, self.abstain_thresholds)
        return Evaluation(self.prediction, realised, self.error_price, self.terms)

    # Persistence

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-able values, infinities as strings."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "cost_unit": "US dollars per query",
            "models": list(self.models),
            "thresholds": _encoded(self.thresholds),
            "abstain_thresholds": _encoded(self.abstain_thresholds),
            "error_price": self.error_price,
            "question": self.question,
            "prediction": {**self.prediction._asdict(), "reach_prob": list(self.prediction.reach_prob)},
            "threshold_intervals_90": self._interval_record(self.draw_thresholds),
            "abstain_intervals_90": self._interval_record(self.draw_abstain_thresholds),
            "draw_thresholds": _encoded(self.draw_thresholds),
            "draw_abstain_thresholds": _encoded(self.draw_abstain_thresholds),
            **self.context_to_json(
                {
                    "kind": self.kind,
                    "call_cost": self.call_cost,
                    "fit_digest": self.fit_digest,
                    "terms": self.terms,
                    "fit_verdict": self.fit_verdict,
                }
            ),
        }

    @staticmethod
    def _interval_record(draws: np.ndarray | None) -> list[Any] | None:
        return (
            None
            if draws is None or not len(draws)
            else [list(map(encode, ends)) for ends in _intervals(draws)]
        )

    @staticmethod
    def context_to_json(context: dict[str, Any]) -> dict[str, Any]:
        """Return what policies of one fit share, JSON-able."""
        verdict: FitVerdict | None = context["fit_verdict"]
        return {
            "confidence": context["kind"],
            "call_cost": [float(c) for c in context["call_cost"]],
            "fit_digest": context["fit_digest"],
            "terms": context["terms"].to_dict(),
            "fit_verdict": None if verdict is None else verdict._asdict(),
        }

    @staticmethod
    def context_from_json(record: dict[str, Any]) -> dict[str, Any]:
        """Inverse of `context_to_json`."""
        check_kind(record["confidence"])
        verdict = record.get("fit_verdict")
        return {
            "kind": record["confidence"],
            "call_cost": np.asarray(record["call_cost"], dtype=float),
            "fit_digest": record["fit_digest"],
            "terms": Terms.from_dict(record["terms"]),
            "fit_verdict": None if verdict is None else FitVerdict(**verdict),
        }

    @staticmethod
    def thresholds_from_json(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the thresholds of a policy or point, and those of abstaining.

        Raises
        ------
        ValueError
            Unless they are numbers, one fewer than the models, and one a model, which are no higher.
        """
        count = len(record["models"])
        thresholds, abstain = (_decoded(record[name]) for name in ("thresholds", "abstain_thresholds"))
        if thresholds is None or thresholds.shape != (count - 1,) or np.isnan(thresholds).any():
            raise ValueError("thresholds must be numbers, one fewer than models")
        if abstain is not None:
            if abstain.shape != (count,) or np.isnan(abstain).any():
                raise ValueError("abstain_thresholds must be numbers, one a model")
            if (abstain[:-1] > thresholds).any():
                raise ValueError("abstain_thresholds must not be above thresholds")
        return thresholds, abstain

    def save(self, path: str | os.PathLike[str] | Output) -> None:
        """Write the policy to a JSON file, whole or not at all."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, cut short, of another version or not a policy.
        """
        record = read_record(Path(path), SCHEMA, SCHEMA_VERSION)
        try:
            prediction = dict(record["prediction"])
            prediction["reach_prob"] = tuple(prediction["reach_prob"])
            thresholds, abstain = cls.thresholds_from_json(record)
            draws, abstaining = (
                _decoded(record[name]) for name in ("draw_thresholds", "draw_abstain_thresholds")
            )
            return cls(
                models=tuple(record["models"]),
                thresholds=thresholds,
                draw_thresholds=np.asarray(draws).reshape(len(record["draw_thresholds"]), len(thresholds)),
                abstain_thresholds=abstain,
                draw_abstain_thresholds=abstaining,
                error_price=float(record["error_price"]),
                question=record["question"],
                prediction=Prediction(**prediction),
                **cls.context_from_json(record),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} lacks a part that a policy file must have ({error}). {REMEDY}"
            ) from error


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


def _encoded(values: np.ndarray | None) -> Any:
    """Return an array as nested lists, infinities as strings; None of None."""
    if values is None:
        return None
    return [_encoded(row) if isinstance(row, np.ndarray) else encode(row) for row in values]


def _decoded(values: Any) -> np.ndarray | None:
    """Inverse of `_encoded`."""
    if values is None:
        return None
    return np.asarray(
        [[decode(t) for t in row] if isinstance(row, list) else decode(row) for row in values], float
    )
