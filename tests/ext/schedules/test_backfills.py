"""Backfills of an orchestrator, of a service and of the command line."""

from __future__ import annotations

import json
from threading import Event
from time import monotonic

import pytest
from tests.api.tools import PATIENCE, begun, eventually

from taskorch import Task, TaskOrchestrator, Workflow, current_context, workflow
from taskorch.api.workflows import current_workflow
from taskorch.errors import InvalidTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import main

SPAN = "2026-01-01T00:00Z", "2026-01-01T03:00Z"
#: Values whose digests begin with the same eight digits.
ALIKE = {"shop": "s129279"}, {"shop": "s148437"}


def shop():
    return current_context().parameters["shop"]


def test_parameters_whose_words_are_alike_are_not_taken_for_the_same(tmp_path):
    at = SPAN[:1] * 2
    for incarnation in range(2):
        with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
            orch.schedules.add("n", "every 1h", shop)
            ids = []
            for parameters in ALIKE:
                filled = orch.schedules.backfill("n", *at, parameters=parameters)
                ids += filled
                assert orch.wait(PATIENCE)
                assert bool(filled.already) == bool(incarnation)
            assert ids[1].startswith(ids[0])
            assert [orch.handle(each).result() for each in ids] == [
                each["shop"] for each in ALIKE
            ]


def test_what_a_block_leaves_is_said_and_the_next_program_goes_on(tmp_path, caplog):
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.schedules.add("s", "every 1h", shop, parameters={"shop": "x"})
        orch.schedules.backfill("s", *SPAN)
        orch.schedules.pause_backfill("s-backfill-1")
        orch.schedules.backfill("s", SPAN[0], SPAN[0])
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.schedules.resume_backfill("s-backfill-1")
        held = orch.schedules.backfill_status("s-backfill-1").left
    if held:
        assert "the block ends before a backfill does" in caplog.text
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.schedules.add("s", "every 1h", shop, parameters={"shop": "x"})
        assert orch.wait(PATIENCE)
        status = orch.schedules.backfill_status("s-backfill-1")
        assert (status.state, status.done) == ("done", 4)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_kept_backfill_goes_on_once_its_schedule_is_added(tmp_path, caplog, is_late):
    """It is not judged before; nor does it stand still because it was not added yet."""

    @workflow
    def local():
        current_workflow().add(Task.call(int, id="a"))

    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.schedules.add("s", "every 1h", local)
        orch.schedules.backfill("s", *SPAN)
        orch.schedules.pause_backfill("s-backfill-1")
    since = monotonic()
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.schedules.resume_backfill("s-backfill-1")
        if is_late:
            eventually(lambda: "It waits until" in str(orch.schedules.backfills()[0]))
            # A program has two seconds to add its schedules.
            assert monotonic() - since > 1.9
            eventually(lambda: "schedule s: Nobody has said" in caplog.text)
            (about,) = [c for c in orch.health().checks if c.component == "schedules"]
            assert about.detail.count("Nobody has said") == 1
        orch.schedules.add("s", "every 1h", local)
        assert orch.wait(PATIENCE)
        assert orch.schedules.backfill_status("s-backfill-1").state == "done"
    assert "schedules failed" not in caplog.text
    assert ("Nobody has said" in caplog.text) == is_late


def test_a_run_that_asks_holds_nothing_up_but_is_shown():
    asks = Workflow("asks")
    asks.add(Task.question("go on?", id="go"))
    with TaskOrchestrator() as orch:
        orch.schedules.add("s", "every 1h", asks)
        filled = orch.schedules.backfill("s", *SPAN)
        assert orch.wait(PATIENCE)
        status = orch.schedules.backfill_status(filled.backfill_id)
        assert (status.state, status.left) == ("running", 0)
        assert status.blocked == tuple(filled)
        assert "wait for a person or an event" in str(status)
        for run_id in filled:
            orch.workflows.cancel(run_id)
        eventually(
            lambda: orch.schedules.backfill_status(filled.backfill_id).state == "done"
        )
        second = orch.schedules.backfill("s", *SPAN, again=True, stop_on_failure=True)
        assert orch.wait(PATIENCE)
        status = orch.schedules.backfill_status(second.backfill_id)
        assert (status.state, status.left) == ("paused", 3)
        assert status.paused == f"{filled[0]} waits for a person or an event"
        assert second.backfill_id in orch.schedules.check().detail
        orch.stop(drain=False)


def paused_for(orch, backfill_id, run_id):
    """How a backfill stands once it is paused since this run waits."""
    why = f"{run_id} waits for a person or an event"
    eventually(lambda: orch.schedules.backfill_status(backfill_id).paused == why)
    return orch.schedules.backfill_status(backfill_id)


