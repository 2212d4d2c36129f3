"""What the numbers of a table are: what costs are counted in, and what its confidences were in the table.

This goes with a table, its fit and its policies, and into their files, so that a policy can read a table
like the one it was tuned on and say what its figures are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Currency = Literal["US dollars", "deferrals"]
GivenKind = Literal["percent", "uncertainty", "nll", "perplexity"]

DOLLARS: Currency = "US dollars"
DEFERRALS: Currency = "deferrals"


class Units(NamedTuple):
    """What costs are counted in, and what confidences were in the table.

    Attributes
    ----------
    cost
        ``"US dollars"``, or ``"deferrals"``: then every call but that of the first model costs one.
    given_as
        The kind of confidence that the table holds, where that is read as another: ``"percent"``,
        ``"uncertainty"``, ``"nll"`` or ``"perplexity"``. None where it is read as it stands.
    grades
        The words that stand for the scores 1, 2, 3, ..., from the least sure; none where confidences are
        numbers.
    """

    cost: Currency = DOLLARS
    given_as: GivenKind | None = None
    grades: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The unit of costs in the head of a column."""
        return "$" if self.cost == DOLLARS else self.cost


AS_THEY_STAND = Units()
"""Costs in US dollars, confidences that are read as they stand."""
