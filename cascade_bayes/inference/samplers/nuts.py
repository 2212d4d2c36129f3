r"""NUTS in coordinates whitened by a normal approximation, in lanes.

NUTS (Hoffman & Gelman, JMLR 15, 2014) as NumPyro has it, on the density of

.. math:: y = A^{-1} (x - \hat x), \qquad A A^\top = \hat\Sigma,

with :math:`x` the unconstrained parameters, :math:`\hat x` the centre of a normal approximation and
:math:`\hat\Sigma = U \Lambda U^\top` its covariance, :math:`A = U \Lambda^{1/2}`. The mode
and the curvature there take a fraction of a second; in their coordinates the posterior is close to a
standard normal, and NUTS has only the scale of each principal axis left to adapt. A dense mass matrix
estimated from the early warm-up's few dozen draws of fifty parameters is far from that good: its
trajectories were ten times as long.

Chains start from draws of the approximation, widened so that R-hat can see a chain that has not forgotten its
start. They are spread over the devices there are: on a processor, as many as
``jax.config.update("jax_num_cpu_devices", 4)`` asks for before the first computation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from numpyro import infer

from cascade_bayes._devices import as_set_here, divide, num_cores
from cascade_bayes._kept import kept
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.samplers.laplace import NormalApproximation, normal_approximation
from cascade_bayes.inference.samplers.target import Data, Lanes, Target

START_SPREAD = 1.5
"""Factor by which starting points are wider than the normal approximation."""

STRETCH = 50
"""Transitions between two looks at the clock."""

MAX_TREE_DEPTH = 10
MAX_NUM_STEPS = 2**MAX_TREE_DEPTH - 1
"""Leapfrog steps of the longest trajectory."""

Draws = dict[str, np.ndarray]


class TransitionStats(NamedTuple):
    """What is kept of each transition of NUTS beside the new position, under NumPyro's names.

    Attributes
    ----------
    accept_prob
        Mean Metropolis acceptance probability along the trajectory, from 0 to 1.
    diverging
        Whether the energy rose so far along the trajectory that its steps cannot be trusted.
    energy
        Potential plus kinetic energy of the new position, in nats.
    num_steps
        Leapfrog steps of the trajectory, at most `MAX_NUM_STEPS`.
    potential_energy
        Minus the log density at the new position, in nats.
    """

    accept_prob: jax.Array
    diverging: jax.Array
    energy: jax.Array
    num_steps: jax.Array
    potential_energy: jax.Array


class _Tuning(NamedTuple):
    """How NUTS adapts its step size and scales, all that a compiled transition depends on beside the density.

    Attributes
    ----------
    num_warmup
        Transitions of the warm-up.
    target_accept_prob
        Acceptance probability that the step size is adapted to.
    """

    num_warmup: int
    target_accept_prob: float


def _kernel(
    target: Target, tuning: _Tuning, start: jax.Array, lane: tuple[NormalApproximation, Data], key: jax.Array
) -> tuple[Any, Callable[[Any], Any]]:
    """Return the first state of a chain, and one transition.

    NumPyro's kernel holds its adaptation schedule in a closure that its first state sets; so both are made
    anew in every program, and what is not used of them is not compiled.
    """

    def potential(approximation: NormalApproximation, data: Data) -> Callable[[jax.Array], jax.Array]:
        return lambda y: target.potential(approximation.mode + approximation.root @ y, data)

    init, step = infer.hmc.hmc(potential_fn_gen=potential, algo="NUTS")
    state = init(
        start,
        tuning.num_warmup,
        target_accept_prob=tuning.target_accept_prob,
        max_tree_depth=MAX_TREE_DEPTH,
        model_args=lane,
        rng_key=key,
    )
    return state, lambda state: step(state, lane)


def _over_chains(one: Callable[..., Any]) -> Callable[..., Any]:
    """Map over lanes, and within a lane over chains, which share the lane's approximation and data."""
    return jax.vmap(jax.vmap(one, in_axes=(0, None, None)))


