"""Whole numbers that users pass, and the bounds within which they make sense."""

from __future__ import annotations

import operator
from typing import Any

from cascade_bayes.errors import InputError

MAX_SEED = 2**32 - 1
"""Largest seed: that of 32 bits, which random number generators of either precision take."""

MAX_COUNT = 1_000_000
"""Most draws, steps, simulated queries and the like: thousands of times what answers a question."""

MAX_QUERIES = 100_000_000
"""Most queries of a simulated table, in which every one takes memory."""

MAX_PRICES = 10_000
"""Most points of a frontier."""

MAX_CHAINS = 1_000
"""Most Markov chains."""


def check_whole(name: str, value: Any, *, low: int = 1, high: int = MAX_COUNT) -> int:
    """Return a whole number that lies between two bounds, both allowed.

    Raises
    ------
    TypeError
        If the value is not a whole number; 3.0 is none.
    InputError
        If it is out of bounds.

    Examples
    --------
    >>> check_whole("num_draws", 10**20)
    Traceback (most recent call last):
    cascade_bayes.errors.InputError: num_draws must be at most 1000000; got 100000000000000000000.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r}.") from None
    if low <= number <= high:
        return number
    bound = f"least {low}" if number < low else f"most {high}"
    # Python refuses to print numbers of thousands of digits.
    shown = str(number) if abs(number) < 10**24 else "a number of over 24 digits"
    raise InputError(f"{name} must be at {bound}; got {shown}.")


def check_seed(value: Any) -> int:
    """Return a seed that random number generators take, from 0 to `MAX_SEED`."""
    return check_whole("seed", value, low=0, high=MAX_SEED)
