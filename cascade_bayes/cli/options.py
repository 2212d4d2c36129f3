"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes._numbers import MAX_SEED

Seed = Annotated[int, typer.Option(help="Seed of all randomness.", min=0, max=MAX_SEED)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
AcceptRejectedFit = Annotated[
    bool,
    typer.Option(
        "--accept-rejected-fit",
        help="Exit with code 0 though `fit` rejected the fit; its verdict is still shown.",
    ),
]
PriorQueries = Annotated[
    float | None,
    typer.Option(
        help="How many queries the model counts for beside those of the table; inf for the model alone. "
        "10 if left out."
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices", help='JSON price table: {model: {"in": dollars per million tokens, "out": ...}}.'
    ),
]
