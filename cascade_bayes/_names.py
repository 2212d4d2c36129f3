"""Names of models and columns in messages, and lists of models that users pass."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from cascade_bayes.errors import InputError


def names_of(items: Iterable[str]) -> str:
    """Quote and join names for a message."""
    return ", ".join(repr(str(item)) for item in items)


def suggest(name: str, known: Sequence[str]) -> str:
    """Return a sentence that points from an unknown name to the known ones.

    Examples
    --------
    >>> suggest("gpt4o", ["gpt-4o", "llama"])
    "Did you mean 'gpt-4o'? Known: 'gpt-4o', 'llama'."
    """
    close = difflib.get_close_matches(name, known, n=1)
    question = f"Did you mean {close[0]!r}? " if close else ""
    return f"{question}Known: {names_of(known)}."


def check_models(models: Sequence[str], known: Sequence[str], *, minimum: int) -> tuple[str, ...]:
    """Return a list of models as a tuple: known, distinct, at least so many (`InputError`)."""
    if isinstance(models, str):
        raise TypeError(f"models must be a list of names; got the string {models!r}.")
    listed = tuple(str(name) for name in models)
    for position, name in enumerate(listed):
        if name not in known:
            raise InputError(f"models names {name!r}, which is not in the data. {suggest(name, known)}")
        if name in listed[:position]:
            raise InputError(f"models must name each model once; {name!r} is listed twice.")
    if len(listed) < minimum:
        raise InputError(
            f"models must name at least {minimum} of {names_of(known)}; got {list(listed)}. "
            "Pass for example models=['a', 'b'] (--models a,b)."
        )
    return listed
