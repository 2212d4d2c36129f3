"""Thresholds that are best on average at many error prices, and those that are best for each draw at one.

Few programs do it, whatever the number of prices and of models: searches come in batches of one size, and
cascades of a fit have tables of one size (`cascade_bayes.engine.parts`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._kept import is_keeping, kept
from cascade_bayes._trees import take
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.coordinate import Positions, Swept, on_host
from cascade_bayes.engine.costs import in_32_bits
from cascade_bayes.engine.discretised import Discretised, pad
from cascade_bayes.engine.forward import Outcome, forward
from cascade_bayes.engine.lattice import bayes_on_lattice, lattice_positions, own_on_lattice
from cascade_bayes.engine.optimise import (
    NUM_STEPS,
    default_starts,
    descend,
    mean_loss,
    optimise,
    polish,
    thresholds_met,
)
from cascade_bayes.errors import InputError
from cascade_bayes.policy.policy import Cuts

BATCH = 16
"""Searches, or policies, that one call of a program takes side by side: tables are read once for all."""

PRICE_RATIO = 1.25
"""Ratio of the outermost prices of a sweep to those beyond, which are searched for the starts alone."""

ROUNDING = 1e-9
"""Relative difference of losses below which two places are level; the one on the grid is then taken."""

NEVER = 1e-7
"""Probability of being called below which a model's thresholds are met by no query."""


class Best(NamedTuple):
    """Thresholds that are best on average, and what they do.

    Attributes
    ----------
    cuts
        Raw thresholds, moved a little to be readable, ``(num_prices, ...)``.
    outcome
        What they do on every draw, fields ``(num_prices, num_draws, ...)``; NumPy arrays.
    """

    cuts: Cuts
    outcome: Outcome


def sweep_chain(chain: Discretised, error_prices: np.ndarray, num_steps: int = NUM_STEPS) -> Best:
    """Return the thresholds of one cascade that are best on average at every price.

    They are searched for in 32 bits (see `search_prices`); of where the search ends, the best is found in 64.

    Parameters
    ----------
    chain
        The cascade on its grid.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    num_steps
        Steps of Adam after the line searches; 0 for none.
    """
    early = chain.terms.abstains_early
    ends = search_prices(
        chain.problem(short=True), error_prices, chain.num_thresholds, chain.grid.num_cells, early
    )
    return _best(chain, error_prices, ends, num_steps)


def search_prices(
    problem: Problem, error_prices: np.ndarray, num_thresholds: int, num_cells: int, early: bool = False
) -> Swept:
    """Return where line searches for the least average loss end at every price.

    They start at the best combination of a lattice. Where that leaves out grid positions, or knows nothing of
    early abstention, they are made a second time from where they ended at the prices beside: with four and
    more models a lattice is coarse, and the place that a neighbour found is often better than the own. The
    outermost prices, or a single one, have neighbours that are searched for that alone.

    Parameters
    ----------
    problem
        The cascade.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    num_thresholds
        How many of its models can send queries on.
    num_cells
        Cells of each model.
    early
        Whether models may abstain early.

    Returns
    -------
    Swept
        The sweep of all models that the problem has room for, fields ``(num_prices, ...)``; NumPy arrays.
    """
    room = problem.is_atom.shape[0]
    positions = lattice_positions(num_thresholds, num_cells)
    wider = np.asarray([error_prices[0] / PRICE_RATIO, *error_prices, error_prices[-1] * PRICE_RATIO])
    found = _on_lattice(problem, wider, positions, num_thresholds)
    start = pad(on_host(found, np.zeros_like(found) if early else None), room, num_cells)
    within = np.arange(1, len(wider) - 1)
    if len(positions) > num_cells and not early:  # the best combination of all there are on the grid
        return _search(problem, error_prices, take(start, within))
    # First by itself at every price, then from the neighbours' ends too.
    every = np.arange(len(wider))
    first, starts = every, start
    if early:  # the lattice knows no early abstention
        others = pad(default_starts(num_thresholds, num_cells, early), room, num_cells)
        first = np.concatenate([every, np.repeat(every, len(others.defer))])
        starts = jax.tree.map(
            lambda one, more: np.concatenate([one, np.tile(more, (len(every), 1))]), start, others
        )
    ends = _least(_search(problem, wider[first], starts), first, len(wider))
    own = take(ends, within)
    # A neighbour's end that is the own one leads nowhere else.
    place, other = np.concatenate([within, within]), np.concatenate([within - 1, within + 1])
    differs = np.any([np.any(f[place] != f[other], axis=1) for f in jax.tree.leaves(ends.at)], axis=0)
    if not differs.any():
        return own
    place, other = place[differs], other[differs]
    again = _search(problem, wider[place], take(ends.at, other))
    every = jax.tree.map(lambda *fields: np.concatenate(fields), own, again)
    return _least(every, np.concatenate([within, place]) - 1, len(error_prices))


