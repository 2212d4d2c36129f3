r"""Observed queries beside the model: a Dirichlet process centred on the Markov copulas.

No chain of copulas has all the dependence that models of one benchmark have: a query that two models are
unsure of, a third is unsure of more often than its neighbour alone tells. The joint distribution of a query's
confidences therefore has a Dirichlet process prior (Ferguson, Annals of Statistics 1, 1973), centred on the
model's draw :math:`M` with the weight of :math:`\alpha` queries. Given n observed queries its posterior is
again a Dirichlet process, of mean :math:`(\alpha M + \sum_q \delta_q) / (\alpha + n)`: few queries leave the
word to the model, and many to themselves (Lyddon, Walker & Holmes, "Nonparametric learning from Bayesian
models with randomized objective functions", NeurIPS 2018). A draw is taken as

.. math::

    v M + \sum_q w_q \delta_q, \qquad
    (v, w_1, \dots, w_n) \sim \mathrm{Dirichlet}\{s (\alpha, 1, \dots, 1)\}, \quad s = n / (n + \alpha),

with :math:`M` in place of the draw that the process would make of it. The factor s makes all of it worth n
queries: the model has learned from those n too, and adds none to them. How often a model is right, given the
confidences, remains the calibration's, whose draws say how far labels are known; what calls cost is what the
queries paid.

A query is followed as far as its confidences are known, and then handed over to the chain: its mass goes on
from the cell of its last known confidence, if that model defers it. Of a policy that is judged, each observed
query is deferred if its own confidence is below the threshold. While thresholds are searched for, a query
lies spread over its cell of the grid (`cascade_bayes.engine.grid`), as the chain's mass does, so that the
objective has derivatives; at the edges of cells both are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.data import CascadeData
from cascade_bayes.engine.costs import call_expense, expense, query_weights
from cascade_bayes.engine.grid import Grid
from cascade_bayes.errors import InputError
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

PRIOR_QUERIES = 10.0
"""How many queries the model counts for, :math:`\\alpha`; others: see `benchmarks/coverage.py`."""


class Rows(NamedTuple):
    """Observed queries under one draw; ``weight`` and ``right`` may carry a leading axis of draws.

    Attributes
    ----------
    cell
        Cell of each confidence, ``(num_models - 1, num_queries)``; 0 where it is not known.
    position
        Position of each confidence on the grid, in terms of those of thresholds, of the same shape; in the
        middle of an atom's cell, and of no meaning where the confidence is not known.
    ends
        1 where a query is handed over to the chain, because its next confidence is not known, else 0,
        ``(num_models - 1, num_queries)``; None if none is.
    cost
        US dollars of a call, ``(num_models, num_queries)``.
    weight
        Weights of the queries; what they lack to 1 is the chain's, ``(num_queries,)``.
    right
        Probability that a model is right, ``(num_models, num_queries)``.
    """

    cell: jax.Array
    position: jax.Array
    ends: jax.Array | None
    cost: jax.Array
    weight: jax.Array
    right: jax.Array

    def share(self, fraction: jax.Array) -> jax.Array:
        """Return the fraction of each query that lies spread over its cell.

        ``fraction`` is that of every cell, ``(num_models - 1, num_cells)``; the result is
        ``(num_models - 1, num_queries)``.
        """
        return jnp.take_along_axis(fraction, self.cell, axis=1)

    def below(self, positions: jax.Array) -> jax.Array:
        """Return 1 for each query that is below a model's threshold, else 0.

        ``positions`` are the thresholds', ``(num_models - 1,)``; the result is
        ``(num_models - 1, num_queries)``.
        """
        return (self.position < positions[:, None]).astype(self.cost.dtype)


class Handed(NamedTuple):
    """Queries that get to a model and whose next confidence is not known.

    Attributes
    ----------
    mass, right
        Their probability by the cell of their confidence, and the part in which the model is right,
        ``(num_models - 1, num_cells)`` both.
    deferred
        Probability of those that the model defers, which go on as the chain does, of the same shape.
    answered, early
        Probability that the model answers, and rightly, and that it abstains early, ``(num_models - 1,)``
        both.
    """

    mass: jax.Array
    right: jax.Array
    deferred: jax.Array
    answered: jax.Array
    early: jax.Array


class Followed(NamedTuple):
    """Where a policy takes the queries on one draw.

    Attributes
    ----------
    path
        Fraction of a query that gets to each model and is followed there, ``(num_models, num_queries)``; the
        same on all draws.
    deferred, early
        Fraction that a model defers, and on which it abstains early, ``(num_models - 1, num_queries)`` both;
        the latter None if none does.
    handed
        Queries whose next confidence is not known, which the chain takes over; None if there are none.
    """

    path: jax.Array
    deferred: jax.Array
    early: jax.Array | None
    handed: Handed | None

    def reach_prob(self, rows: Rows) -> jax.Array:
        """Return the probability of a followed query at each model, ``(num_models,)``."""
        return self.path @ rows.weight

    def right_prob(self, rows: Rows) -> jax.Array:
        """Return the probability of a followed query that a model answers, and rightly, ``(num_models,)``."""
        answered = 1.0 - self.deferred
        if self.early is not None:
            answered = answered - self.early
        stops = jnp.concatenate([answered, jnp.ones_like(self.path[-1:])])
        return jnp.einsum("kq,kq->k", self.path * stops, rows.weight * rows.right)

    def early_prob(self, rows: Rows) -> jax.Array:
        """Return the probability of a followed query that a model abstains on it, ``(num_models - 1,)``."""
        if self.early is None:
            return jnp.zeros(self.deferred.shape[0], self.path.dtype)
        return (self.path[:-1] * self.early) @ rows.weight

    def cost(self, rows: Rows) -> jax.Array:
        """Return what the followed queries pay, weighted, ``()``."""
        return jnp.dot(jnp.sum(self.path * rows.cost, axis=0), rows.weight)


def follow_rows(rows: Rows, deferred: jax.Array, early: jax.Array | None, num_cells: int) -> Followed:
    """Run the queries of one draw.

    What draws share, and what they do not, are kept apart to the end: sums over the queries are then products
    of matrices when many policies are run on many draws.

    Parameters
    ----------
    rows
        One draw.
    deferred
        Fraction of each query that a model defers, ``(num_models - 1, num_queries)``.
    early
        Fraction on which a model abstains early, likewise; None if none does.
    num_cells
        Cells of each model.
    """
    here = jnp.ones_like(rows.cost[0])
    met: list[jax.Array] = []
    handed: list[jax.Array] = []
    for i in range(deferred.shape[0]):
        if rows.ends is not None:
            handed.append(here * rows.ends[i])
            here = here - handed[i]
        met.append(here)
        here = here * deferred[i]
    path = jnp.stack([*met, here])
    if not handed:
        return Followed(path, deferred, early, None)
    cells = jax.nn.one_hot(rows.cell, num_cells, dtype=here.dtype)
    spread = jnp.stack(handed)[..., None] * cells
    weight, own = rows.weight * jnp.stack(handed), rows.right[:-1]
    abstained = jnp.zeros_like(deferred) if early is None else early
    return Followed(
        path,
        deferred,
        early,
        Handed(
            mass=jnp.einsum("q,iql->il", rows.weight, spread),
            right=jnp.einsum("iq,iql->il", rows.weight * own, spread),
            deferred=jnp.einsum("iq,iql->il", rows.weight * deferred, spread),
            answered=jnp.sum(weight * own * (1.0 - deferred - abstained), axis=1),
            early=jnp.sum(weight * abstained, axis=1),
        ),
    )


def inside_cells(position: np.ndarray, cell: np.ndarray, dtype: Any) -> np.ndarray:
    """Return positions in numbers of a type, in which they stay below the upper edges of their cells."""
    most = np.nextafter(np.asarray(cell + 1, dtype), np.asarray(0, dtype))
    return np.minimum(np.asarray(position, dtype), most)


def at_cells(values: jax.Array, cell: jax.Array, like: jax.Array) -> jax.Array:
    """Return the sums of queries' values by cell, of the shape of ``like``, ``(..., num_cells)``."""
    # As a product: many draws and policies share their cells, and scattering takes four times as long.
    return jnp.einsum("...q,...ql->...l", values, jax.nn.one_hot(cell, like.shape[-1], dtype=values.dtype))


