"""Realised error and cost of policies on labelled tables."""

from cascade_bayes.evaluation.realised import Realised, decide, realise

__all__ = ["Realised", "decide", "realise"]
