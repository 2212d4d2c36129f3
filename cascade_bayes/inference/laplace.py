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


Objective = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Flat unconstrained parameters ``(dim,)`` -> negative log density and its gradient."""


def flat_objective(potential: Callable[[Any], jax.Array], start: Any) -> tuple[jax.Array, Objective]:
    """Return ``start`` as a flat array, and the compiled objective of a potential of such pytrees."""
    flat, unravel = ravel_pytree(start)
    return flat, jax.jit(jax.value_and_grad(lambda x: potential(unravel(x))))


def find_mode(objective: Objective, start: jax.Array) -> np.ndarray:
    """Return the minimum of an objective by L-BFGS-B (SciPy), ``(dim,)``.

    Parameters
    ----------
    objective
        Negative log density and its gradient.
    start
        Where to begin, ``(dim,)``.
    """
    from scipy.optimize import minimize

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = objective(jnp.asarray(x, dtype=start.dtype))
        return float(value), np.asarray(grad, dtype=float)

    found = minimize(
        evaluate, np.asarray(start, dtype=float), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    return np.asarray(found.x, dtype=start.dtype)


def laplace(objective: Objective, start: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode and the covariance of the normal that matches the curvature there.

    The Hessian is the central difference of the gradient, which needs no other compiled program than the
    gradient. Directions in which the curvature is below 0.1 (flatter than a standard deviation of 3 on
    the unconstrained scale, or not convex) get that value.

    Parameters
    ----------
    objective
        Negative log density and its gradient.
    start
        Where to begin, ``(dim,)``.

    Returns
    -------
    tuple of np.ndarray
        Mode ``(dim,)`` and covariance ``(dim, dim)``.
    """
    mode = find_mode(objective, start)
    step = float(np.finfo(mode.dtype).eps) ** (1 / 3)

    def gradient(x: np.ndarray) -> np.ndarray:
        return np.asarray(objective(jnp.asarray(x, dtype=mode.dtype))[1], dtype=float)

    columns = [
        (gradient(mode + step * unit) - gradient(mode - step * unit)) / (2 * step)
        for unit in np.eye(mode.size)
    ]
    hessian = np.asarray(columns)
    eigenvalues, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    covariance = (vectors / np.maximum(eigenvalues, 0.1)) @ vectors.T
    return mode, covariance.astype(mode.dtype)
