"""
The workers that match a task by capabilities.

Decision: units-and-labels.
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
from taskorch.kit.visible import counted, is_text, show
from taskorch.kit.words import seconds
from taskorch.model import Call, Program, is_able, is_label
from taskorch.protocols import AgentView, Context, Match

if TYPE_CHECKING:
    from taskorch.model import Task


class CapabilityRegistry:
    """
    AgentRegistry that matches capabilities by name.

    A worker matches if it has every capability of `task.requires`; a task without
    `requires` needs its type. An empty `requires` matches every worker. A label of the
    worker's machine, such as `platform:linux`, counts as well; but if labels are all
    that a task requires, its worker needs the type, too. The workers keep the order in
    which they joined.

    If none matches, the reason names the capabilities that no worker has or, if each
    exists somewhere, the worker that lacks the fewest, with those.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """Return the workers, of all *agents*, that have the needs of *task*."""
        needs = needs_of(task)
        names = tuple(
            worker.name
            for worker in agents
            if is_able(task, worker.capabilities, worker.labels)
        )
        if names:
            total = counted(len(agents), "worker")
            reason = f"{len(names):,} of {total} can do {named(needs)}"
        else:
            reason = _missing(task, needs, agents)
        # If only labels are required, the kind of payload matters: a program needs no
        # capability.
        hangs_on_payload = bool(needs) and all(map(is_label, needs))
        return Match(
            names, reason, reusable=not hangs_on_payload and CapabilityRegistry
        )

    def __repr__(self) -> str:
        return "CapabilityRegistry()"


def _missing(task: Task, needs: Sequence[str], workers: Sequence[AgentView]) -> str:
    if not workers:
        return "there is no worker"
    if all(map(is_label, needs)) and not isinstance(task.payload, Call | Program):
        needs = [*needs, task.type]
    has = {worker.name: {*worker.capabilities, *worker.labels} for worker in workers}
    offered = {each for names in has.values() for each in names}
    unknown = [need for need in needs if need not in offered]
    if unknown:
        able = [need for need in unknown if not is_label(need)]
        faults = [f"no worker can do {named(able)}"] if able else []
        labels = [need for need in unknown if is_label(need)]
        if labels:
            keys = {label.partition(":")[0] for label in labels}
            machines = sorted(n for n in offered if n.partition(":")[0] in keys)
            others = f": there is {', '.join(machines)}" if machines else ""
            faults.append(f"no worker is on a machine with {named(labels)}{others}")
        return "; ".join(faults)
    lacks = [(name, [need for need in needs if need not in has[name]]) for name in has]
    name, lacking = min(lacks, key=lambda lack: len(lack[1]))
    return f"no worker can do all of {named(needs)}; {name} lacks {named(lacking)}"


def needs_of(task: Task) -> list[str]:
    """Return the capabilities and labels that a worker needs for *task*."""
    capabilities = (task.type,) if task.requires is None else task.requires
    # The names are sorted, since the order of a set differs from run to run.
    return sorted(set(capabilities))


def named(names: Sequence[str]) -> str:
    """Return the capabilities *names* in words."""
    return ", ".join(map(repr, names)) or "what needs no capability"


#: Names of workers, each with its capabilities.
Records: TypeAlias = Mapping[str, Iterable[str]]

#: The most characters of an error that a reason shows.
_MAX_SHOWN = 120


@frozen
class _Snapshot:
    """The records of the last successful reading, and the error of the latest one."""

    records: Mapping[str, frozenset[str]]
    #: `context.now` of the question before the reading; None if there was none yet.
    read_at: float | None = None
    #: The same for the latest try.
    tried_at: float | None = None
    error: BaseException | None = None


