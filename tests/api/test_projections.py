"""
A projection has each event once, in order and without a gap.

A random program has several lives; in each, threads submit and emit at once, while
projections begin before it, within it, and from a position that an earlier life left.
What each has taken is compared with what the journal has.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, NotRunningError, Task, TaskOrchestrator
from taskorch.events import (
    Event,
    EventEmitted,
    EventsLost,
    HealthReported,
    QuestionAsked,
    ReceiverFailed,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.views import JournalReader
from taskorch.protocols import Projection
from taskorch.testing import for_every_crash_point

KINDS: list[Any] = [
    None,
    frozenset({TaskSubmitted, TaskCompleted, TaskFailed}),
    frozenset({EventEmitted}),
    frozenset({TaskStarted, EventEmitted}),
]


class Notes(Projection):
    """Notes all that it takes."""

    def __init__(self, wants: Any = None, past: int | None = None, position: int = 0):
        self.wants = wants
        self.position = self.begun = position
        if past is not None:
            self.past = past
        self.events: list[Event] = []
        self.said: dict[int, Any] = {}

    def take(self, event: Event, document: Any) -> None:
        self.events.append(event)
        if document is not None:
            self.said[event.seq] = document

    def __contains__(self, name: str) -> bool:
        return any(getattr(event, "name", "") == name for event in [*self.events])


def fail() -> None:
    raise ValueError("as it was to")


def recorded(path: Path, wants: Any = None) -> list[tuple[Event, Any]]:
    entries = JournalReader(path).entries()
    return [each for each in entries if wants is None or type(each[0]) in wants]


def work(orch: TaskOrchestrator, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(chance.randrange(5, 25)):
        match chance.randrange(4):
            case 0:
                orch.submit(fail)
            case 1:
                orch.emit(f"news/{seed}", number)
            case 2:
                orch.submit(pow, number, 2).result(PATIENCE)
            case _:
                orch.submit_task(Task.call(abs, number, metadata={"of": seed}))


def live(path: Path, chance: random.Random, kept: list[Notes]) -> list[Notes]:
    """
    One incarnation; the projections of the incarnations before go on, and others begin.
    """
    orch = TaskOrchestrator(journal=path)
    every = [Notes(one.wants, position=one.position) for one in kept]
    every += [Notes(chance.choice(KINDS)) for _ in range(chance.randrange(2))]
    for one in every:
        orch.signals.follow(one)
    with orch:
        seeds = [chance.randrange(1_000_000) for _ in range(3)]
        threads = [threading.Thread(target=work, args=(orch, seed)) for seed in seeds]
        for thread in threads:
            thread.start()
        for number in range(4):
            wants = chance.choice(KINDS[2:]) if number % 2 else None
            late = Notes(wants, past=0 if number % 2 else None)
            before = JournalReader(path).last
            orch.signals.follow(late)
            orch.emit(f"mark/{number}", None)
            if number % 2:
                eventually(lambda late=late: bool(late.events))
                late.begun = late.events[0].seq - 1
                assert late.begun >= before
                eventually(lambda late=late, n=number: f"mark/{n}" in late)
            every.append(late)
        for thread in threads:
            thread.join()
        orch.emit("last", None)
    return every


@pytest.mark.parametrize("seed", range(2))
def test_each_takes_each_event_once_in_order_and_as_the_journal_has_it(tmp_path, seed):
    chance, path = random.Random(seed), tmp_path / "j.db"
    kept: list[Notes] = []
    for _ in range(3):
        last = JournalReader(path).last if path.exists() else 0
        every = live(path, chance, kept)
        for one in every:
            entries = recorded(path, one.wants)
            expected = [each for each in entries if each[0].seq > one.begun]
            assert one.events == [event for event, _ in expected]
            assert one.position == one.events[-1].seq > last
            for event, value in expected:
                if isinstance(event, TaskCompleted):
                    taken = one.events[[e.seq for e in one.events].index(event.seq)]
                    assert isinstance(taken, TaskCompleted)
                    assert taken.result == value
                elif isinstance(event, TaskSubmitted):
                    task = one.said[event.seq]
                    assert (task.id, task.type) == (event.task_id, event.type)
                    assert task.metadata == value.metadata
                elif isinstance(event, EventEmitted):
                    assert one.said.get(event.seq) == value
        kept = [one for one in every if one.wants is None or chance.random() < 0.5][:4]


def test_no_more_of_the_past_is_taken_than_is_asked_for(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        for number in range(20):
            orch.emit("news", number)
        some = Notes(frozenset({EventEmitted}), past=5)
        orch.signals.follow(some)
        assert [*some.said.values()] == [15, 16, 17, 18, 19]
        more = Notes(frozenset({EventEmitted}), past=5, position=some.position - 2)
        orch.signals.follow(more)
        assert [*more.said.values()] == [18, 19]


def test_one_that_is_ended_takes_no_more():
    with TaskOrchestrator() as orch:
        ended, other = Notes(), Notes()
        end = orch.signals.follow(ended)
        orch.signals.follow(other)
        orch.emit("first", 1)
        eventually(lambda: "first" in ended)
        end()
        orch.emit("later", 1)
        eventually(lambda: "later" in other)
    assert "later" not in ended


def test_without_a_journal_it_takes_what_comes():
    with TaskOrchestrator() as orch:
        orch.submit(pow, 2, 2).result(PATIENCE)
        # A position of another incarnation means nothing here.
        late = Notes(frozenset({TaskCompleted, TaskSubmitted}), position=1_000)
        orch.signals.follow(late)
        handle = orch.submit(pow, 2, 3)
        assert handle.result(PATIENCE) == 8
        eventually(lambda: len(late.events) == 2)
    submitted, completed = late.events
    assert isinstance(completed, TaskCompleted)
    assert completed.result == 8
    assert completed.task_id == submitted.task_id == handle.task_id  # type: ignore[attr-defined]
    assert late.said[submitted.seq].id == handle.task_id


# -- one that raises, and one that is slow ---------------------------------------------


class Raising(Notes):
    """Raises at every third event."""

    def take(self, event: Event, document: Any) -> None:
        super().take(event, document)
        if len(self.events) % 3 == 0:
            raise ValueError(f"of {len(self.events)}")


@pytest.mark.parametrize("is_past", [False, True])
def test_one_that_raises_is_told_and_goes_on(tmp_path, caplog, is_past):
    wants = frozenset({EventEmitted})
    bad, good, failed = Raising(wants), Notes(wants), Notes(frozenset({ReceiverFailed}))
    caplog.set_level(logging.WARNING, "taskorch")
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.signals.follow(failed)
        if not is_past:
            orch.signals.follow(bad)
            orch.signals.follow(good)
        for number in range(10):
            orch.emit("news", number)
        if is_past:
            orch.signals.follow(bad)
            orch.signals.follow(good)
        eventually(lambda: len(failed.events) == 3)
        check = next(c for c in orch.health().checks if c.component == "receivers")
    assert check.status == "degraded"
    assert "the last Raising: ValueError" in check.detail
    assert "a projection, Raising, raised ValueError" in caplog.text
    assert (
        bad.events
        == good.events
        == [event for event, _ in recorded(tmp_path / "j.db", wants)]
    )
    assert [event.message for event in failed.events] == ["of 3", "of 6", "of 9"]  # type: ignore[attr-defined]


def test_one_that_raises_at_what_tells_of_it_ends_nothing(tmp_path):
    class Always(Notes):
        def take(self, event: Event, document: Any) -> None:
            super().take(event, document)
            raise ValueError

    bad = Always()
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.signals.follow(bad)
        orch.submit(pow, 2, 2).result(PATIENCE)
    assert bad.events == [event for event, _ in recorded(tmp_path / "j.db")]


class Slow(Notes):
    """Waits with its first event until it is let go."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began, self.go = threading.Event(), threading.Event()

    def take(self, event: Event, document: Any) -> None:
        super().take(event, document)
        self.began.set()
        assert self.go.wait(PATIENCE)


