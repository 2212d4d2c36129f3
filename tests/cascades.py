"""Cascades with atoms and upstream effects, laid on a grid, for tests of decisions."""

import itertools
from collections.abc import Container, Iterable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_bayes.copulas import get_copulas
from cascade_bayes.distributions import LogitNormalMixture, MarginParams
from cascade_bayes.engine.cell_tables import Steps, tables_for_draws, with_abstention
from cascade_bayes.engine.chain import ChainTables, Problem
from cascade_bayes.engine.grid import make_grid
from cascade_bayes.engine.optimise import mean_loss
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.transforms import ConfidenceMap

QUERIES = "none", "followed", "handed over"
"""What stands beside the chain: nothing, observed queries, and queries of whom a confidence is not known."""


def some_of(lengths: Iterable[int], default: Container[tuple[int, str]]) -> list[Any]:
    """Every length of a cascade with each of `QUERIES`; those that are not named are slow to compile."""
    pairs = itertools.product(lengths, QUERIES)
    return [pair if pair in default else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]


COST = {2: [1.0, 9.0], 3: [1.0, 4.0, 16.0], 5: [1.0, 2.0, 4.0, 12.0, 30.0]}


def cascade(k: int, *, atoms: bool = True, seed: int = 0) -> tuple[CascadeParams, AtomLayout]:
    """A cascade of ``k`` models with atoms at both ends and in the middle of some of them."""
    rng = np.random.default_rng(seed)
    locs = np.full((k, 2), np.nan)
    probs = np.zeros((k, 2))
    if atoms:
        locs[0] = [-np.inf, np.inf]
        probs[0] = [0.05, 0.2]
        locs[1, 0], probs[1, 0] = 0.0, 0.15
        if k > 2:
            locs[2, 0], probs[2, 0] = np.inf, 0.3
    effect = np.where(np.isnan(locs), 0.0, rng.normal(0, 0.7, locs.shape))
    margins = MarginParams(
        atom_locs=jnp.asarray(locs),
        atom_probs=jnp.asarray(probs),
        continuous=LogitNormalMixture(
            mixing_probs=jnp.asarray(rng.dirichlet([3, 3], k)),
            loc=jnp.asarray(rng.uniform(-1.5, 1.5, (k, 2))),
            scale=jnp.asarray(rng.uniform(0.6, 1.8, (k, 2))),
        ),
    )
    params = CascadeParams(
        margins=margins,
        theta=jnp.asarray(rng.uniform(1.2, 2.5, k - 1)),
        intercept=jnp.asarray(np.linspace(-0.3, 1.6, k)),
        slope=jnp.asarray(rng.uniform(0.4, 1.0, k)),
        upstream=jnp.asarray([0.0, *rng.uniform(-0.3, 0.6, k - 1)]),
        atom_effect=jnp.asarray(effect),
        label_corr=LabelCorr(jnp.asarray(0.5), jnp.asarray(0.4)),
    )
    return params, AtomLayout(locs, np.where(np.isinf(locs), locs, locs * 2.0 + 1.0), np.ones(k, bool))


def score_map(k: int) -> ConfidenceMap:
    return ConfidenceMap("score", (1.0,) * k, (2.0,) * k)


@cache
def lay(k: int, num_cells: int = 64, **kwargs):
    params, layout = cascade(k, **kwargs)
    draws = jax.tree.map(lambda x: x[None], params)
    grid = make_grid(draws, layout, num_cells)
    tables = tables_for_draws(draws, grid, get_copulas("gumbel", k - 1), tuple(range(k)))
    return params, grid, tables


def first(tables: ChainTables) -> ChainTables:
    return tables.draw(0)


def discrete_chain(
    mass: np.ndarray,
    correct: np.ndarray,
    transition: np.ndarray,
    right: np.ndarray,
    relative_cost: np.ndarray | None = None,
) -> ChainTables:
    """One draw of a chain whose cells are atoms: nothing changes across them."""
    num_steps, n = np.shape(transition)[:2]
    if not num_steps:  # a step that nobody takes
        transition, right = np.zeros((2, 1, n, n))
    cost = np.ones(np.shape(transition)[:2]) if relative_cost is None else relative_cost
    return ChainTables(
        mass=jnp.asarray(mass),
        correct=jnp.asarray(correct),
        correct_slope=jnp.zeros(n),
        transition=jnp.asarray(transition),
        right=jnp.asarray(right),
        right_slope=jnp.zeros_like(jnp.asarray(cost)),
        relative_cost=jnp.asarray(cost),
        step=jnp.arange(num_steps),
        across=jnp.zeros((num_steps, n, n)),
    )


def of_atoms(tables: ChainTables, cost: np.ndarray) -> Problem:
    """A chain whose cells are atoms, and what calls cost."""
    return Problem(tables, jnp.asarray(cost), jnp.ones(tables.across.shape[:2], bool))


def abstaining(tables: ChainTables) -> ChainTables:
    """The same chain, one draw or several, where its last model may leave queries without an answer."""
    steps = with_abstention(Steps(tables.transition, tables.right, tables.right_slope, tables.relative_cost))
    across = jnp.concatenate([tables.across, jnp.zeros((1, *tables.across.shape[1:]))])
    step = jnp.append(tables.step, steps.transition.shape[-3] - 1)
    return tables._replace(**steps._asdict(), step=step, across=across)


mean_losses = jax.jit(jax.vmap(mean_loss, in_axes=(None, 0, None, 0)))
"""`mean_loss` at many thresholds.

Tables are arguments: captured by a compiled function they are constants, which jax 0.12 folded into
NaN in one of eight compilations of the same program on a CPU, never where they were arguments."""
