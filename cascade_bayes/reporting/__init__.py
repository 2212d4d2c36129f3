"""A report of a fit and what is decided by it: one HTML file that needs nothing else to be read.

`facts` computes what there is to say, `words` says it, `pictures` draws it, and `page` puts it together.
"""

from cascade_bayes.reporting.report import report

__all__ = ["report"]
