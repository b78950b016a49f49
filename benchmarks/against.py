"""
This tree beside another commit: `python -m benchmarks.against REV`.

The cases of this tree run by turns with the library of either, each time in a process of
its own, so that both meet the same machine. Every figure is printed as a ratio: above 1,
this tree does better.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import _report
from benchmarks._figures import Samples, Unit
from benchmarks._registry import load

ROOT = Path(__file__).resolve().parent.parent
#: What is better the more of it there is; of all else, less is better.
MORE_IS_BETTER = frozenset({Unit.PER_SECOND.value, Unit.PER_MINUTE.value})

#: What one run measured: by case and row, the unit and the median.
Figures = dict[tuple[str, str], tuple[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure both, and print the table.

    Args:
        arguments: The command line; that of the process without it.

    Returns:
        The exit code: 1 where a case could not be measured here.
    """
    given = _parser().parse_args(arguments)
    broken = False
    print(_report.machine_line(_report.machine()))
    print(f"{'above 1: better than ' + given.rev:62} {'ratio (min-max)':>22}")
    with tempfile.TemporaryDirectory(prefix="taskorch-against-") as folder:
        other = _source_of(given.rev, Path(folder))
        for name in given.only or _cases():
            pairs = [
                (_figures(name, ROOT / "src", given), _figures(name, other, given))
                for _ in range(given.rounds)
            ]
            print(_report.title(name))
            rows = dict.fromkeys(row for mine, _ in pairs for row in mine)
            broken = broken or not rows
            for row in rows:
                print(_line(row, pairs), flush=True)
            if not rows:
                print("could not be measured: run it alone to see why")
    return int(broken)


def _cases() -> list[str]:
    """The cases that need nothing to be given."""
    return [name for name, entry in load()[0].items() if not entry.given]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against",
        description="Measure this tree by turns with another commit of it.",
    )
    parser.add_argument("rev", help="the other commit, in any way that git names one")
    parser.add_argument(
        "--only",
        action="append",
        choices=_cases(),
        metavar="NAME",
        help="this case; may be given several times (python -m benchmarks --list)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    return parser


def _source_of(rev: str, folder: Path) -> Path:
    """Lay out the library as it was at *rev*."""
    command = ("git", "-C", str(ROOT), "archive", rev, "src")
    archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


def _figures(name: str, source: Path, given: argparse.Namespace) -> Figures:
    """Run the case once with the library at *source*; nothing where it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benchmarks", "--only", name]
        command += ["--json", str(results), *(["--quick"] if given.quick else [])]
        path = os.pathsep.join([str(source), str(ROOT)])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
        if not results.exists():
            return {}
        rows: list[dict[str, Any]] = json.loads(results.read_text())["rows"]
    return {
        (name, row["what"]): (row["taskorch"]["unit"], row["taskorch"]["median"])
        for row in rows
    }


def _line(row: tuple[str, str], pairs: list[tuple[Figures, Figures]]) -> str:
    """One figure: how much better it is, with the spread over the rounds."""
    ratios = []
    for mine, theirs in pairs:
        if row not in mine or row not in theirs:
            continue
        unit, here = mine[row]
        there = theirs[row][1]
        if here and there:
            better = here / there if unit in MORE_IS_BETTER else there / here
            ratios.append(better)
    if not ratios:
        return f"{row[1]:62} {'only here':>22}"
    return f"{row[1]:62} {Samples.of(ratios, Unit.RATIO).write_spread():>22}"


if __name__ == "__main__":
    raise SystemExit(main())
