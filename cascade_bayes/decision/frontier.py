"""The error-cost frontier of one cascade: optimal thresholds at each of many error prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cascade_bayes._numbers import MAX_PRICES, check_whole
from cascade_bayes._trees import take
from cascade_bayes.decision.chain import ChainTables
from cascade_bayes.decision.constrained import Answer, search
from cascade_bayes.decision.discretise import Discretised, discretise
from cascade_bayes.decision.expected import Prediction
from cascade_bayes.decision.figures import Predicted, predict_outcome
from cascade_bayes.decision.optimise import NUM_STEPS
from cascade_bayes.decision.points import PricedPolicies, infeasible
from cascade_bayes.decision.policy import Cuts, Policy
from cascade_bayes.decision.request import Request
from cascade_bayes.decision.rows import PRIOR_QUERIES
from cascade_bayes.decision.sweep import price_range, sweep_chain
from cascade_bayes.decision.table import table_of
from cascade_bayes.decision.terms import COSTS_ALONE, Terms
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior

DEFAULT_DRAWS = 200
"""Posterior draws a decision averages over: the Monte Carlo error of a mean is 7 % of the posterior
standard deviation, small against the uncertainty that the bands report."""

DEFAULT_PRICES = 41


@dataclass(frozen=True, eq=False, kw_only=True)
class Frontier(PricedPolicies):
    """Optimal policies over a sweep of error prices.

    Attributes
    ----------
    error_prices, context
        See `PricedPolicies`; call costs are those of the cascade's models.
    models
        Names in cascade order.
    cuts
        Bayes thresholds on the raw scale, ``(num_prices, ...)``.
    draw_cuts
        The optimum of each posterior draw, ``(num_prices, num_draws, ...)``.
    predicted
        What the Bayes thresholds do on each draw, ``(num_prices, num_draws, ...)``.
    posterior
        The fit, for prices between those of the sweep.
    chain
        The cascade on its grid, for budgets and targets.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.decision.rows`).
    num_cells
        Cells of the grid per model.
    """

    models: tuple[str, ...]
    cuts: Cuts
    draw_cuts: Cuts
    predicted: Predicted
    posterior: Posterior
    chain: Discretised
    prior_queries: float
    num_cells: int

    @property
    def thresholds(self) -> np.ndarray:
        """Bayes thresholds, raw, ``(num_prices, num_models - 1)``; defer iff confidence < threshold."""
        return self.cuts.thresholds

    @property
    def draw_thresholds(self) -> np.ndarray:
        """The optimum of each posterior draw, ``(num_prices, num_draws, num_models - 1)``."""
        return self.draw_cuts.thresholds

    @property
    def error(self) -> np.ndarray:
        """Predicted share of wrong answers on each draw, ``(num_prices, num_draws)``."""
        return self.predicted.error

    @property
    def cost(self) -> np.ndarray:
        """Predicted US dollars per query on each draw, ``(num_prices, num_draws)``."""
        return self.predicted.cost

    @property
    def expense(self) -> np.ndarray:
        """Cost, with that of latency and of abstaining if they have prices, ``(num_prices, num_draws)``."""
        return self.predicted.expense

    @property
    def reach_prob(self) -> np.ndarray:
        """Probability that each model is called, ``(num_prices, num_draws, num_models)``."""
        return self.predicted.reach_prob

    def policy(self, index: int, question: dict[str, Any] | None = None) -> Policy:
        """Return the policy of point ``index``."""
        price = float(self.error_prices[index])
        return Policy(
            models=self.models,
            thresholds=self.cuts.thresholds[index],
            draw_thresholds=self.draw_cuts.thresholds[index],
            error_price=price,
            question=question or {"error_price": price},
            prediction=Prediction.of_draws(take(self.predicted, index)),
            abstain_thresholds=None if self.cuts.abstain is None else self.cuts.abstain[index],
            draw_abstain_thresholds=None if self.draw_cuts.abstain is None else self.draw_cuts.abstain[index],
            **self.context,
        )

    def _refined(self, error_prices: np.ndarray) -> Frontier:
        return tune_cascade(
            self.posterior,
            self.models,
            error_prices,
            num_draws=self.error.shape[1],
            num_cells=self.num_cells,
            prior_queries=self.prior_queries,
            terms=self.terms,
        )

    def _policy_at(self, error_price: float) -> Policy:
        return self._refined(np.asarray([error_price])).policy(0)

    def _draws(self, figure: str) -> np.ndarray:
        return np.asarray(getattr(self.predicted, figure))

    def answer(self, request: Request, rival: Answer | None = None) -> Answer:
        """Return the best thresholds that keep a limit (see `cascade_bayes.decision.constrained.search`)."""
        return search(table_of(self.posterior), self.chain, request, self.cuts, rival)

    def answered(self, answer: Answer, question: dict[str, Any]) -> Policy:
        """Return the policy of an answer, with the price at which it comes nearest to being optimal."""
        least = self.expense.mean(axis=1) + self.error_prices * self.error.mean(axis=1)
        loss = answer.predicted.expense.mean() + self.error_prices * answer.predicted.error.mean()
        nearest = int(np.argmin((loss - least) / np.where(least > 0, least, 1.0)))
        return replace(
            self.policy(nearest, question),
            thresholds=answer.cuts.thresholds,
            abstain_thresholds=answer.cuts.abstain,
            prediction=Prediction.of_draws(answer.predicted),
        )

    def _constrained(self, request: Request, question: dict[str, Any]) -> Policy:
        answer = self.answer(request)
        if not answer.holds:
            raise infeasible("this cascade", request.figure, question, answer.needed, self.terms)
        return self.answered(answer, question)


def tune_cascade(
    posterior: Posterior,
    models: Sequence[str] | None,
    error_prices: Sequence[float] | np.ndarray | int = DEFAULT_PRICES,
    *,
    num_draws: int = DEFAULT_DRAWS,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
    terms: Terms = COSTS_ALONE,
) -> Frontier:
    """Optimise the thresholds of one cascade; see `cascade_bayes.error_cost_frontier`."""
    chain = discretise(posterior, models, num_draws, num_cells, prior_queries, terms=terms)
    if not chain.num_thresholds:
        raise InputError(
            f"a cascade needs at least two models; got {', '.join(models or posterior.models)}. A model "
            "alone has no thresholds."
        )
    tables = chain.tables()
    prices = find_prices(tables, chain, error_prices)
    return sweep_prices(posterior, chain, tables, prices, prior_queries, digest=posterior.digest())


def find_prices(
    tables: ChainTables, chain: Discretised, error_prices: Sequence[float] | np.ndarray | int
) -> np.ndarray:
    """Return the prices that are asked for, ascending, or as many as are (see `error_cost_frontier`).

    Raises
    ------
    InputError
        If a price, or their number, is not positive.
    """
    if isinstance(error_prices, (int, np.integer)):
        check_whole("the number of error prices", error_prices, high=MAX_PRICES)
        call_cost = np.asarray(chain.call_cost).mean(axis=0)[: len(chain.members)]
        prices = price_range(tables, call_cost, int(error_prices), chain.terms.abstain_price)
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
    digest: str,
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
    digest
        The fit's.
    polish
        Let Adam follow the exact line searches; see `cascade_bayes.decision.optimise`.
    """
    swept = sweep_chain(chain, tables, error_prices, NUM_STEPS if polish else 0)
    cuts = chain.cuts(swept.bayes)
    return Frontier(
        models=tuple(posterior.models[i] for i in chain.members),
        error_prices=error_prices,
        cuts=cuts,
        draw_cuts=chain.cuts(swept.own),
        predicted=predict_outcome(table_of(posterior), chain, cuts, swept.outcome),
        context={
            "kind": posterior.data.kind,
            "call_cost": posterior.data.call_cost[list(chain.members)],
            "fit_digest": digest,
            "terms": chain.terms,
            "fit_verdict": posterior.fit_verdict,
        },
        posterior=posterior,
        chain=chain,
        prior_queries=prior_queries,
        num_cells=chain.grid.num_cells,
    )
