"""Confidence transformations against mpmath, at both ends and on the way back."""

from __future__ import annotations

import json
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_bayes.errors import InputError
from cascade_bayes.transforms import KINDS, ConfidenceMap, in_domain, inverse_link, link

# No deadline: a busy machine is no failure. The same examples every time.
STEADY = settings(deadline=None, derandomize=True)

LOGPROBS = [
    *(-1e-12, -1e-300, -5e-324, -1e-17, -1e-5, -0.1, -0.5, -1.0, -3.0, -36.0, -40.0, -700.0),
    *(-746.0, -1e5, -1e300, float(-np.log(2.0)), -0.69, -0.7),
]


def exact_logit(logprob: float) -> float:
    # 800 digits: exp(-746) and 1 - exp(-5e-324) are both resolved.
    with mpmath.workdps(800):
        x = mpmath.mpf(logprob)
        return float(x) if x < -1000 else float(x - mpmath.log(-mpmath.expm1(x)))


def exact_logprob(logit: float) -> float:
    with mpmath.workdps(800):
        return float(-mpmath.log1p(mpmath.exp(-mpmath.mpf(logit))))


@pytest.mark.parametrize("logprob", LOGPROBS)
def test_link_of_logprob_equals_mpmath(logprob: float) -> None:
    assert link(logprob, "logprob") == pytest.approx(exact_logit(logprob), rel=4e-16, abs=3e-16)


def test_link_keeps_near_certainty_apart() -> None:
    assert link(-1e-12, "logprob") == pytest.approx(27.6310211, abs=1e-7)
    assert link(-1e-300, "logprob") == pytest.approx(300 * np.log(10.0), rel=1e-15)


@pytest.mark.parametrize("p", [1e-300, 1e-20, 0.1, 0.5, 0.9, 1 - 2.0**-53])
def test_link_of_probability_equals_mpmath(p: float) -> None:
    with mpmath.workdps(400):
        expected = float(mpmath.log(mpmath.mpf(p) / (1 - mpmath.mpf(p))))
    assert link(p, "probability") == pytest.approx(expected, rel=4e-16, abs=3e-16)


def test_ends_and_missing_values() -> None:
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(link([0.0, -0.0, -inf, nan], "logprob"), [inf, inf, -inf, nan])
    np.testing.assert_array_equal(link([0.0, 1.0, nan], "probability"), [-inf, inf, nan])
    for kind, ends in [("logprob", [0.0, -inf]), ("probability", [1.0, 0.0])]:
        back = inverse_link([inf, -inf, nan], kind)
        np.testing.assert_array_equal(back, [*ends, nan])
        assert not np.signbit(back[0])
    np.testing.assert_array_equal(link([0.5], "logprob"), [nan])
    np.testing.assert_array_equal(link([-0.5, 1.5], "probability"), [nan, nan])


@pytest.mark.parametrize("logit", [-800.0, -40.0, -1.0, 0.0, 1e-9, 1.0, 36.0, 40.0, 300.0, 740.0])
def test_inverse_link_equals_mpmath(logit: float) -> None:
    # At 740 the result is subnormal, with few bits of its own.
    tolerance = 1e-3 if logit == 740.0 else 4e-16
    exact = exact_logprob(logit)
    assert inverse_link(logit, "logprob") == pytest.approx(exact, rel=tolerance, abs=0)
    with mpmath.workdps(400):
        probability = float(1 / (1 + mpmath.exp(-mpmath.mpf(logit))))
    assert inverse_link(logit, "probability") == pytest.approx(probability, rel=4e-16, abs=0)


@STEADY
@given(st.floats(min_value=-1e6, max_value=-1e-300))
def test_logprob_survives_there_and_back(logprob: float) -> None:
    # An error of one rounding in a logit of size 700 is a relative error of 700 roundings in l.
    tolerance = 4e-16 * (4.0 + abs(exact_logit(logprob)))
    assert inverse_link(link(logprob, "logprob"), "logprob") == pytest.approx(logprob, rel=tolerance, abs=0)


@STEADY
@given(st.floats(min_value=1e-300, max_value=1.0))
def test_probability_survives_there_and_back(p: float) -> None:
    assert inverse_link(link(p, "probability"), "probability") == pytest.approx(p, rel=1e-12, abs=0)


@STEADY
@given(st.floats(max_value=0.0), st.floats(max_value=0.0))
def test_link_of_logprob_is_increasing(a: float, b: float) -> None:
    low, high = sorted((a, b))
    # Near logit 0 neighbouring floats may tie or cross by one rounding of 1.
    assert link(low, "logprob") <= link(high, "logprob") + 4e-16


def test_link_is_strictly_increasing_over_both_tails() -> None:
    logprobs = -np.geomspace(1e300, 1e-300, 4001)
    assert (np.diff(link(logprobs, "logprob")) > 0).all()


