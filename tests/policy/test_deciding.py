"""`Policy.decide` on what callers give it: lists, arrays, numbers of others, and what is none of these."""

from math import exp, inf, log, nan
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

from cascade_bayes import ABSTAIN, InputError, Policy, Terms
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.rule import LOWEST


def made(*thresholds: float, kind: str = "logprob", abstain: list[float] | None = None) -> Policy:
    models = ("a", "b", "c")[: len(thresholds) + 1]
    return Policy(
        models=models,
        thresholds=np.array(thresholds),
        draw_thresholds=np.zeros((0, len(thresholds))),
        error_price=1.0,
        question={"error_price": 1.0},
        prediction=Prediction(0.3, 0.2, 0.4, 2.0, 1.5, 2.5, (1.0, 0.6, 0.3)[: len(models)], 2.0, 1.5, 2.5),
        kind=kind,
        call_cost=np.ones(len(models)),
        fit_digest="0" * 64,
        terms=Terms(abstain_price=None if abstain is None else 0.1),
        abstain_thresholds=None if abstain is None else np.array(abstain),
        draw_abstain_thresholds=None if abstain is None else np.zeros((0, len(abstain))),
    )


class TestMissing:
    def test_a_model_that_gave_none_defers_and_one_that_was_not_called_is_called(self) -> None:
        policy = made(-0.1, -0.2)
        assert policy.decide([]) is None
        assert policy.decide([None]) is None
        assert policy.decide([nan]) is None  # b comes next
        assert policy.decide([nan, None]) is None
        assert policy.decide([nan, -0.2]) == "b"
        assert policy.decide([nan, nan]) == "c"
        assert policy.decide([-0.1, None]) == "a"

    def test_the_last_model_answers_whatever_its_confidence(self) -> None:
        policy = made(-0.1)
        for last in (nan, -inf, -0.0, None):
            assert policy.decide([-0.5, last]) == "b"
        np.testing.assert_array_equal(
            policy.decide(np.array([[-0.5, nan], [nan, nan], [-0.1, nan]])), [1, 1, 0]
        )

    def test_a_last_model_that_may_abstain_must_say(self) -> None:
        policy = made(-0.1, abstain=[-inf, -0.3])
        assert policy.decide([nan]) is None
        assert policy.decide([nan, -0.4]) is ABSTAIN
        assert policy.decide([nan, -0.3]) == "b"
        for given in ([nan, nan], np.array([nan, nan])):
            with pytest.raises(
                InputError, match="confidence of b must be a number: by it the last model may abstain"
            ):
                policy.decide(given)
        with pytest.raises(InputError, match="it is missing in row 1"):
            policy.decide(np.array([[-0.5, -0.1], [-0.5, nan]]))


class TestForms:
    @pytest.mark.parametrize(
        "form",
        [
            list,
            tuple,
            np.array,
            lambda row: np.array(row, dtype=object),
            lambda row: [np.float64(x) for x in row],
            lambda row: [jnp.asarray(x) for x in row],
            pd.Series,
            pl.Series,
            jnp.asarray,
            lambda row: np.ma.masked_invalid(row),
        ],
    )
    def test_one_query(self, form: Any) -> None:
        policy = made(-0.25, -0.5)
        for row, answer in (
            ([-0.25], "a"),
            ([-0.5], None),
            ([-0.5, -0.5], "b"),
            ([-0.5, nan, nan], "c"),
            ([-1.0, -1.0, -1.0], "c"),
        ):
            assert policy.decide(form(row)) == answer

    @pytest.mark.parametrize(
        "form",
        [
            np.array,
            list,
            lambda rows: [tuple(row) for row in rows],
            lambda rows: [np.array(row) for row in rows],
            pd.DataFrame,
            lambda rows: pl.DataFrame(rows, orient="row"),
            lambda rows: np.array(rows, dtype=object),
            lambda rows: np.ma.masked_invalid(rows),
            jnp.asarray,
        ],
    )
    def test_many_queries(self, form: Any) -> None:
        rows = [[-0.25, nan, nan], [-0.5, -0.5, nan], [-0.5, -0.75, -1.0], [nan, nan, nan]]
        np.testing.assert_array_equal(made(-0.25, -0.5).decide(form(rows)), [0, 1, 2, 2])

    def test_whole_numbers_are_numbers(self) -> None:
        policy = made(97.5, kind="score")
        assert policy.decide([98]) == "a"
        assert policy.decide([np.int32(95)]) == "b"
        np.testing.assert_array_equal(policy.decide(np.array([[98, 0], [97, 0]])), [0, 1])

    def test_the_last_column_may_be_left_out_unless_it_is_looked_at(self) -> None:
        rows = np.array([[-0.25], [-0.5]])
        np.testing.assert_array_equal(made(-0.25).decide(rows), [0, 1])
        np.testing.assert_array_equal(made(-0.25).decide(rows.tolist()), [0, 1])
        for given in (rows, rows.tolist()):
            with pytest.raises(InputError, match=r"must have 2 columns, one a model \(a > b\); got 1"):
                made(-0.25, abstain=[-inf, -1.0]).decide(given)


