r"""The generative model in NumPyro: priors, parameters, likelihood.

=====================  ====================================================  =================
site                   prior                                                 shape
=====================  ====================================================  =================
``mixing_split``       Student t: log odds of halving a margin's components  (model, component - 1)
``normal_scale``       LogNormal: standard deviation of a component's logit  (model, component)
``concentration``      LogNormal: in its place if margins are beta mixtures  (model, component)
``atom_logit``         Normal: log odds of an atom against the continuum     (atom,)
``tau``                scaled Beta: Kendall's tau of neighbours              (pair,)
``slope``              Normal, positive if ``monotone``                      (model,)
``intercept``          Normal about a line along the cascade                 (model,)
``upstream``           Normal: effect of the previous model's confidence     (pair,)
``atom_effect``        Normal                                                (atom,)
``label_corr``         Beta: what the labels of one query have in common     ()
``label_corr_slope``   Normal: how that grows with the confidence            ()
=====================  ====================================================  =================

The numbers are those of `cascade_bayes.model.priors.Priors`; where confidences are known, those of
``slope``, ``intercept`` and ``atom_effect`` are anchored in them (`cascade_bayes.model.anchors`). ``tau`` has
no entry for pairs whose family has no parameter (independence); there is no ``upstream`` if the model is
specified without it. The pairs are those of neighbours for the structure ``"chain"``, all for ``"modular"``
(see `cascade_bayes.model.spec.ModelSpec`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import AffineTransform

from cascade_bayes.copulas import Copula
from cascade_bayes.distributions.mixed import MarginParams
from cascade_bayes.model.anchors import Anchors, accuracy_locs
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.margins import get_margin, simplex_from_splits, split_prior
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import MarginSpec, ModelSpec

Sites = dict[str, jax.Array]


def _sample(name: str, prior: dist.Distribution, shape: tuple[int, ...]) -> jax.Array:
    """Sample independent values of a prior, of this shape with its batch and event shape last."""
    batch = shape[: len(shape) - len(prior.event_shape)]
    return numpyro.sample(name, prior.expand(batch).to_event(len(batch)))


def sample_margins(spec: MarginSpec, models: tuple[int, ...], num_atoms: int) -> Sites:
    """Sample the sites of margins, inside a NumPyro context.

    Parameters
    ----------
    spec
        Their family and priors.
    models
        ``(num_models,)``, or ``()`` for a single margin.
    num_atoms
        Number of atoms of all models together.
    """
    priors, family = spec.priors, get_margin(spec.margin)
    sites = {
        "mixing_split": _sample("mixing_split", split_prior(priors), (*models, priors.num_components - 1)),
        family.site: _sample(family.site, family.prior(priors), (*models, priors.num_components)),
    }
    if num_atoms:
        prior = dist.Normal(priors.atom_logit_loc, priors.atom_logit_scale)
        sites["atom_logit"] = _sample("atom_logit", prior, (num_atoms,))
    return sites


def sample_calibration(
    priors: Priors, monotone: bool, anchors: Anchors, atoms: tuple[np.ndarray, np.ndarray]
) -> Sites:
    """Sample the sites of how often models are right at their own confidence, inside a NumPyro context.

    Parameters
    ----------
    priors, monotone
        The model's priors, and whether its calibration must rise with the confidence.
    anchors
        What is known of the confidences.
    atoms
        Model and slot of each entry of ``atom_effect``.
    """
    low = {"low": 0.0} if monotone else {}
    of_slopes = dist.TruncatedNormal(
        priors.slope_loc * anchors.stretch, priors.slope_scale * anchors.stretch, **low
    )
    slope = numpyro.sample("slope", of_slopes.to_event(1))
    of_accuracies = accuracy_prior(priors, jnp.asarray(anchors.claims))
    steeper = jnp.sqrt(1.0 + (slope / anchors.stretch) ** 2)
    of_intercepts = dist.MultivariateNormal(
        steeper * of_accuracies.loc + anchors.middle * slope,
        scale_tril=steeper[:, None] * of_accuracies.scale_tril,
    )
    sites = {"intercept": numpyro.sample("intercept", of_intercepts), "slope": slope}
    if len(atoms[0]):
        expected = anchors.at_atoms[atoms] * slope[atoms[0]]
        of_atoms = dist.Normal(expected, priors.atom_effect_scale)
        sites["atom_effect"] = numpyro.sample("atom_effect", of_atoms.to_event(1))
    return sites


def sample_sites(spec: ModelSpec, anchors: Anchors | None = None) -> Sites:
    """Sample every site of the model, inside a NumPyro context; shapes as in the module's table.

    Parameters
    ----------
    spec
        The model.
    anchors
        What the confidences say of how often models are right; taken in place of the specification's.
    """
    k, priors = spec.num_models, spec.priors
    anchors = jax.tree.map(jnp.asarray, spec.known_anchors) if anchors is None else anchors
    total_atoms = len(spec.layout.model_index)
    sites = sample_margins(spec.margin_spec, (k,), total_atoms)
    atoms = spec.layout.model_index, spec.layout.slot_index
    sites |= sample_calibration(priors, spec.monotone, anchors, atoms)
    if any(family.has_theta for family in spec.copulas):
        sites["tau"] = numpyro.sample("tau", tau_prior(spec.copulas, priors))
    if spec.upstream:
        prior = dist.Normal(priors.upstream_loc, priors.upstream_scale)
        sites["upstream"] = _sample("upstream", prior, (len(spec.pairs),))
    return sites | sample_label_corr(priors)


def sample_label_corr(priors: Priors) -> Sites:
    """Sample the correlation of labels within a query, inside a NumPyro context."""
    middle = dist.Beta(priors.label_corr_concentration1, priors.label_corr_concentration0)
    slope = dist.Normal(priors.label_corr_slope_loc, priors.label_corr_slope_scale)
    return {
        "label_corr": numpyro.sample("label_corr", middle),
        "label_corr_slope": numpyro.sample("label_corr_slope", slope),
    }


def label_corr_from_sites(sites: Mapping[str, jax.Array]) -> LabelCorr:
    """Return how labels of one query go together, of one draw or of many."""
    return LabelCorr(jnp.asarray(sites["label_corr"]), jnp.asarray(sites["label_corr_slope"]))


def tau_prior(copulas: tuple[Copula, ...], priors: Priors) -> dist.Distribution:
    """Prior of Kendall's tau: a Beta distribution on the range of each family that has a parameter."""
    low, width, one, zero = [], [], [], []
    for family in copulas:
        if family.has_theta:
            start, end = family.tau_range
            shapes = priors.tau_concentrations(start, end)
            low.append(start)
            width.append(end - start)
            one.append(shapes[0])
            zero.append(shapes[1])
    unit = dist.Beta(jnp.asarray(one), jnp.asarray(zero))
    # NumPy, not traced: the bounds become part of the map to unconstrained values.
    scale = AffineTransform(np.asarray(low), np.asarray(width), domain=constraints.unit_interval)
    return dist.TransformedDistribution(unit, scale).to_event(1)