@STEADY
@given(st.floats(allow_nan=False), st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
def test_map_of_scores_is_affine(score: float, scale: float, location: float) -> None:
    z = ConfidenceMap("score", (location,), (scale,)).to_logit([[score]])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(z, (np.array([[score]]) - location) / scale)


@pytest.mark.parametrize("kind", KINDS)
def test_map_round_trip(kind: str) -> None:
    rng = np.random.default_rng(1)
    logit = rng.logistic(2.0, 3.0, size=(200, 3))
    raw = inverse_link(logit, kind)
    raw[0, 0] = np.nan
    if kind != "score":
        raw[1, 1], raw[2, 2] = inverse_link([np.inf, -np.inf], kind)
    fitted = ConfidenceMap.fit(raw, kind)
    z = fitted.to_logit(raw)
    np.testing.assert_allclose(fitted.from_logit(z), raw, rtol=1e-13)
    for model in range(3):
        np.testing.assert_array_equal(fitted.to_logit(raw[:, model], model=model), z[:, model])
        np.testing.assert_array_equal(
            fitted.from_logit(z[:, model], model=model), fitted.from_logit(z)[:, model]
        )
    assert fitted.to_logit(raw[3]).shape == (3,)


def test_fit_standardises_a_logistic_sample() -> None:
    rng = np.random.default_rng(2)
    logit = np.stack([rng.logistic(0, 1, 40_000), rng.logistic(-7, 0.2, 40_000)], axis=1)
    fitted = ConfidenceMap.fit(inverse_link(logit, "logprob"), "logprob")
    np.testing.assert_allclose(fitted.location, [0.0, -7.0], atol=0.03)
    np.testing.assert_allclose(fitted.scale, [1.0, 0.2], rtol=0.03)


def test_fit_ignores_atoms_at_the_ends_and_missing_values() -> None:
    inside = inverse_link(np.linspace(-3, 5, 101), "logprob")
    atoms = np.r_[inside, np.zeros(500), np.full(20, -np.inf), np.full(9, np.nan)]
    alone = ConfidenceMap.fit(inside[:, None], "logprob")
    assert ConfidenceMap.fit(atoms[:, None], "logprob") == alone
    assert alone.location[0] == pytest.approx(1.0)
    assert alone.scale[0] == pytest.approx(0.9 * 8 / (2 * np.log(19.0)))


def test_fit_of_degenerate_columns_has_scale_one() -> None:
    nan = np.nan
    raw = np.array([[0.9, nan, 1.0, 0.9], [0.9, nan, 0.0, 0.9], [0.9, nan, 1.0, nan]])
    fitted = ConfidenceMap.fit(raw, "probability")
    assert fitted.scale == (1.0, 1.0, 1.0, 1.0)
    assert fitted.location == pytest.approx((np.log(9.0), 0.0, 0.0, np.log(9.0)))
    mostly_equal = np.r_[np.full(96, 0.8), np.linspace(0.1, 0.4, 4)][:, None]
    assert ConfidenceMap.fit(mostly_equal, "probability").scale == (1.0,)
    rounding = np.array([[1e6], [np.nextafter(1e6, 2e6)]])
    assert ConfidenceMap.fit(rounding, "score").scale == (1.0,)


def test_map_survives_json_to_the_bit() -> None:
    fitted = ConfidenceMap("logprob", (0.1 + 0.2, -1 / 3), (1 / 7, 2.0))
    assert ConfidenceMap.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert fitted.select([1, 0]) == ConfidenceMap("logprob", (-1 / 3, 0.1 + 0.2), (2.0, 1 / 7))


def test_in_domain() -> None:
    inf, nan = np.inf, np.nan
    values = [-inf, -1.0, 0.0, 0.5, 1.0, 2.0, inf, nan]
    expected = {"logprob": "11100001", "probability": "00111001", "score": "01111101"}
    for kind, bits in expected.items():
        assert "".join(str(int(x)) for x in in_domain(values, kind)) == bits


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: link(0.0, "prob"), "'logprob', 'probability', 'score'; got 'prob'"),
        (lambda: ConfidenceMap("odds", (0.0,), (1.0,)), "got 'odds'"),
        (lambda: ConfidenceMap("score", (0.0,), (1.0, 2.0)), "got 1 locations and 2 scales"),
        (lambda: ConfidenceMap("score", (0.0,), (0.0,)), "positive"),
        (lambda: ConfidenceMap("score", (np.nan,), (1.0,)), "locations .* finite"),
        (lambda: ConfidenceMap.fit([0.1, 0.2], "score"), r"got \(2,\)"),
        (lambda: ConfidenceMap("score", (0.0,), (1.0,)).to_logit([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: ConfidenceMap("score", (0.0,), (1.0,)).from_logit(1.0), r"shape \(\)"),
        (lambda: ConfidenceMap.from_dict({"kind": "score"}), "'location' and 'scale'"),
        (
            lambda: ConfidenceMap.from_dict({"kind": "score", "location": 1, "scale": [1]}),
            "'location' and 'scale'",
        ),
    ],
)
def test_bad_input_is_named(make: Callable[[], object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()


# ---------------------------------------------------------------------------------------------
# Values that no model means.


def logistic(num_values: int, location: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Log-probabilities whose logits are the quantiles of a logistic distribution."""
    level = (np.arange(num_values) + 0.5) / num_values
    return inverse_link(location + scale * np.log(level / (1 - level)), "logprob")


@pytest.mark.parametrize("value", [-9999.0, -100.0, -999.0, -1000.0, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("count", [1, 6, 60, 400])
def test_a_marker_leaves_the_scale_alone(value: float, count: int) -> None:
    raw = logistic(100, 0.5, 2.0)
    marked = ConfidenceMap.fit(np.append(raw, [value] * count)[:, None], "logprob")
    clean = ConfidenceMap.fit(raw[:, None], "logprob")
    assert (marked.location, marked.scale) == (clean.location, clean.scale)
    assert marked.scale[0] == pytest.approx(2.0, rel=0.05)
    assert (marked.floor, clean.floor) == ((value,), (-np.inf,))
    z = marked.to_logit([[value], [2 * value], [-np.inf], [-1.0]])
    np.testing.assert_array_equal(z[:3, 0], -np.inf)
    assert z[3] == clean.to_logit([[-1.0]])[0]
    np.testing.assert_array_equal(marked.from_logit([[-np.inf]]), value)


@pytest.mark.parametrize("value", [-23.025850929940457, -57.3])
def test_a_clipped_value_is_a_marker_if_it_occurs_twice(value: float) -> None:
    raw = logistic(100)
    for count, floor in ((1, -np.inf), (2, value), (10, value)):
        assert ConfidenceMap.fit(np.append(raw, [value] * count)[:, None], "logprob").floor == (floor,)
        probability = np.exp(np.append(raw, [value] * count))[:, None]
        expected = float(np.exp(value)) if count > 1 else -np.inf
        assert ConfidenceMap.fit(probability, "probability").floor == (expected,)


def test_several_markers_and_what_lies_below_them() -> None:
    raw = np.concatenate([logistic(100), [-100.0] * 5, [-9999.0] * 7, [-250.0]])
    found = ConfidenceMap.fit(raw[:, None], "logprob")
    assert found.floor == (-100.0,)
    assert np.isneginf(found.to_logit(raw[:, None])).sum() == 13


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (np.append(logistic(100), -37.4), "logprob"),  # a far value that occurs once
        (np.append(logistic(100, -8.0, 3.0), [-15.5] * 4), "logprob"),  # coarse steps of a wide scale
        (-np.geomspace(1.0, 20_000.0, 300).round(), "logprob"),  # sums of many tokens, rounded
        (np.repeat([-4.6, -0.05, -0.1], [2, 50, 50]), "logprob"),  # stated probabilities
        (np.repeat([0.01, 0.2, 0.9, 0.95], [1, 2, 100, 200]), "probability"),
        (np.repeat([0.0, 2.0, 8.0, 9.0], [1, 2, 100, 200]), "score"),  # grades
        (np.repeat([-1.0, 90.0, 95.0], [3, 50, 50]), "score"),
        (np.linspace(-2000.0, 0.0, 300), "score"),
        (np.full(20, -9999.0), "logprob"),  # all alike: there is no other scale
        (np.array([-9999.0, -9999.0, -0.1]), "logprob"),  # too few others
        (np.array([np.nan, -np.inf, 0.0]), "logprob"),
    ],
)
def test_what_is_no_marker(raw: np.ndarray, kind: str) -> None:
    assert ConfidenceMap.fit(raw[:, None], kind).floor == (-np.inf,)


def test_a_marker_among_scores() -> None:
    raw = np.append(np.linspace(0.0, 10.0, 50), [-999.0] * 5)
    found = ConfidenceMap.fit(raw[:, None], "score")
    assert found.floor == (-999.0,)
    assert found.scale[0] == ConfidenceMap.fit(raw[:50, None], "score").scale[0]
    assert found.from_logit([[-np.inf]]) == -999.0


def test_a_floor_is_kept() -> None:
    found = ConfidenceMap("logprob", (0.0, 1.0), (1.0, 2.0), (-np.inf, -100.0))
    assert found.select([1]).floor == (-100.0,)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["floor"] == [None, -100.0]
    assert ConfidenceMap.from_dict(record) == found
    assert "floor" not in ConfidenceMap("logprob", (0.0,), (1.0,)).to_dict()
    np.testing.assert_array_equal(found.to_logit([[-9999.0, -9999.0]]), [[-9999.0, -np.inf]])
    np.testing.assert_array_equal(found.to_logit([-100.0, -99.0], model=1), [-np.inf, -50.0])


@pytest.mark.parametrize("floor", [(-1.0,), (0.0, -1.0), (np.nan, -1.0), (-1.0, np.inf), (0.5, -1.0)])
def test_bad_floors_are_named(floor: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="floor"):
        ConfidenceMap("logprob", (0.0, 0.0), (1.0, 1.0), floor)
