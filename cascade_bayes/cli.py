"""The command line: ``cascade-bayes demo | fit | check | tune | worth | evaluate``.

Exit codes: 0 done; 2 bad usage or input; 3 the fit did not converge or failed a check; 4 no policy meets the
request.
With ``--json`` standard output holds one JSON object and nothing else; all talk goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cascade_bayes._files import encode
from cascade_bayes._screen import (
    check_table,
    evaluation_table,
    evaluations_table,
    frontier_table,
    information_table,
    policy_table,
    rival_sentence,
)
from cascade_bayes.errors import ConvergenceWarning, InfeasibleError, InputError

if TYPE_CHECKING:
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.inference.checks import CheckResult
    from cascade_bayes.inference.posterior import Posterior

EXIT_INPUT, EXIT_FAILED, EXIT_INFEASIBLE = 2, 3, 4

app = typer.Typer(
    name="cascade-bayes",
    help="Tune cascades of language models: deferral thresholds of least expected cost, with their "
    "uncertainty.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 2 bad usage or input, 3 the fit did not converge or failed a check, "
    "4 infeasible request.",
)

# No markup: parameters are named like `slope[small]`, and models as users please.
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
out = Console(highlight=False, markup=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Models = Annotated[
    str | None,
    typer.Option(
        "--models", help="Comma-separated models in cascade order, cheapest first.", metavar="A,B,..."
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
Confidence = Annotated[
    str, typer.Option("--confidence", help="Kind of confidence: logprob, probability or score.")
]


@app.command()
def fit(
    table: Annotated[
        Path, typer.Argument(help="Results: CSV, Parquet or JSON Lines, one row per query and model.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Posterior file to write (NetCDF).")],
    confidence: Confidence = "logprob",
    models: Models = None,
    prices: Prices = None,
    logged_policy: Annotated[
        Path | None,
        typer.Option(help="Policy under which a running cascade wrote the table; checked against its rows."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.", min=0)] = 0,
    method: Annotated[
        str,
        typer.Option(
            help="nuts; auto: NUTS with a short warm-up; svi, laplace: approximations, corrected by "
            "importance sampling, with a verdict on how close they are; map: the posterior mode alone.",
            metavar="nuts|auto|svi|laplace|map",
        ),
    ] = "nuts",
    guide: Annotated[
        str, typer.Option(help="Family that svi fits.", metavar="mean_field|low_rank|full_rank|flow")
    ] = "full_rank",
    num_steps: Annotated[int, typer.Option(help="Steps that svi takes.", min=1)] = 1000,
    structure: Annotated[
        str | None,
        typer.Option(
            help="modular: margins first, then every pair of models given them; chain: one Markov chain of "
            "all models, sampled together. [default: modular, or chain if queries lack rows of some models]",
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
    ] = "gumbel",
    margin: Annotated[
        str, typer.Option(help="Family of the confidences' margins: logit_normal or beta.", metavar="NAME")
    ] = "logit_normal",
    upstream: Annotated[
        bool,
        typer.Option(help="Let the previous model's confidence count in how often a model is right."),
    ] = True,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Keep being right from becoming rarer with confidence.")
    ] = False,
    chains: Annotated[int, typer.Option(help="Markov chains.", min=1)] = 4,
    num_warmup: Annotated[
        int | None,
        typer.Option(help="Warm-up draws of each chain.", min=10, show_default="300; for auto 100"),
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Kept draws of each chain.", min=10)] = 1000,
    target_accept: Annotated[
        float,
        typer.Option(
            help="NUTS acceptance rate; closer to 1 is slower with fewer divergences.", min=0.5, max=0.999
        ),
    ] = 0.9,
    as_json: Json = False,
) -> None:
    """Fit the model of confidences and correctness to a table of results."""
    _check_output(output)
    _start_jax(chains)
    from cascade_bayes.copulas import get_copulas
    from cascade_bayes.data import check_fittable, read_table
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.errors import DataWarning
    from cascade_bayes.inference.fit import fit as fit_posterior
    from cascade_bayes.inference.prepare import check_method, default_structure
    from cascade_bayes.model.margins import get_margin

    data = read_table(
        table,
        confidence=confidence,
        models=_split(models),
        prices=prices,
        logged_policy=None if logged_policy is None else Policy.load(logged_policy),
    )
    get_margin(margin)
    check_method(method, guide)
    families = (_split(copula) or []) if "," in copula else copula
    chosen, structure = structure, structure or default_structure(data)
    num_pairs = data.num_models - 1 if structure == "chain" else math.comb(data.num_models, 2)
    if families != "auto":
        get_copulas(families, num_pairs)
    with warnings.catch_warnings():  # `fit` gives the warnings
        warnings.simplefilter("ignore", DataWarning)
        check_fittable(data)
    if not as_json:
        say.print(
            f"Fitting {data.num_models} models on {data.num_queries} queries: {' > '.join(data.models)}"
        )
        if chosen is None and structure == "chain":
            say.print("Some queries lack rows of some models: fitting one Markov chain (--structure chain).")
    with warnings.catch_warnings():  # the verdict below says it
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = fit_posterior(
            data,
            method,
            seed=seed,
            guide=guide,  # type: ignore[arg-type]  # checked there
            num_steps=num_steps,
            copula=families,
            margin=margin,
            structure=structure,  # type: ignore[arg-type]  # checked there
            upstream=upstream,
            monotone=monotone,
            num_chains=chains,
            num_warmup=num_warmup,
            num_samples=num_samples,
            target_accept_prob=target_accept,
            progress=not as_json and sys.stderr.isatty(),
        )
    verdict = posterior.convergence()
    posterior.save(output)
    if as_json:
        _print_json(
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
        out.print(f"Next: cascade-bayes tune {output} --error-price 0.01 -o policy.json", soft_wrap=True)
    if not verdict.converged:
        if as_json:
            say.print(verdict.sentence())
        raise typer.Exit(EXIT_FAILED)


@app.command()
def check(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="Policy whose deferred queries to look at; else those below the median before.",
            metavar="FILE",
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to write pictures to; made if need be.", metavar="FOLDER")
    ] = None,
    level: Annotated[
        float, typer.Option(help="Probability with which a right model may fail any of the tests.")
    ] = 0.01,
    draws: Annotated[int, typer.Option(help="Posterior draws at which the tests are made.", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Ask whether a fit's draws, its model and its predictions can be trusted."""
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise InputError(f"--pictures {pictures} is a file; name a folder.")
    _start_jax()
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.inference.checks import check as check_posterior
    from cascade_bayes.inference.posterior import Posterior

    policy = None if policy_file is None else Policy.load(policy_file)
    posterior = Posterior.load(posterior_file)
    result = check_posterior(posterior, policy, level=level, num_draws=draws, seed=seed)
    written = [] if pictures is None else _draw_checks(pictures, posterior, policy, result)
    if as_json:
        _print_json({**result.to_dict(), "pictures": [str(path) for path in written]})
    else:
        out.print(check_table(result))
        for word, style, findings in (
            ("Not asked:", "bold yellow", result.not_asked),
            ("Failed:", "bold red", result.failures),
        ):
            for found in findings:
                _print_marked(word, style, f"{found.check}, {found.subject}: {found.sentence}")
        out.print(result.sentence() if result.passed else f"{len(result.failures)} questions failed.")
        if written:
            out.print(f"Wrote {len(written)} pictures to {pictures}.")
    if not result.passed:
        raise typer.Exit(EXIT_FAILED)


