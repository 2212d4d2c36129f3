"""Policy and frontier files: what is written, what is read of it, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade_bayes import InputError, Policy, Terms, load_policies
from cascade_bayes.cli.common import print_json
from cascade_bayes.cli.tables import frontier_table, policy_table
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.file import to_file
from cascade_bayes.policy.points import PricedPolicies
from cascade_bayes.rule import LOWEST
from cascade_bayes.verdict import FitVerdict

INF = np.inf


def made(**changes: Any) -> Policy:
    """Return a policy of three models that may leave queries without an answer."""
    entries = {
        "models": ("a", "b", "c"),
        "thresholds": np.array([-0.5, LOWEST]),
        "draw_thresholds": np.array([[-0.6, -INF], [-0.4, INF]]),
        "error_price": 0.01,
        "question": {"budget": 0.002, "probability": 0.9},
        "prediction": Prediction(
            0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6, 0.3), 2.0, 1.5, 2.5, 0.1, 0.05, 0.2, 1.0, 0.5, 2.0
        ),
        "kind": "logprob",
        "call_cost": np.array([1.0, 2.0, 4.0]),
        "fit_digest": "0123456789abcdef" * 4,
        "terms": Terms(abstain_price=0.002),
        "abstain_thresholds": np.array([-3.0, -INF, LOWEST]),
        "draw_abstain_thresholds": np.array([[-3.0, -INF, -INF], [-2.0, -INF, -5.0]]),
        "fit_verdict": FitVerdict(False, "Not to be trusted."),
    }
    return Policy(**entries | changes)  # type: ignore[arg-type]


class Swept(PricedPolicies):
    """Two policies at two prices."""

    def policy(self, index: int) -> Policy:
        price = float(self.error_prices[index])
        return made(error_price=price, question={"error_price": price})

    def _policy_at(self, error_price: float) -> Policy:
        raise NotImplementedError

    _constrained = _draws = _policy_at  # type: ignore[assignment]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A policy and a frontier."""
    one = made()
    names = ("kind", "call_cost", "fit_digest", "terms", "fit_verdict", "units")
    context = {name: getattr(one, name) for name in names}
    paths = {"policy": tmp_path / "policy.json", "frontier": tmp_path / "frontier.json"}
    one.save(paths["policy"])
    Swept(error_prices=np.array([0.01, 0.02]), context=context).save(paths["frontier"])
    return paths


def test_what_is_read_is_what_was_written(files: dict[str, Path]) -> None:
    text = files["policy"].read_text()
    record = json.loads(text, parse_constant=pytest.fail)
    assert record["thresholds"] == [-0.5, "lowest"]
    assert record["abstain_thresholds"] == [-3.0, "-inf", "lowest"]
    assert record["draw_thresholds"] == [[-0.6, "-inf"], [-0.4, "inf"]]
    assert record["fit_verdict"] == {"trusted": False, "sentence": "Not to be trusted."}
    assert record["schema_version"] == 3
    assert len(text.splitlines()[10]) < 40  # nothing in hundreds of digits
    back = Policy.load(files["policy"])
    assert back.to_dict() == made().to_dict()
    assert back.thresholds[1] == LOWEST
    assert back.fit_verdict == FitVerdict(False, "Not to be trusted.")
    points = load_policies(files["frontier"])
    assert [policy.error_price for policy in points] == [0.01, 0.02]
    for policy in points:
        np.testing.assert_array_equal(policy.abstain_thresholds, made().abstain_thresholds)
        assert policy.prediction == made().prediction
        assert (policy.terms, policy.fit_verdict) == (made().terms, made().fit_verdict)


def test_space_and_the_order_of_keys_are_no_change(files: dict[str, Path]) -> None:
    for path, load in ((files["policy"], Policy.load), (files["frontier"], load_policies)):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(record.items())), indent=4))
        load(path)


