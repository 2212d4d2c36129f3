"""The schema of policy and frontier files: what may stand in them, and what must go together.

A file is a `PolicyRecord` or a `FrontierRecord`. `msgspec` checks types and ranges of single values; what
several values have to do with each other is checked when a record is made, so that no record is wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cascade_bayes._files import decode, show
from cascade_bayes._units import GivenKind
from cascade_bayes.transforms import DOMAIN, KINDS

SHARE_ROUNDING, AMOUNT_ROUNDING = 1e-6, 1e-9
"""How far predicted shares, and US dollars and seconds, may be out of range or order: sums of some hundred
probabilities, in 32-bit arithmetic if that is all there is."""

Threshold = float | Literal["inf", "-inf", "lowest"]
Name = Annotated[str, Meta(min_length=1)]
Names = Annotated[list[Name], Meta(min_length=1)]
Grades = Annotated[list[Name], Meta(min_length=2)]
Price = Annotated[float, Meta(gt=0.0)]
Amount = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(ge=-SHARE_ROUNDING, le=1.0 + SHARE_ROUNDING)]
Figure = Annotated[float, Meta(ge=-AMOUNT_ROUNDING)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Interval = Annotated[list[Threshold], Meta(min_length=2, max_length=2)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of a file."""


class TermsRecord(Record, frozen=True, kw_only=True):
    """What is paid for (`cascade_bayes.policy.terms.Terms`)."""

    latency_price: Amount
    abstain_price: Amount | None
    abstain: Literal["early", "final"]
    constant_costs: bool


class VerdictRecord(Record, frozen=True, kw_only=True):
    """What was said of the fit (`cascade_bayes.policy.policy.FitVerdict`)."""

    trusted: bool
    sentence: Name


