"""Bivariate copulas: one module a family, one record each, and the likelihood with atoms."""

from __future__ import annotations

from cascade_bayes.copulas.base import Copula, inverse_h_v_given_u
from cascade_bayes.copulas.pair import (
    Kind,
    log_cell_ratio_given_u,
    log_cell_ratio_given_v,
    log_cell_ratios,
    log_copula_ratio,
    rectangle,
)
from cascade_bayes.copulas.registry import FAMILIES, check_theta, get_copula, get_copulas, theta_from_tau
from cascade_bayes.copulas.rotation import rotate
from cascade_bayes.copulas.student_t import student_t

__all__ = [
    "FAMILIES",
    "Copula",
    "Kind",
    "check_theta",
    "get_copula",
    "get_copulas",
    "inverse_h_v_given_u",
    "log_cell_ratio_given_u",
    "log_cell_ratio_given_v",
    "log_cell_ratios",
    "log_copula_ratio",
    "rectangle",
    "rotate",
    "student_t",
    "theta_from_tau",
]
