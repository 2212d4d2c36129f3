"""How the fitted model compares with the table that it was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes.plots._common import BLUE, GREY, ORANGE, literal

if TYPE_CHECKING:
    from cascade_bayes.inference.checks import CheckResult
    from cascade_bayes.inference.checks.calibration import ThresholdPolicy
    from cascade_bayes.inference.posterior import Posterior

NUM_GROUPS = 8
"""Groups of queries, by their confidence, that a calibration curve shows."""


@in_64_bits
def plot_checks(
    posterior: Posterior, result: CheckResult, policy: ThresholdPolicy | None = None
) -> dict[str, Any]:
    """Draw all that `check` looks at.

    Returns
    -------
    dict of matplotlib.figure.Figure
        ``margins``, ``calibration``, ``deferred`` if the cascade has more than one model, ``replicates`` and
        ``chains``.
    """
    drawn = {
        "margins": plot_margins(posterior)[0].figure,
        "calibration": plot_calibration(posterior, policy)[0].figure,
        "replicates": plot_replicates(result)[0].figure,
        "chains": plot_chains(posterior),
    }
    if policy is None or len(policy.models) > 1:
        drawn["deferred"] = plot_calibration(posterior, policy, deferred=True)[0].figure
    return drawn


@in_64_bits
def plot_calibration(
    posterior: Posterior,
    policy: ThresholdPolicy | None = None,
    *,
    deferred: bool = False,
    num_draws: int = 200,
    seed: int = 0,
    axes: Any = None,
) -> Any:
    """Draw how often each model was right against how often it was predicted to be.

    Queries are grouped by the model's own confidence, equally many in each; values that tie stay together.

    Parameters
    ----------
    posterior
        The fit.
    policy
        The same as for `check`.
    deferred
        Only queries that are deferred to the model.
    num_draws
        Posterior draws.
    seed
        Seed of the replicates that make the bands.
    axes
        Matplotlib axes, one a model; new ones if None.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a model: points are observed rates, orange squares those outside the bar, which is the 90 % band
        of replicated ones.
    """
    from cascade_bayes.inference.checks.calibration import labels_of_members

    models = posterior.models if policy is None else policy.models
    members = [posterior.models.index(name) for name in models]
    first = 1 if deferred else 0  # none is deferred to the first model
    shown = labels_of_members(posterior, members, policy, num_draws)[first:]
    axes = _row(len(shown), 2.2) if axes is None else np.asarray(axes).ravel()
    rng = np.random.default_rng(seed)
    for ax, name, labels in zip(axes, models[first:], shown, strict=True):
        own = labels.take(labels.deferred) if deferred else labels
        replicated = rng.binomial(1, own.prob)
        for rows in _groups(own.z):
            low, high = np.quantile(replicated[:, rows].mean(axis=1), [0.05, 0.95])
            predicted, observed = own.prob[:, rows].mean(), own.correct[rows].mean()
            ax.plot([predicted] * 2, [low, high], color=BLUE, alpha=0.35, lw=5, solid_capstyle="butt")
            holds = low <= observed <= high
            ax.plot(predicted, observed, "o" if holds else "s", ms=4, color=BLUE if holds else ORANGE)
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        ax.xaxis.set_major_formatter(_percent)
        ax.yaxis.set_major_formatter(_percent)
        ax.set_title(literal(name), fontsize=9)
        ax.set_xlabel("predicted right, %")
    axes[0].set_ylabel("right among deferred, %" if deferred else "right, %")
    return axes


def _percent(share: float, _: int) -> str:
    """Return a share as a tick of an axis in percent shows it."""
    return f"{100 * share:g}"


@in_64_bits
def plot_margins(posterior: Posterior, *, num_draws: int = 50, seed: int = 0) -> Any:
    """Draw how far each model's confidences are from the fitted distribution.

    Of a model that was asked some of the queries, it is the distance of those: in the log of a running
    cascade, where they are the hard ones, it is no misfit.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a model: a line a posterior draw, the difference between the distribution function of the
        confidences, put through the fitted one, and the uniform one; grey, the 99 % band of Kolmogorov's
        test.
    """
    import jax
    import jax.numpy as jnp
    from scipy.stats import kstwo

    from cascade_bayes.inference.checks.residuals import margin_residuals

    data = posterior.data
    margins = posterior.params(num_draws).margins
    z = data.logit_score()
    axes = _row(data.num_models, 1.9)
    keys = jax.random.split(jax.random.key(seed), data.num_models)
    for i, (ax, name, key) in enumerate(zip(axes, data.models, keys, strict=True)):
        margin = jax.tree.map(lambda field, i=i: field[:, i], margins)
        w = np.sort(np.asarray(margin_residuals(key, margin, jnp.asarray(z[data.observed[:, i], i]))), axis=1)
        n = w.shape[1]
        widest = kstwo.ppf(0.99, n)
        ax.axhspan(-widest, widest, color=GREY, alpha=0.2, lw=0)
        ax.plot(w.T, (np.arange(1, n + 1) / n - w).T, color=BLUE, lw=0.5, alpha=0.3)
        ax.set(xlim=(0, 1), ylim=(-2 * widest, 2 * widest))
        ax.set_title(literal(name), fontsize=9)
        ax.set_xlabel("fitted probability, %")
        ax.xaxis.set_major_formatter(_percent)
        ax.yaxis.set_major_formatter(_percent)
    axes[0].set_ylabel("confidences - fitted,\npercentage points")
    return axes


@in_64_bits
def plot_replicates(result: CheckResult) -> Any:
    """Draw figures of the table beside those of tables simulated from the posterior.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Accuracies, Kendall's tau of pairs, and the correlation of their labels: bars are 90 % intervals of
        replicates, points the table's; orange squares where the check failed.
    """
    import matplotlib.pyplot as plt

    panels = []
    units = {
        "accuracy": "accuracy, share of answers that are right",
        "Kendall's tau": "Kendall's tau of confidences (-1 to 1)",
        "correlation of labels": "correlation of labels (-1 to 1)",
    }
    for what, unit in units.items():
        end = f", {what}"
        of_table = [f for f in result.of("replicates") if f.subject.endswith(end) and f.figures]
        panels.append((unit, [(f.subject.removesuffix(end), f) for f in of_table]))
    most = max(len(found) for _, found in panels)
    _, axes = plt.subplots(
        1, len(panels), figsize=(14.4, 0.9 + 0.24 * most), squeeze=False, layout="constrained"
    )
    for ax, (unit, found) in zip(axes[0], panels, strict=True):
        for place, (_, finding) in enumerate(found):
            figures = finding.figures
            ax.plot(
                [figures["q05"], figures["q95"]], [place] * 2,
                color=BLUE, alpha=0.35, lw=5, solid_capstyle="butt",
            )  # fmt: skip
            marker, colour = ("o", BLUE) if finding.passed else ("s", ORANGE)
            ax.plot(figures["observed"], place, marker, ms=4, color=colour)
        ax.set_yticks(range(len(found)), [literal(name) for name, _ in found], fontsize=8)
        ax.invert_yaxis()
        ax.set_xlabel(unit)
    return axes[0]


@in_64_bits
def plot_chains(posterior: Posterior, var_names: Sequence[str] = ("slope", "tau")) -> Any:
    """Draw how the chains share the ranks of their draws: evenly, if all are draws of one distribution.

    Parameters
    ----------
    posterior
        The fit.
    var_names
        Sites; those that the fit has not are left out.

    Returns
    -------
    matplotlib.figure.Figure
        That of ArviZ's ``plot_rank``.
    """
    from cascade_bayes.inference import _arviz
    from cascade_bayes.inference.storage.packing import draws_group

    names = [name for name in var_names if name in posterior.samples]
    return _arviz.plot_chains(draws_group(posterior, posterior.samples), names)


def _row(count: int, width: float) -> Any:
    import matplotlib.pyplot as plt

    size = (max(width * count, 3.2), width + 0.5)
    return plt.subplots(1, count, figsize=size, squeeze=False, sharey=True, layout="constrained")[1][0]


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Cut values into `NUM_GROUPS` groups of as equal size as their ties allow; indices of each."""
    if not values.size:
        return []
    first_of_equal = np.searchsorted(np.sort(values), values)
    group = first_of_equal * NUM_GROUPS // values.size
    return [np.flatnonzero(group == g) for g in np.unique(group)]
