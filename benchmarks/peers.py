"""Ways to tune cascades that the evidence compares: the library's own, and what else one would use.

Each takes a table and returns a `Tuner`, which gives thresholds for any cascade of the table's models at any
cost weights, with its own estimate of their error and cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from cascade_bayes import Priors, fit
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.envelope import find_envelope
from cascade_bayes.evaluation.baselines import Empirical, quantile_thresholds
from cascade_bayes.evaluation.curves import Points, lower_hull, trivial_points, undominated
from cascade_bayes.model.correctness import MAX_REGRESSOR
from cascade_bayes.transforms import ConfidenceMap

RIDGE = 0.01
"""Penalty of a calibration whose likelihood has no maximum."""

LEAST_DOUBT = 1e-10
"""Least 1 - p that a calibration sees."""

LARGEST_EXHAUSTIVE = 4
"""Models of the largest cascade of which every combination of quantiles is tried."""

NUM_TRIALS = 100
"""Evaluations of Bayesian optimisation at one cost weight."""

Members = tuple[int, ...]


class Tuned(NamedTuple):
    """Policies of one cascade, one a cost weight.

    Attributes
    ----------
    thresholds
        On the scale of `Tuner.score`, ``(num_weights, num_members - 1)``.
    estimate
        Their error and cost by the method's own account, ``(num_weights,)``.
    """

    thresholds: np.ndarray
    estimate: Points


class Tuner(Protocol):
    """A method that has seen a table."""

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return policies of one cascade; ``members`` are its models' places in the table."""

    def tune_all(self, cascades: Sequence[Members], weights: np.ndarray) -> dict[Members, Tuned]:
        """Return policies of every cascade at the same weights."""

    def line(self, members: Members, tuned: Tuned) -> np.ndarray:
        """Return thresholds along the cascade's error-cost line, ``(num_points, num_members - 1)``."""

    def score(self, data: CascadeData) -> np.ndarray:
        """Return the confidences on whose scale the thresholds are, of any table."""

    def trivial(self, members: Members) -> Points | None:
        """Return its account of the trivial policies; None if `tune` takes them where they are best."""


class EachCascade:
    """Tunes all cascades one by one."""

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return policies of one cascade."""
        raise NotImplementedError

    def tune_all(self, cascades: Sequence[Members], weights: np.ndarray) -> dict[Members, Tuned]:
        """Return policies of every cascade at the same weights."""
        return {members: self.tune(members, weights) for members in cascades}

    def line(self, members: Members, tuned: Tuned) -> np.ndarray:
        """Return the policies that the cost weights find best."""
        return tuned.thresholds

    def score(self, data: CascadeData) -> np.ndarray:
        """Return the raw confidences."""
        return data.confidence

    def trivial(self, members: Members) -> Points | None:
        """Return None: tuning knows the trivial policies."""
        return None


class Ours(EachCascade):
    """The library with its defaults."""

    def __init__(self, data: CascadeData, method: str, priors: Priors | None = None) -> None:
        self.posterior = fit(data, method, seed=0, progress=False, priors=priors)
        self.models = data.models

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return Bayes thresholds and posterior means."""
        return self.tune_all([members], weights)[members]

    def tune_all(self, cascades: Sequence[Members], weights: np.ndarray) -> dict[Members, Tuned]:
        """Return Bayes thresholds and posterior means; of many cascades by one sweep."""
        order = np.argsort(-weights)  # prices ascend
        back = np.argsort(order)
        prices = 1.0 / weights[order]
        names = {members: tuple(self.models[i] for i in members) for members in cascades}
        # As `error_cost_frontier(models="any")` has it; by one program whether for all cascades or for one.
        envelope = find_envelope(self.posterior, prices, candidates=tuple(names.values()))
        found = {}
        for members, name in names.items():
            if name in envelope.frontiers:
                one = envelope.frontiers[name]
                estimate = Points(one.error.mean(axis=1), one.cost.mean(axis=1))
                found[members] = Tuned(one.thresholds[back], estimate.take(back))
            else:
                single = envelope.alone[name]
                estimate = Points(*(np.full(len(weights), x.mean()) for x in (single.error, single.cost)))
                found[members] = Tuned(np.zeros((len(weights), 0)), estimate)
        return found


