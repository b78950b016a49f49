"""What is not well formed is refused at once, with what, where and what to do."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import math
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    CycleError,
    DuplicateTaskError,
    Elastic,
    InvalidTaskError,
    MemoryJournal,
    Resources,
    RetryPolicy,
    Task,
    TaskorchError,
    TaskOrchestrator,
    UnknownTaskError,
    ValidationFailedError,
    Workflow,
)
from taskorch.api.journal import SqliteJournal
from taskorch.errors import (
    UnknownCapabilityError,
    UnsatisfiableError,
    UsageError,
)
from taskorch.ext.learning import Learned
from taskorch.ext.telemetry.prometheus import exposition
from taskorch.model import Quota
from taskorch.policies import FifoQueue, PriorityQueue, StructuralValidator
from taskorch.protocols import Verdict

HUGE = 10**400
ENORMOUS = 10**5_000
"""More digits than Python is willing to print."""
NAN, INF = math.nan, math.inf
NO_SECONDS = [
    *(-1, -0.001, NAN, INF, -INF, 1e300, HUGE, ENORMOUS, True, "5", [5]),
    timedelta(seconds=-5),
]

#: A task that would do, but for what it is given besides.
power = partial(Task.call, pow, 2, 3)


@pytest.fixture
def orch():
    with TaskOrchestrator(resources=Resources(cpu=4, memory_mb=1_000)) as orch:

        @orch.agent("reviewer", capabilities={"code-review", "code-style"})
        def review(task, context):
            return ("reviewed", task.payload)

        before = orch.submit(pow, 2, 3)
        yield orch
        # Whatever was refused: nothing of it is left, and the rest goes on.
        assert before.result(PATIENCE) == 8
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        last = orch.submit_task(Task("code-review", "last"))
        assert last.result(PATIENCE) == ("reviewed", "last")
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        assert stats.state_machine.blocked == 0
        assert stats.queue.queued == 0


def refused(orch: TaskOrchestrator, *tasks: Any, kind: Any = UsageError) -> Any:
    """Submit *tasks*; nothing of them may be accepted, and few words say why."""
    before = {status.task_id for status in orch.tasks()}
    with pytest.raises(kind) as caught:
        orch.submit_tasks(tasks)
    assert {status.task_id for status in orch.tasks()} == before
    assert caught.value.code
    return caught.value


def findings(orch: TaskOrchestrator, **options: Any) -> list[str]:
    """The options that the refusal of a task names."""
    error = refused(orch, power(**options), kind=ValidationFailedError)
    assert len(str(error)) < 1_000
    return [path for path, _ in error.findings]


# -- what nobody can do, what needs what there is not, and what is known otherwise -----

#: Tasks that are refused together, with what kind of error, and what it says, in order.
REFUSALS = [
    ([Task("code-reviw", "a.py")], UnknownCapabilityError, (
        "'code-reviw'.*did you mean 'code-review'.*: build, code-review, code-style "
        ".*unknown_capability='wait'")),
    ([Task("x", requires=["code-style", "build"])], UnknownCapabilityError,
     "no worker has all of them"),
    ([power(resources=Resources(cpu=5))], UnsatisfiableError, "5 cpu.*is 4 .*ask for less"),
    ([power(resources=Resources(memory_mb=1_001))], UnsatisfiableError,
     "1001 memory_mb.*is 1000 .*ask for less"),
    ([power(resources=Resources(gpu=8))], UnsatisfiableError,
     "8 gpu.*no pool and no worker has a resource of that name"),
    ([power(resources=Resources(cpu=1, licence=1))], UnsatisfiableError,
     "1 licence.*no pool and no worker has a resource of that name"),
    # The largest worker is named, and not the first.
    ([Task("build", resources=Resources(cpu=3))], UnsatisfiableError, "3 cpu.*worker large"),
    ([power(id="b", after=["nowhere"])], UnknownTaskError, "task b needs.*'nowhere'"),
    ([Task("code-review", after=["nowhere"])], UnknownTaskError, "'code-review'.*'nowhere'"),
    ([Task.call(abs, Task.call(int))], UnknownTaskError, "abs"),
    ([power(after=[Task("x")])], UnknownTaskError, "pow"),
    ([power(id="me", after=["me"])], CycleError, "'me' waits for itself"),
    *(([power(id="b", after=[junk])], UsageError, "id,.* handle")
      for junk in (None, 5, b"b", object(), ["a"], 1.5)),
    *(([power(id=name)], ValidationFailedError, "an id is a str")
      for name in (5, b"x", ("a",), 1.5, True)),
    ([power(id="twin"), Task.call(pow, 2, 4, id="twin")], DuplicateTaskError,
     "one batch.*'twin'|'twin'.*one batch"),
    ([power(idempotency_key="order 5"), Task.call(pow, 2, 4, idempotency_key="order 5")],
     DuplicateTaskError, "one batch.*'order 5'|'order 5'.*one batch"),
    *(([other], DuplicateTaskError, "'known'.*use another id") for other in (
        Task.call(pow, 2, 4, id="known"), Task.call(max, 2, 3, id="known"),
        power(id="known", type="other"), power(id="known", join="finished"))),
    ([Task.call(pow, 2, 4, idempotency_key="k")], DuplicateTaskError,
     r"'k'.*\(use another key"),
    *(([power(**{option: datetime(2030, 1, 1)})], ValidationFailedError,  # noqa: DTZ001
       r"no time zone.*datetime\.now\(UTC\)") for option in ("deadline", "not_before")),
    ([power(deadline=5, not_before=10)], ValidationFailedError, "not later than not_before"),
    ([power(deadline=datetime(2030, 1, 1, tzinfo=UTC),
            not_before=datetime(2030, 1, 1, 1, tzinfo=UTC))],
     ValidationFailedError, "not later than not_before"),
    # The good ones are not accepted either.
    ([power(id="good"), power(id="b", timeout=-1)], ValidationFailedError, "'b'"),
    ([power(id="good"), Task("no such thing")], UnknownCapabilityError, "'no such thing'"),
    ([power(executor="")], InvalidTaskError, "executor"),
    *(([power(executor=name)], InvalidTaskError, f"executor '{name}'.*'thread'")
      for name in ("cpu", "program", "ray")),
    ([Task.call(asyncio.sleep, 0, executor="thread")], UsageError, "runs on the loop"),
    ([power(executor="asyncio")], UsageError, "async def"),
    *(([power(**{option: value})], ValidationFailedError, f"{option}.*{word}.*submit again")
      for option, value, word in (
        ("after", "other", "a list of ids"), ("after", 5, "a list of ids"),
        ("after", iter(["a"]), "read once"), ("requires", "code-review", "a list of cap"),
        ("requires", [5], "str"), ("requires", [""], "empty"),
        ("resources", [("cpu", 1)], r"Resources\(cpu=1\)"), ("resources", None, "Resources"),
        ("retry", "3", r"RetryPolicy\(max_attempts=3\)"), ("retry", None, "RetryPolicy"),
        ("idempotent", 1, "True or False"), ("idempotency_key", 5, "str"),
        ("idempotency_key", "k" * 300, "200"), ("idempotency_key", "a\nb", "printed"),
        ("metadata", ["a"], "mapping"), ("type", "", "empty"), ("type", " x", "space"),
        ("type", "x" * 600, "500"), ("type", "a\0b", "printed"), ("type", 5, "str"),
      )),
]  # fmt: skip


def test_what_cannot_be_done_is_refused_with_what_is_wrong_and_what_to_do(orch):
    """Of a known id or key, the same again is the same task."""
    for name, cpu in (("small", 1), ("large", 2)):
        orch.agent(name, capabilities={"build"}, capacity=Resources(cpu=cpu))(
            lambda task, context: "built"
        )
    for known in (power(id="known"), power(idempotency_key="k")):
        first = orch.submit_task(known)
        assert orch.submit_task(attrs.evolve(known)) is first
    for tasks, kind, says in REFUSALS:
        assert re.search(says, str(refused(orch, *tasks, kind=kind)), re.DOTALL), says


def test_a_refusal_has_its_parts_and_each_kind_its_code(orch):
    """Programs tell refusals apart by `code`, people by the message."""
    nobody = refused(orch, Task("code-reviw"))
    assert nobody.capability == "code-reviw"
    assert nobody.known == ("code-review", "code-style")
    large = refused(orch, power(resources=Resources(memory_mb=1_001)))
    assert (large.resource, large.need, large.most) == ("memory_mb", 1_001.0, 1_000.0)
    unheard = refused(orch, power(resources=Resources(gpu=1)))
    assert (unheard.resource, unheard.need, unheard.most) == ("gpu", 1.0, 0.0)
    ring = refused(orch, power(id="x", after=["x"]))
    assert ring.cycle == ("x",)
    orch.submit_task(power(id="known"))
    known = refused(orch, Task.call(pow, 2, 4, id="known"))
    assert known.task_id == "known"
    # All faults are told at once.
    many = refused(orch, power(id="../x", priority="high", timeout=-1, retry="3"))
    named = [path for path, _ in many.findings]
    assert named == ["id", "priority", "timeout", "retry"]
    missing, junk = refused(orch, power(after=["zz"])), refused(orch, 5)
    different = (nobody, large, ring, known, many, missing, junk)
    codes = {error.code for error in different}
    assert len(codes) == len(different)
    assert TaskorchError.code not in codes


def test_where_there_is_no_worker_the_error_says_so():
    """Also of a task that any worker may have, by `requires=[]`."""
    with TaskOrchestrator() as orch:
        error = refused(orch, Task("anything"), kind=UnknownCapabilityError)
        assert "none at all" in str(error)
        with pytest.raises(UnknownCapabilityError, match="any worker, and there is no"):
            orch.submit_task(Task("x", requires=[]))
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


def test_a_ring_is_shown_and_refused_whole(orch):
    """The ring stands in the error in order; tasks outside it are not accepted."""
    error = refused(
        orch,
        Task.call(pow, 2, 1, id="free"),
        Task.call(pow, 2, 2, id="a", after=["c"]),
        Task.call(pow, 2, 3, id="b", after=["a"]),
        Task.call(pow, 2, 4, id="c", after=["b", "free"]),
        Task.call(pow, 2, 5, id="below", after=["c"]),
    )
    assert isinstance(error, CycleError)
    assert sorted(error.cycle) == ["a", "b", "c"]
    ring = [*error.cycle, error.cycle[0]]
    needs = {"a": "c", "b": "a", "c": "b"}
    assert all(needs[x] == y for x, y in pairwise(ring))
    assert " → ".join(ring) in str(error)
    # None of the ids is taken.
    assert orch.submit_task(Task.call(pow, 2, 2, id="a")).result(PATIENCE) == 4


def test_a_handle_of_another_orchestrator_is_no_dependency(orch):
    """The error says where the task belongs, and what to do instead."""
    with TaskOrchestrator() as other:
        foreign = other.submit(pow, 2, 3)
        for task in (
            Task.call(pow, 2, 3, id="b", after=[foreign]),
            Task.call(abs, foreign, id="c"),
        ):
            error = refused(orch, task)
            assert isinstance(error, UnknownTaskError)
            assert "another orchestrator" in str(error)
            assert "result()" in error.hint
        with pytest.raises(UnknownTaskError, match="another orchestrator"):
            orch.submit(abs, foreign)
        assert foreign.result(PATIENCE) == 8


def test_one_task_object_can_be_given_to_two_orchestrators(orch):
    """A Task is a description: each orchestrator runs it for itself."""
    task = Task.call(pow, 2, 3)
    first = orch.submit_task(task)
    with TaskOrchestrator() as other:
        second = other.submit_task(task)
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (8, 8)
        assert first is not second
        # The name by which it is meant was given by the other one last.
        error = refused(orch, Task.call(pow, 2, 3, after=[task]))
        assert "another orchestrator" in str(error)


# -- names and numbers -----------------------------------------------------------------

UNSAFE = [
    *[
        "../x",
        "a/../b",
        "..",
        ".",
        "/etc/passwd",
        "a//b",
        "a/",
        "~root",
        "a~2",
        "a~b",
        ".hidden",
        "a/.hidden",
    ],
    *[
        "-rf",
        "a/-rf",
        "dot.",
        "dot./x",
        "C:\\x",
        "back\\slash",
        "naïve",
        "a;b",
        "$(x)",
        "a*",
        "a:b",
    ],
    *("", " ", "nul\0", "new\nline", "tab\t", "space end ", "x" * 201, "x" * 300),
    *("\uff46\uff55ll", "\u202egpj.exe", "emoji-🙂", "\ud800"),
]


def test_an_unsafe_id_is_refused(orch):
    """What could lead elsewhere as part of a path is no id, nor the name of a worker."""
    for name in UNSAFE:
        assert findings(orch, id=name) == ["id"], ascii(name)
        with pytest.raises(InvalidTaskError):
            orch.agent(name)
    # The limits themselves are allowed.
    for name in ("x" * 200, "/".join("abcdefgh"), "A_b-c.d", "0", "CON", "a..b"):
        assert orch.submit_task(power(id=name)).task_id == name


def test_a_payload_that_cannot_be_compared_is_other_content(orch):
    """A comparison of the user's that raises takes nothing down."""

    class Odd:
        def __eq__(self, other):
            raise RuntimeError("no")

        __hash__ = None

    orch.submit_task(Task("code-review", Odd(), id="odd"))
    assert isinstance(
        refused(orch, Task("code-review", Odd(), id="odd")), DuplicateTaskError
    )


