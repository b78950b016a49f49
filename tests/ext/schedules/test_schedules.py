"""Schedules of an orchestrator: its clock, its code, what it makes and what it says."""

from __future__ import annotations

import logging
import math
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st
from tests.api.tools import PATIENCE, eventually, part
from tests.house.tools.examples import examples

from taskorch import Task, TaskOrchestrator, TaskState, Workflow, current_context
from taskorch.errors import InvalidTaskError
from taskorch.events import ScheduleFired, ScheduleSkipped
from taskorch.ext.schedules._controller import ScheduleController
from taskorch.ext.views import JournalReader
from taskorch.ext.views._runs import RunIndex
from taskorch.kit.ticks import TickProgress, read_progress
from taskorch.model import MadeFor

HOUR = 3_600.0
IS_NO_MOMENT = r"is a (moment|datetime)"
#: All that a calendar has; without a zone, as it is in that of a schedule.
FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that can be written anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, name="nights"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        # Whoever looks for it now finds what was written.
        sys.modules.pop(name, None)

    yield write
    sys.modules.pop("nights", None)


def tick():
    return 1


def tell():
    context = current_context()
    return context.schedule, context.slot, dict(context.parameters)


def made(orch, name):
    return [s.task_id for s in orch.tasks() if s.task_id.startswith(f"{name}/")]


# -- what a task knows -----------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "process"])
def test_a_task_knows_its_schedule_its_tick_and_what_was_said(executor):
    with TaskOrchestrator() as orch:
        at = datetime(2026, 11, 24, 2, tzinfo=UTC)
        work = Task.call(tell, executor=executor)
        orch.schedules.add("s", "every 1h", work, zone="Europe/Berlin")
        (name,) = orch.schedules.backfill("s", at, at)
        schedule, tick, parameters = orch.handle(name).result(60)
        assert (schedule, tick, parameters) == ("s", at, {})
        assert tick.utcoffset() == timedelta(hours=1)
        by_hand = orch.schedules.trigger("s", {"table": "sales"})
        schedule, tick, parameters = orch.handle(by_hand).result(60)
        assert (schedule, parameters) == ("s", {"table": "sales"})
        assert abs(tick.timestamp() - time.time()) < 60
        assert orch.submit(tell).result(60) == (None, None, {})
        with pytest.raises(InvalidTaskError, match="parameters is a mapping"):
            orch.schedules.trigger("s", {1: 2})


# -- what is its own -------------------------------------------------------------------


@pytest.mark.parametrize("overlap", ["cancel", "skip", "queue"])
def test_what_the_user_has_made_is_not_touched_and_not_in_the_way(tmp_path, overlap):
    journal = str(tmp_path / "j.db")
    names = (
        "s/fix",
        "s/2026-01-01T0000",
        "s/2026-01-01T000000.5Z",
        "s-2026-01-01T0000Z",
    )
    for _ in range(2):
        with TaskOrchestrator(journal=journal) as orch:
            orch.schedules.add("s", "every 0.2s", tick, overlap=overlap)
            for name in names:
                orch.submit_task(Task.wait_for("go", id=name))
            goal = len(made(orch, "s")) + 3
            eventually(lambda goal=goal: len(made(orch, "s")) >= goal)
            assert orch.schedules.status("s").running[:1] not in [(n,) for n in names]
            states = {orch.get_task_status(name).state for name in names}
            assert states == {TaskState.BLOCKED}
            orch.stop(drain=False)


