"""The evidence that something has changed since the fit, over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cascade_bayes.plots._common import GREY, MARKS, axes_of, literal

if TYPE_CHECKING:
    from cascade_bayes.watching.watch import Watched


def plot_watch(watched: Watched, ax: Any = None) -> Any:
    """Draw the capital won against each figure of each model, over the queries of the log.

    Parameters
    ----------
    watched
        What `cascade_bayes.watch` returns.
    ax
        Axes of matplotlib; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_of(ax, (8.0, 4.5))
    times = [point[0] for point in watched.history] + [watched.num_queries]
    surest = sorted(range(len(watched.streams)), key=lambda i: -watched.streams[i].highest)[: len(MARKS)]
    for i, stream in enumerate(watched.streams):
        capital = [point[1 + i] for point in watched.history] + [stream.log_capital]
        values = [value / math.log(10) for value in capital]
        if i in surest:
            color, mark = MARKS[surest.index(i)]
            label = literal(f"{stream.model}: {stream.figure}")
            ax.plot(times, values, color=color, marker=mark, markevery=0.2, label=label)
        else:
            ax.plot(times, values, color=GREY, linewidth=0.6)
    ax.axhline(
        watched.needed / math.log(10), color="black", linestyle="--", label=f"alarm, level {watched.level:g}"
    )
    ax.set_xlabel("queries of the log")
    ax.set_ylabel("evidence of a change, powers of ten")
    ax.legend(loc="upper left", fontsize="small")
    return ax
