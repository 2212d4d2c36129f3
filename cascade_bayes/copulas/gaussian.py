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

from cascade_bayes.copulas._elliptical import elliptical_cdf, rho_to_tau, scaled_distances, tau_to_rho
from cascade_bayes.copulas.base import Copula, exchanged, on_closed_square
from cascade_bayes.special import UnitPoint, normal_cdf, normal_quantile


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    x, y = normal_quantile(u), normal_quantile(v)
    square, rest, one_plus = scaled_distances(x, y, theta)
    return (
        -0.5 * jnp.log(rest)
        - 0.5 * theta**2 * square / rest
        + jnp.abs(theta) * _signed(x * y, theta) / one_plus
    )


def _signed(product: jax.Array, rho: jax.Array) -> jax.Array:
    return jnp.where(rho < 0, -product, product)


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    x, y = normal_quantile(u), normal_quantile(v)
    return normal_cdf((y - theta * x) / jnp.sqrt((1 - theta) * (1 + theta)))


_cdf = elliptical_cdf(lambda q: jnp.exp(-q), normal_quantile, _h_v_given_u)

_density, _c, _h, _ = on_closed_square(_log_density, _cdf, _h_v_given_u, exchanged(_h_v_given_u))


def _tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(theta), jnp.zeros_like(theta)


GAUSSIAN = Copula(
    name="gaussian",
    log_density=_density,
    cdf=_c,
    h_v_given_u=_h,
    h_u_given_v=exchanged(_h),
    tau_to_theta=tau_to_rho,
    theta_to_tau=rho_to_tau,
    tail_dependence=_tail_dependence,
    theta_range=(-1.0, 1.0),
    tau_range=(-1.0, 1.0),
)
