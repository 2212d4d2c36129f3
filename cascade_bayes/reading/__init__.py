"""Tables of results, one row per query and model or one per query, read into a `CascadeData`.

`layout` says how a table is laid out; `files`, `dialect`, `compressed` and `workbook` open files, and
`frames` frames; `headings` tells which column is which, and `wide` makes long tables of wide ones;
`columns` and `cells` parse and complain, `scales` and `confidence` carry confidences to the kinds that are
computed with, `costs` prices calls, `log` sets a table against the policy that wrote it, and `reader` puts
the arrays together; `overview` says what was read.
"""

from cascade_bayes.reading.overview import overview
from cascade_bayes.reading.reader import AsFitted, read_for_policy, read_table

__all__ = ["AsFitted", "overview", "read_for_policy", "read_table"]