EDITED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another threshold": (
        lambda r: r["thresholds"].__setitem__(0, -0.25),
        "was changed after it was written",
    ),
    "another kind": (lambda r: r.update(confidence="score"), "was changed after it was written"),
    "the verdict on the fit": (lambda r: r["fit_verdict"].update(trusted=True), "was changed after"),
    "no digest": (lambda r: r.pop("content_digest"), "`content_digest` is missing"),
    "price of an error below 0": (
        lambda r: r.update(error_price=-1),
        "`error_price` must be a number > 0; got -1",
    ),
    "another currency": (
        lambda r: r.update(cost_unit="EUR"),
        "`cost_unit` must be 'US dollars per query' or 'deferrals per query'; got 'EUR'",
    ),
    "costs of too few models": (
        lambda r: r["call_cost"].pop(),
        "`call_cost` must have one entry a model, 3; got 2",
    ),
    "a truth for a threshold": (
        lambda r: r["thresholds"].__setitem__(0, True),
        "`thresholds[0]` must be a number, 'inf', '-inf' or 'lowest'; got True",
    ),
    "a kind that is none": (
        lambda r: r.update(confidence="grades"),
        "`confidence` must be 'logprob' or 'probability' or 'score'; got 'grades'",
    ),
    "abstaining without its price": (
        lambda r: r["terms"].update(abstain_price=None),
        "`abstain_thresholds` must be null where abstaining has no price",
    ),
    "abstaining early though finally": (
        lambda r: r["terms"].update(abstain="final"),
        "`abstain_thresholds[0]` must be '-inf' where only the last model abstains",
    ),
    "abstaining above deferring": (
        lambda r: r["abstain_thresholds"].__setitem__(0, -0.4),
        "`abstain_thresholds[0]` must not be above `thresholds[0]`, -0.5; got -0.4",
    ),
    "a probability among log-probabilities": (
        lambda r: r["thresholds"].__setitem__(0, 0.9),
        "`thresholds[0]` must be <= 0 for kind 'logprob', or infinite; got 0.9",
    ),
    "text for a figure": (
        lambda r: r["prediction"].update(error="0.3"),
        "`prediction.error` must be a number; got '0.3'",
    ),
    "a figure of 400 digits": (
        lambda r: r["prediction"].update(cost=10**400),
        "`prediction.cost` must be a number of 64 bits; got 1000",
    ),
    "no number": (
        lambda r: r["prediction"].update(cost=float("nan")),
        "`prediction.cost` must be a finite number; got nan",
    ),
    "an error above 1": (
        lambda r: r["prediction"].update(error_q95=1.5),
        "`prediction.error_q95` must be a number <= 1; got 1.5",
    ),
    "quantiles the other way": (
        lambda r: r["prediction"].update(error_q05=0.9),
        "`prediction.error_q05` must not be above `error_q95`; got 0.9 and 0.4",
    ),
    "a latency without quantiles": (
        lambda r: r["prediction"].update(latency_q05=None),
        "`prediction.latency` must be given with both its quantiles",
    ),
    "reached more often than the model before": (
        lambda r: r["prediction"].update(reach_prob=[1, 0.2, 0.3]),
        "`prediction.reach_prob[2]` must not be above the entry before, 0.2; got 0.3",
    ),
    "a first model that is not called": (
        lambda r: r["prediction"].update(reach_prob=[0.9, 0.6, 0.3]),
        "`prediction.reach_prob[0]` must be 1",
    ),
    "models that are no names": (lambda r: r["models"].__setitem__(1, 7), "`models[1]` must be text; got 7"),
    "a model twice": (
        lambda r: r["models"].__setitem__(1, "a"),
        "`models` must name each model once; 'a' is there",
    ),
    "no models": (lambda r: r.update(models=[]), "`models` must be a list of length >= 1; got a list of 0"),
    "two questions": (
        lambda r: r["question"].update(error_price=1.0),
        "`question` must ask exactly one of error_price, budget, target_error; got error_price and budget",
    ),
    "a question without how sure": (
        lambda r: r["question"].pop("probability"),
        "`question` needs a probability where it asks for budget",
    ),
    "draws of another cascade": (
        lambda r: r["draw_thresholds"][1].pop(),
        "`draw_thresholds[1]` must have 2 entries, as the policy; got 1",
    ),
    "an interval the other way": (
        lambda r: r["threshold_intervals_90"][0].reverse(),
        "`threshold_intervals_90[0]` must have its lower end first",
    ),
    "a digest that is none": (
        lambda r: r.update(fit_digest="f" * 63 + "\n"),
        "`fit_digest` must be 64 hexadecimal digits",
    ),
    "a part too many": (lambda r: r["terms"].update(tax=1), "it has an entry that is not known, 'terms.tax'"),
    "a part too few": (lambda r: r["terms"].pop("abstain"), "`terms.abstain` is missing"),
    "half a character": (
        lambda r: r["models"].__setitem__(1, "\ud800"),
        "`models[1]` must be text; got half a",
    ),
    "a newer version": (
        lambda r: r.update(schema_version=4),
        "reads versions 2 and 3. Update cascade_bayes, or",
    ),
    "a version that is none": (
        lambda r: r.update(schema_version=True),
        "has version True of the policy format",
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_what_is_wrong_in_a_policy_is_named(case: str, files: dict[str, Path]) -> None:
    edit, said = EDITED[case]
    path = files["policy"]
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    before = path.read_bytes()
    with pytest.raises(InputError) as refused:
        Policy.load(path)
    message = str(refused.value)
    assert said in message
    assert message.startswith(str(path))
    assert "cascade-bayes tune" in message
    assert len(message.splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: r.update(points=[]), "`points` must be a list of length >= 1"),
        (lambda r: r["points"][1].update(error_price=0.001), "`points[1].error_price` must not be below"),
        (
            lambda r: r["points"][1]["thresholds"].pop(),
            "`points[1].thresholds` must have one entry fewer than models",
        ),
        (
            lambda r: r["points"][0].update(expected_cost="dear"),
            "`points[0].expected_cost` must be a number; got 'dear'",
        ),
        (
            lambda r: r["points"][1]["reach_prob"].pop(),
            "`points[1].reach_prob` must have one entry a model, 3; got 2",
        ),
        (lambda r: r["points"][1].update(best_pair=[1, "a"]), "`points[1].best_pair[0]` must be text; got 1"),
        (lambda r: r["points"].__setitem__(0, 1), "`points[0]` must be an object; got 1"),
        (lambda r: r["points"].pop(), "was changed after it was written"),
    ],
)
def test_what_is_wrong_in_a_frontier_is_named(
    edit: Callable[[Any], Any], said: str, files: dict[str, Path]
) -> None:
    path = files["frontier"]
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError) as refused:
        load_policies(path)
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(path))