@app.command()
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
        int | None, typer.Option(help="Number of error prices to sweep; writes them all.", min=2)
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
    draws: Annotated[int, typer.Option(help="Posterior draws to average over.", min=2)] = 200,
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
    as_json: Json = False,
) -> None:
    """Find models and thresholds: for a price of an error, a budget, an error target, or a whole frontier."""
    asked = [x for x in (error_price, budget, target_error, frontier) if x is not None]
    if len(asked) != 1:
        raise InputError("give exactly one of --error-price, --budget, --target-error, --frontier.")
    if error_price is not None and not error_price > 0:
        raise InputError(f"--error-price must be positive, US dollars per wrong answer; got {error_price}.")
    _check_output(output)
    _start_jax()
    from cascade_bayes.decision.envelope import Envelope
    from cascade_bayes.decision.frontier import DEFAULT_PRICES
    from cascade_bayes.decision.points import check_question
    from cascade_bayes.decision.rows import PRIOR_QUERIES
    from cascade_bayes.decision.tuning import error_cost_frontier
    from cascade_bayes.inference.posterior import Posterior

    if frontier is None:
        check_question(error_price, budget, target_error, probability)
    posterior = Posterior.load(posterior_file)
    weight = PRIOR_QUERIES if prior_queries is None else prior_queries
    chosen = {"all": None, "any": "any"}.get(models, _split(models))
    if chosen == "any":
        say.print(f"Trying every cascade of {len(posterior.models)} models; --models all takes less time.")
    prices = [error_price] if error_price is not None else frontier or DEFAULT_PRICES
    terms: dict[str, Any] = {
        "latency_price": latency_price,
        "abstain_price": abstain_price,
        "abstain": abstain,
        "constant_costs": constant_costs,
    }
    swept = error_cost_frontier(
        posterior, models=chosen, error_prices=prices, num_draws=draws, prior_queries=weight, **terms
    )
    asked_of: Policy | Frontier | Envelope = swept
    rivals: list[dict[str, Any]] = []
    if frontier is not None:
        swept.save(output)
        shown: dict[str, Any] = {"output": str(output), "points": swept.points()}
        table = frontier_table(swept.records())
    else:
        question: dict[str, Any] = {
            "error_price": error_price,
            "budget": budget,
            "target_error": target_error,
            "confidence": probability,
        }
        policy = swept.at(**question)
        policy.save(output)
        shown = {"output": str(output), **policy.to_dict()}
        del shown["draw_thresholds"], shown["draw_abstain_thresholds"]
        table, asked_of = policy_table(policy), policy
        if isinstance(swept, Envelope):
            priced = error_price is not None
            for kind, rival in swept.beside(**question).items():
                rivals.append(_rival_record(kind, rival, policy, priced))
            shown["beside"] = rivals
    certificate = None
    if certify:
        from cascade_bayes.decision.certificate import certify as certify_policies

        certificate = certify_policies(posterior, asked_of, num_draws=draws)
        shown["certificate"] = {"sentence": certificate.sentence(), "points": certificate.records()}
    if as_json:
        _print_json(shown)
        return
    out.print(table)
    for rival in rivals:
        out.print(rival_sentence(rival), soft_wrap=True)
    if certificate is not None:
        out.print(certificate.sentence(), soft_wrap=True)
    out.print(f"Wrote {output}. Next: cascade-bayes evaluate {output} TABLE", soft_wrap=True)


