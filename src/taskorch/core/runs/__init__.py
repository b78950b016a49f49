"""
Actions on runs of workflows, and on many tasks at once: `orch.workflows`.

1. A run is its tasks: their ids are that of the run, a slash, and their ids in the
   workflow. All else that is kept of a run is convenience, and can be computed again.
2. Many tasks are controlled in slices, so that the lock is held for milliseconds.
3. Code that acts on runs belongs here; descriptions of workflows, and how they are read
   and drawn, are in `workflows`. These are two packages because a run needs the
   runtime, and a description needs none: `workflows` stands below it.

- `_manager`: `orch.workflows`: the verbs, and how runs are paused and ended.
- `_starts`, `_reruns`, `_known`: starts of runs; later runs of their tasks; known runs.
- `_run`, `_members`: a run as a value; its tasks; the data kept beside them.
- `_progress`: the progress of a run, the time that is left; how long tasks took.
- `_gates`: whether a phase has passed.
- `_versions`: definitions of a run, the deployed one, and the change to that.
- `_limits`: how many tasks of a phase run at once.
- `_inside`, `_mapping`, `_meeting`: actions of a task on its run; maps over results;
  barriers.
- `_foreseen`: previews of the verbs, for whoever asks a person first.
- `_bulk`: one change to many tasks.

Decisions: rooms-and-loading, workflows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.runs._inside import (
        AsyncWorkflowContext as AsyncWorkflowContext,
        WorkflowContext as WorkflowContext,
    )
    from taskorch.core.runs._manager import (
        WorkflowManager as WorkflowManager,
        manager_of as manager_of,
        restarts_of as restarts_of,
        within as within,
    )
    from taskorch.core.runs._run import WorkflowRun as WorkflowRun

#: The module of each name: a module is loaded when somebody asks for its name.
_LATE = {
    "AsyncWorkflowContext": "_inside",
    "WorkflowContext": "_inside",
    "WorkflowManager": "_manager",
    "manager_of": "_manager",
    "restarts_of": "_manager",
    "within": "_manager",
    "WorkflowRun": "_run",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = _load_late(__name__, _LATE)
