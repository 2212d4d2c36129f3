"""The arrays of a posterior's file, held against its record.

Every variable must be there, under a name that is known, along the axes of its row in
`cascade_bayes.inference.variables`, as long as the record's models, pairs, components and atoms say, and with
values that a fit can give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from cascade_bayes.copulas import get_copula
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.inference.hdf5 import Array
from cascade_bayes.inference.posterior_record import Record, recorded_verdict, units_of
from cascade_bayes.inference.variables import (
    OWN_STATISTICS,
    VARIABLES,
    Rule,
    Variable,
    coordinates,
    expected_sites,
)
from cascade_bayes.model.anchors import Anchors
from cascade_bayes.model.centres import Centres
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import KINDS, ConfidenceMap, in_domain
from cascade_bayes.verdict import FitVerdict

STORED = ("posterior", "observed_data", "constant_data", "sample_stats")
ANCHORS = ("claims", "rank_middle", "rank_stretch", "rank_at_atoms")
CENTRES = ("upstream_line", "upstream_at_atoms")
CONSTANTS = {"call_cost", "cost", "atom_locs", "atom_raw", "has_continuous"}

Groups = Mapping[str, Mapping[str, Array]]


class Parts(NamedTuple):
    """What a file holds, in the order of the attributes of `cascade_bayes.Posterior`."""

    samples: Mapping[str, np.ndarray]
    sample_stats: Mapping[str, np.ndarray]
    data: CascadeData
    spec: ModelSpec
    provenance: Mapping[str, Any]
    recorded_verdict: FitVerdict | None


def unpack(record: Record, groups: Groups) -> Parts:
    """Return the parts of a posterior, each array checked.

    Raises
    ------
    InputError
        If a variable is missing, unknown, of another type or shape than the record implies, or has a value
        that no fit gives.
    """
    for group in STORED[:3]:
        if group not in groups:
            raise InputError(f"its group {group!r} is missing.")
    verdict = recorded_verdict(record)
    try:
        spec = _spec(record, groups["constant_data"])
    except (ValueError, OverflowError, TypeError) as error:
        raise InputError(f"{str(error).rstrip('.')}.") from error
    coords: dict[str, Any] = coordinates(spec, record.models)
    for group, name in (("observed_data", "query"), ("posterior", "chain"), ("posterior", "draw")):
        array = groups[group].get(name)
        if array is None or array.dims != (name,) or not array.values.size:
            raise InputError(f"coordinate {name!r} of its group {group!r} is missing or empty.")
        coords[name] = array.values if name == "query" else np.arange(array.values.size)
    if coords["query"].dtype != object:
        raise InputError("coordinate 'query' of its group 'observed_data' must hold texts.")
    wanted = _wanted(spec, groups)
    for group, names in wanted.items():
        _check_group(group, groups[group], names, coords)
    _check_draws(spec, {name: array.values for name, array in groups["posterior"].items()}, coords)
    samples = {name: array.values for name, array in groups["posterior"].items() if name in VARIABLES}
    stats = {
        OWN_STATISTICS.get(name, name): _as_kept(name, array.values)
        for name, array in groups.get("sample_stats", {}).items()
        if name in VARIABLES
    }
    if verdict is not None and verdict.trusted and np.any(stats.get("diverging", False)):
        raise InputError("its verdict is that the fit is to be trusted, and there are divergent transitions.")
    return Parts(samples, stats, _data(record, groups), spec, record.provenance, verdict)


def _as_kept(name: str, values: np.ndarray) -> np.ndarray:
    """Return a sampler's statistic in the type in which a fit has it, whatever integers a file holds."""
    if name == "diverging":
        return values.astype(bool)
    return values.astype(np.int64) if VARIABLES[name].numbers == "whole" else values


