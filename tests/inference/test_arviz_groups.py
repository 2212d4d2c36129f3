"""The tree for ArviZ: its groups against the likelihood and the sampler, and ArviZ's functions on them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from numpyro.infer.util import log_density

from cascade_bayes._trees import evenly_spaced
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.errors import InputError
from cascade_bayes.inference import _arviz
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.predictive import replicate
from cascade_bayes.inference.prior import draw_sites
from cascade_bayes.inference.samplers.target import StudentCoordinate
from cascade_bayes.model.cascade import params_from_sites, sample_sites
from cascade_bayes.model.centres import find_centres
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.observations import observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec, Structure
from cascade_bayes.reading import read_table

Array = Any
NUM_REPLICATES = 12
likelihood = jax.jit(log_likelihood, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def az() -> Any:
    mpl.use("agg")
    return _arviz._arviz()


@pytest.fixture(scope="module")
def tree(small_posterior: Posterior) -> Any:
    return small_posterior.to_arviz(num_replicates=NUM_REPLICATES, seed=3)


def from_prior(data: CascadeData, structure: Structure) -> Posterior:
    """A posterior of two chains of three draws without a fit: its draws are those of the prior."""
    layout = find_atoms(data)
    priors = Priors(num_components=4)
    pairs = data.num_models * (data.num_models - 1) // 2 if structure == "modular" else data.num_models - 1
    spec = ModelSpec(layout, get_copulas("independence", pairs), priors, structure=structure)
    obs = observations(data, layout)
    if structure == "modular":
        spec = replace(spec, centres=find_centres(obs, layout, spec.pairs))
    sites, _ = draw_sites(jax.random.split(jax.random.key(5), 6), spec)
    samples = {name: np.asarray(value).reshape(2, -1, *value.shape[1:]) for name, value in sites.items()}
    return Posterior(samples, {}, data, spec)


@pytest.fixture(scope="module")
def gappy(small_frame: pd.DataFrame) -> CascadeData:
    """Queries of which a first, a middle or a last row, or some labels, are absent; latencies."""
    frame = small_frame[small_frame["query"].isin(small_frame["query"].unique()[:40])].copy()
    frame = frame.reset_index(drop=True)
    frame["latency_ms"] = 10.0 + np.arange(len(frame))
    frame["correct"] = frame["correct"].astype(object)
    frame.loc[np.arange(len(frame)) % 7 == 0, "correct"] = None
    return read_table(frame[np.arange(len(frame)) % 5 != 1])


@pytest.fixture(scope="module")
def gappy_posterior(gappy: CascadeData) -> Posterior:
    return from_prior(gappy, "chain")


@pytest.fixture(scope="module")
def gappy_tree(gappy_posterior: Posterior) -> Any:
    return gappy_posterior.to_arviz(num_replicates=6)


def direct(posterior: Posterior, chain: int, draw: int) -> Array:
    """The density of each query under one draw, by the likelihood itself."""
    spec = posterior.spec
    sites = {name: jnp.asarray(values[chain, draw]) for name, values in posterior.samples.items()}
    return likelihood(
        params_from_sites(sites, spec),
        observations(posterior.data, spec.layout),
        spec.copulas_of(range(spec.num_models)),
        spec.layout.kinds,
    )


def test_every_group_is_there_with_names_and_units(tree: Any, small_posterior: Posterior) -> None:
    dims = {
        ("posterior", "tau"): ("chain", "draw", "pair"),
        ("prior", "tau"): ("chain", "draw", "pair"),
        ("sample_stats", "acceptance_rate"): ("chain", "draw"),
        ("observed_data", "confidence"): ("query", "model"),
        ("posterior_predictive", "confidence"): ("chain", "draw", "query", "model"),
        ("prior_predictive", "correct"): ("chain", "draw", "query", "model"),
        ("log_likelihood", "confidence_and_correct"): ("chain", "draw", "query"),
        ("constant_data", "call_cost"): ("model",),
    }
    for (group, name), wanted in dims.items():
        assert tree[group][name].dims == wanted
    assert len(tree["log_likelihood"].data_vars) == 1
    assert set(tree["prior"].data_vars) == set(tree["posterior"].data_vars)
    observed = set(tree["observed_data"].data_vars)
    assert observed == set(tree["posterior_predictive"].data_vars) == set(tree["prior_predictive"].data_vars)
    assert tree["constant_data"]["call_cost"].attrs["units"] == "US dollars per call"
    assert tree["constant_data"]["cost"].attrs["units"] == "US dollars per call"
    confidence = tree["observed_data"]["confidence"]
    assert (confidence.attrs["kind"], confidence.attrs["range"]) == ("logprob", "<= 0")
    np.testing.assert_array_equal(confidence.values, small_posterior.data.confidence)
    assert list(tree["posterior"]["pair"].values) == [
        "small-3b > medium-8b",
        "small-3b > large-70b",
        "medium-8b > large-70b",
    ]
    assert list(tree["log_likelihood"]["query"].values) == list(small_posterior.data.query_ids)


class TestLogLikelihood:
    def test_of_a_fit_is_that_of_each_draw(self, tree: Any, small_posterior: Posterior) -> None:
        found = tree["log_likelihood"]["confidence_and_correct"].values
        assert found.shape == (2, 100, 120)
        for chain, draw in [(0, 0), (1, 37)]:
            np.testing.assert_allclose(
                found[chain, draw], direct(small_posterior, chain, draw), rtol=1e-10, atol=1e-12
            )

    @pytest.mark.slow
    def test_where_rows_and_labels_are_absent(self, gappy_tree: Any, gappy_posterior: Posterior) -> None:
        found = gappy_tree["log_likelihood"]["confidence_and_correct"].values
        assert found.shape == (2, 3, 40)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[1, 2], direct(gappy_posterior, 1, 2), rtol=1e-10, atol=1e-12)

    @pytest.mark.long
    def test_of_a_chain_and_its_prior_make_the_energy_of_the_sampler(self, small_data: CascadeData) -> None:
        """The sampler's own record of its potential energy, in its own coordinates, is the other side."""
        data = small_data.select(small_data.models[:2]).take(range(40))
        priors = Priors(num_components=2)
        post = fit(
            data,
            seed=1,
            structure="chain",
            copula="independence",
            priors=priors,
            num_chains=1,
            num_warmup=5,
            num_samples=4,
            max_rounds=1,
            progress=False,
        )
        summed = (
            post.to_arviz(num_replicates=1)["log_likelihood"]["confidence_and_correct"].sum("query").values
        )
        split = StudentCoordinate(priors.split_df, priors.split_scale)
        for draw in range(4):
            sites = {name: jnp.asarray(values[0, draw]) for name, values in post.samples.items()}
            log_prior, _ = log_density(lambda: sample_sites(post.spec), (), {}, sites)
            # What the change to unconstrained coordinates adds: dx/du of the splits, d exp(u)/du of scales,
            # d sigmoid(u)/du of the correlation.
            u = split.inv(sites["mixing_split"])
            moved = jnp.sum(split.log_abs_det_jacobian(u, sites["mixing_split"]))
            moved += jnp.sum(jnp.log(sites["normal_scale"]))
            moved += jnp.log(sites["label_corr"]) + jnp.log1p(-sites["label_corr"])
            energy = -(summed[0, draw] + log_prior + moved)
            assert float(energy) == pytest.approx(post.sample_stats["potential_energy"][0, draw], abs=1e-8)


