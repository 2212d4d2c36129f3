r"""The method of the paper, from its description.

Zellinger & Thomson, "Rational Tuning of LLM Cascades via Probabilistic Modeling", TMLR 2025 (arXiv
2501.09345). Confidences are calibrated by a logistic curve fitted by maximum likelihood; the calibrated
confidence :math:`\Phi` is taken as the probability of being right. Its margin has atoms at its least and
greatest value and a mixture of two beta distributions between them, fitted by expectation maximisation;
neighbouring margins are joined by a Gumbel copula, :math:`\theta = 1 / (1 - \tau)` of Kendall's tau. With
:math:`F_i` the margins and :math:`u_i = F_i(t_i)`, pairwise propagation says

.. math::

    P(\text{reach } i) = u_1 \prod_{j=2}^{i-1} \frac{C_j(u_{j-1}, u_j)}{u_{j-1}}, \qquad
    E[\Phi_i 1\{\Phi_i \ge t_i\} \mid \Phi_{i-1} < t_{i-1}] =
    \int_{t_i}^{1} \varphi \; d\frac{C_i(u_{i-1}, F_i(\varphi))}{u_{i-1}},

and the loss :math:`1 - P(\text{correct}) + \lambda E[\text{cost}]` is minimised by L-BFGS-B from the middle
of the thresholds' ranges, at each cost weight :math:`\lambda`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from peers import Calibration, EachCascade, Members, Tuned, never_deferring
from scipy.optimize import minimize
from scipy.special import betainc
from scipy.stats import beta, kendalltau

from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation.baselines import Empirical
from cascade_bayes.evaluation.curves import Points, trivial_points

NUM_NODES = 200
"""Parts into which a margin's range is divided for the integral."""

MAX_STEPS = 500
TOLERANCE = 1e-8
MAX_TAU = 0.95
LEAST_SHARE = 1e-9
"""Least probability that is divided by."""


class Margin(NamedTuple):
    """Distribution of one model's calibrated confidence.

    Attributes
    ----------
    low, high
        Least and greatest value.
    at_low, at_high
        Probability of each.
    mixing
        Weights of the beta components, ``(2,)``.
    shapes
        Their shapes on (0, 1), ``(2, 2)``.
    """

    low: float
    high: float
    at_low: float
    at_high: float
    mixing: np.ndarray
    shapes: np.ndarray

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of at most x."""
        x = np.asarray(x, dtype=float)
        share = np.clip((x - self.low) / max(self.high - self.low, 1e-12), 0.0, 1.0)
        between = sum(w * betainc(a, b, share) for w, (a, b) in zip(self.mixing, self.shapes, strict=True))
        inside = self.at_low + (1.0 - self.at_low - self.at_high) * between
        return np.where(x < self.low, 0.0, np.where(x >= self.high, 1.0, inside))


def fit_margin(x: np.ndarray) -> Margin:
    """Return the margin of calibrated confidences."""
    low, high = float(x.min()), float(x.max())
    inside = x[(x > low) & (x < high)]
    flat = np.array([0.5, 0.5]), np.ones((2, 2))
    if high - low < 1e-9:
        return Margin(low, high, 1.0, 0.0, *flat)
    shape = em_two_betas((inside - low) / (high - low)) if inside.size > 2 else flat
    return Margin(low, high, float(np.mean(x == low)), float(np.mean(x == high)), *shape)


def em_two_betas(x: np.ndarray, num_steps: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and shapes of two beta distributions, by EM with matched moments."""
    x = np.clip(x, 1e-6, 1 - 1e-6)
    share = np.stack([x < np.median(x), x >= np.median(x)]).astype(float)
    share = 0.8 * share + 0.1
    mixing, shapes = np.array([0.5, 0.5]), np.ones((2, 2))
    before = -np.inf
    for _ in range(num_steps):
        mixing = share.mean(axis=1)
        mean = share @ x / share.sum(axis=1)
        spread = np.sum(share * (x - mean[:, None]) ** 2, axis=1) / share.sum(axis=1)
        total = np.maximum(mean * (1 - mean) / np.maximum(spread, 1e-8) - 1, 1e-2)
        shapes = np.clip(np.stack([mean * total, (1 - mean) * total], axis=1), 1e-2, 1e4)
        density = mixing[:, None] * np.stack([beta.pdf(x, a, b) for a, b in shapes])
        likelihood = float(np.log(np.maximum(density.sum(axis=0), 1e-300)).sum())
        share = density / np.maximum(density.sum(axis=0), 1e-300)
        if likelihood - before < 1e-6:
            break
        before = likelihood
    return mixing, shapes


