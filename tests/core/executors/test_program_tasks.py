"""Programs through the facade: results, failures, limits, suspending and the end."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from tests.api.tools import PATIENCE, eventually, short_grace
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    Program,
    ProgramFailedError,
    ProgramResult,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    current_context,
)
from taskorch.core.executors._programs._executor import ProgramExecutor

PYTHON = [sys.executable, "-I", "-S", "-c"]
SOURCES = pathlib.Path(__file__).parents[3] / "src"

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def python(code: str, *args: str) -> list[str]:
    return [*PYTHON, textwrap.dedent(code), *args]


@pytest.fixture
def orch():
    with TaskOrchestrator() as orch:
        yield orch
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        assert run(orch, ["true"]).exit_code == 0
        stats = orch.get_stats()
        assert stats.leaked == 0


def run(orch: TaskOrchestrator, args, **options) -> ProgramResult:
    return orch.submit_task(Task.program(args, **options)).result(PATIENCE)


@pytest.fixture
def line(tmp_path):
    path = tmp_path / "line"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    text = []

    def hears(word: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            text.append(os.read(fd, 4096).decode())
        return word in "".join(text)

    yield str(path), hears
    os.close(fd)


def state_of(pid: int) -> str:
    """The letter of a process's state; "" if there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    return not is_alive(pid)


# -- results: what is read, given and withheld is in core/executors/test_programs.py ---


def test_a_program_gives_a_result(orch, tmp_path):
    """Exit code, both streams, log and duration of one that is given all that there is."""
    odd = ["$(touch x)", "; rm -rf", "a b", "", "*", "'\"", "-rf", "\n", "ü", "`x`"]
    code = """
        import os, sys
        sys.stderr.write(f"{os.getcwd()} {sys.stdin.read()}")
        sys.stdout.buffer.write(os.fsencode("|".join(sys.argv[1:])))
    """
    folder = tmp_path.resolve()
    result = run(orch, python(code, *odd), cwd=folder, stdin="Text ü")
    assert (result.exit_code, result.stdout_tail) == (0, "|".join(odd))
    assert result.stderr_tail == f"{folder} Text ü"
    assert result.duration > 0
    assert len(result.log_path.read_bytes()) == len(
        os.fsencode(result.stdout_tail + result.stderr_tail)
    )
    # Its input is closed, so one that asks does not hang.
    plain = run(orch, python(code))
    assert plain.stderr_tail == f"{pathlib.Path.cwd()} "
    with pytest.raises(ProgramFailedError, match="EOFError"):
        run(orch, python("input('name? ')"))


@pytest.mark.parametrize(
    ("word", "options"),
    [
        *(("args", {"args": a}) for a in ("ls -l", b"ls", 5, [], [""], ["ls", 5])),
        *(("args", {"args": a}) for a in (["ls", None], ["a\0b"])),
        *(
            ("env", {"env": env})
            for env in (["A=1"], {"A": 1}, {"": "1"}, {"A=B": "1"})
        ),
        *(
            ("env", {"env": {"A": "x\0y"}}),
            ("TASKORCH_RUN", {"env": {"TASKORCH_RUN": "x"}}),
        ),
        *(("inherit_env", {"inherit_env": names}) for names in ("HOME", False)),
        *(("cwd", {"cwd": folder}) for folder in ("", 5)),
        *(("stdin", {"stdin": 5}), ("check", {"check": "yes"})),
    ],
)
def test_what_is_wrong_is_refused_where_the_task_is_written(word, options):
    with pytest.raises((TypeError, InvalidTaskError), match=word):
        Task.program(**{"args": ["ls"], **options})


