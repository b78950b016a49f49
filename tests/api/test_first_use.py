"""Parts of an orchestrator that are made when they are needed: there is one of each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api.tools import PATIENCE

from taskorch import TaskOrchestrator

THREADS = 4
USES: dict[str, Callable[[TaskOrchestrator], Any]] = {
    "aio": lambda orch: orch.aio,
    "drivers": lambda orch: orch.drivers,
    "planner": lambda orch: orch.planner,
    "schedules": lambda orch: orch.schedules,
    "alerts": lambda orch: orch.alerts,
    "workflows": lambda orch: orch.workflows,
}


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(use: Callable[[int], Any]) -> list[Any]:
    """What *use* gives on several threads that begin together."""
    start = threading.Barrier(THREADS)
    given: list[Any] = []

    def run(number: int) -> None:
        start.wait(PATIENCE)
        try:
            given.append(use(number))
        except Exception as error:
            given.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(given) == THREADS
    return given


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("name", USES)
def test_threads_that_use_a_part_first_use_the_same_one(name: str) -> None:
    for _ in range(15):
        orch = TaskOrchestrator()
        parts = at_once(lambda _, orch=orch: USES[name](orch))
        assert not [part for part in parts if isinstance(part, Exception)]
        assert len({id(part) for part in parts}) == 1
        assert parts[0] is USES[name](orch)


@pytest.mark.usefixtures("switching")
def test_what_threads_say_first_of_schedules_workers_and_plans_is_kept() -> None:
    for _ in range(8):
        orch = TaskOrchestrator()

        def say(number: int, orch: TaskOrchestrator = orch) -> None:
            orch.agents.template(f"t{number}", handler=print)
            orch.schedules.add(f"s{number}", "every 1h", int)
            orch.planner.template(f"p{number}")(print)

        assert at_once(say) == [None] * THREADS
        names = [f"s{number}" for number in range(THREADS)]
        assert [status.name for status in orch.schedules.list()] == names
        assert {*orch.planner.templates} == {f"p{number}" for number in range(THREADS)}
        for number in range(THREADS):
            # There is a template: a second pool of it is one too many.
            orch.agents.pool(f"t{number}", max_agents=2)
