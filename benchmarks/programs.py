"""Compiled programs of a process that compiles for hours."""

from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
MANY_MAPS = 20_000
"""Linux gives a process 65530 memory maps; every compiled program holds some."""


def drop_programs() -> None:
    """Drop all compiled programs if they are many, before the process runs out of memory maps."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
