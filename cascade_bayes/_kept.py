"""Functions compiled by JAX whose compiled programs can be kept in a folder, to be loaded by later processes.

JAX's own persistent cache keeps what the compiler makes, but every process still traces a function in Python
and lowers it before JAX knows which program it wants: half a second for each of the large ones. A function
decorated with `kept` is looked up by its name, its arguments' shapes and types and the package's source
instead, so that nothing of it is traced if it has been compiled before. Without a folder (`keep_in`), as in
Python, it is a function under `jax.jit`.

The files hold machine code that is run, so the folder must be one that only the user can write to. A file
that is damaged, or that this process cannot load, is written anew. Where nothing can be written, programs are
compiled as ever.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from cascade_bayes._temporary import lock_file, make_locked, remove_stale

T = TypeVar("T")

SUFFIX = ".program"
"""What the names of the files end with."""

TRYING = ".trying"
"""What the name of the mark ends with that stands beside a file whose program is run for the first time."""

_MADE_WITH = ("jax", "jaxlib", "numpy", "numpyro", "optax")
"""Packages that functions are traced with, or programs compiled."""


_CACHE = "jax_enable_compilation_cache"


class _Store:
    """Where programs are kept: nowhere, until `keep_in` says."""

    folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Keep programs that are compiled from now on in a folder, and load those it has; None for neither."""
    _Store.folder = folder
    if folder is not None:
        source_digest()  # of what is about to be imported, before anybody edits it


def is_keeping() -> bool:
    """Return whether programs are kept in a folder."""
    return _Store.folder is not None


def kept(*static: str, runs_once: bool = False) -> Callable[[Callable[..., T]], Kept[T]]:
    """Return a decorator that does what `jax.jit` does, and has the compiled programs kept in a folder.

    Parameters
    ----------
    *static
        Names of the arguments that are no arrays, which must say all that they are in their ``repr``.
    runs_once
        Whether a program runs so seldom and shortly that compiling it is what takes the time; compilers for
        processors then leave their optimisations out.

    Examples
    --------
    >>> @kept("power")
    ... def raised(x, power):
    ...     return x**power
    >>> float(raised(3.0, power=2))
    9.0
    """
    return lambda function: Kept(function, static, runs_once)


