"""
Pictures of workflows: text for Mermaid, and an SVG for notebooks.

Text from outside is escaped. Boxes stand in columns, and lines go from the left to the
right. A line that passes a column has a lane of its own there; lines from one box share
its lanes. The boxes of a column are put in the order of their neighbours' middles, a
few times to and fro, so that few lines cross; then all are moved next to their
neighbours as far as there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

import attrs

from taskorch.core.workflows._graph import Parents, layers
from taskorch.kit.drawing import fitted, frame, legend, note, said, svg, width_of
from taskorch.kit.visible import visible

#: Passes over the columns, to and fro.
_ROUNDS: Final = 4
#: Distances between the middles of two boxes, of two lanes, and of a box and a lane.
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
        #: The lines of each box: their starts and ends.
        self.lines: dict[int, list[tuple[int, int]]] = {}
        #: The number of arrows that were left out.
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
        """Add lines from *start* to *end*; return how many these are."""
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
        """Return the mean place of the neighbours of *item*."""
        near = beside.get(item)
        if not near:
            return self.middle[item]
        return sum(map(self.middle.__getitem__, near)) / len(near)

    def _stack(self, column: Sequence[int]) -> None:
        """Put *column* as close together as possible, around 0."""
        offsets = _offsets(column)
        half = offsets[-1] / 2 if offsets else 0.0
        for item, offset in zip(column, offsets, strict=True):
            self.middle[item] = offset - half

    def _move(self, column: Sequence[int], beside: Mapping[int, Sequence[int]]) -> None:
        """Move *column* to its neighbours, in its order: as little as possible."""
        offsets = _offsets(column)
        blocks: list[tuple[float, int]] = []
        for item, offset in zip(column, offsets, strict=True):
            total, count = self._wish(item, beside) - offset, 1
            while blocks and blocks[-1][0] * count > total * blocks[-1][1]:
                # These boxes would overlap, and so they move as one.
                more, many = blocks.pop()
                total, count = total + more, count + many
            blocks.append((total, count))
        places = [total / count for total, count in blocks for _ in range(count)]
        for item, place, offset in zip(column, places, offsets, strict=True):
            self.middle[item] = place + offset


def _offsets(column: Sequence[int]) -> list[float]:
    """Return the least distance of each of *column* from the first."""
    gaps = [0.0]
    for pair in pairwise(column):
        lanes = sum(item < 0 for item in pair)
        gaps.append((_BOXES, _BOTH, _LANES)[lanes])
    return list(accumulate(gaps))[: len(column)]


#: The most boxes that a picture shows, and those in one column.
_MOST: Final = 200
_ROWS: Final = 30
#: The most lines from column to column that a picture draws.
_LINES: Final = 3_000
_FONT: Final = 12
_HEIGHT: Final = 30
#: Widths of boxes, and the margin beside their text.
_SLIM: Final = 60
_WIDE: Final = 200
_ROOM: Final = 20
#: The width between columns, and its growth for more lines, up to a limit.
_GAP: Final = 40
_GAP_LINE: Final = 3
_GAP_MOST: Final = 110
_PAD: Final = 10
#: The least number of lines that a common point must save.
_FEW_LINES: Final = 2
_ARROW: Final = "#8a94a3"

#: The fill and the border of boxes by state; a task of a plain workflow has none.
_PLAIN: Final = ("#eef2f7", "#8a94a3")
_COLOURS: Final = {
    "completed": ("#c3e8c5", "#3d8b45"),
    "failed": ("#f6bdb8", "#b3261e"),
    "cancelled": ("#d0d0d0", "#6b6b6b"),
    "blocked": ("#e9d3f5", "#8446a8"),
    "suspended": ("#ececec", "#6b6b6b"),
    "retrying": ("#fbe3a6", "#b07d00"),
    "running": ("#9cc3f7", "#1f5fbf"),
    "queued": ("#dbe7fb", "#5b7db1"),
    "pending": _PLAIN,
}
#: States that are marked by more than their colour.
_THICK: Final = ("failed", "running")
_DASHED: Final = ("suspended", "blocked")
#: Tasks in these states are shown first, where there are too many.
_FIRST: Final = {
    state: place
    for place, state in enumerate(
        ("failed", "blocked", "running", "retrying", "suspended", "queued")
    )
}
#: Types of tasks that are gates between phases.
_GATES: Final = ("gate", "approval")

#: Text that Mermaid would interpret: an entity, a tag, Markdown, a formula.
_SPECIAL: Final = str.maketrans({sign: f"#{ord(sign)};" for sign in '#"<>&`$:\\\r\n'})
#: Mermaid's limits on edges and characters, unless it is configured otherwise.
_MERMAID_LINES: Final = 499
_MERMAID_TEXT: Final = 50_000


@attrs.frozen
class _Box:
    """A task, or all hidden tasks of a layer; or a point."""

    told: str
    label: str
    #: The column, with gaps.
    place: int
    state: str = ""
    gate: bool = False
    others: bool = False
    #: A point where lines meet, and no box.
    meeting: bool = False


def mermaid(parents: Parents) -> str:
    """Return the graph as a flowchart, from top to bottom."""
    number = {name: f"n{i}" for i, name in enumerate(parents)}
    lines = [
        f'    {short}["{visible(name).translate(_SPECIAL)}"]'
        for name, short in number.items()
    ]
    arrows = [
        f"    {number[parent]} --> {number[name]}"
        for name, above in parents.items()
        for parent in above
    ]
    text = "\n".join(["flowchart TD", *lines, *arrows]) + "\n"
    if len(arrows) <= _MERMAID_LINES and len(text) <= _MERMAID_TEXT:
        return text
    edges, size = max(len(arrows) + 1, 500), max(2 * len(text), _MERMAID_TEXT)
    return (
        "%% Mermaid draws this if it was set up with "
        f"mermaid.initialize({{maxEdges: {edges}, maxTextSize: {size}}}).\n{text}"
    )


def page(
    title: str,
    parents: Parents,
    types: Mapping[str, str],
    states: Mapping[str, str],
) -> str:
    """Return the graph as HTML: a line of text, and an SVG from left to right."""
    drawn = drawing(parents, types, states)
    picture = frame(*drawn.picture, _FONT) if drawn.picture else ""
    notes = "".join(map(note, drawn.notes))
    return f"<div><div>{said(title)}</div>{_legend(states)}{picture}{notes}</div>"


@attrs.frozen
class Drawing:
    """
    A graph as a picture.

    Attributes:
        picture: Its shapes, from left to right, its width and height; None: no graph.
        notes: Sentences about the parts that are left out.
    """

    picture: tuple[list[str], int, int] | None
    notes: list[str]

    @property
    def svg(self) -> str:
        """The picture as SVG; "" if there is none."""
        return svg(*self.picture, _FONT) if self.picture else ""


def drawing(
    parents: Parents, types: Mapping[str, str], states: Mapping[str, str]
) -> Drawing:
    """Return the graph as an SVG, and notes on the parts that are left out."""
    boxes, box_of = _boxes(parents, types, states)
    arrows, implied = _arrows(parents, boxes, box_of)
    hidden = len(parents) - sum(not box.others for box in boxes)
    arrows = _gathered(arrows, boxes)
    layout = PictureLayout(_columns(boxes), arrows, _LINES)
    notes: list[str] = []
    if hidden:
        many = "tasks, which are" if hidden > 1 else "task, which is"
        notes.append(f"… and {hidden:,} more {many} not shown")
    if implied:
        many = "dependencies are" if implied > 1 else "dependency is"
        notes.append(f"{implied:,} {many} left out: the others imply as much")
    if layout.left_out:
        many = "dependencies are" if layout.left_out > 1 else "dependency is"
        notes.append(f"{layout.left_out:,} {many} left out: there are too many")
    return Drawing(_picture(boxes, layout) if boxes else None, notes)


def _legend(states: Mapping[str, str]) -> str:
    """Return the meaning of the colours, and how many tasks have each."""
    counts = Counter(states.values())
    return legend(
        (fill, stroke, f"{counts[state]:,} {state}")
        for state, (fill, stroke) in _COLOURS.items()
        if counts[state]
    )


# -- what is drawn -----------------------------------------------------------------


def _boxes(
    parents: Parents, types: Mapping[str, str], states: Mapping[str, str]
) -> tuple[list[_Box], dict[str, int]]:
    """Return the boxes column by column, and the place of each task in them."""
    boxes: list[_Box] = []
    box_of: dict[str, int] = {}
    for depth, layer in enumerate(layers(parents)):
        # Two layers have room between them for points where lines meet.
        place = 2 * depth
        room = min(_ROWS, _MOST - len(boxes))
        if room <= 0:
            break
        shown, others = _chosen(layer, room, states)
        for name in shown:
            box_of[name] = len(boxes)
            kind, state = types.get(name, ""), states.get(name, "")
            title = "\n".join(line for line in (name, kind, state) if line)
            label = fitted(name, _WIDE - _ROOM, _FONT)
            boxes.append(_Box(title, label, place, state, gate=kind in _GATES))
        if others:
            box_of.update(dict.fromkeys(others, len(boxes)))
            label = f"… {len(others):,} more"
            boxes.append(_Box(label, label, place, others=True))
    return boxes, box_of


def _chosen(
    layer: list[str], room: int, states: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the tasks of *layer* to show, urgent ones first, and the others."""
    if len(layer) <= room:
        return layer, []
    most = len(_FIRST)
    urgent = sorted(layer, key=lambda name: _FIRST.get(states.get(name, ""), most))
    kept = set(urgent[: room - 1])
    others = [name for name in layer if name not in kept]
    return [name for name in layer if name in kept], others


