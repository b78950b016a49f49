"""`orch.compare` and `taskorch diff`: in what two runs differ, through all faces."""

import importlib
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from threading import Event
from time import sleep
from types import SimpleNamespace

import pytest
from tests.api.tools import PATIENCE, pass_time

from taskorch import (
    Task,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
    task,
    workflow,
)
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.large_values import LargeValues

GO = Event()
#: The one that runs.
ORCH = []


@task
def extract(rows):
    return [*range(rows)]


#: What is found, on any day.
FOUND = []


@task
def find():
    return [*FOUND]


def find_none():
    assert FOUND
    return 1


@task
def load(rows, batch=10):
    # A second each, by its clock: more than anything here takes on a busy machine.
    pass_time(ORCH[-1], len(rows))
    return len(rows)


@task
def check(count):
    if count > 50:
        raise ValueError("too many rows")


@workflow
def night(day="monday", rows=2, batch=10):
    load(extract(rows), batch=batch)


@workflow
def checked(rows=2):
    check(load(extract(rows)))


@task
def hold():
    assert GO.wait(PATIENCE)


@workflow
def held():
    hold()
    extract(1)


def ignore(value):
    """Take anything."""


def pause(seconds, number):
    sleep(seconds)


def run(orch, flow, run_id):
    ORCH[:] = [orch]
    made = orch.workflows.start(flow, id=run_id)
    with suppress(WorkflowFailedError):
        made.result(PATIENCE)


def test_of_a_failure_that_is_new_the_first_is_named_first():
    with TaskOrchestrator() as orch:
        run(orch, checked(), "monday")
        run(orch, checked(rows=60), "tuesday")
        comparison = orch.compare("monday", "tuesday")
    first = comparison.differences[0]
    assert first.kind == "failed"
    assert first.task == "check"
    assert "ValueError: too many rows (it completed before)" in first.text
    assert str(comparison).startswith("tuesday failed after ")


def test_what_failed_since_another_did_is_no_difference_of_its_own():
    flow = Workflow("flow")
    flow.task(check, 1, id="checked")
    flow.task(len, "abc", id="after", after=["checked"], on_parent_failure="fail")
    broken = Workflow("flow")
    broken.task(check, 99, id="checked")
    broken.task(len, "abc", id="after", after=["checked"], on_parent_failure="fail")
    with TaskOrchestrator() as orch:
        run(orch, flow, "monday")
        run(orch, broken, "tuesday")
        differences = orch.compare("monday", "tuesday").differences
    assert [each.task for each in differences if each.kind == "failed"] == ["checked"]


@pytest.mark.parametrize("journal", [None, "runs.db"])
def test_code_that_was_deployed_between_them_is_named(monkeypatch, tmp_path, journal):
    path = None if journal is None else str(tmp_path / journal)
    with TaskOrchestrator(journal=path) as orch:
        run(orch, night(), "monday")

        def slower(rows, batch=10):
            pass_time(orch, 400)
            return len(rows)

        slower.__name__, slower.__qualname__ = "load", "load"
        slower.__module__ = __name__
        monkeypatch.setitem(globals(), "load", task(slower))
        run(orch, night(), "tuesday")
        comparison = orch.compare("monday", "tuesday")
    first = comparison.differences[0]
    assert (first.task, first.kind) == ("load", "changed")
    assert "other code of" in first.text
    assert first.seconds == pytest.approx(comparison.seconds, rel=0.5)


