"""Pairs with atoms against total mass one and against small rectangles of an exact C.

A margin is a list of stretches of [0, 1] that are atoms; elsewhere it is continuous and its density on
this scale is 1, so that the ratio is the joint density itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.special import logit
from test_copulas import EXACT_CDF, panels, points, thetas

from cascade_bayes.copulas import FAMILIES, Copula, log_copula_ratio, rectangle
from cascade_bayes.distributions import MarginPoint
from cascade_bayes.special import UnitPoint, unit_point

Array = Any

Stretches = list[tuple[float, float]]
ATOMS: dict[str, tuple[Stretches, Stretches]] = {
    "none": ([], []),
    "left": ([(0.0, 0.2), (0.45, 0.6), (0.7, 1.0)], []),
    "right": ([], [(0.0, 1e-3), (0.8, 1.0)]),
    "both": ([(0.0, 0.1), (0.35, 0.5)], [(0.3, 0.4), (0.4, 0.55), (0.9, 1.0)]),
    "everything": ([(0.0, 0.3), (0.3, 1.0)], [(0.0, 0.5), (0.5, 1.0)]),
}
all_atoms = pytest.mark.parametrize("which", list(ATOMS))

# The one case of "both" holds all four kinds of pair; the others are layouts, tried with one family.
FAMILIES_AND_ATOMS = [
    *[
        (name, "both")
        for name in ("independence", "gaussian", "student_t_4", "frank", "clayton_90", "joe_180")
    ],
    *[("gumbel", which) for which in ATOMS],
]
_SLOW = (("student_t_4", "both"), ("gumbel", "everything"))
cases = pytest.mark.parametrize(
    ("name", "which"),
    [pytest.param(*case, marks=pytest.mark.slow if case in _SLOW else ()) for case in FAMILIES_AND_ATOMS],
)

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


@cases
def test_pair_has_total_mass_one_and_uniform_conditionals(name: str, which: str) -> None:
    (left, wl), (right, wr) = (margin_nodes(side) for side in ATOMS[which])
    rows, columns = outer(left, right)
    for theta in thetas(name)[:2]:
        joint = np.exp(ratio(FAMILIES[name], rows, columns, theta))
        assert wl @ joint @ wr == pytest.approx(1.0, abs=2e-8)
        # Given any one value of either side, atom or not, the other side has mass one. Nodes
        # beyond 1e-7 of the ends need finer panels than these.
        for mass, side in ((joint @ wr, left), (wl @ joint, right)):
            inner = np.asarray(side.is_atom | (jnp.minimum(side.upper.log_u, side.upper.log_1mu) > -16))
            np.testing.assert_allclose(mass[inner], 1.0, atol=1e-6)


@pytest.mark.parametrize(("name", "which"), [c for c in FAMILIES_AND_ATOMS if c[0] in EXACT_CDF])
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
        for theta in thetas(name)[:2]:
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


def test_cases_that_cannot_occur_change_nothing() -> None:
    name = "gumbel"
    for which, allowed in {
        "none": [("continuous", "continuous"), ("mixed", "continuous"), ("continuous", "mixed")],
        "left": [("mixed", "continuous")],
        "right": [("continuous", "mixed")],
    }.items():
        left, right = outer(*(margin_nodes(side, 9.0)[0] for side in ATOMS[which]))
        full = np.asarray(ratio(FAMILIES[name], left, right, 2.5))
        for kinds in allowed:
            got = ratio(FAMILIES[name], left, right, 2.5, kinds)
            np.testing.assert_allclose(got, full, rtol=1e-14, atol=1e-14)


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


@pytest.mark.parametrize("which", [pytest.param("none", marks=pytest.mark.slow), "both"])
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