class SourceRegistry:
    """
    AgentRegistry that reads the capabilities of workers from your own source.

    The source is a database, a service discovery, a file. It is never read while the
    orchestrator waits: the last records hold until the next reading ends. A worker
    matches if the source says that it has every capability of `task.requires`, or the
    task's type without `requires`; an empty `requires` matches every worker of the
    source. The workers' own capabilities do not count, only the labels of their
    machines. Names that no worker of the orchestrator has are left out, and the workers
    keep the order in which they joined.

    A callable is read when this is made; by `refresh()`, on the caller's thread; and
    when it is asked while the records are older than *max_age*, on a thread of its own,
    one at a time. If it fails then, the last good records stand, each reason says so,
    and it is tried again *max_age* later. Ages count from the question that came before
    the reading (for the very first, from the one after it), so after a quiet hour the
    first answer is an hour old, and says so.

    A mapping is copied and never changes: its answers hold for all like tasks.

    A waiting task is looked at again when a worker joins or an attempt ends, not when
    the records change.

    Args:
        source: The records: names of workers and their capabilities, or a callable
            without arguments that returns them and may take its time.
        max_age: Seconds, or a timedelta, after which a callable is read again; None
            leaves that to `refresh()`.

    Raises:
        InvalidTaskError: An argument, or the answer of the source, is invalid.
        Exception: Any error of the source.
    """

    def __init__(
        self,
        source: Records | Callable[[], Records],
        *,
        max_age: float | timedelta | None = 30.0,
    ) -> None:
        if not isinstance(source, Mapping) and not callable(source):
            msg = (
                "source: a mapping of workers' names to what they can do is needed, or "
                f"a callable that returns one; not {show(source)}"
            )
            raise InvalidTaskError(msg)
        if max_age is not None:
            max_age = check_seconds("max_age", max_age, zero=False, none=True)
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
        """Error of the latest reading; None if it succeeded."""
        return self._snapshot.error

    def refresh(self) -> None:
        """
        Read the source now; not from inside a policy.

        Raises:
            InvalidTaskError: The answer of the source is invalid.
            Exception: Any error of the source. The last good records stand.
        """
        if not self._is_fixed:
            with self._reading:
                self._update()

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """Return the workers, of all *agents*, that the source names for *task*."""
        snapshot = self._snapshot
        late = "" if self._is_fixed else self._watch(snapshot, context.now)
        needs = needs_of(task)
        records = snapshot.records
        names = tuple(
            worker.name
            for worker in agents
            if worker.name in records
            and is_able(task, records[worker.name], worker.labels)
        )
        reason = _reason(needs, names, agents, records) + late
        is_fixed = self._is_fixed and not any(map(is_label, needs))
        return Match(names, reason, reusable=is_fixed and SourceRegistry)

    def _watch(self, snapshot: _Snapshot, now: float) -> str:
        """Have the records read in time; return a note on their age."""
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
            # The system has no thread left now, so the next question tries again.
            self._reading.release()

    def _read_aside(self) -> None:
        # An error is in the snapshot, for the reasons.
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

    def __deepcopy__(self, _memo: object) -> SourceRegistry:
        """Return a copy that reads no source: in a simulation, hours pass at once."""
        return SourceRegistry(self._snapshot.records)

    def __repr__(self) -> str:
        return f"SourceRegistry({show(self._source)}, max_age={self.max_age!r})"


def _read(source: Records | Callable[[], Records]) -> Mapping[str, frozenset[str]]:
    """Return the records of *source*, copied and checked."""
    answer: object = source if isinstance(source, Mapping) else source()
    if not isinstance(answer, Mapping):
        msg = f"source: a mapping of workers' names is needed, not {show(answer)}"
        raise InvalidTaskError(msg)
    records: dict[str, frozenset[str]] = {}
    # The mapping is copied, since its owner may change it meanwhile.
    for name, listed in list(answer.items()):
        capabilities = _capabilities(listed)
        if not is_text(name) or capabilities is None:
            msg = (
                "source: the name of a worker and a collection of capabilities are "
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
    workers: Sequence[AgentView],
    records: Mapping[str, frozenset[str]],
) -> str:
    abilities = named(needs)
    if names:
        total = counted(len(workers), "worker")
        return f"{len(names):,} of {total} can do {abilities}, says the source"
    able = sum(has.issuperset(needs) for has in records.values())
    if able:
        workers_named = counted(able, "worker")
        return f"the source names {workers_named} for {abilities}, and none has joined"
    return f"the source names nobody for {abilities}"
