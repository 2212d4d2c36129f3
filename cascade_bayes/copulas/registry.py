"""Copula families by name."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from cascade_bayes.copulas.base import Copula
from cascade_bayes.copulas.clayton import CLAYTON
from cascade_bayes.copulas.frank import FRANK
from cascade_bayes.copulas.gaussian import GAUSSIAN
from cascade_bayes.copulas.gumbel import GUMBEL
from cascade_bayes.copulas.independence import INDEPENDENCE
from cascade_bayes.copulas.joe import JOE
from cascade_bayes.copulas.rotation import ANGLES, rotate
from cascade_bayes.copulas.student_t import MIN_DF, student_t
from cascade_bayes.errors import InputError

_UPRIGHT = (INDEPENDENCE, GAUSSIAN, student_t(4.0), FRANK, CLAYTON, GUMBEL, JOE)
_ROTATED = tuple(rotate(family, angle) for family in (CLAYTON, GUMBEL, JOE) for angle in ANGLES)

FAMILIES: dict[str, Copula] = {family.name: family for family in (*_UPRIGHT, *_ROTATED)}
"""Families by name. The Gaussian, Student t and Frank copulas equal their rotations by 180 degrees, and
those by 90 degrees with the opposite tau."""


def get_copula(name: str) -> Copula:
    """Return the family of this name.

    Parameters
    ----------
    name
        A key of `FAMILIES`, or ``"student_t_<df>"`` with any degrees of freedom from 2.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> get_copula("student_t_7.5").name
    'student_t_7.5'
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name.startswith("student_t_"):
        try:
            return student_t(float(name.removeprefix("student_t_")))
        except ValueError:
            raise InputError(
                f"the degrees of freedom in copula {name!r} must be a number of at least {MIN_DF:g}; "
                "write for example 'student_t_4'."
            ) from None
    raise InputError(f"copula must be one of {', '.join(FAMILIES)}; got {name!r}.")


def get_copulas(copula: str | Sequence[str], num_pairs: int) -> tuple[Copula, ...]:
    """Return one family a pair of models, from one name for all or one name each.

    Raises
    ------
    InputError
        If a name is not known or their number is wrong.

    Examples
    --------
    >>> [family.name for family in get_copulas("frank", 2)]
    ['frank', 'frank']
    """
    names = [copula] * num_pairs if isinstance(copula, str) else list(copula)
    if len(names) != num_pairs:
        raise InputError(
            f"copula must be one name, or one for each of the {num_pairs} pairs of models (neighbours of a "
            f"chain, all of a modular fit); got {len(names)} names."
        )
    return tuple(get_copula(name) for name in names)


def check_theta(family: Copula, theta: ArrayLike) -> None:
    """Raise `InputError` if a parameter lies outside the family's domain.

    An end of `Copula.theta_range` belongs to it unless Kendall's tau is -1 or 1 there.

    Examples
    --------
    >>> check_theta(get_copula("gumbel"), [1.0, 2.5])
    """
    values = np.atleast_1d(np.asarray(theta, dtype=float))
    low, high = family.theta_range
    closed_low, closed_high = _is_attained(family, low), _is_attained(family, high)
    bad = ~((values > low) & (values < high) | (values == low) & closed_low | (values == high) & closed_high)
    if family.has_theta and bad.any():
        interval = f"{'[' if closed_low else '('}{low:g}, {high:g}{']' if closed_high else ')'}"
        raise InputError(
            f"theta of the {family.name} copula must lie in {interval}; got "
            f"{values[bad][0]:g} for pair {int(np.argmax(bad))}. `theta_from_tau` gives the theta of a "
            "Kendall's tau."
        )


def _is_attained(family: Copula, end: float) -> bool:
    return np.isfinite(end) and abs(float(family.theta_to_tau(jnp.asarray(end)))) < 1


def theta_from_tau(family: Copula, tau: ArrayLike) -> np.ndarray:
    """Return the parameter that gives Kendall's tau, any shape.

    Raises
    ------
    InputError
        If the family cannot represent it; the message names one that can.

    Examples
    --------
    >>> float(theta_from_tau(get_copula("gumbel"), 0.5))
    2.0
    """
    values = np.asarray(tau, dtype=float)
    low, high = (end + 0.0 for end in family.tau_range)  # -0.0 would print as such
    bad = ~((values >= low) & (values <= high) & (np.abs(values) < 1))
    if bad.any():
        worst = float(values[bad].ravel()[0])
        if not abs(worst) < 1:
            raise InputError(f"tau must lie strictly between -1 and 1; got {worst:g}.")
        turned = f"{family.name}_90" if f"{family.name}_90" in FAMILIES else "frank"
        other = "gumbel" if worst > 0 else turned
        raise InputError(
            f"tau of the {family.name} copula must lie in ({low:g}, {high:g}); got {worst:g}. "
            f"The {other} copula can represent it (so can gaussian, student_t_4 and frank)."
        )
    return np.asarray(family.tau_to_theta(jnp.asarray(values)))
