"""The bundled example: a simulated cascade of five models whose true parameters are known.

Three files: ``train.parquet`` (300 queries, to fit), ``test.parquet`` (1000 other queries, to
evaluate) and ``truth.json``, the parameters that both were drawn from. Confidences are
log-probabilities. Names, prices and parameters are invented. The files are remade by
``python -m cascade_bayes.example.make_example``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_bayes.model.simulate import Cascade

__all__ = ["load_truth", "test_path", "train_path"]

SCHEMA = "cascade_bayes.example.truth"
SCHEMA_VERSION = 4


def _path(name: str) -> Path:
    return Path(str(files(__name__).joinpath(name)))


def train_path() -> Path:
    """Return the path of the 300 queries to fit.

    Examples
    --------
    >>> train_path().name
    'train.parquet'
    """
    return _path("train.parquet")


def test_path() -> Path:
    """Return the path of the 1000 queries to evaluate on."""
    return _path("test.parquet")


test_path.__test__ = False  # type: ignore[attr-defined]  # not a test, for collectors that go by name


def load_truth() -> Cascade:
    """Return the true parameters of the example.

    Arrays have JAX's default precision: switch on 64-bit first to have every digit.
    """
    return truth_from_record(json.loads(_path("truth.json").read_text(encoding="utf-8")))


def truth_from_record(record: Mapping[str, Any]) -> Cascade:
    """Build the true cascade from the content of ``truth.json``.

    Raises
    ------
    ValueError
        If the record is of another format or version.
    """
    import jax.numpy as jnp
    import numpy as np

    from cascade_bayes.copulas import get_copulas
    from cascade_bayes.distributions import BetaMixture, MarginParams
    from cascade_bayes.model.difficulty import LabelCorr
    from cascade_bayes.model.params import CascadeParams
    from cascade_bayes.model.simulate import Cascade
    from cascade_bayes.transforms import ConfidenceMap

    found = (record.get("schema"), record.get("version"))
    if found != (SCHEMA, SCHEMA_VERSION):
        raise ValueError(f"the record must be of format {SCHEMA!r}, version {SCHEMA_VERSION}; got {found}.")
    models = record["models"]
    num_atoms = max(len(model["atoms"]) for model in models)

    def field(name: str) -> Any:
        return jnp.asarray([model[name] for model in models], dtype=float)

    def atoms(name: str, empty: float) -> Any:
        rows = [[float(atom[name]) for atom in model["atoms"]] for model in models]
        return jnp.asarray([row + [empty] * (num_atoms - len(row)) for row in rows], dtype=float)

    names = tuple(model["name"] for model in models)
    return Cascade(
        params=CascadeParams(
            margins=MarginParams(
                atom_locs=atoms("loc", float("nan")),
                atom_probs=atoms("prob", 0.0),
                continuous=BetaMixture(
                    mixing_probs=field("mixing_probs"),
                    concentration1=field("concentration1"),
                    concentration0=field("concentration0"),
                ),
            ),
            theta=jnp.asarray([pair["theta"] for pair in record["pairs"]], dtype=float),
            intercept=field("intercept"),
            slope=field("slope"),
            upstream=field("upstream"),
            atom_effect=atoms("effect", 0.0),
            label_corr=LabelCorr(
                jnp.asarray(float(record["label_corr"])), jnp.asarray(float(record["label_corr_slope"]))
            ),
        ),
        confidence_map=ConfidenceMap.from_dict(record["confidence_map"]),
        copulas=get_copulas(record["copula"], len(names) - 1),
        models=names,
        call_cost=np.asarray([model["call_cost"] for model in models], dtype=float),
    )
