"""Thresholds tuned on few queries, judged on many others: this library beside what else one would use.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, methods see n queries, tune
every cascade of its models, and are judged on ``NAME-test.parquet``, or on queries of the training table that
they have not seen (``--within-train``: for choosing among settings without a look at test tables). Without
that variable the tables are simulated, half of them from cascades that the library's defaults do not expect.
Models stand in the order of a table's rows.

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
from functools import partial
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
    ours_given_all,
    select,
    sub_cascades,
)
from programs import drop_programs
from tables import find_tables, read_pair

from cascade_bayes import Priors, sample_prior, simulate
from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation.baselines import Empirical
from cascade_bayes.evaluation.curves import (
    NUM_WEIGHTS,
    Points,
    area,
    cost_weights,
    regret,
    trivial_points,
)

METHODS: dict[str, Callable[[CascadeData], Tuner]] = {
    "ours (SVI)": ours("svi"),
    "ours (NUTS)": ours("nuts"),
    "ours (Laplace)": ours("laplace"),
    "ours, given all": ours_given_all("svi"),
    "paper": Paper,
    "grid": grid,
    "observed labels": observed_labels,
    "Optuna TPE": bayesian_optimisation("TPE"),
    "Optuna GP": bayesian_optimisation("GP"),
}
"""By name."""

SIMULATED_MODELS = ("a", "b", "c", "d")
SIMULATED_COST = np.array([1e-5, 4e-5, 1.6e-4, 6.4e-4])
SIMULATED_TABLES = 2
"""Of each kind of simulated cascades."""

SIZES = ("15", "30", "60", "120", "30+", "all")
SIMULATED_SIZES = ("30", "120")


class Judge:
    """Test queries, and the best that there is on them.

    Methods choose among ``cascades`` (default: all), at ``num_weights`` cost weights; the oracle among all.
    """

    def __init__(
        self,
        test: CascadeData,
        cascades: Sequence[Members] | None = None,
        num_weights: int = NUM_WEIGHTS,
    ) -> None:
        self.wrong = 1.0 - test.correct.astype(float)
        self.test = test
        every = sub_cascades(test.num_models)
        self.cascades = every if cascades is None else [members for members in every if members in cascades]
        self.num_weights = num_weights
        self.oracle = Oracle(lambda members: select(test, self.wrong, members))
        self.error, self.call_cost = self.wrong.mean(axis=0), np.asarray(test.call_cost)
        self.weights = cost_weights(self.error, self.call_cost, num_weights)
        self.least = self.least_losses(every, self.weights)

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
            if not among:
                continue
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
        weights = cost_weights(self.error[index], self.call_cost[index], self.num_weights)
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
    method: Callable[[CascadeData], Tuner], train: CascadeData, judge: Judge, fixed: bool
) -> tuple[list[dict[str, Any]], str]:
    """Return a row for the decisions and one for each fixed cascade; why it failed, if it did."""
    start = time.perf_counter()
    try:
        tuner = method(train)
        fitted = time.perf_counter()
        tuned = tuner.tune_all(judge.cascades, judge.weights)
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
        for members in judge.cascades if fixed else ():
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
        yield name, *read_pair(path)


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
    kept = np.isin(np.arange(train.num_queries), chosen)[:, None]
    return replace(train, labelled=train.labelled & kept, correct=train.correct & kept)


def halves(train: CascadeData, seed: int) -> tuple[CascadeData, CascadeData]:
    """Return queries to learn from and queries to judge by, both of the training table."""
    order = np.random.default_rng(seed).permutation(train.num_queries)
    cut = train.num_queries // 2
    return train.take(order[:cut]).with_confidence_map(), train.take(order[cut:])


MEASURES = {
    "decision regret": ("any (any)", "regret"),
    "decision regret, up to two models": ("any (up to 2)", "regret"),
    "decision regret, single models": ("any (single)", "regret"),
    "excess area, k = 2": ("pairs", "excess"),
    "excess area, k >= 3": ("longer", "excess"),
    "regret, k = 2": ("pairs", "regret"),
    "regret, k >= 3": ("longer", "regret"),
}
"""Of which rows, and which column."""

RUN = ["table", "size", "seed", "method"]

PICTURED = ("decision regret", "excess area, k >= 3", "regret, k >= 3")


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    r"""Return mean and standard error of every measure by method and size.

    The mean is over all rows, so that a table counts by the number of its cascades. Cascades of one table
    and seed go together; with :math:`n_g` rows of mean :math:`m_g` in the g-th of G such runs, N rows of
    mean m in all, the standard error is :math:`\sqrt{G / (G - 1) \sum_g n_g^2 (m_g - m)^2} / N` (Liang &
    Zeger 1986).
    """
    found = []
    rows = rows[rows.status == "ok"]
    k = rows.get("k", pd.Series(np.nan, rows.index))
    parts = {"pairs": rows[k == 2], "longer": rows[k >= 3]}
    for name, (which, column) in MEASURES.items():
        part = parts.get(which, rows[rows.cascade == which])
        if not len(part):
            continue
        by = part.groupby(["method", "size"])[column]
        mean = by.mean().rename("mean")
        run = part.join(mean, on=["method", "size"])
        beyond = (run[column] - run["mean"]).groupby([run[at] for at in ("method", "size", "table", "seed")])
        squares = (beyond.sum() ** 2).groupby(["method", "size"])
        num = squares.size()
        error = np.sqrt(num / (num - 1).replace(0, np.nan) * squares.sum()) / by.size()
        found.append(
            pd.DataFrame({"mean": mean, "standard_error": error, "runs": num})
            .reset_index()
            .assign(measure=name)
        )
    return pd.concat(found, ignore_index=True)


def change_of_area(rows: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return how much smaller our area is than each other method's, in percent, on the same cascades.

    Mean and standard error over tables and seeds of the change of the mean area, by size and k = 2 or more.
    """
    if "area" not in rows:
        return pd.DataFrame()
    fixed = rows[(rows.status == "ok") & rows.area.notna()]
    fixed = fixed.assign(k=np.where(fixed.k == 2, "k = 2", "k >= 3"))
    mean = fixed.groupby(["k", "size", "table", "seed", "method"]).area.mean().unstack()
    if ours not in mean or mean.shape[1] == 1:
        return pd.DataFrame()
    change = 100 * (mean[[ours]].to_numpy() / mean.drop(columns=ours) - 1)
    by = change.groupby(["k", "size"])
    mean, error = by.mean(), by.sem().map("{:.1f}".format)  # of a single run it is not known: nan
    said = mean.map("{:.1f}".format) + " (" + error + ")"
    return said.where(mean.notna()).dropna(axis=1, how="all")


