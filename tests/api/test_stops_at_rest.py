"""What is at rest, with a journal, costs a stop no time; what runs is waited for."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.api.tools import PATIENCE, Hold, eventually, in_loop

from taskorch import (
    RetryPolicy,
    StopReport,
    Task,
    TaskOrchestrator,
    TaskState,
    current_context,
)

#: Seconds that nobody waits for.
LONG = 100 * PATIENCE


def waits() -> Any:
    return current_context().wait("paid", timeout=LONG)


def waits_for_ever() -> Any:
    return current_context().wait("paid")


def sleeps() -> None:
    current_context().sleep(LONG)


def asks() -> Any:
    return current_context().ask("Ship?", due=LONG)


def has_a_child() -> Any:
    return current_context().child("pay", Task.wait_for("paid", timeout=LONG))


async def waits_on_a_loop() -> Any:
    return await current_context().aio.wait("paid", timeout=LONG)


async def sleeps_on_a_loop() -> None:
    await current_context().aio.sleep(LONG)


async def asks_on_a_loop() -> Any:
    return await current_context().aio.ask("Ship?", due=LONG)


async def has_a_child_on_a_loop() -> Any:
    wait = Task.wait_for("paid", timeout=LONG)
    return await current_context().aio.child("pay", wait)


def is_busy(result: Any) -> bool:
    return result is None


def finds_nothing() -> None:
    """A poll."""


POLL = RetryPolicy(delays=[LONG], retry_if_result=is_busy)
RESTING: dict[str, Task[Any]] = {
    **{
        function.__name__: Task.call(function)
        for function in (
            waits,
            waits_for_ever,
            sleeps,
            asks,
            has_a_child,
            waits_on_a_loop,
            sleeps_on_a_loop,
            asks_on_a_loop,
            has_a_child_on_a_loop,
        )
    },
    "waits in a process": Task.call(waits, executor="process"),
    "sleeps in a process": Task.call(sleeps, executor="process"),
    "polls": Task.call(finds_nothing, retry=POLL),
    "a wait": Task.wait_for("paid", timeout=LONG),
    "a question": Task.question("Ship?", due=LONG),
}


def rest(orch: TaskOrchestrator, task: Task[Any]) -> None:
    """Submit *task*, and return when it rests."""
    orch.submit_task(attrs.evolve(task, id="order"))

    def rests() -> bool:
        status = orch.get_task_status("order")
        if status.state is not TaskState.RUNNING:
            return status.state is not TaskState.QUEUED
        steps = orch.steps.of("order")
        sleeps = bool(steps) and ".sleep" in str(steps)
        return sleeps or len(list(orch.tasks())) > 1

    eventually(rests)


def ended(stop: Callable[[], StopReport]) -> StopReport:
    """The report of a stop that waits for nothing that is at rest."""
    reports: list[StopReport] = []
    stopping = threading.Thread(target=lambda: reports.append(stop()), daemon=True)
    stopping.start()
    stopping.join(PATIENCE)
    assert reports, "it waits for what is at rest"
    return reports[0]


@pytest.mark.parametrize("how", RESTING)
def test_what_is_at_rest_costs_a_stop_no_time(how: str, tmp_path: Path) -> None:
    """It is left to the next incarnation, and the stop was not cut short."""
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.start()
    rest(orch, RESTING[how])
    report = ended(orch.stop)
    assert report.drained
    assert "order" in {one.task_id for one in report.left}
    assert report.leaked == ()
    with TaskOrchestrator(journal=tmp_path / "runs.db") as following:
        assert not following.handle("order").done()


@in_loop
async def test_the_lifespan_of_an_app_ends_while_orders_wait(tmp_path: Path) -> None:
    """It ends its block, with no exception and no limit."""
    async with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        tasks = [Task.call(waits_on_a_loop, id=f"order-{n}") for n in range(100)]
        await orch.aio.submit_tasks(tasks)
        await asyncio.to_thread(
            eventually, lambda: len(list(orch.tasks(TaskState.BLOCKED))) == len(tasks)
        )
    assert orch.handle("order-0").done() is False


def test_a_signal_does_not_wait_for_a_process_at_rest(tmp_path: Path) -> None:
    with (  # noqa: PT012 - the signal ends the block
        pytest.raises(SystemExit),
        TaskOrchestrator(journal=tmp_path / "runs.db") as orch,
    ):
        orch.stop_on(signal.SIGUSR1, timeout=LONG)
        rest(orch, RESTING["sleeps in a process"])
        signal.raise_signal(signal.SIGUSR1)


hold = Hold()


def runs() -> Any:
    return hold(7)


def asks_another() -> Any:
    with TaskOrchestrator() as other:
        return other.submit(runs).result()


def fails_once() -> Any:
    hold.calls += 1
    if hold.calls == 1:
        hold.release()
        raise ConnectionError
    return 7


def begins_later() -> Any:
    return 7


@pytest.mark.parametrize(
    "task",
    [
        Task.call(runs),
        Task.call(asks_another),
        Task.call(fails_once, retry=RetryPolicy(delays=[0.2])),
        Task.call(begins_later, not_before=0.2),
    ],
    ids=["runs", "asks another", "is tried again", "begins later"],
)
def test_what_proceeds_is_waited_for(task: Task[Any], tmp_path: Path) -> None:
    """Beside others that are at rest."""
    hold.__init__()  # type: ignore[misc]
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.start()
    rest(orch, RESTING["waits"])
    handle = orch.submit_task(task)
    eventually(lambda: hold.calls or handle.status.state is TaskState.PENDING)
    stopping = threading.Thread(target=orch.stop, daemon=True)
    stopping.start()
    eventually(lambda: not orch.health().ready)
    hold.release()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert handle.result(0) == 7


def test_in_memory_a_stop_waits_for_a_sleep() -> None:
    """Nobody else would go on with it."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(lambda: current_context().sleep(0.05))
    assert handle.status.state is TaskState.COMPLETED
