"""All unfinished tasks in their present state, and the means to do them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from taskorch.core.engine import task_of
from taskorch.core.kernel import (
    Spec,
    TaskRow,
    Terms,
)
from taskorch.core.worlds import Means, SimulatedPlan, means_of, takes_no_time
from taskorch.ext.simulation._open._unforeseen import (
    asking,
    denied,
    stopped,
    unforeseen,
)
from taskorch.kit.limits import NS
from taskorch.model import TERMINAL, Task, TaskState, Units

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

_S: Final = TaskState
#: The number of the latest measurements of a type that count.
_LATEST: Final = 200
#: States of tasks that run, or wait for other tasks, a time and room only.
_GOES_ON: Final = frozenset({_S.PENDING, _S.QUEUED, _S.RUNNING, _S.RETRYING})


@attrs.frozen(eq=False)
class OutsideParent:
    """A parent that has ended, or whose end nobody knows."""

    id: str
    state: TaskState
    allow_failure: bool = False


@attrs.frozen(eq=False)
class Failing:
    """
    The latest attempts of one type, of which some may have failed.

    Attributes:
        lengths: The durations of the failed ones in ns, sorted.
        tries: How often the task of each had been tried, and whether another try
            followed.
        completed: The number of completed ones.
    """

    lengths: Sequence[int]
    tries: Sequence[tuple[int, bool]]
    completed: int


class OpenTask(NamedTuple):
    """
    A task that has not ended, in its present state.

    Attributes:
        id: Its id.
        task: The task as it was submitted.
        spec: The part that it shares with like tasks.
        run: Its run, or "".
        priority: Its priority, as submitted or changed since.
        key: Its key in the queue; None: the queue makes a new one.
        submitted_ns: When it was submitted.
        due_ns: The time before which it does not start; 0 is at once.
        deadline_ns: The time at which it fails if it has not ended; None is never.
        parents: Its parents: places, and parents outside the open work.
        terms: Its conditions, if it does not wait for all of them.
        worker: The worker on which it runs, or "".
        alloc: The resources that it holds.
        elapsed_ns: How long it has run.
        left_ns: The rest of its timeout, or 0 if it has none.
        tries: How many attempts have counted as tries.
        waits_inside: Whether it runs and waits for other tasks, without its slot.
        inside: The task for which it then waits, if that does not go on by itself.
        sleeps_ns: How long it still sleeps, in `context.sleep`.
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
    worker: str = ""
    alloc: Units = ()
    elapsed_ns: int = 0
    left_ns: int = 0
    tries: int = 0
    waits_inside: bool = False
    inside: str = ""
    sleeps_ns: int = 0

    @property
    def is_plain(self) -> bool:
        """True if it goes on once all its parents have completed."""
        return (
            not self.due_ns
            and self.deadline_ns is None
            and self.terms is None
            and not self.tries
            and type(self.key) is int
            and all(type(above) is int for above in self.parents)
        )


