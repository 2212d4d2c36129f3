"""Cascades that are put together from parts do what those do whose tables are made for them alone."""

import itertools

import jax
import numpy as np
import pytest

from cascade_bayes import CascadeData, Posterior, fit
from cascade_bayes.decision.discretise import OnGrid
from cascade_bayes.engine.sweep import run_policies
from cascade_bayes.policy.policy import Cuts
from cascade_bayes.policy.terms import Terms


def check_all(posterior: Posterior, terms: Terms) -> None:
    """Every cascade of the fit, at a few thresholds, within and at the ends of the scale."""
    on_grid = OnGrid(posterior, None, 12, terms=terms)
    rng = np.random.default_rng(0)
    for size in range(1, len(posterior.models) + 1):
        for names in itertools.combinations(posterior.models, size):
            chain = on_grid.cascade(names)
            low = rng.choice([-np.inf, -2.0, -0.5, -0.1], (5, size - 1))
            abstain = None
            if terms.abstain_price is not None:
                left = np.concatenate([low - 1.0, np.full((5, 1), -0.7)], axis=1)
                abstain = (
                    left if terms.abstains_early else np.where(np.arange(size) < size - 1, -np.inf, left)
                )
            at = chain.positions(Cuts(low, abstain))
            shared, alone = run_policies(chain, at), chain.outcomes(at)
            for name, one, other in zip(shared._fields, shared, alone, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=f"{names} {name}")


@pytest.mark.parametrize(
    "terms",
    [
        Terms(),
        pytest.param(Terms(abstain_price=0.002), marks=pytest.mark.slow),
        pytest.param(Terms(abstain_price=0.002, abstain="final"), marks=pytest.mark.slow),
    ],
)
def test_of_a_modular_fit(small_posterior: Posterior, terms: Terms) -> None:
    with jax.enable_x64(True):
        check_all(small_posterior, terms)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The approximation is not to be trusted")
def test_of_a_fit_that_is_one_chain(small_data: CascadeData) -> None:
    """Models that a cascade skips are integrated over."""
    posterior = fit(small_data, method="laplace", structure="chain", seed=0, progress=False)
    with jax.enable_x64(True):
        check_all(posterior, Terms())
