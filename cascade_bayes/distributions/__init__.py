"""Distributions of one model's confidence: beta mixtures with point masses."""

from cascade_bayes.distributions.mixed import MarginParams, MixedMargin

__all__ = ["MarginParams", "MixedMargin"]
