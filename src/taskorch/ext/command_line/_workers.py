"""`taskorch agents` and `alerts`: the workers of a service."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from taskorch.api._settings.configuration import TOKEN_VARIABLE
from taskorch.errors import InvalidTaskError
from taskorch.ext.client import Client
from taskorch.ext.command_line import FAILED, OK, _groups
from taskorch.ext.command_line._control import call, service
from taskorch.ext.command_line._groups import ActGroup, ActView
from taskorch.ext.command_line._terminal import (
    add_json,
    is_url,
    line,
    moment,
    print_json,
    table,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command of *parser*."""
    if parser.prog.endswith(" agents"):
        _groups.add_arguments(parser, _GROUP)
        return
    parser.set_defaults(run=_alerts)
    _add_url(parser)
    add_json(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="a service: http://127.0.0.1:8080, whose token is in "
        f"{TOKEN_VARIABLE}; workers are there while it runs",
    )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", metavar="ID", help="of `spawn`: the id it has")


def _at(args: argparse.Namespace) -> AbstractContextManager[Client]:
    if not is_url(args.url):
        msg = f"{args.url!r} is no address of a service, and workers are there only"
        raise InvalidTaskError(msg, hint="http://127.0.0.1:8080")
    return service(args.url)


def _alerts(args: argparse.Namespace) -> int:
    with _at(args) as client:
        alerts = client.alerts()
    if args.json:
        for each in alerts:
            print_json(each)
        return OK
    # Workers without a lease have no data.
    shown = [each for each in alerts if each["state"] != "no data"]
    shown += [each for each in alerts if each not in shown and not each["subject"]]
    print("\n".join(map(_alert, shown)) or "No alert is watched.")
    return OK


def _spawn(args: argparse.Namespace, client: Client, said: dict[str, Any]) -> Any:
    if args.id is not None:
        said["config"] = {**said.get("config", {}), "id": args.id}
    return call(client, "agents.spawn", **said)


def _fields(_: argparse.Namespace, worker: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {line(value if isinstance(value, str) else json.dumps(value))}"
        for name, value in worker.items()
        if value not in (None, {}, [])
    ]


def _matched(_: argparse.Namespace, matches: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        f"{'yes' if one['matches'] else 'no':4} {line(one['agent']['id'])}: "
        f"{line(one['reason'])}"
        for one in matches
    ]


def _listed(_: argparse.Namespace, workers: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            line(one["id"]),
            one["status"],
            f"{one['workload']}" + (f"/{one['slots']}" if one["slots"] else ""),
            line(one["type"] or "-"),
            ", ".join(
                name if level == 1 else f"{name}:{level}"
                for name, level in one["capabilities"].items()
            ),
            # A service of an earlier version sends neither.
            line(" ".join(one.get("labels", {}).values())),
            line(_capacity(one)),
            line("; ".join(one["health"]["reasons"])),
        )
        for one in workers
    ]
    place = "machine", "capacity"
    heads = "agent", "status", "runs", "type", "capabilities", *place, "why not"
    return [table(heads, rows)] if rows else []


def _capacity(one: Mapping[str, Any]) -> str:
    """Return the capacity of a worker, with the named units in use."""
    units = one.get("units", {})
    return ", ".join(
        f"{much:,g} {name}{_in_use(units.get(name, {}))}"
        for name, much in one.get("capacity", {}).items()
    )


def _in_use(units: Mapping[str, float]) -> str:
    parts = [f"{used:g} of {unit}" for unit, used in units.items()]
    return f" (in use: {', '.join(parts)})" if parts else ""


def _decision(one: Mapping[str, Any]) -> str:
    pool, many = line(one["pool"] or "-"), f"{one['before']} → {one['after']}"
    return f"{moment(one['at'])} {pool}: {many}, {line(one['reason'])}"


def _alert(one: Mapping[str, Any]) -> str:
    subject = f" of {line(one['subject'])}" if one["subject"] else ""
    words = f"{one['name']}{subject}: {one['state']}"
    if one["state"] == "firing":
        words += f" ({one['severity']}), {one['action']}: {line(one['message'])}"
    return words


_NONE: Final = "There is no worker."
_DRAINED: Final = "drained by hand"
_GROUP: Final = ActGroup(
    acts={
        "list": ActView(lines=_listed, none=_NONE),
        "show": ActView(lines=_fields),
        "spawn": ActView(
            call=_spawn,
            lines=lambda _, one: [f"{line(one['id'])} is {one['status']}"],
            takes=("id",),
        ),
        "drain": ActView(
            ("gets no new work", ", as before"), says={"on": True, "reason": _DRAINED}
        ),
        "undrain": ActView(
            ("gets work again", ", as before"), path="agents.drain", says={"on": False}
        ),
        "terminate": ActView(("goes", "")),
        "match": ActView(
            lines=_matched,
            none=_NONE,
            code=lambda matches: OK if any(m["matches"] for m in matches) else FAILED,
        ),
        "scaling": ActView(
            lines=lambda _, decisions: map(_decision, decisions),
            none="No pool has decided anything.",
        ),
    },
    options={
        "config": ("JSON", "of `spawn`: what differs from the template"),
        "reason": ("TEXT", "why it is drained"),
        "grace": ("SECONDS", "of `terminate`: what it has to end its work (30)"),
    },
    place=_add_url,
    names=(
        *("NAME", "*"),
        "a worker; of `spawn` and `scaling`, a template; of `match`, capabilities",
    ),
    begin=_add_id,
    at=_at,
)
