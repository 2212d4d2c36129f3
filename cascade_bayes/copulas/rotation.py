r"""Rotations of a family by 90, 180 and 270 degrees.

.. math::

    C_{90}(u, v) = v - C(1 - u, v), \qquad
    C_{180}(u, v) = u + v - 1 + C(1 - u, 1 - v), \qquad
    C_{270}(u, v) = u - C(u, 1 - v) .

The rotation by 180 degrees is the survival copula: it exchanges lower and upper tails. Those by 90 and
270 change the sign of Kendall's tau, and are how a family of positive dependence says that one model is
sure where its neighbour is not. Flipping a `UnitPoint` is exact, so densities and h-functions lose
nothing; C has the absolute precision of a sum of numbers up to 1.

Source: Joe (2014), section 2.1; the numbering is that of VineCopula and pyvinecopulib.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import Copula
from cascade_bayes.special import UnitPoint

ANGLES = (90, 180, 270)


@cache
def rotate(family: Copula, degrees: int) -> Copula:
    """Return ``family`` rotated; the same record for the same arguments.

    Parameters
    ----------
    family
        A family that is not rotated yet.
    degrees
        90, 180 or 270.
    """
    if degrees not in ANGLES:
        raise ValueError(f"degrees must be one of {ANGLES}; got {degrees}.")
    flip_u, flip_v = degrees in (90, 180), degrees in (180, 270)
    negative = degrees != 180

    def turn(point: UnitPoint, flip: bool) -> UnitPoint:
        return point.flip() if flip else point

    def log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
        return family.log_density(turn(u, flip_u), turn(v, flip_v), theta)

    def cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
        inner = family.cdf(turn(u, flip_u), turn(v, flip_v), theta)
        a, b = u.value, v.value
        plain = {90: b - inner, 180: a - jnp.exp(v.log_1mu) + inner, 270: a - inner}[degrees]
        # The Frechet-Hoeffding bounds make the border exact.
        at_least = jnp.maximum(
            jnp.where(u.log_u > u.log_1mu, b - jnp.exp(u.log_1mu), a - jnp.exp(v.log_1mu)), 0.0
        )
        return jnp.clip(plain, at_least, jnp.minimum(a, b))

    def h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
        return turn(family.h_v_given_u(turn(u, flip_u), turn(v, flip_v), theta), flip_v)

    def h_u_given_v(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
        return turn(family.h_u_given_v(turn(u, flip_u), turn(v, flip_v), theta), flip_u)

    def tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        lower, upper = family.tail_dependence(theta)
        return (jnp.zeros_like(lower), jnp.zeros_like(upper)) if negative else (upper, lower)

    low, high = family.tau_range
    return family._replace(
        name=f"{family.name}_{degrees}",
        log_density=log_density,
        cdf=cdf,
        h_v_given_u=h_v_given_u,
        h_u_given_v=h_u_given_v,
        tau_to_theta=(lambda tau: family.tau_to_theta(-tau)) if negative else family.tau_to_theta,
        theta_to_tau=(lambda theta: -family.theta_to_tau(theta)) if negative else family.theta_to_tau,
        tail_dependence=tail_dependence,
        tau_range=(-high, -low) if negative else (low, high),
    )
