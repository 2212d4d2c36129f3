"""Queries that a posterior expects, and the statistics of tables of them.

What the statistics are for is in `cascade_bayes.decision.information`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from cascade_bayes._kept import kept
from cascade_bayes._trees import room_for
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

_STREAM = 5
"""Sets the random numbers apart from those that other parts draw by the same seed."""


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
    mean = jax.tree.map(lambda field: np.mean(np.asarray(field), axis=0), params)
    predicted = np.asarray(_predicted(new_z, mean))
    z, score = np.asarray(new_z, dtype=float), np.asarray(right, dtype=float) - predicted
    sample, draw, noise = [], [], np.zeros(())
    for d in range(num_draws):
        values, names = _by_query(chain, policy, z[d], score[d])
        sample.append([values[:size].mean(axis=0) for size in sizes])
        draw.append(values[largest:].mean(axis=0))
        noise = noise + np.cov(values, rowvar=False) / num_draws
    return Statistics(np.asarray(sample), np.asarray(draw), np.asarray(noise), many, sizes, names)


@kept()
def _predicted(z: jax.Array, params: CascadeParams) -> jax.Array:
    """Return how often each model is right at confidences ``(num_draws, num_models, num_queries)``."""
    return jax.nn.sigmoid(jax.vmap(correctness_logit, in_axes=(0, None))(z, params))


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


def simulate_new(chain: Discretised, num_queries: int, seed: int) -> tuple[Any, Any]:
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
    tuple of jax.Array or np.ndarray
        Standardised logits and labels, ``(num_draws, num_chain_models, num_queries)`` both.
    """
    params, copulas = chain.chain.params, chain.chain.copulas
    num_draws = params.intercept.shape[0]
    keys = jax.random.split(jax.random.key(seed), num_draws)
    if chain.queries is None or chain.queries.ends is not None:
        return _simulate(keys, params, copulas, num_queries)
    rng = np.random.default_rng([seed, _STREAM])
    place = _observed_place(np.asarray(chain.queries.weight, dtype=float), num_queries, rng)
    of_model = place < 0
    # Few are the model's: so many are simulated on every draw, and each is used once.
    z, right = _simulate(keys, params, copulas, room_for(int(of_model.sum(axis=1).max())))
    which = np.where(of_model, np.cumsum(of_model, axis=1) - 1, 0)[:, None]
    new = tuple(np.take_along_axis(np.asarray(field), which, axis=2) for field in (z, right))
    return _mix_observed(chain, place, new[0], new[1], rng)


@kept("copulas", "num_queries")
def _simulate(
    keys: jax.Array, params: CascadeParams, copulas: tuple[Copula, ...], num_queries: int
) -> tuple[jax.Array, jax.Array]:
    """Draw a table from each draw, ``(num_draws, num_models, num_queries)`` both."""
    return jax.lax.map(lambda one: simulate_scores(one[0], one[1], copulas, num_queries), (keys, params))


def _observed_place(weight: np.ndarray, num_queries: int, rng: np.random.Generator) -> np.ndarray:
    """Draw which observed query each new one is, -1 where it is the model's, ``(num_draws, num_queries)``.

    ``weight`` holds the observed queries' weights, ``(num_draws, num_observed)``; what those of a draw lack
    to 1 is the model's.
    """
    cumulative = np.cumsum(weight, axis=1)
    level = rng.uniform(size=(len(weight), num_queries))
    place = np.stack([np.searchsorted(c, u, side="right") for c, u in zip(cumulative, level, strict=True)])
    return np.where(place < weight.shape[1], place, -1)


def _mix_observed(
    chain: Discretised, place: np.ndarray, z: np.ndarray, right: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Put observed queries in the places of new ones, with labels drawn as the draw has them."""
    queries = chain.queries
    assert queries is not None
    observed = place >= 0
    known = np.moveaxis(np.asarray(queries.z)[:, place], 0, 1)
    mixed = np.where(observed[:, None], known, z)
    rate = np.asarray(_rates(mixed, rng.uniform(size=place.shape), chain.chain.params))
    drawn = rng.uniform(size=rate.shape) < rate
    return mixed, np.where(observed[:, None], drawn, right)


@kept()
def _rates(z: jax.Array, share: jax.Array, params: CascadeParams) -> jax.Array:
    """Return how often each model is right about queries of known difficulty, of the shape of ``z``.

    ``z`` is ``(num_draws, num_chain_models, num_queries)``, and ``share`` the share of queries that are
    easier, ``(num_draws, num_queries)``.
    """

    def on_draw(z: jax.Array, share: jax.Array, draw: CascadeParams) -> jax.Array:
        logit, corr = correctness_logit(z, draw), draw.label_corr.at(z)
        return jax.nn.sigmoid(given_difficulty(logit, share, 1.0 - share, corr))

    return jax.vmap(on_draw)(z, share[:, None], params)
