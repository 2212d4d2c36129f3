"""Temporary files under a lock, by which one in use is told from one that a killed process left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix: temporary files of killed processes stay
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.cascade-bayes-[0-9a-f]{16}\.tmp")


def lock_file(descriptor: int) -> bool:
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


def make_locked(folder: Path, mode: int) -> tuple[int, str]:
    """Make a temporary file under a lock, and return its descriptor and path."""
    for _ in range(100):
        path = str(folder / f".cascade-bayes-{os.urandom(8).hex()}.tmp")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        # Whoever cleans up may have taken it for a stale one between its making and its lock.
        if lock_file(descriptor) and os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)
    raise OSError(errno.EAGAIN, "temporary files vanish as soon as they are made")


def remove_stale(folder: Path) -> None:
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


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to a file; the system may take a part at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def synchronise(descriptor: int) -> None:
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


def synchronise_folder(folder: Path) -> None:
    """Have a file's new name survive a loss of power, where folders can be synchronised."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
