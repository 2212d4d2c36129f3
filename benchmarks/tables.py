"""The result tables that benchmarks read: those of a folder, or the bundled example."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cascade_bayes import example, read_table
from cascade_bayes.data import CascadeData

SUFFIX = "-train.parquet"


def find_tables(names: Sequence[str] | None = None) -> dict[str, Path]:
    """Return paths by NAME of the ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names.

    Without the variable, of the bundled example. ``names`` are those wanted, in this order; all if None. Ends
    the program with a sentence where there is no such table.
    """
    folder = os.environ.get("CASCADE_BAYES_DATA")
    paths = sorted(Path(folder).glob(f"*{SUFFIX}")) if folder else [example.train_path()]
    where = folder or "the bundled example"
    if not paths:
        raise SystemExit(f"no NAME{SUFFIX} in {folder}, which CASCADE_BAYES_DATA names.")
    found = {path.name.removesuffix(path.suffix).removesuffix("-train"): path for path in paths}
    for name in names or ():
        if name not in found:
            raise SystemExit(f"{name}{SUFFIX} is not in {where}; there are: {', '.join(found)}.")
    return {name: found[name] for name in names or found}


def read_in_row_order(path: Path) -> CascadeData:
    """Return a table whose models stand in the order of its rows, which is not always that of mean costs."""
    return read_table(path, models=pd.read_parquet(path, columns=["model"])["model"].unique().tolist())
