"""Functions compiled by JAX whose compiled programs can be kept in a folder, to be loaded by later processes.

JAX's own persistent cache keeps what the compiler makes, but every process still traces a function in Python
and lowers it before JAX knows which program it wants: half a second for each of the large ones. A function
decorated with `kept` is looked up by its name, its arguments' shapes and types and the package's source
instead, so that nothing of it is traced if it has been compiled before. Without a folder (`keep_in`), as in
Python, it is a function under `jax.jit`.

The files hold machine code that is run, so the folder must be one that only the user can write to. A file
that is damaged, or that this process cannot load, is written anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

T = TypeVar("T")

SUFFIX = ".program"
"""What the names of the files end with."""

_MADE_WITH = ("jax", "jaxlib", "numpy", "numpyro", "optax")
"""Packages that functions are traced with, or programs compiled."""


_CACHE = "jax_enable_compilation_cache"


class _Store:
    """Where programs are kept: nowhere, until `keep_in` says."""

    folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Keep programs that are compiled from now on in a folder, and load those it has; None for neither."""
    _Store.folder = folder


def is_keeping() -> bool:
    """Return whether programs are kept in a folder."""
    return _Store.folder is not None


def kept(*static: str) -> Callable[[Callable[..., T]], Kept[T]]:
    """Return a decorator as `jax.jit`, with the names of arguments that are no arrays, for programs to keep.

    Those arguments must say all that they are in their ``repr``.

    Examples
    --------
    >>> @kept("power")
    ... def raised(x, power):
    ...     return x**power
    >>> float(raised(3.0, power=2))
    9.0
    """
    return lambda function: Kept(function, static)


class Kept(Generic[T]):
    """A function under `jax.jit` whose compiled programs are kept where `keep_in` says.

    Parameters
    ----------
    function
        A pure function of pytrees of arrays, of a module: programs are known by its name.
    static
        Names of arguments that are no arrays.
    """

    def __init__(self, function: Callable[..., T], static: tuple[str, ...] = ()) -> None:
        functools.update_wrapper(self, function)
        self.function, self._static = function, static
        self.jitted: Any = jax.jit(function, static_argnames=static)
        self._signature = inspect.signature(function)
        self._loaded: dict[Any, _Program] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        if _Store.folder is None:
            return self.jitted(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        static = {name: given.pop(name) for name in self._static}
        leaves, tree = jax.tree.flatten(given)
        if any(map(_is_elsewhere, leaves)):
            return self.jitted(*args, **kwargs)
        key = tree, tuple(map(_described, leaves)), tuple(static.items()), _settings()
        if key not in self._loaded:
            self._loaded[key], results = self._find(_Store.folder, key, static, tree, leaves)
        else:
            results = self._loaded[key].compiled(*leaves)
        return jax.tree.unflatten(self._loaded[key].results, results)

    def _find(
        self, folder: Path, key: tuple[Any, ...], static: dict[str, Any], tree: Any, leaves: list[Any]
    ) -> tuple[_Program, list[Any]]:
        """Load the program for some arguments, or compile and store it; return it and its first results."""
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        said = "\n".join([name, _source(), *map(str, key)])
        file = (
            folder
            / f"{self.function.__name__.strip('_')}-{hashlib.sha256(said.encode()).hexdigest()}{SUFFIX}"
        )
        if (ready := _load(file, leaves)) is not None:
            return ready
        program = self._compile(static, tree, leaves)
        if " at 0x" not in said:  # an object that does not say what it is: another process has another
            _save(file, program)
        return program, program.compiled(*leaves)

    def _compile(self, static: dict[str, Any], tree: Any, leaves: list[Any]) -> _Program:
        out_tree: Any = None

        def flat(*leaves: Any) -> list[Any]:
            nonlocal out_tree
            found, out_tree = jax.tree.flatten(self.function(**jax.tree.unflatten(tree, leaves), **static))  # type: ignore[call-arg]
            return found

        flat.__name__ = self.function.__name__
        with _without_cache():
            compiled = jax.jit(flat).lower(*leaves).compile()
        return _Program(compiled, out_tree)


class _Program(NamedTuple):
    """A compiled program, which takes and returns arrays one by one, and the pytree of what it returns."""

    compiled: Any
    results: Any


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Have the compiler compile: what JAX loads from its own cache cannot be stored a second time."""

    def use(cache: bool) -> None:
        jax.config.update(_CACHE, cache)
        compilation_cache.reset_cache()  # which remembers whether it is used

    before = getattr(jax.config, _CACHE)
    use(False)
    try:
        yield
    finally:
        use(before)


def _is_elsewhere(leaf: Any) -> bool:
    """Whether an argument is being traced, or is spread over devices: then the program is not for a file."""
    if isinstance(leaf, jax.core.Tracer):
        return True
    return isinstance(leaf, jax.Array) and leaf.sharding.device_set != {jax.local_devices()[0]}


def _described(leaf: Any) -> str:
    kind = jax.typeof(leaf)
    return f"{kind.dtype}{kind.shape}{'weak' * kind.weak_type}"


def _settings() -> tuple[Any, ...]:
    """Return what else the compiled program hangs on: the device, and settings of JAX and of its compiler."""
    first, config = jax.local_devices()[0], jax.config
    names = "enable_x64", "default_matmul_precision", "default_prng_impl", "debug_nans"
    chosen = [getattr(config, f"jax_{name}") for name in names]
    quickly = config.read("jax_disable_most_optimizations")
    return (
        first.platform,
        first.device_kind,
        jax.local_device_count(),
        *chosen,
        quickly,
        os.environ.get("XLA_FLAGS"),
    )


@functools.cache
def _source() -> str:
    """Return a digest of this package's source and of the versions of what it is traced and compiled with."""
    found = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _MADE_WITH).encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


def _load(file: Path, leaves: list[Any]) -> tuple[_Program, list[Any]] | None:
    """Return a program and its first results; None where there is none that runs.

    Some programs load and then miss a part.
    """
    try:
        digest, body = (whole := file.read_bytes())[:32], whole[32:]
    except OSError:
        return None
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        payload, in_tree, count, example = pickle.loads(body)
        compiled = serialize_executable.deserialize_and_load(
            payload, in_tree, jax.tree.structure([0] * count), execution_devices=jax.local_devices()[:1]
        )
        results = jax.block_until_ready(compiled(*leaves))
    except Exception:  # whatever a file of another machine or an older build raises: it is compiled anew
        return None
    return _Program(compiled, jax.tree.structure(example)), results


def _save(file: Path, program: _Program) -> None:
    """Store a program, whole or not at all; one that cannot be stored is not."""
    try:
        payload, in_tree, _ = serialize_executable.serialize(program.compiled)
    except (NotImplementedError, ValueError):  # JAX does not store programs with large constants
        return
    count = program.results.num_leaves
    example = jax.tree.unflatten(program.results, range(count))  # of which the structure is found again
    body = pickle.dumps((payload, in_tree, count, example))
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(hashlib.sha256(body).digest() + body)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink()
            raise
