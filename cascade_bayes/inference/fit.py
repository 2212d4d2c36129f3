"""Fit the generative model to a table by NUTS, started from a Laplace approximation.

NUTS (Hoffman & Gelman, JMLR 15, 2014) as NumPyro has it, with a dense mass matrix. Its costliest part
is the early warm-up, when the mass matrix is still wrong and trajectories are long. The posterior mode
and the curvature there, found in a fraction of a second, give a mass matrix that is right to within a
small factor; chains start from draws of that normal, widened so that R-hat can see a chain that has
not forgotten its start, and adaptation goes on from there.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model

from cascade_bayes.copulas import get_copula
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.cascade import cascade_model
from cascade_bayes.model.likelihood import observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors

METHODS = ("nuts",)

START_SPREAD = 1.5
"""Factor by which starting points are wider than the Laplace approximation."""


def fit(
    data: CascadeData,
    method: str = "nuts",
    *,
    seed: int,
    num_chains: int = 4,
    num_warmup: int = 400,
    num_samples: int = 600,
    max_rounds: int = 3,
    copula: str = "gumbel",
    priors: Priors | None = None,
    target_accept_prob: float = 0.9,
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
        kept.
    copula
        Family of neighbouring pairs, a name in `cascade_bayes.copulas.FAMILIES`.
    priors
        Hyperparameters; the defaults of `Priors` if None.
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
        If all labels of a model are equal, or queries lack a confidence between two that they have.
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
    layout = find_atoms(data)
    model = partial(cascade_model, layout=layout, copula=get_copula(copula), priors=priors)
    obs = observations(data)

    began = time.perf_counter()
    key_init, key_start, key_run = jax.random.split(jax.random.key(seed), 3)
    info = initialize_model(key_init, model, model_args=(obs,))
    mode, covariance = laplace(info.potential_fn, info.param_info.z)
    unravel = ravel_pytree(info.param_info.z)[1]
    spread = START_SPREAD * np.linalg.cholesky(covariance)
    noise = jax.random.normal(key_start, (num_chains, mode.size), dtype=mode.dtype)
    starts = jax.vmap(unravel)(jnp.asarray(mode + np.asarray(noise) @ spread.T, dtype=mode.dtype))
    if num_chains == 1:
        starts = jax.tree.map(lambda x: x[0], starts)

    kernel = NUTS(
        model,
        dense_mass=True,
        inverse_mass_matrix=jnp.asarray(covariance),
        target_accept_prob=target_accept_prob,
    )
    parallel = num_chains > 1 and jax.local_device_count() >= num_chains
    mcmc = MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="parallel" if parallel else "vectorized",
        progress_bar=progress,
    )
    fields = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
    mcmc.run(key_run, obs, init_params=starts, extra_fields=fields)
    samples, stats = _draws(mcmc)

    def posterior() -> Posterior:
        return Posterior(
            samples=samples,
            sample_stats=stats,
            data=data,
            layout=layout,
            copula=copula,
            priors=priors,
            provenance={
                "method": method,
                "seed": seed,
                "num_warmup": num_warmup,
                "target_accept_prob": target_accept_prob,
                "fit_seconds": time.perf_counter() - began,
                "versions": _versions(),
                "device": jax.devices()[0].device_kind,
            },
        )

    for _ in range(max_rounds - 1):
        if posterior().convergence().mixed:
            break
        mcmc.post_warmup_state = mcmc.last_state
        mcmc.run(mcmc.last_state.rng_key, obs, extra_fields=fields)
        more, more_stats = _draws(mcmc)
        samples = {k: np.concatenate([v, more[k]], axis=1) for k, v in samples.items()}
        stats = {k: np.concatenate([v, more_stats[k]], axis=1) for k, v in stats.items()}
    return posterior()


def _draws(mcmc: MCMC) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws and sampler statistics, arrays ``(num_chains, num_samples, ...)``."""
    samples = mcmc.get_samples(group_by_chain=True)
    stats = mcmc.get_extra_fields(group_by_chain=True)
    return (
        {k: np.asarray(v) for k, v in samples.items()},
        {k: np.asarray(v) for k, v in stats.items()},
    )


def laplace(
    potential: Callable[[Any], jax.Array], start: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode and the covariance of the normal that matches the curvature there.

    The mode is found by L-BFGS-B (SciPy); the Hessian is the central difference of the gradient, which
    needs no other compiled program than the gradient. Directions in which the curvature is below 0.1
    (flatter than a standard deviation of 3 on the unconstrained scale, or not convex) get that value.

    Parameters
    ----------
    potential
        Negative log density of a pytree of unconstrained values.
    start
        Where to begin.

    Returns
    -------
    tuple of np.ndarray
        Mode ``(dim,)`` and covariance ``(dim, dim)``, in the order of ``ravel_pytree(start)``.
    """
    from scipy.optimize import minimize

    flat, unravel = ravel_pytree(start)
    value_and_grad = jax.jit(jax.value_and_grad(lambda x: potential(unravel(x))))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = value_and_grad(jnp.asarray(x, dtype=flat.dtype))
        return float(value), np.asarray(grad, dtype=float)

    found = minimize(
        objective, np.asarray(flat, dtype=float), jac=True, method="L-BFGS-B",
        options={"maxiter": 500},
    )
    mode = found.x
    step = float(np.finfo(flat.dtype).eps) ** (1 / 3)
    columns = [
        (objective(mode + step * unit)[1] - objective(mode - step * unit)[1]) / (2 * step)
        for unit in np.eye(mode.size)
    ]
    hessian = np.asarray(columns)
    eigenvalues, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    covariance = (vectors / np.maximum(eigenvalues, 0.1)) @ vectors.T
    return mode.astype(flat.dtype), covariance.astype(flat.dtype)


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