def _arrows(
    parents: Parents, boxes: list[_Box], box_of: Mapping[str, int]
) -> tuple[list[tuple[int, int]], int]:
    """
    Return the arrows between boxes, and how many are left out as redundant.

    An arrow is redundant if others lead the same way by tasks that are shown.
    """
    arrows: dict[tuple[int, int], None] = {}
    implied = 0
    #: The ancestors of each box, as bits.
    before = [0] * len(boxes)
    for name, box in box_of.items():
        above = sorted({box_of[parent] for parent in parents[name]})
        further = 0
        if not boxes[box].others:
            for parent in above:
                further |= before[parent]
                before[box] |= before[parent]
                if not boxes[parent].others:
                    before[box] |= 1 << parent
        for parent in above:
            if further >> parent & 1:
                implied += 1
            else:
                arrows[parent, box] = None
    return list(arrows), implied


def _gathered(
    arrows: list[tuple[int, int]], boxes: list[_Box]
) -> list[tuple[int, int]]:
    """
    Return the arrows, short ones first, with those from many to many through one point.

    These are arrows to boxes with the same parents: each would cross the others. The
    points are added to *boxes*.
    """
    above: dict[int, list[int]] = {}
    for start, end in arrows:
        above.setdefault(end, []).append(start)
    alike: dict[tuple[int, ...], list[int]] = {}
    for end, starts in above.items():
        alike.setdefault(tuple(sorted(starts)), []).append(end)
    gathered: list[tuple[int, int]] = []
    for before, after in alike.items():
        if len(before) * len(after) <= len(before) + len(after) + _FEW_LINES:
            gathered += [(start, end) for end in after for start in before]
            continue
        point = len(boxes)
        boxes.append(_Box("", "", boxes[after[0]].place - 1, meeting=True))
        gathered += [(start, point) for start in before]
        gathered += [(point, end) for end in after]
    return sorted(gathered, key=lambda a: boxes[a[1]].place - boxes[a[0]].place)


