"""The bundled example: readable, as its truth says, and remade to the same tables."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cascade_bayes.example import load_truth, test_path, train_path, truth_from_record
from cascade_bayes.example.make_example import true_record, write_example
from cascade_bayes.model.simulate import simulate
from cascade_bayes.reading import read_table
from cascade_bayes.transforms import link

PATHS = {"train": train_path(), "test": test_path()}
NUM_SIMULATED = 8_000


@pytest.fixture(scope="module")
def truth():
    return load_truth()


@pytest.fixture(scope="module")
def tables():
    return {part: read_table(path, confidence="logprob") for part, path in PATHS.items()}


@pytest.fixture(scope="module")
def simulated(truth):
    return simulate(truth, NUM_SIMULATED, 1)


@pytest.mark.parametrize(("part", "num_queries"), [("train", 300), ("test", 1000)])
def test_tables_are_complete_and_in_the_order_of_the_truth(tables, truth, part, num_queries):
    data = tables[part]
    assert data.num_queries == num_queries
    assert data.models == truth.models
    assert data.observed.all()
    assert data.labelled.all()
    np.testing.assert_allclose(data.call_cost, truth.call_cost, rtol=1e-12)


def test_train_and_test_share_no_query(tables):
    assert not set(tables["train"].query_ids) & set(tables["test"].query_ids)


def test_prices_span_a_factor_of_thirty(truth):
    assert truth.call_cost.max() >= 30 * truth.call_cost.min()
    assert (np.diff(truth.call_cost) > 0).all()


@pytest.mark.parametrize("part", PATHS)
def test_exactly_one_model_has_an_atom_at_certainty(tables, truth, part):
    certain = (tables[part].confidence == 0.0).sum(axis=0)
    assert np.flatnonzero(certain).tolist() == [truth.models.index("large-70b")]
    assert certain.max() >= 0.1 * tables[part].num_queries
    assert (np.asarray(truth.params.margins.atom_probs).sum(axis=1) > 0).sum() == 1


def _columns(data):
    """Per model and query: right, certain, right where certain, finite logit of the probability."""
    certain = data.confidence == 0.0
    logit = link(data.confidence, "logprob")
    right = data.correct.astype(float)
    return {
        "accuracy": right,
        "atom": certain.astype(float),
        "accuracy at the atom": np.where(certain, right, np.nan),
        "mean logit": np.where(certain, np.nan, logit),
    }


@pytest.mark.parametrize("part", PATHS)
@pytest.mark.parametrize("what", ["accuracy", "atom", "accuracy at the atom", "mean logit"])
def test_means_lie_within_four_standard_errors_of_the_truth(tables, simulated, part, what):
    seen, true = _columns(tables[part])[what], _columns(simulated)[what]
    for i, model in enumerate(simulated.models):
        a, b = (x[~np.isnan(x[:, i]), i] for x in (seen, true))
        if len(a) == len(b) == 0:
            continue
        # The spread is that of the large sample: a rate of a few queries may have none of its own.
        standard_error = b.std() * np.sqrt(1 / len(a) + 1 / len(b))
        assert abs(a.mean() - b.mean()) <= 4 * standard_error, model


@pytest.mark.parametrize("part", PATHS)
def test_neighbours_agree_as_the_copula_says(tables, truth, part):
    stats = pytest.importorskip("scipy.stats")
    data = tables[part]
    theta = np.asarray(truth.params.theta)
    # Where both margins are continuous, the pair's tau is that of the copula. Its standard error is
    # at most sqrt(2 (1 - tau**2) / n) (Kendall, "Rank Correlation Methods").
    for i in np.flatnonzero(~(data.confidence == 0.0).any(axis=0)[:-1]):
        if (data.confidence[:, i + 1] == 0.0).any():
            continue
        tau = 1 - 1 / theta[i]
        seen = stats.kendalltau(data.confidence[:, i], data.confidence[:, i + 1]).statistic
        assert abs(seen - tau) <= 4 * np.sqrt(2 * (1 - tau**2) / data.num_queries)


@pytest.mark.slow
def test_remaking_gives_the_committed_files(tmp_path):
    write_example(tmp_path)
    for path in PATHS.values():
        kept, made = pd.read_parquet(path), pd.read_parquet(tmp_path / path.name)
        exact = ["query", "model", "correct", "cost"]
        pd.testing.assert_frame_equal(kept[exact], made[exact])
        # Versions of JAX differ by roundings in the confidences.
        np.testing.assert_allclose(made["confidence"], kept["confidence"], rtol=1e-8)
    kept = json.loads((train_path().parent / "truth.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "truth.json").read_text(encoding="utf-8")) == kept


def test_files_are_small():
    assert sum(path.stat().st_size for path in PATHS.values()) < 200_000


def test_a_record_of_another_version_is_refused():
    with pytest.raises(ValueError, match=r"version 4; got .*, 5"):
        truth_from_record({**true_record(), "version": 5})


def test_paths_bring_no_heavy_import_of_their_own():
    code = (
        "import sys, cascade_bayes; before = set(sys.modules); "
        "from cascade_bayes.example import train_path; assert train_path().exists(); "
        "heavy = {'jax', 'pandas', 'numpyro', 'arviz'} & (set(sys.modules) - before); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=train_path().parents[2])


def test_is_there_as_an_attribute_of_the_package():
    code = "import cascade_bayes as cb; assert 'example' in dir(cb) and cb.example.train_path().exists()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=train_path().parents[2])
