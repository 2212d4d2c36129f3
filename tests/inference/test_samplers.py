"""Methods of inference: targets against the joint density, modes, chains, importance, fits by each method."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
from numpyro.infer.util import log_density

import cascade_bayes.inference.samplers.approximate as approximate
import cascade_bayes.inference.samplers.importance as importance
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.decision.tuning import error_cost_frontier
from cascade_bayes.errors import ConvergenceWarning, InputError
from cascade_bayes.inference.assembly import warn_about_few_draws
from cascade_bayes.inference.convergence import USABLE_ESS, Closeness, Point, judge_approximation
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.options import GUIDES, FitOptions
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import Module, collect, make_modules
from cascade_bayes.inference.samplers.draw import LaneDraws, draw
from cascade_bayes.inference.samplers.importance import Proposals
from cascade_bayes.inference.samplers.laplace import find_modes, minimise, normal_approximation
from cascade_bayes.inference.samplers.nuts import STRETCH, Chains, compile_chains, run_side_by_side
from cascade_bayes.inference.samplers.target import Lanes, StudentCoordinate, Target
from cascade_bayes.model.anchors import Anchors
from cascade_bayes.model.cascade import cascade_model, sample_sites
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec

Array = Any

# ---------------------------------------------------------------------------------------------
# Targets.


@pytest.mark.parametrize("df", [1.0, 3.0, 30.0])
def test_student_coordinate(df: float) -> None:
    """Jacobian and inverse are those of the map; for 3 degrees a normal comes out nearly Student t."""
    t = StudentCoordinate(df, 1.3)
    u = jnp.array([-4.0, -2.0, -0.7, -1e-7, 0.0, 1e-3, 0.5, 3.0])
    x = t(u)
    slope = jax.vmap(jax.grad(t))(u)
    np.testing.assert_allclose(t.log_abs_det_jacobian(u, x), np.log(slope), atol=1e-12)
    np.testing.assert_allclose(t._inverse(x), u, rtol=1e-9, atol=1e-15)
    if df == 3:
        exact = scipy.stats.norm.ppf(scipy.stats.t(df, scale=1.3).cdf(np.asarray(x)))
        np.testing.assert_allclose(u[1:], exact[1:], atol=0.1)


def test_density_in_student_coordinates_is_the_same_distribution() -> None:
    """Total mass and a quantile of the prior alone, by quadrature over the coordinate."""

    def model(data: Array) -> None:
        x = numpyro.sample("x", dist.StudentT(3.0, 0.0, 0.7).expand([1]).to_event(1))
        numpyro.factor("nothing", 0.0 * data * x[0])

    target = Target(model, jnp.zeros(()))
    density = jax.jit(lambda u: jnp.exp(-target.potential(jnp.array([u]), jnp.zeros(()))))
    wanted = scipy.stats.t(3.0, scale=0.7)
    for x in (np.inf, 0.4, -2.0):
        end = 12.0 if x == np.inf else float(StudentCoordinate(3.0, 0.7)._inverse(jnp.asarray(x)))
        mass = scipy.integrate.quad(lambda u: float(density(u)), -12.0, end, epsabs=1e-10)[0]
        assert mass == pytest.approx(wanted.cdf(x), abs=1e-7)


@pytest.fixture(scope="module")
def table(small_data: CascadeData) -> tuple[Observations, ModelSpec]:
    """The small table, whose last model has an atom, and a modular model of it."""
    layout = find_atoms(small_data)
    spec = ModelSpec(layout, get_copulas("gumbel", 3), Priors(num_components=4), structure="modular")
    return observations(small_data, layout), spec


def anchors_of(spec: ModelSpec) -> Anchors:
    return jax.tree.map(jnp.asarray, spec.known_anchors)


def modules_of(obs: Observations, spec: ModelSpec) -> tuple[Module, ...]:
    return make_modules(obs, jnp.asarray(spec.layout.locs), anchors_of(spec), spec.kind, ("a", "b", "c"))


def lanes_of(modules: Sequence[Module]) -> list[Lanes]:
    return [module.lanes for module in modules]


def spread(module: Module, seed: int) -> Array:
    """Points somewhere in the bulk of a module's prior, ``(num_lanes, dim)``."""
    lanes = len(module.names)
    return 0.5 * jax.random.normal(jax.random.key(seed), (lanes, module.lanes.target.dim))


def joint(model: Callable[..., None], *args: Any) -> Callable[[Array], Array]:
    """Log density of a model as a function of its sites."""
    return lambda sites: log_density(model, args, {}, sites)[0]


