"""Programs: how they are started, read, stopped and ended, whatever they do."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import pathlib
import pickle
import queue
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

import attrs
import pytest
from tests.api.tools import Started
from tests.core.executors.tools import PATIENCE, eventually, is_alive, is_gone

from taskorch.core.executors._programs import (
    _executor,
    _guardian,
    _output,
    _run,
)
from taskorch.core.executors._programs._executor import (
    ProgramEnd,
    ProgramExecutor,
    ProgramProcess,
)
from taskorch.core.executors._programs._run import check_name
from taskorch.errors import InvalidTaskError
from taskorch.kit import processes
from taskorch.model import DEFAULT_ENV, Program, ProgramResult

SOURCES = pathlib.Path(_guardian.__file__).parents[4]
PYTHON = [sys.executable, "-I", "-S", "-c"]

# Runs until it is ended, without a child that could live on or miss a signal: a shell
# loses those that arrive between the fork and the exec of a child.
IDLE = "while :; do sleep 0.01; done"

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
run_ids = (f"test-{os.getpid()}-{n}" for n in itertools.count())


class Ends:
    """Starts programs and waits for their ends."""

    def __init__(self, executor: ProgramExecutor) -> None:
        self.executor = executor
        self.numbers = itertools.count(1)

    def start(self, *args, name=None, env=None, **options):
        ends: queue.SimpleQueue[ProgramEnd] = queue.SimpleQueue()
        process = self.executor.start(
            Program(args, **options),
            name=name or f"task/{next(self.numbers)}",
            env=env or {},
            on_end=ends.put,
        )
        return process, lambda: ends.get(timeout=PATIENCE)

    def end(self, *args, **options) -> ProgramEnd:
        return self.start(*args, **options)[1]()

    def run(self, *args, **options) -> ProgramResult:
        return result_of(self.end(*args, **options))

    def hold(self) -> threading.Event:
        """Keep the supervisor busy: nothing is started until this is set."""
        over, gate = threading.Event(), threading.Event()

        def hold(_):
            over.set()
            gate.wait(PATIENCE)

        self.executor.start(Program(["true"]), name="first", env={}, on_end=hold)
        assert over.wait(PATIENCE)
        return gate

    def error(self, *args, **options) -> BaseException:
        end = self.end(*args, **options)
        assert end.result is None
        assert end.error is not None
        return end.error


@pytest.fixture
def run_id() -> str:
    return next(run_ids)


@pytest.fixture
def make(tmp_path, run_id) -> Iterator[Callable[..., Ends]]:
    made = []

    def make(**options) -> Ends:
        options = {"run_id": run_id, "logs": tmp_path / "logs"} | options
        made.append(ProgramExecutor(**options))
        return Ends(made[-1])

    yield make
    for executor in made:
        executor.close(0)


@pytest.fixture
def programs(make) -> Ends:
    return make()


class Says:
    """A pipe with a name, by which programs tell the test how far they are."""

    def __init__(self, path: pathlib.Path) -> None:
        os.mkfifo(path)
        self.path = path
        # Opened for writing too, so that it never ends.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.rest = b""

    def line(self, patience: float = PATIENCE) -> str:
        deadline = time.monotonic() + patience
        while b"\n" not in self.rest:
            ready, _, _ = select.select(
                [self.fd], [], [], max(0, deadline - time.monotonic())
            )
            assert ready, f"nothing was said, but for {self.rest!r}"
            self.rest += os.read(self.fd, 4096)
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()


@pytest.fixture
def says(tmp_path) -> Iterator[Says]:
    says = Says(tmp_path / "says")
    yield says
    os.close(says.fd)


def state_of(process: ProgramProcess) -> str:
    state = process.pid and _guardian.state_of(process.pid)
    return state.letter if state else "not there"


def open_descriptors() -> int:
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def result_of(end: ProgramEnd) -> ProgramResult:
    assert end.error is None
    assert end.result is not None
    return end.result


def log_of(result: ProgramResult) -> bytes:
    assert result.log_path is not None
    return result.log_path.read_bytes()


# ------------------------------------------------------------------------ the model


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"args": "ls -l"}, TypeError, "['ls', '-l']"),
        ({"args": b"ls"}, TypeError, "list"),
        ({"args": None}, TypeError, "list"),
        ({"args": []}, InvalidTaskError, "first argument"),
        ({"args": ["", "x"]}, InvalidTaskError, "first argument"),
        ({"args": ["a", 1]}, TypeError, "args[1] is text, not int 1; use str(…)"),
        ({"args": ["a\0b"]}, InvalidTaskError, "NUL"),
        ({"args": [b"a\0b"]}, InvalidTaskError, "NUL"),
        ({"args": ["\ud800"]}, InvalidTaskError, "UTF-8"),
        ({"env": ["A"]}, TypeError, "mapping"),
        ({"env": {"A": 1}}, TypeError, "env['A'] is text, not int; use str(…)"),
        ({"env": {"": "x"}}, InvalidTaskError, "cannot name a variable"),
        ({"env": {"A=B": "x"}}, InvalidTaskError, "cannot name a variable"),
        ({"env": {"A": "\0"}}, InvalidTaskError, "NUL"),
        ({"env": {"TASKORCH_RUN": "x"}}, InvalidTaskError, "set by taskorch"),
        ({"inherit_env": "HOME"}, TypeError, "a set of names"),
        ({"inherit_env": False}, TypeError, "a set of names"),
        ({"inherit_env": {1}}, TypeError, "text"),
        ({"cwd": ""}, InvalidTaskError, "None for our own"),
        ({"cwd": 3}, TypeError, "cwd is text"),
        ({"cwd": b"/"}, TypeError, "os.fsdecode"),
        ({"cwd": "a\0"}, InvalidTaskError, "NUL"),
        ({"stdin": 3}, TypeError, "read_bytes"),
        ({"stdin": "\ud800"}, InvalidTaskError, "give bytes"),
        ({"check": 1}, TypeError, "True or False"),
        ({"reads": ["a", ""]}, InvalidTaskError, "an empty path names nothing"),
        ({"reads": ["a/../b"]}, InvalidTaskError, "leads out of its folder"),
    ],
)
def test_a_program_that_cannot_work_is_refused_with_the_remedy(options, error, says):
    """A malformed program is refused where it is written, and told what to do."""
    with pytest.raises(error) as caught:
        Program(**{"args": ["true"]} | options)
    assert says in str(caught.value)


def test_a_program_takes_text_bytes_and_paths():
    """Paths become text, bytes stay bytes, and a changed copy is made from its own."""
    program = Program(
        ["a", b"\xff", pathlib.Path("/b")],
        env={"X": "1"},
        inherit_env=["Y"],
        cwd=pathlib.Path("/"),
        reads=[pathlib.Path("/c"), "d"],
    )
    assert program.reads == ("/c", "d")
    assert program.args == ("a", b"\xff", "/b")
    assert program.cwd == "/"
    assert program.inherit_env == DEFAULT_ENV | {"Y"}
    assert attrs.evolve(program) == program
    assert pickle.loads(pickle.dumps(program)) == program
    assert hash(program) == hash(attrs.evolve(program))


def test_what_may_be_secret_is_not_shown():
    """The repr of a program names its variables and hides values and input."""
    program = Program(["a"], env={"B": "s3cret", "A": "s3cret"}, stdin="s3cret")
    assert repr(program) == (
        "Program(args=('a',), env={'A': …, 'B': …}, stdin=<6 characters>)"
    )
    program = Program(["a"], inherit_env={"X"}, stdin=b"s3cret")
    assert "inherit_env={'X'}" in repr(program)
    assert "stdin=<6 bytes>" in repr(program)
    assert "inherit_env=True" in repr(Program(["a"], inherit_env=True))


def test_a_name_with_a_star_stands_for_all_that_begin_so():
    """Names are inherited whole, or by their beginning where a rule ends in *."""
    program = Program(["a"], inherit_env={"AWS_*"})
    assert program.inherits("LC_ALL")
    assert program.inherits("AWS_REGION")
    assert program.inherits("PATH")
    assert not program.inherits("PATHS")
    assert Program(["a"], inherit_env=True).inherits("PATHS")


# ---------------------------------------------------------------------- what it gets


def test_a_program_reports_how_it_ended(programs):
    """The exit code arrives as it is, and the number of a killing signal negative."""
    result = programs.run("sh", "-c", "exit 7")
    assert result.exit_code == 7
    assert result.args == ("sh", "-c", "exit 7")
    assert result.duration > 0
    assert result.log_error is None
    assert programs.run("sh", "-c", "kill -KILL $$").exit_code == -signal.SIGKILL
    assert programs.run("true").exit_code == 0


def test_a_program_gets_few_of_our_variables_and_says_which_not(
    programs, run_id, monkeypatch
):
    """Only harmless and named variables are inherited; the others are named."""
    for name in ("LC_TIME", "ASKED", "AWS_KEY", "AWS_ID", "WITHHELD", "OVER"):
        monkeypatch.setenv(name, "ours")
    result = programs.run(
        "env",
        env={"TASKORCH_TASK": "t", "OVER": "orchestrator"},
        inherit_env={"ASKED"},
    )
    lines = set(result.stdout_tail.splitlines())
    assert lines >= {"LC_TIME=ours", "ASKED=ours", "OVER=orchestrator"}
    assert lines >= {"TASKORCH_TASK=t", f"TASKORCH_RUN={run_id}"}
    assert f"PATH={os.environ['PATH']}" in lines
    assert {"AWS_KEY", "AWS_ID", "WITHHELD"} <= set(result.withheld_env)
    assert {"LC_TIME", "ASKED", "OVER", "PATH"}.isdisjoint(result.withheld_env)
    assert list(result.withheld_env) == sorted(result.withheld_env)
    assert "WITHHELD" not in result.stdout_tail


def test_a_program_reads_nothing_unless_it_is_given_something(programs):
    """Standard input is at its end from the start, or after what was given."""
    assert programs.run("cat").stdout_tail == ""
    assert programs.run("cat", stdin="").stdout_tail == ""
    assert programs.run("cat", stdin="für\n").stdout_tail == "für\n"
    result = programs.run("cat", stdin=b"\0\xff")
    assert log_of(result) == b"\0\xff"


def test_input_that_is_not_wanted_does_not_end_us(tmp_path):
    """A process that chose to die of SIGPIPE does not die of a program's."""
    ours = """
        import signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for _ in range(5):
            start(["sh", "-c", "exec <&-; echo on"], stdin=b"x" * 2**20).result()
        executor.close(1)
        print("alive")
    """
    assert ours_says(ours, tmp_path) == ["alive"]


