"""Recovery: how often 90 % posterior intervals hold the parameters that made the table.

Each replication draws a cascade from the priors, simulates a table from it and fits it
(`cascade_bayes.simulation_based_calibration`, here with large tables). With truths drawn from the priors a
correct posterior covers 90 % of them, for every parameter: those whose rank among the draws is not of the
lowest or highest twentieth.

``--structure modular``, the default of `cascade_bayes.fit`, is compared in the terms of a chain, from which
the tables are. ``--method nuts``, the default, is one short chain; the others are those of `fit`.

Run ``python benchmarks/recovery.py`` and ``python benchmarks/recovery.py --structure chain --method
laplace``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np

from cascade_bayes import CalibrationRanks, simulation_based_calibration
from cascade_bayes.model.margins import DEFAULT_MARGIN

GROUPS = {
    "margins": ("mixing_split", "concentration", "normal_scale", "atom_logit"),
    "copula": ("tau",),
    "calibration": ("intercept", "slope", "atom_effect"),
    "upstream": ("upstream",),
}
LEVEL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--copula", default="gumbel")
    parser.add_argument("--margin", default=DEFAULT_MARGIN)
    parser.add_argument("--method", choices=("nuts", "auto", "svi", "laplace"), default="nuts")
    parser.add_argument("--structure", choices=("modular", "chain"), default="modular")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    short: dict[str, Any] = {"num_chains": 1, "num_warmup": 50, "num_samples": 200, "max_rounds": 1}
    began = time.perf_counter()
    found = simulation_based_calibration(
        options.replications,
        options.method,
        seed=0,
        structure=options.structure,
        num_queries=options.queries,
        num_models=options.models,
        copula=options.copula,
        margin=options.margin,
        **(short if options.method in ("nuts", "auto") else {}),
    )
    seconds = time.perf_counter() - began
    print(
        f"{options.replications} replications of {options.models} models, {options.queries} queries: "
        f"{seconds:.0f} s"
    )
    report(found)


def report(found: CalibrationRanks) -> None:
    covered: dict[str, list[np.ndarray]] = {}
    for name, ranks in found.ranks.items():
        u = (ranks + 0.5) / (found.num_draws + 1)
        covered.setdefault(name.partition("[")[0], []).append(np.abs(u - 0.5) < LEVEL / 2)
    print(f"{'group':14s}{'parameters':>12s}{'covered by 90 % intervals':>28s}")
    for group, names in GROUPS.items():
        hits = {name: np.stack(covered[name], axis=1) for name in names if name in covered}
        total = np.concatenate(list(hits.values()), axis=1)
        error = total.mean(axis=1).std() / np.sqrt(len(total))
        print(f"{group:14s}{total.shape[1]:12d}{total.mean():21.1%} +- {error:.1%}")
        for name, x in hits.items():
            print(f"  {name:16s}{x.shape[1]:8d}{x.mean():21.1%}")


if __name__ == "__main__":
    main()