@pytest.mark.slow
@pytest.mark.parametrize("monotone", [False, True])
def test_modules_add_up_to_the_joint_density(table: tuple[Observations, ModelSpec], monotone: bool) -> None:
    """Margins and calibration have the density of a chain of independent models, but for empty slots."""
    obs, spec = table
    spec = ModelSpec(spec.layout, spec.copulas, spec.priors, structure="modular", monotone=monotone)
    modules = modules_of(obs, spec)
    assert [module.names for module in modules] == [
        ("margin of a", "margin of b", "margin of c"),
        ("calibration",),
    ]
    first = spec.first_module()
    empty = np.isnan(spec.layout.locs)
    assert empty.sum() == 2
    for seed in range(3):
        total, samples = 0.0, {}
        for module in modules:
            x = spread(module, seed)
            sites = jax.jit(jax.vmap(module.lanes.target.sites))(x)
            density = jax.vmap(lambda data, sites, m=module.lanes.target._model: joint(m, data)(sites))
            total += jax.jit(density)(module.lanes.data, sites).sum()
            samples |= module.to_sites({k: np.asarray(v)[:, None, None] for k, v in sites.items()})
            if "atom_logit" in sites:
                ghosts = np.asarray(sites["atom_logit"])[empty]
                total -= (
                    scipy.stats.norm(spec.priors.atom_logit_loc, spec.priors.atom_logit_scale)
                    .logpdf(ghosts)
                    .sum()
                )
            if "atom_effect" in sites:
                ghosts = np.asarray(sites["atom_effect"]).reshape(empty.shape)[empty]
                total -= scipy.stats.norm(0, spec.priors.atom_effect_scale).logpdf(ghosts).sum()
        one = {k: jnp.asarray(v[0, 0]) for k, v in samples.items()}
        with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            sample_sites(first)
        assert {k: v["value"].shape for k, v in trace.items()} == {k: v.shape for k, v in one.items()}
        wanted = jax.jit(joint(cascade_model, obs, first))(one)
        assert float(total) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.slow
def test_chain_is_one_lane_of_the_joint_density(table: tuple[Observations, ModelSpec]) -> None:
    obs, spec = table
    chain = ModelSpec(spec.layout, get_copulas(["gumbel", "independence"], 2), spec.priors)
    (module,) = modules_of(obs, chain)
    assert module.names == ("chain",)
    (x,) = spread(module, 0)
    lane = jax.tree.map(lambda field: field[0], module.lanes.data)
    sites = module.lanes.target.sites(x)
    found = jax.jit(joint(module.lanes.target._model, lane))(sites)
    wanted = jax.jit(joint(cascade_model, obs, chain))(sites)
    assert float(found) == pytest.approx(float(wanted), rel=1e-13)
    # One program serves every table whose atoms are in the same slots.
    assert modules_of(obs, chain)[0].lanes.target is module.lanes.target


def test_padding_changes_nothing(table: tuple[Observations, ModelSpec]) -> None:
    """Queries of which nothing is known, by which arrays are filled up, say nothing of any module."""
    obs, spec = table
    for module, padded in zip(modules_of(obs, spec), modules_of(obs.padded(160), spec), strict=True):
        potential = jax.jit(jax.vmap(module.lanes.target.potential))
        x = spread(module, 2)
        np.testing.assert_allclose(
            potential(x, padded.lanes.data), potential(x, module.lanes.data), rtol=1e-13
        )


def test_margins_see_their_own_atoms_and_gaps(table: tuple[Observations, ModelSpec]) -> None:
    """A confidence that was not observed, and a query's label, say nothing of a margin."""
    obs, spec = table
    margins = modules_of(obs, spec)[0]
    x = spread(margins, 1)
    potential = jax.jit(jax.vmap(margins.lanes.target.potential))

    def potentials(obs: Observations) -> Array:
        data = modules_of(obs, spec)[0].lanes.data
        return np.asarray(potential(x, data))

    unseen = obs._replace(observed=obs.observed.at[1, 5].set(False), z=obs.z.at[1, 5].set(99.0))
    changed = potentials(unseen) != potentials(obs)
    np.testing.assert_array_equal(changed, [False, True, False])
    np.testing.assert_array_equal(potentials(obs._replace(correct=~obs.correct)), potentials(obs))


# ---------------------------------------------------------------------------------------------
# Modes and normal approximations.


def test_minimise_rosenbrock() -> None:
    def function(x: Array) -> Array:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    starts = jnp.array([[-1.2, 1.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0], [3.0, -2.0, 1.0, 1.0]])
    found = jax.jit(jax.vmap(lambda x: minimise(function, x)))(starts)
    values = jax.vmap(function)(found)
    # From the first start a local minimum near (-0.78, 0.61, 0.38, 0.15) is as good an answer.
    assert np.all(np.minimum(values, np.abs(values - 3.70)) < 1e-2)
    np.testing.assert_allclose(found[1], 1.0, atol=1e-3)
    assert np.all(np.abs(jax.vmap(jax.grad(function))(found)) < 1e-2)


