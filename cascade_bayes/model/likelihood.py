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

What is not observed contributes no factor at the end of a query: for a prefix of the chain (later models not
called) this is the exact marginal density. A gap before something that was seen is integrated over
(`cascade_bayes.model.gaps`).

Source: Zellinger & Thomson (arXiv 2501.09345), equations 3 to 9.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas import Copula, Kind, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.model.correctness import correctness_logit, log_bernoulli
from cascade_bayes.model.gaps import log_likelihood_with_gaps
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import CascadeParams


def log_likelihood(
    params: CascadeParams,
    obs: Observations,
    copulas: tuple[Copula, ...],
    kinds: tuple[Kind, ...],
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
    kinds
        Static: what each model's confidences can be, see `AtomLayout.kinds`.
    """
    if obs.gaps is None:
        return _log_likelihood_of_prefixes(params, obs, copulas, kinds)

    rows, others = obs.gaps.rows, obs.gaps.others
    prefixes = _log_likelihood_of_prefixes(params, obs.take(others), copulas, kinds)
    with_gaps = log_likelihood_with_gaps(params, obs.take(rows), obs.gaps, copulas, kinds)
    total = jnp.zeros(obs.z.shape[1], dtype=obs.z.dtype)
    return total.at[others].set(prefixes).at[rows].set(with_gaps)


def _log_likelihood_of_prefixes(
    params: CascadeParams, obs: Observations, copulas: tuple[Copula, ...], kinds: tuple[Kind, ...]
) -> jax.Array:
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    log_density = mixed.log_density(obs.z, margins)
    total = jnp.sum(jnp.where(obs.observed, log_density, 0.0), axis=0)

    labels = log_bernoulli(correctness_logit(obs.z, params), obs.correct)
    total = total + jnp.sum(jnp.where(obs.labelled, labels, 0.0), axis=0)

    if any(family.has_theta for family in copulas):
        points = mixed.point(obs.z, margins)
        for i, family in enumerate(copulas):
            if not family.has_theta:
                continue
            pair = row_of(points, i), row_of(points, i + 1)
            ratio = log_copula_ratio(family, *pair, params.theta[i], (kinds[i], kinds[i + 1]))
            both = obs.observed[i] & obs.observed[i + 1]
            total = total + jnp.where(both, ratio, 0.0)
    return total


def row_of(points: MarginPoint, i: int) -> MarginPoint:
    """Return the points of model ``i``, ``(num_queries,)``."""
    return jax.tree.map(lambda field: field[i], points)
