"""How posteriors and checks print (`cascade_bayes._shown`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_bayes._shown import Card, number
from cascade_bayes.data import model_rows

if TYPE_CHECKING:
    from cascade_bayes.inference.checks.result import CheckResult
    from cascade_bayes.inference.posterior import Posterior


def posterior_card(posterior: Posterior) -> Card:
    """Return what was fitted, how, and what was said of the fit if that is known without computing it."""
    columns, rows = model_rows(posterior.data)
    how = posterior.provenance.get("method")
    title = (
        f"Posterior of {len(posterior.models)} models from {posterior.data.num_queries} queries: "
        f"{posterior.num_draws} draws{f' by {how}' if how else ''}, structure {posterior.spec.structure}"
    )
    verdict = posterior.recorded_verdict or posterior.__dict__.get("fit_verdict")
    said = () if verdict is None else (f"{'' if verdict.trusted else 'Fit rejected: '}{verdict.sentence}",)
    return Card(title, columns, rows, said)


def check_card(result: CheckResult) -> Card:
    """Return how many questions each check asked, and how many were passed."""
    rows = []
    for name in dict.fromkeys(finding.check for finding in result.findings):
        asked = [finding for finding in result.of(name) if finding.passed is not None]
        p_values = [finding.p_value for finding in asked if finding.p_value is not None]
        passed = f"{sum(bool(finding.passed) for finding in asked)} of {len(asked)}" if asked else "not asked"
        rows.append((name, passed, number(min(p_values)) if p_values else ""))
    return Card("Checks of a fit", ("check", "passed", "smallest p"), rows, (result.sentence(),))
