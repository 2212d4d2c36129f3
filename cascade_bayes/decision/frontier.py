"""The error-cost frontier of one cascade: optimal thresholds at each of many error prices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from cascade_bayes._numbers import MAX_PRICES, check_whole
from cascade_bayes._shown import shown
from cascade_bayes._trees import take
from cascade_bayes.decision.discretise import OnGrid
from cascade_bayes.decision.draw_optima import DrawOptima
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.constrained import Answer, answer_of, search
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.figures import Predicted, predict_outcome, stack
from cascade_bayes.engine.lengthen import lengthen_predicted
from cascade_bayes.engine.optimise import NUM_STEPS
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.engine.sweep import (
    compile_own_optima,
    price_range,
    run_policies,
    search_near,
    sweep_chain,
)
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import PricedPolicies, infeasible
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shorter import ends_queries, lengthen, shorten
from cascade_bayes.policy.shown import priced_card
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

DEFAULT_DRAWS = 200
"""Posterior draws a decision averages over: the Monte Carlo error of a mean is 7 % of the posterior
standard deviation, small against the uncertainty that the bands report."""

DEFAULT_PRICES = 41

LEVEL = 1e-6
"""Relative difference of losses below which two policies are level: a pair that never defers is its first
model, but for rounding."""


class Point(NamedTuple):
    """The policy of one price, before it is asked for.

    Attributes
    ----------
    models
        Names of the models that can end a query, in cascade order.
    cuts
        Its thresholds, ``(num_models - 1,)``.
    predicted
        What it does on each draw, ``(num_draws, ...)``.
    draw_optima
        Gives the optimum of each posterior draw at the price of an index, ``(num_draws, num_models - 1)``.
    """

    models: tuple[str, ...]
    cuts: Cuts
    predicted: Predicted
    draw_optima: Callable[[int], Cuts]


@shown(priced_card)
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
        Bayes thresholds on the raw scale, ``(num_prices, ...)``. Where one of a model before the last is inf,
        or -inf, the policy is that of a shorter cascade, whose own thresholds the others are.
    draw_optima
        Gives the optimum of each posterior draw, as a cascade of all its models, at the price of an index.
    predicted
        What the policies do on each draw, ``(num_prices, num_draws, ...)``.
    shorter
        Points whose policy has fewer models than the cascade, by their index: a model that is paid for and
        never answers is left out (`cascade_bayes.policy.shorter`).
    on_grid
        The fit on its grid, for prices between those of the sweep.
    chain
        The cascade on that grid, for budgets and targets.
    num_steps
        Adam's, after the line searches.
    """

    models: tuple[str, ...]
    cuts: Cuts
    draw_optima: Callable[[int], Cuts]
    predicted: Predicted
    on_grid: OnGrid
    chain: Discretised
    num_steps: int
    shorter: dict[int, Point] = field(default_factory=dict)

    @property
    def posterior(self) -> Posterior:
        """The fit."""
        return self.on_grid.posterior

    @property
    def prior_queries(self) -> float:
        """How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`)."""
        return self.on_grid.prior_queries

    @property
    def num_cells(self) -> int:
        """Cells of the grid per model."""
        return self.on_grid.num_cells

    @property
    def thresholds(self) -> np.ndarray:
        """Bayes thresholds, raw, ``(num_prices, num_models - 1)``; defer iff confidence < threshold."""
        return self.cuts.thresholds

    @property
    def draw_thresholds(self) -> np.ndarray:
        """The optimum of each posterior draw, ``(num_prices, num_draws, num_models - 1)``."""
        return np.stack([self._draw_cuts(i).thresholds for i in range(len(self))])

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

    def point(self, index: int) -> Point:
        """Return what is known of the policy at price ``index``."""
        if index in self.shorter:
            return self.shorter[index]
        return Point(self.models, *take((self.cuts, self.predicted), index), self.draw_optima)

    def _draw_cuts(self, index: int) -> Cuts:
        """Return the optimum of each draw at a price, as thresholds of all models."""
        point = self.point(index)
        return lengthen(point.draw_optima(index), np.isin(self.models, point.models))

    def policy(self, index: int, question: dict[str, Any] | None = None) -> Policy:
        """Return the policy of point ``index``, of the models that can end a query alone."""
        return self._policy(index, question, self.point(index).draw_optima(index))

    def summary(self, index: int) -> Policy:
        """Return the policy of point ``index`` without what is optimal on single draws."""
        no_draws = take(Cuts.stack([self.point(index).cuts]), slice(0))
        return self._policy(index, None, no_draws)

    def _policy(self, index: int, question: dict[str, Any] | None, draw_cuts: Cuts) -> Policy:
        models, cuts, predicted, _ = self.point(index)
        price = float(self.error_prices[index])
        own = [self.models.index(name) for name in models]
        return Policy(
            models=models,
            thresholds=cuts.thresholds,
            draw_thresholds=draw_cuts.thresholds,
            error_price=price,
            question=question or {"error_price": price},
            prediction=Prediction.of_draws(predicted),
            abstain_thresholds=cuts.abstain,
            draw_abstain_thresholds=draw_cuts.abstain,
            **self.context | {"call_cost": self.context["call_cost"][own]},
        )

    def near(self, error_price: float) -> Frontier | None:
        """Return the cascade tuned at a price within the sweep, from what is best at the prices beside.

        Its thresholds may have a model pass every query on; None beyond the outermost prices.
        """
        after = int(np.searchsorted(self.error_prices, error_price))
        if not 0 < after < len(self):
            return None
        starts = self.chain.positions(take(self.cuts, slice(after - 1, after + 1)))
        cuts, outcome = search_near(self.chain, error_price, starts, self.num_steps)
        prices = np.asarray([error_price])
        return replace(
            self,
            error_prices=prices,
            cuts=cuts,
            draw_optima=DrawOptima(self.chain, prices, cuts),
            predicted=predict_outcome(table_of(self.posterior), self.chain, cuts, outcome),
            shorter={},
        )

    def _tuned(self, models: tuple[str, ...], error_price: float) -> Frontier:
        return tune_on_grid(self.on_grid, models, [error_price])

    def _policy_at(self, error_price: float) -> Policy:
        found = self.near(error_price)
        if found is None:
            return self._tuned(self.models, error_price).policy(0)
        here = found

        def find(names: tuple[str, ...]) -> Frontier:
            if len(names) == 1 and self.terms.abstain_price is None:
                return one_model(here, names)
            return self._tuned(names, error_price)

        return with_shorter(found, find).policy(0)

    def _draws(self, figure: str) -> np.ndarray:
        return np.asarray(getattr(self.predicted, figure))

    def answer(self, request: Request, rival: Answer | None = None) -> Answer:
        """Return the best thresholds that keep a limit (see `cascade_bayes.engine.constrained.search`)."""
        return search(table_of(self.posterior), self.chain, request, self.cuts, rival)

    def answered(
        self, answer: Answer, question: dict[str, Any], models: tuple[str, ...] | None = None
    ) -> Policy:
        """Return the policy of an answer, with the price at which it comes nearest to being optimal.

        Parameters
        ----------
        answer
            What `answer` returns.
        question
            What was asked.
        models
            Those of the cascade that the answer is of, if it is a shorter one.
        """
        least = self.expense.mean(axis=1) + self.error_prices * self.error.mean(axis=1)
        loss = answer.predicted.expense.mean() + self.error_prices * answer.predicted.error.mean()
        nearest = int(np.argmin((loss - least) / np.where(least > 0, least, 1.0)))
        ends = ends_queries(answer.cuts)
        asked = np.asarray(models or self.models)[ends]
        kept = np.isin(self.models, asked)
        cuts, draw_cuts = shorten(answer.cuts, ends), shorten(self._draw_cuts(nearest), kept)
        reach_prob = answer.predicted.reach_prob[..., ends]
        return Policy(
            models=tuple(asked.tolist()),
            thresholds=cuts.thresholds,
            draw_thresholds=draw_cuts.thresholds,
            error_price=float(self.error_prices[nearest]),
            question=question,
            prediction=Prediction.of_draws(answer.predicted._replace(reach_prob=reach_prob)),
            abstain_thresholds=cuts.abstain,
            draw_abstain_thresholds=draw_cuts.abstain,
            **self.context | {"call_cost": self.context["call_cost"][kept]},
        )

    def _constrained(self, request: Request, question: dict[str, Any]) -> Policy:
        answer, models = self.answer(request), self.models
        for names in _left_to_others(self.models):
            found = self._shorter_answer(names, request, answer)
            if found.rank < answer.rank:
                answer, models = found, names
        if not answer.holds:
            raise infeasible(
                "this cascade", request.figure, question, answer.needed, self.terms, self.units.cost
            )
        return self.answered(answer, question, models)

    def _shorter_answer(self, names: tuple[str, ...], request: Request, rival: Answer) -> Answer:
        """Return what the cascade of some of the models answers."""
        if len(names) == 1 and self.terms.abstain_price is None:
            return answer_of(request, Cuts(np.zeros(0)), take(one_model(self, names).predicted, 0))
        chain = self.on_grid.cascade(names)
        kept = np.asarray([name in names for name in self.models])
        return search(table_of(self.posterior), chain, request, shorten(self.cuts, kept), rival)


