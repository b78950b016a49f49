"""What ended long ago leaves the journal, and nothing that somebody needs."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from tests.api.tools import PATIENCE
from tests.house.own_journal import LinesJournal

from taskorch import SqliteJournal, Task, TaskOrchestrator
from taskorch.api.journal import MemoryJournal
from taskorch.core.engine._passage import add_parents
from taskorch.core.journal import _file, _points
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
)
from taskorch.events import AT_NS, CLS, TASK_ID, TaskCompleted
from taskorch.ext.retention._pruning import EndedTasks, going, prune
from taskorch.ext.views import JournalReader
from taskorch.model import Retention

ALL = Retention(age=0.0)
LATER = 2**62


def fail():
    raise ValueError("no")


def many(path, count, start=0, **options):
    with TaskOrchestrator(journal=SqliteJournal(path, **options)) as orch:
        tasks = [
            Task.call(len, "x" * 500, id=f"n/{n}") for n in range(start, start + count)
        ]
        orch.submit_tasks(tasks)
        orch.wait(PATIENCE)


def pruned(path, retention=ALL, now=LATER):
    journal = SqliteJournal(path)
    epoch = journal.claim()
    try:
        return prune(journal, epoch, retention, now)
    finally:
        journal.close()


def ids(path):
    return [status.task_id for status in JournalReader(path).tasks()]


def test_what_has_ended_goes_and_what_is_left_is_whole(tmp_path):
    path = tmp_path / "runs.db"
    many(path, 200)
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(fail, id="bad"))
        orch.submit_task(Task.call(len, "x", id="blocked", after=["bad", "n/7"]))
        orch.wait(PATIENCE)
    assert pruned(path) == 199
    assert SqliteJournal(path).verify()
    # What is live, and what that needs.
    assert ids(path) == ["n/7", "bad", "blocked"]
    # What was counted is counted for ever.
    assert JournalReader(path).get_stats().state_machine.completed == 200
    with TaskOrchestrator(journal=path) as orch:
        assert orch.get_task_status("blocked").blocked_by == ("bad",)
        assert orch.handle("n/7").result() == 500
        assert orch.get_stats().state_machine.completed == 200
        # What is gone may come again.
        orch.submit_task(Task.call(len, "new", id="n/1")).result(PATIENCE)
        assert orch.cancel_task("blocked")
    assert SqliteJournal(path).verify()
    assert pruned(path) == 4
    assert ids(path) == []
    assert SqliteJournal(path).verify()
    many(path, 3)
    assert len(ids(path)) == 3


def test_the_file_shrinks_and_stays_bounded(tmp_path):
    path = tmp_path / "runs.db"
    sizes = []
    for number in range(5):
        many(path, 500, start=number * 500, keep_latest=100)
        sizes.append(path.stat().st_size)
    assert len(ids(path)) == 600
    assert max(sizes[2:]) < 1.5 * min(sizes)
    pruned(path, Retention(most=10))
    assert path.stat().st_size < min(sizes) / 3
    assert SqliteJournal(path).verify()


def free_pages(path):
    db = sqlite3.connect(path)
    ((free,),) = db.execute("PRAGMA freelist_count")
    db.close()
    return free


@pytest.mark.parametrize(
    ("pages", "part", "is_smaller"),
    [(1, 0.0, True), (10_000, 0.0, False), (1, 0.9, False), (10_000, 0.9, False)],
)
def test_a_file_is_written_anew_if_much_of_it_and_many_pages_are_free(
    tmp_path, monkeypatch, pages, part, is_smaller
):
    path = tmp_path / "runs.db"
    many(path, 100)
    monkeypatch.setattr(_file, "_FREE_PAGES", pages)
    monkeypatch.setattr(_file, "_FREE_SHARE", part)
    assert pruned(path, Retention(most=50)) == 50
    assert (free_pages(path) == 0) == is_smaller


def forgettable(events, retention, now):
    """The ids of tasks that the retention does not keep, and nothing needs."""
    past = EndedTasks()
    past.take(events)
    return {name for bundle in going(past, retention, now) for name in bundle.ids}


def test_age_and_number(tmp_path):
    path = tmp_path / "runs.db"
    many(path, 10)
    ends = [one.ended.timestamp() * 1e9 for one in JournalReader(path).tasks()]
    events = [event for event, _ in SqliteJournal(path).read()]
    now = int(max(ends)) + 10**9
    assert forgettable(events, Retention(), now) == set()
    assert forgettable(events, Retention(age=3600), now) == set()
    assert len(forgettable(events, Retention(age=0), now)) == 10
    month = 30 * 24 * 3_600
    for late, count in ((-1, 0), (1, 10)):
        then = int(max(ends) if late > 0 else min(ends)) + (month + late) * 10**9
        assert len(forgettable(events, Retention(age=month), then)) == count
    assert len(forgettable(events, Retention(most=4), now)) == 6
    assert len(forgettable(events, Retention(age=3600, most=4), now)) == 6
    for wrong in ({"keep_for": -1}, {"keep_latest": -1}, {"keep_latest": True}):
        with pytest.raises(InvalidTaskError, match="keep_"):
            SqliteJournal(path, **wrong)
    assert SqliteJournal(path, keep_for=timedelta(days=1)).retention().age == 86_400
    assert SqliteJournal(path, keep_latest=0).retention() == Retention(most=0)


def test_what_was_added_to_what_waits_stays_with_it():
    """As the parents do that it was submitted with; and so do those of before."""
    journal = MemoryJournal(keep_events=True)

    def gone():
        return forgettable([event for event, _ in journal.read()], ALL, LATER)

    with TaskOrchestrator(journal=journal) as orch:
        for name in ("one", "two"):
            orch.submit_task(Task.call(len, "x", id=name)).result(PATIENCE)
        orch.submit_task(Task.call(len, "x", id="waits", not_before=3600))
        assert gone() == {"one", "two"}
        add_parents(orch._rt, "waits", ["one"])
        assert gone() == {"two"}
        orch.cancel_task("waits")
        assert gone() == {"one", "two", "waits"}


def test_the_age_of_what_is_bound_together_is_that_of_the_latest(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        for name, after in [("a", []), ("b", ["a"]), ("c", [])]:
            orch.submit_task(Task.call(len, "x", id=name, after=after)).result(PATIENCE)
    events = [event for event, _ in SqliteJournal(path).read()]
    ends = {
        event[TASK_ID]: event[AT_NS] for event in events if event[CLS] is TaskCompleted
    }

    def gone(now, **keeps):
        return forgettable(events, Retention(**keeps), now)

    second = 10**9
    assert gone(ends["a"] + second + 1, age=1.0) == set()
    assert gone(ends["b"] + second, age=1.0) == set()
    assert gone(ends["b"] + second + 1, age=1.0) == {"a", "b"}
    assert gone(ends["c"] + second + 1, age=1.0) == {"a", "b", "c"}
    # The latest stay, of what is bound together all or none.
    assert gone(0, most=3) == set()
    assert gone(0, most=2) == gone(0, most=1) == {"a", "b"}
    assert gone(0, most=0) == {"a", "b", "c"}
    assert gone(ends["b"] + second + 1, age=1.0, most=3) == {"a", "b"}
    assert gone(0, age=1.0, most=2) == {"a", "b"}


class Snapshots:
    """A journal whose events are those of another, with a snapshot of its own."""

    def __init__(self, events, saved, after):
        self._events, self.saved, self.after = events, saved, after
        self.done = []

    def snapshot(self):
        return self.saved

    def read(self):
        return [(event, None) for event in self._events]

    def facts(self):
        return self._events

    def forget(self, epoch, ids):
        self.done.append(("forget", epoch, sorted(ids)))
        could, self.saved = self.after is not False, self.after or None
        return could

    def save(self, epoch, seq, state):
        self.done.append(("save", epoch, seq, state))

    def make_room(self, epoch):
        pass


def test_a_snapshot_is_saved_without_what_goes_before_it_goes(monkeypatch):
    """So it has the sums over all that was, wherever a death comes between."""
    monkeypatch.setattr(
        "taskorch.ext.retention._pruning.without_tasks",
        lambda *said: ("without", *said),
    )
    kept = MemoryJournal(keep_events=True)
    with TaskOrchestrator(journal=kept) as orch:
        for name in ("a", "b"):
            orch.submit_task(Task.call(len, "x", id=name)).result(PATIENCE)
    events = [event for event, _ in kept.read()]
    state, forget = {}, ("forget", 7, ["a", "b"])
    save = ("save", 7, 5, ("without", state, {"a", "b"}))
    holds = {"gone": ("a",)}
    only_b = ("save", 7, 5, ("without", holds, {"b"}))
    for saved, after, many, done in [
        (None, None, 2, [forget]),
        ((5, state), None, 2, [save, forget, save]),
        ((5, state), (5, state), 2, [save, forget]),
        ((5, state), False, 0, [save, forget]),
        ((5, holds), (5, state), 1, [only_b, ("forget", 7, ["b"])]),
        ((5, {"gone": ("a", "b")}), (5, state), 0, []),
    ]:
        journal = Snapshots(events, saved, after)
        assert prune(journal, 7, ALL, LATER) == many
        assert journal.done == done
    journal = Snapshots(events, None, None)
    assert prune(journal, 7, Retention(), LATER) == 0
    assert prune(Snapshots([], None, None), 7, ALL, LATER) == 0
    assert journal.done == []


def test_only_its_owner_leaves_something_out(tmp_path):
    path = tmp_path / "runs.db"
    many(path, 3)
    journal = SqliteJournal(path)
    with pytest.raises(JournalTakenError):
        journal.forget(1, ["n/1"])
    epoch = journal.claim()
    assert journal.forget(epoch, ["nobody"]) == 0
    assert journal.forget(epoch, []) == 0
    assert journal.snapshot() is not None
    journal.close()


def test_a_journal_that_can_leave_out_nothing_keeps_all(tmp_path):
    class Keeps(LinesJournal):
        def retention(self):
            return Retention(age=0.0)

    for _ in range(2):
        with TaskOrchestrator(journal=Keeps(tmp_path / "runs")) as orch:
            orch.submit_task(Task.call(len, "x", id="one")).result(PATIENCE)
    assert orch.get_task_status("one").state == "completed"


class Forgets(LinesJournal):
    """A journal of one's own that can leave something out."""

    def retention(self):
        return Retention(most=2)

    def forget(self, epoch, ids):
        known = list(self.read())
        left = [
            (event, value)
            for event, value in known
            if len(event) < 4 or not isinstance(event[3], str) or event[3] not in ids
        ]
        fresh = LinesJournal(self.path.with_suffix(".new"))
        numbers = fresh.claim()
        for entry in left:
            fresh.append(numbers, [entry])
        fresh.close()
        self.gone = len(known) - len(left)
        self.left = left
        return 0


def test_another_journal_is_asked_with_the_tasks_that_may_go(tmp_path):
    with TaskOrchestrator(journal=LinesJournal(tmp_path / "runs")) as orch:
        for number in range(5):
            orch.submit_task(Task.call(len, "x", id=f"{number}")).result(PATIENCE)
    journal = Forgets(tmp_path / "runs")
    with TaskOrchestrator(journal=journal):
        pass
    assert journal.gone == 9


@pytest.mark.parametrize("point", ["forget", "rests", "forgotten", "smaller"])
def test_what_fails_on_the_way_leaves_all_or_nothing(point, tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    many(path, 50)
    monkeypatch.setattr(_file, "_FREE_PAGES", 0)
    monkeypatch.setattr(_file, "_FREE_SHARE", 0)

    def strike(reached):
        if reached == point:
            raise OSError(28, "no space left on device")

    _points.install_fault(strike)
    try:
        with pytest.raises(JournalError, match="no space left"):
            pruned(path, Retention(most=20))
    finally:
        _points.install_fault(None)
    assert SqliteJournal(path).verify()
    assert len(ids(path)) == (50 if point in ("forget", "rests") else 20)
    many(path, 1, start=100)
    assert SqliteJournal(path).verify()
