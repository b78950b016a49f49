"""Whatever a part of the user's does, one task pays for it and the rest goes on."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import gc
import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import (
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskExecutor,
    TaskOrchestrator,
    TaskState,
    ValidationFailedError,
    as_completed,
)
from taskorch.core.engine import _deciders, _notices, _runtime
from taskorch.errors import (
    ComponentError,
    InvalidTransitionError,
    QueueFullError,
)
from taskorch.events import ComponentFailed, PolicySlow
from taskorch.policies import (
    BackoffRetryHandler,
    CapabilityRegistry,
    PerformanceRouter,
    PoolAllocator,
    PriorityQueue,
    StandardStateMachine,
    StructuralValidator,
)
from taskorch.protocols import (
    Admission,
    Allocation,
    Finding,
    Match,
    Order,
    Permit,
    RetryDecision,
    Route,
    Verdict,
)

Answer = Callable[[], Any]


class Sick:
    """A part that does its work until it is told to do something else."""

    method = ""
    healthy: Any = None

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.well = self.healthy()
        setattr(self, self.method, self.ask)

    def ask(self, *args):
        if self.answer is not None:
            return self.answer()
        return getattr(self.well, self.method)(*args)


class SickRegistry(Sick):
    method = "matches"

    class healthy(CapabilityRegistry):
        def matches(self, *args):
            return attrs.evolve(super().matches(*args), reusable=False)


class SickRouter(Sick):
    method = "route"

    class healthy(PerformanceRouter):
        def route(self, *args):
            return attrs.evolve(super().route(*args), reusable=False)


class SickValidator(Sick):
    method = "validate"

    class healthy(StructuralValidator):
        def validate(self, *args):
            return attrs.evolve(super().validate(*args), reusable=False)


class SickMachine(Sick):
    method = "check"
    healthy = StandardStateMachine
    label = staticmethod(StandardStateMachine().label)


class SickOrder(Sick):
    method = "order"
    admit = PriorityQueue().admit

    class healthy:
        def order(self, task, context):
            return Order(key=context.now)


class SickAdmission(Sick):
    method = "admit"
    order = PriorityQueue().order

    class healthy:
        def admit(self, task, context):
            return Admission(admitted=True)


class SickRetry(Sick):
    method = "decide"
    healthy = BackoffRetryHandler


class SickAllocator(Sick):
    method = "allocate"

    class healthy(PoolAllocator):
        def allocate(self, *args):
            return attrs.evolve(super().allocate(*args), reusable=False)


PARTS: dict[str, tuple[str, type[Sick], bool]] = {
    # name: (argument, part, whether it is asked at submission)
    "registry": ("registry", SickRegistry, True),
    "router": ("router", SickRouter, False),
    "validator": ("validator", SickValidator, True),
    "state_machine": ("state_machine", SickMachine, True),
    "order": ("queue", SickOrder, True),
    "admit": ("queue", SickAdmission, True),
    "retry_handler": ("retry_handler", SickRetry, False),
    "allocator": ("allocator", SickAllocator, False),
}


class Odd:
    """Neither can it be shown, nor compared, nor tested."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __bool__(self):
        raise RuntimeError("no truth")

    __hash__ = None


class RudeError(Exception):
    def __str__(self):
        raise RuntimeError("not even that")


def throw(error: BaseException) -> Answer:
    def answer():
        raise error

    return answer


GENERAL: list[Any] = [
    pytest.param(throw(ValueError("broken")), "broken", id="raises"),
    pytest.param(throw(SystemExit(3)), "SystemExit", id="exits"),
    pytest.param(throw(GeneratorExit()), "GeneratorExit", id="generator-exit"),
    pytest.param(throw(StopIteration("x")), "StopIteration", id="stop-iteration"),
    pytest.param(throw(RudeError()), "RudeError", id="cannot-be-printed"),
    pytest.param(throw(RecursionError()), "RecursionError", id="recursion"),
    pytest.param(lambda: None, "returned None", id="None"),
    pytest.param(lambda: True, "returned True", id="True"),
    pytest.param(lambda: "yes", "returned 'yes'", id="text"),
    pytest.param(lambda: Verdict, "returned <class", id="class"),
    pytest.param(Odd, "returned <Odd>", id="odd"),
    pytest.param(lambda: Odd, "not a", id="odd-class"),
    pytest.param(lambda: "x" * 100_000, "returned 'xxx", id="long"),
]

