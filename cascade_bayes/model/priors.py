"""Prior distributions: every number of the model's priors, each with its reason, in one record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cascade_bayes.errors import InputError
from cascade_bayes.model.strata import is_long

MAX_COMPONENTS = 16

_POSITIVE = ("_scale", "_df", "_concentration1", "_concentration0", "concentration")
"""Endings of the names whose values must be positive."""


@dataclass(frozen=True)
class Priors:
    """Hyperparameters of the generative model.

    Scores are standardised, so that a margin with median 0 and the spread of a logistic
    distribution is a uniform score; all scales below are in that unit.

    Attributes
    ----------
    num_components
        Components of each margin, 1 to 16. They sit at the middles of as many equal parts of (0, 1),
        where standardised scores lie evenly; weights and spreads are free. Components at free places
        can tell one table in several ways (a narrow bulk on a broad ground, two bulks side by side),
        and a posterior with several modes is one whose chains do not meet. More than are needed do no
        harm: the prior shrinks the weights towards each other and the margin towards a uniform score.
        Static: it shapes the compiled program.
    split_scale, split_df
        Scale and degrees of freedom of the Student t prior of the log odds with which a margin's components
        are halved, and halved again (`cascade_bayes.model.margins`). With 1 and 3 a half holds 4 % to 96 %
        of its stretch (95 % interval): sparse, with most splits near even and a few as uneven as the data
        wish. Nearly normal splits, of 30 degrees of freedom, score less on public tables.
    concentration, concentration_scale
        Log-normal prior (median, log-scale) of ``concentration1 + concentration0`` of a component, in
        units of the number of components. At 2.6 ten components of equal weights come
        within 0.006 nats of uniform.
    normal_scale, normal_log_scale, normal_power
        Log-normal prior (median, log-scale) of the standard deviation of a normal component of the
        logit. The median is in units of ``1 / sqrt(J m (1 - m))**normal_power`` for the component at the
        score m of J: with 1 it grows towards both ends as the standard deviation of a beta variable's logit
        does, with 2 as the distance between neighbours does. At 1.05 and 1 ten components of equal weights
        come within 0.006 nats of uniform. A wider log-scale than 0.35 lets a component narrow onto a value
        that repeats: a second mode, at which chains get stuck.
    atom_logit_loc, atom_logit_scale
        Normal prior of the log odds of an atom against the continuous part. Seen atoms hold from
        under 1 % to 76 % of the queries.
    tau_concentration1, tau_concentration0
        Beta prior of the size of Kendall's tau of neighbours, for families that have one sign only.
        Models find the same questions hard; between public models tau runs from about 0 to 0.6.
    tau_loc, tau_scale
        Mean and standard deviation of tau for families of either sign: a Beta distribution stretched
        over (-1, 1). Between public models tau runs from -0.15 to 0.6.
    intercept_loc, intercept_scale
        Normal prior of the first model's log odds of being right (`cascade_bayes.model.anchors`). What it
        departs from its mean by, all models do.
    step_loc, step_scale
        Normal prior of the increase of these log odds from one model to the next dearer: dearer
        models tend to be more accurate. Not always: on public tables they rise by -0.6 to 1.8, by 0.45 on
        average. Each model departs from the common line by itself, with the scale ``step_scale / sqrt(2)``.
        Narrower and wider scales, and Student t tails, decide no better on training queries held back.
    claim_effect
        What models' own claims move the means of their intercepts by, a unit of the log odds of the mean
        probability that each claims (`cascade_bayes.model.anchors`). Between the models of a public table
        this is 0.2 to 0.7; 0 leaves claims out, and so do confidences of the kind ``"score"``.
    claim_loc, claim_step
        What the first model claims as a rule, and what each later one claims more: claims beyond these count.
    slope_loc, slope_scale
        Normal prior of the slope of log odds of being right against standardised logit score. On public
        tables slopes range from -0.1 to 1.0. A
        slope of 0.5 takes a model from 37 % at the 5 % quantile of its confidence to 82 % at the
        median's mirror, if it is right on 60 % in the middle; negative slopes occur and stay
        possible.
    upstream_loc, upstream_scale
        Normal prior of the effect that the previous model's confidence has on the log odds of being
        right, per unit of its standardised logit. Wider priors lose on public tables with 30 labels what
        they gain with 300.
    atom_effect_scale
        Scale of the normal deviation of an atom's log odds from the curve at its place.
    label_corr_concentration1, label_corr_concentration0
        Beta prior of the correlation, within a query and given its confidences, of the logistic variables
        that labels cut, at the middle of confidences (`cascade_bayes.model.difficulty`). On six public tables
        it is 0.35 to 0.8; 4 and 4 expect 0.2 to 0.8 (95 % interval).
    label_corr_slope_loc, label_corr_slope_scale
        Normal prior of what the log odds of that correlation gain a step of confidence: sure models fail on
        the same queries. On six public tables 0 to 1.1.

    Raises
    ------
    InputError
        If a value is not a finite number, a scale or concentration is not positive, or ``tau_loc`` and
        ``tau_scale`` fit no distribution on (-1, 1).

    Examples
    --------
    >>> Priors(slope_scale=1.0).slope_scale
    1.0
    """

    num_components: int = 16
    split_scale: float = 1.0
    split_df: float = 3.0
    concentration: float = 2.6
    concentration_scale: float = 0.5
    normal_scale: float = 1.05
    normal_log_scale: float = 0.35
    normal_power: float = 1.0
    atom_logit_loc: float = -1.0
    atom_logit_scale: float = 1.5
    tau_concentration1: float = 1.5
    tau_concentration0: float = 3.0
    tau_loc: float = 0.25
    tau_scale: float = 0.25
    intercept_loc: float = 0.35
    intercept_scale: float = 1.0
    step_loc: float = 0.45
    step_scale: float = 0.85
    claim_effect: float = 0.35
    claim_loc: float = 1.0
    claim_step: float = 0.65
    slope_loc: float = 0.5
    slope_scale: float = 0.35
    upstream_loc: float = 0.0
    upstream_scale: float = 0.15
    atom_effect_scale: float = 1.0
    label_corr_concentration1: float = 4.0
    label_corr_concentration0: float = 4.0
    label_corr_slope_loc: float = 0.5
    label_corr_slope_scale: float = 0.5

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{entry.name} of the priors must be a finite number; got {value!r}.")
            if entry.name.endswith(_POSITIVE) and not value > 0:
                raise InputError(f"{entry.name} of the priors must be positive; got {value!r}.")
        if self.num_components not in range(1, MAX_COMPONENTS + 1):
            raise InputError(
                f"num_components of the priors must be a whole number from 1 to {MAX_COMPONENTS}; got "
                f"{self.num_components!r}."
            )
        if min(self.tau_concentrations(-1.0, 1.0)) <= 0:
            limit = math.sqrt(max(1 - self.tau_loc**2, 0.0))
            raise InputError(
                f"tau_loc of the priors must lie between -1 and 1, and tau_scale below {limit:.3g} with it; "
                f"got {self.tau_loc!r} and {self.tau_scale!r}."
            )

    @classmethod
    def weak(cls) -> Priors:
        """Return priors that know nothing of language models: wide, centred on no effect where there is none.

        For checking what the defaults contribute; with few labels they lose what the defaults gain.
        """
        return cls(
            split_scale=2.0,
            concentration_scale=1.0,
            normal_log_scale=1.0,
            atom_logit_scale=2.5,
            tau_concentration1=1.0,
            tau_concentration0=1.0,
            tau_loc=0.0,
            tau_scale=0.5,
            intercept_loc=0.0,
            intercept_scale=2.0,
            step_loc=0.0,
            step_scale=1.5,
            claim_effect=0.0,
            slope_loc=0.0,
            slope_scale=1.5,
            upstream_scale=0.5,
            atom_effect_scale=2.0,
            label_corr_concentration1=1.0,
            label_corr_concentration0=1.0,
            label_corr_slope_loc=0.0,
            label_corr_slope_scale=1.0,
        )

    @classmethod
    def long_table(cls) -> Priors:
        """Return the defaults of a long table (`cascade_bayes.model.strata`), which differ in its margins.

        By `Priors()` a component in the middle is twice as wide as the distance to the next, and its width is
        free. However many the confidences, they then tell neighbours apart hardly at all, and all the better
        what these come to together: a posterior as thin as the table is long, and bent, of which NUTS
        takes hundreds of steps a draw. Here components are a little narrower than their distance,
        and their widths are nearly known. Each weight is then told by the confidences around it, and
        the posterior is close to a normal distribution. A short table would lose by it: weights of their own
        are more than it can tell.
        """
        return cls(normal_scale=0.7, normal_log_scale=0.1, normal_power=2.0)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Priors:
        """Return priors with these overrides of the defaults.

        Raises
        ------
        InputError
            If a name is not one of the hyperparameters.

        Examples
        --------
        >>> Priors.from_dict({"num_components": 2}).num_components
        2
        """
        known = [entry.name for entry in fields(cls)]
        for name in record:
            if name not in known:
                raise InputError(f"the priors have no hyperparameter {name!r}; known: {', '.join(known)}.")
        return cls(**record)

    def tau_concentrations(self, low: float, high: float) -> tuple[float, float]:
        """Return the Beta shapes of ``(tau - low) / (high - low)`` for a family with this range of tau."""
        if low >= 0:
            return self.tau_concentration1, self.tau_concentration0
        if high <= 0:
            return self.tau_concentration0, self.tau_concentration1
        mean, scale = (self.tau_loc - low) / (high - low), self.tau_scale / (high - low)
        total = mean * (1 - mean) / scale**2 - 1
        return mean * total, (1 - mean) * total

    def to_dict(self) -> dict[str, Any]:
        """Return the hyperparameters as a plain dictionary."""
        return asdict(self)


def default_priors(num_queries: int) -> Priors:
    """Return the priors of a table of so many queries, where the user names none.

    Examples
    --------
    >>> default_priors(300) == Priors(), default_priors(3000) == Priors.long_table()
    (True, True)
    """
    return Priors.long_table() if is_long(num_queries) else Priors()
