"""Pictures, in matplotlib: each function returns the axes it drew on."""

from cascade_bayes.plots._common import save_figure
from cascade_bayes.plots.checks import (
    plot_calibration,
    plot_chains,
    plot_checks,
    plot_margins,
    plot_replicates,
)
from cascade_bayes.plots.decision import plot_frontier
from cascade_bayes.plots.prior import plot_prior
from cascade_bayes.plots.ranks import plot_ranks
from cascade_bayes.plots.thresholds import plot_thresholds
from cascade_bayes.plots.watching import plot_watch

__all__ = [
    "plot_calibration",
    "plot_chains",
    "plot_checks",
    "plot_frontier",
    "plot_margins",
    "plot_prior",
    "plot_ranks",
    "plot_replicates",
    "plot_thresholds",
    "plot_watch",
    "save_figure",
]
