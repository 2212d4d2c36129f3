"""Draws of the chain of models in which a cascade of some of them runs."""

from __future__ import annotations

from typing import NamedTuple

from cascade_bayes.copulas import Copula
from cascade_bayes.model.params import AtomLayout, CascadeParams


class SubCascade(NamedTuple):
    """A Markov chain and the models of it that are asked.

    Attributes
    ----------
    params
        Draws, every field with a leading axis.
    layout, copulas
        Atoms of the chain's models, and copulas of its neighbours.
    members
        Positions in the chain of the models asked; the others are integrated over.
    """

    params: CascadeParams
    layout: AtomLayout
    copulas: tuple[Copula, ...]
    members: tuple[int, ...]
