"""Whether a TaskQueue keeps its laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.model import check_seconds
from taskorch.protocols import Admission, Order, OwnerView, RanksOwners, TaskQueue
from taskorch.protocols._members import has
from taskorch.testing.laws._case import Case, brief, cases, maker
from taskorch.testing.laws._worlds import (
    QuestionWorld,
    Tasks,
    agent_source,
    some_owner,
    some_world,
    task_source,
)

#: Tasks that wait in one queue, each compared with each.
_TOGETHER: Final = 5


def check_task_queue(
    queue: TaskQueue | Callable[[], TaskQueue],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of TaskQueue.

    How the laws are seen:

    - 1: each task is asked about again after others, at the same time of submission,
      while all else has changed: agents, pools, the length of the queue, the seed, and
      the generator of the module `random`.
    - 2: the keys of a few tasks, submitted at several times, are compared, each with
      each, and all must be of one shape: numbers, texts, or tuples that are alike.

    - 4: owners of all sorts are asked about, each again after the others, and at
      another time.

    Args:
        queue: The queue, or what makes one.
        seed: Of the questions.
        examples: How many queues to ask, of a few tasks each.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(queue, TaskQueue), task_source(tasks)
    draw_agents = agent_source(None)
    for case in cases(TaskQueue, "check_task_queue", seed, examples, 3):
        asked = make()
        worlds = [some_world(case.random, draw, draw_agents) for _ in range(_TOGETHER)]
        with case.chance(1):
            orders = [_order(case, asked, world) for world in worlds]
        for world in worlds:
            _admit(case, asked, world)
        _check_comparable(case, list(zip(worlds, orders, strict=True)))
        if has(asked, RanksOwners):
            _check_standings(case, asked, worlds)
        for world, order in zip(worlds, orders, strict=True):
            around = some_world(case.random, draw, draw_agents)
            other = attrs.evolve(around, task=world.task, now=world.now)
            with case.chance(2):
                again = _order(case, asked, other)
            did = (
                f"For {brief(world.task)}, submitted at {world.now:g} s, it answered "
                f"{brief(order)}, and later {brief(again)}."
            )
            case.expect(_key(again, other) == _key(order, world), 1, did)


def _order(case: Case, queue: TaskQueue, world: QuestionWorld) -> Order:
    order = case.ask(queue.order, Order, task=world.task, context=world.context())
    case.form(order, reusable=bool | type)
    if order.aging is None:
        if _shape(order.key) is None:
            case.malformed(Order, order)
    elif order.key is not None or not _is_duration(order.aging):
        case.malformed(Order, order)
    return order


def _admit(case: Case, queue: TaskQueue, world: QuestionWorld) -> None:
    answer = case.ask(queue.admit, Admission, task=world.task, context=world.context())
    case.form(answer, admitted=bool, reason=str, reusable=bool | type)
    if answer.max_age is not None and not _is_duration(answer.max_age):
        case.malformed(Admission, answer)


def _check_standings(case: Case, queue: Any, worlds: list[QuestionWorld]) -> None:
    owners = [some_owner(case.random) for _ in worlds]
    standings = [
        _standing(case, queue, owner, world)
        for owner, world in zip(owners, worlds, strict=True)
    ]
    others = reversed(worlds)
    for owner, standing, world, other in zip(
        owners, standings, worlds, others, strict=True
    ):
        around = attrs.evolve(other.later(60.0), pools=world.pools)
        again = _standing(case, queue, owner, around)
        did = f"For {owner!r} it answered {brief(standing)}, and later {brief(again)}."
        case.expect(again == standing, 4, did)


def _standing(case: Case, queue: Any, owner: OwnerView, world: QuestionWorld) -> Any:
    standing: Any = case.ask(
        queue.standing, object, owner=owner, context=world.context()
    )
    is_number = isinstance(standing, int | float) and not isinstance(standing, bool)
    case.expect(
        is_number and not math.isnan(standing), 4, f"It answered {brief(standing)}."
    )
    return standing


def _key(order: Order, world: QuestionWorld) -> Any:
    if order.aging is None:
        return order.key
    return world.now - world.task.priority * order.aging


def _check_comparable(case: Case, asked: list[tuple[QuestionWorld, Order]]) -> None:
    keys = [_key(order, world) for world, order in asked]
    for one, other in combinations(keys, 2):
        did = f"It gave the keys {brief(one)} and {brief(other)}"
        if _shape(one) != _shape(other):
            case.fail(2, f"{did}, which are not alike.")
        if [one < other, one == other, one > other].count(True) != 1:
            case.fail(2, f"{did}, which have no order.")
    keys.sort()
    for one, other in combinations(keys, 2):
        did = f"It gave keys that go round in a ring: {brief(one)} and {brief(other)}."
        case.expect(not other < one, 2, did)


def _shape(key: object) -> object:
    """What a key can be compared with, or None if it is no key."""
    if isinstance(key, bool):
        return None
    if isinstance(key, int | float):
        return "a number"
    if isinstance(key, str):
        return "a text"
    if isinstance(key, tuple):
        parts = tuple(_shape(part) for part in key)
        return None if not parts or None in parts else parts
    return None


def _is_duration(value: object) -> bool:
    try:
        check_seconds("it", value)
    except InvalidTaskError:
        return False
    return True
