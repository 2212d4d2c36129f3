r"""NUTS in coordinates whitened by a Laplace approximation.

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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import potential_energy

from cascade_bayes.inference.convergence import assess
from cascade_bayes.inference.laplace import flat_objective, laplace, unconstrained
from cascade_bayes.model.cascade import ModelSpec, cascade_model
from cascade_bayes.model.observations import Observations

EXTRA_FIELDS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")

START_SPREAD = 1.5
"""Factor by which starting points are wider than the Laplace approximation."""


class NutsOptions(NamedTuple):
    """How long and how carefully to sample; see `cascade_bayes.fit`."""

    num_chains: int
    num_warmup: int
    num_samples: int
    max_rounds: int
    target_accept_prob: float
    progress: bool


Draws = dict[str, np.ndarray]


def sample_nuts(
    key: jax.Array,
    obs: Observations,
    spec: ModelSpec,
    options: NutsOptions,
    keep: Callable[[Draws, Draws], tuple[Draws, Draws]] = lambda *draws: draws,
) -> tuple[Draws, Draws]:
    """Draw from the joint posterior of a chain.

    Parameters
    ----------
    key
        PRNG key.
    obs
        The table.
    spec
        The model, of structure ``"chain"``.
    options
        See `NutsOptions`.
    keep
        Which draws are kept, and judged.

    Returns
    -------
    tuple of dict
        Draws of the sites and statistics of the sampler, ``(num_chains, num_samples, ...)`` each.
    """
    start, constrain = unconstrained(spec)

    def potential(z: Any) -> jax.Array:
        return potential_energy(cascade_model, (obs, spec), {}, z)

    flat, objective = flat_objective(potential, start)
    mode, covariance = laplace(objective, flat)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    unravel = ravel_pytree(start)[1]
    centre, scale = jnp.asarray(mode), jnp.asarray(vectors * np.sqrt(eigenvalues))

    def unwhiten(x: jax.Array) -> Any:
        return unravel(centre + scale @ x)

    num_chains = options.num_chains
    key_start, key_run = jax.random.split(key)
    shape = (num_chains, mode.size) if num_chains > 1 else (mode.size,)
    starts = START_SPREAD * jax.random.normal(key_start, shape, dtype=mode.dtype)
    parallel = num_chains > 1 and jax.local_device_count() >= num_chains
    mcmc = MCMC(
        NUTS(
            potential_fn=lambda x: potential(unwhiten(x)),
            target_accept_prob=options.target_accept_prob,
        ),
        num_warmup=options.num_warmup,
        num_samples=options.num_samples,
        num_chains=num_chains,
        chain_method="parallel" if parallel else "vectorized",
        progress_bar=options.progress,
    )
    sites = jax.jit(jax.vmap(jax.vmap(lambda x: constrain(unwhiten(x)))))

    def draw(key: jax.Array, **kwargs: Any) -> tuple[Draws, Draws]:
        mcmc.run(key, extra_fields=EXTRA_FIELDS, **kwargs)
        stats = mcmc.get_extra_fields(group_by_chain=True)
        return (
            {k: np.asarray(v) for k, v in sites(mcmc.get_samples(group_by_chain=True)).items()},
            {k: np.asarray(v) for k, v in stats.items()},
        )

    samples, stats = draw(key_run, init_params=starts)
    for _ in range(options.max_rounds - 1):
        if assess(*keep(samples, stats)).mixed:
            break
        mcmc.post_warmup_state = mcmc.last_state
        more, more_stats = draw(mcmc.last_state.rng_key)
        samples = {k: np.concatenate([v, more[k]], axis=1) for k, v in samples.items()}
        stats = {k: np.concatenate([v, more_stats[k]], axis=1) for k, v in stats.items()}
    return keep(samples, stats)
