r"""The continued fraction of the incomplete beta function, with its derivatives in the shapes.

.. math:: f = a - \cfrac{a(a+b)x}{a+1 + \cfrac{1(b-1)x}{a+2 - \cfrac{(a+1)(a+b+1)x}{a+3+\cdots}}},
          \qquad I_x(a,b) = \frac{x^a (1-x)^b}{B(a,b)} \frac1f

(DLMF 8.17.22, cleared of denominators). It is evaluated from the bottom up: its numerators are then
polynomials in the shapes, so the three-term recurrence and its derivatives in :math:`a` and
:math:`b` (the idea of Boik and Robison-Cox) need no division but one per block of terms. A block is
unrolled, for XLA to fuse it; the loop over blocks has a traced length, set by the largest shape.

References
----------
DLMF 8.17, https://dlmf.nist.gov/8.17.
R. J. Boik and J. F. Robison-Cox, "Derivatives of the incomplete beta function", Journal of
Statistical Software 3(1), 1998.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Triple = tuple[Array, Array, Array]

_MAX_TERMS = 1024  # enough for shapes of 1e6; caps the cost when a sampler strays beyond


def _is_double(dtype: Any) -> bool:
    return jnp.finfo(dtype).bits >= 64


def _block_length(dtype: Any) -> int:
    """Return the number of terms between two divisions, which keeps their product in range."""
    return 8 if _is_double(dtype) else 4


def shape_limit(dtype: Any) -> float:
    """Shapes below which ``_block_length`` terms cannot overflow: their product is ``a**16``.

    In 32-bit arithmetic the bound is ``a**8 < 3e38``.
    """
    return 1e15 if _is_double(dtype) else 3e4


def num_blocks_for(a: Array, b: Array) -> Array:
    """Blocks of terms needed by the hardest element, a scalar.

    Fitted: the number of terms for 1e-12 (32-bit: 1e-7) in the fraction and 1e-9 (1e-5) in its
    derivatives was measured for shapes from 0.02 to 3e4 at the worst argument, the one at which the
    sides swap. The fit meets every measured need to within half a term.
    """
    root = jnp.sqrt(jnp.maximum(jnp.max(a, initial=1.0), jnp.max(b, initial=1.0)))
    if _is_double(root.dtype):
        terms = jnp.minimum(7.5 + 1.5 * root, 15.0 + root)
    else:
        terms = jnp.minimum(5.0 + 1.1 * root, 9.0 + 0.8 * root)
    terms = jnp.minimum(terms, _MAX_TERMS)
    return jnp.ceil(terms / _block_length(root.dtype)).astype(jnp.int32)


def _block(a: Array, b: Array, x: Array, frac: Array, first: Array, length: int) -> Array:
    """``length`` terms of the fraction from term ``first``, ended by ``frac``, bottom up."""
    # notation: the fraction is u2 / u3; e and g are its numerators, a + 2n and a + 2n + 1 its sums
    e_slope, bx = (2 * a + b) * x, b * x
    e_start = a * (a + b) * x
    u2, u3 = frac, jnp.ones_like(frac)
    for k in reversed(range(length)):
        n = first + k
        n_x, m_x = n * x, (n + 1) * x
        e = e_start + n * (e_slope + n_x)  # (a + n) (a + b + n) x
        g = (n + 1) * (bx - m_x)  # (n + 1) (b - n - 1) x
        u1 = (a + (2 * n + 1)) * u2 + g * u3
        u0 = (a + 2 * n) * u1 - e * u2
        u2, u3 = u0, u1
    return u2 / u3


def _block_slopes(
    a: Array, b: Array, x: Array, state: Triple, first: Array, length: int
) -> tuple[Array, Array]:
    """Differentiate ``_block`` in ``a`` and ``b``, given the derivatives of ``frac``."""
    # notation: as in _block; _a and _b mark derivatives
    e_slope, ax, bx = (2 * a + b) * x, a * x, b * x
    e_start = a * (a + b) * x
    u2, u2_a, u2_b = state
    u3 = jnp.ones_like(u2)
    u3_a = u3_b = jnp.zeros_like(u2)
    for k in reversed(range(length)):
        n = first + k
        n_x, m_x = n * x, (n + 1) * x
        e_a = e_slope + n_x
        e = e_start + n * e_a
        e_a, e_b = e_a + n_x, ax + n_x
        g = (n + 1) * (bx - m_x)  # its derivatives: 0 and m_x
        w1, w0 = a + (2 * n + 1), a + 2 * n
        u1 = w1 * u2 + g * u3
        u1_a = u2 + w1 * u2_a + g * u3_a
        u1_b = w1 * u2_b + m_x * u3 + g * u3_b
        u0 = w0 * u1 - e * u2
        u0_a = u1 + w0 * u1_a - e_a * u2 - e * u2_a
        u0_b = w0 * u1_b - e_b * u2 - e * u2_b
        u2, u3, u2_a, u3_a, u2_b, u3_b = u0, u1, u0_a, u1_a, u0_b, u1_b
    inverse = 1.0 / u3
    frac = u2 * inverse
    return (u2_a - frac * u3_a) * inverse, (u2_b - frac * u3_b) * inverse


def _start(a: Array, x: Array, num_terms: Array) -> tuple[Array, Array]:
    """Estimate the rest, ``(a + 2n) (1 + sqrt(1 - x)) / 2``, and its derivative in ``a``."""
    ratio = 0.5 + 0.5 * jnp.sqrt(jnp.maximum(1.0 - lax.stop_gradient(x), 0.0))
    return (a + 2 * num_terms.astype(a.dtype)) * ratio, ratio


def fraction(a: Array, b: Array, x: Array, num_blocks: Array) -> Array:
    """Evaluate ``f`` of the head of this module alone; arguments of one shape."""
    length = _block_length(a.dtype)

    def body(i: Array, frac: Array) -> Array:
        first = ((num_blocks - 1 - i) * length).astype(a.dtype)
        return _block(a, b, x, frac, first, length)

    return lax.fori_loop(0, num_blocks, body, _start(a, x, num_blocks * length)[0])


def _fraction_and_slopes(a: Array, b: Array, x: Array, num_blocks: Array, length: int) -> Triple:
    """Evaluate ``f`` and its derivatives in ``a`` and ``b`` from blocks of ``length`` terms."""

    def body(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        frac, slopes = state
        first = ((num_blocks - 1 - i) * length).astype(a.dtype)
        new = _block_slopes(a, b, x, (frac, slopes.real, slopes.imag), first, length)
        return _block(a, b, x, frac, first, length), lax.complex(*new)

    # The two slopes travel as one complex array: XLA's CPU compiler emits one loop per output and
    # would run the whole recurrence once for each (measured: 1.4 times the time).
    frac, slope_a = _start(a, x, num_blocks * length)
    init = (frac, lax.complex(slope_a, jnp.zeros_like(slope_a)))
    frac, slopes = lax.fori_loop(0, num_blocks, body, init)
    return frac, slopes.real, slopes.imag


@jax.custom_jvp
def fraction_jet(a: Array, b: Array, x: Array, num_blocks: Array) -> Triple:
    """``_fraction_and_slopes``, itself differentiable in both modes; ``a, b, x`` of one shape."""
    return _fraction_and_slopes(a, b, x, num_blocks, _block_length(a.dtype))


@fraction_jet.defjvp
def fraction_jet_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Triple, Triple]:
    # Unit tangents are pushed through the loop and contracted with the actual ones outside it, for
    # a loop of traced length cannot be transposed.
    a, b, x, num_blocks = primals
    a_dot, b_dot, x_dot, _ = tangents

    # One block more, for derivatives converge a little later; shorter ones, for this loop is run
    # seldom and unrolling it is what costs compile time.
    length = 2
    num_short_blocks = (num_blocks + 1) * (_block_length(a.dtype) // length)

    def jet(a: Array, b: Array, x: Array) -> Triple:
        return _fraction_and_slopes(a, b, x, num_short_blocks, length)

    def push(unit: Array) -> Triple:
        units = tuple(jnp.full_like(a, unit[k]) for k in range(3))
        return jax.jvp(jet, (a, b, x), units)[1]

    def contract(column: Array) -> Array:
        return column[0] * a_dot + column[1] * b_dot + column[2] * x_dot

    of_f, of_f_a, of_f_b = jax.vmap(push)(jnp.eye(3, dtype=a.dtype))
    return fraction_jet(*primals), (contract(of_f), contract(of_f_a), contract(of_f_b))
