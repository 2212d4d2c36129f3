"""``cascade-bayes watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes._kinds import PICTURE, WATCH
from cascade_bayes._output import Output
from cascade_bayes.cli.common import EXIT_FAILED, open_output, out, print_json, say, start_jax
from cascade_bayes.cli.options import Json
from cascade_bayes.cli.tables import watched_table


def watch(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    policy_file: Annotated[
        Path, typer.Argument(metavar="POLICY", help="Policy that wrote the log, written by `tune`.")
    ],
    log: Annotated[Path, typer.Argument(help="Log of the running cascade, JSON lines, which may grow.")],
    level: Annotated[
        float, typer.Option(help="Probability, at most, of ever raising an alarm while nothing changes.")
    ] = 0.01,
    state: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps how far the log was read; the log's name with .watch.json behind if left "
            "out."
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a PNG of the evidence over time.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether anything has changed since the fit, what, since about when, and what to do.

    Exit code 3 if the alarm was raised. Only lines that are new since the last time are read.
    """
    inputs = [posterior_file, policy_file, log]
    kept = open_output(state or log.with_name(f"{log.name}.watch.json"), WATCH, inputs=inputs)
    drawn: Output | None = None if picture is None else open_output(picture, PICTURE, inputs=inputs)
    start_jax()
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy
    from cascade_bayes.watching import watch as watching

    posterior, policy = Posterior.load(posterior_file), Policy.load(policy_file)
    if policy.fit_digest != posterior.digest():
        say.print(f"{policy_file} was not tuned on {posterior_file}: comparing with the latter all the same.")
    found = watching.watch(posterior, policy, log, state=kept, level=level)
    if drawn is not None:
        from cascade_bayes import plots

        plots.save_figure(plots.plot_watch(found).figure, drawn)
    if as_json:
        print_json(found.to_dict())
    else:
        out.print(watched_table(found))
        out.print(found.sentence(), soft_wrap=True)
    if found.changed:
        raise typer.Exit(EXIT_FAILED)
