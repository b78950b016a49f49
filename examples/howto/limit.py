"""A limit: as many simulations run as a licence server has seats, and none at night."""

from collections.abc import Iterable
from typing import Any

from taskorch import Task, TaskOrchestrator
from taskorch.kit.extension import Extension, Kind, Limit, Short


class Seats:
    """Two seats of a licence server that others use, too."""

    name = "seats"

    def __init__(self) -> None:
        # A thread of yours sets it: the limit itself must not wait.
        self.used_by_others = 0

    def need(self, kind: Kind) -> float:
        return 1 if kind.type == "simulate" else 0

    def short(self, need: float, held: float) -> Short | None:
        free = 2 - held - self.used_by_others
        if need <= free:
            return None
        return Short(f"Of 2 seats, {free:g} are free.", seconds=0.1, have=free)


class Licences(Extension):
    name = "licences"

    def __init__(self) -> None:
        self.seats = Seats()
        self.limits: Iterable[Limit] = [self.seats]


def main() -> None:
    licences = Licences()
    licences.seats.used_by_others = 2
    orch = TaskOrchestrator(extensions=[licences])

    @orch.agent("solver", capabilities={"simulate"})
    def solve(task: Task, context: Any) -> str:
        return "solved"

    with orch:
        handle = orch.submit_task(Task("simulate"))
        print(orch.explain(handle.task_id).blockers[0].detail)
        licences.seats.used_by_others = 1
        print(handle.result())


if __name__ == "__main__":
    main()
