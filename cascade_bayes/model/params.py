r"""The parameters of one cascade as one record, and where its atoms lie.

===================  =======================================  =======================
symbol               code                                     shape
===================  =======================================  =======================
:math:`w_{i,a}`      ``margins.atom_probs``                   (num_models, num_atoms)
:math:`F_c`          ``margins.continuous``, each field       (num_models, num_components)
:math:`\theta_i`     ``theta``, copula of models i and i + 1  (num_models - 1,)
:math:`a_i, b_i`     ``intercept``, ``slope``                 (num_models,)
:math:`c_i`          ``upstream``, 0 for the first model      (num_models,)
:math:`e_{i,a}`      ``atom_effect``                          (num_models, num_atoms)
:math:`\rho, \kappa` ``label_corr``, within a query           ()
===================  =======================================  =======================

Every field may carry a leading axis of posterior draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas import Kind
from cascade_bayes.data import CascadeData
from cascade_bayes.distributions.mixed import MarginParams
from cascade_bayes.errors import InputError
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.transforms import KINDS, in_domain

INTERIOR_ATOM_SHARE = 0.1
"""Smallest share of a model's confidences at one finite value that makes the value an atom.

Confidences within rounding of certainty are stored in coarse steps, a few per cent of the queries
each; those are read as continuous. A tenth of all queries on one value is more than a smooth
density holds.
"""


MIN_REPEATS = 10
"""Average number of times that each finite value of a discrete confidence occurs.

Verbal confidences take 8 to 53 values over thousands of queries. Log-probabilities of 300 queries, stored
in coarse steps next to certainty, still take a value 2 or 3 times on average.
"""

MAX_DISCRETE = 128
"""Largest number of values that a discrete confidence takes: more of them are a measurement, rounded.

In a table of 200,000 queries even numbers of four digits occur ten times each."""


class Calibration(NamedTuple):
    """How often each model is right at its own confidence; the fields of `CascadeParams`."""

    atom_locs: jax.Array
    intercept: jax.Array
    slope: jax.Array
    atom_effect: jax.Array


class CascadeParams(NamedTuple):
    """All parameters of one cascade; see the table in the module's docstring."""

    margins: MarginParams
    theta: jax.Array
    intercept: jax.Array
    slope: jax.Array
    upstream: jax.Array
    atom_effect: jax.Array
    label_corr: LabelCorr

    @property
    def num_models(self) -> int:
        """Number of models in the cascade."""
        return self.intercept.shape[-1]

    @property
    def calibration(self) -> Calibration:
        """Each model's own curve, without the previous model's part."""
        return Calibration(self.margins.atom_locs, self.intercept, self.slope, self.atom_effect)

    def margin(self, i: int) -> MarginParams:
        """Return the margin of model ``i``, for parameters without a draw axis."""
        return jax.tree.map(lambda field: field[i], self.margins)


class AtomLayout(NamedTuple):
    """Which atoms each model's margin has: data of the fit, not parameters.

    Attributes
    ----------
    locs
        Standardised logits, ``(num_models, num_atoms)``, ascending, NaN in empty slots.
    raw
        The same values on the raw scale, exactly as they stand in the table; of values at or below the floor
        of the confidence map, the floor.
    continuous
        Whether each model's margin has a continuous part besides, ``(num_models,)``.
    """

    locs: np.ndarray
    raw: np.ndarray
    continuous: np.ndarray

    @property
    def model_index(self) -> np.ndarray:
        """Model of each atom in the flat list of all atoms, ``(total_atoms,)``."""
        return np.nonzero(self.has_atom)[0]

    @property
    def slot_index(self) -> np.ndarray:
        """Slot of each atom within its model, ``(total_atoms,)``."""
        return np.nonzero(self.has_atom)[1]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each model's confidences can be, one a model."""
        return tuple(
            ("mixed" if continuous else "atoms") if count else "continuous"
            for count, continuous in zip(self.counts, self.continuous, strict=True)
        )

    @property
    def counts(self) -> np.ndarray:
        """Number of atoms of each model, ``(num_models,)``."""
        return np.sum(self.has_atom, axis=1)

    def select(self, models: Sequence[int]) -> AtomLayout:
        """Return the layout of some models, by position."""
        index = list(models)
        return AtomLayout(self.locs[index], self.raw[index], self.continuous[index])

    @property
    def has_atom(self) -> np.ndarray:
        """Which slots hold an atom, ``(num_models, num_atoms)``."""
        return ~np.isnan(self.locs)

    def scatter(self, flat: jax.Array, fill: float) -> jax.Array:
        """Spread values of the flat list ``(total_atoms,)`` over ``(num_models, num_atoms)``."""
        out = jnp.full(self.locs.shape, fill, dtype=flat.dtype)
        return out.at[self.model_index, self.slot_index].set(flat)


