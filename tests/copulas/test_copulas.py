"""Copula families against exact derivatives of C, closed forms in many digits, and pyvinecopulib.

A new family is one row in `EXACT_CDF` (or, without a closed C, a test like that of the elliptical ones).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import pyvinecopulib as pv
import scipy.stats
from jax.test_util import check_grads
from scipy.special import expit, logit

from cascade_bayes.copulas import (
    FAMILIES,
    Copula,
    check_theta,
    get_copula,
    inverse_h_v_given_u,
    student_t,
    theta_from_tau,
)
from cascade_bayes.errors import InputError
from cascade_bayes.special import UnitPoint, unit_point

Array = Any
INF = np.inf


def _frank(u: Any, v: Any, t: Any) -> Any:
    return -mp.log1p(mp.expm1(-t * u) * mp.expm1(-t * v) / mp.expm1(-t)) / t


def _joe(u: Any, v: Any, t: Any) -> Any:
    a, b = (1 - u) ** t, (1 - v) ** t
    return 1 - (a + b - a * b) ** (1 / t)


EXACT_CDF: dict[str, Callable[..., Any]] = {
    "independence": lambda u, v, t: u * v,
    "frank": _frank,
    "clayton": lambda u, v, t: (u**-t + v**-t - 1) ** (-1 / t),
    "gumbel": lambda u, v, t: mp.exp(-(((-mp.log(u)) ** t + (-mp.log(v)) ** t) ** (1 / t))),
    "joe": _joe,
}
for _name, _C in list(EXACT_CDF.items())[2:]:
    EXACT_CDF[f"{_name}_90"] = lambda u, v, t, C=_C: v - C(1 - u, v, t)
    EXACT_CDF[f"{_name}_180"] = lambda u, v, t, C=_C: u + v - 1 + C(1 - u, 1 - v, t)
    EXACT_CDF[f"{_name}_270"] = lambda u, v, t, C=_C: u - C(u, 1 - v, t)

ELLIPTICAL = ("gaussian", "student_t_4", "student_t_2", "student_t_7.5")
ROTATED = [name for name in EXACT_CDF if name[-1] == "0"]
UPRIGHT = [name for name in FAMILIES if name not in ROTATED]

# Logs of u and of 1 - u: the corners to 1e-10, and closer to 1 than a float can say.
NEAR = (-1e-25, np.log(1e-25)), (np.log1p(-1e-10), np.log(1e-10))
SIDE = [*NEAR, *[(np.log(u), np.log1p(-u)) for u in (1e-10, 0.02, 0.3, 0.5, 0.9)]]

# Rotations come from one function: one of an asymmetric family is checked in every run.
_SLOW_ROTATED = [n for n in ROTATED if n != "clayton_90"]


def _cases(names: Iterable[str], slow: Iterable[str] = _SLOW_ROTATED) -> list[Any]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in tuple(slow) else n for n in names]


all_families = pytest.mark.parametrize(
    "name", _cases(FAMILIES, slow=("student_t_4", "clayton", "joe", *_SLOW_ROTATED))
)
upright = pytest.mark.parametrize("name", _cases(UPRIGHT, slow=("student_t_4", "clayton", "joe")))


def taus(family: Copula) -> list[float]:
    """Values of Kendall's tau that the family can represent."""
    low, high = family.tau_range
    positive = [0.05, 0.3, 0.6, 0.95] if high > 0 else []
    return [*positive, *([-t for t in (0.05, 0.6, 0.95)] if low < 0 else [])] or [0.0]


def thetas(name: str) -> Array:
    family = get_copula(name)
    return theta_from_tau(family, taus(family))


def points(values: Array) -> UnitPoint:
    values = np.asarray(values)
    return UnitPoint(jnp.asarray(values[..., 0]), jnp.asarray(values[..., 1]))


