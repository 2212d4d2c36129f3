"""A table as the likelihood reads it: arrays, and which queries have gaps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit

from cascade_bayes.data import CascadeData
from cascade_bayes.model.difficulty import LEVEL_ENDS
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.strata import SAMPLE_SIZE, is_long, sample_queries

NUM_CELLS = 64
"""Continuous cells of a missing confidence. The tests measure what they leave out."""


class Cells(NamedTuple):
    """A model's scale cut into cells, in standardised logits; an atom is a cell of its own.

    Several models' cells stack, those of fewer padded by cells of no width at ``+inf``.

    Attributes
    ----------
    edge
        Where the cells begin and end, ascending, ``(..., num_cells + 1)``.
    after
        Whether an edge lies just after its place (so that an atom there is below it) or just before.
    middle
        Where the rate of being right is taken, ``(..., num_cells)``; of an atom its location.
    is_atom
        Whether a cell is an atom, ``(..., num_cells)``.
    """

    edge: np.ndarray
    after: np.ndarray
    middle: np.ndarray
    is_atom: np.ndarray


State = Literal["point", "atom", "missing"]
"""What is known of a confidence: a value of the continuous part, an atom, nothing."""


class Way(NamedTuple):
    """Queries with gaps that go the same way from one model to the next.

    Attributes
    ----------
    before, after
        What is known of the two confidences.
    rows
        The queries, as indices among those with gaps; 32-bit integers.
    """

    before: State
    after: State
    rows: np.ndarray

    @property
    def states(self) -> tuple[State, State]:
        """What is known before and after."""
        return self.before, self.after


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Gaps:
    """The queries with gaps of one table. Static: a compiled likelihood is one of this very pattern.

    Indices are 32-bit integers, because the same record serves programs in 64-bit and in 32-bit arithmetic,
    and JAX keeps for a NumPy array the type that it had in the arithmetic in which it was first met:
    integers of 64 bits would be refused in the other.

    Attributes
    ----------
    rows
        Indices of the queries with gaps, ``(num_gaps,)``.
    cells
        Cells of all models, ``(num_models, ...)``.
    atom
        Cell of each confidence that is an atom, else -1, ``(num_models, num_gaps)``.
    steps
        For each pair of neighbours, the ways that queries go; each query is in one of them.
    several_labels
        Whether any of them has more than one label.
    """

    rows: np.ndarray
    cells: Cells
    atom: np.ndarray
    steps: tuple[tuple[Way, ...], ...]
    several_labels: bool


def which_have_gaps(observed: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Whether each query lacks a confidence before something that is known, ``(num_queries,)``.

    Parameters
    ----------
    observed, labelled
        Whether a confidence, and a label, is known, ``(num_models, num_queries)``.
    """
    known = observed | labelled
    later = np.flip(np.logical_or.accumulate(np.flip(known, axis=0), axis=0), axis=0)
    return np.asarray(np.any(~observed & later, axis=0))


def find_gaps(z: np.ndarray, observed: np.ndarray, labelled: np.ndarray, layout: AtomLayout) -> Gaps | None:
    """Return the queries with gaps, or None if there are none.

    Parameters
    ----------
    z
        Standardised logits, ``(num_models, num_queries)``.
    observed, labelled
        Whether a confidence, and a label, is known, of the same shape.
    layout
        Where the atoms lie.
    """
    has_gap = which_have_gaps(observed, labelled)
    if not has_gap.any():
        return None
    cells = stack_cells(
        [
            make_cells(locs[~np.isnan(locs)], bool(continuous))
            for locs, continuous in zip(layout.locs, layout.continuous, strict=True)
        ]
    )
    seen = observed[:, has_gap]
    here = cells.is_atom[:, None, :] & (z[:, has_gap, None] == cells.middle[:, None, :])
    atom = np.where(here.any(axis=2), here.argmax(axis=2), -1).astype(np.int32)
    state = {"point": seen & (atom < 0), "atom": seen & (atom >= 0), "missing": ~seen}
    ways = list(itertools.product(get_args(State), repeat=2))
    steps = [
        tuple(
            Way(before, after, rows)
            for before, after in ways
            if (rows := places_where(state[before][i] & state[after][i + 1])).size
        )
        for i in range(len(z) - 1)
    ]
    several = bool(np.any(labelled[:, has_gap].sum(axis=0) > 1))
    return Gaps(places_where(has_gap), cells, atom, tuple(steps), several)


def places_where(mask: np.ndarray) -> np.ndarray:
    """Return the places at which a mask ``(n,)`` is true, as 32-bit integers; see `Gaps`."""
    return np.flatnonzero(mask).astype(np.int32)


