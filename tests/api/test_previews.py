"""What a verb would touch is said once, at the verb, and everywhere alike."""

from __future__ import annotations

import json
from inspect import isfunction, signature

import pytest
from tests.api.tools import eventually

from taskorch import Task, TaskOrchestrator, TaskState, current_context
from taskorch.api.verbs.table import VERBS, foreseen, previewed
from taskorch.api.workflows import Approval, Workflow
from taskorch.core.runs import _foreseen
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader
from taskorch.model import Cache

pytest.importorskip("starlette")
pytest.importorskip("cronsim")

PATIENCE = 60
#: Verbs that change something, and say nothing beforehand: why not.
WITHOUT = {
    **dict.fromkeys(("suspend_task", "pause_workflow"), "`resume` undoes it"),
    **dict.fromkeys(("pause_schedule", "pause_backfill"), "`resume` undoes it"),
    **dict.fromkeys(("resume_task", "resume_workflow"), "it lets go on what was there"),
    **dict.fromkeys(("resume_schedule", "resume_backfill"), "likewise"),
    "hold_starts": "`release_starts` undoes it",
    "release_starts": "it lets go on what was there",
    "drain_agent": "`on=False` undoes it",
    "spawn_agent": "`terminate_agent` undoes it",
    "set_priority": "it can be set again",
    "resize_resources": "it can be set again, and takes nothing from anybody",
    "set_quotas": "it can be set again, and takes nothing from anybody",
    "raise_budget": "it can be set again, and takes nothing from anybody",
    "allocate_resources": "`release_resources` undoes it",
    "release_resources": "it gives back what is the caller's own",
    "reward_task": "it is an opinion, and touches no task",
    "emit": "`explain` says of each task which event it waits for",
    "request_waiver": "it asks people",
    "revoke_waiver": "a waiver can be asked for again",
}
#: How each is asked for: what it is about, what else is said, and the command.
CASES = {
    "cancel_task": ("wait", {}, "cancel {} wait"),
    "decide": ("wait", {}, "decide {} wait fail"),
    "answer": ("ask", {}, "answer {} ask approve --by ada"),
    "rerun_task": ("n1/first", {}, "rerun {} n1/first"),
    "change_tasks": (
        "cancel",
        {"ids": "w*", "state": "blocked", "older_than": 0},
        "change {} cancel --ids w* --state blocked --older-than 0",
    ),
    "expire_tasks": (3600, {}, "expire {} 3600"),
    # Of a journal, `prune` says how many tasks, and of a service what this would say.
    "prune": ("*", {"keep_latest": 0}, "prune {} --keep 0"),
    "terminate_agent": ("remote", {"grace": 2}, "agents {} terminate remote --grace 2"),
    "forget_steps": (
        "stepped",
        {"at": "second"},
        "forget-steps {} stepped --at second",
    ),
    "fork": ("stepped", {"at": "second"}, "fork {} stepped --at second"),
    "fork_many": ("second", {"ids": "step*"}, "fork-many {} second --ids step*"),
    "clear_memo": ("*", {"type": "call"}, "forget {} --type call"),
    "remove_schedule": ("daily", {}, "schedules {} remove daily"),
    "trigger_schedule": ("daily", {}, "schedules {} trigger daily"),
    "backfill_schedule": (
        "daily",
        {"since": "2026-01-01", "until": "2026-01-04", "again": True},
        "schedules {} backfill daily --since 2026-01-01 --until 2026-01-04 --again",
    ),
    "cancel_backfill": (
        *("filled", {"running": True}),
        "schedules {} cancel-backfill filled --running",
    ),
    "cancel_workflow": ("n2", {}, "runs {} cancel n2"),
    "restart_workflow": ("n3", {}, "runs {} restart n3"),
    "approve_workflow": ("n4", {"gate": "build"}, "approve {} n4/build --by ada"),
    "reject_workflow": ("n4", {"gate": "build"}, "reject {} n4/build --by ada"),
}
BY_NAME = {verb.operation: call for call, verb in VERBS.items()}
PREVIEWED = [call for call, verb in VERBS.items() if verb.preview]


def add(a, b):
    return a + b


def fail():
    msg = "no"
    raise ValueError(msg)


def in_steps():
    context = current_context()
    return context.step("first", add, 1, 2) + context.step("second", add, 3, 4)