def _spec(record: Record, constants: Mapping[str, Array]) -> ModelSpec:
    """Return the model, from the record and what is stored of its atoms."""
    count = len(record.models)
    if len(set(record.models)) < count or not count:
        raise InputError("the models in its record must be distinct names, at least one.")
    pairs = count - 1 if record.structure == "chain" else math.comb(count, 2)
    if len(record.copulas) != pairs:
        raise InputError(
            f"its record must name a copula for each of the {pairs} pairs of models; got "
            f"{len(record.copulas)}."
        )
    sizes: dict[str, Any] = {"model": record.models, "deferral": range(pairs), "line": range(2)}
    locs = constants.get("atom_locs")
    sizes["slot"] = range(locs.values.shape[1] if locs is not None and locs.values.ndim == 2 else 0)
    found: dict[str, np.ndarray] = {}
    for name in ("atom_locs", "atom_raw", "has_continuous", *ANCHORS, *CENTRES):
        if name in constants or name in CONSTANTS:
            _check_variable("constant_data", name, constants.get(name), VARIABLES[name].dims, sizes)
            found[name] = constants[name].values
    for optional in (ANCHORS, CENTRES):
        if 0 < sum(name in found for name in optional) < len(optional):
            raise InputError(f"its group 'constant_data' must have all of {', '.join(optional)}, or none.")
    layout = AtomLayout(found["atom_locs"], found["atom_raw"], found["has_continuous"].astype(bool))
    _check_layout(layout, record)
    centres = Centres(*(found[name] for name in CENTRES)) if CENTRES[0] in found and pairs else None
    spec = ModelSpec(
        layout=layout,
        copulas=tuple(get_copula(name) for name in record.copulas),
        priors=Priors.from_dict(record.priors),
        upstream=record.upstream,
        monotone=record.monotone,
        structure=record.structure,
        centres=centres,
        margin=record.margin,
        anchors=Anchors(*(found[name] for name in ANCHORS)) if ANCHORS[0] in found else None,
    )
    if (centres is None) == (record.structure == "modular" and pairs > 0):
        raise InputError(
            f"{CENTRES[0]!r} of its group 'constant_data' must be there for structure 'modular', and for no "
            f"other; the structure is {record.structure!r}."
        )
    return spec


def _check_layout(layout: AtomLayout, record: Record) -> None:
    """Check that atoms fill the first slots, ascend, and lie in the domain of the confidences."""
    kind = record.confidence_map.kind
    for model, locs, raw, continuous in zip(record.models, *layout, strict=True):
        count = int(np.sum(~np.isnan(locs)))
        if np.isnan(locs[:count]).any() or not np.array_equal(np.isnan(locs), np.isnan(raw)):
            raise InputError(f"the atoms of model {model!r} must fill the first slots, of atom_raw alike.")
        if np.any(np.diff(locs[:count]) < 0) or np.any(np.diff(raw[:count]) <= 0):
            raise InputError(f"the atoms of model {model!r} must ascend; got {raw[:count].tolist()[:8]}.")
        if not in_domain(raw, kind).all():
            raise InputError(
                f"the atoms of model {model!r} must be {KINDS[kind]} for kind {kind!r}; got "
                f"{raw[:count].tolist()[:8]}."
            )
        if not continuous and not count:
            raise InputError(f"model {model!r} has neither atoms nor a continuous part.")


def _wanted(spec: ModelSpec, groups: Groups) -> dict[str, set[str]]:
    """Return the variables that each group must have."""
    wanted = {
        "posterior": expected_sites(spec),
        "observed_data": {"confidence", "correct"},
        "constant_data": CONSTANTS | ({"latency_ms", *ANCHORS, *CENTRES} & set(groups["constant_data"])),
    }
    if "sample_stats" in groups:
        known = {"acceptance_rate", "energy", "n_steps", "potential_energy"}
        wanted["sample_stats"] = {"diverging"} | (known & set(groups["sample_stats"]))
    return wanted


def _check_group(group: str, arrays: Mapping[str, Array], names: set[str], coords: Mapping[str, Any]) -> None:
    """Check every variable of a group, and the names along its axes."""
    samples = ("chain", "draw") if group in ("posterior", "sample_stats") else ()
    dims = {name: (*samples, *VARIABLES[name].dims) for name in names}
    used = {dim for axes in dims.values() for dim in axes}
    for name in arrays:
        if name not in names | used:
            raise InputError(f"its group {group!r} has an unknown variable {name!r}.")
    for name in sorted(used):
        found = arrays.get(name)
        if found is None or found.dims != (name,) or list(found.values) != list(coords[name]):
            raise InputError(
                f"coordinate {name!r} of its group {group!r} must be {_listed(coords[name])}, by the record; "
                f"got {'nothing' if found is None else _listed(found.values.ravel())}."
            )
    for name in sorted(names):
        _check_variable(group, name, arrays.get(name), dims[name], coords)


