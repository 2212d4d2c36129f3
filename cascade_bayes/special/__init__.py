"""Special functions JAX lacks, or lacks the derivatives of, in log space and safe in both tails."""

from cascade_bayes.special._betainc import betainc, betaincc, logit_betainc
from cascade_bayes.special._betaincinv import betainccinv, betaincinv, logit_betaincinv
from cascade_bayes.special._elementary import betaln, log1mexp
from cascade_bayes.special._normal import mills_ratio, normal_cdf, normal_quantile
from cascade_bayes.special._root import find_root
from cascade_bayes.special._student import student_cdf, student_log_density, student_quantile
from cascade_bayes.special._unit import (
    UnitPoint,
    log_difference,
    unit_point,
    unit_point_from_logit,
    unit_point_from_logs,
)

__all__ = [
    "UnitPoint",
    "betainc",
    "betaincc",
    "betainccinv",
    "betaincinv",
    "betaln",
    "find_root",
    "log1mexp",
    "log_difference",
    "logit_betainc",
    "logit_betaincinv",
    "mills_ratio",
    "normal_cdf",
    "normal_quantile",
    "student_cdf",
    "student_log_density",
    "student_quantile",
    "unit_point",
    "unit_point_from_logit",
    "unit_point_from_logs",
]
