"""The life of one program step by step, by a clock that the test sets."""

# pyright: basic

import errno
import gc
import os
import signal
import sys
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from taskorch.executors._programs import _pipes, _process, _run
from taskorch.executors._programs._output import LogFolder
from taskorch.executors._programs._run import Common, ProgramRun, check_name
from taskorch.executors._programs._spawn import Child
from taskorch.model import Program
from taskorch.model._program import PROGRAM_VARIABLE, RUN_VARIABLE

PID = 4711


class Leftovers:
    """What is left, which is gone after so many looks; each is a pause longer."""

    def __init__(self, site, family, asked_at):
        self.site, self.family, self.asked_at = site, family, asked_at
        self.until = []
        site.left.append(self)

    def end(self, kill_at):
        self.until.append(kill_at)
        if len(self.until) > self.site.looks:
            return None
        return self.site.now + 0.25


class Site:
    """A program without a process: what is asked for it, and what it is told."""

    def __init__(self, tmp_path, monkeypatch):
        self.monkeypatch, self.folder = monkeypatch, tmp_path
        self.now, self.code, self.problem = 100.0, None, None
        self.looks, self.left, self.waits, self.sent = 0, [], [], []
        self.guarded, self.called, self.times = [], [], []
        self.watched, self.unwatched = {}, []
        self.ends, self.over, self.claims, self.kills = [], [], [], 5
        self.found, self.signalled, self.spawned, self.asked = [], [], [], []
        self.claimed, self.run, self.open = False, None, []
        clock = SimpleNamespace(
            monotonic=lambda: self.now,
            clock_gettime=lambda _: self.now,
            CLOCK_BOOTTIME=7,
        )
        for module in (_run, _pipes, _process):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(_run, "spawn", self.spawn)
        monkeypatch.setattr(_run, "exit_code_of", self.exit_code_of)
        monkeypatch.setattr(_run, "Leftovers", lambda *given: Leftovers(self, *given))
        monkeypatch.setattr(_run.Family, "find", lambda one, *_: self.find(one))
        monkeypatch.setattr(
            _run.Family, "signal", lambda _, *given: self.signalled.append(given)
        )
        monkeypatch.setattr(
            _process.os, "killpg", lambda _, number: self.sent.append(number)
        )
        self.handles = [os.open(os.devnull, os.O_RDONLY)]
        monkeypatch.setattr(_run.os, "pidfd_open", self.pidfd_open, raising=False)
        loop = SimpleNamespace(
            call=self.called.append,
            at=lambda *given: self.times.append(given),
            watch=lambda fd, act, *, write=False: self.watched.update({fd: act}),
            unwatch=self.unwatched.append,
        )
        guard = SimpleNamespace(
            start=lambda: self.guarded.append("start"),
            add=lambda pid: self.guarded.append(("add", pid)),
            remove=lambda pid: self.guarded.append(("remove", pid)),
        )
        self.common = Common(
            run_id="run",
            loop=loop,
            guard=guard,
            logs=LogFolder(tmp_path / "logs"),
            memory_kills=SimpleNamespace(count=lambda: self.kills, claim=self.claim),
            max_log_bytes=100,
            tail_bytes=10,
            drain_quiet=0.5,
            drain_limit=1.0,
            leftover_grace=2.0,
        )

    def make(self, holding=None, **options):
        self.run = ProgramRun(
            self.common,
            Program(["true"], **options),
            name="t/1",
            env={"GIVEN": "x"},
            on_end=self.ends.append,
            on_over=self.over.append,
            holding=holding,
        )
        return self.run

    def start(self, **options):
        self.make(**options).start()
        return self.run

    def pidfd_open(self, pid):
        assert pid == PID
        if not self.handles:
            raise OSError(errno.EMFILE, "none left")
        return self.handles.pop()

    def spawn(self, program, env, stdin):
        self.spawned.append((program, dict(env), stdin))
        if self.problem is not None:
            raise self.problem
        self.outs, self.intos = zip(os.pipe(), os.pipe(), strict=True)
        self.open = [*self.intos]
        for out in self.outs:
            os.set_blocking(out, False)
        process = SimpleNamespace(pid=PID, wait=lambda *given: self.waits.append(given))
        return Child(process, *self.outs)

    def find(self, family):
        assert (family.group, family._mark) == (PID, self.run._mark)
        return self.found

    def exit_code_of(self, process):
        assert process.pid == PID
        self.asked.append(1)
        if isinstance(self.code, Exception):
            raise self.code
        return self.code

    def claim(self, since):
        self.claims.append(since)
        return self.claimed

    def close(self, *streams):
        """The program has closed these of its streams."""
        for stream in streams or (0, 1):
            os.close(self.intos[stream])
            self.open.remove(self.intos[stream])
            while self.outs[stream] in self.run._output._streams:
                self.watched[self.outs[stream]]()

    def exit(self, code=0):
        self.code = code
        self.watched.get(self.run._pidfd, self.run._see_exit)()

    @property
    def end(self):
        (end,) = self.ends
        assert self.over == [self.run]
        return end


