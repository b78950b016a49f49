"""Elastic tasks as a user has them: shares, checkpoints, journals, documents."""

from __future__ import annotations

import asyncio
from threading import Event
from time import sleep

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    Elastic,
    Resources,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.errors import (
    ComponentError,
    InvalidTaskError,
    ValidationFailedError,
)
from taskorch.policies import PoolAllocator, ProportionalAllocator
from taskorch.protocols import Allocation

WAIT = 30


class Worker:
    """A function that goes from checkpoint to checkpoint as it is told to."""

    def __init__(self):
        self.began, self.go, self.end = Event(), Event(), Event()
        #: It has looked at what it holds after its checkpoint.
        self.looked = Event()
        self.seen = []

    def __call__(self):
        context = current_context()
        self.seen.append(context.allocation["cpu"])
        self.began.set()
        assert self.go.wait(WAIT)
        context.checkpoint("here")
        self.seen.append(context.allocation["cpu"])
        self.looked.set()
        assert self.end.wait(WAIT)
        self.seen.append(context.allocation["cpu"])
        return self.seen


def orchestrator(**options):
    return TaskOrchestrator(resources=Resources(cpu=8), concurrency=4, **options)


def elastic(cpu=8, **options):
    return Elastic(Resources(cpu=cpu), **options)


def call(worker, task_id, resources=None):
    wants = elastic() if resources is None else resources
    return Task.call(worker, id=task_id, resources=wants)


class Meeting:
    """Two coroutines, and where they are."""

    now: Meeting

    def __init__(self):
        self.began, self.go, self.end = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        self.looked = asyncio.Event()
        self.seen = []


async def shrinks():
    meeting, context = Meeting.now, current_context()
    meeting.seen.append(context.allocation["cpu"])
    meeting.began.set()
    await meeting.go.wait()
    await context.aio.checkpoint()
    meeting.seen.append(context.allocation["cpu"])
    meeting.looked.set()
    await meeting.end.wait()


async def follows():
    # Once it ends, the other one grows.
    await Meeting.now.looked.wait()
    Meeting.now.seen.append(current_context().allocation["cpu"])
    Meeting.now.end.set()


@pytest.mark.parametrize("durable", [False, True])
def test_a_coroutine_shrinks_at_its_checkpoint(tmp_path, durable):

    async def main():
        meeting = Meeting.now = Meeting()
        journal = {"journal": tmp_path / "runs.db"} if durable else {}
        async with orchestrator(**journal) as orch:
            one = Task.call(shrinks, resources=elastic())
            one = await orch.aio.submit_task(one)
            await meeting.began.wait()
            two = Task.call(follows, resources=elastic())
            two = await orch.aio.submit_task(two)
            meeting.go.set()
            await two
            await one
        return meeting.seen

    assert asyncio.run(main()) == [8, 4, 4]


def shrinks_elsewhere(folder):
    context = current_context()
    held = [context.allocation["cpu"]]
    (folder / "began").touch()
    while not (folder / "go").exists():
        sleep(0.01)
    context.checkpoint()
    held.append(context.allocation["cpu"])
    (folder / "shrunk").touch()
    return held


def test_a_task_in_a_worker_process_shrinks_at_its_checkpoint(tmp_path):
    second = Worker()
    with orchestrator() as orch:
        wants = elastic()
        far = Task.call(
            shrinks_elsewhere, tmp_path, executor="process", resources=wants
        )
        one = orch.submit_task(far)
        while not (tmp_path / "began").exists():
            sleep(0.01)
        two = orch.submit_task(call(second, "two"))
        (tmp_path / "go").touch()
        assert second.began.wait(WAIT)
        assert one.result(WAIT) == [8, 4]
        second.go.set()
        second.end.set()
        assert two.result(WAIT)[0] == 4


def kept():
    return dict(current_context().allocation)


def test_documents_say_what_is_elastic():
    document = {
        "workflow": "w",
        "tasks": {
            "a": {
                "program": ["true"],
                "resources": {
                    "elastic": {"cpu": 8},
                    "min": {"cpu": 2},
                    "weight": 2,
                    "fallback": "all_or_nothing",
                },
            },
            "b": {"program": ["true"], "resources": {"elastic": {"cpu": 8}}},
            # A resource of that name is one.
            "c": {"program": ["true"], "resources": {"elastic": 1}},
        },
    }
    flow = Workflow.from_dict(document, programs=True)
    written = flow.to_dict()
    found = [said["resources"] for said in written["tasks"].values()]
    assert found == [said["resources"] for said in document["tasks"].values()]
    again = Workflow.from_dict(written, programs=True)
    assert again.to_dict() == written


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"elastic": {"cpu": 8}, "gpu": 1}, "gpu"),
        ({"elastic": {"cpu": 8}, "weight": 0}, "weight"),
        ({"elastic": {"cpu": 8}, "min": {"gpu": 1}}, "the request has no gpu"),
        ({"elastic": {}}, "asks for nothing"),
    ],
)
def test_documents_that_say_it_wrongly_are_refused(said, message):
    tasks = {"a": {"program": ["true"], "resources": said}}
    document = {"workflow": "w", "tasks": tasks}
    with pytest.raises(ValidationFailedError, match=message):
        Workflow.from_dict(document, programs=True)


