"""Time `fit_batch` against `fit` in a loop, compilation and running apart.

The tables are simulated from the first, third and last model of the bundled example. Run ``python
benchmarks/bench_batch.py [--tables 100] [--queries 300] [--method svi]``. The loop is over the first few
tables, after one that compiles; its time is scaled to all of them.
"""

import argparse
import os
import platform
import statistics
import time
from typing import Any

import jax

from cascade_bayes import CascadeData, FailedFit, example, fit, fit_batch, simulate

NUM_ALONE = 5
MODELS = ["mini-1b", "medium-8b", "giant-405b"]


def make_tables(count: int, num_queries: int) -> list[CascadeData]:
    truth = example.load_truth()
    return [simulate(truth, num_queries, seed=seed).select(MODELS) for seed in range(count)]


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--method", default="svi")
    parser.add_argument(
        "--draws", type=int, default=125, help="of each of four chains (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="of SVI (default: that of fit)")
    parser.add_argument("--runs", type=int, default=3, help="of the warm batch (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=50)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    tables = make_tables(options.tables, options.queries)
    how = {"num_samples": options.draws, "max_rounds": 1, "progress": False}
    if options.steps:
        how["num_steps"] = options.steps
    print(
        f"Python {platform.python_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}; "
        f"{options.tables} tables of {len(MODELS)} models and {options.queries} queries, {options.method}"
    )

    def together() -> Any:
        return fit_batch(tables, options.method, seed=0, batch_size=options.batch_size, **how)

    found, cold = timed(together)
    warm = [timed(together)[1] for _ in range(options.runs)]
    failed = sum(isinstance(one, FailedFit) for one in found)
    trusted = sum(not isinstance(one, FailedFit) and one.convergence().converged for one in found)
    fit(tables[0], options.method, seed=0, **how)
    alone = [
        timed(lambda data=data: fit(data, options.method, seed=0, **how))[1] for data in tables[:NUM_ALONE]
    ]
    loop = statistics.median(alone) * options.tables
    batch = statistics.median(warm)
    print(f"fit_batch: cold {cold:.1f} s, warm {batch:.1f} s (median of {options.runs}); {failed} failed")
    print(f"{trusted} of {options.tables} can be trusted")
    print(f"fit in a loop, warm: {loop:.1f} s; ratio {loop / batch:.1f}")


if __name__ == "__main__":
    main()
