"""
Schedules in worlds of chance, against a model that is a page long.

A slot is made once or skipped with a reason, whatever is paused, added again, filled or
killed meanwhile; and nothing else is touched. Slots are an hour apart, and what is made
takes as long as is said: times never meet.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskorch import Task, Workflow
from taskorch.events import ScheduleFired, ScheduleSkipped
from taskorch.testing import Simulation

HOUR = 3_600.0


class Model:
    """What becomes of each hour of one schedule."""

    def __init__(self, length, overlap, catch_up):
        self.length, self.overlap, self.catch_up = length, overlap, catch_up
        self.decided = 0
        #: Hours whose tasks have not ended, one after the other, and since when the
        #: first of them runs.
        self.open, self.since = [], 0.0
        self.made, self.skipped, self.cancelled = [], 0, set()

    def go_on(self, until):
        while self.open and self.since + self.length <= until:
            self.since += self.length
            del self.open[0]

    def look(self, now):
        """At *now* it is looked what is due."""
        self.go_on(now)
        due = [*range(self.decided + 1, int(now) + 1)]
        if not due:
            return
        self.decided = due[-1]
        if self.catch_up == "last" or (
            self.catch_up == "none" and now - due[-1] <= 1 / 60
        ):
            self.skipped += len(due) - 1
            due = due[-1:]
        elif self.catch_up == "none":
            self.skipped += len(due)
            return
        if self.overlap == "skip" and self.open and len(due) == 1:
            self.skipped += 1
            return
        if self.overlap == "cancel":
            self.cancelled.update(self.open)
            self.open = []
        if not self.open:
            self.since = now
        self.open += due
        self.made += due

    def live(self, begin, end):
        """A life; what had begun begins anew."""
        self.since = max(self.since, begin)
        self.look(begin)
        for hour in range(int(begin) + 1, int(end) + 1):
            self.look(float(hour))
        self.go_on(end)


def slot(hour):
    day, hour = divmod(hour, 24)
    return f"h/2026-01-{day + 1:02}T{hour:02}00Z"


def world(length, overlap, catch_up):
    sim = Simulation()
    sim.agent("able", capabilities=["job"], max_concurrency=None)
    sim.work("job", length * HOUR)
    sim.schedules.add("h", "every 1h", Task("job"), overlap=overlap, catch_up=catch_up)
    # The user's own, which no schedule has made: a word, and a time of no slot.
    for name in ("fix", "2026-01-01T0030Z", "2026-01-01T0100"):
        sim.submit_task(Task.wait_for("go", id=f"h/{name}"))
    return sim


OWN = {"h/fix", "h/2026-01-01T0030Z", "h/2026-01-01T0100"}


def outcome(sim):
    """The hours that were made, those that were cancelled, and how many were skipped."""
    states = {status.task_id: str(status.state) for status in sim.tasks()}
    assert {states.pop(name) for name in OWN} == {"blocked"}
    skips = sum(e.slots for e in sim.events if isinstance(e, ScheduleSkipped))
    fired = [e.task_id for e in sim.events if isinstance(e, ScheduleFired)]
    assert fired == [*dict.fromkeys(fired)]
    assert {*fired} == {*states}
    gone = {name for name, state in states.items() if state == "cancelled"}
    return {*states}, gone, skips


def agree(sim, model):
    made, gone, skips = outcome(sim)
    assert made == set(map(slot, model.made))
    assert gone == set(map(slot, model.cancelled))
    assert skips == model.skipped
    assert len(made) + skips == model.decided


OVERLAPS = ("skip", "queue", "cancel")
CATCH_UPS = ("last", "all", "none")


@settings(max_examples=40, deadline=None)
@example(length=0.21, overlap="skip", catch_up="none", lives=[(1.0, 1.5703125)])
@given(
    length=st.sampled_from([0.21, 0.73, 1.37, 2.61]),
    overlap=st.sampled_from(OVERLAPS),
    catch_up=st.sampled_from(CATCH_UPS),
    lives=st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.02, 5)), max_size=4),
)
def test_each_hour_is_made_or_skipped_as_the_model_says(
    length, overlap, catch_up, lives
):
    # To the third of an hour's hundredth: no time meets another.
    sim, model, now = (
        world(length, overlap, catch_up),
        Model(length, overlap, catch_up),
        0,
    )
    for up, down in [*lives, (3.0, None)]:
        begin, end = now, int(now + up) + 0.4441 + 0.0001 * len(model.made)
        end = max(end, begin + 0.01)
        model.live(begin, end)
        sim.run(until=end * HOUR)
        agree(sim, model)
        if down is not None:
            sim.crash(downtime=down * HOUR)
            now = end + down
            if now % 1 < 0.001 or now % 1 > 0.99:
                return


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("catch_up", ["last", "all"])
@pytest.mark.parametrize("length", [0.4, 1.4])
def test_a_kill_between_any_two_steps_changes_nothing(overlap, catch_up, length):
    for fact in range(12, 60, 3):
        for stage in ("made", "sent", "kept", "told"):
            sim = world(length, overlap, catch_up)
            sim.crash_at(fact, stage, downtime=10.0)
            sim.run(until=6.55 * HOUR)
            made, gone, skips = outcome(sim)
            assert len(made) + skips == 6
            if overlap != "skip":
                assert skips == 0
            if overlap == "cancel" and length > 1:
                assert gone == set(map(slot, range(1, 6)))
            elif overlap != "cancel":
                assert gone == set()


@settings(max_examples=15, deadline=None)
@given(
    length=st.sampled_from([0.21, 0.73, 1.37]),
    crashes=st.lists(st.floats(0.1, 2.9), max_size=3),
    down=st.sampled_from([0.03, 1.3]),
    catch_up=st.sampled_from(["last", "all"]),
)
def test_runs_that_queue_are_made_once_one_at_a_time_and_none_is_forgotten(
    length, crashes, down, catch_up
):
    sim = Simulation()
    sim.agent("able", capabilities=["job"], max_concurrency=None)
    sim.work("job", length * HOUR)
    flow = Workflow("flow")
    flow.add(Task("job", id="a"))
    options = {"overlap": "queue", "catch_up": catch_up, "end": "2026-01-01T06:00"}
    sim.schedules.add("h", "every 1h", flow, **options)
    now = 0.0
    for crash in crashes:
        now += crash
        sim.run(until=now * HOUR)
        sim.crash(downtime=down * HOUR)
        now += down
    sim.run(until=(now + 30) * HOUR)

    runs = {status.task_id.partition("/")[0] for status in sim.tasks("completed")}
    skips = sum(e.slots for e in sim.events if isinstance(e, ScheduleSkipped))
    assert len(sim.tasks()) == len(runs)
    fired = Counter(e.task_id for e in sim.events if isinstance(e, ScheduleFired))
    assert set(fired.values()) == {1}
    if catch_up == "all":
        assert (len(runs), skips) == (6, 0)
    else:
        # What waited when a life ended is caught up with by the last of it.
        assert len(runs) + skips >= 6
        assert "h-2026-01-01T0600Z" in runs
    ends = {}
    for status in sim.tasks():
        ran = [e.at for e in status.history if e.state == "running"]
        ends[status.task_id] = ran[0], status.history[-1].at
    assert all(a[1] <= b[0] for a, b in pairwise(sorted(ends.values())))


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_jitter_above_the_distance_of_two_slots_loses_none(catch_up):
    sim = Simulation()
    sim.agent("able", capabilities=["job"], max_concurrency=None)
    sim.work("job", 0.01)
    options = {"jitter": 30, "catch_up": catch_up, "end": "2026-01-01T00:05:00"}
    sim.schedules.add("h", "every 10s", Task("job"), **options)
    sim.run(until=400)
    assert len(sim.tasks("completed")) == 30
    assert not [e for e in sim.events if isinstance(e, ScheduleSkipped)]
