"""Kinds of files that this library writes, and how an existing file is told to be one of them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_JSON_BYTES = 64 << 20
"""Size above which no JSON file is read: the largest of ours, of 10,000 draws of eight models, is a tenth."""


class FileKind(NamedTuple):
    """A kind of file that this library writes.

    Attributes
    ----------
    name
        What messages call it, as in "a policy file".
    recognises
        Whether an existing file is of this kind, which alone may then be replaced.
    is_text
        Whether it may be written to standard output.
    """

    name: str
    recognises: Callable[[Path], bool]
    is_text: bool = False


def json_kind(schema: str) -> FileKind:
    """Return the kind of the JSON files whose key ``schema`` has a value."""

    def recognises(path: Path) -> bool:
        if path.stat().st_size > MAX_JSON_BYTES:
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            return False
        return isinstance(record, dict) and record.get("schema") == schema

    return FileKind(schema.rsplit(".", 1)[-1], recognises, is_text=True)


def _is_posterior(path: Path) -> bool:
    """Whether a file is of HDF5 and names our schema; it is not opened as HDF5, which need not be sound."""
    with path.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(b"cascade_bayes.posterior") >= 0


def _is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE


REPORT_MARK = "cascade_bayes.report"
"""Name of the program that a report's HTML says it was made by."""


def _is_report(path: Path) -> bool:
    """Whether a file is HTML whose first lines say that it is a report of this library."""
    with path.open("rb") as file:
        start = file.read(1000)
    return start[:15].lower() == b"<!doctype html>" and REPORT_MARK.encode() in start


POSTERIOR = FileKind("posterior", _is_posterior)
POLICY = json_kind("cascade_bayes.policy")
FRONTIER = json_kind("cascade_bayes.frontier")
PICTURE = FileKind("PNG", _is_png)
REPORT = FileKind("report", _is_report, is_text=True)
WATCH = json_kind("cascade_bayes.watch")


TABLE_MARK = b"cascade_bayes.table"
"""What the metadata of a Parquet file hold that this library wrote."""


def _is_table(path: Path) -> bool:
    """Whether a file is a table that `collect` or `convert` wrote: Parquet, CSV or JSON Lines."""
    with path.open("rb") as file:
        start = file.read(64)
        if start[:4] != b"PAR1":
            return start.startswith((b"query,model,confidence", b'{"query": '))
        file.seek(max(0, path.stat().st_size - MAX_FOOTER_BYTES))
        return TABLE_MARK in file.read()


MAX_FOOTER_BYTES = 1 << 20
"""How far from the end of a Parquet file its metadata are looked for."""

TABLE = FileKind("table", _is_table, is_text=True)