def test_minimise_steps_back_from_where_the_function_is_not_finite() -> None:
    found = minimise(lambda x: x[0] - 1e-3 * jnp.log(x[0]), jnp.array([5.0]))
    np.testing.assert_allclose(found, [1e-3], rtol=3e-3)  # where 1e-9 is left to gain


def normal_target(dim: int) -> Target:
    """A normal distribution, as data its mean and precision; a start away from the mode."""

    def model(data: tuple[Array, Array]) -> None:
        loc, precision = data
        x = numpyro.sample("x", dist.Normal(0, 1).expand([dim]).mask(False).to_event(1))
        numpyro.factor("log_density", -0.5 * (x - loc) @ precision @ (x - loc))

    return Target(model, (jnp.zeros(dim), jnp.eye(dim)))


NORMAL = normal_target(4)


def chains_of(num_chains: int, num_warmup: int) -> FitOptions:
    """How chains of a normal distribution are made: so many, after so many transitions."""
    return FitOptions(seed=0, num_chains=num_chains, num_warmup=num_warmup, target_accept_prob=0.8)


@pytest.fixture(scope="module")
def normals() -> tuple[Array, Array]:
    """Means and covariances of two lanes."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 4, 4))
    return rng.normal(size=(2, 4)), root @ root.transpose(0, 2, 1) / 4 + 0.1 * np.eye(4)


def lanes(normals: tuple[Array, Array]) -> tuple[Array, Array]:
    return jnp.asarray(normals[0]), jnp.asarray(np.linalg.inv(normals[1]))


def test_normal_is_found_exactly(normals: tuple[Array, Array]) -> None:
    mode, root = normal_approximation(NORMAL, lanes(normals))
    np.testing.assert_allclose(mode, normals[0], atol=1e-4)
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), normals[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(find_modes(NORMAL, lanes(normals)), mode)


def test_flat_directions_get_a_finite_spread() -> None:
    flat = jnp.diag(jnp.array([1.0, 0.0, 4.0, 1.0]))[None]
    _, root = normal_approximation(NORMAL, (jnp.zeros((1, 4)), flat))
    np.testing.assert_allclose((root @ root.transpose(0, 2, 1))[0], np.diag([1, 10, 0.25, 1]), atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Chains.


def test_chains_draw_from_every_lane(normals: tuple[Array, Array]) -> None:
    data = lanes(normals)
    options = chains_of(2, 150)
    part = Lanes(NORMAL, data)
    chains = Chains.start(jax.random.key(0), part, normal_approximation(NORMAL, data), options)
    ticks: list[int] = []
    chains, *_ = chains.run(150, ticks.append)
    chains, sites, stats = chains.run(2 * STRETCH + 7, ticks.append)
    assert ticks == [STRETCH] * 5 + [7]
    assert sites["x"].shape == (2, 2, 2 * STRETCH + 7, 4)
    assert {v.shape for v in stats.values()} == {(2, 2, 2 * STRETCH + 7)}
    _, more, _ = chains.run(900, ticks.append)
    for lane in range(2):
        draws = np.concatenate([sites["x"][lane], more["x"][lane]], axis=1).reshape(-1, 4)
        np.testing.assert_allclose(draws.mean(axis=0), normals[0][lane], atol=0.12)
        np.testing.assert_allclose(np.cov(draws.T), normals[1][lane], atol=0.15)
    # No draw comes twice, neither within a stretch nor across two.
    assert np.unique(draws[:, 0]).size > 0.9 * len(draws)


def test_densities_side_by_side_are_drawn_from_as_alone_and_end_together(
    normals: tuple[Array, Array],
) -> None:
    data = lanes(normals)
    options, approximation = chains_of(2, 150), normal_approximation(NORMAL, data)
    chains = [
        Chains.start(jax.random.key(seed), Lanes(NORMAL, data), approximation, options) for seed in (0, 1)
    ]
    together = run_side_by_side(chains, 20, lambda _: None)
    for one, (_, sites, _) in zip(chains, together, strict=True):
        assert sites["x"].dtype == np.float64
        np.testing.assert_array_equal(one.run(20, lambda _: None)[1]["x"], sites["x"])
    ticks: list[int] = []

    def interrupted(length: int) -> None:
        ticks.append(length)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(chains, 10**6, interrupted)
    assert len(ticks) <= 2  # each ended after a stretch


@pytest.mark.slow
def test_what_is_compiled_ahead_is_what_runs(
    normals: tuple[Array, Array], caplog: pytest.LogCaptureFixture
) -> None:
    data = lanes(normals)
    options = chains_of(2, 37)  # a warm-up that no other test has compiled

    def compiled() -> list[str]:
        names = re.findall(r"Compiling jit\((normal_approximation|_start|_advance)\)", caplog.text)
        caplog.clear()
        return sorted(names)

    with jax.log_compiles(), ThreadPoolExecutor() as pool:
        compile_chains([Lanes(NORMAL, data)], options, pool)
        assert {"_start", "_advance"} <= set(compiled())
        approximation = normal_approximation(NORMAL, data)
        chains = Chains.start(jax.random.key(0), Lanes(NORMAL, data), approximation, options)
        chains.run(STRETCH + 1, lambda _: None)
        assert compiled() == []
        compile_chains([Lanes(NORMAL, data)], options, pool)
        assert compiled() == []


@pytest.mark.slow
def test_starting_away_from_the_posterior_is_forgotten(normals: tuple[Array, Array]) -> None:
    """In the coordinates of another normal distribution the draws are still those of the target."""
    data = lanes(normals)
    wrong = normal_approximation(NORMAL, data)
    wrong = wrong._replace(mode=wrong.mode + 3.0, root=0.3 * jnp.broadcast_to(jnp.eye(4), (2, 4, 4)))
    chains = Chains.start(jax.random.key(1), Lanes(NORMAL, data), wrong, chains_of(2, 300))
    chains, *_ = chains.run(300, lambda _: None)
    _, sites, _ = chains.run(1000, lambda _: None)
    for lane in range(2):
        draws = sites["x"][lane].reshape(-1, 4)
        np.testing.assert_allclose(draws.mean(axis=0), normals[0][lane], atol=0.15)
        np.testing.assert_allclose(np.cov(draws.T), normals[1][lane], atol=0.2)


@pytest.mark.slow
def test_chains_are_the_same_on_one_device_and_on_two(
    normals: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jax.local_device_count() == 2
    data = lanes(normals)
    found = []
    for count in (2, 1):
        monkeypatch.setattr(jax, "local_device_count", lambda count=count: count)
        target = normal_target(4)  # a new one: programs are kept by target
        options = chains_of(4, 20)
        approximation = normal_approximation(target, data)
        chains = Chains.start(jax.random.key(0), Lanes(target, data), approximation, options)
        chains, x, _ = chains.positions(20, lambda _: None)
        assert len(chains.states.z.devices()) == count
        found.append(x)
    assert np.unique(found[0][:, :, -1, 0]).size == 8
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.slow
def test_divergences_start_chains_over_with_half_the_step() -> None:
    """A funnel (Neal 2003) diverges, a normal distribution beside it does not."""

    def model(data: Array) -> None:
        v = numpyro.sample("v", dist.Normal(0, 3))
        numpyro.sample("x", dist.Normal(0, jnp.exp(0.5 * data * v)).expand([9]).to_event(1))

    both = Lanes(Target(model, jnp.zeros(())), jnp.array([0.0, 1.0]))
    kept = {}
    for max_rounds in (1, 2):
        how = FitOptions(
            seed=0,
            num_chains=4,
            num_warmup=100,
            num_samples=200,
            max_rounds=max_rounds,
            target_accept_prob=0.6,
            progress=False,
        )
        (found,) = draw(jax.random.key(0), [both], how)
        assert found.sites["v"].shape == (2, 4, 200 * max_rounds)
        assert found.report["halved_steps"].tolist() == ([0, 0] if max_rounds == 1 else [0, 1])
        assert found.start.tolist() == ([0, 0] if max_rounds == 1 else [0, 200])
        kept[max_rounds] = LaneDraws(*jax.tree.map(lambda x: x[1], found))
        # A module of both lanes leaves out what either does.
        sampled = collect([Module(both, ("normal", "funnel"), lambda sites: {"v": sites["v"][1]})], [found])
        np.testing.assert_array_equal(sampled.samples["v"], kept[max_rounds].sites["v"][:, -200:])
        assert sampled.stats["diverging"].sum() == kept[max_rounds].stats["diverging"][:, -200:].sum()
    # The same chains, further on, in smaller steps.
    np.testing.assert_array_equal(kept[1].sites["v"], kept[2].sites["v"][:, :200])
    longer, shorter = (
        {k: v[:, part].sum() for k, v in kept[2].stats.items()} for part in (slice(200), slice(200, None))
    )
    assert shorter["num_steps"] > 1.3 * longer["num_steps"]
    assert shorter["diverging"] < longer["diverging"]


# ---------------------------------------------------------------------------------------------
# Approximations.


ENOUGH = {"a": 500.0, "b": 500.0}


def test_resampling_follows_the_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4000, 1))
    # Proposed from N(0, 1), wanted are N(0.5, 1) and N(0, 0.8^2).
    log_ratio = np.stack([0.5 * x[0, :, 0], -0.5 * x[1, :, 0] ** 2 * (1 / 0.64 - 1)])
    weighted = importance.weigh(
        [Proposals(x[:, :1500], log_ratio[:, :1500]), Proposals(x[:, 1500:], log_ratio[:, 1500:])]
    )
    np.testing.assert_array_equal(weighted.x, x)
    draws = importance.resample(rng, weighted, 2000)
    assert draws.shape == (2, 2000, 1)
    assert np.all(weighted.k_hat < 0.6)
    # Of a normal moved by m: n exp(-m^2).
    assert weighted.ess[0] == pytest.approx(4000 * np.exp(-0.25), rel=0.05)
    np.testing.assert_allclose(draws.mean(axis=(1, 2)), [0.5, 0.0], atol=0.06)
    np.testing.assert_allclose(draws.std(axis=(1, 2)), [1.0, 0.8], atol=0.06)
    # Order carries nothing: neighbours are not alike.
    assert abs(np.corrcoef(draws[0, 1:, 0], draws[0, :-1, 0])[0, 1]) < 0.08


def test_too_narrow_a_proposal_has_a_large_k_hat() -> None:
    rng = np.random.default_rng(0)
    x = 0.3 * rng.normal(size=(1, 4000, 5))
    log_ratio = 0.5 * np.sum(x**2, axis=2) * (1 / 0.09 - 1)
    weighted = importance.weigh([Proposals(x, log_ratio)])
    assert weighted.k_hat[0] > 0.7
    assert weighted.ess[0] < 40


def test_proposals_without_density_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 1000, 1))
    log_ratio = np.where(x[..., 0] > 0, 0.0, -np.inf)
    log_ratio[0, :3] = np.nan
    weighted = importance.weigh([Proposals(x, log_ratio)])
    assert importance.resample(rng, weighted, 500).min() > 0
    assert weighted.k_hat[0] == 0.0  # those that are left are all equal
    assert weighted.ess[0] == pytest.approx(np.sum(x[0, 3:] > 0))


@pytest.mark.parametrize(
    "guide",
    [pytest.param(g, marks=[pytest.mark.slow] if g != "full_rank" else []) for g in GUIDES],
)
def test_guides(normals: tuple[Array, Array], guide: Any) -> None:
    """Corrected draws are the target's unless k-hat says otherwise; full rank needs no correction."""
    data = lanes(normals)
    start = normal_approximation(NORMAL, data)
    start = start._replace(mode=start.mode + 0.5)
    fitted = approximate.run_svi(NORMAL, jax.random.key(0), start, data, guide, 1500)
    assert fitted.bound.shape == (2, 1500)
    assert fitted.converged.all()
    proposals = approximate.propose_svi(NORMAL, jax.random.key(1), fitted, start, data, guide, 8000)
    weighted = importance.weigh([proposals])
    k_hat = weighted.k_hat
    draws = importance.resample(np.random.default_rng(0), weighted, 4000)
    assert guide == "mean_field" or np.all(
        k_hat < 0.7
    )  # a mean field is too narrow, which its own test measures
    for lane in np.flatnonzero(k_hat < 0.7):
        np.testing.assert_allclose(draws[lane].mean(axis=0), normals[0][lane], atol=0.1)
        np.testing.assert_allclose(np.cov(draws[lane].T), normals[1][lane], atol=0.12)
    if guide == "full_rank":
        evidence = 2 * np.log(2 * np.pi) + 0.5 * np.log(np.linalg.det(normals[1]))
        np.testing.assert_allclose(fitted.bound[:, -300:].mean(axis=1), evidence, atol=0.03)
        mode, root = approximate.as_normal(fitted, start)
        np.testing.assert_allclose(mode, normals[0], atol=0.1)
        np.testing.assert_allclose(root @ root.transpose(0, 2, 1), normals[1], atol=0.12)