@pytest.mark.parametrize("overlap", ["cancel", "skip", "queue"])
def test_a_tick_that_has_its_task_keeps_it_though_that_was_not_noted(
    tmp_path, clock, overlap
):
    journal = str(tmp_path / "j.db")
    options = {"overlap": overlap, "catch_up": "all"}
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("s", "every 12h", tick, **options)
        ticks = orch.schedules.next("s", 2)
        names = [f"s/{moment:%Y-%m-%dT%H%MZ}" for moment in ticks]
        for moment, name in zip(ticks, names, strict=True):
            noted = MadeFor.note("s", moment, {})
            orch.submit_task(Task.wait_for("go", id=name, metadata=noted))
        orch.stop(drain=False)
    clock(24 * HOUR)
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("s", "every 12h", tick, **options)
        eventually(lambda: orch.schedules.status("s").done >= ticks[-1])
        states = {orch.get_task_status(name).state for name in names}
        assert states == {TaskState.BLOCKED}
        orch.stop(drain=False)
    events = JournalReader(journal).happened()
    assert [e.task_id for e in events if isinstance(e, ScheduleFired)] == names
    assert not [e for e in events if isinstance(e, ScheduleSkipped)]


# -- again and already -----------------------------------------------------------------


def test_a_backfill_says_what_was_done_and_does_it_again_if_it_is_asked_to():
    calls = []
    with TaskOrchestrator() as orch:
        orch.schedules.add("s", "every 1h", lambda: calls.append(1))
        span = "2026-01-01T00:00Z", "2026-01-01T03:00Z"
        events = orch.events(types=[ScheduleFired])
        first = orch.schedules.backfill("s", *span)
        assert (len(first), first.already) == (4, ())
        assert orch.wait(60)
        second = orch.schedules.backfill("s", *span)
        assert (list(second), list(second.already)) == (list(first), list(first))
        wider = orch.schedules.backfill("s", "2025-12-31T23:00Z", span[1])
        assert wider.already == tuple(first)
        assert orch.wait(60)
        assert len(calls) == 5
        again = orch.schedules.backfill("s", *span, again=True)
        assert again.already == ()
        assert orch.wait(60)
        assert len(calls) == 9
        assert [orch.handle(name).task_id for name in first] == [
            f"{name}~2" for name in first
        ]
        orch.stop()
    fired = [event.task_id for event in events]
    assert fired == [*first, wider[0], *(f"{name}~2" for name in first)]


def test_so_does_that_of_a_workflow_whose_tasks_are_all_made_again():
    calls = []
    flow = Workflow("flow")
    flow.task(lambda: calls.append("b"), id="b", after=[flow.task(tick, id="a")])
    flow.task(lambda: calls.append("c"), id="c")
    with TaskOrchestrator() as orch:
        orch.schedules.add("s", "every 1h", flow)
        span = "2026-01-01T00:00Z", "2026-01-01T01:00Z"
        first = orch.schedules.backfill("s", *span)
        assert orch.wait(60)
        assert orch.schedules.backfill("s", *span).already == tuple(first)
        assert orch.schedules.backfill("s", *span, again=True).already == ()
        assert orch.wait(60)
        assert sorted(calls) == ["b"] * 4 + ["c"] * 4


# -- clocks ----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["every 6h", "0 12 * * *"])
def test_what_a_machine_slept_through_is_caught_up_with(clock, when):
    pytest.importorskip("cronsim")
    with TaskOrchestrator() as orch:
        orch.schedules.add("s", when, tick)
        assert made(orch, "s") == []
        clock(86_400.0)
        # Nobody wakes it: its own clock does not know.
        eventually(lambda: made(orch, "s"))
        assert len(made(orch, "s")) == 1


def test_a_clock_that_was_set_back_makes_no_tick_twice_and_it_is_said(clock):
    with TaskOrchestrator() as orch:
        events = orch.events(types=[ScheduleSkipped, ScheduleFired])
        orch.schedules.add("s", "every 0.2s", tick)
        eventually(lambda: len(made(orch, "s")) > 2)
        clock(-HOUR / 2)
        eventually(lambda: "was set back" in orch.schedules.explain("s"))
        assert "s: The system's clock was set back" in part(orch, "schedules").detail
        # Far back it goes on, by other slots.
        before = len(made(orch, "s"))
        clock(-5 * HOUR)
        orch.drivers.wake("schedules")
        eventually(lambda: len(made(orch, "s")) > before + 2)
        # Ahead of what was made before: it is caught up with.
        clock(5.0)
        orch.drivers.wake("schedules")
        eventually(lambda: "was set back" not in orch.schedules.explain("s"))
        orch.stop()
    fired = [e.task_id for e in events if isinstance(e, ScheduleFired)]
    assert len({*fired}) == len(fired)