def test_the_environment_is_a_short_list_and_what_is_set(orch, monkeypatch):
    """Secrets of ours stay with us, unless they are named."""
    monkeypatch.setenv("MY_SECRET", "s3cr3t-canary")
    monkeypatch.setenv("LC_MINE", "c")
    given = ("HOME", "USER", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV")
    for name in given:
        monkeypatch.setenv(name, f"/{name}")
    code = "import os; print('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))"

    def env(**options):
        lines = run(orch, python(code), **options).stdout_tail.splitlines()
        return dict(line.partition("=")[::2] for line in lines if "=" in line)

    plain = env()
    assert "MY_SECRET" not in plain
    assert plain["LC_MINE"] == "c"
    assert plain["PATH"] == os.environ["PATH"]
    assert {name: plain.get(name) for name in given} == {n: f"/{n}" for n in given}
    assert env(inherit_env={"MY_SECRET"})["MY_SECRET"] == "s3cr3t-canary"
    assert env(inherit_env=True)["MY_SECRET"] == "s3cr3t-canary"
    assert env(env={"MY_SECRET": "other"})["MY_SECRET"] == "other"


def test_a_program_is_told_its_task_its_fence_and_its_run(orch):
    """Every attempt has its own fence, and all of one orchestrator one run."""
    code = """
        import os
        print(*[os.environ["TASKORCH_" + n] for n in ("TASK", "FENCE", "RUN")])
        raise SystemExit(os.environ["TASKORCH_FENCE"].endswith(".1"))
    """
    retry = RetryPolicy(max_attempts=2, base=0)
    handle = orch.submit_task(Task.program(python(code), id="job/1", retry=retry))
    task_id, fence, run_id = handle.result(PATIENCE).stdout_tail.split()
    assert (task_id, fence) == ("job/1", "1.2")
    other = run(orch, python(code), check=False).stdout_tail.split()
    assert other[2] == run_id
    assert other[1] == "1.1"
    with TaskOrchestrator() as second:
        assert run(second, python(code), check=False).stdout_tail.split()[2] != run_id


# -- failures ----------------------------------------------------------------------


def test_an_exit_code_is_a_failure_with_the_end_of_what_it_said(orch, monkeypatch):
    """The result and the names of the variables withheld are there too."""
    monkeypatch.setenv("MY_SECRET", "s3cr3t-canary")
    code = "import sys; print('half done'); sys.exit('no such file: x')"
    with pytest.raises(ProgramFailedError) as caught:
        run(orch, python(code), id="job")
    error = caught.value
    assert error.result.exit_code == 1
    assert error.result.stdout_tail == "half done\n"
    assert "MY_SECRET" in error.result.withheld_env
    text = str(error)
    assert "task job" in text
    assert "exited with code 1" in text
    assert "no such file: x" in text
    assert text.startswith("program '")
    assert "inherit_env" not in text
    assert len(text) < 250, text
    assert "s3cr3t-canary" not in text
    assert "s3cr3t-canary" not in repr(error.result)


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("echo out; printf 'first\\nlast of err\\n \\n' >&2", ": last of err (task"),
        ("printf 'first\\nlast of out\\n'; echo ' ' >&2", ": last of out (task"),
        (":", "code 3 (task"),
    ],
)
def test_a_failure_begins_with_what_was_said_last(orch, said, last):
    """Unless the exit code is not checked: then it is a result."""
    program = ["sh", "-c", f"{said}; exit 3"]
    with pytest.raises(ProgramFailedError) as caught:
        run(orch, program)
    assert last in caught.value.message
    assert run(orch, program, check=False).exit_code == 3


def test_who_was_killed_by_others_is_told_so(orch, monkeypatch):
    """And which variable it spoke of it did not have, before others that it lacks."""
    for name in "ABCD":
        monkeypatch.setenv(f"LACKS_{name}", "x")
    with pytest.raises(ProgramFailedError) as caught:
        run(orch, ["sh", "-c", "echo no LACKS_D >&2; kill -9 $$"])
    assert caught.value.result.exit_code == -9
    assert "was ended by signal 9" in caught.value.message
    assert caught.value.hint.startswith("taskorch did not send signal 9")
    assert caught.value.hint.endswith("; not inherited: LACKS_D; see inherit_env=")


def test_a_failure_says_nothing_of_variables_that_the_program_has_not_named(
    orch, monkeypatch
):
    monkeypatch.setenv("LACKS_A", "x")
    for said in ("", "echo bad; echo LACKS_A_TOO >&2; "):
        with pytest.raises(ProgramFailedError) as caught:
            run(orch, ["sh", "-c", f"{said}exit 3"])
        assert "LACKS_A" in caught.value.result.withheld_env
        assert not caught.value.hint


def test_a_program_that_is_not_there_fails_with_what_to_do(orch, tmp_path):
    """Not there, not executable, no program at all: each is told apart."""
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF nonsense")
    binary.chmod(0o755)
    seen = set()
    for args, options in (
        (["no-such-program-anywhere"], {}),
        ([str(tmp_path / "missing")], {}),
        ([str(plain)], {}),
        ([str(binary)], {}),
        ([str(tmp_path)], {}),
        (["true"], {"cwd": tmp_path / "nowhere"}),
    ):
        with pytest.raises(ProgramFailedError, match="could not be started") as caught:
            run(orch, args, check=False, **options)
        assert caught.value.result is None
        assert args[0] in str(caught.value)
        seen.add(str(caught.value))
    assert len(seen) == 6