@pytest.fixture
def site(tmp_path, monkeypatch):
    found = Site(tmp_path, monkeypatch)
    yield found
    if found.run is not None:
        found.run.fail(ValueError("the test is over"))
    for fd in (*found.open, *found.handles):
        os.close(fd)


# -- its start -------------------------------------------------------------------------


def test_started_it_is_guarded_watched_and_known(site):
    pid_file = site.folder / "pid"
    run = site.start(pid_file=pid_file)
    assert site.guarded == ["start", ("add", PID)]
    assert run.process.pid == PID
    assert pid_file.read_text() == f"{PID}\n"
    assert run.process.log_path == site.folder / "logs/t/1.log"
    assert set(site.outs) < set(site.watched)
    assert len(site.watched) == 2 + (sys.platform == "linux")
    assert site.ends == []
    ((program, env, stdin),) = site.spawned
    assert program.args == ("true",)
    assert stdin is None
    assert env["GIVEN"] == "x"
    assert env[RUN_VARIABLE] == "run"
    assert env[PROGRAM_VARIABLE].startswith(f"run.{os.getpid()}.")
    # Nothing is due before something happens.
    if sys.platform == "linux":
        assert site.times == []
    run.start()
    assert len(site.spawned) == 1


def test_each_has_a_mark_of_its_own(site):
    marks = {site.make()._mark for _ in range(3)}
    assert len(marks) == 3
    assert all(one.startswith(f"{PROGRAM_VARIABLE}=run.".encode()) for one in marks)


@pytest.mark.parametrize("stdin", ["téxt", "téxt".encode(), b"", ""])
def test_what_it_reads_is_written_as_soon_as_there_is_room(site, stdin):
    run = site.make(stdin=stdin)
    theirs = run._input.open()
    with site.monkeypatch.context() as patch:
        closed = []
        patch.setattr(_pipes.os, "close", closed.append)
        run.disown()
    assert closed == [run._input._fd]
    run.start()
    ((_, _, given),) = site.spawned
    assert given is run._input
    assert run._input._fd in site.watched
    site.watched[run._input._fd]()
    expected = stdin.encode() if isinstance(stdin, str) else stdin
    assert os.read(theirs, 100) == expected
    os.close(theirs)


@pytest.mark.parametrize("problem", [OSError(errno.ENOENT, "no file"), ValueError("a")])
def test_what_cannot_be_started_is_told_and_over(site, problem):
    site.problem = problem
    run = site.start()
    assert site.end.result is None
    assert isinstance(site.end.error, type(problem))
    assert site.watched == {}
    assert run.process.pid is None
    run.start()
    run.refuse()
    run.fail(ValueError("later"))
    assert len(site.ends) == 1


def test_a_name_that_leads_elsewhere_starts_nothing(site):
    run = site.make()
    run._name = "../x"
    run.start()
    assert isinstance(site.end.error, ValueError)
    assert site.spawned == []


@pytest.mark.parametrize("act", ["refuse", "start"])
def test_ended_before_its_start_it_is_not_started(site, act):
    run = site.make()
    if act == "start":
        run.process.kill()
    getattr(run, act)()
    assert isinstance(site.end.error, CancelledError)
    assert "program of 't/1' was ended before it was started" in str(site.end.error)
    assert site.spawned == []


def test_one_that_runs_is_not_refused(site):
    site.start().refuse()
    assert site.ends == []


