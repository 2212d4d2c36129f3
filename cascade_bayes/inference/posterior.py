"""The posterior of a cascade's parameters: draws, diagnostics, and one self-contained file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_bayes._entry import in_64_bits
from cascade_bayes._kinds import POSTERIOR
from cascade_bayes._numbers import check_seed, check_whole
from cascade_bayes._output import Output, write_output
from cascade_bayes._shown import shown
from cascade_bayes._trees import evenly_spaced, in_one_row
from cascade_bayes.data import CascadeData
from cascade_bayes.errors import InputError
from cascade_bayes.inference.arviz_groups import NUM_REPLICATES, computed_groups
from cascade_bayes.inference.convergence import Point, Verdict, assess, judge_approximation
from cascade_bayes.inference.effort import MAX_LOOKED_AT, with_random_subset
from cascade_bayes.inference.shown import posterior_card
from cascade_bayes.inference.storage import file as posterior_file
from cascade_bayes.inference.storage.hdf5 import Array
from cascade_bayes.inference.storage.packing import Parts, pack
from cascade_bayes.inference.storage.variables import site_labels
from cascade_bayes.model.cascade import AllModels, all_models_from_sites, params_from_sites
from cascade_bayes.model.params import CascadeParams
from cascade_bayes.model.simulate import Cascade
from cascade_bayes.model.spec import ModelSpec
from cascade_bayes.model.sub_cascade import SubCascade
from cascade_bayes.transforms import ConfidenceMap
from cascade_bayes.verdict import FitVerdict

FROM_FIT = (
    'Fit a table first, posterior = cb.fit(data, seed=0), or load a fit: cb.Posterior.load("posterior.nc").'
)
"""What to do where a posterior is wanted and something else was given."""


@shown(posterior_card)
@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior draws of one cascade and all that is needed to use them.

    Attributes
    ----------
    samples
        Site name -> ``(num_chains, num_samples, ...)``; sites as in `cascade_bayes.model.cascade`.
    sample_stats
        Sampler statistics, ``(num_chains, num_samples)``; none but of NUTS.
    data
        The table that was fitted.
    spec
        The generative model: where its atoms lie, its copulas, its priors.
    provenance
        Method, seed, seconds, versions.
    recorded_verdict
        The verdict that the file holds; None of a fit that was not read from a file.
    """

    samples: Mapping[str, np.ndarray]
    sample_stats: Mapping[str, np.ndarray]
    data: CascadeData
    spec: ModelSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)
    recorded_verdict: FitVerdict | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Model names in cascade order."""
        return self.data.models

    @property
    def confidence_map(self) -> ConfidenceMap:
        """Map from raw confidences to standardised logits."""
        return self.data.confidence_map

    @property
    def num_draws(self) -> int:
        """Draws of all chains together."""
        first = next(iter(self.samples.values()))
        return int(first.shape[0] * first.shape[1])

    @in_64_bits
    def params(self, num_draws: int | None = None) -> CascadeParams:
        """Return draws of all models' parameters, every field with a leading axis of draws.

        Parameters
        ----------
        num_draws
            How many, evenly spaced over all chains; all if None or more than there are.
        """
        return jax.tree.map(jax.device_put, self._all_models(num_draws).cascade(self.spec, None, np))

    def _all_models(self, num_draws: int | None) -> AllModels:
        """Return draws of what every cascade's parameters are taken from, as NumPy arrays."""
        if num_draws is not None and num_draws < 1:
            raise InputError(f"num_draws must be at least 1; got {num_draws}.")
        total = self.num_draws
        count = total if num_draws is None else min(num_draws, total)
        index = evenly_spaced(total, count)
        flat = {k: jax.device_put(v.reshape((total, *v.shape[2:]))[index]) for k, v in self.samples.items()}
        return jax.tree.map(np.asarray, jax.vmap(lambda s: all_models_from_sites(s, self.spec))(flat))

    def members(self, models: Sequence[str] | None) -> tuple[int, ...]:
        """Return the positions of the models of a cascade, all if None.

        Raises
        ------
        InputError
            For a model that is not in the fit, none, or another order than the fit's.
        """
        if models is None:
            return tuple(range(len(self.models)))
        chosen = list(models)
        unknown = [m for m in chosen if m not in self.models]
        if unknown:
            raise InputError(
                f"model {unknown[0]!r} is not in the posterior; its models are {', '.join(self.models)}."
            )
        index = [self.models.index(m) for m in chosen]
        if not index:
            raise InputError("models must name at least one model of the fit; got none.")
        if index != sorted(set(index)):
            raise InputError(
                f"models must be distinct and in the order of the fit ({', '.join(self.models)}); got "
                f"{', '.join(chosen)}. Fit again with --models to change the order."
            )
        return tuple(index)

    @in_64_bits
    def sub_cascade(self, members: Sequence[int], num_draws: int | None = None) -> SubCascade:
        """Return draws of the chain in which a cascade of some models runs.

        Parameters
        ----------
        members
            Positions of the models, ascending.
        num_draws
            The same as for `params`.
        """
        return self.sub_cascades([members], num_draws)[0]

    @in_64_bits
    def sub_cascades(
        self, several: Sequence[Sequence[int]], num_draws: int | None = None
    ) -> list[SubCascade]:
        """Return the same as `sub_cascade` of several cascades, for which more is computed only once."""
        of_all, spec = self._all_models(num_draws), self.spec

        def sub_cascade(members: Sequence[int]) -> SubCascade:
            own = None if spec.structure == "chain" else members
            params = jax.tree.map(jax.device_put, of_all.cascade(spec, own, np))
            if own is None:
                return SubCascade(params, spec.layout, spec.copulas, tuple(members))
            places = tuple(range(len(members)))
            return SubCascade(params, spec.layout.select(members), spec.copulas_of(members), places)

        return [sub_cascade(members) for members in several]

    @in_64_bits
    def cascade(self, draw: int) -> Cascade:
        """Return the cascade of all models at one draw, counted over all chains."""
        flat = {k: in_one_row(v)[draw] for k, v in self.samples.items()}
        return Cascade(
            params=params_from_sites({k: jnp.asarray(v) for k, v in flat.items()}, self.spec),
            copulas=self.spec.copulas_of(range(len(self.models))),
            models=self.models,
            call_cost=self.data.call_cost,
            confidence_map=self.confidence_map,
        )

    def digest(self) -> str:
        """Return the SHA-256 of all draws, which names this fit in files made from it."""
        state = hashlib.sha256()
        for name in sorted(self.samples):
            state.update(name.encode())
            state.update(np.ascontiguousarray(self.samples[name]).tobytes())
        return state.hexdigest()

    # Diagnostics

    def convergence(self) -> Verdict:
        """Return whether the fit can be trusted.

        Of chains: R-hat, effective sample sizes and divergences, worst over all parameters. Of an
        approximation: k-hat of its importance weights. A single point has nothing to judge.
        """
        return self._convergence

    @cached_property
    def _convergence(self) -> Verdict:
        if self.provenance.get("method") == "map":
            return Point()
        if "approximation" in self.provenance:
            report = self.provenance["approximation"]
            return judge_approximation(report["k_hat"], report["ess"], report.get("settled", {}))
        return assess(self.samples, self.sample_stats, site_labels(self.spec, self.models, self.samples))

    @cached_property
    def fit_verdict(self) -> FitVerdict:
        """The verdict of `convergence` as it travels: into the file, and into policies and frontiers."""
        if self.recorded_verdict is not None:
            return self.recorded_verdict
        verdict = self.convergence()
        return FitVerdict(bool(verdict.converged), verdict.sentence())

    def summary(self) -> Any:
        """Return ArviZ's summary of every parameter, a pandas frame."""
        from cascade_bayes.inference import _arviz

        return _arviz.summary(self._stored())

    # Persistence

    @in_64_bits
    def to_arviz(
        self,
        *,
        num_replicates: int = NUM_REPLICATES,
        seed: int = 0,
        max_queries: int | None = MAX_LOOKED_AT,
    ) -> Any:
        """Return the fit as ArviZ's container: InferenceData (ArviZ 0.x) or DataTree (1.x).

        Its groups, with their variables, dimensions, coordinates and units, are those of
        `cascade_bayes.inference.arviz_groups`, which also says what leave-one-out means for a modular fit.
        `load` reads what ArviZ's own ``to_netcdf`` saved of it, too.

        Parameters
        ----------
        num_replicates
            Tables to simulate from the posterior, and draws, with a table each, of the prior. Those of the
            posterior are from draws evenly spaced in every chain, at least one a chain.
        seed
            Seed of the simulation, the prior draws and the choice of queries; the same seed gives the
            same container.
        max_queries
            How many random queries all groups are to have if the table has more; all if None. There is a log
            likelihood for every draw and query: of 200,000 queries 3.2 gigabytes.

        Raises
        ------
        InputError
            If ``num_replicates`` or ``max_queries`` is below 1.

        Examples
        --------
        >>> tree = posterior.to_arviz()  # doctest: +SKIP
        >>> az.loo(tree)  # doctest: +SKIP
        >>> az.plot_forest(tree, var_names=["tau"])  # doctest: +SKIP
        """
        from cascade_bayes.inference import _arviz

        check_whole("num_replicates", num_replicates)
        check_seed(seed)
        few = with_random_subset(self, max_queries, seed)
        groups = pack(few._parts()) | computed_groups(few, num_replicates, seed)
        return _arviz.make_tree(groups, few._attributes())

    def _stored(self) -> Any:
        """Return the part of `to_arviz` that a file holds; the rest can be computed again."""
        from cascade_bayes.inference import _arviz

        return _arviz.make_tree(pack(self._parts()), self._attributes())

    def _parts(self) -> Parts:
        """Return what a file holds of the posterior."""
        return Parts(self.samples, self.sample_stats, self.data, self.spec, self.provenance, None)

    def _attributes(self) -> dict[str, str]:
        """Return what the group ``posterior`` of a file has for attributes."""
        arrays = {
            group: {
                str(name): Array(tuple(map(str, variable.dims)), np.asarray(variable.values))
                for name, variable in dataset.variables.items()
            }
            for group, dataset in pack(self._parts()).items()
        }
        return posterior_file.attributes(self._parts(), arrays, self.fit_verdict)

    def save(self, path: str | os.PathLike[str] | Output) -> None:
        """Write all that `load` needs to one NetCDF file, and nothing that can be computed from it.

        The file is put into its place when it is complete and safely on the disk, so that whatever was at
        ``path`` stays whole until then. If it cannot be written, save the posterior elsewhere.

        Parameters
        ----------
        path
            The file to write. A posterior that is there already is replaced, any other file is not.

        Raises
        ------
        InputError
            If the path is that of a folder, a device, or a file that is no posterior.
        OutputError
            If the folder or its disk does not take the file; it is an `InputError` and an `OSError`.
        """
        write_output(path, POSTERIOR, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the bytes of the NetCDF file that `save` writes."""
        from cascade_bayes.inference import _arviz

        return posterior_file.seal(_arviz.netcdf_bytes(pack(self._parts()), self._attributes()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Posterior:
        """Read a file that `save` wrote, or ArviZ from the container of `to_arviz`.

        Parameters
        ----------
        path
            The file. Every variable in it is checked, and the digest that `save` stored shows any change
            since (`cascade_bayes.inference.storage.file`).

        Raises
        ------
        InputError
            If the file is missing, cut short, changed, not a posterior of this library or of another version
            of its format.
        """
        return cls(*posterior_file.read(Path(path)))
