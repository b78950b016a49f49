"""`taskorch simulate`: a forecast of a plan, without running it."""

from __future__ import annotations

import argparse
from typing import Any

from taskorch.core.workflows._functions import checked
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._target import (
    add_limits,
    add_target,
    check_settings,
    limits_of,
    load,
    without_journal,
)
from taskorch.ext.command_line._terminal import add_json, seconds, tell
from taskorch.ext.views import JournalReader
from taskorch.model.ids import without_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_target(parser)
    parser.add_argument(
        "--duration",
        type=_duration,
        metavar="[NAME=]TIME",
        action="append",
        default=[],
        help="how long a task takes, by its id or type, or each that is not named: 90s",
    )
    parser.add_argument(
        "--journal",
        metavar="PATH",
        help="take the medians of its types from this journal, which is only read",
    )
    parser.add_argument(
        "--failures", type=float, metavar="P", help="the probability that one fails"
    )
    parser.add_argument(
        "--draws", type=int, default=1, metavar="N", help="how often chance is asked"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="repeats it")
    add_limits(parser)
    add_json(parser)


def _duration(text: str) -> tuple[str, float]:
    """Return the name and the time of `NAME=90s`; the name may be empty."""
    name, _, value = text.rpartition("=")
    return name, seconds(value)


def _run(args: argparse.Namespace) -> int:
    target = load(args)
    if target.parameters:
        checked(target.workflow, target.parameters)
    orch = target.orchestrator
    if orch is None or limits_of(args):
        orch = without_journal(args)
    else:
        check_settings(orch, args.target)
    report = orch.simulate(
        target.workflow,
        _durations(args, target),
        failures=args.failures,
        draws=args.draws,
        seed=args.seed,
    )
    saving = report.bottleneck
    lines = [str(each) for each in (report, saving) if each is not None]
    tell(args, report.to_dict(), *lines)
    return OK


def _durations(args: argparse.Namespace, target: Any) -> Any:
    """Return the durations of tasks that are known: by name, by type, or for all."""
    durations: dict[str, Any] = {}
    if args.journal is not None:
        for name, kind in JournalReader(args.journal).get_stats().types.items():
            if kind.running is not None:
                durations[name] = kind.running.p50
    rest: float | None = None
    for name, time in args.duration:
        if name:
            durations[name] = time
        else:
            rest = time
    if rest is not None:
        for task in target.workflow.tasks("run"):
            name = without_run(task.id or "")
            if name not in durations and task.type not in durations:
                durations[name] = rest
    return durations or None
