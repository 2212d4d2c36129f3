"""Margins with atoms against scipy and mpmath, in both tails, at the atoms, and as NumPyro distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro
import pytest
import scipy.special as sp
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from cascade_bayes.distributions import BetaMixture, LogitNormalMixture, MarginParams, MixedMargin, mixed
from cascade_bayes.model.margins import MARGINS
from cascade_bayes.model.names import DEFAULT_MARGIN
from cascade_bayes.special import UnitPoint, unit_point_from_logit

Array = Any
INF, NAN = np.inf, np.nan

# Locations and probabilities of the atoms.
ATOMS: dict[str, tuple[list[float], list[float]]] = {
    "none": ([], []),
    "bottom": ([-INF], [0.25]),
    "top": ([INF], [0.76]),
    "interior": ([-1.0, 2.0], [0.1, 0.3]),
    "all": ([-INF, 0.5, INF, NAN], [0.05, 0.2, 0.3, 0.0]),
}


class Exact(NamedTuple):
    """A family as scipy and mpmath have it; one row a family, which every test of the contract runs over.

    ``fields`` are the parameters for each of the sets of atoms. The functions take ``z`` and the parameters
    of one component or, broadcast, of all; ``mp_tails`` returns the lower and the upper tail to 40 digits.
    """

    part: type
    fields: dict[str, tuple[list[float], list[float], list[float]]]
    tails: Callable[[Array, Array, Array], tuple[Array, Array]]
    log_density: Callable[[Array, Array, Array], Array]
    mp_tails: Callable[[Any, Any, Any], tuple[Any, Any]]


def beta_tails(z: Array, one: Array, zero: Array) -> tuple[Array, Array]:
    # scipy takes a score, and one next to 1 is rounded: use the complement of the other tail.
    lower = sp.betainc(one, zero, sp.expit(z))
    upper = sp.betainc(zero, one, sp.expit(-z))
    return np.where(z > 0, 1 - upper, lower), np.where(z > 0, upper, 1 - lower)


def beta_log_density(z: Array, one: Array, zero: Array) -> Array:
    return -one * np.logaddexp(0, -z) - zero * np.logaddexp(0, z) - sp.betaln(one, zero)


def beta_mp_tails(z: Any, one: Any, zero: Any) -> tuple[Any, Any]:
    lower = mp.betainc(one, zero, 0, 1 / (1 + mp.exp(-z)), regularized=True)
    return lower, mp.betainc(zero, one, 0, 1 / (1 + mp.exp(z)), regularized=True)


def normal_tails(z: Array, loc: Array, scale: Array) -> tuple[Array, Array]:
    return sp.ndtr((z - loc) / scale), sp.ndtr((loc - z) / scale)


FAMILIES: dict[str, Exact] = {
    "beta": Exact(
        BetaMixture,
        {
            "none": ([0.3, 0.7], [0.8, 6.0], [5.0, 1.5]),
            "bottom": ([0.3, 0.7], [0.8, 6.0], [5.0, 1.5]),
            "top": ([0.6, 0.4], [2.0, 0.2], [2.0, 0.3]),
            "interior": ([0.3, 0.7], [1.0, 40.0], [1.0, 20.0]),
            "all": ([0.5, 0.5], [0.7, 3.0], [2.0, 0.9]),
        },
        beta_tails,
        beta_log_density,
        beta_mp_tails,
    ),
    "logit_normal": Exact(
        LogitNormalMixture,
        {
            "none": ([0.3, 0.7], [-1.0, 1.5], [1.6, 0.8]),
            "bottom": ([0.3, 0.7], [-1.0, 1.5], [1.6, 0.8]),
            "top": ([0.6, 0.4], [0.0, 1.0], [0.9, 4.0]),
            "interior": ([0.3, 0.7], [0.0, 0.7], [1.8, 0.3]),
            "all": ([0.5, 0.5], [-0.9, 2.1], [2.0, 1.2]),
        },
        normal_tails,
        lambda z, loc, scale: scipy.stats.norm.logpdf(z, loc, scale),
        lambda z, loc, scale: (mp.ncdf((z - loc) / scale), mp.ncdf((loc - z) / scale)),
    ),
}
all_families = pytest.mark.parametrize("family", list(FAMILIES))
default_often = pytest.mark.parametrize(
    "family", [f if f == DEFAULT_MARGIN else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]
)


def margins_of(*atoms: str, often: tuple[str, ...] = ("logit_normal-all",)) -> Any:
    """Every family with these sets of atoms; those named in ``often`` by default, the others when slow.

    Compiling is most of the time, and the gradients and quantiles of a mixture of betas take the most of it.
    """
    names = [f"{family}-{name}" for family in FAMILIES for name in atoms]
    often = tuple(name for name in often if name in names) or (f"{DEFAULT_MARGIN}-{atoms[0]}",)
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in often else pytest.mark.slow) for name in names]
    )


all_margins = margins_of(*ATOMS)
both_families = margins_of(*ATOMS, often=("beta-none", "logit_normal-all"))

Z = np.array([-INF, -30.0, -6.0, -1.0, -0.999, 0.0, 0.5, 1.3, 2.0, 2.001, 7.0, 30.0, INF])

point = jax.jit(mixed.point)
log_density = jax.jit(mixed.log_density)
quantile = jax.jit(mixed.quantile)
quantile_of_point = jax.jit(mixed.quantile_of_point)
cdf_slope = jax.jit(jax.grad(lambda z, params: jnp.sum(mixed.point(z, params).upper.value)))
all_functions = jax.jit(lambda m, z, q: (m.log_prob(z), m.cdf(z), m.cdf_left(z), m.icdf(q)))


def split(name: str) -> tuple[Exact, tuple[Array, Array], tuple[Array, Array, Array]]:
    """The family, the atoms, and the parameters of the continuous part."""
    family, atoms = name.split("-")
    locs, probs = (np.array(field) for field in ATOMS[atoms])
    weights, first, second = (np.array(field) for field in FAMILIES[family].fields[atoms])
    return FAMILIES[family], (locs, probs), (weights, first, second)


def margin(name: str) -> MarginParams:
    """Parameters; atoms padded to four slots, so that all but "none" compile once."""
    exact, (locs, probs), fields = split(name)
    empty = 4 - len(locs) if len(locs) else 0
    return MarginParams(
        jnp.pad(jnp.array(locs), (0, empty), constant_values=NAN),
        jnp.pad(jnp.array(probs), (0, empty)),
        exact.part(*(jnp.array(field) for field in fields)),
    )


def reference(name: str, z: Array, left: bool = False) -> tuple[Array, Array]:
    """Lower and upper tail, each a sum of positive terms."""
    exact, (locs, probs), (weights, *fields) = split(name)
    z = np.asarray(z)[..., None]
    share = 1 - probs.sum()
    lower, upper = (share * tail @ weights for tail in exact.tails(z, *fields))
    below = locs < z if left else locs <= z
    above = locs >= z if left else locs > z
    return lower + (probs * below).sum(-1), upper + (probs * above).sum(-1)


def test_every_family_has_its_row() -> None:
    assert set(FAMILIES) == set(MARGINS)


@both_families
def test_cdf_and_left_limit_equal_scipy(name: str) -> None:
    got = point(Z, margin(name))
    for side, left in ((got.upper, False), (got.lower, True)):
        lower, upper = reference(name, Z, left)
        np.testing.assert_allclose(side.value, lower, rtol=1e-10)
        np.testing.assert_allclose(side.flip().value, upper, rtol=1e-10, atol=1e-300)
    is_atom = np.isin(Z, split(name)[1][0])
    np.testing.assert_array_equal(got.is_atom, is_atom)
    jump = reference(name, Z)[0] - reference(name, Z, True)[0]
    np.testing.assert_allclose(np.exp(got.log_mass)[is_atom], jump[is_atom], rtol=1e-13)
    np.testing.assert_array_equal(np.asarray(got.log_mass)[~is_atom], 0.0)


@both_families
def test_log_density_equals_scipy(name: str) -> None:
    exact, (locs, probs), (weights, *fields) = split(name)
    with np.errstate(all="ignore"):
        log_parts = np.log(weights) + exact.log_density(Z[:, None], *fields)
    wanted = np.where(np.isfinite(Z), np.log1p(-probs.sum()) + sp.logsumexp(log_parts, axis=1), -INF)
    for loc, prob in zip(locs, probs, strict=True):
        wanted = np.where(loc == Z, np.log(np.where(prob > 0, prob, 1.0)), wanted)
    np.testing.assert_allclose(log_density(Z, margin(name)), wanted, rtol=1e-12, atol=1e-12)


@margins_of("none", "bottom", "interior")
def test_far_tails_keep_relative_accuracy(name: str) -> None:
    z = np.array([12.0, 30.0])
    above = point(z, margin(name)).upper
    np.testing.assert_allclose(above.log_1mu, np.log(reference(name, z)[1]), rtol=1e-12)
    np.testing.assert_allclose(above.log_u, np.log1p(-reference(name, z)[1]), rtol=1e-10)
    if name.endswith("bottom"):
        return  # the mass below covers the continuous tail
    below = point(-z, margin(name)).upper
    np.testing.assert_allclose(below.log_u, np.log(reference(name, -z)[0]), rtol=1e-12)
    np.testing.assert_allclose(below.log_1mu, np.log1p(-reference(name, -z)[0]), rtol=1e-10)


@margins_of("none", "bottom", "top", "interior")
def test_both_tails_equal_mpmath(name: str) -> None:
    """At probabilities from 1e-12 to 1 - 1e-12 of the continuous part, and on to 1e-200."""
    exact, (locs, probs), (weights, *fields) = split(name)
    part = MarginParams(jnp.zeros(0), jnp.zeros(0), margin(name).continuous)
    logit = np.array([-460.0, -27.6, -14.0, -2.0, 0.3, 3.0, 14.0, 27.6, 460.0])
    z = np.asarray(quantile_of_point(unit_point_from_logit(jnp.asarray(logit)), part))
    numpyro_margin = MixedMargin(*margin(name))
    cdf, survival = numpyro_margin.cdf(z), numpyro_margin.survival(z)
    with mp.workdps(40):
        for i, at in enumerate(z):
            tails = [exact.mp_tails(mp.mpf(at), *map(mp.mpf, field)) for field in zip(*fields, strict=True)]
            share = 1 - mp.fsum(map(mp.mpf, probs))
            lower = share * mp.fsum(w * t[0] for w, t in zip(weights, tails, strict=True))
            upper = share * mp.fsum(w * t[1] for w, t in zip(weights, tails, strict=True))
            lower += mp.fsum(mp.mpf(p) for p in probs[locs <= at])
            upper += mp.fsum(mp.mpf(p) for p in probs[locs > at])
            assert float(cdf[i]) == pytest.approx(float(lower), rel=1e-10, abs=0)
            assert float(survival[i]) == pytest.approx(float(upper), rel=1e-10, abs=0)


@all_families
def test_log_density_in_the_far_tails(family: str) -> None:
    exact, _, (weights, *fields) = split(f"{family}-none")
    for z in (-700.0, -200.0, 200.0, 700.0):
        wanted = sp.logsumexp(np.log(weights) + exact.log_density(np.array([z]), *fields))
        assert float(log_density(z, margin(f"{family}-none"))) == pytest.approx(wanted, rel=1e-13)


@both_families
def test_gradient_of_cdf_is_density(name: str) -> None:
    z = jnp.array([-20.0, -3.0, 0.1, 1.7, 4.0, 20.0])
    params = margin(name)
    slope = cdf_slope(z, params)
    np.testing.assert_allclose(slope, np.exp(log_density(z, params)), rtol=1e-10)


@both_families
def test_atoms_and_continuous_part_add_to_one(name: str) -> None:
    locs, probs = split(name)[1]
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
    plain = ~np.isin(z, split(name)[1][0])
    np.testing.assert_allclose(upper[plain], q[plain], rtol=1e-12)
    order = np.argsort(q)
    assert (z[order][1:] >= z[order][:-1]).all()


@margins_of("bottom", "top", "interior", "all")
def test_quantile_inside_an_atom_is_the_atom(name: str) -> None:
    params, locs = margin(name), split(name)[1][0]
    locs = locs[~np.isnan(locs)]
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


@default_often
@settings(deadline=None, derandomize=True, max_examples=50)
@given(z=st.floats(-300, 300))
def test_quantile_of_point_inverts_far_out(family: str, z: float) -> None:
    params = margin(f"{family}-none")
    at: UnitPoint = point(z, params).upper
    # A change of 1e-11 in z changes the log of the smaller tail by as much.
    assert float(quantile_of_point(at, params)) == pytest.approx(z, rel=1e-9, abs=1e-9)


def finite_quantile(q: Array, params: MarginParams) -> Array:
    found = mixed.quantile(q, params)
    return jnp.sum(jnp.where(jnp.isfinite(found), found, 0.0))


quantile_slope = jax.jit(jax.grad(finite_quantile, argnums=(0, 1)))


@all_margins
def test_quantile_at_the_ends_and_outside(name: str) -> None:
    q = jnp.array([0.0, 1.0, -0.1, 1.1, NAN])
    np.testing.assert_array_equal(quantile(q, margin(name)), [-INF, INF, NAN, NAN, NAN])
    for leaf in jax.tree.leaves(quantile_slope(q, margin(name))):
        np.testing.assert_array_equal(leaf, 0.0)


@margins_of("bottom", "top", "interior", "all")
def test_quantile_stands_still_at_an_atom(name: str) -> None:
    params = margin(name)
    at = point(params.atom_locs, params)
    middle = jnp.where(at.is_atom, 0.5 * (at.lower.value + at.upper.value), 0.0)
    np.testing.assert_array_equal(quantile(middle, params), jnp.where(at.is_atom, params.atom_locs, -INF))
    for leaf in jax.tree.leaves(quantile_slope(jnp.pad(middle, (0, 1)), params)):
        np.testing.assert_array_equal(leaf, 0.0)


@jax.jit
def free_quantile(at: Array, atom_probs: Array, part: Any, atom_locs: Array) -> Array:
    """Quantile at probabilities given by their logits; weights by their logs, so that they add to 1."""
    part = part._replace(mixing_probs=jax.nn.softmax(part.mixing_probs))
    found = mixed.quantile_of_point(unit_point_from_logit(at), MarginParams(atom_locs, atom_probs, part))
    return jnp.where(jnp.isfinite(found), found, 0.0)


@all_margins
def test_slopes_of_the_quantile_equal_differences(name: str) -> None:
    """In the probability, the atoms' probabilities, the weights and the components, both modes."""
    locs, probs, part = margin(name)
    part = part._replace(mixing_probs=jnp.log(part.mixing_probs))
    at = jnp.array([-30.0, -3.0, -0.4, 0.6, 4.0, 30.0])
    check_grads(
        lambda *args: free_quantile(*args, locs),
        (at, probs, part),
        order=1,
        modes=("fwd", "rev"),
        eps=1e-5,
        rtol=2e-6,
        atol=1e-6,
    )


