"""Draw tables from the generative model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes._numbers import MAX_QUERIES, check_seed, check_whole
from cascade_bayes.copulas import Copula, inverse_h_v_given_u
from cascade_bayes.data import CascadeData
from cascade_bayes.distributions import mixed
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.difficulty import given_difficulty, sample_share
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.special import UnitPoint, unit_point, unit_point_from_logit
from cascade_bayes.transforms import ConfidenceMap


def simulate_scores(
    key: jax.Array, params: CascadeParams, copulas: tuple[Copula, ...], num_queries: int
) -> tuple[jax.Array, jax.Array]:
    """Draw standardised logit scores and labels of one cascade.

    The chain runs in the scores: a query at an atom of mass ``w`` takes its next model's uniform
    given a fresh uniform point inside the atom's stretch of probability, as the likelihood has it.

    Parameters
    ----------
    key
        PRNG key.
    params
        One draw.
    copulas
        Family of each neighbouring pair.
    num_queries
        Rows to draw.

    Returns
    -------
    tuple of jax.Array
        ``z`` and ``correct``, both ``(num_models, num_queries)``.
    """
    keys = jax.random.split(key, 2 * params.num_models + 1)
    dtype = params.intercept.dtype
    families = tuple(dict.fromkeys(copulas))

    def next_point(family: Copula) -> Callable[[UnitPoint, UnitPoint, jax.Array], UnitPoint]:
        return lambda start, q, theta: inverse_h_v_given_u(family, start, q, theta)

    # One program for all models, however many: most of the time goes to compiling it.
    branches = [lambda start, q, theta: q, *map(next_point, families)]
    which = jnp.array([1 + families.index(family) for family in copulas] + [0])
    theta = jnp.concatenate([params.theta, jnp.zeros(1, dtype=dtype)])

    def one_model(u: UnitPoint, xs: tuple[Any, ...]) -> tuple[UnitPoint, jax.Array]:
        margin, branch, theta, key_inside, key_next = xs
        z = mixed.quantile_of_point(u, margin)
        at = mixed.point(z, margin)
        lower, upper = at.lower.value, at.upper.value
        inside = lower + (upper - lower) * jax.random.uniform(key_inside, (num_queries,), dtype=dtype)
        inside = jnp.clip(inside, jnp.finfo(dtype).tiny, 1 - jnp.finfo(dtype).epsneg)
        start = UnitPoint(
            jnp.where(at.is_atom, jnp.log(inside), u.log_u),
            jnp.where(at.is_atom, jnp.log1p(-inside), u.log_1mu),
        )
        q = jax.random.uniform(key_next, (num_queries,), dtype=dtype, minval=jnp.finfo(dtype).tiny)
        return jax.lax.switch(branch, branches, start, unit_point(q), theta), z

    # From logistic variates: both tails of the uniform keep their digits.
    u = unit_point_from_logit(jax.random.logistic(keys[0], (num_queries,), dtype=dtype))
    _, z = jax.lax.scan(one_model, u, (params.margins, which, theta, keys[1::2], keys[2::2]))
    share = sample_share(jax.random.fold_in(keys[-1], 1), num_queries, dtype)
    logit = given_difficulty(correctness_logit(z, params), share, 1.0 - share, params.label_corr.at(z))
    return z, jax.random.bernoulli(keys[-1], jax.nn.sigmoid(logit))


class Cascade(NamedTuple):
    """One cascade with every parameter known: all that is needed to draw a table from it.

    Attributes
    ----------
    params
        One draw of the parameters, no draw axis.
    copulas
        Family of each neighbouring pair.
    models
        Names in cascade order, ``(num_models,)``.
    call_cost
        US dollars per call, ``(num_models,)``; every call of a model costs the same.
    confidence_map
        Map between standardised logits and the raw scale of the confidences.
    """

    params: CascadeParams
    copulas: tuple[Copula, ...]
    models: tuple[str, ...]
    call_cost: np.ndarray
    confidence_map: ConfidenceMap


class DrawsOfCascades(Protocol):
    """Anything that holds draws of cascades, such as a `Posterior`."""

    @property
    def num_draws(self) -> int:
        """How many."""

    def cascade(self, draw: int) -> Cascade:
        """Return one of them."""


@in_64_bits
def simulate(source: Cascade | DrawsOfCascades, num_queries: int, seed: int) -> CascadeData:
    """Draw a complete table of ``num_queries`` queries.

    Parameters
    ----------
    source
        One cascade, or draws of them (a `Posterior`, `PriorDraws`): the table is then simulated from one
        draw, chosen by ``seed``, so that tables of many seeds are draws from the predictive distribution.
    num_queries
        Rows.
    seed
        Seed of the generator; the same seed gives the same table.

    Returns
    -------
    CascadeData
        Query ids are ``"0"``, ``"1"``, ...; its confidence map is that of the source.

    Raises
    ------
    InputError
        If ``num_queries`` is below 1.

    Examples
    --------
    >>> import cascade_bayes.example
    >>> simulate(cascade_bayes.example.load_truth(), num_queries=3, seed=0).confidence.shape
    (3, 5)
    """
    check_whole("num_queries", num_queries, high=MAX_QUERIES)
    check_seed(seed)
    if not isinstance(source, Cascade):
        source = source.cascade(int(np.random.default_rng(seed).integers(source.num_draws)))
    z, correct = jax.jit(simulate_scores, static_argnums=(2, 3))(
        jax.random.key(seed), source.params, source.copulas, num_queries
    )
    return make_table(source, np.asarray(z), np.asarray(correct))


def make_table(source: Cascade, z: np.ndarray, correct: np.ndarray) -> CascadeData:
    """Return scores and labels of a cascade, ``(num_models, num_queries)`` each, as a complete table."""
    shape = z.shape[::-1]
    call_cost = np.asarray(source.call_cost, dtype=float)
    return CascadeData(
        models=source.models,
        query_ids=np.arange(shape[0]).astype(str),
        confidence=source.confidence_map.from_logit(np.asarray(z, dtype=float).T),
        correct=correct.T,
        labelled=np.ones(shape, dtype=bool),
        cost=np.broadcast_to(call_cost, shape).copy(),
        latency_ms=None,
        call_cost=call_cost,
        kind=source.confidence_map.kind,
        confidence_map=source.confidence_map,
    )
