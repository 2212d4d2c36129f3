"""The record of a posterior's file: all that is no array, in JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from cascade_bayes._units import Currency, GivenKind, Units
from cascade_bayes.errors import InputError
from cascade_bayes.inference.convergence import judge_approximation
from cascade_bayes.policy.file import in_words
from cascade_bayes.verdict import FitVerdict

SCHEMA = "cascade_bayes.posterior"
SCHEMA_VERSION = 10
WITHOUT_DIGEST = 9
"""The version before, whose files hold neither a digest nor a verdict; they are read all the same."""


class _Map(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["logprob", "probability", "score"]
    location: list[float]
    scale: list[float]
    floor: list[float | None] = []


class _Verdict(msgspec.Struct, forbid_unknown_fields=True):
    trusted: bool
    sentence: str


class _Approximation(msgspec.Struct):
    k_hat: dict[str, float]
    ess: dict[str, float]
    settled: dict[str, bool] = {}


class _Provenance(msgspec.Struct):
    method: Literal["nuts", "auto", "svi", "laplace", "map"] | None = None
    seed: int | None = None
    fit_seconds: float | None = None
    versions: dict[str, str] | None = None
    sampler: dict[str, dict[str, float]] | None = None
    approximation: _Approximation | None = None


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """The record as it stands in the file; `cascade_bayes.Posterior` says what its entries mean."""

    schema: str
    schema_version: int
    models: list[str]
    confidence_map: _Map
    copulas: list[str]
    priors: dict[str, int | float]
    upstream: bool
    monotone: bool
    structure: Literal["chain", "modular"]
    margin: str
    provenance: dict[str, Any]
    data_summary: dict[str, Any]
    cost_unit: Literal["US dollars per call", "deferrals per call"]
    fit_verdict: _Verdict | None = None
    given_as: GivenKind | None = None
    grades: list[str] = []


def parse_record(text: str) -> Record:
    """Read the record, of whichever version, and check its form."""
    try:
        record = json.loads(text)
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise InputError(f"its record is not of the format {SCHEMA!r}.")
        found = record.get("schema_version")
        if isinstance(found, bool) or found not in (SCHEMA_VERSION, WITHOUT_DIGEST):
            raise InputError(
                f"it has version {str(found)[:20]} of the format; this release reads versions "
                f"{WITHOUT_DIGEST} and {SCHEMA_VERSION}."
            )
        return msgspec.convert(record, Record)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError("the brackets of its record nest too deep.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"its record is damaged ({in_words(str(error), record)}).") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise InputError(f"its record is damaged ({str(error)[:200]}).") from error


def recorded_verdict(record: Record) -> FitVerdict | None:
    """Return the verdict of a record, checked against the figures of an approximation."""
    try:
        provenance = msgspec.convert(record.provenance, _Provenance)
    except msgspec.ValidationError as error:
        words = in_words(str(error), record.provenance)
        raise InputError(f"the provenance in its record is damaged ({words}).") from error
    report = provenance.approximation
    if (report is None) == (provenance.method in ("svi", "laplace")):
        raise InputError(
            f"the provenance in its record says method {provenance.method!r} and has "
            f"{'no' if report is None else 'a'} report of an approximation."
        )
    found = record.fit_verdict
    if report is not None:
        if not report.k_hat or set(report.k_hat) != set(report.ess):
            raise InputError(
                "the report of the approximation in its record must name the same modules twice."
            )
        judged = judge_approximation(report.k_hat, report.ess, report.settled)
        if found is not None and found.trusted != judged.converged:
            raise InputError(
                f"the verdict in its record says trusted = {found.trusted}, and the figures beside it "
                f"{judged.converged}."
            )
    return None if found is None else FitVerdict(found.trusted, found.sentence)


def units_of(record: Record) -> Units:
    """Return what costs and confidences of a record are."""
    currency: Currency = "US dollars" if record.cost_unit == "US dollars per call" else "deferrals"
    return Units(currency, record.given_as, tuple(record.grades))
