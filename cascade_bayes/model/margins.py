r"""The families of a margin's continuous part: how each is parametrised, and its prior.

Every family is a mixture of `Priors.num_components` components at fixed places that tile the standardised
score: component :math:`j` of :math:`J` sits at :math:`m_j = (j + \tfrac12)/J`. Its weight is free, and so is
its spread, the one further site of a family:

================  ======================  =============================================  ====================
name              component               site, one value a component                    prior, log-normal
================  ======================  =============================================  ====================
``beta``          beta of the score,      ``concentration``: alpha + beta                median proportional
                  mean :math:`m_j`                                                       to J
``logit_normal``  normal of the logit,    ``normal_scale``: its standard deviation       median in units of
                  mean logit :math:`m_j`                                                 1/sqrt(J m_j(1-m_j))
================  ======================  =============================================  ====================

The logit of a beta variable of mean :math:`m` and concentration :math:`c` has a standard deviation of about
:math:`1/\sqrt{c\,m(1-m)}` (delta method). The normals' medians grow in the same way towards both ends, so
that with equal weights either family is close to the uniform score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from cascade_bayes.distributions import BetaMixture, ContinuousPart, LogitNormalMixture
from cascade_bayes.errors import InputError
from cascade_bayes.model.priors import Priors


class MarginFamily(NamedTuple):
    """A family of continuous parts as the model samples it.

    Attributes
    ----------
    name
        As users write it.
    site
        Name of the site that holds the components' spreads.
    prior
        ``priors -> `` its prior, of batch shape ``()`` or ``(num_components,)``.
    part
        ``(mixing_probs, spreads) -> `` the continuous part; both and all fields ``(..., num_components)``.
    """

    name: str
    site: str
    prior: Callable[[Priors], dist.Distribution]
    part: Callable[[jax.Array, jax.Array], ContinuousPart]


def component_means(num_components: int) -> jax.Array:
    """Where a margin's components sit: the middles of equal parts of (0, 1)."""
    return (jnp.arange(num_components) + 0.5) / num_components


def _beta_prior(priors: Priors) -> dist.Distribution:
    median = priors.concentration * priors.num_components
    return dist.LogNormal(jnp.log(median), priors.concentration_scale)


def _beta_part(mixing_probs: jax.Array, concentration: jax.Array) -> BetaMixture:
    mean = component_means(concentration.shape[-1])
    return BetaMixture(mixing_probs, concentration * mean, concentration * (1.0 - mean))


def _logit_normal_prior(priors: Priors) -> dist.Distribution:
    mean = component_means(priors.num_components)
    median = priors.normal_scale / jnp.sqrt(priors.num_components * mean * (1.0 - mean))
    return dist.LogNormal(jnp.log(median), priors.normal_log_scale)


def _logit_normal_part(mixing_probs: jax.Array, scale: jax.Array) -> LogitNormalMixture:
    mean = component_means(scale.shape[-1])
    loc = jnp.log(mean) - jnp.log1p(-mean)
    return LogitNormalMixture(mixing_probs, jnp.broadcast_to(loc, scale.shape).astype(scale.dtype), scale)


_ALL = (
    MarginFamily("beta", "concentration", _beta_prior, _beta_part),
    MarginFamily("logit_normal", "normal_scale", _logit_normal_prior, _logit_normal_part),
)

MARGINS: dict[str, MarginFamily] = {family.name: family for family in _ALL}
"""All families by name."""


def get_margin(name: str) -> MarginFamily:
    """Return the family of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in MARGINS:
        raise InputError(f"margin must be one of {', '.join(MARGINS)}; got {name!r}.")
    return MARGINS[name]
