"""What a check found, and the verdict on all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

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


class Advice(NamedTuple):
    """What the failure of a check means for decisions, and what to do about it.

    Attributes
    ----------
    means
        What may be wrong, a sentence.
    remedy
        What to try, a sentence.
    decides
        Whether decisions cannot be trusted while it fails; otherwise a test table can tell whether they can.
    """

    means: str
    remedy: str
    decides: bool


ADVICE = {
    "sampling": Advice(
        "Thresholds, errors and costs, and above all their intervals, may be off.",
        "Fit again with --method nuts, or with more --num-warmup and --num-samples.",
        True,
    ),
    "margins": Advice(
        "How many queries a threshold sends on, and so what is paid, may be off for these models.",
        "Fit again with --margin beta (or logit_normal), or hold a policy against a table of its own by "
        "`cascade-bayes evaluate`.",
        False,
    ),
    "copulas": Advice(
        "How often these models are unsure of the same queries may be off, and so the cost of asking both.",
        "Fit again with --copula auto.",
        False,
    ),
    "markov": Advice(
        "What cascades of three and more models cost may be off; those of two do not rest on it.",
        "Tune a cascade of two models (--models A,B) and see by `cascade-bayes evaluate` which does better.",
        False,
    ),
    "calibration": Advice(
        "How often these models are wrong at a confidence is off, and so are the thresholds around them.",
        "Fit again with --upstream or --no-upstream, whichever was not used, or with another confidence.",
        True,
    ),
    "deferred": Advice(
        "How often these models are wrong on the queries that they would get is off.",
        "Label more of the queries that are deferred to them, and fit again.",
        True,
    ),
    "replicates": Advice(
        "The table is unlike what the model would make: predictions for other queries may be off there.",
        "See that the queries are a random sample; then fit again with --copula auto or --margin beta.",
        False,
    ),
}
"""What a failure of each check means, and what to do; options are those of ``cascade-bayes fit``."""


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

    def failed_checks(self) -> list[str]:
        """Return the names of the checks that failed, in the order of `ABOUT`."""
        return [name for name in ABOUT if any(found.passed is False for found in self.of(name))]

    def decision(self) -> str:
        """Say whether decisions that go by the fit can be trusted, and why."""
        failed = self.failed_checks()
        fatal = [name for name in failed if ADVICE[name].decides]
        if fatal:
            why = " ".join(ADVICE[name].means for name in fatal)
            word = "this check" if len(fatal) == 1 else "these checks"
            return f"Decisions cannot be trusted, because {word} failed: {', '.join(fatal)}. {why}"
        if failed:
            word = "this check" if len(failed) == 1 else "these checks"
            return (
                "Decisions can be trusted as far as a table of other queries confirms them "
                f"(`cascade-bayes evaluate`), because {word} failed: {', '.join(failed)}. How often models "
                "are right is as predicted."
            )
        if not any(found.passed for found in self.of("calibration")):
            return (
                "Decisions cannot be trusted yet, because there are too few labels to tell whether models "
                "are right as often as predicted. Nothing else speaks against the fit."
            )
        return (
            "Decisions can be trusted, because nothing speaks against the fit: its draws agree, and models "
            "are as confident, and as often right, as predicted."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything JSON-able."""
        return {
            "passed": self.passed,
            "level": self.level,
            "verdict": self.sentence(),
            "decision": self.decision(),
            "checks": {
                name: {
                    "about": about,
                    "failure_means": ADVICE[name].means,
                    "remedy": ADVICE[name].remedy,
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
