"""Costs that go with the confidence, against the same cost for every call of a model.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, or of the bundled example, a
part of the queries is held out in turn and the rest fitted. Every pair of models and the cascade of all are
tuned at a sweep of error prices under either assumption, by the model alone. The table tells, of the queries
held out, by how much their realised cost exceeds what the forward pass expects under either, as a share of
it, for the same thresholds (those that defer some but not all queries); and by how much the loss of the
thresholds found under constant costs exceeds that of the others. Standard errors are over folds and files.

Run ``python benchmarks/costs.py [--files NAME ...] [--folds 5]``.
"""

import argparse
import itertools
import os
import platform
import time
import warnings
from typing import Any

import jax
import numpy as np
import pandas as pd
from tables import find_tables, read

from cascade_bayes import DataWarning, FailedFit, error_cost_frontier, fit_batch
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.engine.costs import find_trend
from cascade_bayes.evaluation import realise
from cascade_bayes.policy.terms import COSTS_ALONE

NUM_DRAWS = 200

SOME = 0.02
"""Share of the queries that must be deferred, and must not."""


def examine(posterior: Any, test: Any, models: tuple[str, ...], num_prices: int) -> list[dict[str, Any]]:
    """Return a row for each price and assumption."""
    own = test.select(list(models))
    rows = []
    prices: Any = num_prices
    cuts = None
    for constant in (False, True):
        swept = error_cost_frontier(
            posterior,
            models=list(models),
            error_prices=prices,
            prior_queries=np.inf,
            constant_costs=constant,
        )
        prices, cuts = swept.error_prices, swept.cuts if cuts is None else cuts
        chain = discretise(posterior, models, NUM_DRAWS, prior_queries=np.inf, terms=swept.terms)
        expected = np.asarray(chain.outcomes(chain.positions(cuts)).cost).mean(axis=1)
        for i, price in enumerate(prices):
            same, found = realise(own, cuts.thresholds[i]), realise(own, swept.thresholds[i])
            rows.append(
                {
                    "price": i,
                    "models": " > ".join(models),
                    "constant": constant,
                    "excess_cost": same.cost / expected[i] - 1,
                    "loss": found.cost + price * found.error,
                    "deferred": same.reach_prob[1],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all of the folder)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--prices", type=int, default=9)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore", DataWarning)
    print(f"Python {platform.python_version()}, jax {jax.__version__}", flush=True)
    rows = []
    for name, path in find_tables(options.files).items():
        start = time.perf_counter()
        data = read(path)
        fold = np.random.default_rng(0).permutation(data.num_queries) % options.folds
        rest = [data.take(fold != k).with_confidence_map() for k in range(options.folds)]
        fits = fit_batch(rest, "laplace", seed=0, progress=False)
        cascades = [*itertools.combinations(data.models, 2), data.models]
        trends = []
        for k, posterior in enumerate(fits):
            if isinstance(posterior, FailedFit):
                raise SystemExit(posterior.reason)
            members = tuple(range(data.num_models))
            trend = find_trend(posterior.data, members, COSTS_ALONE, 200)
            assert trend is not None
            trends.append(np.asarray(trend.slope).mean(axis=0))
            for models in cascades:
                for row in examine(posterior, data.take(fold == k), models, options.prices):
                    rows.append(row | {"table": name, "fold": k})
        slopes = ", ".join(f"{slope:+.3f}" for slope in np.mean(trends, axis=0))
        print(f"{name}: slopes of neighbours {slopes}; {time.perf_counter() - start:.0f} s", flush=True)
    every = pd.DataFrame(rows)
    some = every[every["deferred"].between(SOME, 1 - SOME)]
    by_fold = some.groupby(["constant", "table", "fold"])["excess_cost"]
    shown = pd.DataFrame({"mean": by_fold.mean(), "absolute": by_fold.apply(lambda x: x.abs().mean())})
    print("realised cost over predicted, less 1, and its absolute value")
    summary = shown.groupby("constant").agg(["mean", "sem"])
    print(summary.to_string(float_format=lambda x: f"{x:.4f}"))
    loss = every.pivot_table(index=["table", "fold", "models", "price"], columns="constant", values="loss")
    worse = (loss[True] / loss[False] - 1).groupby(["table", "fold"]).mean()
    print(f"excess loss of thresholds found under constant costs {worse.mean():.5f} ({worse.sem():.5f})")


if __name__ == "__main__":
    main()
