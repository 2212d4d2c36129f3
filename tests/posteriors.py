"""A small posterior without a fit, for tests of its file: every kind of variable is in it."""

from __future__ import annotations

import numpy as np

from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.anchors import find_anchors
from cascade_bayes.model.centres import Centres
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.transforms import ConfidenceMap
from cascade_bayes.verdict import FitVerdict

MODELS = ("small", "middle", "large")
TRUSTED = FitVerdict(True, "The chains agree.")


def make_posterior(method: str = "nuts") -> Posterior:
    """Three models, twelve queries, two chains of four draws; an atom, a gap and missing labels."""
    rng = np.random.default_rng(0)
    shape = (12, 3)
    confidence = np.round(rng.uniform(0.2, 0.95, size=shape), 3)
    confidence[:5, 2], confidence[3, 1] = 1.0, np.nan
    labelled = rng.random(shape) < 0.9
    data = CascadeData(
        models=MODELS,
        query_ids=np.array([f"q{i}" for i in range(shape[0])]),
        confidence=confidence,
        correct=(rng.random(shape) < 0.6) & labelled,
        labelled=labelled,
        cost=rng.uniform(1e-4, 2e-4, size=shape),
        latency_ms=np.full(shape, 12.0),
        call_cost=np.array([1e-4, 2e-4, 3e-4]),
        kind="probability",
        confidence_map=ConfidenceMap.fit(confidence, "probability"),
    )
    layout = find_atoms(data)
    atoms = len(layout.model_index)
    spec = ModelSpec(
        layout=layout,
        copulas=get_copulas(["gumbel", "frank", "independence"], 3),
        priors=Priors(num_components=2),
        structure="modular",
        centres=Centres(rng.normal(size=(3, 2)), rng.normal(size=(3, layout.locs.shape[1]))),
        anchors=find_anchors(data, layout),
    )

    def normal(*size: int) -> np.ndarray:
        return rng.normal(size=(2, 4, *size))

    samples = {
        "mixing_split": normal(3, 1),
        "normal_scale": np.exp(normal(3, 2)),
        "intercept": normal(3),
        "slope": normal(3),
        "label_corr": rng.uniform(size=(2, 4)),
        "label_corr_slope": normal(),
        "atom_logit": normal(atoms),
        "atom_effect": normal(atoms),
        "tau": rng.uniform(0.1, 0.6, size=(2, 4, 2)),
        "upstream": normal(3),
    }
    if method == "laplace":
        report = {"k_hat": {"margins": 0.3}, "ess": {"margins": 900.0}}
        return Posterior(samples, {}, data, spec, {"method": method, "approximation": report})
    stats = {
        "accept_prob": rng.uniform(size=(2, 4)),
        "diverging": np.zeros((2, 4), dtype=bool),
        "energy": normal(),
        "num_steps": np.full((2, 4), 7),
        "potential_energy": normal(),
    }
    return Posterior(samples, stats, data, spec, {"method": method, "seed": 0}, TRUSTED)


def assert_equal(left: Posterior, right: Posterior) -> None:
    """All that a file holds is the same, to the bit."""
    for group in ("samples", "sample_stats"):
        one, other = getattr(left, group), getattr(right, group)
        assert set(one) == set(other)
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
            assert values.dtype.kind == other[name].dtype.kind
    for name in ("query_ids", "confidence", "correct", "labelled", "cost", "latency_ms", "call_cost"):
        np.testing.assert_array_equal(getattr(left.data, name), getattr(right.data, name))
    for name in ("models", "kind", "confidence_map"):
        assert getattr(left.data, name) == getattr(right.data, name)
    for name in ("layout", "centres", "anchors"):
        for one, other in zip(getattr(left.spec, name), getattr(right.spec, name), strict=True):
            np.testing.assert_array_equal(one, other)
    for name in ("copulas", "priors", "upstream", "monotone", "margin", "structure"):
        assert getattr(left.spec, name) == getattr(right.spec, name)
    assert left.provenance == right.provenance
    assert left.fit_verdict == right.fit_verdict
