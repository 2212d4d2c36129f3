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


def kind_of(path: Path) -> str:
    """Return the kind of a table's confidences by their values: none above 0, all in [0, 1], or others."""
    values = pd.read_parquet(path, columns=["confidence"])["confidence"].dropna()
    if (values <= 0).all():
        return "logprob"
    return "probability" if values.between(0, 1).all() else "score"


def read(path: Path, models: Sequence[str] | None = None) -> CascadeData:
    """Return a table, whatever the kind of its confidences."""
    return read_table(path, confidence=kind_of(path), models=models)


def test_beside(path: Path) -> Path:
    """Return where the test table of a training table is, if there is one."""
    return path.with_name(path.name.removesuffix(SUFFIX) + "-test.parquet")


def read_all(path: Path) -> CascadeData:
    """Return a training table and the test table beside it, if there is one, as one table."""
    parts = [path, test_beside(path)]
    frames = [
        pd.read_parquet(part).assign(query=lambda frame, at=at: f"{at} " + frame["query"].astype(str))
        for at, part in enumerate(parts)
        if part.exists()
    ]
    models = frames[0]["model"].unique().tolist()
    return read_table(pd.concat(frames), confidence=kind_of(path), models=models)


def read_pair(path: Path) -> tuple[CascadeData, CascadeData | None]:
    """Return a training table and the test table beside it, if there is one.

    Models stand in the order of the training table's rows, which is not always that of mean costs.
    """
    models = pd.read_parquet(path, columns=["model"])["model"].unique().tolist()
    test = test_beside(path)
    kind = kind_of(path)
    held = read_table(test, confidence=kind).select(models) if test.exists() else None
    return read_table(path, confidence=kind, models=models), held
