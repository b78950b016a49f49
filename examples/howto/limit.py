"""A limit: as many simulations run as a licence server has free seats."""

from taskorch import Task, TaskOrchestrator
from taskorch.kit.extension import Extension, Kind, Short


class Seats:
    name = "seats"
    # A thread of yours sets it: the limit itself must not wait.
    used_by_others = 2

    def need(self, kind: Kind) -> float:
        return 1 if kind.type == "simulate" else 0

    def short(self, need: float, held: float) -> Short | None:
        free = 2 - held - self.used_by_others
        if need <= free:
            return None
        return Short(f"Of 2 seats, {free:g} are free.", seconds=0.1, have=free)


seats = Seats()


class Licences(Extension):
    name = "licences"
    limits = (seats,)


with TaskOrchestrator(extensions=[Licences()]) as orch:
    handle = orch.submit_task(Task.call(str.title, "solved", type="simulate"))
    print(orch.explain(handle.task_id).blockers[0].detail)
    seats.used_by_others = 1
    print(handle.result())
