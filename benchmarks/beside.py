"""
Two Pythons, or two builds, side by side: `python -m benchmarks.beside FILE FILE …`.

Of the results that `python -m benchmarks --json FILE` wrote, those of the oldest Python
stand beside those of the newest; of one Python, those of a compiled kernel behind those
without. Each was measured beside its own peers, so that what tells of a change between
the two is what was measured against the goal, not our time.
Several runs of one build, of some cases each, are one. With `--page FILE` the table is
put into a page of the documentation as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import _report
from benchmarks._figures import Unit, Verdict
from benchmarks._page import PAGE_HELP, write_page

#: What one run wrote.
Results = dict[str, Any]

_WHAT = 37
LEGEND = (
    "taskorch: the median. measured: what the goal bounds, against the peer of the same "
    "run. met: yes,\nNO, or aim where the better figure that is aimed at was reached as "
    "well."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Print the oldest and the newest of the runs in these files; of one run, that one.

    Args:
        arguments: Those of the command line, unless given.

    Returns:
        The exit code: 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside",
        description="The oldest and the newest Python side by side.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help=PAGE_HELP)
    options = parser.parse_args(arguments)
    runs: list[Results] = []
    for file in options.files:
        try:
            runs.append(_read(file))
        except (OSError, ValueError) as error:
            what = "a FILE is what python -m benchmarks --json FILE wrote"
            parser.error(f"{file}: {error}; {what}")
    runs = _joined(runs)
    lines = table(runs[:1] + runs[1:][-1:])
    print("\n".join(lines))
    if options.page is not None:
        write_page(options.page, lines, datetime.now(UTC).date())
    return 0


def _joined(runs: Sequence[Results]) -> list[Results]:
    """One run for each build, in order: of a case, what was measured last counts."""
    builds: dict[str, Results] = {}
    for run in runs:
        name = run["machine"]["python"]
        before = builds.get(name, {"rows": [], "failed": []})
        # A case that is measured again stays in its place.
        cases: dict[str, list[Results]] = {}
        for results in (before, run):
            of_run: dict[str, list[Results]] = {each: [] for each in results["failed"]}
            for row in results["rows"]:
                of_run.setdefault(row["case"], []).append(row)
            cases |= of_run
        again = {*of_run}
        builds[name] = run | {
            "rows": [row for rows in cases.values() for row in rows],
            "failed": [
                *(case for case in before["failed"] if case not in again),
                *run["failed"],
            ],
        }
    return sorted(builds.values(), key=_version)


def _read(file: Path) -> Results:
    run = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(run, dict) or not {"machine", "rows", "failed"} <= run.keys():
        raise ValueError("it has no results")
    return run


def table(runs: Sequence[Results]) -> list[str]:
    """A row for each figure, three columns for each run, and the note below it."""
    names = "".join(f"{run['machine']['python']:>26}" for run in runs)
    below = "".join(f"{'taskorch':>11}{'measured':>10} met " for _ in runs)
    found = [{(row["case"], row["what"]): row for row in run["rows"]} for run in runs]
    lines = [
        *(_report.machine_line(run["machine"]) for run in runs),
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
        lines += _report.below(next(row["note"] for row in reversed(here) if row))
    lines += ["-" * _report.WIDTH, LEGEND]
    lines += [
        f"Failed to run on {run['machine']['python']}: {', '.join(run['failed'])}."
        for run in runs
        if run["failed"]
    ]
    return lines


def _version(run: Results) -> tuple[list[int], bool]:
    """The order of `CPython 3.15.2 compiled`: numbers sort, and compiled comes last."""
    _, number, *compiled = run["machine"]["python"].split()
    return [int(part) for part in number.split(".")[:2]], bool(compiled)


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
    raise SystemExit(main())
