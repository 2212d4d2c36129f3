"""Thresholds that are optimal on single posterior draws, found when they are asked for."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.sweep import own_optima
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.shorter import spelled_out

_recent: OrderedDict[int, tuple[Discretised, ChainTables]] = OrderedDict()

NUM_RECENT = 4
"""Cascades whose tables are kept for the next question: those of five models take 100 MB."""


def tables_of(chain: Discretised) -> ChainTables:
    """Return the tables of a cascade, which are kept while few others are asked about."""
    kept, tables = _recent.pop(id(chain), (None, None))
    if tables is None or kept is not chain:
        tables = chain.tables()
    _recent[id(chain)] = chain, tables
    while len(_recent) > NUM_RECENT:
        _recent.popitem(last=False)
    return tables


class DrawOptima:
    """The thresholds that are optimal on each posterior draw, found when they are asked for.

    Of the many prices and cascades of a sweep few are ever asked about.

    Parameters
    ----------
    chain
        The cascade on its grid.
    error_prices
        US dollars per wrong answer, ``(num_prices,)``.
    """

    def __init__(self, chain: Discretised, error_prices: np.ndarray) -> None:
        self.chain = chain
        self._error_prices = error_prices
        self._found: dict[int, Cuts] = {}

    @in_64_bits
    def __call__(self, index: int) -> Cuts:
        """Return raw thresholds at the price of an index, ``(num_draws, num_models - 1)``."""
        if index not in self._found:
            at = own_optima(self.chain, tables_of(self.chain), float(self._error_prices[index]))
            self._found[index] = spelled_out(self.chain.cuts(at))
        return self._found[index]
