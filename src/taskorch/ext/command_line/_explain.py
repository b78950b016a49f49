"""`taskorch explain`: why a task does not run, as of the last commit, or now."""

from __future__ import annotations

import argparse
from typing import Any

from taskorch.api.verbs.table import as_json
from taskorch.errors import UnknownTaskError, UsageError
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._control import at, call
from taskorch.ext.command_line._source import Reader, is_left, reader_of, steps_of
from taskorch.ext.command_line._terminal import (
    add_at,
    add_journal,
    add_json,
    add_traceback,
    in_commands,
    line,
    print_json,
    tell,
    tell_left_out,
    tracebacks,
)
from taskorch.ext.views._why import explain_whole
from taskorch.kit.words import NOBODY_GOES_ON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_journal(parser, services=True)
    parser.add_argument(
        "task",
        metavar="TASK",
        nargs="?",
        help="its id, that of a run, or the name of a schedule; without one, all that "
        "can never proceed is told, by cause",
    )
    add_at(parser)
    parser.add_argument(
        "--by",
        metavar="TIME",
        help="say, too, what would have to change for it to end by then: 18:00, or "
        "seconds from now",
    )
    add_traceback(parser)
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.by and (args.task is None or args.at is not None):
        msg = "--by is said of one task or run, as it stands now"
        raise UsageError(msg, hint="taskorch explain JOURNAL TASK --by 18:00")
    if args.by and args.json:
        return tell_changes(args, args.task)
    with reader_of(args.journal, args.at) as reader:
        tell_left_out(reader)
        code = _answer(args, reader)
    return tell_changes(args, args.task) if args.by else code


def tell_changes(args: argparse.Namespace, of: str) -> int:
    """Print when a task or a run ends, and changes with which it would end in time."""
    with at(args.journal) as orch:
        changes = as_json(call(orch, "in_time", of, deadline=args.by))
    tell(args, changes, "", in_commands(changes["text"], args.journal))
    return OK


def _tell_whole(args: argparse.Namespace, whole: dict[str, Any]) -> int:
    """Print the reason for the state of a run, or of the runs of a schedule."""
    command = "runs" if "run" in whole else "schedules"
    show = f"taskorch {command} {line(args.journal)} show {line(args.task)}"
    tell(args, whole, in_commands(whole["text"], args.journal), "", show)
    return OK


def _tell_steps(args: argparse.Namespace, reader: Reader, explanation: Any) -> None:
    """Print the steps of a task that its explanation leaves out."""
    if not explanation.to_dict().get("notes"):
        for step in steps_of(reader, reader.get_task_status(args.task)):
            print(f"Step {line(step['text'])}.")


def _answer(args: argparse.Namespace, reader: Reader) -> int:
    if args.task is not None:
        try:
            explanation = reader.explain(args.task)
        except UnknownTaskError:
            whole = explain_whole(reader, args.task)
            if whole is None:
                raise
            return _tell_whole(args, whole)
        if args.json:
            print_json(explanation.to_dict())
        else:
            print(in_commands(str(explanation), args.journal))
            _tell_steps(args, reader, explanation)
            if args.traceback:
                status = reader.get_task_status(args.task)
                print("\n".join(["", *tracebacks(status)]))
        return OK
    stuck = reader.stuck()
    texts = [in_commands("\n\n".join(map(str, stuck)), args.journal)]
    lines = texts if stuck else ["Nothing is stuck."]
    if is_left(reader):
        state = reader.get_stats().state_machine
        if state.pending + state.queued + state.running + state.retrying:
            lines.append(NOBODY_GOES_ON)
    tell(args, [group.to_dict() for group in stuck], *lines)
    return OK
