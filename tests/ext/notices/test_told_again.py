"""What people are told again, and when; what they are told late, and what is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import (
    PATIENCE,
    Hold,
    Recorder,
    eventually,
    part,
    pass_time,
)
from tests.ext.notices.test_notifying import Hook, notification

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.api.journal import SqliteJournal
from taskorch.errors import JournalError, OutcomeUnknownError
from taskorch.protocols import Entry

DAY, HOUR = 86_400, 3_600


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def told(hook: Hook, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(body) for _, body in hook.got]
    return [each for each in found if each["message_type"] in kinds]


def fail(why: str) -> None:
    raise ValueError(why)


def save(mark: str) -> None:
    if Path(mark).exists():
        fail("no disk")


def fails(orch: TaskOrchestrator, name: str, why: str) -> None:
    """Have a task fail that nobody waits for."""
    orch.submit_task(Task.call(fail, why, id=name))


def test_a_cause_that_nothing_mends_is_told_again_after_a_day(hook: Hook) -> None:
    # One after the other, so that they fail in this order.
    with TaskOrchestrator(concurrency=1) as orch:
        orch.notify(hook.url, allow_private=True, about=["failure"])

        def names() -> list[str]:
            return [each["id"] for each in told(hook, "failure")]

        fails(orch, "first", "no disk")
        fails(orch, "at-once", "no disk")
        fails(orch, "other", "no network")
        # They are told in the order in which they failed.
        eventually(lambda: "other" in names())
        assert names() == ["first", "other"]
        pass_time(orch, DAY - HOUR)
        fails(orch, "before-a-day", "no disk")
        fails(orch, "news", "no memory")
        eventually(lambda: "news" in names())
        assert names() == ["first", "other", "news"]
        pass_time(orch, HOUR)
        fails(orch, "after-a-day", "no disk")
        eventually(lambda: "after-a-day" in names())
        assert names() == ["first", "other", "news", "after-a-day"]


def test_a_reason_is_told_again_after_an_hour(hook: Hook) -> None:
    hold = Hold()
    with TaskOrchestrator() as orch:
        orch.notify(hook.url, allow_private=True)
        heard = Recorder(orch, "schedule_skipped")

        def count() -> int:
            return sum("not ended" in e["reason"] for e in told(hook, "skipped"))

        def skipped_again(mark: str) -> None:
            """Wait until more ticks were passed over, and that was thought of."""
            before = len(heard.events)
            eventually(lambda: len(heard.events) > before + 2)
            fails(orch, mark, mark[::-1])
            eventually(lambda: mark in [e["id"] for e in told(hook, "failure")])

        orch.schedules.add("slow", 0.05, hold)
        eventually(count)
        skipped_again("soon")
        assert count() == 1
        pass_time(orch, HOUR // 2)
        skipped_again("in-the-same-hour")
        assert count() == 1
        pass_time(orch, HOUR // 2)
        eventually(lambda: count() == 2)
        skipped_again("after-the-hour")
        assert count() == 2
        hold.release()


def test_who_comes_late_is_told_what_is_open_and_nothing_that_was_decided(
    hook: Hook,
) -> None:
    """Of questions and of blocked tasks: a receiver may come at any time."""

    def pay() -> None:
        name = current_context().task_id
        raise OutcomeUnknownError("no answer", task_id=name)

    with TaskOrchestrator() as orch:
        # Without a receiver, it is the log and the health that tell.
        first = orch.notify(hook.url, allow_private=True, about=["blocked", "failure"])
        for name in ("decided", "cancelled", "open"):
            orch.submit_task(Task.call(pay, id=name, idempotent=False))
            orch.submit_task(Task.question("go?", id=f"ask-{name}"))
        eventually(lambda: len(told(hook, "blocked")) == 3)
        orch.decide("decided", "complete")
        orch.answer("ask-decided", "approve", by="ada")
        orch.cancel_task("cancelled")
        orch.cancel_task("ask-cancelled")
        eventually(lambda: "open" in part(orch, "decisions").detail)
        eventually(lambda: "decided" not in part(orch, "decisions").detail)
        fails(orch, "before", "no disk")
        eventually(lambda: told(hook, "failure"))
        assert first.flush(PATIENCE)
        hook.got.clear()
        late = orch.notify(hook.url, allow_private=True)
        fails(orch, "mark", "no network")
        eventually(lambda: late.delivered >= 4)
        assert late.flush(PATIENCE)
        ids = {each["message_id"]: each["id"] for _, each in late_ones(hook)}
        assert sorted(ids.values()) == ["ask-open", "before", "mark", "open"]
        orch.decide("open", "complete")
        orch.cancel_task("ask-open")


def late_ones(hook: Hook) -> list[tuple[str, dict[str, Any]]]:
    found = [json.loads(body) for _, body in hook.got]
    return [(each["message_type"], each) for each in found]


def test_messages_that_find_too_many_before_them_are_counted(hook: Hook) -> None:
    """The receiver holds one up; a thousand wait; more are lost, and that is said."""
    taken, go = threading.Event(), threading.Event()

    class Held(list[int]):
        """The status codes of a receiver: the first answer takes its time."""

        def __bool__(self) -> bool:
            taken.set()
            go.wait(2 * PATIENCE)
            return False

    hook.answers = Held()
    with TaskOrchestrator() as orch:
        patience = 2 * PATIENCE
        receiver = orch.notify(hook.url, allow_private=True, timeout=patience)
        fails(orch, "first", "no disk")
        assert taken.wait(PATIENCE)
        many = 1_000 + 7
        # What differs in numbers alone is one cause.
        letters = str.maketrans("0123456789", "abcdefghij")
        for number in range(many):
            fails(orch, f"task-{number}", f"no {str(number).translate(letters)}")
        eventually(lambda: receiver.lost >= 7)
        assert orch.wait(PATIENCE)
        assert "7 not delivered" in notification(orch)
        go.set()
        # A thousand requests.
        assert receiver.flush(patience)
        assert (receiver.delivered, receiver.lost) == (1_001, 7)
        assert "7 not delivered" in notification(orch)


def test_an_allowed_failure_that_left_memory_is_none_after_a_restart(
    tmp_path: Path,
) -> None:
    """Of two schedules, each with a failure, only the other one fails."""
    path, now = tmp_path / "runs.db", datetime.now(UTC)
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        for name, is_allowed in (("allows", True), ("fails", False)):
            flow = Workflow("flow")
            flow.task(int, id="load")
            flow.task(fail, "no disk", id="clean", allow_failure=is_allowed)
            orch.schedules.add(name, timedelta(days=1), flow, start=now)
            orch.schedules.backfill(name, now, now + timedelta(days=3))
        made = orch.schedules.backfills
        eventually(lambda: all(each.state == "done" for each in made()))
        assert orch.wait(PATIENCE)
    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        status = orch.schedules.status
        eventually(lambda: status("fails").failing)
        assert not status("allows").failing
        orch.stop(drain=False)


def test_ticks_that_failed_are_read_many_at_once(tmp_path: Path) -> None:
    """A journal on another machine takes a moment for each question."""
    path, now, asked = tmp_path / "runs.db", datetime.now(UTC), []

    class Counting(SqliteJournal):
        def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
            asked.append(len(ids))
            return super().select(ids, until)

    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        task = Task.call(fail, "no disk")
        first = now - timedelta(hours=60)
        orch.schedules.add(
            "nightly", timedelta(hours=1), task, start=first, catch_up="none"
        )
        orch.schedules.backfill("nightly", first, now)
        eventually(lambda: orch.schedules.backfills()[0].state == "done")
        assert orch.wait(PATIENCE)
    with TaskOrchestrator(journal=Counting(path), keep_finished=0) as orch:
        eventually(lambda: orch.schedules.status("nightly").failing)
        orch.stop(drain=False)
    assert sum(asked) >= 60
    assert len(asked) <= 12


def test_a_damaged_tick_hides_no_failure_of_a_later_one(tmp_path: Path) -> None:
    """Nor of another schedule."""
    path, mark = tmp_path / "runs.db", tmp_path / "no disk"
    first = datetime.now(UTC) - timedelta(hours=8)
    names = "also", "lost", "nightly"

    def fill(orch: TaskOrchestrator, begin: int, end: int) -> None:
        span = first + timedelta(hours=begin), first + timedelta(hours=end)
        for name in names:
            orch.schedules.backfill(name, *span)
        made = orch.schedules.backfills
        eventually(lambda: all(each.state == "done" for each in made()))
        assert orch.wait(PATIENCE)

    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        for name in names:
            task = Task.call(save, str(mark))
            orch.schedules.add(
                name, timedelta(hours=1), task, start=first, catch_up="none"
            )
        fill(orch, 0, 5)
        mark.touch()
        fill(orch, 5, 8)
        failed = [orch.schedules.status(name).failing for name in names]
    latest = {name: sorted(SqliteJournal(path).ids(f"{name}/"))[::-1] for name in names}
    # The first tick that completed; the latest one; one before that which completed.
    damaged = {latest["also"][3], latest["lost"][0], latest["nightly"][5]}

    class Damaged(SqliteJournal):
        def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
            if not damaged.isdisjoint(ids):
                raise JournalError("a group of events is damaged")
            return super().select(ids, until)

    with TaskOrchestrator(journal=Damaged(path), keep_finished=0) as orch:
        eventually(lambda: orch.schedules.status("nightly").failing)
        told_of = [orch.schedules.status(name).failing for name in names]
        orch.stop(drain=False)
    assert (told_of[0], told_of[2]) == (failed[0], failed[2])
    assert "3 in a row" in failed[0]


def test_large_ticks_are_not_read_many_at_once(tmp_path: Path) -> None:
    path, now, asked = tmp_path / "runs.db", datetime.now(UTC), []

    class Counting(SqliteJournal):
        def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
            asked.append(len(ids))
            return super().select(ids, until)

    with TaskOrchestrator(journal=path, keep_finished=0) as orch:
        flow = Workflow("night")
        for number in range(510):
            flow.task(int, id=f"part-{number}")
        flow.task(fail, "no disk", id="save")
        first = now - timedelta(hours=2)
        orch.schedules.add(
            "nightly", timedelta(hours=1), flow, start=first, catch_up="none"
        )
        orch.schedules.backfill("nightly", first, now)
        eventually(lambda: orch.schedules.backfills()[0].state == "done")
        assert orch.wait(PATIENCE)
    with TaskOrchestrator(journal=Counting(path), keep_finished=0) as orch:
        eventually(lambda: orch.schedules.status("nightly").failing)
        orch.stop(drain=False)
    assert sum(asked) >= 1_022
    assert max(asked) < 1_000
