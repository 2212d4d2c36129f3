"""How a user's table is laid out, where it is not as this library would have it: one record of all options.

`cascade_bayes.read_table`, the policies' own readers and every command that reads a table build a `Layout`
from what they are given, so that an option has one name and one meaning.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from cascade_bayes._names import names_of, suggest
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import number, show

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = (
    "query",
    "model",
    "confidence",
    "correct",
    "cost",
    "tokens_in",
    "tokens_out",
    "latency_ms",
)
"""Names of the columns that are read, as this library calls them."""

REQUIRED = COLUMNS[:3]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a table is laid out.

    Attributes
    ----------
    columns
        The table's own name of a column, by the name that this library uses:
        ``{"query": "question_id", "correct": "is_correct"}``. Columns that are not named here are found by
        the library's names; capital letters, blanks, underscores and hyphens make no difference.
    wide
        The table has one row per query, and for each model a column of confidences, such as ``conf_small`` or
        ``small_conf``, and likewise of what else is known of its call: ``correct_small``, ``cost_small``.
    grades
        The words that stand for confidences, from the least sure to the surest:
        ``["low", "medium", "high"]``. They are read as the scores 1, 2, 3.
    correct_above
        The column `correct` holds scores of answers, and an answer is right if its score is above this
        number.
    cost_per_call
        US dollars that one call of a model costs, by model: ``{"small": 0.0002, "large": 0.003}``. Used in
        place of the columns `cost`, `tokens_in` and `tokens_out`.
    costs
        False to do without dollars: a query that goes on to another model then costs one deferral, and the
        first model's call nothing. Prices and budgets are counted in deferrals.

    Raises
    ------
    InputError
        If an option cannot be used; the message says what can.
    TypeError
        If an option is of another type.
    """

    columns: Mapping[str, str] | None = None
    wide: bool = False
    grades: Sequence[str] | None = None
    correct_above: float | None = None
    cost_per_call: Mapping[str, float] | None = None
    costs: bool = True

    def __post_init__(self) -> None:
        if self.columns is not None:
            _check_columns(self.columns)
        if self.grades is not None:
            object.__setattr__(self, "grades", _checked_grades(self.grades))
        if self.correct_above is not None:
            above = _finite(self.correct_above)
            if above is None:
                raise InputError(
                    "correct_above must be a finite number, above which the score of an answer says that "
                    f"it is right; got {show(self.correct_above)}. Pass for example correct_above=0.5 "
                    "(--correct-above 0.5)."
                )
            object.__setattr__(self, "correct_above", above)
        if self.cost_per_call is not None:
            object.__setattr__(self, "cost_per_call", _checked_costs(self.cost_per_call))
            if not self.costs:
                raise InputError(
                    "cost_per_call (--cost-per-call) gives costs, and costs=False (--no-costs) does "
                    "without: give one of them."
                )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Layout:
        """Return the options that a call gives by name.

        Raises
        ------
        TypeError
            If there is no such option.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(f"a table has no option {name!r}. {suggest(name, known)}")
        return cls(**options)


def with_layout(function: F) -> F:
    """Return a function of ``**layout`` whose signature names every option of a `Layout`, with its default.

    Notebooks then complete the names, and ``help`` shows them.
    """
    own = inspect.signature(function)
    *first, rest = own.parameters.values()
    assert rest.kind is inspect.Parameter.VAR_KEYWORD
    more = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(Layout)
    ]
    function.__signature__ = own.replace(parameters=[*first, *more])  # type: ignore[attr-defined]
    return function


def _check_columns(columns: Mapping[str, str]) -> None:
    """Refuse a mapping of columns that names none of ours, or one of the table's that is no text."""
    if not isinstance(columns, Mapping):
        raise TypeError(
            'columns must map names of this library to the table\'s, such as {"query": "question_id"}; got '
            f"{type(columns).__name__}."
        )
    for name, theirs in columns.items():
        if not isinstance(theirs, str) or not theirs.strip():
            raise InputError(
                f"columns must name a column of the table for {show(name)}; got {show(theirs)}. Pass for "
                'example columns={"query": "question_id"} (--columns query=question_id).'
            )
        if name not in COLUMNS:
            turned = ""
            if theirs in COLUMNS:
                turned = f'Did you mean {{"{theirs}": {show(name)}}} (--columns {theirs}={name})? '
            raise InputError(
                f"columns must have names of this library in front of the table's; {show(name)} is none. "
                f"{turned or suggest(str(name), COLUMNS)}".rstrip()
            )


def _checked_grades(grades: Sequence[str]) -> tuple[str, ...]:
    """Return words for confidences as a tuple: two or more, distinct whatever their capital letters."""
    if isinstance(grades, str) or not isinstance(grades, Sequence):
        raise TypeError(
            'grades must be a list of words from the least sure to the surest, such as ["low", "high"]; got '
            f"{show(grades)}."
        )
    words = tuple(str(word).strip() for word in grades)
    folded = [word.casefold() for word in words]
    if len(words) < 2 or not all(words) or len(set(folded)) < len(words):
        raise InputError(
            "grades must be two words or more, all different, from the least sure to the surest; got "
            f"{names_of(words) or 'none'}. Pass for example grades=['low', 'medium', 'high'] (--grades "
            "low,medium,high)."
        )
    return words


def _checked_costs(cost_per_call: Mapping[str, float]) -> dict[str, float]:
    """Return dollars per call by model, each a finite number of at least 0."""
    example = 'cost_per_call={"small": 0.0002, "large": 0.003} (--cost-per-call small=0.0002,large=0.003)'
    if not isinstance(cost_per_call, Mapping):
        raise TypeError(
            f"cost_per_call must map models to US dollars per call; got {type(cost_per_call).__name__}. "
            f"Pass for example {example}."
        )
    costs = {}
    for model, value in cost_per_call.items():
        cost = _finite(value)
        if cost is None or cost < 0.0:
            raise InputError(
                "cost_per_call must give a finite number >= 0 (US dollars per call) for model "
                f"{show(model)}; got {show(value)}. Pass for example {example}."
            )
        costs[str(model)] = cost
    return costs


def _finite(value: Any) -> float | None:
    """Return a finite number, None for anything else; text is no number here."""
    if isinstance(value, str):
        return None
    try:
        found = number(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
