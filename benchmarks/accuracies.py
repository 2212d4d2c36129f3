"""Whether models are wrong as often as the posterior says, on the queries that it was fitted to.

Of each ``NAME-train.parquet`` in the folder that ``CASCADE_BAYES_DATA`` names, with ``NAME-test.parquet``
where it is: the posterior mean of each model's error, alone and on new queries, less the share of its answers
that are wrong. With as many labels as these it should be small beside the posterior's standard deviation; a
model of how labels go together that does not fit shows as a difference that all models share.

Run ``python benchmarks/accuracies.py [--files NAME ...] [--one-correlation]``.
"""

import argparse
import warnings

import jax
import numpy as np
from tables import find_tables, read_all

from cascade_bayes import Priors, fit
from cascade_bayes.decision.envelope import find_envelope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", nargs="*", help="tables by NAME (default: all)")
    parser.add_argument("--method", choices=("nuts", "svi", "laplace"), default="laplace")
    parser.add_argument(
        "--one-correlation", action="store_true", help="labels go together alike at all confidences"
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    alike = {"label_corr_slope_loc": 0.0, "label_corr_slope_scale": 1e-3} if options.one_correlation else {}
    print("percent: predicted error less share of wrong answers, by model (standard deviations)")
    every = []
    for name, path in find_tables(options.files).items():
        data = read_all(path)
        posterior = fit(data, options.method, seed=0, progress=False, priors=Priors(**alike))
        singles = tuple((model,) for model in data.models)
        # One pair beside them: an envelope is of cascades.
        envelope = find_envelope(posterior, np.array([0.01]), candidates=(*singles, data.models[:2]))
        draws = np.stack([envelope.alone[one].error for one in singles]).reshape(len(singles), -1)
        beyond = draws.mean(axis=1) - np.array(
            [1.0 - right[known].mean() for right, known in zip(data.correct.T, data.labelled.T, strict=True)]
        )
        every.append(beyond / draws.std(axis=1))
        said = ", ".join(f"{100 * b:+.1f} ({s:+.1f})" for b, s in zip(beyond, every[-1], strict=True))
        print(f"{name}, {data.num_queries} queries: {said}", flush=True)
    beyond = np.concatenate(every)
    print(
        f"mean {beyond.mean():+.2f} standard deviations, root mean square {np.sqrt(np.mean(beyond**2)):.2f}"
    )


if __name__ == "__main__":
    main()
