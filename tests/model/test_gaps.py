"""Queries with gaps: the missing is integrated over, against quadrature of the complete-table likelihood."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from cascade_bayes import example
from cascade_bayes._trees import take
from cascade_bayes.copulas import Copula, Kind, get_copulas, log_copula_ratio
from cascade_bayes.data import CascadeData
from cascade_bayes.distributions import LogitNormalMixture, MarginParams, mixed
from cascade_bayes.inference.fit import fit
from cascade_bayes.model.difficulty import LEVEL_ENDS, LabelCorr, find_levels
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.observations import Observations, find_gaps, make_cells
from cascade_bayes.model.params import AtomLayout, CascadeParams
from cascade_bayes.model.simulate import Cascade, simulate

Array = Any
INF, NAN = np.inf, np.nan

PARAMS = CascadeParams(
    margins=MarginParams(
        atom_locs=jnp.array([[-INF, INF], [0.4, INF], [NAN, NAN], [-1.0, INF]]),
        atom_probs=jnp.array([[0.05, 0.3], [0.2, 0.1], [0.0, 0.0], [0.3, 0.2]]),
        continuous=LogitNormalMixture(
            mixing_probs=jnp.array([[0.4, 0.6], [0.7, 0.3], [0.5, 0.5], [0.5, 0.5]]),
            loc=jnp.array([[-0.9, 0.9], [-0.2, 2.3], [-0.3, 1.3], [0.5, -0.9]]),
            scale=jnp.array([[1.4, 1.0], [1.0, 1.3], [1.8, 0.8], [1.3, 1.3]]),
        ),
    ),
    theta=jnp.array([1.8, 2.6, 1.5]),
    intercept=jnp.array([-0.5, 0.2, 0.9, 1.2]),
    slope=jnp.array([0.6, 0.3, -0.2, 0.8]),
    upstream=jnp.array([0.0, 0.4, -0.3, 0.6]),
    atom_effect=jnp.array([[-0.7, 0.4], [0.5, -0.9], [0.0, 0.0], [0.3, -1.1]]),
    label_corr=LabelCorr(jnp.asarray(0.3), jnp.asarray(0.4)),
)
LAYOUT = AtomLayout(*[np.asarray(PARAMS.margins.atom_locs)] * 2, np.ones(4, bool))
GUMBEL = get_copulas("gumbel", 3)
MIXED = get_copulas(["frank", "gumbel", "frank"], 3)
likelihood = jax.jit(log_likelihood, static_argnums=(2, 3))

# What each query lacks: an inner value, two in a row, the first, the first two, one that only a label needs.
SEEN = np.array(
    [[1, 0, 1, 1], [1, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], bool
).T
LABELS = np.array(
    [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]], bool
).T
Z = np.array(
    [
        [0.3, 0.4, -0.8, 0.2],
        [INF, 0.0, 0.0, -1.0],
        [0.0, 0.4, 1.7, 0.6],
        [0.0, 0.0, -2.0, INF],
        [-INF, 0.9, 0.0, 0.0],
        [1.4, 0.0, 0.1, 0.0],
        [0.0, INF, 0.0, 1.1],
    ]
).T
RIGHT = LABELS & (np.arange(28).reshape(4, 7) % 3 > 0)


def table(z: Array, observed: Array, correct: Array, labelled: Array, gaps: bool = True) -> Observations:
    arrays = (jnp.asarray(x) for x in (np.where(observed, z, 0.0), observed, correct & labelled, labelled))
    return Observations(*arrays, gaps=find_gaps(z, observed, labelled, LAYOUT) if gaps else None)


def support(i: int, num_nodes: int = 400) -> tuple[Array, Array]:
    """Nodes and log weights of an integral over the confidence of model ``i``, atoms included."""
    x, w = np.polynomial.legendre.leggauss(num_nodes)
    atoms = LAYOUT.locs[i][~np.isnan(LAYOUT.locs[i])]
    # z from -25 to 25, in pieces between finite atoms and levels, more densely in the middle
    cuts = np.unique([-25.0, -6.0, 0.0, 6.0, 25.0, *LEVEL_ENDS, *atoms[np.isfinite(atoms)]])
    nodes, weights = [atoms], [np.ones(len(atoms))]
    for a, b in itertools.pairwise(cuts):
        nodes.append(a + (b - a) * (x + 1) / 2)
        weights.append((b - a) / 2 * w)
    return np.concatenate(nodes), np.log(np.concatenate(weights))


def by_quadrature(q: int, num_nodes: int, copulas: tuple[Copula, ...]) -> float:
    """Log density of query ``q``: the complete-table density, summed over all that it lacks."""
    missing = np.flatnonzero(~SEEN[:, q])
    nodes = [support(i, num_nodes) for i in missing]
    grid = np.meshgrid(*(n for n, _ in nodes), indexing="ij")
    log_weight = sum(np.meshgrid(*(w for _, w in nodes), indexing="ij"))
    z = np.repeat(Z[:, q : q + 1], grid[0].size, axis=1)
    for i, values in zip(missing, grid, strict=True):
        z[i] = values.ravel()
    labelled = np.repeat(LABELS[:, q : q + 1], z.shape[1], axis=1)
    correct = np.repeat(RIGHT[:, q : q + 1], z.shape[1], axis=1)
    full = table(z, np.ones(z.shape, bool), correct, labelled)
    assert full.gaps is None
    return float(logsumexp(np.asarray(likelihood(PARAMS, full, copulas, LAYOUT.kinds)) + log_weight.ravel()))


slow = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("q", "copulas"),
    [
        (1, GUMBEL),
        *(pytest.param(q, GUMBEL, marks=slow) for q in (0, 2, 3, 4, 5, 6)),
        *(pytest.param(q, MIXED, marks=slow) for q in range(7)),
    ],
)
def test_missing_values_are_integrated_over(q: int, copulas: tuple[Copula, ...]) -> None:
    """Cells against Gauss-Legendre nodes, in nats of one query's density."""
    got = likelihood(PARAMS, table(Z, SEEN, RIGHT, LABELS), copulas, LAYOUT.kinds)
    assert got.shape == (7,)
    assert float(got[q]) == pytest.approx(by_quadrature(q, 24, copulas), abs=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [LAYOUT.kinds, ("mixed",) * 4])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_each_pair_has_its_own_family(length: int, kinds: tuple[Kind, ...]) -> None:
    """Prefixes tell the pairs apart. With equal kinds the first and last, of one family, share a call."""
    seen = np.repeat(np.arange(4)[:, None] < length, SEEN.shape[1], axis=1)
    prefixes = table(Z, seen, RIGHT, LABELS & seen)
    got = likelihood(PARAMS, prefixes, MIXED, kinds) - likelihood(
        PARAMS, prefixes, get_copulas("independence", 3), kinds
    )
    points = mixed.point(prefixes.z, jax.tree.map(lambda field: field[:, None, :], PARAMS.margins))
    wanted = sum(
        log_copula_ratio(family, take(points, i), take(points, i + 1), PARAMS.theta[i])
        for i, family in enumerate(MIXED[: length - 1])
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    assert np.abs(wanted).min() > 1e-3


def test_gap_over_atoms_alone_is_exact() -> None:
    """A model that answers in words: the sum over its words, to rounding."""
    locs = np.array([[NAN, NAN], [-0.5, 0.8], [NAN, NAN], [-1.0, INF]])
    probs = jnp.array([[0.0, 0.0], [0.3, 0.7], [0.0, 0.0], [0.3, 0.2]])
    params = PARAMS._replace(
        margins=PARAMS.margins._replace(atom_locs=jnp.asarray(locs), atom_probs=probs),
        atom_effect=jnp.array([[0.0, 0.0], [0.5, -0.9], [0.0, 0.0], [0.3, -1.1]]),
    )
    layout = AtomLayout(locs, locs, np.array([True, False, True, True]))
    seen = np.array([[True, False, True, True]]).T
    z, yes = np.array([[0.7, 0.0, 1.2, -1.0]]).T, np.ones((4, 1), bool)
    gaps = find_gaps(z, seen, yes, layout)
    with_gap = Observations(*(jnp.asarray(x) for x in (z, seen, yes, yes)), gaps=gaps)
    got = likelihood(params, with_gap, GUMBEL, layout.kinds)
    both = np.repeat(z, 2, axis=1)
    both[1] = locs[1]
    all_yes = np.ones((4, 2), bool)
    full = Observations(*(jnp.asarray(x) for x in (both, all_yes, all_yes, all_yes)))
    wanted = logsumexp(np.asarray(likelihood(params, full, GUMBEL, layout.kinds)))
    np.testing.assert_allclose(got, [wanted], rtol=1e-12)


@pytest.mark.slow
def test_prefixes_and_queries_with_gaps_keep_their_places() -> None:
    z = np.concatenate([Z, Z], axis=1)
    seen = np.concatenate([SEEN, np.ones_like(SEEN)], axis=1)
    seen[2:, 8] = False
    labels = np.concatenate([LABELS, LABELS & seen[:, 7:]], axis=1)
    right = np.concatenate([RIGHT, RIGHT], axis=1)
    order = np.random.default_rng(0).permutation(14)
    plain = likelihood(PARAMS, table(z, seen, right, labels), GUMBEL, LAYOUT.kinds)
    mixed_up = table(z[:, order], seen[:, order], right[:, order], labels[:, order])
    assert sorted(mixed_up.gaps.rows.tolist()) == sorted(np.flatnonzero(order < 7).tolist())
    got = likelihood(PARAMS, mixed_up, GUMBEL, LAYOUT.kinds)
    np.testing.assert_allclose(got, plain[order], rtol=1e-12)
    alone = table(z[:, 7:], seen[:, 7:], right[:, 7:], labels[:, 7:])
    assert alone.gaps is None
    np.testing.assert_allclose(plain[7:], likelihood(PARAMS, alone, GUMBEL, LAYOUT.kinds), rtol=1e-12)


def test_nothing_known_after_a_gap_needs_no_sum() -> None:
    """A row of values that are missing at the end, and one of none at all, are no gaps."""
    seen = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool).T
    z = np.zeros(seen.shape)
    assert find_gaps(z, seen, seen, LAYOUT) is None
    assert find_gaps(z, seen, np.ones_like(seen), LAYOUT).rows.tolist() == [0, 1]


