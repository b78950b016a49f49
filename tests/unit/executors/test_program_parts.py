"""The parts of which the executor of programs is made, each by itself."""

# pyright: basic

import contextlib
import errno
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.executors.tools import PATIENCE, eventually, is_gone

from taskorch.errors import ProgramFailedError
from taskorch.executors._programs import (
    _family,
    _fork,
    _guardian,
    _loop,
    _output,
    _run,
    _spawn,
    _sweep,
)
from taskorch.executors._programs._attempts import Programs
from taskorch.executors._programs._executor import ProgramExecutor
from taskorch.executors._programs._family import Family, Leftovers
from taskorch.executors._programs._loop import Loop
from taskorch.executors._programs._output import LogFolder, OutputLog, Tail
from taskorch.executors._programs._pipes import Input, Output
from taskorch.executors._programs._process import ProgramProcess
from taskorch.executors._programs._run import ProgramRun
from taskorch.executors._programs._spawn import Child, exit_code_of, explain
from taskorch.executors._programs._sweep import sweep
from taskorch.model import Program, Task
from taskorch.model._program import RUN_VARIABLE

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@contextlib.contextmanager
def running(code: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Python in a session of its own that runs *code*, and the number it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **env},
    )
    child = 0
    try:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
    finally:
        for pid in {child, process.pid} - {0}:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with process:
            pass


ALONE = "import os; print(os.getpid(), flush=True); input()"


# -- who belongs to whom ---------------------------------------------------------------


@linux
def test_a_process_of_the_session_belongs_without_group_and_mark():
    code = """if 1:
        import subprocess
        child = subprocess.Popen(["sleep", "60"], env={}, process_group=0)
        print(child.pid, flush=True)
        input()
    """
    with running(code) as (leader, child):
        assert Family(leader.pid, b"NOBODY=HAS").belongs(child)
        assert not Family(leader.pid, None).belongs(child)


@linux
def test_of_what_nobody_has_asked_children_are_asked_as_well():
    code = """if 1:
        import signal, subprocess
        child = subprocess.Popen(["sleep", "60"])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(child.pid, flush=True)
        input()
    """
    with running(code) as (leader, child):
        left = Leftovers(Family(leader.pid, None), asked_at=None)
        assert left.end(time.monotonic() + 3600) is not None
        eventually(lambda: is_gone(child))


@pytest.mark.parametrize(("asked_at", "asked"), [(None, [7, 8]), (0.0, [7]), (9.0, [])])
def test_whom_others_have_started_since_is_not_asked(asked_at, asked, monkeypatch):
    """
    Since the group was asked, or since the first look: to tidy up with.

    Who was there when the group was asked is not asked a second time.
    """
    parents, told = {7: 1, 8: 7}, []
    family: Any = SimpleNamespace(
        group=7,
        is_gone=lambda: False,
        may_hide=lambda: False,
        find=lambda: list(parents),
        signal=lambda pid, *_: told.append(pid),
    )

    def state_of(pid):
        return SimpleNamespace(parent=parents[pid], group=7, started=1)

    monkeypatch.setattr(_guardian, "state_of", state_of)
    left = Leftovers(family, asked_at)
    left.end(time.monotonic() + 3600)
    parents[9] = 7
    left.end(time.monotonic() + 3600)
    assert told == asked


def test_who_was_not_killed_is_not_left_alone_however_late_it_is():
    told = []
    family: Any = SimpleNamespace(
        is_gone=lambda: False,
        may_hide=lambda: False,
        find=lambda: [7],
        signal=lambda _, number: told.append(number),
    )
    left = Leftovers(family, None)
    assert left.end(time.monotonic() - 3600) is not None
    assert told == [signal.SIGKILL]
    # It cannot be killed.
    eventually(lambda: left.end(time.monotonic() - 3600) is None)


