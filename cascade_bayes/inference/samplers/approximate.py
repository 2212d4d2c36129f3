r"""Approximate posteriors, which propose draws to be corrected by importance sampling.

``laplace``
    The normal distribution at the mode with the curvature there.
``svi``
    The member of a family ("guide") that maximises the evidence lower bound, by stochastic gradients
    (Kucukelbir et al., Journal of Machine Learning Research 18(14), 2017): ``mean_field``, ``low_rank``,
    ``full_rank`` normals and a ``flow``, the guides that NumPyro has. They start at the mode. In the
    coordinates of the curvature there a full-rank normal or a flow is the same family, and the optimiser's
    steps are all of one length; mean field and low rank are families of the model's own coordinates, of which
    only the scales are changed.

    The gradients of the normal guides are path derivatives, which vanish, noise and all, where the guide is
    the posterior (Roeder, Wu & Duvenaud, "Sticking the landing", NeurIPS 2017), at antithetic draws. What a
    normal guide proposes has the tails of Student's t with `TAIL_DF` degrees of freedom, lest the weights
    have none: the bound punishes a guide for being too wide more than for being too narrow.

All of this runs in 32-bit arithmetic, two to three times as fast on a processor: its rounding moves the log
densities of proposals by some 1e-4, far less than would show in weights. Modes and curvatures, and what is
made of the draws, have the precision that is switched on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from numpyro import distributions as dist
from numpyro.infer import ELBO, SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)

from cascade_bayes._devices import divide_lanes, largest_divisor
from cascade_bayes._kept import kept
from cascade_bayes.inference.options import Guide
from cascade_bayes.inference.samplers.importance import Proposals
from cascade_bayes.inference.samplers.laplace import NormalApproximation
from cascade_bayes.inference.samplers.target import Data, Target

P = ParamSpec("P")
T = TypeVar("T")


NUM_PARTICLES = 4
"""Draws of the guide in each gradient, half of them mirror images of the others."""

TAIL_DF = 20.0
"""On four public tables it lowered a margin's largest k-hat from 0.81 to 0.65, for a tenth of the draws."""

LEARNING_RATE = 0.05
FLOW_LEARNING_RATE = 0.01
"""Weights of a network: at 0.05 they run away on some tables."""

FINAL_SHARE = 0.02
"""Share of the learning rate that is left at the end of its schedule."""

BLOCK = 0.1
"""Share of the steps over which the bound is averaged to judge convergence, last and last but one."""

MIN_BLOCK = 10
"""Steps of a block at least."""

MAX_GAIN = 0.1
"""Rise of the bound, in nats, that does not matter."""

MAX_ERROR = 0.5
"""Standard error of that rise, in nats, with which it can be judged."""


BATCH = 8
"""Proposals whose density is computed side by side, at most."""


def _keys(key: jax.Array, approximation: NormalApproximation) -> jax.Array:
    """Return one key a lane."""
    return jax.random.split(key, approximation.mode.shape[0])


def _in_32_bits(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with its arguments and its work in 32 bits, and its results as NumPy's arrays."""

    def short(leaf: Any) -> Any:
        is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype=jnp.float32) if is_float else leaf

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        args, kwargs = jax.tree.map(short, (args, kwargs))
        with jax.enable_x64(False):
            # Lanes that lie on several devices would make whatever uses them a program of all these devices.
            return jax.tree.map(np.asarray, function(*args, **kwargs))

    return run


@_in_32_bits
@kept("target", "num_draws")
def propose_laplace(
    target: Target, key: jax.Array, approximation: NormalApproximation, data: Data, num_draws: int
) -> Proposals:
    """Draw from the normal approximation of every lane."""

    def one(key: jax.Array, approximation: NormalApproximation, lane: Data) -> Proposals:
        mode, root = approximation
        y = jax.random.normal(key, (num_draws, mode.size), dtype=mode.dtype)
        x = mode + y @ root.T
        log_density = _log_densities(target, x, lane)
        return Proposals(x, log_density + 0.5 * jnp.sum(y * y, axis=1))

    return divide_lanes(one)(_keys(key, approximation), approximation, data)


def _log_densities(target: Target, x: jax.Array, lane: Data) -> jax.Array:
    """Return the log densities of flat parameters ``(num_draws, dim)``."""
    return -jax.lax.map(lambda x: target.potential(x, lane), x, batch_size=largest_divisor(len(x), BATCH))


