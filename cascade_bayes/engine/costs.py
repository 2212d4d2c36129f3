r"""What calls cost: means with the uncertainty of a sample, trends, and what the queries of a policy pay.

A query pays for every call, for its latency if that has a price, and for being left without an answer:

.. math:: \text{expense} = \mathrm{cost} + \text{latency price} \cdot \mathrm{latency}
    + \text{abstain price} \cdot P(\text{abstain}) ,

to which the price of an error adds the loss. Latency is paid by the call, as its cost is.

Nothing is assumed of the distribution of costs. Its posterior is the Bayesian bootstrap (Rubin, Annals of
Statistics 9, 1981): the observed queries under weights :math:`w \sim \mathrm{Dirichlet}(1, \dots, 1)`, the
same :math:`w` for all models, because a long query costs more with each of them.

Queries that get deferred can cost more than others, or less. Where the model of the confidences speaks for
them, the cost of a call is therefore

.. math:: c_{i+1} \exp(\beta_i\, x(z_i)) / \mathrm{E}[\exp(\beta_i\, x(z_i))] ,

with :math:`x(z_i)` the confidence that deferred, :math:`c_{i+1}` the mean over observed calls, over which the
expectation goes too, and :math:`\beta_i` the least-squares slope of cost over its mean, shrunk towards 0 by a
normal prior with the scale `TREND_SCALE`.

What a query pays that a policy ends at model s is taken from observed queries that the same policy ends
there, shrunk towards all queries: their distribution has a Dirichlet process prior (Ferguson, Annals of
Statistics 1, 1973) that is centred on that of all queries and counts as much as `COST_PRIOR_QUERIES` of them.
Its posterior gives query q the weight

.. math:: w_q \left(1\{\text{stop}_q = s\} + \kappa / n\right) .
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import gammaincinv

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.model.correctness import MAX_REGRESSOR
from cascade_bayes.policy.terms import COSTS_ALONE, Terms
from cascade_bayes.rule import follow

COST_PRIOR_QUERIES = 2.0
"""Queries that the prior counts for, :math:`\\kappa`: enough for a model at which no observed query stops."""

TREND_SCALE = 0.2
"""Prior scale of the slope of a call's cost, as a share of its mean, per unit of the standardised logit.
Draws are kept within twice that, so that no few calls say that others cost many times as much."""

MIN_CALLS = 10
"""Observed calls below which no slope is looked for."""

MILLISECONDS = 1000.0
"""Milliseconds in a second."""


LARGEST = 1e30
"""US dollars above which prices are alike in 32 bits: beside them no other counts."""


def in_32_bits(price: np.ndarray | float) -> np.ndarray:
    """Return prices as numbers of 32 bits, none of them infinite."""
    return np.minimum(price, LARGEST).astype(np.float32)


def expense(data: CascadeData, terms: Terms) -> np.ndarray:
    """Return US dollars of every call, its latency included, ``(num_queries, num_models)``.

    NaN where it was not made, and where latency has a price and is not known of any of the model's. A call
    whose latency is not known has the mean of its model's.

    Raises
    ------
    InputError
        If latency has a price and is not known at all.
    """
    mean = call_expense(data, terms)
    if terms.constant_costs:
        return np.where(np.isnan(data.cost), np.nan, mean)
    if not terms.latency_price:
        return data.cost
    mean_seconds = mean_latency(data)
    seconds = np.asarray(data.latency_ms) / MILLISECONDS
    return np.asarray(data.cost + terms.latency_price * np.where(np.isnan(seconds), mean_seconds, seconds))


def call_expense(data: CascadeData, terms: Terms) -> np.ndarray:
    """Return mean US dollars per call of each model, latency included, ``(num_models,)`` (see `expense`)."""
    if not terms.latency_price:
        return data.call_cost
    return np.asarray(data.call_cost + terms.latency_price * mean_latency(data))


def latency(data: CascadeData, members: Sequence[int]) -> np.ndarray | None:
    """Return seconds of every call of some models, ``(num_queries, num_members)``.

    None unless they are known of every one of these models; NaN where those of a single call are not.
    """
    if data.latency_ms is None:
        return None
    seconds = data.latency_ms[:, list(members)] / MILLISECONDS
    return None if np.isnan(seconds).all(axis=0).any() else seconds


def mean_latency(data: CascadeData) -> np.ndarray:
    """Return mean seconds per call of each model, ``(num_models,)``; NaN where none is known.

    Raises
    ------
    InputError
        If none is known of any model.
    """
    if data.latency_ms is None:
        raise InputError("latency_price needs a column latency_ms, which the fitted table lacks.")
    known = ~np.isnan(data.latency_ms)
    count = known.sum(axis=0)
    total = np.where(known, data.latency_ms, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan) / MILLISECONDS


def need_latency(data: CascadeData, members: Sequence[int], terms: Terms) -> None:
    """Raise `InputError` if latency has a price and is not known of one of these models."""
    if not terms.latency_price:
        return
    unknown = np.isnan(mean_latency(data))[list(members)]
    if unknown.any():
        name = data.models[members[int(np.argmax(unknown))]]
        raise InputError(
            "latency_price needs latency_ms of every model of the cascade; the fitted table has none of "
            f"{name!r}. Leave it out (--models)."
        )


class CostTrend(NamedTuple):
    r"""How the cost of a call goes with the confidence that deferred; fields may have an axis of draws.

    Attributes
    ----------
    slope
        :math:`\beta`, ``(num_models - 1,)``.
    log_mean
        Logarithm of the mean of :math:`\exp(\beta x)` over observed calls, ``(num_models - 1,)``.
    """

    slope: jax.Array
    log_mean: jax.Array


def find_trend(
    data: CascadeData,
    members: Sequence[int],
    terms: Terms,
    num_draws: int,
    weight: np.ndarray | None = None,
) -> CostTrend | None:
    """Return posterior draws of how the cost of calls goes with the confidence before, as NumPy arrays.

    Parameters
    ----------
    data
        The table of the fit.
    members
        Positions of the cascade's models.
    terms
        What is paid for; with constant costs there is no trend.
    num_draws
        How many.
    weight
        How many queries each stands for, ``(num_queries,)``; itself alone if None.

    Returns
    -------
    CostTrend or None
        Fields ``(num_draws, num_members - 1)``.
    """
    if terms.constant_costs:
        return None
    spent, mean = expense(data, terms), call_expense(data, terms)
    weights = query_weights(data.num_queries, num_draws, weight=weight)
    count = np.ones(data.num_queries) if weight is None else weight
    z = np.where(data.observed, data.logit_score(), np.nan)
    slope = np.zeros((num_draws, len(members) - 1))
    log_mean = np.zeros_like(slope)
    for i, (before, here) in enumerate(itertools.pairwise(members)):
        known = data.observed[:, before] & ~np.isnan(spent[:, here])
        if mean[here] <= 0 or known.sum() < MIN_CALLS:
            continue
        x = np.clip(z[known, before], -MAX_REGRESSOR, MAX_REGRESSOR)
        w = weights[:, known] / weights[:, known].sum(axis=1, keepdims=True)
        y = spent[known, here] / mean[here]
        slope[:, i] = _shrunk_slopes(x, y, w, count[known])
        log_mean[:, i] = np.log(np.sum(w * np.exp(slope[:, i, None] * x), axis=1))
    return CostTrend(slope, log_mean)  # type: ignore[arg-type]  # NumPy until it is used


def _shrunk_slopes(x: np.ndarray, y: np.ndarray, weights: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return least-squares slopes under each draw of weights, shrunk if uncertain, ``(num_draws,)``.

    Their standard error is that of MacKinnon & White (Journal of Econometrics 29, 1985), HC3. Mean and spread
    of the draws are those of the normal posterior. A point that stands for several counts as often.
    """
    centred = x - np.average(x, weights=count)
    spread = (count * centred) @ centred
    if spread <= 0:
        return np.zeros(len(weights))
    slope = (count * centred) @ y / spread
    leverage = 1.0 / count.sum() + centred**2 / spread
    residual = (y - np.average(y, weights=count) - centred * slope) / np.maximum(1.0 - leverage, 1e-6)
    variance = np.sum(count * (centred * residual) ** 2) / spread**2
    share = TREND_SCALE**2 / (TREND_SCALE**2 + variance)
    about = x - (weights @ x)[:, None]
    drawn = np.sum(weights * about * y, axis=1) / np.sum(weights * about**2, axis=1)
    found = share * slope + np.sqrt(share) * (drawn - slope)
    return np.clip(found, -2 * TREND_SCALE, 2 * TREND_SCALE)