# ------------------------------------------------------------------------ its output


def test_every_byte_is_in_the_log_and_the_tail_is_text(programs):
    """Bytes that are no text reach the log unchanged, and the tail as U+FFFD."""
    code = (
        r"import os; os.write(1, bytes(range(256)) + b'caf\xc3\xa9'); os.write(2, b'e')"
    )
    result = programs.run(*PYTHON, code)
    log = log_of(result)
    assert log.replace(b"e", b"") == (bytes(range(256)) + b"caf\xc3\xa9").replace(
        b"e", b""
    )
    assert result.stdout_tail.startswith("\ufffd\x01")
    assert "\0" not in result.stdout_tail
    assert result.stdout_tail.endswith("\ufffdcafé")
    assert result.stderr_tail == "e"
    assert result.truncated_bytes == 0


def test_a_line_of_a_megabyte_is_a_line_like_others(programs):
    """No limit on the length of a line: the log has all, the tail its end."""
    result = programs.run(*PYTHON, "print('x' * 1_000_000 + 'end')")
    assert log_of(result) == b"x" * 1_000_000 + b"end\n"
    assert result.stdout_tail == "x" * (2**16 - 4) + "end\n"


@pytest.mark.parametrize("name", ["", "a//b", "/a", "a/", ".", "../a", "a/..", "a\0b"])
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="no safe path"):
        check_name(name)


