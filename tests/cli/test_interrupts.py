"""Signals, and standard streams that cannot be written to: exit codes, one line, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_bayes.cli.interrupts import ending_at_signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the signals of Unix")

HEAD = """
import hashlib, os, signal, sys, threading, time
from pathlib import Path
from cascade_bayes._kinds import POLICY
from cascade_bayes._output import Output
from cascade_bayes.cli.interrupts import ending_at_signals

received = getattr(signal, sys.argv[1])
# Tests may run in the background, or behind nohup, where signals are ignored.
signal.signal(received, signal.default_int_handler if received == signal.SIGINT else signal.SIG_DFL)

def send():
    os.kill(os.getpid(), received)
"""

IN_C = """
with ending_at_signals():
    output = Output("half.json", POLICY)
    threading.Timer(0.2, send).start()
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)  # one call into C, of half an hour
"""

SWALLOWED = """
import jax, jax.numpy as jnp

def callback(x):
    try:
        send()
        time.sleep(600)
    except KeyboardInterrupt:
        pass
    return x

with ending_at_signals():
    output = Output("half.json", POLICY)
    jax.pure_callback(callback, jax.ShapeDtypeStruct((), jnp.float32), jnp.float32(1)).block_until_ready()
"""

WRITTEN = """
with ending_at_signals():
    Output("whole.json", POLICY).write(b"{}")
    output = Output("half.json", POLICY)
    send()
    time.sleep(600)
"""

IMPORTING = """
from cascade_bayes.cli import main

class Finder:
    def find_spec(self, name, *_):
        if name == "typer":
            send()
            time.sleep(600)

sys.meta_path.insert(0, Finder())
main()
"""


def run(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HEAD + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)


@pytest.mark.parametrize(
    ("name", "code", "line"),
    [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated"), ("SIGHUP", 129, "Hung up")],
)
def test_a_long_call_into_c_is_ended(name: str, code: int, line: str, tmp_path: Path) -> None:
    done = run(IN_C, tmp_path, name)
    assert done.returncode == code
    assert done.stderr == f"{line} after 0 s; no file was changed.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_callback_that_swallows_interrupts_is_ended(tmp_path: Path) -> None:
    done = run(SWALLOWED, tmp_path, "SIGINT")
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith("Interrupted after")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_before_is_said(tmp_path: Path) -> None:
    done = run(WRITTEN, tmp_path, "SIGTERM")
    assert done.returncode == 143
    assert done.stderr == "Terminated after 0 s; wrote whole.json before.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]


def test_a_signal_while_modules_are_imported(tmp_path: Path) -> None:
    done = run(IMPORTING, tmp_path, "SIGINT")
    assert (done.returncode, done.stderr) == (130, "Interrupted after 0 s; no file was changed.\n")


def test_signals_that_are_ignored_stay_ignored(tmp_path: Path) -> None:
    """As those of a command that a script runs in the background."""
    code = "signal.signal(received, signal.SIG_IGN)\nwith ending_at_signals(): send(); print('done')"
    done = run(code, tmp_path, "SIGINT")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ending_at_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0] or before[0] is signal.SIG_IGN
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


HELP = [sys.executable, "-m", "cascade_bayes.cli", "--help"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(HELP, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: cannot write to standard output: No space left on device.\n"


def test_a_reader_that_has_seen_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(HELP, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


CLOSED = """
import os, sys
from cascade_bayes.cli.streams import guarded_streams

with guarded_streams():
    sys.stderr.write(f"{os.dup(0) > 2} {sys.stdout._stream}")
"""


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    command = ["sh", "-c", 'exec "$0" "$@" >&- <&-', sys.executable, "-c", CLOSED]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "True None")


def test_standard_output_that_is_closed() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" >&-', *HELP], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "Error: cannot write to standard output: it is closed.\n"
