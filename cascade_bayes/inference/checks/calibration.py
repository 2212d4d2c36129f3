"""Calibration of predicted correctness: by model, and among the queries that are deferred to it.

Score tests at posterior draws (`statistics`) of labels against their probabilities given the confidences:

* by model, against polynomials of the rank of its own confidence, to degree 2: the level, the slope, the
  curve;
* among deferred queries, against a constant and the rank: those in which every model before it is below its
  threshold, or, where no thresholds are given, the model before it below its own median.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from cascade_bayes.inference.checks.result import Finding, not_asked, tested
from cascade_bayes.inference.checks.statistics import (
    MIN_EXPECTED,
    orthonormal,
    rank_polynomials,
    score_test,
)
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.params import CascadeParams

DEGREE, DEFERRED_DEGREE = 2, 1


class ThresholdPolicy(Protocol):
    """A cascade and its thresholds, as a `cascade_bayes.Policy` has them.

    It may have ``abstain_thresholds`` besides, below which models leave queries without an answer.
    """

    @property
    def models(self) -> tuple[str, ...]:
        """Names in cascade order."""

    @property
    def thresholds(self) -> np.ndarray:
        """On the raw scale, one fewer."""


class Labels(NamedTuple):
    """Labels of one model that can be held against their probabilities.

    Attributes
    ----------
    correct
        ``(n,)``.
    prob
        Probability of being right, ``(num_draws, n)``.
    z
        Standardised logits of the model's own confidence, ``(n,)``.
    deferred
        Whether a query is deferred to the model, ``(n,)``.
    """

    correct: np.ndarray
    prob: np.ndarray
    z: np.ndarray
    deferred: np.ndarray

    def take(self, rows: np.ndarray) -> Labels:
        """Return some of the queries."""
        return Labels(self.correct[rows], self.prob[:, rows], self.z[rows], self.deferred[rows])


def labels_of_members(
    posterior: Posterior,
    members: Sequence[int],
    policy: ThresholdPolicy | None,
    num_draws: int,
) -> list[Labels]:
    """Return the labels of every model of a cascade, where all that their probability depends on is known.

    Parameters
    ----------
    posterior
        The fit.
    members
        Positions of the cascade's models, ascending.
    policy
        Whose deferred queries are told; None for those below the median of the model before.
    num_draws
        Posterior draws.
    """
    data = posterior.data
    abstain = getattr(policy, "abstain_thresholds", None)
    z = data.logit_score()
    asked = list(members)
    chain = posterior.sub_cascade(asked, num_draws)
    columns = list(range(data.num_models)) if posterior.spec.structure == "chain" else asked
    known = data.observed[:, columns]
    logits = _logits(chain.params, jnp.asarray(np.where(known, z[:, columns], 0.0).T))
    prob = expit(np.asarray(logits))
    found = []
    deferred = np.ones(data.num_queries, dtype=bool)
    for place, model in enumerate(asked):
        at = columns.index(model)
        if place:
            raw = data.confidence[:, asked[place - 1]]
            seen = data.observed[:, asked[place - 1]]
            if policy is None:
                deferred = seen & (raw < np.median(raw[seen]))
            else:
                low = -np.inf if abstain is None else abstain[place - 1]
                high = policy.thresholds[place - 1]
                passes = (raw >= low) & (raw < high)
                deferred = deferred & ((seen & passes) | (low == -np.inf and high == np.inf))
        rows = data.labelled[:, model] & known[:, max(at - 1, 0) : at + 1].all(axis=1)
        found.append(Labels(data.correct[rows, model], prob[:, at, rows], z[rows, model], deferred[rows]))
    return found


@jax.jit
def _logits(params: CascadeParams, z: jax.Array) -> jax.Array:
    """Log odds of being right under every draw, ``(num_draws, num_models, num_queries)``."""
    return jax.lax.map(lambda draw: correctness_logit(z, draw), params)


def check_calibration(models: Sequence[str], labels: Sequence[Labels], seed: int) -> Iterator[Finding]:
    """Test the labels of every model of a cascade, and of the later ones among deferred queries."""
    rng = np.random.default_rng(seed)
    for place, (model, own) in enumerate(zip(models, labels, strict=True)):
        yield _check("calibration", model, own, DEGREE, rng)
        if place:
            yield _check("deferred", model, own.take(own.deferred), DEFERRED_DEGREE, rng)


def _check(check: str, model: str, labels: Labels, degree: int, rng: np.random.Generator) -> Finding:
    right = labels.prob.sum(axis=1).mean()
    wrong = (1.0 - labels.prob).sum(axis=1).mean()
    if min(right, wrong) < MIN_EXPECTED:
        return not_asked(
            check,
            model,
            f"{min(right, wrong):.1f} right or wrong answers expected, fewer than {MIN_EXPECTED:g}",
        )
    columns = orthonormal(rank_polynomials(labels.z, degree))
    replicated = rng.binomial(1, labels.prob).mean(axis=1)
    low, high = np.quantile(replicated, [0.05, 0.95])
    observed, predicted = labels.correct.mean(), labels.prob.mean()
    return tested(
        check,
        model,
        score_test(labels.correct, labels.prob, columns),
        f"right on {observed:.3f} of {len(labels.correct)} queries, predicted {predicted:.3f} "
        f"({low:.3f} to {high:.3f})",
        {
            "observed": observed,
            "predicted": predicted,
            "predicted_q05": low,
            "predicted_q95": high,
            "num_queries": len(labels.correct),
        },
    )
