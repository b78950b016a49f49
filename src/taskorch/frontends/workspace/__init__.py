"""
Task files: a folder of Markdown that is run as it lies.

    with Workspace("project") as workspace:
        workspace.main_loop()

Each file in `tasks/` is a task, each folder there a phase; what becomes of them stands
in `workspace/`, as plain files that any shell can read. A translator only: what runs
when is the orchestrator's decision.
"""

from taskorch.frontends.workspace._dry_run import DryRun
from taskorch.frontends.workspace._problems import Problem
from taskorch.frontends.workspace._report import Report
from taskorch.frontends.workspace._workspace import Workspace

__all__ = ("DryRun", "Problem", "Report", "Workspace")
