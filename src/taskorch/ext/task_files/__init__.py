"""
Task files: a folder of Markdown that is run as it lies.

    with Workspace("project") as workspace:
        workspace.main_loop()

Each file in `tasks/` is a task, each folder there a phase; what becomes of them stands
in `workspace/`, as plain files that any shell can read. A translator only: what runs
when is the orchestrator's decision.

- `_workspace`, `_session`: the workspace; one runner at work.
- `_config`: `workspace.yaml`; which program is run for a task.
- `_layout`: where its files are; a new one.
- `_task_file`, `_fields`: a task file; values of fields; what is wrong, and where.
- `_scan`: all files, and what they mean together.
- `_tasks`: tasks, workers and pools for the orchestrator.
- `_work`: does one task: claims it, runs its program, looks at what that left.
- `_claims`: which of several runners does a task, line by line.
- `_policies`: what policies say of task files.
- `_budgets`: how much of budgets is left, as the ledger of claims says it.
- `_status`: what became of a task, as a file.
- `_progress`: how far all is, by its files; what people are shown now, and in the end.
- `_dry_run`: what people are shown before.
"""

from taskorch.ext.task_files._dry_run import DryRun
from taskorch.ext.task_files._fields import Problem
from taskorch.ext.task_files._progress import Report
from taskorch.ext.task_files._workspace import Workspace

__all__ = ("DryRun", "Problem", "Report", "Workspace")
