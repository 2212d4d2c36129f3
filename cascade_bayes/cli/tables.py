"""Tables that the command line prints."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cascade_bayes._units import AS_THEY_STAND, DOLLARS, Units
from cascade_bayes.rule import LOWEST, describe_threshold, show_interval, show_threshold

if TYPE_CHECKING:
    from cascade_bayes.decision.information import Information
    from cascade_bayes.inference.checks import CheckResult
    from cascade_bayes.policy.guarantee import Guarantee
    from cascade_bayes.policy.policy import Policy
    from cascade_bayes.watching.watch import Watched


def _number(value: float) -> str:
    return f"{value:.4g}"


def _band(mean: float, low: float, high: float) -> str:
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def policy_table(policy: Policy) -> Table:
    """Return a policy's thresholds with their intervals, one model a row."""
    p = policy.prediction
    question = ", ".join(f"{k} {_number(v)}" for k, v in policy.question.items())
    predicted = [f"predicted error {_band(p.error, p.error_q05, p.error_q95)}"]
    unit = policy.units.cost
    predicted.append(f"cost {_band(p.cost, p.cost_q05, p.cost_q95)} {unit} per query")
    abstain = policy.abstain_thresholds
    if abstain is not None:
        predicted.append(f"no answer {_band(p.abstain, p.abstain_q05, p.abstain_q95)}")
    if not policy.terms.costs_alone:
        predicted.insert(2, f"expense {_band(p.expense, p.expense_q05, p.expense_q95)} {unit} per query")
    if p.latency is not None and p.latency_q05 is not None and p.latency_q95 is not None:
        predicted.append(f"latency {_band(p.latency, p.latency_q05, p.latency_q95)} s")
    table = Table(
        title=f"Policy for {question}"
        + ("" if policy.terms.costs_alone else f"; expense: {policy.terms.spelled_out(unit)}"),
        caption=", ".join(predicted) + " (90 % posterior bands)",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("model", overflow="fold")
    if abstain is not None:
        table.add_column("abstain below\n90 % interval", no_wrap=True, overflow="fold")
    table.add_column("defer below\n90 % interval", no_wrap=True, overflow="fold")  # digits stay together, all
    table.add_column("reached by", no_wrap=True)
    intervals = policy.threshold_interval(0.9)
    abstain_intervals = policy.abstain_interval(0.9) if abstain is not None else []
    for i, model in enumerate(policy.models):
        cells = []
        if abstain is not None:
            cells = [_lines(describe_threshold(abstain[i], "abstain"), abstain_intervals[i])]
        if i == len(policy.thresholds):
            cells += ["(last: always answers)" if abstain is None else "(last: answers the rest)"]
        else:
            cells += [_lines(describe_threshold(policy.thresholds[i]), intervals[i])]
        table.add_row(model, *cells, f"{p.reach_prob[i]:.1%}")
    return table


def _lines(described: str, interval: tuple[float, float]) -> str:
    """Return a threshold, what it does if that is said, and its interval, a line each."""
    return "\n".join([*described.replace(" (", "\n(").split("\n"), show_interval(*interval)])


def _shown(thresholds: list[float]) -> str:
    """Return thresholds in figures that decide as they do, each on a line."""
    return "\n".join(map(show_threshold, thresholds))


def frontier_table(rows: list[dict[str, Any]], units: Units = AS_THEY_STAND) -> Table:
    """Return the policies of a frontier, from `Frontier.records`, or of an envelope, each with its models.

    Neighbouring prices with the same policy are one row, with the lowest and the highest of them.
    """
    any_models, abstains = "prob_best" in rows[0], "expected_abstain" in rows[0]
    every = {t for row in rows for t in [*row["thresholds"], *row.get("abstain_thresholds", ())]}
    table = Table(
        title="Error-cost frontier, 90 % posterior bands",
        caption="lowest: below it is exact -inf alone" if LOWEST in every else None,
        title_justify="left",
        caption_justify="left",
    )
    for name in (f"error price, {units.short}", "expected error", f"expected cost, {units.short}/query"):
        table.add_column(name)
    for name in ("models",) if any_models else ():
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("thresholds", no_wrap=True, overflow="fold")  # digits stay together, all
    if abstains:
        table.add_column("no answer")
        table.add_column("abstain below", no_wrap=True, overflow="fold")
    if any_models:
        table.add_column("P(best)")
    for _, same in groupby(rows, key=_policy_of):
        alike = list(same)
        row = alike[0]
        more = []
        if abstains:
            band = (row[f"expected_abstain{end}"] for end in ("", "_q05", "_q95"))
            more = [_band(*band), _shown(row["abstain_thresholds"])]
        if any_models:
            more.append(_range([f"{row['prob_best']:.2f}" for row in sorted(alike, key=_prob_best)]))
        table.add_row(
            _range([_number(row["error_price"]) for row in alike]),
            _band(row["expected_error"], row["expected_error_q05"], row["expected_error_q95"]),
            _band(row["expected_cost"], row["expected_cost_q05"], row["expected_cost_q95"]),
            *(["\n".join(row["models"])] if any_models else []),
            _shown(row["thresholds"]),
            *more,
        )
    return table


def _policy_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells the policy of one point from that of another."""
    return row.get("models"), row["thresholds"], row.get("abstain_thresholds")


def _prob_best(row: dict[str, Any]) -> float:
    return float(row["prob_best"])


def _range(values: list[str]) -> str:
    """Return the first and the last of some values, on a line each; once if they read alike."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to\n{values[-1]}"


_REALISED = {
    "error": "wrong answers",
    "abstain": "no answer",
    "cost": "cost, {unit} per query",
    "latency": "latency, s per query",
}
"""Figures of an evaluation, and what they are called."""


def evaluation_table(row: dict[str, Any], units: Units = AS_THEY_STAND) -> Table:
    """Return realised against predicted figures of one policy, from `Policy.evaluate`, a figure a row."""
    table = Table(
        title=f"Realised on {row['num_queries']} queries, at {_number(row['error_price'])} {units.cost} per "
        "wrong answer",
        title_justify="left",
    )
    for name in ("", "realised, with 90 % interval", "predicted, with 90 % band"):
        table.add_column(name)
    for name, what in _REALISED.items():
        if row[f"realised_{name}"] is None or row[f"expected_{name}"] is None:
            continue
        if name == "abstain" and not (row["realised_abstain"] or row["expected_abstain"]):
            continue
        table.add_row(what.format(unit=units.short), *_against(row, name))
    return table


def evaluations_table(rows: list[dict[str, Any]], units: Units = AS_THEY_STAND) -> Table:
    """Return realised against predicted figures of many policies, a policy a row."""
    table = Table(
        title=f"Realised on {rows[0]['num_queries']} queries, and below it predicted, with 90 % intervals",
        title_justify="left",
    )
    figures = ["error", "cost"]
    if any(row["expected_abstain"] or row["realised_abstain"] for row in rows):
        figures.append("abstain")
    table.add_column(f"error price, {units.short}")
    for name in figures:
        table.add_column(_REALISED[name].format(unit=units.short))
    for row in rows:
        table.add_row(_number(row["error_price"]), *("\n".join(_against(row, name)) for name in figures))
    return table


def _against(row: dict[str, Any], name: str) -> tuple[str, str]:
    """Return a realised figure with its bootstrap interval, and the predicted one with its band."""
    realised, predicted = (
        _band(*(row[f"{which}_{name}{end}"] for end in ("", "_q05", "_q95")))
        for which in ("realised", "expected")
    )
    return realised, predicted


def rival_sentence(rival: dict[str, Any], cost_unit: str = DOLLARS) -> str:
    """Say what the best pair, or the best single model, would do instead of the policy that was chosen."""
    what = {"pair": "cascade of two", "single": "single model"}[rival["kind"]]
    if rival["models"] is None:
        return f"No {what} meets the request."
    best = f"Best {what}: {' > '.join(rival['models'])}"
    if rival["kind"] == "pair" and len(rival["models"]) == 1:
        best = f"No cascade of two is better than one model: {rival['models'][0]}"
    said = (
        f"{best}, expected error {rival['expected_error']:.4g} ({rival['extra_error']:+.2g}), cost "
        f"{rival['expected_cost']:.4g} ({rival['extra_cost']:+.2g})"
    )
    if rival["extra_expense"] != rival["extra_cost"]:
        said += f", expense {rival['expected_expense']:.4g} ({rival['extra_expense']:+.2g})"
    if "extra_loss" not in rival:
        return said + "."
    extra = round(1000 * rival["extra_loss"], 9)
    return f"{said}; it loses {extra:.3g} {cost_unit} more per thousand queries."


def information_table(found: Information) -> Table:
    """Return what more queries are worth, a row for each kind of labels and a column for each number."""
    table = Table(
        title=f"Worth of more queries for {' > '.join(found.models)}, {found.cost_unit} per 1000 queries "
        "served",
        caption=f"at {found.error_price:g} {found.cost_unit} per wrong answer; perfect knowledge "
        f"{_number(1000 * found.evpi)}. In brackets by how much the interval of each threshold shrinks, in "
        f"this order: {', '.join(found.thresholds)}.",
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


def overview_table(record: dict[str, Any]) -> Table:
    """Return what a table of results holds, from `cascade_bayes.reading.overview`, one model a row."""
    table = Table(
        title=f"Read {record['num_queries']} queries of {len(record['models'])} models, confidences of kind "
        f"{record['kind']}",
        title_justify="left",
    )
    table.add_column("model", overflow="fold")
    for name in ("calls", "labels", "right", "median\nconfidence", f"mean {record['cost_unit']}\nper call"):
        table.add_column(name, justify="right")
    for row in record["models"]:
        accuracy, median = row["accuracy"], row["median_confidence"]
        table.add_row(
            row["model"],
            str(row["num_calls"]),
            str(row["num_labels"]),
            "" if accuracy is None else f"{accuracy:.1%}",
            "" if median is None else _number(median),
            _number(row["call_cost"]),
        )
    return table


def guarantee_table(found: Guarantee) -> Table:
    """Return the tests that led to a certified policy, one policy a row."""
    unit = found.policy.units.short
    table = Table(
        title=f"Is the error at most {_number(found.target_error)}? Tests from the safest policy on",
        title_justify="left",
    )
    for name in ("price of an error", "models", "wrong", f"cost, {unit}", "p-value", "certified"):
        table.add_column(name, overflow="fold")
    for row in found.tested:
        cells = [_number(row["error_price"]), " > ".join(row["models"]), f"{100 * row['error']:.3g} %"]
        table.add_row(
            *cells, _number(row["cost"]), _number(row["p_value"]), "yes" if row["certified"] else "no"
        )
    return table


def watched_table(found: Watched) -> Table:
    """Return the evidence of a change in each figure of each model, the greatest first."""
    records = sorted(found.records(), key=lambda row: -row["log10_evidence"])
    table = Table(
        title=f"Evidence of a change since the fit, {found.num_queries} queries",
        caption=f"the alarm is raised at 10^{found.needed / math.log(10):.3g}",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("model", "figure", "new values", "greatest evidence", "alarm"):
        table.add_column(name, overflow="fold")
    for row in records:
        evidence = f"10^{row['log10_evidence']:.3g}"
        alarm = "yes" if row["alarm"] else ""
        table.add_row(row["model"], row["figure"], str(row["num_new"]), evidence, alarm)
    return table
