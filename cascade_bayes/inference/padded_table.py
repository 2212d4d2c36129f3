"""A table's arrays in a shape that other tables share, so that one compiled program serves all of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import room_for
from cascade_bayes.inference.posterior_modules import Module, make_modules
from cascade_bayes.inference.preparation import Prepared
from cascade_bayes.model.observations import sample_of
from cascade_bayes.model.spec import ModelKind
from cascade_bayes.model.strata import SAMPLE_SIZE

ROOM = room_for(SAMPLE_SIZE)
"""Size of the arrays of a long table's sample."""


class PaddedTable:
    """The arrays of a table in the shape that it shares with others.

    Parameters
    ----------
    prepared
        The table, and the model that is fitted to it.
    kind
        The model of all these tables: its slots for atoms are those that any of them has.
    num_queries
        Number of queries of the longest table; the arrays have `room_for` them. It has no say where tables
        are long (`cascade_bayes.model.strata`); then all are.
    """

    def __init__(self, prepared: Prepared, kind: ModelKind, num_queries: int) -> None:
        self.prepared, self.kind = prepared, kind
        sample = sample_of(prepared.obs, prepared.spec.layout.locs)
        self.whole = None if sample is None else prepared.obs
        self.obs = prepared.obs.padded(room_for(num_queries)) if sample is None else sample.padded(ROOM)
        slots = len(kind.has_atom[0])
        locs = prepared.spec.layout.locs
        self.more_slots = ((0, 0), (0, slots - locs.shape[1]))
        atom_locs = np.pad(locs, self.more_slots, constant_values=np.nan)
        self.atom_locs = jnp.asarray(atom_locs, dtype=self.obs.z.dtype)
        self.anchors = jax.tree.map(
            lambda field: jnp.asarray(field, dtype=self.obs.z.dtype),
            prepared.spec.known_anchors.padded(slots),
        )

    def modules(self) -> tuple[Module, ...]:
        """Return the modules of the posterior."""
        names = self.prepared.data.models
        if self.whole is None:
            return make_modules(self.obs, self.atom_locs, self.anchors, self.kind, names)
        return make_modules(self.whole, self.atom_locs, self.anchors, self.kind, names, self.obs)