def fill(orch):
    """Make one of each thing that a verb can be about; the id of a backfill."""
    orch.start()
    night = Workflow("night")
    first = night.task(add, 1, 2, id="first")
    night.task(add, first, 3, id="second", cache=Cache())
    orch.workflows.start(night, id="n1").result(PATIENCE)
    orch.submit_task(Task.call(in_steps, id="stepped")).result(PATIENCE)
    long = Workflow("long")
    long.add(Task.wait_for("never", id="held"))
    long.task(add, 1, 1, id="after", after=["held"])
    orch.workflows.start(long, id="n2")
    broken = Workflow("broken")
    broken.task(fail, id="bad")
    run = orch.workflows.start(broken, id="n3")
    gated = Workflow("gated")
    gated.phase("build", gate=Approval()).add(Task.call(add, 1, 1, id="made"))
    gated.phase("ship").add(Task.call(add, 1, 1, id="sent"))
    gated_run = orch.workflows.start(gated, id="n4")
    orch.submit_task(Task.wait_for("go", id="wait"))
    orch.submit_task(Task.call(add, 1, 2, id="behind", after=["wait"]))
    orch.submit_task(Task.question("go on?", id="ask"))
    orch.schedules.add("daily", "0 3 * * *", Task.wait_for("never"))
    made = orch.schedules.backfill("daily", "2026-01-01", "2026-01-04")
    eventually(lambda: run.handles["bad"].status.state == TaskState.FAILED)
    eventually(lambda: gated_run.handles["made"].status.state == TaskState.COMPLETED)
    eventually(lambda: len([*orch.tasks(id="daily/*", state="blocked")]) == 3)
    return made.backfill_id


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("previews") / "runs.db")
    with TaskOrchestrator(journal=path) as orch:
        orch.agents.template("tester", capabilities={"test": 2}, handler=add)
        orch.agents.spawn("tester", {"id": "remote"})
        filled = fill(orch)
        with orch.serve(port=0) as server, pytest.MonkeyPatch.context() as patch:
            patch.setenv("TASKORCH_TOKEN", server.token)
            client = Client(server.url, token=server.token)
            yield orch, client, server.url, filled


def picture(orch):
    """All that a verb could have changed."""
    return (
        {each.task_id: each.state for each in orch.tasks()},
        [(each.name, each.paused) for each in orch.schedules.list()],
        [(each.backfill_id, each.state) for each in orch.schedules.backfills()],
        [each.id for each in orch.agents.list()],
        [each.id for each in orch.questions()],
        len(orch.memo),
        orch.steps.of("stepped"),
    )


def asked(client, operation, subject, more):
    query = {"operation": operation, "subject": subject, **more}
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()}
    return client._ask("GET", "/previews", query=texts)


# -- that there is one -----------------------------------------------------------------


def test_each_verb_that_changes_something_says_beforehand_what_it_would_touch():
    """Or is listed, with the reason; and what cannot be undone always says it."""
    changing = {v.operation for v in VERBS.values() if v.request and v.changes}
    said = {VERBS[call].operation for call in PREVIEWED}
    assert changing - said == set(WITHOUT)
    assert not [v.operation for v in VERBS.values() if v.is_final and not v.preview]
    assert said == set(CASES)


def test_a_preview_is_told_what_its_verb_is_told_and_each_is_of_a_verb():
    for call in PREVIEWED:
        assert previewed(call), call
        own = signature(getattr(_foreseen, VERBS[call].preview)).parameters
        for each in previewed(call):
            assert each.is_needed or own[each.name].default == each.default, call
    previews = {
        name
        for name, value in vars(_foreseen).items()
        if isfunction(value) and signature(value).return_annotation == "Foreseen"
    }
    assert previews == {VERBS[call].preview for call in PREVIEWED}


# -- that it is the same everywhere ----------------------------------------------------


@pytest.mark.parametrize("operation", CASES)
def test_it_is_the_same_over_http_and_in_the_program_and_touches_nothing(
    world, operation
):
    orch, client, _, filled = world
    subject, more, _ = CASES[operation]
    subject = filled if subject == "filled" else subject
    about, *others = previewed(BY_NAME[operation])
    keys = {each.key: each.name for each in others}
    said = {keys[key]: value for key, value in more.items()}
    said |= {} if subject == "*" else {about.name: subject}
    before = picture(orch)
    expected = foreseen(orch, BY_NAME[operation], said).to_dict()
    assert asked(client, operation, subject, more) == expected
    assert picture(orch) == before
    assert expected["text"].endswith(".")
    assert "\n" not in expected["text"]


