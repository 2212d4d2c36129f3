r"""Randomised conditional probabilities: what a table's confidences are when the model is right, uniform.

With :math:`G(x \mid \cdot)` the distribution function of a confidence given all that came before in its
cascade, and :math:`\omega` uniform,

.. math:: w = G(x^- \mid \cdot) + \omega \{G(x \mid \cdot) - G(x^- \mid \cdot)\}

is uniform and independent of what came before, for continuous values, atoms and both. In a Markov chain
what came before is the previous model's confidence: with margins :math:`u = F(x)`, :math:`v = F'(x')`,

.. math::

    G(x' \mid x) = \begin{cases} h(v \mid u) & x \text{ continuous,} \\
        \{C(u, v) - C(u^-, v)\} / (u - u^-) & x \text{ an atom.} \end{cases}

Sources: Rosenblatt, "Remarks on a multivariate transformation", Annals of Mathematical Statistics 23 (1952);
Rüschendorf, "On the distributional transform, Sklar's theorem, and the empirical copula process", Journal of
Statistical Planning and Inference 139 (2009); Dunn & Smyth, "Randomized quantile residuals", Journal of
Computational and Graphical Statistics 5 (1996).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from cascade_bayes._trees import take
from cascade_bayes.copulas import Copula
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.distributions.mixed import MarginParams
from cascade_bayes.special import UnitPoint


def conditional_cdf(family: Copula, before: MarginPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return the probability that the later value is at most its ``v``, given the earlier one; elementwise.

    Parameters
    ----------
    family
        The copula.
    before
        The earlier value.
    v
        The later margin's distribution function at the later value, or its left limit.
    theta
        Copula parameter.
    """
    width = jnp.where(before.is_atom, jnp.exp(before.log_mass), 1.0)
    of_atom = (family.cdf(before.upper, v, theta) - family.cdf(before.lower, v, theta)) / width
    return jnp.clip(
        jnp.where(before.is_atom, of_atom, family.h_v_given_u(before.upper, v, theta).value), 0, 1
    )


@jax.jit
def margin_residuals(key: jax.Array, margins: MarginParams, z: jax.Array) -> jax.Array:
    """Return randomised probabilities of confidences under their own margins.

    Parameters
    ----------
    key
        PRNG key.
    margins
        Draws of one margin, fields ``(num_draws, ...)``.
    z
        Standardised logits, ``(num_queries,)``.

    Returns
    -------
    jax.Array
        ``(num_draws, num_queries)``.
    """

    def one(draw: tuple[jax.Array, MarginParams]) -> jax.Array:
        key, margin = draw
        at = mixed.point(z, jax.tree.map(lambda field: field[None], margin))
        return _between(key, at.lower.value, at.upper.value)

    return jax.lax.map(one, (jax.random.split(key, len(margins.atom_probs)), margins))


@partial(jax.jit, static_argnums=1)
def pair_residuals(
    key: jax.Array, family: Copula, margins: MarginParams, theta: jax.Array, z: jax.Array
) -> jax.Array:
    """Return randomised probabilities of a later model's confidences given those of an earlier one.

    Parameters
    ----------
    key
        PRNG key.
    family
        Static: copula of the two.
    margins
        Draws of both margins, fields ``(num_draws, 2, ...)``.
    theta
        Draws of the copula parameter, ``(num_draws,)``.
    z
        Standardised logits, ``(2, num_queries)``.

    Returns
    -------
    jax.Array
        ``(num_draws, num_queries)``.
    """

    def one(draw: tuple[jax.Array, MarginParams, jax.Array]) -> jax.Array:
        key, margins, theta = draw
        both = mixed.point(z, jax.tree.map(lambda field: field[:, None, :], margins))
        before, after = take(both, 0), take(both, 1)
        ends = (conditional_cdf(family, before, v, theta) for v in (after.lower, after.upper))
        return _between(key, *ends)

    return jax.lax.map(one, (jax.random.split(key, len(theta)), margins, theta))


def _between(key: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    return lower + jax.random.uniform(key, lower.shape, dtype=lower.dtype) * (upper - lower)
