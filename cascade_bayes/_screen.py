"""Tables that the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from cascade_bayes.decision.information import Information
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.inference.checks import CheckResult


def _number(value: float) -> str:
    return f"{value:.4g}"


def _band(mean: float, low: float, high: float) -> str:
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def policy_table(policy: Policy) -> Table:
    """Return a policy's thresholds with their intervals, one model a row."""
    from cascade_bayes.plots import describe_threshold

    p = policy.prediction
    question = ", ".join(f"{k} {_number(v)}" for k, v in policy.question.items())
    predicted = [f"predicted error {_band(p.error, p.error_q05, p.error_q95)}"]
    predicted.append(f"cost {_band(p.cost, p.cost_q05, p.cost_q95)} US dollars per query")
    abstain = policy.abstain_thresholds
    if abstain is not None:
        predicted.append(f"no answer {_band(p.abstain, p.abstain_q05, p.abstain_q95)}")
    if p.latency is not None and p.latency_q05 is not None and p.latency_q95 is not None:
        predicted.append(f"latency {_band(p.latency, p.latency_q05, p.latency_q95)} s")
    table = Table(
        title=f"Policy for {question}"
        + ("" if policy.terms.costs_alone else f"; expense: {policy.terms.spelled_out()}"),
        caption=", ".join(predicted) + " (90 % posterior bands)",
        title_justify="left",
        caption_justify="left",
    )
    names = ["model", "defer below", "90 % interval", "reached by"]
    if abstain is not None:
        names[1:1] = ["abstain below", "90 % interval"]
    for name in names:
        table.add_column(name)
    intervals = policy.threshold_interval(0.9)
    abstain_intervals = policy.abstain_interval(0.9) if abstain is not None else []
    for i, model in enumerate(policy.models):
        cells = []
        if abstain is not None:
            cells = [describe_threshold(abstain[i], "abstain"), _ends(*abstain_intervals[i])]
        if i == len(policy.thresholds):
            cells += [f"(last: {'always answers' if abstain is None else 'answers the rest'})", ""]
        else:
            cells += [describe_threshold(policy.thresholds[i]), _ends(*intervals[i])]
        table.add_row(model, *cells, f"{p.reach_prob[i]:.1%}")
    return table


def _ends(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def frontier_table(rows: list[dict[str, Any]]) -> Table:
    """Return the points of a frontier, from `Frontier.records`, or of an envelope, each with its models."""
    any_models, abstains = "prob_best" in rows[0], "expected_abstain" in rows[0]
    table = Table(title="Error-cost frontier, 90 % posterior bands", title_justify="left")
    for name in ("error price, $", "expected error", "expected cost, $/query", "thresholds"):
        table.add_column(name)
    for name in ("no answer", "abstain below") if abstains else ():
        table.add_column(name)
    for name in ("models", "P(best)") if any_models else ():
        table.add_column(name)
    for row in rows:
        more = []
        if abstains:
            band = (row[f"expected_abstain{end}"] for end in ("", "_q05", "_q95"))
            more = [_band(*band), " ".join(f"{t:.3g}" for t in row["abstain_thresholds"])]
        if any_models:
            more += [" > ".join(row["models"]), f"{row['prob_best']:.2f}"]
        table.add_row(
            _number(row["error_price"]),
            _band(row["expected_error"], row["expected_error_q05"], row["expected_error_q95"]),
            _band(row["expected_cost"], row["expected_cost_q05"], row["expected_cost_q95"]),
            " ".join(f"{t:.3g}" for t in row["thresholds"]),
            *more,
        )
    return table


def evaluation_table(rows: list[dict[str, Any]]) -> Table:
    """Return realised against predicted figures, from `Policy.evaluate`, one policy a row."""
    table = Table(
        title=f"Realised on {rows[0]['num_queries']} queries, against predicted with 90 % band",
        title_justify="left",
    )
    figures = {"error": "error", "cost": "cost, $"}
    if any(row["expected_abstain"] or row["realised_abstain"] for row in rows):
        figures["abstain"] = "share without an answer"
    if all(row["expected_latency"] is not None and row["realised_latency"] is not None for row in rows):
        figures["latency"] = "latency, s"
    table.add_column("error price, $")
    for name in figures.values():
        table.add_column(f"realised {name}")
        table.add_column("predicted")
    for row in rows:
        cells = [_number(row["error_price"])]
        for name in figures:
            cells.append(f"{_number(row[f'realised_{name}'])} ± {_number(row[f'realised_{name}_se'])}")
            cells.append(_band(*(row[f"expected_{name}{end}"] for end in ("", "_q05", "_q95"))))
        table.add_row(*cells)
    return table


def rival_sentence(rival: dict[str, Any]) -> str:
    """Say what the best pair, or the best single model, would do instead of the policy that was chosen."""
    what = {"pair": "cascade of two", "single": "single model"}[rival["kind"]]
    if rival["models"] is None:
        return f"No {what} meets the request."
    said = (
        f"Best {what}: {' > '.join(rival['models'])}, expected error {rival['expected_error']:.4g} "
        f"({rival['extra_error']:+.2g}), cost {rival['expected_cost']:.4g} ({rival['extra_cost']:+.2g})"
    )
    if "extra_loss" not in rival:
        return said + "."
    extra = round(1000 * rival["extra_loss"], 9)
    return f"{said}; it loses {extra:.3g} US dollars more per thousand queries."


def information_table(found: Information) -> Table:
    """Return what more queries are worth, a row for each kind of labels and a column for each number."""
    table = Table(
        title=f"Worth of more queries for {' > '.join(found.models)}, US dollars per 1000 queries served",
        caption=f"at {found.error_price:g} US dollars per wrong answer; perfect knowledge "
        f"{_number(1000 * found.evpi)}. In brackets how much the thresholds' intervals shrink.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("labels of")
    for size in found.num_queries:
        table.add_column(f"{size} queries")
    for i, name in enumerate(found.labels):
        cells = [
            f"{1000 * worth:.2g} ({', '.join(f'{share:.0%}' for share in narrowing)})"
            for worth, narrowing in zip(found.evsi[i], found.narrowing[i], strict=True)
        ]
        table.add_row(name, *cells)
    return table


def check_table(result: CheckResult) -> Table:
    """Return what was asked of a fit, one check a row."""
    from cascade_bayes.inference.checks import ABOUT

    table = Table(title="Checks of the fit", title_justify="left")
    for name in ("check", "asks whether", "passed", "smallest p"):
        table.add_column(name)
    for name, about in ABOUT.items():
        findings = result.of(name)
        asked = [f for f in findings if f.passed is not None]
        p_values = [f.p_value for f in asked if f.p_value is not None]
        failed = any(not f.passed for f in asked)
        table.add_row(
            name,
            about,
            f"{sum(bool(f.passed) for f in asked)} of {len(asked)}" if asked else "not asked",
            _number(min(p_values)) if p_values else "",
            style="bold red" if failed else None,
        )
    return table
