"""What a fit of a long table will take, said before it begins; and a subset that takes less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.model.names import Structure
from cascade_bayes.model.observations import which_have_gaps
from cascade_bayes.model.strata import MAX_EXACT, SAMPLE_SIZE, is_long

if TYPE_CHECKING:
    from cascade_bayes.inference.posterior import Posterior

MAX_LOOKED_AT = 10_000
"""Queries of which a fit is checked or given to ArviZ, where the user names no number: enough to
see what is wrong, and a figure for each of them on each of 2,000 draws is 16 megabytes a thousand."""

SECONDS_PER_QUERY = 0.4
"""Seconds that NUTS takes for a query of a chain with gaps, for each pair of neighbours, on two cores: 285
queries of two models took 126."""

GIGABYTES_PER_GAP = 0.001
"""Memory for a query with a gap: tables of 64 cells for 24 degrees of difficulty, in four chains."""


def effort_sentence(data: CascadeData, structure: Structure) -> str | None:
    """Return in words how a long table is fitted and what that takes; None for a short one.

    Parameters
    ----------
    data
        The table.
    structure
        Structure of the model.
    """
    if not is_long(data.num_queries):
        return None
    num_gaps = int(which_have_gaps(data.observed.T, data.labelled.T).sum())
    if structure == "chain" and num_gaps:
        seconds = SECONDS_PER_QUERY * data.num_queries * (data.num_models - 1)
        memory = 0.6 + GIGABYTES_PER_GAP * num_gaps
        return (
            f"{num_gaps} of {data.num_queries} queries lack a confidence before something that is known; "
            f"such a chain is fitted query by query, which takes about {_time(seconds)} and {memory:.1f} GB. "
            f"A random subset takes less: --max-queries {MAX_EXACT}."
        )
    if structure == "chain":
        return (
            f"More than {MAX_EXACT} queries: a chain is fitted to a weighted sample of {SAMPLE_SIZE} of them "
            "with the gradient of all. That takes some minutes, and hardly more for more queries."
        )
    return (
        f"More than {MAX_EXACT} queries: margins are fitted to bins of all confidences, the rest to a "
        f"weighted sample of {SAMPLE_SIZE} of them with the gradient of all. For three models that takes "
        "about two minutes of processor time and 1.4 GB, and hardly more for more queries."
    )


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"


def random_subset(data: CascadeData, max_queries: int | None, seed: int) -> CascadeData:
    """Return so many random queries of a table that has more, in its order; the same seed gives the same.

    Parameters
    ----------
    data
        The table.
    max_queries
        How many; all if None.
    seed
        Seed of the choice.

    Raises
    ------
    InputError
        If ``max_queries`` is below 1.
    """
    if max_queries is None:
        return data
    if max_queries < 1:
        raise InputError(f"max_queries must be at least 1; got {max_queries}.")
    if max_queries >= data.num_queries:
        return data
    chosen = np.random.default_rng(seed).choice(data.num_queries, max_queries, replace=False)
    return data.take(np.sort(chosen))


def with_random_subset(posterior: Posterior, max_queries: int | None, seed: int) -> Posterior:
    """Return a fit as it is, with so many random queries of its table if that has more.

    Parameters
    ----------
    posterior
        The fit.
    max_queries, seed
        The same as for `random_subset`.
    """
    data = random_subset(posterior.data, max_queries, seed)
    return posterior if data is posterior.data else replace(posterior, data=data)
