"""`taskorch schedules`: what is made again and again, in a journal or a service."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any, Final

from taskorch._settings.configuration import TOKEN_VARIABLE
from taskorch.cli import FAILED, OK
from taskorch.cli._control import _journal, service
from taskorch.cli._target import read_document
from taskorch.cli._terminal import (
    add_json,
    add_parameter,
    is_url,
    line,
    parameters_of,
    print_json,
)
from taskorch.client import Client
from taskorch.errors import InvalidTaskError
from taskorch.schedules import ORDERS, Backfilled, Importable

_VERBS: Final = (
    *("list", "show", "add", "pause", "resume", "trigger", "backfill", "remove"),
    *("backfills", "pause-backfill", "resume-backfill", "cancel-backfill"),
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
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the schedule; for `…-backfill`, the id of the backfill",
    )
    parser.add_argument(
        "-n", type=int, default=5, metavar="N", help="how many ticks `show` names (5)"
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
        "--limit",
        type=int,
        default=1,
        metavar="N",
        help="of `backfill`: how many of its runs go on at a time (1)",
    )
    parser.add_argument(
        "--order", choices=ORDERS, default="oldest", help="of `backfill` (oldest)"
    )
    parser.add_argument(
        "--stop-on-failure",
        action="store_true",
        help="of `backfill`: pause it once a run has failed",
    )
    parser.add_argument(
        "--running",
        action="store_true",
        help="of `cancel-backfill`: cancel what it has begun, too",
    )
    add_parameter(parser, "of `add`, `trigger` and `backfill`: ")
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
        "--jitter",
        type=float,
        metavar="SECONDS",
        help="of `add`: random delay of ticks",
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
    if args.verb not in ("list", "backfills") and args.name is None:
        msg = f"schedules {args.verb}: which {_subject(args.verb)}?"
        raise InvalidTaskError(msg, hint="its name stands behind that")
    is_service = is_url(args.journal)
    with service(args.journal) if is_service else _journal(args.journal) as orch:
        if args.verb in ("list", "show"):
            return _show(args, orch)
        if args.verb == "backfills":
            return _backfills(args, orch)
        return _change(args, orch)


def _show(args: argparse.Namespace, orch: Any) -> int:
    if args.verb == "show":
        status = _one(orch, args.name, args.n)
        if args.json:
            print_json(status)
        else:
            print(line(status["text"]))
            for moment in status["coming"]:
                print(f"  {moment}")
        return OK
    schedules = _all(orch)
    for status in schedules:
        if args.json:
            print_json(status)
        else:
            print(line(status["text"]))
    if not schedules and not args.json:
        print("There is no schedule.")
    return OK


def _subject(verb: str) -> str:
    return "backfill" if verb.endswith("-backfill") else "schedule"


def _backfills(args: argparse.Namespace, orch: Any) -> int:
    find = orch.find_backfills if isinstance(orch, Client) else orch.schedules.backfills
    for each in find(args.name or ""):
        status = each if isinstance(each, dict) else each.to_dict()
        if args.json:
            print_json(status)
        else:
            print(line(status["text"]))
    return OK


def _all(orch: Any) -> list[dict[str, Any]]:
    if isinstance(orch, Client):
        return orch.schedules()
    return [status.to_dict() for status in orch.schedules.list()]


def _one(orch: Any, name: str, count: int) -> dict[str, Any]:
    if isinstance(orch, Client):
        return orch.schedule(name, count)
    coming = [moment.isoformat() for moment in orch.schedules.next(name, count)]
    return {**orch.schedules.status(name).to_dict(), "coming": coming}


def _change(args: argparse.Namespace, orch: Any) -> int:
    name, verb = args.name, args.verb
    words = {"pause": "paused", "resume": "going on", "remove": "gone"}
    if verb == "add":
        return _add(args, orch)
    if verb in ("trigger", "backfill"):
        return _tell_made(args, orch)
    if _subject(verb) == "backfill":
        changed = _change_backfill(args, orch)
        words = {"pause": "paused", "resume": "going on", "cancel": "cancelled"}
    elif isinstance(orch, Client):
        body = {"reason": args.reason} if verb == "pause" and args.reason else None
        changed = orch.change_schedule(name, verb, body)
    elif verb == "pause":
        reason = args.reason or "paused by the user"
        changed = orch.schedules.pause(name, reason)
    else:
        changed = getattr(orch.schedules, verb)(name)
    if args.json:
        print_json({_subject(verb): name, "changed": changed})
    else:
        word = words[verb.partition("-")[0]]
        print(f"{line(name)} is {word}{'' if changed else ' already'}")
    return OK if changed else FAILED


def _tell_made(args: argparse.Namespace, orch: Any) -> int:
    name, run_ids = args.name, _made(args, orch)
    if args.json:
        report = {"schedule": name, "ids": run_ids, "already": run_ids.already}
        print_json({**report, "backfill_id": run_ids.backfill_id})
        return OK
    done = "  already done (--again makes it again)"
    already = {*run_ids.already}
    for run_id in run_ids:
        print(line(run_id) + (done if run_id in already else ""))
    if not run_ids:
        print(f"{line(name)} has no slot there")
    if run_ids.backfill_id:
        # Whoever reads ids from the output finds nothing else there.
        print(line(_told_of(orch, run_ids.backfill_id)), file=sys.stderr)
    return OK


def _change_backfill(args: argparse.Namespace, orch: Any) -> bool:
    host = orch if isinstance(orch, Client) else orch.schedules
    options: dict[str, Any] = {} if args.reason is None else {"reason": args.reason}
    if args.verb == "resume-backfill":
        return bool(host.resume_backfill(args.name))
    if args.verb == "pause-backfill":
        return bool(host.pause_backfill(args.name, **options))
    return bool(host.cancel_backfill(args.name, running=args.running, **options))


def _told_of(orch: Any, backfill_id: str) -> str:
    """How a backfill stands, in words."""
    if isinstance(orch, Client):
        return str(orch.backfill_status(backfill_id)["text"])
    return str(orch.schedules.backfill_status(backfill_id))


def _made(args: argparse.Namespace, orch: Any) -> Backfilled:
    parameters = parameters_of(args.parameters) or None
    if args.verb == "trigger":
        if isinstance(orch, Client):
            return Backfilled(orch.trigger_schedule(args.name, parameters))
        return Backfilled([orch.schedules.trigger(args.name, parameters)])
    if args.since is None or args.until is None:
        msg = "backfill goes from --since TIME to --until TIME"
        raise InvalidTaskError(msg, hint="such as 2026-11-25T03:00")
    is_remote = isinstance(orch, Client)
    backfill = orch.backfill_schedule if is_remote else orch.schedules.backfill
    backfilled: Backfilled = backfill(
        *(args.name, args.since, args.until),
        again=args.again,
        parameters=parameters,
        limit=args.limit,
        order=args.order,
        stop_on_failure=args.stop_on_failure,
        by=_user(),
    )
    return backfilled


def _user() -> str:
    """Who calls the command; "" if the system does not know."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return ""