def test_a_number_of_a_task_out_of_its_range_is_refused(orch):
    """Durations are positive and finite, a start may be 0, priorities are whole."""
    for value in NO_SECONDS:
        for option in ("timeout", "deadline", "not_before"):
            assert findings(orch, **{option: value}) == [option], type(value)
    assert findings(orch, timeout=0) == ["timeout"]
    assert findings(orch, deadline=0) == ["deadline"]
    handle = orch.submit_task(power(not_before=0))
    assert handle.result(PATIENCE) == 8
    for value in (True, 1.5, NAN, INF, "high", None, HUGE, ENORMOUS, -1_000_001):
        assert findings(orch, priority=value) == ["priority"], type(value)
        with pytest.raises(InvalidTaskError, match="priority") as caught:
            orch.set_priority(handle.task_id, value)
        assert len(str(caught.value)) < 1_000
        # It is refused before the task is looked for.
        with pytest.raises(InvalidTaskError):
            orch.set_priority("nobody", value)


#: What is made with which options, and the word by which the wrong one is named.
OUT_OF_RANGE = [
    *((Resources, {"gpu": v}, "'gpu'")
      for v in (-1, NAN, INF, -INF, 1e300, HUGE, True, "1", None, 1e-9)),
    (Resources, {"cpu": ENORMOUS}, "cpu"),
    *((RetryPolicy, {option: v}, option) for option, values in (
        ("max_attempts", (0, -1, True, 2.0, INF, HUGE, ENORMOUS)),
        ("base", (-1, NAN, True, ENORMOUS)), ("max_delay", (INF, "1")),
        ("stop_after", (-1, NAN)), ("jitter", (-0.1, 1.5, NAN, True, "half", None)),
        ("wait", ("random", 5)), ("retry_on", ("ValueError", (ValueError, 5), int)),
    ) for v in values),
    *((TaskOrchestrator, {option: v}, option) for option, values in (
        ("concurrency", (0, -1, 1.5, True, "10", None, NAN, INF)),
        ("keep_finished", (-1, True, 1.5, None)), ("max_queued", (0, -1, True, 1.5, "9")),
        ("stop_timeout", (-1, NAN, INF, True, "1", HUGE)), ("monitor_interval", (0, -1, NAN)),
        ("seed", ([1], 1.5, True, "seed")), ("unknown_capability", ("ignore", True)),
        ("resources", (5, "cpu", {1: 1})), ("journal", ("", 7, MemoryJournal)),
        ("durability", ("process",)), ("executors", ([1], "cpu", {5: None}, {"": None})),
    ) for v in values),
    *((TaskOrchestrator, options, word) for options, word in (
        ({"resources": {"cpu": -1}}, "cpu"), ({"resources": {"cpu": NAN}}, "cpu"),
        ({"durability": "perhaps", "journal": "runs.db"}, "durability"),
        ({"executors": {"cpu": 5}}, "submit"), ({"executors": {"cpu": None}}, "submit"),
        ({"executors": {"cpu": ThreadPoolExecutor}}, "class"),
        *(({"executors": {name: None}}, "taken") for name in ("thread", "process", "auto")),
        ({"max_queued": 5, "queue": PriorityQueue()}, "max_queued"),
    )),
]  # fmt: skip


