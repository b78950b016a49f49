"""Stopped for longer than it can know, and let go on again."""

import signal
import threading

import pytest
from tests.worlds.faults import ledger, lives, stages
from tests.worlds.faults.tools import PATIENCE, Process, await_program, is_alive

from taskorch import SqliteJournal, TaskOrchestrator
from taskorch.events import TaskStarted

pytestmark = pytest.mark.slow("processes that stand still for long")


def test_one_that_slept_through_all_its_timers_goes_on_and_starts_nothing_twice(
    tmp_path,
):
    journal = tmp_path / "journal.db"
    with Process(lives.with_timers, journal) as process:
        assert process.line() == "ready"
        process.hold()
        assert process.line(timeout=2 * lives.DELAY) is None
        process.send(signal.SIGCONT)

        end = process.line().split()
        assert process.wait() == 0, process.errors()

    assert [word.partition(":")[0] for word in end] == [
        "last=completed",
        "later=completed",
        "retried=completed",
        "timed=completed",
    ]
    began = [(task, int(attempt)) for task, _, attempt in ledger.of(journal, "began")]
    started = [
        (event[3], event[4])
        for event, _ in SqliteJournal(journal).read()
        if event[0] is TaskStarted
    ]
    assert sorted(began) == sorted(set(began)) == sorted(started)


def test_an_owner_that_wakes_up_after_another_took_over_writes_no_more(tmp_path):
    journal = tmp_path / "journal.db"
    with Process(lives.owner, journal) as old:
        assert old.line() == "ready"
        program = await_program(journal)
        old.hold()
        journal.with_name("go").touch()
        ledger.open_ledger(journal)

        new = TaskOrchestrator(journal=SqliteJournal(journal, take_over=True))
        with new:
            assert not is_alive(program)
            assert new.wait(PATIENCE)
            kept = len(list(SqliteJournal(journal).read()))
            old.send(signal.SIGCONT)

            said = [old.line().split(maxsplit=3) for _ in range(4)]
            assert old.wait() != 0
            assert "taken over" in old.errors()
            assert {what for word, what, *_ in said if word == "raised"} == {
                "until", "program", "next", "submit"
            }  # fmt: skip
            assert {kind for _, _, kind, _ in said} <= {
                "InternalError",
                "JournalTakenError",
            }
            assert all("taken over" in message for *_, message in said)
            states = {status.task_id: status.state for status in new.tasks()}
            assert states == dict.fromkeys(("until", "program", "next"), "completed")
            assert len(list(SqliteJournal(journal).read())) == kept
            assert new.submit(pow, 2, 3).result(PATIENCE) == 8
    fences = [words for words in ledger.of(journal, "began") if words[0] == "until"]
    assert fences == [["until", "1", "1"], ["until", "2", "2"]]


def test_what_a_busy_owner_has_accepted_before_another_took_over_is_there(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(stages, "over", threading.Event())
    journal = tmp_path / "journal.db"
    with Process(stages.submission, journal) as old:
        assert old.line() == "submission"

        found = stages.go_on(journal, take_over=True)

        assert old.wait() == 1
        assert "taken over" in old.errors()
    accepted = {task_id for (task_id,) in ledger.of(journal, "accepted")}
    assert accepted <= set(found)
    # Of those that it was never told of, it may have been one that was under way.
    assert len(set(found) - accepted) <= 1
    assert {status.state for status in found.values()} == {"completed"}
