"""`context.sleep`: a function waits, and what it has waited is not waited for again."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually, pass_time

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context
from taskorch.errors import InvalidTaskError, StepError, TaskCancelledError

THREE_DAYS = 3 * 86_400
#: What the functions below have done, in this process.
DONE: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_done():
    DONE.clear()


@pytest.fixture(params=["memory", "journal"])
def settings(request, tmp_path):
    """An orchestrator in memory, and one with a journal."""
    return {} if request.param == "memory" else {"journal": tmp_path / "runs.db"}


def nap_for_days() -> str:
    context = current_context()
    context.step("before", DONE.append, "before")
    context.sleep(days=3)
    context.step("after", DONE.append, "after")
    return "awake"


async def doze_for_days() -> str:
    context = current_context()
    await context.aio.step("before", DONE.append, "before")
    await context.aio.sleep(days=3)
    await context.aio.step("after", DONE.append, "after")
    return "awake"


def nap_shortly() -> float:
    before = time.time()
    current_context().sleep(0.2)
    return time.time() - before


def is_asleep(orch, task_id="x"):
    return any("sleep" in str(each) for each in orch.steps.of(task_id))


@pytest.mark.parametrize("function", [nap_for_days, doze_for_days])
def test_who_runs_again_waits_for_the_rest_alone(settings, function):
    """A suspended task runs again from its beginning, three days later."""
    with TaskOrchestrator(**settings) as orch:
        handle = orch.submit_task(Task.call(function, id="x"))
        eventually(lambda: is_asleep(orch))
        orch.suspend_task("x")
        eventually(lambda: str(orch.get_task_status("x").state) == "suspended")
        pass_time(orch, THREE_DAYS)
        orch.resume_task("x")
        assert handle.result(PATIENCE) == "awake"
        assert DONE == ["before", "after"]
        assert [each.key for each in orch.steps.of("x")] == [
            "before#1",
            "sleep#1",
            "after#1",
        ]


@pytest.mark.parametrize("function", [nap_for_days, doze_for_days])
def test_the_next_incarnation_waits_for_the_rest_alone(tmp_path, function):
    journal = tmp_path / "runs.db"
    first = TaskOrchestrator(journal=journal)
    first.start()
    first.submit_task(Task.call(function, id="x"))
    eventually(lambda: is_asleep(first))
    first.stop(drain=False, timeout=PATIENCE)
    with TaskOrchestrator(journal=journal) as orch:
        pass_time(orch, THREE_DAYS)
        assert orch.handle("x").result(PATIENCE) == "awake"
    assert DONE == ["before", "after"]


@pytest.mark.parametrize("function", [nap_for_days, doze_for_days])
def test_whoever_sleeps_has_given_the_slot_back(settings, function):
    """Others run meanwhile; it goes on once there is a slot for it."""
    with TaskOrchestrator(max_workers=1, **settings) as orch:
        handle = orch.submit_task(Task.call(function, id="x"))
        eventually(lambda: is_asleep(orch))
        assert orch.submit(int).result(PATIENCE) == 0
        assert "sleeps until" in str(orch.explain("x"))
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
    assert DONE == ["before"]


def nap_then_touch(path: str) -> None:
    current_context().sleep(days=3)
    Path(path).touch()


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_function_whose_sleep_is_cut_off_does_not_go_on(tmp_path, executor):
    path = tmp_path / "went on"
    with TaskOrchestrator(grace=PATIENCE) as orch:
        task = Task.call(nap_then_touch, str(path), id="x", executor=executor)
        handle = orch.submit_task(task)
        eventually(lambda: is_asleep(orch))
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        eventually(lambda: str(orch.get_task_status("x").state) == "cancelled")
    assert not path.exists()


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_sleep_lasts_as_long_as_it_says(executor):
    with TaskOrchestrator(executors={"process": 1}) as orch:
        task = Task.call(nap_shortly, id="x", executor=executor)
        assert orch.submit_task(task).result(PATIENCE) >= 0.2
        (step,) = orch.steps.of("x")
        assert (step.name, step.state, step.seconds) == ("sleep", "called", 0.2)
        until = step.began + timedelta(seconds=0.2)
        assert f"sleeps until {until:%Y-%m-%d %H:%M:%S} UTC, called" in str(step)


def test_a_moment_that_is_over_is_not_waited_for():
    def job():
        current_context().sleep(until=datetime.now(UTC) - timedelta(days=1))
        return "awake"

    with TaskOrchestrator() as orch:
        assert orch.submit(job).result(PATIENCE) == "awake"


def test_another_time_under_a_kept_name_is_refused(settings):
    def job():
        context = current_context()
        context.sleep(0.001 * context.attempt)
        raise ValueError(context.attempt)

    jobs["job"] = job
    with TaskOrchestrator(**settings) as orch:
        again = RetryPolicy(3, base=0.001)
        handle = orch.submit_task(Task.call(do, "job", retry=again))
        with pytest.raises(StepError, match=r"\(1 ms\).*\(2 ms\)"):
            handle.result(PATIENCE)


jobs = {}


def do(name):
    return jobs[name]()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seconds": -1}, "seconds: -1 is not between"),
        ({"days": "three"}, "days: a duration is"),
        ({"days": 10**6}, "is not between"),
        ({"until": datetime(2030, 1, 1)}, "a moment with its zone"),  # noqa: DTZ001
        ({"until": 5}, "a moment with its zone"),
        ({"until": datetime.max.replace(tzinfo=UTC)}, "until: .* is not between"),
        ({"seconds": 10**400}, "seconds: .* is not between"),
        ({"minutes": timedelta(minutes=3)}, "minutes: a number is needed"),
        ({"until": datetime.now(UTC), "hours": 1}, "a duration or a moment"),
    ],
)
def test_what_is_no_time_is_refused(given, says):
    def job():
        with pytest.raises(InvalidTaskError, match=says):
            current_context().sleep(**given)
        return "refused"

    with TaskOrchestrator() as orch:
        assert orch.submit(job).result(PATIENCE) == "refused"


def test_a_sleep_inside_a_step_is_refused():
    def job():
        context = current_context()
        context.step("outer", lambda: context.sleep(1))

    with TaskOrchestrator() as orch, pytest.raises(StepError, match="inside step"):
        orch.submit(job).result(PATIENCE)


def test_two_sleeps_at_once_have_names_of_their_own():
    """Else nobody could tell, when the task runs again, which of them is the first."""
    told = []

    def job():
        context = current_context()

        def nap(name):
            try:
                context.sleep(0.01, name=name)
                told.append(name)
            except StepError as error:
                told.append(error)

        threads = [threading.Thread(target=nap, args=(f"nap/{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with TaskOrchestrator() as orch:
        orch.submit(job).result(PATIENCE)
    assert sorted(map(str, told)) == ["nap/0", "nap/1", "nap/2"]
