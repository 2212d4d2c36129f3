"""The root of an increasing function: smooth, far from its guess, steep, flat, with a jump, or nowhere."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_bayes.special import find_root

Function = Callable[[jax.Array], jax.Array]
GUESSES = jnp.array([-700.0, -3.0, 0.0, 0.3, 2.0, 650.0])
FUNCTIONS: dict[str, tuple[Function, float]] = {
    "line": (lambda x: 3.0 * x - 1.0, 1.0 / 3.0),
    "cubic, flat at its root": (lambda x: (x - 0.25) ** 3, 0.25),
    "steep and then flat": (lambda x: jnp.tanh(40.0 * (x - 2.0)) + 0.5, 2.0 + np.arctanh(-0.5) / 40.0),
    "jump over zero": (lambda x: x - 300.0 + jnp.where(x >= 1.5, 600.0, 0.0), 1.5),
    "infinite at both ends": (
        lambda x: jnp.log(jnp.maximum(x + 5.0, 0.0)) - jnp.log(jnp.maximum(5.0 - x, 0.0)),
        0.0,
    ),
    "below zero": (lambda x: x - 2000.0, 745.0),
    "above zero": (lambda x: x + 2000.0, -745.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_root_from_any_guess(name: str) -> None:
    function, wanted = FUNCTIONS[name]

    def with_slope(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(function, (x,), (jnp.ones_like(x),))

    found = np.asarray(jax.jit(lambda guess: find_root(with_slope, -745.0, 745.0, guess))(GUESSES))
    # A root of third order is found to the third root of what the function can tell from 0.
    np.testing.assert_allclose(found, wanted, atol=1e-5 if "cubic" in name else 1e-12)


def test_ends_differ_by_element_and_nothing_is_sought_of_a_guess_that_is_not_a_number() -> None:
    def with_slope(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x, jnp.ones_like(x)

    low, high = jnp.array([-2.0, 1.0, -9.0, -1.0]), jnp.array([2.0, 4.0, -3.0, 1.0])
    found = find_root(with_slope, low, high, jnp.array([1.0, 2.0, -5.0, jnp.nan]))
    np.testing.assert_allclose(found, [0.0, 1.0, -3.0, np.nan], atol=1e-12)
