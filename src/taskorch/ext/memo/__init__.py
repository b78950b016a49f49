"""
Cached results of like tasks, which run once: the option `cache=`, and `orch.memo`.

The package stands below the runtime, and says by protocols what it needs of it. The
runtime asks it only about a task with a `Cache`, as an attempt begins.

- `_keys`: the keys of like calls.
- `_results`: the task that has or makes a result; the cached results.
- `_manager`: `orch.memo`.

Decisions: kept-values, reruns, rooms-and-loading.
"""

from taskorch.ext.memo._manager import MemoManager as MemoManager
from taskorch.ext.memo._results import Memo as Memo
