"""A posterior on a grid: each draw of it as a finite chain, with what thresholds on it mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes.decision.chain import ChainTables, tables_for_draws
from cascade_bayes.decision.costs import call_cost_draws
from cascade_bayes.decision.grid import Grid, cells_for, make_grid
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.transforms import ConfidenceMap


class Discretised(NamedTuple):
    """Posterior draws of one cascade as finite chains.

    Attributes
    ----------
    members
        Positions of its models among those of the fit.
    tables
        Fields with a leading axis of draws.
    grid
        Cells of its models.
    confidence_map
        Of its models: grid positions to raw thresholds and back.
    call_cost
        Draws of the mean US dollars per call, ``(num_draws, num_models)``.
    """

    members: tuple[int, ...]
    tables: ChainTables
    grid: Grid
    confidence_map: ConfidenceMap
    call_cost: jax.Array

    @property
    def is_atom(self) -> jax.Array:
        """Which cells are atoms, ``(num_models, num_cells)``."""
        return jnp.asarray(self.grid.is_atom)

    def positions(self, thresholds: np.ndarray) -> jax.Array:
        """Return the grid positions of raw thresholds ``(..., num_models - 1)``."""
        return jnp.asarray(self.grid.positions(thresholds, self.confidence_map), self.call_cost.dtype)

    def thresholds(self, positions: np.ndarray) -> np.ndarray:
        """Return the raw thresholds of grid positions ``(..., num_models - 1)``."""
        return self.grid.thresholds(positions, self.confidence_map)


def discretise(
    posterior: Posterior,
    models: Sequence[str] | None = None,
    num_draws: int | None = None,
    num_cells: int | None = None,
) -> Discretised:
    """Lay a grid and build the tables of posterior draws on it.

    Parameters
    ----------
    posterior
        The fit.
    models
        Models of the cascade, a subset in cascade order; all if None. Models left out are integrated
        over where the fit is one chain.
    num_draws
        Evenly spaced; all if None.
    num_cells
        Cells of the grid per model; if None, `cells_for` as many atoms as there are.

    Raises
    ------
    InputError
        For models that are not in the posterior, or not in its order.
    """
    members = posterior.members(models)
    index = list(members)
    chain = posterior.sub_cascade(members, num_draws)
    grid = make_grid(chain.params, chain.layout, cells_for(chain.layout) if num_cells is None else num_cells)
    tables = tables_for_draws(chain.params, grid, chain.copulas, chain.members)
    kept = list(chain.members)
    cost = call_cost_draws(posterior.data, tables.mass.shape[0])[:, index]
    return Discretised(
        members,
        tables,
        Grid(grid.edges[kept], grid.is_atom[kept], grid.atom_raw[kept]),
        posterior.confidence_map.select(index),
        jnp.asarray(cost, dtype=tables.mass.dtype),
    )
