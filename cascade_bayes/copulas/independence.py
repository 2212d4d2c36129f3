"""Independence copula, ``C(u, v) = u v``: neighbouring models know nothing of each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import Copula, UnitPoint


def log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return 0, the log density of a uniform pair."""
    return jnp.zeros(jnp.broadcast_shapes(u.log_u.shape, v.log_u.shape), dtype=u.log_u.dtype)


def cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return ``u v``."""
    return jnp.exp(u.log_u + v.log_u)


def h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return ``v``."""
    return jnp.broadcast_to(v.value, jnp.broadcast_shapes(u.log_u.shape, v.log_u.shape))


def h_u_given_v(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    """Return ``u``."""
    return h_v_given_u(v, u, theta)


INDEPENDENCE = Copula(
    name="independence",
    log_density=log_density,
    cdf=cdf,
    h_v_given_u=h_v_given_u,
    h_u_given_v=h_u_given_v,
    tau_to_theta=jnp.ones_like,
    theta_to_tau=jnp.zeros_like,
    has_theta=False,
)
