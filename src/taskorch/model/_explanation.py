"""Why a task does not run, or what became of it: values that read as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from taskorch.kit.frozen import frozen
from taskorch.kit.plain import fields_of
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import in_a_line, in_words, some
from taskorch.model._resources import Resources
from taskorch.model._states import TaskState

#: Remedies that mostly come about by themselves.
_PASSING: Final = ("complete", "free", "wait")
#: Seconds that are not worth a number.
_MOMENT: Final = 0.001
#: Names that a sentence lists; the values have them all.
_SOME: Final = 5
_NOTHING: Final = Resources()


@frozen
class Remedy:
    """
    A change that lifts what keeps a task from running.

    Attributes:
        kind: `start`, `resume`, `decide`, `rerun`, `complete`, `wait`, `emit`, `free`,
            `release`, `raise_quota`, `raise_budget`, `raise_concurrency`,
            `enlarge_pool`, `add_agent`, `agent_back`, `policy`, `release_starts` or
            `journal`.
        detail: One sentence, for people: what to do.
        tasks: `resume`, `decide`: the task. `rerun`: those that are run again, in this
            order. `complete`: those that are to complete. `free`: those whose end is
            enough, allocations by hand among them. `release`: the allocations.
        name: `free`, `enlarge_pool`: the resource, or `slots`; or what it may write.
            `raise_budget`: the resource. `agent_back`: the
            worker. `policy`: `state_machine`, `allocator`, `join` or `governance`.
            `emit`: the event. `release_starts`: who holds them.
        amount: `free`: how much more. `raise_quota`, `raise_budget`,
            `raise_concurrency`, `enlarge_pool`: the new value.
        seconds: `wait`: for how long.
        capabilities: `add_agent`: what it can do.
        resources: `add_agent`: the capacity that it needs; nothing where the pools are
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
        """The remedy as JSON has it; empty fields are left out."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        return visible(self.detail)


@frozen
class Blocker:
    """
    A reason why a task does not run.

    Attributes:
        kind: `dependency`, `event`, `delay`, `deadline`, `capability`, `agent`, `slot`,
            `resource`, `quota`, `rate`, `budget`, `scope`, `limit`, `reservation`,
            `allocator`, `veto`, `policy`, `suspended`, `decision`, `stopping`,
            `not_started`, `starts_held`, `journal` or `terminal`.
        detail: One sentence, for people.
        name: What is short: the name of a resource, a worker, a capability, a task.
        need: How much is needed; None if that is no amount.
        have: How much there is; None if that is no amount.
        holders: Ids of the tasks that hold it, and allocations by hand; the first
            hundred.
        until: Seconds until it passes by itself, where that is known.
        resource: Of a worker's capacity, the resource that is short; "" are slots.
        agent: It counts on this worker only, and any one worker is enough; "": on all.
        remedies: What lifts it: any one of these does. Nothing, if nothing can.
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
        """The blocker as JSON has it; empty fields are left out."""
        return fields_of(self, whole=False)

    def __str__(self) -> str:
        return visible(self.detail)


