"""Checks of a fit: whether its draws, its model and its predictions can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._numbers import check_seed, check_whole
from cascade_bayes.errors import InputError
from cascade_bayes.inference.checks.calibration import ThresholdPolicy, check_calibration, labels_of_members
from cascade_bayes.inference.checks.goodness import check_margins, check_pairs
from cascade_bayes.inference.checks.replicates import check_replicates
from cascade_bayes.inference.checks.result import ABOUT, ADVICE, CheckResult, Finding
from cascade_bayes.inference.checks.sampling import check_sampling
from cascade_bayes.inference.effort import MAX_LOOKED_AT, with_random_subset

if TYPE_CHECKING:
    from cascade_bayes.inference.posterior import Posterior

__all__ = ["ABOUT", "ADVICE", "CheckResult", "Finding", "check"]


@in_64_bits
def check(
    posterior: Posterior,
    policy: ThresholdPolicy | None = None,
    *,
    level: float = 0.01,
    num_draws: int = 200,
    seed: int = 0,
    max_queries: int | None = MAX_LOOKED_AT,
) -> CheckResult:
    """Ask of a fit whether its draws, its model and its predictions can be trusted.

    The questions are those of `ABOUT`: the sampler's diagnostics; fit of every margin and every copula,
    atoms or not; the Markov assumption; calibration by model, and among deferred queries; posterior
    predictive replicates. A right model fails any of the tests with a probability of at most ``level``.

    Parameters
    ----------
    posterior
        The fit.
    policy
        Whose deferred queries are looked at; None for those below the median of the model before.
    level
        Family-wise level of all tests together.
    num_draws
        Posterior draws at which the tests are made.
    seed
        Seed of values drawn at atoms, of replicates, and of the choice of queries.
    max_queries
        How many random queries to look at if the table has more; all if None.

    Returns
    -------
    CheckResult
        The result, with a verdict in words, a row a question, and all figures.

    Raises
    ------
    InputError
        If the level does not lie between 0 and 1, there are fewer than two draws or no queries, or the policy
        has a model that the fit has not.
    """
    from cascade_bayes.inference.posterior import FROM_FIT, Posterior

    need(posterior, Posterior, "posterior", FROM_FIT)
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level!r}.")
    check_whole("num_draws", num_draws, low=2)
    check_seed(seed)
    posterior = with_random_subset(posterior, max_queries, seed)
    models = posterior.models if policy is None else tuple(policy.models)
    unknown = [name for name in models if name not in posterior.models]
    if unknown:
        raise InputError(
            f"the policy has model {unknown[0]!r}, which the posterior has not; it has "
            f"{', '.join(posterior.models)}. Check a policy against the fit that it was tuned on."
        )
    key_margins, key_pairs, key_replicates = jax.random.split(jax.random.key(seed), 3)
    members = [posterior.models.index(name) for name in models]
    labels = labels_of_members(posterior, members, policy, num_draws)
    findings = [
        *check_sampling(posterior),
        *check_margins(key_margins, posterior, num_draws),
        *check_pairs(key_pairs, posterior, num_draws),
        *check_calibration(models, labels, seed),
        *check_replicates(key_replicates, posterior, num_draws),
    ]
    return CheckResult.judge(findings, level)
