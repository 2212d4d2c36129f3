"""Recovery: how often 90 % posterior intervals hold the parameters that made the table.

Each replication draws a cascade from the priors, simulates a table from it and fits it by the normal
approximation at the mode in unconstrained parameters (the guide of SVI with `AutoLaplaceApproximation`). With
truths drawn from the priors a correct posterior covers 90 % of them, for every parameter.

Run ``python benchmarks/recovery.py``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.infer.util import potential_energy

from cascade_bayes.copulas import get_copulas
from cascade_bayes.inference.laplace import laplace, unconstrained
from cascade_bayes.model.cascade import ModelSpec, cascade_model, params_from_sites, sample_sites
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import simulate_scores

GROUPS = {
    "margins": ("mixing_logratio", "concentration", "normal_scale", "atom_logit"),
    "copula": ("tau",),
    "calibration": ("intercept", "slope", "atom_effect"),
    "upstream": ("upstream",),
}
LEVEL = 0.9
NUM_DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--copula", default="gumbel")
    parser.add_argument("--margin", default="beta")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    k = options.models
    # The last model is at times exactly certain.
    locs = np.full((k, 1), np.nan)
    locs[-1] = np.inf
    layout = AtomLayout(locs, locs, np.ones(k, dtype=bool))
    spec = ModelSpec(layout, get_copulas(options.copula, k - 1), Priors(), margin=options.margin)
    start, constrain = unconstrained(spec)
    flat, unravel = ravel_pytree(start)

    @jax.jit
    def draw_table(key: jax.Array) -> tuple[Any, Observations]:
        key_sites, key_table = jax.random.split(key)
        with handlers.seed(rng_seed=key_sites):
            sites = sample_sites(spec)
        z, correct = simulate_scores(key_table, params_from_sites(sites, spec), spec.copulas, options.queries)
        every = jnp.ones(z.shape, dtype=bool)
        return sites, Observations(z, every, correct, every)

    @jax.jit
    def objective(x: jax.Array, obs: Observations) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda x: potential_energy(cascade_model, (obs, spec), {}, unravel(x)))(x)

    @jax.jit
    def draws_of(mode: jax.Array, covariance: jax.Array, key: jax.Array) -> Any:
        noise = jax.random.normal(key, (NUM_DRAWS, mode.size), dtype=mode.dtype)
        return jax.vmap(lambda x: constrain(unravel(x)))(mode + noise @ jnp.linalg.cholesky(covariance).T)

    covered: dict[str, list[np.ndarray]] = {name: [] for name in start}
    began = time.perf_counter()
    for replication in range(options.replications):
        key_table, key_draws = jax.random.split(jax.random.fold_in(jax.random.key(0), replication))
        truth, obs = draw_table(key_table)
        mode, covariance = laplace(lambda x, obs=obs: objective(x, obs), flat)
        draws = draws_of(jnp.asarray(mode), jnp.asarray(covariance), key_draws)
        for name, values in draws.items():
            low, high = np.quantile(np.asarray(values), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
            covered[name].append((low <= np.asarray(truth[name])) & (np.asarray(truth[name]) <= high))
    seconds = time.perf_counter() - began
    print(f"{options.replications} replications of {k} models, {options.queries} queries: {seconds:.0f} s")
    print(f"{'group':14s}{'parameters':>12s}{'covered by 90 % intervals':>28s}")
    for group, names in GROUPS.items():
        hits = {name: np.stack(covered[name]) for name in names if name in covered}
        total = np.concatenate([x.reshape(len(x), -1) for x in hits.values()], axis=1)
        error = total.mean(axis=1).std() / np.sqrt(len(total))
        print(f"{group:14s}{total.shape[1]:12d}{total.mean():21.1%} +- {error:.1%}")
        for name, x in hits.items():
            print(f"  {name:16s}{x[0].size:8d}{x.mean():21.1%}")


if __name__ == "__main__":
    main()
