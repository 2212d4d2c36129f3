r"""Many tables at once.

Tables with as many models, of one structure and with the same copulas, have posteriors that differ in their
data alone. They are sampled side by side as lanes of one compiled program: shorter tables are padded with
queries of which nothing is known, tables with fewer atoms with empty slots; neither enters a likelihood.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes._files import read_record, write_json
from cascade_bayes._kinds import POSTERIOR
from cascade_bayes._numbers import check_whole
from cascade_bayes._output import check_folder
from cascade_bayes.data import READ_FIRST, CascadeData
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.inference.assembly import assemble, is_mixed, versions
from cascade_bayes.inference.options import FitOptions, with_fit_options
from cascade_bayes.inference.padded_table import PaddedTable
from cascade_bayes.inference.pair_posteriors import MAX_DRAWS
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import Sampled, collect, side_by_side
from cascade_bayes.inference.preparation import Prepared, prepare
from cascade_bayes.inference.samplers.draw import LaneDraws, draw
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import ModelKind
from cascade_bayes.model.strata import is_long

SCHEMA = "cascade_bayes.batch"
SCHEMA_VERSION = 1


class FailedFit(NamedTuple):
    """A table of a batch that could not be fitted.

    Attributes
    ----------
    table
        Its place in the list.
    reason
        Why, in a sentence.
    """

    table: int
    reason: str


@with_fit_options
@in_64_bits
def fit_batch(
    tables: Sequence[CascadeData],
    method: str = FitOptions.method,
    *,
    seed: int,
    batch_size: int = 50,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> list[Posterior | FailedFit]:
    """Fit the generative model to many tables, several side by side.

    Each posterior is that of `fit` up to Monte Carlo error. Tables are alike, and share one compiled program,
    if they have as many models, the same structure and copulas, and the same models have a continuous part. A
    chain with gaps inside is fitted by itself.

    Parameters
    ----------
    tables
        The tables, read by `cascade_bayes.read_table`; any number of queries each.
    method, seed
        The same as for `fit`.
    batch_size
        How many alike tables are sampled side by side, at most. More take more memory.
    checkpoint
        A folder to keep each posterior in as soon as there is one, ``00000.nc`` for the first table; made if
        it does not exist. The same call goes on where it was interrupted.
    progress
        Show a progress bar.
    **options
        How the tables are fitted: `cascade_bayes.FitOptions`.

    Returns
    -------
    list
        One a table: a `Posterior`, or a `FailedFit` that says why there is none.

    Raises
    ------
    InputError
        If a value of an option is not allowed, or the checkpoint is of another batch.
    TypeError
        If there is no such option.

    Warns
    -----
    DataWarning
        What `fit` warns of, with the place of the table; and for each table that could not be fitted.
    """
    tables = list(tables)
    for place, data in enumerate(tables):
        need(data, CascadeData, f"table {place} of tables", READ_FIRST)
    asked = FitOptions.of(method, seed, {"progress": False} | options)
    check_whole("batch_size", batch_size)
    store = _Checkpoint(checkpoint, tables, asked, batch_size)
    results = store.read()
    prepared: dict[int, Prepared] = {}
    for place, data in enumerate(tables):
        with _naming(place, 4):
            try:
                prepared[place] = prepare(data, asked)
            except InputError as error:
                results[place] = FailedFit(place, str(error))
    from tqdm.auto import tqdm

    with tqdm(total=len(tables), disable=not progress, desc="fit_batch", unit="table") as bar:
        bar.update(len(results))
        for place, result in fit_prepared(prepared, batch_size, done=tuple(results)):
            results[place] = result
            store.write(place, result)
            bar.update()
    for place, result in sorted(results.items()):
        if isinstance(result, FailedFit):
            warnings.warn(f"table {place} could not be fitted: {result.reason}", DataWarning, stacklevel=2)
    return [results[place] for place in range(len(tables))]


def fit_prepared(
    prepared: Mapping[int, Prepared],
    batch_size: int,
    *,
    done: Collection[int] = (),
    enough: Callable[[Sampled], bool] | None = None,
) -> Iterator[tuple[int, Posterior | FailedFit]]:
    """Sample tables side by side, and yield the results one by one.

    Parameters
    ----------
    prepared
        The tables, by their place in the list, with the same options.
    batch_size
        How many alike tables are sampled side by side, at most.
    done
        Places of which there is a result already.
    enough
        Whether the draws of one table suffice, so that NUTS needs no further round; `is_mixed` if None.
    """
    for chunk in _chunks(prepared, batch_size):
        if not all(place in done for place in chunk.places):
            for place, result in _fit_chunk(chunk, prepared, enough):
                if place not in done:
                    yield place, result


@contextmanager
def _naming(index: int, stacklevel: int) -> Iterator[None]:
    """Say of which table a warning is."""
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        yield
    for caught in log:
        warnings.warn(f"table {index}: {caught.message}", caught.category, stacklevel=stacklevel)


class _Chunk(NamedTuple):
    """Tables that are sampled side by side.

    Attributes
    ----------
    places
        Positions in the list of tables.
    kind, num_queries
        What all tables alike, of other chunks too, have room in.
    size
        Size of the largest of their chunks; smaller ones are filled up, or would be compiled anew.
    """

    places: tuple[int, ...]
    kind: ModelKind
    num_queries: int
    size: int


def _chunks(prepared: Mapping[int, Prepared], batch_size: int) -> Iterator[_Chunk]:
    """Divide alike tables into even parts."""
    groups: dict[Any, list[int]] = {}
    for place, one in prepared.items():
        kind = one.spec.kind
        alone = place if one.obs.gaps is not None else None
        long = is_long(one.data.num_queries)
        groups.setdefault((kind.structure, kind.copulas, kind.continuous, alone, long), []).append(place)
    for group in groups.values():
        specs = [prepared[place].spec for place in group]
        slots = max(spec.layout.locs.shape[1] for spec in specs)
        has_atom = np.zeros((specs[0].num_models, slots), dtype=bool)
        for spec in specs:
            has_atom[:, : spec.layout.locs.shape[1]] |= spec.layout.has_atom
        kind = specs[0].kind._replace(has_atom=tuple(map(tuple, has_atom.tolist())))
        num_queries = max(prepared[place].data.num_queries for place in group)
        size = math.ceil(len(group) / math.ceil(len(group) / batch_size))
        for start in range(0, len(group), size):
            yield _Chunk(tuple(group[start : start + size]), kind, num_queries, size)


def _fit_chunk(
    chunk: _Chunk,
    prepared: Mapping[int, Prepared],
    enough: Callable[[Sampled], bool] | None,
) -> Iterator[tuple[int, Posterior | FailedFit]]:
    """Sample a chunk, and yield the results one by one."""
    began = time.perf_counter()
    arrays = [PaddedTable(prepared[place], chunk.kind, chunk.num_queries) for place in chunk.places]
    modules = [table.modules() for table in arrays]
    filled = modules + [modules[-1]] * (chunk.size - len(modules))
    options = prepared[chunk.places[0]].options
    key = jax.random.fold_in(jax.random.key(options.seed), chunk.places[0])
    key_modules, key_pairs = jax.random.split(key)
    structure = chunk.kind.structure

    def suffices(sampled: Sampled) -> bool:
        return is_mixed(sampled, structure) if enough is None else enough(sampled)

    def all_suffice(found: list[LaneDraws]) -> bool:
        return all(suffices(collect(own, found, table)) for table, own in enumerate(modules))

    max_kept = MAX_DRAWS if structure == "modular" else None
    found = draw(key_modules, side_by_side(filled), options, max_kept=max_kept, enough=all_suffice)
    share = (time.perf_counter() - began) / len(chunk.places)
    keys = jax.random.split(key_pairs, chunk.size)
    for table, (place, own) in enumerate(zip(chunk.places, modules, strict=True)):
        try:
            with _naming(place, 5):
                posterior = assemble(arrays[table], collect(own, found, table), keys[table], share)
        except InputError as error:
            yield place, FailedFit(place, str(error))
        else:
            yield place, posterior


class _Checkpoint:
    """A folder with what has been fitted of a batch; nothing is kept if there is none.

    Raises
    ------
    InputError
        If the folder cannot be made, or holds another batch.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        tables: Sequence[CascadeData],
        options: FitOptions,
        batch_size: int,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._num_tables = len(tables)
        if self._folder is None:
            return
        record = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "request": _as_text({**asdict(options), "priors": (options.priors or Priors()).to_dict()}),
            "batch_size": batch_size,
            "versions": versions(),
            "bits": 64,
            "tables": [_digest(data) for data in tables],
        }
        if not self._folder.parent.is_dir():
            raise InputError(
                f"checkpoint {folder}: the folder {self._folder.parent} does not exist; make it first."
            )
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"checkpoint {folder} is a file; name a folder.")
        check_folder(self._folder, {self._path(self._num_tables).name: POSTERIOR})
        manifest = self._folder / "batch.json"
        again = "Name another folder, or remove this one."
        if manifest.exists():
            before = read_record(manifest, SCHEMA, SCHEMA_VERSION, again)
            other = [name for name, value in record.items() if before.get(name) != value]
            if other:
                raise InputError(
                    f"checkpoint {folder} is of another batch: its {' and '.join(other)} differ; name "
                    "another folder, or remove this one."
                )
        elif any(self._folder.glob("*.nc")):
            raise InputError(
                f"checkpoint {folder} holds posteriors but no batch.json that says of which batch. {again}"
            )
        else:
            self._folder.mkdir(exist_ok=True)
            write_json(manifest, record)

    def read(self) -> dict[int, Posterior | FailedFit]:
        """Return what has been kept."""
        if self._folder is None:
            return {}
        found: dict[int, Posterior | FailedFit] = {}
        for place in range(self._num_tables):
            path = self._path(place)
            if path.exists():
                try:
                    found[place] = Posterior.load(path)
                except InputError as error:
                    raise InputError(f"{error} Or remove this file, and the batch makes it again.") from error
        return found

    def _path(self, place: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{place:05d}.nc"

    def write(self, place: int, result: Posterior | FailedFit) -> None:
        """Keep a posterior; a failure is tried again."""
        if self._folder is not None and isinstance(result, Posterior):
            result.save(self._path(place))


def _as_text(value: Any) -> str:
    return json.dumps(value, default=lambda array: np.asarray(array).tolist())


def _digest(data: CascadeData) -> str:
    """Return a SHA-256 of a table."""
    state = hashlib.sha256()
    state.update(json.dumps([data.models, data.confidence_map.to_dict(), data.query_ids.tolist()]).encode())
    for values in (data.confidence, data.labelled, data.correct, data.cost, data.call_cost, data.latency_ms):
        state.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return state.hexdigest()
