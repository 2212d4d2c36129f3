r"""Tests of fit whose null distribution is known although parameters were estimated.

Let a statistic :math:`S(y, \theta)` have the same distribution :math:`F_0` whatever :math:`\theta` is, if
:math:`y` is drawn given :math:`\theta` (it is pivotal). A draw :math:`\theta^*` from the posterior and the
data have jointly the same distribution as parameter and data, so :math:`S(y, \theta^*) \sim F_0` as well:
no correction for estimated parameters, no bootstrap. Draws of one posterior give p-values that hang
together; twice their mean is again a p-value, however they do (Vovk & Wang).

Randomised conditional probabilities :math:`w` (`cascade_bayes.inference.checks.residuals`) are uniform and
independent of all that came before, atoms or not. With :math:`b_k` the Legendre polynomials, orthonormal on
(0, 1), and :math:`A` an orthonormal basis of what they might depend on, Neyman's smooth statistic

.. math:: S = \sum_{j} \sum_{k=1}^{K} \Big\{ \sum_q A_{qj}\, b_k(w_q) \Big\}^2

is a sum of squares of uncorrelated standardised sums: chi-squared with ``num_columns * K`` degrees of
freedom. For copulas of wrong shape its power is several times that of cells' counts and of the distance of
Genest, Rémillard & Beaudoin (2009).

For labels, with :math:`p_q` the probability of being right, :math:`V = \mathrm{diag}\{p(1-p)\}` and
regressors :math:`X`, the score statistic :math:`(y - p)^\top X (X^\top V X)^{-1} X^\top (y - p)` is
chi-squared with as many degrees of freedom as :math:`X` has columns.

Sources: Johnson, "A Bayesian chi-squared test for goodness-of-fit", Annals of Statistics 32 (2004); Yuan &
Johnson, "Goodness-of-fit diagnostics for Bayesian hierarchical models", Biometrics 68 (2012); Neyman,
"'Smooth' test for goodness of fit", Skandinavisk Aktuarietidskrift 20 (1937); Rayner, Thas & Best, *Smooth
Tests of Goodness of Fit* (2009); Vovk & Wang, "Combining p-values via averaging", Biometrika 107 (2020).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy import stats

MIN_COUNT = 20
"""Queries below which a sum is not close enough to normal to be tested."""

MIN_EXPECTED = 5.0
"""Expected right, and wrong, answers below which labels are not tested: Cochran's rule."""

NEGLIGIBLE = 1e-8
"""Part of a regressor's length, left after projection, below which it is rounding."""


def legendre(u: np.ndarray, degree: int) -> np.ndarray:
    """Return Legendre polynomials of degree 0 to ``degree``, orthonormal on (0, 1), ``(..., degree + 1)``."""
    return legvander(2.0 * u - 1.0, degree) * np.sqrt(2.0 * np.arange(degree + 1) + 1.0)


def rank_polynomials(values: np.ndarray, degree: int) -> np.ndarray:
    """Return polynomials of the relative ranks of values ``(n,)``, ``(n, degree + 1)``.

    Ties share their mean rank, so that an atom counts as one value.
    """
    return legendre((stats.rankdata(values) - 0.5) / len(values), degree)


def orthonormal(columns: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Return an orthonormal basis of what columns ``(n, m)`` span beyond those of ``given``.

    Columns that add nothing, as polynomials of a confidence with few values, are left out.
    """
    if given is not None:
        basis = orthonormal(given)
        length = np.linalg.norm(columns, axis=0)
        columns = columns - basis @ (basis.T @ columns)
        columns = columns[:, np.linalg.norm(columns, axis=0) > NEGLIGIBLE * length]
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    largest = singular[0] if len(singular) else 0.0
    return left[:, singular > NEGLIGIBLE * largest]


def smooth_test(w: np.ndarray, basis: np.ndarray, degree: int) -> np.ndarray:
    """Test that values are uniform and independent of regressors.

    Parameters
    ----------
    w
        Randomised conditional probabilities, ``(num_draws, n)``.
    basis
        Orthonormal columns, ``(n, num_columns)``.
    degree
        Degree of the polynomials: 1 sees shifts, 2 spread, 3 and 4 skewness and tails.

    Returns
    -------
    np.ndarray
        P-values, ``(num_draws,)``.
    """
    sums = np.einsum("qj,dqk->djk", basis, legendre(w, degree)[..., 1:])
    return stats.chi2.sf(np.sum(sums**2, axis=(1, 2)), basis.shape[1] * degree)


def score_test(correct: np.ndarray, prob: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Test that labels have the probabilities that the model gives them.

    Parameters
    ----------
    correct
        ``(n,)``.
    prob
        Probability of being right, ``(num_draws, n)``.
    columns
        Regressors, linearly independent, ``(n, num_columns)``.

    Returns
    -------
    np.ndarray
        P-values, ``(num_draws,)``.
    """
    score = (correct - prob) @ columns
    information = np.einsum("qj,dq,ql->djl", columns, prob * (1.0 - prob), columns)
    statistic = np.einsum("dj,dj->d", score, np.linalg.solve(information, score[..., None])[..., 0])
    return stats.chi2.sf(statistic, columns.shape[1])


def combine(p_values: np.ndarray) -> float:
    """Return one p-value of those of all draws: twice their mean, at most 1."""
    return float(min(2.0 * np.mean(p_values), 1.0))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for how many there are, ``(num_tests,)``.

    Rejecting those below a level rejects any true hypothesis with at most that probability, however the tests
    depend on each other.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).

    Examples
    --------
    >>> holm(np.array([0.01, 0.5, 0.02])).round(3).tolist()
    [0.03, 0.5, 0.04]
    """
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
