"""Held-out log scores of the parts of the model, 5-fold, on every training table.

For each ``*-train.parquet`` of the folder that CASCADE_BAYES_DATA names, each fold is predicted from a fit to
the other four. Scores are in nats per query, of the predictive density (the mean over posterior draws):

* ``copula``: for each family, the joint log score of two models' confidences less that of independence,
  summed over all pairs of models;
* ``upstream``: log score of the labels of all models after the first, with the upstream effect less without;
* ``structure``: joint log score of confidences and labels, modular less chain, for neighbours, for pairs
  that skip models, and for the cascade of all models; and realised cost + price * error of the thresholds
  tuned to each, relative, the mean over five prices of an error.

Run ``python benchmarks/score_models.py -o scores.jsonl``; it writes one line a fold, and goes on where the
file ends if it is there. ``--parts structure --folds 1 -o other.jsonl`` is the first fold of one part alone.
``--loo`` prints leave-one-out scores of the four best families on the whole tables and ends.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tables import find_tables, read

from cascade_bayes import CascadeData, Posterior, error_cost_frontier, fit
from cascade_bayes._trees import take
from cascade_bayes.copulas import FAMILIES, Copula, Kind, get_copula, log_copula_ratio
from cascade_bayes.distributions import MarginPoint, mixed
from cascade_bayes.inference.copula_choice import choose_copulas, locate_tau, tau_grid
from cascade_bayes.model.cascade import tau_prior
from cascade_bayes.model.correctness import correctness_logit, log_bernoulli
from cascade_bayes.model.likelihood import log_likelihood
from cascade_bayes.model.observations import Observations, observations
from cascade_bayes.model.params import AtomLayout, CascadeParams, find_atoms
from cascade_bayes.model.priors import Priors

NUM_FOLDS = 5
PARTS = ("copula", "upstream", "structure")
NUM_DRAWS = 200
NUM_MARGIN_DRAWS = 10
LOO_FAMILIES = ("gumbel", "gaussian", "frank", "student_t_4")
ERROR_PRICES = np.geomspace(2e-4, 2e-2, 5)


def predictive(log_density: jax.Array) -> np.ndarray:
    """Log of the mean over draws, ``(num_queries,)``."""
    return np.asarray(jax.nn.logsumexp(log_density, axis=0) - jnp.log(log_density.shape[0]))


def joint_score(posterior: Posterior, test: CascadeData, members: tuple[int, ...]) -> float:
    """Mean log score of confidences and labels of some models."""
    chain = posterior.sub_cascade(members, NUM_DRAWS)
    names = [posterior.models[i] for i in members]
    # In a chain the other models are gaps.
    seen = test.select(names) if posterior.spec.structure == "modular" else hide(test, names)
    obs = observations(seen, chain.layout)
    return float(predictive(log_densities(chain.params, obs, chain.copulas, chain.layout.kinds)).mean())


@partial(jax.jit, static_argnums=(2, 3))
def log_densities(
    params: CascadeParams, obs: Observations, copulas: tuple[Copula, ...], kinds: tuple[Kind, ...]
) -> jax.Array:
    """Log density of each query under each draw, ``(num_draws, num_queries)``."""
    return jax.lax.map(lambda draw: log_likelihood(draw, obs, copulas, kinds), params)


def hide(data: CascadeData, names: list[str]) -> CascadeData:
    """Return the table without confidences and labels of other models."""
    kept = np.isin(data.models, names)
    return replace(
        data,
        confidence=np.where(kept, data.confidence, np.nan),
        labelled=data.labelled & kept,
        correct=data.correct & kept,
    )


@jax.jit
def label_densities(params: CascadeParams, obs: Observations) -> jax.Array:
    """Log probability of each label under each draw."""
    return jax.lax.map(lambda draw: log_bernoulli(correctness_logit(obs.z, draw), obs.correct), params)


def label_score(posterior: Posterior, params: CascadeParams, test: CascadeData) -> float:
    """Mean log score of the labels of all models after the first, per label."""
    obs = observations(test, posterior.spec.layout)
    log_p = label_densities(params, obs)
    score = jax.nn.logsumexp(log_p, axis=0) - jnp.log(log_p.shape[0])
    return float(jnp.mean(score[1:][obs.labelled[1:]]))


def one_fold(train: CascadeData, test: CascadeData, layout: AtomLayout, parts: list[str]) -> dict[str, Any]:
    atoms = {
        name: [float(x) for x in raw[~np.isnan(raw) & np.isfinite(locs)]]
        for name, raw, locs in zip(train.models, layout.raw, layout.locs, strict=True)
    }
    options: dict[str, Any] = {
        "seed": 0,
        "num_chains": 2,
        "num_samples": 400,
        "max_rounds": 1,
        "progress": False,
        "atoms": atoms,
    }
    modular = fit(train, structure="modular", **options)
    neighbours = list(itertools.pairwise(range(train.num_models)))
    skipping = [p for p in itertools.combinations(range(train.num_models), 2) if p not in neighbours]
    record: dict[str, Any] = {}
    if "copula" in parts:
        record["copula"] = copula_scores(modular, test)
    if "upstream" in parts:
        record["upstream"] = upstream_scores(modular, test)
    if "structure" in parts:
        chain = fit(train, structure="chain", **options)
        fits = {"modular": modular, "chain": chain}
        record["structure"] = {k: structure_scores(v, test, neighbours, skipping) for k, v in fits.items()}
        record["losses"] = {k: realised_losses(v, test) for k, v in fits.items()}
        record["seconds"] = {k: v.provenance["fit_seconds"] for k, v in fits.items()}
    return record


def structure_scores(
    posterior: Posterior,
    test: CascadeData,
    neighbours: list[tuple[int, int]],
    skipping: list[tuple[int, int]],
) -> dict[str, float]:
    everything = tuple(range(test.num_models))
    return {
        "neighbours": float(np.mean([joint_score(posterior, test, pair) for pair in neighbours])),
        "skipping": float(np.mean([joint_score(posterior, test, pair) for pair in skipping])),
        "all": joint_score(posterior, test, everything),
    }


def realised_losses(posterior: Posterior, test: CascadeData) -> list[float]:
    """Cost plus price times error on the test queries, in dollars a query, one a price."""
    frontier = error_cost_frontier(posterior, models="all", error_prices=ERROR_PRICES, num_draws=NUM_DRAWS)
    points = frontier.evaluate(test)
    return [
        point["realised_cost"] + price * point["realised_error"]
        for price, point in zip(ERROR_PRICES, points, strict=True)
    ]


def copula_scores(posterior: Posterior, test: CascadeData) -> dict[str, list[float]]:
    """Family -> joint log score of confidences of each pair of models, less that of independence.

    Given the margins of a draw, a pair has one parameter and its posterior is a curve: summed over a grid.
    """
    layout, kinds = posterior.spec.layout, posterior.spec.layout.kinds
    every = posterior.num_draws // NUM_MARGIN_DRAWS
    margins = jax.tree.map(lambda x: x[::every, :, None], posterior.params().margins)
    tables = [observations(data, layout) for data in (posterior.data, test)]
    train, held_out = (jax.lax.map(partial(mixed.point, obs.z), margins) for obs in tables)
    log_margins = jax.lax.map(partial(mixed.log_density, tables[1].z), margins)
    seen = [np.asarray(obs.observed) for obs in tables]
    scores: dict[str, list[float]] = {}
    for name in FAMILIES:
        family = get_copula(name)
        scores[name] = []
        for a, b in posterior.spec.pairs:
            known = seen[0][a] & seen[0][b]
            new = np.flatnonzero(seen[1][a] & seen[1][b])
            base = (log_margins[:, a] + log_margins[:, b])[:, new]
            ratio = jnp.zeros_like(base)
            if family.has_theta:
                fitted, unseen = (
                    (take(points, np.s_[:, a]), take(points, np.s_[:, b])) for points in (train, held_out)
                )
                sides, priors = (kinds[a], kinds[b]), posterior.spec.priors
                ratio = predictive_log_ratio(family, sides, fitted, unseen, known, priors)[:, new]
            scores[name].append(float(np.mean(predictive(base + ratio) - predictive(base))))
    return scores


def predictive_log_ratio(
    family: Copula,
    kinds: tuple[Kind, Kind],
    train: tuple[MarginPoint, MarginPoint],
    test: tuple[MarginPoint, MarginPoint],
    known: np.ndarray,
    priors: Priors,
) -> jax.Array:
    """Log of the mean copula ratio of each test query, for each draw of the margins; ``known`` are fitted."""
    prior = tau_prior((family,), priors)

    def log_prior(taus: np.ndarray) -> np.ndarray:
        return np.asarray(prior.log_prob(jnp.asarray(taus)[:, None]))

    def curve(taus: np.ndarray) -> np.ndarray:
        return np.asarray(log_ratios(*train, jnp.asarray(taus), family, kinds))[:, :, known].sum(axis=2)

    taus = tau_grid(*locate_tau(curve, family, log_prior))
    log_weight = jax.nn.log_softmax(curve(taus) + log_prior(taus), axis=1)
    return jax.nn.logsumexp(
        log_weight[:, :, None] + log_ratios(*test, jnp.asarray(taus), family, kinds), axis=1
    )


@partial(jax.jit, static_argnums=(3, 4))
def log_ratios(
    left: MarginPoint, right: MarginPoint, taus: jax.Array, family: Copula, kinds: tuple[Kind, Kind]
) -> jax.Array:
    """Log copula ratios, ``(num_draws, num_taus, num_queries)``."""

    def one(tau: jax.Array) -> jax.Array:
        return log_copula_ratio(family, left, right, family.tau_to_theta(tau), kinds)

    return jnp.swapaxes(jax.lax.map(one, taus), 0, 1)


def upstream_scores(posterior: Posterior, test: CascadeData) -> dict[str, float]:
    without = replace(posterior, spec=replace(posterior.spec, upstream=False, centres=None))
    return {
        "with": label_score(posterior, posterior.params(), test),
        "without": label_score(posterior, without.params(), test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON Lines file")
    parser.add_argument("--loo", action="store_true", help="leave-one-out scores of copulas alone")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to score (default: %(default)s)")
    parser.add_argument(
        "--folds", type=int, default=NUM_FOLDS, help="predict the first so many of five folds (default: all)"
    )
    options = parser.parse_args()
    parts = options.parts.split(",")
    if set(parts) - set(PARTS):
        raise SystemExit(f"--parts must be among {', '.join(PARTS)}; got {options.parts!r}")
    jax.config.update("jax_enable_x64", True)
    tables = {name: read(path) for name, path in find_tables().items()}
    if options.loo:
        leave_one_out(tables)
        return
    if options.output is None:
        raise SystemExit("-o FILE must name the JSON Lines file to write")
    done = (
        [json.loads(line) for line in options.output.read_text().splitlines()]
        if options.output.exists()
        else []
    )
    if any(part not in record for record in done for part in parts):
        raise SystemExit(f"{options.output} is of other parts than {options.parts}; write to another file")
    finished = {(record["table"], record["fold"]) for record in done}
    for k, (table, data) in itertools.product(range(options.folds), tables.items()):
        if (table, k) in finished:
            continue
        fold = np.random.default_rng(0).permutation(data.num_queries) % NUM_FOLDS
        layout = find_atoms(data)
        record = one_fold(data.take(fold != k), data.take(fold == k), layout, parts)
        if len(done) % len(tables) == 0:
            jax.clear_caches()  # hundreds of compiled programs a fit
        done.append({"table": table, "fold": k, "num_test": int((fold == k).sum()), **record})
        with options.output.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(table, k, flush=True)
    report(done)


def neighbours_sum(scores: list[float]) -> float:
    """Sum of a list over all pairs (0, 1), (0, 2), ... over those of neighbours."""
    count = (1 + math.isqrt(1 + 8 * len(scores))) // 2
    pairs = itertools.combinations(range(count), 2)
    return sum(score for (a, b), score in zip(pairs, scores, strict=True) if b == a + 1)


def leave_one_out(tables: dict[str, CascadeData]) -> None:
    """Print the sums over pairs and tables of the scores by which ``copula="auto"`` chooses, in nats."""
    totals: dict[str, np.ndarray] = {}
    for table, data in tables.items():
        layout = find_atoms(data)
        pairs = tuple(itertools.combinations(range(data.num_models), 2))
        found = choose_copulas(observations(data, layout), layout, Priors(), LOO_FAMILIES, pairs=pairs)
        for name, scores in found.scores.items():
            sums = np.array([scores.sum(), neighbours_sum(scores.tolist())])
            totals[name] = totals.get(name, np.zeros(2)) + sums
            print(f"{table:24s}{name:14s} all pairs {sums[0]:8.1f}, neighbours {sums[1]:8.1f}", flush=True)
    for name, sums in totals.items():
        print(f"{'all tables':24s}{name:14s} all pairs {sums[0]:8.1f}, neighbours {sums[1]:8.1f}")


def report(records: list[dict[str, Any]]) -> None:
    """Print means over folds, in nats per query (labels: per label)."""
    tables = sorted({record["table"] for record in records})

    def row(name: str, value: Any) -> None:
        cells = [[value(r) for r in records if r["table"] == table] for table in tables]
        means = [float(np.mean(c)) for c in cells]
        everything = np.concatenate(cells)
        error = float(np.std(everything) / np.sqrt(everything.size))
        print(f"{name:24s}" + "".join(f"{m:11.4f}" for m in means) + f"{np.mean(means):11.4f} +- {error:.4f}")

    print(f"{'':24s}" + "".join(f"{table[-10:]:>11s}" for table in tables) + f"{'mean':>11s}")
    for family in records[0].get("copula", ()):
        row(f"copula {family}", lambda r, f=family: sum(r["copula"][f]))
        row("  neighbours alone", lambda r, f=family: neighbours_sum(r["copula"][f]))
    if "upstream" in records[0]:
        row("upstream on - off", lambda r: r["upstream"]["with"] - r["upstream"]["without"])
    if "structure" in records[0]:
        for part in ("neighbours", "skipping", "all"):
            row(
                f"modular - chain, {part}",
                lambda r, p=part: r["structure"]["modular"][p] - r["structure"]["chain"][p],
            )
        row(
            "loss, modular / chain - 1",
            lambda r: float(np.mean(np.divide(r["losses"]["modular"], r["losses"]["chain"]))) - 1,
        )


if __name__ == "__main__":
    main()