def test_a_tick_that_ran_before_the_clock_was_set_back_is_skipped_with_that(clock):
    with TaskOrchestrator() as orch:
        events = orch.events(types=[ScheduleSkipped])
        clock(-5 * HOUR)
        orch.schedules.add("s", "every 0.2s", tick)
        eventually(lambda: len(made(orch, "s")) > 3)
        clock(0.0)
        orch.drivers.wake("schedules")
        last = orch.schedules.status("s").done
        eventually(lambda: orch.schedules.status("s").done > last + timedelta(hours=4))
        begun = len(made(orch, "s"))
        clock(-5 * HOUR - 2)
        orch.drivers.wake("schedules")
        eventually(lambda: len(made(orch, "s")) > begun + 12)
        orch.stop()
    reasons = {event.reason for event in events}
    assert "it was made before the system's clock was set back" in reasons


# -- catching up -----------------------------------------------------------------------


def test_while_it_catches_up_others_go_on_and_it_answers(tmp_path, clock):
    journal = str(tmp_path / "j.db")
    clock(-900.0)
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("s", "every 1s", tick, catch_up="all", overlap="queue")
        begun = orch.schedules.status("s").done
    clock(0.0)
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("s", "every 1s", tick, catch_up="all", overlap="queue")
        orch.schedules.add("other", "every 0.1s", tick)
        seen = set()
        eventually(
            lambda: (
                seen.add(orch.schedules.status("s").done)
                or max(seen) - begun >= timedelta(seconds=900)
            )
        )
        # It was asked while it caught up, and other schedules made theirs.
        assert len(seen) > 3
        assert len(made(orch, "other")) > 0
        assert len(made(orch, "s")) >= 900
        orch.schedules.remove("other")
        orch.stop(drain=False)


def test_runs_that_queue_follow_each_other_at_once():
    flow = Workflow("flow")
    flow.task(tick, id="a")
    with TaskOrchestrator() as orch:
        orch.schedules.add("s", "every 0.05s", flow, overlap="queue", catch_up="all")
        eventually(lambda: len(orch.workflows.find("s-*")) >= 20)
        orch.schedules.remove("s")
        starts = sorted(status.started for status in orch.tasks())
    # One of the waits is a tenth of a second at the most, on however slow a machine:
    # where each run is looked for twice a second, none is.
    assert min(b - a for a, b in pairwise(starts)) < timedelta(seconds=0.4)


def test_while_a_run_waits_nobody_looks_whether_the_one_before_has_ended():
    """The driver names no time at which to ask it again: it is woken."""
    flow = Workflow("flow")
    flow.add(Task.question("go on?", id="go"))
    with TaskOrchestrator() as orch:
        end = datetime.now(UTC) + timedelta(seconds=2)
        every = {"overlap": "queue", "catch_up": "all"}
        orch.schedules.add("s", "every 0.1s", flow, **every, end=end)
        orch.schedules.add("past", "every 1h", flow, end=end - timedelta(hours=1))
        hours = end - timedelta(hours=4), end - timedelta(hours=1)
        filled = orch.schedules.backfill("past", *hours)
        (controller,) = orch.drivers.of_class(ScheduleController)
        eventually(lambda: orch.schedules.status("s").next is None)
        eventually(lambda: orch.schedules.backfill_status(filled.backfill_id).left == 0)
        # At first there is time to say other schedules.
        eventually(
            lambda: (
                controller.tick(SimpleNamespace(wall=time.time()), 0.0) == ([], None)
            )
        )
        (first,) = orch.workflows.find("s-*")
        orch.workflows.cancel(first.workflow_id)
        eventually(lambda: len(orch.workflows.find("s-*")) == 2)
        assert all(orch.workflows.status(each).state == "blocked" for each in filled)
        orch.stop(drain=False)


