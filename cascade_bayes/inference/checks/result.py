"""What a check found, and the verdict on all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cascade_bayes._shown import shown
from cascade_bayes.inference.checks.statistics import combine, holm
from cascade_bayes.inference.shown import check_card

ABOUT = {
    "sampling": "the draws are those of the posterior",
    "margins": "each model's confidences have the distribution that was fitted",
    "copulas": "each pair's confidences depend on each other as its copula says",
    "markov": "given a model's confidence, those before it say nothing of the next model's",
    "calibration": "a model is right as often as predicted, whatever its confidence",
    "deferred": "a model is right as often as predicted among queries deferred to it",
    "replicates": "tables simulated from the posterior look like the one that was fitted",
}
"""The checks, and what each of them asks."""


@dataclass(frozen=True)
class Finding:
    """One question that a check asked of one model, one pair or one sampler.

    Attributes
    ----------
    check
        A name in `ABOUT`.
    subject
        What it is asked about: a model, a pair, a parameter.
    passed
        None where it could not be asked.
    sentence
        The answer in words.
    figures
        What it rests on.
    p_value
        The p value of a test, for this question alone; None where the rule is a bound.
    """

    check: str
    subject: str
    passed: bool | None
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything JSON-able; a figure that is not finite is None."""
        finite = {k: float(v) if np.isfinite(v) else None for k, v in self.figures.items()}
        return {
            "check": self.check,
            "subject": self.subject,
            "passed": self.passed,
            "p_value": self.p_value,
            "figures": finite,
            "sentence": self.sentence,
        }


def tested(
    check: str, subject: str, p_values: np.ndarray, sentence: str, figures: Mapping[str, float]
) -> Finding:
    """Return what a test found, p-values ``(num_draws,)``; the verdict is `CheckResult`'s."""
    return Finding(check, subject, True, sentence, dict(figures), combine(p_values))


def not_asked(check: str, subject: str, reason: str) -> Finding:
    """Return that a question could not be asked."""
    return Finding(check, subject, None, reason)


@shown(check_card)
@dataclass(frozen=True)
class CheckResult:
    """All findings on one posterior.

    Attributes
    ----------
    findings
        The checks that were made, in the order of `ABOUT`.
    level
        Probability with which a right model fails any of the tests, at most.
    """

    findings: tuple[Finding, ...]
    level: float

    @classmethod
    def judge(cls, findings: Sequence[Finding], level: float) -> CheckResult:
        """Settle which tests are failed, all of them together (Holm), and return the result."""
        p_values = np.asarray([f.p_value for f in findings if f.p_value is not None])
        adjusted: Iterator[float] = iter(holm(p_values).tolist())
        judged = [f if f.p_value is None else replace(f, passed=next(adjusted) >= level) for f in findings]
        return cls(tuple(sorted(judged, key=lambda f: list(ABOUT).index(f.check))), level)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that speak against the fit or the model."""
        return tuple(f for f in self.findings if f.passed is False)

    @property
    def not_asked(self) -> tuple[Finding, ...]:
        """The questions that this table, or this fit, cannot answer; their sentences say why."""
        return tuple(f for f in self.findings if f.passed is None)

    def of(self, check: str) -> tuple[Finding, ...]:
        """Return the findings of one check."""
        return tuple(f for f in self.findings if f.check == check)

    def sentence(self) -> str:
        """Return the verdict in words."""
        asked = sum(f.passed is not None for f in self.findings)
        if self.passed:
            return f"Nothing speaks against the fit: it passed all {asked} questions."
        reasons = "; ".join(f"{f.subject}: {f.sentence}" for f in self.failures)
        return f"{len(self.failures)} of {asked} questions failed. {reasons}."

    def to_dict(self) -> dict[str, Any]:
        """Return everything JSON-able."""
        return {
            "passed": self.passed,
            "level": self.level,
            "verdict": self.sentence(),
            "checks": {
                name: {
                    "about": about,
                    "passed": all(f.passed is not False for f in self.of(name)),
                    "findings": [f.to_dict() for f in self.of(name)],
                }
                for name, about in ABOUT.items()
            },
        }

    def to_frame(self) -> Any:
        """Return one row a finding, a pandas frame."""
        import pandas as pd

        return pd.DataFrame([f.to_dict() for f in self.findings])