def average(rows: Rows) -> Rows:
    r"""Return the queries of the average draw, as one draw, for a policy's loss averaged over draws.

    While nothing is handed over, a policy takes a query the same way on every draw d. Its loss is then linear
    in the weight :math:`w_d` and in :math:`w_d p_d`, p the probability that a model is right: it averages to
    that of :math:`\bar w` and :math:`\overline{w p} / \bar w`.
    """
    weight = jnp.mean(rows.weight, axis=0, keepdims=True)
    right = jnp.mean(rows.weight[:, None] * rows.right, axis=0, keepdims=True)
    return rows._replace(weight=weight, right=right / jnp.where(weight > 0, weight, 1.0)[:, None])


DRAW_AXES: Any = Rows(cell=None, position=None, ends=None, cost=None, weight=0, right=0)  # type: ignore[arg-type]
"""Where the axis of draws is, for `jax.vmap`: what all draws share has none."""

_FOLLOWED_AXES: Any = Followed(path=None, deferred=None, early=None, handed=0)  # type: ignore[arg-type]


def follow_draws(rows: Rows, fraction: jax.Array, early: jax.Array | None = None) -> Followed:
    """Run the queries of many draws, spread over their cells; ``handed`` gets an axis of draws.

    Parameters
    ----------
    rows
        The observed queries under all draws.
    fraction
        Fraction of every cell that a model defers, ``(num_models - 1, num_cells)``.
    early
        Fraction on which a model abstains early, likewise; None if none does.
    """

    def run(rows: Rows) -> Followed:
        abstained = None if early is None else rows.share(early)
        return follow_rows(rows, rows.share(fraction), abstained, fraction.shape[1])

    return jax.vmap(run, in_axes=(DRAW_AXES,), out_axes=_FOLLOWED_AXES)(rows)


