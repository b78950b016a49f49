"""A policy or a coroutine that blocks for seconds is named while it does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, in_loop

from taskorch import Task, TaskOrchestrator
from taskorch.policies import PerformanceRouter, PriorityQueue, StructuralValidator


class Router(PerformanceRouter):
    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self.hold = hold

    def route(self, task: Any, candidates: Any, context: Any) -> Any:
        self.hold()
        return super().route(task, candidates, context)


class Queue(PriorityQueue):
    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self.hold = hold

    def order(self, task: Any, context: Any) -> Any:
        self.hold()
        return super().order(task, context)


class Validator(StructuralValidator):
    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self.hold = hold

    def validate(self, task: Any, context: Any) -> Any:
        self.hold()
        return super().validate(task, context)


@pytest.mark.parametrize(
    ("name", "policy"), [("router", Router), ("queue", Queue), ("validator", Validator)]
)
def test_a_policy_that_blocks_is_named_while_it_does(
    name: str, policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Health waits for no lock, and says where it stands; afterwards all is well."""
    caplog.set_level("INFO", "taskorch")
    hold = Hold()
    options: dict[str, Any] = {name: policy(hold)}
    with TaskOrchestrator(**options) as orch:
        orch.agent("a", capabilities={"x"})(lambda task, context: task.payload)
        orch.agent("b", capabilities={"x"})(lambda task, context: task.payload)
        handles: list[Any] = []
        thread = threading.Thread(
            target=lambda: handles.append(orch.submit_task(Task("x", 7)))
        )
        thread.start()
        hold.wait()
        eventually(lambda: f"the {name} has been asked" in str(orch.health()))
        health = orch.health()
        assert health.status == "degraded"
        # The innermost call: it waits for an event.
        assert "threading.py:" in str(health)
        assert f"the {name} has been asked" in caplog.text
        hold.release()
        thread.join(PATIENCE)
        assert handles[0].result(PATIENCE) == 7
        assert "answers again" not in caplog.text
        assert orch.health().status == "ok"
        assert f"the {name} answers again" in caplog.text
        # Once, and anew when it blocks anew.
        caplog.clear()
        assert orch.health().status == "ok"
        assert caplog.text == ""
        hold.go.clear()
        thread = threading.Thread(
            target=lambda: handles.append(orch.submit_task(Task("x", 8)))
        )
        thread.start()
        eventually(lambda: f"the {name} has been asked" in str(orch.health()))
        hold.release()
        thread.join(PATIENCE)
        assert handles[1].result(PATIENCE) == 8
        assert orch.health().status == "ok"
        assert f"the {name} answers again" in caplog.text


def test_a_coroutine_that_blocks_the_loop_is_named_while_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Others on the loop wait for it, and whoever asks for health does not."""
    caplog.set_level("INFO", "taskorch")
    hold = Hold()

    async def block() -> None:
        hold()

    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(block, id="the-one"))
        hold.wait()
        eventually(lambda: "blocked the event loop" in str(orch.health()))
        health = orch.health()
        assert health.status == "degraded"
        assert "task the-one has blocked the event loop" in str(health)
        assert "threading.py:" in str(health)
        assert "the-one" in caplog.text
        hold.release()
        handle.result(PATIENCE)
        eventually(lambda: orch.health().status == "ok")
        assert "the loop answers again" in caplog.text


@in_loop
async def test_the_loop_of_the_caller_is_asked_too() -> None:
    """It answers, and health is asked again and again without harm."""
    async with TaskOrchestrator() as orch:
        for _ in range(3):
            assert orch.health().status == "ok"
            await asyncio.sleep(0)
    assert orch.health().status == "failed"
