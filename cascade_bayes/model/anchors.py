r"""What confidences say, labels apart, of how often models are right: anchors of the priors.

**Claims.** Confidences are probabilities, if poor ones. Models that claim more are right more often, though
not as often as they say. With :math:`\bar p_i` the mean probability that model i claims, the log odds
:math:`\alpha_i` of its being right have the prior mean

.. math::

    \mu_i + \kappa\,\{\mathrm{logit}\,\bar p_i - m_i\},

:math:`\mu_i` what its place in the cascade says, :math:`m_i` what models in that place usually claim. On six
public tables :math:`\kappa` is about 0.2 to 0.7 between the models of a table.

**Ranks.** Priors speak of ranks among *all* of a model's confidences: of :math:`r = \mathrm{logit}\,F`, which
is 0 in the middle. Without atoms that is the standardised logit itself, near enough. With a share of exactly
certain answers the standardised logits, which are those of the rest, begin lower and reach less far, and an
atom lies in the middle of its own ranks: of a model that is certain of half its answers the certain ones lie
about :math:`r = \mathrm{logit}\,0.75`, not at the end of the scale. In place of intercept, slope and effect
of atoms (:math:`a, b, e`) the priors are those of :math:`\alpha = (a - t b) / \sqrt{1 + B^2}`,
:math:`B = b / s` and :math:`e_a - \rho_a b`, where :math:`r \approx s (z + t)` on the continuous part and
:math:`\rho_a = r_a / s - t - x(z_a)`.

**Accuracy.** Ranks are logistic, and so is the tolerance of the curve :math:`\sigma(A + B r)`: the sum of the
two is nearly logistic again, with :math:`1 + B^2` times the variance, so that a model is right overall with
the probability :math:`\sigma(A / \sqrt{1 + B^2})`, to 0.01.

No label enters: this is a regression of unknowns on what is known of all queries, labelled or not.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit

from cascade_bayes.data import CascadeData
from cascade_bayes.model.correctness import MAX_REGRESSOR
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors

LARGEST_CLAIM = 0.99
"""Claims of more are cut to it, and of less than the rest to that: between them the log odds say nothing."""

_LEVELS = np.array([0.05, 0.5, 0.95])
"""Quantiles of the continuous part by whose ranks the line from standardised logits to ranks is laid."""


class Anchors(NamedTuple):
    r"""What is known of each model's confidences.

    Attributes
    ----------
    claims
        Log odds of the mean probability that each model claims, ``(num_models,)``; NaN if not known.
    middle
        :math:`t`, ``(num_models,)``: minus the standardised logit in the middle of all confidences.
    stretch
        :math:`s`, ``(num_models,)``.
    at_atoms
        :math:`\rho`, ``(num_models, num_atoms)``; 0 in empty slots.
    """

    claims: jax.Array | np.ndarray
    middle: jax.Array | np.ndarray
    stretch: jax.Array | np.ndarray
    at_atoms: jax.Array | np.ndarray

    @classmethod
    def none(cls, num_models: int, num_atoms: int) -> Anchors:
        """Return anchors of models of whose confidences nothing is known."""
        zeros = np.zeros(num_models)
        return cls(zeros * np.nan, zeros, zeros + 1.0, np.zeros((num_models, num_atoms)))

    def padded(self, num_atoms: int) -> Anchors:
        """Return the anchors with this many slots for atoms."""
        more = num_atoms - self.at_atoms.shape[1]
        return self._replace(at_atoms=np.pad(self.at_atoms, ((0, 0), (0, more))))


def find_anchors(data: CascadeData, layout: AtomLayout, *, at_random: bool = False) -> Anchors:
    """Return the anchors of a table; no label is read.

    Parameters
    ----------
    data
        The table.
    layout
        Where its atoms lie.
    at_random
        The same as for `find_claims`.
    """
    claims = find_claims(data, at_random=at_random)
    unknown = Anchors.none(*layout.locs.shape)
    ranks = [
        rank_line(z[~np.isnan(z)], locs, bool(continuous))
        for z, locs, continuous in zip(data.logit_score().T, layout.locs, layout.continuous, strict=True)
    ]
    middle, stretch, at_atoms = (np.asarray(field, dtype=float) for field in zip(*ranks, strict=True))
    return Anchors(unknown.claims if claims is None else claims, middle, stretch, at_atoms)


def find_claims(data: CascadeData, *, at_random: bool = False) -> np.ndarray | None:
    """Return the log odds of the mean probability that each model claims, ``(num_models,)``.

    Parameters
    ----------
    data
        The table; no label is read. Every model must have a confidence.
    at_random
        Whether confidences that are missing are so at random. Then each model's mean is of all its own; else
        of the queries that every model has seen, so that all are compared on the same ones.

    Returns
    -------
    np.ndarray or None
        None of a table whose confidences are no probabilities (kind ``"score"``); and, unless they are
        missing at random, if fewer than half of its queries have all confidences, as in the log of a
        running cascade, which shows the later models on hard queries only.
    """
    complete = data.observed.all(axis=1)
    if data.kind == "score" or (not at_random and 2 * complete.sum() < max(data.num_queries, 1)):
        return None
    confidence = data.confidence.copy("C")  # so that the sums are rounded alike, wherever it comes from
    if not at_random:
        confidence[~complete] = np.nan
    probability = np.exp(confidence) if data.kind == "logprob" else confidence
    mean = np.clip(np.nanmean(probability, axis=0), 1 - LARGEST_CLAIM, LARGEST_CLAIM)
    return np.asarray(logit(mean))


def rank_line(z: np.ndarray, locs: np.ndarray, continuous: bool) -> tuple[float, float, np.ndarray]:
    r"""Return :math:`t`, :math:`s` and :math:`\rho` of one model.

    Shares are counts with half a query more for each atom and for the continuous part.

    Parameters
    ----------
    z
        Its standardised logits, those that are known, ``(num_queries,)``.
    locs
        Where its atoms lie, ``(num_atoms,)``; NaN in empty slots.
    continuous
        Whether there is a continuous part besides.
    """
    is_atom = ~np.isnan(locs)
    at = locs[is_atom]
    here = z[:, None] == at
    counts = here.sum(axis=0) + 0.5
    rest = (~here.any(axis=1)).sum() + 0.5 if continuous else 0.0
    total = counts.sum() + rest
    share, rest = counts / total, rest / total
    below = np.array([share[at < loc].sum() + rest * expit(loc) for loc in at])
    middle, stretch = 0.0, 1.0
    if continuous:
        low, half, high = logit(share[at < 0].sum() + rest * _LEVELS)
        stretch = float(high - low) / float(logit(_LEVELS[2]) - logit(_LEVELS[0]))
        middle = float(half) / stretch
    at_atoms = np.zeros(locs.shape)
    ranks = logit(below + 0.5 * share)
    at_atoms[is_atom] = ranks / stretch - middle - np.clip(at, -MAX_REGRESSOR, MAX_REGRESSOR)
    return middle, stretch, at_atoms


def accuracy_locs(priors: Priors, claims: jax.Array) -> jax.Array:
    """Return the prior mean of every model's log odds of being right, ``(num_models,)``.

    Parameters
    ----------
    priors
        Hyperparameters.
    claims
        What each model's confidence claims, as `find_claims` returns it; NaN where nothing is known.
    """
    place = jnp.arange(claims.shape[0])
    beyond = claims - (priors.claim_loc + priors.claim_step * place)
    usual = priors.intercept_loc + priors.step_loc * place
    return usual + priors.claim_effect * jnp.where(jnp.isnan(beyond), 0.0, beyond)
