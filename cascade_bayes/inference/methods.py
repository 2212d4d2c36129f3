r"""The ways to draw from modules, each of which gives the same kind of draws.

=========== =============================================================================================
``nuts``    NUTS, in coordinates whitened at the mode (`cascade_bayes.inference.nuts`)
``auto``    NUTS with a short warm-up, in coordinates and from starts that the normal approximation gives or,
            where that is poor, a full-rank normal fitted by SVI
``svi``     a guide, corrected by importance sampling (`cascade_bayes.inference.approximate`)
``laplace`` the normal approximation at the mode, likewise corrected
``map``     the mode alone
=========== =============================================================================================
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.inference import approximate
from cascade_bayes.inference.approximate import Guide, Proposals, Weighted
from cascade_bayes.inference.convergence import MAX_K_HAT, MIN_ESS_BULK, assess
from cascade_bayes.inference.laplace import NormalApproximation, find_modes, normal_approximation
from cascade_bayes.inference.modules import Draws, Module
from cascade_bayes.inference.nuts import Chains, NutsOptions, constrained

METHODS = ("nuts", "auto", "svi", "laplace", "map")

AUTO_WARMUP = 100
"""Warm-up of ``auto``: the metric is known, the step size is not."""

NUM_TRIAL = 1000
"""Draws by which ``auto`` judges the normal approximation."""


class Options(NamedTuple):
    """What the methods are told; see `cascade_bayes.fit`.

    Attributes
    ----------
    nuts
        Chains and draws; the approximate methods return as many.
    guide, num_steps
        Of ``svi``.
    keep
        Which draws of the chains are kept, and judged.
    max_kept
        Draws that are kept at most, all chains together.
    """

    nuts: NutsOptions
    guide: Guide
    num_steps: int
    keep: Callable[[Draws, Draws], tuple[Draws, Draws]]
    max_kept: int | None


class Sampled(NamedTuple):
    """Draws of the model's sites.

    Attributes
    ----------
    samples, stats
        ``(num_chains, num_samples, ...)``; no statistics but of NUTS.
    report
        What is to be told of the sampling. ``approximation``: ``k_hat``, ``ess`` and, of a guide,
        ``settled``, by module. ``halved_steps``: how often NUTS started over with half the step size after
        divergent transitions, by module.
    """

    samples: Draws
    stats: Draws
    report: dict[str, Any]


def draw(key: jax.Array, modules: Sequence[Module], method: str, options: Options) -> Sampled:
    """Draw from the posterior that independent modules make up.

    Parameters
    ----------
    key
        PRNG key.
    modules
        The modules.
    method
        One of `METHODS`.
    options
        See `Options`.
    """
    keys = list(jax.random.split(key, len(modules)))
    if method == "map":
        modes = [find_modes(module.target, module.data)[:, None, None] for module in modules]
        return Sampled(_to_samples(modules, modes), {}, {})
    approximations = [normal_approximation(module.target, module.data) for module in modules]
    if method in ("nuts", "auto"):
        if method == "auto":
            approximations = [
                _improve(key, module, approximation, options)
                for key, module, approximation in zip(keys, modules, approximations, strict=True)
            ]
        return _draw_nuts(keys, modules, approximations, options)
    return _draw_approximate(keys, modules, approximations, method, options)


def _to_samples(modules: Sequence[Module], flat: Sequence[jax.Array]) -> Draws:
    samples: Draws = {}
    for module, x in zip(modules, flat, strict=True):
        sites = constrained(module.target, x)
        samples |= module.to_sites({k: np.asarray(v) for k, v in sites.items()})
    return samples


def _draw_nuts(
    keys: Sequence[jax.Array],
    modules: Sequence[Module],
    approximations: Sequence[NormalApproximation],
    options: Options,
) -> Sampled:
    from tqdm.auto import tqdm

    nuts = options.nuts
    chains = [
        Chains(key, module.target, module.data, approximation, nuts)
        for key, module, approximation in zip(keys, modules, approximations, strict=True)
    ]
    samples: Draws = {}
    stats: Draws = {}
    halved: Counter[str] = Counter()
    total = len(modules) * (nuts.num_warmup + nuts.num_samples)
    with tqdm(total=total, disable=not nuts.progress, desc="NUTS", unit="transition") as bar:
        for one in chains:
            one.run(nuts.num_warmup, bar.update)
        for round_ in range(nuts.max_rounds):
            if round_:
                bar.total += len(modules) * nuts.num_samples
            runs = [one.run(nuts.num_samples, bar.update) for one in chains]
            diverged = [np.any(found["diverging"], axis=(1, 2)) for _, found in runs]
            if round_ + 1 < nuts.max_rounds and any(lanes.any() for lanes in diverged):
                # The step is too long for some corner: what was drawn counts as warm-up.
                for one, module, lanes in zip(chains, modules, diverged, strict=True):
                    one.halve_steps(np.asarray(lanes))
                    halved.update(itertools.compress(module.names, np.asarray(lanes)))
                samples, stats = {}, {}
                continue
            more: Draws = {}
            for module, (sites, _) in zip(modules, runs, strict=True):
                more |= module.to_sites(sites)
            samples = _append(samples, more)
            stats = _append(stats, _join_stats([found for _, found in runs]))
            if round_ + 1 < nuts.max_rounds and assess(*options.keep(samples, stats)).mixed:
                break
    return Sampled(*options.keep(samples, stats), {"halved_steps": dict(halved)} if halved else {})


def _append(before: Draws, more: Draws) -> Draws:
    return {k: np.concatenate([before[k], v], axis=1) if before else v for k, v in more.items()}


def _join_stats(found: Sequence[Draws]) -> Draws:
    """Statistics of all lanes of all modules as those of one sampler, ``(num_chains, num_draws)``.

    Independent parts side by side have the sum of their energies. A transition diverges if one of its parts
    does.
    """

    def over_lanes(name: str) -> np.ndarray:
        return np.concatenate([stats[name] for stats in found])

    return {
        "accept_prob": over_lanes("accept_prob").mean(axis=0),
        "diverging": over_lanes("diverging").any(axis=0),
        "energy": over_lanes("energy").sum(axis=0),
        "num_steps": over_lanes("num_steps").max(axis=0),
        "potential_energy": over_lanes("potential_energy").sum(axis=0),
    }


def _draw_approximate(
    keys: Sequence[jax.Array],
    modules: Sequence[Module],
    approximations: Sequence[NormalApproximation],
    method: str,
    options: Options,
) -> Sampled:
    nuts = options.nuts
    per_chain = nuts.num_samples
    if options.max_kept is not None:
        per_chain = min(per_chain, max(options.max_kept // nuts.num_chains, 1))
    num_draws = nuts.num_chains * per_chain
    num_proposals = approximate.OVERSAMPLING * num_draws
    flat: list[jax.Array] = []
    report: dict[str, dict[str, Any]] = {"k_hat": {}, "ess": {}}
    for key, module, approximation in zip(keys, modules, approximations, strict=True):
        key_fit, key_draw, key_resample = jax.random.split(key, 3)
        if method == "laplace":
            propose = partial(
                approximate.propose_laplace,
                module.target,
                approximation=approximation,
                data=module.data,
                num_draws=num_proposals,
            )
        else:
            fitted = approximate.run_svi(
                module.target, key_fit, approximation, module.data, options.guide, options.num_steps
            )
            propose = partial(
                approximate.propose_svi,
                module.target,
                fitted=fitted,
                approximation=approximation,
                data=module.data,
                guide=options.guide,
                num_draws=num_proposals,
            )
            report.setdefault("settled", {}).update(_by_lane(module, fitted.converged))
        weighted = _propose_enough(propose, key_draw)
        report["k_hat"] |= _by_lane(module, weighted.k_hat)
        report["ess"] |= _by_lane(module, weighted.ess)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key_resample)))
        x = approximate.resample(rng, weighted, num_draws)
        flat.append(jnp.asarray(x.reshape((len(x), nuts.num_chains, per_chain, -1))))
    return Sampled(_to_samples(modules, flat), {}, {"approximation": report})


def _propose_enough(propose: Callable[[jax.Array], Proposals], key: jax.Array) -> Weighted:
    """Propose batch after batch until every lane has enough effective draws, or there are too many."""
    batches: list[Proposals] = []
    for key_batch in jax.random.split(key, approximate.MAX_BATCHES):
        batches.append(propose(key_batch))
        weighted = approximate.weigh(batches)
        if np.all(weighted.ess >= MIN_ESS_BULK):
            break
    return weighted


def _by_lane(module: Module, values: np.ndarray) -> dict[str, Any]:
    return dict(zip(module.names, values.tolist(), strict=True))


def _improve(
    key: jax.Array, module: Module, approximation: NormalApproximation, options: Options
) -> NormalApproximation:
    """Return the approximation, replaced in lanes where it is poor by a full-rank normal that SVI found."""
    key_trial, key_fit = jax.random.split(key)
    trial = approximate.propose_laplace(module.target, key_trial, approximation, module.data, NUM_TRIAL)
    poor = ~(approximate.weigh([trial]).k_hat <= MAX_K_HAT)
    if not poor.any():
        return approximation
    fitted = approximate.run_svi(
        module.target, key_fit, approximation, module.data, "full_rank", options.num_steps
    )
    found = approximate.as_normal(fitted, approximation)
    use = jnp.asarray(poor & np.isfinite(fitted.gain))
    return NormalApproximation(
        jnp.where(use[:, None], found.mode, approximation.mode),
        jnp.where(use[:, None, None], found.root, approximation.root),
    )
