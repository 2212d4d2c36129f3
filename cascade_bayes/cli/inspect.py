"""``cascade-bayes inspect``, and what `fit` says of a table before it fits it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cascade_bayes.cli.common import out, print_json, print_marked, say, split
from cascade_bayes.cli.options import (
    CONFIDENCE_HELP,
    TABLE_HELP,
    Json,
    Prices,
    with_layout,
)
from cascade_bayes.cli.tables import overview_table
from cascade_bayes.errors import DataWarning


@with_layout
def inspect(
    table: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    confidence: Annotated[str, typer.Option(help=CONFIDENCE_HELP)] = "logprob",
    models: Annotated[
        str | None,
        typer.Option(help="Comma-separated models in cascade order, cheapest first.", metavar="A,B,..."),
    ] = None,
    prices: Prices = None,
    *,
    layout: dict[str, Any],
    as_json: Json = False,
) -> None:
    """Say what a table holds, model by model, and what of it looks odd; nothing is fitted."""
    from cascade_bayes.reading import overview, read_table

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DataWarning)
        data = read_table(
            table,
            confidence=confidence,
            models=split(models),
            prices=prices,
            **layout,
        )
    record = overview(data)
    record["odd"] = [*map(_message, told), *record["odd"]]
    if as_json:
        print_json({"confidence": confidence, **record})
    else:
        show_overview(record, confidence, layout.get("grades"), out)


def _message(warning: warnings.WarningMessage) -> str:
    text = str(warning.message)
    return text[:1].upper() + text[1:]


def show_overview(
    record: dict[str, Any], confidence: str, grades: Sequence[str] | None = None, console: Console = say
) -> None:
    """Print what was read of a table.

    Parameters
    ----------
    record
        From `cascade_bayes.reading.overview`.
    confidence
        What the user called the confidences.
    grades
        The words for them, the least sure first.
    console
        Where to print.
    """
    console.print(overview_table(record))
    sentence = _scale_sentence(record["kind"], confidence, grades)
    if sentence:
        console.print(sentence, soft_wrap=True)
    for odd in record["odd"]:
        if console is say:
            print_marked("Odd:", "bold yellow", odd)
        else:
            console.print(f"Odd: {odd}", soft_wrap=True)


def _scale_sentence(kind: str, confidence: str, grades: Sequence[str] | None) -> str | None:
    """Return on which scale thresholds will be, where that is not the user's own."""
    if grades is not None:
        numbered = ", ".join(f"{i} is {word!r}" for i, word in enumerate(grades, start=1))
        return f"Grades are read as scores, and thresholds are scores: {numbered}."
    return {
        "percent": "Percentages are read as probabilities, and thresholds are probabilities: 0.9 is 90 %.",
        "uncertainty": "Uncertainties are read as probabilities, and thresholds are probabilities: a query "
        "is deferred below 0.9 if its uncertainty is above 0.1.",
        "nll": "Negative log-probabilities are read as log-probabilities, with the other sign, and so are "
        "thresholds: a query is deferred below -0.1 if its nll is above 0.1.",
        "perplexity": "Perplexities are read as log-probabilities, -log(perplexity), and so are "
        "thresholds: a query is deferred below -0.1 if its perplexity is above exp(0.1) = 1.105.",
    }.get(confidence)