@pytest.mark.long
def test_gradients_with_gaps() -> None:
    """The slope along one direction in all parameters, against a difference."""
    obs, m = table(Z, SEEN, RIGHT, LABELS), PARAMS.margins

    @jax.jit
    @jax.value_and_grad
    def total(x: tuple[Array, ...]) -> Array:
        theta, upstream, slope, shape, probs, *label_corr = x
        margins = MarginParams(m.atom_locs, probs, m.continuous._replace(scale=shape))
        params = PARAMS._replace(
            theta=theta, upstream=upstream, slope=slope, margins=margins, label_corr=LabelCorr(*label_corr)
        )
        return jnp.sum(log_likelihood(params, obs, GUMBEL, LAYOUT.kinds))

    calibration = PARAMS.upstream, PARAMS.slope
    at = (PARAMS.theta, *calibration, m.continuous.scale, m.atom_probs, *PARAMS.label_corr)
    rng = np.random.default_rng(0)
    # An empty slot's probability is no parameter: it stays 0.
    ahead = [jnp.asarray(np.where(np.asarray(x) == 0, 0.0, rng.normal(size=x.shape))) for x in at]
    step = 1e-6
    low, high = (total(tuple(x + s * a for x, a in zip(at, ahead, strict=True)))[0] for s in (-step, step))
    slope = sum(float(jnp.sum(g * a)) for g, a in zip(total(at)[1], ahead, strict=True))
    assert slope == pytest.approx(float(high - low) / (2 * step), rel=1e-5)


