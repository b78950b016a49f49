"""What is made again and again, in virtual time, which begins on 2026-01-01."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import Task, TaskState, Workflow, workflow as written_by
from taskorch.api.workflows import current_workflow
from taskorch.errors import (
    InvalidTaskError,
    NotRunningError,
    UnknownTaskError,
    ValidationFailedError,
)
from taskorch.events import (
    ComponentFailed,
    ExtensionKept,
    ScheduleFired,
    ScheduleSkipped,
)
from taskorch.ext.views._runs import RunIndex
from taskorch.testing import Outcome, Simulation

HOUR = 3_600.0
pytest.importorskip("cronsim")


def simulation(seconds=1.0):
    sim = Simulation()
    sim.agent("able", capabilities=["job", "step"], max_concurrency=None)
    sim.work("job", seconds)
    return sim


def made(sim):
    return [a.task_id for a in sim.attempts]


def skipped(sim):
    return [
        (event.slots, event.reason)
        for event in sim.events
        if isinstance(event, ScheduleSkipped)
    ]


def test_a_tick_of_cron_and_one_of_a_distance_has_a_task_of_its_name():
    sim = simulation()
    sim.schedules.add("nightly", "0 3 * * *", Task("job"), zone="Europe/Berlin")
    sim.schedules.add("often", timedelta(hours=12), Task("job"))

    sim.run(until=25 * HOUR)

    assert made(sim) == [
        "nightly/2026-01-01T0200Z",
        "often/2026-01-01T1200Z",
        "often/2026-01-02T0000Z",
    ]
    fired = [event for event in sim.events if isinstance(event, ScheduleFired)]
    assert [event.task_id for event in fired] == made(sim)


@pytest.mark.parametrize(
    ("catch_up", "hours"),
    [("last", [1, 5, 6]), ("all", [1, 2, 3, 4, 5, 6]), ("none", [1, 6])],
)
def test_what_was_missed_while_nobody_was_here_is_caught_up_with_as_said(
    catch_up, hours
):
    sim = simulation()
    sim.schedules.add("h", "0 * * * *", Task("job"), catch_up=catch_up)
    sim.run(until=1.5 * HOUR)
    sim.crash(downtime=4 * HOUR)

    sim.run(until=6.5 * HOUR)

    assert made(sim) == [f"h/2026-01-01T{hour:02}00Z" for hour in hours]
    missing = 6 - len(hours)
    assert sum(count for count, _ in skipped(sim)) == missing


def test_a_crash_at_any_moment_neither_doubles_a_tick_nor_loses_one():
    for event in range(8, 28):
        for stage in ("made", "sent", "kept", "told"):
            sim = simulation()
            sim.schedules.add("h", "0 * * * *", Task("job"), catch_up="all")
            sim.crash_at(event, stage, downtime=10.0)
            sim.run(until=3.5 * HOUR)
            tasks = [status.task_id for status in sim.tasks("completed")]
            assert tasks == [f"h/2026-01-01T{hour:02}00Z" for hour in range(1, 4)]


def test_overlap_skips_queues_or_cancels():
    for overlap, states in {
        "skip": ["completed", "completed"],
        "queue": ["completed", "completed", "running", "pending"],
        "cancel": ["cancelled", "cancelled", "cancelled", "running"],
    }.items():
        sim = simulation(seconds=1.5 * HOUR)
        sim.schedules.add("h", "0 * * * *", Task("job"), overlap=overlap)
        sim.run(until=4.8 * HOUR)
        assert [str(status.state) for status in sim.tasks()] == states
        if overlap == "skip":
            assert skipped(sim) == [
                (1, "h/2026-01-01T0100Z has not ended"),
                (1, "h/2026-01-01T0300Z has not ended"),
            ]


def test_what_is_paused_makes_nothing_and_says_what_it_has_skipped():
    sim = simulation()
    sim.schedules.add("h", "0 * * * *", Task("job"))
    sim.run(until=1.5 * HOUR)
    assert sim.schedules.pause("h", "the disk is full")
    assert not sim.schedules.pause("h")
    sim.run(until=3.5 * HOUR)
    assert "It is paused: the disk is full." in sim.schedules.explain("h")
    sim.crash(downtime=60)
    sim.run(until=4.5 * HOUR)
    assert sim.schedules.resume("h")
    assert not sim.schedules.resume("h")
    sim.run(until=5.5 * HOUR)

    assert made(sim) == ["h/2026-01-01T0100Z", "h/2026-01-01T0500Z"]
    assert skipped(sim) == [(3, "it was paused: the disk is full")]


def test_trigger_backfill_next_list_and_remove():
    sim = simulation()
    status = sim.schedules.add("h", "0 * * * *", Task("job"), zone="Asia/Tokyo")
    assert status.next == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert [at.hour for at in sim.schedules.next("h", 3)] == [10, 11, 12]
    assert sim.schedules.trigger("h") == "h/2026-01-01T0000Z"
    filled = sim.schedules.backfill("h", "2025-12-31T20:00Z", "2025-12-31T22:00Z")
    sim.run(until=10)
    assert filled == [f"h/2025-12-31T{hour}00Z" for hour in (20, 21, 22)]
    # One after the other, as soon as it is seen that the one before has ended.
    starts = [a.start for a in sim.attempts]
    assert starts == pytest.approx([0.0, 0.0, 1.0, 2.0], abs=0.3)
    # What is filled once more has its tasks already.
    again = sim.schedules.backfill("h", "2025-12-31T20:00Z", "2025-12-31T22:00Z")
    sim.run(until=20)
    assert again == filled
    assert len(made(sim)) == 4
    assert [status.name for status in sim.schedules.list()] == ["h"]
    assert sim.schedules.remove("h")
    assert not sim.schedules.remove("h")
    sim.run(until=3 * HOUR)
    assert len(made(sim)) == 4
    with pytest.raises(UnknownTaskError, match="no schedule 'h'"):
        sim.schedules.status("h")


def test_jitter_puts_off_each_tick_within_its_seconds_and_always_alike():
    starts = []
    for _ in range(2):
        sim = simulation()
        for number in range(20):
            sim.schedules.add(f"s{number}", "0 1 * * *", Task("job"), jitter=600)
        sim.run(until=2 * HOUR)
        starts.append([a.start for a in sim.attempts])
    assert starts[0] == starts[1]
    assert len(set(starts[0])) > 15
    assert all(HOUR <= start < HOUR + 600 for start in starts[0])


def test_start_and_end_bound_the_ticks():
    sim = simulation()
    sim.schedules.add(
        "h",
        "0 * * * *",
        Task("job"),
        start="2026-01-01T02:00",
        end=datetime(2026, 1, 1, 4, tzinfo=UTC),
    )
    sim.run(until=10 * HOUR)
    assert [a.start / HOUR for a in sim.attempts] == [2, 3, 4]
    assert sim.schedules.status("h").next is None
    assert "no tick any more" in sim.schedules.explain("h")


def test_a_workflow_is_run_once_a_tick_and_not_while_the_last_goes_on():
    sim = simulation()
    sim.work("step", 1.2 * HOUR)
    wf = Workflow("etl")
    first = wf.add(Task("step", id="a"))
    wf.add(Task("step", id="b", after=[first]))
    sim.schedules.add("etl", "0 * * * *", wf)
    sim.run(until=2 * HOUR)
    sim.crash(downtime=60)
    sim.run(until=5.5 * HOUR)

    runs = list(dict.fromkeys(name.partition("/")[0] for name in made(sim)))
    # What it did when the orchestrator died begins anew.
    assert runs == ["etl-2026-01-01T0100Z", "etl-2026-01-01T0500Z"]


def test_what_is_refused_is_tried_again_and_said():
    sim = Simulation()
    sim.schedules.add("h", "0 1 * * *", Task("job"))
    sim.run(until=HOUR + 1)
    assert "was refused, and is tried again" in sim.schedules.explain("h")
    sim.agent("able", capabilities=["job"])
    sim.run(until=HOUR + 100)
    assert [str(s.state) for s in sim.tasks()] == [str(TaskState.COMPLETED)]


_INCARNATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from([61.0, 190.0])),
        st.tuples(st.just("crash"), st.sampled_from([5.0, 70.0, 200.0])),
        st.tuples(st.sampled_from(["breaks", "mended"]), st.just(0.0)),
    ),
    max_size=8,
)


def each_skipped(sim):
    """Each skipped tick of a schedule of each minute, and why."""
    done, minute = 0, 60 * 10**9
    for event in sim.events:
        if isinstance(event, ScheduleSkipped):
            first = max(done // minute + 1, event.slot_ns // minute - event.slots + 1)
            for number in range(first, event.slot_ns // minute + 1):
                yield datetime.fromtimestamp(number * 60, UTC).isoformat(), event.reason
        if isinstance(event, ScheduleFired | ScheduleSkipped):
            done = event.slot_ns


@settings(max_examples=examples(60), deadline=None)
@example("last", [("breaks", 0.0), ("run", 61.0), ("crash", 200.0)])
@given(st.sampled_from(["last", "none"]), _INCARNATIONS)
def test_each_skipped_tick_says_whether_it_was_refused_or_nobody_was_here(
    catch_up, steps
):
    """The function knows best: for which ticks it was called, and raised."""
    sim, raised, is_broken = simulation(), set[str](), False

    @written_by
    def flow(slot: str) -> None:
        current_workflow().add(Task("job", id="a"))
        if is_broken:
            raised.add(slot)
            raise KeyError("rows")

    sim.schedules.add("m", "every 1m", flow, catch_up=catch_up)
    for step, seconds in [*steps, ("mended", 0.0), ("run", 190.0)]:
        if step == "run":
            sim.run(until=sim.now + seconds)
        elif step == "crash":
            # What was found out by then is kept.
            sim.run(until=sim.now + 1.0)
            sim.crash(downtime=seconds)
            sim.run(until=sim.now + seconds + 1.0)
        else:
            is_broken = step == "breaks"
    assert not [event for event in sim.events if isinstance(event, ComponentFailed)]
    kept = [
        e for e in sim.events if isinstance(e, ExtensionKept) and e.key == "m/ticks"
    ]
    assert "refused" not in kept[-1].document
    for slot, reason in each_skipped(sim):
        why = "it was refused: flow raises KeyError: 'rows'"
        if slot not in raised:
            why = "nobody was here when they came"
        assert reason == why, slot


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("every 9999999999999d", "never comes"),
        ("61 * * * *", "the minute cannot be read"),
        ("* * * *", "it has 4 fields"),
        ("@reboot", "submit the task when the program begins"),
        ("@never", "there is no"),
        (0, "at least"),
        (float("nan"), "at least"),
        (True, "not True"),
        ("every 0s", "at least"),
    ],
)
def test_what_can_never_come_is_refused_at_once(when, said):
    with pytest.raises(InvalidTaskError, match=said):
        simulation().schedules.add("x", when, Task("job"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"zone": "Europe/Berlim"}, "did you mean 'Europe/Berlin'"),
        ({"zone": 1}, "a zone is named by a text"),
        ({"catch_up": "some"}, "catch_up is '"),
        ({"overlap": "both"}, "overlap is 'skip', 'queue' or 'cancel', not 'both'$"),
        ({"overlap": "skipp"}, "did you mean 'skip'"),
        ({"jitter": -1}, "jitter"),
        ({"start": "soon"}, "start is a moment"),
        ({"start": []}, "start is a datetime"),
        ({"start": 5, "end": 4}, "ends before it starts"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(InvalidTaskError, match=said):
        simulation().schedules.add("x", "0 3 * * *", Task("job"), **options)


def test_bad_names_and_works_are_refused():
    schedules = simulation().schedules
    for name in ("a/b", "", "a b"):
        with pytest.raises(InvalidTaskError, match="name of a schedule"):
            schedules.add(name, "0 3 * * *", Task("job"))
    with pytest.raises(InvalidTaskError, match="no id"):
        schedules.add("x", "0 3 * * *", Task("job", id="t"))
    with pytest.raises(InvalidTaskError, match="makes a Task"):
        schedules.add("x", "0 3 * * *", 5)


def runs(sim):
    """When each run began and ended, in hours."""
    found = {}
    for status in sim.tasks():
        run = status.task_id.partition("/")[0]
        first, last = found.get(run, (9e99, 0.0))
        begun = min([first, *(e.at for e in status.history if e.state == "running")])
        found[run] = (begun, max(last, status.history[-1].at))
    return found


@pytest.mark.slow("twelve hours of a queue")
@pytest.mark.parametrize("crash", [None, 2.5])
def test_runs_of_a_workflow_wait_for_each_other_if_they_are_to_queue(crash):
    sim = simulation()
    sim.work("step", 1.5 * HOUR)
    flow = Workflow("etl")
    flow.add(Task("step", id="a"))
    schedule = {"overlap": "queue", "catch_up": "all", "end": "2026-01-01T03:00"}
    sim.schedules.add("h", "0 * * * *", flow, **schedule)
    if crash is not None:
        sim.run(until=crash * HOUR)
        sim.crash(downtime=60)
    sim.run(until=12 * HOUR)

    assert [run for run, _ in runs(sim).items()] == [
        f"h-2026-01-01T{hour:02}00Z" for hour in (1, 2, 3)
    ]
    assert {str(status.state) for status in sim.tasks()} == {"completed"}
    times = sorted(runs(sim).values())
    assert all(a[1] <= b[0] for a, b in pairwise(times))
    assert skipped(sim) == []


def test_a_workflow_may_say_itself_when_it_runs():
    said = {"when": "0 * * * *", "overlap": "queue", "end": "2026-01-01T02:00"}
    document = {
        "workflow": "etl",
        "schedule": said,
        "tasks": {"a": {"type": "job"}},
    }
    flow = Workflow.from_dict(document)
    assert flow.schedule == said
    assert flow.to_dict()["schedule"] == said
    for add in (
        lambda sim: sim.schedules.add("h", None, flow),
        lambda sim: sim.schedules.add_document("h", {"workflow": document}),
    ):
        sim = simulation()
        status = add(sim)
        assert (status.when, status.overlap) == ("0 * * * *", "queue")
        sim.crash(downtime=60)
        sim.run(until=5 * HOUR)
        assert made(sim) == [f"h-2026-01-01T0{hour}00Z/a" for hour in (1, 2)]
    sim = simulation()
    # What is said where it is added goes before that.
    other = {"workflow": document, "when": "30 * * * *"}
    assert sim.schedules.add_document("h", other).when == "30 * * * *"
    with pytest.raises(InvalidTaskError, match="its workflow says when"):
        sim.schedules.add("o", None, flow, zone="Europe/Berlin")
    with pytest.raises(InvalidTaskError, match="does not say when"):
        sim.schedules.add("o", None, Workflow("other"))
    for wrong in ({}, {"when": "0 * * * *", "wehn": 1}, "0 * * * *"):
        with pytest.raises(ValidationFailedError, match="schedule"):
            Workflow.from_dict({**document, "schedule": wrong})
    never = Workflow.from_dict({**document, "schedule": {"when": "0 0 30 2 *"}})
    with pytest.raises(InvalidTaskError):
        sim.schedules.add("o", None, never)


@pytest.mark.parametrize(("away", "slots"), [(60, 1), (80, 0)])
def test_with_none_a_tick_is_made_that_is_late_by_less_than_a_minute(away, slots):
    sim = simulation()
    sim.schedules.add("h", "0 * * * *", Task("job"), catch_up="none")
    sim.run(until=HOUR - 15)
    sim.crash(downtime=away)
    sim.run(until=1.5 * HOUR)
    assert len(made(sim)) == slots


@pytest.mark.parametrize("crash", ["paused", "resumed", None])
def test_a_run_that_waits_while_it_is_paused_is_not_forgotten(crash):
    sim = simulation(162.0)
    flow = Workflow("etl")
    flow.add(Task("job", id="a"))
    options = {"overlap": "queue", "catch_up": "all", "end": "2026-01-01T00:05"}
    sim.schedules.add("m", "every 1m", flow, **options)
    sim.run(until=132)
    sim.schedules.pause("m")
    if crash == "paused":
        sim.crash(downtime=60)
    sim.run(until=198)
    sim.schedules.resume("m")
    if crash == "resumed":
        sim.crash(downtime=1)
    sim.run(until=1_200)

    names = made_runs(sim)
    minutes = [int(name.removeprefix("m-2026-01-01T00").rstrip("Z")) for name in names]
    (skip,) = skipped(sim)
    assert skip[1] == "it was paused: paused by the user"
    # What waits came before the pause, in this incarnation and in the next.
    assert (minutes, skip[0]) == ([1, 2, 4, 5], 1)


def made_runs(sim):
    """The runs of which something was begun, in the order in which they were."""
    return list(dict.fromkeys(name.partition("/")[0] for name in made(sim)))


def test_runs_of_a_workflow_are_cancelled_by_the_next_and_not_once_they_have_ended():
    sim = simulation()
    flow = Workflow("etl")
    flow.add(Task("job", id="a"))
    sim.work("job", 1.5 * HOUR)
    sim.schedules.add("long", "0 * * * *", flow, overlap="cancel")
    sim.work("step", 0.5 * HOUR)
    short = Workflow("short")
    short.add(Task("step", id="a"))
    sim.schedules.add("short", "0 * * * *", short, overlap="cancel")
    sim.run(until=3.2 * HOUR)

    states = {status.task_id: str(status.state) for status in sim.tasks()}
    assert states == {
        "long-2026-01-01T0100Z/a": "cancelled",
        "long-2026-01-01T0200Z/a": "cancelled",
        "long-2026-01-01T0300Z/a": "running",
        "short-2026-01-01T0100Z/a": "completed",
        "short-2026-01-01T0200Z/a": "completed",
        "short-2026-01-01T0300Z/a": "running",
    }


def test_all_that_came_while_it_was_paused_is_counted_however_many():
    sim = simulation()
    sim.schedules.add("s", "every 1s", Task("job"))
    sim.schedules.pause("s", "away")
    sim.run(until=20_000.5)
    sim.schedules.resume("s")
    sim.run(until=20_001.5)
    assert skipped(sim) == [(20_000, "it was paused: away")]
    assert made(sim) == ["s/2026-01-01T053321Z"]


def test_with_none_what_jitter_puts_off_is_not_late():
    sim = simulation()
    for number in range(10):
        options = {"catch_up": "none", "jitter": 1_200}
        sim.schedules.add(f"s{number}", "0 1 * * *", Task("job"), **options)
    sim.run(until=2 * HOUR)
    assert len(made(sim)) == 10
    assert skipped(sim) == []


def test_a_backfill_again_leaves_alone_what_has_not_ended():
    sim = simulation(HOUR)
    sim.schedules.add("h", "0 * * * *", Task("job"), end="2025-12-31T23:00")
    span = "2025-12-31T20:00", "2025-12-31T21:00"
    first = sim.schedules.backfill("h", *span)
    sim.run(until=1.5 * HOUR)
    # One has ended, and one runs.
    again = sim.schedules.backfill("h", *span, again=True)
    assert (list(again), list(again.already)) == (list(first), first[1:])
    sim.run(until=4 * HOUR)
    assert {str(status.state) for status in sim.tasks()} == {"completed"}
    assert sorted(made(sim)) == [first[0], f"{first[0]}~2", first[1]]


# -- what was decided survives a crash ---------------------------------------------------


def decisions(sim):
    """Of each slot, in hours or minutes, what was told: made, or skipped (the last)."""
    return [
        ("made", event.task_id) if isinstance(event, ScheduleFired) else skip_of(event)
        for event in sim.events
        if isinstance(event, ScheduleFired | ScheduleSkipped)
    ]


def skip_of(event):
    minute = event.slot_ns // (60 * 10**9) % 1_440
    return "skipped", event.slots, minute, event.reason


def minutes(*numbers):
    return [("made", f"m-2026-01-01T00{number:02}Z") for number in numbers]


def workflow():
    flow = Workflow("etl")
    flow.add(Task("job", id="a"))
    return flow


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("end", ["completed", "failed", "blocked", "cancelled"])
def test_a_run_that_waits_begins_at_the_moment_at_which_the_one_before_ends(end, crash):
    sim = simulation()
    error = ValueError("broken") if end in ("failed", "blocked") else None
    sim.work("job", Outcome(HOUR if end == "cancelled" else 90.0, error=error))
    flow = Workflow("etl")
    flow.add(Task("job", id="a"))
    if end == "blocked":
        # The run has ended once this cannot begin any more.
        flow.add(Task("job", id="b", after=["a"]))
    sim.schedules.add("m", "every 1m", flow, overlap="queue", end="2026-01-01T00:04")
    if crash:
        sim.run(until=130)
        sim.crash(downtime=1)
    for number in range(1, 5):
        sim.run(until=60 + 100 * number)
        if end == "cancelled":
            sim.workflows.cancel(f"m-2026-01-01T000{number}Z")
    sim.run(until=HOUR)

    assert made_runs(sim) == [name for _, name in minutes(1, 2, 3, 4)]
    runs = [each for each in sim.attempts if each.outcome != "died"]
    gaps = [after.start - before.end for before, after in pairwise(runs)]
    assert len(gaps) == 3
    assert max(gaps) < 0.01


def test_a_run_that_ends_as_it_begins_holds_nobody_up():
    sim = simulation()
    sim.work("job", lambda task, *_: 200.0 if "01Z" in task.id else 0.0)
    sim.schedules.add("m", "every 1m", workflow(), overlap="queue")
    sim.run(until=262)
    assert made_runs(sim) == [name for _, name in minutes(1, 2, 3, 4)]


@pytest.mark.parametrize("catch_up", ["all", "last", "none"])
@pytest.mark.parametrize("crash", [None, 190])
def test_a_tick_that_was_skipped_behind_one_that_waits_stays_skipped(catch_up, crash):
    sim = simulation(250.0)
    options = {"catch_up": catch_up, "end": "2026-01-01T00:03"}
    sim.schedules.add("m", "every 1m", workflow(), overlap="queue", **options)
    sim.run(until=130)
    sim.schedules.add("m", "every 1m", workflow(), overlap="skip", **options)
    if crash:
        sim.run(until=crash)
        sim.crash(downtime=30)
    sim.run(until=1_200)
    held = "m-2026-01-01T0001Z has not ended"
    assert decisions(sim) == [
        *minutes(1),
        ("skipped", 1, 3, held),
        *minutes(2),
    ]
    assert made_runs(sim) == [name for _, name in minutes(1, 2)]


@pytest.mark.parametrize("catch_up", ["all", "last", "none"])
def test_what_waits_when_an_incarnation_ends_is_made_and_only_what_was_missed_is_caught_up_with(
    catch_up,
):
    sim = simulation(250.0)
    options = {"catch_up": catch_up, "end": "2026-01-01T00:06"}
    sim.schedules.add("m", "every 1m", workflow(), overlap="queue", **options)
    sim.run(until=190)
    # Two wait; three come while nobody is here.
    sim.crash(downtime=180)
    sim.run(until=4_000)
    nobody = "nobody was here when they came"
    assert (
        decisions(sim)
        == {
            "all": [*minutes(1, 2, 3, 4, 5, 6)],
            "last": [*minutes(1), ("skipped", 2, 5, nobody), *minutes(2, 3, 6)],
            "none": [*minutes(1), ("skipped", 2, 5, nobody), *minutes(2, 3, 6)],
        }[catch_up]
    )


def test_a_schedule_that_is_removed_says_what_of_it_will_not_come():
    sim = simulation(250.0)
    why = "the schedule was removed"
    sim.schedules.add("q", "every 1m", workflow(), overlap="queue")
    sim.schedules.add("p", "every 1m", Task("job"))
    sim.schedules.pause("p")
    sim.schedules.add("j", "0 * * * *", Task("job"), jitter=3_000)
    sim.run(until=190)
    assert sim.schedules.remove("q")
    assert sim.schedules.remove("p")
    sim.run(until=HOUR + 1)
    assert sim.schedules.remove("j")
    sim.crash()
    sim.run(until=HOUR + 500)
    assert skipped(sim) == [(2, why), (3, why), (1, why)]
    assert len(made(sim)) == 1
    assert sim.schedules.list() == []


def test_other_times_say_that_a_tick_which_was_put_off_is_passed_over():
    sim = simulation()
    sim.schedules.add("j", "0 * * * *", Task("job"), jitter=3_000)
    sim.run(until=HOUR + 1)
    sim.schedules.add("j", "30 * * * *", Task("job"))
    sim.run(until=1.9 * HOUR)
    assert skipped(sim) == [(1, "its times were changed before")]
    assert made(sim) == ["j/2026-01-01T0130Z"]


@pytest.mark.parametrize("between", ["nothing", "crash", "another"])
@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel"])
def test_what_a_backfill_has_made_is_not_skipped_and_not_made_again(overlap, between):
    sim = simulation(100.0)
    sim.schedules.add("h", "0 * * * *", Task("job"), overlap=overlap)
    sim.schedules.pause("h")
    sim.run(until=4.2 * HOUR)
    sim.schedules.backfill("h", "2026-01-01T02:00", "2026-01-01T03:00")
    sim.run(until=4.25 * HOUR)
    if between == "crash":
        sim.crash()
        sim.run(until=4.3 * HOUR)
    elif between == "another":
        sim.schedules.backfill("h", "2026-01-01T04:00", "2026-01-01T04:00")
        sim.run(until=4.3 * HOUR)
    hours = (2, 3, 4, 5) if between == "another" else (2, 3, 5)
    sim.schedules.resume("h")
    sim.run(until=5.5 * HOUR)
    passed_over = 5 - len(hours)
    assert skipped(sim) == [(passed_over, "it was paused: paused by the user")]
    names = [f"h/2026-01-01T0{hour}00Z" for hour in hours]
    assert [told for told in decisions(sim) if told[0] == "made"] == [
        ("made", name) for name in names
    ]
    assert [status.task_id for status in sim.tasks("completed")] == names


def test_a_tick_that_was_put_off_and_filled_is_not_cancelled_by_its_own_time():
    sim = simulation(HOUR)
    sim.schedules.add("j", "0 1 * * *", Task("job"), jitter=3_000, overlap="cancel")
    sim.run(until=HOUR + 1)
    (name,) = sim.schedules.backfill("j", "2026-01-01T01:00", "2026-01-01T01:00")
    sim.run(until=4 * HOUR)
    assert decisions(sim) == [("made", name)]
    assert [status.task_id for status in sim.tasks("completed")] == [name]


def test_a_tick_is_skipped_behind_one_that_waits_for_whatever_it_waits():
    sim = Simulation()
    sim.schedules.add("m", "every 1m", workflow(), catch_up="all")
    sim.run(until=30)
    sim.crash(downtime=120)
    # Two wait, since nobody can do the first; then comes a third.
    sim.run(until=200)
    held = "m-2026-01-01T0001Z has not ended"
    assert decisions(sim) == [("skipped", 1, 3, held)]
    sim.agent("able", capabilities=["job"])
    sim.run(until=239)
    assert made_runs(sim) == [name for _, name in minutes(1, 2)]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_clock_that_is_set_far_back_holds_nothing_up_and_doubles_nothing(steps):
    sim = simulation()
    sim.schedules.add("s", "every 10m", Task("job"))
    sim.run(until=2 * HOUR + 1)
    for step in range(steps):
        sim.set_clock(-6 * HOUR / steps * (step + 1))
        sim.run(until=2 * HOUR + 2 + step)
    first = {*made(sim)}
    sim.run(until=3 * HOUR + 5)
    assert len(made(sim)) == len(first) + 6
    sim.crash(downtime=60)
    # The times of before come again.
    sim.run(until=7.6 * HOUR)
    assert len({*made(sim)}) == len(made(sim))
    names = [name for kind, name, *_ in decisions(sim) if kind == "made"]
    assert sorted(names) == sorted(made(sim))
    assert "was set back" in sim.schedules.explain("s")
    again = "it was made before the system's clock was set back"
    assert {reason for _, reason in skipped(sim)} <= {again}


def test_ticks_that_a_program_that_was_held_up_has_missed_are_said_to_be_that():
    """It was here, so that nobody looks for a program that did not run."""
    sim = simulation()
    sim.schedules.add("s", "every 10m", Task("job"))
    sim.run(until=HOUR + 1)
    sim.set_clock(3 * HOUR)
    sim.run(until=HOUR + 2)
    [(count, reason)] = skipped(sim)
    assert count == 17
    assert reason.endswith("the program was held up, or the clock was set")


@pytest.mark.parametrize("then", ["resume", "other times", "remove"])
def test_what_was_made_and_not_noted_is_not_passed_over_as_skipped(then):
    sim = simulation()
    sim.schedules.add("h", "0 * * * *", Task("job"))
    sim.schedules.pause("h")
    sim.run(until=2.5 * HOUR)
    # It dies when the tasks are kept, and nobody has noted which slots have them.
    sim.crash_at(sim.events[-1].seq + 1, "kept")
    with suppress(NotRunningError):
        sim.schedules.backfill("h", "2026-01-01T01:00", "2026-01-01T02:00")
    sim.run(until=2.6 * HOUR)
    if then == "resume":
        sim.schedules.resume("h")
    elif then == "remove":
        sim.schedules.remove("h")
    else:
        sim.schedules.add("h", "30 * * * *", Task("job"))
    names = [f"h/2026-01-01T0{hour}00Z" for hour in (1, 2)]
    assert decisions(sim) == [("made", name) for name in names]
    assert made(sim) == names


@pytest.mark.parametrize("when", ["0 * * * *", "30 * * * *"])
def test_a_program_that_adds_a_paused_schedule_again_does_not_resume_it(when):
    sim = simulation()
    sim.schedules.add("h", "0 * * * *", Task("job"))
    sim.schedules.pause("h", "the disk is full")
    sim.run(until=1.7 * HOUR)
    sim.crash()
    sim.run(until=1.8 * HOUR)
    # As each incarnation of it does.
    status = sim.schedules.add("h", when, Task("job"))
    assert status.paused == "the disk is full"
    sim.run(until=4 * HOUR)
    assert made(sim) == []


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel"])
def test_a_tick_keeps_how_far_it_came_and_not_what_the_schedule_is(overlap):
    """A tick keeps one event beside the one that tells of it, at most, and a short one."""
    sim = simulation(1.5 * HOUR)
    flow = Workflow("flow")
    flow.add(Task("job", id="a"))
    sim.schedules.add("h", "0 * * * *", flow, overlap=overlap)
    sim.run(until=6.5 * HOUR)
    events = sim.events
    kept = [e for e in events if isinstance(e, ExtensionKept)]
    ticks = [e for e in kept if e.key == "h/ticks"]
    assert [e.key for e in kept if e not in ticks] == ["h"]
    told = [e for e in events if type(e).__name__.startswith("Schedule")]
    assert 6 < len(ticks) <= len(told)
    assert max(len(e.document) for e in ticks) < 100


def test_a_page_knows_which_ticks_wait_from_what_is_kept():
    """Also if what told of them has left the journal; and a schedule that is gone."""
    sim = simulation(2.5 * HOUR)
    flow = Workflow("flow")
    flow.add(Task("job", id="a"))
    sim.schedules.add("h", "0 * * * *", flow, overlap="queue", zone="Europe/Berlin")
    sim.run(until=3.25 * HOUR)
    index = RunIndex()
    for event in sim.events:
        if isinstance(event, ExtensionKept):
            index.take(event)
    line = index.schedules["h"]
    hours = [datetime.fromtimestamp(tick / 1e9, UTC).hour for tick in line.waiting]
    assert (hours, line.zone) == ([2, 3], "Europe/Berlin")
    heard = len(sim.events)
    sim.schedules.remove("h")
    for event in sim.events[heard:]:
        index.take(event)
    assert not index.schedules["h"].waiting