def _add(args: argparse.Namespace, orch: Any) -> int:
    if isinstance(orch, Client):
        msg = "a service takes no new schedules: its program adds them"
        raise InvalidTaskError(msg, hint="orch.schedules.add(…), or taskorch.toml")
    if args.workflow is not None and args.program:
        msg = "schedules add: --workflow or --program, one of the two"
        raise InvalidTaskError(msg)
    options = ("when", "zone", "catch_up", "overlap", "jitter")
    fields = {name: getattr(args, name) for name in options}
    fields = {name: value for name, value in fields.items() if value is not None}
    if args.parameters:
        fields["parameters"] = parameters_of(args.parameters)
    if args.workflow is not None:
        workflow = read_document(args.workflow, Importable())
        when = fields.pop("when", None)
        status = orch.schedules.add(args.name, when, workflow, **fields)
    elif args.when is None or not args.program:
        msg = "schedules add: when, and what?"
        raise InvalidTaskError(msg, hint="--when '0 3 * * *' --program backup.sh")
    else:
        status = orch.schedules.add_document(
            args.name, {**fields, "task": {"program": args.program}}
        )
    if args.json:
        print_json(status.to_dict())
    else:
        print(line(str(status)))
        print("It runs while a program has this journal: taskorch serve FILE.py")
    return OK
