r"""Simulation-based calibration, which tells whether the posterior is the posterior.

Parameters :math:`\theta` are drawn from the priors, a table from the model given :math:`\theta`, and
:math:`\theta_1, \dots, \theta_L` from the posterior given the table. Then :math:`\theta` and the
:math:`\theta_l` are exchangeable, whatever the model, and for any function :math:`f` of parameters and table
the rank of :math:`f(\theta)` among the :math:`f(\theta_l)` is uniform on :math:`0, \dots, L` (Talts,
Betancourt, Simpson, Vehtari & Gelman, arXiv 1804.06788, theorem 1; for functions of the table too, Modrák et
al., Bayesian Analysis 20, 2025). A mistake in the likelihood, in a change of coordinates or in the sampler
shows as ranks that are not.

For this nothing may be read from the table outside the posterior: scores are taken as they are simulated,
without a confidence map of their own; every model has one atom, at exact certainty, whether or not the table
shows it; and families of copulas are those that were simulated. The draws must be nearly independent
(section 5.1 of Talts et al.): chains go on until every parameter has as many effective draws as are ranked,
or ``max_rounds`` is reached, and are thinned to that number.

The functions are the parameters, and what is decided by: error, cost and reach of fixed thresholds, the
thresholds that are best for the draw itself at one price of an error, and the log likelihood of the table,
which sees mistakes of the joint posterior that no single parameter shows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro.diagnostics import effective_sample_size
from scipy import stats

from cascade_bayes._entry import in_64_bits
from cascade_bayes.errors import ConvergenceWarning, DataWarning, InputError
from cascade_bayes.inference.batch import FailedFit, fit_prepared
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import Sampled
from cascade_bayes.sbc.ranks import CalibrationRanks
from cascade_bayes.sbc.replications import draw_truths, make_design
from cascade_bayes.sbc.uniformity import rank_with_ties

ERROR_PRICE = 0.01
"""US dollars. With the costs of calls that are simulated, the best thresholds are finite for some cascades
from the priors and infinite for others."""

NUM_WARMUP, NUM_SAMPLES = 75, 100
"""Transitions of each chain of NUTS; further rounds where the effective draws are too few."""

NUM_WEIGHTED = 500
"""Draws, by chain, of the methods with importance weights."""

_STREAM = 0x5BC00000
"""Sets the keys of truths and tables apart from those of fits, which are numbered from 0."""


@in_64_bits
def simulation_based_calibration(
    num_replications: int = 200,
    method: str = "nuts",
    *,
    seed: int,
    num_queries: int = 50,
    num_models: int = 3,
    num_draws: int = 99,
    error_price: float = ERROR_PRICE,
    batch_size: int = 4,
    progress: bool = True,
    **options: Any,
) -> CalibrationRanks:
    """Draw cascades from the priors, simulate and fit a table of each, and rank the truth in its posterior.

    Parameters
    ----------
    num_replications
        How many cascades.
    method
        A method of `fit`, but not ``"map"``.
    seed
        The same seed gives the same ranks.
    num_queries, num_models
        Size of the tables.
    num_draws
        Draws to rank among. One less than a number with many divisors makes even bins.
    error_price
        US dollars per wrong answer, for the thresholds. A call of the first model costs 0.0001, of each
        after it four times the one before.
    batch_size
        How many tables are fitted side by side. A processor does best with few, an accelerator with many.
    progress
        Show a progress bar.
    **options
        Options of `fit`, but not ``atoms`` and ``copula="auto"``, which read the table. Chains are shorter by
        default: two of 75 and 100 transitions, and ``max_rounds=3`` of the latter. By default ``structure``
        is ``"chain"``, of which every quantity is calibrated if the software is right; ``"modular"``, the
        default of `fit`, is exact for margins, and for the calibration if ``upstream=False``. It is fitted to
        tables of a chain, and compared where its parameters mean the same: with the upstream effect in the
        terms of the chain's calibration.

    Returns
    -------
    CalibrationRanks
        The ranks, with a verdict, ``.sentence()``.

    Raises
    ------
    InputError
        If an option is not known or reads the table, a number is out of range, or a table cannot be fitted.
    """
    short = method in ("nuts", "auto")
    defaults: dict[str, Any] = {"structure": "chain", "num_chains": 2, "progress": False}
    defaults["num_samples"] = NUM_SAMPLES if short else NUM_WEIGHTED
    if short:
        defaults["num_warmup"] = NUM_WARMUP
    asked = FitOptions.of(method, seed, defaults | options)
    _check(asked, num_replications, num_queries, num_models, num_draws, error_price, batch_size)
    key_grid, key_truth = jax.random.split(jax.random.fold_in(jax.random.key(asked.seed), _STREAM))
    design = make_design(key_grid, asked, num_models, num_queries, error_price)
    truths = draw_truths(jax.random.split(key_truth, num_replications), design.simulated, num_queries)
    truth = [jax.tree.map(lambda x, place=place: x[place], truths) for place in range(num_replications)]
    prepared = {place: design.prepare(one) for place, one in enumerate(truth)}
    rng = np.random.default_rng(asked.seed)
    rows: dict[int, tuple[Any, float, bool]] = {}

    def enough(sampled: Sampled) -> bool:
        return effective_draws(sampled.samples) >= num_draws

    from tqdm.auto import tqdm

    with warnings.catch_warnings(), tqdm(total=num_replications, disable=not progress, unit="fit") as bar:
        # The priors themselves give a negative slope to one model in thirteen.
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # `suspect` has them
        for place, posterior in fit_prepared(prepared, batch_size, enough=enough):
            if isinstance(posterior, FailedFit):
                raise InputError(f"replication {place} could not be fitted: {posterior.reason}")
            values = design.quantities(truth[place], posterior, num_draws)
            found = {name: rank_with_ties(rng, x[0], x[1:]) for name, x in values.items()}
            rows[place] = found, *_trust(posterior)
            bar.update()
    ranks, effective, suspect = zip(*(rows[place] for place in range(num_replications)), strict=True)
    by_name = {name: np.array([row[name] for row in ranks]) for name in ranks[0]}
    return CalibrationRanks(
        ranks=by_name,
        num_draws=num_draws,
        exact=frozenset(name for name in by_name if design.is_exact(name)),
        effective_draws=np.array(effective),
        suspect=np.array(suspect),
    )


def effective_draws(samples: Mapping[str, np.ndarray]) -> float:
    """Return the effective draws of the parameter that has fewest, of their normal scores.

    Parameters
    ----------
    samples
        ``(num_chains, num_samples, ...)`` each; 0 if there are none.
    """
    found = []
    for values in samples.values():
        total = values.shape[0] * values.shape[1]
        if values.shape[1] < 2:
            return 0.0
        ranks = stats.rankdata(values.reshape((total, -1)), axis=0)
        scores = stats.norm.ppf((ranks - 0.375) / (total + 0.25)).reshape(values.shape)
        found.append(np.min(effective_sample_size(scores)))
    return float(np.min(found))


def _trust(posterior: Posterior) -> tuple[float, bool]:
    """Effective draws, and whether the library warns of the fit."""
    if "approximation" in posterior.provenance:
        report = posterior.provenance["approximation"]
        return min(report["ess"].values()), not posterior.convergence().converged
    return effective_draws(posterior.samples), bool(posterior.sample_stats["diverging"].any())


def _check(
    options: FitOptions,
    num_replications: int,
    num_queries: int,
    num_models: int,
    num_draws: int,
    error_price: float,
    batch_size: int,
) -> None:
    if options.method == "map":
        raise InputError("method 'map' gives a single point, in which nothing has a rank; use another.")
    if options.atoms is not None or "auto" in np.ravel(options.copula):
        raise InputError(
            "atoms and copula='auto' are read from a table, which calibration must not do; leave atoms out, "
            "and name the copula that is to be simulated."
        )
    least = {
        "num_replications": (num_replications, 2),
        "num_queries": (num_queries, 1),
        "num_models": (num_models, 2),
        "num_draws": (num_draws, 1),
        "batch_size": (batch_size, 1),
    }
    for name, (value, low) in least.items():
        if value < low:
            raise InputError(f"{name} must be at least {low}; got {value}.")
    if not (np.isfinite(error_price) and error_price > 0):
        raise InputError(f"error_price must be a positive number; got {error_price!r}.")
