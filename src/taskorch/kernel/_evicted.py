"""Finished tasks that have left memory: how each of them ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, cast

from taskorch.model import TaskState

#: By the number that stands for one; 0 stands for none.
_STATES: Final[tuple[TaskState | None, ...]] = (None, *TaskState)
#: The bits of such a number.
_BITS: Final = 4
_MASK: Final = (1 << _BITS) - 1
#: The bits of a digest: with those of the state it is an integer of 32 bytes.
DIGEST_BITS: Final = 60 - _BITS
_BYTES: Final = {state: _STATES.index(state) for state in TaskState}
_COMPLETED: Final = TaskState.COMPLETED
_BYTE_OF_COMPLETED: Final = _BYTES[_COMPLETED]
#: By how much a number may be beyond the end of its series, and how much longer that
#: becomes: a byte is spent on each number, whether it comes or not.
_GAP: Final = 1_000_000
_MORE: Final = 1_000
#: Begins no id.
_NO_STEM: Final = "\n"


class Evicted:
    """
    The states of tasks by id, in little memory, since they stay while the kernel does.

    Ids of the driver's own making are a stem, `3f0c52a1b7-`, and a number: such a task
    takes a byte. Any other takes an entry of a dict, which is a hundred. What one was,
    whose name is of the user's choice, the driver may note there.
    """

    __slots__ = ("_latest", "_series", "_stem", "by_id")

    def __init__(self) -> None:
        #: Those in no series, as names of the user's choice, and so all tasks of runs:
        #: the number of the state, and above its bits the digest that was noted.
        self.by_id: dict[str, int] = {}
        #: By stem; in each, a byte for every number.
        self._series: dict[str, bytearray] = {}
        #: The stem and the series of the latest: the next is mostly in the same.
        self._stem: str = _NO_STEM
        self._latest: bytearray = bytearray()

    def add(self, task_id: str, state: TaskState, *, named: bool) -> None:
        """
        A task leaves memory; *named* says that its name is of the user's choice.

        Another that ends in a dash and a number has that as `str` writes it.
        """
        if not named and (task_id.startswith(self._stem) or self._turn_to(task_id)):
            try:
                number = int(task_id[len(self._stem) :])
            except ValueError:
                number = -1
            if 0 <= number < len(self._latest) or self._reaches(number):
                self._latest[number] = (
                    _BYTE_OF_COMPLETED if state is _COMPLETED else _BYTES[state]
                )
                return
        self.by_id[task_id] = _BYTES[state]

    def note_digest(self, task_id: str, digest: int) -> None:
        """
        What a task with a name of the user's choice was, which has left memory.

        Args:
            task_id: Its id.
            digest: The driver's own: an odd number of at most `DIGEST_BITS`.
        """
        self.by_id[task_id] |= digest << _BITS

    def digest(self, task_id: str) -> int | None:
        """What was noted of a task; None if that is nothing."""
        return self.by_id.get(task_id, 0) >> _BITS or None

    def _turn_to(self, task_id: str) -> bool:
        """Go on with the series of *task_id*; False if it is of none."""
        stem = _stem_of(task_id)
        if stem:
            self._stem = stem
            self._latest = self._series.setdefault(stem, bytearray())
        return stem != ""

    def _reaches(self, number: int) -> bool:
        """Lengthen the series, so that it has *number*; False if that is no place."""
        missing = number - len(self._latest)
        if not 0 <= missing <= _GAP:
            return False
        self._latest.extend(bytes(missing + _MORE))
        return True

    def update(self, ended: Iterable[tuple[str, TaskState]]) -> None:
        """Tasks have left memory, in this life or an earlier one."""
        for task_id, state in ended:
            if task_id not in self:
                self.by_id[task_id] = _BYTES[state]

    def clear(self) -> None:
        """Forget them all."""
        self.by_id.clear()
        self._series.clear()
        self._stem = _NO_STEM

    def get(self, task_id: object) -> TaskState | None:
        """How a task ended; None if none with this id has left memory."""
        if not isinstance(task_id, str):
            return None
        known = self.by_id.get(task_id)
        if known is not None:
            return _STATES[known & _MASK]
        stem = _stem_of(task_id)
        series = self._series.get(stem)
        if series is not None:
            number = _number(task_id[len(stem) :])
            if 0 <= number < len(series):
                return _STATES[series[number]]
        return None

    def isdisjoint(self, ids: Collection[Any]) -> bool:
        """Whether none of them has one of these *ids*, of which some may be None."""
        if not self.by_id.keys().isdisjoint(ids):
            return False
        stems = tuple(self._series)
        for task_id in ids:
            if task_id is None or not task_id.startswith(stems):
                continue
            if self.get(task_id) is not None:
                return False
        return True

    def items(self) -> Iterator[tuple[str, TaskState]]:
        """The ids and the states."""
        for task_id, known in self.by_id.items():
            yield task_id, cast("TaskState", _STATES[known & _MASK])
        for stem, series in self._series.items():
            for number in range(len(series)):
                state = _STATES[series[number]]
                if state is not None:
                    yield f"{stem}{number}", state

    def __contains__(self, task_id: object) -> bool:
        return self.get(task_id) is not None

    def __len__(self) -> int:
        taken = [len(series) - series.count(0) for series in self._series.values()]
        return len(self.by_id) + sum(taken)


def _stem_of(task_id: str) -> str:
    """What stands before a number at the end; "" if there is no dash."""
    return task_id[: task_id.rfind("-") + 1]


def _number(digits: str) -> int:
    """The number that is written so, and not otherwise; -1 if there is none."""
    try:
        number = int(digits)
    except ValueError:
        return -1
    return number if str(number) == digits else -1
