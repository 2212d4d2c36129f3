"""What policies do, draw by draw: error, cost, abstention, latency, reach, and the expense of it all."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from cascade_bayes._shown import shown
from cascade_bayes.engine.costs import Payments, expense, latency, stop_prob
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import Outcome
from cascade_bayes.engine.table import Table
from cascade_bayes.errors import InputError
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.shown import predicted_card
from cascade_bayes.policy.terms import Terms


@shown(predicted_card)
class Predicted(NamedTuple):
    """Posterior draws of what given thresholds do; leading axes are those of the thresholds.

    Attributes
    ----------
    error
        Share of queries with a wrong answer, ``(..., num_draws)``.
    cost
        Mean US dollars per query, ``(..., num_draws)``.
    reach_prob
        Share of queries for which each model is called, ``(..., num_draws, num_models)``.
    abstain
        Share of queries without an answer, ``(..., num_draws)``.
    latency
        Mean seconds per query, ``(..., num_draws)``; None where the table does not know every model's.
    expense
        US dollars per query for calls, waiting and abstaining together, ``(..., num_draws)``.
    """

    error: np.ndarray
    cost: np.ndarray
    reach_prob: np.ndarray
    abstain: np.ndarray
    latency: np.ndarray | None
    expense: np.ndarray

    @property
    def stop_prob(self) -> np.ndarray:
        """Share of queries that end at each model, ``(..., num_draws, num_models)``."""
        return stop_prob(self.reach_prob)

    def loss(self, error_price: float | np.ndarray) -> np.ndarray:
        """Return ``expense + error_price * error``, US dollars per query, ``(..., num_draws)``."""
        return np.asarray(self.expense + error_price * self.error)

    def interval(
        self, figure: str = "error", probability: float = 0.9, *, error_price: float | None = None
    ) -> np.ndarray:
        """Return the central interval of a figure: a field, ``"stop_prob"`` or ``"loss"``.

        Parameters
        ----------
        figure
            Its name.
        probability
            Probability of the interval.
        error_price
            US dollars per wrong answer, for the loss.

        Returns
        -------
        numpy.ndarray
            ``(2, ...)``, the lower and the upper ends; of ``reach_prob`` and ``stop_prob`` the last axis is
            of models.

        Raises
        ------
        InputError
            For another figure, latency where it is not known, a loss without a price, or a probability that
            is none.
        """
        figures = (*self._fields, "stop_prob", "loss")
        if figure not in figures:
            raise InputError(f"figure must be one of {', '.join(figures)}; got {figure!r}.")
        if not 0 < probability < 1:
            raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
        if figure == "loss":
            if error_price is None:
                raise InputError("the interval of a loss needs error_price, US dollars per wrong answer.")
            values = self.loss(error_price)
        else:
            values = getattr(self, figure)
        if values is None:
            raise InputError("latency is not known: the fitted table lacks latency_ms of some model.")
        tail = (1 - probability) / 2
        axis = -2 if figure.endswith("_prob") else -1
        return np.quantile(values, [tail, 1 - tail], axis=axis)


class Bills:
    """What queries of the fitted table pay and wait under one policy.

    Parameters
    ----------
    table
        Its queries by which decisions are made.
    members
        Positions in it of the policy's models.
    cuts
        The policy's raw thresholds.
    terms
        What is paid for.
    num_draws
        Posterior draws of the queries' weights.
    """

    def __init__(
        self, table: Table, members: tuple[int, ...], cuts: Cuts, terms: Terms, num_draws: int
    ) -> None:
        index, (data, weight) = list(members), table
        # Of constant costs, and without a price of latency, an expense is the cost.
        paid = expense(data, Terms(constant_costs=terms.constant_costs))
        seconds = latency(data, members)
        if seconds is not None and terms.constant_costs:
            seconds = np.where(np.isnan(seconds), np.nan, np.nanmean(seconds, axis=0))

        def payments(values: np.ndarray) -> Payments:
            return Payments(
                data.confidence[:, index], values, cuts.thresholds, num_draws, cuts.abstain, weight
            )

        self._terms = terms
        self._paid = payments(paid[:, index])
        self._waited = None if seconds is None else payments(seconds)

    def expected(self, error: np.ndarray, reach_prob: np.ndarray, abstain: np.ndarray) -> Predicted:
        """Return all figures from draws of error and abstention, ``(num_draws,)``, and of reach."""
        waited = None if self._waited is None else self._waited.expected(reach_prob)
        return self._all(error, self._paid.expected(reach_prob), reach_prob, abstain, waited)

    def draw(
        self,
        rng: np.random.Generator,
        num_queries: int,
        wrong: np.ndarray,
        stops: np.ndarray,
        left: np.ndarray,
    ) -> Predicted:
        """Return all figures of a table of new queries on every draw.

        Parameters
        ----------
        rng
            Source of randomness.
        num_queries
            How many queries there are.
        wrong, left
            How many get a wrong answer, and none, ``(num_draws,)``.
        stops
            How many end at each model, ``(num_draws, num_models)``.
        """
        seed = int(rng.integers(2**32))
        # The same observed queries are paid for and waited for.
        paid = self._paid.draw(np.random.default_rng(seed), stops)
        waited = None
        if self._waited is not None:
            waited = self._waited.draw(np.random.default_rng(seed), stops) / num_queries
        reached = np.cumsum(stops[:, ::-1], axis=1)[:, ::-1]
        return self._all(
            wrong / num_queries, paid / num_queries, reached / num_queries, left / num_queries, waited
        )

    def _all(
        self,
        error: np.ndarray,
        cost: np.ndarray,
        reach_prob: np.ndarray,
        abstain: np.ndarray,
        waited: np.ndarray | None,
    ) -> Predicted:
        spent = cost + (self._terms.abstain_price or 0.0) * abstain
        if waited is not None:
            spent = spent + self._terms.latency_price * waited
        return Predicted(error, cost, reach_prob, abstain, waited, spent)


def predict_outcome(table: Table, chain: Discretised, cuts: Cuts, outcome: Outcome) -> Predicted:
    """Return what policies of a cascade on its grid do; see `predict_members`."""
    return predict_members(table, chain.members, chain.terms, cuts, outcome)


def predict_members(
    table: Table, members: tuple[int, ...], terms: Terms, cuts: Cuts, outcome: Outcome
) -> Predicted:
    """Return what policies do, from the forward pass.

    Parameters
    ----------
    table
        Queries of the fit's table by which decisions are made.
    members
        Positions in it of the cascade's models.
    terms
        What is paid for.
    cuts
        Raw thresholds, with a leading axis of policies.
    outcome
        What they do on every draw, fields ``(num_policies, num_draws, ...)``.
    """
    k = len(members)
    error, reach = (np.asarray(field, dtype=float) for field in (outcome.error, outcome.reach_prob))
    error = np.where(error > 16 * np.finfo(outcome.error.dtype).eps, error, 0.0)  # what is less is rounding
    abstain = np.zeros_like(error) if terms.abstain_price is None else reach[..., k]
    found = [
        Bills(table, members, own, terms, error.shape[1]).expected(*figures)
        for own, *figures in zip(cuts.each(), error, reach[..., :k], abstain, strict=True)
    ]
    return stack(found)


def stack(found: list[Predicted]) -> Predicted:
    """Return the figures of several policies with a leading axis of them."""
    return jax.tree.map(lambda *fields: np.stack(fields), *found)  # type: ignore[no-any-return]
