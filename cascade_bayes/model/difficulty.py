r"""How hard a query is for all models alike: labels of one query go together.

Given all confidences, two models are still right or wrong on the same queries more often than chance: a
question may be hard, or its answer key wrong, whatever the models say of themselves. A query has a common
part :math:`u`, large if it is easy, and

.. math::

    P(y_i = 1 \mid z, u) = \sigma\big(\eta_i / \phi + u\big), \qquad \phi = \sqrt{1 - \rho},

:math:`\eta_i` the log odds of `cascade_bayes.model.correctness`. With :math:`u` of the bridge distribution,

.. math::

    f(u) = \frac{1}{2 \pi} \frac{\sin \phi\pi}{\cosh \phi u + \cos \phi\pi}, \qquad
    F^{-1}(v) = \frac1\phi \log \frac{\sin \phi\pi v}{\sin \phi\pi (1 - v)},

a model alone is right with the probability :math:`\sigma(\eta_i)`, exactly: what is said of single models,
and of the one answer that a cascade returns, does not depend on :math:`\rho`. That is the correlation within
a query of the logistic variables that the labels cut, the intraclass correlation:
:math:`\operatorname{var} u = (\pi^2 / 3) (\phi^{-2} - 1)`. What it changes is what labels say of
*differences* between models, which are told by the queries on which only one is right, and of what they have
in common, of which the labels of one query tell less than as many labels of several.

The likelihood of a query's labels integrates :math:`u` out by Gauss-Legendre nodes of :math:`s`, with
:math:`v = s^3 (10 - 15 s + 6 s^2)`, which closes up to both ends of :math:`(0, 1)`.

Source: Wang & Louis, "Matching conditional and marginal shapes in binary random intercept models using a
bridge distribution function", Biometrika 90 (2003), equations 2 to 5.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NUM_NODES = 24
"""Nodes of the integral over a query's difficulty.

