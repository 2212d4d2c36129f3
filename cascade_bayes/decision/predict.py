r"""What the posterior predicts of given thresholds: of all queries to come, or of so many of them.

On each posterior draw the forward pass (`cascade_bayes.decision.chain`), with the observed queries beside it
(`cascade_bayes.decision.rows`), gives the probability that a query stops at each model and is answered
rightly there. Over all queries to come these are error and cost
themselves, and their spread over draws is what the labels leave open. Of a table of *m* new queries the
counts of a draw are multinomial, and each query pays what an observed one paid
(`cascade_bayes.decision.costs`): the spread is then that of a posterior predictive distribution, which a
realised error or cost is to be compared with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cascade_bayes.decision.costs import Payments, stop_prob
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.policy import Policy
from cascade_bayes.decision.rows import PRIOR_QUERIES
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior

DEFAULT_DRAWS = 1000
"""Posterior draws of a prediction: enough for the quantiles of a 90 % band."""


class Predicted(NamedTuple):
    """Posterior draws of what given thresholds do; leading axes are those of the thresholds.

    Attributes
    ----------
    error
        Share of wrong answers, ``(..., num_draws)``.
    cost
        Mean US dollars per query, ``(..., num_draws)``.
    reach_prob
        Share of queries for which each model is called, ``(..., num_draws, num_models)``.
    """

    error: np.ndarray
    cost: np.ndarray
    reach_prob: np.ndarray

    @property
    def stop_prob(self) -> np.ndarray:
        """Share of queries that each model answers, ``(..., num_draws, num_models)``."""
        return stop_prob(self.reach_prob)

    def loss(self, error_price: float) -> np.ndarray:
        """Return ``cost + error_price * error``, US dollars per query, ``(..., num_draws)``."""
        return np.asarray(self.cost + error_price * self.error)

    def interval(self, figure: str = "error", probability: float = 0.9) -> np.ndarray:
        """Return the central interval of ``"error"``, ``"cost"``, ``"reach_prob"`` or ``"stop_prob"``.

        Returns
        -------
        numpy.ndarray
            ``(2, ...)``, the lower and the upper ends; for the last two the last axis is of models.

        Raises
        ------
        InputError
            For another figure or a probability that is none.
        """
        figures = (*self._fields, "stop_prob")
        if figure not in figures:
            raise InputError(f"figure must be one of {', '.join(figures)}; got {figure!r}.")
        if not 0 < probability < 1:
            raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
        tail = (1 - probability) / 2
        axis = -2 if figure.endswith("_prob") else -1
        return np.quantile(getattr(self, figure), [tail, 1 - tail], axis=axis)


def predict(
    posterior: Posterior,
    thresholds: Policy | Sequence[float] | np.ndarray,
    *,
    models: Sequence[str] | None = None,
    num_queries: int | None = None,
    num_draws: int = DEFAULT_DRAWS,
    prior_queries: float = PRIOR_QUERIES,
    seed: int = 0,
) -> Predicted:
    """Predict error, cost and reach of thresholds.

    Parameters
    ----------
    posterior
        The fit.
    thresholds
        A policy, or raw thresholds ``(num_models - 1,)``, or those of many policies,
        ``(..., num_models - 1)``: a query is deferred iff its confidence is below; -inf never defers, inf
        always does.
    models
        Models of the cascade, a subset in cascade order; those of the policy, or all, if None.
    num_queries
        Predict the shares among so many new queries, their sampling error included. If None, the
        probabilities themselves: the limit of many queries.
    num_draws
        Posterior draws, evenly spaced.
    prior_queries
        How many queries the model counts for beside the observed ones, inf for the model alone
        (`cascade_bayes.decision.rows`).
    seed
        Seed of the new queries.

    Returns
    -------
    Predicted
        A draw of the predictive distribution from each posterior draw.

    Raises
    ------
    InputError
        For models that are not in the posterior, thresholds that are not one fewer than the models or not
        numbers, a number of queries below 1, or a negative ``prior_queries``.

    Examples
    --------
    Whether a realised error agrees with the fit: ``low, high = predict(posterior, policy,
    num_queries=test.num_queries).interval("error")``.
    """
    if isinstance(thresholds, Policy):
        models = thresholds.models if models is None else models
        thresholds = thresholds.thresholds
    num_models = len(posterior.members(models))
    asked = np.asarray(thresholds, dtype=float)
    if asked.ndim < 1 or asked.shape[-1] != num_models - 1:
        raise InputError(
            f"thresholds must be {num_models - 1} numbers, one fewer than the models; got "
            f"shape {asked.shape}."
        )
    if np.isnan(asked).any():
        raise InputError("thresholds must be numbers or infinite; got nan.")
    if num_queries is not None and num_queries < 1:
        raise InputError(f"num_queries must be at least 1; got {num_queries}.")

    chain = discretise(posterior, models, num_draws, prior_queries=prior_queries)
    lead = asked.shape[:-1]
    policies = asked.reshape(math.prod(lead), num_models - 1)
    outcome = chain.outcomes(chain.positions(policies))
    error, reach_prob, right_prob = (
        np.asarray(x, dtype=float) for x in (outcome.error, outcome.reach_prob, outcome.right_prob)
    )
    index = list(chain.members)
    payments = [
        Payments(posterior.data.confidence[:, index], posterior.data.cost[:, index], own, error.shape[1])
        for own in policies
    ]
    if num_queries is None:
        expected = [one.expected(reach) for one, reach in zip(payments, reach_prob, strict=True)]
        found = Predicted(error, np.stack(expected), reach_prob)
    else:
        rng = np.random.default_rng(seed)
        found = _of_new_queries(rng, reach_prob, right_prob, payments, num_queries)
    return Predicted(*(figure.reshape(*lead, *figure.shape[1:]) for figure in found))


def _of_new_queries(
    rng: np.random.Generator,
    reach_prob: np.ndarray,
    right_prob: np.ndarray,
    payments: Sequence[Payments],
    num_queries: int,
) -> Predicted:
    """Draw shares among new queries; probabilities are ``(num_policies, num_draws, num_models)``."""
    num_models = reach_prob.shape[-1]
    answers = stop_prob(reach_prob)
    right = np.minimum(right_prob, answers)
    # A query's outcome: the model at which it stops, with a right answer or with a wrong one.
    outcome_prob = np.concatenate([right, answers - right], axis=-1)
    outcome_prob /= outcome_prob.sum(axis=-1, keepdims=True)
    counts = rng.multinomial(num_queries, outcome_prob)
    stops = counts[..., :num_models] + counts[..., num_models:]
    paid = [one.draw(rng, own) for one, own in zip(payments, stops, strict=True)]
    reached = np.cumsum(stops[..., ::-1], axis=-1)[..., ::-1]
    return Predicted(
        error=counts[..., num_models:].sum(axis=-1) / num_queries,
        cost=np.asarray(paid) / num_queries,
        reach_prob=reached / num_queries,
    )
