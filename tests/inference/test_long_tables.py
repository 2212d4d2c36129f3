"""Long tables: bins and weighted samples against the whole table, and how much of it is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from cascade_bayes import read_table
from cascade_bayes._trees import take
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.decision import table as decision_table
from cascade_bayes.decision.predict import predict
from cascade_bayes.engine.costs import Payments, call_cost_draws, find_trend, query_weights
from cascade_bayes.errors import InputError
from cascade_bayes.inference import checks
from cascade_bayes.inference import pair_posteriors as modular
from cascade_bayes.inference import preparation as prepare
from cascade_bayes.inference.effort import MAX_LOOKED_AT, effort_sentence, random_subset, with_random_subset
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.padded_table import PaddedTable
from cascade_bayes.inference.posterior_modules import MarginData, make_modules, margins_module
from cascade_bayes.inference.preparation import Prepared
from cascade_bayes.inference.samplers.long_tables import MAX_STEP, tilt
from cascade_bayes.model import observations as of_observations
from cascade_bayes.model.anchors import find_anchors
from cascade_bayes.model.margins import component_means, get_margin
from cascade_bayes.model.observations import Observations, observations, sample_of
from cascade_bayes.model.params import MAX_DISCRETE, find_atoms
from cascade_bayes.model.priors import Priors, default_priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.model.strata import (
    MAX_EXACT,
    NUM_BINS,
    SAMPLE_SIZE,
    bin_values,
    code_rows,
    draw_sample,
    is_long,
    lay_strata,
)
from cascade_bayes.policy.terms import COSTS_ALONE
from cascade_bayes.transforms import ConfidenceMap

MODELS = ("small", "large")


def long_table(num_queries: int, seed: int = 0) -> CascadeData:
    """Two models that are sure and right together, the second exactly certain of a fifth."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=num_queries)
    z = np.stack([common + rng.normal(size=num_queries), common + rng.normal(size=num_queries)], axis=1)
    correct = rng.uniform(size=z.shape) < expit(np.array([0.2, 0.9]) + np.array([0.6, 0.4]) * z)
    confidence = expit(z)
    confidence[rng.uniform(size=num_queries) < 0.2, 1] = 1.0
    cost = np.array([1.0, 8.0]) * rng.lognormal(0.0, 0.5, (num_queries, 1)) * (1 + 0.1 * z[:, :1].clip(-3, 3))
    return CascadeData(
        models=MODELS,
        query_ids=np.arange(num_queries).astype(str),
        confidence=confidence,
        correct=correct,
        labelled=np.ones(z.shape, dtype=bool),
        cost=cost,
        latency_ms=None,
        call_cost=cost.mean(axis=0),
        kind="probability",
        confidence_map=ConfidenceMap.fit(confidence, "probability"),
    )


def prepared(data: CascadeData, structure: Any = "modular") -> Prepared:
    layout = find_atoms(data)
    spec = ModelSpec(
        layout,
        get_copulas("gumbel", 1),
        Priors(num_components=4),
        structure=structure,
        anchors=find_anchors(data, layout),
    )
    return Prepared(data, observations(data, layout), spec, None, FitOptions(seed=0), data.num_queries)


def modules(one: Prepared, obs: Observations) -> Any:
    anchors = jax.tree.map(jnp.asarray, one.spec.known_anchors)
    return make_modules(obs, jnp.asarray(one.spec.layout.locs), anchors, one.spec.kind, one.data.models)


def test_rows_of_one_code_share_strata_of_equal_sizes() -> None:
    rng = np.random.default_rng(0)
    code = code_rows([rng.integers(3, size=5000), rng.integers(2, size=5000)])
    assert sorted(set(code.tolist())) == list(range(6))
    values = rng.normal(size=(5000, 2))
    stratum = lay_strata(code, values, 500)
    sizes = np.bincount(stratum)
    assert 490 <= len(sizes) <= 500
    assert sizes.min() >= 9
    assert sizes.max() <= 12
    assert all(len(set(code[stratum == s].tolist())) == 1 for s in range(len(sizes)))
    within = sum(values[stratum == s].var(axis=0) * np.mean(stratum == s) for s in range(len(sizes)))
    assert (np.asarray(within) < 0.1).all()  # near ones, of a variance of 1 in all