def find_atoms(
    data: CascadeData,
    interior_share: float = INTERIOR_ATOM_SHARE,
    *,
    atoms: Mapping[str, Sequence[float]] | None = None,
) -> AtomLayout:
    """Find the point masses of each model's confidence.

    A value is an atom if it is

    * exact certainty (a probability of exactly 0 or 1), which no density can hold; a value at or below the
      floor of the confidence map, such as -9999, is one with a probability of 0;
    * a finite value that at least ``interior_share`` of the model's confidences, and at least five of
      them, share;
    * any value of a model whose finite confidences take each value `MIN_REPEATS` times on average, and
      `MAX_DISCRETE` values at most: such confidences are words or grades, not measurements;
    * the only value of a model whose confidences are all alike.

    A model all of whose confidences are atoms has no continuous part.

    Parameters
    ----------
    data
        The table, confidences ``(num_queries, num_models)``.
    interior_share
        See `INTERIOR_ATOM_SHARE`.
    atoms
        Finite atoms by model name, on the raw scale, in place of those the rule would find; models that
        are not named keep the rule. Exact certainty stays an atom.

    Raises
    ------
    InputError
        If ``atoms`` names an unknown model, or a value outside the domain of the confidences.
    """
    overrides = _check_overrides(data, atoms or {})
    z = data.logit_score()
    per_model: list[tuple[np.ndarray, np.ndarray]] = []
    continuous = np.ones(data.num_models, dtype=bool)
    for i, model in enumerate(data.models):
        seen = data.observed[:, i]
        # All that lies at or below the floor is one value: as unsure as can be.
        confidence = np.maximum(data.confidence[seen, i], data.confidence_map.floor[i])
        raw, first, counts = np.unique(confidence, return_index=True, return_counts=True)
        logit = z[seen, i][first]
        finite = np.isfinite(logit)
        if model in overrides:
            wanted = np.maximum(np.asarray(overrides[model], dtype=float), data.confidence_map.floor[i])
            keep = ~finite | np.isin(raw, wanted)
            extra = np.setdiff1d(wanted, raw)
            continuous[i] = bool((finite & ~keep).any())
            raw = np.concatenate([raw[keep], extra])
            logit = np.concatenate([logit[keep], data.confidence_map.to_logit(extra, model=i)])
            order = np.argsort(logit)
            per_model.append((logit[order], raw[order]))
            continue
        keep = ~finite | ((counts >= 5) & (counts >= interior_share * counts.sum()))
        if 0 < finite.sum() <= min(MAX_DISCRETE, counts[finite].sum() / MIN_REPEATS):
            keep[:] = True
        if len(raw) == 1:
            keep[:] = True
        continuous[i] = not keep.all()
        per_model.append((logit[keep], raw[keep]))
    width = max(len(logit) for logit, _ in per_model)
    locs = np.full((data.num_models, width), np.nan)
    raws = locs.copy()
    for i, (logit, raw) in enumerate(per_model):
        locs[i, : len(logit)] = logit
        raws[i, : len(raw)] = raw
    return AtomLayout(locs, raws, continuous)


def _check_overrides(
    data: CascadeData, atoms: Mapping[str, Sequence[float]]
) -> Mapping[str, Sequence[float]]:
    for model, values in atoms.items():
        if model not in data.models:
            raise InputError(
                f"atoms names model {model!r}, which is not in the data; its models are "
                f"{', '.join(map(repr, data.models))}."
            )
        for value in values:
            if np.isnan(value) or not in_domain(value, data.kind):
                raise InputError(
                    f"an atom of model {model!r} must be {KINDS[data.kind]} for kind {data.kind!r}; got "
                    f"{value!r}. Give atoms on the raw scale of the confidences."
                )
    return atoms
