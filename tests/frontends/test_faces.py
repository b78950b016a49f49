"""A number is the same wherever it is read: on the page, in `top`, by commands, by models."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("mcp")
pytest.importorskip("cronsim")

from mcp import types
from tests.cli.tools import taskorch, told
from tests.frontends.mcp.tools import beside, call, run
from tests.frontends.service.tools import Service, recorded
from tests.integration.tools import PATIENCE, eventually

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.frontends.mcp import OrchestratorPlace
from taskorch.reading import JournalReader

RUN = "night-1"
#: What the world below comes to: its failed runs that nothing has mended, by error.
FAILED = {"ValueError": 2, "KeyError": 2, "LookupError": 1, "DependencyFailedError": 2}
#: The states of the latest runs of the tasks of `RUN`.
STATES = {"completed": 2, "failed": 3, "blocked": 1}


def well(*_):
    return 1


def ill_once():
    if "~" not in current_context().task_id:
        raise OSError("the disk is full")


def ill(row=7):
    raise ValueError(f"row {row} has no price")


def sick():
    raise KeyError("page")


def lost():
    raise LookupError("no such table")


def settle(orch):
    orch.wait(PATIENCE)


def make(orch):
    """Failures of which one is mended, one is allowed, and one came twice."""
    flow = Workflow("night")
    once = flow.task(ill_once, id="once")
    flow.task(well, once, id="load")
    bad = flow.task(ill, id="bad")
    flow.task(well, bad, id="waits")
    flow.task(well, bad, id="with", on_parent_failure="fail")
    flow.task(ill, id="may", allow_failure=True)
    orch.workflows.start(flow, id=RUN)
    settle(orch)
    for name in ("once", "bad"):
        orch.rerun_task(f"{RUN}/{name}")
        settle(orch)
    now = datetime.now(UTC)
    for name, work in (("nightly", sick), ("old", well)):
        orch.schedules.add(name, "0 3 * * *", work)
        orch.schedules.backfill(name, now - timedelta(days=2), now, limit=9)
        eventually(lambda: all(e.state == "done" for e in orch.schedules.backfills()))
        settle(orch)
    # Its runs are still shown, and it is no schedule any more.
    orch.schedules.remove("old")
    orch.submit_task(Task.call(lost, id="alone"))
    orch.submit_task(Task.question("Load it?", id="sign-off"))
    eventually(lambda: orch.get_task_status("alone").is_terminal and orch.questions())


def of_models(place):
    """What tools and resources say."""

    async def story():
        async with beside(place) as client:
            troubles = await call(client, "why")
            # A journal takes no answers, so that it has no such tool.
            stuck = [each for each in troubles["stuck"] if each["kind"] == "event"]
            asked = stuck
            if not isinstance(place, JournalReader):
                asked = (await call(client, "questions"))["questions"]
                assert len(stuck) == len(asked)
            answer = await client.read_resource(f"taskorch://run/{RUN}")
            (page,) = answer.contents
            assert isinstance(page, types.TextResourceContents)
            whole = await call(client, "why", task=RUN)
            return troubles, asked, json.loads(page.text), whole

    troubles, asked, page, whole = run(story())
    causes = Counter()
    for each in troubles["failures"]:
        causes[each["error_type"]] += each["count"]
    assert whole["counts"] == page["counts"]
    return {
        "failed": causes,
        "questions": len(asked),
        "states": page["counts"],
    }


def of_page(service):
    """What the dashboard asks for."""
    eventually(lambda: not service.get("/api/v1/nights")["is_reading"])
    nights, board = service.get("/api/v1/nights"), service.get("/api/v1/board")
    causes = Counter()
    for each in service.get("/api/v1/failures")["failures"]:
        causes[each["error_type"]] += each["count"]
    failed = service.get("/api/v1/tasks?state=failed&mended=false")["tasks"]
    assert nights["broken"]["count"] == board["broken"] == len(failed)
    assert Counter(each["error"]["type"] for each in failed) == causes
    own = Counter()
    for each in nights["broken"]["causes"]:
        own[each["error_type"]] += each["count"]
    assert own == {
        k: many for k, many in causes.items() if k != "DependencyFailedError"
    }
    (line,) = (e for e in service.get("/api/v1/runs")["runs"] if e["id"] == RUN)
    whole = service.get(f"/api/v1/runs/{RUN}")
    assert whole["run"] == {**line, "seconds": whole["run"]["seconds"]}
    assert line["completed"] == whole["states"]["completed"]
    assert line["total"] == sum(whole["states"].values())
    assert line["failed"] + line["allowed"] == whole["states"]["failed"]
    for each in whole["tasks"]:
        task = service.get(f"/api/v1/tasks/{each['id'].replace('/', '%2F')}")
        assert (each["state"], each["seconds"]) == (task["state"], task["duration"])
    assert nights["questions"]["count"] == len(
        service.get("/api/v1/questions")["questions"]
    )
    return {
        "failed": causes,
        "questions": nights["questions"]["count"],
        "states": whole["states"],
    }, nights


def of_commands(place, capsys):
    """What commands say, to people and to programs."""

    def asked(*words):
        code, out, err = taskorch(capsys, *words)
        assert code == 0, err
        return out

    (nights,) = told(asked("top", place, "--once", "--json"))
    text = asked("top", place, "--once")
    count = sum(FAILED.values())
    assert f"{count} tasks failed and are not mended" in text
    assert nights["broken"]["count"] == count
    schedules = told(asked("schedules", place, "--json"))
    assert f"The latest run of 0 of {len(schedules)} schedule completed." in text
    failing = {e["name"]: e["failing"] for e in nights["schedules"] if not e["removed"]}
    assert {each["name"]: each["failing"] for each in schedules} == failing
    assert "(2 in a row)" in failing["nightly"]
    # What is not listed by its cause is counted below that.
    assert f"and {FAILED['DependencyFailedError']} more failures\n" in text
    listed = told(asked("inspect", place, "--state", "failed", "--no-mended", "--json"))
    assert f"Failed, and not mended since, {count}" in asked("inspect", place)
    (line,) = (e for e in told(asked("runs", place, "--json")) if e["id"] == RUN)
    (whole,) = told(asked("runs", place, "show", RUN, "--json"))
    assert whole["run"] == {**line, "seconds": whole["run"]["seconds"]}
    (explained,) = told(asked("explain", place, RUN, "--json"))
    assert explained["counts"] == whole["states"]
    for each in whole["tasks"]:
        (task,) = told(asked("inspect", place, each["id"], "--json"))
        assert (each["state"], each["seconds"]) == (task["state"], task["duration"])
    return {
        "failed": Counter(each["error"]["type"] for each in listed),
        "questions": nights["questions"]["count"],
        "states": whole["states"],
    }, nights


#: What the first view says that is not of the moment.
STEADY = ("verdict", "broken", "questions")


@contextmanager
def served(work=None, **options):
    """The service of an orchestrator, the place of its commands, and of its tools."""
    with TaskOrchestrator(rerun_failed=False, **options) as orch:
        if work is not None:
            work(orch)
        with orch.serve(port=0) as server:
            service = Service(orch, server, server.token)
            yield service, server.url, OrchestratorPlace(orch)
        orch.stop(drain=False)


@contextmanager
def faces(path, when):
    """The same, in the life that did the work, in the next, and when nobody lives."""
    # What has ended long ago has left memory.
    kept = {"memory": {}, "now": {"journal": path}}.get(
        when, {"journal": path, "keep_finished": 1}
    )
    if when in ("memory", "now"):
        with served(make, **kept) as places:
            yield places
        return
    with served(make, **kept):
        pass
    if when == "later":
        with served(**kept) as places:
            yield places
        return
    with recorded(path) as service:
        yield service, path, JournalReader(path)


@pytest.mark.parametrize("when", ["memory", "now", "later", "nobody"])
def test_all_faces_say_the_same_numbers(when, tmp_path, capsys, monkeypatch):
    want = {"failed": FAILED, "questions": 1, "states": STATES}
    with faces(tmp_path / "runs.db", when) as (service, place, tools):
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        page, shown = of_page(service)
        commands, printed = of_commands(place, capsys)
        assert page == want
        assert commands == want
        assert of_models(tools) == want
        for name in STEADY:
            assert shown[name] == printed[name], name
