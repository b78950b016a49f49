"""Whether policies keep their laws: routers, queues, registries and so on."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from taskorch.core.kernel import TRANSITIONS
from taskorch.errors import (
    AttemptLostError,
    InvalidTaskError,
    Permanent,
    TaskTimeoutError,
)
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import MAX_ATTEMPTS, MAX_SECONDS
from taskorch.kit.members import has
from taskorch.model import TaskState
from taskorch.protocols import (
    Admission,
    AgentRegistry,
    AgentView,
    Failure,
    Match,
    Order,
    OwnerView,
    Permit,
    RanksOwners,
    RetryDecision,
    RetryHandler,
    Route,
    StateMachine,
    TaskQueue,
    TaskRouter,
    Transition,
)
from taskorch.protocols._policies import said_of
from taskorch.testing._builders import make_failure
from taskorch.testing.laws._case import Case, brief, cases, maker, twice
from taskorch.testing.laws._worlds import (
    QuestionWorld,
    Tasks,
    Workers,
    busier,
    some_tenant,
    some_world,
    task_source,
    worker_source,
)


def check_task_router(
    router: TaskRouter | Callable[[], TaskRouter],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
    agents: Workers | None = None,
) -> None:
    """
    Check the laws of TaskRouter.

    Law 2 is seen by asking twice, with equal contexts and with the generator of the
    module `random` in two states. A router that counts what it was asked (round robin)
    is to be given as a class: then the second question goes to a new object.

    Args:
        router: The router, or what makes one.
        seed: The seed of the questions.
        examples: How many questions.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.
        agents: Candidates, as of `make_agent`, of which some are taken each time; or
            what makes those of one question of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(router, TaskRouter), task_source(tasks)
    draw_workers = worker_source(agents, ready=True)
    for case in cases(TaskRouter, "check_task_router", seed, examples, 3):
        world = some_world(case.random, draw, draw_workers)
        with case.chance(1):
            route = _ask_router(case, make(), world)
        names = [worker.name for worker in world.workers]
        case.expect(
            route.agent in names,
            1,
            f"It answered {brief(route)} for candidates {', '.join(names)}.",
        )
        with case.chance(2):
            again = _ask_router(case, make(), world)
        case.expect(again == route, 2, twice(route, again))


def _ask_router(case: Case, router: TaskRouter, world: QuestionWorld) -> Route:
    route = case.ask(
        router.route,
        Route,
        task=world.task,
        candidates=list(world.workers),
        context=world.context(),
    )
    case.form(route, agent=str, reason=str, reusable=bool | type)
    return route


#: The number of tasks in one queue, each compared with each.
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
      while all else has changed: workers, pools, the length of the queue, the seed, and
      the generator of the module `random`.
    - 2: the keys of a few tasks, submitted at several times, are compared, each with
      each, and all must be of one shape: numbers, texts, or tuples that are alike.

    - 4: owners of all sorts are asked about, each again after the others, and at
      another time.

    Args:
        queue: The queue, or what makes one.
        seed: The seed of the questions.
        examples: How many queues to ask, of a few tasks each.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(queue, TaskQueue), task_source(tasks)
    draw_workers = worker_source(None)
    for case in cases(TaskQueue, "check_task_queue", seed, examples, 3):
        asked = make()
        worlds = [some_world(case.random, draw, draw_workers) for _ in range(_TOGETHER)]
        with case.chance(1):
            orders = [_order(case, asked, world) for world in worlds]
        for world in worlds:
            _admit(case, asked, world)
        _check_comparable(case, list(zip(worlds, orders, strict=True)))
        if has(asked, RanksOwners):
            _check_standings(case, asked, worlds)
        for world, order in zip(worlds, orders, strict=True):
            around = some_world(case.random, draw, draw_workers)
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
    tenants = [some_tenant(case.random) for _ in worlds]
    standings = [
        _standing(case, queue, tenant, world)
        for tenant, world in zip(tenants, worlds, strict=True)
    ]
    others = reversed(worlds)
    for tenant, standing, world, other in zip(
        tenants, standings, worlds, others, strict=True
    ):
        around = attrs.evolve(other.later(60.0), pools=world.pools)
        again = _standing(case, queue, tenant, around)
        did = f"For {tenant!r} it answered {brief(standing)}, and later {brief(again)}."
        case.expect(again == standing, 4, did)


