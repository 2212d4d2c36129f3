"""Cascades with a model that cannot end a query are shorter cascades, and are predicted as those.

In the table two models, a and c, find the same queries hard; the grades of the one between them, b, are
noise, and it is right three times in ten. A chain through b forgets what a told of c.
"""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

import cascade_bayes as cb
from cascade_bayes.decision.certificate import certify
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.envelope import Envelope, find_envelope
from cascade_bayes.errors import ConvergenceWarning
from cascade_bayes.policy.points import load_policies
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.shorter import ends_queries, lengthen, shorten, shorten_policy
from cascade_bayes.policy.terms import Terms
from cascade_bayes.rule import follow

INF = np.inf
PRICES = np.geomspace(0.005, 2.0, 7)
DRAWS = 2


def laundering_table(num_queries: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    hard = rng.normal(size=num_queries)
    noise = rng.normal(size=(num_queries, 3))
    sure = np.stack([-hard, 0 * hard, -hard], axis=1) + 0.7 * noise
    grade = np.array([60, 70, 80, 85, 90, 95, 98, 100])[np.digitize(sure, np.linspace(-1.5, 1.5, 7))]
    rate = np.stack([0.75 - 0.3 * hard, np.full(num_queries, 0.3), 0.8 - 0.25 * hard], axis=1)
    right = rng.uniform(size=rate.shape) < rate
    return pd.DataFrame(
        {
            "query": np.repeat(np.arange(num_queries), 3),
            "model": list("abc") * num_queries,
            "confidence": grade.ravel(),
            "correct": right.ravel().astype(int),
            "cost": [0.001, 0.0012, 0.01] * num_queries,
        }
    )


@pytest.fixture(scope="module")
def data() -> cb.CascadeData:
    return cb.read_table(laundering_table(), confidence="score")


@pytest.fixture(scope="module")
def posterior(data) -> cb.Posterior:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # enough draws to compute with
        return cb.fit(data, method="laplace", num_samples=50, seed=0)


@pytest.fixture(scope="module")
def envelope(posterior) -> Envelope:
    return find_envelope(posterior, PRICES, num_draws=DRAWS)


def test_which_models_end_queries() -> None:
    defer = np.array([[0.5, INF], [INF, 0.5], [INF, INF], [0.5, -INF], [-INF, INF], [0.5, 0.5]])
    wanted = [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(ends_queries(Cuts(defer)), wanted)
    # Who abstains ends queries; who abstains on all that it does not answer is the last.
    low = np.array([[0.1, -INF, -INF], [0.5, -INF, -INF]])
    kept = ends_queries(Cuts(np.array([[INF, INF], [0.5, 0.7]]), low))
    np.testing.assert_array_equal(kept, [[1, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("abstains", [False, True])
def test_the_shorter_cascade_decides_alike(abstains: bool) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=(200, 4))
    for _ in range(50):
        defer = rng.choice([-INF, 0.3, 0.6, INF], 3)
        low = np.minimum(rng.choice([-INF, 0.2, 0.5], 4), [*defer, INF]) if abstains else None
        cuts = Cuts(defer, low)
        kept = ends_queries(cuts)
        part = shorten(cuts, kept)
        longer = lengthen(part, kept)
        wanted, found, again = (
            follow(confidence, *cuts),
            follow(confidence[:, kept], *part),
            follow(confidence, *longer),
        )
        np.testing.assert_array_equal(np.flatnonzero(kept)[found.stop], wanted.stop)
        np.testing.assert_array_equal(again.stop, wanted.stop)
        np.testing.assert_array_equal(found.abstained, wanted.abstained)
        np.testing.assert_array_equal(again.abstained, wanted.abstained)
        np.testing.assert_array_equal(ends_queries(longer), kept)


class TestPredict:
    @pytest.mark.slow
    def test_with_and_without_the_model_it_is_the_same(self, small_posterior) -> None:
        a, _b, c = small_posterior.models
        with_b = cb.predict(small_posterior, [[-0.1, INF], [-0.1, -0.05]], num_draws=DRAWS)
        without = cb.predict(small_posterior, [-0.1], models=[a, c], num_draws=DRAWS)
        np.testing.assert_array_equal(with_b.error[0], without.error)
        np.testing.assert_array_equal(with_b.reach_prob[0][:, [0, 2]], without.reach_prob)
        # Who insists on the call pays for it: all queries that a defers.
        deferred = without.reach_prob[:, 1]
        np.testing.assert_array_equal(with_b.reach_prob[0][:, 1], deferred)
        extra = (with_b.cost[0] - without.cost) / deferred
        np.testing.assert_allclose(extra, small_posterior.data.call_cost[1], rtol=0.5)
        # Beside policies of all models.
        alone = cb.predict(small_posterior, [-0.1, -0.05], num_draws=DRAWS)
        np.testing.assert_array_equal(with_b.error[1], alone.error)

    @pytest.mark.slow
    def test_what_is_never_called_says_nothing(self, small_posterior) -> None:
        found = cb.predict(small_posterior, [[-INF, -0.05], [INF, -INF]], num_draws=DRAWS)
        for at, name in enumerate(small_posterior.models[:2]):
            one = cb.predict(small_posterior, [], models=[name], num_draws=DRAWS)
            np.testing.assert_array_equal(found.error[at], one.error)
        np.testing.assert_array_equal(found.reach_prob[0], [[1, 0, 0]] * DRAWS)
        np.testing.assert_array_equal(found.reach_prob[1], [[1, 1, 0]] * DRAWS)

    def test_of_new_queries(self, small_posterior) -> None:
        a, _b, c = small_posterior.models
        with_b = cb.predict(small_posterior, [-0.1, INF], num_queries=50, num_draws=DRAWS)
        np.testing.assert_allclose((with_b.error * 50) % 1, 0, atol=1e-9)
        without = cb.predict(small_posterior, [-0.1], models=[a, c], num_queries=50, num_draws=DRAWS)
        np.testing.assert_allclose(with_b.error.mean(), without.error.mean(), atol=0.2)
        np.testing.assert_array_equal(with_b.reach_prob[:, 1], with_b.reach_prob[:, 2])

    @pytest.mark.slow
    def test_abstaining_early(self, small_posterior) -> None:
        a, b, c = small_posterior.models
        how = {"num_draws": DRAWS, "terms": Terms(abstain_price=0.05)}
        with_b = cb.predict(small_posterior, [-0.1, INF], abstain=[-1.0, -INF, -1.0], **how)
        without = cb.predict(small_posterior, [-0.1], abstain=[-1.0, -1.0], models=[a, c], **how)
        np.testing.assert_array_equal(with_b.error, without.error)
        np.testing.assert_array_equal(with_b.abstain, without.abstain)
        cut = cb.predict(small_posterior, [-0.1, -1.0], abstain=[-1.0, -1.0, -INF], **how)
        pair = cb.predict(small_posterior, [-0.1], abstain=[-1.0, -1.0], models=[a, b], **how)
        np.testing.assert_array_equal(cut.error, pair.error)
        np.testing.assert_array_equal(cut.abstain, pair.abstain)
        shares = cb.predict(small_posterior, [-0.1, -1.0], abstain=[-1.0, -1.0, -INF], num_queries=400, **how)
        np.testing.assert_allclose(shares.abstain.mean(), cut.abstain.mean(), atol=0.08)


@pytest.mark.slow
class TestEnvelope:
    def test_no_policy_pays_for_a_model_that_never_answers(self, envelope) -> None:
        for names, frontier in envelope.frontiers.items():
            for i in range(len(frontier)):
                policy = frontier.policy(i)
                assert ends_queries(policy.cuts).all()
                np.testing.assert_array_equal(
                    [name in policy.models for name in names], ends_queries(Cuts(frontier.thresholds[i]))
                )

    def test_one_set_of_decisions_has_one_prediction(self, envelope, posterior) -> None:
        shorter = [
            (names, i, point) for names, one in envelope.frontiers.items() for i, point in one.shorter.items()
        ]
        assert shorter
        for names, i, point in shorter:
            at = envelope.candidates.index(names)
            own = envelope.candidates.index(point.models)
            np.testing.assert_array_equal(envelope.error[at, i], point.predicted.error)
            assert envelope.loss[own, i].mean() <= envelope.loss[at, i].mean() * (1 + 1e-6)

    def test_no_policy_is_beaten_in_error_and_expense(self, envelope) -> None:
        every = [envelope.policy(i).prediction for i in range(len(envelope))]
        error, expense = envelope.error.mean(axis=2).ravel(), envelope.expense.mean(axis=2).ravel()
        for own in every:
            better = (error < own.error * (1 - 1e-5)) & (expense < own.expense * (1 - 1e-5))
            assert not better.any()

    def test_points_are_saved_as_what_they_are(self, envelope, tmp_path) -> None:
        whole = envelope.frontiers["a", "b", "c"]
        whole.save(tmp_path / "frontier.json")
        policies = load_policies(tmp_path / "frontier.json")
        for policy, row in zip(policies, whole.records(), strict=True):
            assert list(policy.models) == row["models"]
            assert len(policy.thresholds) == len(policy.models) - 1 == len(policy.call_cost) - 1
            assert not np.isinf(policy.thresholds).any() or len(policy.models) == 2


@pytest.mark.slow
def test_a_cascade_by_itself(posterior, data) -> None:
    """What it is left with where a model cannot end a query is tuned and predicted as by itself."""
    price = PRICES[3:4]
    frontier = cb.error_cost_frontier(posterior, models="all", error_prices=price, num_draws=DRAWS)
    policy = frontier.policy(0)
    again = cb.predict(posterior, policy, num_draws=DRAWS)
    np.testing.assert_allclose(policy.prediction.error, again.error.mean(), rtol=1e-9)
    np.testing.assert_allclose(frontier.error[0], again.error, rtol=1e-9)
    assert frontier.at(error_price=price[0]).models == policy.models
    stop = follow(data.confidence, frontier.thresholds[0]).stop
    own = [data.models.index(name) for name in policy.models]
    np.testing.assert_array_equal(np.asarray(own)[policy.decide(data.confidence[:, own])], stop)


@pytest.mark.slow
def test_what_is_stored_decides_and_is_predicted(envelope, posterior, data) -> None:
    """The threshold of grades is the middle of two; with it, all parts of the library agree."""
    grades = np.unique(data.confidence)
    middles = {*(0.5 * (grades[1:] + grades[:-1])), -INF, INF}
    frontier = envelope.frontiers["a", "c"]
    assert {float(t) for t in frontier.thresholds.ravel()} <= middles
    assert {float(t) for t in frontier.draw_thresholds.ravel()} <= middles
    inner = [i for i, t in enumerate(frontier.thresholds[:, 0]) if np.isfinite(t)]
    assert inner
    chain = discretise(posterior, ["a", "c"], DRAWS)
    grade = data.confidence[:, [0, 2]]
    for i in inner:
        policy = frontier.policy(i)
        (threshold,) = policy.thresholds
        below, above = grades[grades < threshold][-1], grades[grades > threshold][0]
        assert threshold == 0.5 * (below + above)
        assert policy.decide([below]) == "c"
        assert policy.decide([above]) == "a"
        # In 32 bits every query is decided alike, and on the grid atoms are deferred whole.
        stop = policy.decide(grade)
        np.testing.assert_array_equal(policy.decide(grade.astype(np.float32)), stop)
        np.testing.assert_array_equal(stop == 1, grade[:, 0] < threshold)
        position = chain.positions(Cuts(policy.thresholds)).defer[0]
        whole = chain.grid.is_atom[0] & (np.arange(chain.grid.num_cells) + 1 <= position)
        assert set(chain.grid.atom_raw[0, whole]) == set(grades[grades <= below])


@pytest.mark.slow
def test_a_policy_from_elsewhere_is_judged_as_the_shorter_one(envelope, posterior) -> None:
    at = next(i for i, t in enumerate(envelope.frontiers["a", "c"].thresholds[:, 0]) if np.isfinite(t))
    pair = envelope.frontiers["a", "c"].policy(at)
    policy = dataclasses.replace(
        pair,
        models=("a", "b", "c"),
        thresholds=np.array([pair.thresholds[0], INF]),
        draw_thresholds=np.zeros((0, 2)),
        call_cost=posterior.data.call_cost,
        prediction=pair.prediction._replace(reach_prob=(1.0, 0.4, 0.4)),
    )
    assert shorten_policy(policy).models == ("a", "c")
    found = certify(posterior, policy, num_draws=DRAWS)
    assert found.models == (("a", "c"),)
    np.testing.assert_array_equal(found.loss, certify(posterior, pair, num_draws=DRAWS).loss)
