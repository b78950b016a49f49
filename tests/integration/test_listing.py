"""`orch.tasks()`: all of them, in pages, while they change; and what a status says."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from taskorch import (
    InvalidTaskError,
    Program,
    Resources,
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    TaskState,
)
from taskorch.errors import JournalUnavailableError
from taskorch.reading import JournalReader
from taskorch.runtime import _listing
from taskorch.testing import Simulation

PATIENCE = 60.0


def ids(statuses):
    return [status.task_id for status in statuses]


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(_listing, "_PAGE", 3)


@pytest.fixture(params=["memory", "durable", "left memory", "later incarnation"])
def shop(request, tmp_path, small_pages):
    """The same tasks, wherever they are now."""
    where = request.param
    journal = None if where == "memory" else tmp_path / "runs.db"

    def make():
        orch = TaskOrchestrator(
            journal=journal,
            keep_finished=2 if where in ("left memory", "later incarnation") else 1_000,
        )

        @orch.agent("ann", capabilities={"cut"})
        def ann(task, context):
            if task.payload == "bad":
                raise ValueError(task.payload)
            return task.payload

        @orch.agent("ben", capabilities={"sew"})
        def ben(task, context):
            return task.payload

        return orch

    orch = make()
    with orch:
        orch.submit_tasks(
            [
                Task(
                    ("cut", "sew")[n % 2],
                    n,
                    id=f"{'ab'[n % 3 == 0]}/{n}",
                    metadata={"customer": "acme" if n < 4 else "other", "n": n},
                    owner="acme" if n < 4 else None,
                )
                for n in range(8)
            ]
        )
        orch.submit_task(Task("cut", "bad", id="c/bad"))
        orch.submit_task(Task("cut", after=["c/bad"], id="c/blocked"))
        orch.wait(PATIENCE)
        if where != "later incarnation":
            yield orch
            return
    with make() as orch:
        yield orch


ALL = ["b/0", "a/1", "a/2", "b/3", "a/4", "a/5", "b/6", "a/7", "c/bad", "c/blocked"]


#: Filters, each with all that pass it.
FOUND: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL),
    ({"state": "completed"}, ALL[:8]),
    ({"state": "failed"}, ["c/bad"]),
    ({"state": "blocked"}, ["c/blocked"]),
    ({"state": "queued"}, []),
    ({"type": "sew"}, ["a/1", "b/3", "a/5", "a/7"]),
    ({"id": "b/*"}, ["b/0", "b/3", "b/6"]),
    ({"id": "c/ba?"}, ["c/bad"]),
    ({"agent": "ben"}, ["a/1", "b/3", "a/5", "a/7"]),
    ({"metadata": {"customer": "acme"}}, ["b/0", "a/1", "a/2", "b/3"]),
    ({"metadata": {"customer": "acme", "n": 2}}, ["a/2"]),
    ({"metadata": {}}, ALL),
    ({"owner": "acme", "type": "cut"}, ["b/0", "a/2"]),
    ({"owner": "nobody"}, []),
    ({"metadata": {"colour": "red"}}, []),
    ({"since": timedelta(hours=1)}, ALL),
    ({"since": 3600.0}, ALL),
    ({"since": datetime(2100, 1, 1, tzinfo=UTC)}, []),
    ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, ALL),
    ({"older_than": 3600}, []),
    ({"older_than": timedelta(0)}, ALL),
    ({"type": "cut", "id": "a/*", "agent": "ann"}, ["a/2", "a/4"]),
]


def test_all_are_found_wherever_they_are(shop):
    """In the order of their submission, each once, and no other."""
    for which, wanted in FOUND:
        assert ids(shop.tasks(**which)) == wanted, which


def test_a_status_says_the_same_wherever_the_task_is(shop):
    """What has left memory is read from the journal, with all that is asked for."""
    for listed in shop.tasks(state="completed"):
        assert listed.type in ("cut", "sew")
        assert listed.agent_id == {"cut": "ann", "sew": "ben"}[listed.type]
        assert listed.result == int(listed.task_id[2:]) == listed.metadata["n"]
        assert listed.attempts == 1
        assert listed.submitted <= listed.started <= listed.ended
        assert listed.submitted.tzinfo is UTC
        assert 0 <= listed.duration < PATIENCE
        steps = [entry.state.value for entry in listed.history]
        assert steps == ["queued", "running", "completed"]
        again = shop.get_task_status(listed.task_id)
        assert again == listed
    (bad,) = shop.tasks(state="failed")
    assert "bad" in str(bad.error)
    assert [entry.state.value for entry in bad.history][-2:] == ["running", "failed"]
    (blocked,) = shop.tasks(state="blocked")
    assert (blocked.started, blocked.ended, blocked.duration) == (None, None, None)


def test_what_comes_and_goes_meanwhile(shop):
    """What comes later is left out; what changes is shown as it is by then."""
    going = shop.tasks()
    first = next(going)
    late = shop.submit_task(Task("sew", "late", id="late"))
    late.result(PATIENCE)
    shop.cancel_task("c/blocked")
    rest = list(going)
    assert [first.task_id, *ids(rest)] == ALL
    assert rest[-1].state == "cancelled"
    assert "late" in ids(shop.tasks())


def test_no_lock_is_held_between_two_statuses(shop):
    """A loop may call the orchestrator, and may be left half-way."""
    for status in shop.tasks():
        assert shop.get_task_status(status.task_id).task_id == status.task_id
        assert shop._rt.lock.acquire(timeout=PATIENCE)
        shop._rt.lock.release()
        if status.task_id == "a/4":
            break


def test_a_coroutine_goes_through_them_too(shop):
    async def main():
        return [s.task_id async for s in shop.aio.tasks("completed", id="b/*")]

    assert asyncio.run(main()) == ["b/0", "b/3", "b/6"]


def test_a_page_is_looked_at_in_one_hold_of_the_lock(small_pages):
    """Of many tasks, no more than a page at once."""
    orch = TaskOrchestrator()
    orch.submit_tasks([Task.call(int, id=str(n)) for n in range(10)])
    looked = []
    real = _listing.status_of

    def status_of(runtime, row, *rest):
        looked.append(row.id)
        return real(runtime, row, *rest)

    _listing.status_of = status_of
    try:
        going = orch.tasks()
        next(going)
        assert looked == ["0", "1", "2"]
        assert len(list(going)) == 9
    finally:
        _listing.status_of = real
    orch.stop(drain=False)


@pytest.mark.parametrize(
    "which",
    [
        {"owner": "nobody"},
        {"metadata": {"odd": "no"}},
        {"mended": True},
        {"older_than": 3_600},
        {"type": "none"},
        {"agent": "none"},
        {"id": "*none*"},
    ],
)
def test_what_none_has_takes_no_hold_of_the_lock_for_each_page(which, monkeypatch):
    with TaskOrchestrator() as orch:
        orch.submit_tasks([Task.call(int, id=str(n)) for n in range(40)])
        orch.wait(PATIENCE)
        looked = []
        real = _listing._Listing._statuses

        def statuses(self, ids, room):
            looked.extend(ids)
            return real(self, ids, room)

        monkeypatch.setattr(_listing._Listing, "_statuses", statuses)
        assert list(orch.tasks(**which)) == []
        assert not looked


def test_what_leaves_memory_meanwhile_is_read_from_the_journal(tmp_path, small_pages):
    with TaskOrchestrator(journal=tmp_path / "runs.db", keep_finished=1) as orch:
        list(orch.map(abs, range(5)))
        going = orch.tasks()
        seen = [next(going).result]
        list(orch.map(abs, range(100, 105)))
        seen += [status.result for status in going]
        assert seen == [0, 1, 2, 3, 4]


def test_in_memory_what_has_left_is_gone():
    with TaskOrchestrator(keep_finished=2) as orch:
        for n in range(5):
            orch.submit_task(Task.call(abs, n, id=f"t{n}")).result(PATIENCE)
        orch.wait(PATIENCE)
        assert ids(orch.tasks()) == ["t3", "t4"]
        assert orch.get_task_status("t0").state == "completed"
        assert orch.get_task_status("t0").submitted is None


def test_history_of_what_was_tried_again_and_moved(tmp_path):
    """Retries and priorities are told after the task has left memory, too."""
    calls = []

    def shaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError(len(calls))

    orch = TaskOrchestrator(journal=SqliteJournal(tmp_path / "j.db"), keep_finished=0)

    @orch.agent("a", capabilities={"x"})
    def do(task, context):
        shaky()

    # Before it can begin.
    orch.submit_task(Task("x", id="x", retry=RetryPolicy(3, base=0)))
    assert orch.set_priority("x", 7)
    with orch:
        orch.submit_task(Task.wait_for("never", id="w"))
        orch.wait(PATIENCE)
        orch.cancel_task("w")
        orch.wait(PATIENCE)
        orch.submit(int).result(PATIENCE)
        orch.wait(PATIENCE)
        status = orch.get_task_status("x")
        assert (status.attempts, status.priority) == (3, 7)
        states = [entry.state.value for entry in status.history]
        assert states == [
            *("queued", "running", "retrying", "running", "retrying", "running"),
            "completed",
        ]
        assert "OSError" in status.history[2].detail
        gone = orch.get_task_status("w")
        assert (gone.state, gone.attempts, gone.duration) == ("cancelled", 0, None)
        assert gone.ended > gone.submitted


def test_a_journal_that_cannot_be_read_says_so(tmp_path, monkeypatch):
    with TaskOrchestrator(journal=tmp_path / "runs.db", keep_finished=1) as orch:
        list(orch.map(abs, range(5)))
        orch.wait(PATIENCE)

        def broken(*args, **kwargs):
            raise JournalUnavailableError("away", outcome="refused")

        monkeypatch.setattr(SqliteJournal, "candidates", broken)
        with pytest.raises(JournalUnavailableError, match="away"):
            list(orch.tasks())


@pytest.mark.parametrize(
    ("which", "word"),
    [
        ({"state": "asleep"}, "there are pending"),
        ({"type": 5}, "type: a text"),
        ({"id": 5}, "id: a text"),
        ({"agent": b"a"}, "agent: a text"),
        ({"owner": 5}, "owner: a text"),
        ({"metadata": [1]}, "metadata: a mapping"),
        ({"since": "today"}, "since"),
        ({"since": datetime(2020, 1, 1)}, "no time zone"),  # noqa: DTZ001 - just that
        ({"older_than": -1}, "older_than"),
        ({"older_than": math.nan}, "older_than"),
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused_when_it_is_called(which, word):
    """Not when it is first iterated over."""
    with pytest.raises(InvalidTaskError, match=word):
        TaskOrchestrator().tasks(**which)


def test_the_log_of_a_program_is_known_while_it_runs(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        task = Task.program([sys.executable, "-uc", "import time; time.sleep(600)"])
        handle = orch.submit_task(task)
        log = None
        while log is None:
            log = orch.get_task_status(handle.task_id).log_path
        assert log.parent.is_relative_to(tmp_path / "runs.db.logs")
        assert log.exists()
        handle.cancel()
        orch.wait(PATIENCE)
        done = orch.submit_task(Task.program([sys.executable, "-c", "print(1)"]))
        path = done.result(PATIENCE).log_path
        assert orch.get_task_status(done.task_id).log_path == path
        bad = orch.submit_task(Task.program([sys.executable, "-c", "exit(3)"]))
        error = bad.exception(PATIENCE)
        assert orch.get_task_status(bad.task_id).log_path == error.result.log_path
        assert orch.get_task_status(orch.submit(int).task_id).log_path is None


def test_a_status_as_json():
    class Strange(Exception):
        def __str__(self):
            raise RuntimeError

    def bad():
        raise Strange

    orch = TaskOrchestrator(resources={"cpu": 2})

    @orch.agent("a", capabilities={"x"})
    def do(task, context):
        context.progress({"done": math.inf, 5: {1}})
        return {
            "when": datetime(2020, 1, 1, tzinfo=UTC),
            "path": Path("a"),
            "list": [1, (2.5, None, True)],
        }

    with orch:
        task = Task("x", resources={"cpu": 1}, priority=3, metadata={"who": Path("me")})
        handle = orch.submit_task(task)
        handle.result(PATIENCE)
        said = orch.get_task_status(handle.task_id).to_dict()
        assert json.loads(json.dumps(said, allow_nan=False)) == said
        assert said["state"] == "completed"
        assert said["result"]["when"] == "2020-01-01T00:00:00+00:00"
        assert said["result"]["list"] == [1, [2.5, None, True]]
        assert "a" in said["result"]["path"]
        assert said["progress"] == {"done": "inf", "5": "{1}"}
        assert said["duration"] >= 0
        assert said["started"].endswith("+00:00")
        assert said["priority"] == 3
        assert said["agent_id"] == "a"
        assert said["history"][-1]["state"] == "completed"
        assert said["error"] is None
        failed = orch.submit(bad)
        orch.wait(PATIENCE)
        error = orch.get_task_status(failed.task_id).to_dict()["error"]
        where = error.pop("where")
        assert error == {"type": "Strange", "message": "(it cannot be printed)"}
        assert where.endswith(" in bad")


def test_what_has_no_end_is_cut_off():
    ring = []
    ring.append(ring)
    with TaskOrchestrator() as orch:
        handle = orch.submit(lambda: ring)
        handle.result(PATIENCE)
        assert json.dumps(orch.get_task_status(handle.task_id).to_dict())


def test_times_of_a_running_task():
    shop = Simulation(seed=1, resources=Resources(cpu=1))
    shop.agent("a", capabilities={"x"})
    shop.work("x", 60.0)
    shop.submit_tasks([Task("x", id="x")])
    shop.run(until=30)
    status = shop.get_task_status("x")
    assert status.state == "running"
    assert status.started is not None
    assert (status.ended, status.duration) == (None, None)
    assert ids(shop.tasks("running")) == ["x"]
    shop.run()
    assert shop.get_task_status("x").duration == 60.0


def test_a_program_value_is_none_of_our_logs():
    """A function that returns a Program has not run it."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(Program, ["ls"])
        handle.result(PATIENCE)
        assert orch.get_task_status(handle.task_id).log_path is None


