"""
What a journal has noted of runs, and the events after it, is what all events say.

The worlds are those of summaries, of random workflows and of schedules. Their events
are kept in a file in random groups, notes are made at random moments, and some tasks
are forgotten. Whoever asks is told what a fold of all that is kept says.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from random import Random
from unittest.mock import Mock

import pytest
from tests.house.tools.explore import explore
from tests.worlds.simulation.test_summaries import world

from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _lines
from taskorch.errors import NotRunningError
from taskorch.events import TaskCompleted, TaskSubmitted
from taskorch.ext.service._board import Board
from taskorch.ext.views import JournalReader
from taskorch.ext.views._runs import RUNS
from taskorch.model.ids import run_by, stem_of

#: After all that happens.
LATER = 10**20


def summaries(seed):
    events, _, _ = world(seed)
    return events


def workflows(seed):
    return explore(seed, check=False, workflows=True).events


def rooms(seed):
    return explore(seed, check=False, rooms=True).events


def tasks(seed):
    return explore(seed, check=False).events


def of_line(line):
    """All that a line says, and what it says of time."""
    counts = {state: many for state, many in line.counts.items() if many}
    return (
        *(line.run_id, line.is_workflow, line.submitted_ns, line.schedule),
        *(line.slot_ns, line.by, line.zone, line.started_ns, line.ended_ns),
        *(line.total, line.reruns, line.open, line.held, counts, line.working),
        *(list(line.errors.items()), line.seconds(LATER), line.is_cut),
        *(line.tenants, line.definition, line.state),
    )


def picture(board):
    """All that a board says of runs, and its timeline."""
    with board.runs() as index:
        schedules = {
            name: (
                [line.run_id for line in each.runs],
                [*each.skips],
                *(each.waiting, each.zone, each.is_removed, each.usual()),
            )
            for name, each in index.schedules.items()
        }
        lines = {run_id: of_line(line) for run_id, line in index.lines.items()}
        broken = list(index.broken.items()), index.unmended, index.causes
    return list(lines), lines, schedules, broken, board.timeline(0, 0, 99, 9, LATER)


def of_all(path):
    board = Board()
    for event in JournalReader(path).happened():
        board.take(event, None)
    return board


def of_notes(path):
    """What notes and the events after them say; and how many lines are noted."""
    reader, board, stopped = JournalReader(path), Board(), Mock()
    stopped.follow.side_effect = NotRunningError("")
    board.follow(stopped, journal=reader)
    noted = reader._journal.noted_runs(RUNS)
    return board, noted and len(noted.lines)


def compare(path):
    board, many = of_notes(path)
    assert picture(board) == picture(of_all(path))
    return many


def forget_some(journal, epoch, events, random):
    """Some of what has completed goes, at times with all of its run."""
    runs = {
        event.task_id: run_by(event.task_id, event.run)
        for event in events
        if type(event) is TaskSubmitted
    }
    ended = [each.task_id for each in events if type(each) is TaskCompleted]
    names = set(random.sample(ended, min(len(ended), random.randrange(1, 4))))
    if random.random() < 0.5:
        of = {runs[name] for name in names if runs.get(name)}
        names |= {name for name, run in runs.items() if run in of}
    stems = {stem_of(name) for name in names}
    names = {name for name in runs if stem_of(name) in stems}
    if names:
        journal.forget(epoch, names)


def keep(path, events, random, monkeypatch):
    """Keep *events*, note them and forget some, and compare; how many were noted."""
    monkeypatch.setattr(_lines, "LENGTH", random.choice((1, 7, 40)))
    monkeypatch.setattr(_lines, "AT_ONCE", random.choice((10, 60, 500)))
    forgets, place, many = random.random() < 0.4, 0, 0
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        while place < len(events):
            some = events[place : place + random.choice((1, 3, 20, 60))]
            place += len(some)
            journal.append(epoch, [(event, None) for event in some])
            if random.random() < 0.4:
                journal.save(epoch, journal.last, {"tasks": []})
            if forgets and random.random() < 0.05:
                forget_some(journal, epoch, events[:place], random)
            if random.random() < 0.3 or place == len(events):
                many += compare(path)
    return many


def look(tmp_path, monkeypatch, make, seeds):
    many = 0
    for seed in seeds:
        path, random = tmp_path / f"{make.__name__}-{seed}.db", Random(seed)
        try:
            many += keep(path, make(seed), random, monkeypatch)
        except AssertionError as error:
            error.add_note(f"{make.__name__} {seed}")
            raise
    return many


MAKERS = [summaries, workflows, rooms, tasks]


@pytest.mark.parametrize("make", MAKERS)
def test_notes_say_what_all_events_say(tmp_path, monkeypatch, make):
    assert look(tmp_path, monkeypatch, make, range(2))


@pytest.mark.slow("what is rare among random worlds")
@pytest.mark.parametrize("make", MAKERS)
def test_notes_say_what_all_events_say_at_length(tmp_path, monkeypatch, make):
    assert look(tmp_path, monkeypatch, make, range(2, 105))


def test_a_death_in_the_middle_of_a_note_leaves_what_was_noted(tmp_path, monkeypatch):
    """Events and notes of them are of one transaction each: half of one is none."""
    monkeypatch.setattr(_lines, "LENGTH", 1)
    events, path, random = summaries(3), tmp_path / "runs.db", Random(3)
    statements = ("_SETTLE", "_LEAVES_REST", "_RESTS", "_NOTE", "_TOLD", "_REACHED")
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for place in range(0, len(events), 9):
            journal.append(
                epoch, [(event, None) for event in events[place : place + 9]]
            )
            name = random.choice(statements)
            with pytest.MonkeyPatch.context() as patch:
                if random.random() < 0.6:
                    patch.setattr(_lines, name, f"{getattr(_lines, name)} no SQL")
                with suppress(Exception):
                    journal.save(epoch, journal.last, {"tasks": []})
            compare(path)
    assert compare(path)


def test_nothing_is_folded_that_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(_lines, "LENGTH", 1)
    events, path = summaries(1), tmp_path / "runs.db"
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        journal.append(epoch, [(event, None) for event in events])
        journal.save(epoch, journal.last, {"tasks": []})
        noted = JournalReader(path)._journal.noted_runs(RUNS)
    assert noted is not None
    settled = sum(line.total for line in noted.lines)
    assert noted.last == len(events)
    assert settled
    assert len(noted.entries) < len(events) - 2 * settled
    with closing(sqlite3.connect(path)) as db:
        ((rest,),) = db.execute("SELECT count(*) FROM rest").fetchall()
    assert rest + settled >= sum(type(event) is TaskSubmitted for event in events)
