"""Killed processes and full disks: files are whole or absent, old ones untouched, batches go on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from cascade_bayes import example
from cascade_bayes.errors import OutputError
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.policy.policy import Policy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs kill -9")

moments = pytest.mark.parametrize(
    "num_moments", [pytest.param(3, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.long)]
)
"""At how many random moments each command is killed: a start takes seconds, so that 50 are for long runs."""

at_length = pytest.mark.parametrize(
    "num_moments", [pytest.param(count, marks=pytest.mark.long) for count in (3, 50)]
)
"""The same where what is written goes by the same way as a fit's file, which is killed more often."""

CLI = [sys.executable, "-m", "cascade_bayes.cli"]

BATCH = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import cascade_bayes as cb

tables = [cb.read_table(path) for path in sys.argv[2:]]
options = {"copula": "independence", "batch_size": 1, "progress": False}
cb.fit_batch(tables, "map", seed=0, checkpoint=sys.argv[1], **options)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tables of two models, and a posterior and a policy of the first."""
    folder = tmp_path_factory.mktemp("crash")
    frame = pd.read_parquet(example.train_path())
    frame = frame[frame["model"].isin(["small-3b", "large-70b"])]
    queries = frame["query"].drop_duplicates()
    for i in range(4):
        own = queries.iloc[i * 60 : (i + 1) * 60]
        frame[frame["query"].isin(own)].to_csv(folder / f"{i}.csv", index=False)
    run(fit_command(folder / "0.csv", folder / "p.nc"))
    run(tune_command(folder / "p.nc", folder / "p.json"))
    return folder


def fit_command(table: Path, output: Path, margin: str = "logit_normal") -> list[object]:
    options = ("--method", "map", "--copula", "independence", "--margin", margin, "--no-upstream")
    return [*CLI, "fit", table, "-o", output, *options]


def tune_command(posterior: Path, output: Path, price: float = 0.01) -> list[object]:
    return [*CLI, "tune", posterior, "-o", output, "--error-price", price, "--draws", 2, "--models", "all"]


def run(command: list[object]) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def kill_at_moments(command: list[object], num_moments: int, seed: int, look: Callable[[], bool]) -> None:
    """Run a command, kill it at random moments of its run, and look at what it leaves each time.

    ``look`` returns whether the command has done its work; it must have, at least once, in the end.
    """
    rng = random.Random(seed)
    began = time.monotonic()
    run(command)
    seconds = time.monotonic() - began
    assert look()
    # Most of a run is spent on imports and computing; half of the moments are of its last fifth.
    moments = [rng.uniform(0.8 * (i % 2), 1.05) * seconds for i in range(num_moments)]
    for moment in moments:
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        look()
    run(command)
    assert look()


def temporary_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".cascade-bayes-")]


@moments
def test_fit(num_moments: int, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.nc"
    run(fit_command(folder / "0.csv", output, margin="beta"))
    old, new = output.read_bytes(), Posterior.load(folder / "p.nc").digest()
    assert Posterior.load(output).digest() != new

    def look() -> bool:
        assert len(temporary_files(tmp_path)) <= 1
        assert [path.name for path in tmp_path.iterdir() if path.suffix != ".tmp"] == ["p.nc"]
        if output.read_bytes() == old:
            return False
        assert Posterior.load(output).digest() == new
        output.write_bytes(old)
        return True

    kill_at_moments(fit_command(folder / "0.csv", output), num_moments, 1, look)
    assert temporary_files(tmp_path) == []


@at_length
def test_tune(num_moments: int, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.json"
    command = tune_command(folder / "p.nc", output)
    new = (folder / "p.json").read_bytes()

    def look() -> bool:
        assert len(temporary_files(tmp_path)) <= 1
        if not output.exists():
            return False
        assert output.read_bytes() == new
        assert Policy.load(output).models == ("small-3b", "large-70b")
        output.unlink()
        return True

    kill_at_moments(command, num_moments, 2, look)
    assert temporary_files(tmp_path) == []


@at_length
def test_fit_batch(num_moments: int, folder: Path, tmp_path: Path) -> None:
    """Each run goes on where the one before was killed; a folder that is complete makes room for the next."""
    tables = [folder / f"{i}.csv" for i in range(4)]
    command: list[object] = [sys.executable, "-c", BATCH, tmp_path / "batch", *tables]
    run(command)
    files = [f"{i:05d}.nc" for i in range(4)]
    digests = {name: Posterior.load(tmp_path / "batch" / name).digest() for name in files}
    assert len(set(digests.values())) == 4
    places = iter(range(100))
    (tmp_path / "batch").rename(tmp_path / "first")

    def look() -> bool:
        batch = tmp_path / "batch"
        if not batch.exists():
            return False
        assert len(temporary_files(batch)) <= 1
        found = sorted(path.name for path in batch.glob("*.nc"))
        assert {name: Posterior.load(batch / name).digest() for name in found} == {
            name: digests[name] for name in found
        }
        assert not found or json.loads((batch / "batch.json").read_text())["schema"] == "cascade_bayes.batch"
        if found != files:
            return False
        batch.rename(tmp_path / f"complete-{next(places)}")
        return True

    kill_at_moments(command, num_moments, 3, look)


# Full disks


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a disk in memory with room for so many bytes, and return its folder; again, to change the room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = []

    def sized(room: int) -> Path:
        options = f"{'remount,' if made else ''}size={room}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("needs the program mount")
        if done.returncode and not made:
            pytest.skip(f"needs leave to mount a disk in memory: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        made.append(room)
        return folder

    yield sized
    if made:
        subprocess.run(["umount", str(folder)], check=True)


PAGE = 4096


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True])
def test_disks_of_every_size(replaced: bool, folder: Path, mount: Callable[[int], Path]) -> None:
    """A page more at a time, until the posterior can be saved."""
    posterior, policy = Posterior.load(folder / "p.nc"), Policy.load(folder / "p.json")
    pages = -(-len(posterior.to_bytes()) // PAGE)
    disk = mount((pages + 4) * PAGE)
    old = b""
    if replaced:
        posterior.save(disk / "p.nc")
        old = (disk / "p.nc").read_bytes()
    for room in range(1, pages):
        mount((room + pages * replaced) * PAGE)
        with pytest.raises(OutputError, match=r"could not write .*p\.nc: No space left on device"):
            posterior.save(disk / "p.nc")
        assert [path.name for path in disk.iterdir()] == ["p.nc"] * replaced
        assert not replaced or (disk / "p.nc").read_bytes() == old
    mount((pages + pages * replaced) * PAGE)
    posterior.save(disk / "p.nc")
    assert Posterior.load(disk / "p.nc").digest() == posterior.digest()
    saved = []
    for place in range(pages + 1):
        with contextlib.suppress(OutputError):
            policy.save(disk / f"{place}.json")
            saved.append(f"{place}.json")
    assert len(saved) <= pages
    assert {path.name for path in disk.iterdir()} == {"p.nc", *saved}
    assert {Policy.load(disk / name).models for name in saved} <= {policy.models}


@pytest.mark.slow
def test_commands_on_a_full_disk(folder: Path, mount: Callable[[int], Path]) -> None:
    disk = mount(PAGE)
    (disk / "full").write_bytes(bytes(PAGE))
    for command in (
        fit_command(folder / "0.csv", disk / "p.nc"),
        tune_command(folder / "p.nc", disk / "p.json"),
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        (told,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert "No space left on device. Free some space there, or name a file on another disk." in told
        assert "Traceback" not in done.stderr
        assert [path.name for path in disk.iterdir()] == ["full"]