class Queries(NamedTuple):
    """Observed queries, of all draws.

    Attributes
    ----------
    z
        Standardised logits of all models of the chain, ``(num_chain_models, num_queries)``.
    cell, position, ends, cost
        The fields of `Rows` with these names, for the cascade's own models.
    weight
        ``(num_draws, num_queries)``.
    place
        Rows of the table in which they stand, ``(num_queries,)``.
    """

    z: jax.Array
    cell: jax.Array
    position: jax.Array
    ends: jax.Array | None
    cost: jax.Array
    weight: jax.Array
    place: np.ndarray

    def padded(self, num_queries: int) -> Queries:
        """Return the arrays with queries of no weight put at their end, to this number."""
        more = 0, num_queries - self.z.shape[1]

        def pad(field: jax.Array) -> jax.Array:
            return jnp.pad(field, ((0, 0), more))

        arrays = {
            name: jax.tree.map(pad, getattr(self, name))
            for name in ("z", "cell", "position", "ends", "cost", "weight")
        }
        return Queries(**arrays, place=np.pad(self.place, more))

    def complete(self) -> Queries:
        """Return those that are followed to the last model, with the weight of all.

        They speak for the others if what is missing is so at random. There must be at least one.
        """
        if self.ends is None:
            return self
        whole = jnp.all(self.ends == 0, axis=0)
        kept = jnp.where(whole, self.weight, 0.0)
        share = jnp.sum(self.weight, axis=1, keepdims=True) / jnp.sum(kept, axis=1, keepdims=True)
        return self._replace(ends=None, weight=kept * share)

    def rows(self, weight: jax.Array, right: jax.Array) -> Rows:
        """Return the queries under one draw, or many, of weights and of probabilities of being right.

        Where a cascade abstains, ``right`` is that of its models; abstaining, never wrong, is added.
        """
        if right.shape[-2] < len(self.cost):
            right = jnp.concatenate([right, jnp.ones_like(right[..., :1, :])], axis=-2)
        return Rows(self.cell, self.position, self.ends, self.cost, weight, right)


def right_prob(z: jax.Array, params: CascadeParams, members: tuple[int, ...]) -> jax.Array:
    """Return the probability that each model of a cascade is right, ``(num_members, num_queries)``.

    Parameters
    ----------
    z
        Standardised logits of all models of the chain, ``(num_chain_models, num_queries)``.
    params
        One draw, of the chain.
    members
        Positions of the cascade's own models in the chain.
    """
    return jax.nn.sigmoid(correctness_logit(z, params))[jnp.asarray(members)]