def receivers(orch: TaskOrchestrator) -> str:
    return next(c.detail for c in orch.health().checks if c.component == "receivers")


@pytest.mark.parametrize("limit", [5, 100_000])
def test_one_that_is_slow_holds_up_nobody_and_misses_nothing(
    tmp_path, monkeypatch, limit
):
    """Whether all that it misses has room in memory, or has to be read again."""
    monkeypatch.setattr("taskorch.core.engine._publisher.RECEIVER_BACKLOG", limit)
    wants = frozenset({EventEmitted})
    slow, quick = Slow(wants), Notes(wants)
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        orch.signals.follow(slow)
        orch.signals.follow(quick)
        orch.emit("news", -1)
        assert slow.began.wait(PATIENCE)
        eventually(lambda: len(quick.events) == 1)
        for number in range(20):
            orch.emit("news", number)
            # Only the slow one has more waiting than there is room for.
            eventually(lambda n=number: len(quick.events) == n + 2)
        assert "Slow, " in receivers(orch)
        assert "events behind" in receivers(orch)
        assert "lost" not in receivers(orch)
        slow.go.set()
        eventually(lambda: len(slow.events) == 21)
        eventually(lambda: not receivers(orch))
    assert slow.events == quick.events


def test_what_is_too_much_for_the_publisher_is_read_again(tmp_path, monkeypatch):
    """Even if nothing comes after it."""
    monkeypatch.setattr("taskorch.core.engine._publisher.RECEIVER_BACKLOG", 5)
    slow = Slow(frozenset({EventEmitted}))
    other, ends = Notes(slow.wants), Notes(frozenset({TaskCompleted}))
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        for each in (slow, other, ends):
            orch.signals.follow(each)
        for number in range(20):
            orch.emit("news", number)
        orch.submit(pow, 2, 3).result(PATIENCE)
        eventually(lambda: len(other.events) == 20)
        eventually(lambda: len(ends.events) == 1)
        assert len(slow.events) == 1
        slow.go.set()
    assert slow.events == other.events


