"""Whether more labels are worth what `cascade_bayes.value_of_information` says, by brute force.

From each of many posterior draws new queries are simulated, appended to the table, and all is fitted and
tuned again. What the new thresholds lose less than the old ones, under the draw that the queries came from,
is what they were worth there; its mean is the expected value of sample information.

The table is the bundled example, or ``NAME-train.parquet`` of the folder in ``CASCADE_BAYES_DATA``. Run
``python benchmarks/information.py [NAME] [--models A,B,C] [--new 300] [--draws 100]``.
"""

import argparse
import os
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from tables import read

from cascade_bayes import (
    CascadeData,
    DataWarning,
    FailedFit,
    error_cost_frontier,
    example,
    fit,
    fit_batch,
    value_of_information,
)
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.new_queries import simulate_new
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import forward
from cascade_bayes.policy.policy import Cuts


def with_new(data: CascadeData, chain: Discretised, z: np.ndarray, right: np.ndarray) -> CascadeData:
    """Append queries, ``(num_models, num_queries)`` each, with labels and the mean costs of calls."""
    new = np.stack([chain.raw(own, i) for i, own in enumerate(z)], axis=1)
    added = len(new)
    return replace(
        data,
        query_ids=np.concatenate([data.query_ids.astype(str), [f"new {i}" for i in range(added)]]),
        confidence=np.concatenate([data.confidence, new]),
        correct=np.concatenate([data.correct, right.T]),
        labelled=np.concatenate([data.labelled, np.ones(new.shape, dtype=bool)]),
        cost=np.concatenate([data.cost, np.tile(data.call_cost, (added, 1))]),
        latency_ms=None,
    ).with_confidence_map()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", nargs="?", help="table of CASCADE_BAYES_DATA; the example if left out")
    parser.add_argument("--models", help="comma-separated, in order (default: all)")
    parser.add_argument("--new", type=int, default=300, help="new queries (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=100, help="refits (default: %(default)s)")
    parser.add_argument("--price", type=float, help="US dollars per error (default: the middle of a sweep)")
    parser.add_argument("--method", default="laplace", help="of fit (default: %(default)s)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore", DataWarning)
    folder = Path(os.environ.get("CASCADE_BAYES_DATA", "."))
    path = folder / f"{options.name}-train.parquet" if options.name else example.train_path()
    data = read(path, models=options.models.split(",") if options.models else None)
    print(
        f"Python {platform.python_version()}, jax {jax.__version__}; {data.num_queries} queries", flush=True
    )
    posterior = fit(data, options.method, seed=0, progress=False)
    prices = [options.price] if options.price else 5
    frontier = error_cost_frontier(posterior, models="all", error_prices=prices)
    policy = frontier.policy(len(frontier) // 2)
    start = time.perf_counter()
    found = value_of_information(posterior, policy, [options.new], num_draws=500)
    print(f"{found.sentence()} ({time.perf_counter() - start:.0f} s)", flush=True)
    chain = discretise(posterior, policy.models, 500)
    z, right = simulate_new(chain, options.new, seed=2)
    which = np.linspace(0, 499, options.draws).astype(int)
    start = time.perf_counter()
    tables = [with_new(data, chain, np.asarray(z[d], dtype=float), np.asarray(right[d])) for d in which]
    fits = fit_batch(tables, options.method, seed=1, progress=False)
    print(f"fitted {len(fits)} tables in {time.perf_counter() - start:.0f} s", flush=True)
    draws = chain.tables()

    def loss(d: int, thresholds: np.ndarray) -> float:
        at = chain.positions(Cuts(thresholds))
        outcome = forward(Problem(draws.draw(d), chain.call_cost[d], chain.is_atom), *at)
        return float(outcome.cost + policy.error_price * outcome.error)

    gain = []
    for d, one in zip(which, fits, strict=True):
        if isinstance(one, FailedFit):
            raise SystemExit(one.reason)
        again = error_cost_frontier(one, models="all", error_prices=[policy.error_price]).policy(0)
        gain.append(loss(d, policy.thresholds) - loss(d, again.thresholds))
    error = np.std(gain) / np.sqrt(len(gain))
    print(
        f"by brute force {1000 * np.mean(gain):.4g} ({1000 * error:.2g}) US dollars per thousand queries at "
        f"{policy.error_price:.3g} per wrong answer, said {1000 * found.evsi[0, 0]:.4g} "
        f"({1000 * found.gain[0, 0].std() / np.sqrt(500):.2g}), perfect {1000 * found.evpi:.4g}; "
        f"{time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
