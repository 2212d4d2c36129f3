"""Records of arrays, field by field; draws, evenly spaced; sizes of arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def take(tree: Tree, index: Any) -> Tree:
    """Return the same part of every field of a pytree of arrays."""
    return jax.tree.map(lambda field: field[index], tree)


def in_one_row(field: np.ndarray) -> np.ndarray:
    """Return the draws of all chains one after another: ``(chains, samples, ...)`` becomes ``(draws, ...)``.

    What a draw holds may be empty, as the logits of the weights of one component are.

    Examples
    --------
    >>> in_one_row(np.zeros((2, 50, 3))).shape, in_one_row(np.zeros((2, 50, 0))).shape
    ((100, 3), (100, 0))
    """
    num_chains, num_samples = field.shape[:2]
    return field.reshape((num_chains * num_samples, *field.shape[2:]))


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return ``count`` of the positions 0 to ``total - 1``: the centres of equal stretches.

    Of several chains of one length, one after another, each has the same positions chosen, if ``count`` is a
    multiple of their number.

    Examples
    --------
    >>> evenly_spaced(10, 2).tolist()
    [2, 7]
    """
    return ((np.arange(count) + 0.5) * total / count).astype(int)


def room_for(count: int) -> int:
    """Return the size of arrays that hold so many queries: programs are compiled for sizes, not for counts.

    32 at least, and four sizes from one power of two to the next, so that a twelfth is left empty on
    average, and a fifth at most.

    Examples
    --------
    >>> [room_for(count) for count in (15, 32, 33, 60, 285, 300, 1000)]
    [32, 32, 40, 64, 320, 320, 1024]
    """
    if count <= 32:
        return 32
    step = 2 ** ((count - 1).bit_length() - 3)
    return -(-count // step) * step