def _check_variable(
    group: str, name: str, array: Array | None, dims: tuple[str, ...], coords: Mapping[str, Any]
) -> None:
    """Check the axes, the type and the values of one variable."""
    where = f"{name!r} of its group {group!r}"
    if array is None:
        raise InputError(f"{where} is missing.")
    shape = tuple(len(coords[dim]) for dim in dims)
    if array.dims != dims:
        raise InputError(f"{where} must have the axes {_listed(dims)}; got {_listed(array.dims)}.")
    if array.values.shape != shape:
        raise InputError(f"{where} must have the shape {shape} {_listed(dims)}; got {array.values.shape}.")
    row: Variable = VARIABLES[name]
    allowed = {"real": "f", "whole": "biu", "either": "fbiu"}[row.numbers]
    if array.values.dtype.kind not in allowed or (
        array.values.dtype.kind == "f" and array.values.itemsize < 4
    ):
        raise InputError(f"{where} must hold {row.numbers} numbers; got {array.values.dtype}.")
    check_rule(where, array.values, row.rule, dims, coords)


def check_rule(
    where: str, values: np.ndarray, rule: Rule, dims: tuple[str, ...], coords: Mapping[str, Any]
) -> None:
    """Raise `InputError` for the first value that does not obey a rule, with its place."""
    bad = np.argwhere(~rule.holds(values))
    if len(bad):
        places = ", ".join(f"{dim} {coords[dim][i]!s}" for dim, i in zip(dims, bad[0], strict=True))
        raise InputError(
            f"{where} must be {rule.words}; got {values[tuple(bad[0])]!s} at {places or 'its only place'}."
        )


def _check_draws(spec: ModelSpec, samples: Mapping[str, np.ndarray], coords: Mapping[str, Any]) -> None:
    """Check what ties draws to the model: Kendall's tau to its family, slopes to their sign."""
    where = "of its group 'posterior'"
    families = [family for family in spec.copulas if family.has_theta]
    for pair, family in enumerate(families):
        low, high = (float(end) for end in family.tau_range)
        rule = Rule(
            f"from {low:g} to {high:g} for the copula {family.name!r} of {coords['pair'][pair]}",
            lambda values, low=low, high=high: (values >= low) & (values <= high),  # type: ignore[misc]
        )
        check_rule(f"'tau' {where}", samples["tau"][..., pair], rule, ("chain", "draw"), coords)
    if spec.monotone:
        rule = Rule(">= 0, for the fit is monotone", lambda values: values >= 0)
        check_rule(f"'slope' {where}", samples["slope"], rule, ("chain", "draw", "model"), coords)


def _data(record: Record, groups: Groups) -> CascadeData:
    """Return the table that was fitted."""
    observed, constants = groups["observed_data"], groups["constant_data"]
    correct = observed["correct"].values
    known = record.confidence_map
    try:
        return CascadeData(
            models=tuple(record.models),
            query_ids=observed["query"].values.astype(str),
            confidence=observed["confidence"].values,
            correct=correct == 1,
            labelled=~np.isnan(correct),
            cost=constants["cost"].values,
            latency_ms=constants["latency_ms"].values if "latency_ms" in constants else None,
            call_cost=constants["call_cost"].values,
            kind=known.kind,
            confidence_map=ConfidenceMap.from_dict(msgspec.to_builtins(known)),
            units=units_of(record),
        )
    except (ValueError, OverflowError) as error:
        raise InputError(f"{str(error).rstrip('.')}.") from error


def _listed(values: Any) -> str:
    """Return the first of some names or numbers, as a message shows them."""
    shown = ", ".join(str(value)[:40] for value in list(values)[:6])
    return f"({shown}{', ...' if len(values) > 6 else ''})"
