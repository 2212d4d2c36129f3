"""One property tried on many made-up inputs, with a count of what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

#: How many inputs each test tries: by default, and under the markers ``slow`` and ``long``.
examples = pytest.mark.parametrize(
    "num_examples",
    [
        400,
        pytest.param(2_000, marks=pytest.mark.slow),
        pytest.param(50_000, marks=pytest.mark.long),
    ],
)

#: Characters of an input that a failure shows.
MOST_SHOWN = 4_000


class _Example:
    """One input, shown in full only where that is short: a file has 100,000 bytes."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        shown = repr(self.value)
        return (
            shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]} and {len(shown) - MOST_SHOWN} more"
        )


def fuzz(
    name: str,
    strategy: SearchStrategy[Any],
    check: Callable[[Any], str],
    num_examples: int,
    record_property: Callable[[str, object], None],
) -> Counter[str]:
    """Try a property on made-up inputs and have the count printed at the end of the run.

    Parameters
    ----------
    name
        What is tried, as the summary calls it.
    strategy
        Makes the inputs, valid ones among them.
    check
        The property: raises if it does not hold, else says what became of the input, ``"accepted"`` or
        ``"refused"``.
    num_examples
        How many inputs.
    record_property
        The fixture of pytest.
    """
    tally: Counter[str] = Counter()

    @settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy.map(_Example))
    def each(example: _Example) -> None:
        tally[check(example.value)] += 1

    each()
    assert tally["accepted"], f"no valid input was tried: {tally}"
    assert tally["refused"], f"no invalid input was tried: {tally}"
    told = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()))
    record_property("fuzz", f"{name}: {tally.total()} inputs tried, {told}")
    return tally
