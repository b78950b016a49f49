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
- `_stdio`, `_http`: it on the standard streams; it as a path of a service.
"""

from __future__ import annotations

from taskorch.ext.mcp._places import OrchestratorPlace
from taskorch.ext.mcp._tools import TOOLS, Tool, ToolArgument, tools_of

__all__ = ("TOOLS", "OrchestratorPlace", "Tool", "ToolArgument", "tools_of")
