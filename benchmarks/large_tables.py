"""Time, memory and exactness of fits of long tables.

Run ``python benchmarks/large_tables.py [--queries 5000] [--method nuts] [--compare]``. Tables are simulated
from the first three models of the bundled example, every call at a cost of its own. With ``--compare`` one is
fitted once more with every query in the likelihood, and the posteriors are compared: differences of means in
posterior standard deviations, and ratios of standard deviations.
"""

import argparse
import resource
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from cascade_bayes import CascadeData, example, fit, simulate
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model import observations

SITES = ("intercept", "slope", "label_corr", "label_corr_slope", "tau", "upstream")


def make_table(num_queries: int) -> CascadeData:
    data = simulate(example.load_truth(), num_queries, seed=num_queries)
    data = data.select(data.models[:3])
    rng = np.random.default_rng(num_queries)
    cost = data.cost * rng.lognormal(0.0, 0.5, (num_queries, 1)) * rng.lognormal(0.0, 0.2, data.cost.shape)
    return replace(data, cost=cost, call_cost=cost.mean(axis=0))


def timed(data: CascadeData, method: str) -> Posterior:
    began, busy = time.perf_counter(), time.process_time()
    posterior = fit(data, method, seed=0, progress=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{data.num_queries} queries, {method}: {seconds:.0f} s ({cpu:.0f} s of processor), {memory:.2f} GB"
    )
    print(posterior.convergence().sentence())
    return posterior


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--method", default="nuts")
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 2)
    data = make_table(args.queries)
    found = timed(data, args.method)
    if not args.compare:
        return
    whole: Any = observations
    whole.is_long = lambda _: False
    exact = timed(data, args.method)
    for name in SITES:
        own, wanted = (one.samples[name].reshape(one.num_draws, -1) for one in (found, exact))
        off = (own.mean(axis=0) - wanted.mean(axis=0)) / wanted.std(axis=0)
        print(f"{name:18} means {off.round(2)}, deviations {(own.std(axis=0) / wanted.std(axis=0)).round(2)}")


if __name__ == "__main__":
    main()
