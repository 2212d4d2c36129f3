r"""Mixture of logit-normal distributions: the standardised logit is a mixture of normals.

.. math::

    f(z) = \sum_j \frac{\pi_j}{s_j}\, \varphi\Big(\frac{z - m_j}{s_j}\Big), \qquad
    F(z) = \sum_j \pi_j\, \Phi\Big(\frac{z - m_j}{s_j}\Big).

Its tails in :math:`z` fall like :math:`\exp(-z^2/2s^2)`, where a beta mixture's fall like
:math:`\exp(-\alpha|z|)`. Both logs of :math:`F` come from the log of :math:`\Phi` on their own side.

Source: Aitchison & Shen, Biometrika 67 (1980), 261-272 (the logistic-normal distribution).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.distributions.continuous import (
    components_first,
    log_mixture,
    mixture_cdf,
    sample_component,
    valid_mixture,
)
from cascade_bayes.special import UnitPoint, normal_cdf

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


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

    def _standardise(self, z: jax.Array) -> jax.Array:
        """``(z - loc) / scale`` of each component, ``(num_components, ...)``, for finite ``z``."""
        return (z - components_first(self.loc, z.ndim)) / components_first(self.scale, z.ndim)

    def log_density(self, z: jax.Array) -> jax.Array:
        """Return ``log f(z)`` for finite ``z``; ``-inf`` at infinite ``z``, where only atoms can lie."""
        finite = jnp.isfinite(z)
        x = self._standardise(jnp.where(finite, z, 0.0))
        parts = -0.5 * x * x - jnp.log(components_first(self.scale, z.ndim)) - _HALF_LOG_TWO_PI
        return jnp.where(finite, log_mixture(self.mixing_probs, parts), -jnp.inf)

    def cdf(self, z: jax.Array) -> UnitPoint:
        """Return ``P(Z <= z)`` with both of its logs, for ``z`` in ``[-inf, inf]``."""
        finite = jnp.isfinite(z)
        x = self._standardise(jnp.where(finite, z, 0.0))

        parts = normal_cdf(x)

        def log_tail(inside: jax.Array, empty_end: float) -> jax.Array:
            end = jnp.where(z == empty_end, -jnp.inf, jnp.where(jnp.isnan(z), jnp.nan, 0.0))
            return jnp.where(finite, inside, end)

        return mixture_cdf(
            self.mixing_probs, log_tail(parts.log_u, -jnp.inf), log_tail(parts.log_1mu, jnp.inf)
        )

    def sample_logit(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw ``z`` of this shape."""
        key_part, key_normal = jax.random.split(key)
        part = sample_component(key_part, shape, self.mixing_probs)
        return self.loc[part] + self.scale[part] * jax.random.normal(key_normal, shape, self.loc.dtype)
