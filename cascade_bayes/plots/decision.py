"""The error-cost frontier, and the posterior of the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes.evaluation import NORMAL_QUANTILE
from cascade_bayes.plots._common import BLUE, GREY, ORANGE, axes_of

if TYPE_CHECKING:
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.decision.policy import Policy


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
        Cost in US dollars per thousand queries, error in percent; the expense instead of the cost where
        latency or abstaining have a price.
    """
    ax = axes_of(ax, (6.4, 4.4))
    what = "cost" if frontier.terms.costs_alone else "expense"
    cost = 1e3 * getattr(frontier, what).mean(axis=1)
    low, mean, high = (100 * x for x in _band(frontier.error))
    order = np.argsort(cost)
    ax.fill_between(
        cost[order], low[order], high[order], color=BLUE, alpha=0.2, lw=0, label="90 % posterior band"
    )
    ax.plot(cost[order], mean[order], color=BLUE, lw=1.8, label="predicted")
    if realised is not None:
        x = np.asarray([1e3 * row[f"realised_{what}"] for row in realised], dtype=float)
        y = np.asarray([100 * row["realised_error"] for row in realised])
        se = np.asarray([100 * row["realised_error_se"] for row in realised])
        number = realised[0]["num_queries"]
        ax.errorbar(
            x,
            y,
            yerr=NORMAL_QUANTILE * se,
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
    ax.set_xlabel(f"{what}, US dollars per 1000 queries")
    ax.set_ylabel("error, %")
    ax.set_title(" > ".join(frontier.models), fontsize=9)
    ax.grid(alpha=0.25, which="both")
    ax.legend(frameon=False)
    return ax


def plot_thresholds(policy: Policy, axes: Any = None) -> Any:
    """Draw the posterior of each optimal threshold, with the Bayes threshold and 90 % interval.

    The horizontal axis is the raw confidence; draws on which the model should never, or always, defer
    are counted in the title of each panel. Where models may leave queries without an answer, the thresholds
    of that follow, those of models that may not left out.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a threshold.
    """
    panels = [
        (model, "defer", *each)
        for model, *each in zip(
            policy.models,
            policy.thresholds,
            policy.draw_thresholds.T,
            policy.threshold_interval(0.9),
            strict=False,
        )
    ]
    low, draws = policy.abstain_thresholds, policy.draw_abstain_thresholds
    if low is not None and draws is not None:
        panels += [
            (model, "abstain", *each)
            for model, *each in zip(policy.models, low, draws.T, policy.abstain_interval(0.9), strict=True)
            if policy.terms.abstains_early or model == policy.models[-1]
        ]
    if axes is None:
        import matplotlib.pyplot as plt

        count = len(panels)
        _, axes = plt.subplots(count, 1, figsize=(6.4, 1.7 * count), squeeze=False, layout="constrained")
    axes = np.asarray(axes).ravel()
    for ax, (model, verb, chosen, own, interval) in zip(axes, panels, strict=True):
        inside = own[np.isfinite(own)]
        if inside.size:
            ax.hist(inside, bins=_bins(inside), color=BLUE, alpha=0.45)
        for value in interval:
            if np.isfinite(value):
                ax.axvline(value, color=GREY, ls="--", lw=1)
        if np.isfinite(chosen):
            ax.axvline(chosen, color=ORANGE, lw=1.8)
        never, always = np.mean(own == -np.inf), np.mean(own == np.inf)
        ax.set_title(
            f"{model}: {verb} below {describe_threshold(float(chosen), verb)}   "
            f"(never {verb} on {never:.0%}, always on {always:.0%} of draws)",
            fontsize=9,
            loc="left",
        )
        ax.set_yticks([])
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
    axes[-1].set_xlabel(f"threshold on raw confidence ({policy.kind}); line: Bayes, dashed: 90 % interval")
    return axes


def describe_threshold(value: float, verb: str = "defer") -> str:
    """Return a threshold as people read it; infinite ones by what they do."""
    if value == -np.inf:
        return f"-inf (never {verb})"
    if value == np.inf:
        return f"inf (always {verb})"
    return f"{value:.4g}"


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.quantile(values, [0.05, 0.95], axis=1)
    return low, values.mean(axis=1), high


def _bins(values: np.ndarray) -> np.ndarray:
    """Thirty bins over the central 98 % of the values: one far draw must not flatten the picture."""
    low, high = np.quantile(values, [0.01, 0.99])
    if low == high:
        low, high = low - 0.5 * max(abs(low), 1e-6), high + 0.5 * max(abs(high), 1e-6)
    return np.linspace(low, high, 31)
