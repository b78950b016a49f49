"""Programs of elastic tasks: a file says what they hold, and they say that they look."""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import Elastic, Program, Resources, Task, TaskOrchestrator, TaskState
from taskorch.errors import ProgramFailedError
from taskorch.executors._programs._run import ProgramGrant
from taskorch.kit.loop import Loop

NAMES = ("TASKORCH_ALLOCATION", "TASKORCH_CHECKPOINT")
#: What a program in Python does: as in the docs.
OWN = """
    import json, os, sys, time

    def held():
        with open(os.environ["TASKORCH_ALLOCATION"]) as file:
            return json.load(file)

    def checkpoint():
        before = held()["checkpoints"]
        with open(os.environ["TASKORCH_CHECKPOINT"], "w") as pipe:
            pipe.write("\\n")
        while (now := held())["checkpoints"] == before:
            time.sleep(0.01)
        return now["allocation"]["cpu"]
"""


def program(code, *args):
    text = textwrap.dedent(OWN) + textwrap.dedent(code)
    return [sys.executable, "-I", "-S", "-c", text, *map(str, args)]


def elastic(cpu=8):
    return Elastic(Resources(cpu=cpu))


def orchestrator(**options):
    return TaskOrchestrator(resources=Resources(cpu=8), concurrency=4, **options)


#: It says what it holds, once the file *args[1]* is there comes to a checkpoint, and
#: says what it holds then.
TWICE = """
    print(held()["allocation"]["cpu"], flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    print(checkpoint(), flush=True)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    print(checkpoint(), held()["checkpoints"], flush=True)
"""


@pytest.mark.parametrize("durable", [False, True])
def test_a_program_shrinks_and_grows_at_its_checkpoints(tmp_path, durable):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    journal = str(tmp_path / "journal.db") if durable else None
    with orchestrator(journal=journal) as orch:
        task = orch.submit_task(
            Task.program(program(TWICE, first, second), resources=elastic())
        )
        assert state(orch, task) is TaskState.RUNNING
        code = """
            print(checkpoint(), flush=True)
            while not os.path.exists(sys.argv[1]):
                time.sleep(0.01)
        """
        other = orch.submit_task(
            Task.program(program(code, third), resources=elastic(), id="other")
        )
        # It waits: a program gives nothing back before it says that it looks.
        assert state(orch, other) is TaskState.QUEUED
        first.touch()
        # Once the other has ended, it may have grown before it looks.

        def has_looked():
            log = orch.get_task_status(task.task_id).log_path
            return log is not None and Path(log).read_text() == "8\n4\n"

        eventually(has_looked)
        third.touch()
        assert other.result(PATIENCE).stdout_tail == "4\n"
        eventually(
            lambda: orch.get_task_status(task.task_id).allocation == Resources(cpu=8)
        )
        second.touch()
        assert task.result(PATIENCE).stdout_tail == "8\n4\n8 2\n"


def test_when_it_grows_the_file_says_so_at_once(tmp_path):
    stop = tmp_path / "stop"
    code = """
        print(checkpoint(), flush=True)
        while held()["allocation"]["cpu"] < 8:
            time.sleep(0.01)
        print(held(), flush=True)
    """
    wait = """
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
    """
    with orchestrator() as orch:
        other = Task.program(program(wait, stop), resources={"cpu": 5})
        other = orch.submit_task(other)
        task = orch.submit_task(Task.program(program(code), resources=elastic()))
        log = None

        def has_spoken():
            nonlocal log
            log = orch.get_task_status(task.task_id).log_path
            return log is not None and Path(log).read_text() == "3\n"

        eventually(has_spoken)
        stop.touch()
        other.result(PATIENCE)
        told = task.result(PATIENCE).stdout_tail
    assert told == "3\n{'checkpoints': 1, 'allocation': {'cpu': 8}}\n"


def test_a_shell_can_do_it():
    script = """
        cat "$TASKORCH_ALLOCATION"
        echo >"$TASKORCH_CHECKPOINT"
        until grep -q '"checkpoints": 1' "$TASKORCH_ALLOCATION"; do sleep 0.01; done
        cat "$TASKORCH_ALLOCATION"
    """
    with orchestrator() as orch:
        task = Task.program(["sh", "-c", script], resources=elastic(6))
        lines = orch.submit_task(task).result(PATIENCE).stdout_tail.splitlines()
    assert list(map(json.loads, lines)) == [
        {"checkpoints": 0, "allocation": {"cpu": 6}},
        {"checkpoints": 1, "allocation": {"cpu": 6}},
    ]


def test_one_that_never_says_so_keeps_what_it_began_with(tmp_path):
    stop = tmp_path / "stop"
    code = """
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        print(held())
    """
    with orchestrator() as orch:
        first = Task.program(["true"], resources={"cpu": 6}, id="first")
        task = Task.program(program(code, stop), resources=elastic())
        _, handle = orch.submit_tasks([first, task])
        orch.submit_task(Task.call(print, after=["first"])).result(PATIENCE)
        assert orch.get_task_status(handle.task_id).allocation == Resources(cpu=2)
        stop.touch()
        told = handle.result(PATIENCE).stdout_tail
    assert told == "{'checkpoints': 0, 'allocation': {'cpu': 2}}\n"


