"""A policy: thresholds to deploy, the question they answer, and what the model predicts of them.

A policy is one JSON file and needs neither JAX nor the posterior to decide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes._files import decode, encode, read_record, write_json
from cascade_bayes.data import CascadeData, read_table
from cascade_bayes.errors import InputError
from cascade_bayes.evaluation import Realised, decide, realise
from cascade_bayes.transforms import check_kind

SCHEMA = "cascade_bayes.policy"
SCHEMA_VERSION = 1


class Prediction(NamedTuple):
    """What the posterior predicts of a policy: means over draws, and 5 % and 95 % quantiles.

    Errors are probabilities, costs US dollars per query.
    """

    error: float
    error_q05: float
    error_q95: float
    cost: float
    cost_q05: float
    cost_q95: float
    reach_prob: tuple[float, ...]

    def loss(self, error_price: float) -> float:
        """Return the expected loss at a price of an error, US dollars per query."""
        return self.cost + error_price * self.error

    @classmethod
    def of_draws(cls, error: np.ndarray, cost: np.ndarray, reach_prob: np.ndarray) -> Prediction:
        """Summarise draws ``(num_draws,)`` of error and cost, and reach ``(num_draws, num_models)``."""
        low_error, high_error = np.quantile(error, [0.05, 0.95])
        low_cost, high_cost = np.quantile(cost, [0.05, 0.95])
        return cls(
            float(error.mean()),
            float(low_error),
            float(high_error),
            float(cost.mean()),
            float(low_cost),
            float(high_cost),
            tuple(float(x) for x in reach_prob.mean(axis=0)),
        )


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
        What was asked: ``error_price``, or ``budget`` or ``target_error`` with ``confidence``.
    prediction
        Predicted error, cost and reach.
    kind
        Kind of confidence.
    call_cost
        Mean US dollars per call, ``(num_models,)``.
    fit_digest
        SHA-256 of the posterior's draws.
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

    def decide(self, confidences: Any) -> Any:
        """Say which model answers.

        Parameters
        ----------
        confidences
            Raw confidences of the models called so far, cheapest first: a sequence for one query (as
            many as are known, at most ``num_models``), or an array ``(num_queries, num_models)`` with
            NaN where unknown.

        Returns
        -------
        str, None or numpy.ndarray
            For one query the name of the answering model, or None if the next model must be called
            first. For an array the index of the answering model of every query.

        Examples
        --------
        With thresholds ``[-0.1, -0.2]`` on models a, b, c: ``decide([-0.05])`` is ``"a"``,
        ``decide([-0.5])`` is None (call b), ``decide([-0.5, -0.3])`` is ``"c"``.
        """
        array = np.asarray(confidences, dtype=float)
        last = len(self.models) - 1
        if array.ndim == 2:
            if array.shape[1] not in (last, last + 1):
                raise InputError(
                    f"confidences must have {last + 1} columns, one a model; got {array.shape[1]}."
                )
            return decide(array, self.thresholds)
        if array.ndim != 1 or array.size > last + 1:
            raise InputError(
                f"confidences must hold at most {last + 1} values, one a model; got shape {array.shape}."
            )
        for i, threshold in enumerate(self.thresholds):
            if threshold == -math.inf:
                return self.models[i]
            if threshold == math.inf:
                continue
            if i >= array.size or math.isnan(array[i]):
                return None
            if array[i] >= threshold:
                return self.models[i]
        return self.models[last]

    def threshold_interval(self, probability: float = 0.9) -> list[tuple[float, float]]:
        """Return the central posterior interval of each optimal threshold, raw scale.

        Quantiles are of the optima of single draws, taken as order statistics: infinite thresholds
        ("never", "always") count as what they are.
        """
        if not 0 < probability < 1:
            raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
        if not len(self.draw_thresholds):
            raise InputError(
                "this policy carries no per-draw thresholds: take it from a posterior, not a frontier file."
            )
        tail = (1 - probability) / 2
        low, high = np.quantile(self.draw_thresholds, [tail, 1 - tail], axis=0, method="closest_observation")
        return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]

    def read(self, source: Any, *, prices: Any = None) -> CascadeData:
        """Read a table for this policy: its models in its order, its kind of confidence."""
        return read_for(self.models, self.kind, source, prices)

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
            data = self.read(table).select(list(self.models))
        return Evaluation(self.prediction, realise(data, self.thresholds), self.error_price)

    # Persistence

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-able values, infinities as strings."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "cost_unit": "US dollars per query",
            "models": list(self.models),
            "thresholds": [encode(t) for t in self.thresholds],
            "error_price": self.error_price,
            "question": self.question,
            "prediction": {**self.prediction._asdict(), "reach_prob": list(self.prediction.reach_prob)},
            "threshold_intervals_90": [[encode(a), encode(b)] for a, b in self.threshold_interval(0.9)]
            if len(self.draw_thresholds)
            else None,
            "draw_thresholds": [[encode(t) for t in row] for row in self.draw_thresholds],
            **self.context_to_json(
                {"kind": self.kind, "call_cost": self.call_cost, "fit_digest": self.fit_digest}
            ),
        }

    @staticmethod
    def context_to_json(context: dict[str, Any]) -> dict[str, Any]:
        """Return what policies of one fit share, JSON-able."""
        return {
            "confidence": context["kind"],
            "call_cost": [float(c) for c in context["call_cost"]],
            "fit_digest": context["fit_digest"],
        }

    @staticmethod
    def context_from_json(record: dict[str, Any]) -> dict[str, Any]:
        """Inverse of `context_to_json`."""
        check_kind(record["confidence"])
        return {
            "kind": record["confidence"],
            "call_cost": np.asarray(record["call_cost"], dtype=float),
            "fit_digest": record["fit_digest"],
        }

    @staticmethod
    def thresholds_from_json(record: dict[str, Any]) -> np.ndarray:
        """Return the thresholds of a policy or point; `ValueError` unless one fewer than the models."""
        thresholds = np.asarray([decode(t) for t in record["thresholds"]], dtype=float)
        if thresholds.shape != (len(record["models"]) - 1,) or np.isnan(thresholds).any():
            raise ValueError("thresholds must be numbers, one fewer than models")
        return thresholds

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy to a JSON file, whole or not at all."""
        write_json(Path(path), self.to_dict())

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
            thresholds = cls.thresholds_from_json(record)
            draws = [[decode(t) for t in row] for row in record["draw_thresholds"]]
            return cls(
                models=tuple(record["models"]),
                thresholds=thresholds,
                draw_thresholds=np.asarray(draws, dtype=float).reshape(len(draws), len(thresholds)),
                error_price=float(record["error_price"]),
                question=record["question"],
                prediction=Prediction(**prediction),
                **cls.context_from_json(record),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} lacks a part that a policy file must have ({error}). Make it again with "
                "`cascade-bayes tune`."
            ) from error


