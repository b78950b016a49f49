"""
How many bytes finished tasks hold, about: what leaves memory with them.

Counted is what nobody else refers to: an array that many tasks are given is there once,
and stays when one of them goes. It is an estimate: of many alike, a few are looked at,
and what holds little is not counted at all.

Decision: 0066.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any, Final, Protocol

from taskorch.executors._ends import strip
from taskorch.kernel import Kernel, TaskRow
from taskorch.model import Call
from taskorch.runtime._work import Work

_MB: Final = 1 << 20
#: Types of which a value is small, and refers to nothing.
LIGHT: Final = frozenset({type(None), bool, int, float, complex})
#: What is the program's, and no task's.
_SHARED: Final = (type, ModuleType, FunctionType, FrameType)
#: Bytes from which a task is counted.
_LEAST: Final = 4_096
#: Things that are looked at in all, among the parts of one, and how deep.
_MOST: Final = 300
_SAMPLE: Final = 32
_DEPTH: Final = 8
#: Of metadata that are small: how many, and the characters of a text.
_FEW: Final = 8
_SHORT: Final = 100
#: Latest finished tasks that stay, however much they hold, to be asked for.
_LATEST: Final = 8


def _count_of_item(things: list[Any]) -> int:
    return sys.getrefcount(things[0])


def _alone() -> int:
    """How often something is referred to that is in a list and in one more place."""
    place = [object()]
    return _count_of_item([place[0]])


_OWN_REFERENCES: Final = _alone()
#: By how many more while its task ends: our frames, and the task as it was submitted.
_HANDS: Final = 4
#: And a local of a frame, which can be in a dict of them, too.
_LOCAL: Final = 2


class WeightsHost(Protocol):
    """What the weights ask of their runtime."""

    kernel: Kernel

    def drop(self) -> None:
        """Under the lock: let go what is kept of tasks that have left memory."""
        ...


class Weights:
    """The bytes that finished tasks hold, and how many they may."""

    __slots__ = ("_by_row", "_look_at", "_most", "_rt", "_total")

    def __init__(self, host: WeightsHost, most: float | None) -> None:
        self._rt = host
        self._most = None if most is None else int(most * _MB)
        self._by_row: dict[TaskRow, int] = {}
        self._total = 0
        self._look_at = self._most or 0

    def weigh(self, work: Work, value: Any, error: BaseException | None) -> int:
        """The bytes that *work* holds, which ends with *value* or *error*."""
        task, extra, args = work._task, work._extra, work._args
        is_bare = task is None and extra is None and error is None
        if self._most is None or (
            is_bare and type(value) in LIGHT and not (args or work._kwargs)
        ):
            return 0
        roots = [value, *args, *work._kwargs.values()]
        if task is not None:
            if type(task.payload) is not Call:
                roots.append(task.payload)
            if not _is_small(task.metadata):
                roots.append(task.metadata)
        if extra is not None:
            roots += (extra.checkpoint, extra.progress)
        if error is not None:
            strip(error)
            roots.append(error)
        if LIGHT.issuperset(map(type, roots)):
            # As of most tasks; they are many.
            return 0
        return _size(roots, _HANDS, set(), _DEPTH)

    def note(self, row: TaskRow, size: int) -> None:
        """Under the lock: *row* has ended, and holds *size* bytes."""
        if size >= _LEAST and row not in self._by_row:
            self._by_row[row] = size
            self._total += size

    def let_go(self, committed: float) -> bool:
        """
        Under the lock: let the oldest leave memory while all hold too much.

        Those stay whose end is a later fact than *committed*; the number is that of the
        kernel.

        Returns:
            Whether some have left.
        """
        if self._most is None or self._total <= self._look_at:
            return False
        kernel = self._rt.kernel
        tasks, finished = kernel.tasks, kernel.finished
        # Many have left by themselves.
        self._by_row = {
            row: size for row, size in self._by_row.items() if tasks.get(row.id) is row
        }
        self._total = sum(self._by_row.values())
        # A little further, so as not to look again at once.
        aim = self._most * 3 // 4 if self._total > self._most else self._most
        before = self._total
        while (
            self._total > aim
            and len(finished) > _LATEST
            and finished[0].cargo._visible_after <= committed
        ):
            self._total -= self._by_row.pop(finished[0], 0)
            kernel.evict()
        # Those of a run that goes on stay.
        self._look_at = max(self._most, self._total + self._most // 4)
        if kernel.dropped:
            self._rt.drop()
        return self._total < before


def _is_small(metadata: Mapping[str, Any] | None) -> bool:
    """Whether it is not worth while to look how large *metadata* are."""
    return metadata is None or (
        len(metadata) <= _FEW
        and all(
            type(value) in LIGHT or (type(value) is str and len(value) <= _SHORT)
            for value in metadata.values()
        )
    )


def size_of(result: Any) -> int:
    """The bytes of *result*, about, which a handle and some callers have, too."""
    return _size([result], 2 * _HANDS, set(), _DEPTH)


def _size(things: list[Any], hands: int, seen: set[int], depth: int) -> int:
    """
    The bytes of *things*, and of what only they refer to.

    Args:
        things: A list of the caller's own.
        hands: References that some of them have besides: of frames of ours.
        seen: What has been looked at, by its `id()`.
        depth: How deep it goes.
    """
    count = len(things)
    places = range(0, count, 1 if count <= _SAMPLE else count // _SAMPLE)
    total = 0
    for place in places:
        if len(seen) >= _MOST:
            break
        if sys.getrefcount(things[place]) > _OWN_REFERENCES + hands:
            continue
        thing = things[place]
        if type(thing) in LIGHT or isinstance(thing, _SHARED) or id(thing) in seen:
            continue
        seen.add(id(thing))
        try:
            total += sys.getsizeof(thing)
        except Exception:  # noqa: BLE001, S112 - its __sizeof__ is the user's
            continue
        if depth:
            more = _LOCAL if type(thing) is TracebackType else 0
            total += _size(_parts(thing), more, seen, depth - 1)
    return total * count // max(1, len(places))


def _parts(thing: Any) -> list[Any]:
    """What *thing* refers to; of a traceback, what the locals of its frames do."""
    if type(thing) is not TracebackType:
        return gc.get_referents(thing)
    found: list[Any] = []
    trace: TracebackType | None = thing
    while trace is not None:
        found += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    return found
