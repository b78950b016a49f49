"""What the guardian knows when we die is what we knew, whatever became of it."""

import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st
from tests.core.executors.tools import eventually, is_gone

from taskorch.core.executors._programs import _guard, _guardian
from taskorch.core.executors._programs._guard import ProcessGuard, Table

SOURCES = pathlib.Path(_guardian.__file__).parents[3]

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

#: An owner of groups that do not carry its mark: of these nobody knows but by the list.
OWNER = """
import os, subprocess, sys
sys.path.insert(0, {sources!r})
from taskorch.core.executors._programs._guard import ProcessGuard

def group():
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["sleep", "60"], env={{}}, stdout=quiet, stderr=quiet, start_new_session=True
    ).pid

guard = ProcessGuard("guardian-test")
guard.start()
early, dropped, late = group(), group(), group()
print(guard._process.pid, early, dropped, late, flush=True)
input()
guard.add(early)
guard.add(dropped)
passing = group()
for _ in range({times}):
    guard.add(passing)
    guard.remove(passing)
os.kill(passing, 9)
guard.remove(dropped)
guard.add(late)
print("told", flush=True)
if input() == "close":
    guard.close()
    print("closed", flush=True)
    input()
"""


def has_stopped(pid: int) -> bool:
    state = _guardian.state_of(pid)
    return state is not None and state.letter == "T"


class Owner:
    """A process with a guardian, which is stopped before it is told anything."""

    def __init__(self, times: int) -> None:
        code = OWNER.format(sources=str(SOURCES), times=times)
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        pids = [int(pid) for pid in self.line().split()]
        self.guardian, self.early, self.dropped, self.late = pids

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def go_on(self, word: str = "") -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{word}\n")
        self.popen.stdin.flush()
        return self.line()

    def die(self) -> None:
        self.popen.kill()
        self.popen.wait()


@contextlib.contextmanager
def owner(times: int) -> Iterator[Owner]:
    found = Owner(times)
    try:
        yield found
    finally:
        found.popen.kill()
        found.popen.communicate()
        for pid in (found.early, found.dropped, found.late, found.guardian):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@linux
def test_a_guardian_that_is_sent_home_kills_nobody() -> None:
    """At the word it goes, whatever stands in its list."""
    with owner(times=1) as us:
        assert us.go_on() == "told"
        assert us.go_on("close") == "closed"
        assert is_gone(us.guardian)
        us.die()
        assert not any(is_gone(pid) for pid in (us.early, us.dropped, us.late))


@linux
def test_a_guardian_that_takes_the_place_of_another_has_the_same_list() -> None:
    """What was told before it came counts as well."""
    with owner(times=1) as us:
        os.kill(us.guardian, signal.SIGKILL)
        eventually(lambda: is_gone(us.guardian))
        assert us.go_on() == "told"
        us.die()
        eventually(lambda: is_gone(us.early) and is_gone(us.late))
        assert not is_gone(us.dropped)


@pytest.fixture
def table() -> Iterator[Table]:
    found = Table()
    yield found
    found.close()


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(2, 12)), max_size=60),
    nothing=st.sampled_from([0, 1]),
)
def test_the_list_is_what_was_added_and_not_removed(
    steps: list[tuple[bool, int]], nothing: int
) -> None:
    """Whatever comes and goes; it takes no more room than the most at one time."""
    table = Table()
    try:
        table.add(nothing)
        groups: set[int] = set()
        most = 0
        for comes, group in steps:
            if comes and group not in groups:
                table.add(group)
                groups.add(group)
            elif not comes:
                table.remove(group)
                groups.discard(group)
            most = max(most, len(groups))
            assert _guardian.listed(table.fd) == groups
        assert os.fstat(table.fd).st_size <= (most + 1) * _guardian.PLACE
    finally:
        table.close()


def test_a_long_list_is_read_to_its_end(table: Table) -> None:
    """However often it has to be asked for more."""
    groups = set(range(2, 20_000))
    for group in groups:
        table.add(group)
    assert _guardian.listed(table.fd) == groups


def test_where_there_are_no_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a name in the folder for temporary ones will do."""

    def refused(_: str) -> int:
        raise PermissionError

    monkeypatch.setattr(_guard.os, "memfd_create", refused, raising=False)
    table = Table()
    try:
        table.add(4711)
        assert _guardian.listed(table.fd) == {4711}
        assert not os.get_inheritable(table.fd)
    finally:
        table.close()


def test_without_room_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A program runs all the same: on Linux the mark finds it."""

    def full(*_: object) -> int:
        msg = "No space left on device"
        raise OSError(msg)

    guard = ProcessGuard("no-room")
    guard.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(_guard.os, "pwrite", full)
            guard.add(4711)
        assert "No space left" in caplog.text
        guard.remove(4711)
        guard.add(4712)
        assert guard._table is not None
        assert _guardian.listed(guard._table.fd) == {4712}
        guard.remove(4712)
    finally:
        guard.close()


@linux
def test_it_leaves_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is closed nor when it cannot begin."""

    def refused(*_: object, **__: object) -> None:
        msg = "planted"
        raise OSError(msg)

    def descriptors() -> set[pathlib.Path]:
        gc.collect()
        return set(pathlib.Path("/proc/self/fd").iterdir())

    before = descriptors()
    for begins in (True, False):
        guard = ProcessGuard("descriptors")
        with monkeypatch.context() as patched:
            if not begins:
                patched.setattr(_guard.subprocess, "Popen", refused)
                with pytest.raises(OSError, match="planted"):
                    guard.start()
            else:
                guard.start()
        guard.close()
        guard.close()
        guard.add(4711)
        guard.remove(4711)
        # What another test has left may open and close some meanwhile.
        eventually(lambda: descriptors() <= before)


@linux
def test_one_that_was_stopped_is_ended_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot hear that all is well, and leaves nothing behind."""
    monkeypatch.setattr(_guard, "_QUIT_SECONDS", 0.01)
    guard = ProcessGuard("stopped")
    guard.start()
    assert guard._process is not None
    pid = guard._process.pid
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: has_stopped(pid))
    guard.close()
    assert _guardian.state_of(pid) is None


def test_without_its_file_there_is_none_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the library is imported from an archive."""
    monkeypatch.setattr(_guardian, "__file__", "/nowhere/_guardian.py")
    guard = ProcessGuard("archived")
    guard.start()
    guard.start()
    guard.add(4711)
    assert guard._process is None
    assert caplog.text.count("may outlive this process") == 1
    guard.close()
