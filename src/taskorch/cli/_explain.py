"""`taskorch explain`: why a task does not run, as of the last commit, or now."""

from __future__ import annotations

import argparse
from typing import Any

from taskorch.cli import OK
from taskorch.cli._source import Reader, reader_of, steps_of
from taskorch.cli._terminal import (
    add_at,
    add_journal,
    add_json,
    add_traceback,
    in_commands,
    line,
    print_json,
    tell_left_out,
    tracebacks,
)
from taskorch.errors import UnknownTaskError
from taskorch.reading import JournalReader
from taskorch.reading._why import explain_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
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
    add_traceback(parser)
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    with reader_of(args.journal, args.at) as reader:
        tell_left_out(reader)
        return _answer(args, reader)


def _tell_whole(args: argparse.Namespace, whole: dict[str, Any]) -> int:
    """Say why a run, or what a schedule makes, is as it is."""
    if args.json:
        print_json(whole)
        return OK
    print(in_commands(whole["text"], args.journal))
    command = "runs" if "run" in whole else "schedules"
    print(f"\ntaskorch {command} {line(args.journal)} show {line(args.task)}")
    return OK


def _tell_steps(args: argparse.Namespace, reader: Reader, explanation: Any) -> None:
    """Say the steps of a task, if who explains it has not seen them itself."""
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
    if args.json:
        print_json([group.to_dict() for group in stuck])
        return OK
    if stuck:
        print(in_commands("\n\n".join(map(str, stuck)), args.journal))
    else:
        print("Nothing is stuck.")
    if isinstance(reader, JournalReader) and reader.owner.lives is False:
        state = reader.get_stats().state_machine
        if state.pending + state.queued + state.running + state.retrying:
            print("No orchestrator has its journal open: nothing goes on by itself.")
    return OK
