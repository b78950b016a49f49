"""Whether an AgentRegistry keeps its laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from taskorch.protocols import AgentRegistry, AgentView, Match
from taskorch.testing.laws._case import Case, brief, cases, maker
from taskorch.testing.laws._worlds import (
    Agents,
    QuestionWorld,
    Tasks,
    agent_source,
    busier,
    some_world,
    task_source,
)

#: How often a question is repeated before a law 2 is said to be broken.
_TIMES: Final = 30


def check_agent_registry(
    registry: AgentRegistry | Callable[[], AgentRegistry],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
    agents: Agents | None = None,
) -> None:
    """
    Check the laws of AgentRegistry.

    How the laws are seen:

    - 2: the same agents are shown idle, and full up to their limits.
    - 3: one object is asked twice, with equal contexts and with the generator of the
      module `random` in two states. What rests on the order of a set shows only under
      another `PYTHONHASHSEED`.

    Args:
        registry: The registry, or what makes one.
        seed: Of the questions.
        examples: How many questions.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.
        agents: Agents, as of `make_agent`, or what makes some of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(registry, AgentRegistry), task_source(tasks)
    draw_agents = agent_source(agents)
    for case in cases(AgentRegistry, "check_agent_registry", seed, examples, 4):
        world = some_world(case.random, draw, draw_agents)
        _check(case, make(), world)


def _check(case: Case, registry: AgentRegistry, world: QuestionWorld) -> None:
    with case.chance(1):
        match = _ask(case, registry, world, world.agents)
    _check_names(case, match, [agent.name for agent in world.agents])
    with case.chance(2):
        again = _ask(case, registry, world, world.agents)
    case.expect(again == match, 3, f"It answered {brief(match)}, then {brief(again)}.")
    busy = [busier(case.random, agent) for agent in world.agents]
    with case.chance(1):
        then = _ask(case, registry, world, busy)
    if tuple(then.agents) != tuple(match.agents):
        _check_steady(case, registry, world, match)
        case.fail(
            2,
            f"It answered {brief(match.agents)} for {brief(world.agents)}, "
            f"and {brief(then.agents)} for {brief(busy)}.",
        )


def _check_steady(
    case: Case, registry: AgentRegistry, world: QuestionWorld, match: Match
) -> None:
    """Law 3, before something is said of law 2 that chance may have brought."""
    for _ in range(_TIMES):
        again = _ask(case, registry, world, world.agents)
        did = f"It answered {brief(match)}, and later {brief(again)}."
        case.expect(again == match, 3, did)


def _ask(
    case: Case,
    registry: AgentRegistry,
    world: QuestionWorld,
    agents: Sequence[AgentView],
) -> Match:
    match = case.ask(
        registry.matches,
        Match,
        task=world.task,
        agents=list(agents),
        context=world.context(agents),
    )
    case.form(match, agents=tuple | list, reason=str, reusable=bool | type)
    if not all(isinstance(name, str) for name in match.agents):
        case.malformed(Match, match)
    return match


def _check_names(case: Case, match: Match, names: Sequence[str]) -> None:
    for name in match.agents:
        case.expect(
            name in names, 1, f"It named {name!r}; there are {', '.join(names)}."
        )
    if len(set(match.agents)) != len(match.agents):
        case.fail(1, f"It answered {brief(match.agents)}.")