def test_a_program_is_tried_again_like_any_task(orch, tmp_path):
    """A failure is a failure; every attempt has a log of its own."""
    marks = tmp_path / "marks"
    code = """
        import pathlib, sys
        marks = pathlib.Path(sys.argv[1])
        n = len(marks.read_text()) if marks.exists() else 0
        marks.write_text("x" * (n + 1))
        print("attempt", n + 1)
        raise SystemExit(n < 2)
    """
    retry = RetryPolicy(max_attempts=3, base=0)
    handle = orch.submit_task(Task.program(python(code, str(marks)), retry=retry))
    result = handle.result(PATIENCE)
    assert result.stdout_tail == "attempt 3\n"
    logs = sorted(result.log_path.parent.iterdir())
    assert [log.read_text() for log in logs] == [f"attempt {n}\n" for n in (1, 2, 3)]
    assert orch.get_task_status(handle.task_id).attempts == 3


def test_a_program_depends_on_others_like_any_task(orch):
    """What fails blocks it; what completes lets it start."""
    first = orch.submit_task(Task.program(["true"], id="first"))
    second = orch.submit_task(Task.program(["false"], id="second", after=[first]))
    third = orch.submit_task(Task.program(["true"], after=["second"]))
    with pytest.raises(Exception, match="blocked") as caught:
        third.result(PATIENCE)
    assert caught.value.root_causes == ("second",)
    assert first.result(PATIENCE).exit_code == 0
    assert isinstance(second.exception(PATIENCE), ProgramFailedError)


def test_ids_become_file_names_and_lead_nowhere_else(orch):
    """The log lies where all logs lie, under the task's id."""
    first = run(orch, ["true"], id="a/b/c")
    second = run(orch, ["true"], id="a/b/d")
    assert first.log_path.parts[-4:-1] == ("a", "b", "c")
    assert first.log_path.parents[1] == second.log_path.parents[1]


def test_64_kib_of_each_stream_stay_in_memory_and_64_mib_in_the_log(orch):
    """The end of what it printed, and the beginning."""
    both = (
        "head -c 67000000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero | tr '\\0' y"
    )
    result = run(orch, ["sh", "-c", f"{both}; echo no >&2"])
    assert result.log_path.stat().st_size == 64 * 2**20
    assert result.truncated_bytes == 67_200_003 - 64 * 2**20
    assert result.stdout_tail == "y" * (64 * 2**10)
    assert result.stderr_tail == "no\n"


# -- limits ------------------------------------------------------------------------


@linux
def test_a_running_program_that_is_cancelled_is_ended(orch, line):
    """SIGTERM lets it clean up; the task is CANCELLED when it has gone."""
    path, hears = line
    code = """
        import os, signal, sys, time
        # A buffer refuses to be written by a handler that interrupts its flush.
        out = open(sys.argv[1], "wb", buffering=0)
        def end(*_):
            out.write(b"cleaned"); os._exit(0)
        signal.signal(signal.SIGTERM, end)
        out.write(b"ready")
        time.sleep(1000)
    """
    handle = orch.submit_task(Task.program(python(code, path)))
    eventually(lambda: hears("ready"))
    assert handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    assert hears("cleaned")


@linux
def test_a_program_that_ignores_the_request_is_killed_and_no_slot_leaks(line):
    """After its grace comes SIGKILL: the task is CANCELLED, and its slot is free again."""
    path, hears = line
    code = """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        out = open(sys.argv[1], "w")
        out.write(f"pid={os.getpid()};"); out.flush()
        time.sleep(1000)
    """
    with short_grace(TaskOrchestrator(), 2.0) as orch:
        handle = orch.submit_task(Task.program(python(code, path)))
        eventually(lambda: hears(";"))
        began = time.monotonic()
        assert handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert time.monotonic() - began >= 0.5
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        assert orch.wait(PATIENCE)
        # Where the machine is too busy to see its end within the grace, the slot comes
        # back with that end.
        eventually(lambda: orch.health().status == "ok")


def test_a_program_that_runs_out_of_time_is_ended(orch):
    """The attempt fails with a TaskTimeoutError, and may be tried again."""
    retry = RetryPolicy(max_attempts=2, base=0)
    task = Task.program(["sleep", "1000"], timeout=0.05, retry=retry)
    with pytest.raises(TaskTimeoutError, match="attempt 2"):
        orch.submit_task(task).result(PATIENCE)
    assert orch.get_stats().failures == {"timeout": 1}


