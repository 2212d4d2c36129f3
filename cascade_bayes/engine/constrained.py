r"""The best policy that keeps a limit with a probability: a budget, or a target for errors.

Of all thresholds t of a cascade, with the posterior's draws d,

.. math::

    \min_t \frac1D \sum_d \mathrm{error}_d(t) \quad \text{such that} \quad
    \frac1D \#\{d : \mathrm{expense}_d(t) \le B\} \ge p ,

or with error and expense the other way round. A sweep over prices of an error cannot answer it: it finds
the policies on the convex hull of error and expense alone, and between two neighbours of these much of a
budget may be left. So all combinations of thresholds on a lattice are run
(`cascade_bayes.engine.combinations`), and then those of ever finer lattices around the best. A lattice is
run in 32 bits, and its costs are the chain's; what comes out best is judged by the very figures that
are reported of a policy, at the thresholds that are reported.

Where a model passes every query on, thresholds are those of a shorter cascade, which this chain does not
predict (`cascade_bayes.policy.shorter`): they are left to the search of that cascade.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.ndimage import minimum_filter

from cascade_bayes._trees import take
from cascade_bayes.engine.combinations import run_combinations
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.figures import Predicted, predict_outcome
from cascade_bayes.engine.sweep import run_policies
from cascade_bayes.engine.table import Table
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shorter import passes_on

MAX_COMBINATIONS = 10_000
"""Combinations on one lattice, at most, where there are few queries."""

MAX_PATHS = 8_000_000
"""Combinations times observed queries, at most: what bounds the memory of a lattice."""

MAX_AXES = 8
"""Thresholds that a lattice varies, at most; of more only one or two are moved at a time."""

NUM_JUDGED = 32
"""Policies that are judged at a time, at most."""

MAX_JUDGED_PATHS = 32_768
"""Policies times observed queries that are judged at a time, at most: each takes a number for every draw and
model."""

NUM_STARTS = 3
"""Places of a first lattice around which finer ones are laid."""

FINEST = 1 / 16
"""Half the width of the last lattice, in cells, at most."""

MAX_ROUNDS = 16
"""Lattices laid around one place, at most."""

MAX_MOVES = 512
"""Moves of one threshold or two that are tried at a time, at most."""

NEARLY = 0.005
"""Relative difference by which the chain's costs may be off the reported ones."""


class Answer(NamedTuple):
    """The best policy that a search found.

    Attributes
    ----------
    cuts
        Its raw thresholds.
    predicted
        What it does on every draw.
    needed
        The least limit that it keeps with the probability.
    value
        Posterior mean of the other figure.
    holds
        Whether it keeps the limit; if not, no policy that was found needs less.
    """

    cuts: Cuts
    predicted: Predicted
    needed: float
    value: float
    holds: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """What is least of the best answer."""
        return not self.holds, self.value if self.holds else self.needed


def answer_of(request: Request, cuts: Cuts, predicted: Predicted) -> Answer:
    """Return how one policy answers a request."""
    if passes_on(cuts).any():
        return Answer(cuts, predicted, np.inf, np.inf, False)
    needed = float(request.needed(getattr(predicted, request.figure)))
    value = float(np.mean(getattr(predicted, request.other)))
    return Answer(cuts, predicted, needed, value, needed <= request.limit)


def search(
    data: Table, chain: Discretised, request: Request, known: Cuts, rival: Answer | None = None
) -> Answer:
    """Find the best policy of one cascade that keeps a limit.

    Parameters
    ----------
    data
        The table of the fit.
    chain
        The cascade on its grid; it has at least one threshold.
    request
        The limit.
    known
        Raw thresholds of policies that are likely to be good, with a leading axis of them.
    rival
        What other cascades answer: where a first lattice shows that this one does no better, it is looked
        at no closer.
    """
    place = _Search(data, chain, request)
    judged = sorted(place.judge(place.axes_of(known)), key=_rank)
    best = judged[0]
    if place.num_axes > MAX_AXES:
        # From the best that keeps the limit and from the one that breaks it least: it may lie between them.
        breaking = [one for one in judged if not one.answer.holds]
        return min((place.move(start) for start in [best, *breaking[:1]]), key=_rank).answer
    first = place.look(place.whole(), None)
    best = min([best, *first.judged], key=_rank)
    if rival is not None and not place.promises(first, rival):
        return best.answer
    width = place.spacing(place.chain.grid.num_cells / 2)
    ends = [place.refine(start, width, 1) for start in [best, *place.starts(first, best)]]
    return place.refine(*min(ends, key=lambda end: _rank(end[0])), MAX_ROUNDS)[0].answer


class _Judged(NamedTuple):
    """A policy whose figures are those that are reported; ``at`` has its positions, ``(num_axes,)``."""

    at: np.ndarray
    answer: Answer


def _rank(judged: _Judged) -> tuple[bool, float]:
    return judged.answer.rank


class _Lattice(NamedTuple):
    """Every combination of some positions, and the policies that were judged of them.

    Attributes
    ----------
    axes
        Positions of each threshold.
    needed, value
        As those of an `Answer`, by the chain's costs made to agree with those of a judged policy,
        ``(num_combinations,)``.
    judged
        The policies that promised most.
    """

    axes: list[np.ndarray]
    needed: np.ndarray
    value: np.ndarray
    judged: list[_Judged]


