"""What the evidence compares the library with."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidence import change_of_area, in_words, labels_to_match, subset, summarise
from paper import Margin, Pairwise, em_two_betas, fit_margin, gumbel
from peers import Calibration, Oracle, given_all, grid, observed_labels, sub_cascades
from scipy import integrate
from scipy.special import expit
from scipy.stats import bernoulli, beta, norm
from tables import read_pair

from cascade_bayes import Priors, example, read_table
from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation.baselines import Empirical

MARGINS = [
    Margin(0.2, 0.9, 0.1, 0.15, np.array([0.4, 0.6]), np.array([[2.0, 5.0], [6.0, 2.0]])),
    Margin(0.35, 0.98, 0.0, 0.3, np.array([1.0, 0.0]), np.array([[3.0, 2.0], [1.0, 1.0]])),
]


@pytest.fixture(scope="module")
def data() -> CascadeData:
    return read_table(example.train_path())


@pytest.mark.parametrize("kind", ["logprob", "probability", "score"])
def test_tables_of_every_kind(kind: str, tmp_path: Path) -> None:
    """Percentages in words, say, are neither logarithms nor between 0 and 1."""
    frame = pd.read_parquet(example.train_path())
    change = {"logprob": lambda x: x, "probability": np.exp, "score": lambda x: np.round(100 * np.exp(x))}
    frame["confidence"] = change[kind](frame["confidence"])
    path = tmp_path / "words-train.parquet"
    frame.to_parquet(path)
    assert read_pair(path)[1] is None
    frame.to_parquet(tmp_path / "words-test.parquet")
    train, test = read_pair(path)
    assert test is not None
    assert train.kind == test.kind == kind
    assert train.models == tuple(frame["model"].unique())
    # What a logistic curve at maximum likelihood says is right on average.
    chance = Calibration(train)(train)
    np.testing.assert_allclose(chance.mean(axis=0), train.correct.mean(axis=0), atol=1e-3)
    assert np.all(np.ptp(chance, axis=0) > 0.05)


def gumbel_sample(rng: np.random.Generator, theta: float, num: int) -> np.ndarray:
    """Pairs by a positive stable frailty (Marshall and Olkin 1988; Chambers, Mallows and Stuck 1976)."""
    alpha = 1 / theta
    angle, wait = rng.uniform(0, np.pi, num), rng.exponential(size=num)
    stable = np.sin(alpha * angle) / np.sin(angle) ** (1 / alpha)
    stable *= (np.sin((1 - alpha) * angle) / wait) ** ((1 - alpha) / alpha)
    return np.exp(-((rng.exponential(size=(2, num)) / stable) ** alpha))


def quantile(margin: Margin, u: np.ndarray) -> np.ndarray:
    x = np.linspace(margin.low, margin.high, 20001)
    inside = np.interp(u, margin.cdf(x[:-1]), x[:-1])
    return np.where(u > 1 - margin.at_high, margin.high, np.where(u <= margin.at_low, margin.low, inside))


def test_pairwise_figures_of_two_models_are_a_simulation() -> None:
    theta, num = 1.8, 1_000_000
    u = gumbel_sample(np.random.default_rng(0), theta, num)
    assert np.mean(np.all(u < 0.3, axis=0)) == pytest.approx(float(gumbel(0.3, 0.3, theta)), abs=2e-3)
    first, second = (quantile(m, part) for m, part in zip(MARGINS, u, strict=True))
    model = Pairwise(MARGINS, [theta], np.array([1.0, 5.0]))
    for threshold in (0.25, 0.5, 0.8):
        error, paid = model.figures(np.array([threshold]))
        deferred = first < threshold
        assert error == pytest.approx(1 - np.mean(np.where(deferred, second, first)), abs=2e-3)
        assert paid == pytest.approx(1 + 5 * deferred.mean(), abs=1e-2)


def test_middle_model_is_given_the_one_before() -> None:
    """What three models get right, by quadrature over the first two."""
    third = Margin(0.5, 0.99, 0.05, 0.2, np.array([0.5, 0.5]), np.array([[2.0, 2.0], [4.0, 1.5]]))
    theta = [1.5, 2.2]
    t1, t2 = 0.6, 0.7
    model = Pairwise([*MARGINS, third], theta, np.array([1.0, 2.0, 3.0]))
    error, paid = model.figures(np.array([t1, t2]))
    u1, u2 = float(MARGINS[0].cdf(t1)), float(MARGINS[1].cdf(t2))
    go1, go2 = u1, float(gumbel(u1, u2, theta[0])) / u1
    assert paid == pytest.approx(1 + 2 * go1 + 3 * go1 * go2, rel=1e-9)

    def mean_above(margin: Margin, low: float, given: float, theta: float) -> float:
        # E[X 1{X > low}] = low P(X > low) + integral of P(X > x) above low.
        def tail(x: float) -> float:
            return 1 - float(gumbel(given, float(margin.cdf(x)), theta)) / given

        return low * tail(low) + integrate.quad(tail, low, margin.high - 1e-12, limit=200)[0]

    right = mean_above(MARGINS[0], t1, 1.0, 1.0)
    right += go1 * mean_above(MARGINS[1], t2, u1, theta[0])
    last = third.low + mean_above(third, third.low, u2, theta[1])
    last -= third.low * (1 - float(gumbel(u2, third.at_low, theta[1])) / u2)
    right += go1 * go2 * last
    assert error == pytest.approx(1 - right, abs=1e-4)


def test_em_finds_two_betas() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.uniform(size=4000) < 0.3, rng.beta(2, 8, 4000), rng.beta(9, 3, 4000))
    mixing, shapes = em_two_betas(x)
    at = np.linspace(0.05, 0.95, 19)
    found = sum(w * beta.cdf(at, a, b) for w, (a, b) in zip(mixing, shapes, strict=True))
    truth = 0.3 * beta.cdf(at, 2, 8) + 0.7 * beta.cdf(at, 9, 3)
    np.testing.assert_allclose(found, truth, atol=0.02)
    margin = fit_margin(np.concatenate([x, np.zeros(1000), np.ones(500)]))
    assert margin.at_low == pytest.approx(1000 / 5500)
    assert margin.at_high == pytest.approx(500 / 5500)


def test_calibration_is_of_greatest_likelihood(data: CascadeData) -> None:
    """No other curve of the family is likelier; predictions have the labels' mean."""
    calibration = Calibration(data)
    right = calibration(data)
    np.testing.assert_allclose(right.mean(axis=0), data.correct.mean(axis=0), atol=1e-5)
    best = np.log(np.where(data.correct, right, 1 - right)).sum(axis=0)
    x = calibration._nonlinear(data)
    for i, (a, b) in enumerate(calibration.curves):
        for da, db in ((0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)):
            other = expit(a + da + (b + db) * x[:, i])
            y = data.correct[:, i]
            assert np.log(np.where(y, other, 1 - other)).sum() < best[i]


