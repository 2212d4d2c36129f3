"""A report of a fit and what is decided by it: one HTML file that needs nothing else to be read.

`facts` computes what there is to say, `words` says it, `pictures` draws it, `page` puts it together, and
`write` writes it.
"""

from cascade_bayes.reporting.write import report

__all__ = ["report"]
