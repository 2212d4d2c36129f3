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


def _log_positive(mass: jax.Array) -> jax.Array:
    """Log of a difference of numbers up to 1, which rounding may leave at or below 0."""
    return jnp.log(jnp.maximum(mass, jnp.finfo(mass.dtype).tiny))


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
        log_mass = _log_positive(jnp.where(use, mass, 1.0))
        result = jnp.where(use, log_mass - left.log_mass - right.log_mass, result)
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


def log_cell_ratio_given_u(
    copula: Copula, u: UnitPoint, edges: UnitPoint, log_mass: jax.Array, theta: jax.Array
) -> jax.Array:
    """Return the log of the copula density's mean over cells of ``v`` that share their edges, given ``u``.

    It is what `log_copula_ratio` gives a continuous left and an atom right for each cell, at half the price.

    Parameters
    ----------
    u
        Points, ``(...)``.
    edges
        Ends of the cells, ascending, ``(num_cells + 1, ...)``.
    log_mass
        Log of each cell's width, ``(num_cells, ...)``.
    theta
        Copula parameter, ``(...)``.

    Returns
    -------
    jax.Array
        ``(num_cells, ...)``.
    """
    return _log_step(copula.h_v_given_u(u, edges, theta)) - log_mass


def log_cell_ratio_given_v(
    copula: Copula, edges: UnitPoint, v: UnitPoint, log_mass: jax.Array, theta: jax.Array
) -> jax.Array:
    """Return the same for cells of ``u`` given ``v``."""
    return _log_step(copula.h_u_given_v(edges, v, theta)) - log_mass


def _log_step(h: UnitPoint) -> jax.Array:
    """Log of the steps of an ascending function along its first axis."""
    upper, lower = (jax.tree.map(lambda x, part=part: x[part], h) for part in (slice(1, None), slice(-1)))
    return _floor(log_difference(upper, lower))


def log_cell_ratios(
    copula: Copula, u_edges: UnitPoint, v_edges: UnitPoint, log_mass: jax.Array, theta: jax.Array
) -> jax.Array:
    """Return the log of the copula density's mean over each rectangle of two rows of cells.

    Parameters
    ----------
    u_edges
        Ends of the cells, ascending, ``(num_u_cells + 1, 1, ...)``.
    v_edges
        The same, ``(1, num_v_cells + 1, ...)``.
    log_mass
        Log of each rectangle's area, ``(num_u_cells, num_v_cells, ...)``.
    theta
        Copula parameter, ``(...)``.

    Returns
    -------
    jax.Array
        ``(num_u_cells, num_v_cells, ...)``.
    """
    mass = jnp.diff(jnp.diff(copula.cdf(u_edges, v_edges, theta), axis=0), axis=1)
    return _log_positive(mass) - log_mass