MOST_SHORTER = 4
"""Models of a cascade of which every shorter one is asked about a budget or target; of more, those that leave
out one model, and each model alone."""


def _left_to_others(models: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the shorter cascades that pass a model over: the search of the whole one leaves them out."""
    count = len(models)
    sizes = range(1, count) if count <= MOST_SHORTER else sorted({1, count - 1})
    return [
        names for size in sizes for names in itertools.combinations(models, size) if names != models[:size]
    ]


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
    """Optimise the thresholds of one cascade; see `cascade_bayes.error_cost_frontier`.

    Parameters
    ----------
    posterior, models, error_prices, num_draws, num_cells, prior_queries, terms
        The same parameters as there; all models of the fit if None.
    """
    on_grid = OnGrid(posterior, models, num_draws, num_cells, prior_queries, terms)
    return tune_on_grid(on_grid, models, error_prices)


def tune_on_grid(
    on_grid: OnGrid,
    models: Sequence[str] | None,
    error_prices: Sequence[float] | np.ndarray | int,
    known: dict[tuple[str, ...], Frontier] | None = None,
) -> Frontier:
    """Optimise the thresholds of one cascade of a fit on a grid.

    Parameters
    ----------
    on_grid
        The fit.
    models, error_prices
        The same parameters as for `tune_cascade`.
    known
        Cascades of some of these models that have been tuned at the same prices; those that are tuned for
        this one are added, so that none is tuned twice.
    """
    chain, terms = on_grid.cascade(models), on_grid.terms
    if not chain.num_thresholds:
        raise InputError(
            f"a cascade needs at least two models; got {', '.join(models or ())}. A model alone has no "
            "thresholds."
        )
    prices = find_prices(chain, error_prices)
    swept = sweep_prices(on_grid, chain, prices, digest=on_grid.posterior.digest())
    compile_own_optima(chain)
    shared: dict[tuple[str, ...], Frontier] = {} if known is None else known

    def find(names: tuple[str, ...]) -> Frontier:
        if names not in shared and _is_start(names, swept.models, terms):
            return _first_models(swept, len(names))
        if names not in shared:
            alone = len(names) == 1 and terms.abstain_price is None
            shared[names] = one_model(swept, names) if alone else tune_on_grid(on_grid, names, prices, shared)
        return shared[names]

    return with_shorter(swept, find)


def _is_start(names: tuple[str, ...], models: tuple[str, ...], terms: Terms) -> bool:
    """Whether a shorter cascade is the first two or more models of a longer one, and always answers."""
    return 1 < len(names) < len(models) and names == models[: len(names)] and terms.abstain_price is None


def _first_models(swept: Frontier, count: int) -> Frontier:
    """Return the frontier of the first models of a cascade, for the prices at which the others get no query.

    Models that are never called tell nothing of those before them: there, the thresholds that are best for
    the longer cascade are best for the shorter one too, and do the same.
    """

    def first(cuts: Cuts) -> Cuts:
        return Cuts(cuts.thresholds[..., : count - 1])

    return replace(
        swept,
        models=swept.models[:count],
        cuts=first(swept.cuts),
        draw_optima=lambda index: first(swept.draw_optima(index)),
        predicted=swept.predicted._replace(reach_prob=swept.predicted.reach_prob[..., :count]),
        context=swept.context | {"call_cost": swept.context["call_cost"][:count]},
        shorter={},
    )


def one_model(swept: Frontier, models: tuple[str, ...], predicted: Predicted | None = None) -> Frontier:
    """Return the frontier of one model of a cascade alone, which has no thresholds and never abstains.

    Parameters
    ----------
    swept
        The frontier of the cascade.
    models
        The model's name.
    predicted
        What it does on the draws; found here if None.
    """
    num_prices, num_draws = swept.error.shape
    predicted = alone(swept.on_grid, models) if predicted is None else predicted
    cost = swept.context["call_cost"][[swept.models.index(models[0])]]
    return replace(
        swept,
        models=models,
        cuts=Cuts(np.zeros((num_prices, 0))),
        draw_optima=lambda index: Cuts(np.zeros((num_draws, 0))),
        predicted=jax.tree.map(lambda figures: np.repeat(figures[None], num_prices, axis=0), predicted),
        context=swept.context | {"call_cost": cost},
        shorter={},
    )


def alone(on_grid: OnGrid, models: tuple[str, ...]) -> Predicted:
    """Return what one model does on every draw, which always answers."""
    chain = on_grid.cascade(models)
    no_cuts = Cuts(np.zeros((1, 0)))
    outcome = run_policies(chain, chain.positions(no_cuts))
    found = predict_outcome(table_of(on_grid.posterior), chain, no_cuts, outcome)
    return take(found, 0)


def with_shorter(frontier: Frontier, find: Callable[[tuple[str, ...]], Frontier]) -> Frontier:
    """Return a frontier whose policies have no model that cannot end a query.

    Where thresholds say that of one, the policy is that of the cascade without it, tuned by itself. What such
    thresholds promise is not what they do, so that at some prices those of another price may now be the best
    of the sweep: these are taken, and no policy is left that another beats in error and expense.

    Parameters
    ----------
    frontier
        The cascade as it was tuned.
    find
        Gives the frontier of some of its models at the same prices.
    """

    def tuned_alone(kept: np.ndarray) -> Frontier:
        return frontier if kept.all() else find(tuple(np.asarray(frontier.models)[kept].tolist()))

    tuned = [tuned_alone(kept).point(i) for i, kept in enumerate(ends_queries(frontier.cuts))]
    expense, error = (
        np.asarray([getattr(x.predicted, name).mean() for x in tuned]) for name in ("expense", "error")
    )
    loss = expense + frontier.error_prices[:, None] * error
    own = np.arange(len(tuned))
    best = np.where(loss.min(axis=1) < loss[own, own] * (1 - LEVEL), loss.argmin(axis=1), own)
    points = [tuned[at] for at in best]
    has = [np.isin(frontier.models, point.models) for point in points]
    return replace(
        frontier,
        cuts=Cuts.stack([lengthen(point.cuts, kept) for point, kept in zip(points, has, strict=True)]),
        predicted=stack(
            [lengthen_predicted(point.predicted, kept) for point, kept in zip(points, has, strict=True)]
        ),
        shorter={i: points[i] for i, kept in enumerate(has) if not kept.all()},
    )


def find_prices(chain: Discretised, error_prices: Sequence[float] | np.ndarray | int) -> np.ndarray:
    """Return the prices that are asked for, ascending, or as many as are (see `error_cost_frontier`).

    Raises
    ------
    InputError
        If a price, or their number, is not positive.
    """
    if isinstance(error_prices, (int, np.integer)):
        check_whole("the number of error prices", error_prices, high=MAX_PRICES)
        prices = price_range(chain, int(error_prices))
    else:
        prices = np.sort(np.asarray(error_prices, dtype=float))
    if prices.ndim != 1 or not prices.size or not np.all(np.isfinite(prices) & (prices > 0)):
        raise InputError(
            f"error prices must be positive numbers, US dollars per error; got {error_prices!r}."
        )
    return prices


def sweep_prices(
    on_grid: OnGrid, chain: Discretised, error_prices: np.ndarray, *, digest: str, polish: bool = True
) -> Frontier:
    """Optimise the thresholds of one cascade at every price.

    Parameters
    ----------
    on_grid, chain
        The fit on its grid, and the cascade of it.
    error_prices
        US dollars per wrong answer, ascending, ``(num_prices,)``.
    digest
        The fit's.
    polish
        Let Adam follow the exact line searches; see `cascade_bayes.engine.optimise`.
    """
    posterior, num_steps = on_grid.posterior, NUM_STEPS if polish else 0
    cuts, outcome = sweep_chain(chain, error_prices, num_steps)
    return Frontier(
        models=tuple(posterior.models[i] for i in chain.members),
        error_prices=error_prices,
        cuts=cuts,
        draw_optima=DrawOptima(chain, error_prices, cuts),
        predicted=predict_outcome(table_of(posterior), chain, cuts, outcome),
        context={
            "kind": posterior.data.kind,
            "call_cost": posterior.data.call_cost[list(chain.members)],
            "fit_digest": digest,
            "terms": chain.terms,
            "fit_verdict": posterior.fit_verdict,
            "units": posterior.data.units,
        },
        on_grid=on_grid,
        chain=chain,
        num_steps=num_steps,
    )
