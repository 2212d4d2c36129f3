"""Independence copula, ``C(u, v) = u v``: neighbouring models know nothing of each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cascade_bayes.copulas.base import Copula, no_tail_dependence
from cascade_bayes.special import UnitPoint


def _log_density(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    return jnp.zeros(jnp.broadcast_shapes(u.log_u.shape, v.log_u.shape), dtype=u.log_u.dtype)


def _cdf(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> jax.Array:
    return jnp.exp(u.log_u + v.log_u)


def _h_v_given_u(u: UnitPoint, v: UnitPoint, theta: jax.Array) -> UnitPoint:
    shape = jnp.broadcast_shapes(u.log_u.shape, v.log_u.shape)
    return UnitPoint(jnp.broadcast_to(v.log_u, shape), jnp.broadcast_to(v.log_1mu, shape))


INDEPENDENCE = Copula(
    name="independence",
    log_density=_log_density,
    cdf=_cdf,
    h_v_given_u=_h_v_given_u,
    h_u_given_v=lambda u, v, theta: _h_v_given_u(v, u, theta),
    tau_to_theta=jnp.zeros_like,
    theta_to_tau=jnp.zeros_like,
    tail_dependence=no_tail_dependence,
    theta_range=(0.0, 0.0),
    tau_range=(0.0, 0.0),
    has_theta=False,
)
