"""A definition has versions: each kind of change, with each act on a failed night."""

from __future__ import annotations

import shutil
from functools import cache
from itertools import cycle
from pathlib import Path

import pytest
from tests.api.deploys import (
    DAY,
    KINDS,
    PATIENCE,
    PROGRAM,
    RUN,
    incarnation,
)

from taskorch import Workflow
from taskorch.api.verbs.table import foreseen
from taskorch.errors import DuplicateTaskError, InvalidTaskError
from taskorch.ext.client import Client

pytest.importorskip("cronsim")


def restart(orch):
    orch.workflows.restart(RUN)


def rerun(orch):
    names = {*orch.workflows.get(RUN).handles}
    orch.rerun_task(f"{RUN}/{'load' if 'load' in names else 'report'}")


def again(orch):
    orch.schedules.backfill("night", *DAY, again=True)


def change(orch):
    orch.change_tasks("rerun", ids=f"{RUN}/*", state="failed")


def http(orch):
    pytest.importorskip("starlette")
    with orch.serve(port=0) as server:
        Client(server.url, token=server.token).restart_workflow(RUN)
        assert orch.wait(PATIENCE)


#: Kinds after which the task that failed is there no more.
GONE = {"a failed step that was removed", "a step that was renamed", "a phase before"}
ACTS = {
    "restart": restart,
    "rerun": rerun,
    "backfill again": again,
    "change": change,
    "HTTP": http,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A folder in which the program of before has made a night, which failed."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOYED_BROKEN", "1")
        with incarnation(folder, PROGRAM) as (orch, _):
            orch.schedules.backfill("night", *DAY)
            assert orch.wait(PATIENCE)
            assert orch.workflows.status(RUN).state.value == "failed"
    return folder


@pytest.fixture
def failed_night(night, tmp_path):
    """A folder with the journal of that night, for one test."""
    return shutil.copytree(night, tmp_path, dirs_exist_ok=True)


@cache
def new_run(program):
    """What a run gives that begins now."""
    with incarnation(Path(), program, journal=None) as (orch, _):
        orch.schedules.backfill("night", *DAY)
        assert orch.wait(PATIENCE)
        return orch.workflows.get(RUN).result(PATIENCE)


def pairs(kinds, acts, always):
    """Each kind with the act *always* and one of the others; at length, with all."""
    others = cycle([act for act in acts if act != always])
    return [
        pytest.param(
            kind,
            act,
            marks=()
            if act in (always, other)
            else pytest.mark.slow("all acts after each change"),
        )
        for kind, other in zip(kinds, others, strict=False)
        for act in acts
    ]


@pytest.mark.parametrize(("kind", "act"), pairs(KINDS, ACTS, "restart"))
def test_an_act_on_a_failed_night_gives_what_a_new_run_gives(kind, act, failed_night):
    change = KINDS[kind]
    expected = new_run(change.program())
    with incarnation(failed_night, change.program()) as (orch, module):
        if act == "rerun" and kind in GONE:
            with pytest.raises(InvalidTaskError, match="not deployed any more"):
                ACTS[act](orch)
            return
        if act == "backfill again":
            touched = foreseen(
                orch,
                "schedules.backfill",
                {"name": "night", "since": DAY[0], "until": DAY[1], "again": True},
            )
        else:
            touched = foreseen(orch, "workflows.restart", {"run_id": RUN})
        assert change.says in touched.text
        ACTS[act](orch)
        assert orch.wait(PATIENCE)
        run = orch.workflows.get(RUN)
        assert run.result(PATIENCE) == expected
        assert run.status().state.value == "completed"
        if act == "restart":
            assert {*module.CALLS} == change.calls


# -- what is no graph of a schedule ----------------------------------------------------

