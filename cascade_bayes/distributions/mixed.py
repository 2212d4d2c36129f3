r"""A margin with point masses ("atoms") and a continuous part, on the logit scale.

.. math::

    F(z) = \sum_{a \le z} w_a + \Big(1 - \sum_a w_a\Big) F_c(z), \qquad
    F(z^-) = \sum_{a < z} w_a + \Big(1 - \sum_a w_a\Big) F_c(z).

:math:`F_c` is any `ContinuousPart`: a mixture of betas (`cascade_bayes.distributions.beta_mixture`) or of
logit-normals (`cascade_bayes.distributions.logit_normal_mixture`). Atoms may lie anywhere in
:math:`[-\infty, \infty]`; exact certainty is the atom at :math:`+\infty`.
Slots that hold no atom have location NaN and probability 0, so that margins with different numbers
of atoms stack into one array.

Source: Zellinger & Thomson (arXiv 2501.09345), section 3, with atoms at the two ends; generalised
here to any locations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro.distributions import constraints

from cascade_bayes.distributions.continuous import ContinuousPart
from cascade_bayes.special import UnitPoint, find_root, unit_point_from_logs


class MarginParams(NamedTuple):
    """Parameters of one margin; every field may carry leading batch axes.

    Attributes
    ----------
    atom_locs
        Locations on the logit scale, ``(num_atoms,)``, NaN in empty slots.
    atom_probs
        Their probabilities, ``(num_atoms,)``, 0 in empty slots.
    continuous
        What lies between the atoms; fields ``(num_components,)``.
    """

    atom_locs: jax.Array
    atom_probs: jax.Array
    continuous: ContinuousPart

    @property
    def continuous_prob(self) -> jax.Array:
        """Probability of the continuous part; 0 where the atoms leave no more than rounding."""
        rest = 1.0 - jnp.sum(self.atom_probs, axis=-1)
        return jnp.where(rest > 64 * jnp.finfo(rest.dtype).eps, rest, 0.0)


class MarginPoint(NamedTuple):
    """A value of a mixed margin as a copula sees it.

    Attributes
    ----------
    upper, lower
        ``F(x)`` and ``F(x-)``; equal where ``x`` is not an atom.
    is_atom
        Whether ``x`` is a point mass.
    log_mass
        ``log(F(x) - F(x-))`` where ``x`` is an atom, any finite number elsewhere.
    """

    upper: UnitPoint
    lower: UnitPoint
    is_atom: jax.Array
    log_mass: jax.Array


def point(z: jax.Array, params: MarginParams) -> MarginPoint:
    """Return ``F(z)``, ``F(z-)`` and whether ``z``, any shape, is an atom of one margin.

    The tails are sums of positive terms on each side, so both keep relative precision.
    """
    continuous = params.continuous.cdf(z)
    num_atoms = params.atom_locs.shape[-1]
    no_atom = jnp.zeros(z.shape, dtype=bool)
    if num_atoms == 0:
        return MarginPoint(continuous, continuous, no_atom, jnp.zeros_like(continuous.log_u))
    log_continuous = _log_continuous_prob(params)
    below = z[..., None] > params.atom_locs  # comparisons with NaN are False
    here = z[..., None] == params.atom_locs
    above = z[..., None] < params.atom_locs

    def mass(where: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(where, params.atom_probs, 0.0), axis=-1)

    upper = _mix(mass(below | here), mass(above), log_continuous, continuous)
    lower = _mix(mass(below), mass(above | here), log_continuous, continuous)
    is_atom = jnp.any(here, axis=-1)
    log_mass = jnp.log(jnp.where(is_atom, mass(here), 1.0))
    return MarginPoint(upper, lower, is_atom, log_mass)


def _log_continuous_prob(params: MarginParams) -> jax.Array:
    """``-inf``, with a gradient of 0 and not NaN, where a margin is atoms alone."""
    prob = params.continuous_prob
    return jnp.where(prob > 0, jnp.log(jnp.where(prob > 0, prob, 1.0)), -jnp.inf)


def _mix(atoms_below: jax.Array, atoms_above: jax.Array, log_weight: jax.Array, part: UnitPoint) -> UnitPoint:
    def add(log_continuous: jax.Array, atoms: jax.Array) -> jax.Array:
        # log(exp(log_continuous) + atoms); plain addition is exact enough once atoms > 0.
        has = atoms > 0
        empty = jnp.isneginf(log_continuous)
        safe_log = jnp.where(empty, 0.0, log_continuous)
        total = jnp.where(empty, 0.0, jnp.exp(safe_log)) + atoms
        with_atoms = jnp.log(jnp.where(has, total, 1.0))
        return jnp.where(has, with_atoms, log_continuous)

    return unit_point_from_logs(
        add(log_weight + part.log_u, atoms_below), add(log_weight + part.log_1mu, atoms_above)
    )


def log_density(z: jax.Array, params: MarginParams) -> jax.Array:
    """Return the log density of one margin: ``log w_a`` at an atom, else ``log{(1-w) f_c(z)}``."""
    continuous = params.continuous.log_density(z)
    if params.atom_locs.shape[-1] == 0:
        return continuous
    here = z[..., None] == params.atom_locs
    is_atom = jnp.any(here, axis=-1)
    mass = jnp.sum(jnp.where(here, params.atom_probs, 0.0), axis=-1)
    log_atom = jnp.log(jnp.where(is_atom, mass, 1.0))
    return jnp.where(is_atom, log_atom, _log_continuous_prob(params) + continuous)


def quantile(probability: jax.Array, params: MarginParams) -> jax.Array:
    """Return ``inf{z : F(z) >= probability}`` of one margin, any shape; NaN outside [0, 1].

    See `quantile_of_point`. At a probability of 0 or 1 the gradient is 0.
    """
    inside = (probability > 0) & (probability < 1)
    safe = jnp.where(inside, probability, 0.5)

    def log(value: jax.Array, empty: float) -> jax.Array:
        ends = jnp.where((probability == 0) | (probability == 1), 0.0, jnp.nan)
        return jnp.where(inside, value, jnp.where(probability == empty, -jnp.inf, ends))

    return quantile_of_point(UnitPoint(log(jnp.log(safe), 0), log(jnp.log1p(-safe), 1)), params)


@jax.custom_jvp
def quantile_of_point(target: UnitPoint, params: MarginParams) -> jax.Array:
    r"""Return the quantile of one margin at a `UnitPoint` of any shape.

    Between atoms it is the root of :math:`\operatorname{logit} F(z) - \operatorname{logit} q`, close to
    linear in ``z`` and exact at both ends, in ``[-745, 745]``, the logits that a 64-bit probability can
    hold. The quantile of 0 is ``-inf``, that of 1 the top atom or ``inf``.

    The derivative is that of the implicit function :math:`F(z; \eta) = q` between atoms,

    .. math:: dz = \frac{dq - \partial_\eta F(z; \eta)\, d\eta}{f(z; \eta)},

    and 0 at an atom, whose location counts as fixed, at infinity, and where the density is 0.
    """
    in_atom, loc, low, high = _among_atoms(target, params)
    logit = target.log_u - target.log_1mu

    def beyond(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        here = point(z, params).upper
        # Of the continuous part alone: at an atom `log_density` is a mass, and no slope.
        log_slope = (
            _log_continuous_prob(params) + params.continuous.log_density(z) - here.log_u - here.log_1mu
        )
        return here.log_u - here.log_1mu - logit, jnp.exp(log_slope)

    # Standardised logits are close to logistic: a logit of theirs is a first guess of the quantile.
    sought = ~in_atom & jnp.isfinite(logit)
    z = find_root(beyond, low, high, jnp.where(sought, logit, jnp.nan))
    z = jnp.where(jnp.isneginf(target.log_u), -jnp.inf, jnp.where(jnp.isneginf(target.log_1mu), jnp.inf, z))
    z = jnp.where(jnp.isnan(target.log_u), jnp.nan, z)
    return jnp.where(in_atom, loc, z)


def _among_atoms(
    target: UnitPoint, params: MarginParams
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return whether points are in an atom's stretch of probability, which, and between which atoms they lie.

    The stretch is ``[F(a-), F(a)]`` without 0: below an atom the distribution function is smaller than at its
    left limit. Where one atom's stretch begins at another's end, the end is the earlier one's. Outside, the
    quantile lies between the atoms next to it, or the ends of the range that a 64-bit probability can hold.
    """
    end = jnp.full(target.log_u.shape, 745.0, dtype=target.log_u.dtype)
    if params.atom_locs.shape[-1] == 0:
        return jnp.zeros(end.shape, dtype=bool), end, -end, end
    at, locs = point(params.atom_locs, params), params.atom_locs
    log_u, log_1mu = (tail[..., None] for tail in target)
    upper_half = log_1mu < log_u  # the smaller tails are compared, so that both ends are exact
    above = jnp.where(upper_half, at.lower.log_1mu >= log_1mu, at.lower.log_u <= log_u)
    below = jnp.where(upper_half, at.upper.log_1mu <= log_1mu, at.upper.log_u >= log_u)
    inside = at.is_atom & above & below & jnp.isfinite(log_u)
    loc = jnp.min(jnp.where(inside, locs, jnp.inf), axis=-1)
    low = jnp.max(jnp.where(at.is_atom & ~below, jnp.maximum(locs, -745.0), -745.0), axis=-1)
    high = jnp.min(jnp.where(at.is_atom & ~above, jnp.minimum(locs, 745.0), 745.0), axis=-1)
    return jnp.any(inside, axis=-1), loc, low, high