class Hidden:
    """A process shows nothing in so many looks, as one that executes another program."""

    def __init__(self, pid, looks, monkeypatch):
        self.arguments, self.environment = (
            f"/proc/{pid}/cmdline",
            f"/proc/{pid}/environ",
        )
        self.looks = looks
        for module in (_guardian, _sweep):
            monkeypatch.setattr(module, "open", self.open, raising=False)

    def open(self, path, mode):
        self.looks -= path == self.arguments
        if path in (self.arguments, self.environment) and self.looks >= 0:
            return io.BytesIO()
        return Path(path).open(mode)


@pytest.fixture
def marked():
    """A process of a run, which has left its group and its session."""
    env = {**os.environ, RUN_VARIABLE: "hidden-run"}
    with subprocess.Popen(["sleep", "60"], env=env, start_new_session=True) as process:
        eventually(lambda: _guardian.carries(process.pid, MARK))
        yield process
        process.kill()


MARK = f"{RUN_VARIABLE}=hidden-run".encode()


@linux
def test_who_executes_another_program_is_swept_once_it_shows_its_mark(
    marked, monkeypatch
):
    Hidden(marked.pid, 4, monkeypatch)
    assert sweep("hidden-") == 1
    assert marked.wait(PATIENCE) == -signal.SIGKILL


@linux
def test_who_executes_another_program_is_left_over_as_well(marked, monkeypatch):
    Hidden(marked.pid, 4, monkeypatch)
    left = Leftovers(Family(None, MARK), None)
    eventually(lambda: left.end(0.0) is None)
    assert marked.wait(PATIENCE) == -signal.SIGKILL


@linux
def test_who_always_seems_to_execute_another_program_holds_up_nobody(
    marked, monkeypatch
):
    Hidden(marked.pid, 10**6, monkeypatch)
    monkeypatch.setattr(_sweep, "_HIDDEN", 0.05)
    assert sweep("hidden-") == 0
    left = Leftovers(Family(None, MARK), None)
    eventually(lambda: left.end(0.0) is None)
    assert marked.poll() is None


@linux
def test_neither_the_dead_nor_the_kernel_execute_a_program(marked):
    assert not _guardian.is_executing(marked.pid)
    marked.kill()
    eventually(lambda: _guardian.state_of(marked.pid).letter == "Z")
    assert not _guardian.is_executing(marked.pid)
    kernel = _guardian.find(
        lambda pid: getattr(_guardian.state_of(pid), "is_kernel", 0)
    )
    assert not any(map(_guardian.is_executing, kernel))


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_of_a_group_that_is_gone_nobody_is_looked_for(system, monkeypatch):
    """Most programs leave nothing, and to look through all processes takes long."""
    looks = []
    monkeypatch.setattr(_guardian, "find", lambda _: looks.append(1) or [])
    monkeypatch.setattr(_family.sys, "platform", system)
    with running(ALONE) as (leader, _):
        there = Family(leader.pid, None)
        assert there.find() == ([] if system == "linux" else [-leader.pid])
        leader.kill()
        leader.wait()
        seen = len(looks)
        assert there.find() == []
        assert Family(None, None).find() == []
    assert len(looks) == seen == (system == "linux")


def test_where_no_mark_is_asked_for_nobody_hides_one(monkeypatch):
    """Whoever executes another program then is somebody else."""
    monkeypatch.setattr(_guardian, "find", lambda _: [1])
    assert not Family(1, None).may_hide()
    assert Family(1, MARK).may_hide() == (sys.platform == "linux")


@linux
@pytest.mark.parametrize("has_handles", [True, False])
@pytest.mark.parametrize("belongs", [True, False])
def test_a_signal_leaves_no_descriptor(has_handles, belongs, monkeypatch):
    """It is sent to who is meant, where the system has handles and where it has none."""

    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    if not has_handles:
        monkeypatch.setattr(_guardian.os, "pidfd_open", none_left)
    with running(ALONE) as (child, _):
        before = descriptors()
        _guardian.send(child.pid, lambda _: belongs, signal.SIGCONT)
        _guardian.send(child.pid, lambda _: belongs, signal.SIGTERM)
        assert descriptors() == before
        if belongs:
            assert child.wait(PATIENCE) == -signal.SIGTERM
        else:
            assert child.poll() is None


