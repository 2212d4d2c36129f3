"""Output files: opened before anything is computed, written whole or not at all.

A temporary file is made beside the target when an `Output` is opened. An output that cannot be written is so
found before the work, not after it. Bytes are written to the temporary file, and when they are safely on the
disk it takes the target's place in one step: whoever looks sees the old file or the new one, never a part.

The temporary file is locked as long as its process runs. What a killed process left behind carries no lock,
and is removed when the next output is opened in the same folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from cascade_bayes._kinds import FileKind
from cascade_bayes._temporary import make_locked, remove_stale, synchronise, synchronise_folder, write_all
from cascade_bayes.errors import InputError, OutputError

STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Paths that mean the standard output of the process, whatever it is connected to."""


class _Ledger:
    """What a process has open and has written: who ends it in the middle must know."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: set[Output] = set()
        self.written: list[Path] = []


# The only state of the module. A process that is told to stop has to find its temporary files from
# another thread, while the one that made them is inside a compiler or a sampler.
_LEDGER = _Ledger()


def abandon_outputs() -> list[Path]:
    """Remove the temporary files of all outputs, and return what has been written, for the process is to end.

    The lock is not given back: no other thread opens an output or puts one into its place afterwards.
    """
    _LEDGER.lock.acquire(timeout=1.0)  # a disk that hangs must not keep the process from ending
    for output in list(_LEDGER.open):
        output.discard()
    return list(_LEDGER.written)


def close_outputs() -> None:
    """Close all outputs that are open; what they would have replaced stays."""
    for output in list(_LEDGER.open):
        output.close()
    _LEDGER.written.clear()


class Output:
    """A file that is to be written, or standard output.

    Use it in a ``with`` block: what has not been written when the block ends leaves no trace.

    Parameters
    ----------
    path
        Where to write. A symbolic link is followed. ``/dev/stdout`` is the standard output of the process.
    kind
        What is written. An existing file of another kind is not replaced, unless it is empty.
    inputs
        Files that are read: none of them may be the output. Those that are None or do not exist are passed
        over.

    Attributes
    ----------
    path
        Name of the output, as the user gave it.
    is_standard
        Whether it is standard output.

    Raises
    ------
    InputError
        If the path is that of a folder, a device, a FIFO, a socket, an input, a file of another kind or one
        that is write-protected.
    OutputError
        If the folder or its disk takes no file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: FileKind,
        *,
        inputs: Iterable[str | os.PathLike[str] | None] = (),
    ) -> None:
        self.path, self.kind = Path(path), kind
        self.is_standard = os.fspath(path) in STANDARD_OUTPUT
        self._descriptor: int | None = None
        self._temporary = ""
        if self.is_standard:
            if not kind.is_text:
                raise InputError(
                    f"a {kind.name} file cannot be written to standard output; name a file to write."
                )
            return
        try:
            self._target = _resolve(self.path)
            existing = self._check(inputs)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {_reason(error)}.") from error
        self._make_temporary(existing)

    def _check(self, inputs: Iterable[str | os.PathLike[str] | None]) -> os.stat_result | None:
        """Refuse what must not be written, and return the status of the file that would be replaced."""
        folder, target = self._target.parent, self._target
        if not folder.is_dir():
            wrong = "is not a folder" if folder.exists() else "does not exist; make it first"
            raise InputError(f"cannot write {self.path}: the folder {folder} {wrong}.")
        try:
            existing = target.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(existing.st_mode):
            raise InputError(f"cannot write {self.path}: it is a folder; name a file in it.")
        if not stat.S_ISREG(existing.st_mode):
            what = "a FIFO" if stat.S_ISFIFO(existing.st_mode) else "a device or socket"
            remedy = "a file, or /dev/stdout" if self.kind.is_text else "a file"
            raise InputError(f"cannot write {self.path}: it is {what}, not a regular file. Name {remedy}.")
        for read in inputs:
            if read is not None and Path(read).exists() and target.samefile(read):
                raise InputError(
                    f"cannot write {self.path}: it is the file {read}, which is read. Name another output."
                )
        if existing.st_size and not self.kind.recognises(target):
            raise InputError(
                f"cannot write {self.path}: there is a file that is not a {self.kind.name} file of "
                "cascade_bayes. Remove it, or name another output."
            )
        mode = stat.S_IMODE(existing.st_mode)
        if not mode & 0o222:
            raise InputError(
                f"cannot write {self.path}: the file is write-protected (mode {mode:04o}). Run `chmod u+w` "
                "on it, or name another output."
            )
        if not os.access(target, os.W_OK):
            raise InputError(
                f"cannot write {self.path}: you have no permission to change the file. Name another output."
            )
        if _is_kept_by_owner(folder, existing):
            raise InputError(
                f"cannot write {self.path}: the file is another user's, and in {folder} only its owner may "
                "replace it. Name another output."
            )
        if _is_mounted(target):
            raise InputError(
                f"cannot write {self.path}: the file is a mount of its own and cannot be replaced. Mount its "
                "folder, or name another output."
            )
        return existing

    def _make_temporary(self, existing: os.stat_result | None) -> None:
        """Make the locked temporary file, with the mode and owner of the file that it will replace."""
        folder = self._target.parent
        remove_stale(folder)
        # A new file gets the mode that any new file of the user gets.
        mode = 0o666 if existing is None else stat.S_IMODE(existing.st_mode) & 0o777
        try:
            with _LEDGER.lock:
                self._descriptor, self._temporary = make_locked(folder, mode)
                _LEDGER.open.add(self)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: the folder {folder} takes no new file ({_reason(error)}). "
                "Name an output in another folder."
            ) from error
        if existing is not None and hasattr(os, "fchown"):
            with contextlib.suppress(OSError):  # only root may give files away
                os.fchown(self._descriptor, existing.st_uid, existing.st_gid)
            with contextlib.suppress(OSError):  # some file systems have no modes
                os.fchmod(self._descriptor, mode)  # past the umask

    def write(self, data: bytes) -> None:
        """Write all bytes and put the file into its place; the output is then closed.

        Raises
        ------
        OutputError
            If the disk is full or fails. What was at the path before is then unchanged, and nothing is left
            behind.
        """
        try:
            if self.is_standard:
                _print(data)
                return
            if self._descriptor is None:
                raise ValueError(f"the output {self.path} is closed.")
            write_all(self._descriptor, data)
            synchronise(self._descriptor)
            with _LEDGER.lock:
                os.replace(self._temporary, self._target)  # noqa: PTH105
                self._temporary = ""
                _LEDGER.written.append(self.path)
            synchronise_folder(self._target.parent)
        except OSError as error:
            if self.is_standard:
                raise
            kept = "; the file that was there is unchanged" if self._target.exists() else ""
            raise OutputError(
                f"could not write {self.path}: {_reason(error)}{kept}. Free some space there, or name a file "
                "on another disk."
            ) from error
        finally:
            self.close()

    def discard(self) -> None:
        """Remove the temporary file, if it is not in its place; the output can then no longer be written."""
        with _LEDGER.lock:
            _LEDGER.open.discard(self)
            if self._temporary:
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary)  # noqa: PTH108
                self._temporary = ""

    def close(self) -> None:
        """End the use of the output; if it was not written, it leaves no trace."""
        self.discard()
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # what could be lost was synchronised before
                os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_output(path: str | os.PathLike[str] | Output, kind: FileKind, data: bytes) -> None:
    """Write bytes to a path, or to an output that is open already."""
    with path if isinstance(path, Output) else Output(path, kind) as output:
        output.write(data)


