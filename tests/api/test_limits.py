"""Programs are held to what they declare: limits, by each way that a machine may have."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportOptionalMemberAccess=false, reportCallIssue=false

from __future__ import annotations

import ast
import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import (
    Elastic,
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
)
from taskorch.api.executors import processes
from taskorch.core.executors._programs import _governor
from taskorch.errors import (
    MemoryLimitError,
    ProgramFailedError,
    TaskTimeoutError,
    UnenforceableError,
)
from taskorch.ext.command_line import main as taskorch_main
from taskorch.ext.recovery import Grow, RecoveryHandler, Row
from taskorch.policies import Measured, ProportionalAllocator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux holds limits")

PYTHON = [sys.executable, "-I", "-S", "-c"]
VARIABLE = "TASKORCH_CGROUP"
#: Seconds that a program sleeps which is not to end by itself.
LONG = "import time; time.sleep(600)"
ZEROS = "bytearray(120 << 20)"
HOGS = {
    "itself": f"x = {ZEROS}; import time; time.sleep(600)",
    "of two forks": f"""
        import os, time
        if os.fork():
            time.sleep(600)
        os.setsid()
        if os.fork():
            os._exit(0)
        x = {ZEROS}
        time.sleep(600)
        """,
    "mapped": """
        import mmap
        x = mmap.mmap(-1, 120 << 20)
        for at in range(0, 120 << 20, 4096):
            x[at] = 1
        import time
        time.sleep(600)
        """,
    "of threads": """
        import threading
        kept = []
        def take():
            for _ in range(12):
                kept.append(bytearray(2 << 20))
        threads = [threading.Thread(target=take) for _ in range(5)]
        for each in threads: each.start()
        for each in threads: each.join()
        import time
        time.sleep(600)
        """,
    "stopped": """
        import os, signal, time
        if os.fork() == 0:
            x = bytearray(30 << 20)
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.1)
        x = bytearray(80 << 20)
        time.sleep(600)
        """,
}


def python(code: str, *args: str) -> list[str]:
    return [*PYTHON, textwrap.dedent(code), *args]


@pytest.fixture(scope="module")
def best() -> str:
    """What holds memory here, if it may be anything."""
    with TaskOrchestrator() as orch:
        return run(orch, "pass", limits={"memory_mb": 100}).enforced


@pytest.fixture(scope="module", params=["group", "watch"])
def way(request, best):
    """By what limits are held; the orchestrator of the test is made after it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "watch":
            patch.setenv(VARIABLE, "off")
        elif best == "watch":
            pytest.skip("there is no cgroup here in which we may make groups")
        yield request.param


@pytest.fixture(scope="module")
def orch(way):
    with TaskOrchestrator(concurrency=4) as orch:
        yield orch


@pytest.fixture
def group(way):
    if way == "watch":
        pytest.skip("only a group holds that")


def need(orch, **limits):
    """Who may make groups for memory may not make them for all else."""
    try:
        run(orch, "pass", limits=limits)
    except UnenforceableError as error:
        pytest.skip(str(error))


def run(orch, code: str, **options):
    return orch.submit_task(Task.program(python(code), **options)).result(PATIENCE)


def failed(orch, code: str, **options):
    handle = orch.submit_task(Task.program(python(code), **options))
    return handle.exception(PATIENCE)


# -- memory --------------------------------------------------------------------------


def test_who_keeps_the_limit_is_measured(orch, way):
    """The result says what it used, what it was held to, and by what."""
    # Above ours: without a group, the system tells nothing of what is below.
    large = 30 if way == "group" else _ours() + 30
    most = large + 90
    code = f"x = bytearray({large} << 20)"
    result = run(orch, code, limits={"memory_mb": most, "cpu_seconds": 60})
    assert result.exit_code == 0
    assert dict(result.limits) == {"memory_mb": most, "cpu_seconds": 60}
    assert result.enforced.startswith("cgroup-v" if way == "group" else "watch")
    assert large <= result.memory_mb <= most
    assert 0 < result.cpu_seconds < 60
    assert result.processes >= 1
    assert (result.exceeded, result.unenforced) == ("", ())


