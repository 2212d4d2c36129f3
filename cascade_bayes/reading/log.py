"""The log of a running cascade against the rule that wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import number, show


class ThresholdRule(Protocol):
    """Anything that says when a cascade goes on, such as a `Policy`.

    It may have ``abstain_thresholds`` besides, ``(num_models,)``: a query below them ends without an answer.
    """

    @property
    def models(self) -> Sequence[str]:
        """Names in cascade order."""

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Raw scale, ``(num_models - 1,)``: a query goes on iff its confidence is below."""


Range = tuple[float, float]
"""From which confidence on, and below which, a query goes on."""


def read_rule(
    logged_policy: ThresholdRule | Mapping[str, float], known: Sequence[str]
) -> dict[str, Range | None]:
    """Return by model in cascade order which confidences go on; None for the last model.

    Parameters
    ----------
    logged_policy
        The rule, or a mapping of every model but the last to its threshold.
    known
        Models of the table.

    Raises
    ------
    InputError
        If the mapping does not name every model but one, or a threshold is no number.
    TypeError
        If the rule is neither a mapping nor has models and thresholds.
    """
    if isinstance(logged_policy, Mapping):
        rest = [name for name in known if name not in logged_policy]
        if len(rest) != 1:
            raise InputError(
                "logged_policy must give a threshold to every model but the last; got thresholds of "
                f"{names_of(logged_policy)} for a table of {names_of(known)}."
            )
        rule: dict[str, Range | None] = {
            str(name): (-np.inf, _threshold(str(name), value)) for name, value in logged_policy.items()
        }
        rule[rest[0]] = None
    elif not hasattr(logged_policy, "models") or not hasattr(logged_policy, "thresholds"):
        raise TypeError(
            "logged_policy must be a Policy, or a mapping of model to threshold such as {'a': -0.2}; got "
            f"{type(logged_policy).__name__}."
        )
    else:
        high, low = logged_policy.thresholds, getattr(logged_policy, "abstain_thresholds", None)
        low = np.full(len(high), -np.inf) if low is None else low[:-1]
        ranges = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
        rule = dict(zip(logged_policy.models, [*ranges, None], strict=True))
    for name, goes_on in rule.items():
        if goes_on is not None and np.isnan(goes_on).any():
            raise InputError(
                f"the threshold of model {name!r} in logged_policy must be a number; got nan. Correct it."
            )
    return rule


def _threshold(model: str, value: object) -> float:
    try:
        return number(value)
    except ValueError as error:
        raise InputError(
            f"the threshold of model {model!r} in logged_policy must be a number; got {show(value)}. {error}"
        ) from error


def check_log(
    rule: Mapping[str, Range | None],
    query_ids: NDArray[np.str_],
    asked: NDArray[np.bool_],
    confidence: NDArray[np.float64],
) -> None:
    """Check that the rows are what a cascade with this rule writes.

    Parameters
    ----------
    rule
        The rule of the policy that ran, which `read_rule` returns.
    query_ids
        ``(num_queries,)``.
    asked
        Whether there is a row, ``(num_queries, num_models)``.
    confidence
        Raw confidences, nan where missing, of the same shape.

    Raises
    ------
    InputError
        If a row is missing or one too many; names the query, the models and the threshold.
    """
    names = tuple(rule)
    remedy = "Pass the policy that was running, or leave logged_policy out."
    unasked = np.flatnonzero(~asked[:, 0])
    if unasked.size:
        raise InputError(
            f"the log contradicts logged_policy: query {str(query_ids[unasked[0]])!r} has no row of "
            f"{names[0]!r}, which is asked first. {remedy}"
        )
    for i, between in enumerate(rule.values()):
        if between is None:  # the last model
            break
        low, high = between
        here = confidence[:, i]
        known = asked[:, i] & ~np.isnan(here)
        goes_on = (here >= low) & (here < high)
        lost = known & goes_on & ~asked[:, i + 1]
        extra = ((known & ~goes_on) | ~asked[:, i]) & asked[:, i + 1]
        bounds = f"a threshold of {high!r}"
        if low > -np.inf:
            bounds += f", and of abstaining of {low!r}"
        for wrong, must in ((lost, "must have"), (extra, "must not have")):
            if wrong.any():
                at = int(np.argmax(wrong))
                why = (
                    f"the confidence of {names[i]!r} is {float(here[at])!r} with {bounds}"
                    if asked[at, i]
                    else f"{names[i]!r} was not asked"
                )
                raise InputError(
                    f"the log contradicts logged_policy: query {str(query_ids[at])!r} {must} a row of "
                    f"{names[i + 1]!r}, because {why}. {remedy}"
                )