class OursGivenAll(Ours):
    r"""Thresholds on the probability of being right given all confidences so far, tuned by the library.

    Model i is scored by :math:`p_i = \mathrm P(y_i = 1 \mid z_1, \dots, z_i)` of a logistic regression on the
    standardised logits of its own and all earlier confidences, with the library's default priors of slopes
    and upstream effects, at the mode. The library then takes these scores for the confidences; that they
    claim as much as labels say is nothing new, and does not count (``claim_effect`` 0).
    """

    def __init__(self, data: CascadeData, method: str) -> None:
        self.confidence_map = data.confidence_map
        z = self._regressors(data)
        self.curves = [given_all(z[:, : i + 1], data, i) for i in range(data.num_models)]
        super().__init__(self._scored(data), method, Priors(claim_effect=0.0))

    def score(self, data: CascadeData) -> np.ndarray:
        """Return the probabilities given all confidences so far."""
        return self._scored(data).confidence

    def _regressors(self, data: CascadeData) -> np.ndarray:
        z = data.with_confidence_map(self.confidence_map).logit_score()
        return np.clip(z, -MAX_REGRESSOR, MAX_REGRESSOR)

    def _scored(self, data: CascadeData) -> CascadeData:
        z = self._regressors(data)
        p = [expit(curve[0] + z[:, : i + 1] @ curve[1:]) for i, curve in enumerate(self.curves)]
        confidence = np.stack(p, axis=1)
        own_map = ConfidenceMap.fit(confidence, "probability")
        return replace(data, confidence=confidence, kind="probability", confidence_map=own_map)


class Grid(EachCascade):
    """Every combination of quantiles on the training queries, judged by a calibration or by labels."""

    def __init__(self, data: CascadeData, wrong: np.ndarray) -> None:
        self.data, self.wrong = data, wrong

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return the best of the grid, and the training objective there."""
        table = select(self.data, self.wrong, members)
        if len(members) == 1:
            return never_deferring(table, weights)
        if len(members) <= LARGEST_EXHAUSTIVE:
            grid = quantile_thresholds(table.confidence)
            every, shape = flat_points(table, grid)
            best = np.array([every.loss([weight])[0].argmin() for weight in weights])
            return Tuned(combinations(grid, best, shape), every.take(best))
        starts = coarse_starts(table, weights)
        thresholds = np.stack([table.search(w, start) for w, start in zip(weights, starts, strict=True)])
        return Tuned(thresholds, table.points(thresholds))

    def line(self, members: Members, tuned: Tuned) -> np.ndarray:
        """Return all combinations of quantiles that no other is better than on the training queries."""
        if len(members) > LARGEST_EXHAUSTIVE:
            return tuned.thresholds
        table = select(self.data, self.wrong, members)
        grid = quantile_thresholds(table.confidence)
        every, shape = flat_points(table, grid)
        return combinations(grid, undominated(every), shape)

    def trivial(self, members: Members) -> Points | None:
        """Return what the training objective says of them."""
        table = select(self.data, self.wrong, members)
        return trivial_points(table.wrong.mean(axis=0), table.call_cost)


class BayesianOptimisation(Grid):
    """The grid's training objective, by Optuna's samplers over the quantiles, at each cost weight anew."""

    def __init__(self, data: CascadeData, wrong: np.ndarray, sampler: str) -> None:
        super().__init__(data, wrong)
        self.sampler = sampler

    def tune(self, members: Members, weights: np.ndarray) -> Tuned:
        """Return the best of `NUM_TRIALS` evaluations a cost weight, and the training objective there."""
        table = select(self.data, self.wrong, members)
        if len(members) == 1:
            return never_deferring(table, weights)
        thresholds = np.stack([self._best(table, float(weight)) for weight in weights])
        return Tuned(thresholds, table.points(thresholds))

    def line(self, members: Members, tuned: Tuned) -> np.ndarray:
        """Return what each cost weight finds best."""
        return tuned.thresholds

    def _best(self, table: Empirical, weight: float) -> np.ndarray:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = {"TPE": optuna.samplers.TPESampler, "GP": optuna.samplers.GPSampler}
        study = optuna.create_study(sampler=samplers[self.sampler](seed=0))
        columns = table.confidence.T[:-1]

        def at(params: dict[str, float]) -> np.ndarray:
            quantiles = [np.quantile(x, params[str(i)], method="higher") for i, x in enumerate(columns)]
            return np.asarray(quantiles)

        def objective(trial: Any) -> float:
            params = {str(i): trial.suggest_float(str(i), 0.0, 1.0) for i in range(len(columns))}
            return float(table.points(at(params)).loss([weight]).item())

        study.optimize(objective, n_trials=NUM_TRIALS)
        return at(study.best_params)


def bayesian_optimisation(sampler: str) -> Callable[[CascadeData], Tuner]:
    """Return Bayesian optimisation by ``"TPE"`` or ``"GP"``, on calibrated training confidences."""
    return lambda data: BayesianOptimisation(data, 1.0 - Calibration(data)(data), sampler)


def ours_given_all(method: str) -> Callable[[CascadeData], Tuner]:
    """Return the library's own way on probabilities given all confidences so far."""
    return lambda data: OursGivenAll(data, method)