@pytest.mark.parametrize("kind", HOGS)
def test_a_hog_is_ended_with_all_it_has_started(orch, way, kind):
    """And the error says how much it had, of how much, and who held it."""
    handle = orch.submit_task(
        Task.program(
            python(HOGS[kind]),
            limits={"memory_mb": 50},
            env={"HOG": f"{os.getpid()} {way} {kind}"},
        )
    )
    error = handle.exception(PATIENCE)
    assert isinstance(error, MemoryLimitError)
    assert error.limit == 50
    assert error.how.startswith("cgroup-v" if way == "group" else "watch")
    assert error.peak >= 49
    if way == "group":
        assert error.peak <= 55
    assert f"{error.peak:.0f} of 50 MB" in str(error)
    assert error.result.exceeded == "memory_mb"
    assert f"It used {error.peak:.0f} of 50 MB" in str(orch.explain(handle.task_id))
    assert not carrying(f"HOG={os.getpid()} {way} {kind}")


def carrying(mark: str) -> list[int]:
    """The living processes with *mark* in their environment."""
    pids = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            marked = mark.encode() in (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and state not in "ZX":
            pids.append(int(path.name))
    return pids


@pytest.mark.parametrize(("held", "many"), [(12, 3), (38, 1), (97, 3)])
def test_a_short_program_is_measured_by_the_system(orch, group, held, many):
    """It ends between two looks, with all that it has started."""
    code = f"""
        import os
        born, full = os.pipe(), os.pipe()
        for _ in range({many - 1}):
            if os.fork() == 0:
                os.close(born[1])
                x = bytearray({held} << 20)
                os.write(full[1], b".")
                os.read(born[0], 1)
                os._exit(0)
        x = bytearray({held} << 20)
        for _ in range({many - 1}):
            os.read(full[0], 1)
        """
    for _ in range(2):
        result = run(orch, code, limits={"memory_mb": 600})
        assert held * many <= result.memory_mb <= (held + 20) * many


def test_what_looks_alone_have_seen_is_no_measurement(monkeypatch):
    """Without a group, nobody knows the most of a program that is smaller than ours."""
    monkeypatch.setenv(VARIABLE, "off")
    ours = bytearray(80 << 20)
    measured = Measured()
    with TaskOrchestrator(allocator=measured, resources={"memory_mb": 4000}) as orch:
        for _ in range(6):
            task = Task.program(
                python("x = bytearray(20 << 20); import time; time.sleep(0.1)"),
                resources={"memory_mb": 1000},
                enforce=True,
            )
            result = orch.submit_task(task).result(PATIENCE)
            assert result.enforced.startswith("watch")
            assert result.memory_mb is None
        assert not measured.sizes
    assert ours


def _ours() -> int:
    """MiB that this process had at the most, and programs may have from it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def test_files_in_memory_count(orch, group):
    """Nobody maps them, so that a watch could see them."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    code = """
        import os
        try:
            with open(f"/dev/shm/taskorch-{os.getpid()}", "wb") as file:
                os.unlink(file.name)
                for _ in range(120):
                    file.write(bytes(1 << 20))
        except OSError:
            pass
        """
    assert isinstance(failed(orch, code, limits={"memory_mb": 50}), MemoryLimitError)


def test_a_cache_of_files_is_no_hog(orch, group, on_disk):
    """What the system can give back at any time is no need of the program."""
    code = f"""
        with open({str(on_disk / "large")!r}, "wb") as file:
            for _ in range(80):
                file.write(bytes(1 << 20))
        """
    result = run(orch, code, limits={"memory_mb": 40})
    assert result.memory_mb < 20


def test_neighbours_are_unharmed(orch):
    """Only the family that passes its limit ends."""
    code = "x = bytearray(20 << 20); import sys; sys.stdin.read()"
    good = [
        orch.submit_task(
            Task.program(python(code), stdin="", limits={"memory_mb": 100})
        )
        for _ in range(2)
    ]
    bad = failed(orch, HOGS["itself"], limits={"memory_mb": 60})
    assert isinstance(bad, MemoryLimitError)
    assert all(each.result(PATIENCE).exit_code == 0 for each in good)


def test_a_limit_below_the_need_of_the_interpreter(orch, group):
    """It is told as what it is."""
    error = failed(orch, "pass", limits={"memory_mb": 1})
    assert isinstance(error, MemoryLimitError)


def test_a_limit_above_the_machine_is_none(orch):
    assert run(orch, "pass", limits={"memory_mb": 1e9}).exit_code == 0


def test_a_part_of_a_program_that_is_killed_fails_all_of_it(orch, group):
    """Though it goes on, and whatever its exit code is: what it brought lacks a part."""
    code = f"""
        import os
        if os.fork() == 0:
            x = {ZEROS}
            os._exit(0)
        os.wait()
        """
    error = failed(orch, code, limits={"memory_mb": 80}, check=False)
    assert isinstance(error, MemoryLimitError)


# -- other limits --------------------------------------------------------------------


def test_the_time_of_processors(orch):
    """Of all together, also of those that have ended."""
    code = """
        import os, time
        while True:
            if os.fork() == 0:
                end = time.process_time() + 0.1
                while time.process_time() < end: pass
                os._exit(0)
            os.wait()
        """
    error = failed(orch, code, limits={"cpu_seconds": 0.4})
    assert type(error) is ProgramFailedError
    assert error.result.exceeded == "cpu_seconds"
    assert "of 0.4 seconds of processors" in str(error)


def test_a_bomb_of_forks_stays_small(orch, group):
    """It gets no more processes, and all are gone at its end."""
    need(orch, processes=20)
    code = """
        import os, time
        for _ in range(200):
            try:
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(600)
            except OSError:
                print("no more")
                break
        """
    limits = {"processes": 20, "memory_mb": 200}
    result = run(orch, code, limits=limits, env={"BOMB": str(os.getpid())})
    assert result.stdout_tail == "no more\n"
    assert result.processes == 20
    assert not carrying(f"BOMB={os.getpid()}")


def test_cores(orch, group):
    """A part of a core takes its time."""
    need(orch, cpu=1)
    code = """
        import time
        begun, end = time.monotonic(), time.process_time() + 0.2
        while time.process_time() < end: pass
        print(time.monotonic() - begun)
        """
    result = run(orch, code, limits={"cpu": 0.25})
    assert float(result.stdout_tail) > 0.4
    assert dict(result.limits) == {"cpu": 0.25}


def test_what_is_written(orch, tmp_path):
    """In one file, or in many."""
    code = f"""
        import os, time
        os.chdir({str(tmp_path)!r})
        for number in range(400):
            with open(str(number), "wb") as file:
                file.write(bytes(1 << 20))
                os.fsync(file.fileno())
            time.sleep(0.005)
        """
    if _is_in_memory(tmp_path):
        pytest.skip("the temporary folder is no disk")
    error = failed(orch, code, limits={"written_mb": 8})
    assert error.result.exceeded == "written_mb"
    one = "open('large', 'wb').write(bytes(9 << 20))"
    error = failed(orch, one, limits={"written_mb": 8}, cwd=tmp_path)
    assert isinstance(error, ProgramFailedError)
    assert (tmp_path / "large").stat().st_size <= 8 << 20


def wrote(number, *, pause=0.0):
    """A program that writes so many MB, and stays for a while."""
    return (
        f"import time, os; open('file', 'wb').write(bytes({number} << 20)); "
        f"time.sleep({pause})"
    )


def test_what_children_write_counts_once(orch, tmp_path):
    """Those that are looked at, and those that their parents have waited for since."""
    if _is_in_memory(tmp_path):
        pytest.skip("the temporary folder is no disk")
    code = f"""
        import subprocess, sys, time
        within = [sys.executable, "-c", {wrote(10, pause=0.5)!r}]
        between = "import subprocess, sys, time; subprocess.run(sys.argv[1:]); "
        subprocess.run([sys.executable, "-c", between + "time.sleep(0.4)", *within])
        time.sleep(0.4)
        """
    result = run(orch, code, limits={"written_mb": 15}, cwd=tmp_path)
    assert 10 <= result.written_mb < 12


def test_what_many_write_adds_up(orch, tmp_path):
    """Of some at a time, of some that are orphans, and of those that nobody has seen."""
    if _is_in_memory(tmp_path):
        pytest.skip("the temporary folder is no disk")
    for name in ("at once", "in turn", "orphans"):
        code = f"""
            import os, time
            for number in range(4):
                if os.fork() == 0:
                    if {name == "orphans"} and os.fork():
                        os._exit(0)
                    os.chdir({str(tmp_path)!r})
                    open(f"{name} {{number}}", "wb").write(bytes(3 << 20))
                    time.sleep({0 if name == "in turn" else 3})
                    os._exit(0)
                if {name != "at once"}:
                    os.wait()
            time.sleep({0 if name == "in turn" else 4})
            """
        if name == "in turn":
            # Looks may see none of them: the system tells of them at the end.
            error = failed(orch, code, limits={"written_mb": 11})
            assert error.result.exceeded == "written_mb"
        else:
            result = run(orch, code, limits={"written_mb": 14})
            assert 12 <= result.written_mb < 14


def _is_in_memory(path: pathlib.Path) -> bool:
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if str(path).startswith(f"{where}/") and kind == "tmpfs":
            return True
    return False


def test_who_hides_is_held_to_what_is_only_watched(orch, group, tmp_path):
    """An orphan with a clean environment is of the group all the same."""
    if _is_in_memory(tmp_path):
        pytest.skip("the temporary folder is no disk")
    code = """
        import os, sys, time
        write = "import time; time.sleep(0.4)\\n"
        write += "for n in range(60): open(str(n), 'wb').write(bytes(1 << 20))\\n"
        write += "time.sleep(60)"
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execve(sys.executable, [sys.executable, "-c", write], {})
            os._exit(0)
        os.wait()
        time.sleep(60)
        """
    error = failed(orch, code, limits={"written_mb": 20}, cwd=tmp_path)
    assert error.result.exceeded == "written_mb"


def test_a_kill_in_a_group_below_is_told(orch, group, best):
    """A program may make groups in its own: want of memory there is its own."""
    if os.geteuid() != 0 or best != "cgroup-v1":
        pytest.skip("only root may make groups")
    code = """
        import os, time
        for line in open("/proc/self/cgroup"):
            _, names, path = line.strip().split(":", 2)
            if "memory" in names.split(","):
                below = f"/sys/fs/cgroup/memory{path}/below"
                os.mkdir(below)
                open(below + "/tasks", "w").write("0")
        for _ in range(8):
            if os.fork() == 0:
                held = bytearray(40 << 20)
                time.sleep(2)
                os._exit(0)
        for _ in range(8):
            os.wait()
        """
    error = failed(orch, code, limits={"memory_mb": 80})
    assert error.result.exceeded == "memory_mb"


def test_who_leaves_the_group_is_ended(orch, group, best):
    """Who may write where groups are, could go where no limit is."""
    if os.geteuid() != 0 or best != "cgroup-v1":
        pytest.skip("only root may leave")
    code = """
        import os, time
        if os.fork() == 0:
            for line in open("/proc/self/cgroup"):
                _, names, path = line.strip().split(":")
                if "memory" in names.split(","):
                    above = os.path.dirname(path)
                    open(f"/sys/fs/cgroup/memory{above}/cgroup.procs", "w").write("0")
        time.sleep(600)
        """
    error = failed(orch, code, limits={"memory_mb": 100})
    assert error.result.exceeded == "group"
    assert "left the group" in str(error)


@pytest.mark.parametrize("first", ["itself", "of two forks", "at its end"])
def test_who_leaves_at_once_is_ended(orch, group, best, first, tmp_path):
    """Nobody has seen it inside; a process that outlives the program is found, too."""
    if os.geteuid() != 0 or best != "cgroup-v1":
        pytest.skip("only root may leave")
    forks = "if os.fork(): time.sleep(600)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    ends = "r, w = os.pipe()\nif os.fork(): os.read(r, 1); os._exit(0)\nos.setsid()\n"
    begin = {"itself": "", "of two forks": forks, "at its end": ends}[first]
    told = 'os.write(w, b"x")\n' if first == "at its end" else ""
    code = f"""import os, pathlib, time
{begin}open("/sys/fs/cgroup/memory/tasks", "w").write("0")
pathlib.Path("pid").write_text(str(os.getpid()))
{told}time.sleep(600)
"""
    error = failed(orch, code, limits={"memory_mb": 100}, cwd=tmp_path, check=False)
    assert error.result.exceeded == "group"
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: _state_of(pid) in ("", "Z"))


def _state_of(pid: int) -> str:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def test_groups_that_a_program_makes_are_in_its_own(orch, group, best):
    """They have its limits, and end with it."""
    if os.geteuid() != 0 or best != "cgroup-v1":
        pytest.skip("only root may make them")
    code = """
        import os, time
        for line in open("/proc/self/cgroup"):
            _, names, path = line.strip().split(":")
            if "memory" in names.split(","):
                own = f"/sys/fs/cgroup/memory{path}/own"
        os.mkdir(own)
        if os.fork() == 0:
            os.setsid()
            open(f"{own}/cgroup.procs", "w").write("0")
            os.environ.clear()
            os.execv("/bin/sleep", ["sleep", "601"])
        time.sleep(0.3)
        print(own)
        """
    result = run(orch, code, limits={"memory_mb": 100})
    assert result.exceeded == ""
    assert not pathlib.Path(result.stdout_tail.strip()).parent.exists()


KILLED = """
    import os, signal, time
    from taskorch import Task, TaskOrchestrator
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(
            Task.program(["sleep", "600"], limits={"memory_mb": 100})
        )
        while handle.status.state != "running":
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    """


def test_the_groups_of_one_that_was_killed_go_with_the_next(orch, group):
    """Their programs end at once; what is empty then, the next one removes."""
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED)])
    assert owner.wait(PATIENCE) == -signal.SIGKILL
    top = pathlib.Path("/sys/fs/cgroup")

    def groups() -> list[str]:
        return [str(path) for path in top.rglob(f"taskorch-{owner.pid}-*")]

    def has_none() -> bool:
        with TaskOrchestrator() as new:
            run(new, "pass", limits={"memory_mb": 100})
        return not groups()

    eventually(has_none)


# -- functions -----------------------------------------------------------------------


def take(mb: int) -> int:
    return len(bytearray(mb << 20))


def test_a_worker_process_is_held_and_the_next_call_has_a_new_one():
    """Only the call that passes the limit fails, as want of memory."""
    limits = {"memory_mb": 150, "cpu_seconds": 60}
    matrix = RecoveryHandler(escalate=False, max_retries=0)
    with TaskOrchestrator(
        executors={"process": processes(1, limits=limits)}, retry_handler=matrix
    ) as orch:
        hog, last = (
            orch.submit_task(Task.call(take_long, mb, executor="process"))
            for mb in (200, 2)
        )
        error = hog.exception(PATIENCE)
        assert isinstance(error, MemoryLimitError)
        assert (error.limit, error.result) == (150, None)
        assert "of 150 MB of memory" in str(error)
        assert last.result(PATIENCE) == 2 << 20


def take_long(mb: int) -> int:
    data = bytearray(mb << 20)
    if mb > 100:
        time.sleep(600)
    return len(data)


def test_what_cannot_hold_worker_processes_is_told(monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    own = {"process": processes(limits={"processes": 5})}
    with TaskOrchestrator(executors=own) as orch:
        call = orch.submit_task(Task.call(take, 1, executor="process"))
        assert isinstance(call.exception(PATIENCE), UnenforceableError)


def test_a_function_in_a_thread_cannot_be_limited():
    """It is said by name, with what to do."""
    for option in ({"enforce": True}, {"limits": {"memory_mb": 5}}):
        with pytest.raises(TypeError, match="thread cannot be limited"):
            Task.call(take, 1, **option)
    for wrong in ({"count": 0}, {"limits": {"memory": 5}}, {"limits": {"cpu": 0}}):
        with pytest.raises(InvalidTaskError):
            processes(**wrong)


# -- what stays as it is --------------------------------------------------------------


def test_a_program_finds_what_it_would_find_without_limits(orch):
    """The same words, variables and process group; and its number is that of its file."""
    code = "import os, sys; print(sys.argv[1:], sorted(os.environ), os.getpgrp() == os.getpid())"
    words = ["a b", "", "*", "$HOME", "-n", "ü"]
    free, held = (
        orch.submit_task(Task.program(python(code, *words), **options)).result(PATIENCE)
        for options in ({}, {"limits": {"cpu_seconds": 9}})
    )
    assert held.stdout_tail == free.stdout_tail
    assert (free.enforced, dict(free.limits), free.processes) == ("", {}, None)


@pytest.mark.parametrize(
    "name", ["no-such-program", "/no/such/program", "/etc/hostname"]
)
def test_what_cannot_be_started_is_told_as_without_limits(orch, name):
    errors = [
        orch.submit_task(Task.program([name], **options)).exception(PATIENCE)
        for options in ({}, {"limits": {"memory_mb": 100}})
    ]
    first, second = (str(e).partition(":")[2] for e in errors)
    assert first == second
    assert errors[1].result is None


def test_all_that_is_left_of_it_ends_with_it(orch):
    """Also in a session of its own; without limits, a program may leave that."""
    code = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 2)
            time.sleep(600)
        """
    mark = f"{os.getpid()} left"
    result = run(orch, code, limits={"cpu_seconds": 30}, env={"HELD": mark})
    assert result.exit_code == 0
    assert not carrying(f"HELD={mark}")


def test_cancelled_and_timed_out(orch):
    """A program that is held ends as any other."""
    options = {"limits": {"memory_mb": 100}, "env": {"HELD": str(os.getpid())}}
    handle = orch.submit_task(Task.program(python(LONG), timeout=0.3, **options))
    assert isinstance(handle.exception(PATIENCE), TaskTimeoutError)
    eventually(lambda: not carrying(f"HELD={os.getpid()}"))


# -- what is declared -----------------------------------------------------------------


def test_resources_are_limits_where_that_is_asked_for(way):
    """By the program, or for all by the orchestrator; else they only order."""
    resources = {"memory_mb": 80}
    with TaskOrchestrator(resources={"memory_mb": 400}) as orch:
        free = run(orch, "pass", resources=resources)
        assert (dict(free.limits), free.enforced) == ({}, "")
        error = failed(orch, HOGS["itself"], resources=resources, enforce=True)
        assert error.limit == 80
    with TaskOrchestrator(resources={"memory_mb": 400}, enforce=True) as orch:
        assert dict(run(orch, "pass", resources=resources).limits) == resources
        assert not run(orch, "pass").limits
        free = run(orch, "pass", resources=resources, enforce=False)
        assert dict(free.limits) == {}
        own = run(orch, "pass", resources=resources, limits={"memory_mb": 90})
        assert dict(own.limits) == {"memory_mb": 90}
    with TaskOrchestrator(resources={"disk_mb": 50}, enforce=True) as orch:
        disk = run(orch, "pass", resources={"disk_mb": 8})
        assert dict(disk.limits) == {"written_mb": 8}


def test_what_cannot_be_held_is_refused_or_named(monkeypatch):
    """It is not started; or it is, and its result and `explain` say so."""
    monkeypatch.setenv(VARIABLE, "off")
    limits = {"processes": 5, "cpu_seconds": 9}
    with TaskOrchestrator() as orch:
        error = failed(orch, "print(1)", limits=limits, retry=3)
        assert isinstance(error, UnenforceableError)
        assert error.result is None
        assert "processes cannot be held" in str(error)
        assert "enforce='if possible'" in str(error)
        handle = orch.submit_task(
            Task.program(python("print(1)"), limits=limits, enforce="if possible")
        )
        result = handle.result(PATIENCE)
        assert (result.unenforced, result.enforced) == (("processes",), "watch")
        assert "was not held to processes" in str(orch.explain(handle.task_id))


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"limits": {"memory_mb": 0}}, "0"),
        ({"limits": {"memory_mb": -1}}, "memory_mb"),
        ({"limits": {"memory_mb": float("nan")}}, "memory_mb"),
        ({"limits": {"memory": 5}}, "memory_mb"),
        ({"limits": {"processes": 1.5}}, "whole"),
        ({"limits": 5}, "mapping"),
        ({"enforce": "maybe"}, "if possible"),
        ({"network": "no"}, "network"),
        ({"reads": "src"}, "list"),
        ({"reads": ["a/../b"]}, r"\.\."),
        ({"reads": [""]}, "empty"),
        ({"reads": [3]}, "text"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(option, word):
    with pytest.raises((InvalidTaskError, TypeError), match=word):
        Task.program(["true"], **option)


def test_more_memory_is_granted_once_it_was_too_little(way, tmp_path):
    """The matrix takes it as want of memory, and the next attempt has a higher limit."""
    matrix = {"memory_error": Row(orchestrator=Grow(memory_mb=3))}
    recovery = RecoveryHandler(escalate=False, matrix=matrix, retry_delay_seconds=0)
    resources = {"memory_mb": 500}
    with TaskOrchestrator(resources=resources, retry_handler=recovery) as orch:
        retry = RetryPolicy(2, base=0.01)
        # The first stays until somebody has seen what it takes.
        code = f"""
            import os, time
            is_first = not os.path.exists({str(tmp_path / "first")!r})
            open({str(tmp_path / "first")!r}, "w").close()
            x = bytearray(60 << 20)
            time.sleep(600 if is_first else 0)
            """
        result = run(orch, code, resources={"memory_mb": 40}, enforce=True, retry=retry)
        assert dict(result.limits) == {"memory_mb": 120}


def test_what_an_elastic_task_is_granted_later_raises_its_limit(way):
    """It is held to the most that it was granted; a limit of its own stays."""
    code = """
        import json, os, time
        def held():
            return json.load(open(os.environ["TASKORCH_ALLOCATION"]))["allocation"]
        print(held()["memory_mb"], flush=True)
        with open(os.environ["TASKORCH_CHECKPOINT"], "w") as pipe:
            pipe.write("\\n")
        while held()["memory_mb"] < 200:
            time.sleep(0.01)
        x = bytearray(90 << 20)
        time.sleep(0.3)
        """
    go = threading.Event()
    request = Elastic(Resources(memory_mb=200), min={"memory_mb": 60})
    pieces = ProportionalAllocator({"memory_mb": 20})
    with TaskOrchestrator(resources={"memory_mb": 200}, allocator=pieces) as orch:
        other = orch.submit_task(Task.call(go.wait, resources={"memory_mb": 140}))
        eventually(lambda: orch.get_task_status(other.task_id).state == "running")
        greedy = HOGS["itself"]
        assert failed(orch, greedy, resources=request, enforce=True).limit == 60
        handle = orch.submit_task(
            Task.program(python(code), resources=request, enforce=True)
        )
        eventually(lambda: orch.get_task_status(handle.task_id).state == "running")
        go.set()
        result = handle.result(PATIENCE)
    assert result.stdout_tail == "60\n"
    assert dict(result.limits) == {"memory_mb": 200}


def test_it_is_the_same_after_a_restart(way, tmp_path):
    """The error of a limit comes out of a journal as it went in."""
    journal = tmp_path / "runs.db"
    with TaskOrchestrator(journal=journal) as orch:
        task = Task.program(python(HOGS["itself"]), id="hog", limits={"memory_mb": 60})
        first = orch.submit_task(task).exception(PATIENCE)
    with TaskOrchestrator(journal=journal) as orch:
        second = orch.handle("hog").exception(PATIENCE)
        assert type(second) is MemoryLimitError
        assert second.result == first.result
        assert (second.peak, second.limit, second.how) == (
            *(first.peak, first.limit),
            first.how,
        )


# -- groups of version 2, as far as a folder can stand for one ------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in the place of a group of version 2; nobody holds anything there."""
    top = tmp_path / "group"
    top.mkdir()
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (top / name).write_text("cpu memory pids\n")
    (top / "cgroup.procs").write_text("")
    monkeypatch.setenv(VARIABLE, str(top))
    # Whoever looks for members in it finds that all have left.
    monkeypatch.setattr(_governor._Group, "_has_left", lambda _: False)
    return top


FAKED = """
    import glob, sys
    top, most, *files = sys.argv[1:]
    for folder in glob.glob(top + "/taskorch-*"):
        if open(folder + "/memory.max").read() == str(int(most) << 20):
            break
    texts = {path.split("/")[-1]: open(path).read() for path in glob.glob(folder + "/*")}
    for name, text in zip(files[::2], files[1::2]):
        open(f"{folder}/{name}", "w").write(text)
    print(texts)
    sys.exit(9)
    """


def test_version_2_is_asked_for_all_and_tells_what_became_of_it(folder, caplog):
    """Its files get what each limit means, and the program joins before it begins."""
    # The count of kills comes last: who reads it looks at the others.
    files = [
        *("memory.stat", f"anon {40 << 20}\nfile {90 << 20}\nshmem {3 << 20}\n"),
        *("cpu.stat", "usage_usec 1500000\nuser_usec 1\n", "pids.peak", "5\n"),
        *("memory.events", "low 0\noom 1\noom_kill 1\n"),
    ]
    limits = {"cpu": 1.5, "processes": 7, "cpu_seconds": 50}

    def task(most: int, *files: str, check: bool = True) -> Task:
        args = python(FAKED, str(folder), str(most), *files)
        return Task.program(args, limits={**limits, "memory_mb": most}, check=check)

    with TaskOrchestrator(concurrency=3) as orch:
        plain = orch.submit_task(task(64, check=False))
        own = orch.submit_task(task(65, "memory.peak", str(65 << 20), *files))
        machine = orch.submit_task(task(66, "memory.peak", str(20 << 20), *files))
        result = plain.result(PATIENCE)
        error, other = own.exception(PATIENCE), machine.exception(PATIENCE)
    assert result.enforced == "cgroup-v2"
    assert ast.literal_eval(result.stdout_tail) == {
        "cgroup.procs": "0\n",
        "cpu.max": "150000 100000",
        "memory.max": str(64 << 20),
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "pids.max": "7",
    }
    # A count of kills decides, and if it was far below the limit, it was the machine.
    assert isinstance(error, MemoryLimitError)
    assert (error.result.memory_mb, error.result.processes) == (65, 5)
    assert error.result.cpu_seconds == 1.5
    assert type(other) is ProgramFailedError
    assert other.result.oom_killed
    assert other.result.memory_mb == 43
    # A folder with files in it cannot be removed, as a group may be that is in use.
    assert "cannot be removed" in caplog.text


def test_doctor_says_what_holds_limits(capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    taskorch_main(["doctor"])
    text = capsys.readouterr().out
    assert "watch holds cpu_seconds, memory_mb, written_mb" in text
    assert "nothing holds cpu, processes" in text
    assert VARIABLE in text
