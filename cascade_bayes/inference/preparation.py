"""What is settled of a fit before it samples: the queries, the atoms, the structure and the copulas."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from cascade_bayes._entry import in_64_bits
from cascade_bayes.copulas import get_copulas
from cascade_bayes.data import CascadeData, check_fittable
from cascade_bayes.errors import InputError
from cascade_bayes.inference.copula_choice import CopulaSelection, choose_copulas
from cascade_bayes.inference.effort import random_subset
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.structure import check_modular, find_selection
from cascade_bayes.model.anchors import find_anchors
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors, default_priors
from cascade_bayes.model.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table and the model that is fitted to it.

    Attributes
    ----------
    data
        The table.
    obs
        Its arrays. Only a chain has a record of their gaps, and labels of answers without a confidence.
    spec
        The model, without centres.
    selection
        How the copulas were chosen, if they were.
    options
        How it is fitted.
    num_given
        Queries of the table that was given, of which ``data`` may be a random subset.
    seconds
        What preparing it has taken.
    """

    data: CascadeData
    obs: Observations
    spec: ModelSpec
    selection: CopulaSelection | None
    options: FitOptions
    num_given: int
    seconds: float = 0.0


@in_64_bits
def prepare(data: CascadeData, options: FitOptions) -> Prepared:
    """Check a table, find its atoms, settle structure and copulas.

    Parameters
    ----------
    data
        The table that was given.
    options
        How it is to be fitted.

    Raises
    ------
    InputError
        If the table cannot be fitted.

    Warns
    -----
    DataWarning
        Where `cascade_bayes.fit` warns of a table.
    """
    began, num_given = time.perf_counter(), data.num_queries
    data = random_subset(data, options.max_queries, options.seed)
    check_fittable(data)
    # The default's many components shrink where there are few data.
    priors = options.priors or default_priors(data.num_queries)
    if options.priors is not None:
        _check_components(data, priors)
    selection = find_selection(data)
    structure = options.structure or ("modular" if selection is None else "chain")
    layout = find_atoms(data, atoms=options.atoms)
    if structure == "modular":
        check_modular(data, selection)
    obs = observations(data, layout, modular=structure == "modular")
    spec = ModelSpec(
        layout,
        (),
        priors,
        upstream=options.upstream,
        monotone=options.monotone,
        margin=options.margin,
        structure=structure,
        anchors=find_anchors(data, layout, at_random=selection is None),
    )
    copula, chosen = options.copula, None
    if copula == "auto":
        chosen = choose_copulas(obs, layout, priors, pairs=spec.pairs, margin=options.margin)
        copula = chosen.names
    spec = replace(spec, copulas=get_copulas(copula, len(spec.pairs)))
    return Prepared(data, obs, spec, chosen, options, num_given, time.perf_counter() - began)


def _check_components(data: CascadeData, priors: Priors) -> None:
    for model, count in zip(data.models, data.observed.sum(axis=0), strict=True):
        if priors.num_components > count:
            raise InputError(
                f"num_components of the priors must not exceed the number of confidences of a model; it is "
                f"{priors.num_components}, and model {model!r} has {count}. Pass for example "
                f"priors=Priors(num_components={count}), or read more queries."
            )