The log probability of the labels of five models is within 0.001 up to a correlation of 0.75, and within 0.03
at 0.9, for log odds of up to 4. Beyond 0.95, which the default prior all but excludes, labels that contradict
each other come out 0.1 and more too likely or too unlikely.
"""

_MAX_EXPONENT = {64: 300.0, 32: 40.0}
"""Bound of log odds and difficulties in size, by bits: exponentials of their sums are finite."""


class Nodes(NamedTuple):
    """Difficulties that stand for all, and how many queries each, ``(num_nodes,)`` both."""

    difficulty: jax.Array
    weight: jax.Array


def bridge_quantile(v: jax.Array, rest: jax.Array, label_corr: jax.Array) -> jax.Array:
    """Return the difficulty u below which a share of queries lies.

    Parameters
    ----------
    v, rest
        The share and 1 less it, of any shape, both in (0, 1).
    label_corr
        Correlation within a query of the logistic variables that labels cut, in [0, 1). At 0 the result is 0
        but for rounding; in 32 bits that is 0.1 at shares of 1e-4 and less 1e-4.
    """
    phi = jnp.sqrt(1.0 - label_corr)
    return (jnp.log(jnp.sin(phi * jnp.pi * v)) - jnp.log(jnp.sin(phi * jnp.pi * rest))) / phi


def sample_difficulty(key: jax.Array, label_corr: jax.Array, num_queries: int) -> jax.Array:
    """Draw difficulties, ``(num_queries,)``."""
    dtype = jnp.result_type(label_corr)
    eps = jnp.finfo(dtype).eps
    v = jax.random.uniform(key, (num_queries,), dtype=dtype, minval=eps, maxval=1.0 - eps)
    return bridge_quantile(v, 1.0 - v, label_corr)


def given_difficulty(logit: jax.Array, difficulty: jax.Array, label_corr: jax.Array) -> jax.Array:
    """Return the log odds of being right on queries of a known difficulty; arguments broadcast."""
    return logit / jnp.sqrt(1.0 - label_corr) + difficulty


def find_nodes(label_corr: jax.Array) -> Nodes:
    """Return nodes and weights of the integral over the difficulty of a query.

    Parameters
    ----------
    label_corr
        As for `bridge_quantile`, ``()``.
    """
    at, weight = np.polynomial.legendre.leggauss(NUM_NODES)
    s = 0.5 * (at + 1.0)
    v = s**3 * (10 - 15 * s + 6 * s**2)
    weight = 0.5 * weight * 30 * (s * (1 - s)) ** 2
    dtype = jnp.result_type(label_corr)
    # By symmetry 1 - v is v of the node at the other end, with all its digits.
    below, above = jnp.asarray(v, dtype=dtype), jnp.asarray(v[::-1], dtype=dtype)
    return Nodes(bridge_quantile(below, above, label_corr), jnp.asarray(weight, dtype=dtype))


def log_labels(logit: jax.Array, correct: jax.Array, labelled: jax.Array, label_corr: jax.Array) -> jax.Array:
    """Return the log probability of each query's labels together, ``(num_queries,)``.

    Parameters
    ----------
    logit
        Log odds of being right, ``(num_models, num_queries)``.
    correct, labelled
        Labels, and whether they are known, of the same shape; a query without labels has 0.
    label_corr
        As for `bridge_quantile`, ``()``.
    """
    nodes = find_nodes(label_corr)
    conditional = given_difficulty(logit, jnp.zeros_like(label_corr), label_corr)
    return _log_integral(_bounded(conditional), _bounded(nodes.difficulty), nodes.weight, correct, labelled)


def _bounded(x: jax.Array) -> jax.Array:
    most = _MAX_EXPONENT[jnp.finfo(x.dtype).bits]
    return jnp.clip(x, -most, most)


@jax.custom_jvp
def _log_integral(
    logit: jax.Array, difficulty: jax.Array, weight: jax.Array, correct: jax.Array, labelled: jax.Array
) -> jax.Array:
    """Return the log of the weighted sum over nodes of the probability of a query's labels there.

    Its derivative is the mean, over what the labels say of the difficulty, of each label's own: a third of
    the time that it takes to differentiate the sum of products term by term. Weights are constants.
    """
    return _integrate(logit, difficulty, weight, correct, labelled)[0]


@_log_integral.defjvp
def _derivative(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    logit, difficulty, weight, correct, labelled = primals
    value, likely, posterior = _integrate(logit, difficulty, weight, correct, labelled)
    slopes = [
        jnp.where(correct[i], 1.0, -1.0) * (1.0 - own) * posterior for i, own in enumerate(likely)
    ]  # of the log, by the log odds of each model at each node
    of_logit = sum(jnp.sum(slope, axis=0) * tangents[0][i] for i, slope in enumerate(slopes))
    return value, of_logit + tangents[1] @ functools.reduce(operator.add, slopes)


def _integrate(
    logit: jax.Array, difficulty: jax.Array, weight: jax.Array, correct: jax.Array, labelled: jax.Array
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """Return the log integral, each label's probability at each node, and the nodes' posterior weights.

    ``(num_queries,)``, a list of ``(num_nodes, num_queries)`` and one more of these.
    """
    # 1 / (1 + e^-eta e^-u) of a right answer, 1 / (1 + e^eta e^u) of a wrong one: exponentials of log odds
    # and of difficulties apart, and none of both together.
    odds = jnp.exp(jnp.where(correct, -logit, logit))
    up, down = jnp.exp(difficulty)[:, None], jnp.exp(-difficulty)[:, None]
    likely = [
        jnp.where(labelled[i], 1.0 / (1.0 + odds[i] * jnp.where(correct[i], down, up)), 1.0)
        for i in range(logit.shape[0])
    ]
    joint = weight[:, None] * functools.reduce(operator.mul, likely)
    # Labels of many models that are all but impossible can come to 0: in 32 bits, what is less likely than
    # exp(-87) is not told apart.
    total = jnp.maximum(jnp.sum(joint, axis=0), jnp.finfo(joint.dtype).tiny)
    return jnp.log(total), likely, joint / total