# -- functions and who says them -------------------------------------------------------


@pytest.fixture
def forgotten(tmp_path, module):
    """A journal with schedules whose function is not in its module any more."""
    journal = str(tmp_path / "j.db")
    module("def tick(): return 1")
    import nights

    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("s", "every 12h", nights.tick)
        orch.schedules.add("t", "every 12h", Task.call(nights.tick))
    module("def other(): return 1")
    return journal


def test_a_schedule_whose_function_is_gone_is_degraded_at_once_and_goes_on_when_it_is_back(
    module, forgotten, caplog
):
    with (
        caplog.at_level(logging.WARNING, "taskorch"),
        TaskOrchestrator(journal=forgotten) as orch,
    ):
        check = part(orch, "schedules")
        assert check.status == "degraded"
        assert "s: Nobody has said in this incarnation what s makes" in check.detail
        eventually(lambda: "schedule s: Nobody has said" in caplog.text)
        module("def tick(): return 2")
        name = orch.schedules.trigger("s")
        assert orch.handle(name).result(60) == 2


def test_a_tick_that_comes_while_its_function_is_gone_is_made_when_it_is_back(
    module, forgotten, clock
):
    with TaskOrchestrator(journal=forgotten) as orch:
        orch.schedules.add("at-once", "every 12h", tick)
        clock(12 * HOUR)
        orch.drivers.wake("schedules")
        eventually(lambda: made(orch, "at-once"))
        assert made(orch, "s") == []
        module("def tick(): return 2")
        # It is tried again after half a minute.
        clock(12 * HOUR + 40)
        orch.drivers.wake("schedules")
        eventually(lambda: made(orch, "s"))
        (name,) = made(orch, "s")
        assert orch.handle(name).result(60) == 2
        # The task is there a moment before its schedule notes that it was made.
        eventually(
            lambda: (
                "in this incarnation what s makes" not in orch.schedules.explain("s")
            )
        )


def test_what_waits_for_a_function_goes_on_when_it_is_there(tmp_path, module):
    journal = str(tmp_path / "j.db")
    module("def tick(): return 1\ndef stays(): return 1")
    import nights

    with TaskOrchestrator(journal=journal) as orch:
        orch.hold_starts("not now")
        orch.submit_task(Task.call(nights.tick, id="a"))
        orch.stop(drain=False)
    module("def stays(): return 1")
    with TaskOrchestrator(journal=journal) as orch:
        orch.release_starts()
        eventually(lambda: orch.get_task_status("a").state == TaskState.BLOCKED)
        module("def tick(): return 3")
        eventually(lambda: orch.get_task_status("a").state == TaskState.COMPLETED)
        assert orch.handle("a").result() == 3


def test_a_schedule_that_nobody_declares_any_more_is_told_and_by_a_new_name_makes_nothing(
    tmp_path, module, caplog
):
    journal = str(tmp_path / "j.db")
    module("def tick(): return 1")
    import nights

    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("old", "every 0.1s", nights.tick)
        eventually(lambda: made(orch, "old"))
        orch.stop(drain=False)
    with (
        caplog.at_level(logging.WARNING, "taskorch"),
        TaskOrchestrator(journal=journal) as orch,
    ):
        eventually(
            lambda: "It is no longer declared: since" in orch.schedules.explain("old")
        )
        since = orch.schedules.explain("old")
        assert "schedule old is no longer declared by the program" in caplog.text
        assert part(orch, "schedules").status == "degraded"
        before = len(made(orch, "old"))
        eventually(lambda: len(made(orch, "old")) > before)
        orch.stop(drain=False)
    with TaskOrchestrator(journal=journal) as orch:
        # Since then, and not since this incarnation.
        moment = since.partition("declared: since ")[2].partition(".")[0]
        assert moment in orch.schedules.explain("old")
        orch.schedules.add("new", "every 0.1s", nights.tick)
        before = len(made(orch, "old"))
        eventually(lambda: len(made(orch, "new")) > 3)
        assert len(made(orch, "old")) <= before + 1
        assert "new makes the same" in orch.schedules.explain("old")
        orch.schedules.add("old", "every 0.1s", nights.tick)
        eventually(lambda: len(made(orch, "old")) > before + 1)
        assert "declared" not in orch.schedules.explain("old")
        orch.stop(drain=False)