def accuracy_prior(priors: Priors, claims: jax.Array) -> dist.Distribution:
    r"""Joint normal of log odds of being right: a common part and each model's own about `accuracy_locs`.

    With :math:`\sigma` ``intercept_scale`` and :math:`\tau` ``step_scale``, the covariance is
    :math:`\sigma^2 + (\tau^2 / 2) \, [i = j]`: steps from one model to another have the scale :math:`\tau`.
    """
    own = 0.5 * priors.step_scale**2 * np.eye(claims.shape[0])
    root = np.linalg.cholesky(priors.intercept_scale**2 + own)
    locs = accuracy_locs(priors, claims)
    return dist.MultivariateNormal(locs, scale_tril=jnp.asarray(root, dtype=locs.dtype))


def params_from_sites(
    sites: Mapping[str, jax.Array],
    spec: ModelSpec,
    members: Sequence[int] | None = None,
    atom_locs: jax.Array | None = None,
) -> CascadeParams:
    """Return the parameters that sampled sites stand for (one draw; `jax.vmap` over several).

    Parameters
    ----------
    sites
        One draw.
    spec
        The model.
    members
        For the structure ``"modular"``, positions of the models of the cascade, ascending; all if None. A
        chain has the parameters of all its models.
    atom_locs
        Where the atoms lie, ``(num_models, num_atoms)``, in place of the layout's places; NaN in the same
        slots.
    """
    return all_models_from_sites(sites, spec, atom_locs).cascade(spec, members)


def all_models_from_sites(
    sites: Mapping[str, jax.Array], spec: ModelSpec, atom_locs: jax.Array | None = None
) -> AllModels:
    """Return what sampled sites say of all models and pairs; parameters as for `params_from_sites`."""
    layout = spec.layout
    locs = layout.locs if atom_locs is None else atom_locs
    in_slots = dict(sites)
    atom_effect = jnp.zeros(layout.locs.shape)
    if len(layout.model_index):
        in_slots["atom_logit"] = layout.scatter(sites["atom_logit"], 0.0)
        atom_effect = layout.scatter(sites["atom_effect"], 0.0)
    dtype = jnp.asarray(sites["intercept"]).dtype
    margins = margins_from_sites(
        in_slots, jnp.asarray(locs, dtype), jnp.asarray(layout.continuous), spec.margin
    )
    return AllModels(
        margins=margins,
        intercept=jnp.asarray(sites["intercept"]),
        slope=jnp.asarray(sites["slope"]),
        atom_effect=atom_effect.astype(dtype),
        tau=sites.get("tau"),
        upstream=sites["upstream"] if spec.upstream and spec.pairs else None,
        label_corr=label_corr_from_sites(sites),
    )


