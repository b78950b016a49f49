"""What is kept of one task: its runs, its parents, its attempts, and its error."""

import threading
from contextvars import Context, ContextVar
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from taskorch import Task, TaskOrchestrator, TaskState
from taskorch.errors import (
    AttemptInterrupted,
    AttemptLostError,
    ComponentError,
    CycleError,
    DependencyFailedError,
    InternalError,
    JournalError,
    ResultGoneError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
    TaskTimeoutError,
    UnwantedResultError,
)
from taskorch.kernel import SKIPPED
from taskorch.model import Call, Missing, RetryPolicy
from taskorch.runtime._calls import end_badly
from taskorch.runtime._effects import EffectQueue
from taskorch.runtime._late import describe_late, keep_late, late_of, recall_late
from taskorch.runtime._reruns import Reruns, earlier_ids, next_id, refuse_itself
from taskorch.runtime._results import unwanted
from taskorch.runtime._waiting import blockade
from taskorch.runtime._work import (
    NEVER,
    NO_KWARGS,
    NO_VARIABLES,
    Control,
    Emitted,
    Work,
    add_above,
    after_of,
    capture,
    control_of,
    detach_control,
    ended_earlier,
    error_of,
    extra_of,
    failed_earlier,
    first_error,
    forget_above,
    gone_of,
    is_skipped,
    moment,
    names_above,
    parent_named,
    place_under,
    raised_by,
    result_of_wait,
    set_result,
    task_of,
    works_above,
)


def work_of(task_id: str = "x", rt: Any = None, **extra: Any) -> Any:
    """A work with a row, which has ended if it says how."""
    if rt is None:
        rt = SimpleNamespace(kernel=SimpleNamespace(tasks={}), opened_at=-1, fault=None)
    work: Any = Work(rt, abs, (-5,), {}, None, None)  # type: ignore[arg-type]
    state = extra.pop("state", TaskState.QUEUED)
    said: dict[str, Any] = {
        "error": None,
        "stop_reason": "",
        "first_roots": (),
        "passed_on": False,
    }
    work._row = SimpleNamespace(
        id=task_id,
        state=state,
        cargo=work,
        extra=SimpleNamespace(**(said | extra)) if extra else None,
        ended_ns=0,
        bucket=SimpleNamespace(spec=SimpleNamespace(type="t")),
        attempt=1,
    )
    rt.kernel.tasks[task_id] = work._row
    return work


# -- runs ------------------------------------------------------------------------------


def test_the_bare_id_means_the_latest_run() -> None:
    reruns = Reruns()
    assert reruns.is_empty
    reruns.note("x")
    reruns.note("x~1")
    assert reruns.is_empty
    assert reruns.latest("x") == "x"
    assert reruns.is_latest("x")
    for run in ("x~2", "x~10", "x~9"):
        reruns.note(run)
    assert not reruns.is_empty
    assert reruns.latest("x") == "x~10"
    assert reruns.latest("x~1") == "x"
    assert reruns.latest("x~3") == "x~3"
    assert reruns.latest(5) == 5  # type: ignore[arg-type, comparison-overlap]
    assert reruns.is_latest("x~10")
    assert not reruns.is_latest("x~9")
    assert not reruns.is_latest("x")
    assert reruns.next_id("x") == reruns.next_id("x~3") == "x~11"
    assert reruns.next_id("y") == "y~2"
    assert [next_id(run) for run in ("x", "x~2", "x~9")] == ["x~2", "x~3", "x~10"]


def test_the_runs_before_one_are_listed() -> None:
    assert earlier_ids("x") == []
    assert earlier_ids("x~2") == ["x"]
    assert earlier_ids("x~4") == ["x", "x~2", "x~3"]


def test_no_task_waits_for_a_run_of_its_own() -> None:
    for parent, by in [("y", "x"), ("y~2", "x"), ("x", None)]:
        refuse_itself(parent, Task("t", id=by))
    for parent, name in [("x", "x"), ("x~2", "x"), ("x", "x~2")]:
        task = Task("t")
        object.__setattr__(task, "id", name)
        with pytest.raises(CycleError) as caught:
            refuse_itself(parent, task)
        assert caught.value.cycle == ("x",)


# -- parents ---------------------------------------------------------------------------


