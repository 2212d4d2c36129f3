r"""What more queries, and their labels, would be worth.

With :math:`L_d(a)` the loss of thresholds a on posterior draw d and :math:`a_0` those of least average,
knowing the truth would be worth :math:`\frac1D \sum_d \{L_d(a_0) - \min_a L_d(a)\}`, the expected value of
perfect information. N more queries X tell only some of it: the expected value of sample information is

.. math::

    \mathrm{E}[L(a_0)] - \mathrm{E}_X\big[\min_a \mathrm{E}\{L(a) \mid X\}\big]

(Raiffa & Schlaifer, *Applied Statistical Decision Theory*, 1961). The inner expectation, a fit to every X, is
replaced by regressions over the draws (after Strong, Oakley, Brennan & Breeze, Medical Decision Making 35,
2015). New queries are simulated from each draw. Their statistics T(X) are means over queries, and T of very
many queries, :math:`\tau_d`, stands for the draw itself:

* losses are regressed on :math:`\tau`, linearly with a ridge, to
  :math:`\mathrm{E}[L(a) \mid \tau] = \bar L(a) + b_a^\top (\tau - \bar\tau)`;
* the best linear estimate of :math:`\tau` from N queries, whose means vary with the covariance
  :math:`\Sigma / N` about it, is :math:`\bar\tau + S (S + \Sigma / N)^{-1} (T - \bar\tau)`, S the covariance
  of :math:`\tau` over the draws (Goldstein & Wooff, *Bayes Linear Statistics*, 2007).

What is reported is what is gained at each draw by choosing the thresholds of least predicted loss,
predictions coming from the other draws: a rule that anyone with X could follow, so that the figure errs on
the side of too little.

The statistics are those that move the posterior: of every model the scores of its calibration, means of
"right less predicted" against its own confidence, the previous model's, its atoms, and among the queries that
the policy sends to it; and of the confidences their means, products of neighbours, and how many the policy
sends on. Leaving out the label statistics of all models but one tells what labels of that model alone are
worth.

How far an interval of an optimal threshold will shrink follows from the same regression: a share :math:`R^2`
of its posterior variance is told by X, which leaves :math:`\sqrt{1 - R^2}` of its width on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._kept import kept
from cascade_bayes._numbers import check_seed, check_whole
from cascade_bayes._shown import shown
from cascade_bayes._trees import evenly_spaced, take
from cascade_bayes._units import DOLLARS
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.new_queries import NONE, simulate_statistics
from cascade_bayes.decision.regression import NUM_FOLDS, fit_folds, predict_from_sample, unexplained
from cascade_bayes.decision.shown import information_card
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.engine.sweep import own_optima, sweep_chain
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.policy import FROM_FRONTIER, Policy
from cascade_bayes.policy.shorter import passes_on, shorten_policy

DEFAULT_DRAWS = 500
"""Posterior draws, each with a table of new queries: as many points of the regression."""

NUM_CANDIDATES = 60
"""Thresholds to choose from: the best of as many draws, and the policy's."""

ALL = "all models"