@default_often
def test_second_slope_of_the_quantile(family: str) -> None:
    """dz/dq = 1/f(z), hence d2z/dq2 = -f'(z)/f(z)**3."""
    params = margin(f"{family}-none")

    @jax.jit
    def both(q: Array) -> tuple[Array, Array]:
        z = mixed.quantile(q, params)
        density, slope = jax.value_and_grad(lambda z: jnp.exp(mixed.log_density(z, params)))(z)
        second = jax.grad(jax.grad(lambda q: mixed.quantile(q, params)))(q)
        return second, -slope / density**3

    found, wanted = both(jnp.array(0.3))
    assert float(found) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.slow
@margins_of("all")
def test_single_precision_is_finite_and_close(name: str) -> None:
    double = margin(name)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), double)
    z = jnp.array([-INF, -700.0, -30.0, -3.0, 0.25, 1.5, 30.0, 700.0, INF])
    got = jax.jit(values)(single, z.astype(jnp.float32))
    wanted = jax.jit(values)(double, z)
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=3e-5, atol=3e-6)
    for leaf in jax.tree.leaves(total_gradient(single, z.astype(jnp.float32))):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    logit = jnp.array([-30.0, -3.0, -0.4, 0.6, 4.0, 30.0])
    far = quantile_of_point(unit_point_from_logit(logit.astype(jnp.float32)), single)
    assert far.dtype == jnp.float32
    wanted_far = quantile_of_point(unit_point_from_logit(logit), double)
    np.testing.assert_allclose(far, wanted_far, rtol=2e-4, atol=2e-5)


