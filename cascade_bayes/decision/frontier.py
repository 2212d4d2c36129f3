"""The error-cost frontier: optimal thresholds over a sweep of error prices, with their uncertainty."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._files import encode, read_record, write_json
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.chain import ChainTables
from cascade_bayes.decision.costs import Payments
from cascade_bayes.decision.discretise import Discretised, discretise
from cascade_bayes.decision.lattice import lattice_positions
from cascade_bayes.decision.optimise import NUM_STEPS
from cascade_bayes.decision.policy import Policy, Prediction
from cascade_bayes.decision.rows import PRIOR_QUERIES
from cascade_bayes.decision.sweep import PRICE_BATCH, price_range, sweep
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.inference.posterior import Posterior

if TYPE_CHECKING:
    from cascade_bayes.decision.envelope import Envelope

SCHEMA = "cascade_bayes.frontier"
SCHEMA_VERSION = 1

DEFAULT_DRAWS = 200
"""Posterior draws a decision averages over: the Monte Carlo error of a mean is 7 % of the posterior
standard deviation, small against the uncertainty that the bands report."""

DEFAULT_PRICES = 41

REFINED_PRICES = 8
"""Prices between two that enclose the answer to a budget or target."""


@dataclass(frozen=True, eq=False)
class Frontier:
    """Optimal policies over a sweep of error prices.

    Attributes
    ----------
    models
        Names in cascade order.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    thresholds
        Bayes thresholds on the raw scale, ``(num_prices, num_models - 1)``; defer iff confidence < threshold.
    draw_thresholds
        The optimum of each posterior draw, ``(num_prices, num_draws, num_models - 1)``.
    error, cost
        Predicted error probability and US dollars per query of the Bayes thresholds on each draw,
        ``(num_prices, num_draws)``.
    reach_prob
        Probability that each model is called, ``(num_prices, num_draws, num_models)``.
    context
        What a policy needs besides: kind of confidence, call costs, digest of the fit.
    posterior
        The fit, for finding points between those of the sweep; None when read from a file.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.decision.rows`).
    """

    models: tuple[str, ...]
    error_prices: np.ndarray
    thresholds: np.ndarray
    draw_thresholds: np.ndarray
    error: np.ndarray
    cost: np.ndarray
    reach_prob: np.ndarray
    context: dict[str, Any]
    posterior: Posterior | None = None
    prior_queries: float = PRIOR_QUERIES

    def __len__(self) -> int:
        return len(self.error_prices)

    def policy(self, index: int, question: dict[str, Any] | None = None) -> Policy:
        """Return the policy of point ``index``."""
        price = float(self.error_prices[index])
        return Policy(
            models=self.models,
            thresholds=self.thresholds[index],
            draw_thresholds=self.draw_thresholds[index],
            error_price=price,
            question=question or {"error_price": price},
            prediction=Prediction.of_draws(self.error[index], self.cost[index], self.reach_prob[index]),
            **self.context,
        )

    def at(
        self,
        *,
        error_price: float | None = None,
        budget: float | None = None,
        target_error: float | None = None,
        confidence: float = 0.9,
    ) -> Policy:
        """Return the policy that answers one of three questions.

        Parameters
        ----------
        error_price
            US dollars a wrong answer costs: minimise ``cost + error_price * error``.
        budget
            US dollars per query: the least error with ``P(expected cost <= budget) >= confidence``.
        target_error
            Error probability: the least cost with ``P(error <= target_error) >= confidence``.
        confidence
            Posterior probability with which a budget or a target must hold.

        Returns
        -------
        Policy
            For a price, optimised at that very price. For a budget or target, the best point of the
            frontier, which is swept more finely between the two prices that enclose the answer.

        Raises
        ------
        InputError
            If not exactly one question is asked, or its number is out of range.
        InfeasibleError
            If no policy of the frontier meets the request; names the best reachable value.
        """
        name, value = check_question(error_price, budget, target_error, confidence)
        if name == "error_price":
            close = np.isclose(self.error_prices, value, rtol=1e-12)
            if close.any():
                return self.policy(int(np.argmax(close)))
            return self._refined(np.asarray([value])).policy(0)
        question = {name: value, "confidence": confidence}
        figure, other = ("cost", "error") if name == "budget" else ("error", "cost")
        return self._constrained(figure, other, value, confidence, question)

    def _refined(self, error_prices: np.ndarray) -> Frontier:
        if self.posterior is None:
            raise InputError(
                "this frontier was read from a file and holds only its own prices "
                f"({self.error_prices[0]:.3g} to {self.error_prices[-1]:.3g}); compute it from the "
                "posterior to ask for another."
            )
        return error_cost_frontier(
            self.posterior,
            models=self.models,
            error_prices=error_prices,
            num_draws=self.error.shape[1],
            prior_queries=self.prior_queries,
        )

    def _constrained(
        self, figure: str, other: str, limit: float, confidence: float, question: dict[str, Any]
    ) -> Policy:
        def choose(frontier: Frontier) -> tuple[int | None, np.ndarray]:
            values = getattr(frontier, figure)
            holds = np.mean(values <= limit, axis=1) >= confidence
            mean = getattr(frontier, other).mean(axis=1)
            return (int(np.argmin(np.where(holds, mean, np.inf))) if holds.any() else None), holds

        best, holds = choose(self)
        if best is None:
            reachable = np.quantile(getattr(self, figure), confidence, axis=1).min()
            unit = "US dollars per query" if figure == "cost" else "error probability"
            raise InfeasibleError(
                f"no policy of this cascade has P({figure} <= {limit:g}) >= {confidence:g}; the lowest "
                f"{figure} it reaches with that probability is {reachable:.4g} ({unit})."
            )
        # The binding price lies between a point that holds and a neighbour that does not.
        if self.posterior is not None and not holds.all():
            beside = [i for i in (best - 1, best + 1) if 0 <= i < len(self) and not holds[i]]
            if beside:
                ends = np.sort(self.error_prices[[best, beside[0]]])
                finer = self._refined(np.geomspace(ends[0], ends[1], REFINED_PRICES + 2)[1:-1])
                found, _ = choose(finer)
                if found is not None:
                    return finer.policy(found, question)
        return self.policy(best, question)

    def to_frame(self) -> Any:
        """Return one row per price as a pandas frame.

        Columns: ``error_price``, ``models``, ``thresholds``, ``expected_error``, ``expected_cost`` (means
        over draws) and the 5 % and 95 % posterior quantiles ``expected_error_q05``, ``_q95``,
        ``expected_cost_q05``, ``_q95``.
        """
        import pandas as pd

        return pd.DataFrame(self.records())

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame` as dictionaries."""
        rows = []
        for i, price in enumerate(self.error_prices):
            row: dict[str, Any] = {
                "error_price": float(price),
                "models": list(self.models),
                "thresholds": [float(t) for t in self.thresholds[i]],
            }
            for name, values in (("expected_error", self.error[i]), ("expected_cost", self.cost[i])):
                row[name] = float(values.mean())
                row[f"{name}_q05"], row[f"{name}_q95"] = (float(q) for q in np.quantile(values, [0.05, 0.95]))
            rows.append(row)
        return rows

    def evaluate(self, data: CascadeData) -> list[dict[str, Any]]:
        """Return realised error and cost of every point on a table, one record a price."""
        return [
            {"error_price": float(self.error_prices[i]), **self.policy(i).evaluate(data).to_dict()}
            for i in range(len(self))
        ]

    def points(self) -> list[dict[str, Any]]:
        """Return the points as the file holds them: `records` and more, infinities as strings."""
        points = []
        for i, row in enumerate(self.records()):
            points.append(
                {
                    **row,
                    "thresholds": [encode(t) for t in row["thresholds"]],
                    "threshold_intervals": [
                        [encode(a), encode(b)] for a, b in self.policy(i).threshold_interval(0.9)
                    ],
                    "reach_prob": [float(x) for x in self.reach_prob[i].mean(axis=0)],
                }
            )
        return points

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the frontier to a JSON file, whole or not at all."""
        record = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "cost_unit": "US dollars per query",
            **Policy.context_to_json(self.context),
            "points": self.points(),
        }
        write_json(Path(path), record)