@shown(information_card)
@dataclass(frozen=True, eq=False)
class Information:
    """What more queries are worth, US dollars per query that is served.

    Attributes
    ----------
    error_price
        US dollars per wrong answer.
    models
        Names in cascade order.
    num_queries
        Sizes of the new tables, ``(num_sizes,)``.
    labels
        Whose labels the new queries have: those of all models, none, or one of them, ``(num_labels,)``.
    perfect
        Value of perfect information on each draw, ``(num_draws,)``; its mean is what is expected.
    gain
        What the choice after the new queries gains on each draw, ``(num_labels, num_sizes, num_draws)``.
    narrowing
        Expected share by which the interval of each optimal threshold shrinks,
        ``(num_labels, num_sizes, num_thresholds)``: those of deferral, then that below which the last model
        abstains, if it may, then those of early abstaining.
    cost_unit
        What costs are counted in.
    """

    error_price: float
    models: tuple[str, ...]
    num_queries: np.ndarray
    labels: tuple[str, ...]
    perfect: np.ndarray
    gain: np.ndarray
    narrowing: np.ndarray
    cost_unit: str = DOLLARS

    @property
    def thresholds(self) -> tuple[str, ...]:
        """What each threshold does, in the order of ``narrowing``."""
        *others, last = self.models
        names = [f"{name} defers" for name in others]
        if self.narrowing.shape[-1] > len(names):
            names.append(f"{last} abstains")
        if self.narrowing.shape[-1] > len(names):
            names += [f"{name} abstains" for name in others]
        return tuple(names)

    @property
    def evpi(self) -> float:
        """Expected value of perfect information, US dollars per query."""
        return float(self.perfect.mean())

    @property
    def evsi(self) -> np.ndarray:
        """Expected value of the new queries, US dollars per query, ``(num_labels, num_sizes)``."""
        return np.maximum(self.gain.mean(axis=-1), 0.0)

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame` as dictionaries."""
        error = self.gain.std(axis=-1) / np.sqrt(self.gain.shape[-1])
        return [
            {
                "labels": name,
                "num_queries": int(size),
                "evsi_per_1000": float(1000 * self.evsi[i, j]),
                "standard_error": float(1000 * error[i, j]),
                "share_of_perfect": float(self.evsi[i, j] / self.evpi) if self.evpi > 0 else 0.0,
                "narrowing": [float(x) for x in self.narrowing[i, j]],
            }
            for i, name in enumerate(self.labels)
            for j, size in enumerate(self.num_queries)
        ]

    def to_frame(self) -> Any:
        """Return one row per kind of labels and number of queries as a pandas frame.

        Columns: ``labels``; ``num_queries``; ``evsi_per_1000``, US dollars per thousand queries served, with
        its Monte Carlo ``standard_error``; ``share_of_perfect``, its share of the value of perfect
        information; ``narrowing``, the expected shrinking of each threshold's interval (see `thresholds`).
        """
        import pandas as pd

        return pd.DataFrame(self.records())

    def sentence(self) -> str:
        """Say what labels would buy, and whose to buy next."""
        one = [i for i, name in enumerate(self.labels) if name in self.models]
        best = max(one, key=lambda i: self.evsi[i, -1])
        size, every = int(self.num_queries[-1]), self.labels.index(ALL)
        return (
            f"At {self.error_price:g} {self.cost_unit} per wrong answer, {size} more queries with all "
            "labels would "
            f"save {1000 * self.evsi[every, -1]:.2g} {self.cost_unit} per thousand queries, perfect "
            "knowledge "
            f"{1000 * self.evpi:.2g}. Labels of a single model are worth most for {self.labels[best]}: "
            f"{1000 * self.evsi[best, -1]:.2g}."
        )


@in_64_bits
def value_of_information(
    posterior: Posterior,
    policy: Policy,
    num_queries: Sequence[int] = (30, 100, 300),
    *,
    error_price: float | None = None,
    num_draws: int = DEFAULT_DRAWS,
    prior_queries: float = PRIOR_QUERIES,
    seed: int = 0,
) -> Information:
    """Say what more labelled queries would be worth for the thresholds of a cascade.

    Parameters
    ----------
    posterior
        The fit.
    policy
        A policy of its models: which cascade, and at which price of an error.
    num_queries
        How many new queries, one or several numbers.
    error_price
        US dollars per wrong answer; the policy's if None.
    num_draws
        Posterior draws, evenly spaced.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`). Of a
        table with confidences missing at random, complete queries stand for all; where observed queries end
        before the last model, as those of a running cascade's log do, the model counts for all.
    seed
        Seed of the new queries.

    Raises
    ------
    InputError
        If the policy has a single model, or models that are not in the fit; for a price or number of queries
        that is not positive, or fewer than 50 draws.

    Examples
    --------
    What would 50 more labels buy? ``value_of_information(posterior, policy, [50]).sentence()``
    """
    need(posterior, Posterior, "posterior", FROM_FIT)
    need(policy, Policy, "policy", FROM_FRONTIER)
    price = policy.error_price if error_price is None else error_price
    sizes = _check_sizes(num_queries, price)
    policy = shorten_policy(policy)
    _check_draws(posterior, policy, num_draws)
    check_seed(seed)
    num_draws = min(num_draws, posterior.num_draws)
    chain = discretise(posterior, policy.models, num_draws, prior_queries=prior_queries, terms=policy.terms)
    chain = _of_whole_queries(chain, at_random=posterior.spec.structure == "modular")
    loss, own_loss, own = _losses(chain, policy, price)
    bayes = int(np.argmin(loss.mean(axis=1)))
    statistics = simulate_statistics(chain, policy, sizes, seed)
    labels = (ALL, *policy.models, NONE)
    gain = np.zeros((len(labels), sizes.size, num_draws))
    narrowing = np.zeros((len(labels), sizes.size, own.shape[1]))
    folds = fit_folds(np.concatenate([(loss - loss[bayes]).T, own], axis=1), statistics)
    for i, kind in enumerate(labels):
        known = np.array([kind == ALL or name in (kind, NONE) for name in statistics.names])
        for j in range(sizes.size):
            predicted = predict_from_sample(folds, statistics, j, known)
            losses, thresholds = predicted[:, : len(loss)], predicted[:, len(loss) :]
            gain[i, j] = loss[bayes] - loss[np.argmin(losses, axis=1), np.arange(num_draws)]
            narrowing[i, j] = 1 - np.sqrt(unexplained(own, thresholds))
    return Information(
        error_price=price,
        models=policy.models,
        num_queries=sizes,
        labels=labels,
        perfect=loss[bayes] - np.minimum(own_loss, loss.min(axis=0)),
        gain=gain,
        narrowing=narrowing,
        cost_unit=posterior.data.units.cost,
    )


def _check_sizes(num_queries: Sequence[int], price: float) -> np.ndarray:
    """Return the sizes of new tables, ascending; raise `InputError` if one, or the price, is not positive."""
    sizes = np.unique([check_whole("num_queries", size) for size in num_queries])
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"error_price must be a positive number; got {price!r}.")
    if not sizes.size:
        raise InputError("num_queries must hold at least one number of queries; got none.")
    return sizes


def _check_draws(posterior: Posterior, policy: Policy, num_draws: int) -> None:
    """Raise `InputError` if the policy has no thresholds, or there are too few draws to learn from."""
    if len(policy.models) < 2 and policy.abstain_thresholds is None:
        raise InputError(
            f"the policy must be a cascade; it is {policy.models[0]} alone, which has no thresholds that "
            "more labels could move. Tune a cascade (--models all)."
        )
    least = 5 * NUM_FOLDS
    check_whole("num_draws", num_draws, low=least)
    if posterior.num_draws < least:
        raise InputError(
            f"the posterior must have at least {least} draws; it has {posterior.num_draws}. Fit it with "
            "more, or by another method."
        )


def _of_whole_queries(chain: Discretised, at_random: bool) -> Discretised:
    """Leave out observed queries that end early: neither losses nor new queries take them.

    If what is missing is so at random, as a modular fit has it, the complete queries stand for all. Otherwise
    the model counts for all.
    """
    if chain.queries is None or chain.queries.ends is None:
        return chain
    complete = jnp.all(chain.queries.ends == 0, axis=0) & (chain.queries.weight[0] > 0)
    speak = at_random and bool(jnp.any(complete))
    return chain._replace(queries=chain.queries.complete() if speak else None)


def _losses(chain: Discretised, policy: Policy, price: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return losses of candidates ``(num_candidates, num_draws)``, of each draw's best, and where these are.

    The last as shares of the scale, ``(num_draws, num_thresholds)``. Thresholds that pass every query of a
    model on are those of a shorter cascade, which this one does not predict
    (`cascade_bayes.policy.shorter`): they are no candidates, and the loss of a draw whose best they are is
    infinite.
    """
    bayes = chain.positions(sweep_chain(chain, np.asarray([price]), num_steps=0).cuts)
    own = own_optima(chain, price, bayes)
    some = take(own, evenly_spaced(len(own.defer), min(NUM_CANDIDATES, len(own.defer))))
    asked = jax.tree.map(lambda field: np.asarray(field)[None], chain.positions(policy.cuts))
    candidates = jax.tree.map(lambda *fields: np.concatenate(fields), asked, bayes, some)
    candidates = take(candidates, ~_left_out(chain, candidates))
    problem = chain.problem().own_steps(chain.num_thresholds)
    at_price = jnp.asarray(price, dtype=chain.call_cost.dtype)
    of_all, of_own = _loss_matrix(problem, at_price, *jax.tree.map(jnp.asarray, (candidates, own)))
    positions = [own.defer, *([] if own.early is None else [own.early[:, :-1]])]
    share = np.concatenate(positions, axis=1) / chain.grid.num_cells
    own_loss = np.where(_left_out(chain, own), np.inf, np.asarray(of_own, dtype=float))
    return np.asarray(of_all, dtype=float), own_loss, share


def _left_out(chain: Discretised, thresholds: Positions) -> np.ndarray:
    """Whether thresholds pass every query of some model on, ``(num_thresholds,)``."""
    return np.asarray(passes_on(chain.cuts(thresholds)).any(axis=-1))


@kept()
def _loss_matrix(
    problem: Problem, price: jax.Array, candidates: Positions, own: Positions
) -> tuple[jax.Array, jax.Array]:
    """Return losses on every draw, of candidates that all draws share and of each draw's own positions."""

    def of(at: Positions, axis: int | None) -> jax.Array:
        run = jax.vmap(forward, in_axes=(problem.draw_axes(), axis, axis))
        found = run(problem, *at)
        return found.cost + price * found.error

    return jax.lax.map(lambda at: of(at, None), candidates), of(own, 0)
