"""`crash_at` and `for_every_crash_point`: where they crash, and what they say."""

import re
import signal
import subprocess
import sys
import tempfile

import pytest
from tests.worlds.faults import doomed
from tests.worlds.faults.tools import Process

from taskorch import InvalidTaskError, SqliteJournal
from taskorch.core.journal import _points
from taskorch.testing import CrashFailure, crash_at, for_every_crash_point

pytestmark = pytest.mark.slow("a process for each crash")

GROUP = ("begin", "rows", "commit", "kept")
POINTS = ("claim", "claimed", *GROUP, *GROUP)


@pytest.fixture(autouse=True)
def what_is_left_goes_with_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_crashes_at_each_point_once_and_runs_to_the_end_each_time():
    seen = []

    done = for_every_crash_point(
        doomed.two_groups, check=lambda path: seen.append(doomed.kept(path))
    )

    assert done.names == POINTS
    # Each of them and the one after it, and three that ended by themselves.
    assert done.runs == 2 * len(POINTS) + 3
    assert seen == [6] * (len(POINTS) + 3)


def test_it_crashes_the_recovery_at_each_of_its_points_too():
    done = for_every_crash_point(doomed.two_groups, recovery=True)

    left = [10, 10, 10, 10, 10, 6, 6, 6, 6, 2]
    assert done.names == POINTS
    assert done.runs == sum(2 + 2 * points for points in left) + 3


def test_or_at_a_few():
    done = for_every_crash_point(doomed.two_groups, recovery=3)

    assert done.runs == 9 * (2 + 2 * 3) + (2 + 2 * 2) + 3


def test_a_check_that_fails_is_told_with_the_point_and_how_to_repeat_it():
    def check(path):
        assert doomed.kept(path) == 6, "half of it is missing"

    with pytest.raises(CrashFailure) as caught:
        for_every_crash_point(doomed.forgetful, check=check)

    assert caught.value.only == (6,)
    assert str(caught.value).startswith(
        "after a crash at point 6 (kept): check: AssertionError: half of it is missing"
    )
    assert "for_every_crash_point(…, only=6)" in str(caught.value)
    assert isinstance(caught.value.__cause__, AssertionError)
    assert (caught.value.folder / "journal.db").exists()


def test_a_run_that_fails_is_told_with_what_it_printed():
    with pytest.raises(CrashFailure) as caught:
        for_every_crash_point(doomed.impatient)

    assert caught.value.only == (6,)
    first, *_ = str(caught.value).splitlines()
    assert first == (
        "after a crash at point 6 (kept): the run failed: "
        "LookupError: three events, and I want six"
    )
    assert "what a mess" in str(caught.value)
    assert "in impatient" in str(caught.value)


def test_just_one_crash_can_be_repeated():
    with pytest.raises(CrashFailure) as caught:
        for_every_crash_point(doomed.impatient, only=6)
    assert caught.value.only == (6,)

    done = for_every_crash_point(doomed.impatient, only=2)
    assert (done.names, done.runs) == (("claimed",), 2)


def test_and_so_can_a_crash_of_the_recovery():
    with pytest.raises(CrashFailure) as caught:
        for_every_crash_point(doomed.impatient, only=(1, 6))

    assert caught.value.only == (1, 6)
    assert "point 1 (claim), and one of the next run at point 6 (kept)" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("only", "missing"), [(11, "11"), ((6, 40), "40"), ((5, 11), "11")]
)
def test_a_point_that_is_not_reached_is_told(only, missing):
    with pytest.raises(CrashFailure, match=f"point {missing} was not reached"):
        for_every_crash_point(doomed.two_groups, only=only)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (doomed.suicidal, "killed by somebody else"),
        (doomed.terminated, "it was ended by SIGTERM"),
        (doomed.interrupted, "KeyboardInterrupt"),
        (doomed.journalless, "it wrote no journal"),
    ],
)
def test_a_run_that_does_not_end_as_it_should_is_told(workload, message):
    with pytest.raises(CrashFailure, match=message):
        for_every_crash_point(workload)