@frozen
class Estimate:
    """
    When a task may start: a guess, and what it rests on.

    Attributes:
        seconds: Seconds from now; None: nobody can say, and `basis` says why.
        basis: How it was estimated, and from what.
    """

    seconds: float | None
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON has it."""
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
    Why a task does not run, from the predicates that schedule it; or why it did.

    `str()` of it is the answer in sentences. It holds for the moment in which it was
    asked for.

    Attributes:
        task_id: The id of the task.
        state: Its state.
        blockers: What keeps it where it is: all of these must be lifted, but see
            `ways`.
        position: Its place among the queued tasks with the same requirements, from 1;
            None if it is not queued, or too far back to be counted without estimates.
        routed: Why it went to its worker, once it has one.
        then: What keeps it next, as things stand, once the blockers are lifted.
        more_agents: Matching workers without room that are not among the blockers:
            there are many.
        estimate: When it may start; None if that was not asked, or it has started.
        agent: Who runs it, or ran it last.
        granted: What it holds or held, and why so much.
        attempts: Attempts begun so far.
        error: Of the latest failure: `ValueError: …`.
        cause: Of the latest failure: `error`, `timeout`, `lost`, `deadline`,
            `poisoned`, ….
        retries: Why each attempt after the first was made, as the retry policy said.
        order: What puts a queued task behind others, if more than their age does: a
            tenant who has more than others, or a batch of which others must end first.
            Of the first that cannot start, where the queue backfills, what is reserved
            for it, and from when on.
        late: Which attempts ended after they had been given up, to no effect: what they
            brought is in `TaskStatus.late_results`.
        where: The line of the latest failure, as in `flow.py:12 in work`, if known.
        stale: Why it is stale (see `TaskStatus.stale`), and what to call; or "".
        cache: Of a task with a `Cache`: whether it has the result of a like task, or
            why not, as in `miss: argument 'path' differs from that of job-3`; or "".
        place: Of an attempt on a cluster: which host it is with, or what it waits for
            there; or "".
        recovery: Which function of `TaskOrchestrator.recover` tries to mend its attempt
            now, and since when; or "".
        usage: Of a program: what its latest attempt used of what it declares, and what
            held it, as in `It used 953 of 512 MB of memory`; or "".
        notes: What extensions say of it, a line each: its latest steps, for one.
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
        """Whether nothing keeps it from starting but its turn."""
        return not self.blockers and self.state is TaskState.QUEUED

    @property
    def ways(self) -> tuple[tuple[Blocker, ...], ...]:
        """
        Sets of blockers, of now and then: where one is lifted whole, the task starts.

        Nothing, if nothing keeps it.
        """
        every = (*self.blockers, *self.then)
        if not every:
            return ()
        agents = dict.fromkeys(b.agent for b in every if b.agent) or {"": None}
        return tuple(
            tuple(b for b in every if b.agent in ("", agent)) for agent in agents
        )

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON has it; empty fields are left out."""
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
        """Whether nothing keeps it but what comes to an end by itself."""
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
            where = f"Its agent, {self.agent}," if self.agent else "Its agent"
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
            lines.append(f"It was tried again {older:,} times, and then:")
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
    Tasks that cannot proceed as things stand, all for one reason.

    Attributes:
        kind: `dependency`, `capability`, `resource`, `quota`, `budget`, `agent`,
            `waiting`, `allocation`, `suspended`, `decision`, `event` or `gone`.
        detail: One sentence, for people: why.
        tasks: Ids of all of them, those that wait for others of them included.
        remedies: What would let them proceed: any one of these.
        outside: Whether that is no fault: it waits for somebody's word, as it was told
            to.
    """

    kind: str
    detail: str
    tasks: tuple[str, ...]
    remedies: tuple[Remedy, ...] = ()
    outside: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The group as JSON has it; empty fields are left out."""
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
    What keeps a task, and what helps; workers are alternatives.

    Of what comes later, and will mostly have passed by then, that much is enough.
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
        lines.append("It could run on any one of these agents:")
    #: What would do instead of any of them; it is said once.
    others: dict[str, None] = {}
    for of_agent in on.values():
        sentences: list[str] = []
        for blocker in of_agent:
            sentences += _sentence(blocker, later=later, others=others)
        if many:
            sentences = [
                f"{'  ' if number else '- '}{line}"
                for number, line in enumerate(sentences)
            ]
        lines += sentences
    if on and more_agents:
        verbs = ("matches", "has") if more_agents == 1 else ("match", "have")
        agents = counted(more_agents, "more agent")
        lines.append(f"- {agents} {verbs[0]}, and {verbs[1]} no room either.")
    return lines + [f"  or {detail}" for detail in others]


def _few(blockers: Iterable[Blocker]) -> list[Blocker]:
    """*blockers*; of many tasks that are still to complete, the first and a number."""
    listed = list(blockers)
    tasks = [b for b in listed if b.kind == "dependency" and _is_passing(b)]
    if len(tasks) <= 2 * _SOME:
        return listed
    left_out = tasks[_SOME:]
    # The last of them may stand for more than one.
    rest = sum(int(blocker.need or 1) for blocker in left_out)
    detail = f"It needs {rest:,} more tasks that have not completed."
    listed[listed.index(left_out[0])] = Blocker("dependency", detail)
    return [blocker for blocker in listed if blocker not in left_out]


def _sentence(
    blocker: Blocker, *, later: bool, others: dict[str, None] | None = None
) -> list[str]:
    """What *blocker* says, and what helps; another worker goes into *others*."""
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
