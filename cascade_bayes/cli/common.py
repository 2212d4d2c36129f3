"""What every command does: say, print, refuse, start."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import typer
from rich.console import Console
from rich.text import Text

from cascade_bayes._files import without_nan
from cascade_bayes._kinds import FileKind
from cascade_bayes._output import Output
from cascade_bayes.errors import InputError

if TYPE_CHECKING:
    from cascade_bayes.verdict import FitVerdict

EXIT_INPUT, EXIT_FAILED, EXIT_INFEASIBLE = 2, 3, 4

# No markup: parameters are named like `slope[small]`, and models as users please.
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
out = Console(highlight=False, markup=False)


def start_jax(num_chains: int = 1) -> None:
    """Switch on 64-bit arithmetic and the store of programs; give each chain a core where they suffice."""
    import jax

    from cascade_bayes._devices import largest_divisor, num_cores
    from cascade_bayes.cli.programs import keep_programs

    jax.config.update("jax_enable_x64", True)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # the devices of a process that computes are what they are
            jax.config.update("jax_num_cpu_devices", largest_divisor(num_chains, num_cores()))
    if trouble := keep_programs():
        say.print(trouble)


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
    print(json.dumps(without_nan(record), indent=1, allow_nan=False))


def show_verdict(verdict: FitVerdict | None) -> None:
    """Say on standard error what is wrong with the fit that a command goes by, if anything is."""
    if verdict is not None and not verdict.trusted:
        print_marked("Fit rejected:", "bold red", verdict.sentence)


def exit_if_rejected(verdict: FitVerdict | None, accept: bool) -> None:
    """End a command with the code of a rejected fit, unless the user accepts it; call it last."""
    if verdict is not None and not verdict.trusted and not accept:
        say.print(
            f"Exit code {EXIT_FAILED}, because the fit was rejected: fit again, or go on with it by "
            "--accept-rejected-fit."
        )
        raise typer.Exit(EXIT_FAILED)


def verdict_record(verdict: FitVerdict | None) -> dict[str, Any]:
    """Return the entry that tells of the fit under ``--json``; null where that is not recorded."""
    return {"fit_verdict": None if verdict is None else verdict._asdict()}


def print_marked(word: str, style: str, text: object) -> None:
    """Say a sentence behind a word in a style of its own."""
    say.print(Text.assemble((word, style), f" {text}"))