FLOW = """
import os
from taskorch import Task, task, workflow, current_context

@task
def extract(day):
    return [day, FACTOR]

FACTOR = 1

@task
def load(rows):
    if os.environ.get("DEPLOYED_BROKEN"):
        raise ValueError("it fails tonight")
    return rows

@workflow
def flow(day: str, more: int = 1):
    load.options(id="load")(extract(day))

def plain(value):
    if os.environ.get("DEPLOYED_BROKEN"):
        raise ValueError("it fails tonight")
    return [value, (current_context().parameters or {}).get("more")]

def declare(orch):
    orch.schedules.add("plain", "0 3 * * *", Task.call(plain, 1), parameters={"more": 1})
"""
TASK = "plain/2026-11-24T0300Z"
BULK = {
    "rerun": lambda orch: orch.rerun_task(TASK),
    "again": lambda orch: orch.schedules.backfill("plain", *DAY, again=True),
    "change": lambda orch: orch.change_tasks("rerun", ids="plain/*"),
}
OF_TASK = {
    "argument": ("plain, 1)", "plain, 7)", [7, 1], "args"),
    "parameters": ('{"more": 1}', '{"more": 9}', [1, 9], "parameters: more 1 → 9"),
    "timeout": ("plain, 1)", "plain, 1, timeout=70)", [1, 1], "timeout None → 70"),
    "code": ("return [value,", "return [-value,", [-1, 1], ""),
}


@pytest.mark.parametrize(("kind", "act"), pairs(OF_TASK, BULK, "rerun"))
def test_a_task_of_a_schedule_is_run_as_it_is_deployed(
    kind, act, tmp_path, monkeypatch
):
    old, new, expected, says = OF_TASK[kind]
    monkeypatch.setenv("DEPLOYED_BROKEN", "1")
    with incarnation(tmp_path, FLOW) as (orch, _):
        orch.schedules.backfill("plain", *DAY)
        assert orch.wait(PATIENCE)
    monkeypatch.delenv("DEPLOYED_BROKEN")
    assert old in FLOW
    with incarnation(tmp_path, FLOW.replace(old, new)) as (orch, _):
        assert says in foreseen(orch, "rerun_task", {"task_id": TASK}).text
        BULK[act](orch)
        assert orch.wait(PATIENCE)
        assert orch.handle(TASK).result(PATIENCE) == expected
        if kind == "timeout":
            assert orch.handle(TASK).task_id.endswith("~2")
        assert not orch.workflows._reruns.move(TASK, None)


def test_what_was_given_to_one_run_stays_its_own(tmp_path):
    with incarnation(tmp_path, FLOW) as (orch, _):
        task_id = orch.schedules.trigger("plain", {"more": 5})
        assert orch.handle(task_id).result(PATIENCE) == [1, 5]
        other_id = orch.schedules.trigger("plain", {"rest": 6})
        assert orch.handle(other_id).result(PATIENCE) == [1, 1]
    program = FLOW.replace("plain, 1)", "plain, 2)").replace(
        '{"more": 1}', '{"more": 3}'
    )
    with incarnation(tmp_path, program) as (orch, _):
        assert orch.rerun_task(task_id).result(PATIENCE) == [2, 5]
        # What the schedule says is today's, for what was given besides, too.
        again = orch.rerun_task(other_id)
        assert again.result(PATIENCE) == [2, 3]
        metadata = orch.get_task_status(again.task_id).metadata
        assert metadata["taskorch.parameters"] == {"more": 3, "rest": 6}


