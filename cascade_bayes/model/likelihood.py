r"""The density of a table of confidences and labels under one cascade.

For one query with confidences :math:`z_1..z_k` (standardised logits) and labels :math:`y_1..y_k`,

.. math::

    p(z, y) = \prod_i f_i(z_i) \prod_{i<k} r_i(z_i, z_{i+1})
              \int \prod_i \mathrm{Bernoulli}\{y_i; p_i(z_i, z_{i-1}, u)\} \, dF(u),

with :math:`f_i` the margin (density, or mass at an atom), :math:`r_i` the copula ratio of
neighbours (`cascade_bayes.copulas.pair`) and
:math:`p_i(z_i, z_{i-1}) = \sigma\{a_i + b_i x(z_i) + c_i x(z_{i-1}) + e_i(z_i)\}`, without
:math:`c_i x(z_{i-1})` for the first model, on average over the query's difficulty u, which all its models
share (`cascade_bayes.model.difficulty`). It is a Markov chain in :math:`z`: given an atom at model i,
what comes next depends on the atom, not
on where inside its probability the query "would have" stood.

What is not observed contributes no factor at the end of a query: for a prefix of the chain (later models not
called) this is the exact marginal density. A gap before something that was seen is integrated over
(`cascade_bayes.model.gaps`).

Source: Zellinger & Thomson (arXiv 2501.09345), equations 3 to 9.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import take
from cascade_bayes.copulas import Copula, Kind, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import log_labels
from cascade_bayes.model.gaps import Factors, log_likelihood_with_gaps
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
    z, observed, correct, labelled, gaps, _ = obs
    margins = jax.tree.map(lambda field: field[:, None, :], params.margins)
    log_density = mixed.log_density(z, margins)
    labels = log_labels(correctness_logit(z, params), z, correct, labelled, params.label_corr)
    # One call for confidences and ends of cells: the incomplete beta function is most of the program.
    ends = np.zeros((len(z), 0)) if gaps is None else gaps.cells.edge
    everywhere = mixed.point(jnp.concatenate([z, jnp.asarray(ends, dtype=z.dtype)], axis=1), margins)
    points, at_ends = take(everywhere, np.s_[:, : z.shape[1]]), take(everywhere, np.s_[:, z.shape[1] :])
    log_ratio = _log_ratios(points, params.theta, copulas, kinds)

    total = jnp.sum(jnp.where(observed, log_density, 0.0), axis=0) + labels
    total = total + jnp.sum(jnp.where(observed[:-1] & observed[1:], log_ratio, 0.0), axis=0)
    if gaps is None:
        return total
    edges = jax.tree.map(lambda a, b: jnp.where(gaps.cells.after, a, b), at_ends.upper, at_ends.lower)
    rows = np.s_[:, gaps.rows]
    factors = Factors(log_density[rows], take(points, rows), log_ratio[rows], edges)
    return total.at[gaps.rows].set(
        log_likelihood_with_gaps(params, obs.take(gaps.rows), gaps, copulas, factors)
    )


def _log_ratios(
    points: MarginPoint, theta: jax.Array, copulas: tuple[Copula, ...], kinds: tuple[Kind, ...]
) -> jax.Array:
    """Log copula ratio of neighbours, ``(num_models - 1, num_queries)``; one call for all pairs alike."""
    result = jnp.zeros((len(copulas), points.is_atom.shape[1]), dtype=points.log_mass.dtype)
    alike: dict[tuple[Copula, tuple[Kind, Kind]], list[int]] = {}
    for i, (family, sides) in enumerate(zip(copulas, itertools.pairwise(kinds), strict=True)):
        if family.has_theta:
            alike.setdefault((family, sides), []).append(i)
    for (family, sides), pairs in alike.items():
        left = np.array(pairs)
        ratio = log_copula_ratio(family, take(points, left), take(points, left + 1), theta[left, None], sides)
        result = result.at[left].set(ratio)
    return result
