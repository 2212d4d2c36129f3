"""Whether a table with gaps is fitted as one Markov chain or module by module: what its gaps depend on.

A modular fit takes the confidences that a model has for a random sample of what it would have said of all
queries. That is right for a confidence that is missing here and there, or a model that was asked about a
subset chosen beforehand. It is wrong for the log of a running cascade, whose later models see the queries
that were hard for the earlier ones: a margin of its own would be that of the hard queries. A chain allows
for this, because given the confidences that were seen it does not matter why the others were not
(`cascade_bayes.model.gaps`); but it takes several times as long, and predicts a little worse.

The table tells the two apart, because a cascade goes on by the confidences that it has seen. For every
model that lacks confidences, and every other model, the queries that show the other are divided into those
with and those without a confidence of the first. The table is read as selected by confidence, and fitted as
a chain, if

* a threshold on an earlier model's confidence separates the two: all with are below all without, and of those
  without there are at least two; or
* the two differ in the other model's confidences beyond chance (a Kolmogorov-Smirnov test at `LEVEL`, divided
  by the number of tests) and enough to matter: leaving out the queries without moves the distribution of the
  other's confidences by more than `NEGLIGIBLE`.

The second covers what a single threshold does not: a cascade that abstains too, and so goes on between two
thresholds; one whose thresholds changed; deferral by a noisy rule, of which low confidence is one reason
among others. These are in doubt, and stay a chain, because only a chain is right whether or not the doubt
is founded. Everything else is fitted by modules: a subset chosen beforehand differs by chance alone, and
where few queries are missing a margin can be off by no more than their share, whatever the reason.
"""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

from scipy import stats

from cascade_bayes.data import CascadeData
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.model.names import Structure

LEVEL = 0.01
"""Chance that gaps which depend on no confidence are read as if they did, over all tests of a table."""

NEGLIGIBLE = 0.02
"""Largest change of a distribution function that gaps may make and still be read as random.

It is what the standard error of a share of 600 queries is, and far below the bands of a tuned cascade.
"""

MIN_STOPPED = 2
"""Queries without a confidence from which on a threshold that separates them counts: one alone is on the far
side of the others too often by chance."""


class Selection(NamedTuple):
    """A model whose missing confidences depend on what another model said.

    Attributes
    ----------
    missing
        Name of the model that lacks confidences.
    judge
        Name of the model whose confidences tell which queries lack them.
    threshold
        On the raw scale: the model was asked about the queries below, and about no other. None if no
        threshold separates them.
    """

    missing: str
    judge: str
    threshold: float | None

    def sentence(self) -> str:
        """Return what was found, as a sentence."""
        if self.threshold is not None:
            return (
                f"Model {self.missing!r} has confidences of the queries on which {self.judge!r} is below "
                f"{self.threshold:.6g}, and of no others."
            )
        return (
            f"Whether a query has a confidence of model {self.missing!r} depends on the confidence of "
            f"{self.judge!r}."
        )


def default_structure(data: CascadeData) -> Structure:
    """Return how a table is fitted unless the user says: ``"modular"`` or ``"chain"``.

    A complete table is fitted by modules, and so is one whose gaps do not depend on the confidences; one
    whose gaps do, as those of a running cascade's log, is fitted as a chain. The module's docstring has the
    rule and the reasons.

    Parameters
    ----------
    data
        The table.
    """
    return "modular" if find_selection(data) is None else "chain"


def find_selection(data: CascadeData) -> Selection | None:
    """Return the model whose gaps depend most clearly on another model's confidences, or None.

    Parameters
    ----------
    data
        The table; no label is read.
    """
    seen = data.observed
    differing = []
    tests = 0
    for missing, judge in itertools.permutations(range(data.num_models), 2):
        shown = seen[:, judge]
        with_, without = (
            data.confidence[shown & rows, judge] for rows in (seen[:, missing], ~seen[:, missing])
        )
        if not with_.size or not without.size:
            continue
        names = data.models[missing], data.models[judge]
        if judge < missing and without.size >= MIN_STOPPED and with_.max() < without.min():
            return Selection(*names, float(without.min()))
        tests += 1
        test = stats.ks_2samp(with_, without, method="asymp")
        shift = test.statistic * without.size / shown.sum()
        if shift > NEGLIGIBLE:
            differing.append((float(test.pvalue), names))
    if not differing:
        return None
    p_value, names = min(differing)
    return Selection(*names, None) if p_value * tests < LEVEL else None


def check_modular(data: CascadeData, selection: Selection | None) -> None:
    """Check that a table with gaps can be fitted by modules, and say what that assumes of them.

    Parameters
    ----------
    data
        The table.
    selection
        What `find_selection` finds in it.

    Raises
    ------
    InputError
        If a model has no label of a query whose confidence is known.

    Warns
    -----
    DataWarning
        If confidences are missing: that they are taken to be missing at random, and whether the table speaks
        against it; if labels cannot be used because the confidence is missing.
    """
    seen = data.observed
    some = seen.any(axis=1)
    for model, labels in zip(data.models, (data.labelled & seen).T, strict=True):
        if not labels.any():
            raise InputError(
                f"model {model!r} must have labels of queries whose confidence is known, to be fitted with "
                "structure='modular'; it has none. Record the confidences of labelled answers, or leave the "
                "model out: models=[...] (--models a,b,c)."
            )
    lacking = [
        f"{count} of model {model!r}"
        for model, count in zip(data.models, (~seen[some]).sum(axis=0).tolist(), strict=True)
        if count
    ]
    if lacking:
        chain = "fit with structure='chain' (--structure chain)"
        what = f"of {int(some.sum())} queries confidences are missing ({', '.join(lacking)})"
        if selection is None:
            what += (
                "; each model, and each pair of models, is fitted to the queries that have it, as if which "
                f"are missing did not depend on the confidences. If a running cascade left them out, {chain}."
            )
        else:
            what += (
                f", and not at random. {selection.sentence()} structure='modular' takes those that it has "
                f"for a random sample, and will be off; {chain}, which allows for it."
            )
        warnings.warn(what, DataWarning, stacklevel=5)
    useless = int((data.labelled & ~seen).sum())
    if useless:
        warnings.warn(
            f"structure='modular' does not use labels of answers without a confidence; there are {useless}.",
            DataWarning,
            stacklevel=5,
        )
