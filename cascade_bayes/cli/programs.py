"""Compiled programs, kept between commands in the user's cache folder: compiling is most of a short command.

They lie in one subfolder for each version of this package, of jax and jaxlib, and for each processor. The
large ones are this package's own to keep (`cascade_bayes._kept`), so that they are not traced either; the
others JAX keeps. What is kept is machine code that later commands run, so that only a folder which nobody
else can write to is used. ``CASCADE_BAYES_CACHE`` names another folder, or says ``off``; who has set
``JAX_COMPILATION_CACHE_DIR`` has JAX's own rules.

On some processors the CPU compiler refuses to load what it has just stored (jax issue 38445). A small program
is stored and loaded once to find out; where that fails, no program is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

VARIABLE = "CASCADE_BAYES_CACHE"
JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"

TRIED, REFUSED = "tried", "refused"
"""Names of the empty files that say whether stored programs can be loaded here."""

DAMAGED = "persistent compilation cache entry"
"""What JAX's warnings say of a stored program that cannot be read or written."""


def cache_folder() -> Path | None:
    """Return where compiled programs are kept; None if the user has switched that off."""
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() in ("off", "0", "no", "false"):
        return None
    if asked:
        return Path(asked).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_path("cascade-bayes", appauthor=False))


def programs_folder(root: Path) -> Path:
    """Return the subfolder of these versions and this processor."""
    versions = [f"{name}-{version(name)}" for name in ("cascade-bayes", "jax", "jaxlib")]
    return root / "_".join([*versions, _processor()])


def stores(root: Path) -> list[Path]:
    """Return the subfolders of all versions and processors; a folder of the user's may hold other things."""
    found = sorted(root.glob("cascade-bayes-*_jax-*_jaxlib-*_*")) if root.is_dir() else []
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _processor() -> str:
    """Return a short name of the processor: programs are compiled for its instructions."""
    said = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said += "".join(
            sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
        )
    return f"{platform.machine() or 'unknown'}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def keep_programs() -> str | None:
    """Have JAX store the programs that it compiles, and load those that it has stored.

    Returns
    -------
    str or None
        Why none are kept, if that is worth a word to the user.
    """
    root = cache_folder()
    if root is None or JAX_VARIABLE in os.environ:
        return None
    folder = programs_folder(root)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(folder):
            return (
                f"Compiled programs are not kept: others can write to {folder}. Make it private "
                f"(chmod 700), or name another folder with {VARIABLE}."
            )
        if not _can_load(folder):
            return None
    except OSError as error:
        return f"Compiled programs are not kept: {folder}: {error.strerror}. Name another with {VARIABLE}."
    from cascade_bayes._kept import keep_in

    _use(folder)
    keep_in(folder)
    return None


def _is_private(folder: Path) -> bool:
    """Whether a folder is the user's own, and nobody else can write to it or to what holds it."""
    if not hasattr(os, "getuid"):
        return True
    for place in (folder, folder.parent):
        about = place.stat()
        if about.st_uid not in (os.getuid(), 0) or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True


def _use(folder: Path | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", None if folder is None else str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0 if folder else 1.0)
    compilation_cache.reset_cache()


def _can_load(folder: Path) -> bool:
    """Whether programs that are stored can be loaded on this processor: tried once, and remembered."""
    if (folder / REFUSED).exists():
        return False
    if (folder / TRIED).exists():
        return True
    import jax
    import jax.numpy as jnp

    _use(folder)
    with _error_output() as said:
        for _ in range(2):  # the second time it is loaded
            jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
            jax.clear_caches()
    refused = b"not supported on the host machine" in said.getvalue()
    (folder / (REFUSED if refused else TRIED)).touch(mode=0o600)
    if refused:
        _use(None)
    return not refused


@contextlib.contextmanager
def _error_output() -> Iterator[io.BytesIO]:
    """Catch what is written to the process's standard error, by compiled libraries too."""
    said = io.BytesIO()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield said
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                said.write(file.read())
    finally:
        os.close(kept)


class Damage:
    """Remembers whether JAX complained of a stored program that was cut short, and removes what is stored.

    Such a program stays as it is until it is removed, and is compiled anew by every command.
    """

    def __init__(self) -> None:
        self.found = False

    def notice(self, warning: str) -> bool:
        """Return whether a warning is such a complaint about a store of ours, and remember it."""
        here = DAMAGED in warning and JAX_VARIABLE not in os.environ
        self.found = self.found or here
        return here

    def mend(self) -> str | None:
        """Throw all stored programs away if one was damaged; return in words that it was done."""
        root = cache_folder()
        if not self.found or root is None:
            return None
        self.found = False
        shutil.rmtree(programs_folder(root), ignore_errors=True)
        return (
            f"Compiled programs in {root} were damaged and have been removed; the next command stores them "
            "anew."
        )
