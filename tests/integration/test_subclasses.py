"""A subclass of a part of ours is asked as any class of the user's is."""

from __future__ import annotations

import inspect

import attrs
import pytest

from taskorch import RetryPolicy, Task, TaskOrchestrator, policies
from taskorch.errors import UnknownCapabilityError
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
from taskorch.protocols import Order, Permit, Verdict
from taskorch.runtime._deciders import METHODS

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
    # A pool of agents is a driver: what holds of those is held by their own tests.
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
        assert told == 0  # these need no agent
    elif method == "check":
        assert told >= 2 * TASKS
    elif method == "label":
        list(orch.tasks())
        assert len(seen) >= 2 * TASKS
    else:
        assert told >= TASKS


def test_a_check_that_is_overridden_forbids():
    class Mine(StandardStateMachine):
        def check(self, transition, context):
            return Permit(transition.after != "suspended", "not here")

    with TaskOrchestrator(state_machine=Mine()) as orch:
        handle = orch.submit_task(Task.wait_for("e", id="w"))
        with pytest.raises(Exception, match="not here"):
            orch.suspend_task("w")
        orch.emit("e")
        handle.result(PATIENCE)


def test_an_order_that_is_overridden_orders():
    """Even if it is made of the answer of ours, which holds for all tasks."""

    class Mine(PriorityQueue):
        def order(self, task, context):
            ours = super().order(task, context)
            assert ours.reusable
            return attrs.evolve(ours, aging=None, key=(len(task.payload),))

    ran = []
    orch = TaskOrchestrator(queue=Mine(), concurrency=1)

    @orch.agent("a", capabilities={"x"})
    def do(task, context):
        ran.append(task.payload)

    orch.submit_tasks([Task("x", text) for text in ("three", "on", "four4", "o")])
    with orch:
        orch.wait(PATIENCE)
    assert ran == ["o", "on", "three", "four4"]


@pytest.mark.parametrize("hands_on", ["subclass", "wrapper", "instance", "chain"])
def test_who_hands_on_an_answer_of_ours_is_asked_each_time(hands_on):
    """Whether it inherits from us, keeps us inside, or was patched."""
    seen = []

    class Sub(StructuralValidator):
        def validate(self, task, context):
            seen.append(task)
            return super().validate(task, context)

    class Wrapper:
        def __init__(self):
            self.inside = StructuralValidator()

        def validate(self, task, context):
            seen.append(task)
            return self.inside.validate(task, context)

    part = {"subclass": Sub, "wrapper": Wrapper, "chain": Sub}.get(
        hands_on, StructuralValidator
    )()
    if hands_on == "instance":
        ours = part.validate

        def validate(task, context):
            seen.append(task)
            return ours(task, context)

        part.validate = validate
    if hands_on == "chain":
        part = ValidatorChain(StructuralValidator(), part)
    with TaskOrchestrator(validator=part) as orch:
        for _ in range(3):
            orch.submit(int)
        orch.submit_tasks([Task.call(int) for _ in range(3)])
        orch.wait(PATIENCE)
    assert len(seen) == 6


def test_a_batch_is_all_or_nothing_whoever_was_patched():
    """One kind of two is agreed already; for the other, each task is asked about."""
    registry = CapabilityRegistry()
    ours, answers = registry.matches, []

    def matches(task, agents, context):
        answers.append(len(answers) % 2 == 0)
        return attrs.evolve(
            ours(task, agents, context), agents=("a",) if answers[-1] else ()
        )

    registry.matches = matches
    with TaskOrchestrator(registry=registry) as orch:
        orch.agent("a", capabilities={"x"})(lambda task, context: None)
        orch.submit(int).result(PATIENCE)
        before = {status.task_id for status in orch.tasks()}
        with pytest.raises(UnknownCapabilityError):
            orch.submit_tasks([Task.call(int), Task("x"), Task("x")])
        assert {status.task_id for status in orch.tasks()} == before


def test_a_batch_of_a_kind_that_nobody_was_asked_about_yet_is_asked_once():
    """All of it is taken in at once; no task is prepared by itself."""
    with TaskOrchestrator() as orch:
        orch.agent("a", capabilities={"x"})(lambda task, context: task.payload)
        orch.submit(int).result(PATIENCE)
        orch._rt.submission.prepare = None
        handles = orch.submit_tasks([Task("x", n) for n in range(3)])
        assert [handle.result(PATIENCE) for handle in handles] == [0, 1, 2]


