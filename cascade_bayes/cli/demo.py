"""``cascade-bayes demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes.cli.common import EXIT_FAILED, out, print_json, say, start_jax
from cascade_bayes.cli.options import Json, Seed


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures and files.")] = Path(
        "cascade-bayes-demo"
    ),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit, tune and evaluate the bundled example, a table simulated from known parameters."""
    start_jax(4)
    from cascade_bayes.demo import run_demo

    result = run_demo(output, seed=seed, talk=say.print)
    if as_json:
        print_json(result.to_dict())
    else:
        out.print(result.screen())
    if not result.converged:
        raise typer.Exit(EXIT_FAILED)
