"""Bivariate copulas: one module a family, one record each, and the likelihood with atoms."""

from __future__ import annotations

from cascade_bayes.copulas.base import (
    Copula,
    UnitPoint,
    inverse_h_v_given_u,
    unit_point,
    unit_point_from_logs,
)
from cascade_bayes.copulas.gumbel import GUMBEL
from cascade_bayes.copulas.independence import INDEPENDENCE
from cascade_bayes.copulas.pair import MarginPoint, log_copula_ratio, rectangle
from cascade_bayes.errors import InputError

FAMILIES: dict[str, Copula] = {family.name: family for family in (GUMBEL, INDEPENDENCE)}


def get_copula(name: str) -> Copula:
    """Return the family registered under ``name``.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in FAMILIES:
        raise InputError(f"copula must be one of {', '.join(FAMILIES)}; got {name!r}.")
    return FAMILIES[name]


__all__ = [
    "FAMILIES",
    "Copula",
    "MarginPoint",
    "UnitPoint",
    "get_copula",
    "inverse_h_v_given_u",
    "log_copula_ratio",
    "rectangle",
    "unit_point",
    "unit_point_from_logs",
]
