from collections.abc import Sequence

from taskorch import Task
from taskorch.protocols import AgentView, Context, Route
from taskorch.testing import Simulation
from taskorch.testing.laws import check_task_router

PRICES = {"spot": 1, "on-demand": 9}


class ToTheCheapest:
    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        best = min(candidates, key=lambda agent: PRICES.get(agent.name, 5))
        return Route(best.name, "the cheapest that is free")


def test_the_cheap_worker_is_first() -> None:
    simulation = Simulation(router=ToTheCheapest())
    for name in PRICES:
        simulation.agent(name, capabilities={"train"})
    simulation.work("train", 3600.0)
    simulation.submit_tasks([Task("train"), Task("train")])
    simulation.run()
    assert simulation.now == 3600.0
    assert [run.worker for run in simulation.attempts] == ["spot", "on-demand"]


def test_it_keeps_the_laws_of_routers() -> None:
    check_task_router(ToTheCheapest())


test_the_cheap_worker_is_first()