def test_who_needs_a_task_has_it_by_the_name_by_which_it_was_named() -> None:
    work = work_of()
    assert (after_of(work), names_above(work), works_above(work)) == ((), (), {})
    one, two, three = (work_of(name) for name in ("a", "b~2", "c"))
    place_under(work, {"a": one, "b": two})
    assert after_of(work) == ("a", "b")
    assert works_above(work) == {"a": one, "b": two}
    work._after = None
    assert after_of(work) == names_above(work) == ("a", "b~2")
    add_above(work, {"c": three})
    assert after_of(work) == ("a", "b~2")
    assert names_above(work) == ("a", "b~2", "c")
    assert works_above(work) == {"a": one, "b~2": two, "c": three}
    parents = works_above(work)
    assert parent_named("a", parents) is parent_named("a~3", parents) is one
    assert parent_named("b", parents) is two
    assert parent_named("d", parents) is None
    work._after = None
    forget_above(work)
    assert work._above == ()
    assert after_of(work) == ("a", "b~2", "c")
    forget_above(work)
    assert after_of(work) == ("a", "b~2", "c")
    # What has ended needs no more of what is added.
    ended = work_of("y", state=TaskState.COMPLETED)
    add_above(ended, {"c": three})
    assert ended._above == ()
    assert names_above(ended) == ("c",)


def test_the_task_that_parts_see_has_its_id() -> None:
    work = work_of("x")
    task = task_of(work._row)
    assert (task.type, task.id) == ("abs", "x")
    assert task.payload == Call(abs, (-5,))
    assert task_of(work._row) is task
    given = Task("u", 5, after=("a",))
    work._task = given
    named = task_of(work._row)
    assert (named.type, named.id, named.after) == ("u", "x", ("a",))
    assert given.id is None
    # One that other runs have too names what it waits for here.
    work._task = Task("u", 5, id="other", after=["b"])
    work._after = ("run/b",)
    assert task_of(work._row).after == ("run/b",)
    gone = work_of("y")
    gone._row.cargo = None
    assert task_of(gone._row, gone).id == "y"


# -- attempts --------------------------------------------------------------------------


def test_an_attempt_is_told_once_what_it_is_told() -> None:
    work = work_of()
    first = control_of(work, 1)
    assert control_of(work, 1) is first
    assert (first.attempt, first.why) == (1, "")
    second = control_of(work, 2)
    assert extra_of(work).control is second
    # An earlier one is to stop, and is not the one that is told.
    late = control_of(work, 1)
    assert (late.attempt, late.why) == (1, "abandoned")
    assert extra_of(work).control is second
    assert control_of(work, 2) is second


def test_an_attempt_that_has_ended_is_stopped_by_nobody() -> None:
    work = work_of()
    detach_control(work, 1)
    executor: Any = object()
    control = control_of(work, 2)
    assert control.attach(executor, "handle") is False
    detach_control(work, 1)
    assert (control.executor, control.handle) == (executor, "handle")
    assert control.tell("cancel") == (executor, "handle")
    detach_control(work, 2)
    assert control.tell("cancel") == (None, None)


@pytest.mark.parametrize(
    ("why", "ends"),
    [("", False), ("suspend", False), ("cancel", True), ("stop", True)],
)
def test_who_is_to_stop_at_a_checkpoint_is_not_ended(why: Any, ends: bool) -> None:
    control = Control(1)
    control.tell(why)
    assert control.is_to_end is ends
    assert control.attach(None, 5) is ends  # type: ignore[arg-type]


def test_effects_are_carried_out_in_order_by_one_at_a_time() -> None:
    queue = EffectQueue()
    done: list[Any] = []

    def carry_out(effect: Any) -> None:
        if effect == 1:
            queue.append(3)  # type: ignore[arg-type]
            queue.drain(carry_out)
            assert done == []
        done.append(effect)

    for effect in (1, 2):
        queue.append(effect)  # type: ignore[arg-type]
    queue.drain(carry_out)
    assert done == [1, 2, 3]
    queue.drain(carry_out)
    assert done == [1, 2, 3]


# -- what came late --------------------------------------------------------------------


def test_of_what_came_late_the_latest_are_kept() -> None:
    work = work_of()
    assert late_of(work) == {}
    assert describe_late(work) == ()
    for attempt in range(1, 13):
        keep_late(work, attempt, attempt * 10)
    assert late_of(work) == {n: n * 10 for n in range(3, 13)}
    for stopped in ("AttemptInterrupted", "CancelledError"):
        keep_late(work, 20, ValueError(), stopped)
    assert 20 not in late_of(work)
    keep_late(work, 21, ValueError(), "ValueError")
    assert describe_late(work)[-2:] == (
        "attempt 12, which had been given up, returned later",
        "attempt 21, which had been given up, raised ValueError later",
    )


