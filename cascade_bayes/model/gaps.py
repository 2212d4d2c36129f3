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

Labels of one query share its difficulty (`cascade_bayes.model.difficulty`). Where a query has several, the
recursion runs at each node of the difficulty, and the densities are summed.

All evaluations of copulas come first, one call for every family and kind of step, whatever the number of
models: the recursion that follows is sums alone, and the compiled program stays small.

Values that are missing at the end of a query, with nothing seen after them, sum to one and need none of this:
for them the likelihood of the prefix is right as it is. Whether the confidences missing are so at random, or
because a running cascade stopped, makes no difference: given the prefix that was seen, it is ignorable
(Rubin, Biometrika 63, 1976).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import take
from cascade_bayes.copulas import (
    Copula,
    log_cell_ratio_given_u,
    log_cell_ratio_given_v,
    log_cell_ratios,
)
from cascade_bayes.distributions import MarginPoint
from cascade_bayes.model.correctness import log_bernoulli, own_logit, regressor
from cascade_bayes.model.difficulty import find_nodes, given_difficulty
from cascade_bayes.model.observations import Gaps, Observations, State, Way
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint, log_difference


class Factors(NamedTuple):
    """What the likelihood of complete queries has computed already, here of the queries with gaps.

    Attributes
    ----------
    log_density
        Log densities of the margins, ``(num_models, num_gaps)``.
    points
        Confidences as copulas see them, of the same shape.
    log_ratio
        Log copula ratio of neighbours, ``(num_models - 1, num_gaps)``.
    edges
        Ends of the cells, ``(num_models, num_cells + 1)``.
    """

    log_density: jax.Array
    points: MarginPoint
    log_ratio: jax.Array
    edges: UnitPoint


