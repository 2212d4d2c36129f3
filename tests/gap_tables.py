"""Tables with gaps of every kind, made of a complete one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cascade_bayes.data import CascadeData
from cascade_bayes.transforms import ConfidenceMap

Array = Any
NUM_QUERIES = 200


def make_table(num_models: int = 2, num_queries: int = NUM_QUERIES, seed: int = 0) -> CascadeData:
    """Return a complete table of related probabilities, and of labels that follow them."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(num_queries, 1))
    own = rng.normal(size=(num_queries, num_models))
    confidence = 1 / (1 + np.exp(-(0.6 + common + own)))
    shape = confidence.shape
    return CascadeData(
        models=tuple("abcde"[:num_models]),
        query_ids=np.array([f"q{i}" for i in range(num_queries)]),
        confidence=confidence,
        correct=rng.random(shape) < confidence,
        labelled=np.ones(shape, dtype=bool),
        cost=np.broadcast_to(10.0 ** np.arange(num_models), shape),
        latency_ms=None,
        call_cost=10.0 ** np.arange(num_models),
        kind="probability",
        confidence_map=ConfidenceMap.fit(confidence, "probability"),
    )


def without(table: CascadeData, missing: Array, *, rows: bool = False) -> CascadeData:
    """Return the table with confidences left out, or with their whole rows."""
    blank = replace(table, confidence=np.where(missing, np.nan, table.confidence))
    if not rows:
        return blank
    return replace(
        blank,
        labelled=table.labelled & ~missing,
        correct=table.correct & ~missing,
        cost=np.where(missing, np.nan, table.cost),
    )


def log_of(table: CascadeData, *goes_on: Array) -> CascadeData:
    """Return the log of a cascade whose every model but the last says which queries go on."""
    first = np.ones((table.num_queries, 1), dtype=bool)
    asked = np.logical_and.accumulate(np.column_stack([first, *goes_on]), axis=1)
    return without(table, ~asked, rows=True)


def with_gaps(table: CascadeData) -> dict[str, CascadeData]:
    """Return a table of three models with gaps of every kind."""
    rng = np.random.default_rng(5)
    shape = table.confidence.shape
    some = rng.random(shape) < 0.2
    nowhere = np.zeros(shape, dtype=bool)

    def of_model(i: int) -> CascadeData:
        return without(table, some & (np.arange(3) == i))

    one, subset = nowhere.copy(), nowhere.copy()
    one[7, 1] = True
    subset[rng.permutation(len(subset))[: len(subset) // 2], 2] = True
    unlabelled = table.labelled & ~some
    low = table.confidence < np.quantile(table.confidence, 0.6, axis=0)
    return {
        "one": without(table, one),
        "here and there": without(table, some),
        "first": of_model(0),
        "middle": of_model(1),
        "last": of_model(2),
        "subset": without(table, subset, rows=True),
        "labels": replace(table, labelled=unlabelled, correct=table.correct & unlabelled),
        "log": log_of(table, low[:, 0], low[:, 1]),
    }
