"""Ranks of simulation-based calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes.plots._common import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from cascade_bayes.sbc.ranks import CalibrationRanks


def plot_ranks(
    calibration: CalibrationRanks, quantities: Sequence[str] | None = None, level: float = 0.95
) -> Any:
    """Draw how far the ECDF of each quantity's ranks is from uniform, with a simultaneous band.

    Parameters
    ----------
    calibration
        Ranks that `simulation_based_calibration` returns.
    quantities
        Which; all if None.
    level
        Probability with which each band holds the whole curve of a calibrated quantity. Some curves of many
        quantities leave theirs.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a quantity. Curves of quantities that fail at a family-wise 1 % are orange. A curve above the band
        on the left and below it on the right is a posterior too narrow, one above it throughout lies too
        high.
    """
    import matplotlib.pyplot as plt

    from cascade_bayes.sbc.uniformity import ecdf_band, ecdf_counts

    names = list(calibration.ranks if quantities is None else quantities)
    total, num_draws = calibration.num_replications, calibration.num_draws
    u = np.arange(num_draws + 2) / (num_draws + 1)
    low, high = (np.concatenate([[0], x, [total]]) / total - u for x in ecdf_band(total, num_draws, level))
    failed = {test.quantity for test in calibration.failures()}
    columns = min(len(names), 8)
    rows = -(-len(names) // columns)
    _, axes = plt.subplots(
        rows, columns, figsize=(1.7 * columns, 1.35 * rows + 0.4), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, name in zip(axes.ravel(), names, strict=False):
        counts = ecdf_counts(calibration.ranks[name], num_draws)
        curve = np.concatenate([[0], counts, [total]]) / total - u
        ax.fill_between(u, low, high, color=GREY, alpha=0.25, lw=0)
        ax.plot(u, curve, color=ORANGE if name in failed else BLUE, lw=1.0)
        ax.set_title(name, fontsize=6)
        ax.tick_params(labelsize=6)
    for ax in axes.ravel()[len(names) :]:
        ax.set_axis_off()
    axes[-1, 0].set_xlabel("rank of the truth, share of draws", fontsize=7)
    axes[0, 0].set_ylabel("ECDF - uniform,\nshare of tables", fontsize=7)
    return axes.ravel()[: len(names)]
