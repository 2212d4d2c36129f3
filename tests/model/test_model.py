"""The model of a cascade: atoms found, likelihood against numpy and mpmath, simulated tables."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pandas as pd
import pytest
import scipy.special as sp
import scipy.stats
from jax.test_util import check_grads
from numpyro import handlers

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.distributions import BetaMixture, MarginParams
from cascade_bayes.errors import InputError
from cascade_bayes.model.cascade import params_from_sites, sample_sites
from cascade_bayes.model.difficulty import LabelCorr
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.margins import MARGINS, simplex_from_splits
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import AtomLayout, CascadeParams, find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.simulate import Cascade, simulate
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.reading import read_table
from cascade_bayes.transforms import ConfidenceMap

Array = Any
INF, NAN = np.inf, np.nan
GUMBEL, INDEPENDENCE = get_copulas("gumbel", 2), get_copulas("independence", 2)

PARAMS = CascadeParams(
    margins=MarginParams(
        atom_locs=jnp.array([[-INF, INF], [NAN, NAN], [0.5, INF]]),
        atom_probs=jnp.array([[0.05, 0.3], [0.0, 0.0], [0.2, 0.4]]),
        continuous=BetaMixture(
            mixing_probs=jnp.array([[0.4, 0.6], [0.7, 0.3], [0.5, 0.5]]),
            concentration1=jnp.array([[1.0, 3.0], [2.0, 4.0], [0.8, 6.0]]),
            concentration0=jnp.array([[2.0, 1.5], [2.5, 0.7], [1.0, 2.0]]),
        ),
    ),
    theta=jnp.array([1.8, 2.6]),
    intercept=jnp.array([-0.5, 0.2, 0.9]),
    slope=jnp.array([0.6, 0.3, -0.2]),
    upstream=jnp.array([0.0, 0.4, -0.3]),
    atom_effect=jnp.array([[-0.7, 0.4], [0.0, 0.0], [0.3, -1.1]]),
    label_corr=LabelCorr(jnp.asarray(0.0), jnp.asarray(0.4)),
)
LAYOUT = AtomLayout(*[np.asarray(PARAMS.margins.atom_locs)] * 2, np.ones(3, bool))
KINDS = LAYOUT.kinds

# Six queries: atoms in none, one and two models; -0.3, 8 and 20 are continuous.
SCORES = np.array(
    [
        [-0.3, 0.2, 1.1],
        [INF, 2.0, INF],
        [-INF, -2.0, 0.5],
        [8.0, 20.0, INF],
        [INF, 1.0, NAN],
        [0.7, NAN, NAN],
    ]
).T
OBSERVED = ~np.isnan(SCORES)
LABELLED = OBSERVED & ~np.eye(3, 6, dtype=bool)  # one label missing in each of three queries
CORRECT = LABELLED & np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 0]], bool)


def table(z: Array, observed: Array, correct: Array, labelled: Array) -> Observations:
    z = np.where(observed, z, 0.0)
    return Observations(*(jnp.asarray(a) for a in (z, observed, correct & labelled, labelled)))


OBS = table(SCORES, OBSERVED, CORRECT, LABELLED)
likelihood = jax.jit(log_likelihood, static_argnums=(2, 3))


@cache
def exact_margin(i: int, z: float) -> tuple[float, float, float]:
    """F(z-), F(z) and the density or mass at z of model i."""
    locs, probs, weights, one, zero = (np.asarray(field[i]) for field in jax.tree.leaves(PARAMS.margins))
    rest = 1 - probs.sum()
    part = rest * (1 - weights @ sp.betainc(zero, one, sp.expit(-z)))
    lower, upper = part + probs[locs < z].sum(), part + probs[locs <= z].sum()
    if upper > lower:
        return lower, min(upper, 1.0), float(probs[locs == z][0])
    logs = one * -np.logaddexp(0, -z) + zero * -np.logaddexp(0, z) - sp.betaln(one, zero)
    return lower, upper, float(rest * weights @ np.exp(logs))


def exact_log_likelihood(q: int, theta: Array) -> float:
    """The generative story for one query, with every pair a small rectangle of the exact C."""
    total = 0.0
    with mp.workdps(60):

        def C(u: Any, v: Any, t: Any) -> Any:  # noqa: N802
            if u <= 0 or v <= 0:
                return mp.mpf(0)
            return mp.exp(-(((-mp.log(u)) ** t + (-mp.log(v)) ** t) ** (1 / t)))

        cells = []
        for i in range(3):
            z = SCORES[i, q]
            if np.isnan(z):
                break
            lower, upper, density = exact_margin(i, float(z))
            total += np.log(density)
            width = 0 if upper > lower else mp.mpf(min(upper, 1 - upper)) * mp.mpf(10) ** -12
            cells.append((mp.mpf(lower) - width, mp.mpf(upper) + width))
            if LABELLED[i, q]:
                locs, effect = PARAMS.margins.atom_locs[i], PARAMS.atom_effect[i]
                x = min(max(z, -6.0), 6.0)
                logit = PARAMS.intercept[i] + PARAMS.slope[i] * x + effect[locs == z].sum()
                if i:
                    logit += PARAMS.upstream[i] * min(max(SCORES[i - 1, q], -6.0), 6.0)
                rate = 1 / (1 + np.exp(-float(logit)))
                total += np.log(rate if CORRECT[i, q] else 1 - rate)
        for i in range(len(cells) - 1):
            (a, b), (c, d), t = cells[i], cells[i + 1], mp.mpf(float(theta[i]))
            mass = C(b, d, t) - C(a, d, t) - C(b, c, t) + C(a, c, t)
            total += float(mp.log(mass / ((b - a) * (d - c))))
    return total


def test_log_likelihood_equals_a_plain_implementation() -> None:
    # At z = 20 F is off 1 by 1e-6 or so: the plain code keeps ten digits of that.
    got = np.asarray(likelihood(PARAMS, OBS, GUMBEL, KINDS))
    wanted = [exact_log_likelihood(q, PARAMS.theta) for q in range(6)]
    assert got.shape == (6,)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_independent_models_factor() -> None:
    got = likelihood(PARAMS, OBS, INDEPENDENCE, KINDS)
    wanted = [exact_log_likelihood(q, np.ones(2)) for q in range(6)]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
    # Gumbel at theta = 1 is independence too.
    one = PARAMS._replace(theta=jnp.ones(2))
    np.testing.assert_allclose(likelihood(one, OBS, GUMBEL, KINDS), wanted, rtol=1e-9)


def test_missing_suffix_equals_marginalising() -> None:
    """Sum over atoms, trapezoid over the rest, of the last model and both labels of it."""
    z3 = np.concatenate([np.linspace(-80, 80, 4001), [0.5, INF]])
    z3[2012] += 1e-9 if z3[2012] == 0.5 else 0.0
    weight = np.concatenate([np.full(4001, z3[1] - z3[0]), [1.0, 1.0]])
    n = len(z3)
    for q in (0, 1, 4):
        z = np.stack([np.full(n, SCORES[0, q]), np.full(n, SCORES[1, q]), z3])
        seen = np.ones((3, n), bool)
        mass = 0.0
        for label in (False, True):
            correct = np.stack([*(np.full(n, CORRECT[i, q]) for i in (0, 1)), np.full(n, label)])
            labelled = np.stack([*(np.full(n, LABELLED[i, q]) for i in (0, 1)), np.ones(n, bool)])
            full = likelihood(PARAMS, table(z, seen, correct, labelled), GUMBEL, KINDS)
            mass += float(weight @ np.exp(np.asarray(full)))
        prefix = OBS._replace(observed=OBS.observed.at[2].set(False), labelled=OBS.labelled.at[2].set(False))
        wanted = likelihood(PARAMS, prefix, GUMBEL, KINDS)[q]
        assert np.log(mass) == pytest.approx(float(wanted), abs=2e-5)


def test_value_that_no_margin_holds_has_density_zero() -> None:
    z = jnp.asarray(SCORES[:, :2]).at[1].set(INF)  # model 2 has no atoms
    seen = np.ones((3, 2), bool)
    obs = table(z, seen, seen, seen)
    np.testing.assert_array_equal(likelihood(PARAMS, obs, GUMBEL, KINDS), -INF)


def sites() -> dict[str, Array]:
    layout_atoms = 4
    return {
        "mixing_split": jnp.array([[0.7], [-0.4], [0.0]]),
        "concentration": jnp.array([[3.0, 4.5], [2.5, 6.0], [4.0, 8.0]]),
        "atom_logit": jnp.linspace(-1.0, 0.5, layout_atoms),
        "tau": jnp.array([0.2, 0.6]),
        "intercept": PARAMS.intercept,
        "slope": PARAMS.slope,
        "upstream": PARAMS.upstream[1:],
        "atom_effect": jnp.array([0.1, -0.2, 0.3, -0.4]),
        "label_corr": jnp.array(0.3),
        "label_corr_slope": jnp.array(0.4),
    }


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_simplex_from_splits(size: int) -> None:
    """Against a walk down the tree; equal weights at 0; every split can be read off the weights."""
    x = np.random.default_rng(size).normal(0, 2, size - 1)
    weights, splits = np.zeros(size), iter(x)
    queue = [(0, size, 1.0)]  # from, to, share: first in, first out is level by level
    for first, end, share in queue:
        if end - first == 1:
            weights[first] = share
            continue
        middle = first + -((first - end) // 2)
        odds = np.exp(next(splits)) * (middle - first) / (end - middle)
        queue += [(first, middle, share * odds / (1 + odds)), (middle, end, share / (1 + odds))]
    np.testing.assert_allclose(simplex_from_splits(jnp.asarray(x)), weights, rtol=1e-13)
    np.testing.assert_allclose(simplex_from_splits(jnp.zeros((3, size - 1))), 1 / size, rtol=1e-13)
    if size > 1:
        jacobian = jax.jacobian(simplex_from_splits)(jnp.asarray(x))
        assert np.linalg.matrix_rank(jacobian) == size - 1


def test_weights_far_from_even_keep_their_gradients() -> None:
    x = jnp.array([60.0, -700.0, 3.0])
    assert np.all(np.isfinite(jax.jacobian(lambda x: jnp.log(simplex_from_splits(x)))(x)))


@pytest.mark.slow
def test_prior_of_the_weights() -> None:
    """Drawn from the model, the share of the lower half of the components has the stated log odds."""
    spec = ModelSpec(LAYOUT, INDEPENDENCE, Priors(split_scale=0.7, split_df=4.0))

    def draw(key: Array) -> Array:
        with handlers.seed(rng_seed=key):
            return params_from_sites(sample_sites(spec), spec).margins.continuous.mixing_probs

    lower = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 2000)))[:, 0, :8].sum(axis=1)
    wanted = scipy.stats.t(4, scale=0.7)
    assert scipy.stats.kstest(np.log(lower / (1 - lower)), wanted.cdf).pvalue > 1e-3


SPEC = ModelSpec(LAYOUT, GUMBEL, Priors(num_components=2), margin="beta")


def test_params_from_sites() -> None:
    params = params_from_sites(sites(), SPEC)
    assert params.num_models == 3
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)
    np.testing.assert_allclose(params.theta, [1.25, 2.5])
    part = params.margins.continuous
    mean = part.concentration1 / sites()["concentration"]
    np.testing.assert_allclose(mean, np.tile([0.25, 0.75], (3, 1)))
    odds = part.mixing_probs[:, 0] / part.mixing_probs[:, 1]
    np.testing.assert_allclose(np.log(odds), sites()["mixing_split"][:, 0])
    np.testing.assert_allclose(part.concentration1 + part.concentration0, sites()["concentration"])
    np.testing.assert_array_equal(params.margins.atom_probs[1], 0.0)
    np.testing.assert_array_equal(params.atom_effect, [[0.1, -0.2], [0.0, 0.0], [0.3, -0.4]])
    rest = params.margins.continuous_prob[:, None]
    odds = (params.margins.atom_probs / rest)[np.array([0, 2])]
    np.testing.assert_allclose(np.log(odds).ravel(), sites()["atom_logit"], atol=1e-14)

    bare = AtomLayout(*[np.full((3, 0), NAN)] * 2, np.ones(3, bool))
    fewer = {k: v for k, v in sites().items() if not k.startswith("atom") and k != "tau"}
    params = params_from_sites(fewer, ModelSpec(bare, INDEPENDENCE, Priors(), upstream=False, margin="beta"))
    assert params.margins.atom_probs.shape == params.atom_effect.shape == (3, 0)
    assert params.theta.shape == (2,)

    draws = jax.tree.map(lambda x: jnp.stack([x, x]), sites())
    many = jax.vmap(lambda s: params_from_sites(s, SPEC))(draws)
    assert many.num_models == 3
    assert many.margins.atom_locs.shape == (2, 3, 2)


def normal_sites() -> dict[str, Array]:
    rest = {k: v for k, v in sites().items() if k != "concentration"}
    return rest | {"normal_scale": jnp.array([[1.3, 0.8], [0.6, 1.5], [1.0, 2.0]])}


def test_logit_normal_margins_from_sites() -> None:
    part = params_from_sites(normal_sites(), replace(SPEC, margin="logit_normal")).margins.continuous
    np.testing.assert_allclose(part.loc, np.tile(np.log([1 / 3, 3.0]), (3, 1)), rtol=1e-14)
    np.testing.assert_array_equal(part.scale, normal_sites()["normal_scale"])
    beta = params_from_sites(sites(), SPEC).margins.continuous
    np.testing.assert_array_equal(part.mixing_probs, beta.mixing_probs)


@pytest.mark.slow
@pytest.mark.parametrize("margin", list(MARGINS))
def test_priors_of_margins_centre_on_the_uniform_score(margin: str) -> None:
    """At the median of every site the score's density stays close to 1 over its middle 90 %."""
    family, size = MARGINS[margin], Priors().num_components
    spread = jnp.broadcast_to(family.prior(Priors()).icdf(0.5), (size,))
    part = family.part(simplex_from_splits(jnp.zeros(size - 1)), spread)
    z = jnp.linspace(-20.0, 20.0, 4001)
    logistic = -jax.nn.softplus(z) - jax.nn.softplus(-z)
    log_ratio = part.log_density(z) - logistic
    divergence = 0.01 * float(-jnp.sum(jnp.exp(logistic) * log_ratio))
    assert 0 < divergence < 0.02
    assert float(jnp.abs(log_ratio[jnp.abs(z) < np.log(19.0)]).max()) < 0.3


