"""Whether a TaskRouter keeps its laws."""

from __future__ import annotations

from collections.abc import Callable

from taskorch.protocols import Route, TaskRouter
from taskorch.testing.laws._case import Case, brief, cases, maker, twice
from taskorch.testing.laws._worlds import (
    Agents,
    QuestionWorld,
    Tasks,
    agent_source,
    some_world,
    task_source,
)


def check_task_router(
    router: TaskRouter | Callable[[], TaskRouter],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
    agents: Agents | None = None,
) -> None:
    """
    Check the laws of TaskRouter.

    Law 2 is seen by asking twice, with equal contexts and with the generator of the
    module `random` in two states. A router that counts what it was asked (round robin)
    is to be given as a class: then the second question goes to a new object.

    Args:
        router: The router, or what makes one.
        seed: Of the questions.
        examples: How many questions.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.
        agents: Candidates, as of `make_agent`, of which some are taken each time; or
            what makes those of one question of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(router, TaskRouter), task_source(tasks)
    draw_agents = agent_source(agents, ready=True)
    for case in cases(TaskRouter, "check_task_router", seed, examples, 3):
        world = some_world(case.random, draw, draw_agents)
        with case.chance(1):
            route = _ask(case, make(), world)
        names = [agent.name for agent in world.agents]
        case.expect(
            route.agent in names,
            1,
            f"It answered {brief(route)} for candidates {', '.join(names)}.",
        )
        with case.chance(2):
            again = _ask(case, make(), world)
        case.expect(again == route, 2, twice(route, again))


def _ask(case: Case, router: TaskRouter, world: QuestionWorld) -> Route:
    route = case.ask(
        router.route,
        Route,
        task=world.task,
        candidates=list(world.agents),
        context=world.context(),
    )
    case.form(route, agent=str, reason=str, reusable=bool | type)
    return route