@all_margins
def test_samples_follow_the_cdf(name: str) -> None:
    n = 20_000
    exact, (locs, probs), (weights, *fields) = split(name)
    z = np.asarray(MixedMargin(*margin(name)).sample(jax.random.key(3), (n,)))
    assert not np.isnan(z).any()
    for loc, prob in zip(locs, probs, strict=True):
        error = 4 * np.sqrt(prob * (1 - prob) / n)
        assert np.mean(z == loc) == pytest.approx(prob, abs=error)
    continuous = z[~np.isin(z, locs)]

    def cdf(z: Array) -> Array:
        return exact.tails(z[:, None], *fields)[0] @ weights

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


@default_often
def test_survival_is_one_less_the_cdf(family: str) -> None:
    numpyro_margin = MixedMargin(*margin(f"{family}-all"))
    z = jnp.asarray(Z)
    np.testing.assert_allclose(numpyro_margin.survival(z), 1 - numpyro_margin.cdf(z), atol=1e-15)


@all_families
def test_invalid_parameters_are_refused(family: str) -> None:
    locs, probs, part = margin(f"{family}-top")
    for wrong in (
        part._replace(mixing_probs=jnp.array([0.5, 0.4])),
        part._replace(mixing_probs=jnp.array([1.2, -0.2])),
        part._replace(**{part._fields[-1]: jnp.array([1.0, 0.0])}),
    ):
        with pytest.raises(ValueError, match="invalid continuous parameter"):
            MixedMargin(locs, probs, wrong, validate_args=True)
    with pytest.raises(ValueError, match="invalid atom_probs parameter"):
        MixedMargin(locs, -probs, part, validate_args=True)


