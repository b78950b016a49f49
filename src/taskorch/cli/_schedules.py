"""`taskorch schedules`: what is made again and again, in a journal or a service."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from taskorch._configuration import TOKEN_VARIABLE
from taskorch.cli import FAILED, OK
from taskorch.cli._control import _journal, service
from taskorch.cli._target import read_document
from taskorch.cli._terminal import add_json, is_url, line, print_json
from taskorch.client import Client
from taskorch.errors import InvalidTaskError
from taskorch.schedules import Backfilled, Importable

_VERBS: Final = (
    *("list", "show", "add", "pause", "resume", "trigger", "backfill", "remove"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "journal",
        metavar="JOURNAL|URL",
        help="the file or address, while nobody uses it: runs.db, postgresql://…; or "
        "a service: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "verb", choices=_VERBS, nargs="?", default="list", help="what to do (list)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the schedule")
    parser.add_argument(
        "-n", type=int, default=5, metavar="N", help="how many slots `show` names (5)"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why it is paused")
    parser.add_argument("--since", metavar="TIME", help="where `backfill` begins")
    parser.add_argument("--until", metavar="TIME", help="where `backfill` ends")
    parser.add_argument(
        "--again",
        action="store_true",
        help="of `backfill`: run what has been made already again",
    )
    parser.add_argument(
        "--when", metavar="TIMES", help="of `add`: '0 3 * * *', or 'every 15m'"
    )
    parser.add_argument("--zone", metavar="ZONE", help="of `add`: Europe/Berlin (UTC)")
    parser.add_argument(
        "--catch-up", choices=("last", "all", "none"), help="of `add` (last)"
    )
    parser.add_argument(
        "--overlap", choices=("skip", "queue", "cancel"), help="of `add` (skip)"
    )
    parser.add_argument(
        "--jitter", type=float, metavar="SECONDS", help="of `add`: puts slots off"
    )
    parser.add_argument(
        "--workflow",
        type=Path,
        metavar="FILE",
        help="of `add`: the document of a workflow, which may say itself when it runs",
    )
    parser.add_argument(
        "--program",
        nargs=argparse.REMAINDER,
        metavar="WORD",
        help="of `add`, the last option: the program that is run, and its arguments",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if args.verb != "list" and args.name is None:
        msg = f"schedules {args.verb}: which schedule?"
        raise InvalidTaskError(msg, hint="its name stands behind that")
    is_service = is_url(args.journal)
    with service(args.journal) if is_service else _journal(args.journal) as there:
        if args.verb in ("list", "show"):
            return _show(args, there)
        return _change(args, there)


def _show(args: argparse.Namespace, there: Any) -> int:
    if args.verb == "show":
        said = _one(there, args.name, args.n)
        if args.json:
            print_json(said)
        else:
            print(line(said["text"]))
            for moment in said["coming"]:
                print(f"  {moment}")
        return OK
    found = _all(there)
    for said in found:
        if args.json:
            print_json(said)
        else:
            print(line(said["text"]))
    if not found and not args.json:
        print("There is no schedule.")
    return OK


def _all(there: Any) -> list[dict[str, Any]]:
    if isinstance(there, Client):
        return there.schedules()
    return [status.to_dict() for status in there.schedules.list()]


def _one(there: Any, name: str, count: int) -> dict[str, Any]:
    if isinstance(there, Client):
        return there.schedule(name, count)
    coming = [moment.isoformat() for moment in there.schedules.next(name, count)]
    return {**there.schedules.status(name).to_dict(), "coming": coming}


def _change(args: argparse.Namespace, there: Any) -> int:
    name, verb = args.name, args.verb
    if verb == "add":
        return _add(args, there)
    if verb in ("trigger", "backfill"):
        made = _made(args, there)
        if args.json:
            print_json({"schedule": name, "ids": made, "already": made.already})
            return OK
        done = "  already done (--again makes it again)"
        already = {*made.already}
        for made_id in made:
            print(line(made_id) + (done if made_id in already else ""))
        if not made:
            print(f"{line(name)} has no slot there")
        return OK
    if isinstance(there, Client):
        said = {"reason": args.reason} if verb == "pause" and args.reason else None
        changed = there.change_schedule(name, verb, said)
    elif verb == "pause":
        reason = args.reason or "paused by the user"
        changed = there.schedules.pause(name, reason)
    else:
        changed = getattr(there.schedules, verb)(name)
    if args.json:
        print_json({"schedule": name, "changed": changed})
    else:
        words = {"pause": "paused", "resume": "going on", "remove": "gone"}[verb]
        print(f"{line(name)} is {words}{'' if changed else ' already'}")
    return OK if changed else FAILED


def _made(args: argparse.Namespace, there: Any) -> Backfilled:
    if args.verb == "trigger":
        if isinstance(there, Client):
            return Backfilled(there.trigger_schedule(args.name))
        return Backfilled([there.schedules.trigger(args.name)])
    if args.since is None or args.until is None:
        msg = "backfill goes from --since TIME to --until TIME"
        raise InvalidTaskError(msg, hint="such as 2026-11-25T03:00")
    if isinstance(there, Client):
        return there.backfill_schedule(
            args.name, args.since, args.until, again=args.again
        )
    made: Backfilled = there.schedules.backfill(
        args.name, args.since, args.until, again=args.again
    )
    return made


def _add(args: argparse.Namespace, there: Any) -> int:
    if isinstance(there, Client):
        msg = "a service takes no new schedules: its program adds them"
        raise InvalidTaskError(msg, hint="orch.schedules.add(…), or taskorch.toml")
    if args.workflow is not None and args.program:
        msg = "schedules add: --workflow or --program, one of the two"
        raise InvalidTaskError(msg)
    options = ("when", "zone", "catch_up", "overlap", "jitter")
    said = {name: getattr(args, name) for name in options}
    said = {name: value for name, value in said.items() if value is not None}
    if args.workflow is not None:
        workflow = read_document(args.workflow, Importable())
        when = said.pop("when", None)
        status = there.schedules.add(args.name, when, workflow, **said)
    elif args.when is None or not args.program:
        msg = "schedules add: when, and what?"
        raise InvalidTaskError(msg, hint="--when '0 3 * * *' --program backup.sh")
    else:
        status = there.schedules.add_document(
            args.name, {**said, "task": {"program": args.program}}
        )
    if args.json:
        print_json(status.to_dict())
    else:
        print(line(str(status)))
        print("It runs while a program has this journal: taskorch serve FILE.py")
    return OK
