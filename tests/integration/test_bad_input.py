"""What is not well formed is refused at once, with what, where and what to do."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.integration.tools import PATIENCE

from taskorch import (
    CycleError,
    DuplicateTaskError,
    Elastic,
    InvalidTaskError,
    MemoryJournal,
    NotRunningError,
    Resources,
    RetryPolicy,
    Task,
    TaskorchError,
    TaskOrchestrator,
    TaskState,
    TaskTimeoutError,
    UnknownTaskError,
    ValidationFailedError,
    Workflow,
)
from taskorch.adaptive import Learned
from taskorch.errors import (
    QueueFullError,
    UnknownCapabilityError,
    UnsatisfiableError,
    UsageError,
)
from taskorch.journal import SqliteJournal
from taskorch.policies import FifoQueue, PriorityQueue, StructuralValidator
from taskorch.protocols import Verdict

HUGE = 10**400
ENORMOUS = 10**5_000
"""More digits than Python is willing to print."""


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


def refused(orch: TaskOrchestrator, *tasks: Any) -> UsageError:
    """Submit *tasks*; nothing of them may be accepted."""
    before = {status.task_id for status in orch.tasks()}
    with pytest.raises(UsageError) as caught:
        orch.submit_tasks(tasks)
    assert {status.task_id for status in orch.tasks()} == before
    assert caught.value.code
    return caught.value


# -- what nobody can do ------------------------------------------------------------


def test_an_unknown_capability_is_named_with_the_nearest_match_and_what_there_is(orch):
    """A typing error in a capability is told with the right word beside it."""
    error = refused(orch, Task("code-reviw", "a.py"))
    assert isinstance(error, UnknownCapabilityError)
    assert error.capability == "code-reviw"
    assert error.known == ("code-review", "code-style")
    text = str(error)
    assert "'code-reviw'" in text
    assert "did you mean 'code-review'?" in text
    assert "code-review, code-style" in text
    assert "unknown_capability='wait'" in error.hint


def test_capabilities_that_no_one_agent_has_together_are_refused(orch):
    """Two capabilities of two agents do not make one agent that has both."""

    @orch.agent("painter", capabilities={"paint"})
    def paint(task, context):
        return "painted"

    error = refused(orch, Task("x", requires=["paint", "code-review"]))
    assert isinstance(error, UnknownCapabilityError)
    assert "no worker has all of them" in str(error)


def test_without_any_agent_the_error_says_that_there_is_none():
    """An empty orchestrator says that it knows no capability at all."""
    with TaskOrchestrator() as orch:
        error = refused(orch, Task("anything"))
        assert isinstance(error, UnknownCapabilityError)
        assert "none at all" in str(error)
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


@pytest.mark.parametrize(
    ("resources", "name", "need", "most"),
    [
        (Resources(cpu=5), "cpu", 5.0, 4.0),
        (Resources(memory_mb=1_001), "memory_mb", 1_001.0, 1_000.0),
        (Resources(gpu=8), "gpu", 8.0, 0.0),
        (Resources(cpu=1, licence=1), "licence", 1.0, 0.0),
    ],
)
def test_a_request_beyond_all_pools_is_refused_with_the_most_there_is(
    orch, resources, name, need, most
):
    """More than a pool will ever have is said at submission, in numbers."""
    error = refused(orch, Task.call(pow, 2, 3, resources=resources))
    assert isinstance(error, UnsatisfiableError)
    assert (error.resource, error.need, error.most) == (name, need, most)
    assert f"{need:g} {name}" in str(error)
    if most:
        assert f"is {most:g}" in str(error)
        assert "ask for less" in error.hint
    else:
        assert "no pool and no worker has a resource of that name" in str(error)


def test_a_request_beyond_every_matching_agent_is_refused(orch):
    """The largest agent is named, not the first."""
    for name, cpu in (("small", 1), ("large", 2)):
        orch.agent(name, capabilities={"build"}, capacity=Resources(cpu=cpu))(
            lambda task, context: "built"
        )
    error = refused(orch, Task("build", resources=Resources(cpu=3)))
    assert isinstance(error, UnsatisfiableError)
    assert (error.resource, error.need, error.most) == ("cpu", 3.0, 2.0)
    assert "worker large" in str(error)


def test_a_full_queue_refuses_with_numbers():
    """The limit and the length of the queue stand in the error."""
    orch = TaskOrchestrator(max_queued=2)
    waiting = [orch.submit(pow, 2, n) for n in range(2)]
    with pytest.raises(QueueFullError, match="max_queued is 2") as caught:
        orch.submit(pow, 2, 9)
    assert "2 tasks" in str(caught.value)
    assert "raise max_queued" in caught.value.hint
    # A batch that does not fit is refused whole.
    with pytest.raises(QueueFullError):
        orch.submit_tasks([Task.call(pow, 2, 9)])
    with orch:
        assert [handle.result(PATIENCE) for handle in waiting] == [1, 2]
        assert orch.wait(PATIENCE)
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


# -- dependencies ------------------------------------------------------------------


def test_a_missing_dependency_is_named(orch):
    """The task and what it needs stand in the error."""
    error = refused(orch, Task.call(pow, 2, 3, id="b", after=["nowhere"]))
    assert isinstance(error, UnknownTaskError)
    assert "task b needs" in str(error)
    assert "'nowhere'" in str(error)


def test_a_missing_dependency_of_a_task_without_an_id_says_what_kind_of_task(orch):
    """Without an id, the type tells which task it was."""
    error = refused(orch, Task("code-review", after=["nowhere"]))
    assert isinstance(error, UnknownTaskError)
    assert "'code-review'" in str(error)
    assert "'nowhere'" in str(error)


def test_a_task_that_needs_itself_is_refused(orch):
    """A ring of one is a ring."""
    error = refused(orch, Task.call(pow, 2, 3, id="me", after=["me"]))
    assert isinstance(error, CycleError)
    assert error.cycle == ("me",)
    assert "'me' waits for itself" in str(error)


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


def test_a_ring_of_thousands_is_found_without_recursion(orch):
    """A deep ring is no RecursionError."""
    n = 5_000
    tasks = [
        Task.call(pow, 2, 1, id=f"t{i}", after=[f"t{(i + 1) % n}"]) for i in range(n)
    ]
    error = refused(orch, *tasks)
    assert isinstance(error, CycleError)
    assert len(error.cycle) == n


@pytest.mark.parametrize("junk", [None, 5, b"b", object(), ["a"], 1.5])
def test_a_dependency_that_is_no_name_is_refused(orch, junk):
    """What is neither id, handle nor task is told apart."""
    error = refused(orch, Task.call(pow, 2, 3, id="b", after=[junk]))
    assert "id" in str(error)
    assert "handle" in str(error)


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


# -- names -------------------------------------------------------------------------

UNSAFE = [
    "",
    " ",
    "../x",
    "a/../b",
    "..",
    ".",
    "/etc/passwd",
    "a//b",
    "a/",
    "nul\0",
    "new\nline",
    "tab\t",
    "~root",
    "a~2",
    "a~b",
    ".hidden",
    "a/.hidden",
    "-rf",
    "a/-rf",
    "dot.",
    "dot./x",
    "space end ",
    "C:\\x",
    "back\\slash",
    "x" * 201,
    "x" * 300,
    "naïve",
    "\uff46\uff55ll",
    "\u202egpj.exe",
    "emoji-🙂",
    "a;b",
    "$(x)",
    "a*",
    "a:b",
    "\ud800",
]


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_an_unsafe_id_is_refused(orch, name):
    """What could lead elsewhere as part of a path is no id, and the rule is told."""
    error = refused(orch, Task.call(pow, 2, 3, id=name))
    assert isinstance(error, ValidationFailedError)
    assert [path for path, _ in error.findings] == ["id"]
    assert len(str(error)) < 1_000
    with pytest.raises(InvalidTaskError):
        orch.agent(name)


@pytest.mark.parametrize("name", [5, b"x", ("a",), 1.5, True])
def test_an_id_that_is_no_text_is_refused(orch, name):
    """The kind is told."""
    error = refused(orch, Task.call(pow, 2, 3, id=name))
    assert "an id is a str" in str(error)


def test_an_id_can_be_as_long_as_200_characters_and_have_many_parts(orch):
    """The limit itself is allowed."""
    for name in ("x" * 200, "/".join("abcdefgh"), "A_b-c.d", "0", "CON", "a..b"):
        assert orch.submit_task(Task.call(pow, 2, 3, id=name)).task_id == name


def test_two_tasks_of_one_batch_with_one_id_are_refused(orch):
    """The id is named, and none is accepted."""
    error = refused(
        orch, Task.call(pow, 2, 1, id="twin"), Task.call(pow, 2, 2, id="twin")
    )
    assert isinstance(error, DuplicateTaskError)
    assert "'twin'" in str(error)


def test_two_tasks_of_one_batch_with_one_key_are_refused(orch):
    """The same holds for idempotency keys."""
    error = refused(
        orch,
        Task.call(pow, 2, 1, idempotency_key="order 5"),
        Task.call(pow, 2, 2, idempotency_key="order 5"),
    )
    assert isinstance(error, DuplicateTaskError)
    assert "'order 5'" in str(error)


@pytest.mark.parametrize(
    "other",
    [
        Task.call(pow, 2, 4, id="known"),
        Task.call(max, 2, 3, id="known"),
        Task.call(pow, 2, 3, id="known", type="other"),
        Task.call(pow, 2, 3, id="known", join="finished"),
    ],
    ids=["payload", "function", "type", "join"],
)
def test_a_known_id_with_other_content_is_refused(orch, other):
    """The same again is the same task; anything else is an error."""
    first = orch.submit_task(Task.call(pow, 2, 3, id="known"))
    assert orch.submit_task(Task.call(pow, 2, 3, id="known")) is first
    error = refused(orch, other)
    assert isinstance(error, DuplicateTaskError)
    assert "'known'" in str(error)
    assert error.task_id == "known"
    assert "use another id" in error.hint


def test_a_known_key_with_other_content_is_refused(orch):
    """An idempotency key stands for one task."""
    first = orch.submit_task(Task.call(pow, 2, 3, idempotency_key="k"))
    assert orch.submit_task(Task.call(pow, 2, 3, idempotency_key="k")) is first
    error = refused(orch, Task.call(pow, 2, 4, idempotency_key="k"))
    assert isinstance(error, DuplicateTaskError)
    assert "'k'" in str(error)
    assert error.hint.startswith("use another key")


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


# -- values of a task ----------------------------------------------------------------

NO_SECONDS = [
    -1,
    -0.001,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    HUGE,
    ENORMOUS,
    True,
    "5",
    [5],
    timedelta(seconds=-5),
]


@pytest.mark.parametrize("value", [*NO_SECONDS, 0], ids=lambda v: f"{type(v).__name__}")
@pytest.mark.parametrize("option", ["timeout", "deadline"])
def test_a_duration_that_is_none_is_refused(orch, option, value):
    """Every duration is a positive, finite number of seconds."""
    error = refused(orch, Task.call(pow, 2, 3, **{option: value}))
    assert isinstance(error, ValidationFailedError)
    assert [path for path, _ in error.findings] == [option]
    assert len(str(error)) < 1_000


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda v: f"{type(v).__name__}")
def test_a_start_that_is_no_time_is_refused(orch, value):
    """`not_before` may be 0, and otherwise is a duration or a date."""
    error = refused(orch, Task.call(pow, 2, 3, not_before=value))
    assert [path for path, _ in error.findings] == ["not_before"]
    assert orch.submit_task(Task.call(pow, 2, 3, not_before=0)).result(PATIENCE) == 8


@pytest.mark.parametrize("option", ["deadline", "not_before"])
def test_a_date_without_a_time_zone_is_refused(orch, option):
    """Nobody knows when that is, and the error says how to say it."""
    date = datetime(2030, 1, 1)  # noqa: DTZ001 - the point
    error = refused(orch, Task.call(pow, 2, 3, **{option: date}))
    assert "no time zone" in str(error)
    assert "datetime.now(UTC)" in str(error)


def test_a_deadline_before_the_start_is_refused(orch):
    """Contradictions are found, for seconds and for dates."""
    error = refused(orch, Task.call(pow, 2, 3, deadline=5, not_before=10))
    assert "not later than not_before" in str(error)
    now = datetime.now(UTC)
    later = now + timedelta(hours=1)
    error = refused(orch, Task.call(pow, 2, 3, deadline=now, not_before=later))
    assert "not later than not_before" in str(error)


@pytest.mark.parametrize("year", [1, 9999])
def test_dates_at_the_ends_of_the_calendar_are_dates(orch, year):
    """A long past start starts at once; a far one waits, and can be cancelled."""
    date = datetime(year, 1, 2, tzinfo=UTC)
    handle = orch.submit_task(Task.call(pow, 2, 3, not_before=date))
    if year == 1:
        assert handle.result(PATIENCE) == 8
    else:
        assert orch.get_task_status(handle.task_id).state is TaskState.PENDING
        assert handle.cancel()
    late = orch.submit_task(Task.call(pow, 2, 3, deadline=date))
    if year == 1:
        with pytest.raises(TaskTimeoutError, match="deadline"):
            late.result(PATIENCE)
    else:
        assert late.result(PATIENCE) == 8


@pytest.mark.parametrize(
    "value",
    [True, 1.5, math.nan, math.inf, "high", None, HUGE, ENORMOUS, -1_000_001],
    ids=lambda v: f"{type(v).__name__}",
)
def test_a_priority_that_is_no_small_integer_is_refused(orch, value):
    """Priorities are whole numbers within a million."""
    error = refused(orch, Task.call(pow, 2, 3, priority=value))
    assert [path for path, _ in error.findings] == ["priority"]
    assert len(str(error)) < 1_000
    handle = orch.submit(pow, 2, 3)
    with pytest.raises(InvalidTaskError, match="priority") as caught:
        orch.set_priority(handle.task_id, value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("after", "other", "a list of ids"),
        ("after", 5, "a list of ids"),
        ("after", iter(["a"]), "read once"),
        ("requires", "code-review", "a list of capabilities"),
        ("requires", [5], "str"),
        ("requires", [""], "empty"),
        ("resources", [("cpu", 1)], "Resources(cpu=1)"),
        ("resources", None, "Resources"),
        ("retry", "3", "RetryPolicy(max_attempts=3)"),
        ("retry", None, "RetryPolicy"),
        ("idempotent", 1, "True or False"),
        ("idempotency_key", 5, "str"),
        ("idempotency_key", "k" * 300, "200"),
        ("idempotency_key", "a\nb", "printed"),
        ("metadata", ["a"], "mapping"),
        ("type", "", "empty"),
        ("type", " x", "space"),
        ("type", "x" * 600, "500"),
        ("type", "a\0b", "printed"),
        ("type", 5, "str"),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_by_name(orch, option, value, word):
    """The option and what would be right stand in the error."""
    error = refused(orch, Task.call(pow, 2, 3, **{option: value}))
    assert isinstance(error, ValidationFailedError)
    assert option in str(error)
    assert word in str(error)
    assert "submit again" in error.hint


def test_all_faults_are_told_at_once(orch):
    """Nobody has to submit ten times to find ten faults."""
    task = Task.call(pow, 2, 3, id="../x", priority="high", timeout=-1, retry="3")
    error = refused(orch, task)
    assert [path for path, _ in error.findings] == [
        "id",
        "priority",
        "timeout",
        "retry",
    ]


@pytest.mark.parametrize(
    "value",
    [-1, math.nan, math.inf, -math.inf, 1e300, HUGE, True, "1", None, 1e-9],
    ids=lambda v: f"{type(v).__name__}",
)
def test_an_amount_that_is_none_is_refused(value):
    """Amounts of resources are finite, not negative, and no flags."""
    with pytest.raises(InvalidTaskError, match="'gpu'") as caught:
        Resources(gpu=value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": -1}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": math.inf}, "max_attempts"),
        ({"max_attempts": HUGE}, "max_attempts"),
        ({"base": -1}, "base"),
        ({"base": math.nan}, "base"),
        ({"base": True}, "base"),
        ({"max_delay": math.inf}, "max_delay"),
        ({"max_delay": "1"}, "max_delay"),
        ({"stop_after": -1}, "stop_after"),
        ({"stop_after": math.nan}, "stop_after"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": math.nan}, "jitter"),
        ({"jitter": True}, "jitter"),
        ({"jitter": "half"}, "jitter"),
        ({"wait": "random"}, "wait"),
        ({"wait": 5}, "wait"),
        ({"retry_on": "ValueError"}, "retry_on"),
        ({"retry_on": (ValueError, 5)}, "retry_on"),
        ({"retry_on": int}, "retry_on"),
    ],
)
def test_a_retry_policy_out_of_its_range_is_refused(options, word):
    """Every number of a RetryPolicy is checked when it is made."""
    with pytest.raises(InvalidTaskError, match=word) as caught:
        RetryPolicy(**options)
    assert len(str(caught.value)) < 1_000


# -- what is no task ---------------------------------------------------------------


@pytest.mark.parametrize("junk", [None, 5, "code-review", pow, {"type": "x"}, Task])
def test_what_is_no_task_is_not_submitted(orch, junk):
    """The error names the ways of making one."""
    for submit in (orch.submit_task, lambda x: orch.submit_tasks([x])):
        with pytest.raises(InvalidTaskError, match="Task") as caught:
            submit(junk)
        assert "Task.call" in caught.value.hint


@pytest.mark.parametrize("junk", [None, 5, Task("code-review")])
def test_what_is_no_list_of_tasks_is_not_submitted(orch, junk):
    """`submit_tasks` says that it wants a list, and what takes one task."""
    with pytest.raises(InvalidTaskError, match="list of tasks") as caught:
        orch.submit_tasks(junk)
    assert "submit_task(" in caught.value.hint


@pytest.mark.parametrize("junk", [None, 5, "pow", Task("code-review")])
def test_what_cannot_be_called_is_not_submitted(orch, junk):
    """The error says what takes tasks."""
    with pytest.raises(InvalidTaskError, match="function"):
        orch.submit(junk, 1)
    with pytest.raises(InvalidTaskError, match="function"):
        orch.map(junk, [1])
    with pytest.raises(InvalidTaskError, match="call"):
        Task.call(junk)


def test_a_batch_with_one_fault_is_refused_whole(orch):
    """The good ones are not accepted either."""
    error = refused(
        orch, Task.call(pow, 2, 3, id="good"), Task.call(pow, 2, 3, id="b", timeout=-1)
    )
    assert "'b'" in str(error)
    error = refused(orch, Task.call(pow, 2, 3, id="good"), Task("no such thing"))
    assert isinstance(error, UnknownCapabilityError)


def test_an_iterable_that_raises_submits_nothing(orch):
    """What the iterable raises comes through, and none was accepted."""

    def tasks():
        yield Task.call(pow, 2, 3, id="never")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        orch.submit_tasks(tasks())
    with pytest.raises(UnknownTaskError):
        orch.handle("never")


@pytest.mark.parametrize("name", ["cpu", "program", "ray", ""])
def test_an_executor_that_does_not_exist_is_refused(orch, name):
    """The ones that there are stand in the error."""
    error = refused(orch, Task.call(pow, 2, 3, executor=name))
    assert "executor" in str(error)
    if name:
        assert repr(name) in str(error)
        assert "'thread'" in str(error)
    with pytest.raises(InvalidTaskError, match="executor"):
        orch.agent("x", executor=name if name != "program" else "programs")(
            lambda task, context: None
        )


def test_the_kind_of_a_function_must_fit_its_executor(orch):
    """An async def is not for threads, and a def not for the loop."""

    async def coroutine():
        return 1

    error = refused(orch, Task.call(coroutine, executor="thread"))
    assert "runs on the loop" in str(error)
    error = refused(orch, Task.call(pow, 2, 3, executor="asyncio"))
    assert "async def" in str(error)


def test_after_the_end_nothing_is_submitted():
    """The error says that an orchestrator is not started again."""
    with TaskOrchestrator() as orch:
        done = orch.submit(pow, 2, 3)
    assert done.result(PATIENCE) == 8
    for submit in (
        lambda: orch.submit(pow, 2, 3),
        lambda: orch.submit_task(Task.call(pow, 2, 3)),
        lambda: orch.map(pow, [2], [3]),
        lambda: orch.rerun_task(done.task_id),
    ):
        with pytest.raises(NotRunningError, match="stopped") as caught:
            submit()
        assert "make a new one" in caught.value.hint


# -- the orchestrator's own options ------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        *(({"concurrency": v}, "concurrency") for v in (0, -1, 1.5, True, "10", None)),
        *(({"concurrency": v}, "concurrency") for v in (math.nan, math.inf)),
        *(({"keep_finished": v}, "keep_finished") for v in (-1, True, 1.5, None)),
        *(({"max_queued": v}, "max_queued") for v in (0, -1, True, 1.5, "9")),
        *(({"stop_timeout": v}, "stop_timeout") for v in (-1, math.nan, math.inf)),
        *(({"stop_timeout": v}, "stop_timeout") for v in (True, "1", HUGE)),
        *(({"monitor_interval": v}, "monitor_interval") for v in (0, -1, math.nan)),
        *(({"seed": v}, "seed") for v in ([1], 1.5, True, "seed")),
        ({"unknown_capability": "ignore"}, "unknown_capability"),
        ({"unknown_capability": True}, "unknown_capability"),
        ({"resources": 5}, "resources"),
        ({"resources": "cpu"}, "resources"),
        ({"resources": {"cpu": -1}}, "cpu"),
        ({"resources": {"cpu": math.nan}}, "cpu"),
        ({"resources": {1: 1}}, "resources"),
        ({"journal": ""}, "journal"),
        ({"journal": 7}, "journal"),
        ({"durability": "perhaps", "journal": "runs.db"}, "durability"),
        ({"durability": "process"}, "durability"),
        ({"journal": MemoryJournal}, "journal"),
        ({"executors": [1]}, "executors"),
        ({"executors": "cpu"}, "executors"),
        ({"executors": {"cpu": 5}}, "submit"),
        ({"executors": {"cpu": None}}, "submit"),
        ({"executors": {"cpu": ThreadPoolExecutor}}, "class"),
        ({"executors": {5: None}}, "executors"),
        ({"executors": {"": None}}, "executors"),
        ({"executors": {"thread": None}}, "taken"),
        ({"executors": {"process": None}}, "taken"),
        ({"executors": {"auto": None}}, "taken"),
        ({"max_queued": 5, "queue": PriorityQueue()}, "max_queued"),
    ],
)
def test_an_option_of_the_orchestrator_out_of_its_range_is_refused(options, word):
    """The option is named, before anything is started."""
    with pytest.raises(InvalidTaskError, match=word) as caught:
        TaskOrchestrator(**options)
    assert len(str(caught.value)) < 1_000


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


def test_a_part_that_is_empty_is_not_taken_for_none():
    """A queue of the user's that has a length of 0 is used all the same."""

    class Mine(PriorityQueue):
        asked = 0

        def __len__(self):
            return 0

        def admit(self, task, context):
            self.asked += 1
            return super().admit(task, context)

    queue = Mine()
    with TaskOrchestrator(queue=queue) as orch:
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert queue.asked


