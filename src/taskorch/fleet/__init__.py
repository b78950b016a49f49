"""
Workers that taskorch starts itself, as processes: each from a template.

1. Without these files, all other workers are as they were: what registers or leases an
   agent is in `_managers`, which asks here once somebody spawns one.
2. A process belongs to a life: it is named in the journal, and ended by a later life.
3. What a worker is asked, and what it answers, is text: nothing is pickled.

- `_spawned`: the agents that are spawned: templates, processes, what became of them.
- `_failing`: templates that keep failing, and are given up until a person answers.
- `_line_program`: one that is a long-lived program, asked a line at a time.
- `_coding`, `_coding_work`: templates of coding agents, and the table of those that are
  known; the work of one, and the program that keeps one.
- `_tools`, `_tool_server`: workers that are servers of tools (MCP), and one of these.

Decision: 0277.
"""
