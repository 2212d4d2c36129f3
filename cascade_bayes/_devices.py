"""Work divided among devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

P = ParamSpec("P")
R = TypeVar("R")


def num_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_set_here(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that computes as JAX is set here, whichever thread calls it.

    What ``with jax.enable_x64(...)``, ``jax.default_device`` or ``jax.default_matmul_precision`` set holds
    for a thread alone; another one would compute in other numbers, or on another device.

    Parameters
    ----------
    function
        Any function.
    """
    names = ("enable_x64", "default_device", "default_matmul_precision")
    wide, device, precision = (getattr(jax.config, f"jax_{name}") for name in names)

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(wide), jax.default_device(device), jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return computed


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number that is not above ``most``; at least 1."""
    return next((k for k in range(min(number, most), 0, -1) if number % k == 0), 1)


def divide(
    function: Callable[..., Any], length: int, axes: Sequence[int | None], out_axis: int
) -> Callable[..., Any]:
    """Return the function with its work divided evenly among devices, as many of them as can share it.

    Each device sees its part of the arguments and runs on its own; nothing passes between them.

    Parameters
    ----------
    function
        Function of pytrees of arrays, which must not mix elements along the divided axes.
    length
        Length of these axes.
    axes
        Which axis of each argument is divided; None for arguments that every device needs whole.
    out_axis
        Which axis of the results is put together from the parts.
    """
    num_devices = largest_divisor(length, jax.local_device_count())
    if num_devices == 1:
        return function

    def spec(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "part")

    return jax.shard_map(
        function,
        mesh=Mesh(np.array(jax.local_devices()[:num_devices]), ("part",)),
        in_specs=tuple(spec(axis) for axis in axes),
        out_specs=spec(out_axis),
        check_vma=False,
    )


def divide_lanes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function mapped over the first axis of its arguments, divided among devices.

    What is left over of an uneven division is filled up with copies of the last lane, which are dropped
    again.
    """

    def mapped(*args: Any) -> Any:
        num_lanes = len(jax.tree.leaves(args)[0])
        extra = -num_lanes % min(num_lanes, jax.local_device_count())

        def filled(x: jax.Array) -> jax.Array:
            return jnp.concatenate([x, jnp.repeat(x[-1:], extra, axis=0)]) if extra else x

        full = jax.tree.map(filled, args)
        found = divide(jax.vmap(function), num_lanes + extra, [0] * len(args), 0)(*full)
        return jax.tree.map(lambda x: x[:num_lanes], found)

    return mapped
