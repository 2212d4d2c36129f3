r"""How far thresholds are from the best policy of any shape.

A policy of any shape decides at every model by all confidences seen so far. On one draw of the model the
confidences are a Markov chain, and whether model i is right depends on its own cell m and the cell l of the
model before: these two are all that a decision needs. Backward induction (Bellman, *Dynamic Programming*,
1957) gives the least loss of all policies. With R and Q as in `cascade_bayes.engine.chain` and
:math:`\rho` the price of an error, going on from cell m of model i is worth

.. math::

    \mathrm{go}_i(m) = c_{i+1}(m)
        + \sum_n \min\{\rho (R_{i,mn} - Q_{i,mn}),\; R_{i,mn}\, \mathrm{go}_{i+1}(n)\},

where the last model always stops and the cost of a call may depend on the cell that defers. Where models may
abstain early, the price of abstaining, times :math:`R_{i,mn}`, is a third term of the minimum; after the last
model it is what going on costs. The value of the whole is

.. math::

    V = c_1 + \sum_m \min\{\rho \mu_m (1 - p_m),\; \mu_m\, \mathrm{go}_1(m)\} .

A policy here is a rule for when to stop, by all confidences so far, in the cascade's order of models; it
skips none, and a later answer replaces an earlier one. It takes the cells of the grid whole.

Two gaps follow. What the Bayes thresholds lose beyond V on average over the draws bounds what any such rule
can save, because none knows the draw, and V does. What a draw's own best thresholds lose beyond V is the
price of their shape on that draw. It is 0 where the best rule defers what lies below some confidence,
whatever was seen before; it is not where, for example, a model that is exactly certain is wrong more often
than one that is nearly so, or where a query that made the first model doubt should leave the second sooner.

All of this holds for the model alone, without the observed queries beside it: a rule of any shape could tell
each of these from all others. Thresholds that were tuned with them are judged here without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._kept import kept
from cascade_bayes._shown import shown
from cascade_bayes._units import DOLLARS
from cascade_bayes.decision.discretise import discretise
from cascade_bayes.decision.predict import DEFAULT_DRAWS, predict
from cascade_bayes.decision.shown import certificate_card
from cascade_bayes.engine.chain import Problem
from cascade_bayes.engine.coordinate import Positions
from cascade_bayes.engine.discretised import Discretised
from cascade_bayes.engine.forward import forward
from cascade_bayes.engine.optimise import optimise
from cascade_bayes.engine.sweep import own_optima
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.points import PricedPolicies
from cascade_bayes.policy.policy import FROM_FRONTIER, Cuts, Policy
from cascade_bayes.policy.shorter import shorten_policy


class BestPolicy(NamedTuple):
    """The best policy of any shape on one draw.

    Attributes
    ----------
    value
        Its loss, US dollars per query, ``()``.
    elsewhere
        Probability that a query gets to a model and is treated there otherwise than by whatever single
        threshold comes closest, or two where it may abstain, ``(num_models - 1,)``.
    """

    value: jax.Array
    elsewhere: jax.Array


def best_policy(problem: Problem, error_price: jax.Array, early: bool = False) -> BestPolicy:
    """Find the best policy of any shape on one draw, by backward induction.

    Parameters
    ----------
    problem
        One draw, with the cascade's own steps alone; observed queries in it are left out.
    error_price
        US dollars per wrong answer, ``()``.
    early
        Whether models may abstain early; abstaining must be the last model.
    """
    tables, call_cost, _ = problem
    num_steps = tables.step.shape[0]
    call = call_cost[1:, None] * tables.relative_cost
    abstain_price = call_cost[-1] if early else jnp.inf
    stop = error_price * (tables.transition - tables.right)
    go_on = [call[num_steps - 1] + jnp.sum(stop[num_steps - 1], axis=1)]
    for i in reversed(range(num_steps - 1)):
        end = jnp.minimum(stop[i], tables.transition[i] * abstain_price) if early else stop[i]
        go_on.insert(0, call[i] + jnp.sum(jnp.minimum(end, tables.transition[i] * go_on[0]), axis=1))
    stop_first = error_price * tables.mass * (1.0 - tables.correct)
    going_first = tables.mass * jnp.minimum(go_on[0], abstain_price)
    value = call_cost[0] + jnp.sum(jnp.minimum(stop_first, going_first))

    # Forward again: what becomes of the queries, by the cell of the model alone.
    def fates(come: jax.Array, stop: jax.Array, go_on: jax.Array) -> tuple[jax.Array, ...]:
        answers = stop <= come * jnp.minimum(go_on, abstain_price)
        abstains = ~answers & (abstain_price < go_on)
        return tuple(jnp.where(chosen, come, 0.0) for chosen in (answers, abstains, ~answers & ~abstains))

    answered, left, deferred = fates(tables.mass, stop_first, go_on[0])
    elsewhere = [_least_mismatch(answered, left, deferred)]
    for i in range(num_steps - 1):
        # Per unit that gets to a cell of the model before, so that stopping and going on compare as above.
        answered, left, on = fates(tables.transition[i], stop[i], go_on[i + 1])
        answered, left, deferred = (deferred @ part for part in (answered, left, on))
        elsewhere.append(_least_mismatch(answered, left, deferred))
    return BestPolicy(value, jnp.stack(elsewhere))


def _least_mismatch(answered: jax.Array, left: jax.Array, deferred: jax.Array) -> jax.Array:
    """Return the mass that two thresholds would treat otherwise, at the best thresholds.

    They leave what lies below the first without an answer, and defer what lies between it and the second.
    """

    def below(part: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.zeros(1, part.dtype), jnp.cumsum(part)])

    # Treated as they are: ``left`` up to the first, ``deferred`` up to the second, ``answered`` beyond.
    first = jax.lax.cummax(below(left) - below(deferred))
    alike = first + below(deferred) + jnp.sum(answered) - below(answered)
    return jnp.sum(answered) + jnp.sum(left) + jnp.sum(deferred) - jnp.max(alike)


@shown(certificate_card)
@dataclass(frozen=True, eq=False)
class Certificate:
    """What thresholds lose beyond the best policy of any shape, under the model.

    Attributes
    ----------
    error_prices
        US dollars per wrong answer, ``(num_prices,)``.
    models
        Names of each price's models.
    value
        Least loss of any rule for when to stop on each draw, US dollars per query,
        ``(num_prices, num_draws)``.
    draw_loss
        Loss of the draw's own best thresholds among the edges of the grid's cells, of the same shape.
    loss
        Loss of the Bayes thresholds, of the same shape.
    elsewhere
        Probability that a query gets to a model and that the best policy treats it otherwise than any
        threshold, mean over draws: an array a price, of the models that have one.
    cost_unit
        What costs are counted in.
    """

    error_prices: np.ndarray
    models: tuple[tuple[str, ...], ...]
    value: np.ndarray
    draw_loss: np.ndarray
    loss: np.ndarray
    elsewhere: tuple[np.ndarray, ...]
    cost_unit: str = DOLLARS

    @property
    def shape_gap(self) -> np.ndarray:
        """What another shape of policy saves on a draw that is known, as a share of its thresholds' loss.

        ``(num_prices, num_draws)``, at least 0.
        """
        return np.maximum(self.draw_loss - self.value, 0.0) / self.draw_loss  # below 0 by rounding alone

    @property
    def gap(self) -> np.ndarray:
        """Loss of the Bayes thresholds beyond the best policy of someone who knows the draw, US dollars.

        ``(num_prices, num_draws)``; its mean over draws bounds what any policy can save. It holds the price
        of the thresholds' shape, that of not knowing the draw, and what tuning with observed queries beside
        the model costs under the model alone.
        """
        return self.loss - self.value

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of `to_frame` as dictionaries."""
        shape_gap = self.shape_gap
        low, high = np.quantile(shape_gap, [0.05, 0.95], axis=1)
        return [
            {
                "error_price": float(price),
                "models": list(self.models[i]),
                "loss": float(self.loss[i].mean()),
                "gap": float(self.gap[i].mean()),
                "shape_gap": float(shape_gap[i].mean()),
                "shape_gap_q05": float(low[i]),
                "shape_gap_q95": float(high[i]),
                "elsewhere": [float(share) for share in self.elsewhere[i]],
            }
            for i, price in enumerate(self.error_prices)
        ]

    def to_frame(self) -> Any:
        """Return one row per price as a pandas frame.

        Columns: ``error_price``, ``models``; ``loss`` of the Bayes thresholds under the model and its ``gap``
        to the best policies of the draws, US dollars per query, means over draws, the latter a bound on what
        any policy saves; ``shape_gap``, the share of the loss that another shape would save if the draw were
        known, with 5 % and 95 % quantiles; ``elsewhere`` (see `Certificate`).
        """
        import pandas as pd

        return pd.DataFrame(self.records())

    def sentence(self) -> str:
        """Say what any policy could save at most, and what the shape of thresholds costs, at which model."""
        bound = np.maximum(self.gap.mean(axis=1) / self.loss.mean(axis=1), 0.0)
        shape = self.shape_gap.mean(axis=1)
        most, worst = int(np.argmax(bound)), int(np.argmax(shape))
        several = len(self.error_prices) > 1

        def at(index: int) -> str:
            price = f"{self.error_prices[index]:.3g} {self.cost_unit}"
            return f" (at {price} per wrong answer)" if several else ""

        high = round(float(100 * np.quantile(self.shape_gap[worst], 0.95)), 4)
        said = (
            f"Under the model no policy of these models saves more than {100 * bound[most]:.2g} % of the "
            f"loss of these thresholds{at(most)}, whatever its shape. Were the parameters known, another "
            f"shape than thresholds would save {100 * shape[worst]:.2g} %{at(worst)}, in 95 % of draws at "
            f"most {high:.2g} %"
        )
        if shape[worst] <= NEGLIGIBLE:
            return said + "."
        model = int(np.argmax(self.elsewhere[worst]))
        return (
            f"{said}: by treating {100 * self.elsewhere[worst][model]:.2g} % of the queries otherwise at "
            f"{self.models[worst][model]}."
        )