def check_folder(folder: Path, files: Mapping[str, FileKind]) -> None:
    """Refuse a folder into which files cannot be written, before they are made; it is left as it was.

    Parameters
    ----------
    folder
        It need not exist, nor the folders above it.
    files
        Names of the files, and what they will be.

    Raises
    ------
    InputError
        As `Output` does of each file, or if the folder cannot be made.
    """
    made: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        for name, kind in files.items():
            Output(folder / name, kind).close()
    except FileExistsError as error:
        raise InputError(f"cannot write to {folder}: {error.filename} is a file; name a folder.") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write to {folder}: {_reason(error)}. Name another folder.") from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another process has put something there
                path.rmdir()


def _reason(error: OSError) -> str:
    """Return what the system says of an error, without the path that the message names anyway."""
    return error.strerror or str(error)


def _resolve(path: Path) -> Path:
    """Follow symbolic links, to a file that need not exist."""
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "the path holds a null character")
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # says what is wrong with a circle of links or a long name, which resolving does not
    return Path(os.path.realpath(path))


def _is_kept_by_owner(folder: Path, existing: os.stat_result) -> bool:
    """Whether a folder, such as /tmp, lets nobody but its owners replace a file, and we are none of them."""
    status = folder.stat()
    return (
        hasattr(os, "geteuid")
        and bool(status.st_mode & stat.S_ISVTX)
        and os.geteuid() not in (0, existing.st_uid, status.st_uid)
    )


def _is_mounted(target: Path) -> bool:
    """Whether a file is a mount point by itself, as containers have them, which cannot be replaced."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in str(target))
    return any(line.split(" ")[4] == escaped for line in mounts.splitlines())


def _print(data: bytes) -> None:
    sys.stdout.write(data.decode("utf-8"))
    sys.stdout.flush()
