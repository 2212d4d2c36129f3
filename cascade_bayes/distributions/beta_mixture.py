r"""Mixture of beta distributions, as functions of the logit of its argument.

A score :math:`s = \sigma(z) \in (0, 1)` has density :math:`\sum_k \pi_k\,\mathrm{Beta}(s; \alpha_k,
\beta_k)`. Everything here takes :math:`z`, because confidences crowd against 0 and 1 closer than a
float can say, and :math:`\log s = \log\sigma(z)`, :math:`\log(1-s) = \log\sigma(-z)` lose nothing
there. Densities are with respect to :math:`z`:

.. math::

    f(z) = \sum_k \pi_k \frac{\sigma(z)^{\alpha_k} \sigma(-z)^{\beta_k}}{B(\alpha_k, \beta_k)} .

Shapes: ``z`` is ``(...)``, ``mixing_probs``, ``concentration1`` (:math:`\alpha`) and
``concentration0`` (:math:`\beta`) are ``(..., num_components)`` with leading axes that broadcast
against ``z``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.special import UnitPoint, betaln, logit_betainc, unit_point_from_logs


def log_density(
    z: jax.Array, mixing_probs: jax.Array, concentration1: jax.Array, concentration0: jax.Array
) -> jax.Array:
    """Return ``log f(z)`` for finite ``z``; ``-inf`` at infinite ``z``, where only atoms can lie.

    Examples
    --------
    >>> one = jnp.ones(1)
    >>> float(log_density(jnp.array(0.0), one, one, one).round(4))  # logistic density at 0
    -1.3863
    """
    finite = jnp.isfinite(z)
    z_safe = jnp.where(finite, z, 0.0)
    log_weight = components_first(jnp.log(mixing_probs), z.ndim)
    one = components_first(concentration1, z.ndim)
    zero = components_first(concentration0, z.ndim)
    log_lower = jax.nn.log_sigmoid(z_safe)
    parts = log_weight - betaln(one, zero) + one * log_lower + zero * (log_lower - z_safe)
    return jnp.where(finite, jax.nn.logsumexp(parts, axis=0), -jnp.inf)


def cdf(
    z: jax.Array, mixing_probs: jax.Array, concentration1: jax.Array, concentration0: jax.Array
) -> UnitPoint:
    """Return ``P(Z <= z)`` with both of its logs, for ``z`` in ``[-inf, inf]``."""
    log_lower, log_upper = logit_betainc(
        components_first(concentration1, z.ndim), components_first(concentration0, z.ndim), z[None]
    )
    log_weight = components_first(jnp.log(mixing_probs), z.ndim)
    return unit_point_from_logs(
        _logsumexp_first(log_weight + log_lower), _logsumexp_first(log_weight + log_upper)
    )


def components_first(parameter: jax.Array, ndim: int) -> jax.Array:
    """Turn ``(..., num_components)`` into ``(num_components, ...)``, broadcast to ``ndim`` axes.

    Many queries share few parameters; with the queries' axis last and contiguous a loop over them
    is twice as fast on a CPU as with the components innermost.
    """
    lead = parameter.shape[:-1]
    first = jnp.moveaxis(parameter, -1, 0)
    return first.reshape((parameter.shape[-1],) + (1,) * (ndim - len(lead)) + lead)


def _logsumexp_first(x: jax.Array) -> jax.Array:
    """``logsumexp`` over the first axis with gradients of 0, not NaN, where all are ``-inf``."""
    empty = jnp.all(jnp.isneginf(x), axis=0)
    safe = jnp.where(empty, 0.0, x)
    return jnp.where(empty, -jnp.inf, jax.nn.logsumexp(safe, axis=0))


def sample_logit(
    key: jax.Array,
    shape: tuple[int, ...],
    mixing_probs: jax.Array,
    concentration1: jax.Array,
    concentration0: jax.Array,
) -> jax.Array:
    """Draw ``z`` of the given shape from one mixture; parameters are ``(num_components,)``.

    A beta variate is a ratio of gammas, so its logit is a difference of log-gammas
    (`jax.random.loggamma` stays exact for shapes far below 1).
    """
    key_part, key_one, key_zero = jax.random.split(key, 3)
    part = jax.random.categorical(key_part, jnp.log(mixing_probs), shape=shape)
    return jax.random.loggamma(key_one, concentration1[part]) - jax.random.loggamma(
        key_zero, concentration0[part]
    )