def grid(name: str) -> tuple[Array, Array, Array]:
    """Every pair of the near-corner and interior values with every theta, flat."""
    at = np.array(SIDE)
    i, j, t = np.meshgrid(range(len(at)), range(len(at)), thetas(name), indexing="ij")
    return at[i.astype(int).ravel()], at[j.astype(int).ravel()], t.ravel()


@cache
def functions(name: str) -> Callable[..., Any]:
    """Every function of a family at once, stacked.

    Rows: C, h(v|u), h(u|v), log density, 1 - h(v|u), 1 - h(u|v).
    """
    family = get_copula(name)

    def stacked(u: UnitPoint, v: UnitPoint, theta: Array) -> Array:
        first, second = family.h_v_given_u(u, v, theta), family.h_u_given_v(u, v, theta)
        parts = [
            family.cdf(u, v, theta),
            first.value,
            second.value,
            family.log_density(u, v, theta),
            first.flip().value,
            second.flip().value,
        ]
        return jnp.stack(jnp.broadcast_arrays(*parts))

    return jax.jit(stacked)


BLOCK = 512


def evaluate(name: str, u: UnitPoint, v: UnitPoint, theta: Array) -> Array:
    """Rows of `functions` at points that broadcast, through one compiled shape for all tests."""
    *logs, theta = np.broadcast_arrays(*u, *v, theta)
    flat = np.stack([x.ravel() for x in (*logs, theta)])
    missing = -flat.shape[1] % BLOCK
    flat = np.concatenate([flat, np.repeat(flat[:, :1], missing, axis=1)], axis=1)
    blocks = []
    for start in range(0, flat.shape[1], BLOCK):
        a, b, c, d, t = jnp.asarray(flat[:, start : start + BLOCK])
        blocks.append(np.asarray(functions(name)(UnitPoint(a, b), UnitPoint(c, d), t)))
    return np.concatenate(blocks, axis=1)[:, : theta.size].reshape(6, *theta.shape)


def exact_values(C: Callable[..., Any], u: Any, v: Any, t: Any) -> list[Any]:
    """C, its two derivatives, the log of the mixed one, and complements; by central differences."""
    # Steps of 1e-30 of the distance to the nearest end: a relative error of about 1e-55.
    h, k = (min(x, 1 - x) * mp.mpf(10) ** -30 for x in (u, v))
    corner = C(u + h, v + k, t) - C(u + h, v - k, t) - C(u - h, v + k, t) + C(u - h, v - k, t)
    of_u = (C(u + h, v, t) - C(u - h, v, t)) / (2 * h)
    of_v = (C(u, v + k, t) - C(u, v - k, t)) / (2 * k)
    return [C(u, v, t), of_u, of_v, mp.log(corner / (4 * h * k)), 1 - of_u, 1 - of_v]


def check_values(got: Array, wanted: list[Any], where: str, rotated: bool = False) -> None:
    """Compare one point: probabilities by ratio, C of a rotation by difference, log density by both."""
    exact = [float(w) for w in wanted]
    # An exponent of 1000 in h or C is known to 1e-13 of itself.
    loss = 1e-12 * (1 + max(-np.log(max(x, 1e-300)) for x in (exact[0], exact[1], exact[2])))
    tolerance = {"rtol": 1e-300, "atol": 2e-15} if rotated else {"rtol": loss, "atol": 1e-300}
    np.testing.assert_allclose(got[0], exact[0], err_msg="C at " + where, **tolerance)
    for row in (1, 2, 4, 5):
        np.testing.assert_allclose(got[row], exact[row], loss, 1e-300, err_msg=f"row {row} at {where}")
    np.testing.assert_allclose(got[3], exact[3], 3e-13, 2e-12, err_msg="log c at " + where)


