"""Pictures: colours that every reader tells apart, units on every axis, no edges of the grid."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_shown import EVIL, envelope, frontier, policy

from cascade_bayes.plots import plot_frontier, plot_thresholds
from cascade_bayes.plots._common import BLUE, MARKS, ORANGE
from cascade_bayes.plots.thresholds import FEW, Spread
from cascade_bayes.transforms import inverse_link

DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
"""Colours in linear sRGB as readers without one kind of cones see them (Machado et al. 2009)."""


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def seen(colour: str, eyes: np.ndarray) -> np.ndarray:
    """Return a colour in CIELAB as somebody sees it."""
    rgb = np.asarray(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ np.clip(eyes @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["all", "no green", "no red"])
def test_colours_are_told_apart(eyes: np.ndarray) -> None:
    """A distance of 10 in CIELAB is plain to see; markers differ besides."""
    for some in ([BLUE, ORANGE], [colour for colour, _ in MARKS]):
        places = [seen(colour, eyes) for colour in some]
        apart = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]]
        assert min(apart) > 10
    assert len({marker for _, marker in MARKS}) == len(MARKS)


def peaks(curve: np.ndarray) -> int:
    """Return how many places of a curve are higher than both of their neighbours."""
    return int(np.sum((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])))


def test_edges_of_a_grid_do_not_show() -> None:
    """Normal draws moved to the edges of uneven cells: one hill, though a histogram has many."""
    rng = np.random.default_rng(0)
    edges = np.sort(rng.normal(0.0, 1.5, 40))
    draws = edges[np.abs(rng.normal(size=400)[:, None] - edges).argmin(axis=1)]
    x = np.linspace(-6, 6, 2001)
    curve = Spread.of(draws).density(x)
    assert curve.sum() * (x[1] - x[0]) == pytest.approx(1.0, abs=1e-3)
    assert peaks(curve) == 1
    assert peaks(np.histogram(draws, bins=30)[0]) > 4
    exact = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    assert np.abs(curve - exact).max() < 0.12


def drawn(draws: np.ndarray, kind: str, threshold: float):
    one = policy(kind=kind, draw_thresholds=draws[:, None], thresholds=np.array([threshold]))
    return plot_thresholds(one)[0]


def test_thresholds_have_units_and_probabilities_beside_log_probabilities() -> None:
    draws = inverse_link(np.random.default_rng(0).normal(size=200), "logprob")
    ax = drawn(draws, "logprob", -0.7)
    ax.figure.canvas.draw()
    assert ax.get_xlabel().startswith("threshold, log-probability (below it the probability)")
    words = [label.get_text() for label in ax.get_xticklabels()]
    assert "-0.693\n(0.5)" in words
    assert ax.get_ylabel() == "density"


@pytest.mark.parametrize("kind", ["probability", "score"])
def test_optima_between_a_few_grades_have_bars_of_their_share(kind: str) -> None:
    draws = np.repeat([0.25, 0.5, 0.75], [20, 50, 30])
    ax = drawn(draws, kind, 0.5)
    assert ax.get_ylabel() == "share of draws"
    assert sorted(bar.get_datalim(ax.transData).y1 for bar in ax.collections) == [0.2, 0.3, 0.5]
    assert len(np.unique(draws)) <= FEW


@pytest.mark.parametrize("draws", [[-np.inf], [-np.inf, np.inf], [-0.5], [0.0, -0.5]])
@pytest.mark.parametrize("threshold", [-np.inf, np.inf, -0.5])
def test_thresholds_that_are_none_leave_a_picture_all_the_same(draws: list[float], threshold: float) -> None:
    ax = drawn(np.array(draws * 3), "logprob", threshold)
    ax.figure.canvas.draw()
    assert "never defer on" in ax.get_title(loc="left")


def test_frontiers_have_units_and_show_any_name() -> None:
    for priced in (frontier(5), envelope(5)):
        ax = plot_frontier(priced)
        ax.figure.canvas.draw()
        assert ax.get_xlabel() == "cost, US dollars per 1000 queries"
        assert ax.get_ylabel() == "error, % of queries"
    odd = [policy(models=(name, "b$c$"), thresholds=np.array([-0.5])) for name in ("_hidden", EVIL)]
    ax = plot_frontier(odd)
    ax.figure.canvas.draw()
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sum("_hidden" in text for text in shown) == 1
    assert sum(r"b\$c\$" in text for text in shown) == 2
