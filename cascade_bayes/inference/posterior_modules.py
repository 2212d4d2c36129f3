r"""What a posterior is made of: independent modules, each a target with one or more lanes.

Given a table, the margins and the calibration of a modular model are independent a posteriori, and so are its
margins of each other: no prior ties them, and the likelihood is a product. They are sampled apart, the
margins as lanes of one target. The posterior of a chain is one module of a single lane.

A module's sites are by slot where the model's are a flat list of atoms; what an empty slot holds is its
prior, and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from cascade_bayes._trees import room_for, take
from cascade_bayes.distributions import mixed
from cascade_bayes.inference.samplers.draw import LaneDraws
from cascade_bayes.inference.samplers.long_tables import tilt
from cascade_bayes.inference.samplers.nuts import MAX_NUM_STEPS, Draws
from cascade_bayes.inference.samplers.target import Data, Lanes, Target
from cascade_bayes.model.anchors import Anchors
from cascade_bayes.model.cascade import (
    cascade_model,
    label_corr_from_sites,
    margins_from_sites,
    sample_calibration,
    sample_label_corr,
    sample_margins,
)
from cascade_bayes.model.correctness import own_logit
from cascade_bayes.model.difficulty import log_labels
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout, Calibration
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import MarginSpec, ModelKind
from cascade_bayes.model.strata import bin_values


@dataclass(frozen=True, eq=False)
class Module:
    """A part of a posterior that is sampled by itself.

    Attributes
    ----------
    lanes
        Its density and data.
    names
        A name for each lane, as users read it.
    to_sites
        Draws of the target's sites, ``(num_lanes, ...)`` each, to draws of the model's sites.
    """

    lanes: Lanes
    names: tuple[str, ...]
    to_sites: Callable[[Mapping[str, np.ndarray]], Draws]


class Sampled(NamedTuple):
    """Draws of a model's sites.

    Attributes
    ----------
    samples, stats
        ``(num_chains, num_samples, ...)``; no statistics but of NUTS.
    report
        What `cascade_bayes.inference.samplers.draw.LaneDraws` reports, by name and by lane's name.
    """

    samples: Draws
    stats: Draws
    report: dict[str, dict[str, Any]]


def side_by_side(tables: Sequence[Sequence[Module]]) -> list[Lanes]:
    """Return the lanes of several tables' modules, alike in all but their data, table after table."""
    return [
        Lanes(
            alike[0].lanes.target,
            jax.tree.map(lambda *data: jnp.concatenate(data), *(module.lanes.data for module in alike)),
        )
        for alike in zip(*tables, strict=True)
    ]