class SviFit(NamedTuple):
    """A guide's parameters for every lane, and whether the bound had stopped rising.

    Attributes
    ----------
    params
        NumPyro's, lanes first.
    bound
        Evidence lower bound at each step, ``(num_lanes, num_steps)``.
    """

    params: Any
    bound: np.ndarray

    @property
    def gain(self) -> np.ndarray:
        """How much the bound rose from the last block but one to the last, in nats, ``(num_lanes,)``."""
        last, before = self._blocks()
        with np.errstate(over="ignore", invalid="ignore"):  # of a guide that ran off it is NaN or infinite
            return last.mean(axis=1) - before.mean(axis=1)

    @property
    def converged(self) -> np.ndarray:
        """Whether that is no more than `MAX_GAIN` and twice its standard error, ``(num_lanes,)``.

        Never after so few steps that a block has fewer than `MIN_BLOCK`.
        """
        last, before = self._blocks()
        if last.shape[1] < MIN_BLOCK:
            return np.zeros(len(last), dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):  # and so is its error
            error = np.sqrt((last.var(axis=1) + before.var(axis=1)) / last.shape[1])
        return (self.gain <= MAX_GAIN + 2 * error) & (error <= MAX_ERROR)

    def _blocks(self) -> tuple[np.ndarray, np.ndarray]:
        num_steps = self.bound.shape[1]
        size = max(int(BLOCK * num_steps), 1)
        end = max(num_steps - size, 1)
        return self.bound[:, -size:], self.bound[:, max(end - size, 0) : end]


