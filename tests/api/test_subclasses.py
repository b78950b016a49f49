"""A subclass of a part of ours is asked as any class of the user's is."""

from __future__ import annotations

import inspect

import pytest

from taskorch import Task, TaskOrchestrator, policies
from taskorch.core.engine._deciders import METHODS
from taskorch.policies import (
    BackoffRetryHandler,
    CapabilityRegistry,
    DeadlineQueue,
    FairShareQueue,
    FifoQueue,
    ForeseeingAllocator,
    FourStateMachine,
    JsonSchemaValidator,
    LeastLoadedRouter,
    Measured,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    ProportionalAllocator,
    QuotaRetryHandler,
    ScoreQueue,
    SourceRegistry,
    StandardStateMachine,
    StructuralValidator,
    TenacityRetryHandler,
    ValidatorChain,
)

PATIENCE = 60.0
TASKS = 4
#: Every part of ours, by what it is passed as, and how it is made.
OURS = {
    CapabilityRegistry: ("registry", ()),
    SourceRegistry: ("registry", ()),
    PerformanceRouter: ("router", ()),
    LeastLoadedRouter: ("router", ()),
    StructuralValidator: ("validator", ()),
    JsonSchemaValidator: ("validator", ({},)),
    ValidatorChain: ("validator", (StructuralValidator(),)),
    StandardStateMachine: ("state_machine", ()),
    FourStateMachine: ("state_machine", ()),
    PriorityQueue: ("queue", ()),
    FifoQueue: ("queue", ()),
    DeadlineQueue: ("queue", ()),
    ScoreQueue: ("queue", ({},)),
    FairShareQueue: ("queue", ()),
    BackoffRetryHandler: ("retry_handler", ()),
    QuotaRetryHandler: ("retry_handler", ()),
    TenacityRetryHandler: ("retry_handler", ()),
    PoolAllocator: ("allocator", ()),
    ProportionalAllocator: ("allocator", ()),
    ForeseeingAllocator: ("allocator", ()),
    Measured: ("allocator", ()),
}
CASES = [
    (cls, component, method)
    for cls, (component, _) in OURS.items()
    for method in METHODS[component]
]


def test_all_parts_of_ours_are_here():
    found = [getattr(policies, name) for name in dir(policies)]
    found = [cls for cls in found if inspect.isclass(cls)]
    # A pool of workers is a driver: what holds of those is held by their own tests.
    assert set(OURS) == set(found) - {policies.AgentPool, policies.PoolSample}


def counting(cls, method, seen):
    """A subclass of *cls* that notes each question, and answers as *cls* does."""

    def ask(self, question, *rest):
        seen.append(getattr(question, "id", question))
        return getattr(super(sub, self), method)(question, *rest)

    sub = type(f"My{cls.__name__}", (cls,), {method: ask})
    return sub


def arguments_of(cls):
    if cls is TenacityRetryHandler:
        from tenacity import stop_after_attempt

        return (), {"stop": stop_after_attempt(2)}
    if cls is JsonSchemaValidator:
        return ({},), {"unknown": "accept"}
    if cls is SourceRegistry:
        return ({"a": ["x"]},), {}
    return OURS[cls][1], {}


@pytest.mark.parametrize(
    ("cls", "component", "method"),
    CASES,
    ids=[f"{c.__name__}.{m}" for c, _, m in CASES],
)
@pytest.mark.parametrize("how", ["plain", "tasks", "agent", "map"])
def test_an_overridden_method_is_asked_about_every_task(cls, component, method, how):
    """What the class says of its own answers is no word about those of another."""
    seen = []
    args, options = arguments_of(cls)
    part = counting(cls, method, seen)(*args, **options)
    orch = TaskOrchestrator(**{component: part}, concurrency=2, resources={"cpu": 2})
    failures = component == "retry_handler"

    def do(*_):
        if failures:
            raise OSError

    @orch.agent("a", capabilities={"x"}, max_concurrency=None)
    def handler(task, context):
        do()

    def submit():
        if how == "plain":
            return [orch.submit(do) for _ in range(TASKS)]
        if how == "map":
            orch.map(do, range(TASKS))
            return list(map(orch.handle, [s.task_id for s in orch.tasks()]))
        make = (lambda: Task("x")) if how == "agent" else (lambda: Task.call(do))
        return orch.submit_tasks([make() for _ in range(TASKS)])

    with orch:
        handles = submit()
        orch.wait(PATIENCE)
        assert len(handles) == TASKS
        assert all(handle.done() for handle in handles)
        told = len(seen)
    if method == "matches" and how != "agent":
        assert told == 0  # these need no worker
    elif method == "check":
        assert told >= 2 * TASKS
    elif method == "label":
        list(orch.tasks())
        assert len(seen) >= 2 * TASKS
    else:
        assert told >= TASKS


def test_every_method_of_a_protocol_is_covered():
    assert {m for _, _, m in CASES} == {m for ms in METHODS.values() for m in ms}
    assert all(inspect.isfunction(getattr(c, m)) for c, _, m in CASES)
