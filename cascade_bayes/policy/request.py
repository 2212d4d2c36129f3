"""A limit that a policy is to keep: a budget, or a target for its errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

HULL_MARGIN = 0.01
"""Relative error that is allowed for where policies of a sweep stand for all there are."""


class Request(NamedTuple):
    """A limit that a policy is to keep with a probability.

    Attributes
    ----------
    figure
        What is limited, a field of `cascade_bayes.engine.figures.Predicted`: ``"expense"``, US dollars per
        query, or ``"error"``.
    limit
        The limit.
    probability
        Posterior probability with which it must hold.
    """

    figure: str
    limit: float
    probability: float

    @property
    def other(self) -> str:
        """The figure whose posterior mean is to be least."""
        return "error" if self.figure == "expense" else "expense"

    def needed(self, values: np.ndarray) -> np.ndarray:
        """Return the least limits that are kept with the probability.

        Parameters
        ----------
        values
            Draws of the figure, ``(..., num_draws)``; the result is ``(...)``.

        Examples
        --------
        >>> Request("error", 0.2, 0.75).needed(np.array([0.1, 0.4, 0.2, 0.3]))
        np.float64(0.3)
        """
        count = values.shape[-1]
        enough = math.ceil(self.probability * count)
        if enough > 1 and (enough - 1) / count >= self.probability:  # the product was rounded up
            enough -= 1
        return np.asarray(np.partition(values, enough - 1, axis=-1)[..., enough - 1])[()]

    def least_value(self, error_prices: np.ndarray, error: np.ndarray, expense: np.ndarray) -> float:
        """Return what a cascade's other figure cannot be below, from its sweep over prices.

        At each price no policy of the cascade has less than the least loss. With the limited figure at its
        limit, that bounds the other one. It holds up to `HULL_MARGIN`: the limit is of a quantile and the
        loss a mean, which are taken to lie no further apart than with any policy of the sweep.

        Parameters
        ----------
        error_prices
            US dollars per wrong answer, ``(num_prices,)``.
        error, expense
            Draws of what the sweep's policies do, ``(num_prices, num_draws)``.
        """
        limited = expense if self.figure == "expense" else error
        needed = self.needed(limited)
        ratio = np.max(np.where(needed > 0, limited.mean(axis=1) / np.where(needed > 0, needed, 1.0), 1.0))
        loss = expense.mean(axis=1) + error_prices * error.mean(axis=1)
        if self.figure == "expense":
            bound = np.max((loss - ratio * self.limit) / error_prices)
        else:
            bound = np.max(loss - error_prices * ratio * self.limit)
        return float(bound - HULL_MARGIN * abs(bound))
