"""The guarantees, watched on the real orchestrator while threads pull at it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from random import Random

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    MemoryJournal,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.core.engine._runtime import Runtime
from taskorch.core.kernel import Kernel
from taskorch.errors import TaskFailure, UsageError
from taskorch.testing import Breach, Watch

THREADS = 4
COMMANDS = 250
TWICE = RetryPolicy(max_attempts=2, base=0, jitter=0)


@pytest.fixture
def breaches(monkeypatch):
    """Every step of the orchestrators of this test is watched; what does not hold."""
    watches: dict[Runtime, Watch] = {}
    found: list[Breach] = []
    publish = Runtime.publish

    def new_kernel(runtime: Runtime) -> Kernel:
        kernel = runtime.kernel
        pools = tuple((pool.name, pool.total) for pool in kernel.pools.values())
        return Kernel(kernel.config, runtime.deciders, Random(0), pools)

    def watched(self: Runtime) -> None:
        items = list(self.kernel.sink or ())
        publish(self)
        if self not in watches:
            watches[self] = Watch(lambda: new_kernel(self))
        try:
            # Without a time: timers ring on a thread of their own, when they can.
            watches[self].step(self.kernel, items, 0)
        except Breach as breach:
            found.append(breach)

    monkeypatch.setattr(Runtime, "publish", watched)
    yield found
    for runtime, watch in watches.items():
        with runtime.lock:
            watch.finished(runtime.kernel)


def work(dice: int) -> int:
    if dice % 7 == 0:
        raise ValueError("no luck")
    context = current_context()
    if dice % 5 == 0 and context is not None:
        context.checkpoint()
    return dice


async def work_on_the_loop(dice: int) -> int:
    await asyncio.sleep(0)
    return work(dice)


def ask_another(orch: TaskOrchestrator, dice: int) -> int:
    """Waits for a task of its own, without its slot."""
    return orch.submit(work, dice * 7 + 1).result(PATIENCE)


def pull(orch: TaskOrchestrator, dice: Random, ids: list[str]) -> None:
    """What one caller does: a little of everything."""
    for number in range(COMMANDS):
        name = f"{dice.randrange(10**9)}-{number}"
        known = dice.choice(ids) if ids else None
        with suppress(UsageError):
            match dice.randrange(12):
                case 0 | 1 | 2:
                    orch.submit(dice.choice([work, work_on_the_loop]), number)
                case 3:
                    orch.submit(ask_another, orch, number)
                case 4 | 5 | 6:
                    after = () if known is None else (known,)
                    options = {
                        "id": name,
                        "retry": dice.choice([RetryPolicy(), TWICE]),
                        "priority": dice.randint(-1, 2),
                        "resources": dice.choice([Resources(), Resources(cpu=1)]),
                        "after": dice.choice([(), after]),
                        "timeout": dice.choice([None, 30.0]),
                        "not_before": dice.choice([None, None, 0.001]),
                    }
                    orch.submit_task(Task.call(work, number, **options))
                    ids.append(name)
                case 7:
                    orch.submit_task(Task("skill", number, id=name))
                    ids.append(name)
                case 8 if known:
                    orch.cancel_task(known)
                case 9 if known:
                    orch.suspend_task(known)
                    orch.resume_task(known)
                case 10 if known:
                    orch.set_priority(known, dice.randint(-3, 3))
                case 11 if known:
                    orch.rerun_task(known)


@pytest.mark.parametrize("seed", range(3))
def test_the_guarantees_hold_while_threads_pull_at_it(breaches, seed):
    """Four callers do a little of everything at once, and every step is watched."""
    with TaskOrchestrator(
        journal=MemoryJournal(keep_events=True),
        resources=Resources(cpu=3),
        concurrency=4,
        keep_finished=50,
        seed=seed,
    ) as orch:
        orch.agent("skilled", capabilities={"skill"}, max_concurrency=2)(
            lambda task, context: work(task.payload)
        )
        ids: list[str] = []
        callers = [
            threading.Thread(target=pull, args=(orch, Random(f"{seed}/{n}"), ids))
            for n in range(THREADS)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE)
        assert not any(caller.is_alive() for caller in callers)
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        # Idle, and whole: nothing is held any more.
        assert stats.queue.queued == stats.queue.processing == 0
        assert all(pool.used == 0 for pool in stats.resources.values())
        with suppress(TaskFailure):
            assert orch.submit(work, 1).result(PATIENCE) == 1

    assert breaches == []