def test_unknown_margin() -> None:
    with pytest.raises(InputError, match="margin must be one of beta, logit_normal; got 'gamma'"):
        replace(SPEC, margin="gamma")


@pytest.mark.slow
@pytest.mark.parametrize("margin", [pytest.param("beta", marks=pytest.mark.slow), "logit_normal"])
def test_gradients_of_the_likelihood(margin: str) -> None:
    spec = replace(SPEC, margin=margin)

    @jax.jit
    def total(sites: dict[str, Array]) -> Array:
        params = params_from_sites(sites, spec)
        return jnp.sum(log_likelihood(params, OBS, GUMBEL, KINDS))

    at = sites() if margin == "beta" else normal_sites()
    check_grads(total, (at,), order=1, modes=("rev",), rtol=1e-5, eps=1e-5)


# ---------------------------------------------------------------------------------------------
# Atoms of a table.


def read(columns: dict[str, list[float]], **options: Any) -> CascadeData:
    rows = [
        {"query": f"q{k}", "model": model, "confidence": c, "cost": i + 1.0, "correct": k % 2}
        for i, (model, values) in enumerate(columns.items())
        for k, c in enumerate(values)
    ]
    return read_table(pd.DataFrame(rows), **options)


def test_find_atoms() -> None:
    spread = [-0.01 * (k + 1) for k in range(60)]
    data = read(
        {
            # Exact certainty once; five equal values in fifty are a tenth, four are not enough.
            "a": [0.0, *spread[:40], *[-0.7] * 5, *[-0.8] * 4],
            "b": [-INF, 0.0, *spread[:48]],
            # Five equal values in sixty are less than a tenth.
            "c": [*spread[:55], *[-0.9] * 5],
            # Four of five are four fifths, but fewer than five.
            "d": [*[-0.2] * 4, -0.3],
        }
    )
    layout = find_atoms(data)
    at = float(data.confidence_map.to_logit(-0.7, model=0))
    np.testing.assert_array_equal(layout.locs, [[at, INF], [-INF, INF], [NAN, NAN], [NAN, NAN]])
    raw = [[-0.7, 0.0], [-INF, 0.0], [NAN, NAN], [NAN, NAN]]
    np.testing.assert_array_equal(layout.raw, raw)
    np.testing.assert_array_equal(layout.counts, [2, 2, 0, 0])
    np.testing.assert_array_equal(layout.model_index, [0, 0, 1, 1])
    np.testing.assert_array_equal(layout.slot_index, [0, 1, 0, 1])
    spread_out = layout.scatter(jnp.arange(4.0), -1.0)
    np.testing.assert_array_equal(spread_out, [[0, 1], [2, 3], [-1, -1], [-1, -1]])
    assert find_atoms(data, interior_share=0.05).counts.tolist() == [2, 2, 1, 0]
    obs = observations(data, find_atoms(data))
    assert obs.z.shape == (4, 60)
    np.testing.assert_array_equal(obs.observed.sum(1), [50, 50, 60, 5])
    assert bool((obs.z[~obs.observed] == 0).all())
    assert not bool((obs.labelled & ~obs.observed).any())
    assert not bool((obs.correct & ~obs.labelled).any())