def ours(method: str) -> Callable[[CascadeData], Tuner]:
    """Return the library's own way, by one of its methods."""
    return lambda data: Ours(data, method)


def grid(data: CascadeData) -> Tuner:
    """Grid search on calibrated training confidences."""
    return Grid(data, 1.0 - Calibration(data)(data))


def observed_labels(data: CascadeData) -> Tuner:
    """Grid search of the empirical risk with labels."""
    kept = data.take(np.flatnonzero(data.labelled.all(axis=1)))
    return Grid(kept, 1.0 - kept.correct.astype(float))


def select(data: CascadeData, wrong: np.ndarray, members: Members) -> Empirical:
    """Return the queries of one cascade."""
    index = list(members)
    return Empirical(data.confidence[:, index], wrong[:, index], np.asarray(data.call_cost)[index])


def never_deferring(table: Empirical, weights: np.ndarray) -> Tuned:
    """Return what a model alone does."""
    ones = np.ones(len(weights))
    estimate = Points(table.wrong.mean() * ones, table.call_cost[0] * ones)
    return Tuned(np.zeros((len(weights), 0)), estimate)


def flat_points(table: Empirical, grid: list[np.ndarray]) -> tuple[Points, tuple[int, ...]]:
    """Return what all combinations of thresholds do, in one row, and how many there are of each."""
    every = table.all_points(grid)
    return Points(every.error.ravel(), every.cost.ravel()), every.error.shape