def read_for(models: Sequence[str], kind: str, source: Any, prices: Any = None) -> CascadeData:
    """Read a table with this kind of confidence, of these models and, if it is a single one, of others."""
    named = list(models) if len(models) > 1 else None
    return read_table(source, confidence=kind, models=named, prices=prices)


class Evaluation(NamedTuple):
    """Predicted and realised figures of one policy.

    Attributes
    ----------
    predicted
        From the posterior.
    realised
        From the table.
    error_price
        US dollars per wrong answer, for the loss.
    """

    predicted: Prediction
    realised: Realised
    error_price: float

    @property
    def realised_loss(self) -> float:
        """``cost + error_price * error`` on the table, US dollars per query."""
        return self.realised.cost + self.error_price * self.realised.error

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat, JSON-able dictionary."""
        p = self.predicted
        return {
            **self.realised.to_dict(),
            "realised_loss": self.realised_loss,
            "expected_error": p.error,
            "expected_error_q05": p.error_q05,
            "expected_error_q95": p.error_q95,
            "expected_cost": p.cost,
            "expected_cost_q05": p.cost_q05,
            "expected_cost_q95": p.cost_q95,
            "expected_loss": p.cost + self.error_price * p.error,
            "verdict": self.sentence(),
        }

    def sentence(self) -> str:
        """Say whether realised figures agree with the prediction, sampling error of the table included.

        The 90 % band of the posterior is widened by 1.645 standard errors of the table, in quadrature.
        """
        r, p = self.realised, self.predicted
        off = []
        for name, value, se, mean, low, high in (
            ("error", r.error, r.error_se, p.error, p.error_q05, p.error_q95),
            ("cost", r.cost, r.cost_se, p.cost, p.cost_q05, p.cost_q95),
        ):
            noise = 1.645 * (se if math.isfinite(se) else math.inf)
            if value > mean + math.hypot(high - mean, noise):
                off.append(f"{name} is higher than predicted ({value:.4g} against {mean:.4g})")
            elif value < mean - math.hypot(mean - low, noise):
                off.append(f"{name} is lower than predicted ({value:.4g} against {mean:.4g})")
        if off:
            return (
                f"Realised {' and '.join(off)}, beyond its 90 % band: these queries differ from those that "
                "were fitted, or the model does not hold."
            )
        return "Realised error and cost lie within their 90 % predictive bands."
