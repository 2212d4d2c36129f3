"""The HTML page of a report, from its facts: a template in which every text is escaped."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes._kinds import REPORT_MARK
from cascade_bayes._shown import number
from cascade_bayes._units import DOLLARS
from cascade_bayes.decision.information import Information
from cascade_bayes.inference.checks import ABOUT, ADVICE
from cascade_bayes.policy.shown import PER_THOUSAND, PERCENT, question_of
from cascade_bayes.reporting.facts import Facts
from cascade_bayes.reporting.pictures import frontier_picture, reliability_pictures, threshold_pictures
from cascade_bayes.reporting.words import (
    alternatives,
    dollars,
    on_scale,
    percent,
    recommendation,
    rivals_missing,
    steps,
)
from cascade_bayes.rule import show_interval

MAX_POINTS = 12
"""Points of the frontier that its table has, at most: as many as differ enough to choose among."""


class Table(NamedTuple):
    """A table of the page.

    Attributes
    ----------
    columns
        Names of its columns, with units.
    rows
        Cells, as text.
    """

    columns: list[str]
    rows: list[list[str]]


def make_page(facts: Facts) -> str:
    """Return the report as one HTML file, in which nothing refers to another."""
    return str(_template().render(_entries(facts)))


@cache
def _template() -> Any:
    """Return the template, in an environment that escapes whatever is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cascade_bayes.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _entries(facts: Facts) -> dict[str, Any]:
    """Return what the template shows: texts, tables, and pictures as SVG that is safe to stand as it is."""
    from markupsafe import Markup

    posterior, policy = facts.posterior, facts.policy
    verdict = posterior.fit_verdict
    return {
        "mark": REPORT_MARK,
        "title": f"{policy.models[0]} alone"
        if len(policy.models) == 1
        else f"Cascade of {', '.join(policy.models)}",
        "subtitle": f"Fitted to {posterior.data.num_queries} queries of {len(posterior.models)} models; "
        f"decided for {question_of(policy)}.",
        "recommendation": recommendation(facts),
        "steps": steps(policy),
        "tiles": _tiles(facts),
        "rejected": None if verdict.trusted else verdict.sentence,
        "decision": facts.checks.decision(),
        "models": _models(facts),
        "reliability": [
            (name, Markup(svg))
            for name, svg in zip(posterior.models, reliability_pictures(facts), strict=True)
        ],
        "frontier_picture": Markup(frontier_picture(facts)),
        "frontier": _frontier(facts),
        "realised": None if facts.evaluation is None else _realised(facts),
        "realised_sentence": "" if facts.evaluation is None else facts.evaluation.sentence(),
        "thresholds": _thresholds(facts),
        "threshold_pictures": [Markup(svg) for svg in threshold_pictures(facts)],
        "alternatives": Table(*alternatives(facts)),
        "missing": rivals_missing(facts),
        "checks": _checks(facts),
        "failures": [(f"{found.check}, {found.subject}", found.sentence) for found in facts.checks.failures],
        "worth": _worth(facts.worth) if isinstance(facts.worth, Information) else None,
        "worth_sentence": facts.worth.sentence()
        if isinstance(facts.worth, Information)
        else _sentence(facts.worth),
        "made": _made(facts),
    }


def _sentence(message: str) -> str:
    """Return a message as a sentence that begins with a capital letter."""
    return message[:1].upper() + message[1:]


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """Return the three or four figures that a reader looks for: what, value, and its interval or remark."""
    p, policy = facts.policy.prediction, facts.policy
    largest = facts.alone[facts.largest]

    def amount(cost: float) -> str:
        shown = f"{PER_THOUSAND * cost:.3g}"
        return f"${shown}" if policy.units.cost == DOLLARS else f"{shown} {policy.units.cost}"

    tiles = [
        (
            "wrong answers",
            f"{PERCENT * p.error:.3g} %",
            f"90 %: {PERCENT * p.error_q05:.3g} to {PERCENT * p.error_q95:.3g} %",
        ),
        (
            "cost of 1000 queries",
            amount(p.cost),
            f"90 %: {amount(p.cost_q05)} to {amount(p.cost_q95)}"
            if p.cost_q05 < p.cost_q95
            else "every query costs the same",
        ),
    ]
    if policy.abstain_thresholds is not None:
        tiles.append(("no answer", f"{PERCENT * p.abstain:.3g} %", "of queries are left without one"))
    if policy.models != (facts.largest,):
        tiles.append(
            (
                f"{facts.largest} alone",
                amount(largest.cost),
                f"of 1000 queries, {PERCENT * largest.error:.3g} % wrong",
            )
        )
    return tiles


def _models(facts: Facts) -> Table:
    """Return the table of models; the interval of an accuracy is that of its labels alone (Jeffreys)."""
    from scipy.stats import beta

    summary, rows = facts.posterior.data.summary(), []
    unit = facts.posterior.data.units.cost
    for name in facts.posterior.models:
        labels, accuracy = summary["num_labelled"][name], summary["accuracy"][name]
        right = "no labels"
        if accuracy is not None:
            hits = round(accuracy * labels)
            low, high = beta.ppf([0.05, 0.95], hits + 0.5, labels - hits + 0.5)
            right = f"{PERCENT * accuracy:.3g} ({PERCENT * low:.3g} to {PERCENT * high:.3g})"
        rows.append(
            [
                name,
                str(summary["num_observed"][name]),
                str(labels),
                right,
                number(PER_THOUSAND * summary["call_cost"][name]),
            ]
        )
    return Table(["model", "queries", "labels", "right, % (90 %)", f"{unit} per 1000 calls"], rows)