def test_code_is_compared_by_who_cannot_import_it(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = str(tmp_path / "runs.db")
    for run_id, value in (("monday", 1), ("tuesday", 2)):
        text = f"def found():\n    return {value}\n"
        (tmp_path / "jobs_of_nights.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        found = importlib.import_module("jobs_of_nights").found
        with TaskOrchestrator(journal=path) as orch:
            flow = Workflow("flow")
            flow.task(found, id="find")
            run(orch, flow, run_id)
        del sys.modules["jobs_of_nights"]
    (tmp_path / "jobs_of_nights.py").unlink()
    importlib.invalidate_caches()
    with TaskOrchestrator(journal=path) as orch:
        comparison = orch.compare("monday", "tuesday")
    (first,) = [each for each in comparison.differences if each.causes]
    assert (first.task, first.causes) == ("find", ("code",))
    assert "other code of jobs_of_nights.found" in first.text
    assert not any("code" in each for each in comparison.unknown)


class Hostile:
    """A value that refuses all that is asked of it."""

    def __eq__(self, other):
        raise ValueError("no")

    __hash__ = None

    def __repr__(self):
        raise ValueError("no")


class HostileDict(dict):
    def keys(self):
        raise ValueError("no")

    def __eq__(self, other):
        raise ValueError("no")

    __hash__ = None


@pytest.mark.parametrize("number", range(7))
def test_hostile_arguments_are_compared_or_said_to_be_unknown(number):
    one, other = (
        ("\ud800", "\udfff"),
        (10**400, 10**401),
        (float("nan"), float("inf")),
        (Hostile(), Hostile()),
        (HostileDict(a=1), HostileDict(b=2)),
        ([Hostile()], [Hostile()]),
        ({"a": Hostile()}, {"a": 1}),
    )[number]
    with TaskOrchestrator() as orch:
        for task_id, value in (("one", one), ("two", other)):
            orch.options(id=task_id).submit(ignore, value).result(PATIENCE)
        comparison = orch.compare("one", "two")
    json.dumps(comparison.to_dict())
    str(comparison).encode()


def test_tasks_on_their_own_are_compared():
    with TaskOrchestrator() as orch:
        for task_id, rows in (("one", 1), ("two", 40)):
            orch.options(id=task_id).submit(len, [*range(rows)]).result(PATIENCE)
        comparison = orch.compare("one", "two")
    # One may have taken longer as well.
    (changed,) = (each for each in comparison.differences if each.kind == "changed")
    assert "args[0]" in changed.text


def test_a_wait_for_something_else_is_told_by_its_part():
    with TaskOrchestrator() as orch:
        for task_id, name in (("one", "go"), ("two", "went")):
            orch.emit(name)
            orch.submit_task(Task.wait_for(name, id=task_id)).result(PATIENCE)
        comparison = orch.compare("one", "two")
    # One may have taken longer as well.
    assert "event 'go' → 'went'" in [each.text for each in comparison.differences]


def test_a_run_and_a_task_have_nothing_in_common():
    with TaskOrchestrator() as orch:
        run(orch, night(), "monday")
        orch.options(id="alone").submit(sleep, 0.1).result(PATIENCE)
        comparisons = [
            orch.compare(*each) for each in (("monday", "alone"), ("alone", "monday"))
        ]
    for comparison in comparisons:
        assert any("in common" in each for each in comparison.unknown)
        for each in comparison.differences:
            assert each.task or each.kind == "parameters"


def test_a_run_that_goes_on_has_no_difference_of_times():
    GO.set()
    with TaskOrchestrator() as orch:
        run(orch, held(), "monday")
        GO.clear()
        going = orch.workflows.start(held(), id="tuesday")
        going.handles["extract"].result(PATIENCE)
        comparison = orch.compare("monday", "tuesday")
        GO.set()
        going.result(PATIENCE)
    assert comparison.seconds is None
    assert "has not ended" in comparison.unknown[0]


def test_a_machine_that_was_moved_to_between_them_is_named(tmp_path, monkeypatch):
    path = str(tmp_path / "runs.db")
    for run_id, host in (("monday", "old1"), ("tuesday", "new7")):
        here = SimpleNamespace(nodename=host, machine="x86_64")
        monkeypatch.setattr(os, "uname", lambda here=here: here)
        with TaskOrchestrator(journal=path) as orch:
            run(orch, night(), run_id)
    with TaskOrchestrator(journal=path) as orch:
        comparison = orch.compare("monday", "tuesday")
        (first,) = [each for each in comparison.differences if each.causes]
    assert first.causes == ("machine",)
    assert "ran on the machine new7, not used before (all 2 tasks)" in first.text


def test_a_task_that_was_run_again_later_waited_for_nobody_else():
    with TaskOrchestrator() as orch:
        for run_id in ("monday", "tuesday"):
            run(orch, night(), run_id)
        pass_time(orch, 300)
        orch.rerun_task("tuesday/load").result(PATIENCE)
        differences = orch.compare("monday", "tuesday").differences
        back = orch.compare("tuesday", "monday").differences
    (first,) = differences
    assert (first.task, first.kind) == ("load", "waited")
    assert first.text.startswith("was run again; waited ")
    assert first.seconds >= 300
    assert [(each.task, each.kind) for each in back] == [("load", "waited")]


def test_a_hold_that_nothing_waited_for_is_not_blamed(tmp_path):
    flow = Workflow("flow")
    flow.task(find_none, id="found", after=[flow.task(extract, 1)])
    with TaskOrchestrator(journal=str(tmp_path / "runs.db")) as orch:
        run(orch, flow, "monday")
        orch.hold_starts("lunch")
        pass_time(orch, 1)
        orch.release_starts()
        pass_time(orch, 300)
        FOUND[:] = [1]
        try:
            orch.workflows.restart("monday").result(PATIENCE)
            run(orch, flow, "tuesday")
        finally:
            FOUND.clear()
        (only,) = orch.compare("tuesday", "monday").differences
    assert (only.task, only.kind) == ("found", "waited")
    assert only.text.startswith("was run again; waited ")


def test_a_wait_for_an_event_is_named_and_no_turns_of_others():
    flow = Workflow("flow")
    first = flow.task(extract, 1, id="first")
    gone = flow.wait_for("go", timeout=9_000)
    flow.task(extract, 1, id="last", after=[first, gone])
    with TaskOrchestrator() as orch:
        for run_id, seconds in (("monday", 0), ("tuesday", 300)):
            made = orch.workflows.start(flow, id=run_id)
            made.handles["first"].result(PATIENCE)
            pass_time(orch, seconds)
            orch.emit("go", 1)
            made.result(PATIENCE)
        there, back = (
            orch.compare("monday", "tuesday"),
            orch.compare("tuesday", "monday"),
        )
    for comparison, word in ((there, "longer"), (back, "less")):
        (only,) = comparison.differences
        assert (only.task, only.kind) == ("wait", "waited")
        assert only.text.endswith(f" {word} for the event go")
        assert abs(only.seconds) == pytest.approx(300, abs=30)
        assert not any("code" in each for each in comparison.unknown)


def test_a_map_of_a_function_that_is_missing_is_the_same_map(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = tmp_path / "maps_of_nights.py"
    module.write_text("def twice(number):\n    return 2 * number\n", encoding="utf-8")
    importlib.invalidate_caches()
    path = str(tmp_path / "runs.db")
    flow = Workflow("flow")
    flow.map(importlib.import_module("maps_of_nights").twice, [1, 2], id="doubled")
    with TaskOrchestrator(journal=path) as orch:
        for run_id in ("monday", "tuesday"):
            run(orch, flow, run_id)
    del sys.modules["maps_of_nights"]
    module.unlink()
    importlib.invalidate_caches()
    with TaskOrchestrator(journal=path) as orch:
        comparison = orch.compare("monday", "tuesday")
    assert not any(each.causes for each in comparison.differences)


def test_a_disk_that_fills_up_is_no_cause(tmp_path):
    path = str(tmp_path / "runs.db")
    flow = Workflow("flow")
    for n in range(4):
        flow.task(sleep, 0.2, id=f"part-{n}")
    for run_id, free, slots in (("monday", 9_000, 4), ("tuesday", 5_000, 1)):
        with TaskOrchestrator(
            journal=path, concurrency=slots, resources={"cpu": 4, "disk_mb": free}
        ) as orch:
            run(orch, flow, run_id)
            comparison = orch.compare("monday", run_id)
    first = comparison.differences[0]
    assert (first.kind, first.text.split(";")[0]) == ("workers", "1 slot, 4 before")
    assert "disk_mb" not in str(comparison)


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (5, 10**400, "5 → an integer of about 400 digits"),
        (0, 60, "0 → 60"),
        (5.0, float("inf"), "5.0 → inf"),
        (float("inf"), 5, "inf → 5"),
        (5e-324, 1e300, "5e-324 → 1e+300"),
        (float("nan"), float("nan"), None),
        (True, False, None),
    ],
    ids=range(7),
)
def test_each_number_that_changed_is_told_however_large(was, now, told):
    with TaskOrchestrator() as orch:
        for run_id, number, seconds in (("monday", was, 0.01), ("tuesday", now, 0.4)):
            flow = Workflow("flow")
            flow.task(pause, seconds, number, id="load", metadata={"rows": number})
            run(orch, flow, run_id)
        text = orch.compare("monday", "tuesday").differences[0].text
    if told is None:
        assert "rows" not in text
        return
    assert f"rows {told}" in text
    assert f"args[1] {told}" in text


def test_more_data_are_named_with_what_they_come_from():
    with TaskOrchestrator() as orch:
        run(orch, night(), "monday")
        run(orch, night(rows=60), "tuesday")
        first = orch.compare("monday", "tuesday").differences[0]
    assert (first.task, first.causes[0]) == ("load", "data")
    assert "the result of extract 2 items → 60 items" in first.text
    assert "rows 2 → 60" in first.text


def test_of_a_run_that_left_memory_it_is_said_what_is_not_known():
    with TaskOrchestrator(keep_finished=1) as orch:
        run(orch, night(), "monday")
        run(orch, night(rows=60), "tuesday")
        comparison = orch.compare("monday", "tuesday")
    assert comparison.seconds is None
    assert any("how long monday took" in each for each in comparison.unknown)
    assert comparison.differences == ()


def test_a_run_that_left_memory_is_compared_from_the_journal(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db", keep_finished=1) as orch:
        run(orch, night(), "monday")
        run(orch, night(rows=60), "tuesday")
        comparison = orch.compare("monday", "tuesday")
    assert comparison.differences[0].causes[0] == "data"
    assert comparison.seconds is not None
    assert comparison.unknown == ()


def test_a_run_whose_graph_changed_is_compared_as_far_as_it_is_the_same():
    before, now = Workflow("flow"), Workflow("flow")
    for flow, name in ((before, "old"), (now, "new")):
        flow.task(sleep, 0.2 if flow is now else 0.01, id="load")
        flow.task(sleep, 0.2, id=name, after=["load"])
    now.task(len, "abc", id="report", after=["new"])
    with TaskOrchestrator() as orch:
        run(orch, before, "monday")
        run(orch, now, "tuesday")
        differences = orch.compare("monday", "tuesday").differences
    told = {(each.task, each.kind) for each in differences}
    assert {("load", "changed"), ("old", "gone"), ("report", "added")} <= told


def test_a_large_result_is_compared_by_its_size(tmp_path):
    stores = LargeValues(str(tmp_path / "large"), keep_mb=0.001)
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path, extensions=[stores]) as orch:
        for run_id, rows in (("monday", 2_000), ("tuesday", 20_000)):
            FOUND[:] = range(rows)
            flow = Workflow("flow")
            flow.task(find, id="find")
            run(orch, flow, run_id)
    # Its size is in the journal: the store need not answer.
    shutil.rmtree(tmp_path / "large")
    with TaskOrchestrator(journal=path) as orch:
        differences = orch.compare("monday", "tuesday").differences
    (first,) = [each for each in differences if each.causes]
    assert (first.task, first.causes) == ("find", ("data",))
    assert re.search(r"its result 8,\d+ bytes → 1\d\d,\d+ bytes", first.text)


def test_the_command_and_the_service_say_the_same(tmp_path, capsys, monkeypatch):
    journal = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=journal) as orch:
        run(orch, checked(), "night-1")
        run(orch, checked(rows=60), "night-2")
        said = orch.compare("night-1", "night-2")
        with orch.serve(port=0) as server:
            monkeypatch.setenv("TASKORCH_TOKEN", server.token)
            answer = Client(server.url, token=server.token).compare(
                "night-1", "night-2"
            )
            assert answer["text"] == str(said)
            assert answer["differences"][0]["task"] == "check"
            assert main(["diff", server.url, "night-1", "night-2"]) == 0
            assert capsys.readouterr().out.strip() == str(said)
    assert main(["diff", journal, "night-1", "night-2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["comparison"]
    assert document["earlier"] == "night-1"
    assert document["differences"][0]["kind"] == "failed"
    assert main(["diff", journal, "night-1", "night-9"]) == 2
    assert "night-9" in capsys.readouterr().err
