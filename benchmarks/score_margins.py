"""Score margin families and numbers of components on confidences that the fit has not seen.

For every ``*-train.parquet`` in the folder that the variable ``CASCADE_BAYES_DATA`` names: 5-fold held-out
log score, in nats, of each model's confidences, under its margin alone (no dependence, no labels). Run
``python benchmarks/score_margins.py``; with ``--priors`` other hyperparameters are scored in place of other
numbers of components; ``--few`` fits to one fold in place of four, and scores the other four; with
``--chains`` it is told whether four dispersed chains of each margin meet.

* Scored is the probability of the one of `NUM_BINS` intervals, between quantiles of the table, that holds
  the confidence. The log density would be no fair score: confidences next to certainty are stored in coarse
  steps, and a component that narrows onto a value that repeats gains without limit. (With twelve
  components and a wide prior of their spreads it "gains" 404 nats on the default; ``--density`` shows it.)
* The confidence map and the atoms are those of the whole table, the same for every margin scored. Atoms are a
  posteriori independent of what lies between them, so their part of the score is the same throughout, and is
  left out: scored is a confidence given that it is not an atom.
* A margin's posterior has 2 J - 1 dimensions for J components. Draws of the normal approximation at its mode
  are weighted by Pareto-smoothed importance sampling, all tables, models and folds at once; the predictive
  probability is the weighted mean over the draws. ``--nuts`` samples the defaults by NUTS as well.
* A difference's standard error is that of a sum over queries, whose models need not be independent.
* "by LOO" takes for each model and fold the number of components whose PSIS-LOO (Vehtari, Gelman & Gabry,
  Statistics and Computing 27, 2017) is best on the training part of the fold.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS
from scipy.special import logsumexp

from cascade_bayes import read_table
from cascade_bayes._trees import take
from cascade_bayes.distributions import ContinuousPart
from cascade_bayes.inference import _arviz
from cascade_bayes.inference.nuts import START_SPREAD
from cascade_bayes.model.margins import (
    DEFAULT_MARGIN,
    MARGINS,
    MarginFamily,
    simplex_from_splits,
    split_prior,
)
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.special import log_difference

NUM_FOLDS = 5
NUM_BINS = 32
NUM_COMPONENTS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
NUM_DRAWS = 1000
NUTS_WARMUP, NUTS_DRAWS = 200, 400
NEWTON_STEPS = 30
OTHER_PRIORS: dict[str, tuple[dict[str, float], ...]] = {
    "beta": (
        {"split_scale": 0.7},
        {"split_scale": 1.4},
        {"split_df": 2.0},
        {"split_df": 30.0},
        {"concentration": 2.0},
        {"concentration": 3.4},
        {"concentration_scale": 0.35},
        {"concentration_scale": 0.7},
        {"num_components": 4, "concentration": 2.0, "concentration_scale": 0.35},
    ),
    "logit_normal": (
        {"split_scale": 0.7},
        {"split_scale": 1.4},
        {"split_df": 2.0},
        {"split_df": 30.0},
        {"normal_scale": 0.85},
        {"normal_scale": 1.3},
        {"normal_log_scale": 0.35},
        {"normal_log_scale": 0.7},
    ),
}


class Confidences(NamedTuple):
    """Every margin of every table, one row each, padded to ``num_queries`` columns.

    ``fold`` is the fold in which a query is held out, -1 where it has no confidence between the atoms.
    """

    tables: list[str]
    table_of_row: np.ndarray
    z: np.ndarray
    fold: np.ndarray

    @property
    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of each row's intervals, ``(num_rows, NUM_BINS + 1)``, and the interval of each confidence.

        Ends lie in the middle between two values; an interval between ties is empty, and has no width.
        """
        ends = np.full((len(self.z), NUM_BINS + 1), np.inf)
        ends[:, 0] = -np.inf
        place = np.zeros(self.z.shape, dtype=int)
        for i, (z, fold) in enumerate(zip(self.z, self.fold, strict=True)):
            values = np.unique(z[fold >= 0])
            middle = 0.5 * (values[1:] + values[:-1])
            level = np.arange(1, NUM_BINS) / NUM_BINS
            wanted = np.quantile(z[fold >= 0], level)
            ends[i, 1:-1] = middle[np.argmin(np.abs(middle - wanted[:, None]), axis=1)]
            place[i] = np.searchsorted(ends[i], z, side="left") - 1
        return ends, np.maximum(place, 0)


