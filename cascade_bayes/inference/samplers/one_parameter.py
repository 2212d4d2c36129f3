r"""Posteriors of a single parameter, exactly: one draw each from many curves at once.

Given draw :math:`d` of everything else, a parameter :math:`x` has the density

.. math:: p(x \mid d) \propto p(x) \, L_d(x).

The log likelihood :math:`\log L_d` is smooth and bounded where any of the posterior lies, so that the
polynomial through its values at `NUM_NODES` Chebyshev points is exact for all purposes (Trefethen,
Approximation Theory and Approximation Practice, 2013, chapter 8); the prior, which may be singular at an end,
enters as it is. The draw is taken by inverting the distribution function on a fine grid.

All of it runs as one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._devices import largest_divisor

NUM_NODES = 12
"""Values at which a log likelihood is computed."""

NUM_CELLS = 512
"""Cells of the grid on which a curve is inverted; of a normal curve alone, a thirty-fifth of a standard
deviation wide."""

NUM_SCAN = 48
"""Values that are tried to find where the curves lie, and once more to find it closely."""

NUM_SCOUTS = 8
"""Draws whose curves are sought out; the others' lie close by, or the stretch is widened."""

LOG_NEGLIGIBLE = 18.0
"""Where the log posterior lies this far below its top, nothing of it is left."""

LOG_CUT = 10.0
"""A curve that is no further below its top where the stretch ends has been cut off."""

SLACK = 0.1
"""Share of its length by which a stretch is widened to either side, and again while a curve is cut off."""

MAX_WIDENINGS = 20

BATCH = 1 << 16
"""Terms of log likelihoods that are computed side by side, at most; at least those of one draw."""

_POINTS = np.cos(np.pi * (np.arange(NUM_NODES) + 0.5) / NUM_NODES)
_CENTRES = 2.0 * (np.arange(NUM_CELLS) + 0.5) / NUM_CELLS - 1.0
_INTERPOLATION = np.polynomial.chebyshev.chebvander(_CENTRES, NUM_NODES - 1) @ np.linalg.inv(
    np.polynomial.chebyshev.chebvander(_POINTS, NUM_NODES - 1)
)
"""From values at the points to values at the cells' centres, ``(NUM_CELLS, NUM_NODES)``."""


