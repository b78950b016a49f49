"""`taskorch schedules`, on a journal and on a service."""

from __future__ import annotations

import json

import pytest
from tests.api.tools import eventually, part

from taskorch import TaskOrchestrator
from taskorch.ext.command_line import main

pytest.importorskip("cronsim")


def said(capsys, *words):
    code = main(["schedules", *words])
    return code, capsys.readouterr()


def test_schedules_of_a_journal_are_shown_and_changed(tmp_path, capsys):
    journal = str(tmp_path / "j.db")
    with TaskOrchestrator(journal=journal):
        pass
    add = ("add", "daily", "--when", "0 3 * * *", "--program", "echo", "-n")
    assert said(capsys, journal)[1].out == "There is no schedule.\n"
    assert said(capsys, journal, *add)[0] == 0
    assert "daily makes program" in said(capsys, journal)[1].out
    code, shown = said(capsys, journal, "show", "daily", "-n", "2", "--json")
    assert (code, len(json.loads(shown.out)["coming"])) == (0, 2)
    for count in ("0", "1001", "99999999999"):
        code, shown = said(capsys, journal, "show", "daily", "-n", count)
        assert (code, shown.out) == (2, "")
        assert "a number of ticks from 1 to 1,000 is needed" in shown.err
    assert said(capsys, journal, "pause", "daily", "--reason", "no power")[0] == 0
    assert said(capsys, journal, "pause", "daily")[0] == 1
    assert "paused: no power" in said(capsys, journal)[1].out
    assert said(capsys, journal, "resume", "daily")[0] == 0
    made = said(capsys, journal, "trigger", "daily")[1].out.strip()
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.handle(made).result(60).exit_code == 0
    assert said(capsys, journal, "remove", "daily")[0] == 0
    code, shown = said(capsys, journal, "show", "daily")
    assert code == 2
    assert "there is no schedule 'daily'" in shown.err


def test_schedules_of_a_service_are_shown_and_changed(capsys, monkeypatch):
    service = pytest.importorskip("taskorch.ext.service")
    token = service.new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with TaskOrchestrator() as orch:
        orch.schedules.add("often", "0 0 1 1 *", print)
        with service.serve(service.create_app(orch, token=token), port=0) as api:
            assert "often makes print" in said(capsys, api.url)[1].out
            assert said(capsys, api.url, "show", "often")[0] == 0
            assert said(capsys, api.url, "pause", "often", "--reason", "x")[0] == 0
            assert said(capsys, api.url, "resume", "often")[0] == 0
            made = said(capsys, api.url, "trigger", "often")[1].out.strip()
            assert orch.handle(made).result(60) is None
            span = ("--since", "2025-12-31", "--until", "2026-01-02")
            filled = said(capsys, api.url, "backfill", "often", *span)[1].out
            assert filled.strip() == "often/2026-01-01T0000Z"
            assert said(capsys, api.url, "remove", "often")[0] == 0


def test_a_workflow_in_a_file_says_when_it_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TaskOrchestrator(journal="j.db"):
        pass
    document = {
        "workflow": "etl",
        "schedule": {"when": "0 3 * * *", "zone": "Europe/Berlin"},
        "tasks": {"a": {"program": ["true"]}},
    }
    (tmp_path / "etl.json").write_text(json.dumps(document))
    add = ("add", "nightly", "--workflow", "etl.json")
    assert said(capsys, "j.db", *add)[0] == 0
    assert "'0 3 * * *' (Europe/Berlin)" in said(capsys, "j.db")[1].out
    made = said(capsys, "j.db", "trigger", "nightly")[1].out.strip()
    # The next incarnation knows what it makes.
    with TaskOrchestrator(journal="j.db") as orch:
        assert orch.wait(60)
        assert orch.get_task_status(f"{made}/a").state == "completed"
        assert "Nobody has said" not in str(orch.schedules.status("nightly"))
    # One run is one run, and it says who follows the schedule.
    assert main(["run", "etl.json"]) == 0
    assert "taskorch schedules JOURNAL add etl" in capsys.readouterr().err
    assert said(capsys, "j.db", *add, "--program", "true")[0] == 2


def broken() -> None:
    raise ValueError("no rows")


def test_what_is_wrong_is_one_sentence_on_each_face(tmp_path, capsys, monkeypatch):
    """Health, `schedules`, the overview, `top`: while it runs, and when nobody does."""
    service = pytest.importorskip("taskorch.ext.service")
    token = service.new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    journal = str(tmp_path / "j.db")

    def verdict(place):
        main(["top", place, "--once"])
        return capsys.readouterr().out

    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("nightly", "@yearly", broken)
        made = orch.schedules.trigger("nightly")
        sentence = f"{made} failed: ValueError: no rows"
        eventually(lambda: orch.schedules.status("nightly").failing == sentence)
        assert f"nightly: {sentence}" in part(orch, "schedules").detail
        with service.serve(
            service.create_app(orch, token=token, page=True), port=0
        ) as api:
            assert sentence in said(capsys, api.url)[1].out
            eventually(lambda: "1 schedule did not end well" in verdict(api.url))
    assert sentence in said(capsys, journal)[1].out
    assert "1 schedule did not end well" in verdict(journal)
    # What is removed is not broken any more.
    assert said(capsys, journal, "remove", "nightly")[0] == 0
    assert "did not end well" not in verdict(journal)
