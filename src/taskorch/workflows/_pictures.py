"""
Pictures of workflows: text for Mermaid, and an SVG for notebooks.

Everything that comes from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from taskorch.workflows._graph import Parents, layers

__all__ = ("mermaid", "page")

#: Tasks that a picture shows.
_MOST: Final = 200
#: Characters of a task that a picture shows.
_LABEL: Final = 26
_WIDTH: Final = 180
_HEIGHT: Final = 30
_GAP_X: Final = 50
_GAP_Y: Final = 14
_PAD: Final = 10

#: Of each state the colour of the box; a task on paper has none.
_COLOURS: Final = {
    "": "#eef2f7",
    "pending": "#eef2f7",
    "queued": "#dbe7fb",
    "running": "#9cc3f7",
    "retrying": "#fbe3a6",
    "blocked": "#e9d3f5",
    "suspended": "#e2e2e2",
    "completed": "#c3e8c5",
    "failed": "#f6bdb8",
    "cancelled": "#d0d0d0",
}


def mermaid(parents: Parents) -> str:
    """The graph as a flowchart, from top to bottom."""
    number = {name: f"n{i}" for i, name in enumerate(parents)}
    lines = ["flowchart TD"]
    # `#` begins an entity of Mermaid's, and a quote ends the label.
    lines += [
        f'    {short}["{name.replace("#", "#35;").replace(chr(34), "#quot;")}"]'
        for name, short in number.items()
    ]
    lines += [
        f"    {number[parent]} --> {number[name]}"
        for name, above in parents.items()
        for parent in above
    ]
    return "\n".join(lines) + "\n"


def page(
    title: str,
    parents: Parents,
    types: Mapping[str, str],
    states: Mapping[str, str],
) -> str:
    """
    The graph as HTML: a line of text, and an SVG from left to right.

    Args:
        title: The line.
        parents: Of each task, what it waits for.
        types: The type of each task.
        states: The state of each task, if it has one.
    """
    places, width, height = _places(parents)
    shapes = [
        _edge(places[parent], place)
        for name, place in places.items()
        for parent in parents[name]
        if parent in places
    ]
    shapes += [
        _box(name, place, types.get(name, ""), states.get(name, ""))
        for name, place in places.items()
    ]
    hidden = len(parents) - len(places)
    more = f"<div>… and {hidden:,} more tasks, which are not shown</div>"
    return (
        f"<div><div>{escape(title)}</div>"
        f'<div style="overflow:auto"><svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f"{''.join(shapes)}</svg></div>{more if hidden else ''}</div>"
    )


def _places(parents: Parents) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Where each task that is shown stands, and the size of it all."""
    places: dict[str, tuple[int, int]] = {}
    left = _MOST
    x, bottom = _PAD, 0
    for layer in layers(parents):
        shown = layer[:left]
        if not shown:
            break
        left -= len(shown)
        # Near what they wait for, so that fewer lines cross.
        shown.sort(key=lambda name: _height_of(parents[name], places))
        for row, name in enumerate(shown):
            places[name] = x, _PAD + row * (_HEIGHT + _GAP_Y)
        bottom = max(bottom, _PAD + len(shown) * (_HEIGHT + _GAP_Y))
        x += _WIDTH + _GAP_X
    return places, max(x - _GAP_X + _PAD, 2 * _PAD), max(bottom, 2 * _PAD)


def _height_of(above: Iterable[str], places: Mapping[str, tuple[int, int]]) -> float:
    heights = [places[name][1] for name in above if name in places]
    return sum(heights) / len(heights) if heights else 0.0


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = (x2 - x1) // 2
    return (
        f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" '
        'fill="none" stroke="#8a94a3"/>'
    )


def _box(name: str, place: tuple[int, int], kind: str, state: str) -> str:
    x, y = place
    label = name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}"
    told = "\n".join(line for line in (name, kind, state) if line)
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" '
        f'fill="{_COLOURS.get(state, _COLOURS[""])}" stroke="#5b6675"/>'
        f'<text x="{x + _WIDTH // 2}" y="{y + _HEIGHT // 2 + 4}" '
        f'text-anchor="middle" fill="#1b2430">{escape(label)}</text></g>'
    )
