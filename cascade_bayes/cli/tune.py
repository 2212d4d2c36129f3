"""``cascade-bayes tune``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade_bayes._kinds import FRONTIER, POLICY
from cascade_bayes._numbers import MAX_COUNT, MAX_PRICES
from cascade_bayes.cli.common import (
    exit_if_rejected,
    open_output,
    print_json,
    say,
    show_verdict,
    split,
    start_jax,
    talk,
    verdict_record,
)
from cascade_bayes.cli.options import AcceptRejectedFit, Json, PriorQueries
from cascade_bayes.cli.tables import frontier_table, policy_table, rival_sentence
from cascade_bayes.errors import ConvergenceWarning, InputError

if TYPE_CHECKING:
    from cascade_bayes.decision.envelope import Envelope
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.policy import Policy


def tune(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Policy or frontier file to write (JSON).")],
    error_price: Annotated[
        float | None, typer.Option(help="US dollars a wrong answer costs: minimise expense + price * error.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="US dollars per query, for calls and what else has a price: least error within it, with "
            "--probability."
        ),
    ] = None,
    target_error: Annotated[
        float | None, typer.Option(help="Error probability: least expense below it, with --probability.")
    ] = None,
    frontier: Annotated[
        int | None,
        typer.Option(help="Number of error prices to sweep; writes them all.", min=2, max=MAX_PRICES),
    ] = None,
    probability: Annotated[
        float, typer.Option(help="Posterior probability with which a budget or target must hold.")
    ] = 0.9,
    models: Annotated[
        str,
        typer.Option(
            help="any: whichever subset of the models is best, single models included. all, or a "
            "comma-separated list in order: one cascade, which takes less time.",
            metavar="any|all|A,B,...",
        ),
    ] = "any",
    num_draws: Annotated[
        int,
        typer.Option(help="Posterior draws to average over.", min=2, max=MAX_COUNT),
    ] = 200,
    prior_queries: PriorQueries = None,
    abstain_price: Annotated[
        float | None,
        typer.Option(
            help="US dollars per query that is left without an answer; if left out, every query is answered.",
            min=0.0,
        ),
    ] = None,
    abstain: Annotated[
        str,
        typer.Option(
            help="Who may leave a query without an answer: every model (early), or the last (final).",
            metavar="early|final",
        ),
    ] = "early",
    latency_price: Annotated[
        float,
        typer.Option(help="US dollars per second that a query waits; needs a column latency_ms.", min=0.0),
    ] = 0.0,
    constant_costs: Annotated[
        bool,
        typer.Option(
            "--constant-costs", help="Take a model's calls to cost the same whichever queries it gets."
        ),
    ] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Say what a policy of any shape could save at most.")
    ] = False,
    accept_rejected_fit: AcceptRejectedFit = False,
    as_json: Json = False,
) -> None:
    """Find models and thresholds: for a price of an error, a budget, an error target, or a whole frontier."""
    asked = [x for x in (error_price, budget, target_error, frontier) if x is not None]
    if len(asked) != 1:
        raise InputError("give exactly one of --error-price, --budget, --target-error, --frontier.")
    if error_price is not None and not error_price > 0:
        raise InputError(f"--error-price must be positive, US dollars per wrong answer; got {error_price}.")
    written = POLICY if frontier is None else FRONTIER
    saved = open_output(output, written, inputs=[posterior_file], as_json=as_json)
    start_jax()
    from cascade_bayes.decision.envelope import Envelope
    from cascade_bayes.decision.frontier import DEFAULT_PRICES
    from cascade_bayes.decision.payoff import (
        none_pays_sentence,
        paying_sentence,
        predict_alone,
        same_policy,
        saving_sentence,
    )
    from cascade_bayes.engine.rows import PRIOR_QUERIES
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.policy.points import check_question

    if frontier is None:
        check_question(error_price, budget, target_error, probability)
    posterior = Posterior.load(posterior_file)
    verdict = posterior.fit_verdict
    show_verdict(verdict)
    weight = PRIOR_QUERIES if prior_queries is None else prior_queries
    chosen: Any = models if models in ("all", "any") else split(models)
    if chosen == "any":
        say.print(f"Trying every cascade of {len(posterior.models)} models; --models all takes less time.")
    prices = [error_price] if error_price is not None else frontier or DEFAULT_PRICES
    terms: dict[str, Any] = {
        "latency_price": latency_price,
        "abstain_price": abstain_price,
        "abstain": abstain,
        "constant_costs": constant_costs,
    }
    swept = _sweep(posterior, chosen, prices, num_draws, weight, terms)
    asked_of: Policy | Frontier | Envelope = swept
    rivals: list[dict[str, Any]] = []
    mixture = None
    if frontier is not None:
        swept.save(saved)
        shown: dict[str, Any] = {"output": str(output), "points": swept.points(), **verdict_record(verdict)}
        table = frontier_table(swept.records(), swept.units)
        if isinstance(swept, Envelope):
            shown["pays"] = paying_sentence(swept)
    else:
        question: dict[str, Any] = {
            "error_price": error_price,
            "budget": budget,
            "target_error": target_error,
            "probability": probability,
        }
        policy = swept.at(**question)
        policy.save(saved)
        shown = {"output": str(output), **policy.to_dict()}
        for name in ("draw_thresholds", "draw_abstain_thresholds", "content_digest"):
            del shown[name]
        table, asked_of = policy_table(policy), policy
        if isinstance(swept, Envelope):
            priced = error_price is not None
            for kind, rival in swept.beside(**question).items():
                if rival is None or not same_policy(rival, policy):  # no policy is its own rival
                    rivals.append(_rival_record(kind, rival, policy, priced))
            shown["beside"] = rivals
        if len(policy.models) == 1 and isinstance(swept, Envelope) and error_price is not None:
            say.print("Looking for the prices of an error at which a cascade pays.")
            wide = _sweep(posterior, chosen, DEFAULT_PRICES, num_draws, weight, terms)
            shown["pays"] = none_pays_sentence(policy, wide)
        largest = posterior.models[-1]
        shown["saving"] = saving_sentence(policy, largest, predict_alone(swept, largest))
        mixture = swept.mixture(policy)
        shown["mixture"] = None if mixture is None else mixture.to_dict()
    certificate = None
    if certify:
        from cascade_bayes.decision.certificate import certify as certify_policies

        certificate = certify_policies(posterior, asked_of, num_draws=num_draws)
        shown["certificate"] = {"sentence": certificate.sentence(), "points": certificate.records()}
    if as_json:
        print_json(shown)
        exit_if_rejected(verdict, accept_rejected_fit)
        return
    console = talk(saved)
    console.print(table)
    for sentence in (shown.get("pays"), shown.get("saving")):
        if sentence is not None:
            console.print(sentence, soft_wrap=True)
    for record in rivals:
        console.print(rival_sentence(record, swept.units.cost), soft_wrap=True)
    if mixture is not None:
        console.print(mixture.sentence(), soft_wrap=True)
    if certificate is not None:
        console.print(certificate.sentence(), soft_wrap=True)
    if not saved.is_standard:
        console.print(f"Wrote {output}. Next: cascade-bayes evaluate {output} TABLE", soft_wrap=True)
    exit_if_rejected(verdict, accept_rejected_fit)


def _sweep(
    posterior: Posterior,
    models: Any,
    prices: Any,
    num_draws: int,
    prior_queries: float,
    terms: dict[str, Any],
) -> Frontier | Envelope:
    """Tune at some prices, without the warning of a rejected fit: the verdict has been shown."""
    from cascade_bayes.decision.tuning import error_cost_frontier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return error_cost_frontier(
            posterior,
            models=models,
            error_prices=prices,
            num_draws=num_draws,
            prior_queries=prior_queries,
            **terms,
        )


def _rival_record(kind: str, rival: Policy | None, policy: Policy, priced: bool) -> dict[str, Any]:
    """Return what the best pair, or single model, would do instead of a policy."""
    if rival is None:
        return {"kind": kind, "models": None}
    other, chosen = rival.prediction, policy.prediction
    record = {
        "kind": kind,
        "models": list(rival.models),
        "expected_error": other.error,
        "expected_cost": other.cost,
        "expected_expense": other.expense,
        "extra_error": other.error - chosen.error,
        "extra_cost": other.cost - chosen.cost,
        "extra_expense": other.expense - chosen.expense,
    }
    if priced:
        record["extra_loss"] = other.loss(policy.error_price) - chosen.loss(policy.error_price)
    return record
