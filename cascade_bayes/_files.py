"""JSON records with a schema: numbers as JSON can hold them, files written and read."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cascade_bayes._kinds import MAX_JSON_BYTES, json_kind
from cascade_bayes._output import Output, write_output
from cascade_bayes.errors import InputError
from cascade_bayes.rule import LOWEST


def encode(value: float) -> float | str:
    """Return a number as JSON can hold it, and as people can read it.

    Infinities are the strings ``"inf"`` and ``"-inf"``, the most negative finite number is ``"lowest"``.
    """
    value = float(value)
    return _WORDS.get(value, value)


def decode(value: float | str) -> float:
    """Inverse of `encode`.

    Raises
    ------
    ValueError
        For another string.
    """
    if not isinstance(value, str):
        return float(value)
    for number, word in _WORDS.items():
        if value == word:
            return number
    raise ValueError(f"expected a number, 'inf', '-inf' or 'lowest'; got {value!r}")


_WORDS = {math.inf: "inf", -math.inf: "-inf", LOWEST: "lowest"}


def without_nan(value: Any) -> Any:
    """Return values for JSON to show: null for NaN, which is not known; infinities as `encode` has them."""
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else encode(value)
    return value


def write_json(path: str | os.PathLike[str] | Output, record: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all; only a file of the record's schema is replaced."""
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_output(path, json_kind(record["schema"]), text.encode())


REMEDY = "Make one with `cascade-bayes tune`."


def read_json(path: Path, kind: str, schemas: Collection[str], remedy: str = REMEDY) -> dict[str, Any]:
    """Read a JSON file and check that it is one of ours.

    Raises
    ------
    InputError
        If the file is missing, cut short, or of none of these schemas. The message calls what was expected a
        ``kind`` file, and ends with ``remedy``.
    """
    try:
        if not path.is_file():
            raise InputError(f"{kind} file {path} does not exist. {remedy}")
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise InputError(f"{kind} file {path} cannot be read ({error.strerror}). {remedy}") from error
    if len(content) > MAX_JSON_BYTES:
        raise InputError(f"{path} is over {MAX_JSON_BYTES >> 20} MiB, which no {kind} file is. {remedy}")
    try:
        record = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a {kind} file: it is not text in UTF-8. {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a {kind} file, or it was cut short ({error}). {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not a {kind} file: its brackets nest too deep. {remedy}") from error
    found = record.get("schema") if isinstance(record, dict) else None
    if found not in schemas:
        raise InputError(
            f"{path} is not a {kind} file of cascade_bayes (its schema is {show(found)}). {remedy}"
        )
    return dict(record)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; of a key that stands twice nobody knows which value is meant."""
    record = dict(pairs)
    if len(record) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {show(twice)} stands twice")
    return record


def show(value: Any) -> str:
    """Return a value of JSON as a message shows it: short, and on one line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


LONGEST = 60
"""Characters of a value that a message shows."""


def read_record(path: Path, schema: str, version: int, remedy: str = REMEDY) -> dict[str, Any]:
    """Read a JSON file of one schema, and check that its version is one that this release reads."""
    kind = schema.rsplit(".", 1)[-1]
    record = read_json(path, kind, [schema], remedy)
    if record.get("schema_version") != version:
        raise InputError(
            f"{path} has version {show(record.get('schema_version'))} of the {kind} format; this release "
            f"reads version {version}. {remedy}"
        )
    return record
