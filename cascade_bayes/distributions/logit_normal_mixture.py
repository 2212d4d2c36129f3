r"""Mixture of logit-normal distributions: the standardised logit is a mixture of normals.

.. math::

    f(z) = \sum_j \frac{\pi_j}{s_j}\, \varphi\Big(\frac{z - m_j}{s_j}\Big), \qquad
    F(z) = \sum_j \pi_j\, \Phi\Big(\frac{z - m_j}{s_j}\Big).

With :math:`x_j = (z - m_j)/s_j`, :math:`e_j = \pi_j \exp(-x_j^2/2)` and Mills' ratio :math:`R`, component j
has

.. math:: \frac{e_j}{\sqrt{2\pi}} R(|x_j|) \quad\text{in its smaller tail,}\qquad
          \pi_j - \frac{e_j}{\sqrt{2\pi}} R(|x_j|) \quad\text{in the other,}

so that one exponential a component, scaled by the largest, gives the density, both tails and all their
derivatives; each tail is a sum of positive terms.

Its tails in :math:`z` fall like :math:`\exp(-z^2/2s^2)`, where a beta mixture's fall like
:math:`\exp(-\alpha|z|)`.

Source: Aitchison & Shen, Biometrika 67 (1980), 261-272 (the logistic-normal distribution).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.distributions.continuous import (
    components_first,
    sample_component,
    valid_mixture,
)
from cascade_bayes.special import UnitPoint, mills_ratio, unit_point_from_logs

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_DENSITY_AT_0 = math.exp(-_HALF_LOG_TWO_PI)


class LogitNormalMixture(NamedTuple):
    r"""A `ContinuousPart`: the logit of the score is a mixture of normals.

    Attributes
    ----------
    mixing_probs
        Weights :math:`\pi_j`, ``(..., num_components)``.
    loc, scale
        Means :math:`m_j` and standard deviations :math:`s_j` of ``z``, ``(..., num_components)``.

    Examples
    --------
    >>> one = jnp.ones(1)
    >>> part = LogitNormalMixture(one, 0 * one, one)
    >>> float(part.cdf(jnp.array(-1.0)).value.round(4))  # the normal distribution function
    0.1587
    """

    mixing_probs: jax.Array
    loc: jax.Array
    scale: jax.Array

    def in_domain(self) -> jax.Array:
        """Whether weights add to 1 and scales are positive."""
        return valid_mixture(self.mixing_probs, self.scale)

    def _logs(self, z: jax.Array) -> tuple[jax.Array, ...]:
        """Return the logs of the density and of both tails; at infinite ``z`` those at 0."""
        log_probs, loc, log_scale = (
            components_first(parameter, z.ndim)
            for parameter in (jnp.log(self.mixing_probs), self.loc, jnp.log(self.scale))
        )
        x = (jnp.where(jnp.isfinite(z), z, 0.0) - loc) * jnp.exp(-log_scale)
        return _mixture(log_probs, x, log_scale)

    def log_density(self, z: jax.Array) -> jax.Array:
        """Return ``log f(z)`` for finite ``z``; ``-inf`` at infinite ``z``, where only atoms can lie."""
        return jnp.where(jnp.isfinite(z), self._logs(z)[0], -jnp.inf)

    def cdf(self, z: jax.Array) -> UnitPoint:
        """Return ``P(Z <= z)`` with both of its logs, for ``z`` in ``[-inf, inf]``."""
        _, log_lower, log_upper = self._logs(z)

        def with_ends(inside: jax.Array, empty_end: float) -> jax.Array:
            end = jnp.where(z == empty_end, -jnp.inf, jnp.where(jnp.isnan(z), jnp.nan, 0.0))
            return jnp.where(jnp.isfinite(z), inside, end)

        return unit_point_from_logs(with_ends(log_lower, -jnp.inf), with_ends(log_upper, jnp.inf))

    def sample_logit(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw ``z`` of this shape."""
        key_part, key_normal = jax.random.split(key)
        part = sample_component(key_part, shape, self.mixing_probs)
        return self.loc[part] + self.scale[part] * jax.random.normal(key_normal, shape, self.loc.dtype)


class _Terms(NamedTuple):
    """Parts of components, first axis, in units of the largest ``e_j``; ``log_unit`` without that axis."""

    density: jax.Array
    smaller_tail: jax.Array
    log_unit: jax.Array


def _terms(log_probs: jax.Array, x: jax.Array) -> _Terms:
    log_parts = log_probs - 0.5 * x * x
    log_unit = jax.lax.stop_gradient(jnp.max(log_parts, axis=0))
    density = jnp.exp(log_parts - log_unit) * _DENSITY_AT_0
    return _Terms(density, density * mills_ratio(jnp.abs(x)), log_unit)


@jax.custom_jvp
def _mixture(log_probs: jax.Array, x: jax.Array, log_scale: jax.Array) -> tuple[jax.Array, ...]:
    """Return the logs of the density and of both tails, ``(...)``, given ``x``, ``(num_components, ...)``."""
    density, smaller, log_unit = _terms(log_probs, x)
    below = x < 0
    unit, probs = jnp.exp(log_unit), jnp.exp(log_probs)

    def total(terms: jax.Array, where: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(where, terms, 0.0), axis=0)

    def log_tail(far: jax.Array, other_far: jax.Array, weight: jax.Array) -> jax.Array:
        # Of components with their larger part here at least half the weight is: nothing cancels.
        near = weight - unit * other_far
        return jnp.where(weight > 0, jnp.log(near + unit * far), log_unit + jnp.log(far))

    lower, upper = total(smaller, below), total(smaller, ~below)
    return (
        log_unit + jnp.log(jnp.sum(density * jnp.exp(-log_scale), axis=0)),
        log_tail(lower, upper, total(probs, ~below)),
        log_tail(upper, lower, total(probs, below)),
    )


@_mixture.defjvp
def _mixture_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    (log_probs, x, log_scale), (log_probs_dot, x_dot, log_scale_dot) = primals, tangents
    logs = _mixture(log_probs, x, log_scale)
    density, smaller, log_unit = _terms(log_probs, x)
    probs = jnp.exp(log_probs)
    largest = math.log(jnp.finfo(x.dtype).max) - 1.0

    def of_tail(log_tail: jax.Array, in_smaller: jax.Array, sign: float) -> jax.Array:
        # A tail is no smaller than its share of the largest term: this exponential is moderate. So is
        # the other where a component has its larger part in this tail; elsewhere it is not needed.
        scale = jnp.exp(log_unit - log_tail)
        inverse = jnp.exp(jnp.minimum(-log_tail, largest))
        share = scale * smaller
        share = jnp.where(in_smaller, share, probs * inverse - share)
        return jnp.sum(share * log_probs_dot + sign * scale * density * x_dot, axis=0)

    share = density * jnp.exp(-log_scale) * jnp.exp(log_unit - logs[0])
    of_density = jnp.sum(share * (log_probs_dot - x * x_dot - log_scale_dot), axis=0)
    return logs, (of_density, of_tail(logs[1], x < 0, 1.0), of_tail(logs[2], x >= 0, -1.0))
