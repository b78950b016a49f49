"""
Resources: what a client may show, or put beside a conversation, by an address.

Each is the answer of a tool that changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import mcp_types as types
from mcp.shared.exceptions import MCPError

from taskorch._base._remedies import in_tools
from taskorch._base._visible import visible
from taskorch.errors import TaskorchError
from taskorch.frontends.mcp._calls import Caller
from taskorch.frontends.mcp._tools import Tool

_SCHEME: Final = "taskorch"
_JSON: Final = "application/json"


class _Resource(NamedTuple):
    """The tool whose answer it is, whether it is of one task, and what it is."""

    tool: str
    is_of_task: bool
    text: str


_OF_TASK: Final = True
RESOURCES: Final[Mapping[str, _Resource]] = {
    "task": _Resource("status", _OF_TASK, "The state of a task, as `status` has it."),
    "why": _Resource("why", _OF_TASK, "Why a task is as it is."),
    "troubles": _Resource(
        "why", not _OF_TASK, "What is stuck, and what has failed, by cause."
    ),
    "statistics": _Resource("doctor", not _OF_TASK, "How the whole is."),
}


def listed() -> list[types.Resource]:
    """Those that there are always."""
    return [
        types.Resource(
            name=name, uri=f"{_SCHEME}://{name}", description=text, mime_type=_JSON
        )
        for name, (_, is_of_task, text) in RESOURCES.items()
        if not is_of_task
    ]


def templates() -> list[types.ResourceTemplate]:
    """Those of a task; the slashes of its id are escaped."""
    return [
        types.ResourceTemplate(
            name=name,
            uri_template=f"{_SCHEME}://{name}/{{id}}",
            description=text,
            mime_type=_JSON,
        )
        for name, (_, is_of_task, text) in RESOURCES.items()
        if is_of_task
    ]


def read(
    tools: Mapping[str, Tool], place: Any, uri: str, caller: Caller
) -> types.ReadResourceResult:
    """
    What stands at an address.

    Raises:
        MCPError: There is nothing there.
    """
    name, task = _parts(uri)
    resource = RESOURCES.get(name)
    if resource is None or resource.is_of_task is not bool(task):
        names = ", ".join(f"{_SCHEME}://{each}" for each in RESOURCES)
        raise _missing(uri, f"there is no such resource: there are {names}")
    values = {"task": task} if task else {}
    try:
        document = tools[resource.tool].use(place, values, caller)
    except TaskorchError as error:
        raise _missing(uri, in_tools(str(error))) from None
    text = json.dumps(document, ensure_ascii=False)
    contents = types.TextResourceContents(uri=uri, mime_type=_JSON, text=text)
    return types.ReadResourceResult(contents=[contents])


def _parts(uri: str) -> tuple[str, str]:
    """The name of a resource, and the id of a task or ""; of another scheme, none."""
    try:
        parts = urlsplit(uri)
        if parts.scheme == _SCHEME and not parts.query and not parts.fragment:
            return parts.netloc, unquote(parts.path.removeprefix("/"), errors="strict")
    except ValueError:
        pass
    return "", ""


def _missing(uri: str, text: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, visible(text), {"uri": uri})
