"""What a `cascade_bayes.Router` takes beside the calls of its models, and what importing it takes.

Queries of the bundled example are routed by callables that return at once what the example's table has; the
same callables are timed alone and taken off. Imports are timed in fresh processes, bare Python taken off. Run
``python benchmarks/router.py [--queries 20000] [--threads 8]``.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np

from cascade_bayes import Policy, Router, example, read_table
from cascade_bayes.policy.expected import Prediction


def policy_of(models: tuple[str, ...], call_cost: np.ndarray, thresholds: np.ndarray) -> Policy:
    """Return a policy of these thresholds, with figures that nobody predicted and nothing here reads."""
    return Policy(
        models=models,
        thresholds=thresholds,
        draw_thresholds=np.zeros((0, len(thresholds))),
        error_price=0.01,
        question={"error_price": 0.01},
        prediction=Prediction(0.2, 0.2, 0.2, 1.0, 1.0, 1.0, (1.0,) * len(models), 1.0, 1.0, 1.0),
        kind="logprob",
        call_cost=call_cost,
        fit_digest="0" * 64,
    )


def import_seconds(code: str, runs: int) -> list[float]:
    """Return seconds of wall clock that fresh processes take for some code."""
    found = []
    for _ in range(runs):
        began = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        found.append(perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--runs", type=int, default=15, help="processes that import (default: %(default)s)")
    args = parser.parse_args()
    table = read_table(example.train_path())
    rows = [
        [("answer", float(c), float(d)) for c, d in zip(*both, strict=True)]
        for both in zip(table.confidence, table.cost, strict=True)
    ]
    models = {name: lambda query, i=i: rows[query % len(rows)][i] for i, name in enumerate(table.models)}
    policy = policy_of(table.models, table.call_cost, np.quantile(table.confidence[:, :-1], 0.6, axis=0))

    with tempfile.TemporaryDirectory() as folder:
        for log in (None, Path(folder) / "log.jsonl"):
            router = Router(policy, models, log=log)
            each, calls = [], 0
            for i in range(args.queries):
                began = perf_counter()
                result = router.ask(i)
                took = perf_counter() - began
                began = perf_counter()
                for call in result.calls:
                    models[call.model](i)
                each.append(1e6 * (took - (perf_counter() - began)) / len(result.calls))
                calls += len(result.calls)
            low, middle, high = np.quantile(each, [0.05, 0.5, 0.99])
            print(
                f"{'with' if log else 'without'} a log, one thread: {middle:.1f} microseconds a decision (5 "
                f"% of queries {low:.1f} or less, 1 % {high:.1f} or more), {calls} decisions"
            )
        router = Router(policy, models, log=Path(folder) / "threads.jsonl")
        began = perf_counter()
        with ThreadPoolExecutor(args.threads) as pool:
            decided = sum(len(result.calls) for result in pool.map(router.ask, range(args.queries)))
        print(
            f"{args.threads} threads: {1e6 * (perf_counter() - began) / decided:.1f} microseconds a decision"
        )

        async def ask(query: int, i: int) -> tuple[str, float, float]:
            return rows[query % len(rows)][i]

        def asked(i: int):
            async def one(query: int) -> tuple[str, float, float]:
                return await ask(query, i)

            return one

        router = Router(
            policy, {n: asked(i) for i, n in enumerate(table.models)}, log=Path(folder) / "a.jsonl"
        )

        async def all_of_them() -> int:
            total = 0
            for start in range(0, args.queries, 100):
                found = await asyncio.gather(*(router.ask_async(i) for i in range(start, start + 100)))
                total += sum(len(result.calls) for result in found)
            return total

        began = perf_counter()
        decided = asyncio.run(all_of_them())
        print(f"asyncio, 100 at once: {1e6 * (perf_counter() - began) / decided:.1f} microseconds a decision")
    bare = statistics.median(import_seconds("pass", args.runs))
    for code in ("import numpy", "from cascade_bayes import Router, Policy, ask_openai"):
        seconds = import_seconds(code, args.runs)
        print(
            f"{code}: median {statistics.median(seconds) - bare:.3f} s, least {min(seconds) - bare:.3f} s, "
            f"beside {bare:.3f} s of bare Python"
        )


if __name__ == "__main__":
    main()
