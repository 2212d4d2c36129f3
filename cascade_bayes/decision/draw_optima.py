"""Thresholds that are optimal on single posterior draws, found when they are asked for."""

from __future__ import annotations

import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes._trees import take
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.sweep import own_optima
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.shorter import spelled_out

BESIDE = 6
"""Prices to either side whose thresholds may be the optimum of some draw."""


class DrawOptima:
    """The thresholds that are optimal on each posterior draw, found when they are asked for.

    Of the many prices and cascades of a sweep few are ever asked about.

    Parameters
    ----------
    chain
        The cascade on its grid.
    error_prices
        US dollars per wrong answer, ``(num_prices,)``.
    cuts
        The thresholds that are best on average there: those of single draws are not far.
    """

    def __init__(self, chain: Discretised, error_prices: np.ndarray, cuts: Cuts) -> None:
        self.chain = chain
        self._error_prices, self._cuts = error_prices, cuts
        self._found: dict[int, Cuts] = {}

    @in_64_bits
    def __call__(self, index: int) -> Cuts:
        """Return raw thresholds at the price of an index, ``(num_draws, num_models - 1)``."""
        if index not in self._found:
            near = take(self._cuts, slice(max(index - BESIDE, 0), index + BESIDE + 1))
            at = own_optima(self.chain, float(self._error_prices[index]), self.chain.positions(near))
            self._found[index] = spelled_out(self.chain.cuts(at))
        return self._found[index]