def search_near(chain: Discretised, error_price: float, starts: Positions, num_steps: int = 0) -> Best:
    """Return the thresholds that are best on average at one price, searched for near given ones.

    Parameters
    ----------
    chain, num_steps
        The same as for `sweep_chain`.
    error_price
        US dollars per wrong answer.
    starts
        Grid positions, ``(num_starts, num_thresholds)``.
    """
    num_starts = len(starts.defer)
    ends = _search(chain.problem(short=True), np.full(num_starts, error_price), chain.pad(starts))
    return _best(chain, np.asarray([error_price]), _least(ends, np.zeros(num_starts, int), 1), num_steps)


def _on_lattice(
    problem: Problem, error_prices: np.ndarray, positions: np.ndarray, num_thresholds: int
) -> np.ndarray:
    """Return the best combination of a lattice at every price, ``(num_prices, num_thresholds)``.

    A single threshold needs none: a sweep looks at all of its positions.
    """
    if num_thresholds == 1:
        return np.zeros((len(error_prices), 1))
    found = bayes_on_lattice(problem, in_32_bits(error_prices), positions, num_thresholds)
    return found.astype(float)


def _search(problem: Problem, error_prices: np.ndarray, starts: Positions) -> Swept:
    """Search from starts with a price each, fields ``(num_starts, ...)``, padded; NumPy arrays."""
    short = jax.tree.map(lambda field: np.asarray(field, np.float32), starts)
    return in_batches(partial(_descend, problem), (in_32_bits(error_prices), short))


_descend = kept()(descend)


def _least(ends: Swept, place: np.ndarray, count: int) -> Swept:
    """Return for each of so many places the end of least loss among those that belong to it."""
    order = np.argsort(ends.loss, kind="stable")
    return take(ends, np.asarray([order[np.argmax(place[order] == at)] for at in range(count)]))


def _best(chain: Discretised, error_prices: np.ndarray, ends: Swept, num_steps: int) -> Best:
    """Return the best of where a search ended: on the grid, beside it, and where Adam takes it from there."""
    places = [ends.at, ends.beside]
    if num_steps:
        problem = chain.problem(short=True)
        run = partial(_polish, problem, num_steps=num_steps)
        places.append(in_batches(run, (in_32_bits(error_prices), ends.at, ends.beside)))
    tried = jax.tree.map(
        lambda *fields: np.concatenate(fields),
        *(chain.cuts(_of_own_models(chain, at)) for at in places),
    )
    outcome = _run_once_each(chain, tried)
    by_place = jax.tree.map(
        lambda field: field.reshape(len(places), len(error_prices), *field.shape[1:]), Best(tried, outcome)
    )
    cost, error = by_place.outcome.cost, by_place.outcome.error
    loss = np.mean(cost + error_prices[:, None] * error, axis=2)
    chosen = np.where(loss.min(axis=0) < loss[0] * (1 - ROUNDING), loss.argmin(axis=0), 0)
    own = np.arange(len(error_prices))
    best = take(by_place, (chosen, own))
    at = jax.tree.map(np.asarray, chain.positions(best.cuts))
    is_met = thresholds_met(at, best.outcome.reach_prob, NEVER, np)
    return best._replace(cuts=_never_where_not_met(best.cuts, is_met))


def _run_once_each(chain: Discretised, cuts: Cuts) -> Outcome:
    """Return what policies do on every draw: of those that are alike, at many prices, one is run."""
    fields = [cuts.thresholds] if cuts.abstain is None else [cuts.thresholds, cuts.abstain]
    _, first, place = np.unique(
        np.concatenate(fields, axis=1), axis=0, return_index=True, return_inverse=True
    )
    outcome = run_policies(chain, chain.positions(take(cuts, first)))
    return take(outcome, place.reshape(-1))


