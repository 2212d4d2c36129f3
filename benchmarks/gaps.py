"""What queries with gaps and without labels are worth, by simulation from a known cascade.

``logs``: the log of a running cascade of three models (later models are seen for deferred queries only) is
fitted as it is, and naively, by its complete rows: the queries that reached the last model. Printed are the
true accuracy of each model over *all* queries, tau of neighbours, and both estimates with 90 % intervals.

``unlabelled``: thresholds are tuned from 30 labelled queries, and from the same 30 with 270 unlabelled ones.
Printed is the mean excess of the true loss over that of the truly optimal thresholds, over replications and
prices.

Run ``python benchmarks/gaps.py logs`` and ``python benchmarks/gaps.py unlabelled --replications 40``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes import Cascade, CascadeData, Posterior, error_cost_frontier, example, fit, simulate
from cascade_bayes.engine.cell_tables import tables_for_draws
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.engine.optimise import default_starts, optimise
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.params import CascadeParams, find_atoms
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.model.spec import Structure
from cascade_bayes.rule import follow

OPTIONS: dict[str, Any] = {
    "num_chains": 2,
    "num_warmup": 200,
    "num_samples": 300,
    "max_rounds": 1,
    "progress": False,
}


def three_models() -> Cascade:
    """First, third and last model of the example, as a chain of their own."""
    truth = example.load_truth()
    keep = np.array([0, 2, 4])
    by_model = truth.params._replace(label_corr=LabelCorr(jnp.zeros(5), jnp.zeros(5)))
    params = jax.tree.map(lambda x: x[keep] if x.shape[0] == 5 else x[np.array([1, 3])], by_model)
    return Cascade(
        params=params._replace(upstream=jnp.array([0.0, 0.4, 0.4]), label_corr=truth.params.label_corr),
        copulas=truth.copulas[:2],
        models=tuple(truth.models[i] for i in keep),
        call_cost=truth.call_cost[keep],
        confidence_map=truth.confidence_map.select(list(keep)),
    )


def logged(data: CascadeData, shares: tuple[float, ...]) -> CascadeData:
    """Return the log that a running cascade would have written, deferring these shares at each model."""
    thresholds = np.array([np.quantile(data.confidence[:, i], share) for i, share in enumerate(shares)])
    stop = follow(data.confidence, thresholds).stop
    asked = np.arange(data.num_models) <= stop[:, None]
    return replace(
        data,
        confidence=np.where(asked, data.confidence, np.nan),
        cost=np.where(asked, data.cost, np.nan),
        labelled=asked,
        correct=data.correct & asked,
    )


def accuracies(params: CascadeParams, copulas: Any, num_queries: int = 2000) -> np.ndarray:
    """Accuracy of each model over all queries, one row a draw."""

    def one(draw: CascadeParams) -> jax.Array:
        z, _ = simulate_scores(jax.random.key(0), draw, copulas, num_queries)
        return jnp.mean(jax.nn.sigmoid(correctness_logit(z, draw)), axis=1)

    return np.asarray(jax.jit(lambda p: jax.lax.map(one, p))(params))


def compare_logs(num_queries: int, seed: int) -> None:
    truth = three_models()
    log = logged(simulate(truth, num_queries, seed), (0.6, 0.6))
    seen = log.observed.sum(axis=0)
    print(f"{num_queries} queries; asked: {dict(zip(log.models, seen.tolist(), strict=True))}")
    one = jax.tree.map(lambda x: x[None], truth.params)
    true_accuracy = accuracies(one, truth.copulas, 200_000)[0]
    true_tau = 1 - 1 / np.asarray(truth.params.theta)
    ours = fit(log, seed=0, **OPTIONS)
    naive = fit(log.take(log.observed.all(axis=1)), seed=0, **OPTIONS)
    figures = {}
    for name, posterior in (("ours", ours), ("naive", naive)):
        figures[name] = accuracies(posterior.params(100), posterior.spec.copulas)
    for i, model in enumerate(log.models):
        row(f"accuracy of {model}", true_accuracy[i], {k: v[:, i] for k, v in figures.items()})
    for i in range(2):
        taus = {"ours": ours.samples["tau"][..., i], "naive": naive.samples["tau"][..., i]}
        row(f"tau of {log.models[i]} and {log.models[i + 1]}", true_tau[i], taus)


def row(name: str, truth: float, draws: dict[str, np.ndarray]) -> None:
    text = f"{name:36s} truth {truth:6.3f}"
    for label, values in draws.items():
        low, high = np.quantile(values, [0.05, 0.95])
        text += f"   {label} {np.mean(values):6.3f} [{low:.3f}, {high:.3f}]"
    print(text, flush=True)


def compare_unlabelled(replications: int, structure: Structure | None) -> None:
    truth = three_models()
    prices = np.geomspace(2e-4, 2e-2, 5)
    excess: dict[str, list[np.ndarray]] = {"labelled": [], "with unlabelled": []}
    began = time.perf_counter()
    for seed in range(replications):
        full = simulate(truth, 300, 1000 + seed).with_confidence_map()
        known = np.arange(300) < 30
        both = replace(full, labelled=full.labelled & known[:, None], correct=full.correct & known[:, None])
        few = full.take(known).with_confidence_map()
        for name, data in (("labelled", few), ("with unlabelled", both)):
            if not all(data.correct[:30, i].any() for i in range(3)):
                continue
            posterior = fit(data, seed=seed, structure=structure, **OPTIONS)
            excess[name].append(excess_loss(posterior, truth, prices))
        if seed % 5 == 4:
            report(excess, seed + 1, time.perf_counter() - began)


def excess_loss(posterior: Posterior, truth: Cascade, prices: np.ndarray) -> np.ndarray:
    """Return the true loss of the tuned thresholds over the optimal one, less 1, at each price."""
    frontier = error_cost_frontier(posterior, models="all", error_prices=prices, num_draws=100)
    params = jax.tree.map(lambda x: jnp.asarray(x)[None], truth.params)
    layout = find_atoms(simulate(truth, 300, 0))
    grid = make_grid(params, layout, num_cells=128)
    tables = tables_for_draws(params, grid, truth.copulas, (0, 1, 2))
    one = tables.draw(0)
    cost, is_atom = jnp.asarray(truth.call_cost), jnp.asarray(grid.is_atom)
    found = []
    for price, thresholds in zip(prices, frontier.thresholds, strict=True):
        best = BEST(Problem(tables, cost, is_atom), jnp.asarray(price), default_starts(2, grid.num_cells))
        outcome = forward(
            Problem(one, cost, is_atom), jnp.asarray(grid.positions(thresholds, truth.confidence_map))
        )
        found.append(float(outcome.cost + price * outcome.error) / float(best.loss) - 1)
    return np.asarray(found)


BEST = jax.jit(optimise)


def report(excess: dict[str, list[np.ndarray]], count: int, seconds: float) -> None:
    few, both = (np.stack(values) for values in excess.values())
    gain = (few - both).mean(axis=1)
    error = gain.std() / np.sqrt(len(gain))
    print(
        f"{count} replications, {seconds:.0f} s: mean excess loss {few.mean():.2%} from 30 labelled queries, "
        f"{both.mean():.2%} with 270 unlabelled ones; difference {gain.mean():.2%} +- {error:.2%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["logs", "unlabelled"])
    parser.add_argument("--queries", type=int, default=3000, help="of the log")
    parser.add_argument("--replications", type=int, default=40)
    parser.add_argument("--structure", choices=["modular", "chain"], help="of the fits to few labels")
    parser.add_argument("--seed", type=int, default=0, help="of the log")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.part == "logs":
        compare_logs(options.queries, options.seed)
    else:
        compare_unlabelled(options.replications, options.structure)


if __name__ == "__main__":
    main()
