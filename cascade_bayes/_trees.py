"""Records of arrays, field by field."""

from __future__ import annotations

from typing import Any, TypeVar

import jax

Tree = TypeVar("Tree")


def take(tree: Tree, index: Any) -> Tree:
    """Return the same part of every field of a pytree of arrays."""
    return jax.tree.map(lambda field: field[index], tree)
