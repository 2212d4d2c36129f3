"""Programs kept in a folder: found again by another process without tracing, and never the wrong one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_bayes import _kept
from cascade_bayes._kept import SUFFIX, Kept, is_keeping, keep_in, kept
from cascade_bayes._temporary import lock_file


class Pair(NamedTuple):
    """A record, as programs return them."""

    total: Any
    rest: Any


TRACED: list[str] = []


def _halves(x: jax.Array, scale: float | jax.Array, power: int = 1) -> Pair:
    TRACED.append("halves")
    return Pair(jnp.sum(x) * scale**power, (x, None))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Have programs kept in a folder of the test's own."""
    TRACED.clear()
    keep_in(tmp_path)
    yield tmp_path
    keep_in(None)


def fresh() -> Kept:
    """Return the function as another process has it, with nothing loaded."""
    return kept("power")(_halves)


def files(folder: Path) -> list[Path]:
    """Return the stored programs."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def check(found: Pair, x: np.ndarray, factor: float) -> None:
    """Compare with what the function says by itself."""
    np.testing.assert_allclose(found.total, x.sum() * factor)
    np.testing.assert_array_equal(found.rest[0], x)
    assert found.rest[1] is None


X = np.arange(6.0).reshape(2, 3)


def test_without_a_folder_it_is_a_jitted_function() -> None:
    assert not is_keeping()
    check(fresh()(X, 2.0, power=3), X, 8.0)


def test_a_stored_program_is_neither_traced_nor_compiled(folder: Path) -> None:
    assert is_keeping()
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"]
    assert len(files(folder)) == 1
    check(fresh()(X + 1, 3.0), X + 1, 3.0)  # other values, the same program
    assert TRACED == ["halves"]


@pytest.mark.parametrize(
    ("args", "static"),
    [
        ((X[:1], 2.0), {}),
        ((X.astype(np.float32), 2.0), {}),
        ((X, np.float64(2.0)), {}),
        ((X, 2.0), {"power": 2}),
    ],
    ids=["shape", "type", "weak type", "static"],
)
def test_another_call_is_another_program(folder: Path, args: tuple[Any, ...], static: dict[str, int]) -> None:
    function = fresh()
    check(function(X, 2.0), X, 2.0)
    check(function(*args, **static), args[0], 2.0 ** static.get("power", 1))
    assert len(files(folder)) == 2


def test_another_source_is_another_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh()(X, 2.0)
    monkeypatch.setattr(_kept, "source_digest", lambda: "edited")
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2
    assert len(files(folder)) == 2


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]]
)
def test_a_damaged_file_is_compiled_anew(folder: Path, damage: Any) -> None:
    fresh()(X, 2.0)
    (file,) = files(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2
    check(fresh()(X, 2.0), X, 2.0)  # which is whole again
    assert TRACED == ["halves"] * 2
    assert files(folder) == [file]


def test_a_program_by_which_a_process_ended_is_compiled_anew(folder: Path) -> None:
    fresh()(X, 2.0)
    (file,) = files(folder)
    file.with_suffix(_kept.TRYING).touch()
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2
    assert list(folder.iterdir()) == [file]


def test_a_program_that_another_process_tries_is_left_to_it(folder: Path) -> None:
    """It is loaded, and run, and neither the program nor the other's mark is touched."""
    fresh()(X, 2.0)
    (file,) = files(folder)
    mark = file.with_suffix(_kept.TRYING)
    with mark.open("w") as held:
        assert lock_file(held.fileno())
        check(fresh()(X, 2.0), X, 2.0)
        assert mark.exists()
    assert TRACED == ["halves"]
    assert files(folder) == [file]


