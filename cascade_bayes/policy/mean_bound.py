"""An upper bound of a mean that holds for any distribution between 0 and 1, by betting.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal
Statistical Society B 86, 2024, section 4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LARGEST_STAKE = 0.5
"""Share of the capital that a bet may lose at most, so that no single cost ruins the gambler."""


def upper_mean(values: NDArray[np.float64], delta: float) -> float:
    r"""Return an upper bound of the mean of numbers between 0 and 1, by betting.

    Against the hypothesis that the mean is at least :math:`m`, the capital is multiplied by
    :math:`1 + \lambda_i (m - x_i)` at each number. The stakes :math:`\lambda_i` are chosen from the numbers
    before; the bound is the least :math:`m` at which the capital has reached :math:`1/\delta` at some time.

    Parameters
    ----------
    values
        Independent numbers of one distribution, ``(num_values,)``, each in [0, 1]; their order must not be
        by their values, so they are shuffled.
    delta
        Probability with which the mean may exceed the bound.

    Examples
    --------
    >>> bound = upper_mean(np.full(1000, 0.25), 0.05)
    >>> 0.25 < bound < 0.28
    True
    """
    x = np.random.default_rng(0).permutation(np.asarray(values, dtype=float))
    count = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (count + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])  # a stake may look at the numbers before it alone
    stake = np.sqrt(2 * math.log(1 / delta) / (len(x) * before))

    def reached(m: float) -> bool:
        bets = np.minimum(stake, LARGEST_STAKE / (1 - m)) if m < 1 else stake
        return bool(np.cumsum(np.log1p(bets * (m - x))).max() >= math.log(1 / delta))

    low, high = 0.0, 1.0
    if not reached(1 - 1e-12):
        return 1.0
    for _ in range(50):  # the capital grows with m
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
