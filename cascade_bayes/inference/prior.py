"""What the priors say before any data: draws of whole cascades, and tables simulated from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from scipy.special import expit

from cascade_bayes._entry import in_64_bits
from cascade_bayes._numbers import check_seed, check_whole
from cascade_bayes.copulas import Copula, get_copulas
from cascade_bayes.errors import InputError
from cascade_bayes.model.cascade import Sites, params_from_sites, sample_sites
from cascade_bayes.model.correctness import correctness_logit
from cascade_bayes.model.names import DEFAULT_MARGIN
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import Cascade, simulate_scores
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import ConfidenceMap

NUM_QUERIES = 100
"""Queries simulated from each draw for its accuracies."""

LEVELS = (0.05, 0.5, 0.95)
"""Quantiles of a standardised confidence at which the rate of being right is reported."""


@dataclass(frozen=True, eq=False)
class PriorDraws:
    """Cascades drawn from the priors.

    Attributes
    ----------
    params
        Draws, every field with a leading axis.
    spec
        The model.
    models
        Names in cascade order.
    """

    params: CascadeParams
    spec: ModelSpec
    models: tuple[str, ...]

    @property
    def num_draws(self) -> int:
        """How many."""
        return int(self.params.intercept.shape[0])

    @in_64_bits
    def cascade(self, draw: int) -> Cascade:
        """Return one cascade, for `simulate`; its confidences are standardised scores in (0, 1)."""
        count = len(self.models)
        return Cascade(
            params=jax.tree.map(lambda field: field[draw], self.params),
            copulas=self.spec.copulas,
            models=self.models,
            call_cost=np.ones(count),
            confidence_map=ConfidenceMap("probability", (0.0,) * count, (1.0,) * count),
        )

    @in_64_bits
    def curves(self, scores: np.ndarray) -> np.ndarray:
        """Return the rate of being right at standardised scores, ``(num_draws, num_models, num_scores)``.

        At the middle of the previous model's scale, and not at an atom.
        """
        z = np.log(scores) - np.log1p(-scores)
        intercept, slope = (np.asarray(x)[..., None] for x in (self.params.intercept, self.params.slope))
        return np.asarray(expit(intercept + slope * z))

    @in_64_bits
    def densities(self, scores: np.ndarray) -> np.ndarray:
        """Return densities of the continuous part at standardised scores, shape as for `curves`."""
        z = jnp.asarray(np.log(scores) - np.log1p(-scores))
        part = jax.tree.map(lambda field: field[:, :, None], self.params.margins.continuous)
        shape = (self.num_draws, len(self.models), z.size)
        log_density = part.log_density(jnp.broadcast_to(z, shape))
        return np.asarray(jnp.exp(log_density)) / (scores * (1 - scores))

    @in_64_bits
    def accuracies(self, seed: int = 0) -> np.ndarray:
        """Return how often each model is right, by simulation, ``(num_draws, num_models)``."""
        keys = jax.random.split(jax.random.key(seed), self.num_draws)
        return np.asarray(_accuracies(keys, self.params, self.spec.copulas))

    @in_64_bits
    def to_frame(self) -> Any:
        """Return mean and 5 %, 50 % and 95 % quantiles of what the priors say, a pandas frame.

        Rows are accuracies, overall and at quantiles of the confidence; the gain in accuracy from one model
        to the next; Kendall's tau of neighbours; the share of exactly certain answers; the correlation
        within a query of what its labels cut, at the middle of confidences, and what confidence adds to it
        (`cascade_bayes.model.difficulty`).
        """
        import pandas as pd

        rows: dict[str, np.ndarray] = {}
        accuracy = self.accuracies()
        curves = self.curves(np.asarray(LEVELS))
        for i, name in enumerate(self.models):
            rows[f"accuracy of {name}"] = accuracy[:, i]
            for level, values in zip(LEVELS, curves[:, i].T, strict=True):
                rows[f"accuracy of {name} at its {100 * level:.0f} % confidence"] = values
        for i, (a, b) in enumerate(itertools.pairwise(self.models)):
            rows[f"gain in accuracy from {a} to {b}"] = accuracy[:, i + 1] - accuracy[:, i]
        for i, (a, b) in enumerate(itertools.pairwise(self.models)):
            rows[f"tau of {a} and {b}"] = np.asarray(
                self.spec.copulas[i].theta_to_tau(self.params.theta[:, i])
            )
        for i, name in enumerate(self.models):
            rows[f"share of {name} exactly certain"] = np.asarray(self.params.margins.atom_probs[:, i, 0])
        rows["correlation within a query"] = np.asarray(self.params.label_corr.middle)
        rows["gain of its log odds a step of confidence"] = np.asarray(self.params.label_corr.slope)
        quantiles = {name: np.quantile(values, [0.05, 0.5, 0.95]) for name, values in rows.items()}
        return pd.DataFrame(
            [[values.mean(), *quantiles[name]] for name, values in rows.items()],
            index=pd.Index(rows, name="quantity"),
            columns=["mean", "q05", "q50", "q95"],
        )


@partial(jax.jit, static_argnums=2)
def _accuracies(keys: jax.Array, params: CascadeParams, copulas: tuple[Copula, ...]) -> jax.Array:
    def one(draw: tuple[jax.Array, CascadeParams]) -> jax.Array:
        z, _ = simulate_scores(draw[0], draw[1], copulas, NUM_QUERIES)
        return jnp.mean(jax.nn.sigmoid(correctness_logit(z, draw[1])), axis=1)

    return jax.lax.map(one, (keys, params))


@in_64_bits
def sample_prior(
    priors: Priors | None = None,
    *,
    models: Sequence[str] = ("a", "b", "c"),
    copula: str | Sequence[str] = "gumbel",
    margin: str = DEFAULT_MARGIN,
    num_draws: int = 400,
    seed: int = 0,
) -> PriorDraws:
    """Draw cascades from the priors, each model with an atom at exact certainty.

    Parameters
    ----------
    priors
        Hyperparameters; the defaults of `Priors` if None.
    models
        Names in cascade order.
    copula
        Family of neighbouring pairs, one name or one a pair.
    margin
        Family of the margins' continuous parts.
    num_draws
        How many cascades.
    seed
        The same seed gives the same draws.

    Raises
    ------
    InputError
        If there is no model or no draw, or a copula or a family of margins is not known.

    Examples
    --------
    >>> prior = sample_prior(Priors(slope_scale=0.1), models=("small", "large"), num_draws=50)
    >>> prior.params.slope.shape
    (50, 2)
    """
    models = tuple(models)
    if not models:
        raise InputError("models must name at least one model; got none.")
    check_whole("num_draws", num_draws)
    check_seed(seed)
    count = len(models)
    certain = np.full((count, 1), np.inf)
    layout = AtomLayout(certain, np.ones((count, 1)), np.ones(count, dtype=bool))
    spec = ModelSpec(layout, get_copulas(copula, count - 1), priors or Priors(), margin=margin)

    _, params = draw_sites(jax.random.split(jax.random.key(seed), num_draws), spec)
    return PriorDraws(params, spec, models)


@partial(jax.jit, static_argnums=1)
def draw_sites(keys: jax.Array, spec: ModelSpec) -> tuple[Sites, CascadeParams]:
    """Draw every site of a model from its prior, and the cascade of all models that each draw stands for.

    Parameters
    ----------
    keys
        PRNG keys, one a draw; all arrays have a leading axis of their number.
    spec
        The model. A modular one must have its centres, which are data, if its cascades are to be right.
    """

    def one(key: jax.Array) -> tuple[Sites, CascadeParams]:
        with handlers.seed(rng_seed=key):
            sites = sample_sites(spec)
        return sites, params_from_sites(sites, spec)

    # One after another: side by side they take no less time, and the program twice as long to compile.
    return jax.lax.map(one, keys)
