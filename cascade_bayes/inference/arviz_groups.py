r"""A posterior in ArviZ's groups: what a file holds of it, and what is computed for ArviZ's functions.

========================  ==========================================================  ==================
group                     variables                                                   dimensions
========================  ==========================================================  ==================
``posterior``             the sites of `cascade_bayes.model.cascade`                  chain, draw, ...
``sample_stats``          statistics of NUTS, by ArviZ's names; of no other method    chain, draw
``observed_data``         ``confidence`` as in the table, ``correct``                 query, model
``constant_data``         ``call_cost``, ``cost``, ``latency_ms``, atoms, centres,    model, ...
                          anchors
``log_likelihood``        ``confidence_and_correct``: their joint density, by query   chain, draw, query
``posterior_predictive``  ``confidence``, ``correct`` of tables like the observed    chain, draw, ...
``prior``                 the sites, drawn from their priors                          chain, draw, ...
``prior_predictive``      as ``posterior_predictive``                                 chain, draw, ...
========================  ==========================================================  ==================

The first four are what a file holds (`cascade_bayes.inference.storage.packing`). Variables have a
``long_name`` and, where there is one, ``units``;
models, pairs of models (``deferral``), pairs whose copula has a parameter (``pair``), atoms and queries go by
name.

**Missing values.** A confidence or a label that the table lacks is NaN, in the replicates as in the observed
table, so that plots compare like with like; ``correct`` is of integers if the table is fully labelled, which
ArviZ then shows as counts and not as a smooth density. A replicate lacks the same cells, whatever it has in
the others: in the log of a running cascade, where a model was asked because of what those before it said, its
replicated confidences are those of all queries, the observed ones not. Densities of confidences smooth atoms
over, and leave out infinite values: look at ``kind="cumulative"`` (ArviZ 0.x) or ``kind="ecdf"`` (1.x) too.

**The log likelihood** of a query is the joint density of its confidences and labels under the cascade of all
models in order, a chain of neighbours; confidences count as standardised logits, and an atom by its mass.
Hence ``az.compare`` compares fits to one table with the same map of confidences and the same atoms. Of a
modular fit it is not what the draws were conditioned on: given margins and calibration :math:`\phi`, a draw
of :math:`\tau` has the density :math:`p(\tau) L(\tau, \phi) / Z(\phi)` (a cut posterior: Plummer, Statistics
and Computing 25, 2015). Leaving a query out changes :math:`Z(\phi)` too, so that the importance ratios
:math:`1/p` of leave-one-out are approximate there: they treat the draws as those of a joint posterior.

ArviZ's ``plot_loo_pit`` needs a likelihood for each observed value by itself, and has no meaning here.

**Predictive draws.** The prior of a modular fit is that of all pairs, and its cascades have the posterior's
own centres (`cascade_bayes.model.centres`), which come from the table's confidences; the layout of atoms
and the map of confidences come from the table as well. The coordinate ``draw`` of ``posterior_predictive``
says which draws of the posterior were kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cascade_bayes._trees import evenly_spaced
from cascade_bayes.inference.predictive import log_likelihoods, replicate
from cascade_bayes.inference.prior import draw_sites
from cascade_bayes.inference.storage.packing import draws_group
from cascade_bayes.model.observations import observations

if TYPE_CHECKING:
    import xarray

    from cascade_bayes.inference.posterior import Posterior

NUM_REPLICATES = 100
"""Tables simulated from the posterior, and from the prior: as many curves as a plot can show."""


def computed_groups(posterior: Posterior, num_replicates: int, seed: int) -> dict[str, xarray.Dataset]:
    """Return the groups that follow from those that a file holds.

    Parameters
    ----------
    posterior
        Draws and table.
    num_replicates
        Draws of the predictive groups and of the prior; of the posterior as many of them as share out evenly
        among its chains, at least one a chain.
    seed
        The same seed gives the same groups.
    """
    data, spec = posterior.data, posterior.spec
    copulas = spec.copulas_of(range(spec.num_models))
    key_prior, key_prior_tables, key_tables = jax.random.split(jax.random.key(seed), 3)

    def tables(key: jax.Array, params: Any, lead: tuple[int, int]) -> dict[str, np.ndarray]:
        found = replicate(key, params, copulas, spec.layout, data)
        return {name: values.reshape(*lead, *values.shape[1:]) for name, values in found._asdict().items()}

    num_chains, num_samples = next(iter(posterior.samples.values())).shape[:2]
    density = log_likelihoods(posterior.params(), observations(data, spec.layout), copulas, spec.layout.kinds)
    density_by_chain = np.asarray(density).reshape(num_chains, num_samples, -1)
    kept = evenly_spaced(num_samples, min(max(num_replicates // num_chains, 1), num_samples))
    of_posterior = posterior.params(num_chains * len(kept))
    prior_sites, of_prior = draw_sites(jax.random.split(key_prior, num_replicates), spec)
    return {
        "log_likelihood": draws_group(posterior, {"confidence_and_correct": density_by_chain}),
        "posterior_predictive": draws_group(
            posterior, tables(key_tables, of_posterior, (num_chains, len(kept))), kept
        ),
        "prior": draws_group(
            posterior, {name: np.asarray(value)[None] for name, value in prior_sites.items()}
        ),
        "prior_predictive": draws_group(posterior, tables(key_prior_tables, of_prior, (1, num_replicates))),
    }
