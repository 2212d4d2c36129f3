r"""One draw of a cascade as a finite chain.

On a grid (`cascade_bayes.engine.grid`) with boundaries :math:`u_0 = 0 \le \dots \le u_N = 1` of the
margin's probability, the chain of confidences moves from cell :math:`l` of model i to cell :math:`m` of
model i + 1 with probability

.. math::

    R_{lm} = \frac{C(u_{l+1}, v_{m+1}) - C(u_l, v_{m+1}) - C(u_{l+1}, v_m) + C(u_l, v_m)}{u_{l+1} - u_l},

which sums to one over :math:`m` by construction: no probability is lost. For atoms this is exact; within
a continuous cell the sub-density of the queries that got there is taken as the margin's own, an error of
second order in the cell width. Across such a cell the rows change by the slope :math:`D_l`, from the
neighbouring cells' averages: :math:`D = G R` with a matrix G of differences.

Whether model i + 1 is right depends on both cells, :math:`Q_{lm} = R_{lm} p_{lm}` with :math:`p_{lm}` the
mean of :math:`\sigma(a + b x + c x' + e)` over cell :math:`m`, at the mean :math:`x'` of cell :math:`l`.

A cascade that skips models moves by the product of the skipped models' matrices (Chapman-Kolmogorov):
one fit of a chain serves every ordered subset of its models.

A call may cost more or less where the model before it had another confidence: its cost is the mean cost of
the model's calls times a factor of the cell that deferred (`cascade_bayes.engine.costs`).

Abstaining is a model of its own at the end of the cascade: it costs the price of abstaining and is never
wrong. The last model's threshold decides whether it is called.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cascade_bayes.engine.rows import DRAW_AXES, Rows


class ChainTables(NamedTuple):
    """One draw of a cascade as a finite chain, and observed queries beside it.

    Cascades of some models share their steps, from one model to a later one, and programs: a cascade shorter
    than others has models before its first that are passed over, so that all have as many.

    Fields may carry a leading axis of draws, but for those to which `draw_axes` gives none.

    Attributes
    ----------
    mass
        Probability of the first model's cells, ``(num_cells,)``.
    correct
        Probability that the first model is right, given its cell, ``(num_cells,)``.
    correct_slope
        Its change across each cell, ``(num_cells,)``.
    transition, right
        ``R`` of every step that there is, and its part ``Q`` in which the model that it leads to is right,
        ``(num_steps, num_cells, num_cells)``.
    right_slope
        Change of the probability that this model is right across each of its cells,
        ``(num_steps, num_cells)``.
    relative_cost
        What a call costs to which a cell defers, over the mean of the model's calls,
        ``(num_steps, num_cells)``.
    step
        Which step each model of the cascade takes that can send a query on, ``(num_thresholds,)``; -1 of
        those before its first.
    across
        Matrices that take rows of a model's cells to their change across each cell,
        ``(num_thresholds, num_cells, num_cells)``; see
        `cascade_bayes.engine.cell_tables.across_cells`.
    rows
        Observed queries; None if the chain counts for all.
    """

    mass: jax.Array
    correct: jax.Array
    correct_slope: jax.Array
    transition: jax.Array
    right: jax.Array
    right_slope: jax.Array
    relative_cost: jax.Array
    step: jax.Array
    across: jax.Array
    rows: Rows | None = None

    def draw_axes(self) -> ChainTables:
        """Return where the axis of draws is, for `jax.vmap`: what all draws share has none."""
        axes: dict[str, Any] = dict.fromkeys(self._fields, 0)
        rows = None if self.rows is None else DRAW_AXES
        return ChainTables(**axes | {"step": None, "across": None, "rows": rows})

    def by_draw(self) -> tuple[ChainTables, Any]:
        """Return what draws share, and what they do not, which has a leading axis of draws.

        `of_draw` puts one draw together again.
        """
        rows = self.rows
        own = {name: getattr(self, name) for name in BY_DRAW}
        shared = self._replace(**dict.fromkeys(BY_DRAW))  # type: ignore[arg-type]  # until `of_draw`
        return shared, (own, None if rows is None else (rows.weight, rows.right))

    def of_draw(self, own: Any) -> ChainTables:
        """Return one draw, or several, from what draws share, which this is, and what they do not."""
        fields, queries = own
        rows = self.rows
        if rows is not None:
            rows = rows._replace(weight=queries[0], right=queries[1])
        return self._replace(**fields, rows=rows)

    def draw(self, index: int) -> ChainTables:
        """Return one of the draws."""
        shared, own = self.by_draw()
        return shared.of_draw(jax.tree.map(lambda field: field[index], own))

    def alone(self) -> ChainTables:
        """Return a single draw with an axis of draws."""
        shared, own = self.by_draw()
        return shared.of_draw(jax.tree.map(lambda field: field[None], own))

    def own_steps(self, num_thresholds: int) -> ChainTables:
        """Return the cascade with its own steps alone, in their order, and no models before its first.

        Parameters
        ----------
        num_thresholds
            How many of its models can send a query on; static.
        """
        first = self.step.shape[0] - num_thresholds
        step = self.step[first:]
        rows = self.rows
        if rows is not None:
            ends = None if rows.ends is None else rows.ends[first:]
            rows = rows._replace(
                cell=rows.cell[first:],
                position=rows.position[first:],
                ends=ends,
                cost=rows.cost[first:],
                right=rows.right[..., first:, :],
            )
        return self._replace(
            transition=self.transition[..., step, :, :],
            right=self.right[..., step, :, :],
            right_slope=self.right_slope[..., step, :],
            relative_cost=self.relative_cost[..., step, :],
            step=jnp.arange(num_thresholds),
            across=self.across[first:],
            rows=rows,
        )


class Problem(NamedTuple):
    """A cascade whose thresholds are looked for: one draw, or many, as finite chains, and what calls cost.

    Attributes
    ----------
    tables
        The chain.
    call_cost
        US dollars per call, ``(num_thresholds + 1,)``; 0 of models before the first. With a leading axis of
        draws where the tables have one, unless all draws share it.
    is_atom
        Which cells are atoms, of the models that can send queries on at least, ``(num_models, num_cells)``.
    """

    tables: ChainTables
    call_cost: jax.Array
    is_atom: jax.Array

    def draw_axes(self) -> Any:
        """Return where the axis of draws is, for `jax.vmap`."""
        return Problem(self.tables.draw_axes(), 0 if self.call_cost.ndim > 1 else None, None)  # type: ignore[arg-type]

    def averaged(self) -> Problem:
        """Return the problem with the costs of calls averaged over draws.

        They are independent of what decides how many calls there are, so that a mean loss takes no more.
        """
        shared = self.call_cost.ndim == 1
        return self if shared else self._replace(call_cost=jnp.mean(self.call_cost, axis=0))

    def draw(self, index: int) -> Problem:
        """Return one of the draws."""
        cost = self.call_cost if self.call_cost.ndim == 1 else self.call_cost[index]
        return Problem(self.tables.draw(index), cost, self.is_atom)

    def by_draw(self) -> tuple[Problem, Any]:
        """Return what draws share, and what they do not, as `ChainTables.by_draw` does."""
        shared, own = self.tables.by_draw()
        count = len(self.tables.mass)
        cost = self.call_cost
        each = jnp.broadcast_to(cost, (count, *cost.shape)) if cost.ndim == 1 else cost
        return self._replace(tables=shared), (own, each)

    def of_draw(self, own: Any) -> Problem:
        """Return one draw, from what draws share, which this is, and what they do not."""
        fields, cost = own
        return self._replace(tables=self.tables.of_draw(fields), call_cost=cost)

    def own_steps(self, num_thresholds: int) -> Problem:
        """Return the problem with the cascade's own steps alone (see `ChainTables.own_steps`)."""
        first = self.tables.step.shape[0] - num_thresholds
        tables = self.tables.own_steps(num_thresholds)
        return Problem(tables, self.call_cost[..., first:], self.is_atom[first:])

    def alone(self) -> Problem:
        """Return a single draw with an axis of draws, whose cost they share."""
        return self._replace(tables=self.tables.alone())


BY_DRAW = "mass", "correct", "correct_slope", "transition", "right", "right_slope", "relative_cost"
"""Fields that differ between draws, besides those of observed queries."""
