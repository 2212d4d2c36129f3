"""The variables of a posterior, one row each: their dimensions, their type, and the rule of their values.

`cascade_bayes.inference.arviz_groups` names and labels its arrays by this table, and
`cascade_bayes.inference.storage.file` holds what it reads against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from cascade_bayes.model.margins import get_margin
from cascade_bayes.model.spec import ModelSpec

DOLLARS = "US dollars per call"
LOGITS = "standardised logit"

ARVIZ_STATISTICS = {"accept_prob": "acceptance_rate", "num_steps": "n_steps"}
"""Names of sampler statistics in ArviZ's schema, where they differ from NumPyro's."""

OWN_STATISTICS = {arviz: own for own, arviz in ARVIZ_STATISTICS.items()}

Numbers = Literal["real", "whole", "either"]
"""What type the numbers of a variable have: floating point, whole numbers, or either of them."""


class Rule(NamedTuple):
    """What every value of a variable must obey.

    Attributes
    ----------
    words
        The rule as it follows "must be" in a message.
    holds
        ``values -> `` whether each obeys it, of the same shape.
    """

    words: str
    holds: Callable[[np.ndarray], np.ndarray]


FINITE = Rule("finite", np.isfinite)
POSITIVE = Rule("positive and finite", lambda values: np.isfinite(values) & (values > 0))
SHARE = Rule("in [0, 1]", lambda values: (values >= 0) & (values <= 1))
CORRELATION = Rule("above -1 and below 1", lambda values: (values > -1) & (values < 1))
FLAG = Rule("0 or 1", lambda values: (values == 0) | (values == 1))
LABEL = Rule("0, 1 or NaN (no label)", lambda values: np.isnan(values) | (values == 0) | (values == 1))
AMOUNT = Rule("finite and >= 0", lambda values: np.isfinite(values) & (values >= 0))
CALL = Rule(
    "finite and >= 0, or NaN (no call)",
    lambda values: np.isnan(values) | (np.isfinite(values) & (values >= 0)),
)
COUNT = Rule("at least 1", lambda values: values >= 1)
CLAIM = Rule("finite or NaN (not known)", lambda values: ~np.isinf(values))
ANY = Rule("a number or NaN", lambda values: np.ones(values.shape, dtype=bool))


class Variable(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    dims
        Its dimensions, without those of draws.
    attributes
        ``long_name`` and, where there is one, ``units``.
    rule
        What its values obey.
    numbers
        What kind of numbers they are.
    """

    dims: tuple[str, ...]
    attributes: Mapping[str, str]
    rule: Rule
    numbers: Numbers


def _row(
    dims: str, long_name: str, units: str | None = None, rule: Rule = FINITE, numbers: Numbers = "real"
) -> Variable:
    attributes = {"long_name": long_name} | ({} if units is None else {"units": units})
    return Variable(tuple(dims.split()), attributes, rule, numbers)