def shapes_of_sites(modules: Sequence[Module], num_draws: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Return what stands for so many draws, in one row, of a model's sites that modules have."""
    found: dict[str, jax.ShapeDtypeStruct] = {}
    for module in modules:
        target, data = module.lanes
        x = jnp.zeros((len(jax.tree.leaves(data)[0]), 1, num_draws, target.dim))
        sites = jax.eval_shape(jax.vmap(jax.vmap(jax.vmap(target.sites))), x)
        of_model = module.to_sites({name: np.zeros(site.shape, site.dtype) for name, site in sites.items()})
        found |= {
            name: jax.ShapeDtypeStruct(values.shape[1:], values.dtype) for name, values in of_model.items()
        }
    return found


def collect(modules: Sequence[Module], found: Sequence[LaneDraws], table: int = 0) -> Sampled:
    """Return the draws of one of the tables whose modules were sampled side by side.

    Independent parts side by side have the sum of their energies. A transition diverges if one of its parts
    does.
    """
    samples: Draws = {}
    report: dict[str, dict[str, Any]] = {}
    stats = []
    parts: list[LaneDraws] = [
        take(draws, slice(table * len(module.names), (table + 1) * len(module.names)))
        for module, draws in zip(modules, found, strict=True)
    ]
    start = max(int(own.start.max()) for own in parts)
    for module, own in zip(modules, parts, strict=True):
        samples |= module.to_sites(take(own.sites, np.s_[:, :, start:]))
        stats.append(take(own.stats, np.s_[:, :, start:]))
        for name, values in (own.report | trajectories(stats[-1])).items():
            report.setdefault(name, {}).update(zip(module.names, values.tolist(), strict=True))
    if not stats[0]:
        return Sampled(samples, {}, report)

    def over_lanes(name: str) -> np.ndarray:
        return np.concatenate([lanes[name] for lanes in stats])

    joined = {
        "accept_prob": over_lanes("accept_prob").mean(axis=0),
        "diverging": over_lanes("diverging").any(axis=0),
        "energy": over_lanes("energy").sum(axis=0),
        "num_steps": over_lanes("num_steps").max(axis=0),
        "potential_energy": over_lanes("potential_energy").sum(axis=0),
    }
    return Sampled(samples, joined, report)


def trajectories(stats: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    r"""Return what NUTS's trajectories say of every lane; nothing where there are none.

    Every transition counts, before any are thinned out: with :math:`E_t` the energies of a chain, its
    Bayesian fraction of missing information is :math:`\sum_t (E_t - E_{t-1})^2 / \sum_t (E_t - \bar E)^2`.

    Source: Betancourt, "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo", arXiv
    1604.00695 (2016).

    Parameters
    ----------
    stats
        ``(num_lanes, num_chains, num_samples)``.

    Returns
    -------
    dict of np.ndarray
        ``e_bfmi``, the smallest of a lane's chains, and ``saturated``, the share of its transitions that took
        the longest trajectory the sampler allows, ``(num_lanes,)``; NaN of a single transition or none.
    """
    if not stats:
        return {}
    energy = stats["energy"]
    if energy.shape[2] < 2:
        unknown = np.full(len(energy), np.nan)
        return {"e_bfmi": unknown, "saturated": unknown}
    spread = np.sum((energy - energy.mean(axis=2, keepdims=True)) ** 2, axis=2)
    spread = np.maximum(spread, np.finfo(float).tiny)  # a chain that does not move has none: as bad as can be
    return {
        "e_bfmi": np.min(np.sum(np.diff(energy, axis=2) ** 2, axis=2) / spread, axis=1),
        "saturated": np.mean(stats["num_steps"] >= MAX_NUM_STEPS, axis=(1, 2)),
    }


class MarginData(NamedTuple):
    """What a margin is fitted to; a lane has no axis of models.

    Attributes
    ----------
    z
        Standardised logits, ``(num_models, num_values)``: one a query, or those of bins.
    weight
        How often each occurs, 0 or 1 of one a query, ``(num_models, num_values)``.
    atom_locs
        NaN in empty slots, ``(num_models, num_atoms)``.
    continuous
        Whether there is a continuous part, ``(num_models,)``.
    """

    z: jax.Array
    weight: jax.Array
    atom_locs: jax.Array
    continuous: jax.Array


class _CalibrationData(NamedTuple):
    obs: Observations
    atom_locs: jax.Array
    anchors: Anchors


def make_modules(
    obs: Observations,
    atom_locs: jax.Array,
    anchors: Anchors,
    kind: ModelKind,
    models: tuple[str, ...],
    sample: Observations | None = None,
) -> tuple[Module, ...]:
    """Return the modules of a table's posterior; of a modular model, those of its margins and calibration.

    Parameters
    ----------
    obs
        The table.
    atom_locs
        Where its atoms lie, ``(num_models, num_atoms)``; NaN where a slot that the model has is empty.
    anchors
        What its confidences say of how often models are right, with as many slots for atoms.
    kind
        The model.
    models
        Names.
    sample
        A weighted sample of a long table's queries, to stand for them all: margins are then those of all
        confidences in bins, and the rest that of the sample with the whole table's gradient.
    """

    def lanes(target: Target, make: Callable[[Observations], Data]) -> Lanes:
        data = make(obs) if sample is None else tilt(target, make, obs, sample)
        return Lanes(target, jax.tree.map(lambda field: field[None], data))

    if kind.structure == "chain":
        chain = lanes(_chain_target(kind), lambda obs: (obs, atom_locs, anchors))
        return (Module(chain, ("chain",), lambda sites: {k: v[0] for k, v in sites.items()}),)
    layout = kind.spec().layout
    target = _calibration_target(kind.priors, kind.monotone, *atom_locs.shape)
    return (
        margins_module(obs, atom_locs, kind, models, in_bins=sample is not None),
        Module(
            lanes(target, lambda obs: _CalibrationData(obs, atom_locs, anchors)),
            ("calibration",),
            lambda sites: _calibration_sites(sites, layout),
        ),
    )


def margins_module(
    obs: Observations,
    atom_locs: jax.Array,
    kind: ModelKind,
    models: tuple[str, ...],
    *,
    in_bins: bool = False,
) -> Module:
    """Return the margins of a table, each given its own confidences, all or in bins.

    Other arguments are those of `make_modules`.
    """
    z, count = _bins(obs, atom_locs) if in_bins else (obs.z, obs.observed)
    layout = kind.spec().layout
    target = margin_target(MarginSpec(kind.margin, kind.priors), atom_locs.shape[1])
    return Module(
        Lanes(target, MarginData(z, count, atom_locs, jnp.asarray(kind.continuous))),
        tuple(f"margin of {name}" for name in models),
        lambda sites: _margin_sites(sites, layout),
    )


def _bins(obs: Observations, atom_locs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Values of each model's confidences and how often they occur, ``(num_models, num_values)`` both."""
    rows = zip(np.asarray(obs.z), np.asarray(obs.observed), np.asarray(atom_locs), strict=True)
    bins = [bin_values(z[seen], locs) for z, seen, locs in rows]
    size = room_for(max(value.size for value, _ in bins))
    z, count = (np.stack([np.pad(own[part], (0, size - own[part].size)) for own in bins]) for part in (0, 1))
    return jnp.asarray(z, dtype=obs.z.dtype), jnp.asarray(count, dtype=obs.z.dtype)


@cache
def margin_target(spec: MarginSpec, num_atoms: int) -> Target:
    """Return the posterior of one margin with this many slots for atoms, given `MarginData`."""

    def model(data: MarginData) -> None:
        sites = sample_margins(spec, (), num_atoms)
        margin = margins_from_sites(sites, data.atom_locs, data.continuous, spec.margin)
        log_density = mixed.log_density(data.z, jax.tree.map(lambda field: field[None], margin))
        counted = jnp.where(data.weight > 0, data.weight * log_density, 0.0)
        numpyro.factor("log_likelihood", jnp.sum(counted))

    one, locs = jnp.zeros(1), jnp.full(num_atoms, jnp.nan)
    data = MarginData(one, one == 0, locs, jnp.asarray(True))
    return Target(model, data, f"margin {spec}, {num_atoms} atoms")


@cache
def _calibration_target(priors: Priors, monotone: bool, num_models: int, num_atoms: int) -> Target:
    slots = np.indices((num_models, num_atoms)).reshape(2, -1)

    def model(data: _CalibrationData) -> None:
        sites = sample_calibration(priors, monotone, data.anchors, (slots[0], slots[1]))
        effect = sites.get("atom_effect", jnp.zeros(0)).reshape((num_models, num_atoms))
        curve = Calibration(data.atom_locs, sites["intercept"], sites["slope"], effect)
        label_corr = label_corr_from_sites(sample_label_corr(priors))
        obs = data.obs
        labels = log_labels(own_logit(obs.z, curve), obs.z, obs.correct, obs.labelled, label_corr)
        numpyro.factor("log_likelihood", jnp.sum(labels if obs.weight is None else labels * obs.weight))

    one, locs = jnp.zeros((num_models, 1)), jnp.full((num_models, num_atoms), jnp.nan)
    anchors = jax.tree.map(jnp.asarray, Anchors.none(num_models, num_atoms))
    obs = Observations(one, one == 0, one == 0, one == 0)
    name = f"calibration {priors}, monotone {monotone}, {num_models} models, {num_atoms} atoms"
    return Target(model, _CalibrationData(obs, locs, anchors), name)


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


@cache
def _chain_target(kind: ModelKind) -> Target:
    spec = kind.spec()

    def model(data: tuple[Observations, jax.Array, Anchors]) -> None:
        obs, atom_locs, anchors = data
        cascade_model(obs, spec, atom_locs, anchors)

    one = jnp.zeros((spec.num_models, 1))
    obs = Observations(one, one == 0, one == 0, one == 0)
    anchors = jax.tree.map(jnp.asarray, Anchors.none(*spec.layout.locs.shape))
    return Target(model, (obs, jnp.asarray(spec.layout.locs), anchors), f"chain {kind}")
