"""Simulation-based calibration: whether posteriors are what the priors and the model make them.

Run ``python benchmarks/sbc.py -o ranks.txt``, which writes the table of tests, and beside it the picture
``ranks.png`` and the ranks, ``ranks.npz``.
"""

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np

from cascade_bayes import plot_ranks, simulation_based_calibration
from cascade_bayes.plots import save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--method", choices=("nuts", "auto", "svi", "laplace"), default="nuts")
    parser.add_argument("--structure", choices=("chain", "modular"), default="chain")
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of SVI (default: that of fit)")
    parser.add_argument("--no-upstream", action="store_true", help="simulate and fit no upstream effect")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--output", "-o", type=Path, required=True)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 2)
    mpl.use("Agg")
    options: dict[str, Any] = {"num_steps": asked.steps} if asked.steps else {}
    began = time.perf_counter()
    found = simulation_based_calibration(
        asked.replications,
        asked.method,
        seed=asked.seed,
        structure=asked.structure,
        num_queries=asked.queries,
        num_models=asked.models,
        batch_size=asked.batch_size,
        upstream=not asked.no_upstream,
        **options,
    )
    seconds = time.perf_counter() - began
    lines = [
        f"Python {platform.python_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}; "
        f"{asked.method}, {asked.structure}, {asked.replications} replications of {asked.models} models and "
        f"{asked.queries} queries, seed {asked.seed}: {seconds:.0f} s",
        f"effective draws of a fit, at least and median: {found.effective_draws.min():.0f}, "
        f"{np.median(found.effective_draws):.0f}",
        found.sentence(),
        found.to_frame().to_string(float_format="{:.3g}".format),
    ]
    print("\n".join(lines[:3]))
    asked.output.write_text("\n".join(lines) + "\n")
    np.savez_compressed(asked.output.with_suffix(".npz"), **found.ranks)
    axes = plot_ranks(found)
    save_figure(axes[0].figure, asked.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
