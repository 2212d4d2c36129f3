"""What every command does: say, print, refuse, start."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

from rich.console import Console
from rich.text import Text

from cascade_bayes._output import FileKind, Output
from cascade_bayes.errors import InputError

EXIT_INPUT, EXIT_FAILED, EXIT_INFEASIBLE = 2, 3, 4

# No markup: parameters are named like `slope[small]`, and models as users please.
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
out = Console(highlight=False, markup=False)


def start_jax(num_chains: int = 1) -> None:
    """Switch on 64-bit arithmetic, and give each chain a processor core where there are enough."""
    import jax

    from cascade_bayes.inference.devices import largest_divisor

    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # the devices of a process that computes are what they are
            jax.config.update("jax_num_cpu_devices", largest_divisor(num_chains, cores))


def open_output(
    path: Path, kind: FileKind, *, inputs: Iterable[Path | None] = (), as_json: bool = False
) -> Output:
    """Open what a command is to write: the first thing that it does, so that no minutes are spent in vain.

    Parameters
    ----------
    path
        The user's ``--output``; ``-`` is standard output.
    kind
        What is written.
    inputs
        Files that the command reads, none of which may be the output.
    as_json
        Whether the command prints a JSON object on standard output.
    """
    output = Output("/dev/stdout" if str(path) == "-" else path, kind, inputs=inputs)
    if output.is_standard and as_json:
        raise InputError(f"--output {path} and --json both write to standard output: give one of them.")
    return output


def talk(output: Output) -> Console:
    """Return where a command says what it found: standard output, unless its file goes there."""
    return say if output.is_standard else out


@overload
def split(models: str) -> list[str]: ...


@overload
def split(models: str | None) -> list[str] | None: ...


def split(models: str | None) -> list[str] | None:
    """Return the names in a comma-separated list."""
    return None if models is None else [name.strip() for name in models.split(",") if name.strip()]


def print_json(record: dict[str, Any]) -> None:
    """Print all that standard output holds under ``--json``."""
    print(json.dumps(record, indent=1, allow_nan=False))


def print_marked(word: str, style: str, text: object) -> None:
    """Say a sentence behind a word in a style of its own."""
    say.print(Text.assemble((word, style), f" {text}"))
