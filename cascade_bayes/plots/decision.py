"""The error-cost frontier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes._entry import need
from cascade_bayes.evaluation import NORMAL_QUANTILE
from cascade_bayes.plots._common import BLUE, GREY, MARKS, ORANGE, axes_of, literal

if TYPE_CHECKING:
    from cascade_bayes.policy.points import PricedPolicies
    from cascade_bayes.policy.policy import Policy


MAX_NAMED = len(MARKS)
"""Cascades that the legend of a frontier names; others are drawn in one colour."""


def plot_frontier(
    frontier: PricedPolicies | Sequence[Policy],
    realised: Sequence[dict[str, Any]] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the predicted error of the best policies against their cost, and realised points on top.

    Where the models differ from price to price, a point at each price shows by its colour and its shape which
    cascade is the best there.

    Parameters
    ----------
    frontier
        From `error_cost_frontier`, of one cascade or of any models; or the policies in a frontier's file,
        from `cascade_bayes.load_policies`.
    realised
        ``frontier.evaluate(data)``; omitted if None.
    ax
        Matplotlib axes; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        Cost in US dollars per thousand queries, error in percent with a 90 % posterior band; the expense
        instead of the cost where latency or abstaining have a price.

    Raises
    ------
    TypeError
        If ``frontier`` is neither.
    """
    policies = _policies(frontier)
    ax = axes_of(ax, (6.4, 4.4))
    what = "cost" if policies[0].terms.costs_alone else "expense"
    predicted = [policy.prediction for policy in policies]
    cost = np.asarray([1e3 * getattr(one, what) for one in predicted])
    low, mean, high = (
        np.asarray([100 * getattr(one, f"error{end}") for one in predicted]) for end in ("_q05", "", "_q95")
    )
    order = np.argsort(cost, kind="stable")
    ax.fill_between(
        cost[order], low[order], high[order], color=BLUE, alpha=0.2, lw=0, label="90 % posterior band"
    )
    ax.plot(cost[order], mean[order], color=BLUE, lw=1.8, label="predicted")
    cascades = Counter(" > ".join(policy.models) for policy in policies)
    if len(cascades) > 1:
        _mark_cascades(ax, cost, mean, policies, cascades)
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
    ax.set_xlabel(f"{what}, {policies[0].units.cost} per 1000 queries")
    ax.set_ylabel("error, % of queries")
    title = next(iter(cascades)) if len(cascades) == 1 else "the best models at each price of an error"
    ax.set_title(title, fontsize=9, parse_math=False)
    ax.grid(alpha=0.25, which="both")
    ax.legend(frameon=False, fontsize=8 if len(cascades) > 1 else None)
    return ax


def _policies(frontier: PricedPolicies | Sequence[Policy]) -> list[Policy]:
    """Return the policy at every price."""
    from cascade_bayes.policy.points import PricedPolicies
    from cascade_bayes.policy.policy import Policy

    if isinstance(frontier, PricedPolicies):
        return [frontier.summary(i) for i in range(len(frontier))]
    policies = list(frontier) if isinstance(frontier, list | tuple) else []
    remedy = "Pass error_cost_frontier(posterior), or load_policies of a frontier's file."
    if not policies:
        need(frontier, PricedPolicies, "frontier", remedy)
    for policy in policies:
        need(policy, Policy, "each entry of frontier", remedy)
    return policies


def _mark_cascades(
    ax: Any, cost: np.ndarray, error: np.ndarray, policies: list[Policy], cascades: Counter[str]
) -> None:
    """Draw a point a price, in the colour of the cascade that is the best there."""
    names = np.asarray([" > ".join(policy.models) for policy in policies])
    often = [name for name, _ in cascades.most_common(MAX_NAMED)]
    dearest_last = sorted(often, key=lambda name: cost[names == name].min())
    for name, (colour, marker) in zip(dearest_last, MARKS, strict=False):
        own = names == name
        ax.plot(cost[own], error[own], marker, ms=5, color=colour, label=literal(name), ls="", zorder=3)
    others = ~np.isin(names, often)
    if others.any():
        number = len(cascades) - len(often)
        rest = "1 other cascade" if number == 1 else f"{number} other cascades"
        ax.plot(cost[others], error[others], "x", ms=4.5, color=GREY, label=rest, zorder=3)
