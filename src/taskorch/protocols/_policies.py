"""
The seven that decide, each with its laws; and whose word it is that an answer holds on.

A class that overrides a method of another gives other answers. What the other class
says of its own answers (`reusable`, `watches`, `rigid`) is then nobody's word any more,
until the overriding class says it too.

Decisions: 0002, 0025.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from taskorch.kit.frozen import frozen
from taskorch.model import NO_RESOURCES, Elastic, Fallback, Resources, Task, TaskState
from taskorch.protocols._context import AgentView, Context, PoolView

#: Whether an answer can be used again: True or False; or the class whose own method
#: gives it, where it can as long as that very method is asked, and not one that
#: overrides it or only hands on its answers.
Reuse: TypeAlias = bool | type


def trusted(part: object, method: str) -> frozenset[Reuse]:
    """The values of `reusable` that count in an answer of *method* of *part*."""
    asked = getattr(getattr(part, method, None), "__func__", None)
    owners = {
        cls
        for cls in type(part).__mro__
        if asked is not None and getattr(cls, method, None) is asked
    }
    return frozenset({True, *owners})


def said_of(part: object, method: str, attribute: str) -> Any:
    """
    What *part* says of its *method* by *attribute*, or None.

    It counts if it is said where the method is defined, or by a class derived from
    that.
    """
    places = [getattr(part, "__dict__", {}), *map(vars, type(part).__mro__)]
    for place in places:
        if attribute in place:
            break
        if method in place:
            return None
    return getattr(part, attribute, None)


@frozen
class Finding:
    """
    A fault of a task.

    Attributes:
        path: Where: `payload.path`, `retry.base`, ….
        message: What is wrong, and what would be right.
    """

    path: str
    message: str


@frozen
class Verdict:
    """
    The answer of a Validator: accepted if there are no findings.

    Attributes:
        findings: What is wrong; none: it is accepted.
        reusable: Whether it holds for every task with the same type and options,
            whatever the payload.
    """

    findings: tuple[Finding, ...] = ()
    reusable: Reuse = False

    @property
    def accepted(self) -> bool:
        """Whether the task may be submitted."""
        return not self.findings


@runtime_checkable
class Validator(Protocol):
    """
    Protocol: accepts or refuses a task before it is submitted.

    It is asked outside the lock, on the submitter's thread, and may do I/O.

    Laws:
        1. Every finding is named at once, not only the first.
        2. A task that was accepted is accepted again.
        3. It changes none of its arguments.
    """

    def validate(self, task: Task, context: Context) -> Verdict:
        """What is wrong with *task*, if anything."""
        ...


@frozen
class Transition:
    """
    A change of state that is about to be made.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        before: None for a task that is being submitted.
        after: The state that it would come into.
        reason: Why.
    """

    task_id: str
    type: str
    before: TaskState | None
    after: TaskState
    reason: str = ""


@frozen
class Permit:
    """
    The answer of a StateMachine.

    Attributes:
        allowed: Whether it may be made.
        reason: Why not; the caller sees it.
    """

    allowed: bool
    reason: str = ""


@runtime_checkable
class StateMachine(Protocol):
    """
    Protocol: refines the fixed table; it can forbid, never add.

    A veto of a submission or a control (cancel, suspend, resume) is an error for the
    caller; a veto of a start keeps the task queued until something changes; the end
    of an attempt cannot be vetoed, because it has happened.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. If it
    has an attribute `watches` (`WatchesTransitions`), a collection of `(before, after)`
    pairs, it is asked about these only; an empty one costs nothing.

    Laws:
        1. `check` of a transition that it does not watch is allowed.
        2. `label` names every state, always the same way.
        3. It changes none of its arguments.
    """

    def check(self, transition: Transition, context: Context) -> Permit:
        """Whether *transition* may be made."""
        ...

    def label(self, state: TaskState) -> str:
        """The name of *state* for the outside."""
        ...


@frozen
class Order:
    """
    The place of a task in the queue.

    Lower keys start first, equal ones in the order of submission. It is either a
    *key*, or a rule: with `aging`, the key is the time of submission less priority
    times `aging` seconds; with `aging=0` that is first in, first out. Under the rule
    tasks of one batch have equal keys, and come in the order of their latest finish
    times, where it is known how long they take; but not with `aging=0`.

    Attributes:
        key: A number, or a tuple of numbers and strings; all keys of one queue must be
            comparable with each other.
        aging: Seconds of waiting that one level of priority is worth.
        reusable: Whether the rule holds for every task; a key never does.
    """

    key: Any = None
    aging: float | None = None
    reusable: Reuse = False


@frozen
class Admission:
    """
    Whether a task may join the queue.

    Attributes:
        admitted: Whether it may join the queue.
        reason: Why.
        max_age: Seconds that it may wait before it expires (FAILED,
            `TaskExpiredError`); None is for ever.
        reusable: Whether it holds for every task, whatever the length of the queue.
    """

    admitted: bool
    reason: str = ""
    max_age: float | None = None
    reusable: Reuse = False


@runtime_checkable
class TaskQueue(Protocol):
    """
    Protocol: decides the order and the admission; the kernel keeps the tasks.

    It is asked under the orchestrator's lock: it must be fast and do no I/O.

    A queue may have one more method (`RanksOwners`), `standing(owner, context)`, which
    says of an `OwnerView` with a number where it stands: of the tenants whose tasks can
    start, the one that stands lowest is served first, and of equals the one that was
    served longest ago. The keys then order the tasks of one tenant. It is asked again
    when what is held for the tenant has changed, or what it wants.

    A queue may have a true attribute `backfill` (`Backfills`): then the first task in
    order that cannot start has a reservation, and later ones pass it only if that does
    not put it off, as far as is known how long tasks take. It has no method `standing`
    then. One that learns has what `Learns` says.

    Laws:
        1. The key of a task depends on the task and the time of its submission only:
           it never changes while the task waits, except by `set_priority`.
        2. Keys can be compared with each other: a total order.
        3. It changes none of its arguments.
        4. A standing is a number, and follows from the tenant and the sizes of the
           pools
           only: it is kept while these are the same, whatever the time.
    """

    def order(self, task: Task, context: Context) -> Order:
        """The place of *task*; `context.now` is the time of its submission."""
        ...

    def admit(self, task: Task, context: Context) -> Admission:
        """Whether *task* may join; `context.view.queued` is the queue's length."""
        ...