def test_an_option_out_of_its_range_is_refused_by_name():
    """Every number is checked when it is given, and nothing is started."""
    for make, options, word in OUT_OF_RANGE:
        with pytest.raises(InvalidTaskError, match=word) as caught:
            make(**options)
        assert len(str(caught.value)) < 1_000


#: Verbs, each with half of a character as a name or as a reason.
HALF = "\ud800"
WITH_HALF = [
    lambda _: Resources(**{HALF: 1}),
    lambda _: Task.call(pow, 2, 3, resources={HALF: 1}),
    lambda orch: orch.submit_task(Task.call(pow, 2, 3, owner=HALF)),
    lambda _: TaskOrchestrator(resources={HALF: 1}),
    lambda _: Quota(type="render", resources={HALF: 1}),
    lambda _: Quota(owner=HALF, resources={"cpu": 1}),
    lambda orch: orch.agent("w", capacity={HALF: 1})(lambda task, context: None),
    lambda orch: orch.resources.resize({HALF: 3}),
    lambda orch: orch.resources.allocate({HALF: 1}, owner="me"),
    lambda orch: orch.resources.allocate({"cpu": 1}, owner=HALF),
    lambda orch: orch.budget(HALF, tokens=1),
    lambda orch: orch.budget("month", **{HALF: 1}),
    lambda orch: orch.emit(HALF),
    lambda orch: orch.hold_starts(HALF),
    lambda orch: orch.hold_starts("lunch", by=HALF),
    lambda orch: orch.cancel_task("later", reason=HALF),
    lambda orch: orch.workflows.cancel("run", reason=HALF),
    lambda orch: orch.schedules.pause("nightly", HALF),
]


