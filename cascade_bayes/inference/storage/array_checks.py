"""Each array of a posterior's file, held against what the record and the model say of it.

A variable must lie along the axes of its row in `cascade_bayes.inference.storage.variables`, as long as the
record's models, pairs, components and atoms say, and hold values that a fit can give. Messages name the
variable and the place of the first value that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade_bayes.errors import InputError
from cascade_bayes.inference.storage.hdf5 import Array
from cascade_bayes.inference.storage.record import Record
from cascade_bayes.inference.storage.variables import VARIABLES, Rule, Variable
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import KINDS, in_domain


def check_layout(layout: AtomLayout, record: Record) -> None:
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


def check_group(group: str, arrays: Mapping[str, Array], names: set[str], coords: Mapping[str, Any]) -> None:
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
        check_variable(group, name, arrays.get(name), dims[name], coords)


def check_variable(
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


def check_draws(spec: ModelSpec, samples: Mapping[str, np.ndarray], coords: Mapping[str, Any]) -> None:
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


def _listed(values: Any) -> str:
    """Return the first of some names or numbers, as a message shows them."""
    shown = ", ".join(str(value)[:40] for value in list(values)[:6])
    return f"({shown}{', ...' if len(values) > 6 else ''})"
