"""`taskorch schedules`, on a journal and on a service."""

from __future__ import annotations

import json

import pytest

from taskorch import TaskOrchestrator
from taskorch.cli import main

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
    service = pytest.importorskip("taskorch.frontends.service")
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