def test_a_journal_serves_one_orchestrator():
    """A second one would mix its numbers with the first one's."""
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal):
        pass
    with pytest.raises(InvalidTaskError, match="another orchestrator") as caught:
        TaskOrchestrator(journal=journal)
    assert "MemoryJournal" in caught.value.hint


def test_an_empty_journal_is_not_taken_for_none():
    """A new MemoryJournal is empty, and the one to be used."""
    journal = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
    assert len(journal) > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"capabilities": "review"}, "collection"),
        ({"capabilities": 5}, "capabilities"),
        ({"capabilities": None}, "capabilities"),
        ({"capabilities": [5]}, "capability"),
        ({"capabilities": [""]}, "capability"),
        ({"capabilities": [" x"]}, "capability"),
        *(({"max_concurrency": v}, "max_concurrency") for v in (0, -1, 1.5, True, "1")),
        ({"max_concurrency": math.inf}, "max_concurrency"),
        ({"capacity": [("cpu", 1)]}, "capacity"),
        ({"capacity": 5}, "capacity"),
        ({"request": {5: 1}}, "request"),
        ({"executor": "cpu"}, "executor"),
        ({"executor": "ray"}, "executor"),
        ({"executor": 5}, "executor"),
    ],
)
def test_an_option_of_an_agent_out_of_its_range_is_refused(orch, options, word):
    """The option is named, and the agent does not join."""
    with pytest.raises(InvalidTaskError, match=word):
        orch.agent("x", **options)(lambda task, context: None)
    assert set(orch.get_stats().agents) == {"local", "reviewer"}


