"""What a policy does on a table of real answers: realised error and cost."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError


class Realised(NamedTuple):
    """Realised figures of one policy on one table.

    Attributes
    ----------
    num_queries
        Queries evaluated.
    error, error_se
        Share of queries with a wrong answer and its standard error.
    cost, cost_se
        Mean US dollars per query and its standard error.
    abstain, abstain_se
        Share of queries without an answer and its standard error.
    latency, latency_se
        Mean seconds per query and its standard error; None where the table does not know all of them.
    reach_prob
        Share of queries that reach each model.
    stop_prob
        Share of queries that end at each model.
    """

    num_queries: int
    error: float
    error_se: float
    cost: float
    cost_se: float
    abstain: float
    abstain_se: float
    latency: float | None
    latency_se: float | None
    reach_prob: tuple[float, ...]
    stop_prob: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dictionary."""
        return {
            name if name == "num_queries" else f"realised_{name}": list(value)
            if isinstance(value, tuple)
            else value
            for name, value in self._asdict().items()
        }


def decide(
    confidence: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    abstain: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Return the index of the model at which each query ends, with an answer or without.

    Parameters
    ----------
    confidence
        Raw confidences, ``(num_queries, num_models)`` or with fewer columns: the last is not looked at unless
        it can abstain. Entries behind the model at which a query ends may be NaN.
    thresholds
        ``(num_models - 1,)``; a query is deferred iff its confidence is below, and not below ``abstain``.
    abstain
        ``(num_models,)``; a query is left without an answer iff its confidence is below. None if none is.

    Returns
    -------
    NDArray
        ``(num_queries,)``.

    Raises
    ------
    InputError
        If a confidence that the decision needs is missing.
    """
    stop = follow(confidence, thresholds, abstain)
    if (stop < 0).any():
        row = int(np.argmax(stop < 0))
        raise InputError(
            f"confidence of model {-stop[row]} of the cascade must be present for every query that reaches "
            f"it; it is missing for query {row + 1}."
        )
    return stop


def follow(
    confidence: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    abstain: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Return what `decide` does, and ``-i`` where the confidence of the i-th model called is missing.

    Parameters
    ----------
    confidence, thresholds, abstain
        As for `decide`.
    """
    last = len(thresholds)
    stop = np.full(len(confidence), last)
    undecided = np.ones(len(confidence), dtype=bool)
    for i in range(last + 1):
        low = -np.inf if abstain is None else abstain[i]
        high = thresholds[i] if i < last else -np.inf
        if low == -np.inf and high == np.inf:
            continue
        seen = np.full(len(confidence), np.nan) if i >= confidence.shape[1] else confidence[:, i]
        needed = low < np.inf and (low > -np.inf or low < high)
        ends = undecided & ((seen < low) | (seen >= high) if needed else True)
        missing = undecided & np.isnan(seen) & needed
        stop[ends], stop[missing] = i, -1 - i
        undecided &= ~(ends | missing)
    return stop


def left_unanswered(
    confidence: NDArray[np.float64], stop: NDArray[np.int64], abstain: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Return which queries are left without an answer, ``(num_queries,)``.

    Parameters
    ----------
    confidence, abstain
        As for `decide`.
    stop
        What it returned.
    """
    if abstain is None:
        return np.zeros(len(stop), dtype=bool)
    padded = np.pad(confidence, ((0, 0), (0, 1)), constant_values=np.nan)
    seen = padded[np.arange(len(stop)), np.minimum(stop, confidence.shape[1])]
    return (abstain[stop] == np.inf) | (seen < abstain[stop])


def realise(
    data: CascadeData, thresholds: NDArray[np.float64], abstain: NDArray[np.float64] | None = None
) -> Realised:
    """Run a policy over a labelled table.

    Parameters
    ----------
    data
        The table, its models in the policy's order.
    thresholds, abstain
        Raw thresholds, as for `decide`.

    Raises
    ------
    InputError
        If the confidence, label or cost of a call that the policy makes is missing.
    """
    stop = decide(data.confidence, np.asarray(thresholds, dtype=float), abstain)
    left = left_unanswered(data.confidence, stop, abstain)
    rows = np.arange(data.num_queries)
    called = np.arange(data.num_models)[None, :] <= stop[:, None]
    for what, missing in (
        ("label", ~left & ~data.labelled[rows, stop]),
        ("cost", np.any(called & np.isnan(data.cost), axis=1)),
    ):
        if missing.any():
            row = int(np.argmax(missing))
            raise InputError(
                f"the {what} of query {str(data.query_ids[row])!r} is missing for a call that the policy "
                f"makes (it ends at model {data.models[stop[row]]!r}); {int(missing.sum())} of "
                f"{data.num_queries} queries lack one. Evaluate on a table with complete rows."
            )
    seconds = None
    if data.latency_ms is not None and not np.isnan(data.latency_ms[called]).any():
        seconds = np.sum(np.where(called, data.latency_ms, 0.0), axis=1) / 1000.0
    error, error_se = _share(~left & ~data.correct[rows, stop])
    cost, cost_se = _mean(np.sum(np.where(called, data.cost, 0.0), axis=1))
    unanswered, unanswered_se = _share(left)
    waited, waited_se = (None, None) if seconds is None else _mean(seconds)
    return Realised(
        num_queries=data.num_queries,
        error=error,
        error_se=error_se,
        cost=cost,
        cost_se=cost_se,
        abstain=unanswered,
        abstain_se=unanswered_se,
        latency=waited,
        latency_se=waited_se,
        reach_prob=tuple(float(x) for x in called.mean(axis=0)),
        stop_prob=tuple(float(x) for x in np.bincount(stop, minlength=data.num_models) / data.num_queries),
    )


def _share(found: NDArray[np.bool_]) -> tuple[float, float]:
    """Return a share and its standard error."""
    share = float(found.mean())
    return share, float(np.sqrt(share * (1 - share) / len(found)))


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return a mean and its standard error."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