@linux
def test_we_are_never_among_those_that_are_found():
    with running(ALONE) as (other, _):
        found = _guardian.find(lambda pid: True)
        assert other.pid in found
        assert os.getpid() not in found


def test_a_guardian_that_is_nobodys_child_any_more_knows_it():
    """Its input may be held open by another child of its parent."""
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:]; import _guardian; "
        "print(_guardian._watch(os.getpid()))"
    )
    out, into = os.pipe()
    try:
        said = subprocess.run(
            [sys.executable, "-c", code, str(Path(_guardian.__file__).parent)],
            stdin=out,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    finally:
        os.close(out)
        os.close(into)
    assert said.stdout == "True\n"


@pytest.fixture
def said_to_the_guardian():
    """A pipe in the place of our standard input: its other end, and the end of it."""
    ours = os.dup(0)
    out, into = os.pipe()
    os.dup2(out, 0)
    os.close(out)
    ends = [into]
    yield into, lambda: os.close(ends.pop())
    os.dup2(ours, 0)
    os.close(ours)
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("has_handles", [True, False])
def test_a_guardian_goes_at_the_word_and_stays_without_it(
    said_to_the_guardian, has_handles, monkeypatch
):
    into, close = said_to_the_guardian
    if not has_handles:
        monkeypatch.delattr(_guardian.os, "pidfd_open", raising=False)
    os.write(into, _guardian.QUIT)
    assert _guardian._watch(os.getppid()) is False
    close()
    assert _guardian._watch(os.getppid()) is True


@pytest.mark.usefixtures("said_to_the_guardian")
def test_a_guardian_whose_parent_has_died_waits_for_nothing(monkeypatch):
    """Though another child of the parent holds its input open."""
    patience = []

    class Poll:
        def register(self, fd, event):
            pass

        def poll(self, most):
            patience.append(most)
            return []

    monkeypatch.setattr(_guardian.select, "poll", Poll)
    assert _guardian._watch(os.getpid()) is True
    assert patience == [0]


def test_a_forked_child_closes_what_is_not_its_own(monkeypatch):
    """Every executor is told, and a start that hung in the parent holds up no other."""

    class Owner:
        told = 0

        def disown(self):
            self.told += 1

    gate, owners = _fork._Gate(), [Owner(), Owner()]
    monkeypatch.setattr(_fork, "_owners", owners)
    gate._lock.acquire()
    gate.after_fork_in_child()
    assert [owner.told for owner in owners] == [1, 1]
    assert not gate._lock.locked()


def test_whoever_has_descriptors_is_told_in_a_forked_child(monkeypatch):
    class Owner:
        told = 0

        def disown(self):
            self.told += 1

    monkeypatch.setattr(_fork, "_owners", type(_fork._owners)())
    owner = Owner()
    _fork.at_fork(owner)
    _fork._Gate().after_fork_in_child()
    assert owner.told == 1


def test_a_forked_child_does_not_hold_the_input_of_a_program():
    executor = ProgramExecutor(run_id="disowned")
    before = descriptors()
    run = ProgramRun(
        executor._common,
        Program(["true"], stdin="x"),
        name="one",
        env={},
        on_end=print,
        on_over=print,
    )
    theirs = run._input.open()
    executor._runs.add(run)
    assert descriptors() == before + 2
    executor.disown()
    os.close(theirs)
    assert descriptors() == before


def test_a_group_may_have_the_number_two(monkeypatch):
    """As in a container, where the first process has started one."""
    rounds = iter([[7], []])
    killed = []
    stat = b"7 (name) S 1 2 2 " + b"0 " * 16
    monkeypatch.setattr(_guardian, "find", lambda _: next(rounds, []))
    monkeypatch.setattr(_guardian, "carries", lambda pid, mark: True)
    monkeypatch.setattr(_guardian, "state_of", lambda pid: _guardian.State(stat))
    monkeypatch.setattr(_guardian, "send", lambda *_: None)
    monkeypatch.setattr(_guardian, "_kill", lambda pid, _: killed.append(pid))
    monkeypatch.setattr(_guardian.time, "sleep", lambda _: None)
    _guardian._end(set(), b"MARK=1")
    assert killed == [-2]


@linux
def test_a_sweep_kills_what_carries_the_mark_of_those_runs_and_nothing_else():
    with (
        running(ALONE, **{RUN_VARIABLE: "swept-1"}) as (meant, _),
        running(ALONE, **{RUN_VARIABLE: "other-1"}) as (other, _),
    ):
        assert sweep("swept-") == 1
        assert meant.wait(PATIENCE) == -signal.SIGKILL
        assert other.poll() is None
        assert sweep("swept-") == 0


# -- one process -----------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(3)", 3), ("import os; os.abort()", -6)]
)
def test_who_has_ended_keeps_its_number_until_it_is_waited_for(code, exit_code):
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    child = Child(process, -1, -1)
    eventually(lambda: exit_code_of(child.process) is not None)
    state = _guardian.state_of(process.pid)
    assert exit_code_of(child.process) == exit_code
    assert state is not None
    assert state.letter == "Z"
    process.wait()


