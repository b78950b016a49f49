"""
Workers that taskorch starts itself, each from a template.

1. A process belongs to an incarnation: it is named in the journal, and a later
   incarnation ends it.
2. What a worker is asked, and what it answers, is text: nothing is pickled.

- `_spawned`: templates, processes, and what became of them.
- `_failing`: templates that keep failing, and are given up until a person answers.
- `_line_program`: a worker that is a long-lived program, asked a line at a time.

Decision: worker-pools.
"""
