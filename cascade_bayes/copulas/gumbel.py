r"""Gumbel copula: upper-tail dependence, Kendall's tau in [0, 1).

.. math::

    C(u, v) = \exp(-A), \quad A = (x^\theta + y^\theta)^{1/\theta}, \quad
    x = -\log u,\; y = -\log v, \quad \theta \ge 1, \quad \tau = 1 - 1/\theta,
    \quad \lambda_U = 2 - 2^{1/\theta} .

With :math:`r = \log A - \log x \ge 0`,

.. math::

    \log h(v \mid u) = -x\,(e^r - 1) - (\theta - 1)\,r, \qquad
    \log c = x + y - A + (\theta-1)(\log x + \log y) + (1-2\theta)\log A + \log(A+\theta-1) .

Source: Nelsen (2006), family 4.2.4; Zellinger & Thomson (arXiv 2501.09345), section 3, use it
between neighbouring models of a cascade.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import exchangeable
from cascade_bayes.special import UnitPoint, log1mexp

# notation: x = -log u, y = -log v, A = (x**theta + y**theta)**(1/theta), l* = log of *.


def _log_a(lx: jax.Array, ly: jax.Array, theta: jax.Array) -> jax.Array:
    # log A = max + log1p(exp(-theta |lx - ly|)) / theta; smooth, never overflows.
    gap = lx - ly
    return jnp.maximum(lx, ly) + jnp.log1p(jnp.exp(-theta * jnp.abs(gap))) / theta


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    x, y = -u.log_u, -v.log_u
    lx, ly = jnp.log(x), jnp.log(y)
    la = _log_a(lx, ly, theta)
    a = jnp.exp(la)
    return x + y - a + (theta - 1) * (lx + ly - la) - theta * la + jnp.log(a + (theta - 1))


def _cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    return jnp.exp(-jnp.exp(_log_a(jnp.log(-u.log_u), jnp.log(-v.log_u), theta)))


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    x = -u.log_u
    gap = jnp.log(-v.log_u) - jnp.log(x)
    r = jnp.maximum(gap, 0.0) + jnp.log1p(jnp.exp(-theta * jnp.abs(gap))) / theta
    log_h = -x * jnp.expm1(r) - (theta - 1) * r
    return UnitPoint(log_h, log1mexp(log_h))


def _tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(theta), 2 - jnp.exp2(1 / theta)


GUMBEL = exchangeable(
    "gumbel",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    tau_to_theta=lambda tau: 1.0 / (1.0 - tau),
    theta_to_tau=lambda theta: 1.0 - 1.0 / theta,
    tail_dependence=_tail_dependence,
    theta_range=(1.0, float("inf")),
    tau_range=(0.0, 1.0),
)
