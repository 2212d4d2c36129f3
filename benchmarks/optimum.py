"""How close optimised thresholds come to the best there are, and to the best policy of any shape.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, or of the bundled example,
cascades of each size are tuned at many error prices. Of two and three models every combination of the grid's
positions is tried beside it, of more a search starts at many random places. The excess is that of the
optimised thresholds' posterior mean loss over the best of these. The shape gap is what a policy of any other
shape could save under the model (`cascade_bayes.certify`). With ``--abstain`` every model may leave queries
without an answer, and all cascades are compared with random starts.

Run ``python benchmarks/optimum.py [--files NAME ...] [--cascades 3] -o optimum.txt``.
"""

import argparse
import itertools
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tables import find_tables, read

from cascade_bayes import certify, error_cost_frontier, fit
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.lattice import all_policies
from cascade_bayes.engine.optimise import optimise
from cascade_bayes.engine.sweep import run_policies, sweep_chain

WITHIN = 1e-3
"""Relative excess that is good enough."""


def exhaustive(chain: Discretised, tables: ChainTables, prices: np.ndarray) -> np.ndarray:
    """Return the least mean loss at each price of all combinations of grid positions."""
    positions = jnp.arange(chain.grid.num_cells + 1)
    mean_cost = jnp.mean(chain.call_cost, axis=0)

    @jax.jit
    def averages(tables: ChainTables) -> tuple[jax.Array, jax.Array]:
        shared, draws = tables.own_steps(chain.num_thresholds).by_draw()

        def one(own: Any) -> tuple[jax.Array, jax.Array]:
            found = all_policies(shared.of_draw(own), positions)
            return found.error, found.cost(mean_cost)

        error, cost = jax.lax.map(one, draws)
        return jnp.mean(error, axis=0), jnp.mean(cost, axis=0)

    error, cost = (np.asarray(x).ravel() for x in averages(tables))
    return np.asarray([np.min(cost + price * error) for price in prices])


def from_random_starts(
    chain: Discretised, tables: ChainTables, prices: np.ndarray, num_starts: int, seed: int
) -> np.ndarray:
    """Return the mean loss at each price of the best that searches from many random places find."""
    rng = np.random.default_rng(seed)
    shape = (num_starts, chain.num_thresholds)
    defer = np.round(rng.uniform(0, chain.grid.num_cells, shape))
    early = None
    if chain.terms.abstains_early:
        early = np.round(rng.uniform(0, defer))
        early[:, -1] = 0  # the last model abstains by deferring to abstaining
    starts = jax.tree.map(jnp.asarray, Positions(defer, early))
    mean_cost = jnp.mean(chain.call_cost, axis=0)

    search = jax.jit(optimise)
    problem = Problem(tables, mean_cost, chain.is_atom)
    found = [search(problem, jnp.asarray(price), starts).at for price in prices]
    return mean_losses(chain, jax.tree.map(lambda *each: np.stack(each), *found), prices)


def mean_losses(chain: Discretised, at: Positions, prices: np.ndarray) -> np.ndarray:
    """Return the mean loss of a policy a price, every observed query where it stands."""
    outcome = run_policies(chain, at)
    return np.mean(outcome.cost + prices[:, None] * outcome.error, axis=1)


def examine(
    posterior: Any, models: tuple[str, ...], num_prices: int, num_starts: int, abstain: float | None
) -> pd.DataFrame:
    """Return a row a price: loss of the optimised thresholds, excess, shape gap."""
    frontier = error_cost_frontier(posterior, models=models, error_prices=num_prices)
    if abstain is not None:
        price = abstain * float(np.median(frontier.error_prices))
        frontier = error_cost_frontier(
            posterior, models=models, error_prices=frontier.error_prices, abstain_price=price
        )
    chain = discretise(posterior, models, frontier.error.shape[1], terms=frontier.terms)
    tables, prices = chain.tables(), frontier.error_prices
    # What the search itself finds: in a frontier a model that never answers is left out.
    own = mean_losses(chain, chain.positions(sweep_chain(chain, prices).cuts), prices)
    if len(models) <= 3 and abstain is None:
        best = exhaustive(chain, tables, prices)
    else:
        best = from_random_starts(chain, tables, prices, num_starts, seed=1)
    certificate = certify(posterior, frontier)
    return pd.DataFrame(
        {
            "models": " > ".join(models),
            "size": len(models),
            "error_price": prices,
            "loss": own,
            "excess": own / best - 1,
            "shape_gap": certificate.shape_gap.mean(axis=1),
            "gap": certificate.gap.mean(axis=1) / certificate.loss.mean(axis=1),
        }
    )


def write(every: pd.DataFrame, path: Path) -> str:
    """Write all points (CSV) and their summary, and return the latter."""
    every.to_csv(path.with_suffix(".csv"), index=False)
    summary = every.groupby(["table", "size"]).agg(
        points=("loss", "size"),
        largest_excess=("excess", "max"),
        within=("excess", lambda x: float(np.mean(x <= WITHIN))),
        mean_shape_gap=("shape_gap", "mean"),
        largest_shape_gap=("shape_gap", "max"),
        mean_gap=("gap", "mean"),
    )
    text = str(summary.to_string(float_format=lambda x: f"{x:.5f}"))
    path.write_text(text + "\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all of the folder)")
    parser.add_argument("--method", default="laplace", help="of fit (default: %(default)s)")
    parser.add_argument("--cascades", type=int, default=3, help="of each size, at random (default: 3)")
    parser.add_argument("--prices", type=int, default=41)
    parser.add_argument("--starts", type=int, default=100, help="random places (default: %(default)s)")
    parser.add_argument(
        "--abstain", type=float, help="price of abstaining early, as a share of the middle price of an error"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="table to write")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    tables = find_tables(options.files)
    print(f"Python {platform.python_version()}, jax {jax.__version__}; {options.method}", flush=True)
    rng = np.random.default_rng(0)
    rows = []
    for name, path in tables.items():
        start = time.perf_counter()
        posterior = fit(read(path), options.method, seed=0, progress=False)
        for size in range(2, len(posterior.models) + 1):
            subsets = list(itertools.combinations(posterior.models, size))
            for at in sorted(rng.permutation(len(subsets))[: options.cascades]):
                part = examine(posterior, subsets[at], options.prices, options.starts, options.abstain)
                rows.append(part.assign(table=name))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        text = write(pd.concat(rows, ignore_index=True), options.output)
    print(text)


if __name__ == "__main__":
    main()