def query_weights(
    num_queries: int, num_draws: int, shape: float = 1.0, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return draws of the queries' weights, Dirichlet(shape, ..., shape), ``(num_draws, num_queries)``.

    The same numbers give the same draws; a query that has much weight with one shape has it with another. One
    that stands for ``weight`` queries, of a long table, has the weights of all of these together; their shape
    is 1, of which that of `cascade_bayes.engine.rows` is then short by next to nothing.
    """
    if weight is not None:
        return _weights_together(weight.tobytes(), num_draws)
    return _query_weights(num_queries, num_draws, shape)


@lru_cache(maxsize=8)
def _weights_together(weight: bytes, num_draws: int) -> np.ndarray:
    shape = np.frombuffer(weight)
    weights = np.random.default_rng(0).standard_gamma(shape, size=(num_draws, shape.size))
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=8)
def _query_weights(num_queries: int, num_draws: int, shape: float) -> np.ndarray:
    uniform = np.random.default_rng(0).uniform(size=(num_draws, num_queries))
    # Of a shape far below 1 most gamma variates are next to 0; the least floating-point number is not.
    gamma = -np.log1p(-uniform) if shape == 1 else gammaincinv(shape, uniform)
    weights = np.maximum(gamma, np.finfo(float).tiny)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False  # all who ask get the same array
    return weights


def call_cost_draws(
    data: CascadeData, num_draws: int, terms: Terms = COSTS_ALONE, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return posterior draws of the mean expense of a call, ``(num_draws, num_models)``, US dollars.

    The draws are scaled so that their mean is `call_expense`. The same table, and ``weight`` as for
    `query_weights`, give the same draws.
    """
    weights = query_weights(data.num_queries, num_draws, weight=weight)
    spent, wanted = expense(data, terms), call_expense(data, terms)
    seen = ~np.isnan(spent)
    counted = weights @ seen
    draws = (weights @ np.where(seen, spent, 0.0)) / np.where(counted > 0, counted, 1.0)
    mean = draws.mean(axis=0)
    return np.asarray(draws * np.where(mean > 0, wanted / np.where(mean > 0, mean, 1.0), 1.0))


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
    abstain
        Raw thresholds below which models abstain, ``(num_models,)``; None if none does.
    weight
        How many queries each stands for, ``(num_queries,)``; itself alone if None.
    """

    def __init__(
        self,
        confidence: np.ndarray,
        cost: np.ndarray,
        thresholds: np.ndarray,
        num_draws: int,
        abstain: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        self._cost = cost
        self._count = np.ones(len(cost)) if weight is None else weight
        self._weights = query_weights(len(cost), num_draws, weight=weight)
        # Where the table does not say where a query stops, it belongs to no model's.
        followed = follow(confidence, thresholds, abstain)
        known = ~followed.missing.any(axis=1, keepdims=True)
        stops_here = known & (followed.stop[:, None] == np.arange(cost.shape[1]))
        self._relevance = stops_here + COST_PRIOR_QUERIES / self._count.sum()

    def expected(self, reach_prob: np.ndarray) -> np.ndarray:
        """Return draws of the mean paid by a query, ``(num_draws,)``, US dollars.

        Parameters
        ----------
        reach_prob
            Draws of the probability that each model is called, ``(num_draws, num_models)``.
        """
        called = ~np.isnan(self._cost)
        mean = self._count @ np.where(called, self._cost, 0.0) / (self._count @ called)
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
