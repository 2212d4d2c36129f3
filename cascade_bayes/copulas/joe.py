r"""Joe copula: strong upper-tail dependence, Kendall's tau in [0, 1).

.. math::

    C(u, v) = 1 - S^{1/\theta}, \quad
    S = \bar u^\theta + \bar v^\theta - \bar u^\theta \bar v^\theta, \quad
    \bar u = 1 - u,\; \bar v = 1 - v, \quad \theta \ge 1, \quad \lambda_U = 2 - 2^{1/\theta} .

With :math:`p = -\log\bar u`, :math:`q = -\log\bar v`, :math:`m = \min(p, q)`, :math:`d = |p - q|` and
:math:`\ell` of `cascade_bayes.copulas._archimedean.log_excess`, :math:`\log S = -\theta m + \ell` and

.. math::

    \log h(v \mid u) = -(\theta - 1)(p - m) - (1 - 1/\theta)\,\ell + \log(1 - e^{-\theta q}), \qquad
    \log c = m - (\theta - 1) d - (2 - 1/\theta)\,\ell + \log(\theta - 1 + S) .

Next to the origin :math:`C` is small, and comes from :math:`1 - S = (1-e^{-\theta p})(1-e^{-\theta q})`.

Kendall's tau is :math:`\tau = 1 - s\,\psi[1 + s, 2]` with :math:`s = 2/\theta` and the divided difference
:math:`\psi[a, b] = (\psi(a) - \psi(b)) / (a - b) = \int_0^1 \psi'(b + r(a - b))\,dr` of the digamma
function, by Gauss-Legendre quadrature.

Source: Nelsen (2006), family 4.2.6; Joe, *Dependence Modeling with Copulas* (2014), section 4.7, whose
formula for tau this is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas._archimedean import log_excess, ordered
from cascade_bayes.copulas.base import exchangeable, inverse_by_newton
from cascade_bayes.special import UnitPoint, log1mexp

# psi' is analytic between 1 and 3; its pole at 0 lies twice the half width from the middle, so that 24
# nodes leave (2 + sqrt 3)**-48 = 4e-28.
_NODES, _WEIGHTS = (0.5 * x for x in np.polynomial.legendre.leggauss(24))
_NODES = _NODES + 0.5


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    low, gap = ordered(-u.log_1mu, -v.log_1mu)
    excess = log_excess(low, gap, theta)
    S = jnp.exp(-theta * low + excess)
    return low - (theta - 1) * gap - (2 - 1 / theta) * excess + jnp.log((theta - 1) + S)


def _cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    p, q = -u.log_1mu, -v.log_1mu
    low, gap = ordered(p, q)
    product = jnp.expm1(-theta * p) * jnp.expm1(-theta * q)
    small = product < 0.5
    log_s = jnp.where(
        small,
        jnp.log1p(-jnp.where(small, product, 0.0)),
        -theta * low + log_excess(low, gap, theta),
    )
    return -jnp.expm1(log_s / theta)


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    p, q = -u.log_1mu, -v.log_1mu
    low, gap = ordered(p, q)
    excess = log_excess(low, gap, theta)
    log_h = -(theta - 1) * jnp.where(p > q, gap, 0.0) - (1 - 1 / theta) * excess + log1mexp(-theta * q)
    return UnitPoint(log_h, log1mexp(log_h))


def _theta_to_tau(theta: jax.Array) -> jax.Array:
    s = 2.0 / jnp.asarray(theta, dtype=jnp.result_type(float, theta))
    at = 2.0 + _NODES * (s[..., None] - 1.0)
    return 1.0 - s * (jax.scipy.special.polygamma(1, at) @ jnp.asarray(_WEIGHTS, dtype=s.dtype))


def _tau_of(s: np.ndarray) -> np.ndarray:
    """Tau for starting values, with psi'(x) = sum (x + k)**-2 cut at 50 terms."""
    at = 2.0 + _NODES * (s[:, None] - 1.0)
    k = np.arange(50)
    trigamma = np.sum((at[..., None] + k) ** -2.0, axis=-1) + 1 / (at + 49.5)
    return 1.0 - s * (trigamma @ _WEIGHTS)


_S_NODES = np.linspace(2.0, 1e-3, 65)
_TAU_NODES = _tau_of(_S_NODES)


def _start(tau: jax.Array) -> jax.Array:
    return -jnp.interp(tau, jnp.asarray(_TAU_NODES, tau.dtype), jnp.asarray(_S_NODES, tau.dtype))


# Solved for s = 2 / theta, in which tau is close to linear; -s so that it increases.
_tau_to_minus_s = inverse_by_newton(lambda minus_s: _theta_to_tau(-2.0 / minus_s), _start, 4)


def _tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(theta), 2 - jnp.exp2(1 / theta)


JOE = exchangeable(
    "joe",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    tau_to_theta=lambda tau: -2.0 / _tau_to_minus_s(tau),
    theta_to_tau=_theta_to_tau,
    tail_dependence=_tail_dependence,
    theta_range=(1.0, float("inf")),
    tau_range=(0.0, 1.0),
)