def _never_where_not_met(cuts: Cuts, is_met: np.ndarray) -> Cuts:
    """Return thresholds of which those that no query meets never defer, and never abstain."""
    count = cuts.thresholds.shape[-1]
    thresholds = np.where(is_met[..., :count], cuts.thresholds, -np.inf)
    if cuts.abstain is None:
        return Cuts(thresholds, None)
    return Cuts(thresholds, np.where(is_met, cuts.abstain, -np.inf))


def _of_own_models(chain: Discretised, at: Positions) -> Positions:
    """Return the thresholds of a cascade's own models, as NumPy arrays of 64 bits."""
    return jax.tree.map(lambda field: np.asarray(field, float)[..., -chain.num_thresholds :], at)


@kept("num_steps")
def _polish(
    problem: Problem,
    error_prices: jax.Array,
    coarse: Positions,
    start: Positions,
    num_steps: int,
) -> Positions:
    """Let Adam move thresholds at every price of a batch, within the cells beside their grid points."""
    problem = problem.averaged()
    own = problem.is_atom[: coarse.defer.shape[-1]]

    def at_price(price: jax.Array, coarse: Positions, start: Positions) -> Positions:
        unit = price + jnp.sum(problem.call_cost)

        def loss(at: Positions) -> jax.Array:
            return mean_loss(problem, at.defer, price, at.early) / unit

        return polish(loss, coarse, start, own, num_steps)

    return jax.vmap(at_price)(error_prices, coarse, start)


def own_optima(chain: Discretised, error_price: float, near: Positions) -> Positions:
    """Return the thresholds that are best for each draw by itself, with its own costs of calls; NumPy arrays.

    On every draw the search starts at several places, and the best of where it ends is taken. Of two
    thresholds one of them is the best combination of all there are on the grid; of more, a lattice that is
    coarse enough to be run leads astray more often than the others do.

    Parameters
    ----------
    chain
        The cascade on its grid.
    error_price
        US dollars per wrong answer.
    near
        Grid positions where good thresholds are likely to be, ``(num_places, num_thresholds)``; `NUM_NEAR` of
        them are tried.

    Returns
    -------
    Positions
        Grid positions, ``(num_draws, num_thresholds)``.
    """
    problem, early, count = chain.problem(short=True), chain.terms.abstains_early, chain.num_thresholds
    dtype, num_draws = problem.call_cost.dtype, len(problem.call_cost)
    price = in_32_bits(error_price)
    some = np.round(np.linspace(0, len(near.defer) - 1, NUM_NEAR)).astype(int)
    others = default_starts(count, chain.grid.num_cells, early)
    shared = jax.tree.map(lambda own, more: np.concatenate([own[some], more]), near, others)
    starts = jax.tree.map(lambda field: np.repeat(field[None], num_draws, axis=0), chain.pad(shared))
    if count == 2:
        positions = jnp.asarray(lattice_positions(count, chain.grid.num_cells))
        best = own_on_lattice(problem, price, positions, num_thresholds=count)
        starts.defer[:, 0, -count:] = best
        if starts.early is not None:
            starts.early[:, 0] = 0.0
    begin = jax.tree.map(lambda field: np.asarray(field, dtype), starts)
    return _of_own_models(chain, _own(problem, price, begin))


def compile_own_optima(chain: Discretised) -> None:
    """Have the programs of `own_optima` compiled for cascades like this one, unless they are.

    A first question about a policy then takes no longer than the second. Nothing is done where programs are
    kept in a folder (`cascade_bayes._kept`): the first question finds them there.
    """
    if is_keeping():
        return
    problem, at_two = chain.problem(short=True), chain.num_thresholds == 2
    shapes = [field.shape for field in jax.tree.leaves(problem)]
    key = str(shapes), chain.terms.abstains_early
    if {(*key, False), (*key, at_two)} <= _compiled:
        return
    nowhere = np.zeros((1, chain.num_thresholds))
    own_optima(chain, 1.0, on_host(nowhere, nowhere if chain.terms.abstains_early else None))
    _compiled.update({(*key, False), (*key, at_two)})


