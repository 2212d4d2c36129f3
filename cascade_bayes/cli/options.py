"""Arguments that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade_bayes._numbers import MAX_SEED
from cascade_bayes.errors import InputError

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
TABLE_HELP = (
    "Results, one row per query and model: CSV (.csv, .tsv), Parquet, JSON Lines or Excel (.xlsx), CSV and "
    "JSON also packed (.gz, .zst)."
)
CONFIDENCE_HELP = (
    "Kind of confidence: logprob, probability or score; percent, uncertainty (1 - probability), nll "
    "(negative log-probability) or perplexity."
)
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="Which columns of the table are which, where it names them otherwise: "
        "query=question_id,correct=is_correct.",
        metavar="OURS=THEIRS,...",
    ),
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide",
        help="The table has one row per query and columns for each model: conf_MODEL, correct_MODEL.",
    ),
]
Grades = Annotated[
    str | None,
    typer.Option(
        help="Words that stand for confidences, from the least sure to the surest.", metavar="LOW,MEDIUM,HIGH"
    ),
]
CorrectAbove = Annotated[
    float | None,
    typer.Option(help="Column `correct` holds scores: an answer is right if its score is above this number."),
]
CostPerCall = Annotated[
    list[str] | None,
    typer.Option(
        "--cost-per-call",
        help="US dollars that a call of each model costs, in place of columns of costs or tokens.",
        metavar="MODEL=DOLLARS,...",
    ),
]
NoCosts = Annotated[
    bool,
    typer.Option(
        "--no-costs",
        help="Do without dollars: every call but that of the first model costs one deferral.",
    ),
]


def with_layout(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that say how its table is laid out, where it has ``layout`` itself.

    Parameters
    ----------
    command
        A command whose first parameter after ``*`` is ``layout``, to which it is given keyword arguments of
        `read_table`.
    """
    own, shared = (inspect.signature(function, eval_str=True) for function in (command, layout_options))
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += shared.parameters.values() if name == "layout" else [parameter]

    @wraps(command)
    def called(**given: Any) -> None:
        said = {name: given.pop(name) for name in shared.parameters}
        command(layout=layout_options(**said), **given)

    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def layout_options(
    columns: Columns = None,
    wide: Wide = False,
    grades: Grades = None,
    correct_above: CorrectAbove = None,
    cost_per_call: CostPerCall = None,
    no_costs: NoCosts = False,
) -> dict[str, Any]:
    """Return how a table is laid out, from the options of a command: keyword arguments of `read_table`.

    Raises
    ------
    InputError
        If a list of pairs is not one, or a cost is no number.
    """
    options: dict[str, Any] = {"wide": wide, "correct_above": correct_above, "costs": not no_costs}
    if columns:
        options["columns"] = _pairs("--columns", columns, "query=question_id,correct=is_correct")
    if grades is not None:
        words = [word.strip() for word in grades.replace("<", ",").split(",")]
        options["grades"] = [word for word in words if word]
    if cost_per_call:
        example = "small=0.0002,large=0.003"
        costs = {}
        for model, text in _pairs("--cost-per-call", cost_per_call, example).items():
            try:
                costs[model] = float(text)
            except ValueError as error:
                raise InputError(
                    f"--cost-per-call must give US dollars for model {model!r}; got {text!r}. Write for "
                    f"example --cost-per-call {example}."
                ) from error
        options["cost_per_call"] = costs
    return options


def _pairs(flag: str, texts: list[str], example: str) -> dict[str, str]:
    """Return the pairs in lists of them; a part without a sign of equality belongs to the one before."""
    result: dict[str, str] = {}
    for text in texts:
        parts: list[str] = []
        for part in text.split(","):
            if "=" in part or not parts:
                parts.append(part)
            elif part.strip():
                parts[-1] += f",{part}"
        for part in parts:
            name, equals, value = part.rpartition("=") if flag == "--cost-per-call" else part.partition("=")
            name, value = name.strip(), value.strip()
            if not (equals and name and value):
                raise InputError(
                    f"{flag} must be pairs with a sign of equality between; got {part.strip()!r}. Write for "
                    f"example {flag} {example}."
                )
            if result.setdefault(name, value) != value:
                raise InputError(f"{flag} names {name!r} twice. Keep one.")
    return result
