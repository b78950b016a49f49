"""
Backfills in worlds of chance: bounded, in order, and through kills nothing lost or twice.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings, strategies as st

from taskorch import Task, Workflow
from taskorch.errors import InvalidTaskError, NotRunningError, UnknownTaskError
from taskorch.events import ExtensionKept, ScheduleFired
from taskorch.testing import Outcome, Simulation

HOUR = 3_600.0
#: Ten ticks that are past when a world begins.
SPAN = "2025-12-31T14:00", "2025-12-31T23:00"


def world(seconds=1.0, *, is_run=False, **options):
    sim = Simulation()
    sim.agent("able", capabilities=["job"], max_concurrency=None)
    sim.work("job", seconds)
    work = Task("job")
    if is_run:
        work = Workflow("flow")
        work.add(Task("job", id="a"))
    sim.schedules.add("h", "0 * * * *", work, **options)
    return sim


def name(hour, number=1, *, is_run=False, end=""):
    between, behind = ("-", "/a") if is_run else ("/", "")
    run = f"~{number}" if number > 1 else ""
    return f"h{between}2025-12-31T{hour:02}00Z{end}{behind}{run}"


def spans(sim):
    """When each task first ran, and ended, in s."""
    found = {}
    for status in sim.tasks():
        ran = [entry.at for entry in status.history if entry.state == "running"]
        if ran:
            found[status.task_id] = ran[0], status.history[-1].at
    return found


def most_at_once(ends):
    """How many of some spans have an instant in common, at most."""
    return max(sum(a <= begin < b for a, b in ends) for begin, _ in ends)


@pytest.mark.parametrize("is_run", [False, True])
@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("limit", [1, 3])
def test_so_many_run_at_a_time_in_order(is_run, order, limit):
    sim = world(is_run=is_run)
    filled = sim.schedules.backfill("h", *SPAN, limit=limit, order=order)
    assert len(filled) == 10
    assert len(sim.tasks()) == limit
    sim.run(until=40)
    ran = spans(sim)
    hours = range(14, 24) if order == "oldest" else range(23, 13, -1)
    names = [name(hour, is_run=is_run) for hour in hours]
    assert {*ran} == {*names}
    begins = [ran[each][0] for each in names]
    assert begins == sorted(begins)
    assert most_at_once([*ran.values()]) == limit
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.state, status.done, status.left) == ("done", 10, 0)
    assert status.ended is not None


@settings(max_examples=settings().max_examples // 10, deadline=None)
# It dies between what was made and what was noted.
@example(seconds=0.4, is_run=False, limit=2, again=True, kills=[(13, "kept")])
@example(seconds=0.4, is_run=True, limit=2, again=True, kills=[(13, "kept")])
@example(seconds=0.4, is_run=True, limit=2, again=False, kills=[(7, "kept")])
@given(
    seconds=st.sampled_from([0.4, 7.0]),
    is_run=st.booleans(),
    limit=st.integers(1, 4),
    again=st.booleans(),
    kills=st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["made", "sent", "kept", "told"])),
        max_size=3,
    ),
)
def test_through_kills_no_tick_is_lost_and_none_runs_twice(
    seconds, is_run, limit, again, kills
):
    through_kills(seconds, is_run, limit, again, kills)


@pytest.mark.slow("a kill between any two steps")
@pytest.mark.parametrize("is_run", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_kill_between_any_two_steps_loses_nothing(is_run, again):
    stages = ("made", "sent", "kept", "told")
    for events in range(1, 29, 2):
        stage = stages[events // 2 % 4]
        through_kills(0.4, is_run, 2, again, [(events, stage), (events + 1, "kept")])


def through_kills(seconds, is_run, limit, again, kills):
    sim = world(seconds, is_run=is_run)
    if again:
        sim.schedules.backfill("h", *SPAN, limit=10)
        sim.run(until=60)
    filled, asked = None, 0
    for events, stage in kills:
        sim.crash_at(sim.events[-1].seq + events, stage, downtime=2.0)
        if filled is None and sim.is_up:
            asked += 1
            with suppress(NotRunningError):
                filled = sim.schedules.backfill("h", *SPAN, limit=limit, again=again)
        sim.run(until=sim.now + 6.0)
    sim.run(until=sim.now + 1.0)
    if not sim.is_up:
        # The last kill has come late: after as many events as were asked for.
        sim.run(until=sim.now + 2.0)
    asked += filled is None
    sim.schedules.backfill("h", *SPAN, limit=limit, again=again and filled is None)
    sim.run(until=sim.now + 100.0)
    names = [name(hour, is_run=is_run) for hour in range(14, 24)]
    if again:
        runs = {status.task_id for status in sim.tasks()}
        second = {name(hour, 2, is_run=is_run) for hour in range(14, 24)}
        assert runs >= {*names, *second}
        # Who was not told whether it was kept asks for all of it once more.
        assert all(int(each.partition("~")[2] or 1) <= 1 + asked for each in runs)
    else:
        assert sorted(status.task_id for status in sim.tasks()) == names
        fired = [e.task_id for e in sim.events if isinstance(e, ScheduleFired)]
        assert sorted(fired) == sorted(each.removesuffix("/a") for each in names)
    for status in sim.schedules.backfills():
        counted = status.already + status.done + status.failed
        assert (status.state, counted) == ("done", status.ticks)
    assert {str(status.state) for status in sim.tasks()} == {"completed"}


def test_what_it_makes_is_in_no_ticks_way():
    for crash in (False, True):
        sim = world(50.0)
        sim.schedules.add("m", "* * * * *", Task("job"), overlap="skip")
        sim.schedules.backfill("m", "2025-12-31T23:50", "2025-12-31T23:59")
        if crash:
            sim.run(until=20)
            sim.crash()
        sim.run(until=200)
        own = [f"m/2026-01-01T000{minute}Z" for minute in (1, 2, 3)]
        assert {*own} <= {status.task_id for status in sim.tasks()}


def test_a_failed_run_is_counted_and_named_and_the_next_one_begins():
    sim = world()
    sim.work("job", Outcome(1.0, error=ValueError("no")))
    filled = sim.schedules.backfill("h", *SPAN)
    sim.run(until=60)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.state, status.done, status.failed) == ("done", 0, 10)
    assert status.failures == tuple(name(hour) for hour in range(14, 24))
    assert "10 failed" in str(status)


def test_or_it_pauses_and_goes_on_when_it_is_told_to():
    sim = world()
    sim.work("job", Outcome(1.0, error=ValueError("no")))
    filled = sim.schedules.backfill("h", *SPAN, stop_on_failure=True)
    sim.run(until=30)
    for incarnation in range(2):
        status = sim.schedules.backfill_status(filled.backfill_id)
        assert (status.state, status.failed, status.left) == ("paused", 1, 9)
        assert status.paused == f"{name(14)} failed"
        sim.crash()
        sim.run(until=60 + incarnation)
    assert len(sim.tasks()) == 1
    sim.work("job", 1.0)
    assert sim.schedules.resume_backfill(filled.backfill_id)
    assert not sim.schedules.resume_backfill(filled.backfill_id)
    sim.run(until=120)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.state, status.done, status.failed) == ("done", 9, 1)


@pytest.mark.parametrize("crash", [False, True])
def test_what_a_cancelled_one_has_not_begun_never_begins(crash):
    sim = world(5.0)
    filled = sim.schedules.backfill("h", *SPAN, limit=2)
    sim.run(until=7)
    assert sim.schedules.cancel_backfill(filled.backfill_id, reason="a typo")
    assert not sim.schedules.cancel_backfill(filled.backfill_id)
    if crash:
        sim.crash()
    sim.run(until=60)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.state, status.cancelled) == ("cancelled", "a typo")
    # What it had begun went on.
    assert (status.done, status.failed, status.left) == (4, 0, 0)
    assert len(sim.tasks("completed")) == len(sim.tasks()) == 4
    # They can be had by another one.
    sim.schedules.backfill("h", *SPAN, limit=9)
    sim.run(until=90)
    assert len(sim.tasks("completed")) == 10


def test_if_it_is_said_what_it_has_begun_is_cancelled_too():
    sim = world(5.0)
    filled = sim.schedules.backfill("h", *SPAN, limit=2)
    sim.run(until=7)
    assert sim.schedules.cancel_backfill(filled.backfill_id, running=True)
    sim.run(until=60)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.done, status.failed) == (2, 2)
    assert len(sim.tasks("cancelled")) == 2


def test_a_pause_holds_what_has_not_begun_through_a_crash():
    sim = world(5.0)
    filled = sim.schedules.backfill("h", *SPAN)
    assert sim.schedules.pause_backfill(filled.backfill_id, "the disk is full")
    assert not sim.schedules.pause_backfill(filled.backfill_id)
    sim.run(until=20)
    sim.crash()
    sim.run(until=60)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert (status.state, status.paused) == ("paused", "the disk is full")
    assert (status.done, status.left) == (1, 9)
    sim.schedules.resume_backfill(filled.backfill_id)
    sim.run(until=200)
    assert sim.schedules.backfill_status(filled.backfill_id).done == 10


def test_a_schedule_that_is_removed_takes_its_backfills_with_it():
    sim = world(5.0)
    filled = sim.schedules.backfill("h", *SPAN)
    sim.schedules.remove("h")
    sim.run(until=30)
    status = sim.schedules.backfill_status(filled.backfill_id)
    assert status.cancelled == "the schedule was removed"
    assert len(sim.tasks("completed")) == len(sim.tasks()) == 1
    sim.schedules.add("h", "0 * * * *", Task("job"))
    again = sim.schedules.backfill("h", *SPAN)
    assert again.backfill_id != filled.backfill_id


def test_a_clock_that_is_set_back_holds_none_up():
    sim = world(1.0)
    filled = sim.schedules.backfill("h", *SPAN)
    sim.run(until=2.5)
    sim.set_clock(-6 * HOUR)
    sim.run(until=60)
    assert sim.schedules.backfill_status(filled.backfill_id).done == 10


def test_hundreds_of_ticks_that_have_their_runs_are_passed_quickly():
    """And others begin behind them."""
    sim = world(0.1)
    sim.schedules.add("m", "every 1m", Task("job"))
    first = sim.schedules.backfill(
        "m", "2025-12-31T00:00", "2025-12-31T06:00", limit=1_000
    )
    sim.run(until=5)
    assert len(sim.tasks("completed")) == 361
    second = sim.schedules.backfill("m", "2025-12-31T00:00", "2025-12-31T06:01")
    assert second.already == tuple(first)
    sim.run(until=15)
    status = sim.schedules.backfill_status(second.backfill_id)
    assert (status.already, status.done) == (361, 1)


def test_the_latest_fifty_that_ended_are_kept_and_all_that_go_on():
    sim = world(0.1)
    sim.schedules.add("long", "0 * * * *", Task("slow"))
    goes_on = sim.schedules.backfill("long", *SPAN)
    for number in range(55):
        at = datetime(2025, 12, 1, number % 24, tzinfo=UTC)
        at = at.replace(day=1 + number // 24)
        sim.schedules.backfill("h", at, at)
        sim.run(until=sim.now + 1)
    ids = [status.backfill_id for status in sim.schedules.backfills()]
    assert ids == [f"h-backfill-{n}" for n in range(56, 6, -1)] + [goes_on.backfill_id]
    assert sim.schedules.backfills("long")[0].backfill_id == goes_on.backfill_id
    sim.crash()
    sim.run(until=sim.now + 1)
    assert [status.backfill_id for status in sim.schedules.backfills()] == ids


def test_it_says_what_cannot_be():
    sim = world()
    for options in ({"limit": 0}, {"limit": 1_001}, {"order": "random"}, {"by": 7}):
        with pytest.raises(InvalidTaskError):
            sim.schedules.backfill("h", *SPAN, **options)
    for act in ("cancel_backfill", "resume_backfill", "backfill_status"):
        with pytest.raises(UnknownTaskError, match="no backfill 'h-backfill-1'"):
            getattr(sim.schedules, act)("h-backfill-1")
    filled = sim.schedules.backfill("h", *SPAN, by="ada")
    with pytest.raises(InvalidTaskError, match="a reason is a text"):
        sim.schedules.pause_backfill(filled.backfill_id, "")
    assert sim.schedules.backfill_status(filled.backfill_id).by == "ada"
    assert "by ada" in str(sim.schedules.backfills()[0])
    kept = [e for e in sim.events if isinstance(e, ExtensionKept)]
    keys = {e.key for e in kept if e.extension == "backfills"}
    assert keys == {filled.backfill_id}
