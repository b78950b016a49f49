"""
Python calls in remedies, as commands, requests or tools.

Explanations contain Python calls, such as `orch.rerun_task('build')`. A user of the
command line, of HTTP or of tools has no `orch`: for them, a call becomes the command,
the request or the tool that does the same. Calls that only a program can make stay as
they are.

Decisions: service, tokens-and-roles.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from taskorch.kit.address import without_password
from taskorch.kit.people import caller

if TYPE_CHECKING:
    from taskorch.kit.verbs import Verb

#: The names for front ends.
__all__ = (
    "all_in_requests",
    "all_in_tools",
    "in_commands",
    "in_requests",
    "in_tools",
)

#: The header of a request that asks for remedies as `requests` or `calls`.
REMEDIES_HEADER: Final = "Taskorch-Remedies"
#: A call; a full stop at the end of a line is no part of it.
_CALL: Final = re.compile(
    r"(?:Call )?orch\.([a-z_]+(?:\.[a-z_]+)?)\(([^()\n]*)\)(?:\.result\(\))?(\.$)?",
    re.MULTILINE,
)
_ARGUMENT: Final = re.compile(r"'([^']*)'")
#: A flag or a number in a call.
_FLAG: Final = re.compile(r"(\w+)=(True|False|-?\d+)\b")
#: A call whose last argument is a number.
_NUMBER: Final = re.compile(r"^'[^']*', -?\d+$")
#: Calls that are no verb, or have other words: the command, and the request.
_OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "explain": ("explain {journal} {first}", "GET /tasks/{first}/explanation"),
    "get_stats": ("inspect {journal}", "GET /statistics"),
    "handle": ("inspect {journal} {first}", "GET /tasks/{first}/result"),
    "health": ("inspect {journal}", "GET /health"),
    "workflows.start": ("", "POST /workflows"),
}

#: For each verb, the tool of MCP, its fixed arguments, and the names of the arguments
#: of the call.
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
#: Commands that ask a service, not a journal.
_OF_SERVICES: Final = ("agents", "waivers")
#: The opposite act, for a verb whose flag is False.
_UNDOING: Final = {"agents.drain": "undrain"}
#: A text about workflows in Python, and as a resource of MCP.
_SCHEMA: Final = (
    "document_schema() in taskorch.api.workflows",
    "the resource taskorch://schema",
)

#: Advice on a worker: in a program, and also by a command.
_WORKER: Final = (
    ", by @orch.agent(…).",
    ": by taskorch agent, or in the program by @orch.agent(…).",
)


def in_commands(text: str, journal: str, *, is_known: bool = False) -> str:
    """
    Return *text*, in which each call of ours is written as a command about *journal*.

    If the caller *is known*, the commands do not name them.
    """
    command = partial(_command, without_password(journal), is_known)
    return _CALL.sub(partial(_replaced, command), text).replace(*_WORKER)


def in_requests(text: str, *, calls: bool = False) -> str:
    """
    Return *text*, in which each call of ours is written as a request of the service.

    With *calls*, the calls stay as they are. Each names the role that it needs, if the
    caller does not have it.
    """
    if calls:
        return _CALL.sub(lambda call: f"{call[0]}{_for_whom(call[1])}", text)
    # Only programs can replace a task by another one.
    text = text.partition("; or orch.submit_task(")[0]
    return _CALL.sub(partial(_replaced, _request), text)


def in_tools(text: str) -> str:
    """Return *text* with calls of MCP tools in place of Python calls."""
    text = text.partition("; or orch.submit_task(")[0]
    text = text.replace(*_SCHEMA)
    return _CALL.sub(partial(_replaced, _tool), text).replace(
        "Call orch.", "In the program, call orch."
    )


def all_in_requests(value: Any, *, calls: bool = False) -> Any:
    """Return the JSON *value* with `in_requests` applied to all its texts."""
    return _in_all(partial(in_requests, calls=calls), value)


def all_in_tools(value: Any) -> Any:
    """Return the JSON *value* with `in_tools` applied to all its texts."""
    return _in_all(in_tools, value)


def _in_all(say: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return say(value)
    if isinstance(value, Mapping):
        return {name: _in_all(say, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_all(say, each) for each in value]
    return value


def _replaced(
    say: Callable[[str, list[Any], Mapping[str, int]], str | None],
    call: re.Match[str],
) -> str:
    flags = {name: ast.literal_eval(value) for name, value in _FLAG.findall(call[2])}
    request = say(call[1], _arguments(call[2]), flags)
    return f"{call[0] if request is None else request}{_for_whom(call[1])}"


def _for_whom(call: str) -> str:
    """Return the role that a call needs, if the caller does not have it."""
    who = caller()
    verb = None if who is None else _verb(call)
    if who is None or verb is None or not verb.request:
        return ""
    is_theirs = who.may(verb.role, verb.operation)
    return "" if is_theirs else f" (it takes the role {verb.role})"


def _arguments(text: str) -> list[Any]:
    """Return the texts in the arguments of a call, and its mappings and numbers."""
    if "{" in text or _NUMBER.match(text):
        with suppress(ValueError, SyntaxError):
            return [*ast.literal_eval(f"({text},)")]
    return _ARGUMENT.findall(text)


def _command(
    journal: str, is_known: bool, call: str, args: list[str], flags: Mapping[str, int]
) -> str | None:
    place, first = shlex.quote(journal), args[0] if args else "TASK"
    if call == "tasks":
        # Only the pattern of an id has a star.
        word = "--id" if "*" in first else "--state"
        which = f"{word} {_quoted(first)}" if args else "--tasks"
        return f"taskorch inspect {place} {which}"
    verb = _verb(call)
    is_at_service = journal.startswith("http")
    if call in _OTHERS:
        command = _OTHERS[call][0].format(journal=place, first=first)
        return f"taskorch {command}" if command else None
    if verb is None or verb.command_name in ("", *_OF_SERVICES * (not is_at_service)):
        return None
    is_undone = any(value is False for value in flags.values())
    act = _UNDOING.get(call) if is_undone else None
    words = [place, *filter(None, [act or verb.command_act])]
    rest = list(args)
    for word in verb.command_words:
        if "+" in word and rest:
            words.append("/".join(rest))
            rest = []
        elif word == "VERDICT":
            words.append("|".join(rest) or _sample(verb, word))
            rest = []
        else:
            words.append(_quoted(rest.pop(0)) if rest else _shown(word))
    for option in verb.options:
        if rest or (option.is_needed and not (is_known and option.says_who)):
            value = _quoted(rest.pop(0)) if rest else "NAME"
            words.append(f"--{option.name} {value}")
    if act is None:
        words += [_option(name, value) for name, value in flags.items()]
    return f"taskorch {verb.command_name} {' '.join(words)}"


def _option(name: str, value: int) -> str:
    """Return an option of a command: a flag for a bool, or a number."""
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    return f"--{name} {value}"


def _request(call: str, args: list[Any], flags: Mapping[str, int]) -> str | None:
    path, first = "/api/v1", quote(str(args[0]), safe="") if args else "TASK"
    if call == "tasks":
        name = "id" if args and "*" in args[0] else "state"
        return f"GET {path}/tasks{f'?{name}={first}' if args else ''}"
    if call in _OTHERS:
        method, below = _OTHERS[call][1].split(" ")
        return f"{method} {path}{below.format(first=first)}"
    verb = _verb(call)
    if verb is None or not verb.request:
        return None
    words = [part for each in verb.command_words for part in each.split("+")]
    rest, below, body = list(args), verb.path, {}
    for number, each in enumerate(verb.arguments):
        name = words[number].removesuffix("...") if number < len(words) else "NAME"
        if each.in_path:
            value = quote(rest.pop(0), safe="") if rest else name
            below = below.replace(f"{{{each.key}}}", value)
        elif rest or each.is_needed:
            is_choice = name == "VERDICT"
            value = "|".join(rest) if is_choice else next(iter(rest), "")
            rest = [] if is_choice else rest[1:]
            body[each.key] = value or _sample(verb, name)
    body |= {
        each.key: flags[each.name] for each in verb.arguments if each.name in flags
    }
    text = f" {json.dumps(body)}" if body else ""
    return f"{verb.method} {path}{below}{text}"


def _tool(verb: str, args: list[str], flags: Mapping[str, int]) -> str | None:
    if verb not in _TOOLS:
        return None
    tool, always, names = _TOOLS[verb]
    needs_task = names == ("task",) and not args
    values = ["TASK"] if needs_task else args
    fields = {**dict(zip(names, values, strict=False)), **always, **flags}
    return f"{tool} {json.dumps(fields, ensure_ascii=False)}" if fields else tool


def _quoted(word: Any) -> str:
    """Return *word* quoted for a shell; the number of a run, `x~2`, needs no quotes."""
    if not isinstance(word, str):
        return shlex.quote(json.dumps(word))
    return (
        word if re.fullmatch(r"[\w./-][\w./~-]*", word, re.ASCII) else shlex.quote(word)
    )


def _shown(word: str) -> str:
    return word.removesuffix("...").replace("+", "/")


def _verb(call: str) -> Verb | None:
    # Most texts contain no call, and the table takes a moment to load.
    from taskorch.api.verbs.table import VERBS  # noqa: PLC0415 - see above

    return VERBS.get(call)


def _sample(verb: Verb, word: str) -> str:
    """Return a placeholder for an argument that was not given."""
    for each in verb.arguments:
        if each.name.upper() == word and "enum" in each.form:
            return "|".join(each.form["enum"])
    return word
