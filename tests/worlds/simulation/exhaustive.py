"""
Every order of events: all that can happen in a small world, one step after another.

A scope says what there is: a few tasks, two workers, a pool, and how often the world
may misbehave. `search` visits every state that any order of steps can lead to, breadth
first, and holds all laws after each step; if one is broken, it prints the shortest way
there. Where a simulation with random faults looks far, this looks everywhere near.

What the world can do at any time: a task is submitted, what was decided is committed,
an attempt completes or fails, its report comes late, or twice, a worker dies, a worker
is cut off, goes down or returns, time passes until something is due, a task is called
off, the orchestrator crashes and recovers from what was committed.

Two states are the same if nothing that can still happen could tell them apart: the
past is left out, and all times are relative to now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import attrs
from tests.worlds.simulation.audit import FAR, Action, LawBrokenError
from tests.worlds.simulation.small_world import Scope, World

from taskorch.errors import InternalError
from taskorch.events import (
    Event,
)


@attrs.frozen
class Reach:
    """What a search has seen: all that there is to see."""

    states: int
    transitions: int
    #: The steps of the longest of the shortest paths.
    depth: int


def search(scope: Scope, most: int = 1_000_000) -> Reach:
    """
    Visit all that can happen in *scope*, and hold all laws everywhere.

    Raises:
        LawBrokenError: One does not hold.
        ValueError: There are more than *most* states.
    """
    first = World(scope)
    #: Where each state was found: the number of the one before, and the step.
    origins: list[tuple[int, Action]] = [(-1, ())]
    seen = {first.key(): None}
    queue = deque([(0, 0, list(first.choices()), first.save())])
    transitions = depth = 0
    while queue:
        number, depth, choices, saved = queue.popleft()
        for action in choices:
            transitions += 1
            world = saved.load()
            try:
                world.do(action)
            except (LawBrokenError, InternalError, LookupError) as error:
                path = [*_path(origins, number), action]
                raise LawBrokenError(_told(scope, path, error)) from error
            key = world.key()
            if key in seen:
                continue
            seen[key] = None
            if len(seen) > most:
                msg = f"there are more than {most} states"
                raise ValueError(msg)
            origins.append((number, action))
            number_here = len(origins) - 1
            queue.append((number_here, depth + 1, list(world.choices()), world.save()))
    return Reach(len(seen), transitions, depth)


def _path(origins: Sequence[tuple[int, Action]], number: int) -> list[Action]:
    """The steps that lead to a state."""
    path: list[Action] = []
    while number:
        number, action = origins[number]
        path.append(action)
    return path[::-1]


def _told(scope: Scope, path: Sequence[Action], error: Exception) -> str:
    """What is broken, and the way there: each step with the events that it made."""
    lines = [f"{type(error).__name__}: {error}", f"in {scope}", "after:"]
    world = World(scope)
    for number, action in enumerate(path, 1):
        lines.append(f"{number:4}. {_say(world, action)}")
        known = world.facts
        with suppress(LawBrokenError, InternalError, LookupError):
            world.do(action)
        lines += [f"          {_say_event(f)}" for f in world.facts if f not in known]
    return "\n".join(lines)


def _say(world: World, action: Action) -> str:
    verb, *rest = action
    if verb == "end":
        (epoch, task_id, attempt), outcome, how = rest
        which = f"attempt {attempt} of {task_id}, begun in incarnation {epoch}"
        twice = {"": "", "twice": ", and will say so again", "again": " (said again)"}
        return f"{which}: {outcome}{twice[how]}"
    if verb == "submit":
        return f"t{rest[0]} is submitted"
    if verb == "tick":
        return "time passes until something is due"
    if verb == "away":
        return f"{FAR} {rest[0]}"
    if verb == "crash":
        lost = len(world.facts) - world.committed
        return f"the orchestrator crashes: {lost} events are lost; and recovers"
    return {
        "commit": "all events are committed",
        "cancel": f"{rest and rest[0]} is called off",
        "back": f"{FAR} is back",
    }[verb]


def _say_event(event: Event) -> str:
    fields = ", ".join(str(field) for field in event[3:] if field not in (None, (), ""))
    return f"{event[0].__name__} {fields}"
