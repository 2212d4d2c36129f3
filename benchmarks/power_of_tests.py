"""How often tests of a copula's shape see that it is wrong, margins and tau known.

Pairs are drawn from one family and tested for another of the same tau, at a level of 5 %: by Neyman's
smooth statistic of the conditional probability, which `cascade_bayes.check` uses; by counts in cells of 4
by 4; and by the Cramér-von Mises distance of Rosenblatt's transform from independence, S_n^(B) of Genest,
Rémillard & Beaudoin (Insurance: Mathematics and Economics 44, 2009), against its simulated null
distribution.

Run ``python benchmarks/power_of_tests.py``.
"""

from __future__ import annotations

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from cascade_bayes.copulas import get_copula, inverse_h_v_given_u
from cascade_bayes.inference.checks.goodness import PAIR_DEGREES
from cascade_bayes.inference.checks.statistics import orthonormal, rank_polynomials, smooth_test
from cascade_bayes.special import unit_point

LEVEL, NUM_CELLS = 0.05, 4
PAIRS = (("gumbel", "gumbel"), ("gaussian", "gumbel"), ("frank", "gumbel"), ("clayton", "gumbel"))
TAUS = (0.3, 0.5)


def counts_test(u: np.ndarray, w: np.ndarray) -> float:
    """P-value of cell counts of w within groups of the ranks of u."""
    group = ((stats.rankdata(u) - 1) * NUM_CELLS // len(u)).astype(int)
    cell = np.minimum((w * NUM_CELLS).astype(int), NUM_CELLS - 1)
    observed = np.zeros((NUM_CELLS, NUM_CELLS))
    np.add.at(observed, (group, cell), 1)
    expected = observed.sum(axis=1, keepdims=True) / NUM_CELLS
    return float(stats.chi2.sf(np.sum((observed - expected) ** 2 / expected), NUM_CELLS * (NUM_CELLS - 1)))


def distance(u: np.ndarray, w: np.ndarray) -> float:
    """S_n^(B): the integrated squared distance of the points' distribution from uniform on the square."""
    a, b = (1 - np.maximum.outer(x, x) for x in (u, w))
    return float(len(u) / 9 - 0.5 * np.sum((1 - u**2) * (1 - w**2)) + np.sum(a * b) / len(u))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--replications", type=int, default=400)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    shape = (asked.replications, asked.queries)
    null = [distance(*rng.random((2, asked.queries))) for _ in range(asked.replications)]
    bound = np.quantile(null, 1 - LEVEL)
    print(f"{asked.queries} queries, {asked.replications} replications, level {LEVEL}")
    print("drawn from, tested for, tau: smooth statistic, cell counts, S_n^(B)")
    for (true, tested), tau in itertools.product(PAIRS, TAUS):
        drawn, asked_for = get_copula(true), get_copula(tested)
        u, q = (jnp.asarray(x) for x in rng.random((2, *shape)))
        v = jax.jit(inverse_h_v_given_u, static_argnums=0)(
            drawn, unit_point(u), unit_point(q), drawn.tau_to_theta(jnp.asarray(tau))
        )
        w = np.asarray(
            asked_for.h_v_given_u(unit_point(u), v, asked_for.tau_to_theta(jnp.asarray(tau))).value
        )
        seen = [
            (
                smooth_test(b[None], orthonormal(rank_polynomials(a, PAIR_DEGREES[0])), PAIR_DEGREES[1])[0]
                < LEVEL,
                counts_test(a, b) < LEVEL,
                distance(a, b) > bound,
            )
            for a, b in zip(np.asarray(u), w, strict=True)
        ]
        print(f"{true}, {tested}, {tau}: " + ", ".join(f"{share:.2f}" for share in np.mean(seen, axis=0)))


if __name__ == "__main__":
    main()
