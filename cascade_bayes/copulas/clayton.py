r"""Clayton copula: lower-tail dependence, Kendall's tau in [0, 1).

.. math::

    C(u, v) = (u^{-\theta} + v^{-\theta} - 1)^{-1/\theta}, \quad \theta \ge 0, \quad
    \tau = \frac{\theta}{\theta + 2}, \quad \lambda_L = 2^{-1/\theta} .

With :math:`x = -\log u`, :math:`y = -\log v`, :math:`m = \min(x, y)`, :math:`d = |x - y|` and
:math:`\ell` of `cascade_bayes.copulas._archimedean.log_excess`,

.. math::

    \log C = -(m + d) - \ell / \theta, \qquad
    \log h(v \mid u) = (1 + \theta)(\log C + x), \qquad
    \log c = \log(1 + \theta) + m - \theta d - (2 + 1/\theta)\,\ell ,

in which no large terms cancel.

Source: Nelsen (2006), family 4.2.1; Clayton, Biometrika 65 (1978).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas._archimedean import log_excess, ordered
from cascade_bayes.copulas.base import exchangeable
from cascade_bayes.special import UnitPoint, log1mexp

_SMALL = 1e-10
"""Below this theta the copula is independence to rounding, also at 0, where the formulas divide by it."""


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    theta = jnp.maximum(theta, _SMALL)
    low, gap = ordered(-u.log_u, -v.log_u)
    return jnp.log1p(theta) + low - theta * gap - (2 + 1 / theta) * log_excess(low, gap, theta)


def _cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    theta = jnp.maximum(theta, _SMALL)
    low, gap = ordered(-u.log_u, -v.log_u)
    return jnp.exp(-(low + gap) - log_excess(low, gap, theta) / theta)


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    theta = jnp.maximum(theta, _SMALL)
    x, y = -u.log_u, -v.log_u
    low, gap = ordered(x, y)
    # log C + x = -max(x, y) + x - ell / theta, each of its two terms at most 0 when x < y; when x > y
    # what is left is log{1 + e^{-theta x}(e^{theta y} - 1)}.
    shorter = -gap - log_excess(low, gap, theta) / theta
    longer = -log_excess(low, gap, theta) / theta
    log_h = (1 + theta) * jnp.where(x < y, shorter, longer)
    return UnitPoint(log_h, log1mexp(log_h))


def _tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.exp2(-1 / jnp.maximum(theta, _SMALL)), jnp.zeros_like(theta)


CLAYTON = exchangeable(
    "clayton",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    tau_to_theta=lambda tau: 2 * tau / (1 - tau),
    theta_to_tau=lambda theta: theta / (theta + 2),
    tail_dependence=_tail_dependence,
    theta_range=(0.0, float("inf")),
    tau_range=(0.0, 1.0),
)
