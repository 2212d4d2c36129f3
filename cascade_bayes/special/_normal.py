r"""Standard normal distribution in both tails: its log CDF and its quantile from logs.

In the far tail :math:`\Phi(x) = \varphi(x) R(-x)` with the Mills ratio's asymptotic series

.. math:: R(t) \sim \frac1t \sum_k (-1)^k \frac{(2k-1)!!}{t^{2k}}

(DLMF 7.12.1); where :math:`p` is too small for a float, the same series gives the quantile of
:math:`\log p` by iteration.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from cascade_bayes.special._unit import UnitPoint

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)

# From |x| = 13 on, ten terms of the series leave less than 19!! / 13**20 = 4e-14 of its first.
_FAR = -13.0
_NUM_TERMS = 10

# Where p underflows, x**2 exceeds 1390 (32-bit: 160); a start of -2 log p is 1 % (6 %) off.
_NUM_PASSES = 6


@jax.custom_jvp
def _log_lower_tail(x: jax.Array) -> jax.Array:
    """``log Phi(x)`` for ``x <= 0``."""
    far = x < _FAR
    near_tail = jax.scipy.special.log_ndtr(jnp.where(far, 0.0, x))
    x_far = jnp.where(far & jnp.isfinite(x), x, _FAR)
    inverse2 = 1.0 / (x_far * x_far)
    series = jnp.ones_like(x_far)
    for k in reversed(range(1, _NUM_TERMS + 1)):
        series = 1.0 - (2 * k - 1) * inverse2 * series
    far_tail = -0.5 * x_far * x_far - _HALF_LOG_TWO_PI - jnp.log(-x_far) + jnp.log(series)
    return jnp.where(far, jnp.where(jnp.isinf(x), -jnp.inf, far_tail), near_tail)


@_log_lower_tail.defjvp
def _log_lower_tail_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    tail = _log_lower_tail(x)
    finite = jnp.isfinite(x)
    x_safe = jnp.where(finite, x, 0.0)
    slope = jnp.exp(-0.5 * x_safe * x_safe - _HALF_LOG_TWO_PI - jnp.where(finite, tail, 0.0))
    return tail, jnp.where(finite, slope, 0.0) * x_dot


def normal_cdf(x: jax.Array) -> UnitPoint:
    r"""Return :math:`\Phi(x)` with both of its logs, any shape, to a relative 1e-14 in 64-bit arithmetic.

    0 at ``-inf``, 1 at ``inf``, where the gradients are 0.
    """
    upper = x > 0
    tail = _log_lower_tail(jnp.where(upper, -x, x))
    other = jnp.log1p(-jnp.exp(tail))
    return UnitPoint(jnp.where(upper, other, tail), jnp.where(upper, tail, other))


@jax.custom_jvp
def _quantile_of_small(log_p: jax.Array) -> jax.Array:
    """Quantile of ``p <= 1/2``, finite negative ``log_p``."""
    tiny = jnp.finfo(log_p.dtype).tiny
    far = log_p < math.log(tiny) + 5.0  # here p itself is not a normal number
    near_value = jax.scipy.special.ndtri(jnp.exp(jnp.where(far, -1.0, log_p)))
    # x**2 = -2 log p - log(2 pi x**2) + 2 log(1 - 1/x**2 + 3/x**4 - ...): each pass gains 1/x**2.
    twice = -2.0 * jnp.where(far, log_p, math.log(tiny))
    square = twice
    for _ in range(_NUM_PASSES):
        inverse2 = 1.0 / square
        series = 1.0 - inverse2 * (1.0 - 3.0 * inverse2 * (1.0 - 5.0 * inverse2 * (1.0 - 7.0 * inverse2)))
        square = twice - jnp.log(2.0 * math.pi * square) + 2.0 * jnp.log(series)
    return jnp.where(far, -jnp.sqrt(square), near_value)


@_quantile_of_small.defjvp
def _quantile_of_small_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    (log_p,), (dot,) = primals, tangents
    x = _quantile_of_small(log_p)
    return x, jnp.exp(log_p + 0.5 * x * x + _HALF_LOG_TWO_PI) * dot


def normal_quantile(point: UnitPoint) -> jax.Array:
    r"""Return :math:`\Phi^{-1}(u)` of interior points, from whichever tail is smaller; any shape."""
    upper = point.log_1mu < point.log_u
    x = _quantile_of_small(jnp.where(upper, point.log_1mu, point.log_u))
    return jnp.where(upper, -x, x)
