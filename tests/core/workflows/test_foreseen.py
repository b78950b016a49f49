"""What is said beforehand to run again is what runs again."""

from __future__ import annotations

from random import Random

import pytest
from tests.api.tools import eventually
from tests.house.tools.examples import seeds

from taskorch import Task, TaskOrchestrator, TaskState, Workflow
from taskorch.api.verbs.table import foreseen
from taskorch.model import TERMINAL

#: States in which a task goes on by itself.
GOING = {TaskState.QUEUED, TaskState.RUNNING}


def count(*results):
    return len(results)


def fail(*results):
    raise ValueError(len(results))


def nodes(random: Random) -> list[Task]:
    """Tasks that complete, that fail, and that wait for an event, in some order."""
    made: list[Task] = []
    for number in range(random.randint(3, 6)):
        above = tuple(node.id for node in made if random.random() < 0.5)
        options = {}
        if above and random.random() < 0.4:
            options["join"] = random.choice(["any", "finished"])
        if above and options.get("join") != "finished":
            options["on_parent_failure"] = random.choice(["block", "skip", "run"])
        name = f"t{number}"
        if random.random() < 0.3:
            made.append(Task.wait_for(f"go-{name}", id=name, after=above, **options))
        else:
            called = fail if random.random() < 0.3 else count
            made.append(Task.call(called, id=name, after=above, **options))
    return made


def settled(run) -> bool:
    states = [handle.status.state for handle in run.handles.values()]
    return GOING.isdisjoint(states)


@pytest.mark.parametrize("seed", seeds(8, 30))
def test_what_is_foreseen_of_a_run_runs_again(seed: int) -> None:
    random = Random(seed)
    workflow = Workflow("w")
    for node in nodes(random):
        workflow.add(node)
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(workflow, id="r")
        for _ in range(4):
            eventually(lambda: settled(run))
            ids = {name: handle.task_id for name, handle in run.handles.items()}
            ended = [
                h.task_id for h in run.handles.values() if h.status.state in TERMINAL
            ]
            act = random.choice(["restart", "rerun", "alone", "emit"])
            if act == "emit" or (act != "restart" and not ended):
                orch.emit(f"go-{random.choice([*ids])}")
                continue
            if act == "restart":
                told = foreseen(
                    orch, "workflows.restart", {"workflow_id": "r", "run_id": "r"}
                )
                orch.workflows.restart("r")
            else:
                options = {"task_id": random.choice(ended)}
                if act == "alone":
                    options["downstream"] = False
                told = foreseen(orch, "rerun_task", options)
                orch.rerun_task(**options)
            again = {
                ids[name]
                for name, handle in orch.workflows.get("r").handles.items()
                if handle.task_id != ids[name]
            }
            assert {*told.task_ids} == again, (act, told.text)
        orch.stop(drain=False)
