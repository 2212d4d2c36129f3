"""``cascade-bayes convert``: from the logs of an evaluation to a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cascade_bayes._kinds import TABLE
from cascade_bayes._names import suggest
from cascade_bayes.cli.common import open_output, out, print_json
from cascade_bayes.cli.options import Json, Prices
from cascade_bayes.errors import InputError

OPTIONS = {
    "inspect": ("confidence", "prices", "score"),
    "lm-eval": ("metric", "filter_name"),
    "openai": ("confidence", "prices", "questions"),
}
"""Options of each kind of logs."""


def convert(
    paths: Annotated[list[Path], typer.Argument(help="Logs: files, or folders of them.", metavar="PATH...")],
    kind: Annotated[str, typer.Option("--from", help="What wrote them: inspect, lm-eval or openai.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .parquet, .csv or .jsonl.")],
    confidence: Annotated[
        str | None,
        typer.Option(help="mean_logprob, answer_logprob, or metadata:NAME of logs of Inspect."),
    ] = None,
    prices: Prices = None,
    score: Annotated[str | None, typer.Option(help="Scorer of Inspect whose score counts.")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Questions with their targets, for logs of OpenAI.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of lm-eval that says what is right.")] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="Filter of lm-eval whose answers are read.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a table of the logs of an evaluation."""
    from cascade_bayes.collecting import read_inspect, read_lm_eval, read_openai
    from cascade_bayes.collecting.tables import check_output, write_table

    if kind not in OPTIONS:
        raise InputError(
            f"--from must be one of {', '.join(OPTIONS)}; got {kind!r}. {suggest(kind, list(OPTIONS))}"
        )
    check_output(output)
    given: dict[str, Any] = {"confidence": confidence, "prices": prices, "score": score}
    given |= {"questions": questions, "metric": metric, "filter_name": filter_name}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in OPTIONS[kind]:
            flag = {"filter_name": "--filter"}.get(name, f"--{name}")
            raise InputError(f"{flag} is not for logs of {kind}: leave it out.")
    read: Any = {"inspect": read_inspect, "lm-eval": read_lm_eval, "openai": read_openai}[kind]
    with open_output(output, TABLE, inputs=[*paths, questions, prices], as_json=as_json) as file:
        table = read(paths, **options)
        write_table(table, file)
    models = sorted(table["model"].unique())
    if as_json:
        print_json({"output": str(output), "rows": len(table), "models": models})
    else:
        out.print(f"Wrote {output}: {len(table)} rows of {', '.join(models)}.", soft_wrap=True)
        if "cost" not in table:
            names = " --cost-per-call MODEL=DOLLARS,..."
            out.print(f"The table has no costs: read it with{names}, --prices or --no-costs.", soft_wrap=True)
