"""No look at an orchestrator fails because other threads change what it looks at."""

from __future__ import annotations

import gc
import itertools
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.api.tools import eventually

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.api.journal import SqliteJournal
from taskorch.api.verbs.table import VERBS, bound
from taskorch.core.inside import Inside
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule
from taskorch.model import Agent, HealthCheck
from taskorch.protocols import AttemptExecutor

#: All looks that need no name of a task, run or schedule, as front ends ask them.
LOOKS = [
    call
    for call, verb in VERBS.items()
    if verb.method == "GET" and "{" not in verb.path
]
NO_SECOND = Policy(
    "no-second",
    "safety",
    "critical",
    at="start",
    rules=[Rule("r", "task.payload.args[0]", "not_equals", 2, missing="passes")],
)


class Elsewhere(AttemptExecutor[Any]):
    """The executor of a worker that gets no work."""

    def begin(self, attempt: Any) -> Any:
        return attempt


@contextmanager
def switching() -> Iterator[None]:
    """Let other threads run wherever Python may: between two steps, and as it allocates."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()

    def switch(*_: object) -> None:
        # The wait of no time lets other threads run.
        select.select([], [], [], 0)

    sys.setswitchinterval(1e-6)
    gc.callbacks.append(switch)
    gc.set_threshold(5, 100_000, 100_000)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(switch)
        sys.setswitchinterval(interval)


def changes(orch: TaskOrchestrator) -> list[Callable[[int], object]]:
    """What other threads do meanwhile, with a number that is new each time."""

    def come_and_go(n: int) -> None:
        orch.agents.join(Agent(f"agent-{n}", {"gpu"}, lease=60.0), Elsewhere())
        orch.agents.leave(f"agent-{n}")

    def hold(n: int) -> None:
        orch.hold_starts("for a look", by=f"test-{n}", most=100)
        orch.release_starts(f"test-{n}")

    def take(n: int) -> None:
        orch.resources.allocate({"cpu": 0.001}, owner=f"test-{n}").release()

    def schedule(n: int) -> None:
        orch.schedules.add(f"s-{n}", 3_600.0, Task.call(int))
        orch.schedules.remove(f"s-{n}")

    def deny(n: int) -> None:
        orch.submit_task(Task.call(int, 2, id=f"denied-{n}"))
        if n > 50:
            orch.cancel_task(f"denied-{n - 50}")

    def run(n: int) -> None:
        flow = Workflow(f"run-{n}")
        flow.add(Task.call(int, "x", id="fails", type=f"type-{n}"))
        orch.workflows.start(flow)

    def spend(n: int) -> None:
        with orch.budget(f"budget-{n}", usd=1):
            pass

    # What changes most has a thread to itself, so that it has half of the time.
    return [deny, in_turn(come_and_go, hold, take, schedule, run, spend)]


def in_turn(*acts: Callable[[int], object]) -> Callable[[int], object]:
    def act(n: int) -> None:
        for each in acts:
            each(n)

    return act


@contextmanager
def changing(orch: TaskOrchestrator) -> Iterator[None]:
    """Let threads make all changes, again and again, while the block looks."""
    over = threading.Event()
    refused: list[BaseException] = []

    def change(act: Callable[[int], object]) -> None:
        try:
            for n in itertools.count(1):
                if over.is_set():
                    return
                act(n)
        except BaseException as error:
            refused.append(error)

    # What is imported and parsed once is so before.
    for act in changes(orch):
        act(0)
    threads = [threading.Thread(target=change, args=[act]) for act in changes(orch)]
    with switching():
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert not refused


@pytest.mark.needs("notices")
@pytest.mark.parametrize(
    ("looks", "times"), [(["health"], 20), ([n for n in LOOKS if n != "health"], 2)]
)
def test_no_look_fails_beside_changes(tmp_path, looks, times):
    """As of health, which a service asks all the time."""
    with TaskOrchestrator(
        journal=SqliteJournal(tmp_path / "runs.db", durability="process"),
        governance=ConstitutionalRuntime([NO_SECOND]),
        resources={"cpu": 4},
    ) as orch:
        # So many that Python has no room for them in reserve.
        orch.submit_tasks(Task.call(int, 2, id=f"many-{n}") for n in range(3_000))
        eventually(lambda: "and 2,995 more" in str(orch.health()))
        calls = [bound(orch, call) for call in looks]
        for look in calls:
            look()
        with changing(orch):
            for look in calls * times:
                seen = look()
                if looks == ["health"]:
                    assert "checks" not in {each.component for each in seen.checks}


class Unwell(SqliteJournal):
    """A journal of a program's own that cannot say how it is."""

    def troubles(self) -> list[str]:
        raise LookupError("nobody knows")


def raising(error: BaseException) -> Callable[[], Any]:
    def check() -> HealthCheck:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (raising(RuntimeError("it changed")), "raised RuntimeError: it changed"),
        (raising(MemoryError()), "raised MemoryError"),
        (lambda: None, "raised TypeError"),
        (lambda: "all is well", "raised AttributeError"),
        (lambda: HealthCheck("mine", "splendid"), "gave HealthCheck("),
        (lambda: HealthCheck("mine", "ok", 3), "gave HealthCheck("),  # type: ignore[arg-type]
    ],
)
def test_a_check_that_fails_says_so_and_hides_no_other(tmp_path, check, said):
    with TaskOrchestrator(journal=Unwell(tmp_path / "runs.db")) as orch:
        Inside(orch).add_check(check)
        Inside(orch).add_check(lambda: HealthCheck("mine", "ok", "is asked too"))
        health = orch.health()
        of = {each.component: each for each in health.checks}
        assert health.live
        assert health.ready
        assert health.status == of["checks"].status == "degraded"
        assert said in of["checks"].detail
        assert "_journal' raised LookupError: nobody knows" in of["checks"].detail
        assert of["mine"].detail == "is asked too"
        assert {"scheduler", "queue", "agents", "slots", "receivers"} <= of.keys()
