"""Queries that a posterior expects, and the statistics of tables of them.

What the statistics are for is in `cascade_bayes.decision.information`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.copulas import Copula
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.model.correctness import MAX_REGRESSOR, correctness_logit
from cascade_bayes.model.difficulty import given_difficulty
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.model.simulate import simulate_scores
from cascade_bayes.policy.policy import Policy

MANY = 2000
"""Queries at least whose statistics stand for the draw that they were simulated from; twice the new ones."""

NONE = "no labels"


class Statistics(NamedTuple):
    """Statistics of tables simulated from each draw.

    Attributes
    ----------
    sample
        Statistics of tables of the sizes that are asked for, ``(num_draws, num_sizes, num_statistics)``; the
        smaller are the beginnings of the larger.
    draw
        Statistics of very many other queries, ``(num_draws, num_statistics)``.
    noise
        Covariance of a single query's about its draw's, ``(num_statistics, num_statistics)``.
    many
        How many queries ``draw`` is a mean of.
    sizes
        Sizes of the tables, ``(num_sizes,)``.
    names
        Whose labels each statistic needs: a model's name, or "no labels".
    """

    sample: np.ndarray
    draw: np.ndarray
    noise: np.ndarray
    many: int
    sizes: np.ndarray
    names: list[str]


def simulate_statistics(chain: Discretised, policy: Policy, sizes: np.ndarray, seed: int) -> Statistics:
    """Simulate tables of these sizes, and very many queries, from each draw; return their statistics."""
    params, largest = chain.chain.params, int(sizes[-1])
    num_draws, many = params.intercept.shape[0], max(MANY, 2 * largest)
    new_z, right = simulate_new(chain, largest + many, seed)
    mean = jax.tree.map(lambda field: jnp.mean(field, axis=0), params)
    predicted = np.asarray(jax.nn.sigmoid(jax.vmap(correctness_logit, in_axes=(0, None))(new_z, mean)))
    z, score = np.asarray(new_z, dtype=float), np.asarray(right, dtype=float) - predicted
    sample, draw, noise = [], [], np.zeros(())
    for d in range(num_draws):
        values, names = _by_query(chain, policy, z[d], score[d])
        sample.append([values[:size].mean(axis=0) for size in sizes])
        draw.append(values[largest:].mean(axis=0))
        noise = noise + np.cov(values, rowvar=False) / num_draws
    return Statistics(np.asarray(sample), np.asarray(draw), np.asarray(noise), many, sizes, names)


def _by_query(
    chain: Discretised, policy: Policy, z: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return the statistics of each query, ``(num_queries, num_statistics)``, and whose labels they need.

    ``z`` and ``score``, right less predicted, are ``(num_chain_models, num_queries)``.
    """
    layout, members, dtype = chain.layout, chain.chain_members, np.dtype(chain.call_cost.dtype)
    x = np.asarray(np.clip(z, -MAX_REGRESSOR, MAX_REGRESSOR))
    passed = np.ones(z.shape[1])
    columns: list[tuple[str, np.ndarray]] = []
    for place, m in enumerate(members):
        of_labels, of_confidences = [score[m], score[m] * x[m]], [x[m], np.abs(x[m])]
        if place:
            before = x[members[place - 1]]
            of_labels += [score[m] * before, score[m] * passed]
            of_confidences += [x[m] * before, passed]
        for atom in layout.locs[m][~np.isnan(layout.locs[m])].astype(dtype):
            of_labels.append(score[m] * (z[m] == atom))
            of_confidences.append(1.0 * (z[m] == atom))
        columns += [(policy.models[place], values) for values in of_labels]
        columns += [(NONE, values) for values in of_confidences]
        if place < len(policy.thresholds):
            seen = chain.raw(z[m], place)
            passed = passed * (seen < policy.thresholds[place])
            if policy.abstain_thresholds is not None:
                passed = passed * (seen >= policy.abstain_thresholds[place])
    return np.stack([values for _, values in columns], axis=1), [name for name, _ in columns]


def simulate_new(chain: Discretised, num_queries: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Draw new queries from every draw: of the model, or one of the observed as often as these count.

    Logs whose queries end before the last model are left to the model.

    Parameters
    ----------
    chain
        Draws, and observed queries beside them.
    num_queries
        How many on each draw.
    seed
        Seed of the queries.

    Returns
    -------
    tuple of jax.Array
        Standardised logits and labels, ``(num_draws, num_chain_models, num_queries)`` both.
    """
    params, copulas = chain.chain.params, chain.chain.copulas
    keys = jax.random.split(jax.random.key(seed), params.intercept.shape[0])
    z, right = _simulate(keys, params, copulas, num_queries)
    if chain.queries is not None and chain.queries.ends is None:
        return _mix_observed(jax.random.key(seed + 1), chain, z, right)
    return z, right


@partial(jax.jit, static_argnums=(2, 3))
def _simulate(
    keys: jax.Array, params: CascadeParams, copulas: tuple[Copula, ...], num_queries: int
) -> tuple[jax.Array, jax.Array]:
    """Draw a table from each draw, ``(num_draws, num_models, num_queries)`` both."""
    return jax.lax.map(lambda one: simulate_scores(one[0], one[1], copulas, num_queries), (keys, params))


def _mix_observed(
    key: jax.Array, chain: Discretised, z: jax.Array, right: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Replace new queries by observed ones, as often as these count beside the model on a draw."""
    queries = chain.queries
    assert queries is not None
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    weight = np.asarray(queries.weight, dtype=float)
    cumulative = np.cumsum(weight, axis=1)
    level = rng.uniform(size=(len(weight), z.shape[2]))
    at = np.stack([np.searchsorted(c, u, side="right") for c, u in zip(cumulative, level, strict=True)])
    observed = at < weight.shape[1]
    place = np.minimum(at, weight.shape[1] - 1)
    known = np.moveaxis(np.asarray(queries.z)[:, place], 0, 1)
    mixed = jnp.where(observed[:, None], known, z)
    params = chain.chain.params
    share = jnp.asarray(rng.uniform(size=level.shape))[:, None]
    logit, corr = jax.vmap(lambda z, one: (correctness_logit(z, one), one.label_corr.at(z)))(mixed, params)
    rate = jax.nn.sigmoid(given_difficulty(logit, share, 1.0 - share, corr))
    drawn = rng.uniform(size=rate.shape) < np.asarray(rate)
    return mixed, jnp.where(observed[:, None], drawn, right)
