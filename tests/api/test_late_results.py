"""What attempts bring that were given up: it changes nothing, and is kept."""

import threading

import attrs
import pytest
from tests.api.tools import PATIENCE, Recorder, pass_time, short_grace

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context
from taskorch.core.engine import _documents
from taskorch.errors import AttemptInterrupted
from taskorch.events import LateResultIgnored

# Of a module, so that a journal can keep the call.
ERRORS = {"value": ValueError("no such file"), "stop": AttemptInterrupted()}
BEGAN, GO = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def fixture_events():
    BEGAN.clear()
    GO.clear()
    yield
    GO.set()


def work(value=None, *, error=None):
    """Its first attempt does not stop when it is to, and ends late."""
    if current_context().attempt > 1:
        return "in time"
    BEGAN.set()
    assert GO.wait(PATIENCE)
    if error is not None:
        raise ERRORS[error]
    return value


def give_up_the_first(orch, call):
    """The task `late`: its first attempt is given up, its second one completes."""
    short_grace(orch)
    recorder = Recorder(orch, "late_result_ignored")
    policy = RetryPolicy(2, base=0)
    task = attrs.evolve(call, id="late", timeout=3600, retry=policy)
    handle = orch.submit_task(task)
    assert BEGAN.wait(PATIENCE)
    pass_time(orch, 3600)
    assert handle.result(PATIENCE) == "in time"
    assert orch.get_task_status("late").late_results == {}
    assert "Ignored" not in str(orch.explain("late"))
    GO.set()
    (event,) = recorder.wait_for(1)
    return event


@pytest.mark.parametrize("journal", [None, "runs.db"])
def test_what_is_returned_too_late_is_kept(tmp_path, journal):
    """It is in the status, and the explanation says that there is something."""
    with TaskOrchestrator(journal=journal and tmp_path / journal) as orch:
        event = give_up_the_first(orch, Task.call(work, ["precious"]))
        assert (event.attempt, event.outcome) == (1, "completed")
        assert (event.error_type, event.message) == ("", "")
        status = orch.get_task_status("late")
        assert status.result == "in time"
        assert status.late_results == {1: ["precious"]}
        assert status.to_dict()["late_results"] == {"1": ["precious"]}
        explanation = orch.explain("late")
        assert "attempt 1, which had been given up, returned later" in str(explanation)
        assert "precious" not in str(explanation)
        assert explanation.to_dict()["late"] == list(explanation.late)


def test_what_is_raised_too_late_is_kept():
    """The exception itself, and its words in the event."""
    with TaskOrchestrator() as orch:
        event = give_up_the_first(orch, Task.call(work, kwargs={"error": "value"}))
        assert (event.outcome, event.error_type) == ("failed", "ValueError")
        assert event.message == "no such file"
        assert orch.get_task_status("late").late_results == {1: ERRORS["value"]}
        assert "raised ValueError later" in str(orch.explain("late"))


def test_who_stops_too_late_brings_nothing():
    """That it has stopped is what it was asked for."""
    with TaskOrchestrator() as orch:
        event = give_up_the_first(orch, Task.call(work, kwargs={"error": "stop"}))
        assert event.outcome != "completed"
        assert orch.get_task_status("late").late_results == {}


@pytest.mark.parametrize("keep", [10, 0], ids=["in memory", "only in the journal"])
@pytest.mark.parametrize("error", [None, "value"])
def test_the_next_incarnation_has_it_too(tmp_path, error, keep):
    """Beside its event; whether the task is in memory there or not."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        given = Task.call(work, ["precious"], kwargs={"error": error})
        give_up_the_first(orch, given)
    with TaskOrchestrator(journal=path, keep_finished=keep) as orch:
        for _ in range(3):
            orch.submit(int).result(PATIENCE)
        status = orch.get_task_status("late")
        assert status.result == "in time"
        (late,) = status.late_results.values()
        if error is None:
            assert late == ["precious"]
        else:
            assert "raised ValueError: no such file" in str(late)
            assert "in work" in late.traceback
        if keep:
            assert "which had been given up" in str(orch.explain("late"))


def test_only_the_latest_are_kept():
    """What never ends well may be given up for ever."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(int)
        for attempt in range(1, 25):
            _documents.keep_late(handle, attempt, attempt)
        late = orch.get_task_status(handle.task_id).late_results
        assert list(late.items()) == [(n, n) for n in range(15, 25)]


def test_what_an_older_journal_does_not_say_is_not_made_up():
    """Neither that None was returned, nor what was raised."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(int)
        handle.result(PATIENCE)
        for outcome in ("completed", "failed"):
            event = LateResultIgnored(9, 9, handle.task_id, 1, outcome)
            _documents.recall_late(handle, event, None)
        assert orch.get_task_status(handle.task_id).late_results == {}
