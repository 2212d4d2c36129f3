"""Realised error and cost of policies on labelled tables, their measures, and thresholds without a model."""

from cascade_bayes.evaluation.realised import NORMAL_QUANTILE, Realised, realise

__all__ = ["NORMAL_QUANTILE", "Realised", "realise"]
