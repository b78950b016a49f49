"""A limit that counts starts: no more than two calls of a service in half a second."""

from collections.abc import Iterable
from time import monotonic
from typing import Any

from taskorch import Task, TaskOrchestrator
from taskorch.kit.extension import Extension, Kind, Limit, Short


class Calls:
    """Two calls in half a second."""

    name = "calls"

    def __init__(self) -> None:
        self.times: list[float] = []

    def need(self, kind: Kind) -> float:
        return 1 if kind.type == "call" else 0

    def short(self, need: float, held: float) -> Short | None:
        wait = self.times[-2] + 0.5 - monotonic() if len(self.times) > 1 else 0.0
        if wait <= 0:
            return None
        return Short("Two calls were made in this half second.", seconds=wait)

    def started(self, need: float) -> None:
        self.times.append(monotonic())


class Service(Extension):
    name = "service"

    def __init__(self) -> None:
        self.calls = Calls()
        self.limits: Iterable[Limit] = [self.calls]


def main() -> None:
    service = Service()
    orch = TaskOrchestrator(extensions=[service])

    @orch.agent("caller", capabilities={"call"})
    def call(task: Task, context: Any) -> str:
        return "called"

    with orch:
        handles = [orch.submit_task(Task("call")) for _ in range(4)]
        print([handle.result() for handle in handles])
    times = service.calls.times
    print(times[2] - times[0] >= 0.5, times[3] - times[1] >= 0.5)


if __name__ == "__main__":
    main()