def test_a_program_that_is_cancelled_before_it_runs_never_starts(orch, tmp_path):
    """And one that is cancelled in the moment of its start leaves nothing."""
    mark = tmp_path / "mark"
    handle = orch.submit_task(Task.program(["touch", str(mark)], not_before=1_000))
    assert handle.cancel()
    handles = [orch.submit_task(Task.program(["sleep", "1000"])) for _ in range(5)]
    for each in handles:
        assert each.cancel()
    for each in (handle, *handles):
        with pytest.raises(TaskCancelledError):
            each.result(PATIENCE)
    assert not mark.exists()


# -- suspending --------------------------------------------------------------------


def cancel(orch, pid):
    """It is continued, so that it can see that it is to end."""
    assert orch.cancel_task("ticker")


def kill(orch, pid):
    """Its task does not stay SUSPENDED for ever."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    orch.resume_task("ticker")


def test_a_program_that_is_suspended_while_it_starts_is_stopped(monkeypatch):
    """The request is quicker than the thread that has started it."""
    start = ProgramExecutor.start
    made = []

    def slow(self, *args, **kwargs):
        made.append(start(self, *args, **kwargs))
        assert orch.suspend_task("sleeper")
        return made[0]

    monkeypatch.setattr(ProgramExecutor, "start", slow)
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.program(["sleep", "60"], id="sleeper"))
        # It is stopped, or held back before it was.
        eventually(lambda: made and made[0].is_stopped)
        assert orch.get_task_status("sleeper").state is TaskState.SUSPENDED
        assert orch.resume_task("sleeper")
        eventually(lambda: made[0].pid and state_of(made[0].pid) in ("S", "R"))
        assert handle.cancel()
        assert orch.wait(PATIENCE)


# -- many, and the end -------------------------------------------------------------


def test_many_programs_at_once_end_all(orch):
    """More than run at once are queued like any task."""
    handles = orch.submit_tasks(
        [Task.program(["sh", "-c", f"echo {n}; exit {n % 3}"]) for n in range(40)]
    )
    for n, handle in enumerate(handles):
        error = handle.exception(PATIENCE)
        result = handle.result() if error is None else error.result
        assert (result.exit_code, result.stdout_tail) == (n % 3, f"{n}\n")


def test_the_end_with_draining_waits_for_programs():
    """What runs comes to its end."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.program(["sleep", "0.05"]))
    assert handle.result(0).exit_code == 0


@linux
def test_programs_do_not_outlive_a_process_that_is_killed(tmp_path):
    """After `kill -9` of ours, the whole group of a program is ended."""
    code = f"""
        import sys, time
        sys.path.insert(0, {str(SOURCES)!r})
        from taskorch import Task, TaskOrchestrator
        orch = TaskOrchestrator()
        orch.start()
        orch.submit_task(Task.program(
            ["sh", "-c", "sleep 1000 & echo $$ $! > {tmp_path}/pids.new; "
             "mv {tmp_path}/pids.new {tmp_path}/pids; wait"]))
        time.sleep(1000)
    """
    ours = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    try:
        eventually((tmp_path / "pids").exists)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert not any(is_gone(pid) for pid in pids)
    finally:
        ours.kill()
        ours.wait(PATIENCE)
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))


# -- programs of workers --------------------------------------------------------------


@pytest.fixture
def shell(orch):
    """Adds a worker that runs programs; gives what submits a task of its."""

    def add(handler):
        orch.agent("shell", capabilities={"sh"}, executor="program")(handler)
        return lambda *payload, **options: orch.submit_task(
            Task("sh", *payload, **options)
        )

    return add


def test_a_worker_chooses_the_program_for_its_task(orch, shell):
    """The handler runs in a thread and returns what is to be run."""
    threads = []

    def choose(task, context):
        threads.append(threading.current_thread())
        assert context.task_id == "e1"
        return Program(["echo", task.payload])

    assert shell(choose)("hello", id="e1").result(PATIENCE).stdout_tail == "hello\n"
    assert threads[0] is not threading.main_thread()
    assert orch.get_stats().agents["shell"].completed == 1


def test_the_program_of_a_worker_fails_and_is_cancelled_like_any(orch, shell, line):
    """Exit codes, retries, and control while it runs."""
    submit = shell(lambda task, _: Program(["sh", "-c", task.payload]))
    with pytest.raises(ProgramFailedError, match="code 3"):
        submit("exit 3").result(PATIENCE)
    path, hears = line
    handle = submit(f"echo up > {path}; sleep 1000")
    eventually(lambda: hears("up"))
    assert orch.suspend_task(handle.task_id)
    assert orch.get_task_status(handle.task_id).state is TaskState.SUSPENDED
    assert handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)


def yields(task, context):
    yield ["true"]