def check_question(
    error_price: float | None, budget: float | None, target_error: float | None, confidence: float
) -> tuple[str, float]:
    """Return which question is asked, and its number.

    Raises
    ------
    InputError
        If not exactly one is, or a number is out of range.
    """
    every = {"error_price": error_price, "budget": budget, "target_error": target_error}
    asked = {name: value for name, value in every.items() if value is not None}
    if len(asked) != 1:
        raise InputError(
            f"ask for exactly one of error_price, budget, target_error; got {', '.join(asked) or 'none'}."
        )
    ((name, value),) = asked.items()
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number; got {value!r}.")
    if name == "target_error" and value >= 1:
        raise InputError(f"target_error must be a probability below 1; got {value!r}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1; got {confidence!r}.")
    return name, value


def load_policies(path: str | os.PathLike[str]) -> list[Policy]:
    """Read the points of a frontier file as policies, without their per-draw detail.

    Raises
    ------
    InputError
        If the file is missing, cut short, of another version or not a frontier.
    """
    record = read_record(Path(path), SCHEMA, SCHEMA_VERSION)
    try:
        return [
            Policy(
                models=tuple(point["models"]),
                thresholds=Policy.thresholds_from_json(point),
                draw_thresholds=np.zeros((0, len(point["thresholds"]))),
                error_price=point["error_price"],
                question={"error_price": point["error_price"]},
                prediction=Prediction(
                    error=point["expected_error"],
                    error_q05=point["expected_error_q05"],
                    error_q95=point["expected_error_q95"],
                    cost=point["expected_cost"],
                    cost_q05=point["expected_cost_q05"],
                    cost_q95=point["expected_cost_q95"],
                    reach_prob=tuple(point["reach_prob"]),
                ),
                # Points of an envelope have models, and so costs, of their own.
                **Policy.context_from_json(record | {k: point[k] for k in ("call_cost",) if k in point}),
            )
            for point in record["points"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} lacks a part that a frontier file must have ({error}).") from error


@overload
def error_cost_frontier(  # type: ignore[overload-overlap]  # a str is a sequence of str too
    posterior: Posterior,
    *,
    models: Literal["any"],
    error_prices: Sequence[float] | np.ndarray | int = ...,
    num_draws: int = ...,
    num_cells: int | None = ...,
    prior_queries: float = ...,
) -> Envelope: ...


@overload
def error_cost_frontier(
    posterior: Posterior,
    *,
    models: Sequence[str] | None = ...,
    error_prices: Sequence[float] | np.ndarray | int = ...,
    num_draws: int = ...,
    num_cells: int | None = ...,
    prior_queries: float = ...,
) -> Frontier: ...


def error_cost_frontier(
    posterior: Posterior,
    *,
    models: Sequence[str] | str | None = None,
    error_prices: Sequence[float] | np.ndarray | int = DEFAULT_PRICES,
    num_draws: int = DEFAULT_DRAWS,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
) -> Frontier | Envelope:
    """Optimise the thresholds over a sweep of error prices.

    Parameters
    ----------
    posterior
        The fit.
    models
        Models of the cascade, a subset in cascade order; all if None (see `discretise`). With ``"any"`` every
        such subset is tried, and each model alone, and the best is taken at each price.
    error_prices
        Positive prices, US dollars per wrong answer, or how many to space between the price at which
        the cheapest policy is best and that at which the dearest is (see `price_range`).
    num_draws
        Posterior draws to average over, evenly spaced.
    num_cells
        Cells of the grid per model; if None, `cells_for` as many atoms as there are.
    prior_queries
        How many queries the model counts for beside the observed ones, inf for the model alone
        (`cascade_bayes.decision.rows`).

    Returns
    -------
    Frontier or Envelope
        One point a price, ascending; an `Envelope` if any models will do.

    Raises
    ------
    InputError
        For models that are not in the posterior, prices that are not positive, or a negative
        ``prior_queries``.
    """
    if models == "any":
        from cascade_bayes.decision.envelope import find_envelope

        return find_envelope(
            posterior,
            error_prices=error_prices,
            num_draws=num_draws,
            num_cells=num_cells,
            prior_queries=prior_queries,
        )
    if isinstance(models, str):
        raise InputError(f'models must be a list of names, "any" or None for all; got {models!r}.')
    chain = discretise(posterior, models, num_draws, num_cells, prior_queries)
    if len(chain.members) < 2:
        raise InputError(
            f"a cascade needs at least two models; got {', '.join(models or posterior.models)}. A model "
            "alone has no thresholds."
        )
    tables = chain.tables()
    prices = find_prices(tables, posterior.data.call_cost[list(chain.members)], error_prices)
    return sweep_prices(posterior, chain, tables, prices, prior_queries)


def find_prices(
    tables: ChainTables, call_cost: np.ndarray, error_prices: Sequence[float] | np.ndarray | int
) -> np.ndarray:
    """Return the prices that are asked for, ascending, or as many as are (see `error_cost_frontier`).

    Raises
    ------
    InputError
        If a price, or their number, is not positive.
    """
    if isinstance(error_prices, (int, np.integer)):
        if error_prices < 1:
            raise InputError(f"the number of error prices must be at least 1; got {error_prices}.")
        prices = price_range(tables, call_cost, int(error_prices))
    else:
        prices = np.sort(np.asarray(error_prices, dtype=float))
    if prices.ndim != 1 or not prices.size or not np.all(np.isfinite(prices) & (prices > 0)):
        raise InputError(
            f"error prices must be positive numbers, US dollars per error; got {error_prices!r}."
        )
    return prices


def sweep_prices(
    posterior: Posterior,
    chain: Discretised,
    tables: ChainTables,
    error_prices: np.ndarray,
    prior_queries: float,
    *,
    polish: bool = True,
) -> Frontier:
    """Optimise the thresholds of one cascade at every price.

    Parameters
    ----------
    posterior
        The fit.
    chain, tables
        The cascade on its grid, and its tables.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    prior_queries
        What ``chain`` was made with.
    polish
        Let Adam follow the exact line searches; see `cascade_bayes.decision.optimise`.
    """
    index = list(chain.members)
    # Whole batches: a remainder would be a second program to compile.
    extra = -error_prices.size % PRICE_BATCH if error_prices.size > PRICE_BATCH else 0
    swept = sweep(
        tables,
        chain.call_cost,
        chain.is_atom,
        jnp.asarray(np.pad(error_prices, (0, extra), mode="edge"), dtype=chain.call_cost.dtype),
        jnp.asarray(lattice_positions(len(index) - 1, chain.grid.num_cells)),
        num_steps=NUM_STEPS if polish else 0,
    )
    swept = jax.tree.map(lambda field: np.asarray(field)[: error_prices.size], swept)
    thresholds = chain.thresholds(swept.positions)
    confidence, paid = posterior.data.confidence[:, index], posterior.data.cost[:, index]
    cost = [
        Payments(confidence, paid, own, reach.shape[0]).expected(reach)
        for own, reach in zip(thresholds, swept.reach_prob, strict=True)
    ]
    return Frontier(
        models=tuple(posterior.models[i] for i in index),
        error_prices=error_prices,
        thresholds=thresholds,
        draw_thresholds=chain.thresholds(swept.draw_positions),
        error=swept.error,
        cost=np.stack(cost),
        reach_prob=swept.reach_prob,
        context={
            "kind": posterior.data.kind,
            "call_cost": posterior.data.call_cost[index],
            "fit_digest": posterior.digest(),
        },
        posterior=posterior,
        prior_queries=prior_queries,
    )
