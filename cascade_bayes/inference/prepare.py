"""What a fit needs of a table, and what it makes of the draws."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes._trees import room_for
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import ConvergenceWarning, DataWarning, InputError
from cascade_bayes.inference.convergence import USABLE_ESS, Closeness, assess
from cascade_bayes.inference.effort import random_subset
from cascade_bayes.inference.modular import Draws, sample_pairs, thin
from cascade_bayes.inference.modules import Module, Sampled, make_modules
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.select import CopulaSelection, choose_copulas
from cascade_bayes.inference.structure import check_modular, find_selection
from cascade_bayes.model.anchors import find_anchors
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.names import Structure
from cascade_bayes.model.observations import Observations, observations, sample_of
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors, default_priors
from cascade_bayes.model.spec import ModelKind, ModelSpec
from cascade_bayes.model.strata import SAMPLE_SIZE

ROOM = room_for(SAMPLE_SIZE)
"""Size of the arrays of a long table's sample."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table and the model that is fitted to it.

    Attributes
    ----------
    data
        The table.
    obs
        Its arrays. Only a chain has a record of their gaps, and labels of answers without a confidence.
    spec
        The model, without centres.
    selection
        How the copulas were chosen, if they were.
    options
        How it is fitted.
    num_given
        Queries of the table that was given, of which ``data`` may be a random subset.
    seconds
        What preparing it has taken.
    """

    data: CascadeData
    obs: Observations
    spec: ModelSpec
    selection: CopulaSelection | None
    options: FitOptions
    num_given: int
    seconds: float = 0.0


@in_64_bits
def prepare(data: CascadeData, options: FitOptions) -> Prepared:
    """Check a table, find its atoms, settle structure and copulas.

    Parameters
    ----------
    data
        The table that was given.
    options
        How it is to be fitted.

    Raises
    ------
    InputError
        If the table cannot be fitted.

    Warns
    -----
    DataWarning
        As `cascade_bayes.fit` does of tables.
    """
    began, num_given = time.perf_counter(), data.num_queries
    data = random_subset(data, options.max_queries, options.seed)
    check_fittable(data)
    # The default's many components shrink where there are few data.
    priors = options.priors or default_priors(data.num_queries)
    if options.priors is not None:
        _check_components(data, priors)
    selection = find_selection(data)
    structure = options.structure or ("modular" if selection is None else "chain")
    layout = find_atoms(data, atoms=options.atoms)
    if structure == "modular":
        check_modular(data, selection)
    obs = observations(data, layout, modular=structure == "modular")
    spec = ModelSpec(
        layout,
        (),
        priors,
        upstream=options.upstream,
        monotone=options.monotone,
        margin=options.margin,
        structure=structure,
        anchors=find_anchors(data, layout, at_random=selection is None),
    )
    copula, chosen = options.copula, None
    if copula == "auto":
        chosen = choose_copulas(obs, layout, priors, pairs=spec.pairs, margin=options.margin)
        copula = chosen.names
    spec = replace(spec, copulas=get_copulas(copula, len(spec.pairs)))
    return Prepared(data, obs, spec, chosen, options, num_given, time.perf_counter() - began)


class Arrays:
    """The arrays of a table in the shape that it shares with others.

    Parameters
    ----------
    one
        The table.
    kind
        The model of all these tables: its slots for atoms are those that any of them has.
    num_queries
        Number of queries of the longest table; the arrays have `room_for` them. It has no say where tables
        are long (`cascade_bayes.model.strata`); then all are.
    """

    def __init__(self, one: Prepared, kind: ModelKind, num_queries: int) -> None:
        self.one, self.kind = one, kind
        sample = sample_of(one.obs, one.spec.layout.locs)
        self.whole = None if sample is None else one.obs
        self.obs = one.obs.padded(room_for(num_queries)) if sample is None else sample.padded(ROOM)
        slots = len(kind.has_atom[0])
        locs = one.spec.layout.locs
        self._more = ((0, 0), (0, slots - locs.shape[1]))
        atom_locs = np.pad(locs, self._more, constant_values=np.nan)
        self.atom_locs = jnp.asarray(atom_locs, dtype=self.obs.z.dtype)
        self.anchors = jax.tree.map(
            lambda field: jnp.asarray(field, dtype=self.obs.z.dtype), one.spec.known_anchors.padded(slots)
        )

    def modules(self) -> tuple[Module, ...]:
        """Return the modules of the posterior."""
        names = self.one.data.models
        if self.whole is None:
            return make_modules(self.obs, self.atom_locs, self.anchors, self.kind, names)
        return make_modules(self.whole, self.atom_locs, self.anchors, self.kind, names, self.obs)

    def posterior(self, sampled: Sampled, key: jax.Array, seconds: float) -> Posterior:
        """Draw what is drawn given the modules, and return the posterior of the table's own model.

        Parameters
        ----------
        sampled
            Draws of the modules.
        key
            PRNG key.
        seconds
            What drawing them has taken.

        Raises
        ------
        InputError
            If draws are not finite.

        Warns
        -----
        DataWarning
            If a slope is negative with a probability above one half.
        ConvergenceWarning
            If an approximation has next to no effective draws.
        """
        began = time.perf_counter()
        one, spec = self.one, self.one.spec
        samples, stats = kept(sampled, spec.structure)
        samples = dict(samples)
        if spec.structure == "modular":
            centres = find_centres(one.obs, spec.layout, spec.pairs)
            spec = replace(spec, centres=centres)
            padded = centres._replace(at_atoms=np.pad(centres.at_atoms, self._more))
            samples |= sample_pairs(
                key,
                samples,
                self.obs,
                self.atom_locs,
                self.kind,
                padded,
                whole=self.whole,
                at_mode=one.options.method == "map",
            )
        own = ~np.isnan(np.asarray(self.atom_locs))[np.nonzero(self.kind.spec().layout.has_atom)]
        for name in ("atom_logit", "atom_effect"):
            if name in samples:
                samples[name] = samples[name][..., own]
                if not own.any():
                    del samples[name]
        broken = [name for name, values in samples.items() if not np.isfinite(values).all()]
        if broken:
            raise InputError(
                f"the draws of {', '.join(broken)} are not finite: the posterior cannot be sampled in this "
                "arithmetic. Fit in 64 bits, or with another copula or margin."
            )
        _warn_about_slopes(one.data.models, samples["slope"])
        posterior = Posterior(
            samples=samples,
            sample_stats=stats,
            data=one.data,
            spec=spec,
            provenance={
                "method": one.options.method,
                "seed": one.options.seed,
                **one.options.settings(),
                "fit_seconds": one.seconds + seconds + time.perf_counter() - began,
                "versions": versions(),
                **_chosen(one),
                **_told(sampled.report),
                "device": jax.devices()[0].device_kind,
                "num_devices": jax.local_device_count(),
                **_subset_of(one),
            },
        )
        warn_about_few_draws(posterior)
        return posterior


def kept(sampled: Sampled, structure: Structure) -> tuple[Draws, Draws]:
    """Return the draws that are kept, and their statistics."""
    if structure == "modular":
        return thin(sampled.samples, sampled.stats)
    return sampled.samples, sampled.stats


def is_mixed(sampled: Sampled, structure: Structure) -> bool:
    """Whether the draws that would be kept agree between chains and are enough."""
    num_draws = next(iter(sampled.samples.values())).shape[1]
    return num_draws > 0 and assess(*kept(sampled, structure)).mixed


def _chosen(one: Prepared) -> dict[str, Any]:
    return {} if one.selection is None else {"copula_selection": one.selection.to_dict(one.data.models)}


def _told(report: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a sampler's report."""
    if "k_hat" in report:
        return {"approximation": dict(report)}
    return {"sampler": dict(report)} if report else {}


