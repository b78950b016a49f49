"""
Workers that are servers of tools, by the Model Context Protocol.

A template names the program, or the address, of such a server; what it offers becomes
capabilities, and a task is one call of one tool.

- `_tools`: such workers, and what they are asked.
- `_tool_server`: one server.

Decision: worker-pools.
"""
