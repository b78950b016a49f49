"""
What to do, for who is there.

What explains says it in calls of Python, as `orch.rerun_task('build')`. Who is at a
command line, asks over HTTP, or uses tools, has no `orch`: for them, a call is the
command, the request or the tool that does the same. Calls that only a program can make
stay as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from taskorch._base._address import without_password

#: A call, with a full stop at the end of a line: that is no part of a command.
_CALL: Final = re.compile(
    r"(?:Call )?orch\.([a-z_]+(?:\.[a-z_]+)?)\(([^()\n]*)\)(?:\.result\(\))?(\.$)?",
    re.MULTILINE,
)
_ARGUMENT: Final = re.compile(r"'([^']*)'")
#: What a call says for the id of any task.
_ANY: Final = "TASK"
#: What a call says for whoever holds starts.
_WHO: Final = "NAME"
_COMMANDS: Final = {
    "get_stats": "inspect",
    "health": "inspect",
    "questions": "questions",
}
_REQUESTS: Final = {
    "health": "GET /api/v1/health",
    "questions": "GET /api/v1/questions",
    "workflows.start": "POST /api/v1/workflows",
}
_TASK_COMMANDS: Final = {
    "cancel_task": "cancel",
    "explain": "explain",
    "handle": "inspect",
    "rerun_task": "rerun",
    "resume_task": "resume",
    "suspend_task": "suspend",
    "workflows.restart": "restart",
}
_TASK_REQUESTS: Final = {
    "answer": 'POST {}/answer {{"choice": "CHOICE", "by": "NAME"}}',
    "cancel_task": "POST {}/cancel",
    "explain": "GET {}/explanation",
    "handle": "GET {}/result",
    "rerun_task": "POST {}/rerun",
    "resume_task": "POST {}/resume",
    "suspend_task": "POST {}/suspend",
}
#: By the verb: the tool of MCP, the arguments that it always has, and the names of
#: those that the call has.
_TOOLS: Final[Mapping[str, tuple[str, Mapping[str, str], tuple[str, ...]]]] = {
    "answer": ("answer", {"choice": "CHOICE"}, ("question",)),
    "cancel_task": ("cancel", {}, ("task",)),
    "explain": ("why", {}, ("task",)),
    "get_stats": ("doctor", {}, ()),
    "handle": ("status", {}, ("task",)),
    "health": ("doctor", {}, ()),
    "questions": ("questions", {}, ()),
    "release_starts": ("release", {}, ("by",)),
    "rerun_task": ("rerun", {}, ("task",)),
    "resume_task": ("release", {}, ("task",)),
    "suspend_task": ("hold", {}, ("task",)),
    "tasks": ("find", {}, ("state",)),
    "workflows.start": ("submit", {"workflow": "…"}, ()),
}


def in_commands(text: str, journal: str) -> str:
    """*text* with commands of `taskorch` about a journal in the place of calls."""
    command = partial(_command, without_password(journal))
    return _CALL.sub(partial(_replaced, command), text)


def in_requests(text: str) -> str:
    """*text* with requests of the service in the place of calls."""
    # To put a task in the place of another is for programs.
    text = text.partition("; or orch.submit_task(")[0]
    return _CALL.sub(partial(_replaced, _request), text)


def in_tools(text: str) -> str:
    """*text* with calls of the tools of MCP in the place of calls of Python."""
    text = text.partition("; or orch.submit_task(")[0]
    return _CALL.sub(partial(_replaced, _tool), text)


def all_in_requests(value: Any) -> Any:
    """*value*, which is as JSON has it, with `in_requests` done to all texts in it."""
    return _in_all(in_requests, value)


def all_in_tools(value: Any) -> Any:
    """*value*, which is as JSON has it, with `in_tools` done to all texts in it."""
    return _in_all(in_tools, value)


def _in_all(say: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return say(value)
    if isinstance(value, Mapping):
        return {name: _in_all(say, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_all(say, each) for each in value]
    return value


def _replaced(say: Callable[[str, list[str]], str | None], call: re.Match[str]) -> str:
    request = say(call[1], _ARGUMENT.findall(call[2]))
    return call[0] if request is None else request


def _command(journal: str, verb: str, args: list[str]) -> str | None:
    place, first = shlex.quote(journal), args[0] if args else _ANY
    if verb in _TASK_COMMANDS:
        return f"taskorch {_TASK_COMMANDS[verb]} {place} {first}"
    if verb == "decide":
        return f"taskorch decide {place} {first} {_verdict(args)}"
    if verb == "answer":
        return f"taskorch answer {place} {first} CHOICE --by NAME"
    if verb == "workflows.approve":
        return f"taskorch approve {place} {'/'.join(args)} --by NAME"
    if verb == "emit":
        return f"taskorch emit {place} {shlex.quote(args[0]) if args else 'EVENT'}"
    if verb == "release_starts":
        return f"taskorch release {place} --by {shlex.quote(args[0] if args else _WHO)}"
    if verb == "tasks":
        which = f"--state {args[0]}" if args else "--tasks"
        return f"taskorch inspect {place} {which}"
    return f"taskorch {_COMMANDS[verb]} {place}" if verb in _COMMANDS else None


def _request(verb: str, args: list[str]) -> str | None:
    first = quote(args[0], safe="") if args else _ANY
    path = "/api/v1"
    if verb in _TASK_REQUESTS:
        return _TASK_REQUESTS[verb].format(f"{path}/tasks/{first}")
    if verb == "decide":
        body = f'{{"verdict": "{_verdict(args)}"}}'
        return f"POST {path}/tasks/{first}/decision {body}"
    if verb == "workflows.approve":
        gate = args[1] if len(args) > 1 else "PHASE"
        body = f'{{"gate": "{gate}", "by": "NAME"}}'
        return f"POST {path}/workflows/{first}/approve {body}"
    if verb == "workflows.restart":
        return f"POST {path}/workflows/{first if args else 'RUN'}/restart"
    if verb == "emit":
        name = args[0] if args else "EVENT"
        return f'POST {path}/events {{"name": "{name}"}}'
    if verb == "release_starts":
        by = json.dumps(args[0] if args else _WHO)
        return f'POST {path}/starts/release {{"by": {by}}}'
    if verb == "tasks":
        return f"GET {path}/tasks{f'?state={first}' if args else ''}"
    return _REQUESTS.get(verb)


def _tool(verb: str, args: list[str]) -> str | None:
    if verb not in _TOOLS:
        return None
    tool, always, names = _TOOLS[verb]
    needs_task = names == ("task",) and not args
    values = [_ANY] if needs_task else args
    fields = {**dict(zip(names, values, strict=False)), **always}
    return f"{tool} {json.dumps(fields, ensure_ascii=False)}" if fields else tool


def _verdict(args: list[str]) -> str:
    return "|".join(args[1:]) or "retry|fail|complete"
