r"""Pair copulas and upstream effects of all pairs of models, given each draw of margins and calibration.

Given the margins of draw :math:`d`, a pair (i, j) has one dependence parameter, Kendall's tau, with density

.. math::

    p(\tau \mid d) \propto p(\tau) \prod_q r\{F^d_i(z_{qi}), F^d_j(z_{qj}); \tau\},

and given its calibration one upstream effect, with

.. math::

    p(c \mid d) \propto p(c) \prod_q \mathrm{Bernoulli}\big[y_{qj};
        \sigma\{\text{logit}^d_j(z_{qj}) + c\, (x_{qi} - \hat x_i(z_{qj}))\}\big],

with the labels of model j alone, of which the difficulty that a query's labels share averages out, and
:math:`\hat x_i(z_j)` what is to be expected of :math:`x_i` (`cascade_bayes.model.centres`). Both are curves,
and are drawn from as `cascade_bayes.inference.samplers.one_parameter` says; tau by way of :math:`t =
\operatorname{artanh} \tau`, because towards 1 in size the likelihood falls without bound, in :math:`t` as
an exponential and in tau faster than any polynomial follows. Of a long table
(`cascade_bayes.model.strata`) the sums go over a weighted sample of queries; the slopes of all curves are
corrected by as much as that of one, at the mean of the draws, is off at its top, as in
`cascade_bayes.inference.samplers.long_tables`.

Nothing is fed back to margins and calibration (a cut posterior: Plummer, Statistics and Computing 25, 2015).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from numpyro import distributions as dist

from cascade_bayes._devices import divide, largest_divisor
from cascade_bayes._kept import kept
from cascade_bayes._trees import evenly_spaced, in_one_row, take
from cascade_bayes.copulas import Copula, Kind, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.inference.samplers.long_tables import chunks
from cascade_bayes.inference.samplers.nuts import Draws
from cascade_bayes.inference.samplers.one_parameter import draw_from_curves
from cascade_bayes.model.cascade import params_from_sites, tau_prior
from cascade_bayes.model.centres import Centres
from cascade_bayes.model.correctness import log_bernoulli, own_logit
from cascade_bayes.model.observations import Observations
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.model.spec import ModelKind, ModelSpec

MAX_DRAWS = 2000
"""Draws of margins and calibration that are kept; each costs a curve for every pair."""

AT_ONCE = 500
"""Draws of a long table's margins whose distribution functions are held at once, which bounds the memory they
take: 25 megabytes for each model."""

MAX_T = {64: 5.0, 32: 3.5}
"""Largest artanh of Kendall's tau in size, by bits: tau 0.9999 and 0.998. Beyond, 32 bits cannot tell the
correlation of a Gaussian copula from 1."""

NUM_TURNS = 4
"""How often the tops of a sample's curves are sought, each time with the slopes found at the last ones."""

UPSTREAM_RANGE = 8.0
"""Half width of the curve of an upstream effect, in standard deviations of its prior."""


