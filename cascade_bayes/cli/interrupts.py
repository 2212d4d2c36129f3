"""Ctrl-C and requests to terminate end a command at once, wherever it is.

Python handles a signal between two of its own instructions. A command spends minutes inside a compiler or a
sampler, where there are none, and a ``KeyboardInterrupt`` that is raised while JAX calls back into Python is
swallowed there. The system writes each signal to a pipe, though, wherever the command is; here a thread
waits at the other end of it, removes what is half-written and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from cascade_bayes._output import abandon_outputs

_WORDS = {"SIGINT": "Interrupted", "SIGTERM": "Terminated", "SIGHUP": "Hung up"}
"""Signals that end a command, and what is said of each."""

_DONE = b"\0"  # no signal has the number 0


@contextlib.contextmanager
def ending_at_signals() -> Iterator[None]:
    """End the process, with one line and exit code 128 + the signal's number, if a signal tells it to.

    Signals that the process was started to ignore stay ignored. Outside the main thread, where Python sets
    no handlers, nothing is done.
    """
    wanted = [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]
    signals = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # A handler has to be set for Python to write the signal to the pipe; it has nothing to do itself.
    before = {number: signal.signal(number, lambda *_: None) for number in signals}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_wait, args=(reader, signals, time.monotonic()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, _DONE)
        thread.join()
        os.close(reader)
        os.close(writer)


def _wait(reader: int, signals: list[signal.Signals], started: float) -> None:
    """Wait until the command is done, or a signal ends the process."""
    while (received := os.read(reader, 1)) != _DONE:
        if received[0] in signals:
            _end(signal.Signals(received[0]), time.monotonic() - started)


def _end(received: signal.Signals, seconds: float) -> None:
    """Remove what is half-written, say one line and end the process."""
    written = abandon_outputs()
    changed = f"wrote {', '.join(map(str, written))} before" if written else "no file was changed"
    line = f"{_WORDS[received.name]} after {seconds:.0f} s; {changed}.\n"
    # Standard error, past what may hold its lock, and over a line of progress that may stand there.
    with contextlib.suppress(OSError):
        over = "\r\x1b[K" if os.isatty(2) else ""
        os.write(2, (over + line).encode(errors="replace"))
    with contextlib.suppress(Exception):  # what was printed in whole must come through
        sys.stdout.flush()
    os._exit(128 + received)
