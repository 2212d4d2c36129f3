"""Recovery: how often 90 % posterior intervals hold the parameters that made the table.

Each replication draws a cascade from the priors, simulates a table from it and fits it. With truths drawn
from the priors a correct posterior covers 90 % of them, for every parameter.

``--structure modular`` (the default of `cascade_bayes.fit`) samples margins and calibration, then tau and the
upstream effect of neighbours given them. Its calibration is that of a model on its own, which the simulated
one with an upstream effect c is but for a small attenuation: intercept a + c m, slope b + c s and atom effect
e + c d, with m, s and d of `cascade_bayes.model.centres`. ``--no-upstream`` draws truths without one.

``--method nuts``, the default, is one short chain; ``svi`` and ``laplace`` are corrected by importance
sampling, as in `fit`.

Run ``python benchmarks/recovery.py`` and ``python benchmarks/recovery.py --structure chain --method
laplace``.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from cascade_bayes.copulas import get_copula, get_copulas
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.pair_posteriors import sample_pairs
from cascade_bayes.inference.posterior_modules import collect, make_modules
from cascade_bayes.inference.samplers.draw import draw
from cascade_bayes.model.cascade import params_from_sites, sample_sites
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.names import DEFAULT_MARGIN
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.model.spec import ModelSpec

GROUPS = {
    "margins": ("mixing_split", "concentration", "normal_scale", "atom_logit"),
    "copula": ("tau",),
    "calibration": ("intercept", "slope", "atom_effect", "label_corr", "label_corr_slope"),
    "upstream": ("upstream",),
}
LEVEL = 0.9
NUM_WARMUP, NUM_DRAWS, NUM_STEPS = 50, 200, 1000
NUM_WEIGHTED = 1000
"""Draws of the methods with importance weights; the pairs are drawn given every fifth."""

Sites = dict[str, Any]
Fit = Callable[[jax.Array, Observations], Sites]
"""Key and table -> draws of the sites, ``(num_draws, ...)``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--copula", default="gumbel")
    parser.add_argument("--margin", default=DEFAULT_MARGIN)
    parser.add_argument("--method", choices=("nuts", "svi", "laplace"), default="nuts")
    parser.add_argument("--structure", choices=("modular", "chain"), default="modular")
    parser.add_argument("--no-upstream", action="store_true", help="truths without an upstream effect")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    k = options.models
    # The last model is at times exactly certain.
    locs = np.full((k, 1), np.nan)
    locs[-1] = np.inf
    layout = AtomLayout(locs, locs, np.ones(k, dtype=bool))
    chain = ModelSpec(layout, get_copulas(options.copula, k - 1), Priors(), margin=options.margin)
    modular = replace(chain, structure="modular")
    neighbours = [modular.pairs.index(pair) for pair in itertools.pairwise(range(k))]
    families = [options.copula if i in neighbours else "independence" for i in range(len(modular.pairs))]
    modular = replace(modular, copulas=tuple(get_copula(family) for family in families))
    fit = make_fit(modular if options.structure == "modular" else chain, neighbours, options.method)

    @jax.jit
    def draw_table(key: jax.Array) -> tuple[Sites, Observations]:
        key_sites, key_table = jax.random.split(key)
        with handlers.seed(rng_seed=key_sites):
            sites = sample_sites(chain)
        if options.no_upstream:
            sites["upstream"] = jnp.zeros_like(sites["upstream"])
        params = params_from_sites(sites, chain)
        z, correct = simulate_scores(key_table, params, chain.copulas, options.queries)
        every = jnp.ones(z.shape, dtype=bool)
        return sites, Observations(z, every, correct, every)

    covered: dict[str, list[np.ndarray]] = defaultdict(list)
    began = time.perf_counter()
    for replication in range(options.replications):
        key_table, key_fit = jax.random.split(jax.random.fold_in(jax.random.key(0), replication))
        truth, obs = draw_table(key_table)
        if options.structure == "modular":
            centres = find_centres(obs, layout, modular.pairs)
            m, s = centres.line[neighbours].T
            truth["intercept"] = truth["intercept"].at[1:].add(truth["upstream"] * m)
            truth["slope"] = truth["slope"].at[1:].add(truth["upstream"] * s)
            truth["atom_effect"] += truth["upstream"][-1] * centres.at_atoms[neighbours[-1], 0]
        for name, values in fit(key_fit, obs).items():
            low, high = np.quantile(np.asarray(values), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
            covered[name].append((low <= np.asarray(truth[name])) & (np.asarray(truth[name]) <= high))
        if replication % 20 == 19 or replication + 1 == options.replications:
            seconds = time.perf_counter() - began
            print(f"{replication + 1} replications of {k} models, {options.queries} queries: {seconds:.0f} s")
            report(covered)


def report(covered: dict[str, list[np.ndarray]]) -> None:
    print(f"{'group':14s}{'parameters':>12s}{'covered by 90 % intervals':>28s}")
    for group, names in GROUPS.items():
        hits = {name: np.stack(covered[name]) for name in names if name in covered}
        total = np.concatenate([x.reshape(len(x), -1) for x in hits.values()], axis=1)
        error = total.mean(axis=1).std() / np.sqrt(len(total))
        print(f"{group:14s}{total.shape[1]:12d}{total.mean():21.1%} +- {error:.1%}")
        for name, x in hits.items():
            print(f"  {name:16s}{x[0].size:8d}{x.mean():21.1%}", flush=True)


def make_fit(spec: ModelSpec, neighbours: list[int], method: str) -> Fit:
    """Return a fit as `cascade_bayes.fit` does it; neighbours by their place among the modular pairs."""
    num_draws = NUM_DRAWS if method == "nuts" else NUM_WEIGHTED
    how = FitOptions(
        method=method,
        seed=0,
        num_chains=1,
        num_warmup=NUM_WARMUP,
        num_samples=num_draws,
        max_rounds=1,
        target_accept_prob=0.85,
        num_steps=NUM_STEPS,
        progress=False,
    )
    atom_locs = jnp.asarray(spec.layout.locs)
    anchors = jax.tree.map(jnp.asarray, spec.known_anchors)
    names = tuple(map(str, range(spec.num_models)))
    with_theta = [i for i, family in enumerate(spec.copulas) if family.has_theta]

    def fit(key: jax.Array, obs: Observations) -> Sites:
        key_modules, key_pairs = jax.random.split(key)
        modules = make_modules(obs, atom_locs, anchors, spec.kind, names)
        found = draw(key_modules, [module.lanes for module in modules], how)
        sites = collect(modules, found).samples
        if spec.structure == "modular":
            centres = find_centres(obs, spec.layout, spec.pairs)
            some = {name: values[:, :: num_draws // NUM_DRAWS] for name, values in sites.items()}
            pairs = sample_pairs(key_pairs, some, obs, atom_locs, spec.kind, centres)
            tau = pairs["tau"][..., [with_theta.index(i) for i in neighbours]]
            sites = {**sites, "tau": tau, "upstream": pairs["upstream"][..., neighbours]}
        return {name: values[0] for name, values in sites.items()}

    return fit


if __name__ == "__main__":
    main()