@default_often
def test_compiled_log_prob_equals_eager(family: str) -> None:
    numpyro_margin = MixedMargin(*margin(f"{family}-all"))
    z = jnp.asarray(Z)
    value = numpyro_margin.log_prob(z.reshape(1, -1))
    assert value.shape == (1, len(Z))
    np.testing.assert_allclose(value[0], log_density(z, margin(f"{family}-all")), rtol=1e-13)


@pytest.mark.slow
@default_often
def test_numpyro_site_and_vmap_over_parameters(family: str) -> None:
    start = margin(f"{family}-all")

    def model() -> None:
        with numpyro.plate("queries", 4):
            numpyro.sample("z", MixedMargin(*start))

    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()
    assert trace["z"]["value"].shape == (4,)

    second = start._replace(atom_probs=jnp.array([0.3, 0.1, 0.2, 0.0]))
    both = jax.tree.map(lambda *fields: jnp.stack(fields), start, second)
    z = jnp.asarray(Z)
    got = jax.vmap(lambda params: MixedMargin(*params).log_prob(z))(both)
    for row, params in zip(got, (start, second), strict=True):
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
    locs = [x for x in split(name)[1][0] if np.isfinite(x)]
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
        continuous=type(params.continuous)(
            jnp.array([0.5, -0.5]), jnp.array([1.0, -0.7]), jnp.array([-0.4, 1.0])
        ),
    )

    forward = along_forward(0.0, params, move, z)
    reverse = along_reverse(0.0, params, move, z)
    step = 1e-5
    value = [along_value(by, params, move, z) for by in (-step, step)]
    difference = (value[1] - value[0]) / (2 * step)
    np.testing.assert_allclose(forward, difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-12)


