r"""Posterior modes, and the normal approximations there, of many lanes at once.

The mode :math:`\hat x` minimises the potential :math:`U`; the normal that matches the curvature there has the
covariance :math:`\Sigma = (\nabla^2 U)^{-1} = A A^\top`. In the coordinates :math:`y = A^{-1}(x - \hat x)`
the posterior is close to a standard normal.

The minimiser is BFGS (Nocedal & Wright, Numerical Optimization, 2006, chapter 6) with backtracking, written
as one loop of which every turn evaluates one point: lanes then run side by side without waiting for each
other's line searches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes._kept import kept
from cascade_bayes.inference.samplers.target import Data, Target

MAX_EVALUATIONS = 1000
SUFFICIENT = 1e-4
"""Share of the predicted decrease that a step must reach (Armijo)."""

MIN_CURVATURE = 0.1
"""Directions flatter than a standard deviation of 3 on the unconstrained scale, or not convex, get this."""


class NormalApproximation(NamedTuple):
    """A normal distribution, one a lane.

    Attributes
    ----------
    mode
        ``(num_lanes, dim)``.
    root
        Root of the covariance: a principal axis a column, ``(num_lanes, dim, dim)``.
    """

    mode: jax.Array
    root: jax.Array


class _Search(NamedTuple):
    x: jax.Array
    value: jax.Array
    grad: jax.Array
    inverse: jax.Array  # of the Hessian
    direction: jax.Array
    length: jax.Array
    is_first: jax.Array
    num_resets: jax.Array
    num_evaluations: jax.Array
    done: jax.Array


def minimise(function: Callable[[jax.Array], jax.Array], start: jax.Array) -> jax.Array:
    """Return a minimum of a smooth function, ``(dim,)``, from ``start``.

    It stops where a quadratic model promises less than the arithmetic can tell apart, 1e-9 in 64 bit.
    """
    value_and_grad = jax.value_and_grad(function)
    wide = start.dtype == jnp.float64
    negligible, shortest = (1e-9, 1e-7) if wide else (1e-4, 1e-3)
    identity = jnp.eye(start.size, dtype=start.dtype)

    def unit(grad: jax.Array) -> jax.Array:
        return identity / jnp.maximum(jnp.linalg.norm(grad), 1.0)

    def go_on(s: _Search) -> jax.Array:
        return ~s.done & (s.num_evaluations < MAX_EVALUATIONS)

    def turn(s: _Search) -> _Search:
        slope = s.grad @ s.direction
        step = s.length * s.direction
        value, grad = value_and_grad(s.x + step)
        good = (value <= s.value + SUFFICIENT * s.length * slope) & jnp.all(jnp.isfinite(grad))
        # Accepted: the rank-two update of the inverse Hessian, where the curvature along the step is
        # positive.
        change = grad - s.grad
        curvature = step @ change
        usable = curvature > 1e-10 * jnp.linalg.norm(step) * jnp.linalg.norm(change)
        safe = jnp.where(usable, curvature, 1.0)
        scaled = jnp.where(s.is_first, safe / jnp.maximum(change @ change, 1e-300), 1.0)
        before = jnp.where(s.is_first, identity * scaled, s.inverse)
        towards = before @ change
        updated = (
            before
            + jnp.outer(step, step) * (1.0 + change @ towards / safe) / safe
            - (jnp.outer(towards, step) + jnp.outer(step, towards)) / safe
        )
        inverse = jnp.where(good & usable, updated, s.inverse)
        # Rejected: the minimum of the parabola through what is known, within bounds.
        bend = value - s.value - s.length * slope
        shorter = jnp.where(jnp.isfinite(bend), -slope * s.length / (2.0 * jnp.maximum(bend, 1e-300)), 0.1)
        shorter = s.length * jnp.clip(shorter, 0.1, 0.5)
        # Too short a step, or one uphill: the inverse Hessian is no good.
        lost = ~good & (shorter < shortest)
        current = jnp.where(good, grad, s.grad)
        direction = jnp.where(good, -inverse @ grad, s.direction)
        uphill = good & (current @ direction >= 0)
        reset = lost | uphill
        inverse = jnp.where(reset, unit(current), inverse)
        direction = jnp.where(reset, -inverse @ current, direction)
        num_resets = s.num_resets + reset
        converged = good & (-0.5 * (current @ direction) < negligible) & ~reset
        return _Search(
            x=jnp.where(good, s.x + step, s.x),
            value=jnp.where(good, value, s.value),
            grad=current,
            inverse=inverse,
            direction=direction,
            length=jnp.where(good | reset, 1.0, shorter),
            is_first=(s.is_first & ~(good & usable)) | reset,
            num_resets=num_resets,
            num_evaluations=s.num_evaluations + 1,
            done=converged | (num_resets > 3),
        )

    value, grad = value_and_grad(start)
    inverse = unit(grad)
    state = _Search(
        x=start,
        value=value,
        grad=grad,
        inverse=inverse,
        direction=-inverse @ grad,
        length=jnp.ones_like(value),
        is_first=jnp.asarray(True),
        num_resets=jnp.asarray(0),
        num_evaluations=jnp.asarray(0),
        done=~jnp.isfinite(value) | (grad @ grad == 0),
    )
    return jax.lax.while_loop(go_on, turn, state).x


@kept("target")
def find_modes(target: Target, data: Data) -> jax.Array:
    """Return the mode of every lane, ``(num_lanes, dim)``.

    Parameters
    ----------
    target
        The density.
    data
        Its data, lanes first.
    """
    return jax.vmap(lambda lane: minimise(lambda x: target.potential(x, lane), target.start))(data)


@kept("target")
def normal_approximation(target: Target, data: Data) -> NormalApproximation:
    """Return the normal approximation of every lane.

    The Hessian is the central difference of the gradient, which is the mode search's program once more.
    """

    def one(lane: Data) -> NormalApproximation:
        mode = minimise(lambda x: target.potential(x, lane), target.start)
        gradient = jax.grad(target.potential)
        step = float(jnp.finfo(mode.dtype).eps) ** (1 / 3)

        def column(unit: jax.Array) -> jax.Array:
            forward, backward = gradient(mode + step * unit, lane), gradient(mode - step * unit, lane)
            return (forward - backward) / (2 * step)

        hessian = jax.lax.map(column, jnp.eye(mode.size, dtype=mode.dtype))
        eigenvalues, axes = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        return NormalApproximation(mode, axes / jnp.sqrt(jnp.maximum(eigenvalues, MIN_CURVATURE)))

    return jax.vmap(one)(data)
