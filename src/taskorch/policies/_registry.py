"""
Which workers can do a task: those that have what it needs.

Decision: 0235.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import counted, show
from taskorch.model import Call, Program, is_able, is_label
from taskorch.policies._words import seconds
from taskorch.protocols import AgentView, Context, Match

if TYPE_CHECKING:
    from taskorch.model import Task


class CapabilityRegistry:
    """
    The AgentRegistry that matches capabilities by name.

    A worker matches if it has every capability of `task.requires`; a task that says
    nothing needs one, its type. An empty `requires` is matched by every worker. A label
    of the worker's machine, such as `platform:linux`, will do; but one that has nothing
    else of it must have the type, too. The workers keep the order in which they joined.

    Where nobody matches, the reason names what no worker has or, if each capability is
    to be found somewhere, the worker that lacks the fewest and what it lacks.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The workers, of all *agents*, that have what *task* needs."""
        needs = needs_of(task)
        names = tuple(
            agent.name
            for agent in agents
            if is_able(task, agent.capabilities, agent.labels)
        )
        if names:
            total = counted(len(agents), "agent")
            reason = f"{len(names):,} of {total} can do {named(needs)}"
        else:
            reason = _missing(task, needs, agents)
        # Where labels are all that is required, it matters whether it is a program.
        hangs_on_payload = bool(needs) and all(map(is_label, needs))
        return Match(
            names, reason, reusable=not hangs_on_payload and CapabilityRegistry
        )

    def __repr__(self) -> str:
        return "CapabilityRegistry()"


def _missing(task: Task, needs: Sequence[str], agents: Sequence[AgentView]) -> str:
    if not agents:
        return "there is no agent"
    if all(map(is_label, needs)) and not isinstance(task.payload, Call | Program):
        needs = [*needs, task.type]
    has = {agent.name: {*agent.capabilities, *agent.labels} for agent in agents}
    offered = {each for names in has.values() for each in names}
    unknown = [need for need in needs if need not in offered]
    if unknown:
        able = [need for need in unknown if not is_label(need)]
        faults = [f"no agent can do {named(able)}"] if able else []
        labels = [need for need in unknown if is_label(need)]
        if labels:
            keys = {label.partition(":")[0] for label in labels}
            machines = sorted(n for n in offered if n.partition(":")[0] in keys)
            others = f": there is {', '.join(machines)}" if machines else ""
            faults.append(f"no agent is on a machine with {named(labels)}{others}")
        return "; ".join(faults)
    lacks = [(name, [need for need in needs if need not in has[name]]) for name in has]
    name, lacking = min(lacks, key=lambda lack: len(lack[1]))
    return f"no agent can do all of {named(needs)}; {name} lacks {named(lacking)}"


def needs_of(task: Task) -> list[str]:
    """What a worker must be able to do for *task*."""
    capabilities = (task.type,) if task.requires is None else task.requires
    # Sorted, since the order of a set differs from run to run.
    return sorted(set(capabilities))


def named(names: Sequence[str]) -> str:
    """The capabilities *names*, in a reason."""
    return ", ".join(map(repr, names)) or "what needs no capability"


#: Names of agents, and what each of them can do.
Records: TypeAlias = Mapping[str, Iterable[str]]

#: Characters of an error that a reason shows.
_MAX_SHOWN = 120


@frozen
class _Snapshot:
    """What was read last, and how the latest reading went."""

    records: Mapping[str, frozenset[str]]
    #: `context.now` of the question before it was read; None: nobody had asked yet.
    read_at: float | None = None
    #: The same, of the latest try.
    tried_at: float | None = None
    error: BaseException | None = None


class SourceRegistry:
    """
    The AgentRegistry that reads the capabilities of workers from a source of yours.

    The source is a database, a service discovery, a file. It is never read while the
    orchestrator waits: what was read last is the answer until the next reading ends.
    A worker matches if the source says that it has every capability of
    `task.requires`, or the task's type where the task says nothing; an empty
    `requires` is matched by every worker of the source. What the workers say of
    themselves does not count, but for the labels of their machines. Names that no
    worker of the orchestrator has are left out, and the workers keep the order in which
    they joined.

    A callable is read when this is made; by `refresh()`, on the caller's thread; and
    where somebody asks and the records are older than *max_age*, on a thread of its
    own, one at a time. If it fails then, the last good records stand, each reason
    says so, and it is tried again *max_age* later. Ages count from the question that
    came before the reading (for the very first, from the one after it), so after a
    quiet hour the first answer is an hour old, and says so.

    A mapping is copied and never changes: its answers hold for all like tasks.

    A task that waits for a worker is looked at again when a worker joins or an attempt
    ends, not when the records change.

    Args:
        source: The records: names of workers and their capabilities, or a callable
            without arguments that returns them and may take its time.
        max_age: Seconds, or a timedelta, after which a callable is read again; None
            leaves that to `refresh()`.

    Raises:
        InvalidTaskError: An argument, or what the source returned, is of no use.
        Exception: Whatever the source raises.
    """

    def __init__(
        self,
        source: Records | Callable[[], Records],
        *,
        max_age: float | timedelta | None = 30.0,
    ) -> None:
        if not isinstance(source, Mapping) and not callable(source):
            msg = (
                "source: a mapping of agents' names to what they can do is needed, or "
                f"a callable that returns one; not {show(source)}"
            )
            raise InvalidTaskError(msg)
        if max_age is not None:
            max_age = check_seconds("max_age", max_age, zero=False)
        self.max_age = max_age
        self._source = source
        self._is_fixed = isinstance(source, Mapping)
        self._reading = threading.Lock()
        #: `context.now` of the first question and of the latest.
        self._first: float | None = None
        self._now: float | None = None
        self._snapshot = _Snapshot(_read(source))

    @property
    def error(self) -> BaseException | None:
        """Why the latest reading failed; None if it did not."""
        return self._snapshot.error

    def refresh(self) -> None:
        """
        Read the source now; not from inside a policy.

        Raises:
            InvalidTaskError: What the source returned is of no use.
            Exception: Whatever the source raises. The last good records stand.
        """
        if not self._is_fixed:
            with self._reading:
                self._update()

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The workers, of all *agents*, that the source names for *task*."""
        snapshot = self._snapshot
        late = "" if self._is_fixed else self._watch(snapshot, context.now)
        needs = needs_of(task)
        records = snapshot.records
        names = tuple(
            agent.name
            for agent in agents
            if agent.name in records
            and is_able(task, records[agent.name], agent.labels)
        )
        reason = _reason(needs, names, agents, records) + late
        is_fixed = self._is_fixed and not any(map(is_label, needs))
        return Match(names, reason, reusable=is_fixed and SourceRegistry)

    def _watch(self, snapshot: _Snapshot, now: float) -> str:
        """See to it that the records are read in time; what to say of their age."""
        self._now = now
        if self._first is None:
            self._first = now
        first = self._first
        tried_at = first if snapshot.tried_at is None else snapshot.tried_at
        if self.max_age is not None and now - tried_at > self.max_age:
            self._refresh_aside()
        age = now - (first if snapshot.read_at is None else snapshot.read_at)
        if snapshot.error is not None:
            problem = show(snapshot.error, _MAX_SHOWN)
            return f", as it said {seconds(max(0.0, age))} ago; now it fails: {problem}"
        if self.max_age is not None and age > self.max_age:
            return f", as it said {seconds(age)} ago"
        return ""

    def _refresh_aside(self) -> None:
        if not self._reading.acquire(blocking=False):
            return
        thread = threading.Thread(
            target=self._read_aside, name="taskorch-registry", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread to spare now: the next question tries again.
            self._reading.release()

    def _read_aside(self) -> None:
        # What it raises stands in the snapshot, for the reasons.
        with suppress(BaseException):
            self._update()
        self._reading.release()

    def _update(self) -> None:
        asked_at = self._now
        try:
            records = _read(self._source)
        except BaseException as error:
            self._snapshot = attrs.evolve(
                self._snapshot, tried_at=asked_at, error=error
            )
            raise
        self._snapshot = _Snapshot(records, asked_at, asked_at)

    def __repr__(self) -> str:
        return f"SourceRegistry({show(self._source)}, max_age={self.max_age!r})"


def _read(source: Records | Callable[[], Records]) -> Mapping[str, frozenset[str]]:
    """What *source* says, copied and checked."""
    answer: object = source if isinstance(source, Mapping) else source()
    if not isinstance(answer, Mapping):
        msg = f"source: a mapping of agents' names is needed, not {show(answer)}"
        raise InvalidTaskError(msg)
    records: dict[str, frozenset[str]] = {}
    # A copy, since its owner may change it meanwhile.
    for name, listed in list(answer.items()):
        capabilities = _capabilities(listed)
        if not isinstance(name, str) or capabilities is None:
            msg = (
                "source: the name of an agent and a collection of capabilities are "
                f"needed, not {show(name)}: {show(listed)}"
            )
            raise InvalidTaskError(msg)
        records[name] = capabilities
    return records


def _capabilities(listed: object) -> frozenset[str] | None:
    # A text is a collection too, of its letters.
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        return None
    entries: list[object] = list(listed)
    names = [name for name in entries if isinstance(name, str)]
    return frozenset(names) if len(names) == len(entries) else None


def _reason(
    needs: Sequence[str],
    names: Sequence[str],
    agents: Sequence[AgentView],
    records: Mapping[str, frozenset[str]],
) -> str:
    abilities = named(needs)
    if names:
        total = counted(len(agents), "agent")
        return f"{len(names):,} of {total} can do {abilities}, says the source"
    able = sum(has.issuperset(needs) for has in records.values())
    if able:
        agents_named = counted(able, "agent")
        return f"the source names {agents_named} for {abilities}, and none has joined"
    return f"the source names nobody for {abilities}"
