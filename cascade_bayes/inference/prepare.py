"""What a fit is asked for, what it needs of a table, and what it makes of the draws."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._numbers import MAX_CHAINS, MAX_COUNT, check_seed, check_whole
from cascade_bayes._trees import room_for
from cascade_bayes.copulas import get_copula, get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import ConvergenceWarning, DataWarning, InputError
from cascade_bayes.inference.approximate import GUIDES
from cascade_bayes.inference.convergence import USABLE_ESS, Closeness, assess
from cascade_bayes.inference.methods import AUTO_WARMUP, METHODS, Options
from cascade_bayes.inference.modular import MAX_DRAWS, Draws, sample_pairs, thin
from cascade_bayes.inference.modules import Module, Sampled, make_modules
from cascade_bayes.inference.nuts import NutsOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.select import CopulaSelection, choose_copulas
from cascade_bayes.inference.structure import check_modular, find_selection
from cascade_bayes.model.anchors import find_anchors
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.margins import DEFAULT_MARGIN, get_margin
from cascade_bayes.model.observations import Observations, observations, sample_of
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors, default_priors
from cascade_bayes.model.spec import ModelKind, ModelSpec, Structure
from cascade_bayes.model.strata import SAMPLE_SIZE

STRUCTURES = ("modular", "chain")

ROOM = room_for(SAMPLE_SIZE)
"""Size of the arrays of a long table's sample."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `cascade_bayes.fit` but for the table.

    Raises
    ------
    InputError
        If a name is not known or a count is not positive.
    """

    method: str = "nuts"
    seed: int
    num_chains: int = 4
    num_warmup: int | None = None
    num_samples: int = 1000
    max_rounds: int = 3
    guide: Any = "full_rank"
    num_steps: int = 1000
    structure: Structure | None = None
    copula: str | Sequence[str] = "gumbel"
    margin: str = DEFAULT_MARGIN
    upstream: bool = True
    monotone: bool = False
    priors: Priors | None = None
    atoms: Mapping[str, Sequence[float]] | None = None
    target_accept_prob: float = 0.9
    progress: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_method(self.method, self.guide)
        get_margin(self.margin)
        for name in [self.copula] if isinstance(self.copula, str) else self.copula:
            if name != "auto":
                get_copula(name)
        if self.structure is not None and self.structure not in STRUCTURES:
            raise InputError(f"structure must be one of {', '.join(STRUCTURES)}; got {self.structure!r}.")
        for name in ("num_chains", "num_warmup", "num_samples", "max_rounds", "num_steps"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, high=MAX_CHAINS if name == "num_chains" else MAX_COUNT)

    def options(self, structure: Structure) -> Options:
        """Return what the methods are told."""
        nuts = NutsOptions(
            self.num_chains,
            self.warmup,
            self.num_samples,
            self.max_rounds,
            self.target_accept_prob,
            self.progress,
        )
        return Options(nuts, self.guide, self.num_steps, MAX_DRAWS if structure == "modular" else None)

    @property
    def warmup(self) -> int:
        """Transitions of the warm-up."""
        return self.num_warmup or (AUTO_WARMUP if self.method == "auto" else 300)

    def settings(self) -> dict[str, Any]:
        """Return what of the options the method reads."""
        if self.method in ("nuts", "auto"):
            return {"num_warmup": self.warmup, "target_accept_prob": self.target_accept_prob}
        return {"guide": self.guide, "num_steps": self.num_steps} if self.method == "svi" else {}


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
    """

    data: CascadeData
    obs: Observations
    spec: ModelSpec
    selection: CopulaSelection | None


def prepare(data: CascadeData, request: Request) -> Prepared:
    """Check a table, find its atoms, settle structure and copulas.

    Raises
    ------
    InputError
        If the table cannot be fitted.

    Warns
    -----
    DataWarning
        As `cascade_bayes.fit` does of tables.
    """
    check_fittable(data)
    # The default's many components shrink where there are few data.
    priors = request.priors or default_priors(data.num_queries)
    if request.priors is not None:
        _check_components(data, priors)
    selection = find_selection(data)
    structure = request.structure or ("modular" if selection is None else "chain")
    layout = find_atoms(data, atoms=request.atoms)
    if structure == "modular":
        check_modular(data, selection)
    obs = observations(data, layout, modular=structure == "modular")
    spec = ModelSpec(
        layout,
        (),
        priors,
        upstream=request.upstream,
        monotone=request.monotone,
        margin=request.margin,
        structure=structure,
        anchors=find_anchors(data, layout, at_random=selection is None),
    )
    copula, chosen = request.copula, None
    if copula == "auto":
        chosen = choose_copulas(obs, layout, priors, pairs=spec.pairs, margin=request.margin)
        copula = chosen.names
    spec = replace(spec, copulas=get_copulas(copula, len(spec.pairs)))
    return Prepared(data, obs, spec, chosen)


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

    def posterior(self, sampled: Sampled, key: jax.Array, request: Request, seconds: float) -> Posterior:
        """Draw what is drawn given the modules, and return the posterior of the table's own model.

        Parameters
        ----------
        sampled
            Draws of the modules.
        key
            PRNG key.
        request
            What was asked for.
        seconds
            What the fit has taken so far.

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
                at_mode=request.method == "map",
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
                "method": request.method,
                "seed": request.seed,
                **request.settings(),
                "fit_seconds": seconds + time.perf_counter() - began,
                "versions": versions(),
                **_chosen(one),
                **_told(sampled.report),
                "device": jax.devices()[0].device_kind,
                "num_devices": jax.local_device_count(),
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


def check_method(method: str, guide: str) -> None:
    """Check the names of a method and a guide.

    Raises
    ------
    InputError
        If there is no such method or guide.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    if guide not in GUIDES:
        raise InputError(f"guide must be one of {', '.join(GUIDES)}; got {guide!r}.")


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
                stacklevel=4,
            )


def warn_about_few_draws(posterior: Posterior) -> None:
    """Warn of an approximation whose importance weights leave fewer than `USABLE_ESS` effective draws.

    Who asked for few draws is warned where fewer than half of them are left.
    """
    if "approximation" not in posterior.provenance:
        return
    verdict = posterior.convergence()
    if isinstance(verdict, Closeness) and not verdict.min_ess >= min(USABLE_ESS, posterior.num_draws / 2):
        warnings.warn(verdict.sentence(), ConvergenceWarning, stacklevel=4)


def versions() -> dict[str, str]:
    """Return the versions of what a fit rests on, by name."""
    names = ("cascade-bayes", "jax", "numpyro", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        found[name] = version(name)
    return found
