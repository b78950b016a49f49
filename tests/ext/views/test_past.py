"""A journal is read as it was at an event or a moment: what came later is not there."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from tests.ext.proofs.proving import InAFile, OnAServer, fail, forget
from tests.house.own_journal import LinesJournal

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal, open_journal
from taskorch.errors import InvalidTaskError, JournalTakenError, UnknownTaskError
from taskorch.ext.command_line import main
from taskorch.ext.views import JournalReader


@pytest.fixture(params=[InAFile, OnAServer], ids=lambda kind: kind.__name__)
def place(request, tmp_path, postgres):
    """Where a journal is that has seen some of all, in two incarnations."""
    place = request.param(tmp_path, postgres).place
    work(place)
    return place


def work(place):
    with TaskOrchestrator(journal=place) as orch:
        orch.submit_task(Task.call(abs, -1, id="good", idempotency_key="k")).result(60)
        orch.submit_task(Task.call(fail, id="bad"))
        orch.submit_task(Task.call(abs, -2, id="after", after=["bad"]))
        list(orch.map(abs, range(3)))
        orch.stop(drain=False)
    with TaskOrchestrator(journal=place) as orch:
        orch.submit_task(Task.call(abs, -3, id="late")).result(60)
        orch.stop(drain=False)


def said(reader):
    """What it says of all tasks, without what passes while it is said."""
    statuses = [
        {**status.to_dict(), "log_path": None, "duration": None}
        for status in reader.tasks()
    ]
    return statuses, reader.outcomes()


def test_it_is_what_a_journal_says_that_ended_then(place, tmp_path):
    entries = list(open_journal(place).read())
    for number in range(0, len(entries) + 1, 5):
        then = JournalReader(place, at=number)
        with closing(SqliteJournal(tmp_path / f"cut-{number}.db")) as cut:
            cut.append(cut.claim(), entries[:number])
        alone = JournalReader(tmp_path / f"cut-{number}.db")
        assert said(then) == said(alone)
        assert then.last == alone.last == number
        assert list(then.happened()) == [event for event, _ in entries[:number]]
        assert then.count() == alone.count()
        for name in ("good", "bad", "late"):
            try:
                events = alone.events(name)
            except UnknownTaskError:
                with pytest.raises(UnknownTaskError):
                    then.get_task_status(name)
            else:
                assert then.events(name) == events
                assert then.get_task_status(name).state is (
                    alone.get_task_status(name).state
                )


def test_a_moment_is_the_last_event_until_then(place):
    events = [event for event, _ in open_journal(place).read()]
    for event in events[::4]:
        moment = datetime.fromtimestamp(event.at_ns / 1e9, UTC)
        # A datetime has whole microseconds.
        later = moment + timedelta(microseconds=2)
        seen = JournalReader(place, at=later).last
        ns = int(later.timestamp()) * 10**9 + later.microsecond * 1_000
        assert seen == max(f.seq for f in events if f.at_ns <= ns)
    assert JournalReader(place, at=datetime(2000, 1, 1, tzinfo=UTC)).last == 0
    assert JournalReader(place, at=datetime(2999, 1, 1)).last == events[-1].seq  # noqa: DTZ001 - local


def test_who_had_it_open_then_is_said(place):
    events = [type(event).__name__ for event, _ in open_journal(place).read()]
    stop = events.index("OrchestratorStopped") + 1
    assert JournalReader(place, at=stop - 1).owner.lives is True
    assert JournalReader(place, at=stop).owner.lives is False
    assert JournalReader(place, at=stop).owner.epoch == 1
    assert JournalReader(place, at=0).owner.epoch == 0
    assert JournalReader(place, at=stop).uid == JournalReader(place).uid


def test_why_a_task_did_not_run_then(place):
    events = [event for event, _ in open_journal(place).read()]
    mine = [event.seq for event in events if getattr(event, "task_id", "") == "after"]
    explanation = JournalReader(place, at=mine[0]).explain("after")
    assert "bad" in str(explanation)


def test_what_is_no_event_and_no_moment_is_refused(place):
    for at in (-1, 10**6, 2.5, "yesterday", True):
        with pytest.raises(InvalidTaskError, match="at"):
            JournalReader(place, at=at)


def test_nothing_is_written_and_nothing_later_is_read(place):
    reader = JournalReader(place, at=4)
    journal = reader._journal
    for act in (
        journal.claim,
        lambda: journal.append(1, ()),
        lambda: journal.save(1, 1, {}),
    ):
        with pytest.raises(JournalTakenError, match="can only be read"):
            act()
    before = said(reader)
    work(place)
    assert said(reader) == before
    assert "as of event 4" in journal.description()


def test_what_was_left_out_since_is_said(place, capsys):
    last = JournalReader(place).last
    assert not JournalReader(place, at=last).has_left_out
    forget(place, "good")
    assert JournalReader(place, at=last).has_left_out
    assert not JournalReader(place, at=1).has_left_out
    with pytest.raises(UnknownTaskError):
        JournalReader(place, at=last).get_task_status("good")
    assert main(["inspect", place, "--at", str(last)]) == 0
    assert "Retention has left out some tasks since" in capsys.readouterr().err


def test_another_journal_is_read_as_it_was_too(tmp_path):
    journal = LinesJournal(tmp_path / "lines")
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.call(abs, -1, id="one")).result(60)
    whole = list(journal.read())
    reader = JournalReader(journal, at=len(whole) // 2)
    assert list(reader.happened()) == [f for f, _ in whole[: len(whole) // 2]]
    assert not reader.has_left_out
    moment = datetime.fromtimestamp(whole[-1][0].at_ns / 1e9 + 1, UTC)
    assert JournalReader(journal, at=moment).last == whole[-1][0].seq


def test_the_commands_show_it(tmp_path, capsys):
    place = str(tmp_path / "runs.db")
    work(place)
    assert main(["inspect", place, "--tasks", "--json", "--at", "4"]) == 0
    some = capsys.readouterr().out.splitlines()
    assert json.loads(some[0])["state"]
    assert main(["inspect", place, "--tasks", "--json", "--at", "2999-01-01"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > len(some)
    assert main(["inspect", place, "--at", "1h"]) == 0
    assert "0 tasks" in capsys.readouterr().out
    assert main(["inspect", place, "--at", "4"]) == 0
    assert "somebody had it open" in capsys.readouterr().out
    assert main(["explain", place, "good", "--at", "4"]) == 0
    for words in (
        ["inspect", place, "--at", "4", "--follow"],
        ["inspect", "http://127.0.0.1:9", "--at", "4"],
        ["inspect", place, "--at", "1000000"],
        ["serve", "app.py", "--at", "4"],
    ):
        assert main(words) == 2, words
