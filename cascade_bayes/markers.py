r"""Values among confidences that no model means, such as the -9999 of an interface that has no answer.

A log-probability of -9999 or -100 says that a token was not among the likeliest, that a sum was clipped, or
that nothing was returned. Read as a measurement, six of them in a hundred make a scale a thousand times
too wide. They say "as unsure as can be", and are read as exact impossibility is: one point below the scale.

A value :math:`v` of one model is such a marker if it lies more than `FAR` robust scales below the median of
the confidences above it, both measured after the link of the kind of confidence, and

* it is one that programs write, ``-10**k`` or ``1 - 10**k`` for k >= 2 or the least number of a format (kinds
  ``logprob`` and ``score``); or
* it occurs at least twice and is a probability below 3e-7 (kinds ``logprob`` and ``probability``).

Everything at or below the greatest marker is read the same. A model's own far values do not qualify: they
differ from each other, and pull the scale with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAR = 20.0
"""Robust scales between a marker and the median of what lies above it.

A logistic variable is that far below its median once in 5e8 times. Among the confidences of 71 models on
twelve public benchmarks the farthest repeated value of a probability below 3e-7 lies at 5.
"""

UNLIKELY = -15.0
"""Log odds from which on down a repeated value may be a marker; stated confidences end at some -7."""

FEWEST = 5
"""Confidences that must lie above a marker, for their scale to be known."""

# The 5 % and 95 % quantiles of the standard logistic distribution are -log 19 and +log 19.
_LOGISTIC_Q95 = float(np.log(19.0))

# A spread of a few roundings of the location is a constant column, not a scale.
_ROUNDINGS = 16.0 * float(np.finfo(np.float64).eps)

_LEAST = tuple(float(np.finfo(dtype).min) for dtype in (np.float16, np.float32, np.float64))


def robust_line(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the location and the scale of finite values: their median, and (q95 - q05) / (2 log 19).

    Parameters
    ----------
    values
        Confidences after the link, ``(num_values,)``.

    Returns
    -------
    tuple of float
        The scale is 1 if there is next to no spread; location 0 and scale 1 of no values.
    """
    if values.size == 0:
        return 0.0, 1.0
    q05, median, q95 = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    spread = (q95 - q05) / (2.0 * _LOGISTIC_Q95)
    usable = np.isfinite(spread) and spread > _ROUNDINGS * abs(median)
    return median, spread if usable else 1.0


def find_floor(raw: NDArray[np.float64], linked: NDArray[np.float64], kind: str) -> float:
    """Return the greatest marker among one model's confidences, -inf if there is none.

    Parameters
    ----------
    raw
        Confidences on the user's scale, nan where missing, ``(num_queries,)``.
    linked
        The same after the link of their kind, ``(num_queries,)``.
    kind : {'logprob', 'probability', 'score'}
        Kind of confidence.

    Examples
    --------
    >>> raw = np.array([-9999.0, -0.1, -0.2, -0.3, -0.4, -0.5])
    >>> find_floor(raw, raw, "logprob")
    -9999.0
    """
    finite = np.isfinite(linked)
    order = np.argsort(linked[finite], kind="stable")
    raw, linked = raw[finite][order], linked[finite][order]
    values, first, counts = np.unique(raw, return_index=True, return_counts=True)
    written = np.zeros(len(values), dtype=bool)
    if kind != "probability":
        for i in np.flatnonzero(values <= -99.0):
            written[i] = _is_written(values[i])
    repeated = (counts >= 2) & (linked[first] <= UNLIKELY) & (kind != "score")
    for i in np.flatnonzero(written | repeated)[::-1]:
        above = linked[first[i] + counts[i] :]
        if above.size >= FEWEST and linked[-1] > linked[first[i]]:
            median, scale = robust_line(above)
            if median - linked[first[i]] > FAR * scale:
                return float(values[i])
    return -np.inf


def _is_written(value: float) -> bool:
    """Whether a value is one that programs write where they have no number."""
    if value in _LEAST:
        return True
    power = 10.0 ** round(np.log10(-value))
    return bool(value in (-power, 1.0 - power))