class TestReplicates:
    def test_draws_are_spread_in_every_chain(self, tree: Any) -> None:
        group = tree["posterior_predictive"]
        assert group["confidence"].shape == (2, 6, 120, 3)
        np.testing.assert_array_equal(group["draw"].values, evenly_spaced(100, 6))
        assert tree["prior_predictive"]["confidence"].shape == (1, NUM_REPLICATES, 120, 3)
        assert tree["prior"]["tau"].shape == (1, NUM_REPLICATES, 3)

    def test_they_look_like_the_table(self, tree: Any, small_data: CascadeData) -> None:
        """Rates of being right and of exact certainty, within four standard errors of a table."""
        confidence = tree["posterior_predictive"]["confidence"].values.reshape(12, 120, 3)
        correct = tree["posterior_predictive"]["correct"].values.reshape(12, 120, 3)
        assert correct.dtype == np.int8
        assert set(np.unique(correct)) == {0, 1}
        for found, seen in [(correct, small_data.correct), (confidence == 0, small_data.confidence == 0)]:
            rate = seen.mean(axis=0)
            assert np.all(np.abs(found.mean(axis=(0, 1)) - rate) < 4 * np.sqrt(0.25 / 120))
        middle = np.median(confidence, axis=1)
        assert np.all(
            (middle.min(axis=0) < np.median(small_data.confidence, axis=0) * 0.5) & (middle <= 0).all()
        )

    def test_seed(self, small_posterior: Posterior, tree: Any) -> None:
        again = small_posterior.to_arviz(num_replicates=NUM_REPLICATES, seed=3)
        other = small_posterior.to_arviz(num_replicates=NUM_REPLICATES, seed=4)
        for group in ("posterior_predictive", "prior_predictive"):
            values = tree[group]["confidence"].values
            np.testing.assert_array_equal(values, again[group]["confidence"].values)
            assert not np.array_equal(values, other[group]["confidence"].values)

    @pytest.mark.slow
    def test_what_the_table_lacks_is_no_value(self, gappy: CascadeData, gappy_tree: Any) -> None:
        tree = gappy_tree
        for group in ("observed_data", "posterior_predictive", "prior_predictive"):
            confidence, correct = (tree[group][name].values for name in ("confidence", "correct"))
            np.testing.assert_array_equal(
                np.isnan(confidence), np.broadcast_to(~gappy.observed, confidence.shape)
            )
            np.testing.assert_array_equal(np.isnan(correct), np.broadcast_to(~gappy.labelled, correct.shape))
        np.testing.assert_array_equal(tree["observed_data"]["correct"].values == 1, gappy.correct)
        assert tree["constant_data"]["latency_ms"].attrs["units"] == "ms"

    @pytest.mark.slow
    def test_an_atom_is_the_value_of_the_table(self, small_data: CascadeData) -> None:
        """Not its logit and back, which is off by a rounding."""
        raw = np.array([0.1, 0.35, 0.7])
        confidence = raw[(np.arange(120)[:, None] + np.arange(3)) % 3]
        data = replace(
            small_data,
            confidence=confidence,
            kind="probability",
            confidence_map=type(small_data.confidence_map)("probability", (0.3, 0.2, 0.1), (1.1, 1.3, 0.7)),
        )
        posterior = from_prior(data, "chain")
        assert posterior.spec.layout.counts.tolist() == [3, 3, 3]
        found = replicate(
            jax.random.key(0), posterior.params(), posterior.spec.copulas, posterior.spec.layout, data
        )
        assert set(np.unique(found.confidence)) == set(raw)

    def test_count(self, small_posterior: Posterior) -> None:
        with pytest.raises(InputError, match="num_replicates must be at least 1; got 0"):
            small_posterior.to_arviz(num_replicates=0)


