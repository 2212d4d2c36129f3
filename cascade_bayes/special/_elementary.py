r"""Logarithms that do not cancel: ``log(1 - exp(x))`` and the log beta function.

The log beta function is built from Stirling's *remainder*

.. math:: \Delta(a) = \log\Gamma(a) - (a - \tfrac12)\log a + a - \tfrac12\log 2\pi,

which is small, so that the large terms of the three log gammas cancel on paper instead of in
floating point. The same pieces give the incomplete beta function its prefactor and its slopes.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)

# B_{2k} / (2k (2k - 1)), k = 1..9: the Stirling series (DLMF 5.11.1). From a = 8 on, the first term
# left out is below B_20 / (380 * 8**19) < 1e-17.
_STIRLING_COEFFICIENTS = (
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
    43867 / 244188,
)
_STIRLING_START = 8


def promote(*args: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of one floating dtype, of 32 or 64 bits; integers to the default one."""
    dtype = jnp.result_type(*args)
    floating = jnp.issubdtype(dtype, jnp.floating)
    dtype = jnp.promote_types(dtype, jnp.float32) if floating else jnp.result_type(float)
    return tuple(jnp.asarray(arg, dtype) for arg in args)


@jax.custom_jvp
def _log1mexp(x: Array) -> Array:
    """``log(1 - exp(x))`` of one floating array."""
    inside = x < 0
    x_safe = jnp.where(inside, x, -1.0)
    near_zero = x_safe > -math.log(2.0)
    # each branch sees only arguments it is accurate for (Maechler 2012, eq. 7)
    value = jnp.where(
        near_zero,
        jnp.log(-jnp.expm1(jnp.where(near_zero, x_safe, -0.5))),
        jnp.log1p(-jnp.exp(jnp.where(near_zero, -1.0, x_safe))),
    )
    return jnp.where(inside, value, jnp.where(x == 0, -jnp.inf, jnp.nan))


@_log1mexp.defjvp
def _log1mexp_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (x,), (x_dot,) = primals, tangents
    inside = x < 0
    x_safe = jnp.where(inside, x, -1.0)
    slope = jnp.where(inside, jnp.exp(x_safe) / jnp.expm1(x_safe), 0.0)
    return _log1mexp(x), slope * x_dot


def log1mexp(x: ArrayLike) -> Array:
    r"""Logarithm of one minus an exponential, :math:`\log(1 - e^x)`.

    Parameters
    ----------
    x
        Logarithm of a probability, at most 0, any shape.

    Returns
    -------
    Array
        ``log(1 - exp(x))``, to a few units in the last place. ``-inf`` at ``x = 0``, ``0`` at
        ``x = -inf``, ``nan`` for ``x > 0``.

    Notes
    -----
    The derivative is ``exp(x) / expm1(x)``. It diverges as ``x`` tends to 0; *at* ``x = 0``, where
    the value is ``-inf``, it is defined as 0, so no infinity or ``nan`` enters a gradient.

    References
    ----------
    M. Maechler, "Accurately computing log(1 - exp(-|a|))", Rmpfr vignette, 2012, eq. 7.

    Examples
    --------
    >>> round(float(log1mexp(-1e-3)), 3)
    -6.908
    """
    return _log1mexp(*promote(x))


def stirling_remainder(a: Array) -> Array:
    r"""Stirling's remainder :math:`\Delta(a)` for ``a > 0``; see the head of this module.

    Below 8 the argument is shifted up by ``Gamma(a + 8) = a (a + 1) ... (a + 7) Gamma(a)``. Made of
    elementary functions, so that derivatives of any order exist.
    """
    n = _STIRLING_START
    small = a < n
    a_small = jnp.where(small, a, 1.0)
    rising = a_small
    for k in range(1, n):
        rising = rising * (a_small + k)
    shift = (
        (a_small + (n - 0.5)) * jnp.log(a_small + n)
        - (a_small - 0.5) * jnp.log(a_small)
        - jnp.log(rising)
        - n
    )
    inverse = 1.0 / jnp.where(small, a_small + n, a)
    inverse2 = inverse * inverse
    series = jnp.zeros_like(inverse)
    for coefficient in reversed(_STIRLING_COEFFICIENTS):
        series = series * inverse2 + coefficient
    return series * inverse + jnp.where(small, shift, 0.0)


