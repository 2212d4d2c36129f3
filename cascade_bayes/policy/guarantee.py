r"""A promise about errors that trusts no model: policies tested on a hold-out table in a fixed order.

Whatever the fit is worth, the hold-out queries are a random sample of those to come, so that the number of
wrong answers :math:`k` of a policy among :math:`n` of them is binomial. Where its error were above the target
:math:`\alpha`, so few would be seen with a probability of at most

.. math:: p = P(\mathrm{Bin}(n, \alpha) \le k).

The policies are put in an order that looks at no hold-out label: by predicted error, the safest first. Each
is tested in turn, and passes while :math:`p \le \delta`; the first that fails ends the tests. A policy whose
error is above the target is passed with a probability of at most :math:`\delta` altogether, because the first
of them in the order must be passed for any to be, and that is one test (fixed-sequence testing; "learn then
test"). Of those that passed, the one of least predicted expense is recommended.

An error is what `cascade_bayes.Policy.evaluate` counts: a wrong answer. A query that is left without one is
none. What is not known of a query counts against the policy, so that gaps cannot make the promise hollow: a
policy that stops at an answer without a label, or asks a model that was not called in the log that the table
is, is taken to be wrong there, at the greatest cost.

The bound of the mean cost is by betting against each of its values: a gambler who knows the costs so far
stakes on the next one being below; by Ville's inequality capital of :math:`1/\delta` is had with a
probability of at most :math:`\delta` if the value is true. Since the hold-out table chose the policy, every
tested policy's bound gets its part of :math:`\delta`.

Sources: Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then test" (arXiv 2110.01052), section 2; for
the bets Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024),
section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._files import encode
from cascade_bayes._shown import Card, number, shown
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InfeasibleError, InputError
from cascade_bayes.policy.mean_bound import upper_mean
from cascade_bayes.policy.policy import Policy
from cascade_bayes.rule import follow

MOST_LABELS = 10_000_000
"""More labelled queries than anybody judges: a target that takes more is out of reach."""


class Losses(NamedTuple):
    """What a policy does on each query of a hold-out table.

    Attributes
    ----------
    wrong
        Whether the answer is wrong or not known to be right, ``(num_queries,)``.
    cost
        Cost of all calls, the greatest where it is not known, ``(num_queries,)``.
    unknown
        Where the label, a call or a confidence that the policy needs is not in the table, ``(num_queries,)``.
    abstained
        Which queries are left without an answer, ``(num_queries,)``.
    """

    wrong: NDArray[np.bool_]
    cost: NDArray[np.float64]
    unknown: NDArray[np.bool_]
    abstained: NDArray[np.bool_]


def _card(found: Guarantee) -> Card:
    rows = [
        (
            number(row["error_price"]),
            " > ".join(row["models"]),
            number(100 * row["error"]),
            number(row["p_value"]),
            "yes" if row["certified"] else "no",
        )
        for row in found.tested
    ]
    columns = ("price of an error", "models", "wrong, %", "p-value", "certified")
    return Card("Policies in the order of their tests", columns, rows, (found.sentence(),))


@shown(_card)
@dataclass(frozen=True, eq=False)
class Guarantee:
    """A policy whose error is certified by a hold-out table, and all tests that led to it.

    Attributes
    ----------
    policy
        The certified policy of least predicted expense.
    target_error
        What its error is at most.
    delta
        Probability, over the draw of the hold-out table, that an error above the target is certified; and
        the same for the bound of the cost.
    error
        Share of wrong answers on the hold-out table; those that are not known count.
    abstain
        Share of the hold-out queries that are left without an answer, which is no error.
    p_value
        The policy's own.
    cost
        Mean cost per query on the hold-out table.
    cost_bound
        What its mean cost is at most with probability ``1 - delta``.
    max_cost
        What no query is taken to cost more than, on which the bound of the mean rests.
    num_queries
        Queries of the hold-out table that have a label.
    num_left_out
        Queries without any label, which are left out.
    num_unknown
        Queries that count against the policy because the table does not say what becomes of them.
    tested
        A record for each test in order: ``error_price``, ``models``, ``thresholds``, ``abstain_thresholds``,
        ``error``, ``cost``, ``p_value``, ``certified``.
    """

    policy: Policy
    target_error: float
    delta: float
    error: float
    abstain: float
    p_value: float
    cost: float
    cost_bound: float
    max_cost: float
    num_queries: int
    num_left_out: int
    num_unknown: int
    tested: tuple[dict[str, Any], ...]

    def sentence(self) -> str:
        """Say what is promised, and on what it rests."""
        unit = self.policy.units.cost
        said = (
            f"With a probability of {1 - self.delta:g} over the draw of these {self.num_queries} queries, "
            f"the cascade {' > '.join(self.policy.models)} (price of an error "
            f"{self.policy.error_price:.4g} {unit}) is wrong on at most {100 * self.target_error:g} % of "
            f"queries like them, whatever the model is worth; it was wrong on {100 * self.error:.3g} %. With "
            f"the same probability it costs at most {self.cost_bound:.4g} {unit} per query (here "
            f"{self.cost:.4g}), if no query costs more than {self.max_cost:.4g}."
        )
        if self.policy.abstain_thresholds is not None:
            said += f" It leaves {100 * self.abstain:.3g} % of queries without an answer, which is no error."
        if self.num_unknown:
            said += (
                f" {self.num_unknown} queries of which the table does not say what becomes count as wrong."
            )
        if self.num_left_out:
            said += f" {self.num_left_out} queries without any label are left out."
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-able values."""
        names = ("target_error", "delta", "error", "abstain", "p_value", "cost", "cost_bound", "max_cost")
        counts = ("num_queries", "num_left_out", "num_unknown")
        record = {name: getattr(self, name) for name in (*names, *counts)}
        chosen = {"models": list(self.policy.models), "error_price": self.policy.error_price}
        return chosen | record | {"sentence": self.sentence(), "tested": list(self.tested)}


