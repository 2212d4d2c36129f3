"""Distributions of one model's confidence: beta mixtures with point masses."""

from cascade_bayes.distributions.mixed import MarginParams, MarginPoint, MixedMargin

__all__ = ["MarginParams", "MarginPoint", "MixedMargin"]
