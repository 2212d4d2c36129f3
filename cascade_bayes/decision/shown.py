"""How certificates, comparisons and worths of labels print (`cascade_bayes._shown`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_bayes._shown import Card, band, number, spread
from cascade_bayes.policy.shown import PER_THOUSAND, PERCENT

if TYPE_CHECKING:
    from cascade_bayes.decision.certificate import Certificate
    from cascade_bayes.decision.compare import Comparison
    from cascade_bayes.decision.information import Information


def certificate_card(certificate: Certificate) -> Card:
    """Return what a policy of any shape could save, at some prices."""
    records = certificate.records()
    rows = [
        (
            number(row["error_price"]),
            " > ".join(row["models"]),
            number(PER_THOUSAND * row["loss"]),
            number(PER_THOUSAND * max(row["gap"], 0.0)),
        )
        for row in (records[i] for i in spread(len(records)))
    ]
    columns = (
        f"{certificate.cost_unit} per error",
        "models",
        f"loss, {certificate.cost_unit} per 1000 queries",
        "any policy saves at most",
    )
    title = f"Certificate of {len(records)} polic{'y' if len(records) == 1 else 'ies'}"
    return Card(title, columns, rows, (certificate.sentence(),))


def comparison_card(comparison: Comparison) -> Card:
    """Return by how much two policies differ."""
    units = {
        "error": ("error, %", PERCENT),
        "cost": (f"cost, {comparison.cost_unit} per 1000 queries", PER_THOUSAND),
        "loss": (f"loss, {comparison.cost_unit} per 1000 queries", PER_THOUSAND),
    }
    rows = [
        (what, band((getattr(comparison, name).mean(), *comparison.interval(name)), factor))
        for name, (what, factor) in units.items()
    ]
    columns = ("", "first less second (90 %)")
    return Card("Comparison of two policies", columns, rows, (comparison.sentence(),))


def information_card(information: Information) -> Card:
    """Return what more queries are worth, by whose labels they have."""
    columns = ("labels of", *(f"{size} more queries" for size in information.num_queries))
    rows = [
        (name, *(f"{PER_THOUSAND * worth:.2g}" for worth in own))
        for name, own in zip(information.labels, information.evsi, strict=True)
    ]
    title = f"Worth of more queries, {information.cost_unit} per 1000 queries served"
    return Card(title, columns, rows, (information.sentence(),))
