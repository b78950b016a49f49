"""All that has not ended, as it stands, and what there is to do it with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.kernel import (
    Spec,
    TaskRow,
    Terms,
    declared,
    limits_of,
)
from taskorch.kit.limits import NS
from taskorch.model import TERMINAL, Task, TaskState, Units
from taskorch.runtime import task_of
from taskorch.simulation._plans._chance import takes_no_time
from taskorch.simulation._plans._plan import Means, means_of

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

_S: Final = TaskState
#: Of a type, how many of the latest measurements count.
_LATEST: Final = 200
#: What runs, or waits for nothing but others, a time and room.
_GOES_ON: Final = frozenset({_S.PENDING, _S.QUEUED, _S.RUNNING, _S.RETRYING})


@attrs.frozen(eq=False)
class OutsideParent:
    """What a task waits for that has ended, or of which nobody knows when it ends."""

    id: str
    state: TaskState
    allow_failure: bool = False


@attrs.frozen(eq=False)
class OpenTask:
    """
    A task that has not ended, as it stood.

    Attributes:
        id: Its id.
        task: What its user said.
        spec: What it has in common with others that are like it.
        run: The run that it is of, or "".
        priority: As it was submitted, or changed since.
        key: Its place in the queue; None: what the queue says anew.
        submitted_ns: When it was submitted.
        due_ns: Not before then; 0 is at once.
        deadline_ns: When it fails, whatever it does then; None is never.
        parents: What it waits for: places, and what is not there to wait for.
        terms: How it waits, if not for all of them.
        agent: Where it runs, or "".
        alloc: What it holds.
        elapsed_ns: How long it has run.
    """

    id: str
    task: Task
    spec: Spec
    run: str
    priority: int
    key: Any
    submitted_ns: int
    due_ns: int
    deadline_ns: int | None
    parents: tuple[int | OutsideParent, ...]
    terms: Terms | None
    agent: str = ""
    alloc: Units = ()
    elapsed_ns: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it goes on once all that it waits for has completed."""
        return (
            not self.due_ns
            and self.deadline_ns is None
            and self.terms is None
            and type(self.key) is int
            and all(type(above) is int for above in self.parents)
        )


@attrs.frozen(eq=False)
class OpenWork:
    """
    What is open, at one moment.

    Attributes:
        now_ns: The moment.
        tasks: What goes on by itself, in the order of submission.
        places: The place of each, by its id.
        outside: What does not go on by itself, with its state.
        measured: How long attempts took of each type, in ns, sorted.
        means: What there is to do it with.
        draining: Workers that get nothing new, and why.
        holds: Who holds starts back: while how many run, and why.
        totals: How much there is of each pool, what is held by hand included.
    """

    now_ns: int
    tasks: Sequence[OpenTask]
    places: Mapping[str, int]
    outside: Mapping[str, TaskState]
    measured: Mapping[str, Sequence[int]]
    means: Means
    draining: Mapping[str, str]
    holds: Mapping[str, tuple[int, str, bool]]
    totals: Mapping[str, int]

    def above(self, task_id: str) -> Iterable[str]:
        """What the task waits for, and so on up; itself first."""
        seen = {task_id: None}
        todo = [task_id]
        while todo:
            name = todo.pop()
            yield name
            place = self.places.get(name)
            for parent in () if place is None else self.tasks[place].parents:
                above = (
                    parent.id
                    if isinstance(parent, OutsideParent)
                    else self.tasks[parent].id
                )
                if above not in seen:
                    seen[above] = None
                    todo.append(above)


