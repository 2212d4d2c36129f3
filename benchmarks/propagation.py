"""Exact propagation through a cascade against the pairwise one, and against Monte Carlo.

Zellinger & Thomson (arXiv 2501.09345) let a query that gets to model i depend on the threshold of model i - 1
alone: P(z_i < t_i | z_1 < t_1, ..., z_{i-1} < t_{i-1}) becomes P(z_i < t_i | z_{i-1} < t_{i-1}), and so do
the probabilities of being right. The exact pass keeps the distribution of the queries that come through. Both
are computed on the same grid, for the same posterior draws of one Markov chain; of two models they are the
same.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, or of the bundled example, the
first 3, 4 and 5 models are tuned under either. The table tells by how much the pairwise error differs from
the exact one at the exact thresholds, how far apart the thresholds are that either chooses, as shares of the
scale, and what the pairwise ones lose under the exact pass.

Run ``python benchmarks/propagation.py [--files NAME ...]``.
"""

import argparse
import os
import platform
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tables import find_tables, read

from cascade_bayes import DataWarning, error_cost_frontier, fit
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import Split, run_chain
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.policy.terms import Terms
from cascade_bayes.rule import follow

Pass = Callable[[ChainTables, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
STARTS = (0.25, 0.5, 0.75)
CONSTANT = Terms(constant_costs=True)  # the pairwise rule knows no others


def exact(tables: ChainTables, call_cost: jax.Array, fraction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return error and cost of whole cells deferred, ``(num_models - 1, num_cells)``, on one draw."""
    problem = Problem(tables, call_cost, jnp.zeros(fraction.shape, bool))
    found = run_chain(problem, Split(fraction, jnp.zeros_like(fraction)))
    return found.error, found.cost


def pairwise(tables: ChainTables, call_cost: jax.Array, fraction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the same under the pairwise rule."""
    margin = tables.mass
    reach, cost = jnp.ones(()), call_cost[0]
    right = jnp.sum(margin * tables.correct * (1 - fraction[0]))
    here = margin
    for i in range(len(fraction)):
        defers = jnp.sum(here * fraction[i])
        reach = reach * defers
        cost = cost + reach * call_cost[i + 1]
        # Of the queries that model i defers, whatever came before it.
        part = margin * fraction[i]
        part = part / jnp.maximum(jnp.sum(part), 1e-300)
        here, right_here = part @ tables.transition[i], part @ tables.right[i]
        stops = 1 - fraction[i + 1] if i + 1 < len(fraction) else jnp.ones_like(margin)
        right = right + reach * jnp.sum(right_here * stops)
        margin = margin @ tables.transition[i]
    return 1 - right, cost


def means(
    rule: Pass, tables: ChainTables, call_cost: jax.Array, at: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return error and cost of thresholds at grid positions ``(num_models - 1,)``, averaged over draws."""
    cells = jnp.arange(tables.mass.shape[-1])
    fraction = (cells < at[:, None]).astype(tables.mass.dtype)
    run = jax.vmap(lambda draw: rule(draw, call_cost, fraction), in_axes=(tables.draw_axes(),))
    error, cost = run(tables)
    return jnp.mean(error), jnp.mean(cost)


def tune(
    rule: Pass, tables: ChainTables, call_cost: jax.Array, price: jax.Array, num_cells: int
) -> np.ndarray:
    """Return the best grid positions: each threshold in turn takes the best of all, until none moves."""

    @jax.jit
    def along(at: jax.Array, i: jax.Array) -> jax.Array:
        def loss(position: jax.Array) -> jax.Array:
            error, cost = means(rule, tables, call_cost, at.at[i].set(position))
            return cost + price * error

        return jax.lax.map(loss, jnp.arange(num_cells + 1))

    best, least = np.zeros(0), np.inf
    for start in STARTS:
        at = np.full(len(tables.step), round(start * num_cells))
        while True:
            before = at.copy()
            for i in reversed(range(len(at))):
                losses = np.asarray(along(jnp.asarray(at), jnp.asarray(i)))
                at[i], loss = int(losses.argmin()), float(losses.min())
            if np.array_equal(at, before):
                break
        if loss < least:
            best, least = at, loss
    return best


def by_simulation(chain: Discretised, thresholds: np.ndarray, num_queries: int) -> tuple[float, float]:
    """Return the error of raw thresholds on the first draw, and its standard error."""
    one = jax.tree.map(lambda field: field[0], chain.chain.params)
    z, right = simulate_scores(jax.random.key(0), one, chain.chain.copulas, num_queries)
    members = list(chain.chain.members)
    confidence = np.stack([chain.raw(np.asarray(z)[m], i) for i, m in enumerate(members)], axis=1)
    wrong = ~np.asarray(right)[members].T[np.arange(num_queries), follow(confidence, thresholds).stop]
    return float(wrong.mean()), float(wrong.std() / np.sqrt(num_queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all of the folder)")
    parser.add_argument("--method", default="nuts", help="of fit (default: %(default)s)")
    parser.add_argument("--prices", type=int, default=9)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--queries", type=int, default=1_000_000, help="simulated (default: %(default)s)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    warnings.simplefilter("ignore", DataWarning)
    print(f"Python {platform.python_version()}, jax {jax.__version__}; {options.method}", flush=True)
    rows = []
    for name, path in find_tables(options.files).items():
        posterior = fit(read(path), options.method, seed=0, progress=False)
        for size in range(3, len(posterior.models) + 1):
            models = posterior.models[:size]
            chain = discretise(posterior, models, options.draws, prior_queries=np.inf, terms=CONSTANT)
            tables, cells = chain.tables().own_steps(chain.num_thresholds), chain.grid.num_cells
            cost = jnp.mean(chain.call_cost, axis=0)
            prices = error_cost_frontier(
                posterior, models=models, error_prices=options.prices, num_draws=options.draws
            ).error_prices
            for i, price in enumerate(prices):
                own = {
                    rule: tune(rule, tables, cost, jnp.asarray(price), cells) for rule in (exact, pairwise)
                }
                at = jnp.asarray(own[exact])
                (error, paid), (other, _) = (means(rule, tables, cost, at) for rule in (exact, pairwise))
                theirs = means(exact, tables, cost, jnp.asarray(own[pairwise]))
                loss, lost = (float(c + price * e) for e, c in ((error, paid), theirs))
                row = {
                    "table": name,
                    "size": size,
                    "error": float(error),
                    "pairwise_less_exact": float(other - error),
                    "thresholds_apart": float(np.abs(own[exact] - own[pairwise]).mean() / cells),
                    "excess_loss": lost / loss - 1,
                }
                if i == options.prices // 2:
                    first = jax.tree.map(lambda field: field[:1], tables)
                    simulated, se = by_simulation(
                        chain, chain.cuts(Positions(jnp.asarray(own[exact]))).thresholds, options.queries
                    )
                    found = [float(means(rule, first, cost, at)[0]) for rule in (exact, pairwise)]
                    row |= {
                        "exact_less_simulated": found[0] - simulated,
                        "pairwise_less_simulated": found[1] - simulated,
                        "simulated_se": se,
                    }
                rows.append(row)
        print(f"{name} done", flush=True)
    every = pd.DataFrame(rows)
    apart = every["pairwise_less_exact"]
    every["size_of_difference"] = apart.abs()
    summary = every.groupby("size").agg(
        points=("error", "size"),
        mean_difference=("pairwise_less_exact", "mean"),
        largest_difference=("size_of_difference", "max"),
        thresholds_apart=("thresholds_apart", "mean"),
        mean_excess_loss=("excess_loss", "mean"),
        largest_excess_loss=("excess_loss", "max"),
        exact_less_simulated=("exact_less_simulated", lambda x: x.abs().max()),
        pairwise_less_simulated=("pairwise_less_simulated", lambda x: x.abs().max()),
        simulated_se=("simulated_se", "max"),
    )
    print(summary.T.to_string(float_format=lambda x: f"{x:.5f}"))


if __name__ == "__main__":
    main()
