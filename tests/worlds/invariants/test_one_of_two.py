"""
One of two: a journal has one owner, however many want it at once.

What those who lost it told their callers is true in the file afterwards, and nobody gets
it from its owner who does not take it over.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.worlds.invariants import use
from tests.worlds.stress import delays

from taskorch import JournalTakenError, SqliteJournal, TaskorchError, TaskOrchestrator
from taskorch.errors import JournalUnavailableError
from taskorch.events import TaskCompleted, TaskSubmitted

#: Orchestrators that want it at one moment, and how often that happens.
RIVALS = 3
TIMES = 4


class Rival:
    """Takes a journal over, and uses it for as long as it has it."""

    def __init__(self, path: Any, seed: str, start: threading.Barrier) -> None:
        journal = SqliteJournal(path, durability="process", take_over=True)
        self.orch = TaskOrchestrator(journal=journal, concurrency=2, grace=1)
        self.user = use.Use(self.orch, seed, acts=["one", "batch", "map", "on_a_loop"])
        self.over = threading.Event()
        self.told: list[BaseException] = []
        self._start = start
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        self._start.wait(PATIENCE)
        try:
            self.orch.start()
            while not self.over.is_set() and self.orch.health().status != "failed":
                self.user.act()
        except (JournalTakenError, JournalUnavailableError):
            pass  # another has it, or has just made it
        except BaseException as error:
            self.told.append(error)

    def writes(self) -> bool:
        """Whether what is submitted to it is kept."""
        if not self.thread.is_alive():
            return False
        with suppress(TaskorchError):
            self.user.accepted.append(self.orch.submit(use.give, use.Thing(0)).task_id)
            return True
        return False

    def end(self) -> None:
        self.over.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.orch.stop(drain=False, timeout=PATIENCE)
        assert self.told == []


@pytest.mark.slow("rivals, again and again")
@pytest.mark.parametrize("seed", range(6))
def test_of_those_who_take_over_at_once_one_has_it(seed, tmp_path, monkeypatch):
    random, path = Random(seed), tmp_path / "runs.db"
    delays.plant(random, monkeypatch.setattr, chance=0.3)
    all_rivals: list[Rival] = []
    for time in range(TIMES):
        start = threading.Barrier(RIVALS)
        rivals = [Rival(path, f"{seed}/{time}/{n}", start) for n in range(RIVALS)]
        all_rivals += rivals
        # Who has lost it goes as soon as it wants to write.
        eventually(partial(at_most_one_lives, all_rivals))
        owners = [each for each in rivals if each.writes()]
        for each in all_rivals:
            if each not in owners:
                each.end()
        for owner in owners:
            # Those who have gone had no lock of its to let go of.
            with pytest.raises(JournalTakenError):
                SqliteJournal(path).claim()
            assert owner.writes()
    for each in all_rivals:
        each.end()
    check(path, all_rivals)


def at_most_one_lives(rivals: list[Rival]) -> bool:
    return sum(each.thread.is_alive() for each in rivals) <= 1


def check(path: Any, rivals: list[Rival]) -> None:
    """The file holds what callers were told, and its events are of one hand."""
    events = [event for event, _ in SqliteJournal(path).read()]
    assert [event[1] for event in events] == list(range(1, len(events) + 1))
    born = {event[3] for event in events if event[0] is TaskSubmitted}
    done = {event[3] for event in events if event[0] is TaskCompleted}
    for each in rivals:
        assert born >= set(each.user.accepted)
        assert done >= set(each.user.completed)
    assert born
