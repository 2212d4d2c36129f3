"""The file of a posterior: what it refuses, with which words, and what does not matter to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from posteriors import assert_equal, make_posterior

from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.prior import draw_sites
from cascade_bayes.inference.storage.variables import coordinates, expected_sites
from cascade_bayes.transforms import ConfidenceMap

REMEDY = "Fit again with `cascade-bayes fit`."


@pytest.fixture(scope="module")
def saved() -> bytes:
    return make_posterior().to_bytes()


@pytest.fixture
def path(saved: bytes, tmp_path: Path) -> Path:
    (tmp_path / "p.nc").write_bytes(saved)
    return tmp_path / "p.nc"


def refusal(path: Path) -> str:
    before = path.read_bytes()
    with pytest.raises(InputError) as refused:
        Posterior.load(path)
    assert path.read_bytes() == before
    words = str(refused.value)
    assert words.startswith(str(path))
    assert words.endswith(REMEDY)
    return words


def edit_record(file: Any, change: Callable[[dict], Any]) -> None:
    attributes = file["posterior"].attrs
    record = json.loads(attributes["cascade_bayes"])
    change(record)
    attributes["cascade_bayes"] = json.dumps(record)


def strip(file: Any) -> None:
    """Make the file one of the version before: without a digest and a verdict."""
    edit_record(file, lambda record: record.update(schema_version=9) or record.pop("fit_verdict"))
    del file["posterior"].attrs["cascade_bayes_sha256"]


def test_round_trip(path: Path) -> None:
    assert_equal(Posterior.load(path), make_posterior())


def test_the_floor_of_a_map_is_kept(tmp_path: Path) -> None:
    posterior = make_posterior()
    known = posterior.confidence_map
    floored = ConfidenceMap(known.kind, known.location, known.scale, (0.01, -np.inf, -np.inf))
    data = replace(posterior.data, confidence_map=floored)
    (tmp_path / "p.nc").write_bytes(replace(posterior, data=data).to_bytes())
    assert Posterior.load(tmp_path / "p.nc").confidence_map == floored


def test_the_version_before_is_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        strip(file)
    back = Posterior.load(path)
    assert back.digest() == make_posterior().digest()
    assert back.recorded_verdict is None
    assert not back.fit_verdict.trusted  # eight draws


def test_sites_of_the_table_are_those_of_the_model() -> None:
    import jax

    spec = make_posterior().spec
    sites, _ = draw_sites(jax.random.split(jax.random.key(0), 2), spec)
    assert set(sites) == expected_sites(spec)
    assert len(coordinates(spec, make_posterior().models)["pair"]) == sites["tau"].shape[1]


VALUES = [
    ("posterior/slope", (0, 1, 2), np.nan, "must be finite; got nan at chain 0, draw 1, model large"),
    ("posterior/tau", (1, 0, 0), 2.0, "must be above -1 and below 1; got 2.0 at chain 1, draw 0, pair small"),
    ("posterior/tau", (1, 0, 0), -0.5, "for the copula 'gumbel' of small > middle; got -0.5 at chain 1"),
    ("posterior/normal_scale", (0, 0, 0, 1), 0.0, "must be positive and finite; got 0.0"),
    ("posterior/label_corr", (0, 0), 1.5, "must be in [0, 1]; got 1.5 at chain 0, draw 0"),
    ("constant_data/call_cost", (1,), -1e-4, "must be finite and >= 0; got -0.0001 at model middle"),
    ("constant_data/cost", (1, 1), -1.0, "or NaN (no call); got -1.0 at query q1, model middle"),
    ("constant_data/latency_ms", (1, 1), np.inf, "or NaN (no call); got inf"),
    ("constant_data/has_continuous", (0,), 2, "must be 0 or 1; got 2 at model small"),
    ("constant_data/atom_raw", (2, 0), 3.0, "must be in [0, 1] for kind 'probability'; got [3.0]"),
    ("constant_data/rank_stretch", (2,), -1.0, "must be positive and finite"),
    ("observed_data/confidence", (2, 0), 1.5, "must be in [0, 1] for kind 'probability'; got 1.5"),
    ("observed_data/correct", (2, 0), 0.5, "must be 0, 1 or NaN (no label); got 0.5"),
    ("sample_stats/diverging", (0, 0), 1, "is to be trusted, and there are divergent transitions"),
]


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize(("variable", "index", "value", "words"), VALUES)
def test_a_value_that_no_fit_gives(
    variable: str, index: tuple, value: float, words: str, digest: bool, path: Path
) -> None:
    with h5py.File(path, "r+") as file:
        file[variable][index] = value
        if not digest and "diverging" not in variable:
            strip(file)
    assert words in refusal(path)


def test_a_value_that_a_fit_could_give_is_seen_by_the_digest(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["posterior/slope"][0, 0, 0] += 1e-12
    assert "was changed after it was written" in refusal(path)


def swap_axes(file: Any) -> None:
    """Draws and models, both with their names; three draws would hide it."""
    first, second = (file["posterior/intercept"].attrs["_Netcdf4Coordinates"][i] for i in (1, 2))
    file["posterior/intercept"].attrs["_Netcdf4Coordinates"] = np.array([0, second, first], dtype="i4")


STRUCTURES = [
    (swap_axes, "must have the axes (chain, draw, model); got (chain, model, draw)"),
    (lambda f: f["posterior/model"].__setitem__(slice(0, 2), ["middle", "small"]), "coordinate 'model'"),
    (lambda f: f.move("posterior/slope", "posterior/steepness"), "unknown variable 'steepness'"),
    (lambda f: f.__delitem__("posterior/slope"), "'slope' of its group 'posterior' is missing"),
    (lambda f: f.__delitem__("observed_data"), "its group 'observed_data' is missing"),
    (lambda f: f.move("sample_stats", "statistics"), "unknown group 'statistics'"),
    (lambda f: f["posterior"].__setitem__("x", [1.0]), "axis 0 of /posterior/x has no single name"),
    (lambda f: f["posterior"].create_group("x"), "'x' in its group 'posterior' is no array"),
    (
        lambda f: edit_record(f, lambda r: r.update(structure="ring")),
        "must be 'chain' or 'modular'; got 'ring'",
    ),
    (lambda f: edit_record(f, lambda r: r.update(margin="gamma")), "margin must be one of beta"),
    (lambda f: edit_record(f, lambda r: r["copulas"].__setitem__(0, "x")), "copula must be one of"),
    (
        lambda f: edit_record(f, lambda r: r["confidence_map"].update(kind="x")),
        "`confidence_map.kind` must be",
    ),
    (lambda f: edit_record(f, lambda r: r.update(models=["middle", "small", "large"])), "by the record"),
    (lambda f: edit_record(f, lambda r: r.update(models=["small", "middle"])), "each of the 1 pairs"),
    (lambda f: edit_record(f, lambda r: r.update(note=1)), "an entry that is not known, 'note'"),
    (lambda f: edit_record(f, lambda r: r.update(upstream=1)), "`upstream` must be true or false; got 1"),
    (lambda f: edit_record(f, lambda r: r["priors"].update(slope_scale=-1.0)), "slope_scale of the priors"),
    (
        lambda f: edit_record(f, lambda r: r["provenance"].update(method="guess")),
        "'laplace' or 'map'; got 'guess'",
    ),
    (lambda f: edit_record(f, lambda r: r["provenance"].update(seed=1)), "was changed after it was written"),
    (lambda f: edit_record(f, lambda r: r.pop("fit_verdict")), "it lacks the verdict"),
    (lambda f: edit_record(f, lambda r: r.update(schema_version=8)), "version 8 of the format; this release"),
    (lambda f: f["posterior"].attrs.__delitem__("cascade_bayes_sha256"), "it lacks the digest"),
    (lambda f: f["posterior"].attrs.__setitem__("cascade_bayes", "[" * 100_000), "nest too deep"),
    (lambda f: f["posterior"].attrs.__setitem__("cascade_bayes", 3), "is no text"),
]


@pytest.mark.parametrize("number", range(len(STRUCTURES)))
def test_a_part_that_does_not_belong(number: int, path: Path) -> None:
    change, words = STRUCTURES[number]
    with h5py.File(path, "r+") as file:
        change(file)
    assert words in refusal(path)


def link_out(file: Any) -> None:
    del file["posterior/slope"]
    file["posterior/slope"] = h5py.ExternalLink("other.nc", "posterior/slope")


def store_outside(file: Any) -> None:
    del file["posterior/slope"]
    file["posterior"].create_dataset("slope", (2, 4, 3), "f8", external=[("/dev/zero", 0, 192)])


def make_virtual(file: Any) -> None:
    del file["posterior/slope"]
    layout = h5py.VirtualLayout((2, 4, 3), "f8")
    layout[:] = h5py.VirtualSource("other.nc", "posterior/slope", (2, 4, 3))
    file["posterior"].create_virtual_dataset("slope", layout)


def link_softly(file: Any) -> None:
    del file["posterior/slope"]
    file["posterior/slope"] = h5py.SoftLink("/posterior/intercept")


def claim_much(file: Any) -> None:
    del file["posterior/slope"]
    file["posterior"].create_dataset("slope", (2**20, 2**20), "f8", chunks=(2**10, 2**10))


def pack_strangely(file: Any) -> None:
    values = file["posterior/slope"][()]
    del file["posterior/slope"]
    file["posterior"].create_dataset("slope", data=values, compression="lzf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (link_out, "'slope' in its group '/posterior' is a link to another file"),
        (store_outside, "the values of /posterior/slope lie in another file"),
        (make_virtual, "/posterior/slope is put together from other datasets"),
        (link_softly, "is a soft link"),
        (claim_much, "claim 8.8e+12 bytes"),
        (pack_strangely, "is packed by the filter 'lzf'"),
        (lambda file: file.__setitem__("prior", h5py.ExternalLink("other.nc", "/prior")), "another file"),
    ],
)
def test_what_is_not_in_the_file_is_not_read(
    change: Callable[[Any], None], words: str, path: Path, saved: bytes
) -> None:
    """Although it is there to be read."""
    (path.parent / "other.nc").write_bytes(saved)
    with h5py.File(path, "r+") as file:
        change(file)
    assert words in refusal(path)


def test_a_byte_that_changed_is_seen_before_the_file_is_opened(
    path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5py.h5f, "open", pytest.fail)
    for place in (40, 5_000, len(saved) // 2, len(saved) - 200):
        path.write_bytes(saved[:place] + bytes([saved[place] ^ 1]) + saved[place + 1 :])
        assert "it was damaged after it was written" in refusal(path)


@pytest.mark.parametrize("keep", [0, 5_000, -200, -40])
def test_a_file_that_was_cut_short(keep: int, path: Path, saved: bytes) -> None:
    path.write_bytes(saved[:keep])
    if keep == -40:  # of the seal alone
        assert_equal(Posterior.load(path), make_posterior())
    else:
        assert "is not a posterior file of cascade_bayes" in refusal(path)


class TestVerdict:
    def test_an_approximation_says_itself_whether_it_is_close(self, tmp_path: Path) -> None:
        posterior = make_posterior("laplace")
        posterior.save(tmp_path / "p.nc")
        back = Posterior.load(tmp_path / "p.nc")
        assert back.fit_verdict == posterior.fit_verdict
        assert back.fit_verdict.trusted
        with h5py.File(tmp_path / "p.nc", "r+") as file:
            edit_record(file, lambda r: r["provenance"]["approximation"]["k_hat"].update(margins=0.9))
        assert "the figures beside it False" in refusal(tmp_path / "p.nc")

    def test_figures_that_are_not_numbers_are_kept(self, tmp_path: Path) -> None:
        posterior = make_posterior("laplace")
        posterior.provenance["approximation"]["k_hat"]["margins"] = float("nan")
        posterior.save(tmp_path / "p.nc")
        back = Posterior.load(tmp_path / "p.nc")
        assert back.fit_verdict == posterior.fit_verdict
        assert not back.fit_verdict.trusted