@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(3)", 3), ("import os; os.abort()", -6)]
)
def test_an_exit_is_seen_where_the_system_cannot_leave_it_there(
    code, exit_code, monkeypatch
):
    """Such as macOS, for older Pythons."""
    monkeypatch.delattr(os, "waitid")
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin.read(); {code}"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child, seen = Child(process, -1, -1), []
    assert exit_code_of(child.process) is None
    assert process.stdin is not None
    process.stdin.close()

    def has_ended():
        seen.append(exit_code_of(child.process))
        return seen[-1] is not None

    eventually(has_ended)
    assert seen[-1] == process.returncode == exit_code


def test_a_kill_needs_no_supervisor():
    process = ProgramProcess(lambda: None)
    with running(ALONE) as (child, _):
        process.attach(child.pid)
        process.kill()
        assert child.wait(PATIENCE) == -signal.SIGKILL


def test_nobody_is_signalled_by_a_number_that_is_free(monkeypatch):
    """It may be that of somebody else by now."""
    sent = []
    monkeypatch.setattr(os, "killpg", lambda *given: sent.append(given))
    process = ProgramProcess(lambda: None)
    process.attach(2**22)
    process.release()
    process.terminate(0)
    process.kill()
    process.kill_group()
    assert not process.stop()
    assert sent == []


def test_who_has_not_begun_has_not_been_asked_to_end():
    """That decides whom of its children we ask."""
    process = ProgramProcess(lambda: None)
    process.terminate(3600)
    assert process.asked_at is None
    with running(ALONE) as (child, _):
        process.attach(child.pid)
        assert (process.asked_at is not None) == (sys.platform == "linux")
        assert child.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("speaks", [True, False])
def test_words_are_passed_on_whatever_the_locale_can_say(speaks, monkeypatch):
    monkeypatch.setattr(_spawn, "_SPEAKS_UTF_8", speaks)
    assert _spawn._encoded(b"\xff") == b"\xff"
    assert os.fsencode(_spawn._encoded("é\udcff")) == "é".encode() + b"\xff"
    assert (type(_spawn._encoded("a")) is str) == speaks


def test_an_error_of_the_system_without_a_number_is_explained_without_advice():
    explained = explain(OSError("odd"), Program(["x"]))
    assert explained.errno == 0
    assert str(explained).endswith(f"'x' could not be started: {os.strerror(0)}")


# -- loop and pipes --------------------------------------------------------------------


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_loop_that_was_closed_holds_nothing_and_watches_nothing():
    before = descriptors()
    loop = Loop()
    loop.open()
    assert descriptors() > before
    loop.close()
    assert descriptors() == before
    with pytest.raises(RuntimeError, match="not open"):
        loop.watch(0, lambda: None)