def test_tasks_may_leave_memory_while_they_are_gone_through():
    """So many of them that the kernel keeps the rest in another place."""
    go = threading.Event()
    with TaskOrchestrator(concurrency=1, keep_finished=0) as orch:
        orch.submit(go.wait, PATIENCE)
        orch.map(pow, range(500), range(500))
        statuses = orch.tasks()
        first = next(statuses)
        go.set()
        assert orch.wait(PATIENCE)
        # The rest of the page that was made before.
        later = list(statuses)
        assert 0 < len(later) < 500
        assert first.task_id not in ids(later)


#: How the next run of each task ends.
OUTCOMES: dict[str, bool] = {}


def ends(name):
    if not OUTCOMES[name]:
        raise ValueError(name)


@pytest.mark.parametrize("seed", range(3))
def test_later_runs_are_known_of_what_has_left_memory(seed, tmp_path, small_pages):
    """A run between one that left memory and one that is in it counts, too."""
    random, ended = Random(seed), dict[str, list[bool]]()
    path = tmp_path / "runs.db"

    def agree(ask):
        runs = {
            name if number == 0 else f"{name}~{number + 1}": (name, number)
            for name, outcomes in ended.items()
            for number in range(len(outcomes))
        }
        names = {place: run for run, place in runs.items()}
        rerun, mended, broken = {}, {}, set()
        for run, (name, number) in runs.items():
            outcomes = ended[name]
            later = range(number + 1, len(outcomes))
            good = [names[name, n] for n in later if outcomes[n]]
            rerun[run] = names[name, later[-1]] if later else ""
            mended[run] = good[0] if good else ""
            if not good and not outcomes[number]:
                broken.add(run)
        said = {s.task_id: s for s in ask.tasks()}
        assert {run: status.rerun for run, status in said.items()} == rerun
        assert {run: status.mended_by for run, status in said.items()} == mended
        assert {*ids(ask.tasks("failed", mended=False))} == broken
        assert {*ids(ask.tasks(mended=True))} == {run for run in mended if mended[run]}
        assert sum(cause.count for cause in ask.failures()) == len(broken)

    for _ in range(2):
        with TaskOrchestrator(journal=path, keep_finished=3) as orch:
            for _ in range(12):
                name = random.choice("abcde")
                OUTCOMES[name] = random.random() < 0.4
                if name in ended:
                    handle = orch.rerun_task(name)
                else:
                    handle = orch.options(id=name).submit(ends, name)
                handle.exception(PATIENCE)
                ended.setdefault(name, []).append(OUTCOMES[name])
            agree(orch)
        agree(JournalReader(path))


