"""Programs of elastic tasks: a file says what they hold, and they say that they look."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import Elastic, Resources, Task, TaskOrchestrator, TaskState
from taskorch.core.executors._programs._run import ProgramGrant
from taskorch.kit.loop import Loop

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
