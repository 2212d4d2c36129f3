"""Parts that cascades of some models share: what each begins with, and the steps from one model to another.

A fit of k models has :math:`2^k - 1` cascades but only :math:`k (k - 1) / 2` steps: they are computed once,
and every cascade is put together from them.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.engine.cell_tables import Parts, Start, Steps, across_cells, with_abstention
from cascade_bayes.engine.chain import ChainTables
from cascade_bayes.engine.costs import in_32_bits
from cascade_bayes.engine.rows import Queries, Rows, inside_cells


class SharedParts(NamedTuple):
    """Parts of cascades on every draw, in 64 bits and, where thresholds are searched for, in 32.

    Attributes
    ----------
    starts
        What a cascade begins with, by the position of its first model.
    right_first
        Probability that this model is right about each observed query, ``(num_draws, num_queries)``.
    pairs
        Positions of the models from which and to which each step goes.
    right_after
        Probability that the second of them is right about each observed query, one entry a pair.
    steps, short_steps
        The steps, ``(num_draws, num_pairs, ...)``; where queries may be left without an answer, the last one
        leads to that.
    """

    starts: dict[int, Start]
    right_first: dict[int, np.ndarray | None]
    pairs: tuple[tuple[int, int], ...]
    right_after: tuple[np.ndarray | None, ...]
    steps: Steps
    short_steps: Steps

    def tables(
        self,
        members: tuple[int, ...],
        is_atom: np.ndarray,
        room: int,
        abstains: bool,
        queries: Queries | None,
        short: bool,
    ) -> ChainTables:
        """Return the tables of one cascade.

        Parameters
        ----------
        members
            Positions of its models.
        is_atom
            Which of their cells are atoms, ``(num_models, num_cells)``.
        room
            How many models that send queries on the tables have room for: those before its first are passed
            over.
        abstains
            Whether its last model may leave queries without an answer.
        queries
            Observed queries; None if the chain counts for all.
        short
            Whether numbers are to have 32 bits rather than 64.
        """
        taken = list(itertools.pairwise(members))
        step = [self.pairs.index(pair) for pair in taken] + ([len(self.pairs)] if abstains else [])
        steps = self.short_steps if short else self.steps
        dtype, missing = steps.transition.dtype, room - len(step)
        across = np.zeros((room, *steps.transition.shape[-2:]), dtype)
        across[missing:] = across_cells(is_atom[: len(step)], np)
        start = self.starts[members[0]]
        tables = ChainTables(
            mass=jax.device_put(np.asarray(start.mass, dtype)),
            correct=jax.device_put(np.asarray(start.correct, dtype)),
            correct_slope=jax.device_put(np.asarray(start.correct_slope, dtype)),
            **steps._asdict(),
            step=jax.device_put(np.asarray([-1] * missing + step, dtype=int)),
            across=jax.device_put(across),
        )
        if queries is None:
            return tables
        right = [self.right_first[members[0]], *(self.right_after[self.pairs.index(pair)] for pair in taken)]
        return tables._replace(rows=_rows(queries, right, missing, dtype))


def _rows(queries: Queries, right: list[np.ndarray | None], missing: int, dtype: Any) -> Rows:
    """Return observed queries beside a chain that passes some models over; all queries pass these."""
    num_draws, num_queries = np.shape(queries.weight)
    each = np.zeros((num_draws, missing + len(queries.cost), num_queries), dtype)
    each[:, missing + len(right) :] = 1.0  # who abstains is never wrong
    for i, one in enumerate(right):
        if one is not None:
            each[:, missing + i] = one[:, queries.place]

    def pad(field: Any, kind: Any) -> jax.Array:
        own = np.asarray(field)
        padded = np.zeros((missing + len(own), num_queries), kind)
        padded[missing:] = own
        return jax.device_put(padded)

    return Rows(
        cell=pad(queries.cell, int),
        position=pad(inside_cells(np.asarray(queries.position), np.asarray(queries.cell), dtype), dtype),
        ends=None if queries.ends is None else pad(queries.ends, dtype),
        cost=pad(in_32_bits(np.asarray(queries.cost)) if dtype == np.float32 else queries.cost, dtype),
        weight=jax.device_put(np.asarray(queries.weight, dtype)),
        right=jax.device_put(each),
    )


def collect(
    starts: dict[int, Parts], steps: dict[tuple[int, int], tuple[Parts, int, int]], abstains: bool
) -> SharedParts:
    """Put parts side by side.

    Parameters
    ----------
    starts
        The parts in which each first model is the first start.
    steps
        The parts that hold each pair, the pair's place among their pairs, and the place of its second model
        in their chain.
    abstains
        Whether queries may be left without an answer.
    """

    def right_of(parts: Parts, place: int) -> np.ndarray | None:
        return None if parts.right is None else np.asarray(parts.right)[:, place]

    def side_by_side(*fields: jax.Array) -> jax.Array:
        first = np.asarray(fields[0])
        found = np.empty((len(first), len(fields), *first.shape[1:]), first.dtype)
        for i, field in enumerate(fields):
            found[:, i] = field
        return jax.device_put(found)

    each = [(parts.steps, at) for parts, at, _ in steps.values()]
    each = each or [(parts.steps, 0) for parts in starts.values()][:1]
    stacked = jax.tree.map(
        side_by_side, *(jax.tree.map(lambda field, at=at: np.asarray(field)[:, at], one) for one, at in each)
    )
    if abstains:
        stacked = with_abstention(stacked)
    return SharedParts(
        starts={model: jax.tree.map(np.asarray, parts.starts[0]) for model, parts in starts.items()},
        right_first={model: right_of(parts, 0) for model, parts in starts.items()},
        pairs=tuple(steps),
        right_after=tuple(right_of(parts, place) for parts, _, place in steps.values()),
        steps=stacked,
        short_steps=jax.tree.map(lambda field: field.astype(jnp.float32), stacked),
    )
