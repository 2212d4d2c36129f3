"""Fit the generative model to a table."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes.data import READ_FIRST, CascadeData
from cascade_bayes.inference.assembly import assemble, compile_ahead, is_mixed
from cascade_bayes.inference.options import FitOptions, with_fit_options
from cascade_bayes.inference.padded_table import PaddedTable
from cascade_bayes.inference.pair_posteriors import MAX_DRAWS
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.posterior_modules import collect
from cascade_bayes.inference.preparation import Prepared, prepare
from cascade_bayes.inference.samplers.draw import draw


@with_fit_options
def fit(data: CascadeData, method: str = FitOptions.method, *, seed: int, **options: Any) -> Posterior:
    """Fit the generative model and return its posterior.

    All arithmetic is in 64 bits, whatever JAX is set to.

    Parameters
    ----------
    data
        The table, read by `cascade_bayes.read_table`.
    method
        ``"nuts"``, ``"auto"``, ``"svi"``, ``"laplace"`` or ``"map"``.
    seed
        Seed of all randomness.
    **options
        How the table is fitted; `cascade_bayes.FitOptions` says of each, and of the methods, what it does.

    Returns
    -------
    Posterior
        Draws with sampler statistics; see ``Posterior.convergence()``.

    Raises
    ------
    InputError
        If the table cannot be fitted (a model without labels, say), or a value of an option is not allowed.
    TypeError
        If there is no such option, or ``data`` is no table that `cascade_bayes.read_table` has read.

    Warns
    -----
    DataWarning
        If all labels of a model are equal, or a model's slope is negative with a posterior probability
        above one half; for the structure ``"modular"``, if confidences are missing: what that assumes.
    ConvergenceWarning
        If an approximation (``"svi"``, ``"laplace"``) is so far off that its importance weights leave fewer
        than 40 effective draws, or than half of the draws where fewer than 80 were asked for;
        ``Posterior.convergence()`` says more, and of chains too.
    """
    need(data, CascadeData, "data", READ_FIRST)
    return fit_one(prepare(data, FitOptions.of(method, seed, options)))


@in_64_bits
def fit_one(one: Prepared) -> Posterior:
    """Fit a table that has been prepared; it warns as `fit` does."""
    began = time.perf_counter()
    structure = one.spec.structure
    table = PaddedTable(one, one.spec.kind, one.data.num_queries)
    modules = table.modules()
    key_modules, key_pairs = jax.random.split(jax.random.key(one.options.seed))
    with ThreadPoolExecutor(1) as pool:  # what is needed last is compiled while the first is sampled
        compiling = pool.submit(compile_ahead(table, modules))
        found = draw(
            key_modules,
            [module.lanes for module in modules],
            one.options,
            max_kept=MAX_DRAWS if structure == "modular" else None,
            enough=lambda found: is_mixed(collect(modules, found), structure),
        )
        compiling.result()
    return assemble(table, collect(modules, found), key_pairs, time.perf_counter() - began)
