"""
The chain of tasks that the end of a run came of, and what each of them accounts for.

From what ended last, it goes back to the task whose end each one waited for: one that
it needs, or one whose worker or resources it took over. In the later run, the times of
the chain (waiting for a worker, at work, between attempts) sum up to the time of the
run. In the earlier one the same tasks are taken, each from the end of the one before:
their times sum up to the end of the chain there. So the differences sum up, too, and
nothing is counted twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from taskorch.ext.comparing._facts import RunFacts, TaskFacts

#: Who begins so many seconds after another has ended, at most, took over its place; for
#: one that waited long, a part of that.
_AT_ONCE: Final = 0.02
_OF_WAIT: Final = 0.05
#: At most so many tasks are looked at that ended just before.
_LOOKED_AT: Final = 100


class ChainPart(NamedTuple):
    """
    The difference that a task on the chain makes, in seconds; below 0: it was shorter.

    Attributes:
        name: The task.
        waited: The difference in waiting, once it was ready, for what was not there.
        worked: The difference in work.
        between: The difference in the time between its attempts.
    """

    name: str
    waited: float
    worked: float
    between: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.waited + self.worked + self.between


class EndParts(NamedTuple):
    """
    The difference of the end, in seconds, in its parts.

    Attributes:
        parts: The part of each task of the chain.
        turns: The rest: the tasks of the chain waited longer, or less long, for their
            turn behind others, or others than before were waited for.
    """

    parts: list[ChainPart]
    turns: float


def shares(earlier: RunFacts, later: RunFacts) -> EndParts:
    """Return the difference that each task of the chain of *later* makes."""
    parts: dict[str, ChainPart] = {}
    turns = 0.0
    since, since_then = later.began or 0.0, earlier.began or 0.0
    above = ""
    for task in chain(later):
        was = earlier.tasks.get(task.name)
        times = _parts(task, since)
        since = task.ended or since
        had = (0.0, 0.0, 0.0)
        if was is not None and was.begun is not None and was.ended is not None:
            had = _parts(was, since_then)
            since_then = was.ended
        waited, worked, between = (
            now - old for now, old in zip(times, had, strict=True)
        )
        own = _queued(was, task, waited, is_next=not above or above in task.needs)
        parts[task.name] = ChainPart(task.name, own, worked, between)
        if wait := _wait_before(earlier, later, task.name, above):
            # An event that came sooner may have come while other tasks ran.
            part = parts.get(wait, ChainPart(wait, 0.0, 0.0, 0.0))
            parts[wait] = part._replace(waited=part.waited + waited - own)
        else:
            turns += waited - own
        above = task.name
    return EndParts([*parts.values()], turns)


def _wait_before(earlier: RunFacts, later: RunFacts, name: str, above: str) -> str:
    """Return the wait, in both runs, that a task came after in one of them; or ""."""
    was = earlier.tasks.get(name)
    last = None if was is None else _awaited(was, earlier.tasks)
    for each in (above, "" if last is None else last.name):
        if each in earlier.tasks and each in later.tasks and later.tasks[each].awaits:
            return each
    return ""


def _queued(
    was: TaskFacts | None, now: TaskFacts, waited: float, *, is_next: bool
) -> float:
    """
    Return the part of the difference *waited* for which a task waited by itself.

    Whoever took over a place, or was ready at another time than the task before ended,
    waited for the turns of others. *is_next* says that it needs the task before.
    """
    # One that was run again waited for somebody to do so.
    if now.queued is None or now.is_rerun or (was is not None and was.is_rerun):
        return waited
    if not is_next:
        return 0.0
    return now.queued - ((None if was is None else was.queued) or 0.0)


def chain(run: RunFacts) -> list[TaskFacts]:
    """The tasks that the end of a run came of, the first one first."""
    last = max(
        (each for each in run.tasks.values() if each.ended is not None),
        key=lambda each: (each.ended, each.name),
        default=None,
    )
    in_order = sorted(
        (each for each in run.tasks.values() if each.ended is not None), key=_ended
    )
    backwards: dict[str, TaskFacts] = {}
    # Tasks that took no time at all may have waited for each other.
    while last is not None and last.name not in backwards:
        backwards[last.name] = last
        last = _made_room(last, in_order) or _awaited(last, run.tasks)
    return [*backwards.values()][::-1]


def _ended(task: TaskFacts) -> float:
    return task.ended or 0.0


def _made_room(task: TaskFacts, in_order: Sequence[TaskFacts]) -> TaskFacts | None:
    """
    Return the task whose worker or resources a ready task took over; None: it did not.

    *in_order* are all tasks, by their ends.
    """
    if task.begun is None or task.ready is None or (task.queued or 0.0) < _AT_ONCE:
        return None
    gap = max(_AT_ONCE, _OF_WAIT * (task.begun - task.ready))
    place = bisect_right(in_order, task.begun, key=_ended)
    for each in reversed(in_order[max(0, place - _LOOKED_AT) : place]):
        if _ended(each) < max(task.begun - gap, task.ready):
            return None
        if _shares_room(each, task) and _is_before(each, task) and each is not task:
            return each
    return None


def _shares_room(one: TaskFacts, other: TaskFacts) -> bool:
    """Return whether two tasks ran on one worker, or ask for one resource."""
    if one.status.agent_id == other.status.agent_id:
        return True
    if one.task is None or other.task is None:
        return False
    asked = (set(each.task.resources) for each in (one, other) if each.task is not None)
    return bool(set.intersection(*asked))


def _awaited(task: TaskFacts, tasks: Mapping[str, TaskFacts]) -> TaskFacts | None:
    """Return the parent that ended last, for which a task waited."""
    above: Iterator[TaskFacts] = (tasks[each] for each in task.needs if each in tasks)
    return max(
        # A parent that was run again has a later end, and nobody knows its earlier one.
        (each for each in above if _is_before(each, task)),
        key=lambda each: (each.ended, each.name),
        default=None,
    )


def _is_before(above: TaskFacts, task: TaskFacts) -> bool:
    """Return whether the parent *above* had ended when a task began."""
    if above.begun is None or above.ended is None or task.begun is None:
        return False
    return above.ended <= task.begun


def _parts(task: TaskFacts, before: float) -> tuple[float, float, float]:
    """Return the seconds since *before* of waiting, work, and retry delays."""
    begun = before if task.begun is None else task.begun
    ended = begun if task.ended is None else task.ended
    return begun - before, task.work, ended - begun - task.work
