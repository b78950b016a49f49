"""Why a task does not run, or how it ended: values that read as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from taskorch.kit.frozen import frozen
from taskorch.kit.plain import fields_of
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import in_a_line, in_words, some
from taskorch.model._resources import Resources
from taskorch.model._states import TaskState

#: Kinds of remedies that mostly happen by themselves.
_PASSING: Final = ("complete", "free", "wait")
#: A duration in seconds below which no number is shown.
_MOMENT: Final = 0.001
#: The most names that a sentence lists; the values have them all.
_SOME: Final = 5
_NOTHING: Final = Resources()


@frozen
class Remedy:
    """
    A change that removes an obstacle of a task.

    Attributes:
        kind: `start`, `resume`, `decide`, `rerun`, `complete`, `wait`, `emit`, `free`,
            `release`, `raise_quota`, `raise_budget`, `raise_concurrency`,
            `enlarge_pool`, `add_agent`, `agent_back`, `policy`, `release_starts` or
            `journal`.
        detail: One sentence for people: the action.
        tasks: `resume`, `decide`: the task. `rerun`: the tasks to run again, in this
            order. `complete`: the tasks that must complete. `free`: the tasks and
            allocations whose end is enough. `release`: the allocations.
        name: `free`, `enlarge_pool`: the resource, or `slots`; or a path.
            `raise_budget`: the resource. `agent_back`: the worker. `policy`:
            `state_machine`, `allocator`, `join` or `governance`. `emit`: the event.
            `release_starts`: the author of the hold.
        amount: `free`: the missing amount. `raise_quota`, `raise_budget`,
            `raise_concurrency`, `enlarge_pool`: the new value.
        seconds: `wait`: the time to wait.
        capabilities: `add_agent`: the capabilities of the worker.
        resources: `add_agent`: the capacity that it needs; empty if the pools are
            enough.
    """

    kind: str
    detail: str
    tasks: tuple[str, ...] = ()
    name: str = ""
    amount: float | None = None
    seconds: float | None = None
    capabilities: tuple[str, ...] = ()
    resources: Resources = _NOTHING

    def to_dict(self) -> dict[str, Any]:
        """Return the remedy as JSON has it, without empty fields."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        return visible(self.detail)


