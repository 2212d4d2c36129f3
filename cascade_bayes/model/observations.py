"""A table as the likelihood reads it: arrays, and which queries have gaps."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit

from cascade_bayes.data import CascadeData
from cascade_bayes.model.params import AtomLayout

NUM_CELLS = 64
"""Continuous cells of a missing confidence. The tests measure what they leave out."""


class Cells(NamedTuple):
    """Cells of one model's scale, in standardised logits, ``(num_cells,)`` each.

    ``middle`` is where the rate of being right is taken; of an atom all three are its location.
    """

    lower: np.ndarray
    upper: np.ndarray
    middle: np.ndarray
    is_atom: np.ndarray


class Step(NamedTuple):
    """Which queries with gaps go how from one model to the next, as indices among them."""

    seen_seen: np.ndarray
    seen_missing: np.ndarray
    missing_seen: np.ndarray
    missing_missing: np.ndarray


class Gaps(NamedTuple):
    """The queries with gaps of one table.

    Attributes
    ----------
    rows, others
        Indices of the queries with gaps, and of those without.
    cells
        Cells of each model.
    steps
        One for each pair of neighbours.
    """

    rows: np.ndarray
    others: np.ndarray
    cells: tuple[Cells, ...]
    steps: tuple[Step, ...]


def find_gaps(observed: np.ndarray, labelled: np.ndarray, layout: AtomLayout) -> Gaps | None:
    """Return the queries with gaps, or None if there are none.

    Parameters
    ----------
    observed, labelled
        Whether a confidence, and a label, is known, ``(num_models, num_queries)``.
    layout
        Where the atoms lie.
    """
    known = observed | labelled
    later = np.flip(np.logical_or.accumulate(np.flip(known, axis=0), axis=0), axis=0)
    has_gap = np.any(~observed & later, axis=0)
    if not has_gap.any():
        return None
    seen = observed[:, has_gap]
    steps = [
        Step(*(np.flatnonzero(which) for which in (a & b, a & ~b, ~a & b, ~a & ~b)))
        for a, b in itertools.pairwise(seen)
    ]
    cells = tuple(
        make_cells(locs[~np.isnan(locs)], bool(continuous))
        for locs, continuous in zip(layout.locs, layout.continuous, strict=True)
    )
    return Gaps(np.flatnonzero(has_gap), np.flatnonzero(~has_gap), cells, tuple(steps))


def make_cells(atoms: np.ndarray, continuous: bool, num_cells: int = NUM_CELLS) -> Cells:
    """Cut a model's scale between atoms and at quantiles of the logistic distribution.

    Standardised logits are close to logistic; by the cosine rule the quantiles lie closer together towards
    both ends.

    Parameters
    ----------
    atoms
        Their locations.
    continuous
        Whether there is a continuous part.
    num_cells
        Cells of the continuous part, but for the cuts at atoms.
    """
    bounds = []
    if continuous:
        level = 0.5 * (1 - np.cos(np.pi * np.arange(1, num_cells) / num_cells))
        edges = np.unique(np.concatenate([[-np.inf], logit(level), atoms[np.isfinite(atoms)], [np.inf]]))
        bounds = list(itertools.pairwise(edges))
    ends = np.array([*bounds, *((a, a) for a in atoms)], dtype=float)
    lower, upper = ends[np.lexsort((ends[:, 1], ends[:, 0]))].T
    is_atom = lower == upper
    score = 0.5 * (expit(lower) + expit(upper))
    return Cells(lower, upper, np.where(is_atom, lower, logit(score)), is_atom)


class Observations(NamedTuple):
    """A table, models first so that queries lie contiguous.

    ``z``, ``observed``, ``correct`` and ``labelled`` are ``(num_models, num_queries)``; ``z`` is 0 where not
    observed. ``gaps`` is None where every query's confidences and labels are a prefix of the chain.
    """

    z: jax.Array
    observed: jax.Array
    correct: jax.Array
    labelled: jax.Array
    gaps: Gaps | None = None

    def take(self, rows: np.ndarray) -> Observations:
        """Return the arrays of some queries, without a record of their gaps."""
        return Observations(
            self.z[:, rows], self.observed[:, rows], self.correct[:, rows], self.labelled[:, rows]
        )


def observations(data: CascadeData, layout: AtomLayout) -> Observations:
    """Return the arrays of ``data`` for the likelihood.

    Parameters
    ----------
    data
        The table.
    layout
        Where the atoms lie.
    """
    observed, labelled = data.observed.T, data.labelled.T
    z = np.where(observed, data.logit_score().T, 0.0)
    return Observations(
        z=jnp.asarray(z),
        observed=jnp.asarray(observed),
        correct=jnp.asarray(data.correct.T),
        labelled=jnp.asarray(labelled),
        gaps=find_gaps(observed, labelled, layout),
    )