class TestPrecision:
    def test_a_number_in_32_bits_is_decided_as_the_number_it_stands_for(self) -> None:
        """In 32 bits -0.1 is -0.10000000149, which is below -0.1 and is not meant to be."""
        policy = made(-0.1)
        for given in ([np.float32(-0.1)], np.array([-0.1], np.float32), [np.array(-0.1, np.float32)]):
            assert policy.decide(given) == "a"
        rows = np.array([[-0.1, -1.0], [-0.2, -1.0]], np.float32)
        np.testing.assert_array_equal(policy.decide(rows), [0, 1])
        np.testing.assert_array_equal(policy.decide([list(row) for row in rows]), [0, 1])
        assert policy.decide([np.float16(-0.1)]) == "a"

    def test_each_number_is_compared_in_its_own_precision(self) -> None:
        policy = made(-0.1, -0.1)
        assert policy.decide([-0.10000000149, np.float32(-0.1)]) == "b"
        assert policy.decide([np.float32(-0.1), -0.10000000149]) == "a"

    @pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
    def test_all_forms_agree(self, precision: type) -> None:
        rng = np.random.default_rng(0)
        policy = made(-0.3, -0.7, abstain=[-1.1, -inf, -0.9])
        rows = -np.round(rng.exponential(size=(200, 3)), 1).astype(precision)
        together = policy.decide(rows)
        named = [-1 if said is ABSTAIN else policy.models.index(said) for said in map(policy.decide, rows)]
        np.testing.assert_array_equal(together, named)
        np.testing.assert_array_equal(policy.decide([list(row) for row in rows]), named)

    def test_the_lowest_threshold_defers_exact_minus_infinity_alone(self) -> None:
        policy = made(LOWEST)
        for precision in (np.float64, np.float32):
            rows = np.array([[-inf, 0.0], [np.finfo(precision).min, 0.0]], precision)
            np.testing.assert_array_equal(policy.decide(rows), [1, 0])
            assert [policy.decide(row) for row in rows] == ["b", "a"]


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                [0.93],
                r"confidence of model 'a' must be <= 0 for kind 'logprob'; got 0\.93\. .* math\.log\(0\.93\)",
            ),
            (
                [-0.5, 0.93],
                r"confidence of model 'b' must be <= 0 .*; got 0\.93\. Of a probability .* negative, -0\.93",
            ),
            ([-0.05, 0.93], "confidence of model 'b' must be <= 0"),  # though a answers
            (np.array([0.93]), r"confidence of model 'a' .* got 0\.93"),
            (np.array([0.93], np.float32), "confidence of model 'a' must be <= 0"),
            ([np.float32(0.93)], "confidence of model 'a' must be <= 0"),
            ([1], r"got 1\.0"),
            ([7.0], r"got 7\.0\. Give confidences as the policy was tuned on"),
            ([10**400], "got inf"),
            (np.array([[-0.5, -0.5, 0.0], [-0.5, 0.93, 0.0]]), r"model 'b' .*; got 0\.93 at \[1, 1\]"),
            ([[-0.5, -0.5, 0.0], [-0.5, 0.93, 0.0]], r"row 1: confidence of model 'b' .* got 0\.93"),
            ([-0.1] * 4, r"must be at most 3, one a model \(a > b > c\); got 4"),
            (np.zeros(4), "must be at most 3"),
            ([[-0.1, -0.2, -0.3], [-0.1]], "as many columns in every row; row 0 has 3, row 1 has 1"),
            (
                [[-0.1, -0.2, None], [-0.3, None, None]],
                r"row 1 of the confidences stops at a model .* not called",
            ),
            (np.zeros((2, 5)), r"must have 3 columns, one a model \(a > b > c\); got 5"),
        ],
    )
    def test_values(self, given: Any, said: str) -> None:
        with pytest.raises(InputError, match=said) as refused:
            made(-0.1, -0.4).decide(given)
        assert len(str(refused.value).splitlines()) == 1

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (-0.5, r"must be a list with the confidence of every model called so far.*; got -0\.5"),
            (None, "got None"),
            ("-0.5", "got '-0.5'"),
            ({"a": -0.5}, "got an object"),
            ((x for x in (-0.5,)), "got <generator"),
            (np.zeros((1, 1, 1)), "an array with a row for each query"),
            (["-0.5"], r"confidence of model 'a' must be a number, NaN if the model gave none; got '-0\.5'"),
            ([True], "got True"),
            ([-0.5, np.bool_(False)], "confidence of model 'b' must be a number"),
            ([-0.5j], "confidence of model 'a' must be a number"),
            ([pd.NA], "got <NA>"),
            (np.array([True]), "must be numbers; got an array of bool"),
            (np.array(["-0.5"]), "must be numbers; got an array of <U4"),
            ([-0.1, [-0.2]], r"must be rows of numbers; got -0\.1 at \[0\]"),
            ([[-0.1, True, -0.2]], "row 0: confidence of model 'b' must be a number"),
        ],
    )
    def test_types(self, given: Any, said: str) -> None:
        with pytest.raises(TypeError, match=said) as refused:
            made(-0.1, -0.4).decide(given)
        assert len(str(refused.value).splitlines()) == 1

    def test_remedies_are_right(self) -> None:
        assert made(-0.1).decide([log(0.93)]) == "a"
        policy = made(0.5, kind="probability")
        with pytest.raises(
            InputError, match=r"must be in \[0, 1\] .* got -0\.05\. .* give math\.exp\(-0\.05\)"
        ):
            policy.decide([-0.05])
        assert policy.decide([exp(-0.05)]) == "a"
        with pytest.raises(InputError, match=r"got 93\.0\. It looks like a percentage: give 93\.0 / 100"):
            policy.decide([93])
        with pytest.raises(
            InputError, match=r"must be finite .* got inf\. Give NaN where a model gave no confidence"
        ):
            made(1.0, kind="score").decide([inf])


def test_deciding_one_query_makes_no_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query is decided in a microsecond or two, which a round trip through NumPy would take ten times."""
    policy = made(-0.1, -0.4)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("an array was made")

    for name in ("asarray", "array", "isnan", "where", "full"):
        monkeypatch.setattr(np, name, fail)
    assert policy.decide([-0.5, nan]) == "c"
    assert policy.decide((-0.05,)) == "a"
