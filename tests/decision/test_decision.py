"""The forward pass against enumeration and Monte Carlo, thresholds against exhaustive search, policies."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascades import COST, cascade, discrete_chain, first, lay, mean_losses, score_map
from jax.test_util import check_grads
from scipy import stats

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.distributions import BetaMixture, MarginParams
from cascade_bayes.engine.cell_tables import chain_tables, tables_for_draws
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.costs import call_cost_draws
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.engine.optimise import default_starts, mean_loss, optimise
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.evaluation import realise, realised
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.policy.expected import Evaluation, Prediction
from cascade_bayes.policy.points import load_policies
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.reading import read_table
from cascade_bayes.rule import follow
from cascade_bayes.transforms import ConfidenceMap

NUM_SIMULATED = 100_000


POSITIONS = {
    2: [[0.4], [0.75]],
    3: [[0.3, 0.6], [0.8, 0.5]],
    5: [[0.5, 0.4, 0.6, 0.55], [0.9, 0.7, 0.3, 0.8]],
}


forward_of, optimised = jax.jit(forward), jax.jit(optimise)


class TestForward:
    @pytest.mark.parametrize(
        "k", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
    )
    def test_equals_monte_carlo_of_the_same_draw(self, k: int) -> None:
        params, grid, tables = lay(k)
        z, correct = jax.jit(simulate_scores, static_argnums=(2, 3))(
            jax.random.key(k), params, get_copulas("gumbel", k - 1), NUM_SIMULATED
        )
        raw = score_map(k).from_logit(np.asarray(z).T)
        cost = np.asarray(COST[k])
        for fraction in POSITIONS[k]:
            positions = np.asarray(fraction) * grid.num_cells
            thresholds = grid.thresholds(positions, score_map(k))
            stop = follow(raw, thresholds).stop
            wrong = ~np.asarray(correct).T[np.arange(NUM_SIMULATED), stop]
            paid = np.cumsum(cost)[stop]
            reach = (np.arange(k) <= stop[:, None]).mean(axis=0)
            outcome = forward(Problem(first(tables), cost, grid.is_atom), jnp.asarray(positions))
            root = np.sqrt(NUM_SIMULATED)
            assert abs(outcome.error - wrong.mean()) <= 3 * wrong.std() / root
            assert abs(outcome.cost - paid.mean()) <= 3 * paid.std() / root
            se = np.sqrt(reach * (1 - reach)) / root
            assert np.all(np.abs(outcome.reach_prob - reach) <= 3.5 * se + 1e-12)

    def test_equals_enumeration_on_a_discrete_chain(self) -> None:
        rng = np.random.default_rng(3)
        k, n = 3, 5
        transition = rng.dirichlet(np.ones(n), (k - 1, n))
        rate = rng.uniform(0, 1, (k - 1, n, n))
        mass, correct = rng.dirichlet(np.ones(n)), rng.uniform(0, 1, n)
        relative_cost = rng.uniform(0.5, 2.0, (k - 1, n))
        tables = discrete_chain(mass, correct, transition, transition * rate, relative_cost)
        cost, is_atom = np.array([1.0, 3.0, 10.0]), np.ones((k, n), dtype=bool)
        for r in itertools.product(range(n + 1), repeat=k - 1):
            error = paid = 0.0
            reach = np.zeros(k)
            for path in itertools.product(range(n), repeat=k):
                weight = mass[path[0]]
                for i in range(k - 1):
                    weight *= transition[i, path[i], path[i + 1]]
                stop = next((i for i in range(k - 1) if path[i] >= r[i]), k - 1)
                reach[: stop + 1] += weight
                right = rate[stop - 1, path[stop - 1], path[stop]] if stop else correct[path[0]]
                error += weight * (1 - right)
                calls = [cost[i + 1] * relative_cost[i, path[i]] for i in range(stop)]
                paid += weight * (cost[0] + sum(calls))
            outcome = forward_of(Problem(tables, cost, is_atom), jnp.asarray(r, dtype=float))
            np.testing.assert_allclose(outcome.error, error, atol=1e-12)
            np.testing.assert_allclose(outcome.cost, paid, atol=1e-12)
            np.testing.assert_allclose(outcome.reach_prob, reach, atol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize("k", [3, pytest.param(5, marks=pytest.mark.slow)])
    def test_refining_the_grid_changes_little(self, k: int) -> None:
        params, layout = cascade(k)
        draws = jax.tree.map(lambda x: x[None], params)
        figures = []
        for num_cells in (64, 256):
            grid = make_grid(draws, layout, num_cells)
            tables = tables_for_draws(draws, grid, get_copulas("gumbel", k - 1), tuple(range(k)))
            thresholds = np.linspace(0.2, 1.9, k - 1)
            positions = grid.positions(thresholds, score_map(k))
            figures.append(forward(Problem(first(tables), np.asarray(COST[k]), grid.is_atom), positions))
        np.testing.assert_allclose(figures[0].error, figures[1].error, atol=3e-4)
        np.testing.assert_allclose(figures[0].reach_prob, figures[1].reach_prob, atol=5e-4)

    @pytest.mark.slow
    def test_two_models_in_closed_form(self) -> None:
        """With independence and a uniform score, error and cost are integrals of a logistic curve."""
        one = jnp.ones((2, 1))
        margins = MarginParams(jnp.full((2, 0), jnp.nan), jnp.zeros((2, 0)), BetaMixture(one, one, one))
        params = CascadeParams(
            margins,
            theta=jnp.ones(1),
            intercept=jnp.array([0.0, 1.0]),
            slope=jnp.array([1.0, 0.0]),
            upstream=jnp.zeros(2),
            atom_effect=jnp.zeros((2, 0)),
            label_corr=LabelCorr(jnp.asarray(0.4), jnp.asarray(0.4)),
        )
        layout = AtomLayout(np.full((2, 0), np.nan), np.full((2, 0), np.nan), np.ones(2, bool))
        draws = jax.tree.map(lambda x: x[None], params)
        grid = make_grid(draws, layout, 128)
        tables = tables_for_draws(draws, grid, get_copulas("independence", 1), (0, 1))
        threshold = 0.4  # of the score s = sigmoid(z); P(correct | s) = s
        z = np.log(threshold / (1 - threshold))
        positions = grid.positions(score_map(2).from_logit(np.array([z, 0.0]))[:1], score_map(2))
        outcome = forward(Problem(first(tables), np.array([1.0, 5.0]), grid.is_atom), positions)
        right = (1 - threshold**2) / 2 + threshold / (1 + np.exp(-1.0))
        np.testing.assert_allclose(outcome.error, 1 - right, atol=2e-5)
        np.testing.assert_allclose(outcome.cost, 1 + 5 * threshold, atol=1e-4)

    @pytest.mark.slow
    def test_probability_is_conserved(self) -> None:
        _, _, tables = lay(5)
        np.testing.assert_allclose(tables.mass.sum(), 1, atol=1e-12)
        np.testing.assert_allclose(tables.transition.sum(-1), 1, atol=1e-12)
        slope = tables.across @ tables.transition
        np.testing.assert_allclose(slope.sum(-1), 0, atol=1e-12)
        assert np.abs(np.asarray(slope)).max() > 0.01

    def test_skipping_a_model_keeps_the_margins(self) -> None:
        params, layout = cascade(3)
        draws = jax.tree.map(lambda x: x[None], params)
        grid = make_grid(draws, layout)
        full = first(tables_for_draws(draws, grid, get_copulas("gumbel", 2), (0, 1, 2)))
        skip = first(tables_for_draws(draws, grid, get_copulas("gumbel", 2), (0, 2)))
        tail = first(tables_for_draws(draws, grid, get_copulas("gumbel", 2), (1, 2)))
        expected = full.mass @ full.transition[0] @ full.transition[1]
        np.testing.assert_allclose(skip.mass @ skip.transition[0], expected, atol=1e-12)
        np.testing.assert_allclose(tail.mass, full.mass @ full.transition[0], atol=1e-10)
        # So do the rates of being right, whatever confidence of the skipped model went before.
        np.testing.assert_allclose(tail.mass * tail.correct, full.mass @ full.right[0], atol=1e-10)
        wanted = full.mass @ full.transition[0] @ full.right[1]
        np.testing.assert_allclose(skip.mass @ skip.right[0], wanted, atol=1e-12)

    @pytest.mark.slow
    def test_gradients_in_thresholds(self) -> None:
        _, grid, tables = lay(3)

        def objective(positions: jax.Array) -> jax.Array:
            return mean_loss(Problem(tables, jnp.asarray(COST[3]), grid.is_atom), positions, 50.0)

        check_grads(
            objective, (jnp.array([20.3, 31.6]),), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6
        )

    @pytest.mark.slow
    def test_gradients_in_parameters(self) -> None:
        params, grid, _ = lay(3, num_cells=24)

        def objective(theta: jax.Array, intercept: jax.Array, scale: jax.Array) -> jax.Array:
            part = params.margins.continuous._replace(scale=scale)
            margins = params.margins._replace(continuous=part)
            draw = params._replace(theta=theta, intercept=intercept, margins=margins)
            tables = chain_tables(
                draw, jnp.asarray(grid.edges), jnp.asarray(grid.is_atom), get_copulas("gumbel", 2)
            )
            outcome = forward(Problem(tables, jnp.asarray(COST[3]), grid.is_atom), jnp.array([9.4, 12.7]))
            return outcome.cost + 50.0 * outcome.error

        args = (params.theta, params.intercept, params.margins.continuous.scale)
        check_grads(jax.jit(objective), args, order=1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


class TestGrid:
    def test_positions_and_thresholds_are_inverse(self) -> None:
        _, grid, _ = lay(3)
        rng = np.random.default_rng(0)
        # No raw score lies above the infinite one, whose atom is the last cell.
        positions = rng.uniform(0, grid.num_cells - 1, (200, 2))
        back = grid.positions(grid.thresholds(positions, score_map(3)), score_map(3))
        for i in range(2):
            atom = grid.is_atom[i, np.floor(positions[:, i]).astype(int)]
            expected = np.where(atom, np.round(positions[:, i]), positions[:, i])
            near = np.abs(back[:, i] - expected) < 1e-6
            # In an atom's cell a position means "at" or "just above", whole numbers.
            at = np.floor(positions[:, i]) + (positions[:, i] % 1 > 0.5)
            assert np.all(np.where(atom, back[:, i] == at, near))

    def test_at_an_atom_and_just_above_it(self) -> None:
        _, grid, _ = lay(3)
        cell = int(np.flatnonzero(grid.is_atom[1])[0])
        at, above = grid.thresholds(np.array([[0, cell], [0, cell + 1]]), score_map(3))[:, 1]
        raw = grid.atom_raw[1, cell]
        assert at == raw
        assert above == np.nextafter(raw, np.inf)
        assert follow(np.array([[raw]]), np.array([at])).stop[0] == 0  # not below: answered
        assert follow(np.array([[raw]]), np.array([above])).stop[0] == 1  # below: deferred

    def test_ends_never_and_always_defer(self) -> None:
        _, grid, _ = lay(3)
        ends = grid.thresholds(np.array([[0.0, grid.num_cells]]), score_map(3))
        np.testing.assert_array_equal(ends, [[-np.inf, np.inf]])
        np.testing.assert_array_equal(grid.positions(ends, score_map(3)), [[0, grid.num_cells]])

    def test_logprob_scale_ends(self) -> None:
        params, layout = cascade(3)
        log_map = ConfidenceMap("logprob", (1.0,) * 3, (2.0,) * 3)
        raw = [log_map.from_logit(locs, model=i) for i, locs in enumerate(layout.locs)]
        layout = layout._replace(raw=np.stack(raw))
        grid = make_grid(jax.tree.map(lambda x: x[None], params), layout)
        top = int(np.flatnonzero(grid.is_atom[2])[0])
        assert grid.atom_raw[2, top] == 0.0
        thresholds = grid.thresholds(np.array([[1.0, 20.0]]), log_map)
        assert np.all(thresholds <= 0)
        np.testing.assert_allclose(grid.positions(thresholds, log_map), [[1.0, 20.0]], atol=1e-6)


class TestOptimise:
    @pytest.mark.parametrize("k", [pytest.param(2, marks=pytest.mark.slow), 3])
    @pytest.mark.parametrize("error_price", [3.0, 20.0, 80.0, 400.0])
    def test_no_grid_point_is_better(self, k: int, error_price: float) -> None:
        _, grid, tables = lay(k, num_cells=40)
        cost, is_atom = jnp.asarray(COST[k]), jnp.asarray(grid.is_atom)
        best = optimised(
            Problem(tables, cost, is_atom), jnp.asarray(error_price), default_starts(k - 1, grid.num_cells)
        )
        axes = [np.arange(0, grid.num_cells + 0.5, 0.5)] * (k - 1)
        points = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, k - 1))
        losses = mean_losses(Problem(tables, cost, is_atom), points, jnp.asarray(error_price), None)
        assert best.loss <= losses.min() * 1.0005
        np.testing.assert_allclose(
            best.loss, mean_loss(Problem(tables, cost, is_atom), best.at.defer, error_price), rtol=1e-12
        )

    @pytest.mark.slow
    def test_stationary_where_stopping_equals_going_on(self) -> None:
        """For two models the threshold solves price (1 - p_1(z)) = cost_2 + price P(wrong_2 | z)."""
        _, grid, tables = lay(2, num_cells=200, atoms=False)
        price, cost = 25.0, jnp.asarray(COST[2])
        best = optimised(
            Problem(tables, cost, jnp.asarray(grid.is_atom)), jnp.asarray(price), default_starts(1, 200)
        )
        one = first(tables)
        stop = price * (1 - one.correct)
        go = cost[1] + price * (1 - one.right[0].sum(axis=1))
        middle = np.arange(200) + 0.5
        gain = np.asarray(go - stop)
        (last_loss,) = np.flatnonzero((gain[:-1] < 0) & (gain[1:] >= 0))
        crossing = np.interp(0.0, gain[last_loss : last_loss + 2], middle[last_loss : last_loss + 2])
        assert 20 < crossing < 180
        assert abs(float(best.at.defer[0]) - crossing) < 0.6

    @pytest.mark.slow
    def test_threshold_stands_on_the_right_side_of_an_atom(self) -> None:
        """All mass in one atom: defer it iff cost + price * error_2 is below price * error_1."""
        tables = discrete_chain(
            mass=np.array([0.0, 1.0, 0.0]),
            correct=np.full(3, 0.5),
            transition=np.full((1, 3, 3), 1 / 3),
            right=np.full((1, 3, 3), 0.9 / 3),
        ).alone()
        is_atom = jnp.array([[False, True, False]] * 2)
        cost = jnp.array([0.0, 1.0])
        for price, deferred in ((2.4, False), (2.6, True)):  # indifferent at 1 / 0.4 = 2.5
            best = optimised(Problem(tables, cost, is_atom), jnp.asarray(price), default_starts(1, 3))
            outcome = forward(Problem(first(tables), cost, is_atom), best.at.defer)
            assert float(outcome.reach_prob[1]) == float(deferred)

    def test_trivial_policies_at_the_ends(self) -> None:
        _, grid, tables = lay(3)
        cost, is_atom = jnp.asarray(COST[3]), jnp.asarray(grid.is_atom)
        cheap = optimised(Problem(tables, cost, is_atom), jnp.asarray(1e-6), default_starts(2, 64))
        np.testing.assert_array_equal(cheap.at.defer, 0.0)


def _table(num_queries: int = 6) -> CascadeData:
    rng = np.random.default_rng(0)
    shape = (num_queries, 3)
    return CascadeData(
        models=("a", "b", "c"),
        query_ids=np.arange(num_queries).astype(str),
        confidence=rng.normal(size=shape),
        correct=rng.random(shape) < 0.5,
        labelled=np.ones(shape, dtype=bool),
        cost=np.broadcast_to([1.0, 2.0, 4.0], shape).copy(),
        latency_ms=None,
        call_cost=np.array([1.0, 2.0, 4.0]),
        kind="score",
        confidence_map=score_map(3),
    )


def _policy(thresholds: list[float]) -> Policy:
    return Policy(
        models=("a", "b", "c"),
        thresholds=np.asarray(thresholds),
        draw_thresholds=np.array([[t + d for t in thresholds] for d in (-0.1, 0.0, 0.1)]),
        error_price=0.5,
        question={"error_price": 0.5},
        prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6, 0.3), 2.0, 1.5, 2.5),
        kind="score",
        call_cost=np.array([1.0, 2.0, 4.0]),
        fit_digest="0" * 64,
    )


class TestPolicy:
    def test_decides_one_query_at_a_time(self) -> None:
        policy = _policy([0.0, 1.0])
        assert policy.decide([0.0]) == "a"  # not below
        assert policy.decide([-0.1]) is None
        assert policy.decide([]) is None
        assert policy.decide([-0.1, 1.0]) == "b"
        assert policy.decide([-0.1, 0.9]) == "c"
        assert _policy([-np.inf, 1.0]).decide([]) == "a"
        assert _policy([np.inf, 1.0]).decide([np.nan, 2.0]) == "b"

    def test_array_agrees_with_single_decisions(self) -> None:
        data, policy = _table(50), _policy([0.2, -0.3])
        together = policy.decide(data.confidence)
        single = [policy.models.index(policy.decide(row)) for row in data.confidence]
        np.testing.assert_array_equal(together, single)

    def test_realised_figures_by_hand(self) -> None:
        data, thresholds = _table(40), np.array([0.2, -0.3])
        wrong, paid = [], []
        for i in range(40):
            c = data.confidence[i]
            stop = 0 if c[0] >= 0.2 else 1 if c[1] >= -0.3 else 2
            wrong.append(not data.correct[i, stop])
            paid.append([1.0, 3.0, 7.0][stop])
        result = realise(data, thresholds)
        np.testing.assert_allclose(result.error, np.mean(wrong))
        np.testing.assert_allclose(result.cost, np.mean(paid))
        np.testing.assert_allclose(result.cost_se, np.std(paid, ddof=1) / np.sqrt(40))
        np.testing.assert_allclose(sum(result.stop_prob), 1)
        assert result.latency is None
        for name, values in (("error", wrong), ("cost", paid)):
            again = stats.bootstrap(
                (np.asarray(values, float),),
                np.mean,
                confidence_level=0.9,
                n_resamples=20_000,
                method="percentile",
            )
            found = [getattr(result, f"{name}_q05"), getattr(result, f"{name}_q95")]
            # A quantile of 1000 resamples has a standard error of some 0.07 of the mean's own.
            np.testing.assert_allclose(
                found, again.confidence_interval, atol=0.3 * getattr(result, f"{name}_se")
            )
        assert (result.abstain_q05, result.abstain, result.abstain_q95) == (0, 0, 0)

    def test_bootstrap_of_many_queries_and_of_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data, thresholds = _table(40), np.array([0.2, -0.3])
        kept = realise(data, thresholds)
        monkeypatch.setattr(realised, "MANY_QUERIES", 10)
        normal = realise(data, thresholds)
        assert normal.cost_q05 == pytest.approx(kept.cost_q05, abs=0.3 * kept.cost_se)
        assert normal.cost_q95 == pytest.approx(kept.cost_q95, abs=0.3 * kept.cost_se)
        one = realise(data.take([0]), thresholds)
        assert np.isnan([one.cost_se, one.cost_q05, one.cost_q95]).all()

    def test_save_and_load(self, tmp_path) -> None:
        policy = _policy([-np.inf, 0.1 + 0.2])
        policy.save(tmp_path / "p.json")
        json.loads((tmp_path / "p.json").read_text(), parse_constant=pytest.fail)
        back = Policy.load(tmp_path / "p.json")
        np.testing.assert_array_equal(back.thresholds, policy.thresholds)
        np.testing.assert_array_equal(back.draw_thresholds, policy.draw_thresholds)
        assert back.prediction == policy.prediction
        assert back.threshold_interval(0.9) == policy.threshold_interval(0.9)

    def test_missing_label_of_a_call_that_is_made(self) -> None:
        data = _table()
        labelled = data.labelled.copy()
        labelled[2] = False
        broken = replace(data, labelled=labelled, correct=data.correct & labelled)
        with pytest.raises(InputError, match=r"label of model .* missing for query '2'"):
            realise(broken, np.array([0.0, 0.0]))

    def test_a_missing_confidence_passes_the_query_on(self) -> None:
        data, thresholds = _table(), np.array([0.2, -0.3])
        doubted, confidence = data.confidence.copy(), data.confidence.copy()
        confidence[[2, 5], 0] = np.nan
        confidence[5, 1] = np.nan
        doubted[[2, 5], 0] = -5.0  # below any threshold: the same as missing
        doubted[5, 1] = -5.0
        found = realise(replace(data, confidence=confidence), thresholds)
        wanted = realise(replace(data, confidence=doubted), thresholds)
        assert found.num_missing == 2
        assert found._replace(num_missing=0) == wanted
        evaluation = _policy(list(thresholds)).evaluate(replace(data, confidence=confidence))
        assert evaluation.to_dict()["num_missing"] == 2
        assert "2 of 6 queries were passed on because a confidence is missing" in evaluation.sentence()
        assert "missing" not in _policy(list(thresholds)).evaluate(data).sentence()

    def test_missing_call_whose_cost_nobody_knows(self) -> None:
        data = _table()
        cost = data.cost.copy()
        cost[3, 1] = np.nan
        message = f"cost of model '{data.models[1]}' must be known .* missing for query '3', and 1 of 6"
        with pytest.raises(InputError, match=message):
            realise(replace(data, cost=cost), np.array([np.inf, 0.0]))

    @pytest.mark.parametrize("away", [-1e-12, 1e-12])
    def test_a_cost_that_is_the_same_for_every_query_is_no_test(self, away: float) -> None:
        data = _table(40)
        alone = np.array([-np.inf, -np.inf])  # every query ends at the first model
        cost = np.full((40, 3), 3.3e-05)
        data = replace(data, cost=cost, call_cost=cost[0])
        wrong = 1 - data.correct[:, 0].mean()
        near = 3.3e-05 * (1 + away)
        prediction = Prediction(
            **dict(zip(("error", "error_q05", "error_q95"), (wrong, wrong - 0.1, wrong + 0.1), strict=True)),
            **dict.fromkeys(("cost", "cost_q05", "cost_q95", "expense", "expense_q05", "expense_q95"), near),
            reach_prob=(1.0, 0.0, 0.0),
        )
        found = Evaluation(prediction, realise(data, alone), 0.01)
        assert found.sentence().startswith("Realised error lies within its 90 % predictive band:")
        dear = replace(data, cost=2 * cost)
        said = Evaluation(prediction, realise(dear, alone), 0.01).sentence()
        assert (
            "cost is the same for every query, but another than in the fit (6.6e-05 against 3.3e-05)" in said
        )
        assert "higher" not in said

    def test_sentence_names_what_is_off(self) -> None:
        evaluation = _policy([-np.inf, 0.0]).evaluate(_table(2000))
        assert "error is higher than predicted" in evaluation.sentence()
        assert "cost is lower than predicted" in evaluation.sentence()


@pytest.fixture(scope="module")
def frontier(small_posterior) -> Frontier:
    return error_cost_frontier(small_posterior, models="all", error_prices=7, num_draws=20)


class TestFrontier:
    def test_columns_and_order(self, frontier: Frontier) -> None:
        frame = frontier.to_frame()
        assert list(frame.columns[:3]) == ["error_price", "models", "thresholds"]
        assert frame.error_price.is_monotonic_increasing
        assert (frame.expected_error_q05 <= frame.expected_error * (1 + 1e-12)).all()
        assert (frame.expected_cost <= frame.expected_cost_q95 * (1 + 1e-12)).all()
        # A dearer error buys fewer errors for more money, up to the optimiser's accuracy.
        assert np.all(np.diff(frame.expected_error) <= 1e-4)
        assert np.all(np.diff(frame.expected_cost) >= -1e-4 * frame.expected_cost.max())

    def test_each_draw_is_at_least_as_good_as_the_bayes_thresholds_on_it(self, small_posterior) -> None:
        posterior, price = small_posterior, 0.002
        swept = error_cost_frontier(posterior, models="all", error_prices=[price], num_draws=20)
        chain = discretise(posterior, None, 20)
        tables = chain.tables()
        for d in range(20):
            positions = chain.positions(Cuts(swept.draw_thresholds[0, d])).defer
            own = forward(Problem(tables.draw(d), chain.call_cost[d], chain.is_atom), positions)
            bayes = swept.cost[0, d] + price * swept.error[0, d]
            assert float(own.cost + price * own.error) <= bayes * (1 + 1e-4)

    def test_call_costs_vary_as_means_of_a_sample_do(self, small_frame) -> None:
        rng = np.random.default_rng(0)
        cost = small_frame["cost"] * rng.lognormal(0, 0.5, 120).repeat(3)  # a long query costs all more
        data = read_table(small_frame.assign(cost=cost))
        draws = call_cost_draws(data, 4000)
        np.testing.assert_allclose(draws.mean(axis=0), data.call_cost, rtol=1e-12)
        se = data.cost.std(axis=0, ddof=1) / np.sqrt(120)
        np.testing.assert_allclose(draws.std(axis=0), se, rtol=0.06)
        np.testing.assert_allclose(np.corrcoef(draws.T), 1.0, atol=1e-6)

    @pytest.mark.slow
    def test_budget_and_target_hold_on_the_posterior(self, frontier: Frontier) -> None:
        middle = float(np.median(frontier.cost))
        policy = frontier.at(budget=middle)
        assert policy.prediction.cost <= middle
        assert policy.question == {"budget": middle, "probability": 0.9}
        # Met by nine draws in ten at a price in the middle, so that the question has an answer.
        target = float(np.quantile(frontier.error[len(frontier) // 2], 0.9, method="higher"))
        policy = frontier.at(target_error=target)
        assert policy.prediction.error <= target
        feasible = np.mean(frontier.error <= target, axis=1) >= 0.9
        assert policy.prediction.cost <= frontier.cost.mean(axis=1)[feasible].min() * (1 + 1e-9)

    @pytest.mark.slow
    def test_other_prices_are_tuned_as_those_of_the_sweep(self, small_posterior) -> None:
        how = {"num_draws": 10, "num_cells": 24, "prior_queries": np.inf}
        swept = error_cost_frontier(small_posterior, models="all", error_prices=[0.001, 0.004], **how)
        wanted = error_cost_frontier(small_posterior, models="all", error_prices=[0.002], **how).policy(0)
        np.testing.assert_array_equal(swept.at(error_price=0.002).draw_thresholds, wanted.draw_thresholds)

    def test_infeasible_names_the_best_reachable(self, frontier: Frontier) -> None:
        with pytest.raises(InfeasibleError, match="the lowest error it reaches"):
            frontier.at(target_error=1e-6)

    def test_one_question_only(self, frontier: Frontier) -> None:
        with pytest.raises(InputError, match="exactly one"):
            frontier.at(budget=1.0, target_error=0.1)

    def test_file_round_trip(self, frontier: Frontier, tmp_path) -> None:
        frontier.save(tmp_path / "f.json")
        policies = load_policies(tmp_path / "f.json")
        assert len(policies) == len(frontier)
        np.testing.assert_array_equal(policies[3].thresholds, frontier.thresholds[3])
        np.testing.assert_allclose(policies[3].prediction.error, frontier.error[3].mean())

    @pytest.mark.slow
    def test_subset_of_the_models(self, small_posterior) -> None:
        models = [small_posterior.models[0], small_posterior.models[2]]
        swept = error_cost_frontier(small_posterior, models=models, error_prices=3, num_draws=20)
        assert swept.models == tuple(models)
        assert swept.thresholds.shape == (3, 1)

    @pytest.mark.parametrize(
        ("models", "message"),
        [(["x", "y"], "not in the posterior"), ([0], "at least two"), ([2, 0], "in the order of the fit")],
    )
    def test_models_that_make_no_cascade(self, small_posterior, models, message) -> None:
        names = [m if isinstance(m, str) else small_posterior.models[m] for m in models]
        with pytest.raises(InputError, match=message):
            error_cost_frontier(small_posterior, models=names)
