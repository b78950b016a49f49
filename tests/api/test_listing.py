"""`orch.tasks()`: all of them, in pages, while they change; and what a status says."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import datetime

import pytest

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    TaskState,
)
from taskorch.core.engine import _listing

PATIENCE = 60.0


def ids(statuses):
    return [status.task_id for status in statuses]


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(_listing, "_PAGE", 3)


@pytest.fixture(params=["memory", "durable", "left memory", "later incarnation"])
def shop(request, tmp_path, small_pages):
    """The same tasks, wherever they are now."""
    where = request.param
    journal = None if where == "memory" else tmp_path / "runs.db"

    def make():
        orch = TaskOrchestrator(
            journal=journal,
            keep_finished=2 if where in ("left memory", "later incarnation") else 1_000,
        )

        @orch.agent("ann", capabilities={"cut"})
        def ann(task, context):
            if task.payload == "bad":
                raise ValueError(task.payload)
            return task.payload

        @orch.agent("ben", capabilities={"sew"})
        def ben(task, context):
            return task.payload

        return orch

    orch = make()
    with orch:
        orch.submit_tasks(
            [
                Task(
                    ("cut", "sew")[n % 2],
                    n,
                    id=f"{'ab'[n % 3 == 0]}/{n}",
                    metadata={"customer": "acme" if n < 4 else "other", "n": n},
                    owner="acme" if n < 4 else None,
                )
                for n in range(8)
            ]
        )
        orch.submit_task(Task("cut", "bad", id="c/bad"))
        orch.submit_task(Task("cut", after=["c/bad"], id="c/blocked"))
        orch.wait(PATIENCE)
        if where != "later incarnation":
            yield orch
            return
    with make() as orch:
        yield orch


def test_no_lock_is_held_between_two_statuses(shop):
    """A loop may call the orchestrator, and may be left half-way."""
    for status in shop.tasks():
        assert shop.get_task_status(status.task_id).task_id == status.task_id
        assert shop._rt.lock.acquire(timeout=PATIENCE)
        shop._rt.lock.release()
        if status.task_id == "a/4":
            break


def test_a_coroutine_goes_through_them_too(shop):
    async def main():
        return [s.task_id async for s in shop.aio.tasks("completed", id="b/*")]

    assert asyncio.run(main()) == ["b/0", "b/3", "b/6"]


@pytest.mark.parametrize(
    "which",
    [
        {"owner": "nobody"},
        {"metadata": {"odd": "no"}},
        {"mended": True},
        {"older_than": 3_600},
        {"type": "none"},
        {"agent": "none"},
        {"id": "*none*"},
    ],
)
def test_what_none_has_takes_no_hold_of_the_lock_for_each_page(which, monkeypatch):
    with TaskOrchestrator() as orch:
        orch.submit_tasks([Task.call(int, id=str(n)) for n in range(40)])
        orch.wait(PATIENCE)
        looked = []
        real = _listing._Listing._statuses

        def statuses(self, ids, room):
            looked.extend(ids)
            return real(self, ids, room)

        monkeypatch.setattr(_listing._Listing, "_statuses", statuses)
        assert list(orch.tasks(**which)) == []
        assert not looked


@pytest.mark.parametrize(
    ("which", "word"),
    [
        ({"state": "asleep"}, "there are pending"),
        ({"type": 5}, "type: a text"),
        ({"id": 5}, "id: a text"),
        ({"agent": b"a"}, "agent: a text"),
        ({"owner": 5}, "owner: a text"),
        ({"metadata": [1]}, "metadata: a mapping"),
        ({"since": "today"}, "since"),
        ({"since": datetime(2020, 1, 1)}, "no time zone"),  # noqa: DTZ001 - just that
        ({"older_than": -1}, "older_than"),
        ({"older_than": math.nan}, "older_than"),
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused_when_it_is_called(which, word):
    """Not when it is first iterated over."""
    with pytest.raises(InvalidTaskError, match=word):
        TaskOrchestrator().tasks(**which)


def test_tasks_may_leave_memory_while_they_are_gone_through():
    """So many of them that the kernel keeps the rest in another place."""
    go = threading.Event()
    with TaskOrchestrator(concurrency=1, keep_finished=0) as orch:
        orch.submit(go.wait, PATIENCE)
        orch.map(pow, range(500), range(500))
        statuses = orch.tasks()
        first = next(statuses)
        go.set()
        assert orch.wait(PATIENCE)
        # The rest of the page that was made before.
        later = list(statuses)
        assert 0 < len(later) < 500
        assert first.task_id not in ids(later)


#: How the next run of each task ends.
OUTCOMES: dict[str, bool] = {}


def ends(name):
    if not OUTCOMES[name]:
        raise ValueError(name)


def test_a_state_is_named_or_given():
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.wait_for("go", id="waits"))
        orch.submit_task(Task.call(int, id="ends")).result(PATIENCE)
        for state in ("completed", TaskState.COMPLETED):
            assert ids(orch.tasks(state)) == ["ends"]
