"""`taskorch waivers`, `audit` and `receipt`: what a journal says of policies."""

from __future__ import annotations

import argparse

from taskorch._base.limits import NS
from taskorch.cli import OK
from taskorch.cli._terminal import add_journal, add_json, line, print_json
from taskorch.governance import ConstitutionalRuntime, canonical, read_waivers
from taskorch.governance._waivers import STATES
from taskorch.reading import JournalReader
from taskorch.runtime import MonotonicClock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    command = parser.prog.rpartition(" ")[2]
    add_journal(parser)
    if command == "waivers":
        parser.set_defaults(run=_list)
        parser.add_argument("--state", choices=STATES, help="only those in this state")
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
        required=is_audit,
        help="a file of policies, or a folder of such"
        if is_audit
        else "a file of policies, which say how much is at risk",
    )
    if is_audit:
        add_json(parser)


def _list(args: argparse.Namespace) -> int:
    waivers = read_waivers(JournalReader(args.journal), MonotonicClock().now_ns() / NS)
    waivers = [each for each in waivers if args.state in (None, each.state)]
    if args.json:
        print_json([each.to_dict() for each in waivers])
        return OK
    for each in waivers:
        print(line(str(each)))
    if not waivers:
        print(f"No waiver is {args.state}." if args.state else "There are no waivers.")
    return OK


def _audit(args: argparse.Namespace) -> int:
    constitution = ConstitutionalRuntime.from_yaml(*args.policies)
    audit = constitution.audit_operation(args.task, JournalReader(args.journal))
    if args.json:
        print_json(audit.to_dict())
    else:
        print("\n".join(map(line, str(audit).split("\n"))))
    return OK


def _receipt(args: argparse.Namespace) -> int:
    constitution = ConstitutionalRuntime.from_yaml(*args.policies)
    for receipt in constitution.receipts(args.task, JournalReader(args.journal)):
        print(canonical(receipt).decode())
    return OK