def test_values_that_no_model_means_are_read_as_impossibility() -> None:
    """A fit sees the arrays of the same table with -inf in place of the markers; only raw values differ."""
    spread = [-0.01 * (k + 1) for k in range(60)]
    marked = read({"a": [*spread, -100.0, *[-9999.0] * 6, 0.0], "b": [*spread, *spread[:8]]})
    meant = read({"a": [*spread, *[-INF] * 7, 0.0], "b": [*spread, *spread[:8]]})
    layout, expected = find_atoms(marked), find_atoms(meant)
    np.testing.assert_array_equal(layout.locs, expected.locs)
    np.testing.assert_array_equal(layout.locs[0], [-INF, INF])
    np.testing.assert_array_equal(layout.raw[0], [-100.0, 0.0])
    np.testing.assert_array_equal(layout.continuous, expected.continuous)
    jax.tree.map(np.testing.assert_array_equal, observations(marked, layout), observations(meant, expected))
    named = find_atoms(marked, atoms={"a": [-9999.0, -0.3]})
    np.testing.assert_array_equal(named.raw[0], [-100.0, -0.3, 0.0])


def test_find_atoms_without_any() -> None:
    data = read({"a": [0.1, 0.2, 0.4], "b": [0.3, 0.5, 0.9]}, confidence="probability")
    assert find_atoms(data).locs.shape == (2, 0)


