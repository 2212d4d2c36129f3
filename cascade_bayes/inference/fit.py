r"""Fit the generative model to a table by NUTS in coordinates whitened by a Laplace approximation.

NUTS (Hoffman & Gelman, JMLR 15, 2014) as NumPyro has it, on the density of

.. math:: x = A^{-1} (z - \hat z), \qquad A A^\top = \hat\Sigma,

with :math:`z` the unconstrained parameters, :math:`\hat z` the posterior mode and
:math:`\hat\Sigma = U \Lambda U^\top` the inverse curvature there, :math:`A = U \Lambda^{1/2}`. The mode
and the curvature take a fraction of a second; in their coordinates the posterior is close to a
standard normal, and NUTS has only the scale of each principal axis left to adapt. A dense mass matrix
estimated from the early warm-up's few dozen draws of fifty parameters is far from that good: its
trajectories were ten times as long.

Chains start from draws of the Laplace approximation, widened so that R-hat can see a chain that has
not forgotten its start.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import potential_energy

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.laplace import laplace, unconstrained
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.select import choose_copulas
from cascade_bayes.model.cascade import ModelSpec, cascade_model
from cascade_bayes.model.likelihood import observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors

METHODS = ("nuts",)

EXTRA_FIELDS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")

START_SPREAD = 1.5
"""Factor by which starting points are wider than the Laplace approximation."""


def fit(
    data: CascadeData,
    method: str = "nuts",
    *,
    seed: int,
    num_chains: int = 4,
    num_warmup: int = 300,
    num_samples: int = 1000,
    max_rounds: int = 3,
    copula: str | Sequence[str] = "gumbel",
    margin: str = "beta",
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
    copula
        Family of neighbouring pairs: one name for all of them, or one a pair, from
        `cascade_bayes.copulas.FAMILIES`; ``"auto"`` picks for each pair the family with the highest
        leave-one-out log score (`cascade_bayes.inference.select`).
    margin
        Family of the continuous parts of the confidences' margins: ``"beta"`` or ``"logit_normal"``
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
        If all labels of a model are equal, queries lack a confidence between two that they have, or a
        model's slope is negative with a posterior probability above one half.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    for name, value in (
        ("num_chains", num_chains),
        ("num_warmup", num_warmup),
        ("num_samples", num_samples),
        ("max_rounds", max_rounds),
    ):
        if value < 1:
            raise InputError(f"{name} must be at least 1; got {value}.")
    check_fittable(data)
    _warn_about_gaps(data)
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
    obs = observations(data)

    began = time.perf_counter()
    selection = None
    if copula == "auto":
        selection = choose_copulas(obs, layout, priors, margin=margin)
        copula = selection.names
    spec = ModelSpec(
        layout,
        get_copulas(copula, data.num_models - 1),
        priors,
        upstream=upstream,
        monotone=monotone,
        margin=margin,
    )
    start, constrain = unconstrained(spec)

    def potential(z: Any) -> jax.Array:
        return potential_energy(cascade_model, (obs, spec), {}, z)

    mode, covariance = laplace(potential, start)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    unravel = ravel_pytree(start)[1]
    centre, scale = jnp.asarray(mode), jnp.asarray(vectors * np.sqrt(eigenvalues))

    def unwhiten(x: jax.Array) -> Any:
        return unravel(centre + scale @ x)

    key_start, key_run = jax.random.split(jax.random.key(seed))
    shape = (num_chains, mode.size) if num_chains > 1 else (mode.size,)
    starts = START_SPREAD * jax.random.normal(key_start, shape, dtype=mode.dtype)
    parallel = num_chains > 1 and jax.local_device_count() >= num_chains
    mcmc = MCMC(
        NUTS(
            potential_fn=lambda x: potential(unwhiten(x)),
            target_accept_prob=target_accept_prob,
        ),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="parallel" if parallel else "vectorized",
        progress_bar=progress,
    )
    sites = jax.jit(jax.vmap(jax.vmap(lambda x: constrain(unwhiten(x)))))

    def draw(key: jax.Array, **kwargs: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        mcmc.run(key, extra_fields=EXTRA_FIELDS, **kwargs)
        stats = mcmc.get_extra_fields(group_by_chain=True)
        return (
            {k: np.asarray(v) for k, v in sites(mcmc.get_samples(group_by_chain=True)).items()},
            {k: np.asarray(v) for k, v in stats.items()},
        )

    samples, stats = draw(key_run, init_params=starts)

    def posterior() -> Posterior:
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

    for _ in range(max_rounds - 1):
        if posterior().convergence().mixed:
            break
        mcmc.post_warmup_state = mcmc.last_state
        more, more_stats = draw(mcmc.last_state.rng_key)
        samples = {k: np.concatenate([v, more[k]], axis=1) for k, v in samples.items()}
        stats = {k: np.concatenate([v, more_stats[k]], axis=1) for k, v in stats.items()}
    _warn_about_slopes(data.models, samples["slope"])
    return posterior()


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
                stacklevel=3,
            )


def _warn_about_gaps(data: CascadeData) -> None:
    seen = data.observed
    last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    first = np.argmax(seen, axis=1)
    complete = seen.sum(axis=1) == last - first + 1
    gaps = int(np.sum(~complete & seen.any(axis=1)))
    if gaps:
        warnings.warn(
            f"{gaps} of {data.num_queries} queries lack a confidence between two that they have; "
            "their margins and labels are used, their dependence across the gap is not.",
            DataWarning,
            stacklevel=3,
        )


def _versions() -> dict[str, str]:
    names = ("cascade-bayes", "jax", "numpyro", "optax", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        found[name] = version(name)
    return found
