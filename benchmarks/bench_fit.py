"""Time a fit, first and again, and the frontier of it, compilation and running apart.

The table is the bundled example, or ``NAME-train.parquet`` of the folder in ``CASCADE_BAYES_DATA``. Run
``python benchmarks/bench_fit.py [NAME] [--method nuts] [--structure modular] [--peer]``. The first fit
compiles; the later ones, each with a seed of its own, find the programs in memory. With ``--peer`` the
same posterior is also sampled by NumPyro's NUTS as it comes (dense mass matrix, start at the prior's
median), with as many draws, and effective draws a second are compared in the one run; that takes many
minutes.

Compilation is what JAX reports of tracing, lowering and compiling; running is the rest of the wall time.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpyro
from tables import read

from cascade_bayes import error_cost_frontier, example, fit, read_table
from cascade_bayes.data import CascadeData
from cascade_bayes.inference._arviz import rhat_and_ess
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.model.cascade import cascade_model
from cascade_bayes.model.observations import observations

NUM_RUNS = 3
NUM_PRICES = 41
COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)

_compiled: list[tuple[float, float]] = []


def _listen(event: str, duration: float, **_: Any) -> None:
    if event in COMPILE_EVENTS:
        now = time.perf_counter()
        _compiled.append((now - duration, now))


def _covered() -> float:
    """Seconds in which something was compiled; programs compile side by side."""
    total, end = 0.0, -float("inf")
    for begin, until in sorted(_compiled):
        total += max(until - max(begin, end), 0.0)
        end = max(end, until)
    return total


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, seconds of compiling, seconds of the rest."""
    _compiled.clear()
    start = time.perf_counter()
    result = call()
    wall = time.perf_counter() - start
    compiling = min(_covered(), wall)
    return result, compiling, wall - compiling


def table(name: str | None) -> CascadeData:
    if name is None:
        return read_table(example.train_path())
    folder = os.environ.get("CASCADE_BAYES_DATA")
    if not folder:
        raise SystemExit("CASCADE_BAYES_DATA must name the folder that holds NAME-train.parquet")
    return read(Path(folder) / f"{name}-train.parquet")


def smallest_ess(samples: dict[str, Any]) -> float:
    return min(float(values.min()) for values in rhat_and_ess(samples)["ess_bulk"].values())


def plain_nuts(data: CascadeData, posterior: Posterior) -> dict[str, Any]:
    model = partial(cascade_model, spec=posterior.spec)
    chains, draws = next(iter(posterior.samples.values())).shape[:2]
    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(
            model, dense_mass=True, target_accept_prob=posterior.provenance["target_accept_prob"]
        ),
        num_warmup=posterior.provenance["num_warmup"],
        num_samples=draws,
        num_chains=chains,
        chain_method="parallel",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), observations(data, posterior.spec.layout))
    samples = mcmc.get_samples(group_by_chain=True)
    return {name: samples[name] for name in posterior.samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "name", nargs="?", help="table of CASCADE_BAYES_DATA; the bundled example if left out"
    )
    parser.add_argument("--method", default="nuts", help="of fit (default: %(default)s)")
    parser.add_argument("--structure", choices=("modular", "chain"), help="default: as fit chooses")
    parser.add_argument("--samples", type=int, help="draws of each of four chains (default: that of fit)")
    parser.add_argument("--rounds", type=int, default=3, help="max_rounds of fit (default: %(default)s)")
    parser.add_argument("--devices", type=int, help="CPU devices (default: one a processor core)")
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help="after the first (default: %(default)s)")
    parser.add_argument("--peer", action="store_true", help="also time NumPyro's NUTS as it comes")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", options.devices or cores)
    jax.monitoring.register_event_duration_secs_listener(_listen)
    data = table(options.name)
    print(
        f"Python {platform.python_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}, "
        f"{cores} cores; {data.num_models} models, {data.num_queries} queries"
    )

    how = {"num_samples": options.samples} if options.samples else {}
    how["max_rounds"] = options.rounds

    def fitted(seed: int) -> Posterior:
        return fit(data, options.method, seed=seed, structure=options.structure, progress=False, **how)

    def report(what: str, runs: list[tuple[Any, float, float]]) -> None:
        compiling, running = (statistics.median(column) for column in list(zip(*runs, strict=True))[1:])
        of = f" (medians of {len(runs)})" if len(runs) > 1 else ""
        print(f"{what:20} compile {compiling:7.2f} s   run {running:7.2f} s{of}", flush=True)

    cold = timed(lambda: fitted(0))
    posterior = cold[0]
    print(f"{options.method}, {posterior.spec.structure}, {posterior.num_draws} draws kept")
    report("fit, cold:", [cold])
    print(f"    {posterior.convergence().sentence()}")
    if options.runs:
        again = [timed(lambda seed=seed: fitted(seed)) for seed in range(1, 1 + options.runs)]
        report("fit, again:", again)
        for found, *_ in again:
            print(f"    {found.convergence().sentence()}")

    def sweep(models: Any) -> Any:
        return error_cost_frontier(posterior, models=models, error_prices=NUM_PRICES)

    for what, models in (("frontier", "all"), ("any models", "any")):
        first = timed(lambda models=models: sweep(models))
        report(f"{what}, cold:", [first])
        if options.runs:
            report(
                f"{what}, again:", [timed(lambda models=models: sweep(models)) for _ in range(options.runs)]
            )
        print(f"    {len(first[0])} prices x {first[0].error.shape[-1]} draws")

    if options.peer:
        samples, compiling, running = timed(lambda: plain_nuts(data, posterior))
        peer = smallest_ess(samples)
        report("plain NUTS, cold:", [(samples, compiling, running)])
        own = smallest_ess(dict(posterior.samples)) / sum(cold[1:])
        ratio = own / (peer / (compiling + running))
        print(f"smallest bulk ESS a second, fit against plain NUTS: {ratio:.1f} times")


if __name__ == "__main__":
    main()
