"""How often an error that `Frontier.guarantee` certifies is exceeded, beside MAPIE and the posterior.

A frontier is tuned on the bundled example's training table. Its 1,000 test queries are the population:
hold-out tables are drawn from it with replacement, and a policy's error is that on all of it. MAPIE's
`BinaryClassificationController` is given the same policies in the same order, by fixed-sequence tests of
their accuracy; it is left out where it is not installed. Run
``python benchmarks/guarantee.py [--holdouts 1000] [--target 0.25]``.
"""

import argparse
import warnings

import numpy as np

from cascade_bayes import InfeasibleError, error_cost_frontier, example, fit, read_table
from cascade_bayes.policy.guarantee import binomial_p_value, losses, num_passed
from cascade_bayes.policy.mean_bound import upper_mean

try:
    from mapie.risk_control import BinaryClassificationController
except ImportError:
    BinaryClassificationController = None


def mapie_passed(right: np.ndarray, target: float, delta: float) -> int:
    """Return how many policies MAPIE's controller certifies; ``right`` is ``(num_queries, num_policies)``."""
    controller = BinaryClassificationController(
        predict_function=lambda rows, policy: rows[:, int(policy)],
        risk="accuracy",
        target_level=1 - target,
        confidence_level=1 - delta,
        list_predict_params=np.arange(right.shape[1])[:, None],
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(right.astype(int), np.ones(len(right), dtype=int))
    return len(controller.valid_predict_params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--holdouts", type=int, default=1000)
    parser.add_argument("--target", type=float, default=0.25)
    parser.add_argument("--delta", type=float, default=0.05)
    args = parser.parse_args()
    models = ["mini-1b", "small-3b", "large-70b"]
    posterior = fit(read_table(example.train_path(), models=models), "laplace", seed=0, progress=False)
    frontier = error_cost_frontier(posterior, models=models, error_prices=21)
    policies = [frontier.summary(i) for i in range(len(frontier))]
    policies.sort(key=lambda policy: (policy.prediction.error, policy.prediction.expense))
    population = read_table(example.test_path(), models=models)
    greatest = float(population.cost.max(axis=0).sum())
    found = [losses(population.select(policy.models), policy, greatest) for policy in policies]
    wrong = np.stack([each.wrong for each in found], axis=1)
    cost = np.stack([each.cost for each in found], axis=1)
    error = wrong.mean(axis=0)
    print(
        f"errors of the {len(policies)} policies, the safest predicted first: {np.round(error, 3).tolist()}"
    )
    rng = np.random.default_rng(0)
    print("| queries | by | certifies | exceeded | mean cost of the chosen | cost above its bound |")
    print("|---|---|---|---|---|---|")
    for size in (100, 300, 1000):
        tally = {"exact binomial": [0, 0, 0.0, 0], "MAPIE": [0, 0, 0.0, 0]}
        for _ in range(args.holdouts):
            rows = rng.integers(0, population.num_queries, size)
            p_values = [binomial_p_value(int(k), size, args.target) for k in wrong[rows].sum(axis=0)]
            passed = {"exact binomial": num_passed(p_values, args.delta)}
            if BinaryClassificationController is not None:
                passed["MAPIE"] = mapie_passed(~wrong[rows], args.target, args.delta)
            for name, count in passed.items():
                if not count:
                    continue
                chosen = min(range(count), key=lambda i: policies[i].prediction.expense)
                each = tally[name]
                each[0] += 1
                each[1] += bool(error[chosen] > args.target)
                each[2] += cost[:, chosen].mean()
                if name != "MAPIE":
                    bound = greatest * upper_mean(cost[rows, chosen] / greatest, args.delta / len(policies))
                    each[3] += bool(cost[:, chosen].mean() > bound)
        for name, (count, exceeded, total, above) in tally.items():
            if name == "MAPIE" and BinaryClassificationController is None:
                continue
            mean = f"{1000 * total / count:.3f} per 1000" if count else ""
            last = above if name != "MAPIE" else ""
            print(f"| {size} | {name} | {count} | {exceeded} | {mean} | {last} |", flush=True)
    try:
        promised = frontier.at(target_error=args.target, probability=1 - args.delta)
        realised = promised.evaluate(population).realised
        print(
            f"The posterior promises an error of at most {args.target} with probability {1 - args.delta} of "
            f"a policy whose error is {realised.error:.3f}, at {1000 * realised.cost:.3f} per 1000 queries."
        )
    except InfeasibleError as refused:
        print(f"The posterior: {refused}")


if __name__ == "__main__":
    main()