NEGLIGIBLE = 0.005
"""Share of the loss below which the shape of a policy does not matter."""


@in_64_bits
def certify(
    posterior: Posterior,
    policies: Policy | PricedPolicies,
    *,
    num_draws: int = DEFAULT_DRAWS,
    num_cells: int | None = None,
) -> Certificate:
    """Compare thresholds with the best policy of any shape, draw by draw.

    Parameters
    ----------
    posterior
        The fit.
    policies
        A policy, or those of a frontier or an envelope; their models must be in the fit. A model that cannot
        end a query is left out, with what its calls cost.
    num_draws
        Posterior draws, evenly spaced.
    num_cells
        Cells of the grid per model; if None, as many as `cascade_bayes.error_cost_frontier` takes.

    Raises
    ------
    InputError
        If the policies are not of the fit's models.

    Examples
    --------
    What could any policy save? ``certify(posterior, error_cost_frontier(posterior)).sentence()``
    """
    need(posterior, Posterior, "posterior", FROM_FIT)
    need(policies, (Policy, PricedPolicies), "policies", FROM_FRONTIER)
    asked = (
        [policies] if isinstance(policies, Policy) else [policies.summary(i) for i in range(len(policies))]
    )
    each = [shorten_policy(policy) for policy in asked]
    found: dict[int, tuple[np.ndarray, ...]] = {}
    for models in dict.fromkeys(policy.models for policy in each):
        own = [i for i, policy in enumerate(each) if policy.models == models]
        prices = np.asarray([each[i].error_price for i in own])
        first = each[own[0]]
        if len(models) == 1 and first.abstain_thresholds is None:
            alone = predict(posterior, first, num_draws=num_draws, prior_queries=np.inf)
            loss = alone.loss(prices[:, None])
            fields: tuple[np.ndarray, ...] = (loss, loss, loss, np.zeros((len(own), 0)))
        else:
            chain = discretise(
                posterior, models, num_draws, num_cells, prior_queries=np.inf, terms=first.terms
            )
            fields = _certify_chain(chain, prices, chain.positions(Cuts.stack([each[i].cuts for i in own])))
        found |= {i: tuple(field[at] for field in fields) for at, i in enumerate(own)}
    value, draw_loss, loss, elsewhere = zip(*(found[i] for i in range(len(each))), strict=True)
    return Certificate(
        error_prices=np.asarray([policy.error_price for policy in each]),
        models=tuple(policy.models for policy in each),
        value=np.stack(value),
        draw_loss=np.stack(draw_loss),
        loss=np.stack(loss),
        elsewhere=elsewhere,
        cost_unit=posterior.data.units.cost,
    )


