r"""Raw confidences to standardised logit scores and back.

Models report confidence on scales that cannot be compared: log-probabilities crowded against 0,
probabilities, verbal scores. Each is carried to the real line by a fixed, increasing map that looks
at no label,

.. math:: z = (g(r) - \mathrm{location}) / \mathrm{scale}, \qquad s = \sigma(z) \in (0, 1),

where the link :math:`g` depends on the kind of confidence only:

=============  ======================  ===========================================
kind           raw confidence r        link g(r)
=============  ======================  ===========================================
`logprob`      log p in [-inf, 0]      logit(p), computed from log p
`probability`  p in [0, 1]             logit(p)
`score`        any finite number       r itself
=============  ======================  ===========================================

A log-probability of -1e-12 is ordinary for a large model and would be rounded away by forming
``1 - exp(l)``; the link is computed from the log-probability and keeps it. For the same reason all
later work is done with z: the score s in (0, 1) is the notation of the formulas, but densities,
margins and calibration are evaluated at z (with log s = -softplus(-z), log(1 - s) = -softplus(z)),
so that nothing is lost near 0 and 1.

Notes
-----
Zellinger & Thomson (arXiv 2501.09345, section on confidence transformations) use -log(1 - p) for
multiple-choice answers, and a two-sided form of it, symmetric about p = 1/2, for self-verification,
P(True). Both are asymptotically logit(p) where confidences crowd: the first as p -> 1, the second
as p -> 0 and p -> 1. The logit serves both, and is smooth at 1/2.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_bayes.errors import InputError
from cascade_bayes.markers import find_floor, robust_line

__all__ = ["DOMAIN", "KINDS", "ConfidenceMap", "check_kind", "in_domain", "inverse_link", "link"]

#: Kinds of confidence, and the rule that raw values of each must obey.
KINDS: dict[str, str] = {"logprob": "<= 0", "probability": "in [0, 1]", "score": "finite"}

#: The least and the greatest confidence of each kind.
DOMAIN: dict[str, tuple[float, float]] = {
    "logprob": (-math.inf, 0.0),
    "probability": (0.0, 1.0),
    "score": (-sys.float_info.max, sys.float_info.max),
}

# Below -log 2, exp(l) < 1/2 and log1p(-exp(l)) is the accurate form of log(1 - exp(l)); above it,
# expm1 is (Maechler 2012, "Accurately computing log(1 - exp(-|a|))", eq. 7).
_LOG_2 = float(np.log(2.0))


def check_kind(kind: str) -> None:
    """Raise `InputError` unless `kind` is one of `KINDS`.

    Examples
    --------
    >>> check_kind("logprob")
    """
    if not isinstance(kind, str) or kind not in KINDS:
        names = ", ".join(repr(name) for name in KINDS)
        raise InputError(
            f"confidence must be one of the kinds {names}; got {kind!r}. "
            'Pass for example confidence="probability" (--confidence probability).'
        )


def in_domain(confidence: ArrayLike, kind: str) -> NDArray[np.bool_]:
    """Whether raw confidences obey the rule of their kind; missing values (nan) do.

    Parameters
    ----------
    confidence : array_like, any shape
        Raw confidences.
    kind : {'logprob', 'probability', 'score'}

    Returns
    -------
    ndarray of bool, same shape

    Examples
    --------
    >>> in_domain([-0.1, 0.0, 0.9], "logprob")
    array([ True,  True, False])
    """
    check_kind(kind)
    r = np.asarray(confidence, dtype=np.float64)
    low, high = DOMAIN[kind]
    return ~((r < low) | (r > high))


def link(confidence: ArrayLike, kind: str) -> NDArray[np.float64]:
    """Carry raw confidences to the real line: logit(p), or the identity for scores.

    For a log-probability l this is logit(exp(l)) = l - log(1 - exp(l)) without forming 1 - exp(l).

    Parameters
    ----------
    confidence : array_like, any shape
        Raw confidences; nan where missing.
    kind : {'logprob', 'probability', 'score'}

    Returns
    -------
    ndarray of float64, same shape
        Increasing in the confidence. Certainty (l = 0, p = 1) gives +inf, impossibility (l = -inf,
        p = 0) gives -inf; nan stays nan, and values outside the domain give nan.

    Examples
    --------
    >>> link([-1e-12, 0.0, -float("inf")], "logprob").round(4)
    array([27.631,    inf,   -inf])
    """
    check_kind(kind)
    r = np.asarray(confidence, dtype=np.float64)
    if kind == "score":
        return r.copy()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        if kind == "probability":
            return np.asarray(np.log(r) - np.log1p(-r))
        # Near 0, logit(exp(l)) = -log(exp(-l) - 1) in one step; far from it exp(-l) would overflow.
        near = -np.log(np.expm1(-np.maximum(r, -_LOG_2)))
        far = r - np.log1p(-np.exp(np.minimum(r, -_LOG_2)))
        return np.asarray(np.where(r > -_LOG_2, near, far))


def inverse_link(logit: ArrayLike, kind: str) -> NDArray[np.float64]:
    """Carry values of `link` back to raw confidences.

    Parameters
    ----------
    logit : array_like, any shape
        Values on the real line, +-inf allowed; nan stays nan.
    kind : {'logprob', 'probability', 'score'}

    Returns
    -------
    ndarray of float64, same shape
        -softplus(-logit) for `logprob`, sigma(logit) for `probability`, the value itself for
        `score`. Log-probabilities keep full relative accuracy at both ends; probabilities near 1
        have only the resolution of a float near 1.

    Examples
    --------
    >>> inverse_link([27.631021, float("inf")], "logprob")
    array([-1.00000012e-12,  0.00000000e+00])
    """
    check_kind(kind)
    z = np.asarray(logit, dtype=np.float64)
    if kind == "score":
        return z.copy()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        tail = np.exp(-np.abs(z))
        if kind == "probability":
            return np.asarray(np.where(z >= 0.0, 1.0, tail) / (1.0 + tail))
        return np.asarray(np.minimum(z, 0.0) - np.log1p(tail))


@dataclass(frozen=True)
class ConfidenceMap:
    r"""The increasing map between raw confidences and standardised logit scores, model by model.

    :math:`z = (g(r) - \mathrm{location}_i) / \mathrm{scale}_i` with the link :math:`g` of `link`.

    Parameters
    ----------
    kind : {'logprob', 'probability', 'score'}
        Kind of confidence, the same for all models.
    location, scale : tuple of float, length num_models
        One entry per model, in cascade order. Scales are positive.
    floor : tuple of float, length num_models, optional
        Raw confidences from which on down a model is as unsure as can be: z is -inf. See
        `cascade_bayes.markers`. -inf for a model without; by default for all.

    Raises
    ------
    InputError
        If the kind is unknown, the lengths differ, an entry is not finite or a scale not positive.

    Examples
    --------
    >>> fitted = ConfidenceMap.fit([[0.1, 0.2], [0.5, 0.7], [0.9, 0.9]], "probability")
    >>> fitted.to_logit([[0.5, 0.7]])
    array([[0., 0.]])
    """

    kind: str
    location: tuple[float, ...]
    scale: tuple[float, ...]
    floor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_kind(self.kind)
        location = tuple(float(value) for value in self.location)
        scale = tuple(float(value) for value in self.scale)
        if len(location) != len(scale):
            raise InputError(
                "a confidence map needs one location and one scale per model; "
                f"got {len(location)} locations and {len(scale)} scales."
            )
        if not all(np.isfinite(location)):
            raise InputError(f"locations of a confidence map must be finite; got {location}.")
        if not all(np.isfinite(value) and value > 0.0 for value in scale):
            raise InputError(f"scales of a confidence map must be positive and finite; got {scale}.")
        floor = tuple(float(value) for value in self.floor) or (-np.inf,) * len(scale)
        if len(floor) != len(scale):
            raise InputError(
                "a confidence map needs one floor per model, or none; "
                f"got {len(floor)} for {len(scale)} models."
            )
        known = np.array(floor)[~np.isneginf(floor)]
        if not (np.isfinite(known) & np.isfinite(link(known, self.kind))).all():
            raise InputError(
                f"floors of a confidence map must be -inf, or of kind {self.kind!r} and finite; got {floor}."
            )
        object.__setattr__(self, "floor", floor)
        object.__setattr__(self, "location", location)
        object.__setattr__(self, "scale", scale)

    @classmethod
    def fit(cls, confidence: ArrayLike, kind: str) -> ConfidenceMap:
        """Choose location and scale from unlabelled confidences, robustly.

        The location is the median, and the scale (q95 - q05) / (2 log 19), of the finite link
        values of each model: a standard logistic sample gets location 0 and scale 1, so its scores
        sigma(z) spread evenly over (0, 1). Exact certainty and impossibility (+-inf) take no part, nor do
        values that no model means, such as -9999 (`cascade_bayes.markers`), which become its floor.

        Parameters
        ----------
        confidence : array_like, shape (num_queries, num_models)
            Raw confidences, nan where missing.
        kind : {'logprob', 'probability', 'score'}

        Returns
        -------
        ConfidenceMap
            A model with zero spread (one value, or nine in ten equal) gets scale 1; a model without
            any finite link value gets location 0 as well.

        Raises
        ------
        InputError
            If the kind is unknown or the array does not have two axes.
        """
        values = link(confidence, kind)
        if values.ndim != 2:
            raise InputError(f"confidence must have shape (num_queries, num_models); got {values.shape}.")
        location, scale, floor = [], [], []
        for raw, column in zip(np.asarray(confidence, dtype=np.float64).T, values.T, strict=True):
            lowest = find_floor(raw, column, kind)
            line = robust_line(column[np.isfinite(column) & (raw > lowest)])
            location.append(line[0])
            scale.append(line[1])
            floor.append(lowest)
        return cls(kind, tuple(location), tuple(scale), tuple(floor))

    @property
    def num_models(self) -> int:
        """Number of models."""
        return len(self.location)

    def to_logit(self, confidence: ArrayLike, model: int | None = None) -> NDArray[np.float64]:
        """Standardised logit scores z of raw confidences.

        Parameters
        ----------
        confidence : array_like, shape (..., num_models), or any shape if `model` is given
            Raw confidences, nan where missing.
        model : int, optional
            Position of the one model that all values belong to.

        Returns
        -------
        ndarray of float64, same shape
            nan stays nan; full certainty is +inf; impossibility, and what lies at or below the floor,
            -inf. The score is sigma(z).

        Raises
        ------
        InputError
            If the last axis does not have one entry per model.
        """
        values = link(confidence, self.kind)
        location, scale, floor = self._parameters(values, model)
        lowest = np.asarray(confidence, dtype=np.float64) <= floor
        return np.asarray(np.where(lowest, -np.inf, (values - location) / scale))

    def from_logit(self, logit: ArrayLike, model: int | None = None) -> NDArray[np.float64]:
        """Raw confidences of standardised logit scores, the inverse of `to_logit`.

        Parameters
        ----------
        logit : array_like, shape (..., num_models), or any shape if `model` is given
            Standardised logit scores z.
        model : int, optional
            Position of the one model that all values belong to.

        Returns
        -------
        ndarray of float64, same shape
            Raw confidences; the floor, where there is one, for -inf. There and back returns a value up to
            rounding, not to the bit: a threshold that must sit exactly at an atom should be taken from the
            raw confidences.

        Raises
        ------
        InputError
            If the last axis does not have one entry per model.
        """
        z = np.asarray(logit, dtype=np.float64)
        location, scale, floor = self._parameters(z, model)
        raw = inverse_link(location + scale * z, self.kind)
        return np.asarray(np.where(np.isneginf(z) & np.isfinite(floor), floor, raw))

    def select(self, indices: Sequence[int]) -> ConfidenceMap:
        """Return the map of an ordered subset of models, given by position.

        Examples
        --------
        >>> ConfidenceMap("score", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)).select([2, 0]).location
        (3.0, 1.0)
        """
        return ConfidenceMap(
            self.kind,
            tuple(self.location[i] for i in indices),
            tuple(self.scale[i] for i in indices),
            tuple(self.floor[i] for i in indices),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON; `from_dict` reads it back to the bit."""
        record = {"kind": self.kind, "location": list(self.location), "scale": list(self.scale)}
        if np.isfinite(self.floor).any():
            record["floor"] = [value if np.isfinite(value) else None for value in self.floor]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ConfidenceMap:
        """Rebuild a map from `to_dict`.

        Raises
        ------
        InputError
            If an entry is missing or not of the right form.
        """
        try:
            kind, location, scale = record["kind"], record["location"], record["scale"]
            floor = tuple(-np.inf if value is None else float(value) for value in record.get("floor", ()))
            return cls(kind, tuple(map(float, location)), tuple(map(float, scale)), floor)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"a confidence map needs the entries 'kind', 'location' and 'scale'; got {record!r}."
            ) from error

    def _parameters(
        self, values: NDArray[np.float64], model: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        location, scale, floor = np.asarray(self.location), np.asarray(self.scale), np.asarray(self.floor)
        if model is not None:
            return location[model], scale[model], floor[model]
        if values.ndim == 0 or values.shape[-1] != self.num_models:
            raise InputError(
                f"the last axis must have one entry for each of the {self.num_models} models; "
                f"got shape {values.shape}."
            )
        return location, scale, floor