def test_a_run_that_hangs_says_where():
    with pytest.raises(CrashFailure) as caught:
        for_every_crash_point(doomed.endless, only=1, timeout=5)

    assert "it was still running after 5 seconds" in str(caught.value)
    assert re.search(r"File .*doomed\.py.* in endless", str(caught.value))


def test_what_the_children_of_a_run_write_is_none_of_its_points():
    assert for_every_crash_point(doomed.with_a_child).names == POINTS


def test_signals_that_the_parent_ignores_are_not_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(CrashFailure, match="KeyboardInterrupt"):
            for_every_crash_point(doomed.interrupted)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "function", [lambda path: None, SqliteJournal.claim, print, None]
)
def test_a_function_that_another_process_would_not_find_is_refused(function):
    with pytest.raises(InvalidTaskError, match=r"top level of a module|in no file"):
        for_every_crash_point(function)


def test_a_module_that_starts_threads_is_refused():
    from tests.worlds.faults import threaded

    with pytest.raises(RuntimeError, match=r"starts threads.*: eager"):
        for_every_crash_point(threaded.workload)


def test_a_module_that_cannot_be_imported_again_is_told(tmp_path, monkeypatch):
    module = tmp_path / "only_once.py"
    module.write_text("def workload(path): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    # What was compiled would stand for the same number of other letters.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import only_once  # pyright: ignore[reportMissingImports]

    module.write_text("raise OSError('no more')\n")

    with pytest.raises(RuntimeError, match="OSError: no more"):
        for_every_crash_point(only_once.workload)


def test_of_two_modules_with_one_name_it_takes_the_right_one(tmp_path, monkeypatch):
    for name, text in (("a", "two_groups"), ("b", "journalless")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twin.py").write_text(
            f"from tests.worlds.faults import doomed\n"
            f"def workload(path): doomed.{text}(path)\n"
        )
    monkeypatch.syspath_prepend(tmp_path / "a")
    import twin  # pyright: ignore[reportMissingImports]

    monkeypatch.syspath_prepend(tmp_path / "b")

    assert for_every_crash_point(twin.workload, only=3).names == ("begin",)


@pytest.mark.parametrize(
    "options",
    [
        {"only": 0},
        {"only": (1, 2, 3)},
        {"only": ()},
        {"recovery": -1},
        {"timeout": 0},
        {"only": "x"},
    ],
)
def test_nonsense_is_refused(options):
    with pytest.raises(InvalidTaskError):
        for_every_crash_point(doomed.two_groups, **options)


def test_crash_at_kills_at_the_point_and_only_in_its_block(tmp_path):
    with Process(doomed.crash_third, tmp_path / "journal.db") as process:
        assert process.wait() == -signal.SIGKILL, process.errors()

    assert doomed.kept(tmp_path / "in.db") == 6
    assert doomed.kept(tmp_path / "after.db") == 6
    assert doomed.kept(tmp_path / "journal.db") == 0
    assert not (tmp_path / "survived").exists()


def test_crash_at_is_off_after_its_block():
    with pytest.raises(OSError, match="no more"), crash_at(1):
        raise OSError("no more")

    _points.reach("claim")
    with pytest.raises(InvalidTaskError, match="n"), crash_at(0):
        pass


def test_it_works_in_a_test_module_of_a_user(tmp_path):
    (tmp_path / "test_mine.py").write_text(USERS, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


USERS = """
from taskorch import Task, TaskOrchestrator
from taskorch.testing import for_every_crash_point


def double(n):
    return 2 * n


def workload(path):
    with TaskOrchestrator(journal=path, durability="process") as orch:
        assert orch.submit_task(Task.call(double, 4, id="a")).result() == 8


def check(path):
    assert path.exists()


def test_nothing_is_lost():
    assert len(for_every_crash_point(workload, check=check).names) > 8
"""
