r"""What calls cost: their means with the uncertainty of a sample, and what the queries of a policy pay.

Nothing is assumed of the distribution of costs. Its posterior is the Bayesian bootstrap (Rubin, Annals of
Statistics 9, 1981): the observed queries under weights :math:`w \sim \mathrm{Dirichlet}(1, \dots, 1)`, the
same :math:`w` for all models, because a long query costs more with each of them.

Queries that get deferred can cost more than others, or less. What a query pays that stops at model s is
therefore taken from observed queries that the same policy stops there, shrunk towards all queries: their
distribution has a Dirichlet process prior (Ferguson, Annals of Statistics 1, 1973) that is centred on that of
all queries and counts as much as `COST_PRIOR_QUERIES` of them. Its posterior gives query q the weight

.. math:: w_q \left(1\{\text{stop}_q = s\} + \kappa / n\right) .
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv

from cascade_bayes.data import CascadeData
from cascade_bayes.evaluation import follow

COST_PRIOR_QUERIES = 2.0
"""Queries that the prior counts for, :math:`\\kappa`: enough for a model at which no observed query stops."""


@lru_cache(maxsize=8)
def query_weights(num_queries: int, num_draws: int, shape: float = 1.0) -> np.ndarray:
    """Return draws of the queries' weights, Dirichlet(shape, ..., shape), ``(num_draws, num_queries)``.

    The same numbers give the same draws; a query that has much weight with one shape has it with another.
    """
    uniform = np.random.default_rng(0).uniform(size=(num_draws, num_queries))
    # Of a shape far below 1 most gamma variates are next to 0; the least floating-point number is not.
    gamma = -np.log1p(-uniform) if shape == 1 else gammaincinv(shape, uniform)
    weights = np.maximum(gamma, np.finfo(float).tiny)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False  # all who ask get the same array
    return weights


def call_cost_draws(data: CascadeData, num_draws: int) -> np.ndarray:
    """Return posterior draws of the mean cost of a call, ``(num_draws, num_models)``, US dollars.

    The draws are scaled so that their mean is ``data.call_cost``. The same table gives the same draws.
    """
    weights = query_weights(data.num_queries, num_draws)
    seen = ~np.isnan(data.cost)
    draws = (weights @ np.where(seen, data.cost, 0.0)) / (weights @ seen)
    mean = draws.mean(axis=0)
    return np.asarray(draws * np.where(mean > 0, data.call_cost / np.where(mean > 0, mean, 1.0), 1.0))


def stop_prob(reach_prob: np.ndarray) -> np.ndarray:
    """Return the probability that each model answers from that of being called, ``(..., num_models)``."""
    return np.maximum(-np.diff(reach_prob, axis=-1, append=0.0), 0.0)


class Payments:
    """What queries pay under one policy.

    Parameters
    ----------
    confidence, cost
        Raw confidences and US dollars per call of the policy's models, ``(num_queries, num_models)``; NaN
        where a model was not called.
    thresholds
        Raw, ``(num_models - 1,)``.
    num_draws
        Posterior draws of the queries' weights.
    """

    def __init__(
        self, confidence: np.ndarray, cost: np.ndarray, thresholds: np.ndarray, num_draws: int
    ) -> None:
        self._cost = cost
        self._weights = query_weights(len(cost), num_draws)
        # Where the table does not say where a query stops, it belongs to no model's.
        stops_here = follow(confidence, thresholds)[:, None] == np.arange(cost.shape[1])
        self._relevance = stops_here + COST_PRIOR_QUERIES / len(cost)

    def expected(self, reach_prob: np.ndarray) -> np.ndarray:
        """Return draws of the mean paid by a query, ``(num_draws,)``, US dollars.

        Parameters
        ----------
        reach_prob
            Draws of the probability that each model is called, ``(num_draws, num_models)``.
        """
        mean = np.nanmean(self._cost, axis=0)
        paid = np.cumsum(np.where(np.isnan(self._cost), mean, self._cost), axis=1)
        by_stop = (self._weights @ (self._relevance * paid)) / (self._weights @ self._relevance)
        return np.asarray(np.sum(stop_prob(reach_prob) * by_stop, axis=1))

    def draw(self, rng: np.random.Generator, stops: np.ndarray) -> np.ndarray:
        """Return what new queries pay in all on every draw of the weights, ``(num_draws,)``, US dollars.

        A query pays what an observed one paid for all models up to that at which it stops; where it lacks a
        call, what another query paid for it.

        Parameters
        ----------
        rng
            Source of randomness.
        stops
            How many of the queries stop at each model, ``(num_draws, num_models)``.
        """
        total = np.zeros(len(stops))
        for s in range(stops.shape[1]):
            share = self._weights * self._relevance[:, s]
            picked = rng.multinomial(stops[:, s], share / share.sum(axis=1, keepdims=True))
            for i in range(s + 1):
                called = ~np.isnan(self._cost[:, i])
                among = share[:, called] / share[:, called].sum(axis=1, keepdims=True)
                others = rng.multinomial(picked[:, ~called].sum(axis=1), among)
                total += (picked[:, called] + others) @ self._cost[called, i]
        return total
