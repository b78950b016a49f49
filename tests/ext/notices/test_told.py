"""A night fails, and somebody is told: by the log, a message, and the health."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.api.tools import PATIENCE, Hold, eventually, part
from tests.ext.notices.test_notifying import Hook, utc
from tests.house.tools.examples import examples

from taskorch import (
    Approval,
    AtLeast,
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
    workflow,
)
from taskorch.events import BudgetLow, TaskResumed, TaskSubmitted, TaskSuspended
from taskorch.ext.recovery import Alerts

#: What the work of the next slots comes to: an error's text, or "" for a good end.
OUTCOMES: dict[str, str] = {}


def work(name: str) -> str:
    if OUTCOMES[name]:
        raise ValueError(OUTCOMES[name])
    return name


def first() -> str:
    return work("first")


def second() -> str:
    return work("second")


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    OUTCOMES.clear()
    yield made
    made.close()


def messages(hook: Hook, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in hook.got]
    return [each for each in found if not kinds or each["message_type"] in kinds]


def skipped(hook: Hook, why: str) -> list[dict[str, Any]]:
    return [each for each in messages(hook, "skipped") if why in each["reason"]]


def trigger(orch: TaskOrchestrator, name: str, outcome: str) -> str:
    """Let a schedule make its work once, which comes to *outcome*; its id."""
    OUTCOMES[name] = outcome
    made = orch.schedules.trigger(name)
    eventually(lambda: orch.get_task_status(made).is_terminal)
    return made


def nights(
    orch: TaskOrchestrator, hook: Hook | None = None, **options: Any
) -> TaskOrchestrator:
    if hook is not None:
        orch.notify(hook.url, allow_private=True, **options)
    orch.schedules.add("first", "@yearly", first)
    orch.schedules.add("second", "@yearly", second)
    return orch


@pytest.mark.parametrize("is_served", [False, True])
def test_a_night_that_fails_is_told_and_so_is_its_end(
    hook: Hook, caplog: Any, is_served: bool
) -> None:
    """By a line with the traceback, one message a cause, and a health that says why."""
    caplog.set_level(logging.INFO, logger="taskorch")
    with nights(TaskOrchestrator(), hook) as orch:
        server = orch.serve(port=0) if is_served else None
        assert part(orch, "schedules").status == "ok"
        bad = trigger(orch, "first", "no rows tonight")
        eventually(lambda: messages(hook, "failure"))
        again = trigger(orch, "first", "no rows tonight")
        other = trigger(orch, "first", "no disk")
        eventually(lambda: len(messages(hook, "failure")) == 2)
        told = messages(hook, "failure")
        assert [each["id"] for each in told] == [bad, other]
        assert told[0]["schedule"] == "first"
        assert "no rows tonight" in told[0]["text"]
        assert told[0]["context"]["error_type"] == "ValueError"
        check = part(orch, "schedules")
        assert check.status == orch.health().status == "degraded"
        assert f"{other} failed: ValueError: no disk" in check.detail
        assert "3 in a row" in check.detail
        for made in (bad, again, other):
            line = f"task {made} of the schedule first failed:"
            eventually(lambda: caplog.text.count(line) == 1)  # noqa: B023 - waits here
        assert "in work" in caplog.text
        good = trigger(orch, "first", "")
        eventually(lambda: messages(hook, "recovered"))
        (over,) = messages(hook, "recovered")
        assert over["id"] == good
        assert part(orch, "schedules").status == "ok"
        assert f"schedule first: {good} has completed" in caplog.text
        if server is not None:
            server.stop()
    assert len(messages(hook)) == 3


def test_a_task_that_is_called_as_a_run_of_a_schedule_is_none_of_it(hook: Hook) -> None:
    """One of a run has a slash in its id, and what it is called in the run after it."""
    with nights(TaskOrchestrator(), hook) as orch:
        orch.submit_task(Task.call(int, "x", id="first-2026-01-01T0000Z"))
        eventually(lambda: messages(hook, "failure"))
        (told,) = messages(hook, "failure")
        assert (told["task_id"], told["schedule"]) == ("first-2026-01-01T0000Z", None)
        assert part(orch, "schedules").status == "ok"


def test_a_failed_run_is_told_by_its_task_and_is_mended_by_a_later_one(
    hook: Hook,
) -> None:
    OUTCOMES["first"] = "no rows"
    flow = Workflow("flow")
    flow.task(first, id="load")
    flow.task(len, "x", id="after", after=["load"])
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.schedules.add("nightly", "@yearly", flow)
        run = orch.schedules.trigger("nightly")
        eventually(lambda: messages(hook, "failure"))
        (told,) = messages(hook)
        assert (told["id"], told["schedule"]) == (f"{run}/load", "nightly")
        assert told["blocking_tasks"] == [f"{run}/after"]
        assert part(orch, "schedules").status == "degraded"
        OUTCOMES["first"] = ""
        later = orch.schedules.trigger("nightly")
        eventually(lambda: messages(hook, "recovered"))
        assert messages(hook, "recovered")[0]["id"] == later
        assert part(orch, "schedules").status == "ok"


def triple(number: int) -> int:
    if number > 1:
        msg = f"no rows of {number}"
        raise ValueError(msg)
    return 3 * number


def test_a_budget_that_is_low_is_an_alert(hook: Hook, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="taskorch.alerts")

    def spend(many: int) -> None:
        current_context().spent(tokens=many)

    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True, about=["alert"])
        with orch.budget("release", tokens=100) as budget:
            orch.submit(spend, 79).result(PATIENCE)
            orch.submit(spend, 1).result(PATIENCE)
        eventually(lambda: messages(hook, "alert"))
        (message,) = messages(hook)
        assert (message["name"], message["state"]) == ("budget release", "raised")
        assert message["text"] == "alert budget release: 80 of 100 tokens spent"
        assert message["severity"] == "warning"
        assert part(orch, "budgets").detail == "release: 80 of 100 tokens spent"
        # It is still low, and that is no news.
        budget.raise_to(tokens=99)
        budget.raise_to(tokens=300)
        eventually(lambda: len(messages(hook)) >= 2)
        assert [each["state"] for each in messages(hook)] == ["raised", "cleared"]
        assert part(orch, "budgets").status == "ok"
        assert "budget release is not low any more" in caplog.text


def test_how_tasks_come_is_heard_only_where_a_schedule_may_have_made_them(
    tmp_path: Path,
) -> None:
    comes = {TaskSubmitted, TaskSuspended, TaskResumed}
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.budget("release", tokens=100)
        assert BudgetLow in orch.signals.connected()
        assert comes.isdisjoint(orch.signals.connected())
        orch.schedules.add("nightly", "0 3 * * *", Task.call(print))
        assert comes <= orch.signals.connected().keys()
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        assert comes <= orch.signals.connected().keys()


def test_of_a_budget_that_an_earlier_incarnation_left_low_the_next_one_tells(
    hook: Hook, tmp_path: Path
) -> None:
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        budget = orch.budget("release", tokens=100)
        spend = Task.call(print, resources={"tokens": 90}, budget="release")
        orch.submit_task(spend).result(PATIENCE)
        assert budget.usage.state == "low"
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.notify(hook.url, allow_private=True, about=["alert"])
        eventually(lambda: messages(hook, "alert"))
        orch.resources.raise_budget("release", {"tokens": 300})
        eventually(lambda: len(messages(hook)) >= 2)
        assert [each["state"] for each in messages(hook)] == ["raised", "cleared"]
        first = messages(hook)[0]
        assert first["text"] == "alert budget release: 90 of 100 tokens spent"


def test_a_map_that_fails_since_a_call_did_is_one_failure(hook: Hook) -> None:
    """Its error is that of the call, as it was: the map has nothing to add."""
    flow = Workflow("flow")
    flow.map(triple, [1, 2], id="triples")
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.schedules.add("nightly", "@yearly", flow)
        run = orch.schedules.trigger("nightly")
        eventually(lambda: orch.get_task_status(f"{run}/triples").is_terminal)
        failed = f"{run}/triples/1 failed: ValueError: no rows of 2"
        eventually(lambda: part(orch, "schedules").detail == f"nightly: {failed}")
        OUTCOMES["first"] = "another, which is told after all that was before it"
        orch.schedules.add("first", "@yearly", first)
        last = orch.schedules.trigger("first")
        eventually(lambda: last in told(hook))
        assert told(hook) == {f"{run}/triples/1", last}
        assert f"nightly: {failed};" in part(orch, "schedules").detail


def told(hook: Hook) -> set[str]:
    return {each["id"] for each in messages(hook, "failure")}


def test_an_earlier_tick_that_ends_late_mends_nothing(hook: Hook, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="taskorch")
    hold, calls = Hold(), []

    def uneven() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("no rows")
        hold()

    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.schedules.add("uneven", "@yearly", uneven)
        late = orch.schedules.trigger("uneven")
        hold.wait()
        orch.schedules.trigger("uneven")
        eventually(lambda: messages(hook, "failure"))
        hold.release()
        eventually(lambda: f"{late} has completed" in caplog.text)
        assert part(orch, "schedules").status == "degraded"
    assert messages(hook, "recovered") == []


def test_a_run_that_nobody_asks_for_is_told_and_mended_by_a_rerun(hook: Hook) -> None:
    OUTCOMES["first"] = "no rows"
    flow = Workflow("flow")
    flow.task(first, id="load")
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.workflows.start(flow, id="by-hand")
        eventually(lambda: messages(hook, "failure"))
        assert "by-hand/load failed" in part(orch, "runs").detail
        OUTCOMES["first"] = ""
        orch.rerun_task("by-hand/load").result(PATIENCE)
        eventually(lambda: messages(hook, "recovered"))
        assert part(orch, "runs").status == "ok"


def extract() -> None:
    raise ValueError("no such table")


def load(*_: object) -> None:
    """Load nothing."""


def tidied(*_: object) -> None:
    raise LookupError("nothing to tidy")


def followed_by(*above: Any, **options: Any) -> Callable[[Workflow, Any], object]:
    """A shape of graph: *above*, made of what fails, is before a task with *options*."""

    def shape(flow: Workflow, bad: Any) -> object:
        between = [make(flow, bad) for make in above]
        return flow.task(load, id="load", after=between or [bad], **options)

    return shape


def phased(on_failure: Any, **options: Any) -> Callable[[Workflow, Any], object]:
    def shape(flow: Workflow, _bad: Any) -> object:
        flow.phase("one", on_failure=on_failure, **options).task(extract, id="inside")
        return flow.phase("two").task(load, id="load")

    return shape


#: What comes after a task that fails, by what that is.
SHAPES: dict[str, Callable[[Workflow, Any], object]] = {
    "plain": followed_by(),
    "later": followed_by(not_before=60),
    "question": followed_by(lambda f, x: f.add(Task.question("Load?", after=[x]))),
    "wait": followed_by(lambda f, x: f.wait_for("go", id="go", after=[x])),
    "timed": followed_by(lambda f, x: f.wait_for("go", timeout=60, after=[x])),
    "timer": followed_by(
        lambda f, x: f.wait_for(None, timeout=60, default=None, after=[x])
    ),
    "finished": followed_by(join="finished"),
    "any": followed_by(join="any"),
    "number": followed_by(
        lambda f, x: x, lambda f, x: f.task(load, id="well"), join=AtLeast(1)
    ),
    "run": followed_by(on_parent_failure="run"),
    "skip": followed_by(on_parent_failure="skip"),
    "fail": followed_by(on_parent_failure="fail"),
    "tidied": lambda f, x: f.task(tidied, id="tidy", after=[x], join="finished"),
    "gate": phased("stop", gate=[Approval()]),
    "open gate": phased("continue"),
    "open approval": phased("continue", gate=[Approval()]),
    "skipped gate": phased("skip", gate=[Approval()]),
}


def night_of(shape: str) -> Workflow:
    flow = Workflow("night")
    SHAPES[shape](flow, flow.task(extract, id="extract"))
    return flow


def runs_told(hook: Hook) -> list[str]:
    return sorted(each["run"] for each in messages(hook, "failure") if each["run"])


def test_each_failed_run_is_told_once_whatever_comes_after_what_failed(
    hook: Hook, caplog: Any
) -> None:
    """A question, a wait, a join or a rule for failures: the run has failed."""
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        runs: list[str] = []
        for shape in SHAPES:
            name = shape.replace(" ", "-")
            orch.schedules.add(name, "@yearly", night_of(shape))
            runs += [orch.schedules.trigger(name), f"by-hand-{name}"]
            orch.workflows.start(night_of(shape), id=runs[-1])
        eventually(lambda: {*runs_told(hook)} == {*runs})
        assert part(orch, "runs").detail.endswith(f"; and {len(SHAPES) - 5} more")
        assert all(each.failing for each in orch.schedules.list())
        orch.stop(drain=False)
    assert runs_told(hook) == sorted(runs)
    ends = [m for m in caplog.messages if m.endswith(" has failed")]
    assert len(ends) == len({*ends}) == len(SHAPES)


def too_few(flow: Workflow) -> None:
    bad = [flow.task(second, id=f"bad-{n}", allow_failure=True) for n in range(2)]
    flow.task(load, id="load", after=[*bad, flow.task(first)], join=AtLeast(2))


def refused(flow: Workflow) -> None:
    bad = [flow.task(second, id=f"bad-{n}", allow_failure=True) for n in range(2)]
    flow.task(load, id="load", after=bad, join="any", on_parent_failure="fail")


@pytest.mark.parametrize("how", [too_few, refused])
@pytest.mark.parametrize("is_hand_started", [True, False])
def test_a_run_in_which_no_task_failed_for_good_is_told_and_mended(
    hook: Hook, tmp_path: Path, how: Any, *, is_hand_started: bool
) -> None:
    """It has failed all the same: in health, messages and the next incarnation."""
    OUTCOMES.update(first="", second="no disk")
    flow = Workflow("flow")
    how(flow)
    component = "runs" if is_hand_started else "schedules"

    def begin() -> Any:
        orch = TaskOrchestrator(journal=tmp_path / "j.db")
        orch.notify(hook.url, allow_private=True, about=["failure", "recovered"])
        return orch

    with begin() as orch:
        orch.schedules.add("nightly", "@yearly", flow)
        run = "by-hand" if is_hand_started else orch.schedules.trigger("nightly")
        if is_hand_started:
            orch.workflows.start(flow, id=run)
        eventually(lambda: runs_told(hook) == [run])
        assert orch.workflows.status(run).state == "failed"
        failed = f"{run}/load failed: DependencyF"
        eventually(lambda: failed in part(orch, component).detail)
    assert runs_told(hook) == [run]
    with begin() as orch:
        orch.schedules.add("nightly", "@yearly", flow)
        eventually(lambda: runs_told(hook) == [run, run])
        eventually(lambda: failed in part(orch, component).detail)
        mine = [each for each in messages(hook, "failure") if each["run"]]
        assert mine[0]["message_id"] == mine[1]["message_id"]
        OUTCOMES["second"] = ""
        orch.workflows.restart(run)
        eventually(lambda: part(orch, component).status == "ok")
        assert orch.workflows.status(run).state == "completed"
    assert runs_told(hook) == [run, run]
    assert any(run in each["text"] for each in messages(hook, "recovered"))


def test_a_run_that_fails_since_a_task_elsewhere_did_is_told_and_mended(
    hook: Hook,
) -> None:
    OUTCOMES["first"] = "no rows"
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        elsewhere = orch.submit_task(Task.call(first, id="elsewhere"))
        flow = Workflow("flow")
        flow.task(load, id="load", after=[elsewhere])
        flow.task(load, id="last", after=["load"])
        orch.workflows.start(flow, id="by-hand")
        assert isinstance(elsewhere.exception(PATIENCE), ValueError)
        eventually(lambda: runs_told(hook) == ["by-hand"])
        OUTCOMES["first"] = ""
        orch.rerun_task("elsewhere")
        eventually(lambda: messages(hook, "recovered"))
        assert part(orch, "runs").status == "ok"
    assert len(messages(hook)) == 2


def test_a_run_that_is_mended_and_fails_anew_is_told_anew(hook: Hook) -> None:
    """What is told of a run counts until it is mended: another failure is news then."""
    OUTCOMES.update(first="no rows", second="no disk")
    flow = Workflow("flow")
    flow.task(second, id="save", after=[flow.task(first, id="load")])
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.schedules.add("nightly", "@yearly", flow)
        run = orch.schedules.trigger("nightly")
        eventually(lambda: told(hook) == {f"{run}/load"})
        OUTCOMES["first"] = ""
        orch.workflows.restart(run)
        eventually(lambda: told(hook) == {f"{run}/load", f"{run}/save"})
        assert messages(hook, "recovered") == []


def test_a_run_of_which_another_task_failed_is_not_told_to_be_well(hook: Hook) -> None:
    """The other failure is told in its place, even if a caller was given that error."""
    OUTCOMES.update(first="no rows", second="no disk")
    flow = Workflow("flow")
    flow.task(second, id="save")
    flow.task(first, id="load")
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        save = orch.workflows.start(flow, id="by-hand").handles["save"]
        assert isinstance(save.exception(PATIENCE), ValueError)
        eventually(lambda: told(hook) == {"by-hand/load"})
        OUTCOMES["first"] = ""
        orch.rerun_task("by-hand/load")
        eventually(lambda: told(hook) == {"by-hand/load", "by-hand/save"})
        assert messages(hook, "recovered") == []
        assert "by-hand/save failed: ValueError" in part(orch, "runs").detail
        OUTCOMES["second"] = ""
        orch.rerun_task("by-hand/save")
        eventually(lambda: messages(hook, "recovered"))
        assert part(orch, "runs").status == "ok"
    assert len(messages(hook)) == 3


def test_a_run_that_a_person_rejects_is_told_as_any_that_failed(hook: Hook) -> None:
    """Others than that person wait for it."""
    flow = Workflow("flow")
    flow.phase("one", gate=[Approval()]).task(load, id="load")
    flow.phase("two").task(load, id="publish")
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True, about=["failure"])
        orch.schedules.add("nightly", "@yearly", flow)
        for run in (orch.schedules.trigger("nightly"), "by-hand"):
            if run == "by-hand":
                orch.workflows.start(flow, id=run)
            eventually(orch.questions)
            orch.workflows.reject(run, "one", by="ada", note="too dear")
            eventually(lambda: run in runs_told(hook))  # noqa: B023 - waits here
        assert "too dear" in part(orch, "schedules").detail
        assert "too dear" in part(orch, "runs").detail
    assert len(messages(hook)) == 2
    assert all("rejected by ada: too dear" in each["text"] for each in messages(hook))


def test_what_fails_on_its_own_is_no_trouble_of_a_run(hook: Hook) -> None:
    """Whatever its id is."""
    OUTCOMES["first"] = "no rows"
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.submit_task(Task.call(first, id="etl/load"))
        eventually(lambda: messages(hook, "failure"))
        assert not messages(hook, "failure")[0]["run"]
        assert part(orch, "runs").status == "ok"


def test_a_run_that_failed_as_the_block_ends_is_in_the_log(caplog: Any) -> None:
    """The end of the block cancels what is blocked, and hides no failure."""
    OUTCOMES.update(first="", second="no disk")
    flow = Workflow("flow")
    too_few(flow)
    with TaskOrchestrator() as orch:
        orch.workflows.start(flow, id="by-hand")
        eventually(lambda: orch.workflows.status("by-hand").state == "failed")
    assert "by-hand/load failed" in caplog.text


def test_a_run_of_which_somebody_has_cancelled_a_task_has_not_failed(
    hook: Hook,
) -> None:
    """Whatever waits for that task is blocked, and nobody is told of it."""
    OUTCOMES["first"] = "no rows"
    flow = Workflow("flow")
    flow.task(load, id="load", after=[flow.wait_for("go", id="go")])
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        orch.workflows.start(flow, id="by-hand")
        orch.cancel_task("by-hand/go")
        eventually(lambda: orch.workflows.status("by-hand").state == "cancelled")
        orch.submit_task(Task.call(first, id="alone"))
        eventually(lambda: messages(hook, "failure"))
        assert part(orch, "runs").status == "ok"
    assert [each["id"] for each in messages(hook)] == ["alone"]


def test_who_is_given_the_error_is_not_told_besides(hook: Hook) -> None:
    """Nor is anybody told of what a person has decided, or what follows from others."""
    OUTCOMES["first"] = "bad"
    with TaskOrchestrator(concurrency=1) as orch:
        orch.notify(hook.url, allow_private=True, about=["failure"])
        handle = orch.submit(first)
        after = orch.submit(str, handle)
        with pytest.raises(ValueError, match="bad"):
            handle.result(PATIENCE)
        orch.submit_task(Task.question("go?", id="ask"))
        orch.answer("ask", "reject", by="ada")
        del handle, after
        orch.submit_task(Task.call(first, id="alone"))
        orch.submit_task(Task.call(first, id="alike"))
        eventually(lambda: messages(hook))
    assert [each["id"] for each in messages(hook)] == ["alone"]


def test_a_receiver_of_the_users_quiets_the_log_and_nothing_else(
    hook: Hook, caplog: Any
) -> None:
    heard: list[str] = []
    with nights(TaskOrchestrator(), hook) as orch:
        orch.signals.task_failed.connect(lambda event: heard.append(event.task_id))
        bad = trigger(orch, "first", "no rows")
        eventually(lambda: messages(hook, "failure"))
        assert part(orch, "schedules").status == "degraded"
        eventually(lambda: heard == [bad])
    assert "no rows" not in caplog.text


def test_ticks_that_do_not_happen_are_told_unless_a_person_wanted_it(
    hook: Hook, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, logger="taskorch")
    hold = Hold()
    with TaskOrchestrator() as orch:
        told_to = orch.notify(hook.url, allow_private=True)
        orch.schedules.add("slow", 1, hold)
        # On a busy machine slots are late, and passed over for that as well.
        eventually(lambda: skipped(hook, "has not ended"))
        (told,) = skipped(hook, "has not ended")
        assert utc(told["timestamp"])
        assert utc(told["id"].partition("/")[2])
        assert told["schedule"] == "slow"
        assert "did not happen" in part(orch, "schedules").detail
        hold.release()
        eventually(lambda: part(orch, "schedules").status == "ok")
        orch.schedules.pause("slow", "a holiday")
        eventually(lambda: orch.schedules.status("slow").trouble == "")
        threading.Event().wait(1.5)
        orch.schedules.resume("slow")
        eventually(lambda: "it was paused: a holiday" in caplog.text)
    assert told_to.flush(PATIENCE)
    assert skipped(hook, "paused") == []
    assert len(skipped(hook, "has not ended")) == 1


@pytest.mark.parametrize("causes", [["disk"], ["disk", "rows"], ["rows"] * 3])
def test_that_all_is_well_again_counts_each_failure_before(
    hook: Hook, caplog: Any, causes: list[str]
) -> None:
    """Also those that nobody had been told of yet; and not those before it was well."""
    caplog.set_level(logging.INFO, logger="taskorch")
    with nights(TaskOrchestrator(), hook) as orch:
        trigger(orch, "first", "other")
        trigger(orch, "first", "")
        made = [trigger(orch, "first", cause) for cause in causes]
        eventually(lambda: any(e["id"] in made for e in messages(hook, "failure")))
        good = trigger(orch, "first", "")
        many = "1 failure" if len(causes) == 1 else f"{len(causes)} failures"
        words = f"schedule first is well again after {many}: {good} has completed"
        eventually(lambda: words in caplog.text)


@workflow
def slips() -> None:
    Task.call(first)
    raise LookupError("a slip of the new version")


def test_a_tick_whose_workflow_raises_is_told_as_refused_with_the_error(
    hook: Hook, caplog: Any
) -> None:
    """The function is the user's: no part of ours has failed, and it had its time."""
    with TaskOrchestrator() as orch:
        told_to = orch.notify(hook.url, allow_private=True)
        orch.schedules.add("nightly", 1, slips)
        eventually(lambda: skipped(hook, "it was refused: slips raises LookupError"))
        assert orch.health().status == "degraded"
        assert "a slip of the new version" in part(orch, "schedules").detail
        assert not [c for c in orch.health().checks if "driver" in c.component]
    assert told_to.flush(PATIENCE)
    assert len(messages(hook)) == 1
    assert "was refused, and is tried again: slips raises" in messages(hook)[0]["text"]
    assert 'raise LookupError("a slip of the new version")' in caplog.text
    assert "failed" not in caplog.text
    assert "have made nothing" not in caplog.text


