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
        Share of wrong answers and its standard error.
    cost, cost_se
        Mean US dollars per query and its standard error.
    reach_prob
        Share of queries that reach each model.
    stop_prob
        Share of queries that each model answers.
    """

    num_queries: int
    error: float
    error_se: float
    cost: float
    cost_se: float
    reach_prob: tuple[float, ...]
    stop_prob: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dictionary."""
        return {
            "num_queries": self.num_queries,
            "realised_error": self.error,
            "realised_error_se": self.error_se,
            "realised_cost": self.cost,
            "realised_cost_se": self.cost_se,
            "realised_reach_prob": list(self.reach_prob),
            "realised_stop_prob": list(self.stop_prob),
        }


def decide(confidence: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the model that answers each query.

    Parameters
    ----------
    confidence
        Raw confidences, ``(num_queries, num_models)`` or with fewer columns: the last is not looked at.
        Entries behind the answering model may be NaN.
    thresholds
        ``(num_models - 1,)``; a query is deferred iff its confidence is below.

    Returns
    -------
    NDArray
        ``(num_queries,)``.

    Raises
    ------
    InputError
        If a confidence that the decision needs is missing.
    """
    stop = follow(confidence, thresholds)
    if (stop < 0).any():
        row = int(np.argmax(stop < 0))
        raise InputError(
            f"confidence of model {-stop[row]} of the cascade must be present for every query that reaches "
            f"it; it is missing for query {row + 1}."
        )
    return stop


def follow(confidence: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return what `decide` does, and ``-i`` where the confidence of the i-th model called is missing.

    Parameters
    ----------
    confidence, thresholds
        As for `decide`.
    """
    stop = np.full(len(confidence), len(thresholds))
    undecided = np.ones(len(confidence), dtype=bool)
    for i, threshold in enumerate(thresholds):
        if threshold == np.inf:
            continue
        seen = confidence[:, i]
        accepts = undecided & (True if threshold == -np.inf else seen >= threshold)
        missing = undecided & np.isnan(seen) & (threshold > -np.inf)
        stop[accepts], stop[missing] = i, -1 - i
        undecided &= ~(accepts | missing)
    return stop


def realise(data: CascadeData, thresholds: NDArray[np.float64]) -> Realised:
    """Run a policy over a labelled table.

    Parameters
    ----------
    data
        The table, its models in the policy's order.
    thresholds
        Raw thresholds, ``(num_models - 1,)``.

    Raises
    ------
    InputError
        If the confidence, label or cost of a call that the policy makes is missing.
    """
    stop = decide(data.confidence, np.asarray(thresholds, dtype=float))
    rows = np.arange(data.num_queries)
    called = np.arange(data.num_models)[None, :] <= stop[:, None]
    for what, missing in (
        ("label", ~data.labelled[rows, stop]),
        ("cost", np.any(called & np.isnan(data.cost), axis=1)),
    ):
        if missing.any():
            row = int(np.argmax(missing))
            raise InputError(
                f"the {what} of query {str(data.query_ids[row])!r} is missing for a call that the policy "
                f"makes (it answers with model {data.models[stop[row]]!r}); {int(missing.sum())} of "
                f"{data.num_queries} queries lack one. Evaluate on a table with complete rows."
            )
    wrong = ~data.correct[rows, stop]
    cost = np.sum(np.where(called, data.cost, 0.0), axis=1)
    n = data.num_queries
    share = np.bincount(stop, minlength=data.num_models) / n
    return Realised(
        num_queries=n,
        error=float(wrong.mean()),
        error_se=float(np.sqrt(wrong.mean() * (1 - wrong.mean()) / n)),
        cost=float(cost.mean()),
        cost_se=float(cost.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
        reach_prob=tuple(float(x) for x in called.mean(axis=0)),
        stop_prob=tuple(float(x) for x in share),
    )
