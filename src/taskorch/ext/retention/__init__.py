"""
How long things are kept: tasks that ended long ago leave the journal, and memory.

The package is below the runtime, and declares what it needs of it as protocols.
- `_forgetting`: how a journal removes rows, and can still be checked.

- `_pruning`: which tasks may go; when an incarnation begins, by hand, and meanwhile.

Decisions: retention, rooms-and-loading.
"""

from taskorch.ext.retention._pruning import (
    Pruned as Pruned,
    Pruner as Pruner,
    foreseen as foreseen,
    prune as prune,
)
