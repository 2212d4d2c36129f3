"""Posterior files that were edited, damaged or written anew: equal to what was saved, or refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import examples, fuzz
from hypothesis import strategies as st
from posteriors import assert_equal, make_posterior

from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior

Edit = Callable[[Any], None]

ORIGINAL = make_posterior()
SAVED = ORIGINAL.to_bytes()
REMEDY = "Fit again with `cascade-bayes fit`."

with h5py.File(io.BytesIO(SAVED)) as _file:
    MEMBERS = [f"{group}/{name}" for group in _file for name in _file[group]]
    NUMBERS = [place for place in MEMBERS if _file[place].dtype.kind in "fi" and _file[place].size]
    VALUES = {place: _file[place][()] for place in NUMBERS}
    TEXTS = [place for place in MEMBERS if h5py.check_string_dtype(_file[place].dtype)]
    RECORD = json.loads(_file["posterior"].attrs["cascade_bayes"])
VARIABLES = [
    place for place in NUMBERS if place.rsplit("/", 1)[1] not in ("chain", "draw", "component", "split")
]
VARIABLES = [place for place in VARIABLES if not place.endswith("/slot")]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def rewrite(file: Any, place: str, values: np.ndarray, **how: Any) -> None:
    """Put a dataset in the place of another, with its attributes, which name its axes."""
    attributes = dict(file[place].attrs)
    del file[place]
    dataset = file.create_dataset(place, data=values, **how)
    for name in ("_Netcdf4Coordinates", "_Netcdf4Dimid", "CLASS", "NAME", "long_name"):
        if name in attributes:
            dataset.attrs[name] = attributes[name]


# Edits that change nothing of what is held


@st.composite
def other_layouts(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from(VARIABLES))
    values = VALUES[place]
    how: dict[str, Any] = draw(
        st.sampled_from([{}, {"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}])
    )
    if how:
        how = how | {"chunks": tuple(draw(st.integers(1, size)) for size in values.shape)}
    if draw(st.booleans()):
        values = values.astype(values.dtype.newbyteorder())
    elif values.dtype.kind == "i":
        values = values.astype("i8")
    return lambda file: rewrite(file, place, values, **how)


@st.composite
def further_groups(draw: st.DrawFn) -> Edit:
    name = draw(st.sampled_from(["prior", "log_likelihood", "posterior_predictive", "log_prior"]))
    values = draw(st.lists(st.floats(), min_size=1, max_size=5))
    return lambda file: file.require_group(name).__setitem__("x", values) if name not in file else None


@st.composite
def other_attributes(draw: st.DrawFn) -> Edit:
    place, text = draw(st.sampled_from(MEMBERS)), draw(st.text("abc", max_size=5))
    return lambda file: file[place].attrs.__setitem__("long_name", text)


harmless = other_layouts() | further_groups() | other_attributes()


# Edits that may change something


@st.composite
def other_values(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from(NUMBERS))
    values = VALUES[place].copy()
    index = tuple(draw(st.integers(0, size - 1)) for size in values.shape)
    special = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 1.0, 2.0, 1e300, 5e-324])
    new = draw(special | st.floats(-3, 3) | st.just(float(values[index])))
    values[index] = new if values.dtype.kind == "f" else int(np.nan_to_num(np.clip(new, -100, 100)))
    return lambda file: file[place].__setitem__(..., values)


@st.composite
def other_order(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from(NUMBERS))
    axis = draw(st.integers(0, VALUES[place].ndim - 1)) if VALUES[place].ndim else 0
    values = np.roll(VALUES[place], draw(st.integers(-2, 2)), axis)
    return lambda file: file[place].__setitem__(..., values)


@st.composite
def other_shapes(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from(NUMBERS))
    values = VALUES[place]
    how = draw(st.sampled_from(["transpose", "cut", "grow", "flat", "twice"]))
    changed = {
        "transpose": values.T,
        "cut": values[:-1],
        "grow": np.concatenate([values, values[:1]]),
        "flat": values.ravel(),
        "twice": values[None],
    }[how]
    return lambda file: rewrite(file, place, changed)


@st.composite
def other_types(draw: st.DrawFn) -> Edit:
    place, kind = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(["f2", "f4", "i4", "u1", "S8", "c16"]))
    with np.errstate(all="ignore"):
        values = np.nan_to_num(VALUES[place]).astype(kind)
    return lambda file: rewrite(file, place, values)


@st.composite
def other_axes(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from(NUMBERS))
    numbers = draw(st.permutations(range(VALUES[place].ndim)))

    def change(file: Any) -> None:
        own = file[place].attrs["_Netcdf4Coordinates"]
        file[place].attrs["_Netcdf4Coordinates"] = own[list(numbers)]

    return change


@st.composite
def other_names(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from([*MEMBERS, "posterior", "observed_data", "constant_data", "sample_stats"]))
    new = draw(st.sampled_from(["x", "slope", "posterior/x", "prior", "constant_data/latency_ms", "a/b/c"]))
    return lambda file: file.move(place, new) if new not in file else None


@st.composite
def lost(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from([*MEMBERS, "posterior", "observed_data", "constant_data", "sample_stats"]))
    return lambda file: file.__delitem__(place) if place in file else None


@st.composite
def other_texts(draw: st.DrawFn) -> Edit:
    place, index = draw(st.sampled_from(TEXTS)), draw(st.integers(0, 1))
    text = draw(st.sampled_from(["small", "middle", "q0", "", "x" * 10_000, "é"]))

    def change(file: Any) -> None:
        if index < file[place].shape[0]:
            file[place][index] = text

    return change


@st.composite
def other_records(draw: st.DrawFn) -> Edit:
    record = json.loads(json.dumps(RECORD))
    inner: Any = record
    key = draw(st.sampled_from(sorted(inner)))
    while isinstance(inner[key], (dict, list)) and inner[key] and draw(st.booleans()):
        inner = inner[key]
        key = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    if isinstance(inner, dict) and draw(st.integers(0, 3)) == 0:
        inner[draw(st.text(max_size=4))] = inner.pop(key)
    else:
        inner[key] = draw(json_values)
    text = json.dumps(record)
    text = draw(st.sampled_from([text, text, text, text[: len(text) // 2], "[" * 50_000, "null", ""]))
    return lambda file: file["posterior"].attrs.__setitem__("cascade_bayes", text)


@st.composite
def links(draw: st.DrawFn) -> Edit:
    place = draw(st.sampled_from([*MEMBERS, "posterior", "sample_stats", "prior"]))
    target = draw(st.sampled_from(["other.nc", "p.nc", "/dev/zero", "."]))
    link = draw(
        st.sampled_from(
            [h5py.ExternalLink(target, f"/{place}"), h5py.SoftLink("/posterior"), "claim", "outside"]
        )
    )

    def change(file: Any) -> None:
        if place in file:
            del file[place]
        if link == "claim":
            file.create_dataset(place, (2**18, 2**18), "f8", chunks=(2**9, 2**9))
        elif link == "outside":
            file.create_dataset(place, (2, 4, 3), "f8", external=[(target, 0, 192)])
        else:
            file[place] = link

    return change


harmful = st.one_of(
    *(other_values(), other_order(), other_shapes(), other_types(), other_axes(), other_names()),
    *(lost(), other_texts(), other_records(), links()),
)


# Whole files


def edited(edits: list[Edit]) -> bytes:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(SAVED)
    with h5py.File(h5py.h5f.open(b"edited", flags=h5py.h5f.ACC_RDWR, fapl=access)) as file:
        for edit in edits:
            try:
                edit(file)
            except (KeyError, OSError, ValueError, TypeError, RuntimeError):
                continue  # an edit before this one took away what it edits
        file.flush()
        return bytes(file.id.get_file_image())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Bytes that changed, that are missing or too many."""
    data = bytearray(SAVED)
    how = draw(st.sampled_from(["flip", "flip", "cut", "hole", "more"]))
    place = draw(st.integers(0, len(data) - 1))
    if how == "flip":
        data[place] ^= draw(st.integers(1, 255))
    elif how == "cut":
        del data[place:]
    elif how == "hole":
        del data[place : place + draw(st.integers(1, 300))]
    else:
        data[place:place] = draw(st.binary(min_size=1, max_size=50))
    return bytes(data)


