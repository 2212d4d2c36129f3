"""A posterior on a grid: its draws as finite chains, and what thresholds on it mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import room_for
from cascade_bayes.decision.chain import ChainTables, tables_for_draws
from cascade_bayes.decision.coordinate import Thresholds
from cascade_bayes.decision.costs import CostTrend, call_cost_draws, find_trend, need_latency
from cascade_bayes.decision.forward import Outcome, outcomes_for_draws
from cascade_bayes.decision.grid import Grid, cells_for, make_grid
from cascade_bayes.decision.policy import Cuts
from cascade_bayes.decision.readable import Scale, find_scale, readable
from cascade_bayes.decision.rows import PRIOR_QUERIES, Queries, find_queries
from cascade_bayes.decision.table import table_of
from cascade_bayes.decision.terms import COSTS_ALONE, Terms
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior, SubCascade
from cascade_bayes.transforms import ConfidenceMap


class Discretised(NamedTuple):
    """Posterior draws of one cascade on a grid.

    Attributes
    ----------
    members
        Positions of its models among those of the fit.
    chain
        The draws, of the chain in which it runs.
    chain_grid
        Cells of all models of that chain.
    confidence_map
        Of its own models: grid positions to raw thresholds and back.
    scales
        Confidences of its own models that thresholds have to tell apart, one a model.
    call_cost
        Draws of the mean US dollars per call, latency included if it has a price,
        ``(num_draws, num_models)``; where queries may be left without an answer, that is a last model.
    queries
        Observed queries beside the chain; None if it counts for all.
    trend
        Draws of how costs go with confidences; None if they do not.
    terms
        What is paid for.
    """

    members: tuple[int, ...]
    chain: SubCascade
    chain_grid: Grid
    confidence_map: ConfidenceMap
    scales: tuple[Scale, ...]
    call_cost: jax.Array
    queries: Queries | None
    trend: CostTrend | None
    terms: Terms

    @property
    def abstains(self) -> bool:
        """Whether queries may be left without an answer."""
        return self.terms.abstain_price is not None

    @property
    def num_thresholds(self) -> int:
        """Models that can send a query on: all but the last, and the last where it may abstain."""
        return len(self.members) - 1 + self.abstains

    @property
    def grid(self) -> Grid:
        """Cells of its own models."""
        own = list(self.chain.members)
        return Grid(*(field[own] for field in self.chain_grid))

    @property
    def is_atom(self) -> jax.Array:
        """Which cells are atoms, ``(num_models, num_cells)``."""
        return jnp.asarray(self.grid.is_atom)

    def positions(self, cuts: Cuts) -> Thresholds:
        """Return the grid positions of raw thresholds.

        Raises
        ------
        InputError
            If a model abstains that may not, or above its threshold.
        """
        check_cuts(cuts, self.terms)
        defer, early = np.asarray(cuts.thresholds, dtype=float), None
        if self.abstains:
            abstain = np.full((*defer.shape[:-1], len(self.members)), -np.inf)
            if cuts.abstain is not None:
                abstain[...] = cuts.abstain
            defer = np.concatenate([defer, abstain[..., -1:]], axis=-1)
            if self.terms.abstains_early:
                abstain[..., -1] = -np.inf  # the last model's is the deferral to abstaining
                early = self._place(abstain)
        return Thresholds(self._place(defer), early)

    def _place(self, raw: np.ndarray) -> jax.Array:
        return jnp.asarray(self.grid.positions(raw, self.confidence_map), self.call_cost.dtype)

    def raw(self, z: np.ndarray, place: int) -> np.ndarray:
        """Return the raw confidences of standardised logits of the model at a place of the cascade.

        Those at an atom are the atom's own, to the last digit: thresholds stand just at or above them.
        """
        layout, m = self.chain.layout, self.chain.members[place]
        found = self.confidence_map.from_logit(np.asarray(z, dtype=float), model=place)
        for loc, raw in zip(layout.locs[m], layout.raw[m], strict=True):
            found = np.where(np.asarray(z) == np.asarray(loc, dtype=self.call_cost.dtype), raw, found)
        return found

    def cuts(self, at: Thresholds) -> Cuts:
        """Return the raw thresholds of grid positions, moved a little to be `readable`.

        What they do is what `positions` of them say.
        """
        raw = self._readable(at.defer)
        if not self.abstains:
            return Cuts(raw, None)
        early = np.full_like(raw[..., :-1], -np.inf)
        if at.early is not None:
            # Between the same two confidences they might have changed places.
            early = np.minimum(self._readable(np.asarray(at.early)[..., :-1]), raw[..., :-1])
        return Cuts(raw[..., :-1], np.concatenate([early, raw[..., -1:]], axis=-1))

    def _readable(self, positions: Any) -> np.ndarray:
        raw = self.grid.thresholds(np.asarray(positions), self.confidence_map)
        for i in range(raw.shape[-1]):
            raw[..., i] = readable(raw[..., i], self.scales[i], self.confidence_map, i)
        return raw

    def tables(self) -> ChainTables:
        """Return every draw as a finite chain; fields have a leading axis of draws, and are large."""
        params, _, copulas, members = self.chain
        return tables_for_draws(
            params, self.chain_grid, copulas, members, self.queries, self.trend, self.abstains
        )

    def outcomes(self, at: Thresholds) -> Outcome:
        """Return what policies do on every draw, without keeping the draws' tables.

        Parameters
        ----------
        at
            Thresholds on the grid, fields ``(num_policies, num_thresholds)``.

        Returns
        -------
        Outcome
            Fields ``(num_policies, num_draws, ...)``.
        """
        params, _, copulas, members = self.chain
        return outcomes_for_draws(
            params,
            self.chain_grid,
            copulas,
            members,
            self.call_cost,
            at.defer,
            self.queries,
            self.trend,
            self.abstains,
            at.early,
        )


def check_cuts(cuts: Cuts, terms: Terms) -> None:
    """Raise `InputError` if a model abstains that may not under the terms, or above its threshold."""
    if cuts.abstain is None:
        return
    low = np.asarray(cuts.abstain, dtype=float)
    if np.any(low[..., :-1] > np.asarray(cuts.thresholds, dtype=float)):
        raise InputError("abstain must not be above thresholds: below it no query would be deferred.")
    if terms.abstain == "final" and np.any(low[..., :-1] > -np.inf):
        raise InputError("a model before the last abstains, which the terms leave to the last (final).")
    if terms.abstain_price is None and np.any(low > -np.inf):
        raise InputError("these thresholds abstain, which needs terms with an abstain_price.")


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
        How many queries the model counts for beside the observed ones (`cascade_bayes.decision.rows`).
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
