r"""The contract of a margin's continuous part, and what all mixtures share.

A part is a pytree of its parameters with a few methods, so that code that holds one need not know its
family: a mixture :math:`\sum_j \pi_j F_j(z)` over components :math:`F_j` of the standardised logit
:math:`z`. Parameters are ``(..., num_components)``, with leading axes that broadcast against ``z``.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp

from cascade_bayes.special import UnitPoint, unit_point_from_logs


class ContinuousPart(Protocol):
    """A continuous distribution of ``z``; in each family a NamedTuple of arrays, hence a pytree.

    Everything is differentiable in ``z`` and in the parameters, with gradients of 0 at infinite ``z``.
    """

    def in_domain(self) -> jax.Array:
        """Whether the parameters, without leading axes, are valid; a scalar."""
        ...

    def log_density(self, z: jax.Array) -> jax.Array:
        """Log density with respect to ``z``, any shape; ``-inf`` at infinite ``z``."""
        ...

    def cdf(self, z: jax.Array) -> UnitPoint:
        """``P(Z <= z)`` for ``z`` in ``[-inf, inf]``, both tails to relative precision."""
        ...

    def sample_logit(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw ``z`` of this shape; parameters without leading axes."""
        ...


def components_first(parameter: jax.Array, ndim: int) -> jax.Array:
    """Turn ``(..., num_components)`` into ``(num_components, ...)``, broadcast to ``ndim`` axes.

    Many queries share few parameters; with the queries' axis last and contiguous a loop over them
    is twice as fast on a CPU as with the components innermost.
    """
    lead = parameter.shape[:-1]
    first = jnp.moveaxis(parameter, -1, 0)
    return first.reshape((parameter.shape[-1],) + (1,) * (ndim - len(lead)) + lead)


def log_mixture(mixing_probs: jax.Array, log_parts: jax.Array) -> jax.Array:
    r"""Return :math:`\log\sum_j \pi_j \exp(l_j)`, shape ``(...)``.

    Parameters
    ----------
    mixing_probs
        ``(..., num_components)``.
    log_parts
        Logs of densities or of probabilities, components first, ``(num_components, ...)``. Where all
        of them are ``-inf`` so is the result, with gradients of 0 and not NaN.
    """
    log_terms = components_first(jnp.log(mixing_probs), log_parts.ndim - 1) + log_parts
    empty = jnp.all(jnp.isneginf(log_terms), axis=0)
    total = jax.nn.logsumexp(jnp.where(empty, 0.0, log_terms), axis=0)
    return jnp.where(empty, -jnp.inf, total)


def mixture_cdf(mixing_probs: jax.Array, log_lower: jax.Array, log_upper: jax.Array) -> UnitPoint:
    """Return the mixture's cdf from both log tails of its components, each ``(num_components, ...)``."""
    return unit_point_from_logs(log_mixture(mixing_probs, log_lower), log_mixture(mixing_probs, log_upper))


def sample_component(key: jax.Array, shape: tuple[int, ...], mixing_probs: jax.Array) -> jax.Array:
    """Draw component numbers of this shape; ``mixing_probs`` is ``(num_components,)``."""
    return jax.random.categorical(key, jnp.log(mixing_probs), shape=shape)


def valid_mixture(mixing_probs: jax.Array, *positive: jax.Array) -> jax.Array:
    """Whether probabilities add to 1 (within 1e-6) and the rest is positive, a scalar."""
    ok = jnp.all(mixing_probs >= 0) & (jnp.abs(jnp.sum(mixing_probs) - 1) < 1e-6)
    for parameter in positive:
        ok &= jnp.all(parameter > 0)
    return ok