class _Search:
    """One cascade and one request.

    Thresholds are laid out as axes: of each model that below which it defers and, where models may abstain
    early, that below which it does; the last model that may abstain has one.
    """

    def __init__(self, data: Table, chain: Discretised, request: Request) -> None:
        self._data, self.chain, self._request = data, chain, request
        self._short = chain.problem(short=True)
        self._early = chain.terms.abstains_early
        self.num_axes = chain.num_thresholds * (1 + self._early) - self._early
        rows = self._short.tables.rows
        num_queries = 1 if rows is None else rows.cell.shape[1]
        self._most = min(MAX_COMBINATIONS, MAX_PATHS // num_queries)
        self._num_judged = min(NUM_JUDGED, max(MAX_JUDGED_PATHS // num_queries, 1))

    # Thresholds and axes

    def axes_of(self, cuts: Cuts) -> np.ndarray:
        """Return the positions of raw thresholds, ``(num_policies, num_axes)``."""
        at = self.chain.positions(cuts)
        defer = np.asarray(at.defer, dtype=float)
        if at.early is None:
            return defer
        return np.stack([defer, np.asarray(at.early)], axis=-1).reshape(len(defer), -1)[:, :-1]

    def _thresholds(self, at: np.ndarray) -> Positions:
        dtype = self.chain.call_cost.dtype
        if not self._early:
            return Positions(jnp.asarray(at, dtype))
        pairs = np.pad(at, ((0, 0), (0, 1))).reshape(len(at), -1, 2)
        return Positions(jnp.asarray(pairs[..., 0], dtype), jnp.asarray(pairs.min(axis=-1), dtype))

    def _options(self, axes: list[np.ndarray]) -> tuple[Positions, ...]:
        dtype = self._short.call_cost.dtype
        if not self._early:
            return tuple(Positions(jnp.asarray(own, dtype)) for own in axes)
        options = []
        for defer, early in zip(axes[::2], [*axes[1::2], np.zeros(1)], strict=True):
            pair = np.stack(np.meshgrid(defer, early, indexing="ij"), axis=-1).reshape(-1, 2)
            options.append(Positions(jnp.asarray(pair[:, 0], dtype), jnp.asarray(pair.min(axis=1), dtype)))
        return tuple(options)

    # Lattices

    def _side(self) -> int:
        """Return how many positions an axis of a lattice has; odd, so that one is in the middle."""
        most = int(self._most ** (1.0 / self.num_axes) + 1e-9)
        side = min(self.chain.grid.num_cells + 1, most)
        return max(side - (side % 2 == 0), 3)

    def spacing(self, width: float) -> float:
        """Return half the width of the lattice that follows one of half this width."""
        side = self._side()
        return 2 * width / (side - 1) if side > 3 else width / 2

    def whole(self) -> list[np.ndarray]:
        """Return axes over the whole grid, grid points all of them."""
        own = np.round(np.linspace(0, self.chain.grid.num_cells, self._side()))
        return [own] * self.num_axes

    def look(self, axes: list[np.ndarray], centre: _Judged | None) -> _Lattice:
        """Run all combinations of positions, and judge those that promise most."""
        found = run_combinations(self._short, self._options(axes))
        error, cost = (np.asarray(field).T for field in found)
        shape = tuple(len(own) for own in axes)
        shorter = self._pass_on(axes).ravel()
        judged: list[_Judged] = []
        scale = np.ones(cost.shape[1], dtype=cost.dtype)
        seen = np.zeros(0, dtype=int)
        for _ in range(2):
            if centre is not None:
                # Where the chain's costs are off, they are by much the same at the policies beside.
                nearest = [np.argmin(np.abs(own - at)) for own, at in zip(axes, centre.at, strict=True)]
                own_cost = cost[np.ravel_multi_index(nearest, shape)]
                spent = centre.answer.predicted.expense
                scale = np.where(own_cost > 0, spent / np.where(own_cost > 0, own_cost, 1.0), 1.0)
            figures = {"error": error, "expense": cost * scale.astype(cost.dtype)}
            needed = self._request.needed(figures[self._request.figure])
            value = figures[self._request.other].mean(axis=1)
            needed, value = (np.where(shorter, np.inf, field) for field in (needed, value))
            picked = np.setdiff1d(self._promising(needed, value), seen)
            seen = np.concatenate([seen, picked])
            at = np.stack([own[i] for own, i in zip(axes, np.unravel_index(picked, shape), strict=True)], -1)
            judged += self.judge(at)
            centre = min(judged if centre is None else [*judged, centre], key=_rank)
        return _Lattice(axes, needed, value, judged)

    def _pass_on(self, axes: list[np.ndarray]) -> np.ndarray:
        """Return at which combinations a model passes every query on, an axis a threshold."""
        cuts = self.chain.cuts(self._thresholds(np.stack(axes, axis=-1)))
        found = np.zeros(tuple(len(own) for own in axes), dtype=bool)
        for i in range(cuts.thresholds.shape[-1]):
            place = i * (1 + self._early)
            always = cuts.thresholds[:, i] == np.inf
            if self._early:  # and never abstains
                always = always[:, None] & (axes[place + 1] <= 0)
            ends = (1,) * (found.ndim - place - always.ndim)
            found |= always.reshape((1,) * place + always.shape + ends)
        return found

    def _promising(self, needed: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return which combinations to judge: the best that hold, and the best of those that nearly do."""
        limit = self._request.limit
        chosen: list[np.ndarray] = []
        for allowed in (limit, limit * (1 + NEARLY)):
            holds = needed <= allowed
            merit = np.where(holds, value, np.inf) if holds.any() else needed
            # Combinations that do the same, because a threshold is not met, count as one.
            _, first = np.unique(merit, return_index=True)
            chosen.append(first[np.isfinite(merit[first])][: NUM_JUDGED // 2])
        return np.unique(np.concatenate(chosen))

    def _optimistic(self, lattice: _Lattice) -> np.ndarray:
        """Return the least value at or beside every combination, whether it holds there or not."""
        shape = tuple(len(own) for own in lattice.axes)
        return minimum_filter(lattice.value.reshape(shape), size=3, mode="nearest").ravel()

    def promises(self, lattice: _Lattice, rival: Answer) -> bool:
        """Whether finer lattices may find a better answer than that of others."""
        holds = lattice.needed <= self._request.limit * (1 + NEARLY)
        if holds.any():
            return not rival.holds or bool(self._optimistic(lattice)[holds].min() < rival.value)
        shape = tuple(len(own) for own in lattice.axes)
        least = minimum_filter(lattice.needed.reshape(shape), size=3).min() / (1 + NEARLY) ** 2
        return bool(least <= (self._request.limit if rival.holds else rival.needed))

    def starts(self, lattice: _Lattice, best: _Judged) -> list[_Judged]:
        """Return combinations apart from the best whose neighbours may be better than the best."""
        holds = lattice.needed <= self._request.limit
        merit = np.where(holds, lattice.value + self._optimistic(lattice), np.inf)
        if not holds.any():
            merit = lattice.needed
        shape = tuple(len(own) for own in lattice.axes)
        step = np.asarray([np.max(np.diff(own)) for own in lattice.axes])
        taken = [best.at]
        for flat in np.argsort(merit, kind="stable"):
            if len(taken) == NUM_STARTS or not np.isfinite(merit[flat]):
                break
            index = np.unravel_index(flat, shape)
            at = np.asarray([own[i] for own, i in zip(lattice.axes, index, strict=True)])
            if all(np.any(np.abs(at - other) > step) for other in taken):
                taken.append(at)
        return self.judge(np.asarray(taken[1:])) if len(taken) > 1 else []

    def refine(self, start: _Judged, width: float, rounds: int) -> tuple[_Judged, float]:
        """Lay finer and finer lattices around a policy; return the best, and the width that is next."""
        best, num_cells = start, self.chain.grid.num_cells
        for _ in range(rounds):
            if width <= FINEST:
                break
            across = np.linspace(-width, width, self._side())
            axes = [np.clip(at + across, 0, num_cells) for at in best.at]
            centre = best
            best = min([centre, *self.look(axes, centre).judged], key=_rank)
            moved = np.abs(best.at - centre.at)
            at_end = (moved >= width * (1 - 1e-9)) & (best.at > 0) & (best.at < num_cells)
            width = width if at_end.any() else self.spacing(width)
        return best, width

    def move(self, start: _Judged) -> _Judged:
        """Move one threshold or two at a time, by ever smaller steps, as long as it makes a policy better."""
        rng = np.random.default_rng(0)
        best, width, num_cells = start, self.chain.grid.num_cells / 4, self.chain.grid.num_cells
        while width > FINEST:
            steps = np.eye(self.num_axes)
            pairs = [
                a + sign * b for i, a in enumerate(steps) for b in steps[:i] for sign in (1, -1, 0.5, -0.5)
            ]
            moves = np.concatenate([steps, *np.asarray(pairs)[:, None]])
            moves = np.concatenate([moves, -moves])
            if len(moves) > MAX_MOVES:
                moves = rng.permutation(moves)[:MAX_MOVES]
            before = best
            found = self.judge(np.clip(best.at + width * moves, 0, num_cells))
            best = min([before, *found], key=_rank)
            width = width if best is not before else width / 2
        return best

    # What is reported

    def judge(self, at: np.ndarray) -> list[_Judged]:
        """Return policies at positions ``(num_policies, num_axes)`` with the figures that are reported."""
        judged = []
        for begin in range(0, len(at), self._num_judged):
            some = at[begin : begin + self._num_judged]
            cuts = self.chain.cuts(self._thresholds(some))
            outcome = run_policies(self.chain, self.chain.positions(cuts))
            predicted = predict_outcome(self._data, self.chain, cuts, outcome)
            judged += [
                _Judged(some[i], answer_of(self._request, take(cuts, i), take(predicted, i)))
                for i in range(len(some))
            ]
        return judged
