"""Temporary folders go with the process that made them, however it ends."""

import contextlib
import fcntl
import gc
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.executors._programs import _temporary

PATIENCE = 20.0
SOURCES = pathlib.Path(_temporary.__file__).parents[2]

#: Runs programs in memory, says where their logs are, and waits.
OWNER = f"""
import sys
sys.path.insert(0, {str(SOURCES)!r})
from taskorch import Task, TaskOrchestrator

for _ in range(3):
    with TaskOrchestrator() as orch:
        print(orch.submit_task(Task.program(["echo", "x"])).result(20).log_path)
print("ready", flush=True)
input()
"""


@contextlib.contextmanager
def owner(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process with logs in *folder*, and their paths."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = list(iter(lambda: process.stdout.readline().strip(), "ready"))
        try:
            yield process, lines
        finally:
            process.kill()


def inside(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_leaves_is_removed_by_the_next(
    tmp_path: pathlib.Path, number: int
) -> None:
    """All that it had is gone when another begins; that of the living stays."""
    with owner(tmp_path) as (living, logs):
        with owner(tmp_path) as (killed, _):
            assert len(inside(tmp_path)) == 2
            killed.send_signal(number)
            killed.wait(PATIENCE)
        assert len(inside(tmp_path)) == 2
        with owner(tmp_path) as (next_one, others):
            assert len(inside(tmp_path)) == 2
            assert all(pathlib.Path(log).read_text() for log in [*logs, *others])
            next_one.communicate("exit")
        # One that exits takes its own with it.
        assert len(inside(tmp_path)) == 1
        living.communicate("exit")
    assert inside(tmp_path) == set()


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> _temporary._Home:
    """As in a process that has none yet, with folders in tmp_path."""
    monkeypatch.setattr(_temporary.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_temporary.atexit, "register", lambda *_: None)
    return _temporary._Home()


def test_one_lock_for_all_folders_of_a_process(
    home: _temporary._Home, tmp_path: pathlib.Path
) -> None:
    """However many orchestrators there were, one descriptor is taken."""
    folders = {home.make_folder() for _ in range(5)}
    assert len(folders) == 5
    assert len({folder.parent for folder in folders}) == len(inside(tmp_path)) == 1
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)


def test_only_what_is_surely_left_behind_is_removed(
    home: _temporary._Home, tmp_path: pathlib.Path
) -> None:
    """Not what is locked, has no lock, is a link, or a file."""
    left = tmp_path / "taskorch-left"
    (left / "logs").mkdir(parents=True)
    (left / "lock").touch()
    (tmp_path / "taskorch-of-a-user").mkdir()
    (tmp_path / "taskorch-beginning").mkdir()
    (tmp_path / "taskorch-beginning" / "lock.new").touch()
    (tmp_path / "taskorch-file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").touch()
    (tmp_path / "taskorch-link").symlink_to(tmp_path / "elsewhere")
    locked = tmp_path / "taskorch-locked"
    locked.mkdir()
    before = inside(tmp_path)
    with (locked / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = home.make_folder().parent.name
        assert inside(tmp_path) == before - {"taskorch-left"} | {made}
    assert inside(tmp_path / "elsewhere") == {"lock"}


def test_a_folder_that_others_have_removed_is_made_anew(
    home: _temporary._Home, tmp_path: pathlib.Path
) -> None:
    """Some systems remove what was not used for long."""
    first = home.make_folder()
    first.rmdir()
    (first.parent / "lock").unlink()
    first.parent.rmdir()
    assert home.make_folder().is_dir()


def test_without_locks_it_works_and_is_left_alone(
    home: _temporary._Home, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk across a network may have none: then nothing is taken for left."""

    def refused(*_: object) -> None:
        msg = "No locks available"
        raise OSError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(_temporary.fcntl, "flock", refused)
        first = home.make_folder()
    second = _temporary._Home().make_folder()
    assert first.is_dir()
    assert second.is_dir()


def test_a_folder_for_temporary_ones_that_cannot_be_listed(
    home: _temporary._Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed then."""

    def refused(_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(_temporary.Path, "iterdir", refused)
        made = home.make_folder()
    assert made.is_dir()


def test_a_forked_child_has_its_own_and_leaves_ours(tmp_path: pathlib.Path) -> None:
    """It exits, and our logs stay."""
    with TaskOrchestrator() as orch:
        program = Task.program(["echo", "x"])
        ours = orch.submit_task(program).result(PATIENCE).log_path
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import os, sys
sys.path.insert(0, {str(SOURCES)!r})
from taskorch.executors._programs._temporary import make_temporary
ours = make_temporary()
if (child := os.fork()) == 0:
    assert make_temporary().parent != ours.parent
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert ours.is_dir()
""",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert inside(tmp_path) == set()
    assert ours.read_text() == "x\n"


def test_a_folder_whose_lock_is_a_link_is_none_of_ours(tmp_path: pathlib.Path) -> None:
    """Somebody has made it look like one that was left."""
    home = tmp_path / f"{_temporary._PREFIX}made-up"
    home.mkdir()
    (tmp_path / "elsewhere").touch()
    (home / _temporary._LOCK).symlink_to(tmp_path / "elsewhere")
    _temporary._sweep(tmp_path)
    assert inside(home) == {_temporary._LOCK}
    (home / _temporary._LOCK).unlink()
    (home / _temporary._LOCK).touch()
    _temporary._sweep(tmp_path)
    assert not home.exists()


def descriptors() -> int:
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    return len(list(pathlib.Path("/dev/fd").iterdir()))


def test_the_folder_of_a_process_is_locked_as_long_as_that_lives(
    home: _temporary._Home,
) -> None:
    """By one descriptor, and for nobody else to read."""
    before, mask = descriptors(), os.umask(0)
    try:
        lock = home.make_folder().parent / "lock"
    finally:
        os.umask(mask)
    assert descriptors() == before + 1
    assert lock.stat().st_mode & 0o777 == 0o600
    assert inside(lock.parent) > {"lock"}
    assert "lock.new" not in inside(lock.parent)
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _temporary._sweep(lock.parent.parent)
    assert lock.exists()


def test_a_lock_that_cannot_be_had_leaves_no_descriptor(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        msg = "No locks available"
        raise OSError(msg)

    before = descriptors()
    monkeypatch.setattr(_temporary.fcntl, "flock", refused)
    with pytest.raises(OSError, match="No locks"):
        _temporary._lock(tmp_path)
    assert descriptors() == before
    assert "lock" not in inside(tmp_path)


def test_what_others_have_left_is_theirs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "taskorch-left"
    left.mkdir()
    (left / "lock").touch()
    before = descriptors()
    own = os.geteuid()
    with monkeypatch.context() as patched:
        patched.setattr(_temporary.os, "geteuid", lambda: own + 1)
        _temporary._sweep(tmp_path)
    assert left.exists()
    _temporary._sweep(tmp_path)
    assert not left.exists()
    assert descriptors() == before


def test_what_cannot_be_removed_does_not_keep_the_rest(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "taskorch-left"
    left.mkdir()
    for name in ("lock", "a", "b"):
        (left / name).touch()
    kept: list[object] = []
    unlink = os.unlink

    def refuse_first(path: str, **options: int) -> None:
        if not kept:
            kept.append(path)
            raise PermissionError
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse_first)
        _temporary._sweep(tmp_path)
    assert inside(left) == {pathlib.Path(str(path)).name for path in kept}


def test_at_its_exit_a_process_removes_its_own_and_no_other(
    home: _temporary._Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child exits as well."""
    at_exit: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        _temporary.atexit, "register", lambda *given: at_exit.append(given)
    )
    folder = home.make_folder()
    assert at_exit == [(_temporary._remove, folder.parent, os.getpid())]
    _temporary._remove(folder.parent, os.getpid() + 1)
    assert folder.exists()
    _temporary._remove(folder.parent, os.getpid())
    assert not folder.parent.exists()
    # Others may have removed it.
    _temporary._remove(folder.parent, os.getpid())