def test_an_agent_that_cannot_be_called_is_refused(orch):
    """An agent is a function of two arguments."""
    with pytest.raises(InvalidTaskError, match="task, context"):
        orch.agent("x")(5)


@pytest.mark.parametrize("name", ["reviewer", "local"])
def test_the_name_of_an_agent_is_taken_once(orch, name):
    """The built-in agent's name is taken too."""
    with pytest.raises(InvalidTaskError, match=f"worker '{name}' already"):
        orch.agent(name)(lambda task, context: None)


def test_an_unknown_id_is_said_by_every_question(orch):
    """Asking for what there is not is an UnknownTaskError that names it."""
    for ask in (
        orch.handle,
        orch.get_task_status,
        orch.explain,
        orch.cancel_task,
        orch.suspend_task,
        orch.resume_task,
        orch.rerun_task,
        lambda name: orch.set_priority(name, 1),
        lambda name: orch.decide(name, "retry"),
    ):
        for name in ("nobody", "", None, 5):
            with pytest.raises(UnknownTaskError) as caught:
                ask(name)
            assert repr(name) in str(caught.value)
            assert "orch.tasks()" in caught.value.hint


def test_a_question_of_a_wrong_kind_is_refused(orch):
    """States and verdicts that do not exist are told with those that do."""
    with pytest.raises(InvalidTaskError, match="queued"):
        orch.tasks("asleep")
    with pytest.raises(InvalidTaskError, match="older_than"):
        orch.tasks(older_than=-1)
    with pytest.raises(InvalidTaskError, match="older_than"):
        orch.expire_tasks(math.nan)
    with pytest.raises(InvalidTaskError, match="'retry', 'fail' or 'complete'"):
        orch.decide("x", "maybe")


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