@kept("target", "tuning", runs_once=True)
def _start(
    target: Target,
    tuning: _Tuning,
    keys: jax.Array,
    approximation: NormalApproximation,
    data: Data,
) -> Any:
    def one(key: jax.Array, approximation: NormalApproximation, lane: Data) -> Any:
        key_start, key_run = jax.random.split(key)
        mode = approximation.mode
        start = START_SPREAD * jax.random.normal(key_start, mode.shape, dtype=mode.dtype)
        return _kernel(target, tuning, start, (approximation, lane), key_run)[0]

    return divide(_over_chains(one), keys.shape[1], (1, None, None), 1)(keys, approximation, data)


@kept("target", "tuning")
def _advance(
    target: Target,
    tuning: _Tuning,
    states: Any,
    approximation: NormalApproximation,
    data: Data,
    count: jax.Array,
) -> tuple[Any, jax.Array, TransitionStats]:
    """Take ``count`` transitions, `STRETCH` at most; one program for any number of them.

    Returns states, positions ``(num_lanes, num_chains, STRETCH, dim)``, and statistics without the last axis.
    """

    def one(state: Any, approximation: NormalApproximation, lane: Data) -> Any:
        _, step = _kernel(target, tuning, state.z, (approximation, lane), state.rng_key)
        return step(state)

    def fields(states: Any) -> TransitionStats:
        return TransitionStats(*(getattr(states, name) for name in TransitionStats._fields))

    def of_all(
        states: Any, approximation: NormalApproximation, data: Data, count: jax.Array
    ) -> tuple[Any, jax.Array, TransitionStats]:
        # The loop over transitions is around the map over chains and not within it: all take as many, and a
        # loop within would have to choose at every turn, for every chain, whether its state is to change.
        step = _over_chains(one)

        def turn(
            i: jax.Array, carry: tuple[Any, tuple[jax.Array, TransitionStats]]
        ) -> tuple[Any, tuple[jax.Array, TransitionStats]]:
            states, rows = carry
            states = step(states, approximation, data)
            found = states.z, fields(states)
            return states, jax.tree.map(lambda rows, row: rows.at[:, :, i].set(row), rows, found)

        def room(x: jax.Array) -> jax.Array:
            return jnp.zeros((*x.shape[:2], STRETCH, *x.shape[2:]), x.dtype)

        rows = jax.tree.map(room, (states.z, fields(states)))
        states, (positions, stats) = jax.lax.fori_loop(0, count, turn, (states, rows))
        x = jnp.einsum("lctd,led->lcte", positions, approximation.root)
        return states, approximation.mode[:, None, None] + x, stats

    divided = divide(of_all, states.z.shape[1], (1, None, None, None), 1)
    return divided(states, approximation, data, count)


def compile_chains(parts: Sequence[Lanes], options: FitOptions, pool: Executor) -> None:
    """Compile side by side, for all parts, what finds the normal approximation and runs chains from it.

    They are the programs that `normal_approximation` and `Chains` go on to call. One after another they would
    leave processor cores idle for most of a first fit.

    Parameters
    ----------
    parts
        The densities and their data.
    options
        Settings of the chains.
    pool
        Where to compile. Only compiling is left to it: models are traced here, because NumPyro's handlers
        know no threads.
    """
    tuning = _Tuning(options.warmup, options.target_accept_prob)
    seed = jax.random.key(0)
    started: list[tuple[Any, ...]] = []
    compiling = []
    for target, data in parts:
        approximate = normal_approximation.lower(target, data)
        found = shapes(approximate.out_info)
        keys = shapes(jax.random.split(seed, (len(found.mode), options.num_chains)))
        start = _start.lower(target, tuning, keys, found, data)
        started.append((target, data, found, pool.submit(start.compile)))
        compiling.append(pool.submit(approximate.compile))
    for target, data, found, start in started:
        states = shapes(start.result())
        advance = _advance.lower(target, tuning, states, found, data, jnp.asarray(1))
        compiling.append(pool.submit(advance.compile))
    for job in compiling:
        job.result()


def shapes(info: Any) -> Any:
    """Return what stands for arrays of these shapes, divided among devices as they are.

    Arrays of a single device are bound to none: a program compiled for those of that very device would be
    another than the one that is called.
    """

    def one(x: Any) -> jax.ShapeDtypeStruct:
        own = getattr(x, "sharding", None)
        bound = None if isinstance(own, SingleDeviceSharding) else own
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=bound)

    return jax.tree.map(one, info)


