"""Budgets and error targets: against every combination of thresholds there is, tried one by one."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from cascades import COST, lay, some_of
from test_lattice import with_queries

import cascade_bayes.engine.constrained as constrained
from cascade_bayes import error_cost_frontier, fit, read_table
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.envelope import Envelope
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.combinations import run_combinations
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.figures import Predicted, predict_outcome
from cascade_bayes.engine.forward import forward
from cascade_bayes.errors import InfeasibleError
from cascade_bayes.policy.mixture import best_share
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shorter import passes_on

DRAWS, CELLS = 40, 20
PRICES = np.geomspace(2e-4, 5e-2, 6)


@pytest.fixture(scope="module")
def frontier(small_posterior) -> Frontier:
    return error_cost_frontier(
        small_posterior, models="all", error_prices=PRICES, num_draws=DRAWS, num_cells=CELLS
    )


@pytest.fixture(scope="module")
def pair(small_posterior) -> Frontier:
    models = [small_posterior.models[0], small_posterior.models[2]]
    return error_cost_frontier(
        small_posterior, models=models, error_prices=PRICES, num_draws=DRAWS, num_cells=CELLS
    )


def every_policy(frontier: Frontier, positions: np.ndarray, early: np.ndarray | None = None) -> Predicted:
    """What is reported of policies at grid positions, and of no other policy."""
    chain = frontier.chain
    cuts = chain.cuts(Positions(jnp.asarray(positions), None if early is None else jnp.asarray(early)))
    found = [
        predict_outcome(table_of(frontier.posterior), chain, some, chain.outcomes(chain.positions(some)))
        for some in in_parts(cuts, 125)
    ]
    return jax.tree.map(lambda *fields: np.concatenate(fields), *found)


def in_parts(cuts: Cuts, size: int) -> list[Cuts]:
    count = len(cuts.thresholds)
    fill = np.minimum(np.arange(-(-count // size) * size), count - 1)
    return [jax.tree.map(lambda field, at=at: field[at], cuts) for at in fill.reshape(-1, size)]


def reported_of(frontier: Frontier, policy: Policy) -> Predicted:
    """What is reported of a policy of a frontier's models, or of some of them."""
    chain = frontier.chain
    if policy.models != frontier.models:
        chain = discretise(frontier.posterior, policy.models, DRAWS, CELLS)
    cuts = Cuts(policy.thresholds[None])
    return predict_outcome(table_of(frontier.posterior), chain, cuts, chain.outcomes(chain.positions(cuts)))


def least(predicted: Predicted, figure: str, limit: float, probability: float) -> float:
    """The least mean of the other figure among those that keep the limit, draw by draw."""
    other = {"expense": "error", "error": "expense"}[figure]
    share = np.mean(getattr(predicted, figure) <= limit, axis=1)
    means = getattr(predicted, other).mean(axis=1)
    return float(means[share >= probability].min())


def limits(predicted: Predicted, figure: str, probability: float) -> np.ndarray:
    """Seven limits that lie among those which some policy needs, none of them at an end."""
    needed = np.quantile(getattr(predicted, figure), probability, axis=1, method="higher")
    low, high = needed.min(), np.quantile(needed, 0.95)
    return low + (high - low) * np.array([0.06, 0.23, 0.51, 0.83, 0.14, 0.37, 0.67])


PROBABILITIES = 0.8, 0.8, 0.9, 0.5, 0.8, 0.9, 0.7
"""With which the limits are to be kept."""


