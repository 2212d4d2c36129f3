r"""Gaussian copula: any Kendall's tau in (-1, 1), no tail dependence.

With :math:`x = \Phi^{-1}(u)`, :math:`y = \Phi^{-1}(v)`,

.. math::

    h(v \mid u) = \Phi\Big(\frac{y - \rho x}{\sqrt{1-\rho^2}}\Big), \qquad
    \log c = -\tfrac12\log(1-\rho^2) - \frac{\rho^2 (x \mp y)^2}{2(1-\rho^2)} \pm \frac{\rho x y}{1 \pm \rho},

the upper signs for :math:`\rho \ge 0`. The CDF is described in `cascade_bayes.copulas._elliptical`.

Source: Joe (2014), section 4.3.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas._elliptical import elliptical_cdf, rho_to_tau, split_form, tau_to_rho
from cascade_bayes.copulas.base import exchangeable, no_tail_dependence
from cascade_bayes.special import UnitPoint, normal_cdf, normal_quantile


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    x, y = normal_quantile(u), normal_quantile(v)
    apart, product = split_form(x, y, theta)
    return -0.5 * jnp.log((1 - theta) * (1 + theta)) - 0.5 * theta**2 * apart + jnp.abs(theta) * product


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    x, y = normal_quantile(u), normal_quantile(v)
    return normal_cdf((y - theta * x) / jnp.sqrt((1 - theta) * (1 + theta)))


_cdf = elliptical_cdf(lambda q: jnp.exp(-q), normal_quantile, _h_v_given_u)

GAUSSIAN = exchangeable(
    "gaussian",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    tau_to_theta=tau_to_rho,
    theta_to_tau=rho_to_tau,
    tail_dependence=no_tail_dependence,
    theta_range=(-1.0, 1.0),
    tau_range=(-1.0, 1.0),
)
