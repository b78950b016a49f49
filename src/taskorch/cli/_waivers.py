"""`taskorch waivers`, `audit` and `receipt`: waivers, and what is said of the past."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from taskorch.cli import OK
from taskorch.cli._control import service
from taskorch.cli._terminal import (
    add_journal,
    add_json,
    is_url,
    line,
    print_json,
    seconds,
)
from taskorch.client import Client, ServiceError
from taskorch.errors import InvalidTaskError
from taskorch.governance import ConstitutionalRuntime, read_waivers
from taskorch.governance._waivers import STATES
from taskorch.kit.canonical import canonical
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.limits import NS
from taskorch.kit.words import some
from taskorch.reading import JournalReader

_SERVICE: Final = "http://127.0.0.1:8080"
#: What is said to verbs, as it stands at the command line.
_OPTIONS: Final = {
    "name": "POLICY or WAIVER",
    "reason": "--reason TEXT",
    "expires": "--expires TIME",
    "pattern": "--pattern PATTERN",
    "types": "--type PATTERN",
    "approvals": "--approvals N",
    "who": "--who NAME",
    "by": "--by NAME",
    "state": "--state STATE",
}
#: What each verb takes, and how many of these, the first ones, must be said.
_TAKES: Final[Mapping[str, tuple[tuple[str, ...], int]]] = {
    "list": (("state",), 0),
    "request": (tuple(name for name in _OPTIONS if name != "state"), 3),
    "revoke": (("name", "reason", "by"), 2),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    command = parser.prog.rpartition(" ")[2]
    add_journal(parser, services=True)
    if command == "waivers":
        _add_of_waivers(parser)
        add_json(parser)
        return
    parser.add_argument(
        "task", metavar="TASK", help="its id; of several runs the latest"
    )
    is_audit = command == "audit"
    parser.set_defaults(run=_audit if is_audit else _receipt)
    parser.add_argument(
        "--policies",
        metavar="FILE",
        action="append",
        default=[],
        help="of a journal: a file of policies, or a folder of such"
        if is_audit
        else "of a journal: a file of policies, which say how much is at risk",
    )
    if is_audit:
        add_json(parser)


def _add_of_waivers(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_waivers)
    parser.add_argument(
        "verb",
        choices=_TAKES,
        nargs="?",
        default="list",
        help="what to do (list); the others need a service. `answer` approves one",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="POLICY|WAIVER",
        help="of `request`, the policy; of `revoke`, the id of the waiver",
    )
    parser.add_argument("--state", choices=STATES, help="of `list`: only those")
    parser.add_argument(
        "--pattern", metavar="PATTERN", help="of `request`: for which ids of tasks (*)"
    )
    parser.add_argument(
        "--type",
        dest="types",
        action="append",
        metavar="PATTERN",
        help="of `request`: for which types of tasks (all); may be repeated",
    )
    parser.add_argument(
        "--expires", type=seconds, metavar="TIME", help="of `request`: in 8h, 7d"
    )
    parser.add_argument(
        "--approvals",
        type=int,
        metavar="N",
        help="of `request`: how many people must approve it (1)",
    )
    parser.add_argument(
        "--who",
        action="append",
        metavar="NAME",
        help="of `request`: who may approve it (anybody else); may be repeated",
    )
    parser.add_argument("--reason", metavar="TEXT", help="what it is for, or why not")
    parser.add_argument(
        "--by", metavar="NAME", help="who asks, or revokes, if no token says it"
    )


def _waivers(args: argparse.Namespace) -> int:
    names, needed = _TAKES[args.verb]
    options = [name for name in _OPTIONS if getattr(args, name) is not None]
    for name in options:
        if name not in names:
            msg = f"waivers {args.verb} takes no {_OPTIONS[name]}"
            raise InvalidTaskError(msg, hint="taskorch waivers --help")
    missing = [_OPTIONS[name] for name in names[:needed] if name not in options]
    if missing:
        msg = f"waivers {args.verb}: {some(missing)} must be said"
        raise InvalidTaskError(msg, hint="taskorch waivers --help")
    return _list(args) if args.verb == "list" else _change(args, options)


def _change(args: argparse.Namespace, options: list[str]) -> int:
    if not is_url(args.journal):
        msg = f"waivers {args.verb}: a journal has no policies, {args.journal} is one"
        raise InvalidTaskError(msg, hint=f"name the service that has it: {_SERVICE}")
    values = {
        name: getattr(args, name) for name in options if name not in ("name", "by")
    }
    is_request = args.verb == "request"
    # Whoever has a token with a name need not say it.
    values["requested_by" if is_request else "by"] = args.by
    with service(args.journal) as client:
        ask: Any = client.request_waiver if is_request else client.revoke_waiver
        try:
            waiver = ask(args.name, **values)
        except ServiceError as error:
            if args.by is not None or "by: it is missing" not in error.message:
                raise
            msg = f"waivers {args.verb}: the token does not say who asks"
            raise InvalidTaskError(msg, hint="--by NAME") from error
    if args.json:
        print_json(waiver)
        return OK
    print(line(waiver["text"]))
    if waiver["state"] == "asked":
        print(f"taskorch answer {args.journal} {waiver['id']} approve --by NAME")
    return OK


def _list(args: argparse.Namespace) -> int:
    if is_url(args.journal):
        with service(args.journal) as client:
            waivers = client.waivers(args.state)
    else:
        now = MonotonicClock().now_ns() / NS
        every = read_waivers(JournalReader(args.journal), now)
        waivers = [each.to_dict() for each in every if args.state in (None, each.state)]
    if args.json:
        print_json(waivers)
        return OK
    for each in waivers:
        print(line(each["text"]))
    if not waivers:
        print(f"No waiver is {args.state}." if args.state else "There are no waivers.")
    return OK


def _audit(args: argparse.Namespace) -> int:
    if is_url(args.journal):
        with _judging(args) as client:
            audit = client.audit(args.task)
    else:
        if not args.policies:
            msg = "audit: a journal has no policies"
            raise InvalidTaskError(msg, hint="--policies FILE")
        constitution = ConstitutionalRuntime.from_yaml(*args.policies)
        reader = JournalReader(args.journal)
        audit = constitution.audit_operation(args.task, reader).to_dict()
    if args.json:
        print_json(audit)
    else:
        print("\n".join(map(line, audit["text"].split("\n"))))
    return OK


def _receipt(args: argparse.Namespace) -> int:
    if is_url(args.journal):
        with _judging(args) as client:
            receipts = client.receipts(args.task)
    else:
        constitution = ConstitutionalRuntime.from_yaml(*args.policies)
        receipts = constitution.receipts(args.task, JournalReader(args.journal))
    for receipt in receipts:
        print(canonical(receipt).decode())
    return OK


def _judging(args: argparse.Namespace) -> AbstractContextManager[Client]:
    """A service, which judges by its own policies."""
    if args.policies:
        msg = "--policies: a service judges by its own"
        raise InvalidTaskError(msg, hint="leave it out, or name a journal")
    return service(args.journal)
