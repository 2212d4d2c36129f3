r"""Which models: every cascade of a fit's models, and which is best at each price of an error.

Of k models there are :math:`2^k - 1` ordered subsets, each a cascade with Bayes thresholds of its own or, of
a single model, one without. At each price the one of least posterior expected loss,

.. math:: \bar L_c = \frac1D \sum_d L_{cd}, \qquad L_{cd} = \mathrm{expense}_{cd} + \text{error\_price} \cdot
    \mathrm{error}_{cd},

is the envelope. The smallest of many noisy estimates looks better than it is (the winner's curse; Smith &
Winkler, Management Science 52, 2006). Who tunes on one plausible truth, as an estimate without a posterior
is, takes the winner :math:`c_d` of a draw and expects :math:`L_{c_d d}`; over all that are plausible it loses
:math:`\bar L_{c_d}`. The mean over draws of :math:`\bar L_{c_d} - L_{c_d d} \ge 0` is how far such a choice
disappoints. The choice of the least average is free of it under the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from cascade_bayes._shown import shown
from cascade_bayes.decision.discretise import OnGrid
from cascade_bayes.decision.frontier import (
    DEFAULT_DRAWS,
    DEFAULT_PRICES,
    LEVEL,
    Frontier,
    alone,
    find_prices,
    one_model,
    sweep_prices,
    with_shorter,
)
from cascade_bayes.engine.constrained import answer_of
from cascade_bayes.engine.figures import Predicted
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.engine.sweep import compile_own_optima
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import PricedPolicies, infeasible
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shown import priced_card
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

MAX_MODELS = 8
"""Models of which every cascade is tried, at most: 255 cascades."""

SEARCHED = 1e-3
"""Relative difference by which a search may have missed the least loss."""


@shown(priced_card)
@dataclass(frozen=True, eq=False, kw_only=True)
class Envelope(PricedPolicies):
    """Every cascade of a fit's models at its Bayes thresholds, and the best at each price.

    Attributes
    ----------
    error_prices, context
        See `PricedPolicies`; call costs are those of all models.
    models
        All models of the fit.
    candidates
        Names of each candidate's models: single models first, then pairs, and so on.
    error, expense
        Share of wrong answers, and US dollars per query of calls and what else has a price, on each draw,
        ``(num_candidates, num_prices, num_draws)``.
    frontiers
        Those of the candidates that have thresholds, by their models.
    alone
        What single models do that have none.
    on_grid
        The fit on its grid, for prices between those of the sweep.
    """

    models: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    error: np.ndarray
    expense: np.ndarray
    frontiers: dict[tuple[str, ...], Frontier]
    alone: dict[tuple[str, ...], Predicted]
    on_grid: OnGrid

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
    def loss(self) -> np.ndarray:
        """US dollars per query on each draw, ``(num_candidates, num_prices, num_draws)``."""
        return np.asarray(self.expense + self.error_prices[:, None] * self.error)

    def best(self, num_models: int | None = None) -> np.ndarray:
        """Return which candidate has the least expected loss at each price, ``(num_prices,)``.

        Parameters
        ----------
        num_models
            Among those of so many models; among all if None. Of candidates that are level to `LEVEL` the one
            of fewer models is taken.

        Raises
        ------
        InputError
            If no candidate has so many models.
        """
        among = np.asarray([num_models in (None, len(names)) for names in self.candidates])
        if not among.any():
            sizes = ", ".join(str(size) for size in sorted({len(names) for names in self.candidates}))
            raise InputError(f"num_models must be one of {sizes}; got {num_models!r}.")
        return _first_of_least(np.where(among[:, None], self.loss.mean(axis=2), np.inf))

    def among(self, num_models: int) -> Envelope:
        """Return the envelope of the cascades of so many models alone, 1 for single models.

        Raises
        ------
        InputError
            If no candidate has so many models.
        """
        self.best(num_models)
        at = [c for c, names in enumerate(self.candidates) if len(names) == num_models]
        candidates = tuple(self.candidates[c] for c in at)
        return replace(
            self,
            candidates=candidates,
            error=self.error[at],
            expense=self.expense[at],
            frontiers={names: one for names, one in self.frontiers.items() if names in candidates},
        )

    def beside(self, **question: float | None) -> dict[str, Policy | None]:
        """Return the best ``"pair"`` and the best ``"single"`` model that answer a question.

        None where no such policy meets the request.

        Parameters
        ----------
        **question
            The question and its number, as `at` takes them.
        """
        found: dict[str, Policy | None] = {}
        for name, num_models in (("pair", 2), ("single", 1)):
            try:
                found[name] = self.among(num_models).at(**question)  # type: ignore[arg-type]
            except InfeasibleError:
                found[name] = None
        return found

    def prob_best(self) -> np.ndarray:
        """Return the posterior probability that each candidate has the least loss of all at each price.

        ``(num_candidates, num_prices)``, at Bayes thresholds; of candidates that are level the first counts.
        """
        winner = _first_of_least(self.loss)
        return np.stack([np.mean(winner == c, axis=1) for c in range(len(self.candidates))])

    def gain(self, num_models: int) -> np.ndarray:
        """Return draws of how much less the best choice loses than the best of so many models.

        US dollars per query, ``(num_prices, num_draws)``; its mean over draws is at least 0, up to `LEVEL`.

        Parameters
        ----------
        num_models
            1 for the best single model, 2 for the best cascade of two.
        """
        at = np.arange(len(self))
        return np.asarray(self.loss[self.best(num_models), at] - self.loss[self.best(), at])

    def optimism(self) -> np.ndarray:
        """Return by how much the winner of one draw is worse than it looks there, on average over draws.

        US dollars per query, ``(num_prices,)``, at least 0: the winner's curse (see the module's docstring).
        """
        loss = self.loss
        winner = _first_of_least(loss)
        prices, draws = np.indices(winner.shape)
        found = np.mean(loss.mean(axis=2)[winner, prices] - loss[winner, prices, draws], axis=1)
        return np.maximum(found, 0.0)  # below by rounding alone

    def policy(self, index: int) -> Policy:
        """Return the policy of the best candidate at price ``index``."""
        return self._policy(int(self.best()[index]), index, None)

    def summary(self, index: int) -> Policy:
        """Return the policy of the best candidate without what is optimal on single draws."""
        names = self.candidates[int(self.best()[index])]
        return self.frontiers[names].summary(index) if names in self.frontiers else self.policy(index)

    def _policy(self, candidate: int, index: int, question: dict[str, Any] | None) -> Policy:
        names = self.candidates[candidate]
        if names in self.frontiers:
            return self.frontiers[names].policy(index, question)
        return self._alone_policy(names, float(self.error_prices[index]), question)

    def _alone_policy(
        self, names: tuple[str, ...], error_price: float, question: dict[str, Any] | None = None
    ) -> Policy:
        predicted = self.alone[names]
        return Policy(
            models=names,
            thresholds=np.zeros(0),
            draw_thresholds=np.zeros((len(predicted.error), 0)),
            error_price=error_price,
            question=question or {"error_price": error_price},
            prediction=Prediction.of_draws(predicted),
            **self.context | {"call_cost": self.context["call_cost"][[self.models.index(names[0])]]},
        )

    def _policy_at(self, error_price: float) -> Policy:
        after = int(np.searchsorted(self.error_prices, error_price))
        if not 0 < after < len(self):
            return self._tuned(error_price)
        rivals = [self.candidates[c] for c in self._rivals(after, error_price)]
        if not self._parts_are_known(rivals):
            return self._tuned(error_price)
        tuned: dict[tuple[str, ...], Frontier] = {}

        def tune(names: tuple[str, ...]) -> Frontier:
            if names not in tuned:
                near = self.frontiers[names].near(error_price)
                assert near is not None
                tuned[names] = with_shorter(near, lambda part: single(near, part) or tune(part))
            return tuned[names]

        def single(longer: Frontier, names: tuple[str, ...]) -> Frontier | None:
            return one_model(longer, names, self.alone[names]) if names in self.alone else None

        def loss(names: tuple[str, ...]) -> float:
            found = self.alone[names] if names in self.alone else tune(names)
            return float(found.expense.mean() + error_price * found.error.mean())

        best = rivals[int(_first_of_least(np.asarray([loss(names) for names in rivals])))]
        return self._alone_policy(best, error_price) if best in self.alone else tune(best).policy(0)

    def _rivals(self, after: int, error_price: float) -> np.ndarray:
        r"""Return the candidates that may be the best at a price between two of the sweep's.

        The least loss of a candidate, :math:`\min_t \{\mathrm{expense}(t) + \lambda \, \mathrm{error}(t)\}`,
        is concave in the price :math:`\lambda`: it lies above the chord of the prices beside, and below the
        loss of what is best there. Who has a chord above what another one keeps below is not the best.
        """
        expense, error = (
            field[:, after - 1 : after + 1].mean(axis=2) for field in (self.expense, self.error)
        )
        beside = self.error_prices[after - 1 : after + 1]
        share = (error_price - beside[0]) / (beside[1] - beside[0])
        chord = (expense + beside * error) @ np.asarray([1 - share, share])
        kept = (expense + error_price * error).min(axis=1)
        return np.flatnonzero((chord <= kept.min() * (1 + SEARCHED)) | (kept == kept.min()))

    def _parts_are_known(self, rivals: list[tuple[str, ...]]) -> bool:
        """Whether all shorter cascades of some have been tuned too, at the prices of the sweep."""
        parts = {part for names in rivals for k in range(1, len(names)) for part in combinations(names, k)}
        return parts <= {*self.frontiers, *self.alone}

    def _tuned(self, error_price: float) -> Policy:
        """Tune all candidates at a price, whatever is known of others."""
        return _envelope_on_grid(self.on_grid, [error_price], self.candidates).policy(0)

    def _draws(self, figure: str) -> np.ndarray:
        return np.asarray(getattr(self, figure)[self.best(), np.arange(len(self))])

    def _constrained(self, request: Request, question: dict[str, Any]) -> Policy:
        answers = {
            names: answer_of(request, Cuts(np.zeros(0)), predicted)
            for names, predicted in self.alone.items()
            if names in self.candidates
        }
        best = min(answers.values(), key=lambda answer: answer.rank, default=None)
        bounds = {
            names: request.least_value(self.error_prices, one.error, one.expense)
            for names, one in self.frontiers.items()
        }
        # The most promising first: of the others many need no search.
        for names in sorted(bounds, key=lambda names: bounds[names]):
            if best is not None and best.holds and bounds[names] > best.value:
                break
            answers[names] = self.frontiers[names].answer(request, best)
            best = min((one for one in (best, answers[names]) if one is not None), key=lambda one: one.rank)
        assert best is not None
        if not best.holds:
            raise infeasible(
                "any cascade of these models",
                request.figure,
                question,
                best.needed,
                self.terms,
                self.units.cost,
            )
        holding = [names for names in self.candidates if names in answers and answers[names].holds]
        first = _first_of_least(np.asarray([answers[names].value for names in holding]))
        names = holding[int(first)]
        if names in self.frontiers:
            return self.frontiers[names].answered(answers[names], question)
        # A model alone is the same at every price: take one at which it comes nearest to being best.
        candidate, mean = self.candidates.index(names), self.loss.mean(axis=2)
        return self._policy(candidate, int(np.argmin(mean[candidate] / mean.min(axis=0))), question)

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame` as dictionaries."""
        at = np.arange(len(self))
        more = {"prob_best": self.prob_best()[self.best(), at], "optimism": self.optimism()}
        sizes = {len(names) for names in self.candidates}
        rivals = {name: size for name, size in {"pair": 2, "single": 1}.items() if size in sizes}
        gains = {  # of candidates that are level a gain may be below 0 by rounding
            f"gain_over_{name}": np.maximum(self.gain(count).mean(axis=1), 0.0)
            for name, count in rivals.items()
        }
        best = {f"best_{name}": self.best(count) for name, count in rivals.items()}
        return [
            row
            | {name: float(values[i]) for name, values in (more | gains).items()}
            | {name: list(self.candidates[chosen[i]]) for name, chosen in best.items()}
            for i, row in enumerate(super().records())
        ]

    def to_frame(self) -> Any:
        """Return one row per price as a pandas frame.

        Columns are those of `Frontier.to_frame` for the best candidate; the probability ``prob_best`` that it
        is the best of all; ``gain_over_pair`` and ``gain_over_single``, its expected gain over ``best_pair``
        and ``best_single``, and ``optimism``, all in US dollars per query.
        """
        return super().to_frame()


