"""Margins with atoms against scipy, in both tails, at the atoms, and as NumPyro distributions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.special as sp
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bayes.distributions import MarginParams, MixedMargin, mixed
from cascade_bayes.special import UnitPoint

Array = Any
INF, NAN = np.inf, np.nan

# Locations, probabilities, mixing probabilities, concentrations 1 and 0.
MARGINS: dict[str, tuple[list[float], list[float], list[float], list[float], list[float]]] = {
    "none": ([], [], [0.3, 0.7], [0.8, 6.0], [5.0, 1.5]),
    "bottom": ([-INF], [0.25], [0.3, 0.7], [0.8, 6.0], [5.0, 1.5]),
    "top": ([INF], [0.76], [0.6, 0.4], [2.0, 0.2], [2.0, 0.3]),
    "interior": ([-1.0, 2.0], [0.1, 0.3], [0.3, 0.7], [1.0, 40.0], [1.0, 20.0]),
    "all": ([-INF, 0.5, INF, NAN], [0.05, 0.2, 0.3, 0.0], [0.5, 0.5], [0.7, 3.0], [2.0, 0.9]),
}
all_margins = pytest.mark.parametrize("name", list(MARGINS))

Z = np.array([-INF, -30.0, -6.0, -1.0, -0.999, 0.0, 0.5, 1.3, 2.0, 2.001, 7.0, 30.0, INF])

point = jax.jit(mixed.point)
log_density = jax.jit(mixed.log_density)
quantile = jax.jit(mixed.quantile)
quantile_of_point = jax.jit(mixed.quantile_of_point)
cdf_slope = jax.jit(jax.grad(lambda z, params: jnp.sum(mixed.point(z, params).upper.value)))
all_functions = jax.jit(lambda m, z, q: (m.log_prob(z), m.cdf(z), m.cdf_left(z), m.icdf(q)))


def margin(name: str) -> MarginParams:
    """Parameters; atoms padded to four slots, so that all but "none" compile once."""
    locs, probs, *rest = MARGINS[name]
    empty = 4 - len(locs) if locs else 0
    fields = (locs + [NAN] * empty, probs + [0.0] * empty, *rest)
    return MarginParams(*(jnp.array(field, dtype=float) for field in fields))


def reference(name: str, z: Array, left: bool = False) -> tuple[Array, Array]:
    """Lower and upper tail, each a sum of positive terms."""
    locs, probs, weights, one, zero = (np.array(field) for field in MARGINS[name])
    z = np.asarray(z)[..., None]
    # The upper tail in 1 - x keeps its digits.
    share = 1 - probs.sum()
    lower = np.sum(weights * sp.betainc(one, zero, sp.expit(z)), -1)
    upper = np.sum(weights * sp.betainc(zero, one, sp.expit(-z)), -1)
    # scipy takes a score, and one next to 1 is rounded: use the complement of the other tail.
    positive = z[..., 0] > 0
    lower, upper = (
        share * np.where(positive, 1 - upper, lower),
        share * np.where(positive, upper, 1 - lower),
    )
    below = locs < z if left else locs <= z
    above = locs >= z if left else locs > z
    return lower + (probs * below).sum(-1), upper + (probs * above).sum(-1)


@all_margins
def test_cdf_and_left_limit_equal_scipy(name: str) -> None:
    got = point(Z, margin(name))
    for side, left in ((got.upper, False), (got.lower, True)):
        lower, upper = reference(name, Z, left)
        np.testing.assert_allclose(side.value, lower, rtol=1e-10)
        np.testing.assert_allclose(side.flip().value, upper, rtol=1e-10, atol=1e-300)
    is_atom = np.isin(Z, MARGINS[name][0])
    np.testing.assert_array_equal(got.is_atom, is_atom)
    jump = reference(name, Z)[0] - reference(name, Z, True)[0]
    np.testing.assert_allclose(np.exp(got.log_mass)[is_atom], jump[is_atom], rtol=1e-13)
    np.testing.assert_array_equal(np.asarray(got.log_mass)[~is_atom], 0.0)


@all_margins
def test_log_density_equals_scipy(name: str) -> None:
    locs, probs, weights, one, zero = (np.array(field) for field in MARGINS[name])
    s = sp.expit(Z)[:, None]
    with np.errstate(all="ignore"):
        density = scipy.stats.beta.pdf(s, one, zero) @ weights * (s * sp.expit(-Z[:, None]))[:, 0]
    wanted = np.where(np.isfinite(Z), (1 - probs.sum()) * density, 0.0)
    for loc, prob in zip(locs, probs, strict=True):
        wanted = np.where(loc == Z, prob, wanted)
    # scipy takes the score, which forgets 1 - s at z = 30.
    trusted = Z < 29
    got = np.asarray(log_density(Z, margin(name)))
    np.testing.assert_allclose(np.exp(got)[trusted], wanted[trusted], rtol=1e-11)
    assert got[-1] == (np.log(wanted[-1]) if wanted[-1] > 0 else -INF)


@pytest.mark.parametrize("name", ["none", "bottom", "interior"])
def test_far_tails_keep_relative_accuracy(name: str) -> None:
    z = np.array([30.0, 200.0])
    above = point(z, margin(name)).upper
    np.testing.assert_allclose(above.log_1mu, np.log(reference(name, z)[1]), rtol=1e-12)
    np.testing.assert_allclose(above.log_u, -reference(name, z)[1], rtol=1e-10)
    if name == "bottom":
        return  # the mass below covers the continuous tail
    below = point(-z, margin(name)).upper
    np.testing.assert_allclose(below.log_u, np.log(reference(name, -z)[0]), rtol=1e-12)
    np.testing.assert_allclose(below.log_1mu, -reference(name, -z)[0], rtol=1e-10)


def test_log_density_in_the_far_tails() -> None:
    one, zero = np.array([0.8, 6.0]), np.array([5.0, 1.5])
    log_weight = np.log([0.3, 0.7]) - sp.betaln(one, zero)
    for z in (-700.0, -200.0, 200.0, 700.0):
        wanted = sp.logsumexp(log_weight - (zero if z > 0 else one) * abs(z))
        assert float(log_density(z, margin("none"))) == pytest.approx(wanted, rel=1e-13)


@all_margins
def test_gradient_of_cdf_is_density(name: str) -> None:
    z = jnp.array([-20.0, -3.0, 0.1, 1.7, 4.0, 20.0])
    params = margin(name)
    slope = cdf_slope(z, params)
    np.testing.assert_allclose(slope, np.exp(log_density(z, params)), rtol=1e-10)


@all_margins
def test_atoms_and_continuous_part_add_to_one(name: str) -> None:
    locs, probs = (np.array(field) for field in MARGINS[name][:2])
    z = np.linspace(-400.0, 400.0, 80_001)  # the trapezoid rule is spectral for this density
    z = np.where(np.isin(z, locs), z + 1e-9, z)
    mass = 0.01 * np.exp(log_density(z, margin(name))).sum() + probs.sum()
    assert mass == pytest.approx(1.0, abs=1e-8)


@all_margins
def test_quantile_inverts_the_cdf(name: str) -> None:
    q = np.concatenate([np.linspace(0.001, 0.999, 401), [1e-12, 1 - 1e-12]])
    params = margin(name)
    z = np.asarray(quantile(q, params))
    at = point(z, params)
    upper, lower = np.asarray(at.upper.value), np.asarray(at.lower.value)
    assert (lower <= q + 1e-12).all()
    assert (upper >= q - 1e-12).all()
    plain = ~np.isin(z, MARGINS[name][0])
    np.testing.assert_allclose(upper[plain], q[plain], rtol=1e-12)
    order = np.argsort(q)
    assert (z[order][1:] >= z[order][:-1]).all()


@all_margins
def test_quantile_inside_an_atom_is_the_atom(name: str) -> None:
    params, locs = margin(name), np.array([x for x in MARGINS[name][0] if x == x])
    if not len(locs):
        return
    at = point(locs, params)
    low, high = np.asarray(at.lower.value), np.asarray(at.upper.value)
    part = np.array([1e-9, 0.3, 0.5, 1 - 1e-9])[:, None]
    levels = low + part * (high - low)
    got = quantile(np.pad(levels.ravel(), (0, 403 - levels.size), constant_values=0.5), params)
    np.testing.assert_array_equal(
        got[: levels.size].reshape(levels.shape), np.broadcast_to(locs, levels.shape)
    )
    np.testing.assert_array_equal(quantile_of_point(at.upper, params), locs)
    # The left limit is still below: the quantile there is not beyond the atom.
    inside = low > 0
    assert (np.asarray(quantile_of_point(at.lower, params))[inside] <= locs[inside]).all()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(z=st.floats(-300, 300))
def test_quantile_of_point_inverts_far_out(z: float) -> None:
    params = margin("none")
    at: UnitPoint = point(z, params).upper
    # A change of 1e-11 in z changes the log of the smaller tail by as much.
    assert float(quantile_of_point(at, params)) == pytest.approx(z, rel=1e-9, abs=1e-9)


@all_margins
def test_samples_follow_the_cdf(name: str) -> None:
    n = 20_000
    locs, probs = (np.array(field) for field in MARGINS[name][:2])
    z = np.asarray(MixedMargin(*margin(name)).sample(jax.random.key(3), (n,)))
    assert not np.isnan(z).any()
    for loc, prob in zip(locs, probs, strict=True):
        error = 4 * np.sqrt(prob * (1 - prob) / n)
        assert np.mean(z == loc) == pytest.approx(prob, abs=error)
    continuous = z[~np.isin(z, locs)]
    weights, one, zero = (np.array(field) for field in MARGINS[name][2:])

    def cdf(z: Array) -> Array:
        return sp.betainc(one, zero, sp.expit(z)[:, None]) @ weights

    assert scipy.stats.kstest(continuous, cdf).pvalue > 1e-3


@all_margins
def test_numpyro_distribution(name: str) -> None:
    numpyro_margin = MixedMargin(*margin(name), validate_args=True)
    key = jax.random.key(0)
    assert numpyro_margin.sample(key).shape == ()
    assert numpyro_margin.sample(key, (3, 2)).shape == (3, 2)
    assert (numpyro_margin.batch_shape, numpyro_margin.event_shape) == ((), ())
    z = jnp.asarray(Z)
    q = jnp.linspace(0.01, 0.99, 403)
    compiled = all_functions(numpyro_margin, z, q)
    np.testing.assert_allclose(compiled[0], log_density(z, margin(name)), rtol=1e-13)
    np.testing.assert_allclose(compiled[1], reference(name, Z)[0], rtol=1e-10)
    np.testing.assert_allclose(compiled[2], reference(name, Z, True)[0], rtol=1e-10)
    np.testing.assert_allclose(compiled[3], quantile(q, margin(name)), rtol=1e-12)


def test_compiled_log_prob_equals_eager() -> None:
    numpyro_margin = MixedMargin(*margin("all"))
    z = jnp.asarray(Z)
    value = numpyro_margin.log_prob(z.reshape(1, -1))
    assert value.shape == (1, len(Z))
    np.testing.assert_allclose(value[0], log_density(z, margin("all")), rtol=1e-13)


def test_numpyro_site_and_vmap_over_parameters() -> None:
    def model() -> None:
        with numpyro.plate("queries", 4):
            numpyro.sample("z", MixedMargin(*margin("all")))

    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()
    assert trace["z"]["value"].shape == (4,)

    second = margin("all")._replace(atom_probs=jnp.array([0.3, 0.1, 0.2, 0.0]))
    both = jax.tree.map(lambda *fields: jnp.stack(fields), margin("all"), second)
    z = jnp.asarray(Z)
    got = jax.vmap(lambda params: MixedMargin(*params).log_prob(z))(both)
    for row, params in zip(got, (margin("all"), second), strict=True):
        np.testing.assert_allclose(row, log_density(z, params), rtol=1e-13)
    # The same from leading axes that broadcast, as the likelihood of a cascade does it.
    broadcast = jax.tree.map(lambda field: field[:, None], both)
    np.testing.assert_allclose(log_density(jnp.stack([z, z]), broadcast), got, rtol=1e-13)


def values(params: MarginParams, z: Array) -> list[Array]:
    at = mixed.point(z, params)
    return [
        mixed.log_density(z, params),
        *(at.upper.log_u, at.upper.log_1mu, at.lower.log_u, at.lower.log_1mu),
        *(at.upper.value, at.lower.flip().value, at.log_mass),
    ]


def total(params: MarginParams, z: Array) -> Array:
    return sum(jnp.sum(jnp.where(jnp.isfinite(v), v, 0.0)) for v in values(params, z))


total_gradient = jax.jit(jax.grad(total, argnums=(0, 1)))


@all_margins
def test_gradients_are_finite_everywhere(name: str) -> None:
    locs = [x for x in MARGINS[name][0] if np.isfinite(x)]
    z = jnp.array([-INF, -700.0, -40.0, 0.3, 40.0, 700.0, INF, *locs, 1.0, 2.0][:9])

    gradient = total_gradient(margin(name), z)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()


def along(step: Array, params: MarginParams, move: MarginParams, z: Array) -> Array:
    moved = jax.tree.map(lambda field, by: field + step * by, params, move)
    at = mixed.point(z, moved)
    parts = (mixed.log_density(z, moved), *at.upper, *at.lower, at.log_mass)
    return jnp.stack([jnp.where(jnp.isfinite(part), part, 0.0) for part in parts])


along_value, along_forward, along_reverse = (
    jax.jit(f) for f in (along, jax.jacfwd(along), jax.jacrev(along))
)


@all_margins
def test_forward_and_reverse_slopes_equal_differences(name: str) -> None:
    """Along a direction of all parameters, atom locations apart, at atoms and between them."""
    z = jnp.array([-INF, -3.0, 0.5, 2.0, INF, 5.0])
    params = margin(name)
    real = ~jnp.isnan(params.atom_locs)
    move = params._replace(
        atom_locs=jnp.zeros_like(params.atom_locs),
        atom_probs=jnp.where(real, 0.3, 0.0),
        mixing_probs=jnp.array([0.5, -0.5]),
        concentration1=jnp.array([1.0, -0.7]),
        concentration0=jnp.array([-0.4, 1.0]),
    )

    forward = along_forward(0.0, params, move, z)
    reverse = along_reverse(0.0, params, move, z)
    step = 1e-5
    value = [along_value(by, params, move, z) for by in (-step, step)]
    difference = (value[1] - value[0]) / (2 * step)
    np.testing.assert_allclose(forward, difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-12)


def test_margin_of_atoms_alone() -> None:
    """No continuous part: a confidence that takes a few values only."""
    params = MarginParams(
        jnp.array([-1.0, 0.0, INF, NAN]),
        jnp.array([0.25, 0.25, 0.5, 0.0]),
        *(jnp.full(2, 0.5), jnp.ones(2), jnp.ones(2)),
    )
    z = jnp.array([-2.0, -1.0, 0.0, INF])
    np.testing.assert_allclose(point(z, params).upper.value, [0.0, 0.25, 0.5, 1.0], rtol=1e-15)
    np.testing.assert_allclose(np.exp(log_density(z, params)), [0.0, 0.25, 0.25, 0.5], rtol=1e-15)
    np.testing.assert_array_equal(quantile(jnp.array([0.2, 0.3, 0.7]), params), [-1.0, 0.0, INF])

    def at_atoms(probs: Array) -> Array:
        with_probs = params._replace(atom_probs=probs)
        return jnp.sum(mixed.log_density(z[1:], with_probs))

    slope = jax.jit(jax.grad(at_atoms))(params.atom_probs)
    np.testing.assert_allclose(slope[:3], [4.0, 4.0, 2.0], rtol=1e-14)
    gradient = total_gradient(params, jnp.concatenate([z, z, jnp.ones(1)]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
