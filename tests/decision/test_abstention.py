"""Leaving queries without an answer: the forward pass, the search, the certificate, policies and files."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cascades import COST, abstaining, discrete_chain, first, lay, mean_losses, of_atoms, score_map

from cascade_bayes import ABSTAIN, Policy, Terms, certify, compare, predict, value_of_information
from cascade_bayes.decision.certificate import best_policy
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.new_queries import simulate_new
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.optimise import default_starts, mean_loss, optimise
from cascade_bayes.engine.rows import Queries
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.evaluation import realise
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import load_policies
from cascade_bayes.rule import follow

PRICE = 2e-3
"""US dollars per abstention, of the bundled example: calls cost up to some 5e-4, errors below 0.02."""


def random_chain(rng: np.random.Generator, k: int, n: int, num_queries: int = 0) -> ChainTables:
    """A chain of cells without any order, that may abstain, and queries beside it."""
    transition = rng.dirichlet(np.full(n, 0.7), (k - 1, n))
    tables = abstaining(
        discrete_chain(
            mass=jnp.asarray(rng.dirichlet(np.ones(n))),
            correct=jnp.asarray(rng.uniform(size=n)),
            transition=jnp.asarray(transition),
            right=jnp.asarray(transition * rng.uniform(size=transition.shape)),
            relative_cost=jnp.asarray(rng.uniform(0.5, 2.0, (k - 1, n))),
        )
    )
    if not num_queries:
        return tables
    ends = np.zeros((k, num_queries))
    ends[0, 0] = 1  # the second confidence of the first query is not known
    cost = np.concatenate([rng.uniform(1, 9, (k, num_queries)), np.full((1, num_queries), 4.0)])
    cell = jnp.asarray(rng.integers(0, n, (k, num_queries)))
    queries = Queries(
        z=jnp.zeros((k, num_queries)),
        cell=cell,
        position=cell + 0.5,
        ends=jnp.asarray(ends),
        cost=jnp.asarray(cost),
        weight=jnp.zeros((1, num_queries)),
        place=np.arange(num_queries),
    )
    weight = 0.7 * rng.dirichlet(np.ones(num_queries))
    return tables._replace(
        rows=queries.rows(jnp.asarray(weight), jnp.asarray(rng.uniform(size=(k, num_queries))))
    )


def first_model(tables: ChainTables) -> ChainTables:
    """The first model of a chain of two, alone; the step that it does not take is left."""
    return tables._replace(step=tables.step[:0], across=tables.across[:0])


class TestForward:
    def test_equals_enumeration(self) -> None:
        """Over all paths of cells, of the chain and of each query, and many pairs of thresholds."""
        rng = np.random.default_rng(4)
        k, n, price = 2, 4, 4.0
        tables = jax.tree.map(np.asarray, random_chain(rng, k, n, num_queries=3))  # read one by one below
        rows = tables.rows
        assert rows is not None
        cost, is_atom = np.array([1.0, 3.0, price]), jnp.ones((k, n), bool)
        run = jax.jit(forward)
        for t1, t2, low in itertools.product(range(n + 1), repeat=3):
            if low > t1:
                continue
            paths: list[tuple[float, list[float], list[float], tuple[int, ...]]] = []
            share = 1 - float(jnp.sum(rows.weight))
            for path in itertools.product(range(n), repeat=k):
                step = float(tables.transition[0, path[0], path[1]])
                rates = [float(tables.correct[path[0]]), float(tables.right[0][path] / step)]
                calls = [cost[0], cost[1] * float(tables.relative_cost[0, path[0]])]
                paths.append((share * float(tables.mass[path[0]]) * step, rates, calls, path))
                if path[0] == int(rows.cell[0, 0]):  # the first query goes on as the chain does
                    paths.append(
                        (float(rows.weight[0]) * step, [float(rows.right[0, 0]), rates[1]], calls, path)
                    )
            for q in (1, 2):
                rates, calls = ([float(x) for x in field[:k, q]] for field in (rows.right, rows.cost))
                own = int(rows.cell[0, q]), int(rows.cell[1, q])
                paths.append((float(rows.weight[q]), rates, calls, own))
            error = paid = left = 0.0
            reach = np.zeros(k)
            for weight, rates, calls, path in paths:
                deferred = low <= path[0] < t1
                stop = int(deferred)
                abstained = path[0] < low or (deferred and path[1] < t2)
                reach[: stop + 1] += weight
                paid += weight * (sum(calls[: stop + 1]) + price * abstained)
                left += weight * abstained
                error += weight * (1 - rates[stop]) * (not abstained)
            at = jnp.asarray([t1, t2], float), jnp.asarray([low, 0], float)
            found = run(Problem(tables, cost, is_atom), *at)
            np.testing.assert_allclose(found.error, error, atol=1e-12)
            np.testing.assert_allclose(found.cost, paid, rtol=1e-12)
            np.testing.assert_allclose(found.reach_prob, [*reach, left], atol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize("z", [(-0.52, -0.5, 0.3), (-0.8, 0.6, 1.0)])
    def test_within_cells_equals_finer_cells(self, z: tuple[float, float, float]) -> None:
        """Both thresholds in one coarse cell, and in two."""
        found = []
        for cells in (32, 256):
            _, grid, tables = lay(2, num_cells=cells)
            low, high, last = score_map(2).from_logit(np.asarray(z), model=0)
            defer = grid.positions(np.array([high, last]), score_map(2))
            early = grid.positions(np.array([low, -np.inf]), score_map(2))
            if cells == 32:
                same = int(defer[0]) == int(early[0])
                assert same == (z[1] - z[0] < 0.1)
            one, cost = abstaining(first(tables)), jnp.asarray([*COST[2], 5.0])
            found.append(
                forward(Problem(one, cost, jnp.asarray(grid.is_atom)), jnp.asarray(defer), jnp.asarray(early))
            )
        for name in ("error", "reach_prob", "early_prob"):
            np.testing.assert_allclose(*(getattr(one, name) for one in found), atol=1e-3)


class TestSearch:
    @pytest.mark.slow
    @pytest.mark.parametrize("k", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
    @pytest.mark.parametrize("early", [pytest.param(True, marks=pytest.mark.slow), False])
    def test_is_the_best_of_all_thresholds(self, k: int, early: bool) -> None:
        """Of every combination of grid points; moving inside cells may only lower the loss further."""
        n = 10
        _, grid, tables = lay(k, num_cells=n) if k > 1 else lay(2, num_cells=n)
        one = abstaining(tables) if k > 1 else abstaining(first_model(tables))
        cost = jnp.asarray([*COST[max(k, 2)][:k], 0.4 * sum(COST[max(k, 2)])])
        is_atom = jnp.asarray(grid.is_atom[:k])
        pairs = [(low, t) for t in range(n + 1) for low in range(t + 1 if early else 1)]
        every = [
            ([*(t for _, t in some), last], [*(low for low, _ in some), 0])
            for some in itertools.product(pairs, repeat=k - 1)
            for last in range(n + 1)
        ]
        defer, low = (jnp.asarray(part, float) for part in zip(*every, strict=True))
        # As the search: from the best without early abstention, and from the default starts.
        no_early = np.asarray([not any(lows) for _, lows in every])
        for price in (10.0, 40.0, 200.0):
            of_all = jax.lax.map(
                lambda at, price=price: mean_loss(Problem(one, cost, is_atom), at[0], price, at[1]),
                (defer, low),
                batch_size=512,
            )
            begin = defer[jnp.argmin(jnp.where(no_early, of_all, jnp.inf))]
            first = Positions(begin[None], jnp.zeros_like(begin)[None] if early else None)
            starts = jax.tree.map(lambda *f: jnp.concatenate(f), first, default_starts(k, n, early))
            best = optimise(Problem(one, cost, is_atom), jnp.asarray(price), starts)
            assert float(best.loss + best.polish_gain) == pytest.approx(float(jnp.min(of_all)), rel=1e-9)
            assert float(best.loss) == pytest.approx(
                float(mean_loss(Problem(one, cost, is_atom), best.at.defer, price, best.at.early)), rel=1e-9
            )
            assert float(best.polish_gain) >= 0
            if best.at.early is not None:
                assert np.all(np.asarray(best.at.early) <= np.asarray(best.at.defer))

    @pytest.mark.slow
    @pytest.mark.parametrize("price", [5.0, 9.0, 16.0])
    def test_parabolas_beside_find_what_a_scan_finds(self, price: float) -> None:
        """Of the whole scale of either threshold of the first model, the others as they were found."""
        n = 24
        _, grid, tables = lay(2, num_cells=n, atoms=False)
        one = abstaining(tables)
        is_atom = jnp.asarray(grid.is_atom)
        cost = jnp.asarray([0.1, 1.5, 3.0])
        best = optimise(
            Problem(one, cost, is_atom), jnp.asarray(price), default_starts(2, n, True), num_steps=0
        )
        assert best.at.early is not None
        defer, early, last = (float(x) for x in (best.at.defer[0], best.at.early[0], best.at.defer[1]))
        points = jnp.linspace(0.0, n, 40 * n + 1)
        same = jnp.ones_like(points)
        for (t, a, u), at in (
            ((points, same * early, same * last), defer),
            ((same * defer, points, same * last), early),
        ):
            before, defer_at = jnp.stack([a, 0 * same], axis=-1), jnp.stack([t, u], axis=-1)
            found = mean_losses(Problem(one, cost, is_atom), defer_at, jnp.asarray(price), before)
            assert abs(at - float(points[jnp.argmin(found)])) < 0.05

    @pytest.mark.slow
    def test_price_of_abstaining_that_no_error_outweighs(self) -> None:
        """Above the price of an error nobody abstains; at no price all do, at once."""
        _, grid, tables = lay(2, num_cells=12)
        one = abstaining(tables)
        is_atom = jnp.asarray(grid.is_atom)
        price = jnp.asarray(30.0)
        dear = optimise(
            Problem(one, jnp.asarray([*COST[2], 31.0]), is_atom), price, default_starts(2, 12, True)
        )
        without = optimise(Problem(tables, jnp.asarray(COST[2]), is_atom), price, default_starts(1, 12))
        np.testing.assert_allclose(dear.at.defer[:1], without.at.defer, atol=1e-6)
        np.testing.assert_array_equal(dear.at.early, 0.0)
        assert float(dear.at.defer[1]) == 0.0
        assert float(dear.loss) == pytest.approx(float(without.loss), rel=1e-9)
        free = optimise(
            Problem(one, jnp.asarray([*COST[2], 0.0]), is_atom), price, default_starts(2, 12, True)
        )
        assert float(free.loss) == pytest.approx(float(COST[2][0]), rel=1e-9)
        assert float(free.at.early[0]) == 12.0


class TestCertificate:
    @pytest.mark.slow
    @pytest.mark.parametrize("early", [True, False])
    def test_is_the_best_of_all_policies(self, early: bool) -> None:
        """Two models of three cells: answer, go on or abstain at each cell, and at each pair of cells."""
        first_choices = ("answer", "defer", "abstain") if early else ("answer", "defer")
        for seed, price, left_price in itertools.product(range(3), (6.0, 20.0), (1.0, 4.0, 9.0)):
            tables = random_chain(np.random.default_rng(seed), 2, 3)
            cost = np.array([1.0, 2.0, left_price])
            least = np.inf
            for choice in itertools.product(first_choices, repeat=3):
                total = cost[0]
                for m, chosen in enumerate(choice):
                    mass = float(tables.mass[m])
                    if chosen == "answer":
                        total += mass * price * (1 - float(tables.correct[m]))
                    elif chosen == "abstain":
                        total += mass * left_price
                    else:  # what is best at each pair of cells is settled by itself
                        moved, right = (
                            np.asarray(field[0, m]) for field in (tables.transition, tables.right)
                        )
                        ends = np.minimum(price * (moved - right), moved * left_price)
                        total += mass * (cost[1] * float(tables.relative_cost[0, m]) + ends.sum())
                least = min(least, total)
            found = best_policy(of_atoms(tables, jnp.asarray(cost)), jnp.asarray(price), early)
            assert float(found.value) == pytest.approx(least, abs=1e-12)

    def test_elsewhere_is_least_over_all_pairs_of_thresholds(self) -> None:
        """A top cell that is best left alone, between two that are answered."""
        mass, correct = np.array([0.25, 0.3, 0.15, 0.3]), np.array([0.9, 0.1, 0.95, 0.1])
        n = len(mass)
        tables = abstaining(
            discrete_chain(
                mass=jnp.asarray(mass),
                correct=jnp.asarray(correct),
                transition=jnp.zeros((0, n, n)),
                right=jnp.zeros((0, n, n)),
            )
        )
        found = best_policy(of_atoms(tables, jnp.array([1.0, 2.0])), jnp.array(5.0))
        assert float(found.value) == pytest.approx(1 + 0.6 * 2 + 5 * (0.25 * 0.1 + 0.15 * 0.05))
        # Answering all treats 0.6 otherwise, abstaining on all 0.4, below the third cell 0.25 + 0.3.
        assert float(found.elsewhere[0]) == pytest.approx(0.4)


@pytest.fixture(
    scope="module",
    params=[pytest.param("early", marks=pytest.mark.long), pytest.param("final", marks=pytest.mark.slow)],
)
def policy(small_posterior: Posterior, request) -> Policy:
    """Of three models of the small table."""
    frontier = error_cost_frontier(
        small_posterior,
        models="all",
        error_prices=[0.01],
        num_draws=20,
        abstain_price=PRICE,
        abstain=request.param,
    )
    return frontier.policy(0)


class TestPolicy:
    def test_thresholds(self, policy: Policy, small_posterior: Posterior) -> None:
        low = policy.abstain_thresholds
        assert low is not None
        assert low.shape == (3,)
        assert np.all(low[:-1] <= policy.thresholds)
        assert np.all(np.isinf(low[:-1])) == (policy.terms.abstain == "final")
        assert policy.draw_abstain_thresholds is not None
        assert policy.draw_abstain_thresholds.shape == (20, 3)
        for (start, end), chosen in zip(policy.abstain_interval(0.98), low, strict=True):
            assert start <= end
            assert start <= chosen <= end
        found = policy.prediction
        assert 0 < found.abstain_q05 < found.abstain < found.abstain_q95
        assert found.expense == pytest.approx(found.cost + PRICE * found.abstain, rel=1e-12)
        again = predict(small_posterior, policy, num_draws=20)
        assert again.abstain.mean() == pytest.approx(found.abstain, abs=1e-9)
        assert again.loss(0.01).mean() == pytest.approx(found.loss(0.01), rel=1e-9)
        # Leaving out what is likely to be wrong is worth its price.
        answered = error_cost_frontier(
            small_posterior, models="all", error_prices=[0.01], num_draws=20
        ).policy(0)
        assert found.loss(0.01) < answered.prediction.loss(0.01)
        assert found.error < answered.prediction.error

    @pytest.mark.slow
    def test_predicts_what_new_queries_realise(self, policy: Policy, small_posterior: Posterior) -> None:
        """Of each of three draws, 20000 queries of its own."""
        chain = discretise(small_posterior, None, 3, prior_queries=np.inf, terms=policy.terms)
        at = jax.tree.map(lambda field: field[None], chain.positions(policy.cuts))
        outcome = jax.tree.map(lambda field: field[0], chain.outcomes(at))
        z, right = (np.asarray(field) for field in simulate_new(chain, 20_000, 0))
        for d in range(3):
            raw = np.stack([chain.raw(z[d, i], i) for i in range(3)], axis=1)
            stop = follow(raw, *policy.cuts).stop
            left = follow(raw, *policy.cuts).abstained
            wrong = ~left & ~right[d].T[np.arange(20_000), stop].astype(bool)
            called = np.stack([stop >= i for i in range(3)] + [left])
            for found, share in [
                (outcome.error[d], wrong.mean()),
                *zip(outcome.reach_prob[d], called.mean(axis=1), strict=True),
            ]:
                assert float(found) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 20_000) + 1e-3)
            early = [np.mean(left & (stop == i)) for i in range(2)]
            np.testing.assert_allclose(outcome.early_prob[d, :2], early, atol=0.02)

    @pytest.mark.slow
    def test_of_new_queries(self, policy: Policy, small_posterior: Posterior) -> None:
        limit = predict(small_posterior, policy, num_draws=100)
        many = predict(small_posterior, policy, num_draws=100, num_queries=20_000)
        np.testing.assert_allclose(many.error, limit.error, atol=5 * np.sqrt(0.25 / 20_000))
        np.testing.assert_allclose(many.abstain, limit.abstain, atol=5 * np.sqrt(0.25 / 20_000))
        np.testing.assert_allclose(many.expense, many.cost + PRICE * many.abstain, rtol=1e-12)
        few = predict(small_posterior, policy, num_draws=100, num_queries=50)
        assert few.abstain.std() > limit.abstain.std()

    def test_decides_one_query_as_it_does_many(self, policy: Policy, small_posterior: Posterior) -> None:
        confidence = small_posterior.data.confidence
        answers = policy.decide(confidence)
        assert {-1} < set(answers.tolist())
        for row, index in zip(confidence, answers, strict=True):
            said = policy.decide(row)
            assert said is ABSTAIN if index < 0 else said == policy.models[index]

    def test_realises(self, policy: Policy, small_posterior: Posterior) -> None:
        data = small_posterior.data
        found = realise(data, *policy.cuts)
        answers = policy.decide(data.confidence)
        assert found.abstain == pytest.approx(np.mean(answers < 0))
        answered = np.flatnonzero(answers >= 0)
        wrong = ~data.correct[answered, answers[answered]]
        assert found.error == pytest.approx(wrong.sum() / data.num_queries)
        evaluation = policy.evaluate(data)
        expected = found.cost + PRICE * found.abstain + 0.01 * found.error
        assert evaluation.realised_loss == pytest.approx(expected, rel=1e-12)
        assert "abstention" in evaluation.sentence()

    def test_file_holds_all(self, policy: Policy, tmp_path) -> None:
        policy.save(tmp_path / "policy.json")
        back = Policy.load(tmp_path / "policy.json")
        for name in ("thresholds", "abstain_thresholds", "draw_thresholds", "draw_abstain_thresholds"):
            np.testing.assert_array_equal(getattr(back, name), getattr(policy, name))
        assert back.terms == policy.terms
        assert back.prediction == policy.prediction

    @pytest.mark.long
    def test_certificate_and_worth(self, policy: Policy, small_posterior: Posterior) -> None:
        found = certify(small_posterior, policy, num_draws=20)
        assert found.elsewhere[0].shape == (3,)
        assert np.all(found.draw_loss >= found.value - 1e-9)
        assert np.all(found.loss >= found.draw_loss * 0.999)  # these lie on the grid
        # With one more way to end, the best policy of any shape cannot be worse.
        answering = error_cost_frontier(small_posterior, models="all", error_prices=[0.01], num_draws=20)
        assert np.all(found.value <= certify(small_posterior, answering, num_draws=20).value + 1e-12)
        worth = value_of_information(small_posterior, policy, [100], num_draws=60)
        assert worth.narrowing.shape[-1] == (5 if policy.terms.abstain == "early" else 3)
        error = worth.gain.std(axis=-1) / np.sqrt(60)
        assert np.all(worth.evsi <= worth.evpi + 3 * error)
        names = worth.thresholds
        assert names[:3] == ("small-3b defers", "medium-8b defers", "large-70b abstains")
        assert names[3:] == (
            ("small-3b abstains", "medium-8b abstains") if policy.terms.abstain == "early" else ()
        )


def test_decide_by_hand() -> None:
    policy = Policy(
        models=("a", "b", "c"),
        thresholds=np.array([0.5, np.inf]),
        draw_thresholds=np.zeros((0, 2)),
        error_price=1.0,
        question={"error_price": 1.0},
        prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6, 0.3), 2.0, 1.5, 2.5),
        kind="probability",
        call_cost=np.ones(3),
        fit_digest="0" * 64,
        terms=Terms(abstain_price=0.1),
        abstain_thresholds=np.array([0.2, -np.inf, 0.3]),
        draw_abstain_thresholds=np.zeros((0, 3)),
    )
    assert policy.decide([0.1]) is ABSTAIN
    assert policy.decide([0.2]) is None  # at the threshold it is deferred, past b, to c
    assert policy.decide([0.5]) == "a"
    assert policy.decide([0.3, np.nan, 0.29]) is ABSTAIN
    assert policy.decide([0.3, np.nan, 0.3]) == "c"
    with pytest.raises(InputError, match="confidence of c must be a number"):
        policy.decide([0.3, 0.1, np.nan])
    every = policy.decide(
        np.array([[0.1, np.nan, np.nan], [0.5, np.nan, np.nan], [0.3, 0.9, 0.2], [0.3, 0.9, 0.3]])
    )
    np.testing.assert_array_equal(every, [-1, 0, -1, 2])
    with pytest.raises(InputError, match="must have 3 columns"):
        policy.decide(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"confidence of c must be a number: .* missing in row 0"):
        policy.decide(np.array([[0.3, 0.1, np.nan]]))


@pytest.mark.parametrize(
    ("low", "high", "seen", "ends"),
    [
        (0.4, 0.4, 0.3, True),
        (0.4, 0.4, 0.4, True),
        (np.inf, np.inf, np.nan, True),
        (-np.inf, np.inf, np.nan, False),
    ],
)
def test_equal_and_infinite_thresholds(low: float, high: float, seen: float, ends: bool) -> None:
    confidence = np.array([[seen, 0.9]])
    abstain = np.array([low, -np.inf])
    stop = follow(confidence, np.array([high]), abstain).stop
    assert (stop[0] == 0) == ends
    assert follow(confidence, np.array([high]), abstain).abstained[0] == (ends and not seen >= low)


@pytest.fixture(scope="module")
def frontier(small_posterior: Posterior) -> Frontier:
    """Nine prices, any model may abstain."""
    return error_cost_frontier(
        small_posterior, models="all", error_prices=9, num_draws=20, abstain_price=PRICE
    )


@pytest.mark.slow
class TestQuestions:
    def test_file(self, frontier, tmp_path) -> None:
        frontier.save(tmp_path / "frontier.json")
        for i, back in enumerate(load_policies(tmp_path / "frontier.json")):
            own = frontier.policy(i)
            np.testing.assert_array_equal(back.abstain_thresholds, own.abstain_thresholds)
            np.testing.assert_array_equal(back.thresholds, own.thresholds)
            assert back.prediction == own.prediction
            assert back.terms == own.terms
        row = frontier.records()[0]
        assert row["expected_abstain"] == pytest.approx(frontier.predicted.abstain[0].mean())

    def test_dearer_errors_are_answered_less(self, frontier) -> None:
        left = frontier.predicted.abstain.mean(axis=1)
        assert left[0] < 0.01 < 0.3 < left[-1]
        assert np.all(np.diff(left) > -0.01)

    @pytest.mark.slow
    def test_a_budget_is_of_all_expenses(self, frontier) -> None:
        spent = frontier.expense
        limit = float(np.quantile(spent[5], 0.9))
        found = frontier.at(budget=limit)
        assert found.prediction.expense <= limit
        assert found.prediction.expense > found.prediction.cost
        with pytest.raises(InfeasibleError, match=r"P\(cost \+ 0\.002 an abstention <= 1e-09\)"):
            frontier.at(budget=1e-9)
        found = frontier.at(target_error=0.05)
        assert found.prediction.error < 0.05

    @pytest.mark.slow
    @pytest.mark.long
    def test_which_models(self, small_posterior: Posterior) -> None:
        """Single models abstain too."""
        envelope = error_cost_frontier(
            small_posterior, models="any", error_prices=[1e-3, 0.01, 0.1], num_draws=20, abstain_price=PRICE
        )
        assert len(envelope.frontiers) == len(envelope.candidates) == 7
        assert not envelope.alone
        one = envelope.among(1).policy(1)
        assert one.thresholds.shape == (0,)
        assert one.abstain_thresholds.shape == (1,)
        assert 0 < one.prediction.abstain < 1
        own = envelope.frontiers[("medium-8b",)]
        again = error_cost_frontier(
            small_posterior, models=["medium-8b"], error_prices=[0.01], num_draws=20, abstain_price=PRICE
        )
        np.testing.assert_allclose(own.expense[1].mean(), again.expense[0].mean(), rtol=2e-3)
        # Where abstaining is worth its price it lowers the loss; where it never is, nobody abstains.
        never = error_cost_frontier(
            small_posterior, models=["medium-8b"], error_prices=[0.01], num_draws=20, abstain_price=1.0
        )
        assert never.predicted.abstain.max() == 0
        assert own.policy(1).prediction.loss(0.01) < never.policy(0).prediction.loss(0.01)


@pytest.mark.slow
def test_comparison(policy: Policy, small_posterior: Posterior) -> None:
    """With a policy that answers every query, and with one of another price."""
    answering = error_cost_frontier(small_posterior, models="all", error_prices=[0.01], num_draws=20).policy(
        0
    )
    found = compare(small_posterior, policy, answering, num_draws=20)
    assert found.loss.mean() < 0
    other = error_cost_frontier(
        small_posterior, models="all", error_prices=[0.01], num_draws=20, abstain_price=2 * PRICE
    )
    with pytest.raises(InputError, match=r"cost \+ 0\.002 an abstention and cost \+ 0\.004 an abstention"):
        compare(small_posterior, policy, other.policy(0))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"abstain_price": -1.0}, "abstain_price must be a finite number, at least 0; got -1.0"),
        ({"abstain_price": np.nan}, "abstain_price must be a finite number"),
        ({"latency_price": np.inf}, "latency_price must be a finite number"),
        ({"abstain_price": 1.0, "abstain": "late"}, "abstain must be 'early' or 'final'; got 'late'"),
    ],
)
def test_bad_terms(how: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Terms(**how)


@pytest.mark.slow
def test_abstaining_needs_a_price(small_posterior: Posterior) -> None:
    with pytest.raises(InputError, match="abstain, which needs terms with an abstain_price"):
        predict(small_posterior, [-0.1, -0.1], abstain=[-1.0, -np.inf, -np.inf], num_draws=4)
    with pytest.raises(InputError, match="abstain must be 3 numbers, one a model"):
        predict(small_posterior, [-0.1, -0.1], abstain=[-1.0], num_draws=4)
    free = predict(
        small_posterior,
        [-0.1, -0.1],
        abstain=[-1.0, -np.inf, -np.inf],
        num_draws=4,
        terms=Terms(abstain_price=0.0),
    )
    final = Terms(abstain_price=0.0, abstain="final")
    with pytest.raises(InputError, match="abstain must not be above thresholds"):
        predict(
            small_posterior, [-0.1, -0.1], abstain=[-0.05, -np.inf, -np.inf], terms=Terms(abstain_price=0.0)
        )
    with pytest.raises(InputError, match="a model before the last abstains"):
        predict(small_posterior, [-0.1, -0.1], abstain=[-1.0, -np.inf, -np.inf], terms=final)
    assert np.all(free.abstain > 0)
