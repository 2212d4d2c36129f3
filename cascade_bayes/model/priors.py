"""Prior distributions: every number of the model's priors, each with its reason, in one record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Priors:
    """Hyperparameters of the generative model.

    Scores are standardised, so that a margin with median 0 and the spread of a logistic distribution
    is a uniform score; all scales below are in that unit.

    Attributes
    ----------
    num_components
        Beta components of each margin. Two hold a bulk and one long tail. Static: it shapes the
        compiled program.
    mixing_concentration
        Symmetric Dirichlet of the mixing probabilities. At 3 each component of two keeps 10 to 90 % of
        the mass with probability 0.98: a component that no query supports has shapes that nothing
        determines, and a posterior with an idle component is slow to explore.
    component_loc, component_loc_scale
        Normal prior of the logit of the lowest component's mean: below the middle, which is 0 by
        standardisation.
    component_gap, component_gap_scale
        Log-normal prior (median, log-scale) of the gaps between neighbouring components' mean logits.
        Gaps are positive, which names the components; a median of 1.5 with a factor e**0.5 keeps them
        apart, so that they cannot trade places.
    concentration, concentration_scale
        Log-normal prior (median, log-scale) of ``concentration1 + concentration0`` of a component. The
        uniform distribution has 2; ties from rounding would otherwise pull a component onto a spike.
    atom_logit_loc, atom_logit_scale
        Normal prior of the log odds of an atom against the continuous part. Seen atoms hold from under
        1 % to 76 % of the queries.
    tau_concentration1, tau_concentration0
        Beta prior of Kendall's tau of neighbours. Models find the same questions hard; between public
        models tau runs from about 0 to 0.6.
    intercept_loc, intercept_scale
        Normal prior of the first model's log odds of being right at its median confidence.
    step_loc, step_scale
        Normal prior of the increase of these log odds from one model to the next dearer: dearer models
        tend to be more accurate.
    slope_loc, slope_scale
        Normal prior of the slope of log odds of being right against standardised logit score. A slope
        of 0.5 takes a model from 37 % at the 5 % quantile of its confidence to 82 % at the median's
        mirror, if it is right on 60 % in the middle; negative slopes occur and stay possible.
    atom_effect_scale
        Scale of the normal deviation of an atom's log odds from the curve at its place.
    """

    num_components: int = 2
    mixing_concentration: float = 3.0
    component_loc: float = -1.0
    component_loc_scale: float = 1.0
    component_gap: float = 1.5
    component_gap_scale: float = 0.5
    concentration: float = 4.0
    concentration_scale: float = 0.75
    atom_logit_loc: float = -1.0
    atom_logit_scale: float = 1.5
    tau_concentration1: float = 1.5
    tau_concentration0: float = 3.0
    intercept_loc: float = 0.0
    intercept_scale: float = 1.0
    step_loc: float = 0.6
    step_scale: float = 0.5
    slope_loc: float = 0.5
    slope_scale: float = 0.5
    atom_effect_scale: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the hyperparameters as a plain dictionary."""
        return asdict(self)
