"""Seconds that a user waits: each command from the shell, and each question in a notebook.

Run ``python benchmarks/speed.py [NAME] [-o FILE] [--runs 3]``. The table is ``NAME-train.parquet`` of the
folder in ``CASCADE_BAYES_DATA``, or the bundled example without its test part. Commands are timed with an
empty cache of compiled programs and with the one that the first run has filled; questions in one process, the
first time, which compiles, and again. ``--demo`` times the demo too, ``--eight`` the frontier of eight
models, of which some are the table's a second time with other noise, and ``--many 50`` fits and tunes so many
tables of various sizes in one process and prints how much memory it takes after the first and after all.
Printed as a table, and with ``-o`` written as JSON, with versions and cores. Other work on the machine makes
all of it slower.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bayes import example

NUM_PRICES = 41
PRICE = 0.01


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def run_command(folder: Path, cache: Path, *args: str | Path) -> float:
    """Return the seconds of one command, which may exit with 3: a fit that is rejected takes as long."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env["CASCADE_BAYES_CACHE"] = str(cache)

    def command() -> None:
        done = subprocess.run(
            [sys.executable, "-m", "cascade_bayes.cli", *map(str, args)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 3):
            raise SystemExit(f"{args[0]} ended with {done.returncode}: {done.stderr}")

    return seconds(command)


def time_commands(table: Path, folder: Path, num_runs: int, with_demo: bool) -> list[dict[str, Any]]:
    """Return the seconds of every command, with an empty cache and with a filled one."""
    accept = "--accept-rejected-fit"
    commands: dict[str, tuple[str | Path, ...]] = {
        "fit --method laplace": ("fit", table, "--method", "laplace", "-o", "fit.nc"),
        "tune --error-price": ("tune", "fit.nc", "--error-price", str(PRICE), accept, "-o", "policy.json"),
        "tune --budget": ("tune", "fit.nc", "--budget", "1e-4", accept, "-o", "budget.json"),
        "tune --models all": (
            *("tune", "fit.nc", "--error-price", str(PRICE), "--models", "all", accept),
            *("-o", "all.json"),
        ),
        "tune --frontier 41": (
            *("tune", "fit.nc", "--frontier", str(NUM_PRICES), accept),
            *("-o", "frontier.json"),
        ),
        "worth": ("worth", "fit.nc", "all.json", accept),
    }
    if with_demo:
        commands["demo"] = ("demo", "-o", "demo")
    found = []
    for name, args in commands.items():
        cache = folder / "cache" / name.replace(" ", "-")
        first = run_command(folder, cache, *args)
        again = [run_command(folder, cache, *args) for _ in range(num_runs)]
        found.append({"what": name, "first": first, "again": statistics.median(again)})
        print(f"{name:28} {first:8.1f} {found[-1]['again']:8.1f}", flush=True)
        shutil.rmtree(cache, ignore_errors=True)
    return found


def time_questions(posterior: Path, num_runs: int) -> list[dict[str, Any]]:
    """Return the seconds of every question that a notebook asks of a fit, the first time and again."""
    from cascade_bayes import Posterior, error_cost_frontier

    fit = Posterior.load(posterior)

    def sweep(prices: Any = NUM_PRICES) -> Any:
        return error_cost_frontier(fit, models="any", error_prices=prices)

    kept: list[Any] = []
    asked: dict[str, Callable[[int], Any]] = {
        "frontier of any models": lambda _: kept.append(sweep()),
        "its policies": lambda i: [kept[i].policy(at) for at in range(NUM_PRICES)],
        "at a price between": lambda i: kept[0].at(error_price=PRICE * (1 + 0.01 * (i + 1))),
        "a single price": lambda i: sweep([PRICE * (1 + 0.01 * (i + 1))]).policy(0),
    }
    found = []
    for name, call in asked.items():
        first, *again = [seconds(lambda i=i, call=call: call(i)) for i in range(1 + num_runs)]
        found.append({"what": name, "first": first, "again": statistics.median(again)})
        print(f"{name:28} {first:8.1f} {found[-1]['again']:8.1f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{'peak of this process, GB':28} {peak:8.2f}")
    return [*found, {"what": "peak memory, GB", "first": peak, "again": peak}]


def time_eight(table: Path, num_runs: int) -> list[dict[str, Any]]:
    """Return the seconds of the frontier of all 255 cascades of eight models."""
    import numpy as np

    from cascade_bayes import error_cost_frontier, fit, read_table

    frame = pd.read_parquet(table)
    names, rng = list(dict.fromkeys(frame["model"])), np.random.default_rng(0)
    while len(names) < 8:
        again = frame[frame["model"] == names[len(names) % frame["model"].nunique()]].copy()
        again["model"] = f"copy-{len(names)}"
        again["confidence"] = again["confidence"] * rng.uniform(0.8, 1.2, len(again)) - 1e-4
        again["cost"] *= rng.uniform(1.1, 1.5)
        names.append(f"copy-{len(names)}")
        frame = pd.concat([frame, again])
    posterior = fit(read_table(frame), method="laplace", seed=0, progress=False)

    def sweep() -> None:
        error_cost_frontier(posterior, error_prices=NUM_PRICES)

    first, *again = [seconds(sweep) for _ in range(1 + num_runs)]
    print(f"{'frontier of eight models':28} {first:8.1f} {statistics.median(again):8.1f}", flush=True)
    return [{"what": "frontier of eight models", "first": first, "again": statistics.median(again)}]


def measure_many(table: Path, count: int) -> list[dict[str, Any]]:
    """Return the memory that a process takes after fitting and tuning one table, and after many, in GB."""
    from cascade_bayes import error_cost_frontier, fit, read_table

    frame = pd.read_parquet(table)
    queries = frame["query"].drop_duplicates()
    peaks = []
    for i in range(count):
        some = queries.sample(int(len(queries) * (0.4 + 0.6 * (i % 10) / 9)), random_state=i)
        data = read_table(frame[frame["query"].isin(some)])
        posterior = fit(data, method="laplace", seed=i, progress=False)
        error_cost_frontier(posterior, error_prices=5).policy(2)
        status = Path("/proc/self/status").read_text().splitlines()
        peaks.append(int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1e6)
    print(f"{f'memory after 1 and {count} tables, GB':28} {peaks[0]:8.2f} {peaks[-1]:8.2f}", flush=True)
    return [{"what": "memory after one table and many, GB", "first": peaks[0], "again": peaks[-1]}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "name", nargs="?", help="table of CASCADE_BAYES_DATA; the bundled example if left out"
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--runs", type=int, default=3, help="after the first (default: %(default)s)")
    parser.add_argument("--demo", action="store_true", help="also time the demo, which takes minutes")
    parser.add_argument("--eight", action="store_true", help="also time the frontier of eight models")
    parser.add_argument("--many", type=int, default=0, help="also fit and tune so many tables in one process")
    options = parser.parse_args()
    table = example.train_path()
    if options.name:
        folder = os.environ.get("CASCADE_BAYES_DATA")
        if not folder:
            raise SystemExit("a table by name needs CASCADE_BAYES_DATA, the folder that holds it.")
        table = Path(folder) / f"{options.name}-train.parquet"
    import jax
    import numpyro

    about = {
        "table": Path(table).name,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpyro": numpyro.__version__,
        "cores": os.cpu_count(),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'seconds':28} {'first':>8} {'again':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        commands = time_commands(Path(table).resolve(), Path(scratch), options.runs, options.demo)
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{'largest command, GB':28} {largest:8.2f}")
        commands.append({"what": "largest command, GB", "first": largest, "again": largest})
        questions = time_questions(Path(scratch) / "fit.nc", options.runs)
    if options.eight:
        questions += time_eight(table, options.runs)
    if options.many:
        questions += measure_many(table, options.many)
    if options.output:
        options.output.write_text(
            json.dumps(about | {"commands": commands, "questions": questions}, indent=1)
        )


if __name__ == "__main__":
    main()
