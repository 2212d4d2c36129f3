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
import json
import mmap
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from cascade_bayes.errors import InputError, OutputError

try:
    import fcntl
except ImportError:  # not a Unix: temporary files of killed processes stay
    fcntl = None  # type: ignore[assignment]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Paths that mean the standard output of the process, whatever it is connected to."""

MAX_JSON_BYTES = 64 << 20
"""Size above which no JSON file is read: the largest of ours, of 10,000 draws of eight models, is a tenth."""

_TEMPORARY = re.compile(r"\.cascade-bayes-[0-9a-f]{16}\.tmp")


class FileKind(NamedTuple):
    """A kind of file that this library writes.

    Attributes
    ----------
    name
        What messages call it, as in "a policy file".
    recognises
        Whether an existing file is of this kind, which alone may then be replaced.
    is_text
        Whether it may be written to standard output.
    """

    name: str
    recognises: Callable[[Path], bool]
    is_text: bool = False


def json_kind(schema: str) -> FileKind:
    """Return the kind of the JSON files whose key ``schema`` has a value."""

    def recognises(path: Path) -> bool:
        if path.stat().st_size > MAX_JSON_BYTES:
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            return False
        return isinstance(record, dict) and record.get("schema") == schema

    return FileKind(schema.rsplit(".", 1)[-1], recognises, is_text=True)


def _is_posterior(path: Path) -> bool:
    """Whether a file is of HDF5 and names our schema; it is not opened as HDF5, which need not be sound."""
    with path.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(b"cascade_bayes.posterior") >= 0


def _is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE


POSTERIOR = FileKind("posterior", _is_posterior)
POLICY = json_kind("cascade_bayes.policy")
FRONTIER = json_kind("cascade_bayes.frontier")
PICTURE = FileKind("PNG", _is_png)


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
        As the user gave it.
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
        if _is_mounted(target):
            raise InputError(
                f"cannot write {self.path}: the file is a mount of its own and cannot be replaced. Mount its "
                "folder, or name another output."
            )
        return existing

    def _make_temporary(self, existing: os.stat_result | None) -> None:
        """Make the locked temporary file, with the mode and owner of the file that it will replace."""
        folder = self._target.parent
        _remove_stale(folder)
        # A new file gets the mode that any new file of the user gets.
        mode = 0o666 if existing is None else stat.S_IMODE(existing.st_mode) & 0o777
        try:
            with _LEDGER.lock:
                self._descriptor, self._temporary = _make_locked(folder, mode)
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
            _write_all(self._descriptor, data)
            _synchronise(self._descriptor)
            with _LEDGER.lock:
                os.replace(self._temporary, self._target)  # noqa: PTH105
                self._temporary = ""
                _LEDGER.written.append(self.path)
            _synchronise_folder(self._target.parent)
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


def _is_mounted(target: Path) -> bool:
    """Whether a file is a mount point by itself, as containers have them, which cannot be replaced."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in str(target))
    return any(line.split(" ")[4] == escaped for line in mounts.splitlines())


def _lock(descriptor: int) -> bool:
    """Lock a file if the file system can; return False if another process holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _make_locked(folder: Path, mode: int) -> tuple[int, str]:
    """Make a temporary file under a lock, and return its descriptor and path."""
    for _ in range(100):
        path = str(folder / f".cascade-bayes-{os.urandom(8).hex()}.tmp")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        # Whoever cleans up may have taken it for a stale one between its making and its lock.
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)
    raise OSError(errno.EAGAIN, "temporary files vanish as soon as they are made")


def _remove_stale(folder: Path) -> None:
    """Remove temporary files of processes that are no more."""
    if fcntl is None:
        return
    try:
        names = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]  # noqa: PTH208
    except OSError:  # a folder that may be written to but not listed
        return
    for name in names:
        with contextlib.suppress(OSError):  # in use, or another user's
            descriptor = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(folder / name)  # noqa: PTH108
            finally:
                os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _synchronise(descriptor: int) -> None:
    """Wait until a file is on the disk, which is when some disks say that they are full."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOSYS,
            errno.ENOTSUP,
        ):  # the file system has no such thing
            raise


def _synchronise_folder(folder: Path) -> None:
    """Have a file's new name survive a loss of power, where folders can be synchronised."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _print(data: bytes) -> None:
    sys.stdout.write(data.decode("utf-8"))
    sys.stdout.flush()
