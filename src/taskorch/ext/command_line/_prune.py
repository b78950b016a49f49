"""`taskorch prune`: remove old tasks from a journal, or from that of a service."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.core.journal import SqliteJournal, open_journal
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._control import naming_service, service
from taskorch.ext.command_line._terminal import (
    add_json,
    is_agreed,
    is_url,
    line,
    print_json,
    seconds,
    size,
)
from taskorch.ext.retention import foreseen, prune
from taskorch.ext.views import JournalReader
from taskorch.kit.checks import check_count
from taskorch.kit.visible import counted, show
from taskorch.model import Retention

_WHY: Final = "what is forgotten is gone for good"
_HINT: Final = "look with --dry-run, then say --yes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL",
        help="the file or address, while nobody uses it: runs.db, postgresql://…; or "
        "a service, which goes on meanwhile: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "--older-than",
        type=seconds,
        metavar="TIME",
        help="what ended longer ago, unless something that stays is bound to it: 30d",
    )
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="all that ended but the latest N tasks; with --schedule, N runs",
    )
    parser.add_argument(
        "--schedule", default="", metavar="NAME", help="only what this has made"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say how many tasks that would be"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before")
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.keep is not None:
        check_count("--keep", args.keep, least=0)
    if is_url(args.journal):
        return _of_service(args)
    if args.older_than is None and args.keep is None:
        msg = "nothing says what is to leave it"
        raise InvalidTaskError(msg, hint="--older-than 30d, or --keep 10000")
    retention = Retention(args.older_than, args.keep)
    now = time.time_ns()  # noqa: TID251 - the age of what is on the disk
    with naming_service(), closing(open_journal(args.journal)) as journal:
        # The journal must exist already, because a claim would make a new one.
        JournalReader(journal)
        path = journal.path if isinstance(journal, SqliteJournal) else None
        before = _size(path)
        place = path or journal.description()
        schedule = args.schedule
        # While somebody is asked, nobody else begins with the journal.
        epoch = None if args.dry_run else journal.claim()
        count = 0
        if not args.yes or epoch is None:
            old = foreseen(journal, retention, now, schedule=schedule, by_hand=True)
            count = old.tasks
        if epoch is not None:
            if count and not args.yes:
                if not args.json:
                    print(_foreseen(count, place))
                if not is_agreed(_WHY, _HINT):
                    return FAILED
            count = prune(
                journal, epoch, retention, now, schedule=schedule, by_hand=True
            )
    report = {
        "tasks": count,
        "bytes_before": before,
        "bytes_after": _size(path),
        "dry_run": args.dry_run,
    }
    if args.json:
        print_json({name: each for name, each in report.items() if each is not None})
    else:
        _tell(args, place, count, before, _size(path))
    return OK


def _of_service(args: argparse.Namespace) -> int:
    """Show what a service would forget, then let it forget."""
    options = {"schedule": args.schedule}
    if args.older_than is not None:
        options["older_than"] = args.older_than
    if args.keep is not None:
        options["keep_latest"] = args.keep
    with service(args.journal) as client:
        pruned = client.prune(**options, dry_run=True)
        _tell_of_nothing(args, pruned["tasks"])
        if not (args.dry_run or args.yes or args.json):
            print(line(pruned["text"]))
        if not args.dry_run and pruned["tasks"]:
            if not (args.yes or is_agreed(_WHY, _HINT)):
                return FAILED
            pruned = client.prune(**options)
    if args.json:
        print_json(pruned)
    elif args.dry_run or args.yes or not pruned["dry_run"]:
        print(line(pruned["text"]))
    return OK


def _size(path: Path | None) -> int | None:
    """Return the bytes of the file; None: a database makes room by itself."""
    return None if path is None else path.stat().st_size


def _tell_of_nothing(args: argparse.Namespace, count: int) -> None:
    """Print that nothing of the schedule is there, if that is so."""
    if args.schedule and not (count or args.json):
        # A name without a schedule may be a misspelt one, or one of a removed schedule.
        print(f"Nothing of a schedule {show(args.schedule)} is there to be removed.")


def _foreseen(count: int, place: Path | str) -> str:
    return f"{counted(count, 'task')} would be removed from {place}."


def _tell(
    args: argparse.Namespace,
    path: Path | str,
    count: int,
    before: int | None,
    after: int | None,
) -> None:
    tasks = counted(count, "task")
    _tell_of_nothing(args, count)
    if args.dry_run:
        print(_foreseen(count, path))
        return
    verb = "was" if count == 1 else "were"
    sizes = ""
    if before is not None and after is not None:
        sizes = f": {size(before)} before, {size(after)} now"
    print(f"{tasks} {verb} removed from {path}{sizes}.")