def test_stopped_before_its_start_it_begins_once_it_goes_on(site):
    run = site.make()
    run.process.stop()
    run.start()
    assert site.spawned == []
    for act in site.called:
        act()
    assert site.spawned == []
    run.process.resume()
    site.called[-1]()
    assert len(site.spawned) == 1


# -- its times -------------------------------------------------------------------------


def test_it_is_killed_once_when_its_time_is_up_with_all_it_has_begun(site):
    run = site.start()
    site.found = [7, 8]
    run.process.terminate(5)
    assert site.sent == [signal.SIGTERM, signal.SIGCONT]
    site.called[-1]()
    assert [when for when, _ in site.times] == [105.0]
    site.now = 104.9
    run._tick()
    assert site.sent == [signal.SIGTERM, signal.SIGCONT]
    assert len(site.times) == 1
    site.now = 105.0
    site.times.pop()[1]()
    assert site.sent == [signal.SIGTERM, signal.SIGCONT, signal.SIGKILL]
    assert site.signalled == [(7, signal.SIGKILL), (8, signal.SIGKILL)]
    run._tick()
    assert site.sent[3:] == []
    assert len(site.signalled) == 2
    # Then its end is waited for, and nothing else.
    assert site.times == []


def test_a_time_that_comes_nearer_is_kept_as_well(site):
    run = site.start()
    run.process.terminate(50)
    site.called[-1]()
    run.process.terminate(5)
    site.called[-1]()
    run._tick()
    assert [when for when, _ in site.times] == [150.0, 105.0]


@pytest.mark.parametrize("kill_at", [None, 100.01, 200.0])
def test_where_no_end_is_told_it_is_looked_for(site, kill_at):
    site.handles.clear()
    run = site.make()
    run.start()
    run.process.kill_at = kill_at
    assert site.times.pop()[0] == 100.02
    site.now = 100.005
    run._next_tick = float("inf")
    run._tick()
    ((when, act),) = site.times
    assert when == pytest.approx(100.01 if kill_at == 100.01 else 100.025, abs=1e-9)
    site.code = 3
    site.close()
    act()
    assert site.end.result.exit_code == 3


@pytest.mark.parametrize("number", [0, 1])
def test_a_handle_may_have_any_number(site, number):
    """Then nothing is looked for."""
    site.handles = [number]
    run = site.make()
    with site.monkeypatch.context() as patch:
        closed = []
        run.start()
        assert number in site.watched
        run._tick()
        assert site.times == site.asked == []
        patch.setattr(_run.os, "close", closed.append)
        run._close_pidfd()
        run._close_pidfd()
    assert closed == [number]
    assert site.unwatched == [number]


# -- its end ---------------------------------------------------------------------------


def test_its_output_and_its_exit_make_its_end(site):
    run = site.start()
    os.write(site.intos[0], b"out")
    os.write(site.intos[1], b"an err of more than ten bytes")
    site.close()
    assert site.ends == []
    site.now = 103.5
    site.exit(3)
    result = site.end.result
    assert site.end.error is None
    assert not site.end.was_asked
    assert result.exit_code == 3
    assert result.duration == 3.5
    assert (result.stdout_tail, result.stderr_tail) == ("out", " ten bytes")
    assert result.log_path.read_bytes() == b"outan err of more than ten bytes"
    assert (result.truncated_bytes, result.log_error) == (0, None)
    assert result.args == ("true",)
    assert not result.oom_killed
    assert site.guarded[2:] == [("remove", PID)]
    assert site.waits == [()]
    (left,) = site.left
    assert (left.family.group, left.family._mark, left.asked_at) == (PID, None, None)
    assert left.until == [105.5]
    assert not run.process.stop()
    run.process.kill()
    assert site.sent == []


def test_what_comes_after_its_exit_is_awaited_until_it_is_quiet(site):
    run = site.start()
    site.now = 101.0
    assert len(site.unwatched) == 0
    site.exit()
    # Its handle would say the same again and again.
    assert run._pidfd < 0
    assert len(site.unwatched) == (sys.platform == "linux")
    assert run.process.stop() is False
    # Half a second without output.
    assert site.times.pop()[0] == 101.5
    site.now = 101.25
    os.write(site.intos[0], b"late")
    site.watched[site.outs[0]]()
    site.now = 101.5
    run._timed_tick()
    assert site.ends == []
    assert site.times.pop()[0] == 101.75
    site.now = 101.75
    os.write(site.intos[0], b"last")
    run._timed_tick()
    # What is in the pipes by then is read.
    assert site.end.result.stdout_tail == "latelast"
    assert site.end.result.duration == 1.0