class Kept(Generic[T]):
    """A function under `jax.jit` whose compiled programs are kept where `keep_in` says.

    Parameters
    ----------
    function
        A pure function of pytrees of arrays, of a module: programs are known by its name.
    static
        Names of arguments that are no arrays.
    runs_once
        Whether optimising its programs takes longer than it saves.
    """

    def __init__(
        self, function: Callable[..., T], static: tuple[str, ...] = (), runs_once: bool = False
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self._static, self._runs_once = function, static, runs_once
        self._signature = inspect.signature(function)
        self._programs: dict[Any, _Program] = {}

    @functools.cached_property
    def jitted(self) -> Any:
        """The function under `jax.jit`, whose programs are not kept."""
        return jax.jit(self.function, static_argnames=self._static, compiler_options=self._compiler_options)

    @functools.cached_property
    def _compiler_options(self) -> dict[str, Any] | None:
        unoptimised = self._runs_once and jax.default_backend() == "cpu"
        return {"xla_backend_optimization_level": 0} if unoptimised else None

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        call = self._call(args, kwargs)
        if call is None:
            return self.jitted(*args, **kwargs)
        program = self._programs.get(call.key) or self._load(call)
        if program is None:
            program = self._compile(call, self._trace(call))
        results = _first_run(program, call) if program.loaded_from else program.compiled(*call.leaves)
        if results is None:
            program = self._compile(call, self._trace(call))
            results = program.compiled(*call.leaves)
        return jax.tree.unflatten(program.results, results)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Return the program for arguments, or for what stands for their shapes, before it is compiled."""
        call = self._call(args, kwargs)
        if call is None:
            lowered = self.jitted.lower(*args, **kwargs)
            return Lowered(lowered.out_info, lambda: lowered.compile().out_info)
        program = self._programs.get(call.key) or self._load(call)
        if program is not None:
            info = program.out_info
            return Lowered(info, lambda: info)
        traced = self._trace(call)
        return Lowered(
            jax.tree.unflatten(traced.results, jax.tree.leaves(traced.lowered.out_info)),
            lambda: self._compile(call, traced).out_info,
        )

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        """Return a call as it is looked up among the programs; None if its program is not to be kept."""
        if _Store.folder is None:
            return None
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        static = {name: given.pop(name) for name in self._static}
        leaves, tree = jax.tree.flatten(given)
        if any(map(_is_not_for_a_file, leaves)):
            return None
        key = tree, tuple(map(_described, leaves)), tuple(static.items()), _settings()
        return _Call(key, static, tree, leaves)

    def _file(self, call: _Call) -> Path | None:
        """Return where its program is; None if it cannot be told from another one."""
        name = self.function.__name__
        said = "\n".join([f"{self.function.__module__}.{name}", source_digest(), *map(str, call.key)])
        if " at 0x" in said:  # an object that does not say what it is: another process has another
            return None
        digest = hashlib.sha256(said.encode()).hexdigest()
        return (_Store.folder or Path()) / f"{name.strip('_')}-{digest}{SUFFIX}"

    def _load(self, call: _Call) -> _Program | None:
        file = self._file(call)
        program = None if file is None else _load(file)
        if program is not None:
            self._programs[call.key] = program
        return program

    def _trace(self, call: _Call) -> _Traced:
        results: Any = None

        def flat(*leaves: Any) -> list[Any]:
            nonlocal results
            given = jax.tree.unflatten(call.tree, leaves)
            found, results = jax.tree.flatten(self.function(**given, **call.static))
            return found

        flat.__name__ = self.function.__name__
        lowered = jax.jit(flat, compiler_options=self._compiler_options).lower(*call.leaves)
        return _Traced(lowered, results)

    def _compile(self, call: _Call, traced: _Traced) -> _Program:
        file = self._file(call)
        with contextlib.nullcontext() if file is None else _WITHOUT_CACHE:
            compiled = traced.lowered.compile()
        program = self._programs[call.key] = _Program(compiled, traced.results)
        if file is not None:
            _save(file, program)
        return program


class Lowered(NamedTuple):
    """A program before it is compiled.

    Attributes
    ----------
    out_info
        Shapes and types of what it returns.
    compile
        Compiles it, if that has not been done; returns the same with the devices among which it is divided.
    """

    out_info: Any
    compile: Callable[[], Any]


class _Call(NamedTuple):
    """A call of a function.

    Attributes
    ----------
    key
        All that its program depends on.
    static
        Arguments that are no arrays, by name.
    tree, leaves
        The others, as a pytree of arrays.
    """

    key: tuple[Any, ...]
    static: dict[str, Any]
    tree: Any
    leaves: list[Any]


class _Traced(NamedTuple):
    """A function of arrays one by one, lowered, and the pytree of what it returns."""

    lowered: Any
    results: Any


@dataclass
class _Program:
    """A compiled program, which takes and returns arrays one by one.

    Attributes
    ----------
    compiled
        The program.
    results
        The pytree of what it returns.
    loaded_from
        Its file, until it is known to run.
    """

    compiled: Any
    results: Any
    loaded_from: Path | None = None

    @property
    def out_info(self) -> Any:
        """Shapes, types and devices of what it returns."""
        return jax.tree.unflatten(self.results, jax.tree.leaves(self.compiled.out_info))


def _first_run(program: _Program, call: _Call) -> list[Any] | None:
    """Run a program that was loaded, for the first time; return None if it fails.

    Some load and then miss a part. While it runs, a mark stands beside its file, under a lock: should the
    process end by it, the next process finds the mark without a lock and leaves the program alone.
    """
    file = program.loaded_from
    assert file is not None
    with _marked(file.with_suffix(TRYING)):
        try:
            results = jax.block_until_ready(program.compiled(*call.leaves))
        except Exception:
            return None
    program.loaded_from = None
    return list(results)


@contextlib.contextmanager
def _marked(mark: Path) -> Iterator[None]:
    """Have a file stand, locked, while something runs; without one where none can be written or locked."""
    held = None
    with contextlib.suppress(OSError):
        held = mark.open("w")
        if not lock_file(held.fileno()):  # another process tries the same program
            held.close()
            held = None
    try:
        yield
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                mark.unlink()
            held.close()


def _has_ended_a_process(mark: Path) -> bool:
    """Whether a mark stands that no process holds."""
    try:
        with mark.open("r+") as left:
            return lock_file(left.fileno())
    except OSError:
        return False


class _WithoutCache:
    """Has the compiler compile: what JAX loads from its own cache cannot be stored a second time.

    Several threads may be inside.
    """

    def __init__(self) -> None:
        self._lock, self._count, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._count:
                self._before = getattr(jax.config, _CACHE)
                self._use(False)
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                self._use(self._before)

    @staticmethod
    def _use(cache: bool) -> None:
        jax.config.update(_CACHE, cache)
        compilation_cache.reset_cache()  # which remembers whether it is used


_WITHOUT_CACHE = _WithoutCache()


def _devices(leaf: Any) -> list[Any]:
    """Return the devices among which an array, or what stands for one, is divided; the first by default."""
    sharding = getattr(leaf, "sharding", None)
    own = set() if sharding is None else sharding.device_set
    return sorted(own, key=lambda device: device.id) or jax.local_devices()[:1]


def _is_not_for_a_file(leaf: Any) -> bool:
    """Whether an argument is being traced, or lies on other devices than the first ones."""
    if isinstance(leaf, jax.core.Tracer):
        return True
    own = _devices(leaf)
    return own != jax.local_devices()[: len(own)]


def _described(leaf: Any) -> str:
    kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    said = f"{kind.dtype}{kind.shape}{'weak' * kind.weak_type}"
    devices = _devices(leaf)
    if len(devices) > 1:
        parts = leaf.sharding.devices_indices_map(kind.shape)
        said += "".join(str(parts[device]) for device in devices)
    return said


def _settings() -> tuple[Any, ...]:
    """Return what else a compiled program depends on: the device, and settings of JAX and of its compiler."""
    first, config = jax.local_devices()[0], jax.config
    of_numbers = "enable_x64", "default_matmul_precision", "debug_nans"
    of_chance = "default_prng_impl", "threefry_partitionable"
    chosen = [getattr(config, f"jax_{name}") for name in (*of_numbers, *of_chance)]
    quickly = config.read("jax_disable_most_optimizations")
    given = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    flags = sorted((name, value) for name, value in given.items() if "CACHE" not in name)
    backend = first.platform, first.client.platform_version, first.device_kind, jax.local_device_count()
    return *backend, *chosen, quickly, str(flags)


@functools.cache
def source_digest() -> str:
    """Return a digest of this package's source and of the versions of what it is traced and compiled with."""
    found = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _MADE_WITH).encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


