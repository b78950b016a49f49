"""What your code is asked about is its own: what it changes reaches nobody else."""

from collections.abc import Mapping

import pytest
from tests.api.tools import PATIENCE

from taskorch import Resources, RetryPolicy, Task, TaskOrchestrator, Workflow
from taskorch.core.engine._deciders import copy_containers
from taskorch.ext.learning import Learned
from taskorch.policies import (
    BackoffRetryHandler,
    CapabilityRegistry,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    QuotaRetryHandler,
    StructuralValidator,
    ValidatorChain,
)


def spoil(value):
    """Change all that can be changed in *value*."""
    if isinstance(value, Mapping):
        for item in list(value.values()):
            spoil(item)
    elif isinstance(value, list | tuple):
        for item in value:
            spoil(item)
    match value:
        case dict():
            value["spoiled"] = True
        case list():
            value.append("spoiled")
        case set():
            value.add("spoiled")
        case bytearray():
            value += b"spoiled"


def spoil_task(task):
    spoil(task.metadata)
    spoil(getattr(task.payload, "args", task.payload))
    spoil(getattr(task.payload, "kwargs", None))


def spoiling(base, *methods):
    """A part that spoils what it is asked about, and then answers as *base* does."""

    def spoiler(method):
        ask = getattr(base, method)

        def spoil_and_ask(self, question, *args):
            self.asked += 1
            spoil_task(getattr(question, "task", question))
            return ask(self, question, *args)

        return spoil_and_ask

    made = {method: spoiler(method) for method in methods}
    return type(f"Spoiling{base.__name__}", (base,), {**made, "asked": 0})()


PARTS = {
    "registry": (CapabilityRegistry, "matches"),
    "router": (PerformanceRouter, "route"),
    "validator": (StructuralValidator, "validate"),
    "queue": (PriorityQueue, "order", "admit"),
    "retry_handler": (BackoffRetryHandler, "decide"),
    "allocator": (PoolAllocator, "allocate"),
}


def payload():
    return {"a": [1, {2}, (3, [4])], "b": {"c": []}}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_what_a_part_changes_is_its_own(name, durable, tmp_path):
    """Neither the caller's values are changed by it, nor what the task is given."""
    part = spoiling(*PARTS[name])
    mine, metadata, seen = payload(), {"tags": ["x"]}, []
    journal = tmp_path / "runs.db" if durable else None
    options = {"resources": Resources(cpu=1), "journal": journal, name: part}
    with TaskOrchestrator(**options) as orch:

        @orch.agent("a", capabilities={"x"})
        def worker(task, context):
            seen.append((task.payload, dict(task.metadata)))
            if context.attempt == 1:
                raise ConnectionError
            return 7

        again = RetryPolicy(2, base=0)
        needs = Resources(cpu=1)
        task = Task("x", mine, metadata=metadata, retry=again, resources=needs)
        handle = orch.submit_task(task)
        assert handle.result(PATIENCE) == 7
        assert part.asked
        status = orch.get_task_status(handle.task_id)
        assert status.metadata == {"tags": ["x"]}
    assert mine == payload()
    assert metadata == {"tags": ["x"]}
    assert seen == [(payload(), {"tags": ["x"]})] * 2


OTHERS = {
    "router": lambda part: Learned([part, PerformanceRouter()], explore=1, floor=1),
    "queue": lambda part: Learned([part, PriorityQueue()], explore=1, floor=1),
    "allocator": lambda part: Learned([part, PoolAllocator()], explore=1, floor=1),
    "validator": lambda part: ValidatorChain(ValidatorChain(part)),
    "retry_handler": QuotaRetryHandler,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_part_changes_that_one_of_ours_asks_is_its_own(name):
    part = spoiling(*PARTS[name])
    mine, seen = payload(), []
    parts = {name: OTHERS[name](part)}
    with TaskOrchestrator(resources=Resources(cpu=1), **parts) as orch:
        for worker in ("a", "b"):
            orch.agent(worker, capabilities={"x"})(failing_once(seen))
        again = RetryPolicy(2, base=0)
        for _ in range(8):
            task = Task("x", mine, retry=again, resources=Resources(cpu=1))
            assert orch.submit_task(task).result(PATIENCE) == 7
        assert part.asked
    assert mine == payload()
    assert seen == [payload()] * 16


def failing_once(seen):
    def worker(task, context):
        seen.append(task.payload)
        if context.attempt == 1:
            raise ConnectionError
        return 7

    return worker


def takes(first, *, last):
    return [first, last]


def test_arguments_of_a_call_are_lent_too():
    """And the call gets the very objects that were handed over."""
    first, last = [1], {"k": [2]}
    part = spoiling(*PARTS["validator"])
    with TaskOrchestrator(validator=part) as orch:
        result = orch.submit(takes, first, last=last).result(PATIENCE)
        assert part.asked
    assert result == [[1], {"k": [2]}]
    assert result[0] is first
    assert result[1] is last


def test_a_predicate_of_results_changes_no_result():
    """It is asked whether a result is worth a retry, and no more."""

    def worth_a_retry(value):
        spoil(value)
        return False

    policy = RetryPolicy(2, base=0, retry_if_result=worth_a_retry)
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(payload, retry=policy))
        assert handle.result(PATIENCE) == payload()


def test_a_gate_changes_no_result():
    """Nor does it change what later tasks are given."""
    workflow = Workflow("w")

    def gate(results):
        spoil(results)
        return True

    phase = workflow.phase("first", gate=gate)
    made = phase.task(payload, id="made")
    workflow.phase("second").task(takes, made, kwargs={"last": 1}, id="taken")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(workflow)
        assert run.result(PATIENCE)["taken"] == [payload(), 1]


def test_what_is_lent_is_the_same_in_itself():
    """What stands in two places, or in itself, does so in the copy; objects are shared."""
    thing = object()
    shared = [thing, bytearray(b"x")]
    value = {"a": shared, "b": shared, "c": (shared, {1})}
    value["me"] = value
    copied = copy_containers(value)
    assert copied is not value
    assert copied["me"] is copied
    assert copied["a"] is copied["b"] is copied["c"][0]
    assert copied["a"] == shared
    assert copied["a"] is not shared
    assert copied["a"][0] is thing
    assert copied["a"][1] is not shared[1]


def test_what_is_nested_without_end_is_no_matter():
    """Deep down it is shared."""
    value = []
    for _ in range(100_000):
        value = [value]
    assert copy_containers(value) is not value