def test_it_is_awaited_for_a_second_at_the_most(site):
    run = site.start()
    site.now = 101.0
    site.exit()
    for now in (101.4, 101.8, 101.99):
        site.now = now
        os.write(site.intos[0], b"x")
        site.watched[site.outs[0]]()
    assert run._drained_at() == 102.0
    run._timed_tick()
    assert site.ends == []
    site.now = 102.0
    run._timed_tick()
    assert site.end.result.exit_code == 0


def test_its_kill_may_come_while_its_output_is_awaited(site):
    run = site.start()
    site.exit()
    run.process.terminate(0.25)
    run._timed_tick()
    assert site.times.pop()[0] == 100.25
    site.now = 100.25
    run._timed_tick()
    assert site.sent[-1] == signal.SIGKILL
    assert site.times.pop()[0] == 100.5


def test_with_the_end_of_its_output_nothing_more_is_awaited(site):
    site.start()
    site.exit()
    site.close(0)
    assert site.ends == []
    site.close(1)
    assert site.end.result.exit_code == 0


def test_what_is_left_is_looked_at_until_it_is_gone(site):
    site.looks = 2
    run = site.start(pid_file=site.folder / "pid")
    site.close()
    site.exit()
    assert site.ends == []
    # Its number is free: by it nobody is signalled any more.
    assert site.waits == [()]
    run.process.kill_group()
    assert site.sent == []
    assert not (site.folder / "pid").exists()
    for _ in range(2):
        assert site.ends == []
        when, act = site.times.pop()
        assert when == site.now + 0.25
        site.now = when
        act()
    assert site.end.result.exit_code == 0
    (left,) = site.left
    assert left.until == [102.0] * 3
    # Once it is over, nothing is due.
    site.times.clear()
    run._tick()
    assert site.times == []
    assert len(site.ends) == 1


@pytest.mark.parametrize("act", ["terminate", "kill"])
def test_of_one_that_was_ended_by_us_all_that_carries_its_mark_is_left(site, act):
    """And has the time that it had itself."""
    site.looks = 1
    run = site.start()
    if act == "kill":
        run.process.kill()
    else:
        run.process.terminate(7)
    asked_at = run.process.asked_at
    site.close()
    site.exit(-15)
    (left,) = site.left
    assert left.family.group == PID
    assert left.family._mark == run._mark
    assert left.asked_at == asked_at
    assert left.until == [100.0 if act == "kill" else 107.0]
    run._timed_tick()
    assert site.end.was_asked
    assert site.end.result.exit_code == -15


@pytest.mark.parametrize("code", [0, 1, -9, 137, -15])
@pytest.mark.parametrize("was_asked", [True, False])
@pytest.mark.parametrize("claimed", [True, False])
def test_who_was_killed_for_want_of_memory(site, code, was_asked, claimed):
    """Whom we did not end, and for whom nobody else stands."""
    site.claimed = claimed
    run = site.start()
    site.kills = 9
    if was_asked:
        run.process.terminate(7)
    site.close()
    site.exit(code)
    may_be = code in (-9, 137) and not was_asked
    # One more than there were when it began.
    assert site.claims == [5] * may_be
    assert site.end.result.oom_killed is (may_be and claimed)
    assert site.end.was_asked is was_asked


def test_an_exit_code_that_another_has_taken_is_an_error(site):
    site.start()
    site.exit(ChildProcessError(errno.ECHILD, "no child"))
    # Its number may be another's.
    site.run.process.kill()
    assert site.sent == []
    site.close()
    error = site.end.error
    assert site.end.result is None
    assert isinstance(error, ChildProcessError)
    assert error.errno == errno.ECHILD
    assert "the exit code of the program of 't/1' is lost" in str(error)
    assert isinstance(error.__cause__, ChildProcessError)