def _columns(boxes: list[_Box]) -> list[list[int]]:
    """Return the boxes by their places."""
    by_place: dict[int, list[int]] = {}
    for number, box in enumerate(boxes):
        by_place.setdefault(box.place, []).append(number)
    return [by_place[place] for place in sorted(by_place)]


# -- the SVG -----------------------------------------------------------------------


def _picture(boxes: list[_Box], layout: PictureLayout) -> tuple[list[str], int, int]:
    widths = [
        max(_width(boxes[item]) for item in column if item >= 0)
        for column in layout.columns
    ]
    #: Lines that arrive at each column.
    arriving = [0] * len(widths)
    for lines in layout.lines.values():
        for _, end in lines:
            arriving[layout.column_of[end]] += 1
    lefts: list[int] = []
    right = _PAD
    for column, width in enumerate(widths):
        gap = min(_GAP + _GAP_LINE * arriving[column], _GAP_MOST)
        lefts.append(right + gap if column else right)
        right = lefts[-1] + width
    top = min(layout.middle.values()) - _HEIGHT / 2 - _PAD
    middle = {item: round(place - top) for item, place in layout.middle.items()}
    shapes = _lines(boxes, layout, lefts, widths, middle)
    for item, box in enumerate(boxes):
        column = layout.column_of[item]
        if box.meeting:
            point = f'cx="{lefts[column]}" cy="{middle[item]}"'
            shapes.append(f'<circle {point} r="3" fill="{_ARROW}"/>')
        else:
            shapes.append(_rectangle(box, lefts[column], middle[item], widths[column]))
    height = max(middle.values()) + _HEIGHT // 2 + _PAD
    return shapes, right + _PAD, height


