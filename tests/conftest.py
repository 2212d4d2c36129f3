"""Settings every test shares: 64-bit arithmetic, one small fitted posterior."""

import atexit
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Shared by the workers and by subprocesses of one run, thrown away with it: compiling dominates.
    _cache = tempfile.mkdtemp(prefix="cascade-bayes-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)  # so that chains are spread over devices

import pandas as pd
import pytest
from programs import drop_programs

from cascade_bayes import example
from cascade_bayes._kept import source_digest
from cascade_bayes.data import CascadeData
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.reading import read_table

QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_configure(config: pytest.Config) -> None:
    """Have the quick tests compiled without most optimisations: compiling is most of what they do.

    ``JAX_DISABLE_MOST_OPTIMIZATIONS=0`` has them compiled as users' programs are.
    """
    if "not slow" in config.option.markexpr and QUICKLY not in os.environ:
        os.environ[QUICKLY] = "1"  # of subprocesses
        jax.config.update("jax_disable_most_optimizations", True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many inputs the fuzzers tried, and what became of them."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for report in reports:
        for name, value in getattr(report, "user_properties", []):
            if name == "fuzz" and getattr(report, "when", "") == "call":
                terminalreporter.write_line(f"fuzz: {value}")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_dropped() -> Iterator[None]:
    """Between modules, so that a worker which compiles for an hour does not run out of memory maps."""
    yield
    drop_programs(many=20_000)


@pytest.fixture(scope="session")
def small_frame() -> pd.DataFrame:
    """120 queries and three models of the bundled example, the last with atoms."""
    frame = pd.read_parquet(example.train_path())
    queries = frame["query"].drop_duplicates().iloc[:120]
    return frame[frame["query"].isin(queries) & frame["model"].isin(SMALL_MODELS)].reset_index(drop=True)


SMALL_MODELS = ("small-3b", "medium-8b", "large-70b")


@pytest.fixture(scope="session")
def small_data(small_frame: pd.DataFrame) -> CascadeData:
    """The small table, read."""
    return read_table(small_frame, confidence="logprob")


@pytest.fixture(scope="session")
def small_posterior(small_data: CascadeData) -> Posterior:
    """A short fit of the small table: enough draws to compute with, too few to conclude from."""

    def make() -> Posterior:
        return fit(
            small_data, seed=0, num_chains=2, num_warmup=150, num_samples=100, max_rounds=1, progress=False
        )

    return made_once("small", make)


def made_once(name: str, make: Callable[[], Posterior]) -> Posterior:
    """Return a fit that the first worker to want it makes, and the others load, as later runs do.

    It lies beside the compiled programs, by the version of Python and the source of this package.
    """
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{platform.python_version()}-{source_digest()[:16]}.nc"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            make().save(file)
    return Posterior.load(file)
