r"""Whether ranks are uniform: ranks with ties, a chi-squared test, simultaneous bands of their ECDF.

If the true value of a quantity and :math:`L` draws are exchangeable, the number of draws below the truth is
uniform on :math:`0, \dots, L`, and among :math:`N` independent such ranks

.. math:: c_i = \#\{n : r_n < i\} \sim \mathrm{Binomial}\Big(N, \frac{i}{L + 1}\Big), \qquad i = 1, \dots, L.

Säilynoja, Bürkner & Vehtari (Statistics and Computing 32, 2022) take the least of the two-sided tail
probabilities of these counts,

.. math:: \gamma = \min_i \; 2 \min\{P(B_i \le c_i),\; P(B_i \ge c_i)\},

and bands that all counts keep to with a given probability: those of tail probability :math:`\gamma_\alpha`,
the :math:`\alpha` quantile of :math:`\gamma`. That quantile they find by simulation, or by a recursion over
the points (their section 2.2), which is what stands here. It is exact: increments of the counts are
multinomial, which is to say independent Poisson variables given their sum, so that the probability that all
counts lie in given sets is a chain of convolutions with one Poisson kernel, divided by the probability of the
sum.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

MAX_BINS = 20
MIN_EXPECTED = 10
"""Bins of the chi-squared test at most; ranks that are expected in each at least, if two bins have them."""

NEGLIGIBLE = 1e-25
"""Poisson probabilities below this are left out of a convolution."""


def rank_with_ties(rng: np.random.Generator, truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return how many draws lie below the truth; where some are equal to it, any place among them.

    A tie is broken by a uniform draw, which keeps the rank uniform (Modrák et al., Bayesian Analysis 20,
    2025, section 2). Infinities are values like others.

    Parameters
    ----------
    rng
        Source of randomness.
    truth
        ``(...)``.
    draws
        ``(num_draws, ...)``.

    Examples
    --------
    >>> draws = np.array([[0.1, -np.inf], [0.4, -np.inf], [0.9, 2.0]])
    >>> rank_with_ties(np.random.default_rng(0), np.array([0.5, 3.0]), draws).tolist()
    [2, 3]
    """
    if np.isnan(truth).any() or np.isnan(draws).any():
        raise ValueError("a value that is not a number has no rank.")
    below = np.sum(draws < truth, axis=0)
    equal = np.sum(draws == truth, axis=0)
    return np.asarray(below + rng.integers(0, equal + 1))


def chi_squared_p(ranks: np.ndarray, num_draws: int) -> float:
    """Return the p-value of Pearson's chi-squared test of uniform ranks.

    Parameters
    ----------
    ranks
        ``(num_ranks,)``, whole numbers from 0 to ``num_draws``. They are counted in at most `MAX_BINS` bins
        of values as even in number as can be.
    num_draws
        How many draws each rank is among.
    """
    num_bins = int(np.clip(ranks.size // MIN_EXPECTED, 2, min(MAX_BINS, num_draws + 1)))
    edges = np.round(np.linspace(0, num_draws + 1, num_bins + 1)).astype(int)
    observed = np.diff(np.searchsorted(np.sort(ranks), edges))
    return float(stats.chisquare(observed, ranks.size * np.diff(edges) / (num_draws + 1)).pvalue)


def ecdf_counts(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """Return how many ranks are below 1, 2, ..., ``num_draws``, ``(num_draws,)``."""
    return np.searchsorted(np.sort(ranks), np.arange(1, num_draws + 1))


def ecdf_p(ranks: np.ndarray, num_draws: int) -> float:
    """Return the p-value of the ECDF's farthest excursion; arguments as for `chi_squared_p`.

    It is below ``1 - level`` just where the counts leave the `ecdf_band` of that level.
    """
    tails = _tails(ranks.size, num_draws)
    observed = tails[np.arange(num_draws), ecdf_counts(ranks, num_draws)].min()
    return _chance_of_leaving(tails, observed)


def ecdf_band(num_ranks: int, num_draws: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest counts that a simultaneous band holds.

    Parameters
    ----------
    num_ranks
        Number of ranks.
    num_draws
        How many draws each rank is among.
    level
        Probability, at least, with which all counts of uniform ranks lie in the band.

    Returns
    -------
    tuple of np.ndarray
        Both ``(num_draws,)``, of the same counts as `ecdf_counts`.
    """
    tails = _tails(num_ranks, num_draws)
    inside, outside = 0.0, 1.0  # tail probabilities
    while outside - inside > 1e-6 * outside and outside > 1e-15:
        middle = 0.5 * (inside + outside)
        if _chance_of_leaving(tails, middle) <= 1.0 - level:
            inside = middle
        else:
            outside = middle
    allowed = _allowed(tails, inside)
    return allowed.argmax(axis=1), num_ranks - allowed[:, ::-1].argmax(axis=1)


@lru_cache(maxsize=8)
def _tails(num_ranks: int, num_draws: int) -> np.ndarray:
    """Two-sided tail probability of every count at every point, ``(num_draws, num_ranks + 1)``."""
    chance = np.arange(1, num_draws + 1)[:, None] / (num_draws + 1)
    count = np.arange(num_ranks + 1)
    below = stats.binom.cdf(count, num_ranks, chance)
    above = stats.binom.sf(count - 1, num_ranks, chance)
    return np.minimum(2.0 * np.minimum(below, above), 1.0)


def _allowed(tails: np.ndarray, gamma: float) -> np.ndarray:
    # Mirror images have equal tails but for rounding.
    return tails > gamma * (1.0 + 1e-9)


def _chance_of_leaving(tails: np.ndarray, gamma: float) -> float:
    """Probability that some count of uniform ranks has a tail probability of ``gamma`` or less."""
    num_draws, num_ranks = tails.shape[0], tails.shape[1] - 1
    kernel = stats.poisson.pmf(np.arange(num_ranks + 1), num_ranks / (num_draws + 1))
    short = kernel[: np.flatnonzero(kernel > NEGLIGIBLE).max() + 1]
    chance = np.concatenate([[1.0], np.zeros(num_ranks)])
    for row in _allowed(tails, gamma):
        chance = np.where(row, np.convolve(chance, short)[: num_ranks + 1], 0.0)
    inside = chance @ kernel[::-1] / stats.poisson.pmf(num_ranks, num_ranks)
    return float(np.clip(1.0 - inside, 0.0, 1.0))


def describe_ranks(ranks: np.ndarray, num_draws: int) -> str:
    r"""Say in what way ranks are farthest from uniform (Talts et al., arXiv 1804.06788, section 4.2).

    The mean of :math:`u = (r + 1/2) / (L + 1)` is compared with 1/2, and the mean of
    :math:`12 (u - 1/2)^2` with 1, each in its standard errors.

    Examples
    --------
    >>> describe_ranks(np.array([0, 1, 8, 9]), num_draws=9)
    'too narrow'
    """
    u = (ranks + 0.5) / (num_draws + 1) - 0.5
    shift = np.mean(u) * np.sqrt(12 * ranks.size)
    spread = (np.mean(12 * u**2) - 1.0) / np.sqrt(0.8 / ranks.size)
    if abs(shift) > abs(spread):
        return "too low" if shift > 0 else "too high"
    return "too narrow" if spread > 0 else "too wide"