def lacks(task, context):
    raise LookupError("no such script")


@pytest.mark.parametrize(
    ("handler", "error", "says"),
    [
        *(
            (lambda *_, value=value: value, InvalidTaskError, "runs programs.*not ")
            for value in (None, ["ls"], "ls", Task.program(["ls"]), 5)
        ),
        (yields, InvalidTaskError, "worker 'shell' runs programs"),
        (lacks, LookupError, "no such script"),
    ],
)
def test_a_worker_that_gives_no_program_fails_its_task(shell, handler, error, says):
    """The worker and what it gave stand in the error, or it is what it raised."""
    with pytest.raises(error, match=says):
        shell(handler)().result(PATIENCE)


def test_a_coroutine_function_chooses_no_programs(shell):
    """It is said when the worker is added."""

    async def choose(task, context):
        return Program(["ls"])

    with pytest.raises(InvalidTaskError, match="plain def"):
        shell(choose)


# -- a handler that goes on after its program ------------------------------------------


def test_a_handler_that_yields_its_program_makes_the_result_of_it(orch, shell):
    """It gets what the program has left, knows its attempt, and may say what it spent."""
    threads = []

    def choose(task, context):
        result = yield Program(["echo", task.payload])
        threads.append(threading.current_thread())
        assert current_context().task_id == context.task_id == "e1"
        context.spent(tokens=2)
        return result.stdout_tail.upper()

    submit = shell(choose)
    with orch.budget("b", tokens=10) as budget:
        handle = submit("hello", id="e1", resources={"tokens": 5})
        assert handle.result(PATIENCE) == "HELLO\n"
    assert budget.usage.spent == {"tokens": 2}
    # It keeps no thread of those that read what programs write.
    assert threads[0].name != "taskorch-programs"


def test_what_a_yielded_program_used_is_known_as_that_of_any(orch, shell):
    usages = []

    def hear(event):
        usages.append({name for name, much in event.usage if much})

    orch.signals.task_completed.connect(hear)
    command = [sys.executable, "-c", "sum(range(10**6))"]

    def choose(task, context):
        yield Program(command)

    orch.submit_task(Task.program(command)).result(PATIENCE)
    shell(choose)().result(PATIENCE)
    eventually(lambda: len(usages) == 2)
    assert "cpu_seconds" in usages[0] & usages[1]


def test_a_handler_is_told_how_its_program_failed(shell):
    """Or that it did not start; it may make a result of it, or let it pass."""
    ended = []

    def choose(task, context):
        try:
            yield Program(task.payload.split())
        except ProgramFailedError as error:
            if error.result is None:
                return "not started"
            raise
        finally:
            ended.append(task.payload)

    submit = shell(choose)
    assert submit("/no/such").result(PATIENCE) == "not started"
    with pytest.raises(ProgramFailedError, match="exited with code 1"):
        submit("false").result(PATIENCE)
    assert submit("true").result(PATIENCE) is None
    assert ended == ["/no/such", "false", "true"]


def test_a_handler_need_not_yield_and_yields_once(shell):
    """Without a program it is a plain handler; a second one is refused."""

    def choose(task, context):
        for _ in range(task.payload):
            yield Program(["true"])
        return "over"

    submit = shell(choose)
    assert submit(0).result(PATIENCE) == "over"
    assert submit(1).result(PATIENCE) == "over"
    with pytest.raises(InvalidTaskError, match="yielded a second program"):
        submit(2).result(PATIENCE)


def test_what_a_handler_raises_after_its_program_is_the_error_of_its_task(shell):
    """It is tried again, as any error; what the program used is known."""
    attempts = []

    def choose(task, context):
        yield Program(["true"])
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise LookupError("no such file")
        return context.attempt

    retry = RetryPolicy(max_attempts=2, base=0.01)
    assert shell(choose)(retry=retry).result(PATIENCE) == 2
    assert attempts == [1, 2]


def test_the_program_of_a_handler_that_waits_is_ended(orch, shell):
    """A cancel reaches the program, and then the handler."""
    ended = threading.Event()

    def choose(task, context):
        try:
            yield Program(["sleep", "600"])
        finally:
            ended.set()

    handle = shell(choose)()
    eventually(lambda: orch.status(handle.task_id).log_path is not None)
    assert handle.cancel()
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    assert ended.wait(PATIENCE)


# -- what belongs to a program ---------------------------------------------------------


def test_a_program_is_in_a_session_of_its_own(orch):
    """The terminal's Ctrl-C and hang-up are for us: what becomes of it we say."""
    code = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())"
    assert run(orch, python(code)).stdout_tail == "True\n"
