"""Fit the generative model to a table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax

from cascade_bayes._entry import in_64_bits, need
from cascade_bayes.data import READ_FIRST, CascadeData
from cascade_bayes.inference.approximate import Guide
from cascade_bayes.inference.effort import random_subset
from cascade_bayes.inference.methods import draw
from cascade_bayes.inference.modules import collect
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.prepare import Arrays, Request, is_mixed, prepare
from cascade_bayes.model.margins import DEFAULT_MARGIN
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import Structure
from cascade_bayes.model.strata import is_long

SAMPLES, LONG_SAMPLES = 1000, 500
"""Kept draws of each chain of a table, and of a long one, whose every transition takes more time: those of
four chains are as many as a modular fit keeps (`cascade_bayes.inference.modular.MAX_DRAWS`)."""


@in_64_bits
def fit(
    data: CascadeData,
    method: str = "nuts",
    *,
    seed: int,
    num_chains: int = 4,
    num_warmup: int | None = None,
    num_samples: int | None = None,
    max_rounds: int = 3,
    guide: Guide = "full_rank",
    num_steps: int = 1000,
    structure: Structure | None = None,
    copula: str | Sequence[str] = "gumbel",
    margin: str = DEFAULT_MARGIN,
    upstream: bool = True,
    monotone: bool = False,
    priors: Priors | None = None,
    atoms: Mapping[str, Sequence[float]] | None = None,
    target_accept_prob: float = 0.9,
    max_queries: int | None = None,
    progress: bool = True,
) -> Posterior:
    """Fit the generative model and return its posterior.

    All arithmetic is in 64 bits, whatever JAX is set to.

    Parameters
    ----------
    data
        The table, read by `cascade_bayes.read_table`.
    method
        ``"nuts"``, the default, and the one to publish from. ``"auto"``: NUTS with a short warm-up. ``"svi"``
        and ``"laplace"``: approximations, corrected by Pareto-smoothed importance sampling, which takes
        seconds; ``Posterior.convergence()`` says how close they were. ``"map"``: the posterior mode alone, a
        single draw, of unconstrained parameters. `cascade_bayes.inference.methods` says more.
    seed
        Seed of all randomness; the same seed, versions and devices, as many of them, give the same draws.
    num_chains, num_warmup, num_samples
        Chains, and the warm-up and kept draws of each; all chains run as one batch. If None, warm-up is 300,
        100 for ``"auto"``, and 1000 draws are kept; of a table of more than
        `cascade_bayes.model.strata.MAX_EXACT` queries 500. The approximate methods return as many draws.
    max_rounds
        If R-hat or the effective sample size of a parameter falls short after ``num_samples`` draws, the
        chains go on for as many again, until they suffice or this many rounds are done. All draws are
        kept, unless a transition diverged: then the chains go on with half the step size, and what was drawn
        before counts as warm-up. With 1 nothing is checked, and NUTS does without ArviZ.
    guide
        For ``"svi"``: ``"mean_field"``, ``"low_rank"``, ``"full_rank"`` or ``"flow"``.
    num_steps
        For ``"svi"``: steps of the optimiser.
    structure
        ``"modular"`` samples first margins and calibration, then each pair of models given them, with nothing
        fed back; ``"chain"`` all parameters together, given the Markov chain of all models.
        `cascade_bayes.model.spec.ModelSpec` says what each conditions on. If None, modular, which predicts
        better and takes less time. Confidences may be missing: each model, and each pair, is then fitted to
        the queries that have it, as if which are missing did not depend on the confidences. Where the table
        shows that it does, as in the log of a running cascade, the default is a chain, because only a chain
        allows for that; `cascade_bayes.inference.structure` has the rule.
    copula
        Family of the pairs (neighbours of a chain; every pair of a modular fit, (0, 1), (0, 2), ...): one
        name for all of them, or one a pair, from `cascade_bayes.copulas.FAMILIES`; ``"auto"`` picks for each
        pair the family with the highest leave-one-out log score (`cascade_bayes.inference.select`).
    margin
        Family of the continuous parts of the confidences' margins: ``"logit_normal"`` or ``"beta"``
        (`cascade_bayes.model.margins`).
    upstream
        Let the previous model's confidence enter a model's log odds of being right.
    monotone
        Keep slopes positive: more confident answers of a model are right at least as often.
    priors
        Hyperparameters; if None the defaults of `Priors`, of a long table of `Priors.long_table`.
    atoms
        Point masses by model name, on the raw scale, in place of those that
        `cascade_bayes.model.params.find_atoms` would find.
    target_accept_prob
        Acceptance rate NUTS adapts its step size to. Closer to 1 is slower, with fewer divergences.
    max_queries
        Fit a random subset of so many queries, chosen by ``seed``, if the table has more; all if None.
    progress
        Show a progress bar.

    Returns
    -------
    Posterior
        Draws with sampler statistics; see ``Posterior.convergence()``.

    Raises
    ------
    InputError
        If the table cannot be fitted (a model without labels, say) or an option is not known.
    TypeError
        If ``data`` is no table that `cascade_bayes.read_table` has read.

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
    given = data.num_queries
    data = random_subset(data, max_queries, seed)
    if num_samples is None:
        num_samples = LONG_SAMPLES if is_long(data.num_queries) else SAMPLES
    request = Request(
        method=method,
        seed=seed,
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        max_rounds=max_rounds,
        guide=guide,
        num_steps=num_steps,
        structure=structure,
        copula=copula,
        margin=margin,
        upstream=upstream,
        monotone=monotone,
        priors=priors,
        atoms=atoms,
        target_accept_prob=target_accept_prob,
        progress=progress,
    )
    began = time.perf_counter()
    one = prepare(data, request)
    table = Arrays(one, one.spec.kind, data.num_queries)
    modules = table.modules()
    key_modules, key_pairs = jax.random.split(jax.random.key(seed))
    found = draw(
        key_modules,
        [module.lanes for module in modules],
        method,
        request.options(one.spec.structure),
        lambda found: is_mixed(collect(modules, found), one.spec.structure),
    )
    posterior = table.posterior(collect(modules, found), key_pairs, request, time.perf_counter() - began)
    if given == data.num_queries:
        return posterior
    subset = {"max_queries": max_queries, "num_queries_given": given}
    return replace(posterior, provenance={**posterior.provenance, **subset})
