"""
The chart of the README: what one task costs, beside others, of the page of benchmarks.

    python tests/house/packaging/_chart.py
"""

from __future__ import annotations

import math
import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"
CHART = DOCS / "peers.svg"
PAGE = DOCS / "reference" / "benchmarks.md"
#: Of each row of the page, the peer that it is beside, and what was asked of both.
_CALLS = {
    "submit, beside Parsl": "Parsl",
    "submit, beside taskiq": "taskiq",
    "submit, beside dask": "Dask",
    "submit, beside Ray": "Ray",
    "submit, beside Prefect": "Prefect",
}
_KEPT = {"against huey": "huey", "against DBOS": "DBOS"}
_WORDS = {
    "ThreadPoolExecutor": "a thread pool",
    "taskorch, journal in SQLite": "taskorch",
}
_LEFT, _WIDTH, _ROW = 190, 420, 24


def _figures() -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Microseconds a task: of calls, and of calls that a crash does not undo."""
    page = PAGE.read_text("utf-8")
    own, ratio = _row(page, "submit, one by one")
    calls = [("ThreadPoolExecutor", own * ratio), ("taskorch", own)]
    for name, peer in _CALLS.items():
        us, ratio = _row(page, name)
        calls.append((peer, us * ratio))
    rate, _ = _row(page, "against huey")
    kept = [("taskorch, journal in SQLite", 1_000 / rate)]
    for name, peer in _KEPT.items():
        rate, ratio = _row(page, name)
        kept.append((peer, 1_000 / rate * ratio))
    return calls, kept


def _row(page: str, name: str) -> tuple[float, float]:
    """The first figure of a row, in microseconds or thousands, and the ratio."""
    match = re.search(
        rf"^{re.escape(name)} +([\d.]+) (?:us|k/s) +([\d.,]+)x", page, re.MULTILINE
    )
    assert match, name
    return float(match[1]), float(match[2].replace(",", ""))


def _in_units(us: float) -> str:
    digits = f"{us:.2g}" if us < 100 else f"{us:,.0f}"
    return f"{digits} µs" if us < 1_000 else f"{us / 1_000:.2g} ms"


def in_words() -> tuple[str, str]:
    """What the README says of the chart: the figures of calls, and of kept ones."""
    calls, kept = (
        ", ".join(
            f"{_WORDS.get(name, name)} {_in_units(us)}"
            for name, us in sorted(rows, key=lambda row: row[1])
        )
        for rows in _figures()
    )
    return f"The time of a task: {calls}.", f"Kept through a crash: {kept}"


def chart() -> str:
    """The chart as SVG; bars are as long as the logarithm of the time."""
    calls, kept = _figures()
    lines, y = [], 24
    for head, rows in (
        ("A call that does nothing, submitted and waited for", calls),
        ("The same, kept through a crash", kept),
    ):
        lines.append(f'<text x="8" y="{y}" class="head">{head}</text>')
        y += 12
        for name, us in sorted(rows, key=lambda row: row[1]):
            length = _WIDTH * math.log10(us) / 4.5
            kind = "ours" if name.startswith("taskorch") else "theirs"
            size = f'width="{length:.0f}" height="15"'
            end = _LEFT + length + 6
            lines += [
                f'<text x="{_LEFT - 8}" y="{y + 14}" class="name">{name}</text>',
                f'<rect x="{_LEFT}" y="{y + 3}" {size} rx="2" class="{kind}"/>',
                f'<text x="{end:.0f}" y="{y + 14}">{_in_units(us)}</text>',
            ]
            y += _ROW
        y += 28
    width = _LEFT + _WIDTH + 90
    note = "Time a task, of a logarithmic scale: shorter is better."
    lines.append(f'<text x="8" y="{y - 8}" class="note">{note}</text>')
    style = (
        "text{font:12px system-ui,sans-serif;fill:#57606a}"
        ".name{text-anchor:end}.head{font-weight:600}.note{font-size:11px}"
        ".ours{fill:#1f883d}.theirs{fill:#afb8c1}"
        "@media(prefers-color-scheme:dark){text{fill:#9da7b3}.theirs{fill:#57606a}}"
    )
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" '
        f'viewBox="0 0 {width} {y}" role="img">\n<title>{note}</title>\n'
        f"<style>{style}</style>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    CHART.write_text(chart(), "utf-8")
