"""What is watched of each model of a cascade: its confidences, deferrals, costs, latencies and labels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade_bayes.data import CascadeData
from cascade_bayes.policy.policy import Policy
from cascade_bayes.rule import follow
from cascade_bayes.watching.martingale import NUM_BETS, bet, bin_of, edges_of, payoff, rank, start_capital

FIGURES = ("confidence", "deferral", "cost", "latency", "accuracy")
"""What is watched of a model."""

LEAST_VALUES = 10
"""Values of a table below which nothing is watched: nothing could be told from them."""

ENOUGH = 1e100
"""Capital with which a gambler stops: the alarm was raised long ago, and greater numbers would overflow."""


def _zeros() -> np.ndarray:
    return np.zeros(NUM_BETS)


@dataclass
class Stream:
    """One figure of one model: the table's values, the new ones so far, and the capital won against them.

    Attributes
    ----------
    model, figure
        Whose, and which of `FIGURES`.
    edge_values, edge_ties
        Edges of the bins, ``(num_bins - 1,)``.
    counts
        Gaps of the table and new values by bin, ``(num_bins,)``.
    table_mean
        Mean of the table's values; NaN where one is infinite.
    capital
        ``(jumps, bets)``.
    num_new
        New values so far.
    highest
        Logarithm of the greatest capital so far.
    rise
        Logarithm of what each bet has won since it last had nothing, ``(bets,)``: a sum (Page 1954)
        whose last beginning is about when a change began.
    since, since_query
        New values, and queries, at that beginning, ``(bets,)``.
    after, after_rank
        Sum of new values, and of their ranks, since, ``(bets,)``.
    """

    model: str
    figure: str
    edge_values: np.ndarray
    edge_ties: np.ndarray
    counts: np.ndarray
    table_mean: float
    capital: np.ndarray = field(default_factory=start_capital)
    num_new: int = 0
    highest: float = 0.0
    rise: np.ndarray = field(default_factory=_zeros)
    since: np.ndarray = field(default_factory=_zeros)
    since_query: np.ndarray = field(default_factory=_zeros)
    after: np.ndarray = field(default_factory=_zeros)
    after_rank: np.ndarray = field(default_factory=_zeros)

    @property
    def best(self) -> int:
        """The bet that has won most since it last had nothing."""
        return int(np.argmax(self.rise))

    @property
    def log_capital(self) -> float:
        """Natural logarithm of the capital."""
        return math.log(self.capital.sum())

    def add(self, value: float, query: str, num_queries: int, *, alarmed: bool = False) -> None:
        """Bet on one more value.

        Parameters
        ----------
        value
            The value.
        query
            The query's name: random numbers are made of it, so that reading a log twice says the same.
        num_queries
            Queries so far.
        alarmed
            Whether the alarm has been raised; then it stays known when the change began.
        """
        tie, u = _uniforms(query, self.model, self.figure)
        place = bin_of(self.edge_values, self.edge_ties, value, tie)
        p = float(rank(self.counts, np.asarray(place), np.asarray(u)))
        self.counts[place] += 1
        if self.capital.sum() < ENOUGH:
            self.capital = bet(self.capital, np.asarray(p))
        self.num_new += 1
        self.highest = max(self.highest, self.log_capital)
        self.rise += np.log(payoff(np.asarray(p)))
        self.after += value if math.isfinite(value) else 0.0  # of confidences ranks alone are told
        self.after_rank += p
        ended = (self.rise <= 0) & (not alarmed)
        self.rise[ended] = self.after[ended] = self.after_rank[ended] = 0.0
        self.since[ended], self.since_query[ended] = self.num_new, num_queries

    def to_dict(self) -> dict[str, Any]:
        """Return what the state file holds of the stream: what a table does not say again."""
        record: dict[str, Any] = {name: getattr(self, name).tolist() for name in _KEPT}
        return {**record, "num_new": self.num_new, "highest": self.highest}

    def restore(self, record: dict[str, Any]) -> None:
        """Take up what a state file holds.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something of it is missing, or has another form.
        """
        for name in _KEPT:
            value = np.asarray(record[name], dtype=float)
            if value.shape != getattr(self, name).shape or not np.isfinite(value).all():
                raise ValueError(f"{name} has another form")
            setattr(self, name, value)
        self.num_new, self.highest = int(record["num_new"]), float(record["highest"])


_KEPT = ("counts", "capital", "rise", "since", "since_query", "after", "after_rank")
"""Arrays of a stream that a state file holds."""


def _uniforms(query: str, model: str, figure: str) -> tuple[float, float]:
    """Return two uniform random numbers that a query, a model and a figure always have."""
    digest = hashlib.blake2b(f"{query}\0{model}\0{figure}".encode(), digest_size=16).digest()
    first, second = ((int.from_bytes(part, "big") + 0.5) / 2**64 for part in (digest[:8], digest[8:]))
    return first, second


def make_streams(data: CascadeData, policy: Policy) -> dict[tuple[str, str], Stream]:
    """Return a stream for each figure of each model of which the fitted table has values enough.

    Of a later model the queries of the table count that the policy sends there, as it does new ones.

    Parameters
    ----------
    data
        The fitted table, the models of the policy in its order.
    policy
        The policy that is running.
    """
    stop = follow(data.confidence, policy.thresholds, policy.abstain_thresholds).stop
    rng = np.random.default_rng(0)
    found = {}
    for i, model in enumerate(data.models):
        called = stop >= i
        values = {"confidence": data.confidence[:, i], "cost": data.cost[:, i]}
        if i < data.num_models - 1:
            values["deferral"] = np.where(np.isnan(data.confidence[:, i]), np.nan, stop > i)
        if data.latency_ms is not None:
            values["latency"] = data.latency_ms[:, i]
        values["accuracy"] = np.where(data.labelled[:, i], data.correct[:, i], np.nan)
        for figure, column in values.items():
            known = column[called & ~np.isnan(column)].astype(float)
            if len(known) < LEAST_VALUES:
                continue
            edges, ties, gaps = edges_of(known, rng.random(len(known)))
            mean = float(known.mean()) if np.isfinite(known).all() else math.nan
            found[model, figure] = Stream(model, figure, edges, ties, gaps.astype(float), mean)
    return found
