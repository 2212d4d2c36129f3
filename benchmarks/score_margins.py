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
import platform
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from tables import find_tables, read

from cascade_bayes._trees import take
from cascade_bayes.inference import _arviz
from cascade_bayes.inference.options import FitOptions
from cascade_bayes.inference.posterior_modules import MarginData, margin_target
from cascade_bayes.inference.samplers.approximate import propose_laplace
from cascade_bayes.inference.samplers.laplace import normal_approximation
from cascade_bayes.inference.samplers.nuts import Chains
from cascade_bayes.inference.samplers.target import Lanes, Target
from cascade_bayes.model.margins import MARGINS, get_margin, simplex_from_splits
from cascade_bayes.model.names import DEFAULT_MARGIN
from cascade_bayes.model.params import find_atoms
from cascade_bayes.model.priors import Priors
from cascade_bayes.model.spec import MarginSpec
from cascade_bayes.special import log_difference

NUM_FOLDS = 5
NUM_BINS = 32
NUM_COMPONENTS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
NUM_DRAWS = 1000
NUTS_WARMUP, NUTS_DRAWS = 200, 400
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
    tables = find_tables()
    rows, which = [], []
    for t, path in enumerate(tables.values()):
        data = read(path)
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
        list(tables),
        np.asarray(which),
        np.stack([np.pad(z, (0, width - len(z))) for z, _ in rows]),
        np.stack([np.pad(fold, (0, width - len(fold)), constant_values=-1) for _, fold in rows]),
    )


class Row(NamedTuple):
    """One posterior: its confidences, which of them the fit sees, and how they are scored."""

    z: jax.Array
    used: jax.Array
    ends: jax.Array
    place: jax.Array


def scores_of_draws(x: jax.Array, row: Row, target: Target, spec: MarginSpec, density: bool) -> jax.Array:
    """Return log scores of all confidences at each draw ``(num_draws, dim)`` of one margin."""

    def log_score(x: jax.Array) -> jax.Array:
        sites = target.sites(x)
        family = get_margin(spec.margin)
        part = family.part(simplex_from_splits(sites["mixing_split"]), sites[family.site])
        if density:
            return part.log_density(row.z)
        at_ends = part.cdf(row.ends)
        upper, lower = take(at_ends, np.s_[1:]), take(at_ends, np.s_[:-1])
        return log_difference(upper, lower)[row.place]

    return jax.lax.map(log_score, x)


def lanes_of(rows: Row) -> MarginData:
    """Every row as the library's margins have it, without atoms."""
    none = jnp.zeros((len(rows.z), 0))
    return MarginData(rows.z, rows.used, none, jnp.ones(len(rows.z), dtype=bool))


def chains_of(num_chains: int, num_warmup: int) -> FitOptions:
    """Return how chains are made: so many, after so many transitions."""
    return FitOptions(seed=0, num_chains=num_chains, num_warmup=num_warmup, target_accept_prob=0.85)


def sample(
    key: jax.Array, rows: Row, spec: MarginSpec, density: bool, nuts: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return log importance ratios ``(num_rows, num_draws)``, and log scores at each draw."""
    target, data = margin_target(spec, 0), lanes_of(rows)
    approximation = normal_approximation(target, data)
    if nuts:
        chains = Chains.start(key, Lanes(target, data), approximation, chains_of(1, NUTS_WARMUP))
        chains, *_ = chains.run(NUTS_WARMUP, lambda _: None)
        x = jnp.asarray(chains.positions(NUTS_DRAWS, lambda _: None)[1])[:, 0]
        log_ratio = np.zeros(x.shape[:2])
    else:
        x, ratio = propose_laplace(target, key, approximation, data, NUM_DRAWS)
        log_ratio = np.asarray(ratio)
    run = jax.jit(jax.vmap(lambda x, row: scores_of_draws(x, row, target, spec, density)))
    return log_ratio, np.asarray(run(x, rows))


class Score(NamedTuple):
    """One column: held-out log score of each confidence, PSIS-LOO of each row and fold."""

    held_out: np.ndarray
    loo: np.ndarray


def score(
    data: Confidences,
    margin: str,
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
    ends, place = (jnp.asarray(np.repeat(x, NUM_FOLDS, axis=0)) for x in data.bins)
    rows = Row(z, jnp.asarray(used), ends, place)
    log_ratio, log_p = sample(jax.random.key(0), rows, MarginSpec(margin, priors), density, nuts)
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
        f"  {margin}, {priors.num_components}: {time.perf_counter() - began:.0f} s; "
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


def report_chains(data: Confidences, spec: MarginSpec, label: str) -> None:
    """Print how well four chains of each margin meet that start 1.5 times as wide as the posterior."""
    began = time.perf_counter()
    ends, place = data.bins
    rows = lanes_of(Row(*(jnp.asarray(x) for x in (data.z, data.fold >= 0, ends, place))))
    target = margin_target(spec, 0)
    options = chains_of(4, 300)
    approximation = normal_approximation(target, rows)
    chains = Chains.start(jax.random.key(1), Lanes(target, rows), approximation, options)
    chains, *_ = chains.run(options.warmup, lambda _: None)
    _, draws, _ = chains.positions(options.draws, lambda _: None)
    found = _arviz.rhat_and_ess({f"{i}": x for i, x in enumerate(draws)})
    r_hat = np.array([values.max() for values in found["r_hat"].values()])
    ess = np.array([values.min() for values in found["ess_bulk"].values()])
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
            report_chains(data, MarginSpec(name, priors), label)
        return
    with_loo = not options.priors and not options.few
    how: dict[str, bool] = {"density": options.density, "few": options.few}
    scores = {
        (name, label): score(data, name, priors, with_loo=with_loo, **how)
        for label, (name, priors) in candidates.items()
    }
    default = score(data, DEFAULT_MARGIN, Priors(), with_loo=False, **how).held_out
    print_head(data, default)
    if options.nuts:
        again = score(data, DEFAULT_MARGIN, Priors(), with_loo=False, nuts=True, **how).held_out
        print_line("default, by NUTS", data, again, default)
    for (_, label), result in scores.items():
        print_line(label, data, result.held_out, default)
    if with_loo:
        for names in [(name,) for name in MARGINS] + [tuple(MARGINS)]:
            print_chosen_by_loo(data, {key: s for key, s in scores.items() if key[0] in names}, default)


if __name__ == "__main__":
    main()