def test_an_exit_that_was_not_one_is_none(site):
    site.start()
    site.close()
    site.exit(None)
    assert site.ends == site.left == []
    assert site.run.process.stop()


# -- what goes wrong -------------------------------------------------------------------


@pytest.mark.parametrize("problem", [ValueError("ours"), OSError(24, "none left")])
def test_given_up_it_is_killed_and_waited_for(site, problem, caplog):
    run = site.start()

    def broken():
        raise problem

    run._safe(broken)()
    assert "program 't/1' is given up" in caplog.text
    error = site.end.error
    assert site.sent == [signal.SIGKILL]
    assert site.guarded[2:] == [("remove", PID)]
    assert site.waits == [(1.0,)]
    if isinstance(problem, OSError):
        # That would say that it never began.
        assert type(error) is RuntimeError
        assert "the program of 't/1' was given up: " in str(error)
        assert error.__cause__ is problem
    else:
        assert error is problem
    # Its number may be another's.
    run.process.kill_group()
    assert site.sent == [signal.SIGKILL]
    run.fail(problem)
    run._see_end_of_output()
    assert len(site.ends) == len(site.over) == 1


def test_given_up_before_its_start_it_is_only_told(site):
    error = OSError(24, "none left")
    site.make().fail(error)
    assert site.end.error is error
    assert site.sent == site.guarded == site.waits == []
    with pytest.raises(RuntimeError, match="'t/1' has not been started"):
        site.run._running()


def test_nothing_of_it_stays_open_and_nothing_large_or_secret_is_kept(site):
    gc.collect()
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number
    run = site.make(pid_file=site.folder / "pid", stdin="secret" * 10**6)
    theirs = run._input.open()
    run.start()
    os.write(site.intos[0], b"secret")
    site.watched[site.outs[0]]()
    run.fail(ValueError("ours"))
    assert site.end.error is not None
    for fd in (theirs, *site.open):
        os.close(fd)
    site.open.clear()
    # The one that was opened before it.
    assert len(os.listdir("/dev/fd")) == before - 1  # noqa: PTH208 - only their number
    assert set(site.unwatched) == set(site.watched)
    assert not (site.folder / "pid").exists()
    assert run._env == {}
    assert not run._input._data
    assert run._output.tails() == ("", "")


def test_an_end_is_told_though_something_cannot_be_closed(site, caplog):
    run = site.start()

    def broken():
        raise OSError("ours")

    run._release = broken
    run.fail(ValueError("theirs"))
    assert str(site.end.error) == "theirs"
    assert "program 't/1' leaves something open" in caplog.text


def test_whoever_is_told_may_fail(site, caplog):
    run = site.start()

    def broken(end):
        site.ends.append(end)
        raise KeyboardInterrupt

    run._on_end = broken
    run.fail(ValueError("theirs"))
    assert str(site.end.error) == "theirs"
    assert "on_end of program 't/1' failed" in caplog.text
    assert run._on_end is not broken


def test_what_it_holds_is_written_while_it_runs(site):
    did = []

    class Grant:
        def __init__(self, loop, holding, *, safe):
            assert (loop, holding) == (site.common.loop, "holding")

        def open(self):
            did.append("open")
            return {"WHERE": "there"}

        def refresh(self):
            did.append("refresh")

        def close(self):
            did.append("close")

    site.monkeypatch.setattr(_run, "Grant", Grant)
    run = site.make(holding="holding")
    run._tick()
    assert site.spawned[0][1]["WHERE"] == "there"
    assert did == ["open"]
    run._tick()
    assert did == ["open", "refresh"]
    site.exit()
    run._tick()
    assert did == ["open", "refresh"]
    site.close()
    assert did == ["open", "refresh", "close"]


@pytest.mark.parametrize(
    ("name", "is_safe"),
    [
        ("a", True),
        ("a/b.c/1", True),
        ("...", True),
        ("", False),
        ("/a", False),
        ("a/", False),
        ("a//b", False),
        (".", False),
        ("a/..", False),
        ("../a", False),
        ("a\0", False),
    ],
)
def test_which_names_can_be_part_of_a_path(name, is_safe):
    if is_safe:
        check_name(name)
    else:
        with pytest.raises(ValueError, match="is no safe path"):
            check_name(name)
