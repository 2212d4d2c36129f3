"""The queries of a fit's table as decisions read them: all, or a weighted sample of a long table.

What policies do is averaged over the observed queries, on every draw. Of a long table that is done for a
stratified sample (`cascade_bayes.model.strata`), whose queries stand for the others: like ones in
confidences, costs, latencies and in what is known of them. Each has as much weight as all for which it
stands, and on a draw of the Bayesian bootstrap the weight that they have together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cascade_bayes.data import CascadeData, mean_cost
from cascade_bayes.model.strata import LARGEST, code_rows, draw_sample, lay_strata


class Table(NamedTuple):
    """Queries by which decisions are made.

    Attributes
    ----------
    data
        The queries; mean costs of calls are those of the whole table.
    weight
        How many queries of the whole table each stands for, ``(num_queries,)``; None if each for itself.
    """

    data: CascadeData
    weight: np.ndarray | None


def draw_table(data: CascadeData, locs: np.ndarray, most: int) -> Table:
    """Return a stratified sample of a long table.

    Parameters
    ----------
    data
        The table.
    locs
        Standardised logits of each model's atoms, ``(num_models, num_atoms)``; NaN pads.
    most
        Queries of the sample, at most.
    """
    z = data.logit_score()
    at_atom = (z[:, :, None] == locs) @ np.arange(1, locs.shape[1] + 1)
    paid = [data.cost] if data.latency_ms is None else [data.cost, data.latency_ms]
    known = [~np.isnan(field) for field in (data.confidence, *paid)]
    code = code_rows([column for fields in (at_atom, *known) for column in fields.T])
    near = np.clip(np.where(data.observed, z, 0.0), -LARGEST, LARGEST)
    stratum = lay_strata(code, np.column_stack([near, *map(_relative_size, paid)]), most)
    sample = draw_sample(stratum)
    # What calls cost on average must not hang on who was drawn.
    few = data.take(sample.rows)
    total = np.where(np.isnan(few.cost), 0.0, few.cost * sample.weight[:, None]).sum(axis=0)
    called = (~np.isnan(few.cost) * sample.weight[:, None]).sum(axis=0)
    found = total / np.maximum(called, 1)
    wanted = mean_cost(data.cost, default=data.call_cost)
    ratio = np.where(found > 0, wanted / np.where(found > 0, found, 1.0), 1.0)
    return Table(replace(few, cost=few.cost * ratio, call_cost=data.call_cost), sample.weight.astype(float))


def _relative_size(values: np.ndarray) -> np.ndarray:
    """Return the mean log size of each query's values, spread like a confidence's, ``(num_queries,)``.

    Values are ``(num_queries, num_models)``, not negative, NaN where they are not known.
    """
    positive = values > 0
    log = np.log(np.where(positive, values, 1.0))
    count = positive.sum(axis=0)
    centred = np.where(positive, log - np.where(positive, log, 0.0).sum(axis=0) / np.maximum(count, 1), 0.0)
    mean = centred.sum(axis=1) / np.maximum(positive.sum(axis=1), 1)
    spread = mean.std()
    return np.asarray(mean / spread if spread > 0 else mean)
