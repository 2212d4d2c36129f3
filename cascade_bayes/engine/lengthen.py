"""What a shorter cascade does, as figures of the longer one that has other models besides.

Which models a shorter cascade leaves out, and why, is in `cascade_bayes.policy.shorter`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade_bayes.engine.figures import Predicted
from cascade_bayes.engine.forward import Outcome


def lengthen_predicted(predicted: Predicted, kept: np.ndarray) -> Predicted:
    """Return what a shorter cascade does, with the models that it leaves out: they are not called."""
    reach = np.zeros((*predicted.reach_prob.shape[:-1], len(kept)))
    reach[..., kept] = predicted.reach_prob
    return predicted._replace(reach_prob=reach)


def lengthen_outcome(outcome: Outcome, kept: np.ndarray, abstains: bool) -> Outcome:
    """Return what a shorter cascade does where the models that it leaves out are called nonetheless.

    Those before its last model, that is: they pass every query on to the next.

    Parameters
    ----------
    outcome
        What the shorter cascade does, with any leading axes.
    kept
        Which models of the longer cascade it has, ``(num_models,)``.
    abstains
        Whether abstaining is a last model of both.
    """
    index, count = np.flatnonzero(kept), len(kept)
    lead = np.shape(outcome.error)
    reach, right = (np.zeros((*lead, count + abstains)) for _ in range(2))
    early = np.zeros((*lead, count + abstains - 1))
    for i in range(index[-1] + 1):
        reach[..., i] = outcome.reach_prob[..., np.searchsorted(index, i)]
    right[..., index] = outcome.right_prob[..., : len(index)]
    if abstains:
        reach[..., -1], right[..., -1] = outcome.reach_prob[..., -1], outcome.right_prob[..., -1]
        early[..., index[:-1]] = outcome.early_prob[..., :-1]
        if index[-1] < count - 1:  # its last model's abstentions are now those of one before the last
            early[..., index[-1]] = outcome.reach_prob[..., -1] - outcome.early_prob.sum(axis=-1)
    longer: Any = {"reach_prob": reach, "right_prob": right, "early_prob": early}
    return outcome._replace(**longer)
