"""The posterior of the thresholds, as a curve without the edges of the grid on which they were sought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cascade_bayes.plots._common import BLUE, GREY, ORANGE
from cascade_bayes.rule import LOWEST, describe_threshold
from cascade_bayes.transforms import DOMAIN, inverse_link, link

if TYPE_CHECKING:
    from cascade_bayes.policy.policy import Policy

FEW = 8
"""Distinct optima up to which each has a bar of its own: the gaps between a few grades, which are no grid."""

SHOWN = (0.005, 0.995)
"""Quantiles of the curve between which it is shown: one far draw must not flatten the picture."""

_TICKS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3])
_TICKS = np.concatenate([_TICKS, [0.4, 0.5, 0.6], 1 - _TICKS[::-1]])
"""Probabilities at which the axis of a confidence that stands for one may be marked."""

MAX_TICKS = 6


class Spread(NamedTuple):
    """Optima of posterior draws, each spread evenly over the stretch that it stands for.

    Attributes
    ----------
    values
        Distinct optima on the axis of logits (scores as they are), ascending, ``(num_values,)``.
    share
        Share of the draws that each stands for, ``(num_values,)``.
    edges
        Where their stretches meet, halfway between neighbours, ``(num_values + 1,)``.
    """

    values: np.ndarray
    share: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, draws: np.ndarray) -> Spread:
        """Return the spread of finite optima, ``(num_draws,)``."""
        values, count = np.unique(draws, return_counts=True)
        if len(values) == 1:
            half = 0.02 * max(abs(values[0]), 1.0)
            return cls(values, np.ones(1), values[0] + np.array([-half, half]))
        middle = 0.5 * (values[1:] + values[:-1])
        first, last = 2 * values[0] - middle[0], 2 * values[-1] - middle[-1]
        return cls(values, count / count.sum(), np.concatenate([[first], middle, [last]]))

    def density(self, x: np.ndarray) -> np.ndarray:
        """Return the density of the optima at places ``(num_places,)``: even over each stretch, and smoothed.

        The kernel is normal. Its width is Silverman's (*Density Estimation*, 1986, eq. 3.31), and at least
        half a stretch of middling length, so that no edge shows.
        """
        from scipy.stats import norm

        low, high = self.edges[:-1], self.edges[1:]
        mean = self.share @ self.values
        deviation = np.sqrt(self.share @ (self.values - mean) ** 2)
        quartiles = np.interp([0.25, 0.75], np.concatenate([[0.0], np.cumsum(self.share)]), self.edges)
        narrow = min(deviation, (quartiles[1] - quartiles[0]) / 1.34)
        width = max(0.9 * narrow * len(self.values) ** -0.2, 0.5 * float(np.median(high - low)))
        above = norm.cdf((x[:, None] - low) / width) - norm.cdf((x[:, None] - high) / width)
        return np.asarray(above / (high - low) @ self.share)


def plot_thresholds(policy: Policy, axes: Any = None) -> Any:
    """Draw the posterior of each optimal threshold, with the Bayes threshold and 90 % interval.

    The optimum of a posterior draw is sought among the edges of a grid of cells, so that it is known up to a
    cell. It is drawn spread evenly over the stretch that it stands for, halfway to the optima next to it, and
    all together are smoothed: what the curve shows is the posterior, not the grid. Where optima are few, as
    between grades, each has a bar.

    The horizontal axis is the raw confidence, spaced by the logit of its probability if it has one; below a
    log-probability stands the probability. Draws on which the model should never, or always, defer, or defer
    exact minus infinity alone, are counted in the title of each panel. Where models may leave queries without
    an answer, the thresholds of that follow, those of models that may not left out.

    Parameters
    ----------
    policy
        The policy of a frontier, or of a file that `tune` wrote; points of a frontier's file lack what is
        drawn.
    axes
        Matplotlib axes, one a threshold; new ones if None.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a threshold.
    """
    panels = _panels(policy)
    if axes is None:
        import matplotlib.pyplot as plt

        count = max(len(panels), 1)
        _, axes = plt.subplots(count, 1, figsize=(6.4, 1.9 * count), squeeze=False, layout="constrained")
    axes = np.asarray(axes).ravel()
    for ax, (model, verb, chosen, own, interval) in zip(axes, panels, strict=True):
        _draw_one(ax, policy.kind, chosen, own, interval)
        never, only, always = (np.mean(own == end) for end in (-np.inf, LOWEST, np.inf))
        counted = [f"never {verb} on {never:.0%}", f"always on {always:.0%} of draws"]
        if only:
            counted.insert(1, f"only -inf on {only:.0%}")
        ax.set_title(
            f"{model}: {verb} below {describe_threshold(float(chosen), verb)}   ({', '.join(counted)})",
            fontsize=9,
            loc="left",
            parse_math=False,
        )
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
    if len(panels):
        axes[-1].set_xlabel(f"threshold, {UNITS[policy.kind]}\nline: Bayes threshold, dashed: 90 % interval")
    return axes


UNITS = {
    "logprob": "log-probability (below it the probability)",
    "probability": "probability",
    "score": "units of the score",
}
"""Units of each kind of confidence, as an axis has them."""


def _panels(policy: Policy) -> list[tuple[str, str, float, np.ndarray, tuple[float, float]]]:
    """Return model, verb, threshold, optima of draws and interval of every threshold there is."""
    panels: list[Any] = [
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
    return panels


def _draw_one(ax: Any, kind: str, chosen: float, own: np.ndarray, interval: tuple[float, float]) -> None:
    """Draw the posterior of one threshold."""
    scale = kind if kind != "score" else None
    low, high = DOMAIN[kind]
    inside = own[(np.abs(own) < -LOWEST) & (own > low) & (own < high)]
    marked = np.asarray([value for value in (chosen, *interval) if low < value < high and value != LOWEST])
    ax.set_yticks([])
    if not (inside.size or marked.size):
        ax.set_xticks([])
        return
    places = link(np.concatenate([inside, marked]), kind)
    at = places[: len(inside)] if inside.size else places
    spread = Spread.of(at)
    ends = [places[len(inside) :].min(initial=np.inf), places[len(inside) :].max(initial=-np.inf)]
    x = np.linspace(*_reach(spread, ends), 401)
    if scale:
        ax.set_autoscalex_on(False)
        raw_ends = inverse_link(x[[0, -1]], kind)
        ax.set_xlim(*raw_ends)
        ax.set_xscale("function", functions=(lambda v: link(v, kind), lambda v: inverse_link(v, kind)))
        _mark_probabilities(ax, kind, x[0], x[-1])
    if inside.size and len(spread.values) <= FEW:
        of_all = spread.share * inside.size / own.size
        for left, right, share in zip(spread.edges, spread.edges[1:], of_all, strict=False):
            gap = 0.04 * (right - left)
            stretch = inverse_link([left + gap, right - gap], kind)
            ax.fill_between(stretch, share, color=BLUE, alpha=0.45, lw=0)
        ax.set_yticks([0, of_all.max()], ["0 %", f"{100 * of_all.max():.0f} %"], fontsize=8)
        ax.set_ylabel("share of draws", fontsize=8)
    elif inside.size:
        ax.fill_between(inverse_link(x, kind), spread.density(x), color=BLUE, alpha=0.45, lw=0)
        ax.set_ylabel("density", fontsize=8)
    ax.set_ylim(bottom=0)
    ax.set_xlim(*inverse_link(x[[0, -1]], kind))
    for value in marked[1:] if len(marked) == 3 else [v for v in interval if v in marked]:
        ax.axvline(value, color=GREY, ls="--", lw=1)
    if chosen in marked:
        ax.axvline(chosen, color=ORANGE, lw=1.8)


def _reach(spread: Spread, ends: list[float]) -> tuple[float, float]:
    """Return where the axis begins and ends: around most of the posterior and all that is marked."""
    cumulative = np.concatenate([[0.0], np.cumsum(spread.share)])
    low, high = np.interp(SHOWN, cumulative, spread.edges)
    low, high = min(low, *ends), max(high, *ends)
    slack = 0.06 * (high - low) or 0.05
    return float(low - slack), float(high + slack)


def _mark_probabilities(ax: Any, kind: str, low: float, high: float) -> None:
    """Mark round probabilities on an axis that is spaced by logits from ``low`` to ``high``."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    logits = link(_TICKS, "probability")
    inside = np.flatnonzero((logits > low) & (logits < high))
    least = (high - low) / MAX_TICKS
    kept: list[int] = []
    for i in inside:
        if not kept or logits[i] - logits[kept[-1]] >= least:
            kept.append(int(i))
    if len(kept) < 2:  # no two round ones: the ends do
        logits = np.linspace(low, high, 7)[1:-1:2]
        kept = list(range(len(logits)))
    share, raw = inverse_link(logits[kept], "probability"), inverse_link(logits[kept], kind)
    words = [f"{p:.4g}" for p in share]
    if kind == "logprob":
        words = [f"{value:.3g}\n({word})" for value, word in zip(raw, words, strict=True)]
    ax.xaxis.set_major_locator(FixedLocator(list(raw)))
    ax.xaxis.set_major_formatter(FixedFormatter(words))
    ax.xaxis.set_minor_locator(NullLocator())
