"""Posterior predictive checks: whether the table looks like tables that the fitted model makes.

Each draw of the posterior simulates the table anew, confidences missing where they are missing in it. A
figure of the table is compared with the same figure of the replicates by its distance from their mean in
standard deviations, with the tails of Student's t: few replicates have no quantile as far out as a test of
many figures together needs. As the model has seen the figures, such a test fails less often than its level
says.

Source: Gelman, Meng & Stern, "Posterior predictive assessment of model fitness via realized discrepancies",
Statistica Sinica 6 (1996).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from scipy import stats

from cascade_bayes.inference.checks.result import Finding, not_asked
from cascade_bayes.inference.checks.statistics import MIN_COUNT
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.predictive import simulate_draws

CHOSEN_LABELS = "some answers have no label, which need not be a random sample"
"""Why a figure of labels is not asked."""


def check_replicates(key: jax.Array, posterior: Posterior, num_draws: int) -> Iterator[Finding]:
    """Compare margins, dependence, accuracy and agreement of labels with those of replicates."""
    if posterior.num_draws < 2:
        yield not_asked("replicates", "tables", "a single point makes tables of no spread")
        return
    data, models = posterior.data, range(posterior.data.num_models)
    chain = posterior.sub_cascade(models, num_draws)
    keys = jax.random.split(key, len(chain.params.intercept))
    made = simulate_draws(keys, chain.params, chain.copulas, data.num_queries)
    z, correct = (np.asarray(x).swapaxes(1, 2) for x in made)
    asked = data.observed[data.observed.any(axis=1)]
    whole = asked.mean(axis=0) == 1.0
    own = data.logit_score()
    for i in models:
        rows = data.observed[:, i]
        if posterior.spec.structure == "chain" and not whole[i]:
            yield not_asked("replicates", data.models[i], "it was asked some of the queries only")
            continue
        for name, figure in _figures_of_margin(posterior, i):
            yield _compare(f"{data.models[i]}, {name}", figure, own[rows, i], z[:, rows, i])
        subject = f"{data.models[i]}, accuracy"
        if data.labelled[rows, i].all():
            yield _compare(subject, np.mean, data.correct[rows, i], correct[:, rows, i])
        else:
            yield not_asked("replicates", subject, CHOSEN_LABELS)
    for pair in itertools.combinations(models, 2):
        both = data.observed[:, pair].all(axis=1)
        names = " and ".join(data.models[i] for i in pair)
        dependence, agreement = f"{names}, Kendall's tau", f"{names}, correlation of labels"
        if both.sum() < MIN_COUNT or (posterior.spec.structure == "chain" and not whole[list(pair)].all()):
            for subject in (dependence, agreement):
                yield not_asked(
                    "replicates", subject, "the two were asked too few of the queries, or some only"
                )
            continue
        yield _compare(dependence, _kendall, own[both][:, pair], z[:, both][:, :, pair])
        if data.labelled[both][:, pair].all():
            made_here = correct[:, both][:, :, pair]
            yield _compare(agreement, _label_correlation, data.correct[both][:, pair], made_here)
        else:
            yield not_asked("replicates", agreement, CHOSEN_LABELS)


Figure = Callable[[np.ndarray], float]


def _figures_of_margin(posterior: Posterior, model: int) -> Iterator[tuple[str, Figure]]:
    layout = posterior.spec.layout
    locs = layout.locs[model][layout.has_atom[model]]
    for loc, raw in zip(locs, layout.raw[model][layout.has_atom[model]], strict=True):
        yield f"share at {raw:.4g}", partial(_share, loc=loc)
    if layout.continuous[model]:
        yield "median between atoms", partial(_quantile, atoms=locs, level=0.5)
        yield "interquartile range between atoms", partial(_interquartile_range, atoms=locs)


def _share(z: np.ndarray, loc: float) -> float:
    return float(np.mean(z == loc))


def _quantile(z: np.ndarray, atoms: np.ndarray, level: float) -> float:
    between = z[~np.isin(z, atoms)]
    return float(np.quantile(between, level)) if between.size else float("nan")


def _interquartile_range(z: np.ndarray, atoms: np.ndarray) -> float:
    return _quantile(z, atoms, 0.75) - _quantile(z, atoms, 0.25)


def _kendall(pair: np.ndarray) -> float:
    return float(stats.kendalltau(pair[:, 0], pair[:, 1], method="asymptotic").statistic)


def _label_correlation(pair: np.ndarray) -> float:
    """Return the correlation of two models' being right; nan if one of them always or never is."""
    first, second = pair.T.astype(float)
    spread = first.std() * second.std()
    return float(np.mean((first - first.mean()) * (second - second.mean())) / spread) if spread else np.nan


def _compare(subject: str, figure: Figure, table: np.ndarray, replicates: np.ndarray) -> Finding:
    observed = figure(table)
    made = np.asarray([figure(one) for one in replicates])
    made = made[np.isfinite(made)]
    if not np.isfinite(observed) or len(made) < 2:
        return not_asked("replicates", subject, "it has no value in this table")
    mean, spread = made.mean(), made.std(ddof=1)
    low, high = np.quantile(made, [0.05, 0.95])
    distance = (observed - mean) / spread if spread else 0.0 if observed == mean else np.inf
    p_value = 2.0 * stats.t.sf(abs(distance) / np.sqrt(1.0 + 1.0 / len(made)), len(made) - 1)
    return Finding(
        "replicates",
        subject,
        True,
        f"{observed:.3f}, in replicates {mean:.3f} ({low:.3f} to {high:.3f})",
        {"observed": observed, "mean": float(mean), "q05": float(low), "q95": float(high)},
        float(p_value),
    )
