"""
How long things are kept: what ended long ago leaves the journal, and memory.

It stands below the runtime, of which it says what it asks. How a journal leaves out
rows, and stays one that can be checked, changes with its tables: `journal/_forgetting`.

- `_pruning`: which tasks may go; once as a life begins, by hand, and meanwhile.

Decisions: 0051, 0220, 0288.
"""

from taskorch.retention._pruning import Pruned as Pruned
from taskorch.retention._pruning import Pruner as Pruner
from taskorch.retention._pruning import foreseen as foreseen
from taskorch.retention._pruning import prune as prune