def _subset_of(one: Prepared) -> dict[str, Any]:
    """Return what is kept of which queries were fitted, if not all."""
    if one.num_given == one.data.num_queries:
        return {}
    return {"max_queries": one.options.max_queries, "num_queries_given": one.num_given}


def _check_components(data: CascadeData, priors: Priors) -> None:
    for model, count in zip(data.models, data.observed.sum(axis=0), strict=True):
        if priors.num_components > count:
            raise InputError(
                f"num_components of the priors must not exceed the number of confidences of a model; it is "
                f"{priors.num_components}, and model {model!r} has {count}. Pass for example "
                f"priors=Priors(num_components={count}), or read more queries."
            )


def _warn_about_slopes(models: tuple[str, ...], slope: np.ndarray) -> None:
    negative = np.mean(slope < 0, axis=(0, 1))
    for model, share in zip(models, negative, strict=True):
        if share > 0.5:
            warnings.warn(
                f"the more confident model {model!r} is, the less often it is right: its slope is negative "
                f"with posterior probability {share:.2f}. A threshold on this confidence defers the wrong "
                "queries; another confidence signal may serve better, or leave the model out.",
                DataWarning,
                stacklevel=6,
            )


def warn_about_few_draws(posterior: Posterior) -> None:
    """Warn of an approximation whose importance weights leave fewer than `USABLE_ESS` effective draws.

    Who asked for few draws is warned where fewer than half of them are left.
    """
    if "approximation" not in posterior.provenance:
        return
    verdict = posterior.convergence()
    if isinstance(verdict, Closeness) and not verdict.min_ess >= min(USABLE_ESS, posterior.num_draws / 2):
        warnings.warn(verdict.sentence(), ConvergenceWarning, stacklevel=6)


def versions() -> dict[str, str]:
    """Return the versions of what a fit rests on, by name."""
    names = ("cascade-bayes", "jax", "numpyro", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        found[name] = version(name)
    return found
