"""``cascade-bayes check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade_bayes._kinds import PICTURE
from cascade_bayes._numbers import MAX_COUNT
from cascade_bayes._output import check_folder
from cascade_bayes.cli.common import (
    EXIT_FAILED,
    exit_if_rejected,
    out,
    print_json,
    print_marked,
    say,
    show_verdict,
    start_jax,
    verdict_record,
)
from cascade_bayes.cli.options import AcceptRejectedFit, Json, Seed
from cascade_bayes.cli.tables import check_table

if TYPE_CHECKING:
    from cascade_bayes.inference.checks import CheckResult
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy


_PICTURES = tuple(f"{name}.png" for name in ("margins", "calibration", "deferred", "replicates", "chains"))
"""Files that `cascade_bayes.plots.plot_checks` fills, whose module is slow to import."""


def check(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="Policy whose deferred queries to look at. Without one, those below the previous model's "
            "median confidence.",
            metavar="FILE",
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to write pictures to; made if need be.", metavar="FOLDER")
    ] = None,
    level: Annotated[
        float, typer.Option(help="Probability with which a right model may fail any of the tests.")
    ] = 0.01,
    num_draws: Annotated[
        int,
        typer.Option(
            "--num-draws",
            "--draws",
            help="Posterior draws at which the tests are made.",
            min=2,
            max=MAX_COUNT,
        ),
    ] = 200,
    max_queries: Annotated[
        int,
        typer.Option(help="Random queries to look at, chosen by --seed, if the table has more.", min=1),
    ] = 10_000,
    seed: Seed = 0,
    accept_rejected_fit: AcceptRejectedFit = False,
    as_json: Json = False,
) -> None:
    """Ask whether a fit's draws, its model and its predictions can be trusted."""
    if pictures is not None:
        check_folder(pictures, dict.fromkeys(_PICTURES, PICTURE))
    start_jax()
    from cascade_bayes.inference.checks import ADVICE
    from cascade_bayes.inference.checks import check as check_posterior
    from cascade_bayes.inference.effort import with_random_subset
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy

    policy = None if policy_file is None else Policy.load(policy_file)
    posterior = Posterior.load(posterior_file)
    verdict = posterior.fit_verdict
    show_verdict(verdict)
    whole = posterior.data.num_queries
    posterior = with_random_subset(posterior, max_queries, seed)
    if posterior.data.num_queries < whole:
        say.print(f"Looking at a random {max_queries} of the {whole} queries (--max-queries, --seed {seed}).")
    result = check_posterior(
        posterior, policy, level=level, num_draws=num_draws, seed=seed, max_queries=max_queries
    )
    written = [] if pictures is None else _draw_checks(pictures, posterior, policy, result)
    if as_json:
        pictures_written = {"pictures": [str(path) for path in written]}
        print_json(result.to_dict() | pictures_written | verdict_record(verdict))
    else:
        out.print(check_table(result))
        for word, style, findings in (
            ("Not asked:", "bold yellow", result.not_asked),
            ("Failed:", "bold red", result.failures),
        ):
            for found in findings:
                print_marked(word, style, f"{found.check}, {found.subject}: {found.sentence}")
        for name in result.failed_checks():
            print_marked(f"{name}:", "bold", f"{ADVICE[name].means} {ADVICE[name].remedy}")
        out.print(result.sentence() if result.passed else f"{len(result.failures)} questions failed.")
        if written:
            out.print(f"Wrote {len(written)} pictures to {pictures}.")
        out.print(result.decision(), soft_wrap=True)
    exit_if_rejected(verdict, accept_rejected_fit)
    # What is wrong with the draws of a fit that was rejected is what the user accepts.
    accepted = not verdict.trusted and accept_rejected_fit
    if any(not (accepted and found.check == "sampling") for found in result.failures):
        raise typer.Exit(EXIT_FAILED)


def _draw_checks(
    folder: Path, posterior: Posterior, policy: Policy | None, result: CheckResult
) -> list[Path]:
    """Write the pictures of a check, and return their paths."""
    from cascade_bayes.plots import plot_checks, save_figure

    folder.mkdir(parents=True, exist_ok=True)
    drawn = plot_checks(posterior, result, policy)
    for name, figure in drawn.items():
        save_figure(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]
