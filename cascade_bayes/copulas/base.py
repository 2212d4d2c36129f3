"""What a bivariate copula family must offer, and tools that serve every family.

A copula ``C`` is a distribution function on the unit square with uniform margins (Sklar 1959;
Nelsen, *An Introduction to Copulas*, 2006). A family is one module that fills one `Copula` record;
adding a family is one new file, one line in the registry and one row in the test table.

Points of the unit interval travel as `UnitPoint`, the pair ``(log u, log(1 - u))``, so that neither
end loses digits: a point within 1e-300 of 1 is as exact as one within 1e-300 of 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.special import log1mexp


class UnitPoint(NamedTuple):
    """A point ``u`` of ``[0, 1]``, held as ``(log u, log(1 - u))``; fields of any one shape."""

    log_u: jax.Array
    log_1mu: jax.Array

    @property
    def value(self) -> jax.Array:
        """The point itself, ``u``."""
        return jnp.exp(self.log_u)

    def flip(self) -> UnitPoint:
        """Return the point ``1 - u``."""
        return UnitPoint(self.log_1mu, self.log_u)


def unit_point(u: jax.Array) -> UnitPoint:
    """Return ``u`` in ``[0, 1]``, any shape, as a `UnitPoint`.

    Examples
    --------
    >>> float(unit_point(0.25).value)
    0.25
    """
    u = jnp.asarray(u, dtype=jnp.result_type(float, u))
    return UnitPoint(jnp.log(u), jnp.log1p(-u))


def unit_point_from_logs(log_u: jax.Array, log_1mu: jax.Array) -> UnitPoint:
    """Return the `UnitPoint` whose smaller side is trusted and whose larger is recomputed from it.

    Sums of tail probabilities (mixtures, atoms plus a continuous part) are exact to relative
    precision on each side separately, but the larger side then forgets the smaller one:
    ``log u`` near 0 carries ``1 - u`` only to absolute precision. ``log1mexp`` restores it.
    """
    upper_is_small = log_1mu < log_u
    safe_small = jnp.where(upper_is_small, log_1mu, log_u)
    # At u = 1/2 exactly both sides agree; -inf maps to 0 with a zero gradient.
    safe_small = jnp.minimum(safe_small, -1e-3)
    other = log1mexp(safe_small)
    return UnitPoint(jnp.where(upper_is_small, other, log_u), jnp.where(upper_is_small, log_1mu, other))


BinaryFunction = Callable[[UnitPoint, UnitPoint, jax.Array], jax.Array]


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
        ``P(V <= v | U = u) = dC/du``, 0 at ``v = 0`` and 1 at ``v = 1``.
    h_u_given_v
        ``P(U <= u | V = v) = dC/dv``.
    tau_to_theta, theta_to_tau
        Kendall's tau to the parameter and back.
    has_theta
        Whether the family has a parameter at all.
    """

    name: str
    log_density: BinaryFunction
    cdf: BinaryFunction
    h_v_given_u: BinaryFunction
    h_u_given_v: BinaryFunction
    tau_to_theta: Callable[[jax.Array], jax.Array]
    theta_to_tau: Callable[[jax.Array], jax.Array]
    has_theta: bool = True


def inverse_h_v_given_u(
    copula: Copula, u: UnitPoint, probability: jax.Array, theta: jax.Array, num_steps: int = 80
) -> UnitPoint:
    """Solve ``h_v_given_u(v | u) = probability`` for ``v``, elementwise.

    Bisection on ``logit(v)`` over [-745, 745], the range a 64-bit probability can hold: it cannot
    fail for a function that increases in ``v``, and 80 halvings leave an error below 1e-21 in
    ``logit(v)``. Not meant to be differentiated.

    Parameters
    ----------
    copula
        The family.
    u
        Conditioning point.
    probability
        Values in (0, 1), of the shape of ``u``.
    theta
        Copula parameter, broadcast against the rest.
    num_steps
        Halvings of the bracket.

    Returns
    -------
    UnitPoint
        The conditional quantile, by which ``(u, v)`` is sampled from ``C``.
    """
    shape = jnp.broadcast_shapes(u.log_u.shape, jnp.shape(probability), jnp.shape(theta))
    low = jnp.full(shape, -745.0, dtype=u.log_u.dtype)

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        mid = 0.5 * (low + high)
        point = UnitPoint(jax.nn.log_sigmoid(mid), jax.nn.log_sigmoid(-mid))
        below = copula.h_v_given_u(u, point, theta) < probability
        return jnp.where(below, mid, low), jnp.where(below, high, mid)

    low, high = jax.lax.fori_loop(0, num_steps, halve, (low, -low))
    mid = 0.5 * (low + high)
    return UnitPoint(jax.nn.log_sigmoid(mid), jax.nn.log_sigmoid(-mid))
