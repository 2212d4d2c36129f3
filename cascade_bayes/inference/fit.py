"""Fit the generative model to a table."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version

import jax
import numpy as np

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.modular import sample_pairs, thin
from cascade_bayes.inference.nuts import NutsOptions, sample_nuts
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.select import choose_copulas
from cascade_bayes.model.cascade import ModelSpec, Structure
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.margins import DEFAULT_MARGIN
from cascade_bayes.model.observations import observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors

METHODS = ("nuts",)
STRUCTURES = ("modular", "chain")


def fit(
    data: CascadeData,
    method: str = "nuts",
    *,
    seed: int,
    num_chains: int = 4,
    num_warmup: int = 300,
    num_samples: int = 1000,
    max_rounds: int = 3,
    structure: Structure | None = None,
    copula: str | Sequence[str] = "gumbel",
    margin: str = DEFAULT_MARGIN,
    upstream: bool = True,
    monotone: bool = False,
    priors: Priors | None = None,
    atoms: Mapping[str, Sequence[float]] | None = None,
    target_accept_prob: float = 0.85,
    progress: bool = True,
) -> Posterior:
    """Fit the generative model and return its posterior.

    Parameters
    ----------
    data
        The table, read by `cascade_bayes.read_table`.
    method
        ``"nuts"``.
    seed
        Seed of all randomness; the same seed, versions and device give the same draws.
    num_chains, num_warmup, num_samples
        Chains, and the warm-up and kept draws of each. Chains run in parallel where JAX has that many
        devices (on a CPU: ``numpyro.set_host_device_count(4)`` before the first computation), else as
        one batch.
    max_rounds
        If R-hat or the effective sample size of a parameter falls short after ``num_samples`` draws, the
        chains go on for as many again, until they suffice or this many rounds are done. All draws are
        kept. With 1 nothing is checked, and ArviZ need not be there.
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
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    structure = structure or default_structure(data)
    if structure not in STRUCTURES:
        raise InputError(f"structure must be one of {', '.join(STRUCTURES)}; got {structure!r}.")
    for name, value in (
        ("num_chains", num_chains),
        ("num_warmup", num_warmup),
        ("num_samples", num_samples),
        ("max_rounds", max_rounds),
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
    options = NutsOptions(num_chains, num_warmup, num_samples, max_rounds, target_accept_prob, progress)
    key = jax.random.key(seed)
    if structure == "chain":
        samples, stats = sample_nuts(key, obs, spec, options)
    else:
        _warn_about_absent_rows(data)
        key_first, key_pairs = jax.random.split(key)
        samples, stats = sample_nuts(key_first, obs, spec.first_module(), options, keep=thin)
        spec = replace(spec, centres=find_centres(obs, layout, spec.pairs))
        samples |= sample_pairs(key_pairs, samples, obs, spec)
    _warn_about_slopes(data.models, samples["slope"])
    return Posterior(
        samples=samples,
        sample_stats=stats,
        data=data,
        spec=spec,
        provenance={
            "method": method,
            "seed": seed,
            "num_warmup": num_warmup,
            "target_accept_prob": target_accept_prob,
            "fit_seconds": time.perf_counter() - began,
            "versions": _versions(),
            **({} if selection is None else {"copula_selection": selection.to_dict(data.models)}),
            "device": jax.devices()[0].device_kind,
        },
    )


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
