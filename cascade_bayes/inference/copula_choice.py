r"""Choose the copula family of each pair of models by leave-one-out log score.

Given the margins (at their posterior mode without dependence), a pair has one parameter, Kendall's tau, and
its posterior is a curve: no sampling is needed. On a grid of values :math:`\tau_k` with posterior weights
:math:`w_k` from all queries, the predictive density of query :math:`q` given all *others* is exactly

.. math::

    p(y_q \mid y_{-q}) = \Big\{ \sum_k w_k \, p(y_q \mid \tau_k)^{-1} \Big\}^{-1},

and the score of a family is the sum of its logarithms (Gelfand, Dey & Chang 1992; Vehtari, Gelman & Gabry,
Statistics and Computing 27, 2017, who approximate this sum from draws). It is that of the copula ratio, so
that independence scores 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import take
from cascade_bayes.copulas import FAMILIES, Copula, Kind, get_copula, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.inference.posterior_modules import margins_module
from cascade_bayes.inference.samplers.laplace import find_modes
from cascade_bayes.model.cascade import margins_from_sites, tau_prior
from cascade_bayes.model.names import DEFAULT_MARGIN
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.model.strata import is_long

NUM_TAUS = 64
"""Grid points, twice: over the family's whole range, then where the posterior is. There a standard deviation
spans several steps, and a trapezoidal sum of a smooth bump is exact."""

LOG_NEGLIGIBLE = 35.0
"""Where the log posterior lies this far below its top, nothing of it is left."""


@dataclass(frozen=True)
class CopulaSelection:
    """Scores of every family for every pair, and the choice.

    Attributes
    ----------
    pairs
        Positions of the two models of each pair.
    names
        The chosen family of each pair.
    scores
        Family -> leave-one-out log score against independence, ``(num_pairs,)``, in nats.
    standard_errors
        Family -> standard error of the score's difference from the chosen one's, ``(num_pairs,)``.
    """

    pairs: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    scores: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]

    def to_dict(self, models: tuple[str, ...]) -> dict[str, Any]:
        """Return a plain dictionary, one entry a pair."""
        return {
            f"{models[a]} > {models[b]}": {
                "chosen": self.names[i],
                "loo_log_score": {name: float(score[i]) for name, score in self.scores.items()},
                "se_of_difference": {name: float(se[i]) for name, se in self.standard_errors.items()},
            }
            for i, (a, b) in enumerate(self.pairs)
        }


def choose_copulas(
    obs: Observations,
    layout: AtomLayout,
    priors: Priors,
    families: Sequence[str] = tuple(FAMILIES),
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    margin: str = DEFAULT_MARGIN,
) -> CopulaSelection:
    """Score families for every pair, and choose the best for each.

    Parameters
    ----------
    obs
        The table.
    layout
        Where the atoms lie.
    priors
        Hyperparameters.
    families
        Names of the candidates.
    pairs
        Positions of the two models of each pair; the neighbours if None.
    margin
        Family of the margins' continuous parts.
    """
    pairs = tuple(itertools.pairwise(range(obs.z.shape[0]))) if pairs is None else tuple(pairs)
    num_pairs = len(pairs)
    points = _points_at_mode(obs, layout, priors, margin)
    kinds = layout.kinds
    pointwise: dict[str, np.ndarray] = {}
    both = [np.asarray(obs.observed[a] & obs.observed[b]) for a, b in pairs]
    for name in families:
        family = get_copula(name)
        scores = np.zeros((num_pairs, obs.z.shape[1]))
        if family.has_theta:
            for i, (a, b) in enumerate(pairs):
                log_ratio = _log_ratios(family, (kinds[a], kinds[b]))
                pair = take(points, a), take(points, b)
                scores[i, both[i]] = _leave_one_out(log_ratio, pair, family, priors, both[i])
        pointwise[name] = scores
    totals = {name: scores.sum(axis=1) for name, scores in pointwise.items()}
    best = np.argmax(np.stack(list(totals.values())), axis=0)
    chosen = tuple(families[k] for k in best)
    errors = {}
    for name, scores in pointwise.items():
        difference = [scores[i, both[i]] - pointwise[chosen[i]][i, both[i]] for i in range(num_pairs)]
        errors[name] = np.array([np.std(d) * np.sqrt(d.size) if d.size else 0.0 for d in difference])
    return CopulaSelection(pairs, chosen, totals, errors)


def _points_at_mode(obs: Observations, layout: AtomLayout, priors: Priors, margin: str) -> MarginPoint:
    """``F`` of every confidence at the modes of the margins."""
    names = tuple(map(str, range(obs.z.shape[0])))
    kind = ModelSpec(layout, (), priors, margin=margin).kind
    in_bins = is_long(obs.z.shape[1])
    target, data = margins_module(obs, jnp.asarray(layout.locs), kind, names, in_bins=in_bins).lanes
    sites = jax.vmap(target.sites)(find_modes(target, data))
    margins = margins_from_sites(sites, data.atom_locs, data.continuous, margin)
    return jax.jit(mixed.point)(obs.z, jax.tree.map(lambda field: field[:, None, :], margins))


@cache
def _log_ratios(family: Copula, kinds: tuple[Kind, Kind]) -> Any:
    @jax.jit
    def at(left: MarginPoint, right: MarginPoint, taus: jax.Array) -> jax.Array:
        def one(tau: jax.Array) -> jax.Array:
            return log_copula_ratio(family, left, right, family.tau_to_theta(tau), kinds)

        return jax.lax.map(one, taus)

    return at


def locate_tau(
    log_likelihood: Callable[[np.ndarray], np.ndarray],
    family: Copula,
    log_prior: Callable[[np.ndarray], np.ndarray],
) -> tuple[float, float]:
    """Return the stretch of tau outside which nothing is left of the posterior, on a grid of `NUM_TAUS`.

    Parameters
    ----------
    log_likelihood
        Grid -> log likelihoods of some draws, ``(num_draws, num_taus)``; the stretch holds all of them.
    family
        Its range of tau is searched.
    log_prior
        Grid -> log prior density.
    """
    low, high = family.tau_range
    taus = tau_grid(low, high)
    log_weight = log_likelihood(taus) + log_prior(taus)
    log_weight -= log_weight.max(axis=1, keepdims=True)
    kept = np.flatnonzero((log_weight > -LOG_NEGLIGIBLE).any(axis=0))
    half = 0.5 * (high - low) / NUM_TAUS
    return float(taus[kept[0]] - half), float(taus[kept[-1]] + half)


def tau_grid(low: float, high: float) -> np.ndarray:
    """Return the middles of `NUM_TAUS` equal parts of a stretch of tau, ``(NUM_TAUS,)``."""
    return low + (high - low) * (np.arange(NUM_TAUS) + 0.5) / NUM_TAUS


def _leave_one_out(
    log_ratio: Any,
    pair: tuple[MarginPoint, MarginPoint],
    family: Copula,
    priors: Priors,
    both: np.ndarray,
) -> np.ndarray:
    """Pointwise leave-one-out log scores of the queries seen by both models."""
    prior = tau_prior((family,), priors)

    def log_prior(taus: np.ndarray) -> np.ndarray:
        return np.asarray(prior.log_prob(jnp.asarray(taus)[:, None]))

    def log_p(taus: np.ndarray) -> np.ndarray:
        return np.asarray(log_ratio(*pair, jnp.asarray(taus)))[:, both]  # (tau, query)

    taus = tau_grid(*locate_tau(lambda taus: log_p(taus).sum(axis=1)[None], family, log_prior))
    pointwise = log_p(taus)
    log_weight = pointwise.sum(axis=1) + log_prior(taus)
    log_weight -= log_weight.max()
    log_weight -= np.log(np.exp(log_weight).sum())
    # log of 1 / sum_k w_k / p_k, shifted so that nothing overflows
    exponent = log_weight[:, None] - pointwise
    top = exponent.max(axis=0)
    return np.asarray(-(top + np.log(np.exp(exponent - top).sum(axis=0))))
