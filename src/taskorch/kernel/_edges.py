"""Edges that come later: a task is to wait for more than it was submitted with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from typing import Final, NoReturn

from taskorch.errors import CycleError, InvalidTransitionError
from taskorch.events import TaskParentsAdded, TaskRepointed
from taskorch.kernel import _dependencies, _joins
from taskorch.kernel._rows import TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState

_PENDING: Final = TaskState.PENDING
_BLOCKED: Final = TaskState.BLOCKED


def add_parents(
    kernel: KernelState, row: TaskRow, parents: Sequence[TaskRow], now: int
) -> tuple[TaskRow, ...]:
    """
    Make *row* wait for *parents* too; return those that are new to the task.

    If it was cancelled while it waited, that is for its next run.

    Raises:
        InvalidTransitionError: It does not wait for other tasks any more.
        CycleError: They wait for it, however indirectly.
    """
    _refuse_late(row)
    links = row.links
    # Compared by their ids: each time that a parent which has left memory is named, it
    # has another row.
    known = {} if links is None else {parent.id: None for parent in links.parents}
    found = {parent.id: parent for parent in parents if parent.id not in known}
    fresh = tuple(found.values())
    way = _way(fresh, (row,))
    if way:
        _refuse((row.id, *[member.id for member in way[:-1]]))
    if not fresh:
        return ()
    ids = tuple(parent.id for parent in fresh)
    kernel.note(TaskParentsAdded, now, row.id, ids, cargo=row.cargo)
    extend(kernel, row, fresh)
    kernel.undecided.append((row, "it waits for more tasks now"))
    _joins.decide(kernel, now)
    return fresh


def extend(kernel: KernelState, row: TaskRow, parents: Sequence[TaskRow]) -> None:
    """Make *row* wait for *parents* too, and leave what follows to a later decision."""
    was_delayed = row.state is _PENDING and not _dependencies.is_waiting(row)
    links = _dependencies.links_of(row)
    if links.terms is not None:
        links.terms.joined = False
    _dependencies.attach(row, parents)
    if was_delayed and _dependencies.is_waiting(row):
        kernel.delayed -= 1


def can_wait(row: TaskRow) -> bool:
    """Whether *row* waits for other tasks, or was cancelled while it did."""
    over = row.state in TERMINAL and row.state is not TaskState.CANCELLED
    return _dependencies.is_waiting(row) and not over


def _refuse_late(row: TaskRow) -> None:
    """
    Refuse a task that does not wait for others any more.

    Raises:
        InvalidTransitionError: It does not.
    """
    if can_wait(row):
        return
    links = row.links
    was_let_go = links is not None and links.terms is not None and links.parents
    if row.state is _PENDING and not was_let_go:
        return
    msg = f"task {row.id} is {row.state}, and does not wait for other tasks any more"
    hint = "dependencies can be added while a task is pending"
    raise InvalidTransitionError(msg, hint=hint, task_id=row.id)


def refuse_rerun(
    rows: Iterable[TaskRow], rerun_id: str, parents: Sequence[TaskRow]
) -> None:
    """
    Refuse a re-run that would wait for a task that is to wait for it.

    A clean-up, say, may have run although a task above it was blocked. When that task
    is not blocked any more, it may be let wait for the clean-up.

    Args:
        rows: The run before, as it stands among the parents of those that wait for it.
        rerun_id: The id of the re-run.
        parents: What it would wait for.

    Raises:
        CycleError: One of these waits for what is run again, however indirectly.
    """
    children = [child for row in rows for child in _hanging_on(row)]
    way = _way(parents, children)
    if way:
        hint = f"orch.cancel_task({way[-1].id!r}) first: it waits for what is run again"
        _refuse((rerun_id, *[member.id for member in way]), hint)


def _hanging_on(row: TaskRow) -> list[TaskRow]:
    """The dependents of *row* that will wait for its next run instead."""
    dependents = () if row.links is None else row.links.dependents
    return [child for child in dependents if _dependencies.hangs_on(child)]


def _refuse(ring: tuple[str, ...], hint: str | None = None) -> NoReturn:
    msg = f"tasks would wait for each other: {' → '.join((*ring, ring[0]))}"
    raise CycleError(msg, cycle=ring, hint=hint, task_id=ring[0])


def _way(starts: Sequence[TaskRow], goals: Sequence[TaskRow]) -> tuple[TaskRow, ...]:
    """
    A chain of tasks from one of *starts* to one of *goals*; empty if there is none.

    Each waits for the next, or may do so again. One search goes up from *starts*,
    another down from *goals*, by turns: whichever has seen all decides, so that the
    smaller side is what it costs.
    """
    ends = set(goals)
    for row in starts:
        if row in ends:
            return (row,)
    up = _search(starts, goals, _dependencies.may_wait_for)
    down = _search(goals, starts, _below)
    for search in cycle((up, down)):
        found = next(search)
        if found is not None:
            return found if search is up else found[::-1]
    raise AssertionError  # pragma: no cover - a search ends


def _below(row: TaskRow) -> Iterable[TaskRow]:
    """What waits for *row*; what failed may run again, and then it does."""
    if row.links is None:
        return ()
    return filter(_dependencies.may_wait, row.links.dependents)


def _search(
    starts: Sequence[TaskRow],
    goals: Sequence[TaskRow],
    step: Callable[[TaskRow], Iterable[TaskRow]],
) -> Iterator[tuple[TaskRow, ...] | None]:
    """
    Look for a way from one of *starts* to one of *goals*.

    Yields:
        None for each task that was looked at, and at last the way, or nothing.
    """
    came: dict[TaskRow, TaskRow | None] = dict.fromkeys(starts)
    sought = dict.fromkeys(goals)
    todo = list(starts)
    while todo:
        row = todo.pop()
        for following in step(row):
            if following in came:
                continue
            came[following] = row
            if following in sought:
                way: list[TaskRow] = []
                last: TaskRow | None = following
                while last is not None:
                    way.append(last)
                    last = came[last]
                yield tuple(way[::-1])
            todo.append(following)
        yield None
    yield ()


def repoint(kernel: KernelState, row: TaskRow, rerun: TaskRow, now: int) -> None:
    """Make the dependents of *row*, which has ended, depend on *rerun* instead."""
    if row.links is None or not row.links.dependents:
        return
    live = _hanging_on(row)
    names = tuple(child.id for child in live)
    kernel.note(TaskRepointed, now, row.id, rerun.id, names, cargo=row.cargo)
    turn(kernel, row, rerun, live, now)
    _joins.decide(kernel, now)


def turn(
    kernel: KernelState,
    row: TaskRow,
    rerun: TaskRow,
    dependents: Iterable[TaskRow],
    now: int,
) -> None:
    """*dependents* of *row*, which has ended, depend on *rerun* now."""
    _dependencies.links_of(row).dependents = ()
    for child in dependents:
        below = _dependencies.links_of(child)
        below.parents = tuple([rerun if p is row else p for p in below.parents])
        _dependencies.links_of(rerun).add_dependent(child)
        if _dependencies.has_only_ended_parents(child):
            kernel.undecided.append((child, f"{row.id} runs again"))
            continue
        if _dependencies.is_broken(rerun):
            _dependencies.blame(child, rerun)
        _dependencies.absolve(kernel, child, row.id, f"{row.id} runs again")
        if child.state is TaskState.PENDING:
            kernel.undecided.append((child, ""))
    if rerun.state is TaskState.COMPLETED:
        # The re-run is a wait, and its event had come already.
        _dependencies.release(kernel, rerun, now)