def test_what_came_from_a_file_is_paused_when_the_file_has_it_no_more(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    one = '[schedules.one]\nwhen = "every 1h"\ntask = { program = ["true"] }\n'
    two = one.replace("one", "two")
    for text, paused in ((one + two, ""), (one, "the configuration"), (one + two, "")):
        (tmp_path / "taskorch.toml").write_text(f'journal = "r.db"\n{text}')
        with TaskOrchestrator.from_config() as orch:
            assert orch.schedules.status("one").paused == ""
            assert orch.schedules.status("two").paused.startswith(paused)
            assert bool(orch.schedules.status("two").paused) == bool(paused)
        # Who has no file says nothing of it.
        with TaskOrchestrator(journal="r.db") as orch:
            assert orch.schedules.status("one").paused == ""
    assert "schedule two is paused: the configuration does not say it" in caplog.text


def test_what_is_blocked_and_in_the_way_of_later_ticks_is_in_the_health(
    tmp_path, module
):
    journal = str(tmp_path / "j.db")
    module("def tick(): return 1")
    import nights

    with TaskOrchestrator(journal=journal) as orch:
        orch.hold_starts("not now")
        orch.schedules.add("s", "every 0.2s", nights.tick)
        eventually(lambda: made(orch, "s"))
        orch.stop(drain=False)
    module("def other(): return 1")
    with TaskOrchestrator(journal=journal) as orch:
        (name,) = made(orch, "s")
        assert (
            f"{name} is blocked until somebody decides"
            in part(orch, "schedules").detail
        )
        module("def tick(): return 1")
        orch.release_starts()
        eventually(lambda: len(made(orch, "s")) > 2)
        assert "is blocked" not in part(orch, "schedules").detail
        orch.stop(drain=False)


# -- from when to when -----------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [math.nan, math.inf, -math.inf, 1e300, 10**400, 1_764_132_000_000, True, "soon"],
)
def test_what_is_no_moment_is_refused_and_nothing_is_added(moment):
    orch = TaskOrchestrator()
    orch.schedules.add("known", "every 1h", tick)
    for options in ({"start": moment}, {"end": moment}):
        for when in ("every 1h", "0 3 * * *"):
            with pytest.raises(InvalidTaskError, match=IS_NO_MOMENT):
                orch.schedules.add("s", when, tick, **options)
    for since, until in ((moment, 0), (0, moment)):
        with pytest.raises(InvalidTaskError, match=IS_NO_MOMENT):
            orch.schedules.backfill("known", since, until)
    assert [status.name for status in orch.schedules.list()] == ["known"]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("when", ["every 1h", "every 9000d", "0 3 * * *", "0 0 29 2 *"])
def test_all_that_a_calendar_has_is_a_moment(when, zone):
    """Slots end with it: those who ask for more get those that there are."""
    orch = TaskOrchestrator()
    for name, start, end in (
        ("always", FIRST, LAST),
        ("late", LAST - timedelta(days=400), None),
        ("never", LAST, LAST),
    ):
        orch.schedules.add(name, when, tick, zone=zone, start=start, end=end)
        assert orch.schedules.status(name).name in orch.schedules.explain(name)
        ticks = orch.schedules.next(name, 500)
        assert ticks == sorted(ticks)
        assert all(start <= tick.replace(tzinfo=None) for tick in ticks)
    assert [*map(bool, map(orch.schedules.next, ("always", "never")))] == [True, False]
    assert len(orch.schedules.list()) == 3


