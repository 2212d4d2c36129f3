r"""What a posterior is made of: independent modules, each a target with one or more lanes.

Given a table, the margins and the calibration of a modular model are independent a posteriori, and so are its
margins of each other: no prior ties them, and the likelihood is a product. They are sampled apart, the
margins as lanes of one target. The posterior of a chain is one module of a single lane.

A module's sites are by slot where the model's are a flat list of atoms; what an empty slot holds is its
prior, and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from cascade_bayes.distributions import mixed
from cascade_bayes.inference.target import Data, Target
from cascade_bayes.model.cascade import (
    MarginSpec,
    ModelKind,
    ModelSpec,
    cascade_model,
    margins_from_sites,
    sample_calibration,
    sample_margins,
)
from cascade_bayes.model.correctness import log_bernoulli, own_logit
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout, Calibration
from cascade_bayes.model.priors import Priors

Draws = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Module:
    """A part of a posterior that is sampled by itself.

    Attributes
    ----------
    target
        Its density.
    data
        Lanes first.
    names
        A name for each lane, as users read it.
    to_sites
        Draws of the target's sites, ``(num_lanes, ...)`` each, to draws of the model's sites.
    """

    target: Target
    data: Data
    names: tuple[str, ...]
    to_sites: Callable[[Mapping[str, np.ndarray]], Draws]


class MarginData(NamedTuple):
    """What a margin is fitted to; a lane has no axis of models.

    Attributes
    ----------
    z, observed
        Standardised logits, and which of them are known, ``(num_models, num_queries)``.
    atom_locs
        NaN in empty slots, ``(num_models, num_atoms)``.
    continuous
        Whether there is a continuous part, ``(num_models,)``.
    """

    z: jax.Array
    observed: jax.Array
    atom_locs: jax.Array
    continuous: jax.Array


class _CalibrationData(NamedTuple):
    z: jax.Array
    correct: jax.Array
    labelled: jax.Array
    atom_locs: jax.Array


def make_modules(obs: Observations, spec: ModelSpec, models: tuple[str, ...]) -> tuple[Module, ...]:
    """Return the modules of a table's posterior; of a modular model, those of its margins and calibration.

    Parameters
    ----------
    obs
        The table.
    spec
        The model.
    models
        Names.
    """
    if spec.structure == "chain":
        return (_chain(obs, spec),)
    layout = spec.layout
    return (
        margins_module(obs, layout, spec.margin_spec, models),
        Module(
            _calibration_target(spec.priors, spec.monotone, *layout.locs.shape),
            _one_lane(_CalibrationData(obs.z, obs.correct, obs.labelled, _atom_locs(obs, layout))),
            ("calibration",),
            lambda sites: _calibration_sites(sites, layout),
        ),
    )


def margins_module(
    obs: Observations, layout: AtomLayout, spec: MarginSpec, models: tuple[str, ...]
) -> Module:
    """Return the margins of a table, each given its own confidences."""
    continuous = jnp.asarray(layout.continuous)
    return Module(
        margin_target(spec, layout.locs.shape[1]),
        MarginData(obs.z, obs.observed, _atom_locs(obs, layout), continuous),
        tuple(f"margin of {name}" for name in models),
        lambda sites: _margin_sites(sites, layout),
    )


def _atom_locs(obs: Observations, layout: AtomLayout) -> jax.Array:
    return jnp.asarray(layout.locs, dtype=obs.z.dtype)


def _one_lane(data: Data) -> Data:
    return jax.tree.map(lambda field: field[None], data)


@cache
def margin_target(spec: MarginSpec, num_atoms: int) -> Target:
    """Return the posterior of one margin with this many slots for atoms, given `MarginData`."""

    def model(data: MarginData) -> None:
        sites = sample_margins(spec, (), num_atoms)
        margin = margins_from_sites(sites, data.atom_locs, data.continuous, spec.margin)
        log_density = mixed.log_density(data.z, jax.tree.map(lambda field: field[None], margin))
        numpyro.factor("log_likelihood", jnp.sum(jnp.where(data.observed, log_density, 0.0)))

    one, locs = jnp.zeros(1), jnp.full(num_atoms, jnp.nan)
    return Target(model, MarginData(one, one == 0, locs, jnp.asarray(True)))


@cache
def _calibration_target(priors: Priors, monotone: bool, num_models: int, num_atoms: int) -> Target:
    def model(data: _CalibrationData) -> None:
        sites = sample_calibration(priors, monotone, num_models, num_models * num_atoms)
        effect = sites.get("atom_effect", jnp.zeros(0)).reshape((num_models, num_atoms))
        curve = Calibration(data.atom_locs, sites["intercept"], sites["slope"], effect)
        labels = log_bernoulli(own_logit(data.z, curve), data.correct)
        numpyro.factor("log_likelihood", jnp.sum(jnp.where(data.labelled, labels, 0.0)))

    one, locs = jnp.zeros((num_models, 1)), jnp.full((num_models, num_atoms), jnp.nan)
    return Target(model, _CalibrationData(one, one == 0, one == 0, locs))


def _margin_sites(sites: Mapping[str, np.ndarray], layout: AtomLayout) -> Draws:
    # (model, chain, draw, ...) -> (chain, draw, model, ...), and atoms by slot to the flat list.
    found = {k: np.moveaxis(v, 0, 2) for k, v in sites.items()}
    if "atom_logit" in found:
        found["atom_logit"] = found["atom_logit"][:, :, layout.model_index, layout.slot_index]
    return found


def _calibration_sites(sites: Mapping[str, np.ndarray], layout: AtomLayout) -> Draws:
    found = {k: v[0] for k, v in sites.items()}
    if "atom_effect" in found:
        slots = layout.locs.shape[1]
        found["atom_effect"] = found["atom_effect"][..., layout.model_index * slots + layout.slot_index]
    return found


def _chain(obs: Observations, spec: ModelSpec) -> Module:
    return Module(
        _chain_target(spec.kind),
        _one_lane((obs, _atom_locs(obs, spec.layout))),
        ("chain",),
        lambda sites: {k: v[0] for k, v in sites.items()},
    )


@cache
def _chain_target(kind: ModelKind) -> Target:
    spec = kind.spec()

    def model(data: tuple[Observations, jax.Array]) -> None:
        cascade_model(data[0], spec, data[1])

    one = jnp.zeros((spec.num_models, 1))
    return Target(model, (Observations(one, one == 0, one == 0, one == 0), jnp.asarray(spec.layout.locs)))
