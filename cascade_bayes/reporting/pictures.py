"""Pictures of a report, as SVG that stands in the page: text is text, and nothing is loaded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from cascade_bayes.plots.checks import plot_calibration
from cascade_bayes.plots.decision import plot_frontier
from cascade_bayes.plots.thresholds import plot_thresholds
from cascade_bayes.reporting.facts import Facts

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cascade_bayes",  # the same picture has the same bytes
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.grid": False,
    "legend.fontsize": 8.0,
}


def reliability_pictures(facts: Facts) -> list[str]:
    """Return the reliability diagram of each model of the fit."""
    models = facts.posterior.models

    def draw(axes: Any) -> None:
        plot_calibration(facts.posterior, axes=axes, num_draws=facts.num_draws, seed=facts.seed)
        for ax in axes:
            ax.set_title("")
            ax.set_ylabel("right, %")

    titles = [f"How often {name} is right against how often it is predicted to be" for name in models]
    return _drawn([(2.1, 2.0)] * len(models), draw, titles, "reliability")


def frontier_picture(facts: Facts) -> str:
    """Return the error-cost frontier with its band, realised points if there are any, and the policy."""
    policy = facts.policy
    what = "cost" if policy.terms.costs_alone else "expense"

    def draw(axes: Any) -> None:
        (ax,) = axes
        plot_frontier(facts.swept, facts.realised, ax=ax)
        p = policy.prediction
        place = 1e3 * getattr(p, what), 100 * p.error
        ax.plot(*place, "*", ms=15, mfc="white", mec="black", mew=1.2, label="this policy", zorder=4)
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1)

    title = "Predicted error of the best policies against their cost"
    return _drawn([(4.5, 5.0)], draw, [title], "frontier")[0]


def threshold_pictures(facts: Facts) -> list[str]:
    """Return the posterior of each threshold of the policy; none of a policy without draws of them."""
    policy = facts.policy
    count = policy.draw_thresholds.shape[1] if len(policy.draw_thresholds) else 0
    if policy.draw_abstain_thresholds is not None and len(policy.draw_abstain_thresholds):
        count += len(policy.models) if policy.terms.abstains_early else 1
    if not count:
        return []

    def draw(axes: Any) -> None:
        plot_thresholds(policy, axes)
        for ax in axes:
            words, _, counted = ax.get_title(loc="left").partition("   ")
            ax.set_title(f"{words}\n{counted}", loc="left", fontsize=9, parse_math=False)
            ax.set_xlabel(axes[-1].get_xlabel())

    return _drawn([(4.5, 2.1)] * count, draw, ["Posterior of a threshold"] * count, "threshold")


def _drawn(
    sizes: list[tuple[float, float]], draw: Callable[[Any], None], titles: list[str], name: str
) -> list[str]:
    """Return figures of some sizes in inches, an axes in each, that a function draws on, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A reader's browser has letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # `Figure` itself, so that no window is opened and none is left behind.
        figures = [Figure(figsize=size, layout="constrained") for size in sizes]
        draw([figure.subplots() for figure in figures])
        return [
            _svg(figure, title, f"{name}{i}")
            for i, (figure, title) in enumerate(zip(figures, titles, strict=True))
        ]


def _svg(figure: Any, title: str, name: str) -> str:
    """Return a figure as an SVG element with names of its own, to stand among others in one page."""
    content = BytesIO()
    figure.savefig(
        content,
        format="svg",
        transparent=True,
        metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
    )
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}style" or child.tag.endswith("metadata"):
                parent.remove(child)  # the page has its style, which is for all of its pictures
        for key, value in parent.attrib.items():
            if key == "id":
                parent.set(key, f"{name}-{value}")
            elif key == f"{{{XLINK}}}href" and value.startswith("#"):
                parent.set(key, f"#{name}-{value[1:]}")
            else:
                parent.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
    width = float(root.get("width", "0pt").removesuffix("pt"))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("style", f"max-width: {width / 72:.2f}in")
    about = ElementTree.Element(f"{{{SVG}}}title")
    about.text = title
    root.insert(0, about)
    return ElementTree.tostring(root, encoding="unicode")
