"""What every function does that users call: compute in 64 bits, and say in a sentence what type it wants."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_64_bits(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that computes in 64-bit arithmetic, whatever JAX is set to outside.

    Gradients near certainty lose digits in 32 bits, and programs that were made in one precision cannot be
    used in the other. What the caller has set is the same before and after.

    Parameters
    ----------
    function
        Any function; what it returns to users should be NumPy arrays, or JAX arrays that they know to be of
        64 bits.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> str(in_64_bits(jnp.ones)(3).dtype)
    'float64'
    """

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        import jax  # a module that decides from a file, without JAX, may hold such a function

        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return computed


def need(value: Any, wanted: type | tuple[type, ...], name: str, remedy: str) -> None:
    """Raise a `TypeError` in a sentence unless an argument has the type that a function wants.

    Parameters
    ----------
    value
        The argument.
    wanted
        Its type, or several that will do.
    name
        What the function calls it.
    remedy
        A sentence that says how to get one.

    Examples
    --------
    >>> need("train.parquet", dict, "data", "Read it first.")
    Traceback (most recent call last):
        ...
    TypeError: data must be a dict; got the str 'train.parquet'. Read it first.
    """
    if isinstance(value, wanted):
        return
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    shown = repr(value)
    got = f"the {type(value).__name__} {shown}" if len(shown) <= 60 else f"a {type(value).__name__}"
    if value is None:
        got = "None"
    raise TypeError(f"{name} must be a {' or a '.join(kind.__name__ for kind in kinds)}; got {got}. {remedy}")
