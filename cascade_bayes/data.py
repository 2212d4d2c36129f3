"""One cascade's results as fixed-shape arrays, and the reading of long tables into them.

A long table has one row per query and model. `read_table` turns it into a `CascadeData`: arrays of
shape ``(num_queries, num_models)`` with the models in cascade order, and nan or a mask where a row
or a label is absent.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_bayes._load import load_frame
from cascade_bayes._log import ThresholdRule, check_log, read_rule
from cascade_bayes._table import Table, check_models, confidences, costs, names_of
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.transforms import KINDS, ConfidenceMap, check_kind, in_domain

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["CascadeData", "check_fittable", "read_table"]


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
        US dollars of each call; nan where there was no row.
    latency_ms : ndarray of float64, shape (num_queries, num_models), or None
        Milliseconds of each call; nan where unknown. None if the table has none.
    call_cost : ndarray of float64, shape (num_models,)
        Mean US dollars per call.
    kind : {'logprob', 'probability', 'score'}
        Kind of confidence.
    confidence_map : ConfidenceMap
        From raw confidences to standardised logit scores.

    Raises
    ------
    InputError
        If shapes or kinds disagree, a confidence is outside the domain of its kind, or a call cost
        is negative or missing.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame(
    ...     {
    ...         "query": ["q1", "q1", "q2", "q2"],
    ...         "model": ["small", "large", "small", "large"],
    ...         "confidence": [0.6, 0.9, 0.3, 0.8],
    ...         "correct": [1, 1, 0, 1],
    ...         "cost": [0.001, 0.01, 0.001, 0.01],
    ...     }
    ... )
    >>> data = read_table(frame, confidence="probability")
    >>> data.select(["large"]).confidence
    array([[0.9],
           [0.8]])
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
            call_cost=_mean_cost(self.cost[at], default=self.call_cost),
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


def read_table(
    source: str | Path | pandas.DataFrame | polars.DataFrame,
    *,
    confidence: str = "logprob",
    models: Sequence[str] | None = None,
    prices: Mapping[str, Mapping[str, float]] | str | Path | None = None,
    confidence_map: ConfidenceMap | None = None,
    logged_policy: ThresholdRule | Mapping[str, float] | None = None,
) -> CascadeData:
    """Read a long table of results, one row per query and model.

    Parameters
    ----------
    source : path, pandas.DataFrame or polars.DataFrame
        A file ending in .csv, .parquet, .jsonl, .ndjson or .json (JSON Lines, or one array of
        objects), or a frame. Columns `query`, `model`, `confidence`; optionally `correct` (0, 1,
        true, false or empty), `latency_ms`, and `cost` in US dollars per call or `tokens_in` and
        `tokens_out`. Other columns are ignored; a (query, model) row may be absent.
    confidence : {'logprob', 'probability', 'score'}
        Kind of confidence: natural log of a probability in [-inf, 0], probability in [0, 1], or
        any finite number that grows with confidence.
    models : sequence of str, optional
        The models to keep, in cascade order; queries without a row for any of them are dropped. By
        default all, by increasing mean cost, ties by first appearance.
    prices : mapping or path of a JSON file, optional
        ``{model: {"in": ..., "out": ...}}`` in US dollars per million input and output tokens. Used
        when the table has token columns, then in place of a `cost` column.
    confidence_map : ConfidenceMap, optional
        The map to use, entries in cascade order: pass that of the training data when reading test
        data. By default one is fitted on this table.
    logged_policy : Policy, or mapping of model to threshold, optional
        The rule under which a running cascade wrote this log: a query went on iff its confidence was below
        the threshold. The mapping names every model but the last in cascade order. It gives the order of the
        models and is checked against the rows; the likelihood of a log needs no more than its rows.

    Returns
    -------
    CascadeData
        Queries in order of first appearance.

    Raises
    ------
    InputError
        If the table, the prices or an argument cannot be used, or the rows contradict `logged_policy`; the
        message names the place.
    TypeError
        If `source` is neither a path nor a frame, or `models` is one string.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame(
    ...     {
    ...         "query": ["q1", "q1", "q2", "q2"],
    ...         "model": ["large", "small", "large", "small"],
    ...         "confidence": [-0.001, -0.4, 0.0, float("-inf")],
    ...         "tokens_in": [100, 100, 50, 50],
    ...         "tokens_out": [10, 10, 10, 10],
    ...     }
    ... )
    >>> prices = {"small": {"in": 0.1, "out": 0.1}, "large": {"in": 3, "out": 3}}
    >>> data = read_table(frame, confidence="logprob", prices=prices)
    >>> data.models
    ('small', 'large')
    >>> data.confidence
    array([[-0.4  , -0.001],
           [  -inf,  0.   ]])
    """
    return read_at_least(
        2,
        source,
        confidence=confidence,
        models=models,
        prices=prices,
        confidence_map=confidence_map,
        logged_policy=logged_policy,
    )


def read_at_least(
    fewest: int,
    source: Any,
    *,
    confidence: str,
    models: Sequence[str] | None,
    prices: Mapping[str, Mapping[str, float]] | str | Path | None = None,
    confidence_map: ConfidenceMap | None = None,
    logged_policy: ThresholdRule | Mapping[str, float] | None = None,
) -> CascadeData:
    """Read a table as `read_table` does, of at least so many models: one, to evaluate a policy of one."""
    check_kind(confidence)
    table = Table.from_frame(load_frame(source))
    rule = None if logged_policy is None else read_rule(logged_policy, table.model_names)
    if rule is not None:
        if models is not None and tuple(models) != tuple(rule):
            raise InputError(
                f"models must be those of logged_policy, {names_of(rule)}, in that order; got "
                f"{names_of(models)}. Leave models out."
            )
        models = list(rule)
    if models is not None:
        table = table.restrict(check_models(models, table.model_names, minimum=fewest))
    elif len(table.model_names) < 2:
        raise InputError(
            "a cascade needs at least two models; column 'model' holds only "
            f"{names_of(table.model_names)}. Add the rows of another model."
        )
    raw = confidences(table, confidence)
    cost = costs(table, prices)
    if table.has("correct"):
        correct, labelled = table.labels("correct")
    else:
        correct = labelled = np.zeros(len(raw), dtype=np.bool_)
    latency = None
    if table.has("latency_ms"):
        latency = table.amounts("latency_ms", "milliseconds", required=False)

    shape = (len(table.query_names), len(table.model_names))
    at = (table.query_codes, table.model_codes)

    def scatter(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        array = np.full(shape, empty)
        array[at] = values
        return array

    cost_array = scatter(cost, np.nan)
    call_cost = _mean_cost(cost_array)
    if models is None:
        # Twelve digits: means of the same price over different counts are ties.
        order = np.argsort([float(f"{mean:.12g}") for mean in call_cost], kind="stable")
    else:
        order = np.arange(shape[1])
    confidence_array = scatter(raw, np.nan)[:, order]
    if confidence_map is None:
        confidence_map = ConfidenceMap.fit(confidence_array, confidence)
    data = CascadeData(
        models=tuple(table.model_names[i] for i in order),
        query_ids=np.array(table.query_names, dtype=np.str_),
        confidence=confidence_array,
        correct=scatter(correct, False)[:, order],
        labelled=scatter(labelled, False)[:, order],
        cost=cost_array[:, order],
        latency_ms=None if latency is None else scatter(latency, np.nan)[:, order],
        call_cost=call_cost[order],
        kind=confidence,
        confidence_map=confidence_map,
    )
    if rule is not None:
        check_log(rule, data.query_ids, ~np.isnan(data.cost), data.confidence)
    return data


def check_fittable(data: CascadeData) -> None:
    """Check that every model can be fitted: it has labels and confidences.

    Reading and evaluating do not need this, so `read_table` does not ask for it.

    Parameters
    ----------
    data : CascadeData

    Raises
    ------
    InputError
        If a model has no label, or no confidence.

    Warns
    -----
    DataWarning
        If all labels of a model are equal, or all its confidences.
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


def _check_map(confidence_map: ConfidenceMap, kind: str, num_models: int) -> None:
    if confidence_map.kind != kind or confidence_map.num_models != num_models:
        raise InputError(
            f"the confidence map must be of kind {kind!r} with {num_models} models; got "
            f"{confidence_map.kind!r} with {confidence_map.num_models}. Read the table with the "
            "kind and the models that the map was fitted on."
        )


def _mean_cost(cost: NDArray[np.float64], default: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean over the calls made, shape ``(num_models,)``; without a call, the default."""
    called = ~np.isnan(cost)
    count = called.sum(axis=0)
    total = np.where(called, cost, 0.0).sum(axis=0)
    mean = total / np.maximum(count, 1)
    return mean if default is None else np.where(count > 0, mean, default)