def test_cells_tile_the_scale() -> None:
    cells = make_cells(np.array([-INF, 0.4, INF]), continuous=True, num_cells=6)
    assert cells.is_atom.sum() == 3
    assert cells.is_atom[0]
    assert cells.is_atom[-1]
    np.testing.assert_array_equal(cells.edge[[0, -1]], [-INF, INF])
    assert cells.edge.size == cells.middle.size + 1
    assert np.all(np.diff(cells.edge[1:-1]) >= 0)
    # Each atom lies between an edge just before and one just after it.
    at = np.flatnonzero(cells.is_atom)
    assert not cells.after[at].any()
    assert cells.after[at + 1].all()
    np.testing.assert_array_equal(cells.edge[at], [-INF, 0.4, INF])
    assert np.all((cells.middle >= cells.edge[:-1]) & (cells.middle <= cells.edge[1:]))
    # No cell has a part in two levels.
    inside = np.nextafter(cells.edge[:-1], INF), np.nextafter(cells.edge[1:], -INF)
    between = ~cells.is_atom
    np.testing.assert_array_equal(*(find_levels(jnp.asarray(end[between])) for end in inside))
    words = make_cells(np.array([-1.0, 2.0]), continuous=False)
    assert words.is_atom.all()
    np.testing.assert_array_equal(words.middle, [-1.0, 2.0])


