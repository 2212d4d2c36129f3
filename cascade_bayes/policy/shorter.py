r"""The shorter cascade that decides alike: without the models that cannot end a query.

A model whose threshold is inf, and which never abstains, is paid for and never answers; one that never defers
is the last that is called. Thresholds with such models among them are those of a shorter cascade, and are
predicted as that. The longer chain predicts something else: what a model's confidence tells of a later one it
passes on through the models between them alone, and a noisy one between them loses it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cascade_bayes.policy.policy import Cuts, Policy


def passes_on(cuts: Cuts) -> np.ndarray:
    """Return which models but the last pass every query on, ``(..., num_models - 1)``."""
    never_abstains = True if cuts.abstain is None else cuts.abstain[..., :-1] == -np.inf
    return np.asarray((cuts.thresholds == np.inf) & never_abstains)


def ends_queries(cuts: Cuts) -> np.ndarray:
    """Return which models can end a query, ``(..., num_models)``: those of the shorter cascade.

    A query ends at a model that answers it, or leaves it without an answer.

    Examples
    --------
    >>> ends_queries(Cuts(np.array([[0.5, np.inf], [0.5, 0.7], [np.inf, -np.inf]]))).astype(int)
    array([[1, 0, 1],
           [1, 1, 1],
           [0, 1, 0]])
    """
    defer = cuts.thresholds
    low = np.full_like(defer, -np.inf) if cuts.abstain is None else cuts.abstain[..., :-1]
    never_defers = defer <= low
    always = np.ones((*defer.shape[:-1], 1), dtype=bool)
    called = np.logical_and.accumulate(np.concatenate([always, ~never_defers], axis=-1), axis=-1)
    ends = np.concatenate([~passes_on(cuts), always], axis=-1)
    return np.asarray(called & ends)


def shorten(cuts: Cuts, kept: np.ndarray) -> Cuts:
    """Return the thresholds of the shorter cascade of the models that are kept, ``(num_models,)``."""
    index = np.flatnonzero(kept)
    return Cuts(cuts.thresholds[..., index[:-1]], None if cuts.abstain is None else cuts.abstain[..., index])


def lengthen(cuts: Cuts, kept: np.ndarray) -> Cuts:
    """Return the thresholds of the longer cascade that do what those of a shorter one do."""
    lead, index = cuts.thresholds.shape[:-1], np.flatnonzero(kept)
    defer = np.full((*lead, len(kept)), np.inf)
    defer[..., index[-1] :] = -np.inf
    defer[..., index[:-1]] = cuts.thresholds
    if cuts.abstain is None:
        return Cuts(defer[..., :-1])
    abstain = np.full((*lead, len(kept)), -np.inf)
    abstain[..., index] = cuts.abstain
    defer[..., index[-1]] = cuts.abstain[..., -1]  # what it does not leave without an answer it answers
    return Cuts(defer[..., :-1], abstain)


def spelled_out(cuts: Cuts) -> Cuts:
    """Return thresholds that decide alike, with those of models that cannot end a query made plain.

    Such a model passes every query on, or is not called; its thresholds say so in one way alone.

    Parameters
    ----------
    cuts
        Thresholds with one leading axis or more.
    """
    kept = ends_queries(cuts)
    found = Cuts(cuts.thresholds.copy(), None if cuts.abstain is None else cuts.abstain.copy())
    for pattern in np.unique(kept.reshape(-1, kept.shape[-1]), axis=0):
        at = (kept == pattern).all(axis=-1)
        some = Cuts(cuts.thresholds[at], None if cuts.abstain is None else cuts.abstain[at])
        plain = lengthen(shorten(some, pattern), pattern)
        found.thresholds[at] = plain.thresholds
        if found.abstain is not None and plain.abstain is not None:
            found.abstain[at] = plain.abstain
    return found


def shorten_policy(policy: Policy) -> Policy:
    """Return the policy of the shorter cascade that decides alike, with the prediction as it stands."""
    kept = ends_queries(policy.cuts)
    if kept.all():
        return policy
    index = np.flatnonzero(kept)
    cuts, draws = (
        shorten(one, kept)
        for one in (policy.cuts, Cuts(policy.draw_thresholds, policy.draw_abstain_thresholds))
    )
    changed: dict[str, Any] = {
        "models": tuple(policy.models[i] for i in index),
        "thresholds": cuts.thresholds,
        "abstain_thresholds": cuts.abstain,
        "draw_thresholds": draws.thresholds,
        "draw_abstain_thresholds": draws.abstain,
        "call_cost": policy.call_cost[index],
        "prediction": policy.prediction._replace(
            reach_prob=tuple(policy.prediction.reach_prob[i] for i in index)
        ),
    }
    return replace(policy, **changed)