def _load(file: Path) -> _Program | None:
    """Return a stored program; None where there is none, or none that this process can load."""
    mark = file.with_suffix(TRYING)
    try:
        if _has_ended_a_process(mark):
            file.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            return None
        digest, body = (whole := file.read_bytes())[:32], whole[32:]
    except OSError:
        return None
    if hashlib.sha256(body).digest() != digest:
        return None
    _find_linear_algebra()
    try:
        payload, in_tree, count, example, num_devices = pickle.loads(body)
        compiled = serialize_executable.deserialize_and_load(
            payload,
            in_tree,
            jax.tree.structure([0] * count),
            execution_devices=jax.local_devices()[:num_devices],
        )
    except Exception:  # whatever a file of another machine or an older build raises: it is compiled anew
        return None
    return _Program(compiled, jax.tree.structure(example), loaded_from=file)


@functools.cache
def _find_linear_algebra() -> None:
    """Have JAX look up the functions of LAPACK, which it does when it lowers a program that calls them.

    A loaded program that calls them finds nothing there otherwise, and the process ends.
    """
    jax.jit(jnp.linalg.eigh).lower(jnp.eye(2))


def _save(file: Path, program: _Program) -> None:
    """Store a program, whole or not at all; one that cannot be stored is not."""
    compiled = program.compiled
    try:
        payload, in_tree, _ = serialize_executable.serialize(compiled)
        shardings = jax.tree.leaves((compiled.input_shardings, compiled.output_shardings))
        num_devices = max(len(sharding.device_set) for sharding in shardings)
        count = program.results.num_leaves
        example = jax.tree.unflatten(program.results, range(count))  # of which the structure is found again
        body = pickle.dumps((payload, in_tree, count, example, num_devices))
    except Exception:  # of large constants, say: whatever cannot be stored has been compiled all the same
        return
    with contextlib.suppress(OSError):
        remove_stale(file.parent)
        handle, name = make_locked(file.parent, 0o600)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(hashlib.sha256(body).digest() + body)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink()
            raise