@default_often
def test_margin_of_atoms_alone(family: str) -> None:
    """No continuous part: a confidence that takes a few values only."""
    params = MarginParams(
        jnp.array([-1.0, 0.0, INF, NAN]),
        jnp.array([0.25, 0.25, 0.5, 0.0]),
        FAMILIES[family].part(jnp.full(2, 0.5), jnp.ones(2), jnp.ones(2)),
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


class TestTailsOfNormalMixture:
    """Where components lie on one side, on both, and where one has no weight."""

    log_probs = np.log([0.2, 0.5, 1e-40, 0.3])
    x = np.array([-45.0, -3.0, -0.2, 0.0, 0.7, 6.0, 50.0])[None] + np.array([-20.0, 0.0, 1.0, 20.0])[:, None]

    def tails(self, log_probs: Array, x: Array) -> Array:
        z = jnp.zeros(x.shape[1:])
        return jnp.stack(
            jax.vmap(
                lambda x, z: LogitNormalMixture(jax.nn.softmax(log_probs), -x, jnp.ones_like(x)).cdf(z),
                (1, 0),
            )(x, z)
        )

    def test_values_and_slopes_against_mpmath(self) -> None:
        at = jnp.asarray(self.log_probs), self.x
        found = jax.jit(self.tails)(*at)
        of_probs, of_x = jax.jit(jax.jacrev(self.tails, argnums=(0, 1)))(*at)
        with mp.workdps(300):  # the larger tail is within 1e-200 of 1
            weights = [mp.exp(mp.mpf(v)) for v in self.log_probs]
            probs = [w / sum(weights) for w in weights]
            for i, sign in ((0, 1), (1, -1)):
                for j in range(self.x.shape[1]):
                    x = [mp.mpf(v) for v in self.x[:, j]]
                    parts = [p * mp.ncdf(sign * v) for p, v in zip(probs, x, strict=True)]
                    density = [p * mp.npdf(v) for p, v in zip(probs, x, strict=True)]
                    total = sum(parts)
                    np.testing.assert_allclose(float(found[i, j]), float(mp.log(total)), rtol=1e-13)
                    wanted = [float(part / total - p) for part, p in zip(parts, probs, strict=True)]
                    np.testing.assert_allclose(of_probs[i, j], wanted, rtol=1e-11, atol=1e-14)
                    wanted = [float(sign * d / total) for d in density]
                    np.testing.assert_allclose(of_x[i, j, :, j], wanted, rtol=1e-11, atol=1e-290)

    @pytest.mark.slow
    def test_second_derivatives(self) -> None:
        inside = self.x[:, 1:-1]
        weight = jnp.arange(1.0, 1.0 + inside.shape[1])

        def total(log_probs: Array, x: Array) -> Array:
            return jnp.sum(weight * self.tails(log_probs, x))

        check_grads(total, (jnp.asarray(self.log_probs), inside), order=2, rtol=1e-5, atol=1e-5)