@pytest.mark.slow
def test_mean_field_knows_no_correlation(normals: tuple[Array, Array]) -> None:
    """Its scales are those of the conditional distributions (Blei et al. 2017), in the model's own axes."""
    data = lanes(normals)
    start = normal_approximation(NORMAL, data)
    fitted = approximate.run_svi(NORMAL, jax.random.key(0), start, data, "mean_field", 2000)
    proposals = approximate.propose_svi(NORMAL, jax.random.key(1), fitted, start, data, "mean_field", 4000)
    for lane in range(2):
        wanted = 1 / np.sqrt(np.diag(np.linalg.inv(normals[1][lane])))
        np.testing.assert_allclose(np.asarray(proposals.x[lane]).std(axis=0), wanted, rtol=0.12)
        assert np.abs(np.corrcoef(np.asarray(proposals.x[lane]).T) - np.eye(4)).max() < 0.07


def test_a_bound_that_still_rises_is_said_so(normals: tuple[Array, Array]) -> None:
    data = lanes(normals)
    start = normal_approximation(NORMAL, data)
    far = start._replace(mode=start.mode + 40.0)
    fitted = approximate.run_svi(NORMAL, jax.random.key(0), far, data, "full_rank", 100)
    assert not fitted.converged.any()
    verdict = judge_approximation({"a": 0.2, "b": 0.1}, ENOUGH, {"a": True, "b": False})
    assert not verdict.converged
    assert verdict.still_rising == ("b",)
    assert "still rising for b" in verdict.sentence()


