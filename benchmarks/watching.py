"""False alarms of `cascade_bayes.watch`, and how soon it sees six kinds of change, by simulation.

A cascade of three models and 300 fitted queries; thresholds are chosen on that table anew for every stream,
by the quantiles of its confidences, so that they are as uncertain as the table makes them. Streams of 5,000
new queries run through the cascade; a fifth of the answers has a label. All streams of all figures are bet on
as `cascade_bayes.watch` does it. A change begins after 1,000 queries. Run
``python benchmarks/watching.py [--streams 1000] [--changed 200]``.
"""

import argparse
import math
from time import perf_counter

import numpy as np

from cascade_bayes.watching.martingale import bet, bin_of, edges_of, rank, start_capital

NUM_TABLE, LENGTH, BEGIN, LABELLED = 300, 5000, 1000, 0.2
MEANS, SPREAD = np.array([0.0, 0.6, 1.2]), 1.0
DEFERRED = (0.5, 0.4)
"""Shares of queries at whose confidences the thresholds of the first two models lie."""

CHANGES = {
    "none": {},
    "a weaker model (right 15 points less often)": {"weaker": 1},
    "sharper confidences (logits 1.5 times as far out)": {"sharper": 1},
    "a changed prompt (logits of the first model 0.5 higher)": {"prompt": 1},
    "harder questions (logits and accuracy of all lower)": {"harder": 1},
    "dearer calls (20 % more)": {"dearer": 1},
    "labels that drift (accuracy falls by 30 points over 4,000 queries)": {"drift": 1},
}


def simulate(rng, count, times, weaker=0, sharper=0, prompt=0, harder=0, dearer=0, drift=0):
    """Return confidences (logits), costs, latencies and correctness, ``(count, 3)`` each; times from 0."""
    on = (times >= BEGIN)[:, None].astype(float)
    common = rng.normal(size=(count, 1))
    logit = MEANS + SPREAD * (0.7 * common + 0.7 * rng.normal(size=(count, 3)))
    chance = 1 / (1 + np.exp(-logit))
    logit = logit * (1 + 0.5 * sharper * on) - 0.7 * harder * on
    logit = logit + 0.5 * prompt * on * np.array([1.0, 0.0, 0.0])
    if harder:
        chance = np.where(on > 0, 1 / (1 + np.exp(-logit)), chance)
    fall = 0.15 * weaker * on + 0.3 * drift * np.clip((times - BEGIN) / (LENGTH - BEGIN), 0, 1)[:, None]
    right = rng.random((count, 3)) < chance - fall
    cost = np.array([1.0, 4.0, 16.0]) * rng.gamma(20, 1 / 20, size=(count, 3)) * (1 + 0.2 * dearer * on)
    latency = np.exp(rng.normal(5, 0.5, size=(count, 3)))
    return logit, cost, latency, right


def values_of(drawn, thresholds, labels):
    """Return values of all figures of all models, ``(count, num_streams)``; NaN where there is none."""
    logit, cost, latency, right = drawn
    on = np.ones(len(logit), dtype=bool)
    columns = []
    for i in range(3):
        each = [logit[:, i], cost[:, i], latency[:, i], np.where(labels, right[:, i], np.nan)]
        if i < 2:
            each.append((logit[:, i] < thresholds[i]).astype(float))
        columns += [np.where(on, column, np.nan) for column in each]
        if i < 2:
            on = on & (logit[:, i] < thresholds[i])
    return np.stack(columns, axis=1)


def run(num_streams: int, change: dict[str, int], seed: int) -> np.ndarray:
    """Return the query at which each stream raises the alarm; `LENGTH` if it never does."""
    rng = np.random.default_rng(seed)
    num = 14
    places = np.zeros((num_streams, LENGTH, num), dtype=np.int8)
    counts = np.zeros((num_streams, num, 64))
    for r in range(num_streams):
        table = simulate(rng, NUM_TABLE, np.full(NUM_TABLE, -1))
        first = np.quantile(table[0][:, 0], DEFERRED[0])
        second = np.quantile(table[0][table[0][:, 0] < first, 1], DEFERRED[1])
        old = values_of(table, (first, second), np.ones(NUM_TABLE, dtype=bool))
        new = values_of(
            simulate(rng, LENGTH, np.arange(LENGTH), **change), (first, second), rng.random(LENGTH) < LABELLED
        )
        for s in range(num):
            known = old[~np.isnan(old[:, s]), s]
            edges, ties, gaps = edges_of(known, rng.random(len(known)))
            counts[r, s, : len(gaps)] = gaps
            at = np.flatnonzero(~np.isnan(new[:, s]))
            places[r, :, s] = -1
            if len(np.unique(edges)) == len(edges):
                places[r, at, s] = np.searchsorted(edges, new[at, s])
            else:
                places[r, at, s] = [
                    bin_of(edges, ties, v, u) for v, u in zip(new[at, s], rng.random(len(at)), strict=True)
                ]
    capital = start_capital(num_streams, num)
    alarm = np.full(num_streams, LENGTH)
    rows, columns = np.meshgrid(np.arange(num_streams), np.arange(num), indexing="ij")
    for t in range(LENGTH):
        place = places[:, t, :].astype(int)
        known = place >= 0
        r, s = rows[known], columns[known]
        own = counts[r, s]
        p = rank(own, place[known], rng.random(len(r)))
        counts[r, s, place[known]] += 1
        capital[r, s] = np.minimum(bet(capital[r, s], p), 1e100)
        high = capital.sum(axis=(-1, -2)).max(axis=-1) >= num / 0.01
        alarm[high & (alarm == LENGTH)] = t
    return alarm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000, help="unchanged streams (default: %(default)s)")
    parser.add_argument("--changed", type=int, default=200, help="streams a change (default: %(default)s)")
    args = parser.parse_args()
    began = perf_counter()
    print("| change | streams | alarms | median delay, queries | 90 % quantile |\n|---|---|---|---|---|")
    for seed, (name, change) in enumerate(CHANGES.items()):
        count = args.changed if change else args.streams
        alarm = run(count, change, seed)
        raised = alarm[alarm < LENGTH]
        if not change:
            print(f"| {name} | {count} | {len(raised)} | | |", flush=True)
            continue
        early = int((raised < BEGIN).sum())
        delay = np.where(alarm < LENGTH, alarm - BEGIN, math.inf)[alarm >= BEGIN]
        middle, late = np.quantile(delay, [0.5, 0.9], method="inverted_cdf")
        print(
            f"| {name} | {count} | {len(raised)} ({early} before) | {middle:.0f} | {late:.0f} |", flush=True
        )
    print(f"\n{perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