DOOMED = """
import os
from taskorch import Task, TaskOrchestrator

def pay():
    os._exit(9)

if __name__ == "__main__":
    with TaskOrchestrator(journal="runs.db") as orch:
        orch.submit_task(Task.call(pay, id="pay", idempotent=False))
        orch.wait()
"""


def test_what_a_person_must_decide_is_told_in_the_next_incarnation(
    hook: Hook, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "doomed.py").write_text(textwrap.dedent(DOOMED))
    code = "import doomed; exec(open('doomed.py').read())"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    monkeypatch.syspath_prepend(tmp_path)
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.notify(hook.url, allow_private=True)
    with orch:
        eventually(lambda: messages(hook, "blocked"))
        (told,) = messages(hook)
        assert told["task_id"] == "pay"
        assert "a person must decide" in told["text"]
        assert part(orch, "decisions").status == "degraded"
        orch.decide("pay", "complete")
        eventually(lambda: part(orch, "decisions").status == "ok")


def test_a_task_whose_function_is_gone_is_told(
    hook: Hook, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "moved_away.py"
    path.write_text("def load():\n    return 1\n")
    moved = importlib.import_module("moved_away")
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        gate = orch.submit_task(Task.wait_for("go", id="gate"))
        orch.submit_task(Task.call(moved.load, id="load", after=[gate]))
        orch.stop(drain=False)
    path.write_text("")
    del sys.modules["moved_away"]
    importlib.invalidate_caches()
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.notify(hook.url, allow_private=True)
        orch.emit("go")
        eventually(lambda: messages(hook, "blocked", "failure"))
        (told,) = messages(hook)
        assert told["task_id"] == "load"
        assert "moved_away" in told["text"]
        assert orch.health().status == "degraded"
        orch.cancel_task("load")


def test_an_alert_is_told_as_it_fires_and_as_it_clears(hook: Hook) -> None:
    hold, is_bad = Hold(), [True]
    alerts = Alerts(interval=0.05)
    with TaskOrchestrator(concurrency=1) as orch:
        orch.notify(hook.url, allow_private=True)
        orch.watch_alerts(alerts)
        orch.alerts.rule(
            "mine",
            when=lambda _: is_bad[0],
            hold=0,
            severity="critical",
            action="pause_new_tasks",
        )
        eventually(lambda: messages(hook, "alert"))
        (told,) = messages(hook, "alert")
        assert (told["name"], told["state"]) == ("mine", "raised")
        assert told["severity"] == "critical"
        assert "no new task starts" in told["text"]
        check = part(orch, "alerts")
        assert check.status == "degraded"
        assert "no new task starts" in check.detail
        is_bad[0] = False
        eventually(lambda: len(messages(hook, "alert")) == 2)
        assert messages(hook, "alert")[1]["state"] == "cleared"
        assert all(utc(each["timestamp"]) for each in messages(hook))
        assert part(orch, "alerts").status == "ok"
        hold.release()


def test_what_was_not_sent_is_sent_by_the_next_incarnation_and_has_the_same_number(
    hook: Hook, tmp_path: Path
) -> None:
    with nights(TaskOrchestrator(journal=tmp_path / "n.db")) as orch:
        trigger(orch, "first", "no rows")
        trigger(orch, "first", "no rows")
        trigger(orch, "second", "no rows")
        trigger(orch, "second", "")
    for incarnation in (1, 2):
        with nights(TaskOrchestrator(journal=tmp_path / "n.db"), hook) as orch:
            eventually(lambda: len(messages(hook)) == incarnation)  # noqa: B023 - waits here
            assert part(orch, "schedules").status == "degraded"
    one, other = messages(hook)
    assert one["message_id"] == other["message_id"]
    assert one["schedule"] == "first"


def test_what_was_told_is_not_told_again_as_another_that_failed_since(
    hook: Hook, tmp_path: Path
) -> None:
    """Run again, the first fails again or completes: the same cause has its number."""
    OUTCOMES["first"] = OUTCOMES["second"] = "no disk"

    def run(orch: TaskOrchestrator, *names: str) -> None:
        flow = Workflow("flow")
        for name in names:
            flow.task(first if name == "first" else second, id=name)
        orch.workflows.start(flow, id="night")

    with TaskOrchestrator(journal=tmp_path / "n.db") as orch:
        orch.notify(hook.url, allow_private=True, about=["failure"])
        run(orch, "first", "second")
        eventually(lambda: len(messages(hook)) == 1)
        told = messages(hook)[0]
        failed, other = told["id"], "night/second"
        if failed == other:
            other = "night/first"
        again = orch.rerun_task(failed)
        eventually(lambda: orch.get_task_status(again.task_id).is_terminal)
    for outcome in ("no disk", ""):
        with TaskOrchestrator(journal=tmp_path / "n.db") as orch:
            orch.notify(hook.url, allow_private=True, about=["failure"])
            run(orch, "first", "second")
            count = 2 if outcome else 3
            eventually(lambda: len(messages(hook)) == count)  # noqa: B023 - waits here
            OUTCOMES[failed.rpartition("/")[2]] = ""
            again = orch.rerun_task(failed)
            eventually(lambda: orch.get_task_status(again.task_id).is_terminal)  # noqa: B023 - waits here
    assert {each["message_id"] for each in messages(hook)} == {told["message_id"]}


def test_about_says_what_a_receiver_is_told_of(hook: Hook) -> None:
    with nights(TaskOrchestrator(), hook, about=["alert", "recovered"]) as orch:
        with pytest.raises(InvalidTaskError, match="failure"):
            orch.notify(hook.url, allow_private=True, about=["failures"])
        with pytest.raises(InvalidTaskError, match="list of kinds"):
            orch.notify(hook.url, allow_private=True, about="failure")
        trigger(orch, "first", "no rows")
        eventually(lambda: part(orch, "schedules").status == "degraded")
        trigger(orch, "first", "")
        eventually(lambda: messages(hook))
    assert [each["message_type"] for each in messages(hook)] == ["recovered"]


def test_a_receiver_that_takes_nothing_is_told_of_by_the_log(
    hook: Hook, caplog: Any
) -> None:
    hook.answers = [403]
    with nights(TaskOrchestrator(), hook) as orch:
        bad = trigger(orch, "first", "no rows")
        eventually(lambda: f"was not told of the failure {bad}" in caplog.text)
        assert "403" in caplog.text
        assert "=private" not in caplog.text


def test_a_part_that_fails_is_a_line_of_the_log(caplog: Any) -> None:
    class Broken:
        name = "broken"

        def tick(self, _view: Any, _now: float) -> Any:
            raise LookupError("what I need is gone")

    with nights(TaskOrchestrator()) as orch:
        orch.drivers.add(Broken())  # type: ignore[arg-type]
        eventually(lambda: "driver broken failed" in caplog.text)
        assert "what I need is gone" in caplog.text


# -- against a model, over lives that are cut off at any step ---------------------------

_NAMES = st.sampled_from(["first", "second"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("slot"), _NAMES, st.sampled_from(["", "", "disk", "rows"])),
        st.tuples(st.just("kill"), st.just(""), st.just("")),
        st.tuples(st.just("stop"), st.just(""), st.just("")),
    ),
    min_size=1,
    max_size=10,
)