@pytest.mark.parametrize("act", WITH_HALF)
def test_half_of_a_character_is_no_name_and_no_reason(orch, act):
    """What it names could not be shown, and the metrics could not be written."""
    orch.submit_task(Task.call(pow, 2, 3, not_before=1_000, id="later"))
    workflow = Workflow("w")
    workflow.task(pow, 2, 3, not_before=1_000, id="x")
    orch.workflows.start(workflow, id="run")
    orch.schedules.add("nightly", "every 1h", Task.call(pow, 2, 3))
    try:
        with pytest.raises((InvalidTaskError, ValidationFailedError)) as caught:
            act(orch)
    finally:
        orch.cancel_task("later")
        orch.workflows.cancel("run")
    str(caught.value).encode()
    exposition(orch.get_stats(), orch.health())


OF_A_WORKER = [
    ({"capabilities": "review"}, "collection"),
    *(({"capabilities": v}, "capabilities") for v in (5, None)),
    *(({"capabilities": [v]}, "capability") for v in (5, "", " x")),
    *(({"max_concurrency": v}, "max_concurrency") for v in (0, -1, 1.5, True, "1", INF)),
    *(({"capacity": v}, "capacity") for v in ([("cpu", 1)], 5)),
    ({"request": {5: 1}}, "request"),
    *(({"executor": v}, "executor") for v in ("cpu", "programs", "ray", "", 5)),
]  # fmt: skip


