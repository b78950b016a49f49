"""
Where the boxes of a graph stand, and how its lines go round them.

Boxes stand in columns, and lines go from the left to the right. One that passes a
column has a lane of its own there: what one box leads to shares its lanes. The order
in the columns is that of the neighbours' middles, a few times to and fro, so that few
lines cross; then all is moved next to its neighbours as far as there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

#: Times that the columns are gone through, to and fro.
_ROUNDS: Final = 4
#: Between the middles of two boxes, of two lanes, and of a box and a lane.
_BOXES: Final = 42.0
_LANES: Final = 9.0
_BOTH: Final = 25.0


class PictureLayout:
    """
    A layout of boxes, which are numbers from 0.

    Args:
        columns: The boxes of each column.
        arrows: From which box to which, the most important first; each leads to a
            later column.
        most: How many lines from column to column there may be; arrows that would
            need more are left out.
    """

    def __init__(
        self,
        columns: Sequence[Sequence[int]],
        arrows: Sequence[tuple[int, int]],
        most: int,
    ) -> None:
        #: Boxes, and lanes, which are numbers below 0.
        self.columns: list[list[int]] = [list(column) for column in columns]
        self.column_of: dict[int, int] = {
            item: place for place, column in enumerate(columns) for item in column
        }
        #: Of each box its lines: from what to what.
        self.lines: dict[int, list[tuple[int, int]]] = {}
        #: How many arrows were left out.
        self.left_out = 0
        self._lanes: dict[tuple[int, int], int] = {}
        self._left: dict[int, list[int]] = {}
        self._right: dict[int, list[int]] = {}
        for start, end in arrows:
            most -= self._connect(start, end, most)
        #: The height of the middle of each box and lane.
        self.middle: dict[int, float] = {}
        self._order()
        self._adjust()

    def _connect(self, start: int, end: int, most: int) -> int:
        """The lines from *start* to *end*: how many it takes."""
        passed = range(self.column_of[start] + 1, self.column_of[end])
        if len(passed) >= most:
            self.left_out += 1
            return 0
        lines = self.lines.setdefault(start, [])
        before, earlier = start, len(lines)
        for column in passed:
            lane = self._lanes.get((start, column))
            if lane is None:
                lane = self._lanes[start, column] = -1 - len(self._lanes)
                self.columns[column].append(lane)
                self.column_of[lane] = column
                self._join(lines, before, lane)
            before = lane
        self._join(lines, before, end)
        return len(lines) - earlier

    def _join(self, lines: list[tuple[int, int]], start: int, end: int) -> None:
        lines.append((start, end))
        self._right.setdefault(start, []).append(end)
        self._left.setdefault(end, []).append(start)

    def _order(self) -> None:
        for column in self.columns:
            self._rank(column)
        for _ in range(_ROUNDS):
            for column in self.columns:
                column.sort(key=lambda item: self._wish(item, self._left))
                self._rank(column)
            for column in reversed(self.columns):
                column.sort(key=lambda item: self._wish(item, self._right))
                self._rank(column)
        for column in self.columns:
            self._stack(column)

    def _rank(self, column: Sequence[int]) -> None:
        """Spread *column* from -1 to 1: a short one counts as much as a long one."""
        for place, item in enumerate(column):
            self.middle[item] = (2 * place + 1) / len(column) - 1

    def _adjust(self) -> None:
        for _ in range(_ROUNDS):
            for column in self.columns:
                self._move(column, self._left)
            for column in reversed(self.columns):
                self._move(column, self._right)

    def _wish(self, item: int, beside: Mapping[int, Sequence[int]]) -> float:
        """The mean place of the neighbours of *item*."""
        near = beside.get(item)
        if not near:
            return self.middle[item]
        return sum(map(self.middle.__getitem__, near)) / len(near)

    def _stack(self, column: Sequence[int]) -> None:
        """Put *column* as close together as can be, around 0."""
        offsets = _offsets(column)
        half = offsets[-1] / 2 if offsets else 0.0
        for item, offset in zip(column, offsets, strict=True):
            self.middle[item] = offset - half

    def _move(self, column: Sequence[int], beside: Mapping[int, Sequence[int]]) -> None:
        """Move *column* to its neighbours, in its order: as little as can be."""
        offsets = _offsets(column)
        blocks: list[tuple[float, int]] = []
        for item, offset in zip(column, offsets, strict=True):
            total, count = self._wish(item, beside) - offset, 1
            while blocks and blocks[-1][0] * count > total * blocks[-1][1]:
                # They would overlap, and so they move as one.
                more, many = blocks.pop()
                total, count = total + more, count + many
            blocks.append((total, count))
        places = [total / count for total, count in blocks for _ in range(count)]
        for item, place, offset in zip(column, places, offsets, strict=True):
            self.middle[item] = place + offset


def _offsets(column: Sequence[int]) -> list[float]:
    """How far each of *column* is from the first at least."""
    gaps = [0.0]
    for pair in pairwise(column):
        lanes = sum(item < 0 for item in pair)
        gaps.append((_BOXES, _BOTH, _LANES)[lanes])
    return list(accumulate(gaps))[: len(column)]