@attrs.frozen(eq=False)
class OpenWork:
    """
    The open work at one moment.

    Attributes:
        now_ns: The moment.
        tasks: The tasks that go on by themselves, in the order of submission.
        places: The place of each, by its id.
        outside: The tasks that do not go on by themselves, with their states.
        measured: The durations of completed attempts in ns, sorted, by type.
        failing: The failed attempts of each type; empty if no attempt has failed.
        means: The workers, resources and policies.
        draining: Workers that get no new tasks, and why.
        holds: The groups whose starts are held back: while how many run, and why.
        room: How many attempts the system has room for; None: as many as may run.
        tokens: The state of rate limits, as snapshots have it.
        breakers: The breakers of workers, by name, as snapshots have them.
        why: Why a task of `outside` does not go on by itself, if its state does not
            say it.
        unforeseen: The parts that are not simulated, in sentences.
        coming: How many of the tasks, the last ones, schedules will make.
        skipped: Of ticks that are skipped if the runs before have not ended: the time,
            the places of the tasks, and those of the runs before.
    """

    now_ns: int
    tasks: Sequence[OpenTask]
    places: Mapping[str, int]
    outside: Mapping[str, TaskState]
    measured: Mapping[str, Sequence[int]]
    means: Means
    draining: Mapping[str, str]
    holds: Mapping[str, tuple[int, str, bool]]
    failing: Mapping[str, Failing] = attrs.field(factory=dict)
    room: int | None = None
    tokens: Mapping[str, Any] = attrs.field(factory=dict)
    breakers: Mapping[str, Sequence[Any]] = attrs.field(factory=dict)
    why: Mapping[str, str] = attrs.field(factory=dict)
    unforeseen: tuple[str, ...] = ()
    coming: int = 0
    skipped: Sequence[tuple[int, Sequence[int], Sequence[int]]] = ()

    def above(self, task_id: str) -> Iterable[str]:
        """Yield the task and all its ancestors."""
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
    """Return all unfinished work, without a change to it."""
    means = means_of(runtime, of_runs=True)
    kernel = runtime.kernel
    denials = denied(runtime)
    with runtime.lock:
        now = runtime.now()
        rows = [row for row in kernel.tasks.values() if row.state not in TERMINAL]
        rows.sort(key=lambda row: row.seq)
        why = stopped(runtime, rows, now, denials)
        going = [row for row in rows if _goes_on(row) and row.id not in why]
        places = {row: place for place, row in enumerate(going)}
        inside = asking(runtime, places)
        sleeping = runtime.waiting.sleeping(now)
        tasks = [
            _as_it_stands(
                row, places, now, inside.get(row.id, ""), sleeping.get(row.id, 0)
            )
            for row in going
        ]
        measured = {
            name: sorted(end - start for *_, start, end in [*row.samples][-_LATEST:])
            for name, row in kernel.types.items()
            if row.samples
        }
        workers = [row for row in kernel.workers.values() if not row.lost]
        return OpenWork(
            now,
            tasks,
            {row.id: place for row, place in places.items()},
            {row.id: row.state for row in rows if row not in places},
            measured,
            attrs.evolve(means, begins_ns=now),
            {row.name: row.draining for row in workers if row.draining},
            dict(kernel.holds),
            _failing(runtime),
            kernel.room if kernel.room < kernel.config.concurrency else None,
            {key: rows for limit in kernel.limits for key, rows in limit.out().items()},
            {row.name: row.breakers_out() for row in workers if row.breakers},
            why,
            unforeseen(runtime, rows, inside, sleeping),
        )


def _failing(runtime: Runtime) -> dict[str, Failing]:
    """Return the latest attempts of each type; nothing if none of any type failed."""
    types = runtime.kernel.types
    if not any(row.failing for row in types.values()):
        return {}
    by_type: dict[str, Failing] = {}
    for name, row in types.items():
        completed = [end for *_, end in [*row.samples][-_LATEST:]]
        failed = [*(row.failing or ())][-_LATEST:]
        # Both count from the same time on, so that their share is that of now.
        latest = sorted([*completed, *(end for _, end, _, _ in failed)])[-_LATEST:]
        if latest:
            failed = [each for each in failed if each[1] >= latest[0]]
            by_type[name] = Failing(
                sorted(end - start for start, end, _, _ in failed),
                [(tries, retried) for _, _, tries, retried in failed],
                sum(end >= latest[0] for end in completed),
            )
    return by_type


def with_plan(
    work: OpenWork,
    plan: SimulatedPlan,
    run: str,
    at_ns: int,
    states: Mapping[str, TaskState],
    *,
    is_ordered: bool,
) -> tuple[OpenWork, list[str]]:
    """
    Add a plan that is not submitted yet to the open work.

    Args:
        work: The open work.
        plan: The plan.
        run: The run of its tasks, with which their ids begin.
        at_ns: The time at which it comes.
        states: The states of its parents outside the plan, by ids.
        is_ordered: Whether the queue prefers, among tasks that come together, the ones
            with more work behind them.

    Returns:
        The new work, and the ids of the plan's tasks in it.
    """
    order = _taken_in(work, plan) if is_ordered else range(len(plan))
    first = len(work.tasks)
    places = {number: first + n for n, number in enumerate(order)}
    tasks: list[OpenTask] = []
    for number in order:
        task, spec = plan.tasks[number], plan.specs[number]
        start_ns, deadline_ns = plan.times(number, at_ns)
        due = max(at_ns, start_ns or 0)
        parents: list[int | OutsideParent] = [places[n] for n in plan.parents[number]]
        for above in plan.outside.get(number, ()):
            if above in work.places:
                parents.append(work.places[above])
            elif states[above] is not TaskState.COMPLETED:
                parents.append(OutsideParent(above, states[above]))
        tasks.append(
            OpenTask(
                f"{run}/{plan.ids[number]}",
                task,
                _without_budget(spec),
                run,
                task.priority,
                None,
                at_ns,
                due if due > work.now_ns else 0,
                deadline_ns,
                tuple(parents),
                plan.terms.get(number),
            )
        )
    ids = [each.id for each in tasks]
    stays = {n: state for n, state in states.items() if n not in work.places}
    means = work.means
    joined = attrs.evolve(
        work,
        outside={**work.outside, **stays},
        tasks=[*work.tasks, *tasks],
        places={**work.places, **{name: first + n for n, name in enumerate(ids)}},
        means=attrs.evolve(
            means,
            pools=(*means.pools, *plan.pools.items()),
            totals={**means.totals, **plan.pools},
        ),
    )
    return joined, ids


