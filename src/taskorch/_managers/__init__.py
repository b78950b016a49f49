"""
The managers behind the orchestrator: `orch.workflows`, `orch.agents`, ….

1. A run is its tasks: their ids are that of the run, a slash, and their ids in the
   workflow. What is kept of a run beside them is convenience, and can be manager again.
2. Many tasks are controlled in slices, so that the lock is held for milliseconds.
3. Here belongs what does something to runs; what a workflow is, and how it is read and
   drawn, is in `workflows`. There are two packages since these managers need the
   runtime, and a description needs none: `workflows` stands below it.

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
- `_agents`: `orch.agents`: those that live elsewhere, their leases and what they are
  given.
- `_late_ends`: ends of attempts that their workers bring to a later life.
- `_resources`: `orch.resources`: how much there is, and what is taken by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch._managers._agents import AgentManager as AgentManager
    from taskorch._managers._inside import AsyncWorkflowContext as AsyncWorkflowContext
    from taskorch._managers._inside import WorkflowContext as WorkflowContext
    from taskorch._managers._manager import WorkflowManager as WorkflowManager
    from taskorch._managers._manager import manager_of as manager_of
    from taskorch._managers._resources import HeldResources as HeldResources
    from taskorch._managers._resources import ResourceManager as ResourceManager
    from taskorch._managers._run import WorkflowRun as WorkflowRun

#: Where each name is: a manager is loaded when somebody asks for it.
_WHERE: Final = {
    "AgentManager": "_agents",
    "AsyncWorkflowContext": "_inside",
    "WorkflowContext": "_inside",
    "WorkflowManager": "_manager",
    "manager_of": "_manager",
    "HeldResources": "_resources",
    "ResourceManager": "_resources",
    "WorkflowRun": "_run",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _WHERE, name)
