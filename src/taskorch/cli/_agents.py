"""`taskorch agents` and `alerts`: the agents of a service."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from taskorch._settings.configuration import TOKEN_VARIABLE
from taskorch.cli import FAILED, OK
from taskorch.cli._control import service
from taskorch.cli._terminal import add_json, is_url, line, print_json, table
from taskorch.client import Client
from taskorch.errors import InvalidTaskError

_VERBS: Final = (
    *("list", "show", "spawn", "drain", "undrain", "terminate", "match", "scaling"),
)
#: What each of them needs.
_NEEDS: Final = {
    **dict.fromkeys(("show", "drain", "undrain", "terminate"), "the id of an agent"),
    "spawn": "the name of a template",
    "match": "capabilities, such as test:2",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of the command that *parser* is for."""
    command = parser.prog.rpartition(" ")[2]
    parser.set_defaults(run=_run, command=command)
    parser.add_argument(
        "url",
        metavar="URL",
        help="a service: http://127.0.0.1:8080, whose token is in "
        f"{TOKEN_VARIABLE}; workers are there while it runs",
    )
    if command == "agents":
        parser.add_argument(
            "verb", choices=_VERBS, nargs="?", default="list", help="what to do (list)"
        )
        parser.add_argument(
            "names",
            metavar="NAME",
            nargs="*",
            help="a worker; of `spawn` and `scaling`, a template; of `match`, "
            "capabilities",
        )
        parser.add_argument("--id", metavar="ID", help="of `spawn`: the id it has")
        parser.add_argument(
            "--config",
            metavar="JSON",
            help="of `spawn`: what differs from the template",
        )
        parser.add_argument("--reason", metavar="TEXT", help="why it is drained")
        parser.add_argument(
            "--grace",
            type=float,
            default=30.0,
            metavar="SECONDS",
            help="of `terminate`: what it has to end its work (30)",
        )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    if not is_url(args.url):
        msg = f"{args.url!r} is no address of a service, and agents are there only"
        raise InvalidTaskError(msg, hint="http://127.0.0.1:8080")
    with service(args.url) as client:
        if args.command == "alerts":
            alerts = client.alerts()
            # Agents that need not say that they live have no data.
            shown = [each for each in alerts if each["state"] != "no data"]
            shown += [
                each for each in alerts if each not in shown and not each["subject"]
            ]
            _print(args, alerts, "No alert is watched.", map(_alert, shown))
            return OK
        return _agents(args, client)


def _agents(args: argparse.Namespace, client: Client) -> int:
    verb, names = args.verb, args.names
    if verb in _NEEDS and not names:
        msg = f"agents {verb}: {_NEEDS[verb]} stands behind that"
        raise InvalidTaskError(msg, hint=f"taskorch agents {args.url} {verb} NAME")
    if len(names) > (0 if verb == "list" else 1) and verb != "match":
        msg = f"agents {verb}: {' '.join(names[-1:])!r} is one name too many"
        raise InvalidTaskError(msg, hint=f"taskorch agents {args.url} {verb} --help")
    if verb == "list":
        agents = client.agents()
        _print(args, agents, "There is no agent.", _listed(agents))
    elif verb == "show":
        _say(args, client.agent(names[0]), None)
    elif verb == "match":
        matches = client.match_agents(names)
        lines = [
            f"{'yes' if one['matches'] else 'no':4} {line(one['agent']['id'])}: "
            f"{line(one['reason'])}"
            for one in matches
        ]
        _print(args, matches, "There is no agent.", lines)
        return OK if any(one["matches"] for one in matches) else FAILED
    elif verb == "scaling":
        decisions = client.explain_scaling(*names[:1])
        _print(
            args, decisions, "No pool has decided anything.", map(_decision, decisions)
        )
    elif verb == "spawn":
        agent = client.spawn_agent(names[0], _config(args))
        _say(args, agent, f"{line(agent['id'])} is {agent['status']}")
    elif verb == "terminate":
        client.terminate_agent(names[0], args.grace)
        _say(args, {"agent": names[0]}, f"{line(names[0])} goes")
    else:
        return _drain(args, client, names[0], is_on=verb == "drain")
    return OK


def _drain(args: argparse.Namespace, client: Client, name: str, *, is_on: bool) -> int:
    reason = args.reason or "drained by hand"
    changed = client.drain_agent(name, reason, on=is_on)
    words = "gets no new work" if is_on else "gets work again"
    _say(
        args,
        {"agent": name, "changed": changed},
        f"{line(name)} {words}{'' if changed else ', as before'}",
    )
    return OK if changed else FAILED


def _config(args: argparse.Namespace) -> dict[str, Any]:
    try:
        config = {} if args.config is None else json.loads(args.config)
    except ValueError as error:
        msg = f"--config {args.config!r} is no JSON: {error}"
        raise InvalidTaskError(msg) from None
    if not isinstance(config, dict):
        msg = f"--config {args.config!r} is no object"
        raise InvalidTaskError(msg, hint="--config '{\"max_concurrency\": 2}'")
    return config if args.id is None else {**config, "id": args.id}


def _listed(agents: Iterable[Mapping[str, Any]]) -> list[str]:
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
            # A service of before says neither.
            line(" ".join(one.get("labels", {}).values())),
            line(_capacity(one)),
            line("; ".join(one["health"]["reasons"])),
        )
        for one in agents
    ]
    place = "machine", "capacity"
    heads = "agent", "status", "runs", "type", "capabilities", *place, "why not"
    return [table(heads, rows)] if rows else []


def _capacity(one: Mapping[str, Any]) -> str:
    """What a worker has, and what is in use of units that have names."""
    units = one.get("units", {})
    return ", ".join(
        f"{much:,g} {name}{_in_use(units.get(name, {}))}"
        for name, much in one.get("capacity", {}).items()
    )


def _in_use(units: Mapping[str, float]) -> str:
    parts = [f"{used:g} of {unit}" for unit, used in units.items()]
    return f" (in use: {', '.join(parts)})" if parts else ""


def _decision(one: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(one["at"], UTC)
    many = f"{one['before']} → {one['after']}"
    return f"{at:%F %T} {line(one['pool'] or '-')}: {many}, {line(one['reason'])}"


def _alert(one: Mapping[str, Any]) -> str:
    subject = f" of {line(one['subject'])}" if one["subject"] else ""
    words = f"{one['name']}{subject}: {one['state']}"
    if one["state"] == "firing":
        words += f" ({one['severity']}), {one['action']}: {line(one['message'])}"
    return words


def _print(
    args: argparse.Namespace, documents: Any, none: str, lines: Iterable[str]
) -> None:
    if args.json:
        for each in documents:
            print_json(each)
        return
    print("\n".join(lines) or none)


def _say(
    args: argparse.Namespace, document: Mapping[str, Any], words: str | None
) -> None:
    if args.json:
        print_json(document)
    elif words is not None:
        print(words)
    else:
        for name, value in document.items():
            text = value if isinstance(value, str) else json.dumps(value)
            if value not in (None, {}, []):
                print(f"{name}: {line(text)}")
