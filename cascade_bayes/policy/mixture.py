r"""Two policies between which queries are divided at random, where that does better than one.

Which of the two a query gets is decided by the toss of a coin, with the share w of the second. On every draw
error and expense of the mixture are then those of the two, averaged:

.. math:: (1 - w)\, \mathrm{error}_1 + w\, \mathrm{error}_2 , \qquad
    (1 - w)\, \mathrm{expense}_1 + w\, \mathrm{expense}_2 ,

so that mixtures reach every point of the convex hull of what policies do. A policy that answers a budget or a
target may lie above that hull.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes._shown import shown
from cascade_bayes.policy.policy import Policy
from cascade_bayes.policy.request import Request
from cascade_bayes.policy.shown import mixture_card

WORTH_SAYING = 1e-3
"""Gain, relative to what a single policy reaches, below which a mixture is not worth its coin."""


class Share(NamedTuple):
    """Which two of many policies to mix.

    Attributes
    ----------
    first, second
        Their indices; the first keeps the limit by itself.
    share
        Share of the queries that get the second, between 0 and 1.
    value
        Posterior mean of the figure that is to be least.
    """

    first: int
    second: int
    share: float
    value: float


@shown(mixture_card)
@dataclass(frozen=True, eq=False)
class Mixture:
    """Two policies that, mixed at random, answer a question better than any single policy that was found.

    Attributes
    ----------
    policies
        The two; the first keeps the limit by itself.
    share
        Probability with which a query is given to the second.
    error, expense
        Posterior means of what the mixture does: share of wrong answers, US dollars per query.
    figure
        Which of the two is less than that of the single policy: ``"error"`` or ``"expense"``.
    gain
        How much less it is.
    """

    policies: tuple[Policy, Policy]
    share: float
    error: float
    expense: float
    figure: str
    gain: float

    def sentence(self) -> str:
        """Say what to mix, and what it gains."""
        first, second = (_name(policy) for policy in self.policies)
        unit = self.policies[0].units.cost
        if self.figure == "error":
            reached = f"an expected error of {self.error:.4g} ({-self.gain:+.2g})"
        else:
            reached = f"an expected expense of {self.expense:.4g} {unit} per query ({-self.gain:+.2g})"
        return (
            f"Mixing two policies at random would do better: {self.share:.1%} of the queries to {second}, "
            f"the others to {first}, reach {reached} within the same limit."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the mixture as JSON-able values."""
        policies = []
        for policy in self.policies:
            record = policy.to_dict()
            policies.append({name: record[name] for name in ("models", "thresholds", "abstain_thresholds")})
        return {
            "policies": policies,
            "share_of_second": self.share,
            "expected_error": self.error,
            "expected_expense": self.expense,
            "gain": {self.figure: self.gain},
            "sentence": self.sentence(),
        }


def _name(policy: Policy) -> str:
    models = " > ".join(policy.models)
    if not len(policy.thresholds):
        return models
    below = ", ".join(f"{threshold:.4g}" for threshold in policy.thresholds)
    return f"{models} (defer below {below})"


def best_share(request: Request, limited: np.ndarray, other: np.ndarray) -> Share | None:
    """Return which two policies to mix, and how, for the least mean within a limit.

    Parameters
    ----------
    request
        The limit.
    limited, other
        Draws of the figure that is limited and of the other, ``(num_policies, num_draws)`` both.

    Returns
    -------
    Share or None
        None if no policy keeps the limit by itself, or none that does not would make one better.
    """
    mean, holds = other.mean(axis=1), request.needed(limited) <= request.limit
    best = None
    for first in np.flatnonzero(holds):
        start = limited[first]
        for second in np.flatnonzero(~holds & (mean < mean[first])):
            rise = limited[second] - start
            # Up to which share each draw keeps the limit; one that does not at first is not counted on.
            upto = np.where(rise > 0, (request.limit - start) / np.where(rise > 0, rise, 1.0), 1.0)
            upto = np.where(start <= request.limit, upto, -np.inf)
            share = float(np.clip(-request.needed(-upto), 0.0, 1.0))
            value = float((1 - share) * mean[first] + share * mean[second])
            if best is None or value < best.value:
                best = Share(int(first), int(second), share, value)
    return best