def draw_from_curves(
    uniform: jax.Array | None,
    log_likelihood: Callable[[Any, jax.Array], jax.Array],
    draws: Any,
    log_prior: Callable[[jax.Array], jax.Array],
    bounds: tuple[float, float],
    size: int,
) -> jax.Array:
    """Return one value from each curve, ``(num_draws,)``.

    Parameters
    ----------
    uniform
        Uniform on (0, 1), ``(num_draws,)``; without them the tops of the curves are returned.
    log_likelihood
        One draw and a scalar -> log likelihood.
    draws
        A pytree, draws first.
    log_prior
        Log prior density, elementwise, up to a constant.
    bounds
        Ends of the parameter's range, both finite.
    size
        Terms of a log likelihood, by which the work is cut into batches.
    """
    num_draws = len(jax.tree.leaves(draws)[0])
    batch = largest_divisor(num_draws, BATCH // (NUM_NODES * size))
    low, high = bounds

    def log_densities(stretch: Stretch) -> jax.Array:
        """Return them at the centres of the cells, less their tops, ``(num_draws, NUM_CELLS)``."""
        nodes = stretch[0] + (stretch[1] - stretch[0]) * 0.5 * (1.0 + jnp.asarray(_POINTS))
        at_nodes = _on_draws(log_likelihood, draws, nodes, batch)
        log_density = at_nodes @ jnp.asarray(_INTERPOLATION).T + log_prior(_centres_of(stretch))
        return log_density - log_density.max(axis=1, keepdims=True)

    def cut(state: tuple[Stretch, jax.Array, jax.Array]) -> jax.Array:
        stretch, log_density, count = state
        left = (stretch[0] > low) & jnp.any(log_density[:, 0] > -LOG_CUT)
        right = (stretch[1] < high) & jnp.any(log_density[:, -1] > -LOG_CUT)
        return (left | right) & (count < MAX_WIDENINGS)

    def again(state: tuple[Stretch, jax.Array, jax.Array]) -> tuple[Stretch, jax.Array, jax.Array]:
        start, end = state[0]
        slack = SLACK * (end - start)
        stretch = jnp.maximum(start - slack, low), jnp.minimum(end + slack, high)
        return stretch, log_densities(stretch), state[2] + 1

    stretch = _scan(log_likelihood, draws, log_prior, bounds)
    # The first turn comes from a curve that is flat, and so cut off.
    flat = jnp.zeros((num_draws, NUM_CELLS), dtype=stretch[0].dtype)
    stretch, log_density, _ = jax.lax.while_loop(
        lambda state: (state[2] == 0) | cut(state), again, (stretch, flat, jnp.asarray(0))
    )
    if uniform is None:
        return _centres_of(stretch)[jnp.argmax(log_density, axis=1)]
    return _invert(uniform, stretch, jnp.exp(log_density))


Stretch = tuple[jax.Array, jax.Array]
"""Where the curves of all draws are looked at, from and to, ``()`` both."""


def _on_draws(
    log_likelihood: Callable[[Any, jax.Array], jax.Array], draws: Any, x: jax.Array, batch_size: int
) -> jax.Array:
    """Return log likelihoods, ``(num_draws, num_values)``."""

    def one(draw: Any) -> jax.Array:
        return jax.vmap(lambda value: log_likelihood(draw, value))(x)

    return jax.lax.map(one, draws, batch_size=batch_size)


def _scan(
    log_likelihood: Callable[[Any, jax.Array], jax.Array],
    draws: Any,
    log_prior: Callable[[jax.Array], jax.Array],
    bounds: tuple[float, float],
) -> Stretch:
    """Return a stretch that some draws' curves are not negligible on, found by looking twice."""
    num_draws = len(jax.tree.leaves(draws)[0])
    spread = np.linspace(0, num_draws - 1, min(num_draws, NUM_SCOUTS)).astype(int)
    scouts = jax.tree.map(lambda field: field[spread], draws)

    def look(_: int, stretch: Stretch) -> Stretch:
        start, end = stretch
        step = (end - start) / NUM_SCAN
        x = start + step * (jnp.arange(NUM_SCAN) + 0.5)
        log_density = _on_draws(log_likelihood, scouts, x, 1) + log_prior(x)
        # Far out the arithmetic may give up; there is nothing there.
        log_density = jnp.where(jnp.isnan(log_density), -jnp.inf, log_density)
        top = log_density.max(axis=1, keepdims=True)
        kept = (log_density > top - LOG_NEGLIGIBLE).any(axis=0)
        return (
            jnp.min(jnp.where(kept, x, end)) - 0.5 * step,
            jnp.max(jnp.where(kept, x, start)) + 0.5 * step,
        )

    low, high = bounds
    return jax.lax.fori_loop(0, 2, look, (jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float)))


def _centres_of(stretch: Stretch) -> jax.Array:
    """Return the centres of the cells of a stretch, ``(NUM_CELLS,)``."""
    return stretch[0] + (stretch[1] - stretch[0]) * 0.5 * (1.0 + jnp.asarray(_CENTRES))


def _invert(uniform: jax.Array, stretch: Stretch, density: jax.Array) -> jax.Array:
    """Return where the distribution of each curve, even within a cell, is at what is uniform."""
    cumulative = jnp.cumsum(density, axis=1)
    target = uniform * cumulative[:, -1]
    cell = jnp.minimum(jnp.sum(cumulative < target[:, None], axis=1), NUM_CELLS - 1)
    inside = jnp.take_along_axis(density, cell[:, None], axis=1)[:, 0]
    beyond = jnp.take_along_axis(cumulative, cell[:, None], axis=1)[:, 0] - target
    width = (stretch[1] - stretch[0]) / NUM_CELLS
    return _centres_of(stretch)[cell] + width * (0.5 - jnp.clip(beyond / inside, 0.0, 1.0))
