"""Tasks that wait for what comes from outside: events, time, a person's word."""

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Recorder, eventually, in_loop

from taskorch import (
    DependencyFailedError,
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    TaskTimeoutError,
    current_context,
)
from taskorch.errors import InvalidTransitionError
from taskorch.model import Wait
from taskorch.runtime import _committer

#: Longer than any test lasts.
LONG = 60.0


def echo(*values: Any) -> Any:
    return list(values)


def found() -> dict[str, Any]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


# -- events ------------------------------------------------------------------------


def test_an_event_completes_what_waits_for_it() -> None:
    """With its payload, which is a result as any other; no thread is held meanwhile."""
    with TaskOrchestrator(concurrency=1) as orch:
        told = Recorder(orch, "event_emitted", "task_completed")
        payload = {"by": "ada"}
        waits = [orch.submit_task(Task.wait_for("approved")) for _ in range(3)]
        after = orch.submit(echo, waits[0], waits[1])
        assert orch.submit(int).result(PATIENCE) == 0
        assert orch.wait(PATIENCE)
        status = orch.get_task_status(waits[0].task_id)
        assert (status.state, status.blocked_by) == ("blocked", ("event",))
        assert not waits[0].done()
        assert orch.emit("approved", payload) == 3
        assert after.result(PATIENCE) == [payload, payload]
        assert waits[2].result() is payload
        assert orch.wait(PATIENCE)
        emitted = next(e for e in told.events if type(e).__name__ == "EventEmitted")
        assert (emitted.name, emitted.let_go, emitted.until_ns) == ("approved", 3, 0)
        done = next(e for e in told.events if getattr(e, "cause", "") == "event")
        assert done.result is payload


def test_an_event_that_comes_first_is_kept_for_a_while() -> None:
    """For those who come in time; with `keep=0` it is forgotten at once."""
    with TaskOrchestrator() as orch:
        assert orch.emit("ready", 1) == 0
        assert orch.emit("gone", 1, keep=0) == 0
        ready = orch.submit_task(Task.wait_for("ready"))
        gone = orch.submit_task(Task.wait_for("gone", timeout=0, default="no"))
        assert (ready.result(PATIENCE), gone.result(PATIENCE)) == (1, "no")


def test_somebody_waits_for_the_result_meanwhile() -> None:
    """`result()` returns when the event comes, and so does `await`."""
    with TaskOrchestrator() as orch:
        waits = orch.submit_task(Task.wait_for("go"))
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(waits.result(PATIENCE)))
        thread.start()
        eventually(lambda: waits._waiters)
        orch.emit("go", 5)
        thread.join(PATIENCE)
        assert got == [5]


@in_loop
async def test_events_from_a_coroutine() -> None:
    """As awaitables."""
    async with TaskOrchestrator() as orch:
        waits = await orch.aio.submit_task(Task.wait_for("go"))
        assert await orch.aio.emit("go", "now") == 1
        assert await waits == "now"
        held = await orch.aio.submit_task(Task.wait_for("go"))
        assert await orch.aio.decide(held.task_id, "complete", 3, "said so")
        assert await held == 3


def test_a_task_waits_inside_for_an_event() -> None:
    """It gives its slot back meanwhile."""
    with TaskOrchestrator(concurrency=1) as orch:
        inside = threading.Event()

        def ask() -> Any:
            answer = orch.submit_task(Task.wait_for("answer"))
            inside.set()
            return answer.result(PATIENCE)

        asking = orch.submit(ask)
        assert inside.wait(PATIENCE)
        orch.emit("answer", 42)
        assert asking.result(PATIENCE) == 42


# -- time --------------------------------------------------------------------------


def test_a_wait_that_takes_too_long() -> None:
    """It fails; a drain and `wait()` wait for that, as for a delay."""
    with TaskOrchestrator() as orch:
        late = orch.submit_task(Task.wait_for("never", timeout=0.02, id="late"))
        below = orch.submit_task(Task.call(int, after=[late]))
        assert orch.wait(PATIENCE)
        with pytest.raises(
            TaskTimeoutError, match=r"never did not come within 0\.02 s"
        ):
            late.result(PATIENCE)
        with pytest.raises(DependencyFailedError):
            below.result(PATIENCE)


