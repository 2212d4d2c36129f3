"""Policy and frontier files, written whole and read with every value checked.

What may stand in them is in `cascade_bayes.policy.schema`. A digest of the contents, stored beside them,
tells a file that was changed since: its predictions need not belong to its thresholds any more.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cascade_bayes._files import LONGEST, REMEDY, read_json, show
from cascade_bayes.errors import InputError
from cascade_bayes.policy.schema import FrontierRecord, PolicyRecord
from cascade_bayes.rule import LOWEST
from cascade_bayes.transforms import KINDS

SCHEMA_VERSION = 3
"""The version of both formats that is written. Version 2 is read as well (`migrated`)."""

SCHEMAS: dict[type[PolicyRecord | FrontierRecord], str] = {
    PolicyRecord: "cascade_bayes.policy",
    FrontierRecord: "cascade_bayes.frontier",
}
"""What files of either kind call themselves."""

COST_UNITS = ("US dollars per query", "deferrals per query")

CHANGED = (
    "{path} was changed after it was written (its contents do not have its `content_digest`), so that its "
    "predictions need not belong to its thresholds. Make it again with `cascade-bayes tune`; what thresholds "
    "of your own would do, `cascade_bayes.predict(posterior, thresholds, models=...)` tells."
)

R = TypeVar("R", bound=PolicyRecord | FrontierRecord)


def to_file(record: PolicyRecord | FrontierRecord) -> dict[str, Any]:
    """Return what a record's file holds: its entries as plain values, and their digest."""
    entries: dict[str, Any] = msgspec.to_builtins(record)
    return {**entries, "content_digest": _digest(entries)}


def read(path: Path, *kinds: type[PolicyRecord | FrontierRecord]) -> PolicyRecord | FrontierRecord:
    """Read a policy or frontier file, of one of some kinds.

    Raises
    ------
    InputError
        If it is missing, cut short, of another kind or version, has a wrong value, or was changed.
    """
    names = [SCHEMAS[kind] for kind in kinds]
    called = " or ".join(name.rpartition(".")[2] for name in names)
    remedy = "Make one with `cascade-bayes tune --frontier`." if called == "frontier" else REMEDY
    raw = read_json(path, called, names, remedy)
    kind = kinds[names.index(raw["schema"])]
    version = raw.get("schema_version")
    if type(version) is not int or version not in (2, SCHEMA_VERSION):
        newer = type(version) is int and version > SCHEMA_VERSION
        raise InputError(
            f"{path} has version {show(version)} of the {called} format; this release reads versions 2 and "
            f"{SCHEMA_VERSION}. {'Update cascade_bayes, or make one' if newer else 'Make one'} with "
            "`cascade-bayes tune`."
        )
    try:
        if version < SCHEMA_VERSION:
            return checked(migrated(raw), kind)
        if "content_digest" not in raw:
            raise ValueError("`content_digest` is missing")
        stored = raw.pop("content_digest")
        record = checked(raw, kind)
    except ValueError as error:
        raise InputError(f"{path}: {error}. {REMEDY}") from error
    if stored != _digest(msgspec.to_builtins(record)):
        raise InputError(CHANGED.format(path=path))
    return record


def read_one(path: Path, kind: type[R]) -> R:
    """Read a file of one kind; see `read`."""
    return read(path, kind)  # type: ignore[return-value,arg-type]