def test_output_beyond_the_limit_is_counted(make):
    """The log takes so much and no more, and the program is not held up."""
    programs = make(max_log_bytes=1000)
    result = programs.run(*PYTHON, "print('x' * 99_999); print('end')")
    assert log_of(result) == b"x" * 1000
    assert result.truncated_bytes == 100_004 - 1000
    assert result.stdout_tail.endswith("x\nend\n")
    assert result.log_error is None


def test_much_output_needs_little_memory(tmp_path):
    """Two hundred megabytes pass through without memory growing by them."""
    ours = """
        import resource
        start(["true"]).result()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = start(["head", "-c", "200000000", "/dev/zero"]).result()
        print(end.result.exit_code, end.result.truncated_bytes)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        executor.close(1)
    """
    first, grown = ours_says(ours, tmp_path, max_log_bytes=2**20)
    assert first == f"0 {200_000_000 - 2**20}"
    assert int(grown) < 8 * 1024  # in kilobytes


def test_no_link_leads_a_log_elsewhere(programs, tmp_path):
    """Links among the logs are not followed, and the program runs all the same."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a").symlink_to(outside)
    (tmp_path / "logs/b.log").symlink_to(outside / "b.log")
    result = programs.run("echo", "x", name="a/1")
    assert result.log_path is None
    assert "could not be made" in result.log_error
    assert result.stdout_tail == "x\n"
    assert result.truncated_bytes == 2
    assert programs.run("true", name="b").log_path == tmp_path / "logs/b.2.log"
    assert list(outside.iterdir()) == []


def test_a_name_that_leads_elsewhere_is_refused(programs):
    """A name is a path below the folder of the logs, or the program is not started."""
    for name in ("../x", "/x", "a//b", "a/./b", "a\0b"):
        assert isinstance(programs.error("true", name=name), ValueError)


def test_a_log_that_cannot_be_made_stops_nobody(make, tmp_path):
    """Without a log the program runs, and its result says why there is none."""
    (tmp_path / "file").touch()
    result = make(logs=tmp_path / "file/logs").run("echo", "x")
    assert result.exit_code == 0
    assert result.log_path is None
    assert "could not be made" in result.log_error
    assert result.stdout_tail == "x\n"


def test_a_log_that_cannot_be_written_stops_nobody(programs, monkeypatch):
    """When the disk is full the log ends, the program does not."""
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if pathlib.Path(f"/proc/self/fd/{fd}").readlink().suffix == ".log":
            if len(data) > 10:
                return write(fd, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(_output.os, "write", full)
    result = programs.run("printf", "0123456789abc")
    assert result.exit_code == 0
    assert log_of(result) == b"0123456789"
    assert result.truncated_bytes == 3
    assert "No space left" in result.log_error
    assert result.stdout_tail == "0123456789abc"


def test_what_goes_wrong_as_the_log_is_closed_is_in_the_result(programs, monkeypatch):
    """As a full disk across a network does."""
    close = _output.OutputLog.close

    def full(log: _output.OutputLog) -> None:
        close(log)
        log.error = "the disk is full"

    monkeypatch.setattr(_output.OutputLog, "close", full)
    assert programs.run("true").log_error == "the disk is full"


def test_logs_in_memory_stay_until_the_interpreter_exits(tmp_path):
    """Without a folder, logs are in a temporary one that the exit removes."""
    ours = """
        import os, pathlib
        path = start(["echo", "x"]).result().result.log_path
        executor.close(1)
        print(path)
        # Flushed, or the child would leave what is printed so far a second time.
        print(path.read_text().strip(), flush=True)
        if (child := os.fork()) == 0:
            raise SystemExit
        os.waitpid(child, 0)
        print(path.exists())
    """
    path, text, exists = ours_says(ours, tmp_path, logs=None)
    assert (text, exists) == ("x", "True")
    assert not pathlib.Path(path).parent.exists()


# ------------------------------------------------------------------ what cannot start


def test_what_cannot_be_started_says_why_and_what_to_do(programs, tmp_path):
    """Each reason for which a program does not start has its error and its advice."""
    plain = tmp_path / "plain"
    plain.write_text("x")
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o700)
    shapeless = tmp_path / "shapeless"
    shapeless.write_bytes(b"\1\2\3")
    shapeless.chmod(0o700)
    for args, options, kind, message in [
        (["no-such-program"], {}, FileNotFoundError, "not on the PATH"),
        (
            ["./no-such"],
            {"cwd": tmp_path},
            FileNotFoundError,
            str(tmp_path / "no-such"),
        ),
        ([lost], {}, FileNotFoundError, "named after its #!"),
        ([plain], {}, PermissionError, "chmod +x"),
        ([tmp_path], {}, PermissionError, "not executable"),
        ([shapeless], {}, OSError, "#!/bin/sh"),
        (["true"], {"cwd": tmp_path / "no"}, FileNotFoundError, "make the folder"),
        (["true"], {"cwd": plain}, NotADirectoryError, "make the folder"),
        (["true", "x" * 3_000_000], {}, OSError, "stdin or a file"),
    ]:
        error = programs.error(*args, **options)
        assert isinstance(error, kind), args[0]
        assert message in str(error), args[0]
    assert error.errno == errno.E2BIG
    assert error.__cause__ is not None


def test_our_own_folder_may_be_gone(tmp_path):
    """Programs start from a folder that has been deleted under us."""
    code = f"""
        folder = Path({str(tmp_path)!r}, "gone")
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()
        print(start(["echo", "x"]).result().result.stdout_tail.strip())
        print(start(["./no-such"]).result().error)
        executor.close(5)
    """
    done, error = ours_says(code, tmp_path)
    assert done == "x"
    assert "there is no file 'no-such'" in error


def test_without_descriptors_a_program_is_reported_as_not_started(tmp_path):
    """EMFILE is an end like others, with its number, and passes."""
    ours = """
        import resource
        start(["true"]).result()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        for _ in range(12):
            end = start(["true"]).result()
            print(end.error)
            os.close(held.pop())
            if end.error is None:
                break
        executor.close(1)
    """
    *errors, last = ours_says(ours, tmp_path)
    assert last == "None"
    assert 2 <= len(errors) < 12
    assert all("ulimit -n" in error for error in errors)


def test_without_descriptors_for_ourselves_nobody_waits_for_ever(tmp_path):
    """A supervisor that cannot begin tells so, and the next start tries again."""
    ours = """
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        print(start(["true"]).result().error)
        for fd in held:
            os.close(fd)
        print(start(["true"]).result().result.exit_code)
        executor.close(1)
    """
    error, code = ours_says(ours, tmp_path)
    assert "Too many open files" in error
    assert code == "0"


# ------------------------------------------------------------------ ending, stopping


@linux
def test_what_has_left_the_group_is_asked_to_end_too(make, says):
    """A child in a session of its own gets SIGTERM when its program was ended."""
    programs = make(drain_quiet=0.05)
    script = (
        f'setsid sh -c \'trap "echo bye > {says.path}; exit" TERM;'
        f"echo $$ > {says.path}; {IDLE}' & wait"
    )
    process, wait = programs.start("sh", "-c", script)
    stray = int(says.line())
    process.terminate(PATIENCE)
    assert wait().result.exit_code == -signal.SIGTERM
    assert says.line() == "bye"
    eventually(lambda: is_gone(stray))


@linux
def test_the_helpers_of_a_child_that_tidies_up_are_left_alone(programs, says):
    """What a child starts in its grace, to tidy up with, is not asked to end."""
    child = f"trap 'sleep 0.2 && echo tidy > $0; exit' TERM;echo up > $0; {IDLE}"
    process, wait = programs.start(
        "sh", "-c", 'sh -c "$1" "$0" >/dev/null 2>&1 & wait', str(says.path), child
    )
    says.line()
    process.terminate(PATIENCE)
    assert wait().result.exit_code == -signal.SIGTERM
    assert says.line() == "tidy"


@linux
def test_a_program_can_be_stopped_and_resumed(programs, says):
    """A stopped program stands still, as its state in /proc shows, and goes on."""
    script = f"echo up > {says.path}; read x < {says.path}.go; exit 4"
    os.mkfifo(f"{says.path}.go")
    process, wait = programs.start("sh", "-c", script)
    says.line()
    assert process.stop()
    eventually(lambda: state_of(process) == "T")
    assert process.resume()
    eventually(lambda: state_of(process) in "SR")
    pathlib.Path(f"{says.path}.go").write_text("go\n")
    assert wait().result.exit_code == 4
    assert process.stop() is False
    assert process.resume() is False


@linux
def test_a_program_can_be_stopped_before_it_is_started(programs):
    """To stop what waits to be started holds it back until it is resumed."""
    gate = programs.hold()
    resumed, resumed_end = programs.start("sh", "-c", "exit 3")
    ended, ended_end = programs.start("true")
    for process in (resumed, ended):
        assert process.stop()
    gate.set()
    programs.run("true")
    assert resumed.pid is None
    assert resumed.resume()
    assert resumed_end().result.exit_code == 3
    ended.terminate(PATIENCE)
    assert "before it was started" in str(ended_end().error)


@linux
def test_a_program_can_be_stopped_while_it_is_started(programs, monkeypatch):
    """What is stopped in the moment of its start is stopped right after it."""
    spawn = _run.spawn

    def stop(program, *args):
        child = spawn(program, *args)
        if program.args == ("sleep", "60"):
            assert process.stop()
        return child

    gate = programs.hold()
    monkeypatch.setattr(_run, "spawn", stop)
    process, wait = programs.start("sleep", "60")
    gate.set()
    eventually(lambda: state_of(process) == "T")
    assert process.resume()
    eventually(lambda: state_of(process) == "S")
    process.kill()
    assert wait().result.exit_code == -signal.SIGKILL


def test_signals_after_the_end_are_harmless(programs):
    """A process that has ended can be asked anything, often, without effect."""
    process, wait = programs.start("true")
    assert wait().result.exit_code == 0
    process.terminate(0)
    process.kill()
    process.kill()
    assert process.stop() is False
    assert process.resume() is False
    assert programs.run("true").exit_code == 0


# ----------------------------------------------------------------- what it leaves


def test_a_child_that_never_stops_writing_does_not_hold_us_up(make):
    """Reading after the end has a limit, however much still comes."""
    programs = make(drain_limit=0.2, leftover_grace=0.05)
    result = programs.run("sh", "-c", "(trap '' TERM; exec yes) & exit 5")
    assert result.exit_code == 5
    assert result.stdout_tail.startswith("y\n")


def test_what_a_program_left_is_killed_if_it_ignores_sigterm(make, says):
    """A child that ignores SIGTERM has the grace of leftovers, then SIGKILL."""
    programs = make(drain_quiet=0.05, leftover_grace=0.05)
    script = f"trap '' TERM; sleep 60 & echo $! > {says.path}; exit 5"
    assert programs.run("sh", "-c", script).exit_code == 5
    child = int(says.line())
    eventually(lambda: is_gone(child))


def test_leftovers_can_be_killed_at_once(make, says):
    """To kill a program that left something ends that without its grace."""
    programs = make(drain_quiet=0.05, leftover_grace=PATIENCE)
    script = (
        'sh -c \'trap "echo asked > $0" TERM; echo $$ > $0; '
        f"{IDLE}' {says.path} & "
        f"read x < {says.path}.go"
    )
    os.mkfifo(f"{says.path}.go")
    process, wait = programs.start("sh", "-c", script)
    child = int(says.line())
    pathlib.Path(f"{says.path}.go").write_text("go\n")
    assert says.line() == "asked"
    process.kill()
    assert wait().result.exit_code == 0
    eventually(lambda: is_gone(child))


# ------------------------------------------------------------------------- many, end


def test_callbacks_run_on_one_thread_and_may_raise(programs, caplog):
    """All ends are told on the supervisor's thread, which survives what they raise."""
    threads = queue.SimpleQueue()

    def fail(_end: ProgramEnd) -> None:
        threads.put(threading.current_thread())
        raise SystemExit

    for args in (["true"], ["no-such-program"]):
        programs.executor.start(Program(args), name="x", env={}, on_end=fail)
    first = threads.get(timeout=PATIENCE)
    assert first is threads.get(timeout=PATIENCE)
    assert first.daemon
    assert first is not threading.current_thread()
    assert programs.run("true").exit_code == 0
    assert "on_end of program 'x' failed" in caplog.text