@pytest.mark.parametrize("name", _cases(EXACT_CDF, slow=("frank", "clayton", "joe", *_SLOW_ROTATED)))
def test_values_equal_derivatives_of_the_exact_cdf(name: str) -> None:
    u, v, theta = grid(name)
    got = evaluate(name, points(u), points(v), theta)
    strong = np.abs(get_copula(name).theta_to_tau(theta)) > 0.9
    for k in range(len(theta)):
        # Densities down to 1e-950 are differences of numbers near 1.
        with mp.workdps(1150 if strong[k] else 300):
            t = mp.mpf(theta[k])
            # x = -log u is the trusted side of every point, so that is what the oracle gets.
            a, b = mp.exp(mp.mpf(u[k, 0])), mp.exp(mp.mpf(v[k, 0]))
            where = f"u={float(a)} v={float(b)} theta={float(t)}"
            check_values(got[:, k], exact_values(EXACT_CDF[name], a, b, t), where, name in ROTATED)


def _exact_elliptical(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Density, CDF and quantile start of the margin, and CDF of the conditional, in mpmath."""
    if name == "gaussian":
        return mp.npdf, mp.ncdf, mp.ncdf
    df = mp.mpf(name.removeprefix("student_t_"))

    def pdf(x: Any, n: Any = df) -> Any:
        const = mp.gamma((n + 1) / 2) / (mp.gamma(n / 2) * mp.sqrt(n * mp.pi))
        return const * (1 + x * x / n) ** (-(n + 1) / 2)

    def cdf(x: Any, n: Any = df) -> Any:
        tail = mp.betainc(n / 2, mp.mpf(1) / 2, 0, n / (n + x * x), regularized=True) / 2
        return tail if x < 0 else 1 - tail

    return pdf, cdf, lambda x: cdf(x, df + 1)


@pytest.mark.parametrize("name", _cases(ELLIPTICAL, slow=("student_t_2", "student_t_4", "student_t_7.5")))
def test_elliptical_values_equal_closed_forms(name: str) -> None:
    u, v, theta = grid(name)
    got = evaluate(name, points(u), points(v), theta)
    pdf, cdf, conditional = _exact_elliptical(name)
    df = None if name == "gaussian" else mp.mpf(name.removeprefix("student_t_"))
    with mp.workdps(60):
        quantiles = {}
        for log_u, log_1mu in SIDE:
            tail = mp.exp(min(mp.mpf(log_u), mp.mpf(log_1mu)))
            x = mp.mpf(
                scipy.stats.norm.ppf(float(tail)) if df is None else scipy.stats.t.ppf(float(tail), float(df))
            )
            for _ in range(3):  # Newton, from 12 digits or more to all
                x -= (cdf(x) - tail) / pdf(x)
            quantiles[log_u] = x if log_u < log_1mu else -x
        for k in range(len(theta)):
            x, y, rho = quantiles[u[k, 0]], quantiles[v[k, 0]], mp.mpf(theta[k])
            rest = 1 - rho**2
            form = (x * x + y * y - 2 * rho * x * y) / rest

            def h(y: Any, x: Any, rho: Any = rho, rest: Any = rest) -> Any:
                scale = 1 if df is None else mp.sqrt((df + x * x) / (df + 1))
                return conditional((y - rho * x) / (scale * mp.sqrt(rest)))

            joint = mp.exp(-form / 2) if df is None else (1 + form / df) ** (-(df + 2) / 2)
            log_c = mp.log(joint / (2 * mp.pi * mp.sqrt(rest) * pdf(x) * pdf(y)))
            wanted = [got[0, k], h(y, x), h(x, y), log_c, h(-y, -x), h(-x, -y)]
            check_values(got[:, k], wanted, f"x={float(x)} y={float(y)} rho={float(rho)}")


@pytest.mark.parametrize("name", ELLIPTICAL[:2])
def test_elliptical_cdf_equals_the_integral_of_h(name: str) -> None:
    df = 4.0
    margin = scipy.stats.norm if name == "gaussian" else scipy.stats.t(df)
    conditional = scipy.stats.norm if name == "gaussian" else scipy.stats.t(df + 1)
    # C(u, v) = E[h(v | U); U < u], by panels that are fine against the width of the conditional.
    a, b = (
        x.ravel() for x in np.meshgrid([1e-8, 0.02, 0.3, 0.5, 0.9], [1e-8, 0.1, 0.31, 0.4999, 0.7, 1 - 1e-6])
    )
    for tau in (0.05, 0.6, 0.95, -0.3, -0.95):
        rho = math.sin(math.pi * tau / 2)
        got = evaluate(name, unit_point(jnp.asarray(a)), unit_point(jnp.asarray(b)), np.array(rho))[0]
        for k in range(len(a)):
            logs, weight = panels(-45.0, float(logit(a[k])), 0.02)
            x = np.where(logs[:, 0] < -1, margin.ppf(np.exp(logs[:, 0])), margin.isf(np.exp(logs[:, 1])))
            scale = 1.0 if name == "gaussian" else np.sqrt((df + x * x) / (df + 1))
            h = conditional.cdf((margin.ppf(b[k]) - rho * x) / (scale * math.sqrt(1 - rho * rho)))
            assert float(got[k]) == pytest.approx(weight @ h, rel=1e-9, abs=1e-16), (tau, a[k], b[k])


def test_values_equal_pyvinecopulib() -> None:
    at = np.random.default_rng(0).uniform(0.001, 0.999, size=(500, 2))
    u, v = unit_point(jnp.asarray(at[:, 0])), unit_point(jnp.asarray(at[:, 1]))
    kinds = {
        name: getattr(pv.BicopFamily, name) for name in ("gaussian", "frank", "clayton", "gumbel", "joe")
    }
    kinds["student_t_4"] = pv.BicopFamily.student
    for name in FAMILIES:
        base, _, angle = name.partition("_") if name in ROTATED else (name, "", "0")
        if base not in kinds:
            continue
        for tau, theta in zip(taus(FAMILIES[name]), thetas(name), strict=True):
            if abs(tau) > 0.6:  # beyond, the peer bounds parameters or densities
                continue
            parameters = [[theta], [4.0]] if base == "student_t_4" else [[theta]]
            peer = pv.Bicop(kinds[base], int(angle), np.array(parameters))
            got = evaluate(name, u, v, theta)
            np.testing.assert_allclose(got[3], np.log(peer.pdf(at)), atol=1e-10)
            np.testing.assert_allclose(got[0], peer.cdf(at), atol=5e-8)  # the peer's own error
            np.testing.assert_allclose(got[1], peer.hfunc1(at), atol=1e-10)
            np.testing.assert_allclose(got[2], peer.hfunc2(at), atol=1e-10)
            assert peer.tau == pytest.approx(tau, abs=1e-12)


@all_families
def test_borders_are_exact(name: str) -> None:
    inner = np.array([0.3, 1e-10, 1 - 1e-10])
    middle = np.stack([np.log(inner), np.log1p(-inner)], axis=-1)[:, None, None]
    border = np.array([(-INF, 0.0), (0.0, -INF)])[:, None]  # 0 and 1
    theta = jnp.asarray(thetas(name))
    shape = (3, 2, len(theta))
    for swap in (False, True):
        sides = (points(border), points(middle)) if swap else (points(middle), points(border))
        C, h_v, h_u, log_c, rest_v, rest_u = evaluate(name, *sides, np.broadcast_to(theta, shape))
        # The h-function of the border's side, given the interior point.
        h, rest = (h_u, rest_u) if swap else (h_v, rest_v)
        np.testing.assert_array_equal(C[:, 0], 0.0)
        np.testing.assert_allclose(C[:, 1], np.broadcast_to(inner[:, None], C[:, 1].shape), rtol=2e-15)
        np.testing.assert_array_equal(h[:, 0], 0.0)
        np.testing.assert_array_equal(h[:, 1], 1.0)
        np.testing.assert_array_equal(rest[:, 0], 1.0)
        np.testing.assert_array_equal(rest[:, 1], 0.0)
        if FAMILIES[name].has_theta:
            np.testing.assert_array_equal(log_c, -INF)
    corners = evaluate(name, points(border), points(border[:, 0]), thetas(name)[0])[0]
    np.testing.assert_array_equal(corners, [[0.0, 0.0], [0.0, 1.0]])


def panels(low: float, high: float, width: float = 1.0) -> tuple[Array, Array]:
    """Gauss-Legendre nodes in the logit, as UnitPoint logs, and weights that integrate over u."""
    node, weight = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(low, high, max(1, int(np.ceil((high - low) / width))) + 1)
    half = np.diff(edges)[:, None] / 2
    s = ((edges[1:] + edges[:-1])[:, None] / 2 + half * node).ravel()
    logs = np.stack([-np.logaddexp(0, -s), -np.logaddexp(0, s)], axis=-1)
    return logs, (half * weight).ravel() * expit(s) * expit(-s)


@upright
def test_density_integrates_to_h(name: str) -> None:
    theta = thetas(name)[:, None, None]
    u = unit_point(jnp.array([0.05, 0.5, 0.95])[:, None])
    edges = np.array([-50.0, -3.0, 0.2, 2.0, 50.0])
    pieces = [panels(low, high, 0.1) for low, high in itertools.pairwise(edges)]
    v = points(np.concatenate([logs for logs, _ in pieces])[None])
    part = np.repeat(range(4), [len(weight) for _, weight in pieces])
    weight = np.concatenate([weight for _, weight in pieces])
    density = np.exp(jax.jit(get_copula(name).log_density)(u, v, theta))
    integral = np.cumsum((density * weight) @ (part[:, None] == range(4)), axis=-1)
    h = evaluate(name, u, unit_point(jnp.asarray(expit(edges[1:]))), theta)[1]
    np.testing.assert_allclose(np.broadcast_to(integral, h.shape), h, rtol=1e-8, atol=1e-12)


@all_families
def test_h_increases_from_zero_to_one(name: str) -> None:
    s = np.linspace(-60, 60, 241)
    v = points(np.stack([-np.logaddexp(0, -s), -np.logaddexp(0, s)], axis=-1))
    u = points(np.array(SIDE)[:, None, None])
    rows = evaluate(name, u, v, thetas(name)[:, None])
    # Rounding of the exponent, at most 20 * 60, may undo an increase.
    for value, sign in ((rows[1], 1), (rows[4], -1)):
        assert (sign * np.diff(value) >= -1e-13).all()
        assert ((value >= 0) & (value <= 1 + 1e-13)).all()


@upright
def test_inverse_h_round_trip(name: str) -> None:
    tail = np.array([1e-12, 1e-3, 0.2, 0.5])
    logs = np.stack([np.log(tail), np.log1p(-tail)], axis=-1)
    q = np.concatenate([logs, logs[:, ::-1]])
    family = get_copula(name)
    u = points(np.array(SIDE)[:, None, None])
    inverse = jax.jit(inverse_h_v_given_u, static_argnums=0)
    target, theta = points(q[:, None]), jnp.asarray(thetas(name))
    v = inverse(family, u, target, theta)
    assert v.log_u.shape == (len(SIDE), len(q), len(theta))
    rows = evaluate(name, u, v, theta)
    small = target.log_u < target.log_1mu
    got = np.log(np.where(small, rows[1], rows[4]))
    wanted = jnp.where(small, target.log_u, target.log_1mu)
    # Where the answer lies within 1e-300 of an end there is no float for it.
    reached = np.asarray(jnp.minimum(v.log_u, v.log_1mu) > -690)
    assert reached.mean() > 0.9
    np.testing.assert_allclose(
        *(np.broadcast_to(x, reached.shape)[reached] for x in (got, wanted)), atol=1e-10
    )


@all_families
def test_tau_to_theta_round_trip(name: str) -> None:
    family = FAMILIES[name]
    tau = np.linspace(-0.98, 0.98, 197)
    low, high = family.tau_range
    tau = tau[(tau >= low) & (tau <= high)]
    back = family.theta_to_tau(family.tau_to_theta(jnp.asarray(tau)))
    np.testing.assert_allclose(back, tau, atol=1e-13)


@all_families
def test_slope_of_tau_to_theta(name: str) -> None:
    family = FAMILIES[name]
    tau, step = jnp.asarray(taus(family)), 1e-6
    slope = jax.jit(jax.vmap(jax.grad(lambda t: family.tau_to_theta(t) + 0.0)))(tau)
    wanted = (family.tau_to_theta(tau + step) - family.tau_to_theta(tau - step)) / (2 * step)
    np.testing.assert_allclose(slope, wanted, rtol=1e-7)


@upright
def test_theta_to_tau_is_kendalls_tau(name: str) -> None:
    """tau = 4 E[C(U, V)] - 1 = 1 - 4 * the integral of h(v|u) h(u|v) over the square (Nelsen 5.1.5)."""
    logs, weight = panels(-40.0, 40.0, 0.5)
    u, v = points(logs[:, None]), points(logs[None])
    family = get_copula(name)
    product = jax.jit(lambda u, v, t: family.h_v_given_u(u, v, t).value * family.h_u_given_v(u, v, t).value)
    for theta in thetas(name)[np.abs(taus(family)) < 0.9]:
        wanted = 1 - 4 * weight @ np.asarray(product(u, v, theta)) @ weight
        assert float(family.theta_to_tau(jnp.array(theta))) == pytest.approx(wanted, abs=1e-6)


@all_families
def test_tail_dependence_is_the_limit(name: str) -> None:
    family = FAMILIES[name]
    for theta in jnp.asarray(thetas(name)):
        lower, upper = (float(x) for x in family.tail_dependence(theta))
        # 2 h(q|q) -> lambda for an exchangeable copula (its diagonal's slope); slowly for the normal.
        near = points((-300.0, -np.exp(-300.0)))
        at_zero, at_one = evaluate(name, near, near, theta), evaluate(name, near.flip(), near.flip(), theta)
        slow = 0.35 if name == "gaussian" and theta > 0.95 else 5e-3
        assert float(at_zero[1] + at_zero[2]) == pytest.approx(lower, abs=slow), theta
        assert float(at_one[4] + at_one[5]) == pytest.approx(upper, abs=slow), theta


@pytest.mark.parametrize(
    "name", _cases(FAMILIES, slow=("student_t_4", "frank", "clayton", "joe", *_SLOW_ROTATED))
)
def test_gradients_in_the_interior(name: str) -> None:
    # Not on the diagonal, where check_grads' finite steps see the curvature of the maximum.
    s = jnp.array([-4.0, -1.0, 0.3, 2.0, 5.0])
    t = jnp.array([-1.0, 0.5, 0.1, -3.0, 6.0])
    tau = jnp.array([0.25, 0.5, 0.8, 0.33, 0.6]) * (-1 if get_copula(name).tau_range[1] <= 0 else 1)
    theta = get_copula(name).tau_to_theta(tau)

    def of_logits(s: Array, t: Array, theta: Array) -> Array:
        u = UnitPoint(jax.nn.log_sigmoid(s), jax.nn.log_sigmoid(-s))
        v = UnitPoint(jax.nn.log_sigmoid(t), jax.nn.log_sigmoid(-t))
        return functions(name)(u, v, theta)

    check_grads(jax.jit(of_logits), (s, t, theta), order=1, modes=("fwd", "rev"), rtol=1e-5, atol=1e-7)


@all_families
def test_gradients_on_border_and_diagonal_are_finite(name: str) -> None:
    side = [(-INF, 0.0), (0.0, -INF), *SIDE, (-1e-300, np.log(1e-300)), (-700.0, -0.0)]
    i, j = (index.ravel() for index in np.indices((len(side), len(side))))
    at = np.array(side)

    def total(u: UnitPoint, v: UnitPoint, theta: Array) -> Array:
        value = functions(name)(u, v, theta)
        return jnp.sum(value[:3]) + jnp.sum(jnp.where(jnp.isfinite(value[3]), value[3], 0.0))

    i, j, theta = (x.ravel() for x in np.broadcast_arrays(i[:, None], j[:, None], thetas(name)))
    got = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(points(at[i]), points(at[j]), jnp.asarray(theta))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got))


@all_families
def test_single_precision_is_finite_and_close(name: str) -> None:
    s = np.linspace(-15, 15, 21)
    logs = np.stack([-np.logaddexp(0, -s), -np.logaddexp(0, s)], axis=-1)
    u, v = points(logs[:, None]), points(logs[None])
    single_u, single_v = (jax.tree.map(lambda x: x.astype(jnp.float32), p) for p in (u, v))
    theta = jnp.asarray(thetas(name)[min(1, len(thetas(name)) - 1)])
    got = functions(name)(single_u, single_v, theta.astype(jnp.float32))
    assert got.dtype == jnp.float32
    wanted = evaluate(name, u, v, theta)
    np.testing.assert_allclose(got[:3], wanted[:3], atol=2e-5)
    np.testing.assert_allclose(got[3], wanted[3], rtol=2e-3, atol=2e-3)


def test_registry() -> None:
    assert set(FAMILIES) == set(EXACT_CDF) | {"gaussian", "student_t_4"}
    assert all(get_copula(name) is family and family.name == name for name, family in FAMILIES.items())
    assert get_copula("student_t_7.5") is student_t(7.5)
    assert get_copula("student_t_7.5").name == "student_t_7.5"
    with pytest.raises(InputError, match=r"copula must be one of independence, gaussian.*; got 'plackett'"):
        get_copula("plackett")
    with pytest.raises(InputError, match=r"degrees of freedom in copula 'student_t_1' must be .* at least 2"):
        get_copula("student_t_1")


def test_theta_outside_the_domain() -> None:
    with pytest.raises(
        InputError, match=r"theta of the gumbel copula must lie in \[1, inf\); got 0.5 for pair 1"
    ):
        check_theta(get_copula("gumbel"), [1.0, 0.5])
    with pytest.raises(
        InputError, match=r"theta of the gaussian copula must lie in \(-1, 1\); got 1 for pair 0"
    ):
        check_theta(get_copula("gaussian"), 1.0)
    check_theta(get_copula("frank"), [-3.0, 3.0])


@all_families
def test_an_end_of_theta_is_independence_or_refused(name: str) -> None:
    family = FAMILIES[name]
    u, v = unit_point(jnp.array([0.2, 0.7])), unit_point(jnp.array([0.4, 0.9]))
    for end in family.theta_range:
        if name in ELLIPTICAL or np.isinf(end):
            with pytest.raises(InputError, match="must lie in"):
                check_theta(family, end)
        else:
            check_theta(family, end)
            wanted = [[0.08, 0.63], [0.4, 0.9], [0.2, 0.7], [0.0, 0.0]]
            np.testing.assert_allclose(evaluate(name, u, v, np.array(end))[:4], wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "tau", "message"),
    [
        (
            "gumbel",
            -0.2,
            r"tau of the gumbel copula must lie in \(0, 1\); got -0.2. The gumbel_90 copula can",
        ),
        ("joe_270", 0.2, r"tau of the joe_270 copula must lie in \(-1, 0\); got 0.2. The gumbel copula can"),
        ("frank", 1.5, "tau must lie strictly between -1 and 1; got 1.5"),
        ("independence", 0.1, "The gumbel copula can represent it"),
    ],
)
def test_tau_that_the_family_cannot_represent(name: str, tau: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        theta_from_tau(get_copula(name), tau)
