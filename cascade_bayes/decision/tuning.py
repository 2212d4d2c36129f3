"""Thresholds over a sweep of error prices: of one cascade, or of whichever models are best."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes.decision.envelope import Envelope, find_envelope
from cascade_bayes.decision.frontier import DEFAULT_DRAWS, DEFAULT_PRICES, Frontier, tune_cascade
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.errors import ConvergenceWarning, InputError
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.terms import Terms


@overload
def error_cost_frontier(  # type: ignore[overload-overlap]  # a str is a sequence of str too
    posterior: Posterior,
    *,
    models: Literal["any"] = ...,
    error_prices: Sequence[float] | np.ndarray | int = ...,
    num_draws: int = ...,
    num_cells: int | None = ...,
    prior_queries: float = ...,
    latency_price: float = ...,
    abstain_price: float | None = ...,
    abstain: Literal["early", "final"] = ...,
    constant_costs: bool = ...,
) -> Envelope: ...


@overload
def error_cost_frontier(
    posterior: Posterior,
    *,
    models: Literal["all"] | Sequence[str],
    error_prices: Sequence[float] | np.ndarray | int = ...,
    num_draws: int = ...,
    num_cells: int | None = ...,
    prior_queries: float = ...,
    latency_price: float = ...,
    abstain_price: float | None = ...,
    abstain: Literal["early", "final"] = ...,
    constant_costs: bool = ...,
) -> Frontier: ...


@in_64_bits
def error_cost_frontier(
    posterior: Posterior,
    *,
    models: Sequence[str] | str = "any",
    error_prices: Sequence[float] | np.ndarray | int = DEFAULT_PRICES,
    num_draws: int = DEFAULT_DRAWS,
    num_cells: int | None = None,
    prior_queries: float = PRIOR_QUERIES,
    latency_price: float = 0.0,
    abstain_price: float | None = None,
    abstain: Literal["early", "final"] = "early",
    constant_costs: bool = False,
) -> Frontier | Envelope:
    """Optimise the thresholds over a sweep of error prices.

    Parameters
    ----------
    posterior
        The fit.
    models
        ``"any"``, the default: every ordered subset of the fit's models is tried, each model alone too, and
        the best is taken at each price. ``"all"``: one cascade of all models. A list of names in cascade
        order: one cascade of these.
    error_prices
        Positive prices, US dollars per wrong answer, or how many to space between the price at which
        the cheapest policy is best and that at which the dearest is (see `price_range`).
    num_draws
        Posterior draws to average over, evenly spaced.
    num_cells
        Cells of the grid per model; if None, `cells_for` as many atoms as there are.
    prior_queries
        How many queries the model counts for beside the observed ones, inf for the model alone
        (`cascade_bayes.engine.rows`).
    latency_price
        US dollars per second that a query waits; the table must have ``latency_ms``.
    abstain_price
        US dollars per query that is left without an answer; None to answer every query. It is then neither
        right nor wrong.
    abstain
        ``"early"``: every model may leave a query without an answer, below a threshold of its own;
        ``"final"``: only the last.
    constant_costs
        Take the cost of a model's calls for the same whichever queries are deferred to it.

    Returns
    -------
    Frontier or Envelope
        One point a price, ascending; an `Envelope` if any models will do. A model that would be paid for and
        never answer is left out of the point's policy.

    Raises
    ------
    InputError
        For models that are not in the posterior, prices that are not positive, a negative ``prior_queries``,
        or a price of latency that the table does not know.

    Warns
    -----
    ConvergenceWarning
        If the fit was rejected (`Posterior.convergence`): what is predicted from it may be wrong.
    """
    need(posterior, Posterior, "posterior", FROM_FIT)
    how: Any = {"num_draws": num_draws, "num_cells": num_cells, "prior_queries": prior_queries}
    how["terms"] = Terms(
        latency_price=latency_price,
        abstain_price=abstain_price,
        abstain=abstain,
        constant_costs=constant_costs,
    )
    _warn_if_rejected(posterior)
    if models == "any":
        return find_envelope(posterior, error_prices, **how)
    if models is None or (isinstance(models, str) and models != "all"):
        raise InputError(
            f'models must be "any", "all" or a list of names in cascade order; got {models!r}. Known: '
            f"{', '.join(posterior.models)}."
        )
    return tune_cascade(posterior, None if models == "all" else models, error_prices, **how)


def _warn_if_rejected(posterior: Posterior) -> None:
    if not posterior.fit_verdict.trusted:
        warnings.warn(
            f"The fit was rejected, and thresholds are tuned on it all the same. "
            f"{posterior.fit_verdict.sentence}",
            ConvergenceWarning,
            stacklevel=4,  # past `in_64_bits`, to the line that asks
        )