def test_close_ends_what_runs_and_waits_for_it(programs, says):
    """When close returns, every program has ended and every end was told."""
    waits = []
    for trap in ("exit 3", ""):
        script = f"trap '{trap}' TERM; echo up > {says.path}; {IDLE}"
        waits.append(programs.start("sh", "-c", script)[1])
    says.line()
    says.line()
    programs.executor.close(0.2)
    assert [wait().result.exit_code for wait in waits] == [3, -signal.SIGKILL]
    programs.executor.close(0.2)
    with pytest.raises(RuntimeError, match="closed"):
        programs.start("true")


def test_an_executor_that_started_nothing_has_nothing_to_close(run_id):
    """The constructor makes no thread, no file and no process."""
    before = threading.active_count(), open_descriptors()
    executor = ProgramExecutor(run_id=run_id)
    assert (threading.active_count(), open_descriptors()) == before
    executor.close(5)
    with pytest.raises(ValueError, match="run_id"):
        ProgramExecutor(run_id="")


@pytest.mark.parametrize("how", ["unknown", "no descriptors"])
def test_without_pidfds_ends_are_seen_all_the_same(programs, monkeypatch, how):
    """An old kernel, or a lack of descriptors, makes us ask now and then instead."""

    def refuse(_pid: int) -> int:
        number = errno.ENOSYS if how == "unknown" else errno.EMFILE
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert programs.run("sh", "-c", "exit 7").exit_code == 7
    process, wait = programs.start("sleep", "60")
    eventually(lambda: process.pid is not None)
    process.terminate(5)
    assert wait().result.exit_code == -signal.SIGTERM
    result = programs.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    eventually(lambda: is_gone(int(result.stdout_tail)))