def test_one_that_is_slow_in_the_past_does_not_delay_the_start(tmp_path):
    """It goes on behind what comes meanwhile, on a thread of its own."""
    path = tmp_path / "j.db"
    wants = frozenset({EventEmitted})

    class Busy(Notes):
        """Has something happen whenever it takes something."""

        def take(self, event: Event, document: Any) -> None:
            super().take(event, document)
            if len(self.events) < 200:
                orch.emit("more", len(self.events))

    with TaskOrchestrator(journal=path) as orch:
        orch.emit("news", 0)
        busy = Busy(wants)
        orch.signals.follow(busy)
        assert len(busy.events) < 200
        eventually(lambda: len(busy.events) == 200)
    assert busy.events == [event for event, _ in recorded(path, wants)]


def test_without_a_journal_one_that_is_slow_loses_and_is_told(monkeypatch):
    monkeypatch.setattr("taskorch.core.engine._publisher.RECEIVER_BACKLOG", 5)
    slow, lost = Slow(frozenset({EventEmitted})), Notes(frozenset({EventsLost}))
    with TaskOrchestrator() as orch:
        orch.signals.follow(slow)
        orch.signals.follow(lost)
        orch.emit("news", -1)
        assert slow.began.wait(PATIENCE)
        for number in range(100):
            orch.emit("news", number)
        eventually(lambda: "lost" in receivers(orch))
        slow.go.set()
        orch.emit("last", 1)
        eventually(lambda: bool(lost.events))
    assert lost.events[0].receiver == "Slow"  # type: ignore[attr-defined]


# -- what is refused -------------------------------------------------------------------


class Strange:
    def __init__(self, **fields: Any) -> None:
        vars(self).update(
            {"wants": None, "past": 0, "position": 0, "take": print, **fields}
        )


async def take(event: Event, document: Any) -> None:
    """As none may be."""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"take": None}, "no take"),
        ({"take": take}, "no coroutine function"),
        ({"position": -1}, "position of"),
        ({"position": "3"}, "position of"),
        ({"position": True}, "position of"),
        ({"past": None}, "past of"),
        ({"wants": {HealthReported}}, "HealthReported"),
        ({"wants": {QuestionAsked}}, "QuestionAsked"),
        ({"wants": "task_started"}, "task_started"),
        ({"wants": [TaskStarted, 5]}, "a set of classes"),
    ],
)
def test_one_that_is_malformed_is_refused(fields, said):
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError, match=said):
        orch.signals.follow(Strange(**fields))  # type: ignore[arg-type]


def test_a_position_of_another_journal_is_refused(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        with pytest.raises(InvalidTaskError, match="another journal"):
            orch.signals.follow(Notes(position=1_000_000))
        orch.submit(pow, 2, 2).result(PATIENCE)
    orch = TaskOrchestrator(journal=tmp_path / "j.db")
    orch.signals.follow(Notes(position=1_000_000))
    with pytest.raises(InvalidTaskError, match="another journal"):
        orch.start()
    orch.stop()
    with pytest.raises(NotRunningError):
        orch.signals.follow(Notes())


# -- kills -----------------------------------------------------------------------------


class KeptTogether(Projection):
    """Keeps what it has derived in one file with its position, each third event."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name("derived")
        self.acts = path.with_name("acts")
        self.numbers: list[int] = []
        if self.path.exists():
            self.numbers, self.position = json.loads(self.path.read_text())

    def take(self, event: Event, document: Any) -> None:
        with self.acts.open("a") as file:
            file.write(f"{event.seq}\n")
        self.numbers.append(event.seq)
        if len(self.numbers) % 3 == 0 or getattr(event, "name", "") == "end":
            new = self.path.with_name("new")
            new.write_text(json.dumps([self.numbers, event.seq]))
            new.replace(self.path)


def program(path: Path) -> None:
    orch = TaskOrchestrator(journal=path, concurrency=1)
    orch.signals.follow(KeptTogether(path))
    with orch:
        orch.submit_task(Task.call(pow, 2, 3, id="one")).result(PATIENCE)
        orch.submit_task(Task.call(pow, 3, 2, id="two")).result(PATIENCE)
        orch.emit("end", 1)


def compare(path: Path) -> None:
    kept = [event.seq for event, _ in recorded(path)]
    numbers, position = json.loads(path.with_name("derived").read_text())
    # Exactly once, up to the position: an end of the incarnation may follow.
    assert numbers == [seq for seq in kept if seq <= position]
    assert len(kept) - len(numbers) <= 3
    acts = [int(line) for line in path.with_name("acts").read_text().split()]
    assert {*acts} == {*kept}


@pytest.mark.slow("kills at every point")
def test_after_a_kill_at_any_point_nothing_is_left_out():
    """Acts are done at least once; what is kept with the position, exactly once."""
    done = for_every_crash_point(program, check=compare)
    assert done.runs > 20
