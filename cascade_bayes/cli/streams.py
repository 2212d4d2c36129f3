"""Standard output and error of a command: what happens when they cannot be written to.

A reader that has seen enough (``| head``) ends a command quietly, as it ends other programs. A full disk
behind standard output is an error, told in one sentence. What cannot be told on standard error is not told.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from cascade_bayes.errors import OutputError

EXIT_BROKEN_PIPE = 141
"""Exit code of a program that is ended by the signal SIGPIPE, as a shell shows it: 128 + 13."""


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Have a failure to write to standard output raise `OutputError`, or end the process if nobody reads."""
    _fill_closed()
    before = sys.stdout, sys.stderr
    sys.stdout = _Guarded(before[0], _fail)
    sys.stderr = _Guarded(before[1], lambda stream, error: None)
    try:
        yield
    finally:
        with contextlib.suppress(SystemExit, OutputError):
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _fill_closed() -> None:
    """Open what of the three standard streams is closed, or the next file would take its number.

    Libraries in C that write messages to standard output would then write them into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _fail(stream: Any, error: OSError) -> None:
    # What is still in the buffer would fail again, with a traceback, when the interpreter ends.
    if stream is not None:
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    if isinstance(error, BrokenPipeError):
        raise SystemExit(EXIT_BROKEN_PIPE) from error
    raise OutputError(f"cannot write to standard output: {error.strerror}.") from error


class _Guarded:
    """A text stream that is flushed at every write, so that a failure shows where it happens."""

    def __init__(self, stream: TextIO | None, fail: Any) -> None:
        self._stream, self._fail = stream, fail

    def write(self, text: str) -> int:
        if self._stream is None:  # closed before the process began
            self._fail(None, OSError(9, "it is closed"))
            return len(text)
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            self._fail(self._stream, error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