def test_a_timer() -> None:
    """A wait for no event; it completes with its default, None among others."""
    with TaskOrchestrator() as orch:
        timer = orch.submit_task(Task.wait_for(None, timeout=0.01, default=None))
        other = orch.submit_task(Task.wait_for("x", timeout=0.01, default=[1]))
    assert timer.result() is None
    assert other.result() == [1]


def test_a_wait_without_a_timeout_is_left_at_the_end() -> None:
    """Nothing proceeds without somebody's doing: the stop report names it."""
    orch = TaskOrchestrator()
    with orch:
        orch.submit_task(Task.wait_for("never", id="never"))
        assert orch.wait(PATIENCE)
        report = orch.stop()
    assert [left.task_id for left in report.left] == ["never"]
    with pytest.raises(NotRunningError):
        orch.emit("never")


def test_a_suspended_wait_hears_its_event() -> None:
    """Only its time stops."""
    with TaskOrchestrator() as orch:
        waits = orch.submit_task(Task.wait_for("go", timeout=LONG, id="w"))
        assert orch.suspend_task("w")
        assert orch.get_task_status("w").state == "suspended"
        assert orch.wait(PATIENCE)
        orch.resume_task("w")
        assert orch.get_task_status("w").state == "blocked"
        orch.suspend_task("w")
        assert orch.emit("go", 1) == 1
        assert waits.result(PATIENCE) == 1


# -- a person's word ---------------------------------------------------------------


def test_a_person_decides_about_a_wait() -> None:
    """With a reason that stands in the history."""
    with TaskOrchestrator() as orch:
        yes = orch.submit_task(Task.wait_for("approval", id="yes"))
        no = orch.submit_task(Task.wait_for("approval", id="no"))
        orch.decide("yes", "complete", {"ok": True}, reason="ada signed it")
        orch.decide("no", "fail", reason="bob did not")
        assert yes.result(PATIENCE) == {"ok": True}
        with pytest.raises(TaskFailedError, match="bob did not"):
            no.result(PATIENCE)
        assert orch.get_task_status("yes").history[-1].detail == "ada signed it"
        assert "bob did not" in orch.get_task_status("no").history[-1].detail
        again = orch.rerun_task("no")
        with pytest.raises(InvalidTransitionError, match="does not run"):
            orch.decide(again.task_id, "retry")
        orch.cancel_task(again.task_id)
        with pytest.raises(InvalidTaskError, match="a reason is a text"):
            orch.decide("yes", "fail", reason=5)  # type: ignore[arg-type]


# -- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        (("",), {}, "an event has a name"),
        ((" x",), {}, "an event has a name"),
        (("a\nb",), {}, "an event has a name"),
        (("x" * 501,), {}, "at most 500"),
        ((5,), {}, "an event has a name"),
        ((None,), {}, "needs a timeout and a default"),
        ((None,), {"timeout": 5}, "needs a timeout and a default"),
        (("x",), {"default": 1}, "give it a timeout"),
        (("x",), {"timeout": -1}, "timeout"),
        (("x",), {"timeout": "5"}, "timeout"),
    ],
)
def test_what_makes_no_sense(
    args: tuple[Any, ...], options: dict[str, Any], says: str
) -> None:
    """Refused where it is written down."""
    with pytest.raises(InvalidTaskError, match=says):
        Task.wait_for(*args, **options)


def test_an_event_that_is_none() -> None:
    """Its name and its time are checked."""
    orch = TaskOrchestrator()
    with pytest.raises(InvalidTaskError, match="an event has a name"):
        orch.emit("")
    with pytest.raises(InvalidTaskError, match="keep"):
        orch.emit("x", keep=-1)


