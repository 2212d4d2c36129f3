r"""Inverse of the regularised incomplete beta function, from the log of either tail.

For :math:`x = 1/(1+e^{-z})` both :math:`\log I_x(a,b)` and :math:`\log(1 - I_x(a,b))` are concave in
:math:`z`, because the density of the logit of a beta variable is log-concave. Newton's method on a
concave increasing function approaches from the left from its first step on and cannot overshoot:
it converges from any start. The smaller tail is the one solved for, so that neither end loses digits.

The derivatives are those of the implicit function,
:math:`\partial z / \partial a = -(\partial_a \log I) / (\partial_z \log I)`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from cascade_bayes.special._betainc import logit_betainc
from cascade_bayes.special._elementary import betaln, log1mexp, promote

_MAX_STEPS = 100


def _log_tail_and_slope(a: Array, b: Array, z: Array) -> tuple[Array, Array]:
    """``log I`` and its slope in ``z``, the density of the logit over the tail."""
    value = logit_betainc(a, b, z)[0]
    log_x, log_y = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
    return value, jnp.exp(a * log_x + b * log_y - betaln(a, b) - value)


@jax.custom_jvp
@jax.jit  # called outside of any jit, a loop would be compiled anew each time
def _solve_lower(a: Array, b: Array, log_p: Array) -> Array:
    """Solve ``log I_x(a, b) = log_p`` for the logit, finite negative ``log_p`` of one shape."""
    # The leading term x**a / (a B(a, b)) where it is below 1, else the mean's logit.
    log_x = (log_p + jnp.log(a) + betaln(a, b)) / a
    log_x_safe = jnp.minimum(log_x, -1e-3)
    z = jnp.where(log_x < -1e-3, log_x_safe - log1mexp(log_x_safe), jnp.log(a) - jnp.log(b))
    eps = 4 * jnp.finfo(z.dtype).eps

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        step, _, count = state
        return jnp.any(step) & (count < _MAX_STEPS)

    def newton(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        moving, z, count = state
        value, slope = _log_tail_and_slope(a, b, z)
        step = (log_p - value) / slope
        z = jnp.where(moving, z + step, z)
        # Rounding of log I by a few units moves z by as much over the slope.
        enough = eps * (jnp.abs(z) + jnp.abs(log_p) / slope + 1.0)
        return moving & (jnp.abs(step) > enough), z, count + 1

    return lax.while_loop(unfinished, newton, (jnp.ones(z.shape, bool), z, jnp.zeros((), int)))[1]


@_solve_lower.defjvp
def _solve_lower_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (a, b, log_p), (a_dot, b_dot, p_dot) = primals, tangents
    z = _solve_lower(a, b, log_p)
    _, shapes_dot = jax.jvp(lambda a, b: logit_betainc(a, b, z)[0], (a, b), (a_dot, b_dot))
    return z, (p_dot - shapes_dot) / _log_tail_and_slope(a, b, z)[1]


def logit_betaincinv(a: ArrayLike, b: ArrayLike, log_lower: ArrayLike, log_upper: ArrayLike) -> Array:
    r"""Logit of the quantile of the beta distribution, from the logs of both tails.

    The inverse of `logit_betainc` in its last argument.

    Parameters
    ----------
    a, b
        Shapes, positive.
    log_lower, log_upper
        ``log p`` and ``log(1 - p)`` of one probability ``p``. The smaller of the two is used.

    Returns
    -------
    Array
        Logit ``z`` with ``logit_betainc(a, b, z) == (log_lower, log_upper)``; ``-inf`` at ``p = 0``,
        ``inf`` at ``p = 1`` (gradient 0 at both); ``nan`` outside the domain.

    Notes
    -----
    First and second derivatives exist in all arguments, in forward and reverse mode.

    References
    ----------
    DLMF 8.17.2. See the head of this module.

    Examples
    --------
    >>> z = logit_betaincinv(2.0, 1.0, jnp.log(0.25), jnp.log(0.75))  # I = x**2
    >>> round(float(z), 6) == 0
    True
    """
    a, b, log_lower, log_upper = promote(a, b, log_lower, log_upper)
    a, b, log_lower, log_upper = jnp.broadcast_arrays(a, b, log_lower, log_upper)
    valid = (a > 0) & (b > 0) & jnp.isfinite(a) & jnp.isfinite(b)
    upper = log_upper < log_lower
    small = jnp.where(upper, log_upper, log_lower)
    live = valid & (small < 0) & (small > -jnp.inf)
    one = jnp.where(live, jnp.where(upper, b, a), 1.0)
    zero = jnp.where(live, jnp.where(upper, a, b), 1.0)
    z = _solve_lower(one, zero, jnp.where(live, small, -1.0))
    ends = jnp.where(valid & jnp.isneginf(small), jnp.where(upper, jnp.inf, -jnp.inf), jnp.nan)
    return jnp.where(live, jnp.where(upper, -z, z), ends)


def betaincinv(a: ArrayLike, b: ArrayLike, p: ArrayLike) -> Array:
    """Quantile ``x`` of the beta distribution: ``betainc(a, b, x) == p``.

    Parameters, derivatives and references as for `logit_betaincinv`, which does the work and which
    to prefer where ``x`` is next to 1.

    Examples
    --------
    >>> round(float(betaincinv(2.0, 3.0, 0.6875)), 6)
    0.5
    """
    a, b, p = promote(a, b, p)
    return jax.nn.sigmoid(logit_betaincinv(a, b, jnp.log(p), jnp.log1p(-p)))


def betainccinv(a: ArrayLike, b: ArrayLike, q: ArrayLike) -> Array:
    """Point ``x`` at which the complement is ``q``: ``betaincc(a, b, x) == q``; see `betaincinv`.

    Examples
    --------
    >>> round(float(betainccinv(2.0, 3.0, 0.3125)), 6)
    0.5
    """
    a, b, q = promote(a, b, q)
    return jax.nn.sigmoid(logit_betaincinv(a, b, jnp.log1p(-q), jnp.log(q)))
