"""Thresholds as readable numbers: they decide what occurs as the search does, in 64 and in 32 bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bayes.policy.readable import CLOSE, NEAR, ONLY_IMPOSSIBLE, Scale, find_scale, readable
from cascade_bayes.transforms import ConfidenceMap

INF = np.inf


def scale_of(seen: list[float], atoms: list[float], continuous: bool) -> Scale:
    return find_scale(np.array([*seen, np.nan]), np.array([*atoms, np.nan]), continuous)


def just_above(values: list[float]) -> np.ndarray:
    return np.nextafter(np.array(values, dtype=float), INF)


STANDARD = {kind: ConfidenceMap(kind, (0.0,), (1.0,)) for kind in ("probability", "logprob", "score")}
GRADES = ConfidenceMap("score", (80.0,), (10.0,))


class TestBetweenAtoms:
    def test_grades(self) -> None:
        grades = scale_of([60, 95, 100], [60, 95, 100], continuous=False)
        assert readable(just_above([60, 95, 100]), grades, GRADES, 0).tolist() == [77.5, 97.5, INF]
        # Below the lowest grade none is deferred; at a grade those below it.
        assert readable(np.array([60.0, 95.0, 100.0]), grades, GRADES, 0).tolist() == [-INF, 77.5, 97.5]

    def test_probabilities_in_steps(self) -> None:
        steps = [0.6, 0.65, 0.7, 0.9, 0.95]
        found = readable(just_above(steps), scale_of(steps, steps, False), STANDARD["probability"], 0)
        assert found.tolist() == [0.625, 0.675, 0.8, 0.925, INF]

    def test_a_margin_with_both_parts(self) -> None:
        """The neighbour may be any confidence that occurs; beyond the last atom others may follow."""
        both = scale_of([0.2, 0.35, 0.8, 0.85, 0.9], [0.8, 0.9], continuous=True)
        found = readable(just_above([0.8, 0.9]), both, STANDARD["probability"], 0)
        assert found.tolist() == [0.825, 0.95]
        assert readable(np.array([0.8]), both, STANDARD["probability"], 0) == pytest.approx(0.575)
        grades = scale_of([60, 95, 100], [100], continuous=True)
        assert 100 < readable(just_above([100]), grades, GRADES, 0)[0] < 103

    def test_certainty_and_impossibility(self) -> None:
        scale = scale_of([-INF, -20.3, -1e-9, 0.0], [-INF, 0.0], continuous=True)
        found = readable(np.array([*just_above([-INF]), 0.0]), scale, STANDARD["logprob"], 0)
        assert found.tolist() == [ONLY_IMPOSSIBLE, -5e-10]
        low = scale_of([-INF, -3000.0, -2.0], [-INF], continuous=True)
        assert readable(just_above([-INF]), low, STANDARD["logprob"], 0).tolist() == [-6000.0]


class TestInTheContinuousPart:
    def test_close_neighbours_have_it_in_their_middle(self) -> None:
        grades = scale_of(list(range(101)), [], continuous=True)
        assert readable(np.array([94.0001, 94.99, 95.0]), grades, GRADES, 0).tolist() == [94.5] * 3

    def test_elsewhere_it_is_a_short_number_nearby(self) -> None:
        scale = scale_of([-20.3, -0.3, -0.01], [], continuous=True)
        found = readable(np.array([-0.0484799123, -12.34567, -INF, INF]), scale, STANDARD["logprob"], 0)
        assert found.tolist() == [-0.0485, -12.35, -INF, INF]

    def test_neighbours_that_32_bits_do_not_tell_apart(self) -> None:
        a, b = 0.5, float(np.nextafter(0.5, 1))
        scale = scale_of([0.1, a, b, 0.9], [a], continuous=True)
        assert readable(just_above([a]), scale, STANDARD["probability"], 0).tolist() == [b]


confidences = {
    "probability": st.one_of(st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.floats(0.0, 1.0)),
    "logprob": st.one_of(
        st.sampled_from([-INF, -0.1, 0.0]),
        st.floats(-100.0, 0.0),
        st.floats(-1e-6, 0.0),
        st.floats(-1e3, -1e-3),
    ),
    "score": st.one_of(st.integers(0, 100).map(float), st.floats(-1e6, 1e6)),
}


@settings(max_examples=400, deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(confidences)), continuous=st.booleans())
def test_separates_what_occurs_as_the_position_does(data, kind: str, continuous: bool) -> None:
    seen = np.unique(data.draw(st.lists(confidences[kind], min_size=1, max_size=12)))
    atoms = seen if not continuous else seen[data.draw(st.lists(st.integers(0, len(seen) - 1), max_size=3))]
    inside = seen[np.isfinite(seen)]
    beside = st.sampled_from([*atoms, *np.nextafter(atoms, INF)]) if len(atoms) else st.nothing()
    between = (
        st.tuples(st.sampled_from(inside), st.sampled_from(inside)).map(np.mean)
        if len(inside)
        else st.nothing()
    )
    raw = (
        data.draw(st.one_of(beside, between, confidences[kind]).filter(np.isfinite)) if len(inside) else -1.0
    )
    scale = find_scale(seen, atoms, continuous)
    (found,) = readable(np.array([raw]), scale, STANDARD[kind], 0)
    np.testing.assert_array_equal(seen < found, seen < raw)
    # Read again it is the same number; it has few digits where there is room.
    assert float(repr(float(found))) == found
    low, high = seen[seen < raw], seen[seen >= raw]
    if not (len(low) and len(high)) or not np.isfinite(low[-1]):
        return
    low, high = low[-1], high[0]
    near = np.array([low, high], dtype=np.float32)
    apart = np.abs(np.spacing(near)).astype(float)
    if high - low > 4 * apart.sum():
        assert near[0] < np.float32(found) <= near[1]
        assert near[0] < found <= near[1]
        assert low + 0.99 * apart[0] <= found <= high - 0.99 * apart[1]
    logit = STANDARD[kind].to_logit(np.array([low, high, raw, found]), model=0)
    if (
        continuous
        and raw not in atoms
        and np.nextafter(raw, -INF) not in atoms
        and logit[1] - logit[0] > 1.01 * CLOSE
    ):
        clear = low + 2 * apart[0] < raw < high - 2 * apart[1]
        assert not clear or abs(logit[3] - logit[2]) <= NEAR