def _first_of_least(loss: np.ndarray) -> np.ndarray:
    """Return the first candidate, along the first axis, that loses no more than the best, to `LEVEL`."""
    return np.asarray(np.argmax(loss <= loss.min(axis=0) * (1 + LEVEL), axis=0))


def find_envelope(
    posterior: Posterior,
    error_prices: Sequence[float] | np.ndarray | int = DEFAULT_PRICES,
    *,
    num_draws: int = DEFAULT_DRAWS,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
    candidates: Sequence[tuple[str, ...]] | None = None,
    terms: Terms = COSTS_ALONE,
) -> Envelope:
    """Optimise every cascade of a fit's models at every price.

    Parameters
    ----------
    posterior
        The fit, of two to `MAX_MODELS` models.
    error_prices, num_draws, num_cells, prior_queries, terms
        The same as for `cascade_bayes.error_cost_frontier`. Prices that are not given are those of the
        cascade of all models.
    candidates
        Those to try, each by the names of its models; all if None. They need prices that are given.

    Returns
    -------
    Envelope
        All candidates, on the same draws.

    Raises
    ------
    InputError
        For more models than `MAX_MODELS`, prices that are not positive, or a negative ``prior_queries``.
    """
    names = posterior.models
    if len(names) > MAX_MODELS:
        raise InputError(
            f"every cascade is tried of at most {MAX_MODELS} models; this fit has {len(names)}. Name the "
            'models of the cascade, or take all of them as one: models="all" (--models all).'
        )
    on_grid = OnGrid(posterior, None, num_draws, num_cells, prior_queries, terms)
    if candidates is None:
        sizes = range(1, len(names) + 1)
        candidates = [subset for size in sizes for subset in combinations(names, size)]
    return _envelope_on_grid(on_grid, error_prices, candidates)


