"""The error-cost frontier of one cascade: optimal thresholds at each of many error prices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from cascade_bayes._numbers import MAX_PRICES, check_whole
from cascade_bayes._trees import take
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.predict import predict
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.constrained import Answer, answer_of, search
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.figures import Predicted, predict_outcome, stack
from cascade_bayes.engine.lengthen import lengthen_predicted
from cascade_bayes.engine.optimise import NUM_STEPS
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.engine.sweep import price_range, sweep_chain, sweep_outcomes
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import PricedPolicies, infeasible
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shorter import ends_queries, lengthen, shorten
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
    draw_cuts
        The optimum of each posterior draw, ``(num_draws, num_models - 1)``.
    predicted
        What it does on each draw, ``(num_draws, ...)``.
    """

    models: tuple[str, ...]
    cuts: Cuts
    draw_cuts: Cuts
    predicted: Predicted


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
    draw_cuts
        The optimum of each posterior draw, ``(num_prices, num_draws, ...)``.
    predicted
        What the policies do on each draw, ``(num_prices, num_draws, ...)``.
    shorter
        Points whose policy has fewer models than the cascade, by their index: a model that is paid for and
        never answers is left out (`cascade_bayes.policy.shorter`).
    posterior
        The fit, for prices between those of the sweep.
    chain
        The cascade on its grid, for budgets and targets.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`).
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
    shorter: dict[int, Point] = field(default_factory=dict)

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

    def point(self, index: int) -> Point:
        """Return what is known of the policy at price ``index``."""
        own = Point(self.models, self.cuts, self.draw_cuts, self.predicted)
        return self.shorter.get(index) or Point(self.models, *take(own[1:], index))

    def policy(self, index: int, question: dict[str, Any] | None = None) -> Policy:
        """Return the policy of point ``index``, of the models that can end a query alone."""
        models, cuts, draw_cuts, predicted = self.point(index)
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
        """Return the best thresholds that keep a limit (see `cascade_bayes.engine.constrained.search`)."""
        return search(table_of(self.posterior), self.chain, request, self.cuts, rival)

    def answered(
        self, answer: Answer, question: dict[str, Any], models: tuple[str, ...] | None = None
    ) -> Policy:
        """Return the policy of an answer, with the price at which it comes nearest to being optimal.

        Parameters
        ----------
        answer
            From `answer`.
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
        cuts, draw_cuts = shorten(answer.cuts, ends), shorten(take(self.draw_cuts, nearest), kept)
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
            raise infeasible("this cascade", request.figure, question, answer.needed, self.terms)
        return self.answered(answer, question, models)

    def _shorter_answer(self, names: tuple[str, ...], request: Request, rival: Answer) -> Answer:
        """Return what the cascade of some of the models answers."""
        num_draws = self.error.shape[1]
        if len(names) == 1 and self.terms.abstain_price is None:
            return answer_of(request, Cuts(np.zeros(0)), take(one_model(self, names).predicted, 0))
        chain = discretise(
            self.posterior, names, num_draws, self.num_cells, self.prior_queries, terms=self.terms
        )
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
    known: dict[tuple[str, ...], Frontier] | None = None,
) -> Frontier:
    """Optimise the thresholds of one cascade; see `cascade_bayes.error_cost_frontier`.

    Parameters
    ----------
    posterior, models, error_prices, num_draws, num_cells, prior_queries, terms
        As there; all models if None.
    known
        Cascades of some of these models that have been tuned at the same prices; those that are tuned for
        this one are added, so that none is tuned twice.
    """
    chain = discretise(posterior, models, num_draws, num_cells, prior_queries, terms=terms)
    if not chain.num_thresholds:
        raise InputError(
            f"a cascade needs at least two models; got {', '.join(models or posterior.models)}. A model "
            "alone has no thresholds."
        )
    tables = chain.tables()
    prices = find_prices(tables, chain, error_prices)
    swept = sweep_prices(posterior, chain, tables, prices, prior_queries, digest=posterior.digest())
    shared: dict[tuple[str, ...], Frontier] = {} if known is None else known

    def find(names: tuple[str, ...], needed: bool) -> Frontier | None:
        if needed and names not in shared and _is_start(names, swept.models, terms):
            return _first_models(swept, len(names))
        if needed and names not in shared:
            alone = len(names) == 1 and terms.abstain_price is None
            shared[names] = (
                one_model(swept, names)
                if alone
                else tune_cascade(
                    posterior,
                    names,
                    prices,
                    num_draws=num_draws,
                    num_cells=num_cells,
                    prior_queries=prior_queries,
                    terms=terms,
                    known=shared,
                )
            )
        return shared.get(names)

    return with_shorter(swept, find)


def _is_start(names: tuple[str, ...], models: tuple[str, ...], terms: Terms) -> bool:
    """Whether a shorter cascade is the first two or more models of a longer one, and always answers."""
    return 1 < len(names) < len(models) and names == models[: len(names)] and terms.abstain_price is None


def _first_models(swept: Frontier, count: int) -> Frontier:
    """Return the frontier of the first models of a cascade, for the prices at which the others get no query.

    Models that are never called tell nothing of those before them: there, the thresholds that are best for
    the longer cascade are best for the shorter one too, and do the same.
    """
    cuts, draw_cuts = (Cuts(cuts.thresholds[..., : count - 1]) for cuts in (swept.cuts, swept.draw_cuts))
    return replace(
        swept,
        models=swept.models[:count],
        cuts=cuts,
        draw_cuts=draw_cuts,
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
    if predicted is None:
        how: Any = {"num_draws": num_draws, "prior_queries": swept.prior_queries, "terms": swept.terms}
        predicted = predict(swept.posterior, np.zeros(0), models=models, **how)
    cost = swept.context["call_cost"][[swept.models.index(models[0])]]
    return replace(
        swept,
        models=models,
        cuts=Cuts(np.zeros((num_prices, 0))),
        draw_cuts=Cuts(np.zeros((num_prices, num_draws, 0))),
        predicted=jax.tree.map(lambda figures: np.repeat(figures[None], num_prices, axis=0), predicted),
        context=swept.context | {"call_cost": cost},
        shorter={},
    )


def with_shorter(frontier: Frontier, find: Callable[[tuple[str, ...], bool], Frontier | None]) -> Frontier:
    """Return a frontier whose policies have no model that cannot end a query.

    Where thresholds say that of one, the policy is that of the cascade without it, tuned by itself. What such
    thresholds promise is not what they do, so that at some prices those of another price may now be the best
    of the sweep: these are taken, and no policy is left that another beats in error and expense.

    Parameters
    ----------
    frontier
        The cascade as it was tuned.
    find
        Gives the frontier of some of its models at the same prices; None if it is not needed and not at hand.
    """

    def names(kept: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, stays in zip(frontier.models, kept, strict=True) if stays)

    def has(models: tuple[str, ...]) -> np.ndarray:
        return np.asarray([name in models for name in frontier.models])

    def of(models: tuple[str, ...]) -> Frontier:
        found = frontier if models == frontier.models else find(models, True)
        assert found is not None
        return found

    tuned = [of(names(kept)).point(i) for i, kept in enumerate(ends_queries(frontier.cuts))]
    expense, error = (
        np.asarray([getattr(x.predicted, name).mean() for x in tuned]) for name in ("expense", "error")
    )
    loss = expense + frontier.error_prices[:, None] * error
    own = np.arange(len(tuned))
    best = np.where(loss.min(axis=1) < loss[own, own] * (1 - LEVEL), loss.argmin(axis=1), own)
    points = [
        tuned[at] if at == i else tuned[at]._replace(draw_cuts=take(of(tuned[at].models).draw_cuts, i))
        for i, at in enumerate(best)
    ]
    draw_cuts = _shorter_draws(frontier.draw_cuts, lambda kept: find(names(kept), False))
    whole = [point.models == frontier.models for point in points]
    return replace(
        frontier,
        cuts=Cuts.stack([lengthen(point.cuts, has(point.models)) for point in points]),
        draw_cuts=Cuts.stack(
            [
                take(draw_cuts, i) if whole[i] else lengthen(point.draw_cuts, has(point.models))
                for i, point in enumerate(points)
            ]
        ),
        predicted=stack([lengthen_predicted(point.predicted, has(point.models)) for point in points]),
        shorter={i: point for i, point in enumerate(points) if not whole[i]},
    )


def _shorter_draws(cuts: Cuts, find: Callable[[np.ndarray], Frontier | None]) -> Cuts:
    """Give draws whose best cascade is a shorter one its best thresholds, where they are at hand."""
    kept = ends_queries(cuts)
    found = jax.tree.map(np.copy, cuts)
    for pattern in np.unique(kept.reshape(-1, kept.shape[-1]), axis=0):
        if pattern.all():
            continue
        at = (kept == pattern).all(axis=-1)
        shorter = find(pattern)
        own = shorten(cuts, pattern) if shorter is None else shorter.draw_cuts
        longer = lengthen(own, pattern)
        for field_found, field_longer in zip(jax.tree.leaves(found), jax.tree.leaves(longer), strict=True):
            field_found[at] = field_longer[at]
    return found


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
        Let Adam follow the exact line searches; see `cascade_bayes.engine.optimise`.
    """
    swept = sweep_chain(chain, tables, error_prices, NUM_STEPS if polish else 0)
    cuts = chain.cuts(swept.bayes)
    # What is predicted is what the thresholds do that are kept, moved to readable numbers.
    outcome = sweep_outcomes(chain, tables, chain.positions(cuts))
    return Frontier(
        models=tuple(posterior.models[i] for i in chain.members),
        error_prices=error_prices,
        cuts=cuts,
        draw_cuts=chain.cuts(swept.own),
        predicted=predict_outcome(table_of(posterior), chain, cuts, outcome),
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