@frozen
class Blocker:
    """
    A reason why a task does not run.

    Attributes:
        kind: One of those below.
        detail: One sentence, for people.
        name: The name of the missing resource, worker, capability or task.
        need: The needed amount; None if there is none.
        have: The present amount; None if there is none.
        holders: Ids of the tasks and allocations by hand that hold it; the first
            hundred.
        until: Seconds until it passes by itself, if known.
        resource: The short resource of a worker's capacity; "" for slots.
        agent: The worker that it holds for, while any one worker is enough; "" if it
            holds for all.
        remedies: The remedies, any one of which is enough; empty if nothing helps.

    The kinds, with the kinds of their remedies:

    - `dependency`: a task, or enough of some for a join: `complete`, `rerun`, `decide`,
      `policy`.
    - `event`: an event, or its time: `emit`, `wait`, `decide`.
    - `delay`, `deadline`: a time, or one too late: `wait`.
    - `slot`: a slot of the orchestrator: `free`, `raise_concurrency`.
    - `store`: the function has returned, and a store takes its value: `wait`.
    - `agent`: a worker's slot or capacity, or a lost worker: `free`, `add_agent`,
      `agent_back`.
    - `resource`: a resource pool, or more than there is: `free`, `release`,
      `enlarge_pool`, `add_agent`.
    - `quota`, `rate`: a concurrency or rate limit: `free`, `raise_quota`, `wait`.
    - `budget`: a budget that is used up: `raise_budget`.
    - `scope`: files that another task may write: `free`, `complete`.
    - `capability`: a worker that can do it: `add_agent`.
    - `suspended`, `decision`: a person: `resume`, `decide`.
    - `reservation`: an earlier task, by backfill scheduling: `complete`.
    - `limit`: a limit of your own: `wait`.
    - `veto`, `allocator`, `policy`: a policy of yours: `policy`.
    - `not_started`, `starts_held`, `journal`: the orchestrator: `start`,
      `release_starts`, `journal`.
    - `stopping`, `terminal`: nothing; it stops, or has ended: `rerun`.
    """

    kind: str
    detail: str
    name: str = ""
    need: float | None = None
    have: float | None = None
    holders: tuple[str, ...] = ()
    until: float | None = None
    resource: str = ""
    agent: str = ""
    remedies: tuple[Remedy, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the blocker as JSON has it, without empty fields."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        return visible(self.detail)


@frozen
class Estimate:
    """
    Estimate of the start of a task, with its basis.

    Attributes:
        seconds: Seconds from now; None if unknown, and `basis` says why.
        basis: The method and data of the estimate, in words.
    """

    seconds: float | None
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON has it."""
        return fields_of(self)

    def __str__(self) -> str:
        if self.seconds is None:
            return visible(f"Nobody can say when it starts: {self.basis}.")
        when = "at any moment"
        if self.seconds >= _MOMENT:
            when = f"in about {in_words(self.seconds)}"
        return visible(f"It may start {when} (estimated: {self.basis}).")


@frozen
class Explanation:
    """
    Explanation why a task does not run, or why it did, by the scheduling predicates.

    `str()` of it is the answer in sentences. It holds for the moment of the question.

    Attributes:
        task_id: The id of the task.
        state: Its state.
        blockers: The obstacles in its present state: all must be removed, but see
            `ways`.
        position: Its place among the queued tasks with the same requirements, from 1;
            None if it is not queued, or too far back to be counted without estimates.
        routed: The reason for its worker, once it has one.
        then: The obstacles that come next, as things stand, after the blockers.
        more_agents: The number of further matching workers without room, if there are
            many.
        estimate: The estimate of its start; None if not asked for, or if it has
            started.
        agent: The worker that runs it, or ran it last.
        granted: The resources that it holds or held, with the reason.
        attempts: Attempts begun so far.
        error: The error of the latest failure: `ValueError: …`.
        cause: The cause of the latest failure: `error`, `timeout`, `lost`, `deadline`,
            `poisoned`, ….
        retries: The retry policy's reason for each attempt after the first.
        order: The reason, beside age, for which a queued task comes after others: its
            tenant has more than others, or other tasks of the batch must end first. For
            the task with the reservation of backfill scheduling, the resources and the
            time.
        late: The attempts that ended without effect after they had been given up; their
            results are in `TaskStatus.late_results`.
        where: The line of the latest failure, such as `flow.py:12 in work`, if known.
        stale: Why it is stale (see `TaskStatus.stale`), and the call that helps; or "".
        cache: For a task with a `Cache`: whether it has a cached result, or why not,
            such as `miss: argument 'path' differs from that of job-3`; or "".
        place: For an attempt on a cluster: its node, or the reason why it waits there;
            or "".
        recovery: The function of `TaskOrchestrator.recover` that tries to mend its
            attempt now, with the time of its start; or "".
        usage: For a program: the use of its declared limits by the latest attempt, and
            their enforcement, such as `It used 953 of 512 MB of memory`; or "".
        notes: Notes of extensions, a line each, such as its latest steps.
    """

    task_id: str
    state: TaskState
    blockers: tuple[Blocker, ...]
    position: int | None = None
    routed: str = ""
    then: tuple[Blocker, ...] = ()
    more_agents: int = 0
    estimate: Estimate | None = None
    agent: str = ""
    granted: str = ""
    attempts: int = 0
    error: str = ""
    cause: str = ""
    retries: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    order: str = ""
    where: str = ""
    stale: str = ""
    cache: str = ""
    place: str = ""
    recovery: str = ""
    usage: str = ""
    notes: tuple[str, ...] = ()

    @property
    def runnable(self) -> bool:
        """True if the task waits only for its turn."""
        return not self.blockers and self.state is TaskState.QUEUED

    @property
    def ways(self) -> tuple[tuple[Blocker, ...], ...]:
        """
        Sets of obstacles: the removal of one whole set starts the task.

        Empty if it has no obstacle.
        """
        every = (*self.blockers, *self.then)
        if not every:
            return ()
        workers = dict.fromkeys(b.agent for b in every if b.agent) or {"": None}
        return tuple(
            tuple(b for b in every if b.agent in ("", worker)) for worker in workers
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON has it, without empty fields."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        lines = [self._first_line()]
        if self.stale:
            lines.append(in_a_line(self.stale))
        if self.cache:
            lines.append(f"Remembered results: {in_a_line(self.cache)}.")
        if self.order:
            lines.append(f"{self.order}.")
        if self.state is not TaskState.COMPLETED:
            lines += _sentences(self.blockers, self.more_agents)
        if self.then:
            lines.append("After that, as things stand:")
            lines += _sentences(self.then, self.more_agents, later=True)
        if self.estimate is not None and self._passes():
            lines.append(str(self.estimate))
        lines += self._story()
        return visible("\n".join(lines))

    def _passes(self) -> bool:
        """Return whether every blocker passes by itself."""
        return all(map(_is_passing, (*self.blockers, *self.then)))

    def _first_line(self) -> str:
        line = f"{self.task_id} is {self.state}"
        if self.agent and self.state is TaskState.RUNNING:
            line += f" on {self.agent}"
        if self.position is not None:
            line += (
                f", number {self.position} among the queued tasks with the same "
                "requirements"
            )
        if self.runnable:
            turn = "it is its turn" if self.position == 1 else "its turn comes"
            line += f". Nothing keeps it from starting: {turn}"
        return f"{line}."

    def _story(self) -> list[str]:
        lines = []
        if self.routed:
            where = f"Its worker, {self.agent}," if self.agent else "Its worker"
            lines.append(f"{where} was chosen because: {self.routed}.")
        if self.granted:
            lines.append(self.granted)
        if self.place:
            lines.append(self.place)
        if self.recovery:
            lines.append(self.recovery)
        if self.usage:
            lines.append(self.usage)
        older = len(self.retries) - _SOME
        if older > 0:
            lines.append(f"It was tried again {counted(older, 'time')}, and then:")
        lines += [f"It was tried again: {why}." for why in self.retries[-_SOME:]]
        lines += [
            f"Ignored: {result} (see late_results of its status)."
            for result in self.late
        ]
        if self.error and self.state is not TaskState.FAILED:
            latest = f"Its latest failure ({self.cause}): {self.error}."
            lines.append(in_a_line(latest))
        if self.where and self.state is not TaskState.COMPLETED:
            lines.append(f"The line that failed: {self.where}.")
        return [*lines, *map(in_a_line, self.notes)]


@frozen
class Stuck:
    """
    A group of tasks that cannot proceed as things stand, all for one reason.

    Attributes:
        kind: `dependency`, `capability`, `resource`, `quota`, `budget`, `agent`,
            `waiting`, `allocation`, `suspended`, `decision`, `event` or `gone`.
        detail: One sentence for people: the reason.
        tasks: Ids of all of them, with those that wait for others of the group.
        remedies: Remedies, any one of which would let them proceed.
        outside: True if this is no fault, since they wait for somebody's word, as
            intended.
    """

    kind: str
    detail: str
    tasks: tuple[str, ...]
    remedies: tuple[Remedy, ...] = ()
    outside: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the group as JSON has it, without empty fields."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        many = len(self.tasks)
        label = "waiting for outside input" if self.outside else "stuck"
        lines = [f"{counted(many, 'task')} {label}: {some(self.tasks)}."]
        lines += [f"  {in_a_line(self.detail)}", *_remedies(self.remedies, "  ")]
        return visible("\n".join(lines))


def _is_passing(blocker: Blocker) -> bool:
    return bool(blocker.remedies) and blocker.remedies[0].kind in _PASSING


def _sentences(
    blockers: Iterable[Blocker], more_agents: int, *, later: bool = False
) -> list[str]:
    """
    Return the texts of obstacles and remedies; workers are alternatives.

    Later obstacles get fewer words, since most will have passed by then.
    """
    lines: list[str] = []
    on: dict[str, list[Blocker]] = {}
    for blocker in _few(blockers):
        if blocker.agent:
            on.setdefault(blocker.agent, []).append(blocker)
        else:
            lines += _sentence(blocker, later=later)
    many = len(on) + more_agents > 1
    if many:
        lines.append("It could run on any one of these workers:")
    #: Remedies that replace any of the others, so they are said once.
    others: dict[str, None] = {}
    for of_worker in on.values():
        sentences: list[str] = []
        for blocker in of_worker:
            sentences += _sentence(blocker, later=later, others=others)
        if many:
            sentences = [
                f"{'  ' if number else '- '}{line}"
                for number, line in enumerate(sentences)
            ]
        lines += sentences
    if on and more_agents:
        verbs = ("matches", "has") if more_agents == 1 else ("match", "have")
        workers = counted(more_agents, "more worker")
        lines.append(f"- {workers} {verbs[0]}, and {verbs[1]} no room either.")
    return lines + [f"  or {detail}" for detail in others]


def _few(blockers: Iterable[Blocker]) -> list[Blocker]:
    """Return *blockers*, with only the first of many parents and their number."""
    listed = list(blockers)
    tasks = [b for b in listed if b.kind == "dependency" and _is_passing(b)]
    if len(tasks) <= 2 * _SOME:
        return listed
    left_out = tasks[_SOME:]
    # The last of them may stand for several tasks.
    rest = sum(int(blocker.need or 1) for blocker in left_out)
    detail = f"It needs {rest:,} more tasks that have not completed."
    listed[listed.index(left_out[0])] = Blocker("dependency", detail)
    return [blocker for blocker in listed if blocker not in left_out]


def _sentence(
    blocker: Blocker, *, later: bool, others: dict[str, None] | None = None
) -> list[str]:
    """Return the texts of *blocker* and its remedies; new workers go into *others*."""
    detail = in_a_line(blocker.detail)
    if later and _is_passing(blocker):
        return [detail]
    remedies = blocker.remedies
    if others is not None and len(remedies) > 1:
        others.update((r.detail, None) for r in remedies if r.kind == "add_agent")
        remedies = tuple(r for r in remedies if r.kind != "add_agent")
    return [detail, *_remedies(remedies)]


def _remedies(remedies: Sequence[Remedy], indent: str = "") -> list[str]:
    return [
        f"{indent}  {'or' if number else '→'} {remedy.detail}"
        for number, remedy in enumerate(remedies)
    ]
