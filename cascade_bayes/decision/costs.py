r"""What a call costs: the mean with its uncertainty, and costs of new queries.

Nothing is assumed of the distribution of costs. Its posterior is the Bayesian bootstrap (Rubin, Annals of
Statistics 9, 1981): the observed queries under weights :math:`w \sim \mathrm{Dirichlet}(1, \dots, 1)`, the
same :math:`w` for all models, because a long query costs more with each of them.
"""

from __future__ import annotations

import numpy as np

from cascade_bayes.data import CascadeData


def query_weights(num_queries: int, num_draws: int) -> np.ndarray:
    """Return posterior draws of the queries' weights, ``(num_draws, num_queries)``; each row sums to 1.

    The same shape gives the same draws.
    """
    weights = np.random.default_rng(0).standard_exponential((num_draws, num_queries))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def call_cost_draws(data: CascadeData, num_draws: int) -> np.ndarray:
    """Return posterior draws of the mean cost of a call, ``(num_draws, num_models)``, US dollars.

    The draws are scaled so that their mean is ``data.call_cost``. The same table gives the same draws.
    """
    weights = query_weights(data.num_queries, num_draws)
    seen = ~np.isnan(data.cost)
    draws = (weights @ np.where(seen, data.cost, 0.0)) / (weights @ seen)
    mean = draws.mean(axis=0)
    return np.asarray(draws * np.where(mean > 0, data.call_cost / np.where(mean > 0, mean, 1.0), 1.0))


def paid_by_new_queries(
    rng: np.random.Generator, cost: np.ndarray, weights: np.ndarray, num_queries: int
) -> np.ndarray:
    """Return what new queries cost if they stop at each model, ``(num_queries, num_models)``, US dollars.

    A new query is an observed one, drawn with the weights; all models from the first to that at which it
    stops are paid for. Where a model was not called, the cost of another query's call of it is taken.

    Parameters
    ----------
    rng
        Source of randomness.
    cost
        US dollars per call, ``(num_observed, num_models)``; NaN where the model was not called.
    weights
        One draw of `query_weights`, ``(num_observed,)``.
    num_queries
        New queries.
    """
    paid = cost[rng.choice(len(weights), size=num_queries, p=weights)]
    for i in np.flatnonzero(np.isnan(paid).any(axis=0)):
        missing = np.isnan(paid[:, i])
        called = np.flatnonzero(~np.isnan(cost[:, i]))
        share = weights[called] / weights[called].sum()
        paid[missing, i] = cost[rng.choice(called, size=int(missing.sum()), p=share), i]
    return np.asarray(np.cumsum(paid, axis=1))
