"""The log of a running cascade: JSON lines that are appended whole, from any thread."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from pathlib import Path

from cascade_bayes.errors import InputError, OutputError
from cascade_bayes.serving.routed import Call

ENDINGS = (".jsonl", ".ndjson")
"""Endings of the names of files that are read as JSON Lines."""


class DecisionLog:
    """A file to which whole lines are appended, each handed to the system before `append` returns.

    Parameters
    ----------
    path
        The file; it is made where there is none, and what it holds stays.

    Raises
    ------
    InputError
        If its name does not end as one of JSON Lines, or its last line was cut short.
    OutputError
        If the system does not let it be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix not in ENDINGS:
            raise InputError(
                f"the log must end in {' or '.join(ENDINGS)}, as tables of JSON Lines do; got "
                f"{str(self.path)!r}. Call it for example decisions.jsonl."
            )
        self._lock = threading.Lock()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"the log {str(self.path)!r} cannot be written: {error.strerror}. Choose another folder."
            ) from error
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self.close()
            raise InputError(
                f"the last line of the log {str(self.path)!r} was cut short: it has no line break. Remove "
                "that line, or write to another file."
            )

    def append(self, text: str) -> None:
        """Write some lines, whole or not at all.

        Parameters
        ----------
        text
            One or several lines, each with its line break.

        Raises
        ------
        OSError
            If the system does not take them.
        """
        data = text.encode()
        with self._lock:
            written = 0
            try:
                while written < len(data):
                    written += os.write(self._file, data[written:])
            except OSError:
                # Half a line would make the whole file unreadable; nobody else has written behind it yet.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise

    def close(self) -> None:
        """Close the file; once is enough, more does no harm."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def line_of(query: str, call: Call, now: float) -> str:
    """Return one row of the log, with its line break."""
    confidence = call.confidence
    if isinstance(confidence, float) and math.isinf(confidence):
        confidence = "inf" if confidence > 0 else "-inf"  # JSON has no infinities
    row = {
        "query": query,
        "model": call.model,
        "confidence": confidence,
        "cost": call.cost,
        "latency_ms": round(call.latency_ms, 3),
        "decision": call.outcome,
        "problem": call.problem,
        "time": now,
    }
    return _encode(row) + "\n"
