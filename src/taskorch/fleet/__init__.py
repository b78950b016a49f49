"""
Workers that join, and workers that taskorch starts itself: `orch.agents`.

1. `_agents` and `_late_ends` are of all workers. Without the other files these are as
   they were: they are asked for once somebody spawns one, each from a template.
2. A process belongs to a life: it is named in the journal, and ended by a later life.
3. What a worker is asked, and what it answers, is text: nothing is pickled.

- `_agents`: those that live elsewhere, their leases and what they are given.
- `_late_ends`: ends of attempts that their workers bring to a later life.
- `_spawned`: the agents that are spawned: templates, processes, what became of them.
- `_failing`: templates that keep failing, and are given up until a person answers.
- `_line_program`: one that is a long-lived program, asked a line at a time.
- `_coding`, `_coding_work`: templates of coding agents, and the table of those that are
  known; the work of one, and the program that keeps one.
- `_tools`, `_tool_server`: workers that are servers of tools (MCP), and one of these.

Decision: rooms-and-loading.
"""
