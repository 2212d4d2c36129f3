"""``cascade-bayes guarantee``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade_bayes._kinds import POLICY
from cascade_bayes.cli.common import open_output, out, print_json, talk
from cascade_bayes.cli.options import (
    CONFIDENCE_HELP,
    Json,
    Prices,
    with_layout,
)
from cascade_bayes.cli.tables import guarantee_table


@with_layout
def guarantee(
    frontier_file: Annotated[
        Path, typer.Argument(metavar="FRONTIER", help="Frontier file written by `tune --frontier`.")
    ],
    holdout: Annotated[
        Path,
        typer.Argument(
            help="Labelled results that were not fitted, a random sample of queries to come; as for `fit`."
        ),
    ],
    target_error: Annotated[
        float, typer.Option(help="What the share of wrong answers is to be at most, such as 0.2.")
    ],
    delta: Annotated[float, typer.Option(help="Probability with which the promise may fail.")] = 0.05,
    max_cost: Annotated[
        float | None,
        typer.Option(
            help="What a query costs at most, in the unit of the policies' costs; the sum of the greatest "
            "costs of a call of each model in the table if left out."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the certified policy to this file.")
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(help=f"{CONFIDENCE_HELP} That of the frontier if left out.")
    ] = None,
    prices: Prices = None,
    *,
    layout: dict[str, Any],
    as_json: Json = False,
) -> None:
    """Certify the cheapest policy whose error keeps a target, whatever the model is worth.

    Exit code 4 if no policy can be certified by so many labels.
    """
    from cascade_bayes.policy import guarantee as certified
    from cascade_bayes.policy.points import load_policies
    from cascade_bayes.reading import AsFitted, read_for_policy

    inputs = [frontier_file, holdout, prices]
    with (
        nullcontext()
        if output is None
        else open_output(output, POLICY, inputs=inputs, as_json=as_json) as file
    ):
        policies = load_policies(frontier_file)
        models = list(dict.fromkeys(name for policy in policies for name in policy.models))
        cost = {name: c for p in policies for name, c in zip(p.models, p.call_cost.tolist(), strict=True)}
        as_fitted = AsFitted(policies[0].kind, policies[0].units, cost)
        data = read_for_policy(holdout, models, as_fitted, prices, confidence, **layout)
        found = certified.guarantee(policies, data, target_error=target_error, delta=delta, max_cost=max_cost)
        if file is not None:
            found.policy.save(file)
    if as_json:
        print_json(found.to_dict())
        return
    printer = out if file is None else talk(file)
    printer.print(guarantee_table(found))
    printer.print(found.sentence(), soft_wrap=True)
