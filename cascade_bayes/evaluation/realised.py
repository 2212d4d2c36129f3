"""What a policy does on a table of real answers: realised error and cost."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.rule import follow

NUM_RESAMPLES = 1000
"""Tables of the bootstrap."""

MANY_QUERIES = 5000
"""Above, a mean's bootstrap distribution is taken for normal."""

NORMAL_QUANTILE = 1.6448536269514722
"""95 % quantile of the standard normal distribution; half a 90 % interval, in standard errors."""


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
    num_missing
        Queries that were passed on because a confidence which the policy asked for is missing.
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
    num_missing: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dictionary."""
        return {
            name if name.startswith("num_") else f"realised_{name}": list(value)
            if isinstance(value, tuple)
            else value
            for name, value in self._asdict().items()
        }


def realise(
    data: CascadeData, thresholds: NDArray[np.float64], abstain: NDArray[np.float64] | None = None
) -> Realised:
    """Run a policy over a labelled table.

    A model that was asked and gave no confidence passes the query on, as it does in `Policy.decide`: leaving
    such queries out would bias error and cost. Their number is `Realised.num_missing`.

    Parameters
    ----------
    data
        The table, its models in the policy's order.
    thresholds
        Raw scale, ``(num_models - 1,)``: a query is deferred iff its confidence is below.
    abstain
        Raw scale, ``(num_models,)``: a query is left without an answer iff its confidence is below, which
        comes before deferral. None if none is.

    Raises
    ------
    InputError
        If the label or the cost of a call that the policy makes is missing, or the confidence by which the
        last model may abstain.
    """
    stop, left, missing = follow(data.confidence, np.asarray(thresholds, dtype=float), abstain)
    rows = np.arange(data.num_queries)
    _need(data, "confidence", missing[:, -1], stop)
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
        num_missing=int(missing.any(axis=1).sum()),
        **found,  # type: ignore[arg-type]  # only a latency is None
    )


_REMEDIES = {
    "confidence": "Fill it in, or tune a policy that always answers: leave out --abstain-price.",
    "label": "Fill it in, or leave out all rows of that query.",
    "cost": "Add that model's row of the query, or leave out all rows of the query.",
}
"""What to do about a table that lacks what a policy needs."""


def _need(data: CascadeData, what: str, missing: NDArray[np.bool_], stop: NDArray[np.int64]) -> None:
    """Raise the `InputError` of the first query for which something is missing that a policy needs.

    Parameters
    ----------
    data
        The table.
    what
        What is missing, in words.
    missing
        Which queries lack it, ``(num_queries,)``.
    stop
        The model at which each query stops, ``(num_queries,)``.
    """
    if missing.any():
        row = int(np.argmax(missing))
        at = stop[row]
        if what == "cost":
            at = int(np.argmax(np.isnan(data.cost[row])))
        raise InputError(
            f"the {what} of model {data.models[at]!r} must be known for every query that gets "
            f"there; it is missing for query {str(data.query_ids[row])!r}, and {int(missing.sum())} of "
            f"{data.num_queries} queries lack one. {_REMEDIES[what]}"
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
