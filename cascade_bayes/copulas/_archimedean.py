"""A term that the Clayton and the Joe copula share."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def ordered(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``min(x, y)`` and ``|x - y|``; at ``x = y`` gradients are shared equally."""
    return jnp.minimum(x, y), jnp.abs(x - y)


def log_excess(low: jax.Array, gap: jax.Array, theta: jax.Array) -> jax.Array:
    r"""Return :math:`\ell = \log\{1 + e^{-\theta d}(1 - e^{-\theta m})\}` without cancellation.

    With :math:`m = \min(x, y)` and :math:`d = |x - y|` it gives both
    :math:`\log(e^{\theta x} + e^{\theta y} - 1) = \theta(m + d) + \ell` and
    :math:`\log(e^{-\theta x} + e^{-\theta y} - e^{-\theta(x+y)}) = -\theta m + \ell`.
    """
    return jnp.log1p(-jnp.exp(-theta * gap) * jnp.expm1(-theta * low))