_compiled: set[tuple[Any, ...]] = set()
"""Shapes of the problems for which `own_optima` has been run."""

NUM_NEAR = 4
"""Places near which the optimum of a draw is looked for, besides those that are the same for all."""


@kept()
def _own(problem: Problem, error_price: jax.Array, starts: Positions) -> Positions:
    """Search on every draw, from starts of its own, ``(num_draws, num_starts, num_thresholds)``."""
    shared, draws = problem.by_draw()

    def on_draw(own: Any, starts: Positions) -> Positions:
        return optimise(shared.of_draw(own).alone(), error_price, starts, 0).at

    return jax.vmap(on_draw)(draws, starts)


def run_policies(chain: Discretised, at: Positions) -> Outcome:
    """Return what policies do on every draw, fields ``(num_policies, num_draws, ...)``; NumPy arrays.

    Parameters
    ----------
    chain
        The cascade on its grid.
    at
        Thresholds on the grid, fields ``(num_policies, num_thresholds)``.
    """
    problem = chain.problem()
    padded = jax.tree.map(lambda field: np.asarray(field, problem.call_cost.dtype), chain.pad(at))
    return chain.unpad(in_batches(partial(_run_batch, problem), (padded,)))


@kept()
def _run_batch(problem: Problem, at: Positions) -> Outcome:
    on_draws = jax.vmap(forward, in_axes=(problem.draw_axes(), None, None))
    return jax.vmap(lambda policy: on_draws(problem, *policy))(at)


def in_batches(run: Callable[..., Any], many: tuple[Any, ...]) -> Any:
    """Call a program on batches of one size, the last one filled up with its last entry; NumPy arrays.

    Parameters
    ----------
    run
        Takes as many pytrees as ``many`` has, and returns one, all with a leading axis of the batch.
    many
        Pytrees of NumPy arrays with a common leading axis.
    """
    count = len(jax.tree.leaves(many)[0])
    rows = np.minimum(np.arange(-(-count // BATCH) * BATCH), count - 1)
    found = [
        run(*(take(tree, rows[start : start + BATCH]) for tree in many)) for start in range(0, count, BATCH)
    ]
    return jax.tree.map(lambda *fields: np.concatenate([np.asarray(f) for f in fields])[:count], *found)


def price_range(chain: Discretised, num_prices: int) -> np.ndarray:
    r"""Return log-spaced error prices from where the cheapest policy is best to where the dearest is.

    With the posterior means of the two trivial policies (always stop at the first model; always go to
    the last), :math:`\Delta` their difference in accuracy, at least 0.05, and :math:`c` the cost of the
    models after the first, the middle weight of cost is :math:`m = \Delta / c`. Prices run over the
    reciprocals of weights from :math:`\min(m/30, 0.01/c)` to :math:`\max(30m, 1/\min_{i>1} c_i)`. Where
    queries may be left without an answer, they go up to at least 30 times the price of that.

    Parameters
    ----------
    chain
        The cascade on its grid.
    num_prices
        How many.
    """
    call_cost = np.asarray(chain.call_cost).mean(axis=0)[: len(chain.members)]
    abstain_price = chain.terms.abstain_price
    ends = np.zeros((2, chain.num_thresholds))
    ends[1, : len(call_cost) - 1] = chain.grid.num_cells
    early = np.zeros_like(ends) if chain.terms.abstains_early else None
    first, last = run_policies(chain, on_host(ends, early)).error.mean(axis=1)
    prices = np.concatenate([call_cost[1:], [] if abstain_price is None else [abstain_price]])
    positive = prices[prices > 0]
    if not positive.size:
        raise InputError("every model after the first is free of cost: give error prices explicitly.")
    extra = float(call_cost[1:].sum()) or float(positive.sum())
    middle = max(abs(last - first), 0.05) / extra
    weights = min(middle / 30, 0.01 / extra), max(30 * middle, 1 / float(positive.min()))
    if num_prices == 1:
        return np.asarray([1 / middle])
    return np.geomspace(1 / weights[1], max(1 / weights[0], 30 * (abstain_price or 0.0)), num_prices)
