"""A posterior packed into the arrays of its file, and unpacked from them again.

`pack` names and labels every array by its row in `cascade_bayes.inference.storage.variables`. `unpack` takes
the arrays of a file that anybody may have written: every variable must be there, under a name that is known,
and pass the checks of `cascade_bayes.inference.storage.array_checks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np

from cascade_bayes.copulas import get_copula
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.inference.predictive import labels_with_gaps
from cascade_bayes.inference.storage.array_checks import (
    check_draws,
    check_group,
    check_layout,
    check_variable,
)
from cascade_bayes.inference.storage.hdf5 import Array
from cascade_bayes.inference.storage.record import Record, recorded_verdict, units_of
from cascade_bayes.inference.storage.variables import (
    ARVIZ_STATISTICS,
    OWN_STATISTICS,
    VARIABLES,
    coordinates,
    expected_sites,
)
from cascade_bayes.model.anchors import Anchors
from cascade_bayes.model.centres import Centres
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import KINDS, ConfidenceMap
from cascade_bayes.verdict import FitVerdict

if TYPE_CHECKING:
    import xarray

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


class Labelled(Protocol):
    """What names the axes of a posterior's arrays: its table and its model."""

    @property
    def data(self) -> CascadeData:
        """The table that was fitted."""

    @property
    def spec(self) -> ModelSpec:
        """The model that was fitted to it."""


def pack(parts: Parts) -> dict[str, xarray.Dataset]:
    """Return the groups that a file holds, from which `unpack` makes the same parts again."""
    data, spec = parts.data, parts.spec
    constants = {
        "call_cost": data.call_cost,
        "cost": data.cost,
        "atom_locs": spec.layout.locs,
        "atom_raw": spec.layout.raw,
        "has_continuous": spec.layout.continuous.astype(np.int8),
    }
    if data.latency_ms is not None:
        constants["latency_ms"] = data.latency_ms
    if spec.anchors is not None:
        constants["claims"] = np.asarray(spec.anchors.claims)
        constants["rank_middle"] = np.asarray(spec.anchors.middle)
        constants["rank_stretch"] = np.asarray(spec.anchors.stretch)
        constants["rank_at_atoms"] = np.asarray(spec.anchors.at_atoms)
    if spec.centres is not None:
        constants["upstream_line"] = spec.centres.line
        constants["upstream_at_atoms"] = spec.centres.at_atoms
    observed = {"confidence": data.confidence, "correct": labels_with_gaps(data.correct, data.labelled)}
    groups = {
        "posterior": draws_group(parts, parts.samples),
        "observed_data": _dataset(parts, observed),
        "constant_data": _dataset(parts, constants),
    }
    if parts.sample_stats:
        stats = {ARVIZ_STATISTICS.get(k, k): v for k, v in parts.sample_stats.items()}
        groups["sample_stats"] = draws_group(parts, stats)
    return groups


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
        check_group(group, groups[group], names, coords)
    check_draws(spec, {name: array.values for name, array in groups["posterior"].items()}, coords)
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
            check_variable("constant_data", name, constants.get(name), VARIABLES[name].dims, sizes)
            found[name] = constants[name].values
    for optional in (ANCHORS, CENTRES):
        if 0 < sum(name in found for name in optional) < len(optional):
            raise InputError(f"its group 'constant_data' must have all of {', '.join(optional)}, or none.")
    layout = AtomLayout(found["atom_locs"], found["atom_raw"], found["has_continuous"].astype(bool))
    check_layout(layout, record)
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


def draws_group(
    parts: Labelled, variables: Mapping[str, np.ndarray], draw: np.ndarray | None = None
) -> xarray.Dataset:
    """Return a group of draws, ``(num_chains, num_draws, ...)``, numbered by ``draw`` or else from 0."""
    num_chains, num_draws = next(iter(variables.values())).shape[:2]
    numbers = np.arange(num_draws) if draw is None else draw
    return _dataset(parts, variables, {"chain": np.arange(num_chains), "draw": numbers})


def _dataset(
    parts: Labelled,
    variables: Mapping[str, np.ndarray],
    samples: Mapping[str, np.ndarray] | None = None,
) -> xarray.Dataset:
    import xarray

    data = parts.data
    samples = {} if samples is None else samples
    coords = {**coordinates(parts.spec, data.models), "query": data.query_ids}
    of_confidence = {"kind": data.kind, "range": KINDS[data.kind]}
    found = {}
    for name, values in variables.items():
        row = VARIABLES[name]
        attributes = {**row.attributes, **(of_confidence if name in ("confidence", "atom_raw") else {})}
        found[name] = ((*samples, *row.dims), values, attributes)
    used = {dim for dims, _, _ in found.values() for dim in dims}
    return xarray.Dataset(
        found,
        coords={**samples, **{dim: values for dim, values in coords.items() if dim in used}},
        # As ArviZ's own converters have it; its plots of priors beside posteriors read it.
        attrs={"sample_dims": list(samples)},
    )