def test_an_action_that_fails_is_told_and_the_next_one_is_done(caplog):
    loop, done = Loop(), []
    loop.open()
    loop.call(lambda: 1 // 0)
    loop.call(lambda: done.append(1))
    loop.run(lambda: bool(done))
    loop.close()
    assert "an action of the supervisor of programs failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_pipe_with_nothing_in_it_has_not_ended():
    loop, ends = Loop(), []
    loop.open()
    output = Output(
        loop,
        OutputLog(0),
        tail_bytes=10,
        on_end=lambda: ends.append(1),
        safe=lambda action: action,
    )
    pipes = [os.pipe() for _ in "oe"]
    for out, _ in pipes:
        os.set_blocking(out, False)
    output.start(*(out for out, _ in pipes))
    for out, _ in pipes:
        output._read(out)
    assert output.is_open
    assert not ends
    for _, into in pipes:
        os.close(into)
    for out, _ in pipes:
        output._read(out)
    assert not output.is_open
    assert ends == [1]
    loop.close()


def test_output_that_has_not_ended_is_closed():
    """Somebody beyond our reach may hold its other end for ever."""
    before = descriptors()
    loop = Loop()
    loop.open()
    pipes = [os.pipe() for _ in "oe"]
    output = Output(
        loop, OutputLog(0), tail_bytes=10, on_end=print, safe=lambda action: action
    )
    output.start(*(out for out, _ in pipes))
    output.close()
    assert not output.is_open
    loop.close()
    for _, into in pipes:
        os.close(into)
    assert descriptors() == before


def test_input_that_nobody_has_read_is_let_go():
    """What a program reads may be large, or secret."""
    loop, data = Loop(), bytearray(b"secret")
    given = Input(loop, data, safe=lambda action: action)
    given.close()
    data.clear()  # a BufferError, as long as somebody looks at it


def test_a_log_that_cannot_be_closed_well_says_so(tmp_path, monkeypatch):
    log = OutputLog(100)
    log.open(LogFolder(tmp_path), "one")
    log.write(b"it was written")
    close = os.close

    def full(fd):
        close(fd)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(_output.os, "close", full)
        log.close()
    assert "could not be written" in (log.error or "")
    assert "Disk quota exceeded" in (log.error or "")


def test_what_a_log_lacks_is_what_went_wrong_first(tmp_path, monkeypatch):
    log = OutputLog(100)
    log.open(LogFolder(tmp_path), "one")
    close = os.close

    def no_space(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def no_quota(fd):
        close(fd)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(_output.os, "write", no_space)
        patch.setattr(_output.os, "close", no_quota)
        log.write(b"it is not written")
    assert "No space left on device" in (log.error or "")
    assert "quota" not in (log.error or "")
    assert log.dropped == 17


def test_of_one_name_there_are_so_many_logs_only(tmp_path, monkeypatch):
    monkeypatch.setattr(_output, "_SAME_NAME", 3)
    folder = LogFolder(tmp_path)
    made = [folder.create("one") for _ in range(2)]
    for file, _ in made:
        os.close(file)
    assert [path.name for _, path in made] == ["one.log", "one.2.log"]
    with pytest.raises(FileExistsError, match="2 logs of this name exist"):
        folder.create("one")


def test_a_log_may_have_the_number_of_our_standard_input(tmp_path):
    """Of a process that was started without one, it is the first that is free."""
    code = """if 1:
        import os, sys
        from taskorch.executors._programs._output import LogFolder, OutputLog
        os.close(0)
        log = OutputLog(100)
        log.open(LogFolder(None), "one", sys.argv[1])
        log.write(b"it was written")
        assert os.fstat(0).st_size == 14
        log.close()
        try:
            os.fstat(0)
        except OSError:
            print("closed")
    """
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one.log")],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "closed\n"


# -- the executor ----------------------------------------------------------------------


@pytest.mark.parametrize("run_id", ["", "a\0b"])
def test_a_run_that_cannot_mark_its_programs_is_refused(run_id):
    with pytest.raises(ValueError, match="cannot mark processes"):
        ProgramExecutor(run_id=run_id)


def run(programs, code, ends):
    return programs.start(
        Program([sys.executable, "-c", code]), name="one", env={}, on_end=ends.append
    )


def test_what_a_program_wrote_is_let_go_with_its_end(tmp_path):
    programs = ProgramExecutor(run_id="letting-go", logs=tmp_path)
    ends = []
    process = run(programs, "print('let' + 'go' * 50)", ends)
    eventually(lambda: ends)
    programs.close(grace=1)
    assert ends[0].result.stdout_tail.startswith("letgo")
    gc.collect()
    tails = [one for one in gc.get_objects() if type(one) is Tail]
    assert process.pid
    assert not [tail for tail in tails if tail._data.startswith(b"letgo")]


def test_a_callback_that_does_not_return_holds_up_the_end_for_so_long_only(
    tmp_path, caplog
):
    programs = ProgramExecutor(run_id="held-up", logs=tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def on_end(_):
        begun.set()
        go_on.wait(PATIENCE)

    programs.start(Program(["true"]), name="one", env={}, on_end=on_end)
    assert begun.wait(PATIENCE)
    programs.close(grace=0, patience=0.01)
    assert "cannot be ended in time" in caplog.text
    go_on.set()
    programs.close(grace=0)


def test_a_supervisor_that_cannot_begin_says_so(tmp_path, monkeypatch, caplog):
    def none_left():
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(_loop.selectors, "DefaultSelector", none_left)
    programs = ProgramExecutor(run_id="gives-up", logs=tmp_path)
    ends = []
    run(programs, "", ends)
    eventually(lambda: ends)
    assert isinstance(ends[0].error, RuntimeError | OSError)
    assert "the supervisor of programs has to give up" in caplog.text
    programs.close(grace=1)


def test_a_start_that_is_interrupted_is_told_at_the_end(tmp_path, monkeypatch):
    """The supervisor has not been told of it."""
    programs = ProgramExecutor(run_id="interrupted", logs=tmp_path)
    ends = []
    run(programs, "", ends)
    eventually(lambda: ends)

    class Interrupt(BaseException):
        """As an interrupt, but for pytest."""

    def call(action):
        if not interrupted:
            interrupted.append(1)
            raise Interrupt
        before(action)

    interrupted = []
    before = programs._common.loop.call
    monkeypatch.setattr(programs._common.loop, "call", call)
    with pytest.raises(Interrupt):
        run(programs, "", ends)
    programs.close(grace=1)
    assert "ended before it was started" in str(ends[1].error)


def test_the_guardian_forgets_a_program_that_is_given_up(tmp_path, monkeypatch):
    """Its number is free, and may be somebody else's at our end."""
    programs = ProgramExecutor(run_id="given-up", logs=tmp_path)
    guard = programs._common.guard
    forgotten, ends = [], []
    remove = guard.remove
    monkeypatch.setattr(
        guard, "remove", lambda pid: forgotten.append(pid) or remove(pid)
    )
    process = run(programs, "import time; time.sleep(3600)", ends)
    eventually(lambda: process.pid)
    (begun,) = programs._runs
    programs._common.loop.call(lambda: begun.fail(ValueError("ours")))
    eventually(lambda: ends)
    assert forgotten == [process.pid]
    assert str(ends[0].error) == "ours"
    programs.close(grace=1)


class Begun:
    """An attempt that is a program, and what is told of it."""

    task_id, fence = "t", (1, 1)

    def __init__(self):
        self.task = Task("program", Program(["true"]))
        self.told = []

    def unstarted(self, error):
        self.told.append(("unstarted", error))

    def end(self, value=None, error=None):
        self.told.append(("failed" if error else "ended", error))


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EAGAIN, "unstarted"),
        (errno.EMFILE, "unstarted"),
        (errno.ENOENT, "failed"),
        (0, "ended"),
    ],
)
def test_where_there_is_no_room_a_program_has_not_begun(
    tmp_path, monkeypatch, number, told
):
    """It is begun later, and costs no attempt; what else is wrong fails it."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(_run, "spawn", refuse)
    programs = Programs(lambda: "no-room")
    programs.logs = tmp_path
    begun = Begun()
    programs.begin(begun)
    eventually(lambda: begun.told)
    programs.close(PATIENCE)
    ((what, error),) = begun.told
    assert what == told
    if told == "failed":
        assert isinstance(error, ProgramFailedError)
    elif number:
        assert error.errno == number
