"""What ended long ago leaves the journal, and memory, while the orchestrator works."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from threading import Event

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.house.own_journal import LinesJournal

from taskorch import SqliteJournal, Task, TaskOrchestrator, Workflow
from taskorch.core.journal import _points
from taskorch.errors import InvalidTaskError, JournalError, UnknownTaskError
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import main
from taskorch.ext.retention import _forgetting, _pruning
from taskorch.ext.views import JournalReader
from taskorch.ext.views._runs import RunLine
from taskorch.model import Cache

DAY = 86_400.0


def ids(orch):
    return [status.task_id for status in orch.tasks()]


def many(orch, count, start=0, **options):
    numbers = range(start, start + count)
    orch.submit_tasks(
        [Task.call(len, "x" * 9, id=f"n/{n}", **options) for n in numbers]
    )
    assert orch.wait(PATIENCE)


def rows(path, table="facts"):
    db = sqlite3.connect(path)
    ((count,),) = db.execute(f"SELECT count(*) FROM {table}")
    db.close()
    return count


def fail():
    raise ValueError("no")


GOES, CALLS = Event(), []


def wait_for_it():
    return GOES.wait(PATIENCE)


def load(number):
    CALLS.append(number)
    print("loaded", number)
    return number


def backup():
    print("backed up")
    return 1


# -- what goes, and what stays ---------------------------------------------------------


@pytest.mark.parametrize("where", ["file", "server"])
def test_what_has_ended_goes_and_the_sums_stay(where, tmp_path, request):
    journal = tmp_path / "j.db"
    if where == "server":
        journal = request.getfixturevalue("postgres").address("pruned")
    with TaskOrchestrator(journal=str(journal)) as orch:
        many(orch, 300)
        orch.submit_task(Task.call(fail, id="bad"))
        orch.submit_task(Task.call(len, "x", id="blocked", after=["bad", "n/7"]))
        assert orch.wait(PATIENCE)
        foreseen = orch.prune(older_than=0, dry_run=True)
        assert str(foreseen) == "Would forget 299 tasks."
        assert len(ids(orch)) == 302
        pruned = orch.prune(older_than=0)
        assert (pruned.tasks, pruned.dry_run) == (299, False)
        assert ids(orch) == ["n/7", "bad", "blocked"]
        assert orch.get_stats().state_machine.completed == 300
        with pytest.raises(UnknownTaskError):
            orch.get_task_status("n/1")
        # Its id is free.
        assert orch.submit_task(Task.call(abs, -4, id="n/1")).result(PATIENCE) == 4
        assert orch.prune(older_than=0).tasks == 1
        assert orch.get_task_status("blocked").blocked_by == ("bad",)
        orch.stop(drain=False)
    reader = JournalReader(str(journal))
    assert len(list(reader.tasks())) == 3
    assert reader.get_stats().state_machine.completed == 301
    with TaskOrchestrator(journal=str(journal)) as orch:
        assert orch.get_stats().state_machine.completed == 301
        assert orch.handle("n/7").result() == 9
        orch.cancel_task("blocked")
    if where == "file":
        assert SqliteJournal(journal).verify()


def test_the_tasks_of_a_run_go_together_or_not(tmp_path):
    GOES.clear()
    flow = Workflow("flow")
    flow.task(len, "x", id="quick")
    flow.task(wait_for_it, id="slow")
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        run = orch.workflows.start(flow, "run")
        eventually(lambda: orch.get_task_status("run/quick").state == "completed")
        assert orch.prune(older_than=0).tasks == 0
        GOES.set()
        assert orch.wait(PATIENCE)
        pruned = orch.prune(older_than=0)
        assert str(pruned) == "Forgot 2 tasks of 1 run."
        assert orch.workflows.find() == []
        with pytest.raises(UnknownTaskError):
            orch.workflows.get("run")
        # Who has it, has its results still.
        assert run.handles["quick"].result() == 1
        assert orch.workflows.start(flow, "run").result(PATIENCE)["quick"] == 1


def test_what_is_run_again_or_waited_for_meanwhile_stays(tmp_path):
    """An event that comes after it was looked what may go keeps all that it names."""
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        many(orch, 400)
        ended = Event()
        wrong = []

        def submit():
            number = 0
            while not ended.is_set():
                number += 1
                above = f"n/{(number * 7) % 400}"
                with suppress(UnknownTaskError):
                    orch.submit_task(
                        Task.call(len, "x", id=f"c/{number}", after=[above])
                    )
                    # It is here, and so is what it waited for.
                    try:
                        orch.get_task_status(above)
                    except UnknownTaskError as error:
                        wrong.append(error)

        thread = threading.Thread(target=submit)
        thread.start()
        for most in (300, 200, 100, 50):
            orch.prune(keep_latest=most)
        ended.set()
        thread.join()
        assert orch.wait(PATIENCE)
        known = {*ids(orch)}
        assert wrong == []
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        assert {*ids(orch)} == known
        orch.rerun_task(next(iter(sorted(known))))
        orch.wait(PATIENCE)
    assert SqliteJournal(tmp_path / "j.db").verify()


def test_a_handle_of_what_has_gone_has_its_result_and_nothing_waits_for_it(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        many(orch, 3)
        handle = orch.handle("n/1")
        assert handle.result() == 9
        orch.prune(older_than=0)
        assert handle.result() == 9
        for task in (Task.call(abs, handle), Task.call(len, "x", after=[handle])):
            with pytest.raises(UnknownTaskError, match="has left the journal"):
                orch.submit_task(task)
        with pytest.raises(UnknownTaskError, match="has left the journal"):
            orch.submit(abs, handle)
        flow = Workflow("flow")
        flow.task(abs, handle, id="a")
        with pytest.raises(UnknownTaskError, match="has left the journal"):
            orch.workflows.start(flow, "run")
        assert ids(orch) == []


def test_keys_cached_results_and_logs_go_with_their_tasks(tmp_path):
    path = tmp_path / "j.db"
    CALLS.clear()

    def task(number):
        return Task.call(load, number, cache=Cache(), idempotency_key=f"k{number}")

    with TaskOrchestrator(journal=path) as orch:
        first = orch.submit_task(task(1))
        assert first.result(PATIENCE) == 1
        folder = tmp_path / "j.db.logs" / first.task_id
        eventually(lambda: folder.exists() and "loaded" in orch.log(first.task_id).text)
        assert orch.submit_task(task(1)).task_id == first.task_id
        assert orch.prune(older_than=0).tasks == 1
        assert not folder.exists()
        again = orch.submit_task(task(1))
        assert again.task_id != first.task_id
        assert again.result(PATIENCE) == 1
        assert CALLS == [1, 1]


def test_what_a_schedule_says_itself_goes_before_what_the_journal_says(tmp_path, clock):
    path = tmp_path / "j.db"
    with TaskOrchestrator(journal=SqliteJournal(path, keep_latest=5)) as orch:
        flow = Workflow("flow")
        flow.task(len, "x", id="a")
        flow.task(len, "y", id="b")
        orch.schedules.add("own", "every 24h", flow, keep_latest=3)
        orch.schedules.add("other", "every 24h", Task.call(len, "x"))
        # Or they begin what is due by then, whenever they see that the clock was set.
        orch.schedules.pause("own")
        orch.schedules.pause("other")
        clock(10 * DAY)
        now = time.time()
        span = now - 9 * DAY, now
        for name in ("own", "other"):
            orch.schedules.backfill(name, *span, limit=20)
        assert orch.wait(PATIENCE)
        # A run that a backfill has not counted yet is kept.
        eventually(
            lambda: all(each.state == "done" for each in orch.schedules.backfills())
        )
        pruned = orch.prune()
        runs = {name.partition("/")[0] for name in ids(orch) if name[:3] == "own"}
        assert len(runs) == 3
        assert sum(name.startswith("own") for name in ids(orch)) == 6
        assert sum(name.startswith("other") for name in ids(orch)) <= 5
        assert pruned.runs >= 6 + 4
        document = orch.schedules.status("own").document
        assert document["keep_latest"] == 3
        assert orch.prune(schedule="own", keep_latest=1).tasks == 4
        assert orch.prune(schedule="own", older_than=0).runs == 1
        assert not [name for name in ids(orch) if name.startswith("own")]


def test_a_run_that_a_backfill_waits_for_is_kept_until_it_is_counted(tmp_path):
    with TaskOrchestrator(journal=SqliteJournal(tmp_path / "j.db")) as orch:
        orch.schedules.add("s", "every 1h", Task.call(fail))
        orch.schedules.backfill("s", "2026-01-01T00:00Z", "2026-01-01T09:00Z")
        while orch.schedules.backfills()[0].state != "done":
            orch.prune(older_than=0)
        status = orch.schedules.backfills()[0]
        assert (status.failed, status.already) == (10, 0)


def test_what_cannot_be_is_said(tmp_path):
    with (
        TaskOrchestrator() as orch,
        pytest.raises(InvalidTaskError, match="no durable journal"),
    ):
        orch.prune(older_than=1)
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        for bad in ({"older_than": -1}, {"keep_latest": -1}, {"schedule": 7}):
            with pytest.raises(InvalidTaskError):
                orch.prune(**bad)
        for bad in ({"keep_for": -1}, {"keep_latest": True}):
            with pytest.raises(InvalidTaskError):
                orch.schedules.add("s", "every 1h", Task.call(len, "x"), **bad)
        # Without settings, nothing goes.
        many(orch, 3)
        assert orch.prune().tasks == 0


# -- a thousand nights -----------------------------------------------------------------


def nights(tmp_path, clock, count, every):
    """Rows, snapshots, log files and objects after each *every* of *count* nights."""
    path = tmp_path / "j.db"
    sizes = []
    with TaskOrchestrator(journal=SqliteJournal(path, keep_latest=20)) as orch:
        flow = Workflow("flow")
        flow.task(backup, id="a")
        flow.task(backup, id="b")
        orch.schedules.add("runs", "every 24h", flow, keep_latest=10)
        orch.schedules.add("tasks", "every 24h", Task.call(backup))
        for night in range(1, count + 1):
            clock(night * DAY)
            orch.drivers.wake("schedules")
            eventually(
                lambda night=night: (
                    orch.get_stats().state_machine.completed >= 3 * night
                )
            )
            if night % every == 0:
                orch.prune()
                gc.collect()
                logs = sum(1 for _ in (tmp_path / "j.db.logs").rglob("*.log"))
                # The lines of the latest 20,000 runs stay.
                kinds = (type(each) for each in gc.get_objects())
                inside = sum(
                    f"{kind.__module__}".startswith("taskorch.") and kind is not RunLine
                    for kind in kinds
                )
                sizes.append((rows(path), len(ids(orch)), logs, inside))
        stats = orch.get_stats().state_machine
        assert stats.completed == 3 * count
    with TaskOrchestrator(journal=path) as orch:
        assert orch.get_stats().state_machine.completed == 3 * count
        # No night comes again.
        assert orch.schedules.status("tasks").done.timestamp() > time.time() - DAY
    assert SqliteJournal(path).verify()
    return sizes


def test_what_is_kept_of_many_nights_stays_small(tmp_path, clock):
    sizes = nights(tmp_path, clock, 100, 20)
    assert all(kept <= 40 and logs <= 40 for _, kept, logs, _ in sizes)
    # The documents of runs that go in one look leave the journal in the next one: two
    # for each of twenty nights, at most. One that stays for each night is eighty.
    assert sizes[-1][0] <= sizes[0][0] + 60


@pytest.mark.slow("a thousand nights")
def test_so_does_that_of_a_thousand_nights(tmp_path, clock):
    sizes = nights(tmp_path, clock, 1_000, 100)
    assert all(kept <= 40 and logs <= 40 for _, kept, logs, _ in sizes)
    events, objects = ([size[place] for size in sizes] for place in (0, 3))
    # The documents of runs that go in one look leave the journal in the next one: two
    # for each of a hundred nights, at most. One that stays for each night is 900.
    assert max(events[1:]) <= events[0] + 200
    # Three thousand tasks, of which each would leave one at least.
    assert max(objects) < min(objects) + 500


# -- trouble on the way ----------------------------------------------------------------


@pytest.mark.parametrize("point", ["save", "parts", "forget", "rests", "forgotten"])
def test_what_fails_on_the_way_leaves_whole_tasks_and_true_sums(
    point, tmp_path, monkeypatch
):
    monkeypatch.setattr(_forgetting, "_MANY", 20)
    path = tmp_path / "j.db"
    struck = []

    def strike(reached):
        if reached == point and not struck:
            struck.append(reached)
            raise OSError(28, "no space left on device")

    with TaskOrchestrator(journal=path) as orch:
        many(orch, 350)
        orch.submit_task(Task.call(len, "x", id="last")).result(PATIENCE)
        _points.install_fault(strike)
        try:
            why = "keep a snapshot" if point == "save" else "no space left"
            with pytest.raises(JournalError, match=why):
                orch.prune(keep_latest=10)
        finally:
            _points.install_fault(None)
        assert struck
        assert {"last"} <= {*ids(orch)}
        assert orch.get_stats().state_machine.completed == 351
        orch.submit_task(Task.call(len, "x", id="more")).result(PATIENCE)
        # As a kill would leave it here.
        assert JournalReader(path).get_stats().state_machine.completed == 352
        orch.prune(keep_latest=10)
        assert len(ids(orch)) == 10
    assert SqliteJournal(path).verify()
    assert JournalReader(path).get_stats().state_machine.completed == 352


KILLED = """
import sys
from taskorch import SqliteJournal, Task, TaskOrchestrator
from taskorch.ext.views import JournalReader
path = sys.argv[1]
with TaskOrchestrator(journal=SqliteJournal(path)) as orch:
    had = orch.get_stats().state_machine.completed
    tasks = [Task.call(len, "x", id=f"{had}/{n}") for n in range(600)]
    orch.submit_tasks(tasks)
    orch.wait(60)
    print(had + 600, flush=True)
    while True:
        orch.prune(keep_latest=10)
        orch.submit_task(Task.call(len, "x"))
        orch.wait(60)
        print(orch.get_stats().state_machine.completed, flush=True)
