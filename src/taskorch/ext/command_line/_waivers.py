"""`taskorch waivers`, `audit` and `receipt`: waivers, and reports on the past."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import _groups
from taskorch.ext.command_line._control import call, service
from taskorch.ext.command_line._groups import ActGroup, ActView
from taskorch.ext.command_line._terminal import add_journal, is_url, line, signature
from taskorch.ext.governance import ConstitutionalRuntime, read_waivers
from taskorch.ext.views import JournalReader
from taskorch.kit.canonical import canonical
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import some

_SERVICE: Final = "http://127.0.0.1:8080"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command of *parser*."""
    _groups.add_arguments(parser, _GROUPS[parser.prog.rpartition(" ")[2]])


def _add_place(parser: argparse.ArgumentParser) -> None:
    add_journal(parser, services=True)


def _at(args: argparse.Namespace) -> AbstractContextManager[Client | None]:
    """Return a client of a service; None: a journal is read."""
    is_service = is_url(args.journal)
    if is_service and getattr(args, "policies", None):
        msg = "--policies: a service judges by its own"
        raise InvalidTaskError(msg, hint="leave it out, or name a journal")
    if not is_service and args.act not in ("", "list"):
        msg = f"waivers {args.act}: a journal has no policies, {args.journal} is one"
        raise InvalidTaskError(msg, hint=f"name the service that has it: {_SERVICE}")
    return service(args.journal) if is_service else nullcontext(None)


def _list(args: argparse.Namespace, client: Client | None, said: dict[str, Any]) -> Any:
    if client is not None:
        waivers = call(client, "governance.waivers", **said)
    else:
        now = MonotonicClock().now_ns() / NS
        every = read_waivers(JournalReader(args.journal), now)
        waivers = [each.to_dict() for each in every if args.state in (None, each.state)]
    # A list inside a list prints as one JSON document, not as a line for each waiver.
    return [waivers] if args.json else waivers


def _listed(args: argparse.Namespace, waivers: list[dict[str, Any]]) -> list[str]:
    none = f"No waiver is {args.state}." if args.state else "There are no waivers."
    return [line(each["text"]) for each in waivers] or [none]


def _change(args: argparse.Namespace, client: Client, said: dict[str, Any]) -> Any:
    return call(client, args.acts[args.act].path, **said)


def _changed(args: argparse.Namespace, waiver: dict[str, Any]) -> list[str]:
    whom = some(args.who) if args.who else f"anybody but {waiver['requested_by']}"
    command = f"taskorch answer {args.journal} {waiver['id']} approve"
    answer = f"{line(whom)} may approve it: {command}{signature(args.journal)}"
    return [line(waiver["text"]), *([answer] if waiver["state"] == "asked" else [])]


def _judge(
    args: argparse.Namespace, client: Client | None, said: dict[str, Any]
) -> Any:
    """Return the verdict on a task, by the policies of the service or of files."""
    path = args.acts[""].path
    if client is not None:
        return call(client, path, **said)
    if args.command == "audit" and not args.policies:
        msg = "audit: a journal has no policies"
        raise InvalidTaskError(msg, hint="--policies FILE")
    constitution = ConstitutionalRuntime.from_yaml(*(args.policies or ()))
    judge = getattr(constitution, path.removeprefix("governance."))
    return judge(journal=JournalReader(args.journal), **said)


def _of_task(
    lines: Callable[[argparse.Namespace, Any], Iterable[str]], policies: str
) -> ActGroup:
    """Return a command about the policies of one task."""
    return ActGroup(
        acts={"": ActView(call=_judge, lines=lines, takes=("policies",))},
        options={},
        place=_add_place,
        names=("TASK", None, "its id; of several runs the latest"),
        begin=lambda parser: parser.add_argument(
            "--policies", metavar="FILE", action="append", help=policies
        ),
        at=_at,
    )


_GROUPS: Final = {
    "audit": _of_task(
        lambda _, audit: map(line, audit["text"].split("\n")),
        "of a journal: a file of policies, or a folder of such",
    ),
    "receipt": _of_task(
        lambda _, receipts: (canonical(each).decode() for each in receipts),
        "of a journal: a file of policies, which say how much is at risk",
    ),
    "waivers": ActGroup(
        acts={
            "list": ActView(call=_list, lines=_listed),
            "request": ActView(call=_change, lines=_changed),
            "revoke": ActView(call=_change, lines=_changed),
        },
        options={
            "state": (None, "of `list`: only those"),
            "pattern": ("PATTERN", "of `request`: for which ids of tasks (*)"),
            "types": (
                "PATTERN",
                "of `request`: for which types of tasks (all); may be repeated",
            ),
            "expires": ("TIME", "of `request`: in 8h, 7d"),
            "approvals": ("N", "of `request`: how many people must approve it (1)"),
            "who": (
                "NAME",
                "of `request`: who may approve it (anybody else); may be repeated",
            ),
            "reason": ("TEXT", "what it is for, or why not"),
            "by": ("NAME", "who asks, or revokes, if no token says it"),
        },
        place=_add_place,
        names=(
            *("POLICY|WAIVER", "?"),
            "of `request`, the policy; of `revoke`, the id of the waiver",
        ),
        what="what to do (list); the others need a service. `answer` approves one",
        at=_at,
    ),
}
