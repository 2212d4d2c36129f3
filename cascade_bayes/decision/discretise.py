"""A posterior on a grid: the draws of its cascades as finite chains."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import room_for
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.cell_tables import Parts, find_parts
from cascade_bayes.engine.costs import CostTrend, call_cost_draws, find_trend, need_latency
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.grid import Grid, cells_for, make_grid
from cascade_bayes.engine.parts import SharedParts, collect
from cascade_bayes.engine.rows import PRIOR_QUERIES, find_queries
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.sub_cascade import SubCascade
from cascade_bayes.policy.readable import find_scale
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

MOST_SHARED = 8
"""Models of which the steps of all pairs are kept together, at most; of more, those of neighbours."""

NUM_RECENT = 2
"""Fits of which the steps are kept for the next question: those of five models take 200 MB."""

_recent: OrderedDict[tuple[Any, ...], tuple[Posterior, SharedParts]] = OrderedDict()


class OnGrid:
    """Posterior draws of some models of a fit on one grid, from which its cascades are put together.

    Parameters
    ----------
    posterior
        The fit.
    models
        Names of the models, in cascade order; all if None.
    num_draws
        Posterior draws, evenly spaced; all if None.
    num_cells
        Cells of the grid per model; if None, `cells_for` as many atoms as there are.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`).
    terms
        What is paid for besides calls and wrong answers.

    Raises
    ------
    InputError
        For models that are not in the posterior, or not in its order, or no draws.
    """

    def __init__(
        self,
        posterior: Posterior,
        models: Sequence[str] | None = None,
        num_draws: int | None = None,
        num_cells: int | None = None,
        prior_queries: float = PRIOR_QUERIES,
        terms: Terms = COSTS_ALONE,
    ) -> None:
        self.posterior, self.terms, self.prior_queries = posterior, terms, prior_queries
        self._all = posterior.members(models)
        # A modular fit has a chain of every cascade; in one that is a chain all cascades run.
        self._modular = posterior.spec.structure != "chain"
        whole = posterior.sub_cascade(self._all, num_draws)
        self.num_draws = len(whole.params.intercept)
        cells = cells_for(whole.layout) if num_cells is None else num_cells
        self._grid = make_grid(whole.params, whole.layout, cells)
        self._in_grid = self._all if self._modular else tuple(range(len(posterior.models)))
        self.num_cells = self._grid.num_cells
        shares = len(self._all) <= MOST_SHARED
        self._pairs = tuple((itertools.combinations if shares else _neighbours)(self._all, 2))

    def cascade(self, models: Sequence[str] | None = None) -> Discretised:
        """Return one cascade of the models; all if None.

        Raises
        ------
        InputError
            If latency has a price and is not known of one of its models, or for a negative
            ``prior_queries``.
        """
        posterior, terms, num_draws = self.posterior, self.terms, self.num_draws
        members = self._all if models is None else posterior.members(models)
        index = list(members)
        need_latency(posterior.data, members, terms)
        data, stand_for = table_of(posterior)
        cost = call_cost_draws(data, num_draws, terms, stand_for)[:, index]
        if terms.abstain_price is not None:
            cost = np.concatenate([cost, np.full((num_draws, 1), terms.abstain_price)], axis=1)
        chain_models = members if self._modular else self._in_grid
        own = tuple(chain_models.index(m) for m in members)
        chain_grid = self._grid_of(chain_models)
        dtype = jnp.zeros(()).dtype
        queries = find_queries(
            data,
            chain_models,
            own,
            self._grid_of(members),
            num_draws,
            self.prior_queries,
            dtype,
            terms,
            stand_for,
        )
        layout = posterior.spec.layout
        trend = find_trend(data, members, terms, num_draws, stand_for)
        return Discretised(
            members=members,
            find_chain=cache(partial(posterior.sub_cascade, members, num_draws)),
            chain_members=own,
            layout=layout.select(chain_models),
            chain_grid=chain_grid,
            confidence_map=posterior.confidence_map.select(index),
            scales=tuple(
                find_scale(posterior.data.confidence[:, m], layout.raw[m], layout.continuous[m])
                for m in members
            ),
            call_cost=jax.device_put(cost.astype(dtype)),
            queries=None if queries is None else queries.padded(room_for(queries.z.shape[1])),
            trend=jax.tree.map(lambda field: jax.device_put(field.astype(dtype)), trend),
            terms=terms,
            parts=self._parts,
            room=len(self._all) - 1 + (terms.abstain_price is not None),
        )

    def _grid_of(self, members: tuple[int, ...]) -> Grid:
        at = [self._in_grid.index(m) for m in members]
        return Grid(*(field[at] for field in self._grid))

    def _parts(self) -> SharedParts:
        """Return the parts of all cascades, which are kept while few other fits are asked about."""
        observed = bool(np.isfinite(self.prior_queries))
        how = self._all, self.num_draws, self.num_cells, observed, self.terms
        key = (id(self.posterior), *how)
        posterior, parts = _recent.pop(key, (None, None))
        if parts is None or posterior is not self.posterior:
            parts = self._find_parts(observed)
        _recent[key] = self.posterior, parts
        while len(_recent) > NUM_RECENT:
            _recent.popitem(last=False)
        return parts

    def _find_parts(self, observed: bool) -> SharedParts:
        if self._modular:
            models = [(m,) for m in self._all]
            chains = self.posterior.sub_cascades([*models, *self._pairs], self.num_draws)
            alone, in_pairs = chains[: len(models)], chains[len(models) :]
            starts = {
                own[0]: self._parts_of(own, chain, (0,), (), observed)
                for own, chain in zip(models, alone, strict=True)
            }
            steps = {
                pair: (self._parts_of(pair, chain, (), ((0, 1),), observed), 0, 1)
                for pair, chain in zip(self._pairs, in_pairs, strict=True)
            }
        else:
            chain = self.posterior.sub_cascade(self._in_grid, self.num_draws)
            whole = self._parts_of(self._in_grid, chain, self._all, self._pairs, observed)
            starts = {}
            for m, start in zip(self._all, whole.starts, strict=True):
                right = None if whole.right is None else whole.right[:, m : m + 1]
                starts[m] = whole._replace(starts=(start,), right=right)
            steps = {pair: (whole, at, pair[1]) for at, pair in enumerate(self._pairs)}
        return collect(starts, steps, self.terms.abstain_price is not None)

    def _parts_of(
        self,
        members: tuple[int, ...],
        chain: SubCascade,
        starts: tuple[int, ...],
        pairs: tuple[tuple[int, int], ...],
        observed: bool,
    ) -> Parts:
        """Return starts and steps by the positions of their models in the chain of some members."""
        dtype = chain.params.intercept.dtype
        grid = self._grid_of(members)
        data, stand_for = table_of(self.posterior)
        z = None
        if observed:
            known = np.where(data.observed, data.logit_score(), 0.0).T[list(members)]
            z = np.pad(known, ((0, 0), (0, room_for(known.shape[1]) - known.shape[1]))).astype(dtype)
        trend: Any = None
        if pairs and not self.terms.constant_costs:
            each = [
                find_trend(data, [members[i] for i in pair], self.terms, self.num_draws, stand_for)
                for pair in pairs
            ]
            trend = CostTrend(*(np.concatenate(field, axis=1) for field in zip(*each, strict=True)))  # type: ignore[arg-type]
            trend = jax.tree.map(lambda field: field.astype(dtype), trend)
        edges = grid.edges.astype(dtype)
        draws = chain.params, trend
        return find_parts(draws, edges, grid.is_atom, z, chain.copulas, starts=starts, pairs=pairs)


def _neighbours(members: tuple[int, ...], _: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise(members))


def discretise(
    posterior: Posterior,
    models: Sequence[str] | None = None,
    num_draws: int | None = None,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
    terms: Terms = COSTS_ALONE,
) -> Discretised:
    """Lay a grid for the posterior draws of one cascade.

    Parameters
    ----------
    posterior, models, num_draws, num_cells, prior_queries, terms
        The same as for `OnGrid`. Where the fit is one chain, models left out are integrated over: the
        dependence between the ones kept runs through them. A modular fit has the dependence of every pair.

    Raises
    ------
    InputError
        For models that are not in the posterior, or not in its order, or a negative ``prior_queries``; if
        latency has a price and is not known of one of them.
    """
    return OnGrid(posterior, models, num_draws, num_cells, prior_queries, terms).cascade()
