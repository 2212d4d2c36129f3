r"""The families of a margin's continuous part: how each is parametrised, and its prior.

Every family is a mixture of `Priors.num_components` components at fixed places that tile the standardised
score: component :math:`j` of :math:`J` sits at :math:`m_j = (j + \tfrac12)/J`. Its weight is free, and so is
its spread, the one site of a family's own:

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
that with equal weights either family is close to the uniform score; those of a long table
(`Priors.long_table`) grow as the distances between neighbours do, the square of it.

Weights are a Polya tree (Mauldin, Sudderth & Williams, Annals of Statistics 20, 1992; with logistic splits
in place of Beta ones, as in Jara & Hanson, Biometrika 98, 2011): the components are halved, and halved again,
and the share of a stretch of :math:`n` components that goes to the left :math:`n_l` of them has the log odds

.. math:: \log\frac{n_l}{n - n_l} + x, \qquad x \sim \text{Student t},

so that :math:`x = 0` throughout gives equal weights. Data say something of each split by itself, namely how
many confidences fell to either side, which log ratios of overlapping neighbours lack. Heavy tails make the
prior sparse: most splits are even, and a few as uneven as the data wish.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist

from cascade_bayes.distributions import BetaMixture, ContinuousPart, LogitNormalMixture
from cascade_bayes.errors import InputError
from cascade_bayes.model.priors import Priors


class MarginFamily(NamedTuple):
    """A family of continuous parts as the model samples it.

    Attributes
    ----------
    name
        Name of the family, as users write it.
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


def split_prior(priors: Priors) -> dist.Distribution:
    """Prior of one split of a margin's weights; its log odds beyond those of equal weights."""
    return dist.StudentT(priors.split_df, 0.0, priors.split_scale)


def simplex_from_splits(split: jax.Array) -> jax.Array:
    """Return the weights of components, ``(..., J)``, from their splits, ``(..., J - 1)``.

    The splits stand level by level, from left to right: the first halves all components, the second the left
    half.

    Examples
    --------
    >>> simplex_from_splits(jnp.zeros(3)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> simplex_from_splits(jnp.log(jnp.array([3.0, 1.0, 4.0]))).round(3).tolist()
    [0.375, 0.375, 0.2, 0.05]
    """
    to_left, to_right, offset = _splits(split.shape[-1] + 1)
    log_odds = split + offset.astype(split.dtype)
    log_left, log_right = -jax.nn.softplus(-log_odds), -jax.nn.softplus(log_odds)
    log_weight = log_left @ to_left.astype(split.dtype) + log_right @ to_right.astype(split.dtype)
    # No weight is zero, of whose log the gradient would be lost.
    return jnp.exp(jnp.maximum(log_weight, math.log(jnp.finfo(split.dtype).tiny) + 8.0))


@cache
def _splits(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which components go left and right at each split, ``(size - 1, size)``; log odds of equal weights."""
    to_left, to_right, offset = [], [], []
    level = [np.arange(size)]
    while level:
        below = []
        for part in level:
            if part.size > 1:
                left, right = part[: (part.size + 1) // 2], part[(part.size + 1) // 2 :]
                to_left.append(np.isin(np.arange(size), left))
                to_right.append(np.isin(np.arange(size), right))
                offset.append(np.log(left.size / right.size))
                below += [left, right]
        level = below
    shape = (size - 1, size)
    return np.reshape(to_left, shape), np.reshape(to_right, shape), np.asarray(offset)


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
    root = jnp.sqrt(priors.num_components * mean * (1.0 - mean))
    power = priors.normal_power
    median = priors.normal_scale / (root if power == 1 else root**power)  # of 1 to the last digit
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