def test_what_an_earlier_life_kept_of_it_is_there_again() -> None:
    work = work_of()
    said: dict[str, Any] = {"task_id": "x", "attempt": 1, "message": "no"}
    for attempt, outcome, kind, document in [
        (1, "completed", "", 5),
        (2, "completed", "", None),
        (3, "failed", "ValueError", {"traceback": "…"}),
        (4, "failed", "", {"traceback": "…"}),
        (5, "failed", "ValueError", None),
        (6, "failed", "CancelledError", {"traceback": "…"}),
    ]:
        fields = said | {"attempt": attempt, "outcome": outcome, "error_type": kind}
        event: Any = SimpleNamespace(**fields)
        recall_late(work, event, document)
    late = late_of(work)
    assert list(late) == [1, 3]
    assert late[1] == 5
    assert isinstance(late[3], TaskFailedError)


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("attempt", [1, 2])
def test_what_is_raised_too_late_is_not_the_error_of_the_task(
    state: Any, attempt: int
) -> None:
    """Nor what an earlier attempt raises; both are kept beside it."""
    work = work_of(state=state)
    work._row.attempt = attempt
    counts = attempt == 1 and state in (TaskState.RUNNING, TaskState.SUSPENDED)
    told: list[Any] = []

    def end_attempt(*said: Any) -> bool:
        told.append(said[:3])
        return counts

    rt: Any = SimpleNamespace(kernel=SimpleNamespace(end_attempt=end_attempt))
    error = ValueError("no")
    end_badly(rt, work._row, 1, work, error, 7)
    assert told == [(work._row, 1, "failed")]
    assert work._error is (error if counts else None)
    assert late_of(work) == ({} if counts else {1: error})


@pytest.mark.parametrize(
    ("why", "interrupted", "outcome"),
    [
        ("", False, "failed"),
        ("", True, "stopped"),
        ("cancel", False, "stopped"),
        ("stop", False, "interrupted"),
        ("abandoned", False, "stopped"),
    ],
)
def test_who_stops_as_it_was_asked_to_has_not_failed(
    why: Any, interrupted: bool, outcome: str
) -> None:
    work = work_of(state=TaskState.RUNNING)
    told: list[str] = []
    kernel = SimpleNamespace(end_attempt=lambda *said: told.append(said[2]) or True)
    rt: Any = SimpleNamespace(kernel=kernel)
    control = control_of(work, 1)
    control.why, control.interrupted = why, interrupted
    end_badly(rt, work._row, 1, work, AttemptInterrupted("cancel"), 7)
    assert told == [outcome]
    # What another attempt was asked says nothing of this one.
    control.attempt = 2
    end_badly(rt, work._row, 1, work, AttemptInterrupted("cancel"), 7)
    assert told[1] == "failed"
    control.attempt = 1
    end_badly(rt, work._row, 1, work, ValueError("no"), 7)
    assert told[2] == "failed"


# -- results ---------------------------------------------------------------------------


def test_a_result_that_is_lost_is_told() -> None:
    work = work_of()
    set_result(work, 5)
    assert (work._value, work._error) == (5, None)
    lost = Missing("m:C", "its class is gone")
    set_result(work, lost)
    assert work._value is lost
    assert isinstance(work._error, ResultGoneError)
    assert work._error.task_id == "x"
    assert "its class is gone" in str(work._error)


def test_a_wait_completes_with_what_came_or_its_default() -> None:
    work = work_of()
    assert result_of_wait(work, Emitted(None)) is None
    assert result_of_wait(work, Emitted(7)) == 7
    assert result_of_wait(work, None) is None
    work._task = Task.wait_for("e", timeout=1, default=5)
    assert result_of_wait(work, None) == 5
    assert result_of_wait(work, Emitted(7)) == 7
    lost = Missing("m:C")
    work._task = attrs.evolve(Task("t"), payload=lost)
    assert result_of_wait(work, None) is lost
    work._task = Task("t", 5)
    assert result_of_wait(work, None) is None


def test_what_a_task_needs_and_is_gone_is_said() -> None:
    with TaskOrchestrator() as orch:
        handle: Any = orch.submit_task(Task.wait_for("go", id="w", after=[]))
        assert gone_of(handle) == ""
        handle._fn = Missing("m:f", "f is gone")
        assert gone_of(handle) == "f is gone"
        handle._fn = None
        # A join that was asked already is not missed.
        handle._task = attrs.evolve(handle._task, join=Missing("m:j", "j is gone"))
        assert gone_of(handle) == ""
        child: Any = orch.submit_task(Task("thread", Call(int), after=["w"]))
        assert gone_of(child) == ""
        child._task = attrs.evolve(child._task, join=Missing("m:j", "j is gone"))
        assert gone_of(child) == "j is gone"
        orch.emit("go")


