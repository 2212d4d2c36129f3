"""Roots of increasing functions, elementwise and in few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

MAX_STEPS = 150
"""More than any bracket of 64-bit numbers takes: each pair of steps halves it, or a step."""


def find_root(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    low: jax.Array | float,
    high: jax.Array | float,
    guess: jax.Array,
) -> jax.Array:
    """Return where an increasing function crosses 0, to rounding, elementwise.

    Newton's method kept inside a bracket: a step that leaves it, or is not half as long as the one before,
    is replaced by a halving. A smooth function whose root is near the guess takes half a dozen steps, one
    with jumps a few dozen. Not meant to be differentiated.

    Source: Press, Teukolsky, Vetterling & Flannery, *Numerical Recipes*, 3rd edition, section 9.4.

    Parameters
    ----------
    function
        The function and its slope, elementwise; the function may be infinite, and jump.
    low, high
        Finite ends of where the root is sought; one of them where the function keeps its sign.
    guess
        Where the root may be, of the function's shape; no root is sought where it is NaN.
    """
    epsilon = jnp.finfo(guess.dtype).eps

    def busy(state: Any) -> jax.Array:
        return (state[0] < MAX_STEPS) & ~jnp.all(state[-1])

    def turn(state: Any) -> Any:
        count, x, low, high, last, done = state
        value, slope = function(x)
        low, high = jnp.where(value >= 0, low, x), jnp.where(value >= 0, x, high)
        step = -value / jnp.where(slope > 0, slope, jnp.nan)
        newton = (x + step >= low) & (x + step <= high) & (jnp.abs(step) <= 0.5 * jnp.abs(last))
        step = jnp.where(newton, step, 0.5 * (low + high) - x)
        size = jnp.maximum(jnp.abs(x), 1.0)
        # A Newton step this small leaves an error of its square; halvings must come down to rounding.
        settled = newton & (jnp.abs(step) <= jnp.sqrt(epsilon) * size)
        new = settled | (high - low <= 4 * epsilon * size)
        x, last = jnp.where(done, x, x + step), jnp.where(done, last, step)
        return count + 1, x, low, high, last, done | new

    start = jnp.clip(guess, low, high)
    low, high = (jnp.broadcast_to(jnp.asarray(end, dtype=guess.dtype), guess.shape) for end in (low, high))
    state = (jnp.zeros((), dtype=int), start, low, high, 2 * (high - low), jnp.isnan(guess))
    return jax.lax.while_loop(busy, turn, state)[1]
