"""Error-cost lines, their measures, and thresholds found on a table itself."""

import itertools

import numpy as np
import pytest

from cascade_bayes.errors import InputError
from cascade_bayes.evaluation.baselines import Empirical, quantile_thresholds
from cascade_bayes.evaluation.curves import (
    Points,
    area,
    cost_weights,
    lower_hull,
    regret,
    trivial_points,
    undominated,
)
from cascade_bayes.rule import follow


def queries(seed: int, num: int = 40, k: int = 3, ties: bool = True) -> Empirical:
    """Queries whose confidences go with being right, some of them alike."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(size=(num, k))
    wrong = np.asarray(rng.uniform(size=(num, k)) > 0.3 + 0.6 * confidence, dtype=float)
    if ties:
        confidence = np.round(confidence, 1)
    return Empirical(confidence, wrong, np.array([1.0, 3.0, 9.0, 20.0])[:k])


def by_hand(table: Empirical, thresholds: np.ndarray) -> tuple[float, float]:
    stop = follow(table.confidence, np.asarray(thresholds)).stop
    called = np.arange(table.wrong.shape[1]) <= stop[:, None]
    return float(table.wrong[np.arange(len(stop)), stop].mean()), float((called @ table.call_cost).mean())


class TestEmpirical:
    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_points_are_what_following_each_query_gives(self, k: int) -> None:
        table = queries(0, k=k)
        some = [np.array([-np.inf, 0.2, 0.55, np.inf])] * (k - 1)
        every = table.all_points(some)
        assert every.error.shape == (4,) * (k - 1)
        for at in itertools.product(range(4), repeat=k - 1):
            thresholds = np.array([some[i][j] for i, j in enumerate(at)])
            error, cost = by_hand(table, thresholds)
            assert every.error[at] == pytest.approx(error, abs=1e-12)
            assert every.cost[at] == pytest.approx(cost, rel=1e-12)
            own = table.points(thresholds)
            assert own.error[0] == pytest.approx(error, abs=1e-12)
            assert own.cost[0] == pytest.approx(cost, rel=1e-12)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("ties", [True, False])
    def test_search_of_two_models_is_exhaustive(self, seed: int, ties: bool) -> None:
        table = queries(seed, k=2, ties=ties)
        every = table.all_points([np.append(np.unique(table.confidence[:, 0]), np.inf)])
        for weight in (0.01, 0.05, 0.3):
            found = table.points(table.search(weight, [[0.5]]))
            assert found.loss([weight]).item() == pytest.approx(every.loss([weight]).min(), rel=1e-12)

    def test_search_ends_where_no_single_threshold_improves(self) -> None:
        for seed in range(6):
            table = queries(seed, k=4)
            at = table.search(0.02, [[0.2] * 3, [0.5] * 3, [0.8] * 3])
            best = table.points(at).loss([0.02]).item()
            for i in range(3):
                for value in [*np.unique(table.confidence[:, i]), np.inf]:
                    other = at.copy()
                    other[i] = value
                    assert table.points(other).loss([0.02]).item() >= best - 1e-12

    def test_quantile_thresholds(self) -> None:
        confidence = np.random.default_rng(0).uniform(size=(1001, 2))
        (only,) = quantile_thresholds(confidence)
        assert len(only) == 40
        below = [np.mean(confidence[:, 0] < at) for at in only]
        np.testing.assert_allclose(below, 0.01 + 0.025 * np.arange(40), atol=1e-3)

    def test_bad_shapes(self) -> None:
        with pytest.raises(InputError, match=r"must have one shape; got \(3, 2\) and \(3, 3\)"):
            Empirical(np.zeros((3, 2)), np.zeros((3, 3)), np.ones(2))
        with pytest.raises(InputError, match=r"one number a model, 2; got shape \(3,\)"):
            Empirical(np.zeros((3, 2)), np.zeros((3, 2)), np.ones(3))


class TestMeasures:
    def test_weights(self) -> None:
        weights = cost_weights([0.5, 0.3, 0.2], [1.0, 2.0, 6.0])
        middle = 0.3 / 8
        assert weights.size == 41
        assert weights[0] == pytest.approx(min(middle / 30, 0.01 / 8))
        assert weights[-1] == pytest.approx(max(30 * middle, 1 / 2))
        np.testing.assert_allclose(np.diff(np.log(weights)), np.log(weights[1] / weights[0]))
        # At the ends the trivial policies are what to choose.
        trivial = trivial_points([0.5, 0.3, 0.2], [1.0, 2.0, 6.0])
        losses = trivial.loss(weights)
        assert losses[0].argmin() == 1
        assert losses[-1].argmin() == 0
        # Models that err alike are taken to differ by five points.
        assert cost_weights([0.5, 0.5], [1.0, 2.0])[0] == pytest.approx(0.05 / 2 / 30)
        with pytest.raises(InputError, match="at least two models; got 1"):
            cost_weights([0.5], [1.0])
        with pytest.raises(InputError, match="positive after the first model; got 0"):
            cost_weights([0.5, 0.2], [1.0, 0.0])

    def test_area_by_hand(self) -> None:
        trivial = trivial_points([0.6, 0.2], [1.0, 4.0])
        none = Points(np.zeros(0), np.zeros(0))
        assert area(none, trivial) == pytest.approx(0.4)
        # Two points of the same cost count as their mean, 0.3 halfway.
        two = Points(np.array([0.2, 0.4]), np.array([3.0, 3.0]))
        assert area(two, trivial) == pytest.approx((0.45 + 0.25) / 2)
        # What lies beyond 5 has no part.
        beyond = Points(np.array([0.3, 0.5]), np.array([3.0, 7.0]))
        assert area(beyond, trivial) == pytest.approx((0.45 + 0.25) / 2)

    def test_hull_is_what_some_weight_finds_best(self) -> None:
        rng = np.random.default_rng(0)
        every = Points(np.round(rng.uniform(size=300), 2), np.round(rng.uniform(size=300), 2))
        found = lower_hull(every)
        assert np.all(np.diff(found.cost) > 0)
        slopes = np.diff(found.error) / np.diff(found.cost)
        assert np.all(np.diff(slopes) > 0)
        for weight in np.tan(np.linspace(-1.5, 1.5, 41)):
            assert found.loss([weight]).min() == pytest.approx(every.loss([weight]).min(), abs=1e-12)
        for i in range(1, len(found.cost) - 1):
            weight = -(slopes[i - 1] + slopes[i]) / 2
            assert every.loss([weight]).min() == pytest.approx(found.take([i]).loss([weight]).item())

    def test_undominated(self) -> None:
        rng = np.random.default_rng(0)
        every = Points(np.round(rng.uniform(size=200), 1), np.round(rng.uniform(size=200), 1))
        found = every.take(undominated(every))
        kept = {(float(e), float(c)) for e, c in zip(*found, strict=True)}
        assert len(kept) == len(found.cost)
        assert np.all(np.diff(found.cost) > 0)
        for error, cost in zip(*every, strict=True):
            beaten = (every.error <= error) & (every.cost <= cost)
            beaten &= (every.error < error) | (every.cost < cost)
            assert beaten.any() == ((error, cost) not in kept)

    def test_regret(self) -> None:
        assert regret([1.1, 2.0], [1.0, 2.0]) == pytest.approx(0.05)
