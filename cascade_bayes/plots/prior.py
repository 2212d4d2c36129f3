"""What the priors say of a cascade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes.plots._common import BLUE, ORANGE, literal

if TYPE_CHECKING:
    from cascade_bayes.inference.prior import PriorDraws


@in_64_bits
def plot_prior(prior: PriorDraws, num_lines: int = 40) -> Any:
    """Draw what the priors say of a cascade: margins, calibration curves and accuracies.

    Parameters
    ----------
    prior
        Draws of the prior that `sample_prior` returns.
    num_lines
        Draws shown as lines.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One row a model. Left, densities of the standardised score, in which a uniform one is flat, with the
        share that is exactly certain left out; middle, how often the model is right at a score; right, its
        accuracy.
    """
    import matplotlib.pyplot as plt

    score = np.linspace(0.01, 0.99, 197)
    count = len(prior.models)
    _, axes = plt.subplots(count, 3, figsize=(9.6, 2.1 * count), squeeze=False, layout="constrained")
    density, curves, accuracy = prior.densities(score), prior.curves(score), prior.accuracies()
    shown = slice(None, min(num_lines, prior.num_draws))
    for i, name in enumerate(prior.models):
        for ax, lines in ((axes[i, 0], density), (axes[i, 1], curves)):
            ax.plot(score, lines[shown, i].T, color=BLUE, lw=0.6, alpha=0.35)
            ax.plot(score, np.median(lines[:, i], axis=0), color=ORANGE, lw=1.8)
            ax.set_xlim(0, 1)
        axes[i, 0].set_ylim(0, 1.2 * np.quantile(density[shown, i].max(axis=1), 0.9))
        axes[i, 1].set_ylim(0, 1)
        axes[i, 2].hist(accuracy[:, i], bins=np.linspace(0, 1, 26), color=BLUE, alpha=0.6)
        axes[i, 2].axvline(float(np.median(accuracy[:, i])), color=ORANGE, lw=1.8)
        axes[i, 2].set_xlim(0, 1)
        axes[i, 2].set_yticks([])
        axes[i, 0].set_ylabel(literal(name))
    for ax, title in zip(
        axes[0], ("density of the score", "share right at a score", "accuracy"), strict=True
    ):
        ax.set_title(title)
    for ax, label in zip(
        axes[-1],
        ("standardised score (0 to 1)", "standardised score (0 to 1)", "share of answers that are right"),
        strict=True,
    ):
        ax.set_xlabel(label)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return axes