def _standing(case: Case, queue: Any, tenant: OwnerView, world: QuestionWorld) -> Any:
    standing: Any = case.ask(
        queue.standing, object, owner=tenant, context=world.context()
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
    """Return the form of a key, for comparisons; None: it is no key."""
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


#: A question is repeated so often before law 2 counts as broken.
_TIMES: Final = 30


def check_agent_registry(
    registry: AgentRegistry | Callable[[], AgentRegistry],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
    agents: Workers | None = None,
) -> None:
    """
    Check the laws of AgentRegistry.

    How the laws are seen:

    - 2: the same workers are shown idle, and full up to their limits.
    - 3: one object is asked twice, with equal contexts and with the generator of the
      module `random` in two states. What rests on the order of a set shows only under
      another `PYTHONHASHSEED`.

    Args:
        registry: The registry, or what makes one.
        seed: The seed of the questions.
        examples: How many questions.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.
        agents: Workers, as of `make_agent`, or what makes some of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(registry, AgentRegistry), task_source(tasks)
    draw_workers = worker_source(agents)
    for case in cases(AgentRegistry, "check_agent_registry", seed, examples, 4):
        world = some_world(case.random, draw, draw_workers)
        _check(case, make(), world)


def _check(case: Case, registry: AgentRegistry, world: QuestionWorld) -> None:
    with case.chance(1):
        match = _ask_registry(case, registry, world, world.workers)
    _check_names(case, match, [worker.name for worker in world.workers])
    with case.chance(2):
        again = _ask_registry(case, registry, world, world.workers)
    case.expect(again == match, 3, f"It answered {brief(match)}, then {brief(again)}.")
    busy = [busier(case.random, worker) for worker in world.workers]
    with case.chance(1):
        then = _ask_registry(case, registry, world, busy)
    if tuple(then.agents) != tuple(match.agents):
        _check_steady(case, registry, world, match)
        case.fail(
            2,
            f"It answered {brief(match.agents)} for {brief(world.workers)}, "
            f"and {brief(then.agents)} for {brief(busy)}.",
        )


def _check_steady(
    case: Case, registry: AgentRegistry, world: QuestionWorld, match: Match
) -> None:
    """Check law 3 first: a random policy may seem to break law 2."""
    for _ in range(_TIMES):
        again = _ask_registry(case, registry, world, world.workers)
        did = f"It answered {brief(match)}, and later {brief(again)}."
        case.expect(again == match, 3, did)


def _ask_registry(
    case: Case,
    registry: AgentRegistry,
    world: QuestionWorld,
    workers: Sequence[AgentView],
) -> Match:
    match = case.ask(
        registry.matches,
        Match,
        task=world.task,
        agents=list(workers),
        context=world.context(workers),
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


_Pair: TypeAlias = tuple[TaskState | None, TaskState]

#: The fixed table of transitions; others are never asked about.
POSSIBLE: Final = {before: some for before, some in TRANSITIONS.items() if some}
_WATCHES: Final = "it watches a collection of (before, after) pairs of states."


def check_state_machine(
    machine: StateMachine | Callable[[], StateMachine],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of StateMachine.

    A machine without an attribute `watches` watches every transition: law 1 then asks
    nothing of it. Only transitions of the fixed table are asked about. Labels need not
    differ from each other, but each must be a text that is not empty.

    Args:
        machine: The state machine, or what makes one.
        seed: The seed of the questions.
        examples: How many transitions.
        tasks: Tasks whose ids and types to ask about, or what makes one of a
            `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(machine, StateMachine), task_source(tasks)
    draw_workers = worker_source(None)
    pairs = [(before, after) for before, some in POSSIBLE.items() for after in some]
    labels: dict[TaskState, str] = {}
    for case in cases(StateMachine, "check_state_machine", seed, examples, 3):
        asked = make()
        before, after = pairs[case.number % len(pairs)]
        world = some_world(case.random, draw, draw_workers)
        reason = case.random.choice(("", "the user asked for it"))
        transition = Transition(
            world.task.id or "t-1", world.task.type, before, after, reason
        )
        with case.noted():
            watches = _watched(case, asked)
        permit = case.ask(
            asked.check, Permit, transition=transition, context=world.context()
        )
        case.form(permit, allowed=bool, reason=str)
        if watches is not None and (before, after) not in watches:
            did = f"It answered {brief(permit)} for {brief(transition)}."
            case.expect(permit.allowed, 1, did)
        _check_labels(case, asked, labels)


def _watched(case: Case, machine: StateMachine) -> set[_Pair] | None:
    watches: object = said_of(machine, "check", "watches")
    if watches is None:
        return None
    try:
        return {
            (None if before is None else TaskState(before), TaskState(after))
            for before, after in watches  # type: ignore[attr-defined]
        }
    except (TypeError, ValueError) as error:
        did = f"Its watches are {brief(watches)}."
        case.fail(0, did, says=_WATCHES, cause=error)


def _check_labels(
    case: Case, machine: StateMachine, labels: dict[TaskState, str]
) -> None:
    """Ask for each state's label, and compare it with the first one, in *labels*."""
    for state in TaskState:
        with case.noted(state=state), case.chance(1):
            label: object = machine.label(state)
        if not isinstance(label, str) or not label:
            case.fail(2, f"It calls {state.name} {brief(label)}.")
        first = labels.setdefault(state, label)
        did = f"It called {state.name} {first!r}, and then {label!r}."
        case.expect(label == first, 2, did)


#: So many failures are reported one by one; then their number doubles each time.
_ONE_BY_ONE: Final = 20
#: The seconds of each attempt of a task that fails again and again.
_TAKES: Final = 60.0
#: The largest float, and so the largest number of seconds; an int may be larger.
_MAX: Final = sys.float_info.max


class _RetryAfterError(Exception):
    """An error that says itself when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__("come back later")
        self.retry_after = retry_after


def check_retry_handler(
    handler: RetryHandler | Callable[[], RetryHandler],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of RetryHandler.

    How the laws are seen:

    - 2: one object is told of a task that fails again and again, at first one by one
      and then in leaps, up to twice as often as any RetryPolicy allows. A handler that
      lets chance decide when to stop ends here by chance.
    - 3: two questions with equal contexts, with the generator of the module `random` in
      two states. A handler that counts is to be given as a class: then the second
      question goes to a new object.

    Args:
        handler: The handler, or what makes one.
        seed: The seed of the questions.
        examples: How many tasks to let fail.
        tasks: Tasks to ask about, or what makes one of a `random.Random`; their retry
            policies are what the handler has to follow.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(handler, RetryHandler), task_source(tasks)
    draw_workers = worker_source(None)
    for case in cases(RetryHandler, "check_retry_handler", seed, examples, 4):
        world = some_world(case.random, draw, draw_workers)
        failure = _some_failure(case.random, world)
        with case.chance(1):
            decision = _ask_retry(case, make(), failure, world)
        with case.chance(2):
            again = _ask_retry(case, make(), failure, world)
        case.expect(again == decision, 3, twice(decision, again))
        _check_end(case, make(), failure, world)


def _ask_retry(
    case: Case, handler: RetryHandler, failure: Failure, world: QuestionWorld
) -> RetryDecision:
    decision = case.ask(
        handler.decide, RetryDecision, failure=failure, context=world.context()
    )
    case.form(decision, retry=bool, delay=int | float, reason=str)
    delay = decision.delay
    if isinstance(delay, bool) or not 0 <= delay <= _MAX:
        case.fail(1, f"It answered {brief(decision)}.")
    return decision


def _check_end(
    case: Case, handler: RetryHandler, failure: Failure, world: QuestionWorld
) -> None:
    elapsed, delay, asked, last = 0.0, 0.0, 0, ""
    for attempts in _counts():
        # All attempts in between are assumed to have had the same delay.
        elapsed = min(elapsed + (attempts - asked) * (_TAKES + delay), MAX_SECONDS)
        asked = attempts
        next_failure = make_failure(
            failure.error,
            attempts,
            task=failure.task,
            elapsed=elapsed,
            last_delay=delay,
            agent=failure.agent,
        )
        decision = _ask_retry(case, handler, next_failure, world.later(elapsed))
        if not decision.retry:
            return
        delay, last = decision.delay, brief(decision)
    policy = failure.task.retry
    case.fail(
        2,
        f"After {asked:,} failures of a task with {brief(policy)} it answered {last}.",
    )


def _counts() -> Iterator[int]:
    yield from range(1, _ONE_BY_ONE)
    attempts = _ONE_BY_ONE
    while attempts <= 2 * MAX_ATTEMPTS:
        yield attempts
        attempts *= 2


def _some_failure(random: Random, world: QuestionWorld) -> Failure:
    attempts = random.choice((1, 1, 2, 3, 7, 1_000))
    return make_failure(
        _some_error(random),
        attempts,
        task=world.task,
        elapsed=random.choice((0.0, 0.25, 99.0, 1e7)),
        last_delay=random.choice((0.0, 1.5, 60.0)) if attempts > 1 else 0.0,
        agent=random.choice(("ann", "local")),
    )


def _some_error(random: Random) -> Exception:
    asked = random.choice((0, 5, 1e9, -1, math.nan, math.inf, 10**400, "soon", None))
    return random.choice(
        (
            ValueError("no good"),
            OSError(28, "no space left"),
            ConnectionError(),
            KeyError("a"),
            Permanent("never"),
            TaskTimeoutError("out of time", task_id=None),
            AttemptLostError("its worker died"),
            _RetryAfterError(asked),
        )
    )
