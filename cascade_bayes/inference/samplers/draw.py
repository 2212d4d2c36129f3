r"""The ways to draw from densities, lanes side by side, each of which gives the same kind of draws.

=========== =============================================================================================
``nuts``    NUTS, in coordinates whitened at the mode (`cascade_bayes.inference.samplers.nuts`)
``auto``    NUTS with a short warm-up, in coordinates and from starts that the normal approximation gives or,
            where that is poor, a full-rank normal fitted by SVI
``svi``     a guide, corrected by importance sampling (`cascade_bayes.inference.samplers.approximate`)
``laplace`` the normal approximation at the mode, likewise corrected
``map``     the mode alone
=========== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._devices import num_cores
from cascade_bayes._trees import take
from cascade_bayes.inference.convergence import MAX_K_HAT
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.samplers import approximate, importance
from cascade_bayes.inference.samplers.importance import Proposals
from cascade_bayes.inference.samplers.laplace import NormalApproximation, find_modes, normal_approximation
from cascade_bayes.inference.samplers.nuts import (
    Chains,
    Draws,
    compile_chains,
    constrained,
    run_side_by_side,
)
from cascade_bayes.inference.samplers.target import Lanes

NUM_TRIAL = 1000
"""Draws by which ``auto`` judges the normal approximation."""


class LaneDraws(NamedTuple):
    """Draws of every lane.

    Attributes
    ----------
    sites, stats
        ``(num_lanes, num_chains, num_draws, ...)``; no statistics but of NUTS.
    start
        How many of the draws are to be left out, from the first on, ``(num_lanes,)``: those before NUTS
        started over.
    report
        What is to be told of the sampling, by lane, ``(num_lanes,)``: ``halved_steps``, how often NUTS
        started over with half the step size after divergent transitions; or ``k_hat``, ``ess`` and, of a
        guide, ``settled``.
    """

    sites: Draws
    stats: Draws
    start: np.ndarray
    report: dict[str, np.ndarray]


def draw(
    key: jax.Array,
    parts: Sequence[Lanes],
    options: FitOptions,
    *,
    max_kept: int | None = None,
    enough: Callable[[list[LaneDraws]], bool] | None = None,
) -> list[LaneDraws]:
    """Draw from the posterior that independent parts make up.

    Parameters
    ----------
    key
        PRNG key.
    parts
        The parts.
    options
        The method, and what it is told.
    max_kept
        Draws that the approximate methods return at most, all chains together; as many as NUTS would if None.
    enough
        Whether what NUTS has drawn suffices; it is asked after each round but the last.
    """
    keys, method = list(jax.random.split(key, len(parts))), options.method
    if method == "map":
        modes = [find_modes(*part)[:, None, None] for part in parts]
        return [
            LaneDraws(_sites(part, x), {}, np.zeros(len(x), dtype=int), {})
            for part, x in zip(parts, modes, strict=True)
        ]
    if method in ("nuts", "auto"):
        with ThreadPoolExecutor(num_cores()) as pool:  # more at once take memory, and no less time
            compile_chains(parts, options, pool)
    approximations = [normal_approximation(*part) for part in parts]
    if method in ("nuts", "auto"):
        if method == "auto":
            approximations = [
                _improve(key, part, approximation, options)
                for key, part, approximation in zip(keys, parts, approximations, strict=True)
            ]
        return _draw_nuts(keys, parts, approximations, options, enough)
    return [
        _draw_approximate(key, part, approximation, options, max_kept)
        for key, part, approximation in zip(keys, parts, approximations, strict=True)
    ]


def _sites(part: Lanes, x: jax.Array) -> Draws:
    return {k: np.asarray(v) for k, v in constrained(part.target, x).items()}


def _draw_nuts(
    keys: Sequence[jax.Array],
    parts: Sequence[Lanes],
    approximations: Sequence[NormalApproximation],
    options: FitOptions,
    enough: Callable[[list[LaneDraws]], bool] | None,
) -> list[LaneDraws]:
    from tqdm.auto import tqdm

    chains = [
        Chains.start(key, part, approximation, options)
        for key, part, approximation in zip(keys, parts, approximations, strict=True)
    ]
    none = [np.zeros(len(approximation.mode), dtype=int) for approximation in approximations]
    found = [LaneDraws({}, {}, zeros, {"halved_steps": zeros}) for zeros in none]
    total = len(parts) * (options.warmup + options.draws)
    with tqdm(total=total, disable=not options.progress, desc="NUTS", unit="transition") as bar:
        chains = [one for one, _, _ in run_side_by_side(chains, options.warmup, bar.update)]
        for round_ in range(options.max_rounds):
            if round_:
                bar.total += len(parts) * options.draws
            runs = run_side_by_side(chains, options.draws, bar.update)
            found = [_longer(before, *drawn) for before, (_, *drawn) in zip(found, runs, strict=True)]
            if round_ + 1 == options.max_rounds:
                break
            diverged = [np.asarray(np.any(stats["diverging"], axis=(1, 2))) for _, _, stats in runs]
            chains = [
                one.with_half_the_step(lanes) for (one, _, _), lanes in zip(runs, diverged, strict=True)
            ]
            found = [_started_over(*two) for two in zip(found, diverged, strict=True)]
            if enough is not None and enough(found):
                break
    return found


def _longer(before: LaneDraws, sites: Draws, stats: Draws) -> LaneDraws:
    def joined(one: Draws, other: Draws) -> Draws:
        return {k: np.concatenate([one[k], v], axis=2) if one else v for k, v in other.items()}

    return before._replace(sites=joined(before.sites, sites), stats=joined(before.stats, stats))


def _started_over(found: LaneDraws, lanes: np.ndarray) -> LaneDraws:
    """Leave out what some lanes, ``(num_lanes,)``, have drawn: their step was too long for some corner."""
    num_draws = found.stats["diverging"].shape[2]
    halved = found.report["halved_steps"] + lanes
    return found._replace(start=np.where(lanes, num_draws, found.start), report={"halved_steps": halved})


def _draw_approximate(
    key: jax.Array,
    part: Lanes,
    approximation: NormalApproximation,
    options: FitOptions,
    max_kept: int | None,
) -> LaneDraws:
    per_chain = options.draws
    if max_kept is not None:
        per_chain = min(per_chain, max(max_kept // options.num_chains, 1))
    num_draws = options.num_chains * per_chain
    num_proposals = importance.OVERSAMPLING * num_draws
    key_fit, key_draw = jax.random.split(key)
    report: dict[str, np.ndarray] = {}
    if options.method == "laplace":

        def propose(key: jax.Array, lanes: np.ndarray) -> Proposals:
            own, data = take((approximation, part.data), lanes)
            return approximate.propose_laplace(part.target, key, own, data, num_proposals)

    else:
        guide = options.guide
        fitted = approximate.run_svi(part.target, key_fit, approximation, part.data, guide, options.num_steps)
        report["settled"] = fitted.converged

        def propose(key: jax.Array, lanes: np.ndarray) -> Proposals:
            params, own, data = take((fitted.params, approximation, part.data), lanes)
            return approximate.propose_svi(
                part.target, key, fitted._replace(params=params), own, data, guide, num_proposals
            )

    drawn = importance.draw_by_importance(propose, key_draw, len(approximation.mode), num_draws)
    report |= {"k_hat": drawn.k_hat, "ess": drawn.ess}
    flat = jnp.asarray(drawn.x, dtype=approximation.mode.dtype)
    by_chain = flat.reshape((len(flat), options.num_chains, per_chain, -1))
    return LaneDraws(_sites(part, by_chain), {}, np.zeros(len(drawn.x), dtype=int), report)


def _improve(
    key: jax.Array, part: Lanes, approximation: NormalApproximation, options: FitOptions
) -> NormalApproximation:
    """Return the approximation, replaced in lanes where it is poor by a full-rank normal that SVI found."""
    key_trial, key_fit = jax.random.split(key)
    trial = approximate.propose_laplace(part.target, key_trial, approximation, part.data, NUM_TRIAL)
    poor = ~(importance.weigh([trial]).k_hat <= MAX_K_HAT)
    if not poor.any():
        return approximation
    fitted = approximate.run_svi(
        part.target, key_fit, approximation, part.data, "full_rank", options.num_steps
    )
    found = approximate.as_normal(fitted, approximation)
    use = jnp.asarray(poor & np.isfinite(fitted.gain))
    return NormalApproximation(
        jnp.where(use[:, None], found.mode, approximation.mode),
        jnp.where(use[:, None, None], found.root, approximation.root),
    )
