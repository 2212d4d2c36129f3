"""The fit and its file: the Laplace start, draws, diagnostics, NetCDF bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import cascade_bayes.inference.fit as fit_module
from cascade_bayes import error_cost_frontier
from cascade_bayes.data import CascadeData
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference import _arviz
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.storage.record import SCHEMA_VERSION
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import simulate
from cascade_bayes.reading import read_table

TINY: dict[str, Any] = {
    "seed": 0,
    "num_chains": 1,
    "num_warmup": 5,
    "num_samples": 4,
    "max_rounds": 1,
    "copula": "independence",
    "progress": False,
}
"""A fit of seconds, for what does not depend on the draws."""


def test_draws_keep_their_supports(small_posterior: Posterior) -> None:
    samples = small_posterior.samples
    assert {v.shape[:2] for v in samples.values()} == {(2, 100)}
    assert np.all(samples["normal_scale"] > 0)
    assert np.all((samples["tau"] > 0) & (samples["tau"] < 1))
    params = small_posterior.params()
    np.testing.assert_allclose(params.margins.continuous.mixing_probs.sum(-1), 1, atol=1e-12)
    assert params.margins.atom_probs.shape == (200, 3, 1)
    assert np.all(np.asarray(params.theta) >= 1)


# Independence compiles in a third of the time, and these tests are not about the copula.


@pytest.mark.slow
def test_same_seed_same_draws_other_seed_others(small_data: CascadeData) -> None:
    two = small_data.select(small_data.models[:2])

    def run(seed: int) -> dict[str, Any]:
        return dict(fit(two, **{**TINY, "seed": seed}).samples)

    one, same, other = run(3), run(3), run(4)
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])


@pytest.mark.slow
def test_rounds_go_on_until_the_chains_agree(small_data: CascadeData) -> None:
    short = fit(small_data, **{**TINY, "num_chains": 2, "max_rounds": 3})
    assert short.samples["slope"].shape[:2] == (2, 12)
    assert short.sample_stats["diverging"].shape == (2, 12)
    assert not short.convergence().converged


def test_posterior_agrees_with_simple_estimates(small_posterior: Posterior) -> None:
    """Kendall's tau and the atom's share have estimates that need no model."""
    from scipy.stats import kendalltau

    z = small_posterior.data.logit_score()
    every_tau = np.moveaxis(small_posterior.samples["tau"], 2, 0)
    for (i, j), draws in zip(small_posterior.spec.pairs, every_tau, strict=True):
        wanted = kendalltau(z[:, i], z[:, j]).statistic
        assert abs(draws.mean() - wanted) < 3 * draws.std() + 0.02
    atoms = np.asarray(small_posterior.params().margins.atom_probs)
    (model,) = small_posterior.spec.layout.model_index
    share = np.mean(z[:, model] == np.inf)
    assert share > 0.05
    assert abs(atoms[:, model, 0].mean() - share) < 0.03


def test_draws_chosen_are_spread_over_all_chains(small_posterior: Posterior) -> None:
    few = small_posterior.params(4)
    every = small_posterior.params()
    np.testing.assert_array_equal(few.slope, np.asarray(every.slope)[[25, 75, 125, 175]])
    assert small_posterior.params(10_000).slope.shape == (200, 3)


class TestConvergence:
    def make(self, posterior: Posterior, draws: np.ndarray, **stats: np.ndarray) -> Posterior:
        return replace(posterior, samples={"slope": draws}, sample_stats=stats)

    def test_good_chains(self, small_posterior: Posterior) -> None:
        draws = np.random.default_rng(0).normal(size=(4, 500, 3))
        verdict = self.make(small_posterior, draws, diverging=np.zeros((4, 500))).convergence()
        assert verdict.converged
        assert verdict.min_ess_bulk > 1000
        assert verdict.sentence().startswith("The chains agree")

    def test_one_divergence_is_enough(self, small_posterior: Posterior) -> None:
        draws = np.random.default_rng(0).normal(size=(4, 500, 3))
        diverging = np.zeros((4, 500))
        diverging[2, 7] = 1
        verdict = self.make(small_posterior, draws, diverging=diverging).convergence()
        assert verdict.mixed
        assert not verdict.converged
        assert "1 divergences" in verdict.sentence()

    def test_the_stuck_parameter_is_named(self, small_posterior: Posterior) -> None:
        draws = np.random.default_rng(0).normal(size=(4, 500, 3))
        draws[3, :, 1] += 5
        verdict = self.make(small_posterior, draws).convergence()
        assert not verdict.mixed
        assert verdict.worst_parameter == "slope[medium-8b]"
        assert verdict.max_r_hat > 1.5


class TestFile:
    def test_round_trip_is_bit_for_bit(self, small_posterior: Posterior, tmp_path: Path) -> None:
        small_posterior.save(tmp_path / "p.nc")
        back = Posterior.load(tmp_path / "p.nc")
        for group in ("samples", "sample_stats"):
            left, right = getattr(small_posterior, group), getattr(back, group)
            assert set(left) == set(right)
            for name in left:
                np.testing.assert_array_equal(left[name], right[name])
        for name in ("confidence", "correct", "labelled", "cost", "call_cost", "query_ids"):
            np.testing.assert_array_equal(getattr(small_posterior.data, name), getattr(back.data, name))
        np.testing.assert_array_equal(back.spec.layout.raw, small_posterior.spec.layout.raw)
        assert back.models == small_posterior.models
        assert back.spec.priors == small_posterior.spec.priors
        assert back.confidence_map == small_posterior.confidence_map
        assert back.digest() == small_posterior.digest()
        assert back.provenance["versions"]["jax"] == jax.__version__

    def test_summary_names_models(self, small_posterior: Posterior) -> None:
        rows = list(small_posterior.summary().index)
        assert "slope[small-3b]" in rows
        assert "tau[small-3b > medium-8b]" in rows

    def test_arviz_reads_the_file(self, small_posterior: Posterior, tmp_path: Path) -> None:
        small_posterior.save(tmp_path / "p.nc")
        tree = _arviz.read_netcdf(tmp_path / "p.nc")
        posterior = tree["posterior"]
        assert list(posterior["slope"].dims) == ["chain", "draw", "model"]
        assert list(posterior["model"].values) == list(small_posterior.models)
        record = json.loads(posterior.attrs["cascade_bayes"])
        assert record["data_summary"]["num_queries"] == 120
        assert record["cost_unit"] == "US dollars per call"

    @pytest.mark.parametrize("keep", [0, 100, 5000])
    def test_cut_short(self, small_posterior: Posterior, tmp_path: Path, keep: int) -> None:
        path = tmp_path / "p.nc"
        small_posterior.save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match="cut short"):
            Posterior.load(path)

    def test_other_netcdf_file(self, tmp_path: Path) -> None:
        import xarray

        path = tmp_path / "other.nc"
        xarray.Dataset({"x": ("t", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
        with pytest.raises(InputError, match="not a posterior file"):
            Posterior.load(path)

    def test_other_version(
        self, small_posterior: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cascade_bayes.inference.storage import file as module

        monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        small_posterior.save(tmp_path / "p.nc")
        monkeypatch.undo()
        with pytest.raises(
            InputError, match=f"version {SCHEMA_VERSION + 1} of the format; this release reads"
        ):
            Posterior.load(tmp_path / "p.nc")


class Stopped(Exception):  # noqa: N818
    """Raised in place of the costly part, which these tests have no need of."""


def stop(*_: Any, **kwargs: Any) -> None:
    raise Stopped


class TestBadRequests:
    def test_unknown_copula(self, small_data: CascadeData) -> None:
        with pytest.raises(InputError, match=r"copula must be one of independence, .*; got 'x'"):
            fit(small_data, seed=0, copula="x")

    @pytest.mark.parametrize("name", ["num_chains", "num_warmup", "num_samples", "max_rounds"])
    def test_counts(self, small_data: CascadeData, name: str) -> None:
        with pytest.raises(InputError, match=f"{name} must be at least 1; got 0"):
            fit(small_data, seed=0, **{name: 0})

    def test_model_without_labels(self, small_frame: pd.DataFrame) -> None:
        frame = small_frame.astype({"correct": object})
        frame.loc[frame["model"] == "medium-8b", "correct"] = None
        with pytest.raises(InputError, match="medium-8b"):
            fit(read_table(frame), seed=0)

    def test_what_is_no_table_is_told_so(self) -> None:
        with pytest.raises(TypeError, match=r"got the str 'train\.parquet'\. Read a file"):
            fit("train.parquet", seed=0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="data must be a CascadeData; got a DataFrame"):
            fit(pd.DataFrame({"query": range(30), "model": "a"}), seed=0)  # type: ignore[arg-type]

    def test_arithmetic_is_in_64_bits_whatever_is_set(
        self, small_data: CascadeData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def look(*_: object, **__: object) -> None:
            seen.append(jax.numpy.ones(1).dtype.name)
            raise Stopped

        monkeypatch.setattr(fit_module, "draw", look)
        jax.config.update("jax_enable_x64", False)
        try:
            with pytest.raises(Stopped):
                fit(small_data, seed=0)
            seen.append(jax.numpy.ones(1).dtype.name)  # what the user has set is as it was
        finally:
            jax.config.update("jax_enable_x64", True)
        assert seen == ["float64", "float32"]


@pytest.mark.slow
def test_constant_labels_warn_and_the_prior_carries_them(small_frame: pd.DataFrame) -> None:
    frame = small_frame.copy()
    frame.loc[frame["model"] == "large-70b", "correct"] = True
    with pytest.warns(DataWarning, match="large-70b"):
        post = fit(read_table(frame), **{**TINY, "num_chains": 2, "num_warmup": 100, "num_samples": 50})
    top = post.samples["intercept"][..., 2]
    assert np.all(np.isfinite(top))
    assert top.mean() > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "value"), [("small-3b", -0.3), pytest.param("medium-8b", 0.0, marks=pytest.mark.long)]
)
def test_confidences_all_alike_tell_nothing_apart(
    small_frame: pd.DataFrame, model: str, value: float
) -> None:
    """Such a model stops at every query, or is not asked; its accuracy is learned all the same."""
    frame = small_frame.copy()
    frame.loc[frame["model"] == model, "confidence"] = value
    data = read_table(frame)
    with pytest.warns(DataWarning, match=f"all 120 confidences of model '{model}' are {value}"):
        post = fit(data, "laplace", seed=0, progress=False)
    at = data.models.index(model)
    assert find_atoms(data).counts[at] == 1
    alone = error_cost_frontier(post, models="any", error_prices=[0.001, 0.01])
    assert alone.alone[(model,)].error.mean() == pytest.approx(1 - data.correct[:, at].mean(), abs=0.05)
    reach = error_cost_frontier(post, models="all", error_prices=[0.001, 0.01]).reach_prob.mean(axis=1)
    asked = reach[:, at] > 0  # a model that would pass every query on is left out
    np.testing.assert_allclose(reach[asked, at + 1], 0, atol=1e-9)


@pytest.mark.long
def test_priors_are_overridden_in_one_place(small_data: CascadeData) -> None:
    post = fit(small_data, priors=Priors(num_components=2), **TINY)
    assert post.samples["normal_scale"].shape[-1] == 2
    assert "tau" not in post.samples
    assert find_atoms(small_data).counts.tolist() == post.spec.layout.counts.tolist()


def test_one_component_and_one_model(small_data: CascadeData) -> None:
    """The smallest model there is: no weights to split, no pair."""
    one = small_data.select(["medium-8b"])
    post = fit(one, "map", seed=np.int64(3), priors=Priors(num_components=1), progress=False)
    assert post.samples["mixing_split"].shape == (1, 1, 1, 0)
    assert post.params().margins.continuous.mixing_probs.shape == (1, 1, 1)
    assert post.provenance["seed"] == 3
    assert "tau" not in post.samples
    assert type(post.provenance["seed"]) is int


@pytest.mark.slow
def test_one_component_of_two_models(small_data: CascadeData) -> None:
    """Weights of one component take no room in a draw, and pairs and cascades are still found for each."""
    two = small_data.select(["small-3b", "medium-8b"])
    post = fit(two, "map", seed=3, priors=Priors(num_components=1), progress=False)
    assert post.samples["mixing_split"].shape == (1, 1, 2, 0)
    assert np.isfinite(post.samples["tau"]).all()
    assert post.cascade(0).models == two.models


@pytest.mark.slow
def test_beta_margins_are_fitted_kept_and_cut_into_cells(small_data: CascadeData, tmp_path: Path) -> None:
    post = fit(small_data, margin="beta", **TINY)
    assert post.samples["concentration"].shape == (1, 4, 3, Priors().num_components)
    assert "normal_scale" not in post.samples
    post.save(tmp_path / "p.nc")
    back = Posterior.load(tmp_path / "p.nc")
    assert back.spec.margin == "beta"
    for one, other in zip(jax.tree.leaves(back.params()), jax.tree.leaves(post.params()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "concentration[small-3b, 3]" in list(back.summary().index)
    grid = make_grid(back.params(), back.spec.layout)
    edges = jnp.asarray(grid.edges[0, :, 0])  # of a model without atoms
    part = jax.tree.map(lambda field: field[:, 0, None], back.params().margins.continuous)
    levels = jnp.mean(part.cdf(jnp.tile(edges, (4, 1))).value, axis=0)
    assert 0 < levels[1] < 0.002
    assert float(jnp.max(jnp.diff(levels))) < 0.03


USERS_OF_NUMPYRO = (
    "distributions.mixed",
    "model.margins",
    "model.cascade",
    "inference.samplers.target",
    "inference.samplers.approximate",
    "inference.samplers.nuts",
)


@pytest.mark.parametrize(
    "module",
    [pytest.param(name, marks=pytest.mark.slow) for name in USERS_OF_NUMPYRO[:-1]]
    + ["inference.samplers.nuts"],
)
def test_numpyro_is_loaded_once_where_arviz_was_imported_first(module: str) -> None:
    """ArviZ 1 leaves NumPyro to be loaded at first use; a part imported before that would be loaded twice."""
    lines = "import arviz, importlib", f"importlib.import_module('cascade_bayes.{module}')"
    lines += "import numpyro.infer.hmc", "print(numpyro.distributions.distribution, numpyro.infer.hmc.hmc)"
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "; ".join(lines)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr


def test_smoothed_weights_are_the_ratios_but_for_the_tail() -> None:
    """Either interface of ArviZ: the body keeps its ratios, the tail its order, and k-hat its meaning."""
    rng = np.random.default_rng(0)
    log_ratio = np.stack([rng.normal(0, 0.3, 4000), rng.exponential(0.5, 4000), rng.exponential(1.2, 4000)])
    log_weight, k_hat = _arviz.smooth_weights(log_ratio)
    np.testing.assert_allclose(np.exp(log_weight).sum(axis=-1), 1, rtol=1e-12)
    order = np.argsort(log_ratio, axis=-1)
    # The tail is the largest 3 sqrt(4000) = 190 of the ratios.
    shift = np.take_along_axis(log_weight - log_ratio, order[:, :3800], axis=-1)
    np.testing.assert_allclose(shift, shift[:, :1] * np.ones(3800), atol=1e-12)
    assert np.all(np.diff(np.take_along_axis(log_weight, order, axis=-1)) >= 0)
    # exp of an exponential variable of mean k is Pareto of tail index 1 / k.
    np.testing.assert_allclose(k_hat[1:], [0.5, 1.2], atol=0.2)


def test_more_components_than_confidences(small_data: CascadeData) -> None:
    with pytest.raises(InputError, match=r"num_components .* it is 6, and model 'small-3b' has 5"):
        fit(small_data.take(range(5)), seed=0, priors=Priors(num_components=6))


def test_simulated_tables_come_from_draws_of_the_posterior(small_posterior: Posterior) -> None:
    table = simulate(small_posterior, 400, seed=3)
    again, other = simulate(small_posterior, 400, seed=3), simulate(small_posterior, 400, seed=4)
    assert table.models == small_posterior.models
    assert table.confidence_map == small_posterior.confidence_map
    np.testing.assert_array_equal(table.confidence, again.confidence)
    assert not np.array_equal(table.confidence, other.confidence)
    # The draw of seed 3, and no other, made the table: its accuracies are those of that draw.
    draw = int(np.random.default_rng(3).integers(small_posterior.num_draws))
    alone = simulate(small_posterior.cascade(draw), 400, seed=3)
    np.testing.assert_array_equal(table.correct, alone.correct)
    atoms = small_posterior.params().margins.atom_probs[draw, 2, 0]
    share = np.mean(table.confidence[:, 2] == 0.0)
    assert abs(share - atoms) < 4 * np.sqrt(atoms * (1 - atoms) / 400)
    with pytest.raises(InputError, match="num_queries must be at least 1; got 0"):
        simulate(small_posterior, 0, seed=0)