def thin(samples: Draws, stats: Draws) -> tuple[Draws, Draws]:
    """Keep at most `MAX_DRAWS` draws, evenly spaced within each chain.

    A draw that is kept has diverged if any of those it stands for has.
    """
    num_chains, num_samples = next(iter(samples.values())).shape[:2]
    keep = min(num_samples, max(MAX_DRAWS // num_chains, 1))
    at = evenly_spaced(num_samples, keep)
    kept = {k: v[:, at] for k, v in stats.items()}
    if "diverging" in stats:
        first = (np.arange(keep) * num_samples / keep).astype(int)
        kept["diverging"] = np.logical_or.reduceat(stats["diverging"], first, axis=1)
    return {k: v[:, at] for k, v in samples.items()}, kept


class Slopes(NamedTuple):
    """What is added to the log likelihood curves of pairs: ``slope * (x - centre)``.

    Attributes
    ----------
    tau, tau_centre
        Slope and centre in artanh tau, ``(num_pairs_with_tau,)`` both.
    upstream, upstream_centre
        Slope and centre in upstream effects, ``(num_pairs,)`` both.
    """

    tau: jax.Array
    tau_centre: jax.Array
    upstream: jax.Array
    upstream_centre: jax.Array


def sample_pairs(
    key: jax.Array,
    samples: Draws,
    obs: Observations,
    atom_locs: jax.Array,
    kind: ModelKind,
    centres: Centres,
    *,
    whole: Observations | None = None,
    at_mode: bool = False,
) -> Draws:
    """Draw tau and the upstream effect of every pair, one each for every draw of the first module.

    Parameters
    ----------
    key
        PRNG key.
    samples
        Draws of the first module's sites, ``(num_chains, num_samples, ...)``.
    obs, atom_locs, kind
        The table, without a record of gaps, and its model, of structure ``"modular"``, as for
        `cascade_bayes.inference.posterior_modules.make_modules`.
    centres
        Centres of all pairs, with as many slots for atoms.
    whole
        The whole table, where ``obs`` is a weighted sample of it.
    at_mode
        Return the top of each curve in place of a draw from it.

    Returns
    -------
    dict
        ``tau`` and ``upstream``, ``(num_chains, num_samples, num_pairs)``: tau of the pairs whose family has
        a parameter, if any; upstream if the model has it.
    """
    if len(kind.continuous) == 1:
        return {}
    lead = next(iter(samples.values())).shape[:2]
    flat = {k: jnp.asarray(in_one_row(v)) for k, v in samples.items()}
    draw = partial(
        _draw_pairs, obs=obs, atom_locs=atom_locs, centres=centres, kind=kind, at_mode=at_mode, slopes=None
    )
    if whole is None:
        found: Any = draw(key, flat)
    else:
        slopes = _find_slopes(flat, whole, obs, atom_locs, kind, centres)
        draw = partial(draw, slopes=slopes)
        found = _by_parts(draw, key, flat)
    return {k: np.moveaxis(np.asarray(v), 0, -1).reshape((*lead, -1)) for k, v in found.items()}


def compile_pairs(
    sites: dict[str, jax.ShapeDtypeStruct],
    obs: Observations,
    atom_locs: jax.Array,
    kind: ModelKind,
    centres: Centres,
    *,
    is_sample: bool,
    at_mode: bool,
) -> None:
    """Compile the programs that `sample_pairs` goes on to call for draws of these shapes.

    Parameters
    ----------
    sites
        What stands for draws of the first module's sites, in one row, ``(num_draws, ...)``.
    obs, atom_locs, kind, centres, at_mode
        The same as for `sample_pairs`.
    is_sample
        Whether ``obs`` is a weighted sample of a long table.
    """
    num_draws = sites["intercept"].shape[0]
    slopes, calls = None, [(num_draws, at_mode)]
    if is_sample:
        slopes, calls = _no_slopes(kind.spec()), [(1, True), (largest_divisor(num_draws, AT_ONCE), at_mode)]
    for count, top in calls:
        some = {k: jax.ShapeDtypeStruct((count, *v.shape[1:]), v.dtype) for k, v in sites.items()}
        _draw_pairs.lower(
            jax.random.key(0),
            some,
            obs=obs,
            atom_locs=atom_locs,
            centres=centres,
            kind=kind,
            at_mode=top,
            slopes=slopes,
        ).compile()


def _by_parts(draw: Any, key: jax.Array, sites: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """Draw for `AT_ONCE` draws of the first module after the other, and put the results together."""
    num_draws = len(next(iter(sites.values())))
    length = largest_divisor(num_draws, AT_ONCE)
    keys = jax.random.split(key, num_draws // length)
    parts = [
        draw(key, take(sites, slice(start, start + length)))
        for key, start in zip(keys, range(0, num_draws, length), strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


@kept("kind", "at_mode")
def _draw_pairs(
    key: jax.Array,
    sites: Any,
    obs: Observations,
    atom_locs: jax.Array,
    centres: Centres,
    slopes: Slopes | None,
    kind: ModelKind,
    at_mode: bool,
) -> dict[str, jax.Array]:
    """Do what `sample_pairs` does, for draws in one row, ``(num_pairs, num_draws)`` each."""
    spec = kind.spec()
    first, num_draws = spec.first_module(), len(sites["intercept"])
    shape = (2, len(spec.pairs), num_draws)
    uniform = None if at_mode else jax.random.uniform(key, shape, dtype=obs.z.dtype)

    def of_draws(
        uniform: jax.Array | None,
        sites: Any,
        obs: Observations,
        atom_locs: jax.Array,
        centres: Centres,
        slopes: Slopes | None,
    ) -> dict[str, jax.Array]:
        draws = jax.vmap(lambda one: params_from_sites(one, first, atom_locs=atom_locs))(sites)
        for_tau, for_upstream = (None, None) if uniform is None else uniform
        found = {}
        if any(family.has_theta for family in spec.copulas):
            found["tau"] = _draw_taus(for_tau, draws, obs, spec, slopes)
        if spec.upstream:
            found["upstream"] = _draw_upstream(for_upstream, draws, obs, atom_locs, centres, spec, slopes)
        return found

    divided = divide(of_draws, num_draws, (2, 0, None, None, None, None), 1)
    return divided(uniform, sites, obs, atom_locs, centres, slopes)


def _with_theta(spec: ModelSpec) -> list[int]:
    """Which pairs have Kendall's tau."""
    return [index for index, family in enumerate(spec.copulas) if family.has_theta]


def _alike(spec: ModelSpec) -> dict[tuple[Copula, tuple[Kind, Kind]], list[int]]:
    """Pairs that have Kendall's tau, by family and by what the confidences of either side can be."""
    alike: dict[tuple[Copula, tuple[Kind, Kind]], list[int]] = {}
    for index in _with_theta(spec):
        i, j = (spec.layout.kinds[model] for model in spec.pairs[index])
        alike.setdefault((spec.copulas[index], (i, j)), []).append(index)
    return alike


def _draw_taus(
    uniform: jax.Array | None,
    draws: CascadeParams,
    obs: Observations,
    spec: ModelSpec,
    slopes: Slopes | None,
) -> jax.Array:
    """Kendall's tau of every pair whose family has it, ``(num_pairs, num_draws)``."""
    points, with_theta = _points(draws, obs.z), _with_theta(spec)
    found: dict[int, jax.Array] = {}
    for (family, sides), indices in _alike(spec).items():
        draw = partial(_draw_tau, family, sides, tau_prior((family,), spec.priors), points, obs)
        pairs = jnp.asarray([spec.pairs[index] for index in indices])
        own = None if uniform is None else uniform[jnp.asarray(indices)]
        at = jnp.asarray([with_theta.index(index) for index in indices])
        tilts = None if slopes is None else (slopes.tau[at], slopes.tau_centre[at])
        found |= dict(zip(indices, jax.lax.map(draw, (pairs, own, tilts)), strict=True))
    return jnp.stack([found[index] for index in with_theta])


def _tilted(tilt: tuple[jax.Array, jax.Array] | None, x: jax.Array) -> jax.Array | float:
    return 0.0 if tilt is None else tilt[0] * (x - tilt[1])


def _log_ratios(
    family: Copula, sides: tuple[Kind, Kind], draw: tuple[MarginPoint, MarginPoint], t: jax.Array
) -> jax.Array:
    """Log copula ratio of every query, ``(num_queries,)``, at artanh tau."""
    return log_copula_ratio(family, *draw, family.tau_to_theta(jnp.tanh(t)), sides)


def _draw_tau(
    family: Copula,
    sides: tuple[Kind, Kind],
    prior: dist.Distribution,
    points: MarginPoint,
    obs: Observations,
    pair: tuple[jax.Array, jax.Array | None, tuple[jax.Array, jax.Array] | None],
) -> jax.Array:
    """Kendall's tau of one pair, its two positions, what is uniform and its tilt, ``(num_draws,)``."""
    (i, j), uniform, tilt = pair
    both = obs.observed[i] & obs.observed[j]

    def log_likelihood(draw: tuple[MarginPoint, MarginPoint], t: jax.Array) -> jax.Array:
        return obs.total(_log_ratios(family, sides, draw, t), both) + _tilted(tilt, t)

    def log_prior(t: jax.Array) -> jax.Array:
        log_density = prior.log_prob(jnp.tanh(t)[:, None])
        # d tau / d t = 1 / cosh(t)^2; but the top is that of tau's own density.
        return log_density if uniform is None else log_density - 2.0 * jnp.log(jnp.cosh(t))

    most = MAX_T[jnp.finfo(obs.z.dtype).bits]
    low, high = np.clip(np.arctanh(np.clip(family.tau_range, -0.99999, 0.99999)), -most, most).tolist()
    left, right = take(points, np.s_[:, i]), take(points, np.s_[:, j])
    return jnp.tanh(
        draw_from_curves(uniform, log_likelihood, (left, right), log_prior, (low, high), both.size)
    )


def _draw_upstream(
    uniform: jax.Array | None,
    draws: CascadeParams,
    obs: Observations,
    atom_locs: jax.Array,
    centres: Centres,
    spec: ModelSpec,
    slopes: Slopes | None,
) -> jax.Array:
    """Upstream effect of every pair, ``(num_pairs, num_draws)``."""
    own = jax.vmap(lambda draw: own_logit(obs.z, draw))(draws.calibration)
    loc, scale = spec.priors.upstream_loc, spec.priors.upstream_scale

    def one_pair(pair: Any) -> jax.Array:
        (i, j), centre, uniform, tilt = pair
        residual = centre.beyond(obs.z[i], obs.z[j], atom_locs[j])
        use = obs.observed[i] & obs.observed[j] & obs.labelled[j]

        def log_likelihood(own: jax.Array, effect: jax.Array) -> jax.Array:
            labels = log_bernoulli(own + effect * residual, obs.correct[j])
            return obs.total(labels, use) + _tilted(tilt, effect)

        bounds = loc - UPSTREAM_RANGE * scale, loc + UPSTREAM_RANGE * scale
        return draw_from_curves(
            uniform, log_likelihood, own[:, j], lambda c: stats.norm.logpdf(c, loc, scale), bounds, use.size
        )

    tilts = None if slopes is None else (slopes.upstream, slopes.upstream_centre)
    return jax.lax.map(one_pair, (jnp.asarray(spec.pairs), centres, uniform, tilts))


def _no_slopes(spec: ModelSpec) -> Slopes:
    none, empty = jnp.zeros(len(spec.pairs)), jnp.zeros(len(_with_theta(spec)))
    return Slopes(empty, empty, none, none)


def _find_slopes(
    flat: dict[str, jax.Array],
    whole: Observations,
    sample: Observations,
    atom_locs: jax.Array,
    kind: ModelKind,
    centres: Centres,
) -> Slopes:
    """Return by how much the slopes of a sample's curves are off, at the tops of the mended ones."""
    mean = {name: jnp.mean(values, axis=0, keepdims=True) for name, values in flat.items()}
    spec = kind.spec()
    slopes = _no_slopes(spec)
    empty, _, none, _ = slopes
    gradient, key = partial(_gradient, kind=kind), jax.random.key(0)
    for _ in range(NUM_TURNS):
        top = _draw_pairs(
            key,
            mean,
            obs=sample,
            atom_locs=atom_locs,
            centres=centres,
            kind=kind,
            at_mode=True,
            slopes=slopes,
        )
        t = jnp.arctanh(top["tau"][:, 0]) if "tau" in top else empty
        effect = top["upstream"][:, 0] if "upstream" in top else none
        of_parts = [gradient(t, effect, mean, part, atom_locs, centres) for part in chunks(whole)]
        of_sample = gradient(t, effect, mean, sample, atom_locs, centres)
        off = [sum(parts) - own for parts, own in zip(zip(*of_parts, strict=True), of_sample, strict=True)]
        slopes = Slopes(off[0], t, off[1], effect)
    return slopes


@kept("kind")
def _gradient(
    t: jax.Array,
    effect: jax.Array,
    sites: Any,
    obs: Observations,
    atom_locs: jax.Array,
    centres: Centres,
    kind: ModelKind,
) -> tuple[jax.Array, jax.Array]:
    """Differentiate the log likelihood curves of all pairs in ``t`` and ``effect``, for a single draw."""
    spec = kind.spec()
    with_theta = _with_theta(spec)
    draw = params_from_sites(take(sites, 0), spec.first_module(), atom_locs=atom_locs)
    points = mixed.point(obs.z, jax.tree.map(lambda field: field[:, None], draw.margins))
    own, pairs = own_logit(obs.z, draw.calibration), np.asarray(spec.pairs)

    def log_likelihood(t: jax.Array, effect: jax.Array) -> jax.Array:
        total = jnp.zeros((), dtype=obs.z.dtype)
        for (family, sides), indices in _alike(spec).items():
            i, j = pairs[indices].T
            at = np.asarray([with_theta.index(index) for index in indices])
            ratio = _log_ratios(family, sides, (take(points, i), take(points, j)), t[at, None])
            both = obs.observed[i] & obs.observed[j]
            total += jnp.sum(jax.vmap(obs.total)(ratio, both))
        if spec.upstream:
            i, j = pairs.T
            residual = jax.vmap(Centres.beyond)(centres, obs.z[i], obs.z[j], atom_locs[j])
            labels = log_bernoulli(own[j] + effect[:, None] * residual, obs.correct[j])
            use = obs.observed[i] & obs.observed[j] & obs.labelled[j]
            total += jnp.sum(jax.vmap(obs.total)(labels, use))
        return total

    return jax.grad(log_likelihood, (0, 1))(t, effect)


def _points(draws: CascadeParams, z: jax.Array) -> MarginPoint:
    """``F`` of every confidence under every draw, fields ``(num_draws, num_models, num_queries)``."""

    def one(draw: CascadeParams) -> MarginPoint:
        return mixed.point(z, jax.tree.map(lambda field: field[:, None], draw.margins))

    return jax.lax.map(one, draws)