def log_likelihood_with_gaps(
    params: CascadeParams, obs: Observations, gaps: Gaps, copulas: tuple[Copula, ...], factors: Factors
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
    copulas
        Family of each pair of neighbours.
    factors
        What has been computed already; entries of a missing confidence and of its neighbours are not used.
    """
    log_mass = _log_mass(factors.edges)
    ratios = _cell_ratios(params, gaps, copulas, factors, log_mass)

    def of(share: tuple[jax.Array, jax.Array] | None) -> jax.Array:
        return _recursion(params, obs, gaps, factors, log_mass, ratios, share)

    if not gaps.several_labels:  # of a single label the difficulty averages out
        return of(None)
    share, rest, weight = (jnp.asarray(field, dtype=obs.z.dtype) for field in find_nodes())
    return jax.nn.logsumexp(jax.vmap(of)((share, rest)) + jnp.log(weight)[:, None], axis=0)


def _recursion(
    params: CascadeParams,
    obs: Observations,
    gaps: Gaps,
    factors: Factors,
    log_mass: jax.Array,
    ratios: Ratios,
    share: tuple[jax.Array, jax.Array] | None,
) -> jax.Array:
    """Return the log density of each query, were this share harder, and the rest not; of any if None."""
    z, observed, correct, labelled, *_ = obs
    own, x = own_logit(z, params.calibration), regressor(z)
    middle = jnp.asarray(gaps.cells.middle, dtype=z.dtype)
    cell_own, cell_x = own_logit(middle, params.calibration), regressor(middle)

    corr, cell_corr = params.label_corr.at(z), params.label_corr.at(middle)

    def hard(logit: jax.Array, corr: jax.Array) -> jax.Array:
        return logit if share is None else given_difficulty(logit, *share, corr)

    def label(i: int, logit: jax.Array, corr: jax.Array, rows: np.ndarray | slice = slice(None)) -> jax.Array:
        return jnp.where(labelled[i, rows], log_bernoulli(hard(logit, corr), correct[i, rows]), 0.0)

    seen = factors.log_density[0] + label(0, own[0], corr[0])
    hidden = log_mass[0][:, None] + label(0, cell_own[0][:, None], cell_corr[0][:, None])
    for i, step in enumerate(gaps.steps):
        j, effect = i + 1, params.upstream[i + 1]
        seen_before, hidden_before = seen, hidden
        seen, hidden = jnp.zeros_like(seen), jnp.zeros_like(hidden)
        for way in step:
            rows = way.rows
            if way.before == "missing" and way.after == "missing":
                logit = cell_own[j] + effect * cell_x[i][:, None]
                transition = ratios[i, way.states] + log_mass[j]
                moved = _move(hidden_before[:, rows], transition, hard(logit, cell_corr[j]))
                outcome = jnp.where(labelled[j, rows], jnp.where(correct[j, rows], 1, 2), 0)
                hidden = hidden.at[:, rows].set(jnp.take_along_axis(moved, outcome[None, None], axis=0)[0])
            elif way.before == "missing":
                labels = label(j, own[j, rows] + effect * cell_x[i][:, None], corr[j, rows], rows)
                arrived = jax.nn.logsumexp(hidden_before[:, rows] + ratios[i, way.states] + labels, axis=0)
                seen = seen.at[rows].set(arrived + factors.log_density[j, rows])
            elif way.after == "missing":
                labels = label(j, cell_own[j][:, None] + effect * x[i, rows], cell_corr[j][:, None], rows)
                arrived = seen_before[rows] + ratios[i, way.states] + log_mass[j][:, None] + labels
                hidden = hidden.at[:, rows].set(arrived)
            else:
                labels = label(j, own[j, rows] + effect * x[i, rows], corr[j, rows], rows)
                arrived = seen_before[rows] + factors.log_ratio[i, rows] + labels
                seen = seen.at[rows].set(arrived + factors.log_density[j, rows])
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


def _log_mass(edges: UnitPoint) -> jax.Array:
    """Log of the cells' probabilities, ``(num_models, num_cells)``."""
    mass = log_difference(take(edges, np.s_[:, 1:]), take(edges, np.s_[:, :-1]))
    return jnp.maximum(mass, jnp.log(jnp.finfo(mass.dtype).tiny))


Ratios = dict[tuple[int, tuple[State, State]], jax.Array]
"""Log copula ratios by step and way: ``(num_left_cells, num_right_cells)`` where both confidences are
missing, ``(num_cells, num_rows)`` where one is."""


def _cell_ratios(
    params: CascadeParams,
    gaps: Gaps,
    copulas: tuple[Copula, ...],
    factors: Factors,
    log_mass: jax.Array,
) -> Ratios:
    found: Ratios = {}
    for family in dict.fromkeys(copulas):

        def steps(before: State, after: State, family: Copula = family) -> list[tuple[int, Way]]:
            return [
                (i, way)
                for i, step in enumerate(gaps.steps)
                if copulas[i] == family
                for way in step
                if way.states == (before, after)
            ]

        # A value of the continuum next to a missing one.
        if some := steps("point", "missing"):
            pair, row = _places(some)
            edges, mass = take(factors.edges, pair + 1), log_mass[pair + 1]
            u = take(factors.points.upper, (pair, row))
            ratio = log_cell_ratio_given_u(family, u, _turn(edges), mass.T, params.theta[pair])
            found.update(_by_step(some, ratio))
        if some := steps("missing", "point"):
            pair, row = _places(some)
            edges, mass = take(factors.edges, pair), log_mass[pair]
            v = take(factors.points.upper, (pair + 1, row))
            ratio = log_cell_ratio_given_v(family, _turn(edges), v, mass.T, params.theta[pair])
            found.update(_by_step(some, ratio))
        # An atom next to a missing one: once for each atom that occurs, whatever the number of queries.
        for first in (True, False):
            if some := steps("atom", "missing") if first else steps("missing", "atom"):
                cells = [np.unique(gaps.atom[i + (not first), way.rows]) for i, way in some]
                pair = np.repeat([i for i, _ in some], [c.size for c in cells])
                ends = np.concatenate(cells) + np.arange(2)[:, None]
                seen = (pair + (not first), ends)
                missing = (pair + first, np.arange(log_mass.shape[1] + 1)[:, None])
                left, right = (seen, missing) if first else (missing, seen)
                table = _rectangles(family, factors.edges, left, right, log_mass, params.theta[pair])
                table = table[0] if first else table[:, 0]
                start = 0
                for (i, way), distinct in zip(some, cells, strict=True):
                    column = start + np.searchsorted(distinct, gaps.atom[i + (not first), way.rows])
                    found[i, way.states] = table[:, column]
                    start += distinct.size

        if some := steps("missing", "missing"):
            pair = np.array([i for i, _ in some])
            every = np.arange(log_mass.shape[1] + 1)[:, None]
            table = _rectangles(
                family, factors.edges, (pair, every), (pair + 1, every), log_mass, params.theta[pair]
            )
            found.update({(i, way.states): table[:, :, k] for k, (i, way) in enumerate(some)})
    return found


Ends = tuple[np.ndarray, np.ndarray]
"""Ends of consecutive cells: the model, ``(n,)``, and the edges, ``(num_ends, n or 1)``."""


def _rectangles(
    copula: Copula, edges: UnitPoint, left: Ends, right: Ends, log_mass: jax.Array, theta: jax.Array
) -> jax.Array:
    """Log copula ratio of cells against cells, ``(num_left_cells, num_right_cells, n)``."""
    u, v = take(edges, left), take(edges, right)
    left_mass, right_mass = (log_mass[model, ends[:-1]] for model, ends in (left, right))
    return log_cell_ratios(
        copula,
        take(u, np.s_[:, None]),
        take(v, np.s_[None]),
        left_mass[:, None] + right_mass[None],
        theta,
    )


def _places(steps: list[tuple[int, Way]]) -> tuple[np.ndarray, np.ndarray]:
    """Step and query of each of some steps' queries, one after another."""
    pair = np.repeat([i for i, _ in steps], [way.rows.size for _, way in steps])
    return pair, np.concatenate([way.rows for _, way in steps])


def _by_step(steps: list[tuple[int, Way]], columns: jax.Array) -> Ratios:
    """Cut columns that lie in the order of `_places`."""
    ends = np.cumsum([way.rows.size for _, way in steps])
    parts = jnp.split(columns, ends[:-1], axis=1)
    return {(i, way.states): part for (i, way), part in zip(steps, parts, strict=True)}


def _turn(points: UnitPoint) -> UnitPoint:
    return UnitPoint(points.log_u.T, points.log_1mu.T)
