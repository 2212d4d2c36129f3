"""Output files: whole or not at all, on every disk; nothing replaced that is of another kind."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade_bayes import _temporary
from cascade_bayes._files import write_json
from cascade_bayes._kinds import HDF5_SIGNATURE, PICTURE, POLICY, POSTERIOR
from cascade_bayes._output import Output, check_folder, close_outputs, write_output
from cascade_bayes.errors import InputError, OutputError
from cascade_bayes.inference.posterior import Posterior

OLD = json.dumps({"schema": "cascade_bayes.policy", "models": ["old"]}).encode()
NEW = json.dumps({"schema": "cascade_bayes.policy", "models": ["new", "one"]}).encode()
"""Two files of the kind ``POLICY``."""

unix = pytest.mark.skipif(os.name != "posix", reason="needs FIFOs, links and modes")


@pytest.fixture(autouse=True)
def outputs_are_closed() -> Iterator[None]:
    yield
    close_outputs()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


class TestRefusals:
    @unix
    @pytest.mark.parametrize(
        ("make", "clue"),
        [
            (Path.mkdir, "it is a folder; name a file in it"),
            (make_fifo, "it is a FIFO, not a regular file"),
            (make_socket, "it is a device or socket, not a regular file"),
            (lambda path: path.symlink_to("/dev/null"), "it is a device or socket"),
            (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
            (lambda path: path.write_text("a,b\n1,2\n"), "not a policy file of cascade_bayes. Remove it"),
            (lambda path: path.write_bytes(HDF5_SIGNATURE), "not a policy file"),
            (lambda path: path.write_text('{"schema": "cascade_bayes.frontier"}'), "not a policy file"),
            (lambda path: path.write_text("[" * 100_000), "not a policy file"),
            (lambda path: path.write_text("[]"), "not a policy file"),
            (
                lambda path: (path.write_bytes(OLD), path.chmod(0o444)),
                "write-protected (mode 0444). Run `chmod",
            ),
        ],
    )
    def test_what_is_there_is_kept(self, make: Callable[[Path], object], clue: str, tmp_path: Path) -> None:
        path = tmp_path / "p.json"
        make(path)
        before = path.lstat()
        with pytest.raises(InputError) as refused:
            Output(path, POLICY)
        assert clue in str(refused.value)
        assert str(path) in str(refused.value)
        after = path.lstat()
        assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
        assert names(tmp_path) == ["p.json"]

    @pytest.mark.parametrize(
        ("name", "clue"),
        [
            ("no/p.json", "no does not exist; make it first"),
            ("file/p.json", "Not a directory"),
            ("a" * 256, "File name too long"),
            ("a\0b", "null character"),
        ],
    )
    def test_paths_that_cannot_be(self, name: str, clue: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=clue):
            Output(tmp_path / name, POLICY)
        assert names(tmp_path) == ["file"]

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs the folder /proc")
    def test_a_folder_that_takes_no_file(self) -> None:
        with pytest.raises(OutputError, match=r"the folder /proc takes no new file .* another folder"):
            Output("/proc/x.json", POLICY)

    def test_posteriors_are_told_from_other_files_of_hdf5(
        self, small_posterior: Posterior, tmp_path: Path
    ) -> None:
        import h5py

        path = tmp_path / "p.nc"
        small_posterior.save(path)
        small_posterior.save(path)
        with h5py.File(tmp_path / "other.nc", "w") as file:
            file["x"] = [1.0, 2.0]
        (tmp_path / "cut.nc").write_bytes(path.read_bytes()[:8])
        for name in ("other.nc", "cut.nc"):
            before = (tmp_path / name).read_bytes()
            with pytest.raises(InputError, match="not a posterior file"):
                small_posterior.save(tmp_path / name)
            assert (tmp_path / name).read_bytes() == before

    @unix
    @pytest.mark.parametrize("how", ["same path", "symbolic link", "hard link"])
    def test_the_output_is_no_input(self, how: str, tmp_path: Path) -> None:
        read, path = tmp_path / "read.json", tmp_path / "p.json"
        read.write_bytes(OLD)
        if how == "symbolic link":
            path.symlink_to(read)
        elif how == "hard link":
            path.hardlink_to(read)
        else:
            path = read
        with pytest.raises(InputError, match=r"it is the file .*read\.json, which is read"):
            Output(path, POLICY, inputs=[None, tmp_path / "absent", read])
        assert read.read_bytes() == OLD

    def test_an_empty_file_is_replaced(self, tmp_path: Path) -> None:
        """As ``mktemp`` makes them: there is nothing to lose."""
        (tmp_path / "p.json").touch()
        write_output(tmp_path / "p.json", POLICY, NEW)
        assert (tmp_path / "p.json").read_bytes() == NEW

    @unix
    def test_a_file_that_only_its_owner_may_replace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "p.json"
        path.write_bytes(OLD)
        path.chmod(0o666)
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        Output(path, POLICY).close()
        tmp_path.chmod(0o1777)
        with pytest.raises(InputError, match="only its owner may replace it"):
            Output(path, POLICY)

    def test_a_file_mounted_by_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "p q.json"
        path.write_bytes(OLD)
        escaped = str(path).replace(" ", "\\040")
        line = f"36 35 98:0 /f {escaped} rw,noatime master:1 - ext3 /dev/root rw\n"
        original = Path.read_text

        def read_text(self: Path, *args: object, **kwargs: object) -> str:
            return line if str(self) == "/proc/self/mountinfo" else original(self, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", read_text)
        with pytest.raises(InputError, match="a mount of its own and cannot be replaced"):
            Output(path, POLICY)


@unix
class TestLinksAndModes:
    def test_links_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "far").mkdir()
        for name in ("old.json", "dangling.json"):
            (tmp_path / name).symlink_to(tmp_path / "far" / name)
        (tmp_path / "far" / "old.json").write_bytes(OLD)
        for name in ("old.json", "dangling.json"):
            write_output(tmp_path / name, POLICY, NEW)
            assert (tmp_path / name).is_symlink()
            assert (tmp_path / "far" / name).read_bytes() == NEW
        assert names(tmp_path / "far") == ["dangling.json", "old.json"]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777])
    def test_an_existing_mode_is_kept(self, mode: int, tmp_path: Path) -> None:
        path = tmp_path / "p.json"
        path.write_bytes(OLD)
        path.chmod(mode)
        owner = path.stat().st_uid
        with Output(path, POLICY) as output:
            (temporary,) = set(tmp_path.iterdir()) - {path}
            assert (
                stat.S_IMODE(temporary.stat().st_mode) == mode
            )  # never readable by more, not even meanwhile
            output.write(NEW)
        assert path.read_bytes() == NEW
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_uid == owner

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_a_new_file_gets_the_mode_of_new_files(self, mask: int, mode: int, tmp_path: Path) -> None:
        before = os.umask(mask)
        try:
            write_output(tmp_path / "p.json", POLICY, NEW)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "p.json").stat().st_mode) == mode

    def test_the_longest_name(self, tmp_path: Path) -> None:
        path = tmp_path / ("a" * 255)
        write_output(path, POLICY, NEW)
        assert path.read_bytes() == NEW


class TestStandardOutput:
    def test_text_goes_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_json("/dev/stdout", {"schema": "cascade_bayes.policy"})
        assert json.loads(capsys.readouterr().out) == {"schema": "cascade_bayes.policy"}

    def test_a_posterior_does_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(InputError, match="a posterior file cannot be written to standard output"):
            Output("/dev/stdout", POSTERIOR)
        assert capsys.readouterr().out == ""


# Disks


class Disk:
    """A disk with room for so many bytes, which takes few at a time."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, _: int, data: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = min(7, len(data), self.room)
        self.room -= count
        return os.pwrite(_, data[:count], os.lseek(_, 0, os.SEEK_END))


