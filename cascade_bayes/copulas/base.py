r"""What a bivariate copula family must offer, and tools that serve every family.

A copula ``C`` is a distribution function on the unit square with uniform margins (Sklar 1959;
Nelsen, *An Introduction to Copulas*, 2006). A family is one module that fills one `Copula` record;
adding a family is one new file, one line in the registry and one row in the test table.

Points of the unit interval travel as `UnitPoint`, the pair ``(log u, log(1 - u))``, and so do the
conditional probabilities (h-functions): neither end loses digits.

Families are written for the open square. `exchangeable` adds the border, where

.. math:: C(u, 0) = 0, \quad C(u, 1) = u, \quad h(0 \mid u) = 0, \quad h(1 \mid u) = 1,

the density is not defined (its log is ``-inf``), and gradients are 0. A conditioning point on the border
stands for its limit from inside. "Inside" begins at ``tiny ** 0.9``, 1e-277 in 64-bit and 6e-35 in
32-bit arithmetic, so that derivatives of ``log(-log u)`` do not overflow; closer to an end the
functions are constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.special import UnitPoint, find_root, unit_point_from_logit

Function = Callable[[UnitPoint, UnitPoint, jax.Array], jax.Array]
Conditional = Callable[[UnitPoint, UnitPoint, jax.Array], UnitPoint]
Map = Callable[[jax.Array], jax.Array]


class Copula(NamedTuple):
    """One copula family as a record of pure, elementwise, differentiable functions.

    Attributes
    ----------
    name
        Name in the registry.
    log_density
        ``log c(u, v; theta)``, finite inside the open square.
    cdf
        ``C(u, v; theta)``, with ``C(u, 0) = 0`` and ``C(u, 1) = u`` exactly.
    h_v_given_u
        ``P(V <= v | U = u) = dC/du`` with both of its logs, 0 at ``v = 0`` and 1 at ``v = 1``.
    h_u_given_v
        ``P(U <= u | V = v) = dC/dv`` likewise.
    tau_to_theta, theta_to_tau
        Kendall's tau to the parameter and back.
    tail_dependence
        ``theta -> (lower, upper)``: the limits of ``P(V <= q | U <= q)`` for ``q -> 0`` and of
        ``P(V > q | U > q)`` for ``q -> 1``.
    theta_range, tau_range
        Intervals of the parameter and of Kendall's tau. An end belongs to the family unless tau is -1 or 1
        there.
    has_theta
        Whether the family has a parameter at all.
    """

    name: str
    log_density: Function
    cdf: Function
    h_v_given_u: Conditional
    h_u_given_v: Conditional
    tau_to_theta: Map
    theta_to_tau: Map
    tail_dependence: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    theta_range: tuple[float, float]
    tau_range: tuple[float, float]
    has_theta: bool = True

    def __repr__(self) -> str:
        return f"<copula {self.name}>"


def closest_to_end(dtype: Any) -> float:
    """Distance from 0 and 1 at which "inside" begins."""
    return float(jnp.finfo(dtype).tiny) ** 0.9


def interior(point: UnitPoint) -> tuple[UnitPoint, jax.Array]:
    """Return a stand-in inside the open interval, and where ``point`` itself is inside.

    The stand-in is 1/2 on the border. Both of its logs are strictly negative and agree: where one side
    was rounded to 0, it is recomputed from the other, ``log(1 - u) <= -u``.
    """
    closest = closest_to_end(point.log_u.dtype)
    inside = jnp.isfinite(point.log_u) & jnp.isfinite(point.log_1mu)
    half = -math.log(2.0)
    log_u = jnp.clip(jnp.where(inside, point.log_u, half), math.log(closest), -closest)
    log_1mu = jnp.clip(jnp.where(inside, point.log_1mu, half), math.log(closest), -closest)
    return UnitPoint(jnp.minimum(log_u, -jnp.exp(log_1mu)), jnp.minimum(log_1mu, -jnp.exp(log_u))), inside


def nearest_interior(point: UnitPoint) -> UnitPoint:
    """Return the point itself, or the interior point next to it if it lies on the border."""
    closest = closest_to_end(point.log_u.dtype)
    inner, inside = interior(point)
    low = UnitPoint(jnp.full_like(inner.log_u, math.log(closest)), jnp.full_like(inner.log_u, -closest))
    at_zero = point.log_u < point.log_1mu
    end = UnitPoint(jnp.where(at_zero, low.log_u, low.log_1mu), jnp.where(at_zero, low.log_1mu, low.log_u))
    return UnitPoint(*(jnp.where(inside, a, b) for a, b in zip(inner, end, strict=True)))


def exchangeable(
    name: str,
    *,
    log_density: Function,
    cdf: Function,
    h_v_given_u: Conditional,
    tau_to_theta: Map,
    theta_to_tau: Map,
    tail_dependence: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    theta_range: tuple[float, float],
    tau_range: tuple[float, float],
) -> Copula:
    """Return the record of a family that is symmetric in its arguments.

    Takes functions on the open square, extends them to the border, and gets the second h-function from the
    first by exchange. Arguments as the attributes of `Copula`.
    """

    def closed_log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
        (u, inside_u), (v, inside_v) = interior(u), interior(v)
        return jnp.where(inside_u & inside_v, log_density(u, v, theta), -jnp.inf)

    def closed_cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
        border = jnp.exp(u.log_u + v.log_u)  # one factor is 0 or 1
        (u, inside_u), (v, inside_v) = interior(u), interior(v)
        return jnp.where(inside_u & inside_v, cdf(u, v, theta), border)

    def closed_h(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
        inner, inside = interior(v)
        value = h_v_given_u(nearest_interior(u), inner, theta)
        return UnitPoint(jnp.where(inside, value.log_u, v.log_u), jnp.where(inside, value.log_1mu, v.log_1mu))

    return Copula(
        name=name,
        log_density=closed_log_density,
        cdf=closed_cdf,
        h_v_given_u=closed_h,
        h_u_given_v=lambda u, v, theta: closed_h(v, u, theta),
        tau_to_theta=tau_to_theta,
        theta_to_tau=theta_to_tau,
        tail_dependence=tail_dependence,
        theta_range=theta_range,
        tau_range=tau_range,
    )


def no_tail_dependence(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return two zeros."""
    return jnp.zeros_like(theta), jnp.zeros_like(theta)


