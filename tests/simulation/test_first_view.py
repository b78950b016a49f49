"""The first view of the dashboard, of work in virtual time, which begins on 2026-01-01."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from taskorch import Task
from taskorch.cli._first_view import Picture, items, left_out
from taskorch.reading._nights import RunViews
from taskorch.reading._runs import BROKEN, RunIndex
from taskorch.testing import Outcome, Simulation

HOUR = 3_600.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Board:
    """The lines of the runs of a simulation, as of its present time."""

    is_reading = False

    def __init__(self, sim):
        self._sim = sim
        self._index = RunIndex()
        self._taken = 0

    def now(self):
        return int((BEGIN + self._sim.now) * 1e9)

    @contextmanager
    def runs(self):
        events = self._sim.events
        for event in events[self._taken :]:
            self._index.take(event)
        self._taken = len(events)
        yield self._index


def views_of(sim, holds=()):
    stats = SimpleNamespace(holds=holds)
    orch = SimpleNamespace(_questions=sim.questions, get_stats=lambda: stats)
    board = Board(sim)
    return RunViews(lambda: orch, lambda: board, live=False), board


def simulation():
    sim = Simulation(concurrency=100)
    sim.agent("able", capabilities=["job", "ill"], max_concurrency=None)
    return sim


def points(view):
    return [each["text"] for each in view["verdict"]["points"]]


@pytest.mark.parametrize("many", [1, 25, 26, 60])
def test_what_is_told_in_numbers_is_counted_before_the_lists_are_cut(many):
    """The law of this view: what is shown and what is left out are all that there is."""
    sim = simulation()
    # The first run of each schedule completes, and the second one goes on and on.
    sim.work("job", lambda task, *_: 10.0 if "T0100Z" in task.id else 100 * HOUR)
    letters = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"][:many]
    for each in letters:
        sim.schedules.add(each, "every 1h", Task("job"))
        error = ValueError(f"no {each}")
        sim.submit_task(Task("ill", id=f"ill-{each}"), Outcome(1, error=error))
        sim.submit_task(Task.question(f"{each}?", id=f"asked-{each}"))
    sim.run(until=2.5 * HOUR)

    view = views_of(sim)[0].nights(by="ticks")

    verb = "s" if many == 1 else ""
    runs, tasks, asked = (
        f"{many} {noun}{'' if many == 1 else 's'}"
        for noun in ("run", "task", "question")
    )
    assert points(view) == [
        f"{tasks} failed and {'is' if many == 1 else 'are'} not mended",
        f"{asked} wait{verb} for a person",
        f"{runs} take{verb} much longer than usual",
    ]
    picture = Picture("a journal", view, None, (), is_live=False)
    shown = [*items(picture)]
    rest = left_out(picture)
    for kind, noun in (
        ("task", "failure"),
        ("question", "question"),
        ("run", "slow run"),
    ):
        here = sum(each.kind == kind for each in shown)
        more = many - here
        plural = "" if more == 1 else "s"
        assert here == min(many, 25), kind
        assert (f"{more} more {noun}{plural}" in rest) == (more > 0), rest


def test_of_failures_that_are_too_many_to_be_kept_it_is_said_that_there_may_be_more():
    views, board = views_of(simulation())
    with board.runs() as index:
        for number in range(BROKEN - 1):
            index.fail(f"t{number}", 1, ("OSError", "full"), is_own=True)
    assert points(views.nights()) == ["9,999 tasks failed and are not mended"]
    for number in range(BROKEN + 5):
        index.fail(f"t{number}", 1, ("OSError", "full"), is_own=True)
    assert points(views.nights()) == ["at least 10,000 tasks failed and are not mended"]
