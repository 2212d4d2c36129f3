r"""The posterior of a long table from a weighted sample of its queries, with the whole table's gradient.

With :math:`\ell` the log likelihood of all queries and :math:`\tilde\ell` that of a weighted sample
(`cascade_bayes.model.strata`), the log density that is sampled from is

.. math::

    \log p(x) + \tilde\ell(x) + (x - x_0)^\top \{\nabla \ell(x_0) - \nabla \tilde\ell(x_0)\},

:math:`x_0` its own mode: there its gradient is that of the whole table, whose mode it therefore has. What is
left of the sampling is an error in the curvature, relative to it one over the root of the sample's size and
less where the strata say much, and so an error in posterior standard deviations but not in means. (Quiroz,
Kohn, Villani & Tran, "Speeding up MCMC by efficient data subsampling", JASA 114, 2019, section 4.1, expand
each query's term in the same way.)

The mode is found by turns: tilt at the mode of the last turn, and find the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._kept import kept
from cascade_bayes.inference.samplers.laplace import normal_approximation
from cascade_bayes.inference.samplers.target import Data, Target, Tilted
from cascade_bayes.model.observations import Observations

CHUNK = 4096
"""Queries of which the gradient is computed at once, which bounds the memory it takes."""

MAX_TURNS = 10

MAX_STEP = 0.01
"""Change of the mode, in posterior standard deviations, that does not matter."""


def chunks(obs: Observations) -> Iterator[Observations]:
    """Yield a table in parts of `CHUNK` queries; what the last lacks are queries without any values."""
    num_queries = obs.z.shape[1]
    for start in range(0, num_queries, CHUNK):
        yield obs.take(np.arange(start, min(start + CHUNK, num_queries))).padded(CHUNK)


def tilt(
    target: Target, make: Callable[[Observations], Data], whole: Observations, sample: Observations
) -> Tilted:
    """Return the data of a sample with what mends the gradient.

    Parameters
    ----------
    target
        The density, whose data have no axis of lanes.
    make
        Observations -> its data.
    whole
        All queries, without a record of gaps.
    sample
        A weighted sample of them.
    """
    data = make(sample)
    nothing = make(whole.take(np.arange(0)).padded(CHUNK))
    parts = list(chunks(whole))

    def gap(x: jax.Array) -> jax.Array:
        """Return the gradient of the whole table's potential less that of the sample's."""
        of_parts = sum(_gradient(target, x, make(part)) for part in parts)
        of_prior = _gradient(target, x, nothing)
        return of_parts - (len(parts) - 1) * of_prior - _gradient(target, x, data)

    found = Tilted(data, jnp.zeros_like(target.start), target.start)
    for _ in range(MAX_TURNS):
        approximation = normal_approximation(target, jax.tree.map(lambda field: field[None], found))
        mode, root = approximation.mode[0], approximation.root[0]
        slope = gap(mode)
        step = root.T @ (slope - found.slope)
        found = Tilted(data, slope, mode)
        if not float(jnp.max(jnp.abs(step))) > MAX_STEP:
            break
    return found


@kept("target")
def _gradient(target: Target, x: jax.Array, data: Data) -> jax.Array:
    return jax.grad(target.potential)(x, data)