def test_who_says_it_again_is_not_asked_again():
    """The fast path is open to a subclass, by its own word."""
    seen = []

    class Mine(PriorityQueue):
        def order(self, task, context):
            seen.append(task)
            return Order(aging=5.0, reusable=True)

    class Watching(StandardStateMachine):
        watches = ()

        def check(self, transition, context):
            raise AssertionError

    class Validating(StructuralValidator):
        def validate(self, task, context):
            seen.append(task)
            return Verdict(reusable=True)

    class Rigid(PoolAllocator):
        rigid = True

        def allocate(self, request, pools, context):
            return super().allocate(request, pools, context)

    with TaskOrchestrator(
        queue=Mine(),
        state_machine=Watching(),
        validator=Validating(),
        allocator=Rigid(),
    ) as orch:
        for _ in range(5):
            orch.submit(int).result(PATIENCE)
        assert orch._rt.deciders.rigid
    assert len(seen) == 2


def test_what_is_inherited_untouched_stays_fast():
    """A subclass that overrides something else, or nothing, is as fast as ours."""

    class Mine(StandardStateMachine):
        def label(self, state):
            return state.value.upper()

    class Queue(PriorityQueue):
        def other(self):
            pass

    class Allocator(PoolAllocator):
        pass

    class Slotted(PoolAllocator):
        __slots__ = ()

    for allocator in (Allocator(), Slotted()):
        orch = TaskOrchestrator(
            state_machine=Mine(), queue=Queue(), allocator=allocator
        )
        deciders = orch._rt.deciders
        assert deciders.watches == frozenset()
        assert deciders.rigid
        with orch:
            orch.submit(int).result(PATIENCE)
            assert deciders.admits_all
            assert deciders.aging_ns is not None


def test_an_allocator_that_grants_less_is_asked_although_the_pool_is_short():
    class Half(PoolAllocator):
        def allocate(self, request, pools, context):
            wanted = request.resources
            if wanted["cpu"] > pools["cpu"].free:
                request = attrs.evolve(
                    request, resources=type(wanted)(cpu=pools["cpu"].free)
                )
            return super().allocate(request, pools, context)

    orch = TaskOrchestrator(
        allocator=Half(), resources={"cpu": 3}, unknown_capability="wait"
    )
    held = []

    @orch.agent("a", capabilities={"x"}, max_concurrency=None)
    def do(task, context):
        held.append(context.allocation["cpu"])
        if len(held) == 1:
            orch.submit_task(Task("x", resources={"cpu": 2})).result(PATIENCE)

    with orch:
        orch.submit_task(Task("x", resources={"cpu": 2})).result(PATIENCE)
    assert held == [2.0, 1.0]


def test_retries_of_a_subclass_are_its_own():
    class Never(BackoffRetryHandler):
        def decide(self, failure, context):
            return attrs.evolve(super().decide(failure, context), retry=False)

    with TaskOrchestrator(retry_handler=Never()) as orch:
        task = Task.call(divmod, 1, 0, retry=RetryPolicy(3, base=0))
        handle = orch.submit_task(task)
        assert isinstance(handle.exception(PATIENCE), ZeroDivisionError)
        assert orch.get_task_status(handle.task_id).attempts == 1


def test_every_method_of_a_protocol_is_covered():
    assert {m for _, _, m in CASES} == {m for ms in METHODS.values() for m in ms}
    assert all(inspect.isfunction(getattr(c, m)) for c, _, m in CASES)


@pytest.mark.parametrize(
    "submit",
    [
        lambda orch, n: orch.submit(abs, n),
        lambda orch, n: orch.submit_task(Task.call(abs, n)),
        lambda orch, n: orch.submit_task(Task.call(abs, n, timeout=60)),
    ],
)
def test_a_consent_that_is_reusable_holds_for_all_that_are_alike(submit):
    seen = []

    class Counting(StructuralValidator):
        def validate(self, task, context):
            seen.append(task)
            return Verdict(reusable=True)

    with TaskOrchestrator(validator=Counting()) as orch:
        assert [submit(orch, n).result(PATIENCE) for n in range(5)] == [*range(5)]
    assert len(seen) == 1


def test_a_validator_is_shown_each_task_once_wherever_what_it_comes_after_stands():
    seen = []

    class Looking(StructuralValidator):
        def validate(self, task, context):
            seen.append(task.id)
            return super().validate(task, context)

    with TaskOrchestrator(validator=Looking()) as orch:
        last = Task.call(abs, -1, id="last", after=["first"])
        first = Task.call(abs, -2, id="first", deadline=600)
        handles = orch.submit_tasks([last, first])
        assert [handle.result(PATIENCE) for handle in handles] == [1, 2]
    assert seen == ["last", "first"]