def test_a_run_of_a_workflow_function_goes_over_too(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPLOYED_BROKEN", "1")
    with incarnation(tmp_path, FLOW) as (orch, module):
        orch.workflows.start(module.flow, "f", parameters={"day": "monday"})
        assert orch.wait(PATIENCE)
    monkeypatch.delenv("DEPLOYED_BROKEN")
    new = FLOW.replace("FACTOR = 1", "FACTOR = 3")
    new = new.replace("(extract(day))", '(extract(day))\n    late("late")')
    new = new.replace(
        "@workflow", "@task\ndef late(day):\n    return [day, 3]\n@workflow"
    )
    with incarnation(tmp_path, new) as (orch, _):
        text = foreseen(orch, "workflows.restart", {"run_id": "f"}).text
        assert "+ late; extract: other code" in text
        assert orch.workflows.restart("f").result(PATIENCE) == {
            "extract": ["monday", 3],
            "load": ["monday", 3],
            "late": ["late", 3],
        }
        begun, deployed = orch.workflows.versions("f")
        assert (begun.how, deployed.how) == ("begun", "as_deployed")
        # It is of the code alone, so a run may go over to another graph with the same.
        assert str(begun) == f"begun (code {begun.digest})"


def graph(module, *, late):
    wf = Workflow("g")
    wf.task(module.extract, "tuesday", id="extract")
    if late:
        wf.task(module.extract, "late", id="late")
    return wf


def test_a_workflow_in_hand_is_refused_unless_the_run_goes_over_to_it(tmp_path):
    with incarnation(tmp_path, FLOW) as (orch, module):
        orch.workflows.start(graph(module, late=True), "g").result(PATIENCE)
    with incarnation(tmp_path, FLOW) as (orch, module):
        wf = graph(module, late=False)
        with pytest.raises(DuplicateTaskError, match="another workflow"):
            orch.workflows.start(wf, "g")
        with pytest.raises(InvalidTaskError, match="nobody has said"):
            orch.workflows.restart("g", definition="as_deployed")
        text = foreseen(orch, "workflows.restart", {"run_id": "g"}).text
        run = orch.workflows.start(wf, "g", definition="as_deployed")
        assert run.result(PATIENCE) == {"extract": ["tuesday", 1]}
        # From now on this is what the run is.
        assert orch.workflows.start(wf, "g").result(PATIENCE) == run.result(PATIENCE)
        assert text == "Nothing of it failed or was cancelled."


# -- the other choice, and what is refused ---------------------------------------------


#: What the program of before gives.
OLD = {
    "extract": [1, 2],
    "audit": "audited",
    "load": [1, 2],
    "report": {"sum": [1, 2], "times": 1},
}


def test_one_task_alone_is_refused_if_more_has_changed(failed_night):
    task_id = f"{RUN}/load"
    with incarnation(failed_night, KINDS["an added step"].program()) as (orch, _):
        with pytest.raises(InvalidTaskError, match=r"changes more than .*\+ clean"):
            orch.rerun_task(task_id, downstream=False)
        with pytest.raises(InvalidTaskError, match="as_deployed"):
            orch.rerun_task(task_id, definition="today")
        assert orch.handle(task_id).task_id == task_id
    with incarnation(failed_night, KINDS["a raised timeout"].program()) as (orch, _):
        orch.rerun_task(task_id, downstream=False).result(PATIENCE)


def test_a_task_that_is_gone_stays_so_until_somebody_wants_it_as_it_was(failed_night):
    task_id = f"{RUN}/report"
    for _ in range(2):
        with incarnation(failed_night, KINDS["a step that was removed"].program()) as (
            orch,
            _,
        ):
            again(orch)
            assert orch.wait(PATIENCE)
            assert {*orch.workflows.get(RUN).handles} == {"audit", "extract", "load"}
            assert orch.change_tasks("rerun", ids=task_id + "*") == []
            text = foreseen(orch, "rerun_task", {"task_id": task_id}).text
            assert text.startswith("It is not deployed any more")
            with pytest.raises(InvalidTaskError, match="not deployed any more"):
                orch.rerun_task(task_id)
            assert {*orch.workflows.get(RUN).result()} == {"audit", "extract", "load"}
            assert not orch.failures()
    with incarnation(failed_night, PROGRAM) as (orch, _):
        assert "+ report" in foreseen(orch, "workflows.restart", {"run_id": RUN}).text
        assert orch.workflows.restart(RUN).result(PATIENCE) == OLD


# -- a later incarnation ---------------------------------------------------------------


def test_a_run_under_way_goes_on_with_its_graph_and_says_what_code_is_other(
    failed_night, caplog
):
    kind = KINDS["an added step"]
    program = kind.program().replace("return [1, 2]", "return [3, 4]")
    program = program.replace("each * times", "-each * times")
    with incarnation(failed_night, program) as (orch, _):
        # Nobody asks for anything: `report` waits for `load` as before.
        assert {*orch.workflows.get(RUN).handles} == {
            "audit",
            "extract",
            "load",
            "report",
        }
    changed = program.replace('"sum": rows', '"sum": [*rows]')
    with incarnation(failed_night, changed) as (orch, _):
        hows = [each.how for each in orch.workflows.versions(RUN)]
        assert hows == ["begun", "went on"]
        assert "other code of deployed_app.report" in caplog.text
        # What completed under the first code is of that still.
        text = foreseen(orch, "workflows.restart", {"run_id": RUN}).text
        assert "extract: other code" in text
        assert orch.workflows.restart(RUN).result(PATIENCE) == {
            "extract": [3, 4],
            "audit": "audited",
            "clean": [300, 400],
            "load": [-300, -400],
            "report": {"sum": [-300, -400], "times": 1},
        }
