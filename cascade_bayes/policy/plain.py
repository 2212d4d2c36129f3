"""Arrays and numbers as files hold them, and back: what callers give, made plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cascade_bayes._files import decode, encode
from cascade_bayes.errors import InputError


def encoded(values: np.ndarray | None) -> Any:
    """Return an array as nested lists of what JSON can hold; None of None."""
    if values is None:
        return None
    return [encoded(row) if isinstance(row, np.ndarray) else encode(row) for row in values]


def decoded(values: Sequence[float | str]) -> np.ndarray:
    """Return thresholds as numbers, from those of a file."""
    return np.asarray([decode(value) for value in values], dtype=float)


def decoded_draws(rows: Sequence[Sequence[float | str]], count: int) -> np.ndarray:
    """Return thresholds of draws, ``(num_draws, count)``, from those of a file."""
    return np.asarray([decoded(row) for row in rows], dtype=float).reshape(len(rows), count)


def plain(value: Any) -> Any:
    """Return a number of NumPy or JAX as one of Python; others, and those of a tuple, likewise."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value


def numbers(name: str, values: Any, num_axes: int) -> np.ndarray | None:
    """Return an array of numbers as one that cannot be written to; None of None."""
    if values is None:
        return None
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} of a policy must be numbers in rows of one length.") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} of a policy must be numbers; got an array of {array.dtype}.")
    if array.ndim != num_axes:
        raise InputError(f"{name} of a policy must have {num_axes} axes; got shape {array.shape}.")
    array = array.astype(float)
    array.setflags(write=False)
    return array
