r"""What the posterior predicts of given thresholds: of all queries to come, or of so many of them.

On each posterior draw the forward pass (`cascade_bayes.engine.forward`), with the observed queries beside
it (`cascade_bayes.engine.rows`), gives the probability that a query stops at each model and is answered
rightly there. Over all queries to come these are error and cost
themselves, and their spread over draws is what the labels leave open. Of a table of *m* new queries the
counts of a draw are multinomial, and each query pays what an observed one paid
(`cascade_bayes.engine.costs`): the spread is then that of a posterior predictive distribution, which a
realised error or cost is to be compared with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.table import table_of
from cascade_bayes.engine.costs import need_latency, stop_prob
from cascade_bayes.engine.discretised import check_cuts
from cascade_bayes.engine.figures import Bills, Predicted, predict_members, stack
from cascade_bayes.engine.forward import Outcome
from cascade_bayes.engine.lengthen import lengthen_outcome
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.shorter import ends_queries, shorten
from cascade_bayes.policy.terms import COSTS_ALONE, Terms

DEFAULT_DRAWS = 1000
"""Posterior draws of a prediction: enough for the quantiles of a 90 % band."""


@in_64_bits
def predict(
    posterior: Posterior,
    thresholds: Policy | Sequence[float] | np.ndarray,
    *,
    abstain: Sequence[float] | np.ndarray | None = None,
    models: Sequence[str] | None = None,
    num_queries: int | None = None,
    num_draws: int = DEFAULT_DRAWS,
    prior_queries: float = PRIOR_QUERIES,
    seed: int = 0,
    terms: Terms | None = None,
) -> Predicted:
    """Predict error, cost and reach of thresholds.

    Parameters
    ----------
    posterior
        The fit.
    thresholds
        A policy, or raw thresholds ``(num_models - 1,)``, or those of many policies,
        ``(..., num_models - 1)``: a query is deferred iff its confidence is below; -inf never defers, inf
        always does. Where a model before the last always defers, it is paid for, and error and the other
        figures are those of the cascade without it (`cascade_bayes.policy.shorter`).
    abstain
        Raw thresholds below which models leave a query without an answer, ``(..., num_models)``; -inf never
        does. A policy's own, or none, if None.
    models
        Models of the cascade, a subset in cascade order; those of the policy, or all, if None.
    num_queries
        Predict the shares among so many new queries, their sampling error included. If None, the
        probabilities themselves: the limit of many queries.
    num_draws
        Posterior draws, evenly spaced.
    prior_queries
        How many queries the model counts for beside the observed ones, inf for the model alone
        (`cascade_bayes.engine.rows`).
    seed
        Seed of the new queries.
    terms
        What is paid for besides calls and wrong answers; a policy's own, or nothing, if None. With
        ``abstain`` it needs a price of abstaining.

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
    need(posterior, Posterior, "posterior", FROM_FIT)
    if isinstance(thresholds, Policy):
        policy = thresholds
        models = policy.models if models is None else models
        abstain = policy.abstain_thresholds if abstain is None else abstain
        terms = policy.terms if terms is None else terms
        thresholds = policy.thresholds
    cuts = _checked_cuts(thresholds, abstain, len(posterior.members(models)))
    lead = cuts.thresholds.shape[:-1]
    if num_queries is not None and num_queries < 1:
        raise InputError(f"num_queries must be at least 1; got {num_queries}.")

    of = _Asked(posterior, posterior.members(models), terms or COSTS_ALONE, num_draws, prior_queries)
    policies = jax.tree.map(lambda field: field.reshape(math.prod(lead), field.shape[-1]), cuts)
    outcome = _outcomes(of, policies)
    if num_queries is None:
        found = predict_members(table_of(posterior), of.members, of.terms, policies, outcome)
    else:
        found = _of_new_queries(of, policies, outcome, num_queries, seed)
    return jax.tree.map(lambda field: field.reshape(*lead, *field.shape[1:]), found)