@pytest.mark.parametrize("when", [f"every {'9' * 400}d", f"every {'9' * 298}d"])
def test_a_distance_that_never_ends_is_refused(when):
    with pytest.raises(InvalidTaskError, match="never comes"):
        TaskOrchestrator().schedules.add("s", when, tick)


@pytest.mark.parametrize("is_late", [False, True])
def test_those_that_make_the_same_at_one_time_all_make_what_they_missed(
    tmp_path, clock, caplog, is_late
):
    """One is no new name of the other: also if a module that says it comes late."""
    journal = str(tmp_path / "j.db")
    options = {"start": datetime.now(UTC) - timedelta(minutes=30), "catch_up": "all"}
    names = ("oslo", "bergen", "tromso")
    for hours in (0, 3):
        clock(hours * HOUR)
        with TaskOrchestrator(journal=journal) as orch:
            orch.schedules.add(names[0], "every 1h", tick, **options)
            if hours and is_late:
                eventually(lambda: "schedule bergen makes nothing" in caplog.text)
            for name in names[1:]:
                orch.schedules.add(name, "every 1h", tick, **options)
            for name in names if hours else ():
                eventually(lambda n=name: len(made(orch, n)) == 3, name)
    reasons = {e.reason for e in events_of(journal) if isinstance(e, ScheduleSkipped)}
    assert reasons == set()


def test_what_is_said_as_before_is_the_same_after_a_restart(tmp_path, clock):
    """What came while nobody was here is caught up with, whatever ms it starts at."""
    begin = datetime.now(UTC).replace(microsecond=0)
    options = {
        f"s{ms}": {
            "start": begin - timedelta(hours=5) + timedelta(milliseconds=ms),
            "end": begin + timedelta(hours=20) + timedelta(milliseconds=7 * ms),
        }
        for ms in range(1, 1_000, 41)
    }
    journal = str(tmp_path / "j.db")
    documents = []
    for incarnation in range(3):
        clock(incarnation * 4 * HOUR)
        with TaskOrchestrator(journal=journal) as orch:
            for name, each in options.items():
                orch.schedules.add(name, "every 1h", tick, **each)
            for name in options if incarnation else ():
                eventually(lambda n=name, at=incarnation - 1: made(orch, n)[at:])
            documents.append([s.document for s in orch.schedules.list()])
    assert documents[0] == documents[1] == documents[2]
    events = list(JournalReader(journal).happened())
    reasons = {e.reason for e in events if isinstance(e, ScheduleSkipped)}
    assert reasons == {"nobody was here when they came"}
    ticks = [e.slot_ns for e in events if isinstance(e, ScheduleFired)]
    assert [ns for ns in ticks if ns % 1_000_000] == []


def test_what_it_makes_has_the_same_name_in_an_incarnation_that_has_not_said_it(
    tmp_path,
):
    flow = Workflow("sales")
    flow.task(tick, id="a")
    works = {
        "f": tick,
        "flow": flow,
        "type": Task("render", {"page": 1}),
        "program": Task.program(["echo", "x"]),
        "nameless": lambda: None,
    }
    names = []
    for incarnation in range(2):
        with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
            for name, work in () if incarnation else works.items():
                orch.schedules.add(name, "0 3 1 1 *", work)
            names.append({each.name: each.makes for each in orch.schedules.list()})
            orch.stop(drain=False)
    assert names[1] == names[0]
    assert names[0]["flow"] == "sales"


# -- what is kept of them --------------------------------------------------------------