class BetaTerms(NamedTuple):
    r"""What the beta distribution needs of its shapes alone, each free of cancellation.

    ``log_mode`` and ``log_mode_rest`` are :math:`\log\tfrac{a}{a+b}` and
    :math:`\log\tfrac{b}{a+b}`; ``log_peak`` is the log density of the logit at that point,

    .. math:: a\log\tfrac{a}{a+b} + b\log\tfrac{b}{a+b} - \log B(a,b)
              = \tfrac12\log\tfrac{ab}{2\pi(a+b)} - \Delta(a) - \Delta(b) + \Delta(a+b);

    ``slope_a`` is :math:`\psi(a+b) - \psi(a) = -\partial_a \log B(a,b)`, from
    :math:`\psi(a) = \log a - \tfrac{1}{2a} + \Delta'(a)`, and ``slope_b`` its mirror image.
    """

    log_mode: Array
    log_mode_rest: Array
    log_peak: Array
    slope_a: Array
    slope_b: Array


def beta_terms(a: Array, b: Array) -> BetaTerms:
    """Compute the ``BetaTerms`` of positive shapes; what is not used is not compiled."""
    total = a + b
    odds, odds_rest = b / a, a / b
    # one stacked evaluation: on a CPU these small arrays cost by the operation, not by the element
    stacked = jnp.stack(jnp.broadcast_arrays(a, b, total))
    remainder, slope = jax.jvp(stirling_remainder, (stacked,), (jnp.ones_like(stacked),))
    log_mode, log_mode_rest = -jnp.log1p(odds), -jnp.log1p(odds_rest)
    return BetaTerms(
        log_mode=log_mode,
        log_mode_rest=log_mode_rest,
        log_peak=0.5 * (jnp.log(a) + log_mode_rest)
        - _HALF_LOG_TWO_PI
        - (remainder[0] + remainder[1] - remainder[2]),
        slope_a=0.5 * odds / total - log_mode + (slope[2] - slope[0]),
        slope_b=0.5 * odds_rest / total - log_mode_rest + (slope[2] - slope[1]),
    )


def _safe_shapes(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Shapes with 1 for the invalid ones, and which are valid."""
    valid = (a > 0) & (b > 0) & jnp.isfinite(a) & jnp.isfinite(b)
    return jnp.where(valid, a, 1.0), jnp.where(valid, b, 1.0), valid


@jax.custom_jvp
def _betaln(a: Array, b: Array) -> Array:
    """Log beta of floating arrays of one dtype."""
    a, b, valid = _safe_shapes(a, b)
    terms = beta_terms(a, b)
    value = a * terms.log_mode + b * terms.log_mode_rest - terms.log_peak
    return jnp.where(valid, value, jnp.nan)


@_betaln.defjvp
def _betaln_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (a, b), (a_dot, b_dot) = primals, tangents
    a_safe, b_safe, valid = _safe_shapes(a, b)
    terms = beta_terms(a_safe, b_safe)
    slope_a = jnp.where(valid, -terms.slope_a, 0.0)
    slope_b = jnp.where(valid, -terms.slope_b, 0.0)
    return _betaln(a, b), slope_a * a_dot + slope_b * b_dot


def betaln(a: ArrayLike, b: ArrayLike) -> Array:
    r"""Logarithm of the beta function, :math:`\log\Gamma(a) + \log\Gamma(b) - \log\Gamma(a+b)`.

    Written with Stirling's remainder, so the leading terms of the three log gammas, thousands when
    a shape is in the hundreds, are never formed: 32-bit results stay usable there.

    Parameters
    ----------
    a, b
        Shapes, positive and finite; broadcast against each other.

    Returns
    -------
    Array
        The log beta function; ``nan`` (and gradient 0) outside the domain. Derivatives of any order
        exist; the first is ``digamma(a) - digamma(a + b)``.

    References
    ----------
    DLMF 5.12.1 (beta function) and 5.11.1 (Stirling series), https://dlmf.nist.gov/5.11.

    Examples
    --------
    >>> round(float(betaln(2.0, 3.0)), 5)  # log(1/12)
    -2.48491
    """
    return _betaln(*promote(a, b))