def test_more_codes_than_strata_share_them() -> None:
    stratum = lay_strata(np.arange(1000), np.zeros((1000, 1)), 64)
    assert np.bincount(stratum).min() >= 15
    assert np.bincount(stratum).max() <= 16


def test_each_stratum_is_stood_for_by_one_of_its_rows() -> None:
    stratum = np.random.default_rng(1).permutation(np.repeat(np.arange(40), 25))
    sample = draw_sample(stratum)
    assert (np.diff(sample.rows) > 0).all()
    assert sample.weight.tolist() == [25] * 40
    np.testing.assert_array_equal(stratum[sample.rows][sample.stratum], stratum)
    np.testing.assert_array_equal(draw_sample(stratum).rows, sample.rows)
    assert not np.array_equal(draw_sample(stratum, seed=1).rows, sample.rows)


def test_a_sample_estimates_sums_without_bias() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(2000, 1))
    stratum = lay_strata(np.zeros(2000, dtype=int), values, 50)
    sums = []
    for seed in range(200):
        sample = draw_sample(stratum, seed)
        sums.append(sample.weight @ np.exp(values[sample.rows, 0]))
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - np.exp(values).sum()) < 4 * error
    assert np.std(sums) < 0.4 * np.exp(values).std() * 2000 / np.sqrt(50)  # a simple sample's, and less


def test_bins_keep_atoms_counts_and_means_and_values_that_are_few() -> None:
    z = np.concatenate([np.random.default_rng(0).logistic(size=20000), np.full(500, np.inf), np.zeros(300)])
    value, count = bin_values(z, np.array([0.0, np.inf]))
    assert value.size <= NUM_BINS
    assert count.sum() == z.size
    assert count[value == 0.0] == 300
    assert count[value == np.inf] == 500
    finite = np.isfinite(value)
    np.testing.assert_allclose(count[finite] @ value[finite], z[np.isfinite(z)].sum(), atol=1e-8)
    grades = np.repeat(np.arange(100.0), 50)
    assert [x.tolist() for x in bin_values(grades, np.array([np.nan]))] == [list(range(100)), [50.0] * 100]


def test_atoms_may_be_more_than_the_bins() -> None:
    z = np.concatenate([np.repeat(np.arange(300.0), 10), np.linspace(400, 500, 99)])
    value, count = bin_values(z, np.arange(300.0), most=256)
    assert value[:300].tolist() == list(range(300))
    assert count.sum() == z.size


@pytest.mark.parametrize("structure", ["modular", pytest.param("chain", marks=pytest.mark.slow)])
def test_a_weighted_query_counts_as_often_as_it_is_repeated(structure: Any) -> None:
    one = prepared(long_table(60), structure)
    times = np.random.default_rng(0).integers(0, 4, 60)
    repeated = one.obs.take(np.repeat(np.arange(60), times))
    weighted = one.obs._replace(weight=jnp.asarray(times, dtype=float))
    pair = modules(one, repeated)[-1].lanes, modules(one, weighted)[-1].lanes
    x = jnp.linspace(-0.5, 0.5, pair[0].target.dim)
    values = [jax.value_and_grad(lanes.target.potential)(x, take(lanes.data, 0)) for lanes in pair]
    for repeated_part, weighted_part in zip(values[0], values[1], strict=True):
        np.testing.assert_allclose(weighted_part, repeated_part, rtol=1e-10, atol=1e-10)


def test_a_weighted_confidence_counts_as_often_as_it_is_repeated() -> None:
    one = prepared(long_table(60))
    target, data = modules(one, one.obs)[0].lanes
    lane = take(data, 1)  # with an atom
    times = np.random.default_rng(0).integers(0, 4, 60)
    longer = lane._replace(z=jnp.repeat(lane.z, times), weight=jnp.ones(times.sum(), dtype=bool))
    x = jnp.linspace(-0.5, 0.5, target.dim)
    np.testing.assert_allclose(
        target.potential(x, lane._replace(weight=jnp.asarray(times, dtype=float))),
        target.potential(x, longer),
        rtol=1e-12,
    )


