"""Roots of increasing functions, elementwise and in few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

MAX_STEPS = 200
"""More than any bracket of finite numbers takes: a method that only halves needs 64."""

LARGEST = 1e30
"""Stand-in for infinite values of a function, whose quotients would not be defined."""


class _State(NamedTuple):
    """Newest point ``a``, the end ``b`` of the bracket on the other side of the root, the point ``c`` before.

    ``t`` is where in the bracket to go next.
    """

    a: jax.Array
    b: jax.Array
    c: jax.Array
    fa: jax.Array
    fb: jax.Array
    fc: jax.Array
    t: jax.Array
    done: jax.Array
    step: jax.Array


def find_root(
    function: Callable[[jax.Array], jax.Array], low: float, high: float, guess: jax.Array
) -> jax.Array:
    """Return where an increasing function crosses 0, to rounding, elementwise.

    The bracket is the unit next to the guess, or all on that side of it. Each step halves it, or goes where
    the inverse parabola through the last three points is 0 if that is certain to lie inside (Chandrupatla).
    A smooth function whose root is near the guess takes half a dozen steps, one with jumps a few dozen. Not
    meant to be differentiated.

    Source: Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
    function without using derivatives", Advances in Engineering Software 28 (1997).

    Parameters
    ----------
    function
        Elementwise; may be infinite, and jump.
    low, high
        Between them the root is sought; it is one of them where the function does not change its sign.
    guess
        Where the root may be, of the function's shape.
    """
    epsilon = jnp.finfo(guess.dtype).eps

    def value(x: jax.Array) -> jax.Array:
        return jnp.clip(function(x), -LARGEST, LARGEST)

    a = jnp.clip(guess, low, high)
    fa = value(a)
    up = fa < 0
    b = jnp.clip(jnp.where(up, a + 1.0, a - 1.0), low, high)
    fb = value(b)
    short = jnp.sign(fb) == jnp.sign(fa)
    end, f_end = jnp.where(up, high, low), jnp.where(up, LARGEST, -LARGEST)
    a, fa, b, fb = (jnp.where(short, x, y) for x, y in ((b, a), (fb, fa), (end, b), (f_end, fb)))

    def turn(state: _State) -> _State:
        x = state.a + state.t * (state.b - state.a)
        fx = value(x)
        same = jnp.sign(fx) == jnp.sign(state.fa)
        c, fc = jnp.where(same, state.a, state.b), jnp.where(same, state.fa, state.fb)
        b, fb = jnp.where(same, state.b, state.a), jnp.where(same, state.fb, state.fa)
        nearest = jnp.where(jnp.abs(fx) < jnp.abs(fb), x, b)
        least = epsilon * (1.0 + 2.0 * jnp.abs(nearest)) / jnp.abs(b - x)
        done = (least > 0.5) | (fx == 0)
        xi, phi = (x - b) / (c - b), (fx - fb) / (fc - fb)
        fits = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        parabola = fx / (fb - fx) * fc / (fb - fc) + (c - x) / (b - x) * fx / (fc - fx) * fb / (fc - fb)
        t = jnp.clip(jnp.where(fits, parabola, 0.5), least, 1.0 - least)
        new = _State(x, b, c, fx, fb, fc, t, done, state.step)
        kept = jax.tree.map(lambda old, new: jnp.where(state.done, old, new), state, new)
        return kept._replace(step=state.step + 1)

    half = jnp.full_like(a, 0.5)
    start = _State(a, b, a, fa, fb, fa, half, (fa == 0) | (a == b), jnp.zeros((), dtype=int))
    last = jax.lax.while_loop(lambda s: jnp.any(~s.done) & (s.step < MAX_STEPS), turn, start)
    return jnp.where(jnp.abs(last.fa) < jnp.abs(last.fb), last.a, last.b)
