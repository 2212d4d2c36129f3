r"""Bets against "new values come from where the table's values came from", which nobody need know.

The hypothesis is that the :math:`n` values of a table and all new ones are exchangeable. No distribution is
assumed, and no posterior is trusted: that of a fit is uncertain, and bets against its predictive would win in
time by its error alone. Exact under the hypothesis are the ranks. Ties are broken at random. The order
statistics of the table cut the line into :math:`n + 1` gaps; gaps are joined into bins, bin :math:`b` of
:math:`g_b` gaps. A new value falls into bin :math:`b`, after :math:`c_b` of the :math:`t` new ones before
fell there, with the probability of Pólya's urn,

.. math:: \pi_b = \frac{g_b + c_b}{n + 1 + t},

so that with :math:`U` uniform :math:`p = \sum_{b' < b} \pi_{b'} + U \pi_b` is uniform, and independent of
those before. A gambler who multiplies their capital by :math:`f(p)` with :math:`\int f = 1` has a test
martingale: by Ville's inequality it ever reaches :math:`1/\alpha` with a probability of at most
:math:`\alpha`.

The gambler does not know which change comes, nor when. The capital is divided among several bets (up, down,
apart, together, or none at all), and a small share of it is divided anew at every step; capitals with several
such shares are added up. Dividing keeps the sum, so the sum stays a martingale.

Sources: Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", chapter 8; Vovk et al., "Retrain
or not retrain: conformal test martingales for change-point detection" (COPA 2021), for the jumps; Vovk &
Wang, "E-values" (Annals of Statistics 2021); Ramdas, Grünwald, Vovk & Shafer, "Game-theoretic statistics and
safe anytime-valid inference" (Statistical Science 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_BINS = 64
"""Bins of a stream at most: finer ones tell no more of a change that a few hundred values can show."""

JUMPS = np.array([1e-2, 1e-3, 1e-4])
"""Shares of the capital that are divided anew at every step, the larger for changes that come late."""

TILTS = np.array([-1.9, -1.0, -0.4, 0.4, 1.0, 1.9])
"""Slopes of the bets that values lie lower or higher; below 2, so that no capital is ever lost whole."""

SPREADS = np.array([-0.45, 0.9])
"""Bets that values lie in the middle, or at the ends; between -1/2 and 1."""

NUM_BETS = len(TILTS) + len(SPREADS) + 1
"""Bets among which capital is divided, the last being none at all."""


def start_capital(*shape: int) -> Array:
    """Return a capital of one, divided evenly, of each of several gamblers: ``(*shape, jumps, bets)``."""
    return np.full((*shape, len(JUMPS), NUM_BETS), 1.0 / (len(JUMPS) * NUM_BETS))


def payoff(p: Array) -> Array:
    """Return by what each bet multiplies what is staked on it, ``(..., bets)``; its mean over ranks is one.

    Parameters
    ----------
    p
        Uniform under the hypothesis, ``(...)``.
    """
    centred = np.asarray(p)[..., None] - 0.5
    return np.concatenate(
        [1 + TILTS * centred, 1 + SPREADS * (12 * centred**2 - 1), np.ones_like(centred)], axis=-1
    )


def bet(capital: Array, p: Array) -> Array:
    """Return the capital after one more bet.

    Parameters
    ----------
    capital
        ``(..., jumps, bets)``; its sum over both is the gambler's.
    p
        Uniform under the hypothesis, ``(...)``.

    Examples
    --------
    >>> float(bet(start_capital(), np.float64(0.5)).sum()) < 1  # no news
    True
    """
    pays = payoff(p)
    shared = (1 - JUMPS[:, None]) * capital + JUMPS[:, None] * capital.mean(axis=-1, keepdims=True)
    return np.asarray(shared * pays[..., None, :])


def edges_of(values: Array, ties: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return the edges of bins between values of a table, and how many gaps are in each.

    Parameters
    ----------
    values
        The table's values, ``(num_values,)``, any order.
    ties
        Uniform random numbers that break ties, of the same shape.

    Returns
    -------
    values, ties : ndarray
        Those of each edge, ``(num_bins - 1,)``, ascending.
    gaps : ndarray
        ``(num_bins,)``; they add up to ``num_values + 1``.
    """
    order = np.lexsort((ties, values))
    count = len(values)
    bins = min(MAX_BINS, count + 1)
    last = np.round(np.arange(1, bins) * (count + 1) / bins).astype(int)  # gaps up to each edge
    at = order[last - 1]
    return values[at], ties[at], np.diff(np.concatenate([[0], last, [count + 1]]))


def bin_of(edge_values: Array, edge_ties: Array, value: float, tie: float) -> int:
    """Return the bin that a value falls into."""
    low = int(np.searchsorted(edge_values, value, side="left"))
    high = int(np.searchsorted(edge_values, value, side="right"))
    return low + int(np.searchsorted(edge_ties[low:high], tie))


def rank(counts: Array, place: NDArray[np.int64], u: Array) -> Array:
    """Return the ranks of new values, uniform under the hypothesis; several streams at once.

    Parameters
    ----------
    counts
        Gaps and new values before in each bin, ``(..., num_bins)``.
    place
        The bin of each new value, ``(...)``.
    u
        Uniform random numbers, ``(...)``.
    """
    below = np.cumsum(counts, axis=-1)
    own = np.take_along_axis(counts, place[..., None], axis=-1)[..., 0]
    upto = np.take_along_axis(below, place[..., None], axis=-1)[..., 0]
    return np.asarray((upto - (1 - u) * own) / below[..., -1])