def question_of(figure: str, limit: float, probability: float) -> dict:
    return {{"expense": "budget", "error": "target_error"}[figure]: limit, "probability": probability}


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["expense", "error"])
@pytest.mark.parametrize("which", ["pair", "frontier"])
def test_no_combination_on_the_grid_answers_better(which: str, figure: str, request) -> None:
    frontier: Frontier = request.getfixturevalue(which)
    grid = np.arange(CELLS + 1.0)
    positions = np.array(list(itertools.product(grid, repeat=len(frontier.models) - 1)))
    # Where a model passes every query on, the whole chain does not predict what the shorter cascade does.
    ends = ~passes_on(frontier.chain.cuts(Positions(jnp.asarray(positions)))).any(axis=-1)
    every = every_policy(frontier, positions[ends])
    spared = 0
    for limit, probability in zip(limits(every, figure, 0.8), PROBABILITIES, strict=True):
        policy = frontier.at(**question_of(figure, limit, probability))
        reported = reported_of(frontier, policy)
        assert np.mean(getattr(reported, figure)[0] <= limit) >= probability
        other = {"expense": "error", "error": "expense"}[figure]
        value = getattr(policy.prediction, other)
        assert value == pytest.approx(getattr(reported, other)[0].mean(), rel=1e-6)
        assert value <= least(every, figure, limit, probability) * (1 + 1e-3)
        swept = frontier.predicted
        holds = np.mean(getattr(swept, figure) <= limit, axis=1) >= probability
        spared += not holds.any() or value < getattr(swept, other).mean(axis=1)[holds].min() * 0.97
        assert policy.error_price in frontier.error_prices
    assert spared >= 2  # what the sweep alone would have left


@pytest.mark.slow
@pytest.mark.parametrize("abstain", ["final", pytest.param("early", marks=pytest.mark.long)])
def test_with_abstention_too(small_posterior, abstain: str) -> None:
    """A pair has two thresholds if the last model may abstain, and three if both may."""
    models = [small_posterior.models[0], small_posterior.models[2]]
    how = {"num_draws": 20, "num_cells": 12, "abstain_price": 1e-3, "abstain": abstain}
    frontier = error_cost_frontier(small_posterior, models=models, error_prices=PRICES[::2], **how)
    grid = np.arange(13.0)
    early = None
    if abstain == "early":
        every = [(a, t, last) for a in grid for t in grid[int(a) :] for last in grid]
        positions, early = np.array(every)[:, 1:], np.pad(np.array(every)[:, :1], ((0, 0), (0, 1)))
    else:
        positions = np.array(list(itertools.product(grid, repeat=2)))
    tried = every_policy(frontier, positions, early)
    for figure in ("expense", "error"):
        limit = limits(tried, figure, 0.8)[1]
        policy = frontier.at(**question_of(figure, limit, 0.8))
        assert policy.abstain_thresholds is not None
        other = {"expense": "error", "error": "expense"}[figure]
        wanted = least(tried, figure, limit, 0.8)
        assert getattr(policy.prediction, other) <= wanted * (1 + 1e-3) + 1e-12


@pytest.mark.long
@pytest.mark.parametrize("figure", ["expense", "error"])
def test_no_random_policy_of_four_models_answers_better(small_frame, figure: str) -> None:
    """Nor any on a coarse grid."""
    frame = small_frame.assign(model=small_frame["model"] + "-again", cost=small_frame["cost"] * 1.3)
    frame["confidence"] = frame["confidence"] * 0.8 - 0.05
    both = pd.concat([small_frame, frame[frame["model"] == "medium-8b-again"]])
    posterior = fit(read_table(both, confidence="logprob"), method="laplace", seed=0, progress=False)
    frontier = error_cost_frontier(
        posterior, models="all", error_prices=PRICES, num_draws=DRAWS, num_cells=CELLS
    )
    rng = np.random.default_rng(0)
    coarse = np.array(list(itertools.product(np.arange(0, CELLS + 1, 2.5).round(), repeat=3)))
    every = every_policy(frontier, np.concatenate([coarse, rng.uniform(0, CELLS, (1250, 3))]))
    for limit in limits(every, figure, 0.9):
        policy = frontier.at(**question_of(figure, limit, 0.9))
        other = {"expense": "error", "error": "expense"}[figure]
        assert getattr(policy.prediction, other) <= least(every, figure, limit, 0.9) * (1 + 1e-3)