def find_queries(
    data: CascadeData,
    chain_models: tuple[int, ...],
    members: tuple[int, ...],
    grid: Grid,
    num_draws: int,
    prior_queries: float,
    dtype: jnp.dtype,
    terms: Terms = COSTS_ALONE,
    stand_for: np.ndarray | None = None,
) -> Queries | None:
    """Return the observed queries of a cascade, or None if the model counts for all.

    Parameters
    ----------
    data
        The table of the fit.
    chain_models
        Positions in the table of the models of the chain in which the cascade runs.
    members
        Positions among these of the cascade's own.
    grid
        Cells of the cascade's own models.
    num_draws
        How many draws.
    prior_queries
        How many queries the model counts for; inf for the model alone.
    dtype
        Precision of the arrays.
    terms
        What is paid for; where it can be abstained, abstaining is the last model.
    stand_for
        How many queries each stands for, ``(num_queries,)``; itself alone if None.

    Raises
    ------
    InputError
        If ``prior_queries`` is negative or not a number.
    """
    if not prior_queries >= 0:
        raise InputError(
            f"prior_queries must be at least 0, or inf for the model alone; got {prior_queries!r}."
        )
    own = [chain_models[m] for m in members]
    known = _known(data, chain_models, members)
    used = known[:, 0]
    if np.isinf(prior_queries) or not used.any():
        return None
    z = np.where(data.observed, data.logit_score(), 0.0).T
    spent = expense(data, terms)
    cost = np.where(np.isnan(spent), call_expense(data, terms), spent).T[own]
    stand_for = None if stand_for is None else stand_for[used]
    num_used = int(used.sum())
    count = num_used if stand_for is None else float(stand_for.sum())
    scale = count / (count + prior_queries)
    weight = query_weights(num_used, num_draws, scale, stand_for)
    if prior_queries > 0:
        share = np.random.default_rng(1).beta(scale * prior_queries, scale * count, size=(num_draws, 1))
        weight = weight * (1 - share)
    cell = np.stack([np.where(known[:, i], grid.cells(z[m], i), 0) for i, m in enumerate(own)])
    raw = np.where(known, data.confidence[:, own], data.confidence[:, own].max(initial=0.0, where=known))
    position = grid.places(raw, cell.T, data.confidence_map.select(own)).T
    ends = (known[:, :-1] & ~known[:, 1:]).T
    if terms.abstain_price is None:
        cell, position = cell[:-1], position[:-1]
    else:  # nothing need be known of a query to abstain on it
        ends = np.concatenate([ends, np.zeros_like(ends, shape=(1, len(known)))])
        cost = np.concatenate([cost, np.full((1, len(known)), terms.abstain_price)])
    return Queries(
        z=jax.device_put(z[list(chain_models)][:, used].astype(dtype)),
        cell=jax.device_put(cell[:, used]),
        position=jax.device_put(inside_cells(position[:, used], cell[:, used], dtype)),
        ends=jax.device_put(ends[:, used].astype(dtype)) if ends.any() else None,
        cost=jax.device_put(cost[:, used].astype(dtype)),
        weight=jax.device_put(np.asarray(weight, dtype)),
        place=np.flatnonzero(used),
    )


def _known(data: CascadeData, chain_models: tuple[int, ...], members: tuple[int, ...]) -> np.ndarray:
    """Whether a query can be followed to each model of a cascade, ``(num_queries, num_members)``.

    As far as the confidences of all models of the chain are known. A model that is skipped may have decided
    whether a later one was called, as in the log of a cascade that ran: queries that show the later model are
    then others than those that do not. So where models of the chain are skipped, queries are followed only as
    far as all are. A modular fit skips none, and takes what is missing to be so at random.
    """
    observed = data.observed[:, list(chain_models)]
    known = np.logical_and.accumulate(observed, axis=1)[:, list(members)]
    if list(members) != list(range(len(members))) and not data.observed.all():
        known = np.logical_and.accumulate(known.all(axis=0))[None] & known
    return known
