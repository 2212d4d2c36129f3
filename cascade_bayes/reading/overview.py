"""What was read of a table, model by model, and what of it looks odd: to be seen before minutes are spent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import names_of
from cascade_bayes._units import DOLLARS
from cascade_bayes.data import CascadeData
from cascade_bayes.reading.scales import rank_sum

DEAR = 0.5
"""US dollars from which on a cost that is the same for every call looks like a price of a million tokens.

A call of 100,000 tokens at 5 dollars per million costs as much; hardly one call costs more, and never do all
cost the same.
"""

VERY_DEAR = 20.0
"""US dollars per call that no model costs, however long the query."""


def overview(data: CascadeData) -> dict[str, Any]:
    """Return what a table holds, ready for JSON.

    Parameters
    ----------
    data
        A table that was read.

    Returns
    -------
    dict
        ``num_queries``; ``kind``, what confidences are read as; ``cost_unit``, what costs are counted in;
        ``models``, a list with one entry for each model in cascade order: ``model``, ``num_calls``,
        ``num_confidences``, ``num_labels``, ``accuracy`` (None without a label), ``median_confidence``
        (None without one) and ``call_cost``, the mean US dollars per call; and ``odd``, sentences about
        what looks wrong.
    """
    models = []
    for i, name in enumerate(data.models):
        labelled, seen = data.labelled[:, i], data.confidence[data.observed[:, i], i]
        models.append(
            {
                "model": name,
                "num_calls": int((~np.isnan(data.cost[:, i])).sum()),
                "num_confidences": int(seen.size),
                "num_labels": int(labelled.sum()),
                "accuracy": float(data.correct[labelled, i].mean()) if labelled.any() else None,
                "median_confidence": float(np.median(seen)) if seen.size else None,
                "call_cost": float(data.call_cost[i]),
            }
        )
    return {
        "num_queries": data.num_queries,
        "kind": data.kind,
        "cost_unit": data.units.cost,
        "models": models,
        "odd": [*_odd_costs(data), *_odd_direction(data)],
    }


def _odd_costs(data: CascadeData) -> list[str]:
    """Return what is odd about costs."""
    if data.units.cost != DOLLARS:
        return []
    if not data.call_cost.any():
        return [
            "All costs are 0, so that nothing is saved by asking fewer models: give what a call costs, "
            "cost_per_call={...} (--cost-per-call MODEL=DOLLARS), or do without, costs=False "
            "(--no-costs)."
        ]
    dearest = data.models[int(np.argmax(data.call_cost))]
    most = float(data.call_cost.max())
    if all(_constant(data.cost[:, i]) for i in range(data.num_models)) and most >= DEAR:
        return [
            f"Every call of model {dearest!r} costs {most:g} US dollars, which looks like a price of a "
            "million tokens: costs are US dollars per call. Give columns of tokens and prices=... "
            "(--prices FILE), or what a call costs, cost_per_call={...} (--cost-per-call MODEL=DOLLARS)."
        ]
    if most >= VERY_DEAR:
        return [
            f"A call of model {dearest!r} costs {most:g} US dollars on average, more than calls of models "
            "do: costs are US dollars per call, not cents, and not per thousand calls."
        ]
    return []


def _constant(cost: NDArray[np.float64]) -> bool:
    known = cost[~np.isnan(cost)]
    return bool((known == known[:1]).all())


def _odd_direction(data: CascadeData) -> list[str]:
    """Return whether confidences look upside down: the higher, the more often wrong."""
    turned = []
    for i, name in enumerate(data.models):
        known = data.labelled[:, i] & data.observed[:, i]
        score = rank_sum(data.confidence[known, i], data.correct[known, i])
        if score is not None and score < -3.0:
            turned.append(name)
    if not turned:
        return []
    which = f"model {names_of(turned)}" if len(turned) == 1 else f"models {names_of(turned)}"
    remedy = {
        "probability": 'if these are 1 - p, pass confidence="uncertainty" (--confidence uncertainty).',
        "logprob": "correct them if they should.",
        "score": "if greater scores say less sure, give their negatives.",
    }[data.kind]
    return [
        f"Right answers of {which} have lower confidences than wrong ones, as if the scale were upside "
        f"down. Confidences should grow with how sure a model is: {remedy}"
    ]
