"""Goodness of fit of margins and copulas, and of the Markov assumption, right with atoms.

Every test is of randomised conditional probabilities at posterior draws (`residuals`), by Neyman's smooth
statistic (`statistics`).

* A margin: are its probabilities uniform, by polynomials to degree 4.
* A copula: are those of the later model given the earlier one uniform, and is none of their first three
  polynomials related to the rank of the earlier confidence, to degree 2.
* The Markov assumption, for three consecutive models: are those of the third given the second related to the
  confidence of the first, beyond that of the second; ranks, to degree 2.

The tests of pairs stay right where a later model was asked or not depending on what came before, as in the
log of a running cascade; those of margins do not, and are left out there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.inference.checks.residuals import margin_residuals, pair_residuals
from cascade_bayes.inference.checks.result import Finding, not_asked, tested
from cascade_bayes.inference.checks.statistics import (
    MIN_COUNT,
    legendre,
    orthonormal,
    rank_polynomials,
    smooth_test,
)
from cascade_bayes.inference.posterior import Posterior

MARGIN_DEGREE = 4
PAIR_DEGREES = (2, 3)
"""Degrees of the polynomials of the earlier model's rank, and of the later one's probability."""
MARKOV_DEGREES = (2, 2)
GIVEN_DEGREE = 4
"""Degree of the polynomials of the model between, beyond which the first one's are taken."""


def check_margins(key: jax.Array, posterior: Posterior, num_draws: int) -> Iterator[Finding]:
    """Test every model's margin."""
    data = posterior.data
    z, observed = data.logit_score(), data.observed
    margins = posterior.params(num_draws).margins
    some = observed.any(axis=1)
    for i, (model, own) in enumerate(zip(data.models, jax.random.split(key, data.num_models), strict=True)):
        rows = observed[:, i]
        if posterior.spec.structure == "chain" and not rows[some].all():
            yield not_asked(
                "margins", model, "it was asked some of the queries only, which need not be a random sample"
            )
        elif rows.sum() < MIN_COUNT:
            yield not_asked("margins", model, f"{rows.sum()} confidences are fewer than {MIN_COUNT}")
        else:
            margin = jax.tree.map(lambda field, i=i: field[:, i], margins)
            w = np.asarray(margin_residuals(own, margin, jnp.asarray(z[rows, i])))
            basis = orthonormal(np.ones((w.shape[1], 1)))
            distance = kolmogorov(w)
            yield tested(
                "margins",
                model,
                smooth_test(w, basis, MARGIN_DEGREE),
                f"distance of the fitted distribution from the confidences' {distance:.3f}",
                {"distance": distance},
            )


def check_pairs(key: jax.Array, posterior: Posterior, num_draws: int) -> Iterator[Finding]:
    """Test every pair's copula, and the Markov assumption for consecutive models."""
    data, spec = posterior.data, posterior.spec
    z = data.logit_score()
    neighbours = set(itertools.pairwise(range(data.num_models)))
    for pair, family, own in zip(
        spec.pairs, spec.copulas, jax.random.split(key, len(spec.pairs)), strict=True
    ):
        earlier, later = pair
        subject = f"{data.models[earlier]} > {data.models[later]}"
        rows = data.observed[:, pair].all(axis=1)
        if rows.sum() < MIN_COUNT:
            yield not_asked("copulas", subject, f"{rows.sum()} queries with both are fewer than {MIN_COUNT}")
            continue
        chain = posterior.sub_cascade(pair, num_draws)
        at = list(pair) if spec.structure == "chain" else [0, 1]
        margins = jax.tree.map(lambda field, at=at: field[:, np.asarray(at)], chain.params.margins)
        values = jnp.asarray(z[rows][:, pair].T)
        w = np.asarray(pair_residuals(own, family, margins, chain.params.theta[:, at[0]], values))
        before = z[rows, earlier]
        left = partial_correlation(before, np.ones((len(before), 1)), w)
        yield tested(
            "copulas",
            subject,
            smooth_test(w, orthonormal(rank_polynomials(before, PAIR_DEGREES[0])), PAIR_DEGREES[1]),
            f"rank correlation that the copula leaves over {left:+.3f}",
            {"correlation_left": left},
        )
        if pair in neighbours and earlier > 0:
            first = data.observed[rows, earlier - 1]
            yield _check_markov(data.models, pair, z[rows, earlier - 1][first], before[first], w[:, first])


def _check_markov(
    models: tuple[str, ...], pair: tuple[int, int], first: np.ndarray, between: np.ndarray, w: np.ndarray
) -> Finding:
    """Test whether probabilities given the model between, ``(num_draws, n)``, hang on the model before it."""
    names = models[pair[0] - 1], *(models[m] for m in pair)
    subject = " > ".join(names)
    if len(first) < MIN_COUNT:
        return not_asked("markov", subject, f"{len(first)} queries with all three are fewer than {MIN_COUNT}")
    given = rank_polynomials(between, GIVEN_DEGREE)
    basis = orthonormal(rank_polynomials(first, MARKOV_DEGREES[0])[:, 1:], given)
    if not basis.shape[1]:
        return not_asked("markov", subject, f"the confidence of {names[0]} follows from that of {names[1]}")
    left = partial_correlation(first, given, w)
    return tested(
        "markov",
        subject,
        smooth_test(w, basis, MARKOV_DEGREES[1]),
        f"partial rank correlation of {names[0]} with {names[2]} {left:+.3f}",
        {"partial_correlation": left},
    )


def kolmogorov(w: np.ndarray) -> float:
    """Return the largest distance of values ``(num_draws, n)`` from uniform, averaged over draws."""
    ordered, n = np.sort(w, axis=1), w.shape[1]
    above = np.arange(1, n + 1) / n - ordered
    return float(np.maximum(above, ordered - np.arange(n) / n).max(axis=1).mean())


def partial_correlation(x: np.ndarray, given: np.ndarray, w: np.ndarray) -> float:
    """Return the correlation of uniform values ``(num_draws, n)`` with ranks of x beyond given columns.

    It is 0 where nothing of x is left beyond them.
    """
    rank = rank_polynomials(x, 1)[:, 1:]
    direction = orthonormal(rank, given)
    if not direction.shape[1]:
        return 0.0
    direction = direction * np.sign(direction.T @ rank)
    return float(np.mean(legendre(w, 1)[..., 1] @ direction) / np.sqrt(len(x)))