@pytest.mark.slow
def test_moving_thresholds_one_or_two_at_a_time_is_nearly_as_good(frontier, monkeypatch) -> None:
    """As with more thresholds than a lattice can vary."""
    request = Request("expense", float(np.quantile(frontier.expense, 0.5)), 0.8)
    wanted = frontier.answer(request)
    monkeypatch.setattr(constrained, "MAX_AXES", 1)
    moved = frontier.answer(request)
    assert wanted.holds
    assert moved.holds
    assert moved.value <= wanted.value * 1.01


def table_with_a_first_model_that_knows_little() -> pd.DataFrame:
    """Its confidence says next to nothing, so that every policy but two lies above their chord."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(120):
        right = rng.uniform(size=2) < (0.5, 0.85)
        confidence = rng.uniform(0.6, 0.95), np.clip(0.7 + 0.2 * right[1] + rng.normal(0, 0.05), 0.01, 0.99)
        for model, own, correct, cost in zip("ab", confidence, right, (1e-4, 1e-3), strict=True):
            rows.append((f"q{i:03d}", model, own, int(correct), cost))
    return pd.DataFrame(rows, columns=["query", "model", "confidence", "correct", "cost"])


@pytest.mark.long
def test_a_budget_is_spent_where_the_sweep_sees_two_policies_alone() -> None:
    data = read_table(table_with_a_first_model_that_knows_little(), confidence="probability")
    posterior = fit(data, method="laplace", seed=0, progress=False)
    frontier = error_cost_frontier(posterior, models="all", error_prices=11, num_draws=DRAWS)
    low, high = frontier.expense.mean(axis=1)[[0, -1]]
    for share in (0.35, 0.6):
        budget = low + share * (high - low)
        policy = frontier.at(budget=budget)
        assert np.quantile(policy.prediction.expense, 0.5) <= budget
        error = frontier.error.mean(axis=1)
        on_chord = error[0] + (policy.prediction.expense - low) / (high - low) * (error[-1] - error[0])
        assert policy.prediction.error == pytest.approx(on_chord, abs=0.02)
        assert policy.prediction.expense > low + 0.8 * (budget - low)


@pytest.mark.slow
def test_the_envelope_answers_as_the_best_of_its_cascades(small_posterior) -> None:
    envelope: Envelope = error_cost_frontier(
        small_posterior, error_prices=PRICES, num_draws=DRAWS, num_cells=CELLS
    )
    before = run_combinations.jitted._cache_size()
    for figure in ("expense", "error"):
        limit = float(np.quantile(getattr(envelope, figure), 0.45))
        policy = envelope.at(**question_of(figure, limit, 0.8))
        request = Request(figure, limit, 0.8)
        every = [one.answer(request) for one in envelope.frontiers.values()]
        singles = [constrained.answer_of(request, Cuts(np.zeros(0)), one) for one in envelope.alone.values()]
        wanted = min(answer.value for answer in [*every, *singles] if answer.holds)
        assert getattr(policy.prediction, request.other) <= wanted * (1 + 1e-3)
        for rival in envelope.beside(**question_of(figure, limit, 0.8)).values():
            if rival is not None:
                assert getattr(rival.prediction, request.other) >= wanted * (1 - 1e-9)
    # One program for three pairs, and one for the cascade of three.
    assert run_combinations.jitted._cache_size() - before <= 2


@pytest.mark.parametrize("figure", ["expense", "error"])
def test_what_is_called_reachable_is_reached(pair, figure: str) -> None:
    with pytest.raises(InfeasibleError) as refused:
        pair.at(**question_of(figure, 1e-7, 0.9))
    reachable = float(re.search(r"probability is (\S+) ", str(refused.value)).group(1))
    policy = pair.at(**question_of(figure, reachable, 0.9))
    assert policy.question == question_of(figure, reachable, 0.9)
    with pytest.raises(InfeasibleError):
        pair.at(**question_of(figure, reachable * 0.995, 0.9))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("k", "queries"), some_of([2, 3, 5], {(3, "handed over")}))
def test_is_the_forward_pass_of_every_combination(k: int, queries: str, early: bool) -> None:
    """At positions within cells, too, and with the thresholds of early abstention."""
    num_cells, rng = 16, np.random.default_rng(k)
    _, grid, tables = lay(k, num_cells)
    if queries != "none":
        one = with_queries(tables.draw(0), k, handed=queries == "handed over")
        tables = one.alone()
    call_cost, is_atom = jnp.asarray(COST[k])[None], jnp.asarray(grid.is_atom)
    options = []
    for i in range(k - 1):
        defer = np.array([0, num_cells, *rng.uniform(0, num_cells, 2)])
        abstain = defer * rng.uniform(size=4) * (i < k - 2)
        options.append(Positions(jnp.asarray(defer), jnp.asarray(abstain) if early else None))
    found = run_combinations(Problem(tables, call_cost, is_atom), tuple(options))
    every = np.array(list(itertools.product(range(4), repeat=k - 1)))
    at = Positions(
        *(
            None if own[0] is None else jnp.stack([field[every[:, i]] for i, field in enumerate(own)], axis=1)
            for own in zip(*options, strict=True)
        )
    )
    run = jax.vmap(forward, in_axes=(Problem(tables, call_cost, is_atom).draw_axes(), None, None))
    outcome = jax.jit(jax.vmap(lambda one: run(Problem(tables, call_cost, is_atom), *one)))(at)
    np.testing.assert_allclose(found.error[0], outcome.error[:, 0], atol=1e-13)
    np.testing.assert_allclose(found.cost[0], outcome.cost[:, 0], rtol=1e-12)


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("num_draws", [7, 10, 200])
def test_what_a_policy_needs_is_what_it_keeps(probability: float, num_draws: int) -> None:
    rng = np.random.default_rng(num_draws)
    values = rng.integers(0, 9, (50, num_draws)).astype(float)
    needed = Request("error", 0.0, probability).needed(values)
    for own, least_limit in zip(values, needed, strict=True):
        keeps = [limit for limit in np.unique(own) if np.mean(own <= limit) >= probability]
        assert least_limit == min(keeps)


def test_a_mixture_is_the_best_of_all_shares() -> None:
    rng = np.random.default_rng(0)
    limited = np.sort(rng.uniform(0, 1, 5))[:, None] + rng.normal(0, 0.05, (5, 60))
    other = 1 - 0.8 * limited.mean(axis=1, keepdims=True) ** 2 + rng.normal(0, 0.01, (5, 60))
    request = Request("expense", 0.6, 0.9)
    found = best_share(request, limited, other)
    best = np.inf
    for i, j in itertools.permutations(range(5), 2):
        for share in np.linspace(0, 1, 2001):
            mixed = (1 - share) * limited[i] + share * limited[j]
            if np.mean(mixed <= 0.6) >= 0.9:
                best = min(best, (1 - share) * other[i].mean() + share * other[j].mean())
    assert found is not None
    assert found.value == pytest.approx(best, rel=1e-3)
    mixed = (1 - found.share) * limited[found.first] + found.share * limited[found.second]
    assert np.mean(mixed <= 0.6 * (1 + 1e-12)) >= 0.9
    assert best_share(request._replace(limit=1e-3), limited, other) is None


def test_a_mixture_says_what_it_gains_over_a_policy(pair) -> None:
    low, high = pair.expense.mean(axis=1)[[0, -1]]
    said = []
    for share in np.linspace(0.1, 0.9, 5):
        budget = float(low + share * (high - low))
        policy = pair.at(budget=budget)
        mixture = pair.mixture(policy)
        if mixture is None:
            continue
        said.append(mixture)
        assert mixture.error == pytest.approx(policy.prediction.error - mixture.gain)
        assert mixture.gain > 1e-3 * mixture.error
        assert mixture.figure == "error"
        errors = [own.prediction.error for own in mixture.policies]
        assert mixture.error == pytest.approx((1 - mixture.share) * errors[0] + mixture.share * errors[1])
        assert f"{mixture.share:.1%} of the queries to" in mixture.sentence()
        assert mixture.to_dict()["gain"] == {"error": mixture.gain}
    assert pair.mixture(pair.at(error_price=float(PRICES[2]))) is None
