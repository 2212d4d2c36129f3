r"""Pair copulas and upstream effects of all pairs of models, given each draw of margins and calibration.

Given the margins of draw :math:`d`, a pair (i, j) has one dependence parameter, Kendall's tau, with density

.. math::

    p(\tau \mid d) \propto p(\tau) \prod_q r\{F^d_i(z_{qi}), F^d_j(z_{qj}); \tau\},

and given its calibration one upstream effect, with

.. math::

    p(c \mid d) \propto p(c) \prod_q \mathrm{Bernoulli}\big[y_{qj};
        \sigma\{\text{logit}^d_j(z_{qj}) + c\, (x_{qi} - \hat x_i(z_{qj}))\}\big],

:math:`\hat x_i(z_j)` what is to be expected of :math:`x_i` (`cascade_bayes.model.centres`). Both are curves:
the log likelihood is computed at `NUM_NODES` values, joined by a cubic spline, and the draw is taken by
inverting the distribution function on a fine grid. Nothing is fed back to margins and calibration (a cut
posterior: Plummer, Statistics and Computing 25, 2015).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from cascade_bayes.copulas import Copula, Kind, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.inference.select import locate_tau
from cascade_bayes.model.cascade import ModelSpec, params_from_sites, tau_prior
from cascade_bayes.model.correctness import log_bernoulli, own_logit
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import Calibration, CascadeParams

MAX_DRAWS = 2000
"""Draws of margins and calibration that are kept; each costs a curve for every pair."""

NUM_NODES = 24
"""Values at which a log likelihood is computed: some 16 posterior standard deviations, in steps of 2/3."""

NUM_FINE = 1024
"""Cells of the grid on which a curve is inverted."""

UPSTREAM_RANGE = 8.0
"""Half width of the curve of an upstream effect, in standard deviations of its prior."""

Draws = dict[str, np.ndarray]


def thin(samples: Draws, stats: Draws) -> tuple[Draws, Draws]:
    """Keep at most `MAX_DRAWS` draws, evenly spaced within each chain."""
    num_chains, num_samples = next(iter(samples.values())).shape[:2]
    keep = min(num_samples, max(MAX_DRAWS // num_chains, 1))
    at = ((np.arange(keep) + 0.5) * num_samples / keep).astype(int)
    return {k: v[:, at] for k, v in samples.items()}, {k: v[:, at] for k, v in stats.items()}


def sample_pairs(
    key: jax.Array, samples: Draws, obs: Observations, spec: ModelSpec, *, at_mode: bool = False
) -> Draws:
    """Draw tau and the upstream effect of every pair, one each for every draw of the first module.

    Parameters
    ----------
    key
        PRNG key.
    samples
        Draws of the first module's sites, ``(num_chains, num_samples, ...)``.
    obs
        The table.
    spec
        The model, of structure ``"modular"``, with its ``centres``.
    at_mode
        Return the top of each curve in place of a draw from it.

    Returns
    -------
    dict
        ``tau`` and ``upstream``, ``(num_chains, num_samples, num_pairs)``: tau of the pairs whose family has
        a parameter, if any; upstream if the model has it.
    """
    first = spec.first_module()
    lead = next(iter(samples.values())).shape[:2]
    flat = {k: jnp.asarray(v.reshape((-1, *v.shape[2:]))) for k, v in samples.items()}
    draws = jax.vmap(lambda sites: params_from_sites(sites, first))(flat)
    rng = None if at_mode else np.random.default_rng(np.asarray(jax.random.key_data(key)))
    found: Draws = {}
    if any(family.has_theta for family in spec.copulas):
        points = _points(draws, obs.z)
        taus = [
            _sample_tau(rng, points, obs, spec, index)
            for index, family in enumerate(spec.copulas)
            if family.has_theta
        ]
        found["tau"] = np.stack(taus, axis=-1).reshape((*lead, -1))
    if spec.upstream:
        own = _own_logits(draws.calibration, obs.z)
        effects = [_sample_upstream(rng, own, obs, spec, index) for index in range(len(spec.pairs))]
        found["upstream"] = np.stack(effects, axis=-1).reshape((*lead, -1))
    return found


@jax.jit
def _own_logits(draws: Calibration, z: jax.Array) -> jax.Array:
    """Log odds of being right without the upstream effect, ``(num_draws, num_models, num_queries)``."""
    return jax.vmap(lambda draw: own_logit(z, draw))(draws)


@jax.jit
def _points(draws: CascadeParams, z: jax.Array) -> MarginPoint:
    """``F`` of every confidence under every draw, fields ``(num_draws, num_models, num_queries)``."""

    def one(draw: CascadeParams) -> MarginPoint:
        return mixed.point(z, jax.tree.map(lambda field: field[:, None], draw.margins))

    return jax.lax.map(one, draws)


@cache
def _pair_log_likelihood(family: Copula, kinds: tuple[Kind, Kind]) -> Any:
    @jax.jit
    def curve(left: MarginPoint, right: MarginPoint, both: jax.Array, taus: jax.Array) -> jax.Array:
        """Log likelihood of every draw at every tau, ``(num_draws, num_taus)``."""
        thetas = jax.vmap(family.tau_to_theta)(taus)

        def one(pair: tuple[MarginPoint, MarginPoint]) -> jax.Array:
            def at(theta: jax.Array) -> jax.Array:
                return jnp.sum(jnp.where(both, log_copula_ratio(family, *pair, theta, kinds), 0.0))

            return jax.lax.map(at, thetas)

        return jax.lax.map(one, (left, right))

    return curve


def _sample_tau(
    rng: np.random.Generator | None, points: MarginPoint, obs: Observations, spec: ModelSpec, index: int
) -> np.ndarray:
    i, j = spec.pairs[index]
    family, kinds = spec.copulas[index], spec.layout.kinds
    left, right = (jax.tree.map(lambda field, m=m: field[:, m], points) for m in (i, j))
    both = obs.observed[i] & obs.observed[j]
    curve = _pair_log_likelihood(family, (kinds[i], kinds[j]))
    log_prior = tau_prior((family,), spec.priors)

    def log_prior_at(tau: np.ndarray) -> np.ndarray:
        return np.asarray(log_prior.log_prob(jnp.asarray(tau)[:, None]))

    # Where any draw's curve lies: that of some of them, widened by a fifth to either side.
    some = jax.tree.map(lambda field: field[:: max(len(field) // 8, 1)], (left, right))
    low, high = locate_tau(lambda taus: np.asarray(curve(*some, both, taus)), family, log_prior_at)
    margin = 0.2 * (high - low)
    low, high = max(low - margin, family.tau_range[0]), min(high + margin, family.tau_range[1])
    inset = 1e-4 * (high - low)
    nodes = np.linspace(low + inset, high - inset, NUM_NODES)
    values = np.asarray(curve(left, right, both, jnp.asarray(nodes)))
    return _invert(rng, nodes, values, log_prior_at, low, high)


def _sample_upstream(
    rng: np.random.Generator | None, own: jax.Array, obs: Observations, spec: ModelSpec, index: int
) -> np.ndarray:
    i, j = spec.pairs[index]
    assert spec.centres is not None
    residual = spec.centres.beyond(index, obs.z, i, j, spec.layout)
    use = obs.observed[i] & obs.observed[j] & obs.labelled[j]
    loc, scale = spec.priors.upstream_loc, spec.priors.upstream_scale
    low, high = loc - UPSTREAM_RANGE * scale, loc + UPSTREAM_RANGE * scale
    nodes = np.linspace(low, high, NUM_NODES)
    values = np.asarray(_label_log_likelihood(own[:, j], residual, obs.correct[j], use, jnp.asarray(nodes)))
    return _invert(rng, nodes, values, lambda c: -0.5 * ((c - loc) / scale) ** 2, low, high)


@jax.jit
def _label_log_likelihood(
    own: jax.Array, residual: jax.Array, correct: jax.Array, use: jax.Array, effects: jax.Array
) -> jax.Array:
    """Log likelihood of the labels at every draw and effect, ``(num_draws, num_effects)``."""

    def at(effect: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(use, log_bernoulli(own + effect * residual, correct), 0.0), axis=-1)

    return jax.lax.map(at, effects).T


def _invert(
    rng: np.random.Generator | None,
    nodes: np.ndarray,
    values: np.ndarray,
    log_prior: Any,
    low: float,
    high: float,
) -> np.ndarray:
    """Draw one value from each curve ``prior * exp(spline of values)`` on (low, high), ``(num_draws,)``.

    Without a source of randomness, its top.
    """
    edges = np.linspace(low, high, NUM_FINE + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    log_density = CubicSpline(nodes, values.T)(middle) + log_prior(middle)[:, None]
    if rng is None:
        return np.asarray(middle[np.argmax(log_density, axis=0)])
    density = np.exp(log_density - log_density.max(axis=0))
    cumulative = np.cumsum(density, axis=0)
    target = rng.uniform(size=values.shape[0]) * cumulative[-1]
    cell = np.minimum((cumulative < target).sum(axis=0), NUM_FINE - 1)
    column = np.arange(values.shape[0])
    before = cumulative[cell, column] - density[cell, column]
    share = np.clip((target - before) / density[cell, column], 0.0, 1.0)
    return np.asarray(edges[cell] + share * (edges[1] - edges[0]))