def checked(raw: dict[str, Any], kind: type[R]) -> R:
    """Return the record of plain values.

    Parameters
    ----------
    raw
        Values as JSON has them.
    kind
        `PolicyRecord` or `FrontierRecord`.

    Raises
    ------
    ValueError
        If an entry is wrong; it says in one clause which entry, the rule, and the value.
    """
    for path, value in _leaves(raw):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{path}` must be a finite number; got {value!r}")
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"`{path}` must be text; got half a character in {show(value)}")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ValueError(in_words(str(error), raw)) from error


def migrated(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file of version 2 as version 3 has them.

    The credible level of a question is called ``probability``; the verdict on the fit is not known; a
    threshold one floating-point number above certainty is "inf", the most negative number "lowest".
    """
    record = {**raw, "schema_version": SCHEMA_VERSION, "fit_verdict": raw.get("fit_verdict")}
    question = record.get("question")
    if isinstance(question, dict) and "confidence" in question and "probability" not in question:
        named = {"confidence": "probability"}
        record["question"] = {named.get(name, name): value for name, value in question.items()}
    tops = {"logprob": math.nextafter(0, 1), "probability": math.nextafter(1, 2)}
    top = tops.get(str(raw.get("confidence")))

    def threshold(value: Any) -> Any:
        if isinstance(value, list):
            return [threshold(each) for each in value]
        return {top: "inf", LOWEST: "lowest"}.get(value, value) if isinstance(value, float) else value

    def renewed(holder: dict[str, Any]) -> dict[str, Any]:
        return {name: threshold(value) if name in _THRESHOLDS else value for name, value in holder.items()}

    if isinstance(record.get("points"), list):
        record["points"] = [renewed(p) if isinstance(p, dict) else p for p in record["points"]]
    return renewed(record)


_THRESHOLDS = {
    *("thresholds", "abstain_thresholds", "draw_thresholds", "draw_abstain_thresholds"),
    *("threshold_intervals_90", "abstain_intervals_90", "threshold_intervals", "abstain_intervals"),
}
"""Entries that hold thresholds."""


def _digest(entries: dict[str, Any]) -> str:
    """Return the SHA-256 of a file's contents, whatever its spaces and the order of its keys."""
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _leaves(raw: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no others, and where it stands; however deep, without recursion."""
    stack: list[tuple[str, Any]] = [("", raw)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{path}.{_spelled(key)}".lstrip("."), each) for key, each in value.items()]
        elif isinstance(value, list):
            stack += [(f"{path}[{i}]", each) for i, each in enumerate(value)]
        else:
            yield path, value


# Messages


def _spelled(key: str) -> str:
    """Return a key as a message can hold it."""
    return key if key.isidentifier() and len(key) <= LONGEST else show(key)


_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}

_CHOICES = {
    "schema_version": str(SCHEMA_VERSION),
    "cost_unit": " or ".join(map(repr, COST_UNITS)),
    "confidence": " or ".join(map(repr, KINDS)),
    "abstain": "'early' or 'final'",
    "kind": " or ".join(map(repr, KINDS)),
    "structure": "'chain' or 'modular'",
    "method": "'nuts', 'auto', 'svi', 'laplace' or 'map'",
}


def in_words(text: str, raw: Any) -> str:
    """Return what `msgspec` says of a value as engineers read it, on one line: entry, rule and value.

    Parameters
    ----------
    text
        The message of its `ValidationError`.
    raw
        The value that it refused, of dictionaries and lists.
    """
    place = re.search(r" - at `\$\.?(.*)`$", text, re.DOTALL)
    where, text = (place[1], text[: place.start()]) if place else ("", text)
    inside = f"{where}." if where else ""
    if text.startswith("`"):  # said by the schema's own checks, of an entry of the record at that place
        return f"`{inside}{text[1:]}"
    if entry := re.match(r"Object missing required field `(.*)`", text, re.DOTALL):
        return f"`{inside}{entry[1]}` is missing"
    if entry := re.match(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        return f"it has an entry that is not known, {show(inside + entry[1])}"
    rule = _rule(text, where)
    if rule is None:  # said by the schema's own checks, of the record at that place
        return f"`{where}` {text}"
    value = raw
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", where):
        value = value[int(index)] if index else value[name]
    return f"`{where}` must be {rule}; got {show(value)}"


def _rule(text: str, where: str) -> str | None:
    """Return what a value must be by the words of `msgspec`; None if these are not its words."""
    if text.startswith("Invalid enum value"):
        return _CHOICES.get(re.sub(r".*\.", "", where), _THRESHOLD)
    if text == "Number out of range":
        return "a number of 64 bits"
    expected = re.match(r"Expected `(.*?)`(?: (of length )?([<>]=?) (\S+)| matching (regex))?", text)
    if expected is None:
        return None
    types, length, sign, bound, regex = expected.groups()
    if regex:
        return "64 hexadecimal digits"
    if types == "float | str":
        return _THRESHOLD
    rule = " or ".join(_WORDS.get(each, each) for each in types.split(" | "))
    if not sign:
        return rule
    # Bounds allow for rounding, of which nobody need read.
    return f"{rule} of length {sign} {bound}" if length else f"{rule} {sign} {round(float(bound), 5) + 0.0:g}"


_THRESHOLD = "a number, 'inf', '-inf' or 'lowest'"