@pytest.mark.parametrize("before", [None, OLD])
def test_disks_of_every_size(before: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.json"
    for room in range(len(NEW) + 1):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
        monkeypatch.setattr(os, "write", Disk(room).write)
        if room < len(NEW):
            with pytest.raises(
                OutputError, match=r"could not write .*p\.json: No space left on device"
            ) as full:
                write_output(path, POLICY, NEW)
            assert ("the file that was there is unchanged" in str(full.value)) == (before is not None)
            assert names(tmp_path) == ([] if before is None else ["p.json"])
            assert before is None or path.read_bytes() == before
        else:
            write_output(path, POLICY, NEW)
            assert path.read_bytes() == NEW
            assert names(tmp_path) == ["p.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_disks_that_fail(call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(OLD)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError) as failed:
        write_output(path, POLICY, NEW)
    monkeypatch.undo()
    assert os.strerror(number) in str(failed.value)
    assert isinstance(failed.value, OSError)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["p.json"]


def test_a_disk_that_does_not_synchronise_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    write_output(tmp_path / "p.json", POLICY, NEW)
    assert (tmp_path / "p.json").read_bytes() == NEW


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse to let any file grow beyond a size, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@unix
def test_a_posterior_survives_full_disks(small_posterior: Posterior, tmp_path: Path) -> None:
    """It is saved to another disk after each of them."""
    path = tmp_path / "p.nc"
    needed = len(small_posterior.to_bytes())
    for size in (0, 1, 4096, needed // 2, needed - 1):
        with files_of_at_most(size), pytest.raises(OutputError, match=r"p\.nc: File too large"):
            small_posterior.save(path)
        assert names(tmp_path) == []
    with files_of_at_most(needed + 4096):
        small_posterior.save(path)
    assert Posterior.load(path).digest() == small_posterior.digest()
    old = path.read_bytes()
    with (
        files_of_at_most(needed // 2),
        pytest.raises(OutputError, match="the file that was there is unchanged"),
    ):
        small_posterior.save(path)
    assert path.read_bytes() == old
    assert names(tmp_path) == ["p.nc"]


# Temporary files


def test_what_is_not_written_leaves_no_trace(tmp_path: Path) -> None:
    with Output(tmp_path / "p.json", POLICY):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []
    one = Output(tmp_path / "p.json", POLICY)
    close_outputs()
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="closed"):
        one.write(NEW)


KILLED = """
import os, signal, sys
from cascade_bayes._kinds import POLICY
from cascade_bayes._output import Output
output = Output(sys.argv[1], POLICY)
os.kill(os.getpid(), signal.SIGKILL)
"""


@unix
def test_files_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    (stale,) = names(tmp_path)
    (tmp_path / ".cascade-bayes-notes.tmp").touch()
    with Output(path, POLICY) as one, Output(tmp_path / "q.json", POLICY) as two:
        assert stale not in names(tmp_path)
        assert len(names(tmp_path)) == 3  # of both outputs, which are in use, and what is not ours
        one.write(NEW)
        two.write(NEW)
    assert names(tmp_path) == [".cascade-bayes-notes.tmp", "p.json", "q.json"]


KILLED_AT = """
import os, signal, sys
from cascade_bayes._kinds import POLICY
from cascade_bayes._output import write_output

steps = int(sys.argv[2])

def counted(name):
    original = getattr(os, name)

    def call(*args, **kwargs):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        if name == "write":
            args = args[0], args[1][:20]
        return original(*args, **kwargs)

    setattr(os, name, call)

for name in ("open", "fchmod", "write", "fsync", "replace", "close"):
    counted(name)
write_output(sys.argv[1], POLICY, sys.argv[3].encode())
"""


@unix
@pytest.mark.parametrize("old", [None, OLD])
def test_killed_at_every_step(old: bytes | None, tmp_path: Path) -> None:
    """Before each call to the system that makes, fills, synchronises or moves the file."""
    path = tmp_path / "p.json"
    if old is not None:
        path.write_bytes(old)
    found = []
    for step in range(100):
        command = [sys.executable, "-c", KILLED_AT, str(path), str(step), NEW.decode()]
        code = subprocess.run(command, check=False).returncode
        found.append(path.read_bytes() if path.exists() else None)
        left = [name for name in names(tmp_path) if name != "p.json"]
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert len(left) <= 1  # what the one before left is gone
    assert left == []
    moved = found.index(NEW)
    assert found == [old] * moved + [NEW] * (len(found) - moved)
    assert 5 < moved < len(found) - 1


def test_a_file_that_was_taken_for_a_stale_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks at it after it is made and before it is locked."""
    original, calls = _temporary.lock_file, []

    def lock(descriptor: int) -> bool:
        if not calls:
            (made,) = tmp_path.iterdir()
            made.unlink()
        calls.append(descriptor)
        return original(descriptor)

    monkeypatch.setattr(_temporary, "lock_file", lock)
    write_output(tmp_path / "p.json", POLICY, NEW)
    assert len(calls) == 2
    assert (tmp_path / "p.json").read_bytes() == NEW


class TestFolders:
    def test_is_left_as_it_was(self, tmp_path: Path) -> None:
        check_folder(tmp_path / "a" / "b", {"x.png": PICTURE, "p.json": POLICY})
        assert names(tmp_path) == []
        check_folder(tmp_path, {"x.png": PICTURE})
        assert names(tmp_path) == []

    def test_refusals(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "x.png").write_text("no picture")
        with pytest.raises(InputError, match="file is a file; name a folder"):
            check_folder(tmp_path / "file", {})
        with pytest.raises(InputError, match=r"name a folder|Not a directory"):
            check_folder(tmp_path / "file" / "a", {})
        with pytest.raises(InputError, match="not a PNG file"):
            check_folder(tmp_path, {"x.png": PICTURE})
        assert names(tmp_path) == ["file", "x.png"]