def guarantee(
    policies: Sequence[Policy],
    holdout: Any,
    *,
    target_error: float,
    delta: float = 0.05,
    max_cost: float | None = None,
) -> Guarantee:
    """Return the cheapest policy whose error a hold-out table certifies, whatever the model is worth.

    Parameters
    ----------
    policies
        Those of a frontier, whose predictions the hold-out table had no part in.
    holdout
        Labelled queries that are a random sample of those to come and that were not fitted: `CascadeData`, or
        anything `cascade_bayes.read_table` reads.
    target_error
        What the share of wrong answers is to be at most, between 0 and 1.
    delta
        Probability with which the promise may fail, between 0 and 1.
    max_cost
        What a query costs at most, in the unit of the policies' costs. By default the sum of the greatest
        costs of a call of each model in the table, which the table cannot vouch for.

    Raises
    ------
    InputError
        If there is no policy or no label, a number is out of range, or a query costs more than ``max_cost``.
    InfeasibleError
        If no policy can be certified; names what could be, and how many labels it would about take.
    """
    for name, value in (("target_error", target_error), ("delta", delta)):
        if not 0 < value < 1:
            raise InputError(f"{name} must lie between 0 and 1; got {value!r}. Give for example 0.05.")
    if not policies:
        raise InputError("policies must hold at least one policy; got none. Take those of a frontier.")
    data = _table_for(policies, holdout)
    labelled = data.labelled.any(axis=1)
    if not labelled.any():
        raise InputError("the hold-out table has no labels: add a column 'correct' with some of them.")
    num_left_out = int((~labelled).sum())
    data = data.take(np.flatnonzero(labelled))
    greatest = _max_cost(data, max_cost)
    ordered = _in_order(policies)
    found = [losses(data.select(policy.models), policy, greatest) for policy in ordered]
    p_values = [binomial_p_value(int(each.wrong.sum()), data.num_queries, target_error) for each in found]
    passed = num_passed(p_values, delta)
    tested = tuple(
        _record(policy, each, p_value, i < passed)
        for i, (policy, each, p_value) in enumerate(zip(ordered, found, p_values, strict=True))
        if i <= passed
    )
    if not passed:
        raise _infeasible(ordered[0], int(found[0].wrong.sum()), data.num_queries, target_error, delta)
    best = min(range(passed), key=lambda i: ordered[i].prediction.expense)
    bound = greatest * upper_mean(found[best].cost / greatest, delta / len(ordered)) if greatest else 0.0
    return Guarantee(
        policy=ordered[best],
        target_error=target_error,
        delta=delta,
        error=float(found[best].wrong.mean()),
        abstain=float(found[best].abstained.mean()),
        p_value=p_values[best],
        cost=float(found[best].cost.mean()),
        cost_bound=bound,
        max_cost=greatest,
        num_queries=data.num_queries,
        num_left_out=num_left_out,
        num_unknown=int(found[best].unknown.sum()),
        tested=tested,
    )


def _table_for(policies: Sequence[Policy], holdout: Any) -> CascadeData:
    """Return the hold-out table with all models of some policies, on their scale."""
    models = list(dict.fromkeys(name for policy in policies for name in policy.models))
    if isinstance(holdout, CascadeData):
        for policy in policies:
            policy.select(holdout)  # which says what does not fit
        return holdout.select(models)
    from cascade_bayes.reading import AsFitted, read_for_policy

    cost = {name: c for p in policies for name, c in zip(p.models, p.call_cost.tolist(), strict=True)}
    return read_for_policy(holdout, models, AsFitted(policies[0].kind, policies[0].units, cost))


def _max_cost(data: CascadeData, given: float | None) -> float:
    """Return what no query is taken to cost more than."""
    total = float(np.nansum(np.where(np.isnan(data.cost).all(axis=0), 0.0, _column_max(data.cost))))
    if given is None:
        return total
    most = float(np.nansum(data.cost, axis=1).max())
    if not (math.isfinite(given) and given > 0):
        raise InputError(f"max_cost must be a positive number; got {given!r}. Leave it out if in doubt.")
    if most > given:
        raise InputError(
            f"max_cost must be what no query costs more than; got {given!r}, and one query of the hold-out "
            f"table costs {most:.6g} with all its calls. Raise it."
        )
    return given


