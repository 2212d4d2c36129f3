"""Replications for simulation-based calibration: cascades from the priors, tables, test quantities.

Every model has one atom, at exact certainty, and a table's confidences are the simulated scores themselves:
nothing of the model that is fitted to a table is read from it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._trees import evenly_spaced
from cascade_bayes.copulas import Copula, get_copula, get_copulas
from cascade_bayes.engine.cell_tables import chain_tables
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.grid import Grid, cells_for, make_grid
from cascade_bayes.engine.optimise import default_starts, optimise
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.predictive import log_likelihoods, simulate_draws
from cascade_bayes.inference.preparation import Prepared
from cascade_bayes.inference.prior import draw_sites
from cascade_bayes.model.margins import get_margin
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import Cascade, make_table
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import ConfidenceMap

FIRST_COST, COST_RATIO = 1e-4, 4.0
"""US dollars that a call of the first model costs; cost of each later model over that of the one before."""

THRESHOLD = np.log(0.5)
"""Where error, cost and reach are looked at: the middle of the scale, as a log-probability."""

NUM_GRID_DRAWS = 200
"""Draws from the priors by which the grid of decisions is laid."""

DECISION_BATCH = 4
"""Draws that are decided by side by side."""


class Truth(NamedTuple):
    """A cascade drawn from the priors, and a table of it; fields may have a leading axis of replications.

    Attributes
    ----------
    sites, params
        The cascade.
    z, correct
        Scores and labels, ``(num_models, num_queries)``.
    """

    sites: dict[str, jax.Array]
    params: CascadeParams
    z: jax.Array
    correct: jax.Array


@dataclass(frozen=True, eq=False)
class Design:
    """What all replications share.

    Attributes
    ----------
    simulated, fitted
        The model that tables are drawn from, a chain, and the one that is fitted to them.
    models
        Names.
    call_cost
        US dollars per call, ``(num_models,)``.
    num_queries
        Number of queries of each table.
    error_price
        US dollars per wrong answer.
    grid
        On which decisions are made, the same for truths and draws.
    options
        How tables are fitted.
    """

    simulated: ModelSpec
    fitted: ModelSpec
    models: tuple[str, ...]
    call_cost: np.ndarray
    num_queries: int
    error_price: float
    grid: Grid
    options: FitOptions

    @property
    def confidence_map(self) -> ConfidenceMap:
        """Map of scores to log-probabilities, which keep the digits of scores next to certainty."""
        count = len(self.models)
        return ConfidenceMap("logprob", (0.0,) * count, (1.0,) * count)

    def prepare(self, truth: Truth) -> Prepared:
        """Return one table, ready to be fitted."""
        cascade = Cascade(
            truth.params, self.simulated.copulas, self.models, self.call_cost, self.confidence_map
        )
        data = make_table(cascade, np.asarray(truth.z), np.asarray(truth.correct))
        obs = observations(data, self.fitted.layout)
        return Prepared(data, obs, self.fitted, None, self.options, data.num_queries)

    def quantities(self, truth: Truth, posterior: Posterior, num_draws: int) -> dict[str, np.ndarray]:
        """Return each quantity's true value and, behind it, posterior draws, ``(1 + num_draws,)``.

        Parameters
        ----------
        truth
            One replication.
        posterior
            The fit of its table.
        num_draws
            How many draws, evenly spaced over all chains.
        """
        total = posterior.num_draws
        index = evenly_spaced(total, num_draws)
        flat = {k: v.reshape((total, *v.shape[2:]))[index] for k, v in posterior.samples.items()}
        thinned = replace(posterior, samples={k: v[None] for k, v in flat.items()})
        chain = thinned.sub_cascade(range(len(self.models)))
        params = jax.tree.map(
            lambda one, draws: jnp.concatenate([one[None], draws]), truth.params, chain.params
        )
        margins = {
            name: np.concatenate([np.asarray(truth.sites[name])[None], flat[name]])
            for name in margin_sites(self.simulated)
        }
        return self._labelled({**margins, **self._calibration(params), **self._derived(params, truth)})

    def _calibration(self, params: CascadeParams) -> dict[str, np.ndarray]:
        """Kendall's tau and calibration, in the terms of a chain."""
        found = {
            "intercept": params.intercept,
            "slope": params.slope,
            "atom_effect": params.atom_effect[..., 0],
            "label_corr": params.label_corr.middle,
            "label_corr_slope": params.label_corr.slope,
        }
        if self.simulated.upstream:
            found["upstream"] = params.upstream[:, 1:]
        taus = [
            family.theta_to_tau(params.theta[:, i]) if family.has_theta else None
            for i, family in enumerate(self.simulated.copulas)
        ]
        return {k: np.asarray(v) for k, v in found.items()} | {
            f"tau[{pair}]": np.asarray(tau)
            for pair, tau in zip(self._deferrals(), taus, strict=True)
            if tau is not None
        }

    def _derived(self, params: CascadeParams, truth: Truth) -> dict[str, np.ndarray]:
        thresholds = np.full(len(self.models) - 1, THRESHOLD)
        found = _decide(
            params,
            jnp.asarray(self.grid.edges),
            jnp.asarray(self.grid.is_atom),
            jnp.asarray(self.call_cost),
            jnp.asarray(self.grid.positions(thresholds, self.confidence_map)),
            jnp.asarray(self.error_price),
            self.simulated.copulas,
        )
        if self.fitted.structure == "chain":
            # A cut posterior is no posterior of all parameters together, and so of no function of the table.
            spec = self.simulated
            every = jnp.ones(truth.z.shape, dtype=bool)
            obs = Observations(truth.z, every, truth.correct, every)
            spec = self.simulated
            by_query = log_likelihoods(params, obs, spec.copulas, spec.layout.kinds)
            found["log_likelihood"] = jnp.sum(by_query, axis=1)
        return {k: np.asarray(v) for k, v in found.items()}

    def _deferrals(self) -> list[str]:
        return [f"{a} > {b}" for a, b in itertools.pairwise(self.models)]

    def _labelled(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a name for each element, as `Posterior.summary` has them."""
        by_model = {
            "upstream": self._deferrals(),
            "reach_prob": self.models[1:],
            "threshold": self.models[:-1],
        }
        found = {}
        for name, rows in values.items():
            if rows.ndim == 1:
                found[name] = rows
                continue
            for i, label in enumerate(by_model.get(name, self.models)):
                if rows.ndim == 2:
                    found[f"{name}[{label}]"] = rows[:, i]
                else:
                    found |= {f"{name}[{label}, {j}]": rows[:, i, j] for j in range(rows.shape[2])}
        return found

    def is_exact(self, name: str) -> bool:
        """Whether a quantity's ranks are uniform if the software is right.

        Of a modular model each margin has the posterior given its own confidences, and so has the calibration
        given all labels where it is what was simulated. A copula given draws of the margins has not, nor has
        a calibration that leaves an upstream effect to a later module.
        """
        site = name.partition("[")[0]
        if self.fitted.structure == "chain" or site in margin_sites(self.simulated):
            return True
        if name == f"reach_prob[{self.models[1]}]":  # the first margin's alone
            return True
        calibration = "intercept", "slope", "atom_effect", "label_corr", "label_corr_slope"
        return not self.fitted.upstream and site in calibration


def make_design(
    key: jax.Array, options: FitOptions, num_models: int, num_queries: int, error_price: float
) -> Design:
    """Return the design of replications.

    Parameters
    ----------
    key
        PRNG key, for the prior draws by which the grid is laid.
    options
        The model, and how it is to be fitted.
    num_models, num_queries
        Size of the tables.
    error_price
        US dollars per wrong answer.
    """
    k = num_models
    layout = AtomLayout(np.full((k, 1), np.inf), np.zeros((k, 1)), np.ones(k, dtype=bool))
    simulated = ModelSpec(
        layout,
        get_copulas(options.copula, k - 1),
        options.priors or Priors(),
        upstream=options.upstream,
        monotone=options.monotone,
        margin=options.margin,
    )
    fitted = replace(simulated, structure=options.structure or "chain")
    # Pairs that are no neighbours are not asked for; without a parameter they take no time.
    neighbours = dict(zip(simulated.pairs, simulated.copulas, strict=True))
    copulas = tuple(neighbours.get(pair, get_copula("independence")) for pair in fitted.pairs)
    _, grid_draws = draw_sites(jax.random.split(key, NUM_GRID_DRAWS), simulated)
    return Design(
        simulated=simulated,
        fitted=replace(fitted, copulas=copulas),
        models=tuple(f"m{i + 1}" for i in range(k)),
        call_cost=FIRST_COST * COST_RATIO ** np.arange(k),
        num_queries=num_queries,
        error_price=error_price,
        grid=make_grid(grid_draws, layout, cells_for(layout)),
        options=options,
    )


def draw_truths(keys: jax.Array, spec: ModelSpec, num_queries: int) -> Truth:
    """Return cascades drawn from the priors, with a table of each, one a key."""
    both = jax.vmap(lambda key: jax.random.split(key))(keys)
    sites, params = draw_sites(both[:, 0], spec)
    return Truth(sites, params, *simulate_draws(both[:, 1], params, spec.copulas, num_queries))


def margin_sites(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of the sites of margins."""
    return "mixing_split", get_margin(spec.margin).site, "atom_logit"


@partial(jax.jit, static_argnums=6)
def _decide(
    params: CascadeParams,
    edges: jax.Array,
    is_atom: jax.Array,
    call_cost: jax.Array,
    positions: jax.Array,
    error_price: jax.Array,
    copulas: tuple[Copula, ...],
) -> dict[str, Any]:
    """Error, cost and reach at fixed positions, and each draw's own best positions."""
    starts = default_starts(len(call_cost) - 1, edges.shape[1])

    def one(draw: CascadeParams) -> dict[str, Any]:
        tables = chain_tables(draw, edges, is_atom, copulas)
        problem = Problem(tables, call_cost, is_atom)
        outcome = forward(problem, positions)
        return {
            "error": outcome.error,
            "cost": outcome.cost,
            "reach_prob": outcome.reach_prob[1:],
            "threshold": optimise(problem.alone(), error_price, starts).at.defer,
        }

    return jax.lax.map(one, params, batch_size=DECISION_BATCH)
