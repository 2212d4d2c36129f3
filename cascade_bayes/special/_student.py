r"""Student's t distribution in both tails, through the incomplete beta function.

For :math:`x < 0`, :math:`T_\nu(x) = \tfrac12 I_{w}(\nu/2, 1/2)` with :math:`w = \nu/(\nu+x^2)`
(DLMF 8.17.2; Abramowitz & Stegun 26.7.1), and :math:`\mathrm{logit}\,w = \log\nu - \log x^2`.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from cascade_bayes.special._betainc import logit_betainc
from cascade_bayes.special._betaincinv import logit_betaincinv
from cascade_bayes.special._elementary import log1mexp
from cascade_bayes.special._unit import UnitPoint

_LOG_2 = math.log(2.0)


def student_log_density(x: jax.Array, df: float) -> jax.Array:
    """Return the log density, any shape of ``x``; ``df`` degrees of freedom."""
    const = math.lgamma(0.5 * (df + 1)) - math.lgamma(0.5 * df) - 0.5 * math.log(df * math.pi)
    return const - 0.5 * (df + 1) * jnp.log1p(x * x / df)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_lower(t: jax.Array, df: float) -> jax.Array:
    """Return ``log P(X < -t)`` for ``t >= 0``."""
    # Not `where(t == 0, ...)`: fused with the subtraction that made t, a test for equality can come out
    # differently in two places. Next to 0 the function is flat.
    logit = math.log(df) - 2 * jnp.log(jnp.maximum(t, math.sqrt(jnp.finfo(t.dtype).tiny)))
    return logit_betainc(0.5 * df, 0.5, logit)[0] - _LOG_2


@_log_lower.defjvp
def _log_lower_jvp(
    df: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (t,), (dot,) = primals, tangents
    value = _log_lower(t, df)
    return value, -jnp.exp(student_log_density(t, df) - value) * dot


def student_cdf(x: jax.Array, df: float) -> UnitPoint:
    """Return ``T(x)`` with both of its logs; finite ``x`` of any shape."""
    small = _log_lower(jnp.abs(x), df)
    large = log1mexp(small)
    positive = x > 0
    return UnitPoint(jnp.where(positive, large, small), jnp.where(positive, small, large))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _magnitude(log_p: jax.Array, df: float) -> jax.Array:
    """Return the ``t >= 0`` with ``P(X < -t) = p``, for ``log_p`` at most log(1/2)."""
    twice = jnp.minimum(log_p + _LOG_2, 0.0)
    logit = logit_betaincinv(0.5 * df, 0.5, twice, log1mexp(twice))
    return jnp.exp(0.5 * (math.log(df) - logit))


@_magnitude.defjvp
def _magnitude_jvp(
    df: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (log_p,), (dot,) = primals, tangents
    t = _magnitude(log_p, df)
    return t, -jnp.exp(log_p - student_log_density(t, df)) * dot


def student_quantile(point: UnitPoint, df: float) -> jax.Array:
    """Return the quantile of interior points, any shape, from whichever tail is smaller."""
    upper = point.log_1mu < point.log_u
    t = _magnitude(jnp.where(upper, point.log_1mu, point.log_u), df)
    return jnp.where(upper, t, -t)
