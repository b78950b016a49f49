"""Many tasks with one cause, and many schedules: one look and one line, not one for each."""

from __future__ import annotations

import importlib
import logging
import sys
from collections import Counter

import pytest
from tests.api.tools import eventually

from taskorch import Task, TaskOrchestrator


@pytest.mark.needs("notices")
def test_tasks_of_a_function_that_is_gone_are_one_line_and_one_look(
    tmp_path, monkeypatch, caplog
):
    module = tmp_path / "goes_away.py"
    module.write_text("def one(n): ...\ndef other(n): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    gone = importlib.import_module("goes_away")
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.hold_starts("for a deployment")
        for function in (gone.one, gone.other):
            orch.submit_tasks(Task.call(function, n) for n in range(200))
        orch.stop(drain=False)
    module.unlink()
    monkeypatch.delitem(sys.modules, "goes_away")
    looks = Counter[str]()

    class Looking:
        @staticmethod
        def find_spec(name, *_):
            looks[name] += 1

    monkeypatch.setattr(sys, "meta_path", [Looking, *sys.meta_path])
    with (
        caplog.at_level(logging.WARNING, "taskorch.blocked"),
        TaskOrchestrator(journal=path) as orch,
    ):
        orch.schedules.add("asked-for", 3_600.0, int)
        eventually(lambda: "and 395 more" in str(orch.health()))
        orch.stop(drain=False)
    lines = [r for r in caplog.records if r.name == "taskorch.blocked"]
    assert len(lines) == 2
    # Others are loaded meanwhile, after which it is looked for again.
    assert looks["goes_away"] < 100