@pytest.mark.slow
def test_bins_leave_the_log_density_of_margins_what_it_was() -> None:
    one = prepared(long_table(20_000))
    target, exact = modules(one, one.obs)[0].lanes
    sample = sample_of(one.obs, one.spec.layout.locs)
    assert sample is not None
    locs = jnp.asarray(one.spec.layout.locs)
    anchors = jax.tree.map(jnp.asarray, one.spec.known_anchors)
    short = make_modules(one.obs, locs, anchors, one.spec.kind, MODELS, sample)[0].lanes.data
    assert isinstance(short, MarginData)
    value_and_grad = jax.jit(jax.value_and_grad(target.potential))
    for lane in range(2):
        for x in 0.3 * np.random.default_rng(lane).normal(size=(5, target.dim)):
            (value, slope), (binned, own) = (
                value_and_grad(jnp.asarray(x), take(data, lane)) for data in (exact, short)
            )
            assert abs(binned - value) < 1e-4 * value  # of some 40,000 nats, much the same everywhere
            assert np.abs(own - slope).max() < 2e-3 * np.abs(slope).max()


@pytest.mark.parametrize("structure", ["modular", "chain"])
def test_the_compressed_problem_does_not_grow_with_the_table(structure: Any) -> None:
    def sizes(num_queries: int) -> list[Any]:
        one = prepared(long_table(num_queries), structure)
        table = PaddedTable(one, one.spec.kind, num_queries)
        assert table.obs.weight is not None
        assert float(table.obs.weight.sum()) == num_queries
        found = [table.obs.z.shape]
        if structure == "modular":
            assert table.whole is not None
            margins = margins_module(table.whole, table.atom_locs, table.kind, MODELS, in_bins=True)
            found += [leaf.shape for leaf in jax.tree.leaves(margins.lanes.data)]
        return found

    few, many = sizes(1500), sizes(12_000)
    assert few == many
    assert few[0] == (2, SAMPLE_SIZE)


def test_short_tables_are_left_as_they_are() -> None:
    one = prepared(long_table(MAX_EXACT))
    assert not is_long(MAX_EXACT)
    assert sample_of(one.obs, one.spec.layout.locs) is None
    table = PaddedTable(one, one.spec.kind, MAX_EXACT)
    assert table.whole is None
    assert table.obs.weight is None
    assert table.modules()[0].lanes.data.weight.dtype == bool


@pytest.fixture(scope="module")
def calibration() -> tuple[Any, Any, Any]:
    """The whole table's calibration, its sample's mended one, and what was sampled."""
    one = prepared(long_table(6000))
    sample = sample_of(one.obs, one.spec.layout.locs)
    assert sample is not None
    target, data = modules(one, one.obs)[-1].lanes
    whole = take(data, 0)
    found = tilt(target, lambda obs: whole._replace(obs=obs), one.obs, sample)
    return target, whole, found


def test_a_tilted_sample_has_the_gradient_of_the_whole_table(calibration: Any) -> None:
    target, whole, found = calibration
    gradient = jax.jit(jax.grad(target.potential))
    wanted = gradient(found.centre, whole)
    np.testing.assert_allclose(gradient(found.centre, found), wanted, rtol=1e-7, atol=1e-6)
    off = gradient(found.centre, found.data) - wanted
    assert np.abs(off).max() > 1.0  # what is mended is no trifle


@pytest.mark.slow
def test_a_tilted_sample_has_the_mode_of_the_whole_table_and_nearly_its_curvature(calibration: Any) -> None:
    target, whole, found = calibration
    hessian = jax.jit(jax.jacfwd(jax.grad(target.potential)))
    exact, own = (np.asarray(hessian(found.centre, data)) for data in (whole, found))
    left = np.linalg.solve(np.linalg.cholesky(exact), jax.grad(target.potential)(found.centre, whole))
    assert np.abs(left).max() < 2 * MAX_STEP  # in posterior standard deviations
    deviations = [np.sqrt(np.diag(np.linalg.inv(curvature))) for curvature in (exact, own)]
    np.testing.assert_allclose(deviations[1], deviations[0], rtol=0.15)


