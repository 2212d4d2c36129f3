r"""Gumbel copula: upper-tail dependence, Kendall's tau in [0, 1).

.. math::

    C(u, v) = \exp(-A), \quad A = (x^\theta + y^\theta)^{1/\theta}, \quad
    x = -\log u,\; y = -\log v, \quad \theta \ge 1, \quad \tau = 1 - 1/\theta .

Source: Nelsen (2006), family 4.2.4; Zellinger & Thomson (arXiv 2501.09345), section 3, use it
between neighbouring models of a cascade. All formulas are evaluated from ``log x`` and ``log y``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import Copula, UnitPoint

# notation: x = -log u, y = -log v, A = (x**theta + y**theta)**(1/theta), l* = log of *.


def _log_minus_log(point: UnitPoint) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``x = -log u`` and ``log x`` at an interior stand-in, and where ``u`` is interior."""
    interior = (point.log_u < 0) & (point.log_u > -jnp.inf)
    x = jnp.where(interior, -point.log_u, 1.0)
    return x, jnp.log(x), interior


def _log_a(lx: jax.Array, ly: jax.Array, theta: jax.Array) -> jax.Array:
    # log A = max + log1p(exp(-theta |lx - ly|)) / theta; smooth, never overflows.
    gap = lx - ly
    return jnp.maximum(lx, ly) + jnp.log1p(jnp.exp(-theta * jnp.abs(gap))) / theta


def log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    r"""Return the log of the density.

    .. math::

        \log c = -A + x + y + (\theta-1)(\log x + \log y) + (1-2\theta)\log A + \log(A+\theta-1) .

    ``-inf`` on the border of the square, where the density is not defined.
    """
    x, lx, interior_u = _log_minus_log(u)
    y, ly, interior_v = _log_minus_log(v)
    la = _log_a(lx, ly, theta)
    a = jnp.exp(la)
    value = x + y - a + (theta - 1) * (lx + ly - la) - theta * la + jnp.log(a + (theta - 1))
    return jnp.where(interior_u & interior_v, value, -jnp.inf)


def cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return ``C(u, v)``; exact on the border: 0 where a point is 0, the other where one is 1."""
    _, lx, interior_u = _log_minus_log(u)
    _, ly, interior_v = _log_minus_log(v)
    inside = jnp.exp(-jnp.exp(_log_a(lx, ly, theta)))
    border = jnp.exp(u.log_u + v.log_u)  # one factor is 0 or 1
    return jnp.where(interior_u & interior_v, inside, border)


def h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    r"""Return :math:`\partial C/\partial u = \exp\{x - A + (\theta-1)(\log x - \log A)\}`.

    At ``u`` = 0 or 1 the limit from inside at distance ``tiny`` is returned; at ``v`` = 0 or 1 the
    value is 0 or 1 exactly.
    """
    tiny = jnp.finfo(u.log_u.dtype).tiny
    log_u = jnp.clip(u.log_u, jnp.log(tiny), -tiny)
    _, ly, interior_v = _log_minus_log(v)
    x = -log_u
    lx = jnp.log(x)
    la = _log_a(lx, ly, theta)
    inside = jnp.exp(x - jnp.exp(la) + (theta - 1) * (lx - la))
    border = jnp.where(v.log_u < 0, 0.0, 1.0)
    return jnp.where(interior_v, inside, border)


def h_u_given_v(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return ``dC/dv``; the family is symmetric in its arguments."""
    return h_v_given_u(v, u, theta)


GUMBEL = Copula(
    name="gumbel",
    log_density=log_density,
    cdf=cdf,
    h_v_given_u=h_v_given_u,
    h_u_given_v=h_u_given_v,
    tau_to_theta=lambda tau: 1.0 / (1.0 - tau),
    theta_to_tau=lambda theta: 1.0 - 1.0 / theta,
)
