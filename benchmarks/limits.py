"""What even somebody loses who knows all there is to know: the part of the evidence that nobody can win.

The evidence compares with an oracle that has seen the very labels by which it is judged. Take the test
queries of a table for all queries there are: a sample from them, as large as they are (the bootstrap), is
judged as in `evidence`; thresholds are tuned on all of them, by every combination of quantiles. These are the
best but for the quantiles' steps, and yet they lose against an oracle that has seen the sample.

Run ``python benchmarks/limits.py -o limits.csv [--files NAME ...] [--samples 8]``.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from evidence import Judge, run, summarise
from peers import observed_labels
from tables import find_tables, read_pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all that have a test table)")
    parser.add_argument("--samples", type=int, default=8, help="of each table")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV to write; beside it .txt")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, path in find_tables(options.files).items():
        _, test = read_pair(path)
        if test is None:
            print(f"{name}: no test table", flush=True)
            continue
        tuner = observed_labels(test)
        for seed in range(options.samples):
            drawn = np.random.default_rng(seed).integers(test.num_queries, size=test.num_queries)
            found, status = run(lambda _, known=tuner: known, test, Judge(test.take(drawn)), True)
            shared = {"table": name, "size": "-", "seed": seed, "method": "knows all", "status": status}
            rows += [{**shared, **row} for row in found]
            print(f"{name} {seed}: {found[0].get('regret', float('nan')):.4f} {status}", flush=True)
            pd.DataFrame(rows).to_csv(options.output, index=False)
    if not rows:
        raise SystemExit("no table has test queries.")
    table = summarise(pd.DataFrame(rows)).set_index("measure")[["mean", "standard_error"]]
    text = (100 * table).round(2).to_string()
    options.output.with_suffix(".txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