def combinations(grid: list[np.ndarray], at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the thresholds of some of the combinations, ``(*at.shape, num_thresholds)``."""
    return np.stack([grid[i][chosen] for i, chosen in enumerate(np.unravel_index(at, shape))], axis=-1)


def coarse_starts(
    table: Empirical, weights: np.ndarray, step: float = 0.1, num_starts: int = 3
) -> np.ndarray:
    """Return the best combinations of coarse quantiles, ``(num_weights, num_starts, num_models - 1)``."""
    some = [np.append(at, np.inf) for at in quantile_thresholds(table.confidence, step)]
    every, shape = flat_points(table, some)
    best = np.stack([np.argsort(every.loss([weight])[0])[:num_starts] for weight in weights])
    return combinations(some, best, shape)


class Oracle:
    """The best thresholds of every cascade on a test table itself."""

    def __init__(self, table: Callable[[Members], Empirical]) -> None:
        self.table = table
        self.best = cache(self._best)

    def _best(self, members: Members, weights: tuple[float, ...]) -> Points:
        table, at = self.table(members), np.asarray(weights)
        if len(members) == 1:
            return never_deferring(table, at).estimate
        starts = coarse_starts(table, at)
        found = np.stack([table.search(w, start) for w, start in zip(at, starts, strict=True)])
        return table.points(found)

    def area_points(self, members: Members, weights: np.ndarray) -> Points:
        """Return the lower hull of what any cost weight finds best, of either sign."""
        dense = np.geomspace(weights[0] / 10, weights[-1] * 10, 3 * len(weights))
        return lower_hull(self.best(members, (*dense, 0.0, *-dense)))


class Calibration:
    """The probability of being right of every answer, by a logistic curve for each model.

    Of ``-log(1 - p)``, two-sided where the confidence is that of a statement, so that p below one half speaks
    against it, and of a score that is no probability as it is; maximum likelihood, with a ridge of `RIDGE`
    where there is no maximum.
    """

    def __init__(self, data: CascadeData) -> None:
        # The best answer of four, or of five, has a probability of at least that.
        self.two_sided = data.kind != "score" and bool(_log_probability(data)[1].min() < np.log(0.2))
        x = self._nonlinear(data)
        self.curves = [_logistic(x[:, i], data, i) for i in range(data.num_models)]

    def __call__(self, data: CascadeData) -> np.ndarray:
        """Return the calibrated confidences of a table, ``(num_queries, num_models)``."""
        intercept, slope = np.array(self.curves).T
        return np.asarray(expit(intercept + slope * self._nonlinear(data)))

    def _nonlinear(self, data: CascadeData) -> np.ndarray:
        if data.kind == "score":
            return data.confidence
        doubt, log_p = _log_probability(data)
        x = -np.log(doubt)
        if not self.two_sided:
            return x
        return np.where(doubt < 0.5, x - np.log(2.0), np.maximum(np.log(2.0) + log_p, np.log(LEAST_DOUBT)))


def _log_probability(data: CascadeData) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - p, away from 0, and the logarithm of p."""
    p = data.confidence
    doubt, log_p = (
        (-np.expm1(p), p) if data.kind == "logprob" else (1.0 - p, np.log(np.maximum(p, LEAST_DOUBT)))
    )
    return np.maximum(doubt, LEAST_DOUBT), log_p


def _logistic(x: np.ndarray, data: CascadeData, i: int) -> tuple[float, float]:
    """Return intercept and slope of the curve of one model."""
    known = data.labelled[:, i]
    sign = np.where(data.correct[known, i], 1.0, -1.0)
    mean, scale = float(x[known].mean()), max(float(x[known].std()), 1e-6)
    z = (x[known] - mean) / scale

    def objective(ab: np.ndarray, ridge: float) -> tuple[float, np.ndarray]:
        logit = sign * (ab[0] + ab[1] * z)
        pull = -sign * expit(-logit)
        gradient = np.array([pull.sum(), pull @ z]) + 2 * ridge * ab
        return float(-log_expit(logit).sum() + ridge * ab @ ab), gradient

    separable = len(set(sign)) < 2 or _is_separable(z, sign)
    a, b = minimize(objective, np.zeros(2), args=(RIDGE if separable else 0.0,), jac=True, method="BFGS").x
    return a - b * mean / scale, b / scale


def given_all(z: np.ndarray, data: CascadeData, i: int) -> np.ndarray:
    """Return the intercept and the slopes of the i-th model, its own last, ``(i + 2,)``."""
    known, priors = data.labelled[:, i], Priors()
    sign, x = np.where(data.correct[known, i], 1.0, -1.0), np.column_stack([np.ones(known.sum()), z[known]])
    loc = np.array([priors.intercept_loc + i * priors.step_loc, *([0.0] * i), priors.slope_loc])
    scale = np.array([priors.intercept_scale, *([priors.upstream_scale] * i), priors.slope_scale])

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        logit, beyond = sign * (x @ b), (b - loc) / scale
        value = -log_expit(logit).sum() + 0.5 * beyond @ beyond
        return float(value), -x.T @ (sign * expit(-logit)) + beyond / scale

    return np.asarray(minimize(objective, loc, jac=True, method="BFGS").x)


def _is_separable(z: np.ndarray, sign: np.ndarray) -> bool:
    right, wrong = z[sign > 0], z[sign < 0]
    return bool(right.min() >= wrong.max() or right.max() <= wrong.min())


def sub_cascades(num_models: int, least: int = 1) -> list[Members]:
    """Return every ordered subset of at least so many models."""
    sizes = range(least, num_models + 1)
    return [members for size in sizes for members in itertools.combinations(range(num_models), size)]