@pytest.mark.parametrize("operation", CASES)
def test_it_is_the_same_at_the_command_line(world, operation, capsys):
    orch, client, url, filled = world
    subject, more, command = CASES[operation]
    subject = filled if subject == "filled" else subject
    before = picture(orch)
    expected = asked(client, operation, subject, more)
    words = command.format(url).replace("filled", filled).split()
    assert main([*words, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    shared = {"text"} if operation == "prune" else {*expected}
    assert {name: document[name] for name in shared} == {
        name: expected[name] for name in shared
    }
    assert main([*words, "--dry-run"]) == 0
    assert expected["text"] in capsys.readouterr().out
    assert picture(orch) == before


@pytest.mark.parametrize(
    ("operation", "subject", "more", "message"),
    [
        ("stop", "x", {}, "operation: there are cancel_task"),
        ("cancel_task", "wait", {"since": "2026-01-01"}, "cancel_task does not take"),
        ("expire_tasks", "soon", {}, "older_than"),
        ("backfill_schedule", "daily", {}, "since: it is missing"),
        ("change_tasks", "paint", {}, "action"),
        ("cancel_backfill", "filled", {"running": "maybe"}, "running"),
        ("cancel_task", "", {}, "no task has the id ''"),
    ],
)
def test_what_cannot_be_is_refused(world, operation, subject, more, message):
    with pytest.raises(Exception, match=message) as caught:
        asked(world[1], operation, subject, more)
    status = getattr(caught.value, "status", 404)
    assert isinstance(caught.value, ServiceError) == (status == 400)


def test_commands_of_a_journal_say_it_too_and_leave_it_as_it_is(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path) as orch:
        orch.options(id="sum").submit(add, 1, 2).result(PATIENCE)
        orch.options(id="bad").submit(fail)
        eventually(lambda: orch.get_task_status("bad").state == TaskState.FAILED)
    kept = JournalReader(path)
    states = [(each.task_id, each.state) for each in kept.tasks()]
    assert main(["rerun", path, "*", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sum: Runs 1 task again.",
        "bad: Runs 1 task again.",
    ]
    assert main(["change", path, "rerun", "--state", "failed", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Runs 1 task again.", "  bad"]
    assert [(each.task_id, each.state) for each in kept.tasks()] == states


# -- that it is true -------------------------------------------------------------------


@pytest.mark.parametrize(
    "action", ["cancel", "suspend", "resume", "rerun", "set_priority"]
)
@pytest.mark.parametrize("ids", ["*", "w*", "n?/*"])
def test_a_change_of_many_tasks_changes_those_foreseen(action, ids):
    with TaskOrchestrator() as orch:
        fill(orch)
        orch.suspend_task("wait")
        said = {"action": action, "ids": ids}
        before = foreseen(orch, "change_tasks", said)
        more = {"priority": 3} if action == "set_priority" else {}
        changed = orch.change_tasks(**said, **more)
        new = [each for each in changed if each not in before.task_ids]
        # A run again has a new id; what is blocked by another task is not suspended.
        assert not new or action == "rerun"
        if action in ("cancel", "rerun", "set_priority", "resume"):
            assert len(changed) == len(before.task_ids)
        assert before.does_something == bool(before.task_ids)


def test_an_expiry_fails_those_foreseen_and_a_memo_forgets_as_many():
    with TaskOrchestrator(concurrency=1) as orch:
        orch.hold_starts("not yet")
        for number in range(3):
            orch.options(id=f"t{number}").submit(add, 1, number)
        said = {"older_than": 0.001}
        eventually(lambda: len(foreseen(orch, "expire_tasks", said).task_ids) == 3)
        assert not foreseen(orch, "expire_tasks", {"older_than": 3600}).does_something
        expected = foreseen(orch, "expire_tasks", said)
        assert orch.expire_tasks(0.001) == [*expected.task_ids]
        orch.release_starts()
        for number in range(2):
            task = Task.call(add, 1, number, cache=Cache(), id=f"c{number}")
            orch.submit_task(task).result(PATIENCE)
        assert foreseen(orch, "memo.clear", {"task": "c1"}).text == "Forgets 1 result."
        assert foreseen(orch, "memo.clear", {}).text == "Forgets 2 results."
        assert orch.memo.clear(task="c1") == 1
        assert orch.memo.clear() == 1
        assert not foreseen(orch, "memo.clear", {}).does_something


def test_what_has_been_decided_is_not_decided_again():
    with TaskOrchestrator() as orch:
        fill(orch)
        assert foreseen(orch, "answer", {"task_id": "ask"}).task_ids == ("ask",)
        gate = {"run_id": "n4", "gate": "build"}
        assert "2 tasks wait" in foreseen(orch, "workflows.approve", gate).text
        orch.answer("ask", "approve", by="ada")
        orch.workflows.approve("n4", "build", by="ada")
        assert not foreseen(orch, "answer", {"task_id": "ask"}).does_something
        assert not foreseen(orch, "workflows.reject", gate).does_something
        assert not foreseen(orch, "decide", {"task_id": "n1/first"}).does_something
        local = foreseen(orch, "agents.terminate", {"agent_id": "local"})
        assert not local.does_something
