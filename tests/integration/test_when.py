"""`orch.when` and `taskorch when`: when a task or a run ends, through all faces."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from threading import Event
from time import sleep

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    Workflow,
    task,
)
from taskorch.cli import main
from taskorch.client import Client

GO = Event()
#: What each takes, in seconds, and how often it is measured before anybody asks.
TOOK, MEASURED = 0.02, 12


@task
def step(seconds=TOOK):
    sleep(seconds)


@task
def hold():
    assert GO.wait(PATIENCE)


@task
def never_ran():
    """Do nothing."""


@pytest.fixture(autouse=True)
def _let_go():
    GO.clear()
    yield
    GO.set()


def measured(orch):
    for handle in [orch.submit(step) for _ in range(MEASURED)]:
        handle.result(PATIENCE)


def held(orch):
    """All slots are taken by what runs until somebody lets it go."""
    handles = [orch.submit(hold) for _ in range(2)]
    eventually(lambda: all(each.status.state == "running" for each in handles))
    return handles


def test_what_stands_before_it_counts():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        queued = [orch.submit(step) for _ in range(50)]
        first, last = orch.when(queued[0].task_id), orch.when(queued[-1].task_id)
        assert first.p50 < last.p50
        assert first.p50 <= first.p90
        assert last.p50 <= last.p90
        GO.set()


def test_what_nobody_has_measured_is_said_and_not_guessed():
    with TaskOrchestrator(concurrency=2) as orch:
        measured(orch)
        held(orch)
        promise = orch.when(orch.submit(step).task_id)
        assert promise.p50 is promise.p90 is None
        assert "No task of type hold has ended yet" in str(promise)
        GO.set()


def test_of_its_own_type_nothing_is_known():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        blocker = orch.submit(step, 0.3)
        promise = orch.when(orch.submit(never_ran.options(after=[blocker])).task_id)
    assert promise.p50 is None
    assert "No task of type never_ran has ended yet" in str(promise)
    assert str(promise).startswith("Nobody knows when")


def test_what_its_user_expects_stands_for_what_nobody_has_measured():
    with TaskOrchestrator(concurrency=2) as orch:
        orch.hold_starts("not yet", by="me")
        task_id = orch.submit(never_ran.options(id="x", expected=60)).task_id
        assert "held back by me" in str(orch.when(task_id))
        orch.cancel_task(task_id)


def test_what_has_ended_ended():
    with TaskOrchestrator() as orch:
        handle = orch.submit(step.options(id="done"))
        handle.result(PATIENCE)
        promise = orch.when("done")
        assert promise.ended == handle.status.ended
        assert promise.p50 is promise.p90 is promise.risk is None
        assert str(promise).startswith("done ended at ")
        past = orch.when("done", deadline=promise.ended - timedelta(seconds=1))
        assert "was missed" in str(past)
        assert "was met" in str(orch.when("done", deadline=promise.ended))


def test_a_run_ends_with_the_last_of_its_tasks():
    flow = Workflow("flow")
    flow.task(step, 0.3, id="first")
    flow.task(step, id="last", after=["first"])
    with TaskOrchestrator() as orch:
        measured(orch)
        run = orch.workflows.start(flow, id="night")
        promise = orch.when("night")
        assert promise.p50 == orch.when("night/last").p50 or promise.p50 is not None
        assert promise.state in ("running", "waiting")
        run.result(PATIENCE)
        assert orch.when("night").ended is not None


def behind(orch):
    """What runs until somebody lets it go, and takes a second by what is known."""
    blocker = orch.submit(hold.options(expected=1))
    eventually(lambda: blocker.status.state == "running")


def test_a_deadline_is_a_risk():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        task_id = orch.submit(step).task_id
        assert orch.when(task_id, deadline=86_400).risk == 0
        assert orch.when(task_id, deadline=0.001).risk == 1
        assert "ends later than" in str(orch.when(task_id, deadline=86_400))
        own = orch.submit(step.options(deadline=86_400)).task_id
        assert orch.when(own).risk == 0
        GO.set()


@pytest.mark.parametrize(
    "deadline", ["yesterday", "25:00", object(), True, -1, float("nan")]
)
def test_what_is_no_time_is_refused(deadline):
    with TaskOrchestrator(concurrency=2) as orch:
        held(orch)
        with pytest.raises(InvalidTaskError, match="deadline"):
            orch.when(orch.submit(step.options(id="x")).task_id, deadline=deadline)
        GO.set()


def test_a_time_that_is_over_is_refused():
    with TaskOrchestrator(concurrency=2) as orch:
        held(orch)
        orch.submit(step.options(id="x"))
        with pytest.raises(InvalidTaskError, match="is over"):
            orch.when("x", deadline=datetime.now(UTC) - timedelta(hours=1))
        with pytest.raises(UnknownTaskError):
            orch.when("nobody")
        with pytest.raises(InvalidTaskError, match="budget"):
            orch.when("x", budget=0)
        GO.set()


def test_what_waits_for_a_person_has_no_end_that_is_known():
    flow = Workflow("flow")
    flow.add(Task.question("Ship?", id="ok"))
    flow.task(step, id="last", after=["ok"])
    with TaskOrchestrator() as orch:
        measured(orch)
        orch.workflows.start(flow, id="night")
        eventually(lambda: orch.get_task_status("night/ok").state == "blocked")
        promise = orch.when("night/last")
        assert promise.p50 is None
        assert "night/last waits for night/ok, which is blocked" in str(promise)
        assert "night/ok is blocked" in str(orch.when("night/ok"))
        orch.workflows.cancel("night")


def test_one_that_has_no_time_says_how_far_it_came():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        for _ in range(3_000):
            last = orch.submit(step).task_id
        promise = orch.when(last, budget=0.001)
        assert promise.p90 is None
        assert "Not within 1 ms of processor time" in str(promise)
        assert promise.not_before or promise.p50
        orch.change_tasks("cancel")
        GO.set()


def test_all_faces_say_the_same(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
        orch.submit(step.options(id="done"), 0.01).result(PATIENCE)
        with orch.serve(port=0) as server:
            said = Client(server.url, token=server.token).when("done")
        assert said["text"] == str(orch.when("done"))
        assert asyncio.run(_awaited(orch)) == orch.when("done").ended
    assert main(["when", path, "done"]) == 0
    assert capsys.readouterr().out.startswith("done ended at ")
    assert main(["when", path, "done", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["promise"]["state"]
    assert main(["when", path, "nobody"]) != 0


def test_of_a_journal_that_nobody_uses_it_says_so(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
    orch = TaskOrchestrator(journal=path, concurrency=1)
    orch.submit(step.options(id="x"))
    orch.stop(drain=False)
    assert main(["when", path, "x"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("x ends within ")
    assert "Nobody works in this journal now" in said


async def _awaited(orch):
    return (await orch.aio.when("done")).ended


@pytest.mark.parametrize("journal", [None, "runs.db"])
def test_it_has_a_record_of_its_promises(tmp_path, journal):
    path = None if journal is None else str(tmp_path / journal)
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
        behind(orch)
        first = orch.submit(step)
        assert orch.when(first.task_id).settled == 0
        assert orch.when(first.task_id).settled == 0
        GO.set()
        first.result(PATIENCE)
        GO.clear()
        behind(orch)
        last = orch.submit(step)
        promise = orch.when(last.task_id)
        assert promise.settled == 1
        assert promise.held_p50 <= promise.held_p90 <= 1
        assert "Of 1 such promise before it," in str(promise)
        GO.set()
        last.result(PATIENCE)
        GO.clear()
    if path is not None:
        with TaskOrchestrator(journal=path, concurrency=1) as orch:
            behind(orch)
            # What is promised is known to those who come later.
            assert orch.when(orch.submit(step).task_id).settled == 2
            GO.set()


def test_what_was_called_off_has_neither_held_nor_broken_a_promise():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        first, last = orch.submit(step), orch.submit(step)
        assert orch.when(first.task_id).p90 is not None
        orch.cancel_task(first.task_id)
        assert orch.when(last.task_id).settled == 0
        GO.set()
