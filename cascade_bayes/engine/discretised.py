"""A cascade on a grid: its draws as finite chains, and what thresholds on it mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions, on_host
from cascade_bayes.engine.costs import CostTrend, in_32_bits
from cascade_bayes.engine.forward import Outcome, outcomes_for_draws
from cascade_bayes.engine.grid import Grid
from cascade_bayes.engine.parts import SharedParts
from cascade_bayes.engine.rows import Queries
from cascade_bayes.errors import InputError
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.sub_cascade import SubCascade
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.readable import Scale, readable
from cascade_bayes.policy.terms import Terms
from cascade_bayes.transforms import ConfidenceMap


class Discretised(NamedTuple):
    """Posterior draws of one cascade on a grid.

    Attributes
    ----------
    members
        Positions of its models among those of the fit.
    find_chain
        Gives the draws, of the chain in which it runs.
    chain_members
        Positions of its models in that chain.
    layout
        Atoms of the models of that chain.
    chain_grid
        Cells of all models of that chain.
    confidence_map
        Carries grid positions of its own models to raw thresholds, and back.
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
    parts
        Gives what it is put together from, and others with it.
    room
        Models that can send queries on for which its tables have room.
    """

    members: tuple[int, ...]
    find_chain: Callable[[], SubCascade]
    chain_members: tuple[int, ...]
    layout: AtomLayout
    chain_grid: Grid
    confidence_map: ConfidenceMap
    scales: tuple[Scale, ...]
    call_cost: jax.Array
    queries: Queries | None
    trend: CostTrend | None
    terms: Terms
    parts: Callable[[], SharedParts]
    room: int

    @property
    def chain(self) -> SubCascade:
        """Posterior draws of the chain in which it runs."""
        return self.find_chain()

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
        own = list(self.chain_members)
        return Grid(*(field[own] for field in self.chain_grid))

    @property
    def is_atom(self) -> jax.Array:
        """Which cells are atoms, ``(num_models, num_cells)``."""
        return jnp.asarray(self.grid.is_atom)

    def positions(self, cuts: Cuts) -> Positions:
        """Return the grid positions of raw thresholds, as NumPy arrays.

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
        return on_host(self._place(defer), early)

    def _place(self, raw: np.ndarray) -> np.ndarray:
        return self.grid.positions(raw, self.confidence_map).astype(self.call_cost.dtype)

    def raw(self, z: np.ndarray, place: int) -> np.ndarray:
        """Return the raw confidences of standardised logits of the model at a place of the cascade.

        Those at an atom are the atom's own, to the last digit: thresholds stand just at or above them.
        """
        layout, m = self.layout, self.chain_members[place]
        found = self.confidence_map.from_logit(np.asarray(z, dtype=float), model=place)
        for loc, raw in zip(layout.locs[m], layout.raw[m], strict=True):
            found = np.where(np.asarray(z) == np.asarray(loc, dtype=self.call_cost.dtype), raw, found)
        return found

    def cuts(self, at: Positions) -> Cuts:
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

    def tables(self, short: bool = False) -> ChainTables:
        """Return every draw as a finite chain; fields have a leading axis of draws, and are large.

        Parameters
        ----------
        short
            Whether numbers are to have 32 bits rather than 64.
        """
        return self.parts().tables(
            self.members, self.grid.is_atom, self.room, self.abstains, self.queries, short
        )

    def problem(self, short: bool = False) -> Problem:
        """Return what thresholds are searched for on, in 32 bits if it is to be ``short``."""
        missing = self.room - self.num_thresholds
        call_cost = np.pad(np.asarray(self.call_cost), ((0, 0), (missing, 0)))
        is_atom = np.pad(self.grid.is_atom[: self.num_thresholds], ((missing, 0), (0, 0)))
        call_cost = in_32_bits(call_cost) if short else call_cost
        return Problem(self.tables(short), jax.device_put(call_cost), jax.device_put(is_atom))

    def pad(self, at: Positions) -> Positions:
        """Return thresholds with those of the models that are passed over: they send every query on."""
        return pad(at, self.room, self.grid.num_cells)

    def unpad(self, outcome: Outcome) -> Outcome:
        """Return the outcome without the models that are passed over."""
        first = self.room - self.num_thresholds
        return outcome._replace(
            reach_prob=outcome.reach_prob[..., first:],
            right_prob=outcome.right_prob[..., first:],
            early_prob=outcome.early_prob[..., first:],
        )

    def outcomes(self, at: Positions) -> Outcome:
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
            (at.defer, at.early),
            self.queries,
            self.trend,
            self.abstains,
        )


def pad(at: Positions, room: int, num_cells: int) -> Positions:
    """Return thresholds ``(num_policies, room)`` of which those put before the first send every query on."""
    missing = ((0, 0), (room - np.shape(at.defer)[-1], 0))
    return on_host(
        np.pad(np.asarray(at.defer), missing, constant_values=num_cells),
        None if at.early is None else np.pad(np.asarray(at.early), missing),
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
