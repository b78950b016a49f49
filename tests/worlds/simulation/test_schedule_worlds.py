"""
Schedules in worlds of chance, against models that are a page long.

A slot is made once or skipped with a reason, whatever is paused, added again, filled or
killed meanwhile; and nothing else is touched. Slots are an hour apart, and what is made
takes as long as is said: times never meet.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Task, Workflow
from taskorch.errors import NotRunningError, UnknownTaskError
from taskorch.events import ExtensionKept, ScheduleFired, ScheduleSkipped
from taskorch.ext.schedules import tick_name
from taskorch.kit.ticks import read_progress
from taskorch.testing import Simulation

HOUR = 3_600.0
SECOND = 10**9
BEGINNING = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * SECOND


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
        """An incarnation; what had begun begins anew."""
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


@settings(max_examples=examples(40), deadline=None)
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


@pytest.mark.slow("a kill between any two steps")
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("catch_up", ["last", "all"])
@pytest.mark.parametrize("length", [0.4, 1.4])
def test_a_kill_between_any_two_steps_changes_nothing(overlap, catch_up, length):
    for event in range(12, 60, 3):
        for stage in ("made", "sent", "kept", "told"):
            sim = world(length, overlap, catch_up)
            sim.crash_at(event, stage, downtime=10.0)
            sim.run(until=6.55 * HOUR)
            made, gone, skips = outcome(sim)
            assert len(made) + skips == 6
            if overlap != "skip":
                assert skips == 0
            if overlap == "cancel" and length > 1:
                assert gone == set(map(slot, range(1, 6)))
            elif overlap != "cancel":
                assert gone == set()


@pytest.mark.slow("many random worlds")
@settings(max_examples=examples(15), deadline=None)
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
        # What waited when an incarnation ended is caught up with by the last of it.
        assert len(runs) + skips >= 6
        assert "h-2026-01-01T0600Z" in runs
    ends = {}
    for status in sim.tasks():
        ran = [e.at for e in status.history if e.state == "running"]
        ends[status.task_id] = ran[0], status.history[-1].at
    assert all(a[1] <= b[0] for a, b in pairwise(sorted(ends.values())))


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_jitter_above_the_distance_of_two_ticks_loses_none(catch_up):
    sim = Simulation()
    sim.agent("able", capabilities=["job"], max_concurrency=None)
    sim.work("job", 0.01)
    options = {"jitter": 30, "catch_up": catch_up, "end": "2026-01-01T00:05:00"}
    sim.schedules.add("h", "every 10s", Task("job"), **options)
    sim.run(until=400)
    assert len(sim.tasks("completed")) == 30
    assert not [e for e in sim.events if isinstance(e, ScheduleSkipped)]


# -- anything, at any time ---------------------------------------------------------------


class Ledger:
    """
    What became of each slot, by what was told of it: the model of a schedule.

    Up to `done`, each slot is decided about; besides, some wait, and some were filled.
    """

    def __init__(self):
        self.seen, self.is_calm = 0, True
        self.ids = set()
        self.kept = {}
        self.forget()

    def forget(self):
        self.text = ""
        self.said, self.done, self.waiting, self.filled = None, 0, [], set()
        self.claims = {}

    def open(self, until):
        """Slots that are not decided about."""
        every = int(float(self.said["when"][6:-1]) * SECOND)
        until = min(until, int(self.said.get("end", 1e10) * 1e9))
        ticks = range((self.done // every + 1) * every, until + 1, every)
        apart = {*self.filled, *self.waiting}.union(*self.claims.values())
        return [s for s in ticks if s not in apart]

    def read(self, sim, wall):
        events, self.seen = sim.events[self.seen :], len(sim.events)
        for event in events:
            if isinstance(event, ExtensionKept):
                if event.extension == "schedules":
                    # None says what was said before.
                    assert self.kept.get(event.key, "") != event.document
                    self.kept[event.key] = event.document
                else:
                    self.claim(event)
            elif getattr(event, "name", "") == "h":
                getattr(self, type(event).__name__)(event, sim, wall)
        self.is_kept()

    def is_kept(self):
        """
        What was told, and no less and no more, is what another incarnation will know.
        """
        assert self.kept.get("h", "") == self.text
        ticks = self.kept.get("h/ticks", "")
        assert bool(ticks) == (self.said is not None)
        if ticks:
            came = read_progress(ticks)
            assert came.done_ns == self.done
            assert [*came.waiting] == self.waiting
            assert {*came.filled} == self.filled

    def ScheduleChanged(self, event, _, wall):
        if not event.document:
            # What had come and was not made was told.
            assert self.open(wall) == self.waiting == []
            self.forget()
            return
        said = json.loads(event.document)
        times = [each and (each["when"], each.get("end")) for each in (said, self.said)]
        if times[0] != times[1]:
            if self.said is not None:
                assert self.open(wall) == []
            assert abs(event.done_ns - max(self.done, wall)) < SECOND // 1_000
        elif event.done_ns != self.done:
            # The clock was set back far: what it shows comes again.
            assert event.done_ns < self.done - 3 * HOUR * SECOND
        self.text, self.said = event.document, said
        self.go_to(event.done_ns)

    def claim(self, event):
        """A backfill makes those of its slots that it has not decided about."""
        said = json.loads(event.document)
        every = int(float(said["times"][0][6:-1]) * SECOND)
        first = -(-said["since_ns"] // every) * every
        ticks = [*range(first, said["until_ns"] + 1, every)][: said["ticks"]]
        begins = [each[0] for each in said["runs"].values() if not each[3]]
        claimed = {} if said["cancelled"] else {*ticks[said["place"] :], *begins}
        self.claims[event.key] = claimed

    def ScheduleFired(self, event, *_):
        tick = event.slot_ns
        # No task is made, or told, twice.
        assert event.task_id not in self.ids
        self.ids.add(event.task_id)
        if event.by == "trigger":
            return
        if tick in self.waiting:
            self.waiting.remove(tick)
        elif event.by == "clock":
            # What an incarnation made that died over it is noted by the next, pause or
            # not.
            assert not (self.is_calm and self.said.get("paused"))
            self.decide(tick)
        elif tick > self.done:
            self.filled.add(tick)

    def ScheduleQueued(self, event, *_):
        options = self.said["overlap"], self.said["catch_up"]
        assert self.waiting or "queue" in options or "all" in options
        self.decide(event.slot_ns)
        self.waiting.append(event.slot_ns)

    def name_of(self, slot):
        return f"h{'-' if 'workflow' in self.said else '/'}{tick_name(slot)}"

    def decide(self, slot):
        # None before it is passed over.
        assert self.open(slot) == [slot]
        self.go_to(slot)

    def go_to(self, slot):
        self.done = slot
        self.filled = {tick for tick in self.filled if tick > slot}

    def ScheduleSkipped(self, event, sim, _):
        ticks = self.open(event.slot_ns)
        if event.reason.startswith("it was made before"):
            assert {*map(self.name_of, ticks)} <= {
                status.task_id.removesuffix("/a") for status in sim.tasks()
            }
        elif event.reason.endswith("has not ended"):
            assert (self.said["overlap"], len(ticks)) == ("skip", 1)
        elif event.reason.startswith("nobody was here"):
            assert self.said["catch_up"] != "all"
            assert not self.is_calm
        elif event.reason == "the schedule was removed":
            ticks += self.waiting
            self.waiting = []
        else:
            assert event.reason.startswith(("it was paused", "its times were changed"))
        # As many as there are: not one of them is silent.
        assert event.slots == len(ticks)
        assert event.slot_ns == max(ticks)
        self.go_to(max(self.done, event.slot_ns))


class World:
    """A schedule, and what befalls it."""

    def __init__(self, seconds):
        self.sim, self.ledger, self.ahead = Simulation(), Ledger(), 0.0
        self.sim.agent("able", capabilities=["job"], max_concurrency=None)
        self.sim.work("job", seconds)

    def wall(self):
        return BEGINNING + round((self.sim.now + self.ahead) * 1e9)

    def act(self, name, *args):
        if name in ("run", "clock", "dies"):
            getattr(self, name)(*args)
        elif self.sim.is_up:
            # It may die meanwhile, or be none.
            with suppress(NotRunningError, UnknownTaskError):
                getattr(self, name)(*args)
        self.ledger.read(self.sim, self.wall())
        said = self.ledger.said
        if self.sim.is_up and name in ("pause", "resume") and said is not None:
            assert bool(said.get("paused")) == (name == "pause")
        if self.sim.is_up and name == "remove":
            assert said is None

    def run(self, seconds):
        self.sim.run(until=self.sim.now + seconds)

    def dies(self, events, stage, downtime):
        self.ledger.is_calm = False
        self.sim.crash_at(self.sim.events[-1].seq + events, stage, downtime)

    def clock(self, hours):
        self.ledger.is_calm = False
        self.ahead += hours * 3_600.0
        self.sim.set_clock(self.ahead)

    def crash(self, downtime):
        self.ledger.is_calm = False
        self.sim.crash(downtime)

    def add(self, when, overlap, catch_up, is_run, end=None):
        work = Task("job")
        if is_run:
            work = Workflow("flow")
            work.add(Task("job", id="a"))
        options = {"overlap": overlap, "catch_up": catch_up, "end": end}
        self.sim.schedules.add("h", when, work, **options)

    def pause(self):
        self.sim.schedules.pause("h")

    def resume(self):
        self.sim.schedules.resume("h")

    def remove(self):
        self.sim.schedules.remove("h")

    def trigger(self):
        self.sim.schedules.trigger("h")

    def backfill(self, since, until):
        ends = [self.wall() / 1e9 - ago for ago in (since, until)]
        self.sim.schedules.backfill("h", min(ends), max(ends))

    def end(self):
        """Everybody has time to do what is to be done: then nothing is open."""
        end = self.wall() / 1e9 + 300.0
        for _ in range(3):
            # It may be dead, or die over this.
            self.act("run", 71.0)
            said = self.ledger.said
            if said is not None:
                self.act("resume")
                options = said["overlap"], said["catch_up"], "workflow" in said
                self.act("add", said["when"], *options, end)
        self.act("run", 4 * HOUR)
        ledger, sim = self.ledger, self.sim
        if ledger.said is not None:
            assert (ledger.waiting, ledger.open(self.wall())) == ([], [])
        tasks = {status.task_id for status in sim.tasks()}
        assert ledger.ids <= tasks | {name.partition("/")[0] for name in tasks}
        states = {str(status.state) for status in sim.tasks()}
        assert states <= {"completed", "cancelled"}


SPANS = st.floats(0.1, 90.0)
DOWN = st.sampled_from([0.02, 4.0, 70.0])
ADD = st.tuples(
    st.just("add"),
    st.sampled_from(["every 10s", "every 25s"]),
    st.sampled_from(OVERLAPS),
    st.sampled_from(CATCH_UPS),
    st.booleans(),
)
STAGES = st.sampled_from(["made", "sent", "kept", "told"])
ACTS = st.one_of(
    st.tuples(st.just("run"), SPANS),
    st.tuples(st.just("run"), SPANS),
    st.tuples(st.just("dies"), st.integers(1, 12), STAGES, DOWN),
    st.tuples(st.just("crash"), DOWN),
    ADD,
    st.tuples(st.sampled_from(["pause", "resume", "remove", "trigger"])),
    st.tuples(st.just("clock"), st.sampled_from([-6.0, -2.0, -0.01, 0.01, 0.1])),
    st.tuples(st.just("backfill"), SPANS, SPANS),
)


def live(seconds, first, acts):
    world = World(seconds)
    for act in (first, *acts):
        world.act(*act)
    world.end()


WORLDS = {
    "seconds": st.sampled_from([3.1, 17.3, 44.7]),
    "first": ADD,
    "acts": st.lists(ACTS, max_size=25),
}


@settings(max_examples=examples(40), deadline=None)
# The clock is set back while a run waits; what is made is another kind from now on; a
# change is lost by a death.
@example(
    17.3,
    ("add", "every 10s", "queue", "none", True),
    [("run", 52), ("clock", -6.0), ("crash", 0.02), ("run", 77)],
)
@example(
    17.3,
    ("add", "every 10s", "cancel", "none", True),
    [("run", 69.3), ("add", "every 10s", "queue", "last", False)],
)
@example(
    3.1,
    ("add", "every 10s", "queue", "last", False),
    [
        ("add", "every 10s", "queue", "none", True),
        ("dies", 2, "sent", 0.02),
        ("add", "every 25s", "queue", "last", False),
        ("run", 71.7),
        ("backfill", 79.2, 0.7),
    ],
)
# What a backfill has made before its time is passed over when a later slot comes.
@example(
    3.1,
    ("add", "every 10s", "skip", "last", False),
    [("clock", 0.01), ("backfill", 1.0, 6.0)],
)
@given(**WORLDS)
def test_each_slot_is_made_once_or_skipped_and_told_or_still_to_come(
    seconds, first, acts
):
    live(seconds, first, acts)


@pytest.mark.slow("many random worlds")
@settings(max_examples=examples(200), deadline=None)
@given(**WORLDS)
def test_so_is_it_in_many_worlds(seconds, first, acts):
    live(seconds, first, acts)
