"""``cascade-bayes evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cascade_bayes._files import encode
from cascade_bayes.cli.common import exit_if_rejected, out, print_json, show_verdict, verdict_record
from cascade_bayes.cli.options import (
    CONFIDENCE_HELP,
    AcceptRejectedFit,
    Json,
    Prices,
    with_layout,
)
from cascade_bayes.cli.tables import evaluation_table, evaluations_table


@with_layout
def evaluate(
    policy_file: Annotated[
        Path, typer.Argument(metavar="POLICY", help="Policy or frontier file written by `tune`.")
    ],
    table: Annotated[Path, typer.Argument(help="Labelled results, as for `fit`.")],
    confidence: Annotated[
        str | None, typer.Option(help=f"{CONFIDENCE_HELP} That of the policy if left out.")
    ] = None,
    prices: Prices = None,
    *,
    layout: dict[str, Any],
    accept_rejected_fit: AcceptRejectedFit = False,
    as_json: Json = False,
) -> None:
    """Run a policy, or every point of a frontier, over labelled results: realised error and cost."""
    from cascade_bayes.policy.file import read
    from cascade_bayes.policy.points import policies_of
    from cascade_bayes.policy.policy import Policy
    from cascade_bayes.policy.schema import FrontierRecord, PolicyRecord
    from cascade_bayes.reading import AsFitted, read_for_policy

    record = read(policy_file, PolicyRecord, FrontierRecord)
    is_single = isinstance(record, PolicyRecord)
    policies = [Policy.from_record(record)] if isinstance(record, PolicyRecord) else policies_of(record)
    verdict = policies[0].fit_verdict
    show_verdict(verdict)
    # Points of an envelope are of models of their own.
    models = list(dict.fromkeys(name for policy in policies for name in policy.models))
    cost = {name: c for p in policies for name, c in zip(p.models, p.call_cost.tolist(), strict=True)}
    as_fitted = AsFitted(policies[0].kind, policies[0].units, cost)
    data = read_for_policy(table, models, as_fitted, prices, confidence, **layout)
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
        print_json((rows[0] if is_single else {"points": rows}) | verdict_record(verdict))
    elif is_single:
        out.print(evaluation_table(rows[0], policies[0].units))
        out.print(rows[0]["verdict"], soft_wrap=True)
    else:
        out.print(evaluations_table(rows, policies[0].units))
    exit_if_rejected(verdict, accept_rejected_fit)