def test_an_option_of_a_worker_out_of_its_range_is_refused(orch):
    """The option is named, and the worker does not join; nor what is no function."""
    for options, word in OF_A_WORKER:
        with pytest.raises(InvalidTaskError, match=word):
            orch.agent("x", **options)(lambda task, context: None)
    with pytest.raises(InvalidTaskError, match="task, context"):
        orch.agent("x")(5)
    for name in ("reviewer", "local"):
        with pytest.raises(InvalidTaskError, match=f"worker '{name}' already"):
            orch.agent(name)(lambda task, context: None)
    assert set(orch.get_stats().agents) == {"local", "reviewer"}


# -- what is no task -------------------------------------------------------------------

#: What is submitted in place of a task, a list of them, or a function.
NO_TASKS = [
    *((ask, junk, "Task.*Task.call") for junk in (None, 5, "code-review", pow, {"type": "x"}, Task)
      for ask in (lambda o, x: o.submit_task(x), lambda o, x: o.submit_tasks([x]))),
    *((lambda o, x: o.submit_tasks(x), junk, r"list of tasks.*submit_task\(")
      for junk in (None, 5, Task("code-review"))),
    *((ask, junk, word) for junk in (None, 5, "pow", Task("code-review"))
      for ask, word in ((lambda o, x: o.submit(x, 1), "function"),
                        (lambda o, x: o.map(x, [1]), "function"),
                        (lambda _, x: Task.call(x), "call"))),
]  # fmt: skip


