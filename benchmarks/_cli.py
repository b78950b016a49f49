"""The command line: choose the cases, run them, print the table."""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from benchmarks import _report
from benchmarks._figures import Row, Verdict
from benchmarks._page import PAGE_HELP, write_page
from benchmarks._registry import Case, Run, load

_LIMIT = 900.0
"""Seconds that a case may take before the run says where it hangs, and ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the cases and say whether every goal is met.

    Args:
        arguments: The command line; that of the process without it.

    Returns:
        The exit code: 1 where a case failed or, in a full run, a goal was missed; 2
        where one of all cases cannot be imported.
    """
    cases, left_out = load()
    options = _options(cases, left_out, arguments)
    if options.list:
        for entry in cases.values():
            print(f"{entry.name:16} {_first_line(entry)}")
        return 0
    chosen = [cases[name] for name in options.only or cases]
    run = Run(options.quick, options.psplib, options.recorded)
    began = perf_counter()
    said: list[str] = []

    def say(*lines: str) -> None:
        said.extend(lines)
        print(*lines, sep="\n", flush=True)

    # Asked for once: at the end, the load is that of the benchmarks themselves.
    machine = _report.machine()
    say(_report.machine_line(machine), _report.heading())
    results: list[tuple[Case, Row]] = []
    failed: list[Case] = []
    for entry in chosen:
        needed = _needed(entry, run)
        if needed:
            say(f"{_report.title(entry.name)} skipped: needs {needed}")
            continue
        say(_report.title(entry.name))
        faulthandler.dump_traceback_later(_LIMIT, exit=True)
        try:
            for row in entry.measure(run):
                results.append((entry, row))
                say(_report.lines(row))
        except Exception:
            failed.append(entry)
            traceback.print_exc(file=sys.stdout)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if options.json is not None:
            # What was measured stays if a later case hangs, or somebody stops it.
            _write(options.json, machine, results, failed, run)
    missed = [row for _, row in results if row.verdict is Verdict.MISSED]
    say("-" * _report.WIDTH)
    say(_report.legend())
    say(_summary(results, failed, perf_counter() - began, run))
    if options.page is not None:
        write_page(options.page, said, datetime.now(UTC).date())
    return 1 if failed or (missed and not run.quick) else 0


def _options(
    cases: dict[str, Case], left_out: Sequence[str], arguments: Sequence[str] | None
) -> argparse.Namespace:
    parser = _parser(cases)
    options = parser.parse_args(arguments)
    if left_out and not options.only:
        parser.error("; ".join(left_out))
    return options


def _parser(cases: dict[str, Case]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure taskorch beside its peers. Exits 1 if a goal is missed.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(cases),
        metavar="NAME",
        help="run this case; may be given several times (see --list)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, few rounds: shows that all works, judges nothing",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all samples to FILE as well"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help=PAGE_HELP,
    )
    parser.add_argument(
        "--psplib",
        type=Path,
        metavar="FOLDER",
        help="projects in Patterson's format with their optimum.csv, to be scheduled",
    )
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="FOLDER",
        help="recorded runs of workflows in WfFormat, to be planned and foretold",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the cases, run nothing"
    )
    return parser


def _needed(entry: Case, run: Run) -> str:
    """What is not here, and the case cannot do without."""
    if entry.given and getattr(run, entry.given) is None:
        return f"--{entry.given} FOLDER"
    return _list(entry.missing)


def _first_line(entry: Case) -> str:
    return (entry.measure.__doc__ or "").strip().splitlines()[0]


def _list(names: Sequence[object]) -> str:
    return ", ".join(str(name) for name in names)


def _summary(
    results: list[tuple[Case, Row]], failed: list[Case], seconds: float, run: Run
) -> str:
    """What it comes to, with the goals that were missed by name."""
    judged = [(entry, row) for entry, row in results if row.goal is not None]
    missed = [
        f"{entry.name}: {row.what}"
        for entry, row in judged
        if row.verdict is Verdict.MISSED
    ]
    said = [
        f"{len(judged) - len(missed)} of {len(judged)} goals met in {seconds:.0f} s."
    ]
    if run.quick:
        said.append("A quick run: the sizes are too small to judge by.")
    if missed:
        said.append(f"Missed: {'; '.join(missed)}.")
    if failed:
        said.append(f"Failed to run: {_list([entry.name for entry in failed])}.")
    return "\n".join(said)


def _write(
    path: Path,
    machine: dict[str, str | int | float],
    results: list[tuple[Case, Row]],
    failed: list[Case],
    run: Run,
) -> None:
    """Write machine, options and every sample as JSON."""
    content = {
        "machine": machine,
        "quick": run.quick,
        "rows": [_report.as_json(entry.name, row) for entry, row in results],
        "failed": [entry.name for entry in failed],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