@frozen
class Match:
    """
    The answer of an AgentRegistry.

    Attributes:
        agents: Names of the workers that can do the task.
        reason: Why these, or why none.
        reusable: Whether it holds for every task with the same type, requirements and
            resources, for as long as no worker joins or leaves.
    """

    agents: tuple[str, ...]
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class AgentRegistry(Protocol):
    """
    Protocol: says which workers match a task.

    It is asked under the orchestrator's lock: it must be fast and do no I/O.

    Laws:
        1. Only names of *agents* are returned, each once.
        2. The answer does not depend on how busy the workers are: a worker that is
           full now still matches.
        3. It is a function of task, workers and context: asked twice, it says the
           same.
        4. It changes none of its arguments.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The workers, of all *agents*, that can do *task*."""
        ...


@frozen
class Route:
    """
    The answer of a TaskRouter.

    Attributes:
        agent: The name of one of the candidates.
        reason: Why this one; `explain` shows it.
        reusable: Whether it holds for every like task while the same workers are
            candidates.
    """

    agent: str
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class TaskRouter(Protocol):
    """
    Protocol: chooses a worker.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. It may
    have what `WaitsForBetter` and, if it learns, `Learns` say.

    Laws:
        1. The worker of the answer is one of *candidates*.
        2. Randomness comes from `context.random` only: the same seed and the same
           questions give the same answers.
        3. It changes none of its arguments.
    """

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """
        The worker that runs the next attempt of *task*.

        Args:
            task: The task that is to start.
            candidates: The workers that match it and have room for it now; never
                empty.
            context: What else is known.
        """
        ...


@frozen
class AllocationRequest:
    """
    What a task asks for, on the worker that would run it.

    Attributes:
        task: The task.
        agent: The worker that is to run it.
        resources: What the task asks for of the pools.
        least: Of an elastic request, what it cannot do without, in whole chunks; None:
            it is rigid, and granted whole or not at all.
        weight: How much an elastic one counts, for what it asks for.
        fallback: Where its share is not free, `"best_effort"` starts with less, from
            its least up, and `"all_or_nothing"` waits.
        held: Of an elastic one that runs, what it holds; None: it is to start. What is
            granted then takes the place of that, and may use it.
        attempt: The number of the attempt, from 1.
    """

    task: Task
    agent: AgentView
    resources: Resources
    least: Resources | None = None
    weight: float = 1
    fallback: Fallback = "best_effort"
    held: Resources | None = None
    attempt: int = 1


