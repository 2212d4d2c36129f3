"""Distributions of one model's confidence: point masses and a continuous part, a mixture of either family."""

from cascade_bayes.distributions.beta_mixture import BetaMixture
from cascade_bayes.distributions.continuous import ContinuousPart
from cascade_bayes.distributions.logit_normal_mixture import LogitNormalMixture
from cascade_bayes.distributions.mixed import MarginParams, MarginPoint, MixedMargin

__all__ = [
    "BetaMixture",
    "ContinuousPart",
    "LogitNormalMixture",
    "MarginParams",
    "MarginPoint",
    "MixedMargin",
]