def test_words_are_atoms_every_one_of_them() -> None:
    words = [0.6] * 3 + [0.8] * 30 + [0.9] * 20 + [1.0] * 47
    numbers = [0.005 * (k + 1) for k in range(100)]
    data = read({"a": words, "b": numbers}, confidence="probability")
    layout = find_atoms(data)
    # 0.6 comes three times only, but the three finite values come 17.7 times on average.
    np.testing.assert_array_equal(layout.raw[0], [0.6, 0.8, 0.9, 1.0])
    assert np.isnan(layout.raw[1]).all()
    np.testing.assert_array_equal(layout.continuous, [False, True])
    sites = {
        "intercept": jnp.zeros(2),
        "slope": jnp.ones(2),
        "normal_scale": jnp.full((2, 2), 1.5),
        "mixing_split": jnp.zeros((2, 1)),
        "atom_logit": jnp.array([0.3, -0.2, 0.5, 0.1]),
        "atom_effect": jnp.zeros(4),
        "label_corr": jnp.array(0.5),
        "label_corr_slope": jnp.array(0.4),
    }
    margins = params_from_sites(
        sites, ModelSpec(layout, get_copulas("independence", 1), Priors(), upstream=False)
    ).margins
    np.testing.assert_allclose(margins.atom_probs[0], sp.softmax([0.3, -0.2, 0.5, 0.1]), rtol=1e-14)
    np.testing.assert_array_equal(margins.continuous_prob, [0.0, 1.0])