@pytest.mark.slow
def test_a_sample_has_the_whole_tables_tops_of_pairs() -> None:
    one = prepared(long_table(4000))
    sample = sample_of(one.obs, one.spec.layout.locs)
    assert sample is not None
    centres = modular.Centres(np.array([[0.0, 0.5]]), np.array([[0.1]]))
    sites = {
        "mixing_split": np.zeros((2, 3)),
        "normal_scale": np.full((2, 4), 1.2),
        "intercept": np.array([0.2, 0.9]),
        "slope": np.array([0.6, 0.4]),
        "atom_logit": np.array([-1.4]),
        "atom_effect": np.array([-0.5]),
        "label_corr": np.array(0.2),
        "label_corr_slope": np.array(0.1),
    }
    draws = {k: np.broadcast_to(v, (1, 2, *v.shape)) for k, v in sites.items()}
    how = jnp.asarray(one.spec.layout.locs), one.spec.kind, centres
    key = jax.random.key(0)
    exact = modular.sample_pairs(key, draws, one.obs, *how, at_mode=True)
    mended = modular.sample_pairs(key, draws, sample, *how, whole=one.obs, at_mode=True)
    alone = modular.sample_pairs(key, draws, sample, *how, at_mode=True)
    for name in ("tau", "upstream"):  # of standard deviations of 0.01 and 0.05
        np.testing.assert_allclose(mended[name], exact[name], atol=1e-5)
        assert np.abs(alone[name] - exact[name]).max() > 3e-4


def test_pairs_are_drawn_in_parts_of_even_length_with_keys_of_their_own() -> None:
    seen = []

    def draw(key: jax.Array, sites: dict[str, jax.Array]) -> dict[str, jax.Array]:
        seen.append((jax.random.uniform(key).item(), len(sites["slope"])))
        return {"tau": 2.0 * sites["slope"][None]}

    slope = jnp.arange(1500.0)
    found = modular._by_parts(draw, jax.random.key(0), {"slope": slope})
    np.testing.assert_array_equal(found["tau"], 2.0 * slope[None])
    assert [length for _, length in seen] == [500, 500, 500]
    assert len({number for number, _ in seen}) == 3


@pytest.mark.parametrize(("num_queries", "wanted"), [(1000, Priors()), (1001, Priors.long_table())])
def test_a_long_table_has_priors_of_its_own_unless_others_are_named(num_queries: int, wanted: Priors) -> None:
    data = long_table(num_queries)
    assert default_priors(num_queries) == wanted
    assert prepare.prepare(data, FitOptions(seed=0)).spec.priors == wanted
    named = Priors(slope_scale=0.5)
    assert prepare.prepare(data, FitOptions(seed=0, priors=named)).spec.priors == named


def test_components_of_a_long_table_are_narrower_than_their_distance() -> None:
    def ratio(priors: Priors) -> np.ndarray:
        mean = np.asarray(component_means(priors.num_components))
        distance = np.diff(np.log(mean) - np.log1p(-mean))
        median = np.exp(np.asarray(get_margin("logit_normal").prior(priors).loc))
        return np.asarray(np.sqrt(median[1:] * median[:-1]) / distance)

    assert np.ptp(ratio(Priors.long_table())) < 0.05  # everywhere the same
    assert ratio(Priors.long_table()).max() < 0.8
    assert ratio(Priors()).max() > 2.0
    # In all else the priors are the same.
    ours = Priors.long_table().to_dict()
    other = {name for name, value in Priors().to_dict().items() if ours[name] != value}
    assert other == {"normal_scale", "normal_log_scale", "normal_power"}


