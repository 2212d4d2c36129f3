"""Unconstrained parameters, the posterior mode, and the normal approximation there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to

from cascade_bayes.model.cascade import ModelSpec, sample_sites


def unconstrained(spec: ModelSpec) -> tuple[dict[str, jax.Array], Callable[[Any], dict[str, jax.Array]]]:
    """Zeros of the shape of the unconstrained parameters, and the map to constrained ones."""
    transforms: dict[str, Any] = {}

    def shapes() -> dict[str, jax.Array]:
        with handlers.seed(rng_seed=0), handlers.trace() as trace:
            sample_sites(spec)
        with jax.ensure_compile_time_eval():  # bounds of a support must outlive this trace
            for name, site in trace.items():
                transforms[name] = biject_to(site["fn"].support)
        return {k: transform.inv(trace[k]["value"]) for k, transform in transforms.items()}

    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(shapes))
    return start, lambda z: {k: transforms[k](v) for k, v in z.items()}


def find_mode(potential: Callable[[Any], jax.Array], start: Any) -> tuple[np.ndarray, Any]:
    """Return the minimum of ``potential`` by L-BFGS-B (SciPy), and its compiled value and gradient.

    Parameters
    ----------
    potential
        Negative log density of a pytree of unconstrained values.
    start
        Where to begin.

    Returns
    -------
    tuple
        Mode ``(dim,)`` in the order of ``ravel_pytree(start)``, and ``x -> (value, gradient)`` in NumPy.
    """
    from scipy.optimize import minimize

    flat, unravel = ravel_pytree(start)
    value_and_grad = jax.jit(jax.value_and_grad(lambda x: potential(unravel(x))))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = value_and_grad(jnp.asarray(x, dtype=flat.dtype))
        return float(value), np.asarray(grad, dtype=float)

    found = minimize(
        objective,
        np.asarray(flat, dtype=float),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500},
    )
    return found.x, objective


def laplace(potential: Callable[[Any], jax.Array], start: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode and the covariance of the normal that matches the curvature there.

    The Hessian is the central difference of the gradient, which needs no other compiled program than the
    gradient. Directions in which the curvature is below 0.1 (flatter than a standard deviation of 3 on
    the unconstrained scale, or not convex) get that value.

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
    dtype = ravel_pytree(start)[0].dtype
    mode, objective = find_mode(potential, start)
    step = float(np.finfo(dtype).eps) ** (1 / 3)
    columns = [
        (objective(mode + step * unit)[1] - objective(mode - step * unit)[1]) / (2 * step)
        for unit in np.eye(mode.size)
    ]
    hessian = np.asarray(columns)
    eigenvalues, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    covariance = (vectors / np.maximum(eigenvalues, 0.1)) @ vectors.T
    return mode.astype(dtype), covariance.astype(dtype)
