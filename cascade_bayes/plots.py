"""Pictures: the error-cost frontier, the posterior of the thresholds, and what the priors say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.decision.policy import Policy
    from cascade_bayes.evaluation.ranks import CalibrationRanks
    from cascade_bayes.inference.prior import PriorDraws

# Okabe & Ito's palette, told apart by readers with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7f7f7f"


def plot_frontier(
    frontier: Frontier, realised: Sequence[dict[str, Any]] | None = None, ax: Any = None
) -> Any:
    """Draw predicted error against cost with the 90 % posterior band, and realised points on top.

    Parameters
    ----------
    frontier
        From `error_cost_frontier`.
    realised
        ``frontier.evaluate(data)``; omitted if None.
    ax
        Matplotlib axes; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        Cost in US dollars per thousand queries, error in percent.
    """
    ax = _axes(ax, (6.4, 4.4))
    cost = 1e3 * frontier.cost.mean(axis=1)
    low, mean, high = (100 * x for x in _band(frontier.error))
    order = np.argsort(cost)
    ax.fill_between(
        cost[order], low[order], high[order], color=BLUE, alpha=0.2, lw=0, label="90 % posterior band"
    )
    ax.plot(cost[order], mean[order], color=BLUE, lw=1.8, label="predicted")
    if realised is not None:
        x = np.asarray([1e3 * row["realised_cost"] for row in realised])
        y = np.asarray([100 * row["realised_error"] for row in realised])
        se = np.asarray([100 * row["realised_error_se"] for row in realised])
        number = realised[0]["num_queries"]
        ax.errorbar(
            x,
            y,
            yerr=1.645 * se,
            fmt="o",
            ms=4,
            lw=0.8,
            color=ORANGE,
            label=f"realised on {number} queries, 90 % interval",
        )
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("cost, US dollars per 1000 queries")
    ax.set_ylabel("error, %")
    ax.set_title(" > ".join(frontier.models), fontsize=9)
    ax.grid(alpha=0.25, which="both")
    ax.legend(frameon=False)
    return ax


def plot_thresholds(policy: Policy, axes: Any = None) -> Any:
    """Draw the posterior of each optimal threshold, with the Bayes threshold and 90 % interval.

    The horizontal axis is the raw confidence; draws on which the model should never, or always, defer
    are counted in the title of each panel.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a threshold.
    """
    count = len(policy.thresholds)
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(count, 1, figsize=(6.4, 1.7 * count), squeeze=False, layout="constrained")
    axes = np.asarray(axes).ravel()
    intervals = policy.threshold_interval(0.9)
    for i, ax in enumerate(axes):
        draws = policy.draw_thresholds[:, i]
        inside = draws[np.isfinite(draws)]
        if inside.size:
            ax.hist(inside, bins=_bins(inside), color=BLUE, alpha=0.45)
        for value in intervals[i]:
            if np.isfinite(value):
                ax.axvline(value, color=GREY, ls="--", lw=1)
        chosen = float(policy.thresholds[i])
        if np.isfinite(chosen):
            ax.axvline(chosen, color=ORANGE, lw=1.8)
        never, always = np.mean(draws == -np.inf), np.mean(draws == np.inf)
        ax.set_title(
            f"{policy.models[i]}: defer below {describe_threshold(chosen)}   "
            f"(never defer on {never:.0%}, always on {always:.0%} of draws)",
            fontsize=9,
            loc="left",
        )
        ax.set_yticks([])
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
    axes[-1].set_xlabel(f"threshold on raw confidence ({policy.kind}); line: Bayes, dashed: 90 % interval")
    return axes


def describe_threshold(value: float) -> str:
    """Return a threshold as people read it; infinite ones by what they do."""
    if value == -np.inf:
        return "-inf (never defer)"
    if value == np.inf:
        return "inf (always defer)"
    return f"{value:.4g}"


def plot_prior(prior: PriorDraws, num_lines: int = 40) -> Any:
    """Draw what the priors say of a cascade: margins, calibration curves and accuracies.

    Parameters
    ----------
    prior
        From `sample_prior`.
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
        axes[i, 0].set_ylabel(name)
    for ax, title in zip(axes[0], ("density of the score", "rate of being right", "accuracy"), strict=True):
        ax.set_title(title)
    for ax, label in zip(axes[-1], ("standardised score", "standardised score", "share right"), strict=True):
        ax.set_xlabel(label)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return axes


def plot_ranks(
    calibration: CalibrationRanks, quantities: Sequence[str] | None = None, level: float = 0.95
) -> Any:
    """Draw how far the ECDF of each quantity's ranks is from uniform, with a simultaneous band.

    Parameters
    ----------
    calibration
        From `simulation_based_calibration`.
    quantities
        Which; all if None.
    level
        Of each band: it holds the whole curve of a calibrated quantity with this probability. Of many
        quantities some leave it.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a quantity. Curves of quantities that fail at a family-wise 1 % are orange. A curve above the band
        on the left and below it on the right is a posterior too narrow, one above it throughout lies too
        high.
    """
    import matplotlib.pyplot as plt

    from cascade_bayes.evaluation.uniformity import ecdf_band, ecdf_counts

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
    axes[-1, 0].set_xlabel("rank of the truth", fontsize=7)
    axes[0, 0].set_ylabel("ECDF - uniform", fontsize=7)
    return axes.ravel()[: len(names)]


def save_figure(figure: Any, path: Any) -> None:
    """Write a figure as PNG, whole or not at all, and close it."""
    from pathlib import Path

    import matplotlib.pyplot as plt

    from cascade_bayes._files import replacing

    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)


def _axes(ax: Any, size: tuple[float, float]) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.quantile(values, [0.05, 0.95], axis=1)
    return low, values.mean(axis=1), high


def _bins(values: np.ndarray) -> np.ndarray:
    """Thirty bins over the central 98 % of the values: one far draw must not flatten the picture."""
    low, high = np.quantile(values, [0.01, 0.99])
    if low == high:
        low, high = low - 0.5 * max(abs(low), 1e-6), high + 0.5 * max(abs(high), 1e-6)
    return np.linspace(low, high, 31)
