r"""Student t copula: any Kendall's tau in (-1, 1), equal dependence in both tails.

With :math:`x = T_\nu^{-1}(u)`, :math:`y = T_\nu^{-1}(v)` and
:math:`Q = (x^2 + y^2 - 2\rho x y)/(1 - \rho^2)`,

.. math::

    h(v \mid u) = T_{\nu+1}\Big((y - \rho x)\Big/\sqrt{\frac{(\nu + x^2)(1 - \rho^2)}{\nu + 1}}\Big), \qquad
    c = \frac{(1 + Q/\nu)^{-(\nu+2)/2}}{2\pi\sqrt{1-\rho^2}\; t_\nu(x)\, t_\nu(y)}, \qquad
    \lambda_L = \lambda_U = 2\,T_{\nu+1}\Big(-\sqrt{\frac{(\nu+1)(1-\rho)}{1+\rho}}\Big) .

The degrees of freedom belong to the family, not to its parameter: a few hundred queries hardly tell 4 from
8, and :math:`\tau = \tfrac2\pi\arcsin\rho` does not depend on them. `student_t` makes the family for
any :math:`\nu \ge 2`.

Source: Demarta & McNeil, International Statistical Review 73 (2005).
"""

from __future__ import annotations

import math
from functools import cache

import jax
import jax.numpy as jnp

from cascade_bayes.copulas._elliptical import elliptical_cdf, quadratic_form, rho_to_tau, tau_to_rho
from cascade_bayes.copulas.base import Copula, exchangeable
from cascade_bayes.special import UnitPoint, student_cdf, student_log_density, student_quantile

MIN_DF = 2.0
"""Least degrees of freedom: below, squares of quantiles next to the ends would overflow."""


@cache
def student_t(df: float) -> Copula:
    """Return the family with ``df`` degrees of freedom, at least 2; the same record for the same value."""
    if not MIN_DF <= df < math.inf:
        raise ValueError(f"df of the Student t copula must be at least {MIN_DF:g} and finite; got {df}.")

    def quantile(point: UnitPoint) -> jax.Array:
        return student_quantile(point, df)

    def log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
        x, y = quantile(u), quantile(v)
        form = quadratic_form(x, y, theta)
        joint = -0.5 * (df + 2) * jnp.log1p(form / df) - 0.5 * jnp.log((1 - theta) * (1 + theta))
        margins = student_log_density(x, df) + student_log_density(y, df)
        return joint - math.log(2 * math.pi) - margins

    def h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
        x, y = quantile(u), quantile(v)
        scale = jnp.sqrt((df + x * x) / (df + 1)) * jnp.sqrt((1 - theta) * (1 + theta))
        return student_cdf((y - theta * x) / scale, df + 1)

    def generator(q: jax.Array) -> jax.Array:
        return jnp.exp(-0.5 * df * jnp.log1p(2 * q / df))

    def tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = -jnp.sqrt((df + 1) * (1 - theta) / (1 + theta))
        both = 2 * student_cdf(at, df + 1).value
        return both, both

    return exchangeable(
        f"student_t_{df:g}" if float(f"{df:g}") == df else f"student_t_{df!r}",
        log_density=log_density,
        cdf=elliptical_cdf(generator, quantile, h_v_given_u),
        h_v_given_u=h_v_given_u,
        tau_to_theta=tau_to_rho,
        theta_to_tau=rho_to_tau,
        tail_dependence=tail_dependence,
        theta_range=(-1.0, 1.0),
        tau_range=(-1.0, 1.0),
    )
