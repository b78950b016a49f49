"""
Coding agents as workers, each in a tree of files of its own.

A template says which agent, and what it may do; `spawned` starts what it makes. What
an agent is told, and what it answers, is text.

- `_coding`: templates of coding agents, and the table of those that are known.
- `_coding_work`: the work of one, in its tree, and the program that keeps one.

Decision: coding-agents.
"""
