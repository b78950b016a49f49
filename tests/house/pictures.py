"""What holds of every picture."""

import re
import xml.etree.ElementTree as ET

from taskorch.kit.drawing import width_of

_SVG = "{http://www.w3.org/2000/svg}"


def drawn(html):
    """
    The page, parsed, once its SVG is seen to be in order.

    It is well formed, it says itself how large it is, and nothing is outside of it; no
    text is wider than the box that it stands in.
    """
    root = ET.fromstring(html)
    for svg in root.iter(f"{_SVG}svg"):
        width, height = int(svg.get("width")), int(svg.get("height"))
        assert svg.get("viewBox") == f"0 0 {width} {height}"
        assert f"max-width:none;width:{width}px;height:{height}px" in svg.get("style")
        size = int(svg.get("font-size"))
        for x, y in _points(svg, size):
            assert 0 <= x <= width
            assert 0 <= y <= height
        for group in svg.iter(f"{_SVG}g"):
            rect, text = group.find(f"{_SVG}rect"), group.find(f"{_SVG}text")
            if rect is not None and text is not None:
                left = float(rect.get("x"))
                begin, end = _reach(text, size)
                assert left <= begin <= end <= left + float(rect.get("width"))
    return root


def _points(svg, size):
    for rect in svg.iter(f"{_SVG}rect"):
        x, y, wide, high = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        yield from ((x, y), (x + wide, y + high))
    for line in svg.iter(f"{_SVG}line"):
        x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
        yield from ((x1, y1), (x2, y2))
    for path in svg.iter(f"{_SVG}path"):
        # Of curves the points that hold them, too: they stay within these.
        for command, numbers in re.findall(r"([MLCH])([-\d. ]+)", path.get("d")):
            found = [float(number) for number in numbers.split()]
            pairs = [found[0], 0.0] if command == "H" else found
            yield from zip(pairs[::2], pairs[1::2], strict=True)
    for text in svg.iter(f"{_SVG}text"):
        y = float(text.get("y"))
        yield from ((x, y) for x in _reach(text, size))


def _reach(text, size):
    x, wide = float(text.get("x")), width_of(text.text or "", size)
    anchor = text.get("text-anchor", "start")
    begin = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return begin, begin + wide


def boxes(root):
    """Of each box what it says when it is pointed at, and where it is."""
    found = {}
    for group in root.iter(f"{_SVG}g"):
        rect = group.find(f"{_SVG}rect")
        if rect is not None:
            told = group.find(f"{_SVG}title").text
            found[told] = tuple(
                float(rect.get(k)) for k in ("x", "y", "width", "height")
            )
    return found


def texts(root):
    """What is written in the picture, in its order."""
    return [text.text or "" for text in root.iter(f"{_SVG}text")]