def read_all() -> Confidences:
    folder = os.environ.get("CASCADE_BAYES_DATA")
    if not folder:
        raise SystemExit(
            "CASCADE_BAYES_DATA must name the folder that holds *-train.parquet; nothing scored."
        )
    paths = sorted(Path(folder).glob("*-train.parquet"))
    if not paths:
        raise SystemExit(f"no *-train.parquet in {folder}; nothing scored.")
    rows, which = [], []
    for t, path in enumerate(paths):
        data = read_table(path)
        layout = find_atoms(data)
        z = data.logit_score()
        fold = np.random.default_rng(0).permutation(data.num_queries) % NUM_FOLDS
        for i in range(data.num_models):
            between = data.observed[:, i] & np.isfinite(z[:, i]) & ~np.isin(z[:, i], layout.locs[i])
            if between.any():
                rows.append((np.where(between, z[:, i], 0.0), np.where(between, fold, -1)))
                which.append(t)
    width = max(len(z) for z, _ in rows)
    return Confidences(
        [path.name.removesuffix("-train.parquet") for path in paths],
        np.asarray(which),
        np.stack([np.pad(z, (0, width - len(z))) for z, _ in rows]),
        np.stack([np.pad(fold, (0, width - len(fold)), constant_values=-1) for _, fold in rows]),
    )