files = st.one_of(
    st.lists(harmless, max_size=3).map(lambda edits: (True, edited(edits))),
    st.lists(harmful, min_size=1, max_size=2).map(lambda edits: (False, edited(edits))),
    st.lists(harmful, min_size=1, max_size=2).map(lambda edits: (False, edited(edits))),
    damaged().map(lambda data: (False, data)),
)


@examples
def test_posteriors(
    num_examples: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "p.nc"
    (tmp_path / "other.nc").write_bytes(SAVED)

    def check(example: tuple[bool, bytes]) -> str:
        is_valid, data = example
        path.write_bytes(data)
        try:
            posterior = Posterior.load(path)
        except InputError as error:
            words = str(error)
        else:
            words = ""
        assert path.read_bytes() == data
        if words:
            assert not is_valid, words
            assert words.startswith(str(path))
            assert words.endswith(REMEDY)
            assert "\n" not in words
            assert len(words) < 700
            return "refused"
        assert_equal(posterior, ORIGINAL)
        return "accepted"

    fuzz("posteriors", files, check, num_examples, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("num_examples", [400, pytest.param(50_000, marks=pytest.mark.long)])
def test_posteriors_without_a_digest(
    num_examples: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """As the version before wrote them: what is accepted could come from a fit."""
    path = tmp_path / "p.nc"

    def strip(file: Any) -> None:
        record = {name: value for name, value in RECORD.items() if name != "fit_verdict"}
        file["posterior"].attrs["cascade_bayes"] = json.dumps(record | {"schema_version": 9})
        del file["posterior"].attrs["cascade_bayes_sha256"]

    edits = st.one_of(
        other_values(), other_order(), other_shapes(), other_types(), other_axes(), other_texts()
    )

    def check(edit: Edit) -> str:
        path.write_bytes(edited([strip, edit]))
        try:
            posterior = Posterior.load(path)
        except InputError:
            return "refused"
        samples, data = posterior.samples, posterior.data
        assert all(np.isfinite(values).all() for values in samples.values())
        assert (np.abs(samples["tau"]) < 1).all()
        assert (samples["tau"][..., 0] >= 0).all()
        assert (samples["normal_scale"] > 0).all()
        assert (data.call_cost >= 0).all()
        assert not (data.cost < 0).any()
        assert not ((data.confidence < 0) | (data.confidence > 1)).any()
        assert {name: values.shape for name, values in samples.items()} == {
            name: values.shape for name, values in ORIGINAL.samples.items()
        }
        assert posterior.models == ORIGINAL.models
        return "accepted"

    fuzz("posteriors without a digest", edits, check, num_examples, record_property)
