"""The demonstration: fit, tune and evaluate the bundled example, and compare with its truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cascade_bayes import example
from cascade_bayes._files import encode
from cascade_bayes._kinds import PICTURE, POLICY, POSTERIOR
from cascade_bayes._output import check_folder
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.engine.cell_tables import tables_for_draws
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.engine.optimise import default_starts, optimise
from cascade_bayes.inference.convergence import Verdict
from cascade_bayes.inference.fit import fit
from cascade_bayes.model.params import find_atoms
from cascade_bayes.plots import plot_frontier, plot_thresholds, save_figure
from cascade_bayes.policy.expected import Evaluation
from cascade_bayes.policy.policy import Policy
from cascade_bayes.reading import read_table
from cascade_bayes.rule import describe_threshold, show_interval

ERROR_PRICE = 0.003
"""US dollars per wrong answer in the demonstration: several models have a part in the best policy."""

_FILES = {
    "frontier": ("frontier.png", PICTURE),
    "thresholds": ("thresholds.png", PICTURE),
    "policy": ("policy.json", POLICY),
    "posterior": ("posterior.nc", POSTERIOR),
}
"""Files that the demonstration writes, and their kinds."""

NUM_PRICES = 21
NUM_DRAWS = 200


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration shows.

    Attributes
    ----------
    verdict
        Whether the fit can be trusted.
    policy, evaluation
        The tuned policy and its figures on the evaluation table.
    true_thresholds
        Optimal thresholds under the true parameters, raw scale.
    true_loss, optimal_loss
        Expected loss under the truth of the tuned and of the truly optimal policy, US dollars per query.
    true_error, true_cost
        Error and cost of the tuned policy under the truth.
    files
        Files written.
    seconds
        Wall time of fitting and of everything.
    """

    verdict: Verdict
    policy: Policy
    evaluation: Evaluation
    true_thresholds: np.ndarray
    true_loss: float
    optimal_loss: float
    true_error: float
    true_cost: float
    files: dict[str, Path]
    seconds: dict[str, float]

    @property
    def converged(self) -> bool:
        """Whether the fit converged."""
        return self.verdict.converged

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "convergence": self.verdict._asdict(),
            "models": list(self.policy.models),
            "error_price": self.policy.error_price,
            "thresholds": [encode(t) for t in self.policy.thresholds],
            "threshold_intervals_90": [
                [encode(a), encode(b)] for a, b in self.policy.threshold_interval(0.9)
            ],
            "true_thresholds": [encode(t) for t in self.true_thresholds],
            "evaluation": self.evaluation.to_dict(),
            "true_error": self.true_error,
            "true_cost": self.true_cost,
            "true_loss": self.true_loss,
            "optimal_loss": self.optimal_loss,
            "files": {name: str(path) for name, path in self.files.items()},
            "seconds": self.seconds,
        }

    def screen(self) -> Group:
        """Return the one screen of the demonstration."""
        policy = self.policy
        thresholds = Table(
            title=f"Thresholds for an error price of ${policy.error_price:g}", title_justify="left"
        )
        for name in ("model", "defer below", "90 % interval", "true optimum", "reached by"):
            thresholds.add_column(name)
        for i, (low, high) in enumerate(policy.threshold_interval(0.9)):
            thresholds.add_row(
                policy.models[i],
                describe_threshold(policy.thresholds[i]),
                show_interval(low, high),
                describe_threshold(self.true_thresholds[i]),
                f"{policy.prediction.reach_prob[i]:.0%}",
            )
        p, r = policy.prediction, self.evaluation.realised
        figures = Table(title=f"Predicted and realised on {r.num_queries} new queries", title_justify="left")
        for name in ("", "predicted, 90 % band", "realised ± s.e.", "under the truth"):
            figures.add_column(name)
        figures.add_row(
            "error",
            f"{p.error:.1%} [{p.error_q05:.1%}, {p.error_q95:.1%}]",
            f"{r.error:.1%} ± {r.error_se:.1%}",
            f"{self.true_error:.1%}",
        )
        figures.add_row(
            "cost, $ per 1000",
            f"{1e3 * p.cost:.4f} [{1e3 * p.cost_q05:.4f}, {1e3 * p.cost_q95:.4f}]",
            f"{1e3 * r.cost:.4f} ± {1e3 * r.cost_se:.4f}",
            f"{1e3 * self.true_cost:.4f}",
        )
        excess = self.true_loss / self.optimal_loss - 1
        lines = [
            self.verdict.sentence(),
            self.evaluation.sentence(),
            f"Loss (cost + price x error) under the truth, $ per 1000 queries: "
            f"tuned {1e3 * self.true_loss:.4f}, truly optimal {1e3 * self.optimal_loss:.4f}: "
            f"{excess:.2%} above.",
            f"Fitted in {self.seconds['fit']:.0f} s, all in {self.seconds['total']:.0f} s. "
            f"Wrote {', '.join(str(path) for path in self.files.values())}.",
        ]
        return Group(thresholds, figures, *(Text(line) for line in lines), Text(next_steps()))


