r"""Mixture of beta distributions, as a distribution of the logit of its argument.

A score :math:`s = \sigma(z) \in (0, 1)` has density :math:`\sum_j \pi_j\,\mathrm{Beta}(s; \alpha_j,
\beta_j)`. Everything here takes :math:`z`, because confidences crowd against 0 and 1 closer than a
float can say, and :math:`\log s = \log\sigma(z)`, :math:`\log(1-s) = \log\sigma(-z)` lose nothing
there. Densities are with respect to :math:`z`:

.. math::

    f(z) = \sum_j \pi_j \frac{\sigma(z)^{\alpha_j} \sigma(-z)^{\beta_j}}{B(\alpha_j, \beta_j)} .
"""

from __future__ import annotations

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
from cascade_bayes.special import UnitPoint, betaln, logit_betainc


class BetaMixture(NamedTuple):
    r"""A `ContinuousPart`: the score is a mixture of betas.

    Attributes
    ----------
    mixing_probs
        Weights :math:`\pi_j`, ``(..., num_components)``.
    concentration1, concentration0
        Shapes :math:`\alpha_j` and :math:`\beta_j`, ``(..., num_components)``.

    Examples
    --------
    >>> one = jnp.ones(1)
    >>> float(BetaMixture(one, one, one).log_density(jnp.array(0.0)).round(4))  # logistic density at 0
    -1.3863
    """

    mixing_probs: jax.Array
    concentration1: jax.Array
    concentration0: jax.Array

    def in_domain(self) -> jax.Array:
        """Whether weights add to 1 and shapes are positive."""
        return valid_mixture(self.mixing_probs, self.concentration1, self.concentration0)

    def log_density(self, z: jax.Array) -> jax.Array:
        """Return ``log f(z)`` for finite ``z``; ``-inf`` at infinite ``z``, where only atoms can lie."""
        finite = jnp.isfinite(z)
        z_safe = jnp.where(finite, z, 0.0)
        one = components_first(self.concentration1, z.ndim)
        zero = components_first(self.concentration0, z.ndim)
        log_lower = jax.nn.log_sigmoid(z_safe)
        parts = one * log_lower + zero * (log_lower - z_safe) - betaln(one, zero)
        return jnp.where(finite, log_mixture(self.mixing_probs, parts), -jnp.inf)

    def cdf(self, z: jax.Array) -> UnitPoint:
        """Return ``P(Z <= z)`` with both of its logs, for ``z`` in ``[-inf, inf]``."""
        one = components_first(self.concentration1, z.ndim)
        zero = components_first(self.concentration0, z.ndim)
        return mixture_cdf(self.mixing_probs, *logit_betainc(one, zero, z[None]))

    def sample_logit(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw ``z`` of this shape.

        A beta variate is a ratio of gammas, so its logit is a difference of log-gammas
        (`jax.random.loggamma` stays exact for shapes far below 1).
        """
        key_part, key_one, key_zero = jax.random.split(key, 3)
        part = sample_component(key_part, shape, self.mixing_probs)
        one = jax.random.loggamma(key_one, self.concentration1[part])
        return one - jax.random.loggamma(key_zero, self.concentration0[part])