@quantile_of_point.defjvp
def _quantile_of_point_jvp(
    primals: tuple[UnitPoint, MarginParams], tangents: tuple[UnitPoint, MarginParams]
) -> tuple[jax.Array, jax.Array]:
    (target, params), (target_dot, params_dot) = primals, tangents
    z = quantile_of_point(target, params)
    finite = jnp.isfinite(z)
    z_safe = jnp.where(finite, z, 0.0)
    upper_half = target.log_1mu < target.log_u

    def log_tail(params: MarginParams) -> tuple[jax.Array, jax.Array]:
        here = point(z_safe, params)
        return jnp.where(upper_half, here.upper.log_1mu, here.upper.log_u), here.is_atom

    # In the log of the smaller tail, so that neither end loses digits: there F is +-exp(log_tail).
    tail, tail_dot, is_atom = jax.jvp(log_tail, (params,), (params_dot,), has_aux=True)
    wanted_dot = jnp.where(upper_half, target_dot.log_1mu, target_dot.log_u)
    slope = jnp.exp(log_density(z_safe, params) - tail)
    moves = finite & ~is_atom & (slope > 0)
    rate = jnp.where(upper_half, -1.0, 1.0) / jnp.where(moves, slope, 1.0)
    return z, jnp.where(moves, rate * (wanted_dot - tail_dot), 0.0)


