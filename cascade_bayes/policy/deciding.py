"""Decisions on confidences as callers have them: what is given is checked, then the rule is followed.

The rule itself is in `cascade_bayes.rule`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any, NoReturn

import numpy as np

from cascade_bayes._files import show
from cascade_bayes.errors import InputError
from cascade_bayes.rule import End, follow, follow_one, in_precision
from cascade_bayes.transforms import DOMAIN, KINDS


class Abstain(Enum):
    """What `Policy.decide` returns for a query that is left without an answer."""

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"


ABSTAIN = Abstain.ABSTAIN
"""A query is left without an answer."""


class Decider:
    """A policy's thresholds, made ready to decide one query in a microsecond.

    Parameters
    ----------
    models
        Names in cascade order.
    kind
        Kind of confidence.
    thresholds
        Raw scale, ``(num_models - 1,)``.
    abstain
        Raw scale, ``(num_models,)``, or None.
    """

    def __init__(
        self, models: tuple[str, ...], kind: str, thresholds: np.ndarray, abstain: np.ndarray | None
    ) -> None:
        self._models, self._kind = models, kind
        self._low, self._high = DOMAIN[kind]
        self._defer = np.append(thresholds, -math.inf)
        self._abstain = np.full(len(models), -math.inf) if abstain is None else abstain
        self._rules: dict[np.dtype[Any], tuple[tuple[float, ...], tuple[float, ...]]] = {}
        self._rule = self._rule_in(np.dtype(float))

    def _rule_in(self, precision: np.dtype[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the thresholds of deferring, and of abstaining, for confidences of some precision."""
        if precision not in self._rules:
            both = (in_precision(values, precision) for values in (self._defer, self._abstain))
            defer, abstain = (tuple(values.tolist()) for values in both)
            self._rules[precision] = defer, abstain
        return self._rules[precision]

    def decide(self, confidences: Any) -> Any:
        """Return what `Policy.decide` does."""
        if type(confidences) is list or type(confidences) is tuple:
            if len(confidences) <= len(self._models) and self._fit(confidences):
                return self._said(*follow_one(confidences, *self._rule))
            if any(_is_list(value) for value in confidences):
                return self._rows(confidences)
            return self._one(confidences)
        if isinstance(confidences, (str, bytes, dict)) or not hasattr(confidences, "__array__"):
            self._refuse_form(confidences)
        array = _array(confidences)
        if array.ndim not in (1, 2):
            self._refuse_form(confidences)
        if array.dtype.kind == "O":
            return self.decide(array.tolist())
        if array.dtype.kind not in "fiu":
            raise TypeError(f"confidences must be numbers; got an array of {array.dtype}.")
        if array.ndim == 2:
            return self._table(array)
        values = array.astype(np.float64).tolist()
        if len(values) <= len(self._models) and self._fit(values):
            return self._said(*follow_one(values, *self._rule_in(_precision(array))))
        return self._one(values)  # which says what does not fit

    def _fit(self, confidences: Sequence[Any]) -> bool:
        """Whether all are 64-bit numbers that a confidence of this kind can be, or NaN."""
        low, high = self._low, self._high
        for value in confidences:
            if not isinstance(value, float) or not (low <= value <= high or value != value):
                return False
        return True

    def _said(self, model: int, end: End) -> Any:
        if end is End.ANSWERED:
            return self._models[model]
        if end is End.CALL:
            return None
        if end is End.ABSTAINED:
            return ABSTAIN
        raise InputError(
            f"the confidence of {self._models[model]} must be a number: by it the last model may abstain."
        )

    def _one(self, confidences: Sequence[Any]) -> Any:
        """Decide one query, whatever its numbers are stored in."""
        if len(confidences) > len(self._models):
            raise InputError(
                f"confidences must be at most {len(self._models)}, one a model "
                f"({' > '.join(self._models)}); got {len(confidences)}."
            )
        read = [self._number(value, i) for i, value in enumerate(confidences)]
        defer, abstain = map(list, self._rule)
        for i, (_, precision) in enumerate(read):
            rule = self._rule_in(precision)
            defer[i], abstain[i] = rule[0][i], rule[1][i]
        return self._said(*follow_one([value for value, _ in read], defer, abstain))

    def _number(self, value: Any, model: int, where: str = "") -> tuple[float | None, np.dtype[Any]]:
        """Return a confidence and the precision it is stored in; None of a model that was not called."""
        precision: np.dtype[Any] = np.dtype(float)
        if value is None:
            return None, precision
        if hasattr(value, "__array__") and not isinstance(value, np.generic) and np.ndim(value) == 0:
            value = np.asarray(value)[()]  # a number of another library
        if isinstance(value, np.floating):
            precision = value.dtype
        elif isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer)):
            raise TypeError(
                f"confidence of model {self._models[model]!r} must be a number, NaN if the model gave none; "
                f"got {show(value)}{where}."
            )
        try:
            number = float(value)
        except OverflowError:
            number = math.inf if value > 0 else -math.inf
        if number < self._low or number > self._high:
            self._refuse(number, model, where)
        return number, precision

    def _rows(self, rows: Sequence[Any]) -> np.ndarray:
        """Decide queries that are lists in a list, one by one."""
        for i, row in enumerate(rows):
            if not _is_list(row):
                raise TypeError(f"confidences must be rows of numbers; got {show(row)} at [{i}].")
            if len(row) != len(rows[0]):
                raise InputError(
                    "confidences must have as many columns in every row; "
                    f"row 0 has {len(rows[0])}, row {i} has {len(row)}."
                )
        self._check_columns(len(rows[0]))
        ends = np.empty(len(rows), dtype=np.int64)
        index = {name: i for i, name in enumerate(self._models)}
        for i, row in enumerate(rows):
            try:
                said = self.decide(row if isinstance(row, list) else list(row))
            except (InputError, TypeError) as error:
                raise type(error)(f"row {i}: {error}") from error
            if said is None:
                raise InputError(
                    f"row {i} of the confidences stops at a model that was not called (None): a table needs "
                    "all calls, NaN where a model gave no confidence. Decide queries one by one while models "
                    "are being called."
                )
            ends[i] = -1 if said is ABSTAIN else index[said]
        return ends

    def _table(self, table: np.ndarray) -> np.ndarray:
        """Decide queries that are rows of an array of numbers."""
        self._check_columns(table.shape[1])
        confidence = table.astype(np.float64)
        wrong = (confidence < self._low) | (confidence > self._high)
        if wrong.any():
            row, model = (int(i) for i in np.argwhere(wrong)[0])
            self._refuse(float(confidence[row, model]), model, f" at [{row}, {model}]")
        defer, abstain = (in_precision(values, _precision(table)) for values in (self._defer, self._abstain))
        found = follow(confidence, defer[:-1], abstain)
        open_ended = found.missing[:, -1]
        if open_ended.any():
            raise InputError(
                f"the confidence of {self._models[-1]} must be a number: by it the last model may abstain; "
                f"it is missing in row {int(np.argmax(open_ended))}."
            )
        return np.where(found.abstained, -1, found.stop)

    def _check_columns(self, count: int) -> None:
        """Raise `InputError` unless a table has a column a model, but for a last one that nobody looks at."""
        every = len(self._models)
        if count != every and (count != every - 1 or math.isfinite(self._abstain[-1])):
            raise InputError(
                f"confidences must have {every} columns, one a model ({' > '.join(self._models)}); "
                f"got {count}."
            )

    def _refuse_form(self, confidences: Any) -> NoReturn:
        raise TypeError(
            "confidences must be a list with the confidence of every model called so far, cheapest first, or "
            f"an array with a row for each query; got {show(confidences)}."
        )

    def _refuse(self, value: float, model: int, where: str = "") -> NoReturn:
        """Raise the `InputError` of a confidence that its kind cannot have."""
        remedy = "Give confidences as the policy was tuned on."
        if self._kind == "logprob" and value <= 1:
            remedy = (
                f"Of a probability give the logarithm, math.log({value!r}), of a negative "
                "log-probability its "
                f"negative, {-value!r}."
            )
        elif self._kind == "probability" and value < 0:
            remedy = f"It looks like a log-probability: give math.exp({value!r})."
        elif self._kind == "probability" and value <= 100:
            remedy = f"It looks like a percentage: give {value!r} / 100."
        elif self._kind == "score":
            remedy = "Give NaN where a model gave no confidence."
        raise InputError(
            f"confidence of model {self._models[model]!r} must be {KINDS[self._kind]} for kind "
            f"{self._kind!r}; got {value!r}{where}. {remedy}"
        )


def _is_list(value: Any) -> bool:
    """Whether a value holds others, in order."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "__array__") and np.ndim(value) > 0)


def _precision(array: np.ndarray) -> np.dtype[Any]:
    """Return the floating-point type that numbers are compared in."""
    return array.dtype if array.dtype.kind == "f" else np.dtype(float)


def _array(confidences: Any) -> np.ndarray:
    """Return something like an array as one, NaN where it is masked."""
    if isinstance(confidences, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(confidences), np.nan, confidences.data)
    return np.asarray(confidences)
