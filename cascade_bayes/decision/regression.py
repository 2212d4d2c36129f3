"""Regressions over posterior draws: what a decision needs, on what new queries would show.

The mathematics is in `cascade_bayes.decision.information`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cascade_bayes.decision.new_queries import Statistics

NUM_FOLDS = 10

JITTER = 1e-9
"""Added to correlations, of statistics that may say the same twice."""


class Fold(NamedTuple):
    """A regression of targets on the statistics of draws, made without some of the draws.

    Attributes
    ----------
    held
        Which draws it has not seen, ``(num_draws,)``.
    centre, scale
        Means and spreads of the statistics of those it has, ``(num_statistics,)``.
    covariance
        Covariance of their standardised statistics, ``(num_statistics, num_statistics)``.
    mean
        Mean of their targets, ``(num_targets,)``.
    weights
        Coefficients of standardised statistics, ``(num_statistics, num_targets)``.
    """

    held: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    covariance: np.ndarray
    mean: np.ndarray
    weights: np.ndarray


def fit_folds(targets: np.ndarray, statistics: Statistics) -> list[Fold]:
    """Regress targets ``(num_draws, num_targets)`` on the draws' statistics, without each fold in turn."""
    folds = []
    for k in range(NUM_FOLDS):
        held = np.arange(len(targets)) % NUM_FOLDS == k
        draw, mean = statistics.draw[~held], targets[~held].mean(axis=0)
        centre, scale = draw.mean(axis=0), draw.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        standard = (draw - centre) / scale
        weights = ridge(standard, targets[~held] - mean)
        folds.append(Fold(held, centre, scale, standard.T @ standard / len(standard), mean, weights))
    return folds


def predict_from_sample(
    folds: list[Fold], statistics: Statistics, size: int, known: np.ndarray
) -> np.ndarray:
    """Return predictions of each draw's targets from its sample, made from the other draws.

    Parameters
    ----------
    folds
        What `fit_folds` returns.
    statistics
        Statistics of samples and of draws.
    size
        Which of the sizes.
    known
        Which of the statistics the sample shows, ``(num_statistics,)``.

    Returns
    -------
    numpy.ndarray
        ``(num_draws, num_targets)``.
    """
    predicted = np.zeros((len(statistics.draw), len(folds[0].mean)))
    # The statistics of very many queries have some noise of their own, which their covariance holds.
    noise = statistics.noise * (1.0 / statistics.sizes[size] - 1.0 / statistics.many)
    for held, centre, scale, covariance, mean, weights in folds:
        about = (covariance + noise / np.outer(scale, scale))[np.ix_(known, known)]
        unit = np.sqrt(np.where(np.diag(about) > 0, np.diag(about), 1.0))
        correlation = about / np.outer(unit, unit) + JITTER * np.eye(len(unit))
        estimate = np.linalg.solve(correlation, covariance[known] / unit[:, None])
        sample = ((statistics.sample[held, size] - centre) / scale)[:, known] / unit
        predicted[held] = mean + sample @ estimate @ weights
    return predicted


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Return ridge coefficients ``(num_features, num_targets)``.

    The penalty is chosen by generalised cross-validation: for every target that of least
    :math:`\|y - \hat y\|^2 / (n - \mathrm{df})^2` (Golub, Heath & Wahba, Technometrics 21, 1979).
    """
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rotated, total = u.T @ y, np.sum(y**2, axis=0)
    best, chosen = np.full(y.shape[1], np.inf), np.zeros((x.shape[1], y.shape[1]))
    for penalty in len(x) * np.geomspace(1e-3, 1e3, 13):
        shrink = s**2 / (s**2 + penalty)
        residual = total - np.sum((2 * shrink - shrink**2)[:, None] * rotated**2, axis=0)
        score = residual / (len(x) - 1 - shrink.sum()) ** 2
        found = vt.T @ ((s / (s**2 + penalty))[:, None] * rotated)
        better = score < best
        best, chosen = np.where(better, score, best), np.where(better, found, chosen)
    return chosen


def unexplained(values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the share of each column's variance that predictions leave, between 0 and 1."""
    total = np.sum((values - values.mean(axis=0)) ** 2, axis=0)
    left = np.sum((values - predicted) ** 2, axis=0)
    return np.where(total > 0, np.clip(left / np.where(total > 0, total, 1.0), 0.0, 1.0), 1.0)