def test_a_task_is_among_those_since_it_was_submitted():
    """To the ns: a moment of a datetime is not what a float makes of it."""
    simulation = Simulation(seed=1)
    names = [f"t{number}" for number in range(80)]
    for number, name in enumerate(names):
        simulation.at(
            number * 0.0137,
            lambda name=name: simulation.submit_task(Task.wait_for("go", id=name)),
        )
    simulation.run(until=10)
    for number, name in enumerate(names):
        submitted = simulation.get_task_status(name).submitted
        assert ids(simulation.tasks(since=submitted)) == names[number:]
        since = submitted + timedelta(microseconds=1)
        assert ids(simulation.tasks(since=since)) == names[number + 1 :]


def test_a_task_does_not_start_before_the_moment_that_it_says():
    simulation = Simulation(seed=1)
    simulation.submit_task(Task.wait_for("go", id="first"))
    begin = simulation.get_task_status("first").submitted
    moments = [
        begin + timedelta(seconds=number, microseconds=number * 7_919)
        for number in range(1, 100)
    ]
    tasks = [Task("t", id=f"t{n}", not_before=m) for n, m in enumerate(moments)]
    starts = {}
    simulation.signals.task_started.connect(
        lambda event: starts.update({event.task_id: event.at_ns})
    )
    simulation.agent("a", capabilities={"t"})
    simulation.submit_tasks(tasks)
    simulation.run(until=200)
    microsecond = timedelta(microseconds=1)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert len(starts) == len(tasks)
    for number, moment in enumerate(moments):
        assert starts[f"t{number}"] >= (moment - epoch) // microsecond * 1_000


def test_a_state_is_named_or_given():
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.wait_for("go", id="waits"))
        orch.submit_task(Task.call(int, id="ends")).result(PATIENCE)
        for state in ("completed", TaskState.COMPLETED):
            assert ids(orch.tasks(state)) == ["ends"]


def test_times_are_from_then_on_and_for_longer_than():
    simulation = Simulation(seed=1)
    simulation.submit_task(Task.wait_for("go", id="a"))
    simulation.run(until=10)
    assert simulation.now == 10
    assert ids(simulation.tasks(since=10)) == ["a"]
    assert ids(simulation.tasks(since=9.999_999)) == []
    assert ids(simulation.tasks("blocked", older_than=9.999_999)) == ["a"]
    assert ids(simulation.tasks("blocked", older_than=10)) == []