def inverse_by_newton(function: Map, start: Map, num_steps: int) -> Map:
    """Invert an increasing function of one real variable, with its derivative.

    Parameters
    ----------
    function
        Differentiable.
    start
        A first guess, close enough for ``num_steps`` Newton steps to reach rounding.
    num_steps
        How many; no test of convergence inside.
    """

    def slope(x: jax.Array) -> jax.Array:
        return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]

    @jax.custom_jvp
    def inverse(y: jax.Array) -> jax.Array:
        x = start(y)
        for _ in range(num_steps):
            x = x - (function(x) - y) / slope(x)
        return x

    @inverse.defjvp
    def _jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
        (y,), (dot,) = primals, tangents
        x = inverse(y)
        return x, dot / slope(x)

    return lambda y: inverse(jnp.asarray(y, dtype=jnp.result_type(float, y)))


def inverse_h_v_given_u(copula: Copula, u: UnitPoint, probability: UnitPoint, theta: jax.Array) -> UnitPoint:
    """Solve ``h_v_given_u(v | u) = probability`` for ``v``, elementwise.

    Both sides' logits are compared, over ``logit(v)`` in [-745, 745], the range that a 64-bit probability can
    hold. Not meant to be differentiated.

    Parameters
    ----------
    copula
        The family.
    u
        Conditioning point.
    probability
        Points of the shape of ``u``.
    theta
        Copula parameter, broadcast against the rest.

    Returns
    -------
    UnitPoint
        The conditional quantile, by which ``(u, v)`` is sampled from ``C``.
    """
    shape = jnp.broadcast_shapes(u.log_u.shape, probability.log_u.shape, jnp.shape(theta))
    logit = jnp.broadcast_to(probability.log_u - probability.log_1mu, shape)

    def beyond(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = unit_point_from_logit(x)
        h = copula.h_v_given_u(u, v, theta)
        log_slope = copula.log_density(u, v, theta) + v.log_u + v.log_1mu - h.log_u - h.log_1mu
        return h.log_u - h.log_1mu - logit, jnp.exp(log_slope)

    # Under independence the conditional probability is the point itself.
    return unit_point_from_logit(find_root(beyond, -745.0, 745.0, jnp.clip(logit, -745.0, 745.0)))