def test_every_step_is_taken_by_each_query_once() -> None:
    gaps = table(Z, SEEN, RIGHT, LABELS).gaps
    assert {way.states for step in gaps.steps for way in step} >= {
        ("point", "missing"),
        ("missing", "point"),
        ("missing", "missing"),
        ("atom", "missing"),
        ("missing", "atom"),
        ("point", "point"),
    }
    for step in gaps.steps:
        rows = np.concatenate([way.rows for way in step])
        assert sorted(rows) == list(range(7))


@pytest.mark.long
def test_log_of_a_running_cascade_recovers_what_its_complete_rows_distort() -> None:
    """Accuracy of the second model over all queries, from a log that shows it on the hard ones only."""
    truth = example.load_truth()
    keep = np.array([0, 2])
    by_model = truth.params._replace(label_corr=LabelCorr(jnp.zeros(5), jnp.zeros(5)))
    params = jax.tree.map(lambda x: x[keep] if x.shape[0] == 5 else x[1:2], by_model)
    params = params._replace(upstream=jnp.array([0.0, 0.4]), label_corr=truth.params.label_corr)
    cascade = Cascade(
        params,
        truth.copulas[:1],
        (truth.models[0], truth.models[2]),
        truth.call_cost[keep],
        truth.confidence_map.select([0, 2]),
    )
    everything = simulate(cascade, 100_000, seed=1)
    wanted = everything.correct[:, 1].mean()
    table = simulate(cascade, 1200, seed=2)
    threshold = np.quantile(table.confidence[:, 0], 0.5)
    asked = np.stack([np.ones(1200, bool), table.confidence[:, 0] < threshold], axis=1)
    log = replace(
        table,
        confidence=np.where(asked, table.confidence, NAN),
        cost=np.where(asked, table.cost, NAN),
        labelled=asked,
        correct=table.correct & asked,
    )

    def accuracy(data: CascadeData) -> Array:
        post = fit(data, seed=0, num_chains=2, num_warmup=150, num_samples=150, max_rounds=1, progress=False)
        tables = [simulate(post.cascade(draw), 3000, seed=draw) for draw in range(0, 300, 6)]
        return np.array([t.correct[:, 1].mean() for t in tables])

    ours, naive = accuracy(log), accuracy(log.take(asked[:, 1]))
    # Each draw's accuracy has a simulation error of 0.009 besides.
    assert np.quantile(ours, 0.005) < wanted < np.quantile(ours, 0.995)
    assert naive.max() < wanted - 0.05
