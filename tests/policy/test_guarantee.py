"""The promise that trusts no model: its tests, its bounds, its gaps, and how often it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gap_tables import log_of, make_table
from scipy import stats

from cascade_bayes import InfeasibleError, InputError, Policy, Terms
from cascade_bayes.data import CascadeData
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.guarantee import (
    binomial_p_value,
    guarantee,
    labels_needed,
    losses,
    num_passed,
)
from cascade_bayes.policy.mean_bound import upper_mean
from cascade_bayes.policy.points import PricedPolicies

THRESHOLDS = (0.95, 0.8, 0.6, 0.4, 0.2, 0.02)


def policies_of(error: float = 0.3) -> list[Policy]:
    """Policies of two models, the safest first; their predictions are wrong on purpose."""
    return [
        Policy(
            models=("a", "b"),
            thresholds=np.array([t]),
            draw_thresholds=np.zeros((0, 1)),
            error_price=float(100 * t),
            question={"error_price": float(100 * t)},
            prediction=Prediction(
                error - t / 10, 0.0, 1.0, 1 + 10 * t, 0.0, 11.0, (1.0, t), 1 + 10 * t, 0.0, 11.0
            ),
            kind="probability",
            call_cost=np.array([1.0, 10.0]),
            fit_digest="0" * 64,
        )
        for t in THRESHOLDS
    ]


class Points(PricedPolicies):
    """A frontier that is its policies."""

    def policy(self, index: int) -> Policy:
        return sorted(policies_of(), key=lambda policy: policy.error_price)[index]

    def _policy_at(self, error_price: float) -> Policy:
        raise NotImplementedError

    _constrained = _draws = _policy_at  # type: ignore[assignment]


@pytest.fixture
def frontier_file(tmp_path: Path) -> Path:
    first = policies_of()[0]
    names = ("kind", "call_cost", "fit_digest", "terms", "fit_verdict", "units")
    prices = np.sort([policy.error_price for policy in policies_of()])
    path = tmp_path / "frontier.json"
    Points(error_prices=prices, context={name: getattr(first, name) for name in names}).save(path)
    return path


def table_of(num_queries: int, seed: int) -> CascadeData:
    """Labels of the second model are right more often."""
    data = make_table(2, num_queries, seed=seed)
    better = data.correct | (np.random.default_rng(seed + 1).random(data.correct.shape) < [0.0, 0.6])
    return replace(data, correct=better)


def frame_of(data: CascadeData) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query": np.repeat(data.query_ids, data.num_models),
            "model": np.tile(data.models, data.num_queries),
            "confidence": data.confidence.ravel(),
            "correct": data.correct.ravel(),
            "cost": data.cost.ravel(),
        }
    )


def test_p_values_are_those_of_the_binomial() -> None:
    for wrong, count, target in ((0, 5, 0.3), (7, 40, 0.25), (40, 40, 0.25), (113, 1000, 0.13)):
        exact = stats.binom.cdf(wrong, count, target)
        assert binomial_p_value(wrong, count, target) == pytest.approx(exact, rel=1e-10)


def test_the_sequence_stops_at_the_first_failure() -> None:
    assert num_passed([0.06, 0.0], 0.05) == 0
    assert num_passed([0.05, 0.0], 0.05) == 2


def test_errors_and_costs_are_those_of_evaluate() -> None:
    data = table_of(300, 5)
    for policy in policies_of():
        found, realised = losses(data, policy, 11.0), policy.evaluate(data).realised
        assert found.wrong.mean() == realised.error
        assert found.cost.mean() == pytest.approx(realised.cost)
    low = {
        "abstain_thresholds": np.array([0.1, 0.2]),
        "draw_abstain_thresholds": np.zeros((0, 2)),
        "terms": Terms(abstain_price=1.0),
    }
    abstaining = replace(policies_of()[1], **low)
    found, realised = losses(data, abstaining, 11.0), abstaining.evaluate(data).realised
    assert found.wrong.mean() == realised.error
    assert found.abstained.mean() == realised.abstain > 0


def test_what_is_certified_is_the_cheapest_that_passed() -> None:
    found = guarantee(policies_of(), table_of(2000, 6), target_error=0.3)
    certified = [row for row in found.tested if row["certified"]]
    assert 1 < len(certified) < len(found.tested) < len(THRESHOLDS) + 1
    assert found.policy.error_price == certified[-1]["error_price"]
    assert all(row["p_value"] <= 0.05 for row in certified)
    assert found.tested[-1]["p_value"] > 0.05
    assert found.cost < found.cost_bound < 1.15 * found.cost
    assert "whatever the model is worth" in found.sentence()


def test_order_looks_at_no_label() -> None:
    """Predictions alone say which policy is tested first, however wrong they are."""
    data = table_of(500, 7)
    for target in (0.3, 0.45):
        one = guarantee(policies_of()[::-1], data, target_error=target)
        prices = [row["error_price"] for row in one.tested]
        assert prices == sorted(prices, reverse=True)


def test_gaps_count_against_a_policy() -> None:
    data, policy = table_of(1000, 8), policies_of()[2]
    first = data.confidence[:, 0] >= 0.6
    log = log_of(data, ~first)
    assert not losses(log, policy, 11.0).unknown.any()
    stricter = losses(log, policies_of()[1], 11.0)  # asks the second model where the log did not
    np.testing.assert_array_equal(stricter.unknown, first & (data.confidence[:, 0] < 0.8))
    assert stricter.wrong[stricter.unknown].all()
    assert (stricter.cost[stricter.unknown] == 11.0).all()
    some = replace(data, labelled=data.labelled.copy(), correct=data.correct.copy())
    labelled, correct = data.labelled.copy(), data.correct.copy()
    labelled[:100], correct[:100] = False, False
    labelled[100:120, 1], correct[100:120, 1] = False, False
    some = replace(data, labelled=labelled, correct=correct)
    found = guarantee([policies_of()[0]], some, target_error=0.5)
    assert (found.num_queries, found.num_left_out) == (900, 100)
    assert found.num_unknown == int((data.confidence[100:120, 0] < 0.95).sum())
    with pytest.raises(InputError, match="has no labels"):
        guarantee(
            policies_of(), replace(data, labelled=labelled & False, correct=correct & False), target_error=0.3
        )


def test_nothing_to_certify_says_how_many_labels_it_takes() -> None:
    with pytest.raises(InfeasibleError, match=r"about ([\d,]+) labelled queries would certify") as caught:
        guarantee(policies_of(), table_of(30, 9), target_error=0.3)
    needed = int(str(caught.value).split("about ")[1].split(" ")[0].replace(",", ""))
    error = losses(table_of(30, 9), policies_of()[0], 11.0).wrong.mean()
    assert stats.binom.cdf(np.ceil(error * needed), needed, 0.3) <= 0.05
    with pytest.raises(InfeasibleError, match="no number of labels"):
        guarantee(policies_of(), table_of(300, 9), target_error=0.05)
    assert labels_needed(0.2, 0.2, 0.05) is None


def test_what_a_failure_offers_can_be_certified() -> None:
    with pytest.raises(InfeasibleError) as caught:
        guarantee(policies_of(), table_of(300, 9), target_error=0.05)
    offered = float(str(caught.value).split("at least ")[1].split(",")[0])
    guarantee(policies_of(), table_of(300, 9), target_error=offered + 1e-4)


def test_arguments_are_checked() -> None:
    for name, value in (("target_error", 0.0), ("target_error", 1.0), ("delta", 0.0), ("delta", 1.5)):
        with pytest.raises(InputError, match=f"{name} must lie between 0 and 1"):
            guarantee(policies_of(), table_of(30, 9), **{"target_error": 0.3, name: value})
    with pytest.raises(InputError, match="one query of the hold-out table costs 11"):
        guarantee(policies_of(), table_of(30, 9), target_error=0.3, max_cost=5.0)
    with pytest.raises(InputError, match="at least one policy"):
        guarantee([], table_of(30, 9), target_error=0.3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_mean_is_below_its_bound(share: float) -> None:
    """Of 1000 tables no more than delta have a bound below the mean, plus three standard errors."""
    rng, failed, widths = np.random.default_rng(3), 0, []
    for _ in range(1000):
        values = np.where(rng.random(200) < share, 1.0, 0.1)
        bound = upper_mean(values, 0.05)
        failed += bound < 0.1 + 0.9 * share
        widths.append(bound - values.mean())
    assert failed / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(widths) < 0.12


def test_certified_errors_are_exceeded_at_most_delta_of_the_time() -> None:
    """A policy whose error is the target exactly is certified by a share of delta of tables at most."""
    truth = table_of(200_000, 10)
    errors = [losses(truth, policy, 11.0).wrong.mean() for policy in policies_of()]
    target = float(errors[2])  # this one and those after are at or above it
    rng, failed, tables = np.random.default_rng(4), 0, 1000
    wrong = np.stack([losses(truth, policy, 11.0).wrong for policy in policies_of()])
    for _ in range(tables):
        drawn = wrong[:, rng.integers(0, truth.num_queries, 400)].sum(axis=1)
        failed += num_passed([binomial_p_value(int(k), 400, target) for k in drawn], 0.05) > 2
    assert 0.01 < failed / tables <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / tables)


def run(*words: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cascade_bayes.cli", "guarantee", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_certifies_writes_and_refuses(frontier_file: Path, tmp_path: Path) -> None:
    path, policy_file = tmp_path / "holdout.csv", tmp_path / "policy.json"
    frame_of(table_of(1000, 11)).to_csv(path, index=False)
    done = run(frontier_file, path, "--target-error", 0.3, "-o", policy_file, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["num_queries"] == 1000
    assert Policy.load(policy_file).error_price == record["error_price"]
    in_python = Points(
        error_prices=np.sort([p.error_price for p in policies_of()]),
        context={"units": policies_of()[0].units},
    ).guarantee(path, target_error=0.3)
    assert in_python.sentence() == record["sentence"]
    refused = run(frontier_file, path, "--target-error", 0.1)
    assert refused.returncode == 4
    assert "Infeasible: no policy of the frontier can be certified" in refused.stderr
