r"""How hard a query is for all models alike: labels of one query go together.

Given all confidences, two models are still right or wrong on the same queries more often than chance: a
question may be hard, or its answer key wrong, whatever the models say of themselves. Of all queries a share
:math:`v` is harder than this one, and

.. math::

    P(y_i = 1 \mid z, v) = \sigma\big(\eta_i / \phi_i + F^{-1}_{\phi_i}(v)\big), \qquad
    \phi_i = \sqrt{1 - \rho_i},

:math:`\eta_i` the log odds of `cascade_bayes.model.correctness`. With F of the bridge distribution,

.. math::

    f_\phi(u) = \frac{1}{2 \pi} \frac{\sin \phi\pi}{\cosh \phi u + \cos \phi\pi}, \qquad
    F^{-1}_\phi(v) = \frac1\phi \log \frac{\sin \phi\pi v}{\sin \phi\pi (1 - v)},

and :math:`v` uniform a model alone is right with the probability :math:`\sigma(\eta_i)`, exactly: what is
said of single models, and of the one answer that a cascade returns, does not depend on any :math:`\rho_i`.
Labels of one :math:`\rho` are cut from logistic variables with that correlation, the intraclass correlation:
:math:`\operatorname{var} u = (\pi^2 / 3) (\phi^{-2} - 1)`. What it changes is what labels say of
*differences* between models, which are told by the queries on which only one is right, and of what they have
in common, of which the labels of one query tell less than as many labels of several.

**It grows with the confidence.** Where models guess, they fail apart; where they are sure, they fail
together, on traps and wrong answer keys:

.. math::

    \operatorname{logit} \rho_i = \operatorname{logit} \rho + \kappa\, l(z_i), \qquad \rho_i \le 0.95,

:math:`l` the standardised logit rounded to a whole number from -3 to 3. With one :math:`\rho` for all, and
sure failures that are shared, the joint likelihood of the labels explains these by difficulty and takes every
model for better than its labels say, by up to 3 points however many there are: of a wrong dependence, it is a
biased judge of the margins. :math:`\kappa` is 0 to 1.1 on six public tables.

The likelihood of a query's labels integrates :math:`v` out by Gauss-Legendre nodes of :math:`s`, with
:math:`v = s^3 (10 - 15 s + 6 s^2)`, which closes up to both ends of :math:`(0, 1)`.

Source: Wang & Louis, "Matching conditional and marginal shapes in binary random intercept models using a
bridge distribution function", Biometrika 90 (2003), equations 2 to 5, for one :math:`\rho`.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NUM_NODES = 24
"""Nodes of the integral over a query's difficulty.