def _in_domain(part: ContinuousPart) -> jax.Array:
    return part.in_domain()


class MixedMargin(dist.Distribution):  # type: ignore[misc]
    r"""NumPyro distribution of one logit score: atoms plus a continuous part.

    Parameters
    ----------
    atom_locs, atom_probs
        ``(num_atoms,)``; see `MarginParams`.
    continuous
        A `BetaMixture` or `LogitNormalMixture`, fields ``(num_components,)``.

    Notes
    -----
    ``log_prob`` is a density where ``z`` is not an atom and a log mass where it is. ``cdf`` is
    right continuous, ``cdf_left`` its left limit. The distribution is scalar: ``batch_shape`` is
    ``()``, and samples of any ``sample_shape`` are independent.

    Examples
    --------
    >>> from cascade_bayes.distributions import BetaMixture
    >>> one = jnp.ones(1)
    >>> margin = MixedMargin(jnp.array([jnp.inf]), jnp.array([0.3]), BetaMixture(one, one, one))
    >>> float(margin.cdf_left(jnp.array(jnp.inf)).round(6)), float(margin.cdf(jnp.array(jnp.inf)))
    (0.7, 1.0)
    """

    arg_constraints = {  # noqa: RUF012  # NumPyro's convention
        "atom_probs": constraints.independent(constraints.unit_interval, 1),
        "continuous": _in_domain,
    }
    support = constraints.real
    pytree_data_fields = MarginParams._fields  # else jit and vmap drop them

    def __init__(
        self,
        atom_locs: jax.Array,
        atom_probs: jax.Array,
        continuous: ContinuousPart,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.atom_locs = atom_locs
        self.atom_probs = atom_probs
        self.continuous = continuous
        super().__init__(batch_shape=(), event_shape=(), validate_args=validate_args)

    @property
    def params(self) -> MarginParams:
        """The parameters as one record."""
        return MarginParams(self.atom_locs, self.atom_probs, self.continuous)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log density, or log mass at an atom; shape of ``value``."""
        return log_density(value, self.params)

    def cdf(self, value: jax.Array) -> jax.Array:
        """``P(Z <= value)``."""
        return point(value, self.params).upper.value

    def cdf_left(self, value: jax.Array) -> jax.Array:
        """``P(Z < value)``."""
        return point(value, self.params).lower.value

    def survival(self, value: jax.Array) -> jax.Array:
        """``P(Z > value)``, which keeps its digits where ``1 - cdf`` would lose them."""
        return point(value, self.params).upper.flip().value

    def icdf(self, q: jax.Array) -> jax.Array:
        """Quantile function, the generalised inverse of ``cdf``."""
        return quantile(q, self.params)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw independent values of shape ``sample_shape``."""
        key_which, key_continuous = jax.random.split(key)
        continuous = self.continuous.sample_logit(key_continuous, sample_shape)
        if self.atom_locs.shape[-1] == 0:
            return continuous
        probs = jnp.concatenate([self.params.continuous_prob[None], self.atom_probs])
        which = jax.random.categorical(key_which, jnp.log(probs), shape=sample_shape)
        return jnp.where(which == 0, continuous, self.atom_locs[jnp.maximum(which - 1, 0)])