def test_an_exit_code_that_went_to_another_is_an_error(tmp_path):
    """With SIGCHLD ignored the system throws exit codes away, and we say so."""
    ours = """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print(start(["true"]).result().error)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        print(start(["true"]).result().result.exit_code)
        executor.close(1)
    """
    lost, code = ours_says(ours, tmp_path)
    assert "SIGCHLD is ignored" in lost
    assert code == "0"


def test_a_fault_of_ours_ends_one_program_and_is_told(programs, monkeypatch, caplog):
    """A bug, or a lack of memory, costs one program and not all."""
    process, wait = programs.start("sleep", "60")
    eventually(lambda: process.pid is not None)

    def fail(_child: object) -> int:
        raise MemoryError

    monkeypatch.setattr(_run, "exit_code_of", fail)
    process.kill()
    assert isinstance(wait().error, MemoryError)
    monkeypatch.undo()
    assert programs.run("true").exit_code == 0
    assert "is given up" in caplog.text


def test_a_program_that_is_given_up_has_begun(programs, monkeypatch):
    """Which an OSError would deny; it is only the cause."""
    process, wait = programs.start("sleep", "60")
    eventually(lambda: process.pid is not None)
    cause = OSError(errno.EIO, "Input/output error")

    def fail(_child: object) -> int:
        raise cause

    monkeypatch.setattr(_run, "exit_code_of", fail)
    process.kill()
    error = wait().error
    assert isinstance(error, RuntimeError)
    assert error.__cause__ is cause
    assert "was given up: [Errno 5]" in str(error)


