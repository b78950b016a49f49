"""
The seven policies, each with its laws, and the reuse of their answers.

A class that overrides a method of another gives other answers. The attributes of the
other class about its answers (`reusable`, `watches`, `rigid`) then no longer count,
until the overriding class sets them too.

Decision: start-decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from taskorch.kit.frozen import frozen
from taskorch.model import NO_RESOURCES, Elastic, Fallback, Resources, Task, TaskState
from taskorch.protocols._context import AgentView, Context, PoolView

#: Whether an answer can be used again: True or False. A class means that the answer can
#: be, but only while that class's own method gives it, and no method that overrides it
#: or delegates to it.
Reuse: TypeAlias = bool | type


def trusted(part: object, method: str) -> frozenset[Reuse]:
    """Return the values of `reusable` that count in an answer of *method* of *part*."""
    asked = getattr(getattr(part, method, None), "__func__", None)
    tenants = {
        cls
        for cls in type(part).__mro__
        if asked is not None and getattr(cls, method, None) is asked
    }
    return frozenset({True, *tenants})


def said_of(part: object, method: str, attribute: str) -> Any:
    """
    Return the *attribute* of *part* about its *method*, or None.

    It counts if it is set where the method is defined, or in a class derived from that.
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
        path: The path: `payload.path`, `retry.base`, ….
        message: The fault, and the valid form.
    """

    path: str
    message: str


@frozen
class Verdict:
    """
    Answer of a Validator: accepted if there are no findings.

    Attributes:
        findings: The faults; empty if it is accepted.
        reusable: True if it holds for every task with the same type and options,
            whatever the payload.
    """

    findings: tuple[Finding, ...] = ()
    reusable: Reuse = False

    @property
    def accepted(self) -> bool:
        """True if the task may be submitted."""
        return not self.findings


@runtime_checkable
class Validator(Protocol):
    """
    Protocol: accepts or refuses a task before it is submitted.

    It is called outside the lock, on the submitter's thread, and may do I/O.

    Laws:
        1. Every finding is named at once, not only the first.
        2. A task that was accepted is accepted again.
        3. It changes none of its arguments.
    """

    def validate(self, task: Task, context: Context) -> Verdict:
        """Return the faults of *task*, if there are any."""
        ...


@frozen
class Transition:
    """
    A change of state that is about to be made.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        before: None for a task that is being submitted.
        after: The new state.
        reason: The reason.
    """

    task_id: str
    type: str
    before: TaskState | None
    after: TaskState
    reason: str = ""


@frozen
class Permit:
    """
    Answer of a StateMachine.

    Attributes:
        allowed: True if the transition may be made.
        reason: The reason if it may not; the caller sees it.
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

    It is called under the orchestrator's lock: it must be fast and do no I/O. If it has
    an attribute `watches` (`WatchesTransitions`), a collection of `(before, after)`
    pairs, it is asked about these only; an empty one costs nothing.

    Laws:
        1. `check` of a transition that it does not watch is allowed.
        2. `label` names every state, always the same way.
        3. It changes none of its arguments.
    """

    def check(self, transition: Transition, context: Context) -> Permit:
        """Return whether *transition* may be made."""
        ...

    def label(self, state: TaskState) -> str:
        """Return the name of *state* for users."""
        ...


@frozen
class Order:
    """
    Key of a task in the queue.

    Lower keys start first, equal ones in the order of submission. It is either a
    *key*, or a rule: with `aging`, the key is the time of submission less priority
    times `aging` seconds; with `aging=0` that is first in, first out. Under the rule,
    tasks of one batch have equal keys, and come in the order of their latest finish
    times, if their durations are known; but not with `aging=0`.

    Attributes:
        key: A number, or a tuple of numbers and strings; all keys of one queue must be
            comparable with each other.
        aging: Seconds of waiting that one level of priority is worth.
        reusable: True if the rule holds for every task; a key never does.
    """

    key: Any = None
    aging: float | None = None
    reusable: Reuse = False


@frozen
class Admission:
    """
    Answer of a TaskQueue on a new task.

    Attributes:
        admitted: True if it may join the queue.
        reason: The reason.
        max_age: Seconds that it may wait before it expires (FAILED,
            `TaskExpiredError`); None is for ever.
        reusable: True if it holds for every task, whatever the length of the queue.
    """

    admitted: bool
    reason: str = ""
    max_age: float | None = None
    reusable: Reuse = False


@runtime_checkable
class TaskQueue(Protocol):
    """
    Protocol: decides the order and the admission; the kernel keeps the tasks.

    It is called under the orchestrator's lock: it must be fast and do no I/O.

    A queue may have one more method (`RanksOwners`), `standing(owner, context)`, which
    returns a number for an `OwnerView`: of the tenants whose tasks can start, the one
    with the lowest number is served first, and of equals the one that was served
    longest ago. The keys then order the tasks of one tenant. It is called again when
    the resources or the demand of the tenant have changed.

    A queue may have a true attribute `backfill` (`Backfills`): then the first task in
    order that cannot start has a reservation, and later ones pass it only if that does
    not delay it, as far as durations are known. It has no method `standing` then. One
    that learns has the members of `Learns`.

    Laws:
        1. The key of a task depends on the task and the time of its submission only:
           it never changes while the task waits, except by `set_priority`.
        2. Keys can be compared with each other: a total order.
        3. It changes none of its arguments.
        4. A standing is a number, and follows from the tenant and the sizes of the
           pools only: it is kept while these are the same, whatever the time.
    """

    def order(self, task: Task, context: Context) -> Order:
        """Return the key of *task*; `context.now` is the time of its submission."""
        ...

    def admit(self, task: Task, context: Context) -> Admission:
        """Return whether *task* may join; `context.view.queued` is the length."""
        ...


@frozen
class Match:
    """
    Answer of an AgentRegistry.

    Attributes:
        agents: Names of the workers that can do the task.
        reason: The reason, also if there are none.
        reusable: True if it holds for every task with the same type, requirements and
            resources, as long as no worker joins or leaves.
    """

    agents: tuple[str, ...]
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class AgentRegistry(Protocol):
    """
    Protocol: says which workers match a task.

    It is called under the orchestrator's lock: it must be fast and do no I/O.

    Laws:
        1. Only names of *agents* are returned, each once.
        2. The answer does not depend on how busy the workers are: a worker that is
           full now still matches.
        3. It is a function of task, workers and context: called twice, it answers the
           same.
        4. It changes none of its arguments.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """Return the workers, of all *agents*, that can do *task*."""
        ...


