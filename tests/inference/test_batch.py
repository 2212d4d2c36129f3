"""Batches: the posteriors are those of single fits, failures stay apart, interrupted work goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cascade_bayes.inference.batch as batch
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.batch import FailedFit, fit_batch
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import Structure

OPTIONS: dict[str, Any] = {"seed": 0, "priors": Priors(num_components=4), "progress": False}


@pytest.fixture(scope="module")
def tables(small_data: CascadeData) -> list[CascadeData]:
    """Of several lengths; with the atom, without it, without a model's labels, with missing values."""
    certain = small_data.confidence[:, 2] == 0
    without = small_data.take(np.flatnonzero(~certain)[:70])
    labelled = small_data.labelled.copy()
    labelled[:, 1] = False
    unlabelled = replace(small_data, labelled=labelled, correct=small_data.correct & labelled)
    some = small_data.labelled.copy()
    some[:40, 2] = False
    gaps = replace(small_data, labelled=some, correct=small_data.correct & some)
    return [small_data, without, unlabelled, gaps.take(range(100))]


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["modular", pytest.param("chain", marks=pytest.mark.long)])
def test_modes_are_those_of_single_fits(tables: list[CascadeData], structure: Structure) -> None:
    options = OPTIONS | {"structure": structure}
    with pytest.warns(DataWarning, match=r"table 2 could not be fitted: .*medium-8b"):
        found = fit_batch(tables, "map", **options)
    assert [type(one) for one in found] == [Posterior, Posterior, FailedFit, Posterior]
    assert found[2].table == 2
    for place in (0, 1, 3):
        alone = fit(tables[place], "map", **options)
        one = found[place]
        assert isinstance(one, Posterior)
        assert one.data is tables[place]
        assert one.spec.layout.counts.tolist() == alone.spec.layout.counts.tolist()
        assert {k: v.shape for k, v in one.samples.items()} == {k: v.shape for k, v in alone.samples.items()}
        for name, values in alone.samples.items():
            np.testing.assert_allclose(one.samples[name], values, atol=2e-3, err_msg=name)
        if structure == "modular":
            np.testing.assert_array_equal(one.spec.centres.line, alone.spec.centres.line)
    assert found[0].spec.layout.counts.tolist() == [0, 0, 1]
    assert found[1].spec.layout.counts.tolist() == [0, 0, 0]


@pytest.mark.slow
def test_an_interrupted_batch_goes_on(
    tables: list[CascadeData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "batch"
    tables = [tables[0], tables[3], tables[0].take(range(50))]
    call: dict[str, Any] = OPTIONS | {"batch_size": 2, "checkpoint": folder}
    original = batch._fit_chunk
    chunks: list[tuple[int, ...]] = []

    def interrupted(chunk: Any, *args: Any) -> Any:
        chunks.append(chunk.places)
        if len(chunks) == 2:
            raise KeyboardInterrupt
        yield from original(chunk, *args)

    monkeypatch.setattr(batch, "_fit_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_batch(tables, "map", **call)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.nc", "00001.nc", "batch.json"]
    found = fit_batch(tables, "map", **call)
    assert chunks == [(0, 1), (2,), (2,)]
    assert fit_batch(tables, "map", **call)[2].digest() == found[2].digest()
    assert len(chunks) == 3
    for one, again in zip(found, fit_batch(tables, "map", **(call | {"checkpoint": None})), strict=True):
        for name, values in again.samples.items():
            np.testing.assert_array_equal(one.samples[name], values)
    with pytest.raises(InputError, match=r"is of another batch: its request differ; name another folder"):
        fit_batch(tables, "map", **(call | {"seed": 1}))
    with pytest.raises(InputError, match=r"is of another batch: its tables differ"):
        fit_batch(tables[:2], "map", **call)
    assert len(list(folder.iterdir())) == 4
    (folder / "00001.nc").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"00001\.nc is not a posterior file .* Or remove this file"):
        fit_batch(tables, "map", **call)
    (folder / "batch.json").unlink()
    with pytest.raises(InputError, match=r"holds posteriors but no batch\.json .* Name another folder"):
        fit_batch(tables, "map", **call)
    assert not (folder / "batch.json").exists()


def test_bad_requests(tables: list[CascadeData], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1; got 0"):
        fit_batch(tables, seed=0, batch_size=0)
    with pytest.raises(InputError, match="method must be one of"):
        fit_batch(tables, "vi", seed=0)
    for name, value in {"copula": "gumbl", "margin": "gamma", "structure": "vine"}.items():
        with pytest.raises(InputError, match=f"{name} must be one of .*{value}"):
            fit_batch(tables, "map", seed=0, **{name: value})
    with pytest.raises(TypeError, match="num_draws"):
        fit_batch(tables, seed=0, num_draws=3)
    (tmp_path / "file").write_text("")
    for folder, message in ((tmp_path / "file", "is a file"), (tmp_path / "a" / "b", "does not exist")):
        with pytest.raises(InputError, match=message):
            fit_batch(tables, "map", checkpoint=folder, **OPTIONS)
    assert fit_batch([], seed=0) == []


def between_quartiles(draws: np.ndarray) -> np.ndarray:
    """Interquartile ranges over chains and draws."""
    low, high = np.quantile(draws, [0.25, 0.75], axis=(0, 1))
    return high - low


@pytest.mark.long
def test_draws_are_those_of_single_fits(tables: list[CascadeData]) -> None:
    """Means within five Monte Carlo standard errors, spreads within a quarter.

    Splits have the tails of Student's t, and their standard deviations differ by a third from one seed to the
    next: of these the spread is interquartile alone.
    """
    tables = [tables[0], tables[3]]
    options: dict[str, Any] = OPTIONS | {"num_samples": 500}
    for one, data in zip(fit_batch(tables, **options), tables, strict=True):
        assert isinstance(one, Posterior)
        alone = fit(data, **(options | {"seed": 5}))
        assert one.convergence().converged
        for name, values in alone.samples.items():
            spread = values.std(axis=(0, 1))
            error = np.sqrt(2 / 400) * spread
            difference = np.abs(one.samples[name].mean(axis=(0, 1)) - values.mean(axis=(0, 1)))
            assert np.all(difference < 5 * error), name
            np.testing.assert_allclose(
                between_quartiles(one.samples[name]), between_quartiles(values), rtol=0.25, err_msg=name
            )
            if name != "mixing_split":
                np.testing.assert_allclose(
                    one.samples[name].std(axis=(0, 1)), spread, rtol=0.25, err_msg=name
                )