def test_what_is_no_task_is_not_submitted(orch):
    """The error names the ways of making one, or what takes tasks."""
    for ask, junk, says in NO_TASKS:
        with pytest.raises(InvalidTaskError, match=f"(?s){says}"):
            ask(orch, junk)


# -- the parts of an orchestrator ------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        "registry",
        "router",
        "validator",
        "state_machine",
        "queue",
        "retry_handler",
        "allocator",
    ],
)
def test_a_part_without_its_methods_is_refused(part):
    """The part and the method that it lacks are named; a class is no object."""
    with pytest.raises(InvalidTaskError, match=rf"{part}=.* has no method \w+\(\)"):
        TaskOrchestrator(**{part: object()})
    with pytest.raises(InvalidTaskError, match="has no method"):
        TaskOrchestrator(**{part: 5})

    class Part:
        pass

    with pytest.raises(InvalidTaskError, match=f"{part}= takes an object.*Part.*call"):
        TaskOrchestrator(**{part: Part})


def test_a_part_whose_repr_raises_is_still_named():
    """An error must not fail over what it shows."""

    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    with pytest.raises(InvalidTaskError, match="router"):
        TaskOrchestrator(router=Rude())
    with pytest.raises(InvalidTaskError, match="Task"), TaskOrchestrator() as orch:
        orch.submit_task(Rude())


def test_a_journal_serves_one_orchestrator():
    """Also one that is empty; a second one would mix its numbers with the first one's."""
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert len(journal) > 0
    with pytest.raises(InvalidTaskError, match="another orchestrator") as caught:
        TaskOrchestrator(journal=journal)
    assert "MemoryJournal" in caught.value.hint


def test_a_question_of_a_wrong_kind_is_refused(orch):
    """States and verdicts that do not exist are told with those that do."""
    for ask, says in (
        (lambda: orch.tasks("asleep"), "queued"),
        (lambda: orch.tasks(older_than=-1), "older_than"),
        (lambda: orch.expire_tasks(NAN), "older_than"),
        (lambda: orch.decide("x", "maybe"), "'retry', 'fail' or 'complete'"),
        (orch.stop_on, r"no signal.*signal\.SIGTERM"),
    ):
        with pytest.raises(InvalidTaskError, match=says):
            ask()


