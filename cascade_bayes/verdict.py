"""What was said of a fit, kept in every file that is made from it."""

from __future__ import annotations

from typing import NamedTuple


class FitVerdict(NamedTuple):
    """What was said of a fit, as it travels with everything that is made from it.

    Attributes
    ----------
    trusted
        Whether the fit may be relied on.
    sentence
        The verdict in words.
    """

    trusted: bool
    sentence: str
