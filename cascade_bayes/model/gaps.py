r"""The density of queries with gaps: what was not seen is integrated over.

A query may lack the confidence of a model while a later one, or a label that depends on it, is known. Cut the
missing confidence's scale into cells, each atom being a cell of its own. Given the cell, the chain starts
afresh: a cell :math:`m` of mass :math:`w_m` takes part in the pair likelihood as an atom does
(`cascade_bayes.copulas.pair`), and the density is a sum over paths of cells, computed by the forward
recursion

.. math::

    \alpha_{i+1}(m') = \sum_m \alpha_i(m)\, r_i(m, m')\, w_{m'}\, \mathrm{Bernoulli}(y_{i+1}; p_{i+1}(m', m)),

in which a confidence that was seen is a single point with its density in place of :math:`w_{m'}`. For atoms
this is exact; within a continuous cell the copula density is replaced by its mean, and the rate of being
right by that at the cell's middle, errors of second order in the cell's width.

Values that are missing at the end of a query, with nothing seen after them, sum to one and need none of this:
for them the likelihood of the prefix is right as it is. Whether the confidences missing are so at random, or
because a running cascade stopped, makes no difference: given the prefix that was seen, it is ignorable
(Rubin, Biometrika 63, 1976).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas import Copula, Kind, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.model.correctness import log_bernoulli, own_logit, regressor
from cascade_bayes.model.observations import Cells, Gaps, Observations
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint, log_difference


def log_likelihood_with_gaps(
    params: CascadeParams,
    obs: Observations,
    gaps: Gaps,
    copulas: tuple[Copula, ...],
    kinds: tuple[Kind, ...],
) -> jax.Array:
    """Return the log density of each query with gaps, ``(num_gaps,)``.

    Parameters
    ----------
    params
        One draw of the parameters.
    obs
        The queries with gaps alone, ``(num_models, num_gaps)``.
    gaps
        Their pattern.
    copulas, kinds
        As in `cascade_bayes.model.likelihood.log_likelihood`.
    """
    z, observed, correct, labelled, _ = obs
    margins = jax.tree.map(lambda field: field[:, None], params.margins)
    log_density = mixed.log_density(z, margins)
    points = mixed.point(z, margins)
    own, x = own_logit(z, params), regressor(z)
    cells = [_cell_points(cell, params, i) for i, cell in enumerate(gaps.cells)]
    cell_own = [_own_logit_of(jnp.asarray(cell.middle), params, i) for i, cell in enumerate(gaps.cells)]
    cell_x = [regressor(jnp.asarray(cell.middle, dtype=z.dtype)) for cell in gaps.cells]

    def label(i: int, logit: jax.Array, rows: np.ndarray | slice = slice(None)) -> jax.Array:
        return jnp.where(labelled[i, rows], log_bernoulli(logit, correct[i, rows]), 0.0)

    def at(i: int, rows: np.ndarray) -> MarginPoint:
        return jax.tree.map(lambda field: field[i, rows], points)

    seen = log_density[0] + label(0, own[0])
    hidden = cells[0].log_mass[:, None] + label(0, cell_own[0][:, None])
    for i, (step, copula) in enumerate(zip(gaps.steps, copulas, strict=True)):
        j, theta, effect = i + 1, params.theta[i], params.upstream[i + 1]
        column, row = (jax.tree.map(lambda f: f[:, None], cell) for cell in (cells[i], cells[j]))
        seen_before, hidden_before = seen, hidden
        seen = jnp.zeros_like(seen)
        hidden = jnp.zeros((len(gaps.cells[j].lower), seen.shape[0]), dtype=z.dtype)
        if (rows := step.seen_seen).size:
            ratio = log_copula_ratio(copula, at(i, rows), at(j, rows), theta, (kinds[i], kinds[j]))
            labels = label(j, own[j, rows] + effect * x[i, rows], rows)
            seen = seen.at[rows].set(seen_before[rows] + ratio + log_density[j, rows] + labels)
        if (rows := step.seen_missing).size:
            ratio = log_copula_ratio(copula, at(i, rows), row, theta, (kinds[i], "atoms"))
            labels = label(j, cell_own[j][:, None] + effect * x[i, rows], rows)
            hidden = hidden.at[:, rows].set(seen_before[rows] + ratio + row.log_mass + labels)
        if (rows := step.missing_seen).size:
            ratio = log_copula_ratio(copula, column, at(j, rows), theta, ("atoms", kinds[j]))
            labels = label(j, own[j, rows] + effect * cell_x[i][:, None], rows)
            total = jax.nn.logsumexp(hidden_before[:, rows] + ratio + labels, axis=0)
            seen = seen.at[rows].set(total + log_density[j, rows])
        if (rows := step.missing_missing).size:
            across = jax.tree.map(lambda f: f[None, :], cells[j])
            ratio = log_copula_ratio(copula, column, across, theta, ("atoms", "atoms"))
            logit = cell_own[j] + effect * cell_x[i][:, None]
            moved = _move(hidden_before[:, rows], ratio + across.log_mass, logit)
            outcome = jnp.where(labelled[j, rows], jnp.where(correct[j, rows], 1, 2), 0)
            hidden = hidden.at[:, rows].set(jnp.take_along_axis(moved, outcome[None, None], axis=0)[0])
    return jnp.where(observed[-1], seen, jax.nn.logsumexp(hidden, axis=0))


def _move(log_alpha: jax.Array, log_transition: jax.Array, logit: jax.Array) -> jax.Array:
    """Messages after a step from cells to cells: without a label, with a right and with a wrong answer."""
    tables = jnp.exp(
        jnp.stack(
            [
                log_transition,
                log_transition + log_bernoulli(logit, jnp.array(True)),
                log_transition + log_bernoulli(logit, jnp.array(False)),
            ]
        )
    )
    top = jnp.max(log_alpha, axis=0)
    moved = jnp.einsum("clm,lr->cmr", tables, jnp.exp(log_alpha - top))
    return top + jnp.log(jnp.maximum(moved, jnp.finfo(moved.dtype).tiny))


def _cell_points(cells: Cells, params: CascadeParams, i: int) -> MarginPoint:
    """Cells of model ``i`` as a copula sees atoms."""
    margin = params.margin(i)
    dtype = params.intercept.dtype
    low = mixed.point(jnp.asarray(cells.lower, dtype=dtype), margin)
    high = mixed.point(jnp.asarray(cells.upper, dtype=dtype), margin)
    is_atom = jnp.asarray(cells.is_atom)

    def choose(at_atom: UnitPoint, between: UnitPoint) -> UnitPoint:
        return jax.tree.map(lambda a, b: jnp.where(is_atom, a, b), at_atom, between)

    lower, upper = choose(low.lower, low.upper), choose(high.upper, high.lower)
    mass = log_difference(upper, lower)
    log_mass = jnp.maximum(mass, jnp.log(jnp.finfo(dtype).tiny))
    return MarginPoint(upper, lower, jnp.ones(is_atom.shape, dtype=bool), log_mass)


def _own_logit_of(z: jax.Array, params: CascadeParams, i: int) -> jax.Array:
    one = jax.tree.map(lambda field: field[i : i + 1], params._replace(theta=params.intercept))
    return own_logit(z[None], one)[0]