@linux
def test_a_program_that_is_given_up_leaves_no_descriptor(programs, monkeypatch):
    assert programs.run("true").exit_code == 0
    before = open_descriptors()
    process, wait = programs.start("sleep", "60")
    eventually(lambda: process.log_path is not None)

    def fail(_child: object) -> int:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(_run, "exit_code_of", fail)
        process.kill()
        assert isinstance(wait().error, MemoryError)
    assert open_descriptors() == before


@linux
def test_who_is_killed_is_killed_once(make, says, monkeypatch):
    """Though its output stays open: what holds it is beyond our reach."""
    kills = []
    kill_group = ProgramProcess.kill_group

    def counted(process: ProgramProcess) -> None:
        kills.append(process)
        kill_group(process)

    monkeypatch.setattr(ProgramProcess, "kill_group", counted)
    programs = make(drain_quiet=0.2, drain_limit=0.2)
    script = (
        "env -u TASKORCH_RUN -u TASKORCH_PROGRAM setsid sleep 60 & "
        f"echo $! > {says.path}; {IDLE}"
    )
    process, wait = programs.start("sh", "-c", script)
    daemon = int(says.line())
    eventually(lambda: (s := _guardian.state_of(daemon)) and s.session == daemon)
    try:
        process.kill()
        assert wait().result.exit_code == -signal.SIGKILL
        assert is_alive(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)
    assert kills == [process]


