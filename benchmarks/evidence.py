"""Thresholds tuned on few queries, judged on many others: this library beside what else one would use.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, methods see n queries, tune
every cascade of its models, and are judged on ``NAME-test.parquet``, or on queries of the training table that
they have not seen (``--within-train``: for choosing among settings without a look at test tables). Without
that variable the tables are simulated, half of them from cascades that the library's defaults do not expect.

Decision regret: for each of 41 cost weights the method picks models and thresholds by its own account; the
mean relative excess of their loss over an oracle that tunes every cascade on the test queries. Of each
cascade of fixed models the area under its error-cost line, over the oracle's, and its regret
(`cascade_bayes.evaluation.curves`).

Run ``python benchmarks/evidence.py -o evidence.csv [--files NAME ...] [--sizes 15 30 all] [--seeds 5]``.
"""

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from paper import Paper
from peers import (
    Members,
    Oracle,
    Tuned,
    Tuner,
    bayesian_optimisation,
    grid,
    observed_labels,
    ours,
    select,
    sub_cascades,
)
from tables import find_tables

from cascade_bayes import Priors, read_table, sample_prior, simulate
from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation.baselines import Empirical
from cascade_bayes.evaluation.curves import Points, area, cost_weights, regret, trivial_points

METHODS: dict[str, Callable[[CascadeData], Tuner]] = {
    "ours (SVI)": ours("svi"),
    "ours (NUTS)": ours("nuts"),
    "ours (Laplace)": ours("laplace"),
    "paper": Paper,
    "grid": grid,
    "observed labels": observed_labels,
    "Optuna TPE": bayesian_optimisation("TPE"),
    "Optuna GP": bayesian_optimisation("GP"),
}
"""By name."""

SIMULATED_MODELS = ("a", "b", "c", "d")
SIMULATED_COST = np.array([1e-5, 4e-5, 1.6e-4, 6.4e-4])
SIMULATED_TABLES = 4
"""Of each kind of simulated cascades."""


class Judge:
    """Test queries, and the best that there is on them."""

    def __init__(self, test: CascadeData) -> None:
        self.wrong = 1.0 - test.correct.astype(float)
        self.test = test
        self.cascades = sub_cascades(test.num_models)
        self.oracle = Oracle(lambda members: select(test, self.wrong, members))
        self.error, self.call_cost = self.wrong.mean(axis=0), np.asarray(test.call_cost)
        self.weights = cost_weights(self.error, self.call_cost)
        self.least = self.least_losses(self.cascades, self.weights)

    def least_losses(self, cascades: Sequence[Members], weights: np.ndarray) -> np.ndarray:
        """Return the oracle's losses by weight, of the best of these cascades."""
        return np.min([_own_loss(self.oracle.best(c, tuple(weights)), weights) for c in cascades], axis=0)

    def realised(self, members: Members, thresholds: np.ndarray, score: np.ndarray) -> Points:
        """Return what policies do on the test queries, whose confidences are these."""
        index = list(members)
        return Empirical(score[:, index], self.wrong[:, index], self.call_cost[index]).points(thresholds)

    def decisions(self, tuned: dict[Members, Tuned], score: np.ndarray) -> dict[str, float]:
        """Return the decision regret among all cascades, and among those of few models."""
        groups = {"any": len(self.error), "up to 3": 3, "up to 2": 2, "single": 1}
        found = {}
        for name, most in groups.items():
            among = {m: t for m, t in tuned.items() if len(m) <= most}
            own = np.stack([_own_loss(t.estimate, self.weights) for t in among.values()])
            real = np.stack(
                [_own_loss(self.realised(m, t.thresholds, score), self.weights) for m, t in among.items()]
            )
            chosen = real[own.argmin(axis=0), np.arange(len(self.weights))]
            found[name] = regret(chosen, self.least)
        return found

    def fixed(self, members: Members, tuner: Tuner) -> dict[str, float]:
        """Return area and regret of one cascade, and the oracle's area."""
        index = list(members)
        trivial = trivial_points(self.error[index], self.call_cost[index])
        weights = cost_weights(self.error[index], self.call_cost[index])
        tuned = tuner.tune(members, weights)
        score = tuner.score(self.test)
        points = self.realised(members, tuned.thresholds, score)
        own, real = _own_loss(tuned.estimate, weights)[None], _own_loss(points, weights)[None]
        guess = tuner.trivial(members)
        if guess is not None:
            own = np.concatenate([own, guess.loss(weights).T])
            real = np.concatenate([real, trivial.loss(weights).T])
        chosen = real[own.argmin(axis=0), np.arange(len(weights))]
        least = np.minimum(self.least_losses([members], weights), trivial.loss(weights).min(axis=1))
        best = area(self.oracle.area_points(members, weights), trivial)
        mine = area(self.realised(members, tuner.line(members, tuned), score), trivial)
        return {"area": mine, "oracle_area": best, "excess": mine / best - 1, "regret": regret(chosen, least)}


def _own_loss(points: Points, weights: np.ndarray) -> np.ndarray:
    """Return the loss of the i-th point at the i-th weight."""
    return np.asarray(points.error + weights * points.cost)