def test_every_refusal_is_a_usage_error_with_a_code(orch):
    """Programs tell refusals apart by `code`, people by the message."""
    codes = {
        refused(orch, Task("nobody")).code,
        refused(orch, Task.call(pow, id="x", after=["x"])).code,
        refused(orch, Task.call(pow, timeout=-1)).code,
        refused(orch, Task.call(pow, after=["zz"])).code,
        refused(orch, Task.call(pow, resources=Resources(gpu=1))).code,
        refused(orch, 5).code,
    }
    assert len(codes) == 6
    assert TaskorchError.code not in codes


def test_a_task_for_any_agent_is_refused_where_there_is_none():
    """`requires=[]` is any agent: without one, that is what is said."""
    orch = TaskOrchestrator()
    with pytest.raises(UnknownCapabilityError, match="any worker, and there is none"):
        orch.submit_task(Task("x", requires=[]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(jitter=None),
        lambda: RetryPolicy(base=10**5000),
        lambda: RetryPolicy(max_attempts=10**5000),
        lambda: Resources(cpu=10**5000),
    ],
)
def test_limits_of_any_kind_and_length_are_refused_in_words(make):
    """None for a jitter, and integers too long to print, are InvalidTaskErrors."""
    with pytest.raises(InvalidTaskError):
        make()


def test_a_stop_at_no_signal_is_none(orch):
    with pytest.raises(InvalidTaskError, match="no signal") as refused:
        orch.stop_on()
    assert "signal.SIGTERM" in refused.value.hint


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
