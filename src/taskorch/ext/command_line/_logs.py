"""`taskorch logs`: the log and the output of a task."""

from __future__ import annotations

import argparse
import sys
import time

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._source import Reader, reader_of
from taskorch.ext.command_line._terminal import (
    add_journal,
    add_json,
    print_json,
    seconds,
)
from taskorch.kit.visible import counted, visible
from taskorch.model import TERMINAL, TaskLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    add_journal(parser, services=True)
    parser.add_argument("task", metavar="TASK", help="its id")
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="an earlier attempt, from 1"
    )
    parser.add_argument(
        "--follow",
        "-f",
        action="store_true",
        help="go on with what it writes, its later attempts too, until it has ended",
    )
    parser.add_argument(
        "--every", type=seconds, default=0.5, metavar="TIME", help="(default: 0.5s)"
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.follow and (args.json or args.attempt is not None):
        other = "--json" if args.json else "--attempt"
        msg = f"--follow and {other} do not go together"
        raise InvalidTaskError(msg, hint="leave out one of them")
    with reader_of(args.journal) as reader:
        if args.follow:
            return _follow(args, reader)
        if args.json:
            print_json(_whole(args, reader).to_dict())
            return OK
        log = _show(args, reader, args.attempt, 0)
        if not log.exists:
            print(_nothing(args, reader, log), file=sys.stderr)
            return FAILED
        return OK


def _show(
    args: argparse.Namespace, reader: Reader, attempt: int | None, after: int
) -> TaskLog:
    """Show the output of an attempt *after* a byte; return the last part of it."""
    while True:
        log = reader.log(args.task, attempt=attempt, after=after)
        lines = log.text.split("\n")
        print("\n".join(map(visible, lines)), end="", flush=True)
        if log.next == after:
            return log
        attempt, after = log.attempt, log.next


def _whole(args: argparse.Namespace, reader: Reader) -> TaskLog:
    """Return all output of an attempt, in one piece."""
    log = reader.log(args.task, attempt=args.attempt, after=0)
    while True:
        part = reader.log(args.task, attempt=log.attempt, after=log.next)
        if part.next == log.next:
            return log
        log = attrs.evolve(part, text=log.text + part.text)


def _follow(args: argparse.Namespace, reader: Reader) -> int:
    attempt, after = 0, 0
    while True:
        status = reader.get_task_status(args.task)
        # An attempt that ended between two looks wrote all of its output before this
        # one.
        if status.attempts != attempt:
            if attempt:
                _show(args, reader, attempt, after)
                print(f"--- attempt {status.attempts} ---", flush=True)
            attempt, after = status.attempts, 0
        after = _show(args, reader, attempt, after).next
        if status.state in TERMINAL:
            return OK
        time.sleep(args.every)


def _nothing(args: argparse.Namespace, reader: Reader, log: TaskLog) -> str:
    """Return why there is no output."""
    status = reader.get_task_status(args.task)
    if not status.attempts:
        return f"{visible(status.task_id)} has not begun: it has logged nothing."
    if not 1 <= log.attempt <= status.attempts:
        return f"{visible(status.task_id)} has {counted(status.attempts, 'attempt')}."
    return f"Attempt {log.attempt} of {visible(status.task_id)} has logged nothing."
