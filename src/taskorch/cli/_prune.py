"""`taskorch prune`: what ended long ago leaves a journal that nobody uses."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

from taskorch._base.visible import counted
from taskorch.cli import OK
from taskorch.cli._terminal import add_journal, add_json, print_json, seconds, size
from taskorch.errors import InvalidTaskError
from taskorch.journal import SqliteJournal, open_journal
from taskorch.model import Retention, check_count
from taskorch.reading import JournalReader
from taskorch.runtime import forgettable, prune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.set_defaults(run=_run)
    add_journal(parser)
    parser.add_argument(
        "--older-than",
        type=seconds,
        metavar="TIME",
        help="what ended longer ago, unless something that stays is bound to it: 30d",
    )
    parser.add_argument(
        "--keep", type=int, metavar="N", help="all that ended but the latest N tasks"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say how many tasks that would be"
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.older_than is None and args.keep is None:
        msg = "nothing says what is to leave it"
        raise InvalidTaskError(msg, hint="--older-than 30d, or --keep 10000")
    if args.keep is not None:
        check_count("--keep", args.keep, least=0)
    retention = Retention(args.older_than, args.keep)
    now = time.time_ns()  # noqa: TID251 - the age of what is on the disk
    with closing(open_journal(args.journal)) as journal:
        # It must be there: to claim one makes it.
        JournalReader(journal)
        path = journal.path if isinstance(journal, SqliteJournal) else None
        before = _size(path)
        if args.dry_run:
            facts = (fact for fact, _ in journal.read())
            count = len(forgettable(facts, retention, now))
        else:
            count = prune(journal, journal.claim(), retention, now)
    report = {
        "tasks": count,
        "bytes_before": before,
        "bytes_after": _size(path),
        "dry_run": args.dry_run,
    }
    if args.json:
        print_json({name: each for name, each in report.items() if each is not None})
    else:
        _tell(args, path or journal.description(), count, before, _size(path))
    return OK


def _size(path: Path | None) -> int | None:
    """Bytes of the file; None: a server has it, which makes room by itself."""
    return None if path is None else path.stat().st_size


def _tell(
    args: argparse.Namespace,
    path: Path | str,
    count: int,
    before: int | None,
    after: int | None,
) -> None:
    tasks = counted(count, "task")
    if args.dry_run:
        print(f"{tasks} would be removed from {path}.")
        return
    verb = "was" if count == 1 else "were"
    sizes = ""
    if before is not None and after is not None:
        sizes = f": {size(before)} before, {size(after)} now"
    print(f"{tasks} {verb} removed from {path}{sizes}.")
