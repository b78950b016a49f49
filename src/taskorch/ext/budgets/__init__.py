"""
Budgets: amounts that are spent and do not come back.

1. The kernel decides how much a budget has, what is reserved of it, and who waits for
   it, as for any limit. This package has budgets in programs and in files.
2. A budget that is used up asks a person, if it is declared so: the answer raises it.

- `_budget`: `orch.budget(…)`; spending; the question when it is used up.
- `_kernel`: its half of the kernel: what is spent, reserved, and left.
- `_declared`: budgets that files declare, and resources of them that tasks draw on.
"""