class AllModels(NamedTuple):
    """Parameters of all models of a fit and of all pairs, from which those of its cascades are taken.

    Fields may have leading axes of draws, and be arrays of JAX or of NumPy.

    Attributes
    ----------
    margins
        Margins of the models' confidences.
    intercept, slope
        The calibration of each model by itself, ``(..., num_models)``.
    atom_effect
        Effects of atoms in it, ``(..., num_models, num_atoms)``.
    tau
        Kendall's tau of the pairs whose copula has a parameter, ``(..., num_pairs)``; None if none has.
    upstream
        Effects of the confidence of the model before, ``(..., num_pairs)``; None if there are none.
    label_corr
        Correlation of the labels of a query.
    """

    margins: MarginParams
    intercept: Any
    slope: Any
    atom_effect: Any
    tau: Any
    upstream: Any
    label_corr: LabelCorr

    def cascade(self, spec: ModelSpec, members: Sequence[int] | None = None, xp: Any = jnp) -> CascadeParams:
        """Return the parameters of one cascade; ``members`` as for `params_from_sites`.

        Parameters
        ----------
        spec
            The model.
        members
            Positions of its models, ascending; all if None.
        xp
            The namespace of the arrays, `jax.numpy` or `numpy`.
        """
        members = tuple(range(spec.num_models)) if members is None else tuple(members)
        at = xp.asarray(members)
        none = xp.zeros_like(self.intercept[..., 0])
        theta, upstream = [], [none]
        # A model that follows another is calibrated about what the other's confidence tells.
        shifts = [(none, none, xp.zeros_like(self.atom_effect[..., 0, :]))]
        with_theta = [pair for pair, family in zip(spec.pairs, spec.copulas, strict=True) if family.has_theta]
        for pair in itertools.pairwise(members):
            index = spec.pairs.index(pair)
            if pair in with_theta:
                tau = self.tau[..., with_theta.index(pair)]
                theta.append(xp.asarray(spec.copulas[index].tau_to_theta(tau)))
            else:
                theta.append(none)
            effect = none if self.upstream is None else self.upstream[..., index]
            upstream.append(effect)
            line, at_atoms = (0.0, 0.0), xp.zeros_like(self.atom_effect[..., 0, :])
            if spec.centres is not None:
                line, at_atoms = spec.centres.line[index], effect[..., None] * spec.centres.at_atoms[index]
            shifts.append((effect * line[0], effect * line[1], at_atoms))
        of_intercept, of_slope, of_atoms = zip(*shifts, strict=True)
        return CascadeParams(
            margins=jax.tree.map(lambda field: field[..., at, :], self.margins),
            theta=xp.stack(theta, axis=-1) if theta else self.intercept[..., :0],
            intercept=self.intercept[..., at] - xp.stack(of_intercept, axis=-1),
            slope=self.slope[..., at] - xp.stack(of_slope, axis=-1),
            upstream=xp.stack(upstream, axis=-1),
            atom_effect=self.atom_effect[..., at, :] - xp.stack(of_atoms, axis=-2),
            label_corr=self.label_corr,
        )


def margins_from_sites(
    sites: Mapping[str, jax.Array], atom_locs: jax.Array, continuous: jax.Array, margin: str
) -> MarginParams:
    """Return the margins that sampled sites stand for.

    Parameters
    ----------
    sites
        One draw, ``atom_logit`` by slot, ``(..., num_atoms)``; what it says of empty slots is not read.
    atom_locs
        NaN in empty slots, ``(..., num_atoms)``.
    continuous
        Whether a margin has a continuous part, ``(...)``.
    margin
        Its family.
    """
    family = get_margin(margin)
    part = family.part(simplex_from_splits(sites["mixing_split"]), sites[family.site])
    if not atom_locs.shape[-1]:
        return MarginParams(atom_locs, jnp.zeros_like(atom_locs), part)
    # softmax over (continuous part with log odds 0, atoms); empty slots have none.
    log_odds = jnp.where(jnp.isnan(atom_locs), -jnp.inf, sites["atom_logit"])
    rest = jnp.where(continuous[..., None], 0.0, -jnp.inf)
    full = jnp.concatenate([rest.astype(log_odds.dtype), log_odds], axis=-1)
    return MarginParams(atom_locs, jax.nn.softmax(full, axis=-1)[..., 1:], part)


def cascade_model(
    obs: Observations,
    spec: ModelSpec,
    atom_locs: jax.Array | None = None,
    anchors: Anchors | None = None,
) -> None:
    """Joint distribution of parameters and table, as a NumPyro model.

    Parameters
    ----------
    obs
        The table, fields ``(num_models, num_queries)``.
    spec
        Everything that is not sampled; static. Its structure must be ``"chain"``.
    atom_locs
        The same as for `params_from_sites`.
    anchors
        The same as for `sample_sites`.
    """
    if spec.structure != "chain":
        raise ValueError("only the structure 'chain' has a joint density; sample a modular model by `fit`.")
    params = params_from_sites(sample_sites(spec, anchors), spec, atom_locs=atom_locs)
    by_query = log_likelihood(params, obs, spec.copulas, spec.layout.kinds)
    numpyro.factor("log_likelihood", by_query if obs.weight is None else by_query * obs.weight)
