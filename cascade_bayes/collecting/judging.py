"""Whether an answer is right: scorers of Inspect by name or of the user, and what their scores say."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from inspect_ai.scorer import Scorer, accuracy, scorer, value_to_float

from cascade_bayes._names import suggest
from cascade_bayes.collecting.desk import GRADED, Desk
from cascade_bayes.errors import InputError

NAMES = ("choice", "match", "includes", "exact", "model_graded_qa")
"""Scorers of Inspect that are known by name."""

RIGHT_ABOVE = 0.5
"""A score above this is that of a right answer: C and 1 are, P (partly right, 0.5), I, N and 0 are not."""


def find_scorer(given: Any, grader: Any = None) -> Scorer:
    """Return the scorer that a user names or passes.

    Parameters
    ----------
    given
        One of `NAMES`; ``module:function`` of a function that returns a scorer; or a scorer.
    grader
        The model that grades, for ``model_graded_qa``.

    Raises
    ------
    InputError
        If there is no such scorer.
    """
    import inspect_ai.scorer as scorers

    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(f"scorer must be a scorer of Inspect or its name; got {type(given).__name__}.")
        return given
    if given == "model_graded_qa":
        return scorers.model_graded_qa(model=grader)
    if given in NAMES:
        return getattr(scorers, given)()
    module, colon, name = given.partition(":")
    if not colon:
        raise InputError(
            f"there is no scorer {given!r}. {suggest(given, NAMES)} Name one of these, or one of your own as "
            "MODULE:FUNCTION."
        )
    try:
        made = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(
            f"the scorer {given!r} cannot be made: {error}. Name a module that Python finds and a function "
            "in it that takes no arguments and returns a scorer of Inspect."
        ) from error
    return made


def judged_for(desk: Desk, inner: Scorer) -> Scorer:
    """Return a scorer that tells a grader whose answer it looks at, so that its calls are entered."""

    @scorer(metrics=[accuracy()])  # type: ignore[untyped-decorator]
    def judged() -> Scorer:
        async def score(state: Any, target: Any) -> Any:
            query = str(state.sample_id)
            token = GRADED.set((desk.name, query))
            try:
                return await inner(state, target)
            except Exception as error:
                desk.failed.setdefault(query, getattr(error, "kind", "scorer"))
                raise
            finally:
                GRADED.reset(token)

        return score

    return judged()


def is_right(value: Any, above: float = RIGHT_ABOVE) -> int | None:
    """Return 1 for the score of a right answer, 0 for that of a wrong one, None for what is no score.

    Parameters
    ----------
    value
        ``C``, ``I``, ``P`` or ``N`` of Inspect, a word such as yes or false, a truth value or a number.
    above
        What a score has to be above.
    """
    to_float: Callable[[Any], float] = value_to_float()
    if isinstance(value, dict | list) or value is None:
        return None
    if isinstance(value, str) and value.strip().lower() not in _WORDS:
        try:
            number = float(value)
        except ValueError:
            return None
    else:
        number = to_float(value)
    return None if number != number else int(number > above)


_WORDS = {"c", "i", "p", "n", "yes", "no", "true", "false"}
