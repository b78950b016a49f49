"""
Tools for language models: an orchestrator by the Model Context Protocol.

`taskorch mcp runs.db` speaks it on its standard streams, and so does a service at
`/mcp` if it is made by `create_app(orch, mcp=())`. A model may look at everything; it
changes only what the owner allows by name.

The tools are described once, in a table. What they do they do by public verbs: those of
a `JournalReader`, which has none that change anything, of a service, or of an
orchestrator in this process. All but that which speaks the protocol comes without its
library: `pip install 'taskorch[mcp]'`.

- `_tools`: the table of tools: what each takes, answers, raises and changes.
- `_calls`: what each of them does.
- `_places`: the place of tools in this process: an orchestrator.
- `_server`: the server of the protocol.
- `_resources`: data that a client may show, by addresses.
- `_waits`: waits that last, as tasks of the protocol.
- `_stdio`, `_http`: it on the standard streams; it as an application of HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.ext.mcp._places import OrchestratorPlace
from taskorch.ext.mcp._tools import TOOLS, Tool, ToolArgument, tools_of
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.ext.mcp._http import McpApp
    from taskorch.ext.mcp._server import make_server
    from taskorch.ext.mcp._stdio import serve_streams, taken_streams

__all__ = (
    "TOOLS",
    "McpApp",
    "OrchestratorPlace",
    "Tool",
    "ToolArgument",
    "make_server",
    "serve_streams",
    "taken_streams",
    "tools_of",
)

if not TYPE_CHECKING:
    # Only what speaks the protocol needs its library.
    __getattr__, __dir__ = _load_late(
        __name__,
        {
            "McpApp": "_http",
            "make_server": "_server",
            "serve_streams": "_stdio",
            "taken_streams": "_stdio",
        },
    )
