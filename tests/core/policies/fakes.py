"""What a policy is given, as plain values that a test can set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import attrs

from taskorch.model import NO_RESOURCES, Performance, Resources, Task, TaskState
from taskorch.protocols import AgentView, Contender, Failure, PoolView


@attrs.define
class FakeWorker:
    name: str = "ann"
    capabilities: tuple[str, ...] = ()
    max_concurrency: int | None = None
    running: int = 0
    capacity: Resources | None = None
    used: Resources = NO_RESOURCES
    is_lost: bool = False
    done: Performance = attrs.field(factory=Performance)
    labels: tuple[str, ...] = ()

    def performance(self, task_type: str) -> Performance:
        return self.done


@attrs.define
class FakePool:
    name: str
    total: float
    free: float

    @property
    def used(self) -> float:
        return self.total - self.free


@attrs.define
class FakeView:
    queued: int = 0
    running: int = 0
    contending: tuple[Contender, ...] = ()

    def contenders(self) -> Sequence[Contender]:
        return self.contending

    def agents(self) -> Sequence[AgentView]:
        return ()

    def pools(self) -> Mapping[str, PoolView]:
        return {}

    def state_of(self, task_id: str) -> TaskState | None:
        return None


@attrs.define
class FakeContext:
    now: float = 0.0
    random: Random = attrs.field(factory=lambda: Random(1))
    view: FakeView = attrs.field(factory=FakeView)


class NoRandom(Random):
    """A generator that nothing may draw from."""

    def random(self) -> float:
        raise AssertionError("drawn")

    def getrandbits(self, k: int, /) -> int:
        raise AssertionError("drawn")


def failure(
    task: Task,
    error: BaseException | None = None,
    attempts: int = 1,
    elapsed: float = 0.0,
    last_delay: float = 0.0,
) -> Failure:
    error = ValueError("no good") if error is None else error
    return Failure(task, error, attempts, elapsed, last_delay, "ann")
