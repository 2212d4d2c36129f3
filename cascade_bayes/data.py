"""One cascade's results as fixed-shape arrays.

Arrays have shape ``(num_queries, num_models)`` with the models in cascade order, and nan or a mask where a
row or a label is absent. `cascade_bayes.reading` makes them from long tables.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_bayes._names import check_models, names_of
from cascade_bayes._shown import Card, number, shown
from cascade_bayes._units import AS_THEY_STAND, Units
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.transforms import KINDS, ConfidenceMap, check_kind, in_domain

__all__ = ["CascadeData", "check_fittable", "mean_cost", "model_rows"]


def model_rows(data: CascadeData) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return names of columns, and a row a model, that say what a table holds of each model."""
    columns = ("model", "confidences", "labels", "right, %", "US dollars per 1000 calls")
    summary = data.summary()
    rows: list[tuple[str, ...]] = []
    for name in data.models:
        observed, labelled, accuracy, cost = (
            summary[figure][name] for figure in ("num_observed", "num_labelled", "accuracy", "call_cost")
        )
        right = "" if accuracy is None else number(100 * accuracy)
        rows.append((name, str(observed), str(labelled), right, number(1000 * cost)))
    return columns, rows


def _card(data: CascadeData) -> Card:
    title = f"Table of {data.num_queries} queries and {data.num_models} models, confidences: {data.kind}"
    return Card(title, *model_rows(data))