def _taken_in(work: OpenWork, plan: SimulatedPlan) -> Sequence[int]:
    """Return the places of a plan in the order of submission."""
    known: list[float | None] = []
    for task in plan.tasks:
        measured = work.measured.get(task.type)
        length = None if task.expected is None else task.expected * NS
        if length is None and measured:
            length = measured[len(measured) // 2]
        known.append(length)
    return plan.latest_finish_first(known)


def _without_budget(spec: Spec) -> Spec:
    """Return *spec* without a budget, whose rest at a later time is unknown."""
    if spec.budget or spec.workflow:
        return attrs.evolve(spec, budget="", spends=(), workflow=None)
    return spec


def _goes_on(row: TaskRow) -> bool:
    """Return whether *row* waits for time, room and other tasks only."""
    links = row.links
    wait = None if links is None or links.terms is None else links.terms.wait
    if links is not None and links.terms is not None and wait is not None:
        # A task that waits for an event, or for a person, may wait for ever.
        return wait[0] is None and (row.state is _S.PENDING or links.terms.awaits)
    return row.state in _GOES_ON


def _as_it_stands(
    row: TaskRow, places: Mapping[TaskRow, int], now: int, inside: str, sleeps_ns: int
) -> OpenTask:
    extra, spec = row.extra, row.bucket.spec
    due = 0 if extra is None else extra.due_ns
    parents: tuple[int | OutsideParent, ...] = ()
    terms = None
    links = row.links
    if links is not None:
        terms = links.terms
        if terms is not None and terms.awaits:
            # Its time runs already; it goes on when that is over.
            terms = Terms(wait=(None, max(0, due - now), True))
            due = 0
        elif links.waiting if terms is None else not terms.joined:
            parents = _parents(row, places)
            terms = None if terms is None else attrs.evolve(terms)
        elif terms is not None:
            wait = terms.wait
            terms = None if wait is None else Terms(wait=wait)
    is_running = row.state is _S.RUNNING
    timer = 0 if extra is None else extra.timer
    worker = row.worker
    return OpenTask(
        row.id,
        task_of(row),
        _without_budget(spec),
        row.run,
        0 if extra is None else extra.priority,
        row.key,
        row.submitted_ns,
        due if due > now else 0,
        None if extra is None else extra.deadline_ns,
        parents,
        terms,
        worker.name if is_running and worker is not None else "",
        row.alloc if is_running else (),
        max(0, now - row.started_ns) if is_running else 0,
        max(1, timer - now) if is_running and timer else 0,
        0 if extra is None else extra.charged,
        is_running and extra is not None and extra.yielded,
        inside,
        sleeps_ns,
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
            and (parent.state is _S.COMPLETED or is_allowed(parent))
        ):
            continue
        else:
            spec = parent.bucket.spec
            parents.append(OutsideParent(parent.id, parent.state, spec.allow_failure))
    return tuple(parents)


def is_allowed(parent: TaskRow) -> bool:
    """Return whether *parent* has failed, and its children go on all the same."""
    return parent.state is _S.FAILED and parent.bucket.spec.allow_failure


def known_lengths(work: OpenWork, first: int = 0) -> list[Sequence[int] | None]:
    """
    Return the known durations of each task's type in ns; None: nothing is known.

    Tasks before the place *first* are left out.

    Until one has ended, the duration that its user expects is taken.
    """
    lengths: list[Sequence[int] | None] = []
    for each in islice(work.tasks, first, None):
        measured: Sequence[int] | None = work.measured.get(each.spec.type)
        if measured is None and each.task.expected is not None:
            measured = (int(each.task.expected * NS),)
        if measured is None and takes_no_time(each.task):
            measured = ()
        # It waits for a person or an event, for as long as nobody knows.
        lengths.append(None if each.inside else measured)
    return lengths