SPECIAL: list[Any] = [
    ("registry", lambda: Match(("nobody",)), "'nobody', which is no worker"),
    ("registry", lambda: Match(("local",)), "'local', which is no worker"),
    ("registry", lambda: Match(None), "None"),
    ("registry", lambda: Match("local"), "'local'"),
    ("registry", lambda: Match(([],)), ""),
    ("registry", lambda: Match((5,)), "5, which is no worker"),
    ("registry", lambda: Match((Odd(),)), ""),
    ("router", lambda: Route("nobody"), "'nobody', not one of worker"),
    ("router", lambda: Route(None), "None, not one of worker"),
    ("router", lambda: Route("local"), "'local', not one of worker"),
    ("router", lambda: Route(Odd()), ""),
    ("validator", lambda: Verdict(None), "None"),
    ("validator", lambda: Verdict(("no",)), "'no'"),
    ("validator", lambda: Verdict(5), "5"),
    ("state_machine", lambda: Permit(Odd()), ""),
    ("state_machine", lambda: Permit(None), "None"),
    ("order", Order, "None is no key"),
    ("order", lambda: Order(key=math.nan), "nan is no key"),
    ("order", lambda: Order(key=(1, math.nan)), "is no key"),
    ("order", lambda: Order(key=True), "True is no key"),
    ("order", lambda: Order(key=()), "() is no key"),
    ("order", lambda: Order(key=[1]), "[1] is no key"),
    ("order", lambda: Order(key=object()), "is no key"),
    ("order", lambda: Order(key=Odd()), "<Odd> is no key"),
    ("order", lambda: Order(key="text"), "cannot be compared with earlier ones"),
    ("order", lambda: Order(key=(1, 2)), "cannot be compared with earlier ones"),
    ("order", lambda: Order(aging=-1), "-1"),
    ("order", lambda: Order(aging=math.nan), "nan"),
    ("order", lambda: Order(aging="slow"), "slow"),
    ("admit", lambda: Admission(admitted=True, max_age=-1), "-1"),
    ("admit", lambda: Admission(admitted=True, max_age=math.inf), "inf"),
    ("admit", lambda: Admission(admitted=True, max_age="old"), "old"),
    ("admit", lambda: Admission(admitted=Odd()), ""),
    ("admit", lambda: Admission(admitted=None), "None"),
    ("retry_handler", lambda: RetryDecision(retry=True, delay=-1), "-1"),
    ("retry_handler", lambda: RetryDecision(retry=True, delay=math.nan), "nan"),
    ("retry_handler", lambda: RetryDecision(retry=True, delay=math.inf), "inf"),
    ("retry_handler", lambda: RetryDecision(retry=True, delay="1"), "'1'"),
    ("retry_handler", lambda: RetryDecision(retry=True, delay=None), "None"),
    ("retry_handler", lambda: RetryDecision(retry=None), "None"),
    ("retry_handler", lambda: RetryDecision(retry=Odd()), "<Odd>"),
    ("allocator", lambda: Allocation(Resources(cpu=3)), "more cpu than is free"),
    ("allocator", lambda: Allocation(Resources(cpu=1.5)), "more cpu than was asked"),
    ("allocator", lambda: Allocation(Resources(gpu=1)), "more gpu than is free"),
    ("allocator", lambda: Allocation(Resources(memory_mb=1)), "than was asked"),
    ("allocator", lambda: Allocation({"cpu": 1}), "not Resources"),
    ("retry_handler", lambda: RetryDecision(retry=True, avoid="worker"), "a list"),
    ("retry_handler", lambda: RetryDecision(retry=True, avoid=5), "a list of workers"),
    (
        "retry_handler",
        lambda: RetryDecision(retry=True, avoid=[Odd()]),
        "worker to avoid is <Odd",
    ),
    *(
        (name, lambda make=make: make(Odd()), "reason is <Odd>, not a text")
        for name, make in (
            ("registry", lambda reason: Match(["worker"], reason)),
            ("router", lambda reason: Route("worker", reason)),
            ("admit", lambda reason: Admission(admitted=True, reason=reason)),
            ("state_machine", lambda reason: Permit(allowed=True, reason=reason)),
            ("retry_handler", lambda reason: RetryDecision(retry=True, reason=reason)),
            ("allocator", lambda reason: Allocation(Resources(cpu=1), reason)),
        )
    ),
    ("validator", lambda: Verdict((Finding("a", Odd()),)), "message is <Odd>"),
    ("validator", lambda: Verdict((Finding(5, "b"),)), "path is 5"),
    ("allocator", lambda: Allocation("all"), "not Resources"),
    ("allocator", lambda: Allocation(Odd()), "not Resources"),
]


