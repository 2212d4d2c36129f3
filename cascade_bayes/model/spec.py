"""What a generative model is made of: structure, families, atoms and priors, all that is not sampled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cascade_bayes.copulas import Copula, get_copulas
from cascade_bayes.model.anchors import Anchors
from cascade_bayes.model.centres import Centres
from cascade_bayes.model.margins import get_margin
from cascade_bayes.model.names import DEFAULT_MARGIN, Structure
from cascade_bayes.model.params import AtomLayout
from cascade_bayes.model.priors import Priors


class MarginSpec(NamedTuple):
    """What the margins of a model are, but for their atoms."""

    margin: str
    priors: Priors


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """The generative model before it has seen a label: all that is chosen and not sampled.

    Attributes
    ----------
    layout
        Where the atoms of the margins lie.
    copulas
        Family of each pair in `pairs`.
    priors
        Hyperparameters.
    upstream
        Whether the previous model's confidence enters the log odds of being right.
    monotone
        Whether slopes are positive, so that being right never becomes less likely with confidence.
    structure
        ``"chain"``: the models form one Markov chain, whose density is the likelihood of all parameters
        together. A cascade that skips a model integrates over its confidence.

        ``"modular"``: margins are conditioned on each model's own confidences, calibrations on these and
        all labels of answers whose confidence is known;
        then each pair's copula and upstream effect, for *all* pairs of models, on the pair's data given those
        margins and that calibration. Nothing is fed back (a cut posterior: Plummer, Statistics and Computing
        25, 2015), because the product of all pair copulas with shared margins is no density. A cascade that
        skips a model uses the pair that becomes adjacent.
    centres
        Modular only: what is to be expected of ``x_i`` given ``z_j``, for each pair (i, j). The upstream
        effect is that of what ``x_i`` says beyond it (`cascade_bayes.model.centres`).
    margin
        Family of the margins' continuous parts, from `cascade_bayes.model.margins.MARGINS`.
    anchors
        What the table's confidences say of how often models are right (`cascade_bayes.model.anchors`).

    Raises
    ------
    InputError
        If there is no such family of margins.
    """

    layout: AtomLayout
    copulas: tuple[Copula, ...]
    priors: Priors
    upstream: bool = True
    monotone: bool = False
    margin: str = DEFAULT_MARGIN
    structure: Structure = "chain"
    centres: Centres | None = None
    anchors: Anchors | None = None

    def __post_init__(self) -> None:
        get_margin(self.margin)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of models that have a copula, earlier and later by position."""
        models = range(self.num_models)
        return tuple(
            itertools.pairwise(models) if self.structure == "chain" else itertools.combinations(models, 2)
        )

    def copulas_of(self, members: Sequence[int]) -> tuple[Copula, ...]:
        """Return the families of consecutive models of a cascade, given their positions."""
        return tuple(self.copulas[self.pairs.index(pair)] for pair in itertools.pairwise(members))

    @property
    def margin_spec(self) -> MarginSpec:
        """Family and priors of the margins."""
        return MarginSpec(self.margin, self.priors)

    def first_module(self) -> ModelSpec:
        """Return margins and calibration alone, each model on its own."""
        independence = get_copulas("independence", self.num_models - 1)
        return replace(self, copulas=independence, upstream=False, structure="chain", centres=None)

    @property
    def num_models(self) -> int:
        """Number of models in the cascade."""
        return len(self.layout.locs)

    @property
    def known_anchors(self) -> Anchors:
        """Anchors, such as say nothing if there are none."""
        return Anchors.none(*self.layout.locs.shape) if self.anchors is None else self.anchors

    @property
    def kind(self) -> ModelKind:
        """All of it that a compiled program depends on."""
        return ModelKind(
            tuple(map(tuple, self.layout.has_atom.tolist())),
            tuple(self.layout.continuous.tolist()),
            self.copulas,
            self.priors,
            self.upstream,
            self.monotone,
            self.margin,
            self.structure,
        )


class ModelKind(NamedTuple):
    """A model without what is data: how many atoms there are, not where they lie, no centres, no anchors.

    One compiled program serves all models of a kind.
    """

    has_atom: tuple[tuple[bool, ...], ...]
    continuous: tuple[bool, ...]
    copulas: tuple[Copula, ...]
    priors: Priors
    upstream: bool
    monotone: bool
    margin: str
    structure: Structure

    def spec(self) -> ModelSpec:
        """Return a model of this kind, its atoms at 0."""
        locs = np.where(np.reshape(self.has_atom, (len(self.continuous), -1)), 0.0, np.nan)
        return ModelSpec(
            AtomLayout(locs, locs, np.asarray(self.continuous)),
            self.copulas,
            self.priors,
            upstream=self.upstream,
            monotone=self.monotone,
            margin=self.margin,
            structure=self.structure,
        )
