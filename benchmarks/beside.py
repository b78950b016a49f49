"""
Two Pythons side by side: `python -m benchmarks.beside FILE FILE …`.

Of the results that `python -m benchmarks --json FILE` wrote, those of the oldest Python
stand beside those of the newest. Each was measured beside its own peers, so that what
tells of a change between the two is what was measured against the goal, not our time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import _report
from benchmarks._figures import Unit, Verdict

#: What one run wrote.
Results = dict[str, Any]

_WHAT = 37


def main(arguments: Sequence[str]) -> int:
    """
    Print the oldest and the newest of the runs in these files; of one run, that one.

    Args:
        arguments: The files.

    Returns:
        The exit code: 0.
    """
    runs = [json.loads(Path(file).read_text(encoding="utf-8")) for file in arguments]
    runs.sort(key=_version)
    print("\n".join(page(runs[:1] + runs[1:][-1:])))
    return 0


def page(runs: Sequence[Results]) -> list[str]:
    """The lines of the table: a row for each figure, three columns for each run."""
    names = "".join(f"{run['machine']['python']:>26}" for run in runs)
    below = "".join(f"{'taskorch':>11}{'measured':>10} met " for _ in runs)
    found = [{(row["case"], row["what"]): row for row in run["rows"]} for run in runs]
    lines = [
        f"{'':{_WHAT}}{names}".rstrip(),
        f"{'what':{_WHAT}}{below}{'goal':>11}",
        "-" * _report.WIDTH,
    ]
    last = None
    for key in dict.fromkeys(key for rows in found for key in rows):
        if key[0] != last:
            last = key[0]
            lines.append(_report.title(last))
        here = [rows.get(key) for rows in found]
        cells = "".join(_cells(row) for row in here)
        what = key[1] if len(key[1]) < _WHAT else f"{key[1][: _WHAT - 2]}…"
        lines.append(f"{what:{_WHAT}}{cells}{_goal(here):>11}".rstrip())
    return lines


def _version(run: Results) -> list[int]:
    """`CPython 3.15.2` as numbers, which sort."""
    number = run["machine"]["python"].split()[-1]
    return [int(part) for part in number.split(".")[:2]]


def _cells(row: Results | None) -> str:
    """Our figure, what was measured against the goal, and what that says of it."""
    if row is None:
        return f"{'':26}"
    measured = "" if row["measured"] is None else _write(row["measured"])
    met = Verdict[row["verdict"].upper()].value
    return f"{_write(row['taskorch']):>11}{measured:>10} {met:>3} "


def _write(samples: Results) -> str:
    return Unit(samples["unit"]).write(samples["median"])


def _goal(rows: Sequence[Results | None]) -> str:
    """The bound, as the newest has it."""
    goal = next((row["goal"] for row in reversed(rows) if row and row["goal"]), None)
    if goal is None:
        return ""
    unit = "x" if goal["unit"] == Unit.RATIO.value else f" {goal['unit']}"
    return (
        f"{'>=' if goal['direction'] == 'at least' else '<='}{goal['bound']:,g}{unit}"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