def task(**options) -> Task:
    """A task that every part is asked about."""
    options = {"resources": Resources(cpu=1), "type": "work"} | options
    return Task(payload=5, **options)


class World:
    """An orchestrator with one sick part, and what it says of it."""

    def __init__(self, name: str) -> None:
        argument, part, self.at_submission = PARTS[name]
        self.argument = argument
        self.part = part()
        self.orch = TaskOrchestrator(
            resources=Resources(cpu=2, memory_mb=10), **{argument: self.part}
        )
        self.failed: list[ComponentFailed] = []
        self.orch.signals.component_failed.connect(self.failed.append)
        self.fails = name == "retry_handler"
        self.orch.agent(
            "worker", capabilities={"work"}, max_concurrency=None, executor="thread"
        )(self.work)

    def work(self, task, context):
        if self.fails and self.part.answer is not None:
            raise OSError("the attempt failed")
        return task.payload

    def goes_on(self) -> None:
        self.part.answer = None
        assert self.orch.submit_task(task()).result(PATIENCE) == 5
        assert self.orch.submit(pow, 2, 5).result(PATIENCE) == 32

    def blame(self, answer: Answer, *, at_submission: bool | None = None) -> str:
        """Have the part do *answer* for one task; what is said of it."""
        self.goes_on()
        before = self.orch.submit_task(task())
        assert before.result(PATIENCE) == 5
        known = {status.task_id for status in self.orch.tasks()}
        self.part.answer = answer
        at_submission = self.at_submission if at_submission is None else at_submission
        handle = error = None
        try:
            handle = self.orch.submit_task(task(id="victim"))
            handle.result(PATIENCE)
        except ComponentError as raised:
            error = raised
        assert error is not None
        assert error.component == self.argument
        assert error.code == "component"
        text = str(error)
        assert f"the {self.argument} failed: " in text
        assert len(text) < 2_000
        if at_submission:
            # Nothing of it is left.
            assert handle is None
            assert {s.task_id for s in self.orch.tasks()} == known
        else:
            assert handle is not None
            assert "victim" in text
            status = self.orch.get_task_status("victim")
            assert status.state is TaskState.FAILED
            assert isinstance(status.error, ComponentError)
            assert self.orch.get_stats().failures == {"component": 1}
        self.goes_on()
        assert self.orch._rt.publisher.flush(PATIENCE)
        assert {event.component for event in self.failed} == {self.argument}
        if not at_submission:
            assert {event.task_id for event in self.failed} == {"victim"}
        assert self.failed[0].error_type
        stats = self.orch.get_stats()
        assert stats.resources["cpu"].used == 0
        assert stats.agents["worker"].running == 0
        return text


@pytest.fixture
def world(request):
    world = World(request.param)
    with world.orch:
        yield world
        world.goes_on()