def run(
    method: str, train: CascadeData, judge: Judge, largest: int, fixed: bool
) -> tuple[list[dict[str, Any]], str]:
    """Return a row for the decisions and one for each fixed cascade; why it failed, if it did."""
    start = time.perf_counter()
    try:
        tuner = METHODS[method](train)
        fitted = time.perf_counter()
        cascades = [members for members in judge.cascades if len(members) <= largest]
        tuned = tuner.tune_all(cascades, judge.weights)
        ended = time.perf_counter()
        rows: list[dict[str, Any]] = [
            {
                "cascade": f"any ({among})",
                "regret": value,
                "fit_s": fitted - start,
                "tune_s": ended - fitted,
            }
            for among, value in judge.decisions(tuned, tuner.score(judge.test)).items()
        ]
        for members in cascades if fixed else ():
            if len(members) > 1:
                name = "-".join(map(str, members))
                rows.append({"cascade": name, "k": len(members), **judge.fixed(members, tuner)})
    except Exception as error:  # a method that fails is a finding about it
        return [{"cascade": "any (any)"}], f"{type(error).__name__}: {error}"
    return rows, "ok"


def pairs(names: Sequence[str] | None) -> Iterator[tuple[str, CascadeData, CascadeData | None]]:
    """Return names, training tables and test tables, if there are any: of the folder, or simulated."""
    if not os.environ.get("CASCADE_BAYES_DATA"):
        yield from simulated()
        return
    for name, path in find_tables(names).items():
        table = read_table(path)
        test = path.with_name(path.name.replace("train", "test"))
        yield name, table, read_table(test).select(table.models) if test.exists() else None


def simulated() -> Iterator[tuple[str, CascadeData, CascadeData]]:
    """Return tables of cascades from the priors, and of such that the library does not expect.

    The latter come from wide priors, with beta margins and Gaussian copulas: the defaults of `fit` are wrong
    about each of these.
    """
    worlds: dict[str, dict[str, Any]] = {
        "from the priors": {},
        "from others": {"priors": Priors.weak(), "margin": "beta", "copula": "gaussian"},
    }
    for name, how in worlds.items():
        drawn = sample_prior(models=SIMULATED_MODELS, num_draws=SIMULATED_TABLES, seed=1, **how)
        for i in range(SIMULATED_TABLES):
            cascade = drawn.cascade(i)._replace(call_cost=SIMULATED_COST)
            train, test = simulate(cascade, 300, seed=2 * i), simulate(cascade, 3000, seed=2 * i + 1)
            yield f"{name} {i}", train.with_confidence_map(), test


def subset(train: CascadeData, size: str, seed: int) -> CascadeData:
    """Return n queries at random; ``30+`` are 30 with labels and all others without."""
    if size == "all":
        return train
    num = int(size.removesuffix("+"))
    chosen = np.random.default_rng(1000 * num + seed).choice(train.num_queries, num, replace=False)
    if not size.endswith("+"):
        return train.take(chosen).with_confidence_map()
    labelled = np.zeros(train.num_queries, dtype=bool)
    labelled[chosen] = True
    return replace(train, labelled=train.labelled & labelled[:, None])


def halves(train: CascadeData, seed: int) -> tuple[CascadeData, CascadeData]:
    """Return queries to learn from and queries to judge by, both of the training table."""
    order = np.random.default_rng(seed).permutation(train.num_queries)
    cut = train.num_queries // 2
    return train.take(order[:cut]).with_confidence_map(), train.take(order[cut:])


def summary(rows: pd.DataFrame) -> str:
    """Return means over tables, cascades and seeds by method and size."""
    said = []
    decisions = rows[rows.cascade.str.startswith("any") & rows.regret.notna()]
    for among, part in decisions.groupby("cascade"):
        table = part.pivot_table(index="method", columns="size", values="regret") * 100
        said.append(f"decision regret, {among}, %\n{table.to_string(float_format='{:.2f}'.format)}")
    fixed = rows[rows.k.notna()] if "k" in rows else rows[:0]
    if len(fixed):
        groups = np.where(fixed.k == 2, "k = 2", "k >= 3")
        for name, scale in (("excess", 100), ("regret", 1)):
            table = fixed.assign(group=groups).pivot_table(
                index=["group", "method"], columns="size", values=name
            )
            said.append(f"fixed cascades: {name}\n{(table * scale).to_string(float_format='{:.3f}'.format)}")
    failed = rows[rows.status != "ok"]
    if len(failed):
        said.append(failed[["table", "size", "seed", "method", "status"]].to_string())
    return "\n\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all that have a test table)")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["ours (SVI)", "paper", "grid"])
    parser.add_argument("--sizes", nargs="*", default=["15", "30", "60", "120", "30+", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=5, help="models of the largest cascade")
    parser.add_argument("--decisions", action="store_true", help="leave out cascades of fixed models")
    parser.add_argument(
        "--within-train", action="store_true", help="judge by queries of the training table held out"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV to write")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore")
    print(f"Python {platform.python_version()}, jax {jax.__version__}", flush=True)
    rows: list[dict[str, Any]] = []
    for name, table, test in pairs(options.files):
        if test is None and not options.within_train:
            print(f"{name}: no test table", flush=True)
            continue
        whole = None if test is None or options.within_train else Judge(test)
        for size in options.sizes:
            for seed in range(1 if size == "all" and whole else options.seeds):
                if whole:
                    train, judge = subset(table, size, seed), whole
                else:
                    learn, held = halves(table, seed)
                    train, judge = subset(learn, size, seed), Judge(held)
                for method in options.methods:
                    start = time.perf_counter()
                    found, status = run(method, train, judge, options.largest, not options.decisions)
                    shared = {"table": name, "size": size, "seed": seed, "method": method, "status": status}
                    rows += [{**shared, **row} for row in found]
                    print(
                        f"{name} {size} {seed} {method}: {found[0].get('regret', float('nan')):.4f} "
                        f"({time.perf_counter() - start:.0f} s) {status}",
                        flush=True,
                    )
                    pd.DataFrame(rows).to_csv(options.output, index=False)
    print(summary(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