def _certify_chain(chain: Discretised, error_prices: np.ndarray, bayes: Positions) -> tuple[np.ndarray, ...]:
    """Return value, draw_loss, loss and elsewhere of one cascade by price; ``bayes`` lie on its grid."""
    each = [own_optima(chain, price, bayes) for price in error_prices]
    own = jax.tree.map(lambda *fields: jnp.stack(fields), *each)
    prices = jnp.asarray(error_prices, dtype=chain.call_cost.dtype)
    problem = chain.problem().own_steps(chain.num_thresholds)
    found = _certify(problem, prices, bayes, own)
    return tuple(np.asarray(field) for field in found)


@kept()
def _certify(
    problem: Problem, error_prices: jax.Array, bayes: Positions, own: Positions
) -> tuple[jax.Array, ...]:
    early = bayes.early is not None
    shared, draws = problem.by_draw()

    def at_price(at: tuple[jax.Array, Positions, Positions]) -> tuple[jax.Array, ...]:
        price, bayes, own = at

        def on_draw(draw: Any, own: Positions) -> tuple[jax.Array, ...]:
            one = shared.of_draw(draw)
            best = best_policy(one, price, early)
            # A policy of any shape takes cells whole; so do the thresholds that it is compared with.
            start = jax.tree.map(lambda field: jnp.round(field)[None], own)
            found = optimise(one.alone(), price, start, 0)
            outcome = forward(one, *bayes)
            loss = outcome.cost + price * outcome.error
            return best.value, found.loss + found.polish_gain, loss, best.elsewhere

        value, draw_loss, loss, elsewhere = jax.vmap(on_draw)(draws, own)
        return value, draw_loss, loss, jnp.mean(elsewhere, axis=0)

    return jax.lax.map(at_price, (error_prices, bayes, own))
