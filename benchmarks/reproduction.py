r"""The paper's method as `paper.py` has it, by the measure of the published results.

Zellinger & Thomson ("Rational Tuning of LLM Cascades via Probabilistic Modeling", TMLR 2025) double the cost
weight until the expected cost has fallen to 1.25 times the first model's, 24 times at most, put middles
between neighbouring thresholds until no more than a tenth of a model's confidences lies between two of them,
and take the mean error, linear between costs, over the costs that both the method's and a grid search's
points reach on the test queries. Of the five llama models on MMLU and TruthfulQA, means over all 26 cascades,
the records beside their code have 0.288 and 0.437.

Run ``CASCADE_BAYES_DATA=FOLDER python benchmarks/reproduction.py [NAME ...]``.
"""

import argparse
import itertools

import jax
import numpy as np
from paper import Pairwise, Paper
from peers import Calibration, Grid, Members, sub_cascades
from tables import find_tables, read_pair

from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation.baselines import Empirical
from cascade_bayes.evaluation.curves import Points, cost_weights

RECORDED = {"mmlu-llama": 0.288, "truthfulqa-llama": 0.437}
FIRST_WEIGHTS = 0.0, 1e-4, 1e-2, 1.0
"""Errors per US dollar; from the last of them on the weight doubles."""

MOST_WEIGHTS = 24
CHEAP = 1.25
WIDEST_GAP = 0.1


def sweep(method: Paper, members: Members) -> np.ndarray:
    """Return thresholds along the paper's sweep, ``(num_points, num_members - 1)``."""
    index = list(members)
    theta = [method.theta[pair] for pair in itertools.pairwise(members)]
    model = Pairwise([method.margins[i] for i in members], theta, method.call_cost[index])
    found = [model.best(weight) for weight in FIRST_WEIGHTS]
    weight = FIRST_WEIGHTS[-1]
    for _ in range(MOST_WEIGHTS):
        if model.figures(found[-1])[1] <= CHEAP * method.call_cost[index[0]]:
            break
        weight *= 2
        found.append(model.best(weight))
    return fill_gaps(found, method.right[:, index[:-1]])


def fill_gaps(thresholds: list[np.ndarray], seen: np.ndarray) -> np.ndarray:
    """Return thresholds with middles between neighbours that many confidences lie between."""
    found = list(thresholds)
    i = 0
    while i + 1 < len(found):
        low, high = np.minimum(found[i], found[i + 1]), np.maximum(found[i], found[i + 1])
        if np.mean((seen > low) & (seen < high), axis=0).max() > WIDEST_GAP:
            found.insert(i + 1, (found[i] + found[i + 1]) / 2)
        else:
            i += 1
    return np.stack(found)


def mean_error(points: Points, low: float, high: float) -> float:
    """Return the mean over costs of the error, linear between costs; of equal costs the mean."""
    cost, which = np.unique(points.cost, return_inverse=True)
    error = np.bincount(which, points.error) / np.bincount(which)
    at = np.unique(np.concatenate([[low, high], cost[(cost > low) & (cost < high)]]))
    return float(np.trapezoid(np.interp(at, cost, error), at) / (high - low))


def areas(train: CascadeData, test: CascadeData) -> dict[str, list[float]]:
    """Return mean errors of the paper's method and of the grid search, one a cascade."""
    method, calibration = Paper(train), Calibration(train)
    grid = Grid(train, 1.0 - calibration(train))
    score, wrong = method.score(test), 1.0 - test.correct
    found: dict[str, list[float]] = {"paper": [], "grid": []}
    for members in sub_cascades(train.num_models, least=2):
        index = list(members)
        cost = np.asarray(test.call_cost)[index]
        weights = cost_weights(1.0 - train.correct.mean(axis=0)[index], np.asarray(train.call_cost)[index])
        tuned = grid.tune(members, weights)
        points = {
            "paper": Empirical(score[:, index], wrong[:, index], cost).points(sweep(method, members)),
            "grid": Empirical(test.confidence[:, index], wrong[:, index], cost).points(
                grid.line(members, tuned)
            ),
        }
        low = max(some.cost.min() for some in points.values())
        high = min(some.cost.max() for some in points.values())
        for name, some in points.items():
            found[name].append(mean_error(some, low, high))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECORDED), help="tables that have a test table")
    jax.config.update("jax_enable_x64", True)
    for name, path in find_tables(parser.parse_args().names).items():
        train, test = read_pair(path)
        if test is None:
            raise SystemExit(f"{name} has no test table.")
        found = areas(train, test)
        said = ", ".join(f"{method} {np.mean(values):.4f}" for method, values in found.items())
        print(f"{name}: {said}; recorded for the paper's {RECORDED.get(name, float('nan'))}", flush=True)


if __name__ == "__main__":
    main()
