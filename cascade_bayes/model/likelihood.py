r"""The density of a table of confidences and labels under one cascade.

For one query with confidences :math:`z_1..z_k` (standardised logits) and labels :math:`y_1..y_k`,

.. math::

    p(z, y) = \prod_i f_i(z_i) \prod_{i<k} r_i(z_i, z_{i+1})
              \prod_i \mathrm{Bernoulli}(y_i; p_i(z_i, z_{i-1})),

with :math:`f_i` the margin (density, or mass at an atom), :math:`r_i` the copula ratio of
neighbours (`cascade_bayes.copulas.pair`) and
:math:`p_i(z_i, z_{i-1}) = \sigma\{a_i + b_i x(z_i) + c_i x(z_{i-1}) + e_i(z_i)\}`, without
:math:`c_i x(z_{i-1})` for the first model. It is a Markov chain in :math:`z`: given an atom at model i,
what comes next depends on the atom, not
on where inside its probability the query "would have" stood.

What is not observed contributes no factor. For a prefix of the chain (later models not called) this
is the exact marginal density.

Source: Zellinger & Thomson (arXiv 2501.09345), equations 3 to 9.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas import Copula, log_copula_ratio
from cascade_bayes.data import CascadeData
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.model.params import CascadeParams, regressor
from cascade_bayes.special import UnitPoint


class Observations(NamedTuple):
    """A table as the likelihood reads it, models first so that queries lie contiguous.

    All fields are ``(num_models, num_queries)``; ``z`` is 0 where not observed.
    """

    z: jax.Array
    observed: jax.Array
    correct: jax.Array
    labelled: jax.Array


def observations(data: CascadeData) -> Observations:
    """Return the arrays of ``data`` for the likelihood."""
    observed = data.observed
    z = np.where(observed, data.logit_score(), 0.0)
    labelled = data.labelled & observed
    return Observations(
        jnp.asarray(z.T),
        jnp.asarray(observed.T),
        jnp.asarray((data.correct & labelled).T),
        jnp.asarray(labelled.T),
    )


def correctness_logit(z: jax.Array, params: CascadeParams) -> jax.Array:
    """Return the log odds of being right, ``(num_models, num_queries)`` like ``z``."""
    x = regressor(z)
    before = jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])
    return own_logit(z, params) + params.upstream[:, None] * before


def own_logit(z: jax.Array, params: CascadeParams) -> jax.Array:
    """Return the log odds of being right without the previous model's part, shape of ``z``."""
    logit = params.intercept[:, None] + params.slope[:, None] * regressor(z)
    if params.margins.atom_locs.shape[-1]:
        here = z[..., None] == params.margins.atom_locs[:, None, :]
        logit = logit + jnp.sum(jnp.where(here, params.atom_effect[:, None, :], 0.0), axis=-1)
    return logit


def log_likelihood(
    params: CascadeParams,
    obs: Observations,
    copulas: tuple[Copula, ...],
    has_atoms: tuple[bool, ...],
) -> jax.Array:
    """Return the log density of each query, ``(num_queries,)``.

    Parameters
    ----------
    params
        One draw of the parameters.
    obs
        The table.
    copulas
        Family of each neighbouring pair, ``num_models - 1`` of them.
    has_atoms
        Static: which models' margins have atoms, one flag a model.
    """
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    log_density = mixed.log_density(obs.z, margins)
    total = jnp.sum(jnp.where(obs.observed, log_density, 0.0), axis=0)

    logit = correctness_logit(obs.z, params)
    log_bernoulli = -jax.nn.softplus(jnp.where(obs.correct, -logit, logit))
    total = total + jnp.sum(jnp.where(obs.labelled, log_bernoulli, 0.0), axis=0)

    if any(family.has_theta for family in copulas):
        points = mixed.point(obs.z, margins)
        for i, family in enumerate(copulas):
            if not family.has_theta:
                continue
            ratio = log_copula_ratio(
                family,
                row_of(points, i),
                row_of(points, i + 1),
                params.theta[i],
                (has_atoms[i], has_atoms[i + 1]),
            )
            both = obs.observed[i] & obs.observed[i + 1]
            total = total + jnp.where(both, ratio, 0.0)
    return total


def row_of(points: MarginPoint, i: int) -> MarginPoint:
    """Return the points of model ``i``, ``(num_queries,)``."""
    return MarginPoint(
        UnitPoint(points.upper.log_u[i], points.upper.log_1mu[i]),
        UnitPoint(points.lower.log_u[i], points.lower.log_1mu[i]),
        points.is_atom[i],
        points.log_mass[i],
    )