def test_files_of_version_2_are_read(files: dict[str, Path]) -> None:
    for path, load in ((files["policy"], Policy.load), (files["frontier"], load_policies)):
        record = json.loads(path.read_text())
        del record["content_digest"], record["fit_verdict"]
        record["schema_version"] = 2
        for holder in [record, *record.get("points", [])]:
            if "thresholds" in holder:  # lowest, and above the confidence of certainty
                holder.update(thresholds=[5e-324, LOWEST], abstain_thresholds=["-inf", "-inf", 5e-324])
        if "question" in record:
            record["question"] = {"budget": 0.002, "confidence": 0.9}
        path.write_text(json.dumps(record))
        loaded = load(path)
        for policy in [loaded] if isinstance(loaded, Policy) else loaded:
            np.testing.assert_array_equal(policy.thresholds, [INF, LOWEST])
            np.testing.assert_array_equal(policy.abstain_thresholds, [-INF, -INF, INF])
            assert policy.fit_verdict is None
    assert Policy.load(files["policy"]).question == {"budget": 0.002, "probability": 0.9}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"thresholds": np.array([0.9, -1.0])},
            InputError,
            "`thresholds[0]` must be <= 0 for kind 'logprob'",
        ),
        (
            {"thresholds": np.array([np.nan, -1.0])},
            InputError,
            "`thresholds[0]` must be a finite number; got nan",
        ),
        (
            {"thresholds": ["-0.5", "-1"]},
            TypeError,
            "thresholds of a policy must be numbers; got an array of <U4",
        ),
        (
            {"thresholds": [[-0.5, -1.0]]},
            InputError,
            "thresholds of a policy must have 1 axes; got shape (1, 2)",
        ),
        ({"thresholds": [[-0.5], [-1.0, 2.0]]}, InputError, "thresholds of a policy must be numbers in rows"),
        ({"thresholds": None}, InputError, "`thresholds` must be a list; got None"),
        ({"error_price": True}, InputError, "`error_price` must be a number; got True"),
        ({"error_price": INF}, InputError, "`error_price` must be a finite number; got inf"),
        (
            {"kind": "grades"},
            InputError,
            "`kind` must be 'logprob' or 'probability' or 'score'; got 'grades'",
        ),
        ({"kind": ["logprob"]}, InputError, "`kind` must be text; got a list of 1"),
        ({"models": "abc"}, TypeError, "models of a policy must be a tuple; got 'abc'"),
        ({"models": ("a", "b", "")}, InputError, "`models[2]` must be text of length >= 1; got ''"),
        ({"prediction": None}, TypeError, "prediction of a policy must be a Prediction; got None"),
        ({"question": {}}, InputError, "`question` must ask exactly one of"),
        (
            {"call_cost": np.array([1.0, -2.0, 4.0])},
            InputError,
            "`call_cost[1]` must be a number >= 0; got -2.0",
        ),
        ({"terms": Terms()}, InputError, "`abstain_thresholds` must be null where abstaining has no price"),
        ({"fit_digest": ""}, InputError, "`fit_digest` must be 64 hexadecimal digits; got ''"),
        ({"fit_verdict": "good"}, TypeError, "fit_verdict of a policy must be a FitVerdict; got 'good'"),
    ],
)
def test_policies_made_in_python_are_checked_alike(changes: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error) as refused:
        made(**changes)
    assert said in str(refused.value)


