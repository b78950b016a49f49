"""
Budgets: what is spent and does not come back.

1. How much a budget has, what is reserved of it, and who waits for it, is decided by
   the kernel, as of any limit. Here is what a program and a file say about one.
2. One that is used up asks a person, if it is declared so: the answer raises it.

- `_budget`: `orch.budget(…)`; what is spent; the question when it is used up.
- `_declared`: budgets that files declare, and what of them their tasks draw on.
"""