@pytest.mark.parametrize("answer", [True, False, ValueError("no")])
def test_a_result_may_be_worth_a_retry(answer: Any) -> None:
    work = work_of()
    assert unwanted(work, 5) is None
    work._task = Task.call(abs, -5)
    assert unwanted(work, 5) is None

    def holds(value: Any) -> Any:
        value.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer

    retry = RetryPolicy(2, retry_if_result=holds)
    work._task = Task.call(abs, -5, retry=retry)
    value: list[int] = []
    error = unwanted(work, value)
    assert value == []
    if answer is True:
        assert isinstance(error, UnwantedResultError)
        assert error.result is value
        assert error.task_id == "x"
    else:
        assert error is (answer or None)


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "message", "cls", "said"),
    [
        ("expired", "too old", TaskExpiredError, "task x expired: too old"),
        ("timeout", "too slow", TaskTimeoutError, "task x: too slow"),
        ("deadline", "too slow", TaskTimeoutError, "task x: too slow"),
        ("lost", "gone", AttemptLostError, "task x: gone"),
        ("error", "no", TaskFailedError, "task x: no"),
        ("error", "task x: no", TaskFailedError, "task x: no"),
        ("internal", "a bug", InternalError, "a bug"),
        ("component", "the router failed: no", ComponentError, "task x: the router"),
        ("component", "the join failed: no", ComponentError, "task x: the join"),
        ("component", "nobody knows", ComponentError, "task x: nobody knows"),
        ("dependency", "a failed", DependencyFailedError, "task x: a failed"),
    ],
)
def test_of_each_cause_there_is_an_error(
    cause: str, message: str, cls: Any, said: str
) -> None:
    work = work_of(
        state=TaskState.FAILED,
        error=("Kind", message, cause),
        first_roots=("a",),
    )
    work._rt.fault = InternalError("the first", hint="a new one")
    error: Any = raised_by(work)
    assert type(error) is cls
    assert str(error).startswith(said)
    if cause == "internal":
        assert error.hint == "a new one"
        work._rt.fault = JournalError("gone")
        assert type(raised_by(work)) is JournalError
        return
    assert error.task_id == "x"
    if cause == "component":
        name = message.split()[1] if " failed: " in message else ""
        assert error.component == name
    if cause == "dependency":
        assert error.root_causes == ("a",)
        assert error.__cause__ is None
        root = work_of("a", work._rt, state=TaskState.FAILED, error=("K", "m", "error"))
        root._error = ValueError("of a")
        assert raised_by(work).__cause__ is root._error  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("cause", "own"),
    [
        ("error", True),
        ("permanent", True),
        ("decision", True),
        ("poisoned", True),
        ("timeout", False),
        ("lost", False),
        ("expired", False),
    ],
)
def test_what_was_raised_is_the_error_if_it_was_the_cause(
    cause: str, own: bool
) -> None:
    work = work_of(state=TaskState.FAILED, error=("ValueError", "no", cause))
    work._error = ValueError("no")
    assert (raised_by(work) is work._error) is own
    component = ("ValueError", "the router failed: no", "component")
    work._row.extra.error = component
    assert raised_by(work).__cause__ is work._error  # type: ignore[union-attr]


def test_what_did_not_fail_has_no_error() -> None:
    for state in (TaskState.COMPLETED, TaskState.RUNNING, TaskState.BLOCKED):
        work = work_of(state=state, error=("E", "of before", "error"))
        work._error = ValueError("of before")
        assert raised_by(work) is None
    assert raised_by(work_of(state=TaskState.FAILED)) is None
    assert raised_by(work_of(state=TaskState.FAILED, stop_reason="")) is None
    for extra, reason in [({}, ""), ({"stop_reason": "by hand"}, "by hand")]:
        error: Any = raised_by(work_of(state=TaskState.CANCELLED, **extra))
        assert type(error) is TaskCancelledError
        assert (error.reason, error.task_id) == (reason, "x")


def test_of_the_roots_the_first_that_raised_something_is_the_cause() -> None:
    work = work_of("x")
    rt = work._rt
    work_of("a", rt)
    failed = work_of("b", rt, state=TaskState.FAILED, error=("K", "m", "error"))
    failed._error = ValueError("of b")
    assert first_error(work, ()) is None
    assert first_error(work, ("none", "a")) is None
    assert first_error(work, ("none", "a", "b")) is failed._error
    # What has left memory is found by whoever waits for it.
    del rt.kernel.tasks["b"]
    assert first_error(work, ("b",)) is None
    work._above = (failed,)
    assert first_error(work, ("b",)) is failed._error