@app.command()
def worth(
    posterior_file: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="File written by `fit`.")],
    policy_file: Annotated[
        Path,
        typer.Argument(metavar="POLICY", help="Policy written by `tune`: its cascade and price of an error."),
    ],
    queries: Annotated[
        str, typer.Option(help="Numbers of further queries to ask about.", metavar="N,N,...")
    ] = "30,100,300",
    draws: Annotated[int, typer.Option(help="Posterior draws, each with new queries.", min=50)] = 500,
    prior_queries: PriorQueries = None,
    seed: Annotated[int, typer.Option(help="Seed of the new queries.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Say what more labelled queries would save, and of which model to buy labels next."""
    sizes = _whole_numbers("--queries", queries)
    _start_jax()
    from cascade_bayes.decision.information import value_of_information
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.decision.rows import PRIOR_QUERIES
    from cascade_bayes.inference.posterior import Posterior

    policy, posterior = Policy.load(policy_file), Posterior.load(posterior_file)
    if policy.fit_digest != posterior.digest():
        say.print(f"{policy_file} was not tuned on {posterior_file}: asking the latter all the same.")
    weight = PRIOR_QUERIES if prior_queries is None else prior_queries
    found = value_of_information(posterior, policy, sizes, num_draws=draws, prior_queries=weight, seed=seed)
    if as_json:
        record = {"error_price": found.error_price, "models": list(found.models)}
        perfect = {"evpi_per_1000": 1000 * found.evpi, "sentence": found.sentence()}
        _print_json(record | perfect | {"points": found.records()})
        return
    out.print(information_table(found))
    out.print(found.sentence(), soft_wrap=True)


@app.command()
def evaluate(
    policy_file: Annotated[
        Path, typer.Argument(metavar="POLICY", help="Policy or frontier file written by `tune`.")
    ],
    table: Annotated[Path, typer.Argument(help="Labelled results, as for `fit`.")],
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Run a policy, or every point of a frontier, over labelled results: realised error and cost."""
    from cascade_bayes.decision.policy import SCHEMA as POLICY_SCHEMA
    from cascade_bayes.decision.policy import Policy, read_for

    if _schema_of(policy_file) == POLICY_SCHEMA:
        policies, single = [Policy.load(policy_file)], True
    else:
        from cascade_bayes.decision.points import load_policies

        policies, single = load_policies(policy_file), False
    # Points of an envelope are of models of their own.
    models = list(dict.fromkeys(name for policy in policies for name in policy.models))
    data = read_for(models, policies[0].kind, table, prices)
    rows = []
    for policy in policies:
        result, low = policy.evaluate(data), policy.abstain_thresholds
        abstaining = {} if low is None else {"abstain_thresholds": [encode(t) for t in low]}
        rows.append(
            {
                "error_price": policy.error_price,
                "models": list(policy.models),
                "thresholds": [encode(t) for t in policy.thresholds],
                **abstaining,
                **result.to_dict(),
            }
        )
    if as_json:
        _print_json(rows[0] if single else {"points": rows})
        return
    if not single:
        out.print(evaluations_table(rows))
        return
    out.print(evaluation_table(rows[0]))
    out.print(rows[0]["verdict"], soft_wrap=True)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures and files.")] = Path(
        "cascade-bayes-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of all randomness.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Fit, tune and evaluate the bundled example, a table simulated from known parameters."""
    _start_jax(4)
    from cascade_bayes.demo import run_demo

    result = run_demo(output, seed=seed, talk=say.print)
    if as_json:
        _print_json(result.to_dict())
    else:
        out.print(result.screen())
    if not result.converged:
        raise typer.Exit(EXIT_FAILED)


# Helpers


def _start_jax(num_chains: int = 1) -> None:
    """Switch on 64-bit arithmetic, and give each chain a processor core where there are enough."""
    import jax

    from cascade_bayes.inference.devices import largest_divisor

    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # the devices of a process that computes are what they are
            jax.config.update("jax_num_cpu_devices", largest_divisor(num_chains, cores))


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


def _split(models: str | None) -> list[str] | None:
    return None if models is None else [name.strip() for name in models.split(",") if name.strip()]


def _whole_numbers(flag: str, text: str) -> list[int]:
    """Read a comma-separated list of numbers of at least 1."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"{flag} must be whole numbers of at least 1, with commas between; got {text!r}.")
    return numbers


def _check_output(path: Path) -> None:
    """Refuse an output that cannot be written before minutes are spent on computing it."""
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"--output {path}: the folder {path.parent} cannot be written to.")


def _schema_of(path: Path) -> Any:
    """Return the schema named in a JSON file; refuse a file that is not ours."""
    if not path.is_file():
        raise InputError(f"policy file {path} does not exist; make one with `cascade-bayes tune`.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not a policy or frontier file, or it was cut short ({error}). Make it again with "
            "`cascade-bayes tune`."
        ) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    known = ("cascade_bayes.policy", "cascade_bayes.frontier")
    if schema not in known:
        raise InputError(
            f"{path} is not a policy or frontier file of cascade_bayes (its schema is {schema!r}). Make "
            "one with `cascade-bayes tune`."
        )
    return schema


def _print_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, indent=1, allow_nan=False))


def main() -> None:
    """Run the command line; turn errors of input into one sentence and an exit code."""
    warnings.showwarning = _show_warning
    started = time.perf_counter()
    try:
        app(standalone_mode=True)
    except InfeasibleError as error:
        _print_marked("Infeasible:", "bold red", error)
        sys.exit(EXIT_INFEASIBLE)
    except InputError as error:
        _print_marked("Error:", "bold red", error)
        sys.exit(EXIT_INPUT)
    except KeyboardInterrupt:
        say.print(f"Interrupted after {time.perf_counter() - started:.0f} s; no file was changed.")
        sys.exit(130)


def _print_marked(word: str, style: str, text: object) -> None:
    from rich.text import Text

    say.print(Text.assemble((word, style), f" {text}"))


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the source line that means nothing to a user."""
    _print_marked("Warning:", "bold yellow", message)


if __name__ == "__main__":
    main()
