"""Whether predictive bands of realised error and cost hold what was realised.

Of each ``NAME-train.parquet`` that `tables.find_tables` knows, random subsets of queries are
fitted, and five thresholds are predicted for as many queries as are left. They stand at the same share of
every model's confidences, over all queries: 10, 30, 50, 70 and 90 %. A band should hold its share of realised
figures; a subset and the rest of its table differ by chance as two samples of new queries do.

Run ``python benchmarks/coverage.py -o coverage.txt [--files NAME ...] [--subsets 40]``.
"""

import argparse
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from tables import find_tables, read

from cascade_bayes import DataWarning, FailedFit, fit_batch, predict
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.predict import Predicted
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.evaluation import realise

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
FIGURES = ("error", "cost", "last_reach")
NUM_DRAWS = 500


def thresholds_of(data: CascadeData) -> np.ndarray:
    """Observed confidences at each of `SHARES`, ``(len(SHARES), num_models - 1)``."""
    return np.quantile(data.confidence[:, :-1], SHARES, axis=0, method="higher")


def figures(predicted: Predicted) -> dict[str, np.ndarray]:
    """Return the draws of `FIGURES`, ``(num_thresholds, num_draws)`` each."""
    return dict(zip(FIGURES, (predicted.error, predicted.cost, predicted.reach_prob[..., -1]), strict=True))


def cover(
    data: CascadeData,
    num_subsets: int,
    num_queries: int,
    level: float,
    seed: int,
    prior_queries: float,
    **how: Any,
) -> pd.DataFrame:
    """Return a row for each subset, threshold and figure: where the realised value lies in the band."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(data.num_queries) for _ in range(num_subsets)]
    subsets = [data.take(rows[:num_queries]).with_confidence_map() for rows in order]
    thresholds = thresholds_of(data)
    ends = (1 - level) / 2, (1 + level) / 2
    posteriors = fit_batch(subsets, seed=seed, progress=False, **how)
    rows = []
    for s, (posterior, picked) in enumerate(zip(posteriors, order, strict=True)):
        if isinstance(posterior, FailedFit):
            raise SystemExit(f"subset {s} could not be fitted: {posterior}")
        rest = data.take(picked[num_queries:])
        predicted, of_all = (
            figures(
                predict(
                    posterior,
                    thresholds,
                    num_queries=count,
                    num_draws=NUM_DRAWS,
                    prior_queries=prior_queries,
                    seed=seed + s,
                )
            )
            for count in (rest.num_queries, None)
        )
        for t, share in enumerate(SHARES):
            realised = realise(rest, thresholds[t])
            for figure, value in zip(
                FIGURES, (realised.error, realised.cost, realised.reach_prob[-1]), strict=True
            ):
                draws = predicted[figure][t]
                low, high = np.quantile(draws, ends)
                narrow = np.quantile(of_all[figure][t], ends)
                rows.append(
                    {
                        "share": share,
                        "figure": figure,
                        "held": low <= value <= high,
                        "held_without_sampling": narrow[0] <= value <= narrow[1],
                        "standardised": (value - draws.mean()) / draws.std(),
                        "realised": value,
                        "predicted": draws.mean(),
                        "width": high - low,
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="NAMEs; all of the folder if left out")
    parser.add_argument("--subsets", type=int, default=40, help="of each file (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=100, help="of a subset (default: %(default)s)")
    parser.add_argument("--level", type=float, default=0.9, help="of the bands (default: %(default)s)")
    parser.add_argument("--method", default="nuts")
    parser.add_argument("--structure", choices=("modular", "chain"), help="default: as fit chooses")
    parser.add_argument("--samples", type=int, default=250, help="of each of four chains")
    parser.add_argument(
        "--prior-queries", type=float, default=PRIOR_QUERIES, help="that the model counts for (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--output", "-o", type=Path, required=True)
    asked = parser.parse_args()
    paths = find_tables(asked.files)
    warnings.simplefilter("ignore", DataWarning)  # small subsets have many reasons
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    lines = [
        f"Python {platform.python_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}; "
        f"{asked.method}, {asked.subsets} subsets of {asked.queries} queries, {asked.level:.0%} bands, seed "
        f"{asked.seed}, prior_queries {asked.prior_queries:g}"
    ]
    print(lines[0], flush=True)
    tables = []
    for name, path in paths.items():
        began = time.perf_counter()
        data = read(path)
        found = cover(
            data,
            asked.subsets,
            asked.queries,
            asked.level,
            asked.seed,
            asked.prior_queries,
            method=asked.method,
            structure=asked.structure,
            num_samples=asked.samples,
            max_rounds=1,
            batch_size=asked.batch_size,
        )
        tables.append(found.assign(file=name))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    rows = pd.concat(tables)
    columns = ["held", "held_without_sampling", "standardised", "realised", "predicted", "width"]
    by_file = rows.groupby(["file", "figure"])[columns].mean()
    by_share = rows.pivot_table(index=["file", "figure"], columns="share", values="held")
    overall = rows.groupby("figure")[columns].mean()
    lines += [f"\n{frame.to_string(float_format='{:.3g}'.format)}" for frame in (by_file, by_share, overall)]
    asked.output.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[1:]))


if __name__ == "__main__":
    main()
