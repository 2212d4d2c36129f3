"""Records of arrays, field by field; draws, evenly spaced."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def take(tree: Tree, index: Any) -> Tree:
    """Return the same part of every field of a pytree of arrays."""
    return jax.tree.map(lambda field: field[index], tree)


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