TICKS = {"done": 10**18}
#: By names, the two documents of a schedule that nobody has written here.
NO_SCHEDULES = {
    "nothing": (1, TICKS),
    "a-list": ([], TICKS),
    "without-times": ({"code": "tick"}, TICKS),
    "without-work": ({"when": "every 1h"}, TICKS),
    "another-zone": ({"when": "every 1h", "code": "t", "zone": "Mars"}, TICKS),
    "keeps-nothing": ({"keep_for": -1, "keep_latest": "x"}, TICKS),
    "number-of-run": ({"when": "every 1h", "code": "t", "run": 1}, TICKS),
    "text-before": ({"when": "every 1h", "code": "t", "before": "x"}, TICKS),
    "late-before": ({"when": "every 1h", "code": "t", "before": 10**30}, TICKS),
    "no name": ({"when": "every 1h", "code": "t"}, TICKS),
    "a/b": ({"when": "every 1h", "code": "t"}, TICKS),
    "alone": ({"when": "every 1h", "code": "t"}, None),
    "only-ticks": (None, TICKS),
} | {
    f"ticks-{number}": ({"when": "every 1h", "code": "t"}, ticks)
    for number, ticks in enumerate(
        (
            *(
                1,
                [],
                {},
                {"done": "x"},
                {"done": 1.5},
                {"done": True},
                {"done": 10**30},
            ),
            *({"done": 1, "waiting": each} for each in (1, [1], [[1, 2]], {"a": 1})),
            *({"done": 1, "filled": [each]} for each in ([0, 1, 10**15], [0, 1, -1])),
            *({"done": 1, "filled": [each]} for each in ([0, 10**25, 2], ["", 1, 1])),
            {"done": 1, "else": 2},
        )
    )
}


def test_documents_that_are_no_schedules_are_left_out_and_others_go_on(
    tmp_path, clock, caplog
):
    """Whatever a program writes under the name of schedules; `add` replaces it."""
    journal = str(tmp_path / "j.db")
    with TaskOrchestrator(journal=journal) as orch:
        orch.schedules.add("good", "every 1h", tick, catch_up="all")
        for name, documents in NO_SCHEDULES.items():
            keys = name, f"{name}/ticks"
            orch.kept("schedules").update(zip(keys, documents, strict=True))
        orch.submit_task(Task.call(tick, id="alone/2026-11-25T0300Z")).result(PATIENCE)
    clock(3 * HOUR)
    with TaskOrchestrator(journal=journal) as orch:
        eventually(lambda: len(made(orch, "good")) == 3)
        assert [status.name for status in orch.schedules.list()] == ["good"]
        assert part(orch, "schedules").status == "ok"
        assert not orch.prune(older_than=100 * 24 * HOUR).tasks
        for name in NO_SCHEDULES:
            key = "only-ticks/ticks" if name == "only-ticks" else name
            assert f"the document {key} of schedules is left out: " in caplog.text
        assert orch.schedules.add("alone", "every 1h", tick)
    caplog.clear()
    index = RunIndex()
    with TaskOrchestrator(journal=journal) as orch:
        assert len(orch.schedules.list()) == 2
        assert "the document alone " not in caplog.text
        for event in JournalReader(journal).happened():
            index.take(event)
    assert len(index.schedules["good"].runs) == 3


@settings(max_examples=examples(50), deadline=None)
@given(
    st.lists(st.integers(0, 40)),
    st.sets(st.integers(-5, 40)),
    st.integers(-5, 40),
    st.sampled_from([1, 60 * 10**9]),
)
def test_how_far_a_schedule_came_is_read_as_it_was_written(waiting, filled, done, each):
    """Whatever distances are between the ticks, and in whatever order they came."""
    came = TickProgress(done * each)
    came.waiting = dict.fromkeys(tick * each for tick in waiting)
    came.filled = dict.fromkeys(tick * each for tick in sorted(filled))
    found = read_progress(came.text())
    assert found == came
    assert [*found.waiting] == [*came.waiting]


def test_ticks_that_wait_long_are_few_words():
    """A tick a second, for a day: each of them writes the document anew."""
    came = TickProgress(0)
    for second in range(86_400):
        came.queued(second * 10**9)
    came.fired(0, "clock")
    assert came.text() == (
        '{"done":86399000000000,"waiting":[[1000000000,1000000000,86399]]}'
    )


def events_of(journal):
    return list(JournalReader(str(journal)).happened())
