"""Points of the unit interval that lose digits at neither end."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.special._elementary import log1mexp


class UnitPoint(NamedTuple):
    """A point ``u`` of ``[0, 1]``, held as ``(log u, log(1 - u))``; fields of any one shape.

    A point within 1e-300 of 1 is as exact as one within 1e-300 of 0.
    """

    log_u: jax.Array
    log_1mu: jax.Array

    @property
    def value(self) -> jax.Array:
        """The point itself, ``u``."""
        return jnp.exp(self.log_u)

    def flip(self) -> UnitPoint:
        """Return the point ``1 - u``."""
        return UnitPoint(self.log_1mu, self.log_u)


def unit_point(u: jax.Array) -> UnitPoint:
    """Return ``u`` in ``[0, 1]``, any shape, as a `UnitPoint`.

    Examples
    --------
    >>> float(unit_point(0.25).value)
    0.25
    """
    u = jnp.asarray(u, dtype=jnp.result_type(float, u))
    return UnitPoint(jnp.log(u), jnp.log1p(-u))


def unit_point_from_logit(logit: jax.Array) -> UnitPoint:
    """Return the point with this logit, any shape."""
    return UnitPoint(jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))


def unit_point_from_logs(log_u: jax.Array, log_1mu: jax.Array) -> UnitPoint:
    """Return the `UnitPoint` whose smaller side is trusted and whose larger is recomputed from it.

    Sums of tail probabilities (mixtures, atoms plus a continuous part) are exact to relative
    precision on each side separately, but the larger side then forgets the smaller one:
    ``log u`` near 0 carries ``1 - u`` only to absolute precision. ``log1mexp`` restores it.
    """
    upper_is_small = log_1mu < log_u
    safe_small = jnp.where(upper_is_small, log_1mu, log_u)
    # At u = 1/2 exactly both sides agree; -inf maps to 0 with a zero gradient.
    safe_small = jnp.minimum(safe_small, -1e-3)
    other = log1mexp(safe_small)
    return UnitPoint(jnp.where(upper_is_small, other, log_u), jnp.where(upper_is_small, log_1mu, other))


def log_difference(upper: UnitPoint, lower: UnitPoint) -> jax.Array:
    """Return ``log(upper - lower)`` for ``lower <= upper``, from the tail in which both are small.

    ``-inf``, with a gradient of 0, where they are equal.

    Examples
    --------
    >>> near = UnitPoint(jnp.log1p(-1e-20), jnp.log(1e-20))
    >>> nearer = UnitPoint(jnp.log1p(-2e-21), jnp.log(2e-21))
    >>> f"{jnp.exp(log_difference(nearer, near)):.6g}"
    '8e-21'
    """
    high = lower.log_u > lower.log_1mu
    large = jnp.where(high, lower.log_1mu, upper.log_u)
    small = jnp.where(high, upper.log_1mu, lower.log_u)
    apart = small < large
    large_safe = jnp.where(apart, large, 0.0)
    gap = jnp.where(apart, small, -1.0) - large_safe
    return jnp.where(apart, large_safe + log1mexp(gap), -jnp.inf)