def _envelope_on_grid(
    on_grid: OnGrid,
    error_prices: Sequence[float] | np.ndarray | int,
    candidates: Sequence[tuple[str, ...]],
) -> Envelope:
    """Optimise some cascades of a fit at every price; see `find_envelope`."""
    posterior, terms = on_grid.posterior, on_grid.terms
    digest = posterior.digest()
    # Prices that are a number are found on the cascade of all models, the last candidate.
    prices = None if isinstance(error_prices, (int, np.integer)) else np.asarray(error_prices, dtype=float)
    swept: dict[tuple[str, ...], Frontier] = {}
    done: dict[tuple[str, ...], Frontier] = {}
    singles: dict[tuple[str, ...], Predicted] = {}

    def sweep(subset: tuple[str, ...]) -> None:
        nonlocal prices
        if len(subset) == 1 and terms.abstain_price is None:
            singles[subset] = alone(on_grid, subset)
            return
        chain = on_grid.cascade(subset)
        if not swept:
            prices = find_prices(chain, error_prices)
        assert prices is not None
        swept[subset] = sweep_prices(on_grid, chain, prices, digest=digest, polish=False)

    def find(subset: tuple[str, ...]) -> Frontier:
        if subset not in swept and subset not in singles:
            sweep(subset)
        if subset in singles and subset not in done:
            longer = next(one for names, one in swept.items() if subset[0] in names)
            done[subset] = one_model(longer, subset, singles[subset])
        elif subset in swept and subset not in done:
            done[subset] = with_shorter(swept[subset], find)
        return done[subset]

    for subset in reversed(candidates):
        sweep(subset)
    assert prices is not None
    for one in swept.values():
        compile_own_optima(one.chain)
    frontiers = {subset: find(subset) for subset in candidates if subset in swept}

    def of_all(figure: str) -> np.ndarray:
        """Figures of single models are the same at every price."""
        shape = (len(prices), on_grid.num_draws)
        found = [singles[names] if names in singles else frontiers[names] for names in candidates]
        return np.stack([np.broadcast_to(getattr(one, figure), shape) for one in found])

    return Envelope(
        models=posterior.models,
        candidates=tuple(candidates),
        error_prices=prices,
        error=of_all("error"),
        expense=of_all("expense"),
        frontiers=frontiers,
        alone=singles,
        context={
            "kind": posterior.data.kind,
            "call_cost": posterior.data.call_cost,
            "fit_digest": digest,
            "terms": terms,
            "fit_verdict": posterior.fit_verdict,
            "units": posterior.data.units,
        },
        on_grid=on_grid,
    )