def run_side_by_side(
    chains: Sequence[Chains], count: int, tick: Callable[[int], None]
) -> list[tuple[Chains, Draws, Draws]]:
    """Do what `Chains.run` does for several densities at once, each on a processor core of its own.

    Where there are several devices, which share the chains of each density already, one is run after the
    other. An exception, or Ctrl-C, ends all of them within a stretch.
    """
    over = threading.Event()

    @as_set_here
    def run(one: Chains) -> tuple[Chains, Draws, Draws]:
        def go_on(length: int) -> None:
            if over.is_set():
                raise CancelledError
            tick(length)

        return one.run(count, go_on)

    with ThreadPoolExecutor(num_cores() if jax.local_device_count() == 1 else 1) as pool:
        running = [pool.submit(run, one) for one in chains]
        try:
            return [job.result() for job in running]
        except BaseException:
            over.set()
            raise


@kept("target")
def constrained(target: Target, x: jax.Array) -> dict[str, jax.Array]:
    """Return the sites of flat parameters ``(num_lanes, num_chains, num_draws, dim)``."""
    return jax.vmap(jax.vmap(jax.vmap(target.sites)))(x)


class Chains(NamedTuple):
    """Chains of every lane where they stand; running them gives others, which go on from there.

    Attributes
    ----------
    target, data
        The density, and its data, lanes first.
    approximation
        The coordinates in which they are sampled.
    tuning
        How they adapt.
    states
        NumPyro's states of all chains, ``(num_lanes, num_chains, ...)``.
    """

    target: Target
    data: Data
    approximation: NormalApproximation
    tuning: _Tuning
    states: Any

    @classmethod
    def start(
        cls, key: jax.Array, part: Lanes, approximation: NormalApproximation, options: FitOptions
    ) -> Chains:
        """Return chains before their first transition.

        Parameters
        ----------
        key
            PRNG key.
        part
            The density and its data.
        approximation
            Where to start, and in which coordinates to sample.
        options
            How many chains, and how they adapt.
        """
        tuning = _Tuning(options.warmup, options.target_accept_prob)
        keys = jax.random.split(key, (approximation.mode.shape[0], options.num_chains))
        states = _start(part.target, tuning, keys, approximation, part.data)
        return cls(part.target, part.data, approximation, tuning, states)

    def positions(self, count: int, tick: Callable[[int], None]) -> tuple[Chains, np.ndarray, Draws]:
        """Take ``count`` transitions of every chain.

        Parameters
        ----------
        count
            How many.
        tick
            Called with the number of transitions after each stretch of them.

        Returns
        -------
        tuple
            The chains where they stand then; flat unconstrained parameters,
            ``(num_lanes, num_chains, count, dim)``; and statistics by name,
            ``(num_lanes, num_chains, count)``.
        """
        states, found, rows = self.states, [], []
        for done in range(0, count, STRETCH):
            length = min(STRETCH, count - done)
            states, x, stats = _advance(
                self.target, self.tuning, states, self.approximation, self.data, jnp.asarray(length)
            )
            found.append(np.asarray(x)[:, :, :length])
            rows.append([np.asarray(field)[:, :, :length] for field in stats])
            tick(length)
        joined = [np.concatenate(field, axis=2) for field in zip(*rows, strict=True)]
        named = dict(zip(TransitionStats._fields, joined, strict=True))
        return self._replace(states=states), np.concatenate(found, axis=2), named

    def with_half_the_step(self, lanes: np.ndarray) -> Chains:
        """Return the chains with half the step size in some lanes, ``(num_lanes,)``, which diverged."""
        adapted = self.states.adapt_state
        shorter = jnp.where(jnp.asarray(lanes)[:, None], 0.5 * adapted.step_size, adapted.step_size)
        return self._replace(states=self.states._replace(adapt_state=adapted._replace(step_size=shorter)))

    def run(self, count: int, tick: Callable[[int], None]) -> tuple[Chains, Draws, Draws]:
        """Take transitions as `positions` does, and return sites, ``(num_lanes, num_chains, count, ...)``."""
        chains, x, stats = self.positions(count, tick)
        sites = constrained(self.target, jnp.asarray(x))
        return chains, {k: np.asarray(v) for k, v in sites.items()}, stats
