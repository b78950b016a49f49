"""How the results are shown: a plain table of 100 columns, and the same as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._figures import ASYNCIO, PEERS, SEED, THREADS, Goal, Row, Samples

WIDTH = 100
_ROOT = Path(__file__).parents[1]
_COLUMNS = (
    ("what", 26),
    ("taskorch", 10),
    (THREADS, 9),
    (ASYNCIO, 9),
    (SEED, 10),
    ("measured (min-max)", 18),
    ("goal", 8),
    ("met", 3),
)

LEGEND = (
    "threads: concurrent.futures.ThreadPoolExecutor; asyncio: bare coroutines, a "
    "ceiling rather than a peer; seed 002: the figures that design published. All but "
    "those were measured in this run; figures are medians. measured: what the goal "
    "bounds, as a ratio (x) to threads unless the line below says otherwise. met: yes, "
    "NO, or aim where the better figure that is aimed at was reached as well."
)


def machine() -> dict[str, str | int | float]:
    """What a reader has to know about where the figures were taken."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}"
        # The kernel of taskorch may be compiled.
        + " compiled" * (find_spec("taskorch__mypyc") is not None),
        "cpus": usable_cpus(),
        "processor": _processor(),
        "os": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit that is measured; with "changed" where src/ is not as it says."""
    commands = ["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "src"]
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command], cwd=_ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + " changed" * bool(changes)


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The name of the processor, as the system gives it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine_line(facts: Mapping[str, Any]) -> str:
    """A `machine` on one line, and a warning where others used it as well."""
    line = (
        f"{facts['python']}, {facts['cpus']} CPUs ({facts['processor']}), {facts['os']}"
    )
    if facts.get("commit"):
        line += f", commit {facts['commit']}"
    if float(facts["load"]) > 1:
        line += f"\nbusy with other work (load {facts['load']}): run it again later"
    return line


def heading() -> str:
    """The head of the table."""
    names = _line([name for name, _ in _COLUMNS])
    return f"{names}\n{'-' * WIDTH}"


def title(name: str) -> str:
    """The line above the rows of one case."""
    return f"[{name}]"


def lines(row: Row) -> str:
    """A row: its figures, and the note below."""
    cells = [row.what, row.ours.write()]
    for peer in PEERS:
        theirs = row.peers.get(peer)
        cells.append("" if theirs is None else theirs.write())
    cells.append("" if row.measured is None else row.measured.write_spread())
    cells.append("" if row.goal is None else row.goal.write())
    cells.append(row.verdict.value)
    others = [
        f"{name} {figure.write()}"
        for name, figure in row.peers.items()
        if name not in PEERS
    ]
    note = "; ".join(part for part in (row.note, ", ".join(others)) if part)
    return "\n".join([_line(cells), *below(note)])


def below(note: str) -> list[str]:
    """The lines below a row."""
    return textwrap.wrap(note, WIDTH, initial_indent="    ", subsequent_indent="    ")


def legend() -> str:
    """How to read the table."""
    return "\n".join(textwrap.wrap(LEGEND, WIDTH))


def _line(cells: list[str]) -> str:
    """Set the cells: the first to the left, figures to the right."""
    parts = []
    for index, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True)):
        parts.append(cell.ljust(width) if index == 0 else cell.rjust(width))
    return " ".join(parts).rstrip()


def as_json(name: str, row: Row) -> dict[str, object]:
    """A row with all its samples."""
    return {
        "case": name,
        "what": row.what,
        "taskorch": _samples(row.ours),
        "peers": {peer: _samples(figure) for peer, figure in row.peers.items()},
        "measured": None if row.measured is None else _samples(row.measured),
        "goal": None if row.goal is None else _goal(row.goal),
        "verdict": row.verdict.name.lower(),
        "note": row.note,
    }


def _samples(figure: Samples) -> Mapping[str, object]:
    return {
        "median": figure.median,
        "unit": figure.unit.value,
        "samples": list(figure.values),
    }


def _goal(goal: Goal) -> Mapping[str, object]:
    return {
        "bound": goal.bound,
        "unit": goal.unit.value,
        "direction": "at least" if goal.at_least else "at most",
        "aim": goal.aim,
    }