def test_programs_of_a_folder_that_cannot_be_written_to_are_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()(X, 2.0)

    own = Path.open

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    def read(path: Path, mode: str = "r", *args: Any, **how: Any) -> Any:
        return own(path, mode, *args, **how) if mode.strip("bt") == "r" else refuse()

    monkeypatch.setattr(Path, "open", read)
    for name in ("unlink", "replace", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"]


def test_settings_of_random_numbers_make_another_program(folder: Path) -> None:
    function = kept()(_drawn)
    with jax.threefry_partitionable(True):
        one = function(X)
    with jax.threefry_partitionable(False):
        other = function(X)
        np.testing.assert_array_equal(other, jax.jit(_drawn)(X))
    assert one != other


def _drawn(x: jax.Array) -> jax.Array:
    return jnp.sum(x * jax.random.normal(jax.random.key(0), (2, 3)))


def test_a_program_that_does_not_run_is_compiled_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh()(X, 2.0)

    def fails(*_: Any) -> None:
        raise RuntimeError("Function not found")

    load = _kept._load

    def without_a_part(file: Path) -> Any:
        program = load(file)
        program.compiled = fails
        return program

    with monkeypatch.context() as patch:
        patch.setattr(_kept, "_load", without_a_part)
        check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2
    check(fresh()(X, 2.0), X, 2.0)
    assert TRACED == ["halves"] * 2


def _square_root(x: jax.Array) -> jax.Array:
    TRACED.append("square root")
    values, vectors = jnp.linalg.eigh(x)
    return (vectors * jnp.sqrt(values)) @ vectors.T


def test_linear_algebra_is_there_for_a_loaded_program(folder: Path) -> None:
    """In a process that has lowered nothing of it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from pathlib import Path\n"
        "import test_kept as t\n"
        "t.keep_in(Path(sys.argv[2]))\n"
        "root = t.kept()(t._square_root)(4.0 * t.np.eye(3))\n"
        "t.np.testing.assert_allclose(root, 2.0 * t.np.eye(3), atol=1e-12)\n"
        "print(len(t.TRACED))\n"
    )
    assert run_twice(script, folder) == ["1", "0"]


def test_programs_are_compiled_ahead_for_what_stands_for_arrays(folder: Path) -> None:
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    for _ in range(2):
        function = fresh()
        lowered = function.lower(shape, 2.0)
        assert lowered.out_info.rest[0].shape == X.shape
        assert lowered.compile().total.shape == ()
        check(function(X, 2.0), X, 2.0)
        assert TRACED == ["halves"]
    assert len(files(folder)) == 1


def test_programs_divided_among_devices(folder: Path) -> None:
    """States of chains lie on several devices, and go on there."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:2]), ("part",))
    x = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("part")))
    for _ in range(2):
        found = fresh()(x, 2.0)
        check(found, X, 2.0)
        assert found.rest[0].sharding.device_set == x.sharding.device_set
    assert TRACED == ["halves"]
    check(fresh()(X, 2.0), X, 2.0)  # on one device it is another program
    assert TRACED == ["halves"] * 2


def test_what_cannot_be_told_from_another_is_not_stored(folder: Path) -> None:
    """An object without a ``repr`` of its own is another one in another process."""
    power = type("Power", (), {"__rpow__": lambda self, x: x})()
    check(fresh()(X, 2.0, power=power), X, 2.0)
    assert not files(folder)


def test_inside_another_program_it_is_a_part_of_that(folder: Path) -> None:
    function = fresh()
    found = jax.jit(lambda x: function(x, 2.0).total + 1)(X)
    assert found == X.sum() * 2 + 1
    assert not files(folder)


def test_a_folder_that_cannot_be_written_to_costs_nothing_but_time(folder: Path) -> None:
    keep_in(folder / "missing")
    check(fresh()(X, 2.0), X, 2.0)


def test_what_was_compiled_before_can_be_stored(folder: Path) -> None:
    """JAX's own cache gives programs that, stored again, miss a part; they are compiled for the store."""
    cache = jax.config.jax_compilation_cache_dir
    assert cache, "the tests run with a cache of JAX's own"
    fresh().jitted(X, 2.0)
    jax.clear_caches()
    fresh()(X, 2.0)
    check(fresh()(X, 2.0), X, 2.0)
    assert jax.config.jax_enable_compilation_cache


def test_another_process_finds_them(folder: Path) -> None:
    """One that is started twice traces a program once."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from pathlib import Path\n"
        "import test_kept as t\n"
        "t.keep_in(Path(sys.argv[2]))\n"
        "t.check(t.fresh()(t.X, 2.0), t.X, 2.0)\n"
        "print(len(t.TRACED))\n"
    )
    assert run_twice(script, folder) == ["1", "0"]


def run_twice(script: str, folder: Path) -> list[str]:
    """Run a script in two processes, one after the other; return what each printed."""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(folder)]
    return [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)
    ]
