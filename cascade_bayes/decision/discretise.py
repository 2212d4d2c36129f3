"""A posterior on a grid: the draws of one of its cascades as finite chains."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import room_for
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.costs import call_cost_draws, find_trend, need_latency
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.grid import Grid, cells_for, make_grid
from cascade_bayes.engine.rows import PRIOR_QUERIES, find_queries
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.readable import find_scale
from cascade_bayes.policy.terms import COSTS_ALONE, Terms


def discretise(
    posterior: Posterior,
    models: Sequence[str] | None = None,
    num_draws: int | None = None,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
    whole_grid: Grid | None = None,
    terms: Terms = COSTS_ALONE,
) -> Discretised:
    """Lay a grid for posterior draws.

    Parameters
    ----------
    posterior
        The fit.
    models
        Models of the cascade, a subset in cascade order; all if None. Where the fit is one chain, models
        left out are integrated over: the dependence between the ones kept runs through them. A modular
        fit has the dependence of every pair.
    num_draws
        Evenly spaced; all if None.
    num_cells
        Cells of the grid per model; if None, `cells_for` as many atoms as there are.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`).
    whole_grid
        Cells of all models of the fit, in place of a grid laid for this cascade: several of its cascades
        then have their thresholds on one.
    terms
        What is paid for besides calls and wrong answers.

    Raises
    ------
    InputError
        For models that are not in the posterior, or not in its order, or a negative ``prior_queries``; if
        latency has a price and is not known of one of them.
    """
    members = posterior.members(models)
    index = list(members)
    need_latency(posterior.data, members, terms)
    chain = posterior.sub_cascade(members, num_draws)
    if whole_grid is None:
        cells = cells_for(chain.layout) if num_cells is None else num_cells
        grid = make_grid(chain.params, chain.layout, cells)
    else:
        in_grid = slice(None) if posterior.spec.structure == "chain" else index
        grid = Grid(*(field[in_grid] for field in whole_grid))
    dtype = chain.params.intercept.dtype
    num_draws = len(chain.params.intercept)
    data, stand_for = table_of(posterior)
    cost = call_cost_draws(data, num_draws, terms, stand_for)[:, index]
    if terms.abstain_price is not None:
        cost = np.concatenate([cost, np.full((num_draws, 1), terms.abstain_price)], axis=1)
    trend = find_trend(data, members, terms, num_draws, stand_for)
    own = Grid(*(field[list(chain.members)] for field in grid))
    in_chain = tuple(range(len(posterior.models))) if posterior.spec.structure == "chain" else members
    queries = find_queries(
        data, in_chain, chain.members, own, num_draws, prior_queries, dtype, terms, stand_for
    )
    return Discretised(
        members=members,
        chain=chain,
        chain_grid=grid,
        confidence_map=posterior.confidence_map.select(index),
        scales=tuple(
            find_scale(posterior.data.confidence[:, m], chain.layout.raw[own], chain.layout.continuous[own])
            for m, own in zip(members, chain.members, strict=True)
        ),
        call_cost=jnp.asarray(cost, dtype=dtype),
        queries=None if queries is None else queries.padded(room_for(queries.z.shape[1])),
        trend=jax.tree.map(lambda field: jnp.asarray(field, dtype=dtype), trend),
        terms=terms,
    )