@pytest.mark.slow
def test_few_steps_settle_nothing(normals: tuple[Array, Array]) -> None:
    data = lanes(normals)
    start = normal_approximation(NORMAL, data)
    for num_steps in (1, 99):
        fitted = approximate.run_svi(NORMAL, jax.random.key(0), start, data, "full_rank", num_steps)
        assert not fitted.converged.any()
        assert np.isfinite(fitted.gain).all()


def test_a_guide_that_ran_off_has_not_settled() -> None:
    """Squares of its bound overflow, or it is not a number: no warning, and no convergence."""
    bound = np.tile([[-5.0], [-1e200], [-np.inf], [np.nan]], 1000)
    bound[1] *= np.random.default_rng(0).uniform(1, 2, 1000)
    fitted = approximate.SviFit({}, bound)
    assert fitted.converged.tolist() == [True, False, False, False]
    assert np.isfinite(fitted.gain).tolist() == [True, True, False, False]


def test_k_hat_above_its_bound_is_said_so() -> None:
    good = judge_approximation({"a": 0.2, "b": 0.69}, ENOUGH, {})
    assert (good.converged, good.worst_module) == (True, "b")
    for bad in (0.71, np.inf, np.nan):
        verdict = judge_approximation({"a": 0.2, "b": bad}, ENOUGH, {})
        assert (verdict.converged, verdict.worst_module) == (False, "b")
        assert verdict.sentence().startswith("The approximation is not to be trusted")


