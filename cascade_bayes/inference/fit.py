"""Fit the generative model to a table."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.approximate import GUIDES, Guide
from cascade_bayes.inference.methods import AUTO_WARMUP, METHODS, Options, draw
from cascade_bayes.inference.modular import MAX_DRAWS, sample_pairs, thin
from cascade_bayes.inference.modules import make_modules
from cascade_bayes.inference.nuts import NutsOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.select import choose_copulas
from cascade_bayes.model.cascade import ModelSpec, Structure
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.margins import DEFAULT_MARGIN
from cascade_bayes.model.observations import observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors

STRUCTURES = ("modular", "chain")


def fit(
    data: CascadeData,
    method: str = "nuts",
    *,
    seed: int,
    num_chains: int = 4,
    num_warmup: int | None = None,
    num_samples: int = 1000,
    max_rounds: int = 3,
    guide: Guide = "full_rank",
    num_steps: int = 2000,
    structure: Structure | None = None,
    copula: str | Sequence[str] = "gumbel",
    margin: str = DEFAULT_MARGIN,
    upstream: bool = True,
    monotone: bool = False,
    priors: Priors | None = None,
    atoms: Mapping[str, Sequence[float]] | None = None,
    target_accept_prob: float = 0.9,
    progress: bool = True,
) -> Posterior:
    """Fit the generative model and return its posterior.

    Parameters
    ----------
    data
        The table, read by `cascade_bayes.read_table`.
    method
        ``"nuts"``, the default, and the one to publish from. ``"auto"``: NUTS with a short warm-up. ``"svi"``
        and ``"laplace"``: approximations, corrected by Pareto-smoothed importance sampling, which takes
        seconds; ``Posterior.convergence()`` says how close they were. ``"map"``: the posterior mode alone, a
        single draw, of unconstrained parameters. `cascade_bayes.inference.methods` says more.
    seed
        Seed of all randomness; the same seed, versions and device give the same draws.
    num_chains, num_warmup, num_samples
        Chains, and the warm-up and kept draws of each; all chains run as one batch. Warm-up is 300 if None,
        100 for ``"auto"``. The approximate methods return as many draws.
    max_rounds
        If R-hat or the effective sample size of a parameter falls short after ``num_samples`` draws, the
        chains go on for as many again, until they suffice or this many rounds are done. All draws are
        kept, unless a transition diverged: then the chains go on with half the step size, and what was drawn
        before counts as warm-up. With 1 nothing is checked, and NUTS does without ArviZ.
    guide
        For ``"svi"``: ``"mean_field"``, ``"low_rank"``, ``"full_rank"`` or ``"flow"``.
    num_steps
        For ``"svi"``: steps of the optimiser.
    structure
        ``"modular"`` samples first margins and calibration, then each pair of models given them, with nothing
        fed back; ``"chain"`` all parameters together, given the Markov chain of all models.
        `cascade_bayes.model.cascade.ModelSpec` says what each conditions on. If None, modular, which
        predicts better; but a chain if some queries lack rows of some models, because only a chain allows for
        the reason why (`default_structure`).
    copula
        Family of the pairs (neighbours of a chain; every pair of a modular fit, (0, 1), (0, 2), ...): one
        name for all of them, or one a pair, from `cascade_bayes.copulas.FAMILIES`; ``"auto"`` picks for each
        pair the family with the highest leave-one-out log score (`cascade_bayes.inference.select`).
    margin
        Family of the continuous parts of the confidences' margins: ``"logit_normal"`` or ``"beta"``
        (`cascade_bayes.model.margins`).
    upstream
        Let the previous model's confidence enter a model's log odds of being right.
    monotone
        Keep slopes positive: more confident answers of a model are right at least as often.
    priors
        Hyperparameters; the defaults of `Priors` if None.
    atoms
        Point masses by model name, on the raw scale, in place of those that
        `cascade_bayes.model.params.find_atoms` would find.
    target_accept_prob
        Acceptance rate NUTS adapts its step size to. Closer to 1 is slower, with fewer divergences.
    progress
        Show a progress bar.

    Returns
    -------
    Posterior
        Draws with sampler statistics; see ``Posterior.convergence()``.

    Raises
    ------
    InputError
        If the table cannot be fitted (a model without labels, say) or an option is not known.

    Warns
    -----
    UserWarning
        In 32-bit arithmetic; call ``jax.config.update("jax_enable_x64", True)`` first.
    DataWarning
        If all labels of a model are equal, or a model's slope is negative with a posterior probability
        above one half; for the structure ``"modular"``, if queries lack rows of later models.
    """
    check_method(method, guide)
    structure = structure or default_structure(data)
    if structure not in STRUCTURES:
        raise InputError(f"structure must be one of {', '.join(STRUCTURES)}; got {structure!r}.")
    if num_warmup is None:
        num_warmup = AUTO_WARMUP if method == "auto" else 300
    for name, value in (
        ("num_chains", num_chains),
        ("num_warmup", num_warmup),
        ("num_samples", num_samples),
        ("max_rounds", max_rounds),
        ("num_steps", num_steps),
    ):
        if value < 1:
            raise InputError(f"{name} must be at least 1; got {value}.")
    check_fittable(data)
    if not jax.config.read("jax_enable_x64"):
        warnings.warn(
            "fitting in 32-bit arithmetic: gradients near certainty lose digits. "
            'Call jax.config.update("jax_enable_x64", True) before any computation.',
            UserWarning,
            stacklevel=2,
        )
    priors = priors or Priors()
    _check_components(data, priors)
    layout = find_atoms(data, atoms=atoms)
    obs = observations(data, layout)

    began = time.perf_counter()
    spec = ModelSpec(
        layout, (), priors, upstream=upstream, monotone=monotone, margin=margin, structure=structure
    )
    selection = None
    if copula == "auto":
        selection = choose_copulas(obs, layout, priors, pairs=spec.pairs, margin=margin)
        copula = selection.names
    spec = replace(spec, copulas=get_copulas(copula, len(spec.pairs)))
    modular = structure == "modular"
    nuts = NutsOptions(num_chains, num_warmup, num_samples, max_rounds, target_accept_prob, progress)
    options = Options(
        nuts,
        guide,
        num_steps,
        keep=thin if modular else lambda samples, stats: (samples, stats),
        max_kept=MAX_DRAWS,
    )
    if modular:
        _warn_about_absent_rows(data)
    key_modules, key_pairs = jax.random.split(jax.random.key(seed))
    samples, stats, report = draw(key_modules, make_modules(obs, spec, data.models), method, options)
    if modular:
        spec = replace(spec, centres=find_centres(obs, layout, spec.pairs))
        samples = samples | sample_pairs(key_pairs, samples, obs, spec, at_mode=method == "map")
    _warn_about_slopes(data.models, samples["slope"])
    return Posterior(
        samples=samples,
        sample_stats=stats,
        data=data,
        spec=spec,
        provenance={
            "method": method,
            "seed": seed,
            **_settings(method, nuts, guide, num_steps),
            "fit_seconds": time.perf_counter() - began,
            "versions": _versions(),
            **({} if selection is None else {"copula_selection": selection.to_dict(data.models)}),
            **report,
            "device": jax.devices()[0].device_kind,
        },
    )


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


def _settings(method: str, nuts: NutsOptions, guide: Guide, num_steps: int) -> dict[str, Any]:
    """Return what of the options the method reads."""
    if method in ("nuts", "auto"):
        return {"num_warmup": nuts.num_warmup, "target_accept_prob": nuts.target_accept_prob}
    return {"guide": guide, "num_steps": num_steps} if method == "svi" else {}


def default_structure(data: CascadeData) -> Structure:
    """Return ``"modular"``, or ``"chain"`` if some queries have confidences of some models only.

    A running cascade asks its later models about the queries that were hard for the earlier ones. Given what
    came before in the chain that is ignorable (`cascade_bayes.model.gaps`); a margin on its own would be
    that of the hard queries.
    """
    seen = data.observed
    return "chain" if np.any(seen.any(axis=1) & ~seen.all(axis=1)) else "modular"


def _check_components(data: CascadeData, priors: Priors) -> None:
    for model, count in zip(data.models, data.observed.sum(axis=0), strict=True):
        if priors.num_components > count:
            raise InputError(
                f"num_components of the priors must not exceed the number of confidences of a model; it is "
                f"{priors.num_components}, and model {model!r} has {count}. Pass for example "
                f"priors=Priors(num_components={count}), or read more queries."
            )


def _warn_about_absent_rows(data: CascadeData) -> None:
    """Warn where a model was seen on some queries only: if not at random, its margin is biased."""
    seen = data.observed
    for i in range(1, data.num_models):
        lacking = int(np.sum(seen[:, i - 1] & ~seen[:, i]))
        if lacking:
            warnings.warn(
                f"{lacking} queries have a confidence of model {data.models[i - 1]!r} and none of model "
                f"{data.models[i]!r}; structure='modular' reads those it has as a random sample. If a "
                "running cascade left the others out, fit with structure='chain'.",
                DataWarning,
                stacklevel=3,
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
                stacklevel=3,
            )


def _versions() -> dict[str, str]:
    names = ("cascade-bayes", "jax", "numpyro", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        found[name] = version(name)
    return found