"""


@pytest.mark.slow("four kills")
def test_a_kill_at_any_time_leaves_whole_tasks_and_true_sums(tmp_path):
    path, count = tmp_path / "j.db", 0
    for incarnation in range(4):
        with Started(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            line = process.stdout.readline()
            time.sleep(0.03 * incarnation)
            os.kill(process.pid, signal.SIGKILL)
            lines = [line, *process.stdout.readlines()]
        completed = JournalReader(path).get_stats().state_machine.completed
        assert completed >= max(int(each) for each in lines if each.strip())
        assert completed >= count
        count = completed
        assert SqliteJournal(path).verify()


# -- from elsewhere --------------------------------------------------------------------


def test_a_service_shows_first_what_it_would_forget(tmp_path, capsys, monkeypatch):
    service = pytest.importorskip("taskorch.ext.service")
    token = service.new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        many(orch, 30)
        app = service.create_app(orch, token=token)
        with service.serve(app, port=0) as api:
            client = Client(api.url, token=token)
            said = client.prune(keep_latest=20, dry_run=True)
            assert said["text"] == "Would forget 10 tasks."
            assert main(["prune", api.url, "--keep", "20", "--dry-run"]) == 0
            assert capsys.readouterr().out == "Would forget 10 tasks.\n"
            for more in ((), ("--dry-run",), ("--yes",)):
                slip = ("prune", api.url, "--schedule", "slip", "--keep", "3", *more)
                assert main([*slip]) == 0
                out = capsys.readouterr().out
                assert out.count("Nothing of a schedule 'slip' is there") == 1
                assert main([*slip, "--json"]) == 0
                assert json.loads(capsys.readouterr().out)["tasks"] == 0
            # Nobody can be asked here.
            assert main(["prune", api.url, "--keep", "20"]) == 2
            assert "--yes" in capsys.readouterr().err
            assert len(ids(orch)) == 30
            assert main(["prune", api.url, "--keep", "20", "--yes", "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["tasks"] == 10
            assert len(ids(orch)) == 20
            with pytest.raises(ServiceError, match="keep_latest"):
                client.prune(keep_latest=-1)


def test_a_journal_that_nobody_uses_is_pruned_by_schedule_too(tmp_path, capsys):
    path = tmp_path / "j.db"
    with TaskOrchestrator(journal=path) as orch:
        many(orch, 5)
        orch.schedules.add("s", "every 1h", Task.call(len, "x"))
        orch.schedules.backfill("s", "2026-01-01T00:00Z", "2026-01-01T09:00Z")
        assert orch.wait(PATIENCE)
    words = ["prune", str(path), "--schedule", "s", "--keep", "3"]
    assert main([*words, "--dry-run"]) == 0
    assert "7 tasks would be removed" in capsys.readouterr().out
    # Nobody can be asked here.
    assert main(words) == 2
    assert (
        "gone for good (look with --dry-run, then say --yes)" in capsys.readouterr().err
    )
    assert len(list(JournalReader(path).tasks())) == 5 + 10
    assert main([*words, "--yes"]) == 0
    assert len(list(JournalReader(path).tasks())) == 5 + 3
    capsys.readouterr()
    assert main(["prune", str(path), "--schedule", "slip", "--keep", "3"]) == 0
    assert "Nothing of a schedule 'slip'" in capsys.readouterr().out


# -- by itself -------------------------------------------------------------------------


def test_it_looks_by_itself(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(_pruning, "_LOOK", 0.05)
    monkeypatch.setattr(_pruning, "_SELDOM", 0.0)
    caplog.set_level("INFO", "taskorch.pruning")
    journal = SqliteJournal(tmp_path / "j.db", keep_latest=5)
    with TaskOrchestrator(journal=journal) as orch:
        many(orch, 30)
        eventually(lambda: len(ids(orch)) == 5)
        struck = []

        def strike(reached):
            if reached == "forget":
                struck.append(reached)
                raise OSError(28, "no space left on device")

        _points.install_fault(strike)
        try:
            many(orch, 10, start=30)
            eventually(lambda: "nothing has left the journal" in caplog.text)
        finally:
            _points.install_fault(None)
        eventually(lambda: len(ids(orch)) == 5)
        assert struck
    assert sum(map(int, re.findall(r"Forgot (\d+)", caplog.text))) == 35


def test_a_journal_that_can_forget_nothing_keeps_all(tmp_path):
    with TaskOrchestrator(journal=LinesJournal(tmp_path / "runs")) as orch:
        many(orch, 3)
        assert orch.prune(older_than=0, dry_run=True).tasks == 3
        assert orch.prune(older_than=0).tasks == 0
        assert orch.get_task_status("n/1").state == "completed"
        assert orch.submit_task(Task.call(len, "x", id="c", after=["n/1"])).result(
            PATIENCE
        )


def test_ids_of_our_own_making_go_too(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
        handles = orch.submit_tasks([Task.call(len, "x") for _ in range(5)])
        assert orch.wait(PATIENCE)
        assert orch.prune(keep_latest=1).tasks == 4
        with pytest.raises(UnknownTaskError):
            orch.get_task_status(handles[0].task_id)
        # Nobody need be asked while it writes.
        stop = Event()

        def submit():
            while not stop.is_set():
                orch.submit_task(Task.call(len, "x"))

        thread = threading.Thread(target=submit)
        thread.start()
        for _ in range(5):
            orch.prune(keep_latest=1)
        stop.set()
        thread.join()
        assert orch.wait(PATIENCE)