def test_too_few_effective_draws_are_said_so() -> None:
    """Weights can have a light tail and yet leave next to nothing."""
    verdict = judge_approximation({"a": 0.2, "b": 0.1}, {"a": 500.0, "b": 399.0}, {})
    assert not verdict.converged
    assert verdict.min_ess == 399
    assert "399 effective draws; wanted k-hat <= 0.7 and at least 400" in verdict.sentence()


def test_a_module_without_any_finite_weight_is_said_so() -> None:
    x = np.zeros((2, 1000, 1))
    log_ratio = np.stack([np.random.default_rng(0).normal(size=1000), np.full(1000, np.nan)])
    weighted = importance.weigh([Proposals(x, log_ratio)])
    assert np.isnan(weighted.k_hat[1])
    names = (
        dict(zip("ab", weighted.k_hat.tolist(), strict=True)),
        dict(zip("ab", weighted.ess.tolist(), strict=True)),
    )
    verdict = judge_approximation(*names, {})
    assert (verdict.converged, verdict.worst_module) == (False, "b")
    assert np.isnan(verdict.min_ess)


def test_lanes_propose_until_enough_are_effective(
    normals: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice too wide in every direction leaves (sqrt(7) / 4)^4 of them, a fifth; right, all of them."""
    monkeypatch.setattr(importance, "LANES", 2)
    data = jax.tree.map(lambda field: jnp.concatenate([field, field[:1]]), lanes(normals))
    start = normal_approximation(NORMAL, data)
    scale = jnp.asarray([2.0, 1.0, 2.0])
    wide = start._replace(root=scale[:, None, None] * start.root)
    asked: list[list[int]] = []

    def propose(key: Array, some: np.ndarray) -> Proposals:
        asked.append(some.tolist())
        own, theirs = jax.tree.map(lambda field: field[some], (wide, data))
        return approximate.propose_laplace(NORMAL, key, own, theirs, 600)

    found = importance.draw_by_importance(propose, jax.random.key(0), 3, 500)
    # Two at a time, the last filled up; the one in the middle has enough at once.
    assert asked == [[0, 1], [2, 2], [0, 2], [0, 2], [0, 2]]
    share = (np.sqrt(7) / 4) ** 4
    np.testing.assert_allclose(found.ess, [2400 * share, 600, 2400 * share], rtol=0.1)
    assert np.all(found.k_hat < 0.7)
    assert found.x.shape == (3, 500, 4)
    for lane, table in enumerate((0, 1, 0)):
        np.testing.assert_allclose(found.x[lane].mean(axis=0), normals[0][table], atol=0.25)
    assert not np.array_equal(found.x[0], found.x[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "copula", ["gumbel", *(pytest.param(name, marks=pytest.mark.long) for name in ("student_t_4", "frank"))]
)
def test_weights_in_32_bits_are_those_of_64(small_data: CascadeData, copula: str) -> None:
    """Of a joint chain, whose density has every kind of term."""
    layout = find_atoms(small_data)
    spec = ModelSpec(layout, get_copulas(copula, 2), Priors(num_components=4), structure="chain")
    obs = observations(small_data, layout)
    (part,) = lanes_of(modules_of(obs, spec))
    start = normal_approximation(*part)
    proposals = approximate.propose_laplace(part.target, jax.random.key(0), start, part.data, 200)
    assert proposals.log_ratio.dtype == np.float32
    x = jnp.asarray(proposals.x[0], dtype=float)
    lane = jax.tree.map(lambda field: field[0], part.data)
    exact = -jax.jit(jax.vmap(lambda x: part.target.potential(x, lane)))(x)
    y = np.linalg.solve(np.asarray(start.root[0]), np.asarray(x - start.mode[0]).T)
    ratio = np.asarray(exact) + 0.5 * np.sum(y**2, axis=0)
    np.testing.assert_allclose(
        proposals.log_ratio[0] - proposals.log_ratio[0, 0], ratio - ratio[0], atol=3e-3
    )


@pytest.mark.slow
def test_path_derivatives_have_no_noise_at_the_posterior(normals: tuple[Array, Array]) -> None:
    """There the log density falls with the guide's, whatever the draw (Roeder et al. 2017, section 3)."""
    data = lanes(normals)
    start = jax.tree.map(lambda field: field[0], normal_approximation(NORMAL, data))
    lane = jax.tree.map(lambda field: field[0], data)
    svi, _ = approximate._svi(NORMAL, "full_rank", 10)
    state = svi.init(jax.random.key(0), start, lane)
    exact, aside = svi.get_params(state), svi.get_params(state)
    aside["auto_loc"] = aside["auto_loc"] + 0.5

    def gradient(params: Any, seed: int) -> Array:
        def bound(params: Any) -> Array:
            return svi.loss.loss(jax.random.key(seed), params, svi.model, svi.guide, start, lane)

        return np.concatenate([np.ravel(g) for g in jax.tree.leaves(jax.grad(bound)(params))])

    assert max(np.abs(gradient(exact, seed)).max() for seed in range(3)) < 1e-5  # of a Hessian by differences
    pull = np.mean([gradient(aside, seed)[:4] for seed in range(3)], axis=0)
    np.testing.assert_allclose(pull, 0.5, rtol=1e-4)  # of 0.5 |y|^2 at 0.5, in standard coordinates


def test_proposals_have_the_tails_of_student(normals: tuple[Array, Array]) -> None:
    mean, cov = normals[0][0], normals[1][0]
    normal = dist.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    y, log_density = approximate._with_tails(jax.random.key(0), normal, 20000)
    exact = scipy.stats.multivariate_t(mean, cov, df=approximate.TAIL_DF)
    offset = np.asarray(log_density) - exact.logpdf(np.asarray(y))
    np.testing.assert_allclose(offset, offset[0], atol=1e-6)
    wanted = cov * approximate.TAIL_DF / (approximate.TAIL_DF - 2)
    np.testing.assert_allclose(np.cov(np.asarray(y).T), wanted, rtol=0.06, atol=0.06)
    np.testing.assert_allclose(approximate._log_normal(normal, y), normal.log_prob(y), rtol=1e-6)


# ---------------------------------------------------------------------------------------------
# Fits.

SMALL: dict[str, Any] = {"seed": 0, "num_chains": 2, "num_samples": 200, "progress": False}
"""What the methods share in these tests; margins of four components compile and run fast."""

FEW = Priors(num_components=4)

AUTO = FitOptions(
    method="auto",
    seed=0,
    num_chains=2,
    num_warmup=100,
    num_samples=100,
    max_rounds=1,
    target_accept_prob=0.85,
    num_steps=300,
    progress=False,
)


@pytest.mark.long
def test_map_is_the_top_of_every_module(small_data: CascadeData) -> None:
    post = fit(small_data, "map", priors=FEW, **SMALL)
    assert {v.shape[:2] for v in post.samples.values()} == {(1, 1)}
    assert post.convergence() == Point()
    assert not post.sample_stats
    modules = modules_of(observations(small_data, post.spec.layout), post.spec)
    for module in modules:
        potential = jax.jit(jax.vmap(module.lanes.target.potential))
        modes = find_modes(module.lanes.target, module.lanes.data)
        for seed in range(5):
            near = potential(modes + 0.01 * spread(module, seed), module.lanes.data)
            assert np.all(near > potential(modes, module.lanes.data))
    frontier = error_cost_frontier(post, models="all", error_prices=3)
    assert np.all(np.isfinite(frontier.error))


@pytest.mark.slow
def test_laplace_and_its_file(small_data: CascadeData, tmp_path: Path) -> None:
    post = fit(small_data, "laplace", priors=FEW, **SMALL)
    assert {v.shape[:2] for v in post.samples.values()} == {(2, 200)}
    verdict = post.convergence()
    assert isinstance(verdict, Closeness)
    report = post.provenance["approximation"]
    assert list(report["k_hat"]) == [*(f"margin of {name}" for name in post.models), "calibration"]
    post.save(tmp_path / "p.nc")
    back = Posterior.load(tmp_path / "p.nc")
    assert back.convergence() == verdict
    assert not back.sample_stats
    for name, value in post.samples.items():
        np.testing.assert_array_equal(back.samples[name], value)
    assert "slope[small-3b]" in list(back.summary().index)


@pytest.mark.slow
def test_an_approximation_that_is_none_warns(small_data: CascadeData) -> None:
    """Independent normals for a whole chain of full margins are far off: a few draws get all weight."""
    few = r"not to be trusted: .* (\d|[123]\d) effective draws"
    with pytest.warns(ConvergenceWarning, match=few):
        post = fit(small_data, "svi", structure="chain", guide="mean_field", num_steps=50, **SMALL)
    verdict = post.convergence()
    assert isinstance(verdict, Closeness)
    assert verdict.min_ess < USABLE_ESS


@pytest.mark.parametrize("ess", [1.2, 39.0, np.nan, 41.0])
def test_too_few_effective_draws_warn(small_posterior: Posterior, ess: float) -> None:
    report = {"k_hat": {"chain": 0.9}, "ess": {"chain": ess}}
    poor = replace(small_posterior, provenance={**small_posterior.provenance, "approximation": report})
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        warn_about_few_draws(poor)
        warn_about_few_draws(small_posterior)
    assert [warning.category for warning in log] == ([] if ess > 40 else [ConvergenceWarning])


@pytest.mark.slow
def test_auto_replaces_a_poor_start(
    table: tuple[Observations, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    obs, spec = table
    modules = modules_of(obs, spec)
    import cascade_bayes.inference.samplers.draw as methods

    asked: list[int] = []
    original = approximate.run_svi

    def counted(target: Target, *args: Any) -> Any:
        asked.append(target.dim)
        return original(target, *args)

    monkeypatch.setattr(approximate, "run_svi", counted)
    monkeypatch.setattr(methods, "MAX_K_HAT", -10.0)  # every approximation is poor
    found = draw(jax.random.key(0), lanes_of(modules), AUTO)
    assert asked == [module.lanes.target.dim for module in modules]
    assert collect(modules, found).samples["slope"].shape == (2, 100, 3)
    monkeypatch.setattr(methods, "MAX_K_HAT", 10.0)  # none is
    draw(jax.random.key(0), lanes_of(modules[1:]), AUTO)
    assert len(asked) == len(modules)


def test_unknown_names_and_numbers(small_data: CascadeData) -> None:
    with pytest.raises(InputError, match="method must be one of nuts, auto, svi, laplace, map; got 'vi'"):
        fit(small_data, "vi", seed=0)
    with pytest.raises(InputError, match=r"guide must be one of mean_field, .*, flow; got 'iaf'"):
        fit(small_data, "svi", seed=0, guide="iaf")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_steps must be at least 1; got 0"):
        fit(small_data, "svi", seed=0, num_steps=0)


@pytest.mark.long
def test_methods_agree(small_data: CascadeData) -> None:
    """Means and spreads of what decisions rest on are NUTS's, within what so many draws can tell."""
    few: dict[str, Any] = {"priors": FEW, "seed": 1, "progress": False}
    nuts = fit(small_data, "nuts", num_samples=500, **few)
    assert nuts.convergence().converged
    fits = {
        "auto": fit(small_data, "auto", num_samples=500, **few),
        "laplace": fit(small_data, "laplace", num_samples=500, **few),
        "svi": fit(small_data, "svi", num_samples=500, num_steps=1500, **few),
    }
    for name in ("intercept", "slope", "tau", "upstream"):
        loc, scale = nuts.samples[name].mean(axis=(0, 1)), nuts.samples[name].std(axis=(0, 1))
        for method, post in fits.items():
            found = post.samples[name]
            np.testing.assert_array_less(
                np.abs(found.mean(axis=(0, 1)) - loc) / scale, 0.35, f"{method} {name}"
            )
            ratio = found.std(axis=(0, 1)) / scale
            assert np.all((ratio > 0.75) & (ratio < 1.3)), (method, name, ratio)
