"""Every picture of the library under a short name: ``cb.plot.frontier(frontier)`` and the like.

The functions are those of `cascade_bayes.plots`; each returns the matplotlib axes it drew on.
"""

from cascade_bayes.plots import plot_calibration as calibration
from cascade_bayes.plots import plot_chains as chains
from cascade_bayes.plots import plot_checks as checks
from cascade_bayes.plots import plot_frontier as frontier
from cascade_bayes.plots import plot_margins as margins
from cascade_bayes.plots import plot_prior as prior
from cascade_bayes.plots import plot_ranks as ranks
from cascade_bayes.plots import plot_replicates as replicates
from cascade_bayes.plots import plot_thresholds as thresholds
from cascade_bayes.plots import plot_watch as watch
from cascade_bayes.plots import save_figure as save

__all__ = [
    "calibration",
    "chains",
    "checks",
    "frontier",
    "margins",
    "prior",
    "ranks",
    "replicates",
    "save",
    "thresholds",
    "watch",
]
