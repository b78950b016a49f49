"""
Resources: data that a client may show, or add to a conversation, by addresses.

They say what tools say that change nothing, and what is too long for these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import mcp_types as types
from mcp.shared.exceptions import MCPError

from taskorch.api.verbs.remedies import in_tools
from taskorch.core.workflows import document_schema
from taskorch.errors import TaskorchError
from taskorch.ext.mcp import _calls
from taskorch.ext.mcp._calls import ToolUser
from taskorch.ext.mcp._tools import Tool
from taskorch.kit.visible import visible

_SCHEME: Final = "taskorch"
_JSON: Final = "application/json"
_MARKDOWN: Final = "text/markdown"
_SVG: Final = "image/svg+xml"
#: Stands for the id in an address.
_ID: Final = "{id}"
_GUIDE: Final = """\
# Tasks of an orchestrator, by tools

- Something is late, or has not happened: `why`, with the id of the task or of its run,
  or the name of the schedule. Without anything it says what is wrong with the whole.
  The answer has the cause, and the remedy as the call of a tool.
- A night has failed: `why` with the name of the schedule; then what it names: `rerun`.
- Nobody knows the id: `find`, with `id` as a pattern, such as `night/*`, or by `state`.
- Somebody has to say yes: `questions` lists what is asked. What names this server,
  `answer` answers. What is for people is for people: tell them.
- New work: `submit`. What a workflow may have stands at `taskorch://schema`. Say
  `dry_run` first if the whole is large, and `key` whenever it may be sent again.
- It lasts: `wait`, as often as needed. Nothing is lost if it ends early.

## Tools

"""


class _Source(NamedTuple):
    """The source of a resource."""

    place: Any
    tools: Mapping[str, Tool]
    caller: ToolUser


class _Resource(NamedTuple):
    """A resource: its text, its kind, and a function that reads it."""

    text: str
    kind: str
    read: Callable[[_Source, str], Any]
    needs: str = ""


def _use(source: _Source, tool: str, **values: str) -> Any:
    return source.tools[tool].use(source.place, values, source.caller)


def _guide(source: _Source, _: str) -> str:
    return _GUIDE + "\n".join(
        f"- `{tool.name}`: {tool.text}" for tool in source.tools.values()
    )


RESOURCES: Final[Mapping[str, _Resource]] = {
    "task/{id}": _Resource(
        "The state of a task, as `status` has it.",
        _JSON,
        lambda source, name: _use(source, "status", task=name),
    ),
    "why/{id}": _Resource(
        "The reasons for the state of a task, a run or a schedule.",
        _JSON,
        lambda source, name: _use(source, "why", task=name),
    ),
    "run/{id}": _Resource(
        "The tasks of a run, with their states.",
        _JSON,
        lambda source, name: _calls.run(source.place, name),
    ),
    "run/{id}/picture.svg": _Resource(
        "The graph of a run, with the states of its tasks.",
        _SVG,
        lambda source, name: source.place.picture(name),
        "picture",
    ),
    "events": _Resource(
        "The latest events.",
        _JSON,
        lambda source, _: _calls.events(source.place),
        "latest_events",
    ),
    "troubles": _Resource(
        "Stuck tasks and failed ones, by cause.",
        _JSON,
        lambda source, _: _use(source, "why"),
    ),
    "statistics": _Resource(
        "How the whole is.", _JSON, lambda source, _: _use(source, "doctor")
    ),
    "schema": _Resource(
        "The JSON Schema of a workflow as a document.",
        _JSON,
        lambda *_: document_schema(),
    ),
    "guide": _Resource("Which tool is for what.", _MARKDOWN, _guide),
    "skill": _Resource(
        "A guide to tasks and workflows in Python.",
        _MARKDOWN,
        lambda *_: (
            files("taskorch")
            .joinpath("ext", "command_line", "skill.md")
            .read_text("ascii")
        ),
    ),
}
#: Resources that are our own texts, not those of tasks and their users.
_OURS: Final = ("schema", "guide", "skill")


def _of(place: Any) -> dict[str, _Resource]:
    """Return the resources of *place*, by their addresses."""
    return {
        address: each
        for address, each in RESOURCES.items()
        if not each.needs or hasattr(place, each.needs)
    }


def listed(place: Any) -> list[types.Resource]:
    """Return the resources without an id."""
    return [
        types.Resource(
            name=address,
            uri=f"{_SCHEME}://{address}",
            description=each.text,
            mime_type=each.kind,
        )
        for address, each in _of(place).items()
        if _ID not in address
    ]


def templates(place: Any) -> list[types.ResourceTemplate]:
    """Return the resources of a task or run; slashes of ids are escaped."""
    return [
        types.ResourceTemplate(
            name=address.replace(f"/{_ID}", ""),
            uri_template=f"{_SCHEME}://{address}",
            description=each.text,
            mime_type=each.kind,
        )
        for address, each in _of(place).items()
        if _ID in address
    ]


def read(
    tools: Mapping[str, Tool], place: Any, uri: str, caller: ToolUser, notice: str
) -> types.ReadResourceResult:
    """
    Return the contents of an address, with a *notice* where it has texts of others.

    Raises:
        MCPError: There is nothing there.
    """
    address, name = _parts(uri)
    every = _of(place)
    if address not in every:
        names = ", ".join(f"{_SCHEME}://{each}" for each in every)
        raise _missing(uri, f"there is no such resource: there are {names}")
    resource = every[address]
    try:
        value = resource.read(_Source(place, tools, caller), name)
    except TaskorchError as error:
        raise _missing(uri, in_tools(str(error))) from None
    if resource.kind == _JSON:
        marked = value if address in _OURS else {"notice": notice, **value}
        value, _ = _calls.as_json(marked)
    contents = types.TextResourceContents(uri=uri, mime_type=resource.kind, text=value)
    return types.ReadResourceResult(contents=[contents])


def _parts(uri: str) -> tuple[str, str]:
    """The address, with a mark for the id, and the id, if it has one."""
    try:
        parts = urlsplit(uri)
        if parts.scheme != _SCHEME or parts.query or parts.fragment:
            return "", ""
        kind, *segments = [parts.netloc, *parts.path.split("/")[1:]]
        name = unquote(segments[0], errors="strict") if segments else ""
    except ValueError:
        return "", ""
    marked = [_ID, *segments[1:]] if name else segments
    return "/".join([kind, *marked]), name


def _missing(uri: str, text: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, visible(text), {"uri": uri})