def open_work(runtime: Runtime) -> OpenWork:
    """What has not ended now; nothing of it changes."""
    means = means_of(runtime)
    kernel = runtime.kernel
    with runtime.lock:
        now = runtime.now()
        rows = [row for row in kernel.tasks.values() if row.state not in TERMINAL]
        rows.sort(key=lambda row: row.seq)
        going = [row for row in rows if _goes_on(row)]
        places = {row: place for place, row in enumerate(going)}
        tasks = [_as_it_stands(row, places, now) for row in going]
        measured = {
            name: sorted(end - start for *_, start, end in [*row.samples][-_LATEST:])
            for name, row in kernel.types.items()
            if row.samples
        }
        agents = [row for row in kernel.agents.values() if row.draining]
        # Those of runs too: here, each task is of its run.
        quotas = tuple((*who, limits_of(kernel, who)) for who in kernel.quotas)
        return OpenWork(
            now,
            tasks,
            {row.id: place for row, place in places.items()},
            {row.id: row.state for row in rows if row not in places},
            measured,
            attrs.evolve(means, begins_ns=now, quotas=quotas),
            {row.name: row.draining for row in agents if not row.lost},
            dict(kernel.holds),
            {
                pool.name: declared(pool)[0]
                for pool in kernel.pools.values()
                if not pool.is_quota
            },
        )


def _goes_on(row: TaskRow) -> bool:
    """Whether nothing but time, room and other tasks stand before the end of *row*."""
    links = row.links
    wait = None if links is None or links.terms is None else links.terms.wait
    if links is not None and links.terms is not None and wait is not None:
        # What waits for an event, or for a person, may wait for ever.
        return wait[0] is None and (row.state is _S.PENDING or links.terms.awaits)
    return row.state in _GOES_ON


def _as_it_stands(row: TaskRow, places: Mapping[TaskRow, int], now: int) -> OpenTask:
    extra, spec = row.extra, row.bucket.spec
    due = 0 if extra is None else extra.due_ns
    parents: tuple[int | OutsideParent, ...] = ()
    terms = None
    links = row.links
    if links is not None:
        terms = links.terms
        if terms is not None and terms.awaits:
            # Its time runs already: it goes on when that is over.
            terms = Terms(wait=(None, max(0, due - now), True))
            due = 0
        elif links.waiting if terms is None else not terms.joined:
            parents = _parents(row, places)
            terms = None if terms is None else attrs.evolve(terms)
        elif terms is not None:
            wait = terms.wait
            terms = None if wait is None else Terms(wait=wait)
    is_running = row.state is _S.RUNNING
    agent = row.agent
    return OpenTask(
        row.id,
        task_of(row),
        # How much of a budget is left when, nobody knows.
        attrs.evolve(spec, budget="", spends=(), workflow=None)
        if spec.budget or spec.workflow
        else spec,
        row.run,
        0 if extra is None else extra.priority,
        row.key,
        row.submitted_ns,
        due if due > now else 0,
        None if extra is None else extra.deadline_ns,
        parents,
        terms,
        agent.name if is_running and agent is not None else "",
        row.alloc if is_running else (),
        max(0, now - row.started_ns) if is_running else 0,
    )


def _parents(
    row: TaskRow, places: Mapping[TaskRow, int]
) -> tuple[int | OutsideParent, ...]:
    links = row.links
    parents: list[int | OutsideParent] = []
    for parent in dict.fromkeys(() if links is None else links.parents):
        place = places.get(parent)
        if place is not None:
            parents.append(place)
        elif (
            links is not None
            and links.terms is None
            and (parent.state is _S.COMPLETED or _is_allowed(parent))
        ):
            continue
        else:
            spec = parent.bucket.spec
            parents.append(OutsideParent(parent.id, parent.state, spec.allow_failure))
    return tuple(parents)


def _is_allowed(parent: TaskRow) -> bool:
    """Whether *parent* has failed, and whoever waits for it goes on all the same."""
    return parent.state is _S.FAILED and parent.bucket.spec.allow_failure


def known_lengths(work: OpenWork) -> list[Sequence[int] | None]:
    """
    Of each task, how long those of its type took, in ns; None: nothing is known.

    What its user expects of it is what is known until one has ended.
    """
    lengths: list[Sequence[int] | None] = []
    for each in work.tasks:
        measured: Sequence[int] | None = work.measured.get(each.spec.type)
        if measured is None and each.task.expected is not None:
            measured = (int(each.task.expected * NS),)
        if measured is None and takes_no_time(each.task):
            measured = ()
        lengths.append(measured)
    return lengths
