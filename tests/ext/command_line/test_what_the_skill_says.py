"""
Ten small programs, as whoever has read `taskorch skill` writes them; and what it says of
the five mistakes, and of what is otherwise than expected, is so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    Approval,
    DependencyFailedError,
    InvalidTaskError,
    JournalTakenError,
    Permanent,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.model import Quota

#: What was called, in this test.
CALLS: list[object] = []
#: What is broken, in this test.
BROKEN: set[str] = set()
#: What was to stand still does; and may go on.
STANDS, LET_GO = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def _clean():
    CALLS.clear()
    BROKEN.clear()
    STANDS.clear()
    LET_GO.clear()
    yield
    LET_GO.set()


@pytest.fixture(name="journal")
def fixture_journal(tmp_path):
    return tmp_path / "flow.db"


def incarnation(journal, **settings):
    """One run of a script."""
    return TaskOrchestrator(journal=journal, durability="process", **settings)


# -- ten programs ----------------------------------------------------------------------


def fetch(day, name):
    CALLS.append((day, name))
    if name in BROKEN:
        BROKEN.discard(name)
        raise ConnectionError("the network blinked")
    return f"{name} of {day}"


def merge(pages):
    return " + ".join(filter(None, pages))


def test_pages_are_fetched_side_by_side_and_tried_again():
    BROKEN.add("ben")
    with TaskOrchestrator(concurrency=4) as orch:
        careful = orch.options(retry=RetryPolicy(3, base=0), timeout=60)
        pages = [careful.submit(fetch, "mon", name) for name in ("ada", "ben")]
        assert orch.submit(merge, pages).result() == "ada of mon + ben of mon"
    assert len(CALLS) == 3


def pages(day):
    wf = Workflow("pages")
    parts = [wf.task(fetch, day, name, id=f"fetch-{name}") for name in ("ada", "ben")]
    wf.task(merge, parts, id="merge")
    return wf


def outcome(run):
    """What a run came to: its result, or the names of what failed."""
    try:
        return run.result()["merge"]
    except WorkflowFailedError as error:
        return list(error.failures)


def test_a_day_is_done_once_and_what_failed_is_done_again(journal):
    BROKEN.add("ben")
    outcomes = []
    for _ in range(3):
        with incarnation(journal, rerun_failed=True) as orch:
            run = orch.workflows.start(pages("mon"), id="pages-mon")
            outcomes.append(outcome(run))
    assert outcomes == [["fetch-ben"], *["ada of mon + ben of mon"] * 2]
    assert sorted(CALLS) == [("mon", "ada"), ("mon", "ben"), ("mon", "ben")]
    with incarnation(journal) as orch:
        run = orch.workflows.start(pages("tue"), id="pages-tue")
        assert run.result()["merge"] == "ada of tue + ben of tue"


def test_a_release_stops_where_a_program_fails():
    wf = Workflow("release")
    wf.chain(
        [wf.program(["true"], id="lint"), wf.program(["true"], id="types")],
        wf.program(["sh", "-c", "echo 2 failed; exit 3"], id="tests", timeout=60),
        wf.program(["true"], id="publish"),
    )
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf)
        with pytest.raises(WorkflowFailedError) as failed:
            run.result()
        (error,) = failed.value.failures.values()
        assert error.result.exit_code == 3
        assert error.result.stdout_tail == "2 failed\n"
        why = orch.explain(f"{run.workflow_id}/publish")
        assert "tests, which has failed" in str(why)


def names():
    return ["a", "bb", "ccc"]


def test_what_is_known_at_run_time_only_is_mapped():
    wf = Workflow("sizes")
    wf.reduce(max, wf.map(len, wf.task(names), timeout=30), id="most")
    with TaskOrchestrator() as orch:
        assert orch.workflows.start(wf).result()["most"] == 3


def primes(first, last):
    return sum(all(n % d for d in range(2, n)) for n in range(first, last))


def test_what_computes_has_processes():
    with TaskOrchestrator(executors={"process": 1}) as orch:
        parts = [
            Task.call(primes, n, n + 50, executor="process", timeout=60)
            for n in (2, 52)
        ]
        assert sum(part.result() for part in orch.submit_tasks(parts)) == 26


def test_an_api_is_asked_by_few_coroutines_at_once():
    now, most = 0, 0

    async def ask(number):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return number

    async def main():
        async with TaskOrchestrator(concurrency=100) as orch:
            orch.resources.set_quotas(Quota(type="api", max_parallel=2))
            calls = [Task.call(ask, n, type="api", retry=3) for n in range(6)]
            return await asyncio.gather(*orch.submit_tasks(calls))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4, 5]
    assert most <= 2


def deploy(version):
    CALLS.append(version)
    return f"{version} is out"


def release(orch):
    question = Task.question("deploy 1.2?", id="ask/1.2", who=("ada",))
    orch.submit_task(question)
    deployed = Task.call(
        deploy, "1.2", id="deploy/1.2", after=["ask/1.2"], idempotent=False
    )
    return orch.submit_task(deployed)


def test_a_deployment_waits_for_a_person_over_the_end_of_its_process(journal):
    with incarnation(journal) as orch:
        assert not release(orch).done()
    with incarnation(journal) as orch:
        deployed = release(orch)
        orch.answer("ask/1.2", "approve", by="ada")
        assert deployed.result(PATIENCE) == "1.2 is out"
    with incarnation(journal) as orch:
        assert release(orch).result(PATIENCE) == "1.2 is out"
    assert CALLS == ["1.2"]


def night():
    slot = current_context().slot
    return f"the report of {slot:%Y-%m-%d}"


def test_a_night_knows_which_it_is(journal):
    with incarnation(journal) as orch:
        orch.schedules.add("nightly", "every 24h", night, zone="Europe/Berlin")
        at = datetime(2026, 11, 25, tzinfo=UTC)
        (made,) = orch.schedules.backfill("nightly", at, at)
        assert orch.handle(made).result(PATIENCE) == "the report of 2026-11-25"


def ask(mirror):
    if mirror == "broken":
        raise Permanent("it is gone")
    return mirror


def test_what_came_is_taken_though_something_failed():
    with TaskOrchestrator() as orch:
        asked = [
            orch.submit_task(Task.call(ask, name, id=name, retry=3))
            for name in ("here", "broken")
        ]
        came = orch.options(join="finished").submit(merge, asked)
        needs_all = orch.submit(merge, asked)
        told = orch.options(on_parent_failure="skip").submit(print, asked)
        assert came.result() == "here"
        assert isinstance(needs_all.exception(), DependencyFailedError)
        orch.wait()
        assert told.cancelled()
        assert orch.get_task_status("broken").attempts == 1


def add_up(numbers):
    context = current_context()
    place, total = context.restored or (0, 0)
    while place < len(numbers):
        if place == 2:
            stand_still((place, total))
        CALLS.append(place)
        place, total = place + 1, total + numbers[place]
        context.checkpoint((place, total))
    return total


def stand_still(state=None):
    """Until this incarnation of the orchestrator ends, if it is to."""
    STANDS.set()
    while "process" in BROKEN:
        time.sleep(0.001)
        current_context().checkpoint(state)


def test_a_long_task_goes_on_in_its_middle(journal):
    BROKEN.add("process")
    task = Task.call(add_up, [1, 2, 3, 4], id="sum")
    with incarnation(journal) as orch:
        orch.submit_task(task)
        assert STANDS.wait(PATIENCE)
        orch.stop(drain=False)  # as a kill
    assert CALLS == [0, 1]
    BROKEN.clear()
    with incarnation(journal) as orch:
        assert orch.submit_task(task).result(PATIENCE) == 10
    assert CALLS == [0, 1, 2, 3]


# -- the five mistakes, of which none raises an error ----------------------------------


def test_without_ids_all_is_done_again(journal):
    for _ in range(2):
        with incarnation(journal) as orch:
            orch.submit(fetch, "mon", "ada").result()
            orch.workflows.start(pages("mon")).result()
    assert CALLS.count(("mon", "ada")) == 4


def step(name):
    CALLS.append(name)
    if name == "first":
        stand_still()


def test_without_ids_what_a_dead_run_left_is_done_beside_the_new(journal):
    BROKEN.add("process")
    with incarnation(journal, concurrency=1) as orch:
        for name in ("first", "second"):
            orch.submit(step, name)
        assert STANDS.wait(PATIENCE)
        orch.stop(drain=False)  # as a kill
    assert CALLS == ["first"]
    BROKEN.clear()
    with incarnation(journal, concurrency=1) as orch:
        for name in ("first", "second"):
            orch.submit(step, name)
    assert sorted(CALLS) == ["first"] * 3 + ["second"] * 2


def report():
    return CALLS[-1]


def test_an_id_means_the_work_of_yesterday(journal):
    for day in ("mon", "tue"):
        CALLS.append(day)
        with incarnation(journal) as orch:
            same = orch.submit_task(Task.call(report, id="report")).result()
            named = orch.submit_task(Task.call(report, id=f"report/{day}")).result()
    assert (same, named) == ("mon", "tue")


def test_a_handle_in_a_text_is_no_dependency():
    with TaskOrchestrator() as orch:
        page = orch.options(id="page").submit(fetch, "mon", "ada")
        text = orch.submit(str.upper, f"{page}").result()
    assert "TASKHANDLE" in text
    assert "MON" not in text


def careless(name):
    CALLS.append(name)
    try:
        raise ConnectionError(name)
    except OSError:
        print("could not", name)


def test_an_error_that_a_task_keeps_to_itself_is_not_tried_again():
    with TaskOrchestrator() as orch:
        handle = orch.options(retry=3).submit(careless, "ada")
        assert orch.submit(merge, [handle]).result() == ""
    assert CALLS == ["ada"]


def test_a_block_raises_nothing_that_nobody_asks_for():
    with TaskOrchestrator() as orch:
        orch.options(id="bad").submit(divmod, 1, 0)
    assert orch.get_task_status("bad").state == "failed"


def append(path):
    with Path(path).open("a") as file:
        file.write("line\n")
    if "disk" in BROKEN:
        BROKEN.discard("disk")
        raise OSError("the disk blinked")


def test_what_is_tried_again_begins_at_its_beginning(tmp_path):
    BROKEN.add("disk")
    with TaskOrchestrator() as orch:
        retry = RetryPolicy(2, base=0)
        orch.options(retry=retry).submit(append, tmp_path / "lines").result()
    assert (tmp_path / "lines").read_text() == "line\nline\n"


def charge(customer):
    CALLS.append(customer)
    stand_still()


def test_what_must_not_happen_twice_waits_for_a_decision(journal):
    BROKEN.add("process")
    task = Task.call(charge, "ann", id="charge", idempotent=False)
    with incarnation(journal) as orch:
        orch.submit_task(task)
        assert STANDS.wait(PATIENCE)
        orch.stop(drain=False)  # as a kill
    with incarnation(journal) as orch:
        orch.submit_task(task)
        assert orch.get_task_status("charge").state == "blocked"
        orch.decide("charge", "complete")
    assert CALLS == ["ann"]


# -- what is otherwise than expected ---------------------------------------------------


def test_what_failed_stays_failed_unless_it_is_asked_to_run_again(journal):
    BROKEN.add("ada")
    task = Task.call(fetch, "mon", "ada", id="ada")
    for _ in range(2):
        with incarnation(journal) as orch:
            assert orch.submit_task(task).exception() is not None
    assert len(CALLS) == 1
    with incarnation(journal, rerun_failed=True) as orch:
        assert orch.submit_task(task).result() == "ada of mon"


def test_a_timeout_cannot_stop_a_thread_and_its_slot_is_held():
    with TaskOrchestrator(concurrency=1, grace=0) as orch:
        late = orch.options(timeout=0.01).submit(LET_GO.wait, PATIENCE)
        assert isinstance(late.exception(), Exception)
        waits = orch.submit(abs, -1)
        assert not waits.done()
        LET_GO.set()
        assert waits.result() == 1


def test_a_journal_refuses_what_it_cannot_keep(journal):
    with incarnation(journal) as orch:
        for task in (Task.call(lambda: 1), Task.call(len, [object()])):
            with pytest.raises(InvalidTaskError):
                orch.submit_task(task)
        with pytest.raises(JournalTakenError), incarnation(journal):
            pass


def nested(orch):
    return orch.submit(abs, -1).result()


def test_a_task_may_wait_for_another_with_the_only_slot():
    with TaskOrchestrator(concurrency=1) as orch:
        assert orch.submit(nested, orch).result(PATIENCE) == 1


def test_a_phase_waits_for_its_approval():
    wf = Workflow("ship")
    wf.phase("tests", gate=Approval()).task(abs, -1, id="test")
    wf.phase("publish").task(abs, -2, id="publish")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="v1")
        orch.wait()
        orch.workflows.approve("v1", "tests", by="ada")
        assert run.result()["publish"] == 2