The log probability of the labels of five models is within 0.001 up to a correlation of 0.75, and within 0.03
at 0.9, for log odds of up to 4. At 0.95 labels that contradict each other come out up to 0.1 too likely or
too unlikely.
"""

MAX_LEVEL = 3
"""Confidences count as sure, and as unsure, in so many steps."""

NUM_LEVELS = 2 * MAX_LEVEL + 1

LEVEL_ENDS = np.arange(-MAX_LEVEL, MAX_LEVEL) + 0.5
"""Standardised logits at which one level ends and the next begins."""

MAX_CORR = 0.95

_MAX_EXPONENT = {64: 300.0, 32: 40.0}
"""Bound of log odds and difficulties in size, by bits: exponentials of their sums are finite."""


class LabelCorr(NamedTuple):
    r"""How labels of one query go together.

    Attributes
    ----------
    middle
        :math:`\rho`, the correlation at the middle of both confidences, in [0, 1); ``()``.
    slope
        :math:`\kappa`, what its log odds gain a step of confidence; ``()``.
    """

    middle: jax.Array
    slope: jax.Array

    def by_level(self) -> jax.Array:
        """Return the correlation at each level of confidence, ``(..., NUM_LEVELS)``, least sure first."""
        step = jnp.arange(-MAX_LEVEL, MAX_LEVEL + 1, dtype=jnp.result_type(self.middle))
        middle, factor = self.middle[..., None], jnp.exp(self.slope[..., None] * step)
        # Of the odds; at 0, where their logarithm ends, this has derivatives.
        return jnp.minimum(middle * factor / (1.0 - middle + middle * factor), MAX_CORR)

    def at(self, z: jax.Array) -> jax.Array:
        """Return the correlation of labels at these standardised logits, of the same shape."""
        return jnp.take(self.by_level(), find_levels(z), axis=-1)


def find_levels(z: jax.Array) -> jax.Array:
    """Return how sure standardised logits are, of the same shape: from 0; NaN counts as a score of 1/2."""
    level = jnp.round(jnp.clip(jnp.where(jnp.isnan(z), 0.0, z), -MAX_LEVEL, MAX_LEVEL))
    return level.astype(int) + MAX_LEVEL


class Nodes(NamedTuple):
    """Shares of harder queries that stand for all, 1 less these, and weights: ``(NUM_NODES,)`` each."""

    share: np.ndarray
    rest: np.ndarray
    weight: np.ndarray


@functools.cache
def find_nodes() -> Nodes:
    """Return nodes and weights of the integral over the difficulty of a query."""
    at, weight = np.polynomial.legendre.leggauss(NUM_NODES)
    s = 0.5 * (at + 1.0)
    v = s**3 * (10 - 15 * s + 6 * s**2)
    # By symmetry 1 - v is v of the node at the other end, with all its digits.
    return Nodes(v, v[::-1].copy(), 0.5 * weight * 30 * (s * (1 - s)) ** 2)


def bridge_quantile(v: jax.Array, rest: jax.Array, label_corr: jax.Array) -> jax.Array:
    """Return the difficulty u below which a share of queries lies; arguments broadcast.

    Parameters
    ----------
    v, rest
        The share and 1 less it, both in (0, 1).
    label_corr
        Correlation within a query of the logistic variables that labels cut, in [0, 1). At 0 the result is 0
        but for rounding; in 32 bits that is 0.1 at shares of 1e-4 and less 1e-4.
    """
    phi = jnp.sqrt(1.0 - label_corr)
    return (jnp.log(jnp.sin(phi * jnp.pi * v)) - jnp.log(jnp.sin(phi * jnp.pi * rest))) / phi


def sample_share(key: jax.Array, num_queries: int, dtype: Any) -> jax.Array:
    """Draw the share of queries that are harder than each, ``(num_queries,)``."""
    eps = jnp.finfo(dtype).eps
    return jax.random.uniform(key, (num_queries,), dtype=dtype, minval=eps, maxval=1.0 - eps)


def given_difficulty(logit: jax.Array, v: jax.Array, rest: jax.Array, label_corr: jax.Array) -> jax.Array:
    """Return the log odds of being right on queries of a known difficulty; arguments broadcast.

    Parameters
    ----------
    logit
        Log odds of being right, whatever the difficulty.
    v, rest, label_corr
        The same as for `bridge_quantile`.
    """
    return logit / jnp.sqrt(1.0 - label_corr) + bridge_quantile(v, rest, label_corr)


def log_labels(
    logit: jax.Array, z: jax.Array, correct: jax.Array, labelled: jax.Array, label_corr: LabelCorr
) -> jax.Array:
    """Return the log probability of each query's labels together, ``(num_queries,)``.

    Parameters
    ----------
    logit
        Log odds of being right, ``(num_models, num_queries)``.
    z
        Standardised logits of the confidences, of the same shape.
    correct, labelled
        Labels, and whether they are known, of the same shape; a query without labels has 0.
    label_corr
        How they go together.
    """
    nodes, corr = find_nodes(), label_corr.by_level()
    dtype = corr.dtype
    difficulty = bridge_quantile(
        jnp.asarray(nodes.share, dtype=dtype), jnp.asarray(nodes.rest, dtype=dtype), corr[:, None]
    )
    level = find_levels(z)
    conditional = logit / jnp.take(jnp.sqrt(1.0 - corr), level)
    return _log_integral(_bounded(conditional), _bounded(difficulty), _Labels(level, correct, labelled))


def _bounded(x: jax.Array) -> jax.Array:
    most = _MAX_EXPONENT[jnp.finfo(x.dtype).bits]
    return jnp.clip(x, -most, most)


class _Labels(NamedTuple):
    """What is known of the labels, ``(num_models, num_queries)`` each."""

    level: jax.Array
    correct: jax.Array
    labelled: jax.Array


@jax.custom_jvp
def _log_integral(logit: jax.Array, difficulty: jax.Array, labels: _Labels) -> jax.Array:
    """Return the log of the weighted sum over nodes of the probability of a query's labels there.

    ``difficulty`` is ``(NUM_LEVELS, num_nodes)``. The derivative is the mean, over what the labels say of the
    difficulty, of each label's own: a third of the time that it takes to differentiate the sum of products
    term by term.
    """
    return _integrate(logit, difficulty, labels)[0]


@_log_integral.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    labels = primals[2]
    value, likely, posterior = _integrate(*primals)
    change = jnp.zeros_like(value)
    for i, own in enumerate(likely):
        # Of the log, by the log odds of this model at each node.
        slope = jnp.where(labels.correct[i], 1.0, -1.0) * (1.0 - own) * posterior
        change = change + jnp.sum(slope, axis=0) * tangents[0][i]
        # The row of each label's level as a product: its transpose is much quicker than that of `take`.
        is_level = jax.nn.one_hot(labels.level[i], NUM_LEVELS, axis=0, dtype=value.dtype)
        moved = jnp.matmul(tangents[1].T, is_level, precision="highest")
        change = change + jnp.sum(slope * moved, axis=0)
    return value, change


def _integrate(
    logit: jax.Array, difficulty: jax.Array, labels: _Labels
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """Return the log integral, each label's probability at each node, and the nodes' posterior weights.

    ``(num_queries,)``, a list of ``(num_nodes, num_queries)`` and one more of these.
    """
    # 1 / (1 + e^-eta e^-u) of a right answer, 1 / (1 + e^eta e^u) of a wrong one: exponentials of log odds
    # and of difficulties apart, and none of both together.
    odds = jnp.exp(jnp.where(labels.correct, -logit, logit))
    factors = jnp.concatenate([jnp.exp(-difficulty), jnp.exp(difficulty)]).T
    which = labels.level + jnp.where(labels.correct, 0, NUM_LEVELS)

    def of_label(i: int) -> jax.Array:
        against = odds[i] * jnp.take(factors, which[i], axis=1, mode="clip")
        return jnp.where(labels.labelled[i], 1.0 / (1.0 + against), 1.0)

    likely = [of_label(i) for i in range(len(logit))]
    weight = jnp.asarray(find_nodes().weight, dtype=difficulty.dtype)
    joint = weight[:, None] * functools.reduce(operator.mul, likely)
    # Labels of many models that are all but impossible can come to 0: in 32 bits, what is less likely than
    # exp(-87) is not told apart.
    total = jnp.maximum(jnp.sum(joint, axis=0), jnp.finfo(joint.dtype).tiny)
    return jnp.log(total), likely, joint / total