class _Asked(NamedTuple):
    """What is predicted: a cascade of a fit, under some terms, on so many draws."""

    posterior: Posterior
    members: tuple[int, ...]
    terms: Terms
    num_draws: int
    prior_queries: float


def _outcomes(of: _Asked, cuts: Cuts) -> Outcome:
    """Return what policies do on every draw: each as the shorter cascade that decides alike."""
    check_cuts(cuts, of.terms)
    need_latency(of.posterior.data, of.members, of.terms)
    kept = ends_queries(cuts)
    parts: list[tuple[np.ndarray, Outcome]] = []
    for pattern in np.unique(kept, axis=0):
        rows = np.flatnonzero((kept == pattern).all(axis=1))
        names = [of.posterior.models[m] for m, stays in zip(of.members, pattern, strict=True) if stays]
        chain = discretise(of.posterior, names, of.num_draws, prior_queries=of.prior_queries, terms=of.terms)
        own = shorten(jax.tree.map(lambda field, rows=rows: field[rows], cuts), pattern)
        outcome = chain.outcomes(chain.positions(own))
        parts.append((rows, lengthen_outcome(outcome, pattern, chain.abstains)))
    back = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return jax.tree.map(  # type: ignore[no-any-return]
        lambda *fields: np.concatenate(fields)[back], *(part for _, part in parts)
    )


def _checked_cuts(thresholds: Any, abstain: Any, num_models: int) -> Cuts:
    """Return thresholds as arrays with the same leading axes; raise `InputError` if they are not numbers."""
    cuts = Cuts(
        _check_thresholds("thresholds", thresholds, num_models - 1),
        None if abstain is None else _check_thresholds("abstain", abstain, num_models),
    )
    lead = cuts.thresholds.shape[:-1]
    if cuts.abstain is not None and cuts.abstain.shape[:-1] != lead:
        raise InputError(
            f"abstain must have the leading axes of thresholds, {lead}; got shape {cuts.abstain.shape}."
        )
    return cuts


def _check_thresholds(name: str, values: Any, count: int) -> np.ndarray:
    asked = np.asarray(values, dtype=float)
    if asked.ndim < 1 or asked.shape[-1] != count:
        rule = "one a model" if name == "abstain" else "one fewer than the models"
        raise InputError(f"{name} must be {count} numbers, {rule}; got shape {asked.shape}.")
    if np.isnan(asked).any():
        raise InputError(f"{name} must be numbers or infinite; got nan.")
    return asked


def _of_new_queries(of: _Asked, cuts: Cuts, outcome: Outcome, num_queries: int, seed: int) -> Predicted:
    """Draw shares among new queries."""
    rng = np.random.default_rng(seed)
    k = len(of.members)
    reach, right, early = (
        np.asarray(x, dtype=float) for x in (outcome.reach_prob, outcome.right_prob, outcome.early_prob)
    )
    ends = stop_prob(reach[..., :k])
    left = np.zeros_like(ends)
    if of.terms.abstain_price is not None:
        left[..., :-1] = early[..., :-1]
        left[..., -1] = reach[..., k] - early.sum(axis=-1)
    left = np.clip(left, 0.0, ends)
    right = np.clip(right[..., :k], 0.0, ends - left)
    # A query's outcome: the model at which it ends, with a right answer, a wrong one or none.
    outcome_prob = np.stack([right, ends - left - right, left], axis=-2)
    shape = outcome_prob.shape
    flat = outcome_prob.reshape(*shape[:-2], -1)
    counts = rng.multinomial(num_queries, flat / flat.sum(axis=-1, keepdims=True)).reshape(shape)
    wrong, unanswered = counts[..., 1, :].sum(axis=-1), counts[..., 2, :].sum(axis=-1)
    found = [
        Bills(table_of(of.posterior), of.members, own, of.terms, shape[1]).draw(rng, num_queries, *figures)
        for own, *figures in zip(cuts.each(), wrong, counts.sum(axis=-2), unanswered, strict=True)
    ]
    return stack(found)