def test_what_failed_in_an_earlier_life_says_when() -> None:
    work = work_of(state=TaskState.FAILED, error=("ValueError", "no", "error"))
    work._error = TaskFailedError("no", type="E", hint="look at it", task_id="x")
    work._rt.opened_at = 10
    work._row.ended_ns = 86_400_000_000_000
    work._settled = 11
    assert not ended_earlier(work)
    assert not failed_earlier(work)
    assert error_of(work).message == "no"  # type: ignore[union-attr]
    work._settled = 10
    assert ended_earlier(work)
    assert failed_earlier(work)
    for _ in range(2):
        error: Any = error_of(work)
        assert error is work._error
        assert error.message == f"in an earlier life, on {moment(86_400 * 10**9)}: no"
        assert error.args == (error.message,)
        assert error.hint.startswith("look at it; orch.rerun_task('x') runs it again")
    assert moment(86_400_999_999_999) == "1970-01-02 00:00:00 UTC"
    # What the task itself raised is as it was.
    work._error = own = ValueError("no")
    assert error_of(work) is own
    assert str(own) == "no"
    work._row.state = TaskState.COMPLETED
    assert not failed_earlier(work)


@pytest.mark.parametrize(
    ("state", "reason", "is_so"),
    [
        (TaskState.CANCELLED, f"{SKIPPED}: a failed", True),
        (TaskState.CANCELLED, "by hand", False),
        (TaskState.CANCELLED, None, False),
        (TaskState.FAILED, f"{SKIPPED}: a failed", False),
    ],
)
def test_what_was_skipped_counts_as_failed(
    state: Any, reason: Any, is_so: bool
) -> None:
    extra = {} if reason is None else {"stop_reason": reason}
    work = work_of(state=state, **extra)
    work._rt.opened_at = 0
    assert is_skipped(work._row) is is_so
    assert failed_earlier(work) is (is_so or state is TaskState.FAILED)


def test_what_is_blocked_says_by_what_and_why() -> None:
    """And what to do about it, if that was in an earlier life."""
    work = work_of("x", state=TaskState.BLOCKED, blocked_by=("a", "b"), roots=("r",))
    rt = work._rt
    error = blockade(work._row)
    assert error.message == "task x is blocked: a, b did not complete"
    assert (error.root_causes, error.task_id) == (("r",), "x")
    assert error.__cause__ is None
    usual = error.hint
    assert usual is not None
    assert "earlier" not in usual
    root = work_of("r", rt, state=TaskState.FAILED, error=("E", "no", "error"))
    root._error = ValueError("no")
    assert blockade(work._row).__cause__ is root._error
    assert blockade(work._row).hint == usual
    rt.opened_at = 10
    hint = blockade(work._row).hint
    assert hint is not None
    assert hint.startswith("orch.rerun_task('r') runs again what failed in an earlier")
    # What has left memory is not looked at.
    root._row.cargo = None
    rt.kernel.tasks["r~2"] = root._row
    work._row.extra.roots = ("none", "r~2")
    error = blockade(work._row)
    assert (error.__cause__, error.hint) == (None, usual)
    work._row.extra = None
    assert blockade(work._row).root_causes == ()


def test_what_is_not_born_yet_says_when_it_will_be() -> None:
    work = work_of()
    for settled, born in [(0, 0), (7, 7), (NEVER, 0), (NEVER + 7, 7)]:
        work._settled = settled
        assert work._born == born


def test_a_new_work_has_what_it_was_given_and_nothing_else() -> None:
    given: Any = {"k": 1}
    work: Any = Work(None, abs, (), given, None, None)  # type: ignore[arg-type]
    assert work._kwargs is given
    work = Work(None, abs, (), {}, None, None)  # type: ignore[arg-type]
    assert work._kwargs is NO_KWARGS
    assert not extra_of(work).is_watched
    assert not control_of(work, 1).interrupted


def test_the_variables_of_the_caller_are_captured_if_it_has_any() -> None:
    assert Context().run(capture, None) is NO_VARIABLES
    variable: ContextVar[int] = ContextVar("variable")

    def caller() -> Context:
        variable.set(5)
        return capture(None)

    captured = Context().run(caller)
    assert captured[variable] == 5
    spans: Any = SimpleNamespace(capture=lambda: captured)
    assert capture(spans) is captured


def test_the_rarer_part_is_made_once() -> None:
    work = work_of()
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(extra_of(work))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert extra_of(work) is found[0]