VARIABLES = {
    "mixing_split": _row("model split", "log odds of halving a margin's components"),
    "normal_scale": _row(
        "model component", "standard deviation of a margin's component", LOGITS, rule=POSITIVE
    ),
    "concentration": _row("model component", "concentration of a margin's component", rule=POSITIVE),
    "atom_logit": _row("atom", "log odds of an atom against the continuum"),
    "tau": _row("pair", "Kendall's tau", rule=CORRELATION),
    "intercept": _row("model", "log odds of being right at the middle of the scale"),
    "slope": _row("model", "slope of the log odds of being right", f"1 / {LOGITS}"),
    "upstream": _row("deferral", "effect of the previous model's confidence", f"1 / {LOGITS}"),
    "atom_effect": _row("atom", "effect of an atom on the log odds of being right"),
    "label_corr": _row(
        "", "correlation within a query of what its labels cut, at middling confidences", rule=SHARE
    ),
    "label_corr_slope": _row("", "gain of the log odds of that correlation a step of confidence"),
    "confidence": _row("query model", "confidence, as in the table", rule=ANY),
    "correct": _row("query model", "whether the answer was right: 1 or 0", rule=LABEL, numbers="either"),
    "confidence_and_correct": _row(
        "query", "log density of a query's confidences and labels", "nats", rule=ANY
    ),
    "cost": _row("query model", "cost of a call", DOLLARS, rule=CALL),
    "latency_ms": _row("query model", "latency of a call", "ms", rule=CALL),
    "call_cost": _row("model", "mean cost of a call", DOLLARS, rule=AMOUNT),
    "atom_locs": _row("model slot", "location of an atom", LOGITS, rule=ANY),
    "atom_raw": _row("model slot", "location of an atom, as in the table", rule=ANY),
    "has_continuous": _row("model", "whether confidences have a continuous part", rule=FLAG, numbers="whole"),
    "claims": _row("model", "log odds of the mean probability that a model claims", rule=CLAIM),
    "rank_middle": _row("model", "minus the middle of all confidences", LOGITS),
    "rank_stretch": _row("model", "log odds of ranks a standardised logit", rule=POSITIVE),
    "rank_at_atoms": _row("model slot", "rank of an atom beyond its place", LOGITS),
    "upstream_line": _row("deferral line", "line from a confidence to that of the model before it"),
    "upstream_at_atoms": _row("deferral slot", "what an atom adds to that line"),
    "acceptance_rate": _row("", "mean acceptance probability of a trajectory", rule=ANY),
    "diverging": _row("", "whether a transition diverged", rule=FLAG, numbers="whole"),
    "energy": _row("", "energy of a transition", "nats", rule=ANY),
    "n_steps": _row("", "leapfrog steps of a trajectory", rule=COUNT, numbers="whole"),
    "potential_energy": _row("", "minus the log density of a draw", "nats", rule=ANY),
}
"""By the names of files. A confidence obeys the rule of its kind besides, and Kendall's tau the range of its
copula family; atoms have rules that tie them to one another (`cascade_bayes.inference.storage.file`)."""


def expected_sites(spec: ModelSpec) -> set[str]:
    """Return the names of the sites that a posterior of this model has draws of."""
    sites = {"mixing_split", get_margin(spec.margin).site}
    sites |= {"intercept", "slope", "label_corr", "label_corr_slope"}
    if len(spec.layout.model_index):
        sites |= {"atom_logit", "atom_effect"}
    if any(family.has_theta for family in spec.copulas):
        sites.add("tau")
    if spec.upstream:
        sites.add("upstream")
    return sites


def coordinates(spec: ModelSpec, models: Sequence[str]) -> dict[str, list[Any]]:
    """Return what the entries of each dimension are called, but for draws and queries.

    Parameters
    ----------
    spec
        The model.
    models
        Names in cascade order.
    """
    atoms = [
        f"{models[i]}@{spec.layout.raw[i, slot]:.6g}"
        for i, slot in zip(spec.layout.model_index, spec.layout.slot_index, strict=True)
    ]
    deferrals = [f"{models[a]} > {models[b]}" for a, b in spec.pairs]
    return {
        "model": list(models),
        "deferral": deferrals,
        "pair": [pair for pair, family in zip(deferrals, spec.copulas, strict=True) if family.has_theta],
        "component": list(range(spec.priors.num_components)),
        "split": list(range(spec.priors.num_components - 1)),
        "atom": atoms,
        "slot": list(range(spec.layout.locs.shape[1])),
        "line": ["intercept", "slope"],
    }


def site_labels(spec: ModelSpec, models: Sequence[str], sites: Iterable[str]) -> dict[str, list[str]]:
    """Return a name for each entry of some sites, such as ``slope[large]``.

    Parameters
    ----------
    spec
        The model.
    models
        Names in cascade order.
    sites
        Names of the sites.
    """
    coords = coordinates(spec, models)
    labels = {}
    for name in sites:
        parts = [""]
        for dim in VARIABLES[name].dims:
            parts = [f"{part}, {value}" if part else str(value) for part in parts for value in coords[dim]]
        labels[name] = [f"{name}[{part}]" if part else name for part in parts]
    return labels