@frozen
class Route:
    """
    Answer of a TaskRouter.

    Attributes:
        agent: The name of one of the candidates.
        reason: The reason; `explain` shows it.
        reusable: True if it holds for every like task while the same workers are
            candidates.
    """

    agent: str
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class TaskRouter(Protocol):
    """
    Protocol: chooses a worker.

    It is called under the orchestrator's lock: it must be fast and do no I/O. It may
    have the members of `WaitsForBetter` and, if it learns, of `Learns`.

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
        Return the worker for the next attempt of *task*.

        Args:
            task: The task that is to start.
            candidates: The workers that match it and have room for it now; never empty.
            context: Further information.
        """
        ...


@frozen
class AllocationRequest:
    """
    A request of a task, on the worker that would run it.

    Attributes:
        task: The task.
        agent: The worker that is to run it.
        resources: The amounts that the task asks for of the pools.
        least: The least amounts of an elastic request, in whole chunks; None for a
            rigid one, which is granted whole or not at all.
        weight: The weight of an elastic request, relative to its size.
        fallback: The rule if its share is not free: `"best_effort"` starts with less,
            from its least up, and `"all_or_nothing"` waits.
        held: The amounts that a running elastic request holds; None for a start. A
            grant replaces these amounts, and may use them.
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
    Answer of a ResourceAllocator: a grant, or nothing yet.

    Attributes:
        granted: The grant; None for nothing now, to be asked again after a release.
        reason: The reason.
        reusable: True if it holds for every like task, whatever the pools: only an
            allocation of nothing can.
    """

    granted: Resources | None
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class ResourceAllocator(Protocol):
    """
    Protocol: decides on the resources of a task that is about to start.

    It is called under the orchestrator's lock: it must be fast and do no I/O. The
    kernel keeps the accounts, and refuses a grant that does not fit. If it has a true
    attribute `rigid` (`GrantsWhole`), it grants a request whole if it fits, and else
    nothing; an elastic request needs room for its least. Then the kernel checks the
    accounts itself and asks only if there is room, so that a waiting task costs
    nothing.

    It may have an attribute `chunks` (`GrantsChunks`), a mapping of resources to the
    sizes of the pieces in which it grants them: the least of an elastic request is one
    of each, or the named amount, rounded up to whole ones. Other resources are granted
    whole; without `chunks`, so is every elastic request. One that learns has the
    members of `Learns`.

    A rigid request may be granted in part, too, by an allocator that has learnt how
    much it needs. The first attempt that is then short of memory is made again, which
    counts as no try, even if its task has no retries.

    It is called again for an elastic request while the task runs: at each of its
    checkpoints and, after the first, when resources come free: then only a larger grant
    counts.

    Laws:
        1. A grant never exceeds the free amount of any pool plus the amount held
           already.
        2. A grant never exceeds the request, and is never less than the least of an
           elastic one.
        3. A request that fits into the free amounts is not refused for ever.
        4. It changes none of its arguments.
        5. A part of an elastic request is whole chunks of resources in `chunks`, or the
           whole amount; of other resources it is the whole amount.
    """

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Return the amounts of *pools* that *request* gets now."""
        ...


@frozen
class Failure:
    """
    An attempt that failed.

    Attributes:
        task: The task.
        error: The error that it raised, or a `TaskTimeoutError`, or a
            `ProgramFailedError`.
        attempts: Attempts that counted as a try so far, this one included.
        elapsed: Seconds from the start of the first attempt to now.
        last_delay: The delay before this attempt in seconds; 0 before the first.
        agent: The worker that ran the attempt.
        kind: The class of the failure, such as `memory_error`: see
            `taskorch.ext.recovery.classify`.
        usage: The measured usage of the attempt: `memory_mb` at its peak, and
            `cpu_seconds`; empty if it was not measured.
        first_timeout: The timeout that the user stated, in seconds, if earlier failures
            have changed it, also in earlier processes; None if it is unchanged.
        rules: The rules by which *kind* was judged, before those of
            `taskorch.ext.recovery.classify`. A handler that has these need not read the
            error, which may be large, again: all others wait meanwhile.
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
    rules: Collection[Any] = ()


@frozen
class RetryDecision:
    """
    Answer of a RetryHandler.

    Attributes:
        retry: True if there is another attempt.
        delay: Seconds until the next attempt may start.
        reason: The reason; the event and `explain` show it.
        resources: The request of the next attempts; None keeps the last one. A request
            above the capacity of every matching worker is not applied, and the history
            says so.
        timeout: The timeout of each of the next attempts in seconds; None keeps it.
        avoid: Workers that the next attempts avoid, beside those named before, as long
            as there is another.
        ask: A question to a person. The task is on hold, and its dependents wait, until
            `orch.decide` settles it. It replaces another attempt: `retry` is False.
        kind: The class of the failure, if the handler knows better than `Failure.kind`.
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

    It is called under the orchestrator's lock: it must be fast and do no I/O. It may
    have the members of `SetsGrace`, `Classifies` and `Recommends`.

    Laws:
        1. A delay is a finite number of seconds, 0 or more.
        2. It ends: for every policy with finite limits there is a number of failures
           after which `retry` is False.
        3. Randomness comes from `context.random` only.
        4. It changes none of its arguments.
    """

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """Decide whether and when to try again after *failure*."""
        ...
