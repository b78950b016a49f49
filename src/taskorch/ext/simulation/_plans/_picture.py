"""
A schedule as a picture for notebooks: a line of bars for each slot of each worker.

All text from outside is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Final, TypeAlias

from taskorch.kit.drawing import fitted, frame, lanes, legend, note, said, width_of
from taskorch.kit.limits import NS
from taskorch.kit.words import duration

#: `(task, start, end, agent, attempt, outcome)`: times in ns.
Bar: TypeAlias = tuple[str, int, int, str, int, str]

#: The number of bars and lines in a picture.
_MOST_BARS: Final = 2_000
_MOST_LINES: Final = 60
_WIDTH: Final = 760
#: The room on the right, for half of the last time.
_RIGHT: Final = 40
#: The width of the names of workers, and the room beside them.
_SLIM: Final = 50
_WIDE: Final = 220
_ROOM: Final = 12
_HEIGHT: Final = 20
_GAP: Final = 4
#: The additional room between two workers.
_WORKERS: Final = 6
_TOP: Final = 2
_AXIS: Final = 24
_FONT: Final = 11
#: The distance between the edge of a bar and its text.
_INSET: Final = 3
#: The largest number of parts of the axis, and their possible lengths in ns: the units
#: that people count in, up to more days than 64 bits of ns hold.
_TICKS: Final = 6
_STEPS: Final = (
    *(n * 10**power for power in range(10) for n in (1, 2, 5)),
    *(n * NS for n in (10, 20, 30)),
    *(n * 60 * NS for n in (1, 2, 5, 10, 15, 30)),
    *(n * 3_600 * NS for n in (1, 2, 3, 6, 12)),
    *(n * 86_400 * NS * 10**power for power in range(6) for n in (1, 2, 5)),
)

_COLOURS: Final = {
    "completed": ("#9cc3f7", "#4d78ad"),
    "failed": ("#f6bdb8", "#b3261e"),
    "stopped": ("#fbe3a6", "#b07d00"),
    "waited": ("#e9d3f5", "#8446a8"),
}
_CRITICAL: Final = ("#f2a65a", "#a85a08")


def page(text: str, bars: Sequence[Bar], critical: Container[str]) -> str:
    """Return the report as HTML: its sentences, and an SVG of the schedule."""
    head = f'<pre style="white-space:pre-wrap">{said(text)}</pre>'
    if not bars:
        return f"<div>{head}</div>"
    end = max(bar[2] for bar in bars)
    groups = _by_worker(bars)
    names = {worker: fitted(worker, _WIDE, _FONT) for worker in groups}
    margin = _ROOM + round(max(_SLIM, *(width_of(n, _FONT) for n in names.values())))
    places = {
        worker: lanes([(start, stop) for _, start, stop, _, _, _ in group])
        for worker, group in groups.items()
    }
    rooms = _shares({a: max(numbers) + 1 for a, numbers in places.items()}, _MOST_LINES)
    lots = _shares({worker: len(group) for worker, group in groups.items()}, _MOST_BARS)
    shapes: list[str] = []
    top, drawn, scale = _TOP, 0, _WIDTH / (end or 1)
    for worker, group in groups.items():
        room = rooms[worker]
        shown = [p for p in zip(group, places[worker], strict=True) if p[1] < room]
        if not shown:
            continue
        if drawn:
            shapes.append(_border(top, margin))
            top += _WORKERS
        shown.sort(key=lambda pair: _weight(pair[0], critical))
        shown = shown[: lots[worker]]
        drawn += len(shown)
        shapes.append(_name(worker, names[worker], margin, top))
        shapes += [
            _bar(bar, margin, top + lane * (_HEIGHT + _GAP), scale, critical)
            for bar, lane in shown
        ]
        top += room * (_HEIGHT + _GAP)
    hidden = len(bars) - drawn
    # This comes first, so that the axis lies behind the bars.
    shapes = [*_axis(end, margin, top), *shapes]
    svg = frame(shapes, margin + _WIDTH + _RIGHT, top + _AXIS, _FONT)
    many = "attempts, which are" if hidden > 1 else "attempt, which is"
    more = note(f"… and {hidden:,} more {many} not shown") if hidden else ""
    return f"<div>{head}{_legend(bars, critical)}{svg}{more}</div>"


def _by_worker(bars: Sequence[Bar]) -> dict[str, list[Bar]]:
    """Return the bars of each worker, by name; bars without one come last."""
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar[3], []).append(bar)
    return dict(sorted(groups.items(), key=_place))


def _shares(needs: Mapping[str, int], most: int) -> dict[str, int]:
    """Share *most* fairly: nobody goes short because another needs much."""
    shares: dict[str, int] = {}
    for name in sorted(needs, key=needs.__getitem__):
        fair = -(-most // (len(needs) - len(shares)))
        shares[name] = min(needs[name], fair)
        most -= shares[name]
    return shares


def _weight(bar: Bar, critical: Container[str]) -> tuple[bool, int]:
    """Return a key that puts critical and long bars first."""
    task, start, stop, _, _, _ = bar
    return task not in critical, start - stop


def _place(item: tuple[str, list[Bar]]) -> tuple[bool, list[tuple[int, str]]]:
    worker, group = item
    # `agent-10` comes after `agent-9`.
    parts = re.findall(r"([0-9]{1,9})|([^0-9]+)", worker)
    by_name = [(int(digits or 0), letters) for digits, letters in parts]
    return all(not bar[4] for bar in group), by_name


def _legend(bars: Sequence[Bar], critical: Container[str]) -> str:
    used = {_colours(bar, critical) for bar in bars}
    outcomes = {colours: outcome for outcome, colours in _COLOURS.items()}
    outcomes[_CRITICAL] = "critical path"
    return legend(
        (*colours, outcomes[colours]) for colours in outcomes if colours in used
    )


def _colours(bar: Bar, critical: Container[str]) -> tuple[str, str]:
    """Return the colours of a bar: inside and border."""
    task, _, _, _, _, outcome = bar
    if task in critical and outcome in ("completed", "waited"):
        return _CRITICAL
    return _COLOURS[outcome]


def _name(worker: str, label: str, margin: int, top: int) -> str:
    return (
        f'<g><title>{said(worker)}</title><text x="{margin - 8}" y="{top + 14}" '
        f'text-anchor="end" fill="currentColor">{said(label)}</text></g>'
    )


def _border(top: int, margin: int) -> str:
    y = top + (_WORKERS - _GAP) / 2
    return (
        f'<line x1="0" y1="{y:g}" x2="{margin + _WIDTH}" y2="{y:g}" '
        'stroke="currentColor" stroke-opacity="0.2"/>'
    )


def _bar(bar: Bar, margin: int, y: int, scale: float, critical: Container[str]) -> str:
    task, start, stop, worker, attempt, outcome = bar
    x = margin + scale * start
    width = max(scale * (stop - start), 1.0)
    fill, stroke = _colours(bar, critical)
    lines = [task, f"{worker}, attempt {attempt}: {outcome}" if attempt else outcome]
    if task in critical:
        lines.append("on the critical path")
    began, took = duration(start / NS), duration((stop - start) / NS)
    lines.append(f"begins at {began}, takes {took}")
    label = fitted(task, width - 2 * _INSET, _FONT)
    text = (
        f'<text x="{x + _INSET:.1f}" y="{y + 14}" fill="#1b2430">{said(label)}</text>'
    )
    return (
        f"<g><title>{said(chr(10).join(lines))}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" rx="3" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="0.5"/>'
        f"{text if label else ''}</g>"
    )


def _axis(end: int, margin: int, height: int) -> list[str]:
    shapes: list[str] = []
    for at in _ticks(end):
        x = margin + (_WIDTH * at / end if end else 0)
        label = duration(at / NS) if at else "0"
        shapes.append(
            f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height + 4}" '
            'stroke="currentColor" stroke-opacity="0.2"/>'
            f'<text x="{x:.1f}" y="{height + 18}" text-anchor="middle" '
            f'fill="currentColor">{said(label)}</text>'
        )
    return shapes


def _ticks(end: int) -> range:
    """Return round times from 0 to *end*, in ns."""
    step = next((step for step in _STEPS if step * _TICKS >= end), end)
    return range(0, end + 1, step)