class QuestionRecord(Record, frozen=True, kw_only=True):
    """What was asked: one of three questions, and how sure the answer to the last two should be."""

    error_price: Price | UnsetType = UNSET
    budget: Price | UnsetType = UNSET
    target_error: Annotated[float, Meta(gt=0.0, lt=1.0)] | UnsetType = UNSET
    probability: Annotated[float, Meta(gt=0.0, lt=1.0)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        asked = [n for n in ("error_price", "budget", "target_error") if getattr(self, n) is not UNSET]
        if len(asked) != 1:
            raise ValueError(
                "must ask exactly one of error_price, budget, target_error; "
                f"got {' and '.join(asked) or 'none of them'}"
            )
        if (self.probability is UNSET) != (asked == ["error_price"]):
            rule = "has no probability" if asked == ["error_price"] else "needs a probability"
            raise ValueError(f"{rule} where it asks for {asked[0]}")


class PredictionRecord(Record, frozen=True, kw_only=True):
    """Predicted figures (`cascade_bayes.policy.expected.Prediction`)."""

    error: Share
    error_q05: Share
    error_q95: Share
    cost: Figure
    cost_q05: Figure
    cost_q95: Figure
    reach_prob: list[Share]
    expense: Figure
    expense_q05: Figure
    expense_q95: Figure
    abstain: Share
    abstain_q05: Share
    abstain_q95: Share
    latency: Figure | None
    latency_q05: Figure | None
    latency_q95: Figure | None

    def __post_init__(self) -> None:
        _check_figures(self, "")


class PolicyRecord(Record, frozen=True, kw_only=True):
    """A policy file, but for the digest of its contents."""

    schema: Literal["cascade_bayes.policy"]
    schema_version: Literal[3]
    cost_unit: Literal["US dollars per query", "deferrals per query"]
    models: Names
    thresholds: list[Threshold]
    abstain_thresholds: list[Threshold] | None
    error_price: Price
    question: QuestionRecord
    prediction: PredictionRecord
    threshold_intervals_90: list[Interval] | None
    abstain_intervals_90: list[Interval] | None
    draw_thresholds: list[list[Threshold]]
    draw_abstain_thresholds: list[list[Threshold]] | None
    confidence: Literal["logprob", "probability", "score"]
    call_cost: list[Amount]
    fit_digest: Digest
    terms: TermsRecord
    fit_verdict: VerdictRecord | None
    given_as: GivenKind | UnsetType = UNSET
    grades: Grades | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_given(self)
        _check_cascade(self, self.confidence, self.terms)
        _check_reach(self.prediction.reach_prob, len(self.models), "prediction.reach_prob")
        if self.abstain_thresholds is None and self.prediction.abstain_q95 > SHARE_ROUNDING:
            raise ValueError(
                "`prediction.abstain_q95` must be 0 of a policy that answers every query; "
                f"got {self.prediction.abstain_q95!r}"
            )
        asked = self.question.error_price
        if asked is not UNSET and not math.isclose(asked, self.error_price, rel_tol=1e-9):
            raise ValueError(
                f"`question.error_price` must be that of the policy, {self.error_price!r}; got {asked!r}"
            )
        deferring = ("thresholds", "draw_thresholds", "threshold_intervals_90", len(self.models) - 1)
        abstaining = (
            "abstain_thresholds",
            "draw_abstain_thresholds",
            "abstain_intervals_90",
            len(self.models),
        )
        for name, name_of_draws, name_of_intervals, count in (deferring, abstaining):
            draws, intervals = getattr(self, name_of_draws), getattr(self, name_of_intervals)
            _check_draws(draws, count, name_of_draws, self.confidence)
            _check_intervals(intervals, count, name_of_intervals)
            if (getattr(self, name) is None) != (draws is None):
                raise ValueError(f"`{name_of_draws}` must be null where `{name}` is, and only there")
            if (not draws) != (intervals is None):
                raise ValueError(
                    f"`{name_of_intervals}` must be null without `{name_of_draws}`, and only then"
                )


class PointRecord(Record, frozen=True, kw_only=True):
    """One policy of a frontier file."""

    error_price: Price
    models: Names
    thresholds: list[Threshold]
    abstain_thresholds: list[Threshold] | None
    call_cost: list[Amount]
    threshold_intervals: list[Interval] | None
    abstain_intervals: list[Interval] | None
    reach_prob: list[Share]
    expected_error: Share
    expected_error_q05: Share
    expected_error_q95: Share
    expected_cost: Figure
    expected_cost_q05: Figure
    expected_cost_q95: Figure
    expected_expense: Figure
    expected_expense_q05: Figure
    expected_expense_q95: Figure
    expected_abstain: Share | UnsetType = UNSET
    expected_abstain_q05: Share | UnsetType = UNSET
    expected_abstain_q95: Share | UnsetType = UNSET
    expected_latency: Figure | UnsetType = UNSET
    expected_latency_q05: Figure | UnsetType = UNSET
    expected_latency_q95: Figure | UnsetType = UNSET
    prob_best: Share | UnsetType = UNSET
    optimism: Figure | UnsetType = UNSET
    gain_over_pair: Figure | UnsetType = UNSET
    gain_over_single: Figure | UnsetType = UNSET
    best_pair: Annotated[list[Name], Meta(min_length=2, max_length=2)] | UnsetType = UNSET
    best_single: Annotated[list[Name], Meta(min_length=1, max_length=1)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_figures(self, "expected_")
        if (self.abstain_thresholds is None) != (self.expected_abstain is UNSET):
            raise ValueError(
                "`expected_abstain` must be there where there are `abstain_thresholds`, and only there"
            )
        _check_reach(self.reach_prob, len(self.models), "reach_prob")
        _check_intervals(self.threshold_intervals, len(self.models) - 1, "threshold_intervals")
        _check_intervals(self.abstain_intervals, len(self.models), "abstain_intervals")


class FrontierRecord(Record, frozen=True, kw_only=True):
    """A frontier file, but for the digest of its contents."""

    schema: Literal["cascade_bayes.frontier"]
    schema_version: Literal[3]
    cost_unit: Literal["US dollars per query", "deferrals per query"]
    confidence: Literal["logprob", "probability", "score"]
    call_cost: Annotated[list[Amount], Meta(min_length=1)]
    fit_digest: Digest
    terms: TermsRecord
    fit_verdict: VerdictRecord | None
    points: Annotated[list[PointRecord], Meta(min_length=1)]
    given_as: GivenKind | UnsetType = UNSET
    grades: Grades | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_given(self)
        for i, point in enumerate(self.points):
            _check_cascade(point, self.confidence, self.terms, f"points[{i}].")
        for i, (one, other) in enumerate(itertools.pairwise(self.points), start=1):
            if other.error_price < one.error_price:
                raise ValueError(
                    f"`points[{i}].error_price` must not be below that of the point before, "
                    f"{one.error_price!r}; got {other.error_price!r}"
                )


READ_AS = {"percent": "probability", "uncertainty": "probability", "nll": "logprob", "perplexity": "logprob"}
"""Kinds of confidence that are read as another."""


def check_given(record: PolicyRecord | FrontierRecord) -> None:
    """Raise `ValueError` unless what confidences were given as is read as what they are."""
    if record.given_as is not UNSET and READ_AS[record.given_as] != record.confidence:
        raise ValueError(
            f"`given_as` must be a kind that is read as `confidence`, {record.confidence!r}; got "
            f"{record.given_as!r}"
        )
    if record.grades is not UNSET:
        if record.confidence != "score" or record.given_as is not UNSET:
            raise ValueError(
                "`grades` must not be there but for `confidence` 'score', and without `given_as`"
            )
        if len({word.casefold() for word in record.grades}) < len(record.grades):
            raise ValueError(f"`grades` must be different words; got {show(record.grades)}")


FIGURES = ("error", "cost", "expense", "abstain", "latency")
"""Predicted figures, each a mean with two quantiles."""


def _check_figures(record: PredictionRecord | PointRecord, prefix: str) -> None:
    """Raise `ValueError` unless figures are given with their quantiles, which are in order."""
    for name in FIGURES:
        mean, low, high = (getattr(record, f"{prefix}{name}{end}") for end in ("", "_q05", "_q95"))
        given = {isinstance(value, float) for value in (mean, low, high)}
        if len(given) > 1:
            raise ValueError(f"`{prefix}{name}` must be given with both its quantiles, or not at all")
        if given == {True} and low > high + max(AMOUNT_ROUNDING, SHARE_ROUNDING * abs(high)):
            raise ValueError(
                f"`{prefix}{name}_q05` must not be above `{prefix}{name}_q95`; got {low!r} and {high!r}"
            )


def _check_reach(reach_prob: Sequence[float], count: int, name: str) -> None:
    """Raise `ValueError` unless the first model is always called, and others no more often than it."""
    if len(reach_prob) != count:
        raise ValueError(f"`{name}` must have one entry a model, {count}; got {len(reach_prob)}")
    if abs(reach_prob[0] - 1) > SHARE_ROUNDING:
        raise ValueError(f"`{name}[0]` must be 1: every query reaches the first model; got {reach_prob[0]!r}")
    for i, (before, after) in enumerate(itertools.pairwise(reach_prob), start=1):
        if after > before + SHARE_ROUNDING:
            raise ValueError(f"`{name}[{i}]` must not be above the entry before, {before!r}; got {after!r}")


def _check_intervals(intervals: Sequence[Sequence[Any]] | None, count: int, name: str) -> None:
    """Raise `ValueError` unless there is one interval a threshold, its ends in order."""
    if intervals is None:
        return
    if len(intervals) != count:
        raise ValueError(f"`{name}` must have one entry a threshold, {count}; got {len(intervals)}")
    for i, (low, high) in enumerate(intervals):
        if decode(low) > decode(high):
            raise ValueError(f"`{name}[{i}]` must have its lower end first; got {low!r} and {high!r}")


def _check_draws(draws: Sequence[Sequence[Any]] | None, count: int, name: str, kind: str) -> None:
    """Raise `ValueError` unless every draw has one threshold for each of the policy's."""
    for i, draw in enumerate(draws or ()):
        if len(draw) != count:
            raise ValueError(f"`{name}[{i}]` must have {count} entries, as the policy; got {len(draw)}")
        _check_domain(draw, kind, f"{name}[{i}]")


def _check_domain(thresholds: Sequence[Any], kind: str, name: str) -> None:
    """Raise `ValueError` for a finite threshold that no confidence of this kind lies about.

    The next number above certainty is allowed: it defers certainty too.
    """
    low, high = DOMAIN[kind]
    top = math.nextafter(high, math.inf)
    for i, value in enumerate(thresholds):
        number = decode(value)
        if not (low <= number <= top or math.isinf(number)):
            raise ValueError(
                f"`{name}[{i}]` must be {KINDS[kind]} for kind {kind!r}, or infinite; got {value!r}"
            )


def _check_cascade(
    record: PolicyRecord | PointRecord, kind: str, terms: TermsRecord, where: str = ""
) -> None:
    """Raise `ValueError` unless models, thresholds and costs belong together."""
    models, abstain = record.models, record.abstain_thresholds
    for i, model in enumerate(models):
        if model in models[:i]:
            raise ValueError(f"`{where}models` must name each model once; {show(model)} is there twice")
    for name, values, count, rule in (
        ("thresholds", record.thresholds, len(models) - 1, "one entry fewer than models"),
        ("abstain_thresholds", abstain, len(models), "one entry a model"),
        ("call_cost", record.call_cost, len(models), "one entry a model"),
    ):
        if values is not None and len(values) != count:
            raise ValueError(f"`{where}{name}` must have {rule}, {count}; got {len(values)}")
    _check_domain(record.thresholds, kind, f"{where}thresholds")
    if abstain is None:
        return
    _check_domain(abstain, kind, f"{where}abstain_thresholds")
    if terms.abstain_price is None:
        raise ValueError(
            f"`{where}abstain_thresholds` must be null where abstaining has no price "
            "(`terms.abstain_price`); got thresholds"
        )
    for i, (low, high) in enumerate(zip(abstain, record.thresholds, strict=False)):
        if decode(low) > decode(high):
            raise ValueError(
                f"`{where}abstain_thresholds[{i}]` must not be above `{where}thresholds[{i}]`, {high!r}; "
                f"got {low!r}"
            )
        if terms.abstain == "final" and decode(low) > -math.inf:
            raise ValueError(
                f"`{where}abstain_thresholds[{i}]` must be '-inf' where only the last model abstains "
                f"(`terms.abstain` is 'final'); got {low!r}"
            )