@pytest.mark.parametrize("is_another_incarnation", [False, True])
def test_what_was_resumed_pauses_no_more_for_the_run_it_paused_for(
    tmp_path, is_another_incarnation
):
    """Only for the next one that waits, in the next incarnation too."""
    asks = Workflow("asks")
    asks.add(Task.question("go on?", id="go"))
    orch = begun(lambda: TaskOrchestrator(journal=tmp_path / "j.db"))
    try:
        orch.schedules.add("s", "every 1h", asks)
        filled = orch.schedules.backfill("s", *SPAN, stop_on_failure=True)
        for number, run_id in enumerate(filled[:3]):
            status = paused_for(orch, filled.backfill_id, run_id)
            waits = (*filled[: number + 1],)
            assert (status.left, status.blocked) == (3 - number, waits)
            if is_another_incarnation:
                orch.stop(drain=False)
                orch = begun(lambda: TaskOrchestrator(journal=tmp_path / "j.db"))
                orch.schedules.add("s", "every 1h", asks)
            assert orch.schedules.resume_backfill(filled.backfill_id)
    finally:
        orch.stop(drain=False)


def test_a_function_that_raises_ends_the_call_and_leaves_no_backfill(tmp_path):
    from taskorch import workflow

    days = []

    @workflow
    def broken(slot: str) -> None:
        if days:
            raise LookupError(slot)
        days.append(slot)
        Task.call(len, "x", id="a")
        raise LookupError(slot)

    with TaskOrchestrator() as orch:
        orch.schedules.add("n", "every 1h", broken)
        with pytest.raises(InvalidTaskError, match="raises LookupError"):
            orch.schedules.backfill("n", *SPAN)
        assert orch.schedules.backfills() == []


def said(capsys, *words):
    code = main(["schedules", *map(str, words)])
    return code, capsys.readouterr()


def test_a_command_begins_lists_and_changes_them(tmp_path, capsys):
    journal = tmp_path / "j.db"
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("n", "every 1h", Task.call(len, "x"))
    span = ("--since", SPAN[0], "--until", SPAN[1])
    code, told = said(capsys, journal, "backfill", "n", *span, "--limit", "2")
    assert code == 0
    assert len(told.out.splitlines()) == 4
    assert "n-backfill-1 is running" in told.err
    assert said(capsys, journal, "pause-backfill", "n-backfill-1")[0] == 0
    assert said(capsys, journal, "pause-backfill", "n-backfill-1")[0] == 1
    (line,) = said(capsys, journal, "backfills", "n", "--json")[1].out.splitlines()
    status = json.loads(line)
    assert (status["state"], status["left"], status["limit"]) == ("paused", 2, 2)
    assert said(capsys, journal, "backfills", "other")[1].out == ""
    assert said(capsys, journal, "resume-backfill", "n-backfill-1")[0] == 0
    code, told = said(capsys, journal, "cancel-backfill", "n-backfill-1")
    assert (code, told.out) == (0, "n-backfill-1 is cancelled\n")
    code, told = said(capsys, journal, "cancel-backfill")
    assert code == 2
    assert "cancel-backfill: BACKFILL must be said" in told.err


def test_a_service_has_them_and_says_what_a_cancel_leaves_out(capsys, monkeypatch):
    service = pytest.importorskip("taskorch.ext.service")
    token = service.new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    goes = Event()
    with TaskOrchestrator() as orch:
        orch.schedules.add("n", "every 1h", lambda: goes.wait(PATIENCE))
        app = service.create_app(orch, token=token)
        with service.serve(app, port=0) as api:
            client = Client(api.url, token=token)
            filled = client.backfill_schedule(
                "n", *SPAN, limit=3, order="newest", by="ada", stop_on_failure=True
            )
            status = client.backfill_status(filled.backfill_id)
            assert (status["by"], status["order"]) == ("ada", "newest")
            assert [each["left"] for each in client.find_backfills("n")] == [1]
            assert client.find_backfills("other") == []
            with pytest.raises(InvalidTaskError, match="limit"):
                client.backfill_schedule("n", *SPAN, limit=0)
            assert client.pause_backfill(filled.backfill_id)
            assert client.resume_backfill(filled.backfill_id)
            assert said(capsys, api.url, "backfills")[0] == 0
            assert client.cancel_backfill(filled.backfill_id)
            assert not client.cancel_backfill(filled.backfill_id)
            goes.set()
            assert orch.wait(PATIENCE)
            assert len(list(orch.tasks())) == 3


def test_a_document_that_is_no_backfill_is_left_out_and_others_go_on(tmp_path, caplog):
    """Whatever a program writes under the name of backfills."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.kept("backfills").update(a=1, b=[], c={"runs": 3}, d={"runs": [[]]})
        orch.submit_task(Task.call(len, "x")).result(PATIENCE)
        assert orch.prune(older_than=0).tasks == 1
    with TaskOrchestrator(journal=path) as orch:
        assert orch.schedules.backfills() == []
        assert orch.schedules.add("n", "0 3 * * *", list)
    assert caplog.text.count("of backfills is left out") == 4
