"""A jam, as a person meets it: what `explain` and `stuck` say, and that it helps."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, fail, pass_time

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
)


def test_a_jam_is_resolved_by_what_is_said() -> None:
    """A full pool, a failed parent, a missing capability, a suspended task."""
    orch = TaskOrchestrator(
        resources=Resources(memory_mb=100), unknown_capability="wait"
    )
    good: list[int] = []

    def build() -> None:
        if not good:
            raise ValueError("no such file")

    with orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="big", resources=Resources(memory_mb=80)))
        hold.wait()
        orch.submit_task(Task.call(int, id="small", resources=Resources(memory_mb=30)))
        orch.submit_task(Task.call(build, id="build", retry=RetryPolicy(1)))
        orch.submit_task(Task.call(int, id="ship", after=["build"]))
        orch.submit_task(Task("paint", id="mona"))
        orch.submit_task(Task.call(int, id="paused", not_before=60))
        orch.suspend_task("paused")
        eventually(lambda: orch.get_task_status("ship").state is TaskState.BLOCKED)

        found = {group.kind: group for group in orch.stuck()}
        assert {kind: group.tasks for kind, group in found.items()} == {
            "dependency": ("ship",),
            "capability": ("mona",),
            "suspended": ("paused",),
        }
        assert [kind for kind, group in found.items() if group.outside] == ["suspended"]
        assert json.dumps([group.to_dict() for group in found.values()])

        (blocker,) = orch.explain("small").blockers
        assert blocker.remedies[0].tasks == ("big",)
        hold.release()

        (blocker,) = orch.explain("ship").blockers
        (remedy,) = blocker.remedies
        assert remedy.kind == "rerun"
        good.append(1)
        for name in remedy.tasks:
            orch.rerun_task(name)

        (blocker,) = orch.explain("mona").blockers
        (remedy,) = blocker.remedies

        @orch.agent("painter", capabilities=set(remedy.capabilities))
        def paint(task, context) -> str:
            return "painted"

        (blocker,) = orch.explain("paused").blockers
        for name in blocker.remedies[0].tasks:
            orch.resume_task(name)
        pass_time(orch, 60)
        for name in ("small", "ship", "mona", "paused"):
            orch.handle(name).result(PATIENCE)
        assert orch.stuck() == ()


def test_who_waits_inside_for_what_is_stuck() -> None:
    """The task for which it waits is named, and it is stuck with that one."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, id="child", not_before=60))
        orch.suspend_task("child")

        def wait() -> int:
            return orch.handle("child").result(PATIENCE)

        parent = orch.submit_task(Task.call(wait, id="parent"))
        eventually(lambda: orch.explain("parent").blockers != ())
        (blocker,) = orch.explain("parent").blockers
        assert (blocker.kind, blocker.remedies[0].tasks) == ("dependency", ("child",))
        (group,) = orch.stuck()
        assert set(group.tasks) == {"child", "parent"}
        orch.cancel_task("child")
        with pytest.raises(Exception, match="child"):
            parent.result(PATIENCE)


def test_before_and_after() -> None:
    """Not started, and stopped."""
    orch = TaskOrchestrator()
    orch.submit_task(Task.call(int, id="x"))
    (blocker,) = orch.explain("x").blockers
    assert blocker.detail == "The orchestrator has not been started."
    assert [remedy.kind for remedy in blocker.remedies] == ["start"]
    orch.start()
    assert orch.handle("x").result(PATIENCE) == 0
    hold = Hold()
    orch.submit_task(Task.call(hold, id="y"))
    hold.wait()
    orch.submit_task(Task.call(int, id="z", not_before=60))
    hold.release()
    orch.stop(drain=False)
    assert orch.explain("z").state is TaskState.CANCELLED
    with pytest.raises(UnknownTaskError):
        orch.explain("nobody")


def test_the_estimate_is_for_people() -> None:
    """A program that asks often leaves it out."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(int).result(PATIENCE)
        orch.submit_task(Task.call(hold, id="runs"))
        hold.wait()
        orch.submit_task(Task.call(int, id="x"))
        told = orch.explain("x")
        assert told.estimate is not None
        assert told.estimate.basis == "no task of type Hold has completed yet"
        assert orch.explain("x", estimates=False).estimate is None
        hold.release()


def test_from_a_coroutine() -> None:
    async def main() -> None:
        async with TaskOrchestrator() as orch:
            await orch.aio.submit_task(Task.call(fail, ValueError("no"), id="a"))
            await orch.aio.submit_task(Task.call(int, id="b", after=["a"]))
            assert await orch.aio.wait(PATIENCE)
            told = await orch.aio.explain("b", estimates=False)
            assert told.estimate is None
            (group,) = await orch.aio.stuck()
            assert group.tasks == ("b",)

    asyncio.run(main())