def test_a_map_and_a_phase_pass_it_on():
    flow = Workflow("w")
    phase = flow.phase("p", max_parallel=2)
    parts = flow.task(list, (1, 2, 3), id="parts")
    phase.map(held, parts, id="m", resources=elastic(min={"cpu": 2}))
    phase.task(kept, id="t", resources=elastic(4))
    with orchestrator() as orch:
        run = orch.workflows.start(flow, id="r")
        found = run.result(WAIT)
    assert found["t"]["cpu"] >= 1
    assert all(cpu >= 2 for cpu in found["m"])


def held(_item):
    return current_context().allocation["cpu"]


# -- what is refused ----------------------------------------------------------------


def test_chunks_larger_than_the_pool_are_refused():
    with pytest.raises(InvalidTaskError, match="a chunk of cpu is 9, and the pool has"):
        orchestrator(allocator=ProportionalAllocator({"cpu": 9}))
    # The usual ones are no word of the user's: what is smaller is granted whole.
    with TaskOrchestrator(resources=Resources(cpu=0.5)) as orch:
        task = Task.call(kept, resources=elastic(0.5))
        assert orch.submit_task(task).result(WAIT) == {"cpu": 0.5}


def test_a_least_of_what_is_not_divided_is_refused():
    """It would be granted whole, or not at all, and nothing would say so."""
    wants = Elastic({"gpu": 4, "cpu": 2}, min={"gpu": 1, "cpu": 1})
    task = Task.call(kept, resources=wants)
    with TaskOrchestrator(resources={"cpu": 4, "gpu": 4}) as orch:
        with pytest.raises(
            ValidationFailedError, match="gpu is granted whole"
        ) as found:
            orch.submit_task(task)
        ((path, why),) = found.value.findings
        assert path == "resources"
        assert "ProportionalAllocator({'cpu': 1, 'memory_mb': 256, 'gpu': 1})" in why
        all_of_it = Elastic({"gpu": 4}, min={"gpu": 4})
        orch.submit_task(Task.call(kept, resources=all_of_it)).result(PATIENCE)
    for allocator in (PoolAllocator(), ProportionalAllocator({"cpu": 1, "gpu": 1})):
        pools = {"cpu": 4, "gpu": 4}
        with TaskOrchestrator(resources=pools, allocator=allocator) as orch:
            orch.submit_task(task).result(PATIENCE)


class Bad(PoolAllocator):
    """An allocator that grants what it must not."""

    rigid = True
    chunks = {"cpu": 1}  # noqa: RUF012 - for a test

    def __init__(self, granted):
        self.granted = granted

    def allocate(self, request, pools, context):
        return Allocation(self.granted)


@pytest.mark.parametrize(
    ("granted", "said"),
    [
        (Resources(cpu=1), "it granted less cpu than its least"),
        (Resources(), "it granted less cpu than its least"),
        (Resources(cpu=7), "it granted more cpu than was asked"),
        (Resources(cpu=9), "it granted more cpu than is free"),
        (Resources(cpu=5), "it granted more cpu than w has free"),
    ],
)
def test_a_grant_that_breaks_the_laws_is_its_fault(granted, said):
    wants = elastic(6, min={"cpu": 2})
    with orchestrator(allocator=Bad(granted)) as orch:
        orch.agent("w", capabilities={"w"}, capacity=Resources(cpu=4))(
            lambda task, context: None
        )
        with pytest.raises(ComponentError, match=said):
            orch.submit_task(Task("w", resources=wants)).result(WAIT)


@pytest.mark.parametrize("chunks", [{"cpu": 0}, {"cpu": -1}, 7])
def test_an_allocator_whose_chunks_are_none_is_refused(chunks):
    allocator = Bad(None)
    allocator.chunks = chunks
    with pytest.raises(InvalidTaskError, match=r"allocator.chunks|'cpu'"):
        orchestrator(allocator=allocator)