@frozen
class Allocation:
    """
    The answer of a ResourceAllocator: what is granted, or nothing yet.

    Attributes:
        granted: None: nothing now, ask again when something is released.
        reason: Why so much, or nothing.
        reusable: Whether it holds for every like task, whatever the pools: only an
            allocation of nothing can.
    """

    granted: Resources | None
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class ResourceAllocator(Protocol):
    """
    Protocol: decides what a task that is about to start holds.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. The
    kernel keeps the books: it refuses a grant that does not fit. If it has a true
    attribute `rigid` (`GrantsWhole`), it grants all of what fits and nothing of what
    does not, and nothing to an elastic request whose least does not fit: then the
    kernel looks at the books itself and asks only where there is room, so that a task
    which waits for resources costs nothing.

    It may have an attribute `chunks` (`GrantsChunks`), a mapping of resources to the
    sizes of the pieces in which it grants them: the least of an elastic request is one
    of each, or what the request names, rounded up to whole ones. What that does not
    name is granted whole; without it, so is every elastic request. One that learns has
    what `Learns` says.

    A rigid request may be granted in part, too: who has learnt what it takes, grants
    that. The first attempt that is short of memory then is made again, which counts as
    no try, and its task need not be one that is retried.

    About an elastic request it is asked again while the task runs: at each of its
    checkpoints and, after the first, when resources come free: then only a larger grant
    counts.

    Laws:
        1. A grant never exceeds what is free in any pool, and what is held already.
        2. A grant never exceeds the request, and is never less than the least of an
           elastic one.
        3. A request that fits into what is free is not refused for ever.
        4. It changes none of its arguments.
        5. A part of an elastic request is whole chunks of what `chunks` names, or all
           that is asked for of it; of what that does not name it is all.
    """

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """What *request* gets of *pools* now."""
        ...


@frozen
class Failure:
    """
    An attempt that failed.

    Attributes:
        task: The task.
        error: What it raised, or a `TaskTimeoutError`, or a `ProgramFailedError`.
        attempts: Attempts that counted as a try so far, this one included.
        elapsed: Seconds from the start of the first attempt to now.
        last_delay: The delay before this attempt in seconds; 0 before the first.
        agent: The worker that ran the attempt.
        kind: What kind of failure it is, such as `memory_error`: see
            `taskorch.recovery.classify`.
        usage: What the attempt was seen to use: `memory_mb` at its peak, and
            `cpu_seconds`; nothing where nobody measured it.
        first_timeout: The timeout that was stated, in seconds, where earlier failures
            have made it another, in earlier processes too; None: it is as it was.
    """

    task: Task
    error: BaseException
    attempts: int
    elapsed: float
    last_delay: float
    agent: str
    kind: str = ""
    usage: Resources = NO_RESOURCES
    first_timeout: float | None = None


@frozen
class RetryDecision:
    """
    The answer of a RetryHandler.

    Attributes:
        retry: Whether there is another attempt.
        delay: Seconds until the next attempt may start.
        reason: Why; the event and `explain` show it.
        resources: What the next attempts ask for; None: what the last did. More than
            any worker that could do the task has is not applied, and that is said.
        timeout: Seconds that each of the next attempts may take; None: as before.
        avoid: Workers that the next attempts do not go to, besides those that were
            named before, as long as there is another.
        ask: A question to a person. The task is held, and what waits for it waits on,
            until `orch.decide` says what becomes of it. It is asked instead of another
            attempt: `retry` is False.
        kind: What kind of failure it was, if the handler knows better than
            `Failure.kind`.
    """

    retry: bool
    delay: float = 0.0
    reason: str = ""
    resources: Resources | Elastic | None = None
    timeout: float | None = None
    avoid: Collection[str] = ()
    ask: str = ""
    kind: str = ""


@runtime_checkable
class RetryHandler(Protocol):
    """
    Protocol: decides after a failure.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. It may
    have what `SetsGrace`, `Classifies` and `Recommends` say.

    Laws:
        1. A delay is a finite number of seconds, 0 or more.
        2. It ends: for every policy with finite limits there is a number of failures
           after which the answer is no.
        3. Randomness comes from `context.random` only.
        4. It changes none of its arguments.
    """

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """What follows *failure*."""
        ...
