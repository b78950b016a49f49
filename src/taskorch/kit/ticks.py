"""
The document with the progress of a schedule's ticks.

It is separate from the document of the schedule itself, which may be long, since each
tick changes this one.

Decision: extensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import attrs

from taskorch.kit.limits import NS
from taskorch.kit.visible import show

#: The range of times, in s, that datetimes can represent in any zone.
FIRST: Final = -62_135_683_200
LAST: Final = 253_402_387_200
#: The range of ticks, in ns, that clocks of all zones can show.
FIRST_TICK: Final = (FIRST + 2 * 86_400) * NS
LAST_TICK: Final = (LAST - 2 * 86_400) * NS
#: The most ticks that one document can list.
_MOST: Final = 10_000_000

_FIELDS: Final = {"done", "waiting", "filled", "refused"}

_Series: TypeAlias = list[list[int]]


def ticks_of(schedule: str) -> str:
    """Return the key of the document of a schedule's ticks, beside its own."""
    return f"{schedule}/ticks"


@attrs.define
class TickProgress:
    """
    Progress of the ticks of a schedule.

    Attributes:
        done_ns: The time up to which each tick is made, skipped or waits.
        waiting: The ticks that have come and wait for the run before, in order.
        filled: The ticks after that time that a backfill has made.
        refused: The first tick after that time, and why it was refused; or None.
    """

    done_ns: int
    waiting: dict[int, None] = attrs.Factory(dict)
    filled: dict[int, None] = attrs.Factory(dict)
    refused: tuple[int, str] | None = None

    def copy(self) -> TickProgress:
        """Return a copy."""
        waiting, filled = {**self.waiting}, {**self.filled}
        return TickProgress(self.done_ns, waiting, filled, self.refused)

    def fired(self, slot_ns: int, by: str) -> None:
        """Note that a tick has its task, made at its time or by a backfill."""
        if slot_ns in self.waiting:
            # The tick was decided when it came, perhaps before the clock was set back.
            del self.waiting[slot_ns]
        elif by == "clock":
            self.decided(slot_ns)
        elif slot_ns > self.done_ns:
            self.filled[slot_ns] = None

    def queued(self, slot_ns: int) -> None:
        """Note that a tick has come and waits."""
        self.waiting[slot_ns] = None
        self.decided(slot_ns)

    def decided(self, slot_ns: int) -> None:
        """Note that each tick up to this one is made, skipped or waits."""
        self.done_ns = max(self.done_ns, slot_ns)
        if self.filled:
            done_ns = self.done_ns
            self.filled = {each: None for each in self.filled if each > done_ns}
        if self.refused and self.refused[0] <= self.done_ns:
            self.refused = None

    def text(self) -> str:
        """Return the progress as JSON."""
        document: dict[str, Any] = {"done": self.done_ns}
        if self.waiting:
            document["waiting"] = _packed(self.waiting)
        if self.filled:
            document["filled"] = _packed(sorted(self.filled))
        if self.refused:
            document["refused"] = self.refused
        return json.dumps(document, separators=(",", ":"))


def read_progress(text: str) -> TickProgress:
    """
    Read the progress of a schedule's ticks from `TickProgress.text`.

    Raises:
        ValueError: The text has another form.
    """
    document = json.loads(text)
    if type(document) is not dict or not document.keys() <= _FIELDS:
        msg = f"{show(document)} does not say how far a schedule came"
        raise ValueError(msg)
    waiting, filled = (
        dict.fromkeys(_unpacked(document.get(name, [])))
        for name in ("waiting", "filled")
    )
    match document.get("refused"):
        case None:
            refused = None
        case [tick, str(why)]:
            refused = moment(tick), why
        case other:
            msg = f"a refused tick has a time and a reason, and is not {show(other)}"
            raise ValueError(msg)
    return TickProgress(moment(document.get("done")), waiting, filled, refused)


def _packed(ticks: Iterable[int]) -> _Series:
    """
    Write ticks as series of equal distances: first tick, distance, number.

    So many waiting ticks of a regular schedule take little space.
    """
    series: _Series = []
    for tick in ticks:
        if series:
            first, distance, count = last = series[-1]
            if count == 1:
                last[1:] = tick - first, 2
                continue
            if tick == first + distance * count:
                last[2] = count + 1
                continue
        series.append([tick, 0, 1])
    return series


def _unpacked(series: object) -> Iterator[int]:
    """
    Read ticks as `_packed` writes them.

    Raises:
        ValueError: The series are invalid, or have too many ticks.
    """
    room = _MOST
    for each in series if type(series) is list else [None]:
        match each:
            case [int(first), int(distance), int(count)] if 0 < count <= room:
                room -= count
            case _:
                msg = f"ticks are lists of three numbers, and not {show(each)}"
                raise ValueError(msg)
        for place in {0, count - 1}:
            moment(first + distance * place)
        yield from (first + distance * place for place in range(count))


def moment(value: object) -> int:
    """
    Return *value* if it is a time in ns that a calendar has.

    Raises:
        ValueError: It is no such time.
    """
    if type(value) is not int or not FIRST_TICK <= value <= LAST_TICK:
        msg = f"a moment is a number of ns in the calendar, and not {show(value)}"
        raise ValueError(msg)
    return value
