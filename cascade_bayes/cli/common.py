"""What every command does: say, print, refuse, start."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, overload

from rich.console import Console
from rich.text import Text

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


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written before minutes are spent on computing it."""
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"--output {path}: the folder {path.parent} cannot be written to.")


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
