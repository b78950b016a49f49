"""
What is done to runs of workflows, and to many tasks at once: `orch.workflows`.

1. A run is its tasks: their ids are that of the run, a slash, and their ids in the
   workflow. What is kept of a run beside them is convenience, and can be had again.
2. Many tasks are controlled in slices, so that the lock is held for milliseconds.
3. Here belongs what does something to runs; what a workflow is, and how it is read and
   drawn, is in `workflows`. There are two packages since a run needs the runtime, and a
   description needs none: `workflows` stands below it.

- `_manager`: `orch.workflows`: the verbs, and what pauses and ends runs.
- `_starts`, `_reruns`, `_known`: what begins a run; what runs again of one; which runs
  there are.
- `_run`, `_members`: a run as a value; its tasks; what is remembered beside them.
- `_progress`: how far it is, how long the rest may take; how long tasks took.
- `_gates`, `_approvals`: whether a phase has passed; a person says yes or no to it.
- `_versions`: what a run was, what is deployed, and the way over to that.
- `_limits`: how many tasks of a phase run at once.
- `_inside`, `_mapping`, `_meeting`: what a task may do to its run; maps over results;
  barriers.
- `_foreseen`: what a verb would touch, for who asks a person first.
- `_bulk`: one change to many tasks.

Decisions: 0288, 0298.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.runs._inside import AsyncWorkflowContext as AsyncWorkflowContext
    from taskorch.runs._inside import WorkflowContext as WorkflowContext
    from taskorch.runs._manager import WorkflowManager as WorkflowManager
    from taskorch.runs._manager import manager_of as manager_of
    from taskorch.runs._run import WorkflowRun as WorkflowRun

#: Where each name is: a part is loaded when somebody asks for it.
_WHERE: Final = {
    "AsyncWorkflowContext": "_inside",
    "WorkflowContext": "_inside",
    "WorkflowManager": "_manager",
    "manager_of": "_manager",
    "WorkflowRun": "_run",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _WHERE, name)
