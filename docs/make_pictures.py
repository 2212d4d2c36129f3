"""Draw the picture of README.md and of the site's first page: the bundled example's error-cost frontier.

``python docs/make_pictures.py [POSTERIOR]`` fits the example with the defaults of `cascade_bayes.fit`, or
loads such a fit, sweeps prices of an error over every subset of its models, and writes
``docs/_static/frontier.png``. What the recommended policy does on the 1000 queries of the example's test
table, which the fit has not seen, is drawn beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

import cascade_bayes as cb

ERROR_PRICE = 0.003
"""US dollars per wrong answer of the recommended policy: that of README.md."""

PICTURE = Path(__file__).parent / "_static" / "frontier.png"


def main() -> None:
    """Draw the picture and write it."""
    train = cb.read_table(cb.example.train_path(), confidence="logprob")
    test = cb.read_table(cb.example.test_path(), confidence="logprob", models=train.models)
    posterior = cb.Posterior.load(sys.argv[1]) if len(sys.argv) > 1 else cb.fit(train, seed=0)
    frontier = cb.error_cost_frontier(posterior, error_prices=25)
    policy = cb.error_cost_frontier(posterior, error_prices=[ERROR_PRICE]).at(error_price=ERROR_PRICE)
    realised = policy.evaluate(test).realised

    _, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    cb.plot.frontier(frontier, ax=ax)
    cost, error = 1e3 * policy.prediction.cost, 100 * policy.prediction.error
    ax.plot(cost, error, "*", ms=17, color="#d55e00", mec="white", zorder=5, label="recommended policy")
    ax.errorbar(
        1e3 * realised.cost,
        100 * realised.error,
        yerr=1.645 * 100 * realised.error_se,
        fmt="o",
        ms=6,
        color="#d55e00",
        mfc="white",
        zorder=4,
        label=f"the same on {realised.num_queries} new queries, 90 % interval",
    )
    ax.annotate(
        f"{' > '.join(policy.models)}\nat {ERROR_PRICE:g} US dollars per wrong answer",
        (cost, error),
        xytext=(0.05, 0.08),
        textcoords="axes fraction",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "color": "0.4"},
    )
    ax.set_title("Five models, 300 labelled queries: what the best cascade errs and costs", fontsize=10)
    ax.legend(frameon=False, fontsize=7.5)
    PICTURE.parent.mkdir(exist_ok=True)
    ax.figure.savefig(PICTURE, dpi=130)


if __name__ == "__main__":
    main()
