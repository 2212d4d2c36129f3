"""The queries of a fit's table by which its decisions are made."""

from __future__ import annotations

from functools import lru_cache

from cascade_bayes.engine.table import Table, draw_table
from cascade_bayes.inference.posterior import Posterior

MAX_ROWS = 4096
"""Queries by which decisions are made, at most."""


def table_of(posterior: Posterior) -> Table:
    """Return the queries of a fit by which decisions are made; the same fit gives the same."""
    if posterior.data.num_queries <= MAX_ROWS:
        return Table(posterior.data, None)
    return _sample(posterior)


@lru_cache(maxsize=2)
def _sample(posterior: Posterior) -> Table:
    return draw_table(posterior.data, posterior.spec.layout.locs, MAX_ROWS)