def _column_max(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.max(np.where(np.isnan(cost), 0.0, cost), axis=0)


def _in_order(policies: Sequence[Policy]) -> list[Policy]:
    """Return distinct policies by predicted error, the safest first; no hold-out label is looked at."""
    distinct: dict[Any, Policy] = {}
    for policy in policies:
        low = policy.abstain_thresholds
        key = (policy.models, policy.thresholds.tobytes(), None if low is None else low.tobytes())
        distinct.setdefault(key, policy)
    return sorted(distinct.values(), key=lambda policy: (policy.prediction.error, policy.prediction.expense))


def losses(data: CascadeData, policy: Policy, max_cost: float) -> Losses:
    """Return what a policy does on each query; what is not known counts against it.

    Parameters
    ----------
    data
        The table, its models in the policy's order.
    policy
        The policy.
    max_cost
        Cost of a query whose calls are not all in the table.
    """
    stop, left, missing = follow(data.confidence, policy.thresholds, policy.abstain_thresholds)
    rows = np.arange(data.num_queries)
    called = np.arange(data.num_models)[None, :] <= stop[:, None]
    unseen = np.any(called & np.isnan(data.cost), axis=1)
    unknown = unseen | missing[:, -1] | (~left & ~data.labelled[rows, stop])
    wrong = unknown | (~left & ~data.correct[rows, stop])
    cost = np.where(unseen, max_cost, np.sum(np.where(called, np.nan_to_num(data.cost), 0.0), axis=1))
    return Losses(wrong, cost, unknown, left & ~unknown)


def binomial_p_value(num_wrong: int, num_queries: int, target_error: float) -> float:
    """Return the probability of so few wrong answers, or fewer, if the error were the target.

    Examples
    --------
    >>> round(binomial_p_value(0, 10, 0.1), 6)  # 0.9 ** 10
    0.348678
    """
    from scipy.special import bdtr

    return float(bdtr(num_wrong, num_queries, target_error))


def num_passed(p_values: Sequence[float], delta: float) -> int:
    """Return how many policies pass their tests in a fixed order, up to the first that fails.

    Examples
    --------
    >>> num_passed([0.001, 0.04, 0.06, 0.01], 0.05)
    2
    """
    failed = np.flatnonzero(np.asarray(p_values) > delta)
    return int(failed[0]) if failed.size else len(p_values)


def _record(policy: Policy, found: Losses, p_value: float, certified: bool) -> dict[str, Any]:
    low = policy.abstain_thresholds
    return {
        "error_price": policy.error_price,
        "models": list(policy.models),
        "thresholds": [encode(t) for t in policy.thresholds],
        "abstain_thresholds": None if low is None else [encode(t) for t in low],
        "error": float(found.wrong.mean()),
        "cost": float(found.cost.mean()),
        "p_value": p_value,
        "certified": certified,
    }


def labels_needed(error: float, target_error: float, delta: float) -> int | None:
    """Return about how many labels certify a target; None if none do, or more than `MOST_LABELS`.

    With so many queries, of which a share of ``error`` is wrong, the test passes; a hold-out table of this
    size passes it about every other time.

    Parameters
    ----------
    error
        The policy's error.
    target_error, delta
        The same parameters as for `guarantee`.

    Examples
    --------
    >>> labels_needed(0.0, 0.05, 0.05)  # 0.95 ** 59 is below 0.05
    59
    """

    def passes(count: int) -> bool:
        return binomial_p_value(math.ceil(error * count), count, target_error) <= delta

    if error >= target_error:
        return None
    high = 1
    while not passes(high):
        high *= 2
        if high > MOST_LABELS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _infeasible(
    safest: Policy, num_wrong: int, num_queries: int, target_error: float, delta: float
) -> InfeasibleError:
    """Return the error that says what could be certified, and how many labels the target would take."""
    from scipy.special import betaincinv

    bound = (
        1.0
        if num_wrong == num_queries
        else float(betaincinv(num_wrong + 1, num_queries - num_wrong, 1 - delta))
    )
    error = num_wrong / num_queries
    needed = labels_needed(error, target_error, delta)
    remedy = (
        f"with an error like that, about {needed:,} labelled queries would certify the target."
        if needed is not None
        else f"if its error is that high, no number of labels certifies the target: ask for at least "
        f"{bound:.4g}, or add a better model."
    )
    return InfeasibleError(
        f"no policy of the frontier can be certified to have P(error <= {target_error:g}) >= {1 - delta:g} "
        f"by these {num_queries} labelled queries; the safest, {' > '.join(safest.models)}, was wrong on "
        f"{100 * error:.3g} % of them, which certifies {bound:.4g} (error probability); {remedy}"
    )
