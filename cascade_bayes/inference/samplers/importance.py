r"""Importance sampling: draws of an approximation, weighted and resampled.

An approximation :math:`q` of a module's posterior :math:`p` proposes draws, which get the weights
:math:`p(x)/q(x)`, smoothed in their tail by a generalised Pareto distribution (Vehtari, Simpson, Gelman, Yao
& Gabry, Journal of Machine Learning Research 25(72), 2024), and are resampled by them. The shape of that
distribution, k-hat, tells how good :math:`q` was: up to 0.7 what is estimated from the draws can be trusted,
above it not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from cascade_bayes._trees import take
from cascade_bayes.inference.convergence import MIN_ESS_BULK

OVERSAMPLING = 2
"""Proposals for each draw that is kept, to begin with."""

MAX_BATCHES = 16
"""How many times as many are proposed at most, while the weights leave too few effective draws."""

LANES = 8
"""Lanes that propose side by side on a processor; the others wait, or have enough already."""


class Proposals(NamedTuple):
    """Draws of an approximation.

    Attributes
    ----------
    x
        Flat unconstrained parameters, ``(num_lanes, num_draws, dim)``.
    log_ratio
        Log of posterior over approximation, up to a constant of the lane, ``(num_lanes, num_draws)``.
    """

    x: jax.Array | np.ndarray
    log_ratio: jax.Array | np.ndarray


class Weighted(NamedTuple):
    """Proposals of all lanes with their importance weights.

    Attributes
    ----------
    x
        Flat unconstrained parameters, ``(num_lanes, num_proposals, dim)``.
    log_weight
        Pareto-smoothed, of weights that add to one, ``(num_lanes, num_proposals)``.
    k_hat
        Shape of the largest ratios' distribution, ``(num_lanes,)``.
    """

    x: np.ndarray
    log_weight: np.ndarray
    k_hat: np.ndarray

    @property
    def ess(self) -> np.ndarray:
        r"""Effective number of draws :math:`1 / \sum_i w_i^2`, ``(num_lanes,)`` (Kong 1992)."""
        return 1.0 / np.sum(np.exp(2.0 * self.log_weight), axis=1)


def weigh(batches: Sequence[Proposals]) -> Weighted:
    """Return proposals, several batches of them, with their importance weights."""
    from cascade_bayes.inference import _arviz

    x = np.concatenate([batch.x for batch in batches], axis=1)
    log_ratio = np.concatenate([batch.log_ratio for batch in batches], axis=1).astype(float)
    # A proposal outside the support of the posterior has no weight.
    finite = np.isfinite(log_ratio)
    floor = np.min(log_ratio, axis=1, keepdims=True, where=finite, initial=np.inf) - 100.0
    floor = np.where(finite.any(axis=1, keepdims=True), floor, np.nan)
    log_weight, k_hat = _arviz.smooth_weights(np.where(finite, log_ratio, floor))
    return Weighted(x, log_weight, k_hat)


class Resampled(NamedTuple):
    """Draws of all lanes by importance.

    Attributes
    ----------
    x
        Flat unconstrained parameters, ``(num_lanes, num_draws, dim)``.
    k_hat, ess
        Verdict on each lane's proposals, ``(num_lanes,)``; see `Weighted`.
    """

    x: np.ndarray
    k_hat: np.ndarray
    ess: np.ndarray


def draw_by_importance(
    propose: Callable[[jax.Array, np.ndarray], Proposals], key: jax.Array, num_lanes: int, num_draws: int
) -> Resampled:
    """Propose batch after batch until a lane has `MIN_ESS_BULK` effective draws, or too many; then resample.

    Parameters
    ----------
    propose
        A PRNG key and the positions of some lanes, as many at every call -> their proposals.
    key
        PRNG key.
    num_lanes
        How many there are.
    num_draws
        How many draws to return of each lane.
    """
    key_batches, key_resample = jax.random.split(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_resample)))
    size = min(num_lanes, LANES) if jax.default_backend() == "cpu" else num_lanes
    lanes = np.arange(num_lanes)
    held: list[Proposals] = []
    found: dict[int, tuple[np.ndarray, float, float]] = {}
    for batch, key_batch in enumerate(jax.random.split(key_batches, MAX_BATCHES), start=1):
        parts = []
        for part, start in enumerate(range(0, len(lanes), size)):
            some = lanes[start : start + size]
            filled = np.pad(some, (0, size - len(some)), mode="edge")
            proposed = propose(jax.random.fold_in(key_batch, part), filled)
            parts.append(take(jax.tree.map(np.asarray, proposed), slice(len(some))))
        held.append(Proposals(*(np.concatenate(field) for field in zip(*parts, strict=True))))
        weighted = weigh(held)
        done = (weighted.ess >= MIN_ESS_BULK) | (batch == MAX_BATCHES)
        if done.any():
            x = resample(rng, take(weighted, done), num_draws)
            kept = zip(x, weighted.k_hat[done], weighted.ess[done], strict=True)
            found |= dict(zip(lanes[done].tolist(), kept, strict=True))
        lanes, held = lanes[~done], [take(one, ~done) for one in held]
        if not len(lanes):
            break
    return Resampled(*(np.stack(field) for field in zip(*(found[i] for i in range(num_lanes)), strict=True)))


def resample(rng: np.random.Generator, weighted: Weighted, num_draws: int) -> np.ndarray:
    """Return draws by importance, ``(num_lanes, num_draws, dim)``, in random order.

    Resampling is systematic: a draw of weight w comes ``num_draws * w`` times, rounded up or down.

    Parameters
    ----------
    rng
        Source of randomness.
    weighted
        Proposals and weights.
    num_draws
        How many to return of each lane.
    """
    chosen = []
    for weight in np.exp(weighted.log_weight):
        level = (np.arange(num_draws) + rng.uniform()) / num_draws
        index = np.minimum(np.searchsorted(np.cumsum(weight), level), weight.size - 1)
        chosen.append(rng.permutation(index))
    return np.take_along_axis(weighted.x, np.stack(chosen)[:, :, None], axis=1)
