"""The rule of deferral and abstention: one query, many queries, and what people read of its thresholds."""

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bayes.rule import (
    LOWEST,
    End,
    describe_threshold,
    follow,
    follow_one,
    in_precision,
    show_threshold,
)

LEVELS = (-inf, LOWEST, -2.0, -1.0, 0.0, 1.0, inf)
SEEN = (nan, -inf, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 7.0)


Case = tuple[list[float], list[float], list[list[float]]]


@st.composite
def cascades(draw: st.DrawFn) -> Case:
    """Thresholds, those of abstaining, and confidences of five queries."""
    count = draw(st.integers(1, 4))
    high = [draw(st.sampled_from(LEVELS)) for _ in range(count - 1)]
    low = [draw(st.sampled_from([level for level in LEVELS if level <= top])) for top in [*high, inf]]
    return high, low, [[draw(st.sampled_from(SEEN)) for _ in range(count)] for _ in range(5)]


def by_hand(high: list[float], low: list[float], seen: list[float]) -> tuple[int, End]:
    """Say the rule in words: of all models but the last, then of the last."""
    for i in range(len(high)):
        if low[i] == inf:
            return i, End.ABSTAINED
        if low[i] == -inf and high[i] == -inf:
            return i, End.ANSWERED
        if not isnan(seen[i]) and not (low[i] == -inf and high[i] == inf):
            if seen[i] < low[i]:
                return i, End.ABSTAINED
            if not seen[i] < high[i]:
                return i, End.ANSWERED
    last = len(high)
    if low[last] == -inf:
        return last, End.ANSWERED
    if low[last] == inf:
        return last, End.ABSTAINED
    if isnan(seen[last]):
        return last, End.UNKNOWN
    return last, End.ABSTAINED if seen[last] < low[last] else End.ANSWERED


@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
@given(cascades())
def test_one_query_and_many_are_decided_alike(case: Case) -> None:
    high, low, rows = case
    many = follow(np.array(rows), np.array(high), np.array(low))
    for seen, stop, abstained, missing in zip(rows, *many, strict=True):
        wanted = by_hand(high, low, seen)
        assert follow_one(seen, (*high, -inf), low) == wanted
        assert stop == wanted[0]
        assert abstained == (wanted[1] is End.ABSTAINED)
        assert missing[-1] == (wanted[1] is End.UNKNOWN)
        for i, unseen in enumerate(missing):
            asked = low[i] < inf and (low[i] > -inf or (i < len(high) and -inf < high[i] < inf))
            assert unseen == (asked and isnan(seen[i]) and i <= wanted[0])
    if all(level == -inf for level in low):
        for one, other in zip(follow(np.array(rows), np.array(high)), many, strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(cascades())
def test_models_are_called_in_order_and_no_further_than_needed(case: Case) -> None:
    high, low, rows = case
    for seen in rows:
        model, end = follow_one(seen, (*high, -inf), low)
        for known in range(len(seen)):
            at, said = follow_one(seen[:known], (*high, -inf), low)
            assert (at, said) == (model, end) or (said is End.CALL and known <= at <= model)
            blank = [*seen[:known], *[None] * (len(seen) - known)]
            assert follow_one(blank, (*high, -inf), low) == (at, said)


def test_the_last_column_may_be_left_out_where_it_is_not_looked_at() -> None:
    confidence = np.array([[0.2], [0.8], [nan]])
    found = follow(confidence, np.array([0.5]))
    np.testing.assert_array_equal(found.stop, [1, 0, 1])
    np.testing.assert_array_equal(found.missing, [[False, False], [False, False], [True, False]])
    found = follow(confidence, np.array([0.5]), np.array([-inf, 0.1]))
    np.testing.assert_array_equal(found.missing[:, 1], [True, False, True])


class TestPrecision:
    @pytest.mark.parametrize("precision", [np.float32, np.float16])
    def test_numbers_that_moved_are_compared_with_thresholds_that_moved(self, precision: type) -> None:
        """No confidence that is not below a threshold falls below it by being stored in fewer bits."""
        rng = np.random.default_rng(0)
        values = np.concatenate([-np.round(rng.exponential(size=500), 2), -rng.exponential(size=500)])
        thresholds = np.concatenate([values, -rng.exponential(size=500)])
        stored = values.astype(precision).astype(float)
        kept = values[:, None] >= thresholds
        assert (kept & (stored[:, None] < thresholds)).any()  # as they stand, some do
        assert not (kept & (stored[:, None] < in_precision(thresholds, precision))).any()

    def test_ends_stay(self) -> None:
        ends = np.array([-inf, LOWEST, -0.1, inf])
        assert in_precision(ends, np.float64) is ends
        rounded = in_precision(ends, np.float32)
        assert rounded[0] == -inf
        assert rounded[3] == inf
        assert rounded[1] == np.finfo(np.float32).min  # so that -inf alone is below
        assert rounded[2] == np.float32(-0.1)


class TestWords:
    @given(st.floats(allow_nan=False))
    def test_what_is_shown_decides_as_what_is_meant(self, value: float) -> None:
        shown = show_threshold(value)
        assert (LOWEST if shown == "lowest" else float(shown)) == value
        assert len(shown) < 26

    def test_what_is_no_number_is_explained(self) -> None:
        assert show_threshold(95.0) == "95"
        assert describe_threshold(0.25) == "0.25"
        assert describe_threshold(inf) == "inf (always defers)"
        assert describe_threshold(LOWEST, "abstain") == "lowest (abstains only exact -inf)"