@pytest.mark.parametrize(
    ("world", "answer", "says"),
    [
        pytest.param(
            part,
            *given.values,
            id=f"{part}-{given.id}",
            marks=pytest.mark.slow("all parts with each answer")
            if (row + column) % 3
            else (),
        )
        for row, part in enumerate(PARTS)
        for column, given in enumerate(GENERAL)
    ],
    indirect=["world"],
)
def test_a_part_that_raises_or_answers_nonsense_fails_one_task(world, answer, says):
    """The error and the event name the part; with it healed, all goes on."""
    assert says in world.blame(answer)


@pytest.mark.parametrize(
    ("world", "answer", "says"),
    [pytest.param(*row, id=f"{row[0]}-{row[2] or i}") for i, row in enumerate(SPECIAL)],
    indirect=["world"],
)
def test_an_answer_of_the_right_kind_with_nonsense_in_it_fails_one_task(
    world, answer, says
):
    """What a value of the right class contains is looked at too."""
    assert says in world.blame(answer)


def test_mixing_two_kinds_of_keys_is_told_and_breaks_no_queue():
    """A rule and a key that cannot be compared are not put side by side."""

    answers = [Order(aging=1.0), Order(key=(1, "a")), Order(aging=2.0)]

    class Mixed(PriorityQueue):
        def order(self, task, context):
            return answers.pop(0) if answers else Order(aging=3.0)

    orch = TaskOrchestrator(queue=Mixed())
    first = orch.submit(pow, 2, 3)
    with pytest.raises(ComponentError, match="cannot be compared"):
        orch.submit(pow, 2, 4)
    second = orch.submit(pow, 2, 5)
    with orch:
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (8, 32)


def test_a_batch_of_which_one_is_refused_by_a_sick_part_is_refused_whole():
    """A part that fails in the middle of a batch leaves no half of it."""

    class Third(PriorityQueue):
        count = 0

        def admit(self, task, context):
            self.count += 1
            if self.count == 3:
                raise ValueError("third")
            return Admission(admitted=True)

    with TaskOrchestrator(queue=Third()) as orch:
        with pytest.raises(ComponentError, match="third"):
            orch.submit_tasks([Task.call(pow, 2, n, id=f"t{n}") for n in range(5)])
        assert list(orch.tasks()) == []
        handles = orch.submit_tasks(
            [Task.call(pow, 2, n, id=f"t{n}") for n in range(5)]
        )
        assert [h.result(PATIENCE) for h in handles] == [1, 2, 4, 8, 16]


def test_calls_that_were_accepted_before_one_is_refused_run():
    """A map whose third call is refused says so, and the first two come to their end."""

    class Third(PriorityQueue):
        def admit(self, task, context):
            return Admission(admitted=task.payload.args != (3,))

    ran = []
    with TaskOrchestrator(queue=Third()) as orch:
        with pytest.raises(QueueFullError):
            orch.map(ran.append, [1, 2, 3, 4])
        assert orch.wait(PATIENCE)
        assert sorted(ran) == [1, 2]


# -- calling back in -----------------------------------------------------------------


def calls(orch: TaskOrchestrator, handle: Any) -> dict[str, Callable[[], Any]]:
    """Everything by which a part could call the orchestrator that asks it."""

    def fresh(*args):
        return 1

    return {
        "submit": lambda: orch.submit(pow, 2, 3),
        "submit a new function": lambda: orch.submit(fresh),
        "submit_task": lambda: orch.submit_task(Task.call(pow, 2, 3)),
        "submit_task of a new type": lambda: orch.submit_task(
            Task.call(fresh, type="never seen")
        ),
        "submit_tasks": lambda: orch.submit_tasks([Task.call(pow, 2, 3)]),
        "map": lambda: list(orch.map(fresh, [1])),
        "agent": lambda: orch.agent("late")(fresh),
        "cancel_task": lambda: orch.cancel_task(handle.task_id),
        "suspend_task": lambda: orch.suspend_task(handle.task_id),
        "resume_task": lambda: orch.resume_task(handle.task_id),
        "set_priority": lambda: orch.set_priority(handle.task_id, 1),
        "decide": lambda: orch.decide(handle.task_id, "retry"),
        "rerun_task": lambda: orch.rerun_task(handle.task_id),
        "expire_tasks": lambda: orch.expire_tasks(5),
        "handle": lambda: orch.handle(handle.task_id),
        "get_task_status": lambda: orch.get_task_status(handle.task_id),
        "tasks": orch.tasks,
        "get_stats": orch.get_stats,
        "explain": lambda: orch.explain(handle.task_id),
        "wait": orch.wait,
        "as_completed": lambda: list(as_completed([handle], timeout=PATIENCE)),
        "stop": orch.stop,
        "stop at once": lambda: orch.stop(drain=False),
        "connect": lambda: orch.signals.task_failed.connect(print),
        "cancel of a handle": handle.cancel,
        "result": handle.result,
        "result in time": lambda: handle.result(1),
        "exception": handle.exception,
        "add_done_callback": lambda: handle.add_done_callback(print),
        "future": handle.future,
    }


