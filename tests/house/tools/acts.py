"""
Fifteen things that a user does with the core: `python -P tests/house/tools/acts.py`.

It imports public names alone. At the end it prints, as JSON, which package it has used,
and which acts have failed with what; so it says, too, what a copy of the package can do
from which extensions were deleted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import taskorch
from taskorch import Program, RetryPolicy, Task, TaskOrchestrator, Workflow

PATIENCE: Final = 60
ACTS: Final[dict[str, Callable[[], None]]] = {}


def act(function: Callable[[], None]) -> Callable[[], None]:
    ACTS[function.__name__] = function
    return function


def double(value: int) -> int:
    return 2 * value


def refuse() -> None:
    msg = "refused"
    raise ValueError(msg)


@act
def submit() -> None:
    with TaskOrchestrator() as orch:
        assert orch.submit(double, 2).result(PATIENCE) == 4


@act
def map_values() -> None:
    with TaskOrchestrator() as orch:
        assert [*orch.map(double, [1, 2])] == [2, 4]
        handles = orch.submit_tasks([Task.call(double, n) for n in (1, 2)])
        assert [handle.result(PATIENCE) for handle in handles] == [2, 4]


@act
def task_with_options() -> None:
    with TaskOrchestrator() as orch:
        task = Task.call(double, 2, id="one", timeout=60, deadline=600, priority=2)
        assert orch.submit_task(task).result(PATIENCE) == 4
        assert orch.get_task_status("one").state.name == "COMPLETED"
        assert [status.task_id for status in orch.tasks()] == ["one"]


@act
def retry() -> None:
    tries: list[int] = []

    def fail_twice() -> int:
        tries.append(1)
        if len(tries) < 3:
            refuse()
        return len(tries)

    policy = RetryPolicy(max_attempts=4, base=0.001)
    with TaskOrchestrator() as orch:
        task = Task.call(fail_twice, retry=policy)
        assert orch.submit_task(task).result(PATIENCE) == 3


@act
def failure() -> None:
    with TaskOrchestrator() as orch:
        error = orch.submit(refuse).exception(PATIENCE)
        assert isinstance(error, ValueError)


@act
def durable_lives() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with TaskOrchestrator(journal=path) as orch:
            orch.submit_task(Task.call(pow, 2, 3, id="one")).result(PATIENCE)
        with TaskOrchestrator(journal=path) as orch:
            assert orch.handle("one").result(PATIENCE) == 8
            assert orch.submit_task(Task.call(pow, 2, 4)).result(PATIENCE) == 16


@act
def workflow() -> None:
    with TaskOrchestrator() as orch:
        flow = Workflow("flow")
        first = flow.task(double, 1, id="first")
        flow.task(double, first, id="second")
        run = orch.workflows.start(flow, id="run")
        assert run.result(PATIENCE)["second"] == 4


@act
def agent() -> None:
    orch = TaskOrchestrator()
    orch.agent("one", capabilities={"work"})(lambda task, _: task.payload)
    with orch:
        assert orch.submit_task(Task("work", 3)).result(PATIENCE) == 3


@act
def aio() -> None:
    async def main() -> None:
        async with TaskOrchestrator() as orch:
            assert await (await orch.aio.submit(double, 2)) == 4
            await orch.submit(asyncio.sleep, 0)

    asyncio.run(main())


@act
def process() -> None:
    with TaskOrchestrator(executors={"process": 1}) as orch:
        call = orch.options(executor="process").submit(pow, 2, 5)
        assert call.result(PATIENCE) == 32


@act
def program() -> None:
    with TaskOrchestrator() as orch:
        task = Task("say", Program([sys.executable, "-c", "print(7)"]))
        assert orch.submit_task(task).result(PATIENCE).stdout_tail.strip() == "7"


@act
def signals() -> None:
    seen: list[Any] = []
    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(
            lambda event, **_: seen.append(event), weak=False
        )
        orch.submit(double, 1).result(PATIENCE)
    assert len(seen) == 1


@act
def resources() -> None:
    with TaskOrchestrator(resources={"cpu": 2}) as orch:
        task = Task.call(double, 1, resources={"cpu": 1})
        assert orch.submit_task(task).result(PATIENCE) == 2
        assert orch.resources.usage()["cpu"].total == 2


@act
def stop() -> None:
    orch = TaskOrchestrator()
    orch.start()
    orch.submit_task(Task.wait_for("never", id="waits"))
    orch.cancel_task("waits")
    orch.submit_task(Task.wait_for("never", id="stays"))
    report = orch.stop(drain=False)
    assert report is not None


@act
def explain_and_health() -> None:
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.wait_for("never", id="waits"))
        assert str(orch.explain("waits"))
        assert orch.health().live
        assert orch.get_stats().leaked == 0
        assert orch.stuck()
        orch.cancel_task("waits")


def main() -> None:
    failed: dict[str, str] = {}
    for name, function in ACTS.items():
        try:
            function()
        except BaseException as error:
            failed[name] = repr(error)
            traceback.print_exc()
    print(json.dumps({"package": taskorch.__file__, "failed": failed}))


if __name__ == "__main__":
    main()
