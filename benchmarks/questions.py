"""Whether budgets and error targets hold with the probability that was asked for.

Cascades are drawn from the priors, a table is simulated from each and fitted, and a policy is asked for that
keeps to a budget, and one that keeps to an error target, with probability 0.9. The true parameters tell
whether it does. The limits lie at random places in the range of what the cascade's policies do.

Run ``python benchmarks/questions.py [--replications 200] [--queries 60]``.
"""

import argparse
import os
import platform
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes import (
    DataWarning,
    FailedFit,
    InfeasibleError,
    Policy,
    error_cost_frontier,
    fit_batch,
    predict,
    sample_prior,
    simulate,
)
from cascade_bayes.engine.cell_tables import tables_for_draws
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.simulate import Cascade

MODELS = ("a", "b", "c")
CALL_COST = np.array([1e-4, 4e-4, 1.6e-3])
CONFIDENCE = 0.9
NUM_CELLS = 128

FORWARD = jax.jit(forward)


def truth_of(cascade: Cascade, policy: Policy, data: Any) -> tuple[float, float]:
    """Return the true error and cost of a policy."""
    layout = find_atoms(data.with_confidence_map(cascade.confidence_map))
    params = jax.tree.map(lambda field: jnp.asarray(field)[None], cascade.params)
    grid = make_grid(params, layout, NUM_CELLS)
    tables = tables_for_draws(params, grid, cascade.copulas, tuple(range(len(MODELS))))
    one = tables.draw(0)
    at = jnp.asarray(grid.positions(policy.thresholds, cascade.confidence_map))
    found = FORWARD(Problem(one, jnp.asarray(CALL_COST), jnp.asarray(grid.is_atom)), at)
    return float(found.error), float(found.cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--method", default="laplace", help="of fit (default: %(default)s)")
    parser.add_argument("--prices", type=int, default=21)
    parser.add_argument("--draws", type=int, default=200, help="posterior draws (default: %(default)s)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore", DataWarning)
    print(f"Python {platform.python_version()}, jax {jax.__version__}; {options.method}", flush=True)
    start = time.perf_counter()
    prior = sample_prior(models=MODELS, num_draws=options.replications, seed=1)
    truths = [prior.cascade(r)._replace(call_cost=CALL_COST) for r in range(options.replications)]
    raw = [simulate(one, options.queries, seed=r) for r, one in enumerate(truths)]
    fits = fit_batch([one.with_confidence_map() for one in raw], options.method, seed=0, progress=False)
    print(f"fitted in {time.perf_counter() - start:.0f} s", flush=True)
    rng = np.random.default_rng(0)
    held: dict[str, list[tuple[bool, float]]] = {"budget": [], "target_error": []}
    refused = dict.fromkeys(held, 0)
    for cascade, data, posterior in zip(truths, raw, fits, strict=True):
        if isinstance(posterior, FailedFit):
            raise SystemExit(posterior.reason)
        frontier = error_cost_frontier(
            posterior, models="all", error_prices=options.prices, num_draws=options.draws
        )
        reachable = np.quantile(frontier.error, CONFIDENCE, axis=1)
        limits = {
            "budget": CALL_COST[0] * 1.02 + rng.uniform() * CALL_COST[1:].sum(),
            "target_error": reachable.min() + rng.uniform() * np.ptp(reachable),
        }
        for name, limit in limits.items():
            figure = "cost" if name == "budget" else "error"
            try:
                policy = frontier.at(**{name: float(limit)}, confidence=CONFIDENCE)
            except InfeasibleError:
                refused[name] += 1
                continue
            error, cost = truth_of(cascade, policy, data)
            predicted = predict(posterior, policy, num_draws=options.draws)
            stated = float(np.mean(getattr(predicted, figure) <= limit))
            held[name].append(((cost if name == "budget" else error) <= limit, stated))
    for name, found in held.items():
        ok, stated = np.array(found, dtype=float).T
        error = np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / len(ok))
        print(
            f"{name}: held in {ok.mean():.3f} of {len(ok)} (asked {CONFIDENCE}, s.e. {error:.3f}); the "
            f"posterior says {stated.mean():.3f} of the policies it chose; {refused[name]} refused"
        )
    print(f"all in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
