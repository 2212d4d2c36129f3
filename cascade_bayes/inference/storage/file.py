"""The file of a posterior: what stands in it beside its arrays, and how it is read without being believed.

A file is a NetCDF file with the first four groups of `cascade_bayes.inference.arviz_groups` and two
attributes of the group ``posterior``: ``cascade_bayes``, a record in JSON, and ``cascade_bayes_sha256``,
the digest of that record and of all names and values of the groups. Reading holds every variable against
its row in `cascade_bayes.inference.storage.variables` and against what the record says of models, pairs,
components and atoms, and then the whole against the digest. Values that no fit gives are so named one by
one, and any other change since the file was written is seen. A digest is no signature: who means to
deceive can write a new one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from cascade_bayes.errors import InputError
from cascade_bayes.inference.storage.hdf5 import FormatError, read_bytes, read_groups
from cascade_bayes.inference.storage.packing import STORED, Groups, Parts, unpack
from cascade_bayes.inference.storage.record import SCHEMA, SCHEMA_VERSION, Record, parse_record
from cascade_bayes.verdict import FitVerdict

RECORD, DIGEST = "cascade_bayes", "cascade_bayes_sha256"
SEAL = b"\ncascade_bayes seal, SHA-256 of all bytes before: "
REMEDY = "Fit again with `cascade-bayes fit`."

COMPUTED = ("log_likelihood", "posterior_predictive", "prior", "prior_predictive")
FURTHER = (
    *("log_prior", "predictions", "predictions_constant_data", "sample_stats_prior"),
    *("unconstrained_posterior", "unconstrained_prior", "warmup_posterior", "warmup_sample_stats"),
)
"""Groups of ArviZ's schema that users add; like the computed ones they are not read."""


def attributes(parts: Parts, groups: Groups, verdict: FitVerdict) -> dict[str, str]:
    """Return the attributes of the group ``posterior``.

    Parameters
    ----------
    parts
        What the file is to hold.
    groups
        The same as the arrays that are stored.
    verdict
        What was said of the fit.
    """
    spec, data = parts.spec, parts.data
    record = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "models": list(data.models),
        "confidence_map": data.confidence_map.to_dict(),
        "copulas": [family.name for family in spec.copulas],
        "priors": spec.priors.to_dict(),
        "upstream": spec.upstream,
        "monotone": spec.monotone,
        "structure": spec.structure,
        "margin": spec.margin,
        "provenance": dict(parts.provenance),
        "fit_verdict": verdict._asdict(),
        "data_summary": data.summary(),
        "cost_unit": f"{data.units.cost} per call",
    }
    if data.units.given_as is not None:
        record["given_as"] = data.units.given_as
    if data.units.grades:
        record["grades"] = list(data.units.grades)
    text = json.dumps(record)
    return {RECORD: text, DIGEST: digest(text, groups)}


def digest(record: str, groups: Groups) -> str:
    """Return the SHA-256 of a record and of all names, axes and values of its groups.

    It does not depend on how a file is laid out: on the order of variables, chunks, compression, or how many
    bytes whole numbers take.
    """
    state = hashlib.sha256(_framed(record.encode()))
    for group in sorted(groups):
        for name, array in sorted(groups[group].items()):
            kind, content = _canonical(array.values)
            head = [group, name, list(array.dims), list(array.values.shape), kind]
            state.update(_framed(json.dumps(head).encode()))
            state.update(_framed(content))
    return state.hexdigest()


def seal(data: bytes) -> bytes:
    """Return the bytes of a file with their own digest at the end, where the HDF5 library does not look.

    A byte that changed on a disk is so found before that library meets it, which a damaged file can stop or
    keep busy for ever. Whoever opens the file to write in it makes the library cut the seal off.
    """
    return data + SEAL + hashlib.sha256(data).hexdigest().encode() + b"\n"


def unseal(data: bytes) -> bytes:
    """Return the bytes that were sealed; all of them if there is no seal, as in what ArviZ wrote.

    Raises
    ------
    FormatError
        If the bytes are not those that were sealed.
    """
    start = len(data) - len(SEAL) - 65
    if start < 0 or data[start : start + len(SEAL)] != SEAL:
        return data
    content = data[:start]
    if seal(content) != data:
        raise FormatError("it was damaged after it was written: its bytes are not those of its seal")
    return content


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


def _canonical(values: np.ndarray) -> tuple[str, bytes]:
    """Return the type of some values and their bytes, whatever the machine and the file."""
    if values.size == 0:
        return "empty", b""
    if values.dtype.kind in "OUS":
        return "text", json.dumps([str(text) for text in values.ravel()]).encode()
    kind = "<i8" if values.dtype.kind in "biu" else f"<f{max(values.dtype.itemsize, 4)}"
    return kind, np.ascontiguousarray(values).astype(kind).tobytes()


def read(path: Path) -> Parts:
    """Read a posterior's file.

    Raises
    ------
    InputError
        If there is no such file, or it is no posterior of this library, of another version of its format,
        damaged or changed since it was written; the message names the variable and its place.
    """
    if not path.is_file():
        raise InputError(f"posterior file {path} does not exist; make one with `cascade-bayes fit`.")
    texts = [("posterior", RECORD), ("posterior", DIGEST)]
    try:
        contents = read_groups(unseal(read_bytes(path)), STORED, texts)
    except FormatError as error:
        raise InputError(
            f"{path} is not a posterior file of cascade_bayes that can be read: {error}. {REMEDY}"
        ) from error
    text = contents.texts.get(("posterior", RECORD))
    if not text:
        raise InputError(f"{path} is not a posterior file of cascade_bayes: it holds no record. {REMEDY}")
    written = contents.texts["posterior", DIGEST]
    try:
        record = parse_record(text)
        _check_version(record, written)
        unknown = [name for name in contents.others if name not in (*COMPUTED, *FURTHER)]
        if unknown:
            raise InputError(f"it holds an unknown group {unknown[0]!r}.")
        parts = unpack(record, contents.groups)
    except InputError as error:
        raise InputError(f"{path} is not a posterior that can be used: {error} {REMEDY}") from error
    if written and written != digest(text, contents.groups):
        raise InputError(
            f"{path} was changed after it was written: the digest in it is not that of its contents. Take a "
            f"copy that nobody has edited. {REMEDY}"
        )
    return parts


def _check_version(record: Record, written: str) -> None:
    """Check that a file of this version has a digest and a verdict, and one of the last has none."""
    for what, there in (("digest", bool(written)), ("verdict", record.fit_verdict is not None)):
        if there != (record.schema_version == SCHEMA_VERSION):
            raise InputError(
                f"it {'has a' if there else 'lacks the'} {what}, which files of version "
                f"{record.schema_version} of the format {'do not have' if there else 'have'}."
            )
