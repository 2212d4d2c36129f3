"""Draw the bundled example from the library's own generative model.

Run as ``python -m cascade_bayes.example.make_example``; it writes ``train.parquet``,
``test.parquet`` and ``truth.json`` beside itself. All numbers below are invented, and plausible for
five language models as Zellinger & Thomson (arXiv 2501.09345) study them: accuracies from 0.4 to
0.85, Kendall's tau of neighbours from 0.1 to 0.5, prices a factor 30 apart, and one model that is
often exactly certain.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from cascade_bayes.data import CascadeData
from cascade_bayes.example import SCHEMA, SCHEMA_VERSION, truth_from_record
from cascade_bayes.model.simulate import simulate

COPULA = "gumbel"
NUM_QUERIES = {"train": 300, "test": 1000}
SEEDS = {"train": 20250117, "test": 20250118}


class _Model(NamedTuple):
    """One model; `mean` and `concentration` describe its two beta components.

    `upstream` is the effect of the previous model's confidence. `location` and `scale` are those of
    the logit of the probability, `atom` the mass at exact
    certainty and `atom_effect` the deviation of its log odds of being right from the curve.
    """

    name: str
    call_cost: float
    location: float
    scale: float
    mixing_probs: tuple[float, float]
    mean: tuple[float, float]
    concentration: tuple[float, float]
    intercept: float
    slope: float
    upstream: float
    atom: float = 0.0
    atom_effect: float = 0.0


MODELS = (
    _Model("mini-1b", 2e-5, 0.3, 0.8, (0.65, 0.35), (0.38, 0.76), (4.0, 3.5), -0.39, 0.45, 0.0),
    _Model("small-3b", 4e-5, 1.3, 1.1, (0.60, 0.40), (0.34, 0.75), (3.4, 4.0), 0.38, 0.55, 0.15),
    _Model("medium-8b", 9e-5, 2.0, 1.3, (0.55, 0.45), (0.34, 0.70), (3.6, 2.8), 0.70, 0.60, 0.2),
    _Model(
        "large-70b",
        2.5e-4,
        5.0,
        2.2,
        (0.50, 0.50),
        (0.32, 0.68),
        (3.2, 3.2),
        1.25,
        0.55,
        0.1,
        atom=0.17,
        atom_effect=-2.0,
    ),
    _Model("giant-405b", 6.2e-4, 3.6, 1.8, (0.45, 0.55), (0.29, 0.65), (3.0, 3.6), 2.08, 0.75, 0.25),
)

TAUS = (0.15, 0.32, 0.44, 0.24)
LABEL_CORR = 0.5
LABEL_CORR_SLOPE = 0.0


def true_record() -> dict[str, Any]:
    """Return the content of ``truth.json``."""
    models = []
    for model in MODELS:
        shapes = list(zip(model.mean, model.concentration, strict=True))
        atom = {"loc": "inf", "prob": model.atom, "effect": model.atom_effect}
        models.append(
            {
                "name": model.name,
                "call_cost": model.call_cost,
                "intercept": model.intercept,
                "slope": model.slope,
                "upstream": model.upstream,
                "atoms": [atom] if model.atom else [],
                "mixing_probs": list(model.mixing_probs),
                "concentration1": [round(m * c, 6) for m, c in shapes],
                "concentration0": [round((1 - m) * c, 6) for m, c in shapes],
            }
        )
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "copula": COPULA,
        "seeds": SEEDS,
        "num_queries": NUM_QUERIES,
        "confidence_map": {
            "kind": "logprob",
            "location": [model.location for model in MODELS],
            "scale": [model.scale for model in MODELS],
        },
        "label_corr": LABEL_CORR,
        "label_corr_slope": LABEL_CORR_SLOPE,
        "models": models,
        "pairs": [
            {
                "models": [left.name, right.name],
                "tau": tau,
                # Gumbel: tau = 1 - 1/theta.
                "theta": 1.0 / (1.0 - tau),
            }
            for left, right, tau in zip(MODELS[:-1], MODELS[1:], TAUS, strict=True)
        ],
    }


def to_frame(data: CascadeData, first_query: int = 0) -> pd.DataFrame:
    """Return a complete table in long form; queries are numbered from ``first_query``."""
    names = [f"q{first_query + n:04d}" for n in range(data.num_queries)]
    return pd.DataFrame(
        {
            "query": np.repeat(names, data.num_models),
            "model": np.tile(data.models, data.num_queries),
            "confidence": data.confidence.ravel(),
            "correct": data.correct.ravel(),
            "cost": data.cost.ravel(),
        }
    )


def write_example(folder: Path) -> None:
    """Draw both tables and write the three files into ``folder``.

    Raises
    ------
    RuntimeError
        In 32-bit arithmetic, which would give other tables.
    """
    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "the example must be drawn in 64-bit arithmetic; call "
            'jax.config.update("jax_enable_x64", True) first.'
        )
    record = true_record()
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    (folder / "truth.json").write_text(text, encoding="utf-8")
    truth = truth_from_record(record)
    first_query = 0
    for part, num_queries in NUM_QUERIES.items():
        data = simulate(truth, num_queries, SEEDS[part])
        frame = to_frame(data, first_query)
        frame.to_parquet(folder / f"{part}.parquet", compression="zstd", index=False)
        first_query += num_queries


def main() -> None:
    """Write the example beside this file."""
    jax.config.update("jax_enable_x64", True)
    write_example(Path(__file__).parent)


if __name__ == "__main__":
    main()