def next_steps() -> str:
    """Return what to type for one's own data."""
    return (
        "\nYour own results: a CSV, Parquet or JSON Lines table with the columns query, model, confidence, "
        "correct, cost. Then\n"
        "  cascade-bayes fit results.parquet --confidence logprob -o posterior.nc\n"
        "  cascade-bayes tune posterior.nc --error-price 0.01 -o policy.json\n"
        "  cascade-bayes evaluate policy.json test.parquet"
    )


def run_demo(
    folder: Path,
    *,
    seed: int,
    talk: Callable[[str], object],
    num_warmup: int | None = None,
    num_samples: int | None = None,
) -> DemoResult:
    """Run the demonstration and write its pictures and files into ``folder``.

    Parameters
    ----------
    folder
        Made if it does not exist.
    seed
        Seed of the fit.
    talk
        Called with one line before each stage.
    num_warmup, num_samples
        Draws of each of four chains; as many as `cascade_bayes.fit` takes by default if None.
    """
    files = {name: folder / file for name, (file, _) in _FILES.items()}
    check_folder(folder, dict(_FILES.values()))
    began = time.perf_counter()
    train = read_table(example.train_path(), confidence="logprob")
    talk(f"Fitting {train.num_models} models on {train.num_queries} simulated queries (about a minute) ...")
    posterior = fit(train, seed=seed, num_warmup=num_warmup, num_samples=num_samples, progress=False)
    talk(f"Tuning thresholds at {NUM_PRICES} prices of an error on {NUM_DRAWS} posterior draws ...")
    prices = np.append(np.geomspace(1e-4, 0.1, NUM_PRICES - 1), ERROR_PRICE)
    frontier = error_cost_frontier(posterior, models="all", error_prices=prices, num_draws=NUM_DRAWS)
    policy = frontier.at(error_price=ERROR_PRICE)
    talk("Evaluating on new queries and comparing with the truth ...")
    test = read_table(
        example.test_path(), confidence="logprob", models=train.models, confidence_map=train.confidence_map
    )
    evaluation = policy.evaluate(test)
    true_thresholds, optimal, tuned = _against_truth(train, policy)

    folder.mkdir(parents=True, exist_ok=True)
    axes = plot_frontier(frontier, frontier.evaluate(test))
    save_figure(axes.figure, files["frontier"])
    save_figure(plot_thresholds(policy)[0].figure, files["thresholds"])
    policy.save(files["policy"])
    posterior.save(files["posterior"])
    return DemoResult(
        verdict=posterior.convergence(),
        policy=policy,
        evaluation=evaluation,
        true_thresholds=true_thresholds,
        true_loss=tuned["loss"],
        optimal_loss=optimal["loss"],
        true_error=tuned["error"],
        true_cost=tuned["cost"],
        files=files,
        seconds={
            "fit": float(posterior.provenance["fit_seconds"]),
            "total": time.perf_counter() - began,
        },
    )


def _against_truth(
    train: CascadeData, policy: Policy
) -> tuple[np.ndarray, dict[str, float], dict[str, float]]:
    """Optimal thresholds under the true parameters, and the figures of both policies there."""
    truth = example.load_truth()
    params = jax.tree.map(lambda field: jnp.asarray(field)[None], truth.params)
    layout = find_atoms(train.with_confidence_map(truth.confidence_map))
    grid = make_grid(params, layout, num_cells=128)
    tables = tables_for_draws(params, grid, truth.copulas, tuple(range(params.num_models)))
    starts = default_starts(len(policy.thresholds), grid.num_cells)
    problem = Problem(tables, jnp.asarray(truth.call_cost), jnp.asarray(grid.is_atom))
    best = jax.jit(optimise)(problem, jnp.asarray(policy.error_price), starts)

    def figures(positions: np.ndarray) -> dict[str, float]:
        outcome = forward(problem.draw(0), jnp.asarray(positions))
        error, cost = float(outcome.error), float(outcome.cost)
        return {"error": error, "cost": cost, "loss": cost + policy.error_price * error}

    positions = np.asarray(best.at.defer)
    return (
        grid.thresholds(positions, truth.confidence_map),
        figures(positions),
        figures(grid.positions(policy.thresholds, truth.confidence_map)),
    )
