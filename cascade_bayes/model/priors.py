"""Prior distributions: every number of the model's priors, each with its reason, in one record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Priors:
    """Hyperparameters of the generative model.

    Scores are standardised, so that a margin with median 0 and the spread of a logistic
    distribution is a uniform score; all scales below are in that unit.

    Attributes
    ----------
    num_components
        Beta components of each margin, at most 16. Their means are fixed at the middles of as many
        equal parts of (0, 1), where standardised scores lie evenly; weights and concentrations are
        free. Components with free means can tell one table in several ways (a narrow bulk on a
        broad ground, two bulks side by side), and a posterior with several modes is one whose
        chains do not meet. Static: it shapes the compiled program.
    mixing_scale
        Scale of the normal prior of the isometric log ratios of the mixing probabilities. 1.2 lets
        a component hold 1 % to 85 %. Normal tails, unlike a Dirichlet's, keep a component that
        the data do not need from wandering off to weights of 1e-10.
    concentration, concentration_scale
        Log-normal prior (median, log-scale) of ``concentration1 + concentration0`` of a component.
        Four components of concentration 8 with equal weights make a margin close to uniform.
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
        Normal prior of the first model's log odds of being right at its median confidence.
    step_loc, step_scale
        Normal prior of the increase of these log odds from one model to the next dearer: dearer
        models tend to be more accurate.
    slope_loc, slope_scale
        Normal prior of the slope of log odds of being right against standardised logit score. A
        slope of 0.5 takes a model from 37 % at the 5 % quantile of its confidence to 82 % at the
        median's mirror, if it is right on 60 % in the middle; negative slopes occur and stay
        possible.
    atom_effect_scale
        Scale of the normal deviation of an atom's log odds from the curve at its place.
    """

    num_components: int = 4
    mixing_scale: float = 1.2
    concentration: float = 8.0
    concentration_scale: float = 0.35
    atom_logit_loc: float = -1.0
    atom_logit_scale: float = 1.5
    tau_concentration1: float = 1.5
    tau_concentration0: float = 3.0
    tau_loc: float = 0.25
    tau_scale: float = 0.25
    intercept_loc: float = 0.0
    intercept_scale: float = 1.0
    step_loc: float = 0.6
    step_scale: float = 0.5
    slope_loc: float = 0.5
    slope_scale: float = 0.5
    atom_effect_scale: float = 1.0

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
