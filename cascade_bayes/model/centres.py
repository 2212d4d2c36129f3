r"""What is to be expected of an earlier model's confidence, given a later model's.

In a modular model the upstream effect :math:`c` is that of what the earlier confidence says *beyond* the
later one, so that the later model's calibration on its own stays what it was:

.. math::

    \mathrm{logit}\,p_j = a_j + b_j x_j + e_j(z_j) + c\,\{x_i - m - s\,x_j - d(z_j)\},

with the least-squares fit of :math:`m + s x_j + d(z_j)` to :math:`x_i`, the effect :math:`d` free at each
atom of model :math:`j` and 0 elsewhere. Without :math:`d` the braces would not have mean 0 at an atom; its
rate, which the calibration has to itself, would count twice what the earlier model says there, and pull
:math:`c` to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.model.correctness import regressor
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout


class Centres(NamedTuple):
    """The fit of each pair (i, j) of models.

    Attributes
    ----------
    line
        :math:`m` and :math:`s`, ``(num_pairs, 2)``.
    at_atoms
        :math:`d` at each atom of model j, ``(num_pairs, num_atoms)``; 0 in empty slots.
    """

    line: np.ndarray
    at_atoms: np.ndarray

    def beyond(self, before: jax.Array, after: jax.Array, atom_locs: jax.Array) -> jax.Array:
        """Return what the earlier model says beyond the later one, ``(num_queries,)``, of a single pair.

        Parameters
        ----------
        before, after
            Standardised logits of its models, ``(num_queries,)``.
        atom_locs
            Where the atoms of the later one lie, ``(num_atoms,)``.
        """
        here = after[:, None] == atom_locs
        at_atom = jnp.sum(jnp.where(here, self.at_atoms, 0.0), axis=1)
        return regressor(before) - self.line[0] - self.line[1] * regressor(after) - at_atom


def find_centres(obs: Observations, layout: AtomLayout, pairs: Sequence[tuple[int, int]]) -> Centres:
    """Return the least-squares fits of a table's confidences; no label enters.

    A pair that no query shows together has zeros; one whose later model has a single value, or only atoms,
    beside its atoms the slope 0.

    Parameters
    ----------
    obs
        The table.
    layout
        Where the atoms lie.
    pairs
        Positions of the two models of each pair.
    """
    x, z, seen = np.asarray(regressor(obs.z)), np.asarray(obs.z), np.asarray(obs.observed)
    line = np.zeros((len(pairs), 2))
    at_atoms = np.zeros((len(pairs), layout.locs.shape[1]))
    for index, (i, j) in enumerate(pairs):
        both = seen[i] & seen[j]
        at = both[:, None] & (z[j][:, None] == layout.locs[j])
        smooth = both & ~at.any(axis=1)
        some = smooth if smooth.any() else both
        if some.any():
            before, own = x[i, some], x[j, some]
            spread = np.mean((own - own.mean()) ** 2)
            slope = np.mean((own - own.mean()) * before) / spread if smooth.any() and spread > 0 else 0.0
            line[index] = before.mean() - slope * own.mean(), slope
        residual = x[i] - line[index, 0] - line[index, 1] * x[j]
        count = at.sum(axis=0)
        at_atoms[index] = np.where(count > 0, residual @ at / np.maximum(count, 1), 0.0)
    return Centres(line, at_atoms)