def test_only_elastic_tasks_have_them(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "of another")
    code = "print([n for n in os.environ if n in sys.argv])"
    with orchestrator() as orch:
        task = Task(
            "program",
            Program(program(code, *NAMES), inherit_env=True),
            resources={"cpu": 1},
        )
        assert orch.submit_task(task).result(PATIENCE).stdout_tail == "[]\n"


def test_the_program_of_an_agent_has_them(tmp_path):
    code = "print(checkpoint())"
    with orchestrator() as orch:

        @orch.agent("builder", capabilities={"build"}, executor="program")
        def build(task, context):
            return Program(program(code))

        task = Task("build", resources=elastic(4))
        assert orch.submit_task(task).result(PATIENCE).stdout_tail == "4\n"


def test_they_are_gone_when_it_has_ended():
    code = "print(os.path.dirname(os.environ['TASKORCH_ALLOCATION']))"
    with orchestrator() as orch:
        task = Task.program(program(code), resources=elastic())
        folder = orch.submit_task(task).result(PATIENCE).stdout_tail.strip()
        assert folder
        assert not Path(folder).exists()
        # Of one that cannot be started, too.
        bad = orch.submit_task(Task.program(["/none"], resources=elastic()))
        with pytest.raises(ProgramFailedError, match="No such file"):
            bad.result(PATIENCE)


def test_a_checkpoint_of_one_that_is_to_end_tells_what_it_holds():
    code = """
        import os, signal
        # It may come while "ready" is being printed.
        said = lambda *_: os.write(1, f"{checkpoint()}\\n".encode())
        signal.signal(signal.SIGTERM, said)
        print("ready", flush=True)
        signal.pause()
    """
    with orchestrator() as orch:
        task = orch.submit_task(
            Task("program", Program(program(code), check=False), resources=elastic())
        )
        path = None

        def is_ready():
            nonlocal path
            path = orch.get_task_status(task.task_id).log_path
            return path is not None and "ready" in Path(path).read_text()

        eventually(is_ready)
        orch.cancel_task(task.task_id)
        eventually(lambda: state(orch, task) is TaskState.CANCELLED)
        assert Path(path).read_text() == "ready\n8\n"


def state(orch, handle):
    return orch.get_task_status(handle.task_id).state


class Held:
    """What an attempt holds: two, and one less after each checkpoint."""

    def __init__(self):
        self.amount = 2.5

    def held(self):
        return {"cpu": self.amount}

    def reach_checkpoint(self):
        self.amount -= 1
        return self.held()


@pytest.fixture
def opened():
    loop = Loop()
    loop.open()
    grant = ProgramGrant(loop, Held(), safe=lambda action: action)
    env = grant.open()
    yield loop, grant, env
    grant.close()
    loop.close()


def written(env):
    return json.loads(Path(env["TASKORCH_ALLOCATION"]).read_text())


def pour(loop, env, text):
    """Write *text* into the pipe, and let the loop read it."""
    with open(env["TASKORCH_CHECKPOINT"], "w") as pipe:  # noqa: PTH123 - it is a pipe
        pipe.write(text)
    done = []
    loop.call(lambda: loop.call(lambda: done.append(1)))
    loop.run(lambda: bool(done))


def test_what_comes_through_the_pipe_counts_by_lines(opened):
    loop, _, env = opened
    assert written(env) == {"checkpoints": 0, "allocation": {"cpu": 2.5}}
    pour(loop, env, "no line")
    assert written(env)["checkpoints"] == 0
    # Of lines that came together, each is answered, and it was at one place.
    pour(loop, env, "\n\n" + "x" * 9_000 + "\n")
    assert written(env) == {"checkpoints": 3, "allocation": {"cpu": 1.5}}
    pour(loop, env, "\n")
    assert written(env) == {"checkpoints": 4, "allocation": {"cpu": 0.5}}


def test_a_file_that_cannot_be_written_ends_nothing(opened, caplog):
    loop, _, env = opened
    path = Path(env["TASKORCH_ALLOCATION"])
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.WARNING):
        pour(loop, env, "\n")
    assert "could not be written" in caplog.text
    path.rmdir()
    pour(loop, env, "\n")
    assert written(env)["checkpoints"] == 2


def test_it_is_written_anew_only_if_it_says_something_else(opened):
    _, grant, env = opened
    path = Path(env["TASKORCH_ALLOCATION"])
    before = path.stat().st_ino
    grant.refresh()
    assert path.stat().st_ino == before
    grant._holding.amount = 4
    grant.refresh()
    assert written(env) == {"checkpoints": 0, "allocation": {"cpu": 4}}


def test_it_is_closed_once(opened):
    _, grant, env = opened
    grant.close()
    assert not Path(env["TASKORCH_CHECKPOINT"]).exists()
    assert not os.path.exists(env["TASKORCH_ALLOCATION"])  # noqa: PTH110 - as a program