class Model:
    """What people must know: a page, and no code of ours."""

    def __init__(self) -> None:
        #: Of each schedule, the first task of each cause since it was well.
        self.open: dict[str, dict[str, str]] = {"first": {}, "second": {}}
        #: All that may be told, and all that must have been by the end.
        self.allowed: set[str] = set()
        #: Of each schedule, the causes of earlier incarnations: what fails so again is
        #: told if all was well again before this incarnation has looked at those.
        self.earlier: set[tuple[str, str]] = set()

    def end(self) -> None:
        self.earlier = {
            (name, why) for name, open_ in self.open.items() for why in open_
        }

    def slot(self, name: str, outcome: str, made: str) -> None:
        if not outcome:
            self.open[name] = {}
        elif outcome not in self.open[name]:
            self.open[name][outcome] = made
            self.allowed.add(made)
        elif (name, outcome) in self.earlier:
            self.earlier.discard((name, outcome))
            self.allowed.add(made)

    @property
    def needed(self) -> set[str]:
        return {made for causes in self.open.values() for made in causes.values()}


def live(steps: list[tuple[str, str, str]], folder: Path) -> None:
    """Go through *steps*, and compare what was told with the model."""
    hook, model = Hook(), Model()
    OUTCOMES.clear()
    path, incarnations = folder / "0.db", 0
    orch = nights(TaskOrchestrator(journal=path), hook)
    orch.start()
    try:
        for step, name, outcome in [*steps, ("stop", "", "")]:
            if step == "slot":
                model.slot(name, outcome, trigger(orch, name, outcome))
                continue
            incarnations += 1
            model.end()
            if step == "kill":
                # The next incarnation has what was kept; nothing more is sent of this
                # one.
                url, hook.url = hook.url, ""
                after = folder / f"{incarnations}.db"
                for suffix in ("", "-wal"):
                    if Path(f"{path}{suffix}").exists():
                        shutil.copy(f"{path}{suffix}", f"{after}{suffix}")
                count = len(hook.got)
                orch.stop(drain=False)
                del hook.got[count:]
                path, hook.url = after, url
            else:
                orch.stop(drain=False)
            orch = nights(TaskOrchestrator(journal=path), hook)
            orch.start()
        eventually(lambda: model.needed <= {e["id"] for e in messages(hook, "failure")})
        bad = {name for name, causes in model.open.items() if causes}
        eventually(lambda: (part(orch, "schedules").status == "degraded") == bool(bad))
        for name in bad:
            assert f"{name}: " in part(orch, "schedules").detail
        told = messages(hook, "failure")
        assert {each["id"] for each in told} <= model.allowed
        # Whoever gets one again knows it by its number.
        numbers = {(each["id"], each["message_id"]) for each in told}
        assert len({number for _, number in numbers}) == len(numbers)
        assert len({name for name, _ in numbers}) == len(numbers)
    finally:
        orch.stop(drain=False)
        hook.close()


def test_each_cause_is_told_once_over_two_incarnations(tmp_path: Path) -> None:
    bad, good = ("slot", "first", "disk"), ("slot", "first", "")
    other = ("slot", "second", "rows")
    live(
        [bad, bad, ("kill", "", ""), good, other, bad, ("stop", "", ""), bad], tmp_path
    )


def test_what_was_well_again_before_anybody_looked_is_told_once(tmp_path: Path) -> None:
    bad, good = ("slot", "first", "disk"), ("slot", "first", "")
    live([bad, bad, bad, good], tmp_path)


@pytest.mark.slow("random lives")
@settings(max_examples=examples(12), deadline=None)
@given(steps=_STEPS)
def test_each_cause_is_told_once_and_none_is_untold(
    steps: list[tuple[str, str, str]], tmp_path_factory: Any
) -> None:
    """What is wrong at the end was told, and nothing else; the health says so."""
    live(steps, tmp_path_factory.mktemp("lives"))
