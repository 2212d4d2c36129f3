r"""A long table in few numbers: values in fine bins, and a weighted sample of its queries.

What a likelihood costs need not grow with the table. Two ways to make it short:

**Bins.** A function of one confidence is summed over all queries by summing over bins of near values, each
at its mean value and counted as often as it occurs. Within a bin of width h the error is of second order,
:math:`h^2 / 24` times the second derivative. Atoms have bins of their own.

**A stratified sample.** A function of everything that is known of a query is summed by dividing the queries
into strata of like ones, all of one size but for rounding, and taking one at random from each, counted for
all of its stratum (Cochran, Sampling Techniques, 1977, chapter 5). It is right on average, whatever the
number of models; what this one is off by, a gradient of all queries mends
(`cascade_bayes.inference.samplers.long_tables`).

Tables of up to `MAX_EXACT` queries are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_EXACT = 1000
"""Queries of a table whose likelihood is computed query by query."""

SAMPLE_SIZE = 1024
"""Strata of a longer table, at most; `benchmarks/large_tables.py` shows what they leave of the posterior."""

NUM_BINS = 256
"""Bins of a model's confidences, atoms included, at most."""

LARGEST = 6.0
"""Standardised logits beyond are as good as this when strata are laid."""


class Sample(NamedTuple):
    """A weighted sample of queries.

    Attributes
    ----------
    rows
        Which queries, ascending, ``(num_sampled,)``.
    weight
        How many queries each stands for, itself included, ``(num_sampled,)``; together all of the table.
    stratum
        Which of the sampled stands for each query, ``(num_queries,)``.
    """

    rows: np.ndarray
    weight: np.ndarray
    stratum: np.ndarray


def is_long(num_queries: int) -> bool:
    """Whether a table of so many queries is worked on by bins and by a sample."""
    return num_queries > MAX_EXACT


def code_rows(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return a number for each row, ``(num_rows,)``: equal where all columns, of whole numbers, are.

    Examples
    --------
    >>> code_rows([np.array([5, 5, 0]), np.array([True, False, True])]).tolist()
    [2, 1, 0]
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        distinct, place = np.unique(column, return_inverse=True)
        code = np.unique(code * distinct.size + place.ravel(), return_inverse=True)[1].ravel()
    return code


def lay_strata(code: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """Divide rows into at most this many strata of like ones; return each row's, from 0, ``(num_rows,)``.

    Rows of one code are divided, in half and half again, across the value that varies most, into strata of
    equal sizes. Where there are more codes than strata, neighbouring codes share one.

    Parameters
    ----------
    code
        Whole number of each row; rows of different codes share no stratum, unless there are too many codes.
    values
        What else they differ in, finite, ``(num_rows, num_values)``.
    most
        How many strata, fewer than rows.
    """
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=code[order][0] - 1))
    stratum = np.empty(len(code), dtype=np.int64)
    if len(starts) > most:
        stratum[order] = np.arange(len(code)) * most // len(code)
        return stratum
    found = 0
    for rows in np.split(order, starts[1:]):
        wanted = max((most - len(starts)) * len(rows) // len(code), 0) + 1
        pending = [(rows, min(wanted, len(rows)))]
        while pending:
            some, parts = pending.pop()
            if parts == 1:
                stratum[some] = found
                found += 1
                continue
            widest = int(np.argmax(values[some].var(axis=0))) if values.shape[1] else 0
            ranked = some[np.argsort(values[some, widest], kind="stable")] if values.shape[1] else some
            cut = len(some) * (parts // 2) // parts
            pending += [(ranked[:cut], parts // 2), (ranked[cut:], parts - parts // 2)]
    return stratum


def draw_sample(stratum: np.ndarray, seed: int = 0) -> Sample:
    """Draw one row at random from each stratum; the same strata and seed give the same sample.

    Parameters
    ----------
    stratum
        Stratum of each row, from 0, none empty, ``(num_rows,)``.
    seed
        Seed of the draw.
    """
    shuffled = np.random.default_rng(seed).permutation(len(stratum))
    labels, first, count = np.unique(stratum[shuffled], return_index=True, return_counts=True)
    rows = shuffled[first]
    order = np.argsort(rows)
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels))
    return Sample(rows[order], count[order], place[stratum])


def sample_queries(
    z: np.ndarray, observed: np.ndarray, labels: Sequence[np.ndarray], locs: np.ndarray, most: int
) -> Sample:
    """Draw a stratified sample of a table's queries.

    Parameters
    ----------
    z, observed
        Standardised logits, and whether they are known, ``(num_models, num_queries)``.
    labels
        What else queries of one stratum have in common, ``(num_models, num_queries)`` each.
    locs
        Where atoms lie, ``(num_models, num_atoms)``; NaN in empty slots.
    most
        Size of the sample, at most; fewer than the queries.
    """
    atoms = [1 + np.argmax(here, axis=0) for here in _at_atoms(z, locs)]
    columns = [*observed, *(row for what in labels for row in what)]
    columns += [
        np.where(here.any(axis=0), slot, 0) for here, slot in zip(_at_atoms(z, locs), atoms, strict=True)
    ]
    values = np.where(observed, np.clip(z, -LARGEST, LARGEST), 0.0)
    return draw_sample(lay_strata(code_rows(columns), values.T, most))


def _at_atoms(z: np.ndarray, locs: np.ndarray) -> list[np.ndarray]:
    """Whether each value of each model is each of its atoms, ``(num_atoms, num_queries)`` a model."""
    return [
        np.stack([row == loc for loc in own]) if own.size else np.zeros((1, row.size), dtype=bool)
        for row, own in zip(z, locs, strict=True)
    ]


def bin_values(z: np.ndarray, locs: np.ndarray, most: int = NUM_BINS) -> tuple[np.ndarray, np.ndarray]:
    """Return bins of one model's confidences: their mean values and how many lie in each.

    Values that occur are kept as they are while there are few enough. Bins of the others lie between
    quantiles by the cosine rule, closer together towards both ends.

    Parameters
    ----------
    z
        Standardised logits, none missing, ``(num_values,)``.
    locs
        Where its atoms lie, ``(num_atoms,)``; NaN in empty slots.
    most
        How many bins, but for those of atoms where these are more.

    Returns
    -------
    tuple of np.ndarray
        Values, ascending, and counts, ``(num_bins,)`` both.

    Examples
    --------
    >>> value, count = bin_values(np.array([0.0, 1.0, 1.0, np.inf]), np.array([np.inf]))
    >>> value.tolist(), count.tolist()
    ([0.0, 1.0, inf], [1.0, 2.0, 1.0])
    """
    value, count = np.unique(z, return_counts=True)
    if value.size <= most:
        return value, count.astype(float)
    is_atom = np.isin(value, locs)
    rest, weight = value[~is_atom], count[~is_atom]
    num_bins = max(most - int(is_atom.sum()), 1)
    ends = 0.5 * (1.0 - np.cos(np.pi * np.arange(1, num_bins) / num_bins))
    middle = (np.cumsum(weight) - 0.5 * weight) / weight.sum()
    place = np.searchsorted(ends, middle)
    total = np.bincount(place, weight, minlength=num_bins)
    mean = np.bincount(place, weight * rest, minlength=num_bins)[total > 0] / total[total > 0]
    values = np.concatenate([mean, value[is_atom]])
    counts = np.concatenate([total[total > 0], count[is_atom].astype(float)])
    order = np.argsort(values)
    return values[order], counts[order]