def test_oracle_is_no_worse_than_the_grid(data: CascadeData) -> None:
    wrong = 1.0 - data.correct
    cost = np.asarray(data.call_cost)

    def table(members: tuple[int, ...]) -> Empirical:
        index = list(members)
        return Empirical(data.confidence[:, index], wrong[:, index], cost[index])

    oracle, tuner = Oracle(table), grid(data)
    weights = np.geomspace(0.05, 50, 7) / cost.sum()
    for members in sub_cascades(3, least=2):
        tuned = tuner.tune(members, weights)
        real = table(members).points(tuned.thresholds)
        best = oracle.best(members, tuple(weights))
        assert np.all(best.error + weights * best.cost <= real.error + weights * real.cost + 1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_half_labelled_tables_keep_all_confidences_and_some_labels(data: CascadeData, seed: int) -> None:
    some = subset(data, "30+", seed)
    np.testing.assert_array_equal(some.confidence, data.confidence)
    labelled = some.labelled.all(axis=1)
    assert labelled.sum() == 30
    assert not some.labelled[~labelled].any()
    few = subset(data, "30", seed)
    assert set(few.query_ids) == set(data.query_ids[labelled])
    np.testing.assert_array_equal(some.correct[labelled], data.correct[labelled])
    # Every method takes them: what it needs labels for it reads of the labelled queries.
    weights = np.array([1.0, 100.0])
    for method in (grid, observed_labels):
        tuned = method(some).tune((0, 1), weights)
        assert np.isfinite(tuned.thresholds).all()


class TestSummary:
    def rows(self) -> pd.DataFrame:
        """Three methods on one table, two seeds: regrets fall with the logarithm of n."""
        found = []
        for size, seed in itertools.product(("15", "30", "60", "120", "all"), range(2)):
            n = 300 if size == "all" else int(size)
            for method, scale in (("ours (SVI)", 1.0), ("grid", 1.5), ("paper", 9.0)):
                shared = {"table": "t", "size": size, "seed": seed, "method": method, "status": "ok"}
                regret = scale * (0.2 - 0.03 * np.log(n))
                found.append(
                    {**shared, "cascade": "any (any)", "regret": regret, "fit_s": 1.0, "tune_s": 2.0}
                )
                for cascade, k in (("0-1", 2), ("0-1-2", 3), ("0-2-3", 3)):
                    area = (0.2 + 0.1 * seed) * (1.0 if method == "grid" else 0.9 - 0.1 * (k == 3))
                    found.append(
                        {**shared, "cascade": cascade, "k": k, "area": area, "excess": 0.1, "regret": 0.2}
                    )
        return pd.DataFrame(found)

    def test_labels_that_another_method_needs(self) -> None:
        rows = self.rows()
        labels = labels_to_match(summarise(rows), "ours (SVI)")
        # 1.5 (0.2 - 0.03 log n) = 0.2 - 0.03 log 30
        wanted = np.exp((0.2 - (0.2 - 0.03 * np.log(30)) / 1.5) / 0.03)
        assert labels["grid"] == f"{wanted:.0f}"
        assert labels["paper"] == "more than 120"
        assert labels_to_match(summarise(rows), "grid")["ours (SVI)"] == "15 or fewer"

    def test_change_of_area_is_of_the_same_cascades(self) -> None:
        change = change_of_area(self.rows(), "ours (SVI)")
        assert change.loc[("k = 2", "30"), "grid"] == "-10.0 (0.0)"
        assert change.loc[("k >= 3", "30"), "grid"] == "-20.0 (0.0)"
        assert change.loc[("k >= 3", "all"), "paper"] == "0.0 (0.0)"

    def test_change_of_area_of_a_single_run_has_no_standard_error(self) -> None:
        rows = self.rows()
        first = rows[(rows.seed == rows.seed.min()) & (rows.table == rows.table.iloc[0])]
        assert change_of_area(first, "ours (SVI)").loc[("k = 2", "30"), "grid"] == "-10.0 (nan)"

    def test_standard_errors_are_those_of_runs(self) -> None:
        """A run of one cascade at 0, one of three at 4: the mean is 3, missed by -3 and 3 in sum."""
        shared = {"size": "30", "table": "t", "method": "grid", "status": "ok", "k": 3}
        rows = pd.DataFrame(
            [{**shared, "seed": 0, "cascade": "a", "excess": 0.0, "regret": 1.0}]
            + [{**shared, "seed": 1, "cascade": c, "excess": 4.0, "regret": 1.0} for c in "abc"]
        )
        found = summarise(rows).set_index("measure")
        assert found.loc["excess area, k >= 3", "mean"] == pytest.approx(3.0)
        assert found.loc["excess area, k >= 3", "standard_error"] == pytest.approx(np.sqrt(2 * (9 + 9)) / 4)
        assert found.loc["regret, k >= 3", "standard_error"] == 0.0
        # Runs of one row each: the standard error of the mean.
        rows = self.rows()
        found = summarise(rows).set_index(["measure", "method", "size"])
        of_runs = rows[rows.cascade == "any (any)"].groupby(["method", "size"]).regret.sem()
        for (method, size), error in of_runs.items():
            said = found.loc[("decision regret", method, size), "standard_error"]
            assert said == pytest.approx(error, nan_ok=True)

    def test_failures_are_told(self) -> None:
        rows = self.rows()
        broken = {"table": "t", "size": "15", "seed": 3, "method": "paper", "cascade": "any (any)"}
        rows = pd.concat([rows, pd.DataFrame([{**broken, "status": "ValueError: no"}])], ignore_index=True)
        text = in_words(summarise(rows), rows)
        assert "1 of 31 runs failed" in text
        assert "ValueError: no" in text
        assert "decision regret" in text


def test_probability_given_all_confidences_is_at_the_mode() -> None:
    """Independent normal priors and a logistic likelihood, differentiated by differences."""
    data = read_table(example.train_path())
    z, priors, i = np.random.default_rng(0).normal(size=(data.num_queries, 3)), Priors(), 2
    found = given_all(z, data, i)
    loc = [priors.intercept_loc + i * priors.step_loc, 0.0, 0.0, priors.slope_loc]
    scale = [priors.intercept_scale, priors.upstream_scale, priors.upstream_scale, priors.slope_scale]

    def log_posterior(b: np.ndarray) -> float:
        prob = expit(b[0] + z @ b[1:])
        return float(norm.logpdf(b, loc, scale).sum() + bernoulli.logpmf(data.correct[:, i], prob).sum())

    steps = 1e-4 * np.eye(4)
    slopes = [(log_posterior(found + step) - log_posterior(found - step)) / 2e-4 for step in steps]
    np.testing.assert_allclose(slopes, 0.0, atol=2e-3)
