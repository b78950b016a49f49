"""`taskorch verify`, `checkpoint`, `prove`: that nothing of a journal was changed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import FAILED, OK
from taskorch.ext.command_line._terminal import (
    add_journal,
    add_json,
    line,
    print_json,
    tell,
)
from taskorch.kit.visible import visible

_PLACE = "a file, git:FOLDER or git:FOLDER@REF"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command of *parser*."""
    name = (parser.prog or "").rpartition(" ")[2]
    {"checkpoint": _add_checkpoint, "prove": _add_prove}.get(name, _add_verify)(parser)


def _add_anchors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="PLACE",
        help=f"where checkpoints are kept: {_PLACE}; may be given again",
    )
    parser.add_argument(
        "--trust",
        action="append",
        metavar="FILE",
        help="public keys, one a line: only what they have signed counts",
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_verify)
    add_journal(parser)
    _add_anchors(parser)
    add_json(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_checkpoint)
    parser.add_argument(
        "journal", metavar="JOURNAL", nargs="?", help="the file, or the address"
    )
    parser.add_argument("--key", metavar="FILE", help="what signs it")
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="PLACE",
        help=f"where it is kept: {_PLACE}, or the URL of a webhook; may be given again",
    )
    parser.add_argument(
        "--new-key", metavar="FILE", help="make a key, and FILE.pub, in place of that"
    )
    parser.add_argument("--name", help="whose key that is (default: the file's name)")
    add_json(parser)


def _add_prove(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_prove)
    parser.add_argument(
        "journal", metavar="JOURNAL", nargs="?", help="the file, or the address"
    )
    parser.add_argument(
        "event",
        metavar="EVENT",
        nargs="?",
        type=int,
        help="the number of an event; without one, that the latest checkpoint extends "
        "the first",
    )
    _add_anchors(parser)
    parser.add_argument(
        "--check", metavar="FILE", help="check a proof, in place of that; -: of stdin"
    )
    add_json(parser)


def _verify(args: argparse.Namespace) -> int:
    from taskorch.ext.proofs import verify  # noqa: PLC0415 - when needed

    result = verify(args.journal, args.anchor, trust=args.trust)
    tell(args, result.to_dict(), *map(line, str(result).splitlines()))
    return OK if result.ok else FAILED


def _checkpoint(args: argparse.Namespace) -> int:
    from taskorch.ext.proofs import make_checkpoint, make_key  # noqa: PLC0415 - when needed

    if args.new_key is not None:
        if args.journal is not None:
            msg = "a key is made, or a checkpoint: not both at once"
            raise InvalidTaskError(msg, hint="leave out JOURNAL, then run it again")
        key = make_key(args.new_key, args.name)
        public = f"{args.new_key}.pub"
        lines = [
            f"{args.new_key} has the key {key}: keep it secret.",
            f"{public} is for those who check what it signs.",
        ]
        tell(args, {"key": key, "public": public}, *map(line, lines))
        return OK
    if args.journal is None or args.key is None:
        msg = "a checkpoint needs a journal and a key"
        hint = "taskorch checkpoint JOURNAL --key FILE --to PLACE; --new-key FILE"
        raise InvalidTaskError(msg, hint=hint)
    checkpoint = make_checkpoint(args.journal, args.key, to=args.to)
    text = visible(str(checkpoint)).removesuffix("\n")
    if args.to:
        event = f"event {checkpoint.last}, {checkpoint.at}"
        text = line(f"Checkpoint of {event}, is kept in {', '.join(args.to)}.")
    tell(args, {"checkpoint": str(checkpoint), "places": args.to}, text)
    return OK


def _prove(args: argparse.Namespace) -> int:
    from taskorch.ext.proofs import (  # noqa: PLC0415 - when needed
        check_proof,
        prove_event,
        prove_extension,
    )

    if args.check is not None:
        proved = check_proof(_proof_of(args.check), args.trust or [])
        point, later, signer = proved.checkpoint, proved.later, proved.signed_by
        document = {
            "row": proved.row,
            "checkpoint": str(point),
            "later": None if later is None else str(later),
            "signed_by": signer,
        }
        if later is None:
            head = line(f"In the journal {point.log} by {point.at}, signed by")
            lines = [head, line(f"{signer}:"), visible(proved.row)]
        else:
            text = (
                f"The journal {point.log} of {later.at} (event {later.last}) extends "
                f"that of {point.at} (event {point.last}), signed by {signer}."
            )
            lines = [line(text)]
        tell(args, document, *lines)
        return OK
    if args.journal is None or not args.anchor:
        msg = "a proof needs a journal, and a place with checkpoints of it"
        raise InvalidTaskError(msg, hint="taskorch prove JOURNAL EVENT --anchor PLACE")
    if args.event is None:
        print_json(prove_extension(args.journal, args.anchor))
    else:
        print_json(prove_event(args.journal, args.event, args.anchor))
    return OK


def _proof_of(name: str) -> dict[str, Any]:
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    try:
        proof: dict[str, Any] = json.loads(text)
    except ValueError as error:
        msg = f"{name} has no proof: it is no JSON"
        raise InvalidTaskError(msg, hint="taskorch prove makes them") from error
    return proof
