"""What a policy does on a table of real answers: realised error and cost."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError

NUM_RESAMPLES = 1000
"""Tables of the bootstrap."""

MANY_QUERIES = 5000
"""Above, a mean's bootstrap distribution is taken for normal."""

NORMAL_QUANTILE = 1.6448536269514722
"""Of 95 %."""


class Realised(NamedTuple):
    """Realised figures of one policy on one table.

    Attributes
    ----------
    num_queries
        Queries evaluated.
    error, error_se, error_q05, error_q95
        Share of queries with a wrong answer, its standard error and 90 % interval, by the bootstrap: of
        `NUM_RESAMPLES` tables of queries drawn with replacement (the normal one of `MANY_QUERIES` and more).
    cost, cost_se, cost_q05, cost_q95
        Mean US dollars per query, likewise.
    abstain, abstain_se, abstain_q05, abstain_q95
        Share of queries without an answer, likewise.
    latency, latency_se, latency_q05, latency_q95
        Mean seconds per query, likewise; None where the table does not know all of them.
    reach_prob
        Share of queries that reach each model.
    stop_prob
        Share of queries that end at each model.
    """

    num_queries: int
    error: float
    error_se: float
    error_q05: float
    error_q95: float
    cost: float
    cost_se: float
    cost_q05: float
    cost_q95: float
    abstain: float
    abstain_se: float
    abstain_q05: float
    abstain_q95: float
    latency: float | None
    latency_se: float | None
    latency_q05: float | None
    latency_q95: float | None
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
    stop = follow(data.confidence, np.asarray(thresholds, dtype=float), abstain)
    rows = np.arange(data.num_queries)
    _need(data, "confidence", stop < 0, np.where(stop < 0, -1 - stop, stop))
    left = left_unanswered(data.confidence, stop, abstain)
    called = np.arange(data.num_models)[None, :] <= stop[:, None]
    _need(data, "label", ~left & ~data.labelled[rows, stop], stop)
    _need(data, "cost", np.any(called & np.isnan(data.cost), axis=1), stop)
    figures = {
        "error": ~left & ~data.correct[rows, stop],
        "cost": np.sum(np.where(called, data.cost, 0.0), axis=1),
        "abstain": left,
    }
    known = data.latency_ms is not None and not np.isnan(data.latency_ms[called]).any()
    if data.latency_ms is not None and known:
        figures["latency"] = np.sum(np.where(called, data.latency_ms, 0.0), axis=1) / 1000.0
    found = _with_intervals({name: np.asarray(values, dtype=float) for name, values in figures.items()})
    if not known:
        found |= dict.fromkeys(("latency", "latency_se", "latency_q05", "latency_q95"))
    share = np.bincount(stop, minlength=data.num_models) / data.num_queries
    return Realised(
        num_queries=data.num_queries,
        reach_prob=tuple(float(x) for x in called.mean(axis=0)),
        stop_prob=tuple(float(x) for x in share),
        **found,  # type: ignore[arg-type]  # only a latency is None
    )


def _need(data: CascadeData, what: str, missing: NDArray[np.bool_], at: NDArray[np.int64]) -> None:
    """Raise the `InputError` of the first query for which something is missing that a policy needs.

    Parameters
    ----------
    data
        The table.
    what
        That is missing.
    missing
        Of which queries, ``(num_queries,)``.
    at
        The model at which each query stands then, ``(num_queries,)``.
    """
    if missing.any():
        row = int(np.argmax(missing))
        raise InputError(
            f"the {what} of query {str(data.query_ids[row])!r} is missing for a call that the policy makes "
            f"(it gets to model {data.models[at[row]]!r}); {int(missing.sum())} of {data.num_queries} "
            "queries lack one. Evaluate on a table with complete rows."
        )


def _with_intervals(figures: dict[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Return means over queries, their standard errors, and 5 % and 95 % quantiles by the bootstrap."""
    values = np.stack(list(figures.values()), axis=1)
    n = len(values)
    means = values.mean(axis=0)
    # A single query says nothing of how queries differ.
    errors = values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(means), np.nan)
    if n == 1:
        low = high = errors
    elif n > MANY_QUERIES:
        low, high = means - NORMAL_QUANTILE * errors, means + NORMAL_QUANTILE * errors
    else:
        low, high = np.quantile(_resampled(n) @ values / n, [0.05, 0.95], axis=0)
    found: dict[str, float | None] = {}
    for name, *each in zip(figures, means, errors, low, high, strict=True):
        ends = ("", "_se", "_q05", "_q95")
        found |= {name + end: float(value) for end, value in zip(ends, each, strict=True)}
    return found


@lru_cache(maxsize=2)
def _resampled(num_queries: int) -> NDArray[np.float64]:
    """Return how often each query is in tables drawn with replacement, ``(NUM_RESAMPLES, num_queries)``.

    The same for every policy of a frontier.
    """
    rng = np.random.default_rng(0)
    share = np.full(num_queries, 1.0 / num_queries)
    return rng.multinomial(num_queries, share, size=NUM_RESAMPLES).astype(float)