def make_cells(atoms: np.ndarray, continuous: bool, num_cells: int = NUM_CELLS) -> Cells:
    """Cut a model's scale between atoms, at quantiles of the logistic distribution, and between levels.

    Standardised logits are close to logistic; by the cosine rule the quantiles lie closer together towards
    both ends. Where the level of a confidence changes (`cascade_bayes.model.difficulty`), so does what its
    label has in common with others: no cell has a part in two.

    Parameters
    ----------
    atoms
        Their locations.
    continuous
        Whether there is a continuous part.
    num_cells
        Cells of the continuous part, but for the cuts at atoms and between levels.
    """
    if not continuous:  # each cell reaches from its atom to the next
        after = np.arange(atoms.size + 1) == atoms.size
        return Cells(np.append(atoms, atoms[-1]), after, atoms, np.ones(atoms.size, dtype=bool))
    level = 0.5 * (1 - np.cos(np.pi * np.arange(1, num_cells) / num_cells))
    cuts = np.setdiff1d(np.concatenate([[-np.inf], logit(level), LEVEL_ENDS, [np.inf]]), atoms)
    # An atom lies between two edges at one place, one before and one after it.
    place = np.concatenate([cuts, atoms, atoms])
    after = np.concatenate([cuts == np.inf, np.zeros(atoms.size, bool), np.ones(atoms.size, bool)])
    order = np.lexsort((after, place))
    edge, after = place[order], after[order]
    is_atom = edge[1:] == edge[:-1]
    low, high = edge[:-1], edge[1:]
    # The logit of the rate is linear in the standardised logit: a cell's middle is taken there. The two end
    # cells have none: theirs is taken on the scale from 0 to 1.
    middle = logit(0.5 * (expit(low) + expit(high)))
    inner = np.isfinite(low) & np.isfinite(high)
    middle[inner] = 0.5 * (low[inner] + high[inner])
    return Cells(edge, after, np.where(is_atom, high, middle), is_atom)


def stack_cells(cells: Sequence[Cells]) -> Cells:
    """Return the cells of several models as one record, padded to the same number of cells."""
    most = max(cell.edge.size for cell in cells)

    def padded(values: np.ndarray, size: int, fill: float | bool) -> np.ndarray:
        return np.pad(values, (0, size - values.size), constant_values=fill)

    return Cells(
        np.stack([padded(cell.edge, most, np.inf) for cell in cells]),
        np.stack([padded(cell.after, most, True) for cell in cells]),
        np.stack([padded(cell.middle, most - 1, np.inf) for cell in cells]),
        np.stack([padded(cell.is_atom, most - 1, False) for cell in cells]),
    )


class Observations(NamedTuple):
    """A table, models first so that queries lie contiguous.

    ``z``, ``observed``, ``correct`` and ``labelled`` are ``(num_models, num_queries)``; ``z`` is 0 where not
    observed. ``gaps`` is None where every query's confidences and labels are a prefix of the chain.
    ``weight``, ``(num_queries,)``, says how many queries each stands for; None if each for itself.
    """

    z: jax.Array
    observed: jax.Array
    correct: jax.Array
    labelled: jax.Array
    gaps: Gaps | None = None
    weight: jax.Array | None = None

    def padded(self, num_queries: int) -> Observations:
        """Return the arrays with queries of which nothing is known put at their end, to this number."""
        more = ((0, 0), (0, num_queries - self.z.shape[1]))
        return Observations(
            jnp.pad(self.z, more),
            jnp.pad(self.observed, more),
            jnp.pad(self.correct, more),
            jnp.pad(self.labelled, more),
            self.gaps,
            None if self.weight is None else jnp.pad(self.weight, more[1]),
        )

    def total(self, values: jax.Array, use: jax.Array) -> jax.Array:
        """Return the sum of the values of the queries used, over all queries that they stand for.

        Parameters
        ----------
        values
            One a query, ``(num_queries,)``; anything where it is not used.
        use
            Which are used, ``(num_queries,)``.
        """
        return jnp.sum(jnp.where(use, values if self.weight is None else values * self.weight, 0.0))

    def take(self, rows: np.ndarray) -> Observations:
        """Return the arrays of some queries, without a record of their gaps."""
        return Observations(
            self.z[:, rows], self.observed[:, rows], self.correct[:, rows], self.labelled[:, rows]
        )


def sample_of(obs: Observations, locs: np.ndarray) -> Observations | None:
    """Return a weighted sample of a long table's queries; None of a table that is short, or has gaps.

    Parameters
    ----------
    obs
        The table.
    locs
        Where its atoms lie, ``(num_models, num_atoms)``.
    """
    if obs.gaps is not None or not is_long(obs.z.shape[1]):
        return None
    z, observed, correct, labelled = (np.asarray(field) for field in obs[:4])
    sample = sample_queries(z, observed, [correct, labelled], locs, SAMPLE_SIZE)
    return obs.take(sample.rows)._replace(weight=jnp.asarray(sample.weight, dtype=obs.z.dtype))


def observations(data: CascadeData, layout: AtomLayout, *, modular: bool = False) -> Observations:
    """Return the arrays of ``data`` for the likelihood.

    Parameters
    ----------
    data
        The table.
    layout
        Where the atoms lie.
    modular
        Whether each model and each pair of models is fitted by itself, to the queries that have it. Then
        there is no record of gaps, and only labels whose confidence is known are labels: the calibration
        reads a label at its confidence.
    """
    observed, labelled = data.observed.T, data.labelled.T
    if modular:
        labelled = labelled & observed
    z = np.where(observed, data.logit_score().T, 0.0)
    return Observations(
        z=jnp.asarray(z),
        observed=jnp.asarray(observed),
        correct=jnp.asarray(data.correct.T & labelled),
        labelled=jnp.asarray(labelled),
        gaps=None if modular else find_gaps(z, observed, labelled, layout),
    )
