"""The face for coroutines has the methods of the other, with their signatures."""

from __future__ import annotations

import inspect

import pytest
from tests.api.tools import in_loop

from taskorch import SqliteJournal, TaskOrchestrator
from taskorch.api.journal import MemoryJournal
from taskorch.ext.views import JournalReader

#: What an orchestrator has that waits for nobody, so that coroutines use it as it is.
NOT_ASYNC = {
    "agent",
    "aio",
    "alerts",
    "as_completed",
    "budget",
    "check_made",
    "extensions",
    "from_config",
    "gather",
    "kept",
    "note_event",
    "program_of",
    "recover",
    "recovery",
    "schedule",
    "serve",
    "show_progress",
    "signals",
    "stop_on",
    "task",
    "watch_alerts",
}
#: On the way to a run, which is an object of its own.
ONLY_ASYNC = {"wait_paused"}


def faces():
    orch = TaskOrchestrator()
    return [
        (orch, orch.aio),
        (orch.workflows, orch.aio.workflows),
        (orch.resources, orch.aio.resources),
        (orch.agents, orch.aio.agents),
    ]


def public(thing: object) -> set[str]:
    return {name for name in dir(type(thing)) if not name.startswith("_")}


@pytest.mark.parametrize(("plain", "ours"), faces(), ids=lambda one: type(one).__name__)
def test_both_faces_have_the_same_methods(plain, ours):
    assert public(ours) - public(plain) <= ONLY_ASYNC
    assert public(plain) - public(ours) <= NOT_ASYNC

    for name in public(plain) & public(ours):
        if callable(getattr(type(plain), name)):
            theirs, own = (
                [
                    each.replace(annotation=each.empty)
                    for each in inspect.signature(getattr(of, name)).parameters.values()
                ]
                for of in (plain, ours)
            )
            assert own == theirs, name


@in_loop
async def test_a_method_of_a_subclass_is_the_one_that_is_awaited() -> None:
    class Mine(TaskOrchestrator):
        def cancel_task(self, task_id: str, *, reason: str = "") -> bool:
            return task_id == "mine"

    assert await Mine().aio.cancel_task("mine")


def test_both_faces_say_where_what_happens_is_kept_and_how_much_at_once(tmp_path):
    with TaskOrchestrator(concurrency=3) as orch:
        assert orch.journal is orch.aio.journal is None
        assert orch.concurrency == orch.aio.concurrency == 3
    with TaskOrchestrator(journal=MemoryJournal()) as orch:
        assert orch.journal is None
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        assert isinstance(orch.journal, SqliteJournal)
        assert orch.aio.journal is orch.journal
        assert JournalReader(tmp_path / "runs.db").uid == orch.journal.uid