def test_pair_of_discrete_margins_has_total_mass_one() -> None:
    locs = np.array([[-1.0, 0.0, 1.5], [-0.5, 0.7, INF]])
    probs = jnp.array([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
    one = jnp.ones((2, 1))
    params = CascadeParams(
        margins=MarginParams(jnp.asarray(locs), probs, BetaMixture(one, 2 * one, 3 * one)),
        theta=jnp.array([2.2]),
        intercept=jnp.zeros(2),
        slope=jnp.ones(2),
        upstream=jnp.zeros(2),
        atom_effect=jnp.zeros((2, 3)),
        label_corr=LabelCorr(jnp.asarray(0.0), jnp.asarray(0.4)),
    )
    z = np.array([[a, b] for a in locs[0] for b in locs[1]]).T
    seen, none = np.ones(z.shape, bool), np.zeros(z.shape, bool)
    mass = np.exp(
        likelihood(params, table(z, seen, none, none), get_copulas("gumbel", 1), ("atoms", "atoms"))
    )
    np.testing.assert_allclose(mass.reshape(3, 3).sum(axis=1), probs[0], rtol=1e-12)
    np.testing.assert_allclose(mass.reshape(3, 3).sum(axis=0), probs[1], rtol=1e-12)


def test_atoms_can_be_given() -> None:
    spread = [-0.01 * (k + 1) for k in range(60)]
    data = read({"a": [*spread, *[-0.7] * 20], "b": [*spread, *[0.0] * 20]})
    layout = find_atoms(data, atoms={"a": [-0.3, -0.05], "b": []})
    np.testing.assert_array_equal(layout.raw, [[-0.3, -0.05], [0.0, NAN]])
    np.testing.assert_allclose(layout.locs[0], data.confidence_map.to_logit(np.array([-0.3, -0.05]), model=0))
    with pytest.raises(InputError, match=r"atom of model 'a' must be <= 0 for kind 'logprob'; got 0.5"):
        find_atoms(data, atoms={"a": [0.5]})
    with pytest.raises(InputError, match="atoms names model 'c', which is not in the data"):
        find_atoms(data, atoms={"c": [-0.5]})


# ---------------------------------------------------------------------------------------------
# Simulated tables.

N = 20_000
MAP = ConfidenceMap(kind="probability", location=(0.0,) * 3, scale=(1.0,) * 3)


def cascade(params: CascadeParams, copulas: Any = GUMBEL) -> Cascade:
    return Cascade(params, copulas, ("a", "b", "c"), np.array([1.0, 2.0, 5.0]), MAP)


@cache
def simulated(seed: int) -> CascadeData:
    return simulate(cascade(PARAMS), N, seed)


def within(share: float, wanted: float, n: int) -> bool:
    return bool(abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / n))


def test_simulate_shapes_and_seeds() -> None:
    data = simulated(7)
    assert (data.num_queries, data.num_models, data.models) == (N, 3, ("a", "b", "c"))
    assert data.labelled.all()
    assert data.observed.all()
    np.testing.assert_array_equal(data.cost[0], [1.0, 2.0, 5.0])
    again, other = simulated.__wrapped__(7), simulated(8)
    np.testing.assert_array_equal(again.confidence, data.confidence)
    np.testing.assert_array_equal(again.correct, data.correct)
    assert (other.confidence != data.confidence).any()


def test_simulated_margins() -> None:
    z = simulated(7).logit_score().T
    for i in range(3):
        locs, probs, weights, one, zero = (np.asarray(field[i]) for field in jax.tree.leaves(PARAMS.margins))
        # The map to raw probabilities and back moves finite values by rounding.
        at = [np.isclose(z[i], loc, rtol=1e-9) for loc in locs]
        for where, prob in zip(at, probs, strict=True):
            assert within(where.mean(), prob, N) if prob else not where.any()
        rest = z[i][~np.any(at, axis=0)]

        def cdf(x: Array, w: Array = weights, a: Array = one, b: Array = zero) -> Array:
            return sp.betainc(a, b, sp.expit(x)[:, None]) @ w

        assert scipy.stats.kstest(rest, cdf).pvalue > 1e-3


@pytest.mark.slow
def test_simulated_kendall_tau() -> None:
    params = PARAMS._replace(
        margins=PARAMS.margins._replace(atom_locs=jnp.full((3, 2), NAN), atom_probs=jnp.zeros((3, 2)))
    )
    for copulas, tau in ((GUMBEL, 1 - 1 / np.asarray(PARAMS.theta)), (INDEPENDENCE, np.zeros(2))):
        data = simulate(cascade(params, copulas), N, 3)
        z = data.logit_score().T
        for i in range(2):
            bound = 4 * np.sqrt(2 * (1 - tau[i] ** 2) / N)
            assert scipy.stats.kendalltau(z[i], z[i + 1]).statistic == pytest.approx(tau[i], abs=bound)


def test_simulated_correctness_at_atoms_and_between() -> None:
    data = simulated(7)
    z, correct = data.logit_score().T, data.correct.T
    for i, a in ((0, 0), (0, 1), (2, 0), (2, 1)):
        loc = float(PARAMS.margins.atom_locs[i, a])
        here = np.isclose(z[i], loc, rtol=1e-9)
        logit = PARAMS.intercept[i] + PARAMS.slope[i] * np.clip(loc, -6, 6) + PARAMS.atom_effect[i, a]
        if i:
            logit = logit + PARAMS.upstream[i] * np.clip(z[i - 1, here], -6, 6)
        _mean_within(correct[i, here], sp.expit(np.broadcast_to(logit, here.sum())))
    x = np.clip(z, -6, 6)
    logit = PARAMS.intercept[1] + PARAMS.slope[1] * x[1] + PARAMS.upstream[1] * x[0]
    for part in (x[0] > 1, x[0] < 0):
        _mean_within(correct[1, part], sp.expit(np.asarray(logit[part])))


def _mean_within(correct: Array, rates: Array) -> None:
    error = np.sqrt(np.sum(rates * (1 - rates))) / rates.size
    assert abs(correct.mean() - rates.mean()) < 4 * error


def gumbel_cdf(u: Array, v: Array, theta: float) -> Array:
    with np.errstate(divide="ignore"):
        x, y = -np.log(u), -np.log(v)
    return np.exp(-((x**theta + y**theta) ** (1 / theta)))


def test_simulated_chain_over_atoms() -> None:
    """Cells of models 1 and 2, and the chain through the atoms of 1 and quantiles of 2 to 3."""
    # Model 2 becomes discrete: the shares of its two atoms fill its margin but for 1e-9.
    margins = PARAMS.margins._replace(
        atom_locs=PARAMS.margins.atom_locs.at[1].set(jnp.array([-1.0, 1.0])),
        atom_probs=PARAMS.margins.atom_probs.at[1].set(jnp.array([0.6, 0.4 - 1e-9])),
    )
    data = simulate(cascade(PARAMS._replace(margins=margins)), N, 11)
    z = data.logit_score().T
    # Stretches of probability: -inf, the continuous part, +inf; -1, 1; +inf or not.
    edges = [np.array([0, 0.05, 0.7, 1]), np.array([0, 0.6, 1]), np.array([0, 0.6, 1])]
    state = [
        np.where(z[0] == -INF, 0, np.where(z[0] == INF, 2, 1)),
        (z[1] > 0).astype(int),
        (z[2] == INF).astype(int),
    ]
    pairs = []
    for i in range(2):
        theta = float(PARAMS.theta[i])
        C = gumbel_cdf(edges[i][:, None], edges[i + 1][None, :], theta)
        pairs.append(np.diff(np.diff(C, axis=0), axis=1))
        for a, b in np.ndindex(pairs[i].shape):
            share = np.mean((state[i] == a) & (state[i + 1] == b))
            assert within(share, pairs[i][a, b], N), (i, a, b)
    # Given the atom of model 2, models 1 and 3 know nothing of each other.
    for a, b, c in np.ndindex(3, 2, 2):
        wanted = pairs[0][a, b] * pairs[1][b, c] / np.diff(edges[1])[b]
        share = np.mean((state[0] == a) & (state[1] == b) & (state[2] == c))
        assert within(share, wanted, N), (a, b, c)


@pytest.mark.slow
def test_each_pair_has_its_own_family_and_range_of_tau() -> None:
    copulas = get_copulas(["frank", "clayton_90"], 2)
    priors = Priors()
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        sample_sites(ModelSpec(LAYOUT, copulas, priors))
    prior = trace["tau"]["fn"]
    draws = np.asarray(prior.sample(jax.random.key(0), (20_000,)))
    # Either sign: mean and standard deviation as in `Priors`; one sign: the Beta distribution, mirrored.
    assert draws[:, 0].mean() == pytest.approx(priors.tau_loc, abs=0.01)
    assert draws[:, 0].std() == pytest.approx(priors.tau_scale, abs=0.01)
    assert draws[:, 0].min() < -0.2
    one, zero = priors.tau_concentration1, priors.tau_concentration0
    assert scipy.stats.kstest(-draws[:, 1], scipy.stats.beta(one, zero).cdf).pvalue > 1e-3
    wanted = scipy.stats.beta(one, zero).logpdf(0.3)
    both = float(prior.log_prob(jnp.array([0.1, -0.3])) - prior.log_prob(jnp.array([0.1, -0.5])))
    assert both == pytest.approx(wanted - scipy.stats.beta(one, zero).logpdf(0.5), abs=1e-6)

    params = params_from_sites({**sites(), "tau": jnp.array([-0.3, -0.2])}, replace(SPEC, copulas=copulas))
    assert float(copulas[0].theta_to_tau(params.theta[0])) == pytest.approx(-0.3)
    assert float(copulas[1].theta_to_tau(params.theta[1])) == pytest.approx(-0.2)


def test_independent_pair_beside_a_dependent_one() -> None:
    copulas = get_copulas(["independence", "gumbel"], 2)
    params = params_from_sites({**sites(), "tau": jnp.array([0.5])}, replace(SPEC, copulas=copulas))
    np.testing.assert_allclose(params.theta, [0.0, 2.0])
    mixed_pairs = np.asarray(likelihood(params, OBS, copulas, KINDS))
    plain = np.asarray(likelihood(params, OBS, INDEPENDENCE, KINDS))
    weak = params._replace(theta=jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(mixed_pairs, likelihood(weak, OBS, GUMBEL, KINDS), rtol=1e-12)
    assert not np.allclose(mixed_pairs, plain)