class TestArviZ:
    def test_statistics(self, az: Any, tree: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few draws
            loo = az.loo(tree)
            table = az.compare({"one": tree, "other": tree})
            summary = az.summary(tree)
        assert loo["n_data_points"] == 120
        assert list(table.index) == ["one", "other"]
        assert "tau[small-3b > medium-8b]" in summary.index

    @pytest.mark.parametrize("name", ["plot_trace", "plot_forest", "plot_pair"])
    def test_plots_of_parameters(self, az: Any, tree: Any, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of ArviZ's own use of matplotlib
            assert getattr(az, name)(tree, var_names=["tau", "upstream"]) is not None

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["confidence", "correct"])
    @pytest.mark.parametrize("lacking", [False, True])
    def test_plots_of_tables(self, az: Any, tree: Any, gappy_tree: Any, name: str, lacking: bool) -> None:
        one = gappy_tree if lacking else tree
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # binary outcomes, few replicates
            for group in ("posterior", "prior"):
                if hasattr(az, "plot_ppc"):
                    assert az.plot_ppc(one, var_names=[name], group=group) is not None
                else:
                    plot = az.plot_ppc_dist(one, var_names=[name], group=f"{group}_predictive")
                    assert plot is not None


@pytest.mark.parametrize(
    ("method", "num_chains", "num_draws"),
    [("map", 1, 1), ("laplace", 4, 8)],
)
@pytest.mark.slow
def test_methods_without_chains_have_a_tree(
    method: str, num_chains: int, num_draws: int, small_data: CascadeData
) -> None:
    data = small_data.select(small_data.models[:2])
    post = fit(data, method, seed=0, priors=Priors(num_components=2), num_samples=8, progress=False)
    tree = post.to_arviz(num_replicates=num_chains)
    assert tree["log_likelihood"]["confidence_and_correct"].shape == (num_chains, num_draws, 120)
    assert tree["posterior_predictive"]["correct"].shape == (num_chains, 1, 120, 2)
    with pytest.raises(KeyError):
        tree["sample_stats"]


class TestFile:
    def test_of_arviz_itself_can_be_loaded(
        self, tree: Any, small_posterior: Posterior, tmp_path: Path
    ) -> None:
        tree.to_netcdf(str(tmp_path / "az.nc"))
        back = Posterior.load(tmp_path / "az.nc")
        assert back.digest() == small_posterior.digest()
        assert set(back.sample_stats) == set(small_posterior.sample_stats)

    def test_holds_no_more_than_loading_needs(self, small_posterior: Posterior, tmp_path: Path) -> None:
        small_posterior.save(tmp_path / "p.nc")
        stored = _arviz.read_netcdf(tmp_path / "p.nc")
        for group in ("log_likelihood", "prior", "posterior_predictive", "prior_predictive"):
            assert _arviz.variables(stored, group) == {}
        assert b"pickle" not in (tmp_path / "p.nc").read_bytes()

    @pytest.mark.slow
    def test_a_loaded_posterior_gives_the_same_thresholds(
        self, small_posterior: Posterior, tmp_path: Path
    ) -> None:
        """To the bit."""
        small_posterior.save(tmp_path / "p.nc")
        policies = [
            error_cost_frontier(
                posterior, models="all", error_prices=[0.001, 0.01], num_draws=8, num_cells=16
            ).at(error_price=0.01)
            for posterior in (small_posterior, Posterior.load(tmp_path / "p.nc"))
        ]
        for name in ("thresholds", "draw_thresholds"):
            np.testing.assert_array_equal(getattr(policies[0], name), getattr(policies[1], name))
        assert policies[0].fit_digest == policies[1].fit_digest

    @pytest.mark.slow
    def test_missing_values_and_latencies(self, gappy: CascadeData, tmp_path: Path) -> None:
        posterior = from_prior(gappy, "modular")
        posterior.save(tmp_path / "p.nc")
        data = Posterior.load(tmp_path / "p.nc").data
        for name in ("confidence", "correct", "labelled", "cost", "latency_ms", "call_cost"):
            np.testing.assert_array_equal(getattr(data, name), getattr(gappy, name))
