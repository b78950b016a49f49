"""`taskorch tokens`: the tokens of users of a service, and their rights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.errors import InvalidTaskError
from taskorch.ext.command_line import OK
from taskorch.ext.command_line._control import service
from taskorch.ext.command_line._terminal import (
    add_json,
    is_url,
    line,
    moment,
    seconds,
    table,
    tell,
)
from taskorch.ext.people import GRACE, Tokens

_VERBS: Final = ("list", "add", "rotate", "change", "revoke", "role")
_HEADS: Final = ("NAME", "KIND", "ROLES", "TENANTS", "EXPIRES", "USED", "ID")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=_run)
    parser.add_argument(
        "place",
        metavar="FILE|URL",
        help="the file of the tokens; or a service that has one: "
        f"http://127.0.0.1:8080, whose token is in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "verb", choices=_VERBS, nargs="?", default="list", help="what to do (list)"
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="whose token; of `change` and `revoke`, its id will do; of `role`, its "
        "name, and the verbs that it stands for: none removes it",
    )
    parser.add_argument(
        "--role",
        action="append",
        metavar="ROLE",
        help="look, submit, operate, administer, worker, speak_for, or one of your "
        "own; may be given again",
    )
    parser.add_argument(
        "--tenant",
        action="append",
        metavar="NAME",
        help="a tenant that the holder is bound to; may be given again",
    )
    parser.add_argument(
        "--program", action="store_true", help="of `add`: a program has the token"
    )
    parser.add_argument(
        "--lasts", type=seconds, metavar="TIME", help="until it ends: 90d (for ever)"
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE,
        metavar="TIME",
        help="of `rotate`: how long the token of before is one, too (1 day)",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if is_url(args.place):
        with service(args.place) as client:
            return _act(args, _OfService(client._ask))  # noqa: SLF001 - it has no other way
    return _act(args, Tokens(args.place))


def _act(args: argparse.Namespace, place: Tokens | _OfService) -> int:
    verb, names = args.verb, args.names
    needed = {"list": 0, "role": None}.get(verb, 1)
    if (needed is not None and len(names) != needed) or (verb == "role" and not names):
        whose = "no name" if needed == 0 else "one name"
        msg = f"tokens {verb}: {whose} stands behind that"
        raise InvalidTaskError(msg, hint=f"taskorch tokens {args.place} {verb} NAME")
    if verb == "list":
        _list(args, _documents(place))
    elif verb == "add":
        kind = "program" if args.program else "person"
        bound = {"tenants": args.tenant, "kind": kind, "lasts": args.lasts}
        _tell(args, names[0], place.add(names[0], args.role or [], **bound))
    elif verb == "rotate":
        token = place.rotate(names[0], grace=args.grace, lasts=args.lasts)
        _tell(args, names[0], token)
    elif verb == "role":
        place.set_role(names[0], names[1:])
        tell(args, {"role": names[0]}, f"{line(names[0])} is changed")
    else:
        if verb == "change":
            count = place.change(names[0], roles=args.role, tenants=args.tenant)
        else:
            count = place.revoke(names[0])
        done = "changed" if verb == "change" else "revoked"
        tell(args, {"count": count}, f"{done}: {count}")
    return OK


def _documents(place: Tokens | _OfService) -> Mapping[str, Any]:
    """Return the tokens and the roles of a file, or of a service."""
    if isinstance(place, _OfService):
        return place.list()
    return {"tokens": [each.to_dict() for each in place.list()], "roles": place.roles}


def _list(args: argparse.Namespace, document: Mapping[str, Any]) -> None:
    tokens = [*_rows(document["tokens"])]
    roles = [
        f"role {line(name)}: {', '.join(map(line, verbs))}"
        for name, verbs in document["roles"].items()
    ]
    first = table(_HEADS, tokens) if tokens else "There are no tokens."
    tell(args, document, first, *roles)


def _rows(tokens: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for each in tokens:
        times = [
            "" if each[name] is None else moment(datetime.fromisoformat(each[name]))
            for name in ("expires", "used")
        ]
        tenants = each["tenants"]
        yield [
            line(each["name"]),
            each["kind"],
            line(", ".join(each["roles"])),
            "all" if tenants is None else line(", ".join(tenants)) or "none",
            times[0] or "never",
            times[1] or "-",
            each["id"],
        ]


def _tell(args: argparse.Namespace, name: str, token: str) -> None:
    tell(args, {"token": token}, f"{line(name)}, shown once: {token}")


class _OfService:
    """The tokens of a service, with the methods of `Tokens`."""

    def __init__(self, ask: Callable[..., dict[str, Any]]) -> None:
        self._ask = ask

    def list(self) -> dict[str, Any]:
        return self._ask("GET", "/tokens")

    def add(self, name: str, roles: Sequence[str], **fields: Any) -> str:
        body = {"name": name, "roles": roles, **_told(fields)}
        return str(self._ask("POST", "/tokens", body)["token"])

    def rotate(self, name: str, **fields: Any) -> str:
        answer = self._ask("POST", f"{_path(name)}/rotate", _told(fields))
        return str(answer["token"])

    def change(self, which: str, **fields: Any) -> int:
        answer = self._ask("POST", f"{_path(which)}/change", _told(fields))
        return int(answer["count"])

    def revoke(self, which: str) -> int:
        return int(self._ask("POST", f"{_path(which)}/revoke")["count"])

    def set_role(self, name: str, verbs: Sequence[str]) -> None:
        self._ask("POST", "/roles", {"name": name, "verbs": [*verbs]})


def _path(which: str) -> str:
    return f"/tokens/{quote(which, safe='')}"


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
