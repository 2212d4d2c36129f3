"""``cascade-bayes fit``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade_bayes._kinds import POSTERIOR
from cascade_bayes._numbers import MAX_CHAINS, MAX_COUNT
from cascade_bayes._units import DOLLARS
from cascade_bayes.cli.common import EXIT_FAILED, open_output, out, print_json, say, split, start_jax
from cascade_bayes.cli.inspect import show_overview
from cascade_bayes.cli.options import (
    CONFIDENCE_HELP,
    TABLE_HELP,
    Json,
    Prices,
    Seed,
    with_layout,
)
from cascade_bayes.errors import ConvergenceWarning
from cascade_bayes.inference.options import AUTO_WARMUP, SAMPLES, WARMUP, FitOptions

if TYPE_CHECKING:
    from cascade_bayes.data import CascadeData


@with_layout
def fit(
    table: Annotated[Path, typer.Argument(help=TABLE_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Posterior file to write (NetCDF).")],
    confidence: Annotated[str, typer.Option(help=CONFIDENCE_HELP)] = "logprob",
    models: Annotated[
        str | None,
        typer.Option(help="Comma-separated models in cascade order, cheapest first.", metavar="A,B,..."),
    ] = None,
    prices: Prices = None,
    *,
    layout: dict[str, Any],
    logged_policy: Annotated[
        Path | None,
        typer.Option(help="Policy under which a running cascade wrote the table; checked against its rows."),
    ] = None,
    seed: Seed = 0,
    method: Annotated[
        str,
        typer.Option(
            help="nuts; auto: NUTS with a short warm-up; svi, laplace: approximations, corrected by "
            "importance sampling, with a verdict on how close they are; map: the posterior mode alone.",
            metavar="nuts|auto|svi|laplace|map",
        ),
    ] = FitOptions.method,
    guide: Annotated[
        str, typer.Option(help="Family that svi fits.", metavar="mean_field|low_rank|full_rank|flow")
    ] = FitOptions.guide,
    num_steps: Annotated[
        int, typer.Option(help="Steps that svi takes.", min=1, max=MAX_COUNT)
    ] = FitOptions.num_steps,
    structure: Annotated[
        str | None,
        typer.Option(
            help="modular: margins first, then every pair of models given them, each from the queries that "
            "have it; chain: one Markov chain of all models, sampled together. [default: modular, or chain "
            "for the log of a running cascade, whose later models saw what the confidences before sent on]",
            metavar="modular|chain",
        ),
    ] = None,
    copula: Annotated[
        str,
        typer.Option(
            help="Copula family of all pairs of models (chain: of neighbours); commas separate one a pair; "
            "auto picks by leave-one-out log score.",
            metavar="NAME|A,B,...|auto",
        ),
    ] = str(FitOptions.copula),
    margin: Annotated[
        str, typer.Option(help="Family of the confidences' margins: logit_normal or beta.", metavar="NAME")
    ] = FitOptions.margin,
    upstream: Annotated[
        bool,
        typer.Option(help="Let the previous model's confidence count in how often a model is right."),
    ] = FitOptions.upstream,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Keep being right from becoming rarer with confidence.")
    ] = FitOptions.monotone,
    num_chains: Annotated[
        int, typer.Option(help="Markov chains.", min=1, max=MAX_CHAINS)
    ] = FitOptions.num_chains,
    num_warmup: Annotated[
        int | None,
        typer.Option(
            help="Warm-up draws of each chain.",
            min=10,
            max=MAX_COUNT,
            show_default=f"{WARMUP}; for auto {AUTO_WARMUP}",
        ),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            help="Kept draws of each chain.",
            min=10,
            max=MAX_COUNT,
            show_default=str(SAMPLES),
        ),
    ] = None,
    max_queries: Annotated[
        int | None,
        typer.Option(
            help="Fit a random subset of so many queries, chosen by --seed, if the table has more.", min=1
        ),
    ] = None,
    target_accept_prob: Annotated[
        float,
        typer.Option(
            help="NUTS acceptance rate; closer to 1 is slower with fewer divergences.",
            min=0.5,
            max=0.999,
        ),
    ] = FitOptions.target_accept_prob,
    as_json: Json = False,
) -> None:
    """Fit the model of confidences and correctness to a table of results."""
    saved = open_output(output, POSTERIOR, inputs=[table, prices, logged_policy])
    start_jax(num_chains)
    from cascade_bayes.inference.effort import effort_sentence
    from cascade_bayes.inference.fit import fit_one
    from cascade_bayes.inference.preparation import prepare
    from cascade_bayes.inference.structure import find_selection
    from cascade_bayes.policy.policy import Policy
    from cascade_bayes.reading import overview, read_table

    data = read_table(
        table,
        confidence=confidence,
        models=split(models),
        prices=prices,
        logged_policy=None if logged_policy is None else Policy.load(logged_policy),
        **layout,
    )
    show_overview(overview(data), confidence, layout.get("grades"))
    selection = find_selection(data)
    is_log = selection is not None or (logged_policy is not None and not data.observed.all())
    options = FitOptions(
        method=method,
        seed=seed,
        guide=guide,  # type: ignore[arg-type]  # checked there
        num_steps=num_steps,
        structure=structure or ("chain" if is_log else None),  # type: ignore[arg-type]
        copula=(split(copula) or []) if "," in copula else copula,
        margin=margin,
        upstream=upstream,
        monotone=monotone,
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        max_queries=max_queries,
        target_accept_prob=target_accept_prob,
        progress=not as_json and sys.stderr.isatty(),
    )
    one = prepare(data, options)
    if not as_json:
        say.print(
            f"Fitting {data.num_models} models on {_queries(data, one.data, seed)}: {' > '.join(data.models)}"
        )
        effort = effort_sentence(one.data, one.spec.structure)
        if effort is not None:
            say.print(effort)
        if structure is None and is_log:
            found = "" if selection is None else f"{selection.sentence()} "
            say.print(
                f"{found}Read as the log of a running cascade: fitting one Markov chain (--structure chain)."
            )
    with warnings.catch_warnings():  # the verdict below says it
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = fit_one(one)
    verdict = posterior.convergence()
    posterior.save(saved)
    if as_json:
        print_json(
            {
                "output": str(output),
                **verdict._asdict(),
                "fit_seconds": posterior.provenance["fit_seconds"],
                "method": method,
                "num_draws": posterior.num_draws,
                "fit_digest": posterior.digest(),
                "structure": posterior.spec.structure,
                "copulas": [family.name for family in posterior.spec.copulas],
                "margin": posterior.spec.margin,
                "data": data.summary(),
            }
        )
    else:
        out.print(f"{verdict.sentence()}\nWrote {output} in {posterior.provenance['fit_seconds']:.0f} s.")
        if verdict.converged:
            ask = "--error-price 0.01" if data.units.cost == DOLLARS else "--budget 0.3"
            out.print(f"Next: cascade-bayes tune {output} {ask} -o policy.json", soft_wrap=True)
    if not verdict.converged:
        if as_json:
            say.print(verdict.sentence())
        raise typer.Exit(EXIT_FAILED)


def _queries(data: CascadeData, fitted: CascadeData, seed: int) -> str:
    """Return in words which queries of a table are fitted."""
    if fitted is data:
        return f"{data.num_queries} queries"
    return f"a random {fitted.num_queries} of the {data.num_queries} queries (--max-queries, --seed {seed})"