class _PathDerivative(ELBO):  # type: ignore[misc]
    r"""The evidence lower bound of a normal guide, with the gradient along the paths of its draws alone.

    With :math:`x(\epsilon; \lambda)` a draw of :math:`q_\lambda`, the gradient of
    :math:`\log p(x) - \log q_{\lambda'}(x)` at :math:`\lambda' = \lambda`, held fixed there: the term it
    leaves out has mean zero.
    """

    def __init__(self, target: Target, guide: Guide, made: AutoContinuous) -> None:
        super().__init__(num_particles=NUM_PARTICLES)
        self._target, self._guide, self._made = target, guide, made

    def loss(
        self, rng_key: jax.Array, param_map: Any, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> jax.Array:
        """Return the negative bound; arguments as NumPyro gives them."""
        approximation, lane = args
        here = _normal(self._made, param_map)
        fixed = _normal(self._made, jax.lax.stop_gradient(param_map))
        half = here.sample(rng_key, (NUM_PARTICLES // 2,))
        y = jnp.concatenate([half, 2.0 * here.mean - half])

        def potential(y: jax.Array) -> jax.Array:
            return self._target.potential(_place(self._guide, approximation, y), lane)

        return jnp.mean(_log_normal(fixed, y) + jax.vmap(potential)(y))


def _normal(made: AutoContinuous, params: Any) -> dist.Distribution:
    """Return the distribution that a guide's parameters stand for; of all but a flow, a normal."""
    found = made.get_posterior(params)
    return found if found.event_shape else found.to_event(1)


def _log_normal(normal: dist.Distribution, y: jax.Array) -> jax.Array:
    """Return the log density of a normal guide, ``(num_draws,)``.

    Without the decompositions of linear algebra where that is possible: those of jaxlib before 0.11.2 share
    out a batch in the very pool of threads that they run in, and on several devices wait for each other for
    ever.
    """
    if not isinstance(normal, dist.MultivariateNormal):
        return normal.log_prob(y)
    root = normal.scale_tril

    def row(x: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        return x.at[:, i].set((away[:, i] - x @ root[i]) / root[i, i]), None

    away = y - normal.loc
    standard, _ = jax.lax.scan(row, jnp.zeros_like(away), jnp.arange(away.shape[1]))
    squared = jnp.sum(standard**2 + jnp.log(2.0 * jnp.pi), axis=1)
    return -0.5 * squared - jnp.sum(jnp.log(jnp.diagonal(root)))


def _over_lanes(function: Callable[..., Any], guide: Guide) -> Callable[..., Any]:
    """Map over lanes; of the guide that needs decompositions on one device (see `_log_normal`)."""
    return jax.vmap(function) if guide == "low_rank" else divide_lanes(function)


@cache
def _svi(target: Target, guide: Guide, num_steps: int) -> tuple[SVI, AutoContinuous]:
    def latent(approximation: NormalApproximation, data: Data) -> jax.Array:
        dim = approximation.mode.shape[-1]
        return numpyro.sample("y", dist.Normal(0.0, 1.0).expand([dim]).mask(False).to_event(1))

    def model(approximation: NormalApproximation, data: Data) -> None:
        y = latent(approximation, data)
        numpyro.factor("log_density", -target.potential(_place(guide, approximation, y), data))

    make: dict[Guide, Callable[..., AutoContinuous]] = {
        "mean_field": partial(AutoDiagonalNormal, init_scale=1.0),
        "low_rank": partial(AutoLowRankMultivariateNormal, init_scale=0.8),
        "full_rank": partial(AutoMultivariateNormal, init_scale=1.0),
        "flow": partial(AutoIAFNormal, num_flows=2),
    }
    # Of the model a guide wants the shape of its latent values, which takes no evaluation of the density.
    made = make[guide](latent, init_loc_fn=init_to_value(values={"y": jnp.zeros(target.dim)}))
    rate = FLOW_LEARNING_RATE if guide == "flow" else LEARNING_RATE
    schedule = optax.cosine_decay_schedule(rate, num_steps, alpha=FINAL_SHARE)
    # Of a flow the density at a draw costs more than the draw itself: it keeps the usual gradient.
    bound = Trace_ELBO(NUM_PARTICLES) if guide == "flow" else _PathDerivative(target, guide, made)
    return SVI(model, made, optax.adam(schedule), bound), made


def _root(guide: Guide, approximation: NormalApproximation) -> jax.Array:
    """Return the coordinates of a guide: principal axes, or scales alone."""
    if guide in ("full_rank", "flow"):
        return approximation.root
    return jnp.diag(jnp.sqrt(jnp.sum(approximation.root**2, axis=1)))


def _place(guide: Guide, approximation: NormalApproximation, y: jax.Array) -> jax.Array:
    return approximation.mode + _root(guide, approximation) @ y


@kept("target", "guide", "num_steps")
def _run_svi(
    target: Target,
    guide: Guide,
    num_steps: int,
    key: jax.Array,
    approximation: NormalApproximation,
    data: Data,
) -> tuple[Any, jax.Array]:
    svi, _ = _svi(target, guide, num_steps)

    def one(key: jax.Array, approximation: NormalApproximation, lane: Data) -> tuple[Any, jax.Array]:
        state = svi.init(key, approximation, lane)

        def step(state: Any, _: None) -> tuple[Any, jax.Array]:
            return svi.stable_update(state, approximation, lane)

        state, loss = jax.lax.scan(step, state, length=num_steps)
        # The columns are orthogonal.
        log_volume = jnp.sum(jnp.log(jnp.linalg.norm(_root(guide, approximation), axis=0)))
        return svi.get_params(state), log_volume - loss

    return _over_lanes(one, guide)(_keys(key, approximation), approximation, data)


@_in_32_bits
def run_svi(
    target: Target,
    key: jax.Array,
    approximation: NormalApproximation,
    data: Data,
    guide: Guide,
    num_steps: int,
) -> SviFit:
    """Fit a guide to every lane.

    Parameters
    ----------
    target, data
        The density; data lanes first.
    key
        PRNG key.
    approximation
        Where to start, and the scales of steps.
    guide
        The family.
    num_steps
        Steps of Adam, whose rate falls along half a cosine.
    """
    _, made = _svi(target, guide, num_steps)
    # The guide keeps what it finds in its first call, which must not be traced.
    with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=0):
        made(*jax.tree.map(lambda field: field[0], (approximation, data)))
    params, bound = _run_svi(target, guide, num_steps, key, approximation, data)
    return SviFit(params, np.asarray(bound))


@kept("target", "guide", "num_steps", "num_draws")
def _propose_svi(
    target: Target,
    guide: Guide,
    num_steps: int,
    key: jax.Array,
    params: Any,
    approximation: NormalApproximation,
    data: Data,
    num_draws: int,
) -> Proposals:
    _, made = _svi(target, guide, num_steps)

    def one(key: jax.Array, params: Any, approximation: NormalApproximation, lane: Data) -> Proposals:
        posterior = _normal(made, params)
        if guide == "flow":
            y = posterior.sample(key, (num_draws,))
            log_proposal = posterior.log_prob(y)
        else:
            y, log_proposal = _with_tails(key, posterior, num_draws)
        x = jax.vmap(lambda y: _place(guide, approximation, y))(y)
        return Proposals(x, _log_densities(target, x, lane) - log_proposal)

    return _over_lanes(one, guide)(_keys(key, approximation), params, approximation, data)


def _with_tails(
    key: jax.Array, normal: dist.MultivariateNormal, num_draws: int
) -> tuple[jax.Array, jax.Array]:
    r"""Draw from Student's t of a normal's location and scale, ``(num_draws, dim)``.

    With :math:`\rho^2` the squared Mahalanobis distance from the mean, which the normal's log density is
    minus one half of, its log density is, up to a constant,
    :math:`-\tfrac12 (\nu + k) \log(1 + \rho^2 / \nu)`.
    """
    key_normal, key_tail = jax.random.split(key)
    centre = normal.mean
    away = normal.sample(key_normal, (num_draws,)) - centre
    chi_squared = 2.0 * jax.random.gamma(key_tail, 0.5 * TAIL_DF, (num_draws,), dtype=away.dtype)
    y = centre + away * jnp.sqrt(TAIL_DF / chi_squared)[:, None]
    top, at = _log_normal(normal, centre[None]), _log_normal(normal, y)
    squared = 2.0 * (top - at)
    return y, -0.5 * (TAIL_DF + away.shape[1]) * jnp.log1p(squared / TAIL_DF)


@_in_32_bits
def propose_svi(
    target: Target,
    key: jax.Array,
    fitted: SviFit,
    approximation: NormalApproximation,
    data: Data,
    guide: Guide,
    num_draws: int,
) -> Proposals:
    """Draw from the fitted guide of every lane."""
    num_steps = fitted.bound.shape[1]
    return _propose_svi(target, guide, num_steps, key, fitted.params, approximation, data, num_draws)


def as_normal(fitted: SviFit, approximation: NormalApproximation) -> NormalApproximation:
    """Return a fitted guide of full rank as a normal approximation."""
    loc, scale = fitted.params["auto_loc"], fitted.params["auto_scale_tril"]
    return NormalApproximation(
        approximation.mode + jnp.einsum("lij,lj->li", approximation.root, loc), approximation.root @ scale
    )
