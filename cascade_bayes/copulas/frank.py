r"""Frank copula: no tail dependence, any Kendall's tau in (-1, 1).

.. math::

    C(u, v) = -\frac1\theta \log(1 - P), \quad
    P = \frac{(1 - e^{-\theta u})(1 - e^{-\theta v})}{1 - e^{-\theta}}, \quad \theta \ne 0, \quad
    \tau = 1 - \frac4\theta\{1 - D_1(\theta)\}

with the Debye function :math:`D_1(\theta) = \theta^{-1}\int_0^\theta t/(e^t - 1)\,dt`, odd in theta.

For :math:`\theta > 0`, with :math:`m = \min(u, v)` and :math:`d = |u - v|`,
:math:`(1 - P)(1 - e^{-\theta}) = e^{-\theta m} B` where all terms of
:math:`B = 1 - e^{-\theta(1-m)} + e^{-\theta d}(1 - e^{-\theta m})` are positive, and

.. math::

    h(v \mid u) = e^{-\theta(u - m)} (1 - e^{-\theta v}) / B, \qquad
    \log c = \log\theta + \log(1 - e^{-\theta}) - \theta d - 2 \log B .

For :math:`\theta < 0` the pair :math:`(U, 1 - V)` has parameter :math:`-\theta`, which gives density and h;
:math:`C` is :math:`\log(1 + Q)/|\theta|` with the positive
:math:`Q = (e^{|\theta|u} - 1)(e^{|\theta|v} - 1)/(e^{|\theta|} - 1)`. Independence at 0.

Source: Nelsen (2006), family 4.2.5; Genest, Biometrika 74 (1987), for tau.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import bernoulli

from cascade_bayes.copulas.base import exchangeable, inverse_by_newton, no_tail_dependence
from cascade_bayes.special import UnitPoint, log1mexp

# notation: t = |theta|.

_SMALL = 1e-10
"""Below this size of theta the copula is independence to rounding; theta takes its place."""

_BERNOULLI = [b / math.factorial(2 * k + 2) for k, b in enumerate(bernoulli(32)[2::2])]
"""B_2k / (2k)!, k = 1..16: the series of t / (e^t - 1), which converges as (t / 2 pi)^2k."""


def _magnitude(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    negative = theta < 0
    return jnp.maximum(jnp.where(negative, -theta, theta), _SMALL), negative


def _pieces(u: UnitPoint, v: UnitPoint, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``u - min(u, v)``, ``|u - v|`` and ``log B``."""
    high = u.log_u + v.log_u > u.log_1mu + v.log_1mu  # subtract on the side where both are small
    difference = jnp.where(high, jnp.exp(v.log_1mu) - jnp.exp(u.log_1mu), jnp.exp(u.log_u) - jnp.exp(v.log_u))
    gap = jnp.abs(difference)
    m = jnp.exp(jnp.minimum(u.log_u, v.log_u))
    rest = jnp.exp(jnp.maximum(u.log_1mu, v.log_1mu))
    B = -jnp.expm1(-t * rest) - jnp.exp(-t * gap) * jnp.expm1(-t * m)
    return jnp.maximum(difference, 0.0), gap, jnp.log(B)


def _where(negative: jax.Array, v: UnitPoint) -> UnitPoint:
    """``v``, or ``1 - v`` where theta is negative."""
    return UnitPoint(jnp.where(negative, v.log_1mu, v.log_u), jnp.where(negative, v.log_u, v.log_1mu))


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    t, negative = _magnitude(theta)
    _, gap, log_b = _pieces(u, _where(negative, v), t)
    return jnp.log(t) + log1mexp(-t) - t * gap - 2 * log_b


def _cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    t, negative = _magnitude(theta)
    au, av = t * u.value, t * v.value
    P = jnp.expm1(-au) * jnp.expm1(-av) / -jnp.expm1(-t)
    small = P < 0.5
    of_small = -jnp.log1p(-jnp.where(small, P, 0.0)) / t
    log_b = _pieces(u, v, t)[2]
    of_large = jnp.exp(jnp.minimum(u.log_u, v.log_u)) - (log_b - log1mexp(-t)) / t
    positive_c = jnp.where(small, of_small, of_large)
    log_q = (au + av - t) + log1mexp(-au) + log1mexp(-av) - log1mexp(-t)
    return jnp.where(negative, jax.nn.softplus(log_q) / t, positive_c)


def _log_h(u: UnitPoint, v: UnitPoint, t: jax.Array) -> jax.Array:
    over, _, log_b = _pieces(u, v, t)
    return -t * over + log1mexp(-t * v.value) - log_b


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    t, negative = _magnitude(theta)
    # Of a negative theta the complement, at 1 - v. The complement of h(v|u) is h(1-v | 1-u).
    turned = _where(negative, v)
    log_h, log_rest = _log_h(u, turned, t), _log_h(u.flip(), turned.flip(), t)
    return UnitPoint(jnp.where(negative, log_rest, log_h), jnp.where(negative, log_h, log_rest))


def _theta_to_tau(theta: jax.Array) -> jax.Array:
    theta = jnp.asarray(theta, dtype=jnp.result_type(float, theta))
    t = jnp.abs(theta)
    near = t < 2.0
    t_near = jnp.where(near, t, 1.0)
    # D_1(t) = 1 - t/4 + sum B_2k t^2k / ((2k + 1) (2k)!), so that tau is 4 / t times the sum.
    series = jnp.zeros_like(t)
    for k in reversed(range(1, len(_BERNOULLI) + 1)):
        series = series * t_near**2 + _BERNOULLI[k - 1] / (2 * k + 1)
    of_near = 4 * jnp.where(near, theta, 1.0) * series
    # Integral over (0, t) = pi**2 / 6 - sum_k e^{-kt} (t/k + 1/k**2); e^{-20 * 2} ends it.
    t_far = jnp.where(near, 2.0, t)
    tail = jnp.zeros_like(t)
    for k in range(1, 21):
        tail = tail + jnp.exp(-k * t_far) * (t_far / k + 1.0 / k**2)
    debye = (math.pi**2 / 6 - tail) / t_far
    return jnp.where(near, of_near, jnp.sign(theta) * (1 - 4 * (1 - debye) / t_far))


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of tau and w = theta / (9 + |theta|), nearly a line, for starting values."""
    w = np.linspace(0.01, 0.98, 50)
    t = 9 * w / (1 - w)
    node, weight = np.polynomial.legendre.leggauss(100)
    at = 0.5 * t[:, None] * (node + 1)
    tau = 1 - 4 / t * (1 - 0.5 * (at / np.expm1(at)) @ weight)
    return np.concatenate([-tau[::-1], [0.0], tau]), np.concatenate([-w[::-1], [0.0], w])


_TAU_NODES, _W_NODES = _tables()


def _w_to_theta(w: jax.Array) -> jax.Array:
    return 9 * w / (1 - jnp.abs(w))


def _start(tau: jax.Array) -> jax.Array:
    return jnp.interp(tau, jnp.asarray(_TAU_NODES, tau.dtype), jnp.asarray(_W_NODES, tau.dtype))


_tau_to_w = inverse_by_newton(lambda w: _theta_to_tau(_w_to_theta(w)), _start, 4)

FRANK = exchangeable(
    "frank",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    tau_to_theta=lambda tau: _w_to_theta(_tau_to_w(tau)),
    theta_to_tau=_theta_to_tau,
    tail_dependence=no_tail_dependence,
    theta_range=(-float("inf"), float("inf")),
    tau_range=(-1.0, 1.0),
)
