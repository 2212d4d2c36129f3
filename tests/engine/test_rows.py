"""Observed queries beside the chain: against following each by hand, and against exhaustive search."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascades import COST, discrete_chain, first, lay
from jax.test_util import check_grads
from scipy.special import expit

from cascade_bayes import predict
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.engine.cell_tables import tables_for_draws
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.combinations import run_combinations
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.forward import Outcome, forward, outcomes_for_draws
from cascade_bayes.engine.grid import Grid
from cascade_bayes.engine.optimise import default_starts, mean_loss, optimise
from cascade_bayes.engine.rows import (
    DRAW_AXES,
    Followed,
    Queries,
    Rows,
    at_cells,
    average,
    find_queries,
    follow_draws,
    inside_cells,
)
from cascade_bayes.errors import InputError
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.rule import follow
from cascade_bayes.transforms import ConfidenceMap

OPTIMISE = jax.jit(optimise)
LOSSES = jax.jit(jax.vmap(mean_loss, in_axes=(None, 0, None)))


def table(params: CascadeParams, k: int, num_queries: int, seed: int = 0) -> CascadeData:
    """Queries of a cascade whose calls cost more for some than for others."""
    z, correct = simulate_scores(jax.random.key(seed), params, get_copulas("gumbel", k - 1), num_queries)
    shape, scale = (num_queries, k), ConfidenceMap("probability", (0.0,) * k, (1.0,) * k)
    return CascadeData(
        models=tuple("abcde"[:k]),
        query_ids=np.arange(num_queries).astype(str),
        confidence=scale.from_logit(np.asarray(z).T),
        correct=np.asarray(correct).T,
        labelled=np.ones(shape, dtype=bool),
        cost=COST[k] * np.random.default_rng(seed).uniform(0.5, 1.5, shape),
        latency_ms=None,
        call_cost=np.asarray(COST[k]),
        kind="probability",
        confidence_map=scale,
    )


def queries(data: CascadeData, grid: Grid, prior_queries: float, members=None, num_draws: int = 1) -> Queries:
    chain = tuple(range(data.num_models))
    members = chain if members is None else members
    own = Grid(*(field[list(members)] for field in grid))
    found = find_queries(data, chain, members, own, num_draws, prior_queries, jnp.dtype("float64"))
    assert found is not None
    return found


def beside(
    params: CascadeParams, grid: Grid, data: CascadeData, prior_queries: float, members=None
) -> ChainTables:
    k = data.num_models
    members = tuple(range(k)) if members is None else members
    draws = jax.tree.map(lambda x: x[None], params)
    found = queries(data, grid, prior_queries, members)
    return tables_for_draws(draws, grid, get_copulas("gumbel", k - 1), members, found)


class TestForward:
    @pytest.mark.slow
    @pytest.mark.parametrize("members", [None, (0, 2), pytest.param((1, 2), marks=pytest.mark.slow)])
    def test_equals_following_each_query_by_hand(self, members: tuple[int, ...] | None) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 60)
        one = first(beside(params, grid, data, 0.0, members))
        own = list(range(3) if members is None else members)
        weight = np.asarray(one.rows.weight)
        assert weight.sum() == pytest.approx(1.0, abs=1e-12)
        right = 1 / (1 + np.exp(-np.asarray(correctness_logit(data.logit_score().T, params))))[own].T
        cost = np.asarray(COST[3])[own]
        is_atom = jnp.asarray(grid.is_atom[own])
        for cells in itertools.product((0, 9, 31, 40, 64), repeat=len(own) - 1):
            kept = data.confidence_map.select(own)
            part = Grid(*(field[own] for field in grid))
            stop = follow(data.confidence[:, own], part.thresholds(np.asarray(cells, dtype=float), kept)).stop
            outcome = forward(Problem(one, jnp.asarray(cost), is_atom), jnp.asarray(cells, dtype=float))
            called = np.arange(len(own)) <= stop[:, None]
            picked = right[np.arange(60), stop]
            np.testing.assert_allclose(outcome.error, weight @ (1 - picked), rtol=1e-10)
            np.testing.assert_allclose(outcome.reach_prob, weight @ called, rtol=1e-10, atol=1e-14)
            np.testing.assert_allclose(
                outcome.cost, weight @ np.sum(called * data.cost[:, own], axis=1), rtol=1e-10
            )
            np.testing.assert_allclose(
                outcome.right_prob,
                [np.sum((weight * picked)[stop == i]) for i in range(len(own))],
                rtol=1e-10,
                atol=1e-14,
            )

    @pytest.mark.slow
    def test_chain_counts_for_what_is_left(self) -> None:
        params, grid, alone = lay(3)
        data = table(params, 3, 30)
        cost, is_atom = jnp.asarray(COST[3]), jnp.asarray(grid.is_atom)
        at = jnp.array([20.3, 41.7])
        chain = forward(Problem(first(alone), cost, is_atom), at)
        both = first(beside(params, grid, data, 12.0))
        share = float(jnp.sum(both.rows.weight))
        assert 0.5 < share < 0.9
        only = both._replace(rows=both.rows._replace(weight=both.rows.weight / share))
        rows = forward(Problem(only, cost, is_atom), at)
        for name in Outcome._fields:
            np.testing.assert_allclose(
                getattr(forward(Problem(both, cost, is_atom), at), name),
                (1 - share) * getattr(chain, name) + share * getattr(rows, name),
                rtol=1e-12,
            )

    @pytest.mark.slow
    def test_unknown_confidences_are_the_chains(self) -> None:
        """By enumeration of all paths of a discrete chain that begin as each query did."""
        rng = np.random.default_rng(3)
        k, n, num_queries = 3, 4, 5
        transition = rng.dirichlet(np.ones(n), (k - 1, n))
        rate = rng.uniform(0, 1, (k - 1, n, n))
        cells = rng.integers(0, n, (num_queries, k - 1))
        ends = np.zeros((k - 1, num_queries))
        ends[0, :2] = ends[1, 2] = 1  # known: one confidence, two, and all that matter
        weight, right = rng.dirichlet(np.ones(num_queries)), rng.uniform(0, 1, (k, num_queries))
        last_known = np.argmax(ends, axis=0) + 2 * ~ends.any(axis=0)
        cell = jnp.asarray(np.where(np.array([[0], [1]]) <= last_known, cells.T, 0))
        rows = Queries(
            jnp.zeros((k, num_queries)),
            cell,
            cell + 0.5,
            jnp.asarray(ends),
            jnp.asarray(rng.uniform(1, 9, (k, num_queries))),
            jnp.zeros((1, num_queries)),
            np.arange(num_queries),
        ).rows(jnp.asarray(weight), jnp.asarray(right))
        tables = discrete_chain(
            mass=jnp.asarray(rng.dirichlet(np.ones(n))),
            correct=jnp.asarray(rng.uniform(0, 1, n)),
            transition=jnp.asarray(transition),
            right=jnp.asarray(transition * rate),
            relative_cost=jnp.asarray(rng.uniform(0.5, 2.0, (k - 1, n))),
        )._replace(rows=rows)
        tables = jax.tree.map(np.asarray, tables)  # read one by one below
        rows = tables.rows
        cost, run = np.array([1.0, 3.0, 10.0]), jax.jit(forward)
        for r in itertools.product(range(n + 1), repeat=k - 1):
            answered = paid = 0.0
            reach = np.zeros(k)
            for q in range(num_queries):
                # Where its confidences are known a query's own rates and costs hold, else the chain's.
                last = int(np.flatnonzero(ends[:, q])[0]) if ends[:, q].any() else k - 1
                paths = [
                    path
                    for path in itertools.product(range(n), repeat=k)
                    if all(path[i] == cells[q, i] for i in range(min(last + 1, k - 1)))
                    and (last < k - 1 or path[-1] == 0)
                ]
                for path in paths:
                    mass = float(rows.weight[q])
                    for i in range(last, k - 1):
                        mass *= transition[i, path[i], path[i + 1]]
                    stop = next((i for i in range(k - 1) if path[i] >= r[i]), k - 1)
                    reach[: stop + 1] += mass
                    known = stop <= last
                    p = rows.right[stop, q] if known else rate[stop - 1, path[stop - 1], path[stop]]
                    answered += mass * float(p)
                    own = np.arange(k) < last if last < k - 1 else np.ones(k, dtype=bool)
                    relative = [
                        float(tables.relative_cost[i - 1, path[i - 1]]) if i > last else 1.0 for i in range(k)
                    ]
                    paid += mass * np.where(own, rows.cost[:, q], cost * relative)[: stop + 1].sum()
            is_atom = np.ones((k, n), dtype=bool)
            outcome = run(
                Problem(tables, jnp.asarray(cost), jnp.asarray(is_atom)), jnp.asarray(r, dtype=float)
            )
            np.testing.assert_allclose(outcome.reach_prob, reach, atol=1e-12)
            np.testing.assert_allclose(1 - outcome.error, answered, atol=1e-12)
            np.testing.assert_allclose(outcome.cost, paid, rtol=1e-12)

    @pytest.mark.parametrize("threshold", [1.0, 1.2, 1.3, 1.5, 1.7, 1.8, 2.0])
    def test_a_query_is_met_where_it_stands_whether_it_is_followed_or_handed_over(
        self, threshold: float
    ) -> None:
        """One at the threshold stays; so do those of a log that stopped just above its threshold."""
        at = np.array([1.1, 1.3, 1.7, 1.9])
        rng = np.random.default_rng(0)
        transition = rng.dirichlet(np.ones(3), (1, 3))
        rate = rng.uniform(size=(1, 3, 3))
        rows = Rows(
            cell=jnp.ones((1, 4), dtype=int),
            position=jnp.asarray(at[None]),
            ends=jnp.array([[0.0, 0.0, 1.0, 1.0]]),
            cost=jnp.asarray(rng.uniform(1, 9, (2, 4))),
            weight=jnp.full(4, 0.25),
            right=jnp.asarray(rng.uniform(size=(2, 4))),
        )
        tables = discrete_chain(
            mass=jnp.full(3, 1 / 3),
            correct=jnp.full(3, 0.5),
            transition=jnp.asarray(transition),
            right=jnp.asarray(transition * rate),
            relative_cost=jnp.asarray(rng.uniform(0.5, 2.0, (1, 3))),
        )._replace(rows=rows)
        cost = np.array([2.0, 7.0])
        problem = Problem(tables, jnp.asarray(cost), jnp.zeros((1, 3), dtype=bool))
        found = forward(problem, jnp.array([threshold]))
        goes_on, known = at < threshold, np.array([True, True, False, False])
        right = np.where(goes_on & ~known, (transition * rate)[0, 1].sum(), rows.right[0])
        right = np.where(goes_on & known, rows.right[1], right)
        paid = np.where(known, rows.cost[0], cost[0])
        later = np.where(known, rows.cost[1], cost[1] * float(tables.relative_cost[0, 1]))
        np.testing.assert_allclose(found.reach_prob, [1.0, goes_on.mean()], rtol=1e-12)
        np.testing.assert_allclose(1 - found.error, right.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.cost, np.mean(paid + goes_on * later), rtol=1e-12)
        combined = run_combinations(
            jax.tree.map(lambda field: field, Problem(tables.alone(), cost[None], problem.is_atom)),
            (Positions(jnp.array([threshold]), None),),
        )
        np.testing.assert_allclose(combined.error, found.error.reshape(1, 1), rtol=1e-12)
        np.testing.assert_allclose(combined.cost, found.cost.reshape(1, 1), rtol=1e-12)

    @pytest.mark.parametrize("kind", ["probability", "logprob", "score"])
    def test_confidences_and_thresholds_stand_in_one_order(self, kind: str) -> None:
        """Equal ones at one place, to the last digit, and those next to certainty too."""
        _, grid, _ = lay(2)
        rng = np.random.default_rng(0)
        next_to_one = 1 - 10.0 ** -np.arange(1, 16)
        raw = {
            "probability": np.concatenate([np.round(rng.uniform(0.001, 0.999, 400), 3), next_to_one]),
            "logprob": -np.concatenate(
                [np.round(rng.exponential(0.3, 400) + 1e-4, 4), 10.0 ** -np.arange(5, 30)]
            ),
            "score": np.concatenate([np.round(rng.normal(0, 2, 400), 1), [38.0, 39.0, 50.0, 60.0, -45.0]]),
        }[kind]
        raw = np.unique(raw)
        scale = ConfidenceMap(kind, (0.0,), (1.0,))
        one = Grid(*(field[:1] for field in grid))
        cell = one.cells(scale.to_logit(raw, model=0), 0)
        found = one.places(raw[:, None], cell[:, None], scale)[:, 0]
        for dtype in (np.float64, np.float32):
            place = inside_cells(found, cell, dtype)
            assert np.all(cell <= place)
            assert np.all(place < cell + 1)  # so that the upper edge of its cell defers each
        at = one.positions(raw[:, None], scale)[:, 0]
        deferred = inside_cells(found, cell, float)[None] < at[:, None]
        wanted = raw[None] < raw[:, None]
        assert not np.any(deferred & ~wanted)
        # Not told apart are those alone whose scores the arithmetic does not tell apart.
        score = expit(scale.to_logit(raw, model=0))
        gap = np.abs(score[None] - score[:, None])[wanted & ~deferred]
        assert np.all(gap <= 8 * np.finfo(float).eps)

    @pytest.mark.slow
    def test_gradients(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 40)
        confidence = data.confidence.copy()
        confidence[:10, 1:] = np.nan
        both = beside(params, grid, replace(data, confidence=confidence), 5.0)
        cost, is_atom = jnp.asarray(COST[3]), jnp.asarray(grid.is_atom)
        check_grads(
            lambda at: mean_loss(Problem(both, cost, is_atom), at, jnp.asarray(20.0)),
            (jnp.array([20.3, 41.7]),),
            order=1,
            modes=["fwd", "rev"],
        )

    @pytest.mark.slow
    def test_policies_on_draws_with_and_without_their_tables(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 40)
        draws = jax.tree.map(lambda x: jnp.stack([x, x]), params)
        found = queries(data, grid, 7.0, num_draws=2)
        families = get_copulas("gumbel", 2)
        tables = tables_for_draws(draws, grid, families, (0, 1, 2), found)
        assert not np.allclose(found.weight[0], found.weight[1])
        cost, is_atom = jnp.asarray([COST[3], COST[3]]), jnp.asarray(grid.is_atom)
        positions = jnp.array([[20.3, 41.7], [64.0, 3.0]])
        kept = outcomes_for_draws(draws, grid, families, (0, 1, 2), cost, (positions, None), found)
        for p, d in itertools.product(range(2), range(2)):
            outcome = forward(Problem(tables.draw(d), cost[d], is_atom), positions[p])
            for name in Outcome._fields:
                np.testing.assert_allclose(getattr(kept, name)[p, d], getattr(outcome, name), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("error_price", [3.0, 20.0, 80.0, 400.0])
@pytest.mark.parametrize(("k", "gaps"), [(3, True), (2, False), (2, True)])
def test_no_grid_point_is_better(k: int, gaps: bool, error_price: float) -> None:
    params, grid, _ = lay(k, num_cells=40)
    data = table(params, k, 50)
    if gaps:
        confidence = data.confidence.copy()
        confidence[:15, 1:] = np.nan
        confidence[15:35, 2:] = np.nan  # these pay for the second model what the chain pays
        data = replace(data, confidence=confidence)
    tables = beside(params, grid, data, 20.0)
    cost, is_atom = jnp.asarray(COST[k]), jnp.asarray(grid.is_atom)
    best = OPTIMISE(
        Problem(tables, cost, is_atom), jnp.asarray(error_price), default_starts(k - 1, grid.num_cells)
    )
    axes = [np.arange(0, grid.num_cells + 0.5, 0.5)] * (k - 1)
    points = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, k - 1))
    losses = jax.jit(
        jax.vmap(lambda p: mean_loss(Problem(tables, cost, is_atom), p, jnp.asarray(error_price)))
    )(points)
    assert best.loss <= losses.min() * 1.0005
    # What the sweeps say that grid points lose, some grid point does.
    coarse = float(best.loss + best.polish_gain)
    assert np.abs(np.asarray(losses) / coarse - 1).min() < 1e-9
    np.testing.assert_allclose(
        best.loss, mean_loss(Problem(tables, cost, is_atom), best.at.defer, error_price), rtol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("error_price", [25.0, 30.0])
def test_parabolas_are_exact_for_a_single_threshold(error_price: float) -> None:
    _, grid, tables = lay(2, num_cells=40, atoms=False)
    cost, is_atom, price = jnp.asarray(COST[2]), jnp.asarray(grid.is_atom), jnp.asarray(error_price)
    best = optimise(Problem(tables, cost, is_atom), price, default_starts(1, 40), num_steps=0)
    points = jnp.linspace(0, 40, 8001)[:, None]
    losses = LOSSES(Problem(tables, cost, is_atom), points, price)
    assert best.polish_gain > 0
    assert abs(float(best.at.defer[0] - points[jnp.argmin(losses), 0])) < 0.006
    assert float(best.loss) <= float(losses.min()) * (1 + 1e-12)


def test_the_average_draw_does_what_draws_do_on_average() -> None:
    rng = np.random.default_rng(0)
    num_draws, k, n, num_cells = 6, 3, 20, 8
    weight = rng.dirichlet(np.ones(n + 1), num_draws)[:, :n]
    weight[:, 4] = 0.0
    cell = jnp.asarray(rng.integers(0, num_cells, (k - 1, n)))
    rows = Rows(
        cell=cell,
        position=cell + 0.5,
        ends=None,
        cost=jnp.asarray(rng.uniform(0, 20, (k, n))),
        weight=jnp.asarray(weight),
        right=jnp.asarray(rng.uniform(0, 1, (num_draws, k, n))),
    )
    deferred = jnp.asarray(rng.choice([0.0, 0.4, 1.0], (k - 1, num_cells)))
    early = (1 - deferred) * rng.choice([0.0, 0.3], (k - 1, num_cells))

    def figures(rows: Rows) -> tuple[np.ndarray, ...]:
        followed = follow_draws(rows, deferred, early)
        axes = Followed(path=None, deferred=None, early=None, handed=None)
        right = jax.vmap(Followed.right_prob, in_axes=(axes, DRAW_AXES))(followed, rows)
        cost = jax.vmap(Followed.cost, in_axes=(axes, DRAW_AXES))(followed, rows)
        return tuple(np.mean(field, axis=0) for field in (followed.path * rows.weight[:, None], right, cost))

    one = average(rows)
    assert one.weight.shape == (1, n)
    for every, found in zip(figures(rows), figures(one), strict=True):
        np.testing.assert_allclose(found, every, rtol=1e-12)


def test_sums_by_cell() -> None:
    rng = np.random.default_rng(1)
    values, cell = rng.normal(size=(4, 3, 50)), rng.integers(0, 7, (3, 50))
    found = at_cells(jnp.asarray(values), jnp.asarray(cell), jnp.zeros((3, 7)))
    for i, j in np.ndindex(4, 3):
        np.testing.assert_allclose(found[i, j], np.bincount(cell[j], values[i, j], minlength=7), atol=1e-14)


class TestQueries:
    def test_every_confidence_lies_in_its_cell(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 2000)
        z = data.logit_score()
        for i in range(3):
            at = grid.cells(z[:, i], i)
            assert np.all((grid.edges[i, at, 0] <= z[:, i]) & (z[:, i] <= grid.edges[i, at, -1]))
            atoms = np.isin(z[:, i], grid.edges[i, grid.is_atom[i], 0])
            np.testing.assert_array_equal(grid.is_atom[i, at], atoms)
            assert atoms.any()

    def test_infinite_without_an_atom_lies_in_an_outer_cell(self) -> None:
        _, grid, _ = lay(3, atoms=False)
        cells = grid.cells(np.array([-np.inf, np.inf]), 0)
        np.testing.assert_array_equal(cells, [0, grid.num_cells - 1])

    def test_are_followed_as_far_as_they_are_known(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 6)
        confidence = data.confidence.copy()
        confidence[0, 0] = np.nan  # never followed
        confidence[1, 1:] = np.nan  # handed over by the first model
        confidence[2, 2] = np.nan  # by the second
        found = queries(replace(data, confidence=confidence), grid, 3.0)
        assert found.weight.shape == (1, 5)
        np.testing.assert_array_equal(found.ends, [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
        complete = queries(data, grid, 3.0)
        assert complete.ends is None
        np.testing.assert_array_equal(found.cell[0], complete.cell[0, 1:])
        np.testing.assert_array_equal(found.cell[1, 1:], complete.cell[1, 2:])

    def test_complete_ones_stand_for_all(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 6)
        confidence = data.confidence.copy()
        confidence[1, 1:] = np.nan
        confidence[2, 2] = np.nan
        found = queries(replace(data, confidence=confidence), grid, 3.0)
        complete = found.complete()
        assert complete.ends is None
        np.testing.assert_array_equal(complete.weight[:, 1:3], 0.0)
        np.testing.assert_allclose(complete.weight.sum(), found.weight.sum())
        kept = np.asarray([0, 3, 4, 5])
        ratio = complete.weight[0, kept] / found.weight[0, kept]
        np.testing.assert_allclose(ratio, ratio[0])
        assert complete.complete() is complete

    @pytest.mark.slow
    def test_padding_changes_nothing(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 30)
        confidence = data.confidence.copy()
        confidence[4, 1:] = np.nan  # handed over
        found = queries(replace(data, confidence=confidence), grid, 3.0)
        draws = jax.tree.map(lambda x: x[None], params)
        copulas, own, at = get_copulas("gumbel", 2), (0, 1, 2), (jnp.array([[20.3, 41.7], [3.0, 64.0]]), None)
        how = draws, grid, copulas, own, jnp.asarray(COST[3])[None], at
        padded = found.padded(48)
        assert padded.weight.shape == (1, 48)
        for one, other in zip(outcomes_for_draws(*how, found), outcomes_for_draws(*how, padded), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-16)

    def test_a_skipped_model_may_have_decided_what_is_missing(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 6)
        confidence = data.confidence.copy()
        confidence[0, 2] = np.nan
        data = replace(data, confidence=confidence)

        def found(chain_models: tuple[int, ...], members: tuple[int, ...]) -> Queries:
            own = Grid(*(field[[chain_models[m] for m in members]] for field in grid))
            return find_queries(data, chain_models, members, own, 1, 3.0, jnp.dtype("float64"))

        np.testing.assert_array_equal(found((0, 1, 2), (0, 2)).ends, np.ones((1, 6)))
        # A modular fit has a chain of the cascade's own models, and takes gaps to be random.
        np.testing.assert_array_equal(found((0, 2), (0, 1)).ends, [[1, 0, 0, 0, 0, 0]])
        assert found((0, 1), (0, 1)).ends is None
        np.testing.assert_array_equal(found((0, 1, 2), (0, 1, 2)).ends, [[0] * 6, [1, 0, 0, 0, 0, 0]])

    @pytest.mark.parametrize(
        "members", [(0, 1, 2), *(pytest.param(two, marks=pytest.mark.slow) for two in ((0, 2), (1, 2)))]
    )
    def test_log_of_a_cascade_that_ran_is_no_bias(self, members: tuple[int, ...]) -> None:
        """Later models are seen on hard queries only; what other thresholds do is that of all queries."""
        params, grid, _ = lay(3)
        data = table(params, 3, 4000, seed=5)
        observed = np.ones((4000, 3), dtype=bool)
        observed[:, 1] = data.confidence[:, 0] < np.quantile(data.confidence[:, 0], 0.6)
        observed[:, 2] = observed[:, 1] & (data.confidence[:, 1] < np.quantile(data.confidence[:, 1], 0.5))
        log = replace(data, confidence=np.where(observed, data.confidence, np.nan))
        own = list(members)
        families = get_copulas("gumbel", 2)
        draws = jax.tree.map(lambda x: x[None], params)
        found = find_queries(
            log, (0, 1, 2), members, Grid(*(f[own] for f in grid)), 1, 1e-6, jnp.dtype("float64")
        )
        if members[0] > 0:
            assert found is None  # nothing is left to follow but queries that the first model deferred
            return
        found = found._replace(weight=jnp.full((1, 4000), 1 / 4000))
        both = first(tables_for_draws(draws, grid, families, members, found))
        chain = first(tables_for_draws(draws, grid, families, members))
        cost, is_atom = jnp.asarray(COST[3])[jnp.asarray(own)], jnp.asarray(grid.is_atom[own])
        for at in ((25.0, 25.0), (40.0, 50.0)):
            positions = jnp.asarray(at[: len(own) - 1])
            rows, exact = (forward(Problem(tables, cost, is_atom), positions) for tables in (both, chain))
            np.testing.assert_allclose(rows.reach_prob, exact.reach_prob, atol=4 * 0.5 / np.sqrt(4000))
            np.testing.assert_allclose(rows.error, exact.error, atol=4 * 0.3 / np.sqrt(4000))

    def test_weights_are_dirichlet_and_worth_the_observed_queries(self) -> None:
        params, grid, _ = lay(3)
        weight = np.asarray(queries(table(params, 3, 15), grid, 5.0, num_draws=20_000).weight)
        model = 1 - weight.sum(axis=1)
        variance = 0.25 * 0.75 / 16
        np.testing.assert_allclose(model.mean(), 5 / 20, atol=4 * np.sqrt(variance / 20_000))
        np.testing.assert_allclose(model.var(), variance, rtol=0.06)
        np.testing.assert_allclose(weight.mean(axis=0), 1 / 20, rtol=0.04)
        np.testing.assert_allclose(weight.var(axis=0), 0.05 * 0.95 / 16, rtol=0.1)

    def test_unknown_costs_are_the_mean(self) -> None:
        params, grid, _ = lay(3)
        data = table(params, 3, 4)
        cost = data.cost.copy()
        cost[1, 1] = np.nan
        found = queries(replace(data, cost=cost), grid, 1.0)
        np.testing.assert_allclose(found.cost, np.where(np.isnan(cost), COST[3], cost).T)

    @pytest.mark.parametrize("value", [-1.0, float("nan")])
    def test_what_the_model_counts_for_is_not_negative(self, small_posterior, value: float) -> None:
        with pytest.raises(InputError, match="prior_queries must be at least 0, or inf"):
            predict(small_posterior, [-0.2, -0.1], prior_queries=value)


class TestPosterior:
    @pytest.mark.slow
    def test_so_many_prior_queries_are_the_model_alone(self, small_posterior) -> None:
        many, alone, default = (
            predict(small_posterior, [-0.3, -0.1], num_draws=50, prior_queries=a) for a in (1e9, np.inf, 10.0)
        )
        np.testing.assert_allclose(many.error, alone.error, atol=1e-6)
        np.testing.assert_allclose(many.reach_prob, alone.reach_prob, atol=1e-6)
        assert np.abs(default.reach_prob - alone.reach_prob).max() > 1e-3

    @pytest.mark.slow
    def test_frontier_refines_with_its_own(self, small_posterior) -> None:
        swept = error_cost_frontier(
            small_posterior, models="all", error_prices=[1e-3, 1e-2], num_draws=20, prior_queries=np.inf
        )
        assert swept.prior_queries == np.inf
        alone = predict(small_posterior, swept.at(error_price=2e-3), num_draws=20, prior_queries=np.inf)
        assert swept.at(error_price=2e-3).prediction.error == pytest.approx(alone.error.mean(), rel=1e-9)
