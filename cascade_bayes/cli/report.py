"""``cascade-bayes report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_bayes._kinds import REPORT
from cascade_bayes._numbers import MAX_COUNT
from cascade_bayes.cli.common import (
    exit_if_rejected,
    open_output,
    print_json,
    say,
    show_verdict,
    start_jax,
    talk,
    verdict_record,
)
from cascade_bayes.cli.options import AcceptRejectedFit, Json, Prices, Seed


def report(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Report to write (HTML).")],
    policy_file: Annotated[
        Path | None,
        typer.Option("--policy", help="Policy written by `tune` to report on.", metavar="FILE"),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled results on other queries, to set beside what is predicted.", metavar="TABLE"
        ),
    ] = None,
    error_price: Annotated[
        float | None, typer.Option(help="US dollars a wrong answer costs, if there is no --policy.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="US dollars per query: least error within it, with --probability."),
    ] = None,
    target_error: Annotated[
        float | None, typer.Option(help="Error probability: least expense below it, with --probability.")
    ] = None,
    probability: Annotated[
        float, typer.Option(help="Posterior probability with which a budget or target must hold.")
    ] = 0.9,
    num_draws: Annotated[
        int,
        typer.Option(help="Posterior draws to average over.", min=2, max=MAX_COUNT),
    ] = 200,
    prices: Prices = None,
    seed: Seed = 0,
    accept_rejected_fit: AcceptRejectedFit = False,
    as_json: Json = False,
) -> None:
    """Write a report for others to read: one HTML file with the policy, why, and what it rests on.

    Give the policy to report on, or the question to find one for; with neither, the report takes a middling
    price of an error and says so.
    """
    inputs = [posterior_file, policy_file, test, prices]
    saved = open_output(output, REPORT, inputs=inputs, as_json=as_json)
    start_jax()
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy
    from cascade_bayes.reporting.facts import read_test
    from cascade_bayes.reporting.words import recommendation
    from cascade_bayes.reporting.write import asked_question
    from cascade_bayes.reporting.write import report as write_report

    policy = None if policy_file is None else Policy.load(policy_file)
    asked_question(policy, error_price, budget, target_error, probability)
    posterior = Posterior.load(posterior_file)
    verdict = posterior.fit_verdict
    show_verdict(verdict)
    table = read_test(test, posterior, prices)
    say.print(f"Trying every cascade of {len(posterior.models)} models, checking the fit, and drawing.")
    facts = write_report(
        posterior,
        saved,
        policy=policy,
        error_price=error_price,
        budget=budget,
        target_error=target_error,
        probability=probability,
        test=table,
        num_draws=num_draws,
        seed=seed,
    )
    sentences = [*recommendation(facts), facts.checks.decision()]
    if as_json:
        print_json({"output": str(output), "sentences": sentences, **verdict_record(verdict)})
    elif not saved.is_standard:
        for sentence in sentences:
            talk(saved).print(sentence, soft_wrap=True)
        talk(saved).print(f"Wrote {output}. Open it in a browser.", soft_wrap=True)
    exit_if_rejected(verdict, accept_rejected_fit)
