"""
A schedule as a picture for notebooks: a line of bars for each slot of each agent.

Everything that comes from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from html import escape
from typing import Final, TypeAlias

from taskorch.model._limits import NS
from taskorch.simulation._plan_words import duration
from taskorch.telemetry._slices import lanes

__all__ = ("page",)

#: `(task, start, end, agent, attempt, outcome)`: times in ns.
Bar: TypeAlias = tuple[str, int, int, str, int, str]

#: Bars and lines that a picture shows.
_MOST_BARS: Final = 2_000
_MOST_LINES: Final = 60
_WIDTH: Final = 760
_NAMES: Final = 130
_HEIGHT: Final = 20
_GAP: Final = 4
_AXIS: Final = 24
#: Characters of an agent's name, and the width of one in a bar.
_LABEL: Final = 18
_LETTER: Final = 6.6
#: Parts into which the axis is divided.
_TICKS: Final = 4

_COLOURS: Final = {
    "completed": "#9cc3f7",
    "failed": "#f6bdb8",
    "stopped": "#fbe3a6",
    "waited": "#e9d3f5",
}
_CRITICAL: Final = "#f2a65a"


def page(text: str, bars: Sequence[Bar], critical: Container[str]) -> str:
    """
    The report as HTML: its sentences, and an SVG of the schedule.

    Args:
        text: The sentences.
        bars: The attempts.
        critical: The tasks of the critical path.
    """
    head = f"<pre>{escape(text)}</pre>"
    if not bars:
        return f"<div>{head}</div>"
    end = max(bar[2] for bar in bars) or 1
    shapes: list[str] = []
    line = hidden = 0
    left = _MOST_BARS
    for agent, group in _by_agent(bars).items():
        places = lanes([(start, end) for _, start, end, _, _, _ in group])
        room = min(max(places) + 1, _MOST_LINES - line)
        shown = [pair for pair in zip(group, places, strict=True) if pair[1] < room]
        shown = shown[: max(left, 0)]
        left -= len(shown)
        hidden += len(group) - len(shown)
        if room > 0:
            shapes.append(_name(agent, line))
        shapes += [_bar(bar, line + lane, end, critical) for bar, lane in shown]
        line += max(room, 0)
    height = line * (_HEIGHT + _GAP) + _AXIS
    # Behind the bars.
    shapes = [*_axis(end, height), *shapes]
    more = f"<div>… and {hidden:,} more attempts, which are not shown</div>"
    return (
        f'<div>{head}<div style="overflow:auto">'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_NAMES + _WIDTH + 40}" '
        f'height="{height}" font-family="sans-serif" font-size="11">'
        f"{''.join(shapes)}</svg></div>{more if hidden else ''}</div>"
    )


def _by_agent(bars: Sequence[Bar]) -> dict[str, list[Bar]]:
    found: dict[str, list[Bar]] = {}
    for bar in bars:
        found.setdefault(bar[3], []).append(bar)
    return found


def _name(agent: str, line: int) -> str:
    label = agent if len(agent) <= _LABEL else f"{agent[: _LABEL - 1]}…"
    y = line * (_HEIGHT + _GAP) + 14
    return (
        f'<g><title>{escape(agent)}</title><text x="{_NAMES - 8}" y="{y}" '
        f'text-anchor="end" fill="#5b6675">{escape(label)}</text></g>'
    )


def _bar(bar: Bar, line: int, end: int, critical: Container[str]) -> str:
    task, start, stop, agent, attempt, outcome = bar
    x = _NAMES + _WIDTH * start / end
    width = max(_WIDTH * (stop - start) / end, 1.0)
    y = line * (_HEIGHT + _GAP)
    colour = _COLOURS[outcome]
    told = [task, f"{agent}, attempt {attempt}: {outcome}" if attempt else outcome]
    if task in critical:
        told.append("on the critical path")
        if outcome in ("completed", "waited"):
            colour = _CRITICAL
    began, took = duration(start / NS), duration((stop - start) / NS)
    told.append(f"begins at {began}, takes {took}")
    letters = int(width / _LETTER)
    text = ""
    if letters > 1:
        label = task if len(task) <= letters else f"{task[: letters - 1]}…"
        text = (
            f'<text x="{x + 3:.1f}" y="{y + 14}" fill="#1b2430">{escape(label)}</text>'
        )
    return (
        f"<g><title>{escape(chr(10).join(told))}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" rx="3" '
        f'fill="{colour}" stroke="#5b6675" stroke-width="0.5"/>{text}</g>'
    )


def _axis(end: int, height: int) -> list[str]:
    shapes: list[str] = []
    for part in range(_TICKS + 1):
        x = _NAMES + _WIDTH * part // _TICKS
        label = duration(end * part / _TICKS / NS) if part else "0"
        shapes.append(
            f'<line x1="{x}" y1="0" x2="{x}" y2="{height - 18}" stroke="#d5dbe3"/>'
            f'<text x="{x}" y="{height - 5}" text-anchor="middle" fill="#5b6675">'
            f"{escape(label)}</text>"
        )
    return shapes
