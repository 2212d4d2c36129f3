r"""What draws of a cascade say of a table: the density of each of its queries, and tables like it.

The density of a query is the joint one of its confidences, as standardised logits, and its labels
(`cascade_bayes.model.likelihood`), under the cascade of all models in order. A replicate is a table drawn
from the same cascade (`cascade_bayes.model.simulate`), with the observed table's gaps.

Either is one compiled program over all draws, divided among devices.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from cascade_bayes._devices import divide, largest_divisor
from cascade_bayes.copulas import Copula, Kind
from cascade_bayes.data import CascadeData
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.observations import NUM_CELLS, Observations
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.simulate import simulate_scores

BATCH = 1 << 14
"""Confidences whose density is computed side by side, at most; at least those of one draw."""


@partial(jax.jit, static_argnums=(2, 3))
def log_likelihoods(
    params: CascadeParams, obs: Observations, copulas: tuple[Copula, ...], kinds: tuple[Kind, ...]
) -> jax.Array:
    """Return the log density of each query under each draw, ``(num_draws, num_queries)``.

    Parameters
    ----------
    params
        Draws, every field with a leading axis.
    obs
        The table.
    copulas, kinds
        The same as for `cascade_bayes.model.likelihood.log_likelihood`.
    """
    num_draws = params.intercept.shape[0]
    # A missing confidence stands for all the cells of its scale.
    size = obs.z.size + (0 if obs.gaps is None else obs.gaps.atom.size * NUM_CELLS)

    def of_draws(params: CascadeParams, obs: Observations) -> jax.Array:
        return jax.lax.map(
            lambda draw: log_likelihood(draw, obs, copulas, kinds),
            params,
            batch_size=largest_divisor(params.intercept.shape[0], BATCH // size),
        )

    return divide(of_draws, num_draws, (0, None), 0)(params, obs)


class Replicates(NamedTuple):
    """Tables like the observed one, a draw each, on the scale of its confidences.

    Attributes
    ----------
    confidence
        ``(num_draws, num_queries, num_models)``; NaN where the observed table has none.
    correct
        Labels of the same shape, as `labels_with_gaps` has them.
    """

    confidence: np.ndarray
    correct: np.ndarray


def replicate(
    key: jax.Array,
    params: CascadeParams,
    copulas: tuple[Copula, ...],
    layout: AtomLayout,
    data: CascadeData,
) -> Replicates:
    """Draw a table from each cascade.

    Parameters
    ----------
    key
        PRNG key.
    params
        Draws, every field with a leading axis.
    copulas
        Family of each neighbouring pair.
    layout
        Where the atoms lie. At an atom a replicate has the very value that the table has.
    data
        The observed table: its number of queries, its map of confidences and its gaps.
    """
    keys = jax.random.split(key, len(params.intercept))
    drawn = simulate_draws(keys, params, copulas, data.num_queries)
    z, correct = (np.moveaxis(np.asarray(x), 1, 2) for x in drawn)
    confidence = data.confidence_map.from_logit(z.astype(float))
    for i, slot in zip(layout.model_index, layout.slot_index, strict=True):
        # Drawn values carry the location in the draws' own precision.
        at_atom = z[..., i] == layout.locs[i, slot].astype(z.dtype)
        confidence[..., i][at_atom] = layout.raw[i, slot]
    return Replicates(
        np.where(data.observed, confidence, np.nan),
        labels_with_gaps(correct, data.labelled),
    )


def labels_with_gaps(correct: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return labels as 0 and 1: integers if all are known, else floats with NaN where there is none.

    Parameters
    ----------
    correct
        Whether answers are right, ``(..., num_queries, num_models)``.
    labelled
        Whether that is known, ``(num_queries, num_models)``.
    """
    if labelled.all():
        return correct.astype(np.int8)
    return np.where(labelled, correct.astype(float), np.nan)


@partial(jax.jit, static_argnums=(2, 3))
def simulate_draws(
    keys: jax.Array, params: CascadeParams, copulas: tuple[Copula, ...], num_queries: int
) -> tuple[jax.Array, jax.Array]:
    """Return standardised logits and labels of one table a draw, ``(num_draws, num_models, num_queries)``.

    Parameters
    ----------
    keys
        PRNG keys, one a draw.
    params
        Draws, every field with a leading axis.
    copulas
        Family of each neighbouring pair.
    num_queries
        Rows of each table.
    """

    def of_draws(keys: jax.Array, params: CascadeParams) -> tuple[jax.Array, jax.Array]:
        # One after another: a batch of draws would go on until the slowest quantile of them all is found.
        return jax.lax.map(
            lambda draw: simulate_scores(draw[0], draw[1], copulas, num_queries), (keys, params)
        )

    return divide(of_draws, len(keys), (0, 0), 0)(keys, params)
