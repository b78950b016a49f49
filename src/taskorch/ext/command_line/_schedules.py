"""`taskorch schedules`: the schedules of a journal or a service."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any, Final

from taskorch.api.verbs.table import as_json
from taskorch.errors import InvalidTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import _groups
from taskorch.ext.command_line._control import add_place, call
from taskorch.ext.command_line._groups import ActGroup, ActView
from taskorch.ext.command_line._target import read_document
from taskorch.ext.command_line._terminal import line, parameters_of, proves_name
from taskorch.ext.schedules import Importable

#: The most ticks that `show` names, as those of a service.
_MOST_TICKS: Final = 1_000
_WORKFLOW: Final = "the document of a workflow, which may say itself when it runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    _groups.add_arguments(parser, _GROUP)


def _add_of_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", type=int, metavar="N", help="how many ticks `show` names (5)"
    )


def _add_of_add(parser: argparse.ArgumentParser) -> None:
    own: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("when", "'0 3 * * *', or 'every 15m'", {"metavar": "TIMES"}),
        ("zone", "Europe/Berlin (UTC)", {"metavar": "ZONE"}),
        ("catch-up", "(last)", {"choices": ("last", "all", "none")}),
        ("overlap", "(skip)", {"choices": ("skip", "queue", "cancel")}),
        ("jitter", "random delay of ticks", {"type": float, "metavar": "SECONDS"}),
        ("workflow", _WORKFLOW, {"type": Path, "metavar": "FILE"}),
    )
    for name, text, kind in own:
        colon = "" if text.startswith("(") else ":"
        parser.add_argument(f"--{name}", help=f"of `add`{colon} {text}", **kind)
    parser.add_argument(
        "--program",
        nargs=argparse.REMAINDER,
        metavar="WORD",
        help="of `add`, the last option: the program that is run, and its arguments",
    )


def _show(args: argparse.Namespace, orch: Any, said: dict[str, Any]) -> dict[str, Any]:
    name, count = said["name"], 5 if args.n is None else args.n
    if not 1 <= count <= _MOST_TICKS:
        msg = f"-n {count}: a number of ticks from 1 to {_MOST_TICKS:,} is needed"
        raise InvalidTaskError(msg)
    if isinstance(orch, Client):
        return orch.schedule(name, count)
    coming = [moment.isoformat() for moment in orch.schedules.next(name, count)]
    return {**call(orch, "schedules.status", name).to_dict(), "coming": coming}


def _coming(_: argparse.Namespace, status: dict[str, Any]) -> list[str]:
    return [line(status["text"]), *(f"  {moment}" for moment in status["coming"])]


def _make(args: argparse.Namespace, orch: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Make runs, as JSON has it, with the status of their backfill."""
    ids = call(orch, args.acts[args.act].path, **said)
    ids = [ids] if isinstance(ids, str) else ids
    backfill_id = getattr(ids, "backfill_id", "")
    if backfill_id and not args.json:
        status = as_json(call(orch, "schedules.backfill_status", backfill_id))
        # A program that reads ids from the output must find nothing else.
        print(line(status["text"]), file=sys.stderr)
    report = {"schedule": said["name"], "ids": [*ids]}
    already = [*getattr(ids, "already", ())]
    return {**report, "already": already, "backfill_id": backfill_id}


def _made(_: argparse.Namespace, made: dict[str, Any]) -> list[str]:
    done = "  already done (--again makes it again)"
    lines = [line(each) + done * (each in made["already"]) for each in made["ids"]]
    return lines or [f"{line(made['schedule'])} has no tick there"]


def _user(args: argparse.Namespace) -> str | None:
    """Return the user of the command by the system; None: a token proves the name."""
    if proves_name(args.journal):
        return None
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return None


def _add(args: argparse.Namespace, orch: Any, _: dict[str, Any]) -> Any:
    if len(args.names) != 1:
        msg = "schedules add: SCHEDULE must be said, once"
        raise InvalidTaskError(msg, hint="taskorch schedules --help")
    name = args.names[0]
    if isinstance(orch, Client):
        msg = "a service takes no new schedules: its program adds them"
        raise InvalidTaskError(msg, hint="orch.schedules.add(…), or taskorch.toml")
    if args.workflow is not None and args.program:
        msg = "schedules add: --workflow or --program, one of the two"
        raise InvalidTaskError(msg)
    fields = {option: getattr(args, option) for option in _WHEN}
    fields = {option: value for option, value in fields.items() if value is not None}
    if args.parameters:
        fields["parameters"] = parameters_of(args.parameters)
    if args.workflow is not None:
        workflow = read_document(args.workflow, Importable())
        return orch.schedules.add(name, fields.pop("when", None), workflow, **fields)
    if args.when is None or not args.program:
        msg = "schedules add: when, and what?"
        raise InvalidTaskError(msg, hint="--when '0 3 * * *' --program backup.sh")
    task = {"program": args.program}
    return orch.schedules.add_document(name, {**fields, "task": task})


def _added(_: argparse.Namespace, status: dict[str, Any]) -> list[str]:
    when = "It runs while a program has this journal: taskorch serve FILE.py"
    return [line(status["text"]), when]


_PARAMETER: Final = (
    "of `add`, `trigger` and `backfill`: the value of a parameter; may be repeated"
)
_PAUSED: Final = ActView(("is paused", " already"))
_RESUMED: Final = ActView(("is going on", " already"))
_WHEN: Final = ("when", "zone", "catch_up", "overlap", "jitter")
_GROUP: Final = ActGroup(
    acts={
        "list": ActView(none="There is no schedule."),
        "show": ActView(call=_show, lines=_coming, takes=("n",)),
        "add": ActView(
            call=_add,
            lines=_added,
            takes=(*_WHEN, "workflow", "program", "parameters"),
        ),
        "pause": _PAUSED,
        "resume": _RESUMED,
        "trigger": ActView(call=_make, lines=_made),
        "backfill": ActView(call=_make, lines=_made, says={"by": _user}),
        "remove": ActView(("is gone", " already")),
        "backfills": ActView(),
        "pause-backfill": _PAUSED,
        "resume-backfill": _RESUMED,
        "cancel-backfill": ActView(("is cancelled", " already")),
    },
    options={
        "reason": ("TEXT", "why it is paused"),
        "since": ("TIME", "where `backfill` begins"),
        "until": ("TIME", "where `backfill` ends"),
        "again": (None, "of `backfill`: run what has been made already again"),
        "limit": ("N", "of `backfill`: how many of its runs go on at a time (1)"),
        "order": (None, "of `backfill` (oldest)"),
        "stop_on_failure": (None, "of `backfill`: pause it once a run has failed"),
        "running": (None, "of `cancel-backfill`: cancel what it has begun, too"),
        "by": ("NAME", "of `backfill`: who asks, if no token says it (you)"),
        "parameters": ("NAME=VALUE", _PARAMETER),
    },
    place=add_place,
    names=("NAME", "?", "the schedule; for `…-backfill`, the id of the backfill"),
    begin=_add_of_show,
    end=_add_of_add,
)