def test_what_was_checked_stays_so() -> None:
    thresholds = np.array([-0.5, -1.0])
    policy = made(thresholds=thresholds)
    thresholds[0] = -0.1
    assert policy.thresholds[0] == -0.5
    with pytest.raises(ValueError, match="read-only"):
        policy.thresholds[0] = 0.9
    assert replace(policy, error_price=np.float32(0.25)).error_price == 0.25


def test_numbers_of_numpy_are_stored_as_numbers() -> None:
    policy = made(
        error_price=np.float64(0.01),
        question={"budget": np.float64(0.002), "probability": np.float32(0.5)},
        call_cost=np.array([1, 2, 4]),
        terms=Terms(abstain_price=np.float64(0.002)),
    )
    assert json.loads(json.dumps(to_file(policy.record())))["question"] == {
        "budget": 0.002,
        "probability": 0.5,
    }


def printed(table: Any) -> str:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_tables_show_thresholds_that_decide_as_those_stored() -> None:
    policy = made(thresholds=np.array([-0.1 - 0.2, LOWEST]))
    shown = printed(policy_table(policy))  # in a window of 80 columns
    assert "-0.30000000000000004" in shown
    for said in ("(defers only exact -inf)", "(abstains only exact -inf)", "(never abstains)", " 60.0% "):
        assert said in shown
    assert shown.count(" lowest ") == 2
    assert "e+308" not in shown
    swept = Swept(error_prices=np.array([0.01, 0.02]), context={})
    shown = printed(frontier_table(swept.records()))
    assert " -0.5 " in shown
    assert " lowest " in shown
    assert "lowest: below it is exact -inf alone" in shown
    assert "e+308" not in shown


def test_prices_with_one_policy_are_one_row_of_the_table() -> None:
    rows = Swept(error_prices=np.array([0.01, 0.02, 0.04]), context={}).records()
    assert rows[0]["thresholds"] == rows[2]["thresholds"]
    last = dict(rows[2], thresholds=[0.25, *rows[2]["thresholds"][1:]])
    shown = printed(frontier_table([*rows[:2], last]))
    assert " 0.01 to " in shown
    assert " 0.02 " in shown
    assert shown.count(" -0.5 ") == 1
    assert shown.count(" 0.25 ") == 1


def test_json_for_other_programs_has_null_where_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), (1.5, -INF)], "b": {"c": np.float64("nan")}})
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown == {"a": [None, [1.5, "-inf"]], "b": {"c": None}}


def test_pictures_of_thresholds_leave_out_what_is_no_number() -> None:
    from cascade_bayes.plots import plot_thresholds

    draws = np.array([[-0.6, LOWEST], [-0.4, LOWEST], [-0.5, -0.7], [-0.5, -0.9]])
    policy = made(
        thresholds=np.array([-0.5, LOWEST]),
        draw_thresholds=draws,
        abstain_thresholds=None,
        draw_abstain_thresholds=None,
        prediction=made().prediction._replace(abstain=0.0, abstain_q05=0.0, abstain_q95=0.0),
    )
    axes = plot_thresholds(policy)
    assert "defer below lowest (defers only exact -inf)" in axes[1].get_title(loc="left")
    assert "(never defer on 0%, only -inf on 50%, always on 0% of draws)" in axes[1].get_title(loc="left")
    assert -1.5 < axes[1].get_xlim()[0] < axes[1].get_xlim()[1] < 0