# ----------------------------------------------------------- processes of our own


OURS = """
import os, sys, threading
from concurrent.futures import Future
from pathlib import Path
sys.path.insert(0, {sources!r})
from taskorch.core.executors._programs._executor import ProgramExecutor
from taskorch.model import Program

executor = ProgramExecutor({options})

def start(args, **options):
    end = Future()
    end.process = executor.start(
        Program(args, **options), name="a/1", env={{}}, on_end=end.set_result
    )
    return end
"""


def ours(code: str, tmp_path: pathlib.Path, **options: object) -> list[str]:
    """The command of a Python that uses an executor of its own."""
    options = {"run_id": next(run_ids), "logs": tmp_path / "logs"} | options
    given = ", ".join(
        f"{name}=Path({str(value)!r})"
        if isinstance(value, pathlib.Path)
        else f"{name}={value!r}"
        for name, value in options.items()
    )
    head = OURS.format(sources=str(SOURCES), options=given)
    return [sys.executable, "-c", head + textwrap.dedent(code)]


def ours_says(
    code: str, tmp_path: pathlib.Path, *, measured: bool = True, **options: object
) -> list[str]:
    """
    What such a Python prints, line by line.

    One that forks while threads run is not measured: what measures it holds locks.
    """
    env = {k: v for k, v in os.environ.items() if measured or k[:9] != "COVERAGE_"}
    done = subprocess.run(
        ours(code, tmp_path, **options),
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextlib.contextmanager
def running(code: str, tmp_path: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    """Such a Python, that listens to us; it does not outlive the test."""
    with Started(
        ours(code, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as us:
        try:
            yield us
        finally:
            us.kill()


FAMILY = """
    sleep 60 & echo $! > {says};
    setsid sleep 60 & echo $! > {says};
    env -i sleep 60 & echo $! > {says};
    echo $$ > {says}; trap '' TERM HUP INT; wait; wait; wait
"""


@linux
def test_when_we_are_killed_all_programs_die(tmp_path, says):
    """After a kill -9 neither program, child nor setsid'ed grandchild lives on."""
    code = f"""
        start(["sh", "-c", {FAMILY.format(says=says.path)!r}])
        threading.Event().wait()
    """
    with running(code, tmp_path):
        pids = [int(says.line()) for _ in range(4)]
        assert all(is_alive(pid) for pid in pids)
    eventually(lambda: all(is_gone(pid) for pid in pids))


@linux
def test_a_fork_of_ours_does_not_hide_our_death(tmp_path, says):
    """A child that was forked without exec does not keep the programs alive."""
    code = f"""
        start(["sh", "-c", {FAMILY.format(says=says.path)!r}])
        input()
        held = os.dup(executor._common.guard._socket.fileno())
        child = os.fork()
        if child:
            print(child, flush=True)
        threading.Event().wait()
    """
    with running(code, tmp_path) as us:
        pids = [int(says.line()) for _ in range(4)]
        assert us.stdin is not None
        assert us.stdout is not None
        us.stdin.write(b"go\n")
        us.stdin.flush()
        fork = int(us.stdout.readline())
        us.kill()
        us.wait()
        eventually(lambda: all(is_gone(pid) for pid in pids))
        assert is_alive(fork)
        os.kill(fork, signal.SIGKILL)


@linux
def test_the_interpreter_may_exit_without_closing(tmp_path, says):
    """If nobody closes the executor, the exit ends the programs."""
    code = f"""
        start(["sh", "-c", {FAMILY.format(says=says.path)!r}])
        input()
    """
    with running(code, tmp_path) as us:
        pids = [int(says.line()) for _ in range(4)]
        us.communicate(b"go\n", timeout=PATIENCE)
        assert us.returncode == 0
    eventually(lambda: all(is_gone(pid) for pid in pids))


def test_a_fork_of_ours_leaves_our_programs_alone(tmp_path):
    """In a forked child nothing that is done to a program reaches it."""
    code = """
        end = start(["sleep", "60"])
        while end.process.pid is None:
            pass
        child = os.fork()
        if not child:
            end.process.terminate(0)
            end.process.kill()
            assert end.process.stop() is False
            executor.close(0)
            try:
                start(["true"])
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        print(os.kill(end.process.pid, 0))
        end.process.terminate(5)
        print(end.result().result.exit_code)
        executor.close(5)
    """
    error, alive, exit_code = ours_says(code, tmp_path, measured=False)
    assert "make a new one here" in error
    assert (alive, exit_code) == ("None", str(-signal.SIGTERM))


def test_to_the_child_of_a_fork_it_says_whose_it_is(programs, monkeypatch):
    """And what is closed there stays open here."""
    assert programs.run("true").exit_code == 0
    ours = os.getpid()
    with monkeypatch.context() as patch:
        # As it is in the child.
        patch.setattr(_executor.os, "getpid", lambda: 1)
        with pytest.raises(RuntimeError, match=f"belongs to process {ours}, of which"):
            programs.start("true")
        programs.executor.close(0)
    assert programs.run("true").exit_code == 0


def test_an_executor_may_be_made_before_a_fork_and_used_after_it(tmp_path):
    """As long as it has started nothing an executor belongs to nobody."""
    code = """
        if not (child := os.fork()):
            print(start(["true"]).result().result.exit_code)
            executor.close(5)
            sys.exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        print(start(["true"]).result().result.exit_code)
        executor.close(5)
    """
    assert ours_says(code, tmp_path) == ["0", "0"]


def test_a_fork_of_ours_does_not_keep_the_input_open(tmp_path, says):
    """A program sees the end of its input though a forked child lives on."""
    code = f"""
        script = "echo up > {says.path}; read x < {says.path}.go; wc -c"
        end = start(["sh", "-c", script], stdin=b"x" * 2**20)
        input()
        child = os.fork()
        if not child:
            threading.Event().wait()
        with open("{says.path}.go", "w") as go:
            go.write("go\\n")
        print(end.result().result.stdout_tail.strip())
        os.kill(child, 9)
        executor.close(5)
    """
    os.mkfifo(f"{says.path}.go")
    with running(code, tmp_path) as us:
        says.line()
        out, _ = us.communicate(b"go\n", timeout=PATIENCE)
    assert int(out) == 2**20


def test_forks_may_happen_while_programs_are_started(tmp_path):
    """A fork in the midst of a start neither hangs us nor holds a pipe open."""
    code = """
        children = []

        def fork():
            for _ in range(40):
                child = os.fork()
                if not child:
                    threading.Event().wait()
                children.append(child)

        forks = threading.Thread(target=fork)
        forks.start()
        ends = []
        while forks.is_alive() or len(ends) < 40:
            ends.append(start(["cat"], stdin=b"x" * 100_000))
            ends[-1].result(60)
        print({end.result().result.exit_code for end in ends})
        print(max(end.result().result.duration for end in ends) < 10)
        for child in children:
            os.kill(child, 9)
        executor.close(5)
    """
    assert ours_says(code, tmp_path) == ["{0}", "True"]


def test_a_start_that_hangs_does_not_hold_up_a_fork(monkeypatch):
    """A fork waits for a start only so long, and the child has nothing to wait for."""
    monkeypatch.setattr(processes, "_FORK_PATIENCE", 0.01)
    gate = processes._Gate()
    with gate:
        gate.before_fork()
        gate.after_fork()
        assert gate._lock.locked()
    gate.before_fork()
    assert gate._lock.locked()
    gate.after_fork()
    assert not gate._lock.locked()
    gate.before_fork()
    gate.after_fork_in_child()
    with gate:
        pass


def test_without_an_interpreter_there_is_no_guardian_and_a_warning(
    programs, monkeypatch, caplog
):
    """Where Python is embedded programs run all the same, and the log says so."""
    monkeypatch.setattr(sys, "executable", "")
    assert programs.run("true").exit_code == 0
    assert programs.run("true").exit_code == 0
    assert caplog.text.count("may outlive this process") == 1


@linux
def test_the_guardian_kills_what_carries_the_mark(says, run_id, monkeypatch):
    """Only the exact entry counts, and what is registered dies without it."""
    monkeypatch.setattr(_guardian, "_LONGEST_PAUSE", 0.05)
    mark = f"TASKORCH_RUN={run_id}"
    script = f"echo up > {says.path}; exec sleep 60"

    def child(name: str, value: str) -> subprocess.Popen[bytes]:
        return Started(["sh", "-c", script], env={name: value}, start_new_session=True)

    marked = child("TASKORCH_RUN", run_id)
    registered = child("A", "b")
    others = [child("TASKORCH_RUN", run_id + "0"), child("XTASKORCH_RUN", run_id)]
    for _ in range(4):
        says.line()
    _guardian._end({registered.pid}, mark.encode())
    assert marked.wait(PATIENCE) == registered.wait(PATIENCE) == -signal.SIGKILL
    for other in others:
        assert other.poll() is None
        other.kill()
        other.wait()