def _width(box: _Box) -> int:
    if box.meeting:
        return 0
    wide = round(width_of(box.label, _FONT)) + _ROOM
    return min(max(wide, _SLIM), _WIDE)


def _lines(
    boxes: list[_Box],
    layout: PictureLayout,
    lefts: list[int],
    widths: list[int],
    middle: Mapping[int, int],
) -> list[str]:
    """Return one path for all lines from a box, and one for all heads of arrows."""
    shapes: list[str] = []
    heads: dict[int, None] = {}
    for lines in layout.lines.values():
        path = ""
        for start, end in lines:
            x1 = lefts[layout.column_of[start]] + widths[layout.column_of[start]]
            x2, y1, y2 = lefts[layout.column_of[end]], middle[start], middle[end]
            bend = (x2 - x1) // 2
            path += f"M{x1} {y1}"
            path += f"C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
            if end < 0:
                path += f"H{x2 + widths[layout.column_of[end]]}"
            elif not boxes[end].meeting:
                heads[end] = None
        shapes.append(f'<path d="{path}" fill="none" stroke="{_ARROW}"/>')
    if heads:
        ends = [(lefts[layout.column_of[end]], middle[end]) for end in heads]
        path = "".join(f"M{x - 7} {y - 4}L{x} {y}L{x - 7} {y + 4}z" for x, y in ends)
        shapes.append(f'<path d="{path}" fill="{_ARROW}"/>')
    return shapes


def _rectangle(box: _Box, x: int, middle: int, width: int) -> str:
    fill, stroke = _COLOURS.get(box.state, _PLAIN)
    more = ' stroke-width="2"' if box.state in _THICK else ""
    if box.state in _DASHED or box.others:
        more += ' stroke-dasharray="4 3"'
    struck = ' text-decoration="line-through"' if box.state == "cancelled" else ""
    return (
        f"<g><title>{said(box.told)}</title>"
        f'<rect x="{x}" y="{middle - _HEIGHT // 2}" width="{width}" '
        f'height="{_HEIGHT}" rx="{_HEIGHT // 2 if box.gate else 5}" '
        f'fill="{fill}" stroke="{stroke}"{more}/>'
        f'<text x="{x + width // 2}" y="{middle + 4}" text-anchor="middle" '
        f'fill="#1b2430"{struck}>{said(box.label)}</text></g>'
    )