def gumbel(u: np.ndarray, v: np.ndarray, theta: float) -> np.ndarray:
    """Return the Gumbel copula ``C(u, v)``."""
    u, v = np.clip(u, 0.0, 1.0), np.clip(v, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        inner = (-np.log(u)) ** theta + (-np.log(v)) ** theta
    return np.where((u <= 0) | (v <= 0), 0.0, np.exp(-(inner ** (1 / theta))))


class Pairwise:
    """Error and cost of thresholds by pairwise propagation.

    Parameters
    ----------
    margins
        Of calibrated confidences, one a model.
    theta
        Gumbel's parameter of each neighbouring pair.
    call_cost
        US dollars per call, ``(num_models,)``.
    """

    def __init__(self, margins: Sequence[Margin], theta: Sequence[float], call_cost: np.ndarray) -> None:
        self.margins, self.theta, self.call_cost = margins, theta, call_cost
        self.nodes = [np.linspace(m.low, m.high, NUM_NODES + 1) for m in margins]
        self.at_nodes = [m.cdf(at) for m, at in zip(margins, self.nodes, strict=True)]

    def figures(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Return the probability of a wrong answer and US dollars per query."""
        u = [float(m.cdf(x)) for m, x in zip(self.margins[:-1], thresholds, strict=True)]
        reach, paid, correct = 1.0, float(self.call_cost[0]), 0.0
        for i, margin in enumerate(self.margins):
            last = i == len(u)
            threshold = -np.inf if last else thresholds[i]
            heights, top, below = self.at_nodes[i], 1.0 - margin.at_high, 0.0 if last else u[i]
            if i:  # given that the model before deferred
                share, theta = max(u[i - 1], LEAST_SHARE), self.theta[i - 1]
                given = (heights, top, below)
                heights, top, below = (gumbel(share, x, theta) / share for x in given)
            correct += reach * mean_above(threshold, float(below), self.nodes[i], heights, float(top))
            if not last:
                reach *= float(below)
                paid += reach * self.call_cost[i + 1]
        return 1.0 - correct, paid

    def best(self, weight: float) -> np.ndarray:
        """Return where L-BFGS-B ends from the middle of the thresholds' ranges."""
        # In a unit of its own, so that the tolerance means the same at every weight.
        unit = 1.0 + weight * self.call_cost.sum()

        def loss(t: np.ndarray) -> float:
            error, paid = self.figures(t)
            return (error + weight * paid) / unit

        bounds = [(m.low, m.high) for m in self.margins[:-1]]
        start = np.array([(low + high) / 2 for low, high in bounds])
        limits = {"maxiter": MAX_STEPS, "ftol": TOLERANCE}
        return np.asarray(minimize(loss, start, method="L-BFGS-B", bounds=bounds, options=limits).x)


class Paper(EachCascade):
    """The Markov-copula method; thresholds are on the calibrated confidence."""

    def __init__(self, data: CascadeData) -> None:
        self.calibration = Calibration(data)
        self.right = self.calibration(data)
        self.call_cost = np.asarray(data.call_cost)
        self.margins = [fit_margin(column) for column in self.right.T]
        self.theta: dict[tuple[int, int], float] = {}
        for i, j in itertools.combinations(range(data.num_models), 2):
            tau = float(kendalltau(self.right[:, i], self.right[:, j]).statistic)
            self.theta[i, j] = float(1 / (1 - np.clip(np.nan_to_num(tau), 0.0, MAX_TAU)))

    def score(self, data: CascadeData) -> np.ndarray:
        """Return the calibrated confidence."""
        return self.calibration(data)

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return where the optimiser ends, and what the model says of it."""
        index = list(members)
        if len(members) == 1:
            wrong = 1.0 - self.right[:, index]
            return never_deferring(Empirical(wrong, wrong, self.call_cost[index]), weights)
        theta = [self.theta[pair] for pair in itertools.pairwise(members)]
        model = Pairwise([self.margins[i] for i in members], theta, self.call_cost[index])
        thresholds = np.stack([model.best(weight) for weight in weights])
        error, paid = zip(*(model.figures(t) for t in thresholds), strict=True)
        return Tuned(thresholds, Points(np.asarray(error), np.asarray(paid)))

    def trivial(self, members: Members) -> Points:
        """Return mean calibrated confidences, and costs."""
        index = list(members)
        return trivial_points(1.0 - self.right[:, index].mean(axis=0), self.call_cost[index])


def mean_above(threshold: float, below: float, nodes: np.ndarray, cdf: np.ndarray, top: float) -> float:
    r"""Return :math:`E[\Phi 1\{\Phi > t\}]`, by the rule of midpoints.

    Parameters
    ----------
    threshold
        t; -inf for the mean of all.
    below
        The distribution function at t.
    nodes, cdf
        Places from the least to the greatest value, and the distribution function there,
        ``(num_nodes + 1,)``.
    top
        The distribution function just below the greatest value, where it jumps.
    """
    above = nodes[:-1] > threshold
    places = np.concatenate([[max(threshold, nodes[0])], nodes[:-1][above], nodes[-1:]])
    heights = np.concatenate([[below], cdf[:-1][above], [top]])
    middles = 0.5 * (places[1:] + places[:-1])
    return float(middles @ np.diff(heights) + nodes[-1] * (1.0 - top))
