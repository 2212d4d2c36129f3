"""Inverse incomplete beta, normal and Student t functions, unit points: against mpmath and round trips."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads
from test_special import tails_mp

from cascade_bayes.special import (
    UnitPoint,
    betainc,
    betaincc,
    betainccinv,
    betaincinv,
    log_difference,
    logit_betainc,
    logit_betaincinv,
    mills_ratio,
    normal_cdf,
    normal_quantile,
    student_cdf,
    student_log_density,
    student_quantile,
    unit_point,
    unit_point_from_logit,
    unit_point_from_logs,
)

Array = Any
INF = np.inf
SHAPES = (0.05, 0.3, 1.0, 2.5, 80.0, 500.0)
TAILS = (1e-12, 1e-5, 0.1, 0.5)

inverse = jax.jit(logit_betaincinv)


def logs(tail: Array, upper: Array) -> tuple[Array, Array]:
    """Both logs of the probability whose lower (upper) tail is ``tail``."""
    small, large = np.log(tail), np.log1p(-np.asarray(tail))
    return np.where(upper, large, small), np.where(upper, small, large)


class TestInverseOfIncompleteBeta:
    cases = tuple(itertools.product(SHAPES, SHAPES, TAILS, (False, True)))
    a, b, tail, upper = (np.array(x) for x in zip(*cases, strict=True))

    def test_against_mpmath(self) -> None:
        z = np.asarray(inverse(self.a, self.b, *logs(self.tail, self.upper)))
        with mp.workdps(40):
            for k in range(len(z)):
                a, b, zk = (mp.mpf(float(x[k])) for x in (self.a, self.b, z))
                # One Newton step of the exact function from our answer is the distance to the exact one.
                got = tails_mp(a, b, zk)[int(self.upper[k])]
                density = mp.exp(-a * mp.log1p(mp.exp(-zk)) - b * mp.log1p(mp.exp(zk))) / mp.beta(a, b)
                error = float((got - mp.mpf(float(self.tail[k]))) / density)
                # In x, relative to the smaller of x and 1 - x, an error in the logit is as large.
                assert abs(error) < 1e-10 * max(1.0, abs(float(zk))), self.cases[k]

    def test_round_trip_far_out(self) -> None:
        rng = np.random.default_rng(0)
        a, b = np.exp(rng.uniform(np.log(0.05), np.log(500), (2, 512)))
        log_p = -(10 ** rng.uniform(-1, 2.8, 512))
        z = inverse(a, b, log_p, np.log(-np.expm1(log_p)))
        lower, upper = jax.jit(logit_betainc)(a, b, z)
        small = log_p < math.log(0.5)
        np.testing.assert_allclose(np.where(small, lower, log_p), log_p, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(
            np.where(small, 0, upper), np.where(small, 0, np.log(-np.expm1(log_p))), rtol=1e-11, atol=1e-11
        )

    @pytest.mark.slow
    def test_first_and_second_derivatives(self) -> None:
        args = tuple(jnp.array(x) for x in ((2.0, 0.4, 30.0), (3.0, 7.0, 12.0), (-1.5, -4.0, -0.2)))

        @jax.jit
        def of_tail(a: Array, b: Array, log_p: Array) -> Array:
            return logit_betaincinv(a, b, log_p, jnp.log(-jnp.expm1(log_p)))

        check_grads(of_tail, args, order=1, modes=("fwd", "rev"), rtol=2e-5)
        check_grads(of_tail, args, order=2, modes=("fwd",), rtol=2e-5)

    def test_ends_and_domain(self) -> None:
        assert float(logit_betaincinv(2.0, 3.0, -INF, 0.0)) == -INF
        assert float(logit_betaincinv(2.0, 3.0, 0.0, -INF)) == INF
        assert np.isnan(logit_betaincinv(-1.0, 3.0, -1.0, np.log1p(-np.exp(-1.0))))
        slopes = jax.grad(logit_betaincinv, argnums=(0, 1, 2, 3))(2.0, 3.0, -INF, 0.0)
        assert [float(s) for s in slopes] == [0.0] * 4
        assert (float(betaincinv(2.0, 3.0, 0.0)), float(betaincinv(2.0, 3.0, 1.0))) == (0.0, 1.0)

    def test_plain_forms_invert_plain_forms(self) -> None:
        x = np.array([0.01, 0.3, 0.9])
        np.testing.assert_allclose(betaincinv(2.5, 0.7, betainc(2.5, 0.7, x)), x, rtol=1e-11)
        np.testing.assert_allclose(betainccinv(2.5, 0.7, betaincc(2.5, 0.7, x)), x, rtol=1e-11)

    def test_single_precision(self) -> None:
        a, b, p = (jnp.asarray(x, jnp.float32) for x in (2.5, 0.7, 0.2))
        z = logit_betaincinv(a, b, jnp.log(p), jnp.log1p(-p))
        assert z.dtype == jnp.float32
        assert float(z) == pytest.approx(
            float(logit_betaincinv(2.5, 0.7, np.log(0.2), np.log(0.8))), rel=1e-5
        )


class TestNormal:
    def test_log_cdf_against_mpmath(self) -> None:
        x = np.array([-1e3, -38.0, -20.5, -13.1, -12.9, -8.0, -5.0, -1.0, 0.0, 1.0, 5.0, 9.0, 20.0, 37.0])
        with mp.workdps(400):
            wanted = [float(mp.log(mp.ncdf(mp.mpf(v)))) for v in x]
        np.testing.assert_allclose(normal_cdf(jnp.asarray(x)).log_u, wanted, rtol=1e-13)

    def test_mills_ratio_against_mpmath(self) -> None:
        t = np.concatenate([np.linspace(0.0, 40.0, 161), np.geomspace(1e-9, 1e30, 53)])

        def exact(t: float) -> float:
            t = mp.mpf(t)
            if t > 1e3:  # the first neglected term of the series is below 1e-40
                return float(sum((-1) ** k * mp.fac2(2 * k - 1) / t ** (2 * k) for k in range(9)) / t)
            return float(mp.sqrt(mp.pi / 2) * mp.erfc(t / mp.sqrt(2)) * mp.exp(t * t / 2))

        with mp.workdps(40):
            wanted = [exact(float(x)) for x in t]
        np.testing.assert_allclose(mills_ratio(jnp.asarray(t)), wanted, rtol=1e-15)
        single = mills_ratio(jnp.asarray(t, jnp.float32))
        np.testing.assert_allclose(single, wanted, rtol=2e-6)

    def test_arguments_whose_square_overflows(self) -> None:
        for x in (jnp.array([-1e200, 1e200]), jnp.array([-1e30, 1e30], jnp.float32)):
            np.testing.assert_array_equal(normal_cdf(x).log_u, [-INF, 0.0])

    def test_quantile_inverts_the_cdf_in_both_tails(self) -> None:
        log_p = -np.array([0.6932, 0.8, 3.0, 30.0, 500.0, 700.0, 706.0, 1e4, 1e8])
        point = UnitPoint(jnp.asarray(log_p), jnp.log1p(-jnp.exp(jnp.asarray(log_p))))
        x = normal_quantile(point)
        np.testing.assert_allclose(normal_cdf(x).log_u, log_p, rtol=1e-13)
        np.testing.assert_allclose(normal_quantile(point.flip()), -x, rtol=1e-15)

    @pytest.mark.slow
    def test_gradients(self) -> None:
        x = jnp.array([-30.0, -3.0, 0.3, 4.0])
        check_grads(lambda x: normal_cdf(x).log_u, (x,), order=2, modes=("fwd",), rtol=1e-5)
        slope = jax.vmap(jax.grad(lambda logit: normal_quantile(unit_point_from_logit(logit))))
        logit = jnp.array([-800.0, -40.0, -1.0, 2.0, 50.0])
        ends = jnp.stack([logit - 1e-4, logit + 1e-4])
        wanted = jnp.diff(normal_quantile(unit_point_from_logit(ends)), axis=0)[0] / 2e-4
        np.testing.assert_allclose(slope(logit), wanted, rtol=1e-7)
        assert [float(jax.grad(lambda x: normal_cdf(x).log_u)(v)) for v in (-INF, INF)] == [0.0, 0.0]

    def test_single_precision(self) -> None:
        logit = jnp.asarray([-200.0, -85.0, -20.0, 1.0, 60.0], jnp.float32)
        got = normal_quantile(unit_point_from_logit(logit))
        assert got.dtype == jnp.float32
        wanted = normal_quantile(unit_point_from_logit(logit.astype(float)))
        np.testing.assert_allclose(got, wanted, rtol=3e-6)


class TestStudent:
    @pytest.mark.parametrize("df", [2.0, 4.0, 7.5, 60.0])
    def test_against_scipy_and_round_trip(self, df: float) -> None:
        x = np.array([-1e4, -30.0, -3.0, -0.5, 0.0, 1e-9, 0.5, 4.0, 50.0])
        cdf = student_cdf(jnp.asarray(x), df)
        np.testing.assert_allclose(cdf.value, scipy.stats.t.cdf(x, df), rtol=2e-12)
        np.testing.assert_allclose(jnp.exp(cdf.log_1mu), scipy.stats.t.sf(x, df), rtol=2e-12)
        np.testing.assert_allclose(student_quantile(cdf, df), x, rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(
            student_log_density(jnp.asarray(x), df), scipy.stats.t.logpdf(x, df), rtol=1e-12, atol=1e-13
        )

    @pytest.mark.slow
    def test_gradients(self) -> None:
        x = jnp.array([-40.0, -1.0, 0.2, 3.0])
        check_grads(lambda x: student_cdf(x, 4.0).log_u, (x,), order=2, modes=("fwd",), rtol=1e-5)
        logit = jnp.array([-100.0, -4.0, 0.4, 6.0])
        slope = jax.vmap(jax.grad(lambda s: student_quantile(unit_point_from_logit(s), 4.0)))
        ends = student_quantile(unit_point_from_logit(jnp.stack([logit - 1e-4, logit + 1e-4])), 4.0)
        np.testing.assert_allclose(slope(logit), jnp.diff(ends, axis=0)[0] / 2e-4, rtol=1e-6)

    def test_continuous_at_zero_when_fused(self) -> None:
        # y - rho x may round to 0 in one fused kernel and to 1e-17 in another.
        @jax.jit
        def at(y: Array, x: Array, rho: Array) -> Array:
            return student_cdf(y - rho * x, 5.0).value

        rng = np.random.default_rng(1)
        x, rho = rng.normal(size=(2, 1000))
        np.testing.assert_allclose(at(rho * x, x, rho), 0.5, atol=1e-15)


class TestUnitPoint:
    def test_from_logs_keeps_both_ends(self) -> None:
        point = unit_point_from_logs(
            jnp.array([-1e-17, -40.0, 0.0, -INF]), jnp.array([-39.0, 0.0, -INF, 0.0])
        )
        # The smaller side is kept, the larger one recomputed from it.
        np.testing.assert_allclose(point.log_u, [-np.exp(-39.0), -40.0, 0.0, -INF], rtol=1e-15)
        np.testing.assert_allclose(point.log_1mu, [-39.0, -np.exp(-40.0), -INF, 0.0], rtol=1e-15)
        flipped = point.flip()
        np.testing.assert_array_equal(flipped.log_u, point.log_1mu)
        half = unit_point_from_logs(jnp.log(0.5), jnp.log(0.5))
        assert (float(half.value), float(half.flip().value)) == pytest.approx((0.5, 0.5), rel=1e-15)

    def test_log_difference(self) -> None:
        low = np.array([0.0, 1e-20, 0.3, 0.3, 0.6, 0.2, 1.0])
        high = np.array([1.0, 3e-20, 0.3, 0.9, 1.0, 1.0, 1.0])
        got = log_difference(unit_point(jnp.asarray(high)), unit_point(jnp.asarray(low)))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(got, np.log(high - low), rtol=1e-14, atol=1e-15)
        # Next to 1, where plain subtraction has no digits left.
        near, nearer = (UnitPoint(jnp.log1p(-jnp.array(q)), jnp.log(jnp.array(q))) for q in (5e-30, 2e-30))
        assert float(log_difference(nearer, near)) == pytest.approx(math.log(3e-30), rel=1e-14)
        slope = jax.grad(lambda q: log_difference(unit_point(q), unit_point(jnp.array(0.3))))
        assert float(slope(0.5)) == pytest.approx(5.0)
        assert float(slope(0.3)) == 0.0