def test_a_fit_is_looked_at_by_some_of_its_queries(
    small_posterior: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_random_subset(small_posterior, MAX_LOOKED_AT, 0) is small_posterior
    assert with_random_subset(small_posterior, None, 0) is small_posterior
    few = with_random_subset(small_posterior, 20, 1)
    assert few.data.num_queries == 20
    assert few.samples is small_posterior.samples
    seen: list[Any] = []

    def spy(_: Any, posterior: Any, *more: Any) -> tuple[()]:
        seen.append(posterior.data.query_ids)
        return ()

    for name in ("check_margins", "check_pairs", "check_replicates"):
        monkeypatch.setattr(checks, name, spy)
    checks.check(small_posterior, num_draws=4, seed=1, max_queries=20)
    assert len(seen) == 3
    assert all(np.array_equal(names, few.data.query_ids) for names in seen)
    with pytest.raises(InputError, match="max_queries must be at least 1; got 0"):
        checks.check(small_posterior, max_queries=0)


def test_arviz_gets_some_of_the_queries_in_all_groups(
    small_posterior: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cascade_bayes.inference import posterior as of_posterior

    computed: list[int] = []
    monkeypatch.setattr(
        of_posterior, "computed_groups", lambda few, *_: computed.append(few.data.num_queries) or {}
    )
    tree = small_posterior.to_arviz(max_queries=20)
    assert computed == [20]
    assert tree["observed_data"]["confidence"].sizes["query"] == 20
    assert small_posterior.to_arviz()["observed_data"]["confidence"].sizes["query"] > 20


def test_what_a_long_fit_takes_is_said_before() -> None:
    assert effort_sentence(long_table(MAX_EXACT), "modular") is None
    said = effort_sentence(long_table(MAX_EXACT + 1), "modular")
    assert said is not None
    assert "gradient of all" in said
    assert "two minutes of processor time and 1.4 GB" in said
    chain = effort_sentence(long_table(MAX_EXACT + 1), "chain")
    assert chain is not None
    assert "bins" not in chain


def test_a_subset_is_random_and_seeded() -> None:
    data = long_table(50)
    some = random_subset(data, 20, seed=1)
    assert some.num_queries == 20
    np.testing.assert_array_equal(random_subset(data, 20, seed=1).query_ids, some.query_ids)
    assert set(random_subset(data, 20, seed=2).query_ids) != set(some.query_ids)
    assert list(map(int, some.query_ids)) == sorted(map(int, some.query_ids))
    assert random_subset(data, 50, seed=1) is data
    assert random_subset(data, None, seed=1) is data
    with pytest.raises(InputError, match="max_queries must be at least 1; got 0"):
        random_subset(data, 0, seed=1)


def test_a_rounded_measurement_of_many_values_has_no_atom_at_each() -> None:
    rng = np.random.default_rng(0)

    def discrete(num_values: int) -> bool:
        confidence = rng.integers(1, num_values + 1, (40 * num_values, 2)) / (num_values + 1)
        data = replace(
            long_table(len(confidence)),
            confidence=confidence,
            confidence_map=ConfidenceMap.fit(confidence, "probability"),
        )
        return not find_atoms(data).continuous.any()

    assert discrete(MAX_DISCRETE)
    assert not discrete(MAX_DISCRETE + 1)


class TestDecisions:
    """A weighted sample of the queries in place of all of them."""

    WEIGHT = np.array([3.0, 1.0, 5.0, 2.0])

    def test_the_weights_of_some_queries_together_are_dirichlet(self) -> None:
        drawn = query_weights(4, 20_000, 0.5, self.WEIGHT)
        share = self.WEIGHT / self.WEIGHT.sum()
        np.testing.assert_allclose(drawn.sum(axis=1), 1.0)
        np.testing.assert_allclose(drawn.mean(axis=0), share, rtol=0.03)
        spread = np.sqrt(share * (1 - share) / (self.WEIGHT.sum() + 1))
        np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.03)

    def test_costs_and_trends_count_queries_by_weight(self) -> None:
        data = long_table(400)
        times = np.random.default_rng(3).integers(1, 4, 400)
        repeated = data.take(np.repeat(np.arange(400), times))
        few = replace(data, call_cost=repeated.call_cost)
        weight = times.astype(float)
        for found, wanted, room in (
            (call_cost_draws(few, 2000, weight=weight), call_cost_draws(repeated, 2000), 0.003),
            (
                find_trend(few, (0, 1), COSTS_ALONE, 2000, weight).slope,
                find_trend(repeated, (0, 1), COSTS_ALONE, 2000).slope,
                0.03,
            ),
        ):
            np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), rtol=room)
            # Repeated queries are independent, and so say more than they do together.
            assert (found.std(axis=0) < 2 * wanted.std(axis=0)).all()

    def test_payments_count_queries_by_weight(self) -> None:
        data = long_table(300)
        times = np.random.default_rng(3).integers(1, 4, 300)
        repeated = data.take(np.repeat(np.arange(300), times))
        reach = np.broadcast_to([1.0, 0.4], (2000, 2))
        cuts = np.array([0.6])
        found = Payments(data.confidence, data.cost, cuts, 2000, weight=times.astype(float)).expected(reach)
        wanted = Payments(repeated.confidence, repeated.cost, cuts, 2000).expected(reach)
        np.testing.assert_allclose(found.mean(), wanted.mean(), rtol=0.01)

    @pytest.mark.slow
    def test_a_sample_has_the_tables_costs_and_nearly_its_shares(
        self, small_posterior: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = small_posterior.data
        # Each query many times, a little apart.
        rng = np.random.default_rng(0)
        many = data.take(np.repeat(np.arange(data.num_queries), 30))
        near = np.minimum(many.confidence * rng.uniform(0.98, 1.02, many.confidence.shape), 0.0)
        many = replace(
            many,
            query_ids=np.arange(many.num_queries).astype(str),
            confidence=np.where(many.confidence == 0, 0.0, near),
            cost=many.cost * rng.uniform(0.8, 1.2, many.cost.shape),
            call_cost=data.call_cost,
        )
        posterior = replace(small_posterior, data=many)
        thresholds = np.quantile(many.confidence, [0.3, 0.5], axis=0)[:, :-1]
        exact = predict(posterior, thresholds)
        monkeypatch.setattr(decision_table, "MAX_ROWS", 600)
        few = decision_table.table_of(posterior)
        assert few.weight is not None
        assert few.data.num_queries <= 600
        assert few.weight.sum() == many.num_queries
        assert decision_table.table_of(posterior) is few
        spent = few.weight @ few.data.cost / few.weight.sum()
        np.testing.assert_allclose(spent, many.cost.mean(axis=0), rtol=1e-12)
        found = predict(posterior, thresholds)
        for name, room in (("error", 0.005), ("reach_prob", 0.01)):
            np.testing.assert_allclose(
                getattr(found, name).mean(axis=1), getattr(exact, name).mean(axis=1), atol=room
            )
        np.testing.assert_allclose(found.cost.mean(axis=1), exact.cost.mean(axis=1), rtol=0.02)


@pytest.mark.slow
def test_the_default_fit_of_a_long_table_converges() -> None:
    posterior = fit(long_table(20_000), seed=0, progress=False)
    verdict = posterior.convergence()
    assert verdict.converged, verdict.sentence()
    # 2,000 draws of everything, and trajectories of some ten steps.
    assert posterior.samples["tau"].shape[:2] == (4, 500)
    assert posterior.sample_stats["num_steps"].mean() < 40


@pytest.mark.long
def test_a_fit_of_5000_queries_is_that_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data = long_table(5000)
    options: dict[str, Any] = {"seed": 0, "priors": Priors(num_components=4), "progress": False}
    short = fit(data, "laplace", **options)
    monkeypatch.setattr(of_observations, "is_long", lambda _: False)
    exact = fit(data, "laplace", **options)
    for name in ("intercept", "slope", "label_corr", "label_corr_slope", "tau", "upstream"):
        own, wanted = (one.samples[name].reshape(one.num_draws, -1).astype(float) for one in (short, exact))
        off = np.abs(own.mean(axis=0) - wanted.mean(axis=0)) / wanted.std(axis=0)
        assert off.max() < 0.25, name
        np.testing.assert_allclose(own.std(axis=0), wanted.std(axis=0), rtol=0.2, err_msg=name)


@pytest.mark.slow
def test_the_command_says_what_it_fits(tmp_path: Any) -> None:
    from typer.testing import CliRunner

    from cascade_bayes.cli.app import app

    data = long_table(40)
    frame = tmp_path / "table.csv"
    lines = ["query,model,confidence,correct,cost"]
    for q in range(40):
        for i, model in enumerate(MODELS):
            values = data.confidence[q, i], int(data.correct[q, i]), data.cost[q, i]
            lines.append(",".join([f"q{q}", model, *map(str, values)]))
    frame.write_text("\n".join(lines) + "\n")
    assert read_table(frame, confidence="probability").num_queries == 40
    arguments = ["fit", str(frame), "--confidence", "probability", "--max-queries", "30", "--method", "map"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "fit.nc")])
    assert result.exit_code == 0, result.output
    assert "a random 30 of the 40 queries (--max-queries, --seed 0)" in " ".join(result.output.split())


def test_requests_know_no_other_counts() -> None:
    assert FitOptions(seed=0).draws == 500
