"""``cascade-bayes worth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes._numbers import MAX_COUNT
from cascade_bayes.cli.common import (
    exit_if_rejected,
    out,
    print_json,
    say,
    show_verdict,
    start_jax,
    verdict_record,
)
from cascade_bayes.cli.options import AcceptRejectedFit, Json, PriorQueries, Seed
from cascade_bayes.cli.tables import information_table
from cascade_bayes.errors import InputError


def worth(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    policy_file: Annotated[
        Path,
        typer.Argument(metavar="POLICY", help="Policy written by `tune`: its cascade and price of an error."),
    ],
    queries: Annotated[
        str, typer.Option(help="Numbers of further queries to ask about.", metavar="N,N,...")
    ] = "30,100,300",
    num_draws: Annotated[
        int,
        typer.Option(help="Posterior draws, each with new queries.", min=50, max=MAX_COUNT),
    ] = 500,
    prior_queries: PriorQueries = None,
    seed: Seed = 0,
    accept_rejected_fit: AcceptRejectedFit = False,
    as_json: Json = False,
) -> None:
    """Say what more labelled queries would save, and of which model to buy labels next."""
    sizes = _whole_numbers("--queries", queries)
    start_jax()
    from cascade_bayes.decision.information import value_of_information
    from cascade_bayes.engine.rows import PRIOR_QUERIES
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy

    policy, posterior = Policy.load(policy_file), Posterior.load(posterior_file)
    if policy.fit_digest != posterior.digest():
        say.print(f"{policy_file} was not tuned on {posterior_file}: asking the latter all the same.")
    verdict = posterior.fit_verdict
    show_verdict(verdict)
    weight = PRIOR_QUERIES if prior_queries is None else prior_queries
    found = value_of_information(
        posterior, policy, sizes, num_draws=num_draws, prior_queries=weight, seed=seed
    )
    if as_json:
        record = {"error_price": found.error_price, "models": list(found.models)}
        perfect = {"evpi_per_1000": 1000 * found.evpi, "sentence": found.sentence()}
        print_json(record | perfect | {"points": found.records()} | verdict_record(verdict))
    else:
        out.print(information_table(found))
        out.print(found.sentence(), soft_wrap=True)
    exit_if_rejected(verdict, accept_rejected_fit)


def _whole_numbers(flag: str, text: str) -> list[int]:
    """Read a comma-separated list of numbers of at least 1."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > MAX_COUNT:
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise InputError(
            f"{flag} must be whole numbers from 1 to {MAX_COUNT}, with commas between; got {shown!r}."
        )
    return numbers