def _frontier(facts: Facts) -> Table:
    """Return the points of the frontier that differ, at most `MAX_POINTS` of them."""
    differ: list[int] = []
    policies = [facts.swept.summary(i) for i in range(len(facts.swept))]
    for i, policy in enumerate(policies):
        if not differ or any(
            not np.isclose(getattr(policy.prediction, name), getattr(policies[differ[-1]].prediction, name))
            for name in ("error", "cost")
        ):
            differ.append(i)
    if len(differ) > MAX_POINTS:
        differ = [differ[at] for at in np.linspace(0, len(differ) - 1, MAX_POINTS).round().astype(int)]
    unit = facts.policy.units.cost
    columns = [f"price of an error, {unit}", "wrong, %", f"{unit} per 1000 queries", "models"]
    rows = [
        [
            number(policies[i].error_price),
            percent(policies[i].prediction),
            dollars(policies[i].prediction),
            " > ".join(policies[i].models),
        ]
        for i in differ
    ]
    if facts.realised is not None:
        columns.append(f"realised: wrong, %; {unit} per 1000")
        for i, row in zip(differ, rows, strict=True):
            done = facts.realised[i]
            row.append(f"{PERCENT * done['realised_error']:.3g}; {PER_THOUSAND * done['realised_cost']:.3g}")
    return Table(columns, rows)


def _realised(facts: Facts) -> Table:
    """Return what the policy did on the table of other queries, beside what was predicted."""
    evaluation = facts.evaluation
    assert evaluation is not None
    done, said = evaluation.realised, evaluation.predicted
    rows = [
        ["wrong, %", percent(done), percent(said)],
        [f"{facts.policy.units.cost} per 1000 queries", dollars(done), dollars(said)],
    ]
    if done.abstain or said.abstain:
        rows.append(["no answer, %", percent(done, "abstain"), percent(said, "abstain")])
    return Table([f"on {done.num_queries} other queries", "realised (90 %)", "predicted (90 %)"], rows)


def _thresholds(facts: Facts) -> Table:
    """Return the thresholds of the policy with their intervals."""
    policy = facts.policy
    parts = [("asks the next model below", policy.models, policy.thresholds, policy.draw_thresholds)]
    if policy.abstain_thresholds is not None and policy.draw_abstain_thresholds is not None:
        low = policy.abstain_thresholds
        parts.append(("leaves without an answer below", policy.models, low, policy.draw_abstain_thresholds))
    rows = []
    for what, models, thresholds, draws in parts:
        intervals = [""] * len(thresholds)
        if len(draws):
            ends = np.quantile(draws, [0.05, 0.95], axis=0, method="closest_observation").T
            intervals = [show_interval(*pair) for pair in ends]
        for name, threshold, interval in zip(models, thresholds, intervals, strict=False):
            rows.append([name, what, on_scale(float(threshold), policy.kind), interval])
    return Table(["model", "", f"threshold ({policy.kind})", "90 % interval"], rows)


def _checks(facts: Facts) -> Table:
    """Return the checks: what each asks, how many questions were passed, and what a failure means."""
    rows = []
    for name, about in ABOUT.items():
        asked = [found for found in facts.checks.of(name) if found.passed is not None]
        passed = sum(bool(found.passed) for found in asked)
        said = f"{passed} of {len(asked)} passed" if asked else "not asked"
        advice = ADVICE[name]
        means = f"{advice.means} {advice.remedy}" if passed < len(asked) else ""
        rows.append([name, f"Whether {about}.", said, means])
    columns = ["check", "asks", "result", "what a failure means, and what to do"]
    if facts.checks.passed:
        return Table(columns[:3], [row[:3] for row in rows])
    return Table(columns, rows)


def _worth(worth: Information) -> Table:
    """Return what more labels are worth."""
    columns = ["labels of", *(f"{size} more queries" for size in worth.num_queries)]
    rows = [
        [name, *(f"{PER_THOUSAND * value:.2g}" for value in own)]
        for name, own in zip(worth.labels, worth.evsi, strict=True)
    ]
    return Table(columns, rows)


def _made(facts: Facts) -> list[tuple[str, str]]:
    """Return how the report was made: method, seeds, versions and digests."""
    from importlib.metadata import version

    posterior, provenance = facts.posterior, facts.posterior.provenance
    versions = provenance.get("versions") or {}
    seconds = provenance.get("fit_seconds")
    made = [
        ("method of the fit", str(provenance.get("method", "not recorded"))),
        ("structure, margin", f"{posterior.spec.structure}, {posterior.spec.margin}"),
        ("copulas", ", ".join(dict.fromkeys(family.name for family in posterior.spec.copulas))),
        ("seed of the fit", str(provenance.get("seed", "not recorded"))),
        ("draws of the fit", str(posterior.num_draws)),
        ("verdict on the fit", posterior.fit_verdict.sentence),
        ("draws that decisions average over", str(facts.num_draws)),
        ("seed of this report", str(facts.seed)),
        ("versions at the fit", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("version of this report", f"cascade-bayes {version('cascade-bayes')}"),
        ("question", json.dumps(facts.policy.question)),
        ("digest of the fit's draws (SHA-256)", posterior.digest()),
        ("digest of the policy (SHA-256)", facts.policy.to_dict()["content_digest"]),
    ]
    if seconds is not None:
        made.insert(5, ("seconds that the fit took", f"{seconds:.0f}"))
    return made
