from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit, setrlimit

import pytest

from sparsity_lab.artifacts.atomic import clear_unfinished, locked, present, replacing, write_bytes, write_text
from sparsity_lab.errors import MachineError


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is there already."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def only(path: Path, content: str) -> bool:
    """Whether a file holds `content` and nothing lies beside it."""
    return path.read_text() == content and list(path.parent.iterdir()) == [path]


def test_a_file_is_made_with_its_folder_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_text(path, "naïve ☃")
    assert path.read_bytes() == "naïve ☃".encode()
    write_bytes(path, b"two")
    assert only(path, "two")


def test_nobody_sees_the_file_before_it_is_whole(old: Path) -> None:
    with replacing(old) as temporary:
        temporary.write_text("half")
        assert old.read_text() == "old"
        assert temporary.parent == old.parent, "a rename is atomic within one file system only"
    assert only(old, "half")


def test_a_writer_that_fails_leaves_the_old_file(old: Path) -> None:
    def write_half() -> None:
        with replacing(old) as temporary:
            temporary.write_text("half")
            raise KeyError("broken off")

    with pytest.raises(KeyError):
        write_half()
    assert only(old, "old")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "no permission"),
    ],
)
def test_a_disk_that_refuses_is_an_error_to_mend(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MachineError, match=f"{old}: .*{message}"):
        write_text(old, "new")
    assert only(old, "old")


def test_another_failure_of_the_disk_keeps_its_name(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="input/output error") as caught:
        write_text(old, "new")
    assert caught.value.__cause__ is None, "an error must not be its own cause"
    assert only(old, "old")


def test_a_write_cut_short_leaves_the_old_file(old: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        write_bytes(old, b"x" * 5000)
    assert only(old, "old")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel cuts every file off at `size` bytes."""
    before, ignored = getrlimit(RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    setrlimit(RLIMIT_FSIZE, (size, before[1] if before[1] != RLIM_INFINITY else RLIM_INFINITY))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_dead_writers_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    folder, path = tmp_path / "folder", tmp_path / "table.json"
    code = """
import os, sys, pathlib
from sparsity_lab.artifacts.atomic import clear_unfinished, replacing
with replacing(pathlib.Path(sys.argv[1])) as half:
    half.write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""
    for place in (folder / "below" / "figure", path):
        subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    other = tmp_path / ".other.json.1.tmp"
    other.touch()
    assert len(list(tmp_path.rglob(".*.tmp"))) == 3
    with replacing(folder / "figure") as half, replacing(path) as beside:
        half.write_bytes(b"new")
        clear_unfinished(folder, path, tmp_path / "missing")
        assert {*tmp_path.rglob(".*.tmp")} == {half, beside, other}
        beside.write_bytes(b"new")
    assert (folder / "figure").read_bytes() == path.read_bytes() == b"new"


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with locked(path) as first, locked(path, wait=False) as second, locked(tmp_path / "b.lock", wait=False) as other:
        assert (first, second, other) == (True, False, True)
    with locked(path, wait=False) as again:
        assert again


@pytest.mark.parametrize("hold", [locked, present])
def test_what_is_in_the_way_of_a_lock_is_told(
    tmp_path: Path, hold: Callable[[Path], AbstractContextManager[object]]
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "lock", tmp_path):
        with pytest.raises(MachineError, match="cannot be used"), hold(path):
            pass


def test_a_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", wait=False) as held:
        assert held


HOLD = (
    "import sys, time; from pathlib import Path; from sparsity_lab.artifacts.atomic import clear_unfinished, locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_lock_holds_across_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with locked(path, wait=False) as held:
            assert not held
        holder.kill()
        with locked(path) as held:
            assert held


@pytest.mark.parametrize(
    ("stands", "target"),
    [(Path.mkdir, "thing"), (Path.touch, "thing/file"), (lambda path: path.symlink_to(path), "thing/file")],
)
def test_what_stands_in_the_way_is_told(tmp_path: Path, stands: Callable[[Path], None], target: str) -> None:
    stands(tmp_path / "thing")
    with pytest.raises(MachineError, match=r"thing.*cannot be used"):
        write_bytes(tmp_path / target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_the_last_of_several_is_alone(tmp_path: Path) -> None:
    with present(tmp_path / "here") as first:
        assert first()
        with present(tmp_path / "other") as other:
            assert other()
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_SH); print(1, flush=True); input()"
    call = [sys.executable, "-c", code, str(tmp_path / "here")]
    with present(tmp_path / "here") as first:
        with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
            assert second.stdout is not None
            second.stdout.readline()
            assert not first()
            second.communicate(b"\n")
        assert first()


@pytest.mark.parametrize("path", ["s3://bucket/x/file", "file:///tmp/x/file"])
def test_what_was_a_url_is_told_as_one_and_nothing_is_written(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for asked in (Path(path), tmp_path / Path(path)):
        with pytest.raises(MachineError, match=rf"^{path}: is a URL"):
            write_text(asked, "new")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_no_one_can_make_is_told() -> None:
    with pytest.raises(MachineError, match=r"/proc/nowhere: cannot be made here"):
        write_text(Path("/proc/nowhere/file"), "new")
    with pytest.raises(MachineError, match=r"/proc/nowhere: cannot be made here"), locked(Path("/proc/nowhere/lock")):
        pass
