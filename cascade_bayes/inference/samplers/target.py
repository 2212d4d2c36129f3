r"""Densities to sample from: functions of one flat array of unconstrained parameters, and of data.

A target is a NumPyro model as samplers see it. Its data come as arguments, so that one compiled program
serves all data of one shape, and so that several data sets of one shape, the *lanes*, are worked on side by
side: their arrays have a leading axis, and every sampler maps over it.

Unconstrained are the coordinates that NumPyro takes for a site's support, but for sites with a Student t
prior of scale :math:`s`, whose tails neither a normal approximation nor a single step size can follow. They
have the coordinate :math:`u` with

.. math:: x = \frac{s}{c} \sinh(c u), \qquad c = \sqrt{3/\nu}

(Johnson, Biometrika 36, 1949). For three degrees of freedom a standard normal :math:`u` is Student's t to a
tenth within three standard deviations; beyond, the map grows more slowly than one that follows the quantiles,
which would set up walls that a trajectory runs into. The density takes the change of coordinates into account
exactly, so that nothing rests on the quality of that approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import Transform
from numpyro.infer.util import log_density

Data = Any
"""A pytree of arrays."""


class Tilted(NamedTuple):
    """Data of a density that is tilted: to its negative logarithm ``slope @ (x - centre)`` is added.

    Attributes
    ----------
    data
        Data of the density itself.
    slope, centre
        Slope, and where it adds nothing, in flat unconstrained parameters, ``(dim,)`` both.
    """

    data: Data
    slope: jax.Array
    centre: jax.Array


class StudentCoordinate(Transform):  # type: ignore[misc]
    """From a nearly standard normal ``u`` to a Student t value; see the module's docstring."""

    domain = constraints.real
    codomain = constraints.real

    def __init__(self, df: float, scale: float) -> None:
        self.df, self.scale = df, scale
        self._c = math.sqrt(3.0 / df)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the Student t value, of the same shape."""
        return self.scale / self._c * jnp.sinh(self._c * x)

    def _inverse(self, y: jax.Array) -> jax.Array:
        return jnp.arcsinh(self._c / self.scale * y) / self._c

    def log_abs_det_jacobian(self, x: jax.Array, y: jax.Array, intermediates: Any = None) -> jax.Array:
        """Return the log derivative, of the same shape."""
        size = jnp.abs(self._c * x)
        return math.log(self.scale) + size + jnp.log1p(jnp.exp(-2.0 * size)) - math.log(2.0)

    def tree_flatten(self) -> Any:
        """Return the parameters, all static, as NumPyro's transforms do."""
        return (), ((), {"df": self.df, "scale": self.scale, "_c": self._c})


def _coordinates(prior: dist.Distribution) -> Transform:
    """Return the map from unconstrained values to a site's."""
    base = prior.base_dist if isinstance(prior, dist.Independent) else prior
    base = base.base_dist if isinstance(base, dist.ExpandedDistribution) else base
    if isinstance(base, dist.StudentT) and not jnp.shape(base.df):
        return StudentCoordinate(float(base.df), float(base.scale))
    return biject_to(prior.support)


def _in_force(field: Any) -> Any:
    """Return an array in the precision of the arithmetic in force."""
    floating = jnp.issubdtype(jnp.result_type(field), jnp.floating)
    return np.asarray(field, dtype=jnp.result_type(float)) if floating else field


class Target:
    """A NumPyro model as a density of flat unconstrained parameters.

    Two targets are equal if they are one object: programs are compiled for each.

    Parameters
    ----------
    model
        The model, a function of the data.
    data
        Data of the right shapes; the sites must not depend on their values.
    name
        What says all that the model is, so that programs compiled for it can be kept
        (`cascade_bayes._kept`); they are not if it has none.
    """

    def __init__(self, model: Callable[[Data], Any], data: Data, name: str | None = None) -> None:
        self._model, self._data, self._name = model, data, name
        self._transforms_of: dict[np.dtype, dict[str, Transform]] = {}

    def __repr__(self) -> str:
        return super().__repr__() if self._name is None else f"<target {self._name}>"

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the sites, unconstrained."""
        with jax.ensure_compile_time_eval():
            return self._trace()

    def _trace(self) -> dict[str, tuple[int, ...]]:
        """Find the sites' transforms for the arithmetic in force; return the sites' shapes."""
        found: dict[str, Transform] = {}

        def shapes(data: Data, key: jax.Array) -> dict[str, jax.Array]:
            with handlers.block(), handlers.seed(rng_seed=key), handlers.trace() as trace:
                self._model(data)
            sites = {k: v for k, v in trace.items() if v["type"] == "sample" and not v["is_observed"]}
            with jax.ensure_compile_time_eval():  # bounds of a support must outlive this trace
                for name, site in sites.items():
                    found[name] = _coordinates(site["fn"])
            return {k: transform.inv(sites[k]["value"]) for k, transform in found.items()}

        # Arguments, so that the model is traced and not run, operation by operation.
        data = jax.tree.map(_in_force, self._data)
        kinds = jax.eval_shape(shapes, data, jax.random.key(0))
        self._transforms_of[jnp.result_type(float)] = found
        return {name: kind.shape for name, kind in kinds.items()}

    @property
    def _transforms(self) -> dict[str, Transform]:
        if jnp.result_type(float) not in self._transforms_of:
            with jax.ensure_compile_time_eval():
                self._trace()
        return self._transforms_of[jnp.result_type(float)]

    @property
    def start(self) -> jax.Array:
        """Zeros, ``(dim,)``: every site at the middle of its support."""
        return jnp.zeros(self.dim)

    @property
    def dim(self) -> int:
        """Number of unconstrained parameters."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    def _unravel(self, x: jax.Array) -> dict[str, jax.Array]:
        """Return the unconstrained values of each site, in the arithmetic of ``x``."""
        names = sorted(self._shapes)
        sizes = [math.prod(self._shapes[name]) for name in names]
        parts = jnp.split(x, np.cumsum(sizes)[:-1])
        return {name: part.reshape(self._shapes[name]) for name, part in zip(names, parts, strict=True)}

    def sites(self, x: jax.Array) -> dict[str, jax.Array]:
        """Return the sites that flat parameters ``(dim,)`` stand for."""
        return {k: self._transforms[k](v) for k, v in self._unravel(x).items()}

    @partial(jax.jit, static_argnums=0)  # so that the model is traced once, not for every gradient of it
    def potential(self, x: jax.Array, data: Data) -> jax.Array:
        """Return the negative log density of flat parameters ``(dim,)`` given data, up to a constant.

        Data may be `Tilted`.
        """
        if isinstance(data, Tilted):
            return self.potential(x, data.data) + jnp.dot(data.slope, x - data.centre)
        unconstrained = self._unravel(x)
        total = jnp.zeros((), dtype=x.dtype)
        sites = {}
        for name, transform in self._transforms.items():
            sites[name] = transform(unconstrained[name])
            total += jnp.sum(transform.log_abs_det_jacobian(unconstrained[name], sites[name]))
        with handlers.block():
            return -(total + log_density(self._model, (data,), {}, sites)[0])


class Lanes(NamedTuple):
    """What is sampled side by side: a density, and its data, lanes first."""

    target: Target
    data: Data
