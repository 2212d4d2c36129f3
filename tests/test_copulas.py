"""Copula families against derivatives of C in 700 digits; pairs with atoms against total mass.

A new family is one row in `EXACT_CDF` and in `THETAS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.special import expit, logit

from cascade_bayes.copulas import (
    FAMILIES,
    Copula,
    MarginPoint,
    UnitPoint,
    get_copula,
    inverse_h_v_given_u,
    log_copula_ratio,
    rectangle,
    unit_point,
    unit_point_from_logs,
)
from cascade_bayes.errors import InputError

Array = Any
INF = np.inf

EXACT_CDF: dict[str, Callable[..., Any]] = {
    "gumbel": lambda u, v, t: mp.exp(-(((-mp.log(u)) ** t + (-mp.log(v)) ** t) ** (1 / t))),
    "independence": lambda u, v, t: u * v,
}
THETAS = {"gumbel": (1.0, 1.2, 2.5, 8.0, 20.0), "independence": (0.0,)}

# Logs of u and of 1 - u: the corners to 1e-10, and closer to 1 than a float can say.
NEAR = (-1e-25, np.log(1e-25)), (np.log1p(-1e-10), np.log(1e-10))
SIDE = [*NEAR, *[(np.log(u), np.log1p(-u)) for u in (1e-10, 0.02, 0.3, 0.5, 0.9)]]

all_families = pytest.mark.parametrize("name", list(FAMILIES))
with_theta = pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.has_theta])


def points(values: Array) -> UnitPoint:
    values = np.asarray(values)
    return UnitPoint(jnp.asarray(values[..., 0]), jnp.asarray(values[..., 1]))


def grid(name: str) -> tuple[Array, Array, Array]:
    """Every pair of the near-corner and interior values with every theta, flat."""
    at = np.array(SIDE)
    i, j, t = np.meshgrid(range(len(at)), range(len(at)), THETAS[name], indexing="ij")
    return at[i.astype(int).ravel()], at[j.astype(int).ravel()], t.ravel()


@cache
def functions(name: str) -> Callable[..., Any]:
    """Every function of a family at once, stacked, compiled once for each shape."""
    family = FAMILIES[name]

    def stacked(u: UnitPoint, v: UnitPoint, theta: Array) -> Array:
        parts = (family.cdf, family.h_v_given_u, family.h_u_given_v, family.log_density)
        return jnp.stack([part(u, v, theta) for part in parts])

    return jax.jit(stacked)


def test_registry() -> None:
    assert set(FAMILIES) == set(EXACT_CDF) == set(THETAS)
    assert all(get_copula(name) is FAMILIES[name] and FAMILIES[name].name == name for name in THETAS)
    with pytest.raises(InputError, match="copula must be one of gumbel, independence; got 'frank'"):
        get_copula("frank")


def exact_values(C: Callable[..., Any], u: Any, v: Any, t: Any) -> list[Any]:
    """C, its two derivatives and the mixed one, by central differences."""
    # Steps of 1e-30 of the distance to the nearest end: a relative error of about 1e-55.
    h, k = (min(x, 1 - x) * mp.mpf(10) ** -30 for x in (u, v))
    corner = C(u + h, v + k, t) - C(u + h, v - k, t) - C(u - h, v + k, t) + C(u - h, v - k, t)
    return [
        C(u, v, t),
        (C(u + h, v, t) - C(u - h, v, t)) / (2 * h),
        (C(u, v + k, t) - C(u, v - k, t)) / (2 * k),
        corner / (4 * h * k),
    ]


@all_families
def test_values_equal_derivatives_of_the_exact_cdf(name: str) -> None:
    u, v, theta = grid(name)
    got = np.asarray(functions(name)(points(u), points(v), theta))
    # Densities down to 1e-510 are differences of numbers near 1.
    with mp.workdps(700):
        for k in range(len(theta)):
            t = mp.mpf(theta[k])
            # x = -log u is the trusted side of every point, so that is what the oracle gets.
            a, b = mp.exp(mp.mpf(u[k, 0])), mp.exp(mp.mpf(v[k, 0]))

            wanted = exact_values(EXACT_CDF[name], a, b, t)
            where = f"u={a} v={b} theta={t}"[:200]
            # Exponents reach 19 * 60, so that rounding of logs grows to about 1e-13.
            np.testing.assert_allclose(got[:3, k], [float(w) for w in wanted[:3]], 1e-12, 0, err_msg=where)
            np.testing.assert_allclose(got[3, k], float(mp.log(wanted[3])), 1e-13, 1e-12, err_msg=where)


@all_families
@pytest.mark.parametrize("inner", [0.3, 1e-10, 1 - 1e-10])
def test_borders_are_exact(name: str, inner: float) -> None:
    u, theta = unit_point(jnp.array(inner)), jnp.array(THETAS[name])
    zero, one = points((-INF, 0.0)), points((0.0, -INF))
    value = functions(name)
    for swap in (False, True):

        def at(side: UnitPoint, swap: bool = swap) -> Array:
            return np.asarray(value(side, u, theta) if swap else value(u, side, theta))

        given = 2 if swap else 1  # the h-function conditioned on the interior point
        np.testing.assert_array_equal(at(zero)[0], 0.0)
        np.testing.assert_allclose(at(one)[0], inner, rtol=2e-15)
        np.testing.assert_array_equal(at(zero)[given], 0.0)
        np.testing.assert_array_equal(at(one)[given], 1.0)
    for a, b, wanted in ((zero, zero, 0.0), (zero, one, 0.0), (one, zero, 0.0), (one, one, 1.0)):
        np.testing.assert_array_equal(value(a, b, theta)[0], wanted)


def test_gumbel_density_on_the_border_is_minus_infinity() -> None:
    border = points([(-INF, 0.0), (0.0, -INF)])
    got = functions("gumbel")(border, unit_point(jnp.full(2, 0.4)), jnp.full(2, 2.0))[3]
    np.testing.assert_array_equal(got, -INF)


def panels(low: float, high: float, width: float = 1.0) -> tuple[Array, Array]:
    """Gauss-Legendre nodes in the logit, as UnitPoint logs, and weights that integrate over u."""
    node, weight = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(low, high, max(1, int(np.ceil((high - low) / width))) + 1)
    half = np.diff(edges)[:, None] / 2
    s = ((edges[1:] + edges[:-1])[:, None] / 2 + half * node).ravel()
    logs = np.stack([-np.logaddexp(0, -s), -np.logaddexp(0, s)], axis=-1)
    return logs, (half * weight).ravel() * expit(s) * expit(-s)


@all_families
def test_density_integrates_to_h(name: str) -> None:
    theta = np.array(THETAS[name])[:, None, None]
    u = unit_point(jnp.array([0.05, 0.5, 0.95])[:, None])
    edges = np.array([-50.0, -3.0, 0.2, 2.0, 50.0])
    pieces = [panels(low, high, 0.1) for low, high in itertools.pairwise(edges)]
    v = points(np.concatenate([logs for logs, _ in pieces])[None])
    part = np.repeat(range(4), [len(weight) for _, weight in pieces])
    weight = np.concatenate([weight for _, weight in pieces])
    density = np.exp(functions(name)(u, v, theta)[3])
    integral = np.cumsum((density * weight) @ (part[:, None] == range(4)), axis=-1)
    h = functions(name)(u, unit_point(jnp.asarray(expit(edges[1:]))), theta)[1]
    np.testing.assert_allclose(integral, h, rtol=1e-9, atol=1e-13)


@all_families
def test_h_increases_from_zero_to_one(name: str) -> None:
    s = np.linspace(-60, 60, 2001)
    v = points(np.stack([-np.logaddexp(0, -s), -np.logaddexp(0, s)], axis=-1))
    for logs in SIDE:
        u = points(np.broadcast_to(logs, (1, 2)))
        h = np.asarray(functions(name)(u, v, np.array(THETAS[name])[:, None])[1])
        # Rounding of the exponent, at most 20 * 60, may undo an increase.
        assert (np.diff(h) >= -1e-13).all()
        assert ((h >= 0) & (h <= 1 + 1e-13)).all()


@all_families
def test_inverse_h_round_trip(name: str) -> None:
    probability = np.array([1e-12, 1e-3, 0.2, 0.5, 0.9, 1 - 1e-6])
    u, q, theta = np.meshgrid(np.arange(len(SIDE)), probability, THETAS[name], indexing="ij")
    u = points(np.array(SIDE)[u.astype(int)])
    inverse = jax.jit(inverse_h_v_given_u, static_argnums=0)
    v = inverse(FAMILIES[name], u, q, theta)
    assert v.log_u.shape == q.shape
    back = FAMILIES[name].h_v_given_u(u, v, theta)
    np.testing.assert_allclose(back, q, rtol=1e-11)


@with_theta
@settings(deadline=None, derandomize=True)
@given(tau=st.floats(0.0, 0.98))
def test_tau_to_theta_round_trip(name: str, tau: float) -> None:
    family = FAMILIES[name]
    assert float(family.theta_to_tau(family.tau_to_theta(tau))) == pytest.approx(tau, abs=1e-14)


def test_independence_has_tau_zero() -> None:
    family = FAMILIES["independence"]
    np.testing.assert_array_equal(family.theta_to_tau(jnp.array([0.0, 3.0])), [0.0, 0.0])
    assert family.tau_to_theta(jnp.array([0.2])).shape == (1,)


@all_families
def test_kendall_tau_of_samples(name: str) -> None:
    family, n = FAMILIES[name], 10_000
    key_u, key_q = jax.random.split(jax.random.key(1))
    u = jax.random.uniform(key_u, (n,))
    q = jax.random.uniform(key_q, (n,))
    inverse = jax.jit(inverse_h_v_given_u, static_argnums=0)
    for theta in THETAS[name]:
        v = inverse(family, unit_point(u), q, jnp.full(n, theta))
        tau = float(family.theta_to_tau(jnp.array(theta)))
        # The variance of the sample tau is at most 2 (1 - tau**2) / n.
        bound = 4 * np.sqrt(2 * (1 - tau**2) / n)
        assert scipy.stats.kendalltau(u, v.value).statistic == pytest.approx(tau, abs=bound)
        assert scipy.stats.kstest(v.value, "uniform").pvalue > 1e-3


@all_families
def test_gradients_in_the_interior(name: str) -> None:
    # Not on the diagonal, where check_grads' finite steps see the curvature of the maximum.
    s = jnp.array([-4.0, -1.0, 0.3, 2.0, 5.0])
    t = jnp.array([-1.0, 0.5, 0.1, -3.0, 6.0])
    theta = jnp.array([1.3, 2.0, 5.0, 1.5, 9.0])

    def of_logits(s: Array, t: Array, theta: Array) -> Array:
        u = UnitPoint(jax.nn.log_sigmoid(s), jax.nn.log_sigmoid(-s))
        v = UnitPoint(jax.nn.log_sigmoid(t), jax.nn.log_sigmoid(-t))
        return functions(name)(u, v, theta)

    check_grads(jax.jit(of_logits), (s, t, theta), order=1, modes=("fwd", "rev"), rtol=1e-6)


@all_families
def test_gradients_on_border_and_diagonal_are_finite(name: str) -> None:
    side = [(-INF, 0.0), (0.0, -INF), *SIDE, (-1e-300, np.log(1e-300)), (-700.0, -0.0)]
    i, j = (index.ravel() for index in np.indices((len(side), len(side))))
    at = np.array(side)

    def total(u: UnitPoint, v: UnitPoint, theta: Array) -> Array:
        value = functions(name)(u, v, theta)
        return jnp.sum(value[:3]) + jnp.sum(jnp.where(jnp.isfinite(value[3]), value[3], 0.0))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    for theta in THETAS[name]:
        got = gradient(points(at[i]), points(at[j]), jnp.full(i.shape, theta))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got)), theta


def test_unit_point_keeps_both_ends() -> None:
    point = unit_point_from_logs(jnp.array([-1e-17, -40.0, 0.0, -INF]), jnp.array([-39.0, 0.0, -INF, 0.0]))
    # The smaller side is kept, the larger one recomputed from it.
    np.testing.assert_allclose(point.log_u, [-np.exp(-39.0), -40.0, 0.0, -INF], rtol=1e-15)
    np.testing.assert_allclose(point.log_1mu, [-39.0, -np.exp(-40.0), -INF, 0.0], rtol=1e-15)
    flipped = point.flip()
    np.testing.assert_array_equal(flipped.log_u, point.log_1mu)
    half = unit_point_from_logs(jnp.log(0.5), jnp.log(0.5))
    assert (float(half.value), float(half.flip().value)) == pytest.approx((0.5, 0.5), rel=1e-15)


# ---------------------------------------------------------------------------------------------
# Pairs with atoms. A margin is a list of stretches of [0, 1] that are atoms; elsewhere it is
# continuous and its density on this scale is 1, so that the ratio is the joint density itself.

Stretches = list[tuple[float, float]]
ATOMS: dict[str, tuple[Stretches, Stretches]] = {
    "none": ([], []),
    "left": ([(0.0, 0.2), (0.45, 0.6), (0.7, 1.0)], []),
    "right": ([], [(0.0, 1e-3), (0.8, 1.0)]),
    "both": ([(0.0, 0.1), (0.35, 0.5)], [(0.3, 0.4), (0.4, 0.55), (0.9, 1.0)]),
    "everything": ([(0.0, 0.3), (0.3, 1.0)], [(0.0, 0.5), (0.5, 1.0)]),
}
all_atoms = pytest.mark.parametrize("which", list(ATOMS))

ratio = jax.jit(log_copula_ratio, static_argnums=(0, 4))


def margin_nodes(stretches: Stretches, width: float = 1.0) -> tuple[MarginPoint, Array]:
    """Atoms and quadrature nodes of one margin, one list; and their masses or weights."""
    edges = [0.0, *[end for stretch in stretches for end in stretch], 1.0]
    upper, lower, is_atom, weights = [], [], [], []
    for low, high in zip(edges[0::2], edges[1::2], strict=True):
        if high > low:
            s = (logit(low) if low > 0 else -45.0, logit(high) if high < 1 else 45.0)
            logs, weight = panels(*s, width)
            upper.append(logs)
            lower.append(logs)
            is_atom.append(np.zeros(len(logs), dtype=bool))
            weights.append(weight)
    with np.errstate(divide="ignore"):
        for low, high in stretches:
            upper.append([[np.log(high), np.log1p(-high)]])
            lower.append([[np.log(low), np.log1p(-low)]])
            is_atom.append(np.ones(1, dtype=bool))
            weights.append(np.array([high - low]))
    weight, atom = np.concatenate(weights), np.concatenate(is_atom)
    log_mass = jnp.asarray(np.log(np.where(atom, weight, 1.0)))
    point = MarginPoint(
        points(np.concatenate(upper)), points(np.concatenate(lower)), jnp.asarray(atom), log_mass
    )
    return point, weight


def outer(left: MarginPoint, right: MarginPoint) -> tuple[MarginPoint, MarginPoint]:
    shape = (left.is_atom.shape[0], right.is_atom.shape[0])
    rows = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], shape), left)
    columns = jax.tree.map(lambda x: jnp.broadcast_to(x[None, :], shape), right)
    return rows, columns


@all_families
@all_atoms
def test_pair_has_total_mass_one_and_uniform_conditionals(name: str, which: str) -> None:
    (left, wl), (right, wr) = (margin_nodes(side) for side in ATOMS[which])
    rows, columns = outer(left, right)
    for theta in THETAS[name][:3]:
        joint = np.exp(ratio(FAMILIES[name], rows, columns, theta))
        assert wl @ joint @ wr == pytest.approx(1.0, abs=2e-8)
        # Given any one value of either side, atom or not, the other side has mass one. Nodes
        # beyond 1e-7 of the ends need finer panels than these.
        for mass, side in ((joint @ wr, left), (wl @ joint, right)):
            inner = np.asarray(side.is_atom | (jnp.minimum(side.upper.log_u, side.upper.log_1mu) > -16))
            np.testing.assert_allclose(mass[inner], 1.0, atol=1e-6)


@all_families
@all_atoms
def test_pair_equals_small_rectangles(name: str, which: str) -> None:
    """Every value, atom or not, is a cell of [0, 1]; the ratio is the mass of C per area."""
    sides = []
    for stretches in ATOMS[which]:
        inside = [u for u in (0.07, 0.22, 0.65) if not any(a <= u <= b for a, b in stretches)]
        sides.append([*stretches, *[(u, u) for u in inside]])
    cells = [(a, b) for a in sides[0] for b in sides[1]]

    def side(k: int) -> MarginPoint:
        with np.errstate(divide="ignore"):
            ends = np.array([cell[k] for cell in cells])
            logs = np.stack([np.log(ends), np.log1p(-ends)], axis=-1)
        atom = ends[:, 0] < ends[:, 1]
        log_mass = np.log(np.where(atom, ends[:, 1] - ends[:, 0], 1.0))
        return MarginPoint(points(logs[:, 1]), points(logs[:, 0]), jnp.asarray(atom), jnp.asarray(log_mass))

    left, right = side(0), side(1)
    exact_cdf = EXACT_CDF[name]

    def C(u: Any, v: Any, theta: Any) -> Any:  # noqa: N802
        return exact_cdf(u, v, theta) if u > 0 and v > 0 else mp.mpf(0)

    with mp.workdps(60):
        width = mp.mpf(10) ** -10
        for theta in THETAS[name][:4]:
            got = np.asarray(ratio(FAMILIES[name], left, right, theta))
            for k, cell in enumerate(cells):
                (a, b), (c, d) = (
                    (mp.mpf(x) - width, mp.mpf(x) + width) if x == y else (mp.mpf(x), mp.mpf(y))
                    for x, y in cell
                )
                t = mp.mpf(theta)
                mass = C(b, d, t) - C(a, d, t) - C(b, c, t) + C(a, c, t)
                wanted = float(mp.log(mass / ((b - a) * (d - c))))
                # A mass m is a difference of numbers near 1: its relative error is 1e-16 / m.
                loss = float(1e-15 / mass) if max(b - a, d - c) > 2 * width else 0.0
                loss = min(loss, float(1e-15 / mp.exp(wanted)) * 1e3) if loss else 0.0
                assert got[k] == pytest.approx(wanted, rel=1e-9, abs=1e-9 + loss), (cell, theta)


@all_families
def test_atom_flags_agree_where_cases_cannot_occur(name: str) -> None:
    for which, allowed in {
        "none": [(False, False), (True, False), (False, True)],
        "left": [(True, False)],
        "right": [(False, True)],
    }.items():
        left, right = outer(*(margin_nodes(side, 9.0)[0] for side in ATOMS[which]))
        full = np.asarray(ratio(FAMILIES[name], left, right, 2.5, (True, True)))
        for flags in allowed:
            np.testing.assert_array_equal(ratio(FAMILIES[name], left, right, 2.5, flags), full)


@all_atoms
def test_independent_pair_has_ratio_one(which: str) -> None:
    left, right = outer(*(margin_nodes(side, 9.0)[0] for side in ATOMS[which]))
    for family, theta in ((FAMILIES["independence"], 0.0), (FAMILIES["gumbel"], 1.0)):
        # A stretch of 1e-3 next to a node loses three digits.
        np.testing.assert_allclose(ratio(family, left, right, theta), 0.0, atol=1e-11)


def test_rectangles_tile_the_square() -> None:
    family: Copula = FAMILIES["gumbel"]
    edges = np.array([0.0, 1e-12, 0.1, 0.4, 0.8, 1 - 1e-12, 1.0])
    low, high = unit_point(jnp.asarray(edges[:-1])), unit_point(jnp.asarray(edges[1:]))

    def row(point: UnitPoint) -> UnitPoint:
        return UnitPoint(point.log_u[:, None], point.log_1mu[:, None])

    mass = np.asarray(rectangle(family, row(low), row(high), low, high, jnp.array(3.0)))
    assert mass.shape == (6, 6)
    assert (mass >= -1e-15).all()
    np.testing.assert_allclose(mass.sum(0), np.diff(edges), atol=1e-15)
    np.testing.assert_allclose(mass.sum(1), np.diff(edges), atol=1e-15)


@pytest.mark.parametrize("which", ["none", "both"])
def test_pair_gradients_are_finite_and_right(which: str) -> None:
    left, right = outer(*(margin_nodes(side, 9.0)[0] for side in ATOMS[which]))
    gumbel = FAMILIES["gumbel"]

    def total(left: MarginPoint, right: MarginPoint, theta: Array) -> Array:
        return jnp.sum(log_copula_ratio(gumbel, left, right, theta))

    def of_logs(lefts: Array, rights: Array, theta: Array) -> Array:
        return total(
            left._replace(upper=lefts[0], lower=lefts[1], log_mass=lefts[2]),
            right._replace(upper=rights[0], lower=rights[1], log_mass=rights[2]),
            theta,
        )

    ends = [(side.upper, side.lower, side.log_mass) for side in (left, right)]
    gradient = jax.jit(jax.grad(of_logs, argnums=(0, 1, 2)))(*ends, jnp.array(1.7))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    low, high = (np.asarray(ratio(gumbel, left, right, 1.7 + e)) for e in (-1e-6, 1e-6))
    # Per value, away from the tails: sums over 1e-15 masses would hide an error.
    good = np.isfinite(low) & (np.abs(low) < 15)
    wanted = ((high - low) / 2e-6)[good]
    per_value = jax.jit(jax.jvp, static_argnums=0)(
        lambda theta: log_copula_ratio(gumbel, left, right, theta), (1.7,), (1.0,)
    )[1]
    np.testing.assert_allclose(np.asarray(per_value)[good], wanted, rtol=1e-4, atol=1e-4)
