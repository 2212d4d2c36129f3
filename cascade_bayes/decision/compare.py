r"""One policy against another, on the same posterior draws.

Both policies are predicted with the same draws of parameters and the same weights of the observed queries
(`cascade_bayes.decision.predict`), so that what is uncertain about both cancels from their difference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._shown import shown
from cascade_bayes._units import DOLLARS
from cascade_bayes.decision.predict import DEFAULT_DRAWS, predict
from cascade_bayes.decision.shown import comparison_card
from cascade_bayes.engine.rows import PRIOR_QUERIES
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import FROM_FIT, Posterior
from cascade_bayes.policy.policy import FROM_FRONTIER, Policy


@shown(comparison_card)
class Comparison(NamedTuple):
    """Posterior draws of the difference between two policies, the first less the second.

    Attributes
    ----------
    error_price
        US dollars per wrong answer.
    error
        Difference of error probabilities, ``(num_draws,)``.
    cost
        Difference of US dollars per query, ``(num_draws,)``.
    loss
        Difference of ``expense + error_price * error``, ``(num_draws,)``.
    cost_unit
        What costs are counted in.
    """

    error_price: float
    error: np.ndarray
    cost: np.ndarray
    loss: np.ndarray
    cost_unit: str = DOLLARS

    @property
    def prob_better(self) -> float:
        """Posterior probability that the first has the lower loss; a tie counts half."""
        return float(np.mean(self.loss < 0) + 0.5 * np.mean(self.loss == 0))

    def interval(self, figure: str = "loss", probability: float = 0.9) -> np.ndarray:
        """Return the central interval of the difference of ``"error"``, ``"cost"`` or ``"loss"``, ``(2,)``.

        Raises
        ------
        InputError
            For another figure or a probability that is none.
        """
        figures = ("error", "cost", "loss")
        if figure not in figures:
            raise InputError(f"figure must be one of {', '.join(figures)}; got {figure!r}.")
        if not 0 < probability < 1:
            raise InputError(f"probability must lie between 0 and 1; got {probability!r}.")
        tail = (1 - probability) / 2
        return np.quantile(getattr(self, figure), [tail, 1 - tail])

    def sentence(self) -> str:
        """Say which policy is better, by how much, and how sure that is."""
        low, high = 1000 * self.interval()
        return (
            f"The first policy is better with probability {self.prob_better:.2f}: its loss differs by "
            f"{1000 * self.loss.mean():+.3g} {self.cost_unit} per thousand queries (90 % interval "
            f"{low:+.3g} to "
            f"{high:+.3g}) at {self.error_price:g} {self.cost_unit} per wrong answer."
        )


@in_64_bits
def compare(
    posterior: Posterior,
    first: Policy,
    second: Policy,
    *,
    error_price: float | None = None,
    num_draws: int = DEFAULT_DRAWS,
    prior_queries: float = PRIOR_QUERIES,
) -> Comparison:
    """Compare two policies, of the same models or of others.

    Parameters
    ----------
    posterior
        The fit.
    first, second
        Policies whose models are in the fit.
    error_price
        US dollars per wrong answer; that of the policies, if it is the same, if None.
    num_draws
        Posterior draws, evenly spaced.
    prior_queries
        How many queries the model counts for beside the observed ones (`cascade_bayes.engine.rows`).

    Returns
    -------
    Comparison
        Draws of the differences.

    Raises
    ------
    InputError
        If the policies have different prices of latency or abstaining, or different prices of an error and
        none is given, a price is not a positive number, or the policies are not of the fit's models.

    Examples
    --------
    Is the dearer cascade worth it? ``compare(posterior, three_models, two_models).sentence()``
    """
    need(posterior, Posterior, "posterior", FROM_FIT)
    need(first, Policy, "first", FROM_FRONTIER)
    need(second, Policy, "second", FROM_FRONTIER)
    if error_price is None:
        if first.error_price != second.error_price:
            raise InputError(
                f"the policies were found at different error prices, {first.error_price:g} and "
                f"{second.error_price:g}; give the error_price at which to compare them."
            )
        error_price = first.error_price
    if not (np.isfinite(error_price) and error_price > 0):
        raise InputError(f"error_price must be a positive number; got {error_price!r}.")
    if not first.terms.agree(second.terms):
        raise InputError(
            f"the policies were found on different terms, {first.terms.spelled_out()} and "
            f"{second.terms.spelled_out()}; tune both at the same prices."
        )
    one, other = (
        predict(posterior, policy, num_draws=num_draws, prior_queries=prior_queries)
        for policy in (first, second)
    )
    return Comparison(
        error_price,
        one.error - other.error,
        one.cost - other.cost,
        one.loss(error_price) - other.loss(error_price),
        posterior.data.units.cost,
    )
