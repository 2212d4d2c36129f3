"""Names of models and columns in messages, and lists of models that users pass."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence, Set

from cascade_bayes.errors import InputError

MAX_NAMES, MAX_LENGTH = 10, 80
"""Most names that a message lists, and most characters that it shows of one."""


def names_of(items: Iterable[str]) -> str:
    """Quote and join names for a message, which must stay readable whatever a table holds.

    Examples
    --------
    >>> names_of(["a", "b"])
    "'a', 'b'"
    >>> names_of(map(str, range(10_000)))
    "'0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 9,990 more"
    """
    names = [str(item) for item in items]
    cut = [name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 3]}..." for name in names[:MAX_NAMES]]
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(repr, cut)) + more


def suggest(name: str, known: Sequence[str]) -> str:
    """Return a sentence that points from an unknown name to the known ones.

    Examples
    --------
    >>> suggest("gpt4o", ["gpt-4o", "llama"])
    "Did you mean 'gpt-4o'? Known: 'gpt-4o', 'llama'."
    """
    close = difflib.get_close_matches(name, known, n=1)
    question = f"Did you mean {names_of(close)}? " if close else ""
    return f"{question}Known: {names_of(known)}."


def listed(models: Iterable[str]) -> tuple[str, ...]:
    """Return names that a user lists in an order as a tuple (`TypeError` if it is no list)."""
    if isinstance(models, str):
        raise TypeError(f"models must be a list of names; got the string {names_of([models])}.")
    if not isinstance(models, Iterable) or isinstance(models, bytes | Set | Mapping):
        raise TypeError(f"models must be a list of names in cascade order; got {type(models).__name__}.")
    return tuple(str(name) for name in models)


def check_models(models: Sequence[str], known: Sequence[str], *, minimum: int) -> tuple[str, ...]:
    """Return a list of models as a tuple: known, distinct, at least so many (`InputError`)."""
    names, existing, seen = listed(models), set(known), set()
    for name in names:
        if name not in existing:
            raise InputError(
                f"models names {names_of([name])}, which is not in the data. {suggest(name, known)}"
            )
        if name in seen:
            raise InputError(f"models must name each model once; {names_of([name])} is listed twice.")
        seen.add(name)
    if len(names) < minimum:
        raise InputError(
            f"models must name at least {minimum} of {names_of(known)}; got {list(names)}. "
            "Pass for example models=['a', 'b'] (--models a,b)."
        )
    return names


def typed_list(names: Sequence[str], ending: str = "", placeholder: str = "A,B,...") -> str:
    """Return names as a comma-separated list to type in a shell, a placeholder if they cannot be typed so.

    Parameters
    ----------
    names
        Names of models.
    ending
        What stands behind each.
    placeholder
        What to show for names with commas or signs of equality, for long and for many ones.

    Examples
    --------
    >>> typed_list(["small", "the large one"])
    "'small,the large one'"
    """
    typable = len(names) <= MAX_NAMES and all(
        name.isprintable()
        and len(name) <= MAX_LENGTH // 2
        and not set(name) & set(",=")
        and name == name.strip()
        for name in names
    )
    return shlex.quote(",".join(f"{name}{ending}" for name in names)) if typable else placeholder
