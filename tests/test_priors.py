"""Hyperparameters: what is refused, the weak set, overrides."""

from __future__ import annotations

from dataclasses import fields

import pytest
import scipy.stats

from cascade_bayes.errors import InputError
from cascade_bayes.model.priors import Priors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slope_scale": 0.0}, "slope_scale of the priors must be positive; got 0.0"),
        ({"normal_scale": 0.0}, "normal_scale of the priors must be positive; got 0.0"),
        ({"concentration": -1.0}, "concentration of the priors must be positive; got -1.0"),
        (
            {"tau_concentration1": float("nan")},
            "tau_concentration1 of the priors must be a finite number; got nan",
        ),
        ({"intercept_loc": "0"}, "intercept_loc of the priors must be a finite number; got '0'"),
        ({"num_components": 17}, "num_components of the priors must be a whole number from 1 to 16; got 17"),
        ({"num_components": 2.5}, "whole number from 1 to 16; got 2.5"),
        ({"tau_loc": 0.9, "tau_scale": 0.5}, "tau_scale below 0.436 with it; got 0.9 and 0.5"),
    ],
)
def test_bad_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Priors(**values)  # type: ignore[arg-type]


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="no hyperparameter 'slope'; known: num_components, mixing_scale"):
        Priors.from_dict({"slope": 1.0})
    assert Priors.from_dict({"slope_loc": 1.0}) == Priors(slope_loc=1.0)
    assert Priors.from_dict(Priors.weak().to_dict()) == Priors.weak()


def test_weak_priors_are_wider_in_every_scale() -> None:
    default, weak = Priors(), Priors.weak()
    for entry in fields(Priors):
        if entry.name.endswith("_scale") and entry.name not in ("mixing_scale", "normal_scale"):
            assert getattr(weak, entry.name) > getattr(default, entry.name), entry.name
    assert weak.step_loc == weak.slope_loc == weak.tau_loc == 0.0


def test_tau_prior_has_the_stated_moments() -> None:
    priors = Priors()
    assert priors.tau_concentrations(0.0, 1.0) == (1.5, 3.0)
    assert priors.tau_concentrations(-1.0, 0.0) == (3.0, 1.5)
    beta = scipy.stats.beta(*priors.tau_concentrations(-1.0, 1.0), loc=-1, scale=2)
    assert (beta.mean(), beta.std()) == pytest.approx((priors.tau_loc, priors.tau_scale))