def test_a_lenient_validator_does_not_let_nonsense_in():
    """A validator of the user's adds rules; what is no task at all stays refused."""

    class Yes:
        def validate(self, task, context):
            return Verdict()

    with TaskOrchestrator(validator=Yes()) as orch:
        for task in (
            Task.call(pow, 2, 3, id="../x"),
            Task.call(pow, 2, 3, priority="high"),
            Task.call(pow, 2, 3, timeout="soon"),
            Task.call(pow, 2, 3, resources=5),
            Task.call(pow, 2, 3, retry="3"),
            Task.call(pow, 2, 3, after=5),
            Task.call(pow, 2, 3, deadline=math.nan),
            Task(5),
        ):
            with pytest.raises(ValidationFailedError):
                orch.submit_task(task)
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


def test_a_validator_of_ones_own_sees_well_formed_tasks_only():
    """Its rules need not begin with checks of kinds."""
    seen = []

    class Short:
        def validate(self, task, context):
            seen.append(task)
            return StructuralValidator().validate(task, context)

    with TaskOrchestrator(validator=Short()) as orch:
        with pytest.raises(ValidationFailedError):
            orch.submit_task(Task.call(pow, 2, 3, timeout=-1))
        assert not seen
        assert orch.submit_task(Task.call(pow, 2, 3)).result(PATIENCE) == 8
        assert seen


@pytest.mark.parametrize("of_its_own", [True, False])
def test_durability_is_for_a_journal_that_is_given_by_its_path(of_its_own, tmp_path):
    journal = SqliteJournal(tmp_path / "runs.db") if of_its_own else None
    with pytest.raises(InvalidTaskError, match="by its path") as refused:
        TaskOrchestrator(journal=journal, durability="process")
    assert "SqliteJournal" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("submitTask", "submit_task"),
        ("getStats", "get_stats"),
        ("getTaskStatus", "get_task_status"),
        ("on", "signals"),
        ("revoke", "cancel_task"),
        ("sumbit", "submit"),
    ],
)
def test_a_method_by_another_name_is_told_with_ours(name: str, meant: str) -> None:
    orch = TaskOrchestrator()
    for thing in (orch, orch.aio):
        if meant == "signals" and thing is orch.aio:
            continue
        with pytest.raises(AttributeError, match=f"'{name}': did you mean '{meant}'"):
            getattr(thing, name)
    assert not hasattr(orch, "_private")
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'$"):
        orch.zzz  # noqa: B018


@pytest.mark.parametrize(
    ("act", "meant"),
    [
        (lambda _: Elastic(Resources(cpu=1), fallback="best_efort"), "best_effort"),
        (lambda _: Learned([FifoQueue(), PriorityQueue()], reward="givn"), "given"),
        (lambda _: Learned([FifoQueue()] * 2, algorithm="thomson"), "thompson"),
        (lambda _: RetryPolicy(wait="exponental"), "exponential"),
        (lambda _: Task.question("so?", no=["rejekt"]), "reject"),
        (lambda _: Task.question("so?", due=3, default="aprove"), "approve"),
        (lambda _: TaskOrchestrator(unknown_capability="refus"), "refuse"),
        (lambda _: SqliteJournal("never.db", durability="powr"), "power"),
        (lambda _: Workflow("w").phase("p", on_failure="stopp"), "stop"),
        (lambda o: o.submit_task(Task("a", on_parent_failure="skipp")), "skip"),
        (lambda o: o.submit_task(Task("a", join="finishd")), "finished"),
        (lambda o: o.submit_task(Task.call(pow, 2, 3, executor="thred")), "thread"),
        (lambda o: o.tasks("runing"), "running"),
        (lambda o: o.decide("a", "retri"), "retry"),
        (lambda o: o.change_tasks("cancl"), "cancel"),
    ],
)
def test_a_wrong_word_is_refused_with_the_nearest_that_there_is(orch, act, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        act(orch)