NAMES = list(calls(TaskOrchestrator(), TaskOrchestrator().submit(pow, 2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_part_that_calls_the_orchestrator_is_refused_and_not_hung(name):
    """It would wait for the lock under which it is asked."""
    world = World("router")
    with world.orch as orch:
        world.goes_on()
        free = threading.Event()
        running = orch.submit(free.wait, PATIENCE)
        call = calls(orch, running)[name]
        text = world.blame(call)
        assert "ReentryError" in text
        free.set()
        assert running.result(PATIENCE)
        # From here it is allowed: only the part must not.
        if name not in ("wait", "stop", "stop at once", "decide", "rerun_task"):
            call()


@contextmanager
def world_at_work():
    """A world whose router may be sick, and a task that runs until the block ends."""
    world = World("router")
    with world.orch as orch:
        world.goes_on()
        free = threading.Event()
        running = orch.submit(free.wait, PATIENCE)
        yield world, running
        free.set()
        assert running.result(PATIENCE)


def test_an_iteration_that_was_left_is_closed_wherever_the_collector_comes_by():
    with world_at_work() as (world, running):
        ring: list[Any] = [as_completed([running, world.orch.submit(pow, 2, 3)])]
        assert next(ring[0]).result() == 8
        ring.append(ring)
        del ring
        world.blame(gc.collect)


@pytest.mark.parametrize("kind", ["map", "futures"])
def test_a_map_that_was_left_is_closed_wherever_the_collector_comes_by(kind):
    """What it has not come to is cancelled once the step is over."""
    free = threading.Event()

    def work(number):
        return free.wait(PATIENCE) if number else 0

    with TaskOrchestrator(concurrency=1) as orch:
        pool = TaskExecutor(orchestrator=orch) if kind == "futures" else orch
        ring: list[Any] = [pool.map(work, range(5))]
        assert next(ring[0]) == 0
        ring.append(ring)
        del ring
        # As if it came by within a step.
        with orch._rt.lock:
            gc.collect()
        eventually(lambda: len([*orch.tasks(state="cancelled")]) == 3)
        free.set()


@pytest.mark.parametrize("how", ["submit", "map", "submit_task"])
def test_a_consent_that_is_not_reusable_holds_for_one_task(how):
    """The validator is asked about every task, unless it says that it need not be."""

    class NoThree(StructuralValidator):
        def validate(self, task, context):
            if task.payload.args == (3,):
                return Verdict((Finding("payload.args", "three"),))
            return Verdict()

    with TaskOrchestrator(validator=NoThree()) as orch:
        submit = {
            "submit": lambda n: orch.submit(abs, n).result(PATIENCE),
            "map": lambda n: next(orch.map(abs, [n])),
            "submit_task": lambda n: orch.submit_tasks([Task.call(abs, n)])[0].result(),
        }[how]
        assert [submit(n) for n in (1, 2)] == [1, 2]
        with pytest.raises(ValidationFailedError, match="three"):
            submit(3)
        assert submit(4) == 4


def test_a_validator_may_ask_but_not_submit_what_it_would_be_asked_about():
    """It is asked outside the lock; only the endless recursion is refused."""
    world = World("validator")
    with world.orch as orch:
        world.goes_on()
        seen = []

        def ask():
            seen.append(orch.get_stats())
            return Verdict()

        world.part.answer = ask
        assert orch.submit_task(task()).result(PATIENCE) == 5
        assert seen
        text = world.blame(lambda: orch.submit_task(task()))
        assert "ReentryError" in text
        assert "asked again" in text


def test_a_part_that_reports_the_progress_of_a_task_is_refused_and_not_hung():
    """Nobody listens, so it would be a step of its own; then as above."""
    contexts = []

    class Router(PerformanceRouter):
        def route(self, task, candidates, context):
            if contexts:
                contexts[0].progress(0.5)
            return super().route(task, candidates, context)

    with TaskOrchestrator(router=Router()) as orch:
        free = threading.Event()

        def work(task, context):
            contexts.append(context)
            free.wait(PATIENCE)

        orch.agent("a", capabilities={"x"}, max_concurrency=None)(work)
        first = orch.submit_task(Task("x"))
        eventually(lambda: contexts)
        with pytest.raises(ComponentError, match="ReentryError"):
            orch.submit_task(Task("x")).result(PATIENCE)
        free.set()
        first.result(PATIENCE)


def test_an_allocator_that_grants_what_another_holds_is_refused():
    """Of what there is in all, not more than is free."""
    world = World("allocator")
    with world.orch as orch:
        free = threading.Event()
        needs = Resources(memory_mb=6)
        orch.submit_task(Task.call(free.wait, PATIENCE, resources=needs))
        eventually(lambda: orch.get_stats().resources["memory_mb"].used == 6)
        world.part.answer = lambda: Allocation(needs)
        with pytest.raises(ComponentError, match="more memory_mb than is free"):
            orch.submit_task(Task.call(int, resources=needs)).result(PATIENCE)
        free.set()


# -- slow parts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "world", ["router", "order", "allocator", "retry_handler"], indirect=True
)
def test_a_slow_part_is_reported_by_name_and_in_seconds(world):
    """All others wait meanwhile, so somebody should know."""
    slow: list[PolicySlow] = []
    world.orch.signals.policy_slow.connect(slow.append)

    def answer():
        time.sleep(0.12)
        world.part.answer = None
        if world.fails:
            return RetryDecision(retry=True, reason="patience")
        if world.argument == "router":
            return Route("worker")
        if world.argument == "queue":
            return Order(key=0.0)
        return Allocation(Resources(cpu=1))

    world.part.answer = answer
    assert world.orch.submit_task(task()).result(PATIENCE) == 5
    assert world.orch.wait(PATIENCE)
    # On a busy machine, others may be slow as well.
    ours = [each.seconds for each in slow if each.component == world.argument]
    assert max(ours, default=0) >= 0.12
    assert not world.failed


@pytest.mark.parametrize("name", ["router", "validator"])
def test_a_slow_part_is_named_in_the_log_each_time(name, monkeypatch, caplog):
    """Whoever listens to no signal learns of it too, and not of the first time only."""
    for module in (_runtime, _deciders):
        monkeypatch.setattr(module, "BLOCKING_SECONDS", 0.02)
    monkeypatch.setattr(_notices, "_PAUSE", 0)
    world = World(name)
    with world.orch as orch:
        world.goes_on()
        for count in (1, 2, 3):

            def answer():
                time.sleep(0.05)
                world.part.answer = None
                return Route("worker") if name == "router" else Verdict()

            world.part.answer = answer
            assert orch.submit_task(task()).result(PATIENCE) == 5
            assert orch.wait(PATIENCE)
            orch._rt.publisher.flush(PATIENCE)
            assert len(re.findall(rf"the {name} took \d", caplog.text)) >= count


# -- each in its own way -------------------------------------------------------------


def test_findings_of_a_validator_are_the_refusal():
    """A validator's own words reach the caller, with their paths."""

    class Strict:
        def validate(self, task, context):
            return Verdict((Finding("payload.path", "must be relative"),))

    rejected = []
    with TaskOrchestrator(validator=Strict()) as orch:
        orch.signals.task_rejected.connect(rejected.append)
        with pytest.raises(ValidationFailedError) as caught:
            orch.submit_task(Task("x", id="a"))
        assert caught.value.findings == (("payload.path", "must be relative"),)
        assert "payload.path: must be relative" in str(caught.value)
        assert orch.wait(PATIENCE)
    assert [event.task_id for event in rejected] == ["a"]


def test_a_state_machine_that_forbids_everything_lets_nothing_in():
    """Each refusal says which transition, and why."""

    class Never(StandardStateMachine):
        watches = None
        on = True

        def check(self, transition, context):
            return Permit(not self.on, "never")

    machine = Never()
    with TaskOrchestrator(state_machine=machine) as orch:
        with pytest.raises(InvalidTransitionError, match="never"):
            orch.submit(pow, 2, 3)
        machine.on = False
        free = threading.Event()
        running = orch.submit(free.wait, PATIENCE)
        waiting = orch.submit_task(Task.call(pow, 2, 3, not_before=1_000))
        machine.on = True
        for call in (orch.cancel_task, orch.suspend_task):
            for handle in (running, waiting):
                with pytest.raises(InvalidTransitionError, match="never") as caught:
                    call(handle.task_id)
                assert handle.task_id in str(caught.value)
        free.set()
        # The end of an attempt has happened and cannot be forbidden.
        assert running.result(PATIENCE)
        assert not waiting.done()
        # Nor can the end of the orchestrator.
        orch.stop(drain=False)
    assert waiting.cancelled()


def test_a_veto_of_a_start_keeps_a_task_queued_and_explain_says_why():
    """It starts when something changes and the machine agrees."""

    class Closed(StandardStateMachine):
        watches = ((TaskState.QUEUED, TaskState.RUNNING),)
        closed = True

        def check(self, transition, context):
            return Permit(not self.closed or transition.type == "ok", "not now")

    machine = Closed()
    with TaskOrchestrator(state_machine=machine) as orch:
        held = orch.submit(pow, 2, 3)
        assert orch.wait(PATIENCE)
        assert orch.get_task_status(held.task_id).state is TaskState.QUEUED
        assert "not now" in str(orch.explain(held.task_id))
        machine.closed = False
        assert orch.submit_task(Task.call(pow, 2, 4, type="ok")).result(PATIENCE) == 16
        assert held.result(PATIENCE) == 8


@pytest.mark.parametrize(
    "watches", [5, "queued", [5], [("queued",)], [("queued", "asleep")], [None]]
)
def test_watches_that_are_no_pairs_of_states_are_refused(watches):
    """The attribute is named when the orchestrator is made."""

    class Bad(StandardStateMachine):
        pass

    Bad.watches = watches
    with pytest.raises(InvalidTaskError, match="watches"):
        TaskOrchestrator(state_machine=Bad())


@pytest.mark.parametrize(
    "label",
    [
        throw(ValueError("no label")),
        throw(SystemExit(1)),
        Odd,
        lambda: None,
    ],
)
def test_a_label_that_fails_is_replaced_by_ours(label):
    """A name for the outside is not worth a failure."""

    class Named(StandardStateMachine):
        def label(self, state):
            return label()

    with TaskOrchestrator(state_machine=Named()) as orch:
        handle = orch.submit(pow, 2, 3)
        assert handle.result(PATIENCE) == 8
        status = orch.get_task_status(handle.task_id)
        assert status.label in ("completed", "None")
        assert len(list(orch.tasks())) == 1


def test_a_label_that_calls_the_orchestrator_does_not_hang():
    """It is asked under the lock too."""
    box = []

    class Named(StandardStateMachine):
        def label(self, state):
            return str(box[0].get_stats().state_machine.total)

    with TaskOrchestrator(state_machine=Named()) as orch:
        box.append(orch)
        handle = orch.submit(pow, 2, 3)
        assert handle.result(PATIENCE) == 8
        assert orch.get_task_status(handle.task_id).label == "completed"


def test_a_queue_that_admits_nobody_is_quoted():
    """Its reason reaches the caller; without one, that is said."""

    class Shut(PriorityQueue):
        reason = "shut for today"

        def admit(self, task, context):
            return Admission(admitted=False, reason=self.reason)

    queue = Shut()
    with TaskOrchestrator(queue=queue) as orch:
        with pytest.raises(QueueFullError, match="shut for today"):
            orch.submit(pow, 2, 3)
        queue.reason = ""
        with pytest.raises(QueueFullError, match="no reason given"):
            orch.submit(pow, 2, 3)


def test_an_allocator_that_never_grants_leaves_tasks_queued_and_the_end_in_peace():
    """They are what the stop report lists."""

    class Miser:
        def allocate(self, request, pools, context):
            return Allocation(None, "mine")

    orch = TaskOrchestrator(allocator=Miser(), resources=Resources(cpu=1))
    with orch:
        held = orch.submit(pow, 2, 3)
        assert orch.wait(PATIENCE)
        assert not held.done()
        assert orch.get_task_status(held.task_id).state is TaskState.QUEUED
    assert [left.task_id for left in orch.stop().left] == [held.task_id]


def test_an_allocator_may_grant_less():
    """What it grants is what the task holds, and what is released."""

    class Half:
        def allocate(self, request, pools, context):
            return Allocation(Resources(cpu=request.resources["cpu"] / 2))

    with TaskOrchestrator(allocator=Half(), resources=Resources(cpu=2)) as orch:
        free = threading.Event()
        handles = [
            orch.submit_task(Task.call(free.wait, PATIENCE, resources=Resources(cpu=2)))
            for _ in range(2)
        ]
        allocations = [
            orch.get_task_status(handle.task_id).allocation for handle in handles
        ]
        assert allocations == [Resources(cpu=1), Resources(cpu=1)]
        free.set()
        assert all(handle.result(PATIENCE) for handle in handles)
        assert orch.get_stats().resources["cpu"].used == 0


def test_a_predicate_of_retry_on_that_raises_fails_its_task_alone():
    """It is the user's too, and asked by the default handler."""

    def predicate(error):
        raise ZeroDivisionError("in retry_on")

    def fail():
        raise ValueError("first")

    with TaskOrchestrator() as orch:
        retry = RetryPolicy(max_attempts=3, retry_on=predicate)
        handle = orch.submit_task(Task.call(fail, retry=retry))
        with pytest.raises(ComponentError, match="in retry_on") as caught:
            handle.result(PATIENCE)
        assert caught.value.component == "retry_handler"
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


def test_a_handler_that_always_retries_is_bounded_by_the_end():
    """`stop` ends a task that would go on for ever."""

    class Always:
        def decide(self, failure, context):
            return RetryDecision(retry=True, delay=0.01)

    def fail():
        raise ValueError

    orch = TaskOrchestrator(retry_handler=Always(), stop_timeout=0.05)
    with orch:
        handle = orch.submit(fail)
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
    assert handle.cancelled()
    assert not orch.stop().drained


def test_a_registry_that_is_sick_at_the_end_does_not_keep_it_from_ending():
    """The report's reasons come from policies, and may have to do without."""
    world = World("registry")
    orch = world.orch
    orch.start()
    world.goes_on()
    left = orch.submit_task(task(not_before=1_000))
    full = threading.Event()
    running = [
        orch.submit_task(Task.call(full.wait, 0.2, resources=Resources(cpu=1)))
        for _ in range(2)
    ]
    queued = orch.submit_task(task())
    world.part.answer = throw(ValueError("sick"))
    report = orch.stop(drain=False)
    assert {u.task_id for u in report.left} >= {left.task_id, queued.task_id}
    assert all(handle.done() for handle in (left, queued, *running))
