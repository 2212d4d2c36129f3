"""Compiled programs are kept between commands, where nobody else can write, if they can be loaded."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade_bayes import cli
from cascade_bayes._kept import keep_in
from cascade_bayes.cli import programs
from cascade_bayes.cli.programs import JAX_VARIABLE, VARIABLE, Damage, keep_programs, programs_folder, stores

COMPUTE = """
import warnings
from cascade_bayes.cli import app
from cascade_bayes.cli.common import start_jax
warnings.showwarning = app._show_warning
start_jax()
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.cos(x) @ x.T)(jnp.ones((4, 4))).block_until_ready()
print(app._damage.mend() or "whole")
"""


def compute(folder: Path) -> str:
    """Compute something in a process of its own, as a command does; return what it printed."""
    env = {name: value for name, value in os.environ.items() if name != JAX_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTE],
        env=env | {VARIABLE: str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.strip()


def test_a_second_command_loads_what_the_first_has_stored(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    assert compute(root) == "whole"
    (store,) = stores(root)
    assert store == programs_folder(root)
    assert root.stat().st_mode & 0o777 == store.stat().st_mode & 0o777 == 0o700
    stored = {path.name: path.stat().st_mtime_ns for path in store.glob("*-cache")}
    assert stored
    assert compute(root) == "whole"
    assert {path.name: path.stat().st_mtime_ns for path in store.glob("*-cache")} == stored
    for path in store.glob("*-cache"):  # as a kill in the middle of a write leaves them
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert compute(root).startswith(f"Compiled programs in {root} were damaged and have been removed")
    assert not stores(root)


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(JAX_VARIABLE, raising=False)
    yield
    keep_in(None)  # what a test has switched on would hold for all that come after it


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Which folders JAX was told of; it is not told."""
    found: list[Path | None] = []
    monkeypatch.setattr(programs, "_use", found.append)
    return found


def test_users_switch_it_off(unset, used, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert keep_programs() is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(JAX_VARIABLE, str(tmp_path / "of-jax"))
    assert keep_programs() is None
    assert not used
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are of another kind on this system")
def test_a_folder_that_others_can_write_to_is_not_used(
    unset, used, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o777)
    monkeypatch.setenv(VARIABLE, str(root))
    said = keep_programs()
    assert said is not None
    assert said.startswith(f"Compiled programs are not kept: others can write to {root}")
    assert not used
    root.chmod(0o700)
    assert keep_programs() is None
    assert used


def test_a_folder_that_cannot_be_made_is_said(
    unset, used, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setenv(VARIABLE, str(file))
    said = keep_programs()
    assert said is not None
    assert "are not kept" in said
    assert VARIABLE in said
    assert file.read_text() == "mine"


def test_none_are_kept_where_none_can_be_loaded(
    unset, used, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def refusing():
        yield io.BytesIO(b"Target machine feature +prefer-no-gather is not supported on the host machine.")

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(programs, "_error_output", refusing)
    folder = programs_folder(tmp_path)
    assert keep_programs() is None
    assert used == [folder, None]
    assert keep_programs() is None  # remembered
    assert used == [folder, None]
    assert (folder / programs.REFUSED).exists()


def test_other_warnings_are_shown(unset, monkeypatch: pytest.MonkeyPatch) -> None:
    damage, complaint = Damage(), "Error reading persistent compilation cache entry for 'jit_f'"
    assert not damage.notice("the fit did not converge")
    monkeypatch.setenv(JAX_VARIABLE, "of-jax")  # a folder that is not ours
    assert not damage.notice(complaint)
    assert damage.mend() is None
    monkeypatch.delenv(JAX_VARIABLE)
    assert damage.notice(complaint)
    assert damage.found


def test_cache_shows_and_clears_its_own_alone(
    unset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    mine = tmp_path / "mine.txt"
    mine.write_text("keep me")
    store = programs_folder(tmp_path)
    store.mkdir()
    (store / "jit_f-1-cache").write_bytes(b"x" * 2_000_000)

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["cascade-bayes", "cache", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert run() == f"1 compiled program, 2.0 MB in {tmp_path}.\n"
    assert f"Removed 1 compiled program, 2.0 MB from {tmp_path}." in run("--clear")
    assert run() == f"0 compiled programs, 0.0 MB in {tmp_path}.\n"
    assert mine.read_text() == "keep me"
