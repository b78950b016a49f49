"""The first view of the dashboard, of work in virtual time, which begins on 2026-01-01."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from taskorch import Task, Workflow
from taskorch.ext.command_line._first_view import Picture, items, left_out
from taskorch.ext.views._nights import RunViews
from taskorch.ext.views._runs import BROKEN, RUNS, RunIndex
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


def standing(name, after=HOUR, paused="", trouble=""):
    """How an orchestrator says that a schedule stands, whose next tick comes then."""
    coming = datetime.fromtimestamp(BEGIN + after, UTC)
    said = {"name": name, "next": coming, "paused": paused, "trouble": trouble}
    return SimpleNamespace(**said, when="every 1h", zone="UTC", makes="a task")


def views_of(sim, holds=(), schedules=None):
    """The views of a journal; with *schedules*, of an orchestrator that has them."""
    stats = SimpleNamespace(holds=holds)
    orch = SimpleNamespace(
        _questions=sim.questions,
        questions=sim.questions,
        get_stats=lambda: stats,
        schedules=SimpleNamespace(_standing=lambda: schedules),
    )
    board = Board(sim)
    live = schedules is not None
    return RunViews(lambda: orch, lambda: board, live=live), board


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


def verdict(sim, **options):
    return views_of(sim, **options)[0].nights()["verdict"]


def failing_once():
    """A schedule whose only run has failed, and a task that fails beside it."""
    sim = simulation()
    error = ValueError("no rows")
    sim.work("job", lambda *_: Outcome(1, error=error))
    sim.schedules.add("h", "every 1h", Task("job"))
    sim.run(until=1.5 * HOUR)
    return sim


def test_a_schedule_that_failed_is_in_the_verdict_until_it_is_mended():
    sim = failing_once()
    bad = verdict(sim)
    assert bad["state"] == "failed"
    assert bad["latest"] == "The latest run of 0 of 1 schedule completed."
    assert [each["of"] for each in bad["points"]] == ["schedules", "broken"]
    sim.work("job", 1.0)
    sim.rerun_task("h/2026-01-01T0100Z")
    sim.run(until=1.6 * HOUR)
    good = verdict(sim)
    assert good == {
        "state": "completed",
        "latest": "The latest run of 1 of 1 schedule completed.",
        "points": [],
    }


@pytest.mark.parametrize("state", ["blocked", "cancelled", "running", "completed"])
def test_a_latest_run_that_needs_somebody_is_in_the_verdict(state):
    sim = simulation()
    sim.work("job", HOUR / 4 if state == "completed" else HOUR)
    work = Task.question("Go on?") if state == "blocked" else Task("job")
    sim.schedules.add("h", "every 1h", work)
    sim.run(until=1.5 * HOUR)
    if state == "cancelled":
        sim.cancel_task("h/2026-01-01T0100Z")
        sim.run(until=1.6 * HOUR)
    said = verdict(sim)
    states = {"cancelled": "failed", "blocked": "blocked"}
    assert said["state"] == states.get(state, "completed")
    texts = {
        "cancelled": ["1 schedule did not end well"],
        "blocked": ["1 schedule waits for an answer or an event"],
    }
    told = [each["text"] for each in said["points"] if each["of"] == "schedules"]
    assert told == texts.get(state, [])
    assert ("; 1 runs now." in said["latest"]) == (state == "running")


def test_a_schedule_that_was_removed_is_in_no_verdict():
    sim = failing_once()
    sim.schedules.remove("h")
    said = verdict(sim)
    assert said["latest"] == ""
    assert [each["of"] for each in said["points"]] == ["broken"]
    # What has failed needs somebody all the same.
    assert said["state"] == "failed"
    assert views_of(sim)[0].nights()["schedules"][0]["removed"]


def test_the_reason_why_starts_are_on_hold_is_a_point_of_its_own():
    said = verdict(simulation(), holds=["the disk is full"])
    assert said["state"] == "failed"
    assert said["points"] == [{"of": "holds", "text": "the disk is full"}]


@pytest.mark.parametrize(
    ("now", "options", "told"),
    [
        (1.0, {}, []),
        (1.0 + 59 / HOUR, {}, []),
        (1.0 + 120 / HOUR, {}, ["is late by 2 min"]),
        (1.0 + 120 / HOUR, {"paused": "by hand"}, ["is on hold: by hand"]),
        (0.5, {"trouble": "it is refused"}, ["it is refused"]),
        (1.0 + 120 / HOUR, {"trouble": "it is refused"}, ["it is refused"]),
    ],
)
def test_a_schedule_is_late_or_in_trouble_or_on_hold(now, options, told):
    sim = simulation()
    sim.run(until=now * HOUR)
    view = views_of(sim, schedules=[standing("h", **options)])[0].nights()
    assert [each["text"] for each in view["late"]] == told
    is_point = bool(told) and "hold" not in told[0]
    assert points(view) == ["1 schedule is late or in trouble"] * is_point
    assert view["verdict"]["state"] == ("blocked" if is_point else "completed")


@pytest.mark.parametrize(
    ("usual", "takes", "is_slow"),
    [(1.0, 5.0, False), (10.0, 15.0, False), (100.0, 115.0, False), (10.0, 25.0, True)],
)
def test_a_run_is_slow_if_it_takes_twice_as_long_and_much_longer(usual, takes, is_slow):
    sim = simulation()
    sim.work("job", lambda task, *_: usual if "T0100Z" in task.id else HOUR)
    sim.schedules.add("h", "every 1h", Task("job"))
    sim.run(until=2 * HOUR + takes)
    view = views_of(sim)[0].nights()
    assert view["schedules"][0]["usual"] == usual
    assert view["slow_runs"] == is_slow
    assert points(view) == ["1 run takes much longer than usual"] * is_slow


def test_a_run_that_was_cut_off_says_nothing_of_what_is_usual():
    sim = simulation()
    sim.work("job", lambda task, *_: 10.0 if "T0100Z" in task.id else 1_000.0)
    sim.schedules.add("h", "every 1h", Task("job", idempotent=True))
    sim.run(until=2 * HOUR + 100)
    sim.crash()
    sim.run(until=2.9 * HOUR)
    view = views_of(sim)[0].nights()
    assert view["schedules"][0]["latest"]["state"] == "completed"
    assert view["schedules"][0]["usual"] == 10.0


def test_the_last_good_run_is_the_one_before_it():
    sim = simulation()
    error = ValueError("no rows")
    sim.work(
        "job", lambda task, *_: Outcome(1, error=error if "T02" in task.id else None)
    )
    sim.schedules.add("h", "every 1h", Task("job"))
    sim.run(until=3.5 * HOUR)
    with views_of(sim)[1].runs() as index:
        for hour, good in ((1, None), (2, 1), (3, 1)):
            found = index.last_good(f"h/2026-01-01T0{hour}00Z")
            want = None if good is None else f"h/2026-01-01T0{good}00Z"
            assert (None if found is None else found.run_id) == want


def test_a_run_that_is_not_kept_is_none_of_its_schedule_any_more():
    index = RunIndex()
    for number in range(RUNS + 5):
        run = f"run-{number}"
        line = index.enter(f"{run}/a", run, "completed", (1, 1, 2))
        index.assign(line, "h", number + 1, "clock")
    assert len(index.lines) == RUNS
    assert [each.run_id for each in index.schedules["h"].runs] == [*index.lines]


def test_the_grid_has_as_many_days_as_are_asked_for_and_the_worst_of_each():
    sim = simulation()
    error = ValueError("no rows")
    sim.work(
        "job", lambda task, *_: Outcome(1, error=error if "T12" in task.id else None)
    )
    sim.schedules.add("h", "every 6h", Task("job"))
    sim.run(until=4.1 * 24 * HOUR)
    views, _ = views_of(sim)
    for days, until, want in (
        (2, None, ["2026-01-05", "2026-01-04"]),
        (2, "2026-01-03", ["2026-01-03", "2026-01-02"]),
        (9, "2026-01-02", ["2026-01-02", "2026-01-01"]),
    ):
        last = None if until is None else datetime.fromisoformat(until).date()
        (said,) = views.nights(days=days, until=last)["schedules"]
        assert [cell["at"] for cell in said["cells"]] == want
        # Of the latest day, only the first tick has come.
        states = ["completed" if at.endswith("05") else "failed" for at in want]
        assert [cell["state"] for cell in said["cells"]] == states


def test_ticks_that_wait_for_the_run_before_are_told():
    sim = simulation()
    sim.work("job", 5 * HOUR)
    flow = Workflow("flow")
    flow.add(Task("job", id="a"))
    sim.schedules.add("h", "every 1h", flow, overlap="queue")
    for hours, told in (
        (1.5, []),
        (2.5, ["1 tick waits for the run before"]),
        (3.5, ["2 ticks wait for the run before"]),
    ):
        sim.run(until=hours * HOUR)
        view = views_of(sim)[0].nights()
        assert [each["text"] for each in view["late"]] == told
        assert points(view) == []


def test_what_failed_since_another_did_is_counted_and_is_no_cause():
    views, board = views_of(simulation())
    with board.runs() as index:
        index.fail("first", 1, ("OSError", "full"), is_own=True)
        index.fail("behind", 2, ("OSError", "no input"), is_own=False)
        index.fail("waits", 3, ("DependencyFailedError", "no"), is_own=True)
    broken = views.nights()["broken"]
    assert broken["count"] == 3
    assert [each["task"] for each in broken["tasks"]] == ["first"]
    assert [each["tasks"] for each in broken["causes"]] == [["first"]]
