"""Every method on every kind of gap, and what a fit with random gaps has in common with a complete one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gap_tables import make_table, with_gaps, without

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import ConvergenceWarning, DataWarning
from cascade_bayes.inference.batch import _chunks
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.options import GUIDES, FitOptions
from cascade_bayes.inference.padded_table import PaddedTable
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.preparation import Prepared, prepare
from cascade_bayes.model.priors import Priors

Array = Any
FEW = Priors(num_components=2)
TABLE = make_table(3, 60, seed=2)
TABLES = with_gaps(TABLE)
METHODS = [("nuts", "full_rank"), ("auto", "full_rank"), ("laplace", "full_rank"), ("map", "full_rank")]
METHODS += [("svi", guide) for guide in GUIDES]


def prepared(data: CascadeData, **options: Any) -> Prepared:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return prepare(data, FitOptions(seed=0, priors=FEW, **options))


def quick_fit(data: CascadeData, method: str, guide: Any = "full_rank", **options: Any) -> Posterior:
    """Fit with so few draws and steps that compiling is most of it."""
    few: dict[str, Any] = {
        "num_chains": 2,
        "num_warmup": 20,
        "num_samples": 20,
        "max_rounds": 1,
        "num_steps": 30,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(data, method, guide=guide, seed=0, priors=FEW, progress=False, **(few | options))


def certain(data: CascadeData) -> CascadeData:
    """Return the table with every fifth confidence exactly certain."""
    at = np.arange(data.num_queries) % 5 == 0
    return replace(data, confidence=np.where(at[:, None], 1.0, data.confidence))


@pytest.mark.slow
def test_the_pattern_of_gaps_serves_both_arithmetics() -> None:
    """NUTS reads a chain in 64 bits, approximations then in 32: neither may trip over the other's indices."""
    table = certain(make_table(2, 30))
    gaps = without(table, np.random.default_rng(0).random(table.confidence.shape) < 0.4)
    one = prepared(gaps, structure="chain")
    assert len(one.obs.gaps.steps[0]) == 4  # from a value, an atom and nothing to nothing, and back
    (module,) = PaddedTable(one, one.spec.kind, gaps.num_queries).modules()
    target, data = module.lanes
    for bits in (64, 32):
        dtype = jnp.dtype(f"float{bits}")

        def in_bits(field: Any, dtype: Any = dtype) -> Any:
            floating = jnp.issubdtype(field.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(field.shape[1:], dtype if floating else field.dtype)

        with jax.enable_x64(bits == 64):
            x = jax.ShapeDtypeStruct((target.dim,), dtype)
            found = jax.eval_shape(target.potential, x, jax.tree.map(in_bits, data))
        assert found.dtype == dtype


def test_random_gaps_need_no_program_of_their_own() -> None:
    """They cost what a complete table costs: the same model, arrays of the same shapes, no sum over cells."""
    complete = prepared(TABLE)
    shapes = [x.shape for x in jax.tree.leaves(complete.obs)]
    for name in set(TABLES) - {"log"}:
        one = prepared(TABLES[name])
        assert one.spec.kind == complete.spec.kind, name
        assert one.obs.gaps is None
        assert [x.shape for x in jax.tree.leaves(one.obs)] == shapes
        (_, _, size, *_), *others = _chunks({0: complete, 1: one, 2: prepared(TABLES["log"])}, 50)
        assert size is not None
        assert len(others) == 1  # the log, a chain


def test_a_modular_fit_reads_labels_at_their_confidences() -> None:
    gaps = TABLES["here and there"]
    assert gaps.labelled.all()
    one = prepared(gaps)
    np.testing.assert_array_equal(one.obs.labelled, gaps.observed.T)
    np.testing.assert_array_equal(one.obs.correct, (gaps.correct & gaps.observed).T)
    chain = prepared(gaps, structure="chain")
    assert chain.obs.labelled.all()
    assert chain.obs.gaps is not None


def test_claims_are_those_of_all_confidences_where_gaps_are_random() -> None:
    """One query in five has all of five models; each model's own claims are known well all the same."""
    table = make_table(5)
    gaps = without(table, np.random.default_rng(0).random(table.confidence.shape) < 0.3)
    assert gaps.observed.all(axis=1).mean() < 0.25
    found, wanted = prepared(gaps).spec.known_anchors.claims, prepared(table).spec.known_anchors.claims
    np.testing.assert_allclose(found, wanted, atol=0.15)
    assert np.isnan(prepared(TABLES["log"]).spec.known_anchors.claims).all()


SLOW = [("laplace", "full_rank"), ("svi", "mean_field")]
"""Methods that are tried on all kinds of gaps before every change; each takes a minute or more."""


@pytest.mark.parametrize(
    ("method", "guide"),
    [pytest.param(*each, marks=pytest.mark.slow if each in SLOW else pytest.mark.long) for each in METHODS],
)
def test_every_method_on_every_kind_of_gap(method: str, guide: str) -> None:
    for name, gaps in TABLES.items():
        posterior = quick_fit(gaps, method, guide)
        assert posterior.spec.structure == ("chain" if name == "log" else "modular"), name
        assert all(np.isfinite(values).all() for values in posterior.samples.values()), name
        assert posterior.num_draws == (1 if method == "map" else 40)


@pytest.mark.long
@pytest.mark.parametrize(("method", "guide"), METHODS)
def test_every_method_on_a_chain_with_gaps_inside(method: str, guide: str) -> None:
    gaps = with_gaps(certain(TABLE))["here and there"]
    posterior = quick_fit(gaps, method, guide, structure="chain")
    assert posterior.spec.structure == "chain"
    assert all(np.isfinite(values).all() for values in posterior.samples.values())


@pytest.mark.slow
def test_a_complete_table_and_one_with_random_gaps_agree() -> None:
    """A fifth left out at random moves no mean by more than the posterior is wide, and 0 on average."""
    table = make_table(3, 400, seed=4)
    gaps = without(table, np.random.default_rng(6).random(table.confidence.shape) < 0.2)
    two = [quick_fit(data, "laplace", num_samples=500) for data in (table, gaps)]
    for name in ("intercept", "slope", "tau"):
        complete, some = (fitted.samples[name].reshape(1000, -1) for fitted in two)
        distance = (some.mean(axis=0) - complete.mean(axis=0)) / some.std(axis=0)
        # Of nested samples, the second of 0.8 the size (pairs 0.64), it is some 0.45 (0.6) in size.
        assert np.abs(distance).max() < 2.0, name
        assert (some.std(axis=0) > complete.std(axis=0)).mean() > 0.5, name
    complete, some = (fitted.params().margins for fitted in two)
    from cascade_bayes.distributions import mixed

    at = jnp.array([-1.0, 0.0, 1.0])

    def distribution(margins: Any) -> Array:
        def one(draw: Any) -> Array:
            return mixed.point(at[None], jax.tree.map(lambda field: field[:, None], draw)).upper.value

        return np.asarray(jax.lax.map(one, margins))

    left, right = distribution(complete), distribution(some)
    assert np.abs((right.mean(axis=0) - left.mean(axis=0)) / right.std(axis=0)).max() < 2.0
