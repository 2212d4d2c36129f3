"""Long tables of results, one row per query and model, read into a `CascadeData`.

`frames` opens files, `columns` parses and complains, `costs` prices calls, `log` sets a table against the
policy that wrote it, and `reader` puts the arrays together.
"""

from cascade_bayes.reading.reader import read_for_policy, read_table

__all__ = ["read_for_policy", "read_table"]
