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

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.inference import approximate
from cascade_bayes.inference.approximate import Guide
from cascade_bayes.inference.convergence import MAX_K_HAT, assess
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
        Of an approximation: ``k_hat`` and, of a guide, ``settled``, by module.
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
    total = len(modules) * (nuts.num_warmup + nuts.num_samples)
    with tqdm(total=total, disable=not nuts.progress, desc="NUTS", unit="transition") as bar:
        for one in chains:
            one.run(nuts.num_warmup, bar.update)
        for round_ in range(nuts.max_rounds):
            if round_:
                bar.total += len(modules) * nuts.num_samples
            runs = [one.run(nuts.num_samples, bar.update) for one in chains]
            more: Draws = {}
            for module, (sites, _) in zip(modules, runs, strict=True):
                more |= module.to_sites(sites)
            samples = _append(samples, more)
            stats = _append(stats, _join_stats([found for _, found in runs]))
            if round_ + 1 < nuts.max_rounds and assess(*options.keep(samples, stats)).mixed:
                break
    return Sampled(*options.keep(samples, stats), {})


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
    flat: list[jax.Array] = []
    k_hats: dict[str, float] = {}
    settled: dict[str, bool] = {}
    for key, module, approximation in zip(keys, modules, approximations, strict=True):
        key_fit, key_draw, key_resample = jax.random.split(key, 3)
        num_proposals = approximate.OVERSAMPLING * num_draws
        if method == "laplace":
            proposals = approximate.propose_laplace(
                module.target, key_draw, approximation, module.data, num_proposals
            )
        else:
            fitted = approximate.run_svi(
                module.target, key_fit, approximation, module.data, options.guide, options.num_steps
            )
            settled |= {name: bool(done) for name, done in zip(module.names, fitted.converged, strict=True)}
            proposals = approximate.propose_svi(
                module.target, key_draw, fitted, approximation, module.data, options.guide, num_proposals
            )
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key_resample)))
        x, k_hat = approximate.resample(rng, proposals, num_draws)
        k_hats |= {name: float(k) for name, k in zip(module.names, k_hat, strict=True)}
        flat.append(jnp.asarray(x.reshape((len(x), nuts.num_chains, per_chain, -1))))
    report = {"k_hat": k_hats} | ({"settled": settled} if settled else {})
    return Sampled(_to_samples(modules, flat), {}, report)


def _improve(
    key: jax.Array, module: Module, approximation: NormalApproximation, options: Options
) -> NormalApproximation:
    """Return the approximation, replaced in lanes where it is poor by a full-rank normal that SVI found."""
    key_trial, key_fit, key_resample = jax.random.split(key, 3)
    trial = approximate.propose_laplace(module.target, key_trial, approximation, module.data, NUM_TRIAL)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_resample)))
    _, k_hat = approximate.resample(rng, trial, 1)
    poor = ~(k_hat <= MAX_K_HAT)
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
