r"""Likelihood of a pair whose margins mix point masses with a continuous part.

For a pair :math:`(X, Y)` with margins :math:`F, G` and copula :math:`C`, write
:math:`u = F(x), u^- = F(x^-)` and likewise :math:`v`. The joint density with respect to (Lebesgue +
counting measure) on each side, divided by the product of the two margins' densities or masses, is

* both continuous: :math:`c(u, v)`;
* atom on the left: :math:`\{h(u \mid v) - h(u^- \mid v)\} / (u - u^-)`;
* atom on the right: :math:`\{h(v \mid u) - h(v^- \mid u)\} / (v - v^-)`;
* both atoms: :math:`\{C(u,v) - C(u^-,v) - C(u,v^-) + C(u^-,v^-)\} / \{(u-u^-)(v-v^-)\}`,

the average of the copula density over the cell that an atom spans. Adding its logarithm to the two
margins' log densities gives the joint one, and a Markov chain is the sum over neighbours.

Source: Song, Li & Yuan, "Joint regression analysis of correlated data using Gaussian copulas",
Biometrics 65 (2009), section 2 (mixed margins).
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import Copula
from cascade_bayes.distributions.mixed import MarginPoint
from cascade_bayes.special import UnitPoint, log_difference


def _safe(point: UnitPoint, use: jax.Array) -> UnitPoint:
    """Replace unused points by 1/2, so that no gradient comes from outside the domain."""
    half = -math.log(2.0)
    return UnitPoint(jnp.where(use, point.log_u, half), jnp.where(use, point.log_1mu, half))


def _floor(log_mass: jax.Array) -> jax.Array:
    """Keep a log probability finite where rounding left nothing of it."""
    return jnp.maximum(log_mass, math.log(jnp.finfo(log_mass.dtype).tiny))


Kind = Literal["continuous", "mixed", "atoms"]
"""What the values on one side of a pair can be. Static: cases that cannot occur are not computed."""


def log_copula_ratio(
    copula: Copula,
    left: MarginPoint,
    right: MarginPoint,
    theta: jax.Array,
    kinds: tuple[Kind, Kind] = ("mixed", "mixed"),
) -> jax.Array:
    """Return the log of (joint density over product of the margins' densities), elementwise.

    Parameters
    ----------
    copula
        The family.
    left, right
        The two values; their shapes broadcast.
    theta
        Copula parameter, broadcast against them.
    kinds
        Static: whether the left, and the right, values are continuous, atoms, or some of each.

    Returns
    -------
    jax.Array
        Log ratio; 0 for independent values.
    """
    shape = jnp.broadcast_shapes(left.is_atom.shape, right.is_atom.shape)
    left, right = (jax.tree.map(lambda x: jnp.broadcast_to(x, shape), side) for side in (left, right))
    result = jnp.zeros(shape, dtype=left.upper.log_u.dtype)
    if "atoms" not in kinds:
        use = ~left.is_atom & ~right.is_atom
        density = copula.log_density(_safe(left.upper, use), _safe(right.upper, use), theta)
        result = jnp.where(use, density, result)
    if kinds[0] != "continuous" and kinds[1] != "atoms":
        use = left.is_atom & ~right.is_atom
        v = _safe(right.upper, use)
        log_mass = log_difference(
            copula.h_u_given_v(_safe(left.upper, use), v, theta),
            copula.h_u_given_v(_safe(left.lower, use), v, theta),
        )
        result = jnp.where(use, _floor(log_mass) - left.log_mass, result)
    if kinds[0] != "atoms" and kinds[1] != "continuous":
        use = ~left.is_atom & right.is_atom
        u = _safe(left.upper, use)
        log_mass = log_difference(
            copula.h_v_given_u(u, _safe(right.upper, use), theta),
            copula.h_v_given_u(u, _safe(right.lower, use), theta),
        )
        result = jnp.where(use, _floor(log_mass) - right.log_mass, result)
    if "continuous" not in kinds:
        use = left.is_atom & right.is_atom
        mass = rectangle(
            copula,
            _safe(left.lower, use),
            _safe(left.upper, use),
            _safe(right.lower, use),
            _safe(right.upper, use),
            theta,
        )
        # A difference of numbers up to 1: rounding may leave it at or below 0.
        positive = jnp.maximum(jnp.where(use, mass, 1.0), jnp.finfo(mass.dtype).tiny)
        result = jnp.where(use, jnp.log(positive) - left.log_mass - right.log_mass, result)
    return result


def rectangle(
    copula: Copula,
    u_lower: UnitPoint,
    u_upper: UnitPoint,
    v_lower: UnitPoint,
    v_upper: UnitPoint,
    theta: jax.Array,
) -> jax.Array:
    """Return ``P(u_lower < U <= u_upper, v_lower < V <= v_upper)``, elementwise."""
    return (
        copula.cdf(u_upper, v_upper, theta)
        - copula.cdf(u_lower, v_upper, theta)
        - copula.cdf(u_upper, v_lower, theta)
        + copula.cdf(u_lower, v_lower, theta)
    )