@shown(_card)
@dataclass(frozen=True, eq=False)
class CascadeData:
    """Confidences, labels and costs of the models of one cascade on a set of queries.

    Arrays are copied and made read-only.

    Parameters
    ----------
    models : tuple of str, length num_models
        Names in cascade order, first asked first.
    query_ids : ndarray of str, shape (num_queries,)
    confidence : ndarray of float64, shape (num_queries, num_models)
        On the user's own scale; nan where missing. Exact certainty and impossibility (for example
        0 and -inf for `logprob`) are ordinary values.
    correct : ndarray of bool, shape (num_queries, num_models)
        Whether the answer was right; False where unlabelled.
    labelled : ndarray of bool, shape (num_queries, num_models)
        Whether `correct` is known.
    cost : ndarray of float64, shape (num_queries, num_models)
        US dollars of each call, or what ``units`` says; nan where there was no row.
    latency_ms : ndarray of float64, shape (num_queries, num_models), or None
        Milliseconds of each call; nan where unknown. None if the table has none.
    call_cost : ndarray of float64, shape (num_models,)
        Mean US dollars per call.
    kind : {'logprob', 'probability', 'score'}
        Kind of confidence.
    confidence_map : ConfidenceMap
        Map from raw confidences to standardised logit scores.
    units : Units, optional
        What costs are counted in, US dollars by default, and what confidences were in the table.

    Raises
    ------
    InputError
        If shapes or kinds disagree, a confidence is outside the domain of its kind, or a call cost
        is negative or missing.

    Examples
    --------
    >>> from cascade_bayes import example, read_table
    >>> data = read_table(example.train_path())
    >>> data.select(data.models[:2]).take([0, 1, 2]).confidence.shape
    (3, 2)
    """

    models: tuple[str, ...]
    query_ids: NDArray[np.str_]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    cost: NDArray[np.float64]
    latency_ms: NDArray[np.float64] | None
    call_cost: NDArray[np.float64]
    kind: str
    confidence_map: ConfidenceMap
    units: Units = AS_THEY_STAND

    def __post_init__(self) -> None:
        check_kind(self.kind)
        object.__setattr__(self, "models", tuple(str(name) for name in self.models))
        types = {
            "query_ids": np.str_,
            "confidence": np.float64,
            "correct": np.bool_,
            "labelled": np.bool_,
            "cost": np.float64,
            "latency_ms": np.float64,
            "call_cost": np.float64,
        }
        shape = (len(self.query_ids), len(self.models))
        shapes = {"query_ids": shape[:1], "call_cost": shape[1:]}
        for name, dtype in types.items():
            value = getattr(self, name)
            if name == "latency_ms" and value is None:
                continue
            array: NDArray[Any] = np.array(value, dtype=dtype)
            wanted = shapes.get(name, shape)
            if array.shape != wanted:
                raise InputError(
                    f"{name} must have shape {wanted} for {shape[0]} queries and "
                    f"{shape[1]} models; got {array.shape}."
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(set(self.models)) < len(self.models) or not self.models:
            raise InputError(f"models must be distinct names, at least one; got {self.models}.")
        if (self.correct & ~self.labelled).any():
            raise InputError("correct must be False wherever labelled is False.")
        if not (np.isfinite(self.call_cost) & (self.call_cost >= 0.0)).all():
            raise InputError(
                f"call_cost must be finite and >= 0 (US dollars); got {self.call_cost.tolist()}."
            )
        bad = np.argwhere(~in_domain(self.confidence, self.kind))
        if len(bad):
            row, column = bad[0]
            raise InputError(
                f"confidence of model {self.models[column]!r} must be {KINDS[self.kind]} for kind "
                f"{self.kind!r}; got {float(self.confidence[row, column])!r} "
                f"for query {str(self.query_ids[row])!r}."
            )
        _check_map(self.confidence_map, self.kind, len(self.models))

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return len(self.query_ids)

    @property
    def num_models(self) -> int:
        """Number of models."""
        return len(self.models)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Whether a confidence is known, shape ``(num_queries, num_models)``."""
        return ~np.isnan(self.confidence)

    def logit_score(self) -> NDArray[np.float64]:
        """Standardised logit scores, shape ``(num_queries, num_models)``; nan where missing."""
        return self.confidence_map.to_logit(self.confidence)

    def select(self, models: Sequence[str]) -> CascadeData:
        """Return the cascade of an ordered subset of models; queries and map entries are kept.

        Raises
        ------
        InputError
            If a model is unknown or listed twice, or none is listed.
        """
        models = check_models(models, self.models, minimum=1)
        at = [self.models.index(name) for name in models]
        return replace(
            self,
            models=models,
            confidence=self.confidence[:, at],
            correct=self.correct[:, at],
            labelled=self.labelled[:, at],
            cost=self.cost[:, at],
            latency_ms=None if self.latency_ms is None else self.latency_ms[:, at],
            call_cost=self.call_cost[at],
            confidence_map=self.confidence_map.select(at),
        )

    def take(self, query_indices: ArrayLike) -> CascadeData:
        """Return some queries, by position (repeats allowed) or by a mask.

        Mean call costs are those of the queries taken (for a model without a call among them, the
        mean stays). The confidence map stays; `with_confidence_map` refits it.

        Raises
        ------
        IndexError
            If a position is out of range.
        """
        at = np.asarray(query_indices)
        if at.size == 0:
            at = at.astype(np.int64)  # an empty list is a list of no positions
        return replace(
            self,
            query_ids=self.query_ids[at],
            confidence=self.confidence[at],
            correct=self.correct[at],
            labelled=self.labelled[at],
            cost=self.cost[at],
            latency_ms=None if self.latency_ms is None else self.latency_ms[at],
            call_cost=mean_cost(self.cost[at], default=self.call_cost),
        )

    def with_confidence_map(self, confidence_map: ConfidenceMap | None = None) -> CascadeData:
        """Return the same data under another map; without one, a map fitted on these queries.

        Raises
        ------
        InputError
            If the map is of another kind or number of models.
        """
        if confidence_map is None:
            confidence_map = ConfidenceMap.fit(self.confidence, self.kind)
        return replace(self, confidence_map=confidence_map)

    def summary(self) -> dict[str, Any]:
        """Return counts, accuracies (None without a label) and mean costs, ready for JSON."""
        labelled = self.labelled.sum(axis=0).tolist()
        right = self.correct.sum(axis=0).tolist()
        accuracy = [r / n if n else None for r, n in zip(right, labelled, strict=True)]

        def by_model(values: list[Any]) -> dict[str, Any]:
            return dict(zip(self.models, values, strict=True))

        return {
            "num_queries": self.num_queries,
            "num_models": self.num_models,
            "models": list(self.models),
            "kind": self.kind,
            "num_observed": by_model(self.observed.sum(axis=0).tolist()),
            "num_labelled": by_model(labelled),
            "accuracy": by_model(accuracy),
            "call_cost": by_model(self.call_cost.tolist()),
        }


READ_FIRST = 'Read a file or a frame first: data = cb.read_table("results.parquet", confidence="logprob").'
"""What to do where a table is wanted and something else was given."""


def check_fittable(data: CascadeData) -> None:
    """Check that every model can be fitted: it has labels and confidences.

    Reading and evaluating do not need this, so `cascade_bayes.read_table` does not ask for it.

    Parameters
    ----------
    data : CascadeData

    Raises
    ------
    InputError
        If a model has no label or no confidence, or no two models have a query in common.

    Warns
    -----
    DataWarning
        If all labels of a model are equal, or all its confidences; if some of its confidences are values that
        no model means, such as -9999; if two models have no query in common.
    """
    for column, model in enumerate(data.models):
        labelled = data.labelled[:, column]
        observed = data.confidence[data.observed[:, column], column]
        leave_out = "or leave the model out: models=[...] (--models a,b,c)."
        if not labelled.any():
            raise InputError(
                f"model {model!r} must have labels to be fitted; column 'correct' has none for it. "
                f"Label some of its answers, {leave_out}"
            )
        if not observed.size:
            raise InputError(
                f"model {model!r} must have confidences to be fitted; column 'confidence' has none for it. "
                f"Record some, {leave_out}"
            )
        _warn_of_markers(observed, data.confidence_map.floor[column], model)
        if np.unique(observed).size == 1:
            warnings.warn(
                f"all {observed.size} confidences of model {model!r} are {float(observed[0])!r}: no "
                "threshold tells its queries apart, and what other values would say comes from the prior.",
                DataWarning,
                stacklevel=2,
            )
        right = data.correct[labelled, column]
        if right.all() or not right.any():
            warnings.warn(
                f"all {right.size} labels of model {model!r} are {bool(right[0])}: how its "
                "accuracy varies with confidence will come from the prior.",
                DataWarning,
                stacklevel=2,
            )
    _check_pairs(data)


def _check_pairs(data: CascadeData) -> None:
    """Refuse models of which no two have a query in common; warn of pairs that have none."""
    seen = data.observed.astype(np.int64)
    shared = seen.T @ seen
    pairs = list(itertools.combinations(range(data.num_models), 2))
    apart = [(data.models[i], data.models[j]) for i, j in pairs if not shared[i, j]]
    if not apart:
        return
    if len(apart) == len(pairs):
        first, second = (str(data.query_ids[np.argmax(data.observed[:, i])]) for i in (0, 1))
        raise InputError(
            "some queries must have confidences of two models or more, to tell how models go together; of "
            f"this table none has. Column 'query' must name a query alike for every model; it has {first!r} "
            f"for model {data.models[0]!r} and {second!r} for model {data.models[1]!r}. Correct the names, "
            "or ask the models about the same queries."
        )
    told = names_of(f"{first} and {second}" for first, second in apart)
    warnings.warn(
        f"no query has confidences of both models of these pairs: {told}. How they go together comes from "
        "the prior alone; ask both about the same queries.",
        DataWarning,
        stacklevel=3,
    )


def _warn_of_markers(observed: NDArray[np.float64], floor: float, model: str) -> None:
    """Say how many confidences are values that no model means."""
    markers = observed[(observed <= floor) & np.isfinite(observed)]
    if markers.size:
        values = np.unique(markers)
        what = repr(float(values[0])) if values.size == 1 else f"{float(values[-1])!r} or lower"
        warnings.warn(
            f"{markers.size} of {observed.size} confidences of model {model!r} are {what}, far from all "
            "others: no model means such a value. They are read as the lowest confidence there is. If they "
            "stand for a confidence that is not known, leave them empty.",
            DataWarning,
            stacklevel=3,
        )


def _check_map(confidence_map: ConfidenceMap, kind: str, num_models: int) -> None:
    if confidence_map.kind != kind or confidence_map.num_models != num_models:
        raise InputError(
            f"the confidence map must be of kind {kind!r} with {num_models} models; got "
            f"{confidence_map.kind!r} with {confidence_map.num_models}. Read the table with the "
            "kind and the models that the map was fitted on."
        )


def mean_cost(cost: NDArray[np.float64], default: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean over the calls made, shape ``(num_models,)``; without a call, the default."""
    called = ~np.isnan(cost)
    count = called.sum(axis=0)
    with np.errstate(over="ignore"):  # an infinite mean is refused by `CascadeData`
        total = np.where(called, cost, 0.0).sum(axis=0)
    mean = total / np.maximum(count, 1)
    return mean if default is None else np.where(count > 0, mean, default)
