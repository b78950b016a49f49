"""What a hint says can be done in the state in which it is given, and then it works."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    DuplicateTaskError,
    InvalidTaskError,
    JournalTakenError,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.core.journal._lock import Lock
from taskorch.errors import (
    InvalidTransitionError,
    ResourcesTakenError,
    UsageError,
)

#: A call in a hint: `orch.cancel_task('x')`.
_CALL = re.compile(r"orch\.(cancel_task)\('([^']*)'\)")


def fails():
    raise ValueError("no rows")


def submitted_again(orch, task):
    """Submit *task*, and follow the hint of each refusal; return the refusals."""
    refusals = []
    options = {}
    while len(refusals) < 3:
        try:
            orch.submit_task(task, **options)
        except UsageError as refused:
            refusals.append(refused)
            if "replace=True" in refused.hint:
                options = {"replace": True}
                continue
            ((name, task_id),) = _CALL.findall(refused.hint)
            getattr(orch, name)(task_id)
            orch.wait([orch.handle(task_id)], timeout=PATIENCE)
        else:
            assert len({*map(str, refusals)}) == len(refusals), "refused as before"
            return refusals
    raise AssertionError(refusals)


STATES = {
    "later": lambda _, **names: Task.call(int, not_before=3_600, **names),
    "running": Task.call,
    "completed": lambda _, **names: Task.call(int, **names),
    "failed": lambda _, **names: Task.call(fails, **names),
    "asks": lambda _, **names: Task.question("Ship?", **names),
    "waits": lambda _, **names: Task.wait_for("never", **names),
}


@pytest.mark.parametrize("is_key", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_a_task_whose_name_is_taken_comes_after_the_hints_were_followed(state, is_key):
    names = {"idempotency_key": "k"} if is_key else {}
    hold = Hold()
    with TaskOrchestrator() as orch:
        orch.submit_task(STATES[state](hold, id="x", **names))
        if state == "running":
            hold.wait()
        elif state in ("completed", "failed"):
            orch.wait([orch.handle("x")], timeout=PATIENCE)
        again = {"idempotency_key": "k"} if is_key else {"id": "x"}
        hold.release()
        refusals = submitted_again(orch, Task.call(len, "abc", **again))
        first = refusals[0]
        assert isinstance(first, DuplicateTaskError)
        is_over = state in ("completed", "failed")
        assert is_over == ("replace=True" in first.hint) or state == "running"
        assert f"use another {'key' if is_key else 'id'}" in first.hint
        assert orch.handle("x").result(PATIENCE) == 3


def test_what_is_replaced_too_early_is_replaced_once_the_hint_was_followed():
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, id="x", not_before=3_600))
        with pytest.raises(InvalidTransitionError) as refused:
            orch.submit_task(Task.call(len, "abc", id="x"), replace=True)
        assert "replace=True" not in refused.value.hint
        assert submitted_again(orch, Task.call(len, "abc", id="x"))
        assert orch.handle("x").result(PATIENCE) == 3


def test_two_of_one_batch_are_not_told_to_replace_each_other():
    with TaskOrchestrator() as orch, pytest.raises(DuplicateTaskError) as refused:
        orch.submit_tasks([Task.call(int, id="x"), Task.call(len, "a", id="x")])
    assert refused.value.hint == "give one of them another"


# -- who has a journal -----------------------------------------------------------------


def refusal_of(path):
    with closing(SqliteJournal(path)) as second:
        with pytest.raises(JournalTakenError) as refused:
            second.claim()
        return refused.value


def test_one_of_which_nobody_knows_whether_it_lives_may_be_taken_over(tmp_path):
    path = tmp_path / "j.db"
    with closing(SqliteJournal(path)) as first:
        first.claim()
    lock = Lock.acquire(path, take_over=False)
    lock.sign(2**22 + 1, "elsewhere", "2026-11-25T03:00:00Z", 1)
    refused = refusal_of(path)
    assert "process 4194305 on elsewhere, since 2026" in refused.message
    assert "SqliteJournal(path, take_over=True)" in refused.hint
    with closing(SqliteJournal(path, take_over=True)) as second:
        assert second.claim() == 2
    lock.release()


def test_a_process_that_has_not_said_its_number_is_not_given_one(tmp_path):
    path = tmp_path / "j.db"
    lock = Lock.acquire(path, take_over=False)
    refused = refusal_of(path)
    lock.release()
    assert "?" not in str(refused)
    assert "None" not in str(refused)
    assert f"`fuser {path}.lock` names it" in refused.hint
    with closing(SqliteJournal(path)) as second:
        assert second.claim() == 1


# -- others ----------------------------------------------------------------------------


def test_a_task_of_a_run_is_compared_with_its_run(tmp_path):
    flow = Workflow("flow")
    flow.task(int, id="load")
    with TaskOrchestrator() as orch:
        for name in ("monday", "tuesday"):
            orch.workflows.start(flow, id=name).result(PATIENCE)
        for pair in (("monday/load", "tuesday/load"), ("monday", "tuesday/load")):
            with pytest.raises(InvalidTaskError) as refused:
                orch.compare(*pair)
            assert "is a task of the run" in refused.value.message
        said = re.findall(r"'(\w+)'", refused.value.hint)
        assert orch.compare("monday", *said).later == "tuesday"


def test_a_wait_for_another_event_is_told_by_the_events_names():
    with TaskOrchestrator() as orch:
        for name, event in (("one", "paid"), ("two", "shipped")):
            flow = Workflow("flow")
            flow.wait_for(event, timeout=PATIENCE)
            run = orch.workflows.start(flow, id=name)
            orch.emit(event, 1)
            run.result(PATIENCE)
        text = str(orch.compare("one", "two"))
    assert "'paid' → 'shipped'" in text
    assert "Wait(" not in text


def test_an_error_within_an_attribute_of_ours_is_shown_as_it_is(monkeypatch):
    """It is not said that there is no such attribute, and that another was meant."""

    class Own(TaskOrchestrator):
        @property
        def nights(self):
            return self.never_set_before

    with TaskOrchestrator() as orch:
        monkeypatch.setattr(
            type(orch), "alerts", property(lambda _: None.missing_for_good)
        )
        with pytest.raises(AttributeError, match="missing_for_good") as raised:
            _ = orch.alerts
        assert "did you mean" not in str(raised.value)
        with pytest.raises(AttributeError, match="did you mean 'schedules'"):
            _ = orch.shedules
    with pytest.raises(AttributeError, match="'never_set_before'"):
        _ = Own().nights


def test_who_has_waited_for_a_resource_is_not_told_to_wait_by_the_same_option():
    with TaskOrchestrator(resources={"gpu": 1}) as orch:
        held = orch.resources.allocate({"gpu": 1}, owner="ada")
        with pytest.raises(ResourcesTakenError) as at_once:
            orch.resources.allocate({"gpu": 1}, owner="ada")
        assert "timeout=" in at_once.value.hint
        with pytest.raises(ResourcesTakenError) as waited:
            orch.resources.allocate({"gpu": 1}, owner="ada", timeout=0.01)
        assert "timeout=" not in waited.value.hint
        orch.resources.release(held)
        orch.resources.allocate({"gpu": 1}, owner="ada", timeout=PATIENCE)
