"""From draws of a posterior's modules to the posterior that users get, and the warnings that go with it."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from cascade_bayes._devices import as_set_here
from cascade_bayes.errors import ConvergenceWarning, DataWarning, InputError
from cascade_bayes.inference.convergence import USABLE_ESS, Closeness, assess
from cascade_bayes.inference.padded_table import PaddedTable
from cascade_bayes.inference.pair_posteriors import MAX_DRAWS, compile_pairs, sample_pairs, thin
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import Module, Sampled, shapes_of_sites
from cascade_bayes.inference.preparation import Prepared
from cascade_bayes.inference.samplers.nuts import Draws
from cascade_bayes.model.centres import Centres, find_centres
from cascade_bayes.model.names import Structure


def assemble(table: PaddedTable, sampled: Sampled, key: jax.Array, seconds: float) -> Posterior:
    """Draw what is drawn given the modules, and return the posterior of the table's own model.

    Parameters
    ----------
    table
        The table.
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
    prepared, spec = table.prepared, table.prepared.spec
    samples, stats = kept(sampled, spec.structure)
    samples = dict(samples)
    if spec.structure == "modular":
        centres, padded = _centres(table)
        spec = replace(spec, centres=centres)
        samples |= sample_pairs(
            key,
            samples,
            table.obs,
            table.atom_locs,
            table.kind,
            padded,
            whole=table.whole,
            at_mode=prepared.options.method == "map",
        )
    own = ~np.isnan(np.asarray(table.atom_locs))[np.nonzero(table.kind.spec().layout.has_atom)]
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
    _warn_about_slopes(prepared.data.models, samples["slope"])
    posterior = Posterior(
        samples=samples,
        sample_stats=stats,
        data=prepared.data,
        spec=spec,
        provenance={
            "method": prepared.options.method,
            "seed": prepared.options.seed,
            **prepared.options.settings(),
            "fit_seconds": prepared.seconds + seconds + time.perf_counter() - began,
            "versions": versions(),
            **_chosen(prepared),
            **_told(sampled.report),
            "device": jax.devices()[0].device_kind,
            "num_devices": jax.local_device_count(),
            **_subset_of(prepared),
        },
    )
    warn_about_few_draws(posterior)
    return posterior


def compile_ahead(table: PaddedTable, modules: Sequence[Module]) -> Callable[[], None]:
    """Return what compiles the programs that `assemble` goes on to call; it may run in another thread.

    Parameters
    ----------
    table
        The table.
    modules
        The modules of its posterior, which are yet to be drawn from.
    """
    spec, options = table.prepared.spec, table.prepared.options
    if spec.structure != "modular" or len(spec.pairs) == 0:
        return lambda: None
    at_mode = options.method == "map"
    per_chain = 1 if at_mode else min(options.draws, max(MAX_DRAWS // options.num_chains, 1))
    sites = shapes_of_sites(modules, per_chain * (1 if at_mode else options.num_chains))
    _, centres = _centres(table)
    is_sample = table.whole is not None
    return as_set_here(
        lambda: compile_pairs(
            sites, table.obs, table.atom_locs, table.kind, centres, is_sample=is_sample, at_mode=at_mode
        )
    )


def _centres(table: PaddedTable) -> tuple[Centres, Centres]:
    """Return the centres of a table's pairs, and the same with as many slots for atoms as its arrays have."""
    spec = table.prepared.spec
    centres = find_centres(table.prepared.obs, spec.layout, spec.pairs)
    return centres, centres._replace(at_atoms=np.pad(centres.at_atoms, table.more_slots))


def kept(sampled: Sampled, structure: Structure) -> tuple[Draws, Draws]:
    """Return the draws that are kept, and their statistics."""
    if structure == "modular":
        return thin(sampled.samples, sampled.stats)
    return sampled.samples, sampled.stats


def is_mixed(sampled: Sampled, structure: Structure) -> bool:
    """Whether the draws that would be kept agree between chains and are enough."""
    num_draws = next(iter(sampled.samples.values())).shape[1]
    return num_draws > 0 and assess(*kept(sampled, structure)).mixed


def _chosen(prepared: Prepared) -> dict[str, Any]:
    return (
        {}
        if prepared.selection is None
        else {"copula_selection": prepared.selection.to_dict(prepared.data.models)}
    )


def _told(report: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a sampler's report."""
    if "k_hat" in report:
        return {"approximation": dict(report)}
    return {"sampler": dict(report)} if report else {}


def _subset_of(prepared: Prepared) -> dict[str, Any]:
    """Return what is kept of which queries were fitted, if not all."""
    if prepared.num_given == prepared.data.num_queries:
        return {}
    return {"max_queries": prepared.options.max_queries, "num_queries_given": prepared.num_given}


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
