"""What a table's numbers are, from the table through its fit to policies and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cascade_bayes._units import AS_THEY_STAND, Units
from cascade_bayes.errors import InputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.deciding import ABSTAIN
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.policy import Policy
from cascade_bayes.reading import read_table


def made(kind: str, threshold: float, units: Units = AS_THEY_STAND, **changes: Any) -> Policy:
    """Return a policy of two models."""
    entries: dict[str, Any] = {
        "models": ("small", "large"),
        "thresholds": np.array([threshold]),
        "draw_thresholds": np.array([[threshold], [threshold]]),
        "error_price": 0.01,
        "question": {"error_price": 0.01},
        "prediction": Prediction(
            0.3, 0.2, 0.4, 1.0, 0.5, 1.5, (1.0, 0.5), 1.0, 0.5, 1.5, 0.0, 0.0, 0.0, None, None, None
        ),
        "kind": kind,
        "call_cost": np.array([0.001, 0.02]),
        "fit_digest": "0123456789abcdef" * 4,
        "units": units,
    }
    return Policy(**entries | changes)


def table(confidences: list[Any]) -> pd.DataFrame:
    """As many queries as confidences of the first model."""
    names = [f"q{i}" for i in range(len(confidences))]
    first = pd.DataFrame(
        {"query": names, "model": "small", "confidence": confidences, "correct": 1, "cost": 0.1}
    )
    return pd.concat([first, first.assign(model="large", cost=0.2)], ignore_index=True)


GIVEN = {
    "nll": ("logprob", -0.105, [0.1, 0.2, 0.0]),
    "perplexity": ("logprob", -0.105, [1.1, 1.2, 1.0]),
    "percent": ("probability", 0.9, [90, 89.9, 100]),
    "uncertainty": ("probability", 0.9, [0.1, 0.11, 0.0]),
}
"""Kind of the thresholds, a threshold, and confidences of which the second alone is below it."""


@pytest.mark.parametrize("name", GIVEN)
def test_a_policy_is_told_what_it_decides_on(name: str) -> None:
    kind, threshold, confidences = GIVEN[name]
    policy = made(kind, threshold, Units(given_as=name))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf'confidence="{name}"\) or decide\(..., confidence="{kind}"\)\.'):
        policy.decide([confidences[0]])
    expected = ["small", "large", "small"]
    assert [policy.decide([c], confidence=name) for c in confidences] == expected
    read = read_table(table(confidences), confidence=name).confidence[:, 0].tolist()
    assert [policy.decide([c], confidence=kind) for c in read] == expected
    columns = np.array([confidences, confidences], dtype=float).T
    assert policy.decide(columns, confidence=name).tolist() == [0, 1, 0]
    assert policy.decide(columns.tolist(), confidence=name).tolist() == [0, 1, 0]
    assert policy.decide(columns.astype(object), confidence=name).tolist() == [0, 1, 0]
    assert policy.decide([float("nan"), confidences[0]], confidence=name) == "large"
    assert policy.decide([None], confidence=name) is None
    with pytest.raises(InputError, match=rf"for kind '{name}'; got -1.0"):
        policy.decide([-1], confidence=name)
    with pytest.raises(InputError, match=r"are read as 'score'\. Give them as one of"):
        policy.decide([1.0], confidence="score")
    with pytest.raises(TypeError, match="must be a number"):
        policy.decide([True], confidence=name)


def test_what_is_decided_on_may_be_said_of_any_policy() -> None:
    policy = made("logprob", -0.105)
    assert policy.decide([-0.2]) == "large"
    assert policy.decide([-0.2], confidence="logprob") == "large"
    assert policy.decide([0.2], confidence="nll") == "large"
    assert policy.decide([0.1], confidence="nll") == "small"
    with pytest.raises(InputError, match="confidence must be one of the kinds"):
        policy.decide([0.1], confidence="odds")


def test_grades_are_decided_on_as_words_or_scores() -> None:
    policy = made("score", 2.5, Units(grades=("low", "medium", "high")))
    said = [policy.decide([c]) for c in ("low", "Medium", " HIGH", 2, 3.0)]
    assert said == ["large", "large", "small", "large", "small"]
    assert policy.decide([["low", "high"], ["high", "high"]]).tolist() == [1, 0]
    assert policy.decide(np.array([["low", "x"]], dtype=object)[:, :1]).tolist() == [1]
    with pytest.raises(InputError, match="one of the grades 'low', 'medium', 'high'; got 'sure'"):
        policy.decide(["sure"])


@pytest.mark.parametrize(
    "units", [AS_THEY_STAND, Units(cost="deferrals"), Units(given_as="nll"), Units("deferrals", "perplexity")]
)
def test_a_file_of_a_policy_keeps_its_units(units: Units, tmp_path: Path) -> None:
    policy = made("logprob", -0.1, units)
    policy.save(tmp_path / "p.json")
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["cost_unit"] == f"{units.cost} per query"
    assert ("given_as" in record) == (units.given_as is not None)
    assert Policy.load(tmp_path / "p.json").units == units


def test_a_file_of_a_policy_keeps_its_grades(tmp_path: Path) -> None:
    units = Units(grades=("low", "high"))
    made("score", 1.5, units).save(tmp_path / "p.json")
    assert Policy.load(tmp_path / "p.json").units == units


@pytest.mark.parametrize(
    ("kind", "units", "said"),
    [
        ("logprob", Units(given_as="percent"), "`given_as` must be a kind that is read as `kind`, 'logprob'"),
        ("logprob", Units(grades=("low", "high")), "`grades` must not be there but for"),
        ("score", Units(grades=("low", "LOW")), "`grades` must be different words"),
        ("score", Units(grades=("low",)), "`grades` must be a list of length >= 2"),
    ],
)
def test_units_that_do_not_go_together(kind: str, units: Units, said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(kind, 1.0 if kind == "score" else -1.0, units)


def test_a_policy_reads_a_table_like_the_one_it_was_tuned_on() -> None:
    for name, (kind, threshold, confidences) in GIVEN.items():
        policy = made(kind, threshold, Units(given_as=name))  # type: ignore[arg-type]
        data = policy.read(table(confidences))
        expected = read_table(table(confidences), confidence=name)
        np.testing.assert_array_equal(data.confidence, expected.confidence)
        assert data.units == policy.units
        already = policy.read(table(expected.confidence[:, 0].tolist()), confidence=kind)
        np.testing.assert_array_equal(already.confidence, expected.confidence)
        with pytest.raises(InputError, match="'score' would be read as 'score'"):
            policy.read(table(confidences), confidence="score")
    graded = made("score", 1.5, Units(grades=("low", "high")))
    assert graded.read(table(["low", "high"])).confidence[:, 0].tolist() == [1, 2]
    other = read_table(table(["low", "high"]), grades=["low", "medium", "high"])
    with pytest.raises(InputError, match="the table has the grades low, medium, high, the policy low, high"):
        graded.evaluate(other)


def test_costs_of_a_policy_in_deferrals() -> None:
    """Those of its fit: of a policy without the first model of the fit, every call is a deferral."""
    units = Units(cost="deferrals")
    policy = made("logprob", -0.105, units, call_cost=np.array([1.0, 1.0]))
    data = policy.read(table([-0.1, -0.2]).drop(columns="cost"))
    assert data.cost.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    np.testing.assert_array_equal(policy.read(table([-0.1, -0.2])).cost, data.cost)
    assert policy.evaluate(table([-0.1, -0.2])).to_dict()["realised_cost"] == 1.5
    with pytest.raises(InputError, match="the table has costs in US dollars, the policy in deferrals"):
        policy.evaluate(read_table(table([-0.1, -0.2])))
    with pytest.raises(InputError, match="this one has costs in US dollars"):
        made("logprob", -0.1).read(table([-0.1]), costs=False)


def test_a_posterior_keeps_its_units(small_posterior: Posterior, tmp_path: Path) -> None:
    for units in (AS_THEY_STAND, Units("deferrals", "nll")):
        data = replace(small_posterior.data, units=units)
        replace(small_posterior, data=data).save(tmp_path / "p.nc")
        assert Posterior.load(tmp_path / "p.nc").data.units == units


def test_abstaining_is_no_answer_on_any_scale() -> None:
    terms = {
        "abstain_thresholds": np.array([-1.0, -np.inf]),
        "draw_abstain_thresholds": np.zeros((2, 2)) - np.inf,
    }
    from cascade_bayes.policy.terms import Terms

    policy = made("logprob", -0.105, Units(given_as="nll"), terms=Terms(abstain_price=0.1), **terms)
    assert policy.decide([2.0], confidence="nll") is ABSTAIN
