"""
The chain of tasks that the end of a run came of, and what each of them accounts for.

From what ended last, it goes back to the task whose end each one waited for. In the
later run, the times of the chain (waiting for a worker, at work, between attempts) sum
up to the time of the run. In the earlier one the same tasks are taken, each from the
end of the one before: their times sum up to the end of the chain there. So the
differences sum up, too, and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from taskorch.comparing._facts import RunFacts, TaskFacts


class ChainPart(NamedTuple):
    """
    What a task on the chain accounts for, in seconds; less than 0: it was shorter.

    Attributes:
        name: The task.
        waited: Of waiting, from the end of the one before to its begin.
        worked: Of work.
        between: Of the time between its attempts.
    """

    name: str
    waited: float
    worked: float
    between: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.waited + self.worked + self.between


def shares(earlier: RunFacts, later: RunFacts) -> list[ChainPart]:
    """What each task of the chain of *later* accounts for, in its order."""
    parts: list[ChainPart] = []
    since, since_then = later.began or 0.0, earlier.began or 0.0
    for task in chain(later):
        was = earlier.tasks.get(task.name)
        times = _parts(task, since)
        since = task.ended or since
        had = (0.0, 0.0, 0.0)
        if was is not None and was.begun is not None and was.ended is not None:
            had = _parts(was, since_then)
            since_then = was.ended
        parts.append(
            ChainPart(
                task.name, *(now - old for now, old in zip(times, had, strict=True))
            )
        )
    return parts


def chain(run: RunFacts) -> list[TaskFacts]:
    """The tasks that the end of a run came of, the first one first."""
    last = max(
        (each for each in run.tasks.values() if each.ended is not None),
        key=lambda each: (each.ended, each.name),
        default=None,
    )
    backwards: list[TaskFacts] = []
    while last is not None:
        backwards.append(last)
        last = _awaited(last, run.tasks)
    return backwards[::-1]


def _awaited(task: TaskFacts, tasks: Mapping[str, TaskFacts]) -> TaskFacts | None:
    """The one whose end a task waited for: that which ended last of what it needs."""
    above: Iterator[TaskFacts] = (tasks[each] for each in task.needs if each in tasks)
    return max(
        # What was run again since ended later: nobody knows what it waited for then.
        (each for each in above if _is_before(each, task)),
        key=lambda each: (each.ended, each.name),
        default=None,
    )


def _is_before(above: TaskFacts, task: TaskFacts) -> bool:
    """Whether what stands *above* had ended when a task began."""
    if above.begun is None or above.ended is None or task.begun is None:
        return False
    return above.ended <= task.begun


def _parts(task: TaskFacts, before: float) -> tuple[float, float, float]:
    """How long it waited since *before*, worked, and lay between its attempts."""
    begun = before if task.begun is None else task.begun
    ended = begun if task.ended is None else task.ended
    return begun - before, task.work, ended - begun - task.work
