"""Realised error and cost of policies on labelled tables, their measures, and thresholds without a model."""

from cascade_bayes.evaluation.realised import Realised, decide, follow, left_unanswered, realise

__all__ = ["Realised", "decide", "follow", "left_unanswered", "realise"]
