"""The verdict of simulation-based calibration: ranks of true values, and whether they are uniform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cascade_bayes.inference.checks.statistics import holm
from cascade_bayes.sbc.uniformity import chi_squared_p, describe_ranks, ecdf_p

FAMILY_LEVEL = 0.01
"""Chance, at most, that a correct posterior fails."""


class RankTest(NamedTuple):
    """Tests of one quantity's ranks.

    Attributes
    ----------
    quantity
        Its name.
    exact
        Whether its ranks are uniform if the software is right; see `CalibrationRanks.exact`.
    chi_squared_p, ecdf_p
        p-values of the chi-squared test and of the simultaneous band of the ECDF
        (`cascade_bayes.sbc.uniformity`).
    adjusted_p
        The smaller of the two, by Holm's rule for both tests of all quantities that are as exact.
    posterior_is
        In what way the ranks are farthest from uniform: the posterior lies ``"too low"`` or ``"too high"``,
        is ``"too narrow"`` or ``"too wide"``.
    """

    quantity: str
    exact: bool
    chi_squared_p: float
    ecdf_p: float
    adjusted_p: float
    posterior_is: str


@dataclass(frozen=True, eq=False)
class CalibrationRanks:
    """Ranks of the true values among posterior draws, one a replication.

    Attributes
    ----------
    ranks
        Quantity -> how many of the draws lie below its true value, ``(num_replications,)``; ties at random.
    num_draws
        Draws that each truth is ranked among: ranks run from 0 to this number.
    exact
        Quantities whose ranks are uniform if sampler and likelihood are right. Of a chain they all are. Of a
        modular model, whose posterior is a cut one, those of the margins are, and without an upstream effect
        those of the calibration; what rests on the others is calibrated no better than the cut allows.
    effective_draws
        Effective draws of each fit, before it was thinned to ``num_draws``, of the parameter that has fewest,
        ``(num_replications,)``; of an approximation by its importance weights. With fewer than ``num_draws``
        ranks crowd at both ends.
    suspect
        Fits of which the library itself warns, ``(num_replications,)``: with divergent transitions, or an
        approximation that is not close. They are ranked like the others; leaving them out would bias.
    """

    ranks: Mapping[str, np.ndarray]
    num_draws: int
    exact: frozenset[str]
    effective_draws: np.ndarray
    suspect: np.ndarray

    @property
    def num_replications(self) -> int:
        """Number of cascades drawn from the priors."""
        return len(self.suspect)

    def test(self) -> list[RankTest]:
        """Return the tests of every quantity.

        Holm's rule makes families of two: the exact quantities, and the others.
        """
        names = list(self.ranks)
        chi_squared = [chi_squared_p(self.ranks[name], self.num_draws) for name in names]
        ecdf = [ecdf_p(self.ranks[name], self.num_draws) for name in names]
        both = np.array([chi_squared, ecdf])
        adjusted = np.ones(len(names))
        is_exact = np.array([name in self.exact for name in names])
        for family in (is_exact, ~is_exact):
            adjusted[family] = holm(both[:, family].ravel()).reshape((2, -1)).min(axis=0)
        return [
            RankTest(
                quantity=name,
                exact=bool(is_exact[i]),
                chi_squared_p=chi_squared[i],
                ecdf_p=ecdf[i],
                adjusted_p=float(adjusted[i]),
                posterior_is=describe_ranks(self.ranks[name], self.num_draws),
            )
            for i, name in enumerate(names)
        ]

    def failures(self, level: float = FAMILY_LEVEL) -> list[RankTest]:
        """Return the tests of quantities that are not calibrated, exact or not, at a family-wise level."""
        return [test for test in self.test() if test.adjusted_p <= level]

    @property
    def calibrated(self) -> bool:
        """Whether no exact quantity fails at a family-wise 1 %."""
        return not any(test.exact for test in self.failures())

    def sentence(self) -> str:
        """Return the verdict at a family-wise 1 % in words."""
        tests = self.test()
        parts = []
        for exact, kind in ((True, "exact"), (False, "cut")):
            family = [test for test in tests if test.exact is exact]
            if not family:
                continue
            failed = [test for test in family if test.adjusted_p <= FAMILY_LEVEL]
            worst = min(family, key=lambda test: test.adjusted_p)
            if not failed:
                parts.append(
                    f"all {len(family)} {kind} quantities are calibrated (smallest adjusted p "
                    f"{worst.adjusted_p:.2g}, {worst.quantity})"
                )
                continue
            named = ", ".join(f"{test.quantity} {test.posterior_is}" for test in failed[:5])
            more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
            parts.append(
                f"{len(failed)} of {len(family)} {kind} quantities are not calibrated: {named}{more}"
            )
        verdict = (
            f"In {self.num_replications} replications, ranks among {self.num_draws} draws, at a family-wise "
            f"{FAMILY_LEVEL:.0%}: {'; '.join(parts)}."
        )
        few = int(np.sum(self.effective_draws < self.num_draws))
        if few:
            verdict += f" {few} fits had fewer effective draws (at least {self.effective_draws.min():.0f})."
        if self.suspect.any():
            verdict += (
                f" {int(self.suspect.sum())} fits had divergences, or approximations that are not close."
            )
        return verdict

    def to_frame(self) -> Any:
        """Return the tests as a pandas frame, one row a quantity."""
        import pandas as pd

        return pd.DataFrame(self.test()).set_index("quantity")