def labels_to_match(found: pd.DataFrame, ours: str, size: str = "30") -> pd.Series:
    """Return the labels with which each method decides as well as ours does with ``size``.

    Decision regret is interpolated between sizes, linearly in the logarithm of the number of labels. A method
    that does not get there says so.
    """
    part = found[found.measure == "decision regret"].pivot_table(
        index="size", columns="method", values="mean"
    )
    part = part[[name.isdigit() for name in part.index]]
    part.index = part.index.astype(int)
    part = part.sort_index()
    if ours not in part or int(size) not in part.index:
        return pd.Series(dtype=str)
    goal = part.loc[int(size), ours]
    said = {}
    for method, regrets in part.drop(columns=ours).items():
        known = regrets.dropna()
        reached = np.flatnonzero(known.to_numpy() <= goal)
        if not len(known):
            continue
        if not reached.size:
            said[method] = f"more than {known.index[-1]}"
        elif reached[0] == 0:
            said[method] = f"{known.index[0]} or fewer"
        else:
            at = slice(reached[0] - 1, reached[0] + 1)
            log_n, two = np.log(known.index[at]), known.iloc[at]
            said[method] = f"{np.exp(np.interp(-goal, -two, log_n)):.0f}"
    return pd.Series(said, dtype=str)


def in_words(found: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Return the summary as text, in percent, and what failed."""
    cells = found.assign(
        said=[
            f"{100 * m:.2f} ({100 * e:.2f})" for m, e in zip(found["mean"], found.standard_error, strict=True)
        ]
    )
    sizes = sorted(found["size"].unique(), key=_by_number)
    said = []
    for name in MEASURES:
        part = cells[cells.measure == name]
        if len(part):
            table = part.pivot_table(index="method", columns="size", values="said", aggfunc="first")
            said.append(f"{name}, % (standard error)\n{table.reindex(columns=sizes).to_string()}")
    for own in (name for name in METHODS if name.startswith("ours") and name in set(rows.method)):
        change = change_of_area(rows, own)
        if len(change):
            said.append(f"change of the area by {own}, % of each other method's (s.e.)\n{change.to_string()}")
        labels = labels_to_match(found, own)
        if len(labels):
            said.append(f"labels for the decision regret of {own} with 30\n{labels.to_string()}")
    times = rows[(rows.cascade == "any (any)") & (rows.status == "ok")]
    seconds = times.groupby("method")[["fit_s", "tune_s"]].median().round(1)
    said.append(f"seconds for a fit and for tuning every cascade, medians\n{seconds.to_string()}")
    failed = rows[rows.status != "ok"]
    if len(failed):
        said.append(f"{len(failed)} of {len(rows.drop_duplicates(RUN))} runs failed")
        said.append(failed[["table", "size", "seed", "method", "status"]].to_string())
    return "\n\n".join(said)


def picture(found: pd.DataFrame, path: Path) -> None:
    """Draw the main measures against the number of training queries, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in PICTURED if name in set(found.measure)]
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.4 * len(names), 3.6), squeeze=False, layout="constrained"
    )
    sizes = sorted(found["size"].unique(), key=_by_number)
    for axis, name in zip(axes[0], names, strict=True):
        for method, part in found[found.measure == name].groupby("method"):
            at = [sizes.index(size) for size in part["size"]]
            order = np.argsort(at)
            axis.errorbar(
                np.asarray(at)[order],
                100 * part["mean"].to_numpy()[order],
                100 * part.standard_error.fillna(0.0).to_numpy()[order],
                marker="o",
                capsize=2,
                label=method,
            )
        axis.set(
            title=name, xticks=range(len(sizes)), xticklabels=sizes, xlabel="training queries", ylabel="%"
        )
        axis.set_ylim(bottom=0)
    axes[0][0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def _by_number(size: str) -> tuple[float, str]:
    return (np.inf if size == "all" else float(size.removesuffix("+")), size)


def cascade(text: str) -> Members:
    """Read the places of a cascade's models."""
    return tuple(sorted({int(part) for part in text.split("-")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all that have a test table)")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["ours (SVI)", "paper", "grid"])
    parser.add_argument(
        "--sizes",
        nargs="*",
        help=f"default: {' '.join(SIZES)}; of simulated tables {' '.join(SIMULATED_SIZES)}",
    )
    parser.add_argument("--seeds", type=int, help="default: 5; of simulated tables 1")
    parser.add_argument("--first-seed", type=int, default=0, help="seeds are SEEDS from this on")
    parser.add_argument("--largest", type=int, help="models of the largest cascade (default: all)")
    parser.add_argument(
        "--cascades",
        nargs="*",
        type=cascade,
        metavar="I-J-...",
        help="places of their models, from 0: 0-2-3 (default: every subset)",
    )
    parser.add_argument(
        "--weights", type=int, default=NUM_WEIGHTS, help="cost weights (default: %(default)s)"
    )
    parser.add_argument("--decisions", action="store_true", help="leave out cascades of fixed models")
    parser.add_argument(
        "--within-train", action="store_true", help="judge by queries of the training table held out"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="CSV to write; beside it .txt and .png"
    )
    parser.add_argument(
        "--also", nargs="*", type=Path, default=[], help="CSVs of other runs, for the summary of all together"
    )
    options = parser.parse_args()
    is_real = bool(os.environ.get("CASCADE_BAYES_DATA"))
    sizes = options.sizes or (SIZES if is_real else SIMULATED_SIZES)
    seeds = options.seeds or (5 if is_real else 1)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore")
    print(f"Python {platform.python_version()}, jax {jax.__version__}", flush=True)
    rows: list[dict[str, Any]] = []
    for name, table, test in pairs(options.files) if options.methods else ():
        if test is None and not options.within_train:
            print(f"{name}: no test table", flush=True)
            continue
        largest = options.largest or table.num_models
        cascades = [
            members
            for members in options.cascades or sub_cascades(table.num_models)
            if len(members) <= largest and members[-1] < table.num_models
        ]
        if not cascades:
            print(f"{name}: has none of the cascades", flush=True)
            continue
        judged = partial(Judge, cascades=cascades, num_weights=options.weights)
        whole = None if test is None or options.within_train else judged(test)
        for size in sizes:
            drop_programs()
            first, num = (0, 1) if size == "all" and whole else (options.first_seed, seeds)
            for seed in range(first, first + num):
                if whole:
                    train, judge = subset(table, size, seed), whole
                else:
                    learn, held = halves(table, seed)
                    train, judge = subset(learn, size, seed), judged(held)
                for method in options.methods:
                    start = time.perf_counter()
                    found, status = run(METHODS[method], train, judge, not options.decisions)
                    shared = {"table": name, "size": size, "seed": seed, "method": method, "status": status}
                    rows += [{**shared, **row} for row in found]
                    print(
                        f"{name} {size} {seed} {method}: {found[0].get('regret', float('nan')):.4f} "
                        f"({time.perf_counter() - start:.0f} s) {status}",
                        flush=True,
                    )
                    pd.DataFrame(rows).to_csv(options.output, index=False)
    others = [pd.read_csv(path, dtype={"size": str}) for path in options.also]
    every = pd.concat([pd.DataFrame(rows), *others], ignore_index=True)
    every.to_csv(options.output, index=False)
    found = summarise(every)
    text = in_words(found, every)
    options.output.with_suffix(".txt").write_text(text + "\n")
    picture(found, options.output.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
