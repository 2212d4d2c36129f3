"""Work divided among devices gives what one device gives."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_bayes._devices import as_set_here, divide, divide_lanes, largest_divisor


@pytest.mark.parametrize(
    ("number", "most", "wanted"), [(4, 3, 2), (4, 6, 4), (4, 2, 2), (7, 4, 1), (6, 4, 3), (5, 0, 1)]
)
def test_as_many_devices_as_can_share(number: int, most: int, wanted: int) -> None:
    assert largest_divisor(number, most) == wanted


@pytest.mark.parametrize("num_lanes", [1, 2, 5])
def test_lanes_are_filled_up_and_dropped_again(num_lanes: int) -> None:
    assert jax.local_device_count() > 1
    x = jnp.arange(3.0 * num_lanes).reshape(num_lanes, 3)
    scale = jnp.arange(1.0, 1.0 + num_lanes)

    def one(pair: dict[str, jax.Array], scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(pair["x"]) * scale, pair["x"] + scale

    found = jax.jit(divide_lanes(one))({"x": x}, scale)
    wanted = jax.vmap(one)({"x": x}, scale)
    for got, exact in zip(found, wanted, strict=True):
        assert got.shape == exact.shape
        np.testing.assert_array_equal(got, exact)


def test_any_axis_is_divided() -> None:
    x, offset = jnp.arange(24.0).reshape(2, 6, 2), jnp.array([10.0, 20.0])
    found = jax.jit(divide(lambda x, offset: (2 * x + offset).swapaxes(0, 1), 6, (1, None), 0))(x, offset)
    np.testing.assert_array_equal(found, (2 * x + offset).swapaxes(0, 1))


def test_another_thread_computes_as_is_set_here() -> None:
    second = jax.local_devices()[1]
    with ThreadPoolExecutor(1) as pool:
        with jax.enable_x64(False), jax.default_device(second):
            here = as_set_here(lambda: jnp.ones(2))
            found = pool.submit(here).result()
        assert found.dtype == jnp.float32
        assert found.devices() == {second}
        assert pool.submit(lambda: jnp.ones(2)).result().dtype == jnp.float64
