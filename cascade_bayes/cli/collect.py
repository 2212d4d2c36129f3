"""``cascade-bayes collect``: from questions and models to a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes._kinds import TABLE
from cascade_bayes.cli.common import open_output, out, print_json, say
from cascade_bayes.cli.options import Json, Prices


def collect(
    questions: Annotated[
        Path, typer.Argument(help="Questions: CSV, JSON Lines or Parquet with input, target, choices, id.")
    ],
    model: Annotated[
        list[str],
        typer.Option("--model", help="Inspect's name of a model, such as openai/gpt-4o-mini; repeat."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .parquet, .csv or .jsonl.")],
    confidence: Annotated[
        str,
        typer.Option(help="How sure a model is: answer_logprob, mean_logprob, p_true, votes or verbal."),
    ] = "p_true",
    scorer: Annotated[
        str,
        typer.Option(
            help="What is right: choice, match, includes, exact or model_graded_qa of Inspect, or "
            "MODULE:FUNCTION of your own."
        ),
    ] = "match",
    prices: Prices = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="Most US dollars of all calls, those of earlier runs too.", metavar="DOLLARS"),
    ] = None,
    grader: Annotated[str | None, typer.Option(help="Model that grades for model_graded_qa.")] = None,
    samples: Annotated[int, typer.Option(help="Answers that vote, for votes.")] = 10,
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer; 16 for a letter, 256 otherwise.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What models are told before every question.")] = None,
    connections: Annotated[int | None, typer.Option(help="Calls of one model at the same time.")] = None,
    retries: Annotated[
        int | None, typer.Option(help="Attempts after a failed one; no limit if left out.")
    ] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds of a call with all of its attempts.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take at most, and ask nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask models questions, and write the table of their answers, confidences and costs.

    Calls are kept in OUTPUT.calls: killed and started again, nothing is paid for twice.
    """
    from cascade_bayes.collecting.run import folder_beside, prepare, showing
    from cascade_bayes.collecting.tables import check_output, write_table

    check_output(output)
    job = prepare(
        questions,
        model,
        confidence=confidence,
        scorer=scorer,
        prices=prices,
        max_cost=max_cost,
        grader=grader,
        samples=samples,
        max_tokens=max_tokens,
        system=system,
        connections=connections,
        retries=retries,
        timeout=timeout,
    )
    folder = folder_beside(output)
    with open_output(output, TABLE, inputs=[questions, prices], as_json=as_json) as file:
        expected = job.estimate(folder)
        say.print(expected.sentence())
        if estimate:
            if as_json:
                print_json(expected._asdict())
            return
        with showing(say.is_terminal) as told:
            found = job.run(folder, told)
        write_table(found.table, file)
    if as_json:
        print_json(
            {"output": str(output), "rows": len(found.table), "dollars": found.dollars}
            | {"failed": found.failed, "errors": found.errors}
        )
    else:
        out.print(f"Wrote {output}: {found.sentence()}", soft_wrap=True)
