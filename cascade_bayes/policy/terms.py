"""What is paid for besides calls and wrong answers: waiting, and being left without an answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cascade_bayes.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is paid for besides calls and wrong answers, and how.

    Attributes
    ----------
    latency_price
        US dollars per second that a query waits.
    abstain_price
        US dollars per query that is left without an answer; None to answer every query.
    abstain
        ``"early"``: every model may abstain; ``"final"``: only the last.
    constant_costs
        Take the cost of a model's calls for the same whatever was deferred.

    Raises
    ------
    InputError
        For a price that is negative or not finite, or another word for who abstains.
    """

    latency_price: float = 0.0
    abstain_price: float | None = None
    abstain: Literal["early", "final"] = "early"
    constant_costs: bool = False

    def __post_init__(self) -> None:
        for name in ("latency_price", "abstain_price"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be a finite number, at least 0; got {value!r}.")
        if self.abstain not in ("early", "final"):
            raise InputError(f"abstain must be 'early' or 'final'; got {self.abstain!r}.")

    @property
    def abstains_early(self) -> bool:
        """Whether models before the last may abstain."""
        return self.abstain_price is not None and self.abstain == "early"

    @property
    def costs_alone(self) -> bool:
        """Whether calls are all that is paid for."""
        return not self.latency_price and self.abstain_price is None

    def agree(self, other: Terms) -> bool:
        """Return whether expenses under either can be compared: one may abstain and the other not."""
        prices = {self.abstain_price, other.abstain_price} - {None}
        same = self.latency_price == other.latency_price and self.constant_costs == other.constant_costs
        return same and len(prices) < 2

    def spelled_out(self, unit: str = "US dollars") -> str:
        """Return what an expense is, in words; the unit is what costs are counted in."""
        parts = ["constant cost" if self.constant_costs else "cost"]
        if self.latency_price:
            parts.append(f"{self.latency_price:g} {unit} a second")
        if self.abstain_price is not None:
            parts.append(f"{self.abstain_price:g} an abstention")
        return " + ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the terms as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Terms:
        """Inverse of `to_dict`."""
        return cls(**record)


COSTS_ALONE = Terms()
"""Nothing is paid for but calls and wrong answers."""
