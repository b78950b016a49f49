"""
Common parts of pictures: texts that fit, a frame that scrolls, a legend, and lanes.

A picture may be in any page, light or dark: lines and texts beside its boxes have the
colour of the page's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from html import escape
from typing import Final
from unicodedata import combining

from taskorch.kit.visible import visible

#: Characters that no document may have: most control characters, and lone surrogates.
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
#: Widths of letters in ems, in the widest of the usual fonts.
_WIDTHS: Final = {
    **dict.fromkeys("ijl.,:;'!I", 0.42),
    **dict.fromkeys("frt()[]-/\\ ", 0.46),
    **dict.fromkeys("#&+<=>^~", 0.85),
    **dict.fromkeys("mwMW@%…", 1.03),
}
_USUAL: Final = 0.64
_CAPITAL: Final = 0.8
_OTHER: Final = 1.1
#: The length below which a shortened name says too little to be shown.
_SHORTEST: Final = 3


def said(text: str) -> str:
    """Return *text* escaped for HTML."""
    return escape(visible(_NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)))


def width_of(text: str, size: int) -> float:
    """Return the largest width of *text* in pixels, at a font size of *size* pixels."""
    return size * sum(map(_ems, text))


def _ems(letter: str) -> float:
    width = _WIDTHS.get(letter)
    if width is not None:
        return width
    if combining(letter):
        return 0.0
    if letter.isascii():
        return _CAPITAL if letter.isupper() else _USUAL
    return _OTHER


def fitted(text: str, room: float, size: int) -> str:
    """
    Return *text* if it has room, or its beginning and its end, or "".

    Names of tasks often differ at their ends, so the end gets as much room.
    """
    if width_of(text, size) <= room:
        return text
    remaining = room / size - _ems("…")
    first, last = 0, len(text)
    while first < last:
        place = last - 1 if len(text) - last <= first else first
        remaining -= _ems(text[place])
        if remaining < 0:
            break
        if place == first:
            first += 1
        else:
            last -= 1
    if first + len(text) - last < _SHORTEST:
        return ""
    return f"{text[:first]}…{text[last:]}"


def frame(shapes: Iterable[str], width: int, height: int, size: int) -> str:
    """Return the *shapes* as an SVG that scrolls where the page is narrow."""
    # Notebooks shrink pictures to the page, unless the picture's style prevents it.
    style = f"display:block;max-width:none;width:{width}px;height:{height}px"
    drawn = svg(shapes, width, height, size, f'style="{style}" ')
    return f'<div style="overflow:auto">{drawn}</div>'


def svg(
    shapes: Iterable[str], width: int, height: int, size: int, more: str = ""
) -> str:
    """Return the *shapes* as an SVG, with *more* attributes."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" {more}'
        f'font-family="sans-serif" font-size="{size}">{"".join(shapes)}</svg>'
    )


def legend(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return a legend of colours, each with its fill, border and words."""
    swatches = [
        '<span style="display:inline-block;margin-right:1.2em">'
        '<span style="display:inline-block;width:1em;height:0.8em;'
        f'margin-right:0.4em;background:{fill};border:1px solid {stroke}"></span>'
        f"{said(words)}</span>"
        for fill, stroke, words in entries
    ]
    return note("", "".join(swatches)) if swatches else ""


def note(text: str, more: str = "") -> str:
    """Return a line beside the picture: *text*, and HTML after it."""
    style = "font-size:12px;margin:4px 0;opacity:0.85"
    return f'<div style="{style}">{said(text)}{more}</div>'


def lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """
    Return a lane for each of *spans* (start, end), so that no two in one lane overlap.

    The first free lane is taken, so the number of lanes is as small as possible.
    """
    order = sorted(range(len(spans)), key=spans.__getitem__)
    lane_of = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    most = 0
    for place in order:
        start, end = spans[place]
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        if not free:
            heappush(free, most)
            most += 1
        lane = lane_of[place] = heappop(free)
        heappush(busy, (end, lane))
    return lane_of
