"""Compiled programs of a process that compiles for hours."""

from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
MANY_MAPS = 30_000
"""Linux gives a process 65530 memory maps. Four models and one size of their tables take 8000 to 14000."""


def drop_programs(many: int = MANY_MAPS) -> None:
    """Drop all compiled programs if they hold more memory maps than so many, before the process runs out."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > many:
        jax.clear_caches()