def part_of(x: jax.Array, family: MarginFamily) -> ContinuousPart:
    """Return the continuous part at unconstrained ``x``: J - 1 splits, J log spreads."""
    split, log_spread = jnp.split(x, [x.size // 2])
    return family.part(simplex_from_splits(split), jnp.exp(log_spread))


def potential(x: jax.Array, z: jax.Array, used: jax.Array, family: MarginFamily, priors: Priors) -> jax.Array:
    split, log_spread = jnp.split(x, [x.size // 2])
    log_prior = split_prior(priors).log_prob(split).sum()
    log_prior += (family.prior(priors).log_prob(jnp.exp(log_spread)) + log_spread).sum()
    log_likelihood = part_of(x, family).log_density(z)
    return -log_prior - jnp.sum(jnp.where(used, log_likelihood, 0.0))


def mode_and_scale(energy: Any, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Minimise by Newton's method with curvatures kept positive; return a root of the inverse Hessian too."""

    def curvature(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, vectors = jnp.linalg.eigh(jax.hessian(energy)(x))
        return jnp.maximum(jnp.abs(values), 0.1), vectors

    def step(_: int, x: jax.Array) -> jax.Array:
        values, vectors = curvature(x)
        direction = vectors @ ((vectors.T @ jax.grad(energy)(x)) / values)
        tries = x - 0.5 ** jnp.arange(16)[:, None] * direction
        tries = jnp.concatenate([tries, x[None]])
        return tries[jnp.argmin(jax.vmap(energy)(tries))]

    mode = jax.lax.fori_loop(0, NEWTON_STEPS, step, start)
    values, vectors = curvature(mode)
    return mode, vectors / jnp.sqrt(values)


class Row(NamedTuple):
    """One posterior: its confidences, which of them the fit sees, and how they are scored."""

    z: jax.Array
    used: jax.Array
    ends: jax.Array
    place: jax.Array


def sample(
    key: jax.Array, row: Row, family: MarginFamily, priors: Priors, density: bool, nuts: bool
) -> tuple[jax.Array, jax.Array]:
    """Return log importance ratios ``(num_draws,)``, and log scores of all confidences at each draw."""
    energy, mode, scale = whitened(row, family, priors)
    if nuts:
        kernel = NUTS(potential_fn=energy, max_tree_depth=6, target_accept_prob=0.9)
        draws = run_chain(kernel, key, jnp.zeros_like(mode), NUTS_WARMUP, NUTS_DRAWS)
        log_ratio = jnp.zeros(NUTS_DRAWS)
    else:
        draws = jax.random.normal(key, (NUM_DRAWS, mode.size))
        log_ratio = 0.5 * jnp.sum(draws**2, axis=1) - jax.lax.map(energy, draws)

    def log_score(y: jax.Array) -> jax.Array:
        part = part_of(mode + scale @ y, family)
        if density:
            return part.log_density(row.z)
        at_ends = part.cdf(row.ends)
        upper, lower = take(at_ends, np.s_[1:]), take(at_ends, np.s_[:-1])
        return log_difference(upper, lower)[row.place]

    return log_ratio, jax.lax.map(log_score, draws)


def whitened(row: Row, family: MarginFamily, priors: Priors) -> tuple[Any, jax.Array, jax.Array]:
    """Return the potential in whitened coordinates, the mode and the root of the inverse curvature."""
    medians = jnp.broadcast_to(family.prior(priors).icdf(0.5), (priors.num_components,))
    start = jnp.concatenate([jnp.zeros(priors.num_components - 1), jnp.log(medians)])
    mode, scale = mode_and_scale(lambda x: potential(x, row.z, row.used, family, priors), start)
    return lambda y: potential(mode + scale @ y, row.z, row.used, family, priors), mode, scale


def run_chain(kernel: NUTS, key: jax.Array, start: jax.Array, num_warmup: int, num_draws: int) -> jax.Array:
    state = kernel.init(key, num_warmup, start, (), {})

    def draw(state: Any, _: None) -> tuple[Any, jax.Array]:
        state = kernel.sample(state, (), {})
        return state, state.z

    return jax.lax.scan(draw, state, None, length=num_warmup + num_draws)[1][num_warmup:]


class Score(NamedTuple):
    """One column: held-out log score of each confidence, PSIS-LOO of each row and fold."""

    held_out: np.ndarray
    loo: np.ndarray


def score(
    data: Confidences,
    family: MarginFamily,
    priors: Priors,
    *,
    with_loo: bool = True,
    density: bool = False,
    few: bool = False,
    nuts: bool = False,
) -> Score:
    began = time.perf_counter()
    num_rows = len(data.z)
    z = jnp.asarray(np.repeat(data.z, NUM_FOLDS, axis=0))
    fold = np.repeat(data.fold, NUM_FOLDS, axis=0)
    held = np.tile(np.arange(NUM_FOLDS), num_rows)[:, None]
    inside, outside = (fold >= 0) & (fold != held), fold == held
    used, scored = (outside, inside) if few else (inside, outside)
    keys = jax.random.split(jax.random.key(0), len(z))
    ends, place = (jnp.asarray(np.repeat(x, NUM_FOLDS, axis=0)) for x in data.bins)
    run = jax.jit(jax.vmap(lambda key, row: sample(key, row, family, priors, density, nuts)))
    log_ratio, log_p = (np.asarray(x) for x in run(keys, Row(z, jnp.asarray(used), ends, place)))
    log_weight, k_hat = _arviz.smooth_weights(log_ratio)
    predictive = logsumexp(log_weight[:, :, None] + log_p, axis=1)
    held_out = np.sum(np.where(scored, predictive, 0.0).reshape(num_rows, NUM_FOLDS, -1), axis=1)
    held_out /= NUM_FOLDS - 1 if few else 1
    loo = np.zeros(len(z))
    if with_loo:
        for i in range(len(z)):
            each = log_p[i][:, used[i]].T
            without, _ = _arviz.smooth_weights(log_ratio[i] - each)
            loo[i] = logsumexp(without + each, axis=1).sum()
    print(
        f"  {family.name}, {priors.num_components}: {time.perf_counter() - began:.0f} s; "
        + ("NUTS" if nuts else f"k-hat {np.median(k_hat):.2f} (median), {k_hat.max():.2f} (largest)"),
        flush=True,
    )
    return Score(held_out, loo.reshape(num_rows, NUM_FOLDS))


def sums(data: Confidences, pointwise: np.ndarray) -> list[tuple[float, float]]:
    """Return for each table, and then all, the sum and the standard error of that sum over queries."""
    by_query = [pointwise[data.table_of_row == t].sum(axis=0) for t in range(len(data.tables))]
    seen = [(data.fold[data.table_of_row == t] >= 0).any(axis=0) for t in range(len(data.tables))]
    parts = [q[s] for q, s in zip(by_query, seen, strict=True)]
    return [(float(p.sum()), float(p.std() * np.sqrt(p.size))) for p in [*parts, np.concatenate(parts)]]


def print_line(label: str, data: Confidences, pointwise: np.ndarray, default: np.ndarray) -> None:
    difference = sums(data, pointwise - default)
    cells = "".join(f"{total:+13.1f} ({se:4.1f})" for total, se in difference)
    print(f"{label:54s}{pointwise.sum():9.1f}{cells}", flush=True)


def print_head(data: Confidences, default: np.ndarray) -> None:
    print("\nHeld-out log score in nats: total, then the difference from the default (standard error)")
    print(f"{'':54s}{'total':>9s}" + "".join(f"{name:>20s}" for name in [*data.tables, "all"]))
    label = f"default: {DEFAULT_MARGIN}, {Priors().num_components}"
    cells = "".join(f"{total:20.1f}" for total, _ in sums(data, default))
    print(f"{label:54s}{default.sum():9.1f}{cells}")


def print_chosen_by_loo(data: Confidences, scores: dict[tuple[str, str], Score], default: np.ndarray) -> None:
    """Score what PSIS-LOO chooses, for each model and fold, from the training part of the fold."""
    best = np.argmax([s.loo for s in scores.values()], axis=0)  # (row, fold)
    chosen = np.take_along_axis(best, np.maximum(data.fold, 0), axis=1)
    pointwise = np.take_along_axis(np.stack([s.held_out for s in scores.values()]), chosen[None], axis=0)[0]
    families = " or ".join(dict.fromkeys(name for name, _ in scores))
    print_line(f"{families}, by LOO", data, np.where(data.fold >= 0, pointwise, 0.0), default)
    counts = "; ".join(f"{label}: {np.sum(best == k)}" for k, (_, label) in enumerate(scores))
    print(f"    chosen: {counts}")


def report_chains(data: Confidences, family: MarginFamily, priors: Priors, label: str) -> None:
    """Print how well four chains of each margin meet that start 1.5 times as wide as the posterior."""
    began = time.perf_counter()
    ends, place = data.bins
    rows = Row(*(jnp.asarray(x) for x in (data.z, data.fold >= 0, ends, place)))

    def chains(key: jax.Array, row: Row) -> jax.Array:
        energy, mode, _ = whitened(row, family, priors)
        kernel = NUTS(potential_fn=energy, max_tree_depth=7, target_accept_prob=0.85)
        key_start, key_run = jax.random.split(key)
        starts = START_SPREAD * jax.random.normal(key_start, (4, mode.size))
        return jax.vmap(lambda k, x: run_chain(kernel, k, x, 300, 500))(jax.random.split(key_run, 4), starts)

    draws = np.asarray(jax.jit(jax.vmap(chains))(jax.random.split(jax.random.key(1), len(data.z)), rows))
    found = _arviz.rhat_and_ess({f"{i}": x for i, x in enumerate(draws)})
    r_hat, ess = (
        np.array([[float(x) for x in (values.min(), values.max())] for values in found[name].values()])
        for name in ("r_hat", "ess_bulk")
    )
    r_hat, ess = r_hat[:, 1], ess[:, 0]
    print(
        f"{label:54s} largest R-hat {r_hat.max():.3f}, {np.sum(r_hat > 1.01)} of {len(r_hat)} margins above "
        f"1.01, {np.sum(r_hat > 1.05)} above 1.05; smallest bulk ESS {ess.min():.0f} of 2000; "
        f"{time.perf_counter() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--priors", action="store_true", help="score other hyperparameters")
    parser.add_argument("--chains", action="store_true", help="tell whether dispersed chains meet")
    parser.add_argument("--few", action="store_true", help="fit to a fifth of the queries")
    parser.add_argument("--nuts", action="store_true", help="sample the defaults by NUTS too")
    parser.add_argument("--density", action="store_true", help="score the log density, ties and all")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    data = read_all()
    print(
        f"Python {platform.python_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}; ", end=""
    )
    print(f"{len(data.z)} margins, {np.sum(data.fold >= 0)} confidences between atoms, {NUM_FOLDS} folds")
    if options.priors:
        candidates = {
            f"{name}, " + ", ".join(f"{key} {value:g}" for key, value in change.items()): (
                name,
                Priors(**change),  # type: ignore[arg-type]
            )
            for name, changes in OTHER_PRIORS.items()
            for change in changes
        }
    else:
        candidates = {
            f"{name}, {count}": (name, Priors(num_components=count))
            for name in MARGINS
            for count in NUM_COMPONENTS
        }
    if options.chains:
        for label, (name, priors) in candidates.items():
            report_chains(data, MARGINS[name], priors, label)
        return
    with_loo = not options.priors and not options.few
    how: dict[str, bool] = {"density": options.density, "few": options.few}
    scores = {
        (name, label): score(data, MARGINS[name], priors, with_loo=with_loo, **how)
        for label, (name, priors) in candidates.items()
    }
    default = score(data, MARGINS[DEFAULT_MARGIN], Priors(), with_loo=False, **how).held_out
    print_head(data, default)
    if options.nuts:
        again = score(data, MARGINS[DEFAULT_MARGIN], Priors(), with_loo=False, nuts=True, **how).held_out
        print_line("default, by NUTS", data, again, default)
    for (_, label), result in scores.items():
        print_line(label, data, result.held_out, default)
    if with_loo:
        for names in [(name,) for name in MARGINS] + [tuple(MARGINS)]:
            print_chosen_by_loo(data, {key: s for key, s in scores.items() if key[0] in names}, default)


if __name__ == "__main__":
    main()