def test_a_wait_is_a_task_as_others_are() -> None:
    """It has a type, options and a payload that can be seen."""
    task = Task.wait_for("x", timeout=3, id="w", priority=2, metadata={"a": 1})
    assert (task.type, task.id, task.payload) == ("wait", "w", Wait("x", 3))
    with TaskOrchestrator() as orch:
        first = orch.submit_task(task)
        assert orch.submit_task(task) is first
        late = Task.wait_for("y", after=[first], join="finished", type="approval")
        handle = orch.submit_task(late)
        orch.set_priority("w", 5)
        orch.cancel_task("w")
        assert orch.emit("y", 1) in (0, 1)
        assert handle.result(PATIENCE) == 1


# -- a journal ---------------------------------------------------------------------


@pytest.fixture(name="path", params=["snapshot", "facts"])
def fixture_path(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A journal; the next life begins with a snapshot, or reads all facts."""
    if request.param == "facts":
        monkeypatch.setattr(_committer.Snapshots, "save_last", lambda *_: None)
    return tmp_path / "runs.db"


def open_at(path: Path, **options: Any) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process", **options)


def test_waits_outlive_the_process(path: Path) -> None:
    """They go on with what is left of their time; results come from the journal."""
    orch = open_at(path)
    orch.submit_tasks(
        [
            Task.wait_for("go", id="go"),
            Task.wait_for("x", timeout=0.001, default=(1, 2), id="default"),
            Task.wait_for("x", timeout=0.001, id="late"),
            Task.wait_for("x", timeout=LONG, id="long"),
            Task.call(echo, id="below", after=["go"]),
        ]
    )
    orch.stop(drain=False)
    with open_at(path) as orch:
        assert orch.handle("default").result(PATIENCE) == (1, 2)
        with pytest.raises(TaskTimeoutError):
            orch.handle("late").result(PATIENCE)
        assert orch.emit("go", {"n": None}) == 1
        assert orch.handle("go").result(PATIENCE) == {"n": None}
        orch.decide("long", "complete", reason="enough")
    with open_at(path) as orch:
        assert orch.handle("default").result() == (1, 2)
        assert orch.handle("go").result() == {"n": None}
        assert orch.get_task_status("long").history[-1].detail == "enough"
        assert orch.handle("below").result() == []


def test_an_event_is_kept_through_a_restart(path: Path) -> None:
    """With its payload, for those who come in time."""
    with open_at(path) as orch:
        orch.emit("ready", {"day": 1}, keep=LONG)
        orch.emit("gone", 1, keep=0.001)
    with open_at(path) as orch:
        orch.submit(int).result(PATIENCE)
        waits = orch.submit_task(Task.wait_for("ready", id="w"))
        assert waits.result(PATIENCE) == {"day": 1}
        gone = Task.wait_for("gone", timeout=0, default="no")
        assert orch.submit_task(gone).result(PATIENCE) == "no"
    with open_at(path, keep_finished=0) as orch:
        assert orch.handle("w").result() == {"day": 1}


def test_what_a_journal_cannot_keep(path: Path) -> None:
    """A payload and a default are refused where they come in."""
    with open_at(path) as orch:
        with pytest.raises(InvalidTaskError, match="cannot be restored"):
            orch.emit("x", object())
        with pytest.raises(InvalidTaskError, match=r"payload\.default"):
            orch.submit_task(Task.wait_for("x", timeout=1, default=object()))


@in_loop
async def test_a_durable_event_from_a_coroutine(tmp_path: Path) -> None:
    """It is kept before this returns, and the loop is not blocked."""
    async with open_at(tmp_path / "runs.db") as orch:
        waits = await orch.aio.submit_task(Task.wait_for("go"))
        assert await orch.aio.emit("go", 1) == 1
        assert await waits == 1


def test_an_agent_and_a_retry_know_nothing_of_it() -> None:
    """A wait has no attempt."""
    with TaskOrchestrator() as orch:
        task = Task.wait_for("x", timeout=0.001, retry=RetryPolicy(5), id="w")
        with pytest.raises(TaskTimeoutError):
            orch.submit_task(task).result(PATIENCE)
        assert orch.get_task_status("w").attempts == 0
        after = Task.call(found, after=["w"], join="finished")
        assert orch.submit_task(after).result(PATIENCE) == {}
